//! Pages of the presence set for somebody who has just come (Ably protocol, "SYNC").
//!
//! A page is made when there is room to write it, of the set as it is then, behind the last member of the page before. It
//! is never ahead of what its receiver was given of the ring's presence: that is given first, so page and events are in
//! the order in which they happened, and whoever applies both has the set as it is. Members that came or went meanwhile
//! are told of by events, whether their place among the pages has passed or not.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::{Ask, Channel, Context};
use crate::limits::{SYNC_BYTES, SYNC_MEMBERS};
use crate::presence::{MemberKey, Members};

/// How far a receiver has been given the set.
#[derive(Debug, Default)]
pub struct Sync {
    /// Tells one giving from another.
    id: Box<str>,
    /// The last member given.
    behind: Option<MemberKey>,
    given: usize,
}

/// Some of the set.
#[derive(Debug)]
pub struct SyncPage {
    /// A whole WebSocket message.
    pub bytes: Arc<[u8]>,
    /// Nothing is left to give.
    pub is_last: bool,
}

impl Sync {
    /// From the beginning.
    pub fn new(id: String) -> Self {
        Self { id: id.into(), behind: None, given: 0 }
    }
}

impl Channel {
    /// The next page for who stands at `ask.from`. None if it has to be given presence from the ring first.
    pub fn sync_page(&self, ask: &Ask<'_>, sync: &mut Sync, context: &Context<'_>) -> Option<SyncPage> {
        let ring = &mut *self.ring.lock();
        if ring.has_presence_from(ask.from) {
            return None;
        }
        let nobody = Members::default();
        let members = ring.members.as_deref().unwrap_or(&nobody);
        let (mut parts, mut bytes, mut made) = (SmallVec::<[&[u8]; 64]>::new(), 0, 0);
        let behind = sync.behind.clone();
        let mut waiting = members.behind(behind.as_deref()).peekable();
        let mut last = None;
        while let Some((key, member)) = waiting.peek() {
            let (part, new) = member.message.encoded(ask.wire);
            made += new;
            bytes += part.len();
            if !parts.is_empty() && (bytes > SYNC_BYTES || parts.len() == SYNC_MEMBERS) {
                break;
            }
            parts.push(part);
            last = Some(*key);
            waiting.next();
        }
        let is_last = waiting.peek().is_none();
        if let Some(last) = last {
            sync.behind = Some(Arc::clone(last));
        }
        sync.given += parts.len();
        let serial = if is_last { format!("{}:", sync.id) } else { format!("{}:{}", sync.id, sync.given) };
        let spelling = ask.spelling.map_or(&*self.name, |spelling| spelling);
        let bytes = ask.wire.sync(spelling, &serial, &parts);
        context.memory.fetch_add(made, Ordering::Relaxed);
        context.presence.fetch_add(made, Ordering::Relaxed);
        context.stats.sync_pages.add(1);
        context.stats.sync_members.add(parts.len() as u64);
        Some(SyncPage { bytes, is_last })
    }
}
