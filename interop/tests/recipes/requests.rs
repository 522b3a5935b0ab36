//! Signing requests of one tool, signed by the other.

use std::fs;
use std::process::Command;

use anyhow::ensure;
use qio_interop::site::qio;
use qio_interop::{require, succeed};

use super::maker::{CA, Maker, SERVER, certtool, certtool_key, summary};

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
