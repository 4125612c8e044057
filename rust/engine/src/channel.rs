//! One channel: the messages that memory holds, and the frames made of them.
//!
//! ```text
//!            base                      end
//!             │                         │
//!   dropped … │ m m m m m m m m m m m m │ … to come
//!             └────── the ring ─────────┘
//! ```
//!
//! Every message has a sequence number of this node, dense from 0; a cursor is one of them. Rules:
//! - A message is appended once and keeps its number.
//! - A frame covers `from..to` of the ring; who asks from the same place with the same spelling gets the same bytes.
//! - The position in a frame names, for every partition, the first offset that the receiver has not been given. It is
//!   exact also in the middle of the ring, and as fresh as what the node has read, so that a quiet channel's clients do
//!   not carry old positions about.
//! - Lock order: a channel's state is locked last and nothing is called under it that locks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::limits::{FRAME_BYTES, FRAME_MESSAGES, FRAMES_CACHED, REWIND_MESSAGES_MAX};
use crate::message::Message;
use crate::partition::Partitions;
use crate::position::{self, Entry, Key, Position};
use crate::stats::Stats;
use crate::wire::Wire;

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
}

/// One channel.
#[derive(Debug)]
pub struct Channel {
    /// Its name.
    pub name: Arc<str>,
    /// Unique on this node.
    pub id: u64,
    /// One bit per shard that has attachments here.
    watchers: AtomicU64,
    /// One bit per shard that was told of news and has not looked yet.
    pending: AtomicU64,
    /// Attachments on this node.
    attachments: AtomicUsize,
    /// When it was last used, by the node's clock.
    touched: AtomicI64,
    end: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ring: VecDeque<Arc<Message>>,
    base: u64,
    bytes: usize,
    feeds: SmallVec<[Feed; 1]>,
    frames: Vec<Cached>,
    /// What earlier channels of any name dropped before this one was born, by partition.
    born: Option<Box<[i64]>>,
}

/// One partition that has fed this channel.
#[derive(Debug)]
struct Feed {
    partition: u16,
    /// One past the newest message of it.
    next: i64,
    /// One past the newest message of it that the ring has dropped.
    dropped: i64,
}

#[derive(Debug)]
struct Cached {
    wire: Wire,
    spelling: Option<Arc<str>>,
    from: u64,
    /// It ends where it does for lack of room, not of messages.
    full: bool,
    frame: Frame,
}

/// Bytes for everyone who stands at the same place.
#[derive(Debug, Clone)]
pub struct Frame {
    /// A whole WebSocket message.
    pub bytes: Arc<[u8]>,
    /// The cursor behind it.
    pub to: u64,
    /// Messages in it.
    pub messages: u32,
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
    /// The ring has passed it.
    Lost,
}

/// What one receiver is not to be given: it pays with frames of its own.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Already had, by partition, as long as the cursor is below `until`.
    pub had: Option<Arc<Had>>,
    /// Its own messages: the connection's id.
    pub own: Option<Arc<str>>,
}

/// Offsets below which a resuming client has everything, by partition.
#[derive(Debug, PartialEq, Eq)]
pub struct Had {
    next: Box<[i64]>,
    until: u64,
}

impl Had {
    /// Whether nothing from this cursor on can be among it.
    pub fn is_past(&self, cursor: u64) -> bool {
        cursor >= self.until
    }

    fn has(&self, message: &Message) -> bool {
        self.next.get(usize::from(message.partition.index)).is_some_and(|&next| message.offset < next)
    }
}

/// Where an attachment begins.
#[derive(Debug)]
pub enum Start {
    /// With what comes next.
    Live,
    /// With the earliest message that is among the last so many, and not older than that.
    Rewind {
        /// At most so many messages.
        count: usize,
        /// None from before this time.
        since_ms: i64,
    },
    /// Behind this position.
    After(Position),
}

/// How well a position could be continued from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No position was given.
    Fresh = 0,
    /// Continues exactly.
    Resumed = 1,
    /// Something after it is gone; continues with the earliest held.
    Gap = 2,
    /// Not a position of this channel in this log.
    Foreign = 3,
    /// Beyond what this node has read.
    Ahead = 4,
}

/// A place found.
#[derive(Debug)]
pub struct Located {
    /// How.
    pub outcome: Outcome,
    /// The cursor.
    pub cursor: u64,
    /// What to leave out at first.
    pub had: Option<Arc<Had>>,
    /// Messages waiting there.
    pub backlog: usize,
}

impl Channel {
    pub(crate) fn new(name: Arc<str>, id: u64, born: Option<Box<[i64]>>, now_ms: i64) -> Self {
        Self {
            name,
            id,
            watchers: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            attachments: AtomicUsize::new(0),
            touched: AtomicI64::new(now_ms),
            end: AtomicU64::new(0),
            state: Mutex::new(State { born, ..State::default() }),
        }
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

    /// No longer.
    pub fn unwatch(&self, bit: u64) {
        self.watchers.fetch_and(!bit, Ordering::SeqCst);
    }

    /// Bits of those who are now to be told of news: watchers that were not told before.
    pub fn announce(&self) -> u64 {
        let watchers = self.watchers.load(Ordering::SeqCst);
        watchers & !self.pending.fetch_or(watchers, Ordering::SeqCst)
    }

    /// A told shard is about to look.
    pub fn noticed(&self, bit: u64) {
        self.pending.fetch_and(!bit, Ordering::SeqCst);
    }

    /// Counts attachments up or down.
    pub fn attached(&self, by: isize) {
        self.attachments.fetch_add(by as usize, Ordering::Relaxed); // two's complement: adding -1 subtracts
    }

    /// Attachments on this node.
    pub fn attachments(&self) -> usize {
        self.attachments.load(Ordering::Relaxed)
    }

    /// Messages held, and their bytes.
    pub fn held(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.ring.len(), state.bytes)
    }

    /// Appends; returns the message's cost and its number.
    pub fn append(&self, message: Message) -> (usize, u64) {
        let cost = message.cost();
        let state = &mut *self.state.lock();
        let (partition, next) = (message.partition.index, message.offset + 1);
        match state.feeds.iter_mut().find(|feed| feed.partition == partition) {
            Some(feed) => {
                debug_assert!(feed.next < next, "offsets of a partition rise");
                feed.next = next;
            }
            None => state.feeds.push(Feed { partition, next, dropped: 0 }),
        }
        state.bytes += cost;
        state.ring.push_back(Arc::new(message));
        let end = state.end();
        self.end.store(end, Ordering::Release);
        (cost, end - 1)
    }

    /// Drops the oldest message, unless it is numbered `limit` or higher. Returns the bytes freed.
    pub fn drop_oldest(&self, limit: u64) -> Option<usize> {
        let state = &mut *self.state.lock();
        if state.base >= limit {
            return None;
        }
        let message = state.ring.pop_front()?;
        state.base += 1;
        let cost = message.cost();
        state.bytes -= cost;
        if let Some(feed) = state.feeds.iter_mut().find(|feed| feed.partition == message.partition.index) {
            feed.dropped = message.offset + 1;
        }
        let mut freed = cost;
        if state.ring.is_empty() {
            state.ring.shrink_to_fit();
            freed += state.cached_bytes();
            state.frames = Vec::new();
        }
        Some(freed)
    }

    /// For each partition that fed this channel, one past the newest message that was dropped.
    pub fn dropped(&self) -> SmallVec<[(u16, i64); 1]> {
        self.state.lock().feeds.iter().map(|feed| (feed.partition, feed.dropped)).collect()
    }

    /// Where `start` is.
    pub fn locate(&self, start: &Start, partitions: &Partitions) -> Located {
        let state = &*self.state.lock();
        let end = state.end();
        let fresh =
            |cursor: u64| Located { outcome: Outcome::Fresh, cursor, had: None, backlog: (end - cursor) as usize };
        match start {
            Start::Live => fresh(end),
            Start::Rewind { count, since_ms } => {
                let held = state.ring.len();
                let young = state.ring.iter().position(|message| message.timestamp >= *since_ms).unwrap_or(held);
                let most = (*count).min(REWIND_MESSAGES_MAX);
                fresh(state.base + young.max(held.saturating_sub(most)) as u64)
            }
            Start::After(position) => state.after(position, partitions),
        }
    }

    /// The next frame behind `from`, at most [`FRAME_BYTES`] of messages or one message.
    pub fn frame(&self, wire: Wire, spelling: Option<&Arc<str>>, from: u64, context: &Context<'_>) -> Given {
        let state = &mut *self.state.lock();
        if let Some(cached) = state
            .frames
            .iter()
            .find(|cached| cached.wire == wire && cached.from == from && cached.spelling.as_ref() == spelling)
        {
            // One made before more came is out of date, unless there was no room for more.
            if cached.full || cached.frame.to == state.end() {
                return Given::Frame(cached.frame.clone());
            }
        }
        let (given, full) = state.build(&self.name, wire, spelling, from, &Filter::default(), context);
        if let Given::Frame(frame) = &given {
            let made = frame.bytes.len();
            let gone = state.cache(Cached { wire, spelling: spelling.cloned(), from, full, frame: frame.clone() });
            context.memory.fetch_add(made, Ordering::Relaxed);
            context.memory.fetch_sub(gone, Ordering::Relaxed);
        }
        given
    }

    /// The same for one receiver that is not to be given everything.
    pub fn filtered_frame(
        &self,
        wire: Wire,
        spelling: Option<&Arc<str>>,
        from: u64,
        filter: &Filter,
        context: &Context<'_>,
    ) -> Given {
        self.state.lock().build(&self.name, wire, spelling, from, filter, context).0
    }

    /// Where the channel stands now, printed.
    pub fn position(&self, key: Key, partitions: &Partitions) -> String {
        let state = self.state.lock();
        state.print(&self.name, key, partitions, state.end(), None)
    }

    /// Messages from `from` on, at most `limit`, each with the position behind it; and the next cursor.
    pub fn take(
        &self,
        from: u64,
        limit: usize,
        had: Option<&Had>,
        key: Key,
        partitions: &Partitions,
    ) -> Option<(Vec<Taken>, u64)> {
        let state = self.state.lock();
        if from < state.base {
            return None;
        }
        let mut taken = Vec::new();
        let mut cursor = from;
        while cursor < state.end() && taken.len() < limit {
            let message = &state.ring[(cursor - state.base) as usize];
            cursor += 1;
            if had.is_none_or(|had| !had.has(message)) {
                let position = state.print(&self.name, key, partitions, cursor, had);
                taken.push(Taken { message: Arc::clone(message), position });
            }
        }
        Some((taken, cursor))
    }

    /// The oldest cursor held.
    pub fn base(&self) -> u64 {
        self.state.lock().base
    }

    /// The messages held, oldest first.
    pub fn messages(&self) -> Vec<Arc<Message>> {
        self.state.lock().ring.iter().cloned().collect()
    }
}

/// A message with the position behind it.
#[derive(Debug)]
pub struct Taken {
    /// The message.
    pub message: Arc<Message>,
    /// Printed.
    pub position: String,
}

impl State {
    fn end(&self) -> u64 {
        self.base + self.ring.len() as u64
    }

    fn after(&self, position: &Position, partitions: &Partitions) -> Located {
        let found = |outcome, cursor: u64, had: Option<Arc<Had>>, backlog| Located { outcome, cursor, had, backlog };
        let list = partitions.list();
        let known = |entry: &Entry| list.iter().any(|p| p.is_current() && p.tag == entry.tag);
        if position.entries.is_empty() || !position.entries.iter().all(known) {
            return found(Outcome::Foreign, self.end(), None, 0);
        }
        let mut outcome = Outcome::Resumed;
        let mut next = vec![0; list.len()];
        for (index, partition) in list.iter().enumerate().filter(|(_, partition)| partition.is_current()) {
            // A partition that the position does not know was added later: all of it is news.
            let offset = position.entry(partition).map_or(0, |entry| entry.offset);
            next[index] = offset;
            if offset > partition.next() {
                return found(Outcome::Ahead, self.end(), None, 0);
            }
            if offset < self.floor(index, partition.start) {
                outcome = Outcome::Gap;
            }
        }
        let had = Had { next: next.into(), until: self.end() };
        let first = match &self.feeds[..] {
            // Fed by one partition, the ring is in offset order.
            [_] => self.ring.partition_point(|message| had.has(message)),
            _ => self.ring.iter().position(|message| !had.has(message)).unwrap_or(self.ring.len()),
        };
        let rest = self.ring.len() - first;
        let again = match &self.feeds[..] {
            [_] => 0,
            _ => self.ring.iter().skip(first).filter(|message| had.has(message)).count(),
        };
        let had = (again > 0).then(|| Arc::new(had));
        found(outcome, self.base + first as u64, had, rest - again)
    }

    /// Everything of this channel in this partition from here on is in the ring.
    fn floor(&self, partition: usize, start: i64) -> i64 {
        let feed = self.feeds.iter().find(|feed| usize::from(feed.partition) == partition);
        let born = self.born.as_ref().and_then(|born| born.get(partition)).copied();
        start.max(feed.map_or(0, |feed| feed.dropped)).max(born.unwrap_or(0))
    }

    /// Keeps a frame for others; returns the bytes of those it took the place of.
    fn cache(&mut self, new: Cached) -> usize {
        let before: usize = self.cached_bytes();
        let len = new.frame.bytes.len();
        let same = |old: &Cached| old.wire == new.wire && old.from == new.from && old.spelling == new.spelling;
        self.frames.retain(|old| !same(old));
        if self.frames.len() >= FRAMES_CACHED {
            self.frames.remove(0);
        }
        self.frames.push(new);
        before + len - self.cached_bytes()
    }

    fn cached_bytes(&self) -> usize {
        self.frames.iter().map(|cached| cached.frame.bytes.len()).sum()
    }

    /// Where a frame beginning at ring index `start` ends, and whether for lack of room.
    fn extent(&self, start: usize, keep: impl Fn(&Message) -> bool) -> (usize, bool) {
        let mut bytes = 0;
        let mut count = 0;
        for (index, message) in self.ring.iter().enumerate().skip(start) {
            if !keep(message) {
                continue;
            }
            bytes += message.size();
            count += 1;
            if count > 1 && (bytes > FRAME_BYTES || count > FRAME_MESSAGES) {
                return (index, true);
            }
        }
        (self.ring.len(), false)
    }

    fn build(
        &mut self,
        name: &str,
        wire: Wire,
        spelling: Option<&Arc<str>>,
        from: u64,
        filter: &Filter,
        context: &Context<'_>,
    ) -> (Given, bool) {
        let Some(start) = from.checked_sub(self.base) else { return (Given::Lost, false) };
        let start = start as usize;
        if start >= self.ring.len() {
            return (Given::Nothing, false);
        }
        let had = filter.had.as_deref();
        let keep = |message: &Message| {
            had.is_none_or(|had| !had.has(message))
                && filter.own.as_deref().is_none_or(|own| message.meta(|meta| &meta.connection_id) != Some(own))
        };
        let (stop, full) = self.extent(start, keep);
        let to = self.base + stop as u64;
        let serial = self.print(name, context.key, context.partitions, to, had);
        let mut made = 0;
        let parts: SmallVec<[&[u8]; 64]> = self
            .ring
            .range(start..stop)
            .filter(|message| keep(message))
            .map(|message| {
                let (bytes, new) = message.encoded(wire);
                made += if new { bytes.len() } else { 0 };
                bytes
            })
            .collect();
        let messages = parts.len();
        let given = if messages == 0 {
            Given::Skipped(to)
        } else {
            context.stats.frames.add(1);
            context.stats.frame_messages.add(messages as u64);
            let bytes = wire.frame(spelling.map_or(name, |spelling| spelling), &serial, &parts).into();
            Given::Frame(Frame { bytes, to, messages: messages as u32 })
        };
        self.bytes += made;
        context.memory.fetch_add(made, Ordering::Relaxed);
        (given, full)
    }

    /// The position of a receiver that has been given everything below `to` (see the module's rules).
    fn print(&self, name: &str, key: Key, partitions: &Partitions, to: u64, had: Option<&Had>) -> String {
        let list = partitions.list();
        let mut next: SmallVec<[i64; 8]> = list.iter().map(|partition| partition.next()).collect();
        for feed in &self.feeds {
            let index = usize::from(feed.partition);
            let mut waiting = self.ring.iter().skip((to - self.base) as usize);
            let first = waiting.find(|message| message.partition.index == feed.partition).map(|message| message.offset);
            next[index] = first.unwrap_or_else(|| feed.next.max(next[index]));
        }
        let had = had.filter(|had| !had.is_past(to));
        let entries = list.iter().zip(next).enumerate().filter(|(_, (partition, _))| partition.is_current());
        let entries = entries.map(|(index, (partition, next))| Entry {
            tag: partition.tag,
            partition: partition.number,
            offset: next.max(had.map_or(0, |had| had.next[index])),
            epoch: partition.epoch(),
        });
        position::print(key, name, entries)
    }
}

#[cfg(test)]
mod tests;
