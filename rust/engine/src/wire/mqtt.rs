//! MQTT 3.1.1 and 5.0: PUBLISH packets (OASIS MQTT 5.0, §3.3).
//!
//! ```text
//! 1 byte   0x30 | 8 if it may come again | 2 if it is to be acknowledged | 1 if it is retained
//! 1 to 4   the length of what follows, 7 bits a byte, the least first
//! 2 + n    topic
//! 2        packet id, if it is to be acknowledged: the receiving connection's own
//! ...      properties, if 5.0: their length, then the number and value of each
//! ...      payload
//! ```
//!
//! - Text and JSON go out as their UTF-8, bytes as they are; what is left to decode of them stays so.
//! - What a message has beside its payload is said in properties, and so in 5.0 alone. What a publisher on MQTT said comes
//!   back as it was: it lies in `extras.mqtt`. What MQTT has no room for is left out.
//! - Deletes, presence, annotations and what these come to have no packet; nor has a message whose expiry interval, which
//!   its publisher set in `extras.mqtt.expiry`, has passed. To others it is said how much of that is left.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::packets::{Envelope, Of, Packet, Packets};
use crate::change::{APPEND, CREATE, UPDATE};
use crate::kind::Kind;
use crate::message::{Data, Field, Message};

/// How a connection, or one of its attachments, is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of one")]
pub struct Mqtt {
    /// MQTT 5.0, else 3.1.1.
    pub v5: bool,
    /// In WebSocket frames.
    pub framed: bool,
    /// With QoS 1: each packet has an id and is to be acknowledged. Not in WebSocket frames, which go around those that a
    /// connection is given.
    pub acknowledged: bool,
    /// What was published as retained is marked so.
    pub retain: bool,
    /// The subscription's identifier; 0 for none.
    pub subscription: u32,
}

const PUBLISH: u8 = 0x30;
const QOS_1: u8 = 2;
const RETAIN: u8 = 1;

/// The longest that may follow the first byte.
const REMAINING_MAX: usize = 268_435_455;
const TEXT_MAX: usize = u16::MAX as usize;

/// What a packet has beside topic and payload, at most, properties aside.
const ENVELOPE_BYTES: usize = 16;

/// Properties, by their numbers.
const FORMAT: u8 = 0x01;
const EXPIRY: u8 = 0x02;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION: u8 = 0x09;
const SUBSCRIPTION: u8 = 0x0B;
const USER: u8 = 0x26;

/// User properties by which the node says what it knows of a message.
const OWN: [&str; 4] = ["fanout-name", "fanout-client-id", "fanout-encoding", "fanout-action"];

impl Mqtt {
    /// A connection's, before anything is asked for.
    pub fn new(v5: bool, framed: bool) -> Self {
        Self { v5, framed, acknowledged: false, retain: false, subscription: 0 }
    }

    /// Whether there is a packet for an entry, at this time.
    pub(super) fn has(message: &Message, wall_ms: i64) -> bool {
        message.kind == Kind::Message
            && matches!(message.action, CREATE | UPDATE | APPEND)
            && expires_ms(message).is_none_or(|expires| wall_ms < expires)
    }

    /// A message: the packet's flags, and what stands behind its id, at this time.
    pub(super) fn part(self, message: &Message, wall_ms: i64) -> Vec<u8> {
        let extras = message.field(Field::Extras).map_or(Extras::default(), Extras::read);
        let (data, encoding) = message.data();
        let is_json = matches!(data, Data::Json(_)) || (matches!(data, Data::Text(_)) && encoding == Some("json"));
        let (bytes, is_text) = match &data {
            Data::None => (&[][..], false),
            Data::Text(text) | Data::Json(text) => (text.as_bytes(), true),
            Data::Binary(bytes) => (*bytes, false),
        };
        let mut out = Vec::with_capacity(ENVELOPE_BYTES + message.size());
        let is_acknowledged = self.acknowledged && extras.said("qos") != Some(&Value::from(0));
        let is_retained = self.retain && extras.said("retain") == Some(&Value::Bool(true));
        out.push(if is_acknowledged { QOS_1 } else { 0 } | if is_retained { RETAIN } else { 0 });
        if self.v5 {
            let mut properties = Properties(Vec::new());
            if is_text && extras.said("payloadFormat") != Some(&Value::from(0)) {
                properties.0.extend([FORMAT, 1]);
            }
            let content_type = extras.text("contentType").or(is_json.then_some("application/json"));
            properties.optional(CONTENT_TYPE, content_type);
            if let Some(expires) = expires_ms(message) {
                properties.0.push(EXPIRY);
                // A second that has begun is there: what is to be had is never said to have no time left. Not more than
                // was said at first, though another clock be ahead.
                let left_ms = (expires - wall_ms).clamp(0, expires - message.timestamp);
                properties.0.extend_from_slice(&((left_ms as u64).div_ceil(1000) as u32).to_be_bytes());
            }
            properties.said(&extras);
            properties.about(message, encoding.filter(|_| !is_json));
            if self.subscription > 0 {
                properties.0.push(SUBSCRIPTION);
                length(&mut properties.0, self.subscription as usize);
            }
            length(&mut out, properties.0.len());
            out.extend_from_slice(&properties.0);
        }
        out.extend_from_slice(bytes);
        out
    }

    /// A frame of the parts of these messages, and what lies where in it. One that is too long for a packet is left out.
    pub(super) fn frame(self, topic: &str, messages: &[Of], parts: &[&[u8]]) -> (Arc<[u8]>, Packets) {
        let content: usize = parts.iter().map(|part| part.len() + topic.len() + ENVELOPE_BYTES).sum();
        let mut out = Envelope::with_capacity(self.framed, content);
        let mut list = Vec::with_capacity(parts.len());
        let mut largest = 0;
        for (&of, part) in messages.iter().zip(parts) {
            let (flags, behind) = part.split_first().expect("a part begins with its flags");
            let id: &[u8] = if flags & QOS_1 == 0 { &[] } else { &[0, 0] };
            let remaining = 2 + topic.len() + id.len() + behind.len();
            if remaining > REMAINING_MAX {
                continue;
            }
            let start = out.len();
            out.bytes.push(PUBLISH | flags);
            length(&mut out.bytes, remaining);
            text(&mut out.bytes, topic);
            let id_at = if id.is_empty() { 0 } else { out.len() as u32 };
            out.bytes.extend_from_slice(id);
            out.bytes.extend_from_slice(behind);
            largest = largest.max(out.len() - start);
            list.push(Packet { end: out.len() as u32, id_at, of });
        }
        let (bytes, begin) = out.close();
        (bytes, Packets { begin, list: list.into(), largest })
    }
}

/// When a message is for nobody on MQTT any more, if ever. Most are not looked into for that.
pub(super) fn expires_ms(message: &Message) -> Option<i64> {
    let extras = message.field(Field::Extras).filter(|extras| extras.contains("\"expiry\""))?;
    let expiry_s = Extras::read(extras).said("expiry")?.as_u64()?;
    Some(message.timestamp.saturating_add(i64::from(u32::try_from(expiry_s).ok()?) * 1000))
}

/// What stands in a packet of 5.0 between id and payload.
struct Properties(Vec<u8>);

impl Properties {
    fn optional(&mut self, number: u8, value: Option<&str>) {
        if let Some(value) = value.filter(|value| value.len() <= TEXT_MAX) {
            self.0.push(number);
            text(&mut self.0, value);
        }
    }

    /// A user property of the publisher's own: what the node says of a message is the node's word alone.
    fn theirs(&mut self, name: &str, value: &str) {
        if !OWN.contains(&name) {
            self.user(name, value);
        }
    }

    fn user(&mut self, name: &str, value: &str) {
        if name.len() <= TEXT_MAX && value.len() <= TEXT_MAX {
            self.0.push(USER);
            text(&mut self.0, name);
            text(&mut self.0, value);
        }
    }

    /// A header: text as it is, everything else as JSON.
    fn header(&mut self, name: &str, value: &Value) {
        match value {
            Value::String(value) => self.theirs(name, value),
            other => self.theirs(name, &other.to_string()),
        }
    }

    /// What the publisher said.
    fn said(&mut self, extras: &Extras<'_>) {
        let is_topic = |text: &&str| !text.is_empty() && !text.contains(['+', '#']);
        self.optional(RESPONSE_TOPIC, extras.text("responseTopic").filter(is_topic));
        let correlation = extras.text("correlationData").and_then(|text| STANDARD.decode(text).ok());
        if let Some(bytes) = correlation.filter(|bytes| bytes.len() <= TEXT_MAX) {
            self.0.push(CORRELATION);
            self.0.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            self.0.extend_from_slice(&bytes);
        }
        if let Some(pairs) = extras.said("userProperties").and_then(Value::as_array) {
            for pair in pairs {
                if let [Value::String(name), Value::String(value)] = pair.as_array().map_or(&[][..], Vec::as_slice) {
                    self.theirs(name, value);
                }
            }
            return;
        }
        for (name, value) in &extras.headers.0 {
            match value {
                Value::Array(values) => values.iter().for_each(|value| self.header(name, value)),
                other => self.header(name, other),
            }
        }
    }

    /// What is known of the message beside.
    fn about(&mut self, message: &Message, encoding: Option<&str>) {
        let action = match message.action {
            UPDATE => Some("update"),
            APPEND => Some("append"),
            _ => None,
        };
        let known = [
            ("fanout-name", message.field(Field::Name)),
            ("fanout-client-id", message.field(Field::ClientId)),
            ("fanout-encoding", encoding),
            ("fanout-action", action),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                self.user(name, value);
            }
        }
    }
}

/// What of a message's extras MQTT has a word for.
#[derive(Default)]
struct Extras<'a> {
    headers: Pairs<'a>,
    mqtt: Value,
}

/// The members of an object, in their order.
#[derive(Default)]
struct Pairs<'a>(Vec<(Cow<'a, str>, Value)>);

impl<'a> Extras<'a> {
    /// Of JSON that clients and others have written: what is of no use is left out.
    fn read(json: &'a str) -> Self {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(borrow)]
            headers: Option<&'a RawValue>,
            #[serde(borrow)]
            mqtt: Option<&'a RawValue>,
        }
        let Ok(Raw { headers, mqtt }) = serde_json::from_str(json) else { return Self::default() };
        let headers = headers.and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default();
        let mqtt = mqtt.and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default();
        Self { headers, mqtt }
    }

    /// What a publisher on MQTT said.
    fn said(&self, name: &str) -> Option<&Value> {
        self.mqtt.get(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.said(name)?.as_str()
    }
}

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        from.deserialize_map(Members)
    }
}

/// Text with its length before it. MQTT has no place for the character 0 in it: another stands for that.
fn text(out: &mut Vec<u8>, value: &str) {
    let value = if value.contains('\0') { Cow::Owned(value.replace('\0', "\u{1A}")) } else { Cow::Borrowed(value) };
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// A number of at most 28 bits, 7 bits a byte, the least first.
fn length(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
