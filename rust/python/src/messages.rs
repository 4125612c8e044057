//! Messages and presence of the engine as `fanout.types.Message` and `fanout.types.PresenceMessage`.

use fanout_engine::message::{Data, Field, Message};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static ANNOTATION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
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
    message.field(Field::Extras).map(|text| loads(py, text)).transpose()
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
    let more = more(py, message)?;
    let serial = match &more {
        Some(more) => more.get_item("serial")?,
        None => PyString::new(py, &message.serial()).into_any(),
    };
    let version = member(more.as_ref(), "version")?;
    let annotations = member(more.as_ref(), "annotations")?;
    let fields = (
        (channel, message.id(), serial, message.timestamp, data, message.field(Field::Name), encoding),
        (message.field(Field::ClientId), message.field(Field::ConnectionId), extras_of(py, message)?, position),
        (message.action, version, annotations),
    );
    let fields: Vec<Bound<'py, PyAny>> =
        [fields.0.into_pyobject(py)?, fields.1.into_pyobject(py)?, fields.2.into_pyobject(py)?]
            .iter()
            .flat_map(PyTupleMethods::iter)
            .collect();
    imported(py, &CLASS, "fanout.types", "Message")?.call1(PyTuple::new(py, fields)?)
}

/// An annotation as Python sees it.
pub fn annotation_to_python<'py>(py: Python<'py>, channel: &str, annotation: &Message) -> PyResult<Bound<'py, PyAny>> {
    let (data, encoding) = data_of(py, annotation);
    let more = more(py, annotation)?;
    let named = PyDict::new(py);
    named.set_item("channel", channel)?;
    named.set_item("id", annotation.id())?;
    named.set_item("serial", annotation.serial())?;
    named.set_item("timestamp", annotation.timestamp)?;
    named.set_item("action", annotation.action)?;
    named.set_item("message_serial", member(more.as_ref(), "messageSerial")?)?;
    named.set_item("type", member(more.as_ref(), "type")?)?;
    named.set_item("count", member(more.as_ref(), "count")?)?;
    named.set_item("name", annotation.field(Field::Name))?;
    named.set_item("data", data)?;
    named.set_item("encoding", encoding)?;
    named.set_item("client_id", annotation.field(Field::ClientId))?;
    named.set_item("connection_id", annotation.field(Field::ConnectionId))?;
    named.set_item("extras", extras_of(py, annotation)?)?;
    imported(py, &ANNOTATION, "fanout.types", "Annotation")?.call((), Some(&named))
}

fn more<'py>(py: Python<'py>, message: &Message) -> PyResult<Option<Bound<'py, PyAny>>> {
    message.field(Field::More).map(|text| loads(py, text)).transpose()
}

fn loads<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    imported(py, &LOADS, "orjson", "loads")?.call1((text,))
}

fn member<'py>(object: Option<&Bound<'py, PyAny>>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(object) = object else { return Ok(None) };
    object.cast::<PyDict>()?.get_item(name)
}
