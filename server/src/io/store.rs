//! The store on disk: sled behind [`Store`], one thread that writes, large values and keys in
//! files beside it.
//!
//! [`SledStore::open`] takes a data folder for this process alone. Folder layout is [`folder`]'s,
//! the database [`engine`]'s, the writing thread [`writer`]'s. [`backup`], [`check`] and
//! [`rewrite`] are what operators call. What a record means is never asked here.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use metrics::counter;
use protocol::ids::{PersonId, ShardId};
use tokio::sync::watch;

use crate::io::keys::KeyFolder;
use crate::store::batch::{self, Batch};
use crate::store::intake::{self, Intake};
use crate::store::migrate::{self, MIGRATIONS, Migration, SCHEMA_FIRST};
use crate::store::{
    Epoch, Key, Number, Pending, Progress, SCAN_RECORDS_MAX, Store, StoreError, Stored, Tree,
    until_durable,
};

pub mod backup;
pub mod blobs;
pub mod check;
pub mod engine;
pub mod folder;
pub mod restore;
pub mod rewrite;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod writer;

use blobs::Blobs;
use engine::Engine;
use folder::DataFolder;
use snapshot::Stash;

/// Runs that ids can tell apart, see [`protocol::ids::IdMint`].
const RUN_EPOCH_MAX: u64 = (1 << 24) - 1;

/// Settings of a store on disk.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Memory for pages of the database.
    pub cache_bytes: u64,
    /// Time from one group commit to the next, 5 to 10 ms: longer groups more, shorter answers
    /// sooner.
    pub group_every: Duration,
    /// Space that is left free on the disk: the store goes read-only before it is gone. With 0 it
    /// does so only when a write fails.
    pub reserve_bytes: u64,
    /// How older records become newer ones; other than the program's own only in tests.
    pub migrations: &'static [Migration],
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            group_every: Duration::from_millis(5),
            reserve_bytes: 64 << 20,
            migrations: MIGRATIONS,
        }
    }
}

/// The store of one data folder.
#[derive(Debug)]
pub struct SledStore {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    run_epoch: u32,
}

/// What callers and the writing thread share.
#[derive(Debug)]
pub struct Shared {
    intake: Mutex<Intake>,
    wake: Condvar,
    closing: AtomicBool,
    progress: watch::Sender<Progress>,
    /// Nothing while it has to be opened anew after an error.
    engine: RwLock<Option<Engine>>,
    stash: Mutex<Option<Stash>>,
    snapshots: Mutex<()>,
    keys: KeyFolder,
    blobs: Blobs,
    options: StoreOptions,
    folder: DataFolder,
}

impl SledStore {
    /// Opens the data folder `path`, an empty world's if there is nothing yet.
    ///
    /// `progress` hears how far a migration is, in records done and in all.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Damaged`], [`StoreError::Newer`], or the system's
    /// error. Nothing is deleted.
    pub fn open(
        path: &Path,
        options: StoreOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, StoreError> {
        let folder = DataFolder::take(path)?;
        let keys = KeyFolder::open(path)?;
        let blobs = Blobs::new(path);
        let engine = open_engine(&folder, &options)?;
        let engine = rewrite::migrate(&folder, &keys, &blobs, engine, &options, progress)?;
        let run_epoch = next_run(&engine)?;
        // A process that was killed may have left names that it never synced.
        engine.sync_names()?;
        folder::sync_folder(path)?;
        let durable = engine.applied();
        folder.write_mark(durable)?;
        let intake = Intake::new(durable, engine.epochs()?);
        let shared = Arc::new(Shared {
            intake: Mutex::new(intake),
            wake: Condvar::new(),
            closing: AtomicBool::new(false),
            progress: watch::Sender::new(Progress { durable, trouble: None }),
            engine: RwLock::new(Some(engine)),
            stash: Mutex::new(None),
            snapshots: Mutex::new(()),
            keys,
            blobs,
            options,
            folder,
        });
        let writer = std::thread::Builder::new().name("store".into()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                let run = AssertUnwindSafe(|| writer::run(&shared));
                if std::panic::catch_unwind(run).is_err() {
                    // Whoever waits for a batch has to learn that nobody writes any more.
                    let path = shared.folder.path().into();
                    let why = "the writing thread panicked".into();
                    let trouble = Some(StoreError::Broken { path, why });
                    shared.progress.send_modify(|now| now.trouble = trouble);
                }
            }
        });
        let writer = writer.map_err(|e| folder::io_error("cannot start a thread for", path, &e))?;
        Ok(Self { shared, writer: Some(writer), run_epoch })
    }

    /// Returns the bytes of the database and its large values on disk; walks the folder.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        folder::folder_bytes(&self.shared.folder.db())
            + folder::folder_bytes(&self.shared.folder.path().join("blobs"))
    }

    /// Returns the data folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.shared.folder.path().into()
    }

    /// Makes everything queued durable and closes.
    ///
    /// # Errors
    /// The trouble that kept something from becoming durable.
    pub fn close(mut self) -> Result<Number, StoreError> {
        self.stop();
        let last = self.shared.intake().last();
        let now = self.shared.progress.borrow().clone();
        match now.trouble {
            Some(trouble) if now.durable < last => Err(trouble),
            Some(_) | None => Ok(now.durable),
        }
    }

    fn stop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        // The writer must be either waiting or before its next look at `closing`.
        drop(self.shared.intake());
        self.shared.wake.notify_all();
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the store's thread ended with a panic");
        }
        self.shared.drop_engine();
    }

    fn open_record(&self, tree: Tree, key: &Key, bytes: &[u8]) -> Result<Stored, StoreError> {
        let shared = &self.shared;
        batch::read(tree, key, bytes, &shared.keys, |name| shared.blobs.read(name))
    }

    fn wait(&self, number: Number) -> Pending<Result<Number, StoreError>> {
        let progress = self.shared.progress.subscribe();
        Box::pin(async move { until_durable(progress, number).await.map(|()| number) })
    }

    fn trouble(&self) -> Result<(), StoreError> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        self.shared.progress.borrow().trouble.clone().map_or(Ok(()), Err)
    }

    fn try_append(&self, batch: Batch) -> Result<Number, StoreError> {
        self.trouble()?;
        let speaker = batch.speaker;
        let writes = batch::prepare(batch, &self.shared.keys)?;
        let number = self.shared.intake().push(speaker, writes)?;
        self.shared.wake.notify_one();
        Ok(number)
    }

    fn try_fence(&self, shard: ShardId) -> Result<(Epoch, Number), StoreError> {
        self.trouble()?;
        let fenced = self.shared.intake().fence(shard)?;
        self.shared.wake.notify_one();
        Ok(fenced)
    }
}

impl Store for SledStore {
    fn append(&self, batch: Batch) -> Result<Number, StoreError> {
        let outcome = self.try_append(batch);
        if outcome.is_err() {
            counter!("ecumene_store_refusals_total").increment(1);
        }
        outcome
    }

    fn subscribe(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    fn read(&self, tree: Tree, key: &Key) -> Result<Option<Stored>, StoreError> {
        let found = self.shared.with_engine(|engine| engine.get(tree, key))?;
        found.map(|bytes| self.open_record(tree, key, &bytes)).transpose()
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Stored)>, StoreError> {
        let limit = limit.min(SCAN_RECORDS_MAX);
        let found = self.shared.with_engine(|engine| engine.range(tree, prefix, after, limit))?;
        let opened = found.into_iter().map(|(key, bytes)| {
            let stored = self.open_record(tree, &key, &bytes)?;
            Ok((key, stored))
        });
        opened.collect()
    }

    fn flush(&self) -> Pending<Result<Number, StoreError>> {
        let last = self.shared.intake().last();
        self.wait(last)
    }

    fn take_epoch(&self, shard: ShardId) -> Pending<Result<Epoch, StoreError>> {
        match self.try_fence(shard) {
            Ok((epoch, number)) => {
                let durable = self.wait(number);
                Box::pin(async move { durable.await.map(|_| epoch) })
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn run_epoch(&self) -> u32 {
        self.run_epoch
    }

    fn enroll(&self, person: PersonId) -> Result<(), StoreError> {
        self.shared.keys.enroll(person)
    }

    fn erase(&self, person: PersonId) -> Result<bool, StoreError> {
        self.shared.keys.erase(person)
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        if self.writer.is_some() {
            self.stop();
        }
    }
}

impl Shared {
    fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stash(&self) -> MutexGuard<'_, Option<Stash>> {
        self.stash.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from the database, unless it is closed or could not be opened again.
    fn with_engine<T>(
        &self,
        read: impl FnOnce(&Engine) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let trouble = || self.progress.borrow().trouble.clone().unwrap_or(StoreError::Closed);
        read(engine.as_ref().ok_or_else(trouble)?)
    }

    /// Uses the database, opening it again if an error closed it.
    fn with_open_engine<T>(
        &self,
        run: impl FnOnce(&Engine) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let is_open = self.engine.read().unwrap_or_else(PoisonError::into_inner).is_some();
        if !is_open {
            let engine = open_engine(&self.folder, &self.options)?;
            *self.engine.write().unwrap_or_else(PoisonError::into_inner) = Some(engine);
        }
        self.with_engine(run)
    }

    fn drop_engine(&self) {
        let engine = self.engine.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(engine) = engine {
            engine.close();
        }
    }

    fn mark(&self) {
        let durable = self.progress.borrow().durable;
        if let Err(error) = self.folder.write_mark(durable) {
            // The older mark still holds; only its reach is shorter.
            tracing::debug!(%error, "mark not renewed");
        }
    }
}

/// Opens the database of a data folder and checks that it reaches as far as it once did.
fn open_engine(folder: &DataFolder, options: &StoreOptions) -> Result<Engine, StoreError> {
    if !folder.db().exists() {
        make_engine(folder, options)?;
    }
    let engine = Engine::open(&folder.db(), options.cache_bytes)?;
    // A damaged mark is for `verify` to report: it holds nothing that is needed.
    let mark = folder.read_mark().ok().flatten().unwrap_or_default();
    let applied = engine.applied();
    if applied < mark {
        let why = format!("it ends at batch {applied}, and {mark} were durable");
        return Err(StoreError::Damaged { path: folder.db(), why });
    }
    match engine.number("schema")? {
        Some(found) => {
            let (found, known) =
                (u16::try_from(found).unwrap_or(u16::MAX), migrate::newest(options.migrations));
            if known < found {
                return Err(StoreError::Newer { folder: folder.path().into(), found, known });
            }
        }
        None if Number(0) < applied => {
            let why = "its schema number is missing".into();
            return Err(StoreError::Damaged { path: folder.db(), why });
        }
        None => note_schema(&engine, options)?,
    }
    Ok(engine)
}

/// Makes the first database of a data folder, aside: sled cannot open one that it was killed while
/// making.
fn make_engine(folder: &DataFolder, options: &StoreOptions) -> Result<(), StoreError> {
    let engine = Engine::open(&folder.fresh_db()?, options.cache_bytes)?;
    note_schema(&engine, options)?;
    engine.close();
    folder.swap_db()
}

/// Writes into an empty database how its records are laid out.
fn note_schema(engine: &Engine, options: &StoreOptions) -> Result<(), StoreError> {
    let schema = u64::from(migrate::newest(options.migrations).max(SCHEMA_FIRST));
    engine.commit([intake::own_number("schema", schema)].iter(), Number(0))?;
    engine.sync_names()
}

/// Hands out the number of this run, durable before anything uses it.
fn next_run(engine: &Engine) -> Result<u32, StoreError> {
    let run = engine.number("run")?.unwrap_or(0).saturating_add(1);
    let exhausted = StoreError::Exhausted { what: "run numbers" };
    if RUN_EPOCH_MAX < run {
        return Err(exhausted);
    }
    engine.commit([intake::own_number("run", run)].iter(), engine.applied())?;
    engine.sync()?;
    u32::try_from(run).map_err(|_| exhausted)
}
