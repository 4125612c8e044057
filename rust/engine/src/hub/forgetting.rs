//! What leaves memory: batches that are too old or too much, and channels that nobody uses.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::directory::OWN_REFERENCES;
use super::{Batch, Hub, Work};
use crate::channel::Channel;
use crate::limits::{BATCH_OVERHEAD, CHANNEL_IDLE_MS, CHANNEL_OVERHEAD, CHANNELS_REVIEWED, MESSAGES_SWEPT};

impl Hub {
    /// Forgets what is too old or too much, as much of it as one call may take. To be called about twice a second, and
    /// again soon if it says that more is due.
    pub fn sweep(&self, now_ms: i64) -> bool {
        self.dedup.lock().sweep(now_ms);
        let more = self.expire(&mut self.intake.lock().work, now_ms, MESSAGES_SWEPT);
        self.review(CHANNELS_REVIEWED, now_ms - CHANNEL_IDLE_MS.max(self.settings.history_ms));
        more
    }

    /// Looks at the next `count` channels and forgets those that nobody holds, that hold nothing, and that were last
    /// used before `horizon_ms`.
    pub(super) fn review(&self, count: usize, horizon_ms: i64) {
        let hand = self.hand.fetch_add(count, Ordering::Relaxed);
        let unused: Vec<_> = {
            let channels = self.channels.read();
            let is_unused = |channel: &&Arc<Channel>| {
                channel.attachments() == 0
                    && channel.touched() < horizon_ms
                    && Arc::strong_count(channel) == OWN_REFERENCES
            };
            channels.next(hand, count).filter(is_unused).map(|channel| Arc::clone(&channel.name)).collect()
        };
        for name in &unused {
            self.forget(name);
        }
    }

    /// Drops the batches that are too old, at most so many messages, and those that are too much. Whether more are too
    /// old.
    pub(super) fn expire(&self, work: &mut Work, now_ms: i64, mut most: usize) -> bool {
        while let Some(batch) = work.age.front() {
            let squeezed = self.memory.load(Ordering::Relaxed) > self.settings.history_bytes;
            let is_old = batch.arrived_ms + self.settings.history_ms < now_ms;
            let (counter, limit) = match (is_old, squeezed) {
                (true, false) if most == 0 => return true,
                (true, false) => (&self.stats.messages_expired, most),
                (true, true) => (&self.stats.messages_expired, usize::MAX),
                (false, true) => (&self.stats.messages_squeezed, usize::MAX),
                (false, false) => return false,
            };
            let dropped = batch.channel.drop_below(batch.to, limit);
            self.memory.fetch_sub(dropped.bytes, Ordering::Relaxed);
            self.snapshot_bytes.fetch_sub(dropped.newest, Ordering::Relaxed);
            counter.add(dropped.messages as u64);
            most = most.saturating_sub(dropped.messages.max(1));
            if dropped.more {
                continue;
            }
            self.memory.fetch_sub(BATCH_OVERHEAD, Ordering::Relaxed);
            let squeezed = self.memory.load(Ordering::Relaxed) > self.settings.history_bytes;
            let Some(Batch { channel, .. }) = work.age.pop_front() else { return false };
            if squeezed && channel.is_empty() && channel.attachments() == 0 {
                let name = Arc::clone(&channel.name);
                drop(channel);
                self.forget(&name);
            }
        }
        false
    }

    /// Forgets a channel that nobody holds and that holds nothing. What it dropped is remembered for all together.
    fn forget(&self, name: &str) {
        let mut channels = self.channels.write();
        // Under this lock nobody can come by another reference.
        let Some(channel) = channels.get(name) else { return };
        if Arc::strong_count(channel) > OWN_REFERENCES || !channel.is_empty() || channel.attachments() > 0 {
            return;
        }
        let partitions = self.partitions.list();
        for (index, dropped) in channel.dropped() {
            partitions[usize::from(index)].forget(dropped);
        }
        channels.remove(name);
        self.memory.fetch_sub(CHANNEL_OVERHEAD + name.len(), Ordering::Relaxed);
    }
}
