//! The position of one receiver, whose place in the ring somebody else remembers.

use std::sync::Arc;

use super::Channel;
use super::place::{Had, Located};
use crate::partition::Partitions;
use crate::position::Key;

/// Where a receiver stands in a channel's ring.
#[derive(Debug, Clone, Default)]
pub struct Stand {
    /// Its cursor.
    pub at: u64,
    /// What it had already.
    pub had: Option<Arc<Had>>,
    /// See [`Located::conflates`].
    pub conflates: Option<u64>,
}

impl Channel {
    /// The position of who stands there; None if the ring has passed it.
    pub fn position_of(&self, stand: &Stand, key: Key, partitions: &Partitions) -> Option<String> {
        let Stand { at, had, conflates } = stand;
        let ring = &*self.ring.lock();
        if *at > ring.end() {
            return None;
        }
        if conflates.is_some() {
            let covers = *at == 0 || ring.latest.as_ref().is_some_and(|latest| latest.covers(*at));
            let place = Located { cursor: *at, had: had.clone(), conflates: *conflates, ..Located::default() };
            return covers.then(|| ring.print_latest(&self.name, key, partitions, &place));
        }
        (*at >= ring.base).then(|| ring.print(&self.name, key, partitions, *at, had.as_deref()))
    }
}
