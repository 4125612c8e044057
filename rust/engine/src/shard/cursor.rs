//! Connections, the cursors of their attachments, and how a cursor is moved on.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Event, Handle};
use crate::channel::{Channel, Context, Filter, Frame, Given};
use crate::limits::OUTBOX_FRAMES_BYTES;
use crate::outbox::Outbox;
use crate::wire::Wire;

/// A connection's outgoing side.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts, not the states of one")]
pub(super) struct Connection {
    pub(super) handle: Handle,
    pub(super) wire: Wire,
    /// The protocol's connectionId.
    pub(super) id: Arc<str>,
    pub(super) heartbeat_frames: bool,
    pub(super) outbox: Outbox,
    pub(super) attachments: SmallVec<[Place; 1]>,
    /// The socket took less than it was offered.
    pub(super) blocked: bool,
    /// Some cursor may be short of its channel's end.
    pub(super) behind: bool,
    /// It stands in the queue of those to be written.
    pub(super) ready: bool,
    pub(super) life: Life,
    /// When bytes were last written, for heartbeats; when CLOSE was queued, once it was.
    pub(super) since_ms: i64,
}

/// How far a connection's life has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It is written to.
    Open,
    /// CLOSE is queued; nothing follows it.
    Finishing,
    /// Cut off or broken: the socket is not written any more.
    Dead,
}

/// Where an attachment's cursor is found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) number: u32,
    /// Index into `Shard::groups`.
    pub(super) group: u32,
    /// Index into the group's cursors.
    pub(super) index: u32,
}

/// The attachments of one channel, side by side: a flush walks this and nothing else.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) channel: Arc<Channel>,
    pub(super) cursors: Vec<Cursor>,
    /// The flush begins with another one each time, so that nobody is always last.
    pub(super) first: usize,
}

/// Where one attachment stands in its channel.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The number of the next message it has not been given.
    pub(super) at: u64,
    /// Of its connection.
    pub(super) slot: u32,
    pub(super) number: u32,
    /// Given nothing: the ring passed it, or it never wanted messages.
    pub(super) stopped: bool,
    /// Exceptions; most have none.
    pub(super) special: Option<Box<Special>>,
}

/// What makes a cursor's frames its own.
#[derive(Debug, Default)]
pub(super) struct Special {
    pub(super) spelling: Option<Arc<str>>,
    pub(super) filter: Filter,
}

/// Gives a connection what one cursor has yet to be given, as far as there is room.
pub(super) fn fill(
    connection: &mut Connection,
    cursor: &mut Cursor,
    channel: &Channel,
    context: &Context<'_>,
    memo: &mut Memo,
    events: &mut Vec<Event>,
) {
    if cursor.stopped || connection.life != Life::Open {
        return;
    }
    while cursor.at < channel.end() {
        if connection.outbox.len() >= OUTBOX_FRAMES_BYTES {
            connection.behind = true;
            return;
        }
        cursor.shed();
        let given = match &cursor.special {
            None => memo.frame(connection.wire, cursor.at, channel, context),
            Some(special) => special.frame(connection.wire, cursor.at, channel, context),
        };
        match given {
            Given::Frame(frame) => {
                cursor.at = frame.to;
                context.stats.deliveries.add(u64::from(frame.messages));
                connection.outbox.push(frame.bytes);
            }
            Given::Skipped(to) => cursor.at = to,
            Given::Nothing => return,
            Given::Lost => {
                cursor.stopped = true;
                context.stats.continuity_lost.add(1);
                events.push(Event::Lost(connection.handle, cursor.number));
                return;
            }
        }
    }
}

impl Cursor {
    /// A resumed cursor that is past what its client already had is like any other from then on.
    fn shed(&mut self) {
        let Some(special) = self.special.as_deref_mut() else { return };
        if special.filter.had.as_ref().is_some_and(|had| had.is_past(self.at)) {
            special.filter.had = None;
            if special.is_plain() {
                self.special = None;
            }
        }
    }
}

impl Special {
    pub(super) fn is_plain(&self) -> bool {
        self.spelling.is_none() && self.filter.had.is_none() && self.filter.own.is_none()
    }

    fn frame(&self, wire: Wire, from: u64, channel: &Channel, context: &Context<'_>) -> Given {
        if self.filter.had.is_none() && self.filter.own.is_none() {
            return channel.frame(wire, self.spelling.as_ref(), from, context);
        }
        channel.filtered_frame(wire, self.spelling.as_ref(), from, &self.filter, context)
    }
}

/// The frames of one flush, so that ten thousand cursors at one place lock the channel once.
#[derive(Default)]
pub(super) struct Memo(SmallVec<[(Wire, u64, Frame); 4]>);

impl Memo {
    fn frame(&mut self, wire: Wire, from: u64, channel: &Channel, context: &Context<'_>) -> Given {
        if let Some((.., frame)) = self.0.iter().find(|(other, at, _)| *other == wire && *at == from) {
            return Given::Frame(frame.clone());
        }
        let given = channel.frame(wire, None, from, context);
        if let Given::Frame(frame) = &given {
            if self.0.len() == 4 {
                self.0.remove(0);
            }
            self.0.push((wire, from, frame.clone()));
        }
        given
    }
}
