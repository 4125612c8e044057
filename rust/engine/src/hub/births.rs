//! Channels that begin, for those who follow every channel of some names.
//!
//! One begins when it holds something and held nothing before: so whoever has asked first which channels are in use, and
//! then which have begun, knows all that were ever given anything. Nothing is noted while nobody watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::{Hub, LOCAL_BIT};
use crate::channel::Channel;
use crate::limits::BIRTHS_MAX;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Births {
    watched: AtomicBool,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    names: Vec<Arc<str>>,
    /// There were too many.
    is_cut: bool,
    /// The loop has yet to be told.
    is_news: bool,
}

impl Hub {
    /// Whether channels that begin are to be noted.
    pub fn watch_births(&self, watched: bool) {
        self.births.watched.store(watched, Ordering::SeqCst);
        *self.births.noted.lock() = Noted::default();
    }

    /// The names of channels that have begun since the last time; None if there were too many to note.
    pub fn born(&self) -> Option<Vec<Arc<str>>> {
        let Noted { names, is_cut, .. } = std::mem::take(&mut *self.births.noted.lock());
        (!is_cut).then_some(names)
    }

    /// Whether some have begun since this was asked last.
    pub fn has_births(&self) -> bool {
        self.births.watched.load(Ordering::Relaxed) && std::mem::take(&mut self.births.noted.lock().is_news)
    }

    /// A channel was given messages from this number on.
    pub(super) fn note_birth(&self, channel: &Channel, number: u64) {
        if !self.births.watched.load(Ordering::Relaxed) || number > channel.base() {
            return;
        }
        let noted = &mut *self.births.noted.lock();
        if noted.names.len() < BIRTHS_MAX {
            noted.names.push(Arc::clone(&channel.name));
        } else {
            noted.is_cut = true;
        }
        if !std::mem::replace(&mut noted.is_news, true)
            && let Some(local) = self.inboxes.read().iter().find(|inbox| inbox.bit() == LOCAL_BIT)
        {
            local.wake();
        }
    }
}
