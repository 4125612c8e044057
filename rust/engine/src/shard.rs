//! A shard: some of the node's connections, the cursors of their attachments, and what each is to be written next.
//!
//! No I/O: whoever drives a shard works in passes. Before each it applies commands and calls [`Shard::news`] for
//! channels with news, and [`Shard::flush_due`]; then it writes what [`Shard::next_ready`] names, as long as that names
//! something, and reports each with [`Shard::wrote`] or [`Shard::broken`]. Rules:
//!
//! - Everything a connection is sent passes its outbox: replies in the order of the commands, and frames when its turn
//!   has come, so that they hold all that has come by then.
//! - A connection whose socket is full ("blocked"), or whose outbox is, gets no frames; its cursors stay where they
//!   are, and the ring, which is shared, is all the queue it has. When it drains it is given everything from there.
//! - An attachment that the ring has passed is stopped and reported, never silently moved on.
//! - Nobody waits for the length of somebody else's burst (`schedule.rs`).
mod connection;
mod fill;
mod groups;
mod interface;
mod lagging;
mod linger;
mod packets;
mod places;
mod replay;
mod schedule;
mod window;

use std::sync::Arc;

use smallvec::SmallVec;

use connection::{Connection, Cursor, Life, Replayed, STOPPED, Special};
use fill::{Memo, fill};
use groups::{Groups, Member};
pub use interface::{Cause, Event, Handle, NewAttachment, NewConnection, Next, Overdue, slot};
use lagging::Lagging;
use linger::Lingering;
pub use packets::Subscription;
use schedule::{Lane, Schedule, Work};
pub use window::{Acknowledged, Followed, Window};

use crate::channel::{Channel, Outcome, Own, Payloads, Withheld};
use crate::hub::Hub;
use crate::kind::Kinds;
use crate::limits::{EXPRESS_BACKLOG_MAX, EXPRESS_MEMBERS_MAX, FINISH_MS, OUTBOX_REPLIES_BYTES, PEER_SILENCE_MS};
use crate::outbox::Outbox;
use crate::wire::{Stream, Wire};

/// See the module's text.
#[derive(Debug)]
pub struct Shard {
    hub: Arc<Hub>,
    bit: u64,
    /// By slot.
    connections: Vec<Connection>,
    count: usize,
    groups: Groups,
    schedule: Schedule,
    lingering: Lingering,
    lagging: Lagging,
    memo: Memo,
    tally: Tally,
    max_idle_ms: i64,
    heartbeats: [[Arc<[u8]>; 2]; 4],
}

/// What has happened and was not told yet.
#[derive(Debug, Default)]
struct Tally {
    deliveries: u64,
    events: Vec<Event>,
    /// Of the connection that was filled last: its attachments that have arrived at the end of a replay.
    arrived: SmallVec<[u32; 1]>,
}

impl Shard {
    /// An empty shard; `bit` is its inbox's. A connection is written to at least every `max_idle_ms`.
    pub fn new(hub: Arc<Hub>, bit: u64, max_idle_ms: i64) -> Self {
        let stream = |lines| Wire::Stream(Stream { lines, bare: false, several: false });
        let heartbeat = |wire: Wire| [wire.heartbeat(false).into(), wire.heartbeat(true).into()];
        Self {
            hub,
            bit,
            connections: Vec::new(),
            count: 0,
            groups: Groups::default(),
            schedule: Schedule::default(),
            lingering: Lingering::default(),
            lagging: Lagging::default(),
            memo: Memo::default(),
            tally: Tally::default(),
            max_idle_ms,
            heartbeats: [Wire::Json, Wire::Msgpack, stream(false), stream(true)].map(heartbeat),
        }
    }

    /// Connections here.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes a connection in.
    pub fn register(&mut self, new: NewConnection, now_ms: i64) {
        let at = slot(new.handle);
        if self.connections.len() <= at {
            self.connections.resize_with(at + 1, || Connection::vacant([false; 3]));
        }
        debug_assert!(self.connections[at].handle == 0, "a slot is given again only after its connection is gone");
        self.count += 1;
        self.connections[at] = Connection {
            handle: new.handle,
            wire: new.wire,
            id: new.connection_id,
            places: matches!(new.wire, Wire::Stream(stream) if stream.several).then(Box::default),
            heartbeat_frames: new.heartbeat_frames,
            life: Life::Open,
            since_ms: now_ms,
            ..Connection::vacant(self.connections[at].waits)
        };
    }

    /// Forgets a connection and all its attachments.
    pub fn unregister(&mut self, handle: Handle) {
        // One by one: the member that takes a leaving one's place may be this connection's own, on the same channel.
        while let Some(cursor) = self.connection(handle).and_then(|connection| connection.cursors.pop()) {
            self.remove_cursor(&cursor);
        }
        let Some(connection) = self.connection(handle) else { return };
        *connection = Connection::vacant(connection.waits);
        self.count -= 1;
    }

    /// Queues bytes.
    pub fn send(&mut self, handle: Handle, bytes: Arc<[u8]>) {
        let Some(connection) = self.connection(handle) else { return };
        if connection.life != Life::Open {
            return;
        }
        // A large frame is ours, not the peer's doing: only what it asked for counts against it.
        if connection.outbox.replies() + bytes.len() > OUTBOX_REPLIES_BYTES && connection.outbox.replies() > 0 {
            connection.life = Life::Dead;
            connection.outbox.clear();
            self.hub.stats.evicted_full.add(1);
            self.tally.events.push(Event::Evicted(handle, Cause::Full));
            return;
        }
        connection.outbox.push_reply(bytes);
        self.queue(slot(handle), Lane::Express);
    }

    /// Queues CLOSE, if its wire has one; nothing follows it. What to do at once, if nothing is left to write.
    pub fn finish(&mut self, handle: Handle, code: u16, reason: &str, now_ms: i64) -> Next {
        let Some(connection) = self.connection(handle).filter(|connection| connection.life == Life::Open) else {
            return Next::Rest;
        };
        connection.outbox.push(connection.wire.end(code, reason).into());
        connection.life = Life::Finishing;
        connection.since_ms = now_ms;
        if connection.outbox.is_empty() {
            return Next::ShutdownWrite;
        }
        self.queue(slot(handle), Lane::Express);
        Next::Rest
    }

    /// Sends `reply`, then gives the channel's messages from the plan's place on. Replaces the attachment of that number.
    pub fn attach(&mut self, handle: Handle, mut new: NewAttachment, reply: Arc<[u8]>) {
        if self.connection(handle).is_none_or(|connection| connection.life != Life::Open) {
            return;
        }
        let subscribed_again = self.is_subscribed_again(handle, &new);
        let before = self.drop_attachment(handle, new.number);
        if let Some(before) = before.as_ref().filter(|_| subscribed_again) {
            before.hand_on(&mut new.plan.located);
        }
        let passed = before.and_then(|cursor| cursor.special?.passed);
        if let (Outcome::Fresh | Outcome::Partial, Some(at)) = (new.plan.located.outcome, passed) {
            new.plan.located.cursor = at;
            new.plan.located.conflates = new.plan.located.conflates.map(|_| 0);
        }
        if let Some(places) = self.connection(handle).and_then(|connection| connection.places.as_mut()) {
            places.begin(new.number, &new.plan);
            places.complete |= !reply.is_empty();
        }
        if let Some(window) = self.connection(handle).and_then(|connection| connection.window.as_ref()) {
            let given = window.restart(new.number);
            if let Some(subscription) = new.subscription.as_mut().filter(|subscription| subscription.acknowledged) {
                window::add(&mut subscription.given_before, given); // more, perhaps, than whoever asks has heard of
            }
        }
        self.send(handle, reply);
        self.place(handle, new);
    }

    /// Has every event of a stream of several channels say where an attachment stands that is yet to begin.
    pub fn hold(&mut self, handle: Handle, number: u32, place: Arc<str>) {
        if let Some(places) = self.connection(handle).and_then(|connection| connection.places.as_mut()) {
            places.hold(number, place);
        }
    }

    /// Changes what an attachment is given, and leaves it where it is, with its filter and its deltas. One that was given
    /// nothing begins as `new` says; one that is not there is let be.
    pub fn regrant(&mut self, handle: Handle, mut new: NewAttachment) {
        let replay = self.replay_of(handle, new.number);
        let Some(cursor) = self.drop_attachment(handle, new.number) else { return };
        new.plan.has_presence |= cursor.syncs(); // what was begun is brought to its end
        if let Some(replay) = replay.filter(|_| is_given(new.kinds)) {
            new.plan.channel = replay;
        }
        let special = cursor.special.map(|special| *special).unwrap_or_default();
        new.plan.has_presence |= special.replayed.is_some_and(|replayed| replayed.syncs);
        if cursor.at != STOPPED {
            new.plan.located.cursor = cursor.at;
            new.plan.located.had = special.withheld.had;
            new.plan.located.conflates = special.conflates;
        }
        new.delta = special.payloads != Payloads::Whole;
        new.filter = special.filter;
        new.subscription = special.subscription;
        self.place(handle, new);
    }

    fn place(&mut self, handle: Handle, new: NewAttachment) {
        let NewAttachment { number, plan, spelling, kinds, echo, delta, filter, subscription } = new;
        plan.channel.attached(kinds);
        let group = self.groups.find_or_make(&plan.channel, self.bit);
        let index = self.groups.join(group, Member { slot: slot(handle) as u32, number });
        // Still there, if cut off: only `unregister` takes attachments away.
        let hub = Arc::clone(&self.hub);
        let Some(connection) = self.connection(handle) else { return };
        let presence = is_given_own_presence(kinds);
        let own = (!echo || presence).then(|| Own { connection_id: Arc::clone(&connection.id), echo, presence });
        let since = if kinds.contains(Kinds::WHOLE_APPENDS) { u64::MAX } else { plan.located.since };
        let syncs = plan.has_presence && kinds.contains(Kinds::PRESENCE) && connection.wire.has_sync();
        let replayed = plan.channel.live().map(|_| Replayed { said: 0, syncs });
        let sync = (syncs && replayed.is_none()).then(|| hub.sync());
        let payloads = if delta && connection.wire.has_deltas() { Payloads::WholeFirst } else { Payloads::Whole };
        let withheld = Withheld { had: plan.located.had, own };
        let conflates = plan.located.conflates;
        let special =
            Special { spelling, filter, payloads, withheld, sync, conflates, passed: None, replayed, subscription };
        let special = (!special.is_plain()).then(|| Box::new(special));
        // One that is given nothing stands here all the same, so that it is counted and removed alike.
        let at = if is_given(kinds) { plan.located.cursor } else { STOPPED };
        let lane = match plan.channel.live() {
            None if plan.located.backlog <= EXPRESS_BACKLOG_MAX => Lane::Express,
            _ => Lane::Backlogs,
        };
        let cursor = Cursor { at, special, number, group, index, kinds, since };
        let resumed = (plan.located.outcome == Outcome::Resumed).then_some(plan.serial.as_str());
        let begun = Lagging::begun(&cursor, &plan.channel, resumed, &hub);
        if let Some(window) = connection.window.as_ref().filter(|_| cursor.is_followed()) {
            let stand = cursor.stand();
            let start = plan.channel.position_of(&stand, hub.key(), hub.partitions()).unwrap_or(plan.serial);
            window.follow(number, (plan.channel, stand, start), cursor.given_before());
        }
        connection.cursors.push(cursor);
        self.lagging.begin((handle, number), begun);
        self.queue(slot(handle), lane);
    }

    /// Ends an attachment, then sends `reply`.
    pub fn detach(&mut self, handle: Handle, number: u32, reply: Option<Arc<[u8]>>) {
        self.drop_attachment(handle, number);
        if let Some(window) = self.connection(handle).and_then(|connection| connection.window.as_ref()) {
            window.forget(number);
        }
        if let Some(reply) = reply {
            self.send(handle, reply);
        }
    }

    /// Gives an attachment the presence set once more, if it is given presence at all.
    pub fn sync(&mut self, handle: Handle, number: u32) {
        let sync = self.hub.sync();
        let Some(connection) = self.connection(handle).filter(|connection| connection.life == Life::Open) else {
            return;
        };
        let wanted = |cursor: &&mut Cursor| cursor.number == number && cursor.at != STOPPED;
        let Some(cursor) = connection.cursors.iter_mut().find(wanted) else { return };
        if !cursor.kinds.contains(Kinds::PRESENCE) {
            return;
        }
        if let Some(replayed) = cursor.special.as_deref_mut().and_then(|special| special.replayed.as_mut()) {
            replayed.syncs = true;
        } else {
            cursor.set_sync(Some(sync));
            self.queue(slot(handle), Lane::Express);
        }
    }

    fn drop_attachment(&mut self, handle: Handle, number: u32) -> Option<Cursor> {
        let connection = self.connection(handle)?;
        let at = connection.cursors.iter().position(|cursor| cursor.number == number)?;
        let cursor = connection.cursors.swap_remove(at);
        self.remove_cursor(&cursor);
        Some(cursor)
    }

    fn remove_cursor(&mut self, cursor: &Cursor) {
        let Some((moved, passed)) = self.groups.leave(cursor, self.bit) else { return };
        let at = moved.slot as usize;
        let same = |other: &&mut Cursor| other.group == cursor.group && other.number == moved.number;
        if let Some(other) = self.connections[at].cursors.iter_mut().find(same) {
            other.index = cursor.index;
        }
        if passed {
            self.queue(at, Lane::Backlogs);
        }
    }

    /// A channel has news: they are given on now, or held as long as its rule says.
    pub fn news(&mut self, channel: Arc<Channel>, now_ms: i64) {
        match channel.linger_ms() {
            0 => self.flush(&channel),
            linger_ms if channel.hold(self.bit) => self.lingering.hold(channel, now_ms + i64::from(linger_ms)),
            _ => {}
        }
    }

    /// Gives on what was held long enough.
    pub fn flush_due(&mut self, now_ms: i64) {
        while let Some(channel) = self.lingering.pop(now_ms) {
            channel.let_go(self.bit);
            self.flush(&channel);
        }
    }

    /// When [`Self::flush_due`] is to be called next.
    pub fn next_due(&self) -> Option<i64> {
        self.lingering.next_due()
    }

    /// Everyone here who keeps up is given a channel's news.
    pub fn flush(&mut self, channel: &Channel) {
        channel.noticed(self.bit);
        let Some(at) = self.groups.find(channel) else { return };
        self.memo.forget();
        self.groups.news(at);
        let group = self.groups.get(at);
        if !group.waits {
            group.waits = true;
            let lane = match channel.live() {
                Some(_) => Lane::Backlogs,
                None if group.len() <= EXPRESS_MEMBERS_MAX => Lane::Express,
                None => Lane::Sweeps,
            };
            self.schedule.push(lane, Work::Group(at));
        }
    }

    fn queue(&mut self, at: usize, lane: Lane) {
        let connection = &mut self.connections[at];
        if !connection.waits[lane as usize] && !connection.blocked {
            connection.waits[lane as usize] = true;
            self.schedule.push(lane, Work::Connection(at as u32));
        }
    }

    /// A pass begins; commands and news have been looked at.
    pub fn begin_pass(&mut self) {
        self.schedule.begin_pass();
    }

    /// A connection with something to write, if there is one and the pass is not over. It is not named again before it
    /// was answered for: several may be being written at once.
    pub fn next_ready(&mut self) -> Option<Handle> {
        while let Some((lane, work)) = self.schedule.front() {
            let at = match work {
                Work::Connection(at) => {
                    self.schedule.done(lane);
                    self.connections[at as usize].waits[lane as usize] = false;
                    at
                }
                Work::Group(group) => {
                    let Some(member) = self.groups.visit(group) else {
                        self.schedule.done(lane);
                        continue;
                    };
                    self.schedule.looked(lane);
                    member.slot
                }
            };
            let offered = self.offer(at as usize, lane);
            self.schedule.charge(lane, offered.map(|(_, bytes)| bytes));
            if let Some((handle, _)) = offered {
                return Some(handle);
            }
        }
        if self.schedule.is_empty() {
            self.memo.forget();
        }
        self.hub.stats.deliveries.add(std::mem::take(&mut self.tally.deliveries));
        None
    }

    /// Fills the outbox of a connection; its name and how much it holds, unless there is nothing to write.
    fn offer(&mut self, at: usize, lane: Lane) -> Option<(Handle, usize)> {
        let Self { connections, groups, hub, memo, tally, lagging, .. } = self;
        let connection = &mut connections[at];
        if connection.life == Life::Dead || connection.blocked || connection.offered {
            return None;
        }
        let context = hub.context();
        // Replies are not to wait for a backlog, nor the others' for the time that it takes.
        if lane == Lane::Express && connection.waits[Lane::Backlogs as usize] {
            connection.behind = true;
        } else if connection.life == Life::Open {
            fill(connection, groups, &context, memo, (tally, lagging));
        }
        let bytes = connection.outbox.len();
        connection.offered = bytes > 0;
        let (handle, filtered_ns) = (connection.handle, context.filtered_ns.get());
        for number in std::mem::take(&mut self.tally.arrived) {
            self.arrive(handle, number);
            self.connections[at].behind = true; // what is live comes after what is about to be written
        }
        if filtered_ns > 0 {
            self.schedule.spend(lane, filtered_ns);
            if bytes == 0 && self.connections[at].behind {
                self.queue(at, Lane::Backlogs); // nothing of what was looked at is for it, and there is more
            }
        }
        (bytes > 0).then_some((handle, bytes))
    }

    /// What a connection has to write.
    pub fn outbox(&self, handle: Handle) -> Option<&Outbox> {
        let connection = self.connections.get(slot(handle))?;
        (connection.handle == handle).then_some(&connection.outbox)
    }

    /// Whether connections wait for another pass.
    pub fn has_more(&self) -> bool {
        !self.schedule.is_empty()
    }

    /// `n` bytes of what [`Self::next_ready`] offered were taken; fewer than offered means that the socket is full.
    pub fn wrote(&mut self, handle: Handle, n: usize, offered: usize, now_ms: i64) -> Next {
        let Some(connection) = self.connection(handle) else { return Next::Rest };
        connection.offered = false;
        connection.outbox.advance(n);
        if connection.life == Life::Open {
            connection.since_ms = now_ms; // also of one that took nothing: until now there was nothing for it
        }
        if n < offered {
            connection.blocked = true;
            return Next::Wait;
        }
        if !connection.outbox.is_empty() || (connection.behind && connection.life == Life::Open) {
            self.queue(slot(handle), Lane::Backlogs); // one with much to read does not hold the others up
            return Next::Rest;
        }
        match connection.life {
            Life::Finishing => Next::ShutdownWrite,
            Life::Open | Life::Dead => Next::Rest,
        }
    }

    /// The socket has room again.
    pub fn writable(&mut self, handle: Handle) {
        if let Some(connection) = self.connection(handle).filter(|connection| connection.blocked) {
            connection.blocked = false;
            self.queue(slot(handle), Lane::Backlogs);
        }
    }

    /// The socket is broken: nothing more is written to it.
    pub fn broken(&mut self, handle: Handle) {
        if let Some(connection) = self.connection(handle) {
            connection.life = Life::Dead;
            connection.offered = false;
            connection.outbox.clear();
        }
    }

    /// Time passes: heartbeats are queued, silent and unfinished peers named. `heard` is when a peer was last heard.
    pub fn tick(&mut self, now_ms: i64, heard: impl Fn(Handle) -> Option<i64>) -> Overdue {
        let mut overdue = Overdue::default();
        let interval = self.max_idle_ms * 2 / 3;
        for at in 0..self.connections.len() {
            let connection = &mut self.connections[at];
            match connection.life {
                Life::Dead => continue,
                Life::Finishing => {
                    if now_ms - connection.since_ms > FINISH_MS {
                        connection.life = Life::Dead;
                        overdue.shutdown.push(connection.handle);
                    }
                    continue;
                }
                Life::Open => {}
            }
            // Who is not meant to say anything, or to say when somebody else knows, is dead when it takes nothing.
            let last = match connection.wire {
                Wire::Stream(_) | Wire::Mqtt(_) => connection.blocked.then_some(connection.since_ms),
                _ => heard(connection.handle),
            };
            if last.is_some_and(|last| now_ms - last > PEER_SILENCE_MS) {
                connection.life = Life::Dead;
                connection.outbox.clear();
                self.hub.stats.evicted_silent.add(1);
                self.tally.events.push(Event::Evicted(connection.handle, Cause::Silent));
                overdue.shutdown.push(connection.handle);
            } else if let Some(family) = connection.wire.family()
                && now_ms - connection.since_ms >= interval
                && connection.outbox.is_empty()
            {
                let kind = &self.heartbeats[family][usize::from(connection.heartbeat_frames)];
                connection.outbox.push(Arc::clone(kind));
                self.hub.stats.heartbeats.add(1);
                self.queue(at, Lane::Backlogs);
            }
        }
        self.note_lagging(now_ms);
        overdue
    }

    /// What has happened since it was last asked.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.tally.events)
    }

    fn connection(&mut self, handle: Handle) -> Option<&mut Connection> {
        self.connections.get_mut(slot(handle)).filter(|connection| connection.handle == handle)
    }
}

/// Whether an attachment of these kinds is given anything.
fn is_given(kinds: Kinds) -> bool {
    kinds.shared() != Kinds::NONE || is_given_own_presence(kinds)
}

/// Whether it is given its own presence, though not that of others.
fn is_given_own_presence(kinds: Kinds) -> bool {
    kinds.contains(Kinds::OWN_PRESENCE) && !kinds.contains(Kinds::PRESENCE)
}

#[cfg(test)]
mod tests;
