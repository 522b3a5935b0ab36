//! Replies, as a client takes them off the stream.

use std::collections::HashMap;
use std::ops::Range;

use crate::cause::from_cause;
use crate::facts::ReplyMode;
use crate::limits::{MAX_PAYLOAD, MAX_READ_FRAGMENTS};
use crate::text;
use crate::wire::{
    BadMagic, CHUNK_MAGIC, ChunkFlags, ChunkHeader, ChunkType, Cookie, Cursor, ErrorNumber,
    SIMPLE_REPLY_MAGIC, SimpleReplyHeader,
};

use super::coverage::{Coverage, CoverageError};

/// What a client asked for, as far as it matters for the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// `length` bytes from `offset` on.
    Read {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u32,
    },
    /// Anything that is answered without data.
    Other,
}

/// What the driver has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum ReplyEvent {
    /// All input is used up: read and feed more.
    NeedInput,
    /// The next bytes of the stream belong at `range` of this read's buffer. Put them there and tell
    /// [`ReplyParser::data_received`]; only then feed what follows.
    Data {
        /// The read.
        cookie: Cookie,
        /// Where in its buffer.
        range: Range<usize>,
    },
    /// This range of this read's buffer is zero.
    Zeroes {
        /// The read.
        cookie: Cookie,
        /// Where in its buffer.
        range: Range<usize>,
    },
    /// A request succeeded. A read's buffer is filled to its last byte.
    Done {
        /// The request.
        cookie: Cookie,
    },
    /// A request failed. A read's buffer must not be looked at.
    Failed {
        /// The request.
        cookie: Cookie,
        /// The number.
        error: ErrorNumber,
        /// The server's words, safe to print; may be empty.
        text: String,
    },
}

/// The server broke the protocol; the connection is of no more use, and every pending request has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Out of step.
    #[error("the server broke the protocol: {0}")]
    BadMagic(BadMagic),
    /// A structured reply that was never agreed on, or a simple reply to a read where it was.
    #[error("the server broke the protocol: it sent {0}")]
    WrongForm(&'static str),
    /// A reply to nothing.
    #[error("the server answered request {:#x}, which was never sent or has been answered already", .0.0)]
    UnknownCookie(Cookie),
    /// A chunk that is longer or shorter than its kind allows.
    #[error("the server broke the protocol: a chunk of {length} bytes and kind {kind:?} is {what}")]
    Chunk {
        /// The kind.
        kind: ChunkType,
        /// Bytes announced.
        length: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// Data outside the read.
    #[error("the server sent data for offset {offset} + {length}, which is not inside the read")]
    OutOfRange {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// The same byte twice.
    #[error("the server sent a byte of a read twice")]
    Overlap,
    /// More pieces than anything needs.
    #[error("the server sent a read in too many pieces")]
    TooManyPieces,
    /// Chunk after chunk, and no end.
    #[error("the server answered one request with more than {limit} chunks")]
    TooManyChunks {
        /// How many there may be.
        limit: usize,
    },
    /// Not every byte.
    #[error("the server ended a read without having sent all of it")]
    Incomplete,
}

from_cause!(ReplyError::BadMagic(BadMagic));

/// Longest payload of a chunk that does not carry data.
const MAX_OTHER_CHUNK: u32 = 64 << 10;

/// The smallest extent of a disk that servers know. One that sends each as a chunk of its own means no harm.
const SMALLEST_EXTENT: u32 = 512;

#[derive(Debug)]
struct Pending {
    asked: Asked,
    coverage: Coverage,
    /// Chunks so far. Those that carry no data would otherwise never come to an end.
    chunks: usize,
    /// The first error that a chunk reported; the reply goes on until its last chunk.
    failure: Option<(ErrorNumber, String)>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The first four bytes tell what kind of header it is.
    Magic,
    Simple,
    Chunk,
    /// The fixed part before the data, or all of a payload that carries no data.
    Body(ChunkHeader),
    /// Data that the driver puts in place.
    Data {
        cookie: Cookie,
        missing: usize,
        last: bool,
    },
    /// A reply that is complete but for telling so.
    Finish {
        cookie: Cookie,
    },
}

/// Takes replies off a stream and finds the requests they belong to.
///
/// Each byte of a read is written exactly once, or the connection ends: what was not sent is never shown,
/// and a chunk that repeats a byte cannot hide that another is missing.
#[derive(Debug)]
pub struct ReplyParser {
    mode: ReplyMode,
    pending: HashMap<Cookie, Pending>,
    next_cookie: u64,
    state: State,
    gathered: Vec<u8>,
}

impl ReplyParser {
    /// A parser at the start of the transmission phase.
    #[must_use]
    pub fn new(mode: ReplyMode) -> Self {
        ReplyParser {
            mode,
            pending: HashMap::new(),
            next_cookie: 1,
            state: State::Magic,
            gathered: Vec::new(),
        }
    }

    /// Expects a reply; the cookie goes into the request.
    #[must_use]
    pub fn expect(&mut self, asked: Asked) -> Cookie {
        let cookie = Cookie(self.next_cookie);
        self.next_cookie = self.next_cookie.wrapping_add(1);
        self.pending.insert(
            cookie,
            Pending {
                asked,
                coverage: Coverage::default(),
                chunks: 0,
                failure: None,
            },
        );
        cookie
    }

    /// How many requests wait for a reply.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// How many bytes of data are to be put in place before anything else is fed; see [`ReplyEvent::Data`].
    #[must_use]
    pub fn data_missing(&self) -> usize {
        match self.state {
            State::Data { missing, .. } => missing,
            _ => 0,
        }
    }

    /// Tells the parser that the driver has put `bytes` of data in their place.
    pub fn data_received(&mut self, bytes: usize) {
        if let State::Data {
            cookie,
            missing,
            last,
        } = self.state
        {
            self.state = match missing.saturating_sub(bytes) {
                0 if last => State::Finish { cookie },
                0 => State::Magic,
                missing => State::Data {
                    cookie,
                    missing,
                    last,
                },
            };
        }
    }

    /// Eats input up to the next event. Gives how many bytes were used, and what to do next.
    ///
    /// # Errors
    /// When the server breaks the protocol. Only closing is left then.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, ReplyEvent), ReplyError> {
        let mut rest = input;
        let event = loop {
            if let Some(event) = self.step(&mut rest)? {
                break event;
            }
        };
        Ok((input.len().saturating_sub(rest.len()), event))
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Option<ReplyEvent>, ReplyError> {
        match self.state {
            State::Magic => {
                if !self.gather(input, 4) {
                    return Ok(Some(ReplyEvent::NeedInput));
                }
                self.state = match (Cursor::new(&self.gathered).u32(), self.mode) {
                    (Some(SIMPLE_REPLY_MAGIC), _) => State::Simple,
                    (Some(CHUNK_MAGIC), ReplyMode::Structured) => State::Chunk,
                    (Some(CHUNK_MAGIC), ReplyMode::Simple) => {
                        return Err(ReplyError::WrongForm(
                            "a structured reply, which was not agreed on",
                        ));
                    }
                    (found, _) => {
                        let found = found.unwrap_or_default().into();
                        return Err(BadMagic {
                            expected: "a reply",
                            found,
                        }
                        .into());
                    }
                };
                Ok(None)
            }
            State::Simple => {
                if !self.gather(input, SimpleReplyHeader::SIZE) {
                    return Ok(Some(ReplyEvent::NeedInput));
                }
                let gathered = std::mem::take(&mut self.gathered);
                let Some(bytes) = gathered.first_chunk() else {
                    return Ok(None);
                };
                self.simple(SimpleReplyHeader::decode(bytes)?).map(Some)
            }
            State::Chunk => {
                if !self.gather(input, ChunkHeader::SIZE) {
                    return Ok(Some(ReplyEvent::NeedInput));
                }
                let gathered = std::mem::take(&mut self.gathered);
                let Some(bytes) = gathered.first_chunk() else {
                    return Ok(None);
                };
                let header = ChunkHeader::decode(bytes)?;
                self.check_chunk(&header)?;
                self.state = State::Body(header);
                Ok(None)
            }
            State::Body(header) => {
                let wanted = match header.kind {
                    ChunkType::OffsetData => 8,
                    _ => usize::try_from(header.payload.0).unwrap_or(usize::MAX),
                };
                if !self.gather(input, wanted) {
                    return Ok(Some(ReplyEvent::NeedInput));
                }
                let body = std::mem::take(&mut self.gathered);
                self.chunk(&header, &body)
            }
            State::Data { .. } => Ok(Some(ReplyEvent::NeedInput)),
            State::Finish { cookie } => self.finish(cookie).map(Some),
        }
    }

    /// Takes bytes off `input` until `length` are gathered; says whether they are.
    fn gather(&mut self, input: &mut &[u8], length: usize) -> bool {
        let missing = length.saturating_sub(self.gathered.len());
        let (head, rest) = input.split_at_checked(missing).unwrap_or((*input, &[]));
        self.gathered.extend_from_slice(head);
        *input = rest;
        self.gathered.len() >= length
    }

    fn simple(&mut self, header: SimpleReplyHeader) -> Result<ReplyEvent, ReplyError> {
        let cookie = header.cookie;
        let pending = self
            .pending
            .get_mut(&cookie)
            .ok_or(ReplyError::UnknownCookie(cookie))?;
        if let Some(error) = header.error {
            // Some servers report failures this way even where structured replies were agreed on.
            self.pending.remove(&cookie);
            self.state = State::Magic;
            return Ok(ReplyEvent::Failed {
                cookie,
                error,
                text: String::new(),
            });
        }
        match pending.asked {
            Asked::Read { .. } if self.mode == ReplyMode::Structured => Err(ReplyError::WrongForm(
                "a read's data in a simple reply, where structured ones were agreed on",
            )),
            Asked::Read { length, .. } if length > 0 => {
                let range = 0..usize::try_from(length).unwrap_or(usize::MAX);
                pending.coverage.add(range.clone()).map_err(ReplyError::from)?;
                self.state = State::Data {
                    cookie,
                    missing: range.len(),
                    last: true,
                };
                Ok(ReplyEvent::Data { cookie, range })
            }
            _ => self.finish(cookie),
        }
    }

    /// Judges a chunk by its header, before anything of it is kept.
    fn check_chunk(&mut self, header: &ChunkHeader) -> Result<(), ReplyError> {
        let ChunkHeader {
            kind,
            cookie,
            payload,
            ..
        } = *header;
        let length = payload.0;
        let bad = |what| Err(ReplyError::Chunk { kind, length, what });
        let pending = self
            .pending
            .get_mut(&cookie)
            .ok_or(ReplyError::UnknownCookie(cookie))?;
        pending.count_chunk()?;
        let is_read = matches!(pending.asked, Asked::Read { .. });
        match kind {
            ChunkType::None if length != 0 => bad("not empty"),
            ChunkType::None if !header.flags.contains(ChunkFlags::DONE) => bad("not the last one"),
            ChunkType::OffsetData | ChunkType::OffsetHole if !is_read => {
                bad("an answer to a request that is no read")
            }
            ChunkType::OffsetData if length <= 8 => bad("without data"),
            ChunkType::OffsetData if length > MAX_PAYLOAD + 8 => bad("above the limit"),
            ChunkType::OffsetHole if length != 12 => bad("malformed"),
            kind if kind.is_error() && length < 6 => bad("too short for an error"),
            kind if kind.is_error() && length > MAX_OTHER_CHUNK => bad("above the limit"),
            ChunkType::None | ChunkType::OffsetData | ChunkType::OffsetHole => Ok(()),
            kind if kind.is_error() => Ok(()),
            _ => bad("of a kind that was not asked for"),
        }
    }

    fn chunk(&mut self, header: &ChunkHeader, body: &[u8]) -> Result<Option<ReplyEvent>, ReplyError> {
        let ChunkHeader {
            kind,
            cookie,
            payload,
            ..
        } = *header;
        let last = header.flags.contains(ChunkFlags::DONE);
        let pending = self
            .pending
            .get_mut(&cookie)
            .ok_or(ReplyError::UnknownCookie(cookie))?;
        self.state = if last {
            State::Finish { cookie }
        } else {
            State::Magic
        };
        let mut cursor = Cursor::new(body);
        match kind {
            ChunkType::OffsetData => {
                let offset = cursor.u64().unwrap_or_default();
                let length = u64::from(payload.0.saturating_sub(8));
                let range = pending.place(offset, length)?;
                self.state = State::Data {
                    cookie,
                    missing: range.len(),
                    last,
                };
                Ok(Some(ReplyEvent::Data { cookie, range }))
            }
            ChunkType::OffsetHole => {
                let (offset, length) = (cursor.u64().unwrap_or_default(), cursor.u32().unwrap_or_default());
                if length == 0 {
                    return Err(ReplyError::Chunk {
                        kind,
                        length: payload.0,
                        what: "an empty hole",
                    });
                }
                let range = pending.place(offset, length.into())?;
                Ok(Some(ReplyEvent::Zeroes { cookie, range }))
            }
            kind if kind.is_error() => {
                let bad = |what| ReplyError::Chunk {
                    kind,
                    length: payload.0,
                    what,
                };
                let number = cursor
                    .u32()
                    .filter(|number| *number != 0)
                    .ok_or(bad("an error without a number"))?;
                let length = cursor.u16().unwrap_or_default();
                let words = cursor.bytes(length.into()).ok_or(bad("shorter than its text"))?;
                let fits = match kind {
                    ChunkType::Error => cursor.is_empty(),
                    ChunkType::ErrorOffset => cursor.rest().len() == 8,
                    _ => true,
                };
                if !fits {
                    return Err(bad("longer than its text"));
                }
                pending
                    .failure
                    .get_or_insert_with(|| (number.into(), text::peer_text(words)));
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn finish(&mut self, cookie: Cookie) -> Result<ReplyEvent, ReplyError> {
        self.state = State::Magic;
        let pending = self
            .pending
            .remove(&cookie)
            .ok_or(ReplyError::UnknownCookie(cookie))?;
        if let Some((error, text)) = pending.failure {
            return Ok(ReplyEvent::Failed { cookie, error, text });
        }
        match pending.asked {
            Asked::Read { length, .. }
                if !pending
                    .coverage
                    .is_complete(usize::try_from(length).unwrap_or(usize::MAX)) =>
            {
                Err(ReplyError::Incomplete)
            }
            _ => Ok(ReplyEvent::Done { cookie }),
        }
    }
}

impl Pending {
    fn count_chunk(&mut self) -> Result<(), ReplyError> {
        let extents = match self.asked {
            Asked::Read { length, .. } => usize::try_from(length / SMALLEST_EXTENT).unwrap_or(usize::MAX),
            Asked::Other => 0,
        };
        let limit = MAX_READ_FRAGMENTS.saturating_add(extents);
        self.chunks = self.chunks.saturating_add(1);
        if self.chunks > limit {
            Err(ReplyError::TooManyChunks { limit })
        } else {
            Ok(())
        }
    }

    /// Where in the read's buffer the bytes from `offset` on belong, if they do and were not sent before.
    fn place(&mut self, offset: u64, length: u64) -> Result<Range<usize>, ReplyError> {
        let outside = ReplyError::OutOfRange { offset, length };
        let Asked::Read {
            offset: first,
            length: asked,
        } = self.asked
        else {
            return Err(outside);
        };
        let start = offset.checked_sub(first);
        let end = start
            .and_then(|start| start.checked_add(length))
            .filter(|end| *end <= u64::from(asked));
        let (Some(Ok(start)), Some(Ok(end))) = (start.map(usize::try_from), end.map(usize::try_from)) else {
            return Err(outside);
        };
        self.coverage.add(start..end)?;
        Ok(start..end)
    }
}

impl From<CoverageError> for ReplyError {
    fn from(error: CoverageError) -> Self {
        match error {
            CoverageError::Overlap => ReplyError::Overlap,
            CoverageError::TooManyPieces => ReplyError::TooManyPieces,
        }
    }
}
