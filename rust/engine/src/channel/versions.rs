//! The newest version of each message that was changed, and what its annotations come to: of those that the ring holds an
//! entry about, and no longer than that.
//!
//! - An update or delete has an entry with the whole version. An append has one with the piece alone, for all who were
//!   given what comes before it on the same attachment; the others are shown the version as it was then, as an update.
//!   What was appended to lies in one text, of which every such version is a beginning.
//! - Annotations have, before their own entry, one that stands for the summary. Only the newest of a message is shown,
//!   and it shows the summary as it is when it is encoded: so a burst of annotations makes few of them.
//! - Who looks back is shown each message once, at its own place, in the version that it had when they came.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value};

use crate::change::{APPEND, Annotation, Base, Change, SUMMARY, UPDATE, Version, bytes_of, fields_of, target};
use crate::kind::Kind;
use crate::limits::VERSION_BYTES_MAX;
use crate::message::{Data, FIELDS, Field, Fields, Form, Message};
use crate::summary::Summary;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Versions {
    messages: HashMap<Arc<str>, Changed>,
    /// Of the entries that change messages or stand for summaries, oldest first.
    marks: VecDeque<Mark>,
}

/// One message that was changed or annotated.
#[derive(Debug)]
struct Changed {
    /// The number of the newest mark.
    newest: u64,
    latest: Option<Latest>,
    /// When the newest record was written that holds the whole message.
    whole_ms: i64,
    summary: Option<Summary>,
    /// When the newest record was written from which on the summary can be told.
    summary_ms: i64,
    /// The number of the newest entry that stands for the summary.
    summarised: Option<u64>,
}

#[derive(Debug)]
struct Latest {
    number: u64,
    entry: Message,
    text: Option<Text>,
}

/// Of a message that was appended to; it only grows, and what is given to a longer version is a new one.
type Text = Arc<Mutex<Vec<u8>>>;

#[derive(Debug)]
struct Mark {
    number: u64,
    serial: Arc<str>,
    /// The number of the entry before it that shows the message, as far as one is held.
    previous: Option<u64>,
    /// Of an append whose beginning is known: the text, and how much of it was there then.
    text: Option<(Text, usize)>,
    /// Bytes of the text or summary that the newest mark is charged.
    charge: usize,
}

/// How an entry is shown to a receiver.
pub(super) enum Shown {
    /// As it lies there, or as this; to all who are given entries as they came from here to there on.
    As(Option<Message>, (u64, u64)),
    /// Not at all.
    Not,
}

/// For everybody.
pub(super) const ALL: (u64, u64) = (0, u64::MAX);

/// A message as it is now.
#[derive(Debug)]
pub struct Known {
    /// Whole, at its own place; none if only its annotations are known.
    pub message: Option<Message>,
    /// When the newest record was written that holds the whole message.
    pub whole_ms: i64,
    /// What its annotations come to; none if some of them are not known.
    pub summary: Option<Summary>,
    /// When the newest record was written from which on the summary can be told.
    pub summary_ms: i64,
}

impl Versions {
    /// What a change makes of a message, for the entry that is to have this number; `create` is the message as it was
    /// published, with its number, if that is held. Also how many bytes more are held beside the entry. None for a
    /// change that makes more of it than there may be.
    pub(super) fn change(
        &mut self,
        version: &Version<'_>,
        new: &Message,
        number: u64,
        create: Option<(u64, &Message)>,
    ) -> Option<(Message, isize)> {
        let before = self.messages.get_mut(version.serial).and_then(|changed| changed.latest.take());
        let known = before.as_ref().map(|latest| (latest.number, &latest.entry)).or(create);
        let text = before.as_ref().and_then(|latest| latest.text.clone());
        let merged = {
            let guard = text.as_ref().map(|text| text.lock());
            let data = known.map(|(_, entry)| entry.data().0);
            let base = known.zip(data.as_ref()).map(|((_, entry), data)| {
                let (form, bytes) = bytes_of(data);
                Base { entry, form, data: guard.as_ref().map_or(bytes, |text| text) }
            });
            let size = base.as_ref().map_or(0, |base| base.data.len()) + new.size();
            (size <= VERSION_BYTES_MAX).then(|| version.merge(base, new))
        };
        let Some(merged) = merged else {
            if let Some(changed) = self.messages.get_mut(version.serial) {
                changed.latest = before;
            }
            return None;
        };
        let previous = known.map(|(number, _)| number);
        let mut delta = 0;
        let mut end = None;
        if merged.is_known && merged.entry.action == APPEND {
            let (data, _) = merged.entry.data();
            let piece = bytes_of(&data).1;
            let text = text.unwrap_or_else(|| {
                let data = known.map_or(Data::None, |(_, entry)| entry.data().0);
                Arc::new(Mutex::new(bytes_of(&data).1.to_vec()))
            });
            let length = {
                let bytes = &mut *text.lock();
                bytes.extend_from_slice(piece);
                bytes.len()
            };
            let moved = previous.map_or(0, |previous| self.uncharge(previous));
            delta = length as isize - moved as isize;
            end = Some((text, length));
        }
        let charge = end.as_ref().map_or(0, |(_, length)| *length);
        let serial = self.mark(version.serial, number, previous, end.clone(), charge);
        let changed = self.messages.get_mut(&serial).expect("it was just marked");
        if merged.is_whole {
            changed.whole_ms = new.timestamp;
        } else if changed.latest.is_none() && before.is_none() {
            changed.whole_ms = create.map_or(i64::MIN, |(_, create)| create.timestamp);
        }
        changed.latest =
            merged.is_known.then(|| Latest { number, entry: merged.entry.clone(), text: end.map(|(text, _)| text) });
        Some((merged.entry, delta))
    }

    /// Takes an annotation in. The entry that stands for the summary, and is to have this number, if the summary is
    /// known; and how many bytes more are held beside it.
    pub(super) fn annotate(
        &mut self,
        annotation: &Annotation<'_>,
        new: &Message,
        number: u64,
        create: Option<(u64, &Message)>,
    ) -> Option<(Message, isize)> {
        let known = self.messages.get_mut(annotation.serial).and_then(|changed| changed.summary.take());
        let is_first = known.is_none();
        let before = self.messages.get(annotation.serial).and_then(|changed| changed.summarised);
        // From its first annotation on everything is known of a message that is held itself.
        let from_create = create.map(|_| Summary::default()).filter(|_| before.is_none());
        let mut summary = known.or(from_create).or_else(|| annotation.summary.clone())?;
        summary.count(&annotation.counted(new.field(Field::ClientId)));
        let moved = before.map_or(0, |before| self.uncharge(before));
        let charge = summary.bytes();
        let serial = self.mark(annotation.serial, number, None, None, charge);
        let changed = self.messages.get_mut(&serial).expect("it was just marked");
        changed.summary = Some(summary);
        changed.summarised = Some(number);
        if annotation.summary.is_some() {
            changed.summary_ms = new.timestamp;
        } else if is_first {
            changed.summary_ms = create.map_or(i64::MIN, |(_, create)| create.timestamp);
        }
        let more = Value::from(Map::from_iter([("serial".to_owned(), annotation.serial.into())])).to_string();
        let mut fields: Fields<'_> = [None; FIELDS];
        fields[Field::More as usize] = Some(&more);
        let place = (new.offset, new.timestamp);
        let entry =
            Message::new(new.partition.clone(), place, (Kind::Message, SUMMARY), Form::None, &[], Some(&fields));
        Some((entry, charge as isize - moved as isize))
    }

    /// Forgets what only the entry of this number held; the bytes that were held beside it.
    pub(super) fn pop(&mut self, number: u64) -> usize {
        let Some(mark) = self.marks.pop_front_if(|mark| mark.number == number) else { return 0 };
        if self.messages.get(&mark.serial).is_some_and(|changed| changed.newest == number) {
            self.messages.remove(&mark.serial);
        }
        mark.charge
    }

    /// How an entry is shown as it comes, to a receiver that is given entries as they came from the number `since` on.
    pub(super) fn shown(&self, entry: &Message, number: u64, since: u64) -> Shown {
        match (entry.kind, entry.action) {
            (Kind::Message, APPEND) => {
                let Some(mark) = self.find(number) else { return Shown::As(None, ALL) };
                let Some((text, length)) = &mark.text else { return Shown::As(None, ALL) };
                match mark.previous {
                    Some(previous) if since <= previous => Shown::As(None, (0, previous)),
                    previous => {
                        let first = previous.map_or(0, |previous| previous + 1);
                        Shown::As(Some(whole(entry, entry, Some((text, *length)), None)), (first, u64::MAX))
                    }
                }
            }
            (Kind::Message, SUMMARY) => {
                let changed = self.messages.get(&*target(entry)).filter(|changed| changed.summarised == Some(number));
                changed.map_or(Shown::Not, |changed| {
                    Shown::As(Some(whole(entry, entry, None, changed.summary.as_ref())), ALL)
                })
            }
            _ => Shown::As(None, ALL),
        }
    }

    /// A publication in its newest version below the number `until`, and with what its annotations come to; none if that
    /// is how it was published. `entries` are those of the ring, of which the first has the number `base`.
    pub(super) fn version_of(
        &self,
        create: &Message,
        until: u64,
        (entries, base): (&VecDeque<Message>, u64),
    ) -> Option<Message> {
        let serial = create.serial();
        let changed = self.messages.get(&*serial)?;
        let summary = changed.summary.as_ref();
        if let Some(latest) = changed.latest.as_ref().filter(|latest| latest.number < until) {
            let text = latest.text.as_ref().map(|text| (text, text.lock().len()));
            return Some(whole(create, &latest.entry, text, summary));
        }
        let older = self.marks.iter().rev().skip_while(|mark| mark.number >= until);
        let mut older = older.filter(|mark| mark.previous.is_some() && *mark.serial == *serial);
        if let Some(mark) = older.next() {
            let text = mark.text.as_ref().map(|(text, length)| (text, *length));
            return Some(whole(create, &entries[(mark.number - base) as usize], text, summary));
        }
        summary.map(|summary| whole(create, create, None, Some(summary)))
    }

    /// What is known of a message; `create` is the message as it was published, if that is held.
    pub(super) fn known(&self, serial: &str, create: Option<&Message>) -> Option<Known> {
        let changed = self.messages.get(serial);
        let Some(changed) = changed else {
            return create.map(|create| Known {
                message: Some(create.clone()),
                whole_ms: create.timestamp,
                summary: Some(Summary::default()),
                summary_ms: create.timestamp,
            });
        };
        let message = match (&changed.latest, create) {
            (Some(latest), _) => {
                let text = latest.text.as_ref().map(|text| (text, text.lock().len()));
                Some(whole(create.unwrap_or(&latest.entry), &latest.entry, text, changed.summary.as_ref()))
            }
            (None, Some(create)) => Some(whole(create, create, None, changed.summary.as_ref())),
            (None, None) => None,
        };
        let (whole_ms, summary_ms) = match (&changed.latest, create) {
            (None, Some(create)) => (create.timestamp, changed.summary_ms),
            _ => (changed.whole_ms, changed.summary_ms),
        };
        let never_annotated = changed.summarised.is_none() && create.is_some();
        let summary = changed.summary.clone().or_else(|| never_annotated.then(Summary::default));
        let summary_ms =
            if never_annotated { create.map_or(summary_ms, |create| create.timestamp) } else { summary_ms };
        Some(Known { message, whole_ms, summary, summary_ms })
    }

    /// Whether a change of this message, or an annotation, has to be told how it was published.
    pub(super) fn needs_create(&self, serial: &str, change: &Change<'_>) -> bool {
        let changed = self.messages.get(serial);
        changed.is_none_or(|changed| match change {
            Change::Version(_) => changed.latest.is_none(),
            Change::Annotation(_) => changed.summary.is_none(),
        })
    }

    /// The numbers of the entries that change a message or stand for its summary.
    pub(super) fn numbers(&self, serial: &str) -> impl Iterator<Item = u64> {
        self.marks.iter().filter(move |mark| *mark.serial == *serial).map(|mark| mark.number)
    }

    fn find(&self, number: u64) -> Option<&Mark> {
        let at = self.marks.binary_search_by_key(&number, |mark| mark.number).ok()?;
        Some(&self.marks[at])
    }

    /// Takes the charge away from the mark of this number, if it is held.
    fn uncharge(&mut self, number: u64) -> usize {
        let at = self.marks.binary_search_by_key(&number, |mark| mark.number).ok();
        at.map_or(0, |at| std::mem::take(&mut self.marks[at].charge))
    }

    fn mark(
        &mut self,
        serial: &str,
        number: u64,
        previous: Option<u64>,
        text: Option<(Text, usize)>,
        charge: usize,
    ) -> Arc<str> {
        let serial: Arc<str> =
            self.messages.get_key_value(serial).map_or_else(|| serial.into(), |(serial, _)| Arc::clone(serial));
        self.marks.push_back(Mark { number, serial: Arc::clone(&serial), previous, text, charge });
        let changed = self.messages.entry(Arc::clone(&serial)).or_insert_with(|| Changed {
            newest: number,
            latest: None,
            whole_ms: i64::MIN,
            summary: None,
            summary_ms: i64::MIN,
            summarised: None,
        });
        changed.newest = number;
        serial
    }
}

/// A version in full, as the entry at `place` is shown: an append as an update, with its text; with the summary, if any.
fn whole(place: &Message, version: &Message, text: Option<(&Text, usize)>, summary: Option<&Summary>) -> Message {
    let mut fields = fields_of(version);
    let mut more = fields[Field::More as usize].map(str::to_owned);
    if let Some(summary) = summary {
        let told = more.as_deref().and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
        let mut told = told.unwrap_or_else(|| Map::from_iter([("serial".to_owned(), place.serial().into())]));
        told.insert("annotations".into(), Map::from_iter([("summary".to_owned(), summary.shown(None))]).into());
        more = Some(Value::from(told).to_string());
    }
    fields[Field::More as usize] = more.as_deref();
    let (value, encoding) = version.data();
    fields[Field::Encoding as usize] = encoding;
    let (form, data) = bytes_of(&value);
    let action = if version.action == APPEND { UPDATE } else { version.action };
    let guard = text.map(|(text, length)| (text.lock(), length));
    let data = guard.as_ref().map_or(data, |(text, length)| &text[..*length]);
    let at = (place.offset, version.timestamp);
    Message::new(place.partition.clone(), at, (Kind::Message, action), form, data, Some(&fields))
}
