//! What rules say of records beside their channel.

use super::*;
use crate::limits::FAILURES_MAX;
use crate::message::Field;
use crate::route::{Cause, Spec, Tombstone};

fn node_with(spec: Spec<'_>) -> Hub {
    let hub = node(1, 1 << 20);
    hub.set_rules(Rules::new([Spec { topic: "t", ..spec }]).unwrap());
    hub
}

fn failing(on_failure: OnFailure) -> Hub {
    node_with(Spec { channel: "#{value.to}", on_failure, ..Spec::default() })
}

fn deliver(hub: &Hub, offset: i64, value: Option<&str>) {
    let record = Record { value: value.map(str::as_bytes), ..record(0, offset, "k", "", &[]) };
    hub.ingest([(record, Routing::Rules)].into_iter(), 0);
}

fn next(hub: &Hub) -> i64 {
    hub.partitions().find("t", 0).unwrap().next()
}

#[test]
fn a_record_reaches_each_channel_of_its_list_once() {
    let hub = node_with(Spec { channel: "#{value.to[]}", name: Some("#{key}"), ..Spec::default() });
    deliver(&hub, 0, Some(r#"{"to":["a","b","a"]}"#));
    deliver(&hub, 1, Some(r#"{"to":[]}"#));
    assert_eq!((offsets(&hub, "a"), offsets(&hub, "b")), (vec![0], vec![0]));
    assert_eq!(counter(&hub, "records_unrouted"), 1);
    let held = hub.channel("b", 0).entries(Kind::Message);
    assert_eq!(held[0].field(Field::Name), Some("k"));
    let value = Some(&br#"{"to":["a","b"]}"#[..]);
    let read = |channel| {
        let record = Record { value, ..record(0, 0, "k", "", &[]) };
        hub.decode(channel, [(record, Routing::Rules)].into_iter())
    };
    assert_eq!(read("b")[0].as_ref().unwrap().field(Field::Name), Some("k"));
    assert!(read("c")[0].is_none());
}

#[test]
fn failing_records_are_skipped_and_counted_by_cause() {
    let hub = failing(OnFailure::Skip);
    for (offset, value) in
        [Some("no json"), Some("{}"), Some(r#"{"to":""}"#), None, Some(r#"{"to":"c"}"#)].iter().enumerate()
    {
        deliver(&hub, offset as i64, *value);
    }
    let counts = ["failed_value", "failed_field", "failed_channel"].map(|name| counter(&hub, name));
    assert_eq!((counts, offsets(&hub, "c"), next(&hub)), ([2, 1, 1], vec![4], 5));
    let told: Vec<_> = hub.failures().into_iter().map(|failed| (failed.offset, failed.failure.cause)).collect();
    assert_eq!(told, [(0, Cause::Value), (1, Cause::Field), (2, Cause::Channel)], "the first of each cause");
    assert!(!hub.has_failures());
}

#[test]
fn each_failure_is_told_where_something_is_done_about_it_and_so_many_wait() {
    let hub = failing(OnFailure::Report);
    for offset in 0..FAILURES_MAX as i64 + 3 {
        deliver(&hub, offset, Some("no json"));
    }
    let failures = hub.failures();
    assert_eq!((failures.len(), counter(&hub, "failures_untold")), (FAILURES_MAX, 3));
    let last = failures.last().unwrap();
    assert_eq!((last.rule, &*last.topic, last.partition, last.offset), (0, "t", 0, FAILURES_MAX as i64 - 1));
    assert_eq!(last.failure.reason, "its value is not JSON");
}

#[test]
fn a_rule_that_stops_leaves_the_record_and_what_is_behind_it_unread() {
    let hub = failing(OnFailure::Stop);
    deliver(&hub, 0, Some(r#"{"to":"c"}"#));
    deliver(&hub, 1, Some("no json"));
    deliver(&hub, 2, Some(r#"{"to":"c"}"#));
    hub.progress("t", 0, 9);
    assert_eq!((offsets(&hub, "c"), next(&hub)), (vec![0], 1));
    assert_eq!((counter(&hub, "failed_value"), counter(&hub, "records_held_back")), (1, 1));
    assert_eq!(hub.failures().len(), 1);
}

#[test]
fn records_without_a_value_are_what_the_rule_says() {
    for (tombstone, kept, skipped) in [(Tombstone::Message, 1, 0), (Tombstone::Skip, 0, 1), (Tombstone::Delete, 1, 0)] {
        let hub = node_with(Spec { channel: "#{key}", tombstone, ..Spec::default() });
        deliver(&hub, 0, None);
        assert_eq!((offsets(&hub, "k").len(), counter(&hub, "tombstones_skipped")), (kept, skipped));
        assert_eq!(hub.occupancy("k").map_or(0, |occupancy| occupancy.messages), kept, "they count as messages");
    }
}
