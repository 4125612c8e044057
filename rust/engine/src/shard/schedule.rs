//! Whose turn it is to be written.
//!
//! Work waits in three lanes, and a pass, which ends with a look at commands and news, gives each lane that has work its
//! share; what one lane does not use is the others', the first lane's before all. So nobody waits for the length of
//! somebody else's burst:
//!
//! | lane | holds | share of a pass |
//! |---|---|---|
//! | express | connections with replies; channels with few members | a half |
//! | sweeps | channels with many members | a quarter |
//! | backlogs | connections that have much to catch up with; replays | a quarter |
//!
//! A connection that waits in the last one is given replies alone in the first: a thousand that come back at once, each
//! with as much to read as fits into a write, are not the others' delay.
//!
//! Within a lane the turn passes on after every connection, and after [`SLICE_MEMBERS`] members of a channel. The passes'
//! length is counted in estimated time, not measured, so that what happens depends on the commands alone.

use std::collections::VecDeque;

use crate::limits::{LOOK_NS, PASS_NS, SLICE_MEMBERS, WRITE_BYTES_PER_NS, WRITE_NS};

/// What may be written in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// One connection, by its slot.
    Connection(u32),
    /// The members of a channel that have not been given its news, by its group.
    Group(u32),
}

/// See the module's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Express = 0,
    Sweeps = 1,
    Backlogs = 2,
}

const LANES: [Lane; 3] = [Lane::Express, Lane::Sweeps, Lane::Backlogs];
const SHARES_NS: [i64; 3] = [PASS_NS / 2, PASS_NS / 4, PASS_NS / 4];

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    lanes: [Queue; 3],
    /// What is left of each lane's share of this pass.
    left_ns: [i64; 3],
}

#[derive(Debug, Default)]
struct Queue {
    work: VecDeque<Work>,
    /// Members of the channel in front that were looked at since it came there.
    looked: usize,
}

impl Schedule {
    /// Adds work behind all that waits in its lane.
    pub(super) fn push(&mut self, lane: Lane, work: Work) {
        self.lanes[lane as usize].work.push_back(work);
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|queue| queue.work.is_empty())
    }

    /// How much work waits.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lanes.iter().map(|queue| queue.work.len()).sum()
    }

    /// Every lane has its share again.
    pub(super) fn begin_pass(&mut self) {
        self.left_ns = SHARES_NS;
    }

    /// The work whose turn it is, if something waits and the pass is not over. It stays until [`Self::done`].
    pub(super) fn front(&mut self) -> Option<(Lane, Work)> {
        let waits = |lane: &Lane| !self.lanes[*lane as usize].work.is_empty();
        let own = LANES.into_iter().filter(waits).find(|&lane| self.left_ns[lane as usize] > 0);
        let others = || self.left_ns.iter().any(|&left| left > 0).then(|| LANES.into_iter().find(waits)).flatten();
        let lane = own.or_else(others)?;
        let queue = &mut self.lanes[lane as usize];
        if queue.looked >= SLICE_MEMBERS {
            queue.work.rotate_left(1);
            queue.looked = 0;
        }
        Some((lane, queue.work[0]))
    }

    /// A member of the channel in front of this lane was looked at.
    pub(super) fn looked(&mut self, lane: Lane) {
        self.lanes[lane as usize].looked += 1;
    }

    /// The work in front of this lane is done.
    pub(super) fn done(&mut self, lane: Lane) {
        let queue = &mut self.lanes[lane as usize];
        queue.work.pop_front();
        queue.looked = 0;
        if queue.work.is_empty() && queue.work.capacity() > 1024 {
            queue.work = VecDeque::new(); // a storm's room is not kept
        }
    }

    /// Charges this lane, or once its share is used up one that left some of its own: for a write of so many bytes, or
    /// for having looked in vain.
    pub(super) fn charge(&mut self, lane: Lane, bytes: Option<usize>) {
        self.spend(lane, bytes.map_or(LOOK_NS, |bytes| WRITE_NS + bytes as i64 / WRITE_BYTES_PER_NS));
    }

    /// The same for work of so long.
    pub(super) fn spend(&mut self, lane: Lane, cost: i64) {
        let own = Some(lane as usize).filter(|&lane| self.left_ns[lane] > 0);
        if let Some(payer) = own.or_else(|| self.left_ns.iter().position(|&left| left > 0)) {
            self.left_ns[payer] -= cost;
        }
    }
}
