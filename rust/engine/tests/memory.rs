//! What the rings say that they hold is what the allocator has given for it: the bound on memory rests on that.
//!
//! One test, for the allocator counts for the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use fanout_engine::dedup::Dedup;
use fanout_engine::hub::{Hub, Routing, Settings};
use fanout_engine::limits::{CHANNELS_PER_RECORD_MAX, DEDUP_IDS_MAX};
use fanout_engine::partition::Partitions;
use fanout_engine::record::{Header, Record};

const MESSAGES: usize = 100_000;
/// Records that go to several channels, and their size.
const SHARED: usize = 15_000;
const SHARED_BYTES: usize = 2_000;
const OFF_AT_MOST_PERCENT: usize = 15;
/// What the C library keeps beside each piece.
const PIECE_OVERHEAD: usize = size_of::<usize>();

static HELD: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    fn malloc_usable_size(piece: *mut c_void) -> usize;
}

fn size_of_piece(piece: *mut u8) -> usize {
    // SAFETY: the system's allocator is malloc, and has given this piece.
    unsafe { malloc_usable_size(piece.cast()) + PIECE_OVERHEAD }
}

struct Counting;

// SAFETY: everything is done by the system's allocator; counting does not touch memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as promised by the caller.
        let piece = unsafe { System.alloc(layout) };
        if !piece.is_null() {
            HELD.fetch_add(size_of_piece(piece), Ordering::Relaxed);
        }
        piece
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        HELD.fetch_sub(size_of_piece(piece), Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(piece, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is made, and the bytes that it took.
fn taken<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Ordering::Relaxed);
    let outcome = make();
    (outcome, HELD.load(Ordering::Relaxed) - before)
}

/// Reads records into an engine, `batch` at a time, dealt to the channels in turn. What it says it holds, and what it
/// does, the memory of ids apart, which has a bound of its own.
fn read(channels: usize, batch: usize, published: bool) -> (usize, usize) {
    let names: Vec<String> = (0..channels).map(|channel| format!("channel-{channel}")).collect();
    let ids: Vec<String> = (0..MESSAGES).map(|number| format!("connection{number:08}:{number}:0")).collect();
    let value = [b'x'; 128];
    let settings = Settings { key: [7; 16], history_ms: 120_000, history_bytes: 1 << 30 };
    let hub = Hub::new(settings);
    hub.assign("t", [1; 16], 0, 0).unwrap();
    let ((), held) = taken(|| {
        for first in (0..MESSAGES).step_by(batch) {
            let headers: Vec<[Header<'_>; 3]> = (first..first + batch)
                .map(|number| {
                    [("fanout.type", "text"), ("fanout.id", &*ids[number]), ("fanout.name", "greeting")]
                        .map(|(name, value)| Header { name, value: Some(value.as_bytes()) })
                })
                .collect();
            let given: Vec<[&str; 1]> = (first..first + batch).map(|number| [&*names[number % channels]]).collect();
            let records = (first..first + batch).map(|number| {
                let headers = if published { &headers[number - first][..] } else { &[] };
                let record = Record {
                    topic: "t",
                    partition: 0,
                    offset: number as i64,
                    epoch: -1,
                    timestamp: number as i64,
                    key: None,
                    value: Some(&value),
                    headers,
                };
                (record, Routing::Given(&given[number - first]))
            });
            assert_eq!(hub.ingest(records, 0), 0);
        }
    });
    assert_eq!(hub.stats.messages.get(), MESSAGES as u64);
    let said = hub.gauges().iter().find(|(name, _)| *name == "history_bytes").unwrap().1 as usize;
    if !published {
        return (said, held);
    }
    let partition = Partitions::default().assign("t", [1; 16], 0, 0).unwrap();
    let (_ids, of_ids) = taken(|| {
        let mut seen = Dedup::new([7; 16]);
        for (number, id) in ids.iter().enumerate() {
            let place = (number as i64, number as i64);
            assert!(seen.observe(&names[number % channels], id, &partition, place, (0, 0)).is_none());
        }
        seen
    });
    (said, held - of_ids)
}

/// Reads records into an engine, each of which goes to so many channels. What it says it holds, and what it does.
fn read_shared(channels: usize) -> (usize, usize) {
    let names: Vec<String> = (0..channels).map(|channel| format!("channel-{channel}")).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let value = [b'x'; SHARED_BYTES];
    let hub = Hub::new(Settings { key: [7; 16], history_ms: 120_000, history_bytes: 1 << 30 });
    hub.assign("t", [1; 16], 0, 0).unwrap();
    let ((), held) = taken(|| {
        for first in (0..SHARED).step_by(250) {
            let records = (first..first + 250).map(|offset| {
                let (topic, partition, epoch, timestamp) = ("t", 0, -1, offset as i64);
                let (offset, key, value, headers) = (offset as i64, None, Some(&value[..]), &[][..]);
                let record = Record { topic, partition, offset, epoch, timestamp, key, value, headers };
                (record, Routing::Given(&names))
            });
            assert_eq!(hub.ingest(records, 0), 0);
        }
    });
    assert_eq!(hub.stats.messages.get(), (SHARED * channels) as u64);
    (hub.gauges().iter().find(|(name, _)| *name == "history_bytes").unwrap().1 as usize, held)
}

/// As many ids as two minutes of what the limits promise bring; past the bound the memory stays.
fn read_ids() {
    let partition = Partitions::default().assign("t", [1; 16], 0, 0).unwrap();
    let mut seen = Dedup::new([7; 16]);
    let ((), held) = taken(|| {
        for n in 0..8_000_000 {
            let ms = n / 42;
            assert!(seen.observe("c", &n.to_string(), &partition, (n, ms), (ms, ms)).is_none());
            if n == 4_000_000 {
                assert_eq!((seen.len() as i64, seen.take_forgotten()), (n + 1, 0));
                assert_eq!(seen.find("c", "0", ms).unwrap().offset, 0);
            }
        }
    });
    println!("{} ids: {held} taken", seen.len());
    assert_eq!(seen.len(), DEDUP_IDS_MAX);
    assert_eq!(seen.take_forgotten(), 8_000_000 - DEDUP_IDS_MAX as u64);
    assert!(held <= 61 * DEDUP_IDS_MAX, "{held} taken");
}

#[test]
fn what_the_rings_say_they_hold_is_what_they_take() {
    for (channels, batch, published) in [(1, 1, false), (1, 1_000, false), (100, 1_000, false), (100, 1_000, true)] {
        let (said, held) = read(channels, batch, published);
        let case = format!("{channels} channels, {batch} at a time, published: {published}");
        println!("{case}: {said} said, {held} taken");
        assert!(said.abs_diff(held) * 100 < held * OFF_AT_MOST_PERCENT, "{case}: {said} said, {held} taken");
    }
    for channels in [1, CHANNELS_PER_RECORD_MAX] {
        let (said, held) = read_shared(channels);
        let case = format!("{SHARED} records to {channels} channels each");
        println!("{case}: {said} said, {held} taken");
        assert!(said.abs_diff(held) * 100 < held * OFF_AT_MOST_PERCENT, "{case}: {said} said, {held} taken");
        assert!(held < 2 * SHARED * SHARED_BYTES, "{case}: {held} taken");
    }
    read_ids();
}
