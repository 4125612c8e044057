//! Where an attachment begins, and what it is not to be given.

use std::sync::Arc;

use crate::message::Message;
use crate::position::Position;

/// What one receiver is not to be given: it pays with frames of its own.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Already had, by partition, as long as the cursor is below `until`.
    pub had: Option<Arc<Had>>,
    /// Its own messages: the connection's id.
    pub own: Option<Arc<str>>,
}

/// Offsets below which a resuming client has everything, by partition.
#[derive(Debug, PartialEq, Eq)]
pub struct Had {
    pub(super) next: Box<[i64]>,
    /// The cursor behind the last message that could be among it.
    pub(super) until: u64,
}

impl Had {
    /// Whether nothing from this cursor on can be among it.
    pub fn is_past(&self, cursor: u64) -> bool {
        cursor >= self.until
    }

    /// Whether this message is among it.
    pub(super) fn has(&self, message: &Message) -> bool {
        self.next.get(usize::from(message.partition.index)).is_some_and(|&next| message.offset < next)
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
}

/// How well a position could be continued from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No position was given.
    Fresh = 0,
    /// Continues exactly.
    Resumed = 1,
    /// Something after it is gone; continues with the earliest held.
    Gap = 2,
    /// Not a position of this channel in this log.
    Foreign = 3,
    /// Beyond what this node has read.
    Ahead = 4,
}

/// A place found.
#[derive(Debug)]
pub struct Located {
    /// How.
    pub outcome: Outcome,
    /// The cursor.
    pub cursor: u64,
    /// What to leave out at first.
    pub had: Option<Arc<Had>>,
    /// Messages waiting there.
    pub backlog: usize,
}
