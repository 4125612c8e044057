//! The channels of a node by name, and which of them nobody uses.
//!
//! Looking for those goes round in steps of a bounded number of channels, so that no call takes longer the more there
//! are.

use std::collections::HashMap;
use std::sync::Arc;

use crate::channel::Channel;

/// References that the directory itself holds to a channel: who finds no more than these has it alone.
pub(super) const OWN_REFERENCES: usize = 2;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Directory {
    by_name: HashMap<Arc<str>, Entry>,
    round: Vec<Arc<Channel>>,
}

#[derive(Debug)]
struct Entry {
    channel: Arc<Channel>,
    /// Its place in the round.
    at: usize,
}

impl Directory {
    pub(super) fn len(&self) -> usize {
        self.round.len()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Channel>> {
        self.by_name.get(name).map(|entry| &entry.channel)
    }

    pub(super) fn insert(&mut self, channel: Arc<Channel>) {
        let entry = Entry { channel: Arc::clone(&channel), at: self.round.len() };
        self.by_name.insert(Arc::clone(&channel.name), entry);
        self.round.push(channel);
    }

    pub(super) fn remove(&mut self, name: &str) {
        let Some(Entry { at, .. }) = self.by_name.remove(name) else { return };
        self.round.swap_remove(at);
        if let Some(moved) = self.round.get(at) {
            self.by_name.get_mut(&*moved.name).expect("what is in the round has its entry").at = at;
        }
    }

    /// The next `count` channels of the round from `hand` on; none twice in one call.
    pub(super) fn next(&self, hand: usize, count: usize) -> impl Iterator<Item = &Arc<Channel>> {
        let start = hand.checked_rem(self.round.len()).unwrap_or(0);
        let (before, from) = self.round.split_at(start);
        from.iter().chain(before).take(count)
    }
}
