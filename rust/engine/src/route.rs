//! From a record to the name of its channel: `TOPIC=TEMPLATE` rules, the first whose topic matches counts.
//!
//! A template is text with `#{topic}`, `#{key}`, `#{header.NAME}` and `#{value.PATH}` in it; the path leads through the
//! objects of a JSON value. A record that lacks what its template asks for is unroutable; it never gets a made-up name.

mod fields;

use fields::{Fields, Found};

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

/// Room to put names together in; used again for each record.
#[derive(Debug, Default)]
pub struct Scratch {
    name: String,
    found: Found,
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

    /// The rule for a topic's records, if there is one.
    pub fn of(&self, topic: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| *rule.topic == *topic)
    }
}

impl Rule {
    /// The channel of a record of this rule's topic. None if it lacks what the template asks for, or if the outcome is
    /// no channel name.
    pub fn channel<'r>(&'r self, record: &Record<'r>, scratch: &'r mut Scratch) -> Option<&'r str> {
        self.template.render(record, scratch).filter(|name| is_channel_name(name))
    }
}

/// Whether a text may name a channel: not empty, not endless, no line break, no leading `:` or `[` (the protocol's
/// qualifiers begin with these).
pub fn is_channel_name(name: &str) -> bool {
    // Without an early end, so that many bytes are compared at a time.
    let breaks = name.bytes().fold(false, |found, byte| found | matches!(byte, b'\n' | b'\r' | b'\0'));
    !name.is_empty() && name.len() <= CHANNEL_NAME_MAX && !name.starts_with([':', '[']) && !breaks
}

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Topic,
    Key,
    Header(Box<str>),
    Value(usize),
}

impl Part {
    fn text<'r>(&'r self, record: &Record<'r>, found: &'r Found) -> Option<&'r str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Topic => Some(record.topic),
            Self::Key => std::str::from_utf8(record.key?).ok(),
            Self::Header(header) => record.header(header),
            Self::Value(number) => found.get(*number),
        }
    }
}

#[derive(Debug, Default)]
struct Template {
    parts: Vec<Part>,
    fields: Fields,
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("bad channel template {text:?}: {why}");
        let mut template = Self::default();
        let mut rest = text;
        while let Some(at) = rest.find("#{") {
            if at > 0 {
                template.parts.push(Part::Text(rest[..at].into()));
            }
            let inner = &rest[at + 2..];
            let end = inner.find('}').ok_or_else(|| bad("'#{' is never closed"))?;
            let part = template.field(&inner[..end]).map_err(|why| bad(&why))?;
            template.parts.push(part);
            rest = &inner[end + 1..];
        }
        if !rest.is_empty() {
            template.parts.push(Part::Text(rest.into()));
        }
        if template.parts.is_empty() {
            return Err(bad("it is empty"));
        }
        Ok(template)
    }

    fn field(&mut self, name: &str) -> Result<Part, String> {
        match name.split_once('.') {
            None if name == "topic" => Ok(Part::Topic),
            None if name == "key" => Ok(Part::Key),
            Some(("header", header)) if !header.is_empty() => Ok(Part::Header(header.into())),
            Some(("value", path)) if path.split('.').all(|step| !step.is_empty()) => {
                self.fields.add(path).map(Part::Value)
            }
            _ => Err(format!("'#{{{name}}}' is none of #{{topic}}, #{{key}}, #{{header.NAME}}, #{{value.FIELD}}")),
        }
    }

    fn render<'r>(&'r self, record: &Record<'r>, scratch: &'r mut Scratch) -> Option<&'r str> {
        let Scratch { name, found } = scratch;
        if !self.fields.is_empty() && !self.fields.find(record.value?, found) {
            return None;
        }
        if let [part] = &self.parts[..] {
            return part.text(record, found); // as it lies in the record: nothing is copied
        }
        name.clear();
        for part in &self.parts {
            name.push_str(part.text(record, found)?);
        }
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Header;

    fn route(template: &str, key: Option<&[u8]>, value: &[u8], headers: &[Header<'_>]) -> Option<String> {
        let record =
            Record { topic: "t", partition: 0, offset: 0, epoch: 0, timestamp: 0, key, value: Some(value), headers };
        let rules = Rules::new([("t", template)]).unwrap();
        rules.of("t").unwrap().channel(&record, &mut Scratch::default()).map(Into::into)
    }

    #[test]
    fn a_template_is_filled_from_the_record() {
        let headers = [Header { name: "room", value: Some(b"7") }];
        assert_eq!(route("#{topic}:#{key}", Some(b"k"), b"", &[]), Some("t:k".into()));
        assert_eq!(route("r-#{header.room}", None, b"", &headers), Some("r-7".into()));
        assert_eq!(route("#{value.a.b}", None, br#"{"x":[1,{"a":2}],"a":{"b":"in","c":3}}"#, &[]), Some("in".into()));
        assert_eq!(route("u:#{value.id}!", None, br#"{"id":42}"#, &[]), Some("u:42!".into()));
        assert_eq!(route("constant", None, b"", &[]), Some("constant".into()));
    }

    #[test]
    fn a_record_that_lacks_a_field_is_unroutable() {
        assert_eq!(route("#{key}", None, b"", &[]), None);
        assert_eq!(route("#{key}", Some(b"\xff"), b"", &[]), None);
        assert_eq!(route("#{header.x}", None, b"", &[]), None);
        for value in [&b"not json"[..], b"{}", br#"{"a":{}}"#, br#"{"a":null}"#, br#"{"a":[1]}"#, br#"{"a":"x"#] {
            assert_eq!(route("#{value.a}", None, value, &[]), None);
        }
    }

    #[test]
    fn an_impossible_channel_name_is_unroutable() {
        for key in [&b""[..], b":x", b"[meta]x", b"a\nb", &[b'x'; CHANNEL_NAME_MAX + 1]] {
            assert_eq!(route("#{key}", Some(key), b"", &[]), None);
        }
    }

    #[test]
    fn the_first_rule_with_the_topic_counts_and_others_match_nothing() {
        let rules = Rules::new([("a", "one"), ("a", "two")]).unwrap();
        let record = Record {
            topic: "a",
            partition: 0,
            offset: 0,
            epoch: 0,
            timestamp: 0,
            key: None,
            value: None,
            headers: &[],
        };
        assert_eq!(rules.of("a").unwrap().channel(&record, &mut Scratch::default()), Some("one"));
        assert!(rules.of("b").is_none());
    }

    #[test]
    fn a_bad_template_is_named() {
        for template in ["", "#{", "#{nothing}", "#{value.}", "#{header.}", "#{value.a..b}", "#{value.a}#{value.a.b}"] {
            let error = Rules::new([("t", template)]).unwrap_err();
            assert!(error.contains(&format!("{template:?}")), "{error}");
        }
    }
}
