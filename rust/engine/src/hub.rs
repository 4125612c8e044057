//! Names to channels, and everything that a node keeps across them: partitions, ids, what memory holds.
//!
//! One thread at a time delivers records ([`Hub::ingest`]); everything else may be called from any thread. Memory is
//! bounded by age and by bytes with one queue: batches in the order in which they came. Old batches leave when their
//! time is up, and sooner when all channels together hold too much.

mod blocks;
mod changed;
mod directory;
mod failures;
mod forgetting;
mod held;
mod history;
mod inject;
mod interrupt;
mod presence;
mod replay;

use std::cell::Cell;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use blocks::{Blocks, Filling};
pub use changed::Found;
use directory::Directory;
pub use failures::Failed;
use failures::Failures;
pub use held::{Held, HeldQuery, Place};
pub use history::{Page, PageQuery};
use presence::Nodes;
pub use presence::{MembersPage, MembersQuery};
pub use replay::{Replay, Wanted};

use crate::channel::{Channel, Context, Located, Occupancy, Outcome, Start};
use crate::dedup::Dedup;
use crate::limits::{
    BATCH_OVERHEAD, CHANNEL_HISTORY_SHARE, CHANNEL_OVERHEAD, CHANNELS_PER_RECORD_MAX, CHANNELS_REVIEWED_PER_NEW,
    CHANNELS_UNUSED_MAX, MESSAGES_SWEPT, SHARDS_MAX,
};
use crate::message::{Field, Message, serial};
use crate::partition::{Partition, Partitions, TooManyPartitions};
use crate::position::{self, Key};
use crate::presence::gone::Gone;
use crate::record::Record;
use crate::route::{OnFailure, Rule, Rules, Scratch, Shape, Unrouted, is_channel_name};
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

    /// The channels that have news. No more is told of one until its flag is lowered with [`Channel::noticed`]; whoever
    /// lowers it looks afterwards, so that nothing that comes later is missed.
    pub fn take(&self) -> Vec<Arc<Channel>> {
        std::mem::take(&mut *self.dirty.lock())
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
    /// Whether somebody is present.
    pub has_presence: bool,
}

/// All of a node's channels.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    /// Counters.
    pub stats: Stats,
    partitions: Partitions,
    channels: RwLock<Directory>,
    /// How far the search for unused channels has come in its round.
    hand: AtomicUsize,
    next_id: AtomicU64,
    memory: AtomicUsize,
    /// What of it the presence sets hold.
    presence_bytes: AtomicUsize,
    /// Beside it: what replays hold.
    replay_bytes: AtomicUsize,
    nodes: Mutex<Nodes>,
    gone: Mutex<Gone>,
    /// Of the next giving of a presence set.
    next_sync: AtomicU64,
    dedup: Mutex<Dedup>,
    blocks: RwLock<Blocks>,
    /// Where what the node itself says is said to lie.
    own: Arc<Partition>,
    intake: Mutex<Intake>,
    failures: Failures,
    inboxes: RwLock<Vec<Arc<Inbox>>>,
}

#[derive(Debug, Default)]
struct Intake {
    /// Shared with those who read the log back.
    rules: Arc<Rules>,
    /// The topic of presence, and since when what it holds is news.
    presence: Option<(Box<str>, i64)>,
    scratch: Scratch,
    work: Work,
}

/// What becomes of a topic's records.
#[derive(Debug, Clone, Copy)]
enum Way<'a> {
    /// They are messages; this is their rule, if there is one.
    Messages(Option<&'a Rule>),
    /// They are presence; news since this time, in ms.
    Presence(i64),
}

/// What is under way between a record and the shards.
#[derive(Debug, Default)]
struct Work {
    /// The number of this call, by which a channel knows that it is among the dirty already.
    batch: u64,
    /// Somebody else than the rules says to which channels records go.
    is_given: bool,
    /// That of the topic which is being delivered.
    linger_ms: u32,
    dirty: Vec<(Arc<Channel>, u64)>,
    age: VecDeque<Batch>,
    filling: Filling,
    /// Counted here while a batch lasts: counters that others read cost more than a record's other bookkeeping.
    messages: u64,
}

/// What one batch of records brought to one channel.
#[derive(Debug)]
struct Batch {
    channel: Arc<Channel>,
    /// Its messages have lower numbers.
    to: u64,
    arrived_ms: i64,
}

/// What channels a topic's records go to, as far as its rule tells; None: any.
fn shape(rule: Option<&Rule>, topic: &str, is_given: bool) -> Option<Shape> {
    rule.filter(|_| !is_given).map(|rule| rule.shape(topic))
}

/// The bit of subscribers inside this process.
pub const LOCAL_BIT: u64 = 1 << 63;

impl Hub {
    /// An empty node.
    pub fn new(settings: Settings) -> Self {
        let partitions = Partitions::default();
        partitions.add_state_topic(inject::TOPIC);
        let own = partitions.assign(inject::TOPIC, [0; 16], 0, 0).expect("it is the first");
        Self {
            settings,
            stats: Stats::default(),
            partitions,
            own,
            channels: RwLock::default(),
            hand: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
            memory: AtomicUsize::new(0),
            presence_bytes: AtomicUsize::new(0),
            replay_bytes: AtomicUsize::new(0),
            nodes: Mutex::default(),
            gone: Mutex::default(),
            // Somewhere else in each life of a node: clients carry the ids from one to the next.
            next_sync: AtomicU64::new(RandomState::new().hash_one(settings.key)),
            dedup: Mutex::new(Dedup::new(settings.key)),
            blocks: RwLock::default(),
            intake: Mutex::default(),
            failures: Failures::default(),
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
        self.intake.lock().rules = Arc::new(rules);
    }

    /// The records of this topic follow the rule of this number.
    pub fn bind(&self, topic: &str, rule: usize) {
        self.intake.lock().rules.bind(topic, rule);
    }

    /// Reading of a partition begins.
    pub fn assign(&self, topic: &str, id: [u8; 16], number: i32, start: i64) -> Result<(), TooManyPartitions> {
        let before = self.partitions.find(topic, number);
        let partition = self.partitions.assign(topic, id, number, start)?;
        if before.is_some_and(|before| before.index != partition.index) {
            let Intake { rules, work, .. } = &*self.intake.lock();
            self.interrupt(&partition, shape(rules.of(topic), topic, work.is_given).as_ref());
        }
        Ok(())
    }

    /// A partition was read up to here, though no record may be left to show it.
    pub fn progress(&self, topic: &str, number: i32, next: i64) {
        if self.intake.lock().rules.of(topic).is_some_and(Rule::is_stopped) {
            return;
        }
        if let Some(partition) = self.partitions.find(topic, number) {
            partition.advance(next, -1);
        }
    }

    /// Delivers records, in order within each partition. Records of partitions that were not assigned are refused and
    /// their number returned: a source that does that has a bug.
    pub fn ingest<'a>(&self, records: impl Iterator<Item = (Record<'a>, Routing<'a>)>, now_ms: i64) -> usize {
        let Intake { rules, presence, scratch, work } = &mut *self.intake.lock();
        work.batch += 1;
        let mut last: Option<(Arc<Partition>, Way<'_>)> = None;
        let (mut count, mut bytes, mut repeated, mut refused) = (0, 0, 0, 0);
        for (record, routing) in records {
            let same = last.take().filter(|(p, _)| p.number == record.partition && *p.topic == *record.topic);
            let found = same.or_else(|| {
                let partition = self.partitions.find(record.topic, record.partition)?;
                let way = match presence {
                    Some((topic, since_ms)) if **topic == *record.topic => Way::Presence(*since_ms),
                    _ => Way::Messages(rules.of(record.topic)),
                };
                work.linger_ms = if let Way::Messages(Some(rule)) = way { rule.linger_ms } else { 0 };
                Some((partition, way))
            });
            let Some((mut partition, way)) = found else {
                refused += 1;
                continue;
            };
            if partition.is_cut_by(record.offset, record.epoch) {
                let shape = shape(rules.of(record.topic), record.topic, work.is_given);
                let Ok(cut) = self.cut(&partition, record.offset, shape.as_ref()) else {
                    refused += 1;
                    continue;
                };
                partition = cut;
            }
            count += 1;
            bytes += record.value.map_or(0, <[u8]>::len) as u64;
            if record.offset < partition.next() {
                repeated += 1;
            } else {
                let is_read = match (way, routing) {
                    (Way::Presence(since), _) => {
                        self.deliver_presence(work, &record, &partition, (since, now_ms));
                        true
                    }
                    (Way::Messages(rule), Routing::Rules) => {
                        self.deliver(work, rule, scratch, &record, &partition, now_ms)
                    }
                    (Way::Messages(_), Routing::Given(names)) => {
                        work.is_given = true;
                        self.deliver_to(work, names, &record, &partition, now_ms);
                        true
                    }
                };
                if is_read {
                    partition.advance(record.offset + 1, record.epoch);
                    if let Way::Messages(_) = way
                        && let Some(block) = work.filling.count(&partition)
                    {
                        self.index(&partition, block);
                    }
                }
            }
            last = Some((partition, way));
        }
        self.stats.records_in.add(count);
        self.stats.bytes_in.add(bytes);
        self.stats.records_repeated.add(repeated);
        self.stats.messages.add(std::mem::take(&mut work.messages));
        self.announce(work, now_ms);
        // At least as fast as they come; not all at once when they grow old after a flood.
        self.expire(work, now_ms, 2 * count as usize + MESSAGES_SWEPT / 8);
        refused
    }

    /// Whether the record is done with: a rule that stops leaves it, and all behind it, unread.
    fn deliver(
        &self,
        work: &mut Work,
        rule: Option<&Rule>,
        scratch: &mut Scratch,
        record: &Record<'_>,
        partition: &Arc<Partition>,
        now_ms: i64,
    ) -> bool {
        let Some(rule) = rule else {
            self.stats.records_unrouted.add(1);
            return true;
        };
        if rule.is_stopped() {
            self.stats.records_held_back.add(1);
            return false;
        }
        match rule.apply(record, scratch) {
            Ok(routed) => {
                for name in routed.channels() {
                    let message = rule.message(record, Arc::clone(partition), &routed);
                    self.append(work, name, (record, partition), message, now_ms);
                }
            }
            Err(Unrouted::Failed(failure)) => {
                self.failed(rule, record, failure);
                return rule.on_failure != OnFailure::Stop;
            }
            Err(Unrouted::Tombstone) => self.stats.tombstones_skipped.add(1),
            Err(Unrouted::Nowhere) => self.stats.records_unrouted.add(1),
        }
        true
    }

    fn deliver_to(
        &self,
        work: &mut Work,
        names: &[&str],
        record: &Record<'_>,
        partition: &Arc<Partition>,
        now_ms: i64,
    ) {
        if names.is_empty() {
            return self.stats.records_unrouted.add(1);
        }
        if names.len() > CHANNELS_PER_RECORD_MAX {
            return self.stats.records_unroutable.add(1);
        }
        for (index, name) in names.iter().enumerate() {
            if !is_channel_name(name) {
                self.stats.records_unroutable.add(1);
            } else if !names[..index].contains(name) {
                self.append(work, name, (record, partition), record.message(Arc::clone(partition)), now_ms);
            }
        }
    }

    fn append(
        &self,
        work: &mut Work,
        name: &str,
        (record, partition): (&Record<'_>, &Arc<Partition>),
        message: Message,
        now_ms: i64,
    ) {
        if let Some(id) = message.field(Field::Id) {
            let place = (record.offset, record.timestamp);
            if self.dedup.lock().observe(name, id, partition, place, (now_ms, now_ms)).is_some() {
                self.stats.duplicates.add(1);
                return;
            }
        }
        let channel = match work.dirty.last() {
            Some((channel, _)) if *channel.name == *name => Arc::clone(channel),
            _ => self.channel(name, now_ms),
        };
        work.filling.note(partition, &channel);
        let appended = match record.change() {
            None => Some(channel.append(message)).map(|(cost, number)| (cost as isize, number)),
            Some(change) => change.and_then(|change| channel.change(&change, &message)),
        };
        let Some((cost, number)) = appended else { return self.stats.changes_refused.add(1) };
        work.messages += 1;
        self.grown(work, channel, cost, number);
    }

    /// Appends an entry; its channel is among those with news.
    fn put(&self, work: &mut Work, channel: Arc<Channel>, entry: Message) {
        let (cost, number) = channel.append(entry);
        self.grown(work, channel, cost as isize, number);
    }

    /// A channel holds so many bytes more, the last for the entry of this number: it is among those with news.
    fn grown(&self, work: &mut Work, channel: Arc<Channel>, cost: isize, number: u64) {
        let memory = self.memory.fetch_add(cost as usize, Ordering::Relaxed).wrapping_add_signed(cost);
        if memory > self.settings.history_bytes / CHANNEL_HISTORY_SHARE {
            self.squeeze_channel(&channel, number);
        }
        if channel.is_first_of(work.batch, work.linger_ms) {
            work.dirty.push((channel, 0));
        }
    }

    /// Drops what one channel holds beyond its share; its newest message stays.
    fn squeeze_channel(&self, channel: &Channel, newest: u64) {
        let share = self.settings.history_bytes / CHANNEL_HISTORY_SHARE;
        while channel.held().1 > share {
            let dropped = channel.drop_below(newest, 1);
            if dropped.messages == 0 {
                return;
            }
            self.memory.fetch_sub(dropped.bytes, Ordering::Relaxed);
            self.stats.messages_squeezed.add(1);
        }
    }

    /// Tells the shards, once per batch: each inbox is locked once, however many channels have news.
    fn announce(&self, work: &mut Work, now_ms: i64) {
        for (channel, told) in &mut work.dirty {
            channel.touch(now_ms);
            *told = channel.announce();
        }
        self.tell(&work.dirty);
        self.memory.fetch_add(work.dirty.len() * BATCH_OVERHEAD, Ordering::Relaxed);
        let batches = work.dirty.drain(..).map(|(channel, _)| Batch { to: channel.end(), channel, arrived_ms: now_ms });
        work.age.extend(batches);
    }

    /// Tells those of these channels' news whose bits they come with.
    fn tell(&self, channels: &[(Arc<Channel>, u64)]) {
        let woken = channels.iter().fold(0, |woken, (_, told)| woken | told);
        let inboxes = self.inboxes.read();
        for inbox in inboxes.iter().filter(|inbox| inbox.bit & woken != 0) {
            let told = channels.iter().filter(|(_, told)| inbox.bit & told != 0);
            inbox.dirty.lock().extend(told.map(|(channel, _)| Arc::clone(channel)));
            (inbox.wake)();
        }
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
        if count >= CHANNELS_UNUSED_MAX {
            // More are looked at than made: so many unused ones are never left over.
            self.review(CHANNELS_REVIEWED_PER_NEW, i64::MAX);
        }
        let mut channels = self.channels.write();
        if let Some(channel) = channels.get(name) {
            return Arc::clone(channel);
        }
        let born: Box<[i64]> = self.partitions.list().iter().map(|partition| partition.forgotten()).collect();
        let born = born.iter().any(|&offset| offset > 0).then_some(born);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let channel = Arc::new(Channel::new(name.into(), id, born, now_ms));
        channels.insert(Arc::clone(&channel));
        self.memory.fetch_add(CHANNEL_OVERHEAD + name.len(), Ordering::Relaxed);
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
        let (located, position, has_presence) = channel.locate(&start, self.key(), &self.partitions);
        let serial = match serial {
            Some(own) if located.outcome == Outcome::Resumed && located.backlog > 0 => own.to_owned(),
            _ => position,
        };
        Plan { channel, located, serial, has_presence }
    }

    /// Counts what became of a position, once somebody goes on from where it was found.
    pub fn count(&self, plan: &Plan) {
        match plan.located.outcome {
            Outcome::Resumed if plan.channel.live().is_some() => self.stats.resumed_from_log.add(1),
            Outcome::Resumed => self.stats.resumed.add(1),
            Outcome::Gap => self.stats.resume_gaps.add(1),
            Outcome::Foreign => self.stats.resume_foreign.add(1),
            Outcome::Fresh | Outcome::Ahead => {}
        }
    }

    /// Where a channel stands now.
    pub fn position(&self, name: &str, now_ms: i64) -> String {
        self.channel(name, now_ms).position(self.key(), &self.partitions)
    }

    /// What frames are made with.
    pub fn context(&self) -> Context<'_> {
        Context {
            partitions: &self.partitions,
            key: self.key(),
            stats: &self.stats,
            memory: &self.memory,
            presence: &self.presence_bytes,
            replays: &self.replay_bytes,
            filtered_ns: Cell::new(0),
        }
    }

    /// The serial of the message with this id, if a record written at `wall_ms` would be its repeat.
    pub fn find(&self, channel: &str, id: &str, wall_ms: i64) -> Option<String> {
        self.dedup
            .lock()
            .find(channel, id, wall_ms)
            .map(|first| serial(&first.partition.topic, first.partition.number, first.offset))
    }

    /// How many use a channel here; None if it is not in memory.
    pub fn occupancy(&self, name: &str) -> Option<Occupancy> {
        let channel = self.channels.read().get(name).cloned()?;
        Some(channel.occupancy())
    }

    /// The names of channels in use on this node that `realm` stands before, which no other realm does, and that behind
    /// it begin with `prefix` and stand behind `after`: in order, the first `limit`. Takes the longer the more channels
    /// there are: 50 ns each.
    pub fn names(&self, realm: &str, prefix: &str, after: &str, limit: usize) -> Vec<Arc<str>> {
        self.channels.read().names(realm, prefix, after, limit)
    }

    /// Gauges: channels, bytes, ids.
    pub fn gauges(&self) -> [(&'static str, u64); 6] {
        [
            ("channels", self.channels.read().len() as u64),
            ("history_bytes", self.memory.load(Ordering::Relaxed) as u64),
            ("presence_bytes", self.presence_bytes.load(Ordering::Relaxed) as u64),
            ("index_bytes", self.index_bytes() as u64),
            ("replay_bytes", self.replay_bytes.load(Ordering::Relaxed) as u64),
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
