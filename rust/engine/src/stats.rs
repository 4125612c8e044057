//! Counters, each written by whoever does the thing it counts and read by whoever asks. Nothing is dropped without
//! one of them rising.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters of one engine.
        #[derive(Debug, Default)]
        pub struct Stats { $($(#[$doc])* pub $name: Counter,)* }

        impl Stats {
            /// Every counter with its name.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Records read from the source.
    records_in,
    /// Bytes of their values.
    bytes_in,
    /// Records that no rule has a place for: topic without rule, or the router said none.
    records_unrouted,
    /// Records that failed their rule because of their key.
    failed_key,
    /// Because of a header.
    failed_header,
    /// Because of their value.
    failed_value,
    /// Because of a field of their key or value.
    failed_field,
    /// Because they would have no channel, or too many.
    failed_channel,
    /// Because they could not be decoded.
    failed_decoding,
    /// Because they lie in another partition than their key should.
    failed_misplaced,
    /// Failures that are to be reported and were not, because too many wait for that.
    failures_untold,
    /// Records without a value that their rule skips.
    tombstones_skipped,
    /// Records of rules that have stopped.
    records_held_back,
    /// Records for which a program's own rule failed, or names what is no channel; and presence that is none.
    records_unroutable,
    /// Records whose headers the client library cannot read, for the name of one is not UTF-8: they go on without any.
    headers_unreadable,
    /// Records below what their partition was already read to.
    records_repeated,
    /// Records whose id the channel already had within the window.
    duplicates,
    /// Ids that were forgotten within the window, for want of room: a repeat of theirs would not be recognised.
    ids_forgotten,
    /// Records that were to change a message, or to say something about one, and cannot.
    changes_refused,
    /// Messages appended to channels.
    messages,
    /// Events of presence that were news to their channels.
    presence_events,
    /// Events of presence of an older generation of their connection than was known: a node wrote them too late.
    presence_late,
    /// What the node itself said on channels.
    injected,
    /// Pages of presence sets made for somebody who has come.
    sync_pages,
    /// Members in them.
    sync_members,
    /// Members that were refused because presence has no more memory.
    members_refused,
    /// Messages that left memory because they were older than the history window.
    messages_expired,
    /// Messages that left memory before their time because memory was full.
    messages_squeezed,
    /// Frames encoded.
    frames,
    /// Messages in them.
    frame_messages,
    /// Messages handed to subscribers: messages in frames times the connections they were queued on.
    deliveries,
    /// Packets that a client takes none as large as: it goes on without them.
    packets_too_large,
    /// Acknowledgements of messages that were not under way.
    acknowledgements_unknown,
    /// Writes to sockets.
    writes,
    /// System calls that carried them out: with `io_uring` one does many.
    write_calls,
    /// Writes that the socket took only in part, or not at all.
    short_writes,
    /// Bytes written.
    bytes_out,
    /// Messages dropped where reading went on elsewhere.
    messages_interrupted,
    /// Attachments that lost continuity because the ring passed them.
    continuity_lost,
    /// Attachments that the ring passed, and that went on with the newest of each key.
    conflated,
    /// Positions that were continued from with the newest of each key.
    resume_conflated,
    /// Positions presented and continued from exactly, out of memory.
    resumed,
    /// The same, out of the log.
    resumed_from_log,
    /// Positions behind which something is gone.
    resume_gaps,
    /// Positions of another log, channel or secret.
    resume_foreign,
    /// Attachments that went on live from a replay.
    replays_handed_over,
    /// Attachments that a replay could not wait for, or that ended before their client had been given all: it comes back.
    replays_left,
    /// Heartbeats written.
    heartbeats,
    /// Connections cut off because they asked much and read nothing.
    evicted_full,
    /// Connections cut off because the peer was silent.
    evicted_silent,
}

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
