//! A record that goes to several channels is held once, and what all of them hold of it is counted to the byte.

use super::*;
use crate::change::bytes_of;
use crate::channel::Located;
use crate::limits::{BATCH_OVERHEAD, CHANNELS_PER_RECORD_MAX, MESSAGE_OVERHEAD, PLACE_OVERHEAD};
use crate::message::serial;
use crate::record::Header;
use crate::route::Spec;

const NAMES: [&str; 3] = ["a", "b", "c"];
const VALUE: &[u8] = &[b'x'; 1_000];

/// A node on which a record of topic `t` goes to the channels that its header names.
fn node(snapshot: bool) -> Hub {
    let hub = Hub::new(Settings { key: [3; 16], history_ms: 1000, history_bytes: 64 << 20 });
    hub.set_rules(Rules::new([Spec { snapshot, ..("t", "#{header.to[]}").into() }]).unwrap());
    hub.assign("t", [1; 16], 0, 0).unwrap();
    hub
}

fn put(hub: &Hub, offset: i64, names: &[&str]) {
    let (key, to) = (format!("k{offset}"), names.join(","));
    let headers = &[Header { name: "to", value: Some(to.as_bytes()) }];
    let (key, value) = (Some(key.as_bytes()), Some(VALUE));
    let record = Record { topic: "t", partition: 0, offset, epoch: 0, timestamp: 0, key, value, headers };
    hub.ingest([(record, Routing::Rules)].into_iter(), 0);
}

fn memory(hub: &Hub) -> usize {
    hub.gauges()[1].1 as usize
}

/// Makes a frame of a channel's entries. The memory that the frame itself takes.
fn look(hub: &Hub, name: &str, wire: Wire, conflates: Option<u64>) -> usize {
    let ask = Ask { conflates, ..ask(wire, 0) };
    match hub.channel(name, 0).frame(&ask, &hub.context()) {
        Given::Frame(frame) => frame.size(),
        other => panic!("{other:?}"),
    }
}

/// What a channel's ring says it gives back.
fn give_up(hub: &Hub, name: &str) -> usize {
    hub.channel(name, 0).drop_below(u64::MAX, usize::MAX).bytes
}

/// A node whose channels are there already, and what its memory holds.
fn begun(snapshot: bool) -> (Hub, usize) {
    let hub = node(snapshot);
    for name in NAMES {
        hub.channel(name, 0);
    }
    let before = memory(&hub);
    (hub, before)
}

#[test]
fn each_channel_but_the_first_pays_for_its_place_alone() {
    let hub = node(false);
    let names: Vec<String> = (0..CHANNELS_PER_RECORD_MAX).map(|number| format!("channel-{number}")).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    for name in &names {
        hub.channel(name, 0);
    }
    let before = memory(&hub);
    put(&hub, 0, &names);
    let others = names.len() - 1;
    let held = MESSAGE_OVERHEAD + VALUE.len() + others * PLACE_OVERHEAD + names.len() * BATCH_OVERHEAD;
    assert_eq!(memory(&hub) - before, held);
    for name in names {
        let (entries, bytes) = hub.channel(name, 0).held();
        assert_eq!((entries, bytes), (1, MESSAGE_OVERHEAD + VALUE.len()), "a channel's share is reckoned in full");
    }
}

#[test]
fn it_is_encoded_once_for_all_of_them() {
    let (hub, _) = begun(false);
    put(&hub, 0, &NAMES);
    let before = memory(&hub);
    let first = look(&hub, "a", Wire::Json, None);
    let with_encoding = memory(&hub) - before - first;
    assert!(with_encoding > 0);
    let second = look(&hub, "b", Wire::Json, None);
    assert_eq!(memory(&hub) - before, with_encoding + first + second);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whichever_channel_gives_it_up_last_gives_back_all_of_it(
        order in Just(NAMES.to_vec()).prop_shuffle(),
        looks in prop::collection::vec((0..3usize, 0..3usize, prop::bool::ANY), 0..6),
    ) {
        let (hub, _) = begun(false);
        put(&hub, 0, &NAMES);
        put(&hub, 1, &NAMES[..2]);
        put(&hub, 2, &["c"]);
        let held = memory(&hub) - 6 * BATCH_OVERHEAD - begun(false).1;
        let mut made = memory(&hub);
        let mut freed = 0;
        for (index, name) in order.iter().enumerate() {
            // What was given up already is looked at no more; what is looked at now may be for the first time.
            for (_, at, packed) in looks.iter().filter(|(when, at, _)| *when == index && order[index..].contains(&NAMES[*at])) {
                look(&hub, NAMES[*at], if *packed { Wire::Msgpack } else { Wire::Json }, None);
            }
            freed += give_up(&hub, name);
        }
        made = memory(&hub) - made;
        prop_assert_eq!(freed, held + made);
    }
}

#[test]
fn what_one_channel_keeps_longer_than_its_ring_is_given_back_by_no_other() {
    let (hub, before) = begun(true);
    put(&hub, 0, &NAMES);
    let keys = hub.gauges()[3].1 as usize;
    let held = memory(&hub) - 3 * BATCH_OVERHEAD - keys - before;
    let mut freed = give_up(&hub, "a");
    let begun = memory(&hub);
    look(&hub, "a", Wire::Json, Some(0));
    assert!(memory(&hub) > begun, "the frame is counted");
    freed += give_up(&hub, "b") + give_up(&hub, "c");
    assert_eq!(freed, held, "the newest of its key is still there for a");
    let newest = Located { conflates: Some(0), ..Located::default() };
    let (taken, _) = hub.channel("a", 0).take(&newest, 1, hub.key(), hub.partitions()).unwrap();
    assert_eq!(taken[0].message.encoded(Wire::Json).1, 0, "it keeps the encoding that was made of it");
}

#[test]
fn what_is_changed_in_one_channel_is_as_it_was_in_the_others() {
    let (hub, _) = begun(false);
    put(&hub, 0, &NAMES);
    let serial = serial("t", 0, 0);
    let texts = [("to", "a"), ("fanout.type", "text"), ("fanout.action", "update"), ("fanout.serial", &serial)];
    let headers = &texts.map(|(name, text)| Header { name, value: Some(text.as_bytes()) });
    let (key, value) = (Some(&b"k1"[..]), Some(&b"new"[..]));
    let record = Record { topic: "t", partition: 0, offset: 1, epoch: 0, timestamp: 0, key, value, headers };
    hub.ingest([(record, Routing::Rules)].into_iter(), 0);
    let sizes = NAMES.map(|name| {
        let known = hub.channel(name, 0).known(&serial).and_then(|known| known.message).unwrap();
        bytes_of(&known.data().0).1.len()
    });
    assert_eq!(sizes, [3, VALUE.len(), VALUE.len()]);
}
