//! Names to numbers: hosts through the system's resolver, ports through the list of services.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::address::{Family, InetAddress, SocketAddress};
use crate::error::SocketError;

/// What an empty host stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// This machine.
    Connect,
    /// All of this machine's addresses.
    Listen,
}

/// Resolution that is complete, or the name that is left to ask the system about.
pub(crate) enum Lookup {
    Done(Vec<SocketAddr>),
    Name { host: String, port: u16 },
}

/// Does all that needs no resolver.
pub(crate) fn begin(address: &InetAddress, purpose: Purpose) -> Result<Lookup, SocketError> {
    let port = port(address)?;
    let family = address.family()?;
    let literal = address.host.parse::<IpAddr>();
    let addresses = match literal {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) if address.host.is_empty() => {
            let both_on = address.ipv4 == Some(true) && address.ipv6 == Some(true);
            match purpose {
                // One socket serves both families then.
                Purpose::Listen if both_on => vec![SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)],
                Purpose::Listen => vec![
                    SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
                    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
                ],
                Purpose::Connect => vec![
                    SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port),
                    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
                ],
            }
        }
        Err(_) if address.numeric && !address.host.contains('%') => {
            return Err(invalid(
                address,
                format!("numeric=on, but '{}' is not an IP address", address.host),
            ));
        }
        Err(_) => {
            return Ok(Lookup::Name {
                host: address.host.clone(),
                port,
            });
        }
    };
    admitted(address, family, addresses).map(Lookup::Done)
}

/// Asks the system's resolver. Blocks for as long as that takes.
pub(crate) fn ask_system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(Iterator::collect)
}

/// Judges what the resolver said.
pub(crate) fn finish(
    address: &InetAddress,
    answer: io::Result<Vec<SocketAddr>>,
) -> Result<Vec<SocketAddr>, SocketError> {
    let answer = answer.map_err(|source| SocketError::Resolve {
        host: address.host.clone(),
        source,
    })?;
    admitted(address, address.family()?, answer)
}

/// Resolves, giving up at the deadline. `Ok(None)` means that it passed.
///
/// The system's resolver cannot be interrupted, so under a deadline it runs on a thread of its own, which is
/// left to finish by itself.
pub(crate) fn resolve(
    address: &InetAddress,
    purpose: Purpose,
    deadline: Option<Instant>,
) -> Result<Option<Vec<SocketAddr>>, SocketError> {
    let (host, port) = match begin(address, purpose)? {
        Lookup::Done(addresses) => return Ok(Some(addresses)),
        Lookup::Name { host, port } => (host, port),
    };
    let Some(deadline) = deadline else {
        return finish(address, ask_system(&host, port)).map(Some);
    };
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("qio-resolve".to_owned())
        .spawn(move || {
            // The receiver is gone when the deadline has passed; nobody wants the answer then.
            let _ = sender.send(ask_system(&host, port));
        })
        .map_err(SocketError::system("starting a thread to look a host up"))?;
    match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(answer) => finish(address, answer).map(Some),
        Err(_) => Ok(None),
    }
}

fn admitted(
    address: &InetAddress,
    family: Family,
    mut addresses: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, SocketError> {
    addresses.retain(|candidate| family.admits(candidate));
    if addresses.is_empty() {
        let wanted = match family {
            Family::Any => "IP",
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        return Err(SocketError::NoSuchFamily {
            host: address.host.clone(),
            wanted,
        });
    }
    Ok(addresses)
}

fn invalid(address: &InetAddress, reason: String) -> SocketError {
    SocketError::InvalidAddress {
        text: SocketAddress::Inet(address.clone()).to_string(),
        reason,
    }
}

fn port(address: &InetAddress) -> Result<u16, SocketError> {
    let text = &address.port;
    let all_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if all_digits {
        let out_of_range = |_| invalid(address, format!("the port '{text}' is above 65535"));
        return text.parse().map_err(out_of_range);
    }
    if address.numeric {
        return Err(invalid(
            address,
            format!("numeric=on, but the port '{text}' is not a number"),
        ));
    }
    let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
    find_service(&services, text).ok_or_else(|| {
        invalid(
            address,
            format!("the port '{text}' is neither a number nor a TCP service listed in /etc/services"),
        )
    })
}

/// Finds a TCP service's port in the text of `services(5)`.
fn find_service(services: &str, name: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let official = words.next()?;
        let (port, protocol) = words.next()?.split_once('/')?;
        let named = official == name || words.any(|alias| alias == name);
        (named && protocol == "tcp").then(|| port.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(text: &str, purpose: Purpose) -> Result<Vec<String>, String> {
        let SocketAddress::Inet(inet) = text.parse().unwrap() else {
            panic!()
        };
        match begin(&inet, purpose) {
            Ok(Lookup::Done(list)) => Ok(list.iter().map(ToString::to_string).collect()),
            Ok(Lookup::Name { host, .. }) => Err(format!("ask for {host}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn what_needs_no_resolver() {
        use Purpose::{Connect, Listen};
        assert_eq!(done("127.0.0.1:1", Connect).unwrap(), ["127.0.0.1:1"]);
        assert_eq!(done("[::1]:1", Connect).unwrap(), ["[::1]:1"]);
        assert_eq!(done(":1", Connect).unwrap(), ["[::1]:1", "127.0.0.1:1"]);
        assert_eq!(done(":1", Listen).unwrap(), ["0.0.0.0:1", "[::]:1"]);
        assert_eq!(done(":1,ipv4", Listen).unwrap(), ["0.0.0.0:1"]);
        assert_eq!(done(":1,ipv4,ipv6", Listen).unwrap(), ["[::]:1"]);
        assert_eq!(
            done("host.example:1", Connect).unwrap_err(),
            "ask for host.example"
        );
        assert!(
            done("host.example:1,numeric", Connect)
                .unwrap_err()
                .contains("not an IP address")
        );
        assert!(
            done("127.0.0.1:1,ipv4=off", Connect)
                .unwrap_err()
                .contains("has no IPv6 address")
        );
        assert!(done("[::1]:65536", Connect).unwrap_err().contains("above 65535"));
        assert!(
            done("[::1]:no-such-service", Connect)
                .unwrap_err()
                .contains("/etc/services")
        );
        assert!(
            done("[::1]:nbd,numeric", Connect)
                .unwrap_err()
                .contains("not a number")
        );
    }

    #[test]
    fn services_are_found_by_name_and_alias() {
        let text = "# comment\nnbd  10809/tcp  # Linux Network Block Device\ndns 53/udp\ndns 53/tcp domain\nbad\nx y/tcp";
        assert_eq!(find_service(text, "nbd"), Some(10809));
        assert_eq!(find_service(text, "domain"), Some(53));
        assert_eq!(find_service(text, "Linux"), None);
        assert_eq!(find_service(text, "x"), None);
        assert_eq!(find_service(text, "bad"), None);
    }

    #[test]
    fn a_deadline_that_has_passed_gives_nothing() {
        let inet = InetAddress::new("localhost", 1);
        let answer = resolve(&inet, Purpose::Connect, Some(Instant::now())).unwrap();
        // The thread may have been quick; what must not happen is an error or a hang.
        assert!(answer.is_none_or(|list| !list.is_empty()));
    }
}
