//! `qio pki show`: certificates as a person wants to read them, or as JSON.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use qio_creds::rustls_pki_types::CertificateDer;
use qio_creds::rustls_pki_types::pem::PemObject as _;
use qio_creds::{CertificateSummary, printable};
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Certificates in PEM or DER form, or directories of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON: a list with one object for each certificate.
    #[arg(long)]
    json: bool,
}

impl Show {
    /// Prints the certificates, or says why it cannot.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        match io::stdout().lock().write_all(self.text()?.as_bytes()) {
            // The reader has seen enough: `qio pki show DIR | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.context("cannot write to standard output"),
        }
    }

    fn text(&self) -> anyhow::Result<String> {
        let mut shown = Vec::new();
        for path in &self.files {
            if path.is_dir() {
                read_directory(path, &mut shown)?;
            } else if read_certificates(path, &mut shown)? == 0 {
                bail!(
                    "{} holds no certificate, neither in PEM form nor in DER",
                    path.display()
                );
            }
        }
        Ok(if self.json {
            serde_json::to_string_pretty(&shown)? + "\n"
        } else {
            shown.iter().map(describe).collect::<Vec<_>>().join("\n")
        })
    }
}

/// A certificate of a file, as `show --json` prints it.
#[derive(Debug, Serialize)]
struct Shown {
    file: PathBuf,
    #[serde(flatten)]
    certificate: CertificateSummary,
    days_left: i64,
    valid_now: bool,
}

impl Shown {
    fn new(file: &Path, certificate: CertificateSummary) -> Self {
        let valid_now = certificate.is_valid_at(OffsetDateTime::now_utc());
        Self {
            file: file.to_owned(),
            days_left: days_left(&certificate),
            valid_now,
            certificate,
        }
    }
}

fn read_directory(dir: &Path, shown: &mut Vec<Shown>) -> anyhow::Result<()> {
    let reading = || format!("cannot read the directory {}", dir.display());
    let entries = fs::read_dir(dir)
        .with_context(reading)?
        .collect::<Result<Vec<_>, _>>()
        .with_context(reading)?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    files.sort();
    let before = shown.len();
    for file in files {
        let wanted = file
            .extension()
            .is_some_and(|e| e == "pem" || e == "crt" || e == "cer");
        if wanted && file.is_file() && !is_key_by_name(&file) {
            read_certificates(&file, shown)?;
        }
    }
    if shown.len() == before {
        bail!("{} holds no certificate (*.pem, *.crt, *.cer)", dir.display());
    }
    Ok(())
}

/// A file that is a key by its name is not opened: its owner may be somebody else, and there is nothing to show.
fn is_key_by_name(file: &Path) -> bool {
    file.file_stem()
        .is_some_and(|stem| stem.to_string_lossy().ends_with("-key"))
}

fn read_certificates(file: &Path, shown: &mut Vec<Shown>) -> anyhow::Result<usize> {
    let contents = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut found = 0;
    for der in CertificateDer::pem_slice_iter(&contents) {
        found += 1;
        let der =
            der.with_context(|| format!("certificate {found} of {} is not well-formed PEM", file.display()))?;
        let certificate = CertificateSummary::from_der(&der)
            .with_context(|| format!("certificate {found} of {} cannot be read", file.display()))?;
        shown.push(Shown::new(file, certificate));
    }
    if found == 0
        && let Ok(certificate) = CertificateSummary::from_der(&contents)
    {
        found = 1;
        shown.push(Shown::new(file, certificate));
    }
    Ok(found)
}

/// Whole days until it ends; negative once it has.
pub(super) fn days_left(certificate: &CertificateSummary) -> i64 {
    (certificate.not_after - OffsetDateTime::now_utc()).whole_days()
}

fn describe(shown: &Shown) -> String {
    let certificate = &shown.certificate;
    let names = if certificate.ca {
        Vec::new()
    } else {
        certificate.names()
    };
    let lines = [
        ("subject", certificate.subject.clone()),
        ("issuer", certificate.issuer.clone()),
        ("names", names.join(", ")),
        ("other names", certificate.other_names.join(", ")),
        ("valid", validity(shown)),
        (
            "kind",
            if certificate.ca {
                "certificate authority"
            } else {
                "end certificate"
            }
            .to_owned(),
        ),
        ("key", certificate.key.to_string()),
        (
            "key usage",
            certificate
                .key_usage
                .as_ref()
                .map_or("any".to_owned(), |usage| usage.join(", ")),
        ),
        (
            "purpose",
            certificate
                .extended_key_usage
                .as_ref()
                .map_or("any".to_owned(), |usage| usage.join(", ")),
        ),
        ("serial", certificate.serial.clone()),
        ("SHA-256", certificate.sha256.clone()),
    ];
    let mut text = format!("{}\n", shown.file.display());
    for (label, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "  {label:<12} {}", printable(value)); // writing to a String cannot fail
    }
    text
}

fn validity(shown: &Shown) -> String {
    let certificate = &shown.certificate;
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    let print = |moment: OffsetDateTime| moment.format(format).unwrap_or_else(|_| moment.to_string());
    let state = match (shown.valid_now, shown.days_left) {
        (true, 1) => "1 day left".to_owned(),
        (true, days) => format!("{days} days left"),
        (false, _) if certificate.not_before > OffsetDateTime::now_utc() => "NOT YET VALID".to_owned(),
        (false, _) => "EXPIRED".to_owned(),
    };
    format!(
        "{} to {} ({state})",
        print(certificate.not_before),
        print(certificate.not_after)
    )
}

#[cfg(test)]
pub(super) fn text(file: &Path, json: bool) -> anyhow::Result<String> {
    Show {
        files: vec![file.to_owned()],
        json,
    }
    .text()
}

#[cfg(test)]
mod tests {
    use qio_creds::pki::{Authority, AuthorityTemplate, Validity};

    use super::*;

    #[test]
    fn show_reads_der_and_says_what_holds_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let authority = Authority::create(&AuthorityTemplate::new("CA")).unwrap();
        let file = tmp.path().join("file");
        fs::write(&file, authority.certificate()).unwrap();
        assert!(text(&file, false).unwrap().contains("CN=CA"));
        fs::write(&file, "nothing").unwrap();
        assert!(
            text(&file, false)
                .unwrap_err()
                .to_string()
                .contains("holds no certificate")
        );
        assert!(
            text(tmp.path(), false)
                .unwrap_err()
                .to_string()
                .contains("holds no certificate")
        );
        assert!(
            text(&tmp.path().join("missing"), false)
                .unwrap_err()
                .to_string()
                .contains("missing")
        );
    }

    #[test]
    fn expired_certificates_are_shown_as_such() {
        let (not_before, not_after) = (
            time::macros::datetime!(2015-01-01 0:00 UTC),
            time::macros::datetime!(2016-01-01 0:00 UTC),
        );
        let template = AuthorityTemplate::new("CA").validity(Validity::Between {
            not_before,
            not_after,
        });
        let summary = Authority::create(&template).unwrap().pair().summary().unwrap();
        let text = describe(&Shown::new(Path::new("f"), summary));
        assert!(
            text.contains("2015-01-01 00:00 UTC to 2016-01-01 00:00 UTC (EXPIRED)"),
            "{text}"
        );
    }
}
