//! Telling, without reading them, whether files have changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What the file system says of a set of files at one moment. Symbolic links are followed.
///
/// Two that are equal mean the same contents, unless a file was written twice within one tick of the file system's
/// clock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint(Vec<Option<Stamp>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    /// Looks at the files. Those that are not there, or cannot be looked at, count as absent.
    pub(crate) fn of<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Self {
        Self(files.into_iter().map(|file| stamp(file.as_ref())).collect())
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let of = fs::metadata(file).ok()?;
    Some(Stamp {
        device: of.dev(),
        inode: of.ino(),
        mode: of.mode(),
        size: of.size(),
        modified: (of.mtime(), of.mtime_nsec()),
        changed: (of.ctime(), of.ctime_nsec()),
    })
}
