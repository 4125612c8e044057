//! What the node itself says.

use super::*;
use crate::channel::{Given, Occupancy};

#[test]
fn watchers_are_told_and_nobody_else_and_it_is_part_of_nothing() {
    let hub = node(1, 1 << 20);
    put(&hub, 0, 0, "c", 0);
    let position = hub.position("c", 0);
    let channel = hub.channel("c", 0);
    hub.inject("c", "[meta]x", "{}", (0, 7));
    hub.inject("nowhere", "[meta]x", "{}", (0, 7));
    assert_eq!((channel.entries(Kind::Meta).len(), counter(&hub, "injected")), (0, 0));
    channel.attached(Kinds::META);
    let inbox = hub.connect(Box::new(|| ()));
    channel.watch(inbox.bit());
    hub.inject("c", "[meta]x", r#"{"a":1}"#, (0, 7));
    hub.inject("c", "[meta]x", r#"{"a":2}"#, (0, 8));
    assert_eq!(inbox.take().len(), 1);
    let ask = Ask { kinds: Kinds::META, ..Ask::plain(Wire::Json, 0) };
    let Given::Frame(frame) = channel.frame(&ask, &hub.context()) else { panic!("there is one") };
    let begin = frame.bytes.windows(2).position(|pair| pair == b"{\"").unwrap();
    let frame: serde_json::Value = serde_json::from_slice(&frame.bytes[begin..]).unwrap();
    let items = frame["messages"].as_array().unwrap();
    let expected = serde_json::json!(
        {"id": "[meta]:0:0", "timestamp": 7, "name": "[meta]x", "data": "{\"a\":1}", "encoding": "json"}
    );
    assert_eq!(items[0], expected);
    assert_ne!(items[0]["id"], items[1]["id"]);
    assert_eq!((hub.position("c", 0), channel.occupancy().messages), (position, 1));
    hub.sweep(HISTORY_MS + 1);
    assert!(channel.entries(Kind::Meta).is_empty(), "it leaves memory as everything does");
}

#[test]
fn attachments_are_counted_by_what_they_may_do() {
    let hub = node(1, 1 << 20);
    let channel = hub.channel("c", 0);
    let every = Kinds::from_bits(127).unwrap();
    let all = [Kinds::NONE, Kinds::MESSAGES, Kinds::PUBLISH, Kinds::OWN_PRESENCE, Kinds::PRESENCE, Kinds::META, every];
    for kinds in all {
        channel.attached(kinds);
    }
    let expected = Occupancy {
        connections: 7,
        publishers: 2,
        subscribers: 2,
        presence_connections: 2,
        presence_subscribers: 2,
        watchers: 2,
        presence_members: 0,
        messages: 0,
    };
    assert_eq!(hub.occupancy("c"), Some(expected));
    for kinds in all {
        channel.detached(kinds);
    }
    assert_eq!(hub.occupancy("c"), Some(Occupancy::default()));
}
