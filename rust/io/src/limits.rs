//! Bounds of the I/O side.

/// Events taken from the kernel at once.
pub const EVENTS_PER_WAIT: usize = 256;

/// How often a shard looks after heartbeats and silent peers, and the first one after what memory holds, in ms.
pub const TICK_MS: i64 = 500;

/// Writes handed to the kernel at once, and so the longest that an owner waits for its descriptor: about 0.5 ms.
pub const WRITES_PER_BATCH: usize = 64;

/// Fewer than these are not worth a batch: a system call each is as cheap.
pub const RING_WRITES_MIN: usize = 16;

/// Commands waiting for a shard thread. Past that the sender waits for the shard, which needs microseconds for each.
pub const COMMANDS_MAX: usize = 1 << 16;

/// What a pipe holds for the loop to take: as much as a socket that is written to in the default sizes of its buffer.
pub const PIPE_BYTES: usize = 64 << 10;

/// A shard that could not write to a pipe is called back when so much of it is free.
pub const PIPE_ROOM: usize = PIPE_BYTES / 2;

/// Connections of one process: far above any descriptor limit met, and it fits a handle's 32 bits.
pub const CONNECTIONS_MAX: usize = 1 << 24;
