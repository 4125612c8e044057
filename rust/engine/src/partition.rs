//! The partitions a node reads, and how far it has read each.
//!
//! The table only grows, and an index into it never changes its meaning: a topic that is deleted and made anew gets new
//! entries, for it is another topic; so do a partition whose log was cut, and one that is read on behind a loss. What is
//! said of the entry that went before says nothing of the new one. Written by the source's thread, read by all.
//!
//! A partition that is let go stands where it was read up to. When it is read again it begins anew, under the same index:
//! the table is not to grow each time.
//!
//! Of a topic that is gone the entries stand for nothing, as if there had never been a rule for it, until it is found again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};

use crate::checkpoint::Reference;
use crate::epochs::{Epochs, Judged};
use crate::feeding::Feeding;
use crate::limits::PARTITIONS_MAX;
use crate::placing::{Affixes, Placing, Strays};
use crate::position::Entry;
use crate::route::is_channel_name;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

/// The first half of a topic's 16-byte id: random bits enough to tell topics apart, half the length in every position.
pub type TopicTag = [u8; 8];

/// One partition of one topic.
#[derive(Debug)]
pub struct Partition {
    /// Its place in the table.
    pub index: u16,
    /// The topic's name.
    pub topic: Arc<str>,
    /// Which topic of that name.
    pub tag: TopicTag,
    /// The partition's number.
    pub number: i32,
    /// Reading began here: nothing below is or was in memory.
    pub start: i64,
    /// Whether positions speak of it. Not of state, which is read whole, nor of what only this node has.
    pub has_position: bool,
    /// Everything below has been handed to the channels. Raised after the append: whoever reads this while holding a
    /// channel's lock finds all of that channel's part in its ring.
    next: AtomicI64,
    /// Leader epoch of the newest record, -1 where there is none.
    epoch: AtomicI32,
    epochs: Mutex<Epochs>,
    /// The highest offset of this partition, plus one, that a forgotten channel once dropped: a channel born later
    /// cannot know whether it was its own.
    forgotten: AtomicI64,
    /// False once another entry took this one's place, and while its topic is gone.
    current: AtomicBool,
    /// It is not read at the moment.
    let_go: AtomicBool,
    /// What it had from here on is in the log no more, or nobody here knows.
    gone: AtomicI64,
    /// See [`Partition::since`].
    since: AtomicI64,
}

impl Partition {
    /// How far this partition was read.
    pub fn next(&self) -> i64 {
        self.next.load(Ordering::Acquire)
    }

    /// Everything below `next` has been appended.
    pub fn advance(&self, next: i64, epoch: i32) {
        let newest = self.epoch();
        if epoch > newest {
            let mut epochs = self.epochs.lock();
            epochs.see(newest, i64::MAX, next - 1);
            epochs.see(epoch, next - 1, next);
            self.epoch.store(epoch, Ordering::Relaxed);
        }
        if next > self.next.load(Ordering::Relaxed) {
            self.next.store(next, Ordering::Release);
        }
    }

    /// Leader epoch of the newest record, -1 where there is none.
    pub fn epoch(&self) -> i32 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Whether what a position says of this partition is still in the log. See [`Epochs::judge`].
    pub fn judge(&self, entry: &Entry) -> Judged {
        self.epochs.lock().judge(entry)
    }

    /// Whether no record has told of an epoch yet: then nothing is known of any place.
    pub fn knows_no_epoch(&self) -> bool {
        self.epochs.lock().newest() < 0
    }

    fn epochs(&self) -> Epochs {
        let mut epochs = self.epochs.lock().clone();
        epochs.see(self.epoch(), i64::MAX, self.next());
        epochs
    }

    /// Records of an epoch were read back. See [`Epochs::see`].
    pub fn see(&self, epoch: i32, first: i64, until: i64) {
        self.epochs.lock().see(epoch, first, until);
    }

    /// Whether a record has taken the place of one that was delivered: the log was cut, and is written in a newer epoch.
    pub fn is_cut_by(&self, offset: i64, epoch: i32) -> bool {
        offset < self.next() && self.epoch() >= 0 && epoch > self.epoch()
    }

    /// See the field.
    pub fn forgotten(&self) -> i64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// From where on memory holds all of a channel of which it knows nothing.
    pub fn floor_of_none(&self) -> i64 {
        self.start.max(self.forgotten())
    }

    /// A channel that dropped everything below `offset` is about to be forgotten.
    pub fn forget(&self, offset: i64) {
        self.forgotten.fetch_max(offset, Ordering::Relaxed);
    }

    /// Whether a record that was delivered is still in the log, unless retention took it: its topic is the same, and the log
    /// was not cut there.
    pub fn has(&self, offset: i64) -> bool {
        offset < self.gone.load(Ordering::Relaxed)
    }

    /// From here on it is read for clients: what lies below was in the log before there was a rule for its topic. 0 for
    /// a topic that is younger than its rule, and for partitions that were added to it.
    pub fn since(&self) -> i64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Whether it is not read at the moment.
    pub fn is_let_go(&self) -> bool {
        self.let_go.load(Ordering::Relaxed)
    }

    /// Whether this entry still stands for its topic and number.
    pub fn is_current(&self) -> bool {
        self.current.load(Ordering::Relaxed)
    }
}

/// All partitions of a node.
#[derive(Debug, Default)]
pub struct Partitions {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    list: Arc<Vec<Arc<Partition>>>,
    /// Topics of state.
    state: HashSet<Box<str>>,
    topics: HashMap<Arc<str>, Topic>,
    /// See [`Feeding`].
    open: Arc<Vec<u16>>,
    /// Topics whose keys lie where murmur2 says.
    certain: Vec<Arc<str>>,
    reference: Option<Arc<Reference>>,
}

/// What is known of a topic.
#[derive(Debug, Default)]
struct Topic {
    /// By number, the entries that stand for its partitions.
    current: HashMap<i32, u16>,
    placing: Option<Arc<Placing>>,
    strays: Mutex<Strays>,
    /// Of which topic of that name, and by number since where its partitions are read for clients.
    since: Option<(TopicTag, Box<[i64]>)>,
    is_gone: bool,
}

impl Topic {
    fn since(&self, tag: TopicTag, number: i32) -> i64 {
        let known = self.since.as_ref().filter(|(of, _)| *of == tag);
        known.and_then(|(_, since)| since.get(usize::try_from(number).ok()?)).copied().unwrap_or(0)
    }
}

impl Inner {
    /// What the log had of a partition from here on is gone, whichever of its entries it was delivered for.
    fn lose(&self, old: &Partition, offset: i64) {
        for entry in self.list.iter().filter(|entry| entry.tag == old.tag && entry.number == old.number) {
            entry.gone.fetch_min(offset, Ordering::Relaxed);
        }
    }

    /// Takes the place of the entry that stands for it, if there is one. The epoch is the newest below `start`.
    fn add(
        &mut self,
        topic: &str,
        tag: TopicTag,
        number: i32,
        (start, epoch): (i64, i32),
        epochs: Epochs,
    ) -> Result<Arc<Partition>, TooManyPartitions> {
        if self.list.len() >= PARTITIONS_MAX {
            return Err(TooManyPartitions);
        }
        if let Some(old) = self.find(topic, number) {
            old.current.store(false, Ordering::Relaxed);
        }
        let index = self.list.len() as u16;
        let partition = self.entry(index, topic, (tag, number), (start, epoch), epochs);
        Arc::make_mut(&mut self.list).push(Arc::clone(&partition));
        self.topics.entry(Arc::clone(&partition.topic)).or_default().current.insert(number, index);
        self.sort_out();
        Ok(partition)
    }

    /// One that was let go is read again. What was known of its records need not be so any more: its log may have been cut
    /// meanwhile.
    fn begin_again(&mut self, old: &Partition, start: i64) -> Arc<Partition> {
        old.gone.store(0, Ordering::Relaxed);
        let place = (old.tag, old.number);
        let partition = self.entry(old.index, &old.topic, place, (start, -1), Epochs::default());
        Arc::make_mut(&mut self.list)[usize::from(old.index)] = Arc::clone(&partition);
        partition
    }

    fn entry(
        &self,
        index: u16,
        topic: &str,
        (tag, number): (TopicTag, i32),
        (start, epoch): (i64, i32),
        epochs: Epochs,
    ) -> Arc<Partition> {
        Arc::new(Partition {
            index,
            topic: self.name(topic),
            tag,
            number,
            start,
            has_position: !self.state.contains(topic),
            next: AtomicI64::new(start),
            epoch: AtomicI32::new(epoch),
            epochs: Mutex::new(epochs),
            forgotten: AtomicI64::new(0),
            current: true.into(),
            let_go: false.into(),
            gone: AtomicI64::new(i64::MAX),
            since: AtomicI64::new(self.topics.get(topic).map_or(0, |known| known.since(tag, number))),
        })
    }

    fn name(&self, topic: &str) -> Arc<str> {
        self.topics.get_key_value(topic).map_or_else(|| topic.into(), |(name, _)| Arc::clone(name))
    }

    fn find(&self, topic: &str, number: i32) -> Option<&Arc<Partition>> {
        let index = self.topics.get(topic)?.current.get(&number)?;
        Some(&self.list[usize::from(*index)])
    }

    /// A topic is there, as that of this tag, or is gone. Whoever has looked at the table before sees another one.
    fn find_topic(&mut self, topic: &str, tag: Option<TopicTag>) {
        let Some(known) = self.topics.get_mut(topic) else { return };
        known.is_gone = tag.is_none();
        for &index in known.current.values() {
            let entry = &self.list[usize::from(index)];
            entry.current.store(tag == Some(entry.tag), Ordering::Relaxed);
        }
        self.list = Arc::new(self.list.to_vec());
        self.reference = None; // it may speak of what is no more
        self.sort_out();
    }

    fn is_gone(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|known| known.is_gone)
    }

    /// The topics whose keys lie where murmur2 says, with where that is.
    fn placed(&self) -> impl Iterator<Item = (&Arc<str>, &Topic, &Arc<Placing>)> {
        let known = self.certain.iter().filter_map(|name| Some((name, self.topics.get(name)?)));
        known
            .filter(|(_, topic)| !topic.is_gone)
            .filter_map(|(name, topic)| Some((name, topic, topic.placing.as_ref()?)))
    }

    fn feeding(&self, certain: SmallVec<[u16; 2]>) -> Feeding {
        let reference = self.reference.clone();
        let counted = self.placed().map(|(_, _, placing)| (placing.tag, placing.count())).collect();
        Feeding { list: Arc::clone(&self.list), open: Arc::clone(&self.open), certain, counted, reference }
    }

    /// Finds anew which entries may feed any channel.
    fn sort_out(&mut self) {
        let may_feed = |partition: &&Arc<Partition>| {
            let is_certain = || self.topics.get(&partition.topic).is_some_and(|topic| topic.placing.is_some());
            partition.is_current() && partition.has_position && !is_certain()
        };
        self.open = Arc::new(self.list.iter().filter(may_feed).map(|partition| partition.index).collect());
    }
}

/// The table is full.
#[derive(Debug, PartialEq, Eq)]
pub struct TooManyPartitions;

impl Partitions {
    /// This topic holds state: positions do not speak of it. To be called before its first partition is assigned.
    pub fn add_state_topic(&self, topic: &str) {
        self.inner.write().state.insert(topic.into());
    }

    /// Reading of a partition begins, or begins again elsewhere.
    ///
    /// The same topic from where it was read, or from further back, changes nothing: what comes again is recognised, and
    /// so is what comes in its place ([`Partition::is_cut_by`]). Another topic, or a start further on, is a new entry. One
    /// that was let go begins anew; rings must hold nothing of it then. One of a topic that was gone is there again.
    pub fn assign(
        &self,
        topic: &str,
        id: [u8; 16],
        number: i32,
        start: i64,
    ) -> Result<Arc<Partition>, TooManyPartitions> {
        let tag: TopicTag = id[..8].try_into().expect("eight of sixteen bytes");
        let inner = &mut *self.inner.write();
        if inner.is_gone(topic) {
            inner.find_topic(topic, Some(tag));
        }
        let Some(old) = inner.find(topic, number).map(Arc::clone) else {
            return inner.add(topic, tag, number, (start, -1), Epochs::default());
        };
        if old.tag != tag {
            inner.lose(&old, 0);
            inner.find_topic(topic, Some(tag)); // numbers that it has no more are of the old one, too
            return inner.add(topic, tag, number, (start, -1), Epochs::default());
        }
        if old.is_let_go() {
            return Ok(inner.begin_again(&old, start));
        }
        if start <= old.next() {
            return Ok(old);
        }
        // What lies between was not seen: of which epoch the record before `start` is, nobody knows here.
        inner.add(topic, tag, number, (start, -1), old.epochs())
    }

    /// A topic is no more. What was said of it in positions is not to be had here, and they speak of it no longer, until it
    /// is assigned or placed again; if it is the same all the same, as it was. What rings hold of it stays.
    pub fn gone(&self, topic: &str) {
        self.inner.write().find_topic(topic, None);
    }

    /// Since where the partitions of a topic are read for clients, by number; see [`Partition::since`].
    pub fn read_since(&self, topic: &str, id: [u8; 16], since: Box<[i64]>) {
        let tag: TopicTag = id[..8].try_into().expect("eight of sixteen bytes");
        let inner = &mut *self.inner.write();
        let name = inner.name(topic);
        let known = inner.topics.entry(name).or_default();
        known.since = Some((tag, since));
        for partition in known.current.values().map(|&index| &inner.list[usize::from(index)]) {
            if partition.tag == tag {
                partition.since.store(known.since(tag, partition.number), Ordering::Relaxed);
            }
        }
    }

    /// A partition is read no more, for nobody here needs it. Where it was read up to is a place of its channels still, and
    /// positions name it; whoever goes on from one, or is attached, waits until it is read again.
    pub fn let_go(&self, topic: &str, number: i32) {
        if let Some(partition) = self.inner.read().find(topic, number) {
            partition.let_go.store(true, Ordering::Relaxed);
        }
    }

    /// A partition's log was cut at this offset. What is delivered from there on is of a new entry.
    pub fn cut(&self, old: &Partition, offset: i64) -> Result<Arc<Partition>, TooManyPartitions> {
        let epochs = old.epochs().cut_at(offset);
        let inner = &mut *self.inner.write();
        inner.lose(old, offset);
        inner.add(&old.topic, old.tag, old.number, (offset, epochs.newest()), epochs)
    }

    /// The keys of a topic's records lie where murmur2 puts them in so many partitions, which make channels of these
    /// `affixes`. To be said before records of it are delivered, and again when there are more partitions.
    ///
    /// Returns the entries of partitions in which records were passed over that may lie right, now that this number is
    /// known: they begin anew where the old ones end, for what was delivered lacks those records.
    pub fn place(
        &self,
        topic: &str,
        id: [u8; 16],
        count: u32,
        affixes: Affixes,
    ) -> Result<Vec<Arc<Partition>>, TooManyPartitions> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let tag: TopicTag = id[..8].try_into().expect("eight of sixteen bytes");
        let inner = &mut *self.inner.write();
        if inner.is_gone(topic) {
            inner.find_topic(topic, Some(tag));
        }
        let name = inner.name(topic);
        let known = inner.topics.entry(Arc::clone(&name)).or_default();
        let placing = match known.placing.take() {
            Some(placing) if placing.tag == tag => placing,
            _ => {
                // Nobody may ever read those again, and tell that they are another topic's now.
                let old = known.current.values().map(|&index| &inner.list[usize::from(index)]);
                let old = old.filter(|old| old.tag != tag && old.is_let_go());
                old.for_each(|old| old.current.store(false, Ordering::Relaxed));
                Arc::new(Placing::new(tag, affixes))
            }
        };
        let placing = known.placing.insert(placing);
        if !Arc::make_mut(placing).learn(count) {
            return Ok(Vec::new());
        }
        let strays = std::mem::take(known.strays.get_mut());
        let mut affected: SmallVec<[i32; 4]> = known.current.keys().copied().collect();
        affected.retain(|number| strays.may_be_right(*number, count));
        if !inner.certain.contains(&name) {
            inner.certain.push(Arc::clone(&name));
        }
        inner.sort_out();
        let olds = affected.iter().filter_map(|&number| inner.find(&name, number).map(Arc::clone));
        let olds: Vec<_> = olds.filter(|old| old.tag == tag).collect();
        let anew = |old: &Arc<Partition>| inner.add(&name, tag, old.number, (old.next(), old.epoch()), old.epochs());
        olds.iter().map(anew).collect()
    }

    /// Where the keys of a topic lie, if that is certain.
    pub fn placing(&self, topic: &str) -> Option<Arc<Placing>> {
        self.inner.read().topics.get(topic)?.placing.clone()
    }

    /// A record of this key lay in a partition where it should not, and was passed over.
    pub fn strayed(&self, partition: &Partition, key: &[u8]) {
        if let Some(topic) = self.inner.read().topics.get(&partition.topic) {
            topic.strays.lock().add(key, partition.number);
        }
    }

    /// The partitions of a channel in the topics of which it is certain, read or not.
    pub fn certain(&self, channel: &str) -> Vec<(Arc<str>, i32)> {
        let inner = self.inner.read();
        let placed = inner.placed();
        placed
            .flat_map(|(name, _, placing)| placing.partitions(channel).into_iter().map(move |n| (Arc::clone(name), n)))
            .collect()
    }

    /// The partitions that may feed a channel; of what names none, like the empty text, those that may feed any.
    pub fn feeding(&self, channel: &str) -> Feeding {
        let inner = self.inner.read();
        let mut certain = SmallVec::new();
        for (_, topic, placing) in inner.placed() {
            let numbers = if is_channel_name(channel) {
                placing.partitions(channel)
            } else {
                topic.current.keys().copied().collect()
            };
            let indices = numbers.into_iter().filter_map(|number| topic.current.get(&number));
            certain.extend(indices.copied().filter(|&index| {
                let partition = &inner.list[usize::from(index)];
                partition.tag == placing.tag && partition.has_position
            }));
        }
        inner.feeding(certain)
    }

    /// A partition that is being read.
    pub fn find(&self, topic: &str, number: i32) -> Option<Arc<Partition>> {
        self.inner.read().find(topic, number).map(Arc::clone)
    }

    /// Positions refer to this checkpoint from now on, which was found for the table as it was.
    pub fn refer(&self, seen: &Feeding, reference: Option<Reference>) {
        let inner = &mut *self.inner.write();
        if Arc::ptr_eq(&inner.list, &seen.list) {
            inner.reference = reference.map(Arc::new);
        }
    }

    /// Those that may feed any channel.
    pub fn open(&self) -> Feeding {
        self.inner.read().feeding(SmallVec::new())
    }

    /// All of them, by index.
    pub fn list(&self) -> Arc<Vec<Arc<Partition>>> {
        Arc::clone(&self.inner.read().list)
    }
}

#[cfg(test)]
mod tests;
