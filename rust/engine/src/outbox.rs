//! What a connection has yet to write: references to shared bytes, and how much of the first is gone.

use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes in the order in which they go out.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk already written: a frame once begun is finished.
    begun: usize,
    len: usize,
    replies: usize,
}

#[derive(Debug)]
struct Chunk {
    bytes: Arc<[u8]>,
    reply: bool,
}

impl Outbox {
    /// Queues a frame.
    pub fn push(&mut self, bytes: Arc<[u8]>) {
        self.add(bytes, false);
    }

    /// Queues what the peer has asked for, which is bounded apart from what it is given.
    pub fn push_reply(&mut self, bytes: Arc<[u8]>) {
        self.replies += bytes.len();
        self.add(bytes, true);
    }

    fn add(&mut self, bytes: Arc<[u8]>, reply: bool) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.chunks.push_back(Chunk { bytes, reply });
        }
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of replies that have not been written whole.
    pub fn replies(&self) -> usize {
        self.replies
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What to write next, at most `max` pieces.
    pub fn slices(&self, max: usize) -> impl Iterator<Item = &[u8]> {
        let begun = self.begun;
        let skip = move |index| if index == 0 { begun } else { 0 };
        self.chunks.iter().take(max).enumerate().map(move |(index, chunk)| &chunk.bytes[skip(index)..])
    }

    /// `n` bytes were written.
    pub fn advance(&mut self, mut n: usize) {
        assert!(n <= self.len, "no more was written than waited");
        self.len -= n;
        while let Some(first) = self.chunks.front() {
            let left = first.bytes.len() - self.begun;
            if n < left {
                self.begun += n;
                return;
            }
            n -= left;
            self.begun = 0;
            self.replies -= if first.reply { first.bytes.len() } else { 0 };
            self.chunks.pop_front();
        }
        if self.chunks.capacity() > 64 {
            self.chunks.shrink_to(0); // a burst's room is not kept by a connection that fell idle
        }
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
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
            steps in prop::collection::vec(0usize..60, 1..200),
        ) {
            let mut outbox = Outbox::default();
            let all: Vec<u8> = chunks.concat();
            for chunk in chunks {
                outbox.push(chunk.into());
            }
            let mut seen = Vec::new();
            for step in steps {
                let ready: Vec<u8> = outbox.slices(4).flatten().copied().collect();
                let n = step.min(ready.len());
                seen.extend_from_slice(&ready[..n]);
                outbox.advance(n);
            }
            prop_assert_eq!(&all[..seen.len()], &seen[..]);
            prop_assert_eq!(outbox.len(), all.len() - seen.len());
        }
    }
}
