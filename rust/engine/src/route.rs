//! From a record to its channels and its message, by the rule for its topic.
//!
//! A record that its rule cannot be followed for is a failure with its cause and reason: it never gets a made-up channel,
//! and what becomes of it the rule says too. Records that clients published (they say `fanout.type`) are what they say
//! they are: a rule gives them channels, and shows their metadata if it does; the rest is for the records of others.

mod failure;
mod fields;
mod shape;
mod template;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use fields::{Fields, Found};
use parking_lot::RwLock;
use serde::de::IgnoredAny;

pub use failure::{Cause, Failure, OnFailure, Unrouted};
pub use shape::Shape;
use template::{Context, Template};

use crate::limits::{CHANNEL_NAME_MAX, LINGER_MS_MAX};
use crate::message::Message;
use crate::partition::Partition;
use crate::placing::Affixes;
use crate::record::{Reading, Record};

/// How bytes of a record are to be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// As what they turn out to be.
    #[default]
    Any,
    /// As bytes.
    Bytes,
    /// As text; what is none fails.
    Text,
    /// As JSON; what is none fails.
    Json,
    /// As JSON that somebody has made of them already, or has said that it cannot be done.
    Decoded,
}

/// What a record without a value is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tombstone {
    /// A message without data.
    #[default]
    Message,
    /// Nothing.
    Skip,
    /// A message that says that something was deleted.
    Delete,
}

/// A rule as it is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spec<'a> {
    /// The topic's name. Topics that a pattern matches are bound to its rule when they are met.
    pub topic: &'a str,
    /// Template of the channel.
    pub channel: &'a str,
    /// Template of the message's name.
    pub name: Option<&'a str>,
    /// Template of the message's clientId.
    pub client_id: Option<&'a str>,
    /// The key's.
    pub key: Format,
    /// The value's.
    pub value: Format,
    /// See there.
    pub tombstone: Tombstone,
    /// See there.
    pub on_failure: OnFailure,
    /// Whether the record's metadata are shown in `extras.headers`.
    pub expose: bool,
    /// How long shards may hold messages, in ms.
    pub linger_ms: u32,
    /// Whether the newest message of each key is kept for who comes later.
    pub snapshot: bool,
    /// Whether keys lie where murmur2 puts them. The channel's template is then text and the key.
    pub is_placed: bool,
}

impl<'a> From<(&'a str, &'a str)> for Spec<'a> {
    fn from((topic, channel): (&'a str, &'a str)) -> Self {
        Self { topic, channel, ..Self::default() }
    }
}

/// One rule.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of one")]
pub struct Rule {
    /// Its place among the rules.
    pub number: usize,
    /// See [`Spec`].
    pub on_failure: OnFailure,
    /// See [`Spec`].
    pub linger_ms: u32,
    /// See [`Spec`].
    pub snapshot: bool,
    channel: Template,
    name: Option<Template>,
    client_id: Option<Template>,
    key_fields: Fields,
    value_fields: Fields,
    key: Format,
    value: Format,
    tombstone: Tombstone,
    expose: bool,
    is_placed: bool,
    /// Whether all it says is the channel.
    is_plain: bool,
    stopped: AtomicBool,
    /// A bit for each cause that was reported.
    told: AtomicU8,
}

/// All rules of a node.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    by_topic: RwLock<HashMap<Box<str>, usize>>,
}

/// Room to put texts together in; used again for each record.
#[derive(Debug, Default)]
pub struct Scratch {
    key: Found,
    value: Found,
    names: template::Several,
    channel: String,
    name: String,
    client_id: String,
}

/// What a rule makes of a record.
#[derive(Debug)]
pub struct Routed<'r> {
    channels: Channels<'r>,
    name: Option<&'r str>,
    client_id: Option<&'r str>,
}

#[derive(Debug)]
enum Channels<'r> {
    One(&'r str),
    Several(&'r template::Several),
}

impl Rules {
    /// Compiles rules; the error is one line that names the bad template.
    pub fn new<'a, S: Into<Spec<'a>>>(rules: impl IntoIterator<Item = S>) -> Result<Self, String> {
        let mut made = Self::default();
        for (number, spec) in rules.into_iter().map(Into::into).enumerate() {
            made.rules.push(Rule::new(number, &spec)?);
            made.by_topic.get_mut().entry(spec.topic.into()).or_insert(number);
        }
        Ok(made)
    }

    /// The rule for a topic's records, if there is one.
    pub fn of(&self, topic: &str) -> Option<&Rule> {
        self.rules.get(*self.by_topic.read().get(topic)?)
    }

    /// The records of this topic follow the rule of this number, whatever topic that names.
    pub fn bind(&self, topic: &str, number: usize) {
        self.by_topic.write().insert(topic.into(), number);
    }
}

impl Rule {
    fn new(number: usize, spec: &Spec<'_>) -> Result<Self, String> {
        if spec.linger_ms > LINGER_MS_MAX {
            return Err(format!("messages may be held for at most {LINGER_MS_MAX} ms"));
        }
        let (mut key_fields, mut value_fields) = (Fields::default(), Fields::default());
        let mut compiled = |text: &str| {
            let is_json = matches!(spec.key, Format::Json | Format::Decoded);
            Template::parse(text, (&mut key_fields, is_json), &mut value_fields)
                .map_err(|why| format!("bad template {text:?}: {why}"))
        };
        let channel = compiled(spec.channel)?;
        if spec.is_placed && channel.affixes("").is_none() {
            return Err(format!(
                "bad template {:?}: of a partitioner's channels it is text and one #{{key}}",
                spec.channel
            ));
        }
        let mut single = |text: &str| match compiled(text)? {
            template if template.is_several() => Err(format!("bad template {text:?}: a field has several values")),
            template => Ok(template),
        };
        let name = spec.name.map(&mut single).transpose()?;
        let client_id = spec.client_id.map(&mut single).transpose()?;
        Ok(Self {
            number,
            on_failure: spec.on_failure,
            linger_ms: spec.linger_ms,
            snapshot: spec.snapshot,
            is_plain: name.is_none()
                && client_id.is_none()
                && (spec.key, spec.value) == (Format::Any, Format::Any)
                && spec.tombstone == Tombstone::Message
                && !spec.expose,
            channel,
            name,
            client_id,
            key_fields,
            value_fields,
            key: spec.key,
            value: spec.value,
            tombstone: spec.tombstone,
            expose: spec.expose,
            is_placed: spec.is_placed,
            stopped: AtomicBool::new(false),
            told: AtomicU8::new(0),
        })
    }

    /// The channels of a record of this rule's topic, and what else the rule says of it.
    pub fn apply<'r>(&'r self, record: &Record<'r>, scratch: &'r mut Scratch) -> Result<Routed<'r>, Unrouted> {
        if !self.is_plain {
            self.check(record)?;
        }
        if !self.value_fields.is_empty() {
            let Some(value) = record.value else { return Err(Failure::new(Cause::Value, "it has no value").into()) };
            self.value_fields.find(value, &mut scratch.value).map_err(|why| why.told(Cause::Value, "value"))?;
        }
        if !self.key_fields.is_empty() {
            let Some(key) = record.key else { return Err(Failure::new(Cause::Key, "it has no key").into()) };
            self.key_fields.find(key, &mut scratch.key).map_err(|why| why.told(Cause::Key, "key"))?;
        }
        let Scratch { key, value, names, channel, name, client_id } = scratch;
        let context = Context { record, key, value };
        let channels = if self.channel.is_several() {
            self.channel.render_all(context, names)?;
            if names.is_empty() {
                return Err(Unrouted::Nowhere);
            }
            Channels::Several(names)
        } else {
            Channels::One(self.channel.render(context, channel)?)
        };
        let wrong = match channels {
            Channels::One(name) => Some(name).filter(|name| !may_reach(record, name)),
            Channels::Several(names) => names.iter().find(|name| !may_reach(record, name)),
        };
        if let Some(name) = wrong {
            return Err(Failure::of_name(name).into());
        }
        Ok(Routed {
            channels,
            name: self.name.as_ref().map(|template| template.render(context, name)).transpose()?,
            client_id: self.client_id.as_ref().map(|template| template.render(context, client_id)).transpose()?,
        })
    }

    /// What is asked of a record beside its channel.
    fn check(&self, record: &Record<'_>) -> Result<(), Unrouted> {
        if record.is_published() {
            return Ok(());
        }
        if (self.key == Format::Decoded || self.value == Format::Decoded)
            && let Some(reason) = record.header("fanout.undecodable")
        {
            return Err(Failure::new(Cause::Decoding, reason).into());
        }
        if record.value.is_none() && self.tombstone == Tombstone::Skip {
            return Err(Unrouted::Tombstone);
        }
        fits(self.key, record.key).map_err(|why| Failure::new(Cause::Key, format!("its key {why}")))?;
        fits(self.value, record.value).map_err(|why| Failure::new(Cause::Value, format!("its value {why}")))?;
        Ok(())
    }

    /// The message in a record.
    pub fn message(&self, record: &Record<'_>, partition: Arc<Partition>, routed: &Routed<'_>) -> Message {
        if self.is_plain {
            return record.message(partition);
        }
        let reading = Reading {
            value: self.value,
            is_delete: self.tombstone == Tombstone::Delete,
            expose: self.expose,
            name: routed.name,
            client_id: routed.client_id,
        };
        record.message_as(partition, &reading)
    }

    /// What the channels of this topic's records look like.
    pub fn shape(&self, topic: &str) -> Shape {
        self.channel.shape(topic)
    }

    /// The channels of the keys of a topic, if keys lie where murmur2 puts them.
    pub fn affixes(&self, topic: &str) -> Option<Affixes> {
        if self.is_placed { self.channel.affixes(topic) } else { None }
    }

    /// Whether it reads no more, because a record failed.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// It reads no more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether somebody is to hear of this failure: of every one, if something is done with such records, and else of
    /// the first of each cause.
    pub(crate) fn reports(&self, cause: Cause) -> bool {
        let bit = 1 << cause as u8;
        self.told.fetch_or(bit, Ordering::Relaxed) & bit == 0 || self.on_failure != OnFailure::Skip
    }
}

impl<'r> Routed<'r> {
    /// The channel, of a rule that gives one.
    #[inline]
    pub fn channel(&self) -> Option<&'r str> {
        match self.channels {
            Channels::One(name) => Some(name),
            Channels::Several(_) => None,
        }
    }

    /// The channels, each once if names in a list are different.
    pub fn channels(&self) -> impl Iterator<Item = &'r str> {
        let (one, several) = match self.channels {
            Channels::One(name) => (Some(name), None),
            Channels::Several(names) => (None, Some(names)),
        };
        one.into_iter().chain(several.into_iter().flat_map(template::Several::iter))
    }
}

/// What ends the realm that may stand before a channel's name: ASCII's unit separator, which no client can spell.
pub(crate) const REALM_END: char = '\x1f';

/// Whether a text may name a channel: not empty, not endless, no line break, no leading `:` or `[` (the protocol's
/// qualifiers begin with these).
pub fn is_channel_name(name: &str) -> bool {
    is_name_without(name, |byte| matches!(byte, b'\n' | b'\r' | b'\0'))
}

/// Whether a record may be a message of the channel with this name. Into a realm nothing leads but what its clients
/// published, which has the channel's whole name for its key or in a header.
pub(crate) fn may_reach(record: &Record<'_>, name: &str) -> bool {
    is_name_without(name, |byte| matches!(byte, b'\n' | b'\r' | b'\0') || byte == REALM_END as u8)
        || (is_channel_name(name) && record.is_published() && is_said_by(record, name))
}

#[cold]
fn is_said_by(record: &Record<'_>, name: &str) -> bool {
    record.key == Some(name.as_bytes()) || record.header("fanout.channel") == Some(name)
}

#[inline]
fn is_name_without(name: &str, is_forbidden: impl Fn(u8) -> bool) -> bool {
    // Without an early end, so that many bytes are compared at a time.
    let breaks = name.bytes().fold(false, |found, byte| found | is_forbidden(byte));
    !name.is_empty() && name.len() <= CHANNEL_NAME_MAX && !name.starts_with([':', '[']) && !breaks
}

/// Whether bytes are what they are said to be; if not, what is wrong. No bytes are anything.
fn fits(format: Format, bytes: Option<&[u8]>) -> Result<(), &'static str> {
    let Some(bytes) = bytes else { return Ok(()) };
    match format {
        Format::Text | Format::Json if std::str::from_utf8(bytes).is_err() => Err("is not UTF-8"),
        Format::Json if serde_json::from_slice::<IgnoredAny>(bytes).is_err() => Err("is not JSON"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
