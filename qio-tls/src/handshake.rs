//! Driving a handshake over a channel, in each of the three ways.

use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qio_authz::Authorizer;
use qio_channel::{Channel, ChannelInfo, Direction, Features, Readiness, Shutdown, wait};
use qio_creds::{ClientCreds, ServerCreds};

use crate::channel::TlsChannel;
use crate::error::{PeerRole, TlsError};
use crate::session::{Handshake, HandshakeStep, Session, Verdict};
use crate::transport::Transport;

/// How long a refused peer gets to read why, before the connection goes.
const GOODBYE_TIME: Duration = Duration::from_secs(2);
/// What a refused peer may have sent meanwhile: thrown away so that closing does not become a reset, which would
/// overtake the alert.
const GOODBYE_BYTES: usize = 256 << 10;

/// Authorizers that are asked at the same time, under tokio.
#[cfg(feature = "tokio")]
static ASKING: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(16);

/// What [`TlsHandshake::step`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Wait for [`TlsHandshake::readiness`], then step again.
    Pending,
    /// The peer is verified: ask [`TlsHandshake::question`], on any thread, and tell
    /// [`TlsHandshake::decide`]. Only with an authorizer.
    Authorize,
    /// It is over: [`TlsHandshake::finish`].
    Done,
}

/// Whether a verified peer may use the service, still to be asked.
#[derive(Debug, Clone)]
#[must_use = "the peer waits for the answer"]
pub struct Question {
    identity: Option<String>,
    authorizer: Arc<dyn Authorizer>,
}

impl Question {
    /// Asks. May block for as long as the authorizer does.
    #[must_use]
    pub fn ask(&self) -> Verdict {
        let Some(identity) = &self.identity else {
            return Verdict::Denied {
                why: Some(
                    "it has proved no identity that an access list could know (verify-peer=off?)".to_owned(),
                ),
            };
        };
        match self.authorizer.is_allowed(identity) {
            Ok(true) => Verdict::Allowed,
            Ok(false) => Verdict::Denied { why: None },
            Err(error) => Verdict::Denied {
                why: Some(error.to_string()),
            },
        }
    }
}

/// A handshake over a channel. It becomes a [`TlsChannel`], or an error; dropping it closes the connection.
///
/// One of these drives it:
/// * [`complete`](TlsHandshake::complete) blocks the calling thread, with a deadline;
/// * [`step`](TlsHandshake::step), [`readiness`](TlsHandshake::readiness) and [`finish`](TlsHandshake::finish) serve
///   an event loop, over a channel in non-blocking mode; the deadline is then the loop's business;
/// * `complete_async` (feature `tokio`) is a future, with a deadline.
#[derive(Debug)]
pub struct TlsHandshake<C> {
    channel: C,
    handshake: Handshake,
    authorizer: Option<Arc<dyn Authorizer>>,
    waits_for: Direction,
}

impl<C: Channel> TlsHandshake<C> {
    /// The client's side, for a server that must prove to be `name` (a host name or an IP address; `None` only with
    /// credentials that do not verify).
    ///
    /// # Errors
    /// As [`Handshake::client`].
    pub fn client(channel: C, creds: &ClientCreds, name: Option<&str>) -> Result<Self, TlsError> {
        Ok(TlsHandshake {
            channel,
            handshake: Handshake::client(creds, name)?,
            authorizer: None,
            waits_for: Direction::Write,
        })
    }

    /// The server's side.
    ///
    /// # Errors
    /// As [`Handshake::server`].
    pub fn server(channel: C, creds: &ServerCreds) -> Result<Self, TlsError> {
        Ok(TlsHandshake {
            channel,
            handshake: Handshake::server(creds)?,
            authorizer: None,
            waits_for: Direction::Read,
        })
    }

    /// The server's side, for clients that only write and then close.
    ///
    /// A server normally gives its clients a ticket to resume the session with. A client that closes without ever having
    /// read it makes the kernel reset the connection, and what the client sent last may be lost: migration streams need this.
    ///
    /// # Errors
    /// As [`Handshake::server`].
    pub fn server_without_tickets(channel: C, creds: &ServerCreds) -> Result<Self, TlsError> {
        Ok(TlsHandshake {
            channel,
            handshake: Handshake::server_without_tickets(creds)?,
            authorizer: None,
            waits_for: Direction::Read,
        })
    }

    /// Lets a verified peer in only if `authorizer` knows it: by the distinguished name of its certificate, or by its
    /// name among the pre-shared keys. Whoever is refused is told access_denied, and gets no byte of the service.
    #[must_use]
    pub fn with_authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.handshake = self.handshake.with_authorization();
        self.authorizer = Some(authorizer);
        self
    }

    /// What to ask after [`Progress::Authorize`]; `None` at any other time.
    pub fn question(&self) -> Option<Question> {
        let peer = self.handshake.peer()?;
        Some(Question {
            identity: peer.verified_name().map(str::to_owned),
            authorizer: Arc::clone(self.authorizer.as_ref()?),
        })
    }

    /// Answers [`Progress::Authorize`]; then step again.
    #[must_use]
    pub fn decide(mut self, verdict: Verdict) -> Self {
        self.handshake = self.handshake.decide(verdict);
        self
    }

    /// Goes as far as it can without blocking, over a channel in non-blocking mode.
    ///
    /// # Errors
    /// Why there will be no session. The alert has been sent if the transport took it.
    pub fn step(&mut self) -> Result<Progress, TlsError> {
        let result = self.advance();
        if result.is_err() {
            // The error at hand is the one to report; whether the alert went out changes nothing for us.
            let _ = self.send();
        }
        result
    }

    fn advance(&mut self) -> Result<Progress, TlsError> {
        loop {
            let moved = match self.handshake.step()? {
                HandshakeStep::Done => return Ok(Progress::Done),
                HandshakeStep::Authorize => return Ok(Progress::Authorize),
                HandshakeStep::Send => {
                    self.waits_for = Direction::Write;
                    self.send()
                }
                HandshakeStep::Receive => {
                    self.waits_for = Direction::Read;
                    receive(&mut self.channel, &mut self.handshake)
                }
            };
            match moved {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Pending),
                // What we still owe (tickets) is of no use to a peer that is gone, but what it sent before is: whoever
                // reads or writes next finds out in order.
                Err(_) if self.waits_for == Direction::Write && self.handshake.peer().is_some() => {
                    return Ok(self.verified());
                }
                // While we send, the peer may already have said why it does not listen.
                Err(error) if self.waits_for == Direction::Write => return Err(self.last_words(&error)),
                Err(error) => return Err(self.cut(&error)),
            }
        }
    }

    /// The peer is verified, and nothing more can be sent to it.
    fn verified(&self) -> Progress {
        match (&self.authorizer, self.handshake.needs_authorization()) {
            (Some(_), true) => Progress::Authorize,
            _ => Progress::Done,
        }
    }

    fn send(&mut self) -> io::Result<()> {
        send(&mut self.channel, &mut self.handshake)?;
        self.channel.flush()
    }

    fn cut(&self, error: &io::Error) -> TlsError {
        TlsError::HandshakeCut {
            role: self.peer_role(),
            after: Some(error.to_string()),
        }
    }

    /// Reads what the peer sent before it closed, in case it is an alert.
    fn last_words(&mut self, sending: &io::Error) -> TlsError {
        while let Ok(()) = receive(&mut self.channel, &mut self.handshake) {
            match self.handshake.step() {
                Ok(HandshakeStep::Receive) => {}
                Err(error @ TlsError::AlertReceived { .. }) => return error,
                Ok(_) | Err(_) => break,
            }
        }
        self.cut(sending)
    }

    /// What to wait for after [`Progress::Pending`].
    pub fn readiness(&self) -> Readiness<'_> {
        self.channel.readiness(self.waits_for)
    }

    /// Which side the peer is on, for messages.
    #[must_use]
    pub fn peer_role(&self) -> PeerRole {
        self.handshake.peer_role()
    }

    /// The channel underneath, to ask it things.
    pub fn get_ref(&self) -> &C {
        &self.channel
    }

    /// The established channel, in the mode that the channel underneath is in.
    ///
    /// # Errors
    /// The handshake itself if it is not over: go on stepping it.
    pub fn finish(self) -> Result<TlsChannel<C>, Box<Self>> {
        let TlsHandshake {
            channel,
            handshake,
            authorizer,
            waits_for,
        } = self;
        match handshake.into_session() {
            Ok(session) => {
                announce(&channel.info(), &session);
                Ok(TlsChannel::new(channel, session))
            }
            Err(handshake) => Err(Box::new(TlsHandshake {
                channel,
                handshake: *handshake,
                authorizer,
                waits_for,
            })),
        }
    }

    fn established(self) -> Result<TlsChannel<C>, TlsError> {
        self.finish()
            .map_err(|_| TlsError::Internal("a handshake that is over is not over".to_owned()))
    }

    /// Blocks until the handshake is over, and leaves the channel in blocking mode. The peer has `limit` for its part; an
    /// authorizer, if there is one, takes as long as it takes.
    ///
    /// # Errors
    /// Why there is no session. A peer that was refused has been told, and given up to 2 s of the time left to hear it; after
    /// [`TlsError::HandshakeTimeout`] there is nobody to tell.
    pub fn complete(mut self, limit: Duration) -> Result<TlsChannel<C>, TlsError> {
        let deadline = Instant::now().checked_add(limit);
        self.channel
            .set_blocking(false)
            .map_err(|error| TlsError::transport(&error))?;
        loop {
            match self.step() {
                Ok(Progress::Done) => break,
                Ok(Progress::Authorize) => {
                    if let Some(question) = self.question() {
                        self = self.decide(question.ask());
                    }
                }
                Ok(Progress::Pending) => match wait(self.readiness(), deadline) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        return Err(TlsError::HandshakeTimeout {
                            role: self.peer_role(),
                            limit,
                        });
                    }
                    Err(error) => return Err(TlsError::transport(&error)),
                },
                Err(error) => {
                    self.linger(deadline);
                    return Err(error);
                }
            }
        }
        self.channel
            .set_blocking(true)
            .map_err(|error| TlsError::transport(&error))?;
        self.established()
    }

    /// Lets the peer read the alert before the connection goes.
    fn linger(&mut self, deadline: Option<Instant>) {
        let soon = Instant::now() + GOODBYE_TIME;
        let deadline = deadline.map_or(soon, |deadline| deadline.min(soon));
        let mut budget = GOODBYE_BYTES;
        loop {
            match self.goodbye(&mut budget) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
            if wait(self.channel.readiness(self.waits_for), Some(deadline)).is_err() {
                return;
            }
        }
    }

    /// Sends the alert, ends our side, and reads until the peer ends its side. `Ok` when that is all done.
    fn goodbye(&mut self, budget: &mut usize) -> io::Result<()> {
        self.waits_for = Direction::Write;
        self.send()?;
        if !self.channel.features().contains(Features::SHUTDOWN) {
            return Ok(());
        }
        self.channel.shutdown(Shutdown::Write)?;
        self.waits_for = Direction::Read;
        let mut scratch = [0; 4096];
        while *budget > 0 {
            let n = self.channel.readv(&mut [IoSliceMut::new(&mut scratch)])?;
            if n == 0 {
                break;
            }
            *budget = budget.saturating_sub(n);
        }
        Ok(())
    }
}

#[cfg(feature = "tokio")]
impl<C: Channel + Unpin> TlsHandshake<C> {
    /// Completes the handshake within `limit`, under tokio. The channel stays in non-blocking mode.
    ///
    /// Dropping the future drops the connection.
    ///
    /// # Errors
    /// As [`complete`](TlsHandshake::complete).
    pub async fn complete_async(self, limit: Duration) -> Result<TlsChannel<C>, TlsError>
    where
        C: 'static,
    {
        use std::future::poll_fn;
        use tokio::time::{Instant, timeout_at};

        let role = self.peer_role();
        // A limit beyond the end of time is none.
        let now = Instant::now();
        let deadline = now
            .checked_add(limit)
            .unwrap_or_else(|| now + Duration::from_secs(u64::from(u32::MAX)));
        let late = TlsError::HandshakeTimeout { role, limit };
        let mut handshake = self;
        loop {
            let mut driver = qio_channel::AsyncChannel::new(Stepping(handshake))
                .map_err(|error| TlsError::transport(&error))?;
            let stepping = poll_fn(|cx| driver.poll_operation(cx, Direction::Read, Stepping::step));
            match timeout_at(deadline, stepping).await {
                Ok(Ok(Ok(Progress::Authorize))) => {
                    handshake = driver.into_inner().0;
                    let Some(question) = handshake.question() else {
                        return Err(TlsError::Internal("nobody to ask for authorization".to_owned()));
                    };
                    // It may block, so not on this thread. Nor on too many: one that hangs must not keep the threads that
                    // others do their file access on.
                    let asked = async {
                        let turn = ASKING.acquire().await;
                        let ask = move || {
                            let _turn = turn; // until the answer is there, even if nobody waits for it any more
                            question.ask()
                        };
                        tokio::task::spawn_blocking(ask).await
                    };
                    let verdict = match timeout_at(deadline, asked).await {
                        Ok(Ok(verdict)) => verdict,
                        Ok(Err(error)) => Verdict::Denied {
                            why: Some(format!("the authorizer failed: {error}")),
                        },
                        Err(_) => return Err(late),
                    };
                    handshake = handshake.decide(verdict);
                }
                Ok(Ok(Ok(_))) => return driver.into_inner().0.established(),
                Ok(Ok(Err(error))) => {
                    let mut budget = GOODBYE_BYTES;
                    let goodbye = poll_fn(|cx| {
                        driver.poll_operation(cx, Direction::Read, |stepping| stepping.0.goodbye(&mut budget))
                    });
                    // However it ends, the connection goes now.
                    let _ = timeout_at(deadline.min(Instant::now() + GOODBYE_TIME), goodbye).await;
                    return Err(error);
                }
                Ok(Err(error)) => return Err(TlsError::transport(&error)),
                Err(_) => return Err(late),
            }
        }
    }
}

/// A handshake in the shape of a channel, so that `AsyncChannel` registers and waits for it like for any other. It
/// carries no data.
#[cfg(feature = "tokio")]
struct Stepping<C>(TlsHandshake<C>);

#[cfg(feature = "tokio")]
impl<C: Channel> Stepping<C> {
    fn step(&mut self) -> io::Result<Result<Progress, TlsError>> {
        match self.0.step() {
            Ok(Progress::Pending) => Err(io::ErrorKind::WouldBlock.into()),
            outcome => Ok(outcome),
        }
    }
}

#[cfg(feature = "tokio")]
impl<C: Channel + 'static> Channel for Stepping<C> {
    fn readv(&mut self, _bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Err(qio_channel::unsupported(
            &self.info(),
            "reading during the handshake",
        ))
    }
    fn writev(&mut self, _bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(qio_channel::unsupported(
            &self.info(),
            "writing during the handshake",
        ))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        self.0.channel.shutdown(how)
    }
    fn set_blocking(&mut self, blocking: bool) -> io::Result<()> {
        self.0.channel.set_blocking(blocking)
    }
    fn readiness(&self, _direction: Direction) -> Readiness<'_> {
        self.0.readiness()
    }
    fn features(&self) -> Features {
        Features::empty()
    }
    fn info(&self) -> ChannelInfo {
        self.0.channel.info()
    }
    fn into_split(
        self: Box<Self>,
    ) -> Result<(qio_channel::BoxChannel, qio_channel::BoxChannel), qio_channel::SplitError> {
        let error = qio_channel::unsupported(&self.info(), "splitting during the handshake");
        Err(qio_channel::SplitError { channel: self, error })
    }
}

/// One log line per session, with what was negotiated and with whom.
fn announce(info: &ChannelInfo, session: &Session) {
    tracing::debug!(
        channel = %info,
        facts = %session.facts(),
        peer = session.peer().verified_name().unwrap_or("not verified"),
        "TLS session established"
    );
}

/// Sends everything that waits to be sent.
pub(crate) fn send<C: Channel>(channel: &mut C, session: &mut impl Transport) -> io::Result<()> {
    while !session.to_send().is_empty() {
        let n = channel.writev(&[IoSlice::new(session.to_send())])?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        session.sent(n);
    }
    Ok(())
}

/// Receives once.
pub(crate) fn receive<C: Channel>(channel: &mut C, session: &mut impl Transport) -> io::Result<()> {
    let n = channel.readv(&mut [IoSliceMut::new(session.receive_space())])?;
    if n == 0 {
        session.received_end();
    } else {
        session.received(n);
    }
    Ok(())
}
