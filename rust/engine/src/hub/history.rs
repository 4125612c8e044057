//! Pages of what memory holds of a channel.

use std::sync::Arc;

use super::Hub;
use crate::limits::HISTORY_PAGE_MAX;
use crate::message::Message;
use crate::partition::Partition;
use crate::position;

/// A page of history.
#[derive(Debug)]
pub struct Page {
    /// In the order asked for.
    pub messages: Vec<Arc<Message>>,
    /// Give it back for the next page; none at the end.
    pub cursor: Option<String>,
}

/// What to list.
#[derive(Debug)]
pub struct PageQuery<'a> {
    /// First and last time, inclusive.
    pub start_ms: i64,
    /// See above.
    pub end_ms: i64,
    /// Oldest first.
    pub forwards: bool,
    /// At most so many.
    pub limit: usize,
    /// Of the page before.
    pub cursor: Option<&'a str>,
    /// A position: nothing behind it.
    pub until: Option<&'a str>,
}

impl Hub {
    /// A page of what memory holds of a channel. None if the cursor or the position is not this channel's.
    pub fn page(&self, name: &str, query: &PageQuery<'_>) -> Option<Page> {
        let until = match query.until {
            Some(text) => Some(position::parse(self.key(), name, text).ok()?),
            None => None,
        };
        let after = match query.cursor {
            Some(text) => Some(self.place(text)?),
            None => None,
        };
        let Some(channel) = self.channels.read().get(name).cloned() else {
            return Some(Page { messages: Vec::new(), cursor: None });
        };
        let mut held = channel.messages();
        if !query.forwards {
            held.reverse();
        }
        // The ring may have dropped the message the cursor names: then what comes after it in its partition is next.
        let is_next = |message: &&Arc<Message>, (partition, offset): &(u16, i64)| {
            message.partition.index == *partition
                && if query.forwards { message.offset > *offset } else { message.offset < *offset }
        };
        let begin = match &after {
            None => 0,
            Some(place) => held
                .iter()
                .position(|message| (message.partition.index, message.offset) == *place)
                .map(|index| index + 1)
                .or_else(|| held.iter().position(|message| is_next(&message, place)))
                .unwrap_or(held.len()),
        };
        let limit = query.limit.min(HISTORY_PAGE_MAX);
        let wanted = |message: &&Arc<Message>| {
            (query.start_ms..=query.end_ms).contains(&message.timestamp)
                && until.as_ref().is_none_or(|until| {
                    until.entry(&message.partition).is_some_and(|entry| message.offset < entry.offset)
                })
        };
        let mut messages: Vec<_> = held[begin..].iter().filter(wanted).take(limit + 1).cloned().collect();
        let more = messages.len() > limit;
        messages.truncate(limit);
        let cursor = messages.last().filter(|_| more).map(|last| {
            let Partition { topic, number, .. } = &*last.partition;
            format!("{topic}:{number}:{}", last.offset)
        });
        Some(Page { messages, cursor })
    }

    /// The place in the log that a page's cursor names, if it is one that is read here.
    fn place(&self, cursor: &str) -> Option<(u16, i64)> {
        let (topic, place) = cursor.split_once(':')?;
        let (number, offset) = place.split_once(':')?;
        let partition = self.partitions.find(topic, number.parse().ok()?)?;
        Some((partition.index, offset.parse().ok()?))
    }
}
