//! One credentials object shared by two services, and its certificates renewed under load.
//!
//! Two services answer lines of text over mutual TLS, one in upper case, one backwards. Clients connect to them all
//! the time. Meanwhile the server's certificate is renewed again and again; a watcher reloads the object, and both
//! services present the new certificate to whoever connects next. Not one handshake may fail.
//!
//! ```text
//! cargo run --example shared_creds -- 20
//! ```
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use qio_channel::{Channel as _, ChannelExt as _};
use qio_creds::pki::{Authority, AuthorityTemplate, Directory, Overwrite, Purpose, Template};
use qio_creds::{
    ClientCreds, CredsWatcher, KeyPermissions, ServerCreds, TlsCreds, TlsCredsX509Options, WatchOptions,
};
use qio_socket::{ConnectOptions, ListenOptions, Listener, SocketAddress, SocketChannel, connect};
use qio_tls::{Peer, TlsHandshake};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(30);
const LINE: &[u8; 8] = b"a line.\n";

/// What a service makes of a line.
type Answer = fn(&mut [u8]);

const SERVICES: [Answer; 2] = [<[u8]>::make_ascii_uppercase, <[u8]>::reverse];
const CLIENTS_PER_SERVICE: usize = 2;

fn main() -> Result<()> {
    let renewals = std::env::args().nth(1).map_or(Ok(10), |count| count.parse())?;

    let folder = tempfile::tempdir()?;
    let directory = Directory::create(folder.path())?;
    let authority = Authority::create(&AuthorityTemplate::new("An authority"))?;
    directory.write_authority(&authority, Overwrite::Refuse)?;
    let issue = |purpose, template: &Template, overwrite| -> Result<()> {
        directory.write_pair(purpose, &authority.issue(template)?, overwrite)?;
        Ok(())
    };
    let server = Template::new(Purpose::Server).name("localhost".parse()?);
    issue(Purpose::Server, &server, Overwrite::Refuse)?;
    issue(
        Purpose::Client,
        &Template::new(Purpose::Client),
        Overwrite::Refuse,
    )?;

    // The one object. Its clones are handles to it.
    let creds = TlsCreds::load(
        TlsCredsX509Options::server(folder.path()),
        KeyPermissions::Private,
    )?;
    let (tell, reloads) = mpsc::channel();
    let mut often = WatchOptions::default();
    often.quiet = Duration::from_millis(20);
    let _watcher = CredsWatcher::start_with(&creds, often, move |outcome| {
        // A certificate that does not fit its key yet is refused, and the old pair serves on.
        let _ = tell.send(outcome.is_ok());
    })?;
    let for_clients = TlsCreds::load(
        TlsCredsX509Options::client(folder.path()),
        KeyPermissions::Private,
    )?;
    let for_clients = for_clients.for_client()?;

    let done = AtomicBool::new(false);
    let (handshakes, certificates) = thread::scope(|scope| -> Result<(usize, usize)> {
        let mut clients = Vec::new();
        for answer in SERVICES {
            let any_port = SocketAddress::tcp("127.0.0.1", 0);
            let listener = Listener::bind(&[any_port], &ListenOptions::default())?;
            let address = listener.local_addresses().next().ok_or("no address")?.clone();
            serve(creds.for_server()?, listener, answer);
            for _ in 0..CLIENTS_PER_SERVICE {
                clients.push(keep_connecting(
                    scope,
                    &for_clients,
                    address.clone(),
                    answer,
                    &done,
                ));
            }
        }
        let renewed = (0..renewals).try_for_each(|_| {
            issue(Purpose::Server, &server, Overwrite::Replace)?;
            while !reloads.recv_timeout(LIMIT)? {}
            Ok(())
        });
        done.store(true, Ordering::Relaxed);

        let (mut handshakes, mut certificates) = (0, HashSet::new());
        for client in clients {
            let (count, seen) = client.join().map_err(|_| "a client panicked")??;
            handshakes += count;
            certificates.extend(seen);
        }
        renewed.map(|()| (handshakes, certificates.len()))
    })?;
    println!("{renewals} renewals, {handshakes} handshakes, {certificates} certificates seen, none failed");
    Ok(())
}

/// A service: a thread that accepts, and one for each connection. It ends with the program.
fn serve(creds: ServerCreds, listener: Listener, answer: Answer) {
    thread::spawn(move || {
        while let Ok(socket) = listener.accept() {
            let creds = creds.clone();
            // What goes wrong here, the client reports.
            thread::spawn(move || converse(socket, &creds, answer));
        }
    });
}

fn converse(socket: SocketChannel, creds: &ServerCreds, answer: Answer) -> Result<()> {
    let mut channel = TlsHandshake::server(socket, creds)?.complete(LIMIT)?;
    let mut line = *LINE;
    channel.read_exact(&mut line)?;
    answer(&mut line);
    channel.write_all(&line)?;
    Ok(channel.flush()?)
}

/// How many handshakes a client made, and which certificates it saw.
type Seen = (usize, HashSet<Vec<u8>>);

fn keep_connecting<'scope>(
    scope: &'scope Scope<'scope, '_>,
    creds: &'scope ClientCreds,
    address: SocketAddress,
    answer: Answer,
    done: &'scope AtomicBool,
) -> ScopedJoinHandle<'scope, Result<Seen>> {
    scope.spawn(move || {
        let (mut count, mut seen) = (0, HashSet::new());
        while !done.load(Ordering::Relaxed) {
            let socket = connect(&address, &ConnectOptions::within(LIMIT))?;
            let mut channel = TlsHandshake::client(socket, creds, Some("localhost"))?.complete(LIMIT)?;
            let mut line = *LINE;
            channel.write_all(&line)?;
            channel.flush()?;
            answer(&mut line);
            let mut reply = *LINE;
            channel.read_exact(&mut reply)?;
            if reply != line {
                return Err(io::Error::from(io::ErrorKind::InvalidData).into());
            }
            if let Peer::Verified(certificate) = channel.peer() {
                seen.extend(certificate.chain().first().map(|leaf| leaf.to_vec()));
            }
            count += 1;
        }
        Ok((count, seen))
    })
}
