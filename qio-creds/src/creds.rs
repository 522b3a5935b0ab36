//! The credentials object that services share.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use qio_opts::{ObjectRegistry, WeakRegistry};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use time::OffsetDateTime;

use crate::check::{self, Findings, Subject, SubjectIdentity};
use crate::fingerprint::Fingerprint;
use crate::snapshot::{Contents, X509};
use crate::{
    CredsError, Defect, Endpoint, Identity, KeyPermissions, Priority, Psk, Snapshot, TlsCredsPskOptions,
    TlsCredsX509Options, WrongEndpoint, load, psk_file,
};

/// A credentials object: QEMU's `tls-creds-x509` or `tls-creds-psk`.
///
/// Cloning it makes another handle to the same object. [`reload`](Self::reload) through any handle is seen by all.
///
/// Services do not take it as it is: they take [`ServerCreds`] or [`ClientCreds`], which [`for_server`] and
/// [`for_client`] hand out, so that credentials of the wrong side are refused when a service is set up.
///
/// [`for_server`]: Self::for_server
/// [`for_client`]: Self::for_client
#[derive(Debug, Clone)]
pub struct TlsCreds {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    id: Option<String>,
    endpoint: Endpoint,
    source: Source,
    current: RwLock<Arc<Snapshot>>,
    /// Held over a whole reload, so that of two at once the later one's files win. Holds the state of the files when
    /// they were read last, whether or not they were fit for use.
    reloading: Mutex<Fingerprint>,
}

#[derive(Debug)]
enum Source {
    X509Files {
        options: TlsCredsX509Options,
        permissions: KeyPermissions,
        /// Weak: the credentials are an object of that registry themselves.
        objects: WeakRegistry,
    },
    PskFile {
        options: TlsCredsPskOptions,
        permissions: KeyPermissions,
    },
    Memory,
}

impl Source {
    /// Reads the files, or none if there are none.
    fn read(&self) -> Option<Result<Snapshot, CredsError>> {
        match self {
            Self::X509Files {
                options,
                permissions,
                objects,
            } => {
                let objects = objects.upgrade().unwrap_or_default();
                Some(load::directory(options, *permissions, &objects))
            }
            Self::PskFile { options, permissions } => Some(psk_file::directory(options, *permissions)),
            Self::Memory => None,
        }
    }

    /// The state of all files that are read, whether or not they are there.
    fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::X509Files { options, .. } => Fingerprint::of(load::files(options)),
            Self::PskFile { options, .. } => Fingerprint::of([psk_file::file(options)]),
            Self::Memory => Fingerprint::default(),
        }
    }
}

impl TlsCreds {
    /// Reads the directory that `options` names. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// [`CredsError::Problems`] with everything that is wrong with the files;
    /// [`CredsError::Priority`] for a `priority` that cannot be honoured; [`CredsError::Password`] for a
    /// `passwordid`, for which there is [`load_with`](Self::load_with).
    pub fn load(options: TlsCredsX509Options, permissions: KeyPermissions) -> Result<Self, CredsError> {
        Self::load_with(options, permissions, &ObjectRegistry::new())
    }

    /// Likewise, with the objects among which the secret is that `passwordid` names.
    ///
    /// A [`reload`](Self::reload) looks for the secret again, so the registry must be kept as long as there is one to
    /// come.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and [`CredsError::Password`] if the secret is not there or is no password.
    pub fn load_with(
        options: TlsCredsX509Options,
        permissions: KeyPermissions,
        objects: &ObjectRegistry,
    ) -> Result<Self, CredsError> {
        let name = load::name_of(&options);
        let id = options.id.clone();
        let source = Source::X509Files {
            options,
            permissions,
            objects: objects.downgrade(),
        };
        Self::from_source(name, id, source)
    }

    /// Reads `keys.psk` in the directory that `options` names. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// [`CredsError::Problems`] with everything that is wrong with the file, and
    /// [`CredsError::Priority`] for a `priority` that cannot be honoured.
    pub fn load_psk(options: TlsCredsPskOptions, permissions: KeyPermissions) -> Result<Self, CredsError> {
        let name = psk_file::name_of(&options);
        let id = options.id.clone();
        Self::from_source(name, id, Source::PskFile { options, permissions })
    }

    fn from_source(name: String, id: Option<String>, source: Source) -> Result<Self, CredsError> {
        let fingerprint = source.fingerprint(); // before the files are read, so that no change is missed
        let read = source
            .read()
            .ok_or_else(|| CredsError::NotFromFiles { name: name.clone() })?;
        Ok(Self::with(name, id, read?, source, fingerprint))
    }

    /// Pre-shared keys that come from memory, for programs that keep theirs elsewhere. The keys say which endpoint
    /// the object is for.
    #[must_use]
    pub fn from_psk(id: Option<&str>, psk: Psk) -> Self {
        let name = id.map_or_else(|| "in memory".to_owned(), |id| format!("'{id}'"));
        let snapshot = Snapshot::new(psk.endpoint(), Contents::Psk(psk), Vec::new());
        Self::with(
            name,
            id.map(str::to_owned),
            snapshot,
            Source::Memory,
            Fingerprint::default(),
        )
    }

    /// Starts x509 credentials that come from memory, for programs that keep their certificates elsewhere.
    pub fn builder(endpoint: Endpoint) -> TlsCredsBuilder {
        TlsCredsBuilder {
            id: None,
            endpoint,
            sanity_check: true,
            contents: X509::empty(true),
        }
    }

    fn with(
        name: String,
        id: Option<String>,
        snapshot: Snapshot,
        source: Source,
        fingerprint: Fingerprint,
    ) -> Self {
        let endpoint = snapshot.endpoint();
        let current = RwLock::new(Arc::new(snapshot));
        Self {
            shared: Arc::new(Shared {
                name,
                id,
                endpoint,
                source,
                current,
                reloading: Mutex::new(fingerprint),
            }),
        }
    }

    /// The id by which services name the object, if it has one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.shared.id.as_deref()
    }

    /// The object as an error or a log line names it: its id, or its directory where it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The side of the session the object is for.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.shared.endpoint
    }

    /// The directory the object was read from; none if it was built in memory.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        match &self.shared.source {
            Source::X509Files { options, .. } => Some(&options.dir),
            Source::PskFile { options, .. } => Some(&options.dir),
            Source::Memory => None,
        }
    }

    /// What the object holds now. Never blocks on the file system.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        // Only a whole new Arc is ever stored, so a panic elsewhere cannot have left half of one.
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again, and puts what they hold in force for every service that shares the object.
    ///
    /// Sessions that are already open keep what they have. Blocks on the file system; sessions that begin
    /// meanwhile use the old snapshot.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and [`CredsError::NotFromFiles`]. The old snapshot then stays in force.
    pub fn reload(&self) -> Result<Arc<Snapshot>, CredsError> {
        self.read_again(self.reloading())
    }

    /// Reloads if a file was changed, added or removed since the files were last read; none if not.
    ///
    /// This costs a look at each file. [`CredsWatcher`](crate::CredsWatcher) calls it when the directory changes;
    /// programs with an event loop of their own may call it when they see fit.
    ///
    /// A set of files that was refused is not read again until it changes.
    ///
    /// # Errors
    ///
    /// As [`reload`](Self::reload).
    pub fn reload_if_changed(&self) -> Option<Result<Arc<Snapshot>, CredsError>> {
        let last = self.reloading();
        if *last == self.shared.source.fingerprint() {
            return None;
        }
        Some(self.read_again(last))
    }

    fn reloading(&self) -> MutexGuard<'_, Fingerprint> {
        self.shared
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn read_again(&self, mut last: MutexGuard<'_, Fingerprint>) -> Result<Arc<Snapshot>, CredsError> {
        let shared = &self.shared;
        *last = shared.source.fingerprint(); // before the files are read, so that no change is missed
        let read = shared.source.read().ok_or_else(|| CredsError::NotFromFiles {
            name: shared.name.clone(),
        })?;
        let snapshot = Arc::new(read?);
        tracing::info!(creds = %shared.name, generation = snapshot.generation(), "TLS credentials reloaded");
        *shared.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&snapshot);
        Ok(snapshot)
    }

    /// The object as a service that accepts connections takes it.
    ///
    /// # Errors
    ///
    /// [`WrongEndpoint`] if the object is for a client.
    pub fn for_server(&self) -> Result<ServerCreds, WrongEndpoint> {
        self.expect(Endpoint::Server).map(ServerCreds)
    }

    /// The object as a service that makes connections takes it.
    ///
    /// # Errors
    ///
    /// [`WrongEndpoint`] if the object is for a server.
    pub fn for_client(&self) -> Result<ClientCreds, WrongEndpoint> {
        self.expect(Endpoint::Client).map(ClientCreds)
    }

    fn expect(&self, needed: Endpoint) -> Result<Self, WrongEndpoint> {
        let has = self.endpoint();
        if has == needed {
            Ok(self.clone())
        } else {
            Err(WrongEndpoint {
                name: self.shared.name.clone(),
                has,
                needed,
            })
        }
    }
}

impl qio_opts::Object for TlsCreds {
    const KIND: &'static str = "TLS credentials";

    fn type_name(&self) -> &'static str {
        match self.snapshot().contents() {
            Contents::X509(_) => "tls-creds-x509",
            Contents::Psk(_) => "tls-creds-psk",
        }
    }
}

/// Credentials that are certainly for a server; made by [`TlsCreds::for_server`].
#[derive(Debug, Clone)]
pub struct ServerCreds(TlsCreds);

/// Credentials that are certainly for a client; made by [`TlsCreds::for_client`].
#[derive(Debug, Clone)]
pub struct ClientCreds(TlsCreds);

impl ServerCreds {
    /// What the object holds now; see [`TlsCreds::snapshot`].
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot()
    }

    /// The object behind it.
    #[must_use]
    pub fn creds(&self) -> &TlsCreds {
        &self.0
    }
}

impl ClientCreds {
    /// What the object holds now; see [`TlsCreds::snapshot`].
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot()
    }

    /// The object behind it.
    #[must_use]
    pub fn creds(&self) -> &TlsCreds {
        &self.0
    }
}

/// Builds x509 credentials from what is in memory; made by [`TlsCreds::builder`].
#[derive(Debug)]
#[must_use = "nothing is made until build() is called"]
pub struct TlsCredsBuilder {
    id: Option<String>,
    endpoint: Endpoint,
    sanity_check: bool,
    contents: X509,
}

impl TlsCredsBuilder {
    /// The id by which services and errors name the object.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Whether the peer must present a certificate that verifies; on unless said otherwise.
    pub fn verify_peer(mut self, verify_peer: bool) -> Self {
        self.contents.verify_peer = verify_peer;
        self
    }

    /// Whether the certificates are checked as those of a directory are; on unless said otherwise.
    pub fn sanity_check(mut self, sanity_check: bool) -> Self {
        self.sanity_check = sanity_check;
        self
    }

    /// Adds trust anchors.
    pub fn ca(mut self, certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        self.contents.ca.extend(certificates);
        self
    }

    /// Adds revocation lists.
    pub fn crls(mut self, crls: impl IntoIterator<Item = CertificateRevocationListDer<'static>>) -> Self {
        self.contents.crls.extend(crls);
        self
    }

    /// Says which versions and algorithms of TLS are allowed; whatever the engine finds best unless said.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.contents.priority = Some(priority);
        self
    }

    /// Adds an identity to present.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.contents.identities.push(identity);
        self
    }

    /// Checks it all, and makes the object.
    ///
    /// # Errors
    ///
    /// [`CredsError::Problems`], in which names in angle brackets stand where a directory has files.
    pub fn build(self) -> Result<TlsCreds, CredsError> {
        let Self {
            id,
            endpoint,
            sanity_check,
            contents,
        } = self;
        let name = id
            .as_ref()
            .map_or_else(|| "in memory".to_owned(), |id| format!("'{id}'"));
        let ca_file = Path::new("<ca certificate>");
        let crl_file = Path::new("<revocation list>");
        let (certificate_file, key_file) = match endpoint {
            Endpoint::Server => (Path::new("<server certificate>"), Path::new("<server key>")),
            Endpoint::Client => (Path::new("<client certificate>"), Path::new("<client key>")),
        };

        let mut findings = Findings::default();
        if contents.verify_peer && contents.ca.is_empty() {
            findings.error(ca_file, Defect::NotGiven);
        }
        if endpoint == Endpoint::Server && contents.identities.is_empty() {
            findings.error(certificate_file, Defect::NotGiven);
        }
        let identities = contents.identities.iter().map(|identity| SubjectIdentity {
            certificate_file,
            key_file,
            chain: identity.chain(),
            key: Some(identity.key()),
        });
        let checked = Subject {
            endpoint,
            ca_file,
            ca: &contents.ca,
            crl_file,
            crls: &contents.crls,
            identities: identities.collect(),
        };
        findings.append(check::check(&checked, sanity_check.then(OffsetDateTime::now_utc)));
        let warnings = findings.into_result(&name, endpoint)?;
        let snapshot = Snapshot::new(endpoint, Contents::X509(contents), warnings);
        Ok(TlsCreds::with(
            name,
            id,
            snapshot,
            Source::Memory,
            Fingerprint::default(),
        ))
    }
}
