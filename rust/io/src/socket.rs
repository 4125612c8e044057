//! A borrowed socket, or a pipe in the place of one, and the table of all of them.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use fanout_engine::shard::{Handle, Window};
use fanout_engine::wire::Wire;
use parking_lot::{Mutex, MutexGuard};

use crate::limits::CONNECTIONS_MAX;
use crate::pipe::Pipe;

/// Where a connection's bytes go. Lock order: while `open` is held, only a shard locks anything more, and that is the
/// `open` of another of its sockets.
#[derive(Debug)]
pub struct Socket {
    outlet: Outlet,
    /// When the peer was last heard, in ms of the monotonic clock.
    heard_ms: AtomicI64,
    /// Which shard writes it.
    pub shard: usize,
    /// What its peer speaks.
    pub wire: Wire,
    /// With MQTT, what its peer has not acknowledged.
    pub window: Option<Arc<Window>>,
}

#[derive(Debug)]
enum Outlet {
    /// A descriptor that belongs to somebody else, while `open`.
    Borrowed { fd: RawFd, open: Mutex<bool> },
    /// The loop writes.
    Taken(Box<Pipe>),
}

impl Socket {
    /// Holds on to the descriptor, unless there is none or the owner has taken it back. The owner waits meanwhile: let it
    /// go soon.
    pub fn hold(&self) -> Option<Held<'_>> {
        let Outlet::Borrowed { fd, open } = &self.outlet else { return None };
        let open = open.lock();
        open.then_some(Held { fd: *fd, _open: open })
    }

    /// The pipe, if it is one.
    pub fn pipe(&self) -> Option<&Pipe> {
        match &self.outlet {
            Outlet::Borrowed { .. } => None,
            Outlet::Taken(pipe) => Some(pipe),
        }
    }

    /// Runs `f` with the descriptor, unless the owner has taken it back. The owner waits meanwhile: `f` is short.
    pub fn with<T>(&self, f: impl FnOnce(RawFd) -> T) -> Option<T> {
        self.hold().map(|held| f(held.fd()))
    }

    /// The peer has sent something.
    pub fn heard(&self, now_ms: i64) {
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When it last did.
    pub fn heard_ms(&self) -> i64 {
        self.heard_ms.load(Ordering::Relaxed)
    }
}

/// A descriptor that cannot be closed while this lives.
#[derive(Debug)]
pub struct Held<'a> {
    fd: RawFd,
    _open: MutexGuard<'a, bool>,
}

impl Held<'_> {
    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd
    }
}

/// All sockets of a process, by handle. Belongs to the loop's thread; shards hold the sockets they write.
#[derive(Debug)]
pub struct Sockets {
    slots: Vec<Slot>,
    free: Vec<u32>,
    shards: usize,
    next_shard: usize,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    socket: Option<Arc<Socket>>,
}

impl Sockets {
    /// Connections are dealt to `shards` in turn.
    pub fn new(shards: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), shards, next_shard: 0 }
    }

    /// Borrows a descriptor until [`Self::unregister`]. None when there are too many.
    pub fn register(&mut self, fd: RawFd, wire: Wire, now_ms: i64) -> Option<(Handle, Arc<Socket>)> {
        self.add(Outlet::Borrowed { fd, open: Mutex::new(true) }, wire, now_ms)
    }

    /// Makes a pipe, to be taken from until [`Self::unregister`]. None when there are too many.
    pub fn register_pipe(&mut self, wire: Wire, now_ms: i64) -> Option<(Handle, Arc<Socket>)> {
        self.add(Outlet::Taken(Box::default()), wire, now_ms)
    }

    fn add(&mut self, outlet: Outlet, wire: Wire, now_ms: i64) -> Option<(Handle, Arc<Socket>)> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < CONNECTIONS_MAX => {
                // Generations begin at 1, so that no handle is 0.
                self.slots.push(Slot { generation: 1, socket: None });
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        let window = matches!(wire, Wire::Mqtt(_)).then(Arc::default);
        let (heard_ms, shard) = (AtomicI64::new(now_ms), self.next_shard);
        let socket = Arc::new(Socket { outlet, heard_ms, shard, wire, window });
        self.next_shard = (self.next_shard + 1) % self.shards;
        let place = &mut self.slots[slot as usize];
        place.socket = Some(Arc::clone(&socket));
        Some((u64::from(place.generation) << 32 | u64::from(slot), socket))
    }

    /// The socket of a handle.
    pub fn get(&self, handle: Handle) -> Option<&Arc<Socket>> {
        let slot = self.slots.get(fanout_engine::shard::slot(handle))?;
        slot.socket.as_ref().filter(|_| u64::from(slot.generation) == handle >> 32)
    }

    /// Gives the descriptor back: it is not touched again. The slot stays taken until [`Self::release`].
    pub fn unregister(&mut self, handle: Handle) -> Option<Arc<Socket>> {
        self.get(handle)?;
        let slot = &mut self.slots[fanout_engine::shard::slot(handle)];
        let socket = slot.socket.take()?;
        slot.generation = slot.generation.wrapping_add(1).max(1);
        match &socket.outlet {
            Outlet::Borrowed { open, .. } => *open.lock() = false,
            Outlet::Taken(pipe) => drop(pipe.end(true)),
        }
        Some(socket)
    }

    /// The shard has forgotten the connection: its slot may be given again.
    pub fn release(&mut self, handle: Handle) {
        self.free.push(fanout_engine::shard::slot(handle) as u32);
    }
}
