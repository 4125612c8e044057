//! Where the keys of a topic lie: the partition of each by murmur2, as Kafka's own clients for Java choose it.
//!
//! Where producers keep to that, and a rule makes the channel of nothing but the key, the partition of a channel is known
//! without a record. A topic may get more partitions, and most keys then lie in another: what a producer wrote before it
//! heard of them stays where it is, so that every number of partitions that the topic has had counts.

use smallvec::SmallVec;

use crate::limits::{COUNTS_MAX, STRAYS_MAX};
use crate::partition::TopicTag;

/// The channels of a rule for a topic: text, the key, text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affixes {
    /// Before the key.
    pub prefix: String,
    /// Behind it.
    pub suffix: String,
}

impl Affixes {
    /// The key of a channel's records, if it can have any.
    pub fn key<'n>(&self, channel: &'n str) -> Option<&'n str> {
        channel.strip_prefix(&*self.prefix)?.strip_suffix(&*self.suffix)
    }
}

/// A topic whose keys lie where murmur2 says.
#[derive(Debug, Clone)]
pub struct Placing {
    /// Which topic.
    pub tag: TopicTag,
    /// The channels of its keys.
    pub affixes: Affixes,
    /// The numbers of partitions that it has, and is known to have had; rising.
    counts: SmallVec<[u32; 2]>,
}

impl Placing {
    /// Nothing is known yet of its partitions.
    pub fn new(tag: TopicTag, affixes: Affixes) -> Self {
        Self { tag, affixes, counts: SmallVec::new() }
    }

    /// It has, or has had, so many partitions, one at least; whether that is news. Of more numbers than [`COUNTS_MAX`] the lowest are
    /// forgotten.
    pub fn learn(&mut self, count: u32) -> bool {
        let Err(at) = self.counts.binary_search(&count) else { return false };
        if at == 0 && self.counts.len() == COUNTS_MAX {
            return false;
        }
        self.counts.insert(at, count);
        if self.counts.len() > COUNTS_MAX {
            self.counts.remove(0);
        }
        true
    }

    /// How many partitions it has, as far as is known.
    pub fn count(&self) -> u32 {
        self.counts.last().copied().unwrap_or(0)
    }

    /// The partitions that records of a channel lie in; none, if it can have none.
    pub fn partitions(&self, channel: &str) -> SmallVec<[i32; 2]> {
        let mut found = SmallVec::new();
        let Some(key) = self.affixes.key(channel) else { return found };
        let hash = hash(key.as_bytes());
        for number in self.counts.iter().map(|&count| partition(hash, count)) {
            if !found.contains(&number) {
                found.push(number);
            }
        }
        found
    }

    /// Whether a record of this key may lie in that partition.
    pub fn admits(&self, key: &[u8], number: i32) -> bool {
        let hash = hash(key);
        self.counts.iter().any(|&count| partition(hash, count) == number)
    }

    /// Why a record of this key may not lie in that partition: one line for people.
    pub fn reason(&self, key: &[u8], number: i32) -> String {
        let count = self.counts.last().copied().unwrap_or(1);
        let right = partition(hash(key), count);
        format!("it lies in partition {number}, and murmur2 puts its key into {right} of {count}")
    }
}

/// Records that lay where their keys should not, by the numbers of partitions known then: once another is learnt, they may
/// turn out to lie right.
#[derive(Debug, Default)]
pub struct Strays {
    met: Vec<(u32, i32)>,
    /// There were too many to remember.
    more: bool,
}

impl Strays {
    /// A record was passed over.
    pub fn add(&mut self, key: &[u8], number: i32) {
        let stray = (hash(key), number);
        if !self.met.contains(&stray) {
            if self.met.len() == STRAYS_MAX {
                self.more = true;
            } else {
                self.met.push(stray);
            }
        }
    }

    /// Whether one in that partition may lie right if the topic has had so many partitions.
    pub fn may_be_right(&self, number: i32, count: u32) -> bool {
        self.more || self.met.iter().any(|&(hash, met)| met == number && partition(hash, count) == number)
    }
}

fn partition(hash: u32, count: u32) -> i32 {
    ((hash & 0x7FFF_FFFF) % count) as i32
}

/// `MurmurHash2` with the seed that Kafka's clients give it.
fn hash(key: &[u8]) -> u32 {
    const M: u32 = 0x5BD1_E995;
    let mut hash = 0x9747_B28C ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(M);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(M) ^ mixed.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placing(counts: &[u32]) -> Placing {
        let mut made = Placing::new([0; 8], Affixes { prefix: "a:".into(), suffix: "!".into() });
        assert!(counts.iter().all(|&count| made.learn(count)));
        made
    }

    #[test]
    fn hashes_as_kafkas_clients_do() {
        // The vectors of Kafka's own test of `Utils.murmur2`.
        let known: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, expected) in known {
            assert_eq!(hash(key) as i32, expected, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_channel_lies_where_its_key_does() {
        let six = placing(&[6]);
        assert_eq!(six.partitions("a:foobar!").to_vec(), [partition(hash(b"foobar"), 6)]);
        for other in ["foobar", "a:foobar", "foobar!", "a", ""] {
            assert!(six.partitions(other).is_empty(), "{other}");
        }
        assert!(placing(&[]).partitions("a:foobar!").is_empty());
    }

    #[test]
    fn every_number_of_partitions_that_there_was_counts() {
        let grown = placing(&[6, 4]);
        for key in (0..200).map(|number| number.to_string()) {
            let hash = hash(key.as_bytes());
            let channel = format!("a:{key}!");
            let both = [partition(hash, 4), partition(hash, 6)];
            for number in 0..6 {
                assert_eq!(grown.admits(key.as_bytes(), number), both.contains(&number));
                assert_eq!(grown.partitions(&channel).contains(&number), both.contains(&number));
            }
        }
    }

    #[test]
    fn so_many_numbers_are_kept_and_the_highest_are() {
        let mut made = placing(&[]);
        for count in (1..=2 * COUNTS_MAX as u32).rev() {
            made.learn(count);
        }
        assert_eq!(made.counts.to_vec(), (COUNTS_MAX as u32 + 1..=2 * COUNTS_MAX as u32).collect::<Vec<_>>());
        assert!(!made.learn(1) && made.learn(99));
    }

    #[test]
    fn a_stray_may_be_right_by_another_number() {
        let mut strays = Strays::default();
        let number = partition(hash(b"k"), 7);
        strays.add(b"k", number);
        assert!(strays.may_be_right(number, 7));
        assert!(!strays.may_be_right(number + 1, 7));
        for stray in 0..=STRAYS_MAX {
            strays.add(stray.to_string().as_bytes(), 0);
        }
        assert!(strays.may_be_right(number + 1, 7), "too many to tell");
        assert_eq!(strays.met.len(), STRAYS_MAX);
    }
}
