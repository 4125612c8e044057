//! What every connection is told: whom to speak to, on which wire, and of which channels.

use std::net::SocketAddrV4;
use std::path::Path;

use crate::peer::Peer;
use crate::{Receive, Wire, mqtt};

/// What every connection is told.
pub struct Plan {
    pub address: SocketAddrV4,
    pub wire: Wire,
    pub raw: bool,
    pub channels: u32,
    pub first_channel: u32,
    pub follow: u32,
    /// Where the channels are resumed, all or none.
    since: Vec<Since>,
    /// The server is another than ours.
    pub peer: Option<Peer>,
    /// Of such a server.
    path: Option<String>,
    key: String,
}

impl Plan {
    /// Fails for a number that is none, and a file that cannot be read.
    pub fn new(options: &Receive) -> Result<Self, String> {
        let since = Since::all(options.since.as_deref())?;
        let peer = options.peer.as_ref().map(|_| Peer::new(options));
        let Receive { address, format: wire, raw, channels, first_channel, follow, .. } = *options;
        if !since.is_empty() && wire.coding().is_none() {
            return Err("only over WebSocket is a channel resumed here".into());
        }
        if !since.is_empty() && since.len() != channels as usize {
            return Err(format!("{} positions for {channels} channels", since.len()));
        }
        let (follow, key) = (follow.min(channels), options.key.clone());
        let path = options.peer.clone();
        Ok(Self { address, wire, raw, channels, first_channel, follow, since, peer, path, key })
    }

    /// What a connection begins with; `first_channel` is counted from the first of all.
    pub fn request(&self, first_channel: u32) -> Vec<u8> {
        let Self { address, key, .. } = self;
        let path = match self.wire {
            Wire::Mqtt | Wire::MqttQos1 => return mqtt::connect(key),
            Wire::Events | Wire::Lines => {
                let names = self.names(first_channel).collect::<Vec<_>>().join(",");
                let path = if self.wire == Wire::Events { "sse" } else { "event-stream" };
                return format!("GET /{path}?v=6&key={key}&channels={names} HTTP/1.1\r\nHost: {address}\r\n\r\n")
                    .into();
            }
            Wire::Json => format!("/?key={key}&v=6&format=json&heartbeats=false"),
            Wire::Msgpack => format!("/?key={key}&v=6&format=msgpack&heartbeats=false"),
        };
        let path = self.path.as_ref().unwrap_or(&path);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bm90aGluZyB0byBoaWRlIQ==\r\n\r\n"
        );
        request.into()
    }

    /// The channels of a connection.
    pub fn names(&self, first_channel: u32) -> impl Iterator<Item = String> {
        let (first, channels) = (self.first_channel, self.channels);
        (0..self.follow).map(move |distance| format!("load-{}", first + (first_channel + distance) % channels))
    }

    /// Where the channels of a connection are resumed.
    pub fn since(&self, first_channel: u32) -> impl Iterator<Item = Option<&Since>> {
        (0..self.follow).map(move |distance| self.since.get(((first_channel + distance) % self.channels) as usize))
    }

    /// Whether they are.
    pub fn resumes(&self) -> bool {
        !self.since.is_empty()
    }

    /// What is asked for over MQTT.
    pub fn qos(&self) -> u8 {
        u8::from(self.wire == Wire::MqttQos1)
    }
}

/// A place in a channel.
pub struct Since {
    pub position: String,
    /// Of the first message behind it.
    pub number: u64,
}

impl Since {
    /// Of a file's lines, each `POSITION NUMBER`.
    fn all(file: Option<&Path>) -> Result<Vec<Self>, String> {
        let Some(file) = file else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let parsed = |line: &str| {
            let (position, number) = line.split_once(' ')?;
            Some(Self { position: position.to_owned(), number: number.parse().ok()? })
        };
        text.lines().map(|line| parsed(line).ok_or_else(|| format!("what is `{line}`?"))).collect()
    }
}
