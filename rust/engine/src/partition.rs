//! The partitions a node reads, and how far it has read each.
//!
//! The table only grows, and an index into it never changes its meaning: a topic that is deleted and made anew gets new
//! entries, for it is another topic. Written by the source's thread, read by all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};

use crate::limits::PARTITIONS_MAX;
use parking_lot::RwLock;

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
    /// The highest offset of this partition, plus one, that a forgotten channel once dropped: a channel born later
    /// cannot know whether it was its own.
    forgotten: AtomicI64,
    /// False once another entry took this one's place.
    current: std::sync::atomic::AtomicBool,
}

impl Partition {
    /// How far this partition was read.
    pub fn next(&self) -> i64 {
        self.next.load(Ordering::Acquire)
    }

    /// Everything below `next` has been appended.
    pub fn advance(&self, next: i64, epoch: i32) {
        if epoch >= 0 {
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

    /// See the field.
    pub fn forgotten(&self) -> i64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// A channel that dropped everything below `offset` is about to be forgotten.
    pub fn forget(&self, offset: i64) {
        self.forgotten.fetch_max(offset, Ordering::Relaxed);
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
    /// The same topic at an offset that was already reached changes nothing; any other start is a new entry, since
    /// what the channels hold of the old one says nothing about it.
    pub fn assign(
        &self,
        topic: &str,
        id: [u8; 16],
        number: i32,
        start: i64,
    ) -> Result<Arc<Partition>, TooManyPartitions> {
        let tag: TopicTag = id[..8].try_into().expect("eight of sixteen bytes");
        let inner = &mut *self.inner.write();
        if let Some(&index) = inner.current.get(topic).and_then(|numbers| numbers.get(&number)) {
            let old = &inner.list[usize::from(index)];
            if old.tag == tag && (old.start..=old.next()).contains(&start) {
                return Ok(Arc::clone(old));
            }
            old.current.store(false, Ordering::Relaxed);
        }
        if inner.list.len() >= PARTITIONS_MAX {
            return Err(TooManyPartitions);
        }
        let has_position = !inner.state.contains(topic);
        let topic: Arc<str> = match inner.current.get_key_value(topic) {
            Some((name, _)) => Arc::clone(name),
            None => topic.into(),
        };
        let index = inner.list.len() as u16;
        let partition = Arc::new(Partition {
            index,
            topic: Arc::clone(&topic),
            tag,
            number,
            start,
            has_position,
            next: AtomicI64::new(start),
            epoch: AtomicI32::new(-1),
            forgotten: AtomicI64::new(0),
            current: true.into(),
        });
        Arc::make_mut(&mut inner.list).push(Arc::clone(&partition));
        inner.current.entry(topic).or_default().insert(number, index);
        Ok(partition)
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
    fn a_jump_forward_is_another_entry() {
        let table = Partitions::default();
        let first = table.assign("t", [1; 16], 0, 5).unwrap();
        assert_ne!(table.assign("t", [1; 16], 0, 100).unwrap().index, first.index);
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
