//! Pages of what memory holds.

use super::*;

fn query(forwards: bool, limit: usize) -> PageQuery<'static> {
    PageQuery { kind: Kind::Message, start_ms: 0, end_ms: i64::MAX, forwards, limit, cursor: None, until: None }
}

#[test]
fn pages_join_without_gap_or_repeat_in_both_directions() {
    let hub = node(1, 1 << 20);
    (0..25).for_each(|offset| put(&hub, 0, offset, "c", 0));
    for forwards in [true, false] {
        let mut cursor: Option<String> = None;
        let mut seen = Vec::new();
        loop {
            let page = hub.page("c", &PageQuery { cursor: cursor.as_deref(), ..query(forwards, 10) }).unwrap();
            seen.extend(page.messages.iter().map(|message| message.offset));
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        let mut expected: Vec<i64> = (0..25).collect();
        if !forwards {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
}

#[test]
fn goes_on_behind_a_message_that_was_dropped_meanwhile() {
    let hub = node(1, 1 << 20);
    (0..10).for_each(|offset| put(&hub, 0, offset, "c", offset * 100));
    hub.sweep(HISTORY_MS + 301);
    let offsets = |cursor, forwards| {
        let page = hub.page("c", &PageQuery { cursor: Some(cursor), ..query(forwards, 10) }).unwrap();
        page.messages.iter().map(|message| message.offset).collect::<Vec<_>>()
    };
    assert_eq!(offsets("t:0:2", true), [4, 5, 6, 7, 8, 9]);
    assert_eq!(offsets("t:0:2", false), [0; 0]);
}

#[test]
fn a_dropped_place_has_all_that_is_held_behind_it_whatever_partition_it_is_of() {
    let hub = node(2, 1 << 20);
    put(&hub, 0, 0, "c", 0);
    (0..3).for_each(|offset| put(&hub, 1, offset, "c", 500));
    hub.sweep(HISTORY_MS + 1);
    let page = hub.page("c", &PageQuery { cursor: Some("t:0:0"), ..query(true, 10) }).unwrap();
    assert_eq!(page.messages.len(), 3);
}

#[test]
fn ends_at_a_position_and_at_times() {
    let hub = node(1, 1 << 20);
    put(&hub, 0, 0, "c", 0);
    let until = hub.position("c", 0);
    put(&hub, 0, 1, "c", 0);
    let page = hub.page("c", &PageQuery { until: Some(&until), ..query(false, 10) }).unwrap();
    assert_eq!(page.messages.len(), 1);
    let page = hub.page("c", &PageQuery { start_ms: 1, end_ms: 1, ..query(false, 10) }).unwrap();
    assert_eq!(page.messages[0].offset, 1);
}

#[test]
fn a_foreign_cursor_is_refused_and_an_unknown_channel_is_empty() {
    let hub = node(1, 1 << 20);
    for cursor in ["x", "0:5", "t:9:5", "u:0:5", "t:0:x", ""] {
        assert!(hub.page("c", &PageQuery { cursor: Some(cursor), ..query(true, 10) }).is_none(), "{cursor}");
    }
    assert!(hub.page("c", &PageQuery { until: Some("x"), ..query(true, 10) }).is_none());
    assert!(hub.page("c", &query(true, 10)).unwrap().messages.is_empty());
}
