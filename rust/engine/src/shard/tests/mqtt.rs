//! MQTT: what is shared, and what is each connection's own.

mod standing;

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
            kinds: Kinds::MESSAGES,
            subscription: Some(Box::new(how)),
            ..NewAttachment::plain(number, plan)
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
    let ids: Vec<_> = given.iter().map(|publish| publish.id.unwrap()).collect();
    assert_eq!(given.iter().map(|publish| &*publish.payload).collect::<Vec<_>>(), ["0", "1", "2"]);
    world.publish("c", "8");
    world.turn();
    assert!(world.published(thing).is_empty() && world.shard.outbox(thing).unwrap().is_empty());
    assert_eq!(world.acknowledge(thing, &window, ids[1]), Acknowledged::Awaited, "in whatever order");
    assert_eq!(world.acknowledge(thing, &window, ids[1]), Acknowledged::Unknown);
    world.turn();
    let [fourth] = &world.published(thing)[..] else { panic!("there was room for one") };
    assert_eq!(fourth.payload, "3");
    for id in [ids[0], ids[2], fourth.id.unwrap()] {
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
        window.set_maximum(at as u16 + 1);
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
fn who_is_not_given_its_own_messages_has_no_more_made_for_it_than_it_takes() {
    let mut world = World::new();
    let (thing, window) = world.thing(0, false);
    window.set_maximum(2);
    let plan = world.hub.locate("c", None, Start::Live, 0);
    let new = NewAttachment {
        number: 1,
        plan,
        spelling: None,
        kinds: Kinds::MESSAGES,
        echo: false,
        delta: false,
        filter: None,
        subscription: Some(Box::new(at_least_once())),
    };
    world.shard.attach(thing, new, b""[..].into());
    for n in 0..20 {
        world.publish_from("c", &n.to_string(), if n % 2 == 0 { "conn0" } else { "someone" });
    }
    let mut seen = Vec::new();
    for _ in 0..5 {
        world.turn();
        for publish in world.published(thing) {
            world.acknowledge(thing, &window, publish.id.unwrap());
            seen.push(publish.payload);
        }
    }
    assert_eq!(seen, ["1", "3", "5", "7", "9", "11", "13", "15", "17", "19"]);
    assert_eq!(world.hub.stats.frame_messages.get(), 10);
}

#[test]
fn messages_of_somebody_elses_come_before_what_is_delivered() {
    let mut world = World::new();
    let (thing, window) = world.thing(0, false);
    window.set_maximum(2);
    let theirs: Vec<_> = std::iter::from_fn(|| window.packet_id()).collect();
    assert_eq!(theirs.len(), 2, "and there is a third");
    world.subscribe(thing, 1, "c", None, at_least_once());
    world.publish("c", "later");
    world.turn();
    assert_eq!(world.acknowledge(thing, &window, theirs[0]), Acknowledged::Taken);
    world.turn();
    assert_eq!(world.payloads(thing), [""; 0], "the third is not on its way yet");
    assert!(window.packet_id().is_some());
    assert!(window.release(), "the shard waits for that");
    world.acknowledge(thing, &window, theirs[1]);
    world.shard.has_room(thing);
    world.turn();
    assert_eq!(world.payloads(thing), ["later"]);
}

#[test]
fn what_was_given_before_an_attachment_began_anew_is_marked_though_nobody_had_heard_of_it() {
    let mut world = World::new();
    let (thing, _) = world.thing(0, false);
    world.subscribe(thing, 1, "c", None, at_least_once());
    let since = world.hub.position("c", 0);
    (0..2).for_each(|n| world.publish("c", &n.to_string()));
    world.turn();
    assert!(world.published(thing).iter().all(|publish| !publish.dup));
    world.subscribe(thing, 1, "c", Some(&since), at_least_once());
    world.publish("c", "2");
    world.turn();
    let again = world.published(thing);
    assert_eq!(
        again.iter().map(|publish| (publish.dup, &*publish.payload)).collect::<Vec<_>>(),
        [(true, "0"), (true, "1"), (false, "2")]
    );
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
fn a_message_that_comes_again_has_its_id_again_and_another_where_that_is_under_way() {
    let mut world = World::new();
    let begun = world.hub.position("c", 0);
    (0..3).for_each(|n| world.publish("c", &n.to_string()));
    let mut given = |slot| {
        let (thing, _) = world.thing(slot, false);
        world.subscribe(thing, 1, "c", Some(&begun), at_least_once());
        world.turn();
        let first: Vec<_> = world.published(thing).iter().map(|publish| publish.id.unwrap()).collect();
        world.subscribe(thing, 1, "c", Some(&begun), at_least_once());
        world.turn();
        let second: Vec<_> = world.published(thing).iter().map(|publish| publish.id.unwrap()).collect();
        (first, second)
    };
    let (first, second) = given(0);
    assert_eq!(given(1).0, first);
    let all: std::collections::HashSet<_> = first.iter().chain(&second).collect();
    assert_eq!((second.len(), all.len()), (3, 6));
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
    window.set_maximum(u16::MAX);
    assert_eq!(window.packet_id(), None, "that is what holds for who says nothing");
    window.set_maximum(u16::MAX - 1);
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
        for value in &values {
            world.publish("c", value);
        }
        world.turn();
        let bytes = world.taken.remove(&thing).unwrap();
        let given = packets(if slot == 1 { &bytes[4..] } else { &bytes });
        let payloads: Vec<_> = given.iter().map(|publish| &*publish.payload).collect();
        assert_eq!(payloads, [&*values[0], &*values[2], &*values[3]]);
        assert_eq!(world.hub.stats.packets_too_large.get(), before + 1);
        let ids: Vec<_> = given.iter().filter_map(|publish| publish.id).collect();
        assert_eq!(ids.len(), if followed { 3 } else { 0 });
        assert!(ids.iter().all(|id| window.acknowledged(*id) == Acknowledged::Taken));
        let end = world.hub.channel("c", 0).end();
        assert!(
            window.followed(None).iter().all(|followed| followed.stand.at == end),
            "nobody waits for what was left out"
        );
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
    let seen = |given: Vec<Publish>| given.iter().map(|p| (p.id.is_some(), p.retain)).collect::<Vec<_>>();
    assert_eq!(seen(world.published(plain)), [(false, false), (true, false)]);
    assert_eq!(seen(world.published(told)), [(false, false), (true, true)]);
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
