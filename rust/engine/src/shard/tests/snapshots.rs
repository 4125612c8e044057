//! Slow readers of a channel with snapshots: they skip what was superseded, and are told so.

use super::*;
use crate::route::Spec;

/// A node whose one topic has snapshots, all of it for channel `c`.
fn world() -> World {
    let world = World::with(1 << 20);
    let snapshot = Spec { snapshot: true, ..("t", "c").into() };
    world.hub.set_rules(Rules::new([snapshot]).unwrap());
    world
}

impl World {
    /// A client that reads nothing while each of four keys is written 500 times, so that the ring passes it.
    fn fall_behind(&mut self, handle: Handle) {
        self.room.insert(handle, 0);
        let value = "x".repeat(1000);
        for number in 0..2000 {
            self.put(&format!("key{}", number % 4), &format!("{number}{value}"), &[]);
            self.turn();
        }
        self.room.remove(&handle);
        self.shard.writable(handle);
        self.turn();
    }

    /// The values a connection was given from its `from`th on, without what fills them.
    fn numbers(&self, handle: Handle, from: usize) -> Vec<String> {
        self.values(handle)[from..].iter().map(|value| value.trim_end_matches('x').to_owned()).collect()
    }
}

#[test]
fn who_falls_behind_goes_on_with_what_is_newest_once_it_was_told() {
    let mut world = world();
    world.put("old", "kept", &[]);
    let handle = world.connect(0);
    world.attach(handle, 7, "c");
    world.turn();
    assert_eq!(world.numbers(handle, 0), ["kept"]);
    world.fall_behind(handle);
    assert_eq!(world.shard.take_events(), [Event::Conflated(handle, 7)]);
    let given = world.values(handle).len();
    world.put("key0", "not yet", &[]);
    world.turn();
    assert_eq!(world.numbers(handle, given), [""; 0], "nothing comes before it was told");
    world.attach(handle, 7, "c");
    world.turn();
    assert_eq!(world.numbers(handle, given), ["1997", "1998", "1999", "not yet"], "what it had is not given again");
    world.put("key1", "live", &[]);
    world.put("key1", "all of it", &[]);
    world.turn();
    assert_eq!(world.numbers(handle, given + 4), ["live", "all of it"]);
    assert_eq!(world.shard.take_events(), []);
}

#[test]
fn deltas_begin_anew_behind_what_was_skipped() {
    let mut world = world();
    let handle = world.connect(0);
    let plan = world.hub.locate("c", None, Start::Live, 0);
    let new = NewAttachment { delta: true, ..NewAttachment::plain(7, plan) };
    world.shard.attach(handle, new, b"<attached>"[..].into());
    world.fall_behind(handle);
    let plan = world.hub.locate("c", None, Start::Live, 0);
    let new = NewAttachment { delta: true, ..NewAttachment::plain(7, plan) };
    let given = world.text(handle).len();
    world.shard.attach(handle, new, b"<attached>"[..].into());
    world.turn();
    world.put("key0", &"y".repeat(1000), &[]);
    world.turn();
    assert!(!world.text(handle)[given..].contains("vcdiff"), "there is nothing that a delta could be of");
}
