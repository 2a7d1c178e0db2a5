//! Rewriting a database into a fresh one that takes its place: compaction and migration.
//!
//! sled gives space back slowly; a rewrite holds only what is alive. The old database stays whole
//! until the new one is durable and swapped in, so there has to be room for both.

use std::collections::BTreeSet;
use std::path::Path;

use protocol::ids::ContentHash;

use crate::io::keys::KeyFolder;
use crate::io::store::blobs::Blobs;
use crate::io::store::engine::Engine;
use crate::io::store::folder::{DataFolder, folder_bytes, free_bytes};
use crate::io::store::{StoreOptions, open_engine};
use crate::store::batch::{self, Write};
use crate::store::intake;
use crate::store::migrate::{self, Entry};
use crate::store::record::{self, BlobName};
use crate::store::seal::{self, KeyId};
use crate::store::{Key, StoreError, Stored, Tree};

/// Records of one transaction of a rewrite.
const PAGE_RECORDS: usize = 1_024;

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes on disk before, large values included.
    pub bytes_before: u64,
    /// Bytes on disk after.
    pub bytes_after: u64,
    /// Records kept.
    pub records: u64,
    /// Records dropped because their owner was erased.
    pub dropped: u64,
    /// Files of large values removed.
    pub blobs_removed: u64,
}

/// Rewrites the database of a data folder that nobody has open, drops what erased people left
/// and removes large values that nothing names. `progress` hears records done and in all.
///
/// # Errors
/// [`StoreError::InUse`], [`StoreError::Full`] when there is no room for a second database, or
/// what opening says. The old database is in place unless the new one is whole.
pub fn compact(
    data: &Path,
    options: &StoreOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Compacted, StoreError> {
    let folder = DataFolder::take(data)?;
    let (keys, blobs) = (KeyFolder::open(data)?, Blobs::new(data));
    let old = open_engine(&folder, options)?;
    let bytes = || folder_bytes(&folder.db()) + folder_bytes(&data.join("blobs"));
    let mut report = Compacted { bytes_before: bytes(), ..Compacted::default() };
    has_room(&folder)?;
    let erased = keys.erased();
    let mut named = BTreeSet::new();
    let new = rewrite(&folder, &old, options, progress, &mut |tree, key, bytes| {
        if is_erased(tree, &key, &bytes, &erased, &blobs) {
            report.dropped += 1;
            return Ok(None);
        }
        report.records += u64::from(tree != Tree::Meta);
        named.extend(blob_name(tree, &key, &bytes).map(|name| name.hash));
        Ok(Some(Write { tree, key, bytes: Some(bytes), blob: None }))
    })?;
    new.close();
    old.close();
    folder.swap_db()?;
    report.blobs_removed = blobs.retain(&named)?;
    report.bytes_after = bytes();
    Ok(report)
}

/// Lifts a database to the newest schema, if it is older, and returns it open.
///
/// # Errors
/// When a record cannot be understood, or the disk's; the old database is still in place then.
pub fn migrate(
    folder: &DataFolder,
    keys: &KeyFolder,
    blobs: &Blobs,
    old: Engine,
    options: &StoreOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Engine, StoreError> {
    let newest = migrate::newest(options.migrations);
    let found = old.number("schema")?.and_then(|found| u16::try_from(found).ok());
    let from = found.unwrap_or(newest);
    if newest <= from {
        return Ok(old);
    }
    tracing::info!(from, to = newest, "migrating the store");
    has_room(folder)?;
    let new = rewrite(folder, &old, options, progress, &mut |tree, key, bytes| {
        if tree == Tree::Meta {
            let write = Write { tree, key: key.clone(), bytes: Some(bytes), blob: None };
            let is_schema = key == intake::own_key("schema");
            let schema = intake::own_number("schema", u64::from(newest));
            return Ok(Some(if is_schema { schema } else { write }));
        }
        let stored = batch::read(tree, &key, &bytes, keys, |name| blobs.read(name))?;
        // Nobody can open the records of erased people, so nobody can lift them.
        let Stored::Live(record) = stored else { return Ok(None) };
        let place = format!("{} {key:?}", tree.name());
        let lifted = migrate::lift(options.migrations, from, Entry { tree, key, record });
        let Some(entry) = lifted.map_err(|why| cannot_lift(folder, &place, &why))? else {
            return Ok(None);
        };
        let write = batch::write(entry.tree, entry.key, entry.record, keys)?;
        if let Some((hash, content)) = &write.blob {
            blobs.put(*hash, content)?;
        }
        Ok(Some(write))
    })?;
    new.close();
    old.close();
    folder.swap_db()?;
    open_engine(folder, options)
}

fn cannot_lift(folder: &DataFolder, place: &str, why: &str) -> StoreError {
    StoreError::Damaged {
        path: folder.db(),
        why: format!("record {place} cannot be migrated: {why}"),
    }
}

/// Copies what `each` makes of every record into a fresh, durable database beside the old one.
fn rewrite(
    folder: &DataFolder,
    old: &Engine,
    options: &StoreOptions,
    progress: &mut dyn FnMut(u64, u64),
    each: &mut dyn FnMut(Tree, Key, Vec<u8>) -> Result<Option<Write>, StoreError>,
) -> Result<Engine, StoreError> {
    let new = Engine::open(&folder.fresh_db()?, options.cache_bytes)?;
    let (mut done, total) = (0, old.tallies().records());
    for tree in Tree::ALL {
        let mut after = None;
        loop {
            let page = old.page(tree, after.as_ref(), PAGE_RECORDS)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            done += if tree == Tree::Meta { 0 } else { page.len() as u64 };
            let mut writes = Vec::with_capacity(page.len());
            for (key, bytes) in page {
                // Number and tallies are the new database's own.
                let is_own = [intake::own_key("number"), intake::own_key("tallies")].contains(&key);
                if tree != Tree::Meta || !is_own {
                    writes.extend(each(tree, key, bytes)?);
                }
            }
            new.commit(writes.iter(), old.applied())?;
            progress(done.min(total), total);
        }
    }
    new.sync_names()?;
    Ok(new)
}

fn has_room(folder: &DataFolder) -> Result<(), StoreError> {
    let needed = folder_bytes(&folder.db());
    match free_bytes(folder.path()) {
        Some(free) if free < needed => {
            Err(StoreError::Full { path: folder.path().into(), free, needed })
        }
        Some(_) | None => Ok(()),
    }
}

/// Returns the file that a stored record names.
#[must_use]
pub fn blob_name(tree: Tree, key: &Key, bytes: &[u8]) -> Option<BlobName> {
    let framed = record::decode(tree, key.as_bytes(), bytes).ok()?;
    framed.form.is_blob.then(|| BlobName::parse(framed.body).ok()).flatten()
}

/// Returns whether a stored record was sealed with a key that was destroyed.
fn is_erased(tree: Tree, key: &Key, bytes: &[u8], erased: &BTreeSet<KeyId>, blobs: &Blobs) -> bool {
    sealed_with(tree, key, bytes, |hash, length| blobs.read(BlobName { hash, length }).ok())
        .is_some_and(|id| erased.contains(&id))
}

/// Returns the name of the key that sealed a stored record, nothing if none did.
pub fn sealed_with(
    tree: Tree,
    key: &Key,
    bytes: &[u8],
    blob: impl FnOnce(ContentHash, u64) -> Option<Vec<u8>>,
) -> Option<KeyId> {
    let framed = record::decode(tree, key.as_bytes(), bytes).ok()?;
    framed.form.owner?;
    if !framed.form.is_blob {
        return seal::key_of(framed.body);
    }
    let name = BlobName::parse(framed.body).ok()?;
    seal::key_of(&blob(name.hash, name.length)?)
}
