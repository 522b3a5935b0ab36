//! Pre-shared keys: an OpenSSL connection, of either side, between queues in memory.
//!
//! This is the only file that knows how OpenSSL is driven.

use std::fmt;
use std::io::{self, IoSliceMut, Read, Write};
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::Id;
use openssl::ssl::{Error, ErrorCode, SslCipherRef, SslStream, SslVersion};
use qio_creds::{ClientCreds, Endpoint, ServerCreds, Snapshot};

use crate::buffer::Buffer;
use crate::engine::{
    HANDSHAKE_LIMIT, INCOMING_LIMIT, Job, OUTGOING_LIMIT, PLAINTEXT_LIMIT, RECORD_CONTENT, SMALL_RECEIVE,
    Stop,
};
use crate::error::{PeerRole, TlsError};
use crate::facts::{Peer, TlsFacts, TlsVersion};
use crate::openssl_context::{Exchange, connection};
use crate::openssl_error::Circumstances;
use crate::openssl_refusal;
use crate::transport::Transport;

/// What OpenSSL takes for its socket. The end of the transport is not told here: what has come in before it can
/// still be read, and then the session knows better what an end means.
struct Queues {
    incoming: Buffer,
    outgoing: Buffer,
}

impl Read for Queues {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(self.incoming.drain_into(&mut [IoSliceMut::new(buf)], 0))
    }
}

impl Write for Queues {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.outgoing.push(buf) {
            Ok(buf.len())
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection and its queues.
pub(crate) struct OpensslEngine {
    stream: SslStream<Queues>,
    endpoint: Endpoint,
    exchange: Arc<Exchange>,
    established: bool,
    /// Data has been asked for or sent.
    in_use: bool,
    plaintext: Buffer,
    /// One record's content, on its way to the reader. Allocated when it is first needed.
    scratch: Vec<u8>,
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

impl OpensslEngine {
    /// A client's, for a snapshot that holds its key.
    pub(crate) fn client(creds: &ClientCreds, snapshot: &Arc<Snapshot>) -> Result<Self, TlsError> {
        Self::new(creds.creds().name(), snapshot)
    }

    /// A server's, for a snapshot that holds its users.
    pub(crate) fn server(creds: &ServerCreds, snapshot: &Arc<Snapshot>) -> Result<Self, TlsError> {
        Self::new(creds.creds().name(), snapshot)
    }

    fn new(creds: &str, snapshot: &Arc<Snapshot>) -> Result<Self, TlsError> {
        let exchange = Arc::new(Exchange::new(creds, Arc::clone(snapshot)));
        let queues = Queues {
            incoming: Buffer::new(INCOMING_LIMIT),
            outgoing: Buffer::new(OUTGOING_LIMIT),
        };
        let ssl = connection(snapshot, Arc::clone(&exchange))?;
        let stream = SslStream::new(ssl, queues).map_err(|error| TlsError::Internal(error.to_string()))?;
        Ok(OpensslEngine {
            stream,
            endpoint: snapshot.endpoint(),
            exchange,
            established: false,
            in_use: false,
            plaintext: Buffer::new(PLAINTEXT_LIMIT),
            scratch: Vec::new(),
            handshake_bytes: 0,
            hungry: false,
            starved: false,
            transport_ended: false,
            peer_closed: false,
            failed: None,
        })
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.transport_ended
    }

    pub(crate) fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    pub(crate) fn is_established(&self) -> bool {
        self.established
    }

    /// Nothing can be read without input from the transport.
    pub(crate) fn is_starved(&self) -> bool {
        self.plaintext.is_empty() && self.starved && !self.transport_ended && !self.peer_closed
    }

    pub(crate) fn drain(&mut self, bufs: &mut [IoSliceMut<'_>]) -> usize {
        self.plaintext.drain_into(bufs, 0)
    }

    /// Runs until `job` is done or cannot be.
    pub(crate) fn run(&mut self, job: &Job<'_>) -> Result<Stop, TlsError> {
        self.begin()?;
        if !self.established {
            return self.handshake();
        }
        match job {
            // What comes behind the handshake waits for the session, encrypted.
            Job::Process => Ok(Stop::NeedsInput),
            Job::Encrypt(data) => self.encrypt(data),
            Job::CloseNotify => match self.stream.shutdown() {
                Ok(_) => Ok(Stop::JobDone),
                Err(error) => Err(self.broken(&error)),
            },
        }
    }

    fn handshake(&mut self) -> Result<Stop, TlsError> {
        match self.stream.do_handshake() {
            Ok(()) => {
                self.expect_key()?;
                self.established = true;
                Ok(Stop::JobDone)
            }
            Err(error) if error.code() == ErrorCode::WANT_READ => {
                self.starved = true;
                Ok(Stop::NeedsInput)
            }
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// A handshake that OpenSSL takes for good is good only if the key took part in it.
    fn expect_key(&mut self) -> Result<(), TlsError> {
        let ssl = self.stream.ssl();
        let with_key = match ssl.version2() {
            Some(SslVersion::TLS1_3) => ssl.session_reused(),
            _ => ssl
                .current_cipher()
                .and_then(SslCipherRef::standard_name)
                .is_some_and(|suite| suite.starts_with("TLS_ECDHE_PSK_")),
        };
        let known = match self.endpoint {
            Endpoint::Server => self.exchange.claim().is_some_and(|claim| claim.known),
            Endpoint::Client => true,
        };
        if with_key && known && ssl.peer_certificate().is_none() {
            return Ok(());
        }
        let circumstances = self.circumstances();
        let error = match self.endpoint {
            Endpoint::Server => circumstances.not_proven().unwrap_or(TlsError::NoPskOffered),
            Endpoint::Client => circumstances.certificate_instead(),
        };
        Err(self.fail(error))
    }

    fn encrypt(&mut self, data: &[u8]) -> Result<Stop, TlsError> {
        self.put_to_use();
        let mut rest = data;
        while !rest.is_empty() {
            match self.stream.ssl_write(rest) {
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(error) => return Err(self.broken(&error)),
            }
        }
        Ok(Stop::JobDone)
    }

    /// Runs until application data has been given to `sink`, or input is needed.
    pub(crate) fn read(
        &mut self,
        sink: &mut dyn FnMut(&[u8], &mut Buffer) -> bool,
    ) -> Result<Stop, TlsError> {
        self.begin()?;
        if self.peer_closed {
            return Ok(Stop::PeerClosed);
        }
        self.put_to_use();
        self.scratch.resize(RECORD_CONTENT, 0);
        match self.stream.ssl_read(&mut self.scratch) {
            Ok(n) => {
                self.starved = false;
                let data = self.scratch.get(..n).unwrap_or_default();
                if sink(data, &mut self.plaintext) {
                    Ok(Stop::Data)
                } else {
                    let what = "a queue is full although it has room for all that it may hold".to_owned();
                    Err(self.fail(TlsError::Internal(what)))
                }
            }
            Err(error) => match error.code() {
                ErrorCode::WANT_READ => {
                    self.starved = true;
                    Ok(Stop::NeedsInput)
                }
                ErrorCode::ZERO_RETURN => {
                    self.peer_closed = true;
                    Ok(Stop::PeerClosed)
                }
                _ => Err(self.broken(&error)),
            },
        }
    }

    /// A broken session is over: asking OpenSSL again would only confuse it.
    fn begin(&self) -> Result<(), TlsError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        // What others have left in this thread's queue of errors would be taken for ours.
        drop(ErrorStack::get());
        Ok(())
    }

    /// Data is asked for or sent: the peer may use the service, or nobody asked, and no last words will be needed.
    fn put_to_use(&mut self) {
        if !self.in_use {
            self.in_use = true;
            drop(self.exchange.take_secret());
        }
    }

    fn circumstances(&self) -> Circumstances<'_> {
        Circumstances {
            endpoint: self.endpoint,
            exchange: &self.exchange,
            established: self.established,
        }
    }

    fn broken(&mut self, error: &Error) -> TlsError {
        let error = self.circumstances().file(error);
        if matches!(error, TlsError::PskNotProven { .. }) {
            self.correct_alert();
        }
        self.fail(error)
    }

    /// OpenSSL answers a wrong binder with illegal_parameter, where RFC 8446, section 6.2 has decrypt_error. The alert
    /// is still in clear, and has not been sent.
    fn correct_alert(&mut self) {
        const ILLEGAL_PARAMETER: [u8; 7] = [21, 3, 3, 0, 2, 2, 47];
        const DECRYPT_ERROR: u8 = 51;
        let queued = self.stream.get_mut().outgoing.filled_mut();
        if queued.ends_with(&ILLEGAL_PARAMETER)
            && let Some(number) = queued.last_mut()
        {
            *number = DECRYPT_ERROR;
        }
    }

    /// Records the error that every later operation repeats.
    fn fail(&mut self, error: TlsError) -> TlsError {
        self.failed = Some(error.clone());
        error
    }

    /// Refuses a peer that sends more than any honest handshake needs.
    pub(crate) fn check_handshake_budget(&mut self) -> Result<(), TlsError> {
        if self.handshake_bytes > HANDSHAKE_LIMIT && !self.established {
            let error = TlsError::HandshakeTooLong {
                role: PeerRole::of_peer_of(self.endpoint),
                limit: HANDSHAKE_LIMIT,
            };
            return Err(self.fail(error));
        }
        Ok(())
    }

    /// Nothing is ever resumed, so there is nobody to judge again.
    #[expect(clippy::unused_self, reason = "a method of every engine")]
    pub(crate) fn judge_resumed(&self) -> Result<(), (TlsError, u8)> {
        Ok(())
    }

    /// Takes the session apart, and gives what is still to be sent: the alert; or a goodbye in TLS 1.2, where the keys
    /// are out of reach.
    pub(crate) fn refuse(mut self, alert: u8) -> Vec<u8> {
        let facts = self.facts();
        let secret = self.exchange.take_secret();
        let record =
            secret.and_then(|secret| openssl_refusal::fatal_alert(alert, &facts.cipher_suite, &secret));
        if record.is_none() {
            // The peer is refused all the same if it cannot be told.
            let _ = self.run(&Job::CloseNotify);
        }
        let mut last_words = self.to_send().to_vec();
        last_words.extend(record.unwrap_or_default());
        last_words
    }

    pub(crate) fn facts(&self) -> TlsFacts {
        let ssl = self.stream.ssl();
        TlsFacts {
            version: match ssl.version2() {
                Some(SslVersion::TLS1_3) => TlsVersion::Tls13,
                _ => TlsVersion::Tls12,
            },
            cipher_suite: ssl
                .current_cipher()
                .and_then(SslCipherRef::standard_name)
                .unwrap_or_default()
                .to_owned(),
            group: self.group(),
            resumed: false,
        }
    }

    fn group(&self) -> Option<String> {
        let key = self.stream.ssl().peer_tmp_key().ok()?;
        let name = match key.id() {
            Id::X25519 => "X25519",
            Id::X448 => "X448",
            Id::EC => match key.ec_key().ok()?.group().curve_name()? {
                Nid::X9_62_PRIME256V1 => "secp256r1",
                Nid::SECP384R1 => "secp384r1",
                Nid::SECP521R1 => "secp521r1",
                other => other.short_name().ok()?,
            },
            _ => return None,
        };
        Some(name.to_owned())
    }

    pub(crate) fn peer(&self) -> Peer {
        let identity = match self.endpoint {
            // Known users have names that are text.
            Endpoint::Server => self
                .exchange
                .claim()
                .filter(|claim| claim.known)
                .and_then(|claim| String::from_utf8(claim.identity).ok()),
            Endpoint::Client => self.exchange.own().map(|own| own.username().to_owned()),
        };
        identity.map_or(Peer::Unknown, |identity| Peer::Psk { identity })
    }
}

impl fmt::Debug for OpensslEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpensslEngine")
            .field("exchange", &self.exchange)
            .field("established", &self.established)
            .finish_non_exhaustive()
    }
}

impl Transport for OpensslEngine {
    fn receive_space(&mut self) -> &mut [u8] {
        let incoming = &mut self.stream.get_mut().incoming;
        let room = INCOMING_LIMIT - incoming.len();
        incoming.space(if self.hungry {
            room
        } else {
            SMALL_RECEIVE.min(room)
        })
    }

    fn received(&mut self, n: usize) {
        let incoming = &mut self.stream.get_mut().incoming;
        self.hungry = n > 0 && n >= incoming.space(0).len();
        let before = incoming.len();
        incoming.commit(n);
        if !self.established {
            self.handshake_bytes = self.handshake_bytes.saturating_add(n);
            if self.endpoint == Endpoint::Server {
                self.exchange
                    .received(incoming.filled().get(before..).unwrap_or_default());
            }
        }
        self.starved = false;
    }

    fn received_end(&mut self) {
        self.transport_ended = true;
    }

    fn to_send(&self) -> &[u8] {
        self.stream.get_ref().outgoing.filled()
    }

    fn sent(&mut self, n: usize) {
        self.stream.get_mut().outgoing.consume(n);
    }
}
