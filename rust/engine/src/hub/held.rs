//! What memory holds of a channel, cut at a place in every partition, so that whoever reads the log goes on exactly
//! there; and what records of the log are to a channel when they are read back.
//!
//! A place is an offset: forwards the first that is wanted, backwards the first that is not. Within a partition messages
//! come by offset, between partitions as this node read them.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Hub, Routing};
use crate::epochs::Judged;
use crate::feeding::Recognised;
use crate::limits::{CHANNELS_PER_RECORD_MAX, DEDUP_WINDOW_MS};
use crate::message::{Field, Message};
use crate::partition::Partition;
use crate::position::{self, Entry};
use crate::record::Record;
use crate::route::{Rules, Scratch, may_reach};

/// A place in a partition.
#[derive(Debug, Clone)]
pub struct Place {
    /// The partition.
    pub partition: Arc<Partition>,
    /// See the module's text.
    pub offset: i64,
}

/// What to look for in memory.
#[derive(Debug, Clone, Copy)]
pub struct HeldQuery {
    /// First and last time, inclusive.
    pub start_ms: i64,
    /// See above.
    pub end_ms: i64,
    /// Oldest first.
    pub forwards: bool,
    /// At most so many.
    pub limit: usize,
    /// At most so many bytes of content, but one message.
    pub limit_bytes: usize,
}

/// What memory has of it.
#[derive(Debug)]
pub struct Held {
    /// In the order asked for. None, forwards, as long as a place lies below its floor: what the log has comes first.
    pub messages: Vec<Message>,
    /// Where to go on, for each place that was asked for: backwards not above its floor unless there is more.
    pub next: Vec<i64>,
    /// For each place: from here on all of the channel is in memory, or was never in the log.
    pub floors: Vec<i64>,
    /// Memory holds more than the limit.
    pub more: bool,
}

impl Hub {
    /// The places of a position, one for each partition that may feed the channel; without one, how far the node has read.
    /// None for what is no position of this channel in this log. Where the log was cut since, it goes on there.
    pub fn places(&self, name: &str, text: Option<&str>) -> Option<Vec<Place>> {
        let feeding = self.partitions.feeding(name);
        let Some(text) = text else {
            return Some(feeding.iter().map(|p| Place { partition: Arc::clone(p), offset: p.next() }).collect());
        };
        let position = self.read_position(name, text).ok()?;
        let place = |p: &Arc<Partition>| Place { partition: Arc::clone(p), offset: position.place_in(p).0 };
        (feeding.recognises(&position) != Recognised::Foreign).then(|| feeding.iter().map(place).collect())
    }

    /// The partitions in which memory does not hold all of the channel from its place in a position on. None for what is
    /// no position of this channel in this log.
    pub fn unheld(&self, name: &str, text: &str) -> Option<Vec<Arc<Partition>>> {
        let places = self.places(name, Some(text))?;
        let channel = self.channels.read().get(name).cloned();
        let list = self.partitions.list();
        let floors = channel.map(|channel| channel.floors(&list));
        let is_unheld = |place: &Place| {
            let partition = &place.partition;
            let floor = floors
                .as_ref()
                .map_or_else(|| partition.floor_of_none(), |floors| floors[usize::from(partition.index)]);
            place.offset < floor
        };
        Some(places.into_iter().filter(is_unheld).map(|place| place.partition).collect())
    }

    /// Of the places of a position those of which it is not known whether what lay below still does: partition, offset, and
    /// the newest epoch there was below. See [`Judged::Doubtful`].
    pub fn doubts(&self, name: &str, text: &str) -> Vec<(Arc<Partition>, i64, i32)> {
        let position = self.read_position(name, text).unwrap_or_default();
        let feeding = self.partitions.feeding(name);
        let entries = feeding.iter().filter_map(|partition| Some((partition, position.entry(partition)?)));
        let is_known = |(partition, entry): &(&Arc<Partition>, &Entry)| {
            let is_told = entry.epoch < 0 || entry.offset == 0 || !partition.knows_no_epoch();
            is_told && partition.judge(entry) != Judged::Doubtful
        };
        entries
            .filter(|place| !is_known(place))
            .map(|(partition, entry)| (Arc::clone(partition), entry.offset, entry.epoch))
            .collect()
    }

    /// The position of places. Of those that cannot be the channel's it does not speak.
    pub fn print_places(&self, name: &str, places: &mut [Place]) -> String {
        places.sort_by_key(|place| (place.partition.tag, place.partition.number));
        let feeding = self.partitions.feeding(name);
        let own = places.iter().filter(|place| feeding.place_of(place.partition.index).is_some());
        let entries = own.map(|Place { partition, offset }| Entry {
            tag: partition.tag,
            partition: partition.number,
            offset: *offset,
            epoch: -1,
        });
        position::print(self.key(), name, None, entries)
    }

    /// What memory holds of a channel behind some places. Messages of partitions that are not asked for are left out.
    pub fn held(&self, name: &str, places: &[Place], query: &HeldQuery) -> Held {
        let channel = self.channels.read().get(name).cloned();
        if let Some(channel) = channel {
            return channel.held_behind(places, query, &self.partitions.list());
        }
        let floors = places.iter().map(|Place { partition, .. }| partition.floor_of_none());
        Held::nothing(places, floors.collect(), query.forwards)
    }

    /// What these records, read back from the log, are to a channel: its messages. A repeat is none, if its first is
    /// among the records.
    pub fn decode<'a>(
        &self,
        name: &str,
        records: impl Iterator<Item = (Record<'a>, Routing<'a>)>,
    ) -> Vec<Option<Message>> {
        let rules = Arc::clone(&self.intake.lock().rules);
        let mut scratch = Scratch::default();
        let mut firsts: HashMap<String, i64> = HashMap::new();
        let mut decode = |record: Record<'a>, routing| {
            if record.header("fanout.action").is_some() {
                return None;
            }
            let partition = self.partitions.find(record.topic, record.partition)?;
            let message = self.message_of(&rules, name, (&record, partition), routing, &mut scratch)?;
            if let Some(id) = message.field(Field::Id) {
                match firsts.get(id) {
                    Some(first) if record.timestamp.saturating_sub(*first) <= DEDUP_WINDOW_MS => return None,
                    _ => firsts.insert(id.to_owned(), record.timestamp),
                };
            }
            Some(message)
        };
        let mut messages: Vec<_> = records.map(|(record, routing)| decode(record, routing)).collect();
        // What was changed lately is shown as it is now, though it was published long ago.
        if let Some(channel) = self.channels.read().get(name).cloned() {
            for message in messages.iter_mut().flatten() {
                channel.show_newest(std::slice::from_mut(message));
            }
        }
        messages
    }

    /// By channel, the numbers of those of these records, read back from the log, that may be messages of it: all that
    /// [`Hub::decode`] finds, and perhaps some that lie elsewhere than their keys.
    pub fn channels_of<'a>(
        &self,
        records: impl Iterator<Item = (Record<'a>, Routing<'a>)>,
    ) -> HashMap<String, Vec<usize>> {
        let rules = Arc::clone(&self.intake.lock().rules);
        let mut scratch = Scratch::default();
        let mut found: HashMap<String, Vec<usize>> = HashMap::new();
        let mut note = |name: &str, number| match found.get_mut(name) {
            Some(numbers) if numbers.last() == Some(&number) => {}
            Some(numbers) => numbers.push(number),
            None => drop(found.insert(name.to_owned(), vec![number])),
        };
        for (number, (record, routing)) in records.enumerate() {
            match routing {
                Routing::Rules => {
                    let Some(rule) = rules.of(record.topic) else { continue };
                    let Ok(routed) = rule.apply(&record, &mut scratch) else { continue };
                    routed.channels().for_each(|name| note(name, number));
                }
                Routing::Given(names) if names.len() <= CHANNELS_PER_RECORD_MAX => {
                    for name in names {
                        note(name, number);
                    }
                }
                Routing::Given(_) => {}
            }
        }
        found
    }

    /// The message in a record, if it is the channel's of that name.
    pub(super) fn message_of(
        &self,
        rules: &Rules,
        name: &str,
        (record, partition): (&Record<'_>, Arc<Partition>),
        routing: Routing<'_>,
        scratch: &mut Scratch,
    ) -> Option<Message> {
        match routing {
            Routing::Rules => {
                let rule = rules.of(record.topic)?;
                let routed = rule.apply(record, scratch).ok()?;
                let is_its = routed.channels().any(|own| own == name) && !self.is_misplaced(record);
                is_its.then(|| rule.message(record, partition, &routed))
            }
            Routing::Given(names) => {
                let is_its = names.len() <= CHANNELS_PER_RECORD_MAX && names.contains(&name) && may_reach(record, name);
                is_its.then(|| record.message(partition))
            }
        }
    }

    fn is_misplaced(&self, record: &Record<'_>) -> bool {
        let placing = self.partitions.placing(record.topic);
        placing.is_some_and(|placing| !placing.admits(record.key.unwrap_or_default(), record.partition))
    }
}

impl Held {
    /// Memory holds nothing of it.
    pub(crate) fn nothing(places: &[Place], floors: Vec<i64>, forwards: bool) -> Self {
        let next = places.iter().zip(&floors).map(|(place, &floor)| match forwards {
            true if places.iter().zip(&floors).any(|(place, floor)| place.offset < *floor) => place.offset,
            true => place.offset.max(place.partition.next()),
            false => place.offset.min(floor),
        });
        Self { messages: Vec::new(), next: next.collect(), floors, more: false }
    }
}
