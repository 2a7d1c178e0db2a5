//! The data folder of one world: who holds it, what lies where, and what makes a file safe.
//!
//! `lock` (held with `flock`, names the holder), `db/` (sled), `blobs/` (large values), `keys/`,
//! `erased`, `mark` (up to where the database is known to be durable). A first database and a
//! rewritten one are prepared in `db.new/` and swapped in; whichever step a crash hits, the next
//! start finds one whole database, or none where there was none.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::io::files::make_folder_durably;
use crate::store::{Number, StoreError};

/// Marks a rewritten database as whole.
const WHOLE: &str = "whole";
/// Bytes of `mark`: number and checksum.
const MARK_BYTES: usize = 16;

/// A data folder that this process alone has open.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// The lock lasts as long as the file is open.
    lock: File,
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        // Closing alone would leave the lock with a process that was started a moment ago.
        if let Err(error) = self.lock.unlock() {
            tracing::debug!(%error, "the data folder's lock ends with its file");
        }
    }
}

impl DataFolder {
    /// Takes a data folder, making it if need be.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it, or the system's error.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        make_folder_durably(path).map_err(|e| io_error("cannot make", path, &e))?;
        let lock_path = path.join("lock");
        let opened =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&lock_path);
        let mut lock = opened.map_err(|e| io_error("cannot open", &lock_path, &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&lock_path);
                return Err(StoreError::InUse { folder: path.into(), holder });
            }
            Err(TryLockError::Error(error)) => {
                return Err(io_error("cannot lock", &lock_path, &error));
            }
        }
        let pid = std::process::id().to_string();
        let written = lock.set_len(0).and_then(|()| lock.write_all(pid.as_bytes()));
        written.map_err(|e| io_error("cannot write", &lock_path, &e))?;
        let folder = Self { path: path.into(), lock };
        folder.settle_swap()?;
        Ok(folder)
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns where the database lies.
    #[must_use]
    pub fn db(&self) -> PathBuf {
        self.path.join("db")
    }

    /// Returns where a rewritten database is prepared, emptied.
    ///
    /// # Errors
    /// When what an interrupted rewrite left cannot be removed.
    pub fn fresh_db(&self) -> Result<PathBuf, StoreError> {
        let new = self.path.join("db.new");
        remove_folder(&new)?;
        Ok(new)
    }

    /// Puts the fresh database in the place of the old one, if there is one.
    ///
    /// # Errors
    /// The system's; one whole database is in place in any case, or none if there was none.
    pub fn swap_db(&self) -> Result<(), StoreError> {
        let new = self.path.join("db.new");
        let whole = new.join(WHOLE);
        let marked = File::create(&whole).and_then(|file| file.sync_all());
        marked.map_err(|e| io_error("cannot write", &whole, &e))?;
        sync_folder(&new)?;
        sync_folder(&self.path)?;
        if self.db().exists() {
            rename(&self.db(), &self.path.join("db.old"))?;
            sync_folder(&self.path)?;
        }
        self.settle_swap()
    }

    /// Completes or undoes what a crash interrupted in [`DataFolder::swap_db`].
    fn settle_swap(&self) -> Result<(), StoreError> {
        let (db, new, old) = (self.db(), self.path.join("db.new"), self.path.join("db.old"));
        if !db.exists() {
            if new.join(WHOLE).exists() {
                rename(&new, &db)?;
            } else if old.exists() {
                rename(&old, &db)?;
            }
            sync_folder(&self.path)?;
        }
        remove_folder(&new)?;
        remove_folder(&old)
    }

    /// Notes that everything up to `number` is durable. It may lag behind, never run ahead.
    ///
    /// # Errors
    /// The system's.
    pub fn write_mark(&self, number: Number) -> Result<(), StoreError> {
        let (new, mark) = (self.path.join("mark.new"), self.path.join("mark"));
        let bytes = [number.0.to_le_bytes(), mark_sum(number)].concat();
        fs::write(&new, bytes).map_err(|e| io_error("cannot write", &new, &e))?;
        rename(&new, &mark)
    }

    /// Returns the number noted last, nothing if there is none or a power cut tore it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when there is a mark that was never written so.
    pub fn read_mark(&self) -> Result<Option<Number>, StoreError> {
        read_mark(&self.path.join("mark"))
    }
}

fn read_mark(path: &Path) -> Result<Option<Number>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("cannot read", path, &error)),
    };
    // The rename may reach the disk before the content does: that is an empty file.
    if bytes.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let number = bytes.first_chunk().map(|number| Number(u64::from_le_bytes(*number)));
    let sound = number.filter(|&number| {
        bytes.len() == MARK_BYTES && bytes.get(8..) == Some(mark_sum(number).as_slice())
    });
    let why = || StoreError::Damaged { path: path.into(), why: "it fails its checksum".into() };
    sound.map(Some).ok_or_else(why)
}

fn mark_sum(number: Number) -> [u8; 8] {
    let hash = blake3::hash(&number.0.to_le_bytes());
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

fn holder(lock: &Path) -> String {
    let text = fs::read_to_string(lock).unwrap_or_default();
    let is_pid = !text.is_empty() && text.len() < 12 && text.bytes().all(|b| b.is_ascii_digit());
    if is_pid { text } else { "unknown".into() }
}

/// Makes the names in a folder durable.
///
/// # Errors
/// The system's.
pub fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|e| io_error("cannot sync", path, &e))
}

/// Makes every file in a folder durable, and the folder.
///
/// # Errors
/// The system's.
pub fn sync_files(path: &Path) -> Result<(), StoreError> {
    let entries = fs::read_dir(path).map_err(|e| io_error("cannot list", path, &e))?;
    for entry in entries {
        let entry = entry.map_err(|e| io_error("cannot list", path, &e))?;
        if entry.path().is_dir() {
            sync_files(&entry.path())?;
        } else {
            sync_folder(&entry.path())?;
        }
    }
    sync_folder(path)
}

/// Returns how many bytes the files in a folder have on disk.
#[must_use]
pub fn folder_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Removes a folder of this program's own making, if it is there.
///
/// # Errors
/// The system's.
pub fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("cannot remove", path, &error)),
    }
}

/// Renames.
///
/// # Errors
/// The system's.
pub fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|e| io_error("cannot write", to, &e))
}

/// Returns the store's error for what the system said about `path`.
#[must_use]
pub fn io_error(what: &'static str, path: &Path, error: &io::Error) -> StoreError {
    use ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
        let near = path.ancestors().find(|near| near.exists()).unwrap_or(path);
        let free = free_bytes(near).unwrap_or(0);
        return StoreError::Full { path: path.into(), free, needed: free + 1 };
    }
    StoreError::Io { what, path: path.into(), why: error.to_string() }
}

/// Returns how many bytes this process may still write beside `path`.
#[must_use]
#[expect(unsafe_code, reason = "the standard library does not tell the free space")]
pub fn free_bytes(path: &Path) -> Option<u64> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut stats = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero byte and `stats` has room for what is written.
    let outcome = unsafe { libc::statvfs(path.as_ptr(), stats.as_mut_ptr()) };
    if outcome != 0 {
        return None;
    }
    // SAFETY: statvfs said that it filled the structure.
    let stats = unsafe { stats.assume_init() };
    Some(stats.f_bavail.saturating_mul(stats.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_learns_who_holds_the_folder() {
        let data = tempfile::tempdir().unwrap();
        let held = DataFolder::take(data.path()).unwrap();
        let error = DataFolder::take(data.path()).unwrap_err();
        let holder = std::process::id().to_string();
        assert_eq!(error, StoreError::InUse { folder: data.path().into(), holder });
        assert!(error.to_string().contains(&std::process::id().to_string()));
        drop(held);
        DataFolder::take(data.path()).unwrap();
    }

    #[test]
    fn a_swap_interrupted_anywhere_leaves_one_whole_database() {
        // What lies there when the crash comes, and whose database is used afterwards.
        for (there, wanted) in [
            (&["db=old"][..], "old"),
            (&["db=old", "db.new=part"], "old"),
            (&["db=old", "db.new=new+whole"], "old"),
            (&["db.old=old", "db.new=new+whole"], "new"),
            (&["db=new+whole", "db.old=old"], "new"),
            (&["db.old=old", "db.new=part"], "old"),
            (&["db.new=new+whole"], "new"),
        ] {
            let data = tempfile::tempdir().unwrap();
            for (name, text) in there.iter().map(|entry| entry.split_once('=').unwrap()) {
                fs::create_dir(data.path().join(name)).unwrap();
                let files = text.split('+');
                files.for_each(|file| fs::write(data.path().join(name).join(file), "").unwrap());
            }
            let folder = DataFolder::take(data.path()).unwrap();
            assert!(folder.db().join(wanted).exists(), "{there:?}");
            assert!(!data.path().join("db.new").exists() && !data.path().join("db.old").exists());
        }
    }

    #[test]
    fn a_mark_reads_back_and_a_flip_shows() {
        let data = tempfile::tempdir().unwrap();
        let folder = DataFolder::take(data.path()).unwrap();
        assert_eq!(folder.read_mark().unwrap(), None);
        folder.write_mark(Number(77)).unwrap();
        assert_eq!(folder.read_mark().unwrap(), Some(Number(77)));
        let sound = fs::read(data.path().join("mark")).unwrap();
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            fs::write(data.path().join("mark"), bytes).unwrap();
            assert!(folder.read_mark().is_err(), "flip at {at}");
        }
    }

    #[test]
    fn free_space_is_known() {
        assert!(free_bytes(Path::new("/")).is_some_and(|free| 0 < free));
        assert_eq!(free_bytes(Path::new("/no/such/place")), None);
    }
}
