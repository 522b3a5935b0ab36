//! The recipes of QEMU's TLS documentation, done with certtool as it gives them and with `qio pki`: whichever made
//! what, QEMU, libnbd and we take it, in every combination of client and server. And certificates taken back.

#![allow(clippy::print_stderr, reason = "the table is a result of its own")]

#[path = "recipes/maker.rs"]
mod maker;
#[path = "recipes/requests.rs"]
mod requests;
#[path = "recipes/revocation.rs"]
mod revocation;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use maker::{BOTH, CA, CLIENT, MAKERS, Maker, SERVER, summary};
use qio_creds::CertificateSummary;
use qio_interop::site::{NbdServer, Route, Site, qio};
use qio_interop::{require, run};

// ---- who talks to whom ----

const SERVERS: [&str; 2] = ["qemu-nbd", "qio nbd serve"];
const CLIENTS: [&str; 3] = ["qemu-img", "qio nbd info", "nbdinfo"];

fn serve(site: &Site, server: &str, folder: &str, image: &Path) -> anyhow::Result<NbdServer> {
    match server {
        "qemu-nbd" => NbdServer::qemu_nbd(site, Route::Tls, image, folder),
        _ => NbdServer::qio_with(site, Route::Tls, image, folder, &[]),
    }
}

fn client(site: &Site, client: &str, folder: &str, server: &NbdServer) -> anyhow::Result<Command> {
    Ok(match client {
        "qemu-img" => {
            let mut command = Command::new(require("qemu-img", "qemu-utils")?);
            command.args(["info", "--object", &site.creds(folder, "client"), "--image-opts"]);
            command.arg(server.qemu_options());
            command
        }
        "qio nbd info" => {
            let mut command = qio()?;
            command.args(["nbd", "info", &server.uri(site, folder)]);
            command
        }
        _ => {
            let mut command = Command::new(require("nbdinfo", "libnbd-bin")?);
            command.arg(server.uri(site, folder));
            command
        }
    })
}

/// Whether a client is served; what it printed if that is not what is wanted.
fn attempt(site: &Site, server: &NbdServer, name: &str, folder: &str, wanted: bool) -> anyhow::Result<bool> {
    let finished = run(&mut client(site, name, folder, server)?)?;
    let served = finished.status.success();
    if served != wanted {
        eprintln!(
            "{name} with {folder}: {}\nthe server: {}",
            finished.output,
            server.peer.output()
        );
    }
    Ok(served)
}

fn image(site: &Site) -> anyhow::Result<PathBuf> {
    site.image("disk.img", 1 << 20)
}

#[test]
fn the_recipes_serve_every_client_of_every_server() -> anyhow::Result<()> {
    let site = Site::new()?;
    let image = image(&site)?;
    let mut folders = Vec::new();
    for authority in MAKERS {
        let ca = site.path(&format!("ca-{authority}"));
        authority.authority(&ca, CA)?;
        for ends in MAKERS {
            let two = format!("{authority}-{ends}-two");
            ends.issue(&ca, &site.path(&two), &["server"], SERVER)?;
            ends.issue(&ca, &site.path(&two), &["client"], CLIENT)?;
            let both = format!("{authority}-{ends}-both");
            ends.issue(&ca, &site.path(&both), &["server", "client"], BOTH)?;
            folders.push((authority, ends, "two certificates", two));
            folders.push((authority, ends, "one for both ends", both));
        }
    }

    let mut failed = 0;
    let mut table = format!(
        "{:<10}{:<14}{:<20}{:<15}",
        "authority", "certificates", "", "server"
    );
    CLIENTS
        .iter()
        .for_each(|name| table.push_str(&format!("{name:<14}")));
    for (authority, ends, what, folder) in &folders {
        for server_name in SERVERS {
            let server = serve(&site, server_name, folder, &image)
                .with_context(|| format!("{server_name} does not take {folder}"))?;
            table.push_str(&format!("\n{authority:<10}{ends:<14}{what:<20}{server_name:<15}"));
            for name in CLIENTS {
                let served = attempt(&site, &server, name, folder, true)?;
                failed += usize::from(!served);
                table.push_str(&format!("{:<14}", if served { "ok" } else { "FAILED" }));
            }
        }
    }
    eprintln!("{table}");
    ensure!(failed == 0, "{failed} combinations failed:\n{table}");
    Ok(())
}

#[test]
fn a_template_gives_the_same_certificate_from_certtool_and_from_qio() -> anyhow::Result<()> {
    let tmp = tempfile::tempdir()?;
    let certificates = |maker: Maker| -> anyhow::Result<Vec<CertificateSummary>> {
        let dir = tmp.path().join(maker.to_string());
        maker.authority(&dir, CA)?;
        let odd = "cn = Bücher & Söhne, \"Ltd\"\nuid = x\nunit = u\npkcs9_email = a@example.com\ncountry = DE\n\
                   uri = https://example.com/x\ndns_name = a.example.com\ntls_www_server\ntls_www_client\n\
                   key_purpose_oid = 1.3.6.1.5.5.7.3.17\nsigning_key\nkey_agreement\nserial = 0x0102030405\n\
                   activation_date = \"2024-02-29 16:21:42\"\nexpiration_date = \"2025-03-01\"\n";
        let mut made = vec![summary(&dir.join("ca-cert.pem"))?];
        for (name, ends, template) in [
            ("server", &["server"][..], SERVER),
            ("client", &["client"], CLIENT),
            ("both", &["server", "client"], BOTH),
            ("odd", &["server", "client"], odd),
        ] {
            maker.issue(&dir, &dir.join(name), ends, template)?;
            let end = ends.first().context("an end")?;
            made.push(summary(&dir.join(name).join(format!("{end}-cert.pem")))?);
        }
        Ok(made)
    };
    let sorted = |texts: Option<Vec<String>>| {
        texts.map(|mut texts| {
            texts.sort();
            texts
        })
    };
    let (theirs, ours) = (certificates(Maker::Certtool)?, certificates(Maker::Qio)?);
    for (theirs, ours) in theirs.into_iter().zip(ours) {
        let about = theirs.subject.clone();
        ensure!(
            ours.subject == theirs.subject,
            "{} and {}",
            ours.subject,
            theirs.subject
        );
        ensure!(ours.issuer == theirs.issuer, "{about}");
        ensure!(ours.dns_names == theirs.dns_names, "{about}");
        ensure!(ours.ip_addresses == theirs.ip_addresses, "{about}");
        ensure!(ours.other_names == theirs.other_names, "{about}");
        ensure!(
            ours.ca == theirs.ca && ours.key_usage == theirs.key_usage,
            "{about}: {ours:?} {theirs:?}"
        );
        ensure!(
            sorted(ours.extended_key_usage) == sorted(theirs.extended_key_usage),
            "{about}"
        );
        if about.contains("Ltd") {
            ensure!(
                ours.serial == theirs.serial,
                "{} and {}",
                ours.serial,
                theirs.serial
            );
            let dates = (theirs.not_before, theirs.not_after);
            ensure!((ours.not_before, ours.not_after) == dates, "{about}");
        }
    }
    Ok(())
}

// ---- host names as in 2015 ----

#[test]
fn a_certificate_of_2015_with_a_common_name_only_still_verifies() -> anyhow::Result<()> {
    let site = Site::new()?;
    let image = image(&site)?;
    let ca = site.path("ca");
    let dates = "activation_date = \"2015-03-01 00:00:00\"\nexpiration_date = \"2045-03-01 00:00:00\"\n";
    Maker::Certtool.authority(&ca, &format!("{CA}{dates}"))?;
    let usage = "tls_www_server\nencryption_key\nsigning_key\n";
    for (folder, template, served) in [
        (
            "cn-only",
            format!("organization = Old\ncn = localhost\n{dates}{usage}"),
            true,
        ),
        (
            "cn-and-san",
            format!("organization = Old\ncn = localhost\ndns_name = other.example\n{dates}{usage}"),
            false,
        ),
    ] {
        Maker::Certtool.issue(&ca, &site.path(folder), &["server"], &template)?;
        Maker::Certtool.issue(&ca, &site.path(folder), &["client"], CLIENT)?;
        for server_name in SERVERS {
            let server = serve(&site, server_name, folder, &image)?;
            for name in CLIENTS {
                let got = attempt(&site, &server, name, folder, served)?;
                ensure!(
                    got == served,
                    "{name} of {server_name} with {folder}: served? {got}"
                );
            }
        }
    }
    Ok(())
}
