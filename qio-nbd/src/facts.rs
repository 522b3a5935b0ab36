//! What the two sides tell each other about an export, and what they agreed on.

use crate::limits::MAX_PAYLOAD;
use crate::wire::TransmissionFlags;

/// How replies look on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyMode {
    /// Simple replies: one header, then a read's data. The state before anything is negotiated.
    #[default]
    Simple,
    /// Structured replies: a read's data comes in chunks, and errors carry a text.
    Structured,
}

/// The block sizes of an export in bytes.
///
/// Requests are aligned to the minimum, work best in multiples of the preferred one, and carry at most the
/// maximum. The numbers are checked once, here, so that dividing by them is safe everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSizes {
    minimum: u32,
    preferred: u32,
    maximum: u32,
}

/// Why three numbers are not block sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("block sizes {minimum}/{preferred}/{maximum} (minimum/preferred/maximum) break the protocol: {why}")]
pub struct InvalidBlockSizes {
    minimum: u32,
    preferred: u32,
    maximum: u32,
    why: &'static str,
}

impl BlockSizes {
    /// What an export without needs of its own gets: any byte, best in pages, at most 32 MiB.
    pub const DEFAULT: BlockSizes = BlockSizes {
        minimum: 1,
        preferred: 4096,
        maximum: MAX_PAYLOAD,
    };

    /// Checks the protocol's rules.
    ///
    /// # Errors
    /// When the minimum or preferred size is not a power of two, the minimum is above 64 KiB, they are not
    /// in order, or the maximum is not a multiple of the minimum (or `u32::MAX`, "no limit").
    pub fn new(minimum: u32, preferred: u32, maximum: u32) -> Result<Self, InvalidBlockSizes> {
        let why = if !minimum.is_power_of_two() || minimum > 1 << 16 {
            "the minimum must be a power of two of at most 65536"
        } else if !preferred.is_power_of_two() || preferred < minimum {
            "the preferred size must be a power of two, not below the minimum"
        } else if maximum < preferred {
            "the maximum must not be below the preferred size"
        } else if maximum != u32::MAX && maximum & (minimum - 1) != 0 {
            "the maximum must be a multiple of the minimum"
        } else {
            return Ok(BlockSizes {
                minimum,
                preferred,
                maximum,
            });
        };
        Err(InvalidBlockSizes {
            minimum,
            preferred,
            maximum,
            why,
        })
    }

    /// Requests start and end on a multiple of this.
    #[must_use]
    pub fn minimum(self) -> u32 {
        self.minimum
    }

    /// The size that works best.
    #[must_use]
    pub fn preferred(self) -> u32 {
        self.preferred
    }

    /// The most that one read or write may carry.
    #[must_use]
    pub fn maximum(self) -> u32 {
        self.maximum
    }
}

/// What a server tells about one export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// Size in bytes.
    pub size: u64,
    /// What the export offers.
    pub flags: TransmissionFlags,
    /// For people; empty for none.
    pub description: String,
    /// Alignment and limits of requests.
    pub block_sizes: BlockSizes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nbdc_13_lies_about_block_sizes_are_refused() {
        for (minimum, preferred, maximum) in [
            (0, 4096, 1 << 20),
            (3, 4096, 1 << 20),
            (512, 0, 1 << 20),
            (512, 4095, 1 << 20),
            (4096, 512, 1 << 20),
            (512, 4096, 0),
            (512, 4096, 2048),
            (512, 4096, 4096 + 1),
            (1 << 17, 1 << 17, 1 << 20),
            (u32::MAX, u32::MAX, u32::MAX),
        ] {
            assert!(
                BlockSizes::new(minimum, preferred, maximum).is_err(),
                "{minimum}/{preferred}/{maximum}"
            );
        }
        assert!(BlockSizes::new(1, 4096, MAX_PAYLOAD).is_ok());
        assert!(BlockSizes::new(512, 4096, u32::MAX).is_ok());
        assert!(BlockSizes::new(65536, 65536, 65536).is_ok());
    }
}
