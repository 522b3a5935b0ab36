//! What the TLS library leaves open on a path, and GnuTLS does not: anchors that have expired, issuers that may not issue, and
//! revocation lists that hide each other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use qio_creds::rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer,
};
use qio_creds::{Endpoint, Identity, PrivateKey, TlsCreds};
use qio_tls::{CertificateProblem, Handshake, TlsError};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use support::{HOST, shake};
use time::{Duration, OffsetDateTime};

struct Ca {
    params: CertificateParams,
    key: KeyPair,
}

fn ca(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    change(&mut params);
    Ca {
        params,
        key: KeyPair::generate().unwrap(),
    }
}

impl Ca {
    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    fn root(&self) -> CertificateDer<'static> {
        self.params.self_signed(&self.key).unwrap().der().clone()
    }

    fn under(&self, parent: &Ca) -> CertificateDer<'static> {
        self.params
            .signed_by(&self.key, &parent.issuer())
            .unwrap()
            .der()
            .clone()
    }

    fn revokes(&self, serials: &[u64], number: u64) -> CertificateRevocationListDer<'static> {
        let now = OffsetDateTime::now_utc();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - Duration::days(1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - Duration::days(1),
            next_update: now + Duration::days(1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer()).unwrap().der().clone()
    }
}

/// What a client that trusts `anchor` says of a server below `issuer`.
fn verdict(
    issuer: &Ca,
    chain: &[CertificateDer<'static>],
    anchor: CertificateDer<'static>,
    crls: Vec<CertificateRevocationListDer<'static>>,
) -> Result<(), CertificateProblem> {
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(7u64));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let mut presented = vec![params.signed_by(&key, &issuer.issuer()).unwrap().der().clone()];
    presented.extend(chain.iter().cloned());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let server = TlsCreds::builder(Endpoint::Server)
        .verify_peer(false)
        .sanity_check(false)
        .ca([anchor.clone()])
        .identity(Identity::new(presented, PrivateKey::from(key)))
        .build()
        .unwrap();
    let client = TlsCreds::builder(Endpoint::Client)
        .sanity_check(false)
        .ca([anchor])
        .crls(crls)
        .build()
        .unwrap();
    let client = Handshake::client(&client.for_client().unwrap(), Some(HOST)).unwrap();
    let server = Handshake::server(&server.for_server().unwrap()).unwrap();
    match shake(client, server, usize::MAX).client {
        Ok(_) => Ok(()),
        Err(TlsError::PeerCertificate { problem, .. }) => Err(problem),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_anchor_that_has_expired_or_is_not_valid_yet_vouches_for_nobody() {
    let now = OffsetDateTime::now_utc();
    let expired = ca("expired", |params| {
        params.not_before = now - Duration::days(10);
        params.not_after = now - Duration::days(2);
    });
    let result = verdict(&expired, &[], expired.root(), Vec::new());
    assert!(
        matches!(result, Err(CertificateProblem::Expired { .. })),
        "{result:?}"
    );
    let early = ca("early", |params| params.not_before = now + Duration::days(2));
    let result = verdict(&early, &[], early.root(), Vec::new());
    assert!(
        matches!(result, Err(CertificateProblem::NotYetValid { .. })),
        "{result:?}"
    );
}

#[test]
fn issuers_must_be_allowed_to_issue() {
    let root = ca("root", |_| {});
    let middle = ca("middle", |params| {
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
    });
    let result = verdict(&middle, &[middle.under(&root)], root.root(), Vec::new());
    assert!(
        matches!(&result, Err(CertificateProblem::Unfit(why)) if why.contains("keyCertSign")),
        "{result:?}"
    );
    let root = ca("root", |params| {
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
    });
    assert!(verdict(&root, &[], root.root(), Vec::new()).is_err());
    let silent = ca("no key usage", |params| params.key_usages = Vec::new());
    verdict(&silent, &[], silent.root(), Vec::new()).unwrap();
}

#[test]
fn the_path_length_of_an_anchor_counts() {
    let root = ca("root", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    verdict(&root, &[], root.root(), Vec::new()).unwrap();
    let middle = ca("middle", |_| {});
    let result = verdict(&middle, &[middle.under(&root)], root.root(), Vec::new());
    assert!(
        matches!(&result, Err(CertificateProblem::Unfit(why)) if why.contains("path length")),
        "{result:?}"
    );
}

/// An administrator appends the new list to the old one: it counts, wherever it stands.
#[test]
fn no_revocation_list_hides_another() {
    let root = ca("root", |_| {});
    let (old, new) = (root.revokes(&[1, 2], 1), root.revokes(&[1, 2, 7], 2));
    let ask = |lists: &[&CertificateRevocationListDer<'static>]| {
        verdict(
            &root,
            &[],
            root.root(),
            lists.iter().map(|list| (*list).clone()).collect(),
        )
    };
    ask(&[&old]).unwrap();
    for lists in [vec![&new], vec![&new, &old], vec![&old, &new]] {
        assert_eq!(ask(&lists), Err(CertificateProblem::Revoked));
    }
}
