//! A credentials directory in the making.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use qio_interop::succeed;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// The object identifier of the key usage extension.
pub(crate) const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
/// The object identifier of the extended key usage extension.
pub(crate) const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];

/// A certificate in the making.
pub(crate) struct Maker {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
}

impl Maker {
    /// An end certificate for both ends.
    pub(crate) fn leaf(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        Self {
            params,
            key: KeyPair::generate().unwrap(),
        }
    }

    /// An authority.
    pub(crate) fn ca(name: &str) -> Self {
        let mut maker = Self::leaf(name);
        maker.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        maker.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        maker
    }

    /// Valid from so many days from now, to so many.
    pub(crate) fn valid(&mut self, from: i64, to: i64) {
        let now = OffsetDateTime::now_utc();
        self.params.not_before = now + Duration::days(from);
        self.params.not_after = now + Duration::days(to);
    }

    /// An extension as its bytes are.
    pub(crate) fn extension(&mut self, oid: &[u64], critical: bool, content: &[u8]) {
        let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
        extension.set_criticality(critical);
        self.params.custom_extensions.push(extension);
    }

    /// A key usage extension that is not critical, as one byte of bits.
    pub(crate) fn lax_key_usage(&mut self, bits: u8) {
        self.params.key_usages.clear();
        let unused = u8::try_from(bits.trailing_zeros()).unwrap();
        self.extension(KEY_USAGE, false, &[3, 2, unused, bits]);
    }

    pub(crate) fn self_signed(&self) -> String {
        self.params.self_signed(&self.key).unwrap().pem()
    }

    pub(crate) fn signed_by(&self, issuer: &Self) -> String {
        let issuer = Issuer::from_params(&issuer.params, &issuer.key);
        self.params.signed_by(&self.key, &issuer).unwrap().pem()
    }
}

/// A directory as it should be, until a case spoils it.
pub(crate) struct Build {
    pub(crate) dir: PathBuf,
    pub(crate) root: Maker,
    pub(crate) leaf: Maker,
    /// `ca-cert.pem`, if it is not just the root's certificate.
    pub(crate) ca_file: Option<String>,
    /// The file of the end certificate, if it is not just that, signed by the root.
    pub(crate) chain_file: Option<String>,
    /// More files, written last: name, contents, mode.
    pub(crate) files: Vec<(String, Vec<u8>, u32)>,
    /// Files that are removed in the end. `*` stands for both ends.
    pub(crate) removed: Vec<&'static str>,
    /// Done last of all.
    pub(crate) finally: Option<fn(&Path)>,
    /// Further objects.
    pub(crate) secrets: Vec<String>,
    /// Further properties of the credentials object, each with a comma before it.
    pub(crate) options: String,
    /// Properties and arguments that only ours knows.
    pub(crate) our_options: String,
    pub(crate) our_arguments: Vec<&'static str>,
}

impl Build {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            root: Maker::ca("root"),
            leaf: Maker::leaf("leaf"),
            ca_file: None,
            chain_file: None,
            files: Vec::new(),
            removed: Vec::new(),
            finally: None,
            secrets: Vec::new(),
            options: String::new(),
            our_options: String::new(),
            our_arguments: Vec::new(),
        }
    }

    /// Adds or replaces a file; `*` in its name stands for both ends.
    pub(crate) fn file(&mut self, name: &str, contents: impl Into<Vec<u8>>) {
        let contents = contents.into();
        for end in both(name) {
            self.files.push((end, contents.clone(), 0o600));
        }
    }

    /// The certificate of the leaf, signed by the root as they are now.
    pub(crate) fn leaf_signed(&self) -> String {
        self.leaf.signed_by(&self.root)
    }

    /// Puts an authority between root and leaf, and gives its certificate.
    pub(crate) fn intermediate(&mut self, change: impl FnOnce(&mut Maker)) -> String {
        let mut middle = Maker::ca("intermediate");
        change(&mut middle);
        self.chain_file = Some(self.leaf.signed_by(&middle));
        middle.signed_by(&self.root)
    }

    /// The private key as OpenSSL converts it.
    pub(crate) fn converted_key(&self, arguments: &[&str]) -> String {
        let key = self.dir.join("plain.pem");
        fs::write(&key, self.leaf.key.serialize_pem()).unwrap();
        succeed(Command::new("openssl").args(arguments).arg("-in").arg(key)).unwrap()
    }

    /// Writes it all.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let put = |name: &str, contents: &[u8], mode: u32| -> anyhow::Result<()> {
            let path = self.dir.join(name);
            fs::write(&path, contents)?;
            Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
        };
        let ca = self.ca_file.clone().unwrap_or_else(|| self.root.self_signed());
        put("ca-cert.pem", ca.as_bytes(), 0o644)?;
        let chain = self.chain_file.clone().unwrap_or_else(|| self.leaf_signed());
        for end in ["server", "client"] {
            put(&format!("{end}-cert.pem"), chain.as_bytes(), 0o644)?;
            put(
                &format!("{end}-key.pem"),
                self.leaf.key.serialize_pem().as_bytes(),
                0o600,
            )?;
        }
        for (name, contents, mode) in &self.files {
            put(name, contents, *mode)?;
        }
        for name in self.removed.iter().flat_map(|name| both(name)) {
            fs::remove_file(self.dir.join(name))?;
        }
        if let Some(finally) = self.finally {
            finally(&self.dir);
        }
        Ok(())
    }
}

fn both(name: &str) -> Vec<String> {
    if name.contains('*') {
        ["server", "client"].map(|end| name.replace('*', end)).to_vec()
    } else {
        vec![name.to_owned()]
    }
}
