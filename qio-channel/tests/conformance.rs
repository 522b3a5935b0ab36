//! Every channel of this crate through the conformance suite.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests report by panicking"
)]

use std::fs::OpenOptions;
use std::io::{IoSlice, IoSliceMut};
use std::process::Command;
use std::time::{Duration, Instant};

use qio_channel::testing::{Pair, stored_conformance, stream_conformance};
use qio_channel::{
    AsyncChannel, BufferChannel, Channel, ChannelExt, CommandChannel, Deadlined, Direction, DuplexChannel,
    FdChannel, Features, NullChannel, Shutdown, Wait,
};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

fn pipe() -> (FdChannel, FdChannel) {
    FdChannel::pipe().expect("a pipe")
}

#[test]
fn pipe_conforms() {
    stream_conformance(|| {
        let (reader, writer) = pipe();
        Pair::simplex(Box::new(writer), Box::new(reader))
    });
}

#[test]
fn pair_of_pipes_conforms() {
    stream_conformance(|| {
        let (their_reader, our_writer) = rustix::pipe::pipe().unwrap();
        let (our_reader, their_writer) = rustix::pipe::pipe().unwrap();
        Pair::duplex(
            Box::new(FdChannel::from_pair(our_reader, our_writer).unwrap()),
            Box::new(FdChannel::from_pair(their_reader, their_writer).unwrap()),
        )
    });
}

#[test]
fn pipe_with_deadlines_conforms() {
    stream_conformance(|| {
        let (reader, writer) = pipe();
        Pair::simplex(
            Box::new(Deadlined::new(writer).unwrap()),
            Box::new(Deadlined::new(reader).unwrap()),
        )
    });
}

/// The layers of this workspace are written over `BoxChannel`, so a box in a box must behave too.
#[test]
fn pipe_in_boxes_conforms() {
    stream_conformance(|| {
        let (reader, writer) = pipe();
        let (reader, writer): (Box<dyn Channel>, Box<dyn Channel>) = (Box::new(reader), Box::new(writer));
        Pair::simplex(Box::new(writer), Box::new(reader))
    });
}

#[test]
fn duplex_conforms() {
    stream_conformance(|| {
        let (near, far) = DuplexChannel::pair(10_000).unwrap();
        Pair::duplex(Box::new(near), Box::new(far))
    });
}

#[test]
fn a_child_is_a_channel() {
    let mut cat = CommandChannel::spawn(&mut Command::new("cat")).unwrap();
    cat.write_all(b"meow").unwrap();
    let mut meow = [0; 4];
    cat.read_exact(&mut meow).unwrap();
    assert_eq!(&meow, b"meow");
    cat.set_blocking(false).unwrap();
    assert_eq!(
        cat.read(&mut meow).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    cat.set_blocking(true).unwrap();
    cat.shutdown(Shutdown::Write).unwrap();
    assert_eq!(cat.read(&mut meow).unwrap(), 0);
    assert!(cat.wait().unwrap().success());
}

/// Dropped, even a child that ignores both its pipes and SIGTERM is gone, and is no zombie.
#[test]
fn a_dropped_child_ends() {
    for script in ["exec sleep 1000", "trap '' TERM; while :; do sleep 1; done"] {
        let child = CommandChannel::spawn(Command::new("sh").args(["-c", script])).unwrap();
        let pid = child.id().unwrap();
        drop(child);
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "{script}"
        );
    }
}

#[test]
fn file_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    stored_conformance(|| {
        let writer = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        let reader = OpenOptions::new().read(true).open(&path).unwrap();
        Pair::simplex(
            Box::new(FdChannel::from_file(writer).unwrap()),
            Box::new(FdChannel::from_file(reader).unwrap()),
        )
    });
}

#[test]
fn buffer_stores_what_is_written() {
    let mut buffer = BufferChannel::new();
    buffer
        .writev_all(&mut [IoSlice::new(b"ab"), IoSlice::new(b"c")])
        .unwrap();
    let mut abc = [0; 3];
    buffer.read_exact(&mut abc).unwrap();
    assert_eq!(&abc, b"abc");
    buffer.shutdown(Shutdown::Write).unwrap();
    assert!(buffer.write(b"x").is_err());
}

#[test]
fn null_is_empty_and_never_full() {
    let mut null = NullChannel::new();
    null.write_all(&[0; 100_000]).unwrap();
    assert_eq!(null.read(&mut [0; 10]).unwrap(), 0);
    null.shutdown(Shutdown::Both).unwrap();
    assert!(null.write(b"x").is_err());
}

fn pty_descriptors() -> (std::os::fd::OwnedFd, std::fs::File) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let user = OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let mut termios = tcgetattr(&user).unwrap();
    termios.make_raw();
    tcsetattr(&user, OptionalActions::Now, &termios).unwrap();
    (controller, user)
}

fn pty() -> (FdChannel, FdChannel) {
    let (controller, user) = pty_descriptors();
    (
        FdChannel::from_fd(controller).unwrap(),
        FdChannel::from_file(user).unwrap(),
    )
}

/// A pty has no half-close and discards what was not read at hang-up, so it cannot run the stream suite.
#[test]
fn pty_carries_data_both_ways_and_hangs_up() {
    let (mut controller, mut user) = pty();
    assert_eq!(controller.info().kind, "pty");
    let mut five = [0; 5];
    controller.write_all(b"ls -l").unwrap();
    user.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"ls -l");
    user.set_blocking(false).unwrap();
    assert_eq!(
        user.read(&mut five).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    user.write_all(b"total").unwrap();
    controller.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"total");
    drop(user);
    assert_eq!(
        controller.read(&mut five).unwrap(),
        0,
        "a hang-up is the end of the stream"
    );
}

/// tokio hears of deadlines, too: a silent peer ends the read when its time has come.
#[tokio::test(flavor = "current_thread")]
async fn a_deadline_ends_a_read_under_tokio() {
    let (reader, _writer) = pipe();
    let mut reader = Deadlined::new(reader).unwrap();
    reader.set_deadline(Direction::Read, Some(Instant::now() + Duration::from_millis(5)));
    let mut reader = AsyncChannel::new(reader).unwrap();
    reader.get_mut().set_blocking(false).unwrap();
    let error = reader.readv(&mut [IoSliceMut::new(&mut [0])]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn file_reads_and_writes_at_offsets() {
    let mut file = FdChannel::from_file(tempfile::tempfile().unwrap()).unwrap();
    assert!(file.features().contains(Features::SEEK));
    file.write_all(b"0123456789").unwrap();
    assert_eq!(
        file.pwritev(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")], 4)
            .unwrap(),
        4
    );
    let (mut a, mut b) = ([0; 3], [0; 4]);
    assert_eq!(
        file.preadv(&mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)], 2)
            .unwrap(),
        7
    );
    assert_eq!((&a, &b), (b"23a", b"bcd8"));
    assert_eq!(file.seek(std::io::SeekFrom::Current(0)).unwrap(), 10);
}

#[test]
fn what_a_channel_cannot_do_is_refused_by_name() {
    let (mut reader, mut writer) = pipe();
    for error in [
        reader.preadv(&mut [], 0).unwrap_err(),
        writer.pwritev(&[], 0).unwrap_err(),
        reader.seek(std::io::SeekFrom::Start(0)).unwrap_err(),
        reader.peek(&mut []).unwrap_err(),
        reader.readv_fds(&mut [], &mut Vec::new()).unwrap_err(),
        writer.writev_fds(&[], &[]).unwrap_err(),
        reader.write(b"x").unwrap_err(),
        writer.read(&mut [0]).unwrap_err(),
    ] {
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("pipe"), "{error}");
    }
}

#[test]
fn character_devices_that_epoll_refuses_are_always_ready() {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let channel = FdChannel::from_file(null).unwrap();
    assert!(matches!(channel.readiness(Direction::Read).wait, Wait::Now));
}

#[test]
fn a_socket_is_sent_to_the_channel_that_knows_sockets() {
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = FdChannel::from_fd(socket.into()).unwrap_err();
    assert!(error.to_string().contains("SocketChannel"), "{error}");
}

/// A terminal's input and output are one open file description: ending one side must not make the other block.
#[test]
fn ending_one_side_of_a_terminal_leaves_the_other_nonblocking() {
    let (controller, user) = pty_descriptors();
    let (input, output) = (user.try_clone().unwrap(), user.try_clone().unwrap());
    let mut channel = FdChannel::from_pair(input.into(), output.into()).unwrap();
    channel.set_blocking(false).unwrap();
    channel.shutdown(Shutdown::Read).unwrap();
    let block = [b'x'; 4096];
    let full = (0..1000)
        .find_map(|_| channel.write(&block).err())
        .expect("nobody reads");
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
    drop(channel);
    let flags = rustix::fs::fcntl_getfl(&user).unwrap();
    assert!(
        !flags.contains(rustix::fs::OFlags::NONBLOCK),
        "the last side puts it back"
    );
    drop(controller);
}

#[test]
fn nonblocking_mode_is_taken_back_from_a_shared_description() {
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let shared = reader.try_clone().unwrap();
    let mut channel = FdChannel::from_fd(reader).unwrap();
    channel.set_blocking(false).unwrap();
    let nonblocking = || {
        rustix::fs::fcntl_getfl(&shared)
            .unwrap()
            .contains(rustix::fs::OFlags::NONBLOCK)
    };
    assert!(nonblocking());
    drop(channel);
    assert!(!nonblocking());
}
