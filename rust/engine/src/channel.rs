//! One channel: what memory holds of it, and the frames made of that.
//!
//! ```text
//!            base                      end
//!             │                         │
//!   dropped … │ m m m m m m m m m m m m │ … to come
//!             └────── the ring ─────────┘
//! ```
//!
//! Every entry, a message or something of another kind ([`Kind`]), has a sequence number of this node, dense from 0; a
//! cursor is one of them. Rules:
//! - An entry is appended once and keeps its number.
//! - A frame covers `from..to` of the ring; who asks from the same place for the same kinds with the same spelling gets
//!   the same bytes. It holds entries of one kind; those of kinds that were not asked for are passed over.
//! - A message may be given as what turns the one before it into it (`deltas.rs`).
//! - The position in a frame names, for every partition, the first offset that the receiver has not been given. It is
//!   exact also in the middle of the ring, and as fresh as what the node has read, so that a quiet channel's clients do
//!   not carry old positions about.
//! - Lock order: a channel's state is locked last and nothing is called under it that locks.
mod ask;
mod deltas;
mod frames;
mod held;
mod latest;
mod place;
mod replay;
mod ring;
mod stand;
mod sync;
mod usage;
mod versions;

use std::cell::Cell;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

pub use ask::{Ask, Asked, Payloads};
use frames::Cached;
use latest::Latest;
pub use place::{Had, Located, Outcome, Own, Start, Withheld};
use replay::Replay;
use ring::Ring;
pub use stand::Stand;
pub use sync::{Sync, SyncPage};
pub use usage::Occupancy;
use usage::Usage;
pub use versions::Known;
use versions::Shown;

use crate::change;
use crate::kind::Kind;
use crate::limits::FILTER_TURN_NS;
use crate::message::Message;
use crate::partition::{Partition, Partitions};
use crate::position::Key;
use crate::presence::event::Event;
use crate::presence::{Change, Members};
use crate::stats::Stats;
use crate::wire::Packets;

/// What making a frame needs to know of the node.
pub struct Context<'a> {
    /// What positions speak of.
    pub partitions: &'a Partitions,
    /// For printing positions.
    pub key: Key,
    /// Where frames are counted.
    pub stats: &'a Stats,
    /// Bytes of all channels together.
    pub memory: &'a AtomicUsize,
    /// What of it the presence sets hold.
    pub presence: &'a AtomicUsize,
    /// Bytes of all replays together, beside those of the channels.
    pub replays: &'a AtomicUsize,
    /// The time, by the wall's clock.
    pub wall_ms: i64,
    /// What filters have taken for one connection in its turn, by estimate.
    pub filtered_ns: Cell<i64>,
}

impl Context<'_> {
    /// Whether that is all that they may take.
    pub fn is_filtered_out(&self) -> bool {
        self.filtered_ns.get() >= FILTER_TURN_NS
    }
}

/// One channel.
#[derive(Debug)]
pub struct Channel {
    /// Its name.
    pub name: Arc<str>,
    /// Unique on this node.
    pub id: u64,
    /// What stands for it where one in four billion may be taken for another.
    pub hash: u32,
    /// One bit per shard that has attachments here.
    watchers: AtomicU64,
    /// One bit per shard that was told of news and has not looked yet.
    pending: AtomicU64,
    /// One bit per shard that holds news for more to gather.
    held: AtomicU64,
    /// By attachments on this node.
    usage: Usage,
    /// When it was last used, by the node's clock.
    touched: AtomicI64,
    end: AtomicU64,
    /// The last batch of records that had some for this channel.
    batch: AtomicU64,
    /// The last block of the index that it was noted in.
    block: AtomicU64,
    /// How long news may be held by a shard, in ms.
    linger_ms: AtomicU32,
    /// What it has of a replay, if it is one.
    replay: Option<Box<Replay>>,
    ring: Mutex<Ring>,
}

/// Bytes for everyone who stands at the same place.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Whole: a WebSocket message, an HTTP chunk, or packets.
    pub bytes: Arc<[u8]>,
    /// The cursor behind it.
    pub to: u64,
    /// Entries in it.
    pub messages: u32,
    /// For whom it is, by [`Located::since`]: from here to there. Who has not seen what something was appended to is
    /// given the whole of it.
    pub since: (u64, u64),
    /// What they are.
    pub kind: Kind,
    /// The position behind it, where that is not in the bytes.
    pub serial: Option<Arc<str>>,
    /// What lies where in it, with MQTT.
    pub packets: Option<Arc<Packets>>,
    /// What it says of its messages will be wrong in a while: it is for those who are given it now.
    pub is_passing: bool,
}

impl Frame {
    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        let packets = self.packets.as_ref().map_or(0, |packets| size_of_val(&*packets.list));
        self.bytes.len() + packets
    }

    /// Whether it is for a receiver that is given entries as they came from this number on.
    pub fn is_for(&self, since: u64) -> bool {
        (self.since.0..=self.since.1).contains(&since)
    }
}

/// What was dropped of a ring.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Messages.
    pub messages: usize,
    /// Bytes they held, those of encodings and frames with them.
    pub bytes: usize,
    /// Those of the newest of keys.
    pub newest: usize,
    /// More are numbered below the limit.
    pub more: bool,
}

/// What a cursor is given.
#[derive(Debug)]
pub enum Given {
    /// The next frame.
    Frame(Frame),
    /// Nothing up to this cursor is for this receiver.
    Skipped(u64),
    /// It has everything.
    Nothing,
    /// The ring has passed it, but all that it has not been given and that nothing has superseded is here.
    Conflated,
    /// The ring has passed it.
    Lost,
}
impl Channel {
    pub(crate) fn new(name: Arc<str>, id: u64, born: Option<Box<[i64]>>, now_ms: i64) -> Self {
        Self {
            hash: Self::hash_of(&name),
            name,
            id,
            watchers: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            held: AtomicU64::new(0),
            usage: Usage::default(),
            touched: AtomicI64::new(now_ms),
            end: AtomicU64::new(0),
            batch: AtomicU64::new(0),
            block: AtomicU64::new(0),
            linger_ms: AtomicU32::new(0),
            replay: None,
            ring: Mutex::new(Ring { born, ..Ring::default() }),
        }
    }

    /// The hash of a channel of that name. Not secret: who makes channels whose hashes meet has others read in vain, and
    /// no more than they would without an index.
    pub fn hash_of(name: &str) -> u32 {
        let mut hasher = DefaultHasher::new();
        hasher.write(name.as_bytes());
        hasher.finish() as u32
    }

    /// The cursor behind the newest message.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Marks a use.
    pub fn touch(&self, now_ms: i64) {
        self.touched.fetch_max(now_ms, Ordering::Relaxed);
    }

    /// Last use.
    pub fn touched(&self) -> i64 {
        self.touched.load(Ordering::Relaxed)
    }

    /// The shard with this bit wants to hear of news. Set it before reading the ring: what is appended afterwards is
    /// then told.
    pub fn watch(&self, bit: u64) {
        self.watchers.fetch_or(bit, Ordering::SeqCst);
    }

    /// Whether it does.
    pub fn is_watched_by(&self, bit: u64) -> bool {
        self.watchers.load(Ordering::Relaxed) & bit != 0
    }

    /// No longer.
    pub fn unwatch(&self, bit: u64) {
        self.watchers.fetch_and(!bit, Ordering::SeqCst);
    }

    /// Bits of those who are now to be told of news: watchers that were not told before, and do not hold what would be
    /// held anyway.
    pub fn announce(&self) -> u64 {
        let holding = if self.linger_ms() > 0 { self.held.load(Ordering::SeqCst) } else { 0 };
        let watchers = self.watchers.load(Ordering::SeqCst) & !holding;
        if watchers == 0 {
            return 0;
        }
        watchers & !self.pending.fetch_or(watchers, Ordering::SeqCst)
    }

    /// A told shard is about to look.
    pub fn noticed(&self, bit: u64) {
        self.pending.fetch_and(!bit, Ordering::SeqCst);
    }

    /// A told shard holds the news, to look later; whether it did not yet.
    pub fn hold(&self, bit: u64) -> bool {
        let before = self.held.fetch_or(bit, Ordering::SeqCst);
        self.noticed(bit);
        before & bit == 0
    }

    /// It is about to look.
    pub fn let_go(&self, bit: u64) {
        self.held.fetch_and(!bit, Ordering::SeqCst);
    }

    /// How many are attached, by what they may do, and what it holds.
    pub fn occupancy(&self) -> Occupancy {
        let (members, messages) = {
            let ring = self.ring.lock();
            (ring.members.as_ref().map_or(0, |members| members.len()), ring.messages())
        };
        self.usage.occupancy(members, messages)
    }

    /// Attachments on this node.
    pub fn attachments(&self) -> usize {
        self.usage.attachments()
    }

    /// Whether somebody is attached, or it holds something.
    pub fn is_used(&self) -> bool {
        self.attachments() > 0 || !self.is_empty()
    }

    /// Entries held, and their bytes.
    pub fn held(&self) -> (usize, usize) {
        let ring = self.ring.lock();
        (ring.entries.len(), ring.bytes)
    }

    /// Whether nothing is held, and nobody present.
    pub fn is_empty(&self) -> bool {
        let ring = self.ring.lock();
        ring.entries.is_empty()
            && ring.latest.as_ref().is_none_or(|latest| latest.is_empty())
            && ring.members.as_ref().is_none_or(|members| members.is_empty())
    }

    /// Takes an event of presence into the set; what of it is news is yet to be appended.
    pub fn apply(&self, event: &Event<'_>, partition: &Arc<Partition>, offset: i64, room: usize) -> Change {
        let ring = &mut *self.ring.lock();
        let change = ring.members.get_or_insert_default().apply(event, partition, offset, room);
        ring.members.take_if(|members| members.is_empty());
        change
    }

    /// Looks at the set. Nothing else of the channel may be asked meanwhile.
    pub fn with_members<T>(&self, look: impl FnOnce(&Members) -> T) -> T {
        match &self.ring.lock().members {
            Some(members) => look(members),
            None => look(&Members::default()),
        }
    }

    /// Appends; returns the message's cost and its number.
    pub fn append(&self, message: Message) -> (usize, u64) {
        let ring = &mut *self.ring.lock();
        let cost = ring.push(message);
        let end = ring.end();
        self.end.store(end, Ordering::Release);
        (cost, end - 1)
    }

    /// The same, for a record of a topic with snapshots: the message is the newest of its key, and takes the key back if it
    /// `is_end`. What is kept of keys may grow by `room` bytes. Returns the cost of all, the message's number, and by how
    /// much it has grown.
    pub fn append_newest(&self, message: Message, key: &[u8], is_end: bool, room: usize) -> (isize, u64, isize) {
        let ring = &mut *self.ring.lock();
        let number = ring.end();
        let mut latest = ring.latest.take().unwrap_or_else(|| Box::new(Latest::new(&ring.feeds, number)));
        let before = latest.bytes();
        let cost = ring.push(message.clone());
        latest.put(number, message, key, is_end, room);
        let grown = latest.bytes() as isize - before as isize;
        ring.latest = Some(latest);
        let frames = ring.forget_walks();
        self.end.store(ring.end(), Ordering::Release);
        (cost as isize + grown - frames as isize, number, grown)
    }

    /// Appends what a record does to a message of this channel; what it costs, and the number of its last entry. None if
    /// nothing comes of it.
    pub fn change(&self, change: &change::Change<'_>, new: &Message) -> Option<(isize, u64)> {
        let ring = &mut *self.ring.lock();
        let changed = ring.change(change, new);
        self.end.store(ring.end(), Ordering::Release);
        changed
    }

    /// What is known of a message, by its serial.
    pub fn known(&self, serial: &str) -> Option<Known> {
        self.ring.lock().known(serial)
    }

    /// A message as it was published, and each of its updates and deletes, as far as they are held; oldest first.
    pub fn versions(&self, serial: &str) -> Vec<Message> {
        self.ring.lock().versions(serial)
    }

    /// Makes of publications, held or not, their newest versions, as far as these are held.
    pub fn show_newest(&self, messages: &mut [Message]) {
        self.ring.lock().show_newest(messages);
    }

    /// Drops the oldest messages that are numbered below `limit`, at most so many.
    pub fn drop_below(&self, limit: u64, most: usize) -> Dropped {
        let ring = &mut *self.ring.lock();
        let mut dropped = Dropped::default();
        let kept = |ring: &Ring| ring.latest.as_ref().map_or(0, |latest| latest.bytes());
        let before = kept(ring);
        while ring.base < limit && dropped.messages < most {
            let Some(bytes) = ring.pop() else { break };
            dropped.messages += 1;
            dropped.bytes += bytes;
        }
        dropped.more = ring.base < limit.min(ring.end());
        dropped.newest = before - kept(ring);
        dropped.bytes += dropped.newest;
        dropped
    }

    /// Messages were lost, or may have been: whoever is attached is to be told. Drops all that is held.
    pub fn interrupt(&self) -> Dropped {
        let ring = &mut *self.ring.lock();
        let dropped = ring.interrupt();
        self.end.store(ring.end(), Ordering::Release);
        dropped
    }

    /// A partition begins anew: drops all that is held, and that it was fed by it. Whoever is attached is to be told.
    pub fn forget(&self, partition: &Partition) -> Dropped {
        let dropped = self.interrupt();
        self.ring.lock().feeds.retain(|feed| feed.partition != partition.index);
        dropped
    }

    /// How long a shard may hold news of this channel, so that more gather, in ms.
    pub fn linger_ms(&self) -> u32 {
        self.linger_ms.load(Ordering::Relaxed)
    }

    /// A record of this batch has come, from a topic that lingers so long; whether it is the batch's first here. The
    /// shortest of a batch's times is the channel's. For the thread that delivers records alone.
    pub fn is_first_of(&self, batch: u64, linger_ms: u32) -> bool {
        let is_first = self.batch.load(Ordering::Relaxed) != batch;
        if is_first {
            self.batch.store(batch, Ordering::Relaxed);
        }
        if is_first || linger_ms < self.linger_ms() {
            self.linger_ms.store(linger_ms, Ordering::Relaxed);
        }
        is_first
    }

    /// Whether this is not the block that it was noted in last. For the thread that delivers records alone.
    pub fn is_first_in_block(&self, block: u64) -> bool {
        let is_first = self.block.load(Ordering::Relaxed) != block;
        if is_first {
            self.block.store(block, Ordering::Relaxed);
        }
        is_first
    }

    /// For each partition that fed this channel, one past the newest message that was dropped.
    pub fn dropped(&self) -> SmallVec<[(u16, i64); 1]> {
        self.ring.lock().feeds.iter().map(|feed| (feed.partition, feed.dropped)).collect()
    }

    /// Where `start` is, printed too, and whether somebody is present. All is taken at one moment: what comes later is
    /// behind the place.
    pub fn locate(&self, start: &Start, key: Key, partitions: &Partitions) -> (Located, String, bool) {
        let ring = &*self.ring.lock();
        let located = ring.find(&self.name, start, partitions);
        let position = match located.outcome {
            // A client that is lost in the middle of what follows must get the rest of it the next time.
            _ if located.conflates.is_some() => ring.print_latest(&self.name, key, partitions, &located),
            Outcome::Gap => ring.print(&self.name, key, partitions, located.cursor, located.had.as_deref()),
            _ => ring.print(&self.name, key, partitions, ring.end(), None),
        };
        (located, position, ring.members.as_ref().is_some_and(|members| !members.is_empty()))
    }

    /// The next frame behind a place: entries of one kind, at most [`FRAME_BYTES`] or one of them.
    ///
    /// [`FRAME_BYTES`]: crate::limits::FRAME_BYTES
    pub fn frame(&self, ask: &Ask<'_>, context: &Context<'_>) -> Given {
        Self::shared_frame(&mut self.ring.lock(), &self.name, ask, context)
    }

    fn shared_frame(ring: &mut Ring, name: &str, ask: &Ask<'_>, context: &Context<'_>) -> Given {
        let ask = &Ask { most: usize::MAX, ..*ask };
        // One made before more came is out of date, unless there was no room for more.
        let is_whole = |cached: &Cached| cached.full || cached.frame.to == ring.end();
        let same = |cached: &&Cached| {
            cached.asked.is_for(ask, cached.frame.to) && cached.frame.is_for(ask.since) && is_whole(cached)
        };
        if let Some(cached) = ring.frames.iter().find(same) {
            return Given::Frame(cached.frame.clone());
        }
        let (given, full) = ring.build(name, ask, &Withheld::default(), context);
        if let Given::Frame(frame) = &given
            && !frame.is_passing
        {
            let made = frame.size();
            let gone = ring.cache(ask, Cached { asked: ask.keep(), full, frame: frame.clone() });
            ring.pool(context).fetch_add(made, Ordering::Relaxed);
            ring.pool(context).fetch_sub(gone, Ordering::Relaxed);
        }
        given
    }

    /// The same for one receiver that is not given what everybody is. Where its own presence is all that makes the
    /// difference, and there is none, it shares the others' frame.
    pub fn own_frame(&self, ask: &Ask<'_>, withheld: &Withheld, context: &Context<'_>) -> Given {
        let ring = &mut *self.ring.lock();
        let differs = withheld.had.is_some() || withheld.own.as_ref().is_some_and(|own| !own.echo);
        if !differs && !ring.has_presence_from(ask.from) {
            return Self::shared_frame(ring, &self.name, ask, context);
        }
        ring.build(&self.name, ask, withheld, context).0
    }

    /// Where the channel stands now, printed.
    pub fn position(&self, key: Key, partitions: &Partitions) -> String {
        let ring = self.ring.lock();
        ring.print(&self.name, key, partitions, ring.end(), None)
    }

    /// Messages from a place on, at most `limit`, each with the position behind it; and the next cursor.
    pub fn take(&self, place: &Located, limit: usize, key: Key, partitions: &Partitions) -> Option<(Vec<Taken>, u64)> {
        let ring = self.ring.lock();
        let (from, had) = (place.cursor, place.had.as_deref());
        if place.conflates.is_some() {
            return ring.take_latest(&self.name, place, limit, key, partitions);
        }
        if from < ring.base {
            return None;
        }
        let mut taken = Vec::new();
        let mut cursor = from;
        while cursor < ring.end() && taken.len() < limit {
            let message = &ring.entries[(cursor - ring.base) as usize];
            cursor += 1;
            if message.kind != Kind::Message || had.is_some_and(|had| had.has(message)) {
                continue;
            }
            if let Shown::As(instead, _) = ring.shown(message, cursor - 1, u64::MAX) {
                let position = ring.print(&self.name, key, partitions, cursor, had);
                taken.push(Taken { message: instead.unwrap_or_else(|| message.clone()), position });
            }
        }
        Some((taken, cursor))
    }

    /// The oldest cursor held.
    pub fn base(&self) -> u64 {
        self.ring.lock().base
    }

    /// The publications held, as they came, oldest first.
    pub fn publications(&self) -> Vec<Message> {
        self.ring.lock().entries.iter().filter(|entry| entry.is_publication()).cloned().collect()
    }

    /// What is held of a kind, oldest first.
    pub fn entries(&self, kind: Kind) -> Vec<Message> {
        self.ring.lock().entries.iter().filter(|entry| entry.kind == kind).cloned().collect()
    }
}
/// A message with the position behind it.
#[derive(Debug)]
pub struct Taken {
    /// The message.
    pub message: Message,
    /// Printed.
    pub position: String,
}
#[cfg(test)]
mod tests;
