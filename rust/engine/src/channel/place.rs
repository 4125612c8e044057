//! Where an attachment begins, and what it is not to be given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::kind::{Kind, Kinds};
use crate::message::{Field, Message};
use crate::position::Position;

/// What one receiver is not to be given: it pays with frames of its own.
#[derive(Debug, Default, Clone)]
pub struct Withheld {
    /// Already had, as long as the cursor is below `until`.
    pub had: Option<Arc<Had>>,
    /// What depends on who it is.
    pub own: Option<Own>,
}

/// The receiver, where it is given other entries than everybody.
#[derive(Debug, Clone)]
pub struct Own {
    /// The protocol's connectionId.
    pub connection_id: Arc<str>,
    /// Whether it is given its own messages.
    pub echo: bool,
    /// Whether it is given its own presence, though not that of others.
    pub presence: bool,
}

impl Withheld {
    /// Whether the receiver is given what everybody is.
    pub fn is_nothing(&self) -> bool {
        self.had.is_none() && self.own.is_none()
    }

    /// Whether the receiver, who is given these kinds, is given this entry.
    pub(super) fn keeps(&self, kinds: Kinds, entry: &Message) -> bool {
        let is_own = |own: &Own| entry.field(Field::ConnectionId) == Some(&own.connection_id);
        let wanted = match (&self.own, entry.kind) {
            (Some(own), Kind::Message) if !own.echo => kinds.has(Kind::Message) && !is_own(own),
            (Some(own), Kind::Presence) if own.presence => kinds.has(Kind::Presence) || is_own(own),
            (_, kind) => kinds.has(kind),
        };
        wanted && self.had.as_ref().is_none_or(|had| !had.has(entry))
    }
}

/// What a client is not to be given again, or not at all of what was before it came.
#[derive(Debug, Default)]
pub struct Had {
    /// The kinds that a backlog is made of.
    pub(super) kinds: Kinds,
    /// Whether it is made of publications alone, each in its newest version.
    pub(super) publications: bool,
    /// Offsets below which a resuming client has everything, by partition.
    pub(super) next: Box<[i64]>,
    /// The leader epochs that its position says of these offsets.
    pub(super) epochs: Box<[i32]>,
    /// The cursor behind the last message that could be among it; [`OPEN`] as long as that is yet to come.
    pub(super) until: AtomicU64,
}

/// No cursor: a replay has yet to read what a client has had.
pub(super) const OPEN: u64 = u64::MAX;

impl Had {
    /// Whether nothing from this cursor on can be among it.
    pub fn is_past(&self, cursor: u64) -> bool {
        cursor >= self.until()
    }

    pub(super) fn until(&self) -> u64 {
        self.until.load(Ordering::Relaxed)
    }

    /// From this cursor on nothing can be among it. To be said with the ring locked.
    pub(super) fn close(&self, until: u64) {
        self.until.store(until, Ordering::Relaxed);
    }

    /// How far the receiver has everything of a partition that was read up to `next`, in this leader epoch: of what lies
    /// ahead of that its own position knows the epoch.
    pub(super) fn reaches(&self, index: usize, (next, epoch): (i64, i32)) -> (i64, i32) {
        match self.next.get(index) {
            Some(&had) if had > next => (had, self.epochs.get(index).copied().unwrap_or(-1)),
            _ => (next, epoch),
        }
    }

    /// Whether this entry is among it.
    pub(super) fn has(&self, message: &Message) -> bool {
        !self.kinds.has(message.kind)
            || (self.publications && !message.is_publication())
            || self.next.get(usize::from(message.partition.index)).is_some_and(|&next| message.offset < next)
    }
}

/// Where an attachment begins.
#[derive(Debug)]
pub enum Start {
    /// With what comes next.
    Live,
    /// With the earliest message that is among the last so many, and not older than that.
    Rewind {
        /// At most so many messages.
        count: usize,
        /// None from before this time.
        since_ms: i64,
    },
    /// Behind this position.
    After(Position),
    /// Behind a position of which this is all that is known.
    Nowhere(Outcome),
}

/// How well a position could be continued from.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No position was given.
    #[default]
    Fresh = 0,
    /// Continues exactly.
    Resumed = 1,
    /// Something after it is gone; continues with the earliest held.
    Gap = 2,
    /// Not a position of this channel in this log.
    Foreign = 3,
    /// Beyond what this node has read.
    Ahead = 4,
    /// Continues with the newest of each key: what was superseded meanwhile is left out.
    Conflated = 5,
    /// No position was given, and keys are missing for which there was no room.
    Partial = 6,
    /// The log has to be asked for the checkpoint by which it was said.
    Unread = 7,
}

/// A place found.
#[derive(Debug, Default)]
pub struct Located {
    /// How.
    pub outcome: Outcome,
    /// The cursor.
    pub cursor: u64,
    /// The number of the first entry that it is given as it came: what was appended to a message before that it has
    /// never seen.
    pub since: u64,
    /// What to leave out at first.
    pub had: Option<Arc<Had>>,
    /// Messages waiting there.
    pub backlog: usize,
    /// It leaves out what was superseded until it has everything; and from below this number what came without a key.
    pub conflates: Option<u64>,
}
