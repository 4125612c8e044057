//! Which ids a channel has had lately, so that a publish that was sent twice is delivered once.
//!
//! The second record with an id is a repeat if its timestamp lies within the window after the first one's. That rests
//! on the log alone, so every node decides alike; a first one that was cut off, or whose topic was made anew, is none.
//! Ids are kept hashed, for one window by the node's clock, and at most [`DEDUP_IDS_MAX`] of them.

use std::collections::{HashMap, VecDeque};
use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::limits::{DEDUP_IDS_MAX, DEDUP_WINDOW_MS};
use crate::partition::Partition;

/// Where the first message with an id lies.
#[derive(Debug, Clone)]
pub struct First {
    /// Its partition.
    pub partition: Arc<Partition>,
    /// Its offset.
    pub offset: i64,
    timestamp: i64,
    since: i64,
}

impl First {
    fn is_repeated_at(&self, timestamp: i64) -> bool {
        self.partition.has(self.offset) && timestamp.saturating_sub(self.timestamp) <= DEDUP_WINDOW_MS
    }
}

/// The ids of all channels.
#[derive(Debug)]
pub struct Dedup {
    key: [u8; 16],
    seen: HashMap<u128, First>,
    order: VecDeque<(i64, u128)>,
    capacity: usize,
}

impl Dedup {
    /// `key` is secret: ids are chosen by clients, who must not be able to make two of them collide.
    pub fn new(key: [u8; 16]) -> Self {
        Self::with_capacity(key, DEDUP_IDS_MAX)
    }

    /// The same for at most so many ids.
    pub fn with_capacity(key: [u8; 16], capacity: usize) -> Self {
        Self { key, seen: HashMap::new(), order: VecDeque::new(), capacity }
    }

    /// Remembers a record from `since_ms` on; returns the first one if this is its repeat. What is older than a window at
    /// `now_ms` is forgotten.
    pub fn observe(
        &mut self,
        channel: &str,
        id: &str,
        partition: &Arc<Partition>,
        (offset, timestamp): (i64, i64),
        (since_ms, now_ms): (i64, i64),
    ) -> Option<First> {
        let hash = self.hash(channel, id);
        if let Some(first) = self.seen.get(&hash).filter(|first| first.is_repeated_at(timestamp)) {
            return Some(first.clone());
        }
        self.expire(now_ms);
        self.seen.insert(hash, First { partition: Arc::clone(partition), offset, timestamp, since: since_ms });
        self.order.push_back((since_ms, hash));
        None
    }

    /// The first message with this id, if a record of the time `timestamp` would be its repeat.
    pub fn find(&self, channel: &str, id: &str, timestamp: i64) -> Option<First> {
        self.seen.get(&self.hash(channel, id)).filter(|first| first.is_repeated_at(timestamp)).cloned()
    }

    /// Ids remembered.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Forgets what is older than the window, or more than there is room for.
    pub fn expire(&mut self, now_ms: i64) {
        while let Some(&(since, hash)) = self.order.front() {
            if now_ms - since <= DEDUP_WINDOW_MS && self.order.len() < self.capacity {
                break;
            }
            self.order.pop_front();
            // A later first one with the same id stays as long as others of its time.
            if self.seen.get(&hash).is_some_and(|first| first.since == since) {
                self.seen.remove(&hash);
            }
        }
    }

    fn hash(&self, channel: &str, id: &str) -> u128 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(channel.as_bytes());
        hasher.write(&[0xFF]);
        hasher.write(id.as_bytes());
        hasher.finish128().as_u128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Partitions;

    fn partition() -> Arc<Partition> {
        Partitions::default().assign("t", [1; 16], 0, 0).unwrap()
    }

    #[test]
    fn the_second_record_with_an_id_is_a_repeat_of_the_first() {
        let mut ids = Dedup::new([1; 16]);
        assert!(ids.observe("c", "x", &partition(), (5, 1000), (1000, 1000)).is_none());
        let first = ids.observe("c", "x", &partition(), (9, 1500), (1500, 1500)).unwrap();
        assert_eq!(first.offset, 5);
        assert_eq!(ids.find("c", "x", 1500).unwrap().offset, 5);
        assert!(ids.find("c", "x", 1001 + DEDUP_WINDOW_MS).is_none(), "a record of that time would be new");
        assert!(ids.observe("d", "x", &partition(), (10, 1500), (1500, 1500)).is_none(), "ids belong to their channel");
    }

    #[test]
    fn after_the_window_an_id_is_new_again() {
        let mut ids = Dedup::new([1; 16]);
        ids.observe("c", "x", &partition(), (5, 0), (0, 0));
        assert!(ids.observe("c", "x", &partition(), (9, DEDUP_WINDOW_MS + 1), (10, 10)).is_none());
    }

    #[test]
    fn an_id_that_is_new_again_is_not_forgotten_with_what_it_was_before() {
        let mut ids = Dedup::new([1; 16]);
        let again = DEDUP_WINDOW_MS + 1;
        assert!(ids.observe("c", "x", &partition(), (1, 0), (0, 0)).is_none());
        assert!(ids.observe("c", "x", &partition(), (2, again), (again, 0)).is_none());
        assert!(ids.observe("c", "y", &partition(), (3, again), (again, again)).is_none(), "the first x expires");
        let first = ids.observe("c", "x", &partition(), (4, again + 10), (again + 10, again));
        assert_eq!(first.unwrap().offset, 2);
    }

    #[test]
    fn ids_are_bounded_in_time_and_number() {
        let mut ids = Dedup::new([1; 16]);
        ids.capacity = 10;
        for n in 0..100 {
            ids.observe("c", &n.to_string(), &partition(), (n, 0), (0, 0));
        }
        assert_eq!(ids.len(), 10);
        assert!(ids.find("c", "99", 0).is_some() && ids.find("c", "89", 0).is_none());
        ids.expire(DEDUP_WINDOW_MS + 1);
        assert!(ids.is_empty());
    }
}
