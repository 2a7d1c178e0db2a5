//! The sled database: opened, changed in one transaction at a time, made durable.
//!
//! sled may panic on files that are not what it wrote; every call is caught here and comes back
//! as an error, and its panic text goes to the debug log instead of the terminal. Only the writer
//! thread commits. sled's own `flush` does not survive a power cut; [`Engine::sync`] does.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use protocol::ids::ShardId;
use sled::transaction::{
    ConflictableTransactionResult, TransactionError, Transactional, TransactionalTree,
};

use crate::io::store::folder::{io_error, sync_files};
use crate::store::batch::Write;
use crate::store::intake;
use crate::store::tally::Tallies;
use crate::store::{Epoch, Key, Number, StoreError, Tree, record};

/// Segment of sled's log. A leaf of up to a quarter of it stays in the log, where it is synced.
const SEGMENT_BYTES: usize = 2 << 20;
/// Pause between sled's cleanings of its log, which it does on a thread of its own.
const CLEAN_EVERY_MS: u64 = 1_000;

/// What stood at a place before a commit.
pub type Before = (Tree, Key, Option<Vec<u8>>);

/// An open database.
#[derive(Debug)]
pub struct Engine {
    db: sled::Db,
    trees: Vec<sled::Tree>,
    file: File,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    tallies: Tallies,
    applied: Number,
}

/// Times that a locked database is tried again: two seconds in all.
const LOCK_TRIES_MAX: u32 = 40;

/// How long to wait in between.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Opens the database, waiting for a lock that lingers.
///
/// The data folder's own lock says that nobody else uses it. sled's is given back when the last
/// copy of its file closes, and a process started in that moment holds one until it runs.
#[expect(clippy::disallowed_methods, reason = "while a store is opened nothing ticks yet")]
fn open_patiently(config: &sled::Config) -> sled::Result<sled::Db> {
    for _ in 0..LOCK_TRIES_MAX {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
    config.open()
}

/// Removes summaries of the log that sled did not finish writing.
///
/// sled writes one while it opens, takes an unfinished one for a damaged one, and then never opens
/// again. It makes them anew from the log.
fn remove_unfinished(path: &Path) -> Result<(), StoreError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("cannot list", path, &error)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| io_error("cannot list", path, &e))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::debug!(%name, "removed an unfinished summary of the log");
            let removed = std::fs::remove_file(entry.path());
            removed.map_err(|e| io_error("cannot remove", &entry.path(), &e))?;
        }
    }
    Ok(())
}

impl Engine {
    /// Opens the database in `path`, an empty one if there is none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is not what was written, or the system's error.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(path)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(cache_bytes)
            .mode(sled::Mode::LowSpace)
            .flush_every_ms(Some(CLEAN_EVERY_MS));
        remove_unfinished(path)?;
        let (db, trees) = quiet(path, || {
            let db = open_patiently(&config)?;
            let trees = Tree::ALL.iter().map(|tree| db.open_tree(tree.name()));
            let trees = trees.collect::<sled::Result<Vec<_>>>()?;
            Ok((db, trees))
        })?;
        let log = path.join("db");
        let file = File::open(&log).map_err(|e| io_error("cannot open", &log, &e))?;
        let engine = Self { db, trees, file, path: path.into(), state: Mutex::default() };
        engine.load()?;
        Ok(engine)
    }

    fn load(&self) -> Result<(), StoreError> {
        let damaged = |what: &str| self.damaged(format!("its {what} cannot be read"));
        let key = intake::own_key("tallies");
        let mut state = State::default();
        if let Some(bytes) = self.get(Tree::Meta, &key)? {
            let framed = record::decode(Tree::Meta, key.as_bytes(), &bytes);
            let tallies = framed.ok().and_then(|framed| Tallies::parse(framed.body));
            state.tallies = tallies.ok_or_else(|| damaged("tallies"))?;
            state.applied = Number(self.number("number")?.ok_or_else(|| damaged("batch number"))?);
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    /// Returns the number of the last batch in the database.
    #[must_use]
    pub fn applied(&self) -> Number {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).applied
    }

    /// Returns the tallies of the last batch.
    #[must_use]
    pub fn tallies(&self) -> Tallies {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).tallies
    }

    /// Returns a number of the store's own.
    ///
    /// # Errors
    /// When it is there and damaged.
    pub fn number(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let key = intake::own_key(name);
        let Some(bytes) = self.get(Tree::Meta, &key)? else { return Ok(None) };
        let number = intake::parse_number(&key, &bytes);
        number.map(Some).ok_or_else(|| self.damaged(format!("its number `{name}` is unreadable")))
    }

    /// Returns who owns which shard.
    ///
    /// # Errors
    /// When one is damaged.
    pub fn epochs(&self) -> Result<BTreeMap<ShardId, Epoch>, StoreError> {
        let all = self.range(Tree::Meta, &intake::epochs(), None, usize::MAX)?;
        let parsed = all.iter().map(|(key, bytes)| {
            let epoch = intake::parse_epoch(key, bytes);
            epoch.ok_or_else(|| self.damaged("the epoch of a shard is unreadable".into()))
        });
        parsed.collect()
    }

    /// Returns the stored record at a place.
    ///
    /// # Errors
    /// sled's.
    pub fn get(&self, tree: Tree, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        let found = quiet(&self.path, || self.trees[tree.index()].get(key.as_bytes()))?;
        Ok(found.map(|bytes| bytes.to_vec()))
    }

    /// Returns up to `limit` stored records under `prefix`, from the one behind `after` on.
    ///
    /// # Errors
    /// sled's, or that a key is none of ours.
    pub fn range(
        &self,
        tree: Tree,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        self.collect(tree, prefix.as_bytes(), after, limit)
    }

    /// Returns up to `limit` stored records of a tree, from the one behind `after` on.
    ///
    /// # Errors
    /// As for [`Engine::range`].
    pub fn page(
        &self,
        tree: Tree,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        self.collect(tree, &[], after, limit)
    }

    fn collect(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        let after = after.map(Key::as_bytes);
        let from = after.map_or(prefix, |after| after.max(prefix));
        let pairs = quiet(&self.path, || {
            let pairs = self.trees[tree.index()].range(from..);
            let of_ours = pairs.filter(|pair| {
                pair.as_ref().map_or(true, |(key, _)| after.is_none_or(|after| key != after))
            });
            let under = of_ours
                .take_while(|pair| pair.as_ref().map_or(true, |(key, _)| key.starts_with(prefix)));
            under.take(limit).collect::<sled::Result<Vec<_>>>()
        })?;
        let parsed = pairs.into_iter().map(|(key, bytes)| {
            let key = Key::from_stored(&key);
            let key = key.ok_or_else(|| self.damaged("it has a key out of bounds".into()))?;
            Ok((key, bytes.to_vec()))
        });
        parsed.collect()
    }

    /// Applies writes in one transaction, together with the number they bring the database to, and
    /// returns what stood at each place before. They are not durable before [`Engine::sync`].
    ///
    /// # Errors
    /// sled's; the database is then of no more use and has to be opened again.
    pub fn commit<'a>(
        &self,
        writes: impl Iterator<Item = &'a Write> + Clone,
        last: Number,
    ) -> Result<Vec<Before>, StoreError> {
        let tallies = self.tallies();
        let (tallies, before) = quiet(&self.path, || {
            let done =
                self.trees[..].transaction(|views| apply(views, writes.clone(), tallies, last));
            done.map_err(|error: TransactionError<()>| match error {
                TransactionError::Storage(error) => error,
                TransactionError::Abort(()) => {
                    sled::Error::ReportableBug("a transaction that never aborts did".into())
                }
            })
        })?;
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) =
            State { tallies, applied: last };
        Ok(before)
    }

    /// Makes everything committed durable: sled's flush, then the disk's.
    ///
    /// # Errors
    /// [`StoreError::Broken`] when the disk refuses, or sled's error.
    pub fn sync(&self) -> Result<(), StoreError> {
        quiet(&self.path, || self.db.flush())?;
        let broken = |e: std::io::Error| StoreError::Broken {
            path: self.path.join("db"),
            why: e.to_string(),
        };
        self.file.sync_data().map_err(broken)
    }

    /// Makes the files of a database that was just made durable, names included.
    ///
    /// # Errors
    /// As for [`Engine::sync`].
    pub fn sync_names(&self) -> Result<(), StoreError> {
        self.sync()?;
        sync_files(&self.path)
    }

    /// Closes the database, whatever state it is in.
    pub fn close(self) {
        let path = self.path.clone();
        if let Err(error) = quiet(&path, || {
            drop(self);
            Ok(())
        }) {
            tracing::debug!(%error, "database closed in disorder");
        }
    }

    fn damaged(&self, why: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), why }
    }
}

fn apply<'a>(
    views: &[TransactionalTree],
    writes: impl Iterator<Item = &'a Write>,
    mut tallies: Tallies,
    last: Number,
) -> ConflictableTransactionResult<(Tallies, Vec<Before>), ()> {
    let mut before = Vec::new();
    let put = |write: &Write| {
        let view = &views[write.tree.index()];
        let key = write.key.as_bytes();
        let old = match &write.bytes {
            Some(bytes) => view.insert(key, bytes.as_slice())?,
            None => view.remove(key)?,
        };
        Ok::<_, sled::transaction::ConflictableTransactionError<()>>(old.map(|old| old.to_vec()))
    };
    for write in writes {
        let old = put(write)?;
        tallies.change(write.tree, old.as_deref(), write.bytes.as_deref());
        before.push((write.tree, write.key.clone(), old));
    }
    for own in
        [intake::own_number("number", last.0), intake::own_body("tallies", tallies.to_bytes())]
    {
        let old = put(&own)?;
        before.push((own.tree, own.key, old));
    }
    Ok((tallies, before))
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs sled code: errors become ours, panics become errors and stay off the terminal.
fn quiet<T>(path: &Path, run: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    hush_sled();
    let was = QUIET.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(run));
    QUIET.set(was);
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(io_error("cannot use", path, &error)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "sled error");
            Err(StoreError::Damaged { path: path.into(), why: summary(&error).into() })
        }
        Err(_) => Err(StoreError::Damaged {
            path: path.into(),
            why: "the database library gave up on its files".into(),
        }),
    }
}

fn summary(error: &sled::Error) -> &'static str {
    match error {
        sled::Error::Corruption { .. } => "a checksum in the database is wrong",
        sled::Error::Unsupported(_) => "its settings are not those of this program",
        sled::Error::CollectionNotFound(_) => "a tree is missing",
        sled::Error::ReportableBug(_) => "the database library contradicts itself",
        sled::Error::Io(_) => "it cannot be read",
    }
}

/// Sends panics of sled's own threads and calls to the debug log; all others go where they went.
fn hush_sled() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let is_sled = thread.name().is_some_and(|name| name.starts_with("sled-"));
            if is_sled || QUIET.get() {
                tracing::debug!(panic = %info, "caught in the database library");
            } else {
                before(info);
            }
        }));
    });
}
