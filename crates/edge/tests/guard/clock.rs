//! Time: slow heads, stalled bodies, idle connections, clients that take nothing.

use std::time::Duration;

use shikiri_partition::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::server::{Behaviour, Server, serve, statuses};

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HALF_A_BODY: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab";
const HALF_A_CHUNK: &[u8] =
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab";

fn limits() -> Limits {
    Limits {
        head_time_max: Duration::from_secs(15),
        idle_time_max: Duration::from_secs(75),
        stall_time_max: Duration::from_secs(60),
        ..Limits::default()
    }
}

/// What a client sends, each piece after a pause in seconds.
type Pieces<'a> = &'a [(u64, &'a [u8])];

/// Sends the pieces, and waits for the server to close. Returns the
/// statuses and when it closed, in seconds.
async fn run(behaviour: Behaviour, pieces: Pieces<'_>) -> (Vec<u16>, u64) {
    let start = Instant::now();
    let Server {
        client, connection, ..
    } = serve(&limits(), behaviour);
    let (mut from, mut to) = tokio::io::split(client);
    let send = async {
        for (pause, piece) in pieces {
            sleep(Duration::from_secs(*pause)).await;
            if to.write_all(piece).await.is_err() {
                break;
            }
        }
    };
    let read = async {
        let mut answers = Vec::new();
        from.read_to_end(&mut answers).await.expect("in memory");
        (answers, start.elapsed().as_secs())
    };
    let ((), (answers, closed)) = tokio::join!(send, read);
    drop((from, to));
    // How hyper ends a connection whose body failed is its own affair.
    let _ended = connection.await.expect("no panic");
    (statuses(&answers), closed)
}

const THINKS_LONG: Behaviour = Behaviour {
    thinks: Duration::from_secs(300),
    ..Behaviour::PLAIN
};

#[tokio::test(start_paused = true)]
async fn times() {
    let drip: Vec<(u64, &[u8])> = HEAD.chunks(1).map(|byte| (1, byte)).collect();
    let drip_body: Vec<(u64, &[u8])> = [(0, HALF_A_BODY), (50, b"c"), (50, b"d")].to_vec();
    let cases: &[(&str, Behaviour, Pieces<'_>, &[u16], u64)] = &[
        ("nothing sent", Behaviour::PLAIN, &[], &[], 75),
        (
            "only an empty line",
            Behaviour::PLAIN,
            &[(5, b"\r\n")],
            &[],
            80,
        ),
        (
            "idle after a request",
            Behaviour::PLAIN,
            &[(10, HEAD)],
            &[200],
            85,
        ),
        (
            "idle after two",
            Behaviour::PLAIN,
            &[(10, HEAD), (60, HEAD)],
            &[200, 200],
            145,
        ),
        (
            "half a head",
            Behaviour::PLAIN,
            &[(10, b"GET / HT")],
            &[408],
            25,
        ),
        ("head in drips", Behaviour::PLAIN, &drip, &[408], 16),
        (
            "head in time",
            Behaviour::PLAIN,
            &[(0, b"GET / HT"), (14, b"TP/1.1\r\nHost: a\r\n\r\n")],
            &[200],
            89,
        ),
        (
            "half a head after a request",
            Behaviour::PLAIN,
            &[(0, HEAD), (60, b"G")],
            &[200, 408],
            75,
        ),
        (
            "half a head with a request",
            Behaviour::PLAIN,
            &[(0, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET")],
            &[200, 408],
            15,
        ),
        (
            "half a body",
            Behaviour::PLAIN,
            &[(10, HALF_A_BODY)],
            &[408],
            70,
        ),
        (
            "half a chunk",
            Behaviour::PLAIN,
            &[(10, HALF_A_CHUNK)],
            &[408],
            70,
        ),
        ("body in drips", Behaviour::PLAIN, &drip_body, &[200], 175),
        (
            "no body",
            Behaviour::PLAIN,
            &[(0, &HALF_A_BODY[..HALF_A_BODY.len() - 2])],
            &[408],
            60,
        ),
        ("long thought", THINKS_LONG, &[(0, HEAD)], &[200], 375),
        (
            "long thought twice",
            THINKS_LONG,
            &[(0, HEAD), (0, HEAD)],
            &[200, 200],
            675,
        ),
        (
            "half a body, not asked for",
            THINKS_LONG,
            &[(0, HALF_A_BODY), (200, b"cd")],
            &[200],
            375,
        ),
        (
            "half a head during a long thought",
            THINKS_LONG,
            &[(0, HEAD), (10, b"GET")],
            &[200, 408],
            300,
        ),
    ];
    for &(name, behaviour, pieces, expected, closes) in cases {
        let (statuses, closed) = run(behaviour, pieces).await;
        assert_eq!(statuses, expected, "{name}");
        assert_eq!(closed, closes, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up() {
    let start = Instant::now();
    let behaviour = Behaviour {
        answer_bytes: 1 << 20,
        ..Behaviour::PLAIN
    };
    let Server {
        mut client,
        connection,
        ..
    } = serve(&limits(), behaviour);
    client.write_all(HEAD).await.expect("in memory");
    connection
        .await
        .expect("no panic")
        .expect_err("the answer could not be written");
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_slowly_is_served() {
    let behaviour = Behaviour {
        answer_bytes: 64 << 10,
        ..Behaviour::PLAIN
    };
    let Server {
        mut client,
        connection,
        ..
    } = serve(&limits(), behaviour);
    client.write_all(HEAD).await.expect("in memory");
    let mut answer = Vec::new();
    let mut piece = [0; 2048];
    while answer.len() < 64 << 10 {
        sleep(Duration::from_secs(50)).await;
        let count = client.read(&mut piece).await.expect("in memory");
        assert_ne!(count, 0, "closed after {} bytes", answer.len());
        answer.extend_from_slice(&piece[..count]);
    }
    drop(client);
    let _ended = connection.await.expect("no panic");
}

/// A refused client reads its answer although it sent far more than was read.
#[tokio::test]
async fn a_refused_upload_gets_its_answer() {
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use shikiri_edge::guard::{Findings, Guarded};
    use tokio::net::{TcpListener, TcpStream};

    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a client");
        let findings = Findings::new();
        let guarded = Guarded::new(socket, &limits(), findings.clone());
        let service = service_fn(move |_| {
            let turn = findings.turn();
            async move {
                let why = turn.refused().expect("the body is too large");
                http::Response::builder()
                    .status(why.status())
                    .header("connection", "close")
                    .body(http_body_util::Full::<bytes::Bytes>::default())
            }
        });
        http1::Builder::new()
            .serve_connection(TokioIo::new(guarded), service)
            .await
    });
    let client = TcpStream::connect(address).await.expect("loopback");
    let (mut from, mut to) = client.into_split();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        1_u64 << 40
    );
    to.write_all(head.as_bytes()).await.expect("connected");
    // Three MiB, whether or not anyone still reads.
    for _ in 0..48 {
        if to.write_all(&[0; 64 << 10]).await.is_err() {
            break;
        }
    }
    drop(to);
    let mut answer = Vec::new();
    from.read_to_end(&mut answer).await.expect("no reset");
    assert_eq!(statuses(&answer), [413]);
    server.await.expect("no panic").expect("closed in order");
}
