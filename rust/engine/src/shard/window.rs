//! What an MQTT connection was given with QoS 1 and has not acknowledged, and where those of its attachments stand that
//! are continued later (OASIS MQTT 5.0, §4.3.2, §4.4, §4.9).
//!
//! Shared by the shard, which gives, and whoever hears the client: an acknowledgement is a look under a lock, and the
//! shard is told only if it waits for one. Rules:
//!
//! - No message is kept: what is not acknowledged is known by its place in the log, and comes again from there.
//! - As long as as many messages are under way as the client takes, cursors stay where they are.
//! - A message's packet id comes of its place in the log: so it has the same one when it comes again, on whichever node.
//!   Where that is under way for another, and for what is in no log, ids go round from 1 to 65535.
//! - Who sends messages of its own has the window to itself until all of them are on their way: they come before what is
//!   delivered.
//! - Of an attachment that may be continued the position behind what was given is known at any time, also when the ring
//!   has passed it; and with what is not acknowledged, the position behind what is.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::channel::{Channel, Stand};
use crate::limits::{WINDOW, WINDOW_MAX};
use crate::wire::Of;

/// See the module's text.
#[derive(Debug)]
pub struct Window(Mutex<State>);

#[derive(Debug)]
pub(super) struct State {
    /// Messages that may be under way.
    maximum: usize,
    /// The packet id that was taken last in the round.
    last: u16,
    /// Oldest first.
    under_way: VecDeque<UnderWay>,
    followed: Vec<Followed>,
    /// The shard wants to hear of the next acknowledgement.
    waits: bool,
    /// Somebody else has messages to send for which there was no room: they come first.
    reserved: bool,
}

/// A message that is not acknowledged.
#[derive(Debug)]
struct UnderWay {
    /// Of the attachment.
    number: u32,
    packet_id: u16,
    partition: u16,
    offset: i64,
}

/// Of a message that nobody's position depends on.
const NOBODY: u32 = u32::MAX;

/// Where an attachment stands.
#[derive(Debug, Clone)]
pub struct Followed {
    /// The attachment's.
    pub number: u32,
    /// The one that it is given, which may be a replay.
    pub channel: Arc<Channel>,
    /// Its place there.
    pub stand: Stand,
    /// The position at which it began.
    pub start: String,
    /// Partitions of which it was given something since, and the offset behind that.
    pub given: SmallVec<[(u16, i64); 1]>,
    /// Partitions of which something may have been given on an earlier connection, and the offset behind that.
    pub given_before: SmallVec<[(u16, i64); 1]>,
    /// Partitions of which something is not acknowledged, and the first such offset.
    pub open: SmallVec<[(u16, i64); 1]>,
}

/// What became of an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// No such message is under way.
    Unknown,
    /// There is room for another.
    Taken,
    /// The same, and the shard waits for that.
    Awaited,
}

impl Default for Window {
    fn default() -> Self {
        Self(Mutex::new(State {
            maximum: WINDOW,
            last: 0,
            under_way: VecDeque::new(),
            followed: Vec::new(),
            waits: false,
            reserved: false,
        }))
    }
}

impl Window {
    /// The client takes so many messages before it acknowledges one. The most that can be said is what holds for who says
    /// nothing; the window is never larger than ours.
    pub fn set_maximum(&self, maximum: u16) {
        let maximum = if maximum == u16::MAX { WINDOW } else { usize::from(maximum) };
        self.0.lock().maximum = maximum.clamp(1, WINDOW_MAX);
    }

    /// A packet id for a message that somebody else sends; None if the client takes no more now. Then nothing else is
    /// given before [`Self::release`].
    pub fn packet_id(&self) -> Option<u16> {
        let state = &mut *self.0.lock();
        let packet_id = state.next_id();
        let taken = state.take(UnderWay { number: NOBODY, packet_id, partition: 0, offset: 0 });
        state.reserved |= taken.is_none();
        taken
    }

    /// Who had messages of its own has sent all of them. Whether the shard waits for that.
    pub fn release(&self) -> bool {
        let state = &mut *self.0.lock();
        state.reserved = false;
        std::mem::take(&mut state.waits)
    }

    /// The client has acknowledged a message.
    pub fn acknowledged(&self, packet_id: u16) -> Acknowledged {
        let state = &mut *self.0.lock();
        let Some(at) = state.under_way.iter().position(|sent| sent.packet_id == packet_id) else {
            return Acknowledged::Unknown;
        };
        state.under_way.remove(at);
        if state.under_way.is_empty() && state.under_way.capacity() > WINDOW {
            state.under_way = VecDeque::new(); // what a burst took is not kept
        }
        let is_awaited = !state.reserved && std::mem::take(&mut state.waits);
        if is_awaited { Acknowledged::Awaited } else { Acknowledged::Taken }
    }

    /// Where all attachments stand that are followed, or the one of that number.
    pub fn followed(&self, number: Option<u32>) -> Vec<Followed> {
        let state = self.0.lock();
        let asked = |followed: &&Followed| number.is_none_or(|number| number == followed.number);
        let mut all: Vec<_> = state.followed.iter().filter(asked).cloned().collect();
        for sent in &state.under_way {
            if let Some(followed) = all.iter_mut().find(|followed| followed.number == sent.number) {
                set(&mut followed.open, sent.partition, sent.offset, i64::min);
            }
        }
        all
    }

    /// How many more messages the client takes; if none, the shard is told when it does.
    pub(super) fn room(&self) -> usize {
        let state = &mut *self.0.lock();
        state.waits = state.reserved || state.is_full();
        if state.reserved { 0 } else { state.maximum.saturating_sub(state.under_way.len()) }
    }

    /// An attachment is followed from this place on, at which a position was printed; if it is already, it has moved there.
    pub(super) fn follow(
        &self,
        number: u32,
        (channel, stand, start): (Arc<Channel>, Stand, String),
        given_before: SmallVec<[(u16, i64); 1]>,
    ) {
        let followed = &mut self.0.lock().followed;
        if let Some(known) = followed.iter_mut().find(|known| known.number == number) {
            (known.channel, known.stand) = (channel, stand);
            return;
        }
        let (given, open) = (SmallVec::new(), SmallVec::new());
        if followed.is_empty() {
            followed.reserve_exact(1); // most clients have one: room for four of this size would be their largest part
        }
        followed.push(Followed { number, channel, stand, start, given, given_before, open });
    }

    /// An attachment begins anew; what is under way still counts for it. Returns what it was given until now: partitions,
    /// and the offsets behind that.
    pub(super) fn restart(&self, number: u32) -> SmallVec<[(u16, i64); 1]> {
        let followed = &mut self.0.lock().followed;
        let Some(at) = followed.iter().position(|followed| followed.number == number) else { return SmallVec::new() };
        let Followed { given, given_before: mut all, .. } = followed.remove(at);
        add(&mut all, given);
        all
    }

    /// An attachment is no more.
    pub(super) fn forget(&self, number: u32) {
        self.restart(number);
        let state = &mut *self.0.lock();
        for sent in state.under_way.iter_mut().filter(|sent| sent.number == number) {
            sent.number = NOBODY;
        }
    }

    pub(super) fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.under_way.len() >= self.maximum
    }

    /// A packet id for a message; None if the client takes no more now.
    pub(super) fn issue(&mut self, number: u32, of: &Of) -> Option<u16> {
        if self.reserved {
            return None;
        }
        let own = of.packet_id(number);
        let packet_id = if self.is_under_way(own) { self.next_id() } else { own };
        self.take(UnderWay { number, packet_id, partition: of.partition, offset: of.offset })
    }

    fn take(&mut self, sent: UnderWay) -> Option<u16> {
        let packet_id = sent.packet_id;
        let has_room = !self.is_full();
        if has_room {
            self.under_way.push_back(sent);
        }
        has_room.then_some(packet_id)
    }

    /// The next packet id of the round that is not under way: there are many more ids than messages.
    fn next_id(&mut self) -> u16 {
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.is_under_way(self.last) {
                return self.last;
            }
        }
    }

    fn is_under_way(&self, packet_id: u16) -> bool {
        self.under_way.iter().any(|sent| sent.packet_id == packet_id)
    }

    /// An attachment was given these messages, and stands here now.
    pub(super) fn stands(&mut self, number: u32, stand: Stand, given: impl Iterator<Item = Of>) {
        let Some(followed) = self.followed.iter_mut().find(|followed| followed.number == number) else { return };
        followed.stand = stand;
        for of in given {
            set(&mut followed.given, of.partition, of.offset + 1, i64::max);
        }
    }
}

/// Adds to what is said of partitions what is said of them besides: the greater offset counts.
pub(super) fn add(all: &mut SmallVec<[(u16, i64); 1]>, others: SmallVec<[(u16, i64); 1]>) {
    for (partition, offset) in others {
        set(all, partition, offset, i64::max);
    }
}

/// Sets what is said of a partition to what `choose` makes of both.
fn set(all: &mut SmallVec<[(u16, i64); 1]>, partition: u16, offset: i64, choose: impl Fn(i64, i64) -> i64) {
    match all.iter_mut().find(|(other, _)| *other == partition) {
        Some((_, known)) => *known = choose(*known, offset),
        None => all.push((partition, offset)),
    }
}
