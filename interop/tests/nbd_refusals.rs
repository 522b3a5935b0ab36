//! Who is refused is told why, on both sides, and the server serves the next client at once.

use std::path::PathBuf;
use std::process::Command;

use qio_creds::KeyPermissions;
use qio_creds::pki::{Authority, Directory, Name, Overwrite, Purpose, Template, Validity};
use qio_interop::site::{EXPORT, NbdServer, Route, Site, fail_with, qio};
use qio_interop::{Listening, Peer, free_port, run, succeed, wait_listening};
use time::{Duration, OffsetDateTime};

/// A folder with certificates that differ from good ones in one respect.
fn variant(
    site: &Site,
    folder: &str,
    purpose: Purpose,
    change: impl Fn(Template) -> Template,
) -> anyhow::Result<()> {
    let authority = Authority::load(&Directory::existing(site.path("pki")), KeyPermissions::Private)?;
    let directory = Directory::create(site.path(folder))?;
    directory.write_ca_certificate(authority.certificate(), Overwrite::Refuse)?;
    let template = Template::new(purpose)
        .name("localhost".parse::<Name>()?)
        .name("127.0.0.1".parse::<Name>()?);
    directory.write_pair(purpose, &authority.issue(&change(template))?, Overwrite::Refuse)?;
    Ok(())
}

fn days(from: i64, to: i64) -> Validity {
    let now = OffsetDateTime::now_utc();
    Validity::Between {
        not_before: now + Duration::days(from),
        not_after: now + Duration::days(to),
    }
}

fn small_image(site: &Site) -> anyhow::Result<PathBuf> {
    site.image("small.img", 4 << 20)
}

/// The next client, which did nothing wrong, is served at once.
fn expect_serving(server: &NbdServer, site: &Site) -> anyhow::Result<()> {
    succeed(qio()?.args(["nbd", "info", &server.uri(site, "pki")]))?;
    Ok(())
}

fn our_info(uri: &str) -> anyhow::Result<Command> {
    let mut command = qio()?;
    command.args(["nbd", "info", uri]);
    Ok(command)
}

#[test]
fn plain_clients_of_a_tls_server() -> anyhow::Result<()> {
    let site = Site::new()?;
    let image = small_image(&site)?;
    let mut server = NbdServer::qio(&site, Route::Tls, &image)?;
    let uri = format!("nbd://localhost:{}/{EXPORT}", server.port());

    let ours = fail_with(&mut our_info(&uri)?, &["TLS", "nbds://"])?;
    anyhow::ensure!(ours.status.code() == Some(1), "{ours:?}");
    server.expect_log("TLS")?;
    fail_with(Command::new("nbdinfo").arg(&uri), &["TLS"])?;
    let options = format!("driver=nbd,host=localhost,port={},export={EXPORT}", server.port());
    fail_with(
        Command::new("qemu-img").args(["info", "--image-opts", &options]),
        &["TLS"],
    )?;
    // No export's existence is told in clear.
    fail_with(Command::new("nbdinfo").args(["--list", &uri]), &[])?;
    expect_serving(&server, &site)?;

    for theirs in [
        NbdServer::qemu_nbd(&site, Route::Tls, &image, "pki")?,
        NbdServer::nbdkit(&site, Route::Tls, &image)?,
    ] {
        let uri = format!("nbd://localhost:{}/{EXPORT}", theirs.port());
        fail_with(&mut our_info(&uri)?, &["TLS", "nbds://"])?;
    }
    Ok(())
}

#[test]
fn tls_clients_of_a_plain_server() -> anyhow::Result<()> {
    let site = Site::new()?;
    let image = small_image(&site)?;
    let mut server = NbdServer::qio(&site, Route::Tcp, &image)?;
    let tls_uri = |server: &NbdServer| {
        format!(
            "nbds://localhost:{}/{EXPORT}?tls-certificates={}",
            server.port(),
            site.path("pki").display()
        )
    };

    fail_with(
        &mut our_info(&tls_uri(&server))?,
        &["TLS is required, but the server does not offer it"],
    )?;
    server.expect_log("TLS is not configured")?;
    // libnbd 1.14 keeps the reason that it was given to itself, also from qemu-nbd.
    fail_with(Command::new("nbdinfo").arg(tls_uri(&server)), &[])?;
    let options = format!(
        "driver=nbd,host=localhost,port={},export={EXPORT},tls-creds=tls0",
        server.port()
    );
    let creds = site.creds("pki", "client");
    fail_with(
        Command::new("qemu-img").args(["info", "--object", &creds, "--image-opts", &options]),
        &["TLS"],
    )?;
    expect_serving(&server, &site)?;

    for theirs in [
        NbdServer::qemu_nbd(&site, Route::Tcp, &image, "pki")?,
        NbdServer::nbdkit(&site, Route::Tcp, &image)?,
    ] {
        fail_with(
            &mut our_info(&tls_uri(&theirs))?,
            &["TLS is required, but the server does not offer it"],
        )?;
    }
    Ok(())
}

/// What a client's certificates are, what the client must be told, and what the server must log.
fn refused_client(folder: &str, client_says: &[&str], server_says: &str) -> anyhow::Result<()> {
    let site = Site::new()?;
    variant(&site, "expired", Purpose::Client, |template| {
        template.validity(days(-10, -1))
    })?;
    variant(&site, "early", Purpose::Client, |template| {
        template.validity(days(1, 10))
    })?;
    let stranger = site.path("stranger");
    std::fs::create_dir(&stranger)?;
    for (from, file) in [
        ("pki", "ca-cert.pem"),
        ("strangers", "client-cert.pem"),
        ("strangers", "client-key.pem"),
    ] {
        std::fs::copy(site.path(from).join(file), stranger.join(file))?;
    }
    let image = small_image(&site)?;
    let mut server = NbdServer::qio(&site, Route::Tls, &image)?;

    // Ours and libnbd check their own certificates differently, or not at all; what counts is the server's word.
    let unchecked = format!("{},sanity-check=off", site.creds(folder, "client"));
    let uri = format!("nbds://localhost:{}/{EXPORT}", server.port());
    fail_with(
        qio()?.args(["nbd", "info", "--object", &unchecked, "--tls-creds", "tls0", &uri]),
        client_says,
    )?;
    server.expect_log(server_says)?;
    expect_serving(&server, &site)?;

    fail_with(Command::new("nbdinfo").arg(server.uri(&site, folder)), &[])?;
    let options = server.qemu_options();
    fail_with(
        Command::new("qemu-img").args(["info", "--object", &unchecked, "--image-opts", &options]),
        &[],
    )?;
    expect_serving(&server, &site)
}

#[test]
fn a_client_without_a_certificate() -> anyhow::Result<()> {
    refused_client("anonymous", &["client-cert.pem"], "presented no certificate")
}

#[test]
fn a_client_of_another_authority() -> anyhow::Result<()> {
    refused_client("stranger", &["unknown_ca"], "is not trusted")
}

#[test]
fn a_client_whose_certificate_has_expired() -> anyhow::Result<()> {
    refused_client("expired", &["certificate_expired"], "expired at")
}

#[test]
fn a_client_whose_certificate_is_not_valid_yet() -> anyhow::Result<()> {
    refused_client("early", &["certificate_expired"], "not valid before")
}

/// Bad certificates of a server: ours, and the same ones at qemu-nbd.
fn refused_server(folder: &str, host: &str, client_says: &[&str], server_says: &str) -> anyhow::Result<()> {
    let site = Site::new()?;
    variant(&site, "expired", Purpose::Server, |template| {
        template.validity(days(-10, -1))
    })?;
    variant(&site, "early", Purpose::Server, |template| {
        template.validity(days(1, 10))
    })?;
    let image = small_image(&site)?;

    let mut command = qio()?;
    let port = free_port()?;
    let unchecked = format!("{},sanity-check=off", site.creds(folder, "server"));
    command
        .args([
            "-v",
            "nbd",
            "serve",
            "-t",
            "-e",
            "0",
            "-f",
            "raw",
            "-x",
            EXPORT,
            "-b",
            "127.0.0.1",
            "-p",
        ])
        .arg(port.to_string())
        .args(["--object", &unchecked, "--tls-creds", "tls0"])
        .arg(&image);
    let mut server = Peer::spawn(&mut command)?;
    wait_listening(&mut server, &Listening::Tcp(port))?;
    let uri = |port: u16| {
        format!(
            "nbds://{host}:{port}/{EXPORT}?tls-certificates={}",
            site.path("pki").display()
        )
    };
    fail_with(&mut our_info(&uri(port))?, client_says)?;
    server.wait_for_output(server_says)?;
    fail_with(Command::new("nbdinfo").arg(uri(port)), &[])?;

    // qemu-nbd checks its own certificates unless told not to.
    let mut command = Command::new("qemu-nbd");
    let port = free_port()?;
    command
        .args([
            "-t",
            "-e",
            "0",
            "-f",
            "raw",
            "-x",
            EXPORT,
            "-b",
            "127.0.0.1",
            "-p",
        ])
        .arg(port.to_string())
        .args(["--object", &unchecked, "--tls-creds", "tls0"])
        .arg(&image);
    let mut server = Peer::spawn(&mut command)?;
    wait_listening(&mut server, &Listening::Tcp(port))?;
    fail_with(&mut our_info(&uri(port))?, client_says)?;
    Ok(())
}

#[test]
fn a_server_of_another_authority() -> anyhow::Result<()> {
    refused_server(
        "strangers",
        "localhost",
        &["another authority", "is not trusted"],
        "unknown_ca",
    )
}

#[test]
fn a_server_whose_certificate_has_expired() -> anyhow::Result<()> {
    refused_server("expired", "localhost", &["expired at"], "certificate_expired")
}

#[test]
fn a_server_whose_certificate_is_not_valid_yet() -> anyhow::Result<()> {
    refused_server("early", "localhost", &["not valid before"], "certificate_expired")
}

/// The server is reached, but by a name that its certificate lacks.
#[test]
fn a_server_with_another_name() -> anyhow::Result<()> {
    let hostname = "ip6-localhost.invalid";
    let site = Site::new()?;
    let image = small_image(&site)?;
    let mut server = NbdServer::qio(&site, Route::Tls, &image)?;
    let creds = site.creds("pki", "client");
    let uri = format!("nbds://localhost:{}/{EXPORT}", server.port());
    let texts = [hostname, "localhost", "tls-hostname"];
    fail_with(
        qio()?.args([
            "nbd",
            "info",
            "--object",
            &creds,
            "--tls-creds",
            "tls0",
            "--tls-hostname",
            hostname,
            &uri,
        ]),
        &texts,
    )?;
    server.expect_log("bad_certificate")?;
    let options = format!("{},tls-hostname={hostname}", server.qemu_options());
    fail_with(
        Command::new("qemu-img").args(["info", "--object", &creds, "--image-opts", &options]),
        &[],
    )?;
    expect_serving(&server, &site)?;

    // An address that the certificate lacks.
    let uri = server.uri_as("127.0.0.2", &site, "pki");
    let finished = run(&mut our_info(&uri)?)?;
    anyhow::ensure!(!finished.status.success(), "{finished:?}");
    Ok(())
}

#[test]
fn credentials_of_the_wrong_endpoint() -> anyhow::Result<()> {
    let site = Site::new()?;
    let image = small_image(&site)?;
    let server = NbdServer::qio(&site, Route::Tls, &image)?;
    let uri = format!("nbds://localhost:{}/{EXPORT}", server.port());
    fail_with(
        qio()?.args([
            "nbd",
            "info",
            "--object",
            &site.creds("pki", "server"),
            "--tls-creds",
            "tls0",
            &uri,
        ]),
        &["Expected TLS credentials for a client endpoint"],
    )?;
    fail_with(
        qio()?
            .args([
                "nbd",
                "serve",
                "-f",
                "raw",
                "-b",
                "127.0.0.1",
                "-p",
                &free_port()?.to_string(),
            ])
            .args(["--object", &site.creds("pki", "client"), "--tls-creds", "tls0"])
            .arg(&image),
        &["Expected TLS credentials for a server endpoint"],
    )?;
    fail_with(
        qio()?.args([
            "nbd",
            "info",
            "--object",
            &site.creds("pki", "client"),
            "--tls-creds",
            "tls1",
            &uri,
        ]),
        &["tls1", "tls0"],
    )?;
    expect_serving(&server, &site)
}

/// decisions.md 16: what other hosts can reach unprotected needs the administrator's word.
#[test]
fn an_unprotected_server_needs_consent() -> anyhow::Result<()> {
    let site = Site::new()?;
    let image = small_image(&site)?;
    let port = free_port()?.to_string();
    fail_with(
        qio()?
            .args(["nbd", "serve", "-f", "raw", "-b", "0.0.0.0", "-p", &port])
            .arg(&image),
        &["--insecure"],
    )?;
    let unverified = format!("{},verify-peer=off", site.creds("pki", "server"));
    fail_with(
        qio()?
            .args(["nbd", "serve", "-f", "raw", "-b", "0.0.0.0", "-p", &port])
            .args(["--object", &unverified, "--tls-creds", "tls0"])
            .arg(&image),
        &["--insecure"],
    )?;
    Ok(())
}
