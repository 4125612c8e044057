//! Why a record reaches nobody, and what is done about it.

use crate::limits::CHANNEL_NAME_MAX;

/// What of a record a rule cannot be followed for. Each is counted for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its key is missing, or is not what it should be.
    Key,
    /// A header is missing, or is not text.
    Header,
    /// Its value is missing, or is not what it should be.
    Value,
    /// A field of its key or value is missing, or is no single value.
    Field,
    /// What comes out names no channel, or too many.
    Channel,
    /// It could not be decoded.
    Decoding,
    /// It lies in another partition than its key should.
    Misplaced,
}

/// A record that its rule cannot be followed for.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub cause: Cause,
    /// One line for people.
    pub reason: String,
}

/// A record that reaches nobody.
#[derive(Debug, PartialEq, Eq)]
pub enum Unrouted {
    /// It has no value, and the rule skips such.
    Tombstone,
    /// Its list of channels is empty.
    Nowhere,
    /// See there.
    Failed(Failure),
}

/// What becomes of a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It is counted.
    #[default]
    Skip,
    /// It is reported, for somebody to write it elsewhere.
    Report,
    /// It is reported, and its rule reads no further.
    Stop,
}

impl Cause {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Header => "header",
            Self::Value => "value",
            Self::Field => "field",
            Self::Channel => "channel",
            Self::Decoding => "decoding",
            Self::Misplaced => "misplaced",
        }
    }
}

impl Failure {
    #[cold]
    pub(crate) fn new(cause: Cause, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into() }
    }

    /// For a text that names no channel.
    pub(super) fn of_name(name: &str) -> Self {
        let reason = match name {
            "" => "the channel's name is empty".to_owned(),
            _ if name.len() > CHANNEL_NAME_MAX => format!("the channel's name has {} bytes", name.len()),
            _ => format!("{name:?} names no channel"),
        };
        Self::new(Cause::Channel, reason)
    }
}

impl From<Failure> for Unrouted {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
