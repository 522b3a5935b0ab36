//! The NBD wire format: magic numbers, code points, flags and fixed-size headers.
//!
//! Every number on the wire is big endian. Names and values are those of the NBD protocol document
//! (`doc/proto.md` of the reference implementation). Nothing here reads or writes a stream: encoding gives
//! an array, decoding takes one.

mod codes;
mod cursor;
mod error_number;
mod flags;
mod header;

pub use codes::{ChunkType, Command, InfoType, OptionCode, OptionReplyType};
pub(crate) use cursor::{ArrayWriter, Cursor};
pub use error_number::ErrorNumber;
pub use flags::{ChunkFlags, ClientFlags, CommandFlags, HandshakeFlags, TransmissionFlags};
pub use header::{
    BadMagic, ChunkHeader, Cookie, EffectLength, OptionHeader, OptionReplyHeader, PayloadLength,
    RequestHeader, SimpleReplyHeader,
};

/// The TCP port that IANA assigned to NBD.
pub const DEFAULT_PORT: u16 = 10809;

/// `NBDMAGIC`, the first eight bytes of every server.
pub const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// `IHAVEOPT`: the second eight bytes of a newstyle server, and the start of every option request.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// The second eight bytes of an oldstyle server, which cannot negotiate anything.
pub const OLDSTYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
/// The start of every reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// The start of every request in the transmission phase.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// The start of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// The start of a structured reply chunk.
pub const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Zero bytes that end the answer to `NBD_OPT_EXPORT_NAME`, unless both sides agreed to leave them out.
pub const EXPORT_NAME_PADDING: usize = 124;
