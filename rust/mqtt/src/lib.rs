//! MQTT control packets: what a client sends, cut from its bytes and checked, and what a server answers.
//!
//! - Packets are parsed and printed by `mqtt-protocol-core`. What it lets through and a server must refuse is refused
//!   by [`check`], before and after (MQTT 5.0 §2, §3; MQTT 3.1.1 likewise).
//! - The version is the one that CONNECT names; nothing is heard before that.
//! - A packet's bytes are held until it is whole, and no more than [`Reader`]'s limit; what is wrong with one is told as
//!   soon as its first bytes tell it.
//!
//! No I/O, no clock. Deliveries are not printed here: the engine writes those.

mod check;
mod encode;
mod packet;
mod parse;
mod reader;

pub use encode::{Answer, Greeting, encode};
pub use packet::{Acknowledgement, Connect, Entry, Fault, Kind, Packet, Properties, Publish, Will, reason};
pub use reader::{Reader, Version};
