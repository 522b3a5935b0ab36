//! An export in memory.

use std::io;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use super::{Capabilities, Durability, Export, ZeroMode};

/// A disk in memory, gone with the process. For tests and demonstrations.
///
/// ```
/// use qio_nbd::export::{Durability, Export, MemoryExport};
///
/// let disk = MemoryExport::new(1 << 20);
/// disk.write_at(b"hello", 512, Durability::Buffered)?;
/// let mut read = [0; 5];
/// disk.read_at(&mut read, 512)?;
/// assert_eq!(&read, b"hello");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct MemoryExport {
    bytes: RwLock<Vec<u8>>,
    size: u64,
}

impl MemoryExport {
    /// A disk of `size` zero bytes. Memory is used as it is written.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self::from(vec![0; size])
    }

    fn range(&self, offset: u64, length: u64) -> io::Result<Range<usize>> {
        let end = offset.checked_add(length).filter(|end| *end <= self.size);
        match (usize::try_from(offset), end.map(usize::try_from)) {
            (Ok(start), Some(Ok(end))) => Ok(start..end),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn modify(&self, offset: u64, length: u64, change: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let range = self.range(offset, length)?;
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        change(bytes.get_mut(range).ok_or(io::ErrorKind::InvalidInput)?);
        Ok(())
    }
}

impl From<Vec<u8>> for MemoryExport {
    fn from(bytes: Vec<u8>) -> Self {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        MemoryExport {
            bytes: RwLock::new(bytes),
            size,
        }
    }
}

impl Export for MemoryExport {
    fn size(&self) -> u64 {
        self.size
    }

    fn capabilities(&self) -> Capabilities {
        // Durable for as long as the process is, which is all it promises.
        Capabilities::all() - Capabilities::ROTATIONAL
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let range = self.range(offset, u64::try_from(buf.len()).unwrap_or(u64::MAX))?;
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        buf.copy_from_slice(bytes.get(range).ok_or(io::ErrorKind::InvalidInput)?);
        Ok(())
    }

    fn try_read_now(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let range = self.range(offset, u64::try_from(buf.len()).unwrap_or(u64::MAX))?;
        // A writer holds the lock for as long as a copy takes; waiting for that is not worth a thread.
        let Ok(bytes) = self.bytes.try_read() else {
            return Ok(0);
        };
        buf.copy_from_slice(bytes.get(range).ok_or(io::ErrorKind::InvalidInput)?);
        Ok(buf.len())
    }

    fn write_at(&self, buf: &[u8], offset: u64, _: Durability) -> io::Result<()> {
        let length = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        self.modify(offset, length, |bytes| bytes.copy_from_slice(buf))
    }

    fn trim(&self, _: u64, _: u64, _: Durability) -> io::Result<()> {
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64, _: ZeroMode, _: Durability) -> io::Result<()> {
        self.modify(offset, length, |bytes| bytes.fill(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_written_and_refuses_the_rest() {
        let disk = MemoryExport::new(1000);
        disk.write_at(&[7; 100], 900, Durability::Forced).unwrap();
        disk.write_zeroes(950, 10, ZeroMode::MayPunch, Durability::Buffered)
            .unwrap();
        let mut all = vec![1; 1000];
        disk.read_at(&mut all, 0).unwrap();
        assert_eq!(all[..900], [0; 900]);
        assert_eq!((all[949], all[950], all[959], all[960]), (7, 0, 0, 7));
        assert!(disk.read_at(&mut [0; 2], 999).is_err());
        assert!(disk.write_at(&[0], u64::MAX, Durability::Buffered).is_err());
        assert!(
            disk.write_zeroes(1, u64::MAX, ZeroMode::MayPunch, Durability::Buffered)
                .is_err()
        );
        assert_eq!(disk.try_read_now(&mut all, 0).unwrap(), 1000);
    }
}
