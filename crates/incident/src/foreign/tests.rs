//! One line of each cache's log, and what it tells.

use super::*;

fn settings() -> Settings {
    Settings {
        tag_key: TagKey::new([7; 32]),
        session: SessionIn::Cookie("sid".into()),
        encoding: Encoding::UTF_8,
        zone: Zone::JST,
        host: "shop.test".into(),
        edge: None,
        misses_are_stored: true,
        logins: vec!["/login".into()],
        lag_ms_max: 0,
        took_by_readings: true,
    }
}

fn read(format: Format, lines: &[&str]) -> Read {
    let (mut reader, mut edges) = (Reader::new(format, settings()), Edges::default());
    let mut last = Read::Nothing;
    for line in lines {
        last = reader.line(line.as_bytes(), &mut edges);
    }
    last
}

/// What a request tells, in short: began-ended by the clock in Japan, where from, for whom, of what, and the
/// rest.
fn told(read: Read) -> String {
    let request = match read {
        Read::Request(request) => *request,
        Read::Nothing => return "nothing".into(),
        Read::Bad(why) => return format!("bad: {why}"),
    };
    let key = TagKey::new([7; 32]);
    let asked = &request.asked;
    let ms = |at: UnixMillis| {
        let day = Zone::JST
            .instant((2020, 3, 16), (0, 0, 0))
            .expect("a day")
            .0;
        let of_day = at.0 - day;
        let (seconds, ms) = (of_day / 1000, of_day % 1000);
        let (hour, minute) = (seconds / 3600, seconds / 60 % 60);
        format!("{hour:02}:{minute:02}:{:02}.{ms:03}", seconds % 60)
    };
    let during = asked.times.during();
    let mut text = format!("{}-{}", ms(during.earliest), ms(during.latest));
    text += &match &request.access {
        Some(access) => format!(" {:?}", access.served),
        None => format!(" origin {:?}", asked.answer),
    };
    let session = |value: &[u8]| Who::Person(Person::Session(ViewerTag::of(&key, &[value])));
    text += match asked.rendered_for {
        Who::Anonymous => " nobody",
        Who::Untold => " untold",
        who if who == session(b"abc") => " abc",
        _ => " somebody",
    };
    let of = |host: &[u8], target: &[u8]| TargetTag::of(&key, &[host, target]);
    text += match asked.key {
        tag if tag == of(b"shop.test", b"/mypage?a=1") => " /mypage?a=1",
        tag if tag == of(b"shop.test", b"/mypage") => " /mypage",
        _ => " elsewhere",
    };
    if let Some(status) = asked.status {
        text += &format!(" {status}");
    }
    if let Some(access) = &request.access {
        if let Some(edge) = access.edge {
            text += &format!(" edge {}", edge.0);
        }
        if let Some(age) = access.age_s {
            text += &format!(" age {age}");
        }
    }
    if asked.request == Some(request_id(b"req-1")) {
        text += " req-1";
    }
    if asked.fill == Some(FillId(request_id(b"32769").0)) {
        text += " fill 32769";
    }
    if let Some(step) = request.step {
        text += match (step.is_login, step.writes) {
            (true, _) => " login",
            (false, true) => " writes",
            (false, false) => " client",
        };
        if !step.sets.is_empty() {
            text += " sets";
        }
    }
    text
}

#[track_caller]
fn check(format: Result<Format, FormatFault>, lines: &[&str], expected: &str) {
    let format = format.expect("it is a form");
    assert_eq!(told(read(format, lines)), expected, "{lines:?}");
}

const MAIN: &str = r#"log_format main escape=default '$remote_addr - $remote_user [$time_local] '
    '"$request" $status $body_bytes_sent $request_time "$http_user_agent" '
    '$upstream_cache_status $request_id "$cookie_sid"';"#;

#[test]
fn nginx_by_its_log_format() {
    let line = |end: &str| {
        format!(
            r#"192.0.2.7 - - [16/Mar/2020:12:24:05 +0900] "GET /mypage?a=1 HTTP/1.1" 200 512 0.250 "Mozilla \x22x\x22 (a)" {end}"#
        )
    };
    for (end, expected) in [
        (
            r#"HIT req-1 "abc""#,
            "12:24:04.750-12:24:05.999 Hit abc /mypage?a=1 200 req-1 client",
        ),
        (
            r#"MISS req-1 "abc""#,
            "12:24:04.750-12:24:05.999 Fetched(Surely) abc /mypage?a=1 200 req-1 client",
        ),
        (
            r#"STALE req-1 "-""#,
            "12:24:04.750-12:24:05.999 Stale nobody /mypage?a=1 200 req-1 client",
        ),
        (
            r#"- req-1 "-""#,
            "12:24:04.750-12:24:05.999 Fetched(Not) nobody /mypage?a=1 200 req-1 client",
        ),
        (
            r#"REVALIDATED req-1 "other""#,
            "12:24:04.750-12:24:05.999 Revalidated somebody /mypage?a=1 200 req-1 client",
        ),
        (
            r#"WHAT req-1 "abc""#,
            "bad: its word for where the response came from is not known",
        ),
        (r#"HIT req-1 "abc"#, "bad: it is not of the log's form"),
        (
            r#"HIT req-1 "abc" more"#,
            "bad: it is not of the log's form",
        ),
    ] {
        check(Format::nginx(MAIN), &[&line(end)], expected);
    }
}

#[test]
fn nginx_in_json_and_by_its_finest_clock() {
    let form = r#"escape=json '{"t":"$msec","r":"$request_uri","h":"$host","s":$status,"took":$request_time,'
        '"c":"$upstream_cache_status","cookies":"$http_cookie","pop":"$hostname","age":"$sent_http_age"}'"#;
    check(
        Format::nginx(form),
        &[
            r#"{"t":"1584329045.123","r":"/mypage?a=1","h":"SHOP.test","s":200,"took":0.010,"c":"UPDATING","cookies":"x=\"1\"; sid=abc","pop":"edge-1","age":"7"}"#,
        ],
        "12:24:05.113-12:24:05.123 Stale abc /mypage?a=1 200 edge 0 age 7",
    );
    check(
        Format::nginx(r#"'${time_iso8601} $uri $args $status'"#),
        &["2020-03-16T03:24:05+00:00 /mypage a=1 304"],
        "12:24:05.000-12:24:05.999 origin NotModified untold /mypage?a=1 304",
    );
}

#[test]
fn apache_by_its_log_format() {
    let form = r#"LogFormat "%h %l %u %t \"%r\" %>s %b %D \"%{Cookie}i\" %{cache-status}e" cached"#;
    check(
        Format::apache(form),
        &[
            r#"192.0.2.7 - - [16/Mar/2020:12:24:05 +0900] "POST /mypage HTTP/1.1" 200 512 250000 "a=1; sid=abc" cache hit"#,
        ],
        "12:24:05.000-12:24:06.249 Hit abc /mypage 200 writes",
    );
    check(
        Format::apache(form),
        &[
            r#"192.0.2.7 - - [16/Mar/2020:12:24:05 +0900] "POST /login?next=/mypage HTTP/1.1" 303 0 250000 "-" -"#,
        ],
        "12:24:05.000-12:24:06.249 Fetched(Not) nobody elsewhere 303 login",
    );
    // Milliseconds of the end, beside seconds of the beginning; a fill's id from the cache that asked.
    check(
        Format::apache(r#"%t %{end:msec}t "%r" %>s "%{sid}C" "%{X-Varnish}i" %{UNIQUE_ID}e"#),
        &[
            r#"[16/Mar/2020:12:24:05 +0900] 1584329045123 "GET /mypage HTTP/1.1" 200 "abc" "32769" req-1"#,
        ],
        "12:24:05.000-12:24:05.999 origin Response(Surely) abc /mypage 200 req-1 fill 32769",
    );
}

#[test]
fn varnish_tells_the_fill() {
    let form = r#"%h %t %D "%r" %s %{Varnish:handling}x "%{X-Varnish}o" %{Age}o "%{Cookie}i""#;
    let line = |word: &str, ids: &str| {
        format!(
            r#"192.0.2.7 [16/Mar/2020:12:24:05 +0900] 1500 "GET http://shop.test/mypage HTTP/1.1" 200 {word} "{ids}" 3 "-""#
        )
    };
    check(
        Format::varnish(form),
        &[&line("hit", "32770 32769")],
        "12:24:05.000-12:24:06.000 Hit nobody /mypage 200 age 3 fill 32769 client",
    );
    check(
        Format::varnish(form),
        &[&line("miss", "32769")],
        "12:24:05.000-12:24:06.000 Fetched(Surely) nobody /mypage 200 age 3 client",
    );
    check(
        Format::varnish(form),
        &[&line("pipe", "32769")],
        "12:24:05.000-12:24:06.000 Fetched(Not) nobody /mypage 200 age 3 client",
    );
}

#[test]
fn varnish_tells_what_it_fetched() {
    let form = r#"%t %D "%r" %s %{Varnish:handling}x "%{X-Varnish}o" %{VSL:Link[2]}x"#;
    let line = |word: &str, ids: &str, fetched: &str| {
        format!(
            r#"[16/Mar/2020:12:24:05 +0900] 1500 "GET http://shop.test/mypage HTTP/1.1" 200 {word} "{ids}" {fetched}"#
        )
    };
    for (word, ids, fetched, expected) in [
        (
            "miss",
            "32768",
            "32769",
            "Fetched(Surely) untold /mypage 200 fill 32769",
        ),
        // In grace: it held what was there before, and fetched behind it.
        (
            "hit",
            "32770 32769",
            "32771",
            "Hit untold /mypage 200 fill 32769",
        ),
        (
            "hit",
            "32770 32769",
            "-",
            "Hit untold /mypage 200 fill 32769",
        ),
        ("hit", "32770", "32769", "Hit untold /mypage 200"),
    ] {
        let expected = format!("12:24:05.000-12:24:06.000 {expected}");
        check(
            Format::varnish(form),
            &[&line(word, ids, fetched)],
            &expected,
        );
    }
}

/// What `varnishlog -g request` prints of a miss and what was fetched for it.
const MISS: &str = "*   << Request  >> 32770
-   Begin          req 32768 rxreq
-   Timestamp      Start: 1584329040.100000 0.000000 0.000000
-   ReqStart       192.0.2.7 52728 a0
-   ReqMethod      GET
-   ReqURL         /mypage?utm=1
-   ReqHeader      Host: shop.test
-   ReqHeader      Cookie: a=1; sid=abc
-   VCL_call       RECV
-   ReqURL         /mypage
-   ReqUnset       Cookie: a=1; sid=abc
-   VCL_return     hash
-   VCL_call       MISS
-   Link           bereq 32769 fetch
-   Timestamp      Fetch: 1584329040.200000 0.100000 0.100000
-   RespStatus     200
-   RespHeader     Age: 0
-   Timestamp      Resp: 1584329040.250000 0.150000 0.050000
-   End
**  << BeReq    >> 32769
--  Begin          bereq 32770 fetch
--  Timestamp      Start: 1584329040.110000 0.000000 0.000000
--  BereqMethod    GET
--  BereqURL       /mypage
--  BereqHeader    Host: shop.test
--  BereqHeader    Cookie: sid=abc
--  BerespStatus   304
--  BerespStatus   200
--  Timestamp      BerespBody: 1584329040.190000 0.080000 0.080000
--  End";

/// And `varnishlog -g raw`, of a hit, among other lines.
const HIT: &str = "         0 CLI            - Rd ping
         7 Begin          c req 6 rxreq
         6 SessOpen       c 192.0.2.7 52728 a0
         7 Timestamp      c Start: 1584329041.000000 0.000000 0.000000
         7 ReqMethod      c GET
         7 ReqURL         c /mypage
         7 ReqHeader      c Host: shop.test
         8 Begin          b bereq 7 bgfetch
         7 ReqHeader      c x-member: abc
         7 Hit            c 32769 -1.622986 5.000000 0.000000
         7 VCL_call       c HIT
         7 Link           c bereq 8 bgfetch
         7 RespStatus     c 200
         7 RespHeader     c Age: 3
         7 Timestamp      c Resp: 1584329041.002000 0.002000 0.002000
         7 End            c ";

#[test]
fn varnishs_own_log_tells_a_request_where_its_transaction_ends() {
    let vsl = || Format::named("vsl");
    let lines = |text: &'static str| text.lines().collect::<Vec<&str>>();
    let miss = lines(MISS);
    let (of_client, of_fetch) = miss.split_at(19);
    check(
        vsl(),
        of_client,
        "12:24:00.100-12:24:00.250 Fetched(Surely) abc /mypage 200 age 0 fill 32769 client",
    );
    // A fetch's own transaction is nothing where clients' are read, and the other way round.
    check(vsl(), &miss, "nothing");
    check(Format::named("vsl-fetches"), of_client, "nothing");
    check(
        Format::named("vsl-fetches"),
        of_fetch,
        "12:24:00.110-12:24:00.190 origin NotModified abc /mypage 304 fill 32769",
    );
    check(
        vsl(),
        &lines(HIT),
        "12:24:01.000-12:24:01.002 Hit nobody /mypage 200 age 3 fill 32769",
    );
    let without = |part: &str| {
        let kept = of_client.iter().copied();
        kept.filter(|line| !line.contains(part)).collect::<Vec<_>>()
    };
    let with = |line: &'static str| [of_client.get(..18).unwrap(), &[line, "-   End"]].concat();
    for (lines, expected) in [
        // The beginning is lacking, or the log's own reader lost lines.
        (without("Begin"), "bad: it is not of the log's form"),
        (
            with("-   VSL            timeout"),
            "bad: it is not of the log's form",
        ),
        (
            [of_client.get(..18).unwrap(), &["-   End            synth"]].concat(),
            "bad: it is not of the log's form",
        ),
        (
            without("Timestamp"),
            "bad: it tells no time that can be read",
        ),
        // What goes on as another transaction is no response.
        (with("-   VCL_return     restart"), "nothing"),
        (without("ReqURL"), "nothing"),
        (vec!["what?"], "bad: it is not of the log's form"),
        (
            vec!["         7 End            c "],
            "bad: it is not of the log's form",
        ),
        (
            vec!["         7 What           x "],
            "bad: it is not of the log's form",
        ),
    ] {
        check(vsl(), &lines, expected);
    }
}

#[test]
fn whose_a_request_is_may_stand_in_any_field() {
    let haproxy = "haproxy[1]: 192.0.2.7:33317 [16/Mar/2020:12:24:00.000] web cache/<CACHE> 0/0/0/0/5 200 9 - - ---- \
        1/1/0/0/0 0/0 {agent|abc} \"GET /mypage HTTP/1.1\"";
    let hit = HIT.lines().collect::<Vec<_>>();
    for (format, lines, name) in [
        (
            Format::nginx("$msec $remote_user $http_x_member \"$request\""),
            vec!["1584329040.100 - abc \"GET /mypage HTTP/1.1\""],
            "http_x_member",
        ),
        (
            Format::apache("%t %u \"%r\""),
            vec!["[16/Mar/2020:12:24:00 +0900] abc \"GET /mypage HTTP/1.1\""],
            "%u",
        ),
        (
            Format::apache("%t %{X-Member}i \"%r\""),
            vec!["[16/Mar/2020:12:24:00 +0900] abc \"GET /mypage HTTP/1.1\""],
            "%{X-Member}i",
        ),
        (
            Format::named("squid"),
            vec![
                "1584329040.100 5 192.0.2.7 TCP_HIT/200 9 GET http://shop.test/mypage abc HIER_NONE/- -",
            ],
            "user",
        ),
        (Format::named("haproxy"), vec![haproxy], "capture:2"),
        (
            Format::fields("timestamp cs-uri-stem x-member"),
            vec!["1584329040.100\t/mypage\tabc"],
            "x-member",
        ),
        (
            Format::json("t = ended\nu = target"),
            vec![r#"{"t":1584329040.1,"u":"/mypage","user":{"id":"abc"}}"#],
            "user.id",
        ),
        (Format::named("vsl"), hit, "X-Member"),
    ] {
        for (session, expected) in [
            (
                SessionIn::Field(name.into()),
                Who::Person(Person::Session(ViewerTag::of(
                    &settings().tag_key,
                    &[b"abc"],
                ))),
            ),
            (
                SessionIn::Member(name.into()),
                Who::Person(Person::Member(MemberTag::of(
                    &settings().tag_key,
                    &[b"abc"],
                ))),
            ),
        ] {
            let settings = Settings {
                session,
                ..settings()
            };
            let format = format.clone().expect("it is known");
            let (mut reader, mut edges) = (Reader::new(format, settings), Edges::default());
            let mut read = Read::Nothing;
            for line in &lines {
                read = reader.line(line.as_bytes(), &mut edges);
            }
            let Read::Request(request) = read else {
                panic!("{name}: {read:?}");
            };
            assert_eq!(request.asked.rendered_for, expected, "{name}");
        }
    }
}

#[test]
fn a_line_of_another_encoding_is_read_as_it_says_or_not_at_all() {
    // Of the two letters, Shift_JIS's second bytes are `\\` and `|`.
    let line = "{\"t\":1584329040.1,\"u\":\"/mypage\",\"who\":\"ソポ\"}";
    let mapping = "t = ended\nu = target\nwho = session";
    let whose = |name: &str, line: &[u8]| {
        let settings = Settings {
            encoding: Encoding::named(name).expect("it is known"),
            ..settings()
        };
        let format = Format::json(mapping).expect("it is a mapping");
        match Reader::new(format, settings).line(line, &mut Edges::default()) {
            Read::Request(request) => Ok(request.asked.rendered_for),
            Read::Bad(why) => Err(why),
            Read::Nothing => unreachable!("it tells something"),
        }
    };
    let session = ViewerTag::of(&settings().tag_key, &["ソポ".as_bytes()]);
    let expected = Ok(Who::Person(Person::Session(session)));
    let shift_jis = encoding_rs::SHIFT_JIS.encode(line).0;
    assert_eq!(whose("shift_jis", &shift_jis), expected);
    assert_eq!(
        whose("euc-jp", &encoding_rs::EUC_JP.encode(line).0),
        expected
    );
    assert_eq!(whose("utf-8", line.as_bytes()), expected);
    // Read as what it is not, it would be somebody else's, or no object.
    assert_eq!(whose("utf-8", &shift_jis), Err(Bad::Form));
    assert_eq!(whose("shift_jis", b"\x81"), Err(Bad::Encoding));
}

#[test]
fn squid_and_traffic_server() {
    let line = |word: &str| {
        format!(
            "1584329045.123    250 192.0.2.7 {word} 4512 GET http://shop.test/mypage - HIER_NONE/- text/html"
        )
    };
    for (word, expected) in [
        ("TCP_MEM_HIT/200", "Hit untold /mypage 200 client"),
        ("TCP_MISS/200", "Fetched(Surely) untold /mypage 200 client"),
        (
            "TCP_MISS_ABORTED/200",
            "Fetched(Perhaps) untold /mypage 200 client",
        ),
        (
            "TCP_MISS_ABORTED/000",
            "Fetched(Perhaps) untold /mypage client",
        ),
        (
            "TCP_REFRESH_UNMODIFIED/200",
            "Revalidated untold /mypage 200 client",
        ),
        (
            "TCP_REFRESH_HIT/200",
            "Revalidated untold /mypage 200 client",
        ),
        (
            "TCP_REFRESH_MODIFIED/200",
            "Fetched(Surely) untold /mypage 200 client",
        ),
        ("TCP_REF_FAIL_HIT/200", "Stale untold /mypage 200 client"),
        ("TCP_CF_HIT/200", "Collapsed untold /mypage 200 client"),
        ("TCP_DENIED/403", "Fetched(Not) untold /mypage 403 client"),
    ] {
        let expected = format!("12:24:04.873-12:24:05.123 {expected}");
        check(Format::named("squid"), &[&line(word)], &expected);
    }
    check(
        Format::named("ats"),
        &[&line("TCP_SOMETHING/200")],
        "bad: its word for where the response came from is not known",
    );
}

#[test]
fn cloudfront_names_its_fields() {
    let header = "#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status \
                  cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header \
                  time-taken";
    let line = |word: &str, cookie: &str| {
        [
            "2020-03-16",
            "03:24:05",
            "NRT57-C1",
            "512",
            "192.0.2.7",
            "GET",
            "d1.test",
            "/mypage",
            "200",
            "Mozilla/5.0%20(X11)",
            "a=1",
            cookie,
            word,
            "req-1",
            "shop.test",
            "0.250",
        ]
        .join("\t")
    };
    let mut format = "12:24:04.750-12:24:05.999 Hit abc /mypage?a=1 200 edge 0 req-1 client";
    let zone_utc = |lines: &[&str]| {
        let settings = Settings {
            zone: Zone::UTC,
            ..settings()
        };
        let format = Format::named("cloudfront").expect("it is known");
        let (mut reader, mut edges) = (Reader::new(format, settings), Edges::default());
        let mut last = Read::Nothing;
        for line in lines {
            last = reader.line(line.as_bytes(), &mut edges);
        }
        told(last)
    };
    let hit = line("Hit", "x=1;%20sid=abc");
    assert_eq!(zone_utc(&["#Version: 1.0", header, &hit]), format);
    format = "12:24:04.750-12:24:05.999 Revalidated nobody /mypage?a=1 200 edge 0 req-1 client";
    assert_eq!(zone_utc(&[header, &line("RefreshHit", "-")]), format);
    assert_eq!(zone_utc(&[&hit]), "bad: it is not of the log's form");
    assert_eq!(zone_utc(&[header]), "nothing");
}

#[test]
fn cloudfront_in_real_time_by_the_fields_that_were_chosen() {
    let fields = "timestamp,c-ip,time-taken,sc-status,cs-method,cs-host,cs-uri-stem,x-edge-location,\
                  x-edge-request-id,x-edge-result-type,cs-cookie";
    let line = [
        "1584329045.123",
        "192.0.2.7",
        "0.250",
        "200",
        "GET",
        "shop.test",
        "/mypage",
        "NRT57-C1",
        "req-1",
        "RefreshHit",
        "x=1;%20sid=abc",
    ]
    .join("\t");
    check(
        Format::fields(fields),
        &[&line],
        "12:24:04.873-12:24:05.123 Revalidated abc /mypage 200 edge 0 req-1 client",
    );
    assert_eq!(
        Format::fields("asn c-country").err(),
        Some(FormatFault::NoVariable)
    );
}

#[test]
fn logs_of_objects() {
    check(
        Format::named("cloudflare"),
        &[
            r#"{"EdgeStartTimestamp":"2020-03-16T03:24:05Z","EdgeEndTimestamp":1584329045500000000,"EdgeColoCode":"NRT","ClientIP":"192.0.2.7","ClientRequestMethod":"GET","ClientRequestHost":"shop.test","ClientRequestURI":"/mypage?a=1","EdgeResponseStatus":200,"CacheCacheStatus":"revalidated","RayID":"req-1","Cookies":{"sid":"abc"},"ResponseHeaders":{"age":"12"}}"#,
        ],
        "12:24:05.000-12:24:05.999 Revalidated abc /mypage?a=1 200 edge 0 age 12 req-1 client",
    );
    check(
        Format::named("akamai"),
        &[
            r#"{"reqTimeSec":"1584329045.123","turnAroundTimeMSec":"20","transferTimeMSec":"30","cliIP":"192.0.2.7","reqMethod":"GET","reqHost":"shop.test","reqPath":"/mypage","queryStr":"a=1","statusCode":"200","cacheStatus":"1","cookie":"sid%3Dabc","edgeIP":"198.51.100.1"}"#,
        ],
        "12:24:05.123-12:24:05.175 Hit abc /mypage?a=1 200 edge 0 client",
    );
    check(
        Format::named("google"),
        &[
            r#"{"timestamp":"2020-03-16T03:24:05.123456Z","httpRequest":{"requestMethod":"GET","requestUrl":"https://shop.test/mypage","status":200,"remoteIp":"192.0.2.7","latency":"0.250s","cacheLookup":true}}"#,
        ],
        "12:24:05.123-12:24:05.373 Fetched(Surely) untold /mypage 200 client",
    );
    check(
        Format::named("google"),
        &[
            r#"{"timestamp":"2020-03-16T03:24:05.123456Z","httpRequest":{"requestUrl":"https://shop.test/mypage","status":200,"latency":"0.250s","cacheHit":true,"cacheValidatedWithOriginServer":true}}"#,
        ],
        "12:24:05.123-12:24:05.373 Revalidated untold /mypage 200",
    );
    check(
        Format::named("fastly"),
        &[
            r#"{"time_start_msec":"1584329045123","time_elapsed":"1500","client_ip":"192.0.2.7","host":"shop.test","url":"/mypage","request_method":"GET","response_status":"200","fastly_state":"HIT-STALE-CLUSTER","fastly_server":"cache-nrt1","response_set_cookie":"sid=abc; Path=/","response_age":"5"}"#,
        ],
        "12:24:05.123-12:24:05.124 Stale untold /mypage 200 edge 0 age 5 client sets",
    );
    check(
        Format::json("t = ended\nu = target\nwho = session\nc = cache:nginx"),
        &[r#"{"t":1584329045123,"u":"/mypage","who":"abc","c":"HIT"}"#],
        "12:24:05.123-12:24:05.123 Hit abc /mypage",
    );
    check(
        Format::named("google"),
        &["[1]"],
        "bad: it is not of the log's form",
    );
    check(
        Format::named("google"),
        &["{}"],
        "bad: it tells no time that can be read",
    );
}

#[test]
fn balancers() {
    let haproxy = |server: &str| {
        format!(
            r#"Mar 16 12:24:05 lb haproxy[1438]: 192.0.2.7:33317 [16/Mar/2020:12:24:05.123] front {server} 10/0/30/69/250 200 2750 - - ---- 1/1/1/1/0 0/0 "GET /mypage HTTP/1.1""#
        )
    };
    for (server, expected) in [
        (
            "back/<CACHE>",
            "12:24:05.123-12:24:05.373 Hit untold /mypage 200 client",
        ),
        (
            "back/web1",
            "12:24:05.123-12:24:05.373 Fetched(Surely) untold /mypage 200 client",
        ),
        (
            "front/<NOSRV>",
            "12:24:05.123-12:24:05.373 Fetched(Not) untold /mypage 200 client",
        ),
    ] {
        check(Format::named("haproxy"), &[&haproxy(server)], expected);
    }
    check(
        Format::named("alb"),
        &[
            r#"https 2020-03-16T03:24:05.123456Z app/lb/50dc6c495c0c9188 192.0.2.7:2817 10.0.0.1:80 0.000 0.100 0.000 200 200 34 366 "GET https://shop.test/mypage HTTP/1.1" "curl/7.46.0" ECDHE TLSv1.2 arn:aws:x "req-1" "shop.test" "arn" 1 2020-03-16T03:24:05.000000Z "forward" "-" "-""#,
        ],
        "12:24:05.020-12:24:05.123 origin Response(Surely) untold /mypage 200 req-1 client",
    );
}

#[test]
fn a_form_that_nobody_can_read_by_is_refused() {
    for (form, expected) in [
        ("$status$body_bytes_sent", FormatFault::NothingBetween),
        ("nothing", FormatFault::NoVariable),
        ("log_format main", FormatFault::Directive),
        ("escape=other '$status'", FormatFault::Directive),
        ("${status", FormatFault::Directive),
        ("$ $status", FormatFault::Directive),
    ] {
        assert_eq!(Format::nginx(form).err(), Some(expected), "{form}");
    }
    assert_eq!(
        Format::apache("%h %{Cookie").err(),
        Some(FormatFault::Directive)
    );
    assert_eq!(Format::json("a = b").err(), Some(FormatFault::Mapping));
    assert_eq!(Format::named("other").err(), Some(FormatFault::Name));
}

#[test]
fn every_line_is_counted_and_the_bad_ones_are_named() {
    let (mut reader, mut edges) = (
        Reader::new(Format::named("squid").expect("it is known"), settings()),
        Edges::default(),
    );
    let long = "x".repeat(LINE_BYTES_MAX + 1);
    let good = "1584329045.123 250 192.0.2.7 TCP_HIT/200 4512 GET http://shop.test/ - HIER_NONE/- text/html";
    for line in ["", good, "what", &long, good] {
        reader.line(line.as_bytes(), &mut edges);
    }
    let counts = reader.counts();
    assert_eq!((counts.lines, counts.requests, counts.nothing), (5, 2, 1));
    assert_eq!(counts.bad, [(Bad::Form, 1), (Bad::TooLong, 1)].into());
    assert_eq!(counts.bad_numbers, [(3, Bad::Form), (4, Bad::TooLong)]);
}

#[test]
fn times_are_as_coarse_as_they_are_told() {
    use time::Form;
    let read = |form: Form, text: &str| {
        let stamp = form.read(text.as_bytes(), Zone::JST);
        stamp.map(|stamp| (stamp.at.0, stamp.resolution_ms))
    };
    let noon = 1_584_327_600_000;
    for (form, text, expected) in [
        (
            Form::Common,
            "16/Mar/2020:12:00:00 +0900",
            Some((noon, 1000)),
        ),
        (
            Form::Common,
            "[16/Mar/2020:03:00:00 +0000]",
            Some((noon, 1000)),
        ),
        (
            Form::Common,
            "16/Mar/2020:12:00:00.250",
            Some((noon + 250, 1)),
        ),
        (Form::Iso, "2020-03-16T12:00:00", Some((noon, 1000))),
        (Form::Iso, "2020-03-16 03:00:00.5Z", Some((noon + 500, 100))),
        (
            Form::Iso,
            "2020-03-15T23:30:00.123456-03:30",
            Some((noon + 123, 1)),
        ),
        (Form::Unix(1), "1584327600", Some((noon, 1000))),
        (Form::Unix(1), "1584327600.25", Some((noon + 250, 10))),
        (Form::Unix(1), "1584327600.123456", Some((noon + 123, 1))),
        (Form::Unix(1000), "1584327600123", Some((noon + 123, 1))),
        (Form::Any, "1584327600", Some((noon, 1000))),
        (Form::Any, "1584327600123", Some((noon + 123, 1))),
        (Form::Any, "1584327600123456789", Some((noon + 123, 1))),
        (Form::Common, "16/Mrz/2020:12:00:00 +0900", None),
        (Form::Common, "31/Feb/2020:12:00:00 +0900", None),
        (Form::Iso, "2020-03-16T12:00:00+9", None),
        (Form::Iso, "2020-03-16T12:00:00+9900", None),
        (Form::Unix(1), "-5", None),
        (Form::Unix(1), "", None),
        (Form::Unix(1), "99999999999999999999", None),
    ] {
        assert_eq!(read(form, text), expected, "{text}");
    }
}

#[test]
fn a_first_look_guesses_the_form() {
    let squid = "1584329045.123 250 192.0.2.7 TCP_HIT/200 4512 GET http://shop.test/ - HIER_NONE/- text/html";
    let combined = r#"192.0.2.7 - - [16/Mar/2020:12:24:05 +0900] "GET / HTTP/1.1" 200 512 "-" "Mozilla (X11)""#;
    let with_cache = format!("{combined} HIT");
    let cloudflare = r#"{"EdgeStartTimestamp":"2020-03-16T03:24:05Z","ClientRequestURI":"/","CacheCacheStatus":"hit"}"#;
    for (line, name, tell_cache) in [
        (squid, "squid", 2),
        (combined, "nginx", 0),
        (with_cache.as_str(), "nginx", 2),
        (cloudflare, "cloudflare", 2),
    ] {
        let guesses = sniff(&[line.as_bytes(), b"", line.as_bytes()]);
        let first = guesses.first().expect("some form reads it");
        assert_eq!(
            (first.name, first.reads, first.tell_cache),
            (name, 2, tell_cache),
            "{line}"
        );
    }
    assert_eq!(sniff(&[b"dear diary"]), []);
}
