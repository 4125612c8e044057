//! The payload of a record whose value is an envelope: JSON that holds all that its message says, for readers that see
//! no headers. The header `fanout.format` tells such a record; `fanout.type` says what the payload in it is.
//!
//! The payload is taken out before anything else looks at the record. A value that is no envelope stays as it is.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::record::Header;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    messages: [Enveloped<'a>; 1],
}

#[derive(Deserialize)]
struct Enveloped<'a> {
    #[serde(borrow, default)]
    data: Option<Cow<'a, str>>,
}

/// What is in an envelope, in the place of the value; there may be no data.
pub type Payload = Option<Vec<u8>>;

/// The payload in the value of a record with these headers; None if there is no envelope.
pub fn payload(value: &[u8], headers: &[Header<'_>]) -> Option<Payload> {
    let said = |name: &str| headers.iter().find(|header| header.name == name)?.value;
    if said("fanout.format") != Some(b"enveloped") {
        return None;
    }
    let Envelope { messages: [Enveloped { data }] } = serde_json::from_slice(value).ok()?;
    let Some(data) = data else { return Some(None) };
    let binary = said("fanout.type") == Some(b"binary");
    Some(Some(if binary { STANDARD.decode(&*data).ok()? } else { data.into_owned().into_bytes() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(value: &str, kind: &[u8]) -> Option<Payload> {
        let headers = [
            Header { name: "fanout.type", value: Some(kind) },
            Header { name: "fanout.format", value: Some(b"enveloped") },
        ];
        payload(value.as_bytes(), &headers)
    }

    #[test]
    fn text_and_bytes_come_out_as_they_were_published() {
        let text =
            r#"{"source":"channel.message","messages":[{"id":"a","data":"in \"it\" \u00e9","extras":{"data":1}}]}"#;
        assert_eq!(taken(text, b"text").unwrap().unwrap(), "in \"it\" é".as_bytes());
        assert_eq!(taken(r#"{"messages":[{"data":"/wA="}]}"#, b"binary").unwrap().unwrap(), b"\xff\x00");
        assert_eq!(taken(r#"{"messages":[{"id":"a"}]}"#, b"none"), Some(None));
    }

    #[test]
    fn what_is_no_envelope_stays_as_it_is() {
        for value in
            ["", "{}", "text", "[]", r#"{"messages":[]}"#, r#"{"messages":[{},{}]}"#, r#"{"messages":[{"data":1}]}"#]
        {
            assert_eq!(taken(value, b"text"), None, "{value}");
        }
        assert_eq!(taken(r#"{"messages":[{"data":"no base64"}]}"#, b"binary"), None);
        let others = [Header { name: "fanout.type", value: Some(b"text") }];
        assert_eq!(payload(br#"{"messages":[{"data":"x"}]}"#, &others), None);
    }
}
