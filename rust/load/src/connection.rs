//! One client: opens its socket, upgrades, attaches, then checks what it is sent.
//!
//! Reads go into a buffer that all connections share; a connection keeps only the beginning of a frame whose end has not
//! come. Writes are few and small, and a socket that does not take one whole ends the run.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::clock::monotonic_us;
use crate::frames::{self, Library, client_frame, split};
use crate::limits::{FRAME_BYTES, PER_ADDRESS, READ_BYTES};
use crate::peer::{Peer, stamps};
use crate::tally::{Cursor, Tally};
use crate::{Format, Receive};

/// What every connection is told.
pub struct Plan {
    pub address: SocketAddrV4,
    pub format: Format,
    pub raw: bool,
    pub channels: u32,
    pub first_channel: u32,
    pub follow: u32,
    /// Where every channel is resumed.
    since: Option<Since>,
    /// The server is another than ours.
    peer: Option<Peer>,
    request: Vec<u8>,
}

impl Plan {
    /// Fails for a number that is none.
    pub fn new(options: &Receive) -> Result<Self, String> {
        let since = Since::new(&options.since)?;
        let format = if options.format == Format::Json { "json" } else { "msgpack" };
        let ours = format!("/?key={}&v=6&format={format}&heartbeats=false", options.key);
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bm90aGluZyB0byBoaWRlIQ==\r\n\r\n",
            options.peer.as_ref().unwrap_or(&ours),
            options.address
        );
        let peer = options.peer.as_ref().map(|_| Peer::new(options));
        let Receive { address, format, raw, channels, first_channel, follow, .. } = *options;
        let (follow, request) = (follow.min(channels), request.into_bytes());
        Ok(Self { address, format, raw, channels, first_channel, follow, since, peer, request })
    }
}

/// A place in a channel.
struct Since {
    position: String,
    /// Of the first message behind it.
    number: u64,
}

impl Since {
    fn new(given: &[String]) -> Result<Option<Self>, String> {
        let [position, number] = given else { return Ok(None) };
        let number = number.parse().map_err(|error| format!("--since {position} {number}: {error}"))?;
        Ok(Some(Self { position: position.clone(), number }))
    }
}

/// What all connections share.
pub struct Shared {
    buffer: Vec<u8>,
    pub library: Library,
    pub tally: Tally,
    /// A cursor counts as arrived once it gets here.
    pub target: u64,
    /// Cursors that have not.
    pub missing: usize,
}

impl Shared {
    pub fn new(format: Format) -> Self {
        let (library, tally) = (Library::new(format), Tally::new());
        Self { buffer: vec![0; FRAME_BYTES + READ_BYTES], library, tally, target: 0, missing: 0 }
    }
}

enum State {
    Upgrading,
    /// Waiting to be greeted, then for so many channels.
    Attaching(u32),
    Attached,
}

/// A client.
pub struct Connection {
    stream: TcpStream,
    state: State,
    rest: Vec<u8>,
    /// The first of its channels, counted from the first of all.
    first_channel: u32,
    /// Where it is in its channels, by their distance from its first.
    pub cursors: Box<[Cursor]>,
}

/// What a turn of a connection came to.
#[derive(PartialEq, Eq)]
pub enum Turn {
    Nothing,
    /// It is attached now.
    Attached,
    /// It is gone.
    Closed,
}

impl Connection {
    /// Connects, which on loopback needs no waiting, and asks for the upgrade.
    pub fn open(plan: &Plan, index: usize) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let source = Ipv4Addr::new(127, 0, 1, (index / PER_ADDRESS) as u8 + 1);
        socket.bind(&SocketAddrV4::new(source, 0).into())?;
        // Ends with a reset: thousands of ports that rest after each round would soon be all that there are.
        socket.set_linger(Some(Duration::ZERO))?;
        socket.connect(&plan.address.into())?;
        socket.set_tcp_nodelay(true)?;
        let mut stream = TcpStream::from(socket);
        if !plan.raw {
            stream.write_all(&plan.request)?;
        }
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            state: if plan.raw { State::Attached } else { State::Upgrading },
            rest: Vec::new(),
            first_channel: (index as u64 * u64::from(plan.follow) % u64::from(plan.channels)) as u32,
            cursors: (0..plan.follow)
                .map(|_| Cursor::at(plan.since.as_ref().map_or(0, |since| since.number)))
                .collect(),
        })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads once and takes what is whole.
    pub fn turn(&mut self, plan: &Plan, shared: &mut Shared) -> Result<Turn, String> {
        let mut buffer = std::mem::take(&mut shared.buffer);
        let kept = self.rest.len();
        buffer[..kept].copy_from_slice(&self.rest);
        let turn = match self.stream.read(&mut buffer[kept..kept + READ_BYTES]) {
            Ok(0) => Ok(Turn::Closed),
            Ok(n) => {
                shared.tally.read();
                self.take(&buffer[..kept + n], plan, shared)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(Turn::Nothing),
            Err(_) => Ok(Turn::Closed),
        };
        shared.buffer = buffer;
        turn
    }

    fn take(&mut self, mut bytes: &[u8], plan: &Plan, shared: &mut Shared) -> Result<Turn, String> {
        let now_us = monotonic_us();
        let mut turn = Turn::Nothing;
        if matches!(self.state, State::Upgrading) {
            bytes = self.upgraded(bytes, plan)?;
        }
        if !matches!(self.state, State::Upgrading) {
            while let Some((opcode, payload, length)) = split(bytes)? {
                bytes = &bytes[length..];
                match opcode {
                    frames::PING => self.write(&client_frame(frames::PONG, payload))?,
                    frames::PONG => {}
                    frames::CLOSE => return Ok(Turn::Closed),
                    _ if self.answer(payload, plan)? => {}
                    _ if matches!(self.state, State::Attached) => self.receive(payload, now_us, plan, shared)?,
                    _ if self.attach(payload, plan)? => turn = Turn::Attached,
                    _ => {}
                }
            }
        }
        self.rest.clear();
        self.rest.extend_from_slice(bytes);
        if bytes.is_empty() && self.rest.capacity() > READ_BYTES {
            self.rest = Vec::new();
        }
        Ok(turn)
    }

    fn upgraded<'a>(&mut self, bytes: &'a [u8], plan: &Plan) -> Result<&'a [u8], String> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(bytes) };
        if !bytes.starts_with(b"HTTP/1.1 101 ") {
            return Err(format!("no upgrade: {}", String::from_utf8_lossy(&bytes[..end])));
        }
        self.state = State::Attaching(0);
        for frame in plan.peer.iter().flat_map(|peer| &peer.say) {
            self.write(frame)?;
        }
        Ok(&bytes[end + 4..])
    }

    /// Whether this was a question of a peer's, which is answered now.
    fn answer(&mut self, payload: &[u8], plan: &Plan) -> Result<bool, String> {
        let answer = plan.peer.as_ref().and_then(|peer| peer.answer(payload));
        answer.map_or(Ok(false), |frame| self.write(frame).map(|()| true))
    }

    /// Whether the last channel is attached now.
    fn attach(&mut self, payload: &[u8], plan: &Plan) -> Result<bool, String> {
        let State::Attaching(waiting) = &mut self.state else { return Ok(false) };
        if let Some(peer) = &plan.peer {
            let ready = peer.is_ready(payload);
            if ready {
                self.state = State::Attached;
            }
            return Ok(ready);
        }
        let envelope = plan.format.parse(payload)?;
        match envelope.action {
            frames::CONNECTED => {
                *waiting = plan.follow;
                for distance in 0..plan.follow {
                    let channel = plan.first_channel + (self.first_channel + distance) % plan.channels;
                    let position = plan.since.as_ref().map(|since| &*since.position);
                    self.write(&plan.format.attach(&format!("load-{channel}"), position))?;
                }
            }
            frames::ATTACHED if plan.since.is_some() && envelope.flags & frames::RESUMED == 0 => {
                return Err(format!("not resumed: {}", String::from_utf8_lossy(payload)));
            }
            frames::ATTACHED => {
                *waiting -= 1;
                if *waiting == 0 {
                    self.state = State::Attached;
                    return Ok(true);
                }
            }
            frames::DISCONNECTED | frames::ERROR => {
                return Err(format!("refused: {}", String::from_utf8_lossy(payload)));
            }
            _ => {}
        }
        Ok(false)
    }

    fn receive(&mut self, payload: &[u8], now_us: u64, plan: &Plan, shared: &mut Shared) -> Result<(), String> {
        let Shared { library, tally, .. } = shared;
        let (cursor, before);
        if plan.peer.is_some() {
            cursor = &mut self.cursors[0];
            before = cursor.next;
            if stamps(payload, |sequence, sent_us| tally.message(cursor, sequence, sent_us, now_us))? > 0 {
                tally.frame(payload.len());
            }
        } else {
            let Some(messages) = library.read(payload)? else { return Ok(()) };
            let channel = messages.channel.checked_sub(plan.first_channel).filter(|&channel| channel < plan.channels);
            let distance = channel.map(|channel| (channel + plan.channels - self.first_channel) % plan.channels);
            let wanted = distance.and_then(|distance| self.cursors.get_mut(distance as usize));
            cursor = wanted.ok_or("messages of a channel that was not asked for")?;
            before = cursor.next;
            tally.frame(payload.len());
            for &(sequence, sent_us) in &messages.stamps {
                tally.message(cursor, sequence, sent_us, now_us);
            }
        }
        if before < shared.target && cursor.next >= shared.target {
            shared.missing -= 1;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self.stream.write(bytes) {
            Ok(n) if n == bytes.len() => Ok(()),
            Ok(_) => Err("a socket did not take a small frame whole".into()),
            Err(error) => Err(format!("writing: {error}")),
        }
    }
}
