//! A TLS session without I/O: first a [`Handshake`], then a [`Session`].

use std::fmt;
use std::io::{IoSlice, IoSliceMut};

use qio_creds::{ClientCreds, ServerCreds};

use crate::buffer::scatter;
use crate::config::Tickets;
use crate::engine::{Engine, Job, RECORD_CONTENT, Stop};
use crate::error::{PeerRole, TlsError};
use crate::facts::{Peer, TlsFacts};
use crate::transport::Transport;

/// Plaintext taken in one write. More at once would only push ciphertext out of the processor's cache before it
/// is sent.
const WRITE_BUDGET: usize = 64 << 10;

/// The alert for a verified peer that may not use the service (RFC 8446, section 6.2).
const ACCESS_DENIED: u8 = 49;

/// What a [`Handshake`] needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeStep {
    /// Send what [`Transport::to_send`] holds, then step again.
    Send,
    /// Receive into [`Transport::receive_space`], then step again.
    Receive,
    /// The peer is verified. Find out whether [`Handshake::peer`] may use the service, tell
    /// [`Handshake::decide`], then step again. Only after [`Handshake::with_authorization`].
    Authorize,
    /// It is over: [`Handshake::into_session`].
    Done,
}

/// Whether a verified peer may use the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allowed,
    /// It may not. The reason is for our log; the peer hears access_denied.
    Denied {
        /// Why, where there is more to say than no.
        why: Option<String>,
    },
}

/// Where a handshake stands.
enum State {
    Running {
        engine: Engine,
        authorization: Authorization,
        /// The judgement that a resumed session needs has been made.
        judged: bool,
    },
    /// The peer has been refused: there is no session any more, only last words to send.
    Refused {
        error: TlsError,
        role: PeerRole,
        last_words: Vec<u8>,
    },
}

/// Whether somebody has to be asked between verification and the first byte of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Authorization {
    NotNeeded,
    Needed,
    Granted,
}

/// A handshake in progress.
///
/// ```text
/// loop { match handshake.step()? { Send => ..., Receive => ..., Done => break } }
/// let session = handshake.into_session()?;
/// ```
///
/// After an error, [`Transport::to_send`] holds the alert for the peer.
pub struct Handshake {
    state: State,
}

impl Handshake {
    /// The client's side, for a server that must prove to be `name` (a host name or an IP address).
    ///
    /// # Errors
    /// [`TlsError::NoName`] if there is no name although the credentials verify peers;
    /// [`TlsError::InvalidName`]; [`TlsError::Unusable`] credentials.
    pub fn client(creds: &ClientCreds, name: Option<&str>) -> Result<Self, TlsError> {
        Ok(Handshake::over(Engine::client(creds, name)?))
    }

    /// The server's side.
    ///
    /// # Errors
    /// [`TlsError::Unusable`] credentials.
    pub fn server(creds: &ServerCreds) -> Result<Self, TlsError> {
        Ok(Handshake::over(Engine::server(creds, Tickets::One)?))
    }

    /// The server's side without resumption: see
    /// [`TlsHandshake::server_without_tickets`](crate::TlsHandshake::server_without_tickets).
    ///
    /// # Errors
    /// [`TlsError::Unusable`] credentials.
    pub fn server_without_tickets(creds: &ServerCreds) -> Result<Self, TlsError> {
        Ok(Handshake::over(Engine::server(creds, Tickets::None)?))
    }

    /// Is [`HandshakeStep::Authorize`] still to come?
    pub(crate) fn needs_authorization(&self) -> bool {
        matches!(
            self.state,
            State::Running {
                authorization: Authorization::Needed,
                ..
            }
        )
    }

    fn over(engine: Engine) -> Self {
        Handshake {
            state: State::Running {
                engine,
                authorization: Authorization::NotNeeded,
                judged: false,
            },
        }
    }

    /// Asks, once the peer is verified, whether it may use the service: see [`HandshakeStep::Authorize`].
    ///
    /// No byte of data moves in either direction before the answer, resumed session or not.
    #[must_use]
    pub fn with_authorization(mut self) -> Self {
        if let State::Running { authorization, .. } = &mut self.state {
            *authorization = Authorization::Needed;
        }
        self
    }

    /// Goes as far as it can.
    ///
    /// # Errors
    /// Why there will be no session. The same error comes again if it is called again.
    pub fn step(&mut self) -> Result<HandshakeStep, TlsError> {
        let (engine, authorization, judged) = match &mut self.state {
            State::Running {
                engine,
                authorization,
                judged,
            } => (engine, *authorization, judged),
            State::Refused { error, .. } => return Err(error.clone()),
        };
        let cut = |engine: &Engine| TlsError::HandshakeCut {
            role: engine.peer_role(),
            after: None,
        };
        engine.check_handshake_budget()?;
        while !engine.is_established() {
            match engine.run(&Job::Process)? {
                // Data can come right behind the peer's last handshake message; it waits for the session.
                Stop::Data | Stop::JobDone => {}
                Stop::PeerClosed => return Err(cut(engine)),
                Stop::NeedsInput => break,
            }
        }
        if engine.is_established() && !*judged {
            *judged = true;
            if let Err((error, alert)) = engine.judge_resumed() {
                self.refuse(error.clone(), alert);
                return Err(error);
            }
        }
        if engine.pending() > 0 {
            Ok(HandshakeStep::Send)
        } else if engine.is_established() {
            Ok(match authorization {
                Authorization::Needed => HandshakeStep::Authorize,
                Authorization::NotNeeded | Authorization::Granted => HandshakeStep::Done,
            })
        } else if engine.has_ended() {
            Err(cut(engine))
        } else {
            Ok(HandshakeStep::Receive)
        }
    }

    /// There will be no session; what is left are last words.
    fn refuse(&mut self, error: TlsError, alert: u8) {
        let role = self.peer_role();
        let refused = State::Refused {
            error,
            role,
            last_words: Vec::new(),
        };
        if let State::Running { engine, .. } = std::mem::replace(&mut self.state, refused)
            && let State::Refused { last_words, .. } = &mut self.state
        {
            *last_words = engine.refuse(alert);
        }
    }

    /// Who is at the other end; `None` before that is proven, and once it has been refused.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        match &self.state {
            State::Running {
                engine, judged: true, ..
            } => Some(engine.peer()),
            _ => None,
        }
    }

    /// Answers [`HandshakeStep::Authorize`]. A peer without a verified identity is refused whatever the answer.
    ///
    /// At any other time it does nothing.
    #[must_use]
    pub fn decide(mut self, verdict: Verdict) -> Self {
        let Some(peer) = self.peer() else {
            return self;
        };
        let State::Running {
            authorization: authorization @ Authorization::Needed,
            ..
        } = &mut self.state
        else {
            return self;
        };
        let why = match (verdict, peer.verified_name()) {
            (Verdict::Allowed, Some(_)) => {
                *authorization = Authorization::Granted;
                return self;
            }
            (Verdict::Allowed, None) => Some("it has proved no identity".to_owned()),
            (Verdict::Denied { why }, _) => why,
        };
        let error = TlsError::NotAuthorized {
            role: self.peer_role(),
            identity: peer.verified_name().unwrap_or("somebody").to_owned(),
            why,
        };
        self.refuse(error, ACCESS_DENIED);
        self
    }

    /// Which side the peer is on, for messages.
    #[must_use]
    pub fn peer_role(&self) -> PeerRole {
        match &self.state {
            State::Running { engine, .. } => engine.peer_role(),
            State::Refused { role, .. } => *role,
        }
    }

    /// The established session, or the handshake back if it is not over.
    ///
    /// # Errors
    /// The handshake itself: go on stepping it.
    pub fn into_session(self) -> Result<Session, Box<Handshake>> {
        match self.state {
            State::Running {
                engine,
                authorization: Authorization::NotNeeded | Authorization::Granted,
                judged: true,
            } if engine.is_established() => {
                let (facts, peer) = (engine.facts(), engine.peer());
                Ok(Session {
                    engine,
                    facts,
                    peer,
                    staging: Vec::new(),
                    closed: false,
                    relaxed_eof: false,
                })
            }
            state => Err(Box::new(Handshake { state })),
        }
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("peer", &self.peer_role())
            .field("to_send", &self.to_send().len())
            .finish_non_exhaustive()
    }
}

impl Transport for Handshake {
    fn receive_space(&mut self) -> &mut [u8] {
        match &mut self.state {
            State::Running { engine, .. } => engine.receive_space(),
            State::Refused { .. } => &mut [],
        }
    }
    fn received(&mut self, n: usize) {
        if let State::Running { engine, .. } = &mut self.state {
            engine.received(n);
        }
    }
    fn received_end(&mut self) {
        if let State::Running { engine, .. } = &mut self.state {
            engine.received_end();
        }
    }
    fn to_send(&self) -> &[u8] {
        match &self.state {
            State::Running { engine, .. } => engine.to_send(),
            State::Refused { last_words, .. } => last_words,
        }
    }
    fn sent(&mut self, n: usize) {
        match &mut self.state {
            State::Running { engine, .. } => engine.sent(n),
            State::Refused { last_words, .. } => drop(last_words.drain(..n.min(last_words.len()))),
        }
    }
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// So many bytes, at least one.
    Data(usize),
    /// The peer has said goodbye; this stays so.
    End,
    /// Receive into [`Transport::receive_space`], then read again.
    NeedsInput,
}

/// An established session: plaintext on one side, ciphertext ([`Transport`]) on the other.
///
/// Memory is bounded whatever the peer does: 68 KiB received and not decrypted plus decrypted and not read
/// together, 128 KiB encrypted and not sent.
pub struct Session {
    engine: Engine,
    facts: TlsFacts,
    peer: Peer,
    /// Small vectors are gathered here into one record. Allocated when it is first needed.
    staging: Vec<u8>,
    closed: bool,
    relaxed_eof: bool,
}

impl Session {
    /// What was negotiated.
    #[must_use]
    pub fn facts(&self) -> &TlsFacts {
        &self.facts
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Takes the end of the transport for the end of the data even without a close_notify. Only for protocols that
    /// know by themselves when they are complete (RFC 8446, section 6.1).
    pub fn set_relaxed_eof(&mut self, relaxed: bool) {
        self.relaxed_eof = relaxed;
    }

    /// Reads plaintext into the vectors: as many records as have come in and find room.
    ///
    /// # Errors
    /// [`TlsError::Truncated`] when the transport ended without a close_notify; whatever the peer did wrong.
    pub fn readv(&mut self, bufs: &mut [IoSliceMut<'_>]) -> Result<ReadOutcome, TlsError> {
        let room: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut done = self.engine.drain(bufs);
        while done < room && !self.engine.peer_closed() {
            let read = self.engine.read(&mut |data, rest| {
                let n = scatter(bufs, done, data);
                done += n;
                data.get(n..).is_none_or(|later| rest.push(later))
            });
            match read {
                Ok(Stop::Data) => {}
                Ok(_) => break,
                Err(_) if done > 0 => break, // the error comes again at the next call
                Err(error) => return Err(error),
            }
        }
        if done > 0 || room == 0 {
            Ok(ReadOutcome::Data(done))
        } else if self.engine.peer_closed() {
            Ok(ReadOutcome::End)
        } else if !self.engine.has_ended() {
            Ok(ReadOutcome::NeedsInput)
        } else if self.relaxed_eof {
            Ok(ReadOutcome::End)
        } else {
            Err(TlsError::Truncated {
                role: self.engine.peer_role(),
            })
        }
    }

    /// Nothing can be read before more has been received.
    #[must_use]
    pub fn needs_input(&self) -> bool {
        self.engine.is_starved()
    }

    /// Encrypts from the vectors, and says how many bytes were taken: up to 64 KiB, and none while as much waits
    /// to be sent, or after [`close`](Session::close). Small vectors share records.
    ///
    /// # Errors
    /// Whatever broke the session.
    pub fn writev(&mut self, bufs: &[IoSlice<'_>]) -> Result<usize, TlsError> {
        if self.closed {
            return Ok(0);
        }
        let mut budget = WRITE_BUDGET.saturating_sub(self.engine.pending());
        let mut done = 0;
        self.staging.clear();
        for buf in bufs {
            let mut rest = buf.get(..budget).unwrap_or(buf);
            budget -= rest.len();
            done += rest.len();
            if !self.staging.is_empty() || rest.len() < RECORD_CONTENT {
                let room = RECORD_CONTENT - self.staging.len();
                let (now, later) = rest.split_at(rest.len().min(room));
                self.staging.extend_from_slice(now);
                rest = later;
                if self.staging.len() == RECORD_CONTENT {
                    self.engine.run(&Job::Encrypt(&self.staging))?;
                    self.staging.clear();
                }
            }
            let (records, tail) = rest.split_at(rest.len() - rest.len() % RECORD_CONTENT);
            if !records.is_empty() {
                self.engine.run(&Job::Encrypt(records))?;
            }
            self.staging.extend_from_slice(tail);
            if budget == 0 {
                break;
            }
        }
        if !self.staging.is_empty() {
            self.engine.run(&Job::Encrypt(&self.staging))?;
        }
        Ok(done)
    }

    /// Queues a close_notify: nothing can be written after it, reading goes on. Once is enough; more are ignored.
    ///
    /// # Errors
    /// Whatever broke the session before.
    pub fn close(&mut self) -> Result<(), TlsError> {
        if !self.closed {
            self.closed = true;
            self.engine.run(&Job::CloseNotify)?;
        }
        Ok(())
    }

    /// Has [`close`](Session::close) been called?
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("facts", &self.facts)
            .field("peer", &self.peer)
            .field("to_send", &self.engine.pending())
            .finish_non_exhaustive()
    }
}

impl Transport for Session {
    fn receive_space(&mut self) -> &mut [u8] {
        self.engine.receive_space()
    }
    fn received(&mut self, n: usize) {
        self.engine.received(n);
    }
    fn received_end(&mut self) {
        self.engine.received_end();
    }
    fn to_send(&self) -> &[u8] {
        self.engine.to_send()
    }
    fn sent(&mut self, n: usize) {
        self.engine.sent(n);
    }
}
