//! What a server serves: the [`Export`] trait and two backends.

mod file;
mod memory;

use std::io;

pub use file::{FileExport, OpenError, OpenOptions};
pub use memory::MemoryExport;

use crate::facts::BlockSizes;
use crate::wire::TransmissionFlags;

bitflags::bitflags! {
    /// What an export can do beyond being read.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Capabilities: u16 {
        /// [`Export::write_at`] works.
        const WRITE = 1 << 0;
        /// [`Export::flush`] makes completed writes durable.
        const FLUSH = 1 << 1;
        /// [`Durability::Forced`] is honoured.
        const FUA = 1 << 2;
        /// [`Export::trim`] works.
        const TRIM = 1 << 3;
        /// [`Export::write_zeroes`] works.
        const WRITE_ZEROES = 1 << 4;
        /// A flush covers the completed writes of every connection to this export.
        const MULTI_CONN = 1 << 5;
        /// The medium spins.
        const ROTATIONAL = 1 << 6;
    }
}

impl Capabilities {
    /// The same in the words of the protocol.
    #[must_use]
    pub fn transmission_flags(self) -> TransmissionFlags {
        let writable = self.contains(Capabilities::WRITE);
        let mut flags = TransmissionFlags::HAS_FLAGS;
        flags.set(TransmissionFlags::READ_ONLY, !writable);
        flags.set(TransmissionFlags::SEND_FLUSH, self.contains(Capabilities::FLUSH));
        flags.set(TransmissionFlags::SEND_FUA, self.contains(Capabilities::FUA));
        flags.set(
            TransmissionFlags::SEND_TRIM,
            writable && self.contains(Capabilities::TRIM),
        );
        flags.set(
            TransmissionFlags::SEND_WRITE_ZEROES,
            writable && self.contains(Capabilities::WRITE_ZEROES),
        );
        flags.set(
            TransmissionFlags::CAN_MULTI_CONN,
            self.contains(Capabilities::MULTI_CONN),
        );
        flags.set(
            TransmissionFlags::ROTATIONAL,
            self.contains(Capabilities::ROTATIONAL),
        );
        flags
    }
}

/// When a modifying operation is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When every other reader sees it.
    Buffered,
    /// When it would survive a power cut: NBD's FUA.
    Forced,
}

/// How a range may be made to read as zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroMode {
    /// Its space may be given back.
    MayPunch,
    /// Its space must stay allocated: NBD's `NO_HOLE`.
    Allocate,
}

/// Something that can be served: a disk.
///
/// All methods may block, and are called from several threads at once. The server checks every request
/// against [`size`](Export::size) and [`capabilities`](Export::capabilities) first: ranges are always inside
/// the export, and what is not in the capabilities is not called.
///
/// ```
/// use std::io;
/// use qio_nbd::export::{Capabilities, Export};
///
/// /// A disk of zeroes.
/// struct Zeroes(u64);
///
/// impl Export for Zeroes {
///     fn size(&self) -> u64 { self.0 }
///     fn capabilities(&self) -> Capabilities { Capabilities::MULTI_CONN }
///     fn read_at(&self, buf: &mut [u8], _offset: u64) -> io::Result<()> {
///         buf.fill(0);
///         Ok(())
///     }
/// }
/// ```
pub trait Export: Send + Sync + 'static {
    /// Size in bytes. Must not change while the export is served.
    fn size(&self) -> u64;

    /// What it can do beyond being read. Must not change while the export is served.
    fn capabilities(&self) -> Capabilities;

    /// Alignment and limits to be told to clients. They are advice: requests may still be unaligned.
    fn block_sizes(&self) -> BlockSizes {
        BlockSizes::DEFAULT
    }

    /// Fills `buf` from `offset` on. All of it, or an error: `buf` has old contents, which must not be served.
    ///
    /// # Errors
    /// Told to the client as the nearest of NBD's error numbers.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Reads what can be had without waiting, and says how many bytes from the front that were.
    ///
    /// Called on the thread that serves connections: it must never block. `Ok(0)`, the default, sends the
    /// whole read to a thread that may.
    ///
    /// # Errors
    /// As [`read_at`](Export::read_at).
    fn try_read_now(&self, _buf: &mut [u8], _offset: u64) -> io::Result<usize> {
        Ok(0)
    }

    /// Stores all of `buf` from `offset` on.
    ///
    /// # Errors
    /// As [`read_at`](Export::read_at); some of it may have been stored.
    fn write_at(&self, _buf: &[u8], _offset: u64, _durability: Durability) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    /// Makes every write that had completed durable.
    ///
    /// # Errors
    /// As [`read_at`](Export::read_at).
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// The range is not needed any more. What it reads as afterwards is anybody's guess.
    ///
    /// # Errors
    /// As [`read_at`](Export::read_at).
    fn trim(&self, _offset: u64, _length: u64, _durability: Durability) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes the range read as zeroes.
    ///
    /// # Errors
    /// As [`read_at`](Export::read_at).
    fn write_zeroes(
        &self,
        _offset: u64,
        _length: u64,
        _mode: ZeroMode,
        _durability: Durability,
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
