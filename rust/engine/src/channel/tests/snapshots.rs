//! The newest of each key: who comes is given it, and who was passed goes on with it.

use std::collections::BTreeMap;

use super::*;
use crate::channel::{Channel, Located};
use crate::route::Spec;

/// A node on which channel `c` is fed by a topic with snapshots, and by another one.
struct Node {
    hub: Hub,
    next: [i64; 3],
}

impl Node {
    fn new() -> Self {
        Self::with(64 << 20)
    }

    fn with(history_bytes: usize) -> Self {
        let hub = Hub::new(Settings { key: [3; 16], history_ms: 1000, history_bytes });
        let snapshot = Spec { snapshot: true, ..("s", "c").into() };
        hub.set_rules(Rules::new([snapshot, ("t", "c").into()]).unwrap());
        hub.assign("s", [1; 16], 0, 0).unwrap();
        hub.assign("s", [1; 16], 1, 0).unwrap();
        hub.assign("t", [2; 16], 0, 0).unwrap();
        Self { hub, next: [0; 3] }
    }

    fn record(&mut self, source: usize, key: &str, value: Option<&str>) -> i64 {
        let (topic, partition) = [("s", 0), ("s", 1), ("t", 0)][source];
        let offset = self.next[source];
        self.next[source] += 1;
        let (key, value) = (Some(key.as_bytes()), value.map(str::as_bytes));
        let record = Record { topic, partition, offset, epoch: 0, timestamp: 0, key, value, headers: &[] };
        self.hub.ingest([(record, Routing::Rules)].into_iter(), 0);
        offset
    }

    fn put(&mut self, key: &str, value: &str) {
        self.record(0, key, Some(value));
    }

    fn channel(&self) -> std::sync::Arc<Channel> {
        self.hub.channel("c", 0)
    }

    /// The ring forgets all but the newest `keep`.
    fn forget(&self, keep: usize) {
        let (held, _) = self.channel().held();
        self.channel().drop_below(u64::MAX, held.saturating_sub(keep));
    }

    fn come(&self, serial: Option<&str>) -> Walk {
        Walk::new(self.hub.locate("c", serial, Start::Live, 0).located)
    }
}

/// A receiver.
struct Walk {
    outcome: Outcome,
    at: u64,
    conflates: Option<u64>,
    withheld: Withheld,
    /// Ids and payloads, as given.
    given: Vec<(String, String)>,
    serial: String,
}

impl Walk {
    fn new(located: Located) -> Self {
        let Located { outcome, cursor: at, conflates, had, .. } = located;
        Self { outcome, at, conflates, withheld: Withheld { had, own: None }, given: Vec::new(), serial: String::new() }
    }

    /// Takes one frame; whether there was one.
    fn step(&mut self, node: &Node) -> bool {
        let ask = Ask { conflates: self.conflates, ..Ask::plain(Wire::Json, self.at) };
        let channel = node.channel();
        let given = if self.withheld.is_nothing() {
            channel.frame(&ask, &node.hub.context())
        } else {
            channel.own_frame(&ask, &self.withheld, &node.hub.context())
        };
        match given {
            Given::Frame(frame) => {
                let start = frame.bytes.windows(2).position(|pair| pair == b"{\"").unwrap();
                let said: serde_json::Value = serde_json::from_slice(&frame.bytes[start..]).unwrap();
                for message in said["messages"].as_array().unwrap() {
                    let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
                    self.given.push((text("id"), text("data")));
                }
                said["channelSerial"].as_str().unwrap().clone_into(&mut self.serial);
                self.at = frame.to;
            }
            Given::Skipped(to) => self.at = to,
            Given::Nothing => return false,
            other => panic!("{other:?}"),
        }
        if self.at >= channel.end() {
            self.conflates = None;
        }
        if self.withheld.had.as_ref().is_some_and(|had| had.is_past(self.at)) {
            self.withheld.had = None;
        }
        true
    }

    fn all(mut self, node: &Node) -> Self {
        while self.step(node) {}
        self
    }

    fn payloads(&self) -> Vec<&str> {
        self.given.iter().map(|(_, data)| &**data).collect()
    }
}

#[test]
fn who_comes_is_given_the_newest_of_each_key_and_then_what_is_live() {
    let mut node = Node::new();
    for (key, value) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1")] {
        node.put(key, value);
    }
    for keep in [4, 1, 0] {
        node.forget(keep);
        let walk = node.come(None).all(&node);
        assert_eq!(
            (walk.outcome, walk.payloads()),
            (Outcome::Fresh, vec!["b1", "a2", "c1"]),
            "with {keep} in the ring"
        );
    }
    let mut walk = node.come(None).all(&node);
    node.put("a", "a3");
    node.put("a", "a4");
    walk = walk.all(&node);
    assert_eq!(walk.payloads(), ["b1", "a2", "c1", "a3", "a4"], "what is live is not conflated");
    assert_eq!(node.come(Some(&walk.serial)).all(&node).payloads(), [""; 0]);
}

#[test]
fn other_channels_pay_nothing() {
    let mut node = Node::new();
    node.record(2, "k", Some("x"));
    let walk = node.come(None);
    assert_eq!((walk.at, walk.conflates), (1, None));
}

#[test]
fn a_key_that_was_taken_back_is_gone_once_the_ring_has_dropped_its_end() {
    let mut node = Node::new();
    node.put("a", "a1");
    node.put("b", "b1");
    let early = {
        let mut walk = node.come(None);
        walk.step(&node);
        walk.serial
    };
    node.record(0, "a", None);
    assert_eq!(node.come(None).all(&node).payloads(), ["b1", ""]);
    node.forget(0);
    assert_eq!(node.come(None).all(&node).payloads(), ["b1"]);
    let back = node.come(Some(&early)).all(&node);
    assert_eq!((back.outcome, back.payloads()), (Outcome::Gap, vec!["b1"]), "it would never learn that a is gone");
}

#[test]
fn frames_are_shared_until_something_is_superseded() {
    let mut node = Node::new();
    node.put("a", "a1");
    let frame = |node: &Node| {
        let ask = Ask { conflates: Some(0), ..Ask::plain(Wire::Json, 0) };
        let Given::Frame(frame) = node.channel().frame(&ask, &node.hub.context()) else { panic!("there is one") };
        frame.bytes
    };
    assert!(std::sync::Arc::ptr_eq(&frame(&node), &frame(&node)));
    let before = frame(&node);
    node.put("a", "a2");
    assert_ne!(before, frame(&node));
}

#[test]
fn what_has_no_key_is_not_skipped() {
    let mut node = Node::new();
    node.put("a", "a1");
    node.record(2, "k", Some("old"));
    let fresh = node.come(None).all(&node);
    assert_eq!(fresh.payloads(), ["a1"], "what was live before is history");
    node.record(2, "k", Some("new"));
    node.put("a", "a2");
    node.forget(1);
    assert!(matches!(node.channel().frame(&Ask::plain(Wire::Json, 2), &node.hub.context()), Given::Lost));
    assert_eq!(node.come(Some(&fresh.serial)).outcome, Outcome::Gap);
    node.forget(0);
    assert!(matches!(node.channel().frame(&Ask::plain(Wire::Json, 3), &node.hub.context()), Given::Conflated));
}

#[test]
fn memory_is_bounded_and_who_comes_is_told_what_is_missing() {
    let mut node = Node::with(64 << 10);
    for number in 0..1_000 {
        node.put(&number.to_string(), "value");
    }
    let gauges: BTreeMap<_, _> = node.hub.gauges().into();
    assert!((20 << 10..=32 << 10).contains(&gauges["snapshot_bytes"]), "{}", gauges["snapshot_bytes"]);
    let walk = node.come(None).all(&node);
    assert_eq!(walk.outcome, Outcome::Partial);
    assert_eq!(walk.given.last().unwrap().0, "s:0:999");
    assert!((50..200).contains(&walk.given.len()), "{}", walk.given.len());
}

#[test]
fn what_is_older_than_memory_reaches_takes_nothing_from_other_channels_while_nobody_follows_it() {
    const NOW_MS: i64 = 10_000;
    let hub = Hub::new(Settings { key: [3; 16], history_ms: 1000, history_bytes: 64 << 10 });
    let snapshot = Spec { snapshot: true, ..("s", "c").into() };
    hub.set_rules(Rules::new([snapshot, ("t", "d").into()]).unwrap());
    hub.assign("s", [1; 16], 0, 0).unwrap();
    hub.assign("t", [2; 16], 0, 0).unwrap();
    let ingest = |topic: &str, offset: i64, timestamp: i64| {
        let (key, value) = (format!("{}", offset % 10), [b'x'; 1000]);
        let (key, value) = (Some(key.as_bytes()), Some(&value[..]));
        let record = Record { topic, partition: 0, offset, epoch: 0, timestamp, key, value, headers: &[] };
        hub.ingest([(record, Routing::Rules)].into_iter(), NOW_MS);
    };
    for offset in 0..10 {
        ingest("t", offset, NOW_MS);
    }
    for offset in 0..500 {
        ingest("s", offset, offset);
    }
    assert_eq!(hub.channel("d", 0).held().0, 10, "all that it has is there");
    assert_eq!(hub.channel("c", 0).held().0, 0);
    let node = Node { hub, next: [0; 3] };
    let walk = node.come(None).all(&node);
    let ids: Vec<_> = walk.given.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids, (490..500).map(|offset| format!("s:0:{offset}")).collect::<Vec<_>>(), "the newest of each key");
    node.channel().attached(Kinds::ALL);
    let (key, value) = (Some(&b"1"[..]), Some(&b"followed"[..]));
    let record = Record { topic: "s", partition: 0, offset: 500, epoch: 0, timestamp: 0, key, value, headers: &[] };
    node.hub.ingest([(record, Routing::Rules)].into_iter(), NOW_MS);
    assert_eq!(node.channel().held().0, 1, "whoever follows is given it from the ring");
}

#[test]
fn of_a_topic_made_anew_nothing_is_kept_and_who_is_there_is_told() {
    let mut node = Node::new();
    node.put("a", "a1");
    node.record(1, "b", Some("b1"));
    for number in 0..2 {
        node.hub.assign("s", [9; 16], number, 0).unwrap();
    }
    assert!(matches!(node.channel().frame(&Ask::plain(Wire::Json, 2), &node.hub.context()), Given::Lost));
    let gauges: BTreeMap<_, _> = node.hub.gauges().into();
    assert_eq!(gauges["snapshot_bytes"], 0);
    node.next = [0; 3];
    node.put("c", "c1");
    let walk = node.come(None).all(&node);
    assert_eq!((walk.outcome, walk.payloads()), (Outcome::Fresh, vec!["c1"]));
}

#[test]
fn what_was_cut_off_is_kept_no_more_and_who_comes_is_told_that_keys_are_missing() {
    let mut node = Node::new();
    for (key, value) in [("a", "a1"), ("b", "b1"), ("a", "a2")] {
        node.put(key, value);
    }
    let (key, value) = (Some(&b"c"[..]), Some(&b"c1"[..]));
    let record = Record { topic: "s", partition: 0, offset: 2, epoch: 1, timestamp: 0, key, value, headers: &[] };
    node.hub.ingest([(record, Routing::Rules)].into_iter(), 0);
    let walk = node.come(None).all(&node);
    assert_eq!((walk.outcome, walk.payloads()), (Outcome::Partial, vec!["b1", "c1"]));
}

#[test]
fn what_is_kept_is_counted_until_it_leaves() {
    let mut node = Node::new();
    for number in 0..100 {
        node.put(if number % 2 == 0 { "a" } else { "b" }, "value");
        node.come(None).all(&node);
    }
    node.record(0, "a", None);
    node.record(0, "b", None);
    node.hub.sweep(10_000);
    let gauges: BTreeMap<_, _> = node.hub.gauges().into();
    assert_eq!(gauges["snapshot_bytes"], 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is superseded and dropped while a client walks, leaves, and comes back to another node: in the end it has
    /// the newest of each key, and nothing twice.
    #[test]
    fn in_the_end_everybody_has_the_newest_of_each_key(
        steps in prop::collection::vec((0usize..6, 0usize..2, 0u8..8), 1..120),
    ) {
        let mut nodes = [Node::new(), Node::new()];
        let mut newest = BTreeMap::new();
        let mut here = 0;
        let mut walk = nodes[0].come(None);
        let mut seen: Vec<(String, String)> = Vec::new();
        let mut reset = 0;
        for (number, (what, partition, key)) in steps.into_iter().enumerate() {
            match what {
                0..3 => {
                    let (key, value) = (format!("{partition}{key}"), number.to_string());
                    for node in &mut nodes {
                        node.record(partition, &key, Some(&value));
                    }
                    newest.insert(key, value);
                }
                3 => nodes[here].forget(usize::from(key)),
                4 => {
                    let base = nodes[here].channel().base();
                    if walk.conflates.is_some() || walk.at >= base {
                        walk.step(&nodes[here]);
                    }
                }
                _ => {
                    let serial = walk.serial.clone();
                    seen.append(&mut walk.given);
                    here = 1 - here;
                    let resumes = !serial.is_empty();
                    walk = nodes[here].come(resumes.then_some(&*serial));
                    prop_assert_ne!(walk.outcome, Outcome::Gap);
                    if !resumes {
                        reset = seen.len();
                    }
                    walk.serial = serial;
                }
            }
        }
        if walk.conflates.is_none() && walk.at < nodes[here].channel().base() {
            walk.conflates = Some(0); // it was passed, and told so
        }
        seen.extend(walk.all(&nodes[here]).given);
        let mine = &seen[reset..];
        for key in newest.keys() {
            prop_assert!(mine.iter().any(|(_, value)| *value == newest[key]), "{} of {:?}", key, mine);
        }
        let mut ids: Vec<_> = mine.iter().map(|(id, _)| id).collect();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), mine.len(), "something came twice: {:?}", mine);
    }
}
