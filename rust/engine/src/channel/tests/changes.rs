//! Messages that are changed and annotated, as subscribers and those who look back are shown them.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::channel::{Ask, Given, Start, Withheld};
use crate::hub::{Hub, PageQuery, Routing, Settings};
use crate::kind::{Kind, Kinds};
use crate::limits::VERSION_BYTES_MAX;
use crate::record::{Header, Record};
use crate::route::Rules;
use crate::wire::Wire;

/// The message that is changed: the record at offset 0.
const SERIAL: &str = "0000000000000000-0-t";

fn node() -> Hub {
    let hub = Hub::new(Settings { key: [3; 16], history_ms: 1000, history_bytes: 64 << 20 });
    hub.set_rules(Rules::new([("t", "c")]).unwrap());
    hub.assign("t", [1; 16], 0, 0).unwrap();
    hub
}

type Headers<'a> = Vec<(&'a str, &'a str)>;

fn put(hub: &Hub, offset: i64, value: &str, headers: &Headers<'_>) {
    let headers: Vec<_> = headers.iter().map(|(name, value)| Header { name, value: Some(value.as_bytes()) }).collect();
    let (key, value) = (Some(&b"c"[..]), Some(value.as_bytes()));
    let record =
        Record { topic: "t", partition: 0, offset, epoch: 0, timestamp: 100 + offset, key, value, headers: &headers };
    assert_eq!(hub.ingest([(record, Routing::Rules)].into_iter(), 0), 0);
}

fn create(hub: &Hub) {
    put(hub, 0, "one", &vec![("fanout.type", "text"), ("fanout.name", "n"), ("fanout.clientId", "ann")]);
}

fn change<'a>(action: &'a str, more: &[(&'a str, &'a str)]) -> Headers<'a> {
    [&[("fanout.type", "text"), ("fanout.action", action), ("fanout.serial", SERIAL)], more].concat()
}

fn annotate<'a>(said: &'a str, client: &'a str) -> Headers<'a> {
    change("annotation", &[("fanout.annotation", said), ("fanout.clientId", client)])
}

/// A subscriber: where it is, and everything it was given.
struct Reader {
    cursor: u64,
    since: u64,
    withheld: Withheld,
    kinds: Kinds,
    given: Vec<Value>,
}

impl Reader {
    fn new(hub: &Hub, start: Start, kinds: Kinds) -> Self {
        let located = hub.locate("c", None, start, 0).located;
        let withheld = Withheld { had: located.had, own: None };
        Self { cursor: located.cursor, since: located.since, withheld, kinds, given: Vec::new() }
    }

    fn live(hub: &Hub) -> Self {
        Self::new(hub, Start::Live, Kinds::MESSAGES)
    }

    /// What has come since it last looked.
    fn news(&mut self, hub: &Hub) -> Vec<Value> {
        let channel = hub.channel("c", 0);
        let before = self.given.len();
        loop {
            let Self { cursor: from, since, kinds, .. } = *self;
            let ask = Ask { kinds, since, ..Ask::plain(Wire::Json, from) };
            if self.withheld.had.as_ref().is_some_and(|had| had.is_past(from)) {
                self.withheld.had = None;
            }
            match channel.own_frame(&ask, &self.withheld, &hub.context()) {
                Given::Frame(frame) => {
                    let start = frame.bytes.windows(2).position(|pair| pair == b"{\"").unwrap();
                    let mut read: Value = serde_json::from_slice(&frame.bytes[start..]).unwrap();
                    for items in ["messages", "annotations"] {
                        if let Some(items) = read.get_mut(items) {
                            self.given.append(items.as_array_mut().unwrap());
                        }
                    }
                    self.cursor = frame.to;
                }
                Given::Skipped(to) => self.cursor = to,
                Given::Nothing => return self.given[before..].to_vec(),
                Given::Conflated | Given::Lost => panic!("nothing was dropped"),
            }
        }
    }
}

fn brief(messages: &[Value]) -> Vec<(u64, &str)> {
    let action = |message: &Value| message["action"].as_u64().unwrap_or(0);
    messages.iter().map(|message| (action(message), message["data"].as_str().unwrap_or_default())).collect()
}

fn now(hub: &Hub) -> Vec<Value> {
    let query = PageQuery {
        kind: Kind::Message,
        start_ms: 0,
        end_ms: i64::MAX,
        forwards: true,
        limit: 100,
        cursor: None,
        until: None,
    };
    let page = hub.page("c", &query).unwrap();
    page.messages.iter().map(|message| serde_json::from_slice(message.encoded(Wire::Json).0).unwrap()).collect()
}

#[test]
fn an_update_says_all_that_is_so_now() {
    let hub = node();
    create(&hub);
    let mut reader = Reader::live(&hub);
    let said = r#"{"clientId":"bob","description":"typo","metadata":{"a":"b"}}"#;
    put(&hub, 1, "two", &change("update", &[("fanout.version", said), ("fanout.id", "x:0")]));
    let expected = json!({
        "id": "x:0", "timestamp": 100, "serial": SERIAL, "action": 1, "name": "n", "data": "two", "clientId": "ann",
        "version": {"serial": "0000000000000001-0-t", "timestamp": 101, "clientId": "bob", "description": "typo",
            "metadata": {"a": "b"}},
    });
    assert_eq!(reader.news(&hub), std::slice::from_ref(&expected));
    assert_eq!(now(&hub), [expected]);
}

#[test]
fn what_a_change_does_not_name_stays() {
    let hub = node();
    create(&hub);
    let mut reader = Reader::live(&hub);
    let none = [("fanout.action", "delete"), ("fanout.serial", SERIAL), ("fanout.type", "none"), ("fanout.name", "m")];
    put(&hub, 1, "", &none.to_vec());
    put(&hub, 2, "two", &change("update", &[("fanout.extras", r#"{"x":1}"#)]));
    let given = reader.news(&hub);
    assert_eq!(brief(&given), [(2, "one"), (1, "two")]);
    assert_eq!((&given[1]["name"], &given[1]["extras"]), (&json!("m"), &json!({"x": 1})));
}

#[test]
fn an_append_is_a_piece_for_who_has_the_rest_and_an_update_for_others() {
    let hub = node();
    let mut early = Reader::live(&hub);
    create(&hub);
    put(&hub, 1, "+a", &change("append", &[]));
    let mut late = Reader::live(&hub);
    put(&hub, 2, "+b", &change("append", &[]));
    put(&hub, 3, "+c", &change("append", &[]));
    assert_eq!(brief(&early.news(&hub)), [(0, "one"), (5, "+a"), (5, "+b"), (5, "+c")]);
    assert_eq!(brief(&late.news(&hub)), [(1, "one+a+b"), (5, "+c")]);
    put(&hub, 4, "two", &change("update", &[]));
    put(&hub, 5, "+d", &change("append", &[]));
    for reader in [&mut early, &mut late] {
        assert_eq!(brief(&reader.news(&hub)), [(1, "two"), (5, "+d")]);
    }
    assert_eq!(brief(&now(&hub)), [(1, "two+d")]);
}

#[test]
fn who_rewinds_is_shown_each_message_once_in_its_newest_version() {
    let hub = node();
    create(&hub);
    put(&hub, 1, "other", &vec![("fanout.type", "text")]);
    put(&hub, 2, "+a", &change("append", &[]));
    let rewound = |count| Reader::new(&hub, Start::Rewind { count, since_ms: 0 }, Kinds::MESSAGES);
    let mut reader = rewound(2);
    put(&hub, 3, "+b", &change("append", &[]));
    let given = reader.news(&hub);
    assert_eq!(brief(&given), [(1, "one+a"), (0, "other"), (1, "one+a+b")], "it was not given what `+b` goes behind");
    assert_eq!(given[0]["version"]["serial"], "0000000000000002-0-t");
    put(&hub, 4, "+c", &change("append", &[]));
    assert_eq!(brief(&reader.news(&hub)), [(5, "+c")]);
    assert_eq!(brief(&rewound(1).news(&hub)), [(0, "other")]);
}

#[test]
fn data_that_do_not_fit_behind_each_other_take_each_others_place() {
    let hub = node();
    create(&hub);
    let mut reader = Reader::live(&hub);
    let binary = [("fanout.action", "append"), ("fanout.serial", SERIAL), ("fanout.type", "binary")];
    put(&hub, 1, "x", &binary.to_vec());
    let given = reader.news(&hub);
    assert_eq!(
        (&given[0]["action"], &given[0]["data"], &given[0]["encoding"]),
        (&json!(1), &json!("eA=="), &json!("base64"))
    );
}

#[test]
fn a_record_that_holds_the_whole_is_enough_for_who_holds_nothing() {
    let hub = node();
    let whole =
        [("fanout.timestamp", "77"), ("fanout.appended", "2"), ("fanout.name", "n"), ("fanout.clientId", "ann")];
    put(&hub, 5, "one+a", &change("append", &whole));
    put(&hub, 6, "+b", &change("append", &[]));
    let mut reader = Reader::new(&hub, Start::Live, Kinds::MESSAGES);
    (reader.cursor, reader.since) = (0, 0);
    let given = reader.news(&hub);
    assert_eq!(brief(&given), [(1, "one+a"), (5, "+b")]);
    assert_eq!((&given[0]["timestamp"], &given[0]["clientId"]), (&json!(77), &json!("ann")));
    let known = hub.channel("c", 0).known(SERIAL).unwrap();
    assert_eq!(known.whole_ms, 105);
}

#[test]
fn of_what_nobody_holds_the_record_is_passed_on_as_it_is() {
    let hub = node();
    put(&hub, 5, "+b", &change("append", &[]));
    let mut reader = Reader::live(&hub);
    (reader.cursor, reader.since) = (0, 0);
    assert_eq!(brief(&reader.news(&hub)), [(5, "+b")]);
    assert!(hub.channel("c", 0).known(SERIAL).unwrap().message.is_none());
}

#[test]
fn a_message_does_not_grow_without_end() {
    let hub = node();
    create(&hub);
    let piece = "x".repeat(VERSION_BYTES_MAX / 4);
    for offset in 1..10 {
        put(&hub, offset, &piece, &change("append", &[]));
    }
    assert!(now(&hub)[0]["data"].as_str().unwrap().len() <= VERSION_BYTES_MAX);
    assert_eq!(hub.stats.changes_refused.get(), 6);
}

#[test]
fn what_cannot_be_told_is_counted_and_left_out() {
    let hub = node();
    for (offset, headers) in [
        vec![("fanout.action", "unheard-of"), ("fanout.serial", SERIAL)],
        vec![("fanout.action", "update")],
        change("annotation", &[]),
        change("annotation", &[("fanout.annotation", r#"{"action":2,"type":"t"}"#)]),
    ]
    .iter()
    .enumerate()
    {
        put(&hub, offset as i64, "x", headers);
    }
    assert_eq!(hub.stats.changes_refused.get(), 4);
    assert_eq!(hub.channel("c", 0).end(), 0);
}

#[test]
fn annotations_come_to_a_summary_which_a_burst_makes_few_of() {
    let hub = node();
    let mut plain = Reader::live(&hub);
    let mut curious = Reader::new(&hub, Start::Live, Kinds::ANNOTATIONS);
    create(&hub);
    for (offset, client) in [(1, "ann"), (2, "bob")] {
        put(&hub, offset, "", &annotate(r#"{"action":0,"type":"vote:distinct.v1","name":"up"}"#, client));
    }
    let given = plain.news(&hub);
    let summary = json!({"vote:distinct.v1": {"up": {"total": 2, "clientIds": ["ann", "bob"], "clipped": false}}});
    assert_eq!(brief(&given), [(0, "one"), (4, "")]);
    assert_eq!((&given[1]["serial"], &given[1]["annotations"]["summary"]), (&json!(SERIAL), &summary));
    let given = curious.news(&hub);
    assert_eq!(given.len(), 2);
    assert_eq!(
        (&given[0]["messageSerial"], &given[0]["name"], &given[0]["clientId"]),
        (&json!(SERIAL), &json!("up"), &json!("ann"))
    );
    assert!(given[0]["serial"].as_str().unwrap() > SERIAL);
    assert_eq!(now(&hub)[0]["annotations"]["summary"], summary);
}

#[test]
fn who_breaks_off_between_summary_and_annotation_is_given_the_annotation() {
    let hub = node();
    create(&hub);
    put(&hub, 1, "", &annotate(r#"{"action":0,"type":"likes:total.v1"}"#, "ann"));
    let channel = hub.channel("c", 0);
    let ask = Ask { since: 1, ..Ask::plain(Wire::Json, 1) };
    let Given::Frame(frame) = channel.frame(&ask, &hub.context()) else { panic!("there is a summary") };
    let start = frame.bytes.windows(2).position(|pair| pair == b"{\"").unwrap();
    let read: Value = serde_json::from_slice(&frame.bytes[start..]).unwrap();
    assert_eq!(read["messages"][0]["action"], 4);
    let again = hub.locate("c", Some(read["channelSerial"].as_str().unwrap()), Start::Live, 0).located;
    let ask = Ask { kinds: Kinds::ANNOTATIONS, from: again.cursor, since: again.since, ..ask };
    assert!(matches!(channel.frame(&ask, &hub.context()), Given::Frame(frame) if frame.messages == 1));
}

#[test]
fn a_summary_is_told_only_where_all_annotations_are_known() {
    let hub = node();
    put(&hub, 5, "", &annotate(r#"{"action":0,"type":"likes:total.v1"}"#, "ann"));
    assert_eq!(hub.channel("c", 0).end(), 1, "the annotation alone");
    let state = r#"{"likes:total.v1":{"":{"u":7}}}"#;
    let mut headers = annotate(r#"{"action":0,"type":"likes:total.v1"}"#, "ann");
    headers.push(("fanout.summary", state));
    put(&hub, 6, "", &headers);
    let known = hub.channel("c", 0).known(SERIAL).unwrap();
    assert_eq!(known.summary.unwrap().shown(None), json!({"likes:total.v1": {"total": 8}}));
    assert_eq!(known.summary_ms, 106);
}

#[test]
fn all_that_was_held_is_given_back() {
    let hub = node();
    create(&hub);
    let memory = |hub: &Hub| hub.gauges()[1].1;
    hub.sweep(10_000);
    let before = memory(&hub);
    let hub = node();
    create(&hub);
    for offset in 1..20 {
        match offset % 3 {
            0 => put(&hub, offset, "", &annotate(r#"{"action":0,"type":"seen:flag.v1"}"#, &format!("c{offset}"))),
            1 => put(&hub, offset, "+x", &change("append", &[])),
            _ => put(&hub, offset, "new", &change("update", &[])),
        }
    }
    let channel = hub.channel("c", 0);
    hub.sweep(10_000);
    assert_eq!((channel.held(), memory(&hub)), ((0, 0), before));
    assert!(channel.known(SERIAL).is_none());
}

#[derive(Debug, Clone)]
enum Step {
    Change(&'static str, String),
    Annotate(bool, &'static str, &'static str),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (prop::sample::select(vec!["update", "delete", "append"]), "[a-c]{0,3}")
            .prop_map(|(action, text)| Step::Change(action, text)),
        (
            any::<bool>(),
            prop::sample::select(vec!["total", "flag", "distinct", "unique", "multiple"]),
            prop::sample::select(vec!["ann", "bob"])
        )
            .prop_map(|(deletes, method, client)| Step::Annotate(deletes, method, client)),
    ]
}

fn apply(hub: &Hub, offset: i64, step: &Step) {
    match step {
        Step::Change(action, text) => put(hub, offset, text, &change(action, &[])),
        Step::Annotate(deletes, method, client) => {
            let said = json!({"action": u8::from(*deletes), "type": format!("x:{method}.v1"), "name": "n"}).to_string();
            put(hub, offset, "", &annotate(&said, client));
        }
    }
}

proptest! {
    /// One who reads along, one who comes in the middle, and one who looks back at the end come to the same.
    #[test]
    fn everybody_comes_to_the_same(steps in prop::collection::vec(step(), 1..20), cut in 0usize..20) {
        let hub = node();
        let mut along = Reader::live(&hub);
        let mut late = None;
        create(&hub);
        for (index, one) in steps.iter().enumerate() {
            if index == cut {
                late = Some(Reader::new(&hub, Start::Rewind { count: 9, since_ms: 0 }, Kinds::MESSAGES));
            }
            if index % 3 == 0 {
                along.news(&hub);
            }
            apply(&hub, index as i64 + 1, one);
        }
        along.news(&hub);
        let expected = now(&hub)[0].clone();
        let mut readers = vec![along];
        if let Some(mut late) = late {
            late.news(&hub);
            readers.push(late);
        }
        for reader in &readers {
            let (mut data, mut version, mut summary) = (String::new(), Value::Null, Value::Null);
            for message in &reader.given {
                let text = message["data"].as_str().unwrap_or_default();
                match message["action"].as_u64().unwrap_or(0) {
                    4 => summary = message["annotations"]["summary"].clone(),
                    5 => data.push_str(text),
                    _ => text.clone_into(&mut data),
                }
                if !message["version"].is_null() {
                    version = message["version"]["serial"].clone();
                }
                if !message["annotations"].is_null() {
                    summary = message["annotations"]["summary"].clone();
                }
            }
            prop_assert_eq!(data, expected["data"].as_str().unwrap_or_default());
            prop_assert_eq!(&version, &expected["version"]["serial"]);
            prop_assert_eq!(&summary, &expected["annotations"]["summary"]);
        }
    }

    /// Two nodes agree, however the records came to them.
    #[test]
    fn nodes_agree(steps in prop::collection::vec(step(), 1..20)) {
        let (one, two) = (node(), node());
        create(&one);
        for (index, step) in steps.iter().enumerate() {
            apply(&one, index as i64 + 1, step);
            now(&one);
        }
        create(&two);
        steps.iter().enumerate().for_each(|(index, step)| apply(&two, index as i64 + 1, step));
        prop_assert_eq!(now(&one), now(&two));
    }
}
