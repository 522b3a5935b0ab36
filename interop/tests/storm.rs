//! Two hundred clients at once, half of which leave in the middle of the handshake: nothing stays behind.
//!
//! This file is a test program of its own, with one test, because it counts the tasks, descriptors and heap bytes of the
//! whole process.

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use qio_creds::pki::{Authority, AuthorityTemplate, Name, Purpose, Template};
use qio_creds::{ClientCreds, Endpoint, ServerCreds, TlsCreds};
use qio_nbd::client::{ConnectOptions, Session, TlsSetup};
use qio_nbd::export::MemoryExport;
use qio_nbd::server::{Limits, Server, ServerTls};
use qio_socket::{ListenOptions, Listener, SocketAddress};
use qio_tls::{Handshake, Transport as _};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::Runtime;

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CLIENTS: usize = 200;
const SIZE: usize = 1 << 20;
/// Far above anything that should happen; the storm takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// A leak of 4 KiB by one client in four would be more.
const HEAP_TOLERANCE: usize = 192 << 10;

fn creds() -> anyhow::Result<(ClientCreds, ServerCreds)> {
    let ca = Authority::create(&AuthorityTemplate::new("storm authority"))?;
    let server = ca.issue(&Template::new(Purpose::Server).name("localhost".parse::<Name>()?))?;
    let client = ca.issue(&Template::new(Purpose::Client).common_name("tester"))?;
    let make = |endpoint, identity: qio_creds::pki::Pair| {
        TlsCreds::builder(endpoint)
            .ca([ca.certificate().clone()])
            .identity(identity.into_identity())
            .build()
    };
    Ok((
        make(Endpoint::Client, client)?.for_client()?,
        make(Endpoint::Server, server)?.for_server()?,
    ))
}

/// Negotiates, reads the whole disk, says goodbye.
fn honest(port: u16, creds: &ClientCreds) -> anyhow::Result<()> {
    let options = ConnectOptions {
        tls: TlsSetup::Require {
            creds: creds.clone(),
            hostname: Some("localhost".to_owned()),
        },
        timeout: PATIENCE,
    };
    let session = Session::connect(&SocketAddress::tcp("127.0.0.1", port), &options)?;
    let mut client = session.go(&"".parse()?)?;
    let mut block = vec![1; 64 << 10];
    for offset in (0..SIZE).step_by(block.len()) {
        block.fill(1);
        client.read_at(&mut block, offset as u64)?;
        ensure!(block.iter().all(|byte| *byte == 0), "wrong data at {offset}");
    }
    client.disconnect()?;
    Ok(())
}

/// Goes some way into the handshake, and leaves without a word: `step` says how far.
fn hostile(port: u16, creds: &ClientCreds, step: usize) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    if step.is_multiple_of(8) {
        return Ok(()); // before anything
    }
    let mut greeting = [0; 18];
    socket.read_exact(&mut greeting)?;
    if step % 8 == 1 {
        return Ok(()); // after the greeting
    }
    socket.write_all(&3u32.to_be_bytes())?;
    let start_tls = [&b"IHAVEOPT"[..], &5u32.to_be_bytes(), &0u32.to_be_bytes()].concat();
    socket.write_all(start_tls.get(..start_tls.len().min(step)).unwrap_or_default())?;
    if step < start_tls.len() {
        return Ok(()); // within STARTTLS
    }
    let mut reply = [0; 20];
    socket.read_exact(&mut reply)?;
    let mut handshake = Handshake::client(creds, Some("localhost"))?;
    handshake.step()?;
    let hello = handshake.to_send();
    let part = hello.len() * (step % 10 + 1) / 10;
    socket.write_all(hello.get(..part).unwrap_or_default())?;
    match step % 3 {
        // Within the hello, or with the server's answer unread, which makes the close a reset.
        0 => {}
        // Half-closed: the server must not wait for more.
        1 => socket.shutdown(Shutdown::Write)?,
        // After some of the server's answer.
        _ => {
            socket.set_read_timeout(Some(Duration::from_millis(1)))?;
            let _ = socket.read(&mut [0; 100]);
        }
    }
    Ok(())
}

fn descriptors() -> anyhow::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

fn heap() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// Tasks end a moment after whoever waits for them hears of it, hence the wait.
fn wait_for_tasks(runtime: &Runtime, wanted: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let alive = runtime.metrics().num_alive_tasks();
        if alive <= wanted {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{alive} tasks are alive, and {wanted} should be"
        );
        thread::yield_now();
    }
}

/// A whole server's life: started, stormed, stopped.
fn storm(creds: &(ClientCreds, ServerCreds)) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let descriptors_before = descriptors()?;
    let limits = Limits {
        max_connections: 2 * CLIENTS,
        max_unauthenticated: 2 * CLIENTS,
        handshake_timeout: Some(PATIENCE),
        ..Limits::default()
    };
    let server = Server::builder()
        .export("".parse()?, "", Arc::new(MemoryExport::new(SIZE)))
        .tls(ServerTls::Required(creds.1.clone()))
        .limits(limits)
        .build();
    let listener = Listener::bind(&[SocketAddress::tcp("127.0.0.1", 0)], &ListenOptions::default())?;
    let port = match listener.local_addresses().next() {
        Some(SocketAddress::Inet(address)) => address.port.parse()?,
        other => anyhow::bail!("not a TCP listener: {other:?}"),
    };
    let serving = {
        let server = server.clone();
        runtime.spawn(async move { server.serve(listener).await })
    };

    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|index| {
                let creds = &creds.0;
                scope.spawn(move || {
                    if index % 2 == 0 {
                        honest(port, creds)
                    } else {
                        hostile(port, creds, index / 2)
                    }
                    .with_context(|| format!("client {index}"))
                })
            })
            .collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().unwrap_or_else(|_| anyhow::bail!("panicked")))
    })?;

    // The clients are gone; the server notices each of them, and keeps one task, the one that accepts.
    wait_for_tasks(&runtime, 1)?;
    server.stop();
    runtime.block_on(serving)??;
    wait_for_tasks(&runtime, 0)?;
    let descriptors_after = descriptors()?;
    ensure!(
        descriptors_after == descriptors_before,
        "{descriptors_before} descriptors before, {descriptors_after} after"
    );
    Ok(())
}

/// hostile.md NBDS-01, NBDS-02, NBDS-19, IO-01 together.
#[test]
fn nothing_stays_behind_a_storm() -> anyhow::Result<()> {
    let creds = creds()?;
    storm(&creds)?; // what is made once for the process is made now
    let before = heap();
    for _ in 0..3 {
        storm(&creds)?;
    }
    let after = heap();
    ensure!(
        after.saturating_sub(before) < HEAP_TOLERANCE,
        "the heap grew from {before} to {after} bytes over {} clients",
        3 * CLIENTS
    );
    Ok(())
}
