//! The presence topic: its records on their way to the sets of their channels, and questions about these.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Hub, Work};
use crate::channel::{Channel, Sync};
use crate::limits::{MEMBERS_PAGE_MAX, MEMBERS_SCANNED, PAGE_BYTES_MAX, PRESENCE_SHARE};
use crate::message::{Field, Message};
use crate::partition::Partition;
use crate::presence::event::{Action, Event, Who};
use crate::presence::{Change, MemberKey, parts};
use crate::record::Record;
use crate::route::is_channel_name;

/// The members of all channels by the nodes that answer for them: channel and key of each.
#[derive(Debug, Default)]
pub(super) struct Nodes(HashMap<Arc<str>, BTreeSet<(Arc<str>, MemberKey)>>);

impl Nodes {
    fn put(&mut self, node: &Arc<str>, channel: &Arc<str>, key: &MemberKey) {
        let place = (Arc::clone(channel), Arc::clone(key));
        match self.0.get_mut(node) {
            Some(places) => drop(places.insert(place)),
            None => drop(self.0.insert(Arc::clone(node), BTreeSet::from([place]))),
        }
    }

    fn remove(&mut self, node: &Arc<str>, channel: &Arc<str>, key: &MemberKey) {
        let Some(places) = self.0.get_mut(node) else { return };
        places.remove(&(Arc::clone(channel), Arc::clone(key)));
        if places.is_empty() {
            self.0.remove(node);
        }
    }
}

/// Which members to list.
#[derive(Debug)]
pub struct MembersQuery<'a> {
    /// Only this client's.
    pub client_id: Option<&'a str>,
    /// Only this connection's.
    pub connection_id: Option<&'a str>,
    /// Of the page before.
    pub cursor: Option<&'a str>,
    /// At most so many.
    pub limit: usize,
}

/// A page of members.
#[derive(Debug)]
pub struct MembersPage {
    /// Each as an item of SYNC.
    pub members: Vec<Message>,
    /// Give it back for the next page; none at the end.
    pub cursor: Option<String>,
}

impl Hub {
    /// The records of this topic make the presence sets. It is read whole: what was written more than one history window
    /// before `wall_ms`, by the clock, changes the sets, but is no news to anybody. To be called before its first
    /// partition is assigned.
    pub fn presence_topic(&self, topic: &str, wall_ms: i64) {
        self.partitions.add_state_topic(topic);
        self.intake.lock().presence = Some((topic.into(), wall_ms.saturating_sub(self.settings.history_ms)));
    }

    /// Takes in one record of the presence topic.
    pub(super) fn deliver_presence(
        &self,
        work: &mut Work,
        record: &Record<'_>,
        partition: &Arc<Partition>,
        (since_ms, now_ms): (i64, i64),
    ) {
        let Some(who) = Who::of(record).filter(|who| is_channel_name(&who.0)) else {
            return self.stats.records_unroutable.add(1);
        };
        let event = Event::of(record, &who);
        let key = record.key.unwrap_or_default();
        if event.action == Action::Enter && event.generation < self.gone.lock().generation(key) {
            return self.stats.presence_late.add(1); // it has left since, by a newer transport
        }
        let channel = match event.action {
            Action::Enter => self.channel(&who.0, now_ms),
            // Who leaves a channel that memory does not have was not there.
            Action::Leave => match self.find_channel(&who.0) {
                Some(channel) => channel,
                None => return,
            },
        };
        let most = self.settings.history_bytes / PRESENCE_SHARE;
        let room = most.saturating_sub(self.presence_bytes.load(Ordering::Relaxed));
        let made = match channel.apply(&event, partition, record.offset, room) {
            Change::Nothing => return,
            Change::Late => return self.stats.presence_late.add(1),
            Change::Refused => return self.stats.members_refused.add(1),
            Change::Made(made) => made,
        };
        for counter in [&self.presence_bytes, &self.memory] {
            counter.fetch_add(made.taken, Ordering::Relaxed);
            counter.fetch_sub(made.freed, Ordering::Relaxed);
        }
        {
            let mut nodes = self.nodes.lock();
            if let Some(before) = &made.before {
                nodes.remove(before, &channel.name, &made.key);
            }
            match &made.after {
                Some(after) => nodes.put(after, &channel.name, &made.key),
                None => self.gone.lock().put(key, event.generation),
            }
        }
        if let Some(entry) = made.entry.filter(|_| event.timestamp >= since_ms) {
            self.stats.presence_events.add(1);
            self.put(work, channel, entry);
        }
    }

    /// Begins to give somebody a presence set.
    pub fn sync(&self) -> Sync {
        Sync::new(format!("{:x}", self.next_sync.fetch_add(1, Ordering::Relaxed)))
    }

    fn find_channel(&self, name: &str) -> Option<Arc<Channel>> {
        self.channels.read().get(name).cloned()
    }

    /// A page of those present on a channel, in the order of connection and client ids. None if the cursor is none.
    pub fn members(&self, name: &str, query: &MembersQuery<'_>) -> Option<MembersPage> {
        let behind = match query.cursor {
            Some(text) => Some(String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?),
            None => None,
        };
        let Some(channel) = self.find_channel(name) else {
            return Some(MembersPage { members: Vec::new(), cursor: None });
        };
        let limit = query.limit.min(MEMBERS_PAGE_MAX);
        let (mut page, mut bytes) = (Vec::new(), 0);
        let more = channel.with_members(|members| {
            // Of one connection: from its first on.
            let first = query.connection_id.map(|id| crate::presence::key(id, ""));
            let mut last: Option<&MemberKey> = None;
            for (looked, (key, member)) in members.behind(behind.as_deref().max(first.as_deref())).enumerate() {
                let (connection_id, client_id) = parts(key);
                if query.connection_id.is_some_and(|id| id != connection_id) {
                    return None;
                }
                if looked == MEMBERS_SCANNED || page.len() == limit || bytes >= PAGE_BYTES_MAX {
                    return last.cloned();
                }
                last = Some(key);
                if query.client_id.is_none_or(|id| id == client_id) {
                    bytes += member.message.size();
                    page.push(member.message.clone());
                }
            }
            None
        });
        Some(MembersPage { members: page, cursor: more.map(|key| URL_SAFE_NO_PAD.encode(&*key)) })
    }

    /// Id, node and generation of a member.
    pub fn member(&self, name: &str, connection_id: &str, client_id: &str) -> Option<(String, Arc<str>, u64)> {
        let key = crate::presence::key(connection_id, client_id);
        self.find_channel(name)?.with_members(|members| {
            let member = members.get(&key)?;
            let id = member.message.field(Field::Id).unwrap_or_default();
            Some((id.to_owned(), Arc::clone(&member.node), member.generation))
        })
    }

    /// How many are present, and the bytes of their client ids, data and extras.
    pub fn presence_size(&self, name: &str) -> (usize, usize) {
        let channel = self.find_channel(name);
        channel.map_or((0, 0), |channel| channel.with_members(|members| (members.len(), members.size())))
    }

    /// How many members each node answers for.
    pub fn presence_nodes(&self) -> Vec<(Arc<str>, usize)> {
        self.nodes.lock().0.iter().map(|(node, places)| (Arc::clone(node), places.len())).collect()
    }

    /// Some of the members that a node answers for: channel and key of each.
    pub fn members_of(&self, node: &str, limit: usize) -> Vec<(Arc<str>, MemberKey)> {
        let nodes = self.nodes.lock();
        nodes.0.get(node).into_iter().flatten().take(limit).cloned().collect()
    }
}
