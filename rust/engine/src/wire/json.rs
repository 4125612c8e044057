//! The `json` wire.
//!
//! ```text
//! frame    {"action":15,"channel":C,"channelSerial":S,"messages":[M,M…]}    presence: 14, annotations: 21
//! message  {"id":…,"timestamp":…,"serial":…,"name"?,"data"?,"encoding"?,"clientId"?,"connectionId"?,"extras"?}
//! presence {"action":…,"id":…,"timestamp":…,"data"?,"encoding"?,"clientId":…,"connectionId":…,"extras"?}
//! ```
//!
//! A message that was changed has its `action` and `serial`, and what else [`Field::More`] holds; an annotation likewise.
//! Binary data is base64 text, with `base64` as the last step of its encoding.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::kind::Kind;
use crate::message::{Data, Field, Message};

/// What a message has beside its content, roughly: more makes the buffer grow once.
const ENVELOPE_BYTES: usize = 224;
const BLOCK_BYTES: usize = 32;
const ESCAPE_BYTES_MAX: usize = 6;

/// What is between two messages of a frame.
pub(super) const BETWEEN: &[u8] = b",";
/// What is behind the last one.
pub(super) const END: &[u8] = b"]}";

/// What is before the messages of a frame.
pub(super) fn head(out: &mut Vec<u8>, action: u8, channel: &str, serial: &str, items: &str) {
    out.extend_from_slice(b"{\"action\":");
    integer(out, i64::from(action));
    out.extend_from_slice(b",\"channel\":");
    text(out, channel);
    out.extend_from_slice(b",\"channelSerial\":");
    text(out, serial);
    out.extend_from_slice(b",\"");
    out.extend_from_slice(items.as_bytes());
    out.extend_from_slice(b"\":[");
}

pub(super) fn message(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENVELOPE_BYTES + message.size());
    out.push(b'{');
    if message.kind == Kind::Presence {
        out.extend_from_slice(b"\"action\":");
        integer(&mut out, i64::from(message.action));
        out.push(b',');
    }
    out.extend_from_slice(b"\"id\":");
    text(&mut out, &message.id());
    out.extend_from_slice(b",\"timestamp\":");
    integer(&mut out, message.timestamp);
    let more = message.field(Field::More);
    if message.kind.has_position() && (more.is_none() || message.kind != Kind::Message) {
        field(&mut out, "serial", &message.serial());
    }
    if let Some(more) = more {
        out.extend_from_slice(b",\"action\":");
        integer(&mut out, i64::from(message.action));
        out.push(b',');
        // An object's text that is our own: never empty, and without its braces a row of members.
        out.extend_from_slice(&more.as_bytes()[1..more.len() - 1]);
    }
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
            let begin = out.len();
            out.resize(begin + data.len().div_ceil(3) * 4, 0);
            STANDARD.encode_slice(data, &mut out[begin..]).expect("there is room");
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

/// Text in quotes, escaped where RFC 8259 (section 7) demands it and nowhere else. Few bytes need it: they are looked for
/// in blocks, with comparisons that the compiler makes a few instructions of.
pub(super) fn text(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let mut blocks = value.as_bytes().chunks_exact(BLOCK_BYTES);
    for block in &mut blocks {
        if block.iter().fold(false, |found, &byte| found | must_be_escaped(byte)) {
            escape(out, block);
        } else {
            out.extend_from_slice(block);
        }
    }
    escape(out, blocks.remainder());
    out.push(b'"');
}

#[expect(
    clippy::needless_bitwise_bool,
    reason = "without branches a block is looked at in vectors: 16 KiB take a third"
)]
fn must_be_escaped(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// Escapes at most a block.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut escaped = [0; BLOCK_BYTES * ESCAPE_BYTES_MAX];
    let mut len = 0;
    for &byte in bytes {
        if must_be_escaped(byte) {
            let short = match byte {
                b'"' | b'\\' => byte,
                0x08 => b'b',
                0x0C => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                _ => b'u',
            };
            escaped[len..len + 2].copy_from_slice(&[b'\\', short]);
            len += 2;
            if short == b'u' {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                escaped[len..len + 4].copy_from_slice(&[b'0', b'0', digit(byte >> 4), digit(byte & 0xF)]);
                len += 4;
            }
        } else {
            escaped[len] = byte;
            len += 1;
        }
    }
    out.extend_from_slice(&escaped[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_is_escaped_as_others_do(parts in prop::collection::vec(
            prop_oneof![Just("clean, and longer than one block of bytes is".to_owned()), any::<String>(), "[\0-\u{1f}\"\\\\]{0,9}"],
            0..6,
        )) {
            let value = parts.concat();
            let mut out = Vec::new();
            text(&mut out, &value);
            prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&value).unwrap());
        }
    }
}
