//! What a server sends: WebSocket frames (RFC 6455 §5.2) around protocol messages (Ably protocol), read once each.
//!
//! Ten thousand connections receive the same bytes. [`Library`] parses a frame, whatever its wire, the first time it is
//! seen and compares bytes from then on: as exact as parsing, and cheap enough for the client not to be what is measured.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::limits::{FRAME_BYTES, FRAMES_REMEMBERED};
use crate::{Coding, Wire, mqtt, stream};

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Protocol actions.
pub const CONNECTED: u8 = 4;
pub const DISCONNECTED: u8 = 6;
pub const ERROR: u8 = 9;
pub const ATTACH: u8 = 10;
pub const ATTACHED: u8 = 11;
pub const MESSAGE: u8 = 15;

/// Flag of ATTACHED: nothing is missing behind the position that was given.
pub const RESUMED: u64 = 4;

/// A protocol message, as far as it matters here.
#[derive(Deserialize, Serialize)]
pub struct Envelope<'a> {
    pub action: u8,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "channelSerial", skip_serializing_if = "Option::is_none")]
    position: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing)]
    pub flags: u64,
    #[serde(default, skip_serializing)]
    messages: Vec<Content<'a>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
}

impl Coding {
    /// Reads a payload.
    pub fn parse(self, payload: &[u8]) -> Result<Envelope<'_>, String> {
        let parsed = match self {
            Self::Json => serde_json::from_slice(payload).map_err(|error| error.to_string()),
            Self::Msgpack => rmp_serde::from_slice(payload).map_err(|error| error.to_string()),
        };
        parsed.map_err(|error| format!("{error}: {}", String::from_utf8_lossy(payload)))
    }

    fn messages(self, payload: &[u8]) -> Result<Option<Messages>, String> {
        let envelope = self.parse(payload)?;
        if envelope.action != MESSAGE {
            return Ok(None);
        }
        let channel = envelope.channel.as_deref().unwrap_or_default();
        Messages::of(channel, envelope.messages.iter().map(|message| &*message.data)).map(Some)
    }

    /// A whole frame to attach to a channel, behind a position if one is given.
    pub fn attach(self, channel: &str, position: Option<&str>) -> Vec<u8> {
        let (channel, position) = (Some(channel.into()), position.map(Cow::from));
        let request = Envelope { action: ATTACH, channel, position, flags: 0, messages: Vec::new() };
        match self {
            Self::Json => client_frame(TEXT, &serde_json::to_vec(&request).expect("it is JSON")),
            Self::Msgpack => client_frame(BINARY, &rmp_serde::to_vec_named(&request).expect("it is MessagePack")),
        }
    }
}

/// A client's frame. The mask is zero: nothing between here and the server could be misled by it.
pub fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0xFE);
            frame.extend_from_slice(&u16::try_from(length).expect("names are short").to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// A whole frame: opcode, payload, and its length with the header.
type Split<'a> = (u8, &'a [u8], usize);

/// The first frame; None while it is not whole.
pub fn split(bytes: &[u8]) -> Result<Option<Split<'_>>, String> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0xF0 != 0x80 || second & 0x80 != 0 {
        return Err(format!("no frame of a server begins with {first:#x} {second:#x}"));
    }
    let (length, header) = match second {
        126 => match rest.first_chunk() {
            Some(length) => (usize::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => (u64::from_be_bytes(*length) as usize, 10),
            None => return Ok(None),
        },
        short => (usize::from(*short), 2),
    };
    if length > FRAME_BYTES {
        return Err(format!("a frame of {length} bytes"));
    }
    Ok(bytes.get(header..header + length).map(|payload| (first & 0x0F, payload, header + length)))
}

/// The messages of one frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Messages {
    /// Number of the channel.
    pub channel: u32,
    /// Sequence number, and when it was sent, in µs of the monotonic clock.
    pub stamps: Vec<(u64, u64)>,
}

/// Frames seen lately.
pub struct Library {
    wire: Wire,
    seen: Vec<Option<(Box<[u8]>, Messages)>>,
}

impl Library {
    pub fn new(wire: Wire) -> Self {
        Self { wire, seen: (0..FRAMES_REMEMBERED).map(|_| None).collect() }
    }

    /// What a payload says; None if it is not a frame of messages.
    pub fn read(&mut self, payload: &[u8]) -> Result<Option<&Messages>, String> {
        let mut hasher = DefaultHasher::new();
        payload.len().hash(&mut hasher);
        payload[..payload.len().min(256)].hash(&mut hasher); // the frame's position and first message are in there
        let place = &mut self.seen[hasher.finish() as usize % FRAMES_REMEMBERED];
        if place.as_ref().is_none_or(|(bytes, _)| **bytes != *payload) {
            let Some(messages) = self.wire.messages(payload)? else { return Ok(None) };
            *place = Some((payload.into(), messages));
        }
        Ok(place.as_ref().map(|(_, messages)| messages))
    }
}

impl Wire {
    /// What of our own protocol's is spoken over a WebSocket.
    pub fn coding(self) -> Option<Coding> {
        match self {
            Self::Json => Some(Coding::Json),
            Self::Msgpack => Some(Coding::Msgpack),
            Self::Events | Self::Lines | Self::Mqtt | Self::MqttQos1 => None,
        }
    }

    fn messages(self, payload: &[u8]) -> Result<Option<Messages>, String> {
        match self {
            Self::Json => Coding::Json.messages(payload),
            Self::Msgpack => Coding::Msgpack.messages(payload),
            Self::Events => stream::messages(payload, false),
            Self::Lines => stream::messages(payload, true),
            Self::Mqtt | Self::MqttQos1 => Ok(mqtt::publish(payload)?.map(|publish| publish.messages)),
        }
    }
}

impl Messages {
    /// Of one channel, by its name: their payloads.
    pub fn of<'a>(channel: &str, payloads: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let number = channel.strip_prefix("load-").and_then(|number| number.parse().ok());
        let channel = number.ok_or_else(|| format!("messages on the channel {channel}"))?;
        Ok(Self { channel, stamps: payloads.map(stamp).collect::<Result<_, _>>()? })
    }
}

/// `SEQUENCE SENT_US padding`.
fn stamp(data: &str) -> Result<(u64, u64), String> {
    let mut words = data.split(' ').map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(sequence)), Some(Ok(sent))) => Ok((sequence, sent)),
        _ => Err(format!("a message that nobody sent: {data}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_when_it_is_whole() {
        let mut bytes = vec![0x81, 126, 0, 200];
        bytes.extend([7; 200]);
        for cut in 0..bytes.len() {
            assert_eq!(split(&bytes[..cut]).unwrap(), None);
        }
        bytes.push(0x89);
        assert_eq!(split(&bytes).unwrap(), Some((TEXT, &[7; 200][..], 204)));
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        for bytes in [&[0x01, 0][..], &[0xC1, 0], &[0x81, 0x80], &[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]] {
            assert!(split(bytes).is_err());
        }
    }

    #[test]
    fn frames_alike_at_the_start_are_told_apart() {
        let mut library = Library::new(Wire::Json);
        let frame = |sequence: u64| {
            let head = "x".repeat(200);
            let data = format!("{sequence} 5 pad");
            format!(r#"{{"action":15,"channelSerial":"{head}","channel":"load-3","messages":[{{"data":"{data}"}}]}}"#)
        };
        for sequence in [1, 2, 1] {
            let read = library.read(frame(sequence).as_bytes()).unwrap();
            assert_eq!(read, Some(&Messages { channel: 3, stamps: vec![(sequence, 5)] }));
        }
        assert!(library.read(br#"{"action":0}"#).unwrap().is_none());
        assert!(library.read(br#"{"action":15,"channel":"load-0","messages":[{"data":"hello"}]}"#).is_err());
    }
}
