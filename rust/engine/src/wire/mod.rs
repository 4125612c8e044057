//! The bytes of messages and frames, one file per wire, and the WebSocket header around them.
//!
//! A frame is `head · message · message … · tail`; the messages' bytes are made once and shared by every frame that
//! holds them, whoever it is for.

mod json;
mod msgpack;
pub mod websocket;

use crate::message::Message;

/// The action number of a frame of messages (Ably protocol).
const MESSAGE: u8 = 15;

/// One encoding for one kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

    /// A whole frame, WebSocket header included. `channel` is spelled as the client spells it.
    pub fn frame(self, channel: &str, serial: &str, messages: &[&[u8]]) -> Vec<u8> {
        let content: usize = messages.iter().map(|bytes| bytes.len() + 1).sum();
        let mut out = Vec::with_capacity(content + channel.len() + serial.len() + 96);
        out.resize(websocket::HEADER_MAX, 0);
        match self {
            Self::Json => json::frame(&mut out, channel, serial, messages),
            Self::Msgpack => msgpack::frame(&mut out, channel, serial, messages),
        }
        websocket::place_header(&mut out, self.opcode());
        out
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
