//! Certificates: rustls's unbuffered connection, of either side, with the three queues that it works between.
//!
//! This is the only file that knows how rustls is driven.

use std::io::IoSliceMut;
use std::sync::Arc;

use qio_creds::{ClientCreds, Endpoint, ServerCreds, Snapshot};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, Error as EngineError, HandshakeKind, ProtocolVersion};

use crate::buffer::Buffer;
use crate::config::{self, Tickets};
use crate::engine::{
    HANDSHAKE_LIMIT, INCOMING_LIMIT, Job, OUTGOING_LIMIT, PLAINTEXT_LIMIT, RECORD_CONTENT, RECORD_OVERHEAD,
    SMALL_RECEIVE, Stop,
};
use crate::error::{PeerRole, TlsError};
use crate::facts::{Peer, PeerCertificate, TlsFacts, TlsVersion};
use crate::refusal;
use crate::transport::Transport;
use crate::verify::{self, Rules};

enum Connection {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// A connection and its queues.
pub(crate) struct RustlsEngine {
    connection: Connection,
    /// What the certificate of the peer is judged by.
    rules: Arc<Rules>,
    /// Whom a client expects.
    name: Option<ServerName<'static>>,
    incoming: Buffer,
    plaintext: Buffer,
    outgoing: Buffer,
    /// Bytes received since the beginning, counted only until the session is established.
    handshake_bytes: usize,
    /// The last receive filled all the room there was: there is probably more.
    hungry: bool,
    /// No bytes have come in since the engine last asked for input.
    starved: bool,
    transport_ended: bool,
    peer_closed: bool,
    failed: Option<TlsError>,
}

/// What one call of the engine came to.
enum Turn {
    Again,
    Stop(Stop),
    /// Both sides have said goodbye; nothing can be sent any more.
    Over,
}

/// Deals with one state of the engine, and says how many incoming bytes are done with.
fn turn<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Buffer,
    job: &Job<'_>,
    sink: &mut dyn FnMut(&[u8]) -> bool,
) -> (usize, Result<Turn, EngineError>) {
    let UnbufferedStatus { mut discard, state } = status;
    let full =
        || EngineError::General("a queue is full although it has room for all that it may hold".to_owned());
    let state = match state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error)),
    };
    let result = match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            let mut result = Ok(Turn::Stop(Stop::Data));
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        if !sink(record.payload) {
                            result = Err(full());
                        }
                    }
                    Err(error) => result = Err(error),
                }
            }
            result
        }
        ConnectionState::EncodeTlsData(mut data) => match data.encode(outgoing.space(0)) {
            Ok(n) => {
                outgoing.commit(n);
                Ok(Turn::Again)
            }
            Err(EncodeError::InsufficientSize(size)) => match data.encode(outgoing.space(size.required_size))
            {
                Ok(n) => {
                    outgoing.commit(n);
                    Ok(Turn::Again)
                }
                Err(_) => Err(full()),
            },
            Err(EncodeError::AlreadyEncoded) => Ok(Turn::Again),
        },
        ConnectionState::TransmitTlsData(data) => {
            // The bytes are in `outgoing`, which goes out in order, so for the engine they are on their way.
            data.done();
            Ok(Turn::Again)
        }
        ConnectionState::WriteTraffic(mut traffic) => {
            let encrypted = match job {
                Job::Process => return (discard, Ok(Turn::Stop(Stop::NeedsInput))),
                Job::Encrypt(data) => {
                    let records = data.len().div_ceil(RECORD_CONTENT);
                    traffic.encrypt(data, outgoing.space(data.len() + records * RECORD_OVERHEAD))
                }
                Job::CloseNotify => traffic.queue_close_notify(outgoing.space(2 * RECORD_OVERHEAD)),
            };
            match encrypted {
                Ok(n) => {
                    outgoing.commit(n);
                    Ok(Turn::Stop(Stop::JobDone))
                }
                Err(EncryptError::InsufficientSize(_)) => Err(full()),
                Err(EncryptError::EncryptExhausted) => Err(EngineError::EncryptError),
            }
        }
        ConnectionState::BlockedHandshake => Ok(Turn::Stop(Stop::NeedsInput)),
        ConnectionState::PeerClosed => Ok(Turn::Stop(Stop::PeerClosed)),
        ConnectionState::Closed => Ok(Turn::Over),
        // Early data is never enabled, so it never comes; were it to, dropping it is what not offering it means.
        ConnectionState::ReadEarlyData(_) => Ok(Turn::Again),
        other => Err(EngineError::General(format!(
            "an unknown state of the engine: {other:?}"
        ))),
    };
    (discard, result)
}

impl RustlsEngine {
    pub(crate) fn client(
        creds: &ClientCreds,
        snapshot: &Arc<Snapshot>,
        name: Option<&str>,
    ) -> Result<Self, TlsError> {
        let verify_peer = snapshot.needs_peer_name();
        let name = match name {
            Some(name) => server_name(name)?,
            None if verify_peer => return Err(TlsError::NoName),
            // Nobody will look at it, and an address is never sent to the server.
            None => ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4]))),
        };
        let setup = config::client(creds.creds().name(), snapshot)?;
        let connection = UnbufferedClientConnection::new(Arc::clone(&setup.config), name.clone())
            .map_err(|error| unusable(creds.creds().name(), &error))?;
        Ok(RustlsEngine::new(
            Connection::Client(Box::new(connection)),
            Arc::clone(&setup.rules),
            Some(name),
        ))
    }

    pub(crate) fn server(
        creds: &ServerCreds,
        snapshot: &Arc<Snapshot>,
        tickets: Tickets,
    ) -> Result<Self, TlsError> {
        let setup = config::server(creds.creds().name(), snapshot, tickets)?;
        let connection = UnbufferedServerConnection::new(Arc::clone(&setup.config))
            .map_err(|error| unusable(creds.creds().name(), &error))?;
        Ok(RustlsEngine::new(
            Connection::Server(Box::new(connection)),
            Arc::clone(&setup.rules),
            None,
        ))
    }

    fn new(connection: Connection, rules: Arc<Rules>, name: Option<ServerName<'static>>) -> Self {
        RustlsEngine {
            connection,
            rules,
            name,
            incoming: Buffer::new(INCOMING_LIMIT),
            plaintext: Buffer::new(PLAINTEXT_LIMIT),
            outgoing: Buffer::new(OUTGOING_LIMIT),
            handshake_bytes: 0,
            hungry: false,
            starved: false,
            transport_ended: false,
            peer_closed: false,
            failed: None,
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        match &self.connection {
            Connection::Client(_) => Endpoint::Client,
            Connection::Server(_) => Endpoint::Server,
        }
    }

    fn peer_role(&self) -> PeerRole {
        PeerRole::of_peer_of(self.endpoint())
    }

    fn state(&self) -> &CommonState {
        match &self.connection {
            Connection::Client(connection) => connection,
            Connection::Server(connection) => connection,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.transport_ended
    }

    pub(crate) fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    pub(crate) fn drain(&mut self, bufs: &mut [IoSliceMut<'_>]) -> usize {
        self.plaintext.drain_into(bufs, 0)
    }

    pub(crate) fn peer(&self) -> Peer {
        match self.state().peer_certificates() {
            Some(chain) if !chain.is_empty() => {
                let certificate = PeerCertificate::new(chain.to_vec());
                if self.rules.verify_peer() {
                    Peer::Verified(certificate)
                } else {
                    Peer::Unverified(certificate)
                }
            }
            _ => Peer::Unknown,
        }
    }

    /// Nothing can be read without input from the transport.
    pub(crate) fn is_starved(&self) -> bool {
        self.plaintext.is_empty() && self.starved && !self.transport_ended && !self.peer_closed
    }

    /// Runs until `job` is done or cannot be, decrypting on the way whatever has come in.
    ///
    /// `Stop::Data` is returned for [`Job::Process`] only; other jobs queue data that comes in, and go on.
    pub(crate) fn run(&mut self, job: &Job<'_>) -> Result<Stop, TlsError> {
        self.expect_whole()?;
        let RustlsEngine {
            connection,
            incoming,
            outgoing,
            plaintext,
            ..
        } = self;
        let outcome = Self::turns(connection, incoming, outgoing, job, &mut |data| {
            plaintext.push(data)
        });
        self.finish(outcome)
    }

    /// Runs until application data has been given to `sink`, or input is needed.
    ///
    /// `sink` gets each record's content once; what it does not want it has to queue itself.
    pub(crate) fn read(
        &mut self,
        sink: &mut dyn FnMut(&[u8], &mut Buffer) -> bool,
    ) -> Result<Stop, TlsError> {
        self.expect_whole()?;
        let RustlsEngine {
            connection,
            incoming,
            outgoing,
            plaintext,
            ..
        } = self;
        let outcome = Self::turns(connection, incoming, outgoing, &Job::Process, &mut |data| {
            sink(data, plaintext)
        });
        self.finish(outcome)
    }

    fn turns(
        connection: &mut Connection,
        incoming: &mut Buffer,
        outgoing: &mut Buffer,
        job: &Job<'_>,
        sink: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(Stop, bool), EngineError> {
        let mut peer_closed = false;
        loop {
            let records = incoming.filled_mut();
            let (discard, result) = match connection {
                Connection::Client(connection) => {
                    turn(connection.process_tls_records(records), outgoing, job, sink)
                }
                Connection::Server(connection) => {
                    turn(connection.process_tls_records(records), outgoing, job, sink)
                }
            };
            incoming.consume(discard);
            match result? {
                Turn::Again => {}
                Turn::Stop(Stop::Data) if !matches!(job, Job::Process) => {}
                // Told once, at a point where the data before it has been handed out.
                Turn::Stop(Stop::PeerClosed) if !matches!(job, Job::Process) => peer_closed = true,
                Turn::Stop(stop) => return Ok((stop, peer_closed || stop == Stop::PeerClosed)),
                Turn::Over => return Ok((Stop::PeerClosed, true)),
            }
        }
    }

    fn finish(&mut self, outcome: Result<(Stop, bool), EngineError>) -> Result<Stop, TlsError> {
        match outcome {
            Ok((stop, peer_closed)) => {
                self.peer_closed |= peer_closed;
                self.starved = stop == Stop::NeedsInput;
                if self.starved && self.incoming.len() >= INCOMING_LIMIT {
                    let what = "one message is longer than 64 KiB".to_owned();
                    return Err(self.fail(TlsError::Misbehaved {
                        role: self.peer_role(),
                        what,
                    }));
                }
                Ok(stop)
            }
            Err(error) => {
                self.collect_alert();
                let error = match (&error, verify::take_refusal()) {
                    (EngineError::InvalidCertificate(_), Some(refusal)) => TlsError::PeerCertificate {
                        role: self.peer_role(),
                        subject: refusal.subject,
                        problem: refusal.problem,
                    },
                    _ => TlsError::from_engine(&error, self.endpoint(), self.spoke_tls()),
                };
                Err(self.fail(error))
            }
        }
    }

    /// A resumed session rests on a judgement from the past, which the engine does not repeat: its certificate may
    /// have expired since. So it is judged again, like a new one. The number is that of the alert to refuse it with.
    pub(crate) fn judge_resumed(&self) -> Result<(), (TlsError, u8)> {
        if self.state().handshake_kind() != Some(HandshakeKind::Resumed) {
            return Ok(());
        }
        let chain = self.state().peer_certificates().unwrap_or_default();
        let judgement = self.rules.judge_again(chain, self.endpoint(), self.name.as_ref());
        judgement.map_err(|(refusal, alert)| {
            let error = TlsError::PeerCertificate {
                role: self.peer_role(),
                subject: refusal.subject,
                problem: refusal.problem,
            };
            (error, alert)
        })
    }

    /// Takes the session apart, and gives what is still to be sent: a fatal alert, behind what waited already.
    pub(crate) fn refuse(self, alert: u8) -> Vec<u8> {
        let mut last_words = self.outgoing.filled().to_vec();
        let version = self.facts().version;
        let secrets = match self.connection {
            Connection::Client(connection) => connection
                .dangerous_into_kernel_connection()
                .map(|(secrets, _)| secrets),
            Connection::Server(connection) => connection
                .dangerous_into_kernel_connection()
                .map(|(secrets, _)| secrets),
        };
        match secrets.map(|secrets| refusal::fatal_alert(alert, version, secrets.tx.0, &secrets.tx.1)) {
            Ok(Some(alert)) => last_words.extend(alert),
            // The peer is refused all the same; it only is not told why.
            Ok(None) => tracing::debug!("no alert for this cipher suite"),
            Err(error) => tracing::debug!(%error, "no alert"),
        }
        last_words
    }

    /// A broken session is over: asking the engine again could only make it process the same bytes again.
    fn expect_whole(&self) -> Result<(), TlsError> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// The fitting alert is what the engine still wants sent, perhaps behind handshake messages.
    ///
    /// It must not be run any further than that: it would look at the offending bytes once more.
    fn collect_alert(&mut self) {
        while self.state().wants_write() {
            let RustlsEngine {
                connection,
                incoming,
                outgoing,
                ..
            } = self;
            let records = incoming.filled_mut();
            let drop_data = &mut |_: &[u8]| true;
            let (discard, result) = match connection {
                Connection::Client(connection) => turn(
                    connection.process_tls_records(records),
                    outgoing,
                    &Job::Process,
                    drop_data,
                ),
                Connection::Server(connection) => turn(
                    connection.process_tls_records(records),
                    outgoing,
                    &Job::Process,
                    drop_data,
                ),
            };
            incoming.consume(discard);
            if result.is_err() {
                break;
            }
        }
    }

    /// Records the error that every later operation repeats.
    fn fail(&mut self, error: TlsError) -> TlsError {
        self.failed = Some(error.clone());
        error
    }

    fn spoke_tls(&self) -> bool {
        self.state().protocol_version().is_some()
    }

    /// Is the handshake over? Then nothing is counted any more.
    pub(crate) fn is_established(&self) -> bool {
        !self.state().is_handshaking()
    }

    /// Refuses a peer that sends more than any honest handshake needs.
    pub(crate) fn check_handshake_budget(&mut self) -> Result<(), TlsError> {
        if self.handshake_bytes > HANDSHAKE_LIMIT && !self.is_established() {
            let error = TlsError::HandshakeTooLong {
                role: self.peer_role(),
                limit: HANDSHAKE_LIMIT,
            };
            return Err(self.fail(error));
        }
        Ok(())
    }

    pub(crate) fn facts(&self) -> TlsFacts {
        let state = self.state();
        TlsFacts {
            version: match state.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
                _ => TlsVersion::Tls12,
            },
            cipher_suite: state
                .negotiated_cipher_suite()
                .map(|suite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_"))
                .unwrap_or_default(),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
            group: state
                .negotiated_key_exchange_group()
                .map(|group| format!("{:?}", group.name())),
        }
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    let invalid = |_| TlsError::InvalidName {
        name: name.escape_default().to_string(),
    };
    Ok(ServerName::try_from(bare).map_err(invalid)?.to_owned())
}

fn unusable(creds: &str, error: &rustls::Error) -> TlsError {
    TlsError::Unusable {
        creds: creds.to_owned(),
        what: error.to_string(),
    }
}

impl Transport for RustlsEngine {
    fn receive_space(&mut self) -> &mut [u8] {
        let wanted = if self.hungry {
            INCOMING_LIMIT - self.incoming.len()
        } else {
            SMALL_RECEIVE
        };
        self.incoming
            .space(wanted.min(INCOMING_LIMIT - self.incoming.len()))
    }

    fn received(&mut self, n: usize) {
        self.hungry = n > 0 && n >= self.incoming.space(0).len();
        self.incoming.commit(n);
        self.handshake_bytes = self.handshake_bytes.saturating_add(n);
        self.starved = false;
    }

    fn received_end(&mut self) {
        self.transport_ended = true;
    }

    fn to_send(&self) -> &[u8] {
        self.outgoing.filled()
    }

    fn sent(&mut self, n: usize) {
        self.outgoing.consume(n);
    }
}
