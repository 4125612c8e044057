//! The frames made of a ring's entries, and those of them that are kept for others.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;

use super::deltas::Steps;
use super::place::{OPEN, Withheld};
use super::ring::Ring;
use super::versions::{ALL, Shown};
use super::{Ask, Asked, Context, Frame, Given, Payloads};
use crate::kind::Kind;
use crate::limits::{FRAME_BYTES, FRAMES_CACHED};
use crate::message::Message;
use crate::wire::{Of, Wire};

/// The places in a frame of which it says the position: each message's on a stream, none with MQTT, the end on other
/// wires. And with MQTT, whose messages they are.
pub(super) struct Behind {
    wire: Wire,
    cursors: SmallVec<[u64; 16]>,
    is_passing: bool,
    places: SmallVec<[Of; 1]>,
}

impl Behind {
    /// Of a frame that nothing is in yet.
    pub(super) fn of(wire: Wire) -> Self {
        Self { wire, cursors: SmallVec::new(), is_passing: false, places: SmallVec::new() }
    }

    /// The entry of this number was put in.
    pub(super) fn push(&mut self, number: u64, entry: &Message) {
        self.is_passing |= self.wire.is_passing(entry);
        match self.wire {
            Wire::Stream(_) => self.cursors.push(number + 1),
            Wire::Mqtt(_) => self.places.push(Of::new(number, entry)),
            Wire::Json | Wire::Msgpack => {}
        }
    }

    /// The positions, of which the last is that of the frame.
    pub(super) fn serials(&mut self, to: u64, print: impl Fn(u64) -> String) -> SmallVec<[String; 1]> {
        if let Wire::Mqtt(_) = self.wire {
            return SmallVec::new();
        }
        self.cursors.pop();
        self.cursors.push(to);
        self.cursors.drain(..).map(print).collect()
    }
}

impl Frame {
    /// Of messages that were encoded; it ends before `to`.
    pub(super) fn made(
        ask: &Ask<'_>,
        kind: Kind,
        name: &str,
        (to, since): (u64, (u64, u64)),
        (serials, behind): (&[String], &Behind),
        parts: &[&[u8]],
    ) -> Self {
        let channel = ask.spelling.map_or(name, |spelling| spelling);
        let (bytes, packets) = ask.wire.frame(kind, channel, (serials, &behind.places), parts);
        let (messages, packets) = (parts.len() as u32, packets.map(Arc::new));
        let serial = (ask.wire.messages_max() == 1).then(|| serials[0].as_str().into());
        Self { bytes, to, messages, kind, since, serial, packets, is_passing: behind.is_passing }
    }
}

/// A frame kept for sharing, and who may share it.
#[derive(Debug)]
pub(super) struct Cached {
    pub(super) asked: Asked,
    /// It ends where it does whatever comes: for lack of room, or before an entry of another kind.
    pub(super) full: bool,
    pub(super) frame: Frame,
}

impl Ring {
    /// Keeps a frame for others; returns the bytes of those it took the place of.
    pub(super) fn cache(&mut self, ask: &Ask<'_>, new: Cached) -> usize {
        let before: usize = self.cached_bytes();
        let len = new.frame.size();
        let same = |old: &Cached| old.asked.is_like(ask) && old.frame.since == new.frame.since;
        self.frames.retain(|old| !same(old));
        if self.frames.len() >= FRAMES_CACHED {
            self.frames.remove(0);
        }
        self.frames.push(new);
        before + len - self.cached_bytes()
    }

    /// Where the bytes of what is made for this ring are counted.
    pub(super) fn pool<'a>(&self, context: &Context<'a>) -> &'a AtomicUsize {
        if self.reading.is_some() { context.replays } else { context.memory }
    }

    pub(super) fn bytes_with_frames(&self) -> usize {
        self.bytes + self.cached_bytes()
    }

    /// Keeps no frames; returns the bytes freed.
    pub(super) fn forget_frames(&mut self) -> usize {
        let freed = self.cached_bytes();
        self.frames.clear();
        freed
    }

    /// Keeps no frames of walkers: what they skip has changed; returns the bytes freed.
    pub(super) fn forget_walks(&mut self) -> usize {
        let before = self.cached_bytes();
        self.frames.retain(|cached| cached.asked.conflates.is_none());
        before - self.cached_bytes()
    }

    pub(super) fn cached_bytes(&self) -> usize {
        self.frames.iter().map(|cached| cached.frame.size()).sum()
    }

    /// The bytes of an entry, and the memory that the ring takes more for them. What it has dropped is counted with its
    /// encoding elsewhere; and that of one that is shared is all rings' together, and counted here already.
    pub(super) fn part<'e>(
        &self,
        entry: &'e Message,
        number: u64,
        wire: Wire,
        context: &Context<'_>,
    ) -> (Cow<'e, [u8]>, usize) {
        let (part, made) = wire.part(entry, context.wall_ms);
        if made == 0 || number < self.base {
            return (part, 0);
        }
        if entry.is_shared() {
            entry.count(wire);
            self.pool(context).fetch_add(made, Ordering::Relaxed);
            return (part, 0);
        }
        (part, made)
    }

    /// The next frame behind `from`, and whether it ends where it does whatever comes.
    pub(super) fn build(
        &mut self,
        name: &str,
        ask: &Ask<'_>,
        withheld: &Withheld,
        context: &Context<'_>,
    ) -> (Given, bool) {
        if let Some(others_from) = ask.conflates {
            return self.build_latest(name, ask, others_from, withheld, context);
        }
        let Some(start) = ask.from.checked_sub(self.base) else { return (self.passed(ask.from), false) };
        let start = start as usize;
        if start >= self.entries.len() {
            return (Given::Nothing, false);
        }
        // What comes behind a backlog is for another frame: other rules hold for it.
        let reading = self.reading.as_ref();
        if let Some(had) = withheld.had.as_ref().filter(|had| had.until() == OPEN)
            && reading.is_some_and(|reading| reading.covers(&had.next))
        {
            had.close(self.end());
        }
        let until = withheld.had.as_ref().map_or(self.end(), |had| had.until().max(ask.from + 1).min(self.end()));
        let end = (until - self.base) as usize;
        let publications_until = withheld.had.as_ref().filter(|had| had.publications).map_or(0, |had| had.until());
        let mut steps = (ask.payloads != Payloads::Whole).then(|| Steps {
            entries: &self.entries,
            base: self.base,
            ask,
            withheld,
            deltas: self.deltas.take().unwrap_or_default(),
            last: None,
        });
        let (mut parts, mut bytes, mut made) = (SmallVec::<[Cow<'_, [u8]>; 64]>::new(), 0, 0);
        let mut behind = Behind::of(ask.wire);
        let mut since = ALL;
        let mut kind = Kind::Message;
        let mut stop = end;
        let mut delta = None;
        for (index, entry) in self.entries.iter().enumerate().take(end).skip(start) {
            if ask.filter.is_some() && index > start && context.is_filtered_out() {
                stop = index;
                break;
            }
            if !ask.wants(withheld, entry, context) {
                continue;
            }
            if parts.is_empty() {
                kind = entry.kind;
            } else if entry.kind != kind || parts.len() == ask.wire.messages_max().min(ask.most) {
                stop = index;
                break;
            }
            let number = self.base + index as u64;
            // In a backlog of publications each may be shown otherwise than it came: nothing to go on from.
            if let Some(steps) = steps.as_mut().filter(|_| number >= publications_until) {
                let (found, new) = steps.has_delta(index, context);
                made += new;
                if found {
                    delta = parts.is_empty().then_some(number);
                    stop = index + usize::from(delta.is_some());
                    break;
                }
                steps.last = Some(index);
            }
            let shown = if number < publications_until {
                Shown::As(self.version_of(entry, publications_until), ALL)
            } else {
                self.shown(entry, number, ask.since)
            };
            let (part, of) = match shown {
                Shown::Not => continue,
                Shown::As(Some(instead), of) => (Cow::Owned(ask.wire.message(&instead, context.wall_ms)), of),
                Shown::As(None, of) => {
                    let (part, new) = self.part(entry, number, ask.wire, context);
                    made += new;
                    (part, of)
                }
            };
            bytes += part.len();
            if !parts.is_empty() && bytes > FRAME_BYTES {
                stop = index;
                break;
            }
            behind.push(number, entry);
            parts.push(part);
            since = (since.0.max(of.0), since.1.min(of.1));
        }
        let alone = delta.zip(steps.as_ref()).and_then(|(number, steps)| steps.deltas.get(number, ask.wire));
        let parts: SmallVec<[&[u8]; 64]> = parts.iter().map(|part| &**part).chain(alone).collect();
        let full = stop < self.entries.len() || delta.is_some();
        let to = self.base + stop as u64;
        let given = if parts.is_empty() {
            Given::Skipped(to)
        } else {
            let print = |to| self.print(name, context.key, context.partitions, to, withheld.had.as_deref());
            let serials = behind.serials(to, print);
            context.stats.frames.add(1);
            context.stats.frame_messages.add(parts.len() as u64);
            Given::Frame(Frame::made(ask, kind, name, (to, since), (&serials, &behind), &parts))
        };
        drop(parts);
        if let Some(Steps { deltas, .. }) = steps {
            self.deltas = Some(deltas);
        }
        self.bytes += made;
        self.pool(context).fetch_add(made, Ordering::Relaxed);
        (given, full)
    }
}
