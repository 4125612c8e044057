//! Who is present on a channel: the set that the records of the presence topic make, and what of them is news.
//!
//! A member is a connection and a client on it. Rules (Ably protocol, "Presence"):
//! - What is not newer than what the set has of the member changes nothing ([`newness`]): clients judge alike.
//! - The same event again is no news, though another node may answer for the member from then on.
//! - A connection that is continued, here or elsewhere, is of a newer *generation*. What one of an older generation than
//!   the member's says changes nothing, whenever it comes: a node that was away does not know of the newer one.
//! - Whoever was not there enters, whatever the record calls it; whoever was there is updated.
//! - A leave without data shows the member's last data; one of somebody absent is no news.
//!
//! Changes cost the same however large the set is, but for the depth of a tree.

pub mod event;
pub mod gone;
mod newness;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::kind::Kind;
use crate::limits::MEMBER_OVERHEAD;
use crate::message::{Data, Field, Form, Message};
use crate::partition::Partition;
use event::{Action, Event};
use newness::Stamp;

/// Action numbers of the protocol.
const PRESENT: u8 = 1;
const ENTER: u8 = 2;
const LEAVE: u8 = 3;
const UPDATE: u8 = 4;

/// What a member is found by: its connection's id, a zero byte, its client's id. In their order pages are given.
pub type MemberKey = Arc<str>;

/// The key of a member.
pub fn key(connection_id: &str, client_id: &str) -> String {
    [connection_id, "\0", client_id].concat()
}

/// A key's connection id and client id.
pub fn parts(key: &str) -> (&str, &str) {
    key.split_once('\0').unwrap_or((key, ""))
}

/// Somebody present.
#[derive(Debug)]
pub struct Member {
    /// What it last showed, as an item of SYNC.
    pub message: Message,
    /// The node that answers for it.
    pub node: Arc<str>,
    /// Of its connection, when that node said so.
    pub generation: u64,
    /// Bytes of its client id, data and extras.
    size: usize,
}

/// The set of one channel.
#[derive(Debug, Default)]
pub struct Members {
    by_key: BTreeMap<MemberKey, Member>,
    size: usize,
}

/// What an event has come to.
#[derive(Debug)]
pub enum Change {
    /// The set is as before.
    Nothing,
    /// It is, and the event comes too late to make it another: its connection has been continued since.
    Late,
    /// There is no room for one more.
    Refused,
    /// It is not.
    Made(Box<Made>),
}

/// A change of the set.
#[derive(Debug)]
pub struct Made {
    /// Of the member.
    pub key: MemberKey,
    /// For subscribers; none if it is no news to them.
    pub entry: Option<Message>,
    /// The node that answered for the member.
    pub before: Option<Arc<str>>,
    /// The node that answers for it now.
    pub after: Option<Arc<str>>,
    /// Memory taken.
    pub taken: usize,
    /// Memory given back.
    pub freed: usize,
}

impl Member {
    fn memory(&self, key: &str) -> usize {
        self.message.cost() + key.len() + MEMBER_OVERHEAD
    }

    fn stamp(&self, connection_id: &str) -> Stamp {
        Stamp::of(self.message.field(Field::Id), connection_id, self.message.timestamp)
    }
}

impl Members {
    /// Members.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Bytes of the members' client ids, data and extras.
    pub fn size(&self) -> usize {
        self.size
    }

    /// One of them.
    pub fn get(&self, key: &str) -> Option<&Member> {
        self.by_key.get(key)
    }

    /// Those behind a key, in order; all without one.
    pub fn behind(&self, key: Option<&str>) -> impl Iterator<Item = (&MemberKey, &Member)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_key.range::<str, _>((from, Bound::Unbounded))
    }

    /// Takes an event in. New members are refused that take more memory than `room`.
    pub fn apply(&mut self, event: &Event<'_>, partition: &Arc<Partition>, offset: i64, room: usize) -> Change {
        let key = key(event.connection_id, event.client_id);
        let known = self.by_key.get_key_value(&*key).map(|(key, member)| (Arc::clone(key), member));
        let Some((key, old)) = known else {
            if event.action == Action::Leave {
                return Change::Nothing;
            }
            return self.insert(key.into(), event, partition, offset, (ENTER, room));
        };
        if event.generation < old.generation {
            return Change::Late;
        }
        let before = Some(Arc::clone(&old.node));
        if event.id.is_some() && event.id == old.message.field(Field::Id) && event.action != Action::Leave {
            return self.moved(&key, event);
        }
        if !event.stamp().is_newer_than(&old.stamp(event.connection_id)) {
            return match event.action {
                Action::Enter if event.generation > old.generation => self.moved(&key, event),
                _ => Change::Nothing,
            };
        }
        if event.action != Action::Leave {
            return self.insert(key, event, partition, offset, (UPDATE, usize::MAX));
        }
        let entry = Some(leave(event, &old.message, partition, offset));
        let freed = old.memory(&key);
        self.size -= old.size;
        self.by_key.remove(&key);
        Change::Made(Box::new(Made { key, entry, before, after: None, taken: 0, freed }))
    }

    fn insert(
        &mut self,
        key: MemberKey,
        event: &Event<'_>,
        partition: &Arc<Partition>,
        offset: i64,
        (action, room): (u8, usize),
    ) -> Change {
        let message = |action| {
            let place = (offset, event.timestamp);
            let fields = event.fields();
            Message::new(Arc::clone(partition), place, (Kind::Presence, action), event.form, event.data, Some(&fields))
        };
        let node: Arc<str> = event.node.into();
        let (generation, size) = (event.generation, event.size());
        let member = Member { message: message(PRESENT), node: Arc::clone(&node), generation, size };
        let taken = member.memory(&key);
        if taken > room {
            return Change::Refused;
        }
        self.size += member.size;
        let old = self.by_key.insert(Arc::clone(&key), member);
        self.size -= old.as_ref().map_or(0, |old| old.size);
        let freed = old.as_ref().map_or(0, |old| old.memory(&key));
        let before = old.map(|old| old.node);
        Change::Made(Box::new(Made { key, entry: Some(message(action)), before, after: Some(node), taken, freed }))
    }

    /// Nothing that the set lacks: at most another node has said it, or the same one for a continued connection.
    fn moved(&mut self, key: &MemberKey, event: &Event<'_>) -> Change {
        let is_new = |member: &&mut Member| *member.node != *event.node || member.generation != event.generation;
        let Some(member) = self.by_key.get_mut(key).filter(is_new) else {
            return Change::Nothing;
        };
        member.generation = event.generation;
        let before = Some(std::mem::replace(&mut member.node, event.node.into()));
        let after = Some(Arc::clone(&member.node));
        Change::Made(Box::new(Made { key: Arc::clone(key), entry: None, before, after, taken: 0, freed: 0 }))
    }
}

/// The entry of a leave: with the member's last data, if it came with none.
fn leave(event: &Event<'_>, old: &Message, partition: &Arc<Partition>, offset: i64) -> Message {
    let mut fields = event.fields();
    let (mut form, mut data) = (event.form, event.data);
    if event.form == Form::None {
        (form, data) = match old.data().0 {
            Data::None => (Form::None, &[][..]),
            Data::Text(text) | Data::Json(text) => (Form::Text, text.as_bytes()),
            Data::Binary(bytes) => (Form::Binary, bytes),
        };
        fields[Field::Encoding as usize] = old.field(Field::Encoding);
        fields[Field::Extras as usize] = fields[Field::Extras as usize].or(old.field(Field::Extras));
    }
    let place = (offset, event.timestamp);
    Message::new(Arc::clone(partition), place, (Kind::Presence, LEAVE), form, data, Some(&fields))
}

#[cfg(test)]
mod tests;
