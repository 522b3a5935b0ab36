//! Why a client's negotiation fails, or one option of it.

use crate::cause::from_cause;
use crate::facts::InvalidBlockSizes;
use crate::wire::{BadMagic, OptionCode, OptionReplyType};

/// A server would not serve an option. The negotiation can go on with another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionRefusal {
    /// The option.
    pub option: OptionCode,
    /// The reason as a number.
    pub kind: OptionReplyType,
    /// The server's own words, safe to print; may be empty.
    pub text: String,
}

impl std::fmt::Display for OptionRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = match self.kind {
            OptionReplyType::Unsupported => "it does not support this option",
            OptionReplyType::Policy => "its configuration forbids it",
            OptionReplyType::Invalid => "it found the request malformed",
            OptionReplyType::Platform => "its platform cannot do it",
            OptionReplyType::TlsRequired => "it requires TLS; use an nbds:// address or name TLS credentials",
            OptionReplyType::Unknown => "there is no such export",
            OptionReplyType::Shutdown => "it is shutting down",
            OptionReplyType::BlockSizeRequired => "it insists on block sizes",
            OptionReplyType::TooBig => "it found the request too long",
            OptionReplyType::ExtendedHeadersRequired => {
                "it insists on extended headers, which are not supported yet"
            }
            _ => "for a reason this client does not know",
        };
        write!(f, "the server refused {:?}: {why}", self.option)?;
        if !self.text.is_empty() {
            write!(f, " (it says: {})", self.text)?;
        }
        Ok(())
    }
}

/// Why a negotiation failed. The connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// The first bytes are not NBD's.
    #[error("the server does not speak NBD (it greets with {0:#018x}); check address and port")]
    NotNbd(u64),
    /// A protocol of before 2011.
    #[error(
        "the server speaks only the oldstyle protocol, which can negotiate neither export nor TLS; use a newer server"
    )]
    Oldstyle,
    /// TLS was required and there is none.
    #[error("TLS is required, but the server does not offer it{}", said(.0))]
    TlsNotOffered(Option<OptionRefusal>),
    /// The server wants TLS and we were not told to use any.
    #[error("the server requires TLS: use an nbds:// address with tls-certificates, or --tls-creds{}", said(&Some(.0.clone())))]
    TlsRequiredByServer(OptionRefusal),
    /// A server under TLS claims that there is no TLS.
    #[error("the server asks for TLS under TLS; it is broken, or somebody interferes with the connection")]
    TlsRequiredUnderTls,
    /// Somebody tries to have clear text taken for encrypted text.
    #[error(
        "the server sent clear text behind its answer to STARTTLS; this looks like an attack on the connection"
    )]
    ClearTextBehindStartTls,
    /// The stream is out of step.
    #[error("the server broke the protocol: {0}")]
    BadMagic(BadMagic),
    /// An answer to something else.
    #[error("the server answered option {got:?} where {expected:?} was asked")]
    WrongOption {
        /// What was asked.
        expected: OptionCode,
        /// What was answered.
        got: OptionCode,
    },
    /// An answer that does not fit the question.
    #[error("the server broke the protocol: its answer to {option:?} is {what}")]
    Malformed {
        /// What was asked.
        option: OptionCode,
        /// What is wrong with the answer.
        what: &'static str,
    },
    /// More bytes than anything needs.
    #[error("the server announced an answer of {length} bytes to {option:?}, above the limit of {limit}")]
    TooLong {
        /// What was asked.
        option: OptionCode,
        /// Bytes announced.
        length: u32,
        /// Bytes allowed.
        limit: u32,
    },
    /// More exports, or facts, than anything needs.
    #[error("the server sent more answers to {0:?} than this client takes")]
    TooMany(OptionCode),
    /// Sizes that would be negative elsewhere.
    #[error("the server claims a size of {0} bytes, above 2^63-1")]
    Size(u64),
    /// Numbers that cannot be divided by.
    #[error("the server's block sizes are unusable: {0}")]
    BlockSizes(InvalidBlockSizes),
    /// A server that knows only one option.
    #[error("the server is too old for {0:?}: it can only be told an export's name")]
    TooOld(OptionCode),
    /// The driver fed a negotiation that had ended.
    #[error("the negotiation had already ended")]
    Ended,
}

from_cause!(
    NegotiationError::BadMagic(BadMagic),
    NegotiationError::BlockSizes(InvalidBlockSizes)
);

fn said(refusal: &Option<OptionRefusal>) -> String {
    match refusal {
        Some(refusal) if !refusal.text.is_empty() => format!(" (it says: {})", refusal.text),
        _ => String::new(),
    }
}
