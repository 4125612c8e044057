//! The bytes of messages and frames, one file per wire, and the WebSocket header around them.
//!
//! A frame is `head · message · message … · tail`; the messages' bytes are made once and shared by every frame that
//! holds them, whoever it is for.

mod json;
mod msgpack;
pub mod websocket;

use std::sync::Arc;

use crate::kind::Kind;
use crate::message::Message;

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
}

impl Wire {
    /// The bytes of one message.
    pub fn message(self, message: &Message) -> Vec<u8> {
        match self {
            Self::Json => json::message(message),
            Self::Msgpack => msgpack::message(message),
        }
    }

    /// A whole frame, WebSocket header included, of at least one entry, all of this kind. `channel` is spelled as the
    /// client spells it.
    pub fn frame(self, kind: Kind, channel: &str, serial: &str, entries: &[&[u8]]) -> Arc<[u8]> {
        self.joined(named(kind), channel, serial, entries)
    }

    /// The same for a page of a presence set, which may be empty.
    pub fn sync(self, channel: &str, serial: &str, members: &[&[u8]]) -> Arc<[u8]> {
        self.joined((SYNC, "presence"), channel, serial, members)
    }

    fn joined(self, (action, name): (u8, &str), channel: &str, serial: &str, items: &[&[u8]]) -> Arc<[u8]> {
        let mut head = Vec::with_capacity(channel.len() + serial.len() + 96);
        let (between, end) = match self {
            Self::Json => {
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
        let mut out = Vec::new();
        if as_frame {
            let text: &[u8] = match self {
                Self::Json => br#"{"action":0}"#,
                Self::Msgpack => b"\x81\xa6action\x00",
            };
            websocket::append(&mut out, self.opcode(), text);
        }
        websocket::append(&mut out, websocket::PING, b"");
        out
    }

    /// The WebSocket opcode of this wire's frames.
    pub fn opcode(self) -> u8 {
        match self {
            Self::Json => websocket::TEXT,
            Self::Msgpack => websocket::BINARY,
        }
    }
}

#[cfg(test)]
mod tests;
