//! The cache folder: encoded chunks in files named by what they are and by their hash.
//!
//! Owns files named `WORLD.LEVEL.X.Z.HASH`, where the world is the head of the terrain's
//! fingerprint. What is read is believed only if it has its hash; nothing here is needed: a lost,
//! damaged or unwritable file costs the time to make the chunk again.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use protocol::ids::{ChunkId, ContentHash};
use tracing::{debug, warn};

use crate::limits::{CHUNK_BYTES_MAX, DISK_FILES_MAX};
use crate::recent::Recent;

/// A file takes whole blocks, however short it is.
const BLOCK_BYTES: u64 = 4_096;
/// The end of a name under which a file is written before it has its own.
const UNFINISHED: &str = ".part";

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    world: u64,
    chunk: ChunkId,
}

/// Chunks of one terrain on disk; other terrains may share the folder and its bound.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    world: u64,
    entries: Recent<Key, ContentHash>,
    // Cleared by the first failure, which is then logged once.
    writable: bool,
}

impl DiskCache {
    /// Returns the cache in `folder`, made if absent, of the terrain with this fingerprint; all
    /// files of the folder together take at most `bytes_max`.
    ///
    /// A folder that cannot be made, listed or written leaves a cache that holds nothing.
    #[must_use]
    pub fn open(folder: &Path, fingerprint: ContentHash, bytes_max: u64) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = fingerprint.0;
        let mut cache = Self {
            folder: folder.into(),
            world: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            entries: Recent::new(bytes_max),
            writable: true,
        };
        match fs::create_dir_all(folder).and_then(|()| list(folder)) {
            Ok(files) => files.into_iter().for_each(|(_, bytes, key, hash)| {
                cache.admit(key, hash, bytes);
            }),
            Err(error) => cache.give_up(&error),
        }
        cache
    }

    /// Returns the bytes of `chunk`, if they are here and whole.
    pub fn load(&mut self, chunk: ChunkId) -> Option<Vec<u8>> {
        let key = Key { world: self.world, chunk };
        let hash = *self.entries.touch(&key)?;
        match read(&self.path(key, hash)) {
            Ok(bytes) if ContentHash::of(&bytes) == hash => Some(bytes),
            Ok(_) => {
                debug!(%chunk, "cached chunk is damaged and is made again");
                self.forget(key);
                None
            }
            Err(error) => {
                debug!(%chunk, %error, "cached chunk is unreadable and is made again");
                self.forget(key);
                None
            }
        }
    }

    /// Keeps the bytes of `chunk`, whose name is `hash`.
    pub fn store(&mut self, chunk: ChunkId, hash: ContentHash, bytes: &[u8]) {
        let key = Key { world: self.world, chunk };
        if !self.writable || self.entries.touch(&key) == Some(&hash) {
            return;
        }
        let path = self.path(key, hash);
        let unfinished = path.with_added_extension(&UNFINISHED[1..]);
        // A crash leaves a file under the unfinished name, which the next start removes.
        match fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, &path)) {
            Ok(()) => self.admit(key, hash, bytes.len() as u64),
            Err(error) => self.give_up(&error),
        }
    }

    /// Returns the bytes of disk the known files take.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.entries.bytes()
    }

    fn admit(&mut self, key: Key, hash: ContentHash, bytes: u64) {
        let blocks = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        for (gone, gone_hash) in self.entries.insert(key, hash, blocks) {
            if (gone, gone_hash) != (key, hash) || self.entries.touch(&key).is_none() {
                remove(&self.path(gone, gone_hash));
            }
        }
    }

    fn forget(&mut self, key: Key) {
        if let Some(hash) = self.entries.remove(&key) {
            remove(&self.path(key, hash));
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        let folder = self.folder.display();
        warn!(%folder, %error, "chunk cache cannot be written; chunks are kept in memory only");
        self.writable = false;
    }

    fn path(&self, key: Key, hash: ContentHash) -> PathBuf {
        let Key { world, chunk: ChunkId { level, x, z } } = key;
        self.folder.join(format!("{world:016x}.{level}.{x}.{z}.{hash}"))
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        debug!(path = %path.display(), %error, "cached chunk stays");
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(CHUNK_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns what lies in the folder, longest untouched first; removes what was never finished.
fn list(folder: &Path) -> io::Result<Vec<(SystemTime, u64, Key, ContentHash)>> {
    let mut files = Vec::new();
    for file in fs::read_dir(folder)?.take(2 * DISK_FILES_MAX) {
        let file = file?;
        let Ok(name) = file.file_name().into_string() else { continue };
        if name.ends_with(UNFINISHED) && parse(name.trim_end_matches(UNFINISHED)).is_some() {
            remove(&file.path());
        } else if let Some((key, hash)) = parse(&name) {
            let about = file.metadata()?;
            let written = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push((written, about.len(), key, hash));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn parse(name: &str) -> Option<(Key, ContentHash)> {
    let mut parts = name.split('.');
    let world = parts.next().filter(|digits| digits.len() == 16)?;
    let world = u64::from_str_radix(world, 16).ok()?;
    let level = parts.next()?.parse().ok()?;
    let x = parts.next()?.parse().ok()?;
    let z = parts.next()?.parse().ok()?;
    let digits = parts.next().filter(|digits| digits.len() == 64 && digits.is_ascii())?;
    let mut hash = [0; 32];
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()?;
    }
    let key = Key { world, chunk: ChunkId { level, x, z } };
    parts.next().is_none().then_some((key, ContentHash(hash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLD: ContentHash = ContentHash([7; 32]);

    fn chunk(x: i32) -> ChunkId {
        ChunkId { level: 1, x, z: -4 }
    }

    fn store(cache: &mut DiskCache, x: i32, bytes: &[u8]) {
        cache.store(chunk(x), ContentHash::of(bytes), bytes);
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).expect("lists").count()
    }

    #[test]
    fn what_was_stored_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        store(&mut DiskCache::open(folder.path(), WORLD, 1 << 20), 1, b"hills");
        let mut again = DiskCache::open(folder.path(), WORLD, 1 << 20);
        assert_eq!(again.load(chunk(1)).as_deref(), Some(b"hills".as_slice()));
        assert_eq!(again.load(chunk(2)), None);
        let mut other = DiskCache::open(folder.path(), ContentHash([8; 32]), 1 << 20);
        assert_eq!(other.load(chunk(1)), None);
        assert_eq!(other.bytes(), BLOCK_BYTES);
    }

    #[test]
    fn a_damaged_file_is_not_believed_and_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut cache = DiskCache::open(folder.path(), WORLD, 1 << 20);
        store(&mut cache, 1, b"hills");
        let file = fs::read_dir(folder.path()).expect("lists").next().expect("one").expect("reads");
        fs::write(file.path(), b"hellx").expect("writes");
        assert_eq!(cache.load(chunk(1)), None);
        assert_eq!(files(folder.path()), 0);
        store(&mut cache, 1, b"hills");
        assert!(cache.load(chunk(1)).is_some());
        fs::remove_file(file.path()).expect("removes");
        assert_eq!(cache.load(chunk(1)), None);
    }

    #[test]
    fn the_folder_stays_within_its_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut cache = DiskCache::open(folder.path(), WORLD, 3 * BLOCK_BYTES);
        for x in 0..10 {
            store(&mut cache, x, b"hills");
        }
        assert_eq!(files(folder.path()), 3);
        assert!(cache.load(chunk(6)).is_none() && cache.load(chunk(7)).is_some());
        // A smaller bound at the next start holds too.
        assert_eq!(DiskCache::open(folder.path(), WORLD, BLOCK_BYTES).bytes(), BLOCK_BYTES);
        assert_eq!(files(folder.path()), 1);
        // And one that nothing fits into leaves nothing.
        store(&mut DiskCache::open(folder.path(), WORLD, 5), 1, b"hills");
        assert_eq!(files(folder.path()), 0);
    }

    #[test]
    fn other_files_are_left_alone_and_unfinished_ones_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut cache = DiskCache::open(folder.path(), WORLD, 1 << 20);
        store(&mut cache, 1, b"hills");
        let file = fs::read_dir(folder.path()).expect("lists").next().expect("one").expect("reads");
        let unfinished = file.path().with_added_extension("part");
        fs::copy(file.path(), &unfinished).expect("copies");
        fs::write(folder.path().join("notes.part"), b"mine").expect("writes");
        assert_eq!(DiskCache::open(folder.path(), WORLD, 1 << 20).bytes(), BLOCK_BYTES);
        assert!(!unfinished.exists());
        assert_eq!(files(folder.path()), 2);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_obstacle() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, b"in the way").expect("writes");
        let mut cache = DiskCache::open(&file.join("cache"), WORLD, 1 << 20);
        store(&mut cache, 1, b"hills");
        assert_eq!(cache.load(chunk(1)), None);
    }

    #[test]
    fn only_its_own_names_are_read() {
        let hash = "ab".repeat(32);
        let check = |name: String, expected: bool| assert_eq!(parse(&name).is_some(), expected);
        check(format!("0123456789abcdef.0.-5.12.{hash}"), true);
        check(format!("0123456789abcdef.0.-5.12.{hash}.part"), false);
        check(format!("0123456789abcde.0.-5.12.{hash}"), false);
        check(format!("0123456789abcdef.0.-5.{hash}"), false);
        check(format!("0123456789abcdef.0.-5.12.{}", "\u{e9}".repeat(32)), false);
    }
}
