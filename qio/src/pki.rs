//! `qio pki`: makes certificate authorities and certificates, revokes them, and shows what is in them.

#![allow(clippy::print_stdout, reason = "what the command prints is its result")]

mod request;
mod revoke;
mod show;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use qio_creds::pki::{
    Authority, AuthorityTemplate, Directory, KeyKind, Name, Overwrite, Purpose, Template, Validity,
    parse_date,
};
use qio_creds::{CertificateSummary, Endpoint, KeyPermissions};
use time::OffsetDateTime;

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
    /// Make a key and a signing request for it, for an authority elsewhere: server-key.pem and server-csr.pem in DIR.
    Request(request::MakeRequest),
    /// Sign a request with the authority in DIR: make a certificate for a key that stays where it is.
    Sign(request::Sign),
    /// Revoke certificates of the authority in DIR: its ca-crl.pem is made, or made anew.
    Revoke(revoke::Revoke),
    /// Show what certificates, requests and revocation lists say: those in files, or all in a directory.
    Show(show::Show),
}

#[derive(Debug, Args)]
struct Init {
    /// The directory; made if it is not there.
    dir: PathBuf,
    /// The authority's name; "qio certificate authority" unless given here or in a template.
    #[arg(long, value_name = "NAME")]
    cn: Option<String>,
    #[command(flatten)]
    key: NewKey,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Issue {
    /// The directory the files go to; made if it is not there.
    dir: PathBuf,
    #[command(flatten)]
    subject: Subject,
    /// The directory of the authority, if it is not DIR; its ca-cert.pem is copied beside the new files.
    #[arg(long, value_name = "DIR")]
    ca: Option<PathBuf>,
    /// Use the authority's key even if other users can read it.
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    key: NewKey,
    #[command(flatten)]
    common: Common,
}

/// Who a certificate is for.
#[derive(Debug, Args)]
struct Subject {
    /// A name or IP address by which clients reach the host; may be given several times.
    ///
    /// A server without any, here or in a template, gets localhost, 127.0.0.1 and ::1.
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<Name>,
    /// The common name; the first --name unless given here or in a template.
    #[arg(long, value_name = "NAME")]
    cn: Option<String>,
}

/// The names of a server's certificate when nobody has said any.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

#[derive(Debug, Args)]
struct NewKey {
    /// The kind of key: p256, p384, ed25519, rsa2048, rsa3072 or rsa4096.
    #[arg(long, value_name = "KIND", default_value_t)]
    key_type: KeyKind,
}

#[derive(Debug, Args)]
struct Common {
    /// What the certificate says, as a template of certtool; other options come on top.
    ///
    /// An option of certtool that cannot be honoured is an error. Where the template says nothing, the validity is
    /// as without a template.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// The organization in the subject.
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// How many days it is valid: 3650 for an authority, 397 for others, and never longer than its authority.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    days: Option<u32>,
    /// When it begins to be valid, for instance 2030-12-31 or '2030-12-31 23:59:59', in UTC.
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    not_before: Option<OffsetDateTime>,
    /// When it ends, whatever its authority's end is.
    #[arg(long, value_name = "DATE", value_parser = parse_date, conflicts_with = "days")]
    not_after: Option<OffsetDateTime>,
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

    fn validity(&self) -> Option<Validity> {
        Validity::from_parts(self.not_before, self.not_after, self.days)
    }

    /// The template's file and what it holds.
    fn template(&self) -> anyhow::Result<Option<(&Path, String)>> {
        let read = |path: &'_ PathBuf| {
            fs::read_to_string(path).with_context(|| format!("cannot read the template {}", path.display()))
        };
        self.template
            .as_ref()
            .map(|path| Ok((path.as_path(), read(path)?)))
            .transpose()
    }
}

impl Subject {
    /// What the certificate is to say.
    fn template(&self, purpose: Purpose, common: &Common) -> anyhow::Result<Template> {
        let mut template = match common.template()? {
            Some((path, text)) => {
                Template::from_certtool(purpose, &text).with_context(|| path.display().to_string())?
            }
            None => Template::new(purpose),
        };
        template = self.names.iter().cloned().fold(template, Template::name);
        if let Some(cn) = &self.cn {
            template = template.common_name(cn);
        }
        if let Some(org) = &common.org {
            template = template.organization(org);
        }
        if let Some(validity) = common.validity() {
            template = template.validity(validity);
        }
        Ok(template)
    }

    /// Whether nobody has said a name for a certificate that needs one: it is then for this machine only.
    fn is_local(&self, purpose: Purpose, common: &Common) -> bool {
        self.names.is_empty() && common.template.is_none() && purpose != Purpose::Client
    }

    /// Likewise, with this machine's own names where there would be none.
    fn template_or_local(&self, purpose: Purpose, common: &Common) -> anyhow::Result<Template> {
        let mut template = self.template(purpose, common)?;
        if self.is_local(purpose, common) {
            for name in LOCAL_NAMES {
                template = template.name(name.parse()?);
            }
        }
        Ok(template)
    }
}

/// Runs the command. Prints to standard output.
///
/// # Errors
///
/// Whatever kept it from its result, in words for the user; the program ends with exit code 1.
pub(crate) fn run(command: PkiCommand) -> anyhow::Result<()> {
    match command.action {
        Action::Init(init) => make_authority(&init),
        Action::Server(issue) => make_pair(Purpose::Server, &issue),
        Action::Client(issue) => make_pair(Purpose::Client, &issue),
        Action::Both(issue) => make_pair(Purpose::Both, &issue),
        Action::Request(request) => request.run(),
        Action::Sign(sign) => sign.run(),
        Action::Revoke(revoke) => revoke.run(),
        Action::Show(show) => show.run(),
    }
}

fn make_authority(init: &Init) -> anyhow::Result<()> {
    let common = &init.common;
    let mut template = match common.template()? {
        Some((path, text)) => {
            let template =
                AuthorityTemplate::from_certtool(&text).with_context(|| path.display().to_string())?;
            init.cn.iter().fold(template, AuthorityTemplate::common_name)
        }
        None => AuthorityTemplate::new(init.cn.as_deref().unwrap_or("qio certificate authority")),
    };
    template = template.key(init.key.key_type);
    if let Some(org) = &common.org {
        template = template.organization(org);
    }
    if let Some(validity) = common.validity() {
        template = template.validity(validity);
    }
    let directory = Directory::create(&init.dir)?;
    if !common.force {
        directory.expect_no_authority()?; // before seconds go into a key
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

fn make_pair(purpose: Purpose, issue: &Issue) -> anyhow::Result<()> {
    let common = &issue.common;
    let template = issue
        .subject
        .template_or_local(purpose, common)?
        .key(issue.key.key_type);
    let authority = load_authority(issue.ca.as_ref().unwrap_or(&issue.dir), issue.insecure)?;

    let directory = Directory::create(&issue.dir)?;
    if !common.force {
        directory.expect_room(purpose)?;
    }
    let pair = authority.issue(&template)?;
    let mut written = directory.write_ca_certificate(authority.certificate(), common.overwrite())?;
    written.extend(directory.write_pair(purpose, &pair, common.overwrite())?);

    print_written(&written);
    if issue.subject.is_local(purpose, common) {
        println!("No --name was given: the certificate is for localhost, 127.0.0.1 and ::1 only.");
    }
    print_certificate(&pair.summary()?, common.days);
    println!("\nUse it with:");
    let dir = fs::canonicalize(directory.path()).unwrap_or_else(|_| directory.path().to_owned());
    for endpoint in purpose.endpoints() {
        println!("  --object {}", object(*endpoint, &dir));
    }
    Ok(())
}

fn load_authority(dir: &Path, insecure: bool) -> anyhow::Result<Authority> {
    let permissions = if insecure {
        KeyPermissions::Insecure
    } else {
        KeyPermissions::Private
    };
    Ok(Authority::load(&Directory::existing(dir), permissions)?)
}

fn print_written(paths: &[PathBuf]) {
    for path in paths {
        println!("wrote {}", path.display());
    }
}

fn print_certificate(summary: &CertificateSummary, days: Option<u32>) {
    println!("{summary}");
    let left = show::days_left(summary);
    if days.is_some_and(|days| left.saturating_add(1) < i64::from(days)) {
        println!("It ends with its authority, in {left} days.");
    }
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

#[cfg(test)]
mod tests;
