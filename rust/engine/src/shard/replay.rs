//! From a replay to the live ring: an attachment that has been given all that its replay has goes on live at the position
//! where it stands, under the shard's own order. Nothing is said to its client.

use std::sync::Arc;

use super::connection::{Cursor, STOPPED};
use super::{Event, Handle, NewAttachment, Shard, slot};
use crate::channel::{Channel, Outcome, Payloads, Start};
use crate::hub::Plan;

impl Shard {
    /// The replay that an attachment is on, if it is being given it.
    pub(super) fn replay_of(&self, handle: Handle, number: u32) -> Option<Arc<Channel>> {
        let cursor = self.cursor(handle, number).filter(|cursor| cursor.at != STOPPED)?;
        self.groups.channel_of(cursor).filter(|channel| channel.live().is_some()).cloned()
    }

    /// An attachment stands at the end of its replay, which has asked who does.
    pub(super) fn arrive(&mut self, handle: Handle, number: u32) {
        let Some(replay) = self.replay_of(handle, number) else { return };
        if !replay.hands_over() {
            replay.arrive();
        } else if !self.hand_over(handle, number, &replay) {
            replay.refuse();
        }
        let event = Event::Replayed(replay.id);
        if self.tally.events.last() != Some(&event) {
            self.tally.events.push(event);
        }
    }

    /// Lets an attachment go on live; false if the live ring has passed its position.
    fn hand_over(&mut self, handle: Handle, number: u32, replay: &Channel) -> bool {
        let (Some(live), Some(cursor)) = (replay.live(), self.cursor(handle, number)) else { return true };
        let had = cursor.special.as_ref().and_then(|special| special.withheld.had.as_deref());
        let Some(position) = replay.arrived_at(cursor.at, had, self.hub.partitions()) else { return true };
        let (located, has_presence) = live.find(&Start::After(position), self.hub.partitions());
        if located.outcome != Outcome::Resumed {
            return false;
        }
        let Some(cursor) = self.drop_attachment(handle, number) else { return true };
        let special = cursor.special.map(|special| *special).unwrap_or_default();
        let syncs = special.replayed.is_some_and(|replayed| replayed.syncs);
        let plan = Plan {
            channel: Arc::clone(live),
            located,
            serial: String::new(), // for ATTACHED, which is not said
            before: None,
            has_presence: has_presence || syncs,
        };
        let new = NewAttachment {
            number,
            plan,
            spelling: special.spelling,
            kinds: cursor.kinds,
            echo: special.withheld.own.is_none_or(|own| own.echo),
            delta: special.payloads != Payloads::Whole,
            filter: special.filter,
            subscription: special.subscription,
        };
        self.place(handle, new);
        self.hub.stats.replays_handed_over.add(1);
        true
    }

    pub(super) fn cursor(&self, handle: Handle, number: u32) -> Option<&Cursor> {
        let connection = self.connections.get(slot(handle)).filter(|connection| connection.handle == handle)?;
        connection.cursors.iter().find(|cursor| cursor.number == number)
    }
}
