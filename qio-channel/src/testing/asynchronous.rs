//! Checks of a channel under tokio.

use std::io::{IoSlice, IoSliceMut};

use tokio::runtime::Builder;

use super::{PUMP_BYTES, PUMP_VECTORS, Pair, Pattern, uneven};
use crate::{AsyncChannel, BoxChannel, Shutdown};

pub(super) fn run(make: &dyn Fn() -> Pair) {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        pump(make()).await;
        a_dropped_read_loses_nothing(make()).await;
    });
}

async fn pump(pair: Pair) {
    let mut near = AsyncChannel::new(pair.near).expect("taking the channel over");
    let mut far = AsyncChannel::new(pair.far).expect("taking the channel over");
    let writer = tokio::spawn(async move {
        let mut data = vec![0; PUMP_BYTES];
        Pattern::new(8).fill(&mut data);
        let mut rest = &data[..];
        let mut vectors = Vec::new();
        for length in uneven(PUMP_BYTES, PUMP_VECTORS) {
            let (now, later) = rest.split_at(length);
            vectors.push(IoSlice::new(now));
            rest = later;
        }
        let mut vectors = &mut vectors[..];
        while !vectors.is_empty() {
            let n = near.writev(vectors).await.expect("writing");
            IoSlice::advance_slices(&mut vectors, n);
        }
        near.flush().await.expect("flushing");
        near.shutdown(Shutdown::Write).await.expect("ending the stream");
        near
    });
    let mut pattern = Pattern::new(8);
    let (mut small, mut large) = ([0; 777], vec![0; 50_000]);
    loop {
        let mut vectors = [IoSliceMut::new(&mut small), IoSliceMut::new(&mut large)];
        let n = far.readv(&mut vectors).await.expect("reading");
        if n == 0 {
            break;
        }
        pattern.check(&small[..n.min(small.len())]);
        pattern.check(&large[..n.saturating_sub(small.len())]);
    }
    assert_eq!(pattern.position(), PUMP_BYTES);
    drop(writer.await.expect("the writer"));
}

async fn a_dropped_read_loses_nothing(pair: Pair) {
    let mut near: AsyncChannel<BoxChannel> = AsyncChannel::new(pair.near).expect("taking the channel over");
    let mut far = AsyncChannel::new(pair.far).expect("taking the channel over");
    let mut space = [0; 4];
    {
        let mut vectors = [IoSliceMut::new(&mut space)];
        let read = std::pin::pin!(far.readv(&mut vectors));
        assert!(
            futures_poll_once(read).await.is_none(),
            "nothing has been written"
        );
    }
    near.writev(&[IoSlice::new(b"abcd")]).await.expect("writing");
    near.flush().await.expect("flushing");
    let mut got = 0;
    while got < 4 {
        got += far
            .readv(&mut [IoSliceMut::new(&mut space[got..])])
            .await
            .expect("reading");
    }
    assert_eq!(&space, b"abcd");
}

/// Polls a future once and gives it up.
async fn futures_poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
