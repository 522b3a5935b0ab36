//! `qio tls`: looking at TLS servers, and talking to them by hand.

#![allow(clippy::print_stderr, reason = "what the command prints is what it is for")]

use std::fmt::Write as _;
use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use qio_channel::{AsyncChannel, BoxChannel, Channel as _, ChannelExt as _};
use qio_creds::rustls_pki_types::CertificateDer;
use qio_creds::rustls_pki_types::pem::PemObject as _;
use qio_creds::{CertificateSummary, ClientCreds, Endpoint, KeyPermissions, Priority, TlsCreds, printable};
use qio_nbd::negotiation::{ClientEvent, ClientNegotiation, ClientTls};
use qio_socket::{ConnectOptions, SocketAddress};
use qio_tls::{Peer, TlsChannel, TlsError, TlsHandshake};
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::objects;

/// For the connection, and again for the handshake.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The exit code when the server is not who it should be.
const NOT_VERIFIED: u8 = 3;

/// How much is read at once, from either side.
const CHUNK: usize = 64 << 10;

/// Look at TLS servers, and talk to them.
#[derive(Debug, Args)]
pub(crate) struct TlsCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Connect(Connect),
}

/// What is said in clear text before TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StartTls {
    /// NBD's greeting, and its option STARTTLS.
    Nbd,
}

/// Connect to a TLS server: show what was agreed and who it is, then pass on standard input and output.
///
/// Exit codes: 0 when the session was ended properly, 1 when there was none or it broke, 2 for wrong options, 3 when the
/// server is not who it should be.
#[derive(Debug, Args)]
struct Connect {
    /// The server: HOST:PORT, or unix:PATH.
    server: SocketAddress,
    /// Make an object for other options to refer to, such as TLS credentials.
    #[arg(long = "object", value_name = "TYPE,id=ID,...")]
    objects: Vec<String>,
    /// Use the credentials of this --object.
    #[arg(long, value_name = "ID", conflicts_with_all = ["ca", "priority"])]
    tls_creds: Option<String>,
    /// Verify the server against the authorities in this PEM file.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The versions and algorithms to offer, as GnuTLS writes them: NORMAL:-VERS-TLS1.3
    #[arg(long, value_name = "STRING")]
    priority: Option<Priority>,
    /// The name to look for in the server's certificate, instead of the host.
    #[arg(long, value_name = "NAME")]
    tls_hostname: Option<String>,
    /// Go on even if the server cannot be verified, and use private keys that others can read.
    #[arg(long)]
    insecure: bool,
    /// Begin in clear text, in this protocol.
    #[arg(long, value_name = "PROTOCOL")]
    starttls: Option<StartTls>,
    /// Print what was agreed as JSON, and end.
    #[arg(long)]
    json: bool,
}

/// Runs the command. Blocks.
pub(crate) fn run(command: TlsCommand) -> anyhow::Result<ExitCode> {
    match command.command {
        Command::Connect(command) => command.run(),
    }
}

impl Connect {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let creds = self.creds()?;
        let (channel, refusal) = match &creds {
            None => (self.session(&self.unverified()?)?, None),
            Some(creds) => match self.session(creds) {
                Ok(channel) => (channel, None),
                // A second connection shows who it is instead.
                Err(Failed::Refused(refusal)) => (self.session(&self.unverified()?)?, Some(refusal)),
                Err(error) => return Err(error.into()),
            },
        };
        let report = Report::new(&channel, refusal.as_ref());
        if self.json {
            let json = serde_json::to_string_pretty(&report)? + "\n";
            match io::stdout().lock().write_all(json.as_bytes()) {
                // The reader has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                done => done.context("writing to standard output")?,
            }
        } else {
            // Standard output is for what the server says.
            eprint!("{}", report.to_text());
        }
        if refusal.is_some() && !self.insecure {
            return Ok(ExitCode::from(NOT_VERIFIED));
        }
        if !self.json {
            converse(Box::new(channel))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What to verify the server with, if anything.
    fn creds(&self) -> anyhow::Result<Option<ClientCreds>> {
        let permissions = if self.insecure {
            KeyPermissions::Insecure
        } else {
            KeyPermissions::Private
        };
        let objects = objects::load(&self.objects, permissions)?;
        if let Some(id) = &self.tls_creds {
            let at = || format!("--tls-creds {id}");
            let creds = objects.get::<TlsCreds>(id).with_context(at)?;
            return Ok(Some(creds.for_client().with_context(at)?));
        }
        let Some(file) = &self.ca else {
            if self.insecure {
                return Ok(None);
            }
            bail!("say whom to trust: --ca FILE, or --object and --tls-creds, or --insecure to trust nobody");
        };
        let at = || format!("--ca {}", file.display());
        let authorities = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(at)?;
        let mut builder = TlsCreds::builder(Endpoint::Client).id("ca").ca(authorities);
        if let Some(priority) = &self.priority {
            builder = builder.priority(priority.clone());
        }
        Ok(Some(builder.build().with_context(at)?.for_client()?))
    }

    fn unverified(&self) -> anyhow::Result<ClientCreds> {
        let mut builder = TlsCreds::builder(Endpoint::Client)
            .id("insecure")
            .verify_peer(false);
        if let Some(priority) = &self.priority {
            builder = builder.priority(priority.clone());
        }
        Ok(builder.build()?.for_client()?)
    }

    fn hostname(&self) -> Option<&str> {
        match (&self.tls_hostname, &self.server) {
            (Some(name), _) => Some(name),
            (None, SocketAddress::Inet(inet)) if inet.host.is_empty() => Some("localhost"),
            (None, SocketAddress::Inet(inet)) => Some(&inet.host),
            _ => None,
        }
    }

    fn session(&self, creds: &ClientCreds) -> Result<TlsChannel<BoxChannel>, Failed> {
        let within = ConnectOptions::within(TIMEOUT);
        let socket = qio_socket::connect(&self.server, &within).map_err(anyhow::Error::from)?;
        let mut channel: BoxChannel = Box::new(socket);
        if self.starttls == Some(StartTls::Nbd) {
            start_tls_nbd(&mut channel).with_context(|| self.server.to_string())?;
        }
        let handshake = TlsHandshake::client(channel, creds, self.hostname()).map_err(anyhow::Error::from)?;
        handshake.complete(TIMEOUT).map_err(|error| match error {
            refusal @ TlsError::PeerCertificate { .. } => Failed::Refused(refusal),
            other => Failed::Other(anyhow::Error::from(other).context(self.server.to_string())),
        })
    }
}

/// Why there is no session.
enum Failed {
    /// The server's certificate did not pass.
    Refused(TlsError),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<Failed> for anyhow::Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(error) => error.into(),
            Failed::Other(error) => error,
        }
    }
}

/// NBD up to the beginning of TLS. What the server said in clear text is forgotten.
fn start_tls_nbd(channel: &mut BoxChannel) -> anyhow::Result<()> {
    let mut negotiation = ClientNegotiation::new(ClientTls::Require);
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let (used, event) = negotiation.feed(&received)?;
        received.drain(..used);
        channel.write_all(&negotiation.take_output())?;
        match event {
            ClientEvent::NeedInput => {}
            ClientEvent::StartTls(_) if received.is_empty() => return Ok(()),
            _ => bail!("the server said something in clear text where TLS should begin"),
        }
        let n = channel.readv(&mut [IoSliceMut::new(&mut chunk)])?;
        if n == 0 {
            bail!("the server closed the connection before TLS began");
        }
        received.extend_from_slice(chunk.get(..n).unwrap_or_default());
    }
}

/// Passes on standard input until it ends, and what the server says until it ends.
fn converse(channel: BoxChannel) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (mut reader, mut writer) = tokio::io::split(AsyncChannel::new(channel)?);
        let sending = async {
            let mut input = standard_input();
            while let Some(data) = input.recv().await {
                writer.write_all(&data).await?;
                writer.flush().await?;
            }
            writer.shutdown().await
        };
        let receiving = async {
            let mut chunk = vec![0; CHUNK];
            let mut output = io::stdout().lock();
            loop {
                let n = reader.read(&mut chunk).await.context("receiving")?;
                let data = chunk.get(..n).unwrap_or_default();
                match output.write_all(data).and_then(|()| output.flush()) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    done => done.context("writing to standard output")?,
                }
                if n == 0 {
                    return anyhow::Ok(());
                }
            }
        };
        tokio::pin!(sending, receiving);
        tokio::select! {
            sent = &mut sending => {
                let received = receiving.await;
                // Why the server went away says more than that nothing could be sent.
                received.and(sent.context("sending"))
            }
            received = &mut receiving => received,
        }
    })
}

/// What comes from standard input, read on a thread of its own. It may wait for a person for ever, and goes with the
/// process.
fn standard_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut chunk = vec![0; CHUNK];
        loop {
            match io::stdin().lock().read(&mut chunk) {
                Ok(0) => return,
                Ok(n) => {
                    let data = chunk.get(..n).unwrap_or_default().to_vec();
                    if sender.blocking_send(data).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!("standard input cannot be read: {error}");
                    return;
                }
            }
        }
    });
    receiver
}

/// What there is to know of a session.
#[derive(Debug, Serialize)]
struct Report {
    protocol: String,
    cipher_suite: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    resumed: bool,
    verdict: Verdict,
    /// The user of a pre-shared key.
    #[serde(skip_serializing_if = "Option::is_none")]
    psk_identity: Option<String>,
    /// The certificates that the server sent, its own first.
    chain: Vec<CertificateSummary>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
enum Verdict {
    Verified,
    PreSharedKey,
    Refused { reason: String },
    NotVerified,
}

impl Report {
    fn new(channel: &TlsChannel<BoxChannel>, refusal: Option<&TlsError>) -> Self {
        let facts = channel.facts();
        let (verdict, psk_identity, chain) = match channel.peer() {
            Peer::Verified(certificate) => (Verdict::Verified, None, certificate.chain()),
            Peer::Unverified(certificate) => (Verdict::NotVerified, None, certificate.chain()),
            Peer::Psk { identity } => (Verdict::PreSharedKey, Some(identity.clone()), &[][..]),
            _ => (Verdict::NotVerified, None, &[][..]),
        };
        let verdict = match refusal {
            None => verdict,
            Some(TlsError::PeerCertificate { problem, .. }) => Verdict::Refused {
                reason: problem.to_string(),
            },
            Some(error) => Verdict::Refused {
                reason: error.to_string(),
            },
        };
        Self {
            protocol: facts.version.to_string(),
            cipher_suite: facts.cipher_suite.clone(),
            group: facts.group.clone(),
            resumed: facts.resumed,
            verdict,
            psk_identity,
            chain: chain
                .iter()
                .filter_map(|certificate| CertificateSummary::from_der(certificate).ok())
                .collect(),
        }
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "Protocol:     {}", self.protocol);
        let _ = writeln!(text, "Cipher suite: {}", self.cipher_suite);
        if let Some(group) = &self.group {
            let _ = writeln!(text, "Key exchange: {group}");
        }
        for (i, certificate) in self.chain.iter().enumerate() {
            let date = |at: time::OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
            let _ = writeln!(text, "Certificate {i}:");
            let _ = writeln!(text, "  Subject: {}", printable(&certificate.subject));
            let _ = writeln!(text, "  Issuer:  {}", printable(&certificate.issuer));
            let _ = writeln!(
                text,
                "  Valid:   {} to {}",
                date(certificate.not_before),
                date(certificate.not_after)
            );
            let _ = writeln!(text, "  Key:     {}", certificate.key);
            if i == 0 {
                let names: Vec<_> = certificate
                    .names()
                    .iter()
                    .map(|name| printable(name).to_string())
                    .collect();
                let _ = writeln!(text, "  Names:   {}", names.join(", "));
            }
        }
        let _ = match &self.verdict {
            Verdict::Verified => writeln!(text, "Verdict:      verified"),
            Verdict::PreSharedKey => writeln!(
                text,
                "Verdict:      verified by the pre-shared key of the user {:?}",
                self.psk_identity.as_deref().unwrap_or_default()
            ),
            Verdict::Refused { reason } => writeln!(text, "Verdict:      REFUSED: {}", printable(reason)),
            Verdict::NotVerified => writeln!(text, "Verdict:      NOT VERIFIED"),
        };
        text
    }
}
