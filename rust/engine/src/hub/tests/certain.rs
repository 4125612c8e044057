//! Topics whose keys lie where murmur2 puts them: a channel's position speaks of its own partition alone.

use super::*;
use crate::placing::Affixes;
use crate::placing::Placing;
use crate::route::Spec;

const COUNT: u32 = 6;

/// A node with a topic of so many partitions that says where keys lie, and one that does not.
fn certain(count: u32) -> Hub {
    let hub = Hub::new(Settings { key: [3; 16], history_ms: HISTORY_MS, history_bytes: 1 << 20 });
    let placed = Spec { is_placed: true, ..("t", "#{key}").into() };
    hub.set_rules(Rules::new([placed, ("u", "u:#{key}").into()]).unwrap());
    grow(&hub, 0, count);
    hub
}

/// The topic gets more partitions, all of which are read.
fn grow(hub: &Hub, before: u32, count: u32) {
    hub.topic("t", [1; 16], count).unwrap();
    for number in before..count {
        hub.assign("t", [1; 16], number as i32, 0).unwrap();
    }
}

/// Where a key lies.
fn of(key: &str, count: u32) -> i32 {
    let mut placing = Placing::new([0; 8], Affixes::default());
    placing.learn(count);
    placing.partitions(key)[0]
}

/// The first of many keys that is so.
fn key(is_so: impl Fn(&str) -> bool) -> String {
    (0..10_000).map(|number| format!("k{number}")).find(|key| is_so(key)).unwrap()
}

fn listed(hub: &Hub, channel: &str) -> Vec<(i32, i64)> {
    let parsed = hub.read_position(channel, &hub.position(channel, 0)).unwrap();
    let mut places: Vec<_> = parsed.entries.iter().map(|entry| (entry.partition, entry.offset)).collect();
    places.sort_unstable();
    places
}

fn resumed(hub: &Hub, channel: &str, serial: &str) -> (Outcome, Vec<i64>) {
    let plan = hub.locate(channel, Some(serial), Start::Live, 0);
    let taken = plan.channel.take(&plan.located, 100, hub.key(), &hub.partitions).unwrap().0;
    (plan.located.outcome, taken.iter().map(|taken| taken.message.offset).collect())
}

fn numbers(partitions: &[(Arc<str>, i32)]) -> Vec<i32> {
    partitions.iter().map(|(_, number)| *number).collect()
}

#[test]
fn a_position_has_one_entry_however_many_partitions_there_are() {
    let hub = certain(64);
    let lies = of("c", 64);
    put(&hub, lies, 0, "c", 0);
    assert_eq!(listed(&hub, "c"), [(lies, 1)]);
    let serial = hub.position("c", 0);
    assert!(serial.len() <= 32, "{serial}");
    put(&hub, lies, 1, "c", 0);
    put(&hub, (lies + 1) % 64, 0, &key(|key| of(key, 64) == (lies + 1) % 64), 0);
    assert_eq!(resumed(&hub, "c", &serial), (Outcome::Resumed, vec![1]));
}

#[test]
fn partitions_that_may_feed_any_channel_are_listed_beside_it() {
    let hub = certain(COUNT);
    for number in 0..2 {
        hub.assign("u", [2; 16], number, 0).unwrap();
    }
    hub.progress("u", 1, 7);
    assert_eq!(listed(&hub, "c"), [(0, 0), (1, 7), (of("c", COUNT), 0)]);
}

#[test]
fn a_topic_whose_partitions_were_never_counted_is_not_certain() {
    let hub = certain(0);
    hub.assign("t", [1; 16], 0, 0).unwrap();
    hub.assign("t", [1; 16], 1, 0).unwrap();
    put(&hub, 0, 0, "c", 0);
    put(&hub, 1, 0, "c", 0);
    assert_eq!((listed(&hub, "c"), offsets(&hub, "c")), (vec![(0, 1), (1, 1)], vec![0, 0]));
}

#[test]
fn a_channel_that_nothing_feeds_has_a_position_all_the_same() {
    let hub = Hub::new(Settings { key: [3; 16], history_ms: HISTORY_MS, history_bytes: 1 << 20 });
    hub.set_rules(Rules::new([Spec { is_placed: true, ..("t", "t:#{key}").into() }]).unwrap());
    grow(&hub, 0, COUNT);
    let serial = hub.position("other", 0);
    assert_eq!(listed(&hub, "other"), []);
    assert_eq!(resumed(&hub, "other", &serial), (Outcome::Resumed, vec![]));
    assert_eq!(resumed(&hub, "other", "nonsense").0, Outcome::Foreign);
}

#[test]
fn a_record_in_another_partition_fails_and_is_nobodys() {
    let hub = certain(COUNT);
    let wrong = (of("c", COUNT) + 1) % COUNT as i32;
    put(&hub, wrong, 0, "c", 0);
    assert_eq!((offsets(&hub, "c"), counter(&hub, "failed_misplaced")), (vec![], 1));
    let [failed] = &hub.failures()[..] else { panic!("one") };
    assert_eq!(failed.failure.cause.name(), "misplaced");
    assert!(failed.failure.reason.starts_with(&format!("it lies in partition {wrong}, and murmur2")), "{failed:?}");
    let back = [(record(wrong, 0, "c", "v", &[]), Routing::Rules)];
    assert!(hub.decode("c", back.into_iter())[0].is_none(), "nor when it is read back");
}

#[test]
fn a_position_of_all_partitions_is_good_for_a_rule_that_has_become_certain() {
    let (before, after) = (node(COUNT as i32, 1 << 20), certain(COUNT));
    let lies = of("c", COUNT);
    for hub in [&before, &after] {
        put(hub, lies, 0, "c", 0);
    }
    let serial = before.position("c", 0);
    for hub in [&before, &after] {
        put(hub, lies, 1, "c", 0);
    }
    assert_eq!(resumed(&after, "c", &serial), (Outcome::Resumed, vec![1]));
}

#[test]
fn where_a_channel_lies_is_known_of_partitions_that_are_not_read() {
    let hub = certain(0);
    assert!(hub.partitions.certain("c").is_empty());
    hub.topic("t", [1; 16], COUNT).unwrap();
    assert_eq!(numbers(&hub.partitions.certain("c")), [of("c", COUNT)]);
}

#[test]
fn the_place_of_everything_is_a_place_of_every_channel() {
    let hub = certain(2);
    put(&hub, 0, 0, &key(|key| of(key, 2) == 0), 0);
    put(&hub, 1, 0, &key(|key| of(key, 2) == 1), 0);
    let mut everywhere = hub.places("", None).unwrap();
    assert_eq!(everywhere.iter().map(|place| place.offset).collect::<Vec<_>>(), [1, 1]);
    let all = hub.print_places("", &mut everywhere);
    assert_eq!(hub.places("", Some(&all)).unwrap().len(), 2);
    let serial = hub.print_places("c", &mut everywhere);
    put(&hub, of("c", 2), 1, "c", 0);
    assert_eq!(resumed(&hub, "c", &serial), (Outcome::Resumed, vec![1]));
    assert_eq!(hub.read_position("c", &serial).unwrap().entries.len(), 1);
}

#[test]
fn what_channels_in_use_need_is_known() {
    let hub = certain(COUNT);
    hub.channel("looked at", 0);
    assert!(hub.needed().is_empty());
    hub.channel("c", 0).attached(Kinds::ALL);
    assert_eq!(numbers(&hub.needed()), [of("c", COUNT)]);
    hub.channel("c", 0).detached(Kinds::ALL);
    hub.channel("d", 0).watch(LOCAL_BIT);
    assert_eq!(numbers(&hub.needed()), [of("d", COUNT)]);
}

/// A partition that is read no more, and again later.
mod let_go {
    use super::*;
    use crate::limits::{BLOCK_RECORDS, PARTITIONS_MAX};
    use crate::record::Header;

    const PUBLISHED: [Header<'_>; 2] =
        [Header { name: "fanout.type", value: Some(b"text") }, Header { name: "fanout.id", value: Some(b"x:0:0") }];

    fn publish(hub: &Hub, offset: i64) {
        let repeated = record(of("c", COUNT), offset, "c", "v", &PUBLISHED);
        hub.ingest([(repeated, Routing::Rules)].into_iter(), 0);
    }

    fn begin_again(hub: &Hub, start: i64) {
        let lies = of("c", COUNT);
        hub.let_go("t", lies);
        hub.assign("t", [1; 16], lies, start).unwrap();
    }

    fn fill(hub: &Hub, offsets: std::ops::Range<i64>) {
        offsets.for_each(|offset| put(hub, of("c", COUNT), offset, "c", 0));
    }

    #[test]
    fn stands_where_it_was_read_up_to() {
        let hub = certain(COUNT);
        fill(&hub, 0..3);
        let serial = hub.position("c", 0);
        hub.let_go("t", of("c", COUNT));
        assert_eq!(hub.position("c", 0), serial);
        assert_eq!(listed(&hub, "c"), [(of("c", COUNT), 3)]);
    }

    #[test]
    fn what_came_meanwhile_is_missing_in_memory_and_a_position_before_it_is_not_passed_over() {
        let hub = certain(COUNT);
        fill(&hub, 0..3);
        let serial = hub.position("c", 0);
        begin_again(&hub, 10);
        fill(&hub, 10..12);
        assert_eq!(offsets(&hub, "c"), [10, 11]);
        assert_eq!(resumed(&hub, "c", &serial).0, Outcome::Gap, "of memory: the log has it");
        let serial = hub.position("c", 0);
        fill(&hub, 12..13);
        assert_eq!(resumed(&hub, "c", &serial), (Outcome::Resumed, vec![12]));
    }

    #[test]
    fn what_is_read_a_second_time_is_had_once_and_is_no_repeat_of_itself() {
        let hub = certain(COUNT);
        fill(&hub, 0..3);
        publish(&hub, 3);
        let serial = hub.position("c", 0);
        begin_again(&hub, 2);
        fill(&hub, 2..3);
        publish(&hub, 3);
        publish(&hub, 4);
        fill(&hub, 5..6);
        assert_eq!((offsets(&hub, "c"), counter(&hub, "duplicates")), (vec![2, 3, 5], 1));
        assert_eq!(resumed(&hub, "c", &serial), (Outcome::Resumed, vec![5]));
        assert_eq!(listed(&hub, "c"), [(of("c", COUNT), 6)]);
    }

    #[test]
    fn the_id_of_a_record_that_was_cut_off_meanwhile_counts_as_new() {
        let hub = certain(COUNT);
        publish(&hub, 3);
        begin_again(&hub, 2);
        assert_eq!(hub.find("c", "x:0:0", 3), None);
        publish(&hub, 2);
        assert_eq!(offsets(&hub, "c"), [2]);
    }

    #[test]
    fn where_the_log_was_cut_meanwhile_a_place_before_that_is_not_vouched_for() {
        let hub = certain(COUNT);
        fill(&hub, 0..5);
        let early = hub.position("c", 0);
        fill(&hub, 5..8);
        let late = hub.position("c", 0);
        begin_again(&hub, 6);
        let newer = Record { epoch: 1, ..record(of("c", COUNT), 6, "c", "v", &[]) };
        hub.ingest([(newer, Routing::Rules)].into_iter(), 0);
        assert_eq!(resumed(&hub, "c", &late).0, Outcome::Gap);
        assert_eq!(hub.places("c", Some(&late)).unwrap()[0].offset, 6, "others have its offset");
        assert_eq!(hub.doubts("c", &early).len(), 1, "it may have been cut below: the log is asked");
    }

    #[test]
    fn nobody_else_notices_and_who_is_attached_all_the_same_is_told() {
        let hub = certain(COUNT);
        let other = key(|key| of(key, COUNT) != of("c", COUNT));
        fill(&hub, 0..1);
        put(&hub, of(&other, COUNT), 0, &other, 0);
        let [own, others] = ["c", &other].map(|name| hub.locate(name, None, Start::Live, 0));
        begin_again(&hub, 1);
        let take = |plan: &Plan| plan.channel.take(&plan.located, 100, hub.key(), &hub.partitions);
        assert!(take(&own).is_none());
        assert!(take(&others).is_some());
        assert_eq!(offsets(&hub, &other), [0]);
        assert_eq!((counter(&hub, "messages_interrupted"), counter(&hub, "messages_expired")), (0, 1));
    }

    #[test]
    fn the_table_of_partitions_does_not_grow() {
        let hub = certain(COUNT);
        let before = hub.partitions.list().len();
        for start in 0..2 * PARTITIONS_MAX as i64 {
            begin_again(&hub, start);
        }
        assert_eq!(hub.partitions.list().len(), before);
    }

    #[test]
    fn what_was_not_read_may_hold_any_channel() {
        let block = BLOCK_RECORDS as i64;
        let hub = certain(COUNT);
        fill(&hub, 0..block + 9);
        begin_again(&hub, 3 * block);
        fill(&hub, 3 * block..4 * block);
        let partition = hub.partitions.find("t", of("c", COUNT)).unwrap();
        assert_eq!(hub.blocks("never", &partition, 0, 4 * block), [(0, 3 * block)]);
        begin_again(&hub, 3 * block);
        assert_eq!(hub.index_bytes(), 0);
    }

    #[test]
    fn a_position_of_a_topic_that_was_made_anew_meanwhile_is_foreign() {
        let hub = certain(COUNT);
        fill(&hub, 0..3);
        let serial = hub.position("c", 0);
        hub.let_go("t", of("c", COUNT));
        hub.topic("t", [9; 16], COUNT).unwrap();
        for number in (0..COUNT as i32).filter(|&number| number != of("c", COUNT)) {
            hub.assign("t", [9; 16], number, 0).unwrap();
        }
        assert_eq!(resumed(&hub, "c", &serial).0, Outcome::Foreign);
        hub.assign("t", [9; 16], of("c", COUNT), 0).unwrap();
        assert_eq!((resumed(&hub, "c", &serial).0, offsets(&hub, "c")), (Outcome::Foreign, vec![]));
    }
}

/// A key that lies elsewhere once there are more partitions.
mod growth {
    use super::*;

    const MORE: u32 = 9;

    /// One that moves to an added partition, and one that moves to another that there was.
    fn moved() -> [String; 2] {
        let moves = |key: &str| of(key, COUNT) != of(key, MORE);
        let is_added = |key: &str| of(key, MORE) >= COUNT as i32;
        [key(|key| moves(key) && is_added(key)), key(|key| moves(key) && !is_added(key))]
    }

    #[test]
    fn is_read_in_both_places_and_a_position_from_before_has_all_that_came_since() {
        for key in moved() {
            let hub = certain(COUNT);
            let (old, new) = (of(&key, COUNT), of(&key, MORE));
            put(&hub, old, 0, &key, 0);
            let serial = hub.position(&key, 0);
            grow(&hub, COUNT, MORE);
            put(&hub, new, 5, &key, 0);
            put(&hub, old, 1, &key, 0); // of a producer that has not heard of it
            assert_eq!(resumed(&hub, &key, &serial), (Outcome::Resumed, vec![5, 1]));
            let mut both = [(old, 2), (new, 6)];
            both.sort_unstable();
            assert_eq!(listed(&hub, &key), both);
        }
    }

    #[test]
    fn a_position_of_a_node_that_has_heard_of_it_waits_for_the_others() {
        let [added, _] = moved();
        let (knows, does_not) = (certain(COUNT), certain(COUNT));
        grow(&knows, COUNT, MORE);
        let serial = knows.position(&added, 0);
        assert_eq!(resumed(&does_not, &added, &serial).0, Outcome::Ahead);
        grow(&does_not, COUNT, MORE);
        assert_eq!(resumed(&does_not, &added, &serial).0, Outcome::Resumed);
    }

    #[test]
    fn a_position_in_a_partition_that_is_not_known_to_be_the_keys_is_not_passed_over() {
        let [_, stays] = moved();
        let (knows, late) = (certain(COUNT), certain(MORE));
        put(&knows, of(&stays, COUNT), 0, &stays, 0);
        let serial = knows.position(&stays, 0);
        assert_eq!(resumed(&late, &stays, &serial).0, Outcome::Ahead);
        late.topic("t", [1; 16], COUNT).unwrap();
        put(&late, of(&stays, COUNT), 0, &stays, 0);
        assert_eq!(resumed(&late, &stays, &serial).0, Outcome::Resumed);
    }

    #[test]
    fn what_was_passed_over_before_it_was_heard_of_is_a_loss_that_is_told() {
        let [_, stays] = moved();
        let hub = certain(COUNT);
        let (old, new) = (of(&stays, COUNT), of(&stays, MORE));
        put(&hub, old, 0, &stays, 0);
        let serial = hub.position(&stays, 0);
        let plan = hub.locate(&stays, Some(&serial), Start::Live, 0);
        put(&hub, new, 0, &stays, 0);
        assert_eq!(counter(&hub, "failed_misplaced"), 1);
        grow(&hub, COUNT, MORE);
        let taken = plan.channel.take(&plan.located, 100, hub.key(), &hub.partitions);
        assert!(taken.is_none(), "who is attached is told");
        assert_eq!(resumed(&hub, &stays, &serial).0, Outcome::Gap, "of memory: the log has it");
        let places = hub.places(&stays, Some(&serial)).unwrap();
        let mut places: Vec<_> = places.iter().map(|place| (place.partition.number, place.offset)).collect();
        places.sort_unstable();
        let mut expected = [(old, 1), (new, 0)];
        expected.sort_unstable();
        assert_eq!(places, expected);
        let back = [(record(new, 0, &stays, "v", &[]), Routing::Rules)];
        assert!(hub.decode(&stays, back.into_iter())[0].is_some());
    }

    #[test]
    fn nothing_is_lost_where_nothing_was_passed_over() {
        let [_, stays] = moved();
        let hub = certain(COUNT);
        put(&hub, of(&stays, COUNT), 0, &stays, 0);
        let before = hub.partitions.list().len();
        hub.topic("t", [1; 16], MORE).unwrap();
        assert_eq!(hub.partitions.list().len(), before);
        assert_eq!(offsets(&hub, &stays), [0]);
    }

    #[test]
    fn a_topic_made_anew_is_counted_anew() {
        let [added, _] = moved();
        let hub = certain(COUNT);
        hub.topic("t", [9; 16], MORE).unwrap();
        for number in 0..MORE as i32 {
            hub.assign("t", [9; 16], number, 0).unwrap();
        }
        assert_eq!(listed(&hub, &added), [(of(&added, MORE), 0)]);
    }
}
