//! The partitions that may feed one channel, as the table has them at the moment.
//!
//! Of topics whose keys lie where murmur2 says it is the partition of the channel's key, or a few where the topic has
//! grown; of all others it is every partition, since a rule over fields may have any of them feed any channel.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::checkpoint::Reference;
use crate::partition::Partition;
use crate::position::Position;

/// See the module's text.
#[derive(Debug)]
pub struct Feeding {
    pub(crate) list: Arc<Vec<Arc<Partition>>>,
    /// By index, rising: those that may feed any channel.
    pub(crate) open: Arc<Vec<u16>>,
    /// Those that are this channel's.
    pub(crate) certain: SmallVec<[u16; 2]>,
    pub(crate) reference: Option<Arc<Reference>>,
}

/// What a position speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognised {
    /// Partitions that are read here.
    All,
    /// One that is not read here, or not yet, too.
    NotAll,
    /// A topic that is not, or was made anew, too.
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

    /// Whether what a position speaks of is read here.
    pub fn recognises(&self, position: &Position) -> Recognised {
        let mut known = Recognised::All;
        for entry in &position.entries {
            let mut same = self.list.iter().filter(|other| other.is_current() && other.tag == entry.tag).peekable();
            if same.peek().is_none() {
                return Recognised::Foreign;
            }
            if !same.any(|other| other.number == entry.partition) {
                known = Recognised::NotAll;
            }
        }
        known
    }
}
