//! What is asked about partitions and records before they are read back for those who were away too long.

use std::collections::HashMap;
use std::sync::Arc;

use fanout_engine::partition::Partition;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::core::guarded;
use crate::engine::Engine;
use crate::table::{Borrowed, CRecord};

#[pymethods]
impl Engine {
    /// The partitions of which memory does not hold all behind a position: topic, partition.
    fn unheld(&self, channel: &str, position: &str) -> PyResult<Vec<(String, i32)>> {
        let unheld = guarded(|| self.core.hub.unheld(channel, position));
        let unheld = unheld.ok_or_else(|| PyValueError::new_err("the position is not of this channel"))?;
        Ok(unheld.iter().map(|partition| (partition.topic.to_string(), partition.number)).collect())
    }

    /// The entry that stands for a partition: its number, where its reading began, how far it was read.
    fn entry(&self, topic: &str, partition: i32) -> PyResult<(u16, i64, i64)> {
        let found = self.core.hub.partitions().find(topic, partition);
        let found = found.ok_or_else(|| PyValueError::new_err("the partition is not read"))?;
        Ok((found.index, found.start, found.next()))
    }

    /// The places of a position of which it is not known whether the log was cut below: topic, partition, offset, epoch.
    fn doubts(&self, channel: &str, position: &str) -> Vec<(String, i32, i64, i32)> {
        let doubts = guarded(|| self.core.hub.doubts(channel, position));
        let told = |(partition, offset, epoch): &(Arc<Partition>, i64, i32)| {
            (partition.topic.to_string(), partition.number, *offset, *epoch)
        };
        doubts.iter().map(told).collect()
    }

    /// Records of an epoch were read back.
    fn saw(&self, topic: &str, partition: i32, epoch: i32, first: i64, until: i64) {
        if let Some(found) = self.core.hub.partitions().find(topic, partition) {
            found.see(epoch, first, until);
        }
    }

    /// The numbers of records by the channels that they may be messages of; `records` is the address of so many `CRecord`.
    fn channels_of(&self, py: Python<'_>, records: usize, count: usize) -> HashMap<String, Vec<usize>> {
        py.detach(|| {
            guarded(|| {
                // SAFETY: `_core.pyx` keeps them alive for as long as this call lasts.
                let borrowed = unsafe { Borrowed::new(records as *const CRecord, count) };
                self.core.hub.channels_of(borrowed.iter())
            })
        })
    }
}
