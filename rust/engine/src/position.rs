//! Where a channel stands in the log, in a form that a client can carry and cannot invent.
//!
//! ```text
//! text   base64url, no padding, of:
//!   1 byte    version, 1
//!   8 bytes   MAC: SipHash-2-4-128 under the node secret over the channel's name, 0xFF and the rest, cut
//!   rest      for each topic: 8 bytes tag, count, then for each partition number, next offset, leader epoch + 1
//!             (counts and numbers as LEB128)
//! ```
//!
//! `0xFF` occurs in no UTF-8 text, so name and rest cannot be shifted against each other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip128::{Hasher128, SipHasher24};
use smallvec::SmallVec;
use std::hash::Hasher;

use crate::epochs::Judged;
use crate::limits::{PARTITIONS_MAX, POSITION_TEXT_MAX};
use crate::partition::{Partition, TopicTag};

const VERSION: u8 = 1;
const MAC_BYTES: usize = 8;

/// The secret under which positions are made; all nodes of one log share it.
#[derive(Clone, Copy)]
pub struct Key(pub [u8; 16]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// One partition's part of a position: the next offset to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which topic.
    pub tag: TopicTag,
    /// Which of its partitions.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the record before it, -1 where unknown.
    pub epoch: i32,
}

/// A position, read back from a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// One entry per partition.
    pub entries: SmallVec<[Entry; 4]>,
}

impl Position {
    /// The entry of a partition.
    pub fn entry(&self, partition: &Partition) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.partition == partition.number && entry.tag == partition.tag)
    }

    /// The next offset to read of a partition, and whether nothing is missing before it: where the log was cut below, it
    /// goes on there. A partition that the position does not know was added later: all of it is news.
    pub fn place_in(&self, partition: &Partition) -> (i64, bool) {
        let Some(entry) = self.entry(partition) else { return (0, true) };
        match partition.judge(entry) {
            Judged::Sound => (entry.offset, true),
            Judged::Doubtful => (entry.offset, false),
            Judged::Cut(offset) => (offset, false),
        }
    }
}

/// Why a text is not a position.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not of this form at all.
    Malformed,
    /// It was made under another secret or for another channel, or was changed.
    Forged,
}

/// Prints the position of `channel`; `entries` must be grouped by topic.
pub fn print(key: Key, channel: &str, entries: impl Iterator<Item = Entry>) -> String {
    let mut body: SmallVec<[u8; 128]> = SmallVec::new();
    body.push(VERSION);
    body.extend_from_slice(&[0; MAC_BYTES]);
    let mut group: Option<(TopicTag, SmallVec<[u8; 96]>, u64)> = None;
    let close = |body: &mut SmallVec<[u8; 128]>, group: Option<(TopicTag, SmallVec<[u8; 96]>, u64)>| {
        if let Some((tag, bytes, count)) = group {
            body.extend_from_slice(&tag);
            put(body, count);
            body.extend_from_slice(&bytes);
        }
    };
    for entry in entries {
        if group.as_ref().is_none_or(|(tag, ..)| *tag != entry.tag) {
            close(&mut body, group.take());
            group = Some((entry.tag, SmallVec::new(), 0));
        }
        let (_, bytes, count) = group.as_mut().expect("set just above");
        put(bytes, entry.partition as u64);
        put(bytes, entry.offset as u64);
        put(bytes, (entry.epoch + 1) as u64);
        *count += 1;
    }
    close(&mut body, group);
    let mac = mac(key, channel, &body[1 + MAC_BYTES..]);
    body[1..=MAC_BYTES].copy_from_slice(&mac);
    URL_SAFE_NO_PAD.encode(&body)
}

/// Reads a position of `channel` back.
pub fn parse(key: Key, channel: &str, text: &str) -> Result<Position, Refused> {
    if text.len() > POSITION_TEXT_MAX {
        return Err(Refused::Malformed);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Refused::Malformed)?;
    if bytes.len() < 1 + MAC_BYTES || bytes[0] != VERSION {
        return Err(Refused::Malformed);
    }
    let (given, body) = bytes[1..].split_at(MAC_BYTES);
    // Compared as one number: no early exit tells how much of a guess was right.
    if u64::from_le_bytes(given.try_into().expect("eight bytes")) != u64::from_le_bytes(mac(key, channel, body)) {
        return Err(Refused::Forged);
    }
    read_entries(body).ok_or(Refused::Malformed)
}

fn read_entries(mut body: &[u8]) -> Option<Position> {
    let mut position = Position::default();
    while !body.is_empty() {
        let (tag, rest) = body.split_at_checked(8)?;
        body = rest;
        for _ in 0..take(&mut body)? {
            if position.entries.len() >= PARTITIONS_MAX {
                return None;
            }
            position.entries.push(Entry {
                tag: tag.try_into().ok()?,
                partition: i32::try_from(take(&mut body)?).ok()?,
                offset: i64::try_from(take(&mut body)?).ok()?,
                epoch: i32::try_from(take(&mut body)?).ok()?.checked_sub(1)?,
            });
        }
    }
    Some(position)
}

fn mac(key: Key, channel: &str, body: &[u8]) -> [u8; MAC_BYTES] {
    let mut hasher = SipHasher24::new_with_key(&key.0);
    hasher.write(channel.as_bytes());
    hasher.write(&[0xFF]);
    hasher.write(body);
    hasher.finish128().as_bytes()[..MAC_BYTES].try_into().expect("eight of sixteen bytes")
}

fn put<const N: usize>(out: &mut SmallVec<[u8; N]>, mut n: u64)
where
    [u8; N]: smallvec::Array<Item = u8>,
{
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take(body: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = body.split_first()?;
        *body = rest;
        n |= u64::from(byte & 0x7F).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Key = Key([7; 16]);

    fn entry(tag: u8, partition: i32, offset: i64, epoch: i32) -> Entry {
        Entry { tag: [tag; 8], partition, offset, epoch }
    }

    #[test]
    fn an_ordinary_position_is_short() {
        let text = print(KEY, "chat:lobby", [entry(1, 0, 1_000_000, 0)].into_iter());
        assert!(text.len() <= 32, "{text}");
    }

    #[test]
    fn a_position_is_good_for_its_channel_and_secret_only() {
        let text = print(KEY, "a", [entry(1, 0, 10, 0)].into_iter());
        assert_eq!(parse(KEY, "b", &text), Err(Refused::Forged));
        assert_eq!(parse(Key([8; 16]), "a", &text), Err(Refused::Forged));
        assert!(parse(KEY, "a", &text).is_ok());
    }

    #[test]
    fn garbage_is_malformed() {
        for text in ["", "!", "AAAA", "0@12:3", &"A".repeat(POSITION_TEXT_MAX + 1)] {
            assert_eq!(parse(KEY, "a", text), Err(Refused::Malformed), "{text:.20}");
        }
    }

    proptest! {
        #[test]
        fn what_was_printed_is_read_back(
            parts in prop::collection::vec((0u8..3, 0..i32::MAX, 0..i64::MAX, -1..i32::MAX - 1), 0..20)
        ) {
            let mut entries: Vec<_> = parts.iter().map(|&(t, p, o, e)| entry(t, p, o, e)).collect();
            entries.sort_by_key(|e| e.tag);
            let text = print(KEY, "c", entries.iter().copied());
            prop_assert_eq!(parse(KEY, "c", &text).unwrap().entries.to_vec(), entries);
        }

        #[test]
        fn any_changed_bit_is_noticed(offset in 0..i64::MAX, at in 0usize..200) {
            let text = print(KEY, "c", [entry(1, 3, offset, 5)].into_iter());
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            let bit = at % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse(KEY, "c", &URL_SAFE_NO_PAD.encode(&bytes)).is_err());
        }

        #[test]
        fn no_bytes_break_the_reader(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = read_entries(&body);
        }
    }
}
