//! A mutual-TLS echo between qio-tls's example programs and GnuTLS and OpenSSL, TLS 1.3 and 1.2, both roles.

use std::path::Path;
use std::process::Command;

use qio_interop::site::{Site, own_program};
use qio_interop::{Listening, Peer, free_port, require, wait_listening};

const EXAMPLES: [&str; 2] = ["echo_blocking", "echo_tokio"];
const TEXT: &str = "a line that comes back";

fn example(name: &str) -> anyhow::Result<Command> {
    Ok(Command::new(own_program(&format!("examples/{name}"))?))
}

fn start_example_server(name: &str, site: &Site) -> anyhow::Result<(Peer, u16)> {
    let port = free_port()?;
    let mut command = example(name)?;
    command
        .arg("server")
        .arg(site.path("pki"))
        .arg(format!("127.0.0.1:{port}"));
    let mut server = Peer::spawn(&mut command)?;
    server.wait_for_output("listening on")?;
    Ok((server, port))
}

/// Types a line into a client, and waits until the server has seen it and the echo is on the screen.
fn converse(mut client: Peer, ready: &str, server: &mut Peer, version: &str) -> anyhow::Result<()> {
    client.wait_for_output(ready)?;
    client.write(format!("{TEXT}\n").as_bytes())?;
    client.wait_for_output(TEXT)?;
    server.wait_for_output(&format!("CN=tester, {version}"))
}

#[test]
fn gnutls_cli_to_our_server() -> anyhow::Result<()> {
    require("gnutls-cli", "gnutls-bin")?;
    let site = Site::new()?;
    let pki = site.path("pki");
    for name in EXAMPLES {
        for (priority, version) in [
            ("NORMAL:-VERS-ALL:+VERS-TLS1.3", "TLS 1.3"),
            ("NORMAL:-VERS-ALL:+VERS-TLS1.2", "TLS 1.2"),
        ] {
            let (mut server, port) = start_example_server(name, &site)?;
            let mut command = Command::new("gnutls-cli");
            command
                .args(["-p", &port.to_string(), "--priority", priority])
                .arg("--x509cafile")
                .arg(pki.join("ca-cert.pem"))
                .arg("--x509certfile")
                .arg(pki.join("client-cert.pem"))
                .arg("--x509keyfile")
                .arg(pki.join("client-key.pem"))
                .arg("localhost");
            converse(
                Peer::spawn(&mut command)?,
                "Handshake was completed",
                &mut server,
                version,
            )?;
        }
    }
    Ok(())
}

#[test]
fn openssl_s_client_to_our_server() -> anyhow::Result<()> {
    require("openssl", "openssl")?;
    let site = Site::new()?;
    let pki = site.path("pki");
    for name in EXAMPLES {
        for (flag, version) in [("-tls1_3", "TLS 1.3"), ("-tls1_2", "TLS 1.2")] {
            let (mut server, port) = start_example_server(name, &site)?;
            let mut command = Command::new("openssl");
            command
                .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), flag])
                .args(["-verify_return_error", "-verify_hostname", "localhost"])
                .arg("-CAfile")
                .arg(pki.join("ca-cert.pem"))
                .arg("-cert")
                .arg(pki.join("client-cert.pem"))
                .arg("-key")
                .arg(pki.join("client-key.pem"));
            converse(
                Peer::spawn(&mut command)?,
                "Verify return code: 0 (ok)",
                &mut server,
                version,
            )?;
        }
    }
    Ok(())
}

/// Runs our client against a server, and gives what it printed.
fn our_client(name: &str, site: &Site, port: u16) -> anyhow::Result<String> {
    let mut command = example(name)?;
    command
        .arg("client")
        .arg(site.path("pki"))
        .arg(format!("127.0.0.1:{port}"))
        .arg("localhost");
    let mut client = Peer::spawn(&mut command)?;
    client.write(format!("{TEXT}\n").as_bytes())?;
    client.close_stdin();
    let finished = client.wait()?;
    anyhow::ensure!(finished.status.success(), "{finished:?}");
    Ok(finished.output)
}

#[test]
fn our_client_to_gnutls_serv() -> anyhow::Result<()> {
    require("gnutls-serv", "gnutls-bin")?;
    let site = Site::new()?;
    for (priority, version) in [
        ("NORMAL:-VERS-ALL:+VERS-TLS1.3", "TLS 1.3"),
        ("NORMAL:-VERS-ALL:+VERS-TLS1.2", "TLS 1.2"),
    ] {
        let port = free_port()?;
        let mut command = Command::new("gnutls-serv");
        command
            .args([
                "--echo",
                "--require-client-cert",
                "--verify-client-cert",
                "--priority",
                priority,
            ])
            .args(["-p", &port.to_string()]);
        with_server_files(
            &mut command,
            &site.path("pki"),
            "--x509cafile",
            "--x509certfile",
            "--x509keyfile",
        );
        let mut server = Peer::spawn(&mut command)?;
        wait_listening(&mut server, &Listening::Tcp(port))?;
        for name in EXAMPLES {
            let output = our_client(name, &site, port)?;
            anyhow::ensure!(output.contains(TEXT) && output.contains(version), "{output}");
        }
    }
    Ok(())
}

#[test]
fn our_client_to_openssl_s_server() -> anyhow::Result<()> {
    require("openssl", "openssl")?;
    let site = Site::new()?;
    let backwards: String = TEXT.chars().rev().collect();
    for (flag, version) in [("-tls1_3", "TLS 1.3"), ("-tls1_2", "TLS 1.2")] {
        for name in EXAMPLES {
            let port = free_port()?;
            let mut command = Command::new("openssl");
            command
                .args(["s_server", "-rev", "-Verify", "1", "-verify_return_error", flag])
                .args(["-accept", &format!("127.0.0.1:{port}")]);
            with_server_files(&mut command, &site.path("pki"), "-CAfile", "-cert", "-key");
            let mut server = Peer::spawn(&mut command)?;
            wait_listening(&mut server, &Listening::Tcp(port))?;
            let output = our_client(name, &site, port)?;
            anyhow::ensure!(
                output.contains(&backwards) && output.contains(version),
                "{output}"
            );
        }
    }
    Ok(())
}

fn with_server_files(command: &mut Command, pki: &Path, ca: &str, certificate: &str, key: &str) {
    command
        .arg(ca)
        .arg(pki.join("ca-cert.pem"))
        .arg(certificate)
        .arg(pki.join("server-cert.pem"))
        .arg(key)
        .arg(pki.join("server-key.pem"));
}

/// The two examples are the same program to each other.
#[test]
fn our_client_to_our_server() -> anyhow::Result<()> {
    let site = Site::new()?;
    for server in EXAMPLES {
        for client in EXAMPLES {
            let (_server, port) = start_example_server(server, &site)?;
            let output = our_client(client, &site, port)?;
            anyhow::ensure!(
                output.contains(TEXT) && output.contains("X25519MLKEM768"),
                "{output}"
            );
        }
    }
    Ok(())
}
