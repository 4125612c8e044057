//! PUBLISH packets, read back by a library that others have written.

use mqtt_protocol_core::mqtt::packet::{Property, Qos, v3_1_1, v5_0};
use proptest::prelude::*;

use super::*;
use crate::change::{APPEND, DELETE, SUMMARY, UPDATE};
use crate::message::{FIELDS, Field};

const V5: Mqtt = Mqtt { v5: true, framed: false, acknowledged: false, retain: false, subscription: 0 };

/// A message with some fields.
fn message(form: Form, data: &[u8], said: &[(Field, &str)]) -> Message {
    acted(0, form, data, said)
}

fn acted(action: u8, form: Form, data: &[u8], said: &[(Field, &str)]) -> Message {
    let mut fields: Fields<'_> = [None; FIELDS];
    for (field, text) in said {
        fields[*field as usize] = Some(text);
    }
    Message::new(partition(), (9, 5_000), (Kind::Message, action), form, data, Some(&fields))
}

fn frame(mqtt: Mqtt, topic: &str, messages: &[Message], wall_ms: i64) -> (Arc<[u8]>, Packets) {
    let parts: Vec<_> = messages.iter().map(|message| Wire::Mqtt(mqtt).message(message, wall_ms)).collect();
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let of = |(number, message): (u64, &Message)| Of::new(number, message);
    let places: Vec<_> = (0..).zip(messages).map(of).collect();
    let (bytes, packets) = Wire::Mqtt(mqtt).frame(Kind::Message, topic, (&[], &places), &parts);
    (bytes, packets.unwrap())
}

/// First byte and content of each packet.
fn split(mut bytes: &[u8]) -> Vec<(u8, Arc<[u8]>)> {
    let mut found = Vec::new();
    while let [first, rest @ ..] = bytes {
        let size = rest.iter().position(|byte| *byte < 0x80).unwrap() + 1;
        let length = rest[..size].iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7F));
        found.push((*first, rest[size..size + length].into()));
        bytes = &rest[size + length..];
    }
    found
}

fn v5(mqtt: Mqtt, message: &Message, wall_ms: i64) -> v5_0::Publish {
    let (bytes, packets) = frame(mqtt, "a/b", std::slice::from_ref(message), wall_ms);
    let [(first, content)] = &split(&bytes)[..] else { panic!("it is one") };
    assert_eq!((packets.list[0].end as usize, packets.largest), (bytes.len(), bytes.len()));
    let (read, length) = v5_0::Publish::parse(first & 0x0F, Arc::clone(content)).unwrap();
    assert_eq!((length, read.to_continuous_buffer()), (content.len(), bytes.to_vec()), "there is one way to write it");
    read
}

fn user(publish: &v5_0::Publish) -> Vec<(String, String)> {
    let pairs = publish.props().iter().filter_map(|property| match property {
        Property::UserProperty(pair) => Some((pair.key().to_owned(), pair.val().to_owned())),
        _ => None,
    });
    pairs.collect()
}

fn texts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn what_a_payload_is_is_said_where_there_is_a_word_for_it() {
    let said = |publish: &v5_0::Publish| {
        let (mut is_text, mut content_type) = (false, None);
        for property in publish.props() {
            match property {
                Property::PayloadFormatIndicator(value) => is_text = value.val() == 1,
                Property::ContentType(value) => content_type = Some(value.val().to_owned()),
                _ => {}
            }
        }
        (is_text, content_type)
    };
    let json = Some("application/json".to_owned());
    let cipher = "utf-8/cipher+aes-128-cbc";
    for (form, data, encoding, expected, left) in [
        (Form::Text, &b"hi"[..], None, (true, None), None),
        (Form::Plain, b"[1]", None, (true, json.clone()), None),
        (Form::Text, b"[1]", Some("json"), (true, json), None),
        (Form::Binary, b"\0\xFF", None, (false, None), None),
        (Form::Binary, b"\0\xFF", Some(cipher), (false, None), Some(cipher)),
        (Form::Text, b"AP8", Some("vcdiff"), (true, None), Some("vcdiff")),
        (Form::None, b"", None, (false, None), None),
    ] {
        let fields: Vec<_> = encoding.map(|encoding| (Field::Encoding, encoding)).into_iter().collect();
        let publish = v5(V5, &message(form, data, &fields), 0);
        assert_eq!((publish.payload().as_slice(), said(&publish)), (data, expected));
        let told = user(&publish).into_iter().find(|(name, _)| name == "fanout-encoding");
        assert_eq!(told.map(|(_, value)| value).as_deref(), left);
    }
}

#[test]
fn what_a_message_has_beside_its_payload_is_said_in_properties() {
    let extras = r#"{"headers":{"z":"1","a":2,"many":["x","y"],"odd":["x",1]},"mqtt":{"retain":true}}"#;
    let fields = [(Field::Id, "i"), (Field::Name, "n"), (Field::ClientId, "bob"), (Field::Extras, extras)];
    let publish = v5(Mqtt { subscription: 300, ..V5 }, &acted(UPDATE, Form::Text, b"x", &fields), 0);
    let headers = [("z", "1"), ("a", "2"), ("many", "x"), ("many", "y"), ("odd", "x"), ("odd", "1")];
    let known = [("fanout-name", "n"), ("fanout-client-id", "bob"), ("fanout-action", "update")];
    assert_eq!(user(&publish), texts(&[&headers[..], &known].concat()));
    let is_it = |property: &Property| matches!(property, Property::SubscriptionIdentifier(id) if id.val() == 300);
    assert!(publish.props().iter().any(is_it));
    assert!(!publish.retain(), "nobody asked for that");
    assert!(v5(Mqtt { retain: true, ..V5 }, &message(Form::None, b"", &[(Field::Extras, extras)]), 0).retain());
}

#[test]
fn what_a_publisher_on_mqtt_said_comes_back_as_it_was() {
    let extras = r#"{"headers":{"left":"out"},"mqtt":{"contentType":"a/b","responseTopic":"re/ply","correlationData":"AP8=",
        "userProperties":[["b","1"],["a","2"],["b","3"]]}}"#;
    let publish = v5(V5, &message(Form::Plain, b"[]", &[(Field::Id, "i"), (Field::Extras, extras)]), 0);
    let expected = texts(&[("b", "1"), ("a", "2"), ("b", "3")]);
    assert_eq!(user(&publish), expected);
    let mut found = 0;
    for property in publish.props() {
        found += match property {
            Property::ContentType(value) => usize::from(value.val() == "a/b"),
            Property::ResponseTopic(value) => usize::from(value.val() == "re/ply"),
            Property::CorrelationData(value) => usize::from(value.val() == b"\0\xFF"),
            _ => 0,
        };
    }
    assert_eq!(found, 3);
}

#[test]
fn what_no_publisher_called_text_is_not_called_so() {
    let called = |extras: &[(Field, &str)]| {
        let publish = v5(V5, &message(Form::Text, b"{}", &[&[(Field::Encoding, "json")], extras].concat()), 0);
        publish.props().iter().any(|property| matches!(property, Property::PayloadFormatIndicator(_)))
    };
    assert!(called(&[]));
    assert!(!called(&[(Field::Extras, r#"{"mqtt":{"payloadFormat":0}}"#)]));
}

#[test]
fn extras_that_make_no_sense_are_left_out() {
    for extras in
        ["[]", "{", "null", r#"{"headers":[],"mqtt":7}"#, r#"{"mqtt":{"correlationData":"!","userProperties":[[1]]}}"#]
    {
        let publish = v5(V5, &message(Form::Text, b"x", &[(Field::Id, "i"), (Field::Extras, extras)]), 0);
        assert!(user(&publish).is_empty());
    }
    let long = "x".repeat(70_000);
    let extras = format!(r#"{{"headers":{{"long":"{long}","nul":"a\u0000b"}}}}"#);
    let publish = v5(V5, &message(Form::Text, b"x", &[(Field::Id, "i"), (Field::Extras, &extras)]), 0);
    assert_eq!(user(&publish), texts(&[("nul", "a\u{1A}b")]));
}

#[test]
fn what_the_node_says_of_a_message_is_said_by_nobody_else() {
    for extras in [
        r#"{"headers":{"fanout-client-id":"admin","fanout-name":["n"],"fanout-action":"update","h":"1"}}"#,
        r#"{"mqtt":{"userProperties":[["fanout-client-id","admin"],["fanout-encoding","x"],["h","1"]]}}"#,
    ] {
        let publish = v5(V5, &message(Form::Text, b"x", &[(Field::Extras, extras)]), 0);
        assert_eq!(user(&publish), texts(&[("h", "1")]));
    }
}

#[test]
fn a_response_topic_that_is_none_is_left_out() {
    for topic in ["", "a/+", "#"] {
        let extras = format!(r#"{{"mqtt":{{"responseTopic":"{topic}"}}}}"#);
        let publish = v5(V5, &message(Form::Text, b"x", &[(Field::Extras, &extras)]), 0);
        assert!(!publish.props().iter().any(|property| matches!(property, Property::ResponseTopic(_))));
    }
}

#[test]
fn a_message_is_given_as_long_as_its_publisher_wants_and_says_how_long_that_is() {
    // Written at 5 s.
    let limited = message(Form::Text, b"x", &[(Field::Extras, r#"{"mqtt":{"expiry":10}}"#)]);
    let left = |wall_ms| {
        v5(V5, &limited, wall_ms).props().iter().find_map(|property| match property {
            Property::MessageExpiryInterval(value) => Some(value.val()),
            _ => None,
        })
    };
    let all = [4_000, 5_000, 5_002, 7_000, 7_001, 14_999].map(left);
    assert_eq!(all, [10, 10, 10, 8, 8, 1].map(Some), "whole seconds, the last of them until it is over");
    let wire = Wire::Mqtt(V5);
    assert!(wire.has(&limited, 14_999) && !wire.has(&limited, 15_000) && Wire::Json.has(&limited, 15_000));
    assert!(wire.is_passing(&limited) && !Wire::Json.is_passing(&limited));
    assert!(!wire.is_passing(&message(Form::Text, b"x", &[(Field::Extras, r#"{"mqtt":{"expiry":"soon"}}"#)])));
}

#[test]
fn only_publications_and_their_newer_versions_have_packets() {
    let has = |action| Wire::Mqtt(V5).has(&acted(action, Form::Text, b"x", &[]), 0);
    assert_eq!([0, UPDATE, APPEND, DELETE, SUMMARY].map(has), [true, true, true, false, false]);
}

proptest! {
    #[test]
    fn packets_are_read_back_by_others(
        payloads in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            (16_000usize..17_000).prop_map(|size| vec![b'x'; size]),
        ], 1..5),
        topic in "[a-zé/]{1,200}",
        is_v5: bool,
        acknowledged: bool,
        once in prop::collection::vec(any::<bool>(), 5),
    ) {
        let mqtt = Mqtt { acknowledged, ..Mqtt::new(is_v5, false) };
        let extras = |once: &bool| if *once { r#"{"mqtt":{"qos":0}}"# } else { "{}" };
        let messages: Vec<_> =
            payloads.iter().zip(&once).map(|(data, once)| message(Form::Binary, data, &[(Field::Extras, extras(once))])).collect();
        let (bytes, packets) = frame(mqtt, &topic, &messages, 0);
        // As a connection is given them.
        let mut own = Envelope::with_capacity(false, 0);
        let mut begin = 0;
        for (packet, id) in packets.list.iter().zip(7..) {
            own.copy(&bytes, begin, packet, id, true);
            begin = packet.end as usize;
        }
        let all = split(&own.close().0);
        prop_assert_eq!(all.len(), payloads.len());
        for (((first, content), payload), (id, once)) in all.into_iter().zip(&payloads).zip((7..).zip(&once)) {
            let expected = if acknowledged && !once { (Some(id), true) } else { (None, false) };
            let qos = if expected.1 { Qos::AtLeastOnce } else { Qos::AtMostOnce };
            if is_v5 {
                let (read, _) = v5_0::Publish::parse(first & 0x0F, content).unwrap();
                prop_assert_eq!((read.topic_name(), read.payload().as_slice()), (&*topic, &payload[..]));
                prop_assert_eq!(((read.packet_id(), read.dup()), read.qos()), (expected, qos));
            } else {
                let (read, _) = v3_1_1::Publish::parse(first & 0x0F, content).unwrap();
                prop_assert_eq!((read.topic_name(), read.payload().as_slice()), (&*topic, &payload[..]));
                prop_assert_eq!(((read.packet_id(), read.dup()), read.qos()), (expected, qos));
            }
        }
    }
}
