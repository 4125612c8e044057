//! What was received, against what should have been: per channel of each connection the numbers rise by one.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::limits::{LATENCY_MAX_US, MISSING_MAX};

/// Where one connection is in one channel.
#[derive(Debug)]
pub struct Cursor {
    /// The next number.
    pub next: u64,
    /// Numbers that were jumped over.
    missing: Vec<u64>,
}

impl Cursor {
    /// Of one who has all below this number.
    pub fn at(next: u64) -> Self {
        Self { next, missing: Vec::new() }
    }
}

/// Counts and latencies of all connections together.
pub struct Tally {
    deliveries: u64,
    frames: u64,
    bytes: u64,
    reads: u64,
    latency: Histogram<u64>,
    // What went wrong is never forgotten.
    lost: u64,
    doubled: u64,
    reordered: u64,
    closed: u64,
}

impl Tally {
    pub fn new() -> Self {
        let latency = Histogram::new_with_max(LATENCY_MAX_US, 2).expect("the bounds are in order");
        Self { deliveries: 0, frames: 0, bytes: 0, reads: 0, latency, lost: 0, doubled: 0, reordered: 0, closed: 0 }
    }

    /// A message came.
    pub fn message(&mut self, cursor: &mut Cursor, sequence: u64, sent_us: u64, now_us: u64) {
        self.deliveries += 1;
        self.latency.saturating_record(now_us.saturating_sub(sent_us));
        if sequence == cursor.next {
            cursor.next += 1;
        } else {
            self.astray(cursor, sequence);
        }
    }

    #[cold]
    fn astray(&mut self, cursor: &mut Cursor, sequence: u64) {
        if sequence > cursor.next {
            self.lost += sequence - cursor.next;
            let room = MISSING_MAX - cursor.missing.len();
            cursor.missing.extend((cursor.next..sequence).take(room));
            cursor.next = sequence + 1;
        } else if let Some(at) = cursor.missing.iter().position(|&missing| missing == sequence) {
            cursor.missing.swap_remove(at);
            self.lost -= 1;
            self.reordered += 1;
        } else {
            self.doubled += 1;
        }
    }

    /// A frame of messages came.
    pub fn frame(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
    }

    /// A socket was read.
    pub fn read(&mut self) {
        self.reads += 1;
    }

    /// A connection ended.
    pub fn closed(&mut self) {
        self.closed += 1;
    }

    /// Everything since the last report; what went wrong since the start.
    pub fn report(&mut self) -> Value {
        let report = json!({
            "deliveries": self.deliveries, "frames": self.frames, "bytes": self.bytes, "reads": self.reads,
            "lost": self.lost, "doubled": self.doubled, "reordered": self.reordered, "closed": self.closed,
            "p50_us": self.latency.value_at_quantile(0.5), "p99_us": self.latency.value_at_quantile(0.99),
            "max_us": self.latency.max(), "mean_us": self.latency.mean(), "stdev_us": self.latency.stdev(),
        });
        (self.deliveries, self.frames, self.bytes, self.reads) = (0, 0, 0, 0);
        self.latency.reset();
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_and_late_is_counted_apart() {
        let mut tally = Tally::new();
        let mut cursor = Cursor::at(0);
        for (sequence, sent) in [(0, 10), (1, 20), (4, 30), (3, 40), (1, 50), (4, 60)] {
            tally.message(&mut cursor, sequence, sent, 110);
        }
        let report = tally.report();
        for (what, count) in [("deliveries", 6), ("lost", 1), ("reordered", 1), ("doubled", 2), ("max_us", 100)] {
            assert_eq!(report[what], count, "{what}");
        }
        assert_eq!(report["mean_us"], 75.0);
        assert_eq!(cursor.next, 5);
        let report = tally.report();
        assert_eq!((&report["deliveries"], &report["lost"]), (&0.into(), &1.into()));
    }

    #[test]
    fn a_wide_gap_is_counted_and_not_remembered_whole() {
        let mut tally = Tally::new();
        let mut cursor = Cursor::at(0);
        tally.message(&mut cursor, 5_000_000, 0, 0);
        tally.message(&mut cursor, 6_000_000, 0, 0);
        assert_eq!(tally.report()["lost"], 5_999_999);
        assert!(cursor.missing.len() <= MISSING_MAX);
    }
}
