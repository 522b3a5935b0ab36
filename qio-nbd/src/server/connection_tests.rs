//! Tests of how a connection's end is told.

use super::*;
use crate::export::MemoryExport;
use crate::server::Server;
use crate::wire::TransmissionFlags;
use qio_channel::ChannelExt;
use qio_socket::SocketChannel;

/// A connection, and its client.
fn connection() -> (Connection, SocketChannel) {
    let (ours, theirs) = SocketChannel::pair().unwrap();
    let channel: BoxChannel = Box::new(ours);
    let facts = ExportFacts {
        size: 512,
        flags: TransmissionFlags::HAS_FLAGS,
        replies: ReplyMode::Simple,
    };
    let connection = Connection::new(
        AsyncChannel::new(channel).unwrap(),
        Input::new(),
        Arc::new(MemoryExport::new(512)),
        facts,
        &Server::builder().build().shared,
    );
    (connection, theirs)
}

fn broken_pipe() -> ConnectionError {
    io::Error::from(io::ErrorKind::BrokenPipe).into()
}

#[tokio::test]
async fn the_first_cause_is_the_one_that_is_told() {
    let (mut connection, _client) = connection();
    let too_long = RequestStreamError::WriteTooLong {
        cookie: Cookie(1),
        length: u32::MAX,
    };
    connection.finish_with(Err(too_long.into()));
    connection.break_off(broken_pipe());
    connection.give_up();
    let end = connection.end;
    assert!(matches!(end, Some(Err(ConnectionError::Requests(_)))), "{end:?}");
}

#[tokio::test]
async fn a_client_that_left_in_peace_need_not_listen() {
    for first in [
        ConnectionEnd::Disconnected,
        ConnectionEnd::Vanished,
        ConnectionEnd::Stopped,
    ] {
        let (mut connection, _client) = connection();
        connection.finish_with(Ok(first));
        connection.break_off(broken_pipe());
        assert!(matches!(connection.end, Some(Ok(end)) if end == first));
    }
    let (mut connection, _client) = connection();
    connection.break_off(broken_pipe());
    assert!(matches!(connection.end, Some(Err(ConnectionError::Io(_)))));
}

#[tokio::test]
async fn a_reply_that_is_ready_after_the_break_is_not_sent() {
    let (mut connection, mut client) = connection();
    connection.start_job(Cookie(1), Export::flush);
    connection.break_off(broken_pipe());
    poll_fn(|cx| connection.poll(cx)).await;
    assert!(connection.jobs.is_empty());
    drop(connection);
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
}
