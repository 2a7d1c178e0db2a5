//! What is kept, and when it is safe: the [`Store`] that everything durable goes through.
//!
//! A writer hands over a [`Batch`] and gets its [`Number`] at once; the batch is safe from a power
//! cut as soon as [`Progress::durable`] has reached that number, and only then may anyone outside
//! be told that it happened. Here live the trait, its words and everything about stored bytes that
//! needs no disk; [`crate::io::store`] holds the files. Nothing here knows what a record means.
//!
//! Reading order: [`key`], [`record`], [`seal`] (one record), [`batch`], [`intake`] (many),
//! [`memory`] (the simulated store), [`tally`], [`archive`], [`retention`], [`migrate`].

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use protocol::ids::{PersonId, ShardId};
use tokio::sync::watch;

pub mod archive;
pub mod batch;
pub mod intake;
pub mod key;
pub mod memory;
pub mod migrate;
pub mod record;
pub mod retention;
pub mod seal;
pub mod tally;

pub use batch::Batch;
pub use key::Key;
pub use memory::MemoryStore;

/// Longest value of one record: what fits a stored avatar or a shard snapshot, and little enough
/// that a full queue of them cannot exhaust memory.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// Longest record kept inside the database; a larger one becomes a file named by its hash.
///
/// sled splits a leaf at 17 records and merges up to 20, and a leaf of more than a quarter
/// segment (512 KiB here) goes to a file that sled never fsyncs: 20 x 17 KiB stays below.
pub const INLINE_BYTES_MAX: usize = 16 << 10;
/// Changes in one batch: a shard's soft write of 4,096 positions.
pub const BATCH_CHANGES_MAX: usize = 4_096;
/// Batches waiting for the disk: one second of 8,192 acknowledged actions.
pub const QUEUE_BATCHES_MAX: usize = 8_192;
/// Bytes waiting for the disk: four of the largest values.
pub const QUEUE_BYTES_MAX: usize = 4 * VALUE_BYTES_MAX;
/// Records one scan returns at most: about 1 MB of small ones.
pub const SCAN_RECORDS_MAX: usize = 4_096;

/// The place of a batch in the order of all batches; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which owner of a shard is speaking; a later owner has a higher epoch. 0 is nobody's.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Epoch(pub u64);

/// The trees of the database. A record's place is its tree and its [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tree {
    /// The store's own numbers: schema, batch number, epochs, tallies. Not for others to write.
    Meta = 0,
    /// What is in the world: things, attributes, positions, edits, shard snapshots.
    World = 1,
    /// What belongs to people: identities, grants, tastes, tasks. Mostly sealed.
    People = 2,
    /// What non-player characters know and remember. What concerns a person is sealed.
    Minds = 3,
    /// What happened, in order: exchanges, outboxes, recorded inputs, channel chat.
    Journal = 4,
    /// What operators did.
    Audit = 5,
    /// What is known about content: recipes, audiences, expiry.
    Assets = 6,
}

impl Tree {
    /// Every tree, in the order of its byte.
    pub const ALL: [Self; 7] = [
        Self::Meta,
        Self::World,
        Self::People,
        Self::Minds,
        Self::Journal,
        Self::Audit,
        Self::Assets,
    ];

    /// Returns the name of the tree on disk and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::World => "world",
            Self::People => "people",
            Self::Minds => "minds",
            Self::Journal => "journal",
            Self::Audit => "audit",
            Self::Assets => "assets",
        }
    }

    /// Returns the place of this tree in [`Tree::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the tree of this byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// A record as its writer and reader see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose it is: such a record is sealed under that person's key.
    pub owner: Option<PersonId>,
    /// What the value is; numbers are given out by whoever defines the value.
    pub kind: u16,
    /// Which form of that kind the value has.
    pub version: u8,
    /// The value, at most [`VALUE_BYTES_MAX`].
    pub value: Vec<u8>,
}

/// What stands at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A readable record.
    Live(Record),
    /// A record of a person who was erased: its bytes can never be read again.
    Erased(PersonId),
}

impl Stored {
    /// Returns the record unless its owner was erased.
    #[must_use]
    pub fn live(self) -> Option<Record> {
        match self {
            Self::Live(record) => Some(record),
            Self::Erased(_) => None,
        }
    }
}

/// How far the store has come, as [`Store::subscribe`] shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every batch up to this one survives a power cut.
    pub durable: Number,
    /// Why nothing is written at the moment; nothing when all is well.
    pub trouble: Option<StoreError>,
}

/// An answer that takes a while.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Everything durable goes through here: one database, one order of batches.
///
/// `append` never waits. The reading calls and `enroll` and `erase` may touch the disk, so they
/// are made from threads that do not tick.
pub trait Store: Send + Sync + 'static {
    /// Queues a batch, all or nothing, and returns its number at once; it is durable later.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the shard has a newer owner, [`StoreError::Busy`] when the queue
    /// is full, [`StoreError::NotEnrolled`] for a record of a person without a key, the trouble
    /// itself while nothing can be written, or the bound that the batch breaks. Nothing is queued.
    fn append(&self, batch: Batch) -> Result<Number, StoreError>;

    /// Watches how far the store has come.
    fn subscribe(&self) -> watch::Receiver<Progress>;

    /// Returns the number up to which every batch survives a power cut.
    fn durable(&self) -> Number {
        self.subscribe().borrow().durable
    }

    /// Reads one record as of the last batch that was applied, which may not be durable yet.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the record is not what was written, or the disk's error.
    fn read(&self, tree: Tree, key: &Key) -> Result<Option<Stored>, StoreError>;

    /// Reads up to `limit` records (at most [`SCAN_RECORDS_MAX`]) whose keys start with `prefix`,
    /// in key order, from the one after `after` on.
    ///
    /// # Errors
    /// As for [`Store::read`].
    fn scan(
        &self,
        tree: Tree,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Stored)>, StoreError>;

    /// Waits until everything appended before this call is durable and returns its number.
    ///
    /// Fails with the trouble as soon as nothing can be written.
    fn flush(&self) -> Pending<Result<Number, StoreError>>;

    /// Makes the caller the shard's owner: durably hands out the next epoch. From this call on
    /// batches with an older epoch of that shard are refused.
    fn take_epoch(&self, shard: ShardId) -> Pending<Result<Epoch, StoreError>>;

    /// Returns the number of this run, for [`protocol::ids::IdMint`]: durable before the store
    /// opened, at least 1, and never the same for two runs.
    fn run_epoch(&self) -> u32;

    /// Gives a person a key, durably, before their first record; a second call changes nothing.
    ///
    /// # Errors
    /// When the key cannot be written or an existing one cannot be read.
    fn enroll(&self, person: PersonId) -> Result<(), StoreError>;

    /// Destroys a person's key: their records read as [`Stored::Erased`] from now on, in every
    /// backup too. New records need [`Store::enroll`] again and get a new key. Returns whether there
    /// was a key.
    ///
    /// # Errors
    /// When the key or the ledger of erasures cannot be changed; call again.
    fn erase(&self, person: PersonId) -> Result<bool, StoreError>;
}

/// Waits until `number` is durable.
///
/// # Errors
/// The trouble, as soon as the store cannot write; [`StoreError::Closed`] when it is gone.
pub async fn until_durable(
    mut progress: watch::Receiver<Progress>,
    number: Number,
) -> Result<(), StoreError> {
    let settled = progress.wait_for(|now| now.durable >= number || now.trouble.is_some()).await;
    let now = settled.map_err(|_| StoreError::Closed)?;
    match &now.trouble {
        Some(trouble) if now.durable < number => Err(trouble.clone()),
        Some(_) | None => Ok(()),
    }
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The queue is full: the disk is slower than what is asked of it.
    #[error("store queue is full with {batches} batches and {bytes} bytes; try again shortly")]
    Busy {
        /// Batches waiting.
        batches: usize,
        /// Bytes waiting.
        bytes: usize,
    },
    /// Somebody else owns the shard now.
    #[error(
        "shard {shard} is at epoch {current:?}, not {got:?}: it has another owner, stop writing"
    )]
    Fenced {
        /// The shard.
        shard: ShardId,
        /// The epoch of the batch.
        got: Epoch,
        /// The epoch handed out last.
        current: Epoch,
    },
    /// The batch breaks a bound of the store.
    #[error("batch refused: {what} is {got}, at most {most}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        got: usize,
        /// How large it may be.
        most: usize,
    },
    /// Only the store writes this tree.
    #[error("the tree `meta` belongs to the store itself; choose another tree")]
    Reserved,
    /// A record names an owner who has no key.
    #[error("person {person} has no key: call `enroll` before the first record")]
    NotEnrolled {
        /// The owner.
        person: PersonId,
    },
    /// The disk is full; writing goes on by itself when there is space.
    #[error("{} has {free} bytes free and {needed} are needed; free some space", path.display())]
    Full {
        /// Where.
        path: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes needed to go on.
        needed: u64,
    },
    /// A file could not be read or written.
    #[error("{what} {}: {why}", path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The disk refused to make data safe; what the system still shows may not be on it.
    #[error("{} could not be synced ({why}): check the disk, then restart", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// Stored bytes are not what was written.
    #[error("{} is damaged: {why}; nothing was deleted, restore a backup or look with `verify`", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Another process has the data open.
    #[error("{} is in use by process {holder}; stop it first, or use another folder", folder.display())]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// The holder's process id as it wrote it, or `unknown`.
        holder: String,
    },
    /// The data were written by a newer program.
    #[error("{} has schema {found}, this program knows up to {known}: use the newer program", folder.display())]
    Newer {
        /// The data folder.
        folder: PathBuf,
        /// Schema of the data.
        found: u16,
        /// Schema of this program.
        known: u16,
    },
    /// The target of a restore or backup holds something already.
    #[error("{} is not empty; name a place that does not exist yet", path.display())]
    Occupied {
        /// The target.
        path: PathBuf,
    },
    /// No further run or owner can be numbered.
    #[error("the store has run out of {what}")]
    Exhausted {
        /// Which numbers.
        what: &'static str,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}
