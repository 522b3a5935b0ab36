//! Access lists, against QEMU's: the same clients pass, and names are spelled exactly alike.

#[path = "authz/certificates.rs"]
mod certificates;
#[path = "authz/subjects.rs"]
mod subjects;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use interop::site::{EXPORT, qio};
use interop::{Listening, Peer, free_port, qemu_path, wait_listening};
use qio_creds::{CertificateSummary, KeyPermissions, TlsCreds, TlsCredsX509Options};
use qio_nbd::client::{ClientError, ConnectOptions, Session, TlsSetup};
use qio_socket::SocketAddress;

use serde_json::Value;

use certificates::{Authority, Subject};
use qio_interop as interop;

/// A server with an access list.
struct Server {
    peer: Peer,
    port: u16,
}

impl Server {
    fn start(mut command: Command, dir: &Path, authz: &Value) -> anyhow::Result<Self> {
        let port = free_port()?;
        let image = dir.with_extension("img");
        std::fs::File::create(&image)?.set_len(1 << 20)?;
        let creds = format!("tls-creds-x509,id=tls0,endpoint=server,dir={}", qemu_path(dir));
        command
            .args(["-t", "-e", "0", "-f", "raw", "-x", EXPORT, "-b", "127.0.0.1"])
            .args([
                "-p",
                &port.to_string(),
                "--object",
                &creds,
                "--object",
                &authz.to_string(),
            ])
            .args(["--tls-creds", "tls0", "--tls-authz", "authz0"])
            .arg(&image);
        let mut peer = Peer::spawn(&mut command)?;
        wait_listening(&mut peer, &Listening::Tcp(port))?;
        Ok(Server { peer, port })
    }

    fn qemu(dir: &Path, list: &Value) -> anyhow::Result<Self> {
        Self::start(Command::new("qemu-nbd"), dir, list)
    }

    fn qio(dir: &Path, list: &Value) -> anyhow::Result<Self> {
        let mut command = qio()?;
        command.args(["-v", "nbd", "serve"]);
        Self::start(command, dir, list)
    }

    /// Whether the server lets a client in that has this directory.
    fn admits(&self, client: &Path) -> anyhow::Result<bool> {
        let mut options = TlsCredsX509Options::client(client);
        // What our own checks think of such a certificate does not matter here.
        options.sanity_check = false;
        let creds = TlsCreds::load(options, KeyPermissions::Private)?.for_client()?;
        let tls = TlsSetup::Require {
            creds,
            hostname: Some("localhost".to_owned()),
        };
        let options = ConnectOptions {
            tls,
            ..ConnectOptions::default()
        };
        let export = EXPORT.parse()?;
        // With TLS 1.3 a client learns that it was refused when it reads for the first time.
        let session = Session::connect(&SocketAddress::tcp("127.0.0.1", self.port), &options);
        match session.and_then(|mut session| session.info(&export)) {
            Ok(_) => Ok(true),
            Err(error @ ClientError::Refused(_)) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }
}

fn summary(client: &Path) -> anyhow::Result<CertificateSummary> {
    use qio_creds::rustls_pki_types::CertificateDer;
    use qio_creds::rustls_pki_types::pem::PemObject as _;
    let der = CertificateDer::from_pem_file(client.join("client-cert.pem"))?;
    Ok(CertificateSummary::from_der(&der)?)
}

/// The same verdict on all these names, and another on everybody else. It goes on the command line as JSON: Debian's
/// qemu-nbd has no authz-list-file.
fn list(policy: &str, names: &[String], verdict: &str) -> Value {
    let rules: Vec<_> = names
        .iter()
        .map(|name| serde_json::json!({"match": name, "policy": verdict}))
        .collect();
    serde_json::json!({"qom-type": "authz-list", "id": "authz0", "policy": policy, "rules": rules})
}

struct Clients {
    subjects: Vec<Subject>,
    dirs: Vec<PathBuf>,
    names: Vec<String>,
}

impl Clients {
    fn new(place: &Path, authority: &Authority) -> anyhow::Result<Self> {
        let mut clients = Clients {
            subjects: subjects::all(),
            dirs: Vec::new(),
            names: Vec::new(),
        };
        for (i, subject) in clients.subjects.iter().enumerate() {
            let dir = place.join(format!("client{i}"));
            authority
                .client(&dir, subject)
                .with_context(|| format!("{subject:?}"))?;
            let name = summary(&dir).with_context(|| format!("{subject:?}"))?.subject;
            clients.dirs.push(dir);
            clients.names.push(name);
        }
        Ok(clients)
    }
}

/// cred_27 (as decisions.md 10 has it): a list that holds every name as we spell it admits every client of QEMU's, and
/// one that excludes exactly these excludes them all.
#[test]
fn cred_27_names_are_spelled_as_qemu_spells_them() -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let server = place.path().join("server");
    authority.server(&server)?;
    let clients = Clients::new(place.path(), &authority)?;
    let stranger = place.path().join("stranger");
    authority.client(
        &stranger,
        &vec![vec![(
            "2.5.4.3",
            x509_cert::der::Tag::Utf8String,
            b"stranger".to_vec(),
        )]],
    )?;

    let allowed = list("deny", &clients.names, "allow");
    let denied = list("allow", &clients.names, "deny");
    let qemu_allows = Server::qemu(&server, &allowed)?;
    let qemu_denies = Server::qemu(&server, &denied)?;
    let ours_allows = Server::qio(&server, &allowed)?;
    let ours_denies = Server::qio(&server, &denied)?;

    let mut wrong = Vec::new();
    for ((dir, name), subject) in clients.dirs.iter().zip(&clients.names).zip(&clients.subjects) {
        let servers = [&qemu_allows, &qemu_denies, &ours_allows, &ours_denies];
        let verdicts: Vec<_> = servers
            .into_iter()
            .map(|server| server.admits(dir))
            .collect::<Result<_, _>>()?;
        let qemus = if subjects::has_no_spelling(subject) {
            [false, false]
        } else if subjects::is_not_text(subject) {
            [false, true]
        } else {
            [true, false]
        };
        if verdicts != [qemus[0], qemus[1], true, false] {
            wrong.push(format!("{name:?}: {verdicts:?}"));
        }
    }
    for (server, admits) in [
        (&qemu_allows, false),
        (&qemu_denies, true),
        (&ours_allows, false),
        (&ours_denies, true),
    ] {
        assert_eq!(server.admits(&stranger)?, admits, "{}", server.peer.output());
    }
    eprintln!("{} names", clients.names.len());
    assert!(
        wrong.is_empty(),
        "{} names of {} differ:\n{}\n\nqemu-nbd:\n{}\n{}",
        wrong.len(),
        clients.names.len(),
        wrong.join("\n"),
        qemu_allows.peer.output(),
        qemu_denies.peer.output(),
    );
    Ok(())
}

/// A place with a server's directory and one client's, called `tester`.
fn place() -> anyhow::Result<(tempfile::TempDir, PathBuf, PathBuf)> {
    let place = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let (server, client) = (place.path().join("server"), place.path().join("client"));
    authority.server(&server)?;
    let tag = x509_cert::der::Tag::Utf8String;
    authority.client(&client, &vec![vec![("2.5.4.3", tag, b"tester".to_vec())]])?;
    Ok((place, server, client))
}

/// A list that is named and not there lets nobody in, of QEMU's servers and of ours.
#[test]
fn cred_28_a_list_that_is_not_there_lets_nobody_in() -> anyhow::Result<()> {
    let (_place, server, client) = place()?;
    let elsewhere = serde_json::json!({"qom-type": "authz-list", "id": "other", "policy": "allow"});
    for server in [
        Server::qemu(&server, &elsewhere)?,
        Server::qio(&server, &elsewhere)?,
    ] {
        assert!(!server.admits(&client)?, "{}", server.peer.output());
    }
    Ok(())
}

/// What is in the file counts from one client to the next; a broken one leaves the old rules in force.
#[test]
fn a_list_in_a_file_may_change_while_serving() -> anyhow::Result<()> {
    let (place, server, client) = place()?;
    let file = place.path().join("access.json");
    let write = |text: &str| -> anyhow::Result<()> {
        let new = place.path().join("access.new");
        std::fs::write(&new, text)?;
        Ok(std::fs::rename(&new, &file)?)
    };
    write(r#"{"policy": "deny"}"#)?;
    let list = serde_json::json!({"qom-type": "authz-list-file", "id": "authz0", "filename": file});
    let mut server = Server::qio(&server, &list)?;
    assert!(!server.admits(&client)?);
    server.peer.wait_for_output("CN=tester")?;

    write(r#"{"rules": [{"match": "CN=t?ster", "policy": "allow", "format": "glob"}]}"#)?;
    server.peer.wait_for_output("access list reloaded")?;
    assert!(server.admits(&client)?, "{}", server.peer.output());

    write(r#"{"rules": [{"match": "CN=t?ster", "policy": "deny""#)?;
    server.peer.wait_for_output("the old rules stay in force")?;
    assert!(server.admits(&client)?, "{}", server.peer.output());
    Ok(())
}

/// QEMU takes a list together with verify-peer=off, and lets everybody in. We refuse the pair.
#[test]
fn a_list_needs_verified_clients() -> anyhow::Result<()> {
    let (place, server, client) = place()?;
    let image = place.path().join("image");
    std::fs::File::create(&image)?.set_len(1 << 20)?;
    let creds = format!(
        "tls-creds-x509,id=tls0,endpoint=server,verify-peer=off,dir={}",
        qemu_path(&server)
    );
    let arguments = |command: &mut Command, port: u16| {
        command
            .args(["-t", "-e", "0", "-f", "raw", "-x", EXPORT, "-b", "127.0.0.1"])
            .args(["-p", &port.to_string(), "--object", &creds, "--tls-creds", "tls0"])
            .args([
                "--object",
                "authz-list,id=authz0,policy=deny",
                "--tls-authz",
                "authz0",
            ])
            .arg(&image);
    };
    let port = free_port()?;
    let mut command = Command::new("qemu-nbd");
    arguments(&mut command, port);
    let mut peer = Peer::spawn(&mut command)?;
    wait_listening(&mut peer, &Listening::Tcp(port))?;
    let qemu = Server { peer, port };
    assert!(
        qemu.admits(&client)?,
        "QEMU has begun to look at the list: {}",
        qemu.peer.output()
    );

    let mut command = qio()?;
    command.args(["nbd", "serve"]);
    arguments(&mut command, free_port()?);
    let refused = interop::run(&mut command)?;
    assert!(!refused.status.success());
    assert!(refused.output.contains("verify-peer=off"), "{}", refused.output);
    Ok(())
}
