//! Reading a backup back into a new data folder.
//!
//! All of the backup is checked before anything is written. Keys come from the live data folder
//! (or a copy of its `keys/` and `erased`), and whatever the ledger there says was erased since is
//! left out. The new folder appears under its name only when it is whole and durable.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use protocol::ids::ContentHash;

use crate::io::keys::KeyFolder;
use crate::io::store::StoreOptions;
use crate::io::store::blobs::Blobs;
use crate::io::store::engine::Engine;
use crate::io::store::folder::{io_error, remove_folder, sync_files, sync_folder};
use crate::io::store::rewrite::{blob_name, sealed_with};
use crate::store::archive::{self, ArchiveError, BLOBS, Manifest, Section};
use crate::store::batch::Write;
use crate::store::record::BlobName;
use crate::store::seal::{self, KeyId};
use crate::store::tally::Tallies;
use crate::store::{Epoch, Key, Number, StoreError, Tree, intake, migrate, record};

/// How far a restore advances run numbers and epochs: more runs and owners than there can have
/// been since the backup, so that no id and no epoch comes twice.
const EPOCHS_SKIPPED: u64 = 1_024;
/// Records written in one transaction.
const PAGE_RECORDS: usize = 1_024;

/// What a restore did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The last batch in the backup.
    pub number: Number,
    /// Records written, the store's own included.
    pub records: u64,
    /// Records left out because their owner was erased.
    pub erased: u64,
    /// Large values.
    pub blobs: u64,
}

/// Reads all of a backup and checks it, writing nothing. `progress` hears items done and in all.
///
/// # Errors
/// [`StoreError::Damaged`] when it is not what was written, or the system's.
pub fn verify_backup(
    file: &Path,
    options: &StoreOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, StoreError> {
    let mut backup = Backup::open(file, options)?;
    backup.check(progress)
}

/// Makes the data folder `into` from a backup, with the keys of the data folder `live` except
/// erased ones; without `live`, personal records stay shut. `progress` hears items done and in
/// all, twice: while checking and while writing.
///
/// # Errors
/// [`StoreError::Occupied`] when `into` is there and not empty, [`StoreError::Damaged`] when the
/// backup is not what was written, or the system's. `into` is untouched then.
pub fn restore(
    file: &Path,
    into: &Path,
    live: Option<&Path>,
    options: &StoreOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, StoreError> {
    if fs::read_dir(into).is_ok_and(|mut entries| entries.next().is_some()) || into.is_file() {
        return Err(StoreError::Occupied { path: into.into() });
    }
    let keys = live.map(keys_of).transpose()?;
    let mut backup = Backup::open(file, options)?;
    backup.check(progress)?;
    let mut part = into.as_os_str().to_owned();
    part.push(".restoring");
    let part = PathBuf::from(part);
    remove_folder(&part)?;
    fs::create_dir_all(&part).map_err(|e| io_error("cannot make", &part, &e))?;
    let erased = keys.as_ref().map(KeyFolder::erased).unwrap_or_default();
    if let Some(keys) = keys {
        keys.copy_to(&part)?;
    }
    let report = backup.write(&part, &erased, options, progress)?;
    sync_files(&part)?;
    fs::rename(&part, into).map_err(|e| io_error("cannot make", into, &e))?;
    let parent = into.parent().filter(|parent| *parent != Path::new(""));
    sync_folder(parent.unwrap_or_else(|| Path::new(".")))?;
    Ok(report)
}

fn keys_of(live: &Path) -> Result<KeyFolder, StoreError> {
    if !live.join("keys").is_dir() {
        let why = "it has no `keys` folder".into();
        return Err(StoreError::Io { what: "cannot take keys from", path: live.into(), why });
    }
    KeyFolder::peek(live)
}

struct Backup {
    path: PathBuf,
    file: File,
    manifest: Manifest,
    /// Which key sealed which large value, by its first bytes.
    blobs: BTreeMap<ContentHash, (u64, Option<KeyId>)>,
}

impl Backup {
    fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let mut file = File::open(path).map_err(|e| io_error("cannot open", path, &e))?;
        let manifest = archive::read_manifest(&mut file).map_err(|e| from_archive(path, e))?;
        let known = migrate::newest(options.migrations);
        if known < manifest.schema {
            return Err(StoreError::Newer { folder: path.into(), found: manifest.schema, known });
        }
        Ok(Self { path: path.into(), file, manifest, blobs: BTreeMap::new() })
    }

    /// Reads everything: sections, records, large values, tallies.
    fn check(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<Restored, StoreError> {
        let mut report = Restored { number: Number(self.manifest.number), ..Restored::default() };
        let mut blobs = BTreeMap::new();
        self.each_blob(&mut |hash, content| {
            blobs.insert(hash, (content.len() as u64, seal::key_of(&content)));
            Ok(())
        })?;
        report.blobs = blobs.len() as u64;
        let (mut counted, mut noted, path) = (Tallies::default(), None, self.path.clone());
        self.each_record(progress, &mut |tree, key, bytes| {
            report.records += 1;
            counted.change(tree, None, Some(&bytes));
            if tree == Tree::Meta && key == intake::own_key("tallies") {
                let framed = record::decode(tree, key.as_bytes(), &bytes).ok();
                noted = framed.and_then(|framed| Tallies::parse(framed.body));
            }
            let name = blob_name(tree, &key, &bytes);
            match name.filter(|name| blobs.get(&name.hash).map(|blob| blob.0) != Some(name.length))
            {
                Some(BlobName { hash, .. }) => Err(damaged(&path, format!("lacks value {hash}"))),
                None => Ok(()),
            }
        })?;
        if noted != Some(counted) {
            return Err(damaged(&self.path, "its records are not those of its tallies".into()));
        }
        self.blobs = blobs;
        Ok(report)
    }

    fn write(
        &mut self,
        data: &Path,
        erased: &BTreeSet<KeyId>,
        options: &StoreOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Restored, StoreError> {
        let number = Number(self.manifest.number);
        let mut report = Restored { number, ..Restored::default() };
        let (engine, blobs) =
            (Engine::open(&data.join("db"), options.cache_bytes)?, Blobs::new(data));
        self.each_blob(&mut |hash, content| {
            if seal::key_of(&content).is_none_or(|id| !erased.contains(&id)) {
                report.blobs += 1;
                blobs.put(hash, &content)?;
            }
            Ok(())
        })?;
        let (known, mut page) = (self.blobs.clone(), Vec::new());
        self.each_record(progress, &mut |tree, key, bytes| {
            let id = sealed_with(tree, &key, &bytes, |hash, _| {
                known.get(&hash).and_then(|blob| blob.1).map(|id| id.0.to_vec())
            });
            if id.is_some_and(|id| erased.contains(&id)) {
                report.erased += 1;
                return Ok(());
            }
            report.records += 1;
            page.extend(restored(tree, key, bytes));
            if PAGE_RECORDS <= page.len() {
                engine.commit(std::mem::take(&mut page).iter(), number)?;
            }
            Ok(())
        })?;
        engine.commit(page.iter(), number)?;
        engine.sync_names()?;
        engine.close();
        Ok(report)
    }

    fn each_blob(
        &mut self,
        each: &mut dyn FnMut(ContentHash, Vec<u8>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let path = self.path.clone();
        let section = self.section(BLOBS)?;
        let outcome = archive::read_section(&mut self.file, &section, |key, content| {
            let name = ContentHash::of(&content);
            if key != name.0 {
                return Err(Failed::Store(damaged(&path, format!("value {name} is misnamed"))));
            }
            each(name, content).map_err(Failed::Store)
        });
        outcome.map_err(|error| error.into_store(&self.path))
    }

    fn each_record(
        &mut self,
        progress: &mut dyn FnMut(u64, u64),
        each: &mut dyn FnMut(Tree, Key, Vec<u8>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (mut done, path) = (0, self.path.clone());
        let total = self.manifest.sections.iter().map(|section| section.items).sum();
        for tree in Tree::ALL {
            let section = self.section(tree.name())?;
            let outcome = archive::read_section(&mut self.file, &section, |key, bytes| {
                done += 1;
                progress(u64::min(done, total), total);
                let found = record::decode(tree, key, &bytes).map(|_| Key::from_stored(key));
                let Ok(Some(key)) = found else {
                    let why = format!("a record of `{}` is unreadable", tree.name());
                    return Err(Failed::Store(damaged(&path, why)));
                };
                each(tree, key, bytes).map_err(Failed::Store)
            });
            outcome.map_err(|error| error.into_store(&self.path))?;
        }
        Ok(())
    }

    fn section(&self, name: &str) -> Result<Section, StoreError> {
        let found = self.manifest.sections.iter().find(|section| section.name == name);
        found.cloned().ok_or_else(|| damaged(&self.path, format!("section `{name}` is missing")))
    }
}

/// Returns a record as it is restored; nothing for what the new database writes itself.
fn restored(tree: Tree, key: Key, bytes: Vec<u8>) -> Option<Write> {
    if tree == Tree::Meta {
        if [intake::own_key("number"), intake::own_key("tallies")].contains(&key) {
            return None;
        }
        if key == intake::own_key("run") {
            let run = intake::parse_number(&key, &bytes)?;
            return Some(intake::own_number("run", run.saturating_add(EPOCHS_SKIPPED)));
        }
        if let Some((shard, epoch)) = intake::parse_epoch(&key, &bytes) {
            let epoch = Epoch(epoch.0.saturating_add(EPOCHS_SKIPPED));
            return Some(intake::epoch_write(shard, epoch));
        }
    }
    Some(Write { tree, key, bytes: Some(bytes), blob: None })
}

enum Failed {
    Archive(ArchiveError),
    Store(StoreError),
}

impl Failed {
    fn into_store(self, path: &Path) -> StoreError {
        match self {
            Self::Archive(error) => from_archive(path, error),
            Self::Store(error) => error,
        }
    }
}

impl From<ArchiveError> for Failed {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

fn from_archive(path: &Path, error: ArchiveError) -> StoreError {
    // A stream that cannot be decoded is as damaged as one with a wrong checksum.
    damaged(path, error.to_string())
}

fn damaged(path: &Path, why: String) -> StoreError {
    StoreError::Damaged { path: path.into(), why }
}
