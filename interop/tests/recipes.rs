//! The recipes of QEMU's TLS documentation, done with certtool as it gives them and with `qio pki`: whichever made
//! what, QEMU, libnbd and we take it, in every combination of client and server. And certificates taken back.

use std::fmt;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use qio_creds::CertificateSummary;
use qio_creds::rustls_pki_types::CertificateDer;
use qio_creds::rustls_pki_types::pem::PemObject as _;
use qio_interop::site::{NbdServer, Route, Site, qio};
use qio_interop::{require, run, succeed};

// ---- the recipes ----

const CA: &str = "\
cn = Name of your organization
ca
cert_signing_key
";

/// The documentation's, and the name by which the tests reach the host.
const SERVER: &str = "\
organization = Name  of your organization
cn = hostNNN.foo.example.com
dns_name = hostNNN
dns_name = hostNNN.foo.example.com
dns_name = localhost
ip_address = 10.0.1.87
ip_address = 192.8.0.92
ip_address = 2620:0:cafe::87
ip_address = 2001:24::92
tls_www_server
encryption_key
signing_key
";

const CLIENT: &str = "\
country = GB
state = London
locality = City Of London
organization = Name of your organization
cn = hostNNN.foo.example.com
tls_www_client
encryption_key
signing_key
";

const BOTH: &str = "\
country = GB
state = London
locality = City Of London
organization = Name of your organization
cn = hostNNN.foo.example.com
dns_name = hostNNN
dns_name = hostNNN.foo.example.com
dns_name = localhost
ip_address = 10.0.1.87
ip_address = 192.8.0.92
ip_address = 2620:0:cafe::87
ip_address = 2001:24::92
tls_www_server
tls_www_client
encryption_key
signing_key
";

/// Who follows the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Certtool,
    Qio,
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Maker::Certtool => "certtool",
            Maker::Qio => "qio",
        })
    }
}

const MAKERS: [Maker; 2] = [Maker::Certtool, Maker::Qio];

fn certtool() -> anyhow::Result<Command> {
    Ok(Command::new(require("certtool", "gnutls-bin")?))
}

impl Maker {
    /// The first recipe: `ca-cert.pem` and `ca-key.pem`.
    fn authority(self, dir: &Path, template: &str) -> anyhow::Result<()> {
        fs::create_dir_all(dir)?;
        let info = dir.join("ca.info");
        fs::write(&info, template)?;
        match self {
            Maker::Certtool => {
                certtool_key(&dir.join("ca-key.pem"))?;
                let mut command = certtool()?;
                command
                    .arg("--generate-self-signed")
                    .arg("--load-privkey")
                    .arg(dir.join("ca-key.pem"));
                command
                    .arg("--template")
                    .arg(info)
                    .arg("--outfile")
                    .arg(dir.join("ca-cert.pem"));
                succeed(&mut command)?;
            }
            Maker::Qio => {
                succeed(qio()?.args(["pki", "init"]).arg(dir).arg("--template").arg(info))?;
            }
        }
        Ok(())
    }

    /// The others: a certificate of the authority in `ca`, under QEMU's names in `dir`, beside the authority's.
    fn issue(self, ca: &Path, dir: &Path, ends: &[&str], template: &str) -> anyhow::Result<()> {
        fs::create_dir_all(dir)?;
        let first = ends.first().context("an end")?;
        let info = dir.join(format!("{first}.info"));
        fs::write(&info, template)?;
        match self {
            Maker::Certtool => {
                fs::copy(ca.join("ca-cert.pem"), dir.join("ca-cert.pem"))?;
                let (key, certificate) = (dir.join("key.pem"), dir.join("cert.pem"));
                certtool_key(&key)?;
                let mut command = certtool()?;
                command
                    .arg("--generate-certificate")
                    .arg("--load-privkey")
                    .arg(&key);
                command.arg("--load-ca-certificate").arg(ca.join("ca-cert.pem"));
                command.arg("--load-ca-privkey").arg(ca.join("ca-key.pem"));
                command
                    .arg("--template")
                    .arg(info)
                    .arg("--outfile")
                    .arg(&certificate);
                succeed(&mut command)?;
                for end in ends {
                    fs::copy(&key, dir.join(format!("{end}-key.pem")))?;
                    fs::copy(&certificate, dir.join(format!("{end}-cert.pem")))?;
                }
                fs::remove_file(key)?;
                fs::remove_file(certificate)?;
            }
            Maker::Qio => {
                let word = if ends.len() == 2 { "both" } else { first };
                let mut command = qio()?;
                command.args(["pki", word]).arg(dir).arg("--ca").arg(ca);
                succeed(command.arg("--template").arg(info))?;
            }
        }
        Ok(())
    }
}

/// As the recipes make it, with the mode that they ask for.
fn certtool_key(path: &Path) -> anyhow::Result<()> {
    succeed(certtool()?.arg("--generate-privkey").arg("--outfile").arg(path))?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

fn summary(path: &Path) -> anyhow::Result<CertificateSummary> {
    let der = CertificateDer::from_pem_file(path).with_context(|| path.display().to_string())?;
    Ok(CertificateSummary::from_der(&der)?)
}

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

// ---- revocation ----

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

// ---- requests ----

#[test]
fn requests_are_signed_by_the_other_tool() -> anyhow::Result<()> {
    let tmp = tempfile::tempdir()?;
    let at = |name: &str| tmp.path().join(name);
    Maker::Qio.authority(tmp.path(), CA)?;
    fs::write(at("server.info"), SERVER)?;

    // Ours by certtool.
    let host = at("host");
    let mut request = qio()?;
    request
        .args(["pki", "request"])
        .arg(&host)
        .arg("--template")
        .arg(at("server.info"));
    succeed(&mut request)?;
    let csr = host.join("server-csr.pem");
    succeed(certtool()?.args(["--crq-info", "--infile"]).arg(&csr))?;
    let mut verify = Command::new(require("openssl", "openssl")?);
    succeed(verify.args(["req", "-verify", "-noout", "-in"]).arg(&csr))?;
    fs::write(at("honor.info"), "honor_crq_extensions\n")?;
    let mut sign = certtool()?;
    sign.arg("--generate-certificate").arg("--load-request").arg(&csr);
    sign.arg("--load-ca-certificate")
        .arg(at("ca-cert.pem"))
        .arg("--load-ca-privkey")
        .arg(at("ca-key.pem"));
    sign.arg("--template")
        .arg(at("honor.info"))
        .arg("--outfile")
        .arg(host.join("server-cert.pem"));
    succeed(&mut sign)?;
    let signed = summary(&host.join("server-cert.pem"))?;
    ensure!(
        signed.subject == "O=Name  of your organization,CN=hostNNN.foo.example.com",
        "{signed:?}"
    );
    ensure!(
        signed.dns_names.len() == 3 && signed.ip_addresses.len() == 4,
        "{signed:?}"
    );

    // Theirs by us.
    certtool_key(&at("their-key.pem"))?;
    let mut request = certtool()?;
    request
        .arg("--generate-request")
        .arg("--load-privkey")
        .arg(at("their-key.pem"));
    request
        .arg("--template")
        .arg(at("server.info"))
        .arg("--outfile")
        .arg(at("their-csr.pem"));
    succeed(&mut request)?;
    let shown = succeed(qio()?.args(["pki", "show"]).arg(at("their-csr.pem")))?;
    ensure!(
        shown.contains("signing request") && shown.contains("hostNNN.foo.example.com, localhost"),
        "{shown}"
    );
    let mut sign = qio()?;
    sign.args(["pki", "sign"])
        .arg(tmp.path())
        .args(["--for", "server", "--honor-names", "--csr"]);
    succeed(sign.arg(at("their-csr.pem")))?;
    let signed = summary(&at("their-cert.pem"))?;
    ensure!(
        signed.subject == "O=Name  of your organization,CN=hostNNN.foo.example.com",
        "{signed:?}"
    );
    ensure!(
        signed.dns_names.len() == 3 && signed.ip_addresses.len() == 4,
        "{signed:?}"
    );
    let mut verify = certtool()?;
    verify
        .arg("--verify")
        .arg("--load-ca-certificate")
        .arg(at("ca-cert.pem"));
    succeed(verify.arg("--infile").arg(at("their-cert.pem")))?;
    Ok(())
}
