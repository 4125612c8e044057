//! The messages of one channel that memory holds, and what is made of them. Locked by the channel.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::place::{Filter, Had, Located, Outcome};
use super::{Context, Frame, Given};
use crate::limits::{FRAME_BYTES, FRAME_MESSAGES, FRAMES_CACHED};
use crate::message::{Field, Message};
use crate::partition::Partitions;
use crate::position::{self, Entry, Key, Position};
use crate::wire::Wire;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) messages: VecDeque<Message>,
    pub(super) base: u64,
    pub(super) bytes: usize,
    pub(super) feeds: SmallVec<[Feed; 1]>,
    pub(super) frames: Vec<Cached>,
    /// What earlier channels of any name dropped before this one was born, by partition.
    pub(super) born: Option<Box<[i64]>>,
}

/// One partition that has fed this channel.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) partition: u16,
    /// One past the newest message of it.
    pub(super) next: i64,
    /// One past the newest message of it that the ring has dropped.
    pub(super) dropped: i64,
    /// The number of its newest message.
    last: u64,
    found: Cell<Option<Found>>,
}

/// The first message of a partition that is numbered `from` or higher has this number and offset.
#[derive(Debug, Clone, Copy)]
struct Found {
    from: u64,
    number: u64,
    offset: i64,
}

/// A frame kept for sharing, and who may share it.
#[derive(Debug)]
pub(super) struct Cached {
    pub(super) wire: Wire,
    pub(super) spelling: Option<Arc<str>>,
    pub(super) from: u64,
    /// It ends where it does for lack of room, not of messages.
    pub(super) full: bool,
    pub(super) frame: Frame,
}

impl Ring {
    /// Appends; returns the message's cost.
    pub(super) fn push(&mut self, message: Message) -> usize {
        let cost = message.cost();
        let (partition, next, last) = (message.partition.index, message.offset + 1, self.end());
        match self.feeds.iter_mut().find(|feed| feed.partition == partition) {
            Some(feed) => {
                debug_assert!(feed.next < next, "offsets of a partition rise");
                feed.next = next;
                feed.last = last;
            }
            None => self.feeds.push(Feed { partition, next, dropped: 0, last, found: Cell::new(None) }),
        }
        self.bytes += cost;
        self.messages.push_back(message);
        cost
    }

    /// Drops the oldest message; returns the bytes freed.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let message = self.messages.pop_front()?;
        self.base += 1;
        let cost = message.cost();
        self.bytes -= cost;
        if let Some(feed) = self.feeds.iter_mut().find(|feed| feed.partition == message.partition.index) {
            feed.dropped = message.offset + 1;
        }
        let mut freed = cost;
        if self.messages.is_empty() {
            self.messages.shrink_to_fit();
            freed += self.cached_bytes();
            self.frames = Vec::new();
        }
        Some(freed)
    }

    pub(super) fn end(&self) -> u64 {
        self.base + self.messages.len() as u64
    }

    pub(super) fn after(&self, position: &Position, partitions: &Partitions) -> Located {
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
            [_] => self.messages.partition_point(|message| had.has(message)),
            _ => self.messages.iter().position(|message| !had.has(message)).unwrap_or(self.messages.len()),
        };
        let rest = self.messages.len() - first;
        let again = match &self.feeds[..] {
            [_] => 0,
            _ => self.messages.iter().skip(first).filter(|message| had.has(message)).count(),
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
    pub(super) fn cache(&mut self, new: Cached) -> usize {
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

    pub(super) fn build(
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
        if start >= self.messages.len() {
            return (Given::Nothing, false);
        }
        let had = filter.had.as_deref();
        let keep = |message: &Message| {
            had.is_none_or(|had| !had.has(message))
                && filter.own.as_deref().is_none_or(|own| message.field(Field::ConnectionId) != Some(own))
        };
        let (mut parts, mut bytes, mut made) = (SmallVec::<[&[u8]; 64]>::new(), 0, 0);
        let mut stop = self.messages.len();
        for (index, message) in self.messages.iter().enumerate().skip(start).filter(|(_, message)| keep(message)) {
            let (part, new) = message.encoded(wire);
            made += new;
            bytes += part.len();
            if !parts.is_empty() && (bytes > FRAME_BYTES || parts.len() == FRAME_MESSAGES) {
                stop = index;
                break;
            }
            parts.push(part);
        }
        let full = stop < self.messages.len();
        let to = self.base + stop as u64;
        let serial = self.print(name, context.key, context.partitions, to, had);
        let messages = parts.len();
        let given = if messages == 0 {
            Given::Skipped(to)
        } else {
            context.stats.frames.add(1);
            context.stats.frame_messages.add(messages as u64);
            let bytes = wire.frame(spelling.map_or(name, |spelling| spelling), &serial, &parts);
            Given::Frame(Frame { bytes, to, messages: messages as u32 })
        };
        self.bytes += made;
        context.memory.fetch_add(made, Ordering::Relaxed);
        (given, full)
    }

    /// Offset of the first message of a partition that is numbered `to` or higher. Who walks the ring asks for one place
    /// after the other; what was found for one answers for all up to it.
    fn first_waiting(&self, feed: &Feed, to: u64) -> Option<i64> {
        if feed.last < to {
            return None;
        }
        if let Some(found) = feed.found.get().filter(|found| (found.from..=found.number).contains(&to)) {
            return Some(found.offset);
        }
        let begin = (to - self.base) as usize;
        let mut waiting = self.messages.range(begin..).zip(to..);
        let (message, number) = waiting.find(|(message, _)| message.partition.index == feed.partition)?;
        feed.found.set(Some(Found { from: to, number, offset: message.offset }));
        Some(message.offset)
    }

    /// The position of a receiver that has been given everything below `to` (see the module's rules).
    pub(super) fn print(&self, name: &str, key: Key, partitions: &Partitions, to: u64, had: Option<&Had>) -> String {
        let list = partitions.list();
        let mut next: SmallVec<[i64; 8]> = list.iter().map(|partition| partition.next()).collect();
        for feed in &self.feeds {
            let index = usize::from(feed.partition);
            next[index] = self.first_waiting(feed, to).unwrap_or_else(|| feed.next.max(next[index]));
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
