//! Messages and presence of the engine as `fanout.types.Message` and `fanout.types.PresenceMessage`.

use fanout_engine::message::{Data, Field, Message};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString};

static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static PRESENCE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
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

fn data_of<'py, 'm>(py: Python<'py>, message: &'m Message) -> (Option<Bound<'py, PyAny>>, Option<&'m str>) {
    let (data, encoding) = message.data();
    let data = match data {
        Data::None => None,
        Data::Text(text) | Data::Json(text) => Some(PyString::new(py, text).into_any()),
        Data::Binary(bytes) => Some(PyBytes::new(py, bytes).into_any()),
    };
    (data, encoding)
}

fn extras_of<'py>(py: Python<'py>, message: &Message) -> PyResult<Option<Bound<'py, PyAny>>> {
    match message.field(Field::Extras) {
        Some(text) => imported(py, &LOADS, "orjson", "loads")?.call1((text,)).map(Some),
        None => Ok(None),
    }
}

/// The member, or the event of one, as Python sees it.
pub fn presence_to_python<'py>(py: Python<'py>, channel: &str, entry: &Message) -> PyResult<Bound<'py, PyAny>> {
    let (data, encoding) = data_of(py, entry);
    let fields = (
        channel,
        entry.action,
        entry.id(),
        entry.timestamp,
        entry.field(Field::ClientId),
        entry.field(Field::ConnectionId),
        data,
        encoding,
        extras_of(py, entry)?,
    );
    imported(py, &PRESENCE, "fanout.types", "PresenceMessage")?.call1(fields)
}

/// The message as Python sees it.
pub fn to_python<'py>(
    py: Python<'py>,
    channel: &str,
    message: &Message,
    position: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let (data, encoding) = data_of(py, message);
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
        extras_of(py, message)?,
        position,
    );
    imported(py, &CLASS, "fanout.types", "Message")?.call1(fields)
}
