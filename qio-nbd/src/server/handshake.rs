//! Drives a negotiation over a channel, up to the transmission phase.

use std::io::{self, IoSliceMut};
use std::sync::Arc;

use qio_channel::{AsyncChannel, BoxChannel};
use qio_tls::TlsHandshake;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::negotiation::{
    CloseReason, Negotiated, ServerEvent, ServerNegotiation, ServerUpgrade, TurnedAway,
};
use crate::transmission::ExportFacts;

use super::connection::Connection;
use super::{ConnectionEnd, ConnectionError, Shared};
use crate::input::Input;

/// How a negotiation ended that did not fail.
pub(super) enum Outcome {
    /// With an export.
    Serve(Box<Connection>),
    /// Without one.
    Ended(ConnectionEnd),
}

/// Negotiates within the time limit, which spans everything from the greeting to the choice of an export.
pub(super) async fn negotiate(channel: BoxChannel, shared: &Shared) -> Result<Outcome, ConnectionError> {
    match shared.limits.handshake_timeout {
        None => converse(channel, shared, None).await,
        Some(limit) => {
            // A limit beyond the end of time is none.
            let Some(deadline) = Instant::now().checked_add(limit) else {
                return converse(channel, shared, None).await;
            };
            tokio::time::timeout_at(deadline, converse(channel, shared, Some(deadline)))
                .await
                .unwrap_or(Err(ConnectionError::HandshakeTimeout(limit)))
        }
    }
}

async fn converse(
    channel: BoxChannel,
    shared: &Shared,
    deadline: Option<Instant>,
) -> Result<Outcome, ConnectionError> {
    let mut channel = AsyncChannel::new(channel)?;
    let mut negotiation = ServerNegotiation::new(shared.policy(), shared.max_options());
    let mut input = Input::new();
    loop {
        let (used, event) = negotiation.feed(input.filled());
        input.consume(used);
        let event = match event {
            ServerEvent::List(query) => {
                let exports = shared
                    .exports
                    .iter()
                    .map(|(name, served)| (name, &*served.info.description));
                negotiation.answer_list(query, exports)
            }
            ServerEvent::Lookup(query) => {
                let found = shared.find(query.name()).map(|served| &served.info);
                negotiation.answer_lookup(query, found)
            }
            other => other,
        };
        let sent = send(&mut channel, &negotiation.take_output()).await;
        match &event {
            // Many clients do not wait for the answer to their goodbye.
            ServerEvent::Close(CloseReason::Aborted) => {}
            _ => sent?,
        }
        match event {
            ServerEvent::NeedInput => {
                let received = channel.readv(&mut [IoSliceMut::new(input.room())]).await?;
                if received == 0 {
                    return left(&negotiation, ConnectionEnd::Vanished);
                }
                input.received(received);
            }
            ServerEvent::StartTls(upgrade) => {
                (channel, negotiation) = start_tls(channel, upgrade, shared, deadline).await?;
            }
            ServerEvent::Negotiated(negotiated) => return serve(channel, input, &negotiated, shared),
            ServerEvent::Close(reason) => {
                // The last words are out; whether the goodbye gets through is the client's business.
                let _ = channel.shutdown(qio_channel::Shutdown::Write).await;
                return match reason {
                    CloseReason::Aborted => left(&negotiation, ConnectionEnd::Aborted),
                    reason => Err(reason.into()),
                };
            }
            ServerEvent::Continue | ServerEvent::List(_) | ServerEvent::Lookup(_) => {}
        }
    }
}

/// The end of a client that left: over a refusal, if there was one.
fn left(negotiation: &ServerNegotiation, end: ConnectionEnd) -> Result<Outcome, ConnectionError> {
    match negotiation.turned_away() {
        Some(TurnedAway { option, why }) => Err(ConnectionError::TurnedAway {
            option: *option,
            why: why.clone(),
        }),
        None => Ok(Outcome::Ended(end)),
    }
}

async fn send(channel: &mut AsyncChannel<BoxChannel>, output: &[u8]) -> io::Result<()> {
    if output.is_empty() {
        return Ok(());
    }
    channel.write_all(output).await?;
    channel.flush().await
}

/// Does the TLS handshake. What was received in clear text stays behind, in a value that is dropped here.
async fn start_tls(
    channel: AsyncChannel<BoxChannel>,
    upgrade: ServerUpgrade,
    shared: &Shared,
    deadline: Option<Instant>,
) -> Result<(AsyncChannel<BoxChannel>, ServerNegotiation), ConnectionError> {
    let Some(creds) = shared.tls.creds() else {
        // The negotiation was told the policy, and refuses STARTTLS without it.
        return Err(CloseReason::Ended.into());
    };
    let mut handshake = TlsHandshake::server(channel.into_inner(), creds)?;
    if let Some(authorizer) = shared.tls.authorizer() {
        handshake = handshake.with_authorizer(Arc::clone(authorizer));
    }
    // Without a limit of ours the TLS layer still needs one: a day is none.
    let limit = deadline.map_or(NO_LIMIT, |deadline| {
        deadline.saturating_duration_since(Instant::now())
    });
    let channel = handshake.complete_async(limit).await?;
    tracing::info!("TLS established: {}", qio_channel::Channel::info(&channel));
    let channel: BoxChannel = Box::new(channel);
    Ok((AsyncChannel::new(channel)?, upgrade.encrypted()))
}

const NO_LIMIT: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

fn serve(
    channel: AsyncChannel<BoxChannel>,
    input: Input,
    negotiated: &Negotiated,
    shared: &Shared,
) -> Result<Outcome, ConnectionError> {
    let Some(served) = shared.find(&negotiated.export) else {
        // It was there when the negotiation asked, and exports do not come and go.
        return Err(CloseReason::UnknownExport(negotiated.export.clone()).into());
    };
    tracing::info!(export = %negotiated.export, replies = ?negotiated.replies, "serving");
    let facts = ExportFacts {
        size: served.info.size,
        flags: negotiated.flags,
        replies: negotiated.replies,
    };
    let export = Arc::clone(&served.export);
    Ok(Outcome::Serve(Box::new(Connection::new(
        channel, input, export, facts, shared,
    ))))
}
