//! The ring as the newest part of the log: what it holds behind some places, and from where on it holds all.

use std::sync::Arc;

use super::Channel;
use super::ring::Ring;
use crate::hub::{Held, HeldQuery, Place};

use crate::message::Message;
use crate::partition::Partition;

impl Channel {
    /// See [`crate::hub::Hub::held`].
    pub(crate) fn held_behind(&self, places: &[Place], query: &HeldQuery, list: &[Arc<Partition>]) -> Held {
        // Read before the ring: what is appended later lies behind it.
        let ends: Vec<i64> = places.iter().map(|place| place.partition.next()).collect();
        let ring = &*self.ring.lock();
        let floors = floors(ring, places, list);
        let mut next: Vec<i64> = places.iter().map(|place| place.offset).collect();
        let mut held = Held { messages: Vec::new(), next: Vec::new(), floors, more: false };
        if query.forwards {
            if next.iter().zip(&held.floors).all(|(offset, floor)| offset >= floor) {
                held.take(ring.entries.iter(), places, &mut next, query);
                if !held.more {
                    next.iter_mut().zip(ends).for_each(|(offset, end)| *offset = end.max(*offset));
                }
            }
        } else {
            held.take(ring.entries.iter().rev(), places, &mut next, query);
            if !held.more {
                next.iter_mut().zip(&held.floors).for_each(|(offset, floor)| *offset = *floor.min(offset));
            }
        }
        held.next = next;
        ring.show_newest(&mut held.messages);
        held
    }
}

fn floors(ring: &Ring, places: &[Place], list: &[Arc<Partition>]) -> Vec<i64> {
    places.iter().map(|place| ring.floor(list, usize::from(place.partition.index))).collect()
}

impl Held {
    fn take<'r>(
        &mut self,
        entries: impl Iterator<Item = &'r Message>,
        places: &[Place],
        next: &mut [i64],
        query: &HeldQuery,
    ) {
        let mut bytes = 0;
        for entry in entries.filter(|entry| entry.is_publication()) {
            let Some(slot) = places.iter().position(|place| place.partition.index == entry.partition.index) else {
                continue;
            };
            if query.forwards == (entry.offset < next[slot]) {
                continue;
            }
            if (query.start_ms..=query.end_ms).contains(&entry.timestamp) {
                bytes += entry.size();
                let is_full = bytes > query.limit_bytes && !self.messages.is_empty();
                if is_full || self.messages.len() == query.limit {
                    self.more = true;
                    return;
                }
                self.messages.push(entry.clone());
            }
            next[slot] = if query.forwards { entry.offset + 1 } else { entry.offset };
        }
    }
}
