mod births;
mod blocks;
mod certain;
mod checkpoints;
mod epochs;
mod gone;
mod held;
mod history;
mod inject;
mod resume;
mod rules;

use super::*;
use crate::channel::{Ask, Given};
use crate::kind::{Kind, Kinds};
use crate::limits::{CHANNEL_IDLE_MS, CHANNELS_PER_RECORD_MAX, CHANNELS_REVIEWED, MESSAGES_SWEPT};
use crate::record::{Header, Record};
use crate::route::{OnFailure, Rules};
use crate::wire::Wire;

const HISTORY_MS: i64 = 1000;

/// A node with one topic of `partitions` partitions whose key is the channel.
fn node(partitions: i32, history_bytes: usize) -> Hub {
    let hub = Hub::new(Settings { key: [3; 16], history_ms: HISTORY_MS, history_bytes });
    hub.set_rules(Rules::new([("t", "#{key}")]).unwrap());
    for number in 0..partitions {
        hub.assign("t", [1; 16], number, 0).unwrap();
    }
    hub
}

fn record<'a>(partition: i32, offset: i64, key: &'a str, value: &'a str, headers: &'a [Header<'a>]) -> Record<'a> {
    Record {
        topic: "t",
        partition,
        offset,
        epoch: 0,
        timestamp: offset,
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
        headers,
    }
}

fn put(hub: &Hub, partition: i32, offset: i64, key: &str, now: i64) {
    assert_eq!(hub.ingest([(record(partition, offset, key, "v", &[]), Routing::Rules)].into_iter(), now), 0);
}

fn offsets(hub: &Hub, channel: &str) -> Vec<i64> {
    hub.channel(channel, 0).entries(Kind::Message).iter().map(|message| message.offset).collect()
}

fn counter(hub: &Hub, name: &str) -> u64 {
    hub.stats.all().into_iter().find(|(other, _)| *other == name).unwrap().1
}

#[test]
fn records_go_to_their_channels_in_order() {
    let hub = node(1, 1 << 20);
    for offset in 0..10 {
        put(&hub, 0, offset, if offset % 2 == 0 { "even" } else { "odd" }, 0);
    }
    assert_eq!(offsets(&hub, "even"), [0, 2, 4, 6, 8]);
    assert_eq!(offsets(&hub, "odd"), [1, 3, 5, 7, 9]);
}

#[test]
fn channels_in_use_are_listed_in_order_page_by_page() {
    let hub = node(1, 1 << 20);
    for (offset, name) in ["b:2", "a", "b:1", "b:3", "c"].into_iter().enumerate() {
        put(&hub, 0, offset as i64, name, 0);
    }
    hub.channel("b:0", 0); // looked at, and not in use
    let published = [Header { name: "fanout.type", value: Some(b"text") }];
    assert_eq!(hub.ingest([(record(0, 5, "app\x1fb:1", "v", &published), Routing::Rules)].into_iter(), 0), 0);
    let names = |prefix: &str, after: &str, limit| hub.names("", prefix, after, limit, false).join(" ");
    assert_eq!(names("", "", 100), "a b:1 b:2 b:3 c");
    assert_eq!(names("b:", "", 2), "b:1 b:2");
    assert_eq!(names("b:", "b:2", 2), "b:3");
    assert_eq!(hub.names("", "b:", "", 2, true).join(" "), "b:0 b:1");
    assert_eq!(names("", "c", 2), "");
    assert_eq!(names("", "", 0), "");
    assert_eq!(hub.names("app\x1f", "b", "", 9, false).join(" "), "app\x1fb:1");
    assert_eq!(hub.names("app\x1f", "", "b:1", 9, false).join(" "), "");
    hub.channel("b:0", 0).attached(Kinds::ALL);
    assert_eq!(names("b:", "", 1), "b:0");
}

#[test]
fn a_record_that_is_read_twice_is_delivered_once() {
    let hub = node(1, 1 << 20);
    for offset in [0, 1, 0, 1, 2] {
        put(&hub, 0, offset, "c", 0);
    }
    assert_eq!(offsets(&hub, "c"), [0, 1, 2]);
    assert_eq!(counter(&hub, "records_repeated"), 2);
}

#[test]
fn a_publish_that_was_sent_twice_is_delivered_once() {
    let hub = node(1, 1 << 20);
    let headers =
        [Header { name: "fanout.type", value: Some(b"text") }, Header { name: "fanout.id", value: Some(b"x:0:0") }];
    for offset in 0..3 {
        hub.ingest([(record(0, offset, "c", "v", &headers), Routing::Rules)].into_iter(), 0);
    }
    assert_eq!(offsets(&hub, "c"), [0]);
    assert_eq!(hub.find("c", "x:0:0", 0).as_deref(), Some("0000000000000000-0-t"));
    assert_eq!(hub.find("c", "x:0:1", 0), None);
    assert_eq!(counter(&hub, "duplicates"), 2);
}

#[test]
fn a_router_may_name_several_channels_none_or_nonsense() {
    let hub = node(1, 1 << 20);
    let many: Vec<String> = (0..=CHANNELS_PER_RECORD_MAX).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(|name| &**name).collect();
    for (offset, names) in [&["a", "b", "a"][..], &[], &["", "ok"], &many].into_iter().enumerate() {
        hub.ingest([(record(0, offset as i64, "k", "v", &[]), Routing::Given(names))].into_iter(), 0);
    }
    assert_eq!(offsets(&hub, "a"), [0]);
    assert_eq!(offsets(&hub, "b"), [0]);
    assert_eq!(offsets(&hub, "ok"), [2]);
    assert_eq!((counter(&hub, "records_unrouted"), counter(&hub, "records_unroutable")), (1, 2));
}

#[test]
fn records_of_unannounced_partitions_are_refused() {
    let hub = node(1, 1 << 20);
    assert_eq!(hub.ingest([(record(7, 0, "c", "v", &[]), Routing::Rules)].into_iter(), 0), 1);
}

#[test]
fn messages_leave_after_the_history_window() {
    let hub = node(1, 1 << 20);
    put(&hub, 0, 0, "c", 0);
    put(&hub, 0, 1, "c", HISTORY_MS);
    hub.sweep(HISTORY_MS);
    assert_eq!(offsets(&hub, "c"), [0, 1]);
    hub.sweep(HISTORY_MS + 1);
    assert_eq!(offsets(&hub, "c"), [1]);
    assert_eq!(counter(&hub, "messages_expired"), 1);
}

#[test]
fn memory_is_bounded_and_a_flood_on_one_channel_leaves_the_others_theirs() {
    let bytes = 1 << 20;
    let hub = node(1, bytes);
    let value = "x".repeat(1000);
    put(&hub, 0, 0, "quiet", 0);
    for offset in 1..5000 {
        hub.ingest([(record(0, offset, "flood", &value, &[]), Routing::Rules)].into_iter(), 0);
        assert!(hub.memory.load(Ordering::Relaxed) <= bytes);
    }
    assert_eq!(offsets(&hub, "quiet"), [0]);
    assert!(offsets(&hub, "flood").len() > 100);
    for offset in 5000..15_000 {
        hub.ingest([(record(0, offset, &format!("c{offset}"), &value, &[]), Routing::Rules)].into_iter(), 0);
    }
    assert!(hub.memory.load(Ordering::Relaxed) <= bytes + 2000);
    assert!(hub.channels.read().len() < 2000, "channels squeezed empty are forgotten");
}

#[test]
fn memory_is_counted_back_to_nothing() {
    let hub = node(1, 1 << 20);
    for offset in 0..50 {
        put(&hub, 0, offset, "c", 0);
    }
    let channel = hub.channel("c", 0);
    for from in [0, 10, 20, 30, 40, 5, 15] {
        for wire in [Wire::Json, Wire::Msgpack] {
            channel.frame(&Ask::plain(wire, from), &hub.context());
        }
    }
    drop(channel);
    hub.sweep(HISTORY_MS + 1);
    hub.sweep(CHANNEL_IDLE_MS + HISTORY_MS + 2);
    assert_eq!(hub.memory.load(Ordering::Relaxed), 0);
    assert_eq!(hub.channels.read().len(), 0);
}

#[test]
fn channels_made_by_looking_and_left_are_bounded() {
    let hub = node(1, 1 << 30);
    let plan = hub.locate("held", None, Start::Live, 0);
    for number in 0..2 * CHANNELS_UNUSED_MAX + 10 {
        hub.locate(&number.to_string(), None, Start::Live, 0);
    }
    assert!(hub.channels.read().len() <= CHANNELS_UNUSED_MAX + 1);
    assert!(Arc::ptr_eq(&plan.channel, &hub.channel("held", 0)));
}

#[test]
fn a_held_channel_is_not_forgotten() {
    let hub = node(1, 1 << 20);
    let plan = hub.locate("c", None, Start::Live, 0);
    hub.sweep(CHANNEL_IDLE_MS * 3);
    put(&hub, 0, 0, "c", CHANNEL_IDLE_MS * 3);
    assert_eq!(plan.channel.end(), 1, "the plan's channel is the one that was appended to");
}

#[test]
fn a_sweep_takes_so_many_messages_and_says_that_more_are_due() {
    let hub = node(1, 64 << 20);
    let count = 2 * MESSAGES_SWEPT + 10;
    let records = (0..count as i64).map(|offset| (record(0, offset, "c", "v", &[]), Routing::Rules));
    hub.ingest(records, 0);
    let held = || hub.occupancy("c").map_or(0, |count| count.messages);
    for left in [count - MESSAGES_SWEPT, count - 2 * MESSAGES_SWEPT] {
        assert!(hub.sweep(HISTORY_MS + 1));
        assert_eq!(held(), left);
    }
    assert!(!hub.sweep(HISTORY_MS + 1));
    assert_eq!((held(), counter(&hub, "messages_expired")), (0, count as u64));
}

#[test]
fn a_sweep_looks_at_so_many_channels_and_all_have_their_turn() {
    let hub = node(1, 64 << 20);
    let count = 3 * CHANNELS_REVIEWED + 10;
    for number in 0..count {
        hub.locate(&number.to_string(), None, Start::Live, 0);
    }
    let held = hub.locate("held", None, Start::Live, 0);
    let channels = || hub.channels.read().len();
    let mut sweeps = 0;
    while channels() > 1 {
        let before = channels();
        hub.sweep(CHANNEL_IDLE_MS + HISTORY_MS + 1);
        assert!(before - channels() <= CHANNELS_REVIEWED);
        sweeps += 1;
        assert!(sweeps < 20, "all have their turn");
    }
    assert!(Arc::ptr_eq(&held.channel, &hub.channel("held", 0)));
}

#[test]
fn a_batch_tells_of_each_channel_once() {
    let hub = node(1, 1 << 20);
    let inbox = hub.connect(Box::new(|| ()));
    for name in ["a", "b"] {
        hub.channel(name, 0).watch(inbox.bit());
    }
    let records =
        (0..10).map(|offset| (record(0, offset, ["a", "b", "c"][offset as usize % 3], "v", &[]), Routing::Rules));
    hub.ingest(records, 0);
    let mut told: Vec<_> = inbox.take().iter().map(|channel| channel.name.to_string()).collect();
    told.sort();
    assert_eq!(told, ["a", "b"]);
    assert_eq!(hub.intake.lock().work.age.len(), 3, "one place in the queue by age for each");
}
