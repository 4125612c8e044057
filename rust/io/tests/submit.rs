//! The border to the kernel: each write of a batch is carried out once and answered for itself, whichever way it goes.

use std::io::{ErrorKind, IoSlice, Read, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use fanout_engine::shard::Handle;
use fanout_engine::wire::Wire;
use fanout_io::limits::WRITES_PER_BATCH;
use fanout_io::submit::{Submit, Write, Written};
use fanout_io::{Socket, Sockets};

const TEXT: &[u8] = b"text";

/// As many sockets as a batch takes.
struct Crowd {
    table: Sockets,
    members: Vec<(Handle, Arc<Socket>)>,
    pairs: Vec<(UnixStream, UnixStream)>,
}

impl Crowd {
    fn new() -> Self {
        let pairs: Vec<_> = (0..WRITES_PER_BATCH).map(|_| UnixStream::pair().unwrap()).collect();
        let mut table = Sockets::new(1);
        let members =
            pairs.iter().map(|(server, _)| table.register(server.as_raw_fd(), Wire::Json, 0).unwrap()).collect();
        Self { table, members, pairs }
    }

    /// Writes these pieces to every socket; the answers in the order of the sockets, and how many calls it took.
    fn write(&self, submit: &mut Submit, pieces: &[&[u8]]) -> (Vec<Written>, usize) {
        let writes: Vec<_> = self
            .members
            .iter()
            .map(|(handle, socket)| {
                let slices = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                Write { handle: *handle, socket, slices }
            })
            .collect();
        let mut written = Vec::new();
        let calls = submit.write(&writes, &mut written);
        assert_eq!(written.len(), writes.len(), "each is answered once");
        written.sort_by_key(|done| done.handle & 0xFFFF_FFFF);
        (written, calls)
    }

    /// What the peer of a socket has received, which is all it is ever sent.
    fn received(&mut self, at: usize) -> Vec<u8> {
        let (server, client) = &mut self.pairs[at];
        server.shutdown(std::net::Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        bytes
    }
}

/// Fills a socket; returns how many bytes it took.
fn fill(socket: &UnixStream) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut filled = 0;
    while let Ok(n) = (&mut &*socket).write(&[b'.'; 1024]) {
        filled += n;
    }
    filled
}

#[test]
fn a_batch_reaches_everyone_in_pieces_or_whole() {
    for mut submit in [Submit::Calls, Submit::probe()] {
        let mut crowd = Crowd::new();
        for pieces in [&[TEXT][..], &[TEXT, b" and ", b"more"], &[TEXT]] {
            let (written, _) = crowd.write(&mut submit, pieces);
            let length: usize = pieces.iter().map(|piece| piece.len()).sum();
            for done in written {
                assert_eq!((done.offered, done.sent.unwrap()), (length, length));
            }
        }
        for at in 0..WRITES_PER_BATCH {
            assert_eq!(crowd.received(at), b"texttext and moretext");
        }
    }
}

#[test]
fn each_write_has_an_answer_of_its_own() {
    for mut submit in [Submit::Calls, Submit::probe()] {
        let mut crowd = Crowd::new();
        let filled = fill(&crowd.pairs[1].0);
        crowd.pairs[2].1.shutdown(std::net::Shutdown::Both).unwrap();
        let (mine, _) = crowd.members[3].clone();
        crowd.table.unregister(mine).unwrap();
        let long = vec![b'x'; 1 << 20]; // more than a socket takes
        let (written, _) = crowd.write(&mut submit, &[TEXT, &long]);
        for (at, done) in written.iter().enumerate() {
            assert_eq!(done.offered, TEXT.len() + long.len());
            match (at, &done.sent) {
                (1, Err(error)) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                (2, Err(error)) => assert_eq!(error.kind(), ErrorKind::BrokenPipe),
                (3, Err(error)) => assert_eq!(error.kind(), ErrorKind::NotConnected),
                (_, sent) => assert!((1..done.offered).contains(sent.as_ref().unwrap()), "socket {at}: {sent:?}"),
            }
        }
        let taken = *written[0].sent.as_ref().unwrap();
        assert_eq!(crowd.received(0), [TEXT, &long].concat()[..taken]);
        assert_eq!(crowd.received(1), vec![b'.'; filled]);
        assert_eq!(crowd.received(3), b"");
    }
}

#[test]
fn a_ring_that_is_taken_away_leaves_nothing_unwritten_and_nothing_written_twice() {
    let mut crowd = Crowd::new();
    let mut submit = Submit::probe();
    let (_, calls) = crowd.write(&mut submit, &[TEXT]);
    let has_ring = matches!(submit, Submit::Ring(_));
    assert_eq!(calls, if has_ring { 1 } else { WRITES_PER_BATCH });
    // The kernel takes submissions of the first thread only.
    let (written, _) = std::thread::scope(|scope| scope.spawn(|| crowd.write(&mut submit, &[TEXT])).join().unwrap());
    assert!(matches!(submit, Submit::Calls));
    assert!(written.iter().all(|done| done.sent.as_ref().is_ok_and(|n| *n == TEXT.len())));
    for at in 0..WRITES_PER_BATCH {
        assert_eq!(crowd.received(at), b"texttext");
    }
}
