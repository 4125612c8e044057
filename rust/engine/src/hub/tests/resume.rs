//! Every outcome of a position.

use super::*;

fn outcome(hub: &Hub, serial: &str) -> (Outcome, usize) {
    let plan = hub.locate("c", Some(serial), Start::Live, 0);
    (plan.located.outcome, plan.located.backlog)
}

#[test]
fn continues_exactly_behind_the_position() {
    let hub = node(1, 1 << 20);
    put(&hub, 0, 0, "c", 0);
    let serial = hub.position("c", 0);
    assert_eq!(outcome(&hub, &serial), (Outcome::Resumed, 0));
    put(&hub, 0, 1, "other", 0);
    put(&hub, 0, 2, "c", 0);
    assert_eq!(outcome(&hub, &serial), (Outcome::Resumed, 1));
    assert_eq!(hub.locate("c", Some(&serial), Start::Live, 0).serial, serial, "its own, while a backlog follows");
}

#[test]
fn says_that_something_is_gone() {
    let hub = node(1, 1 << 20);
    let serial = hub.position("c", 0);
    put(&hub, 0, 0, "c", 0);
    put(&hub, 0, 1, "c", 500);
    hub.sweep(HISTORY_MS + 1);
    assert_eq!(outcome(&hub, &serial), (Outcome::Gap, 1));
}

#[test]
fn after_a_gap_the_position_leads_back_to_the_earliest_held() {
    let hub = node(1, 1 << 20);
    let serial = hub.position("c", 0);
    for (offset, now) in [(0, 0), (1, 500), (2, 500)] {
        put(&hub, 0, offset, "c", now);
    }
    hub.sweep(HISTORY_MS + 1);
    let plan = hub.locate("c", Some(&serial), Start::Live, 0);
    assert_eq!((plan.located.outcome, plan.located.backlog), (Outcome::Gap, 2));
    assert_eq!(outcome(&hub, &plan.serial), (Outcome::Resumed, 2));
}

#[test]
fn a_gap_of_another_channel_is_not_ours() {
    let hub = node(1, 1 << 20);
    let serial = hub.position("c", 0);
    put(&hub, 0, 0, "other", 0);
    hub.sweep(HISTORY_MS + 1);
    assert_eq!(outcome(&hub, &serial), (Outcome::Resumed, 0));
}

#[test]
fn a_channel_that_was_forgotten_does_not_pretend() {
    let hub = node(1, 1 << 20);
    let serial = hub.position("c", 0);
    put(&hub, 0, 0, "c", 0);
    hub.sweep(HISTORY_MS + 1);
    hub.sweep(CHANNEL_IDLE_MS + HISTORY_MS + 2);
    assert_eq!(hub.occupancy("c"), None);
    assert_eq!(outcome(&hub, &serial).0, Outcome::Gap);
}

#[test]
fn of_another_log_channel_or_secret_is_foreign() {
    let (hub, other) = (node(1, 1 << 20), node(1, 1 << 20));
    let serial = hub.position("c", 0);
    assert_eq!(outcome(&hub, &hub.position("d", 0)).0, Outcome::Foreign);
    assert_eq!(outcome(&hub, "nonsense").0, Outcome::Foreign);
    other.assign("t", [9; 16], 0, 0).unwrap();
    assert_eq!(outcome(&other, &serial).0, Outcome::Foreign, "the topic was made anew");
}

#[test]
fn a_topic_that_came_with_a_rule_is_news_since_it_is_read_for_clients() {
    let places = |hub: &Hub, serial: &str| -> Vec<i64> {
        hub.places("c", Some(serial)).unwrap().iter().map(|place| place.offset).collect()
    };
    let hub = node(1, 1 << 20);
    put(&hub, 0, 0, "c", 0);
    let serial = hub.position("c", 0);
    hub.read_since("new", [2; 16], [50].into());
    hub.assign("new", [2; 16], 0, 60).unwrap();
    hub.assign("new", [2; 16], 1, 0).unwrap(); // was added since
    assert_eq!(places(&hub, &serial), [1, 50, 0]);
    hub.assign("new", [2; 16], 0, 90).unwrap(); // behind a loss
    hub.assign("new", [3; 16], 1, 0).unwrap(); // of another topic, which takes the place of all of the first
    assert_eq!(places(&hub, &serial), [1, 0]);
    hub.read_since("new", [3; 16], [7, 8].into());
    assert_eq!(places(&hub, &serial), [1, 8]);
}

#[test]
fn a_topic_that_is_no_more_takes_what_it_had_and_nothing_else() {
    let (hub, late) = (node(1, 1 << 20), node(1, 1 << 20));
    hub.assign("gone", [2; 16], 0, 0).unwrap();
    let serial = hub.position("c", 0);
    assert_eq!(outcome(&hub, &serial), (Outcome::Resumed, 0));
    put(&late, 0, 0, "c", 0);
    assert_eq!(outcome(&late, &serial), (Outcome::Gap, 1), "somebody may have missed some of it");
    assert_eq!(outcome(&late, &late.position("c", 0)), (Outcome::Resumed, 0));
    let ahead = node(1, 1 << 20);
    ahead.assign("gone", [2; 16], 0, 0).unwrap();
    (0..2).for_each(|offset| put(&ahead, 0, offset, "c", 0));
    assert_eq!(outcome(&late, &ahead.position("c", 0)).0, Outcome::Ahead, "that is to be seen first");
}

#[test]
fn of_a_node_that_has_read_further_is_ahead_until_we_have() {
    let (hub, other) = (node(1, 1 << 20), node(1, 1 << 20));
    put(&hub, 0, 0, "c", 0);
    put(&hub, 0, 1, "c", 0);
    let serial = hub.position("c", 0);
    put(&other, 0, 0, "c", 0);
    assert_eq!(outcome(&other, &serial).0, Outcome::Ahead);
    put(&other, 0, 1, "c", 0);
    assert_eq!(outcome(&other, &serial), (Outcome::Resumed, 0));
}

#[test]
fn before_the_node_began_to_read_is_a_gap() {
    let hub = node(1, 1 << 20);
    put(&hub, 0, 0, "c", 0);
    let serial = hub.position("c", 0);
    let late = Hub::new(Settings { key: [3; 16], history_ms: HISTORY_MS, history_bytes: 1 << 20 });
    late.assign("t", [1; 16], 0, 5).unwrap();
    assert_eq!(outcome(&late, &serial).0, Outcome::Gap);
    late.progress("t", 0, 9);
    assert_eq!(outcome(&late, &late.position("c", 0)).0, Outcome::Resumed);
}

#[test]
fn rewinds_by_count_and_by_time() {
    let hub = node(1, 1 << 20);
    for offset in 0..150 {
        put(&hub, 0, offset, "c", 0);
    }
    let backlog = |count, since_ms| hub.locate("c", None, Start::Rewind { count, since_ms }, 0).located.backlog;
    assert_eq!(backlog(3, i64::MIN), 3);
    assert_eq!(backlog(usize::MAX, 140), 10);
    assert_eq!(backlog(4, 140), 4);
    assert_eq!(backlog(usize::MAX, 0), REWIND_MESSAGES_MAX_USED);
}

const REWIND_MESSAGES_MAX_USED: usize = crate::limits::REWIND_MESSAGES_MAX;
