//! The collection.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use qio_interop::succeed;
use rcgen::{
    BasicConstraints, CertificateRevocationListParams, ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose as Usage, RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::Case;
use crate::build::{Build, EXTENDED_KEY_USAGE, Maker};

// SEQUENCE { OBJECT IDENTIFIER } of one purpose each.
const SERVER_AUTH: &[u8] = b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
const CLIENT_AUTH: &[u8] = b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
const CODE_SIGNING: &[u8] = b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x03";
const ANY_PURPOSE: &[u8] = b"\x30\x06\x06\x04\x55\x1d\x25\x00";
/// NULL, as the contents of extensions that nobody knows.
const NULL: &[u8] = &[5, 0];

pub(crate) const CASES: &[Case] = &[
    ("as it should be", |_| {}),
    // ---- key usage ----
    ("no key usage", |b| b.leaf.params.key_usages.clear()),
    ("critical key usage: digitalSignature", |b| {
        b.leaf.params.key_usages = vec![Usage::DigitalSignature];
    }),
    ("critical key usage: keyEncipherment", |b| {
        b.leaf.params.key_usages = vec![Usage::KeyEncipherment];
    }),
    ("critical key usage: keyAgreement", |b| {
        b.leaf.params.key_usages = vec![Usage::KeyAgreement];
    }),
    ("lax key usage: digitalSignature", |b| b.leaf.lax_key_usage(0x80)),
    ("lax key usage: keyEncipherment", |b| b.leaf.lax_key_usage(0x20)),
    ("lax key usage: both", |b| b.leaf.lax_key_usage(0xa0)),
    ("authority without key usage", |b| {
        b.root.params.key_usages.clear();
    }),
    ("authority with critical cRLSign only", |b| {
        // rcgen would not issue from it, so the leaf is signed before.
        b.chain_file = Some(b.leaf_signed());
        b.root.params.key_usages = vec![Usage::CrlSign];
    }),
    ("authority with lax cRLSign only", |b| {
        b.chain_file = Some(b.leaf_signed());
        b.root.lax_key_usage(0x02);
    }),
    // ---- purposes ----
    ("purposes: both", |b| {
        b.leaf.params.extended_key_usages = vec![Purpose::ServerAuth, Purpose::ClientAuth];
    }),
    ("purpose: server", |b| {
        b.leaf.params.extended_key_usages = vec![Purpose::ServerAuth];
    }),
    ("purpose: client", |b| {
        b.leaf.params.extended_key_usages = vec![Purpose::ClientAuth];
    }),
    ("purpose: any", |b| {
        b.leaf.params.extended_key_usages = vec![Purpose::Any];
    }),
    ("purpose: code signing", |b| {
        b.leaf.params.extended_key_usages = vec![Purpose::CodeSigning];
    }),
    ("critical purpose: server", |b| {
        b.leaf.extension(EXTENDED_KEY_USAGE, true, SERVER_AUTH);
    }),
    ("critical purpose: client", |b| {
        b.leaf.extension(EXTENDED_KEY_USAGE, true, CLIENT_AUTH);
    }),
    ("critical purpose: any", |b| {
        b.leaf.extension(EXTENDED_KEY_USAGE, true, ANY_PURPOSE);
    }),
    ("critical purpose: code signing", |b| {
        b.leaf.extension(EXTENDED_KEY_USAGE, true, CODE_SIGNING);
    }),
    ("authority with a purpose: client", |b| {
        b.root.params.extended_key_usages = vec![Purpose::ClientAuth];
    }),
    // ---- dates ----
    ("expired", |b| b.leaf.valid(-20, -10)),
    ("not yet valid", |b| b.leaf.valid(10, 20)),
    ("expired authority", |b| b.root.valid(-20, -10)),
    ("authority not yet valid", |b| b.root.valid(10, 20)),
    ("expired, unchecked", |b| {
        b.leaf.valid(-20, -10);
        b.options = ",sanity-check=off".into();
    }),
    // ---- basic constraints ----
    ("no basic constraints", |b| b.leaf.params.is_ca = IsCa::NoCa),
    ("an authority as end certificate", |b| {
        b.leaf.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }),
    ("authority without basic constraints", |b| {
        b.chain_file = Some(b.leaf_signed());
        b.root.params.is_ca = IsCa::NoCa;
    }),
    ("authority that is none", |b| {
        b.chain_file = Some(b.leaf_signed());
        b.root.params.is_ca = IsCa::ExplicitNoCa;
    }),
    ("path length 0", |b| {
        b.root.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    }),
    ("path length 0 with an intermediate", |b| {
        b.root.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let middle = b.intermediate(|_| {});
        b.ca_file = Some(b.root.self_signed() + &middle);
    }),
    ("path length 1 with an intermediate", |b| {
        b.root.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        let middle = b.intermediate(|_| {});
        b.ca_file = Some(b.root.self_signed() + &middle);
    }),
    // ---- other extensions ----
    ("an unknown extension", |b| {
        b.leaf.extension(&[1, 2, 3, 4], false, NULL);
    }),
    ("an unknown critical extension", |b| {
        b.leaf.extension(&[1, 2, 3, 4], true, NULL);
    }),
    ("authority with an unknown critical extension", |b| {
        b.root.extension(&[1, 2, 3, 4], true, NULL);
    }),
    // ---- who issued it ----
    ("of another authority", |b| {
        b.ca_file = Some(Maker::ca("other").self_signed());
    }),
    ("of another authority, unchecked", |b| {
        b.ca_file = Some(Maker::ca("other").self_signed());
        b.options = ",sanity-check=off".into();
    }),
    ("of the authority's namesake", |b| {
        let mut namesake = Maker::ca("root");
        namesake.params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1; 20]);
        b.ca_file = Some(namesake.self_signed());
    }),
    ("two roots", |b| {
        b.ca_file = Some(Maker::ca("other").self_signed() + &b.root.self_signed());
    }),
    ("the root twice", |b| {
        b.ca_file = Some(b.root.self_signed().repeat(2));
    }),
    ("sixteen roots", |b| {
        b.ca_file = Some(Maker::ca("other").self_signed().repeat(15) + &b.root.self_signed());
    }),
    ("seventeen roots", |b| {
        b.ca_file = Some(Maker::ca("other").self_signed().repeat(16) + &b.root.self_signed());
    }),
    ("an expired authority beside", |b| {
        let mut expired = Maker::ca("old");
        expired.valid(-20, -10);
        b.ca_file = Some(b.root.self_signed() + &expired.self_signed());
    }),
    ("an end certificate among the authorities", |b| {
        b.ca_file = Some(b.root.self_signed() + &Maker::leaf("other").signed_by(&b.root));
    }),
    ("unsound authorities beside, of every kind", |b| {
        let mut unfit = Maker::ca("unfit");
        unfit.params.key_usages = vec![Usage::CrlSign];
        let mut future = Maker::ca("future");
        future.valid(10, 20);
        b.ca_file = Some(unfit.self_signed() + &future.self_signed() + &b.root.self_signed());
    }),
    ("an intermediate in the leaf's file", |b| {
        let middle = b.intermediate(|_| {});
        b.chain_file.as_mut().unwrap().push_str(&middle);
    }),
    ("an intermediate and the root in the leaf's file", |b| {
        let middle = b.intermediate(|_| {});
        let root = b.root.self_signed();
        b.chain_file.as_mut().unwrap().push_str(&(middle + &root));
    }),
    ("an expired intermediate in the leaf's file", |b| {
        let middle = b.intermediate(|middle| middle.valid(-20, -10));
        b.chain_file.as_mut().unwrap().push_str(&middle);
    }),
    ("an intermediate beside the root", |b| {
        let middle = b.intermediate(|_| {});
        b.ca_file = Some(b.root.self_signed() + &middle);
    }),
    ("an intermediate as the only anchor", |b| {
        b.ca_file = Some(b.intermediate(|_| {}));
    }),
    ("an intermediate that is missing", |b| {
        drop(b.intermediate(|_| {}));
    }),
    ("an expired intermediate beside the root", |b| {
        let middle = b.intermediate(|middle| middle.valid(-20, -10));
        b.ca_file = Some(b.root.self_signed() + &middle);
    }),
    ("an intermediate that is no authority", |b| {
        let mut middle = Maker::ca("intermediate");
        b.chain_file = Some(b.leaf.signed_by(&middle));
        middle.params.is_ca = IsCa::ExplicitNoCa;
        b.ca_file = Some(b.root.self_signed() + &middle.signed_by(&b.root));
    }),
    ("self-signed, and its own anchor", |b| {
        let own = b.leaf.self_signed();
        (b.ca_file, b.chain_file) = (Some(own.clone()), Some(own));
    }),
    ("the root itself as end certificate", |b| {
        b.chain_file = Some(b.root.self_signed());
        b.file("*-key.pem", b.root.key.serialize_pem());
    }),
    ("the end certificate as the authority", |b| {
        b.ca_file = Some(b.leaf_signed());
    }),
    // ---- files ----
    ("another key", |b| {
        b.file("*-key.pem", KeyPair::generate().unwrap().serialize_pem());
    }),
    ("another key, unchecked", |b| {
        b.file("*-key.pem", KeyPair::generate().unwrap().serialize_pem());
        b.options = ",sanity-check=off".into();
    }),
    ("no authority", |b| b.removed.push("ca-cert.pem")),
    ("no authority, and peers not verified", |b| {
        b.removed.push("ca-cert.pem");
        b.options = ",verify-peer=off".into();
    }),
    ("no authority, unchecked", |b| {
        b.removed.push("ca-cert.pem");
        b.options = ",sanity-check=off".into();
    }),
    ("peers not verified", |b| b.options = ",verify-peer=off".into()),
    ("no certificate", |b| b.removed.push("*-cert.pem")),
    ("no key", |b| b.removed.push("*-key.pem")),
    ("neither certificate nor key", |b| {
        b.removed.extend(["*-cert.pem", "*-key.pem"]);
    }),
    ("no key, and the certificate expired", |b| {
        b.leaf.valid(-20, -10);
        b.removed.push("*-key.pem");
    }),
    ("no certificate, and a key that is none", |b| {
        b.file("*-key.pem", "garbage");
        b.removed.push("*-cert.pem");
    }),
    ("an empty file of authorities", |b| b.file("ca-cert.pem", "")),
    ("an empty certificate", |b| b.file("*-cert.pem", "")),
    ("an empty key", |b| b.file("*-key.pem", "")),
    ("authorities that are none", |b| {
        b.file("ca-cert.pem", "garbage\n");
    }),
    ("a certificate that is none", |b| {
        b.file("*-cert.pem", "garbage\n");
    }),
    ("a key that is none", |b| b.file("*-key.pem", "garbage\n")),
    ("a certificate cut short", |b| {
        let text = b.leaf_signed();
        b.file("*-cert.pem", &text.as_bytes()[..text.len() / 2]);
    }),
    ("the key in the certificate's file as well", |b| {
        b.chain_file = Some(b.leaf.key.serialize_pem() + &b.leaf_signed());
    }),
    ("Windows' ends of lines", |b| {
        let text = b.leaf_signed().replace('\n', "\r\n");
        b.file("*-cert.pem", text);
    }),
    ("text before and behind", |b| {
        b.chain_file = Some(format!("Certificate:\n  Data\n{}\nend\n", b.leaf_signed()));
    }),
    ("GnuTLS's old label", |b| {
        b.chain_file = Some(b.leaf_signed().replace(" CERTIFICATE", " X509 CERTIFICATE"));
    }),
    ("OpenSSL's trusted label", |b| {
        b.chain_file = Some(b.leaf_signed().replace(" CERTIFICATE", " TRUSTED CERTIFICATE"));
    }),
    ("DER instead of PEM", |b| {
        let issuer = Issuer::from_params(&b.root.params, &b.root.key);
        let der = b
            .leaf
            .params
            .signed_by(&b.leaf.key, &issuer)
            .unwrap()
            .der()
            .to_vec();
        b.file("*-cert.pem", der);
    }),
    ("symbolic links", |b| {
        b.finally = Some(|dir| {
            for name in ["ca-cert.pem", "server-cert.pem", "server-key.pem"] {
                fs::rename(dir.join(name), dir.join(format!("real-{name}"))).unwrap();
                symlink(format!("real-{name}"), dir.join(name)).unwrap();
            }
        });
    }),
    ("a directory instead of the certificate", |b| {
        b.finally = Some(|dir| {
            for end in ["server", "client"] {
                let path = dir.join(format!("{end}-cert.pem"));
                fs::remove_file(&path).unwrap();
                fs::create_dir(path).unwrap();
            }
        });
    }),
    ("a key that others can read", |b| {
        let key = b.leaf.key.serialize_pem().into_bytes();
        for end in ["server", "client"] {
            b.files.push((format!("{end}-key.pem"), key.clone(), 0o644));
        }
    }),
    ("a key that others can read, accepted", |b| {
        let key = b.leaf.key.serialize_pem().into_bytes();
        for end in ["server", "client"] {
            b.files.push((format!("{end}-key.pem"), key.clone(), 0o644));
        }
        b.our_arguments.push("--insecure");
    }),
    // ---- kinds of keys ----
    ("an Ed25519 key", |b| {
        issued_by_openssl(b, &["-newkey", "ed25519"], &[]);
    }),
    ("an Ed25519 key with its public half", |b| {
        b.leaf.key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    }),
    ("a P-384 key", |b| {
        b.leaf.key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    }),
    ("a P-521 key", |b| {
        b.leaf.key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    }),
    ("an RSA key of 2048 bits", |b| {
        issued_by_openssl(b, &["-newkey", "rsa:2048"], &[]);
    }),
    ("an RSA key of 1024 bits", |b| {
        issued_by_openssl(b, &["-newkey", "rsa:1024"], &[]);
    }),
    ("an Ed448 key", |b| {
        issued_by_openssl(b, &["-newkey", "ed448"], &[]);
    }),
    ("signed with SHA-1", |b| {
        issued_by_openssl(
            b,
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            &["-sha1"],
        );
    }),
    ("an EC key as SEC 1 has it", |b| {
        let key = b.converted_key(&["pkey", "-traditional"]);
        b.file("*-key.pem", key);
    }),
    // ---- passwords ----
    ("an encrypted key", |b| locked(b, PBES2, "data=swordfish")),
    ("an encrypted key, wrong password", |b| {
        locked(b, PBES2, "data=marlin");
    }),
    ("an encrypted key, password with a newline", |b| {
        b.file("password", "swordfish\n");
        locked(b, PBES2, "file=password");
    }),
    ("an encrypted key, password in a file", |b| {
        b.file("password", "swordfish");
        locked(b, PBES2, "file=password");
    }),
    ("an encrypted key, password in base64", |b| {
        locked(b, PBES2, "data=c3dvcmRmaXNo,format=base64");
    }),
    ("an encrypted key, password encrypted", |b| {
        let key = "data=MDEyMzQ1Njc4OWFiY2RlZkZFRENCQTk4NzY1NDMyMTA=,format=base64";
        b.secrets.push(format!("secret,id=master,{key}"));
        locked(
            b,
            PBES2,
            "keyid=master,iv=AAAAAAAAAAAAAAAAAAAAAA==,format=base64,data=Bhu0/O0Ysps4qxXiT9kgcQ==",
        );
    }),
    ("an encrypted key, secret without iv", |b| {
        let key = "data=MDEyMzQ1Njc4OWFiY2RlZkZFRENCQTk4NzY1NDMyMTA=,format=base64";
        b.secrets.push(format!("secret,id=master,{key}"));
        locked(
            b,
            PBES2,
            "keyid=master,format=base64,data=Bhu0/O0Ysps4qxXiT9kgcQ==",
        );
    }),
    ("an encrypted key, and no password", |b| {
        locked(b, PBES2, "data=swordfish");
        b.options.clear();
    }),
    ("an encrypted key, and no such secret", |b| {
        locked(b, PBES2, "data=swordfish");
        b.secrets.clear();
    }),
    ("a password for a key that needs none", |b| {
        b.secrets.push("secret,id=sec0,data=whatever".into());
        b.options = ",passwordid=sec0".into();
    }),
    ("a password that is missing, for a key that needs none", |b| {
        b.options = ",passwordid=sec0".into();
    }),
    ("a key encrypted with AES-128 and SHA-1", |b| {
        locked(
            b,
            &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"],
            "data=swordfish",
        );
    }),
    ("a key encrypted with Triple DES", |b| {
        locked(b, &["-v2", "des3"], "data=swordfish");
    }),
    ("a key encrypted with scrypt", |b| {
        locked(b, &["-scrypt"], "data=swordfish");
    }),
    ("a key encrypted as PKCS#12 does", |b| {
        locked(b, &["-v1", "PBE-SHA1-3DES"], "data=swordfish");
    }),
    ("a key encrypted as OpenSSL used to", |b| {
        locked(b, PBES2, "data=swordfish");
        let key = b.converted_key(&["pkey", "-traditional", "-aes256", "-passout", "pass:swordfish"]);
        b.file("*-key.pem", key);
    }),
    // ---- optional files ----
    ("a revocation list", |b| revoke(b, 10, 7)),
    ("an expired revocation list", |b| revoke(b, -10, 7)),
    ("a revocation list with the own certificate", |b| {
        b.leaf.params.serial_number = Some(SerialNumber::from(7));
        revoke(b, 10, 7);
    }),
    ("a revocation list that is none", |b| {
        b.file("ca-crl.pem", "garbage\n");
    }),
    ("a revocation list that is none, not wanted", |b| {
        b.file("ca-crl.pem", "garbage\n");
        b.our_options = ",crl=off".into();
    }),
    ("an empty revocation list file", |b| b.file("ca-crl.pem", "")),
    ("Diffie-Hellman parameters", |b| {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "genpkey",
            "-genparam",
            "-algorithm",
            "DH",
            "-pkeyopt",
            "group:ffdhe2048",
        ]);
        b.file("dh-params.pem", succeed(&mut openssl).unwrap());
    }),
    ("Diffie-Hellman parameters that are none", |b| {
        b.file("dh-params.pem", "garbage\n");
    }),
    ("a numbered pair beside", |b| numbered(b, true)),
    ("a numbered pair only", |b| {
        numbered(b, true);
        b.removed.extend(["*-cert.pem", "*-key.pem"]);
    }),
    ("half a numbered pair beside", |b| numbered(b, false)),
];

const PBES2: &[&str] = &["-v2", "aes-256-cbc"];

/// The key is encrypted with the password `swordfish`, and the object is given a secret.
fn locked(build: &mut Build, form: &[&str], secret: &str) {
    let usual = ["pkcs8", "-topk8", "-passout", "pass:swordfish"];
    let key = build.converted_key(&[&usual[..], form].concat());
    build.file("*-key.pem", key);
    build.secrets.push(format!("secret,id=sec0,{secret}"));
    build.options = ",passwordid=sec0".into();
}

/// A list that revokes one serial number, due again in so many days.
fn revoke(build: &mut Build, next_update: i64, serial: u64) {
    let now = OffsetDateTime::now_utc();
    let params = CertificateRevocationListParams {
        this_update: now - Duration::days(20),
        next_update: now + Duration::days(next_update),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: now - Duration::days(20),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let issuer = Issuer::from_params(&build.root.params, &build.root.key);
    let list = params.signed_by(&issuer).unwrap().pem().unwrap();
    build.file("ca-crl.pem", list);
}

fn numbered(build: &mut Build, whole: bool) {
    build.file("*-cert-0.pem", build.leaf_signed());
    if whole {
        build.file("*-key-0.pem", build.leaf.key.serialize_pem());
    }
}

/// For what rcgen does not make: OpenSSL makes the key and request, and signs it with the root.
fn issued_by_openssl(build: &mut Build, key: &[&str], sign: &[&str]) {
    let at = |name: &str| build.dir.join(name);
    fs::write(at("root.pem"), build.root.self_signed()).unwrap();
    fs::write(at("root-key.pem"), build.root.key.serialize_pem()).unwrap();
    let extensions =
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n";
    fs::write(at("extensions"), extensions).unwrap();
    let run = |arguments: &[&str]| {
        succeed(Command::new("openssl").args(arguments).current_dir(&build.dir)).unwrap()
    };
    let request = [
        "req",
        "-nodes",
        "-subj",
        "/CN=leaf",
        "-keyout",
        "key.pem",
        "-out",
        "request.pem",
    ];
    run(&[&request[..], key].concat());
    let issue = [
        "x509",
        "-req",
        "-days",
        "5",
        "-CA",
        "root.pem",
        "-CAkey",
        "root-key.pem",
        "-in",
        "request.pem",
        "-extfile",
        "extensions",
        "-out",
        "leaf.pem",
    ];
    run(&[&issue[..], sign].concat());
    let (certificate, key) = (
        fs::read(at("leaf.pem")).unwrap(),
        fs::read(at("key.pem")).unwrap(),
    );
    build.file("*-cert.pem", certificate);
    build.file("*-key.pem", key);
}
