//! Positions by checkpoints are exact: on any node, from any place, whatever was read when.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::limits::{CHECKPOINT_LEFT_MS, CHECKPOINT_MS, CHECKPOINT_RENEWED_MS, ENTRIES_LISTED};

const TOPIC: &str = "fanout.checkpoints";
const TAG: [u8; 16] = [9; 16];
const PARTITIONS: usize = ENTRIES_LISTED + 4;

/// What Kafka would hold: of each partition the keys of its records, and the checkpoints.
#[derive(Default)]
struct Log {
    partitions: Vec<Vec<&'static str>>,
    checkpoints: Vec<Vec<u8>>,
}

struct Node {
    hub: Hub,
    next: Vec<usize>,
    next_checkpoint: usize,
}

fn checkpoint_record(offset: usize, epoch: i32, value: &[u8]) -> Record<'_> {
    Record {
        topic: TOPIC,
        partition: 0,
        offset: offset as i64,
        epoch,
        timestamp: 0,
        key: None,
        value: Some(value),
        headers: &[],
    }
}

impl Node {
    /// One that reads the topic from its beginning, and the checkpoints from this one on.
    fn new(partitions: usize, next_checkpoint: usize) -> Self {
        let hub = Hub::new(Settings { key: [3; 16], history_ms: i64::MAX / 4, history_bytes: 1 << 30 });
        hub.set_rules(Rules::new([("t", "#{key}")]).unwrap());
        hub.checkpoint_topic(TOPIC);
        hub.assign(TOPIC, TAG, 0, next_checkpoint as i64).unwrap();
        let mut node = Self { hub, next: Vec::new(), next_checkpoint };
        node.find(partitions);
        node
    }

    /// Finds as many partitions.
    fn find(&mut self, partitions: usize) {
        for number in self.next.len()..partitions {
            self.hub.assign("t", [1; 16], number as i32, 0).unwrap();
            self.next.push(0);
        }
    }

    fn read(&mut self, log: &Log, partition: usize, most: usize) {
        for _ in 0..most {
            let Some(key) = log.partitions[partition].get(self.next[partition]) else { return };
            put(&self.hub, partition as i32, self.next[partition] as i64, key, 0);
            self.next[partition] += 1;
        }
    }

    fn read_checkpoints(&mut self, log: &Log, now_ms: i64) {
        for value in &log.checkpoints[self.next_checkpoint..] {
            let record = checkpoint_record(self.next_checkpoint, 0, value);
            self.hub.ingest([(record, Routing::Rules)].into_iter(), now_ms);
            self.next_checkpoint += 1;
        }
    }

    fn read_all(&mut self, log: &Log, now_ms: i64) {
        self.find(log.partitions.len());
        (0..log.partitions.len()).for_each(|partition| self.read(log, partition, usize::MAX));
        self.read_checkpoints(log, now_ms);
    }

    fn tick(&self, log: &mut Log, now_ms: i64) -> bool {
        let due = self.hub.checkpoint(now_ms);
        log.checkpoints.extend(due.as_ref().map(|value| value.to_vec()));
        due.is_some()
    }

    fn locate(&mut self, log: &Log, serial: Option<&str>, now_ms: i64) -> Plan {
        let mut plan = self.hub.locate("c", serial, Start::Live, 0);
        for _ in 0..2 {
            match plan.located.outcome {
                Outcome::Ahead => self.read_all(log, now_ms),
                Outcome::Unread => {
                    let Err(Unknown::Unread(number)) = self.hub.whole("c", serial.unwrap()) else {
                        panic!("it is unread")
                    };
                    self.hub.recall((number, 0), &log.checkpoints[number as usize], now_ms);
                }
                _ => break,
            }
            plan = self.hub.locate("c", serial, Start::Live, 0);
        }
        plan
    }
}

/// Somebody who listens to "c", and knows its last position.
struct Client {
    node: usize,
    plan: Plan,
    position: String,
    given: Vec<(usize, i64)>,
}

impl Client {
    fn take(&mut self, hub: &Hub, most: usize) {
        let place = &mut self.plan.located;
        place.had.take_if(|had| had.is_past(place.cursor));
        let (taken, next) = self.plan.channel.take(place, most, hub.key(), hub.partitions()).unwrap();
        place.cursor = next;
        for taken in taken {
            self.given.push((taken.message.partition.number as usize, taken.message.offset));
            self.position = taken.position;
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize, &'static str),
    Read(usize, usize, usize),
    ReadCheckpoints(usize),
    Tick(usize),
    Take(usize, usize),
    Move(usize, usize),
    Restart(usize),
    Grow,
    Find(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let partition = 0..PARTITIONS + 4;
    let step = prop_oneof![
        8 => (partition.clone(), prop::sample::select(vec!["c", "d", "d"])).prop_map(|(p, key)| Step::Write(p, key)),
        8 => (0..2usize, partition, 1..4usize).prop_map(|(node, p, most)| Step::Read(node, p, most)),
        4 => (0..2usize).prop_map(Step::ReadCheckpoints),
        4 => (0..2usize).prop_map(Step::Tick),
        4 => (0..3usize, 1..3usize).prop_map(|(client, most)| Step::Take(client, most)),
        3 => (0..3usize, 0..2usize).prop_map(|(client, node)| Step::Move(client, node)),
        1 => (0..2usize).prop_map(Step::Restart),
        1 => Just(Step::Grow),
        1 => (0..2usize).prop_map(Step::Find),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_skipped_and_nothing_comes_twice(steps in steps()) {
        let mut log = Log { partitions: vec![Vec::new(); PARTITIONS], ..Log::default() };
        let mut nodes = [Node::new(PARTITIONS, 0), Node::new(PARTITIONS, 0)];
        let mut now_ms = 0;
        let mut clients: Vec<_> = (0..3).map(|number| {
            let plan = nodes[number % 2].locate(&log, None, 0);
            Client { node: number % 2, position: plan.serial.clone(), plan, given: Vec::new() }
        }).collect();
        for step in steps {
            now_ms += CHECKPOINT_MS / 2;
            match step {
                Step::Write(partition, key) if partition < log.partitions.len() => log.partitions[partition].push(key),
                Step::Read(node, partition, most) if partition < nodes[node].next.len() => {
                    nodes[node].read(&log, partition, most);
                }
                Step::ReadCheckpoints(node) => nodes[node].read_checkpoints(&log, now_ms),
                Step::Tick(node) => {
                    nodes[node].tick(&mut log, now_ms);
                }
                Step::Take(client, most) => {
                    let client = &mut clients[client];
                    client.take(&nodes[client.node].hub, most);
                }
                Step::Move(client, node) => {
                    let client = &mut clients[client];
                    let plan = nodes[node].locate(&log, Some(&client.position), now_ms);
                    prop_assert_eq!(plan.located.outcome, Outcome::Resumed);
                    client.position.clone_from(&plan.serial);
                    (client.node, client.plan) = (node, plan);
                }
                Step::Restart(node) => {
                    nodes[node] = Node::new(log.partitions.len(), log.checkpoints.len().saturating_sub(1));
                    nodes[node].read_all(&log, now_ms);
                    for client in clients.iter_mut().filter(|client| client.node == node) {
                        let plan = nodes[node].locate(&log, Some(&client.position), now_ms);
                        prop_assert_eq!(plan.located.outcome, Outcome::Resumed);
                        client.plan = plan;
                    }
                }
                Step::Grow if log.partitions.len() < PARTITIONS + 4 => log.partitions.push(Vec::new()),
                Step::Write(..) | Step::Read(..) | Step::Grow => {}
                Step::Find(node) => nodes[node].find(log.partitions.len()),
            }
        }
        for client in &mut clients {
            nodes[client.node].read_all(&log, now_ms);
            client.take(&nodes[client.node].hub, usize::MAX);
            let given: HashSet<_> = client.given.iter().copied().collect();
            prop_assert_eq!(given.len(), client.given.len(), "twice");
            let all = log.partitions.iter().enumerate().flat_map(|(number, keys)| {
                let own = keys.iter().enumerate().filter(|(_, key)| **key == "c");
                own.map(move |(offset, _)| (number, offset as i64))
            });
            prop_assert_eq!(given, all.collect::<HashSet<_>>());
        }
    }
}

/// A node that has read one record of each partition, and the checkpoint of that.
fn reader() -> (Node, Log) {
    let mut log = Log { partitions: vec![vec!["d"]; PARTITIONS], ..Log::default() };
    let mut node = Node::new(PARTITIONS, 0);
    node.read_all(&log, 0);
    assert!(node.tick(&mut log, 0));
    node.read_checkpoints(&log, 0);
    assert!(!node.tick(&mut log, 0));
    (node, log)
}

/// A node that has read as far as that one, and two checkpoints: the second says more.
fn late_reader() -> (Node, Log) {
    let (mut node, mut log) = reader();
    log.partitions[3].push("c");
    node.read_all(&log, 0);
    node.tick(&mut log, CHECKPOINT_MS);
    let mut late = Node::new(PARTITIONS, 0);
    (0..PARTITIONS).for_each(|partition| late.read(&log, partition, 1));
    late.read_checkpoints(&log, 0);
    (late, log)
}

#[test]
fn a_position_is_short_and_grows_with_the_partitions_that_feed_its_channel() {
    let mut log = Log { partitions: vec![vec!["d"]; 64], ..Log::default() };
    let mut node = Node::new(64, 0);
    node.read_all(&log, 0);
    let length = |node: &Node| node.hub.position("c", 0).len();
    assert!(length(&node) > 250, "{}", length(&node));
    node.tick(&mut log, 0);
    node.read_checkpoints(&log, 0);
    node.tick(&mut log, 0);
    assert!(length(&node) <= 30, "{}", length(&node));
    let quiet = length(&node);
    for (fed, partition) in [3, 7, 11].into_iter().enumerate() {
        log.partitions[partition].push("c");
        log.partitions[partition + 1].push("d");
        node.read_all(&log, 0);
        assert!(length(&node) <= quiet + 12 + (fed + 1) * 6, "{} {quiet}", length(&node));
    }
    node.tick(&mut log, CHECKPOINT_MS);
    node.read_checkpoints(&log, CHECKPOINT_MS);
    node.tick(&mut log, CHECKPOINT_MS);
    assert_eq!(length(&node), quiet, "the next one says that, too");
}

#[test]
fn few_partitions_need_none() {
    let mut log = Log { partitions: vec![vec!["d"]; ENTRIES_LISTED], ..Log::default() };
    let mut node = Node::new(ENTRIES_LISTED, 0);
    node.read_all(&log, 0);
    assert!(!node.tick(&mut log, 0));
}

#[test]
fn the_next_is_written_when_the_newest_is_old_and_more_was_read() {
    let (mut node, mut log) = reader();
    assert!(!node.tick(&mut log, CHECKPOINT_MS), "there is nothing new");
    log.partitions[3].push("d");
    node.read_all(&log, 0);
    assert!(!node.tick(&mut log, CHECKPOINT_MS - 1));
    assert!(node.tick(&mut log, CHECKPOINT_MS));
    node.read_checkpoints(&log, CHECKPOINT_MS);
    assert!(!node.tick(&mut log, 2 * CHECKPOINT_MS));
    assert!(!node.tick(&mut log, CHECKPOINT_RENEWED_MS));
    assert!(node.tick(&mut log, CHECKPOINT_MS + CHECKPOINT_RENEWED_MS), "it is to be young");
}

#[test]
fn who_is_behind_leaves_it_to_others_for_a_while() {
    let (late, mut log) = late_reader();
    assert!(!late.tick(&mut log, CHECKPOINT_LEFT_MS - 1));
    assert!(late.tick(&mut log, CHECKPOINT_LEFT_MS));
}

#[test]
fn who_has_not_read_as_far_refers_to_an_older_one() {
    let (mut late, mut log) = late_reader();
    let referred = |node: &Node| node.hub.partitions().open().reference().map(|reference| reference.base.number);
    late.tick(&mut log, 0);
    assert_eq!(referred(&late), Some(0));
    late.read_all(&log, 0);
    late.tick(&mut log, 0);
    assert_eq!(referred(&late), Some(1));
}

#[test]
fn checkpoints_of_other_topics_are_left_alone() {
    let (mut node, mut log) = reader();
    let other = crate::checkpoint::print(
        [crate::position::Entry { tag: [5; 8], partition: 0, offset: 9, epoch: 0 }].into_iter(),
    );
    log.checkpoints.push(other.to_vec());
    log.checkpoints.push(b"no checkpoint".to_vec());
    let before = counter(&node.hub, "records_unroutable");
    node.read_checkpoints(&log, 0);
    assert_eq!(counter(&node.hub, "records_unroutable"), before + 1);
    log.partitions[0].push("c");
    node.read_all(&log, 0);
    let position = node.hub.position("c", 0);
    assert!(node.tick(&mut log, CHECKPOINT_MS), "those are not ours");
    let mut elsewhere = Node::new(PARTITIONS, 0);
    elsewhere.read_all(&log, 0);
    assert_eq!(elsewhere.locate(&log, Some(&position), 0).located.outcome, Outcome::Resumed);
}

#[test]
fn one_that_the_log_has_no_more_or_never_had_is_refused_and_never_guessed() {
    let (node, log) = reader();
    let position = node.hub.position("c", 0);
    let outcome = |hub: &Hub| hub.locate("c", Some(&position), Start::Live, 0).located.outcome;
    assert_eq!(outcome(&node.hub), Outcome::Resumed);
    // Another life of the topic, or another record of this number, since the log was cut.
    let anew = Node::new(PARTITIONS, 0);
    anew.hub.assign(TOPIC, [8; 16], 0, 0).unwrap();
    assert_eq!(outcome(&anew.hub), Outcome::Foreign);
    let cut = checkpoint_record(0, 7, &log.checkpoints[0]);
    node.hub.ingest([(cut, Routing::Rules)].into_iter(), 0);
    assert_eq!(outcome(&node.hub), Outcome::Foreign);
    node.hub.checkpoint(0);
    assert_eq!(
        node.hub.partitions().open().reference().unwrap().base.epoch,
        7,
        "what was cut off is referred to no more"
    );
    // Not read yet, and no more in memory.
    assert_eq!(outcome(&Node::new(PARTITIONS, 0).hub), Outcome::Ahead);
    let late = Node::new(PARTITIONS, 1);
    assert_eq!(outcome(&late.hub), Outcome::Unread);
    assert_eq!(late.hub.whole("c", &position), Err(Unknown::Unread(0)));
    late.hub.recall((0, 1), &log.checkpoints[0], 0);
    assert_eq!(late.hub.whole("c", &position), Err(Unknown::Foreign), "in its place lies another");
}

#[test]
fn the_whole_position_needs_no_checkpoint() {
    let (mut node, mut log) = reader();
    let position = node.hub.position("c", 0);
    let whole = node.hub.whole("c", &position).unwrap();
    assert_eq!(node.hub.whole("c", &whole), Ok(whole.clone()));
    log.partitions[0].push("c");
    node.read_all(&log, 0);
    let mut other = Node::new(PARTITIONS, log.checkpoints.len());
    other.read_all(&log, 0);
    let plan = other.locate(&log, Some(&whole), 0);
    assert_eq!((plan.located.outcome, plan.located.backlog), (Outcome::Resumed, 1));
}

#[test]
fn what_a_forgotten_channel_had_is_not_taken_for_nothing() {
    let hub = node(PARTITIONS as i32, 1 << 20);
    hub.checkpoint_topic(TOPIC);
    hub.assign(TOPIC, TAG, 0, 0).unwrap();
    (0..PARTITIONS as i32).for_each(|partition| put(&hub, partition, 0, "d", 0));
    let first = hub.checkpoint(0).unwrap();
    hub.ingest([(checkpoint_record(0, 0, &first), Routing::Rules)].into_iter(), 0);
    hub.checkpoint(0);
    put(&hub, 0, 1, "c", 0);
    for _ in 0..20 {
        hub.sweep(100 * crate::limits::CHANNEL_IDLE_MS);
    }
    assert!(hub.occupancy("c").is_none());
    let places: Vec<_> =
        hub.places("c", Some(&hub.position("c", 0))).unwrap().iter().map(|place| place.offset).collect();
    assert_eq!(places[0], 2, "it had something since the checkpoint, as far as anybody knows");
}

#[test]
fn a_partition_whose_log_was_cut_is_said_by_itself() {
    let (mut node, log) = reader();
    let hub = &node.hub;
    (1..4).for_each(|offset| put(hub, 5, offset, "d", 0));
    let before = hub.position("c", 0);
    let cut = Record { epoch: 1, ..record(5, 0, "c", "v", &[]) };
    hub.ingest([(cut, Routing::Rules)].into_iter(), 0);
    let places: Vec<_> =
        hub.places("c", Some(&hub.position("c", 0))).unwrap().iter().map(|place| place.offset).collect();
    assert_eq!(places[5], 1);
    assert_eq!(node.locate(&log, Some(&before), 0).located.outcome, Outcome::Gap, "what it had is there no more");
}

#[test]
fn none_is_referred_to_that_speaks_of_a_topic_that_is_gone_or_is_of_one() {
    let (node, log) = reader();
    let hub = &node.hub;
    let before = hub.position("c", 0);
    hub.gone("t");
    assert_eq!(hub.locate("c", Some(&before), Start::Live, 0).located.outcome, Outcome::Foreign);
    hub.checkpoint(0);
    assert!(hub.partitions().open().reference().is_none());
    let late = Node::new(PARTITIONS, log.checkpoints.len());
    assert_eq!(late.hub.locate("c", Some(&before), Start::Live, 0).located.outcome, Outcome::Unread);
    late.hub.gone(TOPIC);
    assert_eq!(late.hub.locate("c", Some(&before), Start::Live, 0).located.outcome, Outcome::Foreign);
    assert!(late.hub.checkpoint(i64::MAX / 8).is_none(), "nor is one written");
}
