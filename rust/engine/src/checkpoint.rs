//! Checkpoints: how far all partitions had been read at some moment, so that positions need not say that of every partition.
//!
//! A checkpoint is a record of a topic of their own, and its offset there is its number. It names for every partition the
//! next offset and the leader epoch below it, as a node had read them. No clock is in it, and nothing depends on who wrote
//! it: whichever a position is said by, it says of each partition in which the two differ for its channel where it stands.
//!
//! ```text
//! value  1 byte version, 1; then topics and partitions as in a position (`position.rs`)
//! ```
//!
//! A node keeps the newest as it reads them, and apart from these some that were read back for positions made long ago.
//! Its own positions refer to one once it has read every partition at least as far.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::epochs::Judged;
use crate::feeding::Feeding;
use crate::limits::{CHECKPOINTS_BYTES, CHECKPOINTS_KEPT};
use crate::partition::TopicTag;
use crate::position::{self, Base, Body, Entry};

const VERSION: u8 = 1;

/// The value of a checkpoint's record; the entries must be in the order of their places.
pub fn print(entries: impl Iterator<Item = Entry>) -> Body {
    let mut body = Body::new();
    body.push(VERSION);
    position::write(&mut body, entries);
    body
}

/// What a checkpoint names, if it is one: in the order of their places, of which no two are the same.
pub fn parse(value: &[u8]) -> Option<SmallVec<[Entry; 4]>> {
    let (&version, body) = value.split_first()?;
    let entries = (version == VERSION).then(|| position::read(body)).flatten()?;
    entries.is_sorted_by(|one, other| one.place() < other.place()).then_some(entries)
}

/// One that is in memory.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its offset in the topic.
    pub number: i64,
    /// Its leader epoch.
    pub epoch: i32,
    /// When this node read it, by its own clock.
    pub read_ms: i64,
    value: Box<[u8]>,
}

impl Checkpoint {
    /// A record, if it is one.
    pub fn of((number, epoch): (i64, i32), value: &[u8], read_ms: i64) -> Option<Self> {
        parse(value).map(|_| Self { number, epoch, read_ms, value: value.into() })
    }

    /// What it names.
    pub fn entries(&self) -> SmallVec<[Entry; 4]> {
        parse(&self.value).expect("it was looked at when it came")
    }
}

/// The checkpoint that a node's positions refer to.
#[derive(Debug)]
pub struct Reference {
    /// Which one.
    pub base: Base,
    /// By index in the table; [`NOWHERE`] for what it does not name.
    places: Box<[i64]>,
}

/// No place that anybody has read up to.
const NOWHERE: i64 = i64::MAX;

impl Reference {
    /// A checkpoint that names these, for positions that speak of those partitions. None if it names one that is none of
    /// them, was not read as far, or whose log was cut since.
    pub fn new(base: Base, entries: &[Entry], told: &Feeding) -> Option<Self> {
        let mut places = vec![NOWHERE; told.list().len()].into_boxed_slice();
        let mut found = 0;
        for partition in told.iter() {
            let Ok(at) = entries.binary_search_by_key(&(partition.tag, partition.number), Entry::place) else {
                continue;
            };
            if partition.next() < entries[at].offset || partition.judge(&entries[at]) != Judged::Sound {
                return None;
            }
            places[usize::from(partition.index)] = entries[at].offset;
            found += 1;
        }
        (found == entries.len()).then_some(Self { base, places })
    }

    /// What it says of an entry of the table; none was read up to there, if it says nothing.
    pub fn place(&self, index: usize) -> i64 {
        self.places.get(index).copied().unwrap_or(NOWHERE)
    }
}

/// The checkpoints that a node has in memory.
#[derive(Debug, Default)]
pub struct Checkpoints {
    /// Of the topic that they are of.
    tag: TopicTag,
    read: Kept,
    read_back: Kept,
}

impl Checkpoints {
    /// One was read, the next of its topic. Those that lie behind it have been cut off.
    pub fn take(&mut self, tag: TopicTag, checkpoint: Checkpoint) {
        self.of(tag);
        self.read.cut(checkpoint.number);
        self.read_back.cut(checkpoint.number);
        self.read.push(checkpoint);
    }

    /// One was read back.
    pub fn recall(&mut self, tag: TopicTag, checkpoint: Checkpoint) {
        self.of(tag);
        let known = self.read.list.iter().chain(&self.read_back.list);
        if !known.into_iter().any(|other| other.number == checkpoint.number) {
            self.read_back.push(checkpoint);
        }
    }

    /// That of this number, if it is in memory.
    pub fn find(&self, base: &Base) -> Option<&Checkpoint> {
        let mut known = self.newest().chain(&self.read_back.list);
        known.find(|checkpoint| self.tag == base.tag && checkpoint.number == base.number)
    }

    /// Those that were read, the newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Checkpoint> {
        self.read.list.iter().rev()
    }

    /// How positions refer to one.
    pub fn base(&self, checkpoint: &Checkpoint) -> Base {
        Base { tag: self.tag, number: checkpoint.number, epoch: checkpoint.epoch }
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.read.bytes + self.read_back.bytes
    }

    /// Those of a topic made anew are others.
    fn of(&mut self, tag: TopicTag) {
        if tag != self.tag {
            *self = Self { tag, ..Self::default() };
        }
    }
}

/// Checkpoints in the order in which they came: [`CHECKPOINTS_KEPT`] of [`CHECKPOINTS_BYTES`] at most, or one.
#[derive(Debug, Default)]
struct Kept {
    list: VecDeque<Checkpoint>,
    bytes: usize,
}

impl Kept {
    fn push(&mut self, checkpoint: Checkpoint) {
        self.bytes += size(&checkpoint);
        self.list.push_back(checkpoint);
        while self.list.len() > CHECKPOINTS_KEPT || (self.bytes > CHECKPOINTS_BYTES && self.list.len() > 1) {
            self.bytes -= self.list.pop_front().as_ref().map_or(0, size);
        }
    }

    /// Drops those of this number and higher ones.
    fn cut(&mut self, number: i64) {
        self.list.retain(|checkpoint| checkpoint.number < number);
        self.bytes = self.list.iter().map(size).sum();
    }
}

fn size(checkpoint: &Checkpoint) -> usize {
    size_of::<Checkpoint>() + checkpoint.value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(partition: i32, offset: i64) -> Entry {
        Entry { tag: [1; 8], partition, offset, epoch: 0 }
    }

    fn checkpoint(number: i64, epoch: i32) -> Checkpoint {
        Checkpoint::of((number, epoch), &print([entry(0, number)].into_iter()), 0).unwrap()
    }

    fn base(tag: u8, number: i64) -> Base {
        Base { tag: [tag; 8], number, epoch: 0 }
    }

    #[test]
    fn what_is_none_is_not_taken_for_one() {
        assert!(parse(&print([entry(3, 9)].into_iter())).is_some());
        assert!(parse(&print(std::iter::empty())).is_some());
        for value in [&b""[..], b"{}", b"\x02", b"\x01abc", b"\x0112345678\x02\x00\x00\x01"] {
            assert!(Checkpoint::of((0, 0), value, 0).is_none(), "{value:?}");
        }
    }

    #[test]
    fn they_are_kept_in_bounds_and_the_newest_stays() {
        let mut checkpoints = Checkpoints::default();
        for number in 0..2 * CHECKPOINTS_KEPT as i64 {
            checkpoints.take([7; 8], checkpoint(5_000 + number, 0));
            checkpoints.recall([7; 8], checkpoint(number, 0));
        }
        assert_eq!(
            (checkpoints.read.list.len(), checkpoints.read_back.list.len()),
            (CHECKPOINTS_KEPT, CHECKPOINTS_KEPT)
        );
        let large = print((0..4096).map(|number| entry(number, 1 << 60)));
        for number in 0..2 * (CHECKPOINTS_BYTES / large.len()) as i64 {
            checkpoints.take([7; 8], Checkpoint::of((9_000 + number, 0), &large, 0).unwrap());
            assert!(checkpoints.read.bytes <= CHECKPOINTS_BYTES);
            assert_eq!(checkpoints.newest().next().unwrap().number, 9_000 + number);
        }
        assert!(checkpoints.read.list.len() < CHECKPOINTS_KEPT);
    }

    #[test]
    fn one_that_was_cut_off_or_is_of_another_topic_is_not_found() {
        let mut checkpoints = Checkpoints::default();
        for number in 1..5 {
            checkpoints.take([7; 8], checkpoint(number, 0));
        }
        checkpoints.recall([7; 8], checkpoint(0, 0));
        let found = |checkpoints: &Checkpoints, base| checkpoints.find(&base).map(|found| (found.number, found.epoch));
        assert_eq!(found(&checkpoints, base(7, 3)), Some((3, 0)));
        assert_eq!(found(&checkpoints, base(7, 0)), Some((0, 0)));
        assert_eq!(found(&checkpoints, base(8, 3)), None);
        checkpoints.take([7; 8], checkpoint(3, 1));
        assert_eq!((found(&checkpoints, base(7, 3)), found(&checkpoints, base(7, 4))), (Some((3, 1)), None));
        checkpoints.take([8; 8], checkpoint(9, 0));
        assert_eq!((found(&checkpoints, base(7, 2)), found(&checkpoints, base(8, 9))), (None, Some((9, 0))));
    }
}
