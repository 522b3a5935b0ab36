//! NBDC-06: whatever fails, at whichever request, the copy fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use qio_nbd::export::{Capabilities, Durability, Export, MemoryExport, ZeroMode};
use qio_nbd::server::Server;
use qio_socket::{ListenOptions, Listener, SocketAddress};

use super::*;

/// Four requests and a bit.
const SIZE: usize = 4 * REQUEST as usize + 1000;

/// A disk whose n-th operation fails.
struct Faulty {
    disk: MemoryExport,
    left: AtomicU64,
}

impl Faulty {
    /// Fails operation `failing`, counted from 0.
    fn new(failing: u64) -> Self {
        let bytes = (0..SIZE)
            .map(|i| u8::try_from(i % 251).unwrap())
            .collect::<Vec<_>>();
        Faulty {
            disk: bytes.into(),
            left: AtomicU64::new(failing),
        }
    }

    fn count(&self) -> io::Result<()> {
        match self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
        {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("a planned failure")),
        }
    }
}

impl Export for Faulty {
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn capabilities(&self) -> Capabilities {
        self.disk.capabilities()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.count()?;
        self.disk.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64, durability: Durability) -> io::Result<()> {
        self.count()?;
        self.disk.write_at(buf, offset, durability)
    }
    fn flush(&self) -> io::Result<()> {
        self.count()
    }
    fn write_zeroes(
        &self,
        offset: u64,
        length: u64,
        mode: ZeroMode,
        durability: Durability,
    ) -> io::Result<()> {
        self.count()?;
        self.disk.write_zeroes(offset, length, mode, durability)
    }
}

/// Runs `copy` with the URI of a disk whose operation `failing` fails.
async fn with_faulty(failing: u64, copy: impl AsyncFn(String) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("s");
    let listener = Listener::bind(&[SocketAddress::unix(&socket)], &ListenOptions::default())?;
    let server = Server::builder()
        .export("".parse()?, "", Arc::new(Faulty::new(failing)))
        .build();
    let serving = {
        let server = server.clone();
        tokio::spawn(async move { server.serve(listener).await })
    };
    let result = copy(format!("nbd+unix:///?socket={}", socket.display())).await;
    server.stop();
    serving.await??;
    result
}

fn copy(source: &str, destination: &str) -> CopyCommand {
    use clap::{Args as _, FromArgMatches as _};
    let command = CopyCommand::augment_args(clap::Command::new("copy").no_binary_name(true));
    CopyCommand::from_arg_matches(&command.get_matches_from([source, destination])).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdc_06_a_read_that_fails_fails_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("copy");
    let name = file.to_str().unwrap();
    for failing in 0..5 {
        let result = with_faulty(failing, async |uri| run(copy(&uri, name)).await).await;
        let error = format!("{:#}", result.unwrap_err());
        assert!(
            error.contains("reading") && error.contains("a planned failure"),
            "{failing}: {error}"
        );
    }
    with_faulty(5, async |uri| run(copy(&uri, name)).await)
        .await
        .unwrap();
    let mut expected = vec![0; SIZE];
    Faulty::new(u64::MAX).read_at(&mut expected, 0).unwrap();
    assert!(std::fs::read(&file).unwrap() == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdc_06_a_write_or_flush_that_fails_fails_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("source");
    std::fs::write(&file, vec![7; SIZE]).unwrap();
    let name = file.to_str().unwrap();
    for failing in 0..6 {
        let result = with_faulty(failing, async |uri| run(copy(name, &uri)).await).await;
        let error = format!("{:#}", result.unwrap_err());
        let doing = if failing < 5 { "writing" } else { "finishing" };
        assert!(
            error.contains(doing) && error.contains("a planned failure"),
            "{failing}: {error}"
        );
    }
    with_faulty(6, async |uri| run(copy(name, &uri)).await)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn destinations_that_will_not_do_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large");
    std::fs::write(&large, vec![7; SIZE + 1]).unwrap();
    let name = large.to_str().unwrap();
    let result = with_faulty(u64::MAX, async |uri| run(copy(name, &uri)).await).await;
    assert!(format!("{:#}", result.unwrap_err()).contains("too small"));
    let error = run(copy(name, name)).await.unwrap_err().to_string();
    assert!(error.contains("both source and destination"), "{error}");
    assert_eq!(
        std::fs::metadata(&large).unwrap().len(),
        SIZE as u64 + 1,
        "and is still there"
    );
    assert!(run(copy("null:", name)).await.is_err());
}
