//! Fixed-size headers.

use std::fmt;

use super::{
    ArrayWriter, CHUNK_MAGIC, ChunkFlags, ChunkType, Command, CommandFlags, Cursor, ErrorNumber,
    OPTION_MAGIC, OPTION_REPLY_MAGIC, OptionCode, OptionReplyType, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC,
};

/// Names a request; its reply carries the same number. Chosen by the client, opaque to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cookie(pub u64);

/// How many bytes follow a header on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PayloadLength(pub u32);

/// How many bytes of an export an operation affects. Never a number of bytes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EffectLength(pub u64);

/// A header did not start as it must: the stream is out of step, or the peer does not speak NBD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadMagic {
    /// What kind of header was expected.
    pub expected: &'static str,
    /// The number found instead.
    pub found: u64,
}

impl fmt::Display for BadMagic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot start with {:#x}", self.expected, self.found)
    }
}

impl std::error::Error for BadMagic {}

/// The fields of a header of exactly `$size` bytes are always there: the array's length proves it. The
/// fallback only spares the code a panic.
macro_rules! field {
    ($cursor:ident . $kind:ident) => {
        $cursor.$kind().unwrap_or_default()
    };
}

/// The start of an option request, 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionHeader {
    /// What is asked for.
    pub option: OptionCode,
    /// How many bytes follow.
    pub payload: PayloadLength,
}

impl OptionHeader {
    /// Size on the wire in bytes.
    pub const SIZE: usize = 16;

    /// Encodes for the wire.
    #[must_use]
    pub fn encode(self) -> [u8; Self::SIZE] {
        ArrayWriter::new()
            .u64(OPTION_MAGIC)
            .u32(self.option.into())
            .u32(self.payload.0)
            .finish()
    }

    /// Decodes from the wire.
    ///
    /// # Errors
    /// When it does not start with `IHAVEOPT`.
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Result<Self, BadMagic> {
        let mut cursor = Cursor::new(bytes);
        match field!(cursor.u64) {
            OPTION_MAGIC => Ok(OptionHeader {
                option: field!(cursor.u32).into(),
                payload: PayloadLength(field!(cursor.u32)),
            }),
            found => Err(BadMagic {
                expected: "an option request",
                found,
            }),
        }
    }
}

/// The start of an option reply, 20 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionReplyHeader {
    /// The option that is answered.
    pub option: OptionCode,
    /// The kind of answer.
    pub kind: OptionReplyType,
    /// How many bytes follow.
    pub payload: PayloadLength,
}

impl OptionReplyHeader {
    /// Size on the wire in bytes.
    pub const SIZE: usize = 20;

    /// Encodes for the wire.
    #[must_use]
    pub fn encode(self) -> [u8; Self::SIZE] {
        ArrayWriter::new()
            .u64(OPTION_REPLY_MAGIC)
            .u32(self.option.into())
            .u32(self.kind.into())
            .u32(self.payload.0)
            .finish()
    }

    /// Decodes from the wire.
    ///
    /// # Errors
    /// When the magic number is wrong.
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Result<Self, BadMagic> {
        let mut cursor = Cursor::new(bytes);
        match field!(cursor.u64) {
            OPTION_REPLY_MAGIC => Ok(OptionReplyHeader {
                option: field!(cursor.u32).into(),
                kind: field!(cursor.u32).into(),
                payload: PayloadLength(field!(cursor.u32)),
            }),
            found => Err(BadMagic {
                expected: "an option reply",
                found,
            }),
        }
    }
}

/// A request of the transmission phase, 28 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader {
    /// Modifiers; bits without a name are kept.
    pub flags: CommandFlags,
    /// What to do.
    pub command: Command,
    /// Named again by the reply.
    pub cookie: Cookie,
    /// First byte affected.
    pub offset: u64,
    /// The length field as it is on the wire; what it counts depends on the command, so ask
    /// [`payload`](Self::payload) or [`effect`](Self::effect).
    pub length: u32,
}

impl RequestHeader {
    /// Size on the wire in bytes.
    pub const SIZE: usize = 28;

    /// How many bytes follow this header on the wire.
    #[must_use]
    pub fn payload(&self) -> PayloadLength {
        PayloadLength(if self.command == Command::Write {
            self.length
        } else {
            0
        })
    }

    /// How many bytes of the export this request affects.
    #[must_use]
    pub fn effect(&self) -> EffectLength {
        EffectLength(self.length.into())
    }

    /// Encodes for the wire.
    #[must_use]
    pub fn encode(self) -> [u8; Self::SIZE] {
        ArrayWriter::new()
            .u32(REQUEST_MAGIC)
            .u16(self.flags.bits())
            .u16(self.command.into())
            .u64(self.cookie.0)
            .u64(self.offset)
            .u32(self.length)
            .finish()
    }

    /// Decodes from the wire.
    ///
    /// # Errors
    /// When the magic number is wrong.
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Result<Self, BadMagic> {
        let mut cursor = Cursor::new(bytes);
        match field!(cursor.u32) {
            REQUEST_MAGIC => Ok(RequestHeader {
                flags: CommandFlags::from_bits_retain(field!(cursor.u16)),
                command: field!(cursor.u16).into(),
                cookie: Cookie(field!(cursor.u64)),
                offset: field!(cursor.u64),
                length: field!(cursor.u32),
            }),
            found => Err(BadMagic {
                expected: "a request",
                found: found.into(),
            }),
        }
    }
}

/// A simple reply, 16 bytes; a successful read's data follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimpleReplyHeader {
    /// `None` is success.
    pub error: Option<ErrorNumber>,
    /// The request that is answered.
    pub cookie: Cookie,
}

impl SimpleReplyHeader {
    /// Size on the wire in bytes.
    pub const SIZE: usize = 16;

    /// Encodes for the wire.
    #[must_use]
    pub fn encode(self) -> [u8; Self::SIZE] {
        ArrayWriter::new()
            .u32(SIMPLE_REPLY_MAGIC)
            .u32(self.error.map_or(0, u32::from))
            .u64(self.cookie.0)
            .finish()
    }

    /// Decodes from the wire.
    ///
    /// # Errors
    /// When the magic number is wrong.
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Result<Self, BadMagic> {
        let mut cursor = Cursor::new(bytes);
        match field!(cursor.u32) {
            SIMPLE_REPLY_MAGIC => {
                let error = field!(cursor.u32);
                Ok(SimpleReplyHeader {
                    error: (error != 0).then(|| error.into()),
                    cookie: Cookie(field!(cursor.u64)),
                })
            }
            found => Err(BadMagic {
                expected: "a simple reply",
                found: found.into(),
            }),
        }
    }
}

/// The start of a structured reply chunk, 20 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Whether this is the last chunk; bits without a name are kept.
    pub flags: ChunkFlags,
    /// What follows.
    pub kind: ChunkType,
    /// The request that is answered.
    pub cookie: Cookie,
    /// How many bytes follow.
    pub payload: PayloadLength,
}

impl ChunkHeader {
    /// Size on the wire in bytes.
    pub const SIZE: usize = 20;

    /// Encodes for the wire.
    #[must_use]
    pub fn encode(self) -> [u8; Self::SIZE] {
        ArrayWriter::new()
            .u32(CHUNK_MAGIC)
            .u16(self.flags.bits())
            .u16(self.kind.into())
            .u64(self.cookie.0)
            .u32(self.payload.0)
            .finish()
    }

    /// Decodes from the wire.
    ///
    /// # Errors
    /// When the magic number is wrong.
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Result<Self, BadMagic> {
        let mut cursor = Cursor::new(bytes);
        match field!(cursor.u32) {
            CHUNK_MAGIC => Ok(ChunkHeader {
                flags: ChunkFlags::from_bits_retain(field!(cursor.u16)),
                kind: field!(cursor.u16).into(),
                cookie: Cookie(field!(cursor.u64)),
                payload: PayloadLength(field!(cursor.u32)),
            }),
            found => Err(BadMagic {
                expected: "a structured reply chunk",
                found: found.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_bytes_of_the_protocol_document() {
        let header = RequestHeader {
            flags: CommandFlags::FUA,
            command: Command::Write,
            cookie: Cookie(0x0102_0304_0506_0708),
            offset: 0x1000,
            length: 0x200,
        };
        let bytes = header.encode();
        assert_eq!(
            bytes,
            [
                0x25, 0x60, 0x95, 0x13, 0, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0,
                2, 0
            ]
        );
        assert_eq!(RequestHeader::decode(&bytes), Ok(header));
    }

    #[test]
    fn headers_survive_the_round_trip_and_refuse_another_magic() {
        let option = OptionHeader {
            option: OptionCode::Go,
            payload: PayloadLength(7),
        };
        assert_eq!(OptionHeader::decode(&option.encode()), Ok(option));
        let reply = OptionReplyHeader {
            option: OptionCode::Other(99),
            kind: OptionReplyType::Policy,
            payload: PayloadLength(u32::MAX),
        };
        assert_eq!(OptionReplyHeader::decode(&reply.encode()), Ok(reply));
        let simple = SimpleReplyHeader {
            error: Some(ErrorNumber::NoSpace),
            cookie: Cookie(9),
        };
        assert_eq!(SimpleReplyHeader::decode(&simple.encode()), Ok(simple));
        let chunk = ChunkHeader {
            flags: ChunkFlags::DONE,
            kind: ChunkType::OffsetData,
            cookie: Cookie(3),
            payload: PayloadLength(8),
        };
        assert_eq!(ChunkHeader::decode(&chunk.encode()), Ok(chunk));
        assert!(ChunkHeader::decode(&[0; 20]).is_err());
        assert!(OptionHeader::decode(&[0; 16]).is_err());
        assert!(OptionReplyHeader::decode(&[0; 20]).is_err());
        assert!(RequestHeader::decode(&[0; 28]).is_err());
        assert!(SimpleReplyHeader::decode(&[0; 16]).is_err());
    }

    #[test]
    fn nbds_22_effect_length_is_never_a_payload_length() {
        let mut header = RequestHeader {
            flags: CommandFlags::empty(),
            command: Command::WriteZeroes,
            cookie: Cookie(1),
            offset: 0,
            length: u32::MAX,
        };
        assert_eq!(header.payload(), PayloadLength(0));
        assert_eq!(header.effect(), EffectLength(u64::from(u32::MAX)));
        header.command = Command::Write;
        assert_eq!(header.payload(), PayloadLength(u32::MAX));
    }
}
