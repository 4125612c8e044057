use super::*;
use crate::message::{Fields, Form};
use crate::partition::{Partition, Partitions};
use std::sync::Arc;

mod mqtt;

fn partition() -> Arc<Partition> {
    Partitions::default().assign("orders", [1; 16], 2, 0).unwrap()
}

const CREATED: (Kind, u8) = (Kind::Message, 0);

const FIELDS: Fields<'static> = [
    Some("c:0:0"),
    Some("a \"name\""),
    Some("utf-8/cipher"),
    Some("bob"),
    Some("c"),
    Some(r#"{"headers":{"x":1}}"#),
    None,
];

fn published(form: Form, data: &[u8]) -> Message {
    Message::new(partition(), (9, 1_700_000_000_000), CREATED, form, data, Some(&FIELDS))
}

fn plain(data: &[u8]) -> Message {
    Message::new(partition(), (9, 5), CREATED, Form::Plain, data, None)
}

fn json(message: &Message) -> serde_json::Value {
    serde_json::from_slice(message.encoded(Wire::Json).0).unwrap()
}

#[test]
fn a_plain_record_is_told_by_its_place() {
    let message = json(&plain(b"[1]"));
    let expected = serde_json::json!({
        "id": "orders:2:9", "timestamp": 5, "serial": "0000000000000009-2-orders", "data": "[1]", "encoding": "json"
    });
    assert_eq!(message, expected);
}

#[test]
fn a_published_message_keeps_what_its_publisher_said() {
    let message = json(&published(Form::Text, "hi\n\u{1F600}".as_bytes()));
    assert_eq!(message["id"], "c:0:0");
    assert_eq!(message["name"], "a \"name\"");
    assert_eq!(message["data"], "hi\n\u{1F600}");
    assert_eq!(message["encoding"], "utf-8/cipher");
    assert_eq!(message["extras"]["headers"]["x"], 1);
}

#[test]
fn binary_is_base64_on_json_only() {
    let message = published(Form::Binary, b"\x00\xFF");
    assert_eq!(json(&message)["data"], "AP8=");
    assert_eq!(json(&message)["encoding"], "utf-8/cipher/base64");
    let packed = message.encoded(Wire::Msgpack).0;
    assert!(packed.windows(9).any(|window| window == b"\xA4data\xC4\x02\x00\xFF"));
}

#[test]
fn msgpack_counts_its_fields() {
    let bytes = Message::new(partition(), (9, 5), CREATED, Form::None, b"", None).encoded(Wire::Msgpack).0.to_vec();
    assert_eq!(bytes, b"\x83\xA2id\xAAorders:2:9\xA9timestamp\x05\xA6serial\xB90000000000000009-2-orders");
}

#[test]
fn a_frame_is_one_websocket_message_of_any_length() {
    for size in [0, 10, 200, 70_000] {
        let message = plain("x".repeat(size).as_bytes());
        let frame = Wire::Json.frame(Kind::Message, "c", (&["s".to_owned()], &[]), &[message.encoded(Wire::Json).0]).0;
        assert_eq!(frame[0], 0x81);
        let (length, header) = match frame[1] {
            126 => (usize::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
            127 => (u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize, 10),
            short => (usize::from(short), 2),
        };
        assert_eq!(frame.len(), header + length);
        let parsed: serde_json::Value = serde_json::from_slice(&frame[header..]).unwrap();
        assert_eq!(parsed["channelSerial"], "s");
        assert_eq!(parsed["messages"][0]["data"].as_str().unwrap().len(), size);
    }
}

#[test]
fn an_encoding_is_made_once() {
    let message = published(Form::None, b"");
    let made = message.encoded(Wire::Json).1;
    assert!(made >= message.encoded(Wire::Json).0.len());
    assert_eq!(message.encoded(Wire::Json).1, 0);
}

#[test]
fn a_close_reason_fits_a_control_frame_and_stays_text() {
    let frame = websocket::close(1008, &"é".repeat(100));
    assert!(frame.len() <= 127);
    assert!(std::str::from_utf8(&frame[4..]).is_ok());
    assert_eq!(websocket::close(0, "ignored"), [0x88, 0]);
}
