//! The bytes of messages and frames, one file per wire, and the WebSocket header or the HTTP chunk around them.
//!
//! A frame is `head · message · message … · tail`; the messages' bytes are made once and shared by every frame that
//! holds them, whoever it is for.

mod json;
mod mqtt;
mod msgpack;
mod packets;
mod stream;
pub mod websocket;

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use mqtt::Mqtt;
pub use packets::{Envelope, Of, Packet, Packets};
pub use stream::Stream;

use crate::kind::Kind;
use crate::limits::{FRAME_MESSAGES, FRAME_MESSAGES_ACKNOWLEDGED};
use crate::message::{Data, Message};

/// The action number of a page of a presence set (Ably protocol).
const SYNC: u8 = 16;

/// How a frame of one kind of entries begins: its action number, and the name of its items (Ably protocol).
fn named(kind: Kind) -> (u8, &'static str) {
    match kind {
        Kind::Presence => (14, "presence"),
        Kind::Message | Kind::Meta => (15, "messages"),
        Kind::Annotation => (21, "annotations"),
    }
}

/// One encoding for one kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wire {
    /// Protocol messages as JSON in text frames.
    Json,
    /// Protocol messages as `MessagePack` in binary frames.
    Msgpack,
    /// Events over HTTP.
    Stream(Stream),
    /// MQTT packets.
    Mqtt(Mqtt),
}

/// How a message is encoded. Wires that do it alike share the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coding {
    /// As JSON.
    Json,
    /// As `MessagePack`.
    Msgpack,
    /// By the text of its payload alone, binary data as base64: not kept, since little is saved by it.
    Text,
}

impl Coding {
    /// All.
    pub const ALL: [Self; 3] = [Self::Json, Self::Msgpack, Self::Text];

    /// The bytes of one message.
    pub fn message(self, message: &Message) -> Vec<u8> {
        match self {
            Self::Json => json::message(message),
            Self::Msgpack => msgpack::message(message),
            Self::Text => match message.data().0 {
                Data::None => Vec::new(),
                Data::Text(data) | Data::Json(data) => data.as_bytes().to_vec(),
                Data::Binary(data) => STANDARD.encode(data).into_bytes(),
            },
        }
    }
}

impl Wire {
    /// By its number in the table of C functions: 0 and 1 are JSON and `MessagePack`, 2 events and 3 lines; of these, 4
    /// more if they are bare, 8 more if they are of several channels. 16 is MQTT 3.1.1; 1 more 5.0, and 2 more if it is in
    /// WebSocket frames.
    pub fn numbered(number: u8) -> Self {
        match number & 3 {
            versions if number & 16 != 0 => Self::Mqtt(Mqtt::new(versions & 1 != 0, versions & 2 != 0)),
            0 => Self::Json,
            1 => Self::Msgpack,
            kind => Self::Stream(Stream { lines: kind == 3, bare: number & 4 != 0, several: number & 8 != 0 }),
        }
    }

    /// Which of the four kinds of wire it is that differ in what fills idle time. None is written to only when there is
    /// something to say.
    pub fn family(self) -> Option<usize> {
        match self {
            Self::Json => Some(0),
            Self::Msgpack => Some(1),
            Self::Stream(stream) => Some(2 + usize::from(stream.lines)),
            Self::Mqtt(_) => None,
        }
    }

    /// How its messages are encoded. MQTT, whose parts are made anew for each frame like texts, has its own way.
    pub fn coding(self) -> Coding {
        match self {
            Self::Msgpack => Coding::Msgpack,
            Self::Stream(stream) if stream.bare => Coding::Text,
            Self::Json | Self::Stream(_) => Coding::Json,
            Self::Mqtt(_) => Coding::Text,
        }
    }

    /// The bytes of one message, kept with it if its coding is; and the memory that this call took for them. With MQTT they
    /// are those of a message at this time, by the wall's clock.
    pub fn part(self, message: &Message, wall_ms: i64) -> (Cow<'_, [u8]>, usize) {
        if self.coding() == Coding::Text {
            return (Cow::Owned(self.message(message, wall_ms)), 0);
        }
        let (bytes, made) = message.encoded(self);
        (Cow::Borrowed(bytes), made)
    }

    /// The bytes of one message, likewise.
    pub fn message(self, message: &Message, wall_ms: i64) -> Vec<u8> {
        match self {
            Self::Mqtt(mqtt) => mqtt.part(message, wall_ms),
            _ => self.coding().message(message),
        }
    }

    /// Whether it has a word for such an entry, at this time.
    pub fn has(self, entry: &Message, wall_ms: i64) -> bool {
        !matches!(self, Self::Mqtt(_)) || Mqtt::has(entry, wall_ms)
    }

    /// Whether what it says of such an entry will be wrong in a while.
    pub fn is_passing(self, entry: &Message) -> bool {
        matches!(self, Self::Mqtt(_)) && mqtt::expires_ms(entry).is_some()
    }

    /// Whether who stands within a frame may be given the rest of it.
    pub fn can_be_entered(self) -> bool {
        matches!(self, Self::Mqtt(mqtt) if mqtt.acknowledged)
    }

    /// The most messages of a frame.
    pub fn messages_max(self) -> usize {
        match self {
            Self::Stream(stream) if stream.several => 1, // before each goes what is the connection's own
            Self::Mqtt(mqtt) if mqtt.acknowledged => FRAME_MESSAGES_ACKNOWLEDGED,
            _ => FRAME_MESSAGES,
        }
    }

    /// Whether presence sets are given. Streams and MQTT have no word for them.
    pub fn has_sync(self) -> bool {
        !matches!(self, Self::Stream(_) | Self::Mqtt(_))
    }

    /// Whether messages are given as deltas to who asks for them.
    pub fn has_deltas(self) -> bool {
        !matches!(self, Self::Mqtt(_))
    }

    /// A whole frame, header included, of at least one entry, all of this kind; and of MQTT what lies where in it.
    /// `channel` is spelled as the client spells it. Of `serials`, the positions behind each entry, the streams of one
    /// channel take all, those of several and MQTT none, and the others the last. MQTT alone takes `places`.
    pub fn frame(
        self,
        kind: Kind,
        channel: &str,
        (serials, places): (&[String], &[Of]),
        entries: &[&[u8]],
    ) -> (Arc<[u8]>, Option<Packets>) {
        match self {
            Self::Stream(stream) => {
                (stream.frame(kind, channel, if stream.several { &[] } else { serials }, entries), None)
            }
            Self::Mqtt(mqtt) => {
                let (bytes, packets) = mqtt.frame(channel, places, entries);
                (bytes, Some(packets))
            }
            Self::Json | Self::Msgpack => {
                (self.joined(named(kind), channel, serials.last().map_or("", |last| last), entries), None)
            }
        }
    }

    /// The same for a page of a presence set, which may be empty.
    pub fn sync(self, channel: &str, serial: &str, members: &[&[u8]]) -> Arc<[u8]> {
        self.joined((SYNC, "presence"), channel, serial, members)
    }

    fn joined(self, (action, name): (u8, &str), channel: &str, serial: &str, items: &[&[u8]]) -> Arc<[u8]> {
        let mut head = Vec::with_capacity(channel.len() + serial.len() + 96);
        let (between, end) = match self {
            Self::Json | Self::Stream(_) | Self::Mqtt(_) => {
                json::head(&mut head, action, channel, serial, name);
                (json::BETWEEN, json::END)
            }
            Self::Msgpack => {
                msgpack::head(&mut head, action, channel, serial, (name, items.len()));
                (&[][..], &[][..])
            }
        };
        let content: usize = items.iter().map(|bytes| bytes.len()).sum();
        let payload = head.len() + content + between.len() * items.len().saturating_sub(1) + end.len();
        let (header, size) = websocket::header(self.opcode(), payload);
        // Every byte is copied once, to where it stays.
        let mut frame: Arc<[u8]> = std::iter::repeat_n(0, size + payload).collect();
        let mut rest = Arc::get_mut(&mut frame).expect("nobody else has it yet");
        let mut put = |bytes: &[u8]| {
            let (place, behind) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            place.copy_from_slice(bytes);
            rest = behind;
        };
        put(&header[..size]);
        put(&head);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                put(between);
            }
            put(item);
        }
        put(end);
        frame
    }

    /// What fills idle time: an empty protocol message for peers that cannot see pings, and a ping for all.
    pub fn heartbeat(self, as_frame: bool) -> Vec<u8> {
        let text: &[u8] = match self {
            Self::Json => br#"{"action":0}"#,
            Self::Msgpack => b"\x81\xa6action\x00",
            Self::Stream(stream) => return stream.heartbeat(as_frame),
            Self::Mqtt(_) => return Vec::new(), // there is none: it is the client that pings
        };
        let mut out = Vec::new();
        if as_frame {
            websocket::append(&mut out, self.opcode(), text);
        }
        websocket::append(&mut out, websocket::PING, b"");
        out
    }

    /// A payload as one frame. MQTT's packets need none around them, unless they are in WebSocket frames.
    pub fn framed(self, payload: &[u8]) -> Arc<[u8]> {
        match self {
            Self::Mqtt(Mqtt { framed: false, .. }) => payload.into(),
            Self::Json | Self::Msgpack | Self::Mqtt(_) => {
                let mut out = Vec::with_capacity(payload.len() + websocket::HEADER_MAX);
                websocket::append(&mut out, self.opcode(), payload);
                out.into()
            }
            Self::Stream(_) => stream::chunk(payload).into(),
        }
    }

    /// What is written last. Streams have no word for why, and of MQTT the packet that says so was written before.
    pub fn end(self, code: u16, reason: &str) -> Vec<u8> {
        match self {
            Self::Mqtt(Mqtt { framed: false, .. }) => Vec::new(),
            Self::Json | Self::Msgpack | Self::Mqtt(_) => websocket::close(code, reason),
            Self::Stream(_) => stream::END.to_vec(),
        }
    }

    fn opcode(self) -> u8 {
        match self {
            Self::Json | Self::Stream(_) => websocket::TEXT,
            Self::Msgpack | Self::Mqtt(_) => websocket::BINARY,
        }
    }
}

#[cfg(test)]
mod tests;
