//! From a record to the name of its channel: `TOPIC=TEMPLATE` rules, the first whose topic matches counts.
//!
//! A template is text with `#{topic}`, `#{key}`, `#{header.NAME}` and `#{value.PATH}` in it; the path leads through the
//! objects of a JSON value. A record that lacks what its template asks for is unroutable; it never gets a made-up name.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::limits::CHANNEL_NAME_MAX;
use crate::record::Record;

/// One rule.
#[derive(Debug)]
pub struct Rule {
    topic: Box<str>,
    template: Template,
}

/// All rules of a node, in order.
#[derive(Debug, Default)]
pub struct Rules(Vec<Rule>);

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Routed {
    /// Its channel.
    Channel(String),
    /// No rule has its topic.
    Unmatched,
    /// It lacks what its template asks for, or the outcome is no channel name.
    Unroutable,
}

impl Rules {
    /// Compiles `(topic, template)` pairs; the error is one line that names the bad template.
    pub fn new<'a>(rules: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        rules
            .into_iter()
            .map(|(topic, template)| Ok(Rule { topic: topic.into(), template: Template::parse(template)? }))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Where a record belongs.
    pub fn route(&self, record: &Record<'_>) -> Routed {
        let Some(rule) = self.0.iter().find(|rule| &*rule.topic == record.topic) else { return Routed::Unmatched };
        match rule.template.render(record) {
            Some(name) if is_channel_name(&name) => Routed::Channel(name),
            _ => Routed::Unroutable,
        }
    }
}

/// Whether a text may name a channel: not empty, not endless, no line break, no leading `:` or `[` (the protocol's
/// qualifiers begin with these).
pub fn is_channel_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= CHANNEL_NAME_MAX
        && !name.starts_with([':', '['])
        && !name.contains(['\n', '\r', '\0'])
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Topic,
    Key,
    Header(Box<str>),
    Value(Vec<Box<str>>),
}

#[derive(Debug, PartialEq, Eq)]
struct Template(Vec<Part>);

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("bad channel template {text:?}: {why}");
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("#{") {
            if at > 0 {
                parts.push(Part::Text(rest[..at].into()));
            }
            let inner = &rest[at + 2..];
            let end = inner.find('}').ok_or_else(|| bad("'#{' is never closed"))?;
            parts.push(Self::field(&inner[..end]).map_err(|why| bad(&why))?);
            rest = &inner[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        if parts.is_empty() {
            return Err(bad("it is empty"));
        }
        Ok(Self(parts))
    }

    fn field(name: &str) -> Result<Part, String> {
        match name.split_once('.') {
            None if name == "topic" => Ok(Part::Topic),
            None if name == "key" => Ok(Part::Key),
            Some(("header", header)) if !header.is_empty() => Ok(Part::Header(header.into())),
            Some(("value", path)) if path.split('.').all(|step| !step.is_empty()) => {
                Ok(Part::Value(path.split('.').map(Into::into).collect()))
            }
            _ => Err(format!("'#{{{name}}}' is none of #{{topic}}, #{{key}}, #{{header.NAME}}, #{{value.FIELD}}")),
        }
    }

    fn render(&self, record: &Record<'_>) -> Option<String> {
        let mut name = String::with_capacity(32);
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Topic => name.push_str(record.topic),
                Part::Key => name.push_str(std::str::from_utf8(record.key?).ok()?),
                Part::Header(header) => name.push_str(record.header(header)?),
                Part::Value(path) => name.push_str(&value_at(record.value?, path)?),
            }
        }
        Some(name)
    }
}

/// The text, number or truth value at a path of a JSON document; other parts of it are passed over unread.
fn value_at(json: &[u8], path: &[Box<str>]) -> Option<String> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let found = Step(path).deserialize(&mut reader).ok()??;
    reader.end().ok()?;
    Some(found)
}

/// Descends one step of a path.
struct Step<'p>(&'p [Box<str>]);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return reader.deserialize_any(Leaf);
        }
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if *key == *self.0[0] {
                found = map.next_value_seed(Step(&self.0[1..]))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// What a path may end at.
struct Leaf;

impl Visitor<'_> for Leaf {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true or false")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Some(truth.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Header;

    fn route(template: &str, key: Option<&[u8]>, value: &[u8], headers: &[Header<'_>]) -> Routed {
        let record =
            Record { topic: "t", partition: 0, offset: 0, epoch: 0, timestamp: 0, key, value: Some(value), headers };
        Rules::new([("t", template)]).unwrap().route(&record)
    }

    fn channel(name: &str) -> Routed {
        Routed::Channel(name.into())
    }

    #[test]
    fn a_template_is_filled_from_the_record() {
        let headers = [Header { name: "room", value: Some(b"7") }];
        assert_eq!(route("#{topic}:#{key}", Some(b"k"), b"", &[]), channel("t:k"));
        assert_eq!(route("r-#{header.room}", None, b"", &headers), channel("r-7"));
        assert_eq!(route("#{value.a.b}", None, br#"{"x":[1,{"a":2}],"a":{"b":"in","c":3}}"#, &[]), channel("in"));
        assert_eq!(route("u:#{value.id}!", None, br#"{"id":42}"#, &[]), channel("u:42!"));
        assert_eq!(route("constant", None, b"", &[]), channel("constant"));
    }

    #[test]
    fn a_record_that_lacks_a_field_is_unroutable() {
        assert_eq!(route("#{key}", None, b"", &[]), Routed::Unroutable);
        assert_eq!(route("#{key}", Some(b"\xff"), b"", &[]), Routed::Unroutable);
        assert_eq!(route("#{header.x}", None, b"", &[]), Routed::Unroutable);
        for value in [&b"not json"[..], b"{}", br#"{"a":{}}"#, br#"{"a":null}"#, br#"{"a":[1]}"#, br#"{"a":"x""#] {
            assert_eq!(route("#{value.a}", None, value, &[]), Routed::Unroutable);
        }
    }

    #[test]
    fn an_impossible_channel_name_is_unroutable() {
        for key in [&b""[..], b":x", b"[meta]x", b"a\nb", &[b'x'; CHANNEL_NAME_MAX + 1]] {
            assert_eq!(route("#{key}", Some(key), b"", &[]), Routed::Unroutable);
        }
    }

    #[test]
    fn the_first_rule_with_the_topic_counts_and_others_match_nothing() {
        let rules = Rules::new([("a", "one"), ("a", "two")]).unwrap();
        let record = |topic| Record {
            topic,
            partition: 0,
            offset: 0,
            epoch: 0,
            timestamp: 0,
            key: None,
            value: None,
            headers: &[],
        };
        assert_eq!(rules.route(&record("a")), channel("one"));
        assert_eq!(rules.route(&record("b")), Routed::Unmatched);
    }

    #[test]
    fn a_bad_template_is_named() {
        for template in ["", "#{", "#{nothing}", "#{value.}", "#{header.}", "#{value.a..b}"] {
            let error = Rules::new([("t", template)]).unwrap_err();
            assert!(error.contains(&format!("{template:?}")), "{error}");
        }
    }
}
