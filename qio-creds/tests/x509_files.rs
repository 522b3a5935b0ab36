//! What a directory may hold beside the usual three files: more identities, revocation lists, encrypted keys.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::process::Command;

use common::{Pki, client, server};
use qio_creds::pki::{KeyKind, Purpose};
use qio_creds::{
    CredsError, Defect, Endpoint, KeyPermissions, Secret, SecretOptions, TlsCreds, TlsCredsX509Options,
};
use qio_opts::ObjectRegistry;

/// A server's directory with numbered pairs, the unnumbered one being `None`.
fn numbered(numbers: &[Option<u8>]) -> Pki {
    let pki = Pki::new();
    for number in numbers {
        let kind = if *number == Some(1) {
            KeyKind::Ed25519
        } else {
            KeyKind::EcdsaP256
        };
        let pair = pki.authority.issue(&server().key(kind)).unwrap();
        let suffix = number.map(|number| format!("-{number}")).unwrap_or_default();
        pki.write(&format!("server-cert{suffix}.pem"), pair.certificate_pem());
        pki.write(&format!("server-key{suffix}.pem"), &*pair.key_pem());
    }
    pki
}

fn identities(pki: &Pki) -> usize {
    let snapshot = pki.load(Endpoint::Server).unwrap().snapshot();
    snapshot.x509().unwrap().identities().len()
}

#[test]
fn identities_stand_side_by_side_up_to_the_first_gap() {
    for (numbers, expected) in [
        (&[None][..], 1),
        (&[None, Some(0), Some(1)], 3),
        (&[Some(0)], 1),
        (&[None, Some(0), Some(1), Some(2), Some(3), Some(4)], 5),
    ] {
        let pki = numbered(numbers);
        assert_eq!(identities(&pki), expected, "{numbers:?}");
        assert!(
            pki.load(Endpoint::Server)
                .unwrap()
                .snapshot()
                .warnings()
                .is_empty()
        );
    }

    let pki = numbered(&[None, Some(0), Some(2)]);
    let snapshot = pki.load(Endpoint::Server).unwrap().snapshot();
    assert_eq!(snapshot.x509().unwrap().identities().len(), 2);
    assert!(
        matches!(snapshot.warnings(), [w] if w.file.ends_with("server-cert-2.pem")
        && matches!(&w.what, Defect::BehindGap { missing } if missing.ends_with("server-cert-1.pem")))
    );

    // Behind a gap is as good as absent.
    let error = numbered(&[Some(1)]).load(Endpoint::Server).unwrap_err();
    assert_eq!(error.problems().len(), 2, "{error}");
}

#[test]
fn every_identity_is_checked_and_named() {
    let pki = numbered(&[None, Some(0), Some(1)]);
    pki.remove("server-key-0.pem");
    pki.write(
        "server-cert-1.pem",
        std::fs::read(pki.file("server-cert.pem")).unwrap(),
    );
    let error = pki.load(Endpoint::Server).unwrap_err();
    let found: Vec<_> = error
        .problems()
        .iter()
        .map(|problem| (problem.file.file_name().unwrap().to_str().unwrap(), &problem.what))
        .collect();
    assert!(
        matches!(
            found[..],
            [
                ("server-key-0.pem", Defect::HalfAPair { .. }),
                ("server-key-1.pem", Defect::KeyMismatch { .. })
            ]
        ),
        "{error}"
    );
}

#[test]
fn diffie_hellman_parameters_are_told_to_be_unused_whatever_they_are() {
    let pki = Pki::server().with(Purpose::Client, &client());
    pki.write("dh-params.pem", "garbage");
    let warnings = |endpoint| pki.load(endpoint).unwrap().snapshot().warnings().len();
    assert_eq!((warnings(Endpoint::Server), warnings(Endpoint::Client)), (1, 0));
    let snapshot = pki.load(Endpoint::Server).unwrap().snapshot();
    assert!(matches!(snapshot.warnings(), [w] if matches!(w.what, Defect::DhParamsUnused)));
}

fn openssl(pki: &Pki, args: &[&str]) {
    let output = Command::new("openssl")
        .current_dir(pki.path())
        .args(args)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Writes `ca-crl.pem`, revoking nobody.
fn crl(pki: &Pki, extra: &[&str]) {
    pki.write("ca-key.pem", &*pki.authority.pair().key_pem());
    pki.write("index.txt", "");
    pki.write("crlnumber", "01\n");
    let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\n\
                  crl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n";
    pki.write("ca.cnf", config);
    let usual = [
        "ca",
        "-gencrl",
        "-config",
        "ca.cnf",
        "-cert",
        "ca-cert.pem",
        "-keyfile",
        "ca-key.pem",
        "-out",
        "ca-crl.pem",
    ];
    openssl(pki, &[&usual[..], extra].concat());
}

#[test]
fn revocation_lists_load_and_an_old_one_is_told() {
    let pki = Pki::server();
    crl(&pki, &["-crldays", "10"]);
    let snapshot = pki.load(Endpoint::Server).unwrap().snapshot();
    assert_eq!(snapshot.x509().unwrap().crls().len(), 1);
    assert!(snapshot.warnings().is_empty(), "{:?}", snapshot.warnings());

    crl(
        &pki,
        &[
            "-crl_lastupdate",
            "20200101000000Z",
            "-crl_nextupdate",
            "20200201000000Z",
        ],
    );
    let snapshot = pki.load(Endpoint::Server).unwrap().snapshot();
    assert!(matches!(snapshot.warnings(), [w] if matches!(&w.what,
        Defect::CrlExpired { issuer, .. } if issuer == "CN=Test CA")));
}

#[test]
fn a_bad_revocation_list_is_refused_before_a_service_begins() {
    let pki = Pki::server();
    crl(&pki, &["-crldays", "10"]);
    let good = std::fs::read_to_string(pki.file("ca-crl.pem")).unwrap();
    let mut lines: Vec<_> = good.lines().collect();
    lines.remove(lines.len() - 2);
    let truncated = lines.join("\n");
    for bad in ["", "garbage", &truncated] {
        pki.write("ca-crl.pem", bad);
        for endpoint in [Endpoint::Server, Endpoint::Client] {
            let (file, what) = pki.only_problem(endpoint);
            assert_eq!(file, "ca-crl.pem");
            assert!(matches!(what, Defect::BadCrl { .. }), "{what}");
            // QEMU's clients do not read the file, so a client's error says how to be like them.
            let error = pki.load(endpoint).unwrap_err().to_string();
            assert_eq!(error.contains("crl=off"), endpoint == Endpoint::Client, "{error}");
        }
        let options = TlsCredsX509Options {
            crl: false,
            ..TlsCredsX509Options::client(pki.path())
        };
        TlsCreds::load(options, KeyPermissions::Private).unwrap();
    }
}

/// A server's directory whose key is encrypted with the password `swordfish`.
fn locked(form: &[&str]) -> Pki {
    let pki = Pki::server();
    std::fs::rename(pki.file("server-key.pem"), pki.file("plain.pem")).unwrap();
    let usual = [
        "-in",
        "plain.pem",
        "-out",
        "server-key.pem",
        "-passout",
        "pass:swordfish",
    ];
    openssl(&pki, &[form, &usual[..]].concat());
    pki.chmod("server-key.pem", 0o600);
    pki
}

fn unlock(pki: &Pki, password: &str) -> Result<TlsCreds, CredsError> {
    let objects = ObjectRegistry::new();
    let secret = Secret::load(SecretOptions::data("sec0", password), &objects).unwrap();
    objects.add("sec0", secret).unwrap();
    let options = TlsCredsX509Options {
        passwordid: Some("sec0".into()),
        ..TlsCredsX509Options::server(pki.path())
    };
    TlsCreds::load_with(options, KeyPermissions::Private, &objects)
}

#[test]
fn encrypted_keys_open_with_their_password() {
    for form in [
        &["-v2", "aes-256-cbc"][..],
        &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"],
        &["-v2", "des3"],
        &["-scrypt"],
    ] {
        let pki = locked(&[&["pkcs8", "-topk8"], form].concat());
        let snapshot = unlock(&pki, "swordfish").unwrap().snapshot();
        assert_eq!(snapshot.x509().unwrap().identities().len(), 1);

        let error = unlock(&pki, "marlin").unwrap_err();
        assert!(
            matches!(error.problems(), [p] if matches!(p.what, Defect::WrongPassword { newline: false, .. })),
            "{error}"
        );
        let error = unlock(&pki, "swordfish\n").unwrap_err();
        assert!(
            matches!(error.problems(), [p] if matches!(p.what, Defect::WrongPassword { newline: true, .. })),
            "{error}"
        );
        assert!(!error.to_string().contains("swordfish"));
        let (_, what) = pki.only_problem(Endpoint::Server);
        assert!(matches!(what, Defect::KeyEncrypted));
    }
}

#[test]
fn older_schemes_are_told_with_the_way_to_convert() {
    for form in [
        &["pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES"][..],
        &["pkey", "-traditional", "-aes256"],
    ] {
        let pki = locked(form);
        let error = unlock(&pki, "swordfish").unwrap_err();
        assert!(
            matches!(error.problems(), [p] if matches!(p.what, Defect::KeyEncryption { .. })),
            "{error}"
        );
        assert!(error.to_string().contains("openssl pkcs8 -topk8"), "{error}");
    }
}

#[test]
fn the_password_must_be_there_even_if_the_key_needs_none() {
    let pki = Pki::server();
    unlock(&pki, "whatever").unwrap();
    let options = TlsCredsX509Options {
        passwordid: Some("sec0".into()),
        ..TlsCredsX509Options::server(pki.path())
    };
    let error = TlsCreds::load(options.clone(), KeyPermissions::Private).unwrap_err();
    assert!(
        error.to_string().starts_with("No secret with id 'sec0'"),
        "{error}"
    );

    let objects = ObjectRegistry::new();
    let bytes: SecretOptions = qio_opts::from_option("id=sec0,data=/w==,format=base64", None).unwrap();
    objects
        .add("sec0", Secret::load(bytes, &objects).unwrap())
        .unwrap();
    let error = TlsCreds::load_with(options, KeyPermissions::Private, &objects).unwrap_err();
    assert!(error.to_string().contains("not valid UTF-8"), "{error}");
}

#[test]
fn a_reload_looks_for_the_password_again() {
    let pki = locked(&["pkcs8", "-topk8", "-v2", "aes-256-cbc"]);
    let objects = ObjectRegistry::new();
    let secret = |password| Secret::load(SecretOptions::data("sec0", password), &objects).unwrap();
    objects.add("sec0", secret("swordfish")).unwrap();
    let options = TlsCredsX509Options {
        passwordid: Some("sec0".into()),
        ..TlsCredsX509Options::server(pki.path())
    };
    let creds = TlsCreds::load_with(options, KeyPermissions::Private, &objects).unwrap();
    creds.reload().unwrap();
    objects.delete("sec0").unwrap();
    objects.add("sec0", secret("marlin")).unwrap();
    assert!(matches!(creds.reload(), Err(CredsError::Problems { .. })));
    objects.delete("sec0").unwrap();
    assert!(matches!(creds.reload(), Err(CredsError::Password { .. })));
}

#[test]
fn a_signature_that_can_be_forged_is_refused() {
    let pki = Pki::server();
    pki.write("ca-key.pem", &*pki.authority.pair().key_pem());
    let request = [
        "req",
        "-new",
        "-key",
        "server-key.pem",
        "-subj",
        "/CN=old",
        "-out",
        "old.csr",
    ];
    openssl(&pki, &request);
    let issue = [
        "x509",
        "-req",
        "-sha1",
        "-days",
        "5",
        "-CA",
        "ca-cert.pem",
        "-CAkey",
        "ca-key.pem",
        "-in",
        "old.csr",
        "-out",
        "server-cert.pem",
    ];
    openssl(&pki, &issue);
    let (file, what) = pki.only_problem(Endpoint::Server);
    assert_eq!(file, "server-cert.pem");
    assert!(
        matches!(
            what,
            Defect::WeakSignature {
                algorithm: "SHA-1 with ECDSA",
                ..
            }
        ),
        "{what}"
    );
}
