//! What a connection has yet to write: references to shared bytes, and how much of the first is gone.
//!
//! Most connections have nothing waiting, and most others one frame: only more than that takes memory of its own.

use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes in the order in which they go out.
#[derive(Debug, Default)]
pub struct Outbox {
    first: Option<Chunk>,
    /// Bytes of the first chunk already written: a frame once begun is finished.
    begun: usize,
    rest: Option<Box<Rest>>,
}

#[derive(Debug)]
struct Chunk {
    bytes: Arc<[u8]>,
    reply: bool,
}

/// What stands behind the first chunk; never empty.
#[derive(Debug, Default)]
struct Rest {
    chunks: VecDeque<Chunk>,
    len: usize,
    replies: usize,
}

impl Chunk {
    fn replies(&self) -> usize {
        if self.reply { self.bytes.len() } else { 0 }
    }
}

impl Outbox {
    /// Queues a frame.
    pub fn push(&mut self, bytes: Arc<[u8]>) {
        self.add(Chunk { bytes, reply: false });
    }

    /// Queues what the peer has asked for, which is bounded apart from what it is given.
    pub fn push_reply(&mut self, bytes: Arc<[u8]>) {
        self.add(Chunk { bytes, reply: true });
    }

    fn add(&mut self, chunk: Chunk) {
        if chunk.bytes.is_empty() {
            return;
        }
        if self.first.is_none() {
            self.first = Some(chunk);
            return;
        }
        let rest = self.rest.get_or_insert_default();
        rest.len += chunk.bytes.len();
        rest.replies += chunk.replies();
        rest.chunks.push_back(chunk);
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        let first = self.first.as_ref().map_or(0, |chunk| chunk.bytes.len() - self.begun);
        first + self.rest.as_ref().map_or(0, |rest| rest.len)
    }

    /// Bytes of replies that have not been written whole.
    pub fn replies(&self) -> usize {
        self.first.as_ref().map_or(0, Chunk::replies) + self.rest.as_ref().map_or(0, |rest| rest.replies)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// What to write next, at most `max` pieces.
    pub fn slices(&self, max: usize) -> impl Iterator<Item = &[u8]> {
        let first = self.first.iter().map(|chunk| &chunk.bytes[self.begun..]);
        let rest = self.rest.iter().flat_map(|rest| &rest.chunks).map(|chunk| &chunk.bytes[..]);
        first.chain(rest).take(max)
    }

    /// `n` bytes were written.
    pub fn advance(&mut self, mut n: usize) {
        while let Some(first) = &self.first {
            let left = first.bytes.len() - self.begun;
            if n < left {
                self.begun += n;
                return;
            }
            n -= left;
            self.begun = 0;
            self.first = self.next();
        }
        assert!(n == 0, "no more was written than waited");
    }

    fn next(&mut self) -> Option<Chunk> {
        let rest = self.rest.as_mut()?;
        let chunk = rest.chunks.pop_front()?;
        rest.len -= chunk.bytes.len();
        rest.replies -= chunk.replies();
        if rest.chunks.is_empty() {
            self.rest = None;
        }
        Some(chunk)
    }

    /// Forgets everything: nobody will read it.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_leave_in_order_however_they_are_taken(
            chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), any::<bool>()), 0..20),
            steps in prop::collection::vec(0usize..60, 1..200),
        ) {
            let mut outbox = Outbox::default();
            let all: Vec<u8> = chunks.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
            for (bytes, reply) in &chunks {
                if *reply { outbox.push_reply(bytes[..].into()) } else { outbox.push(bytes[..].into()) }
            }
            let mut seen = Vec::new();
            for step in steps {
                let ready: Vec<u8> = outbox.slices(4).flatten().copied().collect();
                let n = step.min(ready.len());
                seen.extend_from_slice(&ready[..n]);
                outbox.advance(n);
                // Of the replies, those whose last byte has not been written.
                let mut end = 0;
                let replies = chunks.iter().filter_map(|(bytes, reply)| {
                    end += bytes.len();
                    (*reply && end > seen.len()).then_some(bytes.len())
                });
                prop_assert_eq!(outbox.replies(), replies.sum::<usize>());
            }
            prop_assert_eq!(&all[..seen.len()], &seen[..]);
            prop_assert_eq!(outbox.len(), all.len() - seen.len());
            prop_assert_eq!(outbox.is_empty(), seen.len() == all.len());
        }
    }

    #[test]
    fn nothing_waiting_and_one_frame_hold_no_memory_of_their_own() {
        let mut outbox = Outbox::default();
        (0..3).for_each(|_| outbox.push(b"frame"[..].into()));
        outbox.advance(12);
        assert!(outbox.rest.is_none(), "the last frame, begun, stands alone");
        outbox.advance(3);
        assert!(outbox.is_empty());
    }
}
