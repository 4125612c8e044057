use std::collections::HashSet;

use proptest::prelude::*;

use crate::channel::{Ask, Given, Outcome, Own, Start, Withheld};
use crate::hub::{Hub, Routing, Settings};
use crate::kind::Kinds;
use crate::record::Record;
use crate::route::Rules;
use crate::wire::Wire;

fn node(partitions: i32) -> Hub {
    let hub = Hub::new(Settings { key: [3; 16], history_ms: 1000, history_bytes: 64 << 20 });
    hub.set_rules(Rules::new([("t", "#{key}")]).unwrap());
    (0..partitions).for_each(|number| hub.assign("t", [1; 16], number, 0).unwrap());
    hub
}

fn put(hub: &Hub, partition: i32, offset: i64, value: &[u8]) {
    let record = Record {
        topic: "t",
        partition,
        offset,
        epoch: 0,
        timestamp: 0,
        key: Some(b"c"),
        value: Some(value),
        headers: &[],
    };
    hub.ingest([(record, Routing::Rules)].into_iter(), 0);
}

fn ask(wire: Wire, from: u64) -> Ask<'static> {
    Ask::plain(wire, from)
}

/// The ids in a frame, and the position behind it.
fn read(bytes: &[u8]) -> (Vec<String>, String) {
    let start = bytes.windows(2).position(|pair| pair == b"{\"").unwrap();
    let frame: serde_json::Value = serde_json::from_slice(&bytes[start..]).unwrap();
    let ids = frame["messages"].as_array().unwrap().iter().map(|message| message["id"].as_str().unwrap().to_owned());
    (ids.collect(), frame["channelSerial"].as_str().unwrap().to_owned())
}

/// Everything a client that resumes at `serial` is given, frame by frame.
fn resume(hub: &Hub, serial: Option<&str>) -> (Outcome, Vec<(Vec<String>, String)>) {
    let plan = hub.locate("c", serial, Start::Rewind { count: usize::MAX, since_ms: 0 }, 0);
    let withheld = Withheld { had: plan.located.had.clone(), own: None };
    let mut cursor = plan.located.cursor;
    let mut frames = Vec::new();
    loop {
        match plan.channel.own_frame(&ask(Wire::Json, cursor), &withheld, &hub.context()) {
            Given::Frame(frame) => {
                frames.push(read(&frame.bytes));
                cursor = frame.to;
            }
            Given::Skipped(to) => cursor = to,
            Given::Nothing => return (plan.located.outcome, frames),
            Given::Conflated | Given::Lost => panic!("nothing was dropped"),
        }
    }
}

#[test]
fn who_stands_at_one_place_shares_one_frame() {
    let hub = node(1);
    put(&hub, 0, 0, b"x");
    let channel = hub.channel("c", 0);
    let frame = || match channel.frame(&ask(Wire::Json, 0), &hub.context()) {
        Given::Frame(frame) => frame,
        other => panic!("{other:?}"),
    };
    let (first, second) = (frame(), frame());
    assert!(std::sync::Arc::ptr_eq(&first.bytes, &second.bytes));
    put(&hub, 0, 1, b"y");
    assert_eq!(frame().to, 2, "a frame made before more came is not given again");
}

#[test]
fn frames_are_bounded_and_a_giant_message_has_one_of_its_own() {
    let hub = node(1);
    let sizes = [60_000, 60_000, 60_000, 1_000_000, 10];
    for (offset, size) in sizes.into_iter().enumerate() {
        put(&hub, 0, offset as i64, &vec![b'x'; size]);
    }
    let channel = hub.channel("c", 0);
    let mut cursor = 0;
    let mut counts = Vec::new();
    while let Given::Frame(frame) = channel.frame(&ask(Wire::Msgpack, cursor), &hub.context()) {
        counts.push(frame.messages);
        cursor = frame.to;
    }
    assert_eq!(counts, [2, 1, 1, 1]);
}

#[test]
fn own_messages_are_left_out_for_their_publisher_alone() {
    let hub = node(1);
    let headers = [
        crate::record::Header { name: "fanout.type", value: Some(b"text") },
        crate::record::Header { name: "fanout.connectionId", value: Some(b"me") },
    ];
    let record = Record {
        topic: "t",
        partition: 0,
        offset: 0,
        epoch: 0,
        timestamp: 0,
        key: Some(b"c"),
        value: Some(b"x"),
        headers: &headers,
    };
    hub.ingest([(record, Routing::Rules)].into_iter(), 0);
    let channel = hub.channel("c", 0);
    let given = |own: &str| {
        let withheld =
            Withheld { had: None, own: Some(Own { connection_id: own.into(), echo: false, presence: false }) };
        channel.own_frame(&ask(Wire::Json, 0), &withheld, &hub.context())
    };
    assert!(matches!(given("me"), Given::Skipped(1)));
    assert!(matches!(given("you"), Given::Frame(_)));
}

mod changes;
mod kinds;
mod shared;
mod snapshots;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Two nodes read the same partitions in different interleavings. Whatever frame of the first a client saw last,
    /// on the second it is given exactly the rest: nothing lost, nothing doubled, each partition in order.
    #[test]
    fn a_position_of_one_node_is_exact_on_another(
        first in prop::collection::vec(0usize..3, 1..60),
        second in prop::collection::vec(0usize..3, 60),
        big in prop::collection::vec(any::<bool>(), 60),
    ) {
        let counts = [0, 1, 2].map(|partition| first.iter().filter(|&&other| other == partition).count());
        let (a, b) = (node(3), node(3));
        let mut at = [0i64; 3];
        for &partition in &first {
            // Some messages are so big that frames end in the middle of the ring.
            let size = if big[at[partition] as usize % big.len()] { 50_000 } else { 1 };
            put(&a, partition as i32, at[partition], &vec![b'x'; size]);
            at[partition] += 1;
        }
        let mut at = [0i64; 3];
        let rest = (0..3).flat_map(|partition| std::iter::repeat_n(partition, counts[partition]));
        for partition in second.iter().copied().chain(rest) {
            if at[partition] < counts[partition] as i64 {
                put(&b, partition as i32, at[partition], b"x");
                at[partition] += 1;
            }
        }
        let (_, frames) = resume(&a, None);
        let mut seen: Vec<String> = Vec::new();
        for (ids, serial) in &frames {
            seen.extend(ids.iter().cloned());
            let (outcome, more) = resume(&b, Some(serial));
            prop_assert_eq!(outcome, Outcome::Resumed);
            let all: Vec<String> = seen.iter().cloned().chain(more.into_iter().flat_map(|(ids, _)| ids)).collect();
            prop_assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "doubled");
            if first.len() <= crate::limits::REWIND_MESSAGES_MAX {
                prop_assert_eq!(all.len(), first.len(), "lost");
            }
            for partition in 0..3 {
                let mine = format!("t:{partition}:");
                let offsets: Vec<i64> =
                    all.iter().filter_map(|id| id.strip_prefix(&mine)).map(|n| n.parse().unwrap()).collect();
                prop_assert!(offsets.is_sorted(), "reordered");
            }
        }
    }

    /// A client that resumes is cut again after any of its frames, and resumes again.
    #[test]
    fn a_position_in_the_middle_of_a_replay_is_exact(order in prop::collection::vec(0usize..2, 2..40), cut in 0usize..40) {
        let (a, b) = (node(2), node(2));
        let mut at = [0i64; 2];
        for (index, &partition) in order.iter().enumerate() {
            if index < order.len() / 2 {
                put(&a, partition as i32, at[partition], b"x");
            }
            at[partition] += 1;
        }
        // The second node has read one partition before the other, in chunks that end frames early.
        for (partition, &end) in at.iter().enumerate() {
            (0..end).for_each(|offset| put(&b, partition as i32, offset, &vec![b'x'; 70_000]));
        }
        let (_, begun) = resume(&a, None);
        let mut seen: Vec<String> = begun.iter().flat_map(|(ids, _)| ids.clone()).collect();
        let Some((_, serial)) = begun.last() else { return Ok(()) };
        let (_, replay) = resume(&b, Some(serial));
        let mut serial = serial.clone();
        for (ids, behind) in replay.iter().take(cut) {
            seen.extend(ids.iter().cloned());
            serial.clone_from(behind);
        }
        seen.extend(resume(&b, Some(&serial)).1.into_iter().flat_map(|(ids, _)| ids));
        prop_assert_eq!(seen.len(), order.len());
        prop_assert_eq!(seen.iter().collect::<HashSet<_>>().len(), order.len());
    }
}
