//! How the loop speaks to a shard: a queue of commands and something to wake it with.

use std::sync::Arc;

use fanout_engine::shard::{Handle, NewAttachment, NewConnection};
use parking_lot::{Condvar, Mutex};

use crate::limits::COMMANDS_MAX;
use crate::socket::Socket;
use crate::sys::EventFd;

/// What the loop asks of a shard, carried out in order.
#[derive(Debug)]
pub enum Command {
    /// A new connection over this socket.
    Register(NewConnection, Arc<Socket>),
    /// Its owner has taken the socket back.
    Unregister(Handle),
    /// Its pipe has room again.
    Writable(Handle),
    /// Its client takes more messages.
    Room(Handle),
    /// Its client takes no packets that are larger.
    PacketMax(Handle, u32),
    /// Bytes to send.
    Send(Handle, Arc<[u8]>),
    /// CLOSE, code and reason, then no more.
    Finish(Handle, u16, String),
    /// Cut it off.
    Abort(Handle),
    /// Reply, then give messages.
    Attach(Handle, NewAttachment, Arc<[u8]>),
    /// Give other kinds of entries from the same place on.
    Regrant(Handle, NewAttachment),
    /// Where an attachment of a stream stands that is yet to begin.
    Hold(Handle, u32, Arc<str>),
    /// Give the presence set once more.
    Sync(Handle, u32),
    /// Stop, then reply.
    Detach(Handle, u32, Option<Arc<[u8]>>),
    /// End the shard.
    Stop,
}

/// A shard's letter box.
#[derive(Debug)]
pub struct Port {
    commands: Mutex<Vec<Command>>,
    taken: Condvar,
    wake: EventFd,
    /// Whether a thread of its own empties it; else the sender does, later, and must not wait for itself.
    threaded: bool,
}

impl Port {
    /// An empty one.
    pub fn new(threaded: bool) -> std::io::Result<Self> {
        Ok(Self { commands: Mutex::default(), taken: Condvar::new(), wake: EventFd::new()?, threaded })
    }

    /// Hands a command over; waits while too many are before it.
    pub fn push(&self, command: Command) {
        let mut commands = self.commands.lock();
        while self.threaded && commands.len() >= COMMANDS_MAX {
            self.wake.signal();
            self.taken.wait(&mut commands);
        }
        commands.push(command);
        let first = commands.len() == 1;
        drop(commands);
        if first {
            self.wake.signal();
        }
    }

    /// Everything handed over since the last time.
    pub fn take(&self) -> Vec<Command> {
        let commands = std::mem::take(&mut *self.commands.lock());
        self.taken.notify_all();
        commands
    }

    /// Has the shard look.
    pub fn wake(&self) {
        self.wake.signal();
    }

    pub(crate) fn event(&self) -> &EventFd {
        &self.wake
    }
}
