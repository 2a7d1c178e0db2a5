//! One small file for each person's key, and the ledger of keys that were destroyed.
//!
//! The files lie in `keys/` beside the database and outside backups, readable by their owner
//! alone. Destroying one makes every record it sealed unreadable, wherever copies of the record
//! are. The ledger `erased` holds the random names of destroyed keys and nothing about people, so
//! that a restore can leave out what they sealed. What keys seal is never known here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use protocol::ids::PersonId;
use ring::rand::{SecureRandom, SystemRandom};

use crate::io::store::folder::{io_error, sync_folder};
use crate::store::StoreError;
use crate::store::key::{hex, unhex};
use crate::store::seal::{KeyId, Keys, SALT_BYTES, UserKey};

const MAGIC: &[u8; 8] = b"ECUMKEY1";
/// Magic, person, name, secret, checksum.
const KEY_FILE_BYTES: usize = 8 + 8 + 16 + 32 + 16;
/// `name checksum\n`, in hexadecimal digits.
const LEDGER_LINE_BYTES: usize = 32 + 1 + 8 + 1;
/// Keys kept in memory: 65,536 x 100 bytes are 6 MB; more people than are ever online at once.
const KEYS_CACHED_MAX: usize = 65_536;
const NEW: &str = "new-";
const ERASING: &str = "erasing-";

/// The folder of user keys of one world.
#[derive(Debug)]
pub struct KeyFolder {
    folder: PathBuf,
    ledger: PathBuf,
    state: Mutex<State>,
    /// Told whenever a key has been made, or could not be.
    made: Condvar,
    random: SystemRandom,
}

#[derive(Debug, Default)]
struct State {
    cached: BTreeMap<PersonId, UserKey>,
    /// Whose keys are on their way to the disk: nothing may be sealed with them before.
    making: BTreeSet<PersonId>,
    erased: BTreeSet<KeyId>,
}

impl KeyFolder {
    /// Opens `keys/` and `erased` in a data folder, making them if need be, and completes an
    /// erasure that a crash interrupted.
    ///
    /// # Errors
    /// When they cannot be read or made, or the ledger is damaged.
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        let folder = data.join("keys");
        if !folder.is_dir() {
            let made = DirBuilder::new().mode(0o700).create(&folder);
            made.map_err(|e| io_error("cannot make", &folder, &e))?;
            sync_folder(data)?;
        }
        let keys = Self::peek(data)?;
        keys.settle()?;
        Ok(keys)
    }

    /// Opens the keys of a data folder that a running server may have open, changing nothing.
    ///
    /// # Errors
    /// When the ledger is damaged or cannot be read.
    pub fn peek(data: &Path) -> Result<Self, StoreError> {
        let (folder, ledger) = (data.join("keys"), data.join("erased"));
        let state = Mutex::new(State { erased: read_ledger(&ledger)?, ..State::default() });
        let made = Condvar::new();
        Ok(Self { folder, ledger, state, made, random: SystemRandom::new() })
    }

    /// Gives a person a key, durably; one that is there stays. Nobody waits here for the disk to
    /// keep another's.
    ///
    /// # Errors
    /// When the file cannot be written, or one that is there cannot be read.
    pub fn enroll(&self, person: PersonId) -> Result<(), StoreError> {
        let mut state = self.lock_for(person);
        if self.load(&mut state, person)?.is_some() {
            return Ok(());
        }
        state.making.insert(person);
        drop(state);
        let made = self.make(person);
        let mut state = self.lock();
        state.making.remove(&person);
        self.made.notify_all();
        remember(&mut state, person, made?);
        Ok(())
    }

    fn make(&self, person: PersonId) -> Result<UserKey, StoreError> {
        let key = UserKey::new(KeyId(self.draw()?), self.draw()?);
        let path = self.path(person);
        let new = self.folder.join(format!("{NEW}{:016x}", person.0));
        let written = write_new(&new, &to_file(person, &key));
        written.map_err(|e| io_error("cannot write", &new, &e))?;
        fs::rename(&new, &path).map_err(|e| io_error("cannot write", &path, &e))?;
        sync_folder(&self.folder)?;
        Ok(key)
    }

    /// Destroys a person's key and enters its name in the ledger, durably; returns whether there was
    /// one.
    ///
    /// # Errors
    /// When a file cannot be changed. The erasure goes on with the next call or start.
    pub fn erase(&self, person: PersonId) -> Result<bool, StoreError> {
        let mut state = self.lock_for(person);
        state.cached.remove(&person);
        let (path, erasing) = (self.path(person), self.erasing_path(person));
        match fs::rename(&path, &erasing) {
            Ok(()) => sync_folder(&self.folder)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("cannot erase", &path, &error)),
        }
        if !erasing.exists() {
            return Ok(false);
        }
        self.finish(&mut state, &erasing).map(|()| true)
    }

    /// Returns the names of all destroyed keys.
    #[must_use]
    pub fn erased(&self) -> BTreeSet<KeyId> {
        self.lock().erased.clone()
    }

    /// Reads every key file and returns what is wrong, one line each.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn check(&self) -> Result<Vec<String>, StoreError> {
        let people = self.people()?;
        let wrong = people.into_iter().filter_map(|person| {
            let mut state = self.lock();
            state.cached.remove(&person);
            self.load(&mut state, person).err().map(|error| error.to_string())
        });
        Ok(wrong.collect())
    }

    /// Copies the keys that are neither destroyed nor damaged, and the ledger, into another data
    /// folder.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn copy_to(&self, data: &Path) -> Result<(), StoreError> {
        let target = data.join("keys");
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&target);
        made.map_err(|e| io_error("cannot make", &target, &e))?;
        for person in self.people()? {
            let key = match self.load(&mut self.lock(), person) {
                Ok(Some(key)) => key,
                Ok(None) => continue,
                // One rotten key must not keep everybody else's from being copied.
                Err(error) => {
                    tracing::warn!(%error, "key left out");
                    continue;
                }
            };
            let path = target.join(format!("{:016x}", person.0));
            let written = write_new(&path, &to_file(person, &key));
            written.map_err(|e| io_error("cannot write", &path, &e))?;
        }
        if self.ledger.exists() {
            let ledger = data.join("erased");
            let text = fs::read(&self.ledger).map_err(|e| io_error("cannot read", &ledger, &e))?;
            write_new(&ledger, &text).map_err(|e| io_error("cannot write", &ledger, &e))?;
        }
        sync_folder(&target)?;
        sync_folder(data)
    }

    fn people(&self) -> Result<Vec<PersonId>, StoreError> {
        let names = self.names()?;
        Ok(names.iter().filter_map(|name| unhex::<8>(name)).map(from_be).collect())
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let entries =
            fs::read_dir(&self.folder).map_err(|e| io_error("cannot list", &self.folder, &e))?;
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    fn settle(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        for name in self.names()? {
            let path = self.folder.join(&name);
            if name.starts_with(ERASING) {
                self.finish(&mut state, &path)?;
            } else if name.starts_with(NEW) {
                // Never used: a key counts from its final name on.
                fs::remove_file(&path).map_err(|e| io_error("cannot remove", &path, &e))?;
            }
        }
        Ok(())
    }

    /// Completes an erasure: ledger first, so that no crash destroys a key without a trace.
    fn finish(&self, state: &mut State, erasing: &Path) -> Result<(), StoreError> {
        let key = match read_key(erasing) {
            // It was overwritten already, so its name is in the ledger; or it rotted before.
            Err(StoreError::Damaged { .. }) => None,
            other => other?,
        };
        if let Some((_, key)) = key
            && !state.erased.contains(&key.id)
        {
            append_ledger(&self.ledger, key.id)?;
            state.erased.insert(key.id);
        }
        let wiped = OpenOptions::new().write(true).open(erasing).and_then(|mut file| {
            file.write_all(&[0; KEY_FILE_BYTES])?;
            file.sync_all()
        });
        wiped.map_err(|e| io_error("cannot overwrite", erasing, &e))?;
        fs::remove_file(erasing).map_err(|e| io_error("cannot remove", erasing, &e))?;
        sync_folder(&self.folder)
    }

    fn load(&self, state: &mut State, person: PersonId) -> Result<Option<UserKey>, StoreError> {
        if let Some(key) = state.cached.get(&person) {
            return Ok(Some(key.clone()));
        }
        let path = self.path(person);
        let Some((owner, key)) = read_key(&path)? else { return Ok(None) };
        if owner != person {
            return Err(damaged(&path, "it is another person's key"));
        }
        // An old copy of the folder may bring a destroyed key back; the ledger knows better.
        if state.erased.contains(&key.id) {
            return Ok(None);
        }
        remember(state, person, key.clone());
        Ok(Some(key))
    }

    fn path(&self, person: PersonId) -> PathBuf {
        self.folder.join(format!("{:016x}", person.0))
    }

    fn erasing_path(&self, person: PersonId) -> PathBuf {
        self.folder.join(format!("{ERASING}{:016x}", person.0))
    }

    fn draw<const N: usize>(&self) -> Result<[u8; N], StoreError> {
        let mut bytes = [0; N];
        let no_randomness = |_| StoreError::Io {
            what: "cannot draw",
            path: "randomness".into(),
            why: "the system gives none".into(),
        };
        self.random.fill(&mut bytes).map_err(no_randomness)?;
        Ok(bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the person's key is made, if that is under way.
    fn lock_for(&self, person: PersonId) -> MutexGuard<'_, State> {
        let is_in_work = |state: &mut State| state.making.contains(&person);
        let locked = self.made.wait_while(self.lock(), is_in_work);
        locked.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys for KeyFolder {
    fn user_key(&self, person: PersonId) -> Result<Option<UserKey>, StoreError> {
        self.load(&mut self.lock_for(person), person)
    }

    fn salt(&self) -> Result<[u8; SALT_BYTES], StoreError> {
        self.draw()
    }
}

fn remember(state: &mut State, person: PersonId, key: UserKey) {
    if KEYS_CACHED_MAX <= state.cached.len() {
        state.cached.clear();
    }
    state.cached.insert(person, key);
}

fn from_be(bytes: [u8; 8]) -> PersonId {
    PersonId(u64::from_be_bytes(bytes))
}

fn to_file(person: PersonId, key: &UserKey) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &person.0.to_le_bytes(), &key.id.0, key.secret()].concat();
    let sum = blake3::hash(&bytes);
    bytes.extend_from_slice(&sum.as_bytes()[..16]);
    bytes
}

fn read_key(path: &Path) -> Result<Option<(PersonId, UserKey)>, StoreError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        // One byte more than a key has, so that a longer file shows.
        file.take(KEY_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("cannot read", path, &error)),
    }
    parse_key(&bytes).map(Some).ok_or_else(|| damaged(path, "it is no key file"))
}

fn parse_key(bytes: &[u8]) -> Option<(PersonId, UserKey)> {
    let (body, sum) = bytes.split_at_checked(KEY_FILE_BYTES - 16)?;
    if blake3::hash(body).as_bytes()[..16] != *sum {
        return None;
    }
    let rest = body.strip_prefix(MAGIC)?;
    let (person, rest) = rest.split_first_chunk::<8>()?;
    let (id, secret) = rest.split_first_chunk::<16>()?;
    let key = UserKey::new(KeyId(*id), secret.try_into().ok()?);
    Some((PersonId(u64::from_le_bytes(*person)), key))
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn ledger_line(id: KeyId) -> String {
    let sum = blake3::hash(&id.0);
    format!("{} {}\n", hex(&id.0), hex(&sum.as_bytes()[..4]))
}

fn append_ledger(ledger: &Path, id: KeyId) -> Result<(), StoreError> {
    let appended = OpenOptions::new().create(true).append(true).mode(0o600).open(ledger).and_then(
        |mut file| {
            // What an interrupted append left behind would spoil the next line.
            file.set_len(written_lines(&fs::read(ledger)?).len() as u64)?;
            file.write_all(ledger_line(id).as_bytes())?;
            file.sync_all()
        },
    );
    appended.map_err(|e| io_error("cannot write", ledger, &e))?;
    ledger.parent().map_or(Ok(()), sync_folder)
}

fn read_ledger(ledger: &Path) -> Result<BTreeSet<KeyId>, StoreError> {
    let bytes = match fs::read(ledger) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(io_error("cannot read", ledger, &error)),
    };
    let lines = written_lines(&bytes).chunks_exact(LEDGER_LINE_BYTES);
    let parsed = lines.enumerate().map(|(index, line)| {
        let id = line.get(..32).and_then(|digits| std::str::from_utf8(digits).ok());
        let id = id.and_then(unhex::<16>).map(KeyId);
        let sound = id.filter(|&id| ledger_line(id).as_bytes() == line);
        sound.ok_or_else(|| damaged(ledger, &format!("line {} is unreadable", index + 1)))
    });
    parsed.collect()
}

/// Returns the whole lines of a ledger without what a crash or a power cut left of the last append:
/// part of a line, or zeros where the length reached the disk before the bytes did.
fn written_lines(bytes: &[u8]) -> &[u8] {
    let written = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &bytes[..written - written % LEDGER_LINE_BYTES]
}

fn damaged(path: &Path, why: &str) -> StoreError {
    StoreError::Damaged { path: path.into(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ANNA: PersonId = PersonId(0xA11A);

    #[test]
    fn a_key_stays_the_same_and_is_readable_by_nobody_else() {
        let data = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(data.path()).unwrap();
        assert_eq!(keys.user_key(ANNA).unwrap(), None);
        keys.enroll(ANNA).unwrap();
        let key = keys.user_key(ANNA).unwrap();
        keys.enroll(ANNA).unwrap();
        assert_eq!(KeyFolder::open(data.path()).unwrap().user_key(ANNA).unwrap(), key);
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(data.path().join("keys")), 0o700);
        assert_eq!(mode(keys.path(ANNA)), 0o600);
    }

    #[test]
    fn whoever_comes_at_once_gets_one_key_each_and_none_before_it_is_kept() {
        let data = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(data.path()).unwrap();
        let people: Vec<PersonId> = (0..40).map(PersonId).collect();
        let seen = std::thread::scope(|scope| {
            let come = |_| {
                scope.spawn(|| {
                    let enroll = |&person| {
                        keys.enroll(person).unwrap();
                        keys.user_key(person).unwrap().unwrap()
                    };
                    people.iter().map(enroll).collect::<Vec<_>>()
                })
            };
            let threads: Vec<_> = (0..4).map(come).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let kept = KeyFolder::open(data.path()).unwrap();
        let kept = people.iter().map(|&person| kept.user_key(person).unwrap().unwrap());
        let kept: Vec<UserKey> = kept.collect();
        assert!(seen.iter().all(|seen| *seen == kept), "the same for all");
        assert!(kept.windows(2).all(|pair| pair[0] != pair[1]), "to each their own");
        assert!(keys.lock().making.is_empty());
    }

    #[test]
    fn an_erased_key_is_gone_and_a_copy_of_it_stays_shut() {
        let data = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(data.path()).unwrap();
        keys.enroll(ANNA).unwrap();
        let copy = fs::read(keys.path(ANNA)).unwrap();
        keys.erase(ANNA).unwrap();
        keys.erase(ANNA).unwrap();
        assert_eq!((keys.user_key(ANNA).unwrap(), keys.erased().len()), (None, 1));
        let ledger = fs::read_to_string(data.path().join("erased")).unwrap();
        assert!(!ledger.contains("a11a"), "the ledger names nobody");
        fs::write(keys.path(ANNA), copy).unwrap();
        assert_eq!(KeyFolder::open(data.path()).unwrap().user_key(ANNA).unwrap(), None);
    }

    #[test]
    fn an_interrupted_erasure_completes_at_the_next_start() {
        let data = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(data.path()).unwrap();
        keys.enroll(ANNA).unwrap();
        fs::rename(keys.path(ANNA), keys.erasing_path(ANNA)).unwrap();
        fs::write(data.path().join("erased"), "half a li").unwrap();
        let keys = KeyFolder::open(data.path()).unwrap();
        assert_eq!((keys.erased().len(), keys.names().unwrap().len()), (1, 0));
        assert_eq!(KeyFolder::open(data.path()).unwrap().erased().len(), 1);
    }

    #[test]
    fn what_a_power_cut_leaves_of_the_last_append_to_the_ledger_is_nothing() {
        for torn in [&[0_u8; LEDGER_LINE_BYTES][..], &[0; 7], b"0123"] {
            let data = tempfile::tempdir().unwrap();
            let keys = KeyFolder::open(data.path()).unwrap();
            keys.enroll(ANNA).unwrap();
            keys.erase(ANNA).unwrap();
            let mut ledger = fs::read(data.path().join("erased")).unwrap();
            ledger.extend_from_slice(torn);
            fs::write(data.path().join("erased"), ledger).unwrap();
            let keys = KeyFolder::open(data.path()).unwrap();
            assert_eq!(keys.erased().len(), 1, "{torn:?}");
            keys.enroll(ANNA).unwrap();
            keys.erase(ANNA).unwrap();
            assert_eq!(KeyFolder::open(data.path()).unwrap().erased().len(), 2, "{torn:?}");
        }
    }

    #[test]
    fn any_flipped_byte_is_found() {
        let data = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(data.path()).unwrap();
        keys.enroll(ANNA).unwrap();
        let sound = fs::read(keys.path(ANNA)).unwrap();
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 4;
            fs::write(keys.path(ANNA), bytes).unwrap();
            assert_eq!(keys.check().unwrap().len(), 1, "flip at {at}");
        }
        fs::write(data.path().join("erased"), "x".repeat(LEDGER_LINE_BYTES)).unwrap();
        assert!(KeyFolder::open(data.path()).is_err());
    }
}
