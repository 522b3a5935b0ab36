//! A raw file or block device.

mod sync;

use std::fs::File;
use std::io::{self, IoSliceMut, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};

use super::{Capabilities, Durability, Export, ZeroMode};
use sync::Syncs;

/// How many zeroes are written at once where zeroing has to be done by writing.
const ZEROES: usize = 256 << 10;

/// How a file is opened for serving. Read-write, and all of it, unless said otherwise.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct OpenOptions {
    read_only: bool,
    offset: u64,
    length: Option<u64>,
}

impl OpenOptions {
    /// Read-write, and all of it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves the file for reading only.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Serves from this byte of the file on.
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Serves this many bytes; the rest of the file where not said.
    pub fn length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    /// Opens a raw file or a block device.
    ///
    /// # Errors
    /// When it cannot be opened, is neither file nor block device, or is smaller than the window asked for.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<FileExport, OpenError> {
        let path = path.as_ref();
        let result = std::fs::OpenOptions::new()
            .read(true)
            .write(!self.read_only)
            .open(path);
        let file = result.map_err(|error| OpenError::Open {
            path: path.to_owned(),
            how: if self.read_only {
                "reading"
            } else {
                "reading and writing (-r serves it read-only)"
            },
            error,
        })?;
        self.adopt(file, path)
    }

    fn adopt(&self, mut file: File, path: &Path) -> Result<FileExport, OpenError> {
        let failed = |error| OpenError::Size {
            path: path.to_owned(),
            error,
        };
        let kind = file.metadata().map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(OpenError::NotADisk(path.to_owned()));
        }
        // True of block devices as well, whose metadata has no size.
        let end = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let rest = end.checked_sub(self.offset);
        let window = rest.and_then(|rest| match self.length {
            Some(length) => (length <= rest).then_some(length),
            None => Some(rest),
        });
        let size = window.ok_or_else(|| OpenError::Window {
            path: path.to_owned(),
            size: end,
            offset: self.offset,
        })?;
        Ok(FileExport {
            file,
            syncs: Syncs::default(),
            start: self.offset,
            size,
            read_only: self.read_only,
            can_try_read: AtomicBool::new(true),
            can_punch: AtomicBool::new(true),
            can_zero_range: AtomicBool::new(true),
        })
    }
}

/// Why a file cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system said no.
    #[error("cannot open '{path}' for {how}: {error}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// For what.
        how: &'static str,
        /// The system's reason.
        error: io::Error,
    },
    /// The size could not be found out.
    #[error("cannot find the size of '{path}': {error}", path = path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// A directory, a pipe, a character device...
    #[error("'{}' is neither a file nor a block device, so it cannot be served as a disk", .0.display())]
    NotADisk(PathBuf),
    /// The window is not inside the file.
    #[error(
        "the part of '{path}' to serve, from byte {offset} on, is not inside its {size} bytes: choose another offset or length",
        path = path.display()
    )]
    Window {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The first byte asked for.
        offset: u64,
    },
}

/// A raw file or block device, or a part of one.
///
/// Reads and writes go through the page cache; a flush or a forced write ends with `fdatasync`. Once that has
/// failed, written data may be lost, and every later flush and forced write fails too. What the
/// file system turns out not to support (`fallocate`, `RWF_NOWAIT`) is asked for once.
#[derive(Debug)]
pub struct FileExport {
    file: File,
    syncs: Syncs,
    start: u64,
    size: u64,
    read_only: bool,
    can_try_read: AtomicBool,
    can_punch: AtomicBool,
    can_zero_range: AtomicBool,
}

impl FileExport {
    /// Serves an open file from its first to its last byte.
    ///
    /// # Errors
    /// When it is neither file nor block device.
    pub fn from_file(file: File, read_only: bool) -> Result<Self, OpenError> {
        OpenOptions::new()
            .read_only(read_only)
            .adopt(file, Path::new("(an open file)"))
    }

    /// Where in the file a place of the export is; `None` past the end.
    fn place(&self, offset: u64, length: u64) -> io::Result<u64> {
        offset
            .checked_add(length)
            .filter(|end| *end <= self.size)
            .and_then(|_| self.start.checked_add(offset))
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.run(|| self.file.sync_data())
    }

    fn settle(&self, durability: Durability) -> io::Result<()> {
        match durability {
            Durability::Buffered => Ok(()),
            Durability::Forced => self.sync(),
        }
    }

    /// Tries one kind of `fallocate`; `Ok(false)` where the file does not have it.
    fn allocate(&self, flags: FallocateFlags, known: &AtomicBool, at: u64, length: u64) -> io::Result<bool> {
        if length == 0 {
            return Ok(true);
        }
        if !known.load(Ordering::Relaxed) {
            return Ok(false);
        }
        loop {
            match rustix::fs::fallocate(&self.file, flags, at, length) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) => {}
                // NODEV and INVAL: devices and file systems that have the call but not for this.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) => {
                    known.store(false, Ordering::Relaxed);
                    return Ok(false);
                }
                Err(Errno::INVAL) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn punch(&self, at: u64, length: u64) -> io::Result<bool> {
        self.allocate(
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            &self.can_punch,
            at,
            length,
        )
    }

    fn zero_by_writing(&self, mut at: u64, mut length: u64) -> io::Result<()> {
        let zeroes = vec![0; ZEROES];
        while length > 0 {
            let step = usize::try_from(length).map_or(ZEROES, |length| length.min(ZEROES));
            self.file
                .write_all_at(zeroes.get(..step).unwrap_or_default(), at)?;
            let step = u64::try_from(step).unwrap_or(length);
            at = at.saturating_add(step);
            length = length.saturating_sub(step);
        }
        Ok(())
    }
}

fn length_of(buf: &[u8]) -> u64 {
    u64::try_from(buf.len()).unwrap_or(u64::MAX)
}

impl Export for FileExport {
    fn size(&self) -> u64 {
        self.size
    }

    fn capabilities(&self) -> Capabilities {
        // One file, one page cache: a flush covers whatever connection wrote.
        let all = Capabilities::all() - Capabilities::ROTATIONAL;
        if self.read_only {
            all - Capabilities::WRITE
        } else {
            all
        }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let at = self.place(offset, length_of(buf))?;
        self.file.read_exact_at(buf, at)
    }

    fn try_read_now(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let at = self.place(offset, length_of(buf))?;
        if !self.can_try_read.load(Ordering::Relaxed) {
            return Ok(0);
        }
        match rustix::io::preadv2(
            &self.file,
            &mut [IoSliceMut::new(buf)],
            at,
            ReadWriteFlags::NOWAIT,
        ) {
            Ok(read) => Ok(read),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.can_try_read.store(false, Ordering::Relaxed);
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64, durability: Durability) -> io::Result<()> {
        let at = self.place(offset, length_of(buf))?;
        self.file.write_all_at(buf, at)?;
        self.settle(durability)
    }

    fn flush(&self) -> io::Result<()> {
        self.sync()
    }

    fn trim(&self, offset: u64, length: u64, durability: Durability) -> io::Result<()> {
        let at = self.place(offset, length)?;
        // A trim is a hint: not being able to is success.
        self.punch(at, length)?;
        self.settle(durability)
    }

    fn write_zeroes(
        &self,
        offset: u64,
        length: u64,
        mode: ZeroMode,
        durability: Durability,
    ) -> io::Result<()> {
        let at = self.place(offset, length)?;
        let done = match mode {
            ZeroMode::MayPunch => self.punch(at, length)?,
            ZeroMode::Allocate => false,
        };
        if !done && !self.allocate(FallocateFlags::ZERO_RANGE, &self.can_zero_range, at, length)? {
            self.zero_by_writing(at, length)?;
        }
        self.settle(durability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn file(size: u64) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        File::create(&path).unwrap().set_len(size).unwrap();
        (directory, path)
    }

    #[test]
    fn a_window_is_all_that_can_be_reached() {
        let (_directory, path) = file(10_000);
        std::fs::write(&path, vec![9; 10_000]).unwrap();
        let export = OpenOptions::new().offset(1000).length(100).open(&path).unwrap();
        assert_eq!(export.size(), 100);
        export.write_at(&[1; 100], 0, Durability::Forced).unwrap();
        export
            .write_zeroes(50, 25, ZeroMode::MayPunch, Durability::Buffered)
            .unwrap();
        export
            .write_zeroes(75, 25, ZeroMode::Allocate, Durability::Buffered)
            .unwrap();
        assert!(export.write_at(&[1; 2], 99, Durability::Buffered).is_err());
        assert!(export.read_at(&mut [0; 1], 100).is_err());
        assert!(export.trim(u64::MAX, 2, Durability::Buffered).is_err());
        let bytes = std::fs::read(&path).unwrap();
        let expected = [vec![9; 1000], vec![1; 50], vec![0; 50], vec![9; 8900]].concat();
        assert!(bytes == expected, "the window was written, and nothing else");
    }

    #[test]
    fn trimming_and_punching_free_space_and_allocating_does_not() {
        let (_directory, path) = file(0);
        std::fs::write(&path, vec![9; 1 << 20]).unwrap();
        let export = OpenOptions::new().open(&path).unwrap();
        let blocks = || std::fs::metadata(&path).unwrap().blocks();
        let full = blocks();
        export
            .write_zeroes(0, 1 << 18, ZeroMode::Allocate, Durability::Buffered)
            .unwrap();
        assert_eq!(blocks(), full, "NO_HOLE keeps the space");
        export.trim(1 << 18, 1 << 18, Durability::Forced).unwrap();
        export
            .write_zeroes(1 << 19, 1 << 18, ZeroMode::MayPunch, Durability::Buffered)
            .unwrap();
        if export.can_punch.load(Ordering::Relaxed) {
            assert_eq!(blocks(), full / 2);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20, "the size stays");
        let mut read = vec![1; 1 << 19];
        export.read_at(&mut read[..1 << 18], 0).unwrap();
        export.read_at(&mut read[1 << 18..], 1 << 19).unwrap();
        assert!(read.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn zeroing_works_where_fallocate_does_not() {
        let (_directory, path) = file(0);
        std::fs::write(&path, vec![9; 600_000]).unwrap();
        let export = OpenOptions::new().open(&path).unwrap();
        export.can_punch.store(false, Ordering::Relaxed);
        export.can_zero_range.store(false, Ordering::Relaxed);
        export.trim(0, 10, Durability::Buffered).unwrap();
        export
            .write_zeroes(1, 599_998, ZeroMode::MayPunch, Durability::Forced)
            .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((bytes[0], bytes[599_999]), (9, 9));
        assert!(bytes[1..599_999].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn nothing_is_said_to_be_safe_after_a_sync_that_failed() {
        let (_directory, path) = file(4096);
        let export = OpenOptions::new().open(&path).unwrap();
        export.flush().unwrap();
        export.syncs.run(|| Err(Errno::IO.into())).unwrap_err();
        export.write_at(&[1], 0, Durability::Buffered).unwrap();
        let mode = ZeroMode::MayPunch;
        for result in [
            export.flush(),
            export.write_at(&[1], 0, Durability::Forced),
            export.trim(0, 1, Durability::Forced),
            export.write_zeroes(0, 1, mode, Durability::Forced),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("may be lost"), "{error}");
        }
    }

    #[test]
    fn reading_now_gives_a_prefix_or_nothing() {
        let (_directory, path) = file(0);
        let contents: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &contents).unwrap();
        let export = OpenOptions::new().read_only(true).open(&path).unwrap();
        let mut buf = vec![0; 50_000];
        let read = export.try_read_now(&mut buf, 25_000).unwrap();
        assert_eq!(buf[..read], contents[25_000..25_000 + read]);
        assert!(!export.capabilities().contains(Capabilities::WRITE));
        assert!(export.write_at(&[1], 0, Durability::Buffered).is_err());
    }

    #[test]
    fn errors_name_the_file_and_the_remedy() {
        let (directory, path) = file(100);
        let open = |options: OpenOptions, path: &Path| options.open(path).unwrap_err().to_string();
        assert!(
            open(OpenOptions::new(), &directory.path().join("no")).contains("/no' for reading and writing")
        );
        assert!(open(OpenOptions::new().read_only(true), directory.path()).contains("neither a file"));
        assert!(open(OpenOptions::new().offset(101), &path).contains("100 bytes"));
        assert!(open(OpenOptions::new().offset(50).length(51), &path).contains("byte 50"));
    }
}
