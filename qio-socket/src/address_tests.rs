use super::*;

fn parsed(text: &str) -> SocketAddress {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn inet(host: &str, port: u16, change: impl FnOnce(&mut InetAddress)) -> SocketAddress {
    let mut address = InetAddress::new(host, port);
    change(&mut address);
    address.into()
}

#[test]
fn every_form_of_an_internet_address() {
    for text in [
        "localhost:10809",
        "tcp:localhost:10809",
        "[localhost]:10809",
        "type=inet,host=localhost,port=10809",
        "host=localhost,port=10809,type=inet",
        r#"{"type":"inet","host":"localhost","port":"10809"}"#,
        r#"{"type":"inet","host":"localhost","port":10809}"#,
        r#" {"type":"inet","data":{"host":"localhost","port":"10809"}}"#,
    ] {
        assert_eq!(parsed(text), SocketAddress::tcp("localhost", 10809), "{text}");
    }
    assert_eq!(parsed("[::1]:1"), SocketAddress::tcp("::1", 1));
    assert_eq!(
        parsed("tcp:[fe80::1%eth0]:1"),
        SocketAddress::tcp("fe80::1%eth0", 1)
    );
    assert_eq!(parsed(":1"), SocketAddress::tcp("", 1));
    assert_eq!(
        parsed("h:nbd,numeric"),
        inet("h", 0, |a| {
            a.port = "nbd".into();
            a.numeric = true;
        })
    );
}

#[test]
fn options_of_an_internet_address() {
    let expected = inet("h", 5, |a| {
        a.to = Some(9);
        a.ipv4 = Some(true);
        a.ipv6 = Some(false);
        a.keep_alive = true;
        a.keep_alive_count = Some(3);
        a.keep_alive_idle = Some(60);
        a.keep_alive_interval = Some(10);
        a.mptcp = true;
    });
    for text in [
        "h:5,to=9,ipv4,noipv6,keep-alive,keep-alive-count=3,keep-alive-idle=60,keep-alive-interval=10,mptcp",
        "h:5,to=9,ipv4=on,ipv6=off,keep-alive=on,keep-alive-count=3,keep-alive-idle=60,keep-alive-interval=10,mptcp=on",
        "type=inet,host=h,port=5,to=9,ipv4=y,ipv6=n,keep-alive=yes,keep-alive-count=3,keep-alive-idle=60,\
         keep-alive-interval=10,mptcp=true",
        r#"{"type":"inet","host":"h","port":"5","to":9,"ipv4":true,"ipv6":false,"keep-alive":true,
            "keep-alive-count":3,"keep-alive-idle":60,"keep-alive-interval":10,"mptcp":true}"#,
    ] {
        assert_eq!(parsed(text), expected, "{text}");
    }
}

#[test]
fn every_form_of_a_unix_address() {
    for text in [
        "unix:/run/x",
        "type=unix,path=/run/x",
        r#"{"type":"unix","path":"/run/x"}"#,
        "unix:/run/x,abstract=off",
    ] {
        assert_eq!(parsed(text), SocketAddress::unix("/run/x"), "{text}");
    }
    assert_eq!(parsed("unix:/a,,b=c"), SocketAddress::unix("/a,b=c"));
    assert_eq!(
        parsed("unix:name,abstract=on"),
        UnixAddress::abstract_name("name").into()
    );
    let loose = UnixAddress {
        tight: false,
        ..UnixAddress::abstract_name("name")
    };
    assert_eq!(parsed("unix:name,abstract=on,tight=off"), loose.into());
}

#[test]
fn other_families_are_parsed() {
    let vsock = VsockAddress {
        cid: "2".into(),
        port: "1024".into(),
    };
    assert_eq!(parsed("vsock:2:1024"), SocketAddress::Vsock(vsock.clone()));
    assert_eq!(parsed("type=vsock,cid=2,port=1024"), SocketAddress::Vsock(vsock));
    assert_eq!(parsed("fd:7"), SocketAddress::Fd(FdAddress { str: "7".into() }));
}

#[test]
fn refusals_say_what_to_write() {
    for (text, fault) in [
        ("", "expected HOST:PORT"),
        ("localhost", "expected HOST:PORT"),
        ("tcp:10809", "expected HOST:PORT"),
        ("localhost:", "port is missing"),
        ("::1:10809", "[ADDRESS]:PORT"),
        ("[::1]", "after ']'"),
        ("[::1]10809", "after ']'"),
        ("[::1:10809", "no ']'"),
        ("h:1,x", "unknown key 'x' (known keys: host, port, numeric, to"),
        (
            "h:1,to=70000",
            "key 'to': '70000' is not valid, expected an integer from 0 to 65535",
        ),
        ("h:1,ipv4=maybe", "key 'ipv4': 'maybe'"),
        ("h:1,host=x", "'host' is given more than once"),
        ("h:1 junk,,", "a comma inside a value"),
        ("unix:", "path is missing"),
        ("unix:,abstract=on", "path is missing"),
        ("unix:/p,abstract=2", "key 'abstract': '2'"),
        ("unix:/p,foo=on", "unknown key 'foo'"),
        ("type=inet,host=h", "key 'port' is missing"),
        (
            "type=intel,host=h",
            "'intel' is not valid, expected one of: inet, unix, vsock, fd",
        ),
        ("host=h,port=1", "key 'type' is missing"),
        ("vsock:2", "vsock:CID:PORT"),
        ("vsock:x:1", "vsock:CID:PORT"),
        ("fd:", "fd:NUMBER"),
        (r#"{"type":"inet","host":"h"}"#, "key 'port' is missing"),
        (r#"{"type":"inet","data":{"host":"h"}}"#, "key 'port' is missing"),
        (r#"{"type":"inet","data":3}"#, "unknown key 'data'"),
        ("{", "as JSON"),
    ] {
        let error = text.parse::<SocketAddress>().expect_err(text).to_string();
        assert!(error.contains(fault), "{text}\n said: {error}\n want: {fault}");
    }
    assert!(
        format!("{}:1", "h".repeat(MAX_HOST))
            .parse::<SocketAddress>()
            .is_ok()
    );
    assert!(
        format!("{}:1", "h".repeat(MAX_HOST + 1))
            .parse::<SocketAddress>()
            .is_err()
    );
}

#[test]
fn display_is_qemus_form() {
    for (address, text) in [
        (SocketAddress::tcp("localhost", 1), "tcp:localhost:1"),
        (SocketAddress::tcp("::1", 1), "tcp:[::1]:1"),
        (SocketAddress::tcp("", 1), "tcp::1"),
        (inet("h", 1, |a| a.ipv6 = Some(false)), "tcp:h:1,ipv6=off"),
        (SocketAddress::unix("/a,b"), "unix:/a,,b"),
        (UnixAddress::abstract_name("n").into(), "unix:n,abstract=on"),
        (SocketAddress::unix(""), "type=unix,path="),
        (SocketAddress::tcp("a,b", 1), "type=inet,host=a,,b,port=1"),
    ] {
        assert_eq!(address.to_string(), text);
    }
}

/// Whatever an address holds, its text reads back as the same address, in all three syntaxes.
#[test]
fn what_is_printed_reads_back() {
    let words = [
        "", "h", "::1", "a.b-c", "1", "a,b", "a=b", "[x]", "]", "a:b", "unix:x", "ü", " ", "{", ",,", "-1",
    ];
    let bits = |n: u16, shift: u16| n >> shift & 1 == 1;
    let tristate = |n: u16| [None, Some(true), Some(false)][usize::from(n % 3)];
    let check = |address: SocketAddress| {
        let text = address.to_string();
        assert_eq!(
            text.parse::<SocketAddress>()
                .unwrap_or_else(|e| panic!("{text}: {e}")),
            address,
            "{text}"
        );
        let keyval = to_keyval(&address, None).unwrap();
        assert_eq!(
            keyval
                .parse::<SocketAddress>()
                .unwrap_or_else(|e| panic!("{keyval}: {e}")),
            address
        );
        let json = serde_json::to_string(&address).unwrap();
        assert_eq!(
            json.parse::<SocketAddress>()
                .unwrap_or_else(|e| panic!("{json}: {e}")),
            address
        );
    };
    let mut n = 0_u16;
    for host in words {
        for port in words {
            for _ in 0..8 {
                n = n.wrapping_add(37);
                check(SocketAddress::Inet(InetAddress {
                    host: host.into(),
                    port: port.into(),
                    numeric: bits(n, 0),
                    to: bits(n, 1).then_some(n),
                    ipv4: tristate(n / 3),
                    ipv6: tristate(n / 9),
                    keep_alive: bits(n, 2),
                    keep_alive_count: bits(n, 3).then_some(n.into()),
                    keep_alive_idle: bits(n, 4).then_some(n.into()),
                    keep_alive_interval: bits(n, 5).then_some(n.into()),
                    mptcp: bits(n, 6),
                }));
            }
            check(SocketAddress::Vsock(VsockAddress {
                cid: host.into(),
                port: port.into(),
            }));
        }
        for flags in 0..4 {
            check(SocketAddress::Unix(UnixAddress {
                path: host.into(),
                abstract_name: bits(flags, 0),
                tight: bits(flags, 1),
            }));
        }
        check(SocketAddress::Fd(FdAddress { str: host.into() }));
    }
}

#[test]
fn family_matrix_is_qemus() {
    use crate::address::Family;
    let family = |ipv4, ipv6| {
        InetAddress {
            ipv4,
            ipv6,
            ..InetAddress::new("h", 1)
        }
        .family()
        .map_err(|e| e.to_string())
    };
    let (on, off) = (Some(true), Some(false));
    assert_eq!(family(None, None), Ok(Family::Any));
    assert_eq!(family(on, on), Ok(Family::Any));
    assert_eq!(family(off, None), Ok(Family::V6));
    assert_eq!(family(None, off), Ok(Family::V4));
    assert_eq!(family(on, None), Ok(Family::V4));
    assert_eq!(family(None, on), Ok(Family::V6));
    assert_eq!(family(on, off), Ok(Family::V4));
    assert_eq!(family(off, on), Ok(Family::V6));
    assert!(family(off, off).unwrap_err().contains("leave no address family"));
}

#[test]
fn local_means_this_machine_only() {
    for text in [
        "unix:/x",
        "127.0.0.1:1",
        "127.9.9.9:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "localhost:1",
    ] {
        assert!(parsed(text).is_local(), "{text}");
    }
    for text in [
        ":1",
        "0.0.0.0:1",
        "[::]:1",
        "192.0.2.1:1",
        "example.org:1",
        "vsock:2:1",
        "fd:3",
    ] {
        assert!(!parsed(text).is_local(), "{text}");
    }
}
