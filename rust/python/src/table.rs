//! The table of C functions: what happens per batch of records or per frame of a client.
//!
//! `fanout/_core.pxd` declares the same types; [`VERSION`] changes with them. Every pointer is borrowed for the call.

use std::ffi::c_void;
use std::slice;

use fanout_engine::envelope::{self, Payload};
use fanout_engine::hub::Routing;
use fanout_engine::record::{Header, Record, time_of};
use fanout_engine::wire::Wire;
use fanout_io::port::Command;
use fanout_io::sys::monotonic_ms;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::core::{Core, framed, guarded};

/// Of the table and the types in it.
pub const VERSION: u32 = 3;

/// Bytes; a null pointer stands for none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CSlice {
    ptr: *const u8,
    len: usize,
}

/// A header; its name is UTF-8.
#[repr(C)]
pub struct CHeader {
    name: CSlice,
    value: CSlice,
}

/// A record.
#[repr(C)]
pub struct CRecord {
    topic: CSlice,
    key: CSlice,
    value: CSlice,
    headers: *const CHeader,
    header_count: usize,
    /// Channels that a router has chosen, UTF-8; looked at if `routed`.
    channels: *const CSlice,
    channel_count: usize,
    offset: i64,
    timestamp: i64,
    partition: i32,
    epoch: i32,
    routed: bool,
}

/// The table.
#[repr(C)]
pub struct Table {
    version: u32,
    ingest: unsafe extern "C" fn(*const Core, *const CRecord, usize, *mut bool) -> usize,
    register: unsafe extern "C" fn(*const Core, i32, u8, CSlice, bool) -> u64,
    unregister: unsafe extern "C" fn(*const Core, u64),
    send: unsafe extern "C" fn(*const Core, u64, u8, CSlice),
    heard: unsafe extern "C" fn(*const Core, u64),
    acknowledged: unsafe extern "C" fn(*const Core, u64, u16),
}

static TABLE: Table = Table { version: VERSION, ingest, register, unregister, send, heard, acknowledged };

/// The table, under the name by which Cython imports it.
pub fn capsule(py: Python<'_>) -> PyResult<Bound<'_, PyCapsule>> {
    let pointer = std::ptr::NonNull::from(&TABLE).cast::<c_void>();
    // SAFETY: the table is static, so it outlives every capsule, and is never written.
    unsafe { PyCapsule::new_with_pointer(py, pointer, c"fanout._engine._c_api") }
}

impl CSlice {
    /// # Safety
    /// `ptr` is null or points to `len` bytes that live and stay as they are for `'a`.
    unsafe fn bytes<'a>(self) -> Option<&'a [u8]> {
        // SAFETY: as promised by the caller.
        (!self.ptr.is_null()).then(|| unsafe { slice::from_raw_parts(self.ptr, self.len) })
    }

    /// # Safety
    /// As for `bytes`.
    unsafe fn text<'a>(self) -> &'a str {
        // SAFETY: as promised by the caller. What is not UTF-8 is no name of anything.
        unsafe { self.bytes() }.and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

/// # Safety
/// `ptr` is null with `count` 0, or points to `count` values that live and stay as they are for `'a`.
unsafe fn array<'a, T>(ptr: *const T, count: usize) -> &'a [T] {
    // SAFETY: as promised by the caller; a null pointer is not made a slice of.
    if count == 0 { &[] } else { unsafe { slice::from_raw_parts(ptr, count) } }
}

/// # Safety
/// `core` comes from `Engine.address` of a living engine; the records are as `CRecord` says; `failed` is written to: whether
/// failures wait to be taken. No GIL is needed.
unsafe extern "C" fn ingest(core: *const Core, records: *const CRecord, count: usize, failed: *mut bool) -> usize {
    guarded(|| {
        // SAFETY: as promised by the caller.
        let core = unsafe { &*core };
        // SAFETY: likewise.
        let borrowed = unsafe { Borrowed::new(records, count) };
        let refused = core.hub.ingest(borrowed.iter(), monotonic_ms());
        // SAFETY: as promised by the caller.
        unsafe { failed.write(core.hub.has_failures()) };
        refused
    })
}

/// Records as the engine takes them, in the place where they lie.
pub struct Borrowed<'a> {
    records: &'a [CRecord],
    headers: Vec<Header<'a>>,
    channels: Vec<&'a str>,
    /// By the record's number: what was in an envelope.
    payloads: Vec<(usize, Payload)>,
}

impl Borrowed<'_> {
    /// # Safety
    /// The records are as `CRecord` says, and stay so for `'a`.
    pub unsafe fn new(records: *const CRecord, count: usize) -> Self {
        // SAFETY: as promised by the caller, for all borrows below.
        let records = unsafe { array(records, count) };
        let mut headers: Vec<Header<'_>> = Vec::new();
        let mut channels: Vec<&str> = Vec::new();
        let mut payloads = Vec::new();
        for (number, record) in records.iter().enumerate() {
            let first = headers.len();
            // SAFETY: likewise.
            unsafe {
                headers.extend(
                    array(record.headers, record.header_count)
                        .iter()
                        .map(|header| Header { name: header.name.text(), value: header.value.bytes() }),
                );
                channels.extend(array(record.channels, record.channel_count).iter().map(|name| name.text()));
                let value = record.value.bytes();
                if let Some(payload) = value.and_then(|value| envelope::payload(value, &headers[first..])) {
                    payloads.push((number, payload));
                }
            }
        }
        Self { records, headers, channels, payloads }
    }

    /// One after the other, each with its own channels if it was routed.
    pub fn iter(&self) -> impl Iterator<Item = (Record<'_>, Routing<'_>)> {
        let (mut headers, mut channels) = (&self.headers[..], &self.channels[..]);
        let mut payloads = self.payloads.iter().peekable();
        self.records.iter().enumerate().map(move |(number, record)| {
            let (own_headers, rest) = headers.split_at(record.header_count);
            headers = rest;
            let (own_channels, rest) = channels.split_at(record.channel_count);
            channels = rest;
            // SAFETY: as promised to `new`.
            let (topic, key, value) = unsafe { (record.topic.text(), record.key.bytes(), record.value.bytes()) };
            let value = match payloads.next_if(|(of, _)| *of == number) {
                Some((_, payload)) => payload.as_deref(),
                None => value,
            };
            let routing = if record.routed { Routing::Given(own_channels) } else { Routing::Rules };
            let record = Record {
                topic,
                partition: record.partition,
                offset: record.offset,
                epoch: record.epoch,
                timestamp: time_of(record.timestamp),
                key,
                value,
                headers: own_headers,
            };
            (record, routing)
        })
    }
}

/// # Safety
/// As for `ingest`; `fd` is a connected, non-blocking socket that stays open until `unregister` has returned, or -1 for
/// a pipe.
unsafe extern "C" fn register(core: *const Core, fd: i32, wire: u8, connection_id: CSlice, frames: bool) -> u64 {
    // SAFETY: as promised by the caller.
    let (core, id) = unsafe { (&*core, connection_id.text()) };
    guarded(|| core.register(fd, Wire::numbered(wire), id, frames))
}

/// # Safety
/// As for `ingest`.
unsafe extern "C" fn unregister(core: *const Core, connection: u64) {
    // SAFETY: as promised by the caller.
    let core = unsafe { &*core };
    guarded(|| core.unregister(connection));
}

/// # Safety
/// As for `ingest`. Opcode 0 stands for that of the connection's wire.
unsafe extern "C" fn send(core: *const Core, connection: u64, opcode: u8, payload: CSlice) {
    // SAFETY: as promised by the caller.
    let (core, payload) = unsafe { (&*core, payload.bytes().unwrap_or_default()) };
    guarded(|| {
        let bytes = if opcode == 0 { core.framed(connection, payload) } else { framed(opcode, payload) };
        core.command(connection, Command::Send(connection, bytes));
    });
}

/// # Safety
/// As for `ingest`.
unsafe extern "C" fn heard(core: *const Core, connection: u64) {
    // SAFETY: as promised by the caller.
    let core = unsafe { &*core };
    guarded(|| core.heard(connection));
}

/// # Safety
/// As for `ingest`.
unsafe extern "C" fn acknowledged(core: *const Core, connection: u64, packet_id: u16) {
    // SAFETY: as promised by the caller.
    let core = unsafe { &*core };
    guarded(|| core.acknowledged(connection, packet_id));
}
