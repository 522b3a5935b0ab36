//! Tests of the client's task.

use super::*;
use crate::facts::ReplyMode;
use crate::wire::{ChunkFlags, ChunkHeader, ChunkType, PayloadLength};
use qio_channel::{Channel, ChannelExt};
use qio_socket::SocketChannel;

/// Holes of one byte each, from byte 0 on: the whole reply to the first request.
fn holes(count: u32) -> Vec<u8> {
    (0..count)
        .flat_map(|at| {
            let mut flags = ChunkFlags::empty();
            flags.set(ChunkFlags::DONE, at + 1 == count);
            let header = ChunkHeader {
                flags,
                kind: ChunkType::OffsetHole,
                cookie: Cookie(1),
                payload: PayloadLength(12),
            };
            [
                &header.encode()[..],
                &u64::from(at).to_be_bytes(),
                &1_u32.to_be_bytes(),
            ]
            .concat()
        })
        .collect()
}

#[tokio::test]
async fn a_long_reply_that_is_there_already_is_taken_in_turns() {
    const LENGTH: u32 = 4000;
    let (ours, mut theirs) = SocketChannel::pair().unwrap();
    // An answer that is there before the question: the task never has to wait for more.
    theirs.set_blocking(false).unwrap();
    theirs.write_all(&holes(LENGTH)).unwrap();
    let channel: BoxChannel = Box::new(ours);
    let (orders, receiver) = mpsc::channel(1);
    let mut pipeline = Pipeline::new(
        AsyncChannel::new(channel).unwrap(),
        ReplyParser::new(ReplyMode::Structured),
        Input::new(),
        receiver,
    );
    let (answer, mut answered) = oneshot::channel();
    let order = Order {
        command: Command::Read,
        flags: CommandFlags::empty(),
        offset: 0,
        length: LENGTH,
        buffer: Some(AlignedBuf::zeroed(LENGTH as usize)),
        answer,
    };
    orders.send(order).await.unwrap();
    drop(orders);
    let mut polls = 0_usize;
    poll_fn(|cx| {
        polls += 1;
        pipeline.poll(cx)
    })
    .await
    .unwrap();
    answered.try_recv().unwrap().unwrap();
    let turns = LENGTH as usize;
    assert!(
        polls >= turns / (FAIR_SHARE * FAIR_SHARE),
        "{turns} holes within {polls} turns of the task"
    );
}
