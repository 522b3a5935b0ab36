//! `qio pki request` and `qio pki sign`: a certificate for a key that never leaves its host.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use qio_creds::pki::{Directory, Purpose, Request, Template, write_certificate};
use qio_creds::{CertificateSummary, printable};

use super::{Common, NewKey, Subject, load_authority, print_certificate, print_written};

/// More than any request has.
const MAX_REQUEST_FILE: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum For {
    Server,
    Client,
    Both,
}

impl From<For> for Purpose {
    fn from(purpose: For) -> Self {
        match purpose {
            For::Server => Self::Server,
            For::Client => Self::Client,
            For::Both => Self::Both,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct MakeRequest {
    /// The directory the files go to; made if it is not there.
    dir: PathBuf,
    /// What the certificate is to be for.
    #[arg(long = "for", value_name = "END", default_value = "server")]
    purpose: For,
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    key: NewKey,
    #[command(flatten)]
    common: Common,
}

impl MakeRequest {
    #[allow(clippy::print_stdout, reason = "what the command prints is its result")]
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let purpose = self.purpose.into();
        let template = self.subject.template_or_local(purpose, &self.common)?;
        if self.common.validity().is_some() {
            bail!("a request has no dates, the authority decides on them: give them to `qio pki sign`");
        }
        let directory = Directory::create(&self.dir)?;
        let (request, key) = Request::create(&template.key(self.key.key_type))?;
        let written = directory.write_request(purpose, &request, &key, self.common.overwrite())?;
        print_written(&written);
        print_request(&request);
        println!("\nNext, where the authority is:");
        let end = purpose.endpoints().first().copied();
        let file = end.map(|end| directory.request(end)).unwrap_or_default();
        let word = match self.purpose {
            For::Server => "server",
            For::Client => "client",
            For::Both => "both",
        };
        println!(
            "  qio pki sign DIR --csr {} --for {word} --honor-names",
            file.display()
        );
        println!("and bring its ca-cert.pem and the new certificate back here.");
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(super) struct Sign {
    /// The directory of the authority.
    dir: PathBuf,
    /// The request, in PEM or DER form.
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// What the certificate is good for. The request has no say in this.
    #[arg(long = "for", value_name = "END")]
    purpose: For,
    /// Give the certificate the names and addresses that the request asks for. Look at them first: `qio pki show`.
    #[arg(long)]
    honor_names: bool,
    #[command(flatten)]
    subject: Subject,
    /// Where the certificate goes; unless given, beside the request: server-cert.pem for server-csr.pem.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Use the authority's key even if other users can read it.
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    common: Common,
}

impl Sign {
    #[allow(clippy::print_stdout, reason = "what the command prints is its result")]
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let request = read(&self.csr)?;
        let purpose = Purpose::from(self.purpose);
        let template = self.template(purpose, &request)?;
        let outputs = match &self.out {
            Some(out) => vec![out.clone()],
            None => beside(&self.csr, purpose),
        };
        let authority = load_authority(&self.dir, self.insecure)?;
        let certificate = authority.sign(&request, &template)?;
        for out in &outputs {
            write_certificate(out, &certificate, self.common.overwrite())?;
        }
        print_written(&outputs);
        print_certificate(&CertificateSummary::from_der(&certificate)?, self.common.days);
        println!(
            "It belongs beside its key, together with {}.",
            Directory::existing(&self.dir).ca_certificate().display()
        );
        Ok(())
    }

    fn template(&self, purpose: Purpose, request: &Request) -> anyhow::Result<Template> {
        let asked = request.summary();
        if asked.ca {
            bail!(
                "{} asks for the certificate of an authority, which this command does not make",
                self.csr.display()
            );
        }
        let says_names = self.honor_names || !self.subject.names.is_empty() || self.common.template.is_some();
        if !says_names && purpose != Purpose::Client {
            bail!(
                "which names is the certificate for? The request asks for {}; take these with --honor-names, or give \
                 --name HOST",
                names(request).unwrap_or_else(|| "none".to_owned())
            );
        }
        let mut template = self.subject.template(purpose, &self.common)?;
        if self.honor_names {
            template = asked.names.iter().cloned().fold(template, Template::name);
        }
        Ok(template)
    }
}

fn read(path: &Path) -> anyhow::Result<Request> {
    let mut contents = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_REQUEST_FILE).read_to_end(&mut contents))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Request::read(&contents).with_context(|| path.display().to_string())
}

/// Where the certificate goes when nothing is said: beside the request, under the names of its purpose.
fn beside(csr: &Path, purpose: Purpose) -> Vec<PathBuf> {
    let directory = Directory::existing(csr.parent().unwrap_or(Path::new("")));
    let usual = |name: &str| {
        purpose
            .endpoints()
            .iter()
            .any(|end| directory.request(*end).ends_with(name))
    };
    let name = csr
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    if usual(&name) {
        return purpose
            .endpoints()
            .iter()
            .map(|end| directory.certificate(*end))
            .collect();
    }
    let stem = csr
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let stem = ["-csr", "-req", "-request", ".csr"]
        .iter()
        .find_map(|end| stem.strip_suffix(end))
        .unwrap_or(&stem);
    vec![csr.with_file_name(format!("{stem}-cert.pem"))]
}

fn names(request: &Request) -> Option<String> {
    let asked = request.summary();
    let names: Vec<_> = asked
        .names
        .iter()
        .map(ToString::to_string)
        .chain(asked.other_names.iter().map(|name| printable(name)))
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[allow(clippy::print_stdout, reason = "what the command prints is its result")]
fn print_request(request: &Request) {
    let asked = request.summary();
    let names = names(request)
        .map(|names| format!(" for {names}"))
        .unwrap_or_default();
    println!(
        "a request of '{}'{names}, {}",
        printable(&asked.subject),
        asked.key
    );
}
