//! `qio pki`: makes certificate authorities and certificates, and shows what is in them.

#![allow(clippy::print_stdout, reason = "what the command prints is its result")]

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use qio_creds::pki::{
    Authority, AuthorityTemplate, Directory, KeyKind, Name, Overwrite, Pair, Purpose, Template, Validity,
};
use qio_creds::rustls_pki_types::CertificateDer;
use qio_creds::rustls_pki_types::pem::PemObject as _;
use qio_creds::{CertificateSummary, Endpoint, KeyPermissions, printable};
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

/// Make certificates that QEMU, GnuTLS, OpenSSL and qio accept, and look at them.
///
/// The files have the names that QEMU's `tls-creds-x509` object looks for. Private keys are made readable by their
/// owner only, and no file is replaced unless `--force` says so.
#[derive(Debug, Args)]
pub(crate) struct PkiCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a certificate authority: ca-cert.pem and ca-key.pem in DIR.
    Init(Init),
    /// Make a server's certificate: server-cert.pem and server-key.pem in DIR.
    Server(Issue),
    /// Make a client's certificate: client-cert.pem and client-key.pem in DIR.
    Client(Issue),
    /// Make one certificate for both ends, as migration needs it, under the server's and the client's names.
    Both(Issue),
    /// Show what certificates say: those in files, or all in a directory.
    Show(Show),
}

#[derive(Debug, Args)]
struct Init {
    /// The directory; made if it is not there.
    dir: PathBuf,
    /// The authority's name.
    #[arg(long, value_name = "NAME", default_value = "qio certificate authority")]
    cn: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Issue {
    /// The directory the files go to; made if it is not there.
    dir: PathBuf,
    /// A name or IP address by which clients reach the host; may be given several times.
    ///
    /// A server without any gets localhost, 127.0.0.1 and ::1.
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<Name>,
    /// The common name; the first --name unless given.
    #[arg(long, value_name = "NAME")]
    cn: Option<String>,
    /// The directory of the authority, if it is not DIR; its ca-cert.pem is copied beside the new files.
    #[arg(long, value_name = "DIR")]
    ca: Option<PathBuf>,
    /// Use the authority's key even if other users can read it.
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// The organization in the subject.
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// The kind of key: p256, p384, ed25519, rsa2048, rsa3072 or rsa4096.
    #[arg(long, value_name = "KIND", default_value_t)]
    key_type: KeyKind,
    /// How many days it is valid: 3650 for an authority, 397 for others, and never longer than its authority.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    days: Option<u32>,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

impl Common {
    fn overwrite(&self) -> Overwrite {
        if self.force {
            Overwrite::Replace
        } else {
            Overwrite::Refuse
        }
    }
}

#[derive(Debug, Args)]
struct Show {
    /// Certificates in PEM or DER form, or directories of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON: a list with one object for each certificate.
    #[arg(long)]
    json: bool,
}

/// Runs the command. Prints to standard output.
///
/// # Errors
///
/// Whatever kept it from its result, in words for the user; the program ends with exit code 1.
pub(crate) fn run(command: PkiCommand) -> anyhow::Result<()> {
    match command.action {
        Action::Init(init) => make_authority(init),
        Action::Server(issue) => make_pair(Purpose::Server, issue),
        Action::Client(issue) => make_pair(Purpose::Client, issue),
        Action::Both(issue) => make_pair(Purpose::Both, issue),
        Action::Show(show) => show_files(&show),
    }
}

fn make_authority(init: Init) -> anyhow::Result<()> {
    let Init { dir, cn, common } = init;
    let directory = Directory::create(dir)?;
    if !common.force {
        directory.expect_no_authority()?; // before seconds go into a key
    }
    let mut template = AuthorityTemplate::new(cn).key(common.key_type);
    if let Some(org) = &common.org {
        template = template.organization(org);
    }
    if let Some(days) = common.days {
        template = template.validity(Validity::Days(days));
    }
    let authority = Authority::create(&template)?;
    let written = directory.write_authority(&authority, common.overwrite())?;

    print_written(&written);
    println!("{}", authority.pair().summary()?);
    println!(
        "Keep {} to yourself: whoever has it can pass for any host.",
        directory.ca_key().display()
    );
    println!("\nNext:");
    let dir = directory.path().display();
    println!("  qio pki server {dir} --name HOST");
    println!("  qio pki client {dir}");
    Ok(())
}

fn make_pair(purpose: Purpose, issue: Issue) -> anyhow::Result<()> {
    let Issue {
        dir,
        names,
        cn,
        ca,
        insecure,
        common,
    } = issue;
    let local_only = names.is_empty() && purpose != Purpose::Client;
    let names = if local_only {
        ["localhost", "127.0.0.1", "::1"]
            .map(str::parse)
            .into_iter()
            .collect::<Result<_, _>>()?
    } else {
        names
    };
    let home = Directory::existing(ca.as_ref().unwrap_or(&dir));
    let permissions = if insecure {
        KeyPermissions::Insecure
    } else {
        KeyPermissions::Private
    };
    let authority = Authority::load(&home, permissions)?;

    let directory = Directory::create(dir)?;
    if !common.force {
        directory.expect_room(purpose)?;
    }
    let mut template = Template::new(purpose).key(common.key_type);
    template = names.into_iter().fold(template, Template::name);
    if let Some(cn) = cn {
        template = template.common_name(cn);
    }
    if let Some(org) = &common.org {
        template = template.organization(org);
    }
    if let Some(days) = common.days {
        template = template.validity(Validity::Days(days));
    }
    let pair = authority.issue(&template)?;
    let mut written = directory.write_ca_certificate(authority.certificate(), common.overwrite())?;
    written.extend(directory.write_pair(purpose, &pair, common.overwrite())?);

    print_written(&written);
    if local_only {
        println!("No --name was given: the certificate is for localhost, 127.0.0.1 and ::1 only.");
    }
    print_pair(&pair, common.days)?;
    println!("\nUse it with:");
    let dir = fs::canonicalize(directory.path()).unwrap_or_else(|_| directory.path().to_owned());
    for endpoint in purpose.endpoints() {
        println!("  --object {}", object(*endpoint, &dir));
    }
    Ok(())
}

fn print_written(paths: &[PathBuf]) {
    for path in paths {
        println!("wrote {}", path.display());
    }
}

fn print_pair(pair: &Pair, days: Option<u32>) -> anyhow::Result<()> {
    let summary = pair.summary()?;
    println!("{summary}");
    let left = days_left(&summary);
    if days.is_some_and(|days| left.saturating_add(1) < i64::from(days)) {
        println!("It ends with its authority, in {left} days.");
    }
    Ok(())
}

/// The object as it stands on a command line of QEMU or qio. Commas in values are doubled there.
fn object(endpoint: Endpoint, dir: &Path) -> String {
    let dir = dir.display().to_string().replace(',', ",,");
    let text = format!("tls-creds-x509,id=tls0,endpoint={endpoint},dir={dir}");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-,=:+@%".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
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

fn show_files(show: &Show) -> anyhow::Result<()> {
    let mut shown = Vec::new();
    for path in &show.files {
        if path.is_dir() {
            show_directory(path, &mut shown)?;
        } else {
            let found = read_certificates(path, &mut shown)?;
            if found == 0 {
                bail!(
                    "{} holds no certificate, neither in PEM form nor in DER",
                    path.display()
                );
            }
        }
    }
    let text = if show.json {
        serde_json::to_string_pretty(&shown)? + "\n"
    } else {
        shown.iter().map(describe).collect::<Vec<_>>().join("\n")
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // The reader has seen enough: `qio pki show DIR | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

fn show_directory(dir: &Path, shown: &mut Vec<Shown>) -> anyhow::Result<()> {
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
fn days_left(certificate: &CertificateSummary) -> i64 {
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
mod tests {
    use super::*;

    #[test]
    fn the_object_line_survives_commas_and_spaces() {
        assert_eq!(
            object(Endpoint::Server, Path::new("/d")),
            "tls-creds-x509,id=tls0,endpoint=server,dir=/d"
        );
        assert_eq!(
            object(Endpoint::Client, Path::new("/a,b c")),
            "'tls-creds-x509,id=tls0,endpoint=client,dir=/a,,b c'"
        );
    }
}
