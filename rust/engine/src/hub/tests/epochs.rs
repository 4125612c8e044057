//! What becomes of positions and of who is attached when the log is not what it was.

use super::*;

fn put(hub: &Hub, offset: i64, epoch: i32, key: &str) {
    let record = Record { epoch, ..record(0, offset, key, "v", &[]) };
    assert_eq!(hub.ingest([(record, Routing::Rules)].into_iter(), 0), 0);
}

fn read(hub: &Hub, records: &[(i64, i32)]) {
    for &(offset, epoch) in records {
        put(hub, offset, epoch, "c");
    }
}

/// The outcome, and the offsets that follow.
fn resumed(hub: &Hub, serial: &str) -> (Outcome, Vec<i64>) {
    let plan = hub.locate("c", Some(serial), Start::Live, 0);
    let taken = plan.channel.take(&plan.located, 100, hub.key(), &hub.partitions).unwrap().0;
    (plan.located.outcome, taken.iter().map(|taken| taken.message.offset).collect())
}

#[test]
fn after_a_log_was_cut_a_position_above_is_a_gap_from_the_cut() {
    let hub = node(1, 1 << 20);
    read(&hub, &[(0, 1), (1, 1)]);
    let below = hub.position("c", 0);
    read(&hub, &[(2, 1), (3, 1)]);
    let above = hub.position("c", 0);
    read(&hub, &[(2, 2), (3, 2), (4, 2)]);
    assert_eq!(offsets(&hub, "c"), [2, 3, 4], "what was cut off is not held any more");
    assert_eq!(resumed(&hub, &above), (Outcome::Gap, vec![2, 3, 4]));
    assert_eq!(resumed(&hub, &below), (Outcome::Resumed, vec![2, 3, 4]));
    let now = hub.position("c", 0);
    put(&hub, 5, 2, "c");
    assert_eq!(resumed(&hub, &now), (Outcome::Resumed, vec![5]));
    let places = hub.places("c", Some(&above)).unwrap();
    assert_eq!(places[0].offset, 2, "whoever reads the log goes on where it was cut");
}

#[test]
fn a_node_that_never_saw_what_was_cut_off_judges_alike() {
    let (old, new) = (node(1, 1 << 20), node(1, 1 << 20));
    read(&old, &[(0, 1), (1, 1), (2, 1), (3, 1)]);
    let above = old.position("c", 0);
    read(&new, &[(0, 1), (1, 1), (2, 2), (3, 2), (4, 2)]);
    assert_eq!(resumed(&new, &above), (Outcome::Gap, vec![2, 3, 4]));
}

#[test]
fn a_new_leader_without_a_cut_changes_nothing() {
    let (hub, late) = (node(1, 1 << 20), node(1, 1 << 20));
    read(&hub, &[(0, 1), (1, 1)]);
    let serial = hub.position("c", 0);
    read(&hub, &[(2, 4), (3, 4)]);
    read(&late, &[(0, 1), (1, 1), (2, 4), (3, 4)]);
    for node in [&hub, &late] {
        assert_eq!(resumed(node, &serial), (Outcome::Resumed, vec![2, 3]));
    }
}

#[test]
fn what_was_cut_below_the_nodes_reading_is_not_taken_for_whole() {
    let hub = node(1, 1 << 20);
    read(&hub, &[(0, 1), (1, 1), (2, 1)]);
    let serial = hub.position("c", 0);
    let late = Hub::new(hub.settings);
    late.set_rules(Rules::new([("t", "#{key}")]).unwrap());
    late.assign("t", [1; 16], 0, 3).unwrap();
    assert_eq!(resumed(&late, &serial).0, Outcome::Resumed, "nothing was read that says otherwise");
    read(&late, &[(3, 2)]);
    assert_eq!(resumed(&late, &serial).0, Outcome::Gap, "2 may be of the first epoch, or of the second");
    let doubts = |node: &Hub| node.doubts("c", &serial).iter().map(|doubt| (doubt.1, doubt.2)).collect::<Vec<_>>();
    assert_eq!((doubts(&late), doubts(&hub)), (vec![(3, 1)], vec![]));
    late.partitions.find("t", 0).unwrap().see(1, 2, 3);
    assert_eq!(resumed(&late, &serial), (Outcome::Resumed, vec![3]));
}

#[test]
fn records_that_are_read_again_are_no_cut() {
    let hub = node(1, 1 << 20);
    read(&hub, &[(0, 1), (1, 2), (2, 2)]);
    hub.assign("t", [1; 16], 0, 0).unwrap();
    read(&hub, &[(0, 1), (1, 2), (2, 2), (3, 2)]);
    assert_eq!(offsets(&hub, "c"), [0, 1, 2, 3]);
    assert_eq!(counter(&hub, "records_repeated"), 3);
}

#[test]
fn a_publish_that_was_cut_off_and_sent_again_is_no_repeat() {
    let hub = node(1, 1 << 20);
    let publish = |offset, epoch, id: &str| {
        let id = [("fanout.type", "text"), ("fanout.id", id)]
            .map(|(name, value)| Header { name, value: Some(value.as_bytes()) });
        let record = Record { epoch, ..record(0, offset, "c", "v", &id) };
        hub.ingest([(record, Routing::Rules)].into_iter(), 0);
    };
    publish(0, 1, "kept");
    publish(1, 1, "cut");
    publish(1, 2, "cut");
    assert_eq!(offsets(&hub, "c"), [1]);
    assert_eq!(hub.find("c", "cut", 0).as_deref(), Some("0000000000000001-0-t"));
    publish(2, 2, "kept");
    assert_eq!(
        (offsets(&hub, "c"), counter(&hub, "duplicates")),
        (vec![1], 1),
        "what lies below the cut is still there"
    );
    hub.assign("t", [2; 16], 0, 0).unwrap();
    assert_eq!(hub.find("c", "kept", 0), None, "of a topic made anew nothing is");
}

#[test]
fn a_replay_ends_where_what_it_has_read_was_cut_off() {
    let goes_on = |read_to: i64| {
        let hub = node(1, 1 << 20);
        read(&hub, &[(0, 1), (1, 1), (2, 1), (3, 1)]);
        let place = |offset| Place { partition: hub.partitions.find("t", 0).unwrap(), offset };
        let replay = hub.replay("c", &[place(0)], 0);
        hub.advance_replay(&replay, &place(read_to));
        put(&hub, 2, 2, "c");
        hub.wanted(&replay, 0).is_some()
    };
    assert!(goes_on(2));
    assert!(!goes_on(3));
}

type Interruption = (&'static str, fn(&Hub));

/// What makes the node read on elsewhere.
fn interruptions() -> [Interruption; 3] {
    [
        ("made anew", |hub| hub.assign("t", [2; 16], 0, 0).unwrap()),
        ("retention has passed", |hub| hub.assign("t", [1; 16], 0, 9).unwrap()),
        ("cut", |hub| put(hub, 1, 2, "other")),
    ]
}

#[test]
fn who_is_attached_is_lost_where_reading_goes_on_elsewhere() {
    for (what, happens) in interruptions() {
        let hub = node(1, 1 << 20);
        let inbox = hub.connect(Box::new(|| ()));
        read(&hub, &[(0, 1), (1, 1)]);
        let (slow, quick) = (0, 2);
        let channel = hub.channel("c", 0);
        channel.watch(inbox.bit());
        happens(&hub);
        assert_eq!(inbox.take().len(), 1, "{what}");
        for cursor in [slow, quick] {
            assert!(matches!(channel.frame(&Ask::plain(Wire::Json, cursor), &hub.context()), Given::Lost), "{what}");
        }
        let plan = hub.locate("c", None, Start::Live, 0);
        assert!(matches!(channel.frame(&Ask::plain(Wire::Json, plan.located.cursor), &hub.context()), Given::Nothing));
        let next = hub.partitions.find("t", 0).unwrap().next();
        put(&hub, next, 2, "c");
        assert_eq!(resumed(&hub, &plan.serial), (Outcome::Resumed, vec![next]), "{what}");
        assert_eq!(counter(&hub, "messages_interrupted"), 2, "{what}");
    }
}

#[test]
fn who_is_on_channels_of_other_topics_hears_nothing() {
    let lost = |routing: Routing<'_>| {
        let hub = node(0, 1 << 20);
        hub.set_rules(Rules::new([("t", "t:#{key}"), ("u", "u:#{key}")]).unwrap());
        hub.assign("t", [1; 16], 0, 0).unwrap();
        let inbox = hub.connect(Box::new(|| ()));
        for name in ["t:1", "u:1"] {
            hub.channel(name, 0).watch(inbox.bit());
        }
        hub.ingest([(record(0, 0, "2", "v", &[]), routing)].into_iter(), 0);
        hub.assign("t", [2; 16], 0, 0).unwrap();
        inbox.take().iter().map(|channel| channel.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(lost(Routing::Rules), ["t:1"]);
    assert_eq!(lost(Routing::Given(&["x"])).len(), 2, "a program's own rule may send its records anywhere");
}

/// A rule over a field of the records: any of many partitions may feed the channel, also one that never has.
#[test]
fn of_many_partitions_one_that_feeds_a_channel_for_the_first_time_while_its_client_is_away_is_not_missed() {
    const PARTITIONS: i32 = 64;
    let rules = || Rules::new([("t", "room:#{value.room}")]).unwrap();
    let (node, other) = (node(PARTITIONS, 1 << 20), node(PARTITIONS, 1 << 20));
    for hub in [&node, &other] {
        hub.set_rules(rules());
    }
    let put = |hub: &Hub, number: i32, offset: i64, room: &str| {
        let value = format!(r#"{{"room":"{room}"}}"#);
        hub.ingest([(record(number, offset, "k", &value, &[]), Routing::Rules)].into_iter(), 0);
    };
    for hub in [&node, &other] {
        (0..PARTITIONS).for_each(|number| put(hub, number, 0, "busy"));
        put(hub, 3, 1, "quiet");
    }
    let serial = node.position("room:quiet", 0);
    assert!(serial.len() < 1024, "{}", serial.len());
    for (number, offset) in [(41, 1), (3, 2), (63, 1)] {
        put(&other, number, offset, "quiet");
    }
    let plan = other.locate("room:quiet", Some(&serial), Start::Live, 0);
    let taken = plan.channel.take(&plan.located, 100, other.key(), &other.partitions).unwrap().0;
    let found: Vec<_> = taken.iter().map(|taken| (taken.message.partition.number, taken.message.offset)).collect();
    assert_eq!((plan.located.outcome, found), (Outcome::Resumed, vec![(41, 1), (3, 2), (63, 1)]));
}

#[test]
fn partitions_that_were_added_while_a_client_is_away_are_news_from_their_beginning() {
    let hub = node(2, 1 << 20);
    read(&hub, &[(0, 1), (1, 1)]);
    let serial = hub.position("c", 0);
    hub.assign("t", [1; 16], 2, 0).unwrap();
    let feed = |offset| hub.ingest([(record(2, offset, "c", "v", &[]), Routing::Rules)].into_iter(), 0);
    (0..2).for_each(|offset| assert_eq!(feed(offset), 0));
    assert_eq!(resumed(&hub, &serial), (Outcome::Resumed, vec![0, 1]));
    let late = Hub::new(hub.settings);
    late.set_rules(Rules::new([("t", "#{key}")]).unwrap());
    (0..2).for_each(|number| late.assign("t", [1; 16], number, if number == 0 { 2 } else { 0 }).unwrap());
    late.assign("t", [1; 16], 2, 1).unwrap();
    assert_eq!(resumed(&late, &serial).0, Outcome::Gap, "the log has its beginning");
}

#[test]
fn positions_from_before_are_told_what_happened() {
    let outcomes = interruptions().map(|(_, happens)| {
        let hub = node(1, 1 << 20);
        read(&hub, &[(0, 1), (1, 1), (2, 1)]);
        let serial = hub.position("c", 0);
        happens(&hub);
        resumed(&hub, &serial).0
    });
    assert_eq!(outcomes, [Outcome::Foreign, Outcome::Gap, Outcome::Gap]);
}

#[test]
fn memory_is_counted_back_where_reading_goes_on_elsewhere() {
    for (what, happens) in interruptions() {
        let hub = node(1, 1 << 20);
        read(&hub, &[(0, 1), (1, 1)]);
        let channel = hub.channel("c", 0);
        channel.frame(&Ask::plain(Wire::Json, 0), &hub.context());
        drop(channel);
        happens(&hub);
        hub.sweep(HISTORY_MS + 1);
        hub.sweep(CHANNEL_IDLE_MS + HISTORY_MS + 2);
        assert_eq!((hub.memory.load(Ordering::Relaxed), hub.channels.read().len()), (0, 0), "{what}");
    }
}
