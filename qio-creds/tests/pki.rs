//! Making authorities and certificates, and the files they go to.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{Pki, authority, client, past, server};
use qio_creds::pki::{
    Authority, AuthorityTemplate, Directory, KeyKind, Name, Overwrite, PkiError, Purpose, Template, Validity,
};
use qio_creds::rustls_pki_types::PrivateKeyDer;
use qio_creds::{Defect, Endpoint, KeyPermissions};
use time::{Duration, OffsetDateTime};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(directory: &Path) -> HashSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn files_have_qemus_names_and_safe_modes() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("new/pki");
    let directory = Directory::create(&path).unwrap();
    assert_eq!(mode(&path), 0o700);
    let ca = authority("CA");
    directory.write_authority(&ca, Overwrite::Refuse).unwrap();
    directory
        .write_pair(Purpose::Server, &ca.issue(&server()).unwrap(), Overwrite::Refuse)
        .unwrap();
    directory
        .write_pair(Purpose::Client, &ca.issue(&client()).unwrap(), Overwrite::Refuse)
        .unwrap();
    for end in ["ca", "server", "client"] {
        assert_eq!(mode(&path.join(format!("{end}-key.pem"))), 0o600);
        // Not wider than 0644; a strict umask may make it narrower.
        assert_eq!(mode(&path.join(format!("{end}-cert.pem"))) & !0o644, 0);
    }
    assert_eq!(
        names(&path).len(),
        6,
        "no temporary file is left: {:?}",
        names(&path)
    );
}

#[test]
fn a_certificate_for_both_ends_is_written_under_both_names() {
    let pki = Pki::new();
    let pair = pki
        .authority
        .issue(&Template::new(Purpose::Both).name("host".parse().unwrap()))
        .unwrap();
    let written = pki
        .directory
        .write_pair(Purpose::Both, &pair, Overwrite::Refuse)
        .unwrap();
    assert_eq!(written.len(), 4);
    for kind in ["cert", "key"] {
        let read = |end: &str| fs::read(pki.file(&format!("{end}-{kind}.pem"))).unwrap();
        assert_eq!(read("server"), read("client"));
    }
    for endpoint in [Endpoint::Server, Endpoint::Client] {
        assert!(pki.load(endpoint).unwrap().snapshot().warnings().is_empty());
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_is_half_written() {
    let pki = Pki::new();
    let pair = pki.authority.issue(&server()).unwrap();
    pki.write("server-cert.pem", "mine");
    let before = names(pki.path());
    let error = pki
        .directory
        .write_pair(Purpose::Server, &pair, Overwrite::Refuse)
        .unwrap_err();
    assert!(matches!(&error, PkiError::Exists(path) if path.ends_with("server-cert.pem")));
    assert!(error.to_string().contains("--force"), "{error}");
    assert_eq!(names(pki.path()), before);
    assert_eq!(fs::read(pki.file("server-cert.pem")).unwrap(), b"mine");
    assert!(pki.directory.expect_room(Purpose::Server).is_err());
    assert!(pki.directory.expect_room(Purpose::Client).is_ok());
}

#[test]
fn a_dangling_link_counts_as_a_file() {
    let pki = Pki::new();
    std::os::unix::fs::symlink("/nonexistent/key", pki.file("server-key.pem")).unwrap();
    let pair = pki.authority.issue(&server()).unwrap();
    assert!(matches!(
        pki.directory
            .write_pair(Purpose::Server, &pair, Overwrite::Refuse),
        Err(PkiError::Exists(_))
    ));
}

#[test]
fn replacing_narrows_the_mode_of_an_old_key() {
    let pki = Pki::server();
    pki.chmod("server-key.pem", 0o644);
    let pair = pki.authority.issue(&server()).unwrap();
    pki.directory
        .write_pair(Purpose::Server, &pair, Overwrite::Replace)
        .unwrap();
    assert_eq!(mode(&pki.file("server-key.pem")), 0o600);
    assert!(pki.load(Endpoint::Server).is_ok());
}

#[test]
fn the_same_ca_certificate_is_left_and_another_is_not_replaced() {
    let pki = Pki::new();
    let ours = pki.authority.certificate();
    assert!(
        pki.directory
            .write_ca_certificate(ours, Overwrite::Refuse)
            .unwrap()
            .is_empty()
    );
    let other = authority("other");
    assert!(matches!(
        pki.directory
            .write_ca_certificate(other.certificate(), Overwrite::Refuse),
        Err(PkiError::Exists(_))
    ));
}

#[test]
fn an_authority_is_read_back_and_issues() {
    for kind in [KeyKind::EcdsaP256, KeyKind::Ed25519, KeyKind::Rsa2048] {
        let tmp = tempfile::tempdir().unwrap();
        let directory = Directory::create(tmp.path()).unwrap();
        let ca = Authority::create(&AuthorityTemplate::new("CA").organization("O").key(kind)).unwrap();
        directory.write_authority(&ca, Overwrite::Refuse).unwrap();
        let ca = Authority::load(&directory, KeyPermissions::Private).unwrap();
        let pair = ca.issue(&server()).unwrap();
        assert_eq!(pair.summary().unwrap().issuer, "O=O,CN=CA");
        assert!(matches!(pair.key().der(), PrivateKeyDer::Pkcs8(_)));
    }
}

#[test]
fn an_unfit_authority_is_refused_with_everything_that_is_wrong() {
    let pki = Pki::of(Authority::create(&AuthorityTemplate::new("CA").validity(past())).unwrap());
    let load = || Authority::load(&pki.directory, KeyPermissions::Private).unwrap_err();
    assert!(
        load().to_string().contains("ca-key.pem: the file does not exist"),
        "{}",
        load()
    );

    pki.write("ca-key.pem", &*pki.authority.pair().key_pem());
    assert!(load().to_string().contains("expired"), "{}", load());

    pki.chmod("ca-key.pem", 0o644);
    assert!(load().to_string().contains("chmod 600"), "{}", load());

    pki.write("ca-key.pem", &*authority("x").pair().key_pem());
    assert!(
        matches!(load(), PkiError::UnfitAuthority(p) if matches!(p[..], [ref p] if matches!(p.what, Defect::KeyMismatch { .. })))
    );
}

#[test]
fn serial_numbers_are_random_positive_and_16_bytes() {
    let ca = authority("CA");
    let serials: HashSet<_> = (0..20)
        .map(|_| ca.issue(&client()).unwrap().summary().unwrap().serial)
        .collect();
    assert_eq!(serials.len(), 20);
    assert!(
        serials
            .iter()
            .all(|serial| serial.len() == 32 && ('4'..='7').contains(&serial.chars().next().unwrap()))
    );
}

#[test]
fn validity_begins_before_now_and_ends_with_the_authority() {
    let now = OffsetDateTime::now_utc();
    let ca = Authority::create(&AuthorityTemplate::new("CA").validity(Validity::Days(30))).unwrap();
    let leaf = ca.issue(&server()).unwrap().summary().unwrap();
    assert!(leaf.not_before <= now - Duration::minutes(4) && leaf.not_before >= now - Duration::hours(1));
    assert_eq!(leaf.not_after, ca.pair().summary().unwrap().not_after);
    let short = ca
        .issue(&server().validity(Validity::Days(1)))
        .unwrap()
        .summary()
        .unwrap();
    assert!(short.not_after < now + Duration::days(2));
}

#[test]
fn an_exact_validity_is_kept() {
    let (not_before, not_after) = (
        time::macros::datetime!(2015-01-02 03:04:05 UTC),
        time::macros::datetime!(2055-06-07 08:09:10 +2),
    );
    let exact = Validity::Between {
        not_before,
        not_after,
    };
    let summary = authority("CA")
        .issue(&server().validity(exact))
        .unwrap()
        .summary()
        .unwrap();
    assert_eq!((summary.not_before, summary.not_after), (not_before, not_after));
}

#[test]
fn an_impossible_validity_is_refused() {
    let now = OffsetDateTime::now_utc();
    let backwards = Validity::Between {
        not_before: now,
        not_after: now - Duration::days(1),
    };
    for validity in [backwards, Validity::Days(u32::MAX)] {
        let result = Authority::create(&AuthorityTemplate::new("CA").validity(validity));
        assert!(matches!(result, Err(PkiError::Validity)), "{validity:?}");
    }
}

#[test]
fn names_are_dns_names_or_addresses() {
    for good in [
        "localhost",
        "a.example",
        "*.a.example",
        "xn--bcher-kva.example",
        "host_1",
    ] {
        assert_eq!(good.parse(), Ok(Name::Dns(good.to_owned())));
    }
    for (text, address) in [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("[2001:db8::1]", "2001:db8::1"),
    ] {
        assert_eq!(text.parse(), Ok(Name::Ip(address.parse().unwrap())));
    }
    for bad in [
        "",
        "a b",
        "bücher.example",
        "a..b",
        "*",
        "*.",
        "a.*",
        "host:10809",
        "http://x",
        "a.example.",
        "[x]",
    ] {
        assert!(bad.parse::<Name>().is_err(), "{bad}");
    }
}

#[test]
fn a_common_name_too_long_for_x509_is_refused() {
    let long = format!("{}.example.org", "a".repeat(60));
    let template = Template::new(Purpose::Server).name(long.parse().unwrap());
    assert!(matches!(
        authority("CA").issue(&template),
        Err(PkiError::LongCommonName(_))
    ));
    assert!(authority("CA").issue(&template.common_name("short")).is_ok());
}

#[test]
fn key_kinds_parse_as_they_print() {
    for kind in KeyKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert!(
        "p-256"
            .parse::<KeyKind>()
            .unwrap_err()
            .to_string()
            .contains("rsa4096")
    );
}
