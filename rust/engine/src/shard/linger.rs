//! Channels whose news are held for a while, so that more gather.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::channel::Channel;

/// Held channels, those first that are due first. Each is here once: `Channel::hold` sees to that.
#[derive(Debug, Default)]
pub(super) struct Lingering(BTreeMap<(i64, u64), Arc<Channel>>);

impl Lingering {
    /// Holds a channel until `due_ms`.
    pub(super) fn hold(&mut self, channel: Arc<Channel>, due_ms: i64) {
        self.0.insert((due_ms, channel.id), channel);
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<i64> {
        self.0.first_key_value().map(|(&(due_ms, _), _)| due_ms)
    }

    /// Lets one go that is due.
    pub(super) fn pop(&mut self, now_ms: i64) -> Option<Arc<Channel>> {
        let first = self.0.first_entry().filter(|entry| entry.key().0 <= now_ms)?;
        Some(first.remove())
    }
}
