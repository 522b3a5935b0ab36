//! Reading a credentials directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qio_opts::ObjectRegistry;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::check::{self, Findings, Subject, SubjectIdentity};
use crate::snapshot::{Contents, X509};
use crate::{
    CredsError, Defect, Endpoint, Identity, KeyPermissions, Priority, PrivateKey, Problem, Secret,
    SecretError, Snapshot, TlsCredsX509Options, pem_file,
};

const CA_CERT: &str = "ca-cert.pem";
const CA_CRL: &str = "ca-crl.pem";
const DH_PARAMS: &str = "dh-params.pem";

/// How many identities an endpoint may have beside the one without a number: `server-cert-0.pem` to
/// `server-cert-3.pem`.
const NUMBERED: usize = 4;

/// The object as errors name it.
pub(crate) fn name_of(options: &TlsCredsX509Options) -> String {
    match &options.id {
        Some(id) => format!("'{id}'"),
        None => format!("in {}", options.dir.display()),
    }
}

/// Every file that may be read.
pub(crate) fn files(options: &TlsCredsX509Options) -> Vec<PathBuf> {
    let mut files = vec![options.dir.join(CA_CERT), options.dir.join(CA_CRL)];
    for pair in PairFiles::all(options) {
        files.extend([pair.certificate, pair.key]);
    }
    files
}

/// Reads the directory and checks what is in it; every problem of every file is reported at once.
pub(crate) fn directory(
    options: &TlsCredsX509Options,
    permissions: KeyPermissions,
    objects: &ObjectRegistry,
) -> Result<Snapshot, CredsError> {
    let name = name_of(options);
    let priority = options
        .priority
        .as_deref()
        .map(str::parse::<Priority>)
        .transpose();
    let priority = match priority {
        Ok(priority) => priority,
        Err(source) => return Err(CredsError::Priority { name, source }),
    };
    let password = match password(options, objects) {
        Ok(password) => password,
        Err(source) => return Err(CredsError::Password { name, source }),
    };
    let endpoint = options.endpoint;
    if is_missing(&options.dir) {
        let problems = vec![Problem::new(&options.dir, Defect::NoDirectory)];
        return Err(CredsError::Problems {
            name,
            endpoint,
            problems,
        });
    }

    let mut findings = Findings::default();
    let mut contents = X509 {
        priority,
        ..X509::empty(options.verify_peer)
    };
    let ca_file = options.dir.join(CA_CERT);
    match pem_file::certificates(&ca_file) {
        Ok(certificates) => contents.ca = certificates,
        Err(defect) => findings.error(&ca_file, defect),
    }
    let crl_file = options.dir.join(CA_CRL);
    if options.crl {
        match pem_file::crls(&crl_file) {
            Ok(crls) => contents.crls = crls,
            Err(defect) => {
                let why = defect.to_string();
                findings.error(&crl_file, Defect::BadCrl { why, endpoint });
            }
        }
    }
    let dh_file = options.dir.join(DH_PARAMS);
    if endpoint == Endpoint::Server && !is_missing(&dh_file) {
        findings.warning(&dh_file, Defect::DhParamsUnused);
    }
    let pairs = pairs(options, permissions, password.as_deref(), &mut findings);

    let identities = pairs.iter().filter_map(|pair| {
        Some(SubjectIdentity {
            certificate_file: &pair.files.certificate,
            key_file: &pair.files.key,
            chain: pair.chain.as_ref()?,
            key: pair.key.as_ref(),
        })
    });
    let checked = Subject {
        endpoint,
        ca_file: &ca_file,
        ca: &contents.ca,
        crl_file: &crl_file,
        crls: &contents.crls,
        identities: identities.collect(),
    };
    let now = options.sanity_check.then(OffsetDateTime::now_utc);
    findings.append(check::check(&checked, now));

    let warnings = findings.into_result(&name, endpoint)?;
    let whole = pairs.into_iter().filter_map(|pair| pair.chain.zip(pair.key));
    contents
        .identities
        .extend(whole.map(|(chain, key)| Identity::new(chain, key)));
    Ok(Snapshot::new(endpoint, Contents::X509(contents), warnings))
}

/// The password of the private keys, if one is named. It must be there even if no key turns out to need it.
fn password(
    options: &TlsCredsX509Options,
    objects: &ObjectRegistry,
) -> Result<Option<Arc<Secret>>, SecretError> {
    let Some(id) = &options.passwordid else {
        return Ok(None);
    };
    let secret = Secret::find(objects, id)?;
    secret.utf8()?;
    Ok(Some(secret))
}

/// Whether nothing is there. Whatever else is wrong with a file shows when it is read.
fn is_missing(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Where a certificate and its key are.
#[derive(Debug)]
struct PairFiles {
    certificate: PathBuf,
    key: PathBuf,
}

impl PairFiles {
    /// The pair without a number, then the numbered ones.
    fn all(options: &TlsCredsX509Options) -> impl Iterator<Item = Self> {
        let suffixes = std::iter::once(String::new()).chain((0..NUMBERED).map(|n| format!("-{n}")));
        suffixes.map(|suffix| {
            let endpoint = options.endpoint;
            Self {
                certificate: options.dir.join(format!("{endpoint}-cert{suffix}.pem")),
                key: options.dir.join(format!("{endpoint}-key{suffix}.pem")),
            }
        })
    }

    /// Whether neither is there.
    fn are_missing(&self) -> bool {
        is_missing(&self.certificate) && is_missing(&self.key)
    }
}

/// A certificate and its key, as far as they could be read.
#[derive(Debug)]
struct Pair {
    files: PairFiles,
    chain: Option<Vec<CertificateDer<'static>>>,
    key: Option<PrivateKey>,
}

impl Pair {
    /// Reads the two files, of which at least one is there.
    ///
    /// A server must not do with half a pair. A client can, as QEMU's did until 10.2: it then has no certificate to
    /// show, and is told.
    fn read(
        files: PairFiles,
        endpoint: Endpoint,
        permissions: KeyPermissions,
        password: Option<&Secret>,
        findings: &mut Findings,
    ) -> Self {
        let mut half = |file: &Path, other: &Path| {
            let other = other.to_owned();
            match endpoint {
                Endpoint::Server => findings.error(file, Defect::HalfAPair { other }),
                Endpoint::Client => findings.warning(file, Defect::HalfAPair { other }),
            }
        };
        let (certificate_missing, key_missing) = (is_missing(&files.certificate), is_missing(&files.key));
        if certificate_missing {
            half(&files.certificate, &files.key);
        }
        if key_missing {
            half(&files.key, &files.certificate);
        }
        let chain = (!certificate_missing)
            .then(|| pem_file::chain(&files.certificate))
            .and_then(|read| findings.keep(&files.certificate, read));
        // A key alone is of no use to anybody, so nothing that is wrong with it matters to a client.
        let key = (!key_missing && (!certificate_missing || endpoint == Endpoint::Server))
            .then(|| pem_file::locked_private_key(&files.key, permissions, password))
            .and_then(|read| findings.keep(&files.key, read));
        Self { files, chain, key }
    }
}

/// All pairs, up to the first number that is not there. A server needs at least one.
fn pairs(
    options: &TlsCredsX509Options,
    permissions: KeyPermissions,
    password: Option<&Secret>,
    findings: &mut Findings,
) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut first_missing: Option<PairFiles> = None;
    let mut gap: Option<PathBuf> = None;
    for (files, position) in PairFiles::all(options).zip(0..) {
        match (&gap, files.are_missing()) {
            (None, false) => pairs.push(Pair::read(
                files,
                options.endpoint,
                permissions,
                password,
                findings,
            )),
            (None, true) if position == 0 => first_missing = Some(files),
            (None, true) => gap = Some(files.certificate),
            (Some(missing), false) => {
                let missing = missing.clone();
                findings.warning(&files.certificate, Defect::BehindGap { missing });
            }
            (Some(_), true) => {}
        }
    }
    if let Some(files) = first_missing
        && pairs.is_empty()
        && options.endpoint == Endpoint::Server
    {
        findings.error(&files.certificate, Defect::Missing);
        findings.error(&files.key, Defect::Missing);
    }
    pairs
}
