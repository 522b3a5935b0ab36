//! The four recipes, and who follows them.
#![allow(unreachable_pub, reason = "a module of a test")]

use std::fmt;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use qio_creds::CertificateSummary;
use qio_creds::rustls_pki_types::CertificateDer;
use qio_creds::rustls_pki_types::pem::PemObject as _;
use qio_interop::site::qio;
use qio_interop::{require, succeed};

pub const CA: &str = "\
cn = Name of your organization
ca
cert_signing_key
";

/// The documentation's, and the name by which the tests reach the host.
pub const SERVER: &str = "\
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

pub const CLIENT: &str = "\
country = GB
state = London
locality = City Of London
organization = Name of your organization
cn = hostNNN.foo.example.com
tls_www_client
encryption_key
signing_key
";

pub const BOTH: &str = "\
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
pub enum Maker {
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

pub const MAKERS: [Maker; 2] = [Maker::Certtool, Maker::Qio];

pub fn certtool() -> anyhow::Result<Command> {
    Ok(Command::new(require("certtool", "gnutls-bin")?))
}

impl Maker {
    /// The first recipe: `ca-cert.pem` and `ca-key.pem`.
    pub fn authority(self, dir: &Path, template: &str) -> anyhow::Result<()> {
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
    pub fn issue(self, ca: &Path, dir: &Path, ends: &[&str], template: &str) -> anyhow::Result<()> {
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
pub fn certtool_key(path: &Path) -> anyhow::Result<()> {
    succeed(certtool()?.arg("--generate-privkey").arg("--outfile").arg(path))?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

pub fn summary(path: &Path) -> anyhow::Result<CertificateSummary> {
    let der = CertificateDer::from_pem_file(path).with_context(|| path.display().to_string())?;
    Ok(CertificateSummary::from_der(&der)?)
}
