//! Members that have left, and the generation of their connections then.
//!
//! A node that was away for a while, frozen or cut off, may write then what a client had told it before it went on
//! elsewhere and left there. Such an enter is of an older generation than the leave, and is known by that. Only leaves
//! of connections that were continued are kept, for no enter is older than generation 0; the oldest leave is forgotten
//! first. Then, as on a node that reads the log from behind it, a late enter counts until its node lets the member go.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::limits::{GONE_BYTES, GONE_OVERHEAD};

/// By the keys of their records.
#[derive(Debug, Default)]
pub struct Gone {
    generations: HashMap<Arc<[u8]>, u64>,
    order: VecDeque<Arc<[u8]>>,
    bytes: usize,
}

impl Gone {
    /// What a member that enters has to be of at least.
    pub fn generation(&self, key: &[u8]) -> u64 {
        self.generations.get(key).copied().unwrap_or_default()
    }

    /// A member has left.
    pub fn put(&mut self, key: &[u8], generation: u64) {
        if generation == 0 {
            return;
        }
        if let Some(kept) = self.generations.get_mut(key) {
            *kept = generation;
            return;
        }
        let key: Arc<[u8]> = key.into();
        self.bytes += key.len() + GONE_OVERHEAD;
        self.order.push_back(Arc::clone(&key));
        self.generations.insert(key, generation);
        while self.bytes > GONE_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            self.bytes -= oldest.len() + GONE_OVERHEAD;
            self.generations.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_leave_of_a_member_counts() {
        let mut gone = Gone::default();
        assert_eq!(gone.generation(b"a"), 0);
        gone.put(b"a", 0);
        gone.put(b"a", 2);
        gone.put(b"a", 3);
        gone.put(b"b", 1);
        assert_eq!((gone.generation(b"a"), gone.generation(b"b")), (3, 1));
        assert_eq!(gone.order.len(), 2);
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many() {
        let mut gone = Gone::default();
        let most = GONE_BYTES / (8 + GONE_OVERHEAD);
        for number in 0..=most as u64 {
            gone.put(&number.to_le_bytes(), 1);
        }
        assert_eq!((gone.generation(&0_u64.to_le_bytes()), gone.generation(&1_u64.to_le_bytes())), (0, 1));
        assert_eq!((gone.generations.len(), gone.order.len()), (most, most));
        gone.put(&vec![0; GONE_BYTES], 1);
        assert_eq!((gone.generations.len(), gone.bytes), (0, 0), "not even itself");
    }
}
