//! The positions of attachments whose client may come back for what it has not acknowledged.

use super::Hub;
use crate::partition::Partition;
use crate::position::{self, Entry};
use crate::shard::Followed;

/// Where a client goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The attachment's.
    pub number: u32,
    /// Behind all that is acknowledged; with QoS 0, that was given.
    pub acknowledged: String,
    /// Behind all that was given, on this connection or an earlier one, if that is more.
    pub given: Option<String>,
}

impl Hub {
    /// The positions of an attachment.
    pub fn standing(&self, followed: &Followed) -> Standing {
        let Followed { number, channel, stand, start, given, given_before, open } = followed;
        let name = &channel.name;
        let printed = channel.position_of(stand, self.key(), &self.partitions);
        let printed = printed.unwrap_or_else(|| self.moved(name, start, given, i64::max, Partition::epoch));
        let acknowledged = if open.is_empty() {
            printed.clone()
        } else {
            self.moved(name, &printed, open, i64::min, Partition::epoch)
        };
        // How far an earlier connection was given is not for this node to know: it need not have read as far.
        let unknown = |_: &Partition| -1;
        let given =
            if given_before.is_empty() { printed } else { self.moved(name, &printed, given_before, i64::max, unknown) };
        Standing { number: *number, given: (given != acknowledged).then_some(given), acknowledged }
    }

    /// A position with other offsets for some partitions: what `choose` makes of both. Of one that is raised `epoch` is
    /// the newest below, and not the text's own: in the log newer ones may have begun since then.
    fn moved(
        &self,
        name: &str,
        text: &str,
        to: &[(u16, i64)],
        choose: impl Fn(i64, i64) -> i64,
        epoch: impl Fn(&Partition) -> i32,
    ) -> String {
        let Ok(mut told) = position::parse(self.key(), name, text) else { return text.to_owned() };
        let list = self.partitions.list();
        for &(index, offset) in to {
            let partition = &list[usize::from(index)];
            let (tag, number, epoch) = (partition.tag, partition.number, epoch(partition));
            if let Some(entry) = told.entries.iter_mut().find(|entry| entry.place() == (tag, number)) {
                let chosen = choose(entry.offset, offset);
                if chosen > entry.offset {
                    entry.epoch = epoch;
                }
                entry.offset = chosen;
            } else if told.base.is_some() && list.iter().any(|other| other.is_current() && other.tag == tag) {
                // Where a checkpoint says it, nothing of the channel lies between there and where the text was made: what
                // was given since lies behind that, and what is not acknowledged before.
                told.entries.push(Entry { tag, partition: number, offset, epoch });
            }
        }
        told.print(self.key(), name)
    }
}
