//! Every bound of the engine, with its reason. Sizes are in bytes, times in milliseconds.

/// The longest channel name. Names are kept per channel and repeated in every frame.
pub const CHANNEL_NAME_MAX: usize = 1024;

/// Channels that one record may reach, so that a hostile router cannot multiply a record without end.
pub const CHANNELS_PER_RECORD_MAX: usize = 64;

/// The last date there is for JavaScript's clients, in ms since 1970; they round no number up to it.
pub const TIMESTAMP_MAX: i64 = 8_640_000_000_000_000;

/// Failures of records that wait to be reported. They are taken after each batch of records, which are fewer.
pub const FAILURES_MAX: usize = 4_096;

/// Partitions one node reads; indices fit 16 bits, and every position lists them all.
pub const PARTITIONS_MAX: usize = 4096;

/// Numbers of partitions remembered that a topic has had: as many times it grew. Of one that grew more often, keys that
/// nobody wrote since the first of them are looked for where they lie now.
pub const COUNTS_MAX: usize = 8;

/// Records remembered, by key and partition, that lay where their keys should not: with more, any may turn out right.
pub const STRAYS_MAX: usize = 1_024;
/// A position that would list more entries than this is said by a checkpoint: fewer are as short without one.
pub const ENTRIES_LISTED: usize = 16;

/// A checkpoint that is older than this is followed by another: a position lists the partitions that fed its channel since.
pub const CHECKPOINT_MS: i64 = 1_000;

/// Where nothing was written, it is written again after this long, so that it is not the first that retention takes.
pub const CHECKPOINT_RENEWED_MS: i64 = 600_000;

/// A node that has not read as far as the newest checkpoint leaves the next one to others for this long.
pub const CHECKPOINT_LEFT_MS: i64 = 10 * CHECKPOINT_MS;

/// Checkpoints in memory of those read, and as many of those read back: five minutes of them.
pub const CHECKPOINTS_KEPT: usize = 300;

/// Bytes that these may take each: those of some 1,000 partitions, fewer of more.
pub const CHECKPOINTS_BYTES: usize = 2 << 20;

/// Of these the newest that are looked at for one to refer to: those of the last seconds.
pub const CHECKPOINTS_LOOKED: usize = 16;

/// Leader epochs remembered of a partition: as many changes of its leader. A place from before is doubtful.
pub const EPOCHS_KEPT: usize = 64;

/// A frame is closed before its encoded messages exceed this, unless it holds but one: well under the 512 KiB that
/// clients are told to expect, since SDKs handle a frame in one piece, and large enough that a write's cost vanishes.
pub const FRAME_BYTES: usize = 128 << 10;

/// Messages in one frame, for the same reason.
pub const FRAME_MESSAGES: usize = 2048;

/// Frames kept for sharing per channel: the newest one per wire and spelling, and a few that laggards share.
pub const FRAMES_CACHED: usize = 8;

/// Frames that a shard keeps for the next connection, which most often stands where the last one stood: two places, two
/// wires, and two channels that take turns.
pub const FRAMES_MEMO: usize = 8;

/// A connection is given no more frames while this much waits to be written; its cursors remember the rest.
pub const OUTBOX_FRAMES_BYTES: usize = 256 << 10;

/// The same where what waits is the connection's own and not shared, as messages are that are to be acknowledged: so much
/// and one message more is what a slow reader of these may hold.
pub const OUTBOX_OWN_BYTES: usize = 32 << 10;

/// Messages under way to an MQTT client that does not say how many it takes, each acknowledged with a packet: enough for
/// 640 a second over 100 ms.
pub const WINDOW: usize = 64;

/// The same for a client that says how many it takes: 16 bytes each.
pub const WINDOW_MAX: usize = 1_024;

/// Messages in one frame for those who acknowledge each: they are given as many of it as their window takes.
pub const FRAME_MESSAGES_ACKNOWLEDGED: usize = 2 * WINDOW;

/// Names of channels that began and were not asked for yet.
pub const BIRTHS_MAX: usize = 65_536;

/// Replies waiting for one connection; a peer that asks for this much without reading is cut off.
pub const OUTBOX_REPLIES_BYTES: usize = 1 << 20;

/// Buffers handed to one write: as many as Linux takes, so that a connection's whole backlog goes in one.
pub const IOVECS_MAX: usize = 1024;

/// One pass of a shard writes for about this long by estimate; then it looks at commands and news. What waits for a share
/// of a pass waits this long, not for the whole of a broadcast.
pub const PASS_NS: i64 = 1_000_000;

/// What a write costs the kernel whatever is in it. Measured: 6 to 8 µs.
pub const WRITE_NS: i64 = 7_000;

/// Bytes that it takes in a nanosecond beyond that.
pub const WRITE_BYTES_PER_NS: i64 = 4;

/// What it costs to see that a connection has nothing to write.
pub const LOOK_NS: i64 = 50;

/// A channel with at most this many attachments in a shard is written ahead of larger ones: 2 ms of writes.
pub const EXPRESS_MEMBERS_MAX: usize = 256;

/// Messages that an attachment may have to catch up with to be written with its reply, ahead of backlogs: some KiB.
pub const EXPRESS_BACKLOG_MAX: usize = 32;

/// Of one channel so many connections are looked at before another has its turn.
pub const SLICE_MEMBERS: usize = 32;

/// A peer that was silent this long, although pinged, is dead. Longer than a client that merely stops reading for a
/// while needs, since it cannot answer pings it has not read.
pub const PEER_SILENCE_MS: i64 = 120_000;

/// Who has taken nothing for so long, though much waits, may be passed by the ring.
pub const LAGGING_MS: i64 = 400;

/// Attachments of which a shard then keeps where they stand, at 100 to 700 bytes: the position counts.
pub const LAGGING_MAX: usize = 10_000;

/// Those of them that are noted at once: a millisecond's work.
pub const NOTED_PER_TICK: usize = 500;

/// After CLOSE was written, this long for the peer to close too.
pub const FINISH_MS: i64 = 5_000;

/// Share of the memory for history that one channel may hold: a flood on one leaves the others theirs.
pub const CHANNEL_HISTORY_SHARE: usize = 4;

/// Ids remembered for recognising repeats: 50 to 60 bytes each, 250 MB of so many. Two minutes of 34 000 client publishes
/// a second, those of all nodes.
pub const DEDUP_IDS_MAX: usize = 1 << 22;

/// The same for one replay, whose ids are of one channel: two minutes of a thousand client publishes a second.
pub const REPLAY_IDS_MAX: usize = 1 << 17;

/// A repeat is recognised this long after the first, by the records' timestamps.
pub const DEDUP_WINDOW_MS: i64 = 120_000;

/// A channel without messages and attachments is forgotten this long after its last use.
pub const CHANNEL_IDLE_MS: i64 = 120_000;

/// Longest time that messages are held for more of them to gather. Whoever is shown what is older calls it late.
pub const LINGER_MS_MAX: u32 = 1_000;

/// Channels that nobody uses, kept for those who come back: some 60 MB. A client that attaches to name after name and
/// leaves them makes no more than this.
pub const CHANNELS_UNUSED_MAX: usize = 100_000;

/// Looked at for being unused in one sweep: a tenth of a millisecond or two, and a round of 100 000 in half a minute.
pub const CHANNELS_REVIEWED: usize = 2_000;

/// The same for each channel that is made once there are [`CHANNELS_UNUSED_MAX`].
pub const CHANNELS_REVIEWED_PER_NEW: usize = 8;

/// Messages that leave for their age in one sweep, at 50 ns each: deliveries do not wait longer for it.
pub const MESSAGES_SWEPT: usize = 8_192;

/// Bytes that a place in a ring is charged, which grows by doubling (8 to 16): all that a channel pays for a message that
/// another one holds too.
pub const PLACE_OVERHEAD: usize = 12;

/// Bytes that a message is charged beside its content: the head of its memory, and its place in the ring.
/// `tests/memory.rs` compares it with what the allocator gives.
pub const MESSAGE_OVERHEAD: usize = 72 + PLACE_OVERHEAD;

/// Records in a block of the index: what a reader that finds a channel in it reads in some ms.
pub const BLOCK_RECORDS: usize = 1_024;

/// Channels noted in a block, from which on it is closed sooner: a record may reach many.
pub const BLOCK_CHANNELS: usize = 4_096;

/// Bytes that a block of the index is charged beside its channels: its place in a queue that grows by doubling (24 to 48),
/// its place in the order of all (2 to 4), and what keeps its channels.
pub const BLOCK_OVERHEAD: usize = 56;

/// Blocks looked at in one question to the index: 0.2 to 1.5 ms.
pub const BLOCKS_LOOKED: usize = 4_096;

/// The index holds this part of what the rings may, beside them.
pub const INDEX_SHARE: usize = 16;

/// Bytes that the newest of a key is charged beside message and key: its places in a tree and a table, half full.
pub const LATEST_OVERHEAD: usize = 150;

/// Share of the memory for history that snapshots may take: beyond, the keys leave that were written longest ago.
pub const SNAPSHOT_SHARE: usize = 2;

/// Bytes that each channel is charged for each batch of records with some for it: a place in the queue by age.
pub const BATCH_OVERHEAD: usize = 36;

/// Bytes that a channel is charged beside its name.
pub const CHANNEL_OVERHEAD: usize = 512;

/// A rewind never goes back further. The protocol's bound is 100; whoever asks for one more than that learns whether
/// there is more, and must then ask for 100.
pub const REWIND_MESSAGES_MAX: usize = 101;

/// Bytes that a member of a presence set is charged beside its message and its key: its places in two trees, and what
/// keeps its key; reckoned from the sizes of their nodes, half full.
pub const MEMBER_OVERHEAD: usize = 200;

/// Bytes of keys of members that have left, kept so that what an earlier transport said of them is not taken for news:
/// some 20 000, and only of connections that had been continued.
pub const GONE_BYTES: usize = 4 << 20;

/// Bytes that each of them is charged beside its key.
pub const GONE_OVERHEAD: usize = 100;

/// A page of a presence set is closed before its members exceed this, unless it has but one: clients handle a page in one
/// piece, and events come between pages.
pub const SYNC_BYTES: usize = 64 << 10;

/// Members in one page of a presence set, for the same reason.
pub const SYNC_MEMBERS: usize = 512;

/// Share of the memory for history that the presence sets may take: what is beyond is refused, since a set cannot be
/// read back when it is needed.
pub const PRESENCE_SHARE: usize = 2;

/// Members in one page that is asked for.
pub const MEMBERS_PAGE_MAX: usize = 1000;

/// Members looked at for one page: a millisecond's work.
pub const MEMBERS_SCANNED: usize = 10_000;

/// Messages in one page of history.
pub const HISTORY_PAGE_MAX: usize = 1000;

/// A message that was appended to takes no more: as much as a frame without others holds, several times what clients may
/// publish.
pub const VERSION_BYTES_MAX: usize = 256 << 10;

/// Bytes of content in one page, of history or of members: encoded in some ms, and what a client that does not read its
/// answer keeps. One message that is larger is a page.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// Names and clients that the summary of one message's annotations remembers: some 1,500 clients. It is written into the
/// log now and then, in a record that has to stay well below a megabyte.
pub const SUMMARY_BYTES_MAX: usize = 64 << 10;

/// Clients that a summary shows for each name.
pub const SUMMARY_CLIENTS_SHOWN: usize = 100;

/// Longest payload that is compared with another for a delta: a quarter of a millisecond's work.
pub const DELTA_PAYLOAD_MAX: usize = 64 << 10;

/// Bytes that a delta is charged beside its encoding: its place in a tree, and what keeps it.
pub const DELTA_OVERHEAD: usize = 64;

/// Entries looked at for the message that a delta would be from: what else stands between two messages.
pub const DELTA_LOOK_BACK: usize = 64;

/// What a filter takes for a message, roughly, and for each byte of its extras.
pub const FILTER_NS: i64 = 4_000;
/// See [`FILTER_NS`].
pub const FILTER_NS_PER_BYTE: i64 = 10;

/// What filters may take for one connection in its turn: the rest of what waits for it is looked at the next time.
pub const FILTER_TURN_NS: i64 = PASS_NS / 4;

/// Filters in use, from which on those that nobody uses any more are looked for.
pub const FILTERS_KEPT: usize = 256;

/// Longest filter expression: a channel's name, of which it is a part, has room for no longer one.
pub const FILTER_BYTES_MAX: usize = 768;

/// Brackets, negations and references in a filter, for which its parser goes one call deeper each.
pub const FILTER_NESTING_MAX: usize = 32;

/// Longest printed position that is looked at: a few hundred partitions' worth.
pub const POSITION_TEXT_MAX: usize = 64 << 10;

/// Shards; a bit each in a channel's mask, the last bit being this process's own subscribers.
pub const SHARDS_MAX: usize = 32;

const _: () = assert!(FRAME_BYTES < OUTBOX_FRAMES_BYTES, "an empty outbox takes at least one full frame");
const _: () = assert!(SHARDS_MAX < 63, "one bit is the process's own");
const _: () = assert!(PARTITIONS_MAX <= u16::MAX as usize, "partition indices are 16 bits wide");
