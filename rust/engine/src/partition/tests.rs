use super::*;

#[test]
fn a_topic_made_anew_is_another_entry() {
    let table = Partitions::default();
    let first = table.assign("t", [1; 16], 0, 5).unwrap();
    first.advance(9, 0);
    assert_eq!(table.assign("t", [1; 16], 0, 7).unwrap().index, first.index, "the same topic goes on");
    let second = table.assign("t", [2; 16], 0, 0).unwrap();
    assert_ne!(first.index, second.index);
    assert_eq!(table.find("t", 0).unwrap().index, second.index);
    assert!(!first.is_current());
}

#[test]
fn a_jump_forward_is_another_entry_that_knows_the_epochs_before_it() {
    let table = Partitions::default();
    let first = table.assign("t", [1; 16], 0, 5).unwrap();
    first.advance(9, 3);
    let second = table.assign("t", [1; 16], 0, 100).unwrap();
    assert_ne!(second.index, first.index);
    second.advance(101, 4);
    let judge = |offset, epoch| second.judge(&Entry { tag: second.tag, partition: 0, offset, epoch });
    assert_eq!((judge(101, 3), judge(9, 3), judge(100, 3)), (Judged::Cut(100), Judged::Sound, Judged::Doubtful));
}

#[test]
fn reading_again_from_further_back_goes_on() {
    let table = Partitions::default();
    let first = table.assign("t", [1; 16], 0, 5).unwrap();
    first.advance(9, 0);
    for start in [9, 7, 5, 0] {
        assert_eq!(table.assign("t", [1; 16], 0, start).unwrap().index, first.index);
    }
}

#[test]
fn a_log_that_was_cut_is_another_entry_from_there() {
    let table = Partitions::default();
    let first = table.assign("t", [1; 16], 0, 0).unwrap();
    first.advance(1, 1);
    first.advance(8, 1);
    first.advance(9, 2);
    assert!(!first.is_cut_by(9, 3), "it goes on");
    assert!(!first.is_cut_by(7, 2) && !first.is_cut_by(7, 1), "that was read before");
    assert!(first.is_cut_by(7, 3));
    let second = table.cut(&first, 7).unwrap();
    assert_eq!((second.start, second.next(), second.epoch()), (7, 7, 1));
    second.advance(8, 3);
    assert!(second.is_current() && !first.is_current());
    let judge = |offset, epoch| second.judge(&Entry { tag: second.tag, partition: 0, offset, epoch });
    assert_eq!((judge(8, 1), judge(7, 1), judge(8, 3)), (Judged::Cut(7), Judged::Sound, Judged::Sound));
}

#[test]
fn logs_without_epochs_are_never_taken_for_cut() {
    let first = Partitions::default().assign("t", [1; 16], 0, 0).unwrap();
    first.advance(9, -1);
    assert!(!first.is_cut_by(7, -1) && !first.is_cut_by(7, 0));
}

#[test]
fn the_table_has_an_end() {
    let table = Partitions::default();
    for number in 0..PARTITIONS_MAX {
        table.assign("t", [1; 16], number as i32, 0).unwrap();
    }
    assert_eq!(table.assign("t", [1; 16], -1, 0).unwrap_err(), TooManyPartitions);
}

#[test]
fn what_names_no_channel_speaks_of_all_partitions() {
    let table = Partitions::default();
    table.place("t", [1; 16], 3, Affixes { prefix: "a:".into(), suffix: String::new() }).unwrap();
    for number in 0..3 {
        table.assign("t", [1; 16], number, 0).unwrap();
    }
    table.assign("open", [2; 16], 0, 0).unwrap();
    let of = |name| table.feeding(name).iter().map(|partition| partition.index).collect::<Vec<_>>();
    assert_eq!((of("a:x").len(), of("b:x").len()), (2, 1));
    let mut all = of("");
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
}
