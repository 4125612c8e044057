//! News that are held for more of them to gather.

use proptest::prelude::*;

use super::*;
use crate::limits::LINGER_MS_MAX;
use crate::route::Spec;

fn held(topic: &str, linger_ms: u32) -> Spec<'_> {
    Spec { topic, channel: "#{key}", linger_ms, ..Spec::default() }
}

impl World {
    /// One whose topic's messages are held for so long.
    fn lingering(linger_ms: u32) -> Self {
        let world = Self::new();
        world.hub.set_rules(Rules::new([held("t", linger_ms), held("urgent", 0)]).unwrap());
        world
    }

    /// A driver's turns at this time, until nothing is left to do.
    fn turn_at(&mut self, now_ms: i64) {
        for channel in self.inbox.take() {
            self.shard.news(channel, now_ms);
        }
        self.shard.flush_due(now_ms);
        self.turn();
    }
}

#[test]
fn what_comes_while_the_first_is_held_leaves_with_it_and_not_a_moment_later() {
    let mut world = World::lingering(20);
    let reader = world.connect(0);
    world.attach(reader, 1, "c");
    world.publish("c", "a");
    world.turn_at(1_000);
    assert_eq!(world.shard.next_due(), Some(1_020));
    world.publish("c", "b");
    assert!(world.inbox.take().is_empty(), "a shard that holds a channel is not woken for more");
    world.turn_at(1_019);
    assert_eq!(world.text(reader), "<attached>");
    world.turn_at(1_020);
    assert_eq!(world.values(reader), ["a", "b"]);
    assert_eq!(world.hub.stats.frames.get(), 1);
    assert_eq!(world.shard.next_due(), None);
    world.publish("c", "c");
    world.turn_at(2_000);
    world.turn_at(2_020);
    assert_eq!(world.values(reader), ["a", "b", "c"], "it is told of again");
}

#[test]
fn other_topics_and_replies_are_not_held() {
    let mut world = World::lingering(LINGER_MS_MAX);
    world.hub.set_rules(Rules::new([held("another", LINGER_MS_MAX), held("t", 0)]).unwrap());
    let reader = world.connect(0);
    world.attach(reader, 1, "c");
    world.publish("c", "a");
    world.turn_at(0);
    assert_eq!(world.values(reader), ["a"]);
}

#[test]
fn a_message_of_a_topic_that_is_not_held_takes_along_what_is() {
    let mut world = World::lingering(50);
    world.hub.assign("urgent", [2; 16], 0, 0).unwrap();
    let reader = world.connect(0);
    world.attach(reader, 1, "c");
    world.publish("c", "a");
    world.turn_at(0);
    let value = Some(&b"b"[..]);
    let record = Record {
        topic: "urgent",
        partition: 0,
        offset: 0,
        epoch: 0,
        timestamp: 0,
        key: Some(b"c"),
        value,
        headers: &[],
    };
    world.hub.ingest([(record, Routing::Rules)].into_iter(), 0);
    world.turn_at(1);
    assert_eq!(world.values(reader), ["a", "b"]);
    world.publish("c", "c");
    world.turn_at(2);
    world.turn_at(50);
    assert_eq!(world.values(reader), ["a", "b", "c"]);
    assert_eq!(world.shard.next_due(), None);
}

#[test]
fn who_comes_while_a_channel_is_held_does_not_wait_for_what_came_before() {
    let mut world = World::lingering(20);
    let (reader, rewinding) = (world.connect(0), world.connect(1));
    world.attach(reader, 1, "c");
    world.turn_at(0);
    world.publish("c", "held");
    world.turn_at(1);
    let plan = world.hub.locate("c", None, Start::Rewind { count: 1, since_ms: i64::MIN }, 0);
    let new = NewAttachment::plain(1, plan);
    world.shard.attach(rewinding, new, b"<attached>"[..].into());
    world.turn_at(2);
    assert_eq!(world.values(rewinding), ["held"]);
    assert!(world.values(reader).is_empty(), "the others' is still held");
    world.turn_at(21);
    assert_eq!(world.values(reader), ["held"]);
    assert_eq!(world.values(rewinding), ["held"], "and nobody has it twice");
}

#[test]
fn a_held_channel_that_everyone_left_is_let_go() {
    let mut world = World::lingering(5);
    let reader = world.connect(0);
    world.attach(reader, 1, "c");
    world.publish("c", "a");
    world.turn_at(0);
    world.shard.unregister(reader);
    world.turn_at(5);
    assert_eq!(world.shard.next_due(), None);
    let next = world.connect(1);
    world.attach(next, 1, "c");
    world.publish("c", "b");
    world.turn_at(6);
    world.turn_at(11);
    assert_eq!(world.values(next), ["b"]);
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_moved_whatever_happens_while_it_is_held(
        linger_ms in 1u32..30,
        steps in prop::collection::vec((0u8..5, 0i64..20), 1..120),
    ) {
        let mut world = World::lingering(linger_ms);
        let (steady, slow) = (world.connect(0), world.connect(1));
        world.attach(steady, 1, "c");
        world.attach(slow, 1, "c");
        let (mut now, mut sent, mut since) = (0, Vec::new(), 0);
        for (what, later) in steps {
            now += later;
            match what {
                0 | 1 => {
                    sent.push(sent.len().to_string());
                    world.publish("c", sent.last().unwrap());
                }
                2 => {
                    world.room.insert(slow, 100);
                }
                3 => {
                    world.room.remove(&slow);
                    world.shard.writable(slow);
                }
                _ => {
                    world.attach(steady, 1, "c"); // from here on
                    world.turn_at(now);
                    since = sent.len();
                    world.taken.remove(&steady);
                }
            }
            world.turn_at(now);
            prop_assert!(world.shard.next_due().is_none_or(|due| now < due && due <= now + i64::from(linger_ms)));
        }
        world.room.remove(&slow);
        world.shard.writable(slow);
        world.turn_at(now + i64::from(linger_ms));
        prop_assert_eq!(&world.values(slow), &sent);
        prop_assert_eq!(&world.values(steady), &sent[since..]);
    }
}
