//! The engine without sockets: records in, frames to subscribers, every byte "written" at once and thrown away.
//!
//! What is left is the engine's own work: routing, the ring, encoding, cursors, outboxes.

use std::sync::Arc;
use std::time::Instant;

use fanout_engine::channel::Start;
use fanout_engine::hub::{Hub, Inbox, Routing, Settings};
use fanout_engine::limits::IOVECS_MAX;
use fanout_engine::record::Record;
use fanout_engine::route::Rules;
use fanout_engine::shard::{NewAttachment, NewConnection, Shard};
use fanout_engine::wire::Wire;
use fanout_io::sys::monotonic_ms;
use serde_json::{Value, json};

use crate::clock::cpu_ns;
use crate::commands::{answer, lines, numbers};
use crate::{Coding, Engine};

const TOPIC: &str = "bench";
/// As a node is configured by default; no round is so long that a message grows old.
const HISTORY_MS: i64 = 120_000;
const HISTORY_BYTES: usize = 512 << 20;
/// As the shards of a node do it.
const SWEEP_MS: i64 = 500;

struct Bench {
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    shard: Shard,
    names: Vec<String>,
    value: Vec<u8>,
    next: u64,
    swept_ms: i64,
}

/// Sets up, prints `{"attached":…}`, then obeys until standard input ends.
pub fn run(options: &Engine) -> Result<(), String> {
    let mut bench = Bench::new(options)?;
    answer(&json!({"attached": options.subscribers}))?;
    for line in lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("round") => {
                let [messages, batch] = numbers(&line, &mut words)?;
                answer(&bench.round(messages, batch.max(1))?)?;
            }
            _ => return Err(format!("what is `{line}`?")),
        }
    }
    Ok(())
}

impl Bench {
    fn new(options: &Engine) -> Result<Self, String> {
        let hub = Arc::new(Hub::new(Settings { key: [7; 16], history_ms: HISTORY_MS, history_bytes: HISTORY_BYTES }));
        hub.set_rules(Rules::new([(TOPIC, "#{key}")])?);
        hub.assign(TOPIC, [1; 16], 0, 0).map_err(|_| "too many partitions")?;
        let inbox = hub.connect(Box::new(|| ())); // this thread looks by itself
        let mut shard = Shard::new(Arc::clone(&hub), inbox.bit(), 15_000);
        let names: Vec<String> = (0..options.channels).map(|channel| format!("load-{channel}")).collect();
        let wire = if options.format == Coding::Json { Wire::Json } else { Wire::Msgpack };
        let now = monotonic_ms();
        for (index, name) in (0..options.subscribers).zip(names.iter().cycle()) {
            let handle = 1 << 32 | u64::from(index);
            let connection_id = format!("connection-{index}").into();
            shard.register(NewConnection { handle, wire, connection_id, heartbeat_frames: false }, now);
            let plan = hub.locate(name, None, Start::Live, now);
            let attachment = NewAttachment::plain(1, plan);
            shard.attach(handle, attachment, b"attached"[..].into());
        }
        let value = vec![b'x'; options.payload as usize];
        let mut bench = Self { hub, inbox, shard, names, value, next: 0, swept_ms: now };
        bench.write()?;
        Ok(bench)
    }

    /// Publishes so many messages, so many at a time, dealt to the channels in turn.
    fn round(&mut self, messages: u64, batch: u64) -> Result<Value, String> {
        let before = self.counts();
        let (cpu, begun) = (cpu_ns(), Instant::now());
        let mut bytes = 0;
        let end = self.next + messages;
        while self.next < end {
            let from = self.next;
            self.next = end.min(from + batch);
            self.ingest(from..self.next);
            for channel in self.inbox.take() {
                self.shard.flush(&channel);
            }
            bytes += self.write()?;
        }
        let (cpu, wall) = (cpu_ns() - cpu, begun.elapsed().as_nanos() as u64);
        let (deliveries, frames) = (self.counts().0 - before.0, self.counts().1 - before.1);
        Ok(json!({"deliveries": deliveries, "frames": frames, "bytes": bytes, "cpu_ns": cpu, "wall_ns": wall}))
    }

    /// Deliveries and frames so far.
    fn counts(&self) -> (u64, u64) {
        (self.hub.stats.deliveries.get(), self.hub.stats.frames.get())
    }

    fn ingest(&mut self, offsets: std::ops::Range<u64>) {
        let now = monotonic_ms();
        let (value, names) = (&self.value, &self.names);
        let records = offsets.map(|offset| {
            let record = Record {
                topic: TOPIC,
                partition: 0,
                offset: offset as i64,
                epoch: 0,
                timestamp: now,
                key: Some(names[offset as usize % names.len()].as_bytes()),
                value: Some(value),
                headers: &[],
            };
            (record, Routing::Rules)
        });
        self.hub.ingest(records, now);
        if now - self.swept_ms > SWEEP_MS {
            self.swept_ms = now;
            self.hub.sweep(now);
        }
    }

    /// Takes what every connection is to be written; how many bytes it was.
    fn write(&mut self) -> Result<u64, String> {
        let now = monotonic_ms();
        let mut bytes = 0;
        loop {
            self.shard.begin_pass();
            while let Some(handle) = self.shard.next_ready() {
                let outbox = self.shard.outbox(handle).ok_or("a connection is ready that does not exist")?;
                let offered = outbox.slices(IOVECS_MAX).map(<[u8]>::len).sum();
                bytes += offered as u64;
                self.shard.wrote(handle, offered, offered, now);
            }
            if !self.shard.has_more() {
                return Ok(bytes);
            }
        }
    }
}
