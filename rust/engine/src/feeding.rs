//! The partitions that may feed one channel, as the table has them at the moment.
//!
//! Of topics whose keys lie where murmur2 says it is the partition of the channel's key, or a few where the topic has
//! grown; of all others it is every partition, since a rule over fields may have any of them feed any channel. Of a name
//! that is no channel's it is every partition of all topics: the place of everything.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::checkpoint::Reference;
use crate::partition::{Partition, TopicTag};
use crate::position::{Entry, Position};

/// See the module's text.
#[derive(Debug)]
pub struct Feeding {
    pub(crate) list: Arc<Vec<Arc<Partition>>>,
    /// By index, rising: those that may feed any channel.
    pub(crate) open: Arc<Vec<u16>>,
    /// Those that are this channel's.
    pub(crate) certain: SmallVec<[u16; 2]>,
    /// Of each topic whose keys tell their partitions, how many it has; not all of them need be read.
    pub(crate) counted: SmallVec<[(TopicTag, u32); 1]>,
    pub(crate) reference: Option<Arc<Reference>>,
}

/// What a position speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognised {
    /// Partitions that may feed the channel, as far as this node knows; or all of a topic's, which somebody listed who did not
    /// know where the channel's key lies.
    All,
    /// One too of which this node does not know that it may, or not yet.
    NotAll,
    /// A topic too that is not, was made anew or is read by no rule; what it had is not to be had here.
    Less,
    /// Such topics alone.
    Foreign,
}

impl Feeding {
    /// All entries of the table, by index.
    pub fn list(&self) -> &[Arc<Partition>] {
        &self.list
    }

    /// The entries that stand for the partitions which may feed the channel.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.indices().map(|index| &self.list[usize::from(index)])
    }

    fn indices(&self) -> impl Iterator<Item = u16> {
        self.open.iter().chain(&self.certain).copied()
    }

    /// The checkpoint that positions refer to.
    pub fn reference(&self) -> Option<&Reference> {
        self.reference.as_deref()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.len() + self.certain.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place of an entry among them.
    pub fn place_of(&self, index: u16) -> Option<usize> {
        let certain = || self.certain.iter().position(|&own| own == index).map(|at| self.open.len() + at);
        self.open.binary_search(&index).ok().or_else(certain)
    }

    /// Whether this node knows of the partitions that a position speaks of.
    pub fn recognises(&self, position: &Position) -> Recognised {
        let current = self.list.iter().filter(|partition| partition.has_position && partition.is_current());
        let mut current: SmallVec<[_; 16]> = current.map(|own| (own.tag, own.number, own.index)).collect();
        current.sort_unstable();
        let mut listed: Option<(TopicTag, bool)> = None;
        let (mut known, mut unknown) = (0, 0);
        let mut all_feed = true;
        for entry in &position.entries {
            let at = current.partition_point(|&(tag, number, _)| (tag, number) < entry.place());
            let beside = [at.checked_sub(1), Some(at)].into_iter().flatten().filter_map(|at| current.get(at));
            let counted = self.counted.iter().find(|(tag, _)| *tag == entry.tag).map(|&(_, count)| count);
            if !beside.clone().any(|&(tag, ..)| tag == entry.tag) && counted.is_none() {
                unknown += 1;
                continue;
            }
            known += 1;
            let own = current.get(at).filter(|&&(tag, number, _)| (tag, number) == entry.place());
            let may_feed = own.is_some_and(|&(_, _, index)| self.place_of(index).is_some());
            if may_feed {
                continue;
            }
            let (_, all) = *match &mut listed {
                Some(told) if told.0 == entry.tag => told,
                other => {
                    let all = counted.is_some_and(|count| lists_all(position, entry, count as usize));
                    other.insert((entry.tag, all))
                }
            };
            if !all {
                all_feed = false;
            }
        }
        match (known, unknown) {
            (0, 1..) => Recognised::Foreign,
            _ if !all_feed => Recognised::NotAll,
            (_, 1..) => Recognised::Less,
            _ => Recognised::All,
        }
    }
}

/// Whether a position lists all partitions of a topic that has so many: as many, or as it had then, for three in a row are
/// no key's.
fn lists_all(position: &Position, of: &Entry, has: usize) -> bool {
    let listed = || position.entries.iter().filter(|entry| entry.tag == of.tag);
    let count = listed().count();
    (count == has || (count > 2 && count < has)) && listed().all(|entry| (entry.partition as usize) < count)
}
