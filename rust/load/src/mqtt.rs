//! MQTT 3.1.1 as far as a subscriber needs it: what it says, and PUBLISH packets as slices of what came.
//!
//! With `QoS` 0 all are sent the same bytes; with `QoS` 1 each has packet identifiers of its own, and acknowledges them.

use crate::frames::Messages;
use crate::limits::FRAME_BYTES;

pub const CONNACK: u8 = 2;
pub const PUBLISH: u8 = 3;
pub const SUBACK: u8 = 9;

const CLIENT_ID: &[u8] = b"";
const KEEP_ALIVE_S: u16 = 3_600; // longer than any run: it is promised, as clients do, and nothing is said
const CLEAN: u8 = 0x02;
const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;

/// CONNECT with a clean session, as the key says (MQTT 3.1.1 §3.1).
pub fn connect(key: &str) -> Vec<u8> {
    let (name, secret) = key.split_once(':').unwrap_or((key, ""));
    let mut body = b"\0\x04MQTT\x04".to_vec();
    body.push(CLEAN | USER_NAME | PASSWORD);
    body.extend_from_slice(&KEEP_ALIVE_S.to_be_bytes());
    for text in [CLIENT_ID, name.as_bytes(), secret.as_bytes()] {
        string(&mut body, text);
    }
    packet(0x10, &body)
}

/// SUBSCRIBE to these topics, each with that `QoS` (§3.8).
pub fn subscribe(topics: impl Iterator<Item = String>, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    for topic in topics {
        string(&mut body, topic.as_bytes());
        body.push(qos);
    }
    packet(0x82, &body)
}

/// PUBACK for one packet (§3.4).
pub fn puback(packet_id: u16) -> [u8; 4] {
    let [high, low] = packet_id.to_be_bytes();
    [0x40, 2, high, low]
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&u16::try_from(text.len()).expect("names are short").to_be_bytes());
    out.extend_from_slice(text);
}

fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![head];
    let mut length = body.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(body);
    out
}

/// The first packet, whole, with its head; None while it is not. Its type is in the upper half of its first byte.
pub fn split(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    let Some((header, length)) = sizes(bytes)? else { return Ok(None) };
    Ok(bytes.get(..header + length))
}

/// Of the head, and of what is behind it (§2.2.3).
fn sizes(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut length = 0;
    for (at, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return if length > FRAME_BYTES {
                Err(format!("a packet of {length} bytes"))
            } else {
                Ok(Some((at + 2, length)))
            };
        }
    }
    if bytes.len() > 4 { Err(format!("no packet begins with {:?}", &bytes[..5])) } else { Ok(None) }
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub struct Publish {
    /// With `QoS` 1.
    pub packet_id: Option<u16>,
    pub messages: Messages,
}

/// A whole packet as a message; None if it is another one (§3.3). Fails for what a server has no reason to send.
pub fn publish(packet: &[u8]) -> Result<Option<Publish>, String> {
    if packet[0] >> 4 != PUBLISH {
        return Ok(None);
    }
    let strange = || format!("a strange PUBLISH: {}", String::from_utf8_lossy(packet));
    let (header, _) = sizes(packet)?.ok_or_else(strange)?;
    let (length, rest) = packet[header..].split_first_chunk::<2>().ok_or_else(strange)?;
    let (topic, mut payload) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or_else(strange)?;
    let packet_id = match packet[0] & 0x0F {
        0 => None,
        2 => {
            let (id, rest) = payload.split_first_chunk::<2>().ok_or_else(strange)?;
            payload = rest;
            Some(u16::from_be_bytes(*id)).filter(|&id| id != 0).ok_or_else(strange)?.into()
        }
        _ => return Err(strange()), // DUP, RETAIN or QoS 2, which nobody asked for
    };
    let (topic, payload) = (std::str::from_utf8(topic), std::str::from_utf8(payload));
    let (Ok(topic), Ok(payload)) = (topic, payload) else { return Err(strange()) };
    Ok(Some(Publish { packet_id, messages: Messages::of(topic, std::iter::once(payload))? }))
}

/// Whether a CONNACK or SUBACK says yes.
pub fn is_granted(packet: &[u8], qos: u8) -> bool {
    match packet {
        [0x20, 2, 0, 0] => true,
        [0x90, _, 0, 1, granted @ ..] => !granted.is_empty() && granted.iter().all(|&one| one == qos),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_when_it_is_whole() {
        let whole = packet(0x30, &[7; 200]);
        assert_eq!(whole[1..3], [0xC8, 1]);
        for cut in 0..whole.len() {
            assert_eq!(split(&whole[..cut]).unwrap(), None);
        }
        let two = [&*whole, &puback(9)].concat();
        assert_eq!(split(&two).unwrap(), Some(&*whole));
        assert!(split(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]).is_err());
        assert!(split(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]).is_err());
    }

    #[test]
    fn a_message_is_read_with_its_packet_id() {
        let plain = packet(0x30, b"\0\x06load-37 8 xxx");
        let numbered = packet(0x32, b"\0\x06load-3\x01\x027 8 xxx");
        for (bytes, packet_id) in [(plain, None), (numbered, Some(0x102))] {
            let messages = Messages { channel: 3, stamps: vec![(7, 8)] };
            assert_eq!(publish(&bytes).unwrap(), Some(Publish { packet_id, messages }));
        }
        assert_eq!(publish(&puback(1)).unwrap(), None);
    }

    #[test]
    fn what_nobody_asked_for_is_refused() {
        let body = b"\0\x06load-3\x01\x027 8 xxx";
        for (head, body) in
            [(0x3A, &body[..]), (0x31, body), (0x34, body), (0x30, b"\0\x09load"), (0x32, b"\0\x06load-3\0\0x")]
        {
            assert!(publish(&packet(head, body)).is_err(), "{head:x}");
        }
    }

    #[test]
    fn what_is_said_is_as_the_specification_has_it() {
        assert_eq!(connect("a:b"), b"\x10\x12\0\x04MQTT\x04\xC2\x0E\x10\0\0\0\x01a\0\x01b");
        assert_eq!(subscribe(["x".to_owned()].into_iter(), 1), b"\x82\x06\0\x01\0\x01x\x01");
        assert!(is_granted(&[0x20, 2, 0, 0], 0) && !is_granted(&[0x20, 2, 0, 5], 0));
        assert!(is_granted(&[0x90, 3, 0, 1, 1], 1) && !is_granted(&[0x90, 3, 0, 1, 0x80], 1));
    }
}
