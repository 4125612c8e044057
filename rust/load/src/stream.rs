//! Streams over HTTP/1.1: chunks (RFC 9112 §7.1), and the events or lines in them (docs/protocol.md, "Streams").
//!
//! A chunk is what all who stand at the same place are sent alike, so it is the unit that is compared.

use std::borrow::Cow;

use serde::Deserialize;

use crate::frames::Messages;
use crate::limits::FRAME_BYTES;

const HEAD_BYTES_MAX: usize = 10;

/// The first chunk: its content, and its length with what is around it; None while it is not whole. The last chunk of
/// all has no content.
pub fn split(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, String> {
    let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let Some(end) = head.windows(2).position(|window| window == b"\r\n") else {
        return if head.len() == HEAD_BYTES_MAX { Err(no_chunk(head)) } else { Ok(None) };
    };
    let size = std::str::from_utf8(&head[..end]).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
    let size = size.filter(|&size| size <= FRAME_BYTES).ok_or_else(|| no_chunk(head))?;
    let (begin, length) = (end + 2, end + 2 + size + 2);
    match bytes.get(begin + size..length) {
        None => Ok(None),
        Some(b"\r\n") => Ok(Some((&bytes[begin..begin + size], length))),
        Some(_) => Err(no_chunk(head)),
    }
}

fn no_chunk(bytes: &[u8]) -> String {
    format!("no chunk begins with {}", String::from_utf8_lossy(bytes))
}

/// The messages of one chunk; None if it has none.
pub fn messages(chunk: &[u8], lines: bool) -> Result<Option<Messages>, String> {
    let text = std::str::from_utf8(chunk).map_err(|error| error.to_string())?;
    let found = if lines { of_lines(text) } else { of_events(text) }?;
    let Some((channel, _)) = found.first() else { return Ok(None) };
    if found.iter().any(|(other, _)| other != channel) {
        return Err(format!("messages of several channels in one chunk: {text}"));
    }
    Messages::of(channel, found.iter().map(|(_, data)| &**data)).map(Some)
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// Channel and payload.
type Found<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

fn of_events(text: &str) -> Result<Found<'_>, String> {
    let mut found = Vec::new();
    for block in text.split_terminator("\n\n") {
        let (mut kind, mut data) = ("message", None);
        for line in block.split('\n') {
            match line.split_once(": ") {
                Some(("event", value)) => kind = value,
                Some(("data", value)) => data = Some(value),
                _ => {}
            }
        }
        let Some(data) = data else { continue };
        found.push(content(kind, serde_json::from_str(data))?);
    }
    Ok(found)
}

#[derive(Deserialize)]
struct Line<'a> {
    event: Option<&'a str>,
    #[serde(borrow)]
    data: Option<&'a serde_json::value::RawValue>,
}

fn of_lines(text: &str) -> Result<Found<'_>, String> {
    let mut found = Vec::new();
    for line in text.split_terminator('\n').filter(|line| !line.is_empty()) {
        let line: Line<'_> = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        let (Some(kind), Some(data)) = (line.event, line.data) else { continue };
        found.push(content(kind, serde_json::from_str(data.get()))?);
    }
    Ok(found)
}

fn content<'a>(kind: &str, parsed: serde_json::Result<Content<'a>>) -> Result<(Cow<'a, str>, Cow<'a, str>), String> {
    if kind != "message" {
        return Err(format!("an event that is no message: {kind}"));
    }
    parsed.map(|content| (content.channel, content.data)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_read_when_it_is_whole() {
        let bytes = b"00000003\r\nid:\r\n";
        for cut in 0..bytes.len() {
            assert_eq!(split(&bytes[..cut]).unwrap(), None);
        }
        assert_eq!(split(b"00000003\r\nid:\r\n0\r\n\r\n").unwrap(), Some((&b"id:"[..], 15)));
        assert_eq!(split(b"0\r\n\r\n").unwrap(), Some((&b""[..], 5)));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for bytes in [&b"xx\r\n"[..], b"3\r\nabcde", b"0123456789", b"ffffffff\r\n"] {
            assert!(split(bytes).is_err());
        }
    }

    #[test]
    fn the_messages_of_a_chunk_are_found() {
        let data = |n: u8| format!(r#"{{"channel":"load-3","id":"x","data":"{n} 5 pad"}}"#);
        let events = format!("id: a\nevent: message\ndata: {}\n\nevent: message\ndata: {}\n\n", data(1), data(2));
        let lines = format!(
            "{{\"id\":\"a\",\"event\":\"message\",\"data\":{}}}\n{{\"event\":\"message\",\"data\":{}}}\n",
            data(1),
            data(2)
        );
        let expected = Messages { channel: 3, stamps: vec![(1, 5), (2, 5)] };
        assert_eq!(messages(events.as_bytes(), false).unwrap().as_ref(), Some(&expected));
        assert_eq!(messages(lines.as_bytes(), true).unwrap().as_ref(), Some(&expected));
    }

    #[test]
    fn positions_and_idle_time_are_no_messages() {
        for (chunk, lines) in
            [("id: a,b\n", false), (":keepalive\n\n", false), ("{\"id\":\"a\"}\n", true), ("\n", true)]
        {
            assert_eq!(messages(chunk.as_bytes(), lines).unwrap(), None, "{chunk}");
        }
        assert!(messages(b"event: error\ndata: {\"code\":80020}\n\n", false).is_err());
    }
}
