//! What a receiver is given: by its own wish, and so, with others who wish the same from the same place, in one frame.

use std::sync::Arc;

use super::{Context, Withheld};
use crate::filter::Filter;
use crate::kind::{Kind, Kinds};
use crate::message::Message;
use crate::wire::Wire;

/// Where a receiver stands, and what it takes.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What it speaks.
    pub wire: Wire,
    /// What it is given.
    pub kinds: Kinds,
    /// How it spells the channel, if not by its name.
    pub spelling: Option<&'a Arc<str>>,
    /// Which messages it wants, if not all.
    pub filter: Option<&'a Arc<Filter>>,
    /// How it is given them.
    pub payloads: Payloads,
    /// Its cursor.
    pub from: u64,
    /// See [`Located::since`].
    ///
    /// [`Located::since`]: super::Located::since
    pub since: u64,
    /// See [`Located::conflates`].
    ///
    /// [`Located::conflates`]: super::Located::conflates
    pub conflates: Option<u64>,
    /// Of a frame that nobody shares, the most messages that it takes.
    pub most: usize,
}

/// How a receiver is given the payloads of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Payloads {
    /// Each whole.
    #[default]
    Whole,
    /// The next one whole, and from then on [`Payloads::Deltas`].
    WholeFirst,
    /// As deltas where there are some: of what is below its cursor, it has been given all that was for it.
    Deltas,
}

impl Ask<'_> {
    /// Of one who stands there and is given everything as it is.
    pub fn plain(wire: Wire, from: u64) -> Self {
        let (kinds, payloads) = (Kinds::ALL, Payloads::Whole);
        let most = usize::MAX;
        Self { wire, kinds, spelling: None, filter: None, payloads, from, since: 0, conflates: None, most }
    }

    /// Whether an entry is for the receiver; what a filter takes for it is noted.
    pub(super) fn wants(&self, withheld: &Withheld, entry: &Message, context: &Context<'_>) -> bool {
        if !withheld.keeps(self.kinds, entry) || !self.wire.has(entry, context.wall_ms) {
            return false;
        }
        let Some(filter) = self.filter.filter(|_| entry.kind == Kind::Message) else { return true };
        context.filtered_ns.set(context.filtered_ns.get() + Filter::cost_ns(entry));
        filter.admits(entry)
    }

    /// To be kept, with what was made for it.
    pub fn keep(&self) -> Asked {
        let Self { wire, kinds, payloads, from, conflates, .. } = *self;
        Asked { wire, kinds, spelling: self.spelling.cloned(), filter: self.filter.cloned(), payloads, from, conflates }
    }
}

/// An [`Ask`] that was answered.
#[derive(Debug)]
pub struct Asked {
    wire: Wire,
    kinds: Kinds,
    spelling: Option<Arc<str>>,
    filter: Option<Arc<Filter>>,
    payloads: Payloads,
    from: u64,
    pub(super) conflates: Option<u64>,
}

impl Asked {
    /// Whether the answer, which goes on up to there, is this one's, too; or so is what is left of it from where it stands.
    pub fn is_for(&self, ask: &Ask<'_>, to: u64) -> bool {
        let is_within = self.wire.can_be_entered() && ask.conflates.is_none() && (self.from..to).contains(&ask.from);
        self.is_like(&if is_within { Ask { from: self.from, ..*ask } } else { *ask })
    }

    /// Whether the same was asked for from the same place.
    pub fn is_like(&self, ask: &Ask<'_>) -> bool {
        let filters = || match (&self.filter, ask.filter) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            _ => false,
        };
        self.from == ask.from
            && self.conflates == ask.conflates
            && self.wire == ask.wire
            && self.kinds == ask.kinds
            && self.payloads == ask.payloads
            && self.spelling.as_ref() == ask.spelling
            && filters()
    }
}
