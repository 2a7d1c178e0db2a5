//! The store on disk: what becomes durable, in which order, and for whom.
//!
//! [`faults`] kills it and fills its disk; [`copies`] backs it up and lets it rot.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::ids::{PersonId, ShardId};

use super::{SledStore, StoreOptions};
use crate::store::batch::{Batch, personal, plain};
use crate::store::{
    Epoch, INLINE_BYTES_MAX, Key, Number, Store, StoreError, Stored, Tree, until_durable,
};

mod copies;
mod faults;

const ANNA: PersonId = PersonId(1);
const BEN: PersonId = PersonId(2);

fn options() -> StoreOptions {
    StoreOptions { cache_bytes: 16 << 20, reserve_bytes: 1 << 20, ..StoreOptions::default() }
}

fn open(path: &Path) -> SledStore {
    SledStore::open(path, options(), &mut |_, _| {}).unwrap()
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn item(number: u64) -> Key {
    Key::space(100).id(number)
}

fn put(store: &SledStore, number: u64, value: Vec<u8>) -> Result<Number, StoreError> {
    let mut batch = Batch::new();
    batch.put(Tree::World, item(number), plain(1, 1, value));
    store.append(batch)
}

fn put_for(store: &SledStore, person: PersonId, number: u64, value: Vec<u8>) {
    let mut batch = Batch::new();
    batch.put(Tree::People, Key::person_item(person, 1, number), personal(person, 2, 1, value));
    store.append(batch).unwrap();
}

fn value(store: &SledStore, number: u64) -> Option<Vec<u8>> {
    let stored = store.read(Tree::World, &item(number)).unwrap();
    stored.and_then(Stored::live).map(|record| record.value)
}

fn of(store: &SledStore, person: PersonId, number: u64) -> Option<Stored> {
    store.read(Tree::People, &Key::person_item(person, 1, number)).unwrap()
}

/// Everything that can be read, for comparing.
fn contents(store: &SledStore) -> Result<Vec<(Tree, Key, Stored)>, StoreError> {
    let mut all = Vec::new();
    for tree in [Tree::World, Tree::People] {
        for space in [100, Key::PERSON] {
            let found = store.scan(tree, &Key::space(space), None, usize::MAX)?;
            all.extend(found.into_iter().map(|(key, stored)| (tree, key, stored)));
        }
    }
    Ok(all)
}

fn flush(store: &SledStore) -> Number {
    ready(store.flush()).unwrap()
}

#[test]
fn what_was_durable_is_there_after_reopening() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    assert_eq!(store.run_epoch(), 1);
    store.enroll(ANNA).unwrap();
    put(&store, 1, b"hello".to_vec()).unwrap();
    put(&store, 2, vec![7; INLINE_BYTES_MAX + 1]).unwrap();
    put_for(&store, ANNA, 1, b"diary".to_vec());
    put_for(&store, ANNA, 2, vec![8; INLINE_BYTES_MAX]);
    assert_eq!((flush(&store), store.durable()), (Number(4), Number(4)));
    let before = contents(&store).unwrap();
    assert_eq!(store.close(), Ok(Number(4)));
    let store = open(data.path());
    assert_eq!((contents(&store).unwrap(), before.len()), (before, 4));
    assert_eq!((store.run_epoch(), store.durable()), (2, Number(4)));
    assert!(store.verify(&mut |_, _| {}).unwrap().is_sound());
    // sled's own large-value files are never synced, so there must be none.
    assert_eq!(fs::read_dir(data.path().join("db/blobs")).unwrap().count(), 0);
}

#[test]
fn a_large_personal_value_gives_its_room_back() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    store.enroll(ANNA).unwrap();
    put(&store, 1, vec![7; INLINE_BYTES_MAX + 1]).unwrap();
    for round in 0..3 {
        put_for(&store, ANNA, 1, vec![round; INLINE_BYTES_MAX + 1]);
        put_for(&store, ANNA, 2, vec![round; INLINE_BYTES_MAX + 1]);
        flush(&store);
    }
    let large = data.path().join("blobs");
    assert_eq!(files(&large).len(), 3);
    assert!(store.verify(&mut |_, _| {}).unwrap().is_sound());
    let mut batch = Batch::new();
    batch.delete(Tree::People, Key::person_item(ANNA, 1, 1)).delete(Tree::World, item(1));
    store.append(batch).unwrap();
    flush(&store);
    // What belongs to nobody may be named twice: it goes when the store is compacted.
    assert_eq!(files(&large).len(), 2);
    assert!(of(&store, ANNA, 2).is_some_and(|stored| stored.live().is_some()));
    assert!(store.verify(&mut |_, _| {}).unwrap().is_sound());
}

#[test]
fn large_nodes_stay_in_the_log() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    for number in 0..200 {
        put(&store, number % 50, vec![number as u8; INLINE_BYTES_MAX]).unwrap();
    }
    flush(&store);
    assert_eq!(fs::read_dir(data.path().join("db/blobs")).unwrap().count(), 0);
}

#[test]
fn numbers_become_durable_in_order_and_all_of_them() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    let mut watch = store.subscribe();
    let last = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4_u64)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || {
                    let write = |i: u64| put(store, writer * 1_000 + i, vec![1]).unwrap();
                    (0..250).map(write).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut numbers: Vec<Number> = Vec::new();
        for writer in writers {
            let own = writer.join().unwrap();
            assert!(own.is_sorted(), "each writer's batches keep their order");
            numbers.extend(own);
        }
        numbers.sort_unstable();
        let wanted: Vec<Number> = (1..=1_000).map(Number).collect();
        assert_eq!(numbers, wanted);
        Number(1_000)
    });
    let mut seen = Number(0);
    ready(async {
        while seen < last {
            watch.changed().await.unwrap();
            let now = watch.borrow_and_update().durable;
            assert!(seen <= now, "durable never goes back");
            seen = now;
        }
        until_durable(watch, last).await.unwrap();
    });
    assert_eq!(store.scan(Tree::World, &Key::space(100), None, 4_096).unwrap().len(), 1_000);
}

#[test]
fn an_old_owner_is_fenced_also_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let (shard, store) = (ShardId(5), open(data.path()));
    let append = |store: &SledStore, epoch| {
        let mut batch = Batch::of_shard(shard, epoch);
        batch.put(Tree::World, item(1), plain(1, 1, vec![]));
        store.append(batch)
    };
    let first = ready(store.take_epoch(shard)).unwrap();
    assert_eq!(first, Epoch(1));
    append(&store, first).unwrap();
    let second = ready(store.take_epoch(shard)).unwrap();
    assert!(matches!(append(&store, first), Err(StoreError::Fenced { .. })));
    append(&store, second).unwrap();
    drop(store);
    let store = open(data.path());
    assert!(matches!(append(&store, first), Err(StoreError::Fenced { .. })));
    append(&store, second).unwrap();
    assert_eq!(ready(store.take_epoch(shard)).unwrap(), Epoch(3));
}

#[test]
fn a_second_process_on_the_same_data_is_told_so() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    let error = SledStore::open(data.path(), options(), &mut |_, _| {}).unwrap_err();
    assert!(matches!(&error, StoreError::InUse { holder, .. }
        if *holder == std::process::id().to_string()));
    drop(store);
    open(data.path());
}

fn small_world(path: &Path) -> Vec<(Tree, Key, Stored)> {
    let store = open(path);
    store.enroll(ANNA).unwrap();
    store.enroll(BEN).unwrap();
    for number in 0..40 {
        put(&store, number, vec![number as u8; 100]).unwrap();
        put_for(&store, ANNA, number, vec![number as u8; 60]);
    }
    put(&store, 50, vec![5; INLINE_BYTES_MAX + 500]).unwrap();
    put_for(&store, BEN, 1, b"short".to_vec());
    flush(&store);
    store.erase(BEN).unwrap();
    let all = contents(&store).unwrap();
    store.close().unwrap();
    // A second run leaves the summary of the log that sled writes when it opens one.
    open(path).close().unwrap();
    all
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
}

#[test]
fn a_slow_group_is_waited_for_when_closing() {
    let data = tempfile::tempdir().unwrap();
    let options = StoreOptions { group_every: Duration::from_secs(3_600), ..options() };
    let store = SledStore::open(data.path(), options, &mut |_, _| {}).unwrap();
    put(&store, 1, vec![1]).unwrap();
    flush(&store);
    put(&store, 2, vec![2]).unwrap();
    assert_eq!(store.close(), Ok(Number(2)));
    assert_eq!(value(&open(data.path()), 2), Some(vec![2]));
}
