//! The simulated store: the same rules as on disk, in memory, with faults on demand.
//!
//! It has no thread and no clock: a batch is applied and durable at once unless a [`Fault`] says
//! otherwise, and [`MemoryStore::crash`] gives the store that a power cut would leave behind. The
//! same seed and the same calls give the same bytes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::ids::{ContentHash, PersonId, ShardId};
use tokio::sync::watch;

use crate::store::batch::{self, Batch, Write};
use crate::store::intake::Intake;
use crate::store::record::BlobName;
use crate::store::seal::{KeyId, Keys, SALT_BYTES, UserKey};
use crate::store::{
    Epoch, Key, Number, Pending, Progress, SCAN_RECORDS_MAX, Store, StoreError, Stored, Tree,
    until_durable,
};

/// What goes wrong in a simulated store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: what is appended is durable at once.
    #[default]
    None,
    /// The disk takes its time: nothing moves until [`MemoryStore::apply`] and
    /// [`MemoryStore::sync`] are called.
    Hold,
    /// The disk is full.
    Full,
    /// The disk answers every write with an error.
    Fail,
}

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    disk: Mutex<Disk>,
    keys: MemoryKeys,
    progress: watch::Sender<Progress>,
    run_epoch: u32,
}

type Place = (Tree, Key);

#[derive(Debug, Default)]
struct Disk {
    intake: Intake,
    records: BTreeMap<Place, Vec<u8>>,
    blobs: BTreeMap<ContentHash, Vec<u8>>,
    fences: BTreeMap<ShardId, Epoch>,
    /// What stood where before each write that is not durable yet, oldest first.
    undo: Vec<(Place, Option<Vec<u8>>)>,
    applied: Number,
    durable: Number,
    fault: Fault,
}

#[derive(Clone, Debug)]
struct Ring {
    keys: BTreeMap<PersonId, UserKey>,
    seed: u64,
    drawn: u64,
}

#[derive(Debug)]
struct MemoryKeys(Mutex<Ring>);

impl MemoryStore {
    /// Returns an empty store whose randomness comes from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(Disk::default(), Ring { keys: BTreeMap::new(), seed, drawn: 0 }, 1)
    }

    fn with(disk: Disk, ring: Ring, run_epoch: u32) -> Self {
        let progress = Progress { durable: disk.durable, trouble: None };
        let progress = watch::Sender::new(progress);
        Self { disk: Mutex::new(disk), keys: MemoryKeys(Mutex::new(ring)), progress, run_epoch }
    }

    /// Lets something go wrong, or right again: what waited is then written unless held.
    pub fn set_fault(&self, fault: Fault) {
        let mut disk = lock(&self.disk);
        disk.fault = fault;
        self.settle(&mut disk);
    }

    /// Applies what is queued without making it durable: it can be read, and a crash loses it.
    pub fn apply(&self) {
        lock(&self.disk).apply();
    }

    /// Makes durable what was applied.
    pub fn sync(&self) {
        let mut disk = lock(&self.disk);
        disk.sync();
        self.publish(&disk);
    }

    /// Returns the store as the next run finds it after a power cut at this moment.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut disk = lock(&self.disk);
        disk.roll_back();
        let next = Disk {
            intake: Intake::new(disk.durable, disk.fences.clone()),
            records: disk.records.clone(),
            blobs: disk.blobs.clone(),
            fences: disk.fences.clone(),
            undo: Vec::new(),
            applied: disk.durable,
            durable: disk.durable,
            fault: Fault::None,
        };
        Self::with(next, lock(&self.keys.0).clone(), self.run_epoch + 1)
    }

    fn settle(&self, disk: &mut Disk) {
        if disk.fault == Fault::None {
            disk.apply();
            disk.sync();
        }
        self.publish(disk);
    }

    fn publish(&self, disk: &Disk) {
        let now = Progress { durable: disk.durable, trouble: disk.trouble() };
        self.progress.send_replace(now);
    }

    fn open(&self, disk: &Disk, key: &Key, tree: Tree, bytes: &[u8]) -> Result<Stored, StoreError> {
        let blob = |name: BlobName| {
            let missing = || StoreError::Damaged {
                path: "memory".into(),
                why: format!("file {} is missing", name.hash),
            };
            disk.blobs.get(&name.hash).cloned().ok_or_else(missing)
        };
        batch::read(tree, key, bytes, &self.keys, blob)
    }

    fn wait(&self, number: Number) -> Pending<Result<Number, StoreError>> {
        let progress = self.progress.subscribe();
        Box::pin(async move { until_durable(progress, number).await.map(|()| number) })
    }
}

impl Store for MemoryStore {
    fn append(&self, batch: Batch) -> Result<Number, StoreError> {
        let speaker = batch.speaker;
        let writes = batch::prepare(batch, &self.keys)?;
        let mut disk = lock(&self.disk);
        if let Some(trouble) = disk.trouble() {
            return Err(trouble);
        }
        let number = disk.intake.push(speaker, writes)?;
        self.settle(&mut disk);
        Ok(number)
    }

    fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn read(&self, tree: Tree, key: &Key) -> Result<Option<Stored>, StoreError> {
        let disk = lock(&self.disk);
        let found = disk.records.get(&(tree, key.clone()));
        found.map(|bytes| self.open(&disk, key, tree, bytes)).transpose()
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Stored)>, StoreError> {
        let disk = lock(&self.disk);
        let from = (tree, after.map_or(prefix, |after| after.max(prefix)).clone());
        disk.records
            .range(from..)
            .take_while(|((at, key), _)| {
                *at == tree && key.as_bytes().starts_with(prefix.as_bytes())
            })
            .filter(|((_, key), _)| Some(key) != after)
            .take(limit.min(SCAN_RECORDS_MAX))
            .map(|((_, key), bytes)| Ok((key.clone(), self.open(&disk, key, tree, bytes)?)))
            .collect()
    }

    fn flush(&self) -> Pending<Result<Number, StoreError>> {
        let last = lock(&self.disk).intake.last();
        self.wait(last)
    }

    fn take_epoch(&self, shard: ShardId) -> Pending<Result<Epoch, StoreError>> {
        let mut disk = lock(&self.disk);
        let taken = disk.intake.fence(shard);
        let (epoch, number) = match taken {
            Ok(taken) => taken,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        disk.fences.insert(shard, epoch);
        self.settle(&mut disk);
        let durable = self.wait(number);
        Box::pin(async move { durable.await.map(|_| epoch) })
    }

    fn run_epoch(&self) -> u32 {
        self.run_epoch
    }

    fn enroll(&self, person: PersonId) -> Result<(), StoreError> {
        let mut ring = lock(&self.keys.0);
        if !ring.keys.contains_key(&person) {
            let key = UserKey::new(KeyId(ring.draw()), ring.draw());
            ring.keys.insert(person, key);
        }
        Ok(())
    }

    fn erase(&self, person: PersonId) -> Result<bool, StoreError> {
        Ok(lock(&self.keys.0).keys.remove(&person).is_some())
    }
}

impl Disk {
    fn trouble(&self) -> Option<StoreError> {
        let path = "memory".into();
        match self.fault {
            Fault::None | Fault::Hold => None,
            Fault::Full => Some(StoreError::Full { path, free: 0, needed: 1 }),
            Fault::Fail => {
                Some(StoreError::Io { what: "cannot write", path, why: "simulated".into() })
            }
        }
    }

    fn apply(&mut self) {
        loop {
            let group = self.intake.group();
            let Some(last) = group.last() else { return };
            self.applied = last.number;
            self.intake.done(&group);
            group.into_iter().flat_map(|queued| queued.writes).for_each(|write| self.write(write));
        }
    }

    fn write(&mut self, Write { tree, key, bytes, blob }: Write) {
        self.blobs.extend(blob);
        let place = (tree, key);
        let old = match bytes {
            Some(bytes) => self.records.insert(place.clone(), bytes),
            None => self.records.remove(&place),
        };
        self.undo.push((place, old));
    }

    fn sync(&mut self) {
        self.undo.clear();
        self.durable = self.applied;
    }

    fn roll_back(&mut self) {
        while let Some((place, old)) = self.undo.pop() {
            match old {
                Some(bytes) => drop(self.records.insert(place, bytes)),
                None => drop(self.records.remove(&place)),
            }
        }
        self.applied = self.durable;
    }
}

impl Ring {
    fn draw<const N: usize>(&mut self) -> [u8; N] {
        self.drawn += 1;
        let mut hasher = blake3::Hasher::new_derive_key("ecumene simulated randomness");
        hasher.update(&self.seed.to_le_bytes()).update(&self.drawn.to_le_bytes());
        let mut bytes = [0; N];
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }
}

impl Keys for MemoryKeys {
    fn user_key(&self, person: PersonId) -> Result<Option<UserKey>, StoreError> {
        Ok(lock(&self.0).keys.get(&person).cloned())
    }

    fn salt(&self) -> Result<[u8; SALT_BYTES], StoreError> {
        Ok(lock(&self.0).draw())
    }
}

/// Locks; a panic elsewhere while locked leaves whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::batch::{personal, plain};

    const ANNA: PersonId = PersonId(7);

    fn put(store: &MemoryStore, item: u64, text: &str) -> Result<Number, StoreError> {
        let mut batch = Batch::new();
        batch.put(Tree::World, Key::space(1).id(item), plain(1, 1, text.into()));
        store.append(batch)
    }

    fn text(store: &MemoryStore, item: u64) -> Option<String> {
        let stored = store.read(Tree::World, &Key::space(1).id(item)).expect("readable");
        stored.and_then(Stored::live).map(|record| String::from_utf8(record.value).expect("text"))
    }

    #[test]
    fn a_crash_loses_what_was_not_synced_and_nothing_else() {
        let store = MemoryStore::new(1);
        put(&store, 1, "kept").expect("room");
        store.set_fault(Fault::Hold);
        put(&store, 1, "changed").expect("room");
        put(&store, 2, "new").expect("room");
        assert_eq!(text(&store, 1).as_deref(), Some("kept"), "queued is not applied");
        store.apply();
        assert_eq!(text(&store, 1).as_deref(), Some("changed"));
        assert_eq!(store.durable(), Number(1));
        let next = store.crash();
        assert_eq!((text(&next, 1).as_deref(), text(&next, 2)), (Some("kept"), None));
        assert_eq!((next.run_epoch(), put(&next, 3, "on")), (2, Ok(Number(2))));
    }

    #[test]
    fn a_full_disk_refuses_and_recovers() {
        let store = MemoryStore::new(1);
        store.set_fault(Fault::Full);
        assert!(matches!(put(&store, 1, "a"), Err(StoreError::Full { .. })));
        assert!(store.subscribe().borrow().trouble.is_some());
        store.set_fault(Fault::None);
        assert_eq!(put(&store, 1, "a"), Ok(Number(1)));
        assert_eq!(*store.subscribe().borrow(), Progress { durable: Number(1), trouble: None });
    }

    #[test]
    fn an_erased_person_stays_unreadable_even_after_coming_back() {
        let store = MemoryStore::new(1);
        let place = Key::person_item(ANNA, 1, 1);
        let mut batch = Batch::new();
        batch.put(Tree::People, place.clone(), personal(ANNA, 1, 1, b"diary".to_vec()));
        let refused = StoreError::NotEnrolled { person: ANNA };
        assert_eq!(store.append(batch.clone()), Err(refused));
        store.enroll(ANNA).expect("a key");
        store.append(batch).expect("room");
        let read = || store.read(Tree::People, &place).expect("readable").expect("there");
        assert!(matches!(read(), Stored::Live(record) if record.value == b"diary"));
        store.erase(ANNA).expect("erased");
        assert_eq!(read(), Stored::Erased(ANNA));
        store.enroll(ANNA).expect("a new key");
        assert_eq!(read(), Stored::Erased(ANNA));
    }

    #[test]
    fn a_scan_goes_on_where_it_ended() {
        let store = MemoryStore::new(1);
        for item in 1..=5 {
            put(&store, item, "x").expect("room");
        }
        let all = Key::space(1);
        let first = store.scan(Tree::World, &all, None, 3).expect("readable");
        let rest = store.scan(Tree::World, &all, Some(&first[2].0), 9).expect("readable");
        assert_eq!((first.len(), rest.len()), (3, 2));
        assert_eq!(rest[0].0, all.id(4));
    }

    #[test]
    fn what_no_store_takes_is_refused() {
        let store = MemoryStore::new(1);
        let check = |tree, key: Key, length: usize| {
            let mut batch = Batch::new();
            batch.put(tree, key, plain(1, 1, vec![0; length]));
            store.append(batch)
        };
        assert_eq!(check(Tree::Meta, Key::space(1), 1), Err(StoreError::Reserved));
        assert!(check(Tree::World, Key::space(1).bytes(&[0; 255]), 1).is_ok());
        let long = check(Tree::World, Key::space(1).bytes(&[0; 256]), 1);
        assert!(matches!(long, Err(StoreError::TooLarge { got: 257, most: 256, .. })));
        let large = check(Tree::World, Key::space(1), crate::store::VALUE_BYTES_MAX + 1);
        assert!(matches!(large, Err(StoreError::TooLarge { .. })));
    }
}
