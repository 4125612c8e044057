//! One publication: parsed once, stored once, and encoded once per wire by whoever needs it first.

use std::sync::{Arc, OnceLock};

use crate::limits::MESSAGE_OVERHEAD;
use crate::partition::Partition;
use crate::wire::Wire;

/// The payload.
#[derive(Debug, PartialEq, Eq)]
pub enum Data {
    /// There is none.
    None,
    /// Text as it was published.
    Text(Box<str>),
    /// A JSON object or array from a producer that knows nothing of us: text, with `json` for its encoding.
    Json(Box<str>),
    /// Bytes.
    Binary(Box<[u8]>),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Text(text) | Self::Json(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// What a client's publish says beside its payload; a plain record has none of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// By which a repeat is recognised.
    pub id: Option<Box<str>>,
    /// The message's name.
    pub name: Option<Box<str>>,
    /// What is left to decode of the data.
    pub encoding: Option<Box<str>>,
    /// Who published.
    pub client_id: Option<Box<str>>,
    /// Over which connection.
    pub connection_id: Option<Box<str>>,
    /// JSON text.
    pub extras: Option<Box<str>>,
}

/// One publication in a channel's ring.
#[derive(Debug)]
pub struct Message {
    /// Where it lies in the log.
    pub partition: Arc<Partition>,
    /// Its offset there.
    pub offset: i64,
    /// The record's, in ms.
    pub timestamp: i64,
    /// The payload.
    pub data: Data,
    /// None for a plain record.
    pub meta: Option<Box<Meta>>,
    json: OnceLock<Box<[u8]>>,
    msgpack: OnceLock<Box<[u8]>>,
}

impl Message {
    /// A message at its place in the log.
    pub fn new(partition: Arc<Partition>, offset: i64, timestamp: i64, data: Data, meta: Option<Box<Meta>>) -> Self {
        Self { partition, offset, timestamp, data, meta, json: OnceLock::new(), msgpack: OnceLock::new() }
    }

    /// A field of what the publisher said.
    pub fn meta(&self, field: impl Fn(&Meta) -> &Option<Box<str>>) -> Option<&str> {
        self.meta.as_deref().and_then(|meta| field(meta).as_deref())
    }

    /// The encoding that receivers are told.
    pub fn encoding(&self) -> Option<&str> {
        match self.data {
            Data::Json(_) => Some("json"),
            _ => self.meta(|meta| &meta.encoding),
        }
    }

    /// Its id: the publisher's, or made of its place in the log.
    pub fn id(&self) -> String {
        match self.meta(|meta| &meta.id) {
            Some(id) => id.to_owned(),
            None => format!("{}:{}:{}", self.partition.topic, self.partition.number, self.offset),
        }
    }

    /// Its serial.
    pub fn serial(&self) -> String {
        serial(&self.partition.topic, self.partition.number, self.offset)
    }

    /// The bytes of this message on a wire, made at the first call; `true` if this call made them.
    pub fn encoded(&self, wire: Wire) -> (&[u8], bool) {
        let cell = match wire {
            Wire::Json => &self.json,
            Wire::Msgpack => &self.msgpack,
        };
        let mut made = false;
        let bytes = cell.get_or_init(|| {
            made = true;
            wire.message(self).into_boxed_slice()
        });
        (bytes, made)
    }

    /// Bytes of its content.
    pub fn size(&self) -> usize {
        let meta = self.meta.as_deref().map_or(0, |meta| {
            [&meta.id, &meta.name, &meta.encoding, &meta.client_id, &meta.connection_id, &meta.extras]
                .into_iter()
                .map(|field| 16 + field.as_ref().map_or(0, |text| text.len()))
                .sum()
        });
        self.data.len() + meta
    }

    /// Memory this message holds now, encodings included.
    pub fn cost(&self) -> usize {
        let encodings = [&self.json, &self.msgpack].into_iter().filter_map(|cell| cell.get());
        MESSAGE_OVERHEAD + self.size() + encodings.map(|bytes| bytes.len()).sum::<usize>()
    }
}

/// The serial of the message at these coordinates: unique, and of fixed width in front, so that within a partition the
/// order of the text is that of the log.
pub fn serial(topic: &str, partition: i32, offset: i64) -> String {
    format!("{offset:016}-{partition}-{topic}")
}
