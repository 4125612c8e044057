//! Streams over HTTP/1.1: server-sent events (HTML standard, "Server-sent events"), or a JSON object a line.
//!
//! ```text
//! events   id: POSITION⏎ event: KIND⏎ data: MESSAGE⏎ ⏎            bare: a `data` for each line of the payload's text
//! lines    {"id":POSITION,"event":KIND,"data":MESSAGE}⏎           bare: the payload's text in quotes
//! message  as on the `json` wire, and in front of it {"channel":C,…
//! ```
//!
//! - What is written is whole HTTP chunks (RFC 9112 §7.1), of events as many as there are.
//! - No byte of a message ends its line: in JSON a line break can only be between values, where a space does as well.
//! - Each event has the position behind it, so that a stream can be cut anywhere. Where a stream has several channels, that
//!   is one position for each, which is the connection's own: it goes before the event ([`Stream::before`]), which
//!   everybody shares.

use std::sync::Arc;

use super::json;
use crate::kind::Kind;

/// A kind of stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// JSON objects, a line each; else events.
    pub lines: bool,
    /// The payloads alone, without what is known of each message.
    pub bare: bool,
    /// Of several channels.
    pub several: bool,
}

/// Room for a chunk's size, eight digits; leading zeros are allowed.
const HEAD: &[u8] = b"00000000\r\n";

/// The last chunk: nothing follows it.
pub(super) const END: &[u8] = b"0\r\n\r\n";

/// What an event has beside its message, the position aside, roughly: more makes the buffer grow.
const ENVELOPE_BYTES: usize = 64;

impl Stream {
    /// A chunk of at least one entry, all of this kind. `ids` are the positions behind each; none where they come before.
    pub fn frame(self, kind: Kind, channel: &str, ids: &[String], entries: &[&[u8]]) -> Arc<[u8]> {
        let content: usize = entries.iter().map(|bytes| bytes.len() + ENVELOPE_BYTES + channel.len()).sum();
        let mut out = Vec::with_capacity(HEAD.len() + content + ids.iter().map(String::len).sum::<usize>());
        out.extend_from_slice(HEAD);
        for (at, entry) in entries.iter().enumerate() {
            if let Some(id) = ids.get(at) {
                self.id(&mut out, id);
            }
            self.event(&mut out, kind, channel, entry);
        }
        chunked(out)
    }

    /// What goes before the event of one connection.
    pub fn before<'a>(self, ids: impl Iterator<Item = &'a str>) -> Arc<[u8]> {
        let mut out = HEAD.to_vec();
        let joined = ids.collect::<Vec<_>>().join(",");
        self.id(&mut out, &joined);
        chunked(out)
    }

    /// What fills idle time: what only proxies see, or an event.
    pub(super) fn heartbeat(self, as_event: bool) -> Vec<u8> {
        let text: &[u8] = match (self.lines, as_event) {
            (false, false) => b":keepalive\n\n",
            (false, true) => b"event: heartbeat\ndata: {}\n\n",
            (true, false) => b"\n",
            (true, true) => b"{\"event\":\"heartbeat\",\"data\":{}}\n",
        };
        chunk(text)
    }

    /// A position, which is text that needs no escaping.
    fn id(self, out: &mut Vec<u8>, id: &str) {
        let (before, behind): (&[u8], &[u8]) = if self.lines { (b"{\"id\":\"", b"\",") } else { (b"id: ", b"\n") };
        out.extend_from_slice(before);
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(behind);
    }

    fn event(self, out: &mut Vec<u8>, kind: Kind, channel: &str, entry: &[u8]) {
        let name = match kind {
            Kind::Message | Kind::Meta => "message",
            Kind::Presence => "presence",
            Kind::Annotation => "annotation",
        };
        let (before, between): (&[u8], &[u8]) =
            if self.lines { (b"\"event\":\"", b"\",\"data\":") } else { (b"event: ", b"\n") };
        out.extend_from_slice(before);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(between);
        match (self.lines, self.bare) {
            (true, true) => json::text(out, &String::from_utf8_lossy(entry)),
            (false, true) => lines(out, entry),
            (lines, false) => {
                out.extend_from_slice(if lines { b"{\"channel\":" } else { b"data: {\"channel\":" });
                json::text(out, channel);
                out.push(b',');
                one_line(out, &entry[1..]);
            }
        }
        out.extend_from_slice(if self.lines { b"}\n" } else { b"\n\n" });
    }
}

/// A payload as a chunk; of nothing it is nothing, since a chunk without bytes would be the last.
pub(super) fn chunk(payload: &[u8]) -> Vec<u8> {
    if payload.is_empty() { Vec::new() } else { sized([HEAD, payload].concat()) }
}

fn chunked(out: Vec<u8>) -> Arc<[u8]> {
    sized(out).into()
}

/// Fills the room in front in, and ends the chunk.
fn sized(mut out: Vec<u8>) -> Vec<u8> {
    let size = format!("{:08x}", out.len() - HEAD.len());
    out[..size.len()].copy_from_slice(size.as_bytes());
    out.extend_from_slice(b"\r\n");
    out
}

/// JSON without the line breaks between its values.
fn one_line(out: &mut Vec<u8>, json: &[u8]) {
    let begin = out.len();
    out.extend_from_slice(json);
    for byte in &mut out[begin..] {
        *byte = if matches!(*byte, b'\n' | b'\r') { b' ' } else { *byte };
    }
}

/// Text as `data` fields, one for each of its lines, however they end.
fn lines(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        out.extend_from_slice(b"data: ");
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let Some(end) = end else {
            out.extend_from_slice(rest);
            return;
        };
        out.extend_from_slice(&rest[..end]);
        out.push(b'\n');
        rest = &rest[end + 1 + usize::from(rest[end..].starts_with(b"\r\n"))..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVENTS: Stream = Stream { lines: false, bare: false, several: false };

    /// The content of whole chunks.
    fn unchunked(mut bytes: &[u8]) -> String {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let size = usize::from_str_radix(std::str::from_utf8(&bytes[..8]).unwrap(), 16).unwrap();
            out.extend_from_slice(&bytes[10..10 + size]);
            assert_eq!(&bytes[10 + size..12 + size], b"\r\n");
            bytes = &bytes[12 + size..];
        }
        String::from_utf8(out).unwrap()
    }

    /// The `data` of the events of a stream, as the HTML standard has it read.
    fn data(text: &str) -> Vec<String> {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let blocks = text.split_terminator("\n\n");
        let fields = |block: &str| {
            let data = block.split('\n').filter_map(|line| line.strip_prefix("data: ")).collect::<Vec<_>>();
            assert!(
                block.split('\n').all(|line| ["id: ", "event: ", "data: "].iter().any(|name| line.starts_with(name)))
            );
            data.join("\n")
        };
        blocks.map(fields).collect()
    }

    #[test]
    fn each_event_has_the_position_behind_it() {
        let frame =
            EVENTS.frame(Kind::Message, "a\"b", &["p".to_owned(), "q".to_owned()], &[b"{\"id\":1}", b"{\"id\":2}"]);
        let event = |id, n| format!("id: {id}\nevent: message\ndata: {{\"channel\":\"a\\\"b\",\"id\":{n}}}\n\n");
        assert_eq!(unchunked(&frame), event("p", 1) + &event("q", 2));
    }

    #[test]
    fn with_several_channels_the_positions_of_all_go_before_the_event() {
        for lines in [false, true] {
            let stream = Stream { lines, several: true, ..EVENTS };
            let event = stream.frame(Kind::Presence, "c", &[], &[b"{\"id\":1}"]);
            let both = [&*stream.before(["p", "", "q"].into_iter()), &*event].concat();
            let alone = Stream { lines, ..EVENTS };
            let expected = alone.frame(Kind::Presence, "c", &["p,,q".to_owned()], &[b"{\"id\":1}"]);
            assert_eq!(unchunked(&both), unchunked(&expected));
        }
    }

    #[test]
    fn lines_are_objects() {
        for (bare, entry, data) in [
            (false, &b"{\"id\":1,\"extras\":{\r\n}}"[..], serde_json::json!({"channel": "c", "id": 1, "extras": {}})),
            (true, b"a\n\"b\"", serde_json::json!("a\n\"b\"")),
        ] {
            let stream = Stream { lines: true, bare, several: false };
            let line = unchunked(&stream.frame(Kind::Message, "c", &["p".to_owned()], &[entry]));
            assert_eq!(line.matches(['\n', '\r']).count(), 1);
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(line, serde_json::json!({"id": "p", "event": "message", "data": data}));
        }
    }

    #[test]
    fn nothing_is_no_chunk_since_that_would_be_the_last() {
        assert!(chunk(b"").is_empty());
    }

    proptest! {
        #[test]
        fn a_text_is_one_event_whatever_lines_it_has(
            texts in prop::collection::vec("[\n\r:ab]{0,12}|data: x|\n\nevent: error\n\n|\r\r", 1..4)
        ) {
            let stream = Stream { bare: true, ..EVENTS };
            let entries: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
            let frame = unchunked(&stream.frame(Kind::Message, "c", &[], &entries));
            let expected: Vec<_> = texts.iter().map(|text| text.replace("\r\n", "\n").replace('\r', "\n")).collect();
            prop_assert_eq!(data(&frame), expected);
        }

        #[test]
        fn json_is_one_line(breaks in "[\n\r ]{0,6}") {
            let entry = format!("{{\"id\":\"x\",\"extras\":{{{breaks}\"a\":{breaks}1}}}}");
            let frame = unchunked(&EVENTS.frame(Kind::Message, "c", &[], &[entry.as_bytes()]));
            let got: serde_json::Value = serde_json::from_str(&data(&frame)[0]).unwrap();
            prop_assert_eq!(&got["extras"]["a"], 1);
        }
    }
}
