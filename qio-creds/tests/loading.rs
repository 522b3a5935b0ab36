//! Reading credentials directories, whole and broken.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::os::unix::fs::symlink;

use common::{Pki, authority, client, future, past, server};
use qio_creds::pki::{Authority, AuthorityTemplate, KeyKind, Overwrite, Purpose};
use qio_creds::{CredsError, Defect, Endpoint, KeyPermissions, Snapshot, TlsCreds, TlsCredsX509Options};

#[test]
fn every_kind_of_key_loads_on_both_ends() {
    for kind in KeyKind::ALL.into_iter().filter(|kind| *kind != KeyKind::Rsa4096) {
        let ca = Authority::create(&AuthorityTemplate::new("CA").key(kind)).unwrap();
        let pki = Pki::of(ca)
            .with(Purpose::Server, &server().key(kind))
            .with(Purpose::Client, &client().key(kind));
        for endpoint in [Endpoint::Server, Endpoint::Client] {
            let snapshot = pki.load(endpoint).unwrap().snapshot();
            assert_eq!(snapshot.endpoint(), endpoint);
            assert_eq!(
                snapshot.x509().unwrap().ca(),
                [pki.authority.certificate().clone()]
            );
            assert_eq!(snapshot.x509().unwrap().identities().len(), 1);
            assert_eq!(snapshot.x509().unwrap().identities()[0].chain().len(), 1);
            let x509 = snapshot.x509().unwrap();
            assert!(x509.verify_peer() && x509.crls().is_empty() && snapshot.authenticates_peer());
            assert!(
                snapshot.warnings().is_empty(),
                "{kind}: {:?}",
                snapshot.warnings()
            );
        }
    }
}

#[test]
fn a_client_may_have_no_certificate() {
    let snapshot = Pki::new().load(Endpoint::Client).unwrap().snapshot();
    assert!(snapshot.x509().unwrap().identities().is_empty());
    assert_eq!(snapshot.x509().unwrap().ca().len(), 1);
}

#[test]
fn a_directory_that_is_not_there_is_one_problem() {
    let options = TlsCredsX509Options::server("/nonexistent/pki");
    let error = TlsCreds::load(options, KeyPermissions::Private).unwrap_err();
    assert!(matches!(error.problems(), [problem] if matches!(problem.what, Defect::NoDirectory)));
    assert!(error.to_string().contains("/nonexistent/pki"), "{error}");
}

#[test]
fn every_missing_file_is_named_at_once() {
    let pki = Pki::new();
    pki.remove("ca-cert.pem");
    let error = pki.load(Endpoint::Server).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.problems().len(), 3, "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
    for file in ["ca-cert.pem", "server-cert.pem", "server-key.pem"] {
        assert!(text.contains(file), "{text}");
    }
}

#[test]
fn half_a_pair_is_refused_for_a_server_and_told_to_a_client() {
    for (gone, there) in [("key", "cert"), ("cert", "key")] {
        let pki = Pki::server().with(Purpose::Client, &client());
        let names = |what: &Defect, end: &str| {
            let other = format!("{end}-{there}.pem");
            matches!(what, Defect::HalfAPair { other: found } if found.ends_with(other))
        };
        pki.remove(&format!("server-{gone}.pem"));
        let (file, what) = pki.only_problem(Endpoint::Server);
        assert_eq!(file, format!("server-{gone}.pem"));
        assert!(names(&what, "server"), "{what:?}");

        // QEMU's clients went on without a certificate until 10.2.
        pki.remove(&format!("client-{gone}.pem"));
        let snapshot = pki.load(Endpoint::Client).unwrap().snapshot();
        assert!(snapshot.x509().unwrap().identities().is_empty());
        assert!(matches!(snapshot.warnings(), [warning] if names(&warning.what, "client")));
    }
}

#[test]
fn a_lone_client_certificate_is_checked_and_a_lone_key_is_not() {
    let pki = Pki::new().with(Purpose::Client, &client().validity(past()));
    pki.remove("client-key.pem");
    assert!(matches!(
        pki.only_problem(Endpoint::Client).1,
        Defect::Expired { .. }
    ));
    pki.remove("client-cert.pem");
    pki.write("client-key.pem", "garbage");
    assert!(pki.load(Endpoint::Client).is_ok());
}

#[test]
fn all_problems_are_listed_at_once() {
    let pki = Pki::of(Authority::create(&AuthorityTemplate::new("CA").validity(past())).unwrap())
        .with(Purpose::Server, &server().validity(past()));
    let other = authority("another")
        .issue(&server().key(KeyKind::Ed25519))
        .unwrap();
    pki.write("server-key.pem", &*other.key_pem());
    pki.write("ca-crl.pem", "garbage");
    let error = pki.load(Endpoint::Server).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.problems().len(), 4, "{text}");
    assert_eq!(text.matches("expired").count(), 2, "{text}");
    assert!(text.contains("private key (Ed25519) does not belong"), "{text}");
    assert!(text.contains("(ECDSA P-256)"), "{text}");
    assert!(text.contains("ca-crl.pem"), "{text}");
    assert!(
        text.lines().skip(1).all(|line| line.contains("; ")),
        "each line has its remedy: {text}"
    );
}

#[test]
fn a_key_that_others_can_read_is_refused_unless_allowed() {
    for mode in [0o644, 0o640, 0o604, 0o660, 0o620] {
        let pki = Pki::server();
        pki.chmod("server-key.pem", mode);
        let (file, what) = pki.only_problem(Endpoint::Server);
        assert_eq!(file, "server-key.pem");
        assert!(matches!(what, Defect::KeyOpenToOthers { mode: found } if found == mode));
        let error = pki.load(Endpoint::Server).unwrap_err().to_string();
        assert!(
            error.contains("chmod 600") && error.contains("--insecure"),
            "{error}"
        );

        let options = TlsCredsX509Options::server(pki.path());
        assert!(TlsCreds::load(options, KeyPermissions::Insecure).is_ok());
    }
}

#[test]
fn an_open_key_does_not_hide_an_expired_certificate() {
    let pki = Pki::new().with(Purpose::Server, &server().validity(past()));
    pki.chmod("server-key.pem", 0o644);
    assert_eq!(pki.load(Endpoint::Server).unwrap_err().problems().len(), 2);
}

#[test]
fn garbage_in_any_file_is_an_error_that_names_it() {
    let good = Pki::server();
    let read = |name: &str| std::fs::read(good.file(name)).unwrap();
    for name in ["ca-cert.pem", "server-cert.pem", "server-key.pem"] {
        let text = read(name);
        let no_end = text[..text.len() - 20].to_vec();
        let bad_base64 = String::from_utf8(text.clone())
            .unwrap()
            .replacen("\nM", "\n*", 1)
            .into_bytes();
        for bad in [
            Vec::new(),
            b"garbage".to_vec(),
            vec![0; 4096],
            vec![0x30, 0x82, 0x01, 0x00],
            no_end,
            bad_base64,
        ] {
            let pki = Pki::server();
            pki.write(name, &bad);
            assert_eq!(pki.only_problem(Endpoint::Server).0, name, "{bad:?}");
        }
    }
}

#[test]
fn truncated_der_is_an_error_that_names_the_file() {
    for (name, expected) in [
        ("ca-cert.pem", "certificate 1"),
        ("server-cert.pem", "certificate 1"),
    ] {
        let pki = Pki::server();
        let text = std::fs::read_to_string(pki.file(name)).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        lines.remove(lines.len() - 2); // the last line of base64: the section stays well-formed
        pki.write(name, lines.join("\n"));
        let (file, what) = pki.only_problem(Endpoint::Server);
        assert_eq!(file, name);
        assert!(what.to_string().contains(expected), "{what}");
    }
    let pki = Pki::server();
    let text = std::fs::read_to_string(pki.file("server-key.pem")).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.remove(lines.len() - 2);
    pki.write("server-key.pem", lines.join("\n"));
    assert!(matches!(
        pki.only_problem(Endpoint::Server).1,
        Defect::KeyUnusable
    ));
}

#[test]
fn errors_never_quote_a_damaged_key() {
    let pki = Pki::server();
    let text = std::fs::read_to_string(pki.file("server-key.pem")).unwrap();
    let secret = text.lines().nth(1).unwrap().to_owned();
    for damaged in [
        text.replacen("-----END", "----END", 1),
        text.replacen(&secret, &format!("-----BEGIN {secret}"), 1),
    ] {
        pki.write("server-key.pem", damaged);
        let error = pki.load(Endpoint::Server).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&secret[..16]), "{error}");
    }
}

#[test]
fn a_snapshot_never_prints_its_key() {
    let snapshot = Pki::server().load(Endpoint::Server).unwrap().snapshot();
    let key = format!(
        "{:?}",
        snapshot.x509().unwrap().identities()[0].key().der().secret_der()
    );
    let debug = format!("{snapshot:?}");
    assert!(debug.contains("redacted"));
    assert!(!debug.contains(&key[1..40]), "{debug}");
}

#[test]
fn forms_of_pem_that_gnutls_takes_are_taken() {
    for (from, to) in [
        ("CERTIFICATE-----", "X509 CERTIFICATE-----"),
        ("\n", "\r\n"),
        ("-----BEGIN", "text\n\n-----BEGIN"),
    ] {
        let pki = Pki::server();
        for name in ["ca-cert.pem", "server-cert.pem"] {
            let text = std::fs::read_to_string(pki.file(name)).unwrap();
            pki.write(name, text.replace(from, to));
        }
        assert!(pki.load(Endpoint::Server).is_ok(), "{to:?}");
    }
}

#[test]
fn an_encrypted_key_is_recognised() {
    let pki = Pki::server();
    pki.write(
        "server-key.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    assert!(matches!(
        pki.only_problem(Endpoint::Server).1,
        Defect::KeyEncrypted
    ));
    pki.write(
        "server-key.pem",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    assert!(matches!(
        pki.only_problem(Endpoint::Server).1,
        Defect::KeyEncrypted
    ));
}

#[test]
fn what_is_not_a_regular_file_is_refused_without_waiting() {
    let pki = Pki::server();
    pki.remove("server-key.pem");
    symlink("/dev/zero", pki.file("server-key.pem")).unwrap();
    assert!(matches!(pki.only_problem(Endpoint::Server).1, Defect::NotAFile));

    pki.remove("server-key.pem");
    let status = std::process::Command::new("mkfifo")
        .arg(pki.file("server-key.pem"))
        .status()
        .unwrap();
    assert!(status.success());
    // A FIFO without a writer would hold up a plain open for ever.
    assert!(matches!(pki.only_problem(Endpoint::Server).1, Defect::NotAFile));
}

#[test]
fn a_huge_file_is_not_read() {
    let pki = Pki::server();
    let file = std::fs::File::create(pki.file("ca-cert.pem")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(matches!(
        pki.only_problem(Endpoint::Server).1,
        Defect::TooLarge { .. }
    ));
}

#[test]
fn a_symbolic_link_to_a_key_is_followed() {
    let pki = Pki::server();
    std::fs::rename(pki.file("server-key.pem"), pki.file("real-key.pem")).unwrap();
    symlink("real-key.pem", pki.file("server-key.pem")).unwrap();
    assert!(pki.load(Endpoint::Server).is_ok());
}

#[test]
fn dates_are_checked_for_leaf_and_authority() {
    let pki = Pki::new().with(Purpose::Server, &server().validity(past()));
    let (file, what) = pki.only_problem(Endpoint::Server);
    assert_eq!(file, "server-cert.pem");
    assert!(matches!(what, Defect::Expired { .. }));

    let pki = Pki::new().with(Purpose::Server, &server().validity(future()));
    assert!(matches!(
        pki.only_problem(Endpoint::Server).1,
        Defect::NotYetValid { .. }
    ));

    let expired = Authority::create(&AuthorityTemplate::new("CA").validity(past())).unwrap();
    let now = time::OffsetDateTime::now_utc();
    let outliving = qio_creds::pki::Validity::Between {
        not_before: now,
        not_after: now + time::Duration::days(1),
    };
    let pki = Pki::of(expired).with(Purpose::Server, &server().validity(outliving));
    let (file, what) = pki.only_problem(Endpoint::Server);
    assert_eq!(file, "ca-cert.pem");
    assert!(matches!(what, Defect::Expired { .. }));
}

#[test]
fn without_sanity_check_dates_do_not_matter_but_a_foreign_key_does() {
    let pki = Pki::new().with(Purpose::Server, &server().validity(past()));
    let options = TlsCredsX509Options {
        sanity_check: false,
        ..TlsCredsX509Options::server(pki.path())
    };
    assert!(TlsCreds::load(options.clone(), KeyPermissions::Private).is_ok());

    let other = pki.authority.issue(&server()).unwrap();
    pki.write("server-key.pem", &*other.key_pem());
    let error = TlsCreds::load(options, KeyPermissions::Private).unwrap_err();
    assert!(matches!(error.problems()[0].what, Defect::KeyMismatch { .. }));
}

#[test]
fn a_leaf_is_no_authority_and_an_authority_no_leaf() {
    // An end certificate where the authority's should be, and a certificate that it "issued".
    let pki = Pki::server();
    let leaf = std::fs::read(pki.file("server-cert.pem")).unwrap();
    pki.write("ca-cert.pem", leaf);
    let error = pki.load(Endpoint::Server).unwrap_err();
    let problems: Vec<_> = error.problems().iter().map(|problem| &problem.what).collect();
    assert!(
        matches!(
            problems[..],
            [
                Defect::NotACa { .. },
                Defect::KeyUsage {
                    lacks: "keyCertSign",
                    ..
                }
            ]
        ),
        "{error}"
    );
    assert!(
        error
            .problems()
            .iter()
            .all(|problem| problem.file.ends_with("ca-cert.pem")),
        "{error}"
    );

    let pki = Pki::new();
    pki.put(Purpose::Server, pki.authority.pair());
    let problems = pki.load(Endpoint::Server).unwrap_err();
    assert!(
        matches!(
            problems.problems()[0].what,
            Defect::LeafIsCa {
                endpoint: Endpoint::Server,
                ..
            }
        ),
        "{problems}"
    );
}

#[test]
fn a_certificate_of_another_authority_is_told_from_one_of_its_namesake() {
    let pki = Pki::new();
    pki.put(Purpose::Server, &authority("Other CA").issue(&server()).unwrap());
    let (file, what) = pki.only_problem(Endpoint::Server);
    assert_eq!(file, "server-cert.pem");
    assert!(
        matches!(&what, Defect::UnknownIssuer { issuer, .. } if issuer == "CN=Other CA"),
        "{what}"
    );

    pki.put(Purpose::Server, &authority("Test CA").issue(&server()).unwrap());
    let (_, what) = pki.only_problem(Endpoint::Server);
    assert!(
        matches!(&what, Defect::WrongSignature { issuer, .. } if issuer == "CN=Test CA"),
        "{what}"
    );
}

#[test]
fn every_certificate_of_the_ca_file_is_an_anchor_and_only_the_used_one_must_be_sound() {
    let expired = Authority::create(&AuthorityTemplate::new("Old CA").validity(past())).unwrap();
    let pki = Pki::server();
    let both = expired.pair().certificate_pem() + &pki.authority.pair().certificate_pem();
    pki.write("ca-cert.pem", format!("a comment\n{both}"));
    let snapshot = pki.load(Endpoint::Server).unwrap().snapshot();
    assert_eq!(snapshot.x509().unwrap().ca().len(), 2);
    assert!(matches!(snapshot.warnings(), [warning] if matches!(warning.what, Defect::Expired { .. })));

    // A client without a certificate of its own depends on all of them.
    let (_, what) = pki.only_problem(Endpoint::Client);
    assert!(matches!(what, Defect::Expired { .. }));
}

#[test]
fn a_purpose_that_does_not_fit_is_a_warning_as_qemu_takes_it() {
    let pki = Pki::new().with(Purpose::Server, &client().name("localhost".parse().unwrap()));
    let client_pair = pki.authority.issue(&client()).unwrap();
    pki.put(Purpose::Server, &client_pair);
    let snapshot = pki.load(Endpoint::Server).unwrap().snapshot();
    assert!(
        matches!(snapshot.warnings(), [w] if matches!(w.what, Defect::ExtendedKeyUsage { lacks: "serverAuth", .. })),
        "{:?}",
        snapshot.warnings()
    );
}

#[test]
fn a_priority_is_carried_and_a_bad_one_refused() {
    let pki = Pki::server();
    let load = |priority: &str| {
        let options = TlsCredsX509Options {
            priority: Some(priority.into()),
            ..TlsCredsX509Options::server(pki.path())
        };
        TlsCreds::load(options, KeyPermissions::Private)
    };
    let snapshot = load("NORMAL:-VERS-TLS1.3").unwrap().snapshot();
    assert!(
        !snapshot
            .x509()
            .unwrap()
            .priority()
            .unwrap()
            .allows_version(0x0304)
    );
    let error = load("NORMAL:+AES-257-GCM").unwrap_err();
    assert!(matches!(error, CredsError::Priority { .. }));
    assert!(error.to_string().contains("AES-257-GCM"), "{error}");
    let none = pki.load(Endpoint::Server).unwrap().snapshot();
    assert!(none.x509().unwrap().priority().is_none());
}

#[test]
fn reload_replaces_the_snapshot_for_every_handle() {
    let pki = Pki::server();
    let creds = pki.load(Endpoint::Server).unwrap();
    let server_creds = creds.for_server().unwrap();
    let old = server_creds.snapshot();
    pki.put(Purpose::Server, &pki.authority.issue(&server()).unwrap());
    let new = creds.reload().unwrap();
    assert!(new.generation() > old.generation());
    assert_eq!(server_creds.snapshot().generation(), new.generation());
    let chain = |snapshot: &Snapshot| snapshot.x509().unwrap().identities()[0].chain().to_vec();
    assert_ne!(chain(&old), chain(&new));
}

#[test]
fn a_broken_set_of_files_leaves_the_old_snapshot_in_force() {
    let pki = Pki::server();
    let creds = pki.load(Endpoint::Server).unwrap();
    let old = creds.snapshot().generation();
    pki.directory
        .write_pair(
            Purpose::Server,
            &authority("x").issue(&server()).unwrap(),
            Overwrite::Replace,
        )
        .unwrap();
    assert!(matches!(creds.reload(), Err(CredsError::Problems { .. })));
    assert_eq!(creds.snapshot().generation(), old);
}

#[test]
fn the_wrong_endpoint_is_refused_with_the_id_and_both_sides() {
    let pki = Pki::server();
    let options = TlsCredsX509Options {
        id: Some("tls0".into()),
        ..TlsCredsX509Options::server(pki.path())
    };
    let creds = TlsCreds::load(options, KeyPermissions::Private).unwrap();
    let error = creds.for_client().unwrap_err();
    assert_eq!((error.has, error.needed), (Endpoint::Server, Endpoint::Client));
    let text = error.to_string();
    assert!(
        text.starts_with("Expected TLS credentials for a client endpoint"),
        "{text}"
    );
    assert!(text.contains("'tls0'"), "{text}");
    assert!(Pki::new().load(Endpoint::Client).unwrap().for_server().is_err());
}

#[test]
fn one_object_serves_many_threads_while_it_is_reloaded() {
    let pki = Pki::server();
    let creds = pki.load(Endpoint::Server).unwrap();
    let first = creds.snapshot().generation();
    let (creds, pki) = (&creds, &pki);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let server_creds = creds.for_server().unwrap();
            scope.spawn(move || {
                let mut last = 0;
                while last < first + 10 {
                    let snapshot = server_creds.snapshot();
                    assert!(
                        snapshot.generation() >= last,
                        "a thread never goes back to an older snapshot"
                    );
                    assert_eq!(snapshot.x509().unwrap().identities().len(), 1);
                    last = snapshot.generation();
                }
            });
        }
        scope.spawn(move || {
            while creds.snapshot().generation() < first + 10 {
                pki.put(Purpose::Server, &pki.authority.issue(&server()).unwrap());
                creds.reload().unwrap();
            }
        });
    });
}

#[test]
fn the_registry_hands_out_handles_to_one_object() {
    let pki = Pki::server();
    let objects = qio_opts::ObjectRegistry::new();
    objects.add("tls0", pki.load(Endpoint::Server).unwrap()).unwrap();
    let (one, other) = (
        objects.get::<TlsCreds>("tls0").unwrap(),
        objects.get::<TlsCreds>("tls0").unwrap(),
    );
    let reloaded = one.reload().unwrap();
    assert_eq!(other.snapshot().generation(), reloaded.generation());
    assert_eq!(objects.list()[0].type_name, "tls-creds-x509");
}

#[test]
fn credentials_built_in_memory_are_checked_alike() {
    let ca = authority("CA");
    let pair = ca.issue(&server()).unwrap();
    let creds = TlsCreds::builder(Endpoint::Server)
        .id("mem0")
        .ca([ca.certificate().clone()])
        .identity(pair.into_identity())
        .verify_peer(false)
        .build()
        .unwrap();
    assert!(creds.for_server().is_ok() && !creds.snapshot().authenticates_peer());
    assert!(matches!(creds.reload(), Err(CredsError::NotFromFiles { .. })));

    let foreign = authority("other").issue(&server()).unwrap();
    let error = TlsCreds::builder(Endpoint::Server)
        .ca([ca.certificate().clone()])
        .identity(foreign.into_identity())
        .build()
        .unwrap_err();
    assert!(
        matches!(error.problems(), [p] if matches!(p.what, Defect::UnknownIssuer { .. })),
        "{error}"
    );

    let error = TlsCreds::builder(Endpoint::Server).build().unwrap_err();
    assert_eq!(error.problems().len(), 2, "{error}");
    assert!(
        TlsCreds::builder(Endpoint::Client)
            .verify_peer(false)
            .build()
            .is_ok()
    );
}

#[test]
fn the_issuer_is_found_among_many_namesakes() {
    let pki = Pki::server();
    let namesake = authority("Test CA").pair().certificate_pem();
    pki.write(
        "ca-cert.pem",
        namesake.repeat(400) + &pki.authority.pair().certificate_pem(),
    );
    assert_eq!(
        pki.load(Endpoint::Server)
            .unwrap()
            .snapshot()
            .x509()
            .unwrap()
            .ca()
            .len(),
        401
    );
}
