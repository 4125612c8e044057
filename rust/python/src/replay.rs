//! What the log holds of a channel behind some place, as Python reads it back for those who were away too long.

use std::sync::Arc;

use fanout_engine::hub::{Place, Wanted};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::core::{Core, guarded};
use crate::engine::Plan;
use crate::table::{Borrowed, CRecord};

/// Topic, partition, place, goal.
type Goal = (String, i32, i64, i64);

/// See the module's text. Ends with the last reference at the latest.
#[pyclass(module = "fanout._engine", frozen)]
pub struct Replay {
    core: Arc<Core>,
    #[expect(clippy::struct_field_names, reason = "the other's name is its own")]
    replay: fanout_engine::hub::Replay,
    ended: std::sync::Once,
}

impl Replay {
    pub fn new(core: Arc<Core>, replay: fanout_engine::hub::Replay) -> Self {
        Self { core, replay, ended: std::sync::Once::new() }
    }
}

#[pymethods]
impl Replay {
    /// By which events name it.
    #[getter]
    fn id(&self) -> u64 {
        self.replay.channel.id
    }

    /// Attachments on it.
    #[getter]
    fn attachments(&self) -> usize {
        self.replay.channel.attachments()
    }

    /// Of the last round: how many stand at the end, and how many of those could not go on live.
    #[getter]
    fn answers(&self) -> (usize, usize) {
        self.replay.channel.answers()
    }

    /// Bytes that it holds.
    #[getter]
    fn bytes(&self) -> usize {
        self.replay.channel.bytes()
    }

    /// Where a position lies in it.
    fn locate(&self, serial: &str) -> Plan {
        Plan::of(guarded(|| self.core.hub.locate_replayed(&self.replay, serial)))
    }

    /// `records` is the address of so many `CRecord`.
    fn feed(&self, py: Python<'_>, records: usize, count: usize, ids_only: bool, clock_ms: i64) {
        py.detach(|| {
            guarded(|| {
                // SAFETY: `_core.pyx` keeps them alive for as long as this call lasts.
                let borrowed = unsafe { Borrowed::new(records as *const CRecord, count) };
                self.core.hub.feed(&self.replay, borrowed.iter(), ids_only, clock_ms);
            });
        });
    }

    fn advance(&self, topic: &str, partition: i32, next: i64) -> PyResult<()> {
        let partition = self.core.hub.partitions().find(topic, partition);
        let partition = partition.ok_or_else(|| PyValueError::new_err("a partition is not read"))?;
        guarded(|| self.core.hub.advance_replay(&self.replay, &Place { partition, offset: next }));
        Ok(())
    }

    /// None if it cannot go on.
    fn wanted(&self, margin: i64) -> Option<Vec<Goal>> {
        let wanted = guarded(|| self.core.hub.wanted(&self.replay, margin))?;
        let listed = |Wanted { place, goal }: &Wanted| {
            (place.partition.topic.to_string(), place.partition.number, place.offset, *goal)
        };
        Some(wanted.iter().map(listed).collect())
    }

    fn ask(&self, hands_over: bool) {
        guarded(|| self.core.hub.ask_replay(&self.replay, hands_over));
    }

    fn drop_to(&self, bytes: usize) {
        guarded(|| self.core.hub.drop_replayed(&self.replay, bytes));
    }

    /// Idempotent.
    fn end(&self) {
        self.ended.call_once(|| guarded(|| self.core.hub.end_replay(&self.replay)));
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.end();
    }
}
