//! Where a channel stands in the log, in a form that a client can carry and cannot invent.
//!
//! ```text
//! text   base64url, no padding, of:
//!   1 byte    version: 1, or 2 where a checkpoint says most of it
//!   8 bytes   MAC: SipHash-2-4-128 under the node secret over the channel's name, 0xFF (of version 2: 0xFE) and the
//!             rest, cut
//!   only 2    the checkpoint: 8 bytes tag of its topic, number, leader epoch + 1
//!   rest      for each topic: 8 bytes tag, count, then for each partition number, next offset, leader epoch + 1
//!             (counts and numbers as LEB128)
//! ```
//!
//! `0xFF` and `0xFE` occur in no UTF-8 text, so name and rest cannot be shifted against each other. Version 2 lists
//! the partitions of which the checkpoint (`checkpoint.rs`) says something else, or nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip128::{Hasher128, SipHasher24};
use smallvec::SmallVec;
use std::hash::Hasher;

use crate::epochs::Judged;
use crate::limits::{PARTITIONS_MAX, POSITION_TEXT_MAX};
use crate::partition::{Partition, TopicTag};

const WHOLE: u8 = 1;
const DIFFERING: u8 = 2;
const MAC_BYTES: usize = 8;

/// Bytes of a position or a checkpoint, before they are text or a record.
pub type Body = SmallVec<[u8; 128]>;

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

impl Entry {
    /// Topic and partition.
    pub fn place(&self) -> (TopicTag, i32) {
        (self.tag, self.partition)
    }
}

/// A position, read back from a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// One entry per partition, in the order of their places.
    pub entries: SmallVec<[Entry; 4]>,
}

impl Position {
    /// That of these entries.
    pub fn of(mut entries: SmallVec<[Entry; 4]>) -> Self {
        entries.sort_by_key(Entry::place);
        Self { entries }
    }

    /// The entry of a partition.
    pub fn entry(&self, partition: &Partition) -> Option<&Entry> {
        let at = self.entries.binary_search_by_key(&(partition.tag, partition.number), Entry::place).ok()?;
        Some(&self.entries[at])
    }

    /// The next offset to read of a partition, and whether nothing is missing before it: where the log was cut below, it
    /// goes on there. A partition that the position does not know was added later, or came with a rule: all of it is news
    /// since it is read for clients.
    pub fn place_in(&self, partition: &Partition) -> (i64, bool) {
        let Some(entry) = self.entry(partition) else { return (partition.since(), true) };
        match partition.judge(entry) {
            Judged::Sound => (entry.offset, true),
            Judged::Doubtful => (entry.offset, false),
            Judged::Cut(offset) => (offset, false),
        }
    }
}

/// A checkpoint as positions refer to it. The same number in another epoch is another one: the log was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Of the topic of checkpoints.
    pub tag: TopicTag,
    /// Its offset there.
    pub number: i64,
    /// Its leader epoch, -1 where unknown.
    pub epoch: i32,
}

/// A text that was read back: a position, once what its checkpoint says is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// The checkpoint, if it refers to one.
    pub base: Option<Base>,
    /// What it says itself.
    pub entries: SmallVec<[Entry; 4]>,
}

impl Text {
    /// The position: of each partition what the text says, else what the checkpoint does.
    pub fn position(mut self, checkpoint: &[Entry]) -> Position {
        let own = self.entries.len();
        self.entries.sort_by_key(Entry::place);
        for entry in checkpoint {
            if self.entries[..own].binary_search_by_key(&entry.place(), Entry::place).is_err() {
                self.entries.push(*entry);
            }
        }
        Position::of(self.entries)
    }

    /// Prints it again.
    pub fn print(mut self, key: Key, channel: &str) -> String {
        self.entries.sort_unstable_by_key(Entry::place);
        print(key, channel, self.base.as_ref(), self.entries.into_iter())
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

/// Prints the position of `channel`: these entries, which must be grouped by topic, and what a checkpoint says beside them.
pub fn print(key: Key, channel: &str, base: Option<&Base>, entries: impl Iterator<Item = Entry>) -> String {
    let mut body = Body::new();
    let version = if base.is_none() { WHOLE } else { DIFFERING };
    body.push(version);
    body.extend_from_slice(&[0; MAC_BYTES]);
    if let Some(base) = base {
        body.extend_from_slice(&base.tag);
        put(&mut body, base.number as u64);
        put(&mut body, (base.epoch + 1) as u64);
    }
    write(&mut body, entries);
    let mac = mac(key, channel, version, &body[1 + MAC_BYTES..]);
    body[1..=MAC_BYTES].copy_from_slice(&mac);
    URL_SAFE_NO_PAD.encode(&body)
}

/// Reads a position of `channel` back.
pub fn parse(key: Key, channel: &str, text: &str) -> Result<Text, Refused> {
    if text.len() > POSITION_TEXT_MAX {
        return Err(Refused::Malformed);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Refused::Malformed)?;
    if bytes.len() < 1 + MAC_BYTES || !matches!(bytes[0], WHOLE | DIFFERING) {
        return Err(Refused::Malformed);
    }
    let (version, (given, body)) = (bytes[0], bytes[1..].split_at(MAC_BYTES));
    // Compared as one number: no early exit tells how much of a guess was right.
    let mac = mac(key, channel, version, body);
    if u64::from_le_bytes(given.try_into().expect("eight bytes")) != u64::from_le_bytes(mac) {
        return Err(Refused::Forged);
    }
    read_text(version, body).ok_or(Refused::Malformed)
}

fn read_text(version: u8, mut body: &[u8]) -> Option<Text> {
    let mut base = None;
    if version == DIFFERING {
        let (tag, rest) = body.split_at_checked(8)?;
        body = rest;
        base = Some(Base {
            tag: tag.try_into().ok()?,
            number: i64::try_from(take(&mut body)?).ok()?,
            epoch: i32::try_from(take(&mut body)?).ok()?.checked_sub(1)?,
        });
    }
    Some(Text { base, entries: read(body)? })
}

/// Appends entries, which must be grouped by topic.
pub fn write(body: &mut Body, entries: impl Iterator<Item = Entry>) {
    let mut group: Option<(TopicTag, SmallVec<[u8; 96]>, u64)> = None;
    let close = |body: &mut Body, group: Option<(TopicTag, SmallVec<[u8; 96]>, u64)>| {
        if let Some((tag, bytes, count)) = group {
            body.extend_from_slice(&tag);
            put(body, count);
            body.extend_from_slice(&bytes);
        }
    };
    for entry in entries {
        if group.as_ref().is_none_or(|(tag, ..)| *tag != entry.tag) {
            close(body, group.take());
            group = Some((entry.tag, SmallVec::new(), 0));
        }
        let (_, bytes, count) = group.as_mut().expect("set just above");
        put(bytes, entry.partition as u64);
        put(bytes, entry.offset as u64);
        put(bytes, (entry.epoch + 1) as u64);
        *count += 1;
    }
    close(body, group);
}

/// What [`write`] has written; None if it has not.
pub fn read(mut body: &[u8]) -> Option<SmallVec<[Entry; 4]>> {
    let mut entries = SmallVec::new();
    while !body.is_empty() {
        let (tag, rest) = body.split_at_checked(8)?;
        body = rest;
        for _ in 0..take(&mut body)? {
            if entries.len() >= PARTITIONS_MAX {
                return None;
            }
            entries.push(Entry {
                tag: tag.try_into().ok()?,
                partition: i32::try_from(take(&mut body)?).ok()?,
                offset: i64::try_from(take(&mut body)?).ok()?,
                epoch: i32::try_from(take(&mut body)?).ok()?.checked_sub(1)?,
            });
        }
    }
    Some(entries)
}

fn mac(key: Key, channel: &str, version: u8, body: &[u8]) -> [u8; MAC_BYTES] {
    let mut hasher = SipHasher24::new_with_key(&key.0);
    hasher.write(channel.as_bytes());
    hasher.write(&[0xFF - (version - WHOLE)]);
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

    const BASE: Base = Base { tag: [9; 8], number: 700_000, epoch: 3 };

    fn whole(channel: &str, entries: &[Entry]) -> String {
        print(KEY, channel, None, entries.iter().copied())
    }

    #[test]
    fn an_ordinary_position_is_short() {
        let text = whole("chat:lobby", &[entry(1, 0, 1_000_000, 0)]);
        assert!(text.len() <= 32, "{text}");
    }

    #[test]
    fn by_a_checkpoint_it_is_short_however_many_partitions_there_are() {
        let quiet = print(KEY, "chat:lobby", Some(&BASE), std::iter::empty());
        let fed = print(KEY, "chat:lobby", Some(&BASE), [entry(1, 63, 1_000_000, 3)].into_iter());
        assert!(quiet.len() <= 30 && fed.len() <= 50, "{quiet} {fed}");
    }

    #[test]
    fn a_checkpoint_says_what_the_position_does_not() {
        let own = [entry(1, 2, 50, 1), entry(2, 0, 7, 0)];
        let text = parse(KEY, "c", &print(KEY, "c", Some(&BASE), own.into_iter())).unwrap();
        assert_eq!(text.base, Some(BASE));
        let checkpoint = [entry(1, 0, 10, 1), entry(1, 2, 40, 1), entry(3, 0, 9, 0)];
        assert_eq!(text.position(&checkpoint).entries.to_vec(), [checkpoint[0], own[0], own[1], checkpoint[2]]);
    }

    #[test]
    fn a_position_is_good_for_its_channel_and_secret_only() {
        let text = whole("a", &[entry(1, 0, 10, 0)]);
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
            let text = parse(KEY, "c", &whole("c", &entries)).unwrap();
            prop_assert_eq!(text.base, None);
            entries.sort_by_key(Entry::place);
            prop_assert_eq!(text.position(&[]).entries.to_vec(), entries);
        }

        #[test]
        fn any_changed_bit_is_noticed(offset in 0..i64::MAX, at in 0usize..400, by_base in any::<bool>()) {
            let text = print(KEY, "c", by_base.then_some(&BASE), std::iter::once(entry(1, 3, offset, 5)));
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            let bit = at % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse(KEY, "c", &URL_SAFE_NO_PAD.encode(&bytes)).is_err());
        }

        #[test]
        fn one_form_is_not_taken_for_the_other(number in 0..i64::MAX) {
            let text = print(KEY, "c", Some(&Base { number, ..BASE }), std::iter::empty());
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            bytes[0] = WHOLE;
            prop_assert_eq!(parse(KEY, "c", &URL_SAFE_NO_PAD.encode(&bytes)), Err(Refused::Forged));
        }

        #[test]
        fn no_bytes_break_the_reader(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = read_text(WHOLE, &body);
            let _ = read_text(DIFFERING, &body);
        }
    }
}
