//! Records into the engine, nobody listening: what a record costs from its bytes to the ring, and each stage of it.
//!
//! The stages are timed one by one over the same records, so that production code carries no clocks. What is left of the
//! whole when they are taken off is the append: finding the channel, its ring, bookkeeping, announcing, and dropping what
//! is too old or too much.

use std::hint::black_box;

use fanout_engine::dedup::Dedup;
use fanout_engine::hub::{Hub, Routing, Settings};
use fanout_engine::partition::Partitions;
use fanout_engine::record::{Header, Record};
use fanout_engine::route::{Rules, Scratch};
use serde_json::json;

use crate::clock::cpu_ns;
use crate::commands::{answer, lines, numbers};
use crate::{Ingest, Place};

const TOPIC: &str = "bench";
const PARTITIONS: usize = 4;
const HISTORY_MS: i64 = 120_000;
/// Distinct records: enough that they do not all lie in the processor's caches.
const RECORDS: usize = 20_000;

/// What a round reads, again and again, at ever higher offsets.
struct Bench {
    rules: Rules,
    options: Ingest,
    keys: Vec<String>,
    values: Vec<Vec<u8>>,
    ids: Vec<String>,
    headers: Vec<[Header<'static>; 2]>,
    hub: Hub,
    next: u64,
}

/// Prints `{"records":…}`, then obeys until standard input ends.
pub fn run(options: &Ingest) -> Result<(), String> {
    let mut bench = Bench::new(options)?;
    answer(&json!({"records": RECORDS}))?;
    for line in lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("round") => {
                let [records, batch] = numbers(&line, &mut words)?;
                answer(&bench.round(records as usize, (batch as usize).clamp(1, RECORDS)))?;
            }
            _ => return Err(format!("what is `{line}`?")),
        }
    }
    Ok(())
}

impl Bench {
    fn new(options: &Ingest) -> Result<Self, String> {
        let rules = || Rules::new([(TOPIC, &*options.template)]);
        let settings = Settings { key: [7; 16], history_ms: HISTORY_MS, history_bytes: options.history };
        let hub = Hub::new(settings);
        hub.set_rules(rules()?);
        for partition in 0..PARTITIONS {
            hub.assign(TOPIC, [1; 16], partition as i32, 0).map_err(|_| "too many partitions")?;
        }
        let ids: Vec<String> = (0..RECORDS).map(|record| format!("connection{record:08}:{record}:0")).collect();
        // Leaked: records borrow them for as long as the process lasts.
        let headers = ids.iter().map(|id| {
            let id: &'static str = id.clone().leak();
            [
                Header { name: "fanout.type", value: Some(b"text") },
                Header { name: "fanout.id", value: Some(id.as_bytes()) },
            ]
        });
        Ok(Self {
            rules: rules()?,
            options: options.clone(),
            keys: (0..options.channels).map(|channel| format!("load-{channel}")).collect(),
            values: (0..RECORDS).map(|record| value(options, record)).collect(),
            headers: headers.collect(),
            ids,
            hub,
            next: 0,
        })
    }

    fn record(&self, number: u64) -> Record<'_> {
        let at = number as usize % RECORDS;
        Record {
            topic: TOPIC,
            partition: (number as usize / 1000 % PARTITIONS) as i32, // as a broker answers: many of one, then of the next
            offset: number as i64,
            epoch: 0,
            timestamp: number as i64,
            key: Some(self.keys[number as usize % self.keys.len()].as_bytes()),
            value: Some(&self.values[at]),
            headers: if self.options.published { &self.headers[at] } else { &[] },
        }
    }

    fn round(&mut self, records: usize, batch: usize) -> serde_json::Value {
        let numbers = self.next..self.next + records as u64;
        self.next = numbers.end;
        let mut scratch = Scratch::default();
        let rule = self.rules.of(TOPIC).expect("made for it");
        let route = timed(|| {
            for number in numbers.clone() {
                black_box(rule.apply(&self.record(number), &mut scratch)).ok();
            }
        });
        let partition = Partitions::default().assign(TOPIC, [1; 16], 0, 0).expect("the first");
        let message = timed(|| {
            // Kept for a while, as a ring does: memory just freed is cheaper than other memory.
            let mut kept = std::collections::VecDeque::with_capacity(RECORDS);
            for number in numbers.clone() {
                if kept.len() == RECORDS {
                    kept.pop_front();
                }
                kept.push_back(self.record(number).message(partition.clone()));
            }
        });
        let mut ids = Dedup::new([7; 16]);
        let dedup = if self.options.published {
            timed(|| {
                for number in numbers.clone() {
                    let id = &self.ids[number as usize % RECORDS];
                    black_box(ids.observe(
                        "load-0",
                        id,
                        &partition,
                        (number as i64, number as i64),
                        (number as i64, 0),
                    ));
                }
            })
        } else {
            0
        };
        let before = self.hub.stats.messages.get();
        let whole = timed(|| {
            let mut from = numbers.start;
            while from < numbers.end {
                let to = numbers.end.min(from + batch as u64);
                self.hub.ingest((from..to).map(|number| (self.record(number), Routing::Rules)), 0);
                from = to;
            }
        });
        let appended = self.hub.stats.messages.get() - before;
        let gauges: serde_json::Map<_, _> =
            self.hub.gauges().iter().map(|(name, n)| ((*name).into(), json!(n))).collect();
        json!({
            "records": records,
            "appended": appended,
            "ns": {
                "route": route,
                "message": message,
                "dedup": dedup,
                "append": whole.saturating_sub(route + message + dedup),
                "whole": whole,
            },
            "gauges": gauges,
        })
    }
}

fn timed(work: impl FnOnce()) -> u64 {
    let begun = cpu_ns();
    work();
    cpu_ns() - begun
}

/// A value of about the size asked for: text, or JSON with the field `id` at its beginning or end.
fn value(options: &Ingest, record: usize) -> Vec<u8> {
    let payload = options.payload as usize;
    let Some(place) = options.json else {
        return format!("{record} {}", "x".repeat(payload)).into_bytes()[..payload].into();
    };
    let id = format!(r#""id":"user-{}""#, record % 100);
    let others =
        (0..(payload - payload.min(id.len())) / 32).map(|at| format!(r#""f{at}":[{record},{{"t":"some text"}}]"#));
    let members: Vec<String> = match place {
        Place::First => [id].into_iter().chain(others).collect(),
        Place::Last => others.chain([id]).collect(),
    };
    format!("{{{}}}", members.join(",")).into_bytes()
}
