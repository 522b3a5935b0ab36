//! Accepting within tokio.

use std::future::poll_fn;
use std::task::{Context, Poll};

use qio_channel::{DuplicatedFd, register_with_tokio};
use tokio::io::unix::AsyncFd;

use crate::address::SocketAddress;
use crate::channel::SocketChannel;
use crate::error::SocketError;
use crate::listener::Listener;

/// A [`Listener`] driven by tokio, made by [`Listener::into_async`].
#[derive(Debug)]
pub struct AsyncListener {
    // Before the listener, so that the sockets are deregistered before they are closed.
    registrations: Vec<AsyncFd<DuplicatedFd>>,
    listener: Listener,
}

impl Listener {
    /// Hands the listener to the tokio runtime that this is called in.
    ///
    /// # Errors
    /// What registering the sockets with the reactor reports.
    pub fn into_async(self) -> Result<AsyncListener, SocketError> {
        let registrations = self
            .sockets()
            .map(register_with_tokio)
            .collect::<Result<_, _>>()
            .map_err(SocketError::system("registering a listening socket with tokio"))?;
        Ok(AsyncListener {
            registrations,
            listener: self,
        })
    }
}

impl AsyncListener {
    /// Waits for a connection on any of the sockets. Cancellation safe: a connection is either returned or
    /// still in the kernel's queue.
    ///
    /// The channel is in blocking mode; `AsyncChannel::new` switches it.
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub async fn accept(&mut self) -> Result<SocketChannel, SocketError> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The poll form of [`accept`](AsyncListener::accept).
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<SocketChannel, SocketError>> {
        for index in self.listener.turn() {
            let Some(registration) = self.registrations.get(index) else {
                continue;
            };
            while let Poll::Ready(guard) = registration.poll_read_ready(cx) {
                let mut guard = guard.map_err(SocketError::system("waiting for a connection"))?;
                // An error leaves the readiness standing: nobody would be told again of a waiting connection.
                match self.listener.try_accept_from(index)? {
                    Some(channel) => return Poll::Ready(Ok(channel)),
                    None => guard.clear_ready(),
                }
            }
        }
        Poll::Pending
    }

    /// What is listened on: numeric, with the ports that were really taken.
    pub fn local_addresses(&self) -> impl Iterator<Item = &SocketAddress> {
        self.listener.local_addresses()
    }

    /// The listener, no longer registered.
    #[must_use]
    pub fn into_inner(self) -> Listener {
        self.listener
    }
}
