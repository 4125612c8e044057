//! The channels that have attachments in a shard, and the sweeps through their members.
//!
//! News of a channel makes all its members due. They are visited in a circle that goes on where it is, so a member that
//! is reached late is given all that has come by then, and news that comes in the middle of a sweep cost no second one
//! for those who have not been reached.

use std::collections::HashMap;
use std::sync::Arc;

use super::connection::Cursor;
use crate::channel::Channel;

/// The members of one channel.
#[derive(Debug)]
pub(super) struct Group {
    /// None once it has no members.
    pub(super) channel: Option<Arc<Channel>>,
    members: Vec<Member>,
    /// The member to visit next.
    next: usize,
    /// How many are to be visited.
    due: usize,
    /// It waits in a lane. Outlives the members, as its place in the lane does.
    pub(super) waits: bool,
}

/// One attachment, as its channel sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// Of its connection.
    pub(super) slot: u32,
    /// The session's number for the attachment.
    pub(super) number: u32,
}

/// All groups of a shard.
#[derive(Debug, Default)]
pub(super) struct Groups {
    list: Vec<Group>,
    /// For each group, one past the newest message that the shard knows of: what has a cursor below it is due. By
    /// itself, since a connection with many attachments looks at as many of these.
    ends: Vec<u64>,
    free: Vec<u32>,
    by_channel: HashMap<u64, u32>,
}

impl Groups {
    /// The group of a channel that has one here.
    pub(super) fn find(&self, channel: &Channel) -> Option<u32> {
        self.by_channel.get(&channel.id).copied()
    }

    /// The group of a channel, made if need be; a new one is told of news by `bit`.
    pub(super) fn find_or_make(&mut self, channel: &Arc<Channel>, bit: u64) -> u32 {
        if let Some(group) = self.find(channel) {
            return group;
        }
        channel.watch(bit);
        let at = self.free.pop().unwrap_or_else(|| {
            self.list.push(Group { channel: None, members: Vec::new(), next: 0, due: 0, waits: false });
            self.ends.push(0);
            self.list.len() as u32 - 1
        });
        self.list[at as usize].channel = Some(Arc::clone(channel));
        self.ends[at as usize] = channel.end();
        self.by_channel.insert(channel.id, at);
        at
    }

    /// A group by its number.
    pub(super) fn get(&mut self, group: u32) -> &mut Group {
        &mut self.list[group as usize]
    }

    /// Whether there is something that this cursor has not been given.
    pub(super) fn is_due(&self, cursor: &Cursor) -> bool {
        cursor.at < self.ends[cursor.group as usize]
    }

    /// The channel of a cursor that is due, or is being given the presence set.
    pub(super) fn channel(&self, cursor: &Cursor) -> Option<&Arc<Channel>> {
        self.list[cursor.group as usize].channel.as_ref().filter(|_| self.is_due(cursor) || cursor.syncs())
    }

    /// The channel of a cursor.
    pub(super) fn channel_of(&self, cursor: &Cursor) -> Option<&Arc<Channel>> {
        self.list[cursor.group as usize].channel.as_ref()
    }

    /// A member joins; its place among the members. What its channel has by now it is due at once, whatever is held back
    /// for those who were here before: they are made due by the news of it, which are still to come.
    pub(super) fn join(&mut self, group: u32, member: Member) -> u32 {
        let at = group as usize;
        let group = &mut self.list[at];
        if let Some(channel) = &group.channel {
            self.ends[at] = channel.end();
        }
        // One more before the circle is closed: the newcomer stands between the last and the first.
        group.due += usize::from(group.due > 0);
        group.members.push(member);
        group.members.len() as u32 - 1
    }

    /// A member leaves; the one that took its place, if another did, and whether it may have missed its visit by that.
    pub(super) fn leave(&mut self, cursor: &Cursor, bit: u64) -> Option<(Member, bool)> {
        let at = cursor.index as usize;
        let group = &mut self.list[cursor.group as usize];
        group.members.swap_remove(at);
        group.due = group.due.min(group.members.len());
        if let Some(channel) = &group.channel {
            channel.detached(cursor.kinds);
            if group.members.is_empty() {
                channel.unwatch(bit);
                self.by_channel.remove(&channel.id);
                group.channel = None;
                group.members = Vec::new();
                self.free.push(cursor.group);
            }
        }
        group.members.get(at).map(|&moved| (moved, group.due > 0))
    }

    /// All members of this group are due what its channel has now.
    pub(super) fn news(&mut self, group: u32) {
        let at = group as usize;
        let group = &mut self.list[at];
        let Some(channel) = &group.channel else { return };
        self.ends[at] = channel.end();
        if group.due == 0 {
            // By the golden ratio: after few sweeps everybody has been among the first and among the last.
            let len = group.members.len().max(1);
            group.next = (group.next + len * 618 / 1000 + 1) % len;
        }
        group.due = group.members.len();
    }

    /// Whom of this group to visit next; None when the sweep is over, and the group waits no more.
    pub(super) fn visit(&mut self, group: u32) -> Option<Member> {
        let group = self.get(group);
        if group.due == 0 {
            group.waits = false;
            return None;
        }
        group.due -= 1;
        if group.next >= group.members.len() {
            group.next = 0;
        }
        group.next += 1;
        Some(group.members[group.next - 1])
    }
}

impl Group {
    /// How many attachments there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }
}
