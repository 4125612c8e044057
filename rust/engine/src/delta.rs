//! Deltas between payloads that follow each other on a channel (VCDIFF, RFC 3284).
//!
//! A delta has one window and neither checksum nor secondary compression: what the protocol's decoders read. What is
//! compared is text as UTF-8, JSON text among it, and bytes that nothing is known about. What a client has encrypted, or
//! encoded in ways of its own, is left alone: there is nothing to gain, and a receiver that cannot decode it would go on
//! from something else.

use std::sync::Arc;

use oxidelta::compress::encoder::{CompressOptions, encode_all};

use crate::limits::DELTA_PAYLOAD_MAX;
use crate::message::{Data, FIELDS, Field, Form, Message, is_json};

/// A message as it is given to who has the one before it: its data is what turns that one's payload into its own. None
/// where they cannot be compared, or nothing would be gained.
pub fn between(base: &Message, message: &Message) -> Option<Message> {
    let ((base_data, base_encoding), (data, encoding)) = (base.data(), message.data());
    let ((base_payload, _), (payload, steps)) = (compared(base_data, base_encoding)?, compared(data, encoding)?);
    let bytes = delta(base_payload, payload)?;
    let extras = with_delta(message.field(Field::Extras), &base.id());
    let mut fields = [None; FIELDS];
    for field in [Field::Id, Field::Name, Field::ClientId, Field::ConnectionId] {
        fields[field as usize] = message.field(field);
    }
    fields[Field::Encoding as usize] = Some(steps);
    fields[Field::Extras as usize] = Some(&extras);
    let (place, what) = ((message.offset, message.timestamp), (message.kind, message.action));
    Some(Message::new(Arc::clone(&message.partition), place, what, Form::Binary, &bytes, Some(&fields)))
}

/// The bytes that are compared, and the encoding of a delta between such.
fn compared<'a>(data: Data<'a>, encoding: Option<&str>) -> Option<(&'a [u8], &'static str)> {
    match (data, encoding) {
        (Data::Text(text), None) => Some((text.as_bytes(), "utf-8/vcdiff")),
        (Data::Json(text), _) => Some((text.as_bytes(), "json/utf-8/vcdiff")),
        (Data::Text(text), Some("json")) if is_json(text) => Some((text.as_bytes(), "json/utf-8/vcdiff")),
        (Data::Binary(bytes), None) => Some((bytes, "vcdiff")),
        _ => None,
    }
}

/// Extras, which are the text of a JSON object, and in them what a delta is from.
fn with_delta(extras: Option<&str>, from: &str) -> String {
    let delta = serde_json::json!({ "from": from, "format": "vcdiff" });
    let others = extras.and_then(|text| text.trim_end().strip_suffix('}')).map_or("{", str::trim_end);
    let comma = if others.trim_start() == "{" { "" } else { "," };
    format!("{others}{comma}\"delta\":{delta}}}")
}

/// What turns `base` into `payload`; None unless it is smaller than the payload, or if one of them is too large to be
/// compared.
pub fn delta(base: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    if base.is_empty() || base.len().max(payload.len()) > DELTA_PAYLOAD_MAX {
        return None;
    }
    let options = CompressOptions { window_size: DELTA_PAYLOAD_MAX, checksum: false, ..CompressOptions::default() };
    let mut bytes = Vec::with_capacity(64);
    encode_all(&mut bytes, base, payload, options).ok()?;
    (bytes.len() < payload.len()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use oxidelta::compress::decoder::decode_all;
    use proptest::prelude::*;

    use super::*;
    use crate::kind::Kind;
    use crate::message::Fields;
    use crate::partition::Partitions;

    fn message(form: Form, data: &[u8], set: &[(Field, &'static str)]) -> Message {
        let partition = Partitions::default().assign("t", [0; 16], 3, 0).unwrap();
        let mut fields: Fields<'_> = [None; FIELDS];
        for (field, text) in set {
            fields[*field as usize] = Some(text);
        }
        let fields = (form != Form::Plain).then_some(&fields);
        Message::new(partition, (7, 9), (Kind::Message, 0), form, data, fields)
    }

    /// The encoding of a delta between two messages of this form and encoding, if they take part.
    fn steps(form: Form, data: &[u8], encoding: Option<&'static str>) -> Option<String> {
        let set: Vec<_> = encoding.map(|encoding| (Field::Encoding, encoding)).into_iter().collect();
        let one = message(form, data, &set);
        between(&one, &one).and_then(|delta| delta.field(Field::Encoding).map(str::to_owned))
    }

    #[test]
    fn text_json_and_bytes_take_part_and_say_how_they_are_read() {
        let json: &[u8] = br#"{"home": 1, "away": 2, "minute": 90, "scorer": "somebody"}"#;
        for (form, data, encoding, expected) in [
            (Form::Text, json, None, Some("utf-8/vcdiff")),
            (Form::Text, json, Some("json"), Some("json/utf-8/vcdiff")),
            (Form::Plain, json, None, Some("json/utf-8/vcdiff")),
            (Form::Binary, json, None, Some("vcdiff")),
            (Form::Plain, &[0xFF; 99], None, Some("vcdiff")),
            (Form::Text, b"{{ a text that is long enough and no JSON, though it says so", Some("json"), None),
            (Form::Binary, json, Some("json/utf-8/cipher+aes-256-cbc"), None),
            (Form::Text, json, Some("base64"), None),
            (Form::Text, json, Some("of/my/own"), None),
            (Form::None, b"", None, None),
        ] {
            assert_eq!(steps(form, data, encoding).as_deref(), expected, "{form:?} {encoding:?}");
        }
    }

    #[test]
    fn a_delta_is_its_message_with_other_data() {
        let text = "the same for a good while, and then ".repeat(3);
        let base = message(Form::Plain, format!("{text}one").as_bytes(), &[]);
        let set = [
            (Field::Id, "c:0:0"),
            (Field::Name, "n"),
            (Field::ClientId, "me"),
            (Field::ConnectionId, "c"),
            (Field::Extras, r#" {"headers": {"n": 12345678901234567890123} } "#),
        ];
        let next = message(Form::Text, format!("{text}two").as_bytes(), &set);
        let made = between(&base, &next).unwrap();
        for (field, text) in &set[..4] {
            assert_eq!(made.field(*field), Some(*text));
        }
        assert_eq!((made.offset, made.timestamp, made.serial()), (7, 9, next.serial()));
        let extras = r#" {"headers": {"n": 12345678901234567890123},"delta":{"format":"vcdiff","from":"t:3:7"}}"#;
        assert_eq!(made.field(Field::Extras), Some(extras));
        let Data::Binary(bytes) = made.data().0 else { panic!("a delta is bytes") };
        assert_eq!(decode_all(format!("{text}one").as_bytes(), bytes).unwrap(), format!("{text}two").as_bytes());
    }

    #[test]
    fn what_a_delta_is_from_is_among_all_extras() {
        for extras in [None, Some("{}"), Some(" { } ")] {
            let made: serde_json::Value = serde_json::from_str(&with_delta(extras, "a\"b")).unwrap();
            assert_eq!(made, serde_json::json!({"delta": {"from": "a\"b", "format": "vcdiff"}}));
        }
    }

    #[test]
    fn a_small_change_of_a_document_is_a_small_delta() {
        let base: Vec<u8> = (0..2_000u32).map(|n| (n * n % 251) as u8).collect();
        let mut payload = base.clone();
        payload[1_000] ^= 1;
        let bytes = delta(&base, &payload).unwrap();
        assert!(bytes.len() < 64, "{}", bytes.len());
        assert_eq!(&bytes[..3], b"\xd6\xc3\xc4");
        assert_eq!(decode_all(&base, &bytes).unwrap(), payload);
    }

    #[test]
    fn what_is_not_smaller_is_none() {
        assert_eq!(delta(b"abcdefgh", b"12345678"), None);
        assert_eq!(delta(b"", &[1; 100]), None);
        assert_eq!(delta(b"abc", b""), None);
    }

    #[test]
    fn what_is_too_large_is_none() {
        let most = vec![7; DELTA_PAYLOAD_MAX];
        assert!(delta(&most, &most).is_some());
        assert_eq!(delta(&most, &vec![7; DELTA_PAYLOAD_MAX + 1]), None);
        assert_eq!(delta(&vec![7; DELTA_PAYLOAD_MAX + 1], &most), None);
    }

    proptest! {
        #[test]
        fn a_delta_gives_the_payload_back(
            base in proptest::collection::vec(0u8..8, 0..600),
            cut in 0usize..600,
            middle in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let cut = cut.min(base.len());
            let payload = [&base[..cut], &middle, &base[cut..]].concat();
            if let Some(bytes) = delta(&base, &payload) {
                prop_assert!(bytes.len() < payload.len());
                prop_assert_eq!(decode_all(&base, &bytes).unwrap(), payload);
            }
        }
    }
}
