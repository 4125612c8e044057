//! The border to the kernel: writes go out one system call each, or a batch in one call through `io_uring`.
//!
//! Whichever it is:
//!
//! - A socket's lock is held from before the kernel is given its descriptor until it has said what became of the write.
//!   So whoever takes a descriptor back waits for one batch at most, and none is written after that.
//! - No write waits for its socket (`MSG_DONTWAIT`): a full one answers at once, like a broken one.
//! - When [`Submit::write`] returns, the kernel holds nothing of the batch any more, neither bytes nor descriptors.

mod ring;

use std::io::{self, IoSlice};

use fanout_engine::shard::Handle;
use smallvec::SmallVec;

use crate::limits::{RING_WRITES_MIN, WRITES_PER_BATCH};
use crate::socket::Socket;
use crate::sys;
use ring::Ring;

/// What one connection is to be written.
pub struct Write<'a> {
    /// The connection.
    pub handle: Handle,
    /// Its socket.
    pub socket: &'a Socket,
    /// The bytes, in pieces; at least one.
    pub slices: SmallVec<[IoSlice<'a>; 2]>,
}

/// What became of a write.
#[derive(Debug)]
pub struct Written {
    /// The connection.
    pub handle: Handle,
    /// How many bytes there were to write.
    pub offered: usize,
    /// How many of them the socket took, or why it took none. [`io::ErrorKind::NotConnected`] if its owner has it back.
    pub sent: io::Result<usize>,
}

/// How a shard writes.
pub enum Submit {
    /// `send` or `sendmsg` for each socket.
    Calls,
    /// A batch at a time through `io_uring`.
    Ring(Box<Ring>),
}

impl Submit {
    /// `io_uring` where the kernel lets this process have it, system calls elsewhere. What it was given it may take away,
    /// as a filter of system calls does: then the writes go on by calls.
    pub fn probe() -> Self {
        Ring::new().map_or(Self::Calls, |ring| Self::Ring(Box::new(ring)))
    }

    /// Writes a batch: at most [`crate::limits::WRITES_PER_BATCH`], each of another socket. What became of them is added
    /// to `written`, in any order. Returns how many system calls it took.
    ///
    /// A ring belongs to the thread that calls this first; on another one writes go on by calls.
    pub fn write(&mut self, writes: &[Write<'_>], written: &mut Vec<Written>) -> usize {
        let mut calls = 0;
        if let Self::Ring(ring) = self
            && writes.len() >= RING_WRITES_MIN
        {
            if ring.write(writes, written, &mut calls).is_ok() {
                return calls;
            }
            *self = Self::Calls;
        }
        let done: SmallVec<[Handle; WRITES_PER_BATCH]> = written.iter().map(|done| done.handle).collect();
        for write in writes.iter().filter(|write| !done.contains(&write.handle)) {
            // SAFETY: the socket is open and its owner cannot close it while its lock is held.
            let sent = write.socket.with(|fd| unsafe { sys::send(fd, &write.slices) });
            written.push(write.came_to(sent.unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))));
            calls += 1;
        }
        calls
    }
}

impl Write<'_> {
    /// Its outcome.
    pub(crate) fn came_to(&self, sent: io::Result<usize>) -> Written {
        Written { handle: self.handle, offered: self.slices.iter().map(|slice| slice.len()).sum(), sent }
    }
}
