//! Where attachments stand whose connections take nothing: the ring may pass them, and then the log is asked for what
//! they have not been given.
//!
//! While its socket is full a cursor does not move, so its position is noted once: at a tick, of connections that have
//! taken nothing since the one before. There is no hurry, as rings reach back for seconds. Who takes a little and is stuck
//! again is noted anew when its cursor moves. At most [`NOTED_PER_TICK`] are noted at once and [`LAGGING_MAX`] kept. Who
//! was passed without having been noted is told that something is missing.

use std::collections::HashMap;
use std::sync::Arc;

use super::connection::{Connection, Cursor, Life};
use super::groups::Groups;
use super::{Handle, Shard};
use crate::channel::{Channel, Context};
use crate::hub::Hub;
use crate::limits::{LAGGING_MAX, LAGGING_MS, NOTED_PER_TICK};

/// See the module's text. By connection and attachment: a cursor and the position there.
#[derive(Debug, Default)]
pub(super) struct Lagging(HashMap<(Handle, u32), (u64, Arc<str>)>);

impl Lagging {
    /// The position of an attachment that stood there, if it was noted.
    pub(super) fn place(&self, handle: Handle, number: u32, at: u64) -> Option<Arc<str>> {
        self.0.get(&(handle, number)).filter(|(noted, _)| *noted == at).map(|(_, position)| Arc::clone(position))
    }

    /// Notes anew where an attachment stands that was noted and may have moved.
    pub(super) fn follow(&mut self, handle: Handle, cursor: &Cursor, channel: &Channel, context: &Context<'_>) {
        let Some(noted) = self.0.get_mut(&(handle, cursor.number)).filter(|noted| noted.0 != cursor.at) else { return };
        if let Some(position) = channel.position_of(&cursor.stand(), context.key, context.partitions) {
            *noted = (cursor.at, Arc::from(position));
        }
    }

    /// How many are noted.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn note(&mut self, connections: &[Connection], groups: &Groups, hub: &Hub, now_ms: i64) {
        let mut places = HashMap::new();
        let mut new = 0;
        let is_stuck = |connection: &&Connection| connection.blocked && connection.life == Life::Open;
        for connection in connections.iter().filter(is_stuck) {
            let is_long = now_ms - connection.since_ms >= LAGGING_MS;
            for cursor in &connection.cursors {
                let special = cursor.special.as_ref();
                let Some(channel) = groups.channel_of(cursor).filter(|channel| channel.live().is_none()) else {
                    continue;
                };
                if special.is_some_and(|special| special.conflates.is_some()) || places.len() == LAGGING_MAX {
                    continue;
                }
                let key = (connection.handle, cursor.number);
                let position = self.place(key.0, key.1, cursor.at).or_else(|| {
                    new += usize::from(is_long);
                    let print = || channel.position_of(&cursor.stand(), hub.key(), hub.partitions());
                    (is_long && new <= NOTED_PER_TICK).then(print)?.map(Arc::from)
                });
                places.extend(position.map(|position| (key, (cursor.at, position))));
            }
        }
        self.0 = places;
    }
}

impl Shard {
    /// Notes who takes nothing, and forgets who does again.
    pub(super) fn note_lagging(&mut self, now_ms: i64) {
        self.lagging.note(&self.connections, &self.groups, &self.hub, now_ms);
    }
}
