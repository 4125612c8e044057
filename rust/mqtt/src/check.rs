//! What the parser lets through and a server must refuse.

use crate::packet::{Connect, Entry, Fault, Kind, Packet, Properties, Publish, reason};
use crate::reader::Version;

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const AUTH: u8 = 15;

/// The type of a packet and its flags, which is all that is needed to refuse most of what is not MQTT
/// (MQTT 5.0 §2.1.2, §2.1.3, §3.1.0).
pub fn first_byte(byte: u8, version: Option<Version>) -> Result<(), Fault> {
    let (kind, flags) = (byte >> 4, byte & 15);
    match version {
        None if kind != CONNECT => return Err(Fault::protocol("the first packet is not CONNECT")),
        Some(_) if kind == CONNECT => return Err(Fault::protocol("a second CONNECT")),
        _ => {}
    }
    match kind {
        0 => Err(Fault::malformed("there is no such packet")),
        AUTH if version != Some(Version::V5) => Err(Fault::malformed("there is no such packet")),
        2 | 9 | 11 | 13 => Err(Fault::protocol("a packet that only servers send")),
        PUBLISH if flags & 0b0110 == 0b0110 => Err(Fault::malformed("there is no QoS 3")),
        PUBLISH if flags & 0b1110 == 0b1000 => Err(Fault::malformed("DUP is set with QoS 0")),
        PUBLISH => Ok(()),
        _ if flags == flags_of(kind) => Ok(()),
        _ => Err(Fault::malformed("reserved flags are set")),
    }
}

fn flags_of(kind: u8) -> u8 {
    match kind {
        6 | 8 | 10 => 2, // PUBREL, SUBSCRIBE, UNSUBSCRIBE
        _ => 0,
    }
}

/// Whether CONNECT is of a version of MQTT that is newer than all that are spoken.
pub fn is_later(body: &[u8]) -> bool {
    matches!(body, [0, 4, b'M', b'Q', b'T', b'T', level, ..] if *level > 5)
}

/// CONNECT up to its flags: the protocol, its level, which is returned, and the flags (MQTT 5.0 §3.1.2).
pub fn connect_head(body: &[u8]) -> Result<u8, Fault> {
    let version = match body {
        [0, 4, b'M', b'Q', b'T', b'T', level, ..] => *level,
        [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', ..] => 3,
        _ => return Err(Fault::protocol("the protocol is not MQTT")),
    };
    if version != 4 && version != 5 {
        return Err(Fault::new(reason::VERSION, "MQTT 3.1.1 and 5.0 are spoken here"));
    }
    let Some(&flags) = body.get(7) else { return Err(Fault::malformed("CONNECT ends early")) };
    let (will, will_qos, will_retain) = (flags & 4 != 0, flags >> 3 & 3, flags & 0x20 != 0);
    if flags & 1 != 0 {
        return Err(Fault::malformed("a reserved flag of CONNECT is set"));
    }
    if will_qos == 3 || (!will && (will_qos != 0 || will_retain)) {
        return Err(Fault::malformed("the flags of the will do not fit together"));
    }
    if version == 4 && flags & 0xc0 == 0x40 {
        return Err(Fault::malformed("a password without a user name"));
    }
    Ok(version)
}

/// A packet that was parsed.
pub fn packet(packet: &Packet) -> Result<(), Fault> {
    match packet {
        Packet::Connect(connect) => connected(connect),
        Packet::Publish(publish) => published(publish),
        Packet::Acknowledgement(acknowledgement) => identified(acknowledgement.packet_id),
        Packet::Subscribe { packet_id, entries, .. } => {
            identified(*packet_id)?;
            entries.iter().try_for_each(subscribed)
        }
        Packet::Unsubscribe { packet_id, filters } => {
            identified(*packet_id)?;
            filters.iter().try_for_each(|text| filter(text))
        }
        Packet::Ping | Packet::Disconnect { .. } | Packet::Auth => Ok(()),
    }
}

fn connected(connect: &Connect) -> Result<(), Fault> {
    text(&connect.client_id)?;
    connect.username.as_deref().map_or(Ok(()), text)?;
    if let Some(will) = &connect.will {
        topic(&will.topic)?;
        properties(&will.properties)?;
    }
    Ok(())
}

fn published(publish: &Publish) -> Result<(), Fault> {
    if publish.qos > 0 {
        identified(publish.packet_id)?;
    }
    if publish.alias == 0 || !publish.topic.is_empty() {
        topic(&publish.topic)?;
    }
    properties(&publish.properties)
}

fn subscribed(entry: &Entry) -> Result<(), Fault> {
    if entry.no_local && entry.filter.starts_with("$share/") {
        return Err(Fault::protocol("no-local on a shared subscription"));
    }
    filter(&entry.filter)
}

fn properties(properties: &Properties) -> Result<(), Fault> {
    properties.content_type.as_deref().map_or(Ok(()), text)?;
    if let Some(response) = &properties.response_topic {
        topic(response)?;
    }
    properties.user.iter().try_for_each(|(name, value)| text(name).and_then(|()| text(value)))
}

/// Identifiers are not 0 (MQTT 5.0 §2.2.1).
fn identified(packet_id: u16) -> Result<(), Fault> {
    if packet_id == 0 { Err(Fault::protocol("packet identifier 0")) } else { Ok(()) }
}

/// Text holds no NUL (MQTT 5.0 §1.5.4).
fn text(text: &str) -> Result<(), Fault> {
    if text.contains('\0') { Err(Fault::malformed("text with a NUL in it")) } else { Ok(()) }
}

/// A topic's name holds no wildcards (MQTT 5.0 §3.3.2.1, §4.7.3).
fn topic(name: &str) -> Result<(), Fault> {
    text(name)?;
    if name.is_empty() {
        return Err(Fault::protocol("an empty topic"));
    }
    if name.contains(['+', '#']) {
        return Err(Fault::new(reason::TOPIC, "a wildcard in a topic's name"));
    }
    Ok(())
}

/// In a filter `#` is the last level and `+` a whole one (MQTT 5.0 §4.7.1).
fn filter(filter: &str) -> Result<(), Fault> {
    text(filter)?;
    if filter.is_empty() {
        return Err(Fault::protocol("an empty filter"));
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let fits = match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            _ => !level.contains(['+', '#']),
        };
        if !fits {
            return Err(Fault::new(reason::FILTER, "a wildcard where none may be"));
        }
    }
    Ok(())
}

/// Acknowledgements by the type of their packets.
pub fn kind_of(first: u8) -> Kind {
    match first >> 4 {
        4 => Kind::Ack,
        5 => Kind::Received,
        6 => Kind::Release,
        _ => Kind::Complete,
    }
}
