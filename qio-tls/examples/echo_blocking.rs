//! Echo over mutual TLS, on blocking threads.
//!
//! ```text
//! cargo run --example echo_blocking -- server DIR 127.0.0.1:4433
//! cargo run --example echo_blocking -- client DIR 127.0.0.1:4433 localhost < text
//! ```
//!
//! DIR is a credentials directory as QEMU has them (`qio pki` makes one). The server sends back what it gets; the
//! client sends its standard input, and prints what comes back until the server ends the session.
#![allow(clippy::print_stderr, reason = "an example talks to its user")]

use std::io::{self, Read, Write};
use std::time::Duration;

use qio_channel::{Channel, ChannelExt, Shutdown};
use qio_creds::{KeyPermissions, TlsCreds, TlsCredsX509Options};
use qio_socket::{ConnectOptions, ListenOptions, Listener, SocketAddress, connect};
use qio_tls::{Peer, TlsHandshake};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", dir, address] => server(dir, &address.parse()?),
        ["client", dir, address, name] => client(dir, &address.parse()?, name),
        _ => Err("usage: echo_blocking server DIR ADDRESS | client DIR ADDRESS NAME".into()),
    }
}

fn server(dir: &str, address: &SocketAddress) -> Result<()> {
    let creds = TlsCreds::load(TlsCredsX509Options::server(dir), KeyPermissions::Private)?.for_server()?;
    let listener = Listener::bind(std::slice::from_ref(address), &ListenOptions::default())?;
    for address in listener.local_addresses() {
        eprintln!("listening on {address}");
    }
    loop {
        let socket = listener.accept()?;
        let creds = creds.clone();
        std::thread::spawn(move || {
            let peer = socket.info().to_string();
            let session = || -> Result<()> {
                let mut channel = TlsHandshake::server(socket, &creds)?.complete(LIMIT)?;
                eprintln!("{peer}: {}, {}", name_of(channel.peer()), channel.facts());
                let mut data = [0; 16 << 10];
                loop {
                    let n = channel.read(&mut data)?;
                    if n == 0 {
                        break;
                    }
                    channel.write_all(data.get(..n).unwrap_or_default())?;
                }
                channel.shutdown(Shutdown::Write)?;
                Ok(())
            };
            if let Err(error) = session() {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

fn client(dir: &str, address: &SocketAddress, name: &str) -> Result<()> {
    let creds = TlsCreds::load(TlsCredsX509Options::client(dir), KeyPermissions::Private)?.for_client()?;
    let socket = connect(address, &ConnectOptions::default())?;
    let mut channel = TlsHandshake::client(socket, &creds, Some(name))?.complete(LIMIT)?;
    eprintln!("{}, {}", name_of(channel.peer()), channel.facts());
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        channel.write_all(line)?;
        let mut back = vec![0; line.len()];
        channel.read_exact(&mut back)?;
        io::stdout().write_all(&back)?;
    }
    channel.shutdown(Shutdown::Write)?;
    Ok(())
}

fn name_of(peer: &Peer) -> &str {
    peer.verified_name().unwrap_or("somebody")
}
