//! Channels that begin.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::limits::BIRTHS_MAX;

fn born(hub: &Hub) -> Option<String> {
    Some(hub.born()?.join(" "))
}

#[test]
fn what_holds_messages_and_held_none_has_begun_also_if_it_was_known_before() {
    let hub = node(1, 1 << 20);
    let woken = Arc::new(AtomicUsize::new(0));
    let wakes = Arc::clone(&woken);
    let _local = hub.connect_local(Box::new(move || {
        wakes.fetch_add(1, Ordering::Relaxed);
    }));
    put(&hub, 0, 0, "a", 0);
    hub.watch_births(true);
    hub.channel("c", 0); // looked at, and not in use
    put(&hub, 0, 1, "a", 0);
    assert!(!hub.has_births());
    put(&hub, 0, 2, "b", 0);
    put(&hub, 0, 3, "c", 0);
    put(&hub, 0, 4, "c", 0);
    assert!(hub.has_births() && !hub.has_births());
    assert_eq!(woken.load(Ordering::Relaxed), 1, "once until it was asked");
    assert_eq!(born(&hub).as_deref(), Some("b c"));
    hub.channel("a", 0).drop_below(u64::MAX, usize::MAX);
    put(&hub, 0, 5, "a", 0);
    assert_eq!(born(&hub).as_deref(), Some("a"), "whoever looked for what is in use did not find it");
    hub.watch_births(false);
    put(&hub, 0, 6, "d", 0);
    assert_eq!((hub.has_births(), born(&hub).as_deref()), (false, Some("")));
}

#[test]
fn more_than_are_kept_are_told_as_such() {
    let hub = node(1, 256 << 20);
    hub.watch_births(true);
    let names: Vec<_> = (0..=BIRTHS_MAX).map(|number| number.to_string()).collect();
    let records = (0..).zip(&names).map(|(offset, name)| (record(0, offset, name, "v", &[]), Routing::Rules));
    hub.ingest(records, 0);
    assert_eq!(born(&hub), None);
    assert_eq!(born(&hub).as_deref(), Some(""));
}
