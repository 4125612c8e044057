//! The channels of a node by name, and which of them nobody uses.
//!
//! Looking for those goes round in steps of a bounded number of channels, so that no call takes longer the more there
//! are.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use crate::channel::Channel;
use crate::route::REALM_END;

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

    /// See [`super::Hub::names`]. Looks at all channels.
    pub(super) fn names(&self, realm: &str, prefix: &str, after: &str, limit: usize, known: bool) -> Vec<Arc<str>> {
        let mut first = BinaryHeap::new();
        for channel in &self.round {
            let name = &channel.name;
            let Some(bare) = name.strip_prefix(realm) else { continue };
            let fits = first.len() < limit || first.peek().is_some_and(|last| name < last);
            let is_meant = bare > after && bare.starts_with(prefix) && !bare.contains(REALM_END);
            if fits && is_meant && (known || channel.is_used()) {
                first.push(Arc::clone(name));
                if first.len() > limit {
                    first.pop();
                }
            }
        }
        first.into_sorted_vec()
    }

    /// The next `count` channels of the round from `hand` on; none twice in one call.
    pub(super) fn next(&self, hand: usize, count: usize) -> impl Iterator<Item = &Arc<Channel>> {
        let start = hand.checked_rem(self.round.len()).unwrap_or(0);
        let (before, from) = self.round.split_at(start);
        from.iter().chain(before).take(count)
    }
}
