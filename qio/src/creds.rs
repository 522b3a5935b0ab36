//! `qio creds`: credentials objects, looked at before a service uses them.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use qio_creds::{
    CertificateSummary, Contents, CredsError, Endpoint, KeyPermissions, Problem, TlsCreds, X509,
};
use qio_opts::ObjectRegistry;
use serde::Serialize;
use tracing::subscriber::{NoSubscriber, with_default};

use crate::objects::Spec;

/// Look at TLS credentials before a service uses them.
#[derive(Debug, Args)]
pub(crate) struct CredsCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Check(Check),
}

/// Load objects as a service would, and say everything that is wrong with them.
///
/// Ends with exit code 0 if all of them can be used, and with 1 if not. Warnings tell what will work, though perhaps
/// not with every peer.
#[derive(Debug, Args)]
struct Check {
    /// An object to check; secrets that it needs are given in the same way.
    #[arg(long = "object", value_name = "TYPE,id=ID,...", required = true)]
    objects: Vec<String>,
    /// Accept private keys even if others can read their files.
    #[arg(long)]
    insecure: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &CredsCommand) -> anyhow::Result<ExitCode> {
    let Action::Check(check) = &command.command;
    // What loading warns of is in the report, and need not be in the log as well.
    let report = with_default(NoSubscriber::default(), || check.report())?;
    let text = if check.json {
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        report.to_string()
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.context("cannot write to standard output")?,
    }
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Check {
    fn report(&self) -> anyhow::Result<Report> {
        let permissions = if self.insecure {
            KeyPermissions::Insecure
        } else {
            KeyPermissions::Private
        };
        let registry = ObjectRegistry::new();
        let specs = Spec::parse_all(&self.objects)?;
        let objects: Vec<_> = specs
            .into_iter()
            .map(|spec| Checked::new(spec, permissions, &registry))
            .collect();
        Ok(Report {
            ok: objects.iter().all(|object| object.ok),
            objects,
        })
    }
}

/// What was found, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    objects: Vec<Checked>,
}

/// One object.
#[derive(Debug, Serialize)]
struct Checked {
    id: String,
    #[serde(rename = "type")]
    type_name: String,
    ok: bool,
    /// What is wrong with the object, where that is not a matter of one file.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Finding>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holds: Option<Holds>,
}

/// Something about one file.
#[derive(Debug, Serialize)]
struct Finding {
    file: PathBuf,
    what: String,
    remedy: String,
}

/// What credentials that can be used hold.
#[derive(Debug, Serialize)]
struct Holds {
    endpoint: Endpoint,
    #[serde(skip_serializing_if = "Option::is_none")]
    verify_peer: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorities: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_lists: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    identities: Vec<CertificateSummary>,
}

impl Checked {
    fn new(spec: Spec, permissions: KeyPermissions, registry: &ObjectRegistry) -> Self {
        let mut checked = Self {
            id: spec.id().to_owned(),
            type_name: spec.type_name().to_owned(),
            ok: true,
            error: None,
            problems: Vec::new(),
            warnings: Vec::new(),
            holds: None,
        };
        if let Err(error) = spec.make(permissions, registry) {
            checked.ok = false;
            match error.downcast_ref::<CredsError>().map(CredsError::problems) {
                None | Some([]) => checked.error = Some(crate::told(&error)),
                Some(problems) => checked.problems = findings(problems),
            }
        } else if let Ok(creds) = registry.get::<TlsCreds>(&checked.id) {
            let snapshot = creds.snapshot();
            checked.warnings = findings(snapshot.warnings());
            let x509 = match snapshot.contents() {
                Contents::X509(x509) => Some(x509),
                _ => None,
            };
            checked.holds = Some(Holds {
                endpoint: creds.endpoint(),
                verify_peer: x509.map(X509::verify_peer),
                authorities: x509.map(|x509| x509.ca().len()),
                revocation_lists: x509.map(|x509| x509.crls().len()),
                identities: x509.map(identities).unwrap_or_default(),
            });
        }
        checked
    }
}

fn findings(problems: &[Problem]) -> Vec<Finding> {
    let finding = |problem: &Problem| Finding {
        file: problem.file.clone(),
        what: problem.what.to_string(),
        remedy: problem.remedy(),
    };
    problems.iter().map(finding).collect()
}

fn identities(x509: &X509) -> Vec<CertificateSummary> {
    let leaves = x509
        .identities()
        .iter()
        .filter_map(|identity| identity.chain().first());
    leaves
        .filter_map(|leaf| CertificateSummary::from_der(leaf).ok())
        .collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.iter().try_for_each(|object| object.fmt(f))
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.ok { "can be used" } else { "cannot be used" };
        write!(f, "{} ({}", self.id, self.type_name)?;
        if let Some(holds) = &self.holds {
            write!(f, ", {}", holds.endpoint)?;
        }
        writeln!(f, "): {verdict}")?;
        if let Some(error) = &self.error {
            writeln!(f, "  {error}")?;
        }
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "  warning: {warning}")?;
        }
        for identity in self.holds.iter().flat_map(|holds| &holds.identities) {
            let mut line = format!("  {}", qio_creds::printable(&identity.subject));
            write!(line, ", {}, until {}", identity.key, identity.not_after.date())?;
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.file.display(), self.what, self.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(objects: &[&str]) -> Report {
        let objects = objects.iter().map(|&object| object.to_owned()).collect();
        let check = Check {
            objects,
            insecure: false,
            json: false,
        };
        check.report().unwrap()
    }

    #[test]
    fn every_object_is_told_of_even_if_one_fails() {
        let report = check(&[
            "tls-creds-x509,id=tls0,dir=/does/not/exist,passwordid=sec1",
            "tls-creds-x509,id=tls1,dir=/does/not/exist",
            "secret,id=sec0,data=hunter2",
        ]);
        assert!(!report.ok);
        let verdicts: Vec<_> = report
            .objects
            .iter()
            .map(|object| (object.id.as_str(), object.ok, object.problems.len()))
            .collect();
        assert_eq!(
            verdicts,
            [("tls0", false, 0), ("tls1", false, 1), ("sec0", true, 0)]
        );
        let text = report.to_string();
        assert_eq!(text.matches("No secret with id 'sec1'").count(), 1, "{text}");
        assert!(
            text.contains("/does/not/exist: the directory does not exist; "),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["objects"][1]["problems"][0]["file"], "/does/not/exist");
        assert_eq!(
            json["objects"][2],
            serde_json::json!({"id": "sec0", "type": "secret", "ok": true})
        );
    }
}
