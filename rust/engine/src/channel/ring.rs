//! The entries of one channel that memory holds, messages most of them, and what is made of them. Locked by the channel.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Dropped;
use super::deltas::Deltas;
use super::frames::Cached;
use super::latest::Latest;
use super::place::{Had, Located, OPEN, Outcome, Start};
use super::replay::Reading;
use super::versions::{ALL, Known, Shown, Versions};
use crate::change::{Change, DELETE, UPDATE};
use crate::feeding::{Feeding, Recognised};
use crate::kind::{Kind, Kinds};
use crate::limits::{ENTRIES_LISTED, REWIND_MESSAGES_MAX};
use crate::message::{Message, place_of};
use crate::partition::{Partition, Partitions};
use crate::position::{self, Entry, Key, Position};
use crate::presence::Members;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) entries: VecDeque<Message>,
    /// How many of them are no publications: of another kind than messages, or changes of these.
    pub(super) others: usize,
    /// One past the number of the newest of presence.
    pub(super) presence: u64,
    pub(super) base: u64,
    /// What its entries take, each in full, and what was made of them for it alone.
    pub(super) bytes: usize,
    pub(super) feeds: SmallVec<[Feed; 1]>,
    pub(super) frames: Vec<Cached>,
    /// Of messages that were changed or annotated; most channels have none.
    pub(super) versions: Option<Box<Versions>>,
    /// If ever somebody asked for them.
    pub(super) deltas: Option<Box<Deltas>>,
    /// The newest of each key, if records of a topic with snapshots have come.
    pub(super) latest: Option<Box<Latest>>,
    /// What earlier channels of any name dropped before this one was born, by partition.
    pub(super) born: Option<Box<[i64]>>,
    /// How far it has been read, if it is a replay's.
    pub(super) reading: Option<Box<Reading>>,
    /// Who is present, if ever somebody was: under the same lock, so that a place in the ring has its set.
    pub(super) members: Option<Box<Members>>,
}

/// One partition that has fed this channel, of those that positions speak of.
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

impl Ring {
    /// Appends; returns the memory that it takes, beside what other rings have paid of it.
    pub(super) fn push(&mut self, message: Message) -> usize {
        let cost = message.cost();
        let (partition, next, last) = (message.partition.index, message.offset + 1, self.end());
        self.others += usize::from(!message.is_publication());
        if message.kind == Kind::Presence {
            self.presence = last + 1;
        }
        match self.feeds.iter_mut().find(|feed| feed.partition == partition) {
            _ if !message.partition.has_position => {}
            Some(feed) => {
                debug_assert!(feed.next <= next, "offsets rise, and stay where a record makes two entries");
                feed.next = next;
                feed.last = last;
            }
            None => self.feeds.push(Feed { partition, next, dropped: 0, last, found: Cell::new(None) }),
        }
        self.bytes += cost;
        if let Some(latest) = &mut self.latest {
            latest.put_other(last, message.clone());
        }
        let held = message.enter(cost);
        self.entries.push_back(message);
        held
    }

    /// Appends what a record does to a message; what it costs, and the number of its last entry. None if nothing comes of
    /// it.
    pub(super) fn change(&mut self, change: &Change<'_>, new: &Message) -> Option<(isize, u64)> {
        let serial = match change {
            Change::Version(version) => version.serial,
            Change::Annotation(annotation) => annotation.serial,
        };
        let mut versions = self.versions.take().unwrap_or_default();
        let create = if versions.needs_create(serial, change) { self.published(serial) } else { None };
        let create = create.as_ref().map(|(number, message)| (*number, message));
        let number = self.end();
        let (first, second) = match change {
            Change::Version(version) => (versions.change(version, new, number, create), None),
            Change::Annotation(annotation) => {
                (versions.annotate(annotation, new, number, create), Some(annotation.entry(new)))
            }
        };
        self.versions = Some(versions);
        let mut cost = 0;
        if let Some((entry, beside)) = first {
            self.bytes = self.bytes.wrapping_add_signed(beside);
            cost += beside + self.push(entry) as isize;
        }
        if let Some(entry) = second {
            cost += self.push(entry) as isize;
        }
        (self.end() > number).then(|| (cost, self.end() - 1))
    }

    /// The message of this serial as it was published, with its number, if it is held. Looked for from the newest on.
    fn published(&self, serial: &str) -> Option<(u64, Message)> {
        let (offset, number, topic) = place_of(serial)?;
        let is_there = |entry: &Message| entry.partition.number == number && *entry.partition.topic == *topic;
        let mut there = self.entries.iter().enumerate().rev().filter(|(_, entry)| is_there(entry));
        let (index, entry) = there.find(|(_, entry)| entry.offset <= offset && entry.is_publication())?;
        (entry.offset == offset).then(|| (self.base + index as u64, entry.clone()))
    }

    /// What is known of a message.
    pub(super) fn known(&self, serial: &str) -> Option<Known> {
        let create = self.published(serial).map(|(_, message)| message);
        match &self.versions {
            Some(versions) => versions.known(serial, create.as_ref()),
            None => Versions::default().known(serial, create.as_ref()),
        }
    }

    /// A message as it was published, and each of its updates and deletes; oldest first.
    pub(super) fn versions(&self, serial: &str) -> Vec<Message> {
        let create = self.published(serial).map(|(_, create)| create);
        let numbers = self.versions.iter().flat_map(|versions| versions.numbers(serial));
        let changes = numbers.map(|number| self.entries[(number - self.base) as usize].clone());
        create.into_iter().chain(changes.filter(|entry| matches!(entry.action, UPDATE | DELETE))).collect()
    }

    /// A publication in its newest version below a number, whole.
    pub(super) fn version_of(&self, message: &Message, until: u64) -> Option<Message> {
        self.versions.as_ref()?.version_of(message, until, (&self.entries, self.base))
    }

    /// Makes of publications their newest versions.
    pub(super) fn show_newest(&self, messages: &mut [Message]) {
        for message in messages {
            if let Some(newest) = self.version_of(message, u64::MAX) {
                *message = newest;
            }
        }
    }

    /// How an entry is shown as it comes; see [`Versions::shown`].
    pub(super) fn shown(&self, entry: &Message, number: u64, since: u64) -> Shown {
        self.versions.as_ref().map_or(Shown::As(None, ALL), |versions| versions.shown(entry, number, since))
    }

    /// Drops the oldest message; returns the bytes freed.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let message = self.entries.pop_front()?;
        let versions = self.versions.as_mut().map_or(0, |versions| versions.pop(self.base));
        let deltas = self.deltas.as_mut().map_or(0, |deltas| deltas.forget(self.base));
        self.base += 1;
        self.others -= usize::from(!message.is_publication());
        let cost = message.cost();
        let mut freed = message.leave(cost) + versions + deltas;
        self.bytes -= cost + versions + deltas;
        if let Some(feed) = self.feeds.iter_mut().find(|feed| feed.partition == message.partition.index) {
            feed.dropped = message.offset + 1;
        }
        if let Some(latest) = &mut self.latest {
            latest.dropped(self.base - 1);
        }
        if self.entries.is_empty() {
            self.entries.shrink_to_fit();
            freed += self.cached_bytes();
            self.frames = Vec::new();
            self.versions = None;
            self.deltas = None;
        }
        Some(freed)
    }

    /// Nothing leads on from here: whoever stands at any place so far is lost. Drops all that is held.
    pub(super) fn interrupt(&mut self) -> Dropped {
        let mut dropped = Dropped::default();
        while let Some(bytes) = self.pop() {
            dropped.messages += 1;
            dropped.bytes += bytes;
        }
        self.base += 1;
        let end = self.end();
        if let Some(latest) = &mut self.latest {
            let before = latest.bytes();
            latest.interrupt(end);
            dropped.newest = before - latest.bytes();
            dropped.bytes += dropped.newest;
        }
        dropped.bytes += self.forget_frames();
        dropped
    }

    pub(super) fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// Whether there is presence from this number on.
    pub(super) fn has_presence_from(&self, from: u64) -> bool {
        self.presence > from
    }

    /// How many of the entries are messages.
    pub(super) fn messages(&self) -> usize {
        self.entries.len() - self.others
    }

    /// With the earliest message that both limits admit; of what else stands behind it, nothing.
    fn rewound(&self, count: usize, since_ms: i64) -> Located {
        let held = self.entries.len();
        let young = self.entries.iter().position(|entry| entry.is_publication() && entry.timestamp >= since_ms);
        let most = count.min(REWIND_MESSAGES_MAX);
        let last = self.entries.iter().enumerate().rev().filter(|(_, entry)| entry.is_publication()).take(most).last();
        let first = young.unwrap_or(held).max(last.map_or(held, |(index, _)| index));
        let backlog = self.entries.range(first..).filter(|entry| entry.is_publication()).count();
        let had = Had { kinds: Kinds::MESSAGES, publications: true, until: self.end().into(), ..Had::default() };
        let had = (backlog < held - first).then(|| Arc::new(had));
        let (cursor, since) = (self.base + first as u64, self.end());
        Located { outcome: Outcome::Fresh, cursor, since, had, backlog, ..Located::default() }
    }

    /// Where `start` is.
    pub(super) fn find(&self, name: &str, start: &Start, partitions: &Partitions) -> Located {
        match start {
            Start::Live => self.live(Outcome::Fresh),
            Start::Rewind { count, since_ms } => self.rewound(*count, *since_ms),
            Start::After(position) => self.after(position, &partitions.feeding(name)),
            Start::Nowhere(outcome) => self.live(*outcome),
        }
    }

    /// With what comes next; of a channel with snapshots, with the newest of each key.
    fn live(&self, outcome: Outcome) -> Located {
        let live = || Located { outcome, cursor: self.end(), since: self.end(), ..Located::default() };
        self.snapshot(outcome).unwrap_or_else(live)
    }

    fn after(&self, position: &Position, feeding: &Feeding) -> Located {
        let mut outcome = match feeding.recognises(position) {
            Recognised::All => Outcome::Resumed,
            Recognised::NotAll => return self.live(Outcome::Ahead),
            Recognised::Less => Outcome::Gap,
            Recognised::Foreign => return self.live(Outcome::Foreign),
        };
        let list = feeding.list();
        let (mut next, mut epochs) = (vec![0; list.len()], vec![-1; list.len()]);
        let mut until = self.end();
        for partition in feeding.iter() {
            let index = usize::from(partition.index);
            let (offset, is_sound) = position.place_in(partition);
            next[index] = offset;
            epochs[index] =
                position.entry(partition).filter(|_| is_sound).map_or(partition.epoch(), |entry| entry.epoch);
            if !is_sound {
                outcome = Outcome::Gap;
            }
            if offset > self.reached_in(list, index) {
                if self.reading.is_none() {
                    return self.live(Outcome::Ahead);
                }
                until = OPEN;
            }
            if offset < self.floor(list, index) {
                outcome = Outcome::Gap;
            }
        }
        // What the ring holds of a topic that is gone is for those whose positions still speak of it.
        for partition in list.iter().filter(|partition| !partition.is_current()) {
            next[usize::from(partition.index)] = position.entry(partition).map_or(i64::MAX, |entry| entry.offset);
        }
        let (next, epochs) = (next.into(), epochs.into());
        let had = Had { kinds: Kinds::ALL, publications: false, next, epochs, until: until.into() };
        if outcome == Outcome::Gap && self.latest.is_some() {
            return self.conflated(had, list);
        }
        let first = self.first_new(&had);
        let given = self.entries.range(first..);
        let (mut again, mut backlog) = (0, given.len());
        // Fed by one partition, the messages are in offset order: behind the first there is none that it had.
        if self.feeds.len() > 1 || self.others > 0 {
            again = given.clone().filter(|entry| had.has(entry)).count();
            backlog = given.filter(|entry| entry.kind == Kind::Message && !had.has(entry)).count();
        }
        let had = (again > 0 || until == OPEN).then(|| Arc::new(had));
        let cursor = self.base + first as u64;
        Located { outcome, cursor, since: cursor, had, backlog, ..Located::default() }
    }

    /// The place of the first entry that positions speak of and that a client who had this did not have. What they do
    /// not speak of is given from there on, and only from there: of presence it is told the whole in any case.
    fn first_new(&self, had: &Had) -> usize {
        match &self.feeds[..] {
            [_] if self.others == 0 => self.entries.partition_point(|entry| had.has(entry)),
            [feed] => {
                // Looked for backwards from the last one: what was missed is to be given anyway.
                let behind = ((feed.last + 1).saturating_sub(self.base)) as usize;
                let told =
                    self.entries.range(..behind).enumerate().rev().filter(|(_, entry)| entry.kind.has_position());
                told.take_while(|(_, entry)| !had.has(entry)).last().map_or(self.entries.len(), |(index, _)| index)
            }
            _ => {
                let is_new = |entry: &Message| entry.kind.has_position() && !had.has(entry);
                self.entries.iter().position(is_new).unwrap_or(self.entries.len())
            }
        }
    }

    /// Everything of this channel in this partition from here on is in the ring.
    pub(super) fn floor(&self, list: &[Arc<Partition>], partition: usize) -> i64 {
        let feed = self.feeds.iter().find(|feed| usize::from(feed.partition) == partition);
        self.known_from(list, partition).max(feed.map_or(0, |feed| feed.dropped))
    }

    /// Everything of this channel in this partition from here on is in the ring, or was.
    fn known_from(&self, list: &[Arc<Partition>], partition: usize) -> i64 {
        let start = self.reading.as_ref().map_or(list[partition].start, |reading| reading.span(list, partition).start);
        let born = self.born.as_ref().and_then(|born| born.get(partition)).copied();
        start.max(born.unwrap_or(0))
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
        let mut waiting = self.entries.range(begin..).zip(to..);
        let (message, number) = waiting.find(|(message, _)| message.partition.index == feed.partition)?;
        feed.found.set(Some(Found { from: to, number, offset: message.offset }));
        Some(message.offset)
    }

    /// The position of a receiver that has been given everything below `to` (see the module's rules).
    pub(super) fn print(&self, name: &str, key: Key, partitions: &Partitions, to: u64, had: Option<&Had>) -> String {
        self.print_waiting(name, key, partitions, (to, had), |feed| self.first_waiting(feed, to))
    }

    /// The same, by what is `waiting` of a partition.
    pub(super) fn print_waiting(
        &self,
        name: &str,
        key: Key,
        partitions: &Partitions,
        (to, had): (u64, Option<&Had>),
        waiting: impl Fn(&Feed) -> Option<i64>,
    ) -> String {
        let feeding = partitions.feeding(name);
        let list = feeding.list();
        let read = |partition: &Arc<Partition>| self.reached_in(list, usize::from(partition.index));
        let mut next: SmallVec<[i64; 8]> = feeding.iter().map(read).collect();
        let mut fed: SmallVec<[i64; 8]> = SmallVec::from_elem(0, next.len());
        let mut gone: SmallVec<[Entry; 1]> = SmallVec::new();
        for feed in &self.feeds {
            if let Some(place) = feeding.place_of(feed.partition) {
                next[place] = waiting(feed).unwrap_or_else(|| feed.next.max(next[place]));
                fed[place] = feed.next;
            } else if let Some(offset) = waiting(feed) {
                // Its topic is gone: who is yet to be given something of it is told if it cannot be here.
                let partition = &list[usize::from(feed.partition)];
                gone.push(Entry { tag: partition.tag, partition: partition.number, offset, epoch: partition.epoch() });
            }
        }
        gone.sort_unstable_by_key(Entry::place);
        let had = had.filter(|had| !had.is_past(to));
        let reference = feeding.reference().filter(|_| feeding.len() > ENTRIES_LISTED);
        let entries = feeding.iter().zip(next).zip(fed).filter_map(|((partition, next), fed)| {
            let index = usize::from(partition.index);
            let reached = (next, self.epoch(list, index));
            let (offset, epoch) = had.map_or(reached, |had| had.reaches(index, reached));
            let entry = Entry { tag: partition.tag, partition: partition.number, offset, epoch };
            // It makes no difference from which of the two a reader goes on: nothing of this channel lies between.
            let is_as_good = |place: i64| {
                fed.max(self.known_from(list, index)) <= place
                    && (place..=self.reached_in(list, index)).contains(&offset)
            };
            (!reference.is_some_and(|reference| is_as_good(reference.place(index)))).then_some(entry)
        });
        position::print(key, name, reference.map(|reference| &reference.base), entries.chain(gone))
    }
}
