//! The process whose power is cut: opens the real store, writes batch after batch, and says what
//! became durable.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use server::io::store::rewrite::compact;
use server::io::store::{SledStore, StoreOptions};
use server::store::{Store, StoreError, until_durable};

use crate::diary::{ERA, batch, erased_after, person_of};

/// Set in the process whose power is cut: the world's folder.
pub const VICTIM: &str = "ECUMENE_POWER_VICTIM";

/// Batches between two that are waited for.
const BREATH: u64 = 3;

/// Opens in a row without an end that are tried: a disk is full or fails for a moment only.
const TRIES_MAX: u32 = 200;

/// Pause after something that a full disk did not let happen.
const PAUSE: Duration = Duration::from_millis(5);

/// Returns the options of the store: as they come, but for a pace that lets more happen.
pub fn options() -> StoreOptions {
    StoreOptions {
        cache_bytes: 8 << 20,
        group_every: Duration::from_millis(1),
        reserve_bytes: 0,
        ..StoreOptions::default()
    }
}

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{words}").and_then(|()| out.flush()).expect("whoever cuts the power listens");
}

#[expect(clippy::disallowed_methods, reason = "this process does nothing else")]
fn pause(error: &StoreError) {
    say(&format!("trouble {error}"));
    std::thread::sleep(PAUSE);
}

/// Runs something until a disk that is full for a moment lets it.
fn insist<T>(mut run: impl FnMut() -> Result<T, StoreError>) -> Option<T> {
    for _ in 0..TRIES_MAX {
        match run() {
            Ok(done) => return Some(done),
            Err(error) => pause(&error),
        }
    }
    None
}

/// The child of the other tests. It ends when its power goes and not before.
#[test]
fn victim() {
    let Some(path) = std::env::var_os(VICTIM).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    loop {
        // A store that the disk refused a sync writes again after the next start only.
        let Some(store) = insist(|| SledStore::open(&path, options(), &mut |_, _| {})) else {
            return say("wrong: the world does not open");
        };
        write(&store, &runtime);
        drop(store);
        // Rewritten now and then, so that the swap is cut off, too.
        if let Err(error) = compact(&path, &options(), &mut |_, _| {}) {
            pause(&error);
        }
    }
}

/// Writes until the store is broken or was written to for a while.
fn write(store: &SledStore, runtime: &tokio::runtime::Runtime) {
    let first = store.durable().0 + 1;
    for number in first..first + 5 * ERA {
        let enrolled = insist(|| {
            store.enroll(person_of(number))?;
            store.append(batch(number))
        });
        let Some(appended) = enrolled else { return };
        if appended.0 != number {
            return say(&format!("wrong: batch {number} was given number {appended}"));
        }
        let erased = erased_after(number);
        if erased.is_none() && !number.is_multiple_of(BREATH) {
            continue;
        }
        let durable = || runtime.block_on(until_durable(store.subscribe(), appended));
        if insist(durable).is_none() {
            return;
        }
        say(&format!("durable {appended}"));
        if let Some(person) = erased
            && insist(|| store.erase(person)).is_some()
        {
            say(&format!("erased {}", person.0));
        }
    }
}
