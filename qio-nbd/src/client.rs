//! An NBD client, blocking; and one that keeps many requests in flight, with feature `tokio`.
//!
//! ```no_run
//! use qio_nbd::NbdUri;
//! use qio_nbd::client::{ConnectOptions, Session};
//!
//! # fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let uri: NbdUri = "nbd://localhost/disk".parse()?;
//! let mut client = Session::connect(&uri.address, &ConnectOptions::default())?.go(&uri.export)?;
//! let mut boot_sector = [0; 512];
//! client.read_at(&mut boot_sector, 0)?;
//! client.disconnect()?;
//! # Ok(()) }
//! ```

#[cfg(feature = "tokio")]
mod async_client;
mod blocking;
mod error;
#[cfg(feature = "tokio")]
mod pipeline;
mod session;

#[cfg(feature = "tokio")]
pub use async_client::AsyncClient;
pub use blocking::Client;
pub use error::{ClientError, RequestError};
pub use session::{ConnectOptions, Session, TlsSetup};

use crate::export::Durability;
use crate::negotiation::ExportDetails;
use crate::wire::{Command, CommandFlags, Cookie, RequestHeader, TransmissionFlags};

/// Trims and zero requests are cut into pieces of this many bytes: a length has 32 bits on the wire.
const MAX_EFFECT: u64 = 1 << 30;

/// Checks a request against what the server told, before it is sent: some servers drop the connection over it.
fn check(
    export: &ExportDetails,
    command: Command,
    flags: CommandFlags,
    offset: u64,
    length: u64,
) -> Result<(), RequestError> {
    let (modifies, needed, what) = match command {
        Command::Write => (true, TransmissionFlags::HAS_FLAGS, "writing"),
        Command::Trim => (true, TransmissionFlags::SEND_TRIM, "trimming"),
        Command::WriteZeroes => (true, TransmissionFlags::SEND_WRITE_ZEROES, "zeroing"),
        Command::Flush => (false, TransmissionFlags::SEND_FLUSH, "flushing"),
        _ => (false, TransmissionFlags::empty(), "reading"),
    };
    if modifies && export.flags.contains(TransmissionFlags::READ_ONLY) {
        return Err(RequestError::ReadOnly);
    }
    if !export.flags.contains(needed) && command != Command::Write {
        return Err(RequestError::NotOffered(what));
    }
    if flags.contains(CommandFlags::FUA) && !export.flags.contains(TransmissionFlags::SEND_FUA) {
        return Err(RequestError::NotOffered("forcing writes (FUA)"));
    }
    if offset.checked_add(length).is_none_or(|end| end > export.size) {
        return Err(RequestError::PastEnd {
            offset,
            length,
            size: export.size,
        });
    }
    let minimum = u64::from(export.block_sizes.map_or(1, crate::facts::BlockSizes::minimum));
    if !offset.is_multiple_of(minimum) || !length.is_multiple_of(minimum) {
        return Err(RequestError::Unaligned {
            offset,
            length,
            minimum,
        });
    }
    Ok(())
}

/// How many bytes one read or write of this export may carry.
fn max_payload(export: &ExportDetails) -> u32 {
    export.block_sizes.map_or(crate::limits::MAX_PAYLOAD, |sizes| {
        let maximum = sizes.maximum().min(crate::limits::MAX_PAYLOAD);
        maximum.saturating_sub(maximum.checked_rem(sizes.minimum()).unwrap_or(0))
    })
}

fn request(
    command: Command,
    flags: CommandFlags,
    cookie: Cookie,
    offset: u64,
    length: u32,
) -> [u8; RequestHeader::SIZE] {
    RequestHeader {
        flags,
        command,
        cookie,
        offset,
        length,
    }
    .encode()
}

fn fua(durability: Durability) -> CommandFlags {
    match durability {
        Durability::Buffered => CommandFlags::empty(),
        Durability::Forced => CommandFlags::FUA,
    }
}
