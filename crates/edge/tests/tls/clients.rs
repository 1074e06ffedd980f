//! Client certificates: who is let in, who is whose, and what the origin is told.

use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose;
use rustls::HandshakeKind;
use shikiri_edge::listen::Listener;
use shikiri_edge::tls::{ClientCa, TenantConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::authority::{Authority, Folder, day};
use crate::world::CLIENT;
use crate::{STRANGER, Site, ask, met, remembering, reply};

const CSS: &str = "200 OK\r\nContent-Type: text/css\r\nCache-Control: max-age=60\r\nETag: \"1\"";

/// A site for `a.test` with client certificates, and who certifies them.
fn site(required: bool) -> (Site, Authority) {
    let clients = Authority::new("certifies clients");
    let site = Site::with(
        &["a.test"],
        |config| {
            let roots = config.cert.with_file_name("clients.pem");
            std::fs::write(&roots, clients.pem()).unwrap();
            let ca = ClientCa {
                roots,
                revoked: None,
                required,
            };
            TenantConfig {
                client_ca: Some(ca),
                ..config
            }
        },
        |asked| {
            if asked.starts_with("GET /a.css") {
                reply(CSS, "body{}")
            } else {
                reply("200 OK", "hello")
            }
        },
    );
    (site, clients)
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_required_or_optional_and_must_be_good() {
    for required in [true, false] {
        let (site, clients) = site(required);
        let stranger = Authority::new("nobody believes it");
        let expired = clients.certify_as(&["old"], ExtendedKeyUsagePurpose::ClientAuth, day(2020));
        let server = clients.certify(&["not for clients"]);
        let good = clients.certify_client("alice");
        let false_one = stranger.certify_client("alice");
        for (shown, lets_in, what) in [
            (None, !required, "none"),
            (Some(&good), true, "a good one"),
            (Some(&false_one), false, "of another authority"),
            (Some(&expired), false, "expired"),
            (Some(&server), false, "for servers"),
        ] {
            let client = site.authority.client_with("http/1.1", shown);
            let got = site.get(&client, "a.test", "a.test").await;
            assert_eq!(
                got.is_ok(),
                lets_in,
                "{what}, required: {required}: {got:?}"
            );
        }
    }
}

/// A listener in cleartext beside it is no way round; a trusted proxy has looked at certificates itself.
#[tokio::test(start_paused = true)]
async fn who_must_show_a_certificate_cannot_come_in_cleartext() {
    for required in [true, false] {
        let (site, _) = site(required);
        site.node.node.serve_tenants(Arc::clone(&site.tenants));
        let beside = Listener {
            http2: true,
            ..Listener::plain(STRANGER)
        };
        for (peer, host, status) in [
            (STRANGER, "a.test", if required { 421 } else { 200 }),
            (STRANGER, "A.test.:80", if required { 421 } else { 200 }),
            (STRANGER, "b.test", 200),
            (CLIENT, "a.test", 200),
        ] {
            let mut wire = met(&site.node, peer, &beside);
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            wire.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            wire.read_to_string(&mut answer).await.unwrap();
            let expected = format!("HTTP/1.1 {status}");
            assert!(answer.starts_with(&expected), "{host} {required}: {answer}");
            let wire = met(&site.node, peer, &beside);
            let (mut requests, connection) = h2::client::handshake(wire).await.unwrap();
            tokio::spawn(async move { drop(connection.await) });
            let request = http::Request::get(format!("http://{host}/"))
                .body(())
                .unwrap();
            let (response, _) = requests.send_request(request, true).unwrap();
            assert_eq!(
                response.await.unwrap().status(),
                status,
                "{host} {required}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_origin_is_told_which_certificate_and_nobody_can_say_another() {
    let (site, clients) = site(false);
    let alice = clients.certify_client("alice");
    let told = async |client: &rustls::ClientConfig| {
        let mut stream = site.connect(client, "a.test").await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\nClient-Cert: :Zm9v:\r\n\
            Client-Cert-Chain: :Zm9v:\r\nClient_Cert: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let text = site.node.seen().last().unwrap().text.clone();
        let lines = text.lines().filter(|line| line.starts_with("client"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let with = site.authority.client_with("http/1.1", Some(&alice));
    let lines = told(&with).await;
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("client-cert: :MII") && lines[0].ends_with(':'),
        "{lines:?}"
    );
    assert!(told(&site.client("http/1.1")).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_a_credential() {
    let (site, clients) = site(false);
    let mut seen = Vec::new();
    for name in ["alice", "bob"] {
        let shown = clients.certify_client(name);
        let client = site.authority.client_with("http/1.1", Some(&shown));
        let mut stream = site.connect(&client, "a.test").await.unwrap();
        for path in ["/page", "/page", "/a.css"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = [0; 4096];
            assert!(stream.read(&mut answer).await.unwrap() > 0);
        }
        seen = site.node.seen();
    }
    let texts: Vec<&str> = seen.iter().map(|seen| seen.text.as_str()).collect();
    let fetches = texts
        .iter()
        .filter(|text| text.starts_with("GET /a.css"))
        .count();
    assert_eq!(fetches, 1, "what is the same for all is shared");
    let css = texts
        .iter()
        .find(|text| text.starts_with("GET /a.css"))
        .unwrap();
    assert!(
        !css.contains("client-cert"),
        "and asked for without a certificate: {css}"
    );
    // A known credential lets its own passes follow each other on one origin connection.
    let passes: Vec<u64> = seen
        .iter()
        .filter(|seen| seen.text.starts_with("GET /page"))
        .map(|seen| seen.connection)
        .collect();
    assert_eq!(passes.len(), 4);
    assert_eq!(passes[0], passes[1]);
    assert_eq!(passes[2], passes[3]);
    assert_ne!(passes[0], passes[2]);
}

#[tokio::test(start_paused = true)]
async fn a_resumed_session_still_needs_a_good_certificate() {
    let (site, clients) = site(true);
    let alice = clients.certify_client("alice");
    let client = remembering(site.authority.client_with("http/1.1", Some(&alice)));
    let kind = async || {
        let mut stream = site
            .connect(&client, "a.test")
            .await
            .map_err(|e| e.to_string())?;
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        ask(&mut stream, "a.test").await?;
        Ok::<_, String>(kind)
    };
    assert_ne!(kind().await, Ok(HandshakeKind::Resumed));
    assert_eq!(kind().await, Ok(HandshakeKind::Resumed));
    let text = site.node.seen().last().unwrap().text.clone();
    assert!(text.contains("client-cert: :MII"), "{text}");
    // The authority is believed no longer: the ticket is worth nothing, nor is the certificate.
    let other = Authority::new("the new one");
    site.folder.write("clients.pem", &other.pem());
    assert_eq!(site.refresh(), Ok(1));
    assert!(kind().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_is_refused() {
    let clients = Authority::new("certifies clients");
    let (alice, bob) = (
        clients.certify_client("alice"),
        clients.certify_client("bob"),
    );
    let keeps = Folder::new();
    keeps.write("clients.pem", &clients.pem());
    keeps.write("revoked.pem", &clients.revoke(&[&alice]));
    let ca = ClientCa {
        roots: keeps.path("clients.pem"),
        revoked: Some(keeps.path("revoked.pem")),
        required: true,
    };
    let site = Site::with(
        &["a.test"],
        |config| TenantConfig {
            client_ca: Some(ca.clone()),
            ..config
        },
        |_| reply("200 OK", "hello"),
    );
    for (shown, lets_in) in [(&alice, false), (&bob, true)] {
        let client = site.authority.client_with("http/1.1", Some(shown));
        let got = site.get(&client, "a.test", "a.test").await;
        assert_eq!(got.is_ok(), lets_in, "{got:?}");
    }
    let client = remembering(site.authority.client_with("http/1.1", Some(&bob)));
    site.get(&client, "a.test", "a.test").await.unwrap();
    keeps.write("revoked.pem", &clients.revoke(&[&alice, &bob]));
    assert_eq!(site.refresh(), Ok(1));
    let got = site.get(&client, "a.test", "a.test").await;
    assert!(got.is_err(), "{got:?}");
}
