//! What can be wrong with credentials, said with the file and the remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{CertificateError, Endpoint, InvalidPsk, PriorityError, SecretError};

/// Why a credentials object could not be made or reloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredsError {
    /// One or more files are missing, unreadable or unfit. Every problem found is listed, one to a line.
    #[error("TLS credentials {name} for a {endpoint} endpoint cannot be used:{}", Lines(.problems))]
    Problems {
        /// The object, as an error names it: its id, or its directory where it has none.
        name: String,
        /// The endpoint the files were read for.
        endpoint: Endpoint,
        /// What is wrong, in the order of the files; never empty.
        problems: Vec<Problem>,
    },
    /// A server was told which user to be.
    #[error(
        "username should not be set when endpoint=server: the server of TLS credentials {name} knows every user of \
         its keys.psk; leave it out"
    )]
    UsernameOfServer {
        /// The object, as an error names it.
        name: String,
    },
    /// The priority string asks for what cannot be honoured.
    #[error("the priority of TLS credentials {name} cannot be honoured: {source}")]
    Priority {
        /// The object, as an error names it.
        name: String,
        /// Which part of it, and why.
        #[source]
        source: PriorityError,
    },
    /// The password of the private key cannot be had. The first words are QEMU's.
    #[error("{source} (it is the passwordid of TLS credentials {name})")]
    Password {
        /// The object, as an error names it.
        name: String,
        /// What is wrong with the secret.
        #[source]
        source: SecretError,
    },
    /// A reload was asked of credentials that were built in memory.
    #[error("TLS credentials {name} were built in memory, so there are no files to reload; build new ones")]
    NotFromFiles {
        /// The object, as an error names it.
        name: String,
    },
}

impl CredsError {
    /// The problems found in the files; empty where the error is of another kind.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Problems { problems, .. } => problems,
            _ => &[],
        }
    }
}

pub(crate) struct Lines<'a>(pub(crate) &'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// One thing that is wrong with one file.
///
/// Prints as `FILE: what is wrong; how to mend it`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Problem {
    /// The file, or a name in angle brackets for something that was given in memory.
    pub file: PathBuf,
    /// What is wrong with it.
    pub what: Defect,
}

impl Problem {
    pub(crate) fn new(file: impl AsRef<Path>, what: Defect) -> Self {
        Self {
            file: file.as_ref().to_owned(),
            what,
        }
    }

    /// How to mend it, as an instruction to the administrator.
    #[must_use]
    pub fn remedy(&self) -> String {
        self.what.remedy(&self.file)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.file.display(), self.what, self.remedy())
    }
}

/// What is wrong with a file of a credentials directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// The directory is not there.
    #[error("the directory does not exist")]
    NoDirectory,
    /// The file is not there, and the endpoint needs it.
    #[error("the file does not exist")]
    Missing,
    /// Credentials built in memory lack a part that the endpoint needs.
    #[error("none was given")]
    NotGiven,
    /// One file of a certificate and key pair is there, the other is not.
    #[error("the file does not exist, but {} does", .other.display())]
    HalfAPair {
        /// The half that exists.
        other: PathBuf,
    },
    /// The system refused to open or read the file.
    #[error("the file cannot be read ({0})")]
    Unreadable(#[source] std::io::Error),
    /// Not a regular file.
    #[error("this is not a regular file")]
    NotAFile,
    /// Larger than any file of its kind has reason to be.
    #[error("the file is larger than {limit} bytes")]
    TooLarge {
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// Users other than the owner can read or change the private key.
    #[error("the private key can be read or changed by other users (mode {mode:04o})")]
    KeyOpenToOthers {
        /// The permission bits of the file.
        mode: u32,
    },
    /// The text is not well-formed PEM.
    #[error("the file is not well-formed PEM ({0})")]
    BadPem(String),
    /// Nothing of the wanted kind is in the file.
    #[error("the file holds no {wanted} in PEM form")]
    NothingFound {
        /// What was looked for.
        wanted: &'static str,
    },
    /// More certificates than a chain may have.
    #[error("the file holds more than {limit} certificates")]
    TooManyCertificates {
        /// The most that is taken.
        limit: usize,
    },
    /// A private key that needs a password, and none was given.
    #[error("the private key is encrypted")]
    KeyEncrypted,
    /// A private key that is encrypted in a way that is not supported.
    #[error("the private key is encrypted with a scheme that is not supported ({scheme})")]
    KeyEncryption {
        /// The scheme: its name, or its object identifier.
        scheme: String,
    },
    /// A private key that the password does not open.
    #[error(
        "the private key cannot be decrypted with the secret '{secret}'{}",
        if *.newline { ", whose last byte is a newline" } else { "" }
    )]
    WrongPassword {
        /// The id of the secret that holds the password.
        secret: String,
        /// Whether the secret ends with a newline, which is seldom meant.
        newline: bool,
    },
    /// A certificate that TLS engines cannot start from.
    #[error("certificate '{subject}' cannot be a trust anchor ({why})")]
    NoAnchor {
        /// The certificate's subject.
        subject: String,
        /// Why not.
        why: String,
    },
    /// Revocation lists that cannot be used.
    #[error("the revocation lists cannot be used: {why}")]
    BadCrl {
        /// What is wrong with them.
        why: String,
        /// For whom they were read; QEMU ignores those of clients.
        endpoint: Endpoint,
    },
    /// A revocation list that is out of date: peers will not be verified.
    #[error("the revocation list of '{issuer}' expired at {}", Rfc(.next_update))]
    CrlExpired {
        /// Who issued the list.
        issuer: String,
        /// When the next one was due.
        next_update: OffsetDateTime,
    },
    /// Diffie-Hellman parameters, which nothing uses.
    #[error("Diffie-Hellman parameters are not used: key exchange is on named groups")]
    DhParamsUnused,
    /// A numbered identity that is not looked for, because one before it is missing.
    #[error("the file is ignored, because there is no {}", .missing.display())]
    BehindGap {
        /// The first file that is missing.
        missing: PathBuf,
    },
    /// A certificate that cannot be parsed.
    #[error("certificate {position} in the file cannot be used: {source}")]
    BadCertificate {
        /// Which certificate of the file, from 1.
        position: usize,
        /// Why it cannot be parsed.
        #[source]
        source: CertificateError,
    },
    /// A private key that no algorithm known here can use.
    #[error("the private key is damaged, or of a kind that is not supported")]
    KeyUnusable,
    /// The private key belongs to another certificate.
    #[error(
        "the private key ({key}) does not belong to the certificate {} ({certificate})",
        .certificate_file.display()
    )]
    KeyMismatch {
        /// The certificate it was compared with.
        certificate_file: PathBuf,
        /// The kind of the private key.
        key: String,
        /// The kind of the certificate's key.
        certificate: String,
    },
    /// The certificate's validity has not begun.
    #[error("certificate '{subject}' is not valid before {}", Rfc(.not_before))]
    NotYetValid {
        /// The certificate's subject.
        subject: String,
        /// When its validity begins.
        not_before: OffsetDateTime,
    },
    /// The certificate's validity has ended.
    #[error("certificate '{subject}' expired at {}", Rfc(.not_after))]
    Expired {
        /// The certificate's subject.
        subject: String,
        /// When its validity ended.
        not_after: OffsetDateTime,
    },
    /// A certificate that signs others does not say that it is a CA.
    #[error("certificate '{subject}' signs others, but its basic constraints do not say CA:TRUE")]
    NotACa {
        /// The certificate's subject.
        subject: String,
    },
    /// A CA certificate is used as the certificate of an endpoint.
    #[error("certificate '{subject}' is a CA's, and may not identify a {endpoint}")]
    LeafIsCa {
        /// The certificate's subject.
        subject: String,
        /// The endpoint it was to identify.
        endpoint: Endpoint,
    },
    /// The key usage extension forbids what the certificate is used for.
    #[error("the key usage of certificate '{subject}' lacks {lacks}")]
    KeyUsage {
        /// The certificate's subject.
        subject: String,
        /// The usage it would need, by its name in RFC 5280.
        lacks: &'static str,
    },
    /// The extended key usage extension forbids what the certificate is used for.
    #[error("the extended key usage of certificate '{subject}' lacks {lacks}")]
    ExtendedKeyUsage {
        /// The certificate's subject.
        subject: String,
        /// The purpose it would need, by its name in RFC 5280.
        lacks: &'static str,
    },
    /// A critical extension that nobody here can heed.
    #[error("certificate '{subject}' has a critical extension ({oid}) that is not known or cannot be read")]
    CriticalExtension {
        /// The certificate's subject.
        subject: String,
        /// The extension's object identifier.
        oid: String,
    },
    /// More intermediate authorities than an authority above them allows.
    #[error(
        "certificate '{subject}' allows {limit} intermediate authorities below it, and there are {intermediates}"
    )]
    PathTooLong {
        /// The subject of the authority that sets the limit.
        subject: String,
        /// How many it allows.
        limit: u32,
        /// How many there are.
        intermediates: u32,
    },
    /// A signature that can be forged.
    #[error("certificate '{subject}' is signed with {algorithm}, which can be forged and which peers refuse")]
    WeakSignature {
        /// The certificate's subject.
        subject: String,
        /// The algorithm of the signature.
        algorithm: &'static str,
    },
    /// No certificate of `ca-cert.pem` issued this one.
    #[error("certificate '{subject}' was issued by '{issuer}', which is not in {}", .ca_file.display())]
    UnknownIssuer {
        /// The certificate's subject.
        subject: String,
        /// Its issuer.
        issuer: String,
        /// The file of trust anchors.
        ca_file: PathBuf,
    },
    /// A certificate of `ca-cert.pem` has the issuer's name, but another key signed.
    #[error(
        "certificate '{subject}' was signed by another '{issuer}' than the one in {}",
        .ca_file.display()
    )]
    WrongSignature {
        /// The certificate's subject.
        subject: String,
        /// Its issuer.
        issuer: String,
        /// The file of trust anchors.
        ca_file: PathBuf,
    },
    /// The file of pre-shared keys is not there.
    #[error("the file does not exist")]
    NoPskFile,
    /// The file of pre-shared keys is empty, so a server would let nobody in.
    #[error("the file holds no users")]
    NoPskUsers,
    /// A line of `keys.psk` that is of no use. What it holds is not told: it may be a key.
    #[error("line {line} cannot be used: {what}")]
    BadPskLine {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: InvalidPsk,
    },
    /// Too many bad lines to tell each.
    #[error("{count} more lines cannot be used")]
    MoreBadPskLines {
        /// How many were not told.
        count: usize,
    },
    /// The user that a client is to be has no line in `keys.psk`.
    #[error("Username {} not found in PSK file", .username.escape_debug())]
    NoSuchPskUser {
        /// The user.
        username: String,
    },
    /// A user has two lines; the first one counts.
    #[error("line {line} names the user {} of line {first} again, and is ignored", .username.escape_debug())]
    PskUserTwice {
        /// The user.
        username: String,
        /// The line that is ignored, from 1.
        line: usize,
        /// The line that counts.
        first: usize,
    },
    /// A key that is short enough to be guessed from a recorded handshake.
    #[error(
        "the key in line {line} has only {bytes} bytes, and can be guessed by whoever records a handshake"
    )]
    ShortPsk {
        /// The line, from 1.
        line: usize,
        /// The length of the key, in bytes.
        bytes: usize,
    },
}

impl Defect {
    fn remedy(&self, file: &Path) -> String {
        let file = file.display();
        match self {
            Self::NoDirectory => "make it with `qio pki init`, or name another directory".to_owned(),
            Self::Missing => "make it with `qio pki`, or name another directory".to_owned(),
            Self::NotGiven => "add it to the builder".to_owned(),
            Self::HalfAPair { other } => {
                format!("put the missing half there, or remove {}", other.display())
            }
            Self::Unreadable(_) => "make it readable to this user".to_owned(),
            Self::NotAFile => "put a PEM file in its place".to_owned(),
            Self::TooLarge { .. } | Self::TooManyCertificates { .. } => {
                "keep only the certificates that are needed".to_owned()
            }
            Self::KeyOpenToOthers { .. } => {
                format!("run `chmod 600 {file}`, or accept it with --insecure")
            }
            Self::BadPem(_) | Self::NothingFound { .. } => {
                "write it anew; DER is converted with `openssl x509 -inform DER` or `openssl pkey -inform DER`"
                    .to_owned()
            }
            Self::KeyEncrypted => {
                "name its password with passwordid=ID and --object secret,id=ID,file=FILE".to_owned()
            }
            Self::KeyEncryption { .. } => {
                format!("convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc -in {file}`")
            }
            Self::WrongPassword { .. } => {
                "put the right password into the secret, without a newline (printf, not echo)".to_owned()
            }
            Self::BadCrl {
                endpoint: Endpoint::Client,
                ..
            } => "get the current list from the authority, in PEM form, or do without (crl=off)".to_owned(),
            Self::BadCrl { .. } | Self::CrlExpired { .. } => {
                "get the current list from the authority, in PEM form".to_owned()
            }
            Self::NoAnchor { .. } => "remove it, or have the authority issue it anew".to_owned(),
            Self::DhParamsUnused => "remove the file".to_owned(),
            Self::BehindGap { .. } => "number the pairs from 0 on, without a gap".to_owned(),
            Self::BadCertificate { .. } => "replace the damaged certificate".to_owned(),
            Self::KeyUnusable => {
                "use an RSA (2048 bits or more), ECDSA P-256, P-384 or P-521, or Ed25519 key".to_owned()
            }
            Self::KeyMismatch { .. } => "put the key and the certificate that belong together there".to_owned(),
            Self::NotYetValid { .. } => "correct this machine's clock, or issue the certificate anew".to_owned(),
            Self::Expired { .. } => "issue the certificate anew".to_owned(),
            Self::NotACa { .. } => {
                "use the certificate of the authority, with critical basic constraints CA:TRUE".to_owned()
            }
            Self::CriticalExtension { .. } => "issue the certificate anew without it".to_owned(),
            Self::PathTooLong { .. } => {
                "issue the certificate from an authority that is allowed to, or raise pathlen".to_owned()
            }
            Self::WeakSignature { .. } => "issue the certificate anew, with SHA-256".to_owned(),
            Self::LeafIsCa { .. } => "issue a certificate of its own with `qio pki`".to_owned(),
            Self::KeyUsage { lacks, .. } | Self::ExtendedKeyUsage { lacks, .. } => {
                format!("issue the certificate anew with {lacks}")
            }
            Self::UnknownIssuer { ca_file, .. } | Self::WrongSignature { ca_file, .. } => {
                format!("issue it from that authority, or add its issuer to {}", ca_file.display())
            }
            Self::NoPskFile | Self::NoPskUsers => {
                "make it with `qio psk add DIR USER` or psktool, or name another directory".to_owned()
            }
            Self::BadPskLine { .. } | Self::MoreBadPskLines { .. } => {
                "write user:key with the key in hexadecimal, as `qio psk add` and psktool do".to_owned()
            }
            Self::NoSuchPskUser { .. } => {
                "name a user of the file with username=, or copy the user's line from the server's file".to_owned()
            }
            Self::PskUserTwice { .. } => "remove one of the two lines".to_owned(),
            Self::ShortPsk { .. } => "make a new one with `qio psk add` or psktool".to_owned(),
        }
    }
}

struct Rfc<'a>(&'a OffsetDateTime);

impl fmt::Display for Rfc<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.format(&Rfc3339) {
            Ok(text) => f.write_str(&text),
            Err(_) => write!(f, "{}", self.0), // a year that RFC 3339 cannot write
        }
    }
}
