//! Names to channels, and everything that a node keeps across them: partitions, ids, what memory holds.
//!
//! One thread at a time delivers records (`intake.rs`); everything else may be called from any thread. Memory is
//! bounded by age and by bytes with one queue: batches in the order in which they came. Old batches leave when their
//! time is up, and sooner when all channels together hold too much.

mod births;
mod blocks;
mod changed;
mod checkpoints;
mod directory;
mod failures;
mod forgetting;
mod held;
mod history;
mod inbox;
mod inject;
mod intake;
mod interrupt;
mod newest;
mod presence;
mod replay;
mod standing;

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use births::Births;
use blocks::Blocks;
pub use changed::Found;
pub use checkpoints::Unknown;
use directory::Directory;
pub use failures::Failed;
use failures::Failures;
pub use held::{Held, HeldQuery, Place};
pub use history::{Page, PageQuery};
pub use inbox::{Inbox, LOCAL_BIT};
pub use intake::Routing;
use intake::{Batch, Intake, Work};
use presence::Nodes;
pub use presence::{MembersPage, MembersQuery};
pub use replay::{Replay, Wanted};
pub use standing::Standing;

use crate::channel::{Channel, Context, Located, Occupancy, Outcome, Stand, Start};
use crate::checkpoint::Checkpoints;
use crate::dedup::Dedup;
use crate::limits::{CHANNEL_OVERHEAD, CHANNELS_REVIEWED_PER_NEW, CHANNELS_UNUSED_MAX};
use crate::message::serial;
use crate::partition::{Partition, Partitions};
use crate::position::Key;
use crate::presence::gone::Gone;
use crate::stats::Stats;

/// How a node is set up.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// For positions and hashes; all nodes of one log share it.
    pub key: [u8; 16],
    /// How long messages stay in memory, in ms.
    pub history_ms: i64,
    /// Bytes that all channels together may hold.
    pub history_bytes: usize,
}

/// Where an attachment will start: made by [`Hub::locate`].
#[derive(Debug)]
pub struct Plan {
    /// The channel; held, so it is not forgotten meanwhile.
    pub channel: Arc<Channel>,
    /// The place.
    pub located: Located,
    /// For ATTACHED: the client's own position if a backlog follows a resume, that of the earliest held after a gap, so
    /// that a loss in the middle resumes rightly; else the one behind all that is held now.
    pub serial: String,
    /// Of one that is rewound, the position before what it is given first; empty where a snapshot is.
    pub before: Option<String>,
    /// Whether somebody is present.
    pub has_presence: bool,
}

impl Plan {
    /// The position of who was given nothing yet.
    pub fn first(&self) -> &str {
        self.before.as_deref().unwrap_or(&self.serial)
    }
}

/// All of a node's channels.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    /// Counters.
    pub stats: Stats,
    partitions: Partitions,
    channels: RwLock<Directory>,
    /// How far the search for unused channels has come in its round.
    hand: AtomicUsize,
    next_id: AtomicU64,
    memory: AtomicUsize,
    /// What of it the presence sets hold.
    presence_bytes: AtomicUsize,
    /// What of it the newest messages of keys hold.
    snapshot_bytes: AtomicUsize,
    /// Beside it: what replays hold.
    replay_bytes: AtomicUsize,
    /// The time when a shard looked last.
    wall_ms: AtomicI64,
    nodes: Mutex<Nodes>,
    gone: Mutex<Gone>,
    /// Of the next giving of a presence set.
    next_sync: AtomicU64,
    dedup: Mutex<Dedup>,
    checkpoint_topic: OnceLock<Box<str>>,
    checkpoints: Mutex<Checkpoints>,
    blocks: RwLock<Blocks>,
    births: Births,
    /// Where what the node itself says is said to lie.
    own: Arc<Partition>,
    intake: Mutex<Intake>,
    failures: Failures,
    inboxes: RwLock<Vec<Arc<Inbox>>>,
}

impl Hub {
    /// An empty node.
    pub fn new(settings: Settings) -> Self {
        let partitions = Partitions::default();
        partitions.add_state_topic(inject::TOPIC);
        let own = partitions.assign(inject::TOPIC, [0; 16], 0, 0).expect("it is the first");
        Self {
            settings,
            stats: Stats::default(),
            partitions,
            own,
            channels: RwLock::default(),
            hand: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
            memory: AtomicUsize::new(0),
            presence_bytes: AtomicUsize::new(0),
            snapshot_bytes: AtomicUsize::new(0),
            replay_bytes: AtomicUsize::new(0),
            wall_ms: AtomicI64::new(0),
            nodes: Mutex::default(),
            gone: Mutex::default(),
            // Somewhere else in each life of a node: clients carry the ids from one to the next.
            next_sync: AtomicU64::new(RandomState::new().hash_one(settings.key)),
            dedup: Mutex::new(Dedup::new(settings.key)),
            checkpoint_topic: OnceLock::new(),
            checkpoints: Mutex::default(),
            blocks: RwLock::default(),
            births: Births::default(),
            intake: Mutex::default(),
            failures: Failures::default(),
            inboxes: RwLock::default(),
        }
    }

    /// The channel of that name, made if need be.
    pub fn channel(&self, name: &str, now_ms: i64) -> Arc<Channel> {
        let count = {
            let channels = self.channels.read();
            if let Some(channel) = channels.get(name) {
                return Arc::clone(channel);
            }
            channels.len()
        };
        if count >= CHANNELS_UNUSED_MAX {
            // More are looked at than made: so many unused ones are never left over.
            self.review(CHANNELS_REVIEWED_PER_NEW, i64::MAX);
        }
        let mut channels = self.channels.write();
        if let Some(channel) = channels.get(name) {
            return Arc::clone(channel);
        }
        let born: Box<[i64]> = self.partitions.list().iter().map(|partition| partition.forgotten()).collect();
        let born = born.iter().any(|&offset| offset > 0).then_some(born);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let channel = Arc::new(Channel::new(name.into(), id, born, now_ms));
        channels.insert(Arc::clone(&channel));
        self.memory.fetch_add(CHANNEL_OVERHEAD + name.len(), Ordering::Relaxed);
        channel
    }

    /// Finds where an attachment starts.
    pub fn locate(&self, name: &str, serial: Option<&str>, rewind: Start, now_ms: i64) -> Plan {
        let channel = self.channel(name, now_ms);
        channel.touch(now_ms);
        let start = match serial.map(|text| self.read_position(name, text)) {
            None => rewind,
            Some(Ok(position)) => Start::After(position),
            Some(Err(unknown)) => unknown.start(),
        };
        let (located, position, has_presence) = channel.locate(&start, self.key(), &self.partitions);
        let serial = match serial {
            Some(own) if located.outcome == Outcome::Resumed && located.backlog > 0 => own.to_owned(),
            _ => position,
        };
        let is_rewound = matches!(located.outcome, Outcome::Fresh | Outcome::Partial) && located.backlog > 0;
        let before = is_rewound.then(|| {
            let stand = Stand { at: located.cursor, had: located.had.clone(), conflates: None };
            let position = || channel.position_of(&stand, self.key(), &self.partitions);
            located.conflates.is_none().then(position).flatten().unwrap_or_default()
        });
        Plan { channel, located, serial, before, has_presence }
    }

    /// Counts what became of a position, once somebody goes on from where it was found.
    pub fn count(&self, plan: &Plan) {
        match plan.located.outcome {
            Outcome::Resumed if plan.channel.live().is_some() => self.stats.resumed_from_log.add(1),
            Outcome::Resumed => self.stats.resumed.add(1),
            Outcome::Gap => self.stats.resume_gaps.add(1),
            Outcome::Foreign | Outcome::Unread => self.stats.resume_foreign.add(1),
            Outcome::Conflated => self.stats.resume_conflated.add(1),
            Outcome::Fresh | Outcome::Partial | Outcome::Ahead => {}
        }
    }

    /// Where a channel stands now.
    pub fn position(&self, name: &str, now_ms: i64) -> String {
        self.channel(name, now_ms).position(self.key(), &self.partitions)
    }

    /// It is this time now, by the wall's clock.
    pub fn set_time(&self, wall_ms: i64) {
        self.wall_ms.store(wall_ms, Ordering::Relaxed);
    }

    /// What frames are made with.
    pub fn context(&self) -> Context<'_> {
        Context {
            partitions: &self.partitions,
            key: self.key(),
            stats: &self.stats,
            memory: &self.memory,
            presence: &self.presence_bytes,
            replays: &self.replay_bytes,
            wall_ms: self.wall_ms.load(Ordering::Relaxed),
            filtered_ns: Cell::new(0),
        }
    }

    /// The serial of the message with this id, if a record written at `wall_ms` would be its repeat.
    pub fn find(&self, channel: &str, id: &str, wall_ms: i64) -> Option<String> {
        self.dedup
            .lock()
            .find(channel, id, wall_ms)
            .map(|first| serial(&first.partition.topic, first.partition.number, first.offset))
    }

    /// How many use a channel here; None if it is not in memory.
    pub fn occupancy(&self, name: &str) -> Option<Occupancy> {
        let channel = self.channels.read().get(name).cloned()?;
        Some(channel.occupancy())
    }

    /// The names of channels in use on this node that `realm` stands before, which no other realm does, and that behind
    /// it begin with `prefix` and stand behind `after`: in order, the first `limit`; with `known` those too that are not
    /// in use and not forgotten yet. Takes the longer the more channels there are: 50 ns each.
    pub fn names(&self, realm: &str, prefix: &str, after: &str, limit: usize, known: bool) -> Vec<Arc<str>> {
        self.channels.read().names(realm, prefix, after, limit, known)
    }

    /// The partitions, of topics of which it is certain, of all channels that somebody is attached to or subscribes to
    /// inside the process. Takes some 0.2 µs for each channel.
    pub fn needed(&self) -> Vec<(Arc<str>, i32)> {
        let used: Vec<_> = {
            let channels = self.channels.read();
            let is_used = |channel: &&Arc<Channel>| channel.attachments() > 0 || channel.is_watched_by(LOCAL_BIT);
            channels.next(0, usize::MAX).filter(is_used).map(|channel| Arc::clone(&channel.name)).collect()
        };
        let mut needed: Vec<_> = used.iter().flat_map(|name| self.partitions.certain(name)).collect();
        needed.sort_unstable();
        needed.dedup();
        needed
    }

    /// Gauges: channels, bytes, ids.
    pub fn gauges(&self) -> [(&'static str, u64); 8] {
        [
            ("channels", self.channels.read().len() as u64),
            ("history_bytes", self.memory.load(Ordering::Relaxed) as u64),
            ("presence_bytes", self.presence_bytes.load(Ordering::Relaxed) as u64),
            ("snapshot_bytes", self.snapshot_bytes.load(Ordering::Relaxed) as u64),
            ("index_bytes", self.index_bytes() as u64),
            ("replay_bytes", self.replay_bytes.load(Ordering::Relaxed) as u64),
            ("checkpoint_bytes", self.checkpoints.lock().bytes() as u64),
            ("dedup_ids", self.dedup.lock().len() as u64),
        ]
    }

    /// For printing positions.
    pub fn key(&self) -> Key {
        Key(self.settings.key)
    }

    /// The partitions that are read.
    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }
}

#[cfg(test)]
mod tests;
