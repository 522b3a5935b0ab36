//! `qio pki show`: certificates, requests and revocation lists as a person wants to read them, or as JSON.

mod describe;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use qio_creds::pki::{Request, RequestSummary, RevocationListSummary};
use qio_creds::rustls_pki_types::pem::{PemObject as _, SectionKind};
use qio_creds::{CertificateSummary, printable};
use serde::Serialize;
use time::OffsetDateTime;

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Certificates, signing requests and revocation lists in PEM or DER form, or directories of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON: a list with one object for each of them.
    #[arg(long)]
    json: bool,
}

impl Show {
    /// Prints what the files hold, or says why it cannot.
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
            } else if read_file(path, &mut shown)? == 0 {
                bail!(
                    "{} holds no certificate, request or revocation list, neither in PEM form nor in DER",
                    path.display()
                );
            }
        }
        Ok(if self.json {
            serde_json::to_string_pretty(&shown)? + "\n"
        } else {
            shown.iter().map(Shown::describe).collect::<Vec<_>>().join("\n")
        })
    }
}

/// Something of a file, as `show --json` prints it.
#[derive(Debug, Serialize)]
struct Shown {
    file: PathBuf,
    #[serde(flatten)]
    item: Item,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Item {
    Certificate {
        #[serde(flatten)]
        certificate: Box<CertificateSummary>,
        days_left: i64,
        valid_now: bool,
    },
    Request(RequestSummary),
    RevocationList(RevocationListSummary),
}

impl Item {
    fn certificate(certificate: CertificateSummary) -> Self {
        Self::Certificate {
            days_left: days_left(&certificate),
            valid_now: certificate.is_valid_at(OffsetDateTime::now_utc()),
            certificate: Box::new(certificate),
        }
    }
}

impl Shown {
    fn describe(&self) -> String {
        let lines = match &self.item {
            Item::Certificate {
                certificate,
                days_left,
                valid_now,
            } => describe::certificate(certificate, *days_left, *valid_now),
            Item::Request(request) => describe::request(request),
            Item::RevocationList(list) => describe::revocation_list(list),
        };
        let mut text = format!("{}\n", self.file.display());
        for (label, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
            let _ = writeln!(text, "  {label:<12} {}", printable(value)); // writing to a String cannot fail
        }
        text
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
        let wanted = file.extension().is_some_and(|extension| {
            ["pem", "crt", "cer", "csr", "crl"]
                .iter()
                .any(|known| extension == *known)
        });
        if wanted && file.is_file() && !is_key_by_name(&file) {
            read_file(&file, shown)?;
        }
    }
    if shown.len() == before {
        bail!(
            "{} holds no certificate, request or revocation list (*.pem, *.crt, *.cer, *.csr, *.crl)",
            dir.display()
        );
    }
    Ok(())
}

/// A file that is a key by its name is not opened: its owner may be somebody else, and there is nothing to show.
fn is_key_by_name(file: &Path) -> bool {
    file.file_stem()
        .is_some_and(|stem| stem.to_string_lossy().ends_with("-key"))
}

fn read_file(file: &Path, shown: &mut Vec<Shown>) -> anyhow::Result<usize> {
    let contents = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut found = 0;
    let mut show = |item| {
        let file = file.to_owned();
        shown.push(Shown { file, item });
    };
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&contents) {
        let about = |what| format!("{what} {} of {}", found + 1, file.display());
        let (kind, der) = section.with_context(|| format!("{} is not well-formed PEM", about("section")))?;
        let item = match kind {
            SectionKind::Certificate => CertificateSummary::from_der(&der)
                .map(Item::certificate)
                .with_context(|| format!("{} cannot be read", about("certificate")))?,
            SectionKind::Csr => Request::read(&der)
                .map(|request| Item::Request(request.summary().clone()))
                .with_context(|| format!("{} cannot be read", about("request")))?,
            SectionKind::Crl => RevocationListSummary::from_der(&der)
                .map(Item::RevocationList)
                .with_context(|| format!("{} cannot be read", about("revocation list")))?,
            _ => continue, // there is nothing to show of a key
        };
        found += 1;
        show(item);
    }
    if found == 0
        && let Some(item) = read_other_form(&contents)
    {
        found = 1;
        show(item);
    }
    Ok(found)
}

/// DER, or certtool's label for a request.
fn read_other_form(contents: &[u8]) -> Option<Item> {
    if let Ok(certificate) = CertificateSummary::from_der(contents) {
        return Some(Item::certificate(certificate));
    }
    if let Ok(list) = RevocationListSummary::from_der(contents) {
        return Some(Item::RevocationList(list));
    }
    let request = Request::read(contents).ok()?;
    Some(Item::Request(request.summary().clone()))
}

/// Whole days until it ends; negative once it has.
pub(super) fn days_left(certificate: &CertificateSummary) -> i64 {
    (certificate.not_after - OffsetDateTime::now_utc()).whole_days()
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
        let item = Item::certificate(summary);
        let text = Shown {
            file: "f".into(),
            item,
        }
        .describe();
        assert!(
            text.contains("2015-01-01 00:00 UTC to 2016-01-01 00:00 UTC (EXPIRED)"),
            "{text}"
        );
    }
}
