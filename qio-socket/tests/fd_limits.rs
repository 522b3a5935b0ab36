//! Descriptors under failure and under a limit. Alone in its process, because both are properties of the process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs::File;
use std::time::Duration;

use qio_socket::{ConnectOptions, ListenOptions, Listener, SocketAddress, SocketError, connect};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn descriptors_under_failure() {
    io_35_failures_leave_no_descriptor_behind();
    io_35_running_out_is_reported_and_passes();
}

fn io_35_failures_leave_no_descriptor_behind() {
    let dir = tempfile::tempdir().unwrap();
    let refused = {
        let listener =
            Listener::bind(&[SocketAddress::tcp("127.0.0.1", 0)], &ListenOptions::default()).unwrap();
        listener.local_addresses().next().unwrap().clone()
    };
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let addresses = [
        refused,
        SocketAddress::unix(dir.path().join("missing")),
        SocketAddress::unix(dir.path().join("file")),
        SocketAddress::unix(dir.path().join("p".repeat(200))),
        SocketAddress::tcp("192.0.2.1", 1), // reserved for documentation: unreachable, or silent
        "127.0.0.1:1,ipv4=off".parse().unwrap(),
    ];
    let before = open_fds();
    for address in &addresses {
        for timeout in [Some(Duration::ZERO), Some(Duration::from_millis(10))] {
            connect(address, &ConnectOptions { timeout }).unwrap_err();
        }
    }
    let unusable = [
        SocketAddress::tcp("127.0.0.1", 0),
        SocketAddress::unix(dir.path().join("file")),
    ];
    Listener::bind(&unusable, &ListenOptions::default()).unwrap_err();
    assert_eq!(open_fds(), before);
}

fn io_35_running_out_is_reported_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let address = SocketAddress::unix(dir.path().join("s"));
    let listener = Listener::bind(std::slice::from_ref(&address), &ListenOptions::default()).unwrap();
    let _client = connect(&address, &ConnectOptions::default()).unwrap();

    let limit = getrlimit(Resource::Nofile);
    let low = u64::try_from(open_fds()).unwrap() + 20;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(low),
            ..limit
        },
    )
    .unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }

    for _ in 0..2 {
        let error = listener.try_accept().unwrap_err();
        assert!(matches!(error, SocketError::OutOfResources { .. }), "{error}");
        assert!(error.to_string().contains("ulimit -n"), "{error}");
        assert!(matches!(
            listener.accept(),
            Err(SocketError::OutOfResources { .. })
        ));
    }
    assert!(
        connect(&address, &ConnectOptions::default())
            .unwrap_err()
            .to_string()
            .contains("Too many open files")
    );
    hoard.clear();
    assert!(listener.try_accept().unwrap().is_some(), "the client has waited");
    setrlimit(Resource::Nofile, limit).unwrap();
}
