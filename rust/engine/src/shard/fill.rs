//! Gives a connection what its attachments have yet to be given: at the last moment before it is written, so that it is
//! all that has come by then, in the largest frames.

use smallvec::SmallVec;

use super::connection::{Connection, Cursor, STOPPED, Special};
use super::groups::Groups;
use super::{Event, Tally};
use crate::channel::{Channel, Context, Frame, Given};
use crate::limits::{FRAMES_MEMO, OUTBOX_FRAMES_BYTES};
use crate::outbox::Outbox;
use crate::wire::Wire;

/// The frames given last, so that ten thousand cursors at one place lock their channel once.
#[derive(Debug, Default)]
pub(super) struct Memo {
    frames: SmallVec<[(u64, Wire, u64, Frame); FRAMES_MEMO]>,
    oldest: usize,
}

impl Memo {
    /// There are news, or nobody is left to share with.
    pub(super) fn forget(&mut self) {
        self.frames.clear();
        self.oldest = 0;
    }

    fn frame(&mut self, wire: Wire, from: u64, channel: &Channel, context: &Context<'_>) -> Given {
        let same = |&&(id, other, at, _): &&(u64, Wire, u64, Frame)| id == channel.id && other == wire && at == from;
        if let Some((.., frame)) = self.frames.iter().find(same) {
            return Given::Frame(frame.clone());
        }
        let given = channel.frame(wire, None, from, context);
        if let Given::Frame(frame) = &given {
            let new = (channel.id, wire, from, frame.clone());
            if self.frames.len() < FRAMES_MEMO {
                self.frames.push(new);
            } else {
                self.frames[self.oldest] = new;
                self.oldest = (self.oldest + 1) % FRAMES_MEMO;
            }
        }
        given
    }
}

/// Fills the outbox as far as there is room; notes whether that was not far enough.
pub(super) fn fill(
    connection: &mut Connection,
    groups: &Groups,
    context: &Context<'_>,
    memo: &mut Memo,
    tally: &mut Tally,
) {
    let Connection { handle, outbox, cursors, wire, behind, .. } = connection;
    *behind = false;
    for at in 0..cursors.len() {
        let cursor = &mut cursors[at];
        let Some(channel) = groups.channel(cursor) else { continue };
        while groups.is_due(cursor) {
            if outbox.len() >= OUTBOX_FRAMES_BYTES {
                *behind = true;
                cursors.rotate_left(at); // the room goes to this one first the next time
                return;
            }
            give(*wire, outbox, cursor, channel, context, memo, tally);
            if cursor.at == STOPPED {
                tally.events.push(Event::Lost(*handle, cursor.number));
            }
        }
    }
}

/// Moves a cursor that is due on by one frame.
fn give(
    wire: Wire,
    outbox: &mut Outbox,
    cursor: &mut Cursor,
    channel: &Channel,
    context: &Context<'_>,
    memo: &mut Memo,
    tally: &mut Tally,
) {
    cursor.shed();
    let given = match &cursor.special {
        None => memo.frame(wire, cursor.at, channel, context),
        Some(special) => special.frame(wire, cursor.at, channel, context),
    };
    match given {
        Given::Frame(frame) => {
            cursor.at = frame.to;
            tally.deliveries += u64::from(frame.messages);
            outbox.push(frame.bytes);
        }
        Given::Skipped(to) => cursor.at = to,
        Given::Nothing => unreachable!("a cursor that is due stands below its channel's end"),
        Given::Lost => {
            cursor.at = STOPPED;
            context.stats.continuity_lost.add(1);
        }
    }
}

impl Special {
    fn frame(&self, wire: Wire, from: u64, channel: &Channel, context: &Context<'_>) -> Given {
        if self.filter.had.is_none() && self.filter.own.is_none() {
            return channel.frame(wire, self.spelling.as_ref(), from, context);
        }
        channel.filtered_frame(wire, self.spelling.as_ref(), from, &self.filter, context)
    }
}
