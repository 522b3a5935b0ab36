//! The way from an own certificate to its authority, over certificates that `qio pki` does not make.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use common::Pki;
use qio_creds::rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use qio_creds::{CredsError, Defect, Endpoint, Identity, PrivateKey, TlsCreds};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

/// A certificate under construction: its name and key, and what it says.
struct Maker {
    params: CertificateParams,
    key: KeyPair,
}

impl Maker {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Self {
            params,
            key: KeyPair::generate().unwrap(),
        }
    }

    fn ca(name: &str) -> Self {
        let mut maker = Self::new(name);
        maker.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        maker.params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        maker
    }

    fn self_signed(&self) -> CertificateDer<'static> {
        self.params.self_signed(&self.key).unwrap().der().clone()
    }

    fn signed_by(&self, issuer: &Self) -> CertificateDer<'static> {
        let issuer = Issuer::from_params(&issuer.params, &issuer.key);
        self.params.signed_by(&self.key, &issuer).unwrap().der().clone()
    }

    fn key(&self) -> PrivateKey {
        PrivateKey::from(PrivateKeyDer::from(PrivatePkcs8KeyDer::from(
            self.key.serialize_der(),
        )))
    }
}

fn server(
    ca: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
) -> Result<TlsCreds, CredsError> {
    TlsCreds::builder(Endpoint::Server)
        .ca(ca)
        .identity(Identity::new(chain, key))
        .build()
}

#[track_caller]
fn only_defect(result: Result<TlsCreds, CredsError>) -> Defect {
    match result {
        Err(CredsError::Problems { mut problems, .. }) if problems.len() == 1 => problems.remove(0).what,
        other => panic!("expected one problem, got {other:?}"),
    }
}

#[test]
fn an_intermediate_leads_to_the_root_or_is_the_anchor() {
    let (root, intermediate, leaf) = (Maker::ca("root"), Maker::ca("intermediate"), Maker::new("leaf"));
    let (root_der, intermediate_der) = (root.self_signed(), intermediate.signed_by(&root));
    let leaf_der = leaf.signed_by(&intermediate);

    // From the file of the leaf, in any order behind it.
    let other = Maker::ca("other").self_signed();
    let chain = vec![leaf_der.clone(), other, intermediate_der.clone()];
    server(vec![root_der.clone()], chain, leaf.key()).unwrap();
    // From the file of authorities, beside the root or alone.
    server(
        vec![root_der.clone(), intermediate_der.clone()],
        vec![leaf_der.clone()],
        leaf.key(),
    )
    .unwrap();
    server(vec![intermediate_der], vec![leaf_der.clone()], leaf.key()).unwrap();
    // From nowhere.
    let what = only_defect(server(vec![root_der], vec![leaf_der], leaf.key()));
    assert!(
        matches!(&what, Defect::UnknownIssuer { issuer, .. } if issuer == "CN=intermediate"),
        "{what}"
    );
}

#[test]
fn an_intermediate_must_be_an_authority() {
    let (root, leaf) = (Maker::ca("root"), Maker::new("leaf"));
    let mut impostor = Maker::new("impostor");
    impostor.params.key_usages.clear();
    let chain = vec![leaf.signed_by(&impostor), impostor.signed_by(&root)];
    let what = only_defect(server(vec![root.self_signed()], chain, leaf.key()));
    assert!(
        matches!(&what, Defect::NotACa { subject } if subject == "CN=impostor"),
        "{what}"
    );
}

#[test]
fn an_authority_limits_how_many_stand_below_it() {
    let (mut root, one, two, leaf) = (
        Maker::ca("root"),
        Maker::ca("one"),
        Maker::ca("two"),
        Maker::new("leaf"),
    );
    let chain = |root: &Maker| vec![leaf.signed_by(&two), two.signed_by(&one), one.signed_by(root)];
    for (limit, sound) in [(0, false), (1, false), (2, true)] {
        root.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(limit));
        let result = server(vec![root.self_signed()], chain(&root), leaf.key());
        if sound {
            result.unwrap();
        } else {
            let what = only_defect(result);
            assert!(
                matches!(what, Defect::PathTooLong { intermediates: 2, .. }),
                "{limit}: {what}"
            );
        }
    }
}

#[test]
fn an_unknown_critical_extension_is_refused() {
    let (root, mut leaf) = (Maker::ca("root"), Maker::new("leaf"));
    let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0x05, 0x00]);
    leaf.params.custom_extensions = vec![extension.clone()];
    server(vec![root.self_signed()], vec![leaf.signed_by(&root)], leaf.key()).unwrap();
    extension.set_criticality(true);
    leaf.params.custom_extensions = vec![extension];
    let what = only_defect(server(
        vec![root.self_signed()],
        vec![leaf.signed_by(&root)],
        leaf.key(),
    ));
    assert!(
        matches!(&what, Defect::CriticalExtension { oid, .. } if oid == "1.2.3.4"),
        "{what}"
    );
}

#[test]
fn cred_11_a_circle_of_intermediates_ends() {
    let (a, b, leaf) = (Maker::ca("a"), Maker::ca("b"), Maker::new("leaf"));
    let chain = vec![
        leaf.signed_by(&a),
        a.signed_by(&b),
        b.signed_by(&a),
        a.signed_by(&b),
        b.signed_by(&a),
    ];
    let what = only_defect(server(vec![Maker::ca("root").self_signed()], chain, leaf.key()));
    assert!(matches!(what, Defect::UnknownIssuer { .. }), "{what}");
}

#[test]
fn cred_11_a_chain_file_of_17_to_200_certificates_is_refused() {
    let pki = Pki::server();
    let leaf = std::fs::read_to_string(pki.file("server-cert.pem")).unwrap();
    pki.write("server-cert.pem", leaf.repeat(16));
    assert!(pki.load(Endpoint::Server).is_ok());
    for count in [17, 100, 200] {
        pki.write("server-cert.pem", leaf.repeat(count));
        assert!(matches!(
            pki.only_problem(Endpoint::Server).1,
            Defect::TooManyCertificates { limit: 16 }
        ));
    }
}

#[test]
fn a_critical_purpose_that_does_not_fit_is_refused() {
    let (root, mut leaf) = (Maker::ca("root"), Maker::new("leaf"));
    // SEQUENCE { OID 1.3.6.1.5.5.7.3.2 (clientAuth) }
    let client_auth = vec![
        0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02,
    ];
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 37], client_auth);
    extension.set_criticality(true);
    leaf.params.custom_extensions = vec![extension];
    let what = only_defect(server(
        vec![root.self_signed()],
        vec![leaf.signed_by(&root)],
        leaf.key(),
    ));
    assert!(
        matches!(
            what,
            Defect::ExtendedKeyUsage {
                lacks: "serverAuth",
                ..
            }
        ),
        "{what}"
    );
}

#[test]
fn any_purpose_and_no_purpose_fit() {
    for purposes in [
        vec![],
        vec![ExtendedKeyUsagePurpose::Any],
        vec![ExtendedKeyUsagePurpose::ServerAuth],
    ] {
        let (root, mut leaf) = (Maker::ca("root"), Maker::new("leaf"));
        leaf.params.extended_key_usages = purposes;
        let creds = server(vec![root.self_signed()], vec![leaf.signed_by(&root)], leaf.key()).unwrap();
        assert!(creds.snapshot().warnings().is_empty());
    }
}

#[test]
fn a_critical_key_usage_without_digital_signature_is_refused() {
    let (root, mut leaf) = (Maker::ca("root"), Maker::new("leaf"));
    leaf.params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    let what = only_defect(server(
        vec![root.self_signed()],
        vec![leaf.signed_by(&root)],
        leaf.key(),
    ));
    assert!(
        matches!(
            what,
            Defect::KeyUsage {
                lacks: "digitalSignature",
                ..
            }
        ),
        "{what}"
    );
}

#[test]
fn an_authority_that_may_not_sign_is_refused() {
    let (mut root, leaf) = (Maker::ca("root"), Maker::new("leaf"));
    root.params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let der = root.self_signed();
    root.params.key_usages.clear(); // rcgen itself would not issue otherwise
    let what = only_defect(server(vec![der], vec![leaf.signed_by(&root)], leaf.key()));
    assert!(
        matches!(
            what,
            Defect::KeyUsage {
                lacks: "keyCertSign",
                ..
            }
        ),
        "{what}"
    );
}

#[test]
fn an_authority_without_basic_constraints_is_none() {
    let (mut root, leaf) = (Maker::ca("root"), Maker::new("leaf"));
    let leaf_der = leaf.signed_by(&root);
    root.params.is_ca = IsCa::NoCa;
    let what = only_defect(server(vec![root.self_signed()], vec![leaf_der], leaf.key()));
    assert!(matches!(what, Defect::NotACa { .. }), "{what}");
}

#[test]
fn damaged_der_in_memory_is_told_by_its_position() {
    let (root, leaf) = (Maker::ca("root"), Maker::new("leaf"));
    let mut trailing = root.self_signed().to_vec();
    trailing.push(0);
    let result = server(
        vec![root.self_signed(), trailing.into(), vec![0x30, 0x80].into()],
        vec![leaf.signed_by(&root)],
        leaf.key(),
    );
    let error = result.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.problems().len(), 2, "{text}");
    assert!(
        text.contains("certificate 2 in the file cannot be used: 1 bytes follow"),
        "{text}"
    );
    assert!(text.contains("certificate 3"), "{text}");
}
