//! `qio tls connect`, and priority strings at both ends, against GnuTLS, OpenSSL, QEMU and ourselves.

use std::process::{Command, Stdio};

use interop::site::{EXPORT, Site, own_program, qio};
use interop::{Finished, Listening, Peer, free_port, qemu_path, run, succeed, wait_listening};
use qio_interop as interop;
use serde_json::Value;

/// gnutls-serv or openssl s_server with the server's certificate of the site.
fn server(site: &Site, command: &mut Command, port: u16) -> anyhow::Result<Peer> {
    let pki = site.path("pki");
    if command.get_program() == "openssl" {
        command
            .arg("s_server")
            .args(["-accept", &port.to_string(), "-quiet"]);
        command.arg("-cert").arg(pki.join("server-cert.pem"));
        command.arg("-key").arg(pki.join("server-key.pem"));
    } else {
        command.args(["--echo", "-p", &port.to_string()]);
        command.arg("--x509certfile").arg(pki.join("server-cert.pem"));
        command.arg("--x509keyfile").arg(pki.join("server-key.pem"));
    }
    let mut peer = Peer::spawn(command)?;
    wait_listening(&mut peer, &Listening::Tcp(port))?;
    Ok(peer)
}

fn connect(site: &Site, port: u16, arguments: &[&str]) -> anyhow::Result<Finished> {
    let mut command = qio()?;
    command.args(["tls", "connect", &format!("localhost:{port}"), "--ca"]);
    run(command.arg(site.path("pki").join("ca-cert.pem")).args(arguments))
}

/// What was agreed, from `--json`.
fn facts(site: &Site, port: u16, arguments: &[&str]) -> anyhow::Result<Value> {
    let finished = connect(site, port, &[&["--json"], arguments].concat())?;
    assert!(finished.status.success(), "{}", finished.output);
    Ok(serde_json::from_str(&finished.output)?)
}

/// Strings that restrict a session, with what must come out of them.
const RESTRICTIONS: [(&str, &str, &str); 6] = [
    ("NORMAL:-VERS-ALL:+VERS-TLS1.2", "protocol", "TLS 1.2"),
    ("NORMAL:-CIPHER-ALL:+AES-256-GCM", "cipher_suite", "AES_256_GCM"),
    (
        "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305",
        "cipher_suite",
        "CHACHA20_POLY1305",
    ),
    (
        "NORMAL:-VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305",
        "cipher_suite",
        "ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    ),
    ("NORMAL:-GROUP-ALL:+GROUP-SECP384R1", "group", "secp384r1"),
    (
        "SECURE256:%PROFILE_LOW:+SIGN-ECDSA-SECP256R1-SHA256",
        "group",
        "secp",
    ),
];

#[test]
fn a_clients_priority_holds_with_gnutls_and_openssl() -> anyhow::Result<()> {
    let site = Site::new()?;
    for program in ["gnutls-serv", "openssl"] {
        let port = free_port()?;
        let _server = server(&site, &mut Command::new(program), port)?;
        for (priority, key, expected) in RESTRICTIONS {
            let facts = facts(&site, port, &["--priority", priority])?;
            let found = facts[key].as_str().unwrap_or_default().to_lowercase();
            assert!(
                found.contains(&expected.to_lowercase()),
                "{program}, {priority}: {facts}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_servers_priority_holds_with_us_and_qemu() -> anyhow::Result<()> {
    let site = Site::new()?;
    let image = site.empty_image("image", 1 << 20)?;
    for (priority, what, expected) in RESTRICTIONS {
        let port = free_port()?;
        let creds = format!(
            "{},priority={priority},verify-peer=off",
            site.creds("pki", "server")
        );
        let mut command = qio()?;
        command.args([
            "nbd",
            "serve",
            "-t",
            "-e",
            "0",
            "-f",
            "raw",
            "-b",
            "127.0.0.1",
            "-x",
            EXPORT,
        ]);
        command.args(["-p", &port.to_string(), "--object", &creds, "--tls-creds", "tls0"]);
        let mut peer = Peer::spawn(command.arg(&image))?;
        wait_listening(&mut peer, &Listening::Tcp(port))?;
        let ours = facts(&site, port, &["--starttls", "nbd"])?;
        let found = ours[what].as_str().unwrap_or_default().to_lowercase();
        assert!(found.contains(&expected.to_lowercase()), "{priority}: {ours}");

        // QEMU's client, which has GnuTLS's whole default, agrees with what is left.
        let mut client = Command::new("qemu-img");
        client.args(["info", "--object", &site.creds("pki", "client"), "--image-opts"]);
        let options = format!("driver=nbd,host=localhost,port={port},export={EXPORT},tls-creds=tls0");
        succeed(client.arg(options))?;
    }
    Ok(())
}

/// Ends that leave each other nothing, with the restriction on our side and on GnuTLS's.
#[test]
fn nothing_in_common_is_no_session() -> anyhow::Result<()> {
    let site = Site::new()?;
    for (ours, theirs) in [
        ("NORMAL:-VERS-TLS1.3", "NORMAL:-VERS-TLS1.2"),
        (
            "NORMAL:-CIPHER-ALL:+AES-256-GCM",
            "NORMAL:-CIPHER-ALL:+AES-128-GCM",
        ),
        (
            "NORMAL:-GROUP-ALL:+GROUP-X25519",
            "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-SECP256R1",
        ),
    ] {
        let port = free_port()?;
        let _server = server(
            &site,
            Command::new("gnutls-serv").args(["--priority", theirs]),
            port,
        )?;
        let finished = connect(&site, port, &["--priority", ours, "--json"])?;
        assert_eq!(finished.status.code(), Some(1), "{ours}: {}", finished.output);
    }
    Ok(())
}

/// The facts that decide what is allowed, from the tables that gnutls-cli prints for the same string.
#[test]
fn keywords_allow_what_gnutls_allows() -> anyhow::Result<()> {
    use qio_creds::{PolicyFiles, Priority};
    for text in [
        "NORMAL",
        "PERFORMANCE",
        "PFS",
        "SECURE128",
        "SECURE192",
        "SECURE256",
        "SUITEB128",
        "SUITEB192",
        "LEGACY",
        "NORMAL:-VERS-TLS1.3",
        "NORMAL:-AES-128-GCM:!CHACHA20-POLY1305",
        "SECURE192:NORMAL",
        "NORMAL:-KX-ALL:+ECDHE-RSA",
        "NORMAL:-GROUP-DH-ALL",
        "NORMAL:-GROUP-EC-ALL",
        "NORMAL:+ECDHE-PSK:+DHE-PSK:+PSK",
        "NORMAL:-CURVE-ALL:+CURVE-X25519",
        "NORMAL:-SIGN-ALL:+SIGN-ECDSA-SHA256:+SIGN-RSA-SHA512",
        "PFS:-MAC-ALL:+AEAD",
        "NONE:+VERS-ALL:+CIPHER-ALL:+MAC-ALL:+KX-ALL:+GROUP-ALL:+SIGN-ALL:+CTYPE-ALL:+COMP-ALL",
        "NONE:+VERS-TLS1.2:+AES-256-GCM:+AES-128-CCM:+AEAD:+ECDHE-ECDSA:+SIGN-ALL:+GROUP-SECP256R1",
    ] {
        let priority = Priority::parse(text, &PolicyFiles::new([]))?;
        let output = succeed(Command::new("gnutls-cli").args(["-l", "--priority", text]))?;
        // "TLS_AES_128_GCM_SHA256   0x13, 0x01   TLS1.3"
        let theirs: Vec<u16> = output
            .lines()
            .filter(|line| line.starts_with("TLS_"))
            .filter_map(|line| {
                let mut octets = line.split_whitespace().filter_map(|word| {
                    u16::from_str_radix(word.trim_end_matches(',').strip_prefix("0x")?, 16).ok()
                });
                Some(octets.next()? << 8 | octets.next()?)
            })
            .collect();
        assert!(!theirs.is_empty(), "{text}: {output}");
        // Suites that GnuTLS does not have: it would have to be asked to be able to refuse them.
        const NOT_IN_GNUTLS: [u16; 2] = [0xd001, 0xd002];
        for suite in priority
            .cipher_suites()
            .iter()
            .filter(|suite| !NOT_IN_GNUTLS.contains(suite))
        {
            assert!(
                theirs.contains(suite),
                "{text}: {suite:#06x} is not in GnuTLS's list"
            );
        }
        for suite in [
            0x1301, 0x1302, 0x1303, 0x1304, 0xc02b, 0xc02c, 0xcca9, 0xc02f, 0xc030, 0xcca8, 0xccac, 0xc037,
            0xccad, 0x00aa, 0x00ab, 0x00a8, 0xccab,
        ] {
            assert_eq!(
                priority.cipher_suite(suite).is_some(),
                theirs.contains(&suite),
                "{text}: {suite:#06x}"
            );
        }
        let line = |start: &str| {
            output
                .lines()
                .find(|line| line.starts_with(start))
                .unwrap_or_default()
        };
        for (name, code) in [
            ("GROUP-SECP256R1", 23),
            ("GROUP-SECP384R1", 24),
            ("GROUP-SECP521R1", 25),
            ("GROUP-X25519", 29),
            ("GROUP-X448", 30),
            ("GROUP-FFDHE2048", 256),
            ("GROUP-FFDHE8192", 260),
        ] {
            let theirs = line("Groups:").split([' ', ',']).any(|word| word == name);
            assert_eq!(priority.group(code).is_some(), theirs, "{text}: {name}");
        }
        for (names, code) in [
            (&["SIGN-RSA-SHA256"][..], 0x0401),
            (&["SIGN-RSA-SHA512"], 0x0601),
            (&["SIGN-RSA-PSS-RSAE-SHA256"], 0x0804),
            (&["SIGN-ECDSA-SHA256", "SIGN-ECDSA-SECP256R1-SHA256"], 0x0403),
            (&["SIGN-ECDSA-SHA384", "SIGN-ECDSA-SECP384R1-SHA384"], 0x0503),
            (&["SIGN-EdDSA-Ed25519"], 0x0807),
        ] {
            let theirs = line("PK-signatures:")
                .split([' ', ','])
                .any(|word| names.contains(&word));
            assert_eq!(
                priority.signature_scheme(code).is_some(),
                theirs,
                "{text}: {names:?}"
            );
        }
    }
    Ok(())
}

/// As gnutls-cli does: what is typed goes to the server, what it says is printed, until one of them ends.
#[test]
fn input_and_output_are_passed_on() -> anyhow::Result<()> {
    use std::io::Write as _;
    let site = Site::new()?;
    let port = free_port()?;
    let _server = server(&site, &mut Command::new("gnutls-serv"), port)?;
    let mut child = Command::new(own_program("qio")?)
        .args(["tls", "connect", &format!("localhost:{port}"), "--ca"])
        .arg(site.path("pki").join("ca-cert.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"said and heard\n")?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert_eq!(output.stdout, b"said and heard\n");
    for line in [
        "Subject: CN=localhost",
        "Issuer:  CN=interop authority",
        "verified",
    ] {
        assert!(told.contains(line), "{told}");
    }
    Ok(())
}

/// A server that does not pass is shown, with the reason, and gets nothing of what is typed.
#[test]
fn verdicts_have_reasons_and_exit_codes() -> anyhow::Result<()> {
    let site = Site::new()?;
    let port = free_port()?;
    let _server = server(&site, &mut Command::new("gnutls-serv"), port)?;
    let finished = connect(&site, port, &["--tls-hostname", "elsewhere.example"])?;
    assert_eq!(finished.status.code(), Some(3), "{}", finished.output);
    for text in ["REFUSED", "elsewhere.example", "Subject: CN=localhost"] {
        assert!(finished.output.contains(text), "{}", finished.output);
    }
    let finished = connect(
        &site,
        port,
        &["--tls-hostname", "elsewhere.example", "--insecure", "--json"],
    )?;
    assert!(finished.status.success(), "{}", finished.output);
    let facts: Value = serde_json::from_str(&finished.output)?;
    assert_eq!(facts["verdict"]["result"], "refused");
    assert_eq!(facts["chain"][0]["subject"], "CN=localhost");

    let mut command = qio()?;
    command.args(["tls", "connect", &format!("localhost:{port}"), "--ca"]);
    let stranger = run(command.arg(site.path("strangers").join("ca-cert.pem")))?;
    assert_eq!(stranger.status.code(), Some(3), "{}", stranger.output);
    assert!(stranger.output.contains("is not trusted"), "{}", stranger.output);

    let mut command = qio()?;
    let nobody = run(command.args(["tls", "connect", &format!("localhost:{port}")]))?;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(nobody.output.contains("--ca"), "{}", nobody.output);
    Ok(())
}

/// Two of ours agree on the post-quantum hybrid; with QEMU's server, which has none, on X25519 or a curve.
#[test]
fn the_hybrid_is_shown_between_two_of_ours() -> anyhow::Result<()> {
    let site = Site::new()?;
    let image = site.empty_image("image", 1 << 20)?;
    let creds = site.creds("pki", "client");
    for (program, hybrid) in [("qio", true), ("qemu-nbd", false)] {
        let port = free_port()?;
        let mut command = if hybrid {
            let mut command = qio()?;
            command.args(["nbd", "serve"]);
            command
        } else {
            Command::new("qemu-nbd")
        };
        let server = format!(
            "tls-creds-x509,id=tls0,endpoint=server,dir={}",
            qemu_path(&site.path("pki"))
        );
        command.args([
            "-t",
            "-e",
            "0",
            "-f",
            "raw",
            "-b",
            "127.0.0.1",
            "-p",
            &port.to_string(),
        ]);
        command
            .args(["--object", &server, "--tls-creds", "tls0"])
            .arg(&image);
        let mut peer = Peer::spawn(&mut command)?;
        wait_listening(&mut peer, &Listening::Tcp(port))?;
        let mut command = qio()?;
        command.args([
            "tls",
            "connect",
            &format!("localhost:{port}"),
            "--starttls",
            "nbd",
            "--json",
        ]);
        let output = succeed(command.args(["--object", &creds, "--tls-creds", "tls0"]))?;
        let facts: Value = serde_json::from_str(&output)?;
        assert_eq!(facts["group"] == "X25519MLKEM768", hybrid, "{program}: {facts}");
        assert_eq!(facts["verdict"]["result"], "verified", "{program}: {facts}");
    }
    Ok(())
}
