//! NBD URIs: `nbd://`, `nbds://`, `nbd+unix://`, `nbds+unix://` and their vsock kin.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use fluent_uri::Uri;
use fluent_uri::component::{Authority, Host};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use qio_socket::{SocketAddress, UnixAddress, VsockAddress};

use crate::cause::from_cause;
use crate::name::{ExportName, InvalidName};
use crate::negotiation::ClientTls;
use crate::wire::DEFAULT_PORT;

/// The address of an export, as the NBD URI document defines it.
///
/// | scheme | meaning |
/// |---|---|
/// | `nbd` | TCP in clear text |
/// | `nbds` | TCP, and TLS or nothing |
/// | `nbd+unix`, `nbds+unix` | the same over the unix socket named by `?socket=` |
/// | `nbd+vsock`, `nbds+vsock` | the same over vsock: parsed and printed, not connected to yet |
///
/// The path without its first `/` is the export's name, percent-decoded. Host and port default to
/// `localhost` and 10809. Query parameters: `socket` (a first byte of NUL, `%00`, means the abstract
/// namespace), `tls-certificates` (a directory, as libnbd has it), `tls-hostname`, `tls-verify-peer` (`0` or
/// `1`), `tls-type` (`x509` or `psk`), `tls-psk-file` and `tls-username` (the user of it, which may also stand before
/// an `@` in front of the host). Others are refused: the document wants them diagnosed, and a
/// misspelt security parameter must not be ignored.
///
/// ```
/// use qio_nbd::NbdUri;
///
/// let uri: NbdUri = "nbds+unix:///disk%201?socket=/run/nbd.sock&tls-hostname=example.com".parse()?;
/// assert_eq!(uri.export.as_str(), "disk 1");
/// assert_eq!(uri.address.to_string(), "unix:/run/nbd.sock");
/// assert_eq!(uri.to_string().parse(), Ok(uri));
/// # Ok::<(), qio_nbd::UriError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NbdUri {
    /// Where the server listens.
    pub address: SocketAddress,
    /// Whether the scheme asks for TLS.
    pub tls: ClientTls,
    /// The export; empty for the default one.
    pub export: ExportName,
    /// The user that a pre-shared key is for: the user part, or `tls-username`.
    pub username: Option<String>,
    /// A directory with `ca-cert.pem`, `client-cert.pem` and `client-key.pem`.
    pub tls_certificates: Option<PathBuf>,
    /// A file of pre-shared keys, used instead of certificates.
    pub tls_psk_file: Option<PathBuf>,
    /// The name to look for in the server's certificate, instead of the host.
    pub tls_hostname: Option<String>,
    /// Whether to verify the server's certificate; a client's own setting where not given.
    pub tls_verify_peer: Option<bool>,
}

/// Why a text is not an NBD URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// RFC 3986 says no.
    #[error("'{0}' is not a URI: {1}")]
    Syntax(String, String),
    /// Another kind of URI.
    #[error("'{0}' is not an NBD scheme: use nbd, nbds, nbd+unix or nbds+unix")]
    Scheme(String),
    /// The part after `//`.
    #[error("the host in the URI {0}")]
    Host(&'static str),
    /// The part after `:`.
    #[error("the port '{0}' in the URI is not a number from 1 to 65535")]
    Port(String),
    /// The part after the host.
    #[error("the export name in the URI is not possible: {0}")]
    Export(InvalidName),
    /// The part after `#`.
    #[error("an NBD URI has no '#fragment'; write %23 for a '#' in an export name")]
    Fragment,
    /// A parameter that has to be there.
    #[error("a {0} URI needs a query parameter: add '?socket=/path/of/the/socket'")]
    MissingSocket(&'static str),
    /// A parameter nobody knows.
    #[error(
        "the query parameter '{0}' in the URI is not known (known: socket, tls-certificates, tls-hostname, tls-psk-file, tls-username, tls-verify-peer, tls-type)"
    )]
    UnknownParameter(String),
    /// A parameter that makes no sense here.
    #[error("the query parameter '{name}' in the URI {what}")]
    Parameter {
        /// Its name.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

from_cause!(UriError::Export(InvalidName));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Unix,
    Vsock,
}

impl FromStr for NbdUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let uri = Uri::parse(text).map_err(|e| UriError::Syntax(crate::text::echo(text), e.to_string()))?;
        let scheme = uri.scheme().as_str().to_ascii_lowercase();
        let (transport, tls) = match scheme.as_str() {
            "nbd" => (Transport::Tcp, ClientTls::Off),
            "nbds" => (Transport::Tcp, ClientTls::Require),
            "nbd+unix" => (Transport::Unix, ClientTls::Off),
            "nbds+unix" => (Transport::Unix, ClientTls::Require),
            "nbd+vsock" => (Transport::Vsock, ClientTls::Off),
            "nbds+vsock" => (Transport::Vsock, ClientTls::Require),
            _ => return Err(UriError::Scheme(scheme)),
        };
        if uri.fragment().is_some() {
            return Err(UriError::Fragment);
        }
        let authority = uri.authority();
        let username = match authority.as_ref().and_then(Authority::userinfo) {
            Some(user) if user.as_str().contains(':') => {
                return Err(UriError::Host(
                    "must not have a password before it: it would be shown to everybody",
                ));
            }
            Some(user) => Some(decode(user.decode(), "user")?),
            None => None,
        };
        let host = match &authority {
            Some(authority) => match authority.host_parsed() {
                Host::RegName(name) => decode(name.decode(), "host")?,
                _ => authority
                    .host()
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned(),
            },
            None => String::new(),
        };
        if host.starts_with('-') || host.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(UriError::Host(
                "cannot start with '-' or contain spaces or control characters",
            ));
        }
        let port = match authority.as_ref().and_then(Authority::port) {
            Some(port) if !port.as_str().is_empty() => Some(
                port.as_str()
                    .parse()
                    .ok()
                    .filter(|port: &u16| *port != 0)
                    .ok_or_else(|| UriError::Port(port.as_str().to_owned()))?,
            ),
            _ => None,
        };
        let path = uri.path().decode().to_bytes();
        let export = ExportName::try_from(path.strip_prefix(b"/").unwrap_or(&path))?;

        let mut query = Query::default();
        if let Some(parameters) = uri.query() {
            for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
                let (name, value) = parameter
                    .split_once('=')
                    .unwrap_or((parameter, fluent_uri::pct_enc::EStr::EMPTY));
                query.add(&decode(name.decode(), "parameter")?, &value.decode().to_bytes())?;
            }
        }
        let address = match transport {
            Transport::Unix if !host.is_empty() || port.is_some() => {
                return Err(UriError::Host(
                    "makes no sense with a unix socket: write three slashes, nbd+unix:///",
                ));
            }
            Transport::Unix => {
                let scheme = if tls == ClientTls::Off {
                    "nbd+unix"
                } else {
                    "nbds+unix"
                };
                SocketAddress::Unix(query.socket.take().ok_or(UriError::MissingSocket(scheme))?)
            }
            Transport::Tcp => {
                let host = if host.is_empty() {
                    "localhost".to_owned()
                } else {
                    host
                };
                SocketAddress::tcp(host, port.unwrap_or(DEFAULT_PORT))
            }
            Transport::Vsock => SocketAddress::Vsock(VsockAddress {
                cid: if host.is_empty() { "2".to_owned() } else { host },
                port: port.unwrap_or(DEFAULT_PORT).to_string(),
            }),
        };
        if query.socket.is_some() {
            return Err(parameter(
                "socket",
                "makes sense with nbd+unix and nbds+unix only",
            ));
        }
        if tls == ClientTls::Off
            && let Some(name) = query.tls_parameter()
        {
            return Err(parameter(name, "needs a scheme with TLS: nbds or nbds+unix"));
        }
        let username = query.username(username)?;
        let Query {
            tls_certificates,
            tls_psk_file,
            tls_hostname,
            tls_verify_peer,
            ..
        } = query;
        Ok(NbdUri {
            address,
            tls,
            export,
            username,
            tls_certificates,
            tls_psk_file,
            tls_hostname,
            tls_verify_peer,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TlsType {
    X509,
    Psk,
}

#[derive(Debug, Default)]
struct Query {
    socket: Option<UnixAddress>,
    tls_certificates: Option<PathBuf>,
    tls_psk_file: Option<PathBuf>,
    tls_username: Option<String>,
    tls_hostname: Option<String>,
    tls_verify_peer: Option<bool>,
    tls_type: Option<TlsType>,
}

impl Query {
    fn add(&mut self, name: &str, value: &[u8]) -> Result<(), UriError> {
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let again = match name {
            "socket" => {
                let address = match value.strip_prefix(b"\0") {
                    Some(name) => UnixAddress::abstract_name(path(name)),
                    None if value.contains(&0) => return Err(parameter(name, "contains a NUL byte")),
                    None => UnixAddress::new(path(value)),
                };
                if value.is_empty() {
                    return Err(parameter(name, "is empty"));
                }
                self.socket.replace(address).is_some()
            }
            "tls-certificates" if value.is_empty() || value.contains(&0) => {
                return Err(parameter(name, "is not the path of a directory"));
            }
            "tls-certificates" => self.tls_certificates.replace(path(value)).is_some(),
            "tls-hostname" => {
                let host = str::from_utf8(value).map_err(|_| parameter(name, "is not valid UTF-8"))?;
                if host.is_empty() || host.starts_with('-') || host.chars().any(char::is_control) {
                    return Err(parameter(name, "is not a host name"));
                }
                self.tls_hostname.replace(host.to_owned()).is_some()
            }
            "tls-verify-peer" => match value {
                b"0" => self.tls_verify_peer.replace(false).is_some(),
                b"1" => self.tls_verify_peer.replace(true).is_some(),
                _ => return Err(parameter(name, "must be 0 or 1")),
            },
            "tls-psk-file" if value.is_empty() || value.contains(&0) => {
                return Err(parameter(name, "is not the path of a file"));
            }
            "tls-psk-file" => self.tls_psk_file.replace(path(value)).is_some(),
            "tls-username" => {
                let user = str::from_utf8(value).map_err(|_| parameter(name, "is not valid UTF-8"))?;
                if user.is_empty() || user.chars().any(char::is_control) {
                    return Err(parameter(name, "is not a user name"));
                }
                self.tls_username.replace(user.to_owned()).is_some()
            }
            "tls-type" => match value {
                b"x509" => self.tls_type.replace(TlsType::X509).is_some(),
                b"psk" => self.tls_type.replace(TlsType::Psk).is_some(),
                _ => return Err(parameter(name, "must be x509 or psk")),
            },
            _ => return Err(UriError::UnknownParameter(crate::text::echo(name))),
        };
        if again {
            Err(parameter(name, "is given twice"))
        } else {
            Ok(())
        }
    }

    /// The user, and whether what was said of keys and of certificates goes together.
    fn username(&self, user: Option<String>) -> Result<Option<String>, UriError> {
        if self.tls_psk_file.is_some() {
            if self.tls_type == Some(TlsType::X509) {
                return Err(parameter("tls-psk-file", "contradicts tls-type=x509"));
            }
            if self.tls_certificates.is_some() {
                return Err(parameter(
                    "tls-psk-file",
                    "contradicts tls-certificates: give one of them",
                ));
            }
            if self.tls_verify_peer.is_some() {
                return Err(parameter(
                    "tls-verify-peer",
                    "has no meaning with tls-psk-file: a key always proves itself",
                ));
            }
        } else if self.tls_type == Some(TlsType::Psk) {
            return Err(parameter(
                "tls-type",
                "is psk, so there must be a tls-psk-file as well",
            ));
        } else if self.tls_username.is_some() {
            return Err(parameter(
                "tls-username",
                "is the user of a tls-psk-file, and there is none",
            ));
        }
        match (&self.tls_username, user) {
            (Some(_), Some(_)) => Err(parameter(
                "tls-username",
                "names the user again that stands before the '@'",
            )),
            (name, user) => Ok(name.clone().or(user)),
        }
    }

    fn tls_parameter(&self) -> Option<&'static str> {
        [
            ("tls-certificates", self.tls_certificates.is_some()),
            ("tls-hostname", self.tls_hostname.is_some()),
            ("tls-verify-peer", self.tls_verify_peer.is_some()),
            ("tls-psk-file", self.tls_psk_file.is_some()),
            ("tls-username", self.tls_username.is_some()),
            ("tls-type", self.tls_type.is_some()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }
}

fn parameter(name: &str, what: &'static str) -> UriError {
    UriError::Parameter {
        name: name.to_owned(),
        what,
    }
}

fn decode(text: fluent_uri::pct_enc::Decode<'_>, part: &'static str) -> Result<String, UriError> {
    text.to_string()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| UriError::Syntax(format!("(its {part})"), "it is not valid UTF-8".to_owned()))
}

/// What needs no encoding: unreserved characters, and the slashes of paths.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');
/// The same for a host or user, where a slash would end it.
const PLAIN_HOST: &AsciiSet = &PLAIN.add(b'/');

impl fmt::Display for NbdUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls == ClientTls::Require {
            "nbds"
        } else {
            "nbd"
        })?;
        let user = |f: &mut fmt::Formatter<'_>| match &self.username {
            Some(user) => write!(f, "{}@", percent_encode(user.as_bytes(), PLAIN_HOST)),
            None => Ok(()),
        };
        let mut query: Vec<(&str, Vec<u8>)> = Vec::new();
        match &self.address {
            SocketAddress::Inet(inet) => {
                f.write_str("://")?;
                user(f)?;
                if inet.host.contains(':') {
                    write!(f, "[{}]", inet.host)?;
                } else {
                    write!(f, "{}", percent_encode(inet.host.as_bytes(), PLAIN_HOST))?;
                }
                if inet.port != DEFAULT_PORT.to_string() {
                    write!(f, ":{}", inet.port)?;
                }
            }
            SocketAddress::Vsock(vsock) => {
                f.write_str("+vsock://")?;
                user(f)?;
                write!(f, "{}:{}", vsock.cid, vsock.port)?;
            }
            SocketAddress::Unix(unix) => {
                f.write_str("+unix://")?;
                user(f)?;
                let mut socket = if unix.abstract_name { vec![0] } else { Vec::new() };
                socket.extend(unix.path.as_os_str().as_bytes());
                query.push(("socket", socket));
            }
            // Not expressible as a URI; the address parser's form is the most helpful thing to show.
            SocketAddress::Fd(_) => write!(f, "+fd://{}", self.address)?,
        }
        write!(f, "/{}", percent_encode(self.export.as_str().as_bytes(), PLAIN))?;
        if let Some(directory) = &self.tls_certificates {
            query.push(("tls-certificates", directory.as_os_str().as_bytes().to_vec()));
        }
        if let Some(file) = &self.tls_psk_file {
            query.push(("tls-psk-file", file.as_os_str().as_bytes().to_vec()));
        }
        if let Some(name) = &self.tls_hostname {
            query.push(("tls-hostname", name.clone().into_bytes()));
        }
        if let Some(verify) = self.tls_verify_peer {
            query.push((
                "tls-verify-peer",
                if verify { b"1".to_vec() } else { b"0".to_vec() },
            ));
        }
        for (index, (name, value)) in query.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            write!(f, "{separator}{name}={}", percent_encode(value, PLAIN))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NbdUri {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn error(text: &str) -> String {
        text.parse::<NbdUri>().expect_err(text).to_string()
    }

    #[test]
    fn the_examples_of_the_uri_document() {
        for (text, export) in [
            ("nbd://example.com/disk", "disk"),
            ("nbd+unix:///disk?socket=sock", "disk"),
            ("nbd://example.com/", ""),
            ("nbd://example.com", ""),
            ("nbd://example.com//disk", "/disk"),
            ("nbd://example.com/hello%20world", "hello world"),
        ] {
            assert_eq!(parse(text).export.as_str(), export, "{text}");
        }
        let SocketAddress::Unix(unix) = parse("nbd+unix:///?socket=%00/abstract").address else {
            panic!()
        };
        assert!(unix.abstract_name);
        assert_eq!(unix.path, PathBuf::from("/abstract"));
    }

    #[test]
    fn defaults_and_forms_of_hosts() {
        assert_eq!(parse("nbd:///x").address, SocketAddress::tcp("localhost", 10809));
        assert_eq!(parse("nbd://h:/").address, SocketAddress::tcp("h", 10809));
        assert_eq!(parse("nbds://[::1]:9/x").address, SocketAddress::tcp("::1", 9));
        assert_eq!(parse("NBDS://127.0.0.1").tls, ClientTls::Require);
        assert_eq!(parse("nbd://h").tls, ClientTls::Off);
        assert!(matches!(
            parse("nbd+vsock://2:5/x").address,
            SocketAddress::Vsock(_)
        ));
    }

    #[test]
    fn printing_gives_what_was_parsed() {
        for text in [
            "nbd://localhost/",
            "nbds://[::1]:10810/a/b%20c%3F",
            "nbd+unix:///x?socket=/run/a%26b",
            "nbd+unix:///?socket=%00abstract",
            "nbds+unix://alice@/x?socket=rel.sock&tls-certificates=/etc/pki&tls-hostname=h.example&tls-verify-peer=0",
            "nbd+vsock://2:10809/%C3%A4%23",
            "nbds://bob@h/x?tls-psk-file=/run/keys.psk",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn a_user_has_two_places() {
        for text in [
            "nbds://alice@h/?tls-psk-file=/k&tls-type=psk",
            "nbds://h/?tls-username=alice&tls-psk-file=/k",
        ] {
            let uri = parse(text);
            assert_eq!(uri.username.as_deref(), Some("alice"));
            assert_eq!(uri.to_string(), "nbds://alice@h/?tls-psk-file=/k");
        }
    }

    #[test]
    fn errors_name_the_part() {
        assert!(error("/tmp/disk").contains("not a URI"));
        assert!(error("http://x/").contains("'http'"));
        assert!(error("nbd://h:99999/").contains("99999"));
        assert!(error("nbd://h:0/").contains("'0'"));
        assert!(error("nbd+unix:///x").contains("socket="));
        assert!(error("nbd+unix://host/x?socket=/s").contains("three slashes"));
        assert!(error("nbd://h/x?socket=/s").contains("nbd+unix"));
        assert!(error("nbds://h/?tls-psk-file=").contains("path of a file"));
        assert!(error("nbds://h/?tls-psk-file=k&tls-certificates=d").contains("give one"));
        assert!(error("nbds://h/?tls-psk-file=k&tls-type=x509").contains("contradicts"));
        assert!(error("nbds://h/?tls-psk-file=k&tls-verify-peer=0").contains("tls-verify-peer"));
        assert!(error("nbds://u@h/?tls-psk-file=k&tls-username=v").contains("'@'"));
        assert!(error("nbds://h/?tls-type=psk").contains("tls-psk-file"));
        assert!(error("nbds://h/?tls-username=u").contains("there is none"));
        assert!(error("nbd://h/?tls-psk-file=k").contains("nbds"));
        assert!(error("nbds://h/?tls-hostnam=k").contains("tls-hostnam"));
        assert!(error("nbd://h/?tls-hostname=k").contains("nbds"));
        assert!(error("nbds://h/?tls-hostname=a&tls-hostname=b").contains("twice"));
        assert!(error("nbds://h/?tls-verify-peer=no").contains("0 or 1"));
        assert!(error("nbd://h/a%00b").contains("NUL"));
        assert!(error("nbd://h/%ff").contains("UTF-8"));
        assert!(error("nbd://h/a#b").contains("%23"));
        assert!(error("nbd://u:secret@h/").contains("password"));
        assert!(!error("nbd://u:secret@h/").contains("secret"));
    }

    #[test]
    fn nbdc_09_hosts_that_would_be_options_or_control_characters() {
        for text in [
            "nbd://-oProxyCommand/",
            "nbd://%2doX/",
            "nbd://a%0ab/",
            "nbd://a%20b/",
            "nbds://h/?tls-hostname=-x",
        ] {
            assert!(text.parse::<NbdUri>().is_err(), "{text}");
        }
    }
}
