//! One engine of a process: the hub, its shards and their threads, the sockets, and what the loop is to hear.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use fanout_engine::hub::{Hub, Inbox, Settings};
use fanout_engine::shard::{Acknowledged, Handle, NewConnection, Window};
use fanout_engine::wire::{Wire, websocket};
use fanout_io::port::{Command, Port};
use fanout_io::sys::monotonic_ms;
use fanout_io::{Driver, Sockets, Submit};
use parking_lot::Mutex;

use crate::events::Events;

/// See the module's text.
pub struct Core {
    pub hub: Arc<Hub>,
    pub events: Arc<Events>,
    ports: Vec<Arc<Port>>,
    sockets: Mutex<Sockets>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The one shard of an engine without threads.
    inline: Option<Mutex<Driver>>,
    local: Arc<Inbox>,
    /// Subscribers inside this process, by channel.
    cursors: Mutex<HashMap<u64, Vec<u32>>>,
}

impl Core {
    /// Starts the threads.
    pub fn start(settings: Settings, io_threads: usize, max_idle_ms: i64) -> io::Result<Self> {
        let hub = Arc::new(Hub::new(settings));
        let events = Arc::new(Events::new()?);
        let waker = Arc::clone(&events);
        let local = hub.connect_local(Box::new(move || waker.wake()));
        let mut core = Self {
            hub: Arc::clone(&hub),
            events: Arc::clone(&events),
            ports: Vec::new(),
            sockets: Mutex::new(Sockets::new(io_threads.max(1))),
            threads: Mutex::default(),
            inline: None,
            local,
            cursors: Mutex::default(),
        };
        for number in 0..io_threads.max(1) {
            let port = Arc::new(Port::new(io_threads > 0)?);
            core.ports.push(Arc::clone(&port));
            let reporter = Arc::clone(&events);
            let report = Box::new(move |happened| reporter.report(happened));
            let driver = Driver::new(Arc::clone(&hub), port, Submit::probe(), max_idle_ms, report)?;
            if io_threads == 0 {
                core.inline = Some(Mutex::new(driver));
            } else {
                let thread = std::thread::Builder::new().name(format!("fanout-io-{number}"));
                core.threads.lock().push(thread.spawn(move || guarded(|| driver.run()))?);
            }
        }
        Ok(core)
    }

    /// Ends the threads and waits for them.
    pub fn stop(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        if !threads.is_empty() {
            self.ports.iter().for_each(|port| port.push(Command::Stop));
        }
        for thread in threads {
            thread.join().expect("a shard's panic has ended the process already");
        }
    }

    /// Readable when [`Self::run_shards`] has work; -1 with threads.
    pub fn shard_fd(&self) -> i32 {
        self.inline.as_ref().map_or(-1, |driver| driver.lock().poll_fd())
    }

    /// One turn of the shard that has no thread.
    pub fn run_shards(&self) {
        if let Some(driver) = &self.inline {
            driver.lock().turn_inline();
        }
    }

    /// Takes over the outgoing side of a socket, or makes a pipe if there is none (`fd` -1). 0 when there are too many.
    pub fn register(&self, fd: i32, wire: Wire, connection_id: &str, heartbeat_frames: bool) -> Handle {
        let mut sockets = self.sockets.lock();
        self.events.take_gone().into_iter().for_each(|handle| sockets.release(handle));
        let now = monotonic_ms();
        let registered = if fd < 0 { sockets.register_pipe(wire, now) } else { sockets.register(fd, wire, now) };
        let Some((handle, socket)) = registered else { return 0 };
        let port = &self.ports[socket.shard];
        let new = NewConnection { handle, wire, connection_id: connection_id.into(), heartbeat_frames };
        port.push(Command::Register(new, socket));
        handle
    }

    /// Gives the socket back; it is not touched after this returns.
    pub fn unregister(&self, handle: Handle) {
        let socket = self.sockets.lock().unregister(handle);
        if let Some(socket) = socket {
            self.ports[socket.shard].push(Command::Unregister(handle));
        }
    }

    /// What a pipe has for the loop, at most `limit` bytes; none if it has ended, or is none.
    pub fn take(&self, handle: Handle, limit: usize) -> Option<Vec<u8>> {
        let socket = self.sockets.lock().get(handle).cloned()?;
        let taken = socket.pipe()?.take(limit);
        if taken.has_room {
            self.ports[socket.shard].push(Command::Writable(handle));
        }
        taken.bytes
    }

    /// The peer has sent something.
    pub fn heard(&self, handle: Handle) {
        if let Some(socket) = self.sockets.lock().get(handle) {
            socket.heard(monotonic_ms());
        }
    }

    /// What an MQTT connection has not acknowledged.
    pub fn window(&self, handle: Handle) -> Option<Arc<Window>> {
        self.sockets.lock().get(handle)?.window.clone()
    }

    /// Its client has acknowledged a message.
    pub fn acknowledged(&self, handle: Handle, packet_id: u16) {
        match self.window(handle).map(|window| window.acknowledged(packet_id)) {
            Some(Acknowledged::Awaited) => self.command(handle, Command::Room(handle)),
            Some(Acknowledged::Unknown) => self.hub.stats.acknowledgements_unknown.add(1),
            Some(Acknowledged::Taken) | None => {}
        }
    }

    /// Hands a command to the connection's shard, if it is still there.
    pub fn command(&self, handle: Handle, command: Command) {
        let socket = self.sockets.lock().get(handle).cloned();
        if let Some(socket) = socket {
            self.ports[socket.shard].push(command);
        }
    }

    /// A payload as a message of the connection's wire; nothing is no message.
    pub fn framed(&self, handle: Handle, payload: &[u8]) -> Arc<[u8]> {
        if payload.is_empty() {
            return Arc::default();
        }
        self.sockets.lock().get(handle).map_or(Wire::Json, |socket| socket.wire).framed(payload)
    }

    /// A subscriber inside this process wants to be woken for a channel.
    pub fn watch(&self, channel: &fanout_engine::channel::Channel, cursor: u32) {
        self.cursors.lock().entry(channel.id).or_default().push(cursor);
        channel.watch(self.local.bit());
    }

    /// No longer.
    pub fn unwatch(&self, channel: &fanout_engine::channel::Channel, cursor: u32) {
        let mut cursors = self.cursors.lock();
        let Some(list) = cursors.get_mut(&channel.id) else { return };
        list.retain(|other| *other != cursor);
        if list.is_empty() {
            cursors.remove(&channel.id);
            channel.unwatch(self.local.bit());
        }
    }

    /// Subscribers inside this process that have messages waiting.
    pub fn woken(&self) -> Vec<u32> {
        let cursors = self.cursors.lock();
        let told = self.local.take();
        for channel in &told {
            channel.noticed(self.local.bit());
        }
        told.iter().filter_map(|channel| cursors.get(&channel.id)).flatten().copied().collect()
    }
}

/// A payload in a WebSocket frame.
pub fn framed(opcode: u8, payload: &[u8]) -> Arc<[u8]> {
    let mut out = Vec::with_capacity(payload.len() + websocket::HEADER_MAX);
    websocket::append(&mut out, opcode, payload);
    out.into()
}

/// A panic in the engine is a bug after which nothing it says can be trusted: the process ends, loudly, instead of
/// unwinding into C or going on without one of its shards.
pub fn guarded<T>(f: impl FnOnce() -> T) -> T {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("fanout: the engine failed and cannot go on; see the panic above");
                std::process::abort();
            }
        }
    }
    let bomb = Bomb;
    let result = f();
    std::mem::forget(bomb);
    result
}
