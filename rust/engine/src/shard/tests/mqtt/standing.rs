//! MQTT: what is known of those who may come back.

use proptest::prelude::*;

use super::super::replay::Node;
use super::*;

impl World {
    /// The offsets that are acknowledged and given, of the one partition.
    fn standing(&self, window: &Window, number: u32) -> (i64, i64) {
        let followed = window.followed(Some(number)).pop().unwrap();
        let standing = self.hub.standing(&followed);
        let place = |text: &str| self.hub.places(&followed.channel.name, Some(text)).unwrap()[0].offset;
        let acknowledged = place(&standing.acknowledged);
        (acknowledged, standing.given.map_or(acknowledged, |given| place(&given)))
    }
}

#[test]
fn where_an_attachment_stands_is_known_though_the_ring_has_passed_it() {
    let mut world = World::with(1 << 20);
    let (thing, window) = world.thing(0, false);
    window.set_maximum(2);
    world.publish("c", "before");
    world.subscribe(thing, 7, "c", None, at_least_once());
    (0..4).for_each(|n| world.publish("c", &n.to_string()));
    world.turn();
    let given = world.published(thing);
    assert_eq!(world.standing(&window, 7), (1, 3));
    let value = "x".repeat(1000);
    (0..2000).for_each(|_| world.publish("c", &value));
    assert!(world.hub.channel("c", 0).base() > 10);
    assert_eq!(world.standing(&window, 7), (1, 3));
    world.acknowledge(thing, &window, given[0].id.unwrap());
    world.turn();
    assert_eq!(world.shard.take_events(), [Event::Lost(thing, 7, None)]);
    assert_eq!(world.standing(&window, 7), (2, 3));
    world.acknowledge(thing, &window, given[1].id.unwrap());
    assert_eq!(world.standing(&window, 7), (3, 3));
}

#[test]
fn what_was_given_in_a_newer_epoch_than_the_client_came_with_was_not_cut_off() {
    let mut world = World::with(1 << 20);
    let (thing, window) = world.thing(0, false);
    window.set_maximum(2);
    world.publish("c", "before");
    world.subscribe(thing, 7, "c", None, at_least_once());
    world.epoch = 1; // another leader, and nothing is lost
    (0..2).for_each(|n| world.publish("c", &n.to_string()));
    world.turn();
    let value = "x".repeat(1000);
    (0..2000).for_each(|_| world.publish("c", &value));
    for publish in world.published(thing) {
        world.acknowledge(thing, &window, publish.id.unwrap());
    }
    assert_eq!(world.standing(&window, 7), (3, 3), "the ring has passed it, and the log has all of it");
}

#[test]
fn what_another_node_may_have_given_in_an_epoch_that_this_one_has_yet_to_read_is_told_of() {
    let mut world = World::new();
    let since = world.hub.position("c", 0);
    world.publish("c", "0");
    let (thing, window) = world.thing(0, false);
    let how = Subscription { given_before: [(1, 4)].into_iter().collect(), ..at_least_once() };
    world.subscribe(thing, 1, "c", Some(&since), how);
    world.turn();
    let given = world.hub.standing(&window.followed(None)[0]).given.unwrap();
    world.epoch = 1;
    (1..4).for_each(|n| world.publish("c", &n.to_string()));
    assert_eq!(world.hub.places("c", Some(&given)).unwrap()[0].offset, 4);
}

#[test]
fn an_attachment_that_ends_is_not_told_of_and_what_it_has_under_way_still_counts() {
    let mut world = World::new();
    let (thing, window) = world.thing(0, false);
    window.set_maximum(2);
    world.subscribe(thing, 1, "c", None, at_least_once());
    world.publish("c", "0");
    world.turn();
    world.shard.detach(thing, 1, None);
    assert!(window.followed(None).is_empty());
    world.subscribe(thing, 1, "c", None, at_least_once());
    assert_eq!(world.standing(&window, 1), (1, 1), "it is another");
    (1..3).for_each(|n| world.publish("c", &n.to_string()));
    world.turn();
    assert_eq!(world.payloads(thing), ["0", "1"]);
    // Subscribed to once more, it is the same: what it has not acknowledged comes again.
    world.subscribe(thing, 1, "c", None, at_least_once());
    assert_eq!(world.standing(&window, 1), (1, 3));
}

#[test]
fn what_an_earlier_connection_was_given_is_told_of_until_all_of_it_has_come_again() {
    let mut world = World::new();
    let since = world.hub.position("c", 0);
    (0..4).for_each(|n| world.publish("c", &n.to_string()));
    let (thing, window) = world.thing(0, false);
    window.set_maximum(2);
    let how = Subscription { given_before: [(1, 3)].into_iter().collect(), ..at_least_once() };
    world.subscribe(thing, 1, "c", Some(&since), how);
    assert_eq!(world.standing(&window, 1), (0, 3));
    world.turn();
    let given = world.published(thing);
    assert_eq!(given.len(), 2);
    for publish in given {
        world.acknowledge(thing, &window, publish.id.unwrap());
    }
    let standing = world.hub.standing(&window.followed(None)[0]);
    assert_eq!((world.standing(&window, 1), standing.given.is_some()), ((2, 3), true));
    world.turn();
    for publish in world.published(thing) {
        world.acknowledge(thing, &window, publish.id.unwrap());
    }
    assert_eq!(world.hub.standing(&window.followed(None)[0]).given, None);
}

#[test]
fn once_at_most_is_told_of_where_that_was_asked_for() {
    let mut world = World::new();
    let (thing, window) = world.thing(0, false);
    world.subscribe(thing, 1, "c", None, Subscription { kept: true, ..Subscription::default() });
    world.subscribe(thing, 2, "c", None, Subscription::default());
    world.room.insert(thing, 0);
    world.turn();
    world.publish("c", "0");
    world.turn();
    world.publish("c", "1");
    world.turn();
    assert_eq!(window.followed(None).len(), 1);
    assert_eq!(
        world.standing(&window, 1),
        (1, 1),
        "what waits for the socket was given, what waits in the ring was not"
    );
}

#[test]
fn of_one_who_is_given_the_log_and_then_goes_on_live_it_is_known_in_both() {
    let mut node = Node::new();
    let begun = node.world.hub.position("c", 0);
    for value in 0..6 {
        node.put(value % 2, "c", &value.to_string(), None);
    }
    node.forget("c", 1);
    let replay = node.replay(&begun);
    let (thing, window) = node.world.thing(0, false);
    window.set_maximum(5);
    node.subscribe(thing, &replay, &begun, at_least_once());
    while node.feed(&replay, 1) {
        node.world.turn();
    }
    let given = node.world.published(thing);
    assert_eq!(given.len(), 5);
    let offsets = |node: &Node, serial: &str| {
        let places = node.world.hub.places("c", Some(serial)).unwrap();
        places.iter().map(|place| place.offset).collect::<Vec<_>>()
    };
    let standing = |node: &Node| node.world.hub.standing(&window.followed(None)[0]);
    assert_eq!(offsets(&node, &standing(&node).acknowledged), [0, 0]);
    // Acknowledged but for the first of one partition, it goes on live.
    let open = given.iter().position(|publish| publish.payload == "1").unwrap();
    for (at, publish) in given.iter().enumerate() {
        if at != open {
            node.world.acknowledge(thing, &window, publish.id.unwrap());
        }
    }
    node.finish(&replay);
    node.put(0, "c", "live", None);
    node.world.turn();
    let live = node.world.published(thing);
    assert_eq!(live.last().unwrap().payload, "live");
    for publish in live {
        node.world.acknowledge(thing, &window, publish.id.unwrap());
    }
    assert_eq!(offsets(&node, &standing(&node).acknowledged), [4, 0], "the live ring never had what is open");
    assert_eq!(offsets(&node, standing(&node).given.as_deref().unwrap()), [4, 3]);
    node.world.acknowledge(thing, &window, given[open].id.unwrap());
    assert_eq!((offsets(&node, &standing(&node).acknowledged), standing(&node).given), (vec![4, 3], None));
}

#[test]
fn what_changes_to_at_most_once_or_from_it_is_given_once() {
    let once = Subscription { kept: true, ..Subscription::default() };
    let other = Subscription { id: 7, ..once.clone() };
    for (before, after) in [(at_least_once(), once.clone()), (once.clone(), other), (once, at_least_once())] {
        let mut world = World::new();
        let (thing, window) = world.thing(0, false);
        world.publish("c", "before");
        world.subscribe(thing, 1, "c", None, before);
        let stood = world.hub.position("c", 0); // as whoever asks has read it
        world.publish("c", "meanwhile");
        world.turn();
        world.subscribe(thing, 1, "c", Some(&stood), after);
        world.publish("c", "later");
        world.turn();
        assert_eq!(world.payloads(thing), ["meanwhile", "later"]);
        assert_eq!(world.standing(&window, 1).1, 3);
    }
}

#[test]
fn of_what_nobody_knows_where_it_stands_nothing_is_left_out_when_it_changes() {
    for after in [Subscription { retain: true, ..Subscription::default() }, at_least_once()] {
        let mut world = World::new();
        let (thing, _) = world.thing(0, false);
        world.room.insert(thing, 0);
        world.subscribe(thing, 1, "c", None, Subscription::default());
        (0..5).for_each(|n| {
            world.publish("c", &n.to_string());
            world.turn();
        });
        world.subscribe(thing, 1, "c", None, after);
        world.room.remove(&thing);
        world.shard.writable(thing);
        world.turn();
        assert_eq!(world.payloads(thing), ["0", "1", "2", "3", "4"]);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(u8),
    Acknowledge(u8),
    Turn,
    Drain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            (1u8..6).prop_map(Step::Publish),
            any::<u8>().prop_map(Step::Acknowledge),
            Just(Step::Turn),
            Just(Step::Drain)
        ],
        1..60,
    )
}

proptest! {
    /// Cut at any moment, a client that comes back is given what it has not acknowledged, and nothing before that.
    #[test]
    fn who_comes_back_is_given_all_that_is_not_acknowledged(steps in steps(), maximum in 1u16..6, lives in 1usize..4) {
        let mut world = World::new();
        let mut since = world.hub.position("c", 0);
        let mut given_before = 0;
        let mut published = 0i64;
        let mut seen = Vec::new();
        let mut ids = std::collections::HashMap::new();
        for life in 0..lives {
            let (thing, window) = world.thing(life as u64, false);
            window.set_maximum(maximum);
            let before = [(1, given_before)].into_iter().collect();
            world.subscribe(thing, 1, "c", Some(&since), Subscription { given_before: before, ..at_least_once() });
            let mut open: Vec<(u16, i64)> = Vec::new();
            let mut next = None;
            for step in &steps {
                match step {
                    Step::Publish(count) => for _ in 0..*count {
                        world.publish("c", &published.to_string());
                        published += 1;
                    },
                    Step::Acknowledge(which) if !open.is_empty() => {
                        let (id, _) = open.remove(usize::from(*which) % open.len());
                        world.acknowledge(thing, &window, id);
                    }
                    Step::Acknowledge(_) => {}
                    Step::Turn | Step::Drain => {
                        if matches!(step, Step::Drain) {
                            world.room.remove(&thing);
                            world.shard.writable(thing);
                        }
                        world.turn();
                        for publish in world.published(thing) {
                            let value: i64 = publish.payload.parse().unwrap();
                            prop_assert!(next.is_none_or(|next| value == next), "in order, and none left out");
                            prop_assert!(publish.dup || value >= given_before, "a repeat is marked");
                            let id = publish.id.unwrap();
                            prop_assert_eq!(*ids.entry(value).or_insert(id), id, "it is the same when it comes again");
                            next = Some(value + 1);
                            open.push((publish.id.unwrap(), value));
                            seen.push(value);
                        }
                        prop_assert!(open.len() <= usize::from(maximum));
                    }
                }
                let first = open.iter().map(|(_, value)| *value).min();
                let (acknowledged, given) = world.standing(&window, 1);
                prop_assert_eq!(acknowledged, first.unwrap_or(if given == given_before { acknowledged } else { given }));
                let given_here = |next| given == next || (given > next && given <= published) || given == given_before;
                prop_assert!(next.is_none_or(given_here));
            }
            let followed = window.followed(None);
            let standing = world.hub.standing(&followed[0]);
            let given = world.standing(&window, 1).1;
            prop_assert!(given >= given_before, "what was given on an earlier connection counts");
            given_before = given;
            since = standing.acknowledged;
            world.shard.unregister(thing);
        }
        let (thing, window) = world.thing(99, false);
        world.subscribe(thing, 1, "c", Some(&since), at_least_once());
        loop {
            world.turn();
            let given = world.published(thing);
            if given.is_empty() {
                break;
            }
            for publish in given {
                seen.push(publish.payload.parse().unwrap());
                world.acknowledge(thing, &window, publish.id.unwrap());
            }
        }
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen, (0..published).collect::<Vec<_>>());
    }
}
