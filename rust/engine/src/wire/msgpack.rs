//! The `msgpack` wire: the same maps as the `json` wire's, with text keys, integers for times, and `bin` for binary
//! data, which therefore needs no further encoding. (`MessagePack` specification, formats of 2013.)

use crate::kind::Kind;
use crate::message::{Data, Field, Message};

/// What a message has beside its content, roughly: more makes the buffer grow once.
const ENVELOPE_BYTES: usize = 192;

/// What is before the messages of a frame.
pub(super) fn head(out: &mut Vec<u8>, action: u8, channel: &str, serial: &str, (items, count): (&str, usize)) {
    map(out, 4);
    text(out, "action");
    out.push(action);
    text(out, "channel");
    text(out, channel);
    text(out, "channelSerial");
    text(out, serial);
    text(out, items);
    array(out, count);
}

pub(super) fn message(message: &Message) -> Vec<u8> {
    let (data, encoding) = message.data();
    let fields = [
        ("name", message.field(Field::Name)),
        ("encoding", encoding),
        ("clientId", message.field(Field::ClientId)),
        ("connectionId", message.field(Field::ConnectionId)),
    ];
    let extras = message.field(Field::Extras);
    let has_data = data != Data::None;
    let present = fields.iter().filter(|(_, value)| value.is_some()).count();
    let mut out = Vec::with_capacity(ENVELOPE_BYTES + message.size());
    let more: Option<serde_json::Map<String, serde_json::Value>> =
        message.field(Field::More).and_then(|more| serde_json::from_str(more).ok());
    let has_action = message.kind == Kind::Presence || more.is_some();
    let has_serial = message.kind.has_position() && (more.is_none() || message.kind != Kind::Message);
    let optional = [has_action, has_serial, has_data, extras.is_some()].into_iter().filter(|&is| is).count();
    map(&mut out, 2 + present + optional + more.as_ref().map_or(0, serde_json::Map::len));
    if has_action {
        text(&mut out, "action");
        integer(&mut out, i64::from(message.action));
    }
    text(&mut out, "id");
    text(&mut out, &message.id());
    text(&mut out, "timestamp");
    integer(&mut out, message.timestamp);
    if has_serial {
        text(&mut out, "serial");
        text(&mut out, &message.serial());
    }
    for (name, item) in more.iter().flatten() {
        text(&mut out, name);
        value(&mut out, item);
    }
    match data {
        Data::None => {}
        Data::Text(data) | Data::Json(data) => {
            text(&mut out, "data");
            text(&mut out, data);
        }
        Data::Binary(data) => {
            text(&mut out, "data");
            binary(&mut out, data);
        }
    }
    for (name, value) in fields {
        if let Some(value) = value {
            text(&mut out, name);
            text(&mut out, value);
        }
    }
    if let Some(extras) = extras {
        text(&mut out, "extras");
        // Checked to be JSON when the record was read.
        value(&mut out, &serde_json::from_str(extras).unwrap_or_default());
    }
    out
}

fn value(out: &mut Vec<u8>, json: &serde_json::Value) {
    use serde_json::Value;
    match json {
        Value::Null => out.push(0xC0),
        Value::Bool(truth) => out.push(0xC2 + u8::from(*truth)),
        Value::Number(number) => {
            if let Some(number) = number.as_i64() {
                integer(out, number);
            } else if let Some(number) = number.as_u64() {
                out.push(0xCF);
                out.extend_from_slice(&number.to_be_bytes());
            } else {
                out.push(0xCB);
                out.extend_from_slice(&number.as_f64().unwrap_or_default().to_be_bytes());
            }
        }
        Value::String(string) => text(out, string),
        Value::Array(items) => {
            array(out, items.len());
            for item in items {
                value(out, item);
            }
        }
        Value::Object(entries) => {
            map(out, entries.len());
            for (key, item) in entries {
                text(out, key);
                value(out, item);
            }
        }
    }
}

fn map(out: &mut Vec<u8>, length: usize) {
    sized(out, length, Some((0x80, 15)), None, 0xDE, 0xDF);
}

fn array(out: &mut Vec<u8>, length: usize) {
    sized(out, length, Some((0x90, 15)), None, 0xDC, 0xDD);
}

fn text(out: &mut Vec<u8>, value: &str) {
    sized(out, value.len(), Some((0xA0, 31)), Some(0xD9), 0xDA, 0xDB);
    out.extend_from_slice(value.as_bytes());
}

fn binary(out: &mut Vec<u8>, value: &[u8]) {
    sized(out, value.len(), None, Some(0xC4), 0xC5, 0xC6);
    out.extend_from_slice(value);
}

/// A length behind the shortest marker that can tell it.
fn sized(out: &mut Vec<u8>, length: usize, fix: Option<(u8, usize)>, marker8: Option<u8>, marker16: u8, marker32: u8) {
    match (length, fix, marker8) {
        (_, Some((base, most)), _) if length <= most => out.push(base | length as u8),
        (0..=0xFF, _, Some(marker)) => out.extend_from_slice(&[marker, length as u8]),
        (0..=0xFFFF, ..) => {
            out.push(marker16);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(marker32);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
}

fn integer(out: &mut Vec<u8>, number: i64) {
    match number {
        0..=0x7F => out.push(number as u8),
        0x80.. => {
            out.push(0xCF);
            out.extend_from_slice(&(number as u64).to_be_bytes());
        }
        _ => {
            out.push(0xD3);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}
