//! Whose turn it is: nobody waits for the length of somebody else's burst, and nobody is forgotten.

use proptest::prelude::*;

use super::*;
use crate::limits::{EXPRESS_BACKLOG_MAX, EXPRESS_MEMBERS_MAX, PASS_NS, SLICE_MEMBERS, WRITE_NS};

/// Small writes that fit a pass.
const PASS_WRITES: usize = (PASS_NS / WRITE_NS) as usize + 3;

/// A channel with `members` attachments, each on a connection of its own; the first has this slot.
fn crowd(world: &mut World, channel: &str, first: u64, members: u64) -> Vec<Handle> {
    let handles: Vec<Handle> = (first..first + members).map(|slot| world.connect(slot)).collect();
    for &handle in &handles {
        world.attach(handle, 1, channel);
    }
    world.turn();
    handles
}

#[test]
fn a_small_channel_is_written_in_the_next_pass_whatever_goes_on() {
    let mut world = World::new();
    crowd(&mut world, "huge", 0, 10_000);
    let small = crowd(&mut world, "small", 20_000, 10);
    world.publish("huge", "burst");
    let mut passes = 0;
    while world.shard.has_more() || passes == 0 {
        world.publish("small", "now");
        let written = world.pass();
        assert!(written.len() <= PASS_WRITES);
        assert_eq!(&written[..10].iter().filter(|handle| small.contains(handle)).count(), &10, "first of all");
        passes += 1;
    }
    assert!(passes > 50, "the burst took many passes: {passes}");
}

#[test]
fn a_reply_does_not_wait_for_a_burst() {
    let mut world = World::new();
    let crowd = crowd(&mut world, "huge", 0, 10_000);
    world.publish("huge", "burst");
    world.pass();
    let last = *crowd.iter().find(|&&handle| world.values(handle).is_empty()).unwrap();
    world.shard.send(last, b"<pong>"[..].into());
    assert_eq!(world.pass()[0], last);
    assert!(world.text(last).contains("<pong>") && world.values(last) == ["burst"], "and one write takes both");
}

#[test]
fn small_channels_that_never_rest_leave_a_huge_one_its_share() {
    let mut world = World::new();
    let huge = crowd(&mut world, "huge", 0, 1_000);
    for number in 0..4 {
        crowd(&mut world, &format!("small{number}"), 2_000 + number * 1_000, EXPRESS_MEMBERS_MAX as u64);
    }
    world.publish("huge", "burst");
    let mut passes = 0;
    while huge.iter().any(|&handle| world.values(handle).is_empty()) {
        (0..4).for_each(|number| world.publish(&format!("small{number}"), "again"));
        let written = world.pass();
        let share = written.iter().filter(|handle| huge.contains(handle)).count();
        let over = huge.iter().all(|&handle| !world.values(handle).is_empty());
        assert!(over || share >= PASS_WRITES / 4 - 2, "a quarter of every pass: {share} of {}", written.len());
        passes += 1;
    }
    assert!(passes <= huge.len() * 5 / PASS_WRITES, "{passes}");
}

#[test]
fn huge_channels_take_turns() {
    let mut world = World::new();
    let crowds: Vec<Vec<Handle>> =
        (0..3).map(|number| crowd(&mut world, &format!("huge{number}"), number * 2_000, 1_000)).collect();
    (0..3).for_each(|number| world.publish(&format!("huge{number}"), "burst"));
    let mut given = [0usize; 3];
    while world.shard.has_more() || given == [0; 3] {
        for handle in world.pass() {
            given[crowds.iter().position(|crowd| crowd.contains(&handle)).unwrap()] += 1;
        }
        assert!(given.iter().max().unwrap() - given.iter().min().unwrap() <= 2 * SLICE_MEMBERS, "{given:?}");
    }
    assert_eq!(given, [1_000; 3]);
}

#[test]
fn who_has_much_to_catch_up_with_leaves_the_others_their_share() {
    let mut world = World::with(64 << 20);
    let laggards = crowd(&mut world, "much", 0, 100);
    let huge = crowd(&mut world, "huge", 1_000, 1_000);
    world.room.extend(laggards.iter().map(|&handle| (handle, 0)));
    let value = "x".repeat(100_000);
    (0..40).for_each(|_| world.publish("much", &value));
    world.turn();
    for &handle in &laggards {
        world.room.remove(&handle);
        world.shard.writable(handle);
    }
    world.publish("huge", "burst");
    let mut passes = 0;
    while huge.iter().any(|&handle| world.values(handle).is_empty()) {
        let written = world.pass();
        assert!(written.iter().filter(|handle| laggards.contains(handle)).count() < 30, "large writes count for more");
        passes += 1;
    }
    assert!(passes < 40, "{passes}");
}

#[test]
fn those_who_come_back_are_not_the_others_delay() {
    let mut world = World::with(64 << 20);
    let small = crowd(&mut world, "small", 20_000, 10);
    let place = world.hub.position("much", 0);
    let value = "x".repeat(10_000);
    (0..EXPRESS_BACKLOG_MAX + 8).for_each(|_| world.publish("much", &value));
    world.turn();
    let back: Vec<Handle> = (0..500).map(|slot| world.connect(slot)).collect();
    for &handle in &back {
        let plan = world.hub.locate("much", Some(&place), Start::Live, 0);
        let new = NewAttachment {
            number: 1,
            plan,
            spelling: None,
            kinds: Kinds::ALL,
            echo: true,
            delta: false,
            filter: None,
            subscription: None,
        };
        world.shard.attach(handle, new, b"<attached>"[..].into());
    }
    let mut passes = 0;
    while world.shard.has_more() || passes == 0 {
        world.publish("small", "now");
        let before = world.taken.values().map(Vec::len).sum::<usize>();
        let written = world.pass();
        let bytes = world.taken.values().map(Vec::len).sum::<usize>() - before;
        let given = written.iter().filter(|handle| small.contains(handle)).count();
        assert!(given == 10 || passes <= 500 / PASS_WRITES, "in each pass, once the replies are written");
        assert!(bytes < 4 << 20, "and none is long: {bytes}");
        passes += 1;
    }
    let given = |handle: &Handle| world.values(*handle).len() == EXPRESS_BACKLOG_MAX + 8;
    assert!(back.iter().all(given));
    assert!(passes > 20, "{passes}");
}

#[test]
fn the_start_moves_so_that_nobody_is_always_last() {
    let mut world = World::new();
    let crowd = crowd(&mut world, "huge", 0, 1_000);
    let mut late: HashMap<Handle, usize> = HashMap::new();
    for round in 0..16 {
        world.publish("huge", &round.to_string());
        let mut order = Vec::new();
        while order.len() < crowd.len() {
            order.extend(world.pass());
        }
        order[crowd.len() / 2..].iter().for_each(|&handle| *late.entry(handle).or_default() += 1);
    }
    assert_eq!(late.len(), crowd.len(), "everybody was late");
    assert!(late.values().all(|&times| (6..=10).contains(&times)), "about as often as early: {late:?}");
}

#[test]
fn who_is_reached_late_is_given_all_that_came_meanwhile_in_one_frame() {
    let mut world = World::new();
    let crowd = crowd(&mut world, "huge", 0, 1_000);
    let mut published = 0;
    world.publish("huge", "0");
    while published < 6 {
        world.pass();
        published += 1;
        world.publish("huge", &published.to_string());
    }
    world.turn();
    let frames = |handle| world.text(handle).matches("\"action\":15").count();
    let all: Vec<String> = (0..=6).map(|n| n.to_string()).collect();
    assert!(crowd.iter().all(|&handle| world.values(handle) == all));
    assert!(crowd.iter().all(|&handle| frames(handle) <= 2));
    assert!(crowd.iter().any(|&handle| frames(handle) == 1));
}

#[test]
fn members_that_take_nothing_use_up_a_pass_too() {
    let mut world = World::new();
    let crowd = crowd(&mut world, "huge", 0, 50_000);
    world.room.extend(crowd.iter().map(|&handle| (handle, 0)));
    world.publish("huge", "fills them");
    world.turn();
    world.publish("huge", "news");
    assert!(world.pass().is_empty());
    assert!(world.shard.has_more(), "looking at all of them takes more than a pass");
    world.turn();
}

#[test]
fn waiting_is_bounded_by_connections_and_channels_whatever_comes_and_goes() {
    let mut world = World::new();
    for _ in 0..1_000 {
        let handle = world.connect(0);
        world.attach(handle, 1, "c");
        world.shard.send(handle, b"<reply>"[..].into());
        world.publish("c", "news");
        world.inbox.take().iter().for_each(|channel| world.shard.flush(channel));
        world.shard.unregister(handle);
        let most = 3 + 1; // the connection in each lane, the channel in one
        assert!(world.shard.schedule.len() <= most, "{}", world.shard.schedule.len());
    }
    world.turn();
    assert!(!world.shard.has_more());
}

#[test]
fn a_connection_is_not_named_again_while_it_is_being_written() {
    let mut world = World::new();
    let handle = world.connect(0);
    world.attach(handle, 1, "a");
    world.attach(handle, 2, "b");
    world.turn();
    world.publish("a", "A");
    world.publish("b", "B");
    world.inbox.take().iter().for_each(|channel| world.shard.flush(channel));
    world.shard.begin_pass();
    assert_eq!(world.shard.next_ready(), Some(handle));
    assert_eq!(world.shard.next_ready(), None);
    world.shard.send(handle, b"<reply>"[..].into());
    world.shard.begin_pass();
    assert_eq!(world.shard.next_ready(), None);
    let frames = world.shard.outbox(handle).unwrap().slices(2).map(<[u8]>::len).sum();
    world.shard.wrote(handle, frames, frames, 0);
    world.turn();
    assert_eq!(world.text(handle).matches("<reply>").count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes and goes while a sweep is under way, everyone is given everything from their attachment on, once.
    #[test]
    fn nobody_is_missed_by_a_sweep(steps in prop::collection::vec((0u8..6, 0u64..40), 1..400)) {
        let mut world = World::new();
        let mut generations = [0u64; 40];
        let mut since: HashMap<Handle, i64> = HashMap::new();
        let mut ended: HashMap<Handle, i64> = HashMap::new();
        let mut slots: [Option<Handle>; 40] = [None; 40];
        for (what, slot) in steps {
            let at = slot as usize;
            match (what, slots[at]) {
                (0 | 1, None) => {
                    generations[at] += 1;
                    let handle = generations[at] << 32 | slot;
                    let connection_id = "c".into();
                    let new = NewConnection { handle, wire: Wire::Json, connection_id, heartbeat_frames: false };
                    world.shard.register(new, 0);
                    world.attach(handle, 1, "c");
                    since.insert(handle, world.next);
                    slots[at] = Some(handle);
                }
                (1, Some(handle)) => {
                    ended.insert(handle, world.next);
                    world.shard.unregister(handle);
                    slots[at] = None;
                }
                (2, Some(handle)) => world.room.extend([(handle, 100)]),
                (3, Some(handle)) => {
                    world.room.remove(&handle);
                    world.shard.writable(handle);
                }
                (4, _) => {
                    let next = world.next.to_string();
                    world.publish("c", &next);
                }
                _ => {
                    world.inbox.take().iter().for_each(|channel| world.shard.flush(channel));
                    world.shard.begin_pass();
                    // The pass is cut short: the sweep goes on in a later one.
                    for _ in 0..slot % 8 {
                        let Some(handle) = world.shard.next_ready() else { break };
                        let bytes: Vec<u8> = world.shard.outbox(handle).unwrap().slices(64).flatten().copied().collect();
                        world.take(handle, &bytes);
                    }
                }
            }
        }
        for handle in slots.into_iter().flatten() {
            world.room.remove(&handle);
            world.shard.writable(handle);
        }
        world.turn();
        for (handle, from) in since {
            let given = world.values(handle);
            let expected = (from..world.next).map(|n| n.to_string());
            if ended.contains_key(&handle) {
                prop_assert!(given.iter().cloned().eq(expected.take(given.len())), "in order as far as it went");
            } else {
                prop_assert!(given.iter().cloned().eq(expected), "everything: {:?} from {}", given, from);
            }
        }
    }
}
