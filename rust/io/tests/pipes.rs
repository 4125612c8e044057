//! Shards over pipes: what a loop takes is what a socket would have been written, at the loop's own pace.

mod support;

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use fanout_engine::limits::OUTBOX_REPLIES_BYTES;
use fanout_engine::shard::{Cause, Event, Handle};
use fanout_io::limits::PIPE_BYTES;
use fanout_io::sys::monotonic_ms;
use fanout_io::{Command, Happened, Socket, Submit};
use support::{Node, offsets};

const LONG: Duration = Duration::from_secs(10);

impl Node {
    /// What the shard says next.
    fn told(&self) -> Happened {
        self.happened.recv_timeout(LONG).expect("the shard has something to say")
    }

    /// What a loop does: takes what there is, and calls the shard back when there is room.
    fn take(&self, handle: Handle, socket: &Socket, limit: usize) -> Option<Vec<u8>> {
        let taken = socket.pipe().unwrap().take(limit);
        if taken.has_room {
            self.port.push(Command::Writable(handle));
        }
        taken.bytes
    }

    /// Everything until `end` comes, or until nothing more will.
    fn take_until(&self, handle: Handle, socket: &Socket, end: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end) || end.is_empty() {
            match self.take(handle, socket, 5_000) {
                None => return bytes,
                Some(more) if more.is_empty() => while !self.told().filled.contains(&handle) {},
                Some(more) => bytes.extend(more),
            }
        }
        bytes
    }
}

/// How a frame ends whose last message is this.
fn frame_end(payload: &str) -> String {
    format!("\"data\":\"{payload}\"}}]}}")
}

#[test]
fn a_pipe_is_given_the_bytes_that_a_socket_is_given() {
    let mut node = Node::start(Submit::Calls);
    let (handle, socket) = node.connect_pipe();
    let (server, mut client) = UnixStream::pair().unwrap();
    let beside = node.connect(&server);
    for n in 0..200 {
        node.publish(&vec![b'x'; 20 + n % 300]);
    }
    node.publish(b"last");
    let taken = node.take_until(handle, &socket, frame_end("last").as_bytes());
    assert_eq!(offsets(&taken), (0..=200).collect::<Vec<i64>>());
    let mut read = vec![0; taken.len()];
    client.read_exact(&mut read).unwrap();
    assert_eq!(offsets(&read), offsets(&taken), "frames of the same messages");
    for finished in [handle, beside] {
        node.port.push(Command::Finish(finished, 1000, String::new()));
    }
    let close = [0x88, 2, 0x03, 0xE8];
    assert_eq!(node.take_until(handle, &socket, b""), close);
    read.clear();
    client.read_to_end(&mut read).unwrap();
    assert_eq!(read, close);
}

#[test]
fn who_does_not_take_stands_still_and_is_given_everything_from_there() {
    let mut node = Node::start(Submit::Calls);
    let (handle, socket) = node.connect_pipe();
    for n in 0..2_000 {
        node.publish(&vec![b'x'; 20 + n % 3_000]);
    }
    node.publish(b"last");
    while node.hub.stats.short_writes.get() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut bytes = socket.pipe().unwrap().take(usize::MAX).bytes.unwrap();
    assert_eq!(bytes.len(), PIPE_BYTES, "no more waits for it than fits");
    node.port.push(Command::Writable(handle));
    bytes.extend(node.take_until(handle, &socket, frame_end("last").as_bytes()));
    assert_eq!(offsets(&bytes), (0..=2_000).collect::<Vec<i64>>());
}

#[test]
fn who_asks_much_and_takes_nothing_is_cut_off() {
    let mut node = Node::start(Submit::Calls);
    let (handle, socket) = node.connect_pipe();
    let reply = vec![b'r'; 128 << 10];
    for _ in 0..=OUTBOX_REPLIES_BYTES / reply.len() + 1 {
        node.port.push(Command::Send(handle, reply[..].into()));
    }
    while !node.told().events.contains(&Event::Evicted(handle, Cause::Full)) {}
    assert_eq!(node.take(handle, &socket, usize::MAX), None, "what it had not taken is gone");
}

#[test]
fn an_aborted_pipe_ends_at_once_and_one_that_was_given_back_is_never_spoken_of_again() {
    let mut node = Node::start(Submit::Calls);
    let (aborted, socket) = node.connect_pipe();
    node.publish(b"payload");
    assert_eq!(node.told().filled, [aborted]);
    node.port.push(Command::Abort(aborted));
    let (left, other) = node.connect_pipe();
    node.disconnect(left);
    node.publish(b"payload");
    while !node.told().gone.contains(&left) {}
    assert_eq!(node.take(aborted, &socket, usize::MAX), None);
    assert_eq!(node.take(left, &other, usize::MAX), None);
    assert!(matches!(node.happened.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout)));
    assert!(node.sockets.get(left).is_none());
    assert!(other.heard_ms() <= monotonic_ms());
}
