//! Which ids a channel has had lately, so that a publish that was sent twice is delivered once.
//!
//! The second record with an id is a repeat if its timestamp lies within the window after the first one's. That rests
//! on the log alone, so every node decides alike; a first one that was cut off, or whose topic was made anew, is none.
//!
//! Ids are kept hashed, for one window by the node's clock, and at most so many of them: past that the oldest go, and
//! those that were younger than the window are counted. They are dealt out by their hash to [`PARTS`] tables, for none of
//! which it takes long to grow: a table of all would be copied for a tenth of a second.

use std::collections::VecDeque;
use std::hash::Hasher;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::limits::{DEDUP_IDS_MAX, DEDUP_WINDOW_MS};
use crate::partition::Partition;

/// Tables that ids are dealt out to.
const PARTS: usize = 256;

/// Tables that one sweep looks at, and ids that it forgets of each at most: some two milliseconds' work.
const PARTS_SWEPT: usize = 16;
const SWEPT_PER_PART: usize = 1_024;

/// Ids that are forgotten, if it is time, for one that comes.
const FORGOTTEN_PER_NEW: usize = 4;

/// Where the first message with an id lies.
#[derive(Debug, Clone)]
pub struct First {
    /// Its partition.
    pub partition: Arc<Partition>,
    /// Its offset.
    pub offset: i64,
}

/// The ids of all channels.
#[derive(Debug)]
pub struct Dedup {
    key: [u8; 16],
    parts: Box<[Part]>,
    /// Ids that one part takes.
    room: usize,
    partitions: Vec<Lives>,
    /// The part that the next sweep begins with.
    hand: usize,
    forgotten: u64,
}

/// The ids whose hashes lead here.
#[derive(Debug, Default)]
struct Part {
    /// In the order in which they came.
    seen: VecDeque<Seen>,
    /// Those that have left it, modulo 2^32: the number of the first that is there.
    gone: u32,
    /// The number, in that order, of the newest of each id.
    numbers: HashTable<u32>,
}

/// An id that was seen: 40 bytes.
#[derive(Debug)]
struct Seen {
    hash: [u64; 2],
    offset: i64,
    timestamp: i64,
    /// By the node's clock, in seconds.
    since_s: u32,
    partition: u16,
    life: u16,
}

/// The table's entry of a partition is another one each time that it is read again after it was let go; of what came in
/// an earlier life nothing is known any more.
#[derive(Debug, Default)]
struct Lives {
    newest: Option<Arc<Partition>>,
    life: u16,
}

impl Dedup {
    /// `key` is secret: ids are chosen by clients, who must not be able to make two of them collide.
    pub fn new(key: [u8; 16]) -> Self {
        Self::with_capacity(key, DEDUP_IDS_MAX)
    }

    /// The same for about so many ids.
    pub fn with_capacity(key: [u8; 16], capacity: usize) -> Self {
        let parts = (0..PARTS).map(|_| Part::default()).collect();
        Self { key, parts, room: capacity.div_ceil(PARTS), partitions: Vec::new(), hand: 0, forgotten: 0 }
    }

    /// Remembers a record from `since_ms` on; returns the first one if this is its repeat. Some of what is older than a
    /// window at `now_ms` is forgotten.
    pub fn observe(
        &mut self,
        channel: &str,
        id: &str,
        partition: &Arc<Partition>,
        (offset, timestamp): (i64, i64),
        (since_ms, now_ms): (i64, i64),
    ) -> Option<First> {
        let hash = self.hash(channel, id);
        if let Some(first) = self.first(hash, timestamp) {
            return Some(first);
        }
        let life = self.life(partition);
        let (known_s, second) = (seconds(since_ms), seconds(now_ms));
        let part = &mut self.parts[part_of(hash)];
        part.forget(second, FORGOTTEN_PER_NEW);
        if part.seen.len() >= self.room {
            self.forgotten += u64::from(part.seen.front().is_some_and(|oldest| !oldest.is_over(second)));
            part.drop_oldest();
        }
        part.add(Seen { hash, offset, timestamp, since_s: known_s, partition: partition.index, life });
        None
    }

    /// The first message with this id, if a record of the time `timestamp` would be its repeat.
    pub fn find(&self, channel: &str, id: &str, timestamp: i64) -> Option<First> {
        self.first(self.hash(channel, id), timestamp)
    }

    fn first(&self, hash: [u64; 2], timestamp: i64) -> Option<First> {
        let seen = self.parts[part_of(hash)].get(hash)?;
        let lives = &self.partitions[usize::from(seen.partition)];
        let partition =
            lives.newest.as_ref().filter(|partition| lives.life == seen.life && partition.has(seen.offset))?;
        let is_repeat = timestamp.saturating_sub(seen.timestamp) <= DEDUP_WINDOW_MS;
        is_repeat.then(|| First { partition: Arc::clone(partition), offset: seen.offset })
    }

    /// Which life of its place in the table this partition is.
    fn life(&mut self, partition: &Arc<Partition>) -> u16 {
        let index = usize::from(partition.index);
        if self.partitions.len() <= index {
            self.partitions.resize_with(index + 1, Lives::default);
        }
        let lives = &mut self.partitions[index];
        if !lives.newest.as_ref().is_some_and(|newest| Arc::ptr_eq(newest, partition)) {
            lives.newest = Some(Arc::clone(partition));
            lives.life = lives.life.wrapping_add(1);
        }
        lives.life
    }

    /// Ids remembered.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.numbers.len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ids that were forgotten within their window, for lack of room, since this was asked last.
    pub fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    /// Forgets some of what is older than the window, and gives memory back that is not used any more.
    pub fn sweep(&mut self, now_ms: i64) {
        for _ in 0..PARTS_SWEPT {
            let part = &mut self.parts[self.hand];
            self.hand = (self.hand + 1) % PARTS;
            part.forget(seconds(now_ms), SWEPT_PER_PART);
            part.shrink();
        }
    }

    fn hash(&self, channel: &str, id: &str) -> [u64; 2] {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(channel.as_bytes());
        hasher.write(&[0xFF]);
        hasher.write(id.as_bytes());
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }
}

impl Part {
    fn get(&self, hash: [u64; 2]) -> Option<&Seen> {
        let number = self.numbers.find(hash[0], |&number| self.seen[place(number, self.gone)].hash == hash)?;
        self.seen.get(place(*number, self.gone))
    }

    fn add(&mut self, new: Seen) {
        let Self { seen, gone, numbers } = self;
        let number = gone.wrapping_add(seen.len() as u32);
        let hash = new.hash;
        seen.push_back(new);
        let is_it = |&number: &u32| seen[place(number, *gone)].hash == hash;
        match numbers.entry(hash[0], is_it, |&number| seen[place(number, *gone)].hash[0]) {
            Entry::Occupied(mut before) => *before.get_mut() = number,
            Entry::Vacant(free) => drop(free.insert(number)),
        }
    }

    /// Forgets the oldest, at most so many, of what is older than the window.
    fn forget(&mut self, now_s: u32, most: usize) {
        for _ in 0..most {
            if !self.seen.front().is_some_and(|oldest| oldest.is_over(now_s)) {
                return;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.seen.pop_front() else { return };
        // A later one with the same id stays as long as others of its time.
        if let Ok(own) = self.numbers.find_entry(oldest.hash[0], |&number| number == self.gone) {
            own.remove();
        }
        self.gone = self.gone.wrapping_add(1);
    }

    fn shrink(&mut self) {
        let Self { seen, gone, numbers } = self;
        let most = 2 * seen.len();
        if seen.capacity() > 2 * most {
            seen.shrink_to(most);
            numbers.shrink_to(most, |&number| seen[place(number, *gone)].hash[0]);
        }
    }
}

impl Seen {
    /// Whether it is older than the window by more than rounding.
    fn is_over(&self, now_s: u32) -> bool {
        now_s.saturating_sub(self.since_s) > WINDOW_S
    }
}

const WINDOW_S: u32 = (DEDUP_WINDOW_MS / 1_000) as u32;

/// The place of a number in a queue that begins with the number `gone`.
fn place(number: u32, gone: u32) -> usize {
    number.wrapping_sub(gone) as usize
}

fn part_of(hash: [u64; 2]) -> usize {
    hash[1] as usize % PARTS
}

fn seconds(ms: i64) -> u32 {
    (ms / 1_000).clamp(0, i64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Partitions;

    const LATER: i64 = DEDUP_WINDOW_MS + 1_000;

    fn partition() -> Arc<Partition> {
        Partitions::default().assign("t", [1; 16], 0, 0).unwrap()
    }

    #[test]
    fn the_second_record_with_an_id_is_a_repeat_of_the_first() {
        let (mut ids, partition) = (Dedup::new([1; 16]), partition());
        assert!(ids.observe("c", "x", &partition, (5, 1000), (1000, 1000)).is_none());
        let first = ids.observe("c", "x", &partition, (9, 1500), (1500, 1500)).unwrap();
        assert_eq!(first.offset, 5);
        assert_eq!(ids.find("c", "x", 1500).unwrap().offset, 5);
        assert!(ids.find("c", "x", 1001 + DEDUP_WINDOW_MS).is_none(), "a record of that time would be new");
        assert!(ids.observe("d", "x", &partition, (10, 1500), (1500, 1500)).is_none(), "ids belong to their channel");
    }

    #[test]
    fn after_the_window_an_id_is_new_again() {
        let (mut ids, partition) = (Dedup::new([1; 16]), partition());
        ids.observe("c", "x", &partition, (5, 0), (0, 0));
        assert!(ids.observe("c", "x", &partition, (9, DEDUP_WINDOW_MS + 1), (10, 10)).is_none());
        assert_eq!(ids.find("c", "x", DEDUP_WINDOW_MS + 1).unwrap().offset, 9);
    }

    #[test]
    fn an_id_that_is_new_again_is_not_forgotten_with_what_it_was_before() {
        let (mut ids, partition) = (Dedup::new([1; 16]), partition());
        assert!(ids.observe("c", "x", &partition, (1, 0), (0, 0)).is_none());
        assert!(ids.observe("c", "x", &partition, (2, LATER), (LATER, 0)).is_none());
        swept(&mut ids, LATER);
        let first = ids.observe("c", "x", &partition, (4, LATER + 10), (LATER + 10, LATER));
        assert_eq!(first.unwrap().offset, 2);
    }

    #[test]
    fn what_came_before_a_partition_was_let_go_is_not_known_when_it_is_read_again() {
        let partitions = Partitions::default();
        let mut ids = Dedup::new([1; 16]);
        let before = partitions.assign("t", [1; 16], 0, 0).unwrap();
        let other = partitions.assign("t", [1; 16], 1, 0).unwrap();
        assert!(ids.observe("c", "x", &before, (1, 0), (0, 0)).is_none());
        assert!(ids.observe("c", "y", &other, (1, 0), (0, 0)).is_none());
        partitions.let_go("t", 0);
        let after = partitions.assign("t", [1; 16], 0, 0).unwrap();
        assert_eq!(after.index, before.index);
        assert!(ids.observe("c", "z", &after, (2, 0), (0, 0)).is_none());
        assert!(ids.find("c", "x", 0).is_none());
        assert_eq!(ids.find("c", "y", 0).unwrap().partition.number, 1);
        assert!(ids.observe("c", "x", &after, (3, 0), (0, 0)).is_none());
        assert_eq!(ids.find("c", "x", 0).unwrap().offset, 3);
    }

    #[test]
    fn ids_are_bounded_in_time_and_number_and_those_that_are_forgotten_early_are_counted() {
        let (mut ids, partition) = (Dedup::with_capacity([1; 16], 10 * PARTS), partition());
        let observe = |ids: &mut Dedup, n: i64| {
            assert!(ids.observe("c", &n.to_string(), &partition, (n, n), (n, n)).is_none());
        };
        let count = 100 * PARTS as i64;
        (0..count).for_each(|n| observe(&mut ids, n));
        assert_eq!(ids.len(), 10 * PARTS);
        assert_eq!(ids.take_forgotten(), 90 * PARTS as u64);
        assert_eq!(ids.take_forgotten(), 0);
        assert!(ids.find("c", &(count - 1).to_string(), count).is_some() && ids.find("c", "0", count).is_none());
        swept(&mut ids, count + LATER);
        assert!(ids.is_empty());
        assert!(ids.parts.iter().all(|part| part.seen.capacity() == 0 && part.numbers.capacity() == 0));
        observe(&mut ids, count + LATER);
        assert_eq!(ids.take_forgotten(), 0, "what is old enough is not missed");
    }

    #[test]
    fn numbers_begin_again_behind_the_last() {
        let (mut ids, partition) = (Dedup::with_capacity([1; 16], 10 * PARTS), partition());
        for part in &mut ids.parts {
            part.gone = u32::MAX - 5;
        }
        for n in 0..60 * PARTS as i64 {
            assert!(ids.observe("c", &n.to_string(), &partition, (n, 0), (0, 0)).is_none());
            assert_eq!(ids.find("c", &n.to_string(), 0).unwrap().offset, n);
        }
        assert_eq!(ids.len(), 10 * PARTS);
    }

    /// Every part, as often as it takes.
    fn swept(ids: &mut Dedup, now_ms: i64) {
        for _ in 0..PARTS / PARTS_SWEPT {
            ids.sweep(now_ms);
        }
    }
}
