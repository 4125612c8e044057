//! Where a stream of several channels stands in each: every event has the positions of all, in the order in which they
//! were attached, so that the stream can be continued wherever it is cut. Who waits for the log in a channel has its place held.

use std::sync::Arc;

use crate::hub::Plan;
use crate::wire::Stream;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By number of the attachment: its position, empty before a snapshot.
    list: Vec<(u32, Arc<str>)>,
    /// Whether all are there. The reply that comes with the last one says so by not being empty, or places are held.
    pub(super) complete: bool,
}

impl Places {
    /// An attachment begins, or begins again.
    pub(super) fn begin(&mut self, number: u32, plan: &Plan) {
        self.stand(number, plan.first().into());
    }

    /// An attachment is yet to begin, from this position: until then that is its place. All others stand in order already
    /// or are held likewise.
    pub(super) fn hold(&mut self, number: u32, place: Arc<str>) {
        self.stand(number, place);
        self.complete = true;
    }

    fn stand(&mut self, number: u32, serial: Arc<str>) {
        match self.list.iter_mut().find(|(of, _)| *of == number) {
            Some((_, place)) => *place = serial,
            None => self.list.push((number, serial)),
        }
    }

    /// An attachment is given an event, behind which this is its position: what goes before the event.
    pub(super) fn before(&mut self, number: u32, serial: Arc<str>, stream: Stream) -> Arc<[u8]> {
        if let Some((_, place)) = self.list.iter_mut().find(|(of, _)| *of == number) {
            *place = serial;
        }
        stream.before(self.list.iter().map(|(_, place)| &**place))
    }
}
