//! Channels that begin.

use pyo3::prelude::*;

use crate::core::guarded;
use crate::engine::Engine;

#[pymethods]
impl Engine {
    fn watch_births(&self, watched: bool) {
        guarded(|| self.core.hub.watch_births(watched));
    }

    /// The names of channels that have begun since the last time; None if there were too many.
    fn born(&self) -> Option<Vec<String>> {
        let names = guarded(|| self.core.hub.born())?;
        Some(names.iter().map(ToString::to_string).collect())
    }
}
