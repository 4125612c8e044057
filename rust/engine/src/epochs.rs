//! The leader epochs of a partition, as its records tell them: by these a place is known to lie in the log as it is, or
//! in a part that an unclean election has cut off and others have been written over.
//!
//! Epochs rise with the offsets, and who cuts a log writes on in a newer epoch. So of a place that was made when `epoch`
//! was the newest below it: a newer one that begins below it has taken the place of what was there.

use crate::limits::EPOCHS_KEPT;
use crate::position::Entry;

/// What is known of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// What lay below it when it was made still does.
    Sound,
    /// From here on it is not.
    Cut(i64),
    /// A newer epoch begins behind it, and nothing says whether another does before.
    Doubtful,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Epoch {
    number: i32,
    /// The first record of it that was seen.
    first: i64,
    /// Below here no record is of a newer one.
    until: i64,
}

/// The newest epochs of a partition, [`EPOCHS_KEPT`] at most.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Epochs(Vec<Epoch>);

impl Epochs {
    /// The records of `first..until` that are of an epoch have been seen, the first of them at `first`, and none of a newer
    /// one below `until`.
    pub fn see(&mut self, number: i32, first: i64, until: i64) {
        if number < 0 {
            return;
        }
        match self.0.binary_search_by_key(&number, |epoch| epoch.number) {
            Ok(index) => {
                let known = &mut self.0[index];
                known.first = known.first.min(first);
                known.until = known.until.max(until);
            }
            Err(0) if self.0.len() == EPOCHS_KEPT => {}
            Err(index) => {
                self.0.insert(index, Epoch { number, first, until });
                if self.0.len() > EPOCHS_KEPT {
                    self.0.remove(0);
                }
            }
        }
    }

    /// The newest epoch that was seen, -1 if none was.
    pub fn newest(&self) -> i32 {
        self.0.last().map_or(-1, |epoch| epoch.number)
    }

    /// The same, of a log that was cut at an offset.
    #[must_use]
    pub fn cut_at(&self, offset: i64) -> Self {
        let kept = self.0.iter().filter(|epoch| epoch.first < offset);
        Self(kept.map(|epoch| Epoch { until: epoch.until.min(offset), ..*epoch }).collect())
    }

    /// Whether what a place speaks of is still in the log. Without an epoch, or with nothing below it, it is.
    pub fn judge(&self, place: &Entry) -> Judged {
        let newer = self.0.partition_point(|epoch| epoch.number <= place.epoch);
        let Some(next) = self.0.get(newer).filter(|_| place.epoch >= 0 && place.offset > 0) else {
            return Judged::Sound;
        };
        if next.first < place.offset {
            Judged::Cut(next.first)
        } else if self.0[..newer].iter().any(|epoch| epoch.until >= place.offset) {
            Judged::Sound
        } else {
            Judged::Doubtful
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(offset: i64, epoch: i32) -> Entry {
        Entry { tag: [0; 8], partition: 0, offset, epoch }
    }

    fn known(all: &[(i32, i64, i64)]) -> Epochs {
        let mut epochs = Epochs::default();
        for &(number, first, until) in all {
            epochs.see(number, first, until);
        }
        epochs
    }

    #[test]
    fn a_place_above_where_a_newer_epoch_begins_was_cut_off_there() {
        let epochs = known(&[(1, 0, 10), (3, 10, 20), (4, 20, 30)]);
        assert_eq!(epochs.judge(&place(15, 1)), Judged::Cut(10));
        assert_eq!(epochs.judge(&place(15, 2)), Judged::Cut(10));
        assert_eq!(epochs.judge(&place(25, 1)), Judged::Cut(10), "where it began, not where it went on");
        assert_eq!(epochs.judge(&place(25, 3)), Judged::Cut(20));
    }

    #[test]
    fn a_place_within_its_epoch_or_at_its_end_is_sound() {
        let epochs = known(&[(1, 0, 10), (3, 10, 20)]);
        for (offset, epoch) in [(1, 1), (10, 1), (10, 2), (5, 3), (20, 3), (99, 4), (15, -1), (0, 0)] {
            assert_eq!(epochs.judge(&place(offset, epoch)), Judged::Sound, "{offset} {epoch}");
        }
        assert_eq!(Epochs::default().judge(&place(15, 1)), Judged::Sound, "nothing says otherwise");
    }

    #[test]
    fn a_place_that_lies_before_all_that_was_seen_is_doubtful_until_that_was_read_back() {
        let mut epochs = known(&[(5, 100, 120)]);
        assert_eq!(epochs.judge(&place(100, 4)), Judged::Doubtful);
        assert_eq!(epochs.judge(&place(90, 4)), Judged::Doubtful);
        let mut other = epochs.clone();
        epochs.see(4, 85, 100);
        assert_eq!(epochs.judge(&place(90, 4)), Judged::Sound);
        assert_eq!(epochs.judge(&place(100, 4)), Judged::Sound);
        other.see(5, 80, 90);
        assert_eq!(other.judge(&place(90, 4)), Judged::Cut(80));
    }

    #[test]
    fn a_log_that_was_cut_has_forgotten_what_was_above() {
        let epochs = known(&[(1, 0, 10), (3, 10, 20)]).cut_at(5);
        assert_eq!(epochs, known(&[(1, 0, 5)]));
    }

    #[test]
    fn epochs_are_bounded_and_the_newest_are_kept() {
        let mut epochs = Epochs::default();
        for number in 0..3 * EPOCHS_KEPT as i32 {
            epochs.see(number, i64::from(number) * 10, i64::from(number) * 10 + 10);
        }
        epochs.see(0, 0, 10);
        assert_eq!(epochs.0.len(), EPOCHS_KEPT);
        let newest = 3 * EPOCHS_KEPT as i32 - 1;
        assert_eq!(epochs.judge(&place(i64::from(newest) * 10 + 5, newest - 1)), Judged::Cut(i64::from(newest) * 10));
        assert_eq!(epochs.judge(&place(5, 0)), Judged::Doubtful);
    }

    proptest! {
        /// A log is written, cut now and then, and read by a node all the while: a place made at any time is judged by
        /// whether what lay below it is still there.
        #[test]
        fn a_place_is_sound_as_long_as_what_lay_below_it_is_there(
            steps in prop::collection::vec((0usize..6, 0usize..8), 1..40)
        ) {
            let (mut log, mut epoch) = (Vec::<(i32, usize)>::new(), 0);
            let mut epochs = Epochs::default();
            let mut places: Vec<(Entry, Vec<(i32, usize)>)> = Vec::new();
            for (serial, (cut, written)) in steps.into_iter().enumerate() {
                if cut > 0 && cut < 4 && cut < log.len() {
                    log.truncate(log.len() - cut);
                    epochs = epochs.cut_at(log.len() as i64);
                }
                epoch += i32::from(cut > 0); // an election, clean or not
                for more in 0..written {
                    epochs.see(epoch, log.len() as i64, log.len() as i64 + 1);
                    log.push((epoch, 100 * serial + more));
                }
                let newest = log.last().map_or(-1, |last| last.0);
                places.push((place(log.len() as i64, newest), log.clone()));
                for (place, below) in &places {
                    let there = log.get(..below.len());
                    match epochs.judge(place) {
                        Judged::Cut(at) => {
                            prop_assert!(there != Some(&below[..]));
                            prop_assert!(below[..at as usize] == log[..at as usize]);
                            prop_assert!(below.get(at as usize) != log.get(at as usize));
                        }
                        // What is not there yet is ahead, which is another answer.
                        Judged::Sound => prop_assert!(there.is_none_or(|there| there == &below[..])),
                        Judged::Doubtful => prop_assert!(false, "all was seen"),
                    }
                }
            }
        }
    }
}
