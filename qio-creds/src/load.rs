//! Reading a credentials directory.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::check::{self, Findings, Subject, SubjectIdentity};
use crate::snapshot::{Contents, X509};
use crate::{
    CredsError, Defect, Endpoint, Identity, KeyPermissions, PrivateKey, Problem, Snapshot,
    TlsCredsX509Options, pem_file,
};

const CA_CERT: &str = "ca-cert.pem";
const CA_CRL: &str = "ca-crl.pem";

/// The object as errors name it.
pub(crate) fn name_of(options: &TlsCredsX509Options) -> String {
    match &options.id {
        Some(id) => format!("'{id}'"),
        None => format!("in {}", options.dir.display()),
    }
}

/// Reads the directory and checks what is in it; every problem of every file is reported at once.
pub(crate) fn directory(
    options: &TlsCredsX509Options,
    permissions: KeyPermissions,
) -> Result<Snapshot, CredsError> {
    let name = name_of(options);
    for (property, value) in [
        ("priority", &options.priority),
        ("passwordid", &options.passwordid),
    ] {
        if value.is_some() {
            return Err(CredsError::NotSupported { name, property });
        }
    }

    let endpoint = options.endpoint;
    let mut findings = Findings::default();
    let mut contents = X509::empty(options.verify_peer);
    let ca_file = options.dir.join(CA_CERT);
    let crl_file = options.dir.join(CA_CRL);
    let certificate_file = options.dir.join(format!("{endpoint}-cert.pem"));
    let key_file = options.dir.join(format!("{endpoint}-key.pem"));

    match std::fs::metadata(&options.dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let problems = vec![Problem::new(&options.dir, Defect::NoDirectory)];
            return Err(CredsError::Problems {
                name,
                endpoint,
                problems,
            });
        }
        _ => {} // whatever else is wrong with it shows at each file
    }
    match pem_file::certificates(&ca_file) {
        Ok(certificates) => contents.ca = certificates,
        Err(defect) => findings.error(&ca_file, defect),
    }
    match pem_file::crls(&crl_file) {
        Ok(crls) => contents.crls = crls,
        Err(defect) => findings.error(&crl_file, defect),
    }
    let chain = pem_file::chain(&certificate_file);
    let key = pem_file::private_key(&key_file, permissions);

    let (chain, key) = pair(
        endpoint,
        (&certificate_file, chain),
        (&key_file, key),
        &mut findings,
    );
    let identities = chain.iter().map(|chain| SubjectIdentity {
        certificate_file: &certificate_file,
        key_file: &key_file,
        chain,
        key: key.as_ref(),
    });
    let checked = Subject {
        endpoint,
        ca_file: &ca_file,
        ca: &contents.ca,
        identities: identities.collect(),
    };
    let now = options.sanity_check.then(OffsetDateTime::now_utc);
    findings.append(check::check(&checked, now));

    let warnings = findings.into_result(&name, endpoint)?;
    contents
        .identities
        .extend(chain.zip(key).map(|(chain, key)| Identity::new(chain, key)));
    Ok(Snapshot::new(endpoint, Contents::X509(contents), warnings))
}

type Read<T> = Result<T, Defect>;
type Chain = Vec<CertificateDer<'static>>;

/// The endpoint's certificate and key, as far as they could be read: a server needs both, a client may do without
/// both.
fn pair(
    endpoint: Endpoint,
    (certificate_file, chain): (&Path, Read<Chain>),
    (key_file, key): (&Path, Read<PrivateKey>),
    findings: &mut Findings,
) -> (Option<Chain>, Option<PrivateKey>) {
    if let (Err(Defect::Missing), Err(Defect::Missing)) = (&chain, &key) {
        if endpoint == Endpoint::Server {
            findings.error(certificate_file, Defect::Missing);
            findings.error(key_file, Defect::Missing);
        }
        return (None, None);
    }
    let chain = chain.map_err(|defect| findings.error(certificate_file, half_a_pair(defect, key_file)));
    let key = key.map_err(|defect| findings.error(key_file, half_a_pair(defect, certificate_file)));
    (chain.ok(), key.ok())
}

fn half_a_pair(defect: Defect, other: &Path) -> Defect {
    match defect {
        Defect::Missing => Defect::HalfAPair {
            other: other.to_owned(),
        },
        defect => defect,
    }
}
