//! The client's end.

use crate::facts::ReplyMode;
use crate::limits::{MAX_LISTED, MAX_LISTED_BYTES, MAX_OPTION_DRAIN, MAX_OPTION_REPLY, MAX_STRING};
use crate::name::ExportName;
use crate::text;
use crate::wire::{
    ClientFlags, Cursor, EXPORT_NAME_PADDING, HandshakeFlags, InfoType, NBD_MAGIC, OLDSTYLE_MAGIC,
    OPTION_MAGIC, OptionCode, OptionHeader, OptionReplyHeader, OptionReplyType, PayloadLength,
    TransmissionFlags,
};

use super::client_error::{NegotiationError, OptionRefusal};
use super::export_details::{ExportDetails, ListedExport, Partial, check_size, parse_listed};
use super::gather::{Gather, take};

/// Whether a client wants TLS. There is no "if possible": an attacker would see to it that it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientTls {
    /// Everything is in clear text.
    Off,
    /// TLS, or no connection at all.
    Require,
}

/// What the driver has to do next.
#[derive(Debug)]
#[must_use]
pub enum ClientEvent {
    /// All input is used up: send the output, then read and feed more.
    NeedInput,
    /// Do the TLS handshake (the output is empty), go on with [`ClientUpgrade::encrypted`].
    StartTls(ClientUpgrade),
    /// Choose: [`list`](ClientNegotiation::list), [`info`](ClientNegotiation::info),
    /// [`go`](ClientNegotiation::go) or [`abort`](ClientNegotiation::abort).
    Ready,
    /// The answer to [`list`](ClientNegotiation::list); choose again.
    Listed(Vec<ListedExport>),
    /// The answer to [`info`](ClientNegotiation::info); choose again.
    Info(ExportDetails),
    /// The server would not; choose again.
    Refused(OptionRefusal),
    /// Transmission begins with the rest of the input.
    Established(Established),
    /// The server acknowledged the end: close.
    Aborted,
}

/// A finished negotiation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// The export that was chosen.
    pub export: ExportDetails,
    /// How replies look.
    pub replies: ReplyMode,
}

/// Everything that outlives STARTTLS: what the greeting said. See the [module](super).
#[derive(Debug)]
#[must_use = "the server waits for a TLS handshake"]
pub struct ClientUpgrade {
    server_flags: HandshakeFlags,
}

impl ClientUpgrade {
    /// The negotiation to feed with what arrives through TLS. It has output at once.
    #[must_use]
    pub fn encrypted(self) -> ClientNegotiation {
        let mut negotiation = ClientNegotiation {
            security: Security::Encrypted,
            state: State::Ended,
            gather: Gather::default(),
            output: Vec::new(),
            server_flags: self.server_flags,
            replies: ReplyMode::Simple,
        };
        negotiation.ask_structured();
        negotiation
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    Clear(ClientTls),
    Encrypted,
}

/// What the answers to the current option have told so far.
#[derive(Debug)]
enum Asked {
    StartTls,
    StructuredReply,
    List {
        exports: Vec<ListedExport>,
        bytes: usize,
    },
    Details {
        option: OptionCode,
        details: Partial,
    },
    Abort,
}

impl Asked {
    fn option(&self) -> OptionCode {
        match self {
            Asked::StartTls => OptionCode::StartTls,
            Asked::StructuredReply => OptionCode::StructuredReply,
            Asked::List { .. } => OptionCode::List,
            Asked::Details { option, .. } => *option,
            Asked::Abort => OptionCode::Abort,
        }
    }
}

#[derive(Debug)]
enum State {
    Magic,
    ServerFlags,
    Ready,
    ReplyHeader(Asked),
    Reply {
        asked: Asked,
        header: OptionReplyHeader,
    },
    /// A refusal's text: the first 4096 bytes are kept, the rest is read past.
    Refusal {
        asked: Asked,
        kind: OptionReplyType,
        kept: Vec<u8>,
        remaining: usize,
    },
    /// The answer to EXPORT_NAME has no header.
    ExportName {
        name: ExportName,
    },
    Ended,
}

/// The client's end of a negotiation.
///
/// It asks for STARTTLS (if required) and for structured replies by itself; then it is
/// [`Ready`](ClientEvent::Ready) for the caller's choice.
#[derive(Debug)]
pub struct ClientNegotiation {
    security: Security,
    state: State,
    gather: Gather,
    output: Vec<u8>,
    server_flags: HandshakeFlags,
    replies: ReplyMode,
}

type Outcome = Result<Option<ClientEvent>, NegotiationError>;

impl ClientNegotiation {
    /// A negotiation that waits for the server's greeting.
    #[must_use]
    pub fn new(tls: ClientTls) -> Self {
        ClientNegotiation {
            security: Security::Clear(tls),
            state: State::Magic,
            gather: Gather::default(),
            output: Vec::new(),
            server_flags: HandshakeFlags::empty(),
            replies: ReplyMode::Simple,
        }
    }

    /// What is to be sent, taken out.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// How replies will look, as far as it is agreed.
    #[must_use]
    pub fn replies(&self) -> ReplyMode {
        self.replies
    }

    /// Eats input up to the next event. Gives how many bytes were used, and what to do next.
    ///
    /// Feed *everything* that has been received: clear text behind STARTTLS can only be noticed if it is here.
    ///
    /// # Errors
    /// When the server breaks the protocol or cannot do what is required. Only closing is left then.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, ClientEvent), NegotiationError> {
        let mut rest = input;
        loop {
            match self.step(&mut rest) {
                Ok(Some(event)) => return Ok((input.len().saturating_sub(rest.len()), event)),
                Ok(None) => {}
                Err(error) => {
                    self.state = State::Ended;
                    return Err(error);
                }
            }
        }
    }

    /// Asks for the exports.
    ///
    /// # Errors
    /// When the server is too old, or the negotiation is not [`Ready`](ClientEvent::Ready).
    pub fn list(&mut self) -> Result<(), NegotiationError> {
        self.choose(OptionCode::List)?;
        self.ask(
            Asked::List {
                exports: Vec::new(),
                bytes: 0,
            },
            &[],
        );
        Ok(())
    }

    /// Asks for an export's details.
    ///
    /// # Errors
    /// When the server is too old, or the negotiation is not [`Ready`](ClientEvent::Ready).
    pub fn info(&mut self, name: &ExportName) -> Result<(), NegotiationError> {
        self.choose(OptionCode::Info)?;
        self.ask_details(OptionCode::Info, name.clone());
        Ok(())
    }

    /// Chooses an export: `NBD_OPT_GO`, or `NBD_OPT_EXPORT_NAME` where the server does not know that.
    ///
    /// # Errors
    /// When the negotiation is not [`Ready`](ClientEvent::Ready).
    pub fn go(&mut self, name: &ExportName) -> Result<(), NegotiationError> {
        if !matches!(self.state, State::Ready) {
            return Err(NegotiationError::Ended);
        }
        if self.server_flags.contains(HandshakeFlags::FIXED_NEWSTYLE) {
            self.ask_details(OptionCode::Go, name.clone());
        } else {
            self.ask_export_name(name.clone());
        }
        Ok(())
    }

    /// Ends the negotiation politely.
    ///
    /// # Errors
    /// When the server is too old (then just close), or the negotiation is not [`Ready`](ClientEvent::Ready).
    pub fn abort(&mut self) -> Result<(), NegotiationError> {
        self.choose(OptionCode::Abort)?;
        self.ask(Asked::Abort, &[]);
        Ok(())
    }

    fn choose(&self, option: OptionCode) -> Result<(), NegotiationError> {
        match self.state {
            State::Ready if self.server_flags.contains(HandshakeFlags::FIXED_NEWSTYLE) => Ok(()),
            State::Ready => Err(NegotiationError::TooOld(option)),
            _ => Err(NegotiationError::Ended),
        }
    }

    fn step(&mut self, input: &mut &[u8]) -> Outcome {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Magic => {
                let Some(bytes) = self.gather.array::<16>(input) else {
                    return self.wait(State::Magic);
                };
                let mut cursor = Cursor::new(&bytes);
                match (cursor.u64(), cursor.u64()) {
                    (Some(NBD_MAGIC), Some(OPTION_MAGIC)) => self.state = State::ServerFlags,
                    (Some(NBD_MAGIC), Some(OLDSTYLE_MAGIC)) => return Err(NegotiationError::Oldstyle),
                    (first, _) => return Err(NegotiationError::NotNbd(first.unwrap_or_default())),
                }
                Ok(None)
            }
            State::ServerFlags => {
                let Some(bytes) = self.gather.array(input) else {
                    return self.wait(State::ServerFlags);
                };
                self.greet(HandshakeFlags::from_bits_truncate(u16::from_be_bytes(bytes)))
            }
            State::Ready => self.wait(State::Ready),
            State::ReplyHeader(asked) => match self.gather.array(input) {
                Some(bytes) => self.reply_header(asked, &bytes),
                None => self.wait(State::ReplyHeader(asked)),
            },
            State::Reply { asked, header } => {
                let length = usize::try_from(header.payload.0).unwrap_or(usize::MAX);
                match self.gather.fill(input, length) {
                    Some(payload) => self.reply(asked, header.kind, &payload, input.is_empty()),
                    None => self.wait(State::Reply { asked, header }),
                }
            }
            State::Refusal {
                asked,
                kind,
                mut kept,
                remaining,
            } => {
                let part = take(input, remaining);
                let room = MAX_STRING.saturating_sub(kept.len());
                kept.extend(part.iter().take(room));
                match remaining.saturating_sub(part.len()) {
                    0 => self.refused(asked, kind, &kept),
                    remaining => self.wait(State::Refusal {
                        asked,
                        kind,
                        kept,
                        remaining,
                    }),
                }
            }
            State::ExportName { name } => self.export_name_reply(name, input),
            State::Ended => Err(NegotiationError::Ended),
        }
    }

    /// Puts the state back and asks for more input.
    fn wait(&mut self, state: State) -> Outcome {
        self.state = state;
        Ok(Some(ClientEvent::NeedInput))
    }

    fn greet(&mut self, flags: HandshakeFlags) -> Outcome {
        self.server_flags = flags;
        let mut answer = ClientFlags::empty();
        answer.set(
            ClientFlags::FIXED_NEWSTYLE,
            flags.contains(HandshakeFlags::FIXED_NEWSTYLE),
        );
        answer.set(ClientFlags::NO_ZEROES, flags.contains(HandshakeFlags::NO_ZEROES));
        let fixed = flags.contains(HandshakeFlags::FIXED_NEWSTYLE);
        let require = self.security == Security::Clear(ClientTls::Require);
        if require && !fixed {
            return Err(NegotiationError::TlsNotOffered(None));
        }
        self.output.extend(answer.bits().to_be_bytes());
        if require {
            self.ask(Asked::StartTls, &[]);
            Ok(None)
        } else if fixed {
            self.ask_structured();
            Ok(None)
        } else {
            self.state = State::Ready;
            Ok(Some(ClientEvent::Ready))
        }
    }

    fn reply_header(&mut self, asked: Asked, bytes: &[u8; OptionReplyHeader::SIZE]) -> Outcome {
        let header = OptionReplyHeader::decode(bytes)?;
        let option = asked.option();
        if header.option != option {
            return Err(NegotiationError::WrongOption {
                expected: option,
                got: header.option,
            });
        }
        let length = header.payload.0;
        let limit = if header.kind.is_refusal() {
            MAX_OPTION_DRAIN
        } else {
            MAX_OPTION_REPLY
        };
        if length > limit {
            return Err(NegotiationError::TooLong {
                option,
                length,
                limit,
            });
        }
        self.state = if header.kind.is_refusal() {
            let remaining = usize::try_from(length).unwrap_or(usize::MAX);
            State::Refusal {
                asked,
                kind: header.kind,
                kept: Vec::new(),
                remaining,
            }
        } else {
            State::Reply { asked, header }
        };
        Ok(None)
    }

    fn reply(
        &mut self,
        asked: Asked,
        kind: OptionReplyType,
        payload: &[u8],
        at_end_of_input: bool,
    ) -> Outcome {
        let option = asked.option();
        let malformed = |what| NegotiationError::Malformed { option, what };
        if kind == OptionReplyType::Ack && !payload.is_empty() {
            return Err(malformed("an acknowledgement that carries data"));
        }
        match (asked, kind) {
            (Asked::StartTls, OptionReplyType::Ack) if !at_end_of_input => {
                Err(NegotiationError::ClearTextBehindStartTls)
            }
            (Asked::StartTls, OptionReplyType::Ack) => Ok(Some(ClientEvent::StartTls(ClientUpgrade {
                server_flags: self.server_flags,
            }))),
            (Asked::StructuredReply, OptionReplyType::Ack) => {
                self.replies = ReplyMode::Structured;
                self.state = State::Ready;
                Ok(Some(ClientEvent::Ready))
            }
            (Asked::List { exports, .. }, OptionReplyType::Ack) => {
                self.state = State::Ready;
                Ok(Some(ClientEvent::Listed(exports)))
            }
            (Asked::List { mut exports, bytes }, OptionReplyType::Server) => {
                let export = parse_listed(payload).ok_or(malformed("a malformed export name"))?;
                let bytes = bytes.saturating_add(payload.len());
                exports.push(export);
                if exports.len() > MAX_LISTED || bytes > MAX_LISTED_BYTES {
                    return Err(NegotiationError::TooMany(option));
                }
                self.state = State::ReplyHeader(Asked::List { exports, bytes });
                Ok(None)
            }
            (Asked::Details { details, .. }, OptionReplyType::Ack) => {
                let Partial {
                    name,
                    description,
                    export,
                    block_sizes,
                    ..
                } = details;
                let (size, flags) = export.ok_or(malformed("lacking the export's size"))?;
                let export = ExportDetails {
                    name,
                    description,
                    size,
                    flags,
                    block_sizes,
                };
                Ok(Some(if option == OptionCode::Go {
                    ClientEvent::Established(Established {
                        export,
                        replies: self.replies,
                    })
                } else {
                    self.state = State::Ready;
                    ClientEvent::Info(export)
                }))
            }
            (Asked::Details { option, mut details }, OptionReplyType::Info) => {
                details.add(option, payload)?;
                self.state = State::ReplyHeader(Asked::Details { option, details });
                Ok(None)
            }
            (Asked::Abort, OptionReplyType::Ack) => Ok(Some(ClientEvent::Aborted)),
            _ => Err(malformed("of a kind that does not fit the question")),
        }
    }

    fn refused(&mut self, asked: Asked, kind: OptionReplyType, text: &[u8]) -> Outcome {
        let option = asked.option();
        let refusal = OptionRefusal {
            option,
            kind,
            text: text::peer_text(text),
        };
        if kind == OptionReplyType::TlsRequired {
            return Err(match self.security {
                Security::Encrypted => NegotiationError::TlsRequiredUnderTls,
                Security::Clear(_) => NegotiationError::TlsRequiredByServer(refusal),
            });
        }
        match asked {
            Asked::StartTls => Err(NegotiationError::TlsNotOffered(Some(refusal))),
            // Simple replies will do.
            Asked::StructuredReply => {
                self.state = State::Ready;
                Ok(Some(ClientEvent::Ready))
            }
            Asked::Details {
                option: OptionCode::Go,
                details,
            } if kind == OptionReplyType::Unsupported => {
                self.ask_export_name(details.name);
                Ok(None)
            }
            Asked::List { .. } | Asked::Details { .. } => {
                self.state = State::Ready;
                Ok(Some(ClientEvent::Refused(refusal)))
            }
            Asked::Abort => Ok(Some(ClientEvent::Aborted)),
        }
    }

    fn export_name_reply(&mut self, name: ExportName, input: &mut &[u8]) -> Outcome {
        let padding = if self.server_flags.contains(HandshakeFlags::NO_ZEROES) {
            0
        } else {
            EXPORT_NAME_PADDING
        };
        let Some(reply) = self.gather.fill(input, 10 + padding) else {
            return self.wait(State::ExportName { name });
        };
        let mut cursor = Cursor::new(&reply);
        let (size, flags) = (cursor.u64().unwrap_or_default(), cursor.u16().unwrap_or_default());
        let export = ExportDetails {
            name,
            description: String::new(),
            size: check_size(size)?,
            flags: TransmissionFlags::from_bits_retain(flags),
            block_sizes: None,
        };
        Ok(Some(ClientEvent::Established(Established {
            export,
            replies: self.replies,
        })))
    }

    fn ask_structured(&mut self) {
        self.ask(Asked::StructuredReply, &[]);
    }

    fn ask_details(&mut self, option: OptionCode, name: ExportName) {
        let bytes = name.as_str().as_bytes();
        let infos = [InfoType::Name, InfoType::Description, InfoType::BlockSize];
        let mut payload = Vec::with_capacity(bytes.len() + 12);
        payload.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        payload.extend(bytes);
        payload.extend(3_u16.to_be_bytes());
        payload.extend(infos.into_iter().flat_map(|info| u16::from(info).to_be_bytes()));
        let details = Partial::new(name);
        self.ask(Asked::Details { option, details }, &payload);
    }

    fn ask_export_name(&mut self, name: ExportName) {
        self.send(OptionCode::ExportName, name.as_str().as_bytes());
        self.state = State::ExportName { name };
    }

    fn ask(&mut self, asked: Asked, payload: &[u8]) {
        self.send(asked.option(), payload);
        self.state = State::ReplyHeader(asked);
    }

    fn send(&mut self, option: OptionCode, payload: &[u8]) {
        let length = PayloadLength(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        self.output.extend(
            OptionHeader {
                option,
                payload: length,
            }
            .encode(),
        );
        self.output.extend_from_slice(payload);
    }
}
