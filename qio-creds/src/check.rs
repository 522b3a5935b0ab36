//! The checks that QEMU runs on its own certificates when it loads them.
//!
//! Where QEMU refuses, this refuses. Where QEMU accepts something that OpenSSL or rustls would refuse as a peer, this
//! accepts it too, and leaves a warning. A certificate of the CA file that is not on the way from an own certificate
//! to its authority only earns a warning: its faults harm nobody but the peers that depend on it.

use std::path::Path;

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certificate::{key_algorithm, parse, printable};
use crate::pem_file::MAX_CHAIN;
use crate::{CredsError, Defect, Endpoint, KeyAlgorithm, PrivateKey, Problem, distinguished_name};

/// What is checked: the parts of a snapshot, as far as they could be read, and what problems call them.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) ca_file: &'a Path,
    pub(crate) ca: &'a [CertificateDer<'static>],
    pub(crate) crl_file: &'a Path,
    pub(crate) crls: &'a [CertificateRevocationListDer<'static>],
    pub(crate) identities: Vec<SubjectIdentity<'a>>,
}

/// An identity, as far as it could be read: what is missing has been reported already.
#[derive(Debug)]
pub(crate) struct SubjectIdentity<'a> {
    pub(crate) certificate_file: &'a Path,
    pub(crate) key_file: &'a Path,
    pub(crate) chain: &'a [CertificateDer<'static>],
    pub(crate) key: Option<&'a PrivateKey>,
}

/// What the checks found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What makes the credentials unusable.
    pub(crate) errors: Vec<Problem>,
    /// What QEMU accepts, but some peers will not.
    pub(crate) warnings: Vec<Problem>,
}

impl Findings {
    pub(crate) fn error(&mut self, file: &Path, what: Defect) {
        self.errors.push(Problem::new(file, what));
    }

    pub(crate) fn warning(&mut self, file: &Path, what: Defect) {
        self.warnings.push(Problem::new(file, what));
    }

    /// What was read of a file; why it could not be is an error.
    pub(crate) fn keep<T>(&mut self, file: &Path, read: Result<T, Defect>) -> Option<T> {
        read.map_err(|defect| self.error(file, defect)).ok()
    }

    fn add(&mut self, fatal: bool, file: &Path, what: Defect) {
        let list = if fatal {
            &mut self.errors
        } else {
            &mut self.warnings
        };
        list.push(Problem::new(file, what));
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.errors.append(&mut other.errors);
        self.warnings.append(&mut other.warnings);
    }

    /// The warnings, or all the errors as one.
    pub(crate) fn into_result(self, name: &str, endpoint: Endpoint) -> Result<Vec<Problem>, CredsError> {
        if !self.errors.is_empty() {
            return Err(CredsError::Problems {
                name: name.to_owned(),
                endpoint,
                problems: self.errors,
            });
        }
        for warning in &self.warnings {
            tracing::warn!(creds = %name, "{warning}");
        }
        Ok(self.warnings)
    }
}

/// Checks what is to become a snapshot. Without `now` the sanity checks are off, and only what no engine could use
/// is refused.
pub(crate) fn check(checked: &Subject<'_>, now: Option<OffsetDateTime>) -> Findings {
    let mut findings = Findings::default();
    let anchors = parse_all(checked.ca, checked.ca_file, &mut findings);
    fit_for_engines(&anchors, checked.ca_file, &mut findings);
    revocation_lists(checked, now, &mut findings);
    let mut used = vec![false; anchors.len()];

    for identity in &checked.identities {
        let file = identity.certificate_file;
        let chain = parse_all(identity.chain, file, &mut findings);
        let Some(leaf) = chain.first() else { continue };
        if let Some(key) = identity.key {
            key_belongs(key, leaf, identity, &mut findings);
        }
        let Some(now) = now else { continue };
        own_certificate(leaf, checked.endpoint, file, now, &mut findings);
        if anchors.is_empty() || chain.len() != identity.chain.len() {
            continue; // part of the path is missing or damaged: what can be said of it would mislead
        }
        let path = IssuerPath {
            chain: &chain,
            anchors: &anchors,
            certificate_file: file,
            ca_file: checked.ca_file,
            now,
        };
        if let Some(used) = path.walk(&mut findings).and_then(|anchor| used.get_mut(anchor)) {
            *used = true;
        }
    }

    if let Some(now) = now {
        let alone = checked.identities.is_empty();
        for (anchor, used) in anchors.iter().zip(used) {
            let mut own = Findings::default();
            authority(anchor, checked.ca_file, now, used, &mut own);
            if used || alone {
                findings.errors.append(&mut own.errors);
            }
            findings.warnings.append(&mut own.errors);
            findings.warnings.append(&mut own.warnings);
        }
    }
    findings
}

fn parse_all<'a>(
    certificates: &'a [CertificateDer<'static>],
    file: &Path,
    findings: &mut Findings,
) -> Vec<X509Certificate<'a>> {
    let mut parsed = Vec::with_capacity(certificates.len());
    for (i, der) in certificates.iter().enumerate() {
        match parse(der) {
            Ok(certificate) => parsed.push(certificate),
            Err(source) => findings.error(
                file,
                Defect::BadCertificate {
                    position: i.saturating_add(1),
                    source,
                },
            ),
        }
    }
    parsed
}

/// Whoever verifies peers can start from these certificates. Found here, it is told before a service begins.
fn fit_for_engines(anchors: &[X509Certificate<'_>], file: &Path, findings: &mut Findings) {
    for anchor in anchors {
        if let Err(error) = webpki::anchor_from_trusted_cert(&CertificateDer::from(anchor.as_raw())) {
            let what = Defect::NoAnchor {
                subject: subject(anchor),
                why: error.to_string(),
            };
            findings.error(file, what);
        }
    }
}

/// Likewise for the revocation lists; those that are out of date are told, too.
fn revocation_lists(checked: &Subject<'_>, now: Option<OffsetDateTime>, findings: &mut Findings) {
    for (der, position) in checked.crls.iter().zip(1..) {
        if let Err(error) = webpki::BorrowedCertRevocationList::from_der(der) {
            let what = Defect::BadCrl {
                why: format!("list {position}: {error}"),
                endpoint: checked.endpoint,
            };
            findings.error(checked.crl_file, what);
            continue;
        }
        if let Ok((_, list)) = CertificateRevocationList::from_der(der)
            && let Some(next_update) = list.next_update().map(|time| time.to_datetime())
            && now.is_some_and(|now| now > next_update)
        {
            let what = Defect::CrlExpired {
                issuer: printable(&distinguished_name::spell(list.issuer())),
                next_update,
            };
            findings.warning(checked.crl_file, what);
        }
    }
}

/// The private key is that of the certificate.
fn key_belongs(
    key: &PrivateKey,
    leaf: &X509Certificate<'_>,
    identity: &SubjectIdentity<'_>,
    findings: &mut Findings,
) {
    let Some(public) = key.public_half() else {
        findings.error(identity.key_file, Defect::KeyUnusable);
        return;
    };
    if *public.bits != *leaf.public_key().subject_public_key.data {
        findings.error(
            identity.key_file,
            Defect::KeyMismatch {
                certificate_file: identity.certificate_file.to_owned(),
                key: public.algorithm.to_string(),
                certificate: key_algorithm(leaf.public_key()).to_string(),
            },
        );
    }
}

/// The certificate may identify this endpoint, now.
fn own_certificate(
    leaf: &X509Certificate<'_>,
    endpoint: Endpoint,
    file: &Path,
    now: OffsetDateTime,
    findings: &mut Findings,
) {
    validity(leaf, file, now, findings);
    critical_extensions(leaf, file, findings);
    if leaf.is_ca() {
        findings.error(
            file,
            Defect::LeafIsCa {
                subject: subject(leaf),
                endpoint,
            },
        );
    }
    if let Ok(Some(usage)) = leaf.key_usage()
        && !usage.value.digital_signature()
    {
        let what = Defect::KeyUsage {
            subject: subject(leaf),
            lacks: "digitalSignature",
        };
        findings.add(usage.critical, file, what);
    }
    if let Ok(Some(purposes)) = leaf.extended_key_usage() {
        let (allowed, lacks) = match endpoint {
            Endpoint::Server => (purposes.value.server_auth, "serverAuth"),
            Endpoint::Client => (purposes.value.client_auth, "clientAuth"),
        };
        if !allowed && !purposes.value.any {
            let what = Defect::ExtendedKeyUsage {
                subject: subject(leaf),
                lacks,
            };
            findings.add(purposes.critical, file, what);
        }
    }
}

/// The certificate may issue others, now. `verifies` says that one of this endpoint's own hangs on it.
pub(crate) fn authority(
    ca: &X509Certificate<'_>,
    file: &Path,
    now: OffsetDateTime,
    verifies: bool,
    findings: &mut Findings,
) {
    validity(ca, file, now, findings);
    critical_extensions(ca, file, findings);
    if !ca.is_ca() {
        findings.error(file, Defect::NotACa { subject: subject(ca) });
    }
    if let Ok(Some(usage)) = ca.key_usage()
        && !usage.value.key_cert_sign()
    {
        let what = Defect::KeyUsage {
            subject: subject(ca),
            lacks: "keyCertSign",
        };
        findings.add(usage.critical || verifies, file, what);
    }
}

fn validity(certificate: &X509Certificate<'_>, file: &Path, now: OffsetDateTime, findings: &mut Findings) {
    let not_before = certificate.validity().not_before.to_datetime();
    let not_after = certificate.validity().not_after.to_datetime();
    if now < not_before {
        findings.error(
            file,
            Defect::NotYetValid {
                subject: subject(certificate),
                not_before,
            },
        );
    }
    if now > not_after {
        findings.error(
            file,
            Defect::Expired {
                subject: subject(certificate),
                not_after,
            },
        );
    }
}

/// Whoever does not know a critical extension has to refuse the certificate (RFC 5280 section 4.2), and what is not
/// known here is not known to TLS libraries either.
fn critical_extensions(certificate: &X509Certificate<'_>, file: &Path, findings: &mut Findings) {
    for extension in certificate
        .extensions()
        .iter()
        .filter(|extension| extension.critical)
    {
        let parsed = extension.parsed_extension();
        if parsed.unsupported() || parsed.error().is_some() {
            let oid = extension.oid.to_id_string();
            findings.error(
                file,
                Defect::CriticalExtension {
                    subject: subject(certificate),
                    oid,
                },
            );
        }
    }
}

fn subject(certificate: &X509Certificate<'_>) -> String {
    printable(&distinguished_name::spell(certificate.subject()))
}

/// The way from an own certificate to a trust anchor.
struct IssuerPath<'a> {
    chain: &'a [X509Certificate<'a>],
    anchors: &'a [X509Certificate<'a>],
    certificate_file: &'a Path,
    ca_file: &'a Path,
    now: OffsetDateTime,
}

impl IssuerPath<'_> {
    /// Follows issuers from the first certificate of the chain; gives the index of the anchor it ends at.
    ///
    /// At most [`MAX_CHAIN`] steps, and each certificate of the chain is used once, so a circle ends too.
    fn walk(&self, findings: &mut Findings) -> Option<usize> {
        let mut unused: Vec<&X509Certificate<'_>> = self.chain.iter().skip(1).collect();
        let mut current = self.chain.first()?;
        let mut intermediates = 0;
        for _ in 0..MAX_CHAIN {
            let same = |anchor: &X509Certificate<'_>| anchor.as_raw() == current.as_raw();
            if let Some(index) = self.anchors.iter().position(same) {
                return Some(index);
            }
            strong_signature(current, self.certificate_file, findings);
            let mut anchors = self.anchors.iter().enumerate();
            if let Some((index, anchor)) = anchors.find(|(_, anchor)| issued(anchor, current)) {
                path_length(anchor, self.ca_file, intermediates, findings);
                return Some(index);
            }
            let Some(next) = unused.iter().position(|candidate| issued(candidate, current)) else {
                break;
            };
            current = unused.swap_remove(next);
            authority(current, self.certificate_file, self.now, true, findings);
            path_length(current, self.certificate_file, intermediates, findings);
            // Those that changed their key under their own name do not count (RFC 5280 section 4.2.1.9).
            intermediates += u32::from(!names(current, current));
        }

        let (subject, issuer) = (
            subject(current),
            printable(&distinguished_name::spell(current.issuer())),
        );
        let ca_file = self.ca_file.to_owned();
        let namesake = self.anchors.iter().any(|anchor| names(anchor, current));
        let what = if namesake {
            Defect::WrongSignature {
                subject,
                issuer,
                ca_file,
            }
        } else {
            Defect::UnknownIssuer {
                subject,
                issuer,
                ca_file,
            }
        };
        findings.error(self.certificate_file, what);
        None
    }
}

/// Signatures over digests that can be forged, by the object identifier of their algorithm.
const FORGEABLE: [(&str, &str); 5] = [
    ("1.2.840.113549.1.1.2", "MD2 with RSA"),
    ("1.2.840.113549.1.1.4", "MD5 with RSA"),
    ("1.2.840.113549.1.1.5", "SHA-1 with RSA"),
    ("1.2.840.10045.4.1", "SHA-1 with ECDSA"),
    ("1.2.840.10040.4.3", "SHA-1 with DSA"),
];

/// The issuer's signature proves something. That of a trust anchor need not: nobody relies on it.
fn strong_signature(certificate: &X509Certificate<'_>, file: &Path, findings: &mut Findings) {
    let oid = certificate.signature_algorithm.algorithm.to_id_string();
    if let Some((_, algorithm)) = FORGEABLE.iter().find(|(forgeable, _)| *forgeable == oid) {
        findings.error(
            file,
            Defect::WeakSignature {
                subject: subject(certificate),
                algorithm,
            },
        );
    }
}

/// The authority may stand above so many intermediates.
fn path_length(ca: &X509Certificate<'_>, file: &Path, intermediates: u32, findings: &mut Findings) {
    if let Ok(Some(constraints)) = ca.basic_constraints()
        && let Some(limit) = constraints.value.path_len_constraint
        && intermediates > limit
    {
        findings.error(
            file,
            Defect::PathTooLong {
                subject: subject(ca),
                limit,
                intermediates,
            },
        );
    }
}

/// Whether `issuer` bears the name that `certificate` gives as its issuer's.
fn names(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    issuer.subject().as_raw() == certificate.issuer().as_raw()
}

/// Whether `issuer` issued `certificate`, as far as can be told: a signature whose algorithm is not known here is
/// left for the TLS engine, and its peers, to judge.
fn issued(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    if !names(issuer, certificate) {
        return false;
    }
    match certificate.verify_signature(Some(issuer.public_key())) {
        Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm) => true,
        // The library refuses small RSA keys as it does a bad signature.
        Err(_) => matches!(key_algorithm(issuer.public_key()), KeyAlgorithm::Rsa(bits) if bits < 2048),
    }
}
