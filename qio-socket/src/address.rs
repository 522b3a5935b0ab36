//! Socket addresses, as structs.

use std::path::PathBuf;

use qio_opts::lenient;
use serde::{Deserialize, Serialize};

use crate::error::SocketError;

/// Where to connect or listen: QEMU's `SocketAddress`.
///
/// It is written in four ways, all of which [`parse`](str::parse) takes:
///
/// | form | examples |
/// |---|---|
/// | host and port | `localhost:10809`, `[::1]:10809`, `:10809,ipv6=off`, `tcp:host:port` |
/// | path | `unix:/run/nbd.sock`, `unix:name,abstract=on,tight=off` |
/// | keyval | `type=inet,host=localhost,port=10809`, `type=unix,path=/run/nbd.sock` |
/// | JSON | `{"type":"inet","host":"localhost","port":"10809"}`, and the older form with `"data":{...}` |
///
/// A comma inside a path is written twice. serde (a field of a configuration struct) takes the flat form. `Display` gives the shortest form that reads back as the same address.
///
/// ```
/// use qio_socket::SocketAddress;
///
/// let address: SocketAddress = r#"{"type":"inet","host":"::1","port":"10809"}"#.parse()?;
/// assert_eq!(address, SocketAddress::tcp("::1", 10809));
/// assert_eq!(address.to_string(), "tcp:[::1]:10809");
/// # Ok::<(), qio_socket::SocketError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum SocketAddress {
    /// TCP over IPv4 or IPv6.
    #[serde(deserialize_with = "lenient")]
    Inet(InetAddress),
    /// A unix domain socket.
    #[serde(deserialize_with = "lenient")]
    Unix(UnixAddress),
    /// A virtual machine's socket. Parsed and printed; connecting comes later.
    #[serde(deserialize_with = "lenient")]
    Vsock(VsockAddress),
    /// A descriptor that is already open. Parsed and printed; see
    /// [`SocketChannel::from_fd`](crate::SocketChannel::from_fd) for using one.
    #[serde(deserialize_with = "lenient")]
    Fd(FdAddress),
}

/// A host and port, with what may be said about how to use them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InetAddress {
    /// A name or a numeric address, without brackets. Empty: every address to listen on, loopback to connect to.
    pub host: String,
    /// A number or a service's name. To listen, `0` lets the kernel choose.
    pub port: String,
    /// Do not look names up: host and port must be numbers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub numeric: bool,
    /// To listen: try the ports from `port` to this one, both included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u16>,
    /// Use IPv4 (`Some(true)`), or do not (`Some(false)`). See [`ipv6`](InetAddress::ipv6) for both together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<bool>,
    /// Use IPv6, or do not. Neither or both given: whatever the host resolves to. One on: that one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<bool>,
    /// Let the kernel probe an idle peer (`SO_KEEPALIVE`); on a listener, for every accepted connection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_alive: bool,
    /// Unanswered probes before the connection is given up; 0 or absent: the system's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive_count: Option<u32>,
    /// Seconds of silence before the first probe; 0 or absent: the system's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive_idle: Option<u32>,
    /// Seconds between probes; 0 or absent: the system's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive_interval: Option<u32>,
    /// Use Multipath TCP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mptcp: bool,
}

/// A unix domain socket's name: a path, or a name in Linux's abstract namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UnixAddress {
    /// The path, at most 107 bytes. Empty: to listen, a new name in the temporary directory.
    pub path: PathBuf,
    /// `path` is a name in the abstract namespace, not a file.
    #[serde(rename = "abstract", default, skip_serializing_if = "std::ops::Not::not")]
    pub abstract_name: bool,
    /// The abstract name ends where it ends; otherwise it is padded with NULs to the full length, as some
    /// programs do, and is another name.
    #[serde(default = "on", skip_serializing_if = "is_on")]
    pub tight: bool,
}

/// A virtual machine's socket address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VsockAddress {
    /// The machine, a decimal number; 2 is the host.
    pub cid: String,
    /// The port, a decimal number.
    pub port: String,
}

/// A descriptor, by number or by a name given to it earlier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FdAddress {
    /// The number or the name.
    pub str: String,
}

fn on() -> bool {
    true
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes the field by reference"
)]
fn is_on(value: &bool) -> bool {
    *value
}

impl InetAddress {
    /// An address with nothing said beyond host and port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        InetAddress {
            host: host.into(),
            port: port.to_string(),
            ..Self::default()
        }
    }

    pub(crate) fn family(&self) -> Result<Family, SocketError> {
        match (self.ipv4, self.ipv6) {
            (Some(false), Some(false)) => Err(SocketError::InvalidAddress {
                text: SocketAddress::Inet(self.clone()).to_string(),
                reason: "ipv4=off and ipv6=off leave no address family: turn one on".to_owned(),
            }),
            (None, None) | (Some(true), Some(true)) => Ok(Family::Any),
            (Some(true), _) | (None, Some(false)) => Ok(Family::V4),
            (_, Some(true)) | (Some(false), None) => Ok(Family::V6),
        }
    }
}

/// The address families that an [`InetAddress`] may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Any,
    V4,
    V6,
}

impl Family {
    pub(crate) fn admits(self, address: &std::net::SocketAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }
}

impl UnixAddress {
    /// The socket at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        UnixAddress {
            path: path.into(),
            abstract_name: false,
            tight: true,
        }
    }

    /// A name in the abstract namespace.
    pub fn abstract_name(name: impl Into<PathBuf>) -> Self {
        UnixAddress {
            path: name.into(),
            abstract_name: true,
            tight: true,
        }
    }
}

impl SocketAddress {
    /// TCP to a host (a name or a number without brackets) and port.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        SocketAddress::Inet(InetAddress::new(host, port))
    }

    /// The unix socket at a path.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        SocketAddress::Unix(UnixAddress::new(path))
    }

    /// Can only this machine reach it? True of unix sockets, of numeric loopback addresses, and of `localhost`.
    ///
    /// Names are not looked up: a name that happens to resolve to a loopback address is not counted. For a
    /// descriptor the answer is no, because it is not known.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            SocketAddress::Unix(_) => true,
            SocketAddress::Inet(inet) => {
                inet.host == "localhost"
                    || inet
                        .host
                        .parse()
                        .is_ok_and(|ip: std::net::IpAddr| ip.to_canonical().is_loopback())
            }
            SocketAddress::Vsock(_) | SocketAddress::Fd(_) => false,
        }
    }
}

impl From<InetAddress> for SocketAddress {
    fn from(address: InetAddress) -> Self {
        SocketAddress::Inet(address)
    }
}

impl From<UnixAddress> for SocketAddress {
    fn from(address: UnixAddress) -> Self {
        SocketAddress::Unix(address)
    }
}

impl From<std::net::SocketAddr> for SocketAddress {
    fn from(address: std::net::SocketAddr) -> Self {
        let host = match address {
            std::net::SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            other => other.ip().to_string(),
        };
        SocketAddress::tcp(host, address.port())
    }
}
