//! What webpki leaves open on a path that it has verified.
//!
//! To webpki an anchor is a name and a key, so it looks neither at an anchor's dates nor at how many authorities may stand below it;
//! and it asks of an issuer only that it be an authority, not that it may sign certificates. GnuTLS and RFC 5280 (section 6.1.4)
//! do ask, and so do we. Of several revocation lists of one issuer webpki consults the first only: see [`rounds`].

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{CertRevocationList, Error as PathError, VerifiedPath};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What an anchor's certificate says beyond its name and key.
#[derive(Debug, Clone)]
pub(crate) struct AnchorFacts {
    not_before: UnixTime,
    not_after: UnixTime,
    may_issue: bool,
    /// How many authorities may stand between it and an endpoint; any number if it does not say.
    path_length: Option<u32>,
}

impl AnchorFacts {
    /// `None` if the certificate cannot be read.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let moment = |time: i64| u64::try_from(time).unwrap_or(0); // before 1970 is as good as 1970
        let at = |time: i64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(moment(time)));
        let constraints = certificate
            .basic_constraints()
            .ok()?
            .map(|constraints| constraints.value);
        Some(AnchorFacts {
            not_before: at(certificate.validity().not_before.timestamp()),
            not_after: at(certificate.validity().not_after.timestamp()),
            may_issue: may_issue(&certificate),
            path_length: constraints.and_then(|constraints| constraints.path_len_constraint),
        })
    }
}

/// Whether the key usage, where there is one, lets the certificate sign others.
fn may_issue(certificate: &X509Certificate<'_>) -> bool {
    match certificate.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Looks at what webpki does not. An error makes webpki go on looking for another path.
pub(crate) fn check(path: &VerifiedPath<'_>, anchor: &AnchorFacts, now: UnixTime) -> Result<(), PathError> {
    if now < anchor.not_before {
        return Err(PathError::CertNotValidYet {
            time: now,
            not_before: anchor.not_before,
        });
    }
    if now > anchor.not_after {
        return Err(PathError::CertExpired {
            time: now,
            not_after: anchor.not_after,
        });
    }
    let mut below: u32 = 0;
    let mut issuers_may_issue = anchor.may_issue;
    for issuer in path.intermediate_certificates() {
        let der = issuer.der();
        let (_, issuer) = X509Certificate::from_der(&der).map_err(|_| PathError::BadDer)?;
        issuers_may_issue &= may_issue(&issuer);
        // RFC 5280, section 4.2.1.9: authorities that issued their own certificate do not count.
        if issuer.subject().as_raw() != issuer.issuer().as_raw() {
            below = below.saturating_add(1);
        }
    }
    if !issuers_may_issue {
        return Err(PathError::EndEntityUsedAsCa);
    }
    match anchor.path_length {
        Some(most) if below > most => Err(PathError::PathLenConstraintViolated),
        _ => Ok(()),
    }
}

/// Sorts revocation lists into rounds with one list of each issuer. Whoever passes has to pass every round, so that no list is
/// ever hidden by another, whatever their order and scope.
pub(crate) fn rounds<'a>(
    lists: &'a [CertRevocationList<'static>],
) -> Vec<Vec<&'a CertRevocationList<'static>>> {
    let mut rounds: Vec<Vec<&CertRevocationList<'static>>> = Vec::new();
    for list in lists {
        let free = rounds
            .iter_mut()
            .find(|round| round.iter().all(|other| other.issuer() != list.issuer()));
        match free {
            Some(round) => round.push(list),
            None => rounds.push(vec![list]),
        }
    }
    rounds
}
