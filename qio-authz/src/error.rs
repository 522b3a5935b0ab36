//! Why there is no answer, and why there is no access list.

use std::io;
use std::path::PathBuf;

use qio_opts::{OptsError, RegistryError};

use crate::MAX_IDENTITY_BYTES;
use crate::list_file::MAX_FILE_BYTES;

/// Why an access list gave no answer. Whoever asked is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthzError {
    /// The identity is longer than [`MAX_IDENTITY_BYTES`].
    #[error("the identity has {bytes} bytes, and none longer than {MAX_IDENTITY_BYTES} is let in")]
    IdentityTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The identity is empty, such as the name of a certificate without a subject.
    #[error("it has no identity that an access list could know (is the subject of its certificate empty?)")]
    NoIdentity,
    /// There is no access list of that id at this moment, or the object is of another kind.
    #[error("nobody is let in without an access list: {0}")]
    Unresolved(#[from] RegistryError),
    /// The identity holds a NUL, which no user's name can.
    #[error("the identity holds a NUL byte, so it cannot be the name of a user of PAM")]
    NotAUser,
    /// PAM did not come to a decision: a module is missing, or cannot reach what it asks.
    #[error(
        "PAM cannot tell for service '{service}': {reason} (the system's log may say more; the service's rules are usually in /etc/pam.d/{service})"
    )]
    Pam {
        /// The service.
        service: String,
        /// What PAM says.
        reason: String,
    },
    /// An authorizer outside of this crate failed.
    #[error("authorization failed: {0}")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why an access list cannot be made, or a file not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthzSetupError {
    /// The options are not those of the object's type.
    #[error(transparent)]
    Options(#[from] OptsError),
    /// There is no such type of access list.
    #[error(
        "there is no authorization object of type '{0}' (known: authz-simple, authz-list, authz-list-file, authz-pam)"
    )]
    UnknownType(String),
    /// This crate was built without PAM.
    #[error(
        "authz-pam is not in this build: build it with the cargo feature 'pam', or use authz-list or authz-list-file"
    )]
    NoPam,
    /// There can be no service of that name.
    #[error(
        "{service:?} cannot be the name of a PAM service: give that of a file in /etc/pam.d, such as 'qio'"
    )]
    PamService {
        /// The name.
        service: String,
    },
    /// The file cannot be read.
    #[error("cannot read the access list '{}'", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is larger than [`MAX_FILE_BYTES`].
    #[error("the access list '{}' is larger than {} MiB, which cannot be meant", file.display(), MAX_FILE_BYTES >> 20)]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// The file is not what it should be.
    #[error(
        "the access list '{}' is not valid: it must be JSON like {{\"policy\": \"deny\", \"rules\": [{{\"match\": \"CN=host1\", \"policy\": \"allow\"}}]}}",
        file.display()
    )]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: OptsError,
    },
    /// Changes of the file cannot be noticed.
    #[error(
        "cannot watch the access list '{}' for changes: use refresh=off to load it only once",
        file.display()
    )]
    Watch {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
