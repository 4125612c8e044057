//! MQTT's control packets as `fanout.packets` has them.

use fanout_mqtt::{
    Acknowledgement, Answer, Connect, Entry, Fault, Greeting, Kind, Packet, Properties, Publish, Reader, Version, Will,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyTuple};

/// The classes of `fanout.packets`, found once.
struct Classes {
    properties: Py<PyAny>,
    will: Py<PyAny>,
    connect: Py<PyAny>,
    publish: Py<PyAny>,
    ack: Py<PyAny>,
    entry: Py<PyAny>,
    subscribe: Py<PyAny>,
    unsubscribe: Py<PyAny>,
    disconnect: Py<PyAny>,
    fault: Py<PyAny>,
    ping: Py<PyAny>,
    auth: Py<PyAny>,
    nothing: Py<PyAny>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

fn classes(py: Python<'_>) -> PyResult<&Classes> {
    CLASSES.get_or_try_init(py, || {
        let module = py.import("fanout.packets")?;
        let found = |name: &str| module.getattr(name).map(Bound::unbind);
        let made = |name: &str| module.getattr(name)?.call0().map(Bound::unbind);
        Ok(Classes {
            properties: found("Properties")?,
            will: found("WillPacket")?,
            connect: found("Connect")?,
            publish: found("Publish")?,
            ack: found("Ack")?,
            entry: found("Entry")?,
            subscribe: found("Subscribe")?,
            unsubscribe: found("Unsubscribe")?,
            disconnect: found("Disconnect")?,
            fault: found("Fault")?,
            ping: made("Ping")?,
            auth: made("Auth")?,
            nothing: made("Properties")?,
        })
    })
}

/// One MQTT client's bytes become packets. Belongs to the event loop.
#[pyclass]
pub struct MqttReader(Reader);

#[pymethods]
impl MqttReader {
    #[new]
    fn new(limit: usize) -> Self {
        Self(Reader::new(limit))
    }

    #[getter]
    fn held(&self) -> usize {
        self.0.held()
    }

    #[getter]
    fn version(&self) -> u8 {
        match self.0.version() {
            None => 0,
            Some(Version::V311) => 4,
            Some(Version::V5) => 5,
        }
    }

    fn set_limit(&mut self, limit: usize) {
        self.0.set_limit(limit);
    }

    fn feed(&mut self, data: &[u8]) {
        self.0.feed(data);
    }

    fn take<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(taken) = self.0.take() else { return Ok(None) };
        let classes = classes(py)?;
        match taken {
            Ok(packet) => heard(py, classes, &packet),
            Err(Fault { reason, text }) => classes.fault.bind(py).call1((reason, text)),
        }
        .map(Some)
    }
}

fn heard<'py>(py: Python<'py>, classes: &Classes, packet: &Packet) -> PyResult<Bound<'py, PyAny>> {
    match packet {
        Packet::Publish(publish) => published(py, classes, publish),
        Packet::Acknowledgement(Acknowledgement { kind, packet_id, reason }) => {
            classes.ack.bind(py).call1((*kind as u8, packet_id, reason))
        }
        Packet::Subscribe { packet_id, entries, identifier } => {
            let entries = entries.iter().map(|entry| entered(py, classes, entry)).collect::<PyResult<Vec<_>>>()?;
            classes.subscribe.bind(py).call1((packet_id, PyTuple::new(py, entries)?, identifier))
        }
        Packet::Unsubscribe { packet_id, filters } => {
            classes.unsubscribe.bind(py).call1((packet_id, PyTuple::new(py, filters)?))
        }
        Packet::Ping => Ok(classes.ping.bind(py).clone()),
        Packet::Auth => Ok(classes.auth.bind(py).clone()),
        Packet::Disconnect { reason, session_expiry } => classes.disconnect.bind(py).call1((reason, session_expiry)),
        Packet::Connect(connect) => connected(py, classes, connect),
    }
}

fn published<'py>(py: Python<'py>, classes: &Classes, publish: &Publish) -> PyResult<Bound<'py, PyAny>> {
    classes.publish.bind(py).call1((
        &publish.topic,
        PyBytes::new(py, &publish.payload),
        publish.qos,
        publish.dup,
        publish.retain,
        publish.packet_id,
        publish.alias,
        said(py, classes, &publish.properties)?,
    ))
}

fn entered<'py>(py: Python<'py>, classes: &Classes, entry: &Entry) -> PyResult<Bound<'py, PyAny>> {
    classes.entry.bind(py).call1((
        &entry.filter,
        entry.qos,
        entry.no_local,
        entry.retain_as_published,
        entry.retain_handling,
    ))
}

fn connected<'py>(py: Python<'py>, classes: &Classes, connect: &Connect) -> PyResult<Bound<'py, PyAny>> {
    let will = connect.will.as_ref().map(|will| willed(py, classes, will)).transpose()?;
    let password = connect.password.as_deref().map(|password| PyBytes::new(py, password));
    classes.connect.bind(py).call1((
        connect.version,
        &connect.client_id,
        connect.clean,
        connect.keep_alive,
        connect.username.as_deref(),
        password,
        will,
        connect.session_expiry,
        connect.receive_maximum,
        connect.packet_maximum,
        connect.authenticates,
        connect.wants_reasons,
    ))
}

fn willed<'py>(py: Python<'py>, classes: &Classes, will: &Will) -> PyResult<Bound<'py, PyAny>> {
    classes.will.bind(py).call1((
        &will.topic,
        PyBytes::new(py, &will.payload),
        will.qos,
        will.retain,
        will.delay,
        said(py, classes, &will.properties)?,
    ))
}

fn said<'py>(py: Python<'py>, classes: &Classes, said: &Properties) -> PyResult<Bound<'py, PyAny>> {
    if *said == Properties::default() {
        return Ok(classes.nothing.bind(py).clone());
    }
    classes.properties.bind(py).call1((
        said.utf8,
        said.expiry,
        said.content_type.as_deref(),
        said.response_topic.as_deref(),
        said.correlation.as_deref().map(|bytes| PyBytes::new(py, bytes)),
        PyTuple::new(py, &said.user)?,
    ))
}

/// How a client is greeted.
#[derive(FromPyObject)]
struct PyConnack {
    present: bool,
    reason: u8,
    session_expiry: Option<u32>,
    receive_maximum: Option<u16>,
    packet_maximum: Option<u32>,
    client_id: Option<String>,
    alias_maximum: Option<u16>,
    keep_alive: Option<u16>,
    no_wildcards: bool,
    no_shared: bool,
}

/// What a retained message is given as.
#[derive(FromPyObject)]
struct PyPublish {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    dup: bool,
    retain: bool,
    packet_id: u16,
    properties: PyProperties,
}

#[derive(FromPyObject)]
struct PyProperties {
    utf8: bool,
    expiry: Option<u32>,
    content_type: Option<String>,
    response_topic: Option<String>,
    correlation: Option<Vec<u8>>,
    user: Vec<(String, String)>,
}

impl From<PyPublish> for Publish {
    fn from(said: PyPublish) -> Self {
        let properties = said.properties;
        Self {
            topic: said.topic,
            payload: said.payload,
            qos: said.qos,
            dup: said.dup,
            retain: said.retain,
            packet_id: said.packet_id,
            alias: 0,
            properties: Properties {
                utf8: properties.utf8,
                expiry: properties.expiry,
                content_type: properties.content_type,
                response_topic: properties.response_topic,
                correlation: properties.correlation,
                user: properties.user,
            },
        }
    }
}

/// The bytes of a server's packet. `ValueError` for what cannot be said.
#[pyfunction]
#[pyo3(signature = (packet, version, text=None, reference=None))]
pub fn mqtt_encode<'py>(
    py: Python<'py>,
    packet: &Bound<'py, PyAny>,
    version: u8,
    text: Option<&str>,
    reference: Option<&str>,
) -> PyResult<Bound<'py, PyBytes>> {
    let version = if version == 5 { Version::V5 } else { Version::V311 };
    let bytes = fanout_mqtt::encode(&answer(packet)?, version, text, reference)
        .map_err(|wrong| PyValueError::new_err(format!("{wrong:?}")))?;
    Ok(PyBytes::new(py, &bytes))
}

fn answer(packet: &Bound<'_, PyAny>) -> PyResult<Answer> {
    let name = packet.get_type().name()?;
    let number = |field: &str| packet.getattr(field)?.extract::<u16>();
    let reason = || packet.getattr("reason")?.extract::<u8>();
    let reasons = || packet.getattr("reasons")?.extract::<Vec<u8>>();
    Ok(match name.to_str()? {
        "Ack" => {
            Answer::Acknowledged { kind: kind(number("kind")?)?, packet_id: number("packet_id")?, reason: reason()? }
        }
        "Ping" => Answer::Ping,
        "Publish" => Answer::Published {
            publish: packet.extract::<PyPublish>()?.into(),
            identifier: packet.getattr("identifier")?.extract()?,
        },
        "Suback" => Answer::Subscribed { packet_id: number("packet_id")?, reasons: reasons()? },
        "Unsuback" => Answer::Unsubscribed { packet_id: number("packet_id")?, reasons: reasons()? },
        "Disconnect" => Answer::Disconnected { reason: reason()? },
        "Connack" => {
            let said: PyConnack = packet.extract()?;
            Answer::Connected {
                present: said.present,
                reason: said.reason,
                greeting: Greeting {
                    session_expiry: said.session_expiry,
                    receive_maximum: said.receive_maximum,
                    packet_maximum: said.packet_maximum,
                    client_id: said.client_id,
                    alias_maximum: said.alias_maximum,
                    keep_alive: said.keep_alive,
                    no_wildcards: said.no_wildcards,
                    no_shared: said.no_shared,
                },
            }
        }
        other => return Err(PyValueError::new_err(format!("a server does not say {other}"))),
    })
}

fn kind(number: u16) -> PyResult<Kind> {
    Ok(match number {
        4 => Kind::Ack,
        5 => Kind::Received,
        6 => Kind::Release,
        7 => Kind::Complete,
        _ => return Err(PyValueError::new_err("no acknowledgement has that number")),
    })
}
