//! What does the TLS: one of the engines, behind the few operations that sessions need.
//!
//! A new engine is a struct with these methods, and a variant here. Its contract is written at the methods.

use std::io::IoSliceMut;

use qio_creds::{ClientCreds, ServerCreds};

use crate::buffer::Buffer;
use crate::config::Tickets;
use crate::error::{PeerRole, TlsError};
use crate::facts::{Peer, TlsFacts};
#[cfg(feature = "psk")]
use crate::openssl_engine::OpensslEngine;
use crate::rustls_engine::RustlsEngine;
use crate::transport::Transport;

/// Received and not yet decrypted: four full records, or one handshake message of the greatest size that rustls
/// takes (64 KiB) in its records.
pub(crate) const INCOMING_LIMIT: usize = 68 << 10;
/// Decrypted and not yet read. Filled from `incoming` only, and only refilled when empty, so it needs no more room.
pub(crate) const PLAINTEXT_LIMIT: usize = INCOMING_LIMIT;
/// Encrypted and not yet sent: four full records, besides what the handshake produces.
pub(crate) const OUTGOING_LIMIT: usize = 128 << 10;
/// What one record can add to its content: header, explicit nonce, content type, tag, rounded up.
pub(crate) const RECORD_OVERHEAD: usize = 64;
/// The greatest content of a record (RFC 8446, section 5.1).
pub(crate) const RECORD_CONTENT: usize = 16 << 10;
/// Received before a session is established (hostile.md, `UNAUTH_MEM`).
pub(crate) const HANDSHAKE_LIMIT: usize = 128 << 10;
/// How much is asked of the transport at first, and again after a short read.
pub(crate) const SMALL_RECEIVE: usize = RECORD_CONTENT + 4096;

/// Something to do once the engine has nothing else to do.
pub(crate) enum Job<'a> {
    /// Nothing: only process what has come in.
    Process,
    /// Encrypt this as application data.
    Encrypt(&'a [u8]),
    /// Say goodbye.
    CloseNotify,
}

/// Where the engine stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It cannot go on without input.
    NeedsInput,
    /// Application data came in, and is in the sink.
    Data,
    /// The job is done.
    JobDone,
    /// The peer has said goodbye.
    PeerClosed,
}

/// An engine with a connection in it.
pub(crate) enum Engine {
    /// Certificates, by rustls.
    Rustls(Box<RustlsEngine>),
    /// Pre-shared keys, by OpenSSL.
    #[cfg(feature = "psk")]
    Openssl(Box<OpensslEngine>),
}

/// Runs the same method on whichever engine it is.
macro_rules! each {
    ($self:expr, $engine:ident => $call:expr) => {
        match $self {
            Engine::Rustls($engine) => $call,
            #[cfg(feature = "psk")]
            Engine::Openssl($engine) => $call,
        }
    };
}

impl Engine {
    /// A client's, as its credentials ask for, for a server that must prove to be `name`.
    pub(crate) fn client(creds: &ClientCreds, name: Option<&str>) -> Result<Self, TlsError> {
        let snapshot = creds.snapshot();
        #[cfg(feature = "psk")]
        if snapshot.psk().is_some() {
            return Ok(Engine::Openssl(Box::new(OpensslEngine::client(
                creds, &snapshot,
            )?)));
        }
        Ok(Engine::Rustls(Box::new(RustlsEngine::client(
            creds, &snapshot, name,
        )?)))
    }

    /// A server's, as its credentials ask for.
    pub(crate) fn server(creds: &ServerCreds, tickets: Tickets) -> Result<Self, TlsError> {
        let snapshot = creds.snapshot();
        #[cfg(feature = "psk")]
        if snapshot.psk().is_some() {
            return Ok(Engine::Openssl(Box::new(OpensslEngine::server(
                creds, &snapshot,
            )?)));
        }
        let engine = RustlsEngine::server(creds, &snapshot, tickets)?;
        Ok(Engine::Rustls(Box::new(engine)))
    }

    /// Runs until `job` is done or cannot be, decrypting on the way whatever has come in.
    ///
    /// `Stop::Data` is returned for [`Job::Process`] only; other jobs queue data that comes in, and go on.
    pub(crate) fn run(&mut self, job: &Job<'_>) -> Result<Stop, TlsError> {
        each!(self, engine => engine.run(job))
    }

    /// Runs until application data has been given to `sink`, or input is needed.
    ///
    /// `sink` gets each record's content once; what it does not want it puts into the queue that it is handed, for
    /// [`drain`](Self::drain).
    pub(crate) fn read(
        &mut self,
        sink: &mut dyn FnMut(&[u8], &mut Buffer) -> bool,
    ) -> Result<Stop, TlsError> {
        each!(self, engine => engine.read(sink))
    }

    /// Moves queued plaintext out.
    pub(crate) fn drain(&mut self, bufs: &mut [IoSliceMut<'_>]) -> usize {
        each!(self, engine => engine.drain(bufs))
    }

    /// Nothing can be read without input from the transport.
    pub(crate) fn is_starved(&self) -> bool {
        each!(self, engine => engine.is_starved())
    }

    /// The transport has ended.
    pub(crate) fn has_ended(&self) -> bool {
        each!(self, engine => engine.has_ended())
    }

    /// The peer has said goodbye, and everything before that has been handed out.
    pub(crate) fn peer_closed(&self) -> bool {
        each!(self, engine => engine.peer_closed())
    }

    /// Is the handshake over, and the peer verified as the credentials ask for?
    pub(crate) fn is_established(&self) -> bool {
        each!(self, engine => engine.is_established())
    }

    /// Refuses a peer that sends more than any honest handshake needs.
    pub(crate) fn check_handshake_budget(&mut self) -> Result<(), TlsError> {
        each!(self, engine => engine.check_handshake_budget())
    }

    /// What was negotiated. Meaningful once established.
    pub(crate) fn facts(&self) -> TlsFacts {
        each!(self, engine => engine.facts())
    }

    /// Who is at the other end. Meaningful once established.
    pub(crate) fn peer(&self) -> Peer {
        each!(self, engine => engine.peer())
    }

    /// Which side the peer is on.
    pub(crate) fn peer_role(&self) -> PeerRole {
        PeerRole::of_peer_of(each!(self, engine => engine.endpoint()))
    }

    /// Judges the peer again if the session was resumed. The error comes with the number of the fitting alert.
    pub(crate) fn judge_resumed(&self) -> Result<(), (TlsError, u8)> {
        each!(self, engine => engine.judge_resumed())
    }

    /// Ends an established session, and gives what is still to be sent: the alert, if the engine can say it.
    pub(crate) fn refuse(self, alert: u8) -> Vec<u8> {
        each!(self, engine => engine.refuse(alert))
    }

    /// Encrypted bytes that wait to be sent.
    pub(crate) fn pending(&self) -> usize {
        self.to_send().len()
    }
}

impl Transport for Engine {
    fn receive_space(&mut self) -> &mut [u8] {
        each!(self, engine => engine.receive_space())
    }
    fn received(&mut self, n: usize) {
        each!(self, engine => engine.received(n));
    }
    fn received_end(&mut self) {
        each!(self, engine => engine.received_end());
    }
    fn to_send(&self) -> &[u8] {
        each!(self, engine => engine.to_send())
    }
    fn sent(&mut self, n: usize) {
        each!(self, engine => engine.sent(n));
    }
}
