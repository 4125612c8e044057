//! Pages of what memory holds of a channel.

use super::Hub;
use crate::kind::Kind;
use crate::limits::{HISTORY_PAGE_MAX, PAGE_BYTES_MAX};
use crate::message::Message;
use crate::partition::Partition;

/// A page of history.
#[derive(Debug)]
pub struct Page {
    /// In the order asked for.
    pub messages: Vec<Message>,
    /// Give it back for the next page; none at the end.
    pub cursor: Option<String>,
}

/// What to list.
#[derive(Debug)]
pub struct PageQuery<'a> {
    /// Entries of this kind.
    pub kind: Kind,
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
            Some(text) => Some(self.read_position(name, text).ok()?),
            None => None,
        };
        let after = match query.cursor {
            Some(text) => Some(self.place(text)?),
            None => None,
        };
        let Some(channel) = self.channels.read().get(name).cloned() else {
            return Some(Page { messages: Vec::new(), cursor: None });
        };
        let is_message = query.kind == Kind::Message;
        let mut held = if is_message { channel.publications() } else { channel.entries(query.kind) };
        if !query.forwards {
            held.reverse();
        }
        let begin = after.map_or(0, |place| begin_behind(&channel.dropped(), &held, query.forwards, place));
        let limit = query.limit.min(HISTORY_PAGE_MAX);
        let wanted = |message: &&Message| {
            (query.start_ms..=query.end_ms).contains(&message.timestamp)
                && until.as_ref().is_none_or(|until| {
                    until.entry(&message.partition).is_some_and(|entry| message.offset < entry.offset)
                })
        };
        let (mut messages, mut bytes, mut more) = (Vec::new(), 0, false);
        for message in held[begin..].iter().filter(wanted) {
            bytes += message.size();
            more = messages.len() == limit || (bytes > PAGE_BYTES_MAX && !messages.is_empty());
            if more {
                break;
            }
            messages.push(message.clone());
        }
        let cursor = messages.last().filter(|_| more).map(|last| {
            let Partition { topic, number, .. } = &*last.partition;
            format!("{topic}:{number}:{}", last.offset)
        });
        if is_message {
            channel.show_newest(&mut messages);
        }
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

/// Where among the messages held, in the order asked for, those behind a place begin.
fn begin_behind(dropped: &[(u16, i64)], held: &[Message], forwards: bool, (partition, offset): (u16, i64)) -> usize {
    if let Some(index) = held.iter().position(|m| (m.partition.index, m.offset) == (partition, offset)) {
        return index + 1;
    }
    if dropped.iter().any(|&(other, below)| other == partition && offset < below) {
        // It stood in this ring, before everything that still does.
        return if forwards { 0 } else { held.len() };
    }
    // Another node's page: what comes next in the same partition is the nearest this one knows.
    let is_next =
        |m: &Message| m.partition.index == partition && if forwards { m.offset > offset } else { m.offset < offset };
    held.iter().position(is_next).unwrap_or(held.len())
}
