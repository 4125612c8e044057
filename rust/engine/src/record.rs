//! What a source delivers, and how a message is read out of it.
//!
//! A client's publish carries headers: `fanout.type` (`text`, `binary`, `none`) says how the value is to be read, and
//! `fanout.id`, `.name`, `.encoding`, `.clientId`, `.connectionId`, `.extras` are the message's fields. A record
//! without `fanout.type` is anybody's: its value is taken for what it is.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::change::{CREATE, DELETE};
use crate::kind::Kind;
use crate::limits::TIMESTAMP_MAX;
use crate::message::{FIELDS, Field, Fields, Form, Message, serial};
use crate::partition::Partition;
use crate::route::Format;

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
    /// In ms, as [`time_of`] tells it.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a [Header<'a>],
}

/// The time of a record by what its producer has written there, which may be anything: a date that every client can read.
/// None (-1), and what is before 1970, is 1970.
pub fn time_of(said: i64) -> i64 {
    said.clamp(0, TIMESTAMP_MAX)
}

/// What a rule says of the message in a record.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// How the value is to be read.
    pub value: Format,
    /// Whether a record without a value is a delete.
    pub is_delete: bool,
    /// Whether to show the record's metadata.
    pub expose: bool,
    /// The message's name.
    pub name: Option<&'a str>,
    /// Who it is from.
    pub client_id: Option<&'a str>,
}

impl<'r> Record<'r> {
    /// The first header of that name, as text.
    pub fn header(&self, name: &str) -> Option<&'r str> {
        std::str::from_utf8(self.raw_header(name)?).ok()
    }

    /// The first header of that name, as it lies in the record.
    pub(crate) fn raw_header(&self, name: &str) -> Option<&'r [u8]> {
        self.headers.iter().find(|header| header.name == name)?.value
    }

    /// Whether a client published it, and it says itself what its message is: in text, for so fanout writes.
    pub(crate) fn is_published(&self) -> bool {
        self.header("fanout.type").is_some()
    }

    /// The message in this record.
    pub fn message(&self, partition: Arc<Partition>) -> Message {
        let place = (self.offset, self.timestamp);
        let data = self.value.unwrap_or_default();
        let what = (Kind::Message, CREATE);
        let Some(form) = self.header("fanout.type") else {
            let form = if self.value.is_some() { Form::Plain } else { Form::None };
            return Message::new(partition, place, what, form, data, None);
        };
        let (form, data) = form_of(form, self.value);
        Message::new(partition, place, what, form, data, Some(&self.fields()))
    }

    /// The message in this record, by a rule that says more of it than its channel.
    pub(crate) fn message_as(&self, partition: Arc<Partition>, reading: &Reading<'_>) -> Message {
        let mut fields: Fields<'_> = [None; FIELDS];
        let mut action = CREATE;
        let more;
        let (form, data) = if let Some(form) = self.header("fanout.type") {
            fields = self.fields();
            form_of(form, self.value)
        } else {
            fields[Field::Name as usize] = reading.name;
            fields[Field::ClientId as usize] = reading.client_id;
            match (self.value, reading.value) {
                (Some(data), Format::Any) => (Form::Plain, data),
                (Some(data), Format::Bytes) => (Form::Binary, data),
                (Some(data), Format::Text) => (Form::Text, data),
                (Some(data), Format::Json | Format::Decoded) => (Form::Json, data),
                (None, _) if reading.is_delete => {
                    let serial = Value::from(serial(&partition.topic, partition.number, self.offset));
                    more = format!(
                        r#"{{"serial":{serial},"version":{{"serial":{serial},"timestamp":{}}}}}"#,
                        self.timestamp
                    );
                    fields[Field::More as usize] = Some(&more);
                    action = DELETE;
                    (Form::Tombstone, &[][..])
                }
                (None, _) => (Form::None, &[][..]),
            }
        };
        let extras = reading.expose.then(|| self.exposed(fields[Field::Extras as usize]));
        fields[Field::Extras as usize] = extras.as_deref().or(fields[Field::Extras as usize]);
        Message::new(partition, (self.offset, self.timestamp), (Kind::Message, action), form, data, Some(&fields))
    }

    /// Extras with the record's metadata among the headers: where it lies, its key and its own headers, as far as they
    /// are text.
    fn exposed(&self, extras: Option<&str>) -> String {
        let mut extras: Map<String, Value> =
            extras.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let mut shown = match extras.remove("headers") {
            Some(Value::Object(headers)) => headers,
            _ => Map::new(),
        };
        for header in self.headers.iter().filter(|header| !header.name.starts_with("fanout.")) {
            if let Some(text) = header.value.and_then(|value| std::str::from_utf8(value).ok()) {
                shown.entry(header.name).or_insert_with(|| text.into());
            }
        }
        if let Some(key) = self.key.and_then(|key| std::str::from_utf8(key).ok()) {
            shown.insert("key".into(), key.into());
        }
        shown.insert("topic".into(), self.topic.into());
        shown.insert("partition".into(), self.partition.into());
        shown.insert("offset".into(), self.offset.into());
        extras.insert("headers".into(), shown.into());
        Value::from(extras).to_string()
    }

    fn fields(&self) -> Fields<'r> {
        let mut fields = [None; FIELDS];
        for header in self.headers {
            let Some(name) = header.name.strip_prefix("fanout.") else { continue };
            let field = match name {
                "id" => Field::Id,
                "name" => Field::Name,
                "encoding" => Field::Encoding,
                "clientId" => Field::ClientId,
                "connectionId" => Field::ConnectionId,
                "extras" => Field::Extras,
                _ => continue,
            };
            let text = header.value.and_then(|value| std::str::from_utf8(value).ok());
            // Extras are spliced into frames as they are: what every reader of JSON can read, and nothing else.
            fields[field as usize] = text.filter(|text| field != Field::Extras || is_object(text));
        }
        fields
    }
}

/// How a value is to be read that the header `fanout.type` says this of, and what there is to read.
pub(crate) fn form_of<'r>(said: &str, value: Option<&'r [u8]>) -> (Form, &'r [u8]) {
    match (said, value) {
        ("none", _) | (_, None) => (Form::None, &[]),
        ("text", Some(data)) => (Form::Text, data),
        (_, Some(data)) => (Form::Binary, data),
    }
}

/// Whether a text is a JSON object, its texts sound down to the last escape (which looking for its end does not tell).
pub(crate) fn is_object(text: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Data;
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
            (Some(&b"hello"[..]), Data::Text("hello")),
            (Some(b"42"), Data::Text("42")),
            (Some(br#" {"a":1}"#), Data::Json(r#" {"a":1}"#)),
            (Some(b"[1,2]"), Data::Json("[1,2]")),
            (Some(b"{not json"), Data::Text("{not json")),
            (Some(b"\xff\x00"), Data::Binary(b"\xff\x00")),
            (None, Data::None),
        ] {
            assert_eq!(record(value, &[]).message(partition()).data().0, expected);
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
        assert_eq!(message.data(), (Data::Text(r#"{"a":1}"#), None));
        let fields = [Field::Id, Field::Name, Field::ClientId, Field::Extras].map(|field| message.field(field));
        assert_eq!(fields, [Some("c:1:0"), Some("greeting"), None, Some(r#"{"headers":{}}"#)]);
    }

    #[test]
    fn extras_that_not_everyone_can_read_are_left_out() {
        let deep = "{\"a\":".repeat(200) + "1" + &"}".repeat(200);
        for extras in ["{", "[]", "1", r#"{"a":"\ud800"}"#, &deep] {
            let headers = [
                Header { name: "fanout.type", value: Some(b"text") },
                Header { name: "fanout.extras", value: Some(extras.as_bytes()) },
            ];
            assert_eq!(record(Some(b"x"), &headers).message(partition()).field(Field::Extras), None, "{extras:.20}");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_binary() {
        let headers = [Header { name: "fanout.type", value: Some(b"text") }];
        assert_eq!(record(Some(b"\xff"), &headers).message(partition()).data(), (Data::Binary(b"\xff"), None));
    }
}
