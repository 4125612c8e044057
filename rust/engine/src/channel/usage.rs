//! How many use a channel on this node, and what for.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::kind::Kinds;

/// Counts of attachments.
#[derive(Debug, Default)]
pub(super) struct Usage {
    attachments: AtomicUsize,
    /// Those that are given a kind, or may do what stands beside the kinds, by its bit.
    by_bit: [AtomicU32; Kinds::BITS],
}

/// Attachments of one channel on this node, by what they may do, and what the channel holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// All of them.
    pub connections: usize,
    /// They may publish.
    pub publishers: usize,
    /// They are given messages.
    pub subscribers: usize,
    /// They may enter.
    pub presence_connections: usize,
    /// They are given presence.
    pub presence_subscribers: usize,
    /// They are given the node's own word.
    pub watchers: usize,
    /// Who is present, on whatever node.
    pub presence_members: usize,
    /// Messages held.
    pub messages: usize,
}

impl Usage {
    pub(super) fn attachments(&self) -> usize {
        self.attachments.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, kinds: Kinds, up: bool) {
        self.attachments.fetch_add(if up { 1 } else { usize::MAX }, Ordering::Relaxed);
        for (bit, counter) in self.by_bit.iter().enumerate().filter(|&(bit, _)| kinds.has_bit(bit)) {
            debug_assert!(up || counter.load(Ordering::Relaxed) > 0, "bit {bit} was counted before");
            counter.fetch_add(if up { 1 } else { u32::MAX }, Ordering::Relaxed);
        }
    }

    pub(super) fn occupancy(&self, presence_members: usize, messages: usize) -> Occupancy {
        let of = |kinds: Kinds| self.by_bit[kinds.first_bit()].load(Ordering::Relaxed) as usize;
        Occupancy {
            connections: self.attachments(),
            publishers: of(Kinds::PUBLISH),
            subscribers: of(Kinds::MESSAGES),
            presence_connections: of(Kinds::OWN_PRESENCE),
            presence_subscribers: of(Kinds::PRESENCE),
            watchers: of(Kinds::META),
            presence_members,
            messages,
        }
    }
}
