//! Rules as Python has checked them (`fanout.rules.route.Rule`).

use fanout_engine::route::{Format, OnFailure, Spec, Tombstone};
use pyo3::prelude::*;

/// The attributes that the engine looks at.
#[derive(FromPyObject)]
pub struct PyRule {
    topic: String,
    channel: String,
    name: Option<String>,
    client_id: Option<String>,
    key: Option<String>,
    value: Option<String>,
    tombstone: String,
    on_failure: String,
    expose: bool,
    linger_ms: u32,
    snapshot: bool,
    partitioner: Option<String>,
}

impl PyRule {
    /// As the engine takes it.
    pub fn spec(&self) -> Spec<'_> {
        Spec {
            topic: &self.topic,
            channel: &self.channel,
            name: self.name.as_deref(),
            client_id: self.client_id.as_deref(),
            key: format(self.key.as_deref()),
            value: format(self.value.as_deref()),
            tombstone: match &*self.tombstone {
                "skip" => Tombstone::Skip,
                "delete" => Tombstone::Delete,
                _ => Tombstone::Message,
            },
            on_failure: match &*self.on_failure {
                "dead-letter" => OnFailure::Report,
                "stop" => OnFailure::Stop,
                _ => OnFailure::Skip,
            },
            expose: self.expose,
            linger_ms: self.linger_ms,
            snapshot: self.snapshot,
            is_placed: self.partitioner.is_some(),
        }
    }
}

fn format(name: Option<&str>) -> Format {
    match name {
        None => Format::Any,
        Some("bytes") => Format::Bytes,
        Some("text") => Format::Text,
        Some("json") => Format::Json,
        Some(_) => Format::Decoded, // by what stands between the source and the engine
    }
}
