//! Replies, as a server puts them on the stream.

use crate::facts::ReplyMode;
use crate::text;
use crate::wire::{
    ArrayWriter, ChunkFlags, ChunkHeader, ChunkType, Cookie, ErrorNumber, PayloadLength, SimpleReplyHeader,
};

/// Longest head: a chunk header and an offset.
const HEAD_SIZE: usize = ChunkHeader::SIZE + 8;

/// Error texts are for a line of a log.
const ERROR_TEXT: usize = 256;

/// What comes before a reply's body: the bytes of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyHead {
    bytes: [u8; HEAD_SIZE],
    length: usize,
}

impl ReplyHead {
    /// A success without data: the answer to everything but a read.
    #[must_use]
    pub fn done(cookie: Cookie) -> Self {
        // The protocol lets a server answer anything but a read in the simple form, always; it is shorter.
        Self::from_parts(&SimpleReplyHeader { error: None, cookie }.encode(), &[])
    }

    /// A read's success; `length` bytes from `offset` on follow as the body.
    #[must_use]
    pub fn data(mode: ReplyMode, cookie: Cookie, offset: u64, length: u32) -> Self {
        let chunk = |kind, payload| {
            ChunkHeader {
                flags: ChunkFlags::DONE,
                kind,
                cookie,
                payload: PayloadLength(payload),
            }
            .encode()
        };
        match mode {
            ReplyMode::Simple => Self::done(cookie),
            // A data chunk must not be empty.
            ReplyMode::Structured if length == 0 => Self::from_parts(&chunk(ChunkType::None, 0), &[]),
            ReplyMode::Structured => Self::from_parts(
                &chunk(ChunkType::OffsetData, length.saturating_add(8)),
                &offset.to_be_bytes(),
            ),
        }
    }

    /// The bytes to send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn from_parts(first: &[u8], second: &[u8]) -> Self {
        debug_assert!(
            first.len() + second.len() <= HEAD_SIZE,
            "a reply head outgrew its array"
        );
        let mut bytes = [0; HEAD_SIZE];
        for (to, from) in bytes.iter_mut().zip(first.iter().chain(second)) {
            *to = *from;
        }
        ReplyHead {
            bytes,
            length: (first.len() + second.len()).min(HEAD_SIZE),
        }
    }
}

/// A failure: a head, and the text that follows it as the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    /// The header's bytes.
    pub head: ReplyHead,
    /// The body; empty where the mode has no room for words.
    pub text: String,
}

impl ErrorReply {
    /// A failure of the request `cookie`.
    #[must_use]
    pub fn new(mode: ReplyMode, cookie: Cookie, error: ErrorNumber, why: &str) -> Self {
        match mode {
            ReplyMode::Simple => ErrorReply {
                head: ReplyHead::from_parts(
                    &SimpleReplyHeader {
                        error: Some(error),
                        cookie,
                    }
                    .encode(),
                    &[],
                ),
                text: String::new(),
            },
            ReplyMode::Structured => {
                let text = text::truncate(why, ERROR_TEXT).to_owned();
                let length = u16::try_from(text.len()).unwrap_or_default();
                let header = ChunkHeader {
                    flags: ChunkFlags::DONE,
                    kind: ChunkType::Error,
                    cookie,
                    payload: PayloadLength(u32::from(length) + 6),
                };
                let number: [u8; 6] = ArrayWriter::new().u32(error.into()).u16(length).finish();
                ErrorReply {
                    head: ReplyHead::from_parts(&header.encode(), &number),
                    text,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_announced_with_its_offset_in_structured_mode() {
        let head = ReplyHead::data(ReplyMode::Structured, Cookie(7), 0x1234, 512);
        let header = ChunkHeader::decode(head.as_bytes().first_chunk().unwrap()).unwrap();
        assert_eq!(
            (header.kind, header.payload),
            (ChunkType::OffsetData, PayloadLength(520))
        );
        assert_eq!(head.as_bytes()[20..], 0x1234_u64.to_be_bytes());
        let head = ReplyHead::data(ReplyMode::Structured, Cookie(7), 0x1234, 0);
        assert_eq!(
            head.as_bytes().len(),
            ChunkHeader::SIZE,
            "an empty read ends with an empty chunk"
        );
        assert_eq!(
            ReplyHead::data(ReplyMode::Simple, Cookie(7), 0x1234, 512)
                .as_bytes()
                .len(),
            16
        );
    }

    #[test]
    fn an_error_says_its_length() {
        for text in ["", "disk on fire", &"ä".repeat(4000)] {
            let reply = ErrorReply::new(ReplyMode::Structured, Cookie(1), ErrorNumber::Io, text);
            let bytes = reply.head.as_bytes();
            let header = ChunkHeader::decode(bytes.first_chunk().unwrap()).unwrap();
            assert_eq!(header.payload.0 as usize, 6 + reply.text.len());
            assert_eq!(
                usize::from(u16::from_be_bytes([bytes[24], bytes[25]])),
                reply.text.len()
            );
            let simple = ErrorReply::new(ReplyMode::Simple, Cookie(1), ErrorNumber::Io, text);
            assert_eq!((simple.head.as_bytes().len(), simple.text.len()), (16, 0));
        }
    }
}
