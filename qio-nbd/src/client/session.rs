//! A negotiation driven over a channel, blocking.

use std::io;
use std::time::{Duration, Instant};

use qio_channel::{BoxChannel, Channel, ChannelExt, ChannelInfo, Deadlined, Direction, Shutdown};
use qio_creds::ClientCreds;
use qio_socket::SocketAddress;
use qio_tls::TlsHandshake;

use crate::facts::ReplyMode;
use crate::input::Input;
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::name::ExportName;
use crate::negotiation::{
    ClientEvent, ClientNegotiation, ClientTls, ClientUpgrade, ExportDetails, ListedExport, NegotiationError,
};

use super::{Client, ClientError};

/// How a client protects what it says. There is no "if possible".
#[derive(Debug, Clone)]
pub enum TlsSetup {
    /// Everything is in clear text.
    Off,
    /// TLS, or no connection at all.
    Require {
        /// What to verify the server against, and what to show it.
        creds: ClientCreds,
        /// The name to look for in the server's certificate; the address's host where `None`.
        hostname: Option<String>,
    },
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// How to protect what is said.
    pub tls: TlsSetup,
    /// For connecting, for the TLS handshake together with the greeting, and for every answer to an option.
    pub timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions {
            tls: TlsSetup::Off,
            timeout: HANDSHAKE_TIMEOUT,
        }
    }
}

/// A connection in negotiation: ask for exports, then choose one.
#[derive(Debug)]
pub struct Session {
    channel: Deadlined<BoxChannel>,
    negotiation: ClientNegotiation,
    input: Input,
    timeout: Duration,
}

impl Session {
    /// Connects, and negotiates up to the choice of an export. Blocks.
    ///
    /// # Errors
    /// Why that was not possible.
    pub fn connect(address: &SocketAddress, options: &ConnectOptions) -> Result<Self, ClientError> {
        let within = qio_socket::ConnectOptions::within(options.timeout);
        let host = match address {
            SocketAddress::Inet(inet) if inet.host.is_empty() => Some("localhost"),
            SocketAddress::Inet(inet) => Some(&*inet.host),
            _ => None,
        };
        // Found out before anybody is bothered with a connection.
        verify_name(&options.tls, host)?;
        let channel = qio_socket::connect(address, &within)?;
        Self::over(Box::new(channel), host, options)
    }

    /// The same over a channel that is connected already and in blocking mode. `host` is whom it is connected
    /// to, for verifying the certificate.
    ///
    /// # Errors
    /// Why that was not possible.
    pub fn over(
        channel: BoxChannel,
        host: Option<&str>,
        options: &ConnectOptions,
    ) -> Result<Self, ClientError> {
        let name = verify_name(&options.tls, host)?;
        let tls = match options.tls {
            TlsSetup::Off => ClientTls::Off,
            TlsSetup::Require { .. } => ClientTls::Require,
        };
        let mut session = Session {
            channel: Deadlined::new(channel)?,
            negotiation: ClientNegotiation::new(tls),
            input: Input::new(),
            timeout: options.timeout,
        };
        let deadline = session.set_deadline();
        match (session.next_event()?, &options.tls) {
            (ClientEvent::Ready, TlsSetup::Off) => Ok(session),
            (ClientEvent::StartTls(upgrade), TlsSetup::Require { creds, .. }) => {
                session.start_tls(upgrade, creds, name.as_deref(), deadline)
            }
            _ => Err(ClientError::Ended),
        }
    }

    /// Does the TLS handshake. Nothing of the session in clear text goes over: input and negotiation are new.
    fn start_tls(
        self,
        upgrade: ClientUpgrade,
        creds: &ClientCreds,
        name: Option<&str>,
        deadline: Option<Instant>,
    ) -> Result<Self, ClientError> {
        let Session { channel, timeout, .. } = self;
        let handshake = TlsHandshake::client(channel.into_inner()?, creds, name)?;
        let limit = deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let channel: BoxChannel = Box::new(handshake.complete(limit)?);
        let mut session = Session {
            channel: Deadlined::new(channel)?,
            negotiation: upgrade.encrypted(),
            input: Input::new(),
            timeout,
        };
        session.set_deadline();
        match session.next_event()? {
            ClientEvent::Ready => Ok(session),
            _ => Err(ClientError::Ended),
        }
    }

    /// Addresses and TLS facts, for people.
    #[must_use]
    pub fn channel_info(&self) -> ChannelInfo {
        self.channel.info()
    }

    /// How replies will look.
    #[must_use]
    pub fn replies(&self) -> ReplyMode {
        self.negotiation.replies()
    }

    /// Asks which exports there are.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the server does not tell; the session goes on then.
    pub fn list(&mut self) -> Result<Vec<ListedExport>, ClientError> {
        self.negotiation.list()?;
        self.set_deadline();
        match self.next_event()? {
            ClientEvent::Listed(exports) => Ok(exports),
            other => Err(refused(other)),
        }
    }

    /// Asks about an export.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the server does not tell; the session goes on then.
    pub fn info(&mut self, name: &ExportName) -> Result<ExportDetails, ClientError> {
        self.negotiation.info(name)?;
        self.set_deadline();
        match self.next_event()? {
            ClientEvent::Info(details) => Ok(details),
            other => Err(refused(other)),
        }
    }

    /// Chooses an export, and enters the transmission phase.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the server does not serve it.
    pub fn go(mut self, name: &ExportName) -> Result<Client, ClientError> {
        self.negotiation.go(name)?;
        self.set_deadline();
        match self.next_event()? {
            ClientEvent::Established(established) => {
                Ok(Client::new(self.channel.into_inner()?, self.input, established))
            }
            other => {
                let error = refused(other);
                self.abort();
                Err(error)
            }
        }
    }

    /// Ends the session politely, as far as that is possible.
    pub fn abort(mut self) {
        if self.negotiation.abort().is_ok() {
            self.set_deadline();
            // Whatever comes back, the connection is closed next.
            let _ = self.next_event();
            let _ = self.channel.shutdown(Shutdown::Write);
        }
    }

    /// Starts the time for what comes next; `None` for a timeout beyond the end of time, which is none.
    fn set_deadline(&mut self) -> Option<Instant> {
        let deadline = Instant::now().checked_add(self.timeout);
        self.channel.set_deadline(Direction::Read, deadline);
        self.channel.set_deadline(Direction::Write, deadline);
        deadline
    }

    /// Sends what is to be sent, and receives until the negotiation has something to say.
    fn next_event(&mut self) -> Result<ClientEvent, ClientError> {
        let timeout = self.timeout;
        let broken = |error: io::Error| match error.kind() {
            io::ErrorKind::TimedOut => ClientError::Timeout(timeout),
            io::ErrorKind::UnexpectedEof if qio_tls::TlsError::from_io(&error).is_none() => {
                ClientError::Closed
            }
            _ => ClientError::Io(error),
        };
        loop {
            let (used, event) = self.negotiation.feed(self.input.filled())?;
            self.input.consume(used);
            let output = self.negotiation.take_output();
            if !output.is_empty() {
                self.channel.write_all(&output).map_err(broken)?;
                self.channel.flush().map_err(broken)?;
            }
            match event {
                ClientEvent::NeedInput => {
                    let received = self.channel.read(self.input.room()).map_err(broken)?;
                    if received == 0 {
                        return Err(ClientError::Closed);
                    }
                    self.input.received(received);
                }
                event => return Ok(event),
            }
        }
    }
}

/// The name that the server's certificate must be for.
fn verify_name(tls: &TlsSetup, host: Option<&str>) -> Result<Option<String>, ClientError> {
    let TlsSetup::Require { creds, hostname } = tls else {
        return Ok(None);
    };
    let name = hostname.as_deref().or(host).map(ToOwned::to_owned);
    if name.is_none() && creds.snapshot().needs_peer_name() {
        return Err(ClientError::NoName);
    }
    Ok(name)
}

fn refused(event: ClientEvent) -> ClientError {
    match event {
        ClientEvent::Refused(refusal) => ClientError::Refused(refusal),
        // The negotiation answers what it was asked, or fails.
        _ => ClientError::Negotiation(NegotiationError::Ended),
    }
}
