//! Connections and the cursors of their attachments, laid out for the one look that a delivery takes at them: all that it
//! needs of a connection with one attachment lies together.

use std::sync::Arc;

use smallvec::SmallVec;

use super::places::Places;
use super::{Handle, Subscription, Window};
use crate::channel::{Channel, Located, Outcome, Payloads, Stand, Sync, Withheld};
use crate::filter::Filter;
use crate::kind::Kinds;
use crate::outbox::Outbox;
use crate::wire::Wire;

/// A connection's outgoing side. Slots that nobody has hold one with handle 0.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of one")]
pub(super) struct Connection {
    pub(super) handle: Handle,
    /// When bytes were last written, for heartbeats; when CLOSE was queued, once it was.
    pub(super) since_ms: i64,
    pub(super) outbox: Outbox,
    pub(super) cursors: SmallVec<[Cursor; 1]>,
    /// Of a stream of several channels.
    pub(super) places: Option<Box<Places>>,
    /// With MQTT, what it has not acknowledged.
    pub(super) window: Option<Arc<Window>>,
    /// With MQTT, the largest packet that it takes.
    pub(super) packet_max: u32,
    /// The protocol's connectionId.
    pub(super) id: Arc<str>,
    pub(super) wire: Wire,
    pub(super) life: Life,
    pub(super) heartbeat_frames: bool,
    /// The socket took less than it was offered.
    pub(super) blocked: bool,
    /// Its outbox is being written.
    pub(super) offered: bool,
    /// It could not be given everything for lack of room.
    pub(super) behind: bool,
    /// Whether it waits as such in each lane: once at most. Outlives the connection, as its place in the lane does.
    pub(super) waits: [bool; 3],
}

/// How far a connection's life has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It is written to.
    Open,
    /// CLOSE is queued; nothing follows it.
    Finishing,
    /// Cut off, broken, or nobody's: nothing is written any more.
    Dead,
}

/// Where one attachment stands in its channel.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The number of the next message it has not been given; [`STOPPED`] if it is given none.
    pub(super) at: u64,
    /// Exceptions; most have none.
    pub(super) special: Option<Box<Special>>,
    /// The session's number for the attachment.
    pub(super) number: u32,
    /// Its channel's.
    pub(super) group: u32,
    /// Which member of the group it is.
    pub(super) index: u32,
    /// What it is given, and may do.
    pub(super) kinds: Kinds,
    /// The number of the first entry that it is given as it came; none has the greatest.
    pub(super) since: u64,
}

/// The cursor of an attachment that the ring has passed, or that never wanted messages: behind everything there will be.
pub(super) const STOPPED: u64 = u64::MAX;

/// What makes a cursor's frames its own.
#[derive(Debug, Default)]
pub(super) struct Special {
    pub(super) spelling: Option<Arc<str>>,
    pub(super) filter: Option<Arc<Filter>>,
    pub(super) payloads: Payloads,
    pub(super) withheld: Withheld,
    /// The presence set that it is being given.
    pub(super) sync: Option<Sync>,
    /// It leaves out what was superseded; see [`Located::conflates`].
    ///
    /// [`Located::conflates`]: crate::channel::Located::conflates
    pub(super) conflates: Option<u64>,
    /// Where the ring passed it: it can go on from there if it leaves out what was superseded.
    pub(super) passed: Option<u64>,
    /// It is on a replay.
    pub(super) replayed: Option<Replayed>,
    /// What is said of it with MQTT.
    pub(super) subscription: Option<Box<Subscription>>,
}

/// What a cursor on a replay remembers.
#[derive(Debug)]
pub(super) struct Replayed {
    /// The last round in which it said that it stands at the end.
    pub(super) said: u64,
    /// Whether its client waits for the presence set, which it is given when it is live.
    pub(super) syncs: bool,
}

impl Connection {
    /// Nobody's.
    pub(super) fn vacant(waits: [bool; 3]) -> Self {
        Self {
            handle: 0,
            since_ms: 0,
            outbox: Outbox::default(),
            cursors: SmallVec::new(),
            places: None,
            window: None,
            packet_max: u32::MAX,
            id: Arc::default(),
            wire: Wire::Json,
            life: Life::Dead,
            heartbeat_frames: false,
            blocked: false,
            offered: false,
            behind: false,
            waits,
        }
    }
}

impl Cursor {
    /// Whether it is given but what its client's filter admits.
    pub(super) fn is_filtered(&self) -> bool {
        self.special.as_ref().is_some_and(|special| special.filter.is_some())
    }

    /// A cursor that is past what its client already had, and was given the whole presence set, is like any other from
    /// then on.
    pub(super) fn shed(&mut self) {
        let Some(special) = self.special.as_deref_mut() else { return };
        if special.withheld.had.take_if(|had| had.is_past(self.at)).is_some() {
            special.out_of_step(); // what it had is not what it was given last
        }
        if special.is_plain() {
            self.special = None;
        }
    }

    /// Whether each message that it is given is to be acknowledged.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.subscription().is_some_and(|subscription| subscription.acknowledged)
    }

    /// Whether where it stands is known outside.
    pub(super) fn is_followed(&self) -> bool {
        self.subscription().is_some_and(Subscription::is_followed)
    }

    /// What may have been given on an earlier connection.
    pub(super) fn given_before(&self) -> SmallVec<[(u16, i64); 1]> {
        self.subscription().map(|subscription| subscription.given_before.clone()).unwrap_or_default()
    }

    fn subscription(&self) -> Option<&Subscription> {
        self.special.as_ref()?.subscription.as_deref()
    }

    /// Where it stands in its ring.
    pub(super) fn stand(&self) -> Stand {
        let special = self.special.as_deref();
        let had = special.and_then(|special| special.withheld.had.clone());
        Stand { at: self.at, had, conflates: special.and_then(|special| special.conflates) }
    }

    /// Another one begins where it stands, in the same ring.
    pub(super) fn hand_on(&self, located: &mut Located) {
        let Stand { at, had, conflates } = self.stand();
        (located.cursor, located.had, located.conflates) = (at, had, conflates);
        located.outcome = Outcome::Fresh; // not where whoever asked has read that it stood
    }

    /// Whether it is on a replay.
    pub(super) fn is_replayed(&self) -> bool {
        self.special.as_ref().is_some_and(|special| special.replayed.is_some())
    }

    /// Whether it stands at the end of its replay, which asks who does, and has not said so yet. It has then.
    pub(super) fn arrives(&mut self, channel: &Channel) -> bool {
        let Some(replayed) = self.special.as_deref_mut().and_then(|special| special.replayed.as_mut()) else {
            return false;
        };
        let round = channel.round().filter(|round| *round != replayed.said && self.at == channel.end());
        replayed.said = round.unwrap_or(replayed.said);
        round.is_some()
    }

    /// It has been given everything: from now on it is given all.
    pub(super) fn caught_up(&mut self) {
        if let Some(special) = self.special.as_deref_mut().filter(|special| special.conflates.is_some()) {
            special.conflates = None;
            special.out_of_step();
        }
    }

    /// The ring has passed it, and it can go on if its client is told.
    pub(super) fn set_passed(&mut self) {
        self.special.get_or_insert_default().passed = Some(self.at);
    }

    /// Whether it is being given the presence set.
    pub(super) fn syncs(&self) -> bool {
        self.special.as_ref().is_some_and(|special| special.sync.is_some())
    }

    /// It is given the presence set from the beginning, or no more of it.
    pub(super) fn set_sync(&mut self, sync: Option<Sync>) {
        match (&mut self.special, sync) {
            (Some(special), sync) => special.sync = sync,
            (None, Some(sync)) => self.special = Some(Box::new(Special { sync: Some(sync), ..Special::default() })),
            (None, None) => {}
        }
    }
}

impl Special {
    pub(super) fn is_plain(&self) -> bool {
        self.spelling.is_none()
            && self.filter.is_none()
            && self.payloads == Payloads::Whole
            && self.withheld.is_nothing()
            && self.sync.is_none()
            && self.replayed.is_none()
            && self.conflates.is_none()
            && self.passed.is_none()
            && self.subscription.is_none()
    }

    /// A message was given.
    pub(super) fn in_step(&mut self) {
        if self.payloads == Payloads::WholeFirst {
            self.payloads = Payloads::Deltas;
        }
    }

    fn out_of_step(&mut self) {
        if self.payloads == Payloads::Deltas {
            self.payloads = Payloads::WholeFirst;
        }
    }
}
