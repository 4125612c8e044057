//! The class for what is rare.

use std::collections::HashMap;
use std::sync::Arc;

use fanout_engine::channel::Start;
use fanout_engine::filter::Filters;
use fanout_engine::hub::{Found, HeldQuery, MembersQuery, PageQuery, Place, Settings};
use fanout_engine::kind::{Kind, Kinds};
use fanout_engine::limits::{CHANNEL_NAME_MAX, SHARDS_MAX};
use fanout_engine::message::serial;
use fanout_engine::presence::parts;
use fanout_engine::route::Rules;
use fanout_engine::shard::{Event, NewAttachment};
use fanout_engine::summary::Summary;
use fanout_io::port::Command;
use fanout_io::sys::{monotonic_ms, wall_ms};
use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::core::{Core, guarded};
use crate::cursor::Cursor;
use crate::messages::{annotation_to_python, presence_to_python, to_python};
use crate::replay::Replay;
use crate::rules::PyRule;
use crate::table::{Borrowed, CRecord};
use crate::windows::Mqtt;

/// Topic, partition, offset.
pub type Where = (String, i32, i64);

/// Messages, where to go on, floors, whether there are more.
type Held<'py> = (Vec<Bound<'py, PyAny>>, Vec<i64>, Vec<i64>, bool);

/// Where an attachment will start. Used once.
#[pyclass(module = "fanout._engine", frozen)]
pub struct Plan {
    #[pyo3(get)]
    outcome: u8,
    #[pyo3(get)]
    serial: String,
    #[pyo3(get)]
    first: String,
    #[pyo3(get)]
    backlog: usize,
    #[pyo3(get)]
    has_presence: bool,
    unused: Mutex<Option<fanout_engine::hub::Plan>>,
}

impl Plan {
    /// For Python.
    pub fn of(plan: fanout_engine::hub::Plan) -> Self {
        Self {
            outcome: plan.located.outcome as u8,
            serial: plan.serial.clone(),
            first: plan.first().to_owned(),
            backlog: plan.located.backlog,
            has_presence: plan.has_presence,
            unused: Mutex::new(Some(plan)),
        }
    }

    fn taken(&self) -> PyResult<fanout_engine::hub::Plan> {
        self.unused.lock().take().ok_or_else(|| PyValueError::new_err("a plan is used once"))
    }
}

/// Outcome (0 known, 1 yet to be read, 2 unknown), message, time of its whole record, summary, time of that.
type FoundMessage<'py> = (u8, Option<Bound<'py, PyAny>>, i64, Option<String>, i64);

/// A compiled expression of a client's: which messages it wants.
#[pyclass(module = "fanout._engine", frozen)]
pub struct Filter(Arc<fanout_engine::filter::Filter>);

/// The engine. `fanout._core.Engine` is what Python uses.
#[pyclass(module = "fanout._engine", frozen, subclass)]
pub struct Engine {
    pub core: Arc<Core>,
    filters: Filters,
    /// The positions of attachments that are lost, from when that is told until the next events are.
    lost: Mutex<HashMap<(u64, u32), Arc<str>>>,
}

#[pymethods]
impl Engine {
    #[new]
    fn new(
        io_threads: usize,
        history_ms: i64,
        key: [u8; 16],
        max_idle_ms: i64,
        history_bytes: usize,
    ) -> PyResult<Self> {
        if io_threads > SHARDS_MAX {
            return Err(PyValueError::new_err(format!("io_threads must be at most {SHARDS_MAX}")));
        }
        if history_ms < 1 || max_idle_ms < 1000 || history_bytes < 1 << 20 {
            return Err(PyValueError::new_err(
                "history_ms ≥ 1, max_idle_ms ≥ 1000 and history_bytes ≥ 1 MiB are needed",
            ));
        }
        let core = Core::start(Settings { key, history_ms, history_bytes }, io_threads, max_idle_ms);
        let core = Arc::new(core.map_err(|error| PyOSError::new_err(error.to_string()))?);
        Ok(Self { core, filters: Filters::default(), lost: Mutex::default() })
    }

    /// For the table's functions; valid while this object lives.
    fn address(&self) -> usize {
        Arc::as_ptr(&self.core) as usize
    }

    #[expect(clippy::needless_pass_by_value, reason = "made for this call out of Python's list")]
    fn rules(&self, rules: Vec<PyRule>) -> PyResult<()> {
        let rules = Rules::new(rules.iter().map(PyRule::spec));
        self.core.hub.set_rules(rules.map_err(PyValueError::new_err)?);
        Ok(())
    }

    /// The records of this topic follow the rule of this number.
    fn bind(&self, topic: &str, rule: usize) {
        self.core.hub.bind(topic, rule);
    }

    /// Failures that were not taken yet: topic, partition and offset of the record, the rule's number, cause, reason.
    fn failures(&self) -> Vec<(Where, usize, &'static str, String)> {
        let failures = self.core.hub.failures().into_iter();
        failures
            .map(|failed| {
                let place = (failed.topic.into(), failed.partition, failed.offset);
                (place, failed.rule, failed.failure.cause.name(), failed.failure.reason)
            })
            .collect()
    }

    fn topic(&self, topic: &str, topic_id: [u8; 16], partitions: u32) -> PyResult<()> {
        self.core.hub.topic(topic, topic_id, partitions).map_err(|_| PyValueError::new_err("too many partitions"))
    }

    fn read_since(&self, topic: &str, topic_id: [u8; 16], since: Vec<i64>) {
        self.core.hub.read_since(topic, topic_id, since.into());
    }

    /// The same of all channels in use.
    fn needed(&self, py: Python<'_>) -> Vec<(String, i32)> {
        let needed = py.detach(|| guarded(|| self.core.hub.needed()));
        needed.iter().map(|(topic, number)| (topic.to_string(), *number)).collect()
    }

    /// Topics and numbers of the partitions that are known to be a channel's.
    fn partitions_of(&self, channel: &str) -> Vec<(String, i32)> {
        let certain = guarded(|| self.core.hub.partitions().certain(channel));
        certain.iter().map(|(topic, number)| (topic.to_string(), *number)).collect()
    }

    fn partition(&self, topic: &str, topic_id: [u8; 16], partition: i32, start: i64) -> PyResult<()> {
        let assigned = self.core.hub.assign(topic, topic_id, partition, start);
        assigned.map_err(|_| PyValueError::new_err("too many partitions"))
    }

    fn let_go(&self, topic: &str, partition: i32) {
        self.core.hub.let_go(topic, partition);
    }

    fn gone(&self, topic: &str) {
        self.core.hub.gone(topic);
    }

    fn progress(&self, topic: &str, partition: i32, next_offset: i64) {
        self.core.hub.progress(topic, partition, next_offset);
    }

    /// So many records came without the headers that they have.
    fn headers_unreadable(&self, records: u64) {
        self.core.hub.stats.headers_unreadable.add(records);
    }

    #[pyo3(signature = (channel, serial, rewind_count, rewind_ms, now_ms))]
    fn locate(
        &self,
        channel: &str,
        serial: Option<&str>,
        rewind_count: usize,
        rewind_ms: i64,
        now_ms: i64,
    ) -> PyResult<Plan> {
        check_name(channel)?;
        let rewind = match (rewind_count, rewind_ms) {
            (0, 0) => Start::Live,
            (count, ms) => Start::Rewind {
                count: if count == 0 { usize::MAX } else { count },
                since_ms: if ms == 0 { i64::MIN } else { now_ms.saturating_sub(ms) },
            },
        };
        let plan = guarded(|| self.core.hub.locate(channel, serial, rewind, monotonic_ms()));
        Ok(Plan::of(plan))
    }

    /// Makes a replay of a channel from these places on.
    #[expect(clippy::needless_pass_by_value, reason = "made for this call out of Python's list")]
    fn replay(&self, channel: &str, places: Vec<Where>) -> PyResult<Replay> {
        let places = self.found(&places)?;
        let replay = guarded(|| self.core.hub.replay(channel, &places, monotonic_ms()));
        Ok(Replay::new(Arc::clone(&self.core), replay))
    }

    fn filter(&self, expression: &str) -> PyResult<Filter> {
        let compiled = self.filters.compile(expression);
        compiled.map(Filter).map_err(|reason| PyValueError::new_err(reason.to_string()))
    }

    #[expect(clippy::too_many_arguments, reason = "one command, crossed in one call")]
    fn attach(
        &self,
        connection: u64,
        attachment: u32,
        plan: &Plan,
        spelling: &str,
        kinds: u8,
        echo: bool,
        reply: &[u8],
        delta: bool,
        filter: Option<&Filter>,
        mqtt: Option<&Mqtt>,
    ) -> PyResult<()> {
        let mut new = new_attachment(attachment, plan, spelling, kinds, echo)?;
        self.core.hub.count(&new.plan);
        new.delta = delta;
        new.filter = filter.map(|filter| Arc::clone(&filter.0));
        new.subscription = mqtt.and_then(|mqtt| mqtt.of(self, &new.plan.channel.name));
        self.core.command(connection, Command::Attach(connection, new, self.core.framed(connection, reply)));
        Ok(())
    }

    fn regrant(
        &self,
        connection: u64,
        attachment: u32,
        plan: &Plan,
        spelling: &str,
        kinds: u8,
        echo: bool,
    ) -> PyResult<()> {
        let new = new_attachment(attachment, plan, spelling, kinds, echo)?;
        self.core.command(connection, Command::Regrant(connection, new));
        Ok(())
    }

    /// Where an attachment of a stream stands that is yet to begin.
    fn hold(&self, connection: u64, attachment: u32, place: &str) {
        self.core.command(connection, Command::Hold(connection, attachment, place.into()));
    }

    /// Gives an attachment the presence set once more.
    fn sync(&self, connection: u64, attachment: u32) {
        self.core.command(connection, Command::Sync(connection, attachment));
    }

    #[pyo3(signature = (connection, attachment, reply))]
    fn detach(&self, connection: u64, attachment: u32, reply: Option<&[u8]>) {
        let reply = reply.map(|reply| self.core.framed(connection, reply));
        self.core.command(connection, Command::Detach(connection, attachment, reply));
    }

    fn finish(&self, connection: u64, code: u16, reason: String) {
        self.core.command(connection, Command::Finish(connection, code, reason));
    }

    fn take<'py>(&self, py: Python<'py>, connection: u64, limit: usize) -> Option<Bound<'py, PyBytes>> {
        self.core.take(connection, limit).map(|bytes| PyBytes::new(py, &bytes))
    }

    fn abort(&self, connection: u64) {
        self.core.command(connection, Command::Abort(connection));
    }

    #[getter]
    fn event_fd(&self) -> i32 {
        self.core.events.raw_fd()
    }

    fn events(&self) -> Vec<(&'static str, u64, u32)> {
        let mut lost = HashMap::new();
        let happened = self.core.events.take().into_iter().map(|event| match event {
            Event::Lost(connection, attachment, place) => {
                lost.extend(place.map(|place| ((connection, attachment), place)));
                ("lost", connection, attachment)
            }
            Event::Conflated(connection, attachment) => ("conflated", connection, attachment),
            Event::Left(connection, attachment) => ("left", connection, attachment),
            Event::Replayed(replay) => ("replayed", replay, 0),
            Event::Evicted(connection, cause) => ("evicted", connection, cause as u32),
        });
        let filled = self.core.events.take_filled().into_iter().map(|connection| ("write", connection, 0));
        let woken = self.core.woken().into_iter().map(|cursor| ("wake", u64::from(cursor), 0));
        let births = self.core.hub.has_births().then_some(("births", 0, 0));
        let all = happened.chain(filled).chain(woken).chain(births).collect();
        *self.lost.lock() = lost;
        all
    }

    /// Where an attachment stood that is lost, by what was taken of events last.
    fn lost_at(&self, connection: u64, attachment: u32) -> Option<String> {
        self.lost.lock().get(&(connection, attachment)).map(ToString::to_string)
    }

    #[getter]
    fn shard_fd(&self) -> i32 {
        self.core.shard_fd()
    }

    fn run_shards(&self, py: Python<'_>) {
        py.detach(|| guarded(|| self.core.run_shards()));
    }

    fn find(&self, channel: &str, message_id: &str) -> Option<String> {
        self.core.hub.find(channel, message_id, wall_ms())
    }

    /// The places of a position, or how far the node has read.
    #[pyo3(signature = (channel, position))]
    fn places(&self, channel: &str, position: Option<&str>) -> PyResult<Vec<Where>> {
        let places = guarded(|| self.core.hub.places(channel, position));
        let places = places.ok_or_else(|| PyValueError::new_err("the position is not of this channel"))?;
        Ok(places
            .iter()
            .map(|Place { partition, offset }| (partition.topic.to_string(), partition.number, *offset))
            .collect())
    }

    /// The position of places.
    #[expect(clippy::needless_pass_by_value, reason = "made for this call out of Python's list")]
    fn position_at(&self, channel: &str, places: Vec<Where>) -> PyResult<String> {
        let mut places = self.found(&places)?;
        Ok(guarded(|| self.core.hub.print_places(channel, &mut places)))
    }

    /// What memory holds behind some places: messages, where to go on, from where on memory holds all, whether it holds more.
    #[expect(clippy::too_many_arguments, reason = "one question, crossed in one call")]
    #[expect(clippy::needless_pass_by_value, reason = "made for this call out of Python's list")]
    fn held<'py>(
        &self,
        py: Python<'py>,
        channel: &str,
        places: Vec<Where>,
        start_ms: i64,
        end_ms: i64,
        forwards: bool,
        limits: (usize, usize),
    ) -> PyResult<Held<'py>> {
        let places = self.found(&places)?;
        let (limit, limit_bytes) = limits;
        let query = HeldQuery { start_ms, end_ms, forwards, limit, limit_bytes };
        let held = py.detach(|| guarded(|| self.core.hub.held(channel, &places, &query)));
        let messages = held.messages.iter().map(|message| to_python(py, channel, message, ""));
        Ok((messages.collect::<PyResult<_>>()?, held.next, held.floors, held.more))
    }

    /// The ranges of offsets of a partition that may hold a channel.
    fn blocks(
        &self,
        py: Python<'_>,
        channel: &str,
        topic: &str,
        partition: i32,
        start: i64,
        stop: i64,
    ) -> PyResult<Vec<(i64, i64)>> {
        let found = self.core.hub.partitions().find(topic, partition);
        let found = found.ok_or_else(|| PyValueError::new_err("the partition is not read"))?;
        Ok(py.detach(|| guarded(|| self.core.hub.blocks(channel, &found, start, stop))))
    }

    /// The channel's messages among records, None in the place of others; `records` is the address of so many `CRecord`.
    fn decode<'py>(
        &self,
        py: Python<'py>,
        channel: &str,
        records: usize,
        count: usize,
    ) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        let decoded = py.detach(|| {
            guarded(|| {
                // SAFETY: `_core.pyx` keeps them alive for as long as this call lasts.
                let borrowed = unsafe { Borrowed::new(records as *const CRecord, count) };
                self.core.hub.decode(channel, borrowed.iter())
            })
        });
        decoded
            .iter()
            .map(|message| message.as_ref().map(|message| to_python(py, channel, message, "")).transpose())
            .collect()
    }

    #[expect(clippy::too_many_arguments, reason = "one question, crossed in one call")]
    #[pyo3(signature = (channel, start_ms, end_ms, forwards, limit, cursor))]
    fn presence_history<'py>(
        &self,
        py: Python<'py>,
        channel: &str,
        start_ms: i64,
        end_ms: i64,
        forwards: bool,
        limit: usize,
        cursor: Option<&str>,
    ) -> PyResult<(Vec<Bound<'py, PyAny>>, Option<String>)> {
        let query = PageQuery { kind: Kind::Presence, start_ms, end_ms, forwards, limit, cursor, until: None };
        let page = py.detach(|| guarded(|| self.core.hub.page(channel, &query)));
        let page = page.ok_or_else(|| PyValueError::new_err("the cursor is not of this channel"))?;
        let events = page.messages.iter().map(|event| presence_to_python(py, channel, event));
        Ok((events.collect::<PyResult<_>>()?, page.cursor))
    }

    /// The records of this topic make the presence sets.
    fn presence_topic(&self, topic: &str) {
        self.core.hub.presence_topic(topic, wall_ms());
    }

    #[pyo3(signature = (channel, client_id, connection_id, cursor, limit))]
    fn members<'py>(
        &self,
        py: Python<'py>,
        channel: &str,
        client_id: Option<&str>,
        connection_id: Option<&str>,
        cursor: Option<&str>,
        limit: usize,
    ) -> PyResult<(Vec<Bound<'py, PyAny>>, Option<String>)> {
        let query = MembersQuery { client_id, connection_id, cursor, limit };
        let page = py.detach(|| guarded(|| self.core.hub.members(channel, &query)));
        let page = page.ok_or_else(|| PyValueError::new_err("the cursor is none of a page of members"))?;
        let members = page.members.iter().map(|member| presence_to_python(py, channel, member));
        Ok((members.collect::<PyResult<_>>()?, page.cursor))
    }

    /// Id, node and generation of a member.
    fn member(&self, channel: &str, connection_id: &str, client_id: &str) -> Option<(String, String, u64)> {
        let found = guarded(|| self.core.hub.member(channel, connection_id, client_id))?;
        Some((found.0, found.1.to_string(), found.2))
    }

    /// Members of a channel, and the bytes of their client ids, data and extras.
    fn presence_size(&self, channel: &str) -> (usize, usize) {
        guarded(|| self.core.hub.presence_size(channel))
    }

    /// How many members each node answers for.
    fn presence_nodes(&self) -> HashMap<String, usize> {
        let nodes = guarded(|| self.core.hub.presence_nodes());
        nodes.into_iter().map(|(node, members)| (node.to_string(), members)).collect()
    }

    /// Some of a node's members: channel, connection id and client id of each.
    fn members_of(&self, node: &str, limit: usize) -> Vec<(String, String, String)> {
        let members = guarded(|| self.core.hub.members_of(node, limit));
        let split = |(channel, key): &(Arc<str>, Arc<str>)| {
            let (connection_id, client_id) = parts(key);
            (channel.to_string(), connection_id.to_owned(), client_id.to_owned())
        };
        members.iter().map(split).collect()
    }

    /// See [`FoundMessage`].
    fn message<'py>(&self, py: Python<'py>, channel: &str, serial: &str) -> PyResult<FoundMessage<'py>> {
        match guarded(|| self.core.hub.message(channel, serial)) {
            Found::Known(known) => {
                let message = known.message.map(|message| to_python(py, channel, &message, "")).transpose()?;
                Ok((0, message, known.whole_ms, known.summary.map(|summary| summary.state()), known.summary_ms))
            }
            Found::Ahead => Ok((1, None, 0, None, 0)),
            Found::Unknown => Ok((2, None, 0, None, 0)),
        }
    }

    fn versions<'py>(&self, py: Python<'py>, channel: &str, serial: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let versions = guarded(|| self.core.hub.versions(channel, serial));
        versions.iter().map(|message| to_python(py, channel, message, "")).collect()
    }

    fn annotations<'py>(&self, py: Python<'py>, channel: &str, serial: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let annotations = py.detach(|| guarded(|| self.core.hub.annotations(channel, serial)));
        annotations.iter().map(|annotation| annotation_to_python(py, channel, annotation)).collect()
    }

    #[pyo3(signature = (channel, since, cursor_id))]
    fn cursor(&self, channel: &str, since: Option<&str>, cursor_id: u32) -> PyResult<Cursor> {
        check_name(channel)?;
        let plan = guarded(|| self.core.hub.locate(channel, since, Start::Live, monotonic_ms()));
        self.core.hub.count(&plan);
        Ok(Cursor::new(Arc::clone(&self.core), plan, cursor_id))
    }

    /// A cursor where the log was found to be gone on with.
    fn cursor_at(&self, plan: &Plan, cursor_id: u32) -> PyResult<Cursor> {
        let plan = plan.taken()?;
        self.core.hub.count(&plan);
        Ok(Cursor::new(Arc::clone(&self.core), plan, cursor_id))
    }

    fn position(&self, channel: &str) -> PyResult<String> {
        check_name(channel)?;
        Ok(guarded(|| self.core.hub.position(channel, monotonic_ms())))
    }

    /// How many use the channel on this node, by the protocol's names.
    fn occupancy(&self, channel: &str) -> [(&'static str, usize); 8] {
        let count = self.core.hub.occupancy(channel).unwrap_or_default();
        [
            ("connections", count.connections),
            ("publishers", count.publishers),
            ("subscribers", count.subscribers),
            ("presenceConnections", count.presence_connections),
            ("presenceSubscribers", count.presence_subscribers),
            ("presenceMembers", count.presence_members),
            ("watchers", count.watchers),
            ("messages", count.messages),
        ]
    }

    /// Says something to the channel's watchers on this node.
    fn inject(&self, channel: &str, name: &str, data: &str) {
        guarded(|| self.core.hub.inject(channel, name, data, (monotonic_ms(), wall_ms())));
    }

    fn names(&self, py: Python<'_>, realm: &str, prefix: &str, after: &str, limit: usize, known: bool) -> Vec<String> {
        py.detach(|| self.core.hub.names(realm, prefix, after, limit, known)).iter().map(ToString::to_string).collect()
    }

    fn stats(&self) -> Vec<(&'static str, u64)> {
        let mut all = self.core.hub.stats.all();
        all.extend(self.core.hub.gauges());
        all
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.core.stop());
    }
}

impl Engine {
    fn found(&self, places: &[Where]) -> PyResult<Vec<Place>> {
        let find = |(topic, number, offset): &Where| {
            let partition = self.core.hub.partitions().find(topic, *number)?;
            Some(Place { partition, offset: *offset })
        };
        places.iter().map(find).collect::<Option<_>>().ok_or_else(|| PyValueError::new_err("a partition is not read"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.core.stop();
    }
}

fn new_attachment(number: u32, plan: &Plan, spelling: &str, kinds: u8, echo: bool) -> PyResult<NewAttachment> {
    let kinds = Kinds::from_bits(kinds).ok_or_else(|| PyValueError::new_err("kinds has bits without meaning"))?;
    let plan = plan.taken()?;
    let spelling = (*plan.channel.name != *spelling).then(|| spelling.into());
    Ok(NewAttachment { spelling, kinds, echo, ..NewAttachment::plain(number, plan) })
}

fn check_name(channel: &str) -> PyResult<()> {
    if channel.is_empty() || channel.len() > CHANNEL_NAME_MAX {
        return Err(PyValueError::new_err(format!("a channel's name has 1 to {CHANNEL_NAME_MAX} bytes")));
    }
    Ok(())
}

/// The serial of the message at these coordinates.
#[pyfunction]
pub fn message_serial(topic: &str, partition: i32, offset: i64) -> String {
    serial(topic, partition, offset)
}

/// What annotations come to, as clients are shown it: JSON. None where `state` is none.
#[pyfunction]
pub fn summary_shown(state: &str, client_id: Option<&str>) -> Option<String> {
    Summary::read(state).map(|summary| summary.shown(client_id).to_string())
}
