//! What the server's negotiation asks of its driver, and how it ends.

use crate::cause::from_cause;
use crate::facts::ReplyMode;
use crate::limits::MAX_OPTION_DRAIN;
use crate::name::{ExportName, InvalidName};
use crate::wire::{BadMagic, OptionCode, TransmissionFlags};

use super::server::ServerUpgrade;

/// What the driver has to do next.
#[derive(Debug)]
#[must_use]
pub enum ServerEvent {
    /// All input is used up: send the output, then read and feed more.
    NeedInput,
    /// An option has been answered: send the output, then feed the rest of the input again.
    Continue,
    /// Answer with [`answer_list`](super::ServerNegotiation::answer_list).
    List(ListQuery),
    /// Answer with [`answer_lookup`](super::ServerNegotiation::answer_lookup).
    Lookup(LookupQuery),
    /// Send the output in clear text, do the TLS handshake, go on with [`ServerUpgrade::encrypted`].
    StartTls(ServerUpgrade),
    /// Send the output; transmission begins with the rest of the input.
    Negotiated(Negotiated),
    /// Send the output and close.
    Close(CloseReason),
}

/// A client wants to know the exports.
#[derive(Debug)]
#[must_use = "the client waits for ServerNegotiation::answer_list"]
pub struct ListQuery(pub(super) ());

/// A client named an export.
#[derive(Debug)]
#[must_use = "the client waits for ServerNegotiation::answer_lookup"]
pub struct LookupQuery {
    pub(super) name: ExportName,
    pub(super) intent: Intent,
}

impl LookupQuery {
    /// The name, as the client spelled it; empty for the default export.
    #[must_use]
    pub fn name(&self) -> &ExportName {
        &self.name
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    ExportName,
    Info { canonical_name: bool },
    Go { canonical_name: bool },
}

/// A finished negotiation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The export, as the client named it.
    pub export: ExportName,
    /// How replies look.
    pub replies: ReplyMode,
    /// The flags the client was told.
    pub flags: TransmissionFlags,
}

/// Why a negotiation ended without an export. For logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// A tidy end: `NBD_OPT_ABORT`.
    #[error("the client ended the negotiation")]
    Aborted,
    /// `NBD_OPT_EXPORT_NAME` cannot be refused in any other way.
    #[error(
        "the client asked for an export in clear text, but this server requires TLS; give the client TLS credentials"
    )]
    ClearTextExportName,
    /// As above, with a name that does not exist.
    #[error("the client asked for export '{0}', which is not there")]
    UnknownExport(ExportName),
    /// As above, with a name that cannot exist.
    #[error("the client asked for an export with an impossible name: {0}")]
    InvalidName(InvalidName),
    /// More than the option budget.
    #[error("the client sent too many options without choosing an export")]
    TooManyOptions,
    /// More than is worth reading past.
    #[error("the client announced an option of {0} bytes, above the limit of {MAX_OPTION_DRAIN}")]
    OptionTooLong(u32),
    /// The stream is not NBD.
    #[error("the client does not speak NBD: {0}")]
    BadMagic(BadMagic),
    /// A flag that would change the protocol in a way we do not know.
    #[error("the client sent handshake flags {0:#x}, some of which are unknown")]
    UnknownClientFlags(u32),
    /// Without fixed newstyle a client may only name an export.
    #[error("the client sent option {0:?} without having agreed to fixed newstyle negotiation")]
    NotFixedNewstyle(OptionCode),
    /// Somebody tries to have clear text taken for encrypted text.
    #[error("the client sent clear text behind STARTTLS; this looks like an attack on the connection")]
    ClearTextBehindStartTls,
    /// The driver fed a negotiation that had ended.
    #[error("the negotiation had already ended")]
    Ended,
}

from_cause!(
    CloseReason::BadMagic(BadMagic),
    CloseReason::InvalidName(InvalidName)
);

/// A refusal that a client may leave over: of TLS, of the lack of it, or of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnedAway {
    /// What was refused.
    pub option: OptionCode,
    /// Why.
    pub why: String,
}
