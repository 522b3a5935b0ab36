//! `qio pki revoke`: takes certificates back.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use qio_creds::pki::{Directory, RevocationList, RevocationReason};
use qio_creds::rustls_pki_types::CertificateDer;
use qio_creds::rustls_pki_types::pem::PemObject as _;
use qio_creds::{CertificateSummary, printable};

use super::load_authority;

/// How long a list is good unless the user says otherwise. QEMU and qio go on using one that is overdue; OpenSSL
/// does not.
const CRL_DAYS: u32 = 365;

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The directory of the authority.
    dir: PathBuf,
    /// Certificates to revoke, in PEM form: the first of each file. Without any, the list is only made anew.
    #[arg(value_name = "CERT")]
    certificates: Vec<PathBuf>,
    /// Why, by the names of RFC 5280: keyCompromise, superseded, cessationOfOperation, ...
    #[arg(long, value_name = "REASON", default_value_t)]
    reason: RevocationReason,
    /// In how many days the next list is due.
    #[arg(long, value_name = "N", default_value_t = CRL_DAYS, value_parser = clap::value_parser!(u32).range(1..))]
    crl_days: u32,
    /// Use the authority's key even if other users can read it.
    #[arg(long)]
    insecure: bool,
}

impl Revoke {
    #[allow(clippy::print_stdout, reason = "what the command prints is its result")]
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let authority = load_authority(&self.dir, self.insecure)?;
        let directory = Directory::existing(&self.dir);
        let mut list = RevocationList::open(&directory, &authority)?;
        for file in &self.certificates {
            let about = || file.display().to_string();
            let certificate = match CertificateDer::pem_file_iter(file).with_context(about)?.next() {
                Some(certificate) => certificate.with_context(about)?,
                None => bail!("{} holds no certificate in PEM form", file.display()),
            };
            let new = list.revoke(&certificate, self.reason).with_context(about)?;
            let summary = CertificateSummary::from_der(&certificate).with_context(about)?;
            let state = if new { "revoked" } else { "revoked before:" };
            println!(
                "{state} '{}', serial number {}",
                printable(&summary.subject),
                summary.serial
            );
        }
        let (path, summary) = list.publish(self.crl_days)?;
        println!("wrote {}", path.display());
        println!(
            "It lists {} certificate(s); the next list is due in {} days.",
            summary.revoked.len(),
            self.crl_days
        );
        if !may_sign_lists(&authority) {
            println!(
                "Note: the authority's key usage has no cRLSign (crl_signing_key). QEMU and qio take its lists all the \
                 same; OpenSSL does not."
            );
        }
        println!("Copy it beside ca-cert.pem on every server, and reload or restart the servers.");
        Ok(())
    }
}

fn may_sign_lists(authority: &qio_creds::pki::Authority) -> bool {
    let usage = authority
        .pair()
        .summary()
        .ok()
        .and_then(|summary| summary.key_usage);
    usage.is_none_or(|usage| usage.contains(&"cRLSign"))
}
