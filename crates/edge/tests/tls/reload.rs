//! Certificates that change on disk.

use shikiri_record::UnixMillis;

use crate::authority::Authority;
use crate::{Site, tenant};

/// The certificate that a client is shown.
async fn shown(site: &Site) -> Vec<u8> {
    let stream = site
        .connect(&site.client("http/1.1"), "a.test")
        .await
        .unwrap();
    let (_, connection) = stream.get_ref();
    connection.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(start_paused = true)]
async fn a_new_certificate_is_shown_and_a_broken_one_is_not() {
    let site = Site::new(&["a.test"]);
    let first = shown(&site).await;
    assert_eq!(site.refresh(), Ok(0));
    assert_eq!(shown(&site).await, first);

    let second = site.authority.certify(&["a.test"]);
    second.save(&site.folder, "a.test");
    assert_eq!(site.refresh(), Ok(1));
    assert_eq!(shown(&site).await, second.der().to_vec());

    // A key of another certificate, a certificate of another host, half a file, no file.
    let key = std::fs::read_to_string(site.folder.path("a.test.key")).unwrap();
    let cert = std::fs::read_to_string(site.folder.path("a.test.pem")).unwrap();
    let other = site.authority.certify(&["b.test"]);
    let half = cert.get(..cert.len() / 2).unwrap();
    let breaks: [(&str, &dyn Fn()); 4] = [
        ("another key", &|| other.save(&site.folder, "a.test")),
        ("half a file", &|| site.folder.write("a.test.pem", half)),
        ("no file", &|| {
            std::fs::remove_file(site.folder.path("a.test.pem")).unwrap();
        }),
        ("a key for all", &|| {
            site.folder.set_mode("a.test.key", 0o644);
        }),
    ];
    for (what, break_it) in breaks {
        break_it();
        assert!(site.refresh().is_err(), "{what} is told of");
        assert_eq!(shown(&site).await, second.der().to_vec(), "{what}");
        assert!(site.tenants.certificates()[0].fault.is_some(), "{what}");
        site.folder.write_secret("a.test.key", &key);
        site.folder.write("a.test.pem", &cert);
        assert_eq!(site.refresh(), Ok(1), "{what} mended");
        assert_eq!(site.tenants.certificates()[0].fault, None, "{what} mended");
    }
}

#[tokio::test(start_paused = true)]
async fn other_tenants_are_put_in_force_whole_or_not_at_all() {
    let site = Site::new(&["a.test"]);
    let client = site.client("http/1.1");
    site.authority
        .certify(&["b.test"])
        .save(&site.folder, "b.test");
    let (a, b) = (
        tenant(&site.folder, "a.test"),
        tenant(&site.folder, "b.test"),
    );
    assert!(
        site.tenants
            .apply(vec![a.clone(), tenant(&site.folder, "gone.test")])
            .is_err()
    );
    assert!(site.get(&client, "a.test", "a.test").await.is_ok());
    site.tenants.apply(vec![b]).unwrap();
    assert!(site.get(&client, "a.test", "a.test").await.is_err());
    assert!(site.get(&client, "b.test", "b.test").await.is_ok());
}

#[test]
fn the_end_of_a_certificate_is_known() {
    let folder = crate::authority::Folder::new();
    let authority = Authority::new("believed");
    authority
        .certify_as(
            &["a.test"],
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            crate::authority::day(2031),
        )
        .save(&folder, "a.test");
    let tenants = shikiri_edge::tls::Tenants::load(vec![tenant(&folder, "a.test")]).unwrap();
    let status = tenants.certificates().remove(0);
    assert_eq!(status.hosts, ["a.test"]);
    let end = 1_924_992_000_000;
    assert_eq!(status.not_after, UnixMillis(end));
    assert_eq!(tenants.first_end(), Some(UnixMillis(end)));
    let day = 86_400_000;
    for (now, saying) in [
        (end - 15 * day, None),
        (end - 13 * day, Some("expires in 13 days")),
        (end + 1, Some("has expired")),
        (0, Some("not valid yet")),
    ] {
        let concern = tenants.concern(UnixMillis(now)).unwrap_or_default();
        assert_eq!(saying.is_none(), concern.is_empty(), "{concern}");
        assert!(concern.contains(saying.unwrap_or_default()), "{concern}");
    }
}
