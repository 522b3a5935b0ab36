//! The certificates that `qio pki` makes, before the programs that have to take them, and theirs before ours.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use qio_creds::pki::{
    Authority, AuthorityTemplate, Directory, KeyKind, Overwrite, Purpose, Template, Validity,
};
use qio_creds::{
    CertificateSummary, CredsError, Defect, Endpoint, KeyPermissions, TlsCreds, TlsCredsX509Options,
};
use qio_interop::{Listening, Peer, free_port, qemu_path, require, run, succeed, wait_listening};

/// The kinds that are quick to make; 4096 bits differ from 3072 in nothing but time.
const KINDS: [KeyKind; 5] = [
    KeyKind::EcdsaP256,
    KeyKind::EcdsaP384,
    KeyKind::Ed25519,
    KeyKind::Rsa2048,
    KeyKind::Rsa3072,
];

const ENDPOINTS: [Endpoint; 2] = [Endpoint::Server, Endpoint::Client];

/// A credentials directory as `qio pki init`, `server` and `client` make it.
struct Pki {
    directory: Directory,
    authority: Authority,
    _tmp: tempfile::TempDir,
}

impl Pki {
    fn new(kind: KeyKind) -> anyhow::Result<Self> {
        let template = AuthorityTemplate::new("Interop CA").organization("qio").key(kind);
        let pki = Self::of(Authority::create(&template)?)?;
        pki.issue(Purpose::Server, &server().key(kind))?;
        pki.issue(Purpose::Client, &client().key(kind))?;
        Ok(pki)
    }

    /// With nothing but the authority in it.
    fn of(authority: Authority) -> anyhow::Result<Self> {
        let tmp = tempfile::tempdir()?;
        let directory = Directory::create(tmp.path().join("pki"))?;
        directory.write_authority(&authority, Overwrite::Refuse)?;
        Ok(Self {
            directory,
            authority,
            _tmp: tmp,
        })
    }

    fn issue(&self, purpose: Purpose, template: &Template) -> anyhow::Result<()> {
        self.directory
            .write_pair(purpose, &self.authority.issue(template)?, Overwrite::Replace)?;
        Ok(())
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn ca(&self) -> PathBuf {
        self.directory.ca_certificate()
    }

    fn certificate(&self, endpoint: Endpoint) -> PathBuf {
        self.directory.certificate(endpoint)
    }

    fn key(&self, endpoint: Endpoint) -> PathBuf {
        self.directory.key(endpoint)
    }

    fn load(&self, endpoint: Endpoint) -> Result<TlsCreds, CredsError> {
        load(self.path(), endpoint)
    }
}

fn load(dir: &Path, endpoint: Endpoint) -> Result<TlsCreds, CredsError> {
    TlsCreds::load(TlsCredsX509Options::new(endpoint, dir), KeyPermissions::Private)
}

fn server() -> Template {
    let names = ["localhost", "127.0.0.1", "::1"].map(|name| name.parse().unwrap());
    names
        .into_iter()
        .fold(Template::new(Purpose::Server), Template::name)
}

fn client() -> Template {
    Template::new(Purpose::Client)
        .common_name("interop client")
        .organization("qio, Inc.")
}

fn certtool() -> anyhow::Result<Command> {
    Ok(Command::new(require("certtool", "gnutls-bin")?))
}

fn openssl() -> anyhow::Result<Command> {
    Ok(Command::new(require("openssl", "openssl")?))
}

// ---- certtool and openssl read them ----

#[test]
fn certtool_and_openssl_verify_every_kind_of_key() -> anyhow::Result<()> {
    for kind in KINDS {
        let pki = Pki::new(kind)?;
        for (endpoint, purpose) in [(Endpoint::Server, "sslserver"), (Endpoint::Client, "sslclient")] {
            let certificate = pki.certificate(endpoint);
            let about = || format!("{kind} {endpoint}");
            let mut verify = certtool()?;
            verify.arg("--verify").arg("--load-ca-certificate").arg(pki.ca());
            succeed(verify.arg("--infile").arg(&certificate)).with_context(about)?;

            let mut verify = openssl()?;
            verify.args([
                "verify",
                "-x509_strict",
                "-check_ss_sig",
                "-purpose",
                purpose,
                "-CAfile",
            ]);
            succeed(verify.arg(pki.ca()).arg(&certificate)).with_context(about)?;

            succeed(
                certtool()?
                    .args(["--key-info", "--infile"])
                    .arg(pki.key(endpoint)),
            )?;
            succeed(
                openssl()?
                    .args(["pkey", "-noout", "-check", "-in"])
                    .arg(pki.key(endpoint)),
            )?;
        }
        for (option, name, taken) in [
            ("-verify_hostname", "localhost", true),
            ("-verify_ip", "127.0.0.1", true),
            ("-verify_ip", "::1", true),
            ("-verify_hostname", "other.example", false),
        ] {
            let mut verify = openssl()?;
            verify.args(["verify", option, name, "-CAfile"]).arg(pki.ca());
            let finished = run(verify.arg(pki.certificate(Endpoint::Server)))?;
            ensure!(
                finished.status.success() == taken,
                "{kind} {name}: {}",
                finished.output
            );
        }
    }
    Ok(())
}

#[test]
fn certtool_reads_what_we_read() -> anyhow::Result<()> {
    let pki = Pki::new(KeyKind::EcdsaP256)?;
    for endpoint in ENDPOINTS {
        let printed = succeed(
            certtool()?
                .args(["--certificate-info", "--infile"])
                .arg(pki.certificate(endpoint)),
        )?;
        let snapshot = pki.load(endpoint)?.snapshot();
        let leaf = snapshot
            .x509()
            .context("certificates")?
            .identities()
            .first()
            .and_then(|identity| identity.chain().first());
        let summary = CertificateSummary::from_der(leaf.context("no certificate")?)?;

        // certtool prints names in RFC 4514's order, the reverse of the certificate's and of QEMU's.
        let reversed = |name: &str| {
            let joined = name.replace("\\,", "\0");
            let parts: Vec<_> = joined.split(',').rev().collect();
            parts.join(",").replace('\0', "\\,")
        };
        for expected in [
            format!("Subject: {}", reversed(&summary.subject)),
            format!("Issuer: {}", reversed(&summary.issuer)),
            format!("Serial Number (hex): {}", summary.serial),
            format!("sha256:{}", summary.sha256),
        ] {
            ensure!(printed.contains(&expected), "{expected:?} is not in:\n{printed}");
        }
    }
    Ok(())
}

// ---- QEMU ----

fn disk(pki: &Pki) -> anyhow::Result<PathBuf> {
    let disk = pki.path().join("disk.raw");
    std::fs::write(&disk, vec![0x5a; 1 << 20])?;
    Ok(disk)
}

fn object(dir: &Path, endpoint: Endpoint) -> String {
    format!(
        "tls-creds-x509,id=tls0,dir={},endpoint={endpoint}",
        qemu_path(dir)
    )
}

fn qemu_nbd(pki: &Pki) -> anyhow::Result<(Peer, u16)> {
    let disk = disk(pki)?;
    let port = free_port()?;
    let mut command = Command::new(require("qemu-nbd", "qemu-utils")?);
    command.args([
        "--object",
        &object(pki.path(), Endpoint::Server),
        "--tls-creds",
        "tls0",
    ]);
    command.args([
        "--persistent",
        "--shared",
        "4",
        "--format",
        "raw",
        "--bind",
        "127.0.0.1",
    ]);
    let mut peer = Peer::spawn(command.arg("--port").arg(port.to_string()).arg(disk))?;
    wait_listening(&mut peer, &Listening::Tcp(port))?;
    Ok((peer, port))
}

fn qemu_img_info(object: &str, port: u16) -> anyhow::Result<Command> {
    let mut command = Command::new(require("qemu-img", "qemu-utils")?);
    command.args(["info", "--object", object, "--image-opts"]);
    command.arg(format!("driver=nbd,host=127.0.0.1,port={port},tls-creds=tls0"));
    Ok(command)
}

fn client_object(pki: &Pki) -> String {
    object(pki.path(), Endpoint::Client)
}

#[test]
fn qemu_serves_and_reads_with_every_kind_of_key() -> anyhow::Result<()> {
    for kind in KINDS {
        let pki = Pki::new(kind)?;
        let (server, port) = qemu_nbd(&pki)?;
        let info = succeed(&mut qemu_img_info(&client_object(&pki), port)?)
            .with_context(|| format!("{kind}; the server printed:\n{}", server.output()))?;
        ensure!(info.contains("virtual size: 1 MiB"), "{kind}: {info}");
    }
    Ok(())
}

#[test]
fn qemu_takes_one_certificate_for_both_ends() -> anyhow::Result<()> {
    let pki = Pki::of(Authority::create(&AuthorityTemplate::new("CA"))?)?;
    pki.issue(
        Purpose::Both,
        &Template::new(Purpose::Both).name("127.0.0.1".parse()?),
    )?;
    let (_server, port) = qemu_nbd(&pki)?;
    succeed(&mut qemu_img_info(&client_object(&pki), port)?)?;
    Ok(())
}

#[test]
fn qemu_refuses_a_client_of_another_authority_and_one_without_certificate() -> anyhow::Result<()> {
    let pki = Pki::new(KeyKind::EcdsaP256)?;
    let (_server, port) = qemu_nbd(&pki)?;

    // Both clients trust the server. The first one's certificate comes from elsewhere: QEMU's own check must be off.
    let other = Pki::new(KeyKind::EcdsaP256)?;
    let bare = Pki::of(Authority::create(&AuthorityTemplate::new("CA"))?)?;
    for stranger in [&other, &bare] {
        stranger
            .directory
            .write_ca_certificate(pki.authority.certificate(), Overwrite::Replace)?;
        let object = format!("{},sanity-check=off", client_object(stranger));
        let finished = run(&mut qemu_img_info(&object, port)?)?;
        ensure!(
            !finished.status.success(),
            "a stranger was served: {}",
            finished.output
        );
    }

    // And the next honest client is served.
    succeed(&mut qemu_img_info(&client_object(&pki), port)?)?;
    Ok(())
}

/// Whether QEMU loads a directory for this endpoint: a server then starts, and a client goes on to find nobody at
/// the other end.
fn qemu_loads(pki: &Pki, endpoint: Endpoint) -> anyhow::Result<bool> {
    match endpoint {
        Endpoint::Server => Ok(qemu_nbd(pki).is_ok()),
        Endpoint::Client => {
            let nobody = free_port()?;
            let finished = run(&mut qemu_img_info(&client_object(pki), nobody)?)?;
            Ok(finished.output.contains("Connection refused"))
        }
    }
}

fn copy(pki: &Pki, from: &str, to: &str) -> anyhow::Result<()> {
    let text = std::fs::read(pki.path().join(from))?;
    std::fs::write(pki.path().join(to), text)?; // the mode stays that of the file replaced
    Ok(())
}

fn between(from: i32, to: i32) -> Validity {
    let may = |year| time::Date::from_calendar_date(year, time::Month::May, 1).unwrap();
    let moment = |year| may(year).midnight().assume_utc();
    Validity::Between {
        not_before: moment(from),
        not_after: moment(to),
    }
}

/// A directory, and how it is broken.
type Case = (&'static str, fn(&Pki) -> anyhow::Result<()>);

const CASES: [Case; 13] = [
    ("as it should be", |_| Ok(())),
    ("expired", |pki| {
        pki.issue(
            Purpose::Both,
            &Template::new(Purpose::Both).validity(between(2015, 2016)),
        )
    }),
    ("not yet valid", |pki| {
        pki.issue(
            Purpose::Both,
            &Template::new(Purpose::Both).validity(between(2090, 2095)),
        )
    }),
    ("an expired authority", |pki| {
        let template = AuthorityTemplate::new("CA").validity(between(2015, 2016));
        let ca = Authority::create(&template)?;
        pki.directory.write_authority(&ca, Overwrite::Replace)?;
        let pair = ca.issue(&Template::new(Purpose::Both).validity(between(2015, 2095)))?;
        pki.directory
            .write_pair(Purpose::Both, &pair, Overwrite::Replace)?;
        Ok(())
    }),
    ("of another authority", |pki| {
        let other = Authority::create(&AuthorityTemplate::new("Other CA"))?;
        pki.directory
            .write_ca_certificate(other.certificate(), Overwrite::Replace)?;
        Ok(())
    }),
    ("of the authority's namesake", |pki| {
        let namesake = Authority::create(&AuthorityTemplate::new("Interop CA").organization("qio"))?;
        pki.directory
            .write_ca_certificate(namesake.certificate(), Overwrite::Replace)?;
        Ok(())
    }),
    ("the authority as its own leaf", |pki| {
        pki.directory
            .write_pair(Purpose::Both, pki.authority.pair(), Overwrite::Replace)?;
        Ok(())
    }),
    ("a leaf as authority", |pki| {
        copy(pki, "server-cert.pem", "ca-cert.pem")
    }),
    ("each other's keys", |pki| {
        copy(pki, "server-key.pem", "ca-key.pem")?;
        copy(pki, "client-key.pem", "server-key.pem")?;
        copy(pki, "ca-key.pem", "client-key.pem")
    }),
    ("the other end's certificates", |pki| {
        for kind in ["cert", "key"] {
            copy(pki, &format!("server-{kind}.pem"), "swap.pem")?;
            copy(pki, &format!("client-{kind}.pem"), &format!("server-{kind}.pem"))?;
            copy(pki, "swap.pem", &format!("client-{kind}.pem"))?;
        }
        Ok(())
    }),
    ("no authority", |pki| Ok(std::fs::remove_file(pki.ca())?)),
    ("no keys", |pki| {
        Ok(ENDPOINTS
            .into_iter()
            .try_for_each(|end| std::fs::remove_file(pki.key(end)))?)
    }),
    ("no certificates", |pki| {
        Ok(ENDPOINTS
            .into_iter()
            .try_for_each(|end| std::fs::remove_file(pki.certificate(end)))?)
    }),
];

#[test]
fn we_load_what_qemu_loads_and_refuse_what_it_refuses() -> anyhow::Result<()> {
    let mut differing = Vec::new();
    for (what, spoil) in CASES {
        let pki = Pki::new(KeyKind::EcdsaP256)?;
        spoil(&pki).with_context(|| what.to_owned())?;
        for endpoint in ENDPOINTS {
            let (ours, qemus) = (pki.load(endpoint), qemu_loads(&pki, endpoint)?);
            // A client with half a pair: QEMU before 10.2 goes on without a certificate and says nothing, later ones
            // refuse as we do.
            let half = matches!(&ours, Err(error) if error
                .problems()
                .iter()
                .any(|problem| matches!(problem.what, Defect::HalfAPair { .. })));
            if ours.is_ok() != qemus && !(half && endpoint == Endpoint::Client) {
                differing.push(format!(
                    "{what}, {endpoint}: does QEMU load it? {qemus}; ours: {ours:?}"
                ));
            }
        }
    }
    ensure!(differing.is_empty(), "{}", differing.join("\n"));
    Ok(())
}

// ---- GnuTLS and OpenSSL with each other ----

#[test]
fn gnutls_serves_openssl_with_mutual_authentication() -> anyhow::Result<()> {
    for kind in KINDS {
        let pki = Pki::new(kind)?;
        let port = free_port()?;
        let mut command = Command::new(require("gnutls-serv", "gnutls-bin")?);
        command.args(["--echo", "--require-client-cert", "--verify-client-cert"]);
        command.arg("--port").arg(port.to_string());
        command.arg("--x509cafile").arg(pki.ca());
        command
            .arg("--x509certfile")
            .arg(pki.certificate(Endpoint::Server));
        command.arg("--x509keyfile").arg(pki.key(Endpoint::Server));
        let mut server = Peer::spawn(&mut command)?;
        wait_listening(&mut server, &Listening::Tcp(port))?;

        let mut command = openssl()?;
        command.args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-verify_hostname",
            "localhost",
        ]);
        command.arg("-connect").arg(format!("127.0.0.1:{port}"));
        command.arg("-CAfile").arg(pki.ca());
        command.arg("-cert").arg(pki.certificate(Endpoint::Client));
        command.arg("-key").arg(pki.key(Endpoint::Client));
        let mut client = Peer::spawn(&mut command)?;
        client.write(b"across the wire\n")?;
        client
            .wait_for_output("across the wire")
            .with_context(|| format!("{kind}; the server printed:\n{}", server.output()))?;
    }
    Ok(())
}

#[test]
fn openssl_serves_gnutls_with_mutual_authentication() -> anyhow::Result<()> {
    for kind in KINDS {
        let pki = Pki::new(kind)?;
        let port = free_port()?;
        let mut command = openssl()?;
        command.args(["s_server", "-rev", "-Verify", "1", "-verify_return_error"]);
        command.arg("-accept").arg(format!("127.0.0.1:{port}"));
        command.arg("-CAfile").arg(pki.ca());
        command.arg("-cert").arg(pki.certificate(Endpoint::Server));
        command.arg("-key").arg(pki.key(Endpoint::Server));
        let mut server = Peer::spawn(&mut command)?;
        wait_listening(&mut server, &Listening::Tcp(port))?;

        let mut command = Command::new(require("gnutls-cli", "gnutls-bin")?);
        command.arg("--port").arg(port.to_string());
        command.arg("--x509cafile").arg(pki.ca());
        command
            .arg("--x509certfile")
            .arg(pki.certificate(Endpoint::Client));
        command.arg("--x509keyfile").arg(pki.key(Endpoint::Client));
        let mut client = Peer::spawn(command.arg("localhost"))?;
        client.write(b"drawer\n")?;
        client
            .wait_for_output("reward")
            .with_context(|| format!("{kind}; the server printed:\n{}", server.output()))?;
    }
    Ok(())
}

// ---- what other tools made ----

#[test]
fn a_directory_that_certtool_made_loads_and_its_authority_issues() -> anyhow::Result<()> {
    let tmp = tempfile::tempdir()?;
    let at = |name: &str| tmp.path().join(name);
    for (end, kind, template) in [
        ("ca", "rsa", "cn = An authority\nca\ncert_signing_key\n"),
        (
            "server",
            "ecdsa",
            "organization = A firm\ncn = server.example\ndns_name = localhost\nip_address = 127.0.0.1\n\
             tls_www_server\nencryption_key\nsigning_key\n",
        ),
        (
            "client",
            "ed25519",
            "country = GB\nstate = London\ncn = client\ntls_www_client\nsigning_key\n",
        ),
    ] {
        let (info, key) = (at(&format!("{end}.info")), at(&format!("{end}-key.pem")));
        std::fs::write(&info, template)?;
        succeed(
            certtool()?
                .args(["--generate-privkey", "--key-type", kind, "--outfile"])
                .arg(&key),
        )?;
        let mut command = certtool()?;
        if end == "ca" {
            command.arg("--generate-self-signed");
        } else {
            command
                .arg("--generate-certificate")
                .arg("--load-ca-certificate")
                .arg(at("ca-cert.pem"));
            command.arg("--load-ca-privkey").arg(at("ca-key.pem"));
        }
        command.arg("--load-privkey").arg(key).arg("--template").arg(info);
        succeed(command.arg("--outfile").arg(at(&format!("{end}-cert.pem"))))?;
    }
    for endpoint in ENDPOINTS {
        let snapshot = load(tmp.path(), endpoint)?.snapshot();
        ensure!(
            snapshot.warnings().is_empty(),
            "{endpoint}: {:?}",
            snapshot.warnings()
        );
    }

    let authority = Authority::load(&Directory::existing(tmp.path()), KeyPermissions::Private)?;
    std::fs::write(at("ours.pem"), authority.issue(&server())?.certificate_pem())?;
    let mut verify = certtool()?;
    verify
        .arg("--verify")
        .arg("--load-ca-certificate")
        .arg(at("ca-cert.pem"));
    succeed(verify.arg("--infile").arg(at("ours.pem")))?;
    Ok(())
}

#[test]
fn older_forms_of_keys_load_and_encrypted_ones_are_told() -> anyhow::Result<()> {
    for (kind, label) in [
        (KeyKind::Rsa2048, "RSA PRIVATE KEY"),
        (KeyKind::EcdsaP384, "EC PRIVATE KEY"),
    ] {
        let pki = Pki::new(kind)?;
        let key = pki.key(Endpoint::Server);
        let traditional = succeed(openssl()?.args(["pkey", "-traditional", "-in"]).arg(&key))?;
        ensure!(traditional.contains(label), "{traditional}");
        std::fs::write(&key, &traditional)?;
        pki.load(Endpoint::Server)?;
        // As `openssl ecparam -genkey` writes it.
        let parameters = "-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n";
        std::fs::write(&key, format!("{parameters}{traditional}"))?;
        pki.load(Endpoint::Server)?;

        let pkcs8: &[&str] = &["pkcs8", "-topk8", "-v2", "aes256"];
        for form in [pkcs8, &["pkey", "-traditional", "-aes256"]] {
            std::fs::write(&key, &traditional)?;
            let encrypt = &mut openssl()?;
            let encrypted = succeed(
                encrypt
                    .args(form)
                    .args(["-passout", "pass:secret", "-in"])
                    .arg(&key),
            )?;
            std::fs::write(&key, encrypted)?;
            let error = pki
                .load(Endpoint::Server)
                .err()
                .context("an encrypted key was taken")?;
            ensure!(
                matches!(error.problems(), [p] if matches!(p.what, Defect::KeyEncrypted)),
                "{error}"
            );
        }
    }
    Ok(())
}
