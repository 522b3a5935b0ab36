//! What a server tells about its exports, as a client takes it off the wire.

use crate::facts::BlockSizes;
use crate::limits::MAX_INFO_REPLIES;
use crate::name::ExportName;
use crate::text;
use crate::wire::{Cursor, InfoType, OptionCode, TransmissionFlags};

use super::client_error::NegotiationError;

/// One export of a server's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedExport {
    /// Its name.
    pub name: ExportName,
    /// For people; empty for none.
    pub description: String,
}

/// What a server told about an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportDetails {
    /// The name the server gave, or the one that was asked for.
    pub name: ExportName,
    /// For people; empty for none.
    pub description: String,
    /// Size in bytes, below 2^63.
    pub size: u64,
    /// What the export offers.
    pub flags: TransmissionFlags,
    /// Alignment and limits, where the server told any.
    pub block_sizes: Option<BlockSizes>,
}

/// An export's details as far as they have come.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) name: ExportName,
    pub(super) description: String,
    pub(super) export: Option<(u64, TransmissionFlags)>,
    pub(super) block_sizes: Option<BlockSizes>,
    replies: u32,
}

impl Partial {
    pub(super) fn new(name: ExportName) -> Self {
        Partial {
            name,
            description: String::new(),
            export: None,
            block_sizes: None,
            replies: 0,
        }
    }

    /// Takes one INFO reply.
    pub(super) fn add(&mut self, option: OptionCode, payload: &[u8]) -> Result<(), NegotiationError> {
        let malformed = |what| NegotiationError::Malformed { option, what };
        self.replies = self.replies.saturating_add(1);
        if self.replies > MAX_INFO_REPLIES {
            return Err(NegotiationError::TooMany(option));
        }
        let mut cursor = Cursor::new(payload);
        let kind = cursor.u16().ok_or(malformed("a fact without a type"))?;
        match InfoType::from(kind) {
            InfoType::Export => {
                let fields = (cursor.u64(), cursor.u16(), cursor.is_empty());
                let (Some(size), Some(flags), true) = fields else {
                    return Err(malformed("a malformed export size"));
                };
                self.export = Some((check_size(size)?, TransmissionFlags::from_bits_retain(flags)));
            }
            InfoType::BlockSize => {
                let fields = (cursor.u32(), cursor.u32(), cursor.u32(), cursor.is_empty());
                let (Some(minimum), Some(preferred), Some(maximum), true) = fields else {
                    return Err(malformed("malformed block sizes"));
                };
                self.block_sizes = Some(BlockSizes::new(minimum, preferred, maximum)?);
            }
            InfoType::Name => {
                self.name = ExportName::try_from(cursor.rest())
                    .map_err(|_| malformed("an impossible export name"))?;
            }
            InfoType::Description => self.description = text::peer_text(cursor.rest()),
            // The protocol wants unknown facts ignored.
            InfoType::Other(_) => {}
        }
        Ok(())
    }
}

pub(super) fn parse_listed(payload: &[u8]) -> Option<ListedExport> {
    let mut cursor = Cursor::new(payload);
    let length = cursor.u32()?;
    let name = ExportName::try_from(cursor.bytes(length)?).ok()?;
    Some(ListedExport {
        name,
        description: text::peer_text(cursor.rest()),
    })
}

pub(super) fn check_size(size: u64) -> Result<u64, NegotiationError> {
    if i64::try_from(size).is_ok() {
        Ok(size)
    } else {
        Err(NegotiationError::Size(size))
    }
}
