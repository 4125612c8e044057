//! The way of records into the channels: from what a source delivers to the rings, and to the shards that are told.
//!
//! One thread at a time delivers ([`Hub::ingest`]). A record is matched with the rule of its topic, a repeat is left out,
//! and what it comes to is appended; after the batch each shard that has attachments on a changed channel is told once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Hub;
use super::blocks::Filling;
use crate::channel::Channel;
use crate::limits::{BATCH_OVERHEAD, CHANNEL_HISTORY_SHARE, CHANNELS_PER_RECORD_MAX, MESSAGES_SWEPT};
use crate::message::{Field, Message};
use crate::partition::{Partition, TooManyPartitions};
use crate::placing::Placing;
use crate::record::Record;
use crate::route::{Cause, Failure, OnFailure, Rule, Rules, Scratch, Shape, Unrouted, may_reach};

/// How the channels of a record are found.
#[derive(Debug, Clone, Copy)]
pub enum Routing<'a> {
    /// By the rules.
    Rules,
    /// Someone else has decided.
    Given(&'a [&'a str]),
}

#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Shared with those who read the log back.
    pub(super) rules: Arc<Rules>,
    /// The topic of presence, and since when what it holds is news.
    pub(super) presence: Option<(Box<str>, i64)>,
    scratch: Scratch,
    pub(super) work: Work,
}

/// What becomes of a topic's records.
#[derive(Debug, Clone, Copy)]
enum Way<'a> {
    /// They are messages; this is their rule, if there is one.
    Messages(Option<&'a Rule>),
    /// They are presence; news since this time, in ms.
    Presence(i64),
    /// They are checkpoints.
    Checkpoints,
}

/// What is under way between a record and the shards.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// The number of this call, by which a channel knows that it is among the dirty already.
    pub(super) batch: u64,
    /// Somebody else than the rules says to which channels records go.
    is_given: bool,
    /// That of the topic which is being delivered.
    pub(super) linger_ms: u32,
    /// Whether the newest of its keys are kept.
    snapshot: bool,
    /// Where its keys lie.
    placing: Option<Arc<Placing>>,
    dirty: Vec<(Arc<Channel>, u64)>,
    pub(super) age: VecDeque<Batch>,
    pub(super) filling: Filling,
    /// Counted here while a batch lasts: counters that others read cost more than a record's other bookkeeping.
    pub(super) messages: u64,
}

/// What one batch of records brought to one channel.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) channel: Arc<Channel>,
    /// Its messages have lower numbers.
    pub(super) to: u64,
    pub(super) arrived_ms: i64,
}

/// What channels a topic's records go to, as far as its rule tells; None: any.
fn shape(rule: Option<&Rule>, topic: &str, is_given: bool) -> Option<Shape> {
    rule.filter(|_| !is_given).map(|rule| rule.shape(topic))
}

impl Hub {
    /// Sets the routing rules.
    pub fn set_rules(&self, rules: Rules) {
        self.intake.lock().rules = Arc::new(rules);
    }

    /// The records of this topic follow the rule of this number.
    pub fn bind(&self, topic: &str, rule: usize) {
        self.intake.lock().rules.bind(topic, rule);
    }

    /// Reading of a partition begins.
    pub fn assign(&self, topic: &str, id: [u8; 16], number: i32, start: i64) -> Result<(), TooManyPartitions> {
        let before = self.partitions.find(topic, number);
        if let Some(before) = before.as_ref().filter(|before| before.is_let_go()) {
            self.forget_partition(before);
        }
        let partition = self.partitions.assign(topic, id, number, start)?;
        if before.is_some_and(|before| before.index != partition.index) {
            let Intake { rules, work, .. } = &*self.intake.lock();
            self.interrupt(&partition, shape(rules.of(topic), topic, work.is_given).as_ref());
        }
        Ok(())
    }

    /// A topic has, or has had, so many partitions. To be said before its records are delivered.
    pub fn topic(&self, topic: &str, id: [u8; 16], count: u32) -> Result<(), TooManyPartitions> {
        let Intake { rules, work, .. } = &*self.intake.lock();
        let Some(affixes) = rules.of(topic).and_then(|rule| rule.affixes(topic)) else { return Ok(()) };
        for partition in self.partitions.place(topic, id, count, affixes)? {
            self.interrupt(&partition, shape(rules.of(topic), topic, work.is_given).as_ref());
        }
        Ok(())
    }

    /// See [`crate::partition::Partitions::read_since`].
    pub fn read_since(&self, topic: &str, id: [u8; 16], since: Box<[i64]>) {
        self.partitions.read_since(topic, id, since);
    }

    /// A partition is read no more, until it is assigned again; see [`crate::partition::Partitions::let_go`].
    pub fn let_go(&self, topic: &str, number: i32) {
        self.partitions.let_go(topic, number);
    }

    /// A topic is no more; see [`crate::partition::Partitions::gone`].
    pub fn gone(&self, topic: &str) {
        self.partitions.gone(topic);
    }

    /// A partition was read up to here, though no record may be left to show it.
    pub fn progress(&self, topic: &str, number: i32, next: i64) {
        if self.intake.lock().rules.of(topic).is_some_and(Rule::is_stopped) {
            return;
        }
        if let Some(partition) = self.partitions.find(topic, number) {
            partition.advance(next, -1);
        }
    }

    /// Delivers records, in order within each partition. Records of partitions that were not assigned are refused and
    /// their number returned: a source that does that has a bug.
    pub fn ingest<'a>(&self, records: impl Iterator<Item = (Record<'a>, Routing<'a>)>, now_ms: i64) -> usize {
        let Intake { rules, presence, scratch, work } = &mut *self.intake.lock();
        work.batch += 1;
        let mut last: Option<(Arc<Partition>, Way<'_>)> = None;
        let (mut count, mut bytes, mut repeated, mut refused) = (0, 0, 0, 0);
        for (record, routing) in records {
            let same = last.take().filter(|(p, _)| p.number == record.partition && *p.topic == *record.topic);
            let found = same.or_else(|| {
                let partition = self.partitions.find(record.topic, record.partition)?;
                let way = match presence {
                    Some((topic, since_ms)) if **topic == *record.topic => Way::Presence(*since_ms),
                    _ if self.has_checkpoints(record.topic) => Way::Checkpoints,
                    _ => Way::Messages(rules.of(record.topic)),
                };
                let rule = if let Way::Messages(rule) = way { rule } else { None };
                work.linger_ms = rule.map_or(0, |rule| rule.linger_ms);
                work.snapshot = rule.is_some_and(|rule| rule.snapshot);
                work.placing = rule.and_then(|_| self.partitions.placing(record.topic));
                Some((partition, way))
            });
            let Some((mut partition, way)) = found else {
                refused += 1;
                continue;
            };
            if partition.is_cut_by(record.offset, record.epoch) {
                let shape = shape(rules.of(record.topic), record.topic, work.is_given);
                let Ok(cut) = self.cut(&partition, record.offset, shape.as_ref()) else {
                    refused += 1;
                    continue;
                };
                partition = cut;
            }
            count += 1;
            bytes += record.value.map_or(0, <[u8]>::len) as u64;
            if record.offset < partition.next() {
                repeated += 1;
            } else {
                let is_read = match (way, routing) {
                    (Way::Presence(since), _) => {
                        self.deliver_presence(work, &record, &partition, (since, now_ms));
                        true
                    }
                    (Way::Checkpoints, _) => {
                        self.deliver_checkpoint(&record, &partition, now_ms);
                        true
                    }
                    (Way::Messages(rule), Routing::Rules) => {
                        self.deliver(work, rule, scratch, &record, &partition, now_ms)
                    }
                    (Way::Messages(_), Routing::Given(names)) => {
                        work.is_given = true;
                        self.deliver_to(work, names, &record, &partition, now_ms);
                        true
                    }
                };
                if is_read {
                    partition.advance(record.offset + 1, record.epoch);
                    if let Way::Messages(_) = way
                        && let Some(block) = work.filling.count(&partition)
                    {
                        self.index(&partition, block);
                    }
                }
            }
            last = Some((partition, way));
        }
        self.stats.records_in.add(count);
        self.stats.bytes_in.add(bytes);
        self.stats.records_repeated.add(repeated);
        self.stats.messages.add(std::mem::take(&mut work.messages));
        self.stats.ids_forgotten.add(self.dedup.lock().take_forgotten());
        self.announce(work, now_ms);
        // At least as fast as they come; not all at once when they grow old after a flood.
        self.expire(work, now_ms, 2 * count as usize + MESSAGES_SWEPT / 8);
        refused
    }

    /// Whether the record is done with: a rule that stops leaves it, and all behind it, unread.
    fn deliver(
        &self,
        work: &mut Work,
        rule: Option<&Rule>,
        scratch: &mut Scratch,
        record: &Record<'_>,
        partition: &Arc<Partition>,
        now_ms: i64,
    ) -> bool {
        let Some(rule) = rule else {
            self.stats.records_unrouted.add(1);
            return true;
        };
        if rule.is_stopped() {
            self.stats.records_held_back.add(1);
            return false;
        }
        let key = record.key.unwrap_or_default();
        match rule.apply(record, scratch) {
            Ok(_) if work.placing.as_ref().is_some_and(|placing| !placing.admits(key, partition.number)) => {
                self.misplaced(work, rule, record, partition);
                return rule.on_failure != OnFailure::Stop;
            }
            Ok(routed) => {
                let message = rule.message(record, Arc::clone(partition), &routed);
                if let Some(name) = routed.channel() {
                    self.append(work, name, (record, partition), message, now_ms);
                } else {
                    let message = message.shared();
                    for name in routed.channels() {
                        self.append(work, name, (record, partition), message.clone(), now_ms);
                    }
                }
            }
            Err(Unrouted::Failed(failure)) => {
                self.failed(rule, record, failure);
                return rule.on_failure != OnFailure::Stop;
            }
            Err(Unrouted::Tombstone) => self.stats.tombstones_skipped.add(1),
            Err(Unrouted::Nowhere) => self.stats.records_unrouted.add(1),
        }
        true
    }

    /// A record lies in another partition than its key should: nobody would look for it there.
    #[cold]
    fn misplaced(&self, work: &Work, rule: &Rule, record: &Record<'_>, partition: &Partition) {
        let key = record.key.unwrap_or_default();
        let reason = work.placing.as_ref().map_or_else(String::new, |placing| placing.reason(key, partition.number));
        self.partitions.strayed(partition, key);
        self.failed(rule, record, Failure::new(Cause::Misplaced, reason));
    }

    fn deliver_to(
        &self,
        work: &mut Work,
        names: &[&str],
        record: &Record<'_>,
        partition: &Arc<Partition>,
        now_ms: i64,
    ) {
        if names.is_empty() {
            return self.stats.records_unrouted.add(1);
        }
        if names.len() > CHANNELS_PER_RECORD_MAX {
            return self.stats.records_unroutable.add(1);
        }
        let shared = (names.len() > 1).then(|| record.message(Arc::clone(partition)).shared());
        for (index, name) in names.iter().enumerate() {
            if !may_reach(record, name) {
                self.stats.records_unroutable.add(1);
            } else if !names[..index].contains(name) {
                let message = shared.clone().unwrap_or_else(|| record.message(Arc::clone(partition)));
                self.append(work, name, (record, partition), message, now_ms);
            }
        }
    }

    fn append(
        &self,
        work: &mut Work,
        name: &str,
        (record, partition): (&Record<'_>, &Arc<Partition>),
        message: Message,
        now_ms: i64,
    ) {
        if let Some(id) = message.field(Field::Id) {
            let place = (record.offset, record.timestamp);
            if self.dedup.lock().observe(name, id, partition, place, (now_ms, now_ms)).is_some() {
                self.stats.duplicates.add(1);
                return;
            }
        }
        let channel = match work.dirty.last() {
            Some((channel, _)) if *channel.name == *name => Arc::clone(channel),
            _ => self.channel(name, now_ms),
        };
        work.filling.note(partition, &channel);
        let first = channel.end();
        let appended = match record.change() {
            None if work.snapshot => Some(self.append_newest(&channel, record, message, now_ms)),
            None => Some(channel.append(message)).map(|(cost, number)| (cost as isize, number)),
            Some(change) => change.and_then(|change| channel.change(&change, &message)),
        };
        let Some((cost, number)) = appended else { return self.stats.changes_refused.add(1) };
        work.messages += 1;
        self.note_birth(&channel, first);
        self.grown(work, channel, cost, number);
    }

    /// Appends an entry; its channel is among those with news.
    pub(super) fn put(&self, work: &mut Work, channel: Arc<Channel>, entry: Message) {
        let (cost, number) = channel.append(entry);
        self.grown(work, channel, cost as isize, number);
    }

    /// A channel holds so many bytes more, the last for the entry of this number: it is among those with news.
    fn grown(&self, work: &mut Work, channel: Arc<Channel>, cost: isize, number: u64) {
        let memory = self.memory.fetch_add(cost as usize, Ordering::Relaxed).wrapping_add_signed(cost);
        if memory > self.settings.history_bytes / CHANNEL_HISTORY_SHARE {
            self.squeeze_channel(&channel, number);
        }
        if channel.is_first_of(work.batch, work.linger_ms) {
            work.dirty.push((channel, 0));
        }
    }

    /// Drops what one channel holds beyond its share; its newest message stays.
    fn squeeze_channel(&self, channel: &Channel, newest: u64) {
        let share = self.settings.history_bytes / CHANNEL_HISTORY_SHARE;
        while channel.held().1 > share {
            let dropped = channel.drop_below(newest, 1);
            if dropped.messages == 0 {
                return;
            }
            self.memory.fetch_sub(dropped.bytes, Ordering::Relaxed);
            self.snapshot_bytes.fetch_sub(dropped.newest, Ordering::Relaxed);
            self.stats.messages_squeezed.add(1);
        }
    }

    /// Tells the shards, once per batch: each inbox is locked once, however many channels have news.
    pub(super) fn announce(&self, work: &mut Work, now_ms: i64) {
        for (channel, told) in &mut work.dirty {
            channel.touch(now_ms);
            *told = channel.announce();
        }
        self.tell(&work.dirty);
        self.memory.fetch_add(work.dirty.len() * BATCH_OVERHEAD, Ordering::Relaxed);
        let batches = work.dirty.drain(..).map(|(channel, _)| Batch { to: channel.end(), channel, arrived_ms: now_ms });
        work.age.extend(batches);
    }
}
