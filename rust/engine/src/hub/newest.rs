//! Records of topics with snapshots: what the newest messages of their keys may take of memory.

use std::sync::atomic::Ordering;

use super::Hub;
use crate::channel::Channel;
use crate::limits::SNAPSHOT_SHARE;
use crate::message::Message;
use crate::record::Record;

impl Hub {
    /// Appends the newest message of its record's key; what it costs, and its number.
    pub(super) fn append_newest(&self, channel: &Channel, record: &Record<'_>, message: Message) -> (isize, u64) {
        let held = self.snapshot_bytes.load(Ordering::Relaxed);
        let room = (self.settings.history_bytes / SNAPSHOT_SHARE).saturating_sub(held);
        let (key, is_end) = (record.key.unwrap_or_default(), record.value.is_none());
        let (cost, number, grown) = channel.append_newest(message, key, is_end, room);
        self.snapshot_bytes.fetch_add(grown as usize, Ordering::Relaxed); // wraps around where it has shrunk
        (cost, number)
    }
}
