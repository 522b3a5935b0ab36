//! Pre-shared keys between qio and GnuTLS, OpenSSL, QEMU and libnbd, TLS 1.3 and 1.2, both roles; and who is refused.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use qio_channel::ChannelExt as _;
use qio_creds::{
    KeyPermissions, PolicyFiles, Priority, Psk, PskFile, PskIdentity, PskKey, TlsCreds, TlsCredsPskOptions,
};
use qio_interop::site::{EXPORT, Site, fail_with, qio, sha256};
use qio_interop::{Listening, Peer, free_port, qemu_path, require, succeed, wait_listening};
use qio_socket::SocketChannel;
use qio_tls::{TlsError, TlsHandshake, TlsVersion};

const LIMIT: Duration = Duration::from_secs(60);
const TEXT: &str = "a line that comes back";
const VERSIONS: [TlsVersion; 2] = [TlsVersion::Tls13, TlsVersion::Tls12];

fn gnutls_priority(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::Tls13 => "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:+DHE-PSK",
        _ => "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-PSK",
    }
}

fn openssl_flag(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::Tls13 => "-tls1_3",
        _ => "-tls1_2",
    }
}

/// Folders of keys: `keys` made by qio with alice, bob and qemu in it, `other` with other keys for the same users,
/// `strangers` with other users.
struct Keys {
    site: Site,
}

impl Keys {
    fn new() -> anyhow::Result<Self> {
        let site = Site::new()?;
        for (folder, users) in [
            ("keys", &["alice", "bob", "qemu"][..]),
            ("other", &["alice", "qemu"]),
            ("strangers", &["mallory"]),
        ] {
            for user in users {
                succeed(qio()?.args(["psk", "add"]).arg(site.path(folder)).arg(user))?;
            }
        }
        Ok(Self { site })
    }

    fn file(&self, folder: &str) -> PathBuf {
        self.site.path(folder).join("keys.psk")
    }

    /// A user's key, as the programs take it on their command lines.
    fn hex(&self, folder: &str, user: &str) -> anyhow::Result<String> {
        let user = PskIdentity::load(&self.file(folder), user, KeyPermissions::Private)?;
        Ok(user.key().to_hex().to_string())
    }

    fn object(&self, folder: &str, endpoint: &str) -> String {
        format!(
            "tls-creds-psk,id=tls0,dir={},endpoint={endpoint}",
            qemu_path(&self.site.path(folder))
        )
    }

    fn serve(&self, mut command: Command, object: &str, image: &Path) -> anyhow::Result<Server> {
        let port = free_port()?;
        command
            .args([
                "-t",
                "-e",
                "0",
                "-f",
                "raw",
                "-x",
                EXPORT,
                "-b",
                "127.0.0.1",
                "-p",
                &port.to_string(),
            ])
            .args(["--object", object, "--tls-creds", "tls0"])
            .arg(image);
        let mut peer = Peer::spawn(&mut command)?;
        wait_listening(&mut peer, &Listening::Tcp(port))?;
        Ok(Server { peer, port })
    }

    fn qio_serve(&self, folder: &str, image: &Path) -> anyhow::Result<Server> {
        let mut command = qio()?;
        command.args(["-v", "nbd", "serve"]);
        self.serve(command, &self.object(folder, "server"), image)
    }

    fn qemu_nbd(&self, object: &str, image: &Path) -> anyhow::Result<Server> {
        require("qemu-nbd", "qemu-utils")?;
        self.serve(Command::new("qemu-nbd"), object, image)
    }

    fn uri(&self, server: &Server, user: &str, folder: &str) -> String {
        format!(
            "nbds://{user}@localhost:{}/{EXPORT}?tls-psk-file={}",
            server.port,
            self.file(folder).display()
        )
    }

    fn qemu_img(&self, server: &Server, subcommand: &str, object: &str) -> Command {
        let mut command = Command::new("qemu-img");
        let options = format!(
            "driver=nbd,host=localhost,port={},export={EXPORT},tls-creds=tls0",
            server.port
        );
        command.args([subcommand, "--object", object, "--image-opts", &options]);
        command
    }
}

struct Server {
    peer: Peer,
    port: u16,
}

/// The client's name, and the version and the suite that were agreed on.
type Serving = JoinHandle<anyhow::Result<(String, TlsVersion, String)>>;

/// Takes one client, and gives back what it sends until it has said goodbye. What is known of it is the result.
fn echo_server(folder: &Path) -> anyhow::Result<(u16, Serving)> {
    let creds =
        TlsCreds::load_psk(TlsCredsPskOptions::server(folder), KeyPermissions::Private)?.for_server()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let serving = thread::spawn(move || {
        let (socket, _) = listener.accept()?;
        let channel = SocketChannel::from_fd(socket.into())?;
        let mut channel = TlsHandshake::server(channel, &creds)?.complete(LIMIT)?;
        let mut data = [0; 256];
        while let Ok(n) = channel.read(&mut data) {
            if n == 0 || channel.write_all(data.get(..n).unwrap_or_default()).is_err() {
                break;
            }
        }
        let name = channel.peer().verified_name().unwrap_or_default().to_owned();
        Ok((
            name,
            channel.facts().version,
            channel.facts().cipher_suite.clone(),
        ))
    });
    Ok((port, serving))
}

/// A client of any TLS version that `version` is, which sends a line and gives back the line that comes.
fn our_client(user: PskIdentity, version: TlsVersion, port: u16) -> anyhow::Result<(String, String)> {
    let restriction = match version {
        TlsVersion::Tls13 => "NORMAL:-VERS-TLS1.2",
        _ => "NORMAL:-VERS-TLS1.3",
    };
    let priority = Priority::parse_for_psk(restriction, &PolicyFiles::new([]))?;
    let creds = TlsCreds::from_psk(None, Psk::client(user).with_priority(Some(priority))).for_client()?;
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let channel = SocketChannel::from_fd(socket.into())?;
    let mut channel = TlsHandshake::client(channel, &creds, None)?.complete(LIMIT)?;
    anyhow::ensure!(channel.facts().version == version, "{}", channel.facts());
    channel.write_all(format!("{TEXT}\n").as_bytes())?;
    let mut line = String::new();
    while !line.ends_with('\n') {
        let mut byte = [0];
        anyhow::ensure!(channel.read(&mut byte)? == 1, "it ended after {line:?}");
        line.push(char::from(byte[0]));
    }
    Ok((line.trim_end().to_owned(), channel.facts().cipher_suite.clone()))
}

/// Types a line into a client, and waits until the echo is on the screen.
fn converse(command: &mut Command, ready: &str) -> anyhow::Result<()> {
    let mut client = Peer::spawn(command)?;
    client.wait_for_output(ready)?;
    client.write(format!("{TEXT}\n").as_bytes())?;
    client.wait_for_output(TEXT)?;
    client.close_stdin();
    client.wait()?;
    Ok(())
}

fn fastest() -> &'static str {
    // OpenSSL's own choice between two ends is ChaCha20.
    #[cfg(target_arch = "x86_64")]
    if !std::arch::is_x86_feature_detected!("aes") {
        return "TLS_CHACHA20_POLY1305_SHA256";
    }
    "TLS_AES_128_GCM_SHA256"
}

/// GnuTLS 3.7.9's own client crashes behind a TLS 1.2 handshake with ECDHE-PSK, whatever the server; so 1.3 only.
#[test]
fn gnutls_cli_to_our_server() -> anyhow::Result<()> {
    require("gnutls-cli", "gnutls-bin")?;
    let keys = Keys::new()?;
    let (port, serving) = echo_server(&keys.site.path("keys"))?;
    let mut command = Command::new("gnutls-cli");
    command
        .args([
            "-p",
            &port.to_string(),
            "--priority",
            gnutls_priority(TlsVersion::Tls13),
        ])
        .args([
            "--pskusername",
            "alice",
            "--pskkey",
            &keys.hex("keys", "alice")?,
            "localhost",
        ]);
    converse(&mut command, "Handshake was completed")?;
    let (name, version, suite) = serving.join().expect("no panic")?;
    anyhow::ensure!(
        (name.as_str(), version) == ("alice", TlsVersion::Tls13) && suite == fastest(),
        "{suite}"
    );
    Ok(())
}

#[test]
fn openssl_s_client_to_our_server() -> anyhow::Result<()> {
    require("openssl", "openssl")?;
    let keys = Keys::new()?;
    for wanted in VERSIONS {
        let (port, serving) = echo_server(&keys.site.path("keys"))?;
        let mut command = Command::new("openssl");
        command
            .args([
                "s_client",
                "-connect",
                &format!("127.0.0.1:{port}"),
                openssl_flag(wanted),
            ])
            .args(["-psk_identity", "bob", "-psk", &keys.hex("keys", "bob")?]);
        converse(&mut command, "Verify return code")?;
        let (name, version, suite) = serving.join().expect("no panic")?;
        anyhow::ensure!(name == "bob" && version == wanted, "{name} {version}");
        anyhow::ensure!(version == TlsVersion::Tls12 || suite == fastest(), "{suite}");
    }
    Ok(())
}

/// Who a peer is does not change: a second handshake, which TLS 1.2 would have, is not entered into.
#[test]
fn cred_02_no_second_handshake() -> anyhow::Result<()> {
    let keys = Keys::new()?;
    let (port, serving) = echo_server(&keys.site.path("keys"))?;
    let mut client = Peer::spawn(
        Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-tls1_2"])
            .args(["-psk_identity", "bob", "-psk", &keys.hex("keys", "bob")?]),
    )?;
    client.wait_for_output("Verify return code")?;
    client.write(b"R\n")?;
    client.wait_for_output("no renegotiation")?;
    client.close_stdin();
    let (name, version, _) = serving.join().expect("no panic")?;
    anyhow::ensure!(
        (name.as_str(), version) == ("bob", TlsVersion::Tls12),
        "{name} {version}"
    );
    Ok(())
}

/// psktool writes the file, gnutls-serv reads it, and so do we.
#[test]
fn our_client_to_gnutls_serv() -> anyhow::Result<()> {
    require("gnutls-serv", "gnutls-bin")?;
    require("psktool", "gnutls-bin")?;
    let keys = Keys::new()?;
    let theirs = keys.site.path("theirs.psk");
    for user in ["carol", "dave"] {
        succeed(Command::new("psktool").args(["-u", user, "-p"]).arg(&theirs))?;
    }
    for (file, user) in [
        (&theirs, "carol"),
        (&theirs, "dave"),
        (&keys.file("keys"), "alice"),
    ] {
        for version in VERSIONS {
            let port = free_port()?;
            let mut command = Command::new("gnutls-serv");
            command
                .args([
                    "--echo",
                    "--priority",
                    gnutls_priority(version),
                    "-p",
                    &port.to_string(),
                ])
                .arg("--pskpasswd")
                .arg(file);
            let mut server = Peer::spawn(&mut command)?;
            wait_listening(&mut server, &Listening::Tcp(port))?;
            let user = PskIdentity::load(file, user, KeyPermissions::Private)?;
            let (line, suite) = our_client(user, version, port)?;
            anyhow::ensure!(line == TEXT, "{line}");
            anyhow::ensure!(version == TlsVersion::Tls12 || suite == fastest(), "{suite}");
        }
    }
    Ok(())
}

#[test]
fn our_client_to_openssl_s_server() -> anyhow::Result<()> {
    let keys = Keys::new()?;
    let backwards: String = TEXT.chars().rev().collect();
    for version in VERSIONS {
        let port = free_port()?;
        let mut command = Command::new("openssl");
        command
            .args([
                "s_server",
                "-rev",
                "-nocert",
                openssl_flag(version),
                "-accept",
                &format!("127.0.0.1:{port}"),
            ])
            .args(["-psk_identity", "alice", "-psk", &keys.hex("keys", "alice")?]);
        let mut server = Peer::spawn(&mut command)?;
        wait_listening(&mut server, &Listening::Tcp(port))?;
        let user = PskIdentity::load(&keys.file("keys"), "alice", KeyPermissions::Private)?;
        let (line, _) = our_client(user, version, port)?;
        anyhow::ensure!(line == backwards, "{line}");
    }
    Ok(())
}

/// The recipe of QEMU's documentation, with the file made once by psktool and once by `qio psk`, in every combination
/// of client and server.
#[test]
fn the_recipe_with_either_tool_and_every_pair() -> anyhow::Result<()> {
    require("psktool", "gnutls-bin")?;
    require("qemu-img", "qemu-utils")?;
    require("nbdcopy", "libnbd-bin")?;
    let keys = Keys::new()?;
    let theirs = keys.site.path("psktool");
    std::fs::create_dir(&theirs)?;
    for user in ["qemu", "alice"] {
        succeed(
            Command::new("psktool")
                .args(["-u", user, "-p"])
                .arg(theirs.join("keys.psk")),
        )?;
    }
    let image = keys.site.image("source.img", 8 << 20)?;
    let hash = sha256(&image)?;
    for folder in ["keys", "psktool"] {
        for server in [
            keys.qio_serve(folder, &image)?,
            keys.qemu_nbd(&keys.object(folder, "server"), &image)?,
        ] {
            let copy = keys.site.path("copy.img");
            let expect = |client: &str| {
                anyhow::ensure!(
                    sha256(&copy)? == hash,
                    "{folder} {client}: copying changed the data"
                );
                std::fs::remove_file(&copy)?;
                anyhow::Ok(())
            };
            let uri = keys.uri(&server, "alice", folder);
            succeed(qio()?.args(["nbd", "copy", &uri]).arg(&copy))?;
            expect("qio")?;
            succeed(Command::new("nbdcopy").arg(&uri).arg(&copy))?;
            expect("nbdcopy")?;
            let size = succeed(Command::new("nbdinfo").args(["--size", &uri]))?;
            anyhow::ensure!(size.trim() == (8 << 20).to_string(), "{size}");
            // The default user, "qemu"; TLS 1.2 as well, by the property that QEMU and qio share.
            for priority in ["", ",priority=NORMAL:-VERS-TLS1.3"] {
                let object = format!("{}{priority}", keys.object(folder, "client"));
                let mut convert = keys.qemu_img(&server, "convert", &object);
                succeed(convert.args(["-O", "raw"]).arg(&copy))?;
                expect("qemu-img")?;
                let plain = format!("nbds://localhost:{}/{EXPORT}", server.port);
                succeed(
                    qio()?
                        .args(["nbd", "copy", "--object", &object, "--tls-creds", "tls0", &plain])
                        .arg(&copy),
                )?;
                expect("qio with an object")?;
            }
        }
    }
    Ok(())
}

/// A wrong key and an unknown user look alike from outside; the log tells them apart; the next client is served.
#[test]
fn clients_without_the_key_are_refused() -> anyhow::Result<()> {
    let keys = Keys::new()?;
    let image = keys.site.empty_image("disk.img", 1 << 20)?;
    let mut server = keys.qio_serve("keys", &image)?;
    let mut answers = Vec::new();
    for (user, folder, log) in [
        (
            "alice",
            "other",
            "did not prove to be the user \"alice\": it has another key",
        ),
        (
            "mallory",
            "strangers",
            "did not prove to be the user \"mallory\": our keys.psk has no such user",
        ),
    ] {
        let uri = keys.uri(&server, user, folder);
        let ours = fail_with(
            qio()?.args(["nbd", "info", &uri]),
            &["refused the pre-shared key", "decrypt_error (51)"],
        )?;
        answers.push(
            ours.output
                .replace(user, "USER")
                .replace(&format!("/{folder}/"), "/FOLDER/"),
        );
        server.peer.wait_for_output(log)?;
        fail_with(Command::new("nbdinfo").arg(&uri), &[])?;
        let object = format!("{},username={user}", keys.object(folder, "client"));
        fail_with(
            &mut keys.qemu_img(&server, "info", &object),
            &["TLS handshake failed"],
        )?;
        succeed(qio()?.args(["nbd", "info", &keys.uri(&server, "bob", "keys")]))?;
    }
    anyhow::ensure!(answers.first() == answers.last(), "{answers:#?}");
    // A client without any key.
    let certificates = format!(
        "nbds://localhost:{}/{EXPORT}?tls-certificates={}",
        server.port,
        keys.site.path("pki").display()
    );
    fail_with(qio()?.args(["nbd", "info", &certificates]), &["alert"])?;
    server.peer.wait_for_output("offered no pre-shared key")?;
    succeed(qio()?.args(["nbd", "info", &keys.uri(&server, "bob", "keys")]))?;
    Ok(())
}

/// Other servers do not know our key either. QEMU's closes the connection without an alert.
#[test]
fn servers_that_do_not_know_our_key_are_understood() -> anyhow::Result<()> {
    let keys = Keys::new()?;
    let image = keys.site.empty_image("disk.img", 1 << 20)?;
    let server = keys.qemu_nbd(&keys.object("keys", "server"), &image)?;
    let port = free_port()?;
    let mut command = Command::new("gnutls-serv");
    command.args([
        "--echo",
        "--priority",
        gnutls_priority(TlsVersion::Tls13),
        "-p",
        &port.to_string(),
    ]);
    let mut gnutls = Peer::spawn(command.arg("--pskpasswd").arg(keys.file("keys")))?;
    wait_listening(&mut gnutls, &Listening::Tcp(port))?;
    for (user, folder) in [("alice", "other"), ("mallory", "strangers")] {
        let uri = keys.uri(&server, user, folder);
        fail_with(qio()?.args(["nbd", "info", &uri]), &["during the TLS handshake"])?;
        let user = PskIdentity::load(&keys.file(folder), user, KeyPermissions::Private)?;
        let error = our_client(user, TlsVersion::Tls13, port)
            .err()
            .context("it was let in")?;
        let error = error.downcast_ref::<TlsError>().context("a TLS error")?;
        anyhow::ensure!(matches!(error, TlsError::PskRefused { .. }), "{error}");
    }
    succeed(qio()?.args(["nbd", "info", &keys.uri(&server, "alice", "keys")]))?;
    fail_with(
        qio()?.args(["nbd", "info", &keys.uri(&server, "nobody", "keys")]),
        &["Username nobody not found in PSK file", "keys.psk"],
    )?;
    Ok(())
}

/// A server is only who the key says: one that ignores the key and shows a certificate is refused, whoever it is.
#[test]
fn cred_17_servers_with_certificates_are_refused() -> anyhow::Result<()> {
    let keys = Keys::new()?;
    let pki = keys.site.path("pki");
    let image = keys.site.empty_image("disk.img", 1 << 20)?;
    let qemu = keys.qemu_nbd(
        &format!("{},verify-peer=off", keys.site.creds("pki", "server")),
        &image,
    )?;
    let port = free_port()?;
    let mut gnutls = Peer::spawn(
        Command::new("gnutls-serv")
            .args(["--echo", "-p", &port.to_string(), "--x509certfile"])
            .arg(pki.join("server-cert.pem"))
            .arg("--x509keyfile")
            .arg(pki.join("server-key.pem")),
    )?;
    wait_listening(&mut gnutls, &Listening::Tcp(port))?;
    let other_port = free_port()?;
    let mut openssl = Peer::spawn(
        Command::new("openssl")
            .args([
                "s_server",
                "-rev",
                "-accept",
                &format!("127.0.0.1:{other_port}"),
                "-cert",
            ])
            .arg(pki.join("server-cert.pem"))
            .arg("-key")
            .arg(pki.join("server-key.pem")),
    )?;
    wait_listening(&mut openssl, &Listening::Tcp(other_port))?;

    let output = fail_with(
        qio()?.args(["nbd", "info", &keys.uri(&qemu, "alice", "keys")]),
        &["alice"],
    )?
    .output;
    anyhow::ensure!(output.contains("with a certificate instead"), "{output}");
    for port in [port, other_port] {
        for version in VERSIONS {
            let user = PskIdentity::load(&keys.file("keys"), "alice", KeyPermissions::Private)?;
            let error = our_client(user, version, port)
                .err()
                .context("it was taken for alice's server")?;
            let refused = matches!(
                error.downcast_ref::<TlsError>(),
                Some(TlsError::PskIgnored { .. } | TlsError::PskRefused { .. })
            );
            anyhow::ensure!(refused, "{error}");
        }
    }
    Ok(())
}

/// The file is read once, and a user is found by hash: a handshake costs what it costs with one user.
#[test]
fn ten_thousand_users() -> anyhow::Result<()> {
    let keys = Keys::new()?;
    let crowd = keys.site.path("crowd");
    std::fs::create_dir(&crowd)?;
    let mut text = String::new();
    for n in 0..10_000 {
        text.push_str(&format!("user{n}:{}\n", *PskKey::generate()?.to_hex()));
    }
    // PskFile makes the file for its owner only; its lines are replaced by many more.
    PskFile::open(&crowd, KeyPermissions::Private)?.write()?;
    std::fs::write(crowd.join("keys.psk"), text)?;
    let image = keys.site.empty_image("disk.img", 1 << 20)?;
    let server = keys.qio_serve("crowd", &image)?;
    for user in ["user0", "user5000", "user9999"] {
        succeed(Command::new("nbdinfo").args(["--size", &keys.uri(&server, user, "crowd")]))?;
    }
    fail_with(
        qio()?.args(["nbd", "info", &keys.uri(&server, "alice", "keys")]),
        &["decrypt_error"],
    )?;
    Ok(())
}
