//! A place to test in: certificates made by our own command, images, and servers of either side.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{Finished, Listening, Peer, free_port, qemu_path, run, succeed, wait_listening};

/// The name of the export in every test.
pub const EXPORT: &str = "disk";

/// A program of this workspace, in the profile that the tests were built in.
///
/// # Errors
///
/// If it has not been built: `./x test` does that first.
pub fn own_program(name: &str) -> anyhow::Result<PathBuf> {
    // target/PROFILE/deps/THIS-TEST
    let this = std::env::current_exe()?;
    let profile = this
        .parent()
        .and_then(Path::parent)
        .context("this test runs from an unknown place")?;
    let path = profile.join(name);
    if !path.is_file() {
        bail!(
            "{} has not been built: run ./x test, or cargo build -p qio and \
             cargo build -p qio-tls --all-features --examples",
            path.display()
        );
    }
    Ok(path)
}

/// The `qio` command, to which arguments can be added.
///
/// # Errors
///
/// As [`own_program`].
pub fn qio() -> anyhow::Result<Command> {
    let mut command = Command::new(own_program("qio")?);
    command.env_remove("QIO_LOG");
    Ok(command)
}

/// A folder with an authority and a certificate for each end, made by `qio pki`.
#[derive(Debug)]
pub struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    /// Makes it: `pki` holds what both ends need, `anonymous` only the authority, `strangers` both ends of another
    /// authority.
    ///
    /// # Errors
    ///
    /// If `qio pki` fails.
    pub fn new() -> anyhow::Result<Self> {
        let site = Site {
            directory: tempfile::tempdir()?,
        };
        for (name, cn) in [("pki", "interop authority"), ("strangers", "another authority")] {
            let dir = site.path(name);
            succeed(qio()?.args(["pki", "init"]).arg(&dir).args(["--cn", cn]))?;
            succeed(qio()?.args(["pki", "server"]).arg(&dir).args([
                "--name",
                "localhost",
                "--name",
                "127.0.0.1",
            ]))?;
            succeed(qio()?.args(["pki", "client"]).arg(&dir).args(["--cn", "tester"]))?;
        }
        let anonymous = site.path("anonymous");
        std::fs::create_dir(&anonymous)?;
        std::fs::copy(
            site.path("pki").join("ca-cert.pem"),
            anonymous.join("ca-cert.pem"),
        )?;
        Ok(site)
    }

    /// A path within the site.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A `--object` argument for credentials in a folder of the site.
    #[must_use]
    pub fn creds(&self, folder: &str, endpoint: &str) -> String {
        format!(
            "tls-creds-x509,id=tls0,dir={},endpoint={endpoint}",
            qemu_path(&self.path(folder))
        )
    }

    /// Makes an image with random, repeating and sparse parts.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn image(&self, name: &str, size: u64) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        let mut file = File::create_new(&path)?;
        file.set_len(size)?;
        let mut random = File::open("/dev/urandom")?;
        let mut block = vec![0; 1 << 20];
        let blocks = size >> 20;
        for index in (0..blocks).filter(|index| index % 3 == 0) {
            if index % 2 == 0 {
                std::io::Read::read_exact(&mut random, &mut block)?;
            } else {
                block.fill(0xa5);
            }
            // Not at the start of its mebibyte, so that data begins and ends in the middle of requests.
            file.seek(SeekFrom::Start((index << 20) + 512 * (index % 7)))?;
            let room = usize::try_from(size - file.stream_position()?)?.min(block.len());
            file.write_all(block.get(..room).unwrap_or_default())?;
        }
        Ok(path)
    }

    /// Makes an empty image.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn empty_image(&self, name: &str, size: u64) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        File::create(&path)?.set_len(size)?;
        Ok(path)
    }
}

/// The SHA-256 of a file, by OpenSSL: several times faster than coreutils' where the processor has instructions for it.
///
/// # Errors
///
/// If it cannot be read.
pub fn sha256(path: &Path) -> anyhow::Result<String> {
    let output = succeed(Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(path))?;
    let hash = output
        .split_whitespace()
        .next()
        .context("openssl dgst printed nothing")?;
    Ok(hash.to_owned())
}

/// How a client reaches a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// A unix socket, in clear text.
    Unix,
    /// TCP on the loopback, in clear text.
    Tcp,
    /// TCP on the loopback, with mutual TLS.
    Tls,
}

impl Route {
    /// All of them.
    pub const ALL: [Route; 3] = [Route::Unix, Route::Tcp, Route::Tls];
}

/// An NBD server, ours or a peer's, that is listening.
#[derive(Debug)]
pub struct NbdServer {
    /// The program.
    pub peer: Peer,
    /// How clients reach it.
    pub route: Route,
    listening: Listening,
}

impl NbdServer {
    /// Our own: `qio nbd serve`, persistent, for any number of clients.
    ///
    /// # Errors
    ///
    /// If it does not start listening.
    pub fn qio(site: &Site, route: Route, image: &Path) -> anyhow::Result<Self> {
        Self::qio_with(site, route, image, "pki", &[])
    }

    /// Our own, with credentials from a folder of the site and further arguments.
    ///
    /// # Errors
    ///
    /// If it does not start listening.
    pub fn qio_with(
        site: &Site,
        route: Route,
        image: &Path,
        creds: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let mut command = qio()?;
        command.args(["-v", "nbd", "serve"]);
        Self::start(site, route, image, creds, command, arguments)
    }

    /// QEMU's: `qemu-nbd`, persistent, for any number of clients.
    ///
    /// # Errors
    ///
    /// If it does not start listening.
    pub fn qemu_nbd(site: &Site, route: Route, image: &Path, creds: &str) -> anyhow::Result<Self> {
        Self::start(site, route, image, creds, Command::new("qemu-nbd"), &[])
    }

    /// Both take the same options, which is the point.
    fn start(
        site: &Site,
        route: Route,
        image: &Path,
        creds: &str,
        mut command: Command,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        command
            .args(["-t", "-e", "0", "-f", "raw", "-x", EXPORT])
            .args(arguments);
        let listening = place(site, route)?;
        match &listening {
            Listening::Unix(path) => command.arg("-k").arg(path),
            Listening::Tcp(port) => command.args(["-b", "127.0.0.1", "-p", &port.to_string()]),
        };
        if route == Route::Tls {
            command.args(["--object", &site.creds(creds, "server"), "--tls-creds", "tls0"]);
        }
        command.arg(image);
        Self::listen(command, route, listening)
    }

    /// nbdkit with its file plugin.
    ///
    /// # Errors
    ///
    /// If it does not start listening.
    pub fn nbdkit(site: &Site, route: Route, image: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("nbdkit");
        command.args(["-f", "-e", EXPORT]);
        let listening = place(site, route)?;
        match &listening {
            Listening::Unix(path) => command.arg("-U").arg(path),
            Listening::Tcp(port) => command.args(["-i", "127.0.0.1", "-p", &port.to_string()]),
        };
        if route == Route::Tls {
            let certificates = site.path("pki");
            command.args(["--tls=require", "--tls-verify-peer"]);
            command.arg(format!("--tls-certificates={}", certificates.display()));
        }
        command.arg("file").arg(image);
        Self::listen(command, route, listening)
    }

    fn listen(mut command: Command, route: Route, listening: Listening) -> anyhow::Result<Self> {
        let mut peer = Peer::spawn(&mut command)?;
        wait_listening(&mut peer, &listening)?;
        Ok(NbdServer {
            peer,
            route,
            listening,
        })
    }

    /// The NBD URI for libnbd's tools and ours, with client credentials from a folder of the site.
    #[must_use]
    pub fn uri(&self, site: &Site, creds: &str) -> String {
        self.uri_as("localhost", site, creds)
    }

    /// Likewise, with another host name for the loopback.
    #[must_use]
    pub fn uri_as(&self, host: &str, site: &Site, creds: &str) -> String {
        match (&self.listening, self.route) {
            (Listening::Unix(path), _) => format!("nbd+unix:///{EXPORT}?socket={}", path.display()),
            (Listening::Tcp(port), Route::Tls) => {
                format!(
                    "nbds://{host}:{port}/{EXPORT}?tls-certificates={}",
                    site.path(creds).display()
                )
            }
            (Listening::Tcp(port), _) => format!("nbd://{host}:{port}/{EXPORT}"),
        }
    }

    /// The port, of a server on TCP.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self.listening {
            Listening::Tcp(port) => port,
            Listening::Unix(_) => 0,
        }
    }

    /// QEMU's options for a block device on this server, for `--image-opts`.
    #[must_use]
    pub fn qemu_options(&self) -> String {
        match (&self.listening, self.route) {
            (Listening::Unix(path), _) => format!("driver=nbd,path={},export={EXPORT}", qemu_path(path)),
            (Listening::Tcp(port), route) => {
                let tls = if route == Route::Tls {
                    ",tls-creds=tls0"
                } else {
                    ""
                };
                format!("driver=nbd,host=localhost,port={port},export={EXPORT}{tls}")
            }
        }
    }

    /// A QEMU tool with its credentials object, if the route needs one, before the tool's own arguments.
    #[must_use]
    pub fn qemu_tool(&self, site: &Site, tool: &str, subcommand: &[&str]) -> Command {
        let mut command = Command::new(tool);
        command.args(subcommand);
        if self.route == Route::Tls {
            command.args(["--object", &site.creds("pki", "client")]);
        }
        command
    }

    /// Reads what the server logged until it says this.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn expect_log(&mut self, text: &str) -> anyhow::Result<()> {
        self.peer.wait_for_output(text)
    }
}

fn place(site: &Site, route: Route) -> anyhow::Result<Listening> {
    Ok(match route {
        Route::Unix => Listening::Unix(site.path(&format!("nbd-{}.sock", free_port()?))),
        Route::Tcp | Route::Tls => Listening::Tcp(free_port()?),
    })
}

/// Runs a program that must fail and say why.
///
/// # Errors
///
/// If it succeeds, or its message lacks one of the texts.
pub fn fail_with(command: &mut Command, texts: &[&str]) -> anyhow::Result<Finished> {
    let finished = run(command)?;
    if finished.status.success() {
        bail!("{command:?} succeeded; it printed:\n{}", finished.output);
    }
    for text in texts {
        if !finished.output.contains(text) {
            bail!(
                "{command:?} does not mention {text:?}; it printed:\n{}",
                finished.output
            );
        }
    }
    Ok(finished)
}
