//! One client: opens its socket, says what its wire begins with, attaches, then checks what it is sent.
//!
//! Reads go into a buffer that all connections share; a connection keeps only the beginning of a frame whose end has not
//! come. Writes are few and small, and a socket that does not take one whole ends the run.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::clock::monotonic_us;
use crate::frames::{self, Library, Messages, client_frame, split};
use crate::limits::{FRAME_BYTES, PER_ADDRESS, READ_BYTES};
use crate::peer::stamps;
use crate::plan::Plan;
use crate::tally::{Cursor, Tally};
use crate::{Wire, mqtt, stream};

/// What all connections share.
pub struct Shared {
    buffer: Vec<u8>,
    library: Library,
    pub progress: Progress,
}

/// How far all connections are together.
pub struct Progress {
    pub tally: Tally,
    /// A cursor counts as arrived once it gets here.
    pub target: u64,
    /// Cursors that have not.
    pub missing: usize,
}

impl Progress {
    fn moved(&mut self, before: u64, now: u64) {
        self.missing -= usize::from(before < self.target && now >= self.target);
    }
}

impl Shared {
    pub fn new(wire: Wire) -> Self {
        let progress = Progress { tally: Tally::new(), target: 0, missing: 0 };
        Self { buffer: vec![0; FRAME_BYTES + READ_BYTES], library: Library::new(wire), progress }
    }
}

enum State {
    /// Waiting for the head of the response, where there is one.
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
        let first_channel = (index as u64 * u64::from(plan.follow) % u64::from(plan.channels)) as u32;
        if !plan.raw {
            stream.write_all(&plan.request(first_channel))?;
        }
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            state: match plan.wire {
                _ if plan.raw => State::Attached,
                Wire::Mqtt | Wire::MqttQos1 => State::Attaching(0),
                _ => State::Upgrading,
            },
            rest: Vec::new(),
            first_channel,
            cursors: plan.since(first_channel).map(|since| Cursor::at(since.map_or(0, |since| since.number))).collect(),
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
                shared.progress.tally.read();
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
            let before = bytes.len();
            bytes = self.upgraded(bytes, plan)?;
            if bytes.len() < before && matches!(self.state, State::Attached) {
                turn = Turn::Attached; // a stream has its channels once it has begun
            }
        }
        if !matches!(self.state, State::Upgrading) {
            let (rest, came) = match plan.wire {
                Wire::Json | Wire::Msgpack => self.take_frames(bytes, now_us, plan, shared)?,
                Wire::Events | Wire::Lines => self.take_chunks(bytes, now_us, plan, shared)?,
                Wire::Mqtt | Wire::MqttQos1 => self.take_packets(bytes, now_us, plan, shared)?,
            };
            bytes = rest;
            turn = if came == Turn::Nothing { turn } else { came };
        }
        self.rest.clear();
        self.rest.extend_from_slice(bytes);
        if bytes.is_empty() && self.rest.capacity() > READ_BYTES {
            self.rest = Vec::new();
        }
        Ok(turn)
    }

    fn take_frames<'a>(
        &mut self,
        mut bytes: &'a [u8],
        now_us: u64,
        plan: &Plan,
        shared: &mut Shared,
    ) -> Result<(&'a [u8], Turn), String> {
        let mut turn = Turn::Nothing;
        while let Some((opcode, payload, length)) = split(bytes)? {
            bytes = &bytes[length..];
            match opcode {
                frames::PING => self.write(&client_frame(frames::PONG, payload))?,
                frames::PONG => {}
                frames::CLOSE => return Ok((bytes, Turn::Closed)),
                _ if self.answer(payload, plan)? => {}
                _ if matches!(self.state, State::Attached) => self.receive(payload, now_us, plan, shared)?,
                _ if self.attach(payload, plan)? => turn = Turn::Attached,
                _ => {}
            }
        }
        Ok((bytes, turn))
    }

    fn take_chunks<'a>(
        &mut self,
        mut bytes: &'a [u8],
        now_us: u64,
        plan: &Plan,
        shared: &mut Shared,
    ) -> Result<(&'a [u8], Turn), String> {
        while let Some((chunk, length)) = stream::split(bytes)? {
            bytes = &bytes[length..];
            if chunk.is_empty() {
                return Ok((bytes, Turn::Closed));
            }
            self.receive(chunk, now_us, plan, shared)?;
        }
        Ok((bytes, Turn::Nothing))
    }

    fn take_packets<'a>(
        &mut self,
        mut bytes: &'a [u8],
        now_us: u64,
        plan: &Plan,
        shared: &mut Shared,
    ) -> Result<(&'a [u8], Turn), String> {
        let (mut turn, mut acknowledgements) = (Turn::Nothing, Vec::new());
        while let Some(packet) = mqtt::split(bytes)? {
            bytes = &bytes[packet.len()..];
            match packet[0] >> 4 {
                mqtt::PUBLISH if plan.wire == Wire::Mqtt => self.receive(packet, now_us, plan, shared)?,
                mqtt::PUBLISH => {
                    let publish = mqtt::publish(packet)?.expect("its type says so");
                    let packet_id = publish.packet_id.ok_or("a message without a packet identifier")?;
                    acknowledgements.extend_from_slice(&mqtt::puback(packet_id));
                    self.deliver(&publish.messages, packet.len(), now_us, plan, &mut shared.progress)?;
                }
                mqtt::CONNACK if mqtt::is_granted(packet, 0) => {
                    self.write(&mqtt::subscribe(plan.names(self.first_channel), plan.qos()))?;
                }
                mqtt::SUBACK if mqtt::is_granted(packet, plan.qos()) => {
                    self.state = State::Attached;
                    turn = Turn::Attached;
                }
                _ => return Err(format!("refused, or a packet that nobody asked for: {packet:?}")),
            }
        }
        if !acknowledgements.is_empty() {
            self.write(&acknowledgements)?;
        }
        Ok((bytes, turn))
    }

    fn upgraded<'a>(&mut self, bytes: &'a [u8], plan: &Plan) -> Result<&'a [u8], String> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(bytes) };
        let is_stream = plan.wire.coding().is_none();
        if !bytes.starts_with(if is_stream { b"HTTP/1.1 200 " } else { b"HTTP/1.1 101 " }) {
            return Err(format!("refused: {}", String::from_utf8_lossy(bytes)));
        }
        self.state = if is_stream { State::Attached } else { State::Attaching(0) };
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
        let coding = plan.wire.coding().expect("what is attached in frames is over WebSocket");
        let envelope = coding.parse(payload)?;
        match envelope.action {
            frames::CONNECTED => {
                *waiting = plan.follow;
                for (channel, since) in plan.names(self.first_channel).zip(plan.since(self.first_channel)) {
                    self.write(&coding.attach(&channel, since.map(|since| &*since.position)))?;
                }
            }
            frames::ATTACHED if plan.resumes() && envelope.flags & frames::RESUMED == 0 => {
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
        let Shared { library, progress, .. } = shared;
        if plan.peer.is_some() {
            let cursor = &mut self.cursors[0];
            let before = cursor.next;
            let tally = &mut progress.tally;
            if stamps(payload, |sequence, sent_us| tally.message(cursor, sequence, sent_us, now_us))? > 0 {
                tally.frame(payload.len());
            }
            progress.moved(before, cursor.next);
            return Ok(());
        }
        match library.read(payload)? {
            Some(messages) => self.deliver(messages, payload.len(), now_us, plan, progress),
            None => Ok(()),
        }
    }

    fn deliver(
        &mut self,
        messages: &Messages,
        bytes: usize,
        now_us: u64,
        plan: &Plan,
        progress: &mut Progress,
    ) -> Result<(), String> {
        let channel = messages.channel.checked_sub(plan.first_channel).filter(|&channel| channel < plan.channels);
        let distance = channel.map(|channel| (channel + plan.channels - self.first_channel) % plan.channels);
        let wanted = distance.and_then(|distance| self.cursors.get_mut(distance as usize));
        let cursor = wanted.ok_or("messages of a channel that was not asked for")?;
        let before = cursor.next;
        progress.tally.frame(bytes);
        for &(sequence, sent_us) in &messages.stamps {
            progress.tally.message(cursor, sequence, sent_us, now_us);
        }
        progress.moved(before, cursor.next);
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
