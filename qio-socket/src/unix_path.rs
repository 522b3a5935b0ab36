//! The file that a unix listener leaves in the file system: whose it is, and when it may be removed.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use crate::error::SocketError;

/// Makes room for a new socket: removes the file of a listener that is no more, and nothing else.
///
/// Whether one is alive is found out by connecting, which it sees as a client that leaves at once.
pub(crate) fn remove_if_stale(path: &Path, name: &SocketAddrUnix) -> Result<(), SocketError> {
    let file_type = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SocketError::system("looking at the unix socket's path")(error)),
    };
    let not_a_socket = |found: &str| {
        Err(SocketError::PathNotASocket {
            path: path.to_owned(),
            found: found.to_owned(),
        })
    };
    if !file_type.is_socket() {
        return not_a_socket(if file_type.is_dir() {
            "a directory"
        } else if file_type.is_symlink() {
            "a symbolic link"
        } else if file_type.is_fifo() {
            "a named pipe"
        } else {
            "a file that is not a socket"
        });
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(SocketError::system("opening a socket"))?;
    match rustix::net::connect(&probe, name) {
        Ok(()) | Err(Errno::AGAIN) => Err(SocketError::PathInUse {
            path: path.to_owned(),
        }),
        Err(Errno::PROTOTYPE) => not_a_socket("a socket of another type (datagram or packets)"),
        Err(Errno::NOENT) => Ok(()), // gone since we looked
        Err(Errno::CONNREFUSED) => {
            tracing::debug!(path = %path.display(), "removing the socket of a listener that is no more");
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(SocketError::system("removing a stale unix socket")(error))
                }
                _ => Ok(()),
            }
        }
        Err(error) => Err(SocketError::system("finding out whether a unix socket is in use")(error)),
    }
}

/// Removes the file on drop, if it is still the one that was bound.
#[derive(Debug)]
pub(crate) struct BoundPath {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl BoundPath {
    /// Remembers the socket that was just bound at `path`.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        // The working directory may be another one when the time comes.
        let path = std::path::absolute(path)?;
        let metadata = fs::symlink_metadata(&path)?;
        Ok(BoundPath {
            path,
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|now| now.dev() == self.device && now.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the unix socket that was listened on");
        }
    }
}
