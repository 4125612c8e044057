//! The hands of the engine: threads that write what its shards decide onto sockets that somebody else owns.
//!
//! Four rules make it safe to write to a socket whose other half belongs to an event loop:
//!
//! 1. One writer: once a socket is registered, everything that goes out on it goes through its shard.
//! 2. A descriptor is used only under its socket's lock and while that is open; [`Sockets::unregister`] takes the same
//!    lock, so after it has returned the descriptor is never touched again, whatever it is by then.
//! 3. Nothing here closes a descriptor. To end a connection it is shut down; the loop sees that and closes.
//! 4. Descriptors stay non-blocking, and no write is left behind in the kernel (no asynchronous sends).
//!
//! A connection that the loop writes itself has no socket here, but a [`pipe`] that the loop takes from.
//!
//! [`socket`] holds rule 2, [`port`] is how the loop speaks to a shard, [`submit`] how writes reach the kernel, [`driver`]
//! runs a shard. [`sched`] is whose turn it is on a core.

pub mod driver;
pub mod limits;
pub mod pipe;
pub mod port;
pub mod sched;
pub mod socket;
pub mod submit;
pub mod sys;

pub use driver::{Driver, Happened};
pub use pipe::Pipe;
pub use port::{Command, Port};
pub use socket::{Socket, Sockets};
pub use submit::Submit;
