//! Between our addresses and the kernel's.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::net::SocketAddrUnix;
use socket2::{SockAddr, SockRef};

use crate::address::{SocketAddress, UnixAddress};
use crate::error::SocketError;

/// The size of `sun_path`.
const SUN_PATH: usize = 108;

/// The longest path or abstract name. The kernel would take a path of 108 bytes without its NUL, but what it
/// then says of that socket's name does not fit the structure any more, and trips other programs.
pub(crate) const MAX_UNIX_PATH: usize = SUN_PATH - 1;

/// The kernel's form of a unix address, refused before any system call if it does not fit.
pub(crate) fn unix_sockaddr(address: &UnixAddress) -> Result<SocketAddrUnix, SocketError> {
    let bytes = address.path.as_os_str().as_bytes();
    if bytes.len() > MAX_UNIX_PATH {
        return Err(SocketError::PathTooLong {
            path: address.path.clone(),
            length: bytes.len(),
            limit: MAX_UNIX_PATH,
        });
    }
    if !address.abstract_name {
        if bytes.contains(&0) {
            return Err(SocketError::PathHasNul {
                path: address.path.clone(),
            });
        }
        return SocketAddrUnix::new(bytes).map_err(SocketError::system("making a unix socket address"));
    }
    let mut name = bytes.to_vec();
    if !address.tight {
        name.resize(MAX_UNIX_PATH, 0);
    }
    SocketAddrUnix::new_abstract_name(&name).map_err(SocketError::system("making an abstract socket address"))
}

// socket2 reads names that the kernel reports, because it also copes with a peer that is bound to a path of
// 108 bytes (rustix 1.1 indexes past the end of the array and panics).

/// The address of our own end, if it has one.
pub(crate) fn local_address(fd: BorrowedFd<'_>) -> Option<SocketAddress> {
    SockRef::from(&fd).local_addr().ok().as_ref().and_then(decode)
}

/// The address of the peer's end, if it has one and is still connected.
pub(crate) fn peer_address(fd: BorrowedFd<'_>) -> Option<SocketAddress> {
    SockRef::from(&fd).peer_addr().ok().as_ref().and_then(decode)
}

fn decode(name: &SockAddr) -> Option<SocketAddress> {
    if let Some(inet) = name.as_socket() {
        return Some(inet.into());
    }
    if let Some(path) = name.as_pathname() {
        return Some(SocketAddress::unix(path));
    }
    let bytes = name.as_abstract_namespace()?;
    // A name of the full length was most likely padded; one that was not is spelled the same way in the kernel.
    let tight = bytes.len() < MAX_UNIX_PATH;
    let end = if tight {
        bytes.len()
    } else {
        bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)
    };
    let name = OsStr::from_bytes(bytes.get(..end).unwrap_or(bytes));
    Some(
        UnixAddress {
            tight,
            ..UnixAddress::abstract_name(name)
        }
        .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_34_paths_that_do_not_fit_are_refused() {
        let of_length = |n: usize| unix_sockaddr(&UnixAddress::new("p".repeat(n)));
        assert!(of_length(107).is_ok());
        for length in [108, 109, 4096] {
            let error = of_length(length).unwrap_err();
            assert!(
                matches!(error, SocketError::PathTooLong { limit: 107, .. }),
                "{error}"
            );
        }
        let error = unix_sockaddr(&UnixAddress::new("/tmp/a\0b")).unwrap_err();
        assert!(matches!(error, SocketError::PathHasNul { .. }), "{error}");
        assert!(unix_sockaddr(&UnixAddress::abstract_name("n".repeat(107))).is_ok());
        assert!(unix_sockaddr(&UnixAddress::abstract_name("n".repeat(108))).is_err());
    }
}
