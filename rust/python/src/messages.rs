//! A message of the engine as a `fanout.types.Message`.

use fanout_engine::message::{Data, Field, Message};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString};

static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn imported<'py>(
    py: Python<'py>,
    cell: &PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let found = cell.get_or_try_init(py, || PyResult::Ok(py.import(module)?.getattr(name)?.unbind()))?;
    Ok(found.bind(py).clone())
}

/// The message as Python sees it.
pub fn to_python<'py>(
    py: Python<'py>,
    channel: &str,
    message: &Message,
    position: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let (data, encoding) = message.data();
    let data = match data {
        Data::None => None,
        Data::Text(text) | Data::Json(text) => Some(PyString::new(py, text).into_any()),
        Data::Binary(bytes) => Some(PyBytes::new(py, bytes).into_any()),
    };
    let extras = match message.field(Field::Extras) {
        Some(text) => Some(imported(py, &LOADS, "orjson", "loads")?.call1((text,))?),
        None => None,
    };
    let fields = (
        channel,
        message.id(),
        message.serial(),
        message.timestamp,
        data,
        message.field(Field::Name),
        encoding,
        message.field(Field::ClientId),
        message.field(Field::ConnectionId),
        extras,
        position,
    );
    imported(py, &CLASS, "fanout.types", "Message")?.call1(fields)
}
