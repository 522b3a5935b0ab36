//! What the tests against real peers share: starting programs, waiting for them, and never leaving one behind.
//!
//! The peers are Debian's. A program that is not there is a failed test which names the package; `./x test` installs
//! them all. Nothing here waits for a fixed time: a peer is ready when it takes a connection or has said so.

pub mod site;

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long a peer may take for anything before the test fails. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(5);

/// The full path of a program, or an error that names the Debian package it comes from.
///
/// # Errors
///
/// If the program is not on `PATH`.
pub fn require(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .with_context(|| {
            format!(
                "{program} is not installed; it is in the Debian package {package} (./x test installs it)"
            )
        })
}

/// A TCP port on the loopback that was free a moment ago.
///
/// Another program may take it before the peer does; the peer then ends, and the wait for it says so.
///
/// # Errors
///
/// If the system has no port left.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// Where a peer is expected to listen.
#[derive(Debug, Clone)]
pub enum Listening {
    /// On this port of 127.0.0.1.
    Tcp(u16),
    /// On this socket.
    Unix(PathBuf),
}

impl Listening {
    fn answers(&self) -> bool {
        match self {
            Self::Tcp(port) => TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).is_ok(),
            Self::Unix(path) => UnixStream::connect(path).is_ok(),
        }
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "127.0.0.1:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Waits until the peer takes a connection there. The connection is closed at once, so a server that ends after its
/// first client must not be waited for in this way.
///
/// # Errors
///
/// If the peer ends first, or [`PATIENCE`] is over; the error holds what the peer printed.
pub fn wait_listening(peer: &mut Peer, place: &Listening) -> anyhow::Result<()> {
    peer.wait_until(&format!("a listener on {place}"), |_| place.answers())
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Peer {
    name: String,
    child: Child,
    output: PathBuf,
    /// Holds the output file; gone with the peer.
    _directory: tempfile::TempDir,
}

impl Peer {
    /// Starts a program. Its output goes to a file, so that it never waits for a reader.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let directory = tempfile::tempdir()?;
        let output = directory.path().join("output");
        let file = File::options().create_new(true).append(true).open(&output)?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name,
            child,
            output,
            _directory: directory,
        })
    }

    /// What it has printed so far, on both its outputs.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Sends it bytes on its standard input.
    ///
    /// # Errors
    ///
    /// If it has closed its input.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let stdin = self
            .child
            .stdin
            .as_mut()
            .context("the standard input is closed already")?;
        stdin
            .write_all(bytes)
            .and_then(|()| stdin.flush())
            .with_context(|| format!("{} takes no input", self.name))
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has printed this.
    ///
    /// # Errors
    ///
    /// If it ends without having done so, or [`PATIENCE`] is over.
    pub fn wait_for_output(&mut self, text: &str) -> anyhow::Result<()> {
        self.wait_until(&format!("the output {text:?}"), |peer| {
            peer.output().contains(text)
        })
    }

    /// Waits until a condition holds.
    ///
    /// # Errors
    ///
    /// If the program ends before it holds, or [`PATIENCE`] is over.
    pub fn wait_until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Asked before the condition: what it printed last counts even if it has ended since.
            let ended = self.child.try_wait()?;
            if condition(self) {
                return Ok(());
            }
            if let Some(status) = ended {
                bail!(
                    "{} ended ({status}) before {what}; it printed:\n{}",
                    self.name,
                    self.output()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "{} took too long for {what}; it printed:\n{}",
                    self.name,
                    self.output()
                );
            }
            thread::sleep(POLL);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// If [`PATIENCE`] is over; the program is then killed.
    pub fn wait(mut self) -> anyhow::Result<Finished> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Finished {
                    status,
                    output: self.output(),
                });
            }
            if Instant::now() > deadline {
                bail!("{} did not end; it printed:\n{}", self.name, self.output());
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended on its own, which is no error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a program ended, and what it printed.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it printed, on both its outputs.
    pub output: String,
}

/// Runs a program to its end, with nothing on its standard input.
///
/// # Errors
///
/// If it cannot be started or does not end within [`PATIENCE`]. How it ends is for the caller to judge.
pub fn run(command: &mut Command) -> anyhow::Result<Finished> {
    let mut peer = Peer::spawn(command)?;
    peer.close_stdin();
    peer.wait()
}

/// Runs a program to its end and gives what it printed.
///
/// # Errors
///
/// As [`run`], and if it ends with anything but success.
pub fn succeed(command: &mut Command) -> anyhow::Result<String> {
    let finished = run(command)?;
    if !finished.status.success() {
        bail!(
            "{command:?} failed ({}); it printed:\n{}",
            finished.status,
            finished.output
        );
    }
    Ok(finished.output)
}

/// The path as an argument of QEMU, in which commas are doubled.
#[must_use]
pub fn qemu_path(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
