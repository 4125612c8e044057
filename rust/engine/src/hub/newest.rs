//! Records of topics with snapshots: what the newest messages of their keys may take of memory.
//!
//! Such a topic is read from its beginning, however far memory reaches back otherwise. What is older than that, and comes
//! to a channel that nobody follows, is not kept in the ring at all: a large topic would push out, at every start, what
//! the others' channels have.

use std::sync::atomic::Ordering;

use super::Hub;
use crate::channel::Channel;
use crate::limits::SNAPSHOT_SHARE;
use crate::message::Message;
use crate::record::Record;

impl Hub {
    /// Appends the newest message of its record's key; what it costs, and its number.
    pub(super) fn append_newest(
        &self,
        channel: &Channel,
        record: &Record<'_>,
        message: Message,
        now_ms: i64,
    ) -> (isize, u64) {
        let held = self.snapshot_bytes.load(Ordering::Relaxed);
        let room = (self.settings.history_bytes / SNAPSHOT_SHARE).saturating_sub(held);
        let (key, is_end) = (record.key.unwrap_or_default(), record.value.is_none());
        let (cost, number, grown) = channel.append_newest(message, key, is_end, room);
        self.snapshot_bytes.fetch_add(grown as usize, Ordering::Relaxed); // wraps around where it has shrunk
        let is_old = record.timestamp < now_ms - self.settings.history_ms;
        if !is_old || channel.attachments() > 0 || channel.held().0 > 1 {
            return (cost, number);
        }
        let dropped = channel.drop_below(number + 1, 1);
        self.snapshot_bytes.fetch_sub(dropped.newest, Ordering::Relaxed);
        self.stats.messages_expired.add(dropped.messages as u64);
        (cost - dropped.bytes as isize, number)
    }
}
