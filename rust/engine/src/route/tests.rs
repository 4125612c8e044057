use super::*;
use crate::message::{Data, Field};
use crate::partition::Partitions;
use crate::record::Header;

fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>, headers: &'a [Header<'a>]) -> Record<'a> {
    Record { topic: "t", partition: 3, offset: 7, epoch: 0, timestamp: 99, key, value, headers }
}

fn channels(spec: Spec<'_>, record: &Record<'_>) -> Result<Vec<String>, Unrouted> {
    let rules = Rules::new([Spec { topic: "t", ..spec }]).unwrap();
    let mut scratch = Scratch::default();
    let routed = rules.of("t").unwrap().apply(record, &mut scratch)?;
    Ok(routed.channels().map(str::to_owned).collect())
}

fn route(channel: &str, key: Option<&[u8]>, value: &[u8], headers: &[Header<'_>]) -> Result<Vec<String>, Unrouted> {
    channels(Spec { channel, ..Spec::default() }, &record(key, Some(value), headers))
}

fn cause(result: Result<Vec<String>, Unrouted>) -> Cause {
    match result {
        Err(Unrouted::Failed(failure)) => failure.cause,
        other => panic!("{other:?} is no failure"),
    }
}

fn message(spec: Spec<'_>, record: &Record<'_>) -> Message {
    let rules = Rules::new([Spec { topic: "t", ..spec }]).unwrap();
    let rule = rules.of("t").unwrap();
    let mut scratch = Scratch::default();
    let routed = rule.apply(record, &mut scratch).unwrap();
    let partition = Partitions::default().assign("t", [1; 16], 3, 0).unwrap();
    rule.message(record, partition, &routed)
}

#[test]
fn a_template_is_filled_from_the_record() {
    let headers = [Header { name: "room", value: Some(b"7") }];
    assert_eq!(route("#{topic}:#{key}", Some(b"k"), b"", &[]).unwrap(), ["t:k"]);
    assert_eq!(route("#{partition}/#{timestamp}", None, b"", &[]).unwrap(), ["3/99"]);
    assert_eq!(route("#{partition}", None, b"", &[]).unwrap(), ["3"]);
    assert_eq!(route("r-#{header.room}", None, b"", &headers).unwrap(), ["r-7"]);
    assert_eq!(route("#{value.a.b}", None, br#"{"x":[1,{"a":2}],"a":{"b":"in","c":3}}"#, &[]).unwrap(), ["in"]);
    assert_eq!(route("u:#{value.id}!", None, br#"{"id":42}"#, &[]).unwrap(), ["u:42!"]);
    assert_eq!(route("#{key.a.b}-#{value.a}", Some(br#"{"a":{"b":1}}"#), br#"{"a":2}"#, &[]).unwrap(), ["1-2"]);
    assert_eq!(route("constant", None, b"", &[]).unwrap(), ["constant"]);
}

#[test]
fn a_list_gives_a_channel_for_each_of_its_elements() {
    let headers = [Header { name: "rooms", value: Some(b" a, b,,a ") }];
    assert_eq!(route("r:#{header.rooms[]}", None, b"", &headers).unwrap(), ["r:a", "r:b"]);
    assert_eq!(route("#{value.in[]}:#{key}", Some(b"k"), br#"{"in":["a",1,"a"]}"#, &[]).unwrap(), ["a:k", "1:k"]);
    assert_eq!(route("#{key.in[]}", Some(br#"{"in":["a"]}"#), b"", &[]).unwrap(), ["a"]);
    assert_eq!(route("#{value.in[]}", None, br#"{"in":[]}"#, &[]), Err(Unrouted::Nowhere));
    assert_eq!(cause(route("#{value.in[]}", None, br#"{"in":"a"}"#, &[])), Cause::Field);
    assert_eq!(cause(route("#{value.in[]}", None, br#"{"in":["a",":b"]}"#, &[])), Cause::Channel, "all or none");
    let list = |count: usize| format!("{{\"in\":{:?}}}", (0..count).collect::<Vec<_>>());
    assert_eq!(route("#{value.in[]}", None, list(64).as_bytes(), &[]).unwrap().len(), 64);
    assert_eq!(cause(route("#{value.in[]}", None, list(65).as_bytes(), &[])), Cause::Channel);
    assert_eq!(cause(route("#{value.in[]}", None, list(1000).as_bytes(), &[])), Cause::Channel);
}

#[test]
fn only_what_clients_published_reaches_a_realm() {
    let published = [Header { name: "fanout.type", value: Some(b"text") }];
    let key = Some(&b"app\x1froom"[..]);
    assert_eq!(route("#{key}", key, b"", &published).unwrap(), ["app\x1froom"]);
    assert_eq!(cause(route("#{key}", key, b"", &[])), Cause::Channel);
    let value = br#"{"id":"app\u001froom","ids":["a","app\u001froom"]}"#;
    assert_eq!(cause(route("#{value.id}", Some(b"k"), value, &[])), Cause::Channel);
    assert_eq!(cause(route("#{value.id}", Some(b"k"), value, &published)), Cause::Channel);
    assert_eq!(cause(route("#{value.ids[]}", Some(b"k"), value, &[])), Cause::Channel);
}

#[test]
fn a_long_field_beside_a_long_list_is_put_together_once() {
    let (long, list) = ("x".repeat(1 << 20), "a,".repeat(1 << 19));
    let headers = [Header { name: "l", value: Some(list.as_bytes()) }];
    let rules = Rules::new([("t", "#{key}#{header.l[]}")]).unwrap();
    let mut scratch = Scratch::default();
    let record = record(Some(long.as_bytes()), None, &headers);
    let failed = rules.of("t").unwrap().apply(&record, &mut scratch).unwrap_err();
    assert_eq!(failed, Failure::new(Cause::Channel, "the channel's name has 1048577 bytes").into());
    assert!(scratch.names.iter().count() == 0);
}

#[test]
fn a_record_that_lacks_what_is_asked_for_fails_by_its_cause() {
    assert_eq!(cause(route("#{key}", None, b"", &[])), Cause::Key);
    assert_eq!(cause(route("#{key}", Some(b"\xff"), b"", &[])), Cause::Key);
    assert_eq!(cause(route("#{key.a}", None, b"", &[])), Cause::Key);
    assert_eq!(cause(route("#{key.a}", Some(b"a"), b"", &[])), Cause::Key);
    assert_eq!(cause(route("#{key.a}", Some(b"{}"), b"", &[])), Cause::Field);
    assert_eq!(cause(route("#{header.x}", None, b"", &[])), Cause::Header);
    let no_text = [Header { name: "x", value: Some(b"\xff") }];
    assert_eq!(cause(route("#{header.x}", None, b"", &no_text)), Cause::Header);
    for value in [&b"{}"[..], br#"{"a":{}}"#, br#"{"a":null}"#, br#"{"a":[1]}"#, b"[]"] {
        assert_eq!(cause(route("#{value.a}", None, value, &[])), Cause::Field);
    }
    for value in [&b"not json"[..], b"", br#"{"a":"x"#, b"\xff"] {
        assert_eq!(cause(route("#{value.a}", None, value, &[])), Cause::Value);
    }
    let none = record(Some(b"k"), None, &[]);
    assert_eq!(cause(channels(Spec { channel: "#{value.a}", ..Spec::default() }, &none)), Cause::Value);
}

#[test]
fn an_impossible_channel_name_fails() {
    for key in [&b""[..], b":x", b"[meta]x", b"a\nb", &[b'x'; CHANNEL_NAME_MAX + 1]] {
        assert_eq!(cause(route("#{key}", Some(key), b"", &[])), Cause::Channel);
    }
}

#[test]
fn formats_are_asked_of_records_that_no_client_published() {
    let spec = |key, value| Spec { channel: "c", key, value, ..Spec::default() };
    let outcome = |key, value, bytes: &[u8]| channels(spec(key, value), &record(Some(bytes), Some(bytes), &[]));
    assert_eq!(cause(outcome(Format::Text, Format::Any, b"\xff")), Cause::Key);
    assert_eq!(cause(outcome(Format::Json, Format::Any, b"{")), Cause::Key);
    assert_eq!(cause(outcome(Format::Any, Format::Text, b"\xff")), Cause::Value);
    assert_eq!(cause(outcome(Format::Any, Format::Json, b"{")), Cause::Value);
    assert!(outcome(Format::Bytes, Format::Bytes, b"\xff").is_ok());
    assert!(outcome(Format::Json, Format::Json, b"{}").is_ok());
    let published = [Header { name: "fanout.type", value: Some(b"binary") }];
    assert!(channels(spec(Format::Json, Format::Json), &record(Some(b"{"), Some(b"{"), &published)).is_ok());
    let no_text = [Header { name: "fanout.type", value: Some(b"\xff") }];
    let failed = channels(spec(Format::Any, Format::Json), &record(None, Some(b"{"), &no_text));
    assert_eq!(cause(failed), Cause::Value, "nobody published it");
    let undecodable = [Header { name: "fanout.undecodable", value: Some(b"no such schema") }];
    let failed = channels(spec(Format::Any, Format::Decoded), &record(None, Some(b"x"), &undecodable));
    assert_eq!(failed, Err(Failure::new(Cause::Decoding, "no such schema").into()));
    assert!(channels(spec(Format::Any, Format::Json), &record(None, Some(b"1"), &undecodable)).is_ok());
}

#[test]
fn a_key_that_is_json_is_the_text_in_it() {
    let spec = Spec { channel: "#{key}", key: Format::Json, ..Spec::default() };
    assert_eq!(channels(spec, &record(Some(br#""a\u0062""#), None, &[])).unwrap(), ["ab"]);
    assert_eq!(channels(spec, &record(Some(b"5"), None, &[])).unwrap(), ["5"]);
    assert_eq!(cause(channels(spec, &record(Some(b"{}"), None, &[]))), Cause::Key);
    assert!(Rules::new([Spec { topic: "t", channel: "#{key}#{key.a}", ..spec }]).is_err());
}

#[test]
fn values_are_read_in_their_format() {
    let shown = |value, bytes: &[u8]| {
        let message = message(Spec { channel: "c", value, ..Spec::default() }, &record(None, Some(bytes), &[]));
        let (data, encoding) = message.data();
        (format!("{data:?}"), encoding.map(str::to_owned))
    };
    let json = Some("json".to_owned());
    assert_eq!(shown(Format::Any, b"[1]"), (format!("{:?}", Data::Json("[1]")), json.clone()));
    assert_eq!(shown(Format::Text, b"[1]"), (format!("{:?}", Data::Text("[1]")), None));
    assert_eq!(shown(Format::Bytes, b"[1]"), (format!("{:?}", Data::Binary(b"[1]")), None));
    assert_eq!(shown(Format::Json, b"42"), (format!("{:?}", Data::Json("42")), json.clone()));
    assert_eq!(shown(Format::Decoded, br#""x""#), (format!("{:?}", Data::Json(r#""x""#)), json));
}

#[test]
fn a_message_has_the_name_and_client_that_the_rule_gives_it() {
    let spec = Spec { channel: "c", name: Some("n-#{key}"), client_id: Some("#{value.by}"), ..Spec::default() };
    let named = message(spec, &record(Some(b"k"), Some(br#"{"by":"me"}"#), &[]));
    assert_eq!((named.field(Field::Name), named.field(Field::ClientId)), (Some("n-k"), Some("me")));
    assert_eq!(cause(channels(spec, &record(None, Some(br#"{"by":"me"}"#), &[]))), Cause::Key);
    let published =
        [Header { name: "fanout.type", value: Some(b"text") }, Header { name: "fanout.name", value: Some(b"own") }];
    let own = message(spec, &record(Some(b"k"), Some(br#"{"by":"me"}"#), &published));
    assert_eq!((own.field(Field::Name), own.field(Field::ClientId)), (Some("own"), None));
}

#[test]
fn a_tombstone_is_a_message_nothing_or_a_delete() {
    let none = record(Some(b"k"), None, &[]);
    let spec = |tombstone| Spec { channel: "#{key}", tombstone, ..Spec::default() };
    assert_eq!(channels(spec(Tombstone::Skip), &none), Err(Unrouted::Tombstone));
    let empty = message(spec(Tombstone::Message), &none);
    assert_eq!((empty.action, empty.data().0), (0, Data::None));
    let deleted = message(spec(Tombstone::Delete), &none);
    assert_eq!((deleted.action, deleted.data().0, deleted.is_publication()), (2, Data::None, true));
    let serial = deleted.serial();
    let more = format!(r#"{{"serial":"{serial}","version":{{"serial":"{serial}","timestamp":99}}}}"#);
    assert_eq!(deleted.field(Field::More), Some(&*more));
    assert_eq!(message(spec(Tombstone::Delete), &record(Some(b"k"), Some(b""), &[])).action, 0);
    let published = [Header { name: "fanout.type", value: Some(b"none") }];
    assert_eq!(message(spec(Tombstone::Delete), &record(Some(b"k"), None, &published)).action, 0);
    assert!(channels(spec(Tombstone::Skip), &record(Some(b"k"), None, &published)).is_ok());
}

#[test]
fn metadata_are_shown_if_the_rule_says_so() {
    let headers = [
        Header { name: "h", value: Some(b"first") },
        Header { name: "h", value: Some(b"second") },
        Header { name: "offset", value: Some(b"its own") },
        Header { name: "raw", value: Some(b"\xff") },
        Header { name: "none", value: None },
    ];
    let spec = Spec { channel: "c", expose: true, ..Spec::default() };
    let shown = message(spec, &record(Some(b"k"), Some(b"v"), &headers));
    let extras = r#"{"headers":{"h":"first","key":"k","offset":7,"partition":3,"topic":"t"}}"#;
    assert_eq!(shown.field(Field::Extras), Some(extras));
    let published = [
        Header { name: "fanout.type", value: Some(b"text") },
        Header { name: "fanout.extras", value: Some(br#"{"headers":{"a":1},"push":{}}"#) },
    ];
    let merged = message(spec, &record(Some(b"\xff"), Some(b"v"), &published));
    let extras = r#"{"headers":{"a":1,"offset":7,"partition":3,"topic":"t"},"push":{}}"#;
    assert_eq!(merged.field(Field::Extras), Some(extras));
}

#[test]
fn the_first_rule_with_the_topic_counts_unless_it_is_bound_to_another() {
    let rules = Rules::new([("a", "one"), ("a", "two"), ("x*", "three")]).unwrap();
    let name = |topic: &str| {
        let mut scratch = Scratch::default();
        let rule = rules.of(topic)?;
        let routed = rule.apply(&record(None, None, &[]), &mut scratch).unwrap();
        routed.channels().next().map(str::to_owned)
    };
    assert_eq!((name("a").as_deref(), name("b")), (Some("one"), None));
    rules.bind("xy", 2);
    rules.bind("a", 1);
    assert_eq!((name("xy").as_deref(), name("a").as_deref()), (Some("three"), Some("two")));
}

#[test]
fn every_failure_is_reported_unless_they_are_skipped() {
    let rules = |on_failure| Rules::new([Spec { topic: "t", channel: "c", on_failure, ..Spec::default() }]).unwrap();
    let skips = rules(OnFailure::Skip);
    let told =
        |rules: &Rules| [Cause::Key, Cause::Key, Cause::Value].map(|cause| rules.of("t").unwrap().reports(cause));
    assert_eq!(told(&skips), [true, false, true]);
    assert_eq!(told(&rules(OnFailure::Report)), [true, true, true]);
}

#[test]
fn a_bad_template_is_named() {
    for template in [
        "",
        "#{",
        "#{nothing}",
        "#{value.}",
        "#{header.}",
        "#{key[]}",
        "#{value.a..b}",
        "#{value.a}#{value.a.b}",
        "#{value.a}#{value.a[]}",
        "#{value.a[]}#{header.b[]}",
    ] {
        let error = Rules::new([("t", template)]).unwrap_err();
        assert!(error.contains(&format!("{template:?}")), "{error}");
    }
    let endless = Spec { topic: "t", channel: "c", linger_ms: 1_001, ..Spec::default() };
    assert!(Rules::new([endless]).unwrap_err().contains("at most 1000 ms"));
    let several = Spec { topic: "t", channel: "c", name: Some("#{value.a[]}"), ..Spec::default() };
    assert!(Rules::new([several]).unwrap_err().contains("#{value.a[]}"));
}

#[test]
fn which_channels_a_rule_may_make_is_known_without_a_record() {
    let may_be =
        |template: &str, name: &str| Rules::new([("t", template)]).unwrap().of("t").unwrap().shape("t").may_be(name);
    for (template, names, others) in [
        ("constant", &["constant"][..], &["constant:", ""][..]),
        ("#{key}", &["any", ""], &[]),
        ("#{topic}:#{key}", &["t:x", "t:"], &["u:x", "t"]),
        ("a-#{key}-b-#{value.x}-c", &["a-1-b-2-c", "a--b--c", "a-b-b-b-c"], &["a-b-c", "a-1-b-c", "x-1-b-2-c"]),
        ("aa#{key}aa", &["aaaa", "aaxaa"], &["aaa"]),
    ] {
        let judged = |names: &[&str]| names.iter().map(|name| may_be(template, name)).collect::<Vec<_>>();
        assert_eq!(judged(names), vec![true; names.len()], "{template}");
        assert_eq!(judged(others), vec![false; others.len()], "{template}");
    }
}
