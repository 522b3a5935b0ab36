//! Certificates taken back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use qio_interop::site::{Site, qio};
use qio_interop::{require, run, succeed};

use super::maker::{CA, CLIENT, Maker, SERVER, certtool};
use super::{CLIENTS, SERVERS, attempt, image, serve};

/// An authority and a server's certificate, and clients each in a folder of its own.
fn site_to_revoke(site: &Site, template: &str, clients: &[&str]) -> anyhow::Result<PathBuf> {
    let ca = site.path("ca");
    Maker::Qio.authority(&ca, template)?;
    Maker::Qio.issue(&ca, &site.path("server"), &["server"], SERVER)?;
    for name in clients {
        let template = CLIENT.replace("cn = hostNNN.foo.example.com", &format!("cn = {name}"));
        Maker::Qio.issue(&ca, &site.path(name), &["client"], &template)?;
    }
    Ok(ca)
}

fn certtool_crl(ca: &Path, certificate: &Path, template: &str, out: &Path) -> anyhow::Result<()> {
    let info = ca.join("crl.info");
    fs::write(&info, template)?;
    let mut command = certtool()?;
    command.arg("--generate-crl");
    command.arg("--load-ca-certificate").arg(ca.join("ca-cert.pem"));
    command.arg("--load-ca-privkey").arg(ca.join("ca-key.pem"));
    command.arg("--load-certificate").arg(certificate);
    command.arg("--template").arg(info).arg("--outfile").arg(out);
    succeed(&mut command)?;
    Ok(())
}

fn qio_revoke(ca: &Path, certificate: &Path) -> anyhow::Result<()> {
    succeed(qio()?.args(["pki", "revoke"]).arg(ca).arg(certificate))?;
    Ok(())
}

/// Which of the clients each server serves, with the list in force.
fn expect_served(site: &Site, image: &Path, clients: &[(&str, bool)]) -> anyhow::Result<()> {
    fs::copy(
        site.path("ca").join("ca-crl.pem"),
        site.path("server").join("ca-crl.pem"),
    )?;
    for server_name in SERVERS {
        let server = serve(site, server_name, "server", image)?;
        for (folder, served) in clients {
            for name in CLIENTS {
                let got = attempt(site, &server, name, folder, *served)?;
                ensure!(
                    got == *served,
                    "{name} as {folder} of {server_name}: served? {got}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_revoked_client_is_refused_whoever_made_the_list() -> anyhow::Result<()> {
    // Without crl_signing_key as in the recipe, and with it.
    for template in [CA.to_owned(), format!("{CA}crl_signing_key\n")] {
        let site = Site::new()?;
        let image = image(&site)?;
        let ca = site_to_revoke(&site, &template, &["alice", "bob", "carol"])?;
        let certificate = |name: &str| site.path(name).join("client-cert.pem");
        let crl = ca.join("ca-crl.pem");
        certtool_crl(
            &ca,
            &certificate("alice"),
            "crl_next_update = 43\ncrl_number = 5\n",
            &crl,
        )?;
        expect_served(&site, &image, &[("alice", false), ("bob", true)])?;

        // We go on with certtool's list.
        qio_revoke(&ca, &certificate("bob"))?;
        let info = succeed(certtool()?.args(["--crl-info", "--infile"]).arg(&crl))?;
        ensure!(info.contains("CRL Number (not critical): 06"), "{info}");
        ensure!(info.contains("Revoked certificates (2)"), "{info}");
        expect_served(
            &site,
            &image,
            &[("alice", false), ("bob", false), ("carol", true)],
        )?;

        // And from nothing.
        fs::remove_file(&crl)?;
        qio_revoke(&ca, &certificate("carol"))?;
        expect_served(&site, &image, &[("alice", true), ("carol", false)])?;
        if template.contains("crl_signing_key") {
            let verify = |name: &str| -> anyhow::Result<bool> {
                let mut command = Command::new(require("openssl", "openssl")?);
                command.args(["verify", "-x509_strict", "-crl_check", "-CAfile"]);
                command.arg(ca.join("ca-cert.pem")).arg("-CRLfile").arg(&crl);
                Ok(run(command.arg(certificate(name)))?.status.success())
            };
            ensure!(
                verify("alice")? && !verify("carol")?,
                "OpenSSL sees it differently"
            );
            let mut verify = certtool()?;
            verify
                .arg("--verify-crl")
                .arg("--load-ca-certificate")
                .arg(ca.join("ca-cert.pem"));
            succeed(verify.arg("--infile").arg(&crl))?;
        }
    }
    Ok(())
}

#[test]
fn an_overdue_list_still_counts() -> anyhow::Result<()> {
    let site = Site::new()?;
    let image = image(&site)?;
    let ca = site_to_revoke(&site, CA, &["alice", "bob"])?;
    let overdue = "crl_this_update_date = \"2020-01-01 00:00:00\"\ncrl_next_update_date = \"2021-01-01 00:00:00\"\n\
                   crl_number = 1\n";
    let revoked = site.path("alice").join("client-cert.pem");
    certtool_crl(&ca, &revoked, overdue, &ca.join("ca-crl.pem"))?;
    expect_served(&site, &image, &[("alice", false), ("bob", true)])
}
