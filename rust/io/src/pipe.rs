//! The outgoing side of a connection that the loop writes: because it encrypts first, or because what there is goes into
//! the next HTTP response.
//!
//! To its shard a pipe is a socket that holds [`PIPE_BYTES`]: it takes what fits, and a connection whose pipe is full is
//! given nothing until the loop has taken from it; meanwhile its cursors stay behind, as with a full socket. The loop is
//! told when there is something, once, until it has found the pipe empty; so it may be told of nothing, but never misses
//! anything.

use std::io::{self, IoSlice};

use parking_lot::Mutex;

use crate::limits::{PIPE_BYTES, PIPE_ROOM};

/// See the module's text. The shard writes, the loop takes.
#[derive(Debug, Default)]
pub struct Pipe(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// More was offered than it took, and the shard was not called back yet.
    refused: bool,
    /// The loop knows that it has to look.
    told: bool,
    /// Nothing follows what is here.
    ended: bool,
}

/// What a pipe gives.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// None when nothing is there and nothing will be.
    pub bytes: Option<Vec<u8>>,
    /// Whether the shard is to be told that there is room again.
    pub has_room: bool,
}

impl Pipe {
    /// Takes as much of the slices as fits. How much that was, and whether the loop is to be told. Fails once it was
    /// ended.
    pub fn write(&self, slices: &[IoSlice<'_>]) -> (io::Result<usize>, bool) {
        let mut content = self.0.lock();
        if content.ended {
            return (Err(io::ErrorKind::NotConnected.into()), false);
        }
        let before = content.bytes.len();
        for slice in slices {
            let room = PIPE_BYTES - content.bytes.len();
            content.bytes.extend_from_slice(&slice[..slice.len().min(room)]);
            content.refused |= slice.len() > room;
        }
        let tell = !content.told && !content.bytes.is_empty();
        content.told |= tell;
        (Ok(content.bytes.len() - before), tell)
    }

    /// Nothing more will be written; what is there is still to be taken, unless it is `cut` off. Whether the loop is to be
    /// told.
    pub fn end(&self, cut: bool) -> bool {
        let mut content = self.0.lock();
        content.ended = true;
        if cut {
            content.bytes = Vec::new();
        }
        !std::mem::replace(&mut content.told, true)
    }

    /// The oldest bytes, at most `limit` of them.
    pub fn take(&self, limit: usize) -> Taken {
        let mut content = self.0.lock();
        if content.bytes.is_empty() {
            content.told = content.ended;
            return Taken { bytes: (!content.ended).then(Vec::new), has_room: false };
        }
        let count = limit.min(content.bytes.len());
        let rest = content.bytes.split_off(count);
        let bytes = std::mem::replace(&mut content.bytes, rest);
        let has_room = content.refused && PIPE_BYTES - content.bytes.len() >= PIPE_ROOM;
        content.refused &= !has_room;
        Taken { bytes: Some(bytes), has_room }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pipe: &Pipe, pieces: &[&[u8]]) -> (usize, bool) {
        let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let (sent, tell) = pipe.write(&slices);
        (sent.unwrap(), tell)
    }

    fn some(bytes: &[u8], has_room: bool) -> Taken {
        Taken { bytes: Some(bytes.to_vec()), has_room }
    }

    #[test]
    fn bytes_leave_in_order_and_the_loop_is_told_once_until_it_has_found_nothing() {
        let pipe = Pipe::default();
        assert_eq!(written(&pipe, &[b"ab", b"", b"cd"]), (4, true));
        assert_eq!(written(&pipe, &[b"ef"]), (2, false));
        assert_eq!(pipe.take(3), some(b"abc", false));
        assert_eq!(pipe.take(9), some(b"def", false));
        assert_eq!(written(&pipe, &[b"g"]), (1, false), "it has not looked again yet");
        assert_eq!(pipe.take(9), some(b"g", false));
        assert_eq!(pipe.take(9), some(b"", false));
        assert_eq!(written(&pipe, &[b"h"]), (1, true));
    }

    #[test]
    fn what_does_not_fit_stays_with_the_shard_which_is_called_when_there_is_room() {
        let pipe = Pipe::default();
        let large = vec![b'x'; PIPE_BYTES - 1];
        assert_eq!(written(&pipe, &[&large, b"12", b"3"]), (PIPE_BYTES, true));
        assert_eq!(written(&pipe, &[b"23"]), (0, false), "it never holds more");
        assert!(!pipe.take(PIPE_ROOM - 1).has_room, "a call for every byte would cost more than the bytes");
        assert!(pipe.take(1).has_room);
        assert!(!pipe.take(1).has_room, "and it is called once");
    }

    #[test]
    fn the_end_comes_after_what_was_written_unless_it_is_cut_off() {
        let pipe = Pipe::default();
        written(&pipe, &[b"last"]);
        assert!(!pipe.end(false), "the loop is about to look");
        assert!(pipe.write(&[IoSlice::new(b"more")]).0.is_err());
        assert_eq!(pipe.take(9), some(b"last", false));
        assert_eq!(pipe.take(9), Taken { bytes: None, has_room: false });

        let pipe = Pipe::default();
        written(&pipe, &[b"never seen"]);
        pipe.end(true);
        assert_eq!(pipe.take(9).bytes, None);
        assert!(Pipe::default().end(false), "the loop has to hear of the end of one that it does not look at");
    }
}
