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
//! What a certificate says can also come from a template of certtool ([`Template::from_certtool`]): the recipes of
//! QEMU's documentation then give the same certificates as with certtool itself. A [`Request`] gets a certificate for
//! a key that stays on its host, and a [`RevocationList`] takes certificates back.
//!
//! What this cannot do is what the library that writes ASN.1 ([rcgen](https://docs.rs/rcgen)) cannot: names with two
//! values of one kind (two OUs), policies, authority information access, and other extensions in raw form. It says so
//! and writes nothing.
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
mod certtool;
mod directory;
mod key_kind;
mod name;
mod pair;
mod request;
mod revocation;
mod serial;
mod template;
mod validity;

pub use authority::Authority;
pub use certtool::TemplateProblem;
pub use directory::{Directory, Overwrite, write_certificate};
pub use key_kind::{KeyKind, UnknownKeyKind};
pub use pair::Pair;
pub use request::{Request, RequestSummary};
pub use revocation::{RevocationList, RevocationListSummary, RevocationReason, Revoked, UnknownReason};
pub use template::{AuthorityTemplate, InvalidName, Name, Purpose, Template};
pub use validity::{InvalidDate, Validity, parse_date};

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
    /// A value that an attribute of a name cannot have.
    #[error("'{value}' cannot stand in a certificate's name: {what}")]
    Attribute {
        /// The value.
        value: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A template of certtool is wrong in these lines.
    #[error("the template cannot be used:{}", certtool::Lines(.0))]
    Template(Vec<TemplateProblem>),
    /// A template of certtool makes a certificate that its purpose cannot use.
    #[error("the template makes a certificate that would be refused: {0}")]
    UnfitTemplate(&'static str),
    /// A certificate signing request cannot be used.
    #[error("the certificate signing request cannot be signed: {0}; ask its maker for another one")]
    Request(&'static str),
    /// The library that makes certificates cannot write the subject of a request.
    #[error(
        "the subject of the request ('{0}') is of a form that cannot be written; choose another with --cn"
    )]
    SubjectName(String),
    /// What was read is not what it should be.
    #[error("it is not a {0} in DER form, or it is cut short")]
    Malformed(&'static str),
    /// The file of revocation lists cannot be continued.
    #[error("{} cannot be continued: {what}; move the file away to begin a new list", .path.display())]
    RevocationList {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The certificate is not the authority's to revoke.
    #[error("the certificate of '{subject}' cannot be revoked here: {what}")]
    NotIssued {
        /// The certificate's subject, safe to print.
        subject: String,
        /// Why.
        what: &'static str,
    },
    /// The validity ends before it begins, or lies outside of what a certificate can say.
    #[error(
        "the certificate would not be valid at any time a certificate can say; choose other --days, --not-before or \
         --not-after"
    )]
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
