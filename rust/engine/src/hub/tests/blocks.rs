//! Which ranges may hold a channel.

use super::*;
use crate::limits::{BLOCK_RECORDS, INDEX_SHARE};

const BLOCK: i64 = BLOCK_RECORDS as i64;

fn ranges(hub: &Hub, channel: &str, number: i32, (start, stop): (i64, i64)) -> Vec<(i64, i64)> {
    hub.blocks(channel, &hub.partitions.find("t", number).unwrap(), start, stop)
}

/// Delivers these offsets of a partition, the key of each by its offset.
fn fill(hub: &Hub, number: i32, offsets: impl Iterator<Item = i64>, key: impl Fn(i64) -> String) {
    let all: Vec<_> = offsets.map(|offset| (offset, key(offset))).collect();
    let records = all.iter().map(|(offset, key)| (record(number, *offset, key, "v", &[]), Routing::Rules));
    assert_eq!(hub.ingest(records, 0), 0);
}

/// One record of `rare` in every tenth block, the others of three channels in turn.
fn key(offset: i64) -> String {
    if offset % (10 * BLOCK) == 17 { "rare".into() } else { format!("often-{}", offset % 3) }
}

#[test]
fn a_channel_is_looked_for_only_where_it_may_be() {
    let hub = node(1, 64 << 20);
    fill(&hub, 0, 0..30 * BLOCK, key);
    assert_eq!(
        ranges(&hub, "rare", 0, (0, 30 * BLOCK)),
        [(0, BLOCK), (10 * BLOCK, 11 * BLOCK), (20 * BLOCK, 21 * BLOCK)]
    );
    assert_eq!(ranges(&hub, "often-1", 0, (0, 30 * BLOCK)), [(0, 30 * BLOCK)]);
    assert_eq!(ranges(&hub, "never", 0, (0, 30 * BLOCK)), []);
    assert_eq!(ranges(&hub, "rare", 0, (5, 10 * BLOCK + 3)), [(5, BLOCK), (10 * BLOCK, 10 * BLOCK + 3)]);
    assert_eq!(ranges(&hub, "rare", 0, (2 * BLOCK, 9 * BLOCK)), []);
    assert_eq!(ranges(&hub, "rare", 0, (7, 7)), []);
}

#[test]
fn what_was_not_read_or_is_being_filled_may_hold_any_channel() {
    let hub = node(0, 64 << 20);
    hub.assign("t", [1; 16], 0, 500).unwrap();
    assert_eq!(ranges(&hub, "never", 0, (0, 900)), [(0, 900)]);
    fill(&hub, 0, 500..500 + BLOCK + 9, key);
    let end = 500 + BLOCK;
    assert_eq!(ranges(&hub, "never", 0, (0, 5000)), [(0, 500), (end, 5000)]);
}

#[test]
fn blocks_cover_offsets_without_records_too() {
    let hub = node(1, 64 << 20);
    fill(&hub, 0, (0..3 * BLOCK).map(|number| 7 * number), key);
    let end = 7 * (3 * BLOCK - 1) + 1;
    assert_eq!(ranges(&hub, "never", 0, (0, end)), []);
    assert_eq!(ranges(&hub, "often-0", 0, (0, end)), [(0, end)]);
}

#[test]
fn partitions_that_take_turns_have_blocks_of_their_own() {
    let hub = node(2, 64 << 20);
    for offset in 0..BLOCK {
        fill(&hub, 0, offset..=offset, |_| "both".into());
        fill(&hub, 1, offset..=offset, |offset| if offset == 3 { "both".into() } else { "other".into() });
    }
    let found = |channel| [0, 1].map(|number| ranges(&hub, channel, number, (0, BLOCK)).len());
    assert_eq!((found("both"), found("other"), found("never")), ([1, 1], [0, 1], [0, 0]));
}

#[test]
fn a_topic_made_anew_is_not_judged_by_what_the_old_one_held() {
    let hub = node(1, 64 << 20);
    fill(&hub, 0, 0..2 * BLOCK, key);
    hub.assign("t", [2; 16], 0, 0).unwrap();
    assert_eq!(ranges(&hub, "never", 0, (0, 2 * BLOCK)), [(0, 2 * BLOCK)]);
}

#[test]
fn a_record_of_many_channels_is_found_in_each() {
    let hub = node(1, 64 << 20);
    let names: Vec<String> = (0..CHANNELS_PER_RECORD_MAX).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let records = (0..BLOCK).map(|offset| (record(0, offset, "k", "v", &[]), Routing::Given(&names)));
    hub.ingest(records, 0);
    for name in names {
        assert_eq!(ranges(&hub, name, 0, (0, BLOCK)), [(0, BLOCK)]);
    }
    assert_eq!(ranges(&hub, "k", 0, (0, BLOCK)), []);
}

#[test]
fn the_index_is_bounded_and_gives_up_the_oldest() {
    let bytes = 1 << 20;
    let hub = node(2, bytes);
    for block in 0..40 {
        fill(&hub, block % 2, (0..BLOCK).map(|n| i64::from(block / 2) * BLOCK + n), |offset| format!("c{offset}"));
        assert!(hub.index_bytes() <= bytes / INDEX_SHARE);
    }
    let end = 20 * BLOCK;
    for number in [0, 1] {
        let [(0, known)] = ranges(&hub, "never", number, (0, end))[..] else { panic!("the oldest may hold any") };
        assert!(known > 0 && known < end && known % BLOCK == 0, "{known}");
        assert_eq!(ranges(&hub, &format!("c{}", end - 1), number, (known, end)), [(end - BLOCK, end)]);
    }
}
