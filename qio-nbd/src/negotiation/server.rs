//! The server's end.

use crate::facts::{ExportInfo, ReplyMode};
use crate::limits::{MAX_EXPORT_NAME_OPTION, MAX_OPTION_BUFFER, MAX_OPTION_DRAIN, MAX_STRING};
use crate::name::{ExportName, InvalidName};
use crate::text;
use crate::wire::{
    ArrayWriter, ClientFlags, Cursor, EXPORT_NAME_PADDING, HandshakeFlags, InfoType, NBD_MAGIC, OPTION_MAGIC,
    OptionCode, OptionHeader, OptionReplyHeader, OptionReplyType, PayloadLength, TransmissionFlags,
};

use super::gather::{Gather, take};
use super::server_event::{CloseReason, Intent, ListQuery, LookupQuery, Negotiated, ServerEvent, TurnedAway};

/// Whether a server negotiates TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsPolicy {
    /// STARTTLS is refused; everything is in clear text.
    Off,
    /// Before STARTTLS only STARTTLS and ABORT are served, and nothing about exports is told.
    Required,
}

/// What protects the bytes that are being fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    Clear(TlsPolicy),
    Encrypted,
}

/// Everything that outlives STARTTLS: how far the greeting went. See the [module](super).
#[derive(Debug)]
#[must_use = "the client waits for a TLS handshake"]
pub struct ServerUpgrade {
    client_flags: ClientFlags,
    options_left: u32,
}

impl ServerUpgrade {
    /// The negotiation to feed with what arrives through TLS.
    #[must_use]
    pub fn encrypted(self) -> ServerNegotiation {
        ServerNegotiation {
            security: Security::Encrypted,
            state: State::Header,
            gather: Gather::default(),
            output: Vec::new(),
            client_flags: self.client_flags,
            options_left: self.options_left,
            replies: ReplyMode::Simple,
            turned_away: None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    ClientFlags,
    Header,
    Payload(OptionHeader),
    /// Read past what is left of an option, then refuse it.
    Drain {
        option: OptionCode,
        remaining: u32,
        kind: OptionReplyType,
        why: &'static str,
    },
    Ended,
}

/// The server's end of a negotiation.
///
/// ```
/// use qio_nbd::negotiation::{ServerEvent, ServerNegotiation, TlsPolicy};
///
/// let mut negotiation = ServerNegotiation::new(TlsPolicy::Off, 32);
/// assert!(negotiation.take_output().starts_with(b"NBDMAGICIHAVEOPT")); // the greeting
/// let (consumed, event) = negotiation.feed(&[0, 0, 0, 3]); // the client's flags
/// assert_eq!(consumed, 4);
/// assert!(matches!(event, ServerEvent::NeedInput));
/// ```
#[derive(Debug)]
pub struct ServerNegotiation {
    security: Security,
    state: State,
    gather: Gather,
    output: Vec<u8>,
    client_flags: ClientFlags,
    options_left: u32,
    replies: ReplyMode,
    turned_away: Option<TurnedAway>,
}

impl ServerNegotiation {
    /// A negotiation in clear text, its greeting ready to be sent. After `max_options` options the client is
    /// dropped; see [`limits`](crate::limits).
    #[must_use]
    pub fn new(policy: TlsPolicy, max_options: u32) -> Self {
        let flags = HandshakeFlags::FIXED_NEWSTYLE | HandshakeFlags::NO_ZEROES;
        let greeting: [u8; 18] = ArrayWriter::new()
            .u64(NBD_MAGIC)
            .u64(OPTION_MAGIC)
            .u16(flags.bits())
            .finish();
        ServerNegotiation {
            security: Security::Clear(policy),
            state: State::ClientFlags,
            gather: Gather::default(),
            output: greeting.to_vec(),
            client_flags: ClientFlags::empty(),
            options_left: max_options,
            replies: ReplyMode::Simple,
            turned_away: None,
        }
    }

    /// As if structured replies had been agreed on, by whatever bug.
    #[cfg(test)]
    pub(super) fn pretend_structured(&mut self) {
        self.replies = ReplyMode::Structured;
    }

    /// What is to be sent, taken out.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The last refusal that the client may leave over, for the log.
    #[must_use]
    pub fn turned_away(&self) -> Option<&TurnedAway> {
        self.turned_away.as_ref()
    }

    /// Eats input up to the end of at most one option. Gives how many bytes were used, and what to do next.
    ///
    /// Feed *everything* that has been received: bytes behind STARTTLS can only be noticed if they are here.
    pub fn feed(&mut self, input: &[u8]) -> (usize, ServerEvent) {
        let mut rest = input;
        let event = self.advance(&mut rest);
        if let ServerEvent::Close(_) | ServerEvent::Negotiated(_) | ServerEvent::StartTls(_) = event {
            self.state = State::Ended;
        }
        (input.len().saturating_sub(rest.len()), event)
    }

    fn advance(&mut self, input: &mut &[u8]) -> ServerEvent {
        loop {
            match self.state {
                State::ClientFlags => {
                    let Some(bytes) = self.gather.array(input) else {
                        return ServerEvent::NeedInput;
                    };
                    let bits = u32::from_be_bytes(bytes);
                    let Some(flags) = ClientFlags::from_bits(bits) else {
                        return ServerEvent::Close(CloseReason::UnknownClientFlags(bits));
                    };
                    self.client_flags = flags;
                    self.state = State::Header;
                }
                State::Header => {
                    let Some(bytes) = self.gather.array(input) else {
                        return ServerEvent::NeedInput;
                    };
                    match OptionHeader::decode(&bytes)
                        .map_err(CloseReason::from)
                        .and_then(|h| self.admit(h))
                    {
                        Ok(state) => self.state = state,
                        Err(reason) => return ServerEvent::Close(reason),
                    }
                }
                State::Payload(header) => {
                    let Ok(length) = usize::try_from(header.payload.0) else {
                        return ServerEvent::NeedInput;
                    };
                    let Some(payload) = self.gather.fill(input, length) else {
                        return ServerEvent::NeedInput;
                    };
                    self.state = State::Header;
                    return self.act(header.option, &payload, input.is_empty());
                }
                State::Drain {
                    option,
                    remaining,
                    kind,
                    why,
                } => {
                    let drained = take(input, usize::try_from(remaining).unwrap_or(usize::MAX)).len();
                    let remaining = remaining.saturating_sub(u32::try_from(drained).unwrap_or(u32::MAX));
                    if remaining > 0 {
                        self.state = State::Drain {
                            option,
                            remaining,
                            kind,
                            why,
                        };
                        return ServerEvent::NeedInput;
                    }
                    self.state = State::Header;
                    self.refuse(option, kind, why);
                    return ServerEvent::Continue;
                }
                State::Ended => return ServerEvent::Close(CloseReason::Ended),
            }
        }
    }

    /// Decides from its header alone whether an option's payload is worth keeping.
    fn admit(&mut self, header: OptionHeader) -> Result<State, CloseReason> {
        let OptionHeader {
            option,
            payload: PayloadLength(length),
        } = header;
        self.options_left = self
            .options_left
            .checked_sub(1)
            .ok_or(CloseReason::TooManyOptions)?;
        if length > MAX_OPTION_DRAIN {
            return Err(CloseReason::OptionTooLong(length));
        }
        if option != OptionCode::ExportName && !self.client_flags.contains(ClientFlags::FIXED_NEWSTYLE) {
            return Err(CloseReason::NotFixedNewstyle(option));
        }
        let before_tls = self.security == Security::Clear(TlsPolicy::Required);
        let refuse = |kind, why| {
            Ok(State::Drain {
                option,
                remaining: length,
                kind,
                why,
            })
        };
        match option {
            OptionCode::ExportName if before_tls => Err(CloseReason::ClearTextExportName),
            OptionCode::ExportName if length > MAX_EXPORT_NAME_OPTION => Err(CloseReason::InvalidName(
                InvalidName::TooLong(usize::try_from(length).unwrap_or(usize::MAX)),
            )),
            OptionCode::StartTls | OptionCode::Abort | OptionCode::ExportName
                if length <= MAX_OPTION_BUFFER =>
            {
                Ok(State::Payload(header))
            }
            _ if before_tls => refuse(
                OptionReplyType::TlsRequired,
                "this server requires TLS: negotiate STARTTLS first",
            ),
            OptionCode::List | OptionCode::Info | OptionCode::Go | OptionCode::StructuredReply => {
                if length > MAX_OPTION_BUFFER {
                    refuse(
                        OptionReplyType::TooBig,
                        "the option is longer than this server accepts",
                    )
                } else {
                    Ok(State::Payload(header))
                }
            }
            OptionCode::StartTls | OptionCode::Abort => refuse(
                OptionReplyType::TooBig,
                "the option is longer than this server accepts",
            ),
            _ => refuse(
                OptionReplyType::Unsupported,
                "this server does not know the option",
            ),
        }
    }

    fn act(&mut self, option: OptionCode, payload: &[u8], at_end_of_input: bool) -> ServerEvent {
        match option {
            OptionCode::ExportName => match ExportName::try_from(payload) {
                Ok(name) => ServerEvent::Lookup(LookupQuery {
                    name,
                    intent: Intent::ExportName,
                }),
                Err(error) => ServerEvent::Close(error.into()),
            },
            OptionCode::Abort => {
                self.acknowledge(option);
                ServerEvent::Close(CloseReason::Aborted)
            }
            OptionCode::StartTls => self.start_tls(payload, at_end_of_input),
            OptionCode::List if payload.is_empty() => ServerEvent::List(ListQuery(())),
            OptionCode::StructuredReply if payload.is_empty() && self.replies == ReplyMode::Simple => {
                self.replies = ReplyMode::Structured;
                self.acknowledge(option);
                ServerEvent::Continue
            }
            OptionCode::StructuredReply if payload.is_empty() => {
                self.invalid(option, "structured replies have been negotiated already")
            }
            OptionCode::Info | OptionCode::Go => self.look_up(option, payload),
            _ => self.invalid(option, "the option cannot carry data"),
        }
    }

    fn start_tls(&mut self, payload: &[u8], at_end_of_input: bool) -> ServerEvent {
        let option = OptionCode::StartTls;
        match self.security {
            _ if !payload.is_empty() => self.invalid(option, "STARTTLS cannot carry data"),
            Security::Encrypted => self.invalid(option, "this connection is under TLS already"),
            Security::Clear(TlsPolicy::Off) => {
                self.refuse(
                    option,
                    OptionReplyType::Policy,
                    "TLS is not configured on this server",
                );
                ServerEvent::Continue
            }
            Security::Clear(TlsPolicy::Required) if !at_end_of_input => {
                ServerEvent::Close(CloseReason::ClearTextBehindStartTls)
            }
            Security::Clear(TlsPolicy::Required) => {
                self.acknowledge(option);
                ServerEvent::StartTls(ServerUpgrade {
                    client_flags: self.client_flags,
                    options_left: self.options_left,
                })
            }
        }
    }

    fn look_up(&mut self, option: OptionCode, payload: &[u8]) -> ServerEvent {
        let Some((name, infos)) = parse_info_request(payload) else {
            return self.invalid(
                option,
                "the lengths inside the option do not add up to its length",
            );
        };
        let name = match ExportName::try_from(name) {
            Ok(name) => name,
            Err(InvalidName::TooLong(_)) => {
                self.refuse(
                    option,
                    OptionReplyType::TooBig,
                    "an export name has at most 4096 bytes",
                );
                return ServerEvent::Continue;
            }
            Err(InvalidName::Nul) => return self.invalid(option, "an export name cannot contain a NUL byte"),
            Err(InvalidName::NotUtf8) => return self.invalid(option, "an export name must be valid UTF-8"),
        };
        let canonical_name = infos.chunks_exact(2).any(|pair| {
            Cursor::new(pair)
                .u16()
                .is_some_and(|number| InfoType::from(number) == InfoType::Name)
        });
        let intent = match option {
            OptionCode::Go => Intent::Go { canonical_name },
            _ => Intent::Info { canonical_name },
        };
        ServerEvent::Lookup(LookupQuery { name, intent })
    }

    /// Answers [`ServerEvent::List`] with the names and descriptions to advertise.
    pub fn answer_list<'a>(
        &mut self,
        query: ListQuery,
        exports: impl IntoIterator<Item = (&'a ExportName, &'a str)>,
    ) -> ServerEvent {
        let ListQuery(()) = query;
        for (name, description) in exports {
            let name = name.as_str().as_bytes();
            let description = text::truncate(description, MAX_STRING).as_bytes();
            let name_length = u32::try_from(name.len()).unwrap_or(u32::MAX);
            self.reply(
                OptionCode::List,
                OptionReplyType::Server,
                &[&name_length.to_be_bytes(), name, description],
            );
        }
        self.acknowledge(OptionCode::List);
        ServerEvent::Continue
    }

    /// Answers [`ServerEvent::Lookup`] with the export's facts, or `None` where there is no such export.
    pub fn answer_lookup(&mut self, query: LookupQuery, found: Option<&ExportInfo>) -> ServerEvent {
        let LookupQuery { name, intent } = query;
        let (option, canonical_name) = match intent {
            Intent::ExportName => (OptionCode::ExportName, false),
            Intent::Info { canonical_name } => (OptionCode::Info, canonical_name),
            Intent::Go { canonical_name } => (OptionCode::Go, canonical_name),
        };
        let Some(info) = found else {
            if intent == Intent::ExportName {
                self.state = State::Ended;
                return ServerEvent::Close(CloseReason::UnknownExport(name));
            }
            self.refuse(
                option,
                OptionReplyType::Unknown,
                &format!("export '{name}' not present"),
            );
            return ServerEvent::Continue;
        };
        let mut flags = info.flags | TransmissionFlags::HAS_FLAGS;
        flags.set(TransmissionFlags::SEND_DF, self.replies == ReplyMode::Structured);

        if intent == Intent::ExportName {
            self.output.extend(info.size.to_be_bytes());
            self.output.extend(flags.bits().to_be_bytes());
            if !self.client_flags.contains(ClientFlags::NO_ZEROES) {
                self.output.extend([0; EXPORT_NAME_PADDING]);
            }
        } else {
            if canonical_name {
                self.info(option, InfoType::Name, name.as_str().as_bytes());
            }
            if !info.description.is_empty() {
                let description = text::truncate(&info.description, MAX_STRING);
                self.info(option, InfoType::Description, description.as_bytes());
            }
            let sizes = info.block_sizes;
            let sizes: [u8; 12] = ArrayWriter::new()
                .u32(sizes.minimum())
                .u32(sizes.preferred())
                .u32(sizes.maximum())
                .finish();
            self.info(option, InfoType::BlockSize, &sizes);
            let export: [u8; 10] = ArrayWriter::new().u64(info.size).u16(flags.bits()).finish();
            self.info(option, InfoType::Export, &export);
            self.acknowledge(option);
            if let Intent::Info { .. } = intent {
                return ServerEvent::Continue;
            }
        }
        self.state = State::Ended;
        ServerEvent::Negotiated(Negotiated {
            export: name,
            replies: self.replies,
            flags,
        })
    }

    fn info(&mut self, option: OptionCode, kind: InfoType, value: &[u8]) {
        self.reply(
            option,
            OptionReplyType::Info,
            &[&u16::from(kind).to_be_bytes(), value],
        );
    }

    fn acknowledge(&mut self, option: OptionCode) {
        self.reply(option, OptionReplyType::Ack, &[]);
    }

    fn invalid(&mut self, option: OptionCode, why: &str) -> ServerEvent {
        self.refuse(option, OptionReplyType::Invalid, why);
        ServerEvent::Continue
    }

    fn refuse(&mut self, option: OptionCode, kind: OptionReplyType, why: &str) {
        // Clients ask for what they can do without as well; those refusals explain nothing.
        if let OptionReplyType::TlsRequired | OptionReplyType::Policy | OptionReplyType::Unknown = kind {
            self.turned_away = Some(TurnedAway {
                option,
                why: why.to_owned(),
            });
        }
        self.reply(option, kind, &[text::truncate(why, MAX_STRING).as_bytes()]);
    }

    fn reply(&mut self, option: OptionCode, kind: OptionReplyType, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let payload = PayloadLength(u32::try_from(length).unwrap_or(u32::MAX));
        self.output.extend(
            OptionReplyHeader {
                option,
                kind,
                payload,
            }
            .encode(),
        );
        for part in parts {
            self.output.extend_from_slice(part);
        }
    }
}

/// Name and list of info types of an INFO or GO option; `None` unless they fill the option exactly.
fn parse_info_request(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut cursor = Cursor::new(payload);
    let name_length = cursor.u32()?;
    let name = cursor.bytes(name_length)?;
    let count = cursor.u16()?;
    let infos = cursor.bytes(u32::from(count) * 2)?;
    cursor.is_empty().then_some((name, infos))
}
