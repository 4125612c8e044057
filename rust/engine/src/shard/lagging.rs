//! Where attachments stand that the ring may pass: then the log is asked for what they have not been given.
//!
//! An attachment that begins behind the end of its channel is noted at once, for it may stand at the edge of the ring. Of
//! connections whose socket is full the positions are noted at a tick: of those that have taken nothing since the one
//! before, and of those whose socket was full then too, which read on too slowly. There is no hurry, as rings reach back
//! for seconds. What is noted follows the cursor, and is forgotten at the tick that finds it at the end and its socket
//! free. At most [`NOTED_PER_TICK`] are noted at a tick and [`LAGGING_MAX`] kept. Who was passed without having been noted
//! is told that something is missing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::connection::{Connection, Cursor, Life, STOPPED};
use super::groups::Groups;
use super::{Handle, Shard};
use crate::channel::{Channel, Context};
use crate::hub::Hub;
use crate::limits::{LAGGING_MAX, LAGGING_MS, NOTED_PER_TICK};

type Key = (Handle, u32);

/// A cursor and the position there; none of one whose socket was full at the last tick for the first time.
type Noted = (u64, Option<Arc<str>>);

/// See the module's text. By connection and attachment.
#[derive(Debug, Default)]
pub(super) struct Lagging(HashMap<Key, Noted>);

impl Lagging {
    /// The position of an attachment that stood there, if it was noted.
    pub(super) fn place(&self, handle: Handle, number: u32, at: u64) -> Option<Arc<str>> {
        self.0.get(&(handle, number)).filter(|(noted, _)| *noted == at)?.1.clone()
    }

    /// What is to be noted of an attachment that begins, which may have `resumed` at that position: nothing, unless it
    /// begins behind.
    pub(super) fn begun(cursor: &Cursor, channel: &Channel, resumed: Option<&str>, hub: &Hub) -> Option<Noted> {
        if cursor.at == STOPPED || cursor.at >= channel.end() || !is_noted(cursor, channel) {
            return None;
        }
        let position = channel.position_of(&cursor.stand(), hub.key(), hub.partitions());
        let position = position.or_else(|| resumed.filter(|serial| !serial.is_empty()).map(String::from));
        Some((cursor.at, Some(Arc::from(position?))))
    }

    /// An attachment begins, perhaps anew and in another ring: what was noted of it before is forgotten.
    pub(super) fn begin(&mut self, key: Key, begun: Option<Noted>) {
        self.0.remove(&key);
        if let Some(noted) = begun.filter(|_| self.0.len() < LAGGING_MAX) {
            self.0.insert(key, noted);
        }
    }

    /// Notes anew where an attachment stands that was noted and may have moved.
    pub(super) fn follow(&mut self, handle: Handle, cursor: &Cursor, channel: &Channel, context: &Context<'_>) {
        let Some((at, Some(known))) = self.0.get_mut(&(handle, cursor.number)) else { return };
        if *at == cursor.at {
            return;
        }
        if let Some(position) = channel.position_of(&cursor.stand(), context.key, context.partitions) {
            (*at, *known) = (cursor.at, Arc::from(position));
        }
    }

    /// How many are noted.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.values().filter(|(_, position)| position.is_some()).count()
    }

    fn note(&mut self, connections: &[Connection], groups: &Groups, hub: &Hub, now_ms: i64) {
        let before = std::mem::take(&mut self.0);
        let known: HashSet<Handle> = before.keys().map(|(handle, _)| *handle).collect();
        let mut new = 0;
        let may_lag = |connection: &&Connection| {
            connection.life == Life::Open && (connection.blocked || known.contains(&connection.handle))
        };
        for connection in connections.iter().filter(may_lag) {
            let is_long = now_ms - connection.since_ms >= LAGGING_MS;
            for cursor in &connection.cursors {
                let Some(channel) = groups.channel_of(cursor).filter(|channel| is_noted(cursor, channel)) else {
                    continue;
                };
                let key = (connection.handle, cursor.number);
                let noted = before.get(&key);
                let position = noted.filter(|(at, _)| *at == cursor.at).and_then(|(_, position)| position.clone());
                let is_behind = connection.blocked || (position.is_some() && cursor.at < channel.end());
                if !is_behind || self.0.len() == LAGGING_MAX {
                    continue;
                }
                let position = position.or_else(|| {
                    let is_due = is_long || noted.is_some();
                    new += usize::from(is_due);
                    let print = || channel.position_of(&cursor.stand(), hub.key(), hub.partitions());
                    (is_due && new <= NOTED_PER_TICK).then(print)?.map(Arc::from)
                });
                self.0.insert(key, (cursor.at, position));
            }
        }
    }
}

/// Whether a place in the log is of use to an attachment: not on a replay, nor where it is given but the newest.
fn is_noted(cursor: &Cursor, channel: &Channel) -> bool {
    let conflates = cursor.special.as_ref().is_some_and(|special| special.conflates.is_some());
    channel.live().is_none() && !conflates
}

impl Shard {
    /// Notes who takes too little, and forgets who has everything.
    pub(super) fn note_lagging(&mut self, now_ms: i64) {
        self.lagging.note(&self.connections, &self.groups, &self.hub, now_ms);
    }
}
