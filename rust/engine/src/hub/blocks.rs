//! Which ranges of a partition may hold a channel, so that whoever looks for it far back reads nothing else of the log.
//!
//! Every partition is cut into blocks of some [`BLOCK_RECORDS`] records as it is read; of each block the channels in it
//! are kept, as hashes of 32 bits. Rules:
//! - What is not indexed may hold any channel: what lies before the node's reading, the block that is being filled, and
//!   the oldest blocks once all together are too large.
//! - A channel's hash stands for others too: then a block is read in vain. It is never missing where it should be.
//! - The index says nothing that the log does not; a node that starts anew fills it anew.
//!
//! A block is charged 4 bytes for each channel in it, and [`BLOCK_OVERHEAD`]: half a byte a record where 100 channels take
//! turns, 4 where none comes twice. Hashes lie as they came: sorting them would cost each record as much as its append.
//! A channel whose records come from several partitions in turn may be noted again in a block.

use std::collections::VecDeque;

use super::Hub;
use crate::channel::Channel;
use crate::limits::{BLOCK_CHANNELS, BLOCK_OVERHEAD, BLOCK_RECORDS, BLOCKS_LOOKED, INDEX_SHARE};
use crate::partition::Partition;

/// The blocks being filled, by partition. They belong to the thread that delivers records.
#[derive(Debug, Default)]
pub(super) struct Filling {
    open: Vec<Open>,
    /// How many were begun: their numbers.
    begun: u64,
}

#[derive(Debug, Default)]
struct Open {
    /// None is 0.
    number: u64,
    records: usize,
    hashes: Vec<u32>,
}

impl Filling {
    /// The record of this partition that is being delivered is of this channel.
    pub(super) fn note(&mut self, partition: &Partition, channel: &Channel) {
        let open = self.open(partition);
        if channel.is_first_in_block(open.number) {
            open.hashes.push(channel.hash);
        }
    }

    fn open(&mut self, partition: &Partition) -> &mut Open {
        let index = usize::from(partition.index);
        if index >= self.open.len() {
            self.open.resize_with(index + 1, Open::default);
        }
        let open = &mut self.open[index];
        if open.number == 0 {
            self.begun += 1;
            open.number = self.begun;
        }
        open
    }

    /// The partition is read anew: what was noted of it is not of a block any more.
    pub(super) fn forget(&mut self, partition: &Partition) {
        if let Some(open) = self.open.get_mut(usize::from(partition.index)) {
            *open = Open::default();
        }
    }

    /// A record of this partition has been delivered; the block that it filled, if it did.
    pub(super) fn count(&mut self, partition: &Partition) -> Option<Block> {
        let open = self.open(partition);
        open.records += 1;
        if open.records < BLOCK_RECORDS && open.hashes.len() < BLOCK_CHANNELS {
            return None;
        }
        Some(Block { end: partition.next(), hashes: std::mem::take(open).hashes.into() })
    }
}

/// Some records that lie next to each other.
#[derive(Debug)]
pub(super) struct Block {
    /// Behind its last record; it begins where the one before ends.
    end: i64,
    /// Of the channels in it.
    hashes: Box<[u32]>,
}

impl Block {
    /// Whether the channel of this hash is in it. Without an early end, so that many are compared at a time.
    fn may_hold(&self, hash: u32) -> bool {
        self.hashes.iter().filter(|&&other| other == hash).count() > 0
    }

    fn cost(&self) -> usize {
        BLOCK_OVERHEAD + size_of_val(&*self.hashes)
    }
}

/// The filled blocks of all partitions.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// By partition.
    indexed: Vec<Indexed>,
    /// The partition of each block, oldest first.
    order: VecDeque<u16>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Indexed {
    /// Where its first block begins.
    from: i64,
    blocks: VecDeque<Block>,
}

impl Blocks {
    fn push(&mut self, partition: &Partition, block: Block, most: usize) {
        let index = usize::from(partition.index);
        if index >= self.indexed.len() {
            self.indexed.resize_with(index + 1, Indexed::default);
        }
        let indexed = &mut self.indexed[index];
        if indexed.blocks.is_empty() {
            indexed.from = indexed.from.max(partition.start);
        }
        self.bytes += block.cost();
        indexed.blocks.push_back(block);
        self.order.push_back(partition.index);
        while self.bytes > most {
            let Some(oldest) = self.order.pop_front() else { return };
            let indexed = &mut self.indexed[usize::from(oldest)];
            let Some(block) = indexed.blocks.pop_front() else { continue };
            indexed.from = block.end;
            self.bytes -= block.cost();
        }
    }

    fn forget(&mut self, partition: &Partition) {
        let Some(indexed) = self.indexed.get_mut(usize::from(partition.index)) else { return };
        self.bytes -= std::mem::take(indexed).blocks.iter().map(Block::cost).sum::<usize>();
        self.order.retain(|&index| index != partition.index);
    }

    fn ranges(&self, partition: &Partition, hash: u32, (start, stop): (i64, i64)) -> Vec<(i64, i64)> {
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        let mut add = |from: i64, to: i64| {
            let (from, to) = (from.max(start), to.min(stop));
            match ranges.last_mut() {
                _ if from >= to => {}
                Some(last) if last.1 == from => last.1 = to,
                _ => ranges.push((from, to)),
            }
        };
        let Some(indexed) = self.indexed.get(usize::from(partition.index)) else {
            add(start, stop);
            return ranges;
        };
        add(start, indexed.from);
        let first = indexed.blocks.partition_point(|block| block.end <= start);
        let mut from = first.checked_sub(1).map_or(indexed.from, |before| indexed.blocks[before].end);
        for block in indexed.blocks.range(first..).take(BLOCKS_LOOKED) {
            if block.may_hold(hash) {
                add(from, block.end);
            }
            from = block.end;
            if from >= stop {
                break;
            }
        }
        add(from, stop);
        ranges
    }
}

impl Hub {
    /// The ranges of offsets within `start..stop` of a partition that may hold the channel, in order and apart. Looks at
    /// [`BLOCKS_LOOKED`] blocks at most, which takes 50 to 400 ns each; what lies behind may hold it.
    pub fn blocks(&self, name: &str, partition: &Partition, start: i64, stop: i64) -> Vec<(i64, i64)> {
        self.blocks.read().ranges(partition, Channel::hash_of(name), (start, stop))
    }

    /// Takes a filled block into the index.
    pub(super) fn index(&self, partition: &Partition, block: Block) {
        self.blocks.write().push(partition, block, self.settings.history_bytes / INDEX_SHARE);
    }

    /// Drops what the index has of a partition.
    pub(super) fn unindex(&self, partition: &Partition) {
        self.blocks.write().forget(partition);
    }

    /// What the index holds in memory, in bytes.
    pub(super) fn index_bytes(&self) -> usize {
        self.blocks.read().bytes
    }
}
