//! Accepting clients within the limits.

use std::sync::Arc;
use std::time::Duration;

use qio_channel::BoxChannel;
use qio_socket::{AsyncListener, SocketError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Limits;

/// How long accepting rests when descriptors or memory have run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// A client that was let in, and the places it takes.
pub(super) struct Accepted {
    pub(super) channel: BoxChannel,
    pub(super) slot: OwnedSemaphorePermit,
    pub(super) unauthenticated: OwnedSemaphorePermit,
}

/// Accepts clients, as many at a time as the limits allow.
pub(super) struct Acceptor {
    listener: AsyncListener,
    slots: Arc<Semaphore>,
    unauthenticated: Arc<Semaphore>,
}

impl Acceptor {
    pub(super) fn new(listener: AsyncListener, limits: &Limits) -> Self {
        let semaphore = |count: usize| Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)));
        Acceptor {
            listener,
            slots: semaphore(limits.max_connections),
            unauthenticated: semaphore(limits.max_unauthenticated),
        }
    }

    /// Waits for room, then for a client. Safe to cancel.
    pub(super) async fn accept(&mut self) -> Result<Accepted, SocketError> {
        let (slot, unauthenticated) = tokio::join!(
            Arc::clone(&self.slots).acquire_owned(),
            Arc::clone(&self.unauthenticated).acquire_owned()
        );
        let (Ok(slot), Ok(unauthenticated)) = (slot, unauthenticated) else {
            // The semaphores are never closed.
            return std::future::pending().await;
        };
        loop {
            match self.listener.accept().await {
                Ok(channel) => {
                    return Ok(Accepted {
                        channel: Box::new(channel),
                        slot,
                        unauthenticated,
                    });
                }
                Err(error @ SocketError::OutOfResources { .. }) => {
                    tracing::warn!("{error}; trying again in {ACCEPT_BACKOFF:?}");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
