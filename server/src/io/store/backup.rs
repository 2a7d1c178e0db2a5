//! Backups: one file made while the store works, and a folder of them kept by a schedule.
//!
//! A backup holds every record and large value as of one durable batch, sealed ones still sealed,
//! and no keys: what was erased stays shut in it. [`crate::io::store::restore`] reads it back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use crate::io::store::SledStore;
use crate::io::store::folder::{free_bytes, io_error, rename, sync_folder};
use crate::io::store::rewrite::blob_name;
use crate::io::store::snapshot::Snapshot;
use crate::store::archive::{ArchiveWriter, BLOBS, Manifest};
use crate::store::retention::Schedule;
use crate::store::{StoreError, Tree, migrate};

const PREFIX: &str = "ecumene-";
const SUFFIX: &str = ".backup";

/// A folder of backups and when they are made and removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backups {
    /// Where they lie.
    pub folder: PathBuf,
    /// When they are made and which are kept.
    pub schedule: Schedule,
}

impl Backups {
    /// Makes a backup if one is due at `now` (seconds since 1970), then removes those no longer
    /// kept, and returns the new one's path. To be called every minute or so, from a thread that
    /// may wait.
    ///
    /// # Errors
    /// As for [`SledStore::backup`]; nothing is removed then.
    pub fn run(&self, store: &SledStore, now: u64) -> Result<Option<PathBuf>, StoreError> {
        fs::create_dir_all(&self.folder).map_err(|e| io_error("cannot make", &self.folder, &e))?;
        let made = self.made()?;
        if !self.schedule.is_due(&made, now) {
            return Ok(None);
        }
        let path = self.path(now);
        store.backup(&path, now, &mut |_, _| {})?;
        for time in self.schedule.expired(&self.made()?) {
            let old = self.path(time);
            fs::remove_file(&old).map_err(|e| io_error("cannot remove", &old, &e))?;
        }
        Ok(Some(path))
    }

    /// Returns when the backups in the folder were made, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn made(&self) -> Result<Vec<u64>, StoreError> {
        let entries =
            fs::read_dir(&self.folder).map_err(|e| io_error("cannot list", &self.folder, &e))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut made: Vec<u64> = names
            .filter_map(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse::<u64>().ok())
            .collect();
        made.sort_unstable();
        Ok(made)
    }

    /// Returns the path of the backup made at `time`.
    #[must_use]
    pub fn path(&self, time: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{time}{SUFFIX}"))
    }
}

impl SledStore {
    /// Writes everything as of one durable batch into the new file `dest`, while others go on.
    /// `now` is in seconds since 1970; `progress` hears records done and in all.
    ///
    /// # Errors
    /// [`StoreError::Occupied`] when `dest` is there, [`StoreError::Full`] before anything is written
    /// if it would leave the store no room, damage to a large value, or the system's.
    pub fn backup(
        &self,
        dest: &Path,
        now: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Manifest, StoreError> {
        if dest.exists() {
            return Err(StoreError::Occupied { path: dest.into() });
        }
        let parent = dest.parent().filter(|parent| *parent != Path::new(""));
        let parent = parent.unwrap_or_else(|| Path::new("."));
        self.has_room(parent)?;
        let mut part = dest.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let outcome = self.write_archive(&part, now, progress).map_err(|error| match error {
            Failed::Io(error) => io_error("cannot write", &part, &error),
            Failed::Store(error) => error,
        });
        if outcome.is_err() && part.exists() {
            fs::remove_file(&part).map_err(|e| io_error("cannot remove", &part, &e))?;
        }
        let manifest = outcome?;
        rename(&part, dest)?;
        sync_folder(parent)?;
        Ok(manifest)
    }

    /// Checks that a backup as large as the store fits beside what the store itself leaves free.
    fn has_room(&self, folder: &Path) -> Result<(), StoreError> {
        let needed = self.bytes().saturating_add(self.shared.options.reserve_bytes);
        match free_bytes(folder) {
            Some(free) if free < needed => {
                Err(StoreError::Full { path: folder.into(), free, needed })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn write_archive(
        &self,
        part: &Path,
        now: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Manifest, Failed> {
        let shared = &self.shared;
        let mut archive = ArchiveWriter::new(BufWriter::new(File::create(part)?))?;
        let schema = shared.with_engine(|engine| engine.number("schema"))?;
        let total = shared.with_engine(|engine| Ok(engine.tallies().records()))?;
        let snapshot = Snapshot::begin(shared)?;
        let (mut done, mut names) = (0, BTreeMap::new());
        for tree in Tree::ALL {
            archive.section(tree.name(), |items| {
                snapshot.read(tree, |key, bytes| {
                    done += 1;
                    progress(u64::min(done, total), total);
                    names.extend(blob_name(tree, &key, &bytes).map(|name| (name.hash, name)));
                    items.add(key.as_bytes(), &bytes).map_err(Failed::from)
                })
            })?;
        }
        archive.section(BLOBS, |items| {
            names.values().try_for_each(|&name| {
                let content = shared.blobs.read(name)?;
                items.add(&name.hash.0, &content).map_err(Failed::from)
            })
        })?;
        snapshot.settle()?;
        let schema = schema.and_then(|schema| u16::try_from(schema).ok());
        let schema = schema.unwrap_or(migrate::SCHEMA_FIRST);
        let (out, manifest) = archive.finish(schema, snapshot.number().0, now)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(manifest)
    }
}

enum Failed {
    Io(io::Error),
    Store(StoreError),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
