//! Bounds of the load client, with their reasons.

/// Connections of one process: as many descriptors as a process is usually allowed.
pub const CONNECTIONS_MAX: i64 = 60_000;

/// Connections from one source address; an address has some 28,000 ports by default, which others use as well.
pub const PER_ADDRESS: usize = 5_000;

/// Channels in all.
pub const CHANNELS_MAX: i64 = 100_000;

/// Channels of one connection.
pub const FOLLOWED_MAX: i64 = 100;

/// Read at once, whichever connection it is for: the messages of a burst fit.
pub const READ_BYTES: usize = 256 << 10;

/// The longest frame that is taken; the server's own bound is half of it.
pub const FRAME_BYTES: usize = 1 << 20;

/// Frames remembered, so that what thousands of connections receive alike is parsed once: 4 MiB at 16 KiB a frame.
pub const FRAMES_REMEMBERED: usize = 256;

/// Sequence numbers that one cursor waits for out of order; more than these are lost for good.
pub const MISSING_MAX: usize = 1024;

/// A rest between two looks at the sockets when nothing had come, in µs. A client that sleeps in the kernel makes every
/// send to it pay for waking it, 20 to 30 % on loopback, which no remote client would cost the server.
pub const REST_US: u64 = 300;

/// The same once nothing has come for [`AWAKE_MS`]: clients that nobody sends to leave the machine to others.
pub const LONG_REST_US: u64 = 5_000;

/// How long after the last thing that came rests stay short, in ms: longer than between two messages at a low rate.
pub const AWAKE_MS: u64 = 1_000;

/// Commands waiting to be obeyed.
pub const COMMANDS_MAX: usize = 16;

/// Latencies above this many µs count as this: ten minutes.
pub const LATENCY_MAX_US: u64 = 600_000_000;
