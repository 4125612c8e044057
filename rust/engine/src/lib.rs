//! Channels, positions, rings and frames: everything fanout decides, and nothing it does.
//!
//! This crate takes bytes, times and commands, and returns what to write. It knows no socket, clock, thread or Python,
//! so that it is tested and fuzzed in milliseconds. Reading order, which is the way of a message:
//!
//! 1. [`record`]: what a source delivers, and the message in it; [`kind`]: what else an entry of a ring may be
//! 2. [`route`]: topic to channel name
//! 3. [`hub`]: names to channels, partitions, repeats, what memory holds; [`dedup`], [`partition`] with its
//!    [`epochs`]
//! 4. [`channel`]: one channel's ring, and the frames made of it, by [`filter`] and as [`delta`] for who asks so;
//!    [`position`] says where it stands, by a [`checkpoint`] where that is shorter
//! 5. [`wire`]: the bytes of messages and frames
//! 6. [`shard`]: connections and their cursors; [`outbox`] is what a connection has yet to write
//!
//! Bounds are in [`limits`], counters in [`stats`].

pub mod change;
pub mod channel;
pub mod checkpoint;
pub mod dedup;
pub mod delta;
pub mod envelope;
pub mod epochs;
pub mod feeding;
pub mod filter;
pub mod hub;
pub mod kind;
pub mod limits;
pub mod message;
pub mod outbox;
pub mod partition;
pub mod placing;
pub mod position;
pub mod presence;
pub mod record;
pub mod route;
pub mod shard;
pub mod stats;
pub mod summary;
pub mod wire;
