//! Making certificate authorities and certificates.
//!
//! Everything made here is taken by QEMU (7.2 and later), GnuTLS, OpenSSL (also with `-x509_strict`) and rustls, on
//! both ends of a session:
//!
//! - X.509 version 3, a random positive serial number of 16 bytes, subject and authority key identifiers.
//! - An authority has critical basic constraints `CA:TRUE`, and the critical key usages keyCertSign and cRLSign.
//! - Other certificates have critical basic constraints `CA:FALSE`, and the critical key usages digitalSignature and
//!   keyEncipherment. Releases of QEMU before 10.2 refuse a certificate without the second, whatever its key.
//! - The extended key usage is serverAuth, clientAuth, or both for a certificate that works on either end.
//! - A server's names and addresses stand in the subject alternative name; its common name is the first of them.
//! - Validity begins five minutes before now, so that a peer whose clock is a little slow takes the certificate.
//!
//! ```
//! use qio_creds::pki::{Authority, AuthorityTemplate, Directory, Overwrite, Purpose, Template};
//!
//! # let tmp = tempfile::tempdir()?;
//! # let path = tmp.path().join("pki");
//! let directory = Directory::create(&path)?;
//! let authority = Authority::create(&AuthorityTemplate::new("Example CA"))?;
//! directory.write_authority(&authority, Overwrite::Refuse)?;
//!
//! let template = Template::new(Purpose::Server).name("host1.example.org".parse()?).name("192.0.2.7".parse()?);
//! directory.write_pair(Purpose::Server, &authority.issue(&template)?, Overwrite::Refuse)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod authority;
mod directory;
mod template;

pub use authority::{Authority, Pair};
pub use directory::{Directory, Overwrite};
pub use template::{
    AuthorityTemplate, InvalidName, KeyKind, Name, Purpose, Template, UnknownKeyKind, Validity,
};

use std::io;
use std::path::PathBuf;

use crate::Problem;

/// Why a certificate could not be made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file that was to be written is there already. Nothing was written.
    #[error("{} exists already, and nothing was written; use --force to replace it", .0.display())]
    Exists(PathBuf),
    /// The authority's certificate or key cannot be used. Lists what is wrong.
    #[error("the certificate authority cannot issue certificates:{}", crate::error::Lines(.0))]
    UnfitAuthority(Vec<Problem>),
    /// The library that makes certificates cannot write the authority's own name as the authority wrote it, and
    /// peers would not find the issuer.
    #[error(
        "the name of the certificate authority ('{0}') is of a form that cannot be written into certificates; \
         issue with the tool that made it, or make an authority with `qio pki init`"
    )]
    IssuerName(String),
    /// The common name has more than 64 characters, which X.509 does not allow.
    #[error("the common name '{0}' is longer than 64 characters; choose a shorter one with --cn")]
    LongCommonName(String),
    /// The validity ends before it begins, or lies outside of what a certificate can say.
    #[error("the certificate would not be valid at any time a certificate can say; choose other --days")]
    Validity,
    /// The library that makes keys and certificates failed.
    #[error("{doing} failed ({source})")]
    Generate {
        /// What was being made.
        doing: &'static str,
        /// What the library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A directory or file could not be written.
    #[error("{} cannot be written ({source}); choose another directory, or correct its permissions", .path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl PkiError {
    fn generate<E: std::error::Error + Send + Sync + 'static>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Generate {
            doing,
            source: Box::new(source),
        }
    }

    fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}
