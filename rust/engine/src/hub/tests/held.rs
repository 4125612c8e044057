//! Memory as the newest part of the log: what it gives behind some places, and where it begins.

use super::*;

fn query(forwards: bool, limit: usize) -> HeldQuery {
    HeldQuery { start_ms: 0, end_ms: i64::MAX, forwards, limit, limit_bytes: usize::MAX }
}

fn at(hub: &Hub, offsets: &[i64]) -> Vec<Place> {
    let places = hub.places("c", None).unwrap().into_iter().zip(offsets);
    places.map(|(place, &offset)| Place { offset, ..place }).collect()
}

fn given(held: &Held) -> Vec<i64> {
    held.messages.iter().map(|message| message.offset).collect()
}

#[test]
fn a_page_ends_where_its_bytes_do_and_has_one_message_at_least() {
    let hub = node(1, 1 << 20);
    for offset in 0..6 {
        put(&hub, 0, offset, "c", 0);
    }
    let size = hub.channel("c", 0).entries(Kind::Message)[0].size();
    for forwards in [true, false] {
        for (limit_bytes, expected) in [(0, 1), (size, 1), (3 * size, 3), (6 * size, 6)] {
            let place = if forwards { 0 } else { 6 };
            let held = hub.held("c", &at(&hub, &[place]), &HeldQuery { limit_bytes, ..query(forwards, 100) });
            assert_eq!((held.messages.len(), held.more), (expected, expected < 6));
            let next = if forwards { expected as i64 } else { 6 - expected as i64 };
            assert_eq!(held.next, [next.max(if forwards { 0 } else { held.floors[0] })]);
        }
    }
}

#[test]
fn goes_on_from_where_it_ended_in_both_directions() {
    let hub = node(1, 1 << 20);
    (0..25).for_each(|offset| put(&hub, 0, offset, if offset % 2 == 0 { "c" } else { "d" }, 0));
    for (forwards, start) in [(true, 0), (false, 25)] {
        let (mut next, mut seen) = (vec![start], Vec::new());
        loop {
            let held = hub.held("c", &at(&hub, &next), &query(forwards, 5));
            seen.extend(given(&held));
            next.clone_from(&held.next);
            if !held.more {
                break;
            }
        }
        let mut expected: Vec<i64> = (0..25).step_by(2).collect();
        if !forwards {
            expected.reverse();
        }
        assert_eq!(seen, expected);
        assert_eq!(next, [if forwards { 25 } else { 0 }]);
    }
}

#[test]
fn begins_where_the_log_ends_for_it() {
    let hub = node(2, 1 << 20);
    (0..10).for_each(|offset| put(&hub, 0, offset, "c", offset * 100));
    put(&hub, 1, 7, "c", 900);
    hub.sweep(HISTORY_MS + 301);
    let held = hub.held("c", &at(&hub, &[10, 8]), &query(false, 100));
    assert_eq!(given(&held), [7, 9, 8, 7, 6, 5, 4]);
    assert_eq!((held.floors, held.next), (vec![4, 0], vec![4, 0]));
    let below = hub.held("c", &at(&hub, &[3, 0]), &query(true, 100));
    assert_eq!((given(&below), below.next), (vec![], vec![3, 0]), "the log comes first");
    let above = hub.held("c", &at(&hub, &[4, 0]), &query(true, 100));
    assert_eq!((given(&above), above.next), (vec![4, 5, 6, 7, 8, 9, 7], vec![10, 8]));
}

#[test]
fn knows_where_memory_begins_of_a_channel_that_it_has_forgotten() {
    let hub = node(1, 1 << 20);
    put(&hub, 0, 0, "c", 0);
    put(&hub, 0, 1, "d", 0);
    let floor = |name| hub.held(name, &at(&hub, &[2]), &query(false, 1)).floors[0];
    assert_eq!((floor("c"), floor("never")), (0, 0));
    hub.sweep(HISTORY_MS + 1);
    for _ in 0..20 {
        hub.sweep(100 * crate::limits::CHANNEL_IDLE_MS);
    }
    assert!(hub.occupancy("c").is_none());
    assert!(floor("c") >= 1, "what it held is in the log alone");
    let forwards = hub.held("c", &at(&hub, &[0]), &query(true, 1));
    assert_eq!((forwards.messages.len(), &forwards.next[..]), (0, &[0][..]));
}

#[test]
fn leaves_out_what_is_of_other_times() {
    let hub = node(1, 1 << 20);
    (0..10).for_each(|offset| put(&hub, 0, offset, "c", 0));
    let times = HeldQuery { start_ms: 3, end_ms: 5, ..query(false, 3) };
    let held = hub.held("c", &at(&hub, &[10]), &times);
    assert_eq!((given(&held), held.more, &held.next[..]), (vec![5, 4, 3], false, &[0][..]));
}

#[test]
fn places_print_as_a_position_and_come_back() {
    let hub = node(3, 1 << 20);
    let mut places = at(&hub, &[5, 0, 1 << 40]);
    let text = hub.print_places("c", &mut places);
    let back: Vec<i64> = hub.places("c", Some(&text)).unwrap().iter().map(|place| place.offset).collect();
    assert_eq!(back, [5, 0, 1 << 40]);
    assert!(hub.places("d", Some(&text)).is_none());
    assert!(hub.places("c", Some("x")).is_none());
    hub.assign("t", [2; 16], 0, 0).unwrap();
    (1..3).for_each(|number| hub.assign("t", [2; 16], number, 0).unwrap());
    assert!(hub.places("c", Some(&text)).is_none(), "a topic made anew is another");
}

#[test]
fn tells_which_partitions_it_does_not_hold_behind_a_position() {
    let hub = node(2, 1 << 20);
    (0..10).for_each(|offset| put(&hub, 0, offset, "c", offset * 100));
    put(&hub, 1, 7, "c", 900);
    hub.sweep(HISTORY_MS + 301);
    let unheld = |name: &str, offsets: &[i64]| {
        let text = hub.print_places(name, &mut at(&hub, offsets));
        hub.unheld(name, &text).map(|found| found.iter().map(|partition| partition.number).collect::<Vec<_>>())
    };
    assert_eq!(unheld("c", &[3, 0]), Some(vec![0]));
    assert_eq!(unheld("c", &[4, 0]), Some(vec![]));
    assert_eq!(unheld("never", &[0, 0]), Some(vec![]), "nothing was forgotten");
    assert_eq!(hub.unheld("c", "x").map(|found| found.len()), None);
}

#[test]
fn records_are_sorted_by_the_channels_that_they_may_be_of() {
    let hub = node(1, 1 << 20);
    let record = |offset, key: &'static [u8]| Record {
        topic: "t",
        partition: 0,
        offset,
        epoch: -1,
        timestamp: 0,
        key: Some(key),
        value: None,
        headers: &[],
    };
    let by_rule = [b"a".as_slice(), b"b", b"a", b"\xff"].map(|key| (record(0, key), Routing::Rules));
    let found = hub.channels_of(by_rule.into_iter());
    assert_eq!((found.len(), &found["a"][..], &found["b"][..]), (2, &[0, 2][..], &[1][..]));
    let many = vec!["x"; CHANNELS_PER_RECORD_MAX + 1];
    let given = [&["x", "y", "x"][..], &["y"], &many].map(|names| (record(0, b"a"), Routing::Given(names)));
    let found = hub.channels_of(given.into_iter());
    assert_eq!((found.len(), &found["x"][..], &found["y"][..]), (2, &[0][..], &[0, 1][..]));
}

#[test]
fn records_read_back_are_what_they_were_and_no_repeats() {
    let hub = node(1, 1 << 20);
    let id = [Header { name: "fanout.id", value: Some(b"a") }, Header { name: "fanout.type", value: Some(b"text") }];
    let change = [id[0], id[1], Header { name: "fanout.action", value: Some(b"update") }];
    let late = crate::limits::DEDUP_WINDOW_MS + 9;
    let records = [
        record(0, 0, "c", "one", &id),
        record(0, 1, "d", "of another channel", &[]),
        record(0, 2, "c", "again", &id),
        record(0, 3, "c", "change", &change),
        record(9, 4, "c", "of no partition", &[]),
        record(0, late, "c", "late", &id),
    ];
    let decoded = hub.decode("c", records.into_iter().map(|record| (record, Routing::Rules)));
    let offsets: Vec<_> = decoded.iter().map(|found| found.as_ref().map(|message| message.offset)).collect();
    assert_eq!(offsets, [Some(0), None, None, None, None, Some(late)]);
    let routed = [
        (record(0, 0, "k", "x", &[]), Routing::Given(&["b", "c"][..])),
        (record(0, 1, "c", "x", &[]), Routing::Given(&[])),
    ];
    assert_eq!(hub.decode("c", routed.into_iter()).iter().filter(|found| found.is_some()).count(), 1);
    assert_eq!(hub.held("c", &at(&hub, &[9]), &query(false, 9)).messages.len(), 0, "memory holds nothing of it");
}
