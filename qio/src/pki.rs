//! `qio pki`: makes certificate authorities and certificates, and shows what is in them.

#![allow(clippy::print_stdout, reason = "what the command prints is its result")]

mod show;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use qio_creds::pki::{
    Authority, AuthorityTemplate, Directory, KeyKind, Name, Overwrite, Pair, Purpose, Template, Validity,
};
use qio_creds::{Endpoint, KeyPermissions};

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
    Show(show::Show),
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
        Action::Show(show) => show.run(),
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
    let left = show::days_left(&summary);
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

#[cfg(test)]
mod tests;
