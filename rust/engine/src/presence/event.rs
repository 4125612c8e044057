//! A record of the presence topic, read.
//!
//! ```text
//! key      JSON array of channel, connection id and client id
//! value    the member's data; none: a leave
//! headers  fanout.action  enter, update, leave or present
//!          fanout.id  fanout.type  fanout.encoding  fanout.extras   as of a message
//!          fanout.data    a leave's data
//!          fanout.node    the node that answers for the member
//!          fanout.generation  how often its connection had been continued; 0 if absent
//! ```

use std::borrow::Cow;

use serde::Deserialize;

use super::newness::{Stamp, said};
use crate::message::{FIELDS, Field, Fields, Form};
use crate::record::{Record, form_of};

/// What a record says of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is there.
    Enter,
    /// It is there no more.
    Leave,
}

/// Whom a record is about.
#[derive(Debug, Deserialize)]
pub struct Who<'a>(
    #[serde(borrow)] pub Cow<'a, str>,
    #[serde(borrow)] pub Cow<'a, str>,
    #[serde(borrow)] pub Cow<'a, str>,
);

/// One event of a member.
#[derive(Debug)]
pub struct Event<'a> {
    /// Of its connection.
    pub connection_id: &'a str,
    /// Its own.
    pub client_id: &'a str,
    /// What it did.
    pub action: Action,
    /// The event's; none if clients could not read it, or there is none.
    pub id: Option<&'a str>,
    /// In ms.
    pub timestamp: i64,
    /// The node that answers for the member.
    pub node: &'a str,
    /// How often the connection had been continued when it was said.
    pub generation: u64,
    /// How the data is to be read.
    pub form: Form,
    /// What it shows.
    pub data: &'a [u8],
    encoding: Option<&'a str>,
    extras: Option<&'a str>,
}

impl<'a> Who<'a> {
    /// Whom the key of a record names, if it names a channel, a connection and a client.
    pub fn of(record: &Record<'a>) -> Option<Self> {
        let who: Self = serde_json::from_slice(record.key?).ok()?;
        // A connection id has no zero byte: keys are made with one behind it.
        (!who.1.is_empty() && !who.1.contains('\0') && !who.2.is_empty()).then_some(who)
    }
}

impl<'a> Event<'a> {
    /// The event in a record of the presence topic.
    pub fn of(record: &Record<'a>, who: &'a Who<'_>) -> Self {
        let header = |name| record.header(name);
        let leaves = record.value.is_none() || header("fanout.action") == Some("leave");
        let value = if leaves { record.raw_header("fanout.data") } else { record.value };
        let (form, data) = form_of(header("fanout.type").unwrap_or("binary"), value);
        let extras = header("fanout.extras").filter(|extras| crate::record::is_object(extras));
        let connection_id = &*who.1;
        // One that begins like the client's own and goes on otherwise is nothing that clients can read.
        let sound = |id: &&str| {
            let begins = id.strip_prefix(connection_id).is_some_and(|rest| rest.starts_with(':'));
            !begins || said(id, connection_id).is_some()
        };
        Self {
            connection_id,
            client_id: &who.2,
            action: if leaves { Action::Leave } else { Action::Enter },
            id: header("fanout.id").filter(sound),
            timestamp: record.timestamp,
            node: header("fanout.node").unwrap_or_default(),
            generation: header("fanout.generation").and_then(|text| text.parse().ok()).unwrap_or_default(),
            form,
            data,
            encoding: header("fanout.encoding"),
            extras,
        }
    }

    /// The fields of its entry.
    pub(super) fn fields(&self) -> Fields<'a> {
        let mut fields = [None; FIELDS];
        fields[Field::Id as usize] = self.id;
        fields[Field::Encoding as usize] = self.encoding;
        fields[Field::ClientId as usize] = Some(self.client_id);
        fields[Field::ConnectionId as usize] = Some(self.connection_id);
        fields[Field::Extras as usize] = self.extras;
        fields
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp::of(self.id, self.connection_id, self.timestamp)
    }

    /// Bytes that count for a channel's limit.
    pub(super) fn size(&self) -> usize {
        self.client_id.len() + self.data.len() + self.extras.map_or(0, str::len)
    }
}
