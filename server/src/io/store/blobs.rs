//! Large values as files named by the hash of their content: `blobs/ab/<hash>`.
//!
//! A file is durable, name and content, before any record names it, and never changes afterwards.
//! Files that no record names any more are removed while a database is compacted; those of sealed
//! records, which no other record can name, as soon as theirs is gone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use protocol::ids::ContentHash;

use crate::io::store::folder::{io_error, rename, sync_folder};
use crate::store::StoreError;
use crate::store::key::unhex;
use crate::store::record::BlobName;

/// The folder of large values.
#[derive(Debug)]
pub struct Blobs {
    folder: PathBuf,
    /// Shelves whose names are known to be durable; 256 at most.
    safe: Mutex<BTreeSet<PathBuf>>,
}

impl Blobs {
    /// Returns the large values of a data folder.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self { folder: data.join("blobs"), safe: Mutex::default() }
    }

    /// Makes a value durable under its name; one that is there already stays.
    ///
    /// # Errors
    /// The system's.
    pub fn put(&self, hash: ContentHash, content: &[u8]) -> Result<(), StoreError> {
        let path = self.path(hash);
        let shelf = self.shelf(hash)?;
        if fs::metadata(&path).is_ok_and(|meta| meta.len() == content.len() as u64) {
            // Whoever wrote it may have been stopped, or refused, before its name was durable.
            return sync_folder(&shelf);
        }
        let new = shelf.join(format!("{hash}.new"));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        written.map_err(|e| io_error("cannot write", &new, &e))?;
        rename(&new, &path)?;
        sync_folder(&shelf)
    }

    /// Returns the folder that a value lies in, there for good.
    fn shelf(&self, hash: ContentHash) -> Result<PathBuf, StoreError> {
        let shelf = self.folder.join(&hash.to_string()[..2]);
        let mut safe = self.safe.lock().unwrap_or_else(PoisonError::into_inner);
        if !safe.contains(&shelf) {
            fs::create_dir_all(&shelf).map_err(|e| io_error("cannot make", &shelf, &e))?;
            sync_folder(&self.folder)?;
            self.folder.parent().map_or(Ok(()), sync_folder)?;
            safe.insert(shelf.clone());
        }
        Ok(shelf)
    }

    /// Returns a value.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is missing or not what was written, or the system's error.
    pub fn read(&self, name: BlobName) -> Result<Vec<u8>, StoreError> {
        let path = self.path(name.hash);
        let damaged = |why: &str| StoreError::Damaged { path: path.clone(), why: why.into() };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(damaged("it is missing, and a record names it"));
            }
            Err(error) => return Err(io_error("cannot open", &path, &error)),
        };
        let mut content = Vec::new();
        let read = file.take(name.length + 1).read_to_end(&mut content);
        read.map_err(|e| io_error("cannot read", &path, &e))?;
        if content.len() as u64 != name.length || ContentHash::of(&content) != name.hash {
            return Err(damaged("it is not what its name says"));
        }
        Ok(content)
    }

    /// Removes a value that no record names any more. One that stays for some reason goes when the
    /// database is compacted.
    pub fn remove(&self, hash: ContentHash) {
        let path = self.path(hash);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::debug!(%error, path = %path.display(), "a value stays"),
        }
    }

    /// Removes every file that is not `named` and returns how many there were.
    ///
    /// # Errors
    /// The system's.
    pub fn retain(&self, named: &BTreeSet<ContentHash>) -> Result<u64, StoreError> {
        let mut removed = 0;
        for shelf in list(&self.folder)? {
            for path in list(&shelf)? {
                let hash = path.file_name().and_then(|name| name.to_str()).and_then(unhex::<32>);
                // Leftovers of interrupted writes are named otherwise and go too.
                if hash.is_some_and(|hash| named.contains(&ContentHash(hash))) {
                    continue;
                }
                fs::remove_file(&path).map_err(|e| io_error("cannot remove", &path, &e))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn path(&self, hash: ContentHash) -> PathBuf {
        let name = hash.to_string();
        self.folder.join(&name[..2]).join(name)
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io_error("cannot list", folder, &error)),
    }
}
