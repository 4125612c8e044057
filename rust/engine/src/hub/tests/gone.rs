//! A topic that is deleted while a node reads it.

use super::*;
use crate::route::Spec;

const COUNT: u32 = 3;

/// A node with two topics that feed the same channels.
fn two() -> Hub {
    let hub = Hub::new(Settings { key: [3; 16], history_ms: HISTORY_MS, history_bytes: 1 << 20 });
    hub.set_rules(Rules::new([("t", "#{key}"), ("u", "#{key}")]).unwrap());
    hub.assign("t", [1; 16], 0, 0).unwrap();
    hub.assign("u", [2; 16], 0, 0).unwrap();
    hub
}

fn put_in(hub: &Hub, topic: &'static str, offset: i64) {
    let one = Record { topic, ..record(0, offset, "c", "v", &[]) };
    assert_eq!(hub.ingest([(one, Routing::Rules)].into_iter(), 0), 0);
}

/// What becomes of a position, and which messages are given behind it.
fn resumed(hub: &Hub, serial: &str) -> (Outcome, Vec<(String, i64)>) {
    let plan = hub.locate("c", Some(serial), Start::Live, 0);
    let taken = plan.channel.take(&plan.located, 100, hub.key(), &hub.partitions).unwrap().0;
    let given = taken.iter().map(|taken| (taken.message.partition.topic.to_string(), taken.message.offset));
    (plan.located.outcome, given.collect())
}

#[test]
fn who_was_ahead_in_it_goes_on_in_the_others_and_is_told() {
    let (hub, further) = (two(), two());
    for hub in [&hub, &further] {
        put_in(hub, "u", 0);
    }
    put_in(&further, "t", 0);
    let serial = further.position("c", 0);
    put_in(&hub, "u", 1);
    assert_eq!(resumed(&hub, &serial).0, Outcome::Ahead);
    hub.gone("t");
    assert_eq!(resumed(&hub, &serial), (Outcome::Gap, vec![("u".into(), 1)]));
    assert_eq!(hub.places("c", Some(&serial)).unwrap().len(), 1, "the log is asked for the other alone");
    hub.gone("u");
    assert_eq!(resumed(&hub, &serial), (Outcome::Foreign, vec![]));
    assert!(hub.places("c", Some(&serial)).is_none());
}

#[test]
fn one_that_is_made_anew_with_fewer_partitions_keeps_nobody_from_the_others() {
    let (hub, further) = (two(), two());
    for hub in [&hub, &further] {
        hub.assign("t", [1; 16], 1, 0).unwrap();
        put_in(hub, "u", 0);
    }
    let one = Record { topic: "t", ..record(1, 0, "c", "v", &[]) };
    assert_eq!(further.ingest([(one, Routing::Rules)].into_iter(), 0), 0);
    let serial = further.position("c", 0);
    hub.assign("t", [9; 16], 0, 0).unwrap();
    put_in(&hub, "u", 1);
    assert_eq!(resumed(&hub, &serial), (Outcome::Gap, vec![("u".into(), 1)]));
    let serial = hub.position("c", 0);
    put_in(&hub, "u", 2);
    assert_eq!(resumed(&hub, &serial), (Outcome::Resumed, vec![("u".into(), 2)]));
}

#[test]
fn what_memory_has_of_it_is_given_to_who_lacks_it_and_to_nobody_twice() {
    let hub = two();
    put_in(&hub, "t", 0);
    put_in(&hub, "u", 0);
    let serial = hub.position("c", 0);
    put_in(&hub, "t", 1);
    put_in(&hub, "u", 1);
    hub.gone("t");
    assert_eq!(resumed(&hub, &serial), (Outcome::Gap, vec![("t".into(), 1), ("u".into(), 1)]));
}

#[test]
fn a_position_that_is_made_then_does_not_speak_of_it() {
    let hub = two();
    put_in(&hub, "t", 0);
    hub.gone("t");
    let serial = hub.position("c", 0);
    put_in(&hub, "u", 0);
    assert_eq!(resumed(&hub, &serial), (Outcome::Resumed, vec![("u".into(), 0)]));
    hub.gone("u");
    let serial = hub.position("c", 0);
    assert_eq!(resumed(&hub, &serial), (Outcome::Resumed, vec![]));
}

#[test]
fn one_that_is_made_before_all_of_it_was_given_does() {
    let hub = two();
    let plan = hub.locate("c", None, Start::Live, 0);
    (0..3).for_each(|offset| put_in(&hub, "t", offset));
    put_in(&hub, "u", 0);
    hub.gone("t");
    let mut taken = plan.channel.take(&plan.located, 100, hub.key(), &hub.partitions).unwrap().0;
    let [_, second, _, last] = &mut taken[..] else { panic!("four") };
    let left = vec![("t".into(), 2), ("u".into(), 0)];
    assert_eq!(resumed(&hub, &second.position), (Outcome::Gap, left));
    assert_eq!(resumed(&hub, &last.position), (Outcome::Resumed, vec![]));
}

#[test]
fn who_is_attached_notices_nothing_before_it_is_made_anew() {
    let hub = two();
    put_in(&hub, "t", 0);
    let plan = hub.locate("c", None, Start::Live, 0);
    let take = || plan.channel.take(&plan.located, 100, hub.key(), &hub.partitions);
    hub.gone("t");
    put_in(&hub, "u", 0);
    assert_eq!(take().unwrap().0.len(), 1);
    hub.assign("t", [9; 16], 0, 0).unwrap();
    assert!(take().is_none());
    put_in(&hub, "t", 0);
    assert_eq!(offsets(&hub, "c"), [0]);
}

#[test]
fn if_it_is_there_all_the_same_nothing_was_lost() {
    let hub = two();
    put_in(&hub, "t", 0);
    let serial = hub.position("c", 0);
    put_in(&hub, "t", 1);
    hub.gone("t");
    hub.assign("t", [1; 16], 0, 0).unwrap();
    assert_eq!(resumed(&hub, &serial), (Outcome::Resumed, vec![("t".into(), 1)]));
    put_in(&hub, "t", 1);
    put_in(&hub, "t", 2);
    assert_eq!((offsets(&hub, "c"), counter(&hub, "messages_interrupted")), (vec![0, 1, 2], 0));
}

#[test]
fn a_replay_of_it_ends() {
    let hub = two();
    put_in(&hub, "t", 0);
    let places = hub.places("c", None).unwrap();
    let replay = hub.replay("c", &places, 0);
    assert!(hub.wanted(&replay, 0).is_some());
    hub.gone("t");
    assert!(hub.wanted(&replay, 0).is_none());
}

#[test]
fn where_keys_tell_their_partitions_nobody_needs_them_until_it_is_counted_again() {
    let hub = Hub::new(Settings { key: [3; 16], history_ms: HISTORY_MS, history_bytes: 1 << 20 });
    hub.set_rules(Rules::new([Spec { is_placed: true, ..("t", "#{key}").into() }]).unwrap());
    hub.topic("t", [1; 16], COUNT).unwrap();
    for number in 0..COUNT as i32 {
        hub.assign("t", [1; 16], number, 0).unwrap();
    }
    let serial = hub.position("c", 0);
    hub.gone("t");
    assert!(hub.partitions.certain("c").is_empty());
    assert_eq!(resumed(&hub, &serial).0, Outcome::Foreign);
    hub.topic("t", [1; 16], COUNT).unwrap();
    assert_eq!(hub.partitions.certain("c").len(), 1);
    assert_eq!(resumed(&hub, &serial).0, Outcome::Resumed);
}
