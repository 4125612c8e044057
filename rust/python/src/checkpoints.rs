//! Checkpoints, as Python writes them and reads them back.

use std::sync::Arc;

use fanout_engine::hub::Unknown;
use fanout_io::sys::monotonic_ms;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyLookupError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::core::{Core, guarded};
use crate::engine::Engine;

/// Those of an engine.
#[pyclass(module = "fanout._engine", frozen)]
pub struct Checkpoints(Arc<Core>);

#[pymethods]
impl Checkpoints {
    /// The records of this topic are checkpoints.
    #[new]
    fn new(engine: &Engine, topic: &str) -> Self {
        engine.core.hub.checkpoint_topic(topic);
        Self(Arc::clone(&engine.core))
    }

    /// The next one's value, if it is time for that.
    fn next<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let value = py.detach(|| guarded(|| self.0.hub.checkpoint(monotonic_ms())));
        value.map(|value| PyBytes::new(py, &value))
    }

    /// The position without a checkpoint, or the number of the checkpoint that has to be read back for that.
    fn whole<'py>(&self, py: Python<'py>, channel: &str, position: &str) -> PyResult<Bound<'py, PyAny>> {
        match guarded(|| self.0.hub.whole(channel, position)) {
            Ok(whole) => whole.into_bound_py_any(py),
            Err(Unknown::Unread(number)) => number.into_bound_py_any(py),
            Err(Unknown::Ahead) => Err(PyLookupError::new_err("its checkpoint has not been read yet")),
            Err(Unknown::Foreign) => Err(PyValueError::new_err("the position is not of this channel")),
        }
    }

    /// This record of their topic was read back.
    fn recall(&self, number: i64, epoch: i32, value: &[u8]) {
        guarded(|| self.0.hub.recall((number, epoch), value, monotonic_ms()));
    }
}
