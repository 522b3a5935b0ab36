//! Connecting within tokio.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use qio_channel::register_with_tokio;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use tokio::time::{sleep, timeout_at};

use crate::address::{InetAddress, SocketAddress};
use crate::channel::SocketChannel;
use crate::connect::{
    ConnectOptions, Progress, into_channel, is_connected, start_tcp, unix_target, unsupported,
};
use crate::error::SocketError;
use crate::resolve::{Lookup, Purpose, ask_system, begin, finish};

/// The longest pause between two knocks at a unix listener whose queue is full.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// Connects as [`connect`](crate::connect) does, without blocking the thread.
///
/// Needs a tokio runtime with I/O and time enabled. The channel is in blocking mode; `AsyncChannel::new`
/// switches it. Dropping the future closes whatever it had opened.
///
/// # Errors
/// A [`SocketError`] that lists every address tried, with its reason.
pub async fn connect_async(
    address: &SocketAddress,
    options: &ConnectOptions,
) -> Result<SocketChannel, SocketError> {
    let mut progress = Progress::new(address, options);
    match address {
        SocketAddress::Inet(inet) => {
            let targets = match begin(inet, Purpose::Connect)? {
                Lookup::Done(targets) => targets,
                Lookup::Name { host, port } => {
                    let answer = tokio::task::spawn_blocking(move || ask_system(&host, port));
                    match before(progress.deadline, answer).await {
                        Some(Ok(answer)) => finish(inet, answer)?,
                        Some(Err(_)) => finish(inet, Err(io::Error::other("the runtime is shutting down")))?,
                        None => return Err(progress.give_up()),
                    }
                }
            };
            for (index, target) in targets.iter().enumerate() {
                let end = progress.share(targets.len() - index);
                match before(end, connect_tcp(*target, inet)).await {
                    Some(Ok(channel)) => return Ok(channel),
                    Some(Err(error)) => progress.failed(target.to_string(), error),
                    None => progress.failed(target.to_string(), no_answer()),
                }
            }
            Err(progress.give_up())
        }
        SocketAddress::Unix(unix) => {
            let target = unix_target(unix)?;
            let error = match before(progress.deadline, connect_unix(&target)).await {
                Some(Ok(channel)) => return Ok(channel),
                Some(Err(error)) => error,
                None => no_answer(),
            };
            progress.failed(unix.path.display().to_string(), error);
            Err(progress.give_up())
        }
        other => Err(unsupported(other)),
    }
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// The future's output, or `None` if the deadline comes first.
async fn before<F: IntoFuture>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        Some(deadline) => timeout_at(deadline.into(), future.into_future()).await.ok(),
        None => Some(future.await),
    }
}

async fn connect_tcp(target: SocketAddr, inet: &InetAddress) -> io::Result<SocketChannel> {
    let fd = start_tcp(target, inet.mptcp)?;
    if !is_connected(fd.as_fd())? {
        let registration = register_with_tokio(fd.as_fd())?;
        loop {
            let mut guard = registration.writable().await?;
            if is_connected(fd.as_fd())? {
                break;
            }
            guard.clear_ready();
        }
    }
    into_channel(fd, inet)
}

/// A unix connection is made at once or, when the listener's queue is full, not at all; and no event tells when
/// there is room. So knock again, ever more slowly.
async fn connect_unix(target: &SocketAddrUnix) -> io::Result<SocketChannel> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let mut pause = Duration::from_millis(1);
    loop {
        let fd: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&fd, target) {
            Ok(()) => return into_channel(fd, &InetAddress::default()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                drop(fd);
                sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
