//! Which certificate is shown to whom, and that nothing of one tenant is worth anything at another.

use rustls::HandshakeKind;
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};
use shikiri_edge::tls::{ClientCa, TenantConfig, Tenants};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::authority::{Authority, Folder};
use crate::{Site, ask, connect, met, remembering, tenant};

#[tokio::test(start_paused = true)]
async fn each_host_has_its_own_certificate_and_a_name_of_none_is_refused() {
    let site = Site::new(&["a.test", "*.b.test", "deep.b.test"]);
    let client = site.client("http/1.1");
    for (name, shown) in [
        ("a.test", true),
        ("x.b.test", true),
        ("deep.b.test", true),
        ("b.test", false),
        ("c.test", false),
    ] {
        let got = site.get(&client, name, name).await;
        match got {
            Ok(answer) => assert!(shown && answer.ends_with("hello"), "{name}: {answer}"),
            Err(why) => assert!(!shown && why.contains("UnrecognisedName"), "{name}: {why}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_for_another_host_is_misdirected_even_of_the_same_tenant() {
    let folder = Folder::new();
    let authority = Authority::new("believed");
    authority
        .certify(&["a.test", "b.test"])
        .save(&folder, "both");
    let config = TenantConfig {
        hosts: vec!["a.test".parse().unwrap(), "b.test".parse().unwrap()],
        ..tenant(&folder, "both")
    };
    let mut site = Site::new(&["c.test"]);
    site.tenants = Tenants::load(vec![config]).unwrap();
    site.listener.tls = Some(std::sync::Arc::clone(&site.tenants));
    let client = authority.client("http/1.1");
    for (name, host, status) in [
        ("a.test", "a.test", "200"),
        ("a.test", "A.test:443", "200"),
        ("a.test", "a.test.", "200"),
        ("a.test", "b.test", "421"),
        ("a.test", "c.test", "421"),
        ("b.test", "b.test", "200"),
    ] {
        let answer = site.get(&client, name, host).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{name} {host}: {answer}"
        );
    }
    // Also on the second request of a connection.
    let mut stream = site.connect(&client, "a.test").await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 4096];
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    let second = ask(&mut stream, "b.test").await.unwrap();
    assert!(second.contains("HTTP/1.1 421"), "{second}");
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_server_name_needs_a_default() {
    for takes_nameless in [false, true] {
        let site = Site::with(
            &["a.test"],
            |config| TenantConfig {
                takes_nameless,
                ..config
            },
            |_| crate::reply("200 OK", "hello"),
        );
        let mut client = site.client("http/1.1");
        client.enable_sni = false;
        let got = site.get(&client, "a.test", "a.test").await;
        assert_eq!(got.is_ok(), takes_nameless, "{got:?}");
        if takes_nameless {
            let other = site.get(&client, "a.test", "b.test").await.unwrap();
            assert!(other.starts_with("HTTP/1.1 421"), "{other}");
        }
    }
}

/// `*.a.test` takes clients without a server name; `members.a.test` is for who shows a certificate.
#[tokio::test(start_paused = true)]
async fn what_one_tenant_asks_of_clients_is_not_got_round_by_way_of_another() {
    let clients = Authority::new("certifies clients");
    let site = Site::with(
        &["*.a.test", "members.a.test"],
        |config| {
            let is_members = config.hosts[0].to_string() == "members.a.test";
            let roots = config.cert.with_file_name("clients.pem");
            std::fs::write(&roots, clients.pem()).unwrap();
            TenantConfig {
                takes_nameless: !is_members,
                client_ca: is_members.then_some(ClientCa {
                    roots,
                    revoked: None,
                    required: true,
                }),
                ..config
            }
        },
        |_| crate::reply("200 OK", "a page"),
    );
    for (name, host, status) in [
        (Some("members.a.test"), "members.a.test", None),
        (Some("www.a.test"), "www.a.test", Some(200)),
        (Some("www.a.test"), "members.a.test", Some(421)),
        (None, "www.a.test", Some(200)),
        (None, "members.a.test", Some(421)),
        (None, "MEMBERS.a.test.:443", Some(421)),
    ] {
        for alpn in ["http/1.1", "h2"] {
            let mut client = site.client(alpn);
            client.enable_sni = name.is_some();
            let got = status_of(&site, &client, name.unwrap_or("www.a.test"), host).await;
            assert_eq!(got, status, "{name:?} {host} {alpn}");
        }
    }
}

/// The status of one `GET /` for a host, by whichever protocol is agreed on; `None` when the client was
/// not let in.
async fn status_of(
    site: &Site,
    client: &rustls::ClientConfig,
    name: &str,
    host: &str,
) -> Option<u16> {
    let mut stream = site.connect(client, name).await.ok()?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        let answer = ask(&mut stream, host).await.ok()?;
        return answer.get(9..12)?.parse().ok();
    }
    let (mut requests, connection) = h2::client::handshake(stream).await.ok()?;
    tokio::spawn(async move { drop(connection.await) });
    let request = http::Request::get(format!("https://{host}/"));
    let sent = requests.send_request(request.body(()).unwrap(), true);
    let (response, _) = sent.ok()?;
    Some(response.await.ok()?.status().as_u16())
}

#[tokio::test(start_paused = true)]
async fn protocols_are_agreed_on() {
    let site = Site::new(&["a.test"]);
    let alpn = |stream: tokio_rustls::client::TlsStream<_>| {
        stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    };
    for (offered, agreed) in [
        ("h2", Some("h2")),
        ("http/1.1", Some("http/1.1")),
        ("spdy/3", None),
    ] {
        let got = site.connect(&site.client(offered), "a.test").await;
        let got = got.ok().map(alpn);
        assert_eq!(
            got.flatten().as_deref(),
            agreed.map(str::as_bytes),
            "{offered}"
        );
    }
    let mut h1 = site.listener.clone();
    h1.http2 = false;
    let wire = met(&site.node, crate::STRANGER, &h1);
    assert!(connect(wire, &site.client("h2"), "a.test").await.is_err());
    // A real request by HTTP/2, end to end.
    let stream = site.connect(&site.client("h2"), "a.test").await.unwrap();
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    for (uri, status) in [
        ("https://a.test/", 200),
        ("https://b.test/", 421),
        ("http://a.test/", 400),
    ] {
        let request = http::Request::get(uri).body(()).unwrap();
        let (response, _) = requests.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), status, "{uri}");
    }
    let seen = site.node.seen();
    assert!(
        seen[0].text.contains("x-forwarded-proto: https"),
        "{}",
        seen[0].text
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_is_resumed_at_its_own_tenant_and_nowhere_else() {
    for version in [&TLS13, &TLS12] {
        let site = Site::new(&["a.test", "b.test"]);
        let mut client = site.client("http/1.1");
        client = {
            let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut roots = rustls::RootCertStore::empty();
            let pem = site.authority.pem();
            let mut reader = rustls::pki_types::pem::PemObject::pem_slice_iter(pem.as_bytes());
            let root: rustls::pki_types::CertificateDer<'static> = reader.next().unwrap().unwrap();
            roots.add(root).unwrap();
            let mut one = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            one.alpn_protocols = client.alpn_protocols;
            one
        };
        let kind = async |client: &rustls::ClientConfig, name: &str| {
            let mut stream = site.connect(client, name).await.unwrap();
            let kind = stream.get_ref().1.handshake_kind().unwrap();
            ask(&mut stream, name).await.unwrap();
            kind
        };
        let client = remembering(client);
        assert_ne!(kind(&client, "a.test").await, HandshakeKind::Resumed);
        assert_eq!(kind(&client, "a.test").await, HandshakeKind::Resumed);
        // A store that gives the session of one name to every name: what an attacker's client does.
        let mut thief = client.clone();
        thief.resumption = Resumption::store(std::sync::Arc::new(OneSession::default()));
        assert_ne!(kind(&thief, "a.test").await, HandshakeKind::Resumed);
        assert_eq!(kind(&thief, "a.test").await, HandshakeKind::Resumed);
        assert_ne!(kind(&thief, "b.test").await, HandshakeKind::Resumed);
    }
}

/// Sessions of whichever server, offered to any.
#[derive(Debug, Default)]
struct OneSession {
    tls13: std::sync::Mutex<Vec<rustls::client::Tls13ClientSessionValue>>,
    tls12: std::sync::Mutex<Option<rustls::client::Tls12ClientSessionValue>>,
}

type Name = rustls::pki_types::ServerName<'static>;

impl rustls::client::ClientSessionStore for OneSession {
    fn set_kx_hint(&self, _: Name, _: rustls::NamedGroup) {}

    fn kx_hint(&self, _: &rustls::pki_types::ServerName<'_>) -> Option<rustls::NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: Name, value: rustls::client::Tls12ClientSessionValue) {
        *self.tls12.lock().unwrap() = Some(value);
    }

    fn tls12_session(
        &self,
        _: &rustls::pki_types::ServerName<'_>,
    ) -> Option<rustls::client::Tls12ClientSessionValue> {
        self.tls12.lock().unwrap().clone()
    }

    fn remove_tls12_session(&self, _: &Name) {}

    fn insert_tls13_ticket(&self, _: Name, value: rustls::client::Tls13ClientSessionValue) {
        self.tls13.lock().unwrap().push(value);
    }

    fn take_tls13_ticket(
        &self,
        _: &rustls::pki_types::ServerName<'_>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.tls13.lock().unwrap().pop()
    }
}

#[test]
fn what_cannot_be_is_refused_with_a_sentence() {
    let folder = Folder::new();
    let authority = Authority::new("believed");
    authority.certify(&["a.test"]).save(&folder, "a.test");
    authority.certify(&["b.test"]).save(&folder, "b.test");
    authority.certify(&["*.c.test"]).save(&folder, "c.test");
    folder.write("empty.pem", "nothing");
    let one = |host: &str, cert: &str, key: &str| TenantConfig {
        hosts: vec![host.parse().unwrap()],
        cert: folder.path(cert),
        key: folder.path(key),
        takes_nameless: true,
        client_ca: None,
    };
    let check = |configs: Vec<TenantConfig>, saying: Option<&str>| {
        let got = Tenants::load(configs)
            .map(drop)
            .map_err(|fault| fault.to_string());
        match (got, saying) {
            (Ok(()), None) => {}
            (Err(why), Some(saying)) if why.contains(saying) => {}
            (got, saying) => panic!("{got:?}, not {saying:?}"),
        }
    };
    let a = || one("a.test", "a.test.pem", "a.test.key");
    check(vec![a()], None);
    check(vec![], Some("write a [[tls]] table"));
    check(vec![one("*.c.test", "c.test.pem", "c.test.key")], None);
    check(vec![one("x.c.test", "c.test.pem", "c.test.key")], None);
    check(vec![one("*", "a.test.pem", "a.test.key")], None);
    check(
        vec![one("b.test", "a.test.pem", "a.test.key")],
        Some("is not for `b.test`"),
    );
    check(
        vec![one("*.a.test", "a.test.pem", "a.test.key")],
        Some("is not for `*.a.test`"),
    );
    check(
        vec![one("c.test", "c.test.pem", "c.test.key")],
        Some("is not for `c.test`"),
    );
    check(
        vec![one("a.test", "a.test.pem", "b.test.key")],
        Some("does not belong to"),
    );
    check(
        vec![one("a.test", "gone.pem", "a.test.key")],
        Some("cannot read"),
    );
    check(
        vec![one("a.test", "empty.pem", "a.test.key")],
        Some("holds no certificate"),
    );
    check(
        vec![one("a.test", "a.test.pem", "empty.pem")],
        Some("others may read it"),
    );
    check(
        vec![one("a.test", "a.test.pem", "a.test.pem")],
        Some("others may read it"),
    );
    check(vec![a(), a()], Some("a host of two"));
    check(
        vec![a(), one("b.test", "b.test.pem", "b.test.key")],
        Some("two [[tls]] tables say `default"),
    );
    check(
        vec![TenantConfig {
            hosts: vec![],
            ..a()
        }],
        Some("names no host"),
    );
    for (mode, saying) in [
        (0o644, Some("chmod 640")),
        (0o602, Some("mode 602")),
        (0o640, None),
        (0o400, None),
    ] {
        folder.set_mode("a.test.key", mode);
        check(vec![a()], saying);
    }
}
