//! A client's packets, cut from what it sends.

use crate::check;
use crate::packet::{Fault, Packet, reason};
use crate::parse;

/// The longest head of a packet: its type and the length behind it (MQTT 5.0 §2.1).
const HEAD_MAX: usize = 5;

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

/// Takes one client's bytes in whatever pieces they come and gives out its packets.
#[derive(Debug)]
pub struct Reader {
    held: Vec<u8>,
    at: usize,
    version: Option<Version>,
    limit: usize,
    over: bool,
}

impl Reader {
    /// For a client whose packets have at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { held: Vec::new(), at: 0, version: None, limit, over: false }
    }

    /// Bytes that wait: of packets that are not taken yet, and of one that is not whole.
    pub fn held(&self) -> usize {
        self.held.len() - self.at
    }

    /// Packets may have so many bytes from now on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// What the client speaks, once the head of its CONNECT was read, whatever is wrong with the rest; of one that speaks
    /// something newer, the newest: so it is refused.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Takes what came. Dropped if there was a fault.
    pub fn feed(&mut self, data: &[u8]) {
        if self.over {
            return;
        }
        if self.at > 0 {
            self.held.drain(..self.at);
            self.at = 0;
        }
        self.held.extend_from_slice(data);
    }

    /// The next packet; None if it is not whole yet. After a fault there is no other.
    pub fn take(&mut self) -> Option<Result<Packet, Fault>> {
        if self.over {
            return None;
        }
        let taken = self.cut().transpose()?;
        if taken.is_err() {
            self.over = true;
            self.held = Vec::new();
            self.at = 0;
        } else if self.at == self.held.len() {
            self.held = Vec::new(); // who is idle holds nothing
            self.at = 0;
        }
        Some(taken)
    }

    fn cut(&mut self) -> Result<Option<Packet>, Fault> {
        let data = &self.held[self.at..];
        let Some(&first) = data.first() else { return Ok(None) };
        check::first_byte(first, self.version)?;
        let Some((length, head)) = remaining(data)? else { return Ok(None) };
        let whole = head + length;
        if whole > self.limit {
            return Err(Fault::new(reason::TOO_LARGE, "the packet is too large"));
        }
        if data.len() < whole {
            return Ok(None);
        }
        let body = &data[head..whole];
        let packet = match self.version {
            None => {
                if check::is_later(body) {
                    self.version = Some(Version::V5);
                }
                self.version = Some(if check::connect_head(body)? == 5 { Version::V5 } else { Version::V311 });
                parse::connect(body)?
            }
            Some(Version::V311) => parse::v311(first, body)?,
            Some(Version::V5) => parse::v5(first, body)?,
        };
        self.at += whole;
        Ok(Some(packet))
    }
}

/// The remaining length, and how many bytes the head has; None if more are needed (MQTT 5.0 §1.5.5, §2.1.4).
fn remaining(data: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let mut length = 0;
    for (index, &byte) in data.iter().enumerate().take(HEAD_MAX).skip(1) {
        length |= usize::from(byte & 0x7f) << (7 * (index - 1));
        if byte & 0x80 == 0 {
            if byte == 0 && index > 1 {
                return Err(Fault::malformed("the length is longer than it need be"));
            }
            return Ok(Some((length, index + 1)));
        }
    }
    if data.len() >= HEAD_MAX { Err(Fault::malformed("the length does not end")) } else { Ok(None) }
}

#[cfg(test)]
mod tests;
