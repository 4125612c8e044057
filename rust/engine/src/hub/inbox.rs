//! Where shards, and subscribers inside this process, hear of channels that have news.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Hub;
use crate::channel::Channel;
use crate::limits::SHARDS_MAX;

/// The bit of subscribers inside this process.
pub const LOCAL_BIT: u64 = 1 << 63;

/// Where news of channels arrives; one per shard, and one for subscribers inside this process.
pub struct Inbox {
    bit: u64,
    dirty: Mutex<Vec<Arc<Channel>>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inbox({:#x})", self.bit)
    }
}

impl Inbox {
    /// This inbox's bit in a channel's masks.
    pub fn bit(&self) -> u64 {
        self.bit
    }

    /// Has whoever takes from it look.
    pub(super) fn wake(&self) {
        (self.wake)();
    }

    /// The channels that have news. No more is told of one until its flag is lowered with [`Channel::noticed`]; whoever
    /// lowers it looks afterwards, so that nothing that comes later is missed.
    pub fn take(&self) -> Vec<Arc<Channel>> {
        std::mem::take(&mut *self.dirty.lock())
    }
}

impl Hub {
    /// A shard's inbox; `wake` is called when there is news, from the thread that brings it.
    pub fn connect(&self, wake: Box<dyn Fn() + Send + Sync>) -> Arc<Inbox> {
        let mut inboxes = self.inboxes.write();
        let shards = inboxes.iter().filter(|inbox| inbox.bit != LOCAL_BIT).count();
        assert!(shards < SHARDS_MAX, "no more shards than limits allow");
        Self::add(&mut inboxes, 1 << shards, wake)
    }

    /// The inbox of subscribers inside this process.
    pub fn connect_local(&self, wake: Box<dyn Fn() + Send + Sync>) -> Arc<Inbox> {
        Self::add(&mut self.inboxes.write(), LOCAL_BIT, wake)
    }

    fn add(inboxes: &mut Vec<Arc<Inbox>>, bit: u64, wake: Box<dyn Fn() + Send + Sync>) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox { bit, dirty: Mutex::default(), wake });
        inboxes.push(Arc::clone(&inbox));
        inbox
    }

    /// Tells those of these channels' news whose bits they come with.
    pub(super) fn tell(&self, channels: &[(Arc<Channel>, u64)]) {
        let woken = channels.iter().fold(0, |woken, (_, told)| woken | told);
        let inboxes = self.inboxes.read();
        for inbox in inboxes.iter().filter(|inbox| inbox.bit & woken != 0) {
            let told = channels.iter().filter(|(_, told)| inbox.bit & told != 0);
            inbox.dirty.lock().extend(told.map(|(channel, _)| Arc::clone(channel)));
            inbox.wake();
        }
    }
}
