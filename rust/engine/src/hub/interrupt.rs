//! A partition whose reading goes on elsewhere: its topic was made anew, its log was cut, or the log no longer had what
//! came next. What was lost nobody knows, nor whose it was; so all are told who may have missed something: those on
//! channels that the topic's rule may make.
//!
//! The channels' rings are emptied, and whoever stands in one is lost, as if the ring had passed it. What the log still has
//! is found there by who comes back with a position.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Hub;
use crate::channel::Channel;
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
        let mut channels: Vec<(Arc<Channel>, u64)> = {
            let channels = self.channels.read();
            channels.next(0, usize::MAX).filter(may_be).map(|channel| (Arc::clone(channel), 0)).collect()
        };
        for (channel, told) in &mut channels {
            let dropped = channel.interrupt();
            self.memory.fetch_sub(dropped.bytes, Ordering::Relaxed);
            self.snapshot_bytes.fetch_sub(dropped.newest, Ordering::Relaxed);
            self.stats.messages_interrupted.add(dropped.messages as u64);
            *told = channel.announce();
        }
        self.tell(&channels);
    }
}
