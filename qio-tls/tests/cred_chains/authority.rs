//! Authorities that issue anything, and what they issue.
#![allow(unreachable_pub, reason = "a module of a test")]

use qio_creds::PrivateKey;
use qio_creds::rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, NameConstraints, SanType,
};

/// An authority, or somebody who acts like one.
pub struct Ca {
    pub params: CertificateParams,
    pub key: KeyPair,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            params,
            key: KeyPair::generate().unwrap(),
        }
    }

    pub fn constrained(name: &str, permitted: &[&str], excluded: &[&str]) -> Self {
        let subtrees = |names: &[&str]| {
            names
                .iter()
                .map(|name| GeneralSubtree::DnsName((*name).to_owned()))
                .collect()
        };
        let mut ca = Self::new(name);
        ca.params.name_constraints = Some(NameConstraints {
            permitted_subtrees: subtrees(permitted),
            excluded_subtrees: subtrees(excluded),
        });
        ca
    }

    pub fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// Its certificate, signed by itself.
    pub fn root(&self) -> CertificateDer<'static> {
        self.params.self_signed(&self.key).unwrap().der().clone()
    }

    /// Its certificate, signed by another.
    pub fn under(&self, other: &Ca) -> CertificateDer<'static> {
        self.params
            .signed_by(&self.key, &other.issuer())
            .unwrap()
            .der()
            .clone()
    }

    pub fn issue(&self, params: &CertificateParams) -> (CertificateDer<'static>, PrivateKey) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (
            certificate.der().clone(),
            PrivateKey::from(PrivateKeyDer::from(key)),
        )
    }
}

pub fn named(name: &str) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    dn.push(DnType::CommonName, name);
    dn
}

pub fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// A server's certificate with these names.
pub fn leaf(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("leaf");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = names.iter().map(|name| dns(name)).collect();
    params
}
