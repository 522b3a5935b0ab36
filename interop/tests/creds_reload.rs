//! Credentials that change under a running service: new clients meet the new files, open sessions live on, and not
//! one handshake fails.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, ensure};
use qio_creds::{KeyPermissions, TlsCreds, TlsCredsX509Options};
use qio_interop::site::{EXPORT, NbdServer, Route, Site, fail_with, own_program, qio};
use qio_interop::{Listening, Peer, free_port, qemu_path, require, succeed, wait_listening};
use qio_nbd::client::{Client, ConnectOptions, Session, TlsSetup};
use qio_socket::SocketAddress;

const RENEWALS: usize = 5;

#[test]
fn one_object_for_two_services_renewed_under_load() -> anyhow::Result<()> {
    let printed = succeed(Command::new(own_program("examples/shared_creds")?).arg("30"))?;
    ensure!(
        printed.contains("30 renewals") && printed.contains("none failed"),
        "{printed}"
    );
    Ok(())
}

/// A client of ours with credentials from a folder of the site.
fn connect(site: &Site, server: &NbdServer, folder: &str) -> anyhow::Result<Client> {
    let options = TlsCredsX509Options::client(site.path(folder));
    let options = ConnectOptions {
        tls: TlsSetup::Require {
            creds: TlsCreds::load(options, KeyPermissions::Private)?.for_client()?,
            hostname: Some("localhost".to_owned()),
        },
        ..ConnectOptions::default()
    };
    let session = Session::connect(&SocketAddress::tcp("127.0.0.1", server.port()), &options)?;
    Ok(session.go(&EXPORT.parse()?)?)
}

fn qemu_img(site: &Site, server: &NbdServer) -> Command {
    let mut command = server.qemu_tool(site, "qemu-img", &["info"]);
    command.args(["--image-opts", &server.qemu_options()]);
    command
}

/// Issues the server's certificate anew.
fn renew(site: &Site) -> anyhow::Result<()> {
    let names = ["--name", "localhost", "--name", "127.0.0.1", "--force"];
    succeed(qio()?.args(["pki", "server"]).arg(site.path("pki")).args(names))?;
    Ok(())
}

/// How often the server has said that it reloaded.
fn reloads(peer: &Peer) -> usize {
    peer.output().matches("TLS credentials reloaded").count()
}

#[test]
fn a_server_follows_its_certificates_under_load() -> anyhow::Result<()> {
    require("qemu-img", "qemu-utils")?;
    let site = Site::new()?;
    let image = site.image("image", 4 << 20)?;
    let mut server = NbdServer::qio(&site, Route::Tls, &image)?;
    let mut open = connect(&site, &server, "pki")?;
    let mut before = vec![0; 1 << 20];
    open.read_at(&mut before, 0)?;

    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| -> anyhow::Result<()> {
        let (site, done, served) = (&site, &done, &served);
        let clients = {
            let server = &server;
            let ours = scope.spawn(move || -> anyhow::Result<()> {
                while !done.load(Ordering::Relaxed) {
                    connect(site, server, "pki")?.disconnect()?;
                    served.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
            let qemus = scope.spawn(move || -> anyhow::Result<()> {
                while !done.load(Ordering::Relaxed) {
                    succeed(&mut qemu_img(site, server))?;
                    served.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
            [ours, qemus]
        };
        let renewed = (0..RENEWALS).try_for_each(|_| {
            let (reloaded, served_before) = (reloads(&server.peer), served.load(Ordering::Relaxed));
            renew(site)?;
            wait_for(|| {
                reloads(&server.peer) > reloaded && served.load(Ordering::Relaxed) > served_before + 2
            })
        });
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().ok().context("a client panicked")??;
        }
        renewed
    })?;

    // The whole site goes to another authority: its clients are let in, and those of the old one are not any more.
    fail_with(&mut as_stranger(&site, &server)?, &[])?;
    fs::create_dir(site.path("old"))?;
    for name in ["client-key.pem", "client-cert.pem", "ca-cert.pem"] {
        fs::copy(site.path("pki").join(name), site.path("old").join(name))?;
    }
    connect(&site, &server, "old")?.disconnect()?;
    for name in ["server-key.pem", "server-cert.pem", "ca-cert.pem"] {
        // As a tool should: written aside, and renamed.
        let aside = site.path("pki").join("aside");
        fs::copy(site.path("strangers").join(name), &aside)?;
        fs::rename(&aside, site.path("pki").join(name))?;
    }
    wait_for(|| connect(&site, &server, "strangers").is_ok())?;
    succeed(&mut as_stranger(&site, &server)?)?;
    let old = connect(&site, &server, "old");
    ensure!(old.is_err(), "a client of the old authority was let in");

    // A set that is unfit changes nothing.
    fs::write(site.path("pki").join("server-cert.pem"), "garbage")?;
    server.expect_log("the old TLS credentials stay in force")?;
    server.expect_log("server-cert.pem: ")?;
    succeed(&mut as_stranger(&site, &server)?)?;

    // The session that was opened first has seen nothing of it all.
    let mut after = vec![0; 1 << 20];
    open.read_at(&mut after, 0)?;
    ensure!(before == after, "the open session reads something else");
    open.disconnect()?;
    Ok(())
}

/// QEMU's client with the other authority's credentials.
fn as_stranger(site: &Site, server: &NbdServer) -> anyhow::Result<Command> {
    let mut command = Command::new(require("qemu-img", "qemu-utils")?);
    command.args(["info", "--object", &site.creds("strangers", "client")]);
    command.args(["--image-opts", &server.qemu_options()]);
    Ok(command)
}

fn wait_for(condition: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = std::time::Instant::now() + qio_interop::PATIENCE;
    while !condition() {
        ensure!(std::time::Instant::now() < deadline, "it took too long");
        thread::sleep(std::time::Duration::from_millis(5)); // looks again; what it waits for sets the pace
    }
    Ok(())
}

#[test]
fn a_client_that_a_revocation_list_names_is_refused_from_then_on() -> anyhow::Result<()> {
    let site = Site::new()?;
    let image = site.empty_image("image", 1 << 20)?;
    let mut server = NbdServer::qio(&site, Route::Tls, &image)?;
    connect(&site, &server, "pki")?.disconnect()?;

    let pki = site.path("pki");
    let at = |name: &str| pki.join(name);
    // OpenSSL's own way of revoking, so that the list is not of our making.
    fs::write(at("index.txt"), "")?;
    fs::write(at("crlnumber"), "01\n")?;
    fs::write(
        at("ca.cnf"),
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\n\
         default_crl_days=10\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n",
    )?;
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        let authority = [
            "-config",
            "ca.cnf",
            "-cert",
            "ca-cert.pem",
            "-keyfile",
            "ca-key.pem",
        ];
        command
            .current_dir(&pki)
            .arg("ca")
            .args(authority)
            .args(arguments);
        succeed(&mut command)
    };
    openssl(&["-revoke", "client-cert.pem"])?;
    openssl(&["-gencrl", "-out", "aside.pem"])?;
    fs::rename(at("aside.pem"), at("ca-crl.pem"))?;
    server.expect_log("TLS credentials reloaded")?;
    let refused = connect(&site, &server, "pki");
    ensure!(refused.is_err(), "a revoked client was let in");
    server.expect_log("revoked")?;

    // Another client of the same authority is served.
    let other = site.path("other");
    fs::create_dir(&other)?;
    succeed(
        qio()?
            .args(["pki", "client"])
            .arg(&pki)
            .args(["--cn", "other", "--force"]),
    )?;
    for name in ["ca-cert.pem", "client-cert.pem", "client-key.pem"] {
        fs::copy(pki.join(name), other.join(name))?;
    }
    connect(&site, &server, "other")?.disconnect()?;
    Ok(())
}

#[test]
fn an_encrypted_key_serves_gnutls_and_qemu() -> anyhow::Result<()> {
    let site = Site::new()?;
    let image = site.empty_image("image", 1 << 20)?;
    let key = site.path("pki").join("server-key.pem");
    let encrypted = succeed(
        Command::new("openssl")
            .args([
                "pkcs8",
                "-topk8",
                "-v2",
                "aes-256-cbc",
                "-passout",
                "pass:swordfish",
                "-in",
            ])
            .arg(&key),
    )?;
    fs::write(&key, encrypted)?;

    let port = free_port()?;
    let mut command = qio()?;
    // The secret comes after the object that needs it.
    command.args([
        "nbd",
        "serve",
        "-t",
        "-f",
        "raw",
        "-x",
        EXPORT,
        "-b",
        "127.0.0.1",
        "-p",
    ]);
    command.arg(port.to_string());
    let creds = format!(
        "tls-creds-x509,id=tls0,dir={},endpoint=server,passwordid=sec0",
        qemu_path(&site.path("pki"))
    );
    command.args(["--object", &creds, "--object", "secret,id=sec0,data=swordfish"]);
    let mut server = Peer::spawn(command.args(["--tls-creds", "tls0"]).arg(image))?;
    wait_listening(&mut server, &Listening::Tcp(port))?;
    let mut client = Command::new(require("qemu-img", "qemu-utils")?);
    client.args(["info", "--object", &site.creds("pki", "client"), "--image-opts"]);
    succeed(client.arg(format!(
        "driver=nbd,host=localhost,port={port},export={EXPORT},tls-creds=tls0"
    )))?;
    Ok(())
}
