//! A subscriber inside this process.

use std::sync::Arc;

use fanout_engine::channel::{Channel, Located};
use fanout_engine::hub::LOCAL_BIT;
use fanout_engine::kind::Kinds;
use pyo3::exceptions::PyLookupError;
use pyo3::prelude::*;

use crate::core::Core;
use crate::messages::to_python;

/// A place in a channel, or in a replay of it, from which messages are taken. It holds nothing else.
#[pyclass(module = "fanout._engine")]
pub struct Cursor {
    core: Arc<Core>,
    channel: Arc<Channel>,
    place: Located,
    id: u32,
    #[pyo3(get)]
    outcome: u8,
    #[pyo3(get)]
    serial: String,
    /// The last round of its replay in which it was asked.
    said: u64,
    open: bool,
}

impl Cursor {
    pub fn new(core: Arc<Core>, plan: fanout_engine::hub::Plan, id: u32) -> Self {
        plan.channel.attached(Kinds::MESSAGES);
        core.watch(&plan.channel, id);
        let outcome = plan.located.outcome as u8;
        Self { core, channel: plan.channel, place: plan.located, id, outcome, serial: plan.serial, said: 0, open: true }
    }

    /// Goes on live, if it stands at the end of a replay which asks for that; whether it does.
    fn goes_on(&mut self) -> bool {
        let (partitions, had) = (self.core.hub.partitions(), self.place.had.as_deref());
        let Some((live, place)) = self.channel.arrived(self.place.cursor, had, &mut self.said, partitions) else {
            return false;
        };
        live.attached(Kinds::MESSAGES);
        self.core.watch(&live, self.id);
        self.close();
        (self.channel, self.place, self.open) = (live, place, true);
        self.core.hub.stats.replays_handed_over.add(1);
        true
    }
}

#[pymethods]
impl Cursor {
    /// The next messages, oldest first; none when none wait. `LookupError` once when some were dropped before.
    fn take<'py>(&mut self, py: Python<'py>, limit: usize) -> PyResult<Vec<Bound<'py, PyAny>>> {
        // Lowered before looking: what comes after is announced again.
        self.channel.noticed(LOCAL_BIT);
        let core = Arc::clone(&self.core);
        let hub = &core.hub;
        loop {
            let place = &mut self.place;
            place.had.take_if(|had| had.is_past(place.cursor));
            let Some((taken, next)) = self.channel.take(place, limit, hub.key(), hub.partitions()) else {
                *place = Located { cursor: self.channel.base(), ..Located::default() };
                let is_replay = self.channel.live().is_some();
                if is_replay { &hub.stats.replays_left } else { &hub.stats.continuity_lost }.add(1);
                return Err(PyLookupError::new_err("messages were dropped before they were taken"));
            };
            let stuck = next == place.cursor;
            place.cursor = next;
            place.conflates.take_if(|_| next >= self.channel.end());
            if taken.is_empty() && stuck && self.goes_on() {
                continue;
            }
            if !taken.is_empty() || stuck {
                let name = &self.channel.name;
                return taken.iter().map(|taken| to_python(py, name, &taken.message, &taken.position)).collect();
            }
        }
    }

    /// The number of the replay that it is on; 0 if it is live.
    #[getter]
    fn replay(&self) -> u64 {
        if self.channel.live().is_some() { self.channel.id } else { 0 }
    }

    /// Ends the subscription. Idempotent.
    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.channel.detached(Kinds::MESSAGES);
            self.core.unwatch(&self.channel, self.id);
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.close();
    }
}
