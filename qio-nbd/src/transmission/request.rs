//! Requests, as a server takes them off the stream.

use crate::cause::from_cause;
use crate::facts::ReplyMode;
use crate::limits::MAX_PAYLOAD;
use crate::wire::{BadMagic, Command, CommandFlags, Cookie, ErrorNumber, RequestHeader, TransmissionFlags};

/// What was agreed about the export; requests are judged against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportFacts {
    /// Size in bytes.
    pub size: u64,
    /// The flags the client was told.
    pub flags: TransmissionFlags,
    /// How replies look.
    pub replies: ReplyMode,
}

/// A request that fits the export: in range, with flags that mean something for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Send `length` bytes from `offset` on.
    Read {
        /// First byte.
        offset: u64,
        /// Bytes, at most 32 MiB.
        length: u32,
    },
    /// Store the payload of `length` bytes, which follows.
    Write {
        /// First byte.
        offset: u64,
        /// Bytes, at most 32 MiB.
        length: u32,
        /// Reply only once it is durable.
        fua: bool,
    },
    /// Make all completed writes durable.
    Flush,
    /// The range is not needed any more.
    Trim {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Reply only once it is durable.
        fua: bool,
    },
    /// The range must read as zeroes.
    WriteZeroes {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Reply only once it is durable.
        fua: bool,
        /// Allocate, instead of making a hole.
        no_hole: bool,
    },
}

impl Request {
    /// How many bytes of memory working on this request takes.
    #[must_use]
    pub fn buffer_size(&self) -> usize {
        match self {
            Request::Read { length, .. } | Request::Write { length, .. } => {
                usize::try_from(*length).unwrap_or(usize::MAX)
            }
            Request::Flush | Request::Trim { .. } | Request::WriteZeroes { .. } => 0,
        }
    }
}

/// What the driver has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum RequestEvent {
    /// All input is used up: read and feed more.
    NeedInput,
    /// Serve this. For a write, the payload comes next: see [`RequestParser::payload_missing`].
    Request {
        /// To be named by the reply.
        cookie: Cookie,
        /// What to do.
        request: Request,
    },
    /// The bytes just consumed are payload of the last write.
    Payload,
    /// Answer this error; its payload has been read past.
    Refused {
        /// To be named by the reply.
        cookie: Cookie,
        /// The number.
        error: ErrorNumber,
        /// The reason in words.
        why: &'static str,
    },
    /// `NBD_CMD_DISC`: finish what is in flight, then close. Nothing more is to be fed.
    Disconnect,
}

/// The stream of requests cannot be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestStreamError {
    /// Out of step.
    #[error("the client broke the protocol: {0}")]
    BadMagic(BadMagic),
    /// The payload is not worth reading past. Answer `error` before closing, if possible.
    #[error("the client announced a write of {length} bytes, above the limit of {MAX_PAYLOAD}")]
    WriteTooLong {
        /// To be named by the reply.
        cookie: Cookie,
        /// Bytes announced.
        length: u32,
    },
}

from_cause!(RequestStreamError::BadMagic(BadMagic));

#[derive(Debug, Clone, Copy)]
enum State {
    Header,
    Payload {
        missing: u32,
    },
    Drain {
        missing: u32,
        cookie: Cookie,
        error: ErrorNumber,
        why: &'static str,
    },
}

/// Takes requests off a stream.
#[derive(Debug)]
pub struct RequestParser {
    facts: ExportFacts,
    state: State,
    header: [u8; RequestHeader::SIZE],
    gathered: usize,
}

/// What to do about a request that does not fit, and in which words to say so.
struct Refusal(ErrorNumber, &'static str);

impl RequestParser {
    /// A parser at the start of the transmission phase.
    #[must_use]
    pub fn new(facts: ExportFacts) -> Self {
        RequestParser {
            facts,
            state: State::Header,
            header: [0; RequestHeader::SIZE],
            gathered: 0,
        }
    }

    /// Eats input up to the next event. Gives how many bytes were used, and what to do next.
    ///
    /// # Errors
    /// When the stream cannot be followed any further. Only closing is left then.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, RequestEvent), RequestStreamError> {
        match self.state {
            State::Header => {
                let room = self.header.get_mut(self.gathered..).unwrap_or_default();
                let used = room.len().min(input.len());
                for (to, from) in room.iter_mut().zip(input) {
                    *to = *from;
                }
                self.gathered = self.gathered.saturating_add(used);
                if self.gathered < RequestHeader::SIZE {
                    return Ok((used, RequestEvent::NeedInput));
                }
                self.gathered = 0;
                let header = RequestHeader::decode(&self.header)?;
                Ok((used, self.judge(&header)?))
            }
            State::Payload { missing } => {
                let used = missing.min(u32::try_from(input.len()).unwrap_or(u32::MAX));
                if used == 0 {
                    return Ok((0, RequestEvent::NeedInput));
                }
                self.payload_received(used);
                Ok((usize::try_from(used).unwrap_or(usize::MAX), RequestEvent::Payload))
            }
            State::Drain {
                missing,
                cookie,
                error,
                why,
            } => {
                let used = missing.min(u32::try_from(input.len()).unwrap_or(u32::MAX));
                let missing = missing.saturating_sub(used);
                let event = if missing == 0 {
                    self.state = State::Header;
                    RequestEvent::Refused { cookie, error, why }
                } else {
                    self.state = State::Drain {
                        missing,
                        cookie,
                        error,
                        why,
                    };
                    RequestEvent::NeedInput
                };
                Ok((usize::try_from(used).unwrap_or(usize::MAX), event))
            }
        }
    }

    /// How many bytes of the last write's payload are still to come.
    #[must_use]
    pub fn payload_missing(&self) -> u32 {
        match self.state {
            State::Payload { missing } => missing,
            _ => 0,
        }
    }

    /// Tells the parser that `bytes` of payload were read directly into their place, past [`feed`](Self::feed).
    pub fn payload_received(&mut self, bytes: u32) {
        if let State::Payload { missing } = self.state {
            self.state = match missing.saturating_sub(bytes) {
                0 => State::Header,
                missing => State::Payload { missing },
            };
        }
    }

    fn judge(&mut self, header: &RequestHeader) -> Result<RequestEvent, RequestStreamError> {
        let cookie = header.cookie;
        if header.command == Command::Disconnect {
            return Ok(RequestEvent::Disconnect);
        }
        let payload = header.payload().0;
        if payload > MAX_PAYLOAD {
            return Err(RequestStreamError::WriteTooLong {
                cookie,
                length: payload,
            });
        }
        match self.check(header) {
            Ok(request) => {
                if payload > 0 {
                    self.state = State::Payload { missing: payload };
                }
                Ok(RequestEvent::Request { cookie, request })
            }
            Err(Refusal(error, why)) if payload > 0 => {
                self.state = State::Drain {
                    missing: payload,
                    cookie,
                    error,
                    why,
                };
                Ok(RequestEvent::NeedInput)
            }
            Err(Refusal(error, why)) => Ok(RequestEvent::Refused { cookie, error, why }),
        }
    }

    fn check(&self, header: &RequestHeader) -> Result<Request, Refusal> {
        let offered = self.facts.flags;
        let (offset, length) = (header.offset, header.effect().0);
        let (allowed, needed) = match header.command {
            Command::Read => (CommandFlags::DF | CommandFlags::FUA, TransmissionFlags::HAS_FLAGS),
            Command::Write => (CommandFlags::FUA, TransmissionFlags::HAS_FLAGS),
            Command::Flush => (CommandFlags::FUA, TransmissionFlags::SEND_FLUSH),
            Command::Trim => (CommandFlags::FUA, TransmissionFlags::SEND_TRIM),
            Command::WriteZeroes => (
                CommandFlags::FUA | CommandFlags::NO_HOLE,
                TransmissionFlags::SEND_WRITE_ZEROES,
            ),
            _ => {
                return Err(Refusal(
                    ErrorNumber::Invalid,
                    "this server does not know the command",
                ));
            }
        };
        let modifies = matches!(
            header.command,
            Command::Write | Command::Trim | Command::WriteZeroes
        );
        if modifies && offered.contains(TransmissionFlags::READ_ONLY) {
            return Err(Refusal(ErrorNumber::NotPermitted, "the export is read-only"));
        }
        if !offered.contains(needed) {
            return Err(Refusal(
                ErrorNumber::Invalid,
                "this export does not offer the command",
            ));
        }
        if !allowed.contains(header.flags) {
            return Err(Refusal(
                ErrorNumber::Invalid,
                "the command cannot have these flags",
            ));
        }
        if header.flags.contains(CommandFlags::FUA) && !offered.contains(TransmissionFlags::SEND_FUA) {
            return Err(Refusal(ErrorNumber::Invalid, "this export does not offer FUA"));
        }
        if header.flags.contains(CommandFlags::DF) && !offered.contains(TransmissionFlags::SEND_DF) {
            return Err(Refusal(ErrorNumber::Invalid, "DF needs structured replies"));
        }
        if header.command == Command::Flush {
            return if (offset, length) == (0, 0) {
                Ok(Request::Flush)
            } else {
                Err(Refusal(
                    ErrorNumber::Invalid,
                    "a flush has neither offset nor length",
                ))
            };
        }
        if header.command == Command::Read && header.length > MAX_PAYLOAD {
            return Err(Refusal(
                ErrorNumber::Overflow,
                "at most 32 MiB can be read at once",
            ));
        }
        if offset.checked_add(length).is_none_or(|end| end > self.facts.size) {
            let error = match header.command {
                Command::Write | Command::WriteZeroes => ErrorNumber::NoSpace,
                _ => ErrorNumber::Invalid,
            };
            return Err(Refusal(error, "the request goes past the end of the export"));
        }
        let fua = header.flags.contains(CommandFlags::FUA);
        Ok(match header.command {
            Command::Write => Request::Write {
                offset,
                length: header.length,
                fua,
            },
            Command::Trim => Request::Trim { offset, length, fua },
            Command::WriteZeroes => {
                let no_hole = header.flags.contains(CommandFlags::NO_HOLE);
                Request::WriteZeroes {
                    offset,
                    length,
                    fua,
                    no_hole,
                }
            }
            _ => Request::Read {
                offset,
                length: header.length,
            },
        })
    }
}
