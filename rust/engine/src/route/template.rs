//! Text with fields of a record in it: `#{topic}`, `#{partition}`, `#{timestamp}`, `#{key}`, `#{key.PATH}`,
//! `#{header.NAME}`, `#{value.PATH}`; paths lead through the objects of a JSON text. With `[]` behind it, a field has
//! several values, and the template as many outcomes.

use std::ops::Range;

use smallvec::SmallVec;

use super::failure::{Cause, Failure};
use super::fields::{Fields, Found};
use super::shape::Shape;
use crate::limits::{CHANNEL_NAME_MAX, CHANNELS_PER_RECORD_MAX};
use crate::placing::Affixes;
use crate::record::Record;

/// What a template is filled from: a record, and what was found in its JSON texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'c, 'r> {
    pub(super) record: &'c Record<'r>,
    pub(super) key: &'r Found,
    pub(super) value: &'r Found,
}

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Topic,
    Partition,
    Timestamp,
    Key,
    KeyField(usize),
    Header(Box<str>),
    Value(usize),
    /// One of the several values.
    Each,
}

/// Where several values come from.
#[derive(Debug)]
enum List {
    Key,
    Header(Box<str>),
    Value,
}

/// One compiled template.
#[derive(Debug, Default)]
pub(super) struct Template {
    parts: Vec<Part>,
    list: Option<List>,
}

/// The outcomes of a template that has several.
#[derive(Debug, Default)]
pub(super) struct Several {
    text: String,
    places: SmallVec<[Range<usize>; 8]>,
}

impl Several {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Each once.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| &self.text[place.clone()])
    }
}

impl Template {
    /// Compiles a text. Its paths are added to those that are looked for in keys and values; `is_json` says whether the
    /// key as a whole is JSON too.
    pub(super) fn parse(text: &str, (key, is_json): (&mut Fields, bool), value: &mut Fields) -> Result<Self, String> {
        let mut template = Self::default();
        let mut rest = text;
        while let Some(at) = rest.find("#{") {
            if at > 0 {
                template.parts.push(Part::Text(rest[..at].into()));
            }
            let inner = &rest[at + 2..];
            let end = inner.find('}').ok_or("'#{' is never closed")?;
            let part = template.field(&inner[..end], (key, is_json), value)?;
            template.parts.push(part);
            rest = &inner[end + 1..];
        }
        if !rest.is_empty() {
            template.parts.push(Part::Text(rest.into()));
        }
        if template.parts.is_empty() {
            return Err("it is empty".into());
        }
        Ok(template)
    }

    fn field(&mut self, name: &str, (key, is_json): (&mut Fields, bool), value: &mut Fields) -> Result<Part, String> {
        let has_steps = |path: &str| path.split('.').all(|step| !step.is_empty());
        let (single, list) = match name.strip_suffix("[]") {
            Some(single) if single.contains('.') => (single, true),
            _ => (name, false),
        };
        let part = match single.split_once('.') {
            None if single == "topic" => Part::Topic,
            None if single == "partition" => Part::Partition,
            None if single == "timestamp" => Part::Timestamp,
            None if single == "key" && is_json => Part::KeyField(key.add_whole()?),
            None if single == "key" => Part::Key,
            Some(("header", header)) if !header.is_empty() => Part::Header(header.into()),
            Some(("key", path)) if has_steps(path) => Part::KeyField(key.add(path, list)?),
            Some(("value", path)) if has_steps(path) => Part::Value(value.add(path, list)?),
            _ => {
                return Err(format!(
                    "'#{{{name}}}' is none of #{{topic}}, #{{partition}}, #{{timestamp}}, #{{key}}, #{{key.FIELD}}, \
                     #{{header.NAME}}, #{{value.FIELD}}"
                ));
            }
        };
        if !list {
            return Ok(part);
        }
        let list = match part {
            Part::KeyField(_) => List::Key,
            Part::Header(header) => List::Header(header),
            _ => List::Value,
        };
        if self.list.replace(list).is_some() {
            return Err("two of its fields have several values".into());
        }
        Ok(Part::Each)
    }

    /// What it comes to for the records of a topic, as far as that is known of all of them.
    pub(super) fn shape(&self, topic: &str) -> Shape {
        let mut shape = Shape::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => shape.push_text(text),
                Part::Topic => shape.push_text(topic),
                _ => shape.push_field(),
            }
        }
        shape
    }

    /// What stands before and behind the record's key, if nothing else of a record is in it but the topic.
    pub(super) fn affixes(&self, topic: &str) -> Option<Affixes> {
        let mut keys = 0;
        for part in &self.parts {
            match part {
                Part::Text(_) | Part::Topic => {}
                Part::Key => keys += 1,
                _ => return None,
            }
        }
        (keys == 1).then(|| self.shape(topic).around())?
    }

    /// Whether it has several outcomes, or none.
    pub(super) fn is_several(&self) -> bool {
        self.list.is_some()
    }

    /// What it comes to: as it lies in the record where it is but one field, else in `room`.
    pub(super) fn render<'r>(&'r self, context: Context<'_, 'r>, room: &'r mut String) -> Result<&'r str, Failure> {
        if let [part] = &self.parts[..]
            && let Some(text) = part.text(context)?
        {
            return Ok(text);
        }
        room.clear();
        self.push(context, "", room)?;
        Ok(room)
    }

    /// What it comes to for each of the several values. Each outcome counts once.
    pub(super) fn render_all(&self, context: Context<'_, '_>, several: &mut Several) -> Result<(), Failure> {
        several.text.clear();
        several.places.clear();
        match &self.list {
            None => self.add("", context, several),
            Some(List::Key) => context.key.list().try_for_each(|each| self.add(each, context, several)),
            Some(List::Value) => context.value.list().try_for_each(|each| self.add(each, context, several)),
            Some(List::Header(name)) => {
                let values = header(context.record, name)?.split(',').map(str::trim);
                values.filter(|each| !each.is_empty()).try_for_each(|each| self.add(each, context, several))
            }
        }
    }

    fn add(&self, each: &str, context: Context<'_, '_>, several: &mut Several) -> Result<(), Failure> {
        let from = several.text.len();
        self.push(context, each, &mut several.text)?;
        let name = &several.text[from..];
        if name.len() > CHANNEL_NAME_MAX {
            // At the first of them: one long field in as many names as a list has parts is more than memory should see.
            return Err(Failure::of_name(name));
        }
        let is_known = several.iter().any(|other| other == name);
        if is_known {
            several.text.truncate(from);
        } else if several.places.len() == CHANNELS_PER_RECORD_MAX {
            return Err(Failure::new(Cause::Channel, format!("it has more than {CHANNELS_PER_RECORD_MAX} channels")));
        } else {
            several.places.push(from..several.text.len());
        }
        Ok(())
    }

    fn push(&self, context: Context<'_, '_>, each: &str, out: &mut String) -> Result<(), Failure> {
        for part in &self.parts {
            match part {
                Part::Partition => out.push_str(itoa::Buffer::new().format(context.record.partition)),
                Part::Timestamp => out.push_str(itoa::Buffer::new().format(context.record.timestamp)),
                Part::Each => out.push_str(each),
                part => out.push_str(part.text(context)?.unwrap_or_default()),
            }
        }
        Ok(())
    }
}

impl Part {
    /// The text where it lies; None if it lies nowhere yet.
    #[inline]
    fn text<'r>(&'r self, Context { record, key, value }: Context<'_, 'r>) -> Result<Option<&'r str>, Failure> {
        Ok(match self {
            Self::Text(text) => Some(text),
            Self::Topic => Some(record.topic),
            Self::Key => Some(key_text(record)?),
            Self::KeyField(number) => key.get(*number),
            Self::Header(name) => Some(header(record, name)?),
            Self::Value(number) => value.get(*number),
            Self::Partition | Self::Timestamp | Self::Each => None,
        })
    }
}

fn key_text<'r>(record: &Record<'r>) -> Result<&'r str, Failure> {
    let Some(key) = record.key else { return Err(Failure::new(Cause::Key, "it has no key")) };
    std::str::from_utf8(key).map_err(|_| Failure::new(Cause::Key, "its key is not UTF-8"))
}

fn header<'r>(record: &Record<'r>, name: &str) -> Result<&'r str, Failure> {
    record.header(name).ok_or_else(|| Failure::new(Cause::Header, format!("it has no header {name:?} that is text")))
}
