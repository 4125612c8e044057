//! What the shards tell the loop: a list, and a descriptor that is readable when it is not empty.
//!
//! Bounded by what it tells of: an attachment is lost once until it is attached again, a connection is evicted once
//! and gone once, and a pipe is named once until it was found empty.

use std::io;

use fanout_engine::shard::{Event, Handle};
use fanout_io::Happened;
use fanout_io::sys::EventFd;
use parking_lot::Mutex;

/// See the module's text.
pub struct Events {
    happened: Mutex<Vec<Event>>,
    filled: Mutex<Vec<Handle>>,
    gone: Mutex<Vec<Handle>>,
    fd: EventFd,
}

impl Events {
    pub fn new() -> io::Result<Self> {
        let fd = EventFd::new()?;
        Ok(Self { happened: Mutex::default(), filled: Mutex::default(), gone: Mutex::default(), fd })
    }

    /// From a shard's thread.
    pub fn report(&self, happened: Happened) {
        self.gone.lock().extend(happened.gone);
        if !happened.events.is_empty() || !happened.filled.is_empty() {
            self.happened.lock().extend(happened.events);
            self.filled.lock().extend(happened.filled);
            self.fd.signal();
        }
    }

    /// Has the loop look.
    pub fn wake(&self) {
        self.fd.signal();
    }

    /// Everything since the last time.
    pub fn take(&self) -> Vec<Event> {
        self.fd.clear();
        std::mem::take(&mut *self.happened.lock())
    }

    /// Pipes that have something to take, or have ended, since the last time. To be asked after [`Self::take`].
    pub fn take_filled(&self) -> Vec<Handle> {
        std::mem::take(&mut *self.filled.lock())
    }

    /// Connections that their shards have forgotten.
    pub fn take_gone(&self) -> Vec<Handle> {
        std::mem::take(&mut *self.gone.lock())
    }

    /// Readable when there is something to take.
    pub fn raw_fd(&self) -> i32 {
        self.fd.raw()
    }
}
