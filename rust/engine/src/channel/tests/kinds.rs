//! Entries of several kinds in one ring.

use super::*;
use crate::kind::Kind;
use crate::message::{Field, Form, Message};

/// A node whose channel `c` has these entries: `m` a message, `p` presence of `me`, `q` of somebody else.
fn ring(entries: &str) -> Hub {
    let hub = node(1);
    hub.partitions().add_state_topic("state");
    hub.assign("state", [2; 16], 0, 0).unwrap();
    let state = hub.partitions().find("state", 0).unwrap();
    let mut offset = 0;
    for (index, entry) in entries.chars().enumerate() {
        if entry == 'm' {
            put(&hub, 0, offset, b"x");
            offset += 1;
            continue;
        }
        let mut fields = [None; crate::message::FIELDS];
        fields[Field::ConnectionId as usize] = Some(if entry == 'p' { "me" } else { "you" });
        let place = (index as i64, 0);
        let event = Message::new(state.clone(), place, (Kind::Presence, 2), Form::None, b"", Some(&fields));
        hub.channel("c", 0).append(event);
        state.advance(index as i64 + 1, 0);
    }
    hub
}

fn withheld(echo: bool, presence: bool) -> Withheld {
    Withheld { had: None, own: Some(Own { connection_id: "me".into(), echo, presence }) }
}

/// The frames of somebody who stands before everything: how many items of what action.
fn frames(hub: &Hub, kinds: Kinds, withheld: &Withheld) -> Vec<(u64, u32)> {
    given(hub, 0, kinds, withheld)
}

fn given(hub: &Hub, mut from: u64, kinds: Kinds, withheld: &Withheld) -> Vec<(u64, u32)> {
    let channel = hub.channel("c", 0);
    let mut frames = Vec::new();
    loop {
        let ask = Ask { kinds, ..Ask::plain(Wire::Json, from) };
        match channel.own_frame(&ask, withheld, &hub.context()) {
            Given::Frame(frame) => {
                let start = frame.bytes.windows(2).position(|pair| pair == b"{\"").unwrap();
                let read: serde_json::Value = serde_json::from_slice(&frame.bytes[start..]).unwrap();
                frames.push((read["action"].as_u64().unwrap(), frame.messages));
                from = frame.to;
            }
            Given::Skipped(to) => from = to,
            Given::Nothing => return frames,
            Given::Conflated | Given::Lost => panic!("nothing was dropped"),
        }
    }
}

#[test]
fn a_frame_is_a_run_of_one_kind_and_others_are_passed_over() {
    let hub = ring("mmqqmp");
    let everybody = Withheld::default();
    assert_eq!(frames(&hub, Kinds::ALL, &everybody), [(15, 2), (14, 2), (15, 1), (14, 1)]);
    assert_eq!(frames(&hub, Kinds::MESSAGES, &everybody), [(15, 3)]);
    assert_eq!(frames(&hub, Kinds::PRESENCE, &everybody), [(14, 3)]);
    assert_eq!(frames(&hub, Kinds::ANNOTATIONS, &everybody), []);
}

#[test]
fn a_run_that_another_kind_ends_is_shared_whatever_comes() {
    let hub = ring("mq");
    let channel = hub.channel("c", 0);
    let frame = || match channel.frame(&ask(Wire::Json, 0), &hub.context()) {
        Given::Frame(frame) => frame,
        other => panic!("{other:?}"),
    };
    let first = frame();
    put(&hub, 0, 1, b"y");
    assert!(std::sync::Arc::ptr_eq(&first.bytes, &frame().bytes));
}

#[test]
fn kinds_are_told_apart_among_shared_frames() {
    let hub = ring("mq");
    let channel = hub.channel("c", 0);
    for kinds in [Kinds::MESSAGES, Kinds::PRESENCE, Kinds::MESSAGES] {
        let ask = Ask { kinds, ..Ask::plain(Wire::Json, 0) };
        let Given::Frame(frame) = channel.frame(&ask, &hub.context()) else { panic!("there is one") };
        let action = if kinds == Kinds::MESSAGES { "\"action\":15" } else { "\"action\":14" };
        assert!(String::from_utf8_lossy(&frame.bytes).contains(action));
    }
}

#[test]
fn own_presence_is_given_without_that_of_others() {
    let hub = ring("mqpqm");
    assert_eq!(frames(&hub, Kinds::MESSAGES, &withheld(true, true)), [(15, 1), (14, 1), (15, 1)]);
    assert_eq!(frames(&hub, Kinds::NONE, &withheld(true, true)), [(14, 1)]);
}

#[test]
fn who_is_given_its_own_presence_shares_frames_where_there_is_none() {
    let hub = ring("qm");
    let channel = hub.channel("c", 0);
    let ask = Ask { kinds: Kinds::MESSAGES, ..Ask::plain(Wire::Json, 1) };
    let shared = channel.frame(&ask, &hub.context());
    let own = channel.own_frame(&ask, &withheld(true, true), &hub.context());
    let (Given::Frame(shared), Given::Frame(own)) = (shared, own) else { panic!("there is a message") };
    assert!(std::sync::Arc::ptr_eq(&shared.bytes, &own.bytes));
}

#[test]
fn presence_is_echoed_where_messages_are_not() {
    assert_eq!(frames(&ring("pqp"), Kinds::ALL, &withheld(false, false)), [(14, 3)]);
}

#[test]
fn a_rewind_counts_messages_and_is_made_of_them_until_live_begins() {
    let hub = ring("mqmqqmq");
    let plan = hub.locate("c", None, Start::Rewind { count: 2, since_ms: i64::MIN }, 0);
    assert_eq!(plan.located.backlog, 2);
    let withheld = Withheld { had: plan.located.had, own: None };
    assert_eq!(given(&hub, plan.located.cursor, Kinds::ALL, &withheld), [(15, 2)]);
    put(&hub, 0, 3, b"live");
    assert_eq!(given(&hub, plan.located.cursor, Kinds::ALL, &withheld), [(15, 2), (15, 1)]);
    assert_eq!(hub.occupancy("c").unwrap().messages, 4);
}

#[test]
fn nobody_is_rewound_to_presence() {
    let hub = ring("qqq");
    let plan = hub.locate("c", None, Start::Rewind { count: 2, since_ms: i64::MIN }, 0);
    assert_eq!((plan.located.cursor, plan.located.backlog), (3, 0));
}

#[test]
fn a_position_speaks_of_messages_alone() {
    let (hub, quiet) = (ring("mq"), ring("m"));
    assert_eq!(hub.position("c", 0), quiet.position("c", 0));
    assert_eq!(hub.locate("c", Some(&quiet.position("c", 0)), Start::Live, 0).located.outcome, Outcome::Resumed);
}

#[test]
fn a_resume_begins_with_the_first_message_missed() {
    let hub = ring("mmqmqm");
    let serials: Vec<String> = (1..=4).map(|n| ring(&"m".repeat(n)).position("c", 0)).collect();
    let resumed = |serial: &str| {
        let located = hub.locate("c", Some(serial), Start::Live, 0).located;
        assert!(located.outcome == Outcome::Resumed && located.had.is_none());
        (located.cursor, located.backlog)
    };
    assert_eq!(serials.iter().map(|serial| resumed(serial)).collect::<Vec<_>>(), [(1, 3), (3, 2), (5, 1), (6, 0)]);
}
