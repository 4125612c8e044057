//! Records that their rules cannot be followed for: counted by their cause, and reported to who does something about them.

use parking_lot::Mutex;

use super::Hub;
use crate::limits::FAILURES_MAX;
use crate::record::Record;
use crate::route::{Cause, Failure, OnFailure, Rule};

/// One record that failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed {
    /// The number of its rule.
    pub rule: usize,
    /// Where it lies.
    pub topic: Box<str>,
    /// Where it lies.
    pub partition: i32,
    /// Where it lies.
    pub offset: i64,
    /// Why.
    pub failure: Failure,
}

/// Those that were not taken yet.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Vec<Failed>>);

impl Hub {
    /// Takes the failures that are to be heard of: of rules that only count them, the first of each cause.
    pub fn failures(&self) -> Vec<Failed> {
        std::mem::take(&mut *self.failures.0.lock())
    }

    /// Whether there are some.
    pub fn has_failures(&self) -> bool {
        !self.failures.0.lock().is_empty()
    }

    /// A record failed its rule.
    #[cold]
    pub(super) fn failed(&self, rule: &Rule, record: &Record<'_>, failure: Failure) {
        let counter = match failure.cause {
            Cause::Key => &self.stats.failed_key,
            Cause::Header => &self.stats.failed_header,
            Cause::Value => &self.stats.failed_value,
            Cause::Field => &self.stats.failed_field,
            Cause::Channel => &self.stats.failed_channel,
            Cause::Decoding => &self.stats.failed_decoding,
            Cause::Misplaced => &self.stats.failed_misplaced,
        };
        counter.add(1);
        if rule.on_failure == OnFailure::Stop {
            rule.stop();
        }
        if !rule.reports(failure.cause) {
            return;
        }
        let mut failures = self.failures.0.lock();
        if failures.len() == FAILURES_MAX {
            return self.stats.failures_untold.add(1);
        }
        let (topic, partition, offset) = (record.topic.into(), record.partition, record.offset);
        failures.push(Failed { rule: rule.number, topic, partition, offset, failure });
    }
}
