//! Socket addresses, as text.

use std::fmt;
use std::str::FromStr;

use qio_opts::{Keyval, OptsError, Value, from_keyval, to_keyval};

use crate::address::{FdAddress, InetAddress, SocketAddress, UnixAddress, VsockAddress};
use crate::error::SocketError;

/// The longest host in `host:port` form, in bytes: the longest DNS name, and some.
const MAX_HOST: usize = 255;

/// The longest port in `host:port` form, in bytes.
const MAX_PORT: usize = 32;

impl FromStr for SocketAddress {
    type Err = SocketError;

    fn from_str(text: &str) -> Result<Self, SocketError> {
        parse(text).map_err(|fault| SocketError::InvalidAddress {
            text: text.to_owned(),
            reason: fault.0,
        })
    }
}

/// Why a text is no address, in words.
struct Fault(String);

impl From<OptsError> for Fault {
    fn from(error: OptsError) -> Self {
        Fault(error.to_string())
    }
}

fn fault<T>(reason: &str) -> Result<T, Fault> {
    Err(Fault(reason.to_owned()))
}

fn parse(text: &str) -> Result<SocketAddress, Fault> {
    if text.trim_start().starts_with('{') {
        return Ok(flatten(Value::from_json(text)?).into_type()?);
    }
    if let Some(rest) = text.strip_prefix("unix:") {
        let address: UnixAddress = from_keyval(&format!("path={rest}"), None)?;
        if address.path.as_os_str().is_empty() {
            return fault("the path is missing, write unix:/some/path");
        }
        return Ok(SocketAddress::Unix(address));
    }
    if let Some(rest) = text.strip_prefix("tcp:") {
        return inet(rest);
    }
    if let Some(rest) = text.strip_prefix("vsock:") {
        return vsock(rest);
    }
    if let Some(rest) = text.strip_prefix("fd:") {
        if rest.is_empty() {
            return fault("the descriptor is missing, write fd:NUMBER or fd:NAME");
        }
        return Ok(SocketAddress::Fd(FdAddress { str: rest.to_owned() }));
    }
    let first = text.split(',').next().unwrap_or_default();
    if first.contains('=') {
        Ok(from_keyval(text, None)?)
    } else {
        inet(text)
    }
}

/// The older nested form, `{"type":T,"data":{...}}`, in the shape of the newer flat one.
fn flatten(value: Value) -> Value {
    match value {
        Value::Map(mut map) if map.len() == 2 => match (map.remove("type"), map.remove("data")) {
            (Some(tag), Some(Value::Map(mut data))) if !data.contains_key("type") => {
                data.insert("type".to_owned(), tag);
                Value::Map(data)
            }
            (tag, data) => {
                map.extend(tag.map(|tag| ("type".to_owned(), tag)));
                map.extend(data.map(|data| ("data".to_owned(), data)));
                Value::Map(map)
            }
        },
        other => other,
    }
}

/// `host:port`, `[v6]:port` or `:port`, with options after a comma.
fn inet(text: &str) -> Result<SocketAddress, Fault> {
    let (place, options) = text.split_once(',').unwrap_or((text, ""));
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        match rest.split_once(']') {
            Some((host, after)) => match after.strip_prefix(':') {
                Some(port) => (host, port),
                None => return fault("after ']' there must be ':' and the port"),
            },
            None => return fault("there is no ']' to the '['"),
        }
    } else {
        match place.split_once(':') {
            Some(parts) => parts,
            None => return fault("expected HOST:PORT, or one of unix:PATH, vsock:CID:PORT, fd:NUMBER"),
        }
    };
    if port.contains(':') {
        return fault("there is more than one ':' before the port; write an IPv6 address as [ADDRESS]:PORT");
    }
    if port.is_empty() {
        return fault("the port is missing after ':'");
    }
    if host.len() > MAX_HOST || port.len() > MAX_PORT {
        return Err(Fault(format!(
            "the host may have {MAX_HOST} bytes, the port {MAX_PORT}"
        )));
    }
    let mut value = Keyval::new().bare_keys(true).parse(options)?;
    if let Value::Map(map) = &mut value {
        for (key, given) in [("host", host), ("port", port)] {
            if map
                .insert(key.to_owned(), Value::String(given.to_owned()))
                .is_some()
            {
                return Err(OptsError::DuplicateKey { key: key.to_owned() }.into());
            }
        }
    }
    Ok(SocketAddress::Inet(value.into_type()?))
}

fn vsock(text: &str) -> Result<SocketAddress, Fault> {
    let is_number = |text: &str| text.parse::<u32>().is_ok() || text == "-1";
    match text.split_once(':') {
        Some((cid, port)) if is_number(cid) && is_number(port) => Ok(SocketAddress::Vsock(VsockAddress {
            cid: cid.to_owned(),
            port: port.to_owned(),
        })),
        _ => fault("expected vsock:CID:PORT, both decimal numbers"),
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match short(self) {
            Some(text) => f.write_str(&text),
            // Only a path that is not UTF-8 has no keyval text.
            None => match (to_keyval(self, None), self) {
                (Ok(text), _) => f.write_str(&text),
                (Err(_), SocketAddress::Unix(unix)) => write!(f, "unix:{}", unix.path.display()),
                (Err(_), _) => Err(fmt::Error),
            },
        }
    }
}

/// The prefix form, if the parser would read it back as the same address.
fn short(address: &SocketAddress) -> Option<String> {
    match address {
        SocketAddress::Inet(inet) => {
            let fits = inet.host.len() <= MAX_HOST && inet.port.len() <= MAX_PORT;
            let plain = !inet.host.contains(['[', ']', ',']) && !inet.port.contains([',', ':']);
            if !fits || !plain || inet.port.is_empty() {
                return None;
            }
            let bare = InetAddress {
                host: String::new(),
                port: String::new(),
                ..inet.clone()
            };
            let options = to_keyval(&bare, None).ok()?;
            let options = options.strip_prefix("host=,port=")?;
            let (open, close) = if inet.host.contains(':') {
                ("[", "]")
            } else {
                ("", "")
            };
            Some(format!("tcp:{open}{}{close}:{}{options}", inet.host, inet.port))
        }
        SocketAddress::Unix(unix) if !unix.path.as_os_str().is_empty() => Some(format!(
            "unix:{}",
            to_keyval(unix, None).ok()?.strip_prefix("path=")?
        )),
        SocketAddress::Vsock(vsock) => {
            let text = format!("vsock:{}:{}", vsock.cid, vsock.port);
            text.parse::<SocketAddress>()
                .is_ok_and(|read| read == *address)
                .then_some(text)
        }
        SocketAddress::Fd(fd) if !fd.str.is_empty() => Some(format!("fd:{}", fd.str)),
        SocketAddress::Unix(_) | SocketAddress::Fd(_) => None,
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
