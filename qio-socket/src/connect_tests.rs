use super::*;
use qio_channel::Channel;
use std::net::{Ipv4Addr, TcpListener};

/// A port of this machine on which nobody listens, for as long as the socket is kept.
fn refusing() -> (OwnedFd, SocketAddr) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let fd = tcp_socket(any, false).unwrap();
    rustix::net::bind(&fd, &any).unwrap();
    let Some(SocketAddress::Inet(inet)) = names::local_address(fd.as_fd()) else {
        panic!()
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, inet.port.parse().unwrap()));
    (fd, address)
}

fn progress(timeout: Option<Duration>) -> Progress {
    Progress::new(
        &SocketAddress::tcp("name.example", 1),
        &ConnectOptions { timeout },
    )
}

#[test]
fn the_next_address_is_tried_when_one_refuses() {
    let (_held, dead) = refusing();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let live = listener.local_addr().unwrap();
    for timeout in [None, Some(Duration::from_secs(60))] {
        let inet = InetAddress::default();
        let channel = connect_inet(&inet, &[dead, dead, live], progress(timeout)).unwrap();
        assert_eq!(channel.peer_address(), Some(&live.into()));
        assert!(sockopt::tcp_nodelay(channel.as_fd()).unwrap());
        assert!(!fcntl_getfl(channel.as_fd()).unwrap().contains(OFlags::NONBLOCK));
        assert_eq!(channel.info().kind, "tcp");
    }
}

#[test]
fn the_error_lists_every_address_with_its_reason() {
    let ((_held1, one), (_held2, two)) = (refusing(), refusing());
    let error = connect_inet(&InetAddress::default(), &[one, two], progress(None)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("cannot connect to tcp:name.example:1: "),
        "{text}"
    );
    for address in [one, two] {
        assert!(text.contains(&format!("{address}: Connection refused")), "{text}");
    }
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn an_address_gets_its_part_of_the_time_and_no_more() {
    let progress = progress(Some(Duration::from_secs(100)));
    let (one, four) = (progress.share(1).unwrap(), progress.share(4).unwrap());
    assert!(one <= progress.deadline.unwrap());
    assert!(four < one);
    assert!(
        Progress::new(&SocketAddress::unix("x"), &ConnectOptions::default())
            .share(3)
            .is_none()
    );
}

#[test]
fn a_socket_connected_to_itself_is_refused() {
    let (fd, address) = refusing();
    match rustix::net::connect(&fd, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => panic!("{error}"),
    }
    assert!(is_connected(fd.as_fd()).unwrap(), "TCP does that");
    let error = into_channel(fd, &InetAddress::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

/// Where the kernel has Multipath TCP it is used, and where not the error says so.
#[test]
fn multipath_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("127.0.0.1:{},mptcp=on", listener.local_addr().unwrap().port());
    match connect(&address.parse().unwrap(), &ConnectOptions::default()) {
        Ok(channel) => {
            assert_eq!(
                sockopt::socket_protocol(channel.as_fd()).unwrap(),
                Some(ipproto::MPTCP)
            );
        }
        Err(error) => {
            let text = error.to_string().to_lowercase();
            assert!(
                text.contains("protocol not"),
                "not supported, or switched off: {text}"
            );
        }
    }
}

#[test]
fn a_silent_listener_times_out() {
    // A queue of one that is full: further connections are not answered.
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = tcp_socket(any, false).unwrap();
    rustix::net::bind(&listener, &any).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let Some(address) = names::local_address(listener.as_fd()) else {
        panic!()
    };
    let options = ConnectOptions::within(Duration::from_millis(50));
    let mut held = Vec::new();
    let error = loop {
        match connect(&address, &options) {
            Ok(channel) => held.push(channel),
            Err(error) => break error,
        }
        assert!(held.len() < 100, "the queue never filled");
    };
    assert!(matches!(error, SocketError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("within 50ms"), "{error}");
}

#[test]
fn a_full_unix_queue_times_out() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("full");
    let listener = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    rustix::net::bind(
        &listener,
        &SocketAddrUnix::new(path.as_os_str().as_bytes()).unwrap(),
    )
    .unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let options = ConnectOptions::within(Duration::from_millis(20));
    let mut held = Vec::new();
    let error = loop {
        match connect(&SocketAddress::unix(&path), &options) {
            Ok(channel) => held.push(channel),
            Err(error) => break error,
        }
        assert!(held.len() < 100, "the queue never filled");
    };
    assert!(matches!(error, SocketError::TimedOut { .. }), "{error}");
    assert!(
        sockopt::socket_timeout(held[0].as_fd(), Timeout::Send)
            .unwrap()
            .is_none(),
        "the timeout is taken off"
    );
}

#[test]
fn keep_alive_options_arrive() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let address: SocketAddress =
        format!("127.0.0.1:{port},keep-alive=on,keep-alive-count=3,keep-alive-idle=61,keep-alive-interval=7")
            .parse()
            .unwrap();
    let channel = connect(&address, &ConnectOptions::default()).unwrap();
    let fd = channel.as_fd();
    assert!(sockopt::socket_keepalive(fd).unwrap());
    assert_eq!(sockopt::tcp_keepcnt(fd).unwrap(), 3);
    assert_eq!(sockopt::tcp_keepidle(fd).unwrap(), Duration::from_secs(61));
    assert_eq!(sockopt::tcp_keepintvl(fd).unwrap(), Duration::from_secs(7));
}

#[test]
fn addresses_that_cannot_be_connected_to() {
    for (text, fault) in [
        ("vsock:2:1", "not supported yet"),
        ("fd:3", "not supported yet"),
        ("type=unix,path=", "is empty"),
        ("127.0.0.1:1,ipv4=off", "no IPv6 address"),
        ("127.0.0.1:1,ipv4=off,ipv6=off", "no address family"),
        (
            "no-such-host.invalid:1",
            "cannot look up the host 'no-such-host.invalid'",
        ),
    ] {
        let error = connect(&text.parse().unwrap(), &ConnectOptions::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(fault), "{text}: {error}");
    }
}
