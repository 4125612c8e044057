//! What every connection is told: whom to speak to, on which wire, and of which channels.

use std::net::SocketAddrV4;

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
    /// Where every channel is resumed.
    pub since: Option<Since>,
    /// The server is another than ours.
    pub peer: Option<Peer>,
    /// Of such a server.
    path: Option<String>,
    key: String,
}

impl Plan {
    /// Fails for a number that is none.
    pub fn new(options: &Receive) -> Result<Self, String> {
        let since = Since::new(&options.since)?;
        let peer = options.peer.as_ref().map(|_| Peer::new(options));
        let Receive { address, format: wire, raw, channels, first_channel, follow, .. } = *options;
        if since.is_some() && wire.coding().is_none() {
            return Err("only over WebSocket is a channel resumed here".into());
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
    fn new(given: &[String]) -> Result<Option<Self>, String> {
        let [position, number] = given else { return Ok(None) };
        let number = number.parse().map_err(|error| format!("--since {position} {number}: {error}"))?;
        Ok(Some(Self { position: position.clone(), number }))
    }
}
