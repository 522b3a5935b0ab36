//! Certificates of every kind that `qio pki` makes, between our tools and qemu-nbd and qemu-img in both roles.
//!
//! Runs with the QEMU tools in `PATH`, and with those in the folder that `QIO_OLD_QEMU` names: `./x test` unpacks QEMU 7.2
//! there, whose checks on certificates are the strictest.

use std::path::PathBuf;
use std::process::Command;

use qio_interop::site::{EXPORT, qio, sha256};
use qio_interop::{Listening, Peer, free_port, qemu_path, require, succeed, wait_listening};

const KEY_TYPES: [&str; 4] = ["p256", "p384", "ed25519", "rsa2048"];

/// Where to find the tools; `None` for `PATH`.
fn versions() -> anyhow::Result<Vec<Option<PathBuf>>> {
    require("qemu-nbd", "qemu-utils")?;
    let mut versions = vec![None];
    versions.extend(std::env::var_os("QIO_OLD_QEMU").map(|folder| Some(PathBuf::from(folder))));
    Ok(versions)
}

fn tool(version: &Option<PathBuf>, name: &str) -> Command {
    Command::new(
        version
            .as_ref()
            .map_or_else(|| PathBuf::from(name), |folder| folder.join(name)),
    )
}

#[test]
fn every_key_type_with_every_qemu() -> anyhow::Result<()> {
    for version in versions()? {
        let said = succeed(tool(&version, "qemu-nbd").arg("--version"))?;
        eprintln!("{}", said.lines().next().unwrap_or_default());
        for key_type in KEY_TYPES {
            both_roles(&version, key_type)?;
        }
    }
    Ok(())
}

fn both_roles(version: &Option<PathBuf>, key_type: &str) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let pki = directory.path().join("pki");
    let key = ["--key-type", key_type];
    succeed(qio()?.args(["pki", "init"]).arg(&pki).args(key))?;
    // One certificate for both ends, as migration uses it.
    succeed(
        qio()?
            .args(["pki", "both"])
            .arg(&pki)
            .args(["--name", "localhost", "--name", "127.0.0.1"])
            .args(key),
    )?;
    let image = directory.path().join("image");
    std::fs::write(&image, vec![0x5a; 1 << 20])?;
    let creds = |endpoint| {
        format!(
            "tls-creds-x509,id=tls0,dir={},endpoint={endpoint}",
            qemu_path(&pki)
        )
    };
    let copy = directory.path().join("copy");

    for server in [tool(version, "qemu-nbd"), {
        let mut command = qio()?;
        command.args(["nbd", "serve"]);
        command
    }] {
        let mut command = server;
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
                &port.to_string(),
            ])
            .args(["--object", &creds("server"), "--tls-creds", "tls0"])
            .arg(&image);
        let mut server = Peer::spawn(&mut command)?;
        wait_listening(&mut server, &Listening::Tcp(port))?;

        let uri = format!(
            "nbds://localhost:{port}/{EXPORT}?tls-certificates={}",
            pki.display()
        );
        succeed(qio()?.args(["nbd", "copy", &uri]).arg(&copy))?;
        anyhow::ensure!(sha256(&copy)? == sha256(&image)?, "{key_type}: our copy differs");
        std::fs::remove_file(&copy)?;

        let options = format!("driver=nbd,host=localhost,port={port},export={EXPORT},tls-creds=tls0");
        succeed(
            tool(version, "qemu-img")
                .args([
                    "convert",
                    "--object",
                    &creds("client"),
                    "-O",
                    "raw",
                    "--image-opts",
                    &options,
                ])
                .arg(&copy),
        )?;
        anyhow::ensure!(
            sha256(&copy)? == sha256(&image)?,
            "{key_type}: qemu-img's copy differs"
        );
        std::fs::remove_file(&copy)?;
    }
    Ok(())
}
