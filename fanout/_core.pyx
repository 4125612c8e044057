# cython: language_level=3, freethreading_compatible=True
"""The bridge to the native engine: handles, ownership, error translation, batches in; no policy. See `_core.pyi`.

What happens per batch or per frame goes through the table of C functions, everything else through `fanout._engine`.
A batch of records is walked once: its bytes are borrowed where they lie, in objects that the batch keeps alive, and
the interpreter's lock is free while the engine reads them. While it is walked others have the lock whenever they ask,
every `_HELD_MAX` records and headers.
"""

import hashlib

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_Import
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.stdlib cimport free, realloc

from fanout import _engine
from fanout._engine import (
    DEDUP_WINDOW_MS, Checkpoints, Cursor, Filter, Mqtt, MqttReader, Plan, Replay, give_way, message_serial, mqtt_encode,
    set_prompt, summary_shown,
)
from fanout.types import Record

__all__ = [
    "AHEAD", "CONFLATED", "DEDUP_WINDOW_MS", "FOREIGN", "FRESH", "GAP", "JSON",
    "KIND_ANNOTATIONS", "KIND_MESSAGES", "KIND_META", "KIND_OWN_PRESENCE", "KIND_PRESENCE", "KIND_PUBLISH",
    "KIND_WHOLE_APPENDS", "MQTT", "MQTT_FRAMED", "MQTT_V5", "MSGPACK", "PARTIAL", "RESUMED", "UNREAD",
    "Checkpoints", "Cursor", "Engine", "Filter", "Mqtt", "MqttReader", "Plan", "Replay", "give_way", "headers_of",
    "message_serial", "mqtt_encode", "set_prompt", "summary_shown",
]

JSON, MSGPACK = 0, 1
MQTT, MQTT_V5, MQTT_FRAMED = 16, 1, 2
FRESH, RESUMED, GAP, FOREIGN, AHEAD, CONFLATED, PARTIAL, UNREAD = range(8)
KIND_MESSAGES, KIND_PRESENCE, KIND_ANNOTATIONS, KIND_META, KIND_OWN_PRESENCE, KIND_PUBLISH = 1, 2, 4, 8, 16, 32
KIND_WHOLE_APPENDS = 64

cdef const Table *_table = <const Table *> PyCapsule_Import("fanout._engine._c_api", 0)
if _table.version != 3:
    raise ImportError("fanout's two native modules are of different builds: install it again")

cdef int _SECRET_BYTES_MIN = 16
cdef int _HELD_MAX = 250


def headers_of(message):
    try:
        return message.headers()
    except Exception:
        # A header whose name is not UTF-8, which any producer may write: the client library cannot show one of them.
        return None


cdef inline Slice _bytes(object value):
    """Borrows; None is no bytes."""
    cdef Slice slice
    if value is None:
        slice.ptr, slice.len = NULL, 0
    else:
        # An empty bytes object still points somewhere: empty is not none.
        slice.ptr, slice.len = <const uint8_t *> PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
    return slice


cdef inline Slice _text(object value) except *:
    """Borrows; the text caches its UTF-8."""
    cdef Slice slice
    cdef Py_ssize_t size
    slice.ptr = <const uint8_t *> PyUnicode_AsUTF8AndSize(value, &size)
    slice.len = size
    return slice


cdef class _Batch:
    """Room for the borrowed view of one batch; `alive` holds what is borrowed from."""

    cdef CRecord *records
    cdef Header *headers
    cdef Slice *channels
    cdef size_t record_room, header_room, channel_room
    cdef size_t count, header_count, channel_count, headers_unreadable
    cdef int held  # records and headers, since others could have the lock
    cdef list alive
    cdef object dead_letter_topics, last_topic
    cdef bint is_for_engine
    cdef list topic_facts, dead_letters
    cdef dict facts

    def __cinit__(self, object facts_topics, object dead_letter_topics):
        """`facts` are keys and values by topic, of those topics that have some."""
        self.alive = []
        self.dead_letter_topics = dead_letter_topics
        self.facts = {topic: [] for topic in facts_topics}
        self.dead_letters = []

    def __dealloc__(self):
        free(self.records)
        free(self.headers)
        free(self.channels)

    cdef CRecord *record(self) except NULL:
        if self.count == self.record_room:
            self.record_room = self.record_room * 2 if self.record_room else 64
            self.records = <CRecord *> realloc(self.records, self.record_room * sizeof(CRecord))
            if self.records == NULL:
                raise MemoryError()
        self.count += 1
        return &self.records[self.count - 1]

    cdef int header(self, object name, object value) except -1:
        if self.header_count == self.header_room:
            self.header_room = self.header_room * 2 if self.header_room else 64
            self.headers = <Header *> realloc(self.headers, self.header_room * sizeof(Header))
            if self.headers == NULL:
                raise MemoryError()
        self.headers[self.header_count].name = _text(name)
        self.headers[self.header_count].value = _bytes(value)
        self.header_count += 1
        return 0

    cdef int channel(self, object name) except -1:
        if self.channel_count == self.channel_room:
            self.channel_room = self.channel_room * 2 if self.channel_room else 16
            self.channels = <Slice *> realloc(self.channels, self.channel_room * sizeof(Slice))
            if self.channels == NULL:
                raise MemoryError()
        self.channels[self.channel_count] = _text(name)
        self.channel_count += 1
        return 0

    cdef bint add(self, object item) except -1:
        """Borrows one record: a `Record`, or a confluent-kafka `Message` through its methods. False: it is a fact or a
        dead letter.
        """
        cdef object topic, key, value, headers
        cdef CRecord *record
        self.held += 1
        if self.held > _HELD_MAX:
            self.held = 0
            with nogil:
                pass
        record = self.record()
        if type(item) is Record:
            topic, record.partition, record.offset, record.epoch, record.timestamp, key, value, headers = item
        else:
            topic, key, value = item.topic(), item.key(), item.value()
            try:
                headers = item.headers()
            except Exception:  # as in `headers_of`
                headers = None
                self.headers_unreadable += 1
            epoch = item.leader_epoch()
            record.epoch = -1 if epoch is None else epoch
            record.partition, record.offset, record.timestamp = item.partition(), item.offset(), item.timestamp()[1]
            if isinstance(key, str):
                key = key.encode()
            if isinstance(value, str):
                value = value.encode()
        if topic != self.last_topic:
            self.last_topic = topic
            self.topic_facts = self.facts.get(topic)
            self.is_for_engine = self.topic_facts is None and topic not in self.dead_letter_topics
        if not self.is_for_engine:
            self.count -= 1
            if self.topic_facts is not None:
                self.topic_facts.append((key, value))
            else:
                self.dead_letters.append(item)
            return False
        self.alive.append((topic, key, value, headers))
        record.topic = _text(topic)
        record.key = _bytes(key)
        record.value = _bytes(value)
        record.header_count = 0
        record.channel_count = 0
        record.routed = False
        if headers:
            for name, content in headers:
                if isinstance(content, str):
                    content = content.encode()
                    self.alive.append(content)
                self.header(name, content)
                record.header_count += 1
            self.held += record.header_count
        return True

    cdef int route(self, tuple names) except -1:
        """The router's answer for the record that was added last."""
        cdef CRecord *record = &self.records[self.count - 1]
        record.routed = True
        self.alive.append(names)
        for name in names:
            self.channel(name)
            record.channel_count += 1
        return 0

    cdef void join(self) noexcept:
        """Lets each record point at its own headers and channels, now that their arrays move no more."""
        cdef size_t header = 0, channel = 0, index
        for index in range(self.count):
            self.records[index].headers = self.headers + header
            self.records[index].channels = self.channels + channel
            header += self.records[index].header_count
            channel += self.records[index].channel_count


cdef _Batch _read_back(object records, object router):
    """The view of records that were read back."""
    cdef _Batch view = _Batch((), ())
    for item in records:
        view.add(item)
        if router is not None:
            view.route(router(item))
    view.join()
    return view


@cython.final
cdef class Engine:
    """See `_core.pyi`."""

    def __init__(
        self,
        *,
        int io_threads=1,
        long long history_ms=120_000,
        bytes secret,
        long long max_idle_ms=15_000,
        long long history_bytes=512 << 20,
    ):
        if io_threads < 0:
            raise ValueError("io_threads must not be negative")
        if len(secret) < _SECRET_BYTES_MIN:
            raise ValueError(f"the secret must have at least {_SECRET_BYTES_MIN} bytes")
        key = hashlib.blake2b(secret, digest_size=16, person=b"fanout-position").digest()
        self._rules = ()
        self._dead_letter_topics = frozenset()
        self._take_facts = {}
        self._native = _engine.Engine(io_threads, history_ms, key, max_idle_ms, history_bytes)
        self._address = <const void *> <size_t> self._native.address()

    def rules(self, rules):
        self._rules = tuple(rules)
        self._native.rules(list(self._rules))

    def failures(self, take):
        self._take_failures = take

    def router(self, route):
        self._router = route

    def facts(self, topic, take):
        self._take_facts[topic] = take

    def dead_letters(self, topics, take):
        self._dead_letter_topics, self._take_dead_letters = frozenset(topics), take

    def _has_messages(self, topic):
        return topic not in self._take_facts and topic not in self._dead_letter_topics

    def _bind(self, topic):
        for number, rule in enumerate(self._rules):
            if rule.is_for(topic):
                self._native.bind(topic, number)
                break

    def topic(self, topic, topic_id, partitions, /):
        if self._has_messages(topic):
            self._bind(topic)
            self._native.topic(topic, topic_id, partitions)

    def read_since(self, topic, topic_id, since, /):
        self._native.read_since(topic, topic_id, since)

    def needed(self):
        return self._native.needed()

    def partitions_of(self, channel, /):
        return self._native.partitions_of(channel)

    def partition(self, topic, topic_id, partition, start, /):
        if self._has_messages(topic):
            self._bind(topic)
            self._native.partition(topic, topic_id, partition, start)

    def let_go(self, topic, partition, /):
        self._native.let_go(topic, partition)

    def gone(self, topic, /):
        self._native.gone(topic)

    def progress(self, topic, partition, next_offset, /):
        if self._has_messages(topic):
            self._native.progress(topic, partition, next_offset)

    def records(self, list batch, /):
        cdef _Batch view = _Batch(self._take_facts, self._dead_letter_topics)
        cdef size_t refused
        cdef uint8_t failed = False
        router = self._router
        for item in batch:
            if view.add(item) and router is not None:
                view.route(router(item))
        view.join()
        with nogil:
            refused = _table.ingest(self._address, view.records, view.count, &failed)
        for topic, facts in view.facts.items():
            if facts:
                self._take_facts[topic](facts)
        if view.dead_letters:
            self._take_dead_letters(view.dead_letters)
        if failed:
            failures = self._native.failures()
            if self._take_failures is not None:
                self._take_failures(batch, failures)
        if view.headers_unreadable:
            self._native.headers_unreadable(view.headers_unreadable)
        if refused:
            raise RuntimeError(f"{refused} records are of partitions that were never announced")

    cpdef uint64_t register(self, int fd, int wire, str connection_id, bint heartbeat_frames) except 0:
        cdef uint64_t handle = _table.register_(self._address, fd, wire, _text(connection_id), heartbeat_frames)
        if handle == 0:
            raise OverflowError("the engine has no room for another connection")
        return handle

    cpdef uint64_t register_pipe(self, int wire, str connection_id, bint heartbeat_frames) except 0:
        return self.register(-1, wire, connection_id, heartbeat_frames)

    def take(self, connection, limit):
        return self._native.take(connection, limit)

    cpdef unregister(self, uint64_t connection):
        _table.unregister(self._address, connection)

    cpdef send(self, uint64_t connection, bytes payload, int opcode=0):
        _table.send(self._address, connection, opcode, _bytes(payload))

    cpdef heard(self, uint64_t connection):
        _table.heard(self._address, connection)

    cpdef acked(self, uint64_t connection, uint16_t packet_id):
        _table.acknowledged(self._address, connection, packet_id)

    def window(self, connection, receive_maximum, packet_max):
        self._native.window(connection, receive_maximum, packet_max)

    def packet_id(self, connection):
        return self._native.packet_id(connection)

    def window_free(self, connection):
        self._native.window_free(connection)

    def standing(self, connection, attachment=None):
        return self._native.standing(connection, attachment)

    def finish(self, connection, code=1000, reason=""):
        self._native.finish(connection, code, reason)

    def abort(self, connection):
        self._native.abort(connection)

    def locate(self, channel, serial, rewind_count, rewind_ms, now_ms, /):
        return self._native.locate(channel, serial, rewind_count, rewind_ms, now_ms)

    def filter(self, expression, /):
        return self._native.filter(expression)

    def attach(
        self, connection, attachment, plan, spelling, kinds, echo, reply, *, delta=False, filter=None, mqtt=None
    ):
        self._native.attach(connection, attachment, plan, spelling, kinds, echo, reply, delta, filter, mqtt)

    def regrant(self, connection, attachment, plan, spelling, kinds, echo):
        self._native.regrant(connection, attachment, plan, spelling, kinds, echo)

    def hold(self, connection, attachment, place):
        self._native.hold(connection, attachment, place)

    def sync(self, connection, attachment):
        self._native.sync(connection, attachment)

    def detach(self, connection, attachment, reply):
        self._native.detach(connection, attachment, reply)

    @property
    def event_fd(self):
        return self._native.event_fd

    def events(self):
        return self._native.events()

    @property
    def shard_fd(self):
        return self._native.shard_fd

    def run_shards(self):
        self._native.run_shards()

    def find(self, channel, message_id):
        return self._native.find(channel, message_id)

    def places(self, channel, position):
        return self._native.places(channel, position)

    def unheld(self, channel, position):
        return self._native.unheld(channel, position)

    def entry(self, topic, partition):
        return self._native.entry(topic, partition)

    def doubts(self, channel, position):
        return self._native.doubts(channel, position)

    def saw(self, topic, partition, epoch, first, until):
        self._native.saw(topic, partition, epoch, first, until)

    def position_at(self, channel, places):
        return self._native.position_at(channel, places)

    def held(self, channel, places, start_ms, end_ms, forwards, limits):
        return self._native.held(channel, places, start_ms, end_ms, forwards, limits)

    def blocks(self, channel, topic, partition, start, stop):
        return self._native.blocks(channel, topic, partition, start, stop)

    def decode(self, channel, records):
        cdef _Batch view = _read_back(records, self._router)
        return self._native.decode(channel, <size_t> view.records, view.count)

    def channels_of(self, records):
        cdef _Batch view = _read_back(records, self._router)
        return self._native.channels_of(<size_t> view.records, view.count)

    def replay(self, channel, places):
        return self._native.replay(channel, places)

    def feed(self, replay, records, *, ids_only=False, clock_ms):
        cdef _Batch view = _read_back(records, self._router)
        replay.feed(<size_t> view.records, view.count, ids_only, clock_ms)

    def presence_history(self, channel, start_ms, end_ms, forwards, limit, cursor):
        return self._native.presence_history(channel, start_ms, end_ms, forwards, limit, cursor)

    def presence_topic(self, topic):
        self._native.presence_topic(topic)

    def members(self, channel, client_id, connection_id, cursor, limit):
        return self._native.members(channel, client_id, connection_id, cursor, limit)

    def member(self, channel, connection_id, client_id, /):
        return self._native.member(channel, connection_id, client_id)

    def presence_size(self, channel, /):
        return self._native.presence_size(channel)

    def presence_nodes(self):
        return self._native.presence_nodes()

    def members_of(self, node, limit, /):
        return self._native.members_of(node, limit)

    def message(self, channel, serial):
        return self._native.message(channel, serial)

    def versions(self, channel, serial):
        return self._native.versions(channel, serial)

    def annotations(self, channel, serial):
        return self._native.annotations(channel, serial)

    def lost_at(self, connection, attachment):
        return self._native.lost_at(connection, attachment)

    def cursor(self, channel, since, cursor_id):
        return self._native.cursor(channel, since, cursor_id)

    def cursor_at(self, plan, cursor_id):
        return self._native.cursor_at(plan, cursor_id)

    def position(self, channel):
        return self._native.position(channel)

    def occupancy(self, channel):
        return dict(self._native.occupancy(channel))

    def checkpoints(self, topic):
        return Checkpoints(self._native, topic)

    def inject(self, channel, name, data):
        self._native.inject(channel, name, data)

    def names(self, realm, prefix, after, limit, *, known=False):
        return self._native.names(realm, prefix, after, limit, known)

    def watch_births(self, watched):
        self._native.watch_births(watched)

    def born(self):
        return self._native.born()

    def stats(self):
        return dict(self._native.stats())

    def close(self):
        self._native.close()
