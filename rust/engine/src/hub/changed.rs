//! Single messages: how one stands now, its versions, and what was said about it, as far as memory holds them.

use super::Hub;
use crate::change::target;
use crate::channel::Known;
use crate::kind::Kind;
use crate::message::{Message, place_of};

/// What memory knows of a message.
#[derive(Debug)]
pub enum Found {
    /// How it stands.
    Known(Known),
    /// Its record, if there is one, is yet to be read here.
    Ahead,
    /// Nothing.
    Unknown,
}

impl Hub {
    /// The message of a channel with this serial.
    pub fn message(&self, name: &str, serial: &str) -> Found {
        let Some((offset, number, topic)) = place_of(serial) else { return Found::Unknown };
        let Some(partition) = self.partitions.find(topic, number) else { return Found::Unknown };
        // Looked at first: what is read meanwhile is then found.
        let is_ahead = offset >= partition.next();
        let channel = self.channels.read().get(name).cloned();
        match channel.and_then(|channel| channel.known(serial)) {
            Some(known) => Found::Known(known),
            None if is_ahead => Found::Ahead,
            None => Found::Unknown,
        }
    }

    /// The message as it was published, and each update and delete of it, as far as they are held; oldest first.
    pub fn versions(&self, name: &str, serial: &str) -> Vec<Message> {
        let channel = self.channels.read().get(name).cloned();
        channel.map_or_else(Vec::new, |channel| channel.versions(serial))
    }

    /// The annotations of a message that are held, oldest first.
    pub fn annotations(&self, name: &str, serial: &str) -> Vec<Message> {
        let Some(channel) = self.channels.read().get(name).cloned() else { return Vec::new() };
        let mut annotations = channel.entries(Kind::Annotation);
        annotations.retain(|annotation| target(annotation) == serial);
        annotations
    }
}
