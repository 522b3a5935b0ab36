//! Listening on several addresses, and the files of unix sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use qio_channel::{Channel, ChannelExt};
use qio_socket::{
    ConnectOptions, InetAddress, ListenOptions, Listener, SocketAddress, SocketChannel, SocketError,
    UnixAddress, connect,
};
use rustix::net::sockopt;

fn bind(addresses: &[SocketAddress]) -> Result<Listener, SocketError> {
    Listener::bind(addresses, &ListenOptions::default())
}

fn dial(address: &SocketAddress) -> SocketChannel {
    connect(address, &ConnectOptions::default()).unwrap()
}

fn port(address: &SocketAddress) -> u16 {
    let SocketAddress::Inet(inet) = address else {
        panic!("{address}")
    };
    inet.port.parse().unwrap()
}

#[test]
fn several_addresses_are_accepted_from_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let listener = bind(&[
        SocketAddress::tcp("127.0.0.1", 0),
        SocketAddress::tcp("::1", 0),
        SocketAddress::unix(dir.path().join("s")),
        UnixAddress::abstract_name(format!("qio-listener-{}", std::process::id())).into(),
    ])
    .unwrap();
    let addresses: Vec<_> = listener.local_addresses().cloned().collect();
    assert_eq!(addresses.len(), 4);
    assert!(listener.try_accept().unwrap().is_none());

    let mut clients: Vec<_> = addresses.iter().map(dial).collect();
    for (client, name) in clients.iter_mut().zip(["four", "six", "path", "abstract"]) {
        client.write_all(name.as_bytes()).unwrap();
    }
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let mut server = listener.accept().unwrap();
        assert!(
            addresses.contains(server.local_address().unwrap()),
            "{:?}",
            server.local_address()
        );
        let mut name = [0; 8];
        let n = server.read(&mut name).unwrap();
        seen.insert(String::from_utf8(name[..n].to_vec()).unwrap());
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        ["abstract", "four", "path", "six"]
    );
    assert!(listener.try_accept().unwrap().is_none());
}

/// One socket with a long queue does not keep the others waiting.
#[test]
fn sockets_take_turns() {
    let listener = bind(&[
        SocketAddress::tcp("127.0.0.1", 0),
        SocketAddress::tcp("127.0.0.1", 0),
    ])
    .unwrap();
    let addresses: Vec<_> = listener.local_addresses().cloned().collect();
    let _busy: Vec<_> = (0..20).map(|_| dial(&addresses[0])).collect();
    let _single = dial(&addresses[1]);
    let first_three: Vec<_> = (0..3).map(|_| listener.accept().unwrap()).collect();
    assert!(
        first_three
            .iter()
            .any(|server| server.local_address() == Some(&addresses[1]))
    );
}

#[test]
fn accepted_channels_block_and_are_set_up() {
    let listener = bind(&["127.0.0.1:0,keep-alive,keep-alive-idle=77".parse().unwrap()]).unwrap();
    let mut client = dial(listener.local_addresses().next().unwrap());
    let mut server = listener.accept().unwrap();
    use std::os::fd::AsFd;
    assert!(sockopt::tcp_nodelay(server.as_fd()).unwrap());
    assert!(sockopt::socket_keepalive(server.as_fd()).unwrap());
    assert_eq!(sockopt::tcp_keepidle(server.as_fd()).unwrap().as_secs(), 77);
    let echo = std::thread::spawn(move || {
        let mut text = [0; 2];
        server.read_exact(&mut text).map(|()| text)
    });
    client.write_all(b"hi").unwrap();
    assert_eq!(&echo.join().unwrap().unwrap(), b"hi");
    assert_eq!(client.info().kind, "tcp");
}

#[test]
fn a_host_left_out_means_every_address() {
    let listener = bind(&[SocketAddress::tcp("", 0)]).unwrap();
    let ports: BTreeSet<_> = listener.local_addresses().map(port).collect();
    assert_eq!(ports.len(), 1, "both families on one port: {ports:?}");
    let port = ports.into_iter().next().unwrap();
    for host in ["127.0.0.1", "::1", ""] {
        let _client = dial(&SocketAddress::tcp(host, port));
        listener.accept().unwrap();
    }
}

#[test]
fn one_socket_for_both_families_or_for_one() {
    let both = bind(&["[::]:0,ipv4,ipv6".parse().unwrap()]).unwrap();
    let at = |listener: &Listener| port(listener.local_addresses().next().unwrap());
    dial(&SocketAddress::tcp("127.0.0.1", at(&both)));
    let six = bind(&["[::]:0,ipv6".parse().unwrap()]).unwrap();
    dial(&SocketAddress::tcp("::1", at(&six)));
    let options = ConnectOptions::default();
    assert!(connect(&SocketAddress::tcp("127.0.0.1", at(&six)), &options).is_err());
}

#[test]
fn a_range_of_ports_is_searched() {
    // Holds a port whose successor is free as well.
    let (held, first) = (0..100)
        .find_map(|_| {
            let held = bind(&[SocketAddress::tcp("127.0.0.1", 0)]).unwrap();
            let first = port(held.local_addresses().next().unwrap());
            let free = first < u16::MAX && bind(&[SocketAddress::tcp("127.0.0.1", first + 1)]).is_ok();
            free.then_some((held, first))
        })
        .expect("two free ports in a row");
    let to = |to| {
        SocketAddress::Inet(InetAddress {
            to: Some(to),
            ..InetAddress::new("127.0.0.1", first)
        })
    };
    let error = bind(&[to(first)]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("127.0.0.1:{first}: Address already in use")),
        "{error}"
    );
    let found = bind(&[to(first.saturating_add(50))]).unwrap();
    assert!(port(found.local_addresses().next().unwrap()) > first);
    assert!(
        bind(&[to(first - 1)])
            .unwrap_err()
            .to_string()
            .contains("below the port")
    );
    drop(held);
}

#[test]
fn nothing_stays_behind_when_one_address_fails() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let holder = bind(&[SocketAddress::tcp("127.0.0.1", 0)]).unwrap();
    let taken = holder.local_addresses().next().unwrap().clone();
    assert!(bind(&[SocketAddress::unix(&path), taken]).is_err());
    assert!(!path.exists());
    assert!(matches!(bind(&[]), Err(SocketError::NoAddress)));
    assert!(matches!(
        bind(&["fd:3".parse().unwrap()]),
        Err(SocketError::Unsupported { .. })
    ));
}

#[test]
fn a_stale_unix_socket_is_replaced_and_ours_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    drop(UnixListener::bind(&path).unwrap()); // leaves its file
    assert!(path.exists());
    let listener = bind(&[SocketAddress::unix(&path)]).unwrap();
    dial(&SocketAddress::unix(&path));
    listener.accept().unwrap();
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn a_live_unix_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let live = bind(&[SocketAddress::unix(&path)]).unwrap();
    let error = bind(&[SocketAddress::unix(&path)]).unwrap_err();
    assert!(matches!(error, SocketError::PathInUse { .. }), "{error}");
    dial(&SocketAddress::unix(&path));
    // The probe is seen as a client that left; then comes the real one.
    assert_eq!(live.accept().unwrap().read(&mut [0]).unwrap(), 0);
    live.accept().unwrap();
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), b"precious").unwrap();
    fs::create_dir(at("dir")).unwrap();
    std::os::unix::fs::symlink(at("nowhere"), at("link")).unwrap();
    let _datagram = UnixDatagram::bind(at("datagram")).unwrap();
    for name in ["file", "dir", "link", "datagram"] {
        let error = bind(&[SocketAddress::unix(at(name))]).unwrap_err();
        assert!(
            matches!(error, SocketError::PathNotASocket { .. }),
            "{name}: {error}"
        );
        assert!(fs::symlink_metadata(at(name)).is_ok(), "{name} is still there");
    }
    assert_eq!(fs::read(at("file")).unwrap(), b"precious");
    assert!(bind(&[SocketAddress::unix(at("missing/s"))]).is_err());
}

#[test]
fn a_file_that_is_not_ours_any_more_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let first = bind(&[SocketAddress::unix(&path)]).unwrap();
    fs::remove_file(&path).unwrap();
    let _second = UnixListener::bind(&path).unwrap();
    drop(first);
    assert!(path.exists(), "the second listener's");
}

#[test]
fn an_empty_path_means_a_new_one() {
    let (one, two) = (
        bind(&[SocketAddress::unix("")]).unwrap(),
        bind(&[SocketAddress::unix("")]).unwrap(),
    );
    let at = |listener: &Listener| listener.local_addresses().next().unwrap().clone();
    assert_ne!(at(&one), at(&two));
    dial(&at(&one));
    one.accept().unwrap();
    let SocketAddress::Unix(unix) = at(&one) else {
        panic!()
    };
    drop(one);
    assert!(!unix.path.exists());
}

#[test]
fn abstract_names_tight_and_padded_are_different() {
    let name = format!("qio-tight-{}", std::process::id());
    let tight: SocketAddress = UnixAddress::abstract_name(&name).into();
    let padded: SocketAddress = UnixAddress {
        tight: false,
        ..UnixAddress::abstract_name(&name)
    }
    .into();
    let listeners = bind(&[tight.clone(), padded.clone()]).unwrap();
    for address in [tight, padded] {
        let client = dial(&address);
        let server = listeners.accept().unwrap();
        assert_eq!(client.peer_address(), Some(&address));
        assert_eq!(server.local_address(), Some(&address));
    }
}

/// The kernel lets a client bind to a path of 108 bytes; what it then says of the peer's name has 109.
#[test]
fn io_34_a_peer_at_the_longest_path_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let listener = bind(&[SocketAddress::unix(dir.path().join("s"))]).unwrap();
    let room = 108 - dir.path().as_os_str().len() - 1;
    let long = dir.path().join("p".repeat(room));
    let fd = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(
        &fd,
        &rustix::net::SocketAddrUnix::new(long.as_os_str().as_bytes()).unwrap(),
    )
    .unwrap();
    let SocketAddress::Unix(at) = listener.local_addresses().next().unwrap() else {
        panic!()
    };
    rustix::net::connect(
        &fd,
        &rustix::net::SocketAddrUnix::new(at.path.as_os_str().as_bytes()).unwrap(),
    )
    .unwrap();
    let server = listener.accept().unwrap();
    assert_eq!(server.peer_address(), Some(&SocketAddress::unix(&long)));
}

#[test]
fn io_34_long_paths_are_refused_before_anything_is_done() {
    let long = SocketAddress::unix(Path::new("/tmp").join("p".repeat(104)));
    let error = bind(std::slice::from_ref(&long)).unwrap_err();
    assert!(
        matches!(
            error,
            SocketError::PathTooLong {
                length: 109,
                limit: 107,
                ..
            }
        ),
        "{error}"
    );
    let error = connect(&long, &ConnectOptions::default()).unwrap_err();
    assert!(matches!(error, SocketError::PathTooLong { .. }), "{error}");
}

/// A client that is gone again before it is accepted is somebody's problem, but not the listener's.
#[test]
fn clients_that_left_early_do_no_harm() {
    let listener = bind(&[SocketAddress::tcp("127.0.0.1", 0)]).unwrap();
    let address = listener.local_addresses().next().unwrap();
    for _ in 0..10 {
        let client = dial(address);
        sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
        drop(client); // a reset
    }
    let live = dial(address);
    let mut accepted = Vec::new();
    while accepted
        .last()
        .is_none_or(|last: &SocketChannel| last.peer_address() != live.local_address())
    {
        accepted.push(listener.accept().unwrap());
    }
}

/// Waits in poll while nothing comes, from several threads.
#[test]
fn threads_accept_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = bind(&[SocketAddress::unix(&path), SocketAddress::tcp("127.0.0.1", 0)]).unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| listener.accept().map(drop)))
            .collect();
        let clients: Vec<_> = (0..4).map(|_| UnixStream::connect(&path).unwrap()).collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        drop(clients);
    });
}
