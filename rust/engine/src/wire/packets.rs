//! MQTT packets in a frame: whose they are, where they lie, and copies of some of them for one connection.

use std::sync::Arc;

use super::websocket;
use crate::message::Message;

/// One packet of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Where it ends in the frame; it begins where the one before does.
    pub end: u32,
    /// Where its packet id goes; 0 if it has none.
    pub id_at: u32,
    /// Whose packet it is.
    pub of: Of,
}

/// A message in its ring and in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Of {
    /// Its number in the ring.
    pub number: u64,
    /// By its index.
    pub partition: u16,
    /// In there.
    pub offset: i64,
    /// What its packet ids come of: the same on every node.
    seed: u16,
}

/// From here on all packet ids have been.
const IDS: u64 = 65_535;
/// Between the packet ids of partitions, and of attachments, that would be the same otherwise.
const APART: u64 = 8_191;

impl Of {
    /// An entry that has this number.
    pub fn new(number: u64, entry: &Message) -> Self {
        let partition = &entry.partition;
        let of_topic = u64::from_le_bytes(partition.tag) % IDS;
        let seed = (of_topic + partition.number as u64 * APART + entry.offset as u64) % IDS;
        Self { number, partition: partition.index, offset: entry.offset, seed: seed as u16 }
    }

    /// The packet id that it has for the attachment of this number, if no other has it.
    pub fn packet_id(&self, attachment: u32) -> u16 {
        ((u64::from(self.seed) + u64::from(attachment) * APART) % IDS) as u16 + 1
    }
}

/// What lies where in a frame.
#[derive(Debug)]
pub struct Packets {
    /// Where the first one begins.
    pub begin: usize,
    /// In their order.
    pub list: Box<[Packet]>,
    /// Bytes of the largest.
    pub largest: usize,
}

/// It may have been sent before.
const DUP: u8 = 8;

/// Bytes that may yet be put into a WebSocket frame.
#[derive(Debug)]
pub struct Envelope {
    framed: bool,
    /// Behind room for the header, if there will be one.
    pub(super) bytes: Vec<u8>,
}

impl Envelope {
    /// An empty one.
    pub fn with_capacity(framed: bool, content: usize) -> Self {
        let mut bytes = Vec::with_capacity(content + websocket::HEADER_MAX);
        bytes.resize(if framed { websocket::HEADER_MAX } else { 0 }, 0);
        Self { framed, bytes }
    }

    /// Bytes of content.
    pub fn len(&self) -> usize {
        self.bytes.len() - if self.framed { websocket::HEADER_MAX } else { 0 }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a copy of a packet: of `source`, which begins where the packets of a frame do. With an id, if it has room for
    /// one; and marked, if it may have been sent before.
    pub fn copy(&mut self, source: &[u8], begin: usize, packet: &Packet, id: u16, dup: bool) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&source[begin..packet.end as usize]);
        if packet.id_at > 0 {
            let id_at = at + packet.id_at as usize - begin;
            self.bytes[id_at..id_at + 2].copy_from_slice(&id.to_be_bytes());
            self.bytes[at] |= if dup { DUP } else { 0 };
        }
    }

    /// All of it, and where the content begins.
    pub fn close(mut self) -> (Arc<[u8]>, usize) {
        if !self.framed {
            return (self.bytes.into(), 0);
        }
        let (header, size) = websocket::header(websocket::BINARY, self.len());
        let begin = websocket::HEADER_MAX - size;
        self.bytes[begin..websocket::HEADER_MAX].copy_from_slice(&header[..size]);
        (self.bytes[begin..].into(), size)
    }
}
