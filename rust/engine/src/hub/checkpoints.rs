//! Checkpoints as a node has them: which one its positions refer to, what the next one would say, and what those mean that
//! are in positions of clients (`checkpoint.rs` says what they are).
//!
//! Who writes them is not agreed on: whoever finds that the newest one is old, and that more has been read since.

use std::sync::Arc;

use super::Hub;
use crate::channel::{Outcome, Start};
use crate::checkpoint::{self, Checkpoint, Checkpoints, Reference};
use crate::limits::{CHECKPOINT_LEFT_MS, CHECKPOINT_MS, CHECKPOINT_RENEWED_MS, CHECKPOINTS_LOOKED, ENTRIES_LISTED};
use crate::partition::Partition;
use crate::position::{self, Base, Body, Entry, Position, Text};
use crate::record::Record;

/// Why a text is not a position, or not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Not of this channel in this log.
    Foreign,
    /// Its checkpoint lies beyond what this node has read.
    Ahead,
    /// Its checkpoint, which has this number, has to be read back.
    Unread(i64),
}

impl Unknown {
    /// Where an attachment begins then.
    pub(super) fn start(self) -> Start {
        Start::Nowhere(match self {
            Self::Foreign => Outcome::Foreign,
            Self::Ahead => Outcome::Ahead,
            Self::Unread(_) => Outcome::Unread,
        })
    }
}

impl Hub {
    /// The records of this topic are checkpoints. To be called before its partition is assigned, once.
    pub fn checkpoint_topic(&self, topic: &str) {
        self.partitions.add_state_topic(topic);
        self.checkpoint_topic.get_or_init(|| topic.into());
    }

    /// Whether the records of this topic are checkpoints.
    pub(super) fn has_checkpoints(&self, topic: &str) -> bool {
        self.checkpoint_topic.get().is_some_and(|own| **own == *topic)
    }

    fn checkpoint_partition(&self) -> Option<Arc<Partition>> {
        self.partitions.find(self.checkpoint_topic.get()?, 0).filter(|partition| partition.is_current())
    }

    pub(super) fn deliver_checkpoint(&self, record: &Record<'_>, partition: &Partition, now_ms: i64) {
        match Checkpoint::of((record.offset, record.epoch), record.value.unwrap_or_default(), now_ms) {
            Some(checkpoint) => self.checkpoints.lock().take(partition.tag, checkpoint),
            None => self.stats.records_unroutable.add(1),
        }
    }

    /// Lets positions refer to the newest checkpoint that they can refer to, and returns the next one's value if it is time
    /// for that. To be called some times a second. Takes 0.1 ms with 1,000 partitions.
    pub fn checkpoint(&self, now_ms: i64) -> Option<Body> {
        let checkpoints = &*self.checkpoints.lock();
        self.refer(checkpoints);
        self.next_checkpoint(checkpoints, now_ms)
    }

    fn refer(&self, checkpoints: &Checkpoints) {
        let open = self.partitions.open();
        let is_there = |base: &Base| checkpoints.find(base).is_some_and(|found| found.epoch == base.epoch);
        let old = open.reference().map(|reference| reference.base).filter(is_there);
        let newer = checkpoints.newest().take_while(|other| old.is_none_or(|base| other.number > base.number));
        let reference = newer
            .take(CHECKPOINTS_LOOKED)
            .find_map(|checkpoint| Reference::new(checkpoints.base(checkpoint), &checkpoint.entries(), &open));
        if reference.is_some() || old.is_none() {
            self.partitions.refer(&open, reference);
        }
    }

    fn next_checkpoint(&self, checkpoints: &Checkpoints, now_ms: i64) -> Option<Body> {
        let open = self.partitions.open();
        let mut entries: Vec<_> = open.iter().map(|partition| entry(partition)).collect();
        if entries.len() <= ENTRIES_LISTED || self.checkpoint_partition().is_none() {
            return None;
        }
        entries.sort_unstable_by_key(Entry::place);
        // Other nodes may read other topics: theirs are not ours.
        let is_ours = |named: &[Entry]| {
            let mut topics = entries.chunk_by(|one, other| one.tag == other.tag).map(|entries| entries[0].tag);
            topics.all(|tag| named.binary_search_by_key(&tag, |entry| entry.tag).is_ok())
        };
        let mut newest = checkpoints.newest().take(CHECKPOINTS_LOOKED).map(|newest| (newest.read_ms, newest.entries()));
        if let Some((read_ms, named)) = newest.find(|(_, named)| is_ours(named)) {
            let offset = |entry: &Entry| {
                named.binary_search_by_key(&entry.place(), Entry::place).map_or(-1, |at| named[at].offset)
            };
            let left_ms = if entries.iter().any(|entry| entry.offset < offset(entry)) {
                CHECKPOINT_LEFT_MS
            } else if entries.iter().any(|entry| entry.offset > offset(entry)) {
                CHECKPOINT_MS
            } else {
                CHECKPOINT_RENEWED_MS
            };
            if now_ms < read_ms + left_ms {
                return None;
            }
        }
        Some(checkpoint::print(entries.into_iter()))
    }

    /// The checkpoint in this record was read back.
    pub fn recall(&self, (number, epoch): (i64, i32), value: &[u8], now_ms: i64) {
        if let (Some(partition), Some(found)) =
            (self.checkpoint_partition(), Checkpoint::of((number, epoch), value, now_ms))
        {
            self.checkpoints.lock().recall(partition.tag, found);
        }
    }

    /// The position that a client presents for a channel.
    pub(super) fn read_position(&self, name: &str, text: &str) -> Result<Position, Unknown> {
        let text = position::parse(self.key(), name, text).map_err(|_| Unknown::Foreign)?;
        let Some(base) = text.base else { return Ok(text.position(&[])) };
        let partition =
            self.checkpoint_partition().filter(|partition| partition.tag == base.tag).ok_or(Unknown::Foreign)?;
        match self.checkpoints.lock().find(&base) {
            Some(found) if found.epoch == base.epoch => Ok(text.position(&found.entries())),
            Some(_) => Err(Unknown::Foreign),
            None if base.number >= partition.next() => Err(Unknown::Ahead),
            None => Err(Unknown::Unread(base.number)),
        }
    }

    /// The same position without a checkpoint, so that it stays known whatever memory forgets.
    pub fn whole(&self, name: &str, text: &str) -> Result<String, Unknown> {
        let Position { entries } = self.read_position(name, text)?;
        Ok(Text { base: None, entries }.print(self.key(), name))
    }
}

/// How far a partition was read. The epoch is looked at last: it may be that of a record behind, which is no less true of
/// what lies below.
fn entry(partition: &Partition) -> Entry {
    let offset = partition.next();
    Entry { tag: partition.tag, partition: partition.number, offset, epoch: partition.epoch() }
}
