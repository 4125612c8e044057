//! MQTT: what is shared, what is each connection's own, and what is known of those who may come back.

use proptest::prelude::*;

use super::*;
use crate::limits::{OUTBOX_OWN_BYTES, PEER_SILENCE_MS};
use crate::wire::Mqtt;

const PACKET_MAX: usize = 300;

/// A PUBLISH packet of 3.1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Publish {
    dup: bool,
    retain: bool,
    /// None with QoS 0.
    id: Option<u16>,
    topic: String,
    payload: String,
}

/// Those in some bytes, which are nothing else; short ones.
fn packets(mut bytes: &[u8]) -> Vec<Publish> {
    let mut found = Vec::new();
    while let [first, rest @ ..] = bytes {
        assert_eq!(first >> 4, 3, "a packet begins where the last one ended");
        let (mut length, mut shift, mut at) = (0, 0, 0);
        loop {
            length |= usize::from(rest[at] & 0x7F) << shift;
            (shift, at) = (shift + 7, at + 1);
            if rest[at - 1] < 0x80 {
                break;
            }
        }
        let (mut packet, behind) = rest[at..].split_at(length);
        let mut number = || {
            let (number, rest) = packet.split_first_chunk().unwrap();
            packet = rest;
            u16::from_be_bytes(*number)
        };
        let topic = usize::from(number());
        let (topic, rest) = packet.split_at(topic);
        packet = rest;
        let mut id = None;
        if first & 2 != 0 {
            let (number, rest) = packet.split_first_chunk().unwrap();
            (id, packet) = (Some(u16::from_be_bytes(*number)), rest);
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (topic, payload) = (text(topic), text(packet));
        found.push(Publish { dup: first & 8 != 0, retain: first & 1 != 0, id, topic, payload });
        bytes = behind;
    }
    found
}

fn at_least_once() -> Subscription {
    Subscription { acknowledged: true, ..Subscription::default() }
}

impl World {
    /// A connection of 3.1.1, and its window.
    fn thing(&mut self, slot: u64, framed: bool) -> (Handle, Arc<Window>) {
        let handle = 1 << 32 | slot;
        let wire = Wire::Mqtt(Mqtt::new(false, framed));
        let connection_id = format!("conn{slot}").into();
        self.shard.register(NewConnection { handle, wire, connection_id, heartbeat_frames: false }, 0);
        let window = Arc::new(Window::default());
        self.shard.set_window(handle, Arc::clone(&window));
        (handle, window)
    }

    fn subscribe(&mut self, handle: Handle, number: u32, channel: &str, since: Option<&str>, how: Subscription) {
        let plan = self.hub.locate(channel, since, Start::Live, 0);
        let new = NewAttachment {
            number,
            plan,
            spelling: None,
            kinds: Kinds::MESSAGES,
            echo: true,
            delta: false,
            filter: None,
            subscription: Some(Box::new(how)),
        };
        self.shard.attach(handle, new, b""[..].into());
    }

    /// What a connection was given since the last time.
    fn published(&mut self, handle: Handle) -> Vec<Publish> {
        packets(&self.taken.remove(&handle).unwrap_or_default())
    }

    fn payloads(&mut self, handle: Handle) -> Vec<String> {
        self.published(handle).into_iter().map(|publish| publish.payload).collect()
    }

    /// Acknowledges as the loop does.
    fn acknowledge(&mut self, handle: Handle, window: &Window, id: u16) -> Acknowledged {
        let acknowledged = window.acknowledged(id);
        if acknowledged == Acknowledged::Awaited {
            self.shard.has_room(handle);
        }
        acknowledged
    }

    /// The offsets that are acknowledged and given, of the one partition.
    fn standing(&self, window: &Window, number: u32) -> (i64, i64) {
        let followed = window.followed().into_iter().find(|followed| followed.number == number).unwrap();
        let standing = self.hub.standing(&followed);
        let place = |text: &str| self.hub.places(&followed.channel.name, Some(text)).unwrap()[0].offset;
        let acknowledged = place(&standing.acknowledged);
        (acknowledged, standing.given.map_or(acknowledged, |given| place(&given)))
    }
}

#[test]
fn who_is_given_messages_once_at_most_shares_frames_with_all_others() {
    let mut world = World::new();
    let things = [world.thing(0, false).0, world.thing(1, false).0];
    for thing in things {
        world.attach(thing, 1, "c");
        world.turn();
        world.taken.clear();
    }
    (0..5).for_each(|n| world.publish("c", &n.to_string()));
    world.turn();
    assert_eq!(world.hub.stats.frames.get(), 1);
    let bytes = &world.taken[&things[0]];
    assert_eq!((bytes, &bytes[..6]), (&world.taken[&things[1]], &b"\x30\x04\x00\x01c0"[..]));
    assert_eq!(world.payloads(things[0]), ["0", "1", "2", "3", "4"]);
}

#[test]
fn over_websocket_what_is_written_at_once_is_one_binary_frame() {
    let mut world = World::new();
    for (slot, how) in [(0, Subscription::default()), (1, at_least_once())] {
        let (thing, _) = world.thing(slot, true);
        world.subscribe(thing, 1, "c", None, how);
        (0..3).for_each(|n| world.publish("c", &n.to_string()));
        world.turn();
        let bytes = world.taken[&thing].clone();
        assert_eq!(bytes[..2], [0x82, bytes.len() as u8 - 2]);
        assert_eq!(packets(&bytes[2..]).len(), 3);
        world.shard.unregister(thing);
    }
}

#[test]
fn as_many_are_under_way_as_the_client_takes_and_the_others_wait_where_they_are() {
    let mut world = World::new();
    let (thing, window) = world.thing(0, false);
    window.set_maximum(3);
    world.subscribe(thing, 1, "c", None, at_least_once());
    (0..8).for_each(|n| world.publish("c", &n.to_string()));
    world.turn();
    let given = world.published(thing);
    assert_eq!(given.iter().map(|publish| publish.id.unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(given.iter().map(|publish| &*publish.payload).collect::<Vec<_>>(), ["0", "1", "2"]);
    world.publish("c", "8");
    world.turn();
    assert!(world.published(thing).is_empty() && world.shard.outbox(thing).unwrap().is_empty());
    assert_eq!(world.acknowledge(thing, &window, 2), Acknowledged::Awaited, "in whatever order");
    assert_eq!(world.acknowledge(thing, &window, 2), Acknowledged::Unknown);
    world.turn();
    assert_eq!(world.payloads(thing), ["3"]);
    for id in [1, 3, 4] {
        world.acknowledge(thing, &window, id);
    }
    world.turn();
    assert_eq!(world.payloads(thing), ["4", "5", "6"]);
    assert_eq!(world.hub.stats.deliveries.get(), 7);
    assert_eq!(window.packet_id(), None, "for who sends beside the shard there is no room either");
}

#[test]
fn receivers_whose_windows_are_at_different_places_share_what_is_made() {
    let mut world = World::new();
    let things: Vec<_> = (0..10).map(|slot| world.thing(slot, false)).collect();
    for (at, (thing, window)) in things.iter().enumerate() {
        window.set_maximum(at + 1);
        world.subscribe(*thing, 1, "c", None, at_least_once());
    }
    (0..100).for_each(|n| world.publish("c", &n.to_string()));
    let mut seen = vec![Vec::new(); things.len()];
    while seen.iter().any(|seen| seen.len() < 100) {
        world.turn();
        for ((thing, window), seen) in things.iter().zip(&mut seen) {
            for publish in world.published(*thing) {
                world.acknowledge(*thing, window, publish.id.unwrap());
                seen.push(publish.payload);
            }
        }
    }
    let all: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    assert!(seen.iter().all(|seen| *seen == all));
    assert_eq!(world.hub.stats.frames.get(), 1);
}

#[test]
fn two_subscriptions_take_turns_within_one_window() {
    let mut world = World::new();
    let (thing, window) = world.thing(0, false);
    window.set_maximum(1);
    world.subscribe(thing, 1, "a", None, at_least_once());
    world.subscribe(thing, 2, "b", None, at_least_once());
    for channel in ["a", "b"] {
        (0..3).for_each(|_| world.publish(channel, channel));
    }
    let mut topics = Vec::new();
    for _ in 0..6 {
        world.turn();
        let [publish] = &world.published(thing)[..] else { panic!("one at a time") };
        topics.push(publish.topic.clone());
        world.acknowledge(thing, &window, publish.id.unwrap());
    }
    assert_eq!(topics, ["a", "b", "a", "b", "a", "b"]);
}

#[test]
fn an_id_that_is_under_way_is_left_out_when_its_turn_comes_again() {
    let window = Window::default();
    let kept = window.packet_id().unwrap();
    for round in 0..2 {
        for id in 2..=u16::MAX {
            assert_eq!(window.packet_id(), Some(id), "round {round}");
            assert_eq!(window.acknowledged(id), Acknowledged::Taken);
        }
    }
    assert_eq!(window.acknowledged(kept), Acknowledged::Taken);
}

#[test]
fn a_window_has_a_bound_whatever_the_client_says() {
    let window = Window::default();
    assert_eq!(std::iter::from_fn(|| window.packet_id()).count(), crate::limits::WINDOW);
    window.set_maximum(usize::MAX);
    assert_eq!(std::iter::from_fn(|| window.packet_id()).count(), crate::limits::WINDOW_MAX - crate::limits::WINDOW);
}

#[test]
fn packets_that_a_client_takes_none_as_large_as_are_left_out() {
    let mut world = World::new();
    for (slot, how) in [(0, Subscription::default()), (1, at_least_once())] {
        let before = world.hub.stats.packets_too_large.get();
        let (thing, window) = world.thing(slot, slot == 1);
        world.shard.limit_packets(thing, PACKET_MAX as u32);
        let followed = how.acknowledged;
        world.subscribe(thing, 1, "c", None, how);
        // Two bytes of length, a topic of one, an id of two if there is one.
        let largest = PACKET_MAX - 6 - if followed { 2 } else { 0 };
        let values = ["first".to_owned(), "x".repeat(largest + 1), "y".repeat(largest), "last".to_owned()];
        values.iter().for_each(|value| world.publish("c", value));
        world.turn();
        let bytes = world.taken.remove(&thing).unwrap();
        let given = packets(if slot == 1 { &bytes[4..] } else { &bytes });
        let payloads: Vec<_> = given.iter().map(|publish| &*publish.payload).collect();
        assert_eq!(payloads, [&*values[0], &*values[2], &*values[3]]);
        assert_eq!(world.hub.stats.packets_too_large.get(), before + 1);
        if followed {
            given.iter().for_each(|publish| {
                window.acknowledged(publish.id.unwrap());
            });
            assert_eq!(world.standing(&window, 1), (world.next, world.next), "nobody waits for what was left out");
        }
    }
}

#[test]
fn a_slow_reader_of_messages_of_its_own_holds_few() {
    let mut world = World::new();
    let (thing, _) = world.thing(0, false);
    world.subscribe(thing, 1, "c", None, at_least_once());
    world.room.insert(thing, 0);
    let value = "x".repeat(5_000);
    (0..60).for_each(|_| world.publish("c", &value));
    world.turn();
    let waiting = world.shard.outbox(thing).unwrap().len();
    assert!(waiting < OUTBOX_OWN_BYTES + 5_100, "{waiting}");
    world.room.remove(&thing);
    world.shard.writable(thing);
    world.turn();
    assert_eq!(world.payloads(thing).len(), 60);
}

#[test]
fn what_may_have_been_given_before_is_marked() {
    let mut world = World::new();
    let position = world.hub.position("c", 0);
    (0..5).for_each(|n| world.publish("c", &n.to_string()));
    let (thing, _) = world.thing(0, false);
    let how = Subscription { given_before: [(1, 3)].into_iter().collect(), ..at_least_once() };
    assert_eq!(world.hub.partitions().find("t", 0).unwrap().index, 1);
    world.subscribe(thing, 1, "c", Some(&position), how);
    world.turn();
    let marks: Vec<_> = world.published(thing).into_iter().map(|publish| publish.dup).collect();
    assert_eq!(marks, [true, true, true, false, false]);
}

#[test]
fn what_was_published_with_less_is_given_with_less_and_what_is_retained_is_marked_for_who_asked() {
    let mut world = World::new();
    let (plain, told) = (world.thing(0, false).0, world.thing(1, false).0);
    world.subscribe(plain, 1, "c", None, at_least_once());
    world.subscribe(told, 1, "c", None, Subscription { retain: true, ..at_least_once() });
    world.put("c", "once", &[("fanout.extras", r#"{"mqtt":{"qos":0}}"#)]);
    world.put("c", "kept", &[("fanout.extras", r#"{"mqtt":{"retain":true}}"#)]);
    world.turn();
    let seen = |given: Vec<Publish>| given.iter().map(|p| (p.id, p.retain)).collect::<Vec<_>>();
    assert_eq!(seen(world.published(plain)), [(None, false), (Some(1), false)]);
    assert_eq!(seen(world.published(told)), [(None, false), (Some(1), true)]);
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
    assert_eq!(world.standing(&window, 7), (1, 3));
    let value = "x".repeat(1000);
    (0..2000).for_each(|_| world.publish("c", &value));
    assert!(world.hub.channel("c", 0).base() > 10);
    assert_eq!(world.standing(&window, 7), (1, 3));
    world.acknowledge(thing, &window, 1);
    world.turn();
    assert_eq!(world.shard.take_events(), [Event::Lost(thing, 7)]);
    assert_eq!(world.standing(&window, 7), (2, 3));
    world.acknowledge(thing, &window, 2);
    assert_eq!(world.standing(&window, 7), (3, 3));
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
    assert!(window.followed().is_empty());
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
    assert_eq!(window.followed().len(), 1);
    assert_eq!(
        world.standing(&window, 1),
        (1, 1),
        "what waits for the socket was given, what waits in the ring was not"
    );
}

#[test]
fn nothing_is_written_to_who_is_idle_and_who_takes_nothing_is_cut_off() {
    let mut world = World::new();
    let [(quiet, _), (full, _)] = [world.thing(0, false), world.thing(1, false)];
    let late = 10 * PEER_SILENCE_MS;
    assert!(world.shard.tick(late, |_| Some(0)).shutdown.is_empty());
    world.turn();
    assert!(world.taken.is_empty());
    world.attach(full, 1, "c");
    world.shard.begin_pass();
    assert_eq!(world.shard.next_ready(), Some(full));
    assert_eq!(world.shard.wrote(full, 0, 10, late), Next::Wait);
    assert!(world.shard.tick(late + PEER_SILENCE_MS, |_| Some(0)).shutdown.is_empty());
    assert_eq!(world.shard.tick(late + PEER_SILENCE_MS + 1, |_| Some(0)).shutdown, [full]);
    assert_eq!(world.shard.finish(quiet, 1000, "", 0), Next::ShutdownWrite);
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
    fn who_comes_back_is_given_all_that_is_not_acknowledged(steps in steps(), maximum in 1usize..6, lives in 1usize..4) {
        let mut world = World::new();
        let mut since = world.hub.position("c", 0);
        let mut given_before = 0;
        let mut published = 0i64;
        let mut seen = Vec::new();
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
                            next = Some(value + 1);
                            open.push((publish.id.unwrap(), value));
                            seen.push(value);
                        }
                        prop_assert!(open.len() <= maximum);
                    }
                }
                let first = open.iter().map(|(_, value)| *value).min();
                let (acknowledged, given) = world.standing(&window, 1);
                prop_assert_eq!(Some(acknowledged), first.or(Some(given)));
                prop_assert!(next.is_none_or(|next| given == next || (given > next && given <= published)));
            }
            let followed = window.followed();
            let standing = world.hub.standing(&followed[0]);
            given_before = given_before.max(world.standing(&window, 1).1);
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
