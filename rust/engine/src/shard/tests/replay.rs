//! Replays: what was missed beyond what memory holds is given from the log, and then what is live, each once.

use proptest::prelude::*;

use super::*;
use crate::channel::Outcome;
use crate::hub::{Place, Replay};
use crate::limits::DEDUP_WINDOW_MS;

/// A node that forgets all but the newest, and its log: partition, channel, value, id.
pub(super) struct Node {
    pub(super) world: World,
    log: Vec<(i32, &'static str, String, Option<String>)>,
    next: [i64; 2],
    /// Of the leaders that write now.
    epoch: i32,
}

const PARTITIONS: [i32; 2] = [0, 1];

impl Node {
    pub(super) fn new() -> Self {
        let world = World::new();
        world.hub.assign("t", [1; 16], 1, 0).unwrap();
        Self { world, log: Vec::new(), next: [0; 2], epoch: 0 }
    }

    fn records(&self, partition: i32) -> impl Iterator<Item = (i64, &(i32, &'static str, String, Option<String>))> {
        (0..).zip(self.log.iter().filter(move |(of, ..)| *of == partition))
    }

    pub(super) fn put(&mut self, partition: i32, channel: &'static str, value: &str, id: Option<&str>) {
        self.log.push((partition, channel, value.to_owned(), id.map(str::to_owned)));
        let offset = self.next[partition as usize];
        self.next[partition as usize] += 1;
        let (.., id) = self.log.last().unwrap();
        with_record(partition, offset, channel, value, id.as_deref(), |record| {
            let record = Record { epoch: self.epoch, ..record };
            self.world.hub.ingest([(record, Routing::Rules)].into_iter(), 0);
        });
    }

    /// Memory forgets all of a channel but the newest `keep`.
    pub(super) fn forget(&self, channel: &str, keep: usize) {
        let channel = self.world.hub.channel(channel, 0);
        let (held, _) = channel.held();
        channel.drop_below(u64::MAX, held.saturating_sub(keep));
    }

    fn place(&self, partition: i32, offset: i64) -> Place {
        Place { partition: self.world.hub.partitions().find("t", partition).unwrap(), offset }
    }

    /// A replay behind this position.
    pub(super) fn replay(&self, serial: &str) -> Replay {
        let places = self.world.hub.places("c", Some(serial)).unwrap();
        self.world.hub.replay("c", &places, 0)
    }

    /// Feeds a replay some of what it wants, if it wants something; whether it did.
    pub(super) fn feed(&self, replay: &Replay, most: i64) -> bool {
        let wanted = self.world.hub.wanted(replay, 2).unwrap();
        let Some(next) = wanted.first() else { return false };
        let (place, partition) = (next.place.offset, next.place.partition.number);
        let stop = next.goal.min(place + most);
        for (offset, (_, channel, value, id)) in self.records(partition) {
            if (place..stop).contains(&offset) {
                with_record(partition, offset, channel, value, id.as_deref(), |record| {
                    self.world.hub.feed(replay, [(record, Routing::Rules)].into_iter(), false, 0);
                });
            }
        }
        self.world.hub.advance_replay(replay, &self.place(partition, stop));
        true
    }

    /// Over MQTT.
    pub(super) fn subscribe(&mut self, handle: Handle, replay: &Replay, serial: &str, how: Subscription) {
        let plan = self.world.hub.locate_replayed(replay, serial);
        let new = NewAttachment {
            number: 1,
            plan,
            spelling: None,
            kinds: Kinds::MESSAGES,
            echo: true,
            delta: false,
            filter: None,
            subscription: Some(Box::new(how)),
        };
        self.world.shard.attach(handle, new, b""[..].into());
    }

    fn attach(&mut self, handle: Handle, replay: &Replay, serial: &str) -> Outcome {
        let plan = self.world.hub.locate_replayed(replay, serial);
        let outcome = plan.located.outcome;
        let new = NewAttachment::plain(1, plan);
        self.world.shard.attach(handle, new, b"<attached>"[..].into());
        outcome
    }

    /// Reads until everyone on the replay is live.
    pub(super) fn finish(&mut self, replay: &Replay) {
        for _ in 0..100 {
            if self.feed(replay, 3) {
                continue;
            }
            self.world.hub.ask_replay(replay, true);
            self.world.turn();
            if replay.channel.attachments() == 0 {
                return;
            }
        }
        panic!("it does not end");
    }

    /// What the channel's subscribers see of a partition from an offset on.
    fn expected(&self, partition: i32, from: i64) -> Vec<String> {
        let of = self.records(partition).filter(|(offset, (_, channel, ..))| *offset >= from && *channel == "c");
        of.map(|(_, (.., value, _))| value.clone()).collect()
    }
}

fn with_record(
    partition: i32,
    offset: i64,
    channel: &str,
    value: &str,
    id: Option<&str>,
    take: impl FnOnce(Record<'_>),
) {
    let mut headers = vec![Header { name: "fanout.type", value: Some(b"text") }];
    headers.extend(id.map(|id| Header { name: "fanout.id", value: Some(id.as_bytes()) }));
    take(Record {
        topic: "t",
        partition,
        offset,
        epoch: 0,
        timestamp: offset,
        key: Some(channel.as_bytes()),
        value: Some(value.as_bytes()),
        headers: &headers,
    });
}

fn counter(hub: &Hub, name: &str) -> u64 {
    hub.stats.all().into_iter().find(|(other, _)| *other == name).unwrap().1
}

/// What two partitions gave, whose values begin with their number.
fn by_partition(values: &[String]) -> [Vec<String>; 2] {
    PARTITIONS.map(|number| values.iter().filter(|value| value.starts_with(&number.to_string())).cloned().collect())
}

#[test]
fn who_was_away_is_given_what_was_forgotten_and_then_what_is_live() {
    let mut node = Node::new();
    node.put(0, "c", "0 before", None);
    let serial = node.world.hub.position("c", 0);
    for n in 0..20 {
        node.put(0, if n % 2 == 0 { "c" } else { "d" }, &format!("0 {n}"), None);
    }
    node.forget("c", 3);
    assert_eq!(node.world.hub.locate("c", Some(&serial), Start::Live, 0).located.outcome, Outcome::Gap);
    let replay = node.replay(&serial);
    let handle = node.world.connect(0);
    assert_eq!(node.attach(handle, &replay, &serial), Outcome::Resumed);
    node.finish(&replay);
    node.put(0, "c", "0 live", None);
    node.world.turn();
    assert_eq!(node.world.values(handle), node.expected(0, 1));
    let hub = &node.world.hub;
    assert_eq!((counter(hub, "replays_handed_over"), hub.channel("c", 0).attachments()), (1, 1));
    assert!(!node.world.shard.take_events().iter().any(|event| matches!(event, Event::Lost(..) | Event::Left(..))));
}

#[test]
fn who_goes_on_live_while_being_written_is_given_what_is_there_at_once() {
    let mut node = Node::new();
    let serial = node.world.hub.position("c", 0);
    node.put(0, "c", "0 held", None);
    let replay = node.replay(&serial);
    node.world.hub.ask_replay(&replay, true);
    let handle = node.world.connect(0);
    node.attach(handle, &replay, &serial);
    while node.world.shard.has_more() {
        // As a driver does: all of a pass are named before the first is answered for.
        node.world.shard.begin_pass();
        let named: Vec<Handle> = std::iter::from_fn(|| node.world.shard.next_ready()).collect();
        for handle in named {
            let offered: Vec<u8> = node.world.shard.outbox(handle).unwrap().slices(64).flatten().copied().collect();
            node.world.take(handle, &offered);
        }
    }
    assert_eq!(node.world.values(handle), ["0 held"]);
}

#[test]
fn those_on_one_replay_share_its_frames() {
    let mut node = Node::new();
    let serial = node.world.hub.position("c", 0);
    (0..10).for_each(|n| node.put(0, "c", &format!("0 {n}"), None));
    node.forget("c", 0);
    let replay = node.replay(&serial);
    let handles: Vec<Handle> = (0..50).map(|slot| node.world.connect(slot)).collect();
    for handle in &handles {
        node.attach(*handle, &replay, &serial);
    }
    let before = counter(&node.world.hub, "frames");
    while node.feed(&replay, 100) {}
    node.world.turn();
    assert_eq!(counter(&node.world.hub, "frames"), before + 1);
    node.finish(&replay);
    assert!(handles.iter().all(|handle| node.world.values(*handle) == node.expected(0, 0)));
}

#[test]
fn a_repeat_is_known_by_what_was_before_the_replay() {
    let mut node = Node::new();
    node.put(0, "c", "0 first", Some("id"));
    let serial = node.world.hub.position("c", 0);
    node.put(0, "c", "0 again", Some("id"));
    node.put(0, "c", "0 other", Some("other"));
    node.forget("c", 0);
    let replay = node.replay(&serial);
    with_record(0, 0, "c", "0 first", Some("id"), |record| {
        node.world.hub.feed(&replay, [(record, Routing::Rules)].into_iter(), true, 0);
    });
    let handle = node.world.connect(0);
    node.attach(handle, &replay, &serial);
    node.finish(&replay);
    assert_eq!(node.world.values(handle), ["0 other"]);
}

#[test]
fn ids_are_forgotten_once_all_partitions_are_past_their_window() {
    let node = Node::new();
    let replay = node.replay(&node.world.hub.position("c", 0));
    let feed = |offset: i64, clock_ms: i64| {
        with_record(0, offset, "c", "0 x", Some("id"), |record| {
            let record = Record { timestamp: offset, ..record };
            node.world.hub.feed(&replay, [(record, Routing::Rules)].into_iter(), false, clock_ms);
        });
    };
    feed(1, 0);
    feed(DEDUP_WINDOW_MS, 0); // a repeat
    feed(DEDUP_WINDOW_MS + 2, DEDUP_WINDOW_MS + 2);
    assert_eq!(replay.channel.entries(crate::kind::Kind::Message).len(), 2);
}

#[test]
fn who_is_ahead_of_a_replay_is_given_nothing_twice() {
    let mut node = Node::new();
    let early = node.world.hub.position("c", 0);
    (0..4).for_each(|n| node.put(n % 2, "c", &format!("{} {n}", n % 2), None));
    let late = node.world.hub.position("c", 0);
    (4..12).for_each(|n| node.put(n % 2, "c", &format!("{} {n}", n % 2), None));
    node.forget("c", 1);
    let replay = node.replay(&early);
    let handles = [node.world.connect(0), node.world.connect(1)];
    node.attach(handles[0], &replay, &early);
    node.feed(&replay, 1);
    assert_eq!(node.attach(handles[1], &replay, &late), Outcome::Resumed);
    node.world.turn();
    node.finish(&replay);
    node.put(0, "c", "0 live", None);
    node.world.turn();
    for (handle, from) in [(handles[0], 0), (handles[1], 2)] {
        let seen = by_partition(&node.world.values(handle));
        assert_eq!(seen, PARTITIONS.map(|number| node.expected(number, from)));
    }
}

#[test]
fn who_is_ahead_of_a_replay_by_a_newer_leader_epoch_goes_on_live() {
    let mut node = Node::new();
    node.put(1, "other", "", None);
    let early = node.world.hub.position("c", 0);
    (0..4).for_each(|n| node.put(0, "c", &format!("0 {n}"), None));
    node.forget("c", 1);
    let replay = node.replay(&early);
    node.epoch = 1;
    (0..2).for_each(|_| node.put(1, "other", "", None));
    let late = node.world.hub.position("c", 0);
    let handle = node.world.connect(0);
    assert_eq!(node.attach(handle, &replay, &late), Outcome::Resumed);
    node.world.turn();
    node.finish(&replay);
    node.put(1, "c", "1 live", None);
    node.world.turn();
    assert_eq!(node.world.values(handle), ["1 live"]);
}

#[test]
fn who_is_passed_by_its_replay_is_left_and_told_of() {
    let mut node = Node::new();
    let serial = node.world.hub.position("c", 0);
    (0..20).for_each(|n| node.put(0, "c", &format!("0 {n} {}", "x".repeat(60_000)), None));
    node.forget("c", 0);
    let replay = node.replay(&serial);
    let (slow, fast) = (node.world.connect(0), node.world.connect(1));
    node.world.room.insert(slow, 1000);
    node.attach(slow, &replay, &serial);
    node.attach(fast, &replay, &serial);
    while node.feed(&replay, 5) {}
    node.world.hub.ask_replay(&replay, false);
    node.world.turn();
    assert_eq!(replay.channel.answers(), (1, 0));
    node.world.hub.drop_replayed(&replay, 100_000);
    assert!(replay.channel.bytes() <= 100_000);
    node.world.room.clear();
    node.world.shard.writable(slow);
    node.world.turn();
    let events = node.world.shard.take_events();
    assert!(events.contains(&Event::Left(slow, 1)) && !events.contains(&Event::Left(fast, 1)), "{events:?}");
    assert_eq!(counter(&node.world.hub, "replays_left"), 1);
    assert_eq!(counter(&node.world.hub, "continuity_lost"), 0, "nothing is: it comes back");
}

#[test]
fn all_who_are_on_a_replay_that_ends_are_left() {
    let mut node = Node::new();
    let serial = node.world.hub.position("c", 0);
    node.put(0, "c", "0 x", None);
    let replay = node.replay(&serial);
    let handle = node.world.connect(0);
    node.attach(handle, &replay, &serial);
    node.world.hub.end_replay(&replay);
    node.world.turn();
    assert_eq!(node.world.shard.take_events(), [Event::Left(handle, 1)]);
    let held = node.world.hub.gauges().into_iter().find(|(name, _)| *name == "replay_bytes");
    assert_eq!(held, Some(("replay_bytes", 0)));
}

#[test]
fn a_topic_made_anew_ends_what_was_read_of_the_old_one() {
    let mut node = Node::new();
    node.put(0, "c", "0 x", None);
    let replay = node.replay(&node.world.hub.position("c", 0));
    assert!(node.world.hub.wanted(&replay, 0).is_some());
    for number in PARTITIONS {
        node.world.hub.assign("t", [2; 16], number, 0).unwrap();
    }
    assert!(node.world.hub.wanted(&replay, 0).is_none());
}

#[test]
fn what_a_replay_holds_is_counted_and_given_back() {
    let mut node = Node::new();
    let serial = node.world.hub.position("c", 0);
    (0..50).for_each(|n| node.put(0, "c", &format!("0 {n}"), None));
    node.forget("c", 0);
    let replay = node.replay(&serial);
    let handle = node.world.connect(0);
    node.attach(handle, &replay, &serial);
    while node.feed(&replay, 10) {
        node.world.turn();
    }
    let held = |hub: &Hub| hub.gauges().into_iter().find(|(name, _)| *name == "replay_bytes").unwrap().1;
    assert_eq!(held(&node.world.hub), replay.channel.bytes() as u64);
    node.world.hub.drop_replayed(&replay, 500);
    assert_eq!(held(&node.world.hub), replay.channel.bytes() as u64);
    node.world.hub.end_replay(&replay);
    assert_eq!(held(&node.world.hub), 0);
}

proptest! {
    /// Whatever is written, forgotten, read back and joined in which order: everyone sees each partition's part of the
    /// channel once, in order, from where they were; or up to some place, and is told.
    #[test]
    fn everyone_sees_all_behind_their_place_once(
        steps in prop::collection::vec((0u8..8, 0usize..4, any::<bool>()), 1..80),
    ) {
        let mut node = Node::new();
        let mut places: Vec<(String, [i64; 2])> = vec![(node.world.hub.position("c", 0), [0; 2])];
        let mut replay: Option<Replay> = None;
        let mut clients: Vec<(Handle, [i64; 2])> = Vec::new();
        for (n, (step, which, flag)) in steps.into_iter().enumerate() {
            match step {
                0..=2 => {
                    let partition = i32::from(flag);
                    let channel = if which == 3 { "d" } else { "c" };
                    node.put(partition, channel, &format!("{partition} {n}"), None);
                }
                3 => places.push((node.world.hub.position("c", 0), node.next)),
                4 => node.forget("c", which),
                5 => {
                    if let Some(replay) = &replay { node.feed(replay, which as i64 + 1); }
                }
                6 => {
                    let (serial, from) = places[(which * 7 + n) % places.len()].clone();
                    let joined = replay.take().unwrap_or_else(|| node.replay(&serial));
                    let handle = node.world.connect(n as u64);
                    if node.attach(handle, &joined, &serial) == Outcome::Resumed {
                        clients.push((handle, from));
                    }
                    replay = Some(joined);
                }
                _ => {
                    if let Some(replay) = &replay { node.world.hub.ask_replay(replay, flag); }
                    node.world.turn();
                }
            }
        }
        if let Some(replay) = &replay { node.finish(replay); }
        node.put(0, "c", "0 last", None);
        node.put(1, "c", "1 last", None);
        node.world.turn();
        let events = node.world.shard.take_events();
        for (handle, from) in clients {
            let seen = by_partition(&node.world.values(handle));
            let mut expected = PARTITIONS.map(|number| node.expected(number, from[number as usize]));
            if events.iter().any(|event| matches!(event, Event::Lost(lost, 1, _) if *lost == handle)) {
                expected.iter_mut().zip(&seen).for_each(|(expected, seen)| expected.truncate(seen.len()));
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
