//! A replay: a channel's ring that is filled with what was read back from the log, for those who were away for longer
//! than the live ring reaches back.
//!
//! It is a channel like the live one, of the same name, and attachments are given its entries in the same way. What
//! differs:
//! - Its positions speak of how far the replay has read, not the node.
//! - Whoever stands at its end when it is asked for that is counted as having arrived, or is handed over to the live
//!   ring, at the position where it stands. Both rings make their entries from the same log, so nothing lies between.
//! - An attachment that it has passed was left behind, and has to come back from its own position.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use smallvec::SmallVec;

use super::place::{Had, Located, Outcome, Start};
use super::ring::Ring;
use super::{Channel, Usage};
use crate::kind::Kinds;
use crate::partition::{Partition, Partitions};
use crate::position::{Entry, Position};

/// What a replay's channel has beside its ring.
#[derive(Debug)]
pub(super) struct Replay {
    /// The channel as it is live: its attachments are that one's, too.
    live: Arc<Channel>,
    /// The number of the round that is asked, doubled, and one more if it hands over; 0 if none is.
    asked: AtomicU64,
    rounds: AtomicU64,
    arrived: AtomicUsize,
    refused: AtomicUsize,
}

/// Where the reading of a partition began, and how far it has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) next: i64,
    /// The newest leader epoch that was known when it was read so far: a newer one may have cut the log since.
    pub(super) epoch: i32,
}

/// Of a partition that was added to its topic.
const ADDED: Span = Span { start: 0, next: 0, epoch: -1 };

/// How far a replay has read, by partition.
#[derive(Debug)]
pub(super) struct Reading(Vec<Span>);

impl Reading {
    /// Of a partition. One that came into the table later goes on for an earlier entry of the same; or it was added to its
    /// topic, and all of it is news.
    pub(super) fn span(&self, list: &[Arc<Partition>], index: usize) -> Span {
        self.0.get(index).copied().unwrap_or_else(|| {
            let same = |old: &Arc<Partition>| old.tag == list[index].tag && old.number == list[index].number;
            list[..self.0.len()].iter().rposition(same).map_or(ADDED, |old| self.0[old])
        })
    }

    /// Whether everything below these offsets has been read.
    pub(super) fn covers(&self, next: &[i64]) -> bool {
        self.0.iter().zip(next).all(|(span, next)| span.next >= *next)
    }

    fn advance(&mut self, list: &[Arc<Partition>], index: usize, next: i64) {
        while self.0.len() <= index {
            self.0.push(self.span(list, self.0.len()));
        }
        let span = &mut self.0[index];
        if next > span.next {
            (span.next, span.epoch) = (next, list[index].epoch());
        }
    }
}

impl Channel {
    /// A replay of `live` that begins at these offsets, in these leader epochs, of the partitions in the table.
    pub(crate) fn replay(live: Arc<Self>, id: u64, starts: impl Iterator<Item = (i64, i32)>, now_ms: i64) -> Self {
        let spans = starts.map(|(start, epoch)| Span { start, next: start, epoch }).collect();
        let name = Arc::clone(&live.name);
        let replay = Replay {
            live,
            asked: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            arrived: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        };
        let mut channel = Self::new(name, id, None, now_ms);
        channel.ring.get_mut().reading = Some(Box::new(Reading(spans)));
        channel.replay = Some(Box::new(replay));
        channel
    }

    /// The live channel that this is a replay of.
    pub fn live(&self) -> Option<&Arc<Self>> {
        self.replay.as_ref().map(|replay| &replay.live)
    }

    /// Everyone who stands at the end is asked to say so, in a new round; with `hands_over` to go on live.
    pub(crate) fn ask(&self, hands_over: bool) {
        let Some(replay) = &self.replay else { return };
        replay.arrived.store(0, Ordering::Relaxed);
        replay.refused.store(0, Ordering::Relaxed);
        let round = replay.rounds.fetch_add(1, Ordering::Relaxed) + 1;
        replay.asked.store(round << 1 | u64::from(hands_over), Ordering::Release);
    }

    /// Nobody is asked any more: there is more to come.
    pub(crate) fn ask_no_more(&self) {
        if let Some(replay) = &self.replay {
            replay.asked.store(0, Ordering::Release);
        }
    }

    /// The round in which those who stand at the end are asked to say so, if there is one.
    pub(crate) fn round(&self) -> Option<u64> {
        let asked = self.replay.as_ref()?.asked.load(Ordering::Acquire);
        (asked != 0).then_some(asked)
    }

    /// Whether who stands at the end is to go on live.
    pub(crate) fn hands_over(&self) -> bool {
        self.round().is_some_and(|asked| asked & 1 == 1)
    }

    /// An attachment stands at the end.
    pub(crate) fn arrive(&self) {
        if let Some(replay) = &self.replay {
            replay.arrived.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An attachment stands at the end, and the live ring has passed its position meanwhile.
    pub(crate) fn refuse(&self) {
        if let Some(replay) = &self.replay {
            replay.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Of this round: how many have arrived, and of those who were to go on live how many could not.
    pub fn answers(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        self.replay.as_ref().map_or((0, 0), |replay| (count(&replay.arrived), count(&replay.refused)))
    }

    /// A partition was read up to here, and all of it that is the channel's has been appended.
    pub(crate) fn advance(&self, partitions: &Partitions, index: u16, next: i64) {
        let list = partitions.list();
        if let Some(reading) = &mut self.ring.lock().reading {
            reading.advance(&list, usize::from(index), next);
        }
    }

    /// Whether a replay has read this offset of a partition already.
    pub(crate) fn has_read(&self, partitions: &Partitions, index: u16, offset: i64) -> bool {
        offset < self.ring.lock().reached_in(&partitions.list(), usize::from(index))
    }

    /// How far the replay has read, by partition, for those in `list`.
    pub(crate) fn reached(&self, list: &[Arc<Partition>]) -> Vec<i64> {
        let ring = self.ring.lock();
        (0..list.len()).map(|index| ring.reached_in(list, index)).collect()
    }

    /// The position of an attachment that stands at the end of a replay; None if it does not, or no more.
    pub(crate) fn arrived_at(&self, at: u64, had: Option<&Had>, partitions: &Partitions) -> Option<Position> {
        let feeding = partitions.feeding(&self.name);
        let ring = &*self.ring.lock();
        if at != ring.end() {
            return None;
        }
        let reading = ring.reading.as_ref()?;
        let entries = feeding.iter().map(|partition| {
            let index = usize::from(partition.index);
            let Span { next, epoch, .. } = reading.span(feeding.list(), index);
            let (offset, epoch) = had.map_or((next, epoch), |had| had.reaches(index, (next, epoch)));
            Entry { tag: partition.tag, partition: partition.number, offset, epoch }
        });
        Some(Position::of(entries.collect()))
    }

    /// A subscriber inside this process that stands there is asked like an attachment, once a round: `said` is the last in
    /// which it was. If it goes on live, the live channel and its place there.
    pub fn arrived(
        &self,
        at: u64,
        had: Option<&Had>,
        said: &mut u64,
        partitions: &Partitions,
    ) -> Option<(Arc<Self>, Located)> {
        let round = self.round().filter(|round| *round != *said && at == self.end())?;
        *said = round;
        if !self.hands_over() {
            self.arrive();
            return None;
        }
        let live = self.live()?;
        let (located, _) = live.find(&Start::After(self.arrived_at(at, had, partitions)?), partitions);
        if located.outcome != Outcome::Resumed {
            self.refuse();
            return None;
        }
        Some((Arc::clone(live), located))
    }

    /// Where `start` is, and whether somebody is present.
    pub(crate) fn find(&self, start: &Start, partitions: &Partitions) -> (Located, bool) {
        let ring = &*self.ring.lock();
        (ring.find(&self.name, start, partitions), ring.members.as_ref().is_some_and(|members| !members.is_empty()))
    }

    /// From which offset on all of the channel is in the ring, for each partition in `list`.
    pub(crate) fn floors(&self, list: &[Arc<Partition>]) -> Vec<i64> {
        let ring = &*self.ring.lock();
        list.iter().enumerate().map(|(index, _)| ring.floor(list, index)).collect()
    }

    /// Bytes that the ring and what is kept for sharing take.
    pub fn bytes(&self) -> usize {
        self.ring.lock().bytes_with_frames()
    }

    /// Ends a replay: everyone who is still on it is left behind. Returns the bytes that are free now.
    pub(crate) fn end_replay(&self) -> usize {
        let ring = &mut *self.ring.lock();
        let mut freed = 0;
        while let Some(bytes) = ring.pop() {
            freed += bytes;
        }
        freed += ring.forget_frames();
        ring.base += 1;
        self.end.store(ring.base, Ordering::Release);
        freed
    }

    /// The channels in which an attachment here is counted.
    pub(super) fn counted_in(&self) -> SmallVec<[&Usage; 2]> {
        std::iter::once(&self.usage).chain(self.live().map(|live| &live.usage)).collect()
    }

    /// Counts an attachment of these kinds.
    pub fn attached(&self, kinds: Kinds) {
        self.counted_in().iter().for_each(|usage| usage.count(kinds, true));
    }

    /// It is no more.
    pub fn detached(&self, kinds: Kinds) {
        self.counted_in().iter().for_each(|usage| usage.count(kinds, false));
    }
}

impl Ring {
    /// The leader epoch that a position says of a partition in `list`.
    pub(super) fn epoch(&self, list: &[Arc<Partition>], index: usize) -> i32 {
        self.reading.as_ref().map_or(list[index].epoch(), |reading| reading.span(list, index).epoch)
    }

    /// How far a partition in `list` was read: by the node, or by the replay whose ring this is.
    pub(super) fn reached_in(&self, list: &[Arc<Partition>], index: usize) -> i64 {
        self.reading.as_ref().map_or_else(|| list[index].next(), |reading| reading.span(list, index).next)
    }
}
