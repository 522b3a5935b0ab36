//! Certificates with subjects that no tool makes: any attribute, any string type, any octets, any order.

use std::path::Path;

use anyhow::Context as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder as _, CertificateBuilder};
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::asn1::{Any, Ia5String, ObjectIdentifier};
use x509_cert::der::{EncodePem as _, Tag};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName};
use x509_cert::ext::{Extension, ToExtension as _};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use x509_cert::time::Validity;

/// An attribute: its object identifier, the type of its value, and the octets of the value.
pub(crate) type Attribute = (&'static str, Tag, Vec<u8>);

/// A subject: attributes in groups, of which most have one.
pub(crate) type Subject = Vec<Vec<Attribute>>;

/// What a certificate is for.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Authority,
    Server,
    Client,
}

struct Profile {
    subject: Name,
    issuer: Name,
    role: Role,
}

impl BuilderProfile for Profile {
    fn get_issuer(&self, _: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
        const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
        let subject = tbs.subject();
        let ca = self.role == Role::Authority;
        let constraints = BasicConstraints {
            ca,
            path_len_constraint: None,
        };
        let usage = KeyUsage(match self.role {
            Role::Authority => KeyUsages::KeyCertSign.into(),
            _ => KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment,
        });
        let mut extensions = vec![
            (&constraints).to_extension(subject, &[])?,
            (&usage).to_extension(subject, &[])?,
        ];
        if !ca {
            let purpose = if self.role == Role::Server {
                SERVER_AUTH
            } else {
                CLIENT_AUTH
            };
            extensions.push((&ExtendedKeyUsage(vec![purpose])).to_extension(subject, &[])?);
        }
        if self.role == Role::Server {
            let names = SubjectAltName(vec![GeneralName::DnsName(Ia5String::new("localhost")?)]);
            extensions.push((&names).to_extension(subject, &[])?);
        }
        Ok(extensions)
    }
}

fn name(subject: &Subject) -> anyhow::Result<Name> {
    let mut sequence = RdnSequence::default();
    for group in subject {
        let attributes = group
            .iter()
            .map(|(oid, tag, value)| {
                Ok(AttributeTypeAndValue {
                    oid: ObjectIdentifier::new(oid).map_err(|error| anyhow::anyhow!("{oid}: {error}"))?,
                    value: Any::new(*tag, value.clone())?,
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        sequence.push(RelativeDistinguishedName::try_from(attributes)?);
    }
    Ok(Name::hazmat_from_rdn_sequence(sequence))
}

/// An authority that signs anything. It and all it signs have one key, since only the names matter here.
pub(crate) struct Authority {
    key: SigningKey,
    name: Name,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let key = SigningKey::from_slice(&[7; 32])?;
        let name = name(&vec![vec![(
            "2.5.4.3",
            Tag::Utf8String,
            b"authz authority".to_vec(),
        )]])?;
        let mut authority = Self {
            key,
            name: name.clone(),
            pem: String::new(),
        };
        authority.pem = authority.sign(name, Role::Authority)?;
        Ok(authority)
    }

    fn sign(&self, subject: Name, role: Role) -> anyhow::Result<String> {
        let profile = Profile {
            subject,
            issuer: self.name.clone(),
            role,
        };
        let builder = CertificateBuilder::new(
            profile,
            SerialNumber::from(17_u32),
            Validity::from_now(std::time::Duration::from_secs(86_400))?,
            SubjectPublicKeyInfo::from_key(self.key.verifying_key())?,
        )?;
        let certificate = builder.build::<_, DerSignature>(&self.key)?;
        Ok(certificate.to_pem(LineEnding::LF)?)
    }

    /// Makes the directory of a client with this subject.
    pub(crate) fn client(&self, dir: &Path, subject: &Subject) -> anyhow::Result<()> {
        self.write(dir, "client", &self.sign(name(subject)?, Role::Client)?)
    }

    /// Makes the directory of a server called `localhost`.
    pub(crate) fn server(&self, dir: &Path) -> anyhow::Result<()> {
        let subject = name(&vec![vec![("2.5.4.3", Tag::Utf8String, b"localhost".to_vec())]])?;
        self.write(dir, "server", &self.sign(subject, Role::Server)?)
    }

    fn write(&self, dir: &Path, end: &str, certificate: &str) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::create_dir(dir).with_context(|| dir.display().to_string())?;
        std::fs::write(dir.join("ca-cert.pem"), &self.pem)?;
        std::fs::write(dir.join(format!("{end}-cert.pem")), certificate)?;
        let key = dir.join(format!("{end}-key.pem"));
        std::fs::write(&key, self.key.to_pkcs8_pem(LineEnding::LF)?.as_bytes())?;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
        Ok(())
    }
}
