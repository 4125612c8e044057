//! What a record does to a message that is there already: update, delete, append, annotate (Ably protocol, "Update,
//! delete, append", "Annotations").
//!
//! | header | meaning |
//! |---|---|
//! | `fanout.action` | `update`, `delete`, `append` or `annotation`; a record without it is a message |
//! | `fanout.serial` | of the message that is meant |
//! | `fanout.version` | JSON object, of a change: `clientId`, `description`, `metadata` |
//! | `fanout.timestamp` | the message's own, in ms: the record holds the whole message, the change in it |
//! | `fanout.set` | in such a record, what the change set: some of `name`, `data`, `extras` with spaces between |
//! | `fanout.appended` | in such a record, how many bytes at the end of the value the change appended |
//! | `fanout.annotation` | JSON object: `action` 0 or 1, `type`, `name`, `count` |
//! | `fanout.summary` | what the annotations before this one come to, by [`Summary::state`] |
//!
//! A change says of name, data and extras what is new; the rest stays. Changes are merged in the order of the log onto
//! the version that a node holds, so nodes that hold one agree. A node that holds none takes what the record holds.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::kind::Kind;
use crate::message::{Data, FIELDS, Field, Fields, Form, Message};
use crate::record::{Record, time_of};
use crate::summary::{Counted, Summary};

/// Numbers of the protocol.
pub const CREATE: u8 = 0;
/// See [`CREATE`].
pub const UPDATE: u8 = 1;
/// See [`CREATE`].
pub const DELETE: u8 = 2;
/// See [`CREATE`].
pub const SUMMARY: u8 = 4;
/// See [`CREATE`].
pub const APPEND: u8 = 5;

/// What a record does.
#[derive(Debug)]
pub enum Change<'a> {
    /// Makes a new version of a message.
    Version(Version<'a>),
    /// Says something about a message.
    Annotation(Annotation<'a>),
}

/// A new version of a message.
#[derive(Debug)]
pub struct Version<'a> {
    /// Of the message.
    pub serial: &'a str,
    action: u8,
    said: Option<&'a str>,
    sets: [bool; 3],
    whole: Option<Whole>,
}

/// What a record that holds the whole message says of it.
#[derive(Debug)]
struct Whole {
    timestamp: i64,
    appended: usize,
}

/// Something said about a message.
#[derive(Debug)]
pub struct Annotation<'a> {
    /// Of the message.
    pub serial: &'a str,
    /// What all before it come to, if the record says so.
    pub summary: Option<Summary>,
    said: Said,
}

#[derive(Debug, Deserialize)]
struct Said {
    #[serde(default)]
    action: u8,
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    count: Option<u64>,
}

/// The newest version that is known of a message: what its entry says, and the data where that is longer.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// The entry.
    pub entry: &'a Message,
    /// How the data are to be read.
    pub form: Form,
    /// The data.
    pub data: &'a [u8],
}

/// What came of a change.
#[derive(Debug)]
pub struct Merged {
    /// For the ring. Of an append that holds a piece alone, and for who has the rest.
    pub entry: Message,
    /// Whether that is all there is to the version, or can be told from the version before.
    pub is_known: bool,
    /// Whether the record alone is enough to tell the version.
    pub is_whole: bool,
}

impl<'r> Record<'r> {
    /// What this record does to another one's message; None if it is a message itself. Some(None) if it cannot be told.
    pub fn change(&self) -> Option<Option<Change<'r>>> {
        Some(self.change_of(self.header("fanout.action")?))
    }

    fn change_of(&self, action: &str) -> Option<Change<'r>> {
        let serial = self.header("fanout.serial")?;
        let action = match action {
            "update" => UPDATE,
            "delete" => DELETE,
            "append" => APPEND,
            "annotation" => {
                let said: Said = serde_json::from_str(self.header("fanout.annotation")?).ok()?;
                let summary = self.header("fanout.summary").and_then(Summary::read);
                return (said.action < 2).then_some(Change::Annotation(Annotation { serial, summary, said }));
            }
            _ => return None,
        };
        let timestamp = self.header("fanout.timestamp").and_then(|text| text.parse().ok()).map(time_of);
        let appended = self.header("fanout.appended").and_then(|text| text.parse().ok());
        let whole = timestamp.map(|timestamp| Whole { timestamp, appended: appended.unwrap_or(0) });
        let set = self.header("fanout.set");
        let sets = ["name", "data", "extras"].map(|name| set.is_none_or(|set| set.split(' ').any(|one| one == name)));
        Some(Change::Version(Version { serial, action, said: self.header("fanout.version"), sets, whole }))
    }
}

impl Version<'_> {
    /// The version that this makes of the one before; `new` is the record's own message.
    pub fn merge(&self, base: Option<Base<'_>>, new: &Message) -> Merged {
        let (value, encoding) = new.data();
        let (form, data) = bytes_of(&value);
        let whole = self.whole.as_ref().filter(|_| self.is_sound(data.len()));
        let is_whole = whole.is_some();
        let Some(base) = base else {
            // Of an append that holds everything the result is all that can be shown.
            let action = if is_whole && self.action == APPEND { UPDATE } else { self.action };
            let timestamp = whole.map_or(new.timestamp, |whole| whole.timestamp);
            let mut fields = fields_of(new);
            fields[Field::Encoding as usize] = encoding;
            let entry = self.entry(new, (action, timestamp), (form, data), fields);
            return Merged { entry, is_known: is_whole, is_whole };
        };
        let [sets_name, sets_data, sets_extras] = self.sets;
        let mut fields = fields_of(base.entry);
        fields[Field::Id as usize] = new.field(Field::Id);
        fields[Field::ConnectionId as usize] = new.field(Field::ConnectionId);
        for (sets, field) in [(sets_name, Field::Name), (sets_extras, Field::Extras)] {
            if let Some(text) = new.field(field).filter(|_| sets) {
                fields[field as usize] = Some(text);
            }
        }
        fields[Field::Encoding as usize] = base.entry.data().1;
        let (mut action, mut result) = (self.action, (base.form, base.data));
        if self.action == APPEND {
            let piece = whole.map_or(data, |whole| &data[data.len() - whole.appended..]);
            // What does not go behind the other takes its place.
            let fits = base.form == form && fields[Field::Encoding as usize].is_none() && encoding.is_none();
            if !fits {
                (action, fields[Field::Encoding as usize]) = (UPDATE, encoding);
            }
            result = (form, if fits { piece } else { data });
        } else if sets_data && form != Form::None {
            fields[Field::Encoding as usize] = encoding;
            result = (form, data);
        }
        let entry = self.entry(new, (action, base.entry.timestamp), result, fields);
        Merged { entry, is_known: true, is_whole }
    }

    /// Whether what the record says about its own value can be so.
    fn is_sound(&self, len: usize) -> bool {
        self.whole.as_ref().is_none_or(|whole| (self.action != APPEND || whole.appended > 0) && whole.appended <= len)
    }

    fn entry(
        &self,
        new: &Message,
        (action, timestamp): (u8, i64),
        (form, data): (Form, &[u8]),
        fields: Fields<'_>,
    ) -> Message {
        let said: Option<Map<String, Value>> = self.said.and_then(|text| serde_json::from_str(text).ok());
        let mut version = Map::new();
        version.insert("serial".into(), new.serial().into());
        version.insert("timestamp".into(), new.timestamp.into());
        for name in ["clientId", "description", "metadata"] {
            if let Some(value) = said.as_ref().and_then(|said| said.get(name)) {
                version.insert(name.into(), value.clone());
            }
        }
        let mut more = Map::new();
        more.insert("serial".into(), self.serial.into());
        more.insert("version".into(), version.into());
        let more = Value::from(more).to_string();
        let mut fields = fields;
        fields[Field::More as usize] = Some(&more);
        let place = (new.offset, timestamp);
        Message::new(new.partition.clone(), place, (Kind::Message, action), form, data, Some(&fields))
    }
}

impl Annotation<'_> {
    /// The entry of the ring; `new` is the record's own message.
    pub fn entry(&self, new: &Message) -> Message {
        let mut more = Map::new();
        more.insert("messageSerial".into(), self.serial.into());
        more.insert("type".into(), self.said.kind.as_str().into());
        if let Some(count) = self.said.count {
            more.insert("count".into(), count.into());
        }
        let more = Value::from(more).to_string();
        let (value, encoding) = new.data();
        let (form, data) = bytes_of(&value);
        let mut fields = fields_of(new);
        fields[Field::Encoding as usize] = encoding;
        fields[Field::Name as usize] = self.said.name.as_deref();
        fields[Field::More as usize] = Some(&more);
        let place = (new.offset, new.timestamp);
        Message::new(new.partition.clone(), place, (Kind::Annotation, self.said.action), form, data, Some(&fields))
    }

    /// As far as it counts; `client` is who annotates.
    pub fn counted<'a>(&'a self, client: Option<&'a str>) -> Counted<'a> {
        Counted {
            deletes: self.said.action == 1,
            kind: &self.said.kind,
            name: self.said.name.as_deref().unwrap_or_default(),
            client,
            count: self.said.count.unwrap_or(1),
        }
    }
}

/// A payload as what it is to be read as, and its bytes.
pub fn bytes_of<'a>(data: &Data<'a>) -> (Form, &'a [u8]) {
    match data {
        Data::None => (Form::None, &[]),
        Data::Text(text) | Data::Json(text) => (Form::Text, text.as_bytes()),
        Data::Binary(bytes) => (Form::Binary, bytes),
    }
}

/// Every field of a message.
pub fn fields_of(message: &Message) -> Fields<'_> {
    let all =
        [Field::Id, Field::Name, Field::Encoding, Field::ClientId, Field::ConnectionId, Field::Extras, Field::More];
    let mut fields: Fields<'_> = [None; FIELDS];
    for field in all {
        fields[field as usize] = message.field(field);
    }
    fields
}

/// The serial of the message that an entry shows, changed or new, or says something about.
pub fn target(entry: &Message) -> String {
    #[derive(Deserialize)]
    struct More {
        #[serde(alias = "messageSerial")]
        serial: String,
    }
    let more = entry.field(Field::More).and_then(|text| serde_json::from_str::<More>(text).ok());
    more.map_or_else(|| entry.serial(), |more| more.serial)
}
