//! Opening listening sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

use crate::address::{InetAddress, SocketAddress, UnixAddress};
use crate::connect::{tcp_socket, unsupported};
use crate::error::{Attempt, SocketError};
use crate::listener::{ListenOptions, ListeningSocket};
use crate::names;
use crate::resolve::{Purpose, resolve};
use crate::unix_path::{BoundPath, remove_if_stale};

/// How many unused names are tried for a unix socket without a path.
const MAX_NAMES: u32 = 100;

/// Opens all sockets that one address stands for.
pub(crate) fn listen_on(
    address: &SocketAddress,
    options: ListenOptions,
) -> Result<Vec<ListeningSocket>, SocketError> {
    match address {
        SocketAddress::Inet(inet) => listen_inet(inet, options),
        SocketAddress::Unix(unix) => Ok(vec![listen_unix(unix, options)?]),
        other => Err(unsupported(other)),
    }
}

fn listen_inet(inet: &InetAddress, options: ListenOptions) -> Result<Vec<ListeningSocket>, SocketError> {
    // Without a deadline there is always an answer.
    let targets = resolve(inet, Purpose::Listen, None)?.unwrap_or_default();
    let mut sockets: Vec<ListeningSocket> = Vec::new();
    let mut attempts = Vec::new();
    let mut chosen_port = None;
    for mut target in targets {
        // One name, port 0: its addresses share the port that the first one got, if they can.
        let wanted = target.port();
        let result = match chosen_port {
            Some(port) if wanted == 0 => {
                target.set_port(port);
                listen_at(target, inet, options).or_else(|_| {
                    target.set_port(0);
                    listen_in_range(target, inet, options)
                })
            }
            _ => listen_in_range(target, inet, options),
        };
        match result {
            Ok(fd) => {
                let address = names::local_address(fd.as_fd()).unwrap_or_else(|| target.into());
                if let SocketAddress::Inet(bound) = &address {
                    chosen_port = chosen_port.or_else(|| bound.port.parse().ok());
                }
                sockets.push(ListeningSocket {
                    fd,
                    address,
                    options: Some(inet.clone()),
                    _path: None,
                });
            }
            Err(error) => attempts.push(Attempt {
                address: target.to_string(),
                error,
            }),
        }
    }
    let address = SocketAddress::Inet(inet.clone());
    if sockets.is_empty() {
        return Err(SocketError::Listen {
            address: address.to_string(),
            attempts,
        });
    }
    for failed in &attempts {
        tracing::warn!(%address, "not listening on all addresses: {failed}");
    }
    Ok(sockets)
}

/// Takes the first port of the address's range that is not in use. Any other failure ends the search.
fn listen_in_range(target: SocketAddr, inet: &InetAddress, options: ListenOptions) -> io::Result<OwnedFd> {
    let first = target.port();
    let last = inet.to.unwrap_or(first);
    if last < first {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("to={last} is below the port {first}"),
        ));
    }
    let mut result = Err(io::ErrorKind::AddrInUse.into());
    for port in first..=last {
        result = listen_at(SocketAddr::new(target.ip(), port), inet, options);
        if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::AddrInUse) {
            break;
        }
    }
    result
}

/// An IPv6 socket also serves IPv4 where the options leave that open, unless IPv4 has a socket of its own
/// already: QEMU's rule.
fn listen_at(target: SocketAddr, inet: &InetAddress, options: ListenOptions) -> io::Result<OwnedFd> {
    let both = matches!((inet.ipv4, inet.ipv6), (None, None) | (Some(true), Some(true)));
    match open(target, inet.mptcp, !both, options) {
        Err(error) if both && target.is_ipv6() && error.kind() == io::ErrorKind::AddrInUse => {
            open(target, inet.mptcp, true, options)
        }
        result => result,
    }
}

fn open(target: SocketAddr, mptcp: bool, v6_only: bool, options: ListenOptions) -> io::Result<OwnedFd> {
    let fd = tcp_socket(target, mptcp)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if target.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, v6_only)?;
    }
    rustix::net::bind(&fd, &target)?;
    rustix::net::listen(&fd, options.backlog.into())?;
    Ok(fd)
}

fn listen_unix(unix: &UnixAddress, options: ListenOptions) -> Result<ListeningSocket, SocketError> {
    if unix.path.as_os_str().is_empty() && !unix.abstract_name {
        return listen_at_new_path(options);
    }
    let name = names::unix_sockaddr(unix)?;
    if !unix.abstract_name {
        remove_if_stale(&unix.path, &name)?;
    }
    bind_unix(unix, options).map_err(|error| SocketError::Listen {
        address: SocketAddress::Unix(unix.clone()).to_string(),
        attempts: vec![Attempt {
            address: unix.path.display().to_string(),
            error: error.into(),
        }],
    })
}

/// No path given: a new one in the temporary directory. Binding never follows or replaces what is there, so a
/// name that can be guessed does no harm.
fn listen_at_new_path(options: ListenOptions) -> Result<ListeningSocket, SocketError> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let mut last = None;
    for _ in 0..MAX_NAMES {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path: PathBuf = std::env::temp_dir().join(format!("qemu-socket-{}-{number}", std::process::id()));
        let unix = UnixAddress::new(path);
        names::unix_sockaddr(&unix)?;
        match bind_unix(&unix, options) {
            Ok(socket) => return Ok(socket),
            Err(error) => {
                last = Some(Attempt {
                    address: unix.path.display().to_string(),
                    error: error.into(),
                });
                if error != Errno::ADDRINUSE {
                    break;
                }
            }
        }
    }
    Err(SocketError::Listen {
        address: "unix:".to_owned(),
        attempts: last.into_iter().collect(),
    })
}

fn bind_unix(unix: &UnixAddress, options: ListenOptions) -> Result<ListeningSocket, Errno> {
    let name = names::unix_sockaddr(unix).map_err(|_| Errno::INVAL)?; // checked by both callers
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&fd, &name)?;
    let path = if unix.abstract_name {
        None
    } else {
        // Taken before listen(), so that a failure there removes the file again.
        Some(BoundPath::new(&unix.path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?)
    };
    rustix::net::listen(&fd, options.backlog.into())?;
    Ok(ListeningSocket {
        fd,
        address: SocketAddress::Unix(unix.clone()),
        options: None,
        _path: path,
    })
}
