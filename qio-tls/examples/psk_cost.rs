//! What a handshake with a pre-shared key costs a server, with few and with many users in the file.
//!
//! ```text
//! cargo run --release --features psk --example psk_cost
//! ```
//!
//! Both ends run in memory, in turns, so that a busy machine disturbs all cases alike; counted is the CPU time of the server's
//! thread while the server works. Printed is the median of the rounds, with the least and the greatest.
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "an example talks to its user"
)]

use std::time::Duration;

use qio_creds::{ClientCreds, Psk, PskIdentity, PskKey, PskUsers, ServerCreds, TlsCreds};
use qio_tls::{Handshake, HandshakeStep, Transport};
use rustix::time::{ClockId, clock_gettime};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROUNDS: usize = 9;
const HANDSHAKES: u32 = 1000;

fn main() -> Result<()> {
    let key = |byte: u8| PskKey::from_bytes(&[byte; 32]);
    let server = |count: usize| -> Result<ServerCreds> {
        let others =
            (1..count).map(|n| PskIdentity::new(format!("user{n}"), PskKey::generate()?).map_err(Into::into));
        let mut users = others.collect::<Result<Vec<_>>>()?;
        users.push(PskIdentity::new("alice", key(1)?)?);
        Ok(TlsCreds::from_psk(None, Psk::server(PskUsers::new(users)?)).for_server()?)
    };
    let client = |name: &str, byte: u8| -> Result<ClientCreds> {
        Ok(TlsCreds::from_psk(None, Psk::client(PskIdentity::new(name, key(byte)?)?)).for_client()?)
    };
    let (few, many) = (server(1)?, server(10_000)?);
    let cases = [
        ("1 user", &few, client("alice", 1)?, true),
        ("10,000 users", &many, client("alice", 1)?, true),
        ("10,000 users, wrong key", &many, client("alice", 2)?, false),
        ("10,000 users, unknown user", &many, client("mallory", 1)?, false),
    ];
    let mut figures = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for ((_, server, client, succeeds), figures) in cases.iter().zip(&mut figures) {
            let mut cpu = Duration::ZERO;
            for _ in 0..HANDSHAKES {
                cpu += handshake(server, client, *succeeds)?;
            }
            figures.push(cpu.as_secs_f64() * 1e6 / f64::from(HANDSHAKES));
        }
    }
    for ((name, ..), figures) in cases.iter().zip(&mut figures) {
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or_default();
        println!(
            "{name:28} {:6.1} us (from {:.1} to {:.1})",
            at(ROUNDS / 2),
            at(0),
            at(ROUNDS - 1)
        );
    }
    Ok(())
}

fn cpu_now() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// One handshake; the server's CPU time.
fn handshake(server: &ServerCreds, client: &ClientCreds, succeeds: bool) -> Result<Duration> {
    let begin = cpu_now();
    let mut server = Handshake::server(server)?;
    let mut cpu = cpu_now() - begin;
    let mut client = Handshake::client(client, None)?;
    loop {
        let begin = cpu_now();
        let step = server.step();
        cpu += cpu_now() - begin;
        match step {
            Ok(HandshakeStep::Done) if succeeds => return Ok(cpu),
            Err(_) if !succeeds => return Ok(cpu),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let _ = client.step();
        carry(&mut client, &mut server);
        carry(&mut server, &mut client);
    }
}

fn carry(from: &mut impl Transport, to: &mut impl Transport) {
    let bytes = from.to_send().to_vec();
    let space = to.receive_space();
    let n = bytes.len().min(space.len());
    if let (Some(space), Some(bytes)) = (space.get_mut(..n), bytes.get(..n)) {
        space.copy_from_slice(bytes);
    }
    if n > 0 {
        to.received(n);
        from.sent(n);
    }
}
