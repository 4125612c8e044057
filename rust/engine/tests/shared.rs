//! Channels that hold one message and are read by several threads at once make its bytes once, and count them once.

use std::sync::Barrier;
use std::thread;

use fanout_engine::channel::{Ask, Given};
use fanout_engine::hub::{Hub, Routing, Settings};
use fanout_engine::record::Record;
use fanout_engine::wire::Wire;

const NAMES: [&str; 3] = ["a", "b", "c"];
const RECORDS: i64 = 2_000;

/// A node that has read so many records, all of them to all channels.
fn node() -> Hub {
    let hub = Hub::new(Settings { key: [3; 16], history_ms: 1_000, history_bytes: 1 << 30 });
    hub.assign("t", [1; 16], 0, 0).unwrap();
    let records = (0..RECORDS).map(|offset| {
        let (topic, partition, epoch, timestamp) = ("t", 0, -1, 0);
        let (key, value, headers) = (None, Some(&[b'x'; 20][..]), &[][..]);
        let record = Record { topic, partition, offset, epoch, timestamp, key, value, headers };
        (record, Routing::Given(&NAMES))
    });
    assert_eq!(hub.ingest(records, 0), 0);
    hub
}

fn memory(hub: &Hub) -> usize {
    hub.gauges().iter().find(|(name, _)| *name == "history_bytes").unwrap().1 as usize
}

/// Makes frames of all that a channel holds; the memory that they take.
fn look(hub: &Hub, name: &str) -> usize {
    let (channel, mut ask, mut bytes) = (hub.channel(name, 0), Ask::plain(Wire::Json, 0), 0);
    while let Given::Frame(frame) = channel.frame(&ask, &hub.context()) {
        bytes += frame.bytes.len();
        ask.from = frame.to;
    }
    assert_eq!(ask.from, RECORDS as u64);
    bytes
}

#[test]
fn channels_that_are_read_at_once_count_a_message_once() {
    let hub = node();
    let before = memory(&hub);
    look(&hub, NAMES[0]);
    let alone = memory(&hub) - before;
    for _ in 0..20 {
        let hub = node();
        let (before, all_begin) = (memory(&hub), Barrier::new(NAMES.len()));
        let looks = |name| {
            all_begin.wait();
            look(&hub, name)
        };
        let frames: Vec<usize> = thread::scope(|scope| {
            let begun = NAMES.map(|name| scope.spawn(move || looks(name)));
            begun.into_iter().map(|look| look.join().unwrap()).collect()
        });
        assert_eq!(memory(&hub) - before, alone + frames[1] + frames[2]);
    }
}
