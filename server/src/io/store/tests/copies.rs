//! Rot, backups, restores, compaction, migration: the store as operators meet it.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::backup::Backups;
use super::super::check::verify;
use super::super::restore::{restore, verify_backup};
use super::super::rewrite::compact;
use super::super::{SledStore, StoreOptions};
use super::{
    ANNA, BEN, contents, copy, files, flush, item, of, open, options, put, put_for, ready,
    small_world, value,
};
use crate::store::batch::{Batch, personal, plain};
use crate::store::migrate::{Entry, Migration};
use crate::store::retention::Schedule;
use crate::store::{INLINE_BYTES_MAX, Key, Number, Store, StoreError, Stored, Tree, until_durable};

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
fn a_backup_that_would_take_the_stores_own_room_is_not_begun() {
    let data = tempfile::tempdir().unwrap();
    let options = StoreOptions { reserve_bytes: 1 << 60, ..StoreOptions::default() };
    let store = SledStore::open(data.path(), options, &mut |_, _| {}).unwrap();
    let file = data.path().join("full.backup");
    let refused = store.backup(&file, 1_000, &mut |_, _| {}).unwrap_err();
    assert!(matches!(refused, StoreError::Full { needed, .. } if 1 << 60 <= needed), "{refused}");
    assert!(!file.exists() && !data.path().join("full.backup.part").exists());
}
