//! Replays: what the log holds of a channel behind some place, read back for those who were away for longer than memory
//! reaches. What is done with it, and when it ends, is in `channel/replay.rs`.
//!
//! Whoever reads the log back gives a replay the records of each partition in their order, from its place on; and first
//! those of one de-duplication window before that, from which only the ids are taken.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::{Hub, Place, Plan, Routing, Unknown};
use crate::channel::{Channel, Outcome, Start};
use crate::dedup::Dedup;
use crate::limits::REPLAY_IDS_MAX;
use crate::message::Field;
use crate::partition::Partition;
use crate::record::Record;
use crate::route::Scratch;

/// See the module's text.
#[derive(Debug)]
pub struct Replay {
    /// What attachments are attached to.
    pub channel: Arc<Channel>,
    ids: Mutex<Dedup>,
}

/// What a replay has yet to read of a partition.
#[derive(Debug)]
pub struct Wanted {
    /// From where on.
    pub place: Place,
    /// Up to here at least: what memory holds of the channel begins before it.
    pub goal: i64,
}

impl Hub {
    /// A replay of a channel from these places on. Partitions that are not named are read from their beginning.
    pub fn replay(&self, name: &str, places: &[Place], now_ms: i64) -> Replay {
        let live = self.channel(name, now_ms);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let list = self.partitions.list();
        let place = |index: u16| places.iter().find(|place| place.partition.index == index);
        let start = |partition: &Partition| place(partition.index).map_or(0, |place| place.offset);
        let starts = list.iter().map(|partition| (start(partition), partition.epoch()));
        let channel = Arc::new(Channel::replay(live, id, starts, now_ms));
        Replay { channel, ids: Mutex::new(Dedup::with_capacity(self.settings.key, REPLAY_IDS_MAX)) }
    }

    /// Where a position lies in a replay.
    pub fn locate_replayed(&self, replay: &Replay, serial: &str) -> Plan {
        let channel = &replay.channel;
        let start = self.read_position(&channel.name, serial).map_or_else(Unknown::start, Start::After);
        let (mut located, printed, _) = channel.locate(&start, self.key(), &self.partitions);
        let has_presence = channel.live().is_some_and(|live| live.with_members(|members| !members.is_empty()));
        let serial = if located.outcome == Outcome::Resumed { serial.to_owned() } else { printed };
        located.backlog = located.backlog.max(1); // what is yet to be read, as far as anybody knows
        Plan { channel: Arc::clone(channel), located, serial, before: None, has_presence }
    }

    /// Gives a replay records that were read back; those of other channels are passed over. With `ids_only` they are from
    /// before its beginning. `clock_ms` is the time that all its partitions have been read up to.
    pub fn feed<'a>(
        &self,
        replay: &Replay,
        records: impl Iterator<Item = (Record<'a>, Routing<'a>)>,
        ids_only: bool,
        clock_ms: i64,
    ) {
        let rules = Arc::clone(&self.intake.lock().rules);
        let channel = &replay.channel;
        let ids = &mut *replay.ids.lock();
        let mut scratch = Scratch::default();
        let (mut appended, before) = (0, channel.end());
        channel.ask_no_more();
        for (record, routing) in records {
            let Some(partition) = self.partitions.find(record.topic, record.partition) else { continue };
            let (index, next) = (partition.index, record.offset + 1);
            let of_record = (&record, Arc::clone(&partition));
            if let Some(message) = self.message_of(&rules, &channel.name, of_record, routing, &mut scratch) {
                if !ids_only && channel.has_read(&self.partitions, index, record.offset) {
                    continue;
                }
                let place = (record.offset, record.timestamp);
                let clock = (record.timestamp, clock_ms);
                let is_repeat = message
                    .field(Field::Id)
                    .is_some_and(|id| ids.observe(&channel.name, id, &partition, place, clock).is_some());
                if !is_repeat && !ids_only {
                    let cost = match record.change() {
                        None => Some(channel.append(message)).map(|(cost, _)| cost as isize),
                        Some(change) => {
                            change.and_then(|change| channel.change(&change, &message)).map(|(cost, _)| cost)
                        }
                    };
                    appended += cost.unwrap_or(0);
                }
            }
            if !ids_only {
                channel.advance(&self.partitions, index, next);
            }
        }
        self.stats.ids_forgotten.add(ids.take_forgotten());
        self.replay_bytes.fetch_add(appended as usize, Ordering::Relaxed);
        if channel.end() > before {
            self.tell_of(channel);
        }
    }

    /// A replay has been read up to here in a partition, though no record may be left to show it.
    pub fn advance_replay(&self, replay: &Replay, place: &Place) {
        replay.channel.ask_no_more();
        replay.channel.advance(&self.partitions, place.partition.index, place.offset);
    }

    /// What is to be read before all who are on a replay can go on live, and `margin` offsets more where there are as
    /// many, since memory forgets meanwhile. None if what it has read is in the log no more: it cannot go on.
    pub fn wanted(&self, replay: &Replay, margin: i64) -> Option<Vec<Wanted>> {
        let live = replay.channel.live()?;
        let feeding = self.partitions.feeding(&live.name);
        let list = feeding.list();
        let floors = live.floors(list);
        let reached = replay.channel.reached(list);
        let gone = list.iter().filter(|partition| partition.has_position && !partition.is_current());
        for (partition, reached) in gone.map(|partition| (partition, reached[usize::from(partition.index)])) {
            let is_there = partition.has(reached - 1) && feeding.iter().any(|other| other.tag == partition.tag);
            if reached > 0 && !is_there {
                return None;
            }
        }
        let mut wanted = Vec::new();
        for partition in feeding.iter() {
            let (reached, floor) = (reached[usize::from(partition.index)], floors[usize::from(partition.index)]);
            if reached < floor {
                let above = (partition.next() - floor).max(0);
                let goal = floor + margin.min(above / 2);
                wanted.push(Wanted { place: Place { partition: Arc::clone(partition), offset: reached }, goal });
            }
        }
        Some(wanted)
    }

    /// Asks all who stand at a replay's end to say so; with `hands_over` to go on live.
    pub fn ask_replay(&self, replay: &Replay, hands_over: bool) {
        replay.channel.ask(hands_over);
        self.tell_of(&replay.channel);
    }

    /// Drops the oldest of what a replay holds, until it takes no more than so many bytes.
    pub fn drop_replayed(&self, replay: &Replay, bytes: usize) {
        while replay.channel.bytes() > bytes {
            let dropped = replay.channel.drop_below(u64::MAX, 1);
            if dropped.messages == 0 {
                return;
            }
            self.replay_bytes.fetch_sub(dropped.bytes, Ordering::Relaxed);
        }
    }

    /// Ends a replay: all who are still on it are left behind. To be called once.
    pub fn end_replay(&self, replay: &Replay) {
        replay.channel.ask_no_more();
        let freed = replay.channel.end_replay();
        self.replay_bytes.fetch_sub(freed, Ordering::Relaxed);
        self.tell_of(&replay.channel);
    }

    /// Tells the shards that have attachments on a replay to look at them.
    fn tell_of(&self, channel: &Arc<Channel>) {
        self.tell(&[(Arc::clone(channel), channel.announce())]);
    }
}
