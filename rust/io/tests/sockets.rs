//! Shards over real sockets, written by system calls and through `io_uring` where the kernel has it: slow readers, resets,
//! and descriptors that are closed and used again under load.

mod support;

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use fanout_engine::shard::Handle;
use fanout_io::Submit;
use support::{Node, offsets};

fn read_until(stream: &mut UnixStream, last: i64) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mark = format!("\"id\":\"t:0:{last}\"");
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk).expect("messages keep coming");
        bytes.extend_from_slice(&chunk[..n]);
        let tail = bytes.len().saturating_sub(8192);
        if bytes[tail..].windows(mark.len()).any(|window| window == mark.as_bytes()) && bytes.ends_with(b"]}") {
            return bytes;
        }
    }
}

/// Both ways to write; the same one twice where the kernel has but one.
fn ways() -> [Submit; 2] {
    [Submit::Calls, Submit::probe()]
}

#[test]
fn slow_and_quick_readers_are_given_the_same_whole_frames() {
    ways().into_iter().for_each(slow_and_quick_readers);
}

fn slow_and_quick_readers(submit: Submit) {
    let mut node = Node::start(submit);
    let mut pairs: Vec<_> = (0..8).map(|_| UnixStream::pair().unwrap()).collect();
    for (server, _) in &pairs {
        node.connect(server);
    }
    for n in 0..2000 {
        node.publish(&vec![b'x'; 20 + n % 3000]);
        if n % 50 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for (_, client) in &mut pairs {
        let stream = read_until(client, 1999);
        assert_eq!(offsets(&stream), (0..2000).collect::<Vec<i64>>());
    }
    assert!(node.hub.stats.short_writes.get() > 0, "the test filled a socket");
}

#[test]
fn connections_that_are_reset_under_load_cost_the_others_nothing() {
    ways().into_iter().for_each(resets_among_others);
}

fn resets_among_others(submit: Submit) {
    let mut node = Node::start(submit);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut steady: Vec<_> = (0..16).map(|_| UnixStream::pair().unwrap()).collect();
    for (server, _) in &steady {
        node.connect(server);
    }
    for round in 0..100 {
        let clients: Vec<_> = (0..16).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
        let servers: Vec<_> = clients.iter().map(|_| listener.accept().unwrap().0).collect();
        let handles: Vec<_> = servers.iter().map(|server| node.connect(server)).collect();
        for _ in 0..10 {
            node.publish(b"payload that nobody will have read");
        }
        while node.hub.stats.writes.get() == 0 {
            std::thread::yield_now();
        }
        drop(clients); // bytes wait to be read, so the peer resets
        node.publish(b"payload");
        for handle in handles {
            node.disconnect(handle);
        }
        assert_eq!(node.next, (round + 1) * 11);
    }
    for (_, client) in &mut steady {
        assert_eq!(offsets(&read_until(client, 1099)), (0..1100).collect::<Vec<i64>>());
    }
}

#[test]
fn a_descriptor_that_was_given_back_is_never_written_again() {
    ways().into_iter().for_each(descriptors_used_again);
}

fn descriptors_used_again(submit: Submit) {
    let mut node = Node::start(submit);
    let stop = Instant::now() + Duration::from_secs(2);
    let mut live: Vec<(UnixStream, UnixStream, Handle)> = Vec::new();
    let mut reused = 0;
    let mut cycles = 0u32;
    while Instant::now() < stop {
        let (server, client) = UnixStream::pair().unwrap();
        let handle = node.connect(&server);
        live.push((server, client, handle));
        for _ in 0..4 {
            node.publish(b"payload of somebody else's connection");
        }
        if live.len() > 32 {
            let (server, _client, handle) = live.remove(cycles as usize % 32);
            let fd = server.as_raw_fd();
            node.disconnect(handle);
            drop(server);
            // The next descriptor is the one just closed; it belongs to a stranger now.
            let (mut stranger, other_end) = UnixStream::pair().unwrap();
            reused += u32::from(stranger.as_raw_fd() == fd || other_end.as_raw_fd() == fd);
            for _ in 0..4 {
                node.publish(b"payload");
            }
            for end in [&mut stranger, &mut { other_end }] {
                end.set_nonblocking(true).unwrap();
                let outcome = end.read(&mut [0; 16]);
                assert!(
                    outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
                    "a stranger's socket was written to: {outcome:?}"
                );
            }
            cycles += 1;
        }
    }
    assert!(cycles > 100 && reused > cycles / 2, "{cycles} cycles, {reused} descriptors used again");
}
