//! The newest message of each key, for channels that records of a topic with snapshots reach.
//!
//! It is what the ring would be if all that a newer message of the same key has superseded were left out, and nothing
//! else: entries in the order of their numbers, also of those that the ring has dropped. So a cursor may walk here
//! instead of in the ring, from any place on, and is given what is newest; once it has everything it goes on in the
//! ring. Who has just come walks from the beginning, and so does who came back to a place that the ring has passed, or
//! was passed by it: they skip what was superseded, and are told that they do. No walker costs memory.
//!
//! Entries without a key (of other topics, or presence) are nobody's to supersede. They are here as long as the ring holds
//! them, and then they are lost: who would have had to be given them cannot walk on and begins anew. So it is with the
//! end of a key, and with what leaves for lack of room.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::frames::Behind;
use super::place::{Had, Located, Outcome, Withheld};
use super::ring::{Feed, Ring};
use super::versions::ALL;
use super::{Ask, Context, Frame, Given, Taken};
use crate::kind::Kind;
use crate::limits::{FRAME_BYTES, LATEST_OVERHEAD, MESSAGE_OVERHEAD};
use crate::message::Message;
use crate::partition::{Partition, Partitions};
use crate::position::Key;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Latest {
    entries: BTreeMap<u64, Slot>,
    numbers: HashMap<Arc<[u8]>, u64>,
    bytes: usize,
    /// One past the number of the newest entry that is lost.
    lost: u64,
    /// By partition: one past the offset of the newest entry that is lost.
    lost_at: SmallVec<[(u16, i64); 1]>,
    /// Keys have left for lack of room.
    is_cut: bool,
}

#[derive(Debug)]
struct Slot {
    message: Message,
    /// None for what nothing supersedes.
    key: Option<Arc<[u8]>>,
    /// It takes its key back.
    is_end: bool,
}

impl Latest {
    /// Of a channel whose entries below this number are in the ring alone.
    pub(super) fn new(feeds: &[Feed], number: u64) -> Self {
        let lost_at = feeds.iter().map(|feed| (feed.partition, feed.next)).collect();
        Self { lost: number, lost_at, ..Self::default() }
    }

    /// Takes an entry that was appended without a key.
    pub(super) fn put_other(&mut self, number: u64, message: Message) {
        self.entries.insert(number, Slot { message, key: None, is_end: false });
    }

    /// Takes the newest of a key; `is_end` says that there is no value. May grow by `room` bytes: beyond that the oldest
    /// leave.
    pub(super) fn put(&mut self, number: u64, message: Message, key: &[u8], is_end: bool, room: usize) {
        let most = self.bytes + room;
        self.take_back(key);
        let key: Arc<[u8]> = key.into();
        let slot = Slot { message, key: Some(Arc::clone(&key)), is_end };
        self.bytes += slot.cost();
        self.entries.insert(number, slot);
        self.numbers.insert(key, number);
        while self.bytes > most {
            let Some(oldest) = self.entries.iter().find(|(_, slot)| slot.key.is_some()).map(|(&number, _)| number)
            else {
                return;
            };
            self.lose(oldest);
            self.is_cut = true;
        }
    }

    /// Forgets the newest of a key.
    pub(super) fn take_back(&mut self, key: &[u8]) {
        if let Some(slot) = self.numbers.remove(key).and_then(|number| self.entries.remove(&number)) {
            self.bytes -= slot.cost();
        }
    }

    /// The ring has dropped an entry.
    pub(super) fn dropped(&mut self, number: u64) {
        if self.entries.get(&number).is_some_and(|slot| slot.key.is_none() || slot.is_end) {
            self.lose(number);
        }
    }

    fn lose(&mut self, number: u64) {
        let Some(slot) = self.entries.remove(&number) else { return };
        self.bytes -= slot.cost();
        if let Some(key) = &slot.key {
            self.numbers.remove(key);
        }
        self.lost = self.lost.max(number + 1);
        let (partition, next) = (slot.message.partition.index, slot.message.offset + 1);
        match self.lost_at.iter_mut().find(|(other, _)| *other == partition) {
            Some((_, lost)) => *lost = next.max(*lost),
            None => self.lost_at.push((partition, next)),
        }
    }

    /// What is in the log no more is lost, and nothing leads on to `end`: walkers begin anew. Of a log that was cut, older
    /// values of the same keys may be there that nobody holds.
    pub(super) fn interrupt(&mut self, end: u64) {
        let is_gone = |slot: &Slot| !slot.message.partition.has(slot.message.offset);
        let gone: Vec<u64> = self.entries.iter().filter(|(_, slot)| is_gone(slot)).map(|(&number, _)| number).collect();
        for number in gone {
            self.is_cut |= self.entries[&number].message.partition.has(0);
            self.lose(number);
        }
        self.lost = end;
    }

    /// What a walker is given from a number on, that came without a key only from `others_from` on.
    fn range(&self, from: u64, others_from: u64) -> impl Iterator<Item = (u64, &Message)> {
        let is_given = move |(number, slot): &(&u64, &Slot)| slot.key.is_some() || **number >= others_from;
        self.entries.range(from..).filter(is_given).map(|(&number, slot)| (number, &slot.message))
    }

    /// Whether everything from this number on is here, but for what was superseded.
    pub(super) fn covers(&self, from: u64) -> bool {
        from >= self.lost
    }

    fn has_others(&self) -> bool {
        self.numbers.len() < self.entries.len()
    }

    /// Bytes that it holds, at most: with one encoding of each message.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }
}

impl Slot {
    /// What has no key is held by the ring as long as here.
    fn cost(&self) -> usize {
        let keyed = |key: &Arc<[u8]>| LATEST_OVERHEAD + key.len() + MESSAGE_OVERHEAD + 2 * self.message.size();
        self.key.as_ref().map_or(0, keyed)
    }
}

impl Ring {
    /// The newest of each key, from the beginning.
    pub(super) fn snapshot(&self, outcome: Outcome) -> Option<Located> {
        let latest = self.latest.as_deref().filter(|latest| !latest.is_empty())?;
        let others_from = if latest.has_others() { self.end() } else { 0 };
        let backlog = latest.numbers.len();
        let conflates = Some(others_from);
        let outcome = if outcome == Outcome::Fresh && latest.is_cut { Outcome::Partial } else { outcome };
        Some(Located { outcome, cursor: 0, since: self.end(), had: None, backlog, conflates })
    }

    /// What a cursor is told that the ring has passed.
    pub(super) fn passed(&self, from: u64) -> Given {
        let walks = self.latest.as_ref().is_some_and(|latest| latest.covers(from));
        if walks { Given::Conflated } else { Given::Lost }
    }

    /// Where a client goes on that had this, which the ring has passed: with what is newest of the rest, or anew.
    pub(super) fn conflated(&self, had: Had, list: &[Arc<Partition>]) -> Located {
        let Some(latest) = self.latest.as_deref() else { return Located::default() };
        let next = |partition: u16| had.next.get(usize::from(partition)).copied().unwrap_or(0);
        let is_lost = latest.lost_at.iter().any(|&(partition, lost)| next(partition) < lost);
        let is_unread = self.feeds.iter().any(|feed| next(feed.partition) < list[usize::from(feed.partition)].start);
        if is_lost || is_unread {
            let anew = self.snapshot(Outcome::Gap);
            let live =
                || Located { outcome: Outcome::Gap, cursor: self.end(), since: self.end(), ..Located::default() };
            return anew.unwrap_or_else(live);
        }
        let backlog = latest.range(0, 0).filter(|(_, entry)| entry.kind == Kind::Message && !had.has(entry)).count();
        let had = Some(Arc::new(had));
        let (cursor, since, conflates) = (0, self.end(), Some(0));
        Located { outcome: Outcome::Conflated, cursor, since, had, backlog, conflates }
    }

    /// The next frame for a walker.
    pub(super) fn build_latest(
        &mut self,
        name: &str,
        ask: &Ask<'_>,
        others_from: u64,
        withheld: &Withheld,
        context: &Context<'_>,
    ) -> (Given, bool) {
        let Some(latest) = self.latest.as_deref().filter(|latest| ask.from == 0 || latest.covers(ask.from)) else {
            return (Given::Lost, false);
        };
        let (mut parts, mut bytes, mut made, mut kind) = (SmallVec::<[Cow<'_, [u8]>; 64]>::new(), 0, 0, Kind::Message);
        let mut behind = Behind::of(ask.wire);
        let mut stop = None;
        for (number, entry) in latest.range(ask.from, others_from) {
            if ask.filter.is_some() && number > ask.from && context.is_filtered_out() {
                stop = Some(number);
                break;
            }
            if !ask.wants(withheld, entry, context) {
                continue;
            }
            if parts.is_empty() {
                kind = entry.kind;
            }
            let (part, new) = self.part(entry, number, ask.wire, context);
            made += new;
            bytes += part.len();
            let is_full = parts.len() == ask.wire.messages_max() || bytes > FRAME_BYTES;
            if entry.kind != kind || (is_full && !parts.is_empty()) {
                stop = Some(number);
                break;
            }
            behind.push(number, entry);
            parts.push(part);
        }
        let parts: SmallVec<[&[u8]; 64]> = parts.iter().map(AsRef::as_ref).collect();
        let to = stop.unwrap_or(self.end());
        let given = if parts.is_empty() {
            if to > ask.from { Given::Skipped(to) } else { Given::Nothing }
        } else {
            let serials = behind.serials(to, |cursor| {
                let had = withheld.had.clone();
                let reached = Located { cursor, conflates: ask.conflates, had, ..Located::default() };
                self.print_latest(name, context.key, context.partitions, &reached)
            });
            context.stats.frames.add(1);
            context.stats.frame_messages.add(parts.len() as u64);
            Given::Frame(Frame::made(ask, kind, name, (to, ALL), (&serials, &behind), &parts))
        };
        drop(parts);
        self.bytes += made;
        self.pool(context).fetch_add(made, Ordering::Relaxed);
        (given, stop.is_some())
    }

    /// The next messages for a walker inside the process, as [`Channel::take`] gives them.
    ///
    /// [`Channel::take`]: super::Channel::take
    pub(super) fn take_latest(
        &self,
        name: &str,
        place: &Located,
        limit: usize,
        key: Key,
        partitions: &Partitions,
    ) -> Option<(Vec<Taken>, u64)> {
        let latest = self.latest.as_deref().filter(|latest| place.cursor == 0 || latest.covers(place.cursor))?;
        let is_given =
            |entry: &Message| entry.kind == Kind::Message && !place.had.as_ref().is_some_and(|had| had.has(entry));
        let waiting = latest.range(place.cursor, place.conflates.unwrap_or(0)).filter(|(_, entry)| is_given(entry));
        let mut taken = Vec::new();
        for (number, entry) in waiting {
            if taken.len() == limit {
                return Some((taken, number));
            }
            let behind = Located { cursor: number + 1, had: place.had.clone(), ..Located::default() };
            let position = self.print_latest(name, key, partitions, &behind);
            taken.push(Taken { message: entry.clone(), position });
        }
        Some((taken, self.end()))
    }

    /// The position of a walker that stands there.
    pub(super) fn print_latest(&self, name: &str, key: Key, partitions: &Partitions, at: &Located) -> String {
        let latest = self.latest.as_deref();
        self.print_waiting(name, key, partitions, (at.cursor, at.had.as_deref()), |feed| {
            let mut waiting = latest?.range(at.cursor, at.conflates.unwrap_or(0));
            waiting.find(|(_, entry)| entry.partition.index == feed.partition).map(|(_, entry)| entry.offset)
        })
    }
}
