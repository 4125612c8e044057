//! A shard: some of the node's connections, the cursors of their attachments, and what each is to be written next.
//!
//! No I/O: whoever drives a shard applies commands, calls [`Shard::flush`] for channels with news, writes what
//! [`Shard::next_ready`] names and reports it with [`Shard::wrote`]. Rules:
//!
//! - Everything a connection is sent passes its outbox, in the order of the commands: replies and frames alike.
//! - A connection whose socket is full ("blocked"), or whose outbox is, gets no frames; its cursors stay where they
//!   are, and the ring, which is shared, is all the queue it has. When it drains it is given everything from there.
//! - An attachment that the ring has passed is stopped and reported, never silently moved on.
mod cursor;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use cursor::{Connection, Cursor, Group, Life, Memo, Place, Special, fill};
use smallvec::SmallVec;

use crate::channel::{Channel, Filter};
use crate::hub::{Hub, Plan};
use crate::limits::{FINISH_MS, OUTBOX_REPLIES_BYTES, PEER_SILENCE_MS};
use crate::outbox::Outbox;
use crate::wire::{Wire, websocket};

/// A connection, as the outside names it: slot and generation, so that a late word about a gone one hits nobody else.
pub type Handle = u64;

/// What the outside hears of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The ring passed this attachment; it is stopped until it is attached again.
    Lost(Handle, u32),
    /// This connection was cut off.
    Evicted(Handle, Cause),
}

/// Why a connection was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It asked much and read nothing.
    Full = 1,
    /// It was silent too long.
    Silent = 2,
}

/// What to do with a connection after a write.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing waits.
    Rest,
    /// Its socket is full: say [`Shard::writable`] when it is not.
    Wait,
    /// Everything was written and no more will be: shut the sending side down.
    ShutdownWrite,
}

/// What to do with connections after a tick.
#[derive(Debug, Default)]
pub struct Overdue {
    /// Shut these down altogether.
    pub shutdown: Vec<Handle>,
}

/// A connection to be.
#[derive(Debug)]
pub struct NewConnection {
    /// Its name.
    pub handle: Handle,
    /// What it speaks.
    pub wire: Wire,
    /// The protocol's connectionId.
    pub connection_id: Arc<str>,
    /// Idle time needs protocol messages, not just pings.
    pub heartbeat_frames: bool,
}

/// An attachment to be.
#[derive(Debug)]
pub struct NewAttachment {
    /// The session's number for it.
    pub number: u32,
    /// Where it starts.
    pub plan: Plan,
    /// How the client spells the channel, if not by its name.
    pub spelling: Option<Arc<str>>,
    /// Whether it is to be given messages.
    pub subscribe: bool,
    /// Whether its own connection's messages are among them.
    pub echo: bool,
}
/// See the module's text.
#[derive(Debug)]
pub struct Shard {
    hub: Arc<Hub>,
    bit: u64,
    connections: Vec<Option<Connection>>,
    count: usize,
    groups: Vec<Option<Group>>,
    free_groups: Vec<u32>,
    by_channel: HashMap<u64, u32>,
    ready: VecDeque<u32>,
    events: Vec<Event>,
    max_idle_ms: i64,
    heartbeats: [[Arc<[u8]>; 2]; 2],
}

/// The slot of a handle: where its connection lies.
pub fn slot(handle: Handle) -> usize {
    (handle & 0xFFFF_FFFF) as usize
}

impl Shard {
    /// An empty shard; `bit` is its inbox's. A connection is written to at least every `max_idle_ms`.
    pub fn new(hub: Arc<Hub>, bit: u64, max_idle_ms: i64) -> Self {
        let heartbeat = |wire: Wire| [wire.heartbeat(false).into(), wire.heartbeat(true).into()];
        Self {
            hub,
            bit,
            connections: Vec::new(),
            count: 0,
            groups: Vec::new(),
            free_groups: Vec::new(),
            by_channel: HashMap::new(),
            ready: VecDeque::new(),
            events: Vec::new(),
            max_idle_ms,
            heartbeats: [heartbeat(Wire::Json), heartbeat(Wire::Msgpack)],
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
            self.connections.resize_with(at + 1, || None);
        }
        debug_assert!(self.connections[at].is_none(), "a slot is given again only after its connection is gone");
        self.count += 1;
        self.connections[at] = Some(Connection {
            handle: new.handle,
            wire: new.wire,
            id: new.connection_id,
            heartbeat_frames: new.heartbeat_frames,
            outbox: Outbox::default(),
            attachments: SmallVec::new(),
            blocked: false,
            behind: false,
            ready: false,
            life: Life::Open,
            since_ms: now_ms,
        });
    }

    /// Forgets a connection and all its attachments.
    pub fn unregister(&mut self, handle: Handle) {
        let Some(connection) = self.connection(handle) else { return };
        for place in std::mem::take(&mut connection.attachments) {
            self.remove_cursor(place);
        }
        self.connections[slot(handle)] = None;
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
            self.events.push(Event::Evicted(handle, Cause::Full));
            return;
        }
        connection.outbox.push_reply(bytes);
        self.make_ready(slot(handle));
    }

    /// Queues CLOSE; nothing follows it.
    pub fn finish(&mut self, handle: Handle, code: u16, reason: &str, now_ms: i64) {
        let Some(connection) = self.connection(handle).filter(|connection| connection.life == Life::Open) else {
            return;
        };
        connection.outbox.push(websocket::close(code, reason).into());
        connection.life = Life::Finishing;
        connection.since_ms = now_ms;
        self.make_ready(slot(handle));
    }

    /// Sends `reply`, then gives the channel's messages from the plan's place on. Replaces the attachment of that number.
    pub fn attach(&mut self, handle: Handle, new: NewAttachment, reply: Arc<[u8]>) {
        if self.connection(handle).is_none_or(|connection| connection.life != Life::Open) {
            return;
        }
        self.drop_attachment(handle, new.number);
        self.send(handle, reply);
        let NewAttachment { number, plan, spelling, subscribe, echo } = new;
        plan.channel.attached(1);
        let own = (!echo).then(|| self.connection(handle).map(|c| Arc::clone(&c.id))).flatten();
        let special = Special { spelling, filter: Filter { had: plan.located.had, own } };
        let cursor = Cursor {
            at: plan.located.cursor,
            slot: slot(handle) as u32,
            number,
            stopped: false,
            special: (!special.is_plain()).then(|| Box::new(special)),
        };
        let group = self.group(&plan.channel);
        let members = self.groups[group as usize].as_mut().expect("found just above");
        let index = members.cursors.len() as u32;
        // One that is not given messages stands here all the same, so that it is counted and removed alike.
        members.cursors.push(Cursor { stopped: !subscribe, ..cursor });
        if let Some(connection) = self.connection(handle) {
            connection.attachments.push(Place { number, group, index });
            connection.behind = true;
            self.make_ready(slot(handle));
        }
    }

    /// Ends an attachment, then sends `reply`.
    pub fn detach(&mut self, handle: Handle, number: u32, reply: Option<Arc<[u8]>>) {
        self.drop_attachment(handle, number);
        if let Some(reply) = reply {
            self.send(handle, reply);
        }
    }

    fn drop_attachment(&mut self, handle: Handle, number: u32) {
        let Some(connection) = self.connection(handle) else { return };
        let Some(at) = connection.attachments.iter().position(|place| place.number == number) else { return };
        let place = connection.attachments.swap_remove(at);
        self.remove_cursor(place);
    }

    fn remove_cursor(&mut self, place: Place) {
        let Some(group) = self.groups[place.group as usize].as_mut() else { return };
        group.cursors.swap_remove(place.index as usize);
        group.channel.attached(-1);
        if let Some(moved) = group.cursors.get(place.index as usize) {
            let (slot, number) = (moved.slot as usize, moved.number);
            let places = self.connections[slot].iter_mut().flat_map(|connection| connection.attachments.iter_mut());
            places.filter(|other| other.group == place.group && other.number == number).for_each(|other| {
                other.index = place.index;
            });
        } else if group.cursors.is_empty() {
            group.channel.unwatch(self.bit);
            self.by_channel.remove(&group.channel.id);
            self.groups[place.group as usize] = None;
            self.free_groups.push(place.group);
        }
    }

    fn group(&mut self, channel: &Arc<Channel>) -> u32 {
        if let Some(&group) = self.by_channel.get(&channel.id) {
            return group;
        }
        channel.watch(self.bit);
        let group = Group { channel: Arc::clone(channel), cursors: Vec::new(), first: 0 };
        let at = self.free_groups.pop().unwrap_or(self.groups.len() as u32);
        if at as usize == self.groups.len() {
            self.groups.push(None);
        }
        self.groups[at as usize] = Some(group);
        self.by_channel.insert(channel.id, at);
        at
    }

    /// A channel has news: everyone here who keeps up is given them.
    pub fn flush(&mut self, channel: &Channel) {
        let Some(&at) = self.by_channel.get(&channel.id) else { return };
        let Self { groups, connections, hub, ready, events, .. } = self;
        let Some(group) = groups[at as usize].as_mut() else { return };
        let context = hub.context();
        let mut memo = Memo::default();
        let first = group.first % group.cursors.len().max(1);
        let (late, early) = group.cursors.split_at_mut(first);
        for cursor in early.iter_mut().chain(late) {
            let at = cursor.slot as usize;
            let Some(connection) = connections[at].as_mut() else { continue };
            if connection.blocked {
                connection.behind = true;
                continue;
            }
            fill(connection, cursor, &group.channel, &context, &mut memo, events);
            if !connection.outbox.is_empty() && !connection.ready {
                connection.ready = true;
                ready.push_back(at as u32);
            }
        }
        group.first = group.first.wrapping_add(1);
    }

    fn make_ready(&mut self, at: usize) {
        let Some(connection) = self.connections[at].as_mut() else { return };
        if !connection.ready && !connection.blocked {
            connection.ready = true;
            self.ready.push_back(at as u32);
        }
    }

    /// A connection with something to write, if there is one.
    pub fn next_ready(&mut self) -> Option<Handle> {
        while let Some(at) = self.ready.pop_front() {
            let at = at as usize;
            let Some(connection) = self.connections[at].as_mut() else { continue };
            connection.ready = false;
            if connection.life == Life::Dead || connection.blocked {
                continue;
            }
            if connection.outbox.is_empty() && connection.behind {
                self.catch_up(at);
            }
            if let Some(connection) = self.connections[at].as_ref().filter(|connection| !connection.outbox.is_empty()) {
                return Some(connection.handle);
            }
        }
        None
    }

    /// What a connection has to write.
    pub fn outbox(&self, handle: Handle) -> Option<&Outbox> {
        let connection = self.connections.get(slot(handle))?.as_ref()?;
        (connection.handle == handle).then_some(&connection.outbox)
    }

    /// How many connections wait to be written.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// `n` bytes of what [`Self::next_ready`] offered were taken; fewer than offered means that the socket is full.
    pub fn wrote(&mut self, handle: Handle, n: usize, offered: usize, now_ms: i64) -> Next {
        let Some(connection) = self.connection(handle) else { return Next::Rest };
        connection.outbox.advance(n);
        if n > 0 && connection.life == Life::Open {
            connection.since_ms = now_ms;
        }
        if n < offered {
            connection.blocked = true;
            return Next::Wait;
        }
        if !connection.outbox.is_empty() || (connection.behind && connection.life == Life::Open) {
            self.make_ready(slot(handle)); // behind the others: one with much to read does not hold them up
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
            self.make_ready(slot(handle));
        }
    }

    /// The socket is broken: nothing more is written to it.
    pub fn broken(&mut self, handle: Handle) {
        if let Some(connection) = self.connection(handle) {
            connection.life = Life::Dead;
            connection.outbox.clear();
        }
    }

    /// Gives a connection what its attachments have yet to be given, as far as there is room.
    fn catch_up(&mut self, at: usize) {
        let Self { groups, connections, hub, events, .. } = self;
        let Some(connection) = connections[at].as_mut() else { return };
        connection.behind = false;
        if connection.attachments.len() > 1 {
            connection.attachments.rotate_left(1); // the room goes to another one first each time
        }
        let context = hub.context();
        let places: SmallVec<[Place; 8]> = connection.attachments.iter().copied().collect();
        for place in places {
            let Some(group) = groups[place.group as usize].as_mut() else { continue };
            let cursor = &mut group.cursors[place.index as usize];
            fill(connection, cursor, &group.channel, &context, &mut Memo::default(), events);
        }
    }

    /// Time passes: heartbeats are queued, silent and unfinished peers named. `heard` is when a peer was last heard.
    pub fn tick(&mut self, now_ms: i64, heard: impl Fn(Handle) -> Option<i64>) -> Overdue {
        let mut overdue = Overdue::default();
        let interval = self.max_idle_ms * 2 / 3;
        for at in 0..self.connections.len() {
            let Some(connection) = self.connections[at].as_mut() else { continue };
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
            if heard(connection.handle).is_some_and(|heard| now_ms - heard > PEER_SILENCE_MS) {
                connection.life = Life::Dead;
                connection.outbox.clear();
                self.hub.stats.evicted_silent.add(1);
                self.events.push(Event::Evicted(connection.handle, Cause::Silent));
                overdue.shutdown.push(connection.handle);
            } else if now_ms - connection.since_ms >= interval && connection.outbox.is_empty() {
                let kind = &self.heartbeats[connection.wire as usize][usize::from(connection.heartbeat_frames)];
                connection.outbox.push(Arc::clone(kind));
                self.hub.stats.heartbeats.add(1);
                self.make_ready(at);
            }
        }
        overdue
    }

    /// What has happened since it was last asked.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn connection(&mut self, handle: Handle) -> Option<&mut Connection> {
        self.connections.get_mut(slot(handle))?.as_mut().filter(|connection| connection.handle == handle)
    }
}

#[cfg(test)]
mod tests;
