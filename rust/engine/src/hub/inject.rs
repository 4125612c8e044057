//! What the node itself says on a channel, to those attached to it here; in no log.

use std::sync::Arc;

use super::Hub;
use crate::kind::Kind;
use crate::message::{FIELDS, Field, Form, Message};

/// The topic that such entries are said to be of.
pub(super) const TOPIC: &str = "[meta]";
/// The action of a message that is about the channel (Ably protocol, "Wire message").
const META: u8 = 3;

impl Hub {
    /// Says something of this name to those who are given [`Kind::Meta`]; `json` is its data. Nothing, if nobody is.
    pub fn inject(&self, channel: &str, name: &str, json: &str, (now_ms, wall_ms): (i64, i64)) {
        let Some(channel) =
            self.channels.read().get(channel).cloned().filter(|channel| channel.occupancy().watchers > 0)
        else {
            return;
        };
        let work = &mut self.intake.lock().work;
        let partition = Arc::clone(&self.own);
        let offset = partition.next();
        partition.advance(offset + 1, -1);
        let mut fields = [None; FIELDS];
        fields[Field::Name as usize] = Some(name);
        let entry =
            Message::new(partition, (offset, wall_ms), (Kind::Meta, META), Form::Plain, json.as_bytes(), Some(&fields));
        work.batch += 1;
        work.linger_ms = 0;
        self.put(work, channel, entry);
        self.announce(work, now_ms);
        self.stats.injected.add(1);
    }
}
