//! Whether a peer's certificate passes: chain, dates, purpose and name in one judgement.
//!
//! There is one function, [`judge`], and it says yes only when everything holds (hostile.md CRED-21). The two verifiers
//! that rustls asks are thin shells around it.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use qio_creds::{CertificateSummary, Endpoint, Priority, Profile, X509};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, Error as EngineError,
    SignatureScheme,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use webpki::{
    CertRevocationList, EndEntityCert, Error as PathError, KeyUsage, OwnedCertRevocationList,
    RevocationOptions, RevocationOptionsBuilder, VerifiedPath, anchor_from_trusted_cert,
};
use x509_parser::oid_registry::{OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::CertificateProblem;
use crate::path::{self, AnchorFacts};
use crate::priority;

/// What a refusal was about, in more words than the engine's error type has.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) subject: String,
    pub(crate) problem: CertificateProblem,
}

thread_local! {
    // The engine calls its verifier in the middle of processing records, and lets only its own error type
    // through, which decides the alert but has no room for whose certificate it was. The details wait here
    // until that call returns, on the same thread.
    static LAST_REFUSAL: RefCell<Option<Refusal>> = const { RefCell::new(None) };
}

/// The details of the refusal that the engine has just reported, if it was one.
pub(crate) fn take_refusal() -> Option<Refusal> {
    LAST_REFUSAL.take()
}

/// What certificates are judged by.
pub(crate) struct Rules {
    anchors: Vec<TrustAnchor<'static>>,
    /// What else is known of each anchor, in the same order.
    anchor_facts: Vec<AnchorFacts>,
    crls: Vec<CertRevocationList<'static>>,
    /// Subjects of the anchors, which a server tells clients to choose their certificate by.
    subjects: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
    /// How strong keys must be.
    profile: Profile,
    verify_peer: bool,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("anchors", &self.anchors.len())
            .field("crls", &self.crls.len())
            .field("verify_peer", &self.verify_peer)
            .finish_non_exhaustive()
    }
}

/// What a certificate must be good for.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    ServerAuth,
    ClientAuth,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Purpose::ServerAuth => "serverAuth",
            Purpose::ClientAuth => "clientAuth",
        }
    }
}

/// A path through the issuers with a forged or unfit certificate is one of these.
fn problem_of(
    error: &PathError,
    leaf: &CertificateDer<'_>,
    purpose: Purpose,
) -> (CertificateProblem, CertificateError) {
    let unfit = |what: &str| CertificateProblem::Unfit(what.to_owned());
    match error {
        PathError::UnknownIssuer => {
            let issuer = CertificateSummary::from_der(leaf)
                .map(|leaf| leaf.issuer)
                .unwrap_or_default();
            (
                CertificateProblem::UnknownIssuer { issuer },
                CertificateError::UnknownIssuer,
            )
        }
        PathError::CertExpired { not_after, .. } => (
            CertificateProblem::Expired {
                not_after: date(*not_after),
            },
            CertificateError::Expired,
        ),
        PathError::CertNotValidYet { not_before, .. } => (
            CertificateProblem::NotYetValid {
                not_before: date(*not_before),
            },
            CertificateError::NotValidYet,
        ),
        PathError::CertRevoked => (CertificateProblem::Revoked, CertificateError::Revoked),
        PathError::RequiredEkuNotFoundContext(_) | PathError::EmptyEkuExtension => (
            CertificateProblem::WrongPurpose {
                needed: purpose.name(),
            },
            CertificateError::InvalidPurpose,
        ),
        PathError::EndEntityUsedAsCa => (
            unfit("one of its issuers may not issue certificates (basic constraints, key usage keyCertSign)"),
            CertificateError::UnknownIssuer,
        ),
        PathError::PathLenConstraintViolated => (
            unfit("there are more authorities above it than one of them allows (path length)"),
            CertificateError::UnknownIssuer,
        ),
        PathError::CaUsedAsEndEntity => (
            unfit("it is the certificate of an authority, which cannot identify an endpoint"),
            CertificateError::BadEncoding,
        ),
        PathError::UnsupportedCertVersion => (
            unfit("it is not an X.509 version 3 certificate"),
            CertificateError::BadEncoding,
        ),
        PathError::InvalidSignatureForPublicKey => (
            unfit("its issuer's signature does not fit: it has been forged or damaged"),
            CertificateError::BadSignature,
        ),
        PathError::UnknownRevocationStatus => (
            unfit("ca-crl.pem says nothing about its issuer, so it may have been revoked"),
            CertificateError::UnknownRevocationStatus,
        ),
        PathError::CrlExpired { next_update, .. } => (
            CertificateProblem::Unfit(format!(
                "the revocation list in ca-crl.pem expired at {}",
                date(*next_update)
            )),
            CertificateError::ExpiredRevocationList,
        ),
        PathError::UnsupportedCriticalExtension => (
            unfit("it has a critical extension that is not understood"),
            CertificateError::UnhandledCriticalExtension,
        ),
        other => (
            CertificateProblem::Unfit(format!("it is not fit for use ({other:?})")),
            CertificateError::BadEncoding,
        ),
    }
}

fn date(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|date| date.format(&Rfc3339).ok())
        .unwrap_or_else(|| "an impossible date".to_owned())
}

/// The only way for a certificate to pass.
fn judge(
    rules: &Rules,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    purpose: Purpose,
    name: Option<&ServerName<'_>>,
    now: UnixTime,
) -> Result<(), (CertificateProblem, CertificateError)> {
    let fail = |error: &PathError| problem_of(error, leaf, purpose);
    let certificate = EndEntityCert::try_from(leaf).map_err(|error| fail(&error))?;
    let usage = match purpose {
        Purpose::ServerAuth => KeyUsage::server_auth(),
        Purpose::ClientAuth => KeyUsage::client_auth(),
    };
    let anchor_facts = |path: &VerifiedPath<'_>| {
        let known = rules.anchors.iter().zip(&rules.anchor_facts);
        let found = known
            .into_iter()
            .find(|(anchor, _)| std::ptr::eq(*anchor, path.anchor()));
        found.map(|(_, facts)| facts).ok_or(PathError::UnknownIssuer)
    };
    let check = |path: &VerifiedPath<'_>| path::check(path, anchor_facts(path)?, now);
    let verify = |revocation: Option<RevocationOptions<'_>>| {
        certificate
            .verify_for_usage(
                rules.provider.signature_verification_algorithms.all,
                &rules.anchors,
                intermediates,
                now,
                usage,
                revocation,
                Some(&check),
            )
            .map_err(|error| fail(&error))
    };
    for lists in path::rounds(&rules.crls) {
        let options = RevocationOptionsBuilder::new(&lists).map_err(|_| {
            (
                CertificateProblem::Unfit("no revocation list to consult".to_owned()),
                CertificateError::UnknownRevocationStatus,
            )
        })?;
        // As GnuTLS does: an issuer that no list speaks of revokes nobody, but lists are consulted for the whole chain.
        verify(Some(
            options
                .with_status_policy(webpki::UnknownStatusPolicy::Allow)
                .build(),
        ))?;
    }
    let path = verify(None)?;
    priority::check_strength(rules.profile, &path)
        .map_err(|why| (CertificateProblem::Unfit(why), CertificateError::BadEncoding))?;
    match name {
        Some(name) => judge_name(&certificate, leaf, name, &path),
        None => Ok(()),
    }
}

/// Alternative names first; the common name only where there are none at all (RFC 6125, section 6.4.4), and only
/// where no issuer's name constraints apply: the path was checked against alternative names alone, so a common name
/// would be a way around them.
fn judge_name(
    certificate: &EndEntityCert<'_>,
    leaf: &CertificateDer<'_>,
    name: &ServerName<'_>,
    path: &VerifiedPath<'_>,
) -> Result<(), (CertificateProblem, CertificateError)> {
    if certificate.verify_is_valid_for_subject_name(name).is_ok() {
        return Ok(());
    }
    let common_name = common_name_without_alternatives(leaf).filter(|_| !has_name_constraints(path));
    if common_name
        .as_deref()
        .is_some_and(|common_name| common_name_matches(common_name, name))
    {
        return Ok(());
    }
    let mut presented: Vec<String> = Vec::new();
    if let Ok(summary) = CertificateSummary::from_der(leaf) {
        presented.extend(
            summary
                .dns_names
                .iter()
                .map(|name| format!("\"{}\"", name.escape_default())),
        );
        presented.extend(summary.ip_addresses.iter().map(ToString::to_string));
    }
    presented.extend(common_name.map(|name| format!("\"{}\"", name.escape_default())));
    let expected = name.to_str().into_owned();
    Err((
        CertificateProblem::WrongName { expected, presented },
        CertificateError::NotValidForName,
    ))
}

fn has_name_constraints(path: &VerifiedPath<'_>) -> bool {
    let constrained = |der: &CertificateDer<'_>| match X509Certificate::from_der(der) {
        Ok((_, certificate)) => certificate
            .extensions()
            .iter()
            .any(|extension| extension.oid == OID_X509_EXT_NAME_CONSTRAINTS),
        Err(_) => true, // what cannot be read permits nothing
    };
    path.anchor().name_constraints.is_some()
        || path
            .intermediate_certificates()
            .any(|issuer| constrained(&issuer.der()))
}

/// The common name, provided that the certificate has no subject alternative name extension, not even one that
/// cannot be read.
fn common_name_without_alternatives(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    if certificate
        .extensions()
        .iter()
        .any(|extension| extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME)
    {
        return None;
    }
    CertificateSummary::from_der(leaf).ok()?.common_name
}

/// Compares a common name as GnuTLS does: a host name without regard to case, with a wildcard for the whole of
/// its first label; an address as an address.
fn common_name_matches(common_name: &str, name: &ServerName<'_>) -> bool {
    match name {
        ServerName::DnsName(wanted) => {
            let wanted = wanted.as_ref().trim_end_matches('.');
            let presented = common_name.trim_end_matches('.');
            // Not even a wildcard may cover an authority's whole name space.
            match presented.strip_prefix("*.") {
                Some(domain) if domain.contains('.') => wanted
                    .split_once('.')
                    .is_some_and(|(_, rest)| !rest.is_empty() && rest.eq_ignore_ascii_case(domain)),
                Some(_) => false,
                None => !presented.is_empty() && presented.eq_ignore_ascii_case(wanted),
            }
        }
        ServerName::IpAddress(wanted) => common_name
            .parse()
            .is_ok_and(|presented: std::net::IpAddr| presented == std::net::IpAddr::from(*wanted)),
        _ => false,
    }
}

fn subject_of(certificate: &CertificateDer<'_>) -> String {
    CertificateSummary::from_der(certificate)
        .map(|summary| summary.subject)
        .unwrap_or_default()
}

impl Rules {
    /// Rules from what a credentials object holds. The error names the certificate that cannot be an anchor.
    pub(crate) fn new(x509: &X509, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let mut anchors = Vec::new();
        let mut anchor_facts = Vec::new();
        let mut subjects = Vec::new();
        for ca in x509.ca() {
            let anchor = anchor_from_trusted_cert(ca).map_err(|error| {
                let subject = CertificateSummary::from_der(ca)
                    .map(|ca| ca.subject)
                    .unwrap_or_default();
                format!("the authority \"{subject}\" in ca-cert.pem cannot be a trust anchor ({error:?})")
            })?;
            subjects.push(DistinguishedName::in_sequence(anchor.subject.as_ref()));
            let facts = AnchorFacts::of(ca).ok_or_else(|| {
                format!(
                    "the authority \"{}\" in ca-cert.pem cannot be read",
                    subject_of(ca)
                )
            })?;
            anchor_facts.push(facts);
            anchors.push(anchor.to_owned());
        }
        let mut crls = Vec::new();
        for crl in x509.crls() {
            let crl = OwnedCertRevocationList::from_der(crl)
                .map_err(|error| format!("a revocation list of ca-crl.pem cannot be used ({error:?})"))?;
            crls.push(CertRevocationList::Owned(crl));
        }
        Ok(Rules {
            anchors,
            anchor_facts,
            crls,
            subjects,
            provider,
            profile: x509.priority().map_or(Profile::None, Priority::profile),
            verify_peer: x509.verify_peer(),
        })
    }

    /// Is the peer judged at all?
    pub(crate) fn verify_peer(&self) -> bool {
        self.verify_peer
    }

    /// Judges the peer of a resumed session, which the engine takes as it was when the ticket was given.
    ///
    /// `name` is whom a client expects; a server expects no name. The alert's number fits the refusal.
    pub(crate) fn judge_again(
        &self,
        chain: &[CertificateDer<'_>],
        endpoint: Endpoint,
        name: Option<&ServerName<'_>>,
    ) -> Result<(), (Refusal, u8)> {
        if !self.verify_peer {
            return Ok(());
        }
        let purpose = match endpoint {
            Endpoint::Client => Purpose::ServerAuth,
            Endpoint::Server => Purpose::ClientAuth,
        };
        let Some((leaf, intermediates)) = chain.split_first() else {
            let problem = CertificateProblem::Unfit("the session was resumed without one".to_owned());
            let subject = String::new();
            return Err((
                Refusal { subject, problem },
                AlertDescription::CertificateRequired.into(),
            ));
        };
        judge(self, leaf, intermediates, purpose, name, UnixTime::now()).map_err(|(problem, error)| {
            (
                Refusal {
                    subject: subject_of(leaf),
                    problem,
                },
                AlertDescription::from(error).into(),
            )
        })
    }

    fn decide(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        purpose: Purpose,
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), EngineError> {
        LAST_REFUSAL.set(None);
        if !self.verify_peer {
            return Ok(());
        }
        judge(self, leaf, intermediates, purpose, name, now).map_err(|(problem, error)| {
            LAST_REFUSAL.set(Some(Refusal {
                subject: subject_of(leaf),
                problem,
            }));
            error.into()
        })
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Judges servers, for a client.
#[derive(Debug)]
pub(crate) struct ServerVerifier(pub(crate) Arc<Rules>);

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, EngineError> {
        self.0.decide(
            end_entity,
            intermediates,
            Purpose::ServerAuth,
            Some(server_name),
            now,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, EngineError> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, EngineError> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.schemes()
    }
}

/// Judges clients, for a server that verifies them.
#[derive(Debug)]
pub(crate) struct ClientVerifier(pub(crate) Arc<Rules>);

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.0.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, EngineError> {
        self.0
            .decide(end_entity, intermediates, Purpose::ClientAuth, None, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, EngineError> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, EngineError> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(common_name: &str, wanted: &str) -> bool {
        common_name_matches(common_name, &ServerName::try_from(wanted).unwrap())
    }

    #[test]
    fn common_names_match_whole_names_only() {
        assert!(matches("host.example.com", "HOST.example.com"));
        assert!(matches("192.0.2.1", "192.0.2.1"));
        assert!(matches("2001:db8:0::1", "2001:db8::1"));
        assert!(!matches("host.example.com", "evil-host.example.com"));
        assert!(!matches("host.example.com\0.evil.com", "host.example.com"));
        assert!(!matches("192.0.2.10", "192.0.2.1"));
        assert!(!matches("", "host.example.com"));
    }

    #[test]
    fn wildcards_cover_one_label() {
        assert!(matches("*.example.com", "host.example.com"));
        assert!(!matches("*.example.com", "a.host.example.com"));
        assert!(!matches("*.example.com", "example.com"));
        assert!(!matches("*.com", "example.com"));
        assert!(!matches("*", "localhost"));
        assert!(!matches("h*.example.com", "host.example.com"));
    }
}
