//! The partitions a node reads, and how far it has read each.
//!
//! The table only grows, and an index into it never changes its meaning: a topic that is deleted and made anew gets new
//! entries, for it is another topic; so do a partition whose log was cut, and one that is read on behind a loss. What is
//! said of the entry that went before says nothing of the new one. Written by the source's thread, read by all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};

use crate::epochs::{Epochs, Judged};
use crate::limits::PARTITIONS_MAX;
use crate::position::Entry;
use parking_lot::{Mutex, RwLock};

/// The first half of a topic's 16-byte id: random bits enough to tell topics apart, half the length in every position.
pub type TopicTag = [u8; 8];

/// One partition of one topic.
#[derive(Debug)]
pub struct Partition {
    /// Its place in the table.
    pub index: u16,
    /// The topic's name.
    pub topic: Arc<str>,
    /// Which topic of that name.
    pub tag: TopicTag,
    /// The partition's number.
    pub number: i32,
    /// Reading began here: nothing below is or was in memory.
    pub start: i64,
    /// Whether positions speak of it. Not of state, which is read whole, nor of what only this node has.
    pub has_position: bool,
    /// Everything below has been handed to the channels. Raised after the append: whoever reads this while holding a
    /// channel's lock finds all of that channel's part in its ring.
    next: AtomicI64,
    /// Leader epoch of the newest record, -1 where there is none.
    epoch: AtomicI32,
    epochs: Mutex<Epochs>,
    /// The highest offset of this partition, plus one, that a forgotten channel once dropped: a channel born later
    /// cannot know whether it was its own.
    forgotten: AtomicI64,
    /// False once another entry took this one's place.
    current: AtomicBool,
    /// What it had from here on is in the log no more.
    gone: AtomicI64,
}

impl Partition {
    /// How far this partition was read.
    pub fn next(&self) -> i64 {
        self.next.load(Ordering::Acquire)
    }

    /// Everything below `next` has been appended.
    pub fn advance(&self, next: i64, epoch: i32) {
        let newest = self.epoch();
        if epoch > newest {
            let mut epochs = self.epochs.lock();
            epochs.see(newest, i64::MAX, next - 1);
            epochs.see(epoch, next - 1, next);
            self.epoch.store(epoch, Ordering::Relaxed);
        }
        if next > self.next.load(Ordering::Relaxed) {
            self.next.store(next, Ordering::Release);
        }
    }

    /// Leader epoch of the newest record, -1 where there is none.
    pub fn epoch(&self) -> i32 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Whether what a position says of this partition is still in the log. See [`Epochs::judge`].
    pub fn judge(&self, entry: &Entry) -> Judged {
        self.epochs.lock().judge(entry)
    }

    /// Whether no record has told of an epoch yet: then nothing is known of any place.
    pub fn knows_no_epoch(&self) -> bool {
        self.epochs.lock().newest() < 0
    }

    fn epochs(&self) -> Epochs {
        let mut epochs = self.epochs.lock().clone();
        epochs.see(self.epoch(), i64::MAX, self.next());
        epochs
    }

    /// Records of an epoch were read back. See [`Epochs::see`].
    pub fn see(&self, epoch: i32, first: i64, until: i64) {
        self.epochs.lock().see(epoch, first, until);
    }

    /// Whether a record has taken the place of one that was delivered: the log was cut, and is written in a newer epoch.
    pub fn is_cut_by(&self, offset: i64, epoch: i32) -> bool {
        offset < self.next() && self.epoch() >= 0 && epoch > self.epoch()
    }

    /// See the field.
    pub fn forgotten(&self) -> i64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// A channel that dropped everything below `offset` is about to be forgotten.
    pub fn forget(&self, offset: i64) {
        self.forgotten.fetch_max(offset, Ordering::Relaxed);
    }

    /// Whether a record that was delivered is still in the log, unless retention took it: its topic is the same, and the log
    /// was not cut there.
    pub fn has(&self, offset: i64) -> bool {
        offset < self.gone.load(Ordering::Relaxed)
    }

    /// Whether this entry still stands for its topic and number.
    pub fn is_current(&self) -> bool {
        self.current.load(Ordering::Relaxed)
    }
}

/// All partitions of a node.
#[derive(Debug, Default)]
pub struct Partitions {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    list: Arc<Vec<Arc<Partition>>>,
    /// Topics of state.
    state: HashSet<Box<str>>,
    current: HashMap<Arc<str>, HashMap<i32, u16>>,
}

impl Inner {
    /// What the log had of a partition from here on is gone, whichever of its entries it was delivered for.
    fn lose(&self, old: &Partition, offset: i64) {
        for entry in self.list.iter().filter(|entry| entry.tag == old.tag && entry.number == old.number) {
            entry.gone.fetch_min(offset, Ordering::Relaxed);
        }
    }

    /// Takes the place of the entry that stands for it, if there is one. The epoch is the newest below `start`.
    fn add(
        &mut self,
        topic: &str,
        tag: TopicTag,
        number: i32,
        (start, epoch): (i64, i32),
        epochs: Epochs,
    ) -> Result<Arc<Partition>, TooManyPartitions> {
        if self.list.len() >= PARTITIONS_MAX {
            return Err(TooManyPartitions);
        }
        if let Some(&index) = self.current.get(topic).and_then(|numbers| numbers.get(&number)) {
            self.list[usize::from(index)].current.store(false, Ordering::Relaxed);
        }
        let has_position = !self.state.contains(topic);
        let topic: Arc<str> = match self.current.get_key_value(topic) {
            Some((name, _)) => Arc::clone(name),
            None => topic.into(),
        };
        let index = self.list.len() as u16;
        let partition = Arc::new(Partition {
            index,
            topic: Arc::clone(&topic),
            tag,
            number,
            start,
            has_position,
            next: AtomicI64::new(start),
            epoch: AtomicI32::new(epoch),
            epochs: Mutex::new(epochs),
            forgotten: AtomicI64::new(0),
            current: true.into(),
            gone: AtomicI64::new(i64::MAX),
        });
        Arc::make_mut(&mut self.list).push(Arc::clone(&partition));
        self.current.entry(topic).or_default().insert(number, index);
        Ok(partition)
    }
}

/// The table is full.
#[derive(Debug, PartialEq, Eq)]
pub struct TooManyPartitions;

impl Partitions {
    /// This topic holds state: positions do not speak of it. To be called before its first partition is assigned.
    pub fn add_state_topic(&self, topic: &str) {
        self.inner.write().state.insert(topic.into());
    }

    /// Reading of a partition begins, or begins again elsewhere.
    ///
    /// The same topic from where it was read, or from further back, changes nothing: what comes again is recognised, and
    /// so is what comes in its place ([`Partition::is_cut_by`]). Another topic, or a start further on, is a new entry.
    pub fn assign(
        &self,
        topic: &str,
        id: [u8; 16],
        number: i32,
        start: i64,
    ) -> Result<Arc<Partition>, TooManyPartitions> {
        let tag: TopicTag = id[..8].try_into().expect("eight of sixteen bytes");
        let inner = &mut *self.inner.write();
        let old = inner.current.get(topic).and_then(|numbers| numbers.get(&number));
        let Some(old) = old.map(|&index| Arc::clone(&inner.list[usize::from(index)])) else {
            return inner.add(topic, tag, number, (start, -1), Epochs::default());
        };
        if old.tag != tag {
            inner.lose(&old, 0);
            return inner.add(topic, tag, number, (start, -1), Epochs::default());
        }
        if start <= old.next() {
            return Ok(old);
        }
        // What lies between was not seen: of which epoch the record before `start` is, nobody knows here.
        inner.add(topic, tag, number, (start, -1), old.epochs())
    }

    /// A partition's log was cut at this offset. What is delivered from there on is of a new entry.
    pub fn cut(&self, old: &Partition, offset: i64) -> Result<Arc<Partition>, TooManyPartitions> {
        let epochs = old.epochs().cut_at(offset);
        let inner = &mut *self.inner.write();
        inner.lose(old, offset);
        inner.add(&old.topic, old.tag, old.number, (offset, epochs.newest()), epochs)
    }

    /// A partition that is being read.
    pub fn find(&self, topic: &str, number: i32) -> Option<Arc<Partition>> {
        let inner = self.inner.read();
        let index = inner.current.get(topic)?.get(&number)?;
        Some(Arc::clone(&inner.list[usize::from(*index)]))
    }

    /// All of them, by index.
    pub fn list(&self) -> Arc<Vec<Arc<Partition>>> {
        Arc::clone(&self.inner.read().list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_made_anew_is_another_entry() {
        let table = Partitions::default();
        let first = table.assign("t", [1; 16], 0, 5).unwrap();
        first.advance(9, 0);
        assert_eq!(table.assign("t", [1; 16], 0, 7).unwrap().index, first.index, "the same topic goes on");
        let second = table.assign("t", [2; 16], 0, 0).unwrap();
        assert_ne!(first.index, second.index);
        assert_eq!(table.find("t", 0).unwrap().index, second.index);
        assert!(!first.is_current());
    }

    #[test]
    fn a_jump_forward_is_another_entry_that_knows_the_epochs_before_it() {
        let table = Partitions::default();
        let first = table.assign("t", [1; 16], 0, 5).unwrap();
        first.advance(9, 3);
        let second = table.assign("t", [1; 16], 0, 100).unwrap();
        assert_ne!(second.index, first.index);
        second.advance(101, 4);
        let judge = |offset, epoch| second.judge(&Entry { tag: second.tag, partition: 0, offset, epoch });
        assert_eq!((judge(101, 3), judge(9, 3), judge(100, 3)), (Judged::Cut(100), Judged::Sound, Judged::Doubtful));
    }

    #[test]
    fn reading_again_from_further_back_goes_on() {
        let table = Partitions::default();
        let first = table.assign("t", [1; 16], 0, 5).unwrap();
        first.advance(9, 0);
        for start in [9, 7, 5, 0] {
            assert_eq!(table.assign("t", [1; 16], 0, start).unwrap().index, first.index);
        }
    }

    #[test]
    fn a_log_that_was_cut_is_another_entry_from_there() {
        let table = Partitions::default();
        let first = table.assign("t", [1; 16], 0, 0).unwrap();
        first.advance(1, 1);
        first.advance(8, 1);
        first.advance(9, 2);
        assert!(!first.is_cut_by(9, 3), "it goes on");
        assert!(!first.is_cut_by(7, 2) && !first.is_cut_by(7, 1), "that was read before");
        assert!(first.is_cut_by(7, 3));
        let second = table.cut(&first, 7).unwrap();
        assert_eq!((second.start, second.next(), second.epoch()), (7, 7, 1));
        second.advance(8, 3);
        assert!(second.is_current() && !first.is_current());
        let judge = |offset, epoch| second.judge(&Entry { tag: second.tag, partition: 0, offset, epoch });
        assert_eq!((judge(8, 1), judge(7, 1), judge(8, 3)), (Judged::Cut(7), Judged::Sound, Judged::Sound));
    }

    #[test]
    fn logs_without_epochs_are_never_taken_for_cut() {
        let first = Partitions::default().assign("t", [1; 16], 0, 0).unwrap();
        first.advance(9, -1);
        assert!(!first.is_cut_by(7, -1) && !first.is_cut_by(7, 0));
    }

    #[test]
    fn the_table_has_an_end() {
        let table = Partitions::default();
        for number in 0..PARTITIONS_MAX {
            table.assign("t", [1; 16], number as i32, 0).unwrap();
        }
        assert_eq!(table.assign("t", [1; 16], -1, 0).unwrap_err(), TooManyPartitions);
    }
}
