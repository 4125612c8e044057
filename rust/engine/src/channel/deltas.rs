//! Messages as what turns the one before them into them (Ably protocol, "Deltas").
//!
//! - A delta is from the message before in the channel, so that all who are in step share it: it is made once per coding,
//!   and kept as long as its message is.
//! - It is given to who was given that message; to others, and where there is none, the message is given whole.
//! - New messages alone take part, with the payloads that [`delta::between`] knows.
//! - It has a frame of its own: clients compare what it is from with the last message of the frame before, and some of
//!   them do so for each message of a frame.
//!
//! [`delta::between`]: crate::delta::between

use std::collections::{BTreeMap, VecDeque};

use super::{Ask, Context, Payloads, Withheld};
use crate::change::CREATE;
use crate::delta;
use crate::kind::Kind;
use crate::limits::{DELTA_LOOK_BACK, DELTA_OVERHEAD};
use crate::message::Message;
use crate::wire::{Coding, Wire};

/// The deltas of a ring's messages, encoded, by number and coding. None where there is none.
#[derive(Debug, Default)]
pub(super) struct Deltas(BTreeMap<(u64, Coding), Option<Box<[u8]>>>);

impl Deltas {
    /// The bytes of a delta that was found.
    pub(super) fn get(&self, number: u64, wire: Wire) -> Option<&[u8]> {
        self.0.get(&(number, wire.coding()))?.as_deref()
    }

    /// Whether there is one, and the memory that it took to find out.
    fn find(&mut self, number: u64, wire: Wire, base: &Message, message: &Message) -> (bool, usize) {
        let coding = wire.coding();
        if let Some(known) = self.0.get(&(number, coding)) {
            return (known.is_some(), 0);
        }
        let made = delta::between(base, message).map(|delta| coding.message(&delta).into_boxed_slice());
        let (found, cost) = (made.is_some(), cost(made.as_deref()));
        self.0.insert((number, coding), made);
        (found, cost)
    }

    /// The message of this number is dropped; the memory freed.
    pub(super) fn forget(&mut self, number: u64) -> usize {
        let gone = Coding::ALL.map(|coding| self.0.remove(&(number, coding)));
        gone.into_iter().flatten().map(|made| cost(made.as_deref())).sum()
    }
}

fn cost(made: Option<&[u8]>) -> usize {
    DELTA_OVERHEAD + made.map_or(0, <[u8]>::len)
}

/// Follows the making of a frame for one who is given deltas.
pub(super) struct Steps<'a> {
    pub(super) entries: &'a VecDeque<Message>,
    /// The number of the first of them.
    pub(super) base: u64,
    pub(super) ask: &'a Ask<'a>,
    pub(super) withheld: &'a Withheld,
    pub(super) deltas: Box<Deltas>,
    /// The place of what was put into the frame last.
    pub(super) last: Option<usize>,
}

impl Steps<'_> {
    /// Whether the entry at this place is given as a delta, and the memory that it took to find out.
    pub(super) fn has_delta(&mut self, at: usize, context: &Context<'_>) -> (bool, usize) {
        let entry = &self.entries[at];
        if !takes_part(entry) {
            return (false, 0);
        }
        let Some(before) = self.before(at, context) else { return (false, 0) };
        self.deltas.find(self.base + at as u64, self.ask.wire, &self.entries[before], entry)
    }

    /// The place of the message before, if the receiver was given it as the last one.
    fn before(&self, at: usize, context: &Context<'_>) -> Option<usize> {
        // What a node says itself comes in frames of messages, too.
        let is_message = |entry: &Message| match entry.kind {
            Kind::Message => true,
            Kind::Meta => self.ask.kinds.has(Kind::Meta),
            Kind::Presence | Kind::Annotation => false,
        };
        let before = (0..at).rev().take(DELTA_LOOK_BACK).find(|&before| is_message(&self.entries[before]))?;
        let entry = &self.entries[before];
        let was_given = if self.base + (before as u64) < self.ask.from {
            self.ask.payloads == Payloads::Deltas && self.ask.wants(self.withheld, entry, context)
        } else {
            self.last == Some(before)
        };
        (was_given && takes_part(entry)).then_some(before)
    }
}

fn takes_part(entry: &Message) -> bool {
    entry.kind == Kind::Message && entry.action == CREATE
}
