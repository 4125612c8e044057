//! Streams: what their connections have of their own.

use super::*;
use crate::limits::PEER_SILENCE_MS;
use crate::shard::places::Places;

fn wire(several: bool) -> Wire {
    Wire::Stream(Stream { lines: false, bare: true, several })
}

impl World {
    fn stream(&mut self, slot: u64, several: bool) -> Handle {
        let handle = 1 << 32 | slot;
        let connection_id = format!("conn{slot}").into();
        let new = NewConnection { handle, wire: wire(several), connection_id, heartbeat_frames: false };
        self.shard.register(new, 0);
        handle
    }

    /// Attaches with this reply; returns the position that it begins with.
    fn follow(&mut self, handle: Handle, number: u32, channel: &str, reply: &[u8]) -> String {
        let plan = self.hub.locate(channel, None, Start::Live, 0);
        let serial = plan.serial.clone();
        let kinds = Kinds::ALL;
        let new = NewAttachment { kinds, ..NewAttachment::plain(number, plan) };
        self.shard.attach(handle, new, reply.into());
        serial
    }

    /// The lines that a connection was written since the last time, those of chunks left out.
    fn lines(&mut self, handle: Handle) -> Vec<String> {
        let bytes = self.taken.remove(&handle).unwrap_or_default();
        let lines = std::str::from_utf8(&bytes).unwrap().split('\n').filter(|line| line.contains(": "));
        lines.map(str::to_owned).collect()
    }
}

#[test]
fn a_stream_of_several_channels_is_given_nothing_before_the_last_is_there_and_then_the_place_in_each() {
    let mut world = World::new();
    let stream = world.stream(0, true);
    world.follow(stream, 7, "a", b"");
    world.publish("a", "one");
    world.turn();
    assert!(world.lines(stream).is_empty());
    let b = world.follow(stream, 3, "b", b"ids: all\n");
    world.turn();
    let lines = world.lines(stream);
    assert_eq!([&lines[0], &lines[2], &lines[3]], ["ids: all", "event: message", "data: one"]);
    let a = lines[1].strip_prefix("id: ").unwrap().strip_suffix(&format!(",{b}")).unwrap().to_owned();
    assert_eq!(world.hub.locate("a", Some(&a), Start::Live, 0).located.backlog, 0);
    world.publish("b", "two");
    world.turn();
    let lines = world.lines(stream);
    let b = lines[0].strip_prefix(&format!("id: {a},")).unwrap();
    assert_eq!(world.hub.locate("b", Some(b), Start::Live, 0).located.backlog, 0);
    assert_eq!(lines[1..], ["event: message", "data: two"]);
}

#[test]
fn a_channel_that_is_rewound_and_was_given_nothing_yet_goes_on_before_the_first_of_it() {
    let mut world = World::new();
    (0..3).for_each(|number| world.publish("b", &number.to_string()));
    let rewind = || Start::Rewind { count: 2, since_ms: i64::MIN };
    let [live, rewound] = [world.hub.locate("a", None, Start::Live, 0), world.hub.locate("b", None, rewind(), 0)];
    let mut places = Places::default();
    places.begin(7, &live);
    places.begin(3, &rewound);
    let stream = Stream { lines: false, bare: true, several: true };
    let told = String::from_utf8(places.before(7, "there".into(), stream).to_vec()).unwrap();
    let first = told.lines().find_map(|line| line.strip_prefix("id: there,")).unwrap();
    (3..5).for_each(|number| world.publish("b", &number.to_string()));
    let again = world.hub.locate("b", Some(first), rewind(), 0);
    assert_eq!((again.located.outcome, again.located.backlog), (Outcome::Resumed, 4));
}

#[test]
fn a_channel_that_is_yet_to_begin_keeps_its_place_in_every_id_while_the_others_go_on() {
    let mut world = World::new();
    let stream = world.stream(0, true);
    let hub = std::sync::Arc::clone(&world.hub);
    let [a, b] = ["a", "b"].map(|channel| hub.position(channel, 0));
    world.publish("a", "missed");
    world.shard.hold(stream, 1, a.as_str().into());
    world.shard.hold(stream, 2, b.as_str().into());
    world.follow(stream, 2, "b", b"");
    world.publish("b", "one");
    world.turn();
    let lines = world.lines(stream);
    assert_eq!(lines[1..], ["event: message", "data: one"]);
    assert!(lines[0].starts_with(&format!("id: {a},")));
    world.follow(stream, 1, "a", b"");
    world.publish("a", "two");
    world.turn();
    let lines = world.lines(stream);
    assert_eq!(lines[1..], ["event: message", "data: two"]);
    let a = lines[0].strip_prefix("id: ").unwrap().split(',').next().unwrap();
    assert_eq!(hub.locate("a", Some(a), Start::Live, 0).located.backlog, 0);
}

#[test]
fn streams_of_one_channel_share_what_they_are_given_and_can_be_cut_between_any_two_events() {
    let mut world = World::new();
    let streams = [world.stream(0, false), world.stream(1, false)];
    for stream in streams {
        world.follow(stream, 1, "a", b"");
    }
    (0..5).for_each(|number| world.publish("a", &number.to_string()));
    world.turn();
    let lines = world.lines(streams[0]);
    assert_eq!(lines, world.lines(streams[1]));
    assert_eq!(world.hub.stats.frames.get(), 1);
    for (at, event) in lines.chunks(3).enumerate() {
        let id = event[0].strip_prefix("id: ").unwrap();
        assert_eq!(event[2], format!("data: {at}"));
        assert_eq!(world.hub.locate("a", Some(id), Start::Live, 0).located.backlog, 4 - at);
    }
}

#[test]
fn who_takes_nothing_is_cut_off_and_who_says_nothing_is_not() {
    let mut world = World::new();
    let [quiet, full] = [world.stream(0, false), world.stream(1, false)];
    world.room.insert(full, 3);
    for stream in [quiet, full] {
        world.follow(stream, 1, "a", b"");
    }
    world.publish("a", "x");
    world.turn();
    assert!(world.shard.tick(PEER_SILENCE_MS, |_| Some(0)).shutdown.is_empty());
    let overdue = world.shard.tick(PEER_SILENCE_MS + 1, |_| Some(0));
    assert_eq!(overdue.shutdown, [full]);
    world.turn();
    assert!(world.taken[&quiet].ends_with(b":keepalive\n\n\r\n"));
}

#[test]
fn the_last_chunk_ends_a_stream() {
    let mut world = World::new();
    let stream = world.stream(0, false);
    world.shard.finish(stream, 1001, "", 0);
    world.turn();
    assert_eq!((&*world.taken[&stream], &*world.ended), (&b"0\r\n\r\n"[..], &[stream][..]));
}
