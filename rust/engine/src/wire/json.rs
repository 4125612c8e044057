//! The `json` wire.
//!
//! ```text
//! frame    {"action":15,"channel":C,"channelSerial":S,"messages":[M,M…]}
//! message  {"id":…,"timestamp":…,"serial":…,"name"?,"data"?,"encoding"?,"clientId"?,"connectionId"?,"extras"?}
//! ```
//!
//! Binary data is base64 text, with `base64` as the last step of its encoding.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::MESSAGE;
use crate::message::{Data, Field, Message};

pub(super) fn frame(out: &mut Vec<u8>, channel: &str, serial: &str, messages: &[&[u8]]) {
    out.extend_from_slice(b"{\"action\":");
    integer(out, i64::from(MESSAGE));
    out.extend_from_slice(b",\"channel\":");
    text(out, channel);
    out.extend_from_slice(b",\"channelSerial\":");
    text(out, serial);
    out.extend_from_slice(b",\"messages\":[");
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(message);
    }
    out.extend_from_slice(b"]}");
}

pub(super) fn message(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(b"{\"id\":");
    text(&mut out, &message.id());
    out.extend_from_slice(b",\"timestamp\":");
    integer(&mut out, message.timestamp);
    field(&mut out, "serial", &message.serial());
    optional(&mut out, "name", message.field(Field::Name));
    let (data, encoding) = message.data();
    match data {
        Data::None => optional(&mut out, "encoding", encoding),
        Data::Text(data) | Data::Json(data) => {
            field(&mut out, "data", data);
            optional(&mut out, "encoding", encoding);
        }
        Data::Binary(data) => {
            // Base64 text needs no escaping.
            out.extend_from_slice(b",\"data\":\"");
            out.extend_from_slice(STANDARD.encode(data).as_bytes());
            out.push(b'"');
            match encoding {
                Some(encoding) => field(&mut out, "encoding", &format!("{encoding}/base64")),
                None => field(&mut out, "encoding", "base64"),
            }
        }
    }
    optional(&mut out, "clientId", message.field(Field::ClientId));
    optional(&mut out, "connectionId", message.field(Field::ConnectionId));
    if let Some(extras) = message.field(Field::Extras) {
        out.extend_from_slice(b",\"extras\":");
        out.extend_from_slice(extras.as_bytes());
    }
    out.push(b'}');
    out
}

fn optional(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        field(out, name, value);
    }
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    text(out, value);
}

fn integer(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn text(out: &mut Vec<u8>, value: &str) {
    serde_json::to_writer(out, value).expect("writing to memory does not fail");
}
