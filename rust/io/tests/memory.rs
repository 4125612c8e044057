//! What a connection with one attachment holds in memory, counted at the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fanout_engine::channel::Start;
use fanout_engine::hub::{Hub, Settings};
use fanout_engine::shard::{NewAttachment, NewConnection, Shard};
use fanout_engine::wire::Wire;
use fanout_io::Sockets;

/// Bytes asked for and not given back.
static HELD: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: hands everything to the system's allocator as it came, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: likewise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A power of two, at which tables that double have no room to spare.
const CONNECTIONS: u64 = 1 << 14;
/// Of the engine's and the sockets' tables together; what grows by doubling may hold as much again in between.
const BYTES_MAX: usize = 300;

#[test]
fn an_idle_connection_holds_little_and_no_outbox() {
    let hub = Arc::new(Hub::new(Settings { key: [1; 16], history_ms: 60_000, history_bytes: 1 << 20 }));
    let inbox = hub.connect(Box::new(|| ()));
    let mut shard = Shard::new(Arc::clone(&hub), inbox.bit(), 15_000);
    let mut sockets = Sockets::new(1);
    let (socket, _other) = UnixStream::pair().unwrap();
    let mut driver = Vec::new(); // as a driver keeps them
    let before = HELD.load(Ordering::Relaxed);
    for number in 0..CONNECTIONS {
        let (handle, socket) = sockets.register(socket.as_raw_fd(), Wire::Json, 0).unwrap();
        driver.push(Some((handle, socket)));
        let connection_id = format!("{number:010}").into();
        shard.register(NewConnection { handle, wire: Wire::Json, connection_id, heartbeat_frames: false }, 0);
        let plan = hub.locate("c", None, Start::Live, 0);
        let new = NewAttachment::plain(1, plan);
        shard.attach(handle, new, b"a reply that two may not share"[..].into());
        // Written at once and all of it, with a second reply behind the first.
        shard.send(handle, b"another"[..].into());
        shard.begin_pass();
        while let Some(handle) = shard.next_ready() {
            let offered = shard.outbox(handle).unwrap().len();
            shard.wrote(handle, offered, offered, 0);
        }
        assert!(!shard.has_more());
    }
    let each = (HELD.load(Ordering::Relaxed) - before) / CONNECTIONS as usize;
    println!("{each} bytes");
    assert!(each <= BYTES_MAX, "{each} bytes a connection");
}
