//! Error numbers of the transmission phase.

use std::fmt;
use std::io;

use super::codes::open_enum;

open_enum! {
    /// Why a request failed. NBD fixes these numbers; they are not the host's `errno`.
    pub enum ErrorNumber: u32 {
        /// Operation not permitted: writing to a read-only export.
        NotPermitted = 1,
        /// Input/output error.
        Io = 5,
        /// The server is out of memory.
        NoMemory = 12,
        /// Invalid argument.
        Invalid = 22,
        /// No space left, or past the end of the export.
        NoSpace = 28,
        /// Value too large.
        Overflow = 75,
        /// Operation not supported.
        NotSupported = 95,
        /// The server is shutting down.
        Shutdown = 108,
    }
}

impl ErrorNumber {
    /// The number that tells a client best what `error` was.
    ///
    /// The protocol knows few numbers, so several causes share one: a full disk, a quota and a file grown
    /// too big are all [`NoSpace`](ErrorNumber::NoSpace); anything without a number is [`Io`](ErrorNumber::Io).
    #[must_use]
    pub fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorNumber::NotPermitted,
            io::ErrorKind::OutOfMemory => ErrorNumber::NoMemory,
            io::ErrorKind::InvalidInput => ErrorNumber::Invalid,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                ErrorNumber::NoSpace
            }
            io::ErrorKind::Unsupported => ErrorNumber::NotSupported,
            _ => ErrorNumber::Io,
        }
    }

    /// The kind of [`io::Error`] that says the same.
    #[must_use]
    pub fn kind(self) -> io::ErrorKind {
        match self {
            ErrorNumber::NotPermitted => io::ErrorKind::PermissionDenied,
            ErrorNumber::NoMemory => io::ErrorKind::OutOfMemory,
            ErrorNumber::Invalid | ErrorNumber::Overflow => io::ErrorKind::InvalidInput,
            ErrorNumber::NoSpace => io::ErrorKind::StorageFull,
            ErrorNumber::NotSupported => io::ErrorKind::Unsupported,
            ErrorNumber::Shutdown => io::ErrorKind::ConnectionAborted,
            ErrorNumber::Io | ErrorNumber::Other(_) => io::ErrorKind::Other,
        }
    }
}

impl fmt::Display for ErrorNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorNumber::NotPermitted => "operation not permitted (EPERM)",
            ErrorNumber::Io => "input/output error (EIO)",
            ErrorNumber::NoMemory => "out of memory (ENOMEM)",
            ErrorNumber::Invalid => "invalid argument (EINVAL)",
            ErrorNumber::NoSpace => "no space left (ENOSPC)",
            ErrorNumber::Overflow => "value too large (EOVERFLOW)",
            ErrorNumber::NotSupported => "operation not supported (ENOTSUP)",
            ErrorNumber::Shutdown => "the server is shutting down (ESHUTDOWN)",
            ErrorNumber::Other(number) => return write!(f, "error number {number}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_errors_become_wire_errors() {
        let of = |errno| ErrorNumber::from_io(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(30), ErrorNumber::NotPermitted, "EROFS");
        assert_eq!(of(13), ErrorNumber::NotPermitted, "EACCES");
        assert_eq!(of(28), ErrorNumber::NoSpace, "ENOSPC");
        assert_eq!(of(122), ErrorNumber::NoSpace, "EDQUOT");
        assert_eq!(of(27), ErrorNumber::NoSpace, "EFBIG");
        assert_eq!(of(95), ErrorNumber::NotSupported, "EOPNOTSUPP");
        assert_eq!(of(22), ErrorNumber::Invalid, "EINVAL");
        assert_eq!(of(5), ErrorNumber::Io, "EIO");
        assert_eq!(of(117), ErrorNumber::Io, "a number the protocol does not have");
    }
}
