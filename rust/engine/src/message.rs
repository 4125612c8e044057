//! One entry of a channel's ring, most often a publication: stored once, in one piece of memory, and encoded once per
//! wire by whoever needs it first.
//!
//! What a plain record holds (text, JSON, anything) is found out when it is first encoded and not when it is read: most
//! of what a node reads, nobody on it may be listening to.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use once_cell::race::OnceBox;
use triomphe::ThinArc;

use crate::change::CREATE;
use crate::kind::Kind;
use crate::limits::{CHANNELS_PER_RECORD_MAX, MESSAGE_OVERHEAD, PLACE_OVERHEAD};
use crate::partition::Partition;
use crate::wire::{Coding, Wire};

/// The payload.
#[derive(Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// There is none.
    None,
    /// Text as it was published.
    Text(&'a str),
    /// A JSON object or array from a producer that knows nothing of us: text, with `json` for its encoding.
    Json(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// How a message's bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// There is no data.
    None,
    /// Text, as far as it is UTF-8.
    Text,
    /// Bytes.
    Binary,
    /// As what they turn out to be: JSON, text or bytes.
    Plain,
    /// As JSON, which they are, as far as they are UTF-8.
    Json,
    /// There is no data: a delete that names no message, and is one.
    Tombstone,
}

/// What a client's publish says beside its payload; a plain record has none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// By which a repeat is recognised.
    Id,
    /// The message's name.
    Name,
    /// What is left to decode of the data.
    Encoding,
    /// Who published.
    ClientId,
    /// Over which connection.
    ConnectionId,
    /// JSON text.
    Extras,
    /// JSON object of what only a changed message, or an annotation, has beside these; see [`crate::change`].
    More,
}

/// How many there are.
pub const FIELDS: usize = Field::More as usize + 1;

/// Every field of a message, by [`Field`].
pub type Fields<'a> = [Option<&'a str>; FIELDS];

/// One entry of a channel's ring, or of several, for nothing in it is the channel's own. A clone is another reference to it.
///
/// Behind the head lie the data and, if it has fields, their texts and then their lengths (little-endian, one more than
/// it is, so that 0 stands for none).
#[derive(Debug, Clone)]
pub struct Message(ThinArc<Head, u8>);

/// What is of fixed size in a message.
#[derive(Debug)]
pub struct Head {
    /// Where it lies in the log.
    pub partition: Arc<Partition>,
    /// Its offset there.
    pub offset: i64,
    /// The record's, in ms.
    pub timestamp: i64,
    /// What it is to its channel.
    pub kind: Kind,
    /// What was done, by the protocol's number for it; what the numbers mean depends on the kind.
    pub action: u8,
    form: Form,
    has_fields: bool,
    sharing: Sharing,
    json: OnceBox<Box<[u8]>>,
    msgpack: OnceBox<Box<[u8]>>,
}

/// What the rings that hold a message tell each other. Of one that is not shared nothing here changes.
#[derive(Debug, Default)]
struct Sharing {
    is_shared: AtomicBool,
    /// The places in rings that it has now.
    places: AtomicU8,
    /// The encodings that are counted for these, a bit for each.
    counted: AtomicU8,
}

/// The bits of encodings.
const JSON: u8 = 1;
const MSGPACK: u8 = 2;

const _: () = assert!(CHANNELS_PER_RECORD_MAX <= u8::MAX as usize, "a message has one place for each channel");

const LENGTHS: usize = FIELDS * size_of::<u32>();

impl Deref for Message {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.0.header.header
    }
}

impl Message {
    /// A message at its place in the log.
    pub fn new(
        partition: Arc<Partition>,
        (offset, timestamp): (i64, i64),
        (kind, action): (Kind, u8),
        form: Form,
        data: &[u8],
        fields: Option<&Fields<'_>>,
    ) -> Self {
        let (json, msgpack) = (OnceBox::new(), OnceBox::new());
        let has_fields = fields.is_some();
        let sharing = Sharing::default();
        let head = Head { partition, offset, timestamp, kind, action, form, has_fields, sharing, json, msgpack };
        let Some(fields) = fields else { return Self(ThinArc::from_header_and_slice(head, data)) };
        let texts: usize = fields.iter().flatten().map(|text| text.len()).sum();
        let mut bytes = Vec::with_capacity(data.len() + texts + LENGTHS);
        bytes.extend_from_slice(data);
        let mut lengths = [0u32; FIELDS];
        for (length, text) in lengths.iter_mut().zip(fields) {
            // Text longer than 4 GiB fits in no record of any log.
            let Some(text) = text.filter(|text| text.len() < u32::MAX as usize) else { continue };
            bytes.extend_from_slice(text.as_bytes());
            *length = text.len() as u32 + 1;
        }
        for length in lengths {
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        Self(ThinArc::from_header_and_slice(head, &bytes))
    }

    /// The same, for clones of it to be put into several rings.
    #[must_use]
    pub fn shared(self) -> Self {
        self.sharing.is_shared.store(true, Ordering::Relaxed);
        self
    }

    /// Whether other rings may hold it too.
    pub fn is_shared(&self) -> bool {
        self.sharing.is_shared.load(Ordering::Relaxed)
    }

    /// The lengths of the fields, each plus one, and the bytes before them.
    fn parts(&self) -> (&[u8], [usize; FIELDS]) {
        let bytes = &self.0.slice;
        if !self.has_fields {
            return (bytes, [0; FIELDS]);
        }
        let (bytes, packed) = bytes.split_at(bytes.len() - LENGTHS);
        let mut lengths = [0; FIELDS];
        for (length, packed) in lengths.iter_mut().zip(packed.chunks_exact(size_of::<u32>())) {
            *length = u32::from_le_bytes(packed.try_into().expect("a chunk of that size")) as usize;
        }
        (bytes, lengths)
    }

    /// A field of what the publisher said.
    pub fn field(&self, field: Field) -> Option<&str> {
        if !self.has_fields {
            return None;
        }
        let (bytes, lengths) = self.parts();
        let behind: usize = lengths[field as usize + 1..].iter().map(|length| length.saturating_sub(1)).sum();
        let len = lengths[field as usize].checked_sub(1)?;
        let end = bytes.len() - behind;
        Some(str::from_utf8(&bytes[end - len..end]).expect("it was text when it was put there"))
    }

    /// The payload, and the encoding that receivers are told. Looks through all of it: once per encoding, not more.
    pub fn data(&self) -> (Data<'_>, Option<&str>) {
        let (bytes, lengths) = self.parts();
        let fields: usize = lengths.iter().map(|length| length.saturating_sub(1)).sum();
        let bytes = &bytes[..bytes.len() - fields];
        let data = match self.form {
            Form::None | Form::Tombstone => Data::None,
            Form::Binary => Data::Binary(bytes),
            Form::Text => str::from_utf8(bytes).map_or(Data::Binary(bytes), Data::Text),
            Form::Json => str::from_utf8(bytes).map_or(Data::Binary(bytes), Data::Json),
            Form::Plain => plain(bytes),
        };
        let encoding = if matches!(data, Data::Json(_)) { Some("json") } else { self.field(Field::Encoding) };
        (data, encoding)
    }

    /// Whether it is a message of its own, and no change of one or something said about it.
    pub fn is_publication(&self) -> bool {
        self.kind == Kind::Message && (self.action == CREATE || self.form == Form::Tombstone)
    }

    /// Its id: the publisher's, or made of its place in the log.
    pub fn id(&self) -> String {
        if let Some(id) = self.field(Field::Id) {
            return id.to_owned();
        }
        let (mut number, mut offset) = (itoa::Buffer::new(), itoa::Buffer::new());
        [&self.partition.topic, ":", number.format(self.partition.number), ":", offset.format(self.offset)].concat()
    }

    /// Its serial.
    pub fn serial(&self) -> String {
        serial(&self.partition.topic, self.partition.number, self.offset)
    }

    /// The bytes of this message on a wire, or as JSON if it has none that are kept; made at the first call; and the memory
    /// that this call took for them.
    pub fn encoded(&self, wire: Wire) -> (&[u8], usize) {
        let (cell, coding) = match wire.coding() {
            Coding::Msgpack => (&self.msgpack, Coding::Msgpack),
            Coding::Json | Coding::Text => (&self.json, Coding::Json),
        };
        let mut made = 0;
        if cell.get().is_none() {
            let bytes = coding.message(self).into_boxed_slice();
            let cost = encoding_cost(&bytes);
            // Another ring that holds it may have been faster: its bytes are kept.
            made = if cell.set(Box::new(bytes)).is_ok() { cost } else { 0 };
        }
        (cell.get().expect("it is made"), made)
    }

    /// Bytes of its content.
    pub fn size(&self) -> usize {
        self.0.slice.len()
    }

    /// Memory that it takes in a ring now: with its encodings, unless it is shared. Those are then all rings' together.
    pub fn cost(&self) -> usize {
        MESSAGE_OVERHEAD + self.0.slice.len() + if self.is_shared() { 0 } else { self.encodings(JSON | MSGPACK) }
    }

    /// What those of its encodings take that these bits name.
    fn encodings(&self, bits: u8) -> usize {
        let made = [(JSON, &self.json), (MSGPACK, &self.msgpack)].into_iter().filter(|(bit, _)| bits & bit != 0);
        made.filter_map(|(_, cell)| cell.get()).map(|bytes| encoding_cost(bytes)).sum()
    }

    /// A ring takes it; the memory that all rings together hold more, of which this one counts `cost`.
    pub(crate) fn enter(&self, cost: usize) -> usize {
        if !self.is_shared() {
            return cost;
        }
        let is_first = self.sharing.places.fetch_add(1, Ordering::AcqRel) == 0;
        if is_first { cost } else { PLACE_OVERHEAD }
    }

    /// The encoding that it has for a wire is counted, while a ring has it and as long as one does.
    pub(crate) fn count(&self, wire: Wire) {
        let bit = if wire.coding() == Coding::Msgpack { MSGPACK } else { JSON };
        self.sharing.counted.fetch_or(bit, Ordering::Relaxed);
    }

    /// A ring gives it up that counts `cost` for it; the memory that all together hold less.
    pub(crate) fn leave(&self, cost: usize) -> usize {
        if !self.is_shared() {
            return cost;
        }
        let is_last = self.sharing.places.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last { cost + self.encodings(self.sharing.counted.swap(0, Ordering::Relaxed)) } else { PLACE_OVERHEAD }
    }
}

fn encoding_cost(bytes: &[u8]) -> usize {
    size_of::<Box<[u8]>>() + bytes.len()
}

fn plain(bytes: &[u8]) -> Data<'_> {
    let Ok(text) = str::from_utf8(bytes) else { return Data::Binary(bytes) };
    match text.trim_start().as_bytes().first() {
        Some(b'{' | b'[') if is_json(text) => Data::Json(text),
        _ => Data::Text(text),
    }
}

/// Whether a text is JSON.
pub(crate) fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// The serial of the message at these coordinates: unique, and of fixed width in front, so that within a partition the
/// order of the text is that of the log.
pub fn serial(topic: &str, partition: i32, offset: i64) -> String {
    let (mut number, mut digits) = (itoa::Buffer::new(), itoa::Buffer::new());
    let digits = digits.format(offset);
    let zeros = &"0000000000000000"[digits.len().min(16)..];
    [zeros, digits, "-", number.format(partition), "-", topic].concat()
}

/// Offset, partition and topic of the message with this serial; None for text that is none.
pub fn place_of(serial: &str) -> Option<(i64, i32, &str)> {
    let (offset, place) = serial.split_once('-')?;
    let (number, topic) = place.split_once('-')?;
    Some((offset.parse().ok()?, number.parse().ok()?, topic))
}
