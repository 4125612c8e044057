//! Runs one shard: takes commands and news, writes what is ready, waits for sockets that are full.
//!
//! On a thread of its own it is [`Driver::run`]; on an event loop, [`Driver::turn_inline`] is called whenever
//! [`Driver::poll_fd`] is readable.

use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::sync::Arc;

use fanout_engine::hub::{Hub, Inbox};
use fanout_engine::limits::IOVECS_MAX;
use fanout_engine::shard::{Event, Handle, Next, Shard, slot};
use smallvec::SmallVec;

use crate::limits::{TICK_MS, WRITES_PER_BATCH};
use crate::port::{Command, Port};
use crate::sched;
use crate::socket::Socket;
use crate::submit::{Submit, Write, Written};
use crate::sys::{self, Epoll, Timer, monotonic_ms, wall_ms};

/// The token of the letter box; no handle has generation 0.
const WAKE: u64 = 0;
/// The token of the timer.
const TICK: u64 = 1;
/// The token of the timer of channels whose news are held.
const LINGER: u64 = 2;

/// What happened in a shard.
#[derive(Debug, Default)]
pub struct Happened {
    /// To connections.
    pub events: Vec<Event>,
    /// Pipes that have something to take, or have ended.
    pub filled: Vec<Handle>,
    /// Connections that it has forgotten.
    pub gone: Vec<Handle>,
}

/// Told what happened.
pub type Report = Box<dyn FnMut(Happened) + Send>;

/// A shard with its sockets.
pub struct Driver {
    shard: Shard,
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    port: Arc<Port>,
    epoll: Epoll,
    sockets: Vec<Option<(Handle, Arc<Socket>)>>,
    report: Report,
    happened: Happened,
    tokens: Vec<u64>,
    timer: Timer,
    linger: Timer,
    /// What `linger` is set to.
    linger_due: Option<i64>,
    submit: Submit,
    written: Vec<Written>,
    /// Whether this shard also sweeps the hub.
    sweeps: bool,
    /// The last sweep left something for the next.
    unswept: bool,
    stopping: bool,
}

impl Happened {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.filled.is_empty() && self.gone.is_empty()
    }
}

impl Driver {
    /// A shard over `hub` that listens to `port` and writes with `submit`. The first shard of a hub sweeps it.
    pub fn new(hub: Arc<Hub>, port: Arc<Port>, submit: Submit, max_idle_ms: i64, report: Report) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(port.event().raw(), libc::EPOLLIN, WAKE)?;
        let timer = Timer::every(TICK_MS)?;
        epoll.add(timer.raw(), libc::EPOLLIN, TICK)?;
        let linger = Timer::new()?;
        epoll.add(linger.raw(), libc::EPOLLIN, LINGER)?;
        let waker = Arc::clone(&port);
        let inbox = hub.connect(Box::new(move || waker.wake()));
        let sweeps = inbox.bit() == 1;
        let shard = Shard::new(Arc::clone(&hub), inbox.bit(), max_idle_ms);
        Ok(Self {
            shard,
            hub,
            inbox,
            port,
            epoll,
            sockets: Vec::new(),
            report,
            happened: Happened::default(),
            tokens: Vec::new(),
            timer,
            linger,
            linger_due: None,
            submit,
            written: Vec::new(),
            sweeps,
            unswept: false,
            stopping: false,
        })
    }

    /// Readable when there is work.
    pub fn poll_fd(&self) -> RawFd {
        self.epoll.raw()
    }

    /// Works until it is told to stop.
    pub fn run(mut self) {
        let mut more = false;
        while !self.stopping {
            more = self.turn(if more { 0 } else { -1 });
            if more {
                // Between two passes: the thread that this one keeps from the core may hold what others wait for.
                sched::give_way();
            }
        }
    }

    /// Does what there is to do, and sees to it that [`Self::poll_fd`] is readable if there is more.
    pub fn turn_inline(&mut self) {
        if self.turn(0) {
            self.port.wake();
        }
    }

    /// Does what there is to do, after waiting for it at most so long (-1: without end): one pass of writing at most.
    /// Whether there is more to write or to sweep; looking at commands comes first.
    fn turn(&mut self, timeout_ms: i32) -> bool {
        let mut tokens = std::mem::take(&mut self.tokens);
        self.epoll.wait(timeout_ms, &mut tokens);
        let mut due = false;
        for &token in &tokens {
            match token {
                WAKE => self.port.event().clear(),
                TICK => {
                    self.timer.clear();
                    due = true;
                }
                LINGER => {
                    self.linger.clear();
                    self.linger_due = None;
                }
                handle => self.shard.writable(handle),
            }
        }
        self.tokens = tokens;
        for command in self.port.take() {
            self.obey(command);
        }
        self.hear_news();
        self.write();
        if self.sweeps && (due || self.unswept) {
            self.unswept = self.hub.sweep(monotonic_ms());
        }
        if due {
            self.tick(monotonic_ms());
        }
        let events = self.shard.take_events();
        for event in &events {
            if let Event::Evicted(handle, _) = event {
                self.shut(*handle, libc::SHUT_RDWR);
            }
        }
        self.happened.events = events;
        if !self.happened.is_empty() {
            (self.report)(std::mem::take(&mut self.happened));
        }
        self.shard.has_more() || self.unswept
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Register(new, socket) => {
                let handle = new.handle;
                self.shard.register(new, monotonic_ms());
                if let Some(window) = &socket.window {
                    self.shard.set_window(handle, Arc::clone(window));
                }
                let watched = socket.with(|fd| self.epoll.add(fd, libc::EPOLLOUT | libc::EPOLLET, handle));
                let at = slot(handle);
                if self.sockets.len() <= at {
                    self.sockets.resize(at + 1, None);
                }
                self.sockets[at] = Some((handle, socket));
                if matches!(watched, Some(Err(_))) {
                    // Out of memory for watches: without one a full socket would never be noticed to have drained.
                    self.shut(handle, libc::SHUT_RDWR);
                    self.shard.broken(handle);
                }
            }
            Command::Unregister(handle) => {
                self.shard.unregister(handle);
                self.sockets[slot(handle)] = None;
                self.happened.gone.push(handle);
            }
            Command::Writable(handle) => self.shard.writable(handle),
            Command::Room(handle) => self.shard.has_room(handle),
            Command::PacketMax(handle, packet_max) => self.shard.limit_packets(handle, packet_max),
            Command::Send(handle, bytes) => self.shard.send(handle, bytes),
            Command::Finish(handle, code, reason) => {
                if self.shard.finish(handle, code, &reason, monotonic_ms()) == Next::ShutdownWrite {
                    self.shut(handle, libc::SHUT_WR);
                }
            }
            Command::Abort(handle) => {
                self.shard.broken(handle);
                self.shut(handle, libc::SHUT_RDWR);
            }
            Command::Attach(handle, new, reply) => self.shard.attach(handle, new, reply),
            Command::Regrant(handle, new) => self.shard.regrant(handle, new),
            Command::Hold(handle, number, place) => self.shard.hold(handle, number, place),
            Command::Sync(handle, number) => self.shard.sync(handle, number),
            Command::Detach(handle, number, reply) => self.shard.detach(handle, number, reply),
            Command::Stop => self.stopping = true,
        }
    }

    fn hear_news(&mut self) {
        let news = self.inbox.take();
        if news.is_empty() && self.shard.next_due().is_none() {
            return;
        }
        let now = monotonic_ms();
        for channel in news {
            self.shard.news(channel, now);
        }
        self.shard.flush_due(now);
        let due = self.shard.next_due();
        if let Some(at) = due.filter(|_| due != self.linger_due) {
            self.linger.set(at - now);
        }
        self.linger_due = due;
    }

    /// One pass, in batches.
    fn write(&mut self) {
        let now = monotonic_ms();
        self.hub.set_time(wall_ms());
        self.shard.begin_pass();
        loop {
            let batch: SmallVec<[Handle; WRITES_PER_BATCH]> =
                std::iter::from_fn(|| self.shard.next_ready()).take(WRITES_PER_BATCH).collect();
            if batch.is_empty() {
                return;
            }
            self.write_batch(&batch, now);
        }
    }

    fn write_batch(&mut self, batch: &[Handle], now: i64) {
        let Self { shard, sockets, submit, hub, happened, .. } = self;
        let write = |&handle: &Handle| {
            let (_, socket) = sockets[slot(handle)].as_ref()?;
            let slices = shard.outbox(handle)?.slices(IOVECS_MAX).map(IoSlice::new).collect();
            Some(Write { handle, socket, slices })
        };
        let mut writes: Vec<Write<'_>> =
            batch.iter().map(|handle| write(handle).expect("who is in the shard has a socket here")).collect();
        let mut written = std::mem::take(&mut self.written);
        writes.retain(|write| {
            let Some(pipe) = write.socket.pipe() else { return true };
            let (sent, tell) = pipe.write(&write.slices);
            written.push(write.came_to(sent));
            happened.filled.extend(tell.then_some(write.handle));
            false
        });
        hub.stats.write_calls.add(submit.write(&writes, &mut written) as u64);
        hub.stats.writes.add(writes.len() as u64);
        drop(writes); // they borrow what their outcome changes
        let mut bytes = 0;
        for Written { handle, offered, sent } in written.drain(..) {
            match sent {
                Ok(n) => {
                    bytes += n;
                    self.wrote(handle, n, offered, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wrote(handle, 0, offered, now),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.wrote(handle, 0, 0, now),
                // Reset by the peer, or taken back by the owner: the loop knows or will see it.
                Err(_) => self.shard.broken(handle),
            }
        }
        self.hub.stats.bytes_out.add(bytes as u64);
        self.written = written;
    }

    fn wrote(&mut self, handle: Handle, n: usize, offered: usize, now: i64) {
        match self.shard.wrote(handle, n, offered, now) {
            Next::Rest => {}
            Next::Wait => self.hub.stats.short_writes.add(1),
            Next::ShutdownWrite => self.shut(handle, libc::SHUT_WR),
        }
    }

    fn tick(&mut self, now: i64) {
        let Self { shard, sockets, .. } = self;
        let overdue = shard.tick(now, |handle| {
            let (owner, socket) = sockets.get(slot(handle))?.as_ref()?;
            (*owner == handle).then(|| socket.heard_ms())
        });
        for handle in overdue.shutdown {
            self.shut(handle, libc::SHUT_RDWR);
        }
    }

    fn shut(&mut self, handle: Handle, how: i32) {
        let Some(Some((owner, socket))) = self.sockets.get(slot(handle)) else { return };
        if *owner != handle {
            return;
        }
        if let Some(pipe) = socket.pipe() {
            let tell = pipe.end(how == libc::SHUT_RDWR);
            self.happened.filled.extend(tell.then_some(handle));
        } else {
            // SAFETY: the socket is open and its owner cannot close it while its lock is held.
            socket.with(|fd| unsafe { sys::shutdown(fd, how) });
        }
    }
}
