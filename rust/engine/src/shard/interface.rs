//! What a shard is told, and what it answers.

use std::sync::Arc;

use crate::filter::Filter;
use crate::hub::Plan;
use crate::kind::Kinds;
use crate::wire::Wire;

use super::Subscription;

/// A connection, as the outside names it: slot and generation, so that a late word about a gone one hits nobody else.
pub type Handle = u64;

/// The slot of a handle: where its connection lies.
pub fn slot(handle: Handle) -> usize {
    (handle & 0xFFFF_FFFF) as usize
}

/// What the outside hears of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The ring passed this attachment; it is stopped until it is attached again. With the position where it stood, if
    /// that was noted.
    Lost(Handle, u32, Option<Arc<str>>),
    /// The ring passed this attachment, of whose channel the newest of each key is kept; it is stopped, and goes on from
    /// where it was with what is newest, once it is attached again.
    Conflated(Handle, u32),
    /// A replay has passed this attachment, or has ended: it is stopped.
    Left(Handle, u32),
    /// Of the replay with this channel: attachments have arrived where they were asked to, or have gone on live.
    Replayed(u64),
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
    /// What it is to be given.
    pub kinds: Kinds,
    /// Whether its own connection's messages are among them.
    pub echo: bool,
    /// Whether messages are given as deltas where there are some.
    pub delta: bool,
    /// Which messages are wanted, if not all.
    pub filter: Option<Arc<Filter>>,
    /// How they are given with MQTT, if not with QoS 0 and nothing else to be said.
    pub subscription: Option<Box<Subscription>>,
}

impl NewAttachment {
    /// One that is given everything, as it is.
    pub const fn plain(number: u32, plan: Plan) -> Self {
        Self {
            number,
            plan,
            spelling: None,
            kinds: Kinds::ALL,
            echo: true,
            delta: false,
            filter: None,
            subscription: None,
        }
    }
}
