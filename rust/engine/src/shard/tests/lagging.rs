//! Who takes nothing until the ring has passed them is told of with the position where they stand, if it was noted.

use super::*;
use crate::limits::{LAGGING_MAX, LAGGING_MS, NOTED_PER_TICK};

/// So many connections with full sockets on a channel of which they have been given one message, and another waits.
fn stuck(world: &mut World, count: u64) -> Vec<Handle> {
    let handles: Vec<Handle> = (0..count).map(|slot| world.connect(slot)).collect();
    for &handle in &handles {
        world.attach(handle, 1, "c");
    }
    world.turn();
    world.publish("c", "given");
    world.turn();
    world.room.extend(handles.iter().map(|&handle| (handle, 0)));
    world.publish("c", "offered");
    world.turn();
    world.publish("c", "waits");
    world.turn();
    handles
}

/// Memory goes on without them; who is lost, and from where.
fn passed(world: &mut World, handles: &[Handle]) -> HashMap<Handle, Option<Arc<str>>> {
    (0..40).for_each(|_| world.publish("c", &"x".repeat(200_000)));
    for &handle in handles {
        world.room.remove(&handle);
        world.shard.writable(handle);
    }
    world.turn();
    let lost = world.shard.take_events().into_iter();
    lost.filter_map(|event| if let Event::Lost(handle, 1, place) = event { Some((handle, place)) } else { None })
        .collect()
}

fn tick(world: &mut World, now_ms: i64) {
    world.shard.tick(now_ms, |_| Some(now_ms));
}

#[test]
fn the_position_is_behind_all_that_was_given() {
    let mut world = World::new();
    let handles = stuck(&mut world, 1);
    tick(&mut world, LAGGING_MS);
    let lost = passed(&mut world, &handles);
    let place = lost[&handles[0]].clone().unwrap();
    assert_eq!(world.values(handles[0]), ["given", "offered"]);
    assert_eq!(world.hub.places("c", Some(&place)).unwrap()[0].offset, 2);
}

#[test]
fn who_has_been_stuck_for_a_moment_is_not_known() {
    let mut world = World::new();
    let handles = stuck(&mut world, 2);
    tick(&mut world, LAGGING_MS - 1);
    assert!(passed(&mut world, &handles[..1])[&handles[0]].is_none());
}

#[test]
fn who_reads_on_but_too_slowly_is_known() {
    let mut world = World::new();
    let handles = stuck(&mut world, 1);
    for now_ms in [1, 2] {
        world.room.insert(handles[0], 10);
        world.shard.writable(handles[0]);
        world.turn();
        tick(&mut world, now_ms);
    }
    let lost = passed(&mut world, &handles);
    let place = lost[&handles[0]].clone().unwrap();
    let given = world.values(handles[0]).len() as i64;
    assert_eq!(world.hub.places("c", Some(&place)).unwrap()[0].offset, given, "behind all that it was given");
}

#[test]
fn who_begins_behind_is_known_before_its_first_turn() {
    let mut world = World::new();
    let position = world.hub.locate("c", None, Start::Live, 0).serial;
    world.publish("c", "missed");
    let handle = world.connect(0);
    let plan = world.hub.locate("c", Some(&position), Start::Live, 0);
    world.shard.attach(handle, NewAttachment::plain(1, plan), b"<attached>"[..].into());
    let place = passed(&mut world, &[handle])[&handle].clone().unwrap();
    assert_eq!(world.hub.places("c", Some(&place)).unwrap()[0].offset, 0);
    tick(&mut world, 1);
    assert_eq!(world.shard.lagging.len(), 0, "it was told of");
}

#[test]
fn who_was_passed_before_it_began_goes_on_from_its_own_position() {
    let mut world = World::new();
    let position = world.hub.locate("c", None, Start::Live, 0).serial;
    world.publish("c", "missed");
    let handle = world.connect(0);
    let plan = world.hub.locate("c", Some(&position), Start::Live, 0);
    passed(&mut world, &[]);
    world.shard.attach(handle, NewAttachment::plain(1, plan), b"<attached>"[..].into());
    world.turn();
    let events = world.shard.take_events();
    let [Event::Lost(lost, 1, Some(place))] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*lost, world.hub.places("c", Some(place)).unwrap()[0].offset), (handle, 0));
}

#[test]
fn who_takes_a_little_and_is_stuck_again_is_known_where_it_stands_then() {
    let mut world = World::new();
    let handles = stuck(&mut world, 1);
    tick(&mut world, LAGGING_MS);
    world.room.insert(handles[0], 10_000);
    world.shard.writable(handles[0]);
    world.turn();
    world.room.insert(handles[0], 0);
    world.publish("c", "offered again");
    world.turn();
    world.publish("c", "waits again");
    world.turn();
    tick(&mut world, LAGGING_MS + 1);
    let place = passed(&mut world, &handles)[&handles[0]].clone().unwrap();
    assert_eq!(world.values(handles[0]), ["given", "offered", "waits", "offered again"]);
    assert_eq!(world.hub.places("c", Some(&place)).unwrap()[0].offset, 4);
}

#[test]
fn who_is_stuck_with_all_that_there_was_is_known() {
    let mut world = World::new();
    let handles = stuck(&mut world, 1);
    world.room.insert(handles[0], 1);
    world.shard.writable(handles[0]);
    world.turn();
    tick(&mut world, 2 * LAGGING_MS);
    assert!(passed(&mut world, &handles)[&handles[0]].is_some());
}

#[test]
fn what_is_noted_is_bounded_at_once_and_altogether() {
    let mut world = World::new();
    let handles = stuck(&mut world, LAGGING_MAX as u64 + 100);
    tick(&mut world, LAGGING_MS);
    assert_eq!(world.shard.lagging.len(), NOTED_PER_TICK);
    (0..2 * LAGGING_MAX / NOTED_PER_TICK).for_each(|_| tick(&mut world, LAGGING_MS));
    assert_eq!(world.shard.lagging.len(), LAGGING_MAX);
    let lost = passed(&mut world, &handles);
    assert_eq!(lost.values().filter(|place| place.is_some()).count(), LAGGING_MAX);
    assert_eq!(lost.len(), handles.len());
    tick(&mut world, LAGGING_MS);
    assert_eq!(world.shard.lagging.len(), 0, "nobody is stuck any more");
}
