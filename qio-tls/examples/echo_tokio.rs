//! Echo over mutual TLS, under tokio. The same as `echo_blocking`, driven the other way.
//!
//! ```text
//! cargo run --features tokio --example echo_tokio -- server DIR 127.0.0.1:4433
//! cargo run --features tokio --example echo_tokio -- client DIR 127.0.0.1:4433 localhost < text
//! ```
#![allow(clippy::print_stderr, reason = "an example talks to its user")]

use std::io::{self, Write};
use std::time::Duration;

use qio_channel::AsyncChannel;
use qio_creds::{KeyPermissions, ServerCreds, TlsCreds, TlsCredsX509Options};
use qio_socket::{ConnectOptions, ListenOptions, Listener, SocketAddress, SocketChannel, connect_async};
use qio_tls::{Peer, TlsHandshake};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", dir, address] => server(dir, &address.parse()?).await,
        ["client", dir, address, name] => client(dir, &address.parse()?, name).await,
        _ => Err("usage: echo_tokio server DIR ADDRESS | client DIR ADDRESS NAME".into()),
    }
}

async fn server(dir: &str, address: &SocketAddress) -> Result<()> {
    let creds = TlsCreds::load(TlsCredsX509Options::server(dir), KeyPermissions::Private)?.for_server()?;
    let mut listener =
        Listener::bind(std::slice::from_ref(address), &ListenOptions::default())?.into_async()?;
    for address in listener.local_addresses() {
        eprintln!("listening on {address}");
    }
    loop {
        let socket = listener.accept().await?;
        let creds = creds.clone();
        tokio::spawn(async move {
            if let Err(error) = echo(socket, &creds).await {
                eprintln!("{error}");
            }
        });
    }
}

async fn echo(socket: SocketChannel, creds: &ServerCreds) -> Result<()> {
    let channel = TlsHandshake::server(socket, creds)?.complete_async(LIMIT).await?;
    eprintln!("{}, {}", name_of(channel.peer()), channel.facts());
    let mut channel = AsyncChannel::new(channel)?;
    let mut data = [0; 16 << 10];
    loop {
        let n = channel.read(&mut data).await?;
        if n == 0 {
            break;
        }
        channel.write_all(data.get(..n).unwrap_or_default()).await?;
        channel.flush().await?;
    }
    Ok(AsyncWriteExt::shutdown(&mut channel).await?)
}

async fn client(dir: &str, address: &SocketAddress, name: &str) -> Result<()> {
    let creds = TlsCreds::load(TlsCredsX509Options::client(dir), KeyPermissions::Private)?.for_client()?;
    let socket = connect_async(address, &ConnectOptions::default()).await?;
    let channel = TlsHandshake::client(socket, &creds, Some(name))?
        .complete_async(LIMIT)
        .await?;
    eprintln!("{}, {}", name_of(channel.peer()), channel.facts());
    let mut channel = AsyncChannel::new(channel)?;
    let text = tokio::task::spawn_blocking(|| io::read_to_string(io::stdin())).await??;
    for line in text.split_inclusive('\n') {
        channel.write_all(line.as_bytes()).await?;
        channel.flush().await?;
        let mut back = vec![0; line.len()];
        channel.read_exact(&mut back).await?;
        io::stdout().write_all(&back)?;
    }
    Ok(AsyncWriteExt::shutdown(&mut channel).await?)
}

fn name_of(peer: &Peer) -> &str {
    peer.verified_name().unwrap_or("somebody")
}
