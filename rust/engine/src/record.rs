//! What a source delivers, and how a message is read out of it.
//!
//! A client's publish carries headers: `fanout.type` (`text`, `binary`, `none`) says how the value is to be read, and
//! `fanout.id`, `.name`, `.encoding`, `.clientId`, `.connectionId`, `.extras` are the message's fields. A record
//! without `fanout.type` is anybody's: its value is taken for what it is.

use std::sync::Arc;

use crate::message::{Data, Message, Meta};
use crate::partition::Partition;

/// One header of a record.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value; Kafka allows none.
    pub value: Option<&'a [u8]>,
}

/// One record, borrowed from whoever read it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Where it lies.
    pub topic: &'a str,
    /// Where it lies.
    pub partition: i32,
    /// Where it lies.
    pub offset: i64,
    /// -1 where there is none.
    pub epoch: i32,
    /// In ms.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a [Header<'a>],
}

impl Record<'_> {
    /// The first header of that name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name == name)?;
        std::str::from_utf8(header.value?).ok()
    }

    /// The message in this record.
    pub fn message(&self, partition: Arc<Partition>) -> Message {
        let (data, meta) = match self.header("fanout.type") {
            Some(kind) => (self.published(kind), Some(Box::new(self.meta()))),
            None => (plain(self.value), None),
        };
        Message::new(partition, self.offset, self.timestamp, data, meta)
    }

    fn published(&self, kind: &str) -> Data {
        match (kind, self.value) {
            ("none", _) | (_, None) => Data::None,
            ("text", Some(value)) => match std::str::from_utf8(value) {
                Ok(text) => Data::Text(text.into()),
                Err(_) => Data::Binary(value.into()),
            },
            (_, Some(value)) => Data::Binary(value.into()),
        }
    }

    fn meta(&self) -> Meta {
        let mut meta = Meta::default();
        for header in self.headers {
            let Some(field) = header.name.strip_prefix("fanout.") else { continue };
            let slot = match field {
                "id" => &mut meta.id,
                "name" => &mut meta.name,
                "encoding" => &mut meta.encoding,
                "clientId" => &mut meta.client_id,
                "connectionId" => &mut meta.connection_id,
                "extras" => &mut meta.extras,
                _ => continue,
            };
            let text = header.value.and_then(|value| std::str::from_utf8(value).ok());
            // Extras are spliced into frames as they are: what every reader of JSON can read, and nothing else.
            let sound = text.filter(|text| field != "extras" || is_object(text));
            *slot = sound.map(Into::into);
        }
        meta
    }
}

fn plain(value: Option<&[u8]>) -> Data {
    let Some(value) = value else { return Data::None };
    let Ok(text) = std::str::from_utf8(value) else { return Data::Binary(value.into()) };
    match text.trim_start().as_bytes().first() {
        Some(b'{' | b'[') if is_json(text) => Data::Json(text.into()),
        _ => Data::Text(text.into()),
    }
}

/// Whether a text is a JSON object, its texts sound down to the last escape (which looking for its end does not tell).
fn is_object(text: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok()
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Partitions;

    fn partition() -> Arc<Partition> {
        Partitions::default().assign("t", [1; 16], 0, 0).unwrap()
    }

    fn record<'a>(value: Option<&'a [u8]>, headers: &'a [Header<'a>]) -> Record<'a> {
        Record { topic: "t", partition: 0, offset: 7, epoch: -1, timestamp: 99, key: None, value, headers }
    }

    #[test]
    fn a_plain_record_is_text_json_or_binary_by_what_it_is() {
        for (value, expected) in [
            (Some(&b"hello"[..]), Data::Text("hello".into())),
            (Some(b"42"), Data::Text("42".into())),
            (Some(br#" {"a":1}"#), Data::Json(r#" {"a":1}"#.into())),
            (Some(b"[1,2]"), Data::Json("[1,2]".into())),
            (Some(b"{not json"), Data::Text("{not json".into())),
            (Some(b"\xff\x00"), Data::Binary(b"\xff\x00"[..].into())),
            (None, Data::None),
        ] {
            assert_eq!(record(value, &[]).message(partition()).data, expected);
        }
    }

    #[test]
    fn a_published_record_is_what_its_headers_say() {
        let headers = [
            Header { name: "fanout.type", value: Some(b"text") },
            Header { name: "fanout.id", value: Some(b"c:1:0") },
            Header { name: "fanout.name", value: Some(b"greeting") },
            Header { name: "fanout.extras", value: Some(br#"{"headers":{}}"#) },
            Header { name: "other", value: None },
        ];
        let message = record(Some(br#"{"a":1}"#), &headers).message(partition());
        assert_eq!(message.data, Data::Text(r#"{"a":1}"#.into()));
        assert_eq!(message.meta(|m| &m.id), Some("c:1:0"));
        assert_eq!(message.meta(|m| &m.name), Some("greeting"));
        assert_eq!(message.meta(|m| &m.extras), Some(r#"{"headers":{}}"#));
    }

    #[test]
    fn extras_that_not_everyone_can_read_are_left_out() {
        let deep = "{\"a\":".repeat(200) + "1" + &"}".repeat(200);
        for extras in ["{", "[]", "1", r#"{"a":"\ud800"}"#, &deep] {
            let headers = [
                Header { name: "fanout.type", value: Some(b"text") },
                Header { name: "fanout.extras", value: Some(extras.as_bytes()) },
            ];
            assert_eq!(record(Some(b"x"), &headers).message(partition()).meta(|m| &m.extras), None, "{extras:.20}");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_binary() {
        let headers = [Header { name: "fanout.type", value: Some(b"text") }];
        assert_eq!(record(Some(b"\xff"), &headers).message(partition()).data, Data::Binary(b"\xff"[..].into()));
    }
}
