//! A partition whose reading goes on elsewhere: its topic was made anew, its log was cut, or the log no longer had what
//! came next. What was lost nobody knows, nor whose it was; so all are told who may have missed something: those on
//! channels that the topic's rule may make.
//!
//! The channels' rings are emptied, and whoever stands in one is lost, as if the ring had passed it. What the log still has
//! is found there by who comes back with a position.
//!
//! One that was let go and is read again concerns nobody: what is attached needs it, and so keeps it. All that memory has of
//! it goes first, for reading begins elsewhere, and perhaps with what was read before.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Hub;
use crate::channel::{Channel, Dropped};
use crate::partition::{Partition, TooManyPartitions};
use crate::route::Shape;

impl Hub {
    /// The log of a partition was cut at this offset: reading goes on there.
    pub(super) fn cut(
        &self,
        partition: &Partition,
        offset: i64,
        shape: Option<&Shape>,
    ) -> Result<Arc<Partition>, TooManyPartitions> {
        let partition = self.partitions.cut(partition, offset)?;
        self.interrupt(&partition, shape);
        Ok(partition)
    }

    /// Reading goes on in this entry of a partition, and not where it was. Channels of another shape are not concerned.
    /// Takes 0.1 µs for each channel.
    pub(super) fn interrupt(&self, partition: &Partition, shape: Option<&Shape>) {
        if !partition.has_position {
            return;
        }
        let may_be = |channel: &&Arc<Channel>| shape.is_none_or(|shape| shape.may_be(&channel.name));
        let dropped = self.empty(may_be, Channel::interrupt);
        self.stats.messages_interrupted.add(dropped as u64);
    }

    /// Drops all that memory has of a partition, and of its channels.
    pub(super) fn forget_partition(&self, partition: &Partition) {
        self.intake.lock().work.filling.forget(partition);
        self.unindex(partition);
        let placing = self.partitions.placing(&partition.topic);
        let may_be = |channel: &&Arc<Channel>| {
            let lies = placing.as_ref().map(|placing| placing.partitions(&channel.name));
            lies.is_none_or(|numbers| numbers.contains(&partition.number))
        };
        let dropped = self.empty(may_be, |channel| channel.forget(partition));
        self.stats.messages_expired.add(dropped as u64);
    }

    /// Has channels dropped what they hold, and tells the shards; how many messages that was.
    fn empty(&self, may_be: impl Fn(&&Arc<Channel>) -> bool, drop: impl Fn(&Channel) -> Dropped) -> usize {
        let mut channels: Vec<(Arc<Channel>, u64)> = {
            let channels = self.channels.read();
            channels.next(0, usize::MAX).filter(may_be).map(|channel| (Arc::clone(channel), 0)).collect()
        };
        let mut messages = 0;
        for (channel, told) in &mut channels {
            let dropped = drop(channel);
            self.memory.fetch_sub(dropped.bytes, Ordering::Relaxed);
            self.snapshot_bytes.fetch_sub(dropped.newest, Ordering::Relaxed);
            messages += dropped.messages;
            *told = channel.announce();
        }
        self.tell(&channels);
        messages
    }
}
