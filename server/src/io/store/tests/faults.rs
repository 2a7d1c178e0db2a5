//! The store against kills, power cuts and full disks.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::super::{SledStore, StoreOptions};
use super::{flush, open, options, put, ready, value};
use crate::store::{INLINE_BYTES_MAX, Store, StoreError};

/// Set in a child process: the data folder it writes to until it is killed.
const VICTIM: &str = "ECUMENE_STORE_VICTIM";

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
            .args([
                "--exact",
                "io::store::tests::faults::victim",
                "--nocapture",
                "--test-threads=1",
            ])
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

#[test]
fn a_summary_of_the_log_that_was_killed_half_way_stops_no_start() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    put(&store, 1, vec![1; 100]).unwrap();
    flush(&store);
    drop(store);
    // Named as sled names the next one, so that it is the newest.
    for half in [&b"half a summary of the log"[..], b""] {
        fs::write(data.path().join("db/snap.7FFFFFFFFFFFFFFF.generating"), half).unwrap();
        assert_eq!(value(&open(data.path()), 1), Some(vec![1; 100]));
    }
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
