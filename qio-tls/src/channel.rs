//! An established TLS session over a channel, as a channel.

use std::io::{self, IoSlice, IoSliceMut};

use qio_channel::{
    BoxChannel, Channel, ChannelInfo, Direction, Features, Readiness, Shutdown, SplitError, unsupported,
};

use crate::error::TlsError;
use crate::facts::{Peer, TlsFacts};
use crate::handshake::{receive, send};
use crate::session::{ReadOutcome, Session};
use crate::transport::Transport;

/// A channel whose data travels encrypted over another channel, between verified ends. Made by
/// [`TlsHandshake`](crate::TlsHandshake).
///
/// * A read takes as many records as have come in. A write takes up to 64 KiB, and small vectors share records.
/// * `shutdown(Write)` sends a close_notify, and ends the transport's direction too where it can; reading goes on.
/// * The end of the transport without the peer's close_notify is `UnexpectedEof`, see
///   [`set_relaxed_eof`](TlsChannel::set_relaxed_eof).
/// * Errors of the byte path have a [`TlsError`] as their source: [`TlsError::from_io`] finds it.
#[derive(Debug)]
pub struct TlsChannel<C> {
    channel: C,
    session: Session,
    read_ended: bool,
    transport_shut: bool,
}

impl TlsError {
    /// The TLS error behind an error of the byte path, if there is one.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Option<&TlsError> {
        error.get_ref()?.downcast_ref()
    }
}

impl<C: Channel> TlsChannel<C> {
    pub(crate) fn new(channel: C, session: Session) -> Self {
        TlsChannel {
            channel,
            session,
            read_ended: false,
            transport_shut: false,
        }
    }

    /// What was negotiated.
    #[must_use]
    pub fn facts(&self) -> &TlsFacts {
        self.session.facts()
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.session.peer()
    }

    /// The channel underneath, to ask it things.
    pub fn get_ref(&self) -> &C {
        &self.channel
    }

    /// Takes the end of the transport for the end of the data even without a close_notify; see
    /// [`Session::set_relaxed_eof`].
    pub fn set_relaxed_eof(&mut self, relaxed: bool) {
        self.session.set_relaxed_eof(relaxed);
    }

    /// Reports a broken session, after trying to tell the peer.
    fn broken(&mut self, error: TlsError) -> io::Error {
        // The error at hand is the one to report; whether the alert went out changes nothing for us.
        let _ = send(&mut self.channel, &mut self.session);
        error.into_io()
    }
}

impl<C: Channel + 'static> Channel for TlsChannel<C> {
    fn readv(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if self.read_ended || bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        loop {
            match self.session.readv(bufs) {
                Ok(ReadOutcome::Data(n)) => return Ok(n),
                Ok(ReadOutcome::End) => return Ok(0),
                Ok(ReadOutcome::NeedsInput) => {}
                Err(error) => return Err(self.broken(error)),
            }
            if !self.session.to_send().is_empty() && !self.transport_shut {
                // What we owe can wait for the next write or flush, which also reports why it does not get through; what
                // we want to read may be there even if the peer takes nothing more.
                let _ = send(&mut self.channel, &mut self.session);
            }
            match receive(&mut self.channel, &mut self.session) {
                // A reset is a cut like any other, and what came before it has been handed out.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.session.received_end(),
                done => done?,
            }
        }
    }

    fn writev(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.session.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        // What was accepted before goes first, so that a blocked transport blocks us.
        send(&mut self.channel, &mut self.session)?;
        let n = match self.session.writev(bufs) {
            Ok(n) => n,
            Err(error) => return Err(self.broken(error)),
        };
        match send(&mut self.channel, &mut self.session) {
            // Accepted all the same: the next call goes on where this one stopped.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(n),
            sent => sent.map(|()| n),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.transport_shut {
            send(&mut self.channel, &mut self.session)?;
        }
        self.channel.flush()
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        let transport = self.channel.features().contains(Features::SHUTDOWN);
        if how.includes(Direction::Write) && !self.transport_shut {
            // A broken session has no goodbye to say; its transport is ended all the same.
            let said = self.session.close().is_ok();
            match self.flush() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) if !said => {}
                // A peer that is gone needs no goodbye.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
            // Only once it is done: a layer below may have a goodbye of its own, and ask to be called again.
            if transport {
                self.channel.shutdown(Shutdown::Write)?;
            }
            self.transport_shut = true;
        }
        if how.includes(Direction::Read) {
            self.read_ended = true;
            if transport {
                self.channel.shutdown(Shutdown::Read)?;
            }
        }
        Ok(())
    }

    fn set_blocking(&mut self, blocking: bool) -> io::Result<()> {
        self.channel.set_blocking(blocking)
    }

    fn readiness(&self, direction: Direction) -> Readiness<'_> {
        match direction {
            // Plaintext, or records that may hold some, are here already: nothing on the descriptor would tell.
            Direction::Read if self.read_ended || !self.session.needs_input() => Readiness::NOW,
            _ => self.channel.readiness(direction),
        }
    }

    fn features(&self) -> Features {
        Features::SHUTDOWN
    }

    fn info(&self) -> ChannelInfo {
        ChannelInfo {
            tls: Some(self.session.facts().to_string()),
            ..self.channel.info()
        }
    }

    fn into_split(self: Box<Self>) -> Result<(BoxChannel, BoxChannel), SplitError> {
        let error = unsupported(&self.info(), "splitting");
        Err(SplitError { channel: self, error })
    }

    fn set_cork(&mut self, cork: bool) -> io::Result<()> {
        self.channel.set_cork(cork)
    }

    fn set_delay(&mut self, delay: bool) -> io::Result<()> {
        self.channel.set_delay(delay)
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}
