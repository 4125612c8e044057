//! Gives a connection what its attachments have yet to be given: at the last moment before it is written, so that it is
//! all that has come by then, in the largest frames.

use smallvec::SmallVec;

use super::connection::{Connection, Cursor, STOPPED, Special};
use super::groups::Groups;
use super::lagging::Lagging;
use super::packets::{Takes, give_packets};
use super::places::Places;
use super::{Event, Tally, Window};
use crate::channel::{Ask, Asked, Channel, Context, Frame, Given};
use crate::kind::Kind;
use crate::limits::{FRAMES_MEMO, OUTBOX_FRAMES_BYTES, OUTBOX_OWN_BYTES};
use crate::outbox::Outbox;
use crate::stats::Stats;
use crate::wire::Wire;

/// What was given to one cursor, for others at its place.
#[derive(Debug)]
struct Remembered {
    channel: u64,
    asked: Asked,
    /// None if nothing up to `to` was for it.
    frame: Option<Frame>,
    to: u64,
}

/// The frames given last, so that ten thousand cursors at one place lock their channel once.
#[derive(Debug, Default)]
pub(super) struct Memo {
    given: SmallVec<[Remembered; FRAMES_MEMO]>,
    oldest: usize,
}

impl Memo {
    /// There are news, or nobody is left to share with.
    pub(super) fn forget(&mut self) {
        self.given.clear();
        self.oldest = 0;
    }

    fn frame(&mut self, ask: &Ask<'_>, channel: &Channel, context: &Context<'_>) -> Given {
        let same = |old: &&Remembered| {
            old.channel == channel.id
                && old.asked.is_for(ask, old.to)
                && old.frame.as_ref().is_none_or(|frame| frame.is_for(ask.since))
        };
        if let Some(found) = self.given.iter().find(same) {
            return found.frame.clone().map_or(Given::Skipped(found.to), Given::Frame);
        }
        let given = channel.frame(ask, context);
        let (frame, to) = match &given {
            Given::Frame(frame) => (Some(frame.clone()), frame.to),
            Given::Skipped(to) => (None, *to),
            Given::Nothing | Given::Conflated | Given::Lost => return given,
        };
        let new = Remembered { channel: channel.id, asked: ask.keep(), frame, to };
        if self.given.len() < FRAMES_MEMO {
            self.given.push(new);
        } else {
            self.given[self.oldest] = new;
            self.oldest = (self.oldest + 1) % FRAMES_MEMO;
        }
        given
    }
}

/// Where a connection's frames go.
struct Out<'a> {
    wire: Wire,
    outbox: &'a mut Outbox,
    places: Option<&'a mut Places>,
    takes: Takes<'a>,
}

impl Out<'_> {
    /// Whether this one is given no more before what waits was written.
    fn is_full(&self, cursor: &Cursor) -> bool {
        let most = if cursor.is_acknowledged() { OUTBOX_OWN_BYTES } else { OUTBOX_FRAMES_BYTES };
        self.outbox.len() >= most
    }

    /// How many messages this one is given at most before something is acknowledged.
    fn room(&self, cursor: &Cursor) -> usize {
        if cursor.is_acknowledged() { self.takes.window.map_or(0, Window::room) } else { usize::MAX }
    }

    /// A frame of an attachment, and before it what is this connection's own. Returns how many messages it was given.
    fn push(&mut self, cursor: &mut Cursor, mut frame: Frame, stats: &Stats) -> u32 {
        if let Some(packets) = frame.packets.take() {
            return give_packets(&self.takes, cursor, (frame, &packets), self.outbox, stats);
        }
        if let (Some(places), Some(serial), Wire::Stream(stream)) = (&mut self.places, frame.serial, self.wire) {
            self.outbox.push(places.before(cursor.number, serial, stream));
        }
        self.outbox.push(frame.bytes);
        cursor.at = frame.to;
        frame.messages
    }
}

/// Fills the outbox as far as there is room; notes whether that was not far enough.
pub(super) fn fill(
    connection: &mut Connection,
    groups: &Groups,
    context: &Context<'_>,
    memo: &mut Memo,
    (tally, lagging): (&mut Tally, &mut Lagging),
) {
    let Connection { handle, outbox, cursors, places, wire, behind, window, packet_max, .. } = connection;
    *behind = false;
    if places.as_ref().is_some_and(|places| !places.complete) {
        return; // more attachments are to come
    }
    let framed = matches!(wire, Wire::Mqtt(mqtt) if mqtt.framed);
    let takes = Takes { framed, packet_max: *packet_max, window: window.as_deref() };
    let mut out = Out { wire: *wire, outbox, places: places.as_deref_mut(), takes };
    let mut first_held = None;
    for at in 0..cursors.len() {
        let cursor = &mut cursors[at];
        if let Some(channel) = groups.channel(cursor) {
            let from = cursor.at;
            while groups.is_due(cursor) || cursor.syncs() {
                let most = out.room(cursor);
                if most == 0 {
                    first_held.get_or_insert(if cursor.at > from { at + 1 } else { at });
                    break;
                }
                if out.is_full(cursor) || (cursor.is_filtered() && context.is_filtered_out()) {
                    *behind = true;
                    lagging.follow(*handle, cursor, channel, context);
                    cursors.rotate_left(at); // it is this one's turn first the next time
                    return;
                }
                let stood = cursor.at;
                if !give_page(out.wire, out.outbox, cursor, channel, context) {
                    give(&mut out, (cursor, most), channel, context, memo, tally);
                }
                if cursor.at == STOPPED {
                    let has_passed = cursor.special.as_ref().is_some_and(|special| special.passed.is_some());
                    let (handle, number) = (*handle, cursor.number);
                    tally.events.push(match channel.live() {
                        Some(_) => Event::Left(handle, number),
                        None if has_passed => Event::Conflated(handle, number),
                        None => Event::Lost(handle, number, lagging.place(handle, number, stood)),
                    });
                }
            }
            lagging.follow(*handle, cursor, channel, context);
        }
        if cursor.is_replayed() && groups.channel_of(cursor).is_some_and(|channel| cursor.arrives(channel)) {
            tally.arrived.push(cursor.number);
        }
    }
    if let Some(at) = first_held {
        cursors.rotate_left(at); // what is acknowledged makes room for another first
    }
}

/// Gives the next page of the presence set, if that is being given and nothing has to come before; whether it did.
fn give_page(wire: Wire, outbox: &mut Outbox, cursor: &mut Cursor, channel: &Channel, context: &Context<'_>) -> bool {
    let Some(Special { spelling, sync: Some(sync), .. }) = cursor.special.as_deref_mut() else { return false };
    let kinds = cursor.kinds.shared();
    let ask = Ask { kinds, spelling: spelling.as_ref(), since: cursor.since, ..Ask::plain(wire, cursor.at) };
    let Some(page) = channel.sync_page(&ask, sync, context) else { return false };
    outbox.push(page.bytes);
    if page.is_last {
        cursor.set_sync(None);
        cursor.shed();
    }
    true
}

/// Moves a cursor that is due on by one frame, which if it is its own alone has so many messages at most.
fn give(
    out: &mut Out<'_>,
    (cursor, most): (&mut Cursor, usize),
    channel: &Channel,
    context: &Context<'_>,
    memo: &mut Memo,
    tally: &mut Tally,
) {
    cursor.shed();
    let ask = Ask { kinds: cursor.kinds.shared(), since: cursor.since, most, ..Ask::plain(out.wire, cursor.at) };
    let given = match &cursor.special {
        None => memo.frame(&ask, channel, context),
        Some(special) => special.frame(ask, channel, context, memo),
    };
    match given {
        Given::Frame(frame) => {
            let kind = frame.kind;
            tally.deliveries += u64::from(out.push(cursor, frame, context.stats));
            if let Some(special) = cursor.special.as_deref_mut().filter(|_| kind == Kind::Message) {
                special.in_step();
            }
        }
        Given::Skipped(to) => cursor.at = to,
        Given::Nothing => unreachable!("a cursor that is due stands below its channel's end"),
        Given::Conflated => {
            cursor.set_passed();
            cursor.at = STOPPED;
            cursor.set_sync(None);
            context.stats.conflated.add(1);
        }
        Given::Lost => {
            cursor.at = STOPPED;
            cursor.set_sync(None);
            let is_replay = channel.live().is_some();
            if is_replay { &context.stats.replays_left } else { &context.stats.continuity_lost }.add(1);
        }
    }
    if cursor.special.is_some() && cursor.at >= channel.end() {
        cursor.caught_up();
    }
}

impl Special {
    fn frame(&self, ask: Ask<'_>, channel: &Channel, context: &Context<'_>, memo: &mut Memo) -> Given {
        let Self { spelling, filter, payloads, withheld, conflates, subscription, .. } = self;
        let (spelling, filter, payloads, conflates) = (spelling.as_ref(), filter.as_ref(), *payloads, *conflates);
        let wire = subscription.as_ref().map_or(ask.wire, |subscription| subscription.wire(ask.wire));
        let ask = Ask { wire, spelling, filter, payloads, conflates, ..ask };
        if withheld.is_nothing() {
            return memo.frame(&ask, channel, context);
        }
        channel.own_frame(&ask, withheld, context)
    }
}
