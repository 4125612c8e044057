//! Names to channels, and everything that a node keeps across them: partitions, ids, what memory holds.
//!
//! One thread at a time delivers records ([`Hub::ingest`]); everything else may be called from any thread. Memory is
//! bounded by age and by bytes with one queue: batches in the order in which they came. Old batches leave when their
//! time is up, and sooner when all channels together hold too much.

mod history;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

pub use history::{Page, PageQuery};

use crate::channel::{Channel, Context, Located, Outcome, Start};
use crate::dedup::Dedup;
use crate::limits::{
    CHANNEL_HISTORY_SHARE, CHANNEL_IDLE_MS, CHANNEL_OVERHEAD, CHANNELS_PER_RECORD_MAX, CHANNELS_UNUSED_MAX, SHARDS_MAX,
};
use crate::message::serial;
use crate::partition::{Partition, Partitions, TooManyPartitions};
use crate::position::{self, Key};
use crate::record::Record;
use crate::route::{Routed, Rules, is_channel_name};
use crate::stats::Stats;

/// How a node is set up.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// For positions and hashes; all nodes of one log share it.
    pub key: [u8; 16],
    /// How long messages stay in memory, in ms.
    pub history_ms: i64,
    /// Bytes that all channels together may hold.
    pub history_bytes: usize,
}

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

    /// The channels that have news. Their flags are lowered first, so nothing that comes later is missed.
    pub fn take(&self) -> Vec<Arc<Channel>> {
        let dirty = std::mem::take(&mut *self.dirty.lock());
        for channel in &dirty {
            channel.noticed(self.bit);
        }
        dirty
    }
}

/// How the channels of a record are found.
#[derive(Debug, Clone, Copy)]
pub enum Routing<'a> {
    /// By the rules.
    Rules,
    /// Someone else has decided.
    Given(&'a [&'a str]),
}

/// Where an attachment will start: made by [`Hub::locate`].
#[derive(Debug)]
pub struct Plan {
    /// The channel; held, so it is not forgotten meanwhile.
    pub channel: Arc<Channel>,
    /// The place.
    pub located: Located,
    /// For ATTACHED: the client's own position if a backlog follows a resume, that of the earliest held after a gap, so
    /// that a loss in the middle resumes rightly; else the one behind all that is held now.
    pub serial: String,
}

/// All of a node's channels.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    /// Counters.
    pub stats: Stats,
    partitions: Partitions,
    channels: RwLock<HashMap<Arc<str>, Arc<Channel>>>,
    /// At this number of channels those that are of no use are forgotten ahead of their time.
    purge_at: AtomicUsize,
    next_id: AtomicU64,
    memory: AtomicUsize,
    dedup: Mutex<Dedup>,
    intake: Mutex<Intake>,
    inboxes: RwLock<Vec<Arc<Inbox>>>,
}

#[derive(Debug, Default)]
struct Intake {
    rules: Rules,
    age: VecDeque<Batch>,
    dirty: Vec<(Arc<Channel>, u64)>,
}

/// What one batch of records brought to one channel.
#[derive(Debug)]
struct Batch {
    channel: Arc<Channel>,
    /// Its messages have lower numbers.
    to: u64,
    arrived_ms: i64,
}

/// The bit of subscribers inside this process.
pub const LOCAL_BIT: u64 = 1 << 63;

impl Hub {
    /// An empty node.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            stats: Stats::default(),
            partitions: Partitions::default(),
            channels: RwLock::default(),
            purge_at: AtomicUsize::new(CHANNELS_UNUSED_MAX),
            next_id: AtomicU64::new(1),
            memory: AtomicUsize::new(0),
            dedup: Mutex::new(Dedup::new(settings.key)),
            intake: Mutex::default(),
            inboxes: RwLock::default(),
        }
    }

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

    /// Sets the routing rules.
    pub fn set_rules(&self, rules: Rules) {
        self.intake.lock().rules = rules;
    }

    /// Reading of a partition begins.
    pub fn assign(&self, topic: &str, id: [u8; 16], number: i32, start: i64) -> Result<(), TooManyPartitions> {
        self.partitions.assign(topic, id, number, start).map(drop)
    }

    /// A partition was read up to here, though no record may be left to show it.
    pub fn progress(&self, topic: &str, number: i32, next: i64) {
        if let Some(partition) = self.partitions.find(topic, number) {
            partition.advance(next, -1);
        }
    }

    /// Delivers records, in order within each partition. Records of partitions that were not assigned are refused and
    /// their number returned: a source that does that has a bug.
    pub fn ingest<'a>(&self, records: impl Iterator<Item = (Record<'a>, Routing<'a>)>, now_ms: i64) -> usize {
        let intake = &mut *self.intake.lock();
        let mut last: Option<Arc<Partition>> = None;
        let mut refused = 0;
        for (record, routing) in records {
            let same = last.take().filter(|p| p.number == record.partition && *p.topic == *record.topic);
            let Some(partition) = same.or_else(|| self.partitions.find(record.topic, record.partition)) else {
                refused += 1;
                continue;
            };
            self.stats.records_in.add(1);
            self.stats.bytes_in.add(record.value.map_or(0, <[u8]>::len) as u64);
            if record.offset < partition.next() {
                self.stats.records_repeated.add(1);
            } else {
                self.deliver(intake, &record, routing, &partition, now_ms);
                partition.advance(record.offset + 1, record.epoch);
            }
            last = Some(partition);
        }
        self.announce(intake, now_ms);
        self.expire(intake, now_ms);
        refused
    }

    fn deliver(
        &self,
        intake: &mut Intake,
        record: &Record<'_>,
        routing: Routing<'_>,
        partition: &Arc<Partition>,
        now_ms: i64,
    ) {
        match routing {
            Routing::Rules => match intake.rules.route(record) {
                Routed::Channel(name) => self.append(intake, &name, record, partition, now_ms),
                Routed::Unmatched => self.stats.records_unrouted.add(1),
                Routed::Unroutable => self.stats.records_unroutable.add(1),
            },
            Routing::Given([]) => self.stats.records_unrouted.add(1),
            Routing::Given(names) if names.len() > CHANNELS_PER_RECORD_MAX => self.stats.records_unroutable.add(1),
            Routing::Given(names) => {
                for (index, name) in names.iter().enumerate() {
                    if !is_channel_name(name) {
                        self.stats.records_unroutable.add(1);
                    } else if !names[..index].contains(name) {
                        self.append(intake, name, record, partition, now_ms);
                    }
                }
            }
        }
    }

    fn append(&self, intake: &mut Intake, name: &str, record: &Record<'_>, partition: &Arc<Partition>, now_ms: i64) {
        let message = record.message(Arc::clone(partition));
        if let Some(id) = message.meta(|meta| &meta.id) {
            let place = (record.offset, record.timestamp);
            if self.dedup.lock().observe(name, id, partition, place, now_ms).is_some() {
                self.stats.duplicates.add(1);
                return;
            }
        }
        let channel = match intake.dirty.last() {
            Some((channel, _)) if *channel.name == *name => Arc::clone(channel),
            _ => self.channel(name, now_ms),
        };
        let (cost, number) = channel.append(message);
        let memory = self.memory.fetch_add(cost, Ordering::Relaxed) + cost;
        self.stats.messages.add(1);
        match intake.dirty.last_mut() {
            Some((last, to)) if Arc::ptr_eq(last, &channel) => *to = number + 1,
            _ => intake.dirty.push((Arc::clone(&channel), number + 1)),
        }
        if memory > self.settings.history_bytes / CHANNEL_HISTORY_SHARE {
            self.squeeze_channel(&channel, number);
        }
    }

    /// Drops what one channel holds beyond its share; its newest message stays.
    fn squeeze_channel(&self, channel: &Channel, newest: u64) {
        let share = self.settings.history_bytes / CHANNEL_HISTORY_SHARE;
        while channel.held().1 > share {
            let Some(freed) = channel.drop_oldest(newest) else { return };
            self.memory.fetch_sub(freed, Ordering::Relaxed);
            self.stats.messages_squeezed.add(1);
        }
    }

    /// Tells the shards, once per batch.
    fn announce(&self, intake: &mut Intake, now_ms: i64) {
        let inboxes = self.inboxes.read();
        let mut woken = 0;
        for (channel, to) in intake.dirty.drain(..) {
            channel.touch(now_ms);
            let told = channel.announce();
            for inbox in inboxes.iter().filter(|inbox| inbox.bit & told != 0) {
                inbox.dirty.lock().push(Arc::clone(&channel));
            }
            woken |= told;
            intake.age.push_back(Batch { channel, to, arrived_ms: now_ms });
        }
        inboxes.iter().filter(|inbox| inbox.bit & woken != 0).for_each(|inbox| (inbox.wake)());
    }

    /// Forgets what is too old or too much. To be called about once a second when no records come.
    pub fn sweep(&self, now_ms: i64) {
        self.dedup.lock().expire(now_ms);
        self.expire(&mut self.intake.lock(), now_ms);
        self.forget_unused(now_ms - CHANNEL_IDLE_MS.max(self.settings.history_ms));
    }

    /// Forgets the channels that nobody holds, that hold nothing, and that were last used before `horizon_ms`.
    fn forget_unused(&self, horizon_ms: i64) {
        let unused: Vec<_> = {
            let channels = self.channels.read();
            let is_unused = |channel: &&Arc<Channel>| {
                channel.attachments() == 0 && channel.touched() < horizon_ms && Arc::strong_count(channel) == 1
            };
            channels.values().filter(is_unused).map(|channel| Arc::clone(&channel.name)).collect()
        };
        for name in &unused {
            self.forget(name);
        }
        // What is left is held by attachments or messages, which have bounds of their own. Doubling keeps the cost of
        // looking through all of them small for each channel made.
        let left = self.channels.read().len();
        self.purge_at.store(CHANNELS_UNUSED_MAX.max(left * 2), Ordering::Relaxed);
    }

    fn expire(&self, intake: &mut Intake, now_ms: i64) {
        while let Some(batch) = intake.age.front() {
            let counter = if batch.arrived_ms + self.settings.history_ms < now_ms {
                &self.stats.messages_expired
            } else if self.memory.load(Ordering::Relaxed) > self.settings.history_bytes {
                &self.stats.messages_squeezed
            } else {
                return;
            };
            while let Some(freed) = batch.channel.drop_oldest(batch.to) {
                self.memory.fetch_sub(freed, Ordering::Relaxed);
                counter.add(1);
            }
            let squeezed = self.memory.load(Ordering::Relaxed) > self.settings.history_bytes;
            let Some(Batch { channel, .. }) = intake.age.pop_front() else { return };
            if squeezed && channel.held().0 == 0 && channel.attachments() == 0 {
                let name = Arc::clone(&channel.name);
                drop(channel);
                self.forget(&name);
            }
        }
    }

    /// Forgets a channel that nobody holds and that holds nothing. What it dropped is remembered for all together.
    fn forget(&self, name: &Arc<str>) {
        let mut channels = self.channels.write();
        // Under this lock nobody can come by another reference.
        let Some(channel) = channels.get(name) else { return };
        if Arc::strong_count(channel) > 1 || channel.held().0 > 0 || channel.attachments() > 0 {
            return;
        }
        let partitions = self.partitions.list();
        for (index, dropped) in channel.dropped() {
            partitions[usize::from(index)].forget(dropped);
        }
        channels.remove(name);
        self.memory.fetch_sub(CHANNEL_OVERHEAD, Ordering::Relaxed);
    }

    /// The channel of that name, made if need be.
    pub fn channel(&self, name: &str, now_ms: i64) -> Arc<Channel> {
        let count = {
            let channels = self.channels.read();
            if let Some(channel) = channels.get(name) {
                return Arc::clone(channel);
            }
            channels.len()
        };
        if count >= self.purge_at.load(Ordering::Relaxed) {
            self.forget_unused(i64::MAX);
        }
        let mut channels = self.channels.write();
        if let Some(channel) = channels.get(name) {
            return Arc::clone(channel);
        }
        let name: Arc<str> = name.into();
        let born: Box<[i64]> = self.partitions.list().iter().map(|partition| partition.forgotten()).collect();
        let born = born.iter().any(|&offset| offset > 0).then_some(born);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let channel = Arc::new(Channel::new(Arc::clone(&name), id, born, now_ms));
        channels.insert(name, Arc::clone(&channel));
        self.memory.fetch_add(CHANNEL_OVERHEAD, Ordering::Relaxed);
        channel
    }

    /// Finds where an attachment starts.
    pub fn locate(&self, name: &str, serial: Option<&str>, rewind: Start, now_ms: i64) -> Plan {
        let channel = self.channel(name, now_ms);
        channel.touch(now_ms);
        let start = match serial.map(|text| position::parse(self.key(), name, text)) {
            None => rewind,
            Some(Ok(position)) => Start::After(position),
            Some(Err(_)) => Start::After(position::Position::default()), // of nothing known: foreign
        };
        let (located, position) = channel.locate(&start, self.key(), &self.partitions);
        match located.outcome {
            Outcome::Resumed => self.stats.resumed.add(1),
            Outcome::Gap => self.stats.resume_gaps.add(1),
            Outcome::Foreign => self.stats.resume_foreign.add(1),
            Outcome::Fresh | Outcome::Ahead => {}
        }
        let serial = match serial {
            Some(own) if located.outcome == Outcome::Resumed && located.backlog > 0 => own.to_owned(),
            _ => position,
        };
        Plan { channel, located, serial }
    }

    /// Where a channel stands now.
    pub fn position(&self, name: &str, now_ms: i64) -> String {
        self.channel(name, now_ms).position(self.key(), &self.partitions)
    }

    /// What frames are made with.
    pub fn context(&self) -> Context<'_> {
        Context { partitions: &self.partitions, key: self.key(), stats: &self.stats, memory: &self.memory }
    }

    /// The serial of the message with this id, if a record written at `wall_ms` would be its repeat.
    pub fn find(&self, channel: &str, id: &str, wall_ms: i64) -> Option<String> {
        self.dedup
            .lock()
            .find(channel, id, wall_ms)
            .map(|first| serial(&first.partition.topic, first.partition.number, first.offset))
    }

    /// Attachments here, and messages held, of a channel; None if it is not in memory.
    pub fn occupancy(&self, name: &str) -> Option<(usize, usize)> {
        let channel = self.channels.read().get(name).cloned()?;
        Some((channel.attachments(), channel.held().0))
    }

    /// Gauges: channels, bytes, ids.
    pub fn gauges(&self) -> [(&'static str, u64); 3] {
        [
            ("channels", self.channels.read().len() as u64),
            ("history_bytes", self.memory.load(Ordering::Relaxed) as u64),
            ("dedup_ids", self.dedup.lock().len() as u64),
        ]
    }

    /// For printing positions.
    pub fn key(&self) -> Key {
        Key(self.settings.key)
    }

    /// The partitions that are read.
    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }
}

#[cfg(test)]
mod tests;
