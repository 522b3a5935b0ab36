//! TLS credentials as QEMU's `tls-creds-x509` object knows them.
//!
//! A credentials object is a directory of PEM files with fixed names, read for one [`Endpoint`]:
//!
//! | file | server | client |
//! |---|---|---|
//! | `ca-cert.pem` | required | required |
//! | `ca-crl.pem` | optional | optional |
//! | `server-cert.pem`, `server-key.pem` | required | not read |
//! | `client-cert.pem`, `client-key.pem` | not read | optional |
//!
//! More pairs may stand beside these, from `server-cert-0.pem` and `server-key-0.pem` on; any of them will do for a
//! server. `tls-creds-psk` objects have `keys.psk` instead of all these.
//!
//! [`TlsCreds`] is the object: cheap to clone, shared by every service that names it, and reloadable in place.
//! What it holds at one moment is a [`Snapshot`], which never changes. A TLS engine takes a snapshot, builds its
//! own configuration from it once, and looks at [`Snapshot::generation`] to see whether that is still current.
//!
//! Reading a directory runs the checks that QEMU runs on its own certificates, and reports everything that is
//! wrong at once, each with its file and its remedy: see [`CredsError`].
//!
//! ```no_run
//! use qio_creds::{KeyPermissions, TlsCreds, TlsCredsX509Options};
//!
//! let options = TlsCredsX509Options::server("/etc/pki/qemu");
//! let creds = TlsCreds::load(options, KeyPermissions::Private)?;
//! let server = creds.for_server()?; // an error if the object were made for a client
//! println!("generation {}", server.snapshot().generation());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What this crate deliberately does not know: any TLS engine, any socket, who may connect (that is authorization),
//! and how a peer's chain is verified (that is qio-tls). It uses cryptographic libraries only to see that a private
//! key fits its certificate and that the directory's own chain holds, to open encrypted keys and secrets, and to print
//! fingerprints.
//!
//! [`CredsWatcher`] reloads an object when its files change. [`Secret`] holds the passwords of encrypted keys.
//!
//! With the feature `pki` the module `pki` makes certificate authorities and certificates that QEMU, GnuTLS,
//! OpenSSL and rustls all accept.

mod certificate;
mod check;
mod creds;
mod distinguished_name;
mod encrypted_key;
mod endpoint;
mod error;
mod fingerprint;
mod key;
mod load;
mod options;
mod pem_file;
#[cfg(feature = "pki")]
pub mod pki;
mod priority;
mod psk;
#[cfg(feature = "pki")]
mod psk_edit;
mod psk_file;
mod psk_options;
mod secret;
mod secret_cipher;
mod secret_options;
mod secret_source;
mod snapshot;
mod watch;

pub use certificate::{CertificateError, CertificateSummary, KeyAlgorithm, printable};
pub use creds::{ClientCreds, ServerCreds, TlsCreds, TlsCredsBuilder};
pub use endpoint::{Endpoint, WrongEndpoint};
pub use error::{CredsError, Defect, Problem};
pub use key::PrivateKey;
pub use options::TlsCredsX509Options;
pub use pem_file::KeyPermissions;
pub use priority::{PolicyFiles, Priority, PriorityError, Profile, Rank};
pub use psk::{InvalidPsk, Psk, PskIdentity, PskKey, PskMatch, PskParty, PskUsers};
#[cfg(feature = "pki")]
pub use psk_edit::{PskFile, PskFileError};
pub use psk_options::TlsCredsPskOptions;
pub use secret::{Secret, SecretError};
pub use secret_options::{KeyringSecretOptions, SecretFormat, SecretOptions, SecretText};
pub use snapshot::{Contents, Identity, Snapshot, X509};
pub use watch::{CredsWatcher, WatchOptions};

pub use rustls_pki_types;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
