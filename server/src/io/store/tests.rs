//! The store on disk against what happens to it: kills, full disks, rot, erasure, restores.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::ids::{PersonId, ShardId};
use tempfile::TempDir;

use super::backup::Backups;
use super::check::verify;
use super::restore::{restore, verify_backup};
use super::rewrite::compact;
use super::{SledStore, StoreOptions};
use crate::store::batch::{Batch, personal, plain};
use crate::store::migrate::{Entry, Migration};
use crate::store::retention::Schedule;
use crate::store::{
    Epoch, INLINE_BYTES_MAX, Key, Number, Store, StoreError, Stored, Tree, until_durable,
};

const ANNA: PersonId = PersonId(1);
const BEN: PersonId = PersonId(2);
/// Set in a child process: the data folder it writes to until it is killed.
const VICTIM: &str = "ECUMENE_STORE_VICTIM";

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

/// The child of the next test: writes and says what is durable until it is killed.
#[test]
fn victim() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let store = open(&PathBuf::from(path));
    let start = store.durable().0;
    for number in start + 1.. {
        // Now and then a large one, so that files beside the database are killed half-way too.
        let length = if number % 37 == 0 { INLINE_BYTES_MAX + 9 } else { 40 };
        let mut value = number.to_le_bytes().to_vec();
        value.resize(length, number as u8);
        put(&store, number, value).unwrap();
        if number % 3 == 0 {
            let durable = flush(&store);
            println!("durable {durable}");
            std::io::stdout().flush().unwrap();
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let data = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..20_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "io::store::tests::victim", "--nocapture", "--test-threads=1"])
            .env(VICTIM, data.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = acknowledged + 1 + round * 13 % 60;
        while acknowledged < wanted {
            let line = lines.next().expect("the child writes until it is killed").unwrap();
            if let Some(number) = line.split("durable ").nth(1) {
                acknowledged = number.trim().parse().unwrap();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it still managed to say counts as acknowledged too.
        for line in lines.map_while(Result::ok) {
            if let Some(number) = line.strip_prefix("durable ").and_then(|n| n.parse().ok()) {
                acknowledged = number;
            }
        }
        let store = open(data.path());
        assert!(acknowledged <= store.durable().0, "round {round}");
        let numbers = (acknowledged.saturating_sub(100)..=acknowledged).filter(|&n| 0 < n);
        for number in numbers {
            let found = value(&store, number).unwrap_or_default();
            assert!(found.starts_with(&number.to_le_bytes()), "round {round}: batch {number}");
        }
        if round == 19 {
            let report = store.verify(&mut |_, _| {}).unwrap();
            assert!(report.is_sound(), "{:?}", report.problems);
        }
    }
}

/// Names a library that undoes unsynced writes when the process gets SIGUSR2, see docs/store.md.
const SHIM: &str = "ECUMENE_POWERLOSS_SHIM";

#[test]
fn nothing_acknowledged_is_lost_when_the_power_is_cut() {
    let Some(shim) = std::env::var_os(SHIM) else {
        eprintln!("SKIPPED: {SHIM} names no library that simulates a power cut");
        return;
    };
    let rounds = std::env::var("ECUMENE_POWERLOSS_ROUNDS").map_or(20, |n| n.parse().unwrap());
    let mut lost = Vec::new();
    for round in 0..rounds {
        let data = tempfile::tempdir().unwrap();
        // Several cuts on the same data: recovery itself must hold, too.
        for cut in 0..3_u64 {
            let acknowledged = cut_power(&shim, data.path(), 1 + (round * 17 + cut * 41) % 400);
            let opened = SledStore::open(data.path(), options(), &mut |_, _| {});
            let is_kept = opened.is_ok_and(|store| {
                let report = store.verify(&mut |_, _| {}).unwrap();
                acknowledged <= store.durable().0
                    && report.is_sound()
                    && (1..=acknowledged).all(|number| value(&store, number).is_some())
            });
            if !is_kept {
                lost.push((round, cut, acknowledged));
                break;
            }
        }
    }
    assert!(lost.is_empty(), "of {rounds} rounds lost (round, cut, acknowledged): {lost:?}");
}

/// Runs the writing child under the shim until `more` further lines, then cuts its power.
fn cut_power(shim: &std::ffi::OsStr, data: &Path, more: u64) -> u64 {
    let report = data.join("power.report");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "io::store::tests::victim", "--nocapture", "--test-threads=1"])
        .env(VICTIM, data)
        .env("LD_PRELOAD", shim)
        .env("SHIM_REP", &report)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut acknowledged, mut seen) = (0, 0);
    for line in lines.map_while(Result::ok) {
        let Some(number) = line.split("durable ").nth(1) else { continue };
        acknowledged = number.trim().parse().unwrap();
        seen += 1;
        if seen == more {
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-USR2", &pid]).status().unwrap().success());
        }
    }
    child.wait().unwrap();
    assert!(report.exists(), "the shim says what it dropped");
    acknowledged
}

/// A small file system of its own; nothing where that is not allowed.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        eprintln!("SKIPPED: a full disk needs the right to mount a tmpfs");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg("-l").arg(self.0.path()).status().unwrap().success());
    }
}

fn a_full_disk(reserve_bytes: u64) {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let data = disk.0.path().join("data");
    let options = StoreOptions { reserve_bytes, ..options() };
    let store = SledStore::open(&data, options.clone(), &mut |_, _| {}).unwrap();
    fs::write(disk.0.path().join("ballast"), vec![1; 12 << 20]).unwrap();
    let mut appended = 0;
    let trouble = (1..100_000_u64).find_map(|number| {
        let mut bytes = blake3::hash(&number.to_le_bytes()).as_bytes().repeat(256);
        bytes.truncate(8_000);
        match put(&store, number, bytes).and_then(|_| ready(store.flush())) {
            Ok(_) => {
                appended = number;
                None
            }
            Err(error) => Some(error),
        }
    });
    let trouble = trouble.expect("32 MB are full in the end");
    assert!(matches!(trouble, StoreError::Full { .. }), "{trouble}");
    assert!(matches!(put(&store, 0, vec![1]), Err(StoreError::Full { .. })), "read-only");
    assert!(matches!(store.subscribe().borrow().trouble, Some(StoreError::Full { .. })));
    fs::remove_file(disk.0.path().join("ballast")).unwrap();
    // Space is back: what waited is written and new batches are taken.
    let mut watch = store.subscribe();
    ready(async { watch.wait_for(|now| now.trouble.is_none()).await.map(drop) }).unwrap();
    put(&store, 0, b"after".to_vec()).unwrap();
    flush(&store);
    drop(store);
    let store = SledStore::open(&data, options, &mut |_, _| {}).unwrap();
    assert_eq!(value(&store, 0).as_deref(), Some(&b"after"[..]));
    assert!((1..=appended).all(|number| value(&store, number).is_some()));
    let report = store.verify(&mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    drop(store);
}

#[test]
fn a_nearly_full_disk_makes_the_store_read_only_until_there_is_space() {
    a_full_disk(4 << 20);
}

#[test]
fn a_wholly_full_disk_loses_nothing_and_is_survived() {
    a_full_disk(0);
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
fn a_flipped_byte_anywhere_is_refused_reported_or_without_effect() {
    let sound = tempfile::tempdir().unwrap();
    let wanted = small_world(sound.path());
    let names = files(sound.path());
    assert!(8 <= names.len(), "database, settings, summary, keys, ledger, mark, value: {names:?}");
    let mut noticed = std::collections::BTreeMap::new();
    for file in names {
        let name = file.strip_prefix(sound.path()).unwrap();
        let bytes = fs::read(&file).unwrap();
        // The used front of the file matters most; the rest of a segment is padding.
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        for sample in 0..24_usize.min(used) {
            let at = sample * used / 24_usize.min(used);
            let data = tempfile::tempdir().unwrap();
            copy(sound.path(), data.path());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (sample % 8);
            fs::write(data.path().join(name), flipped).unwrap();
            let report = verify(data.path(), &options(), &mut |_, _| {}).unwrap();
            let opened = SledStore::open(data.path(), options(), &mut |_, _| {});
            let same = opened.and_then(|store| contents(&store)).is_ok_and(|all| all == wanted);
            let place = format!("{} at {at}", name.display());
            assert!(same || !report.is_sound(), "{place}: neither noticed nor without effect");
            *noticed.entry(name.to_owned()).or_insert(0) += u32::from(!report.is_sound());
        }
    }
    for (name, count) in &noticed {
        // Who held the lock last is no part of the data.
        let is_lock = name == Path::new("lock");
        assert!(is_lock || 0 < *count || name.ends_with("conf"), "{noticed:?}");
    }
}

#[test]
fn unreadable_data_are_refused_and_left_alone() {
    let data = tempfile::tempdir().unwrap();
    drop(small_world(data.path()));
    fs::write(data.path().join("db/db"), vec![0xA5; 100_000]).unwrap();
    let error = SledStore::open(data.path(), options(), &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("db is damaged"), "{error}");
    assert!(data.path().join("db/db").exists() && data.path().join("keys").exists());
    let missing = verify(&data.path().join("nowhere"), &options(), &mut |_, _| {});
    assert!(missing.unwrap_err().to_string().contains("no data folder"));
}

#[test]
fn lost_batches_are_noticed() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    put(&store, 1, vec![1]).unwrap();
    flush(&store);
    drop(store);
    let old = tempfile::tempdir().unwrap();
    copy(&data.path().join("db"), old.path());
    let store = open(data.path());
    put(&store, 2, vec![2]).unwrap();
    drop(store);
    fs::remove_dir_all(data.path().join("db")).unwrap();
    copy(old.path(), &data.path().join("db"));
    let error = SledStore::open(data.path(), options(), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("ends at batch 1, and 2 were durable"), "{error}");
}

#[test]
fn a_backup_made_while_writing_holds_one_moment_and_restores() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(data.path());
    // Every batch writes the same number in 40 places, in two trees: a mix would show.
    let write = |round: u64| {
        let mut batch = Batch::new();
        for place in 0..20 {
            let value = round.to_le_bytes().to_vec();
            batch.put(Tree::World, item(place * 100), plain(1, 1, value.clone()));
            batch.put(Tree::Assets, item(place * 100), plain(1, 1, value));
        }
        store.append(batch).unwrap()
    };
    for number in 0..2_000 {
        put(&store, 10_000 + number, vec![1; 200]).unwrap();
    }
    write(0);
    flush(&store);
    let (file, done) = (other.path().join("one.backup"), AtomicBool::new(false));
    let manifest = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 1;
            while !done.load(Ordering::Acquire) {
                ready(until_durable(store.subscribe(), write(round))).unwrap();
                round += 1;
            }
        });
        let manifest = store.backup(&file, 1_000, &mut |done, total| assert!(done <= total));
        done.store(true, Ordering::Release);
        manifest.unwrap()
    });
    assert!(matches!(store.backup(&file, 1, &mut |_, _| {}), Err(StoreError::Occupied { .. })));
    drop(store);
    assert_eq!(verify_backup(&file, &options(), &mut |_, _| {}).unwrap().number.0, manifest.number);
    let target = other.path().join("restored");
    let report = restore(&file, &target, Some(data.path()), &options(), &mut |_, _| {}).unwrap();
    assert_eq!(report.number.0, manifest.number);
    let store = open(&target);
    let round = value(&store, 0).unwrap();
    for place in 0..20 {
        assert_eq!(value(&store, place * 100).as_ref(), Some(&round));
        let twin = store.read(Tree::Assets, &item(place * 100)).unwrap().and_then(Stored::live);
        assert_eq!(twin.map(|record| record.value).as_ref(), Some(&round));
    }
    assert!(store.run_epoch() > 1_024, "ids of runs after the backup are not minted again");
    assert!(store.verify(&mut |_, _| {}).unwrap().is_sound());
    drop(store);
    let again = restore(&file, &target, None, &options(), &mut |_, _| {});
    assert!(matches!(again, Err(StoreError::Occupied { .. })));
}

#[test]
fn an_erased_person_stays_erased_in_older_backups_too() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(data.path());
    for person in [ANNA, BEN] {
        store.enroll(person).unwrap();
        put_for(&store, person, 1, b"short".to_vec());
        put_for(&store, person, 2, vec![3; INLINE_BYTES_MAX + 1]);
    }
    flush(&store);
    let file = other.path().join("before.backup");
    store.backup(&file, 1, &mut |_, _| {}).unwrap();
    store.erase(ANNA).unwrap();
    assert_eq!(of(&store, ANNA, 1), Some(Stored::Erased(ANNA)));
    assert_eq!(of(&store, ANNA, 2), Some(Stored::Erased(ANNA)));
    let mut late = Batch::new();
    late.put(Tree::People, Key::person(ANNA), personal(ANNA, 1, 1, vec![]));
    assert_eq!(store.append(late), Err(StoreError::NotEnrolled { person: ANNA }));
    let target = other.path().join("restored");
    let report = restore(&file, &target, Some(data.path()), &options(), &mut |_, _| {}).unwrap();
    assert_eq!((report.erased, report.blobs), (2, 1));
    let restored = open(&target);
    assert_eq!(of(&restored, ANNA, 1), None);
    assert!(matches!(of(&restored, BEN, 2), Some(Stored::Live(_))));
    assert!(restored.verify(&mut |_, _| {}).unwrap().is_sound());
    // Without keys everybody's records stay shut, and nothing else is lost.
    let keyless = other.path().join("keyless");
    restore(&file, &keyless, None, &options(), &mut |_, _| {}).unwrap();
    assert_eq!(of(&open(&keyless), BEN, 1), Some(Stored::Erased(BEN)));
}

#[test]
fn a_damaged_backup_is_refused_before_anything_is_written() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(small_world(data.path()));
    let file = other.path().join("one.backup");
    open(data.path()).backup(&file, 1, &mut |_, _| {}).unwrap();
    let sound = fs::read(&file).unwrap();
    for sample in 0..40 {
        let at = sample * sound.len() / 40;
        let mut bytes = sound.clone();
        bytes[at] ^= 0x20;
        fs::write(&file, bytes).unwrap();
        let target = other.path().join("restored");
        let outcome = restore(&file, &target, Some(data.path()), &options(), &mut |_, _| {});
        assert!(matches!(outcome, Err(StoreError::Damaged { .. })), "flip at {at}: {outcome:?}");
        assert!(!target.exists());
    }
}

#[test]
fn compacting_keeps_what_lives_and_bounds_the_space() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    store.enroll(ANNA).unwrap();
    store.enroll(BEN).unwrap();
    for round in 0..60_u8 {
        for number in 0..50 {
            put(&store, number, vec![round; 6_000]).unwrap();
        }
        put(&store, 99, vec![round; INLINE_BYTES_MAX + 1]).unwrap();
        flush(&store);
    }
    put_for(&store, ANNA, 1, vec![1; 10]);
    put_for(&store, BEN, 1, vec![1; 10]);
    flush(&store);
    store.erase(ANNA).unwrap();
    let mut wanted = contents(&store).unwrap();
    store.close().unwrap();
    let report = compact(data.path(), &options(), &mut |_, _| {}).unwrap();
    assert_eq!((report.dropped, report.blobs_removed, report.records), (1, 59, 52));
    assert!(report.bytes_after < 8 << 20 && report.bytes_after < report.bytes_before, "{report:?}");
    assert!(verify(data.path(), &options(), &mut |_, _| {}).unwrap().is_sound());
    wanted.retain(|(_, _, stored)| *stored != Stored::Erased(ANNA));
    assert_eq!(contents(&open(data.path())).unwrap(), wanted);
}

const STEPS: &[Migration] = &[
    Migration { from: 1, what: "move and grow", step: |entry| Ok(Some(moved(entry))) },
    Migration { from: 2, what: "fail on 66", step: refuse_66 },
];

fn moved(mut entry: Entry) -> Entry {
    entry.record.version += 1;
    entry.record.value.push(b'!');
    if entry.tree == Tree::World {
        entry.tree = Tree::Assets;
    }
    entry
}

fn refuse_66(entry: Entry) -> Result<Option<Entry>, String> {
    if entry.record.value.first() == Some(&66) {
        Err("66 is nothing".into())
    } else {
        Ok(Some(entry))
    }
}

#[test]
fn old_records_are_lifted_all_or_none() {
    let data = tempfile::tempdir().unwrap();
    let newer = StoreOptions { migrations: STEPS, ..options() };
    let store = open(data.path());
    store.enroll(ANNA).unwrap();
    put(&store, 1, b"a".to_vec()).unwrap();
    put(&store, 2, vec![66]).unwrap();
    put_for(&store, ANNA, 1, b"b".to_vec());
    store.close().unwrap();
    let error = SledStore::open(data.path(), newer.clone(), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("66 is nothing"), "{error}");
    let store = open(data.path());
    assert_eq!(value(&store, 1), Some(b"a".to_vec()), "the old database is still there");
    put(&store, 2, vec![67]).unwrap();
    store.close().unwrap();
    let store = SledStore::open(data.path(), newer, &mut |_, _| {}).unwrap();
    let lifted = store.read(Tree::Assets, &item(1)).unwrap().and_then(Stored::live).unwrap();
    assert_eq!((lifted.version, lifted.value), (2, b"a!".to_vec()));
    assert!(matches!(of(&store, ANNA, 1), Some(Stored::Live(record)) if record.value == b"b!"));
    assert_eq!((value(&store, 1), store.durable()), (None, Number(4)));
    assert!(store.verify(&mut |_, _| {}).unwrap().is_sound());
    store.close().unwrap();
    let error = SledStore::open(data.path(), options(), &mut |_, _| {}).unwrap_err();
    assert_eq!(error, StoreError::Newer { folder: data.path().into(), found: 3, known: 1 });
}

#[test]
fn scheduled_backups_are_made_and_removed() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(data.path());
    let schedule = Schedule { every_s: 60, hourly: 2, daily: 0, weekly: 0 };
    let backups = Backups { folder: other.path().join("backups"), schedule };
    let hour = 3_600;
    for (now, is_made) in [(0, true), (59, false), (60, true), (hour, true), (2 * hour, true)] {
        assert_eq!(backups.run(&store, now).unwrap().is_some(), is_made, "at {now}");
    }
    assert_eq!(backups.made().unwrap(), [hour, 2 * hour]);
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
