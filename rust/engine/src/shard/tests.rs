use std::collections::HashMap;

use super::*;
use crate::channel::Start;
use crate::hub::{Routing, Settings};
use crate::limits::{FRAME_BYTES, OUTBOX_FRAMES_BYTES};
use crate::record::{Header, Record};
use crate::route::Rules;

const IDLE_MS: i64 = 15_000;

mod deltas;
mod fairness;
mod lagging;
mod lingering;
mod mqtt;
mod replay;
mod snapshots;
mod streams;
mod sync;

/// One shard over a node, and sockets that take what they are told to.
struct World {
    hub: Arc<Hub>,
    shard: Shard,
    inbox: Arc<crate::hub::Inbox>,
    next: i64,
    /// Of the records to come.
    epoch: i32,
    /// Bytes each connection's socket has taken.
    taken: HashMap<Handle, Vec<u8>>,
    /// Room left in a full socket; others have endless room.
    room: HashMap<Handle, usize>,
    ended: Vec<Handle>,
}

impl World {
    fn new() -> Self {
        Self::with(16 << 20)
    }

    fn with(history_bytes: usize) -> Self {
        let hub = Arc::new(Hub::new(Settings { key: [3; 16], history_ms: 1 << 40, history_bytes }));
        hub.set_rules(Rules::new([("t", "#{key}")]).unwrap());
        hub.assign("t", [1; 16], 0, 0).unwrap();
        let inbox = hub.connect(Box::new(|| ()));
        let shard = Shard::new(Arc::clone(&hub), inbox.bit(), IDLE_MS);
        Self { hub, shard, inbox, next: 0, epoch: 0, taken: HashMap::new(), room: HashMap::new(), ended: Vec::new() }
    }

    fn connect(&mut self, slot: u64) -> Handle {
        let handle = 1 << 32 | slot;
        let connection_id = format!("conn{slot}").into();
        self.shard.register(NewConnection { handle, wire: Wire::Json, connection_id, heartbeat_frames: true }, 0);
        handle
    }

    fn attach(&mut self, handle: Handle, number: u32, channel: &str) {
        self.attach_as(handle, number, channel, channel, Kinds::ALL, true);
    }

    fn attach_as(&mut self, handle: Handle, number: u32, channel: &str, spelling: &str, kinds: Kinds, echo: bool) {
        let plan = self.hub.locate(channel, None, Start::Live, 0);
        let spelling = (spelling != channel).then(|| spelling.into());
        let new = NewAttachment { spelling, kinds, echo, ..NewAttachment::plain(number, plan) };
        self.shard.attach(handle, new, b"<attached>"[..].into());
    }

    fn publish(&mut self, channel: &str, value: &str) {
        self.publish_from(channel, value, "someone");
    }

    fn publish_from(&mut self, channel: &str, value: &str, connection: &str) {
        self.put(channel, value, &[("fanout.connectionId", connection)]);
    }

    /// Appends to the message that was published at this offset.
    fn append(&mut self, channel: &str, offset: i64, piece: &str) {
        let serial = format!("{offset:016}-0-t");
        self.put(channel, piece, &[("fanout.action", "append"), ("fanout.serial", &serial)]);
    }

    fn put(&mut self, channel: &str, value: &str, said: &[(&str, &str)]) {
        let said = [&[("fanout.type", "text")], said].concat();
        let headers: Vec<_> = said.iter().map(|(name, value)| Header { name, value: Some(value.as_bytes()) }).collect();
        let record = Record {
            topic: "t",
            partition: 0,
            offset: self.next,
            epoch: self.epoch,
            timestamp: 0,
            key: Some(channel.as_bytes()),
            value: Some(value.as_bytes()),
            headers: &headers,
        };
        self.next += 1;
        self.hub.ingest([(record, Routing::Rules)].into_iter(), 0);
    }

    /// Does what a driver does until nothing is left to do.
    fn turn(&mut self) {
        loop {
            self.pass();
            if !self.shard.has_more() {
                return;
            }
        }
    }

    /// One pass; who was written, in order.
    fn pass(&mut self) -> Vec<Handle> {
        for channel in self.inbox.take() {
            self.shard.flush(&channel);
        }
        let mut written = Vec::new();
        self.shard.begin_pass();
        while let Some(handle) = self.shard.next_ready() {
            let offered: Vec<u8> = self.shard.outbox(handle).unwrap().slices(64).flatten().copied().collect();
            self.take(handle, &offered);
            written.push(handle);
        }
        written
    }

    /// The socket of a connection takes what it has room for of what was offered.
    fn take(&mut self, handle: Handle, offered: &[u8]) {
        let room = self.room.get(&handle).copied().unwrap_or(usize::MAX);
        let n = offered.len().min(room);
        if let Some(left) = self.room.get_mut(&handle) {
            *left -= n;
        }
        self.taken.entry(handle).or_default().extend_from_slice(&offered[..n]);
        if self.shard.wrote(handle, n, offered.len(), 0) == Next::ShutdownWrite {
            self.ended.push(handle);
        }
    }

    fn text(&self, handle: Handle) -> String {
        String::from_utf8_lossy(self.taken.get(&handle).map_or(&[][..], |bytes| bytes)).into_owned()
    }

    /// The values a connection was given, in order.
    fn values(&self, handle: Handle) -> Vec<String> {
        let text = self.text(handle);
        text.split("\"data\":\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_connection_leaves_with_several_attachments_of_one_channel() {
    for others_before in [false, true] {
        for others_behind in [false, true] {
            let mut world = World::new();
            let (before, several, behind) = (world.connect(1), world.connect(2), world.connect(3));
            if others_before {
                world.attach(before, 1, "c");
            }
            for (number, spelling) in ["c", "[?echo=false]c", "[?rewind=1]c"].into_iter().enumerate() {
                world.attach_as(several, number as u32, "c", spelling, Kinds::ALL, true);
            }
            if others_behind {
                world.attach(behind, 1, "c");
            }
            world.turn();
            world.shard.unregister(several);
            world.publish("c", "still here");
            world.turn();
            for (handle, attached) in [(before, others_before), (behind, others_behind)] {
                let seen = world.taken.get(&handle).is_some_and(|bytes| bytes.windows(10).any(|w| w == b"still here"));
                assert_eq!(seen, attached);
            }
            world.shard.unregister(before);
            world.shard.unregister(behind);
            assert_eq!(world.hub.channel("c", 0).attachments(), 0);
        }
    }
}

#[test]
fn a_reply_comes_first_and_then_every_message_in_order() {
    let mut world = World::new();
    let handle = world.connect(0);
    world.publish("c", "before");
    world.attach(handle, 1, "c");
    for n in 0..5 {
        world.publish("c", &n.to_string());
    }
    world.turn();
    world.publish("c", "5");
    world.turn();
    assert!(world.text(handle).starts_with("<attached>"));
    assert_eq!(world.values(handle), ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn messages_that_wait_together_leave_together() {
    let mut world = World::new();
    let handle = world.connect(0);
    world.attach(handle, 1, "c");
    (0..32).for_each(|n| world.publish("c", &n.to_string()));
    world.turn();
    assert_eq!(world.text(handle).matches("\"action\":15").count(), 1);
}

#[test]
fn appends_come_whole_to_who_asked_for_that_and_in_pieces_to_others() {
    let mut world = World::new();
    let (pieces, whole) = (world.connect(0), world.connect(1));
    world.attach(pieces, 1, "c");
    world.attach_as(whole, 1, "c", "c", Kinds::from_bits(65).unwrap(), true);
    world.publish("c", "one");
    for piece in ["+a", "+b"] {
        world.append("c", 0, piece);
        world.turn();
    }
    assert_eq!(world.values(pieces), ["one", "+a", "+b"]);
    assert_eq!(world.values(whole), ["one", "one+a", "one+a+b"]);
}

#[test]
fn only_attached_channels_are_given_each_under_its_spelling() {
    let mut world = World::new();
    let (one, two) = (world.connect(0), world.connect(1));
    world.attach(one, 1, "a");
    world.attach_as(two, 1, "a", "[?rewind=1]a", Kinds::MESSAGES, true);
    world.attach(two, 2, "b");
    world.publish("a", "A");
    world.publish("b", "B");
    world.turn();
    assert_eq!(world.values(one), ["A"]);
    assert_eq!(world.values(two), ["A", "B"]);
    assert!(world.text(two).contains("\"channel\":\"[?rewind=1]a\""));
}

#[test]
fn a_full_socket_costs_only_its_cursor_and_goes_on_exactly() {
    let mut world = World::new();
    let (slow, quick) = (world.connect(0), world.connect(1));
    world.attach(slow, 1, "c");
    world.attach(quick, 1, "c");
    world.room.insert(slow, 37);
    for n in 0..500 {
        world.publish("c", &n.to_string());
        world.turn();
    }
    assert_eq!(world.values(quick).len(), 500);
    let waiting = world.shard.outbox(slow).unwrap().len();
    assert!(waiting < 1000, "one frame begun is all that waits: {waiting}");
    while world.values(slow).len() < 500 {
        world.room.insert(slow, 1000); // it drains bit by bit
        world.shard.writable(slow);
        world.turn();
    }
    assert_eq!(world.values(slow), world.values(quick));
    assert!(world.text(slow).matches("\"action\":15").count() < 20, "it catches up in few large frames");
}

#[test]
fn a_long_backlog_is_given_in_bounded_pieces() {
    let mut world = World::new();
    let handle = world.connect(0);
    world.attach(handle, 1, "c");
    world.room.insert(handle, 0);
    world.turn();
    let value = "x".repeat(10_000);
    (0..100).for_each(|_| world.publish("c", &value));
    world.room.insert(handle, usize::MAX);
    world.shard.writable(handle);
    world.inbox.take().iter().for_each(|channel| world.shard.flush(channel));
    while world.shard.has_more() {
        world.shard.begin_pass();
        let Some(next) = world.shard.next_ready() else { continue };
        let waiting = world.shard.outbox(next).unwrap().len();
        assert!(waiting <= OUTBOX_FRAMES_BYTES + FRAME_BYTES * 2, "{waiting}");
        let bytes: Vec<u8> = world.shard.outbox(next).unwrap().slices(64).flatten().copied().collect();
        world.taken.entry(next).or_default().extend(&bytes);
        world.shard.wrote(next, bytes.len(), bytes.len(), 0);
    }
    assert_eq!(world.values(handle).len(), 100);
}

#[test]
fn an_attachment_that_the_ring_has_passed_is_reported_once_and_stopped() {
    let mut world = World::with(1 << 20);
    let handle = world.connect(0);
    world.attach(handle, 7, "c");
    world.turn();
    world.room.insert(handle, 0);
    let value = "x".repeat(1000);
    (0..2000).for_each(|_| {
        world.publish("c", &value);
        world.turn();
    });
    world.room.remove(&handle);
    world.shard.writable(handle);
    world.turn();
    world.publish("c", "later");
    world.turn();
    assert_eq!(world.shard.take_events(), [Event::Lost(handle, 7, None)]);
    assert!(!world.values(handle).contains(&"later".to_owned()));
    world.attach(handle, 7, "c");
    world.publish("c", "again");
    world.turn();
    assert_eq!(world.values(handle).last().unwrap(), "again");
}

#[test]
fn a_peer_that_asks_and_never_reads_is_cut_off_at_the_bound() {
    let mut world = World::new();
    let handle = world.connect(0);
    world.room.insert(handle, 0);
    let reply: Arc<[u8]> = vec![0; 1000].into();
    for _ in 0..2 * OUTBOX_REPLIES_BYTES / 1000 {
        world.shard.send(handle, Arc::clone(&reply));
        world.turn();
        assert!(world.shard.outbox(handle).unwrap().len() <= OUTBOX_REPLIES_BYTES);
    }
    assert_eq!(world.shard.take_events(), [Event::Evicted(handle, Cause::Full)]);
}

#[test]
fn replies_behind_a_giant_message_are_nobodys_fault() {
    let mut world = World::new();
    let handle = world.connect(0);
    world.attach(handle, 1, "c");
    world.turn();
    world.room.insert(handle, 10);
    world.publish("c", &"x".repeat(2 * OUTBOX_REPLIES_BYTES));
    world.turn();
    world.shard.send(handle, b"<pong>"[..].into());
    world.room.remove(&handle);
    world.shard.writable(handle);
    world.turn();
    assert!(world.shard.take_events().is_empty());
    assert!(world.text(handle).ends_with("<pong>"));
}

#[test]
fn nothing_follows_a_close() {
    let mut world = World::new();
    let handle = world.connect(0);
    world.attach(handle, 1, "c");
    world.shard.finish(handle, 1000, "bye", 0);
    world.publish("c", "late");
    world.shard.send(handle, b"late"[..].into());
    world.turn();
    assert!(world.text(handle).ends_with("bye"));
    assert_eq!(world.ended, [handle]);
    let overdue = world.shard.tick(FINISH_MS + 1, |_| Some(FINISH_MS));
    assert_eq!(overdue.shutdown, [handle], "a peer that does not close is shut down");
}

#[test]
fn idle_time_is_filled_and_silence_ends_a_connection() {
    let mut world = World::new();
    let handle = world.connect(0);
    assert!(world.shard.tick(IDLE_MS / 2, |_| Some(0)).shutdown.is_empty());
    world.turn();
    assert_eq!(world.text(handle), "");
    world.shard.tick(IDLE_MS * 2 / 3, |_| Some(0));
    world.turn();
    assert_eq!(world.text(handle), "\u{FFFD}\u{c}{\"action\":0}\u{FFFD}\0");
    let overdue = world.shard.tick(PEER_SILENCE_MS + 1, |_| Some(0));
    assert_eq!(overdue.shutdown, [handle]);
    assert_eq!(world.shard.take_events(), [Event::Evicted(handle, Cause::Silent)]);
}

#[test]
fn detaching_and_leaving_disturb_nobody_else() {
    let mut world = World::new();
    let handles: Vec<Handle> = (0..20).map(|slot| world.connect(slot)).collect();
    for &handle in &handles {
        world.attach(handle, 1, "c");
        world.attach(handle, 2, "d");
    }
    for (index, &handle) in handles.iter().enumerate() {
        match index % 3 {
            0 => world.shard.unregister(handle),
            1 => world.shard.detach(handle, 1, Some(b"<detached>"[..].into())),
            _ => {}
        }
    }
    world.publish("c", "C");
    world.publish("d", "D");
    world.turn();
    for (index, &handle) in handles.iter().enumerate() {
        let expected: &[&str] = match index % 3 {
            0 => &[],
            1 => &["D"],
            _ => &["C", "D"],
        };
        assert_eq!(world.values(handle), expected, "connection {index}");
    }
    for &handle in &handles {
        world.shard.unregister(handle);
    }
    assert!(world.shard.is_empty());
    assert_eq!(world.hub.occupancy("c").unwrap().connections, 0);
    world.publish("c", "nobody");
    assert!(world.inbox.take().is_empty(), "a shard without attachments is not told");
}

#[test]
fn a_late_word_about_a_gone_connection_hits_nobody() {
    let mut world = World::new();
    let old = world.connect(0);
    world.shard.unregister(old);
    let new = 2 << 32;
    let connection_id = "new".into();
    world.shard.register(NewConnection { handle: new, wire: Wire::Json, connection_id, heartbeat_frames: false }, 0);
    world.shard.send(old, b"late"[..].into());
    world.attach(old, 1, "c");
    world.shard.finish(old, 1000, "", 0);
    world.shard.writable(old);
    world.turn();
    assert_eq!(world.text(new), "");
}

#[test]
fn who_asked_for_no_echo_or_no_messages_gets_none() {
    let mut world = World::new();
    let (mine, deaf) = (world.connect(0), world.connect(1));
    world.attach_as(mine, 1, "c", "c", Kinds::MESSAGES, false);
    world.attach_as(deaf, 1, "c", "c", Kinds::NONE, true);
    world.publish_from("c", "own", "conn0");
    world.publish_from("c", "other", "conn1");
    world.turn();
    assert_eq!(world.values(mine), ["other"]);
    assert!(world.values(deaf).is_empty());
    assert_eq!(world.hub.occupancy("c").unwrap().connections, 2);
}

#[test]
fn everybody_is_given_the_kinds_that_were_asked_for() {
    let mut world = World::new();
    let handles = [0, 1, 2, 3].map(|slot| world.connect(slot));
    for (handle, kinds) in handles.into_iter().zip([Kinds::MESSAGES, Kinds::PRESENCE, Kinds::PRESENCE, Kinds::ALL]) {
        world.attach_as(handle, 1, "c", "c", kinds, true);
    }
    for value in ["first", "second"] {
        world.publish("c", value);
        world.turn();
    }
    let both = ["first", "second"];
    assert_eq!(handles.map(|handle| world.values(handle).len()), [2, 0, 0, 2]);
    assert_eq!(
        (world.values(handles[0]), world.values(handles[3])),
        (both.map(String::from).into(), both.map(String::from).into())
    );
}

#[test]
fn what_an_attachment_is_given_changes_and_its_place_does_not() {
    let mut world = World::new();
    let handle = world.connect(0);
    let regrant = |world: &mut World, number, kinds| {
        let plan = world.hub.locate("c", None, Start::Live, 0);
        let new = NewAttachment { kinds, ..NewAttachment::plain(number, plan) };
        world.shard.regrant(handle, new);
    };
    world.attach_as(handle, 1, "c", "c", Kinds::MESSAGES, true);
    world.publish("c", "before");
    regrant(&mut world, 1, Kinds::ALL); // not written yet, and not lost
    world.publish("c", "after");
    world.turn();
    regrant(&mut world, 1, Kinds::NONE);
    world.publish("c", "not for him");
    world.turn();
    regrant(&mut world, 1, Kinds::MESSAGES);
    regrant(&mut world, 2, Kinds::MESSAGES); // is not there
    world.publish("c", "again");
    world.turn();
    assert_eq!(world.values(handle), ["before", "after", "again"]);
    assert_eq!(world.hub.occupancy("c").unwrap().connections, 1);
}

#[test]
fn attaching_again_moves_the_attachment() {
    let mut world = World::new();
    let handle = world.connect(0);
    world.attach(handle, 1, "c");
    world.attach(handle, 1, "c");
    world.publish("c", "once");
    world.turn();
    assert_eq!(world.values(handle), ["once"]);
    assert_eq!(world.hub.occupancy("c").unwrap().connections, 1);
}
