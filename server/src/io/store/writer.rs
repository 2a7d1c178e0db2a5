//! The one thread that writes: takes what is queued, commits it as a group, makes it durable,
//! tells how far it is.
//!
//! A group that cannot be written stays and is tried again; meanwhile new batches are refused with
//! the reason. Nothing is ever called durable that was not synced.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use metrics::{counter, gauge, histogram};
use protocol::ids::ContentHash;

use crate::io::clock::instant;
use crate::io::store::Shared;
use crate::io::store::engine::{Before, Engine};
use crate::io::store::folder::free_bytes;
use crate::store::batch::Write;
use crate::store::intake::Queued;
use crate::store::record::{self, BlobName};
use crate::store::{Number, Progress, StoreError};

/// Pause before a group that failed is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// The mark is renewed this often: it is a safety net, not part of what makes batches durable.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// sled rewrites pages around what changes: disk space wanted per byte of a group.
const SPACE_FACTOR: u64 = 4;

/// Runs until the store closes and everything queued is durable, or cannot become so.
pub fn run(shared: &Arc<Shared>) {
    let mut marked = instant();
    let mut began = None;
    while let Some(group) = next_group(shared, began) {
        began = Some(instant());
        if !write_until_durable(shared, &group) {
            return;
        }
        histogram!("ecumene_store_commit_seconds").record(began.map_or(0.0, seconds_since));
        if MARK_EVERY <= marked.elapsed() {
            marked = instant();
            shared.mark();
        }
    }
    shared.mark();
}

/// Waits for work, and for the pace: one group each few milliseconds, at once after a pause.
fn next_group(shared: &Shared, began: Option<Instant>) -> Option<Vec<Queued>> {
    let mut intake = shared.intake();
    loop {
        let since = began.map_or(Duration::MAX, |began| began.elapsed());
        let is_closing = shared.closing.load(Ordering::Acquire);
        if intake.is_empty() {
            if is_closing {
                return None;
            }
            intake = shared.wake.wait(intake).unwrap_or_else(PoisonError::into_inner);
        } else if since < shared.options.group_every && !is_closing {
            let rest = shared.options.group_every - since;
            let waited = shared.wake.wait_timeout(intake, rest);
            intake = waited.unwrap_or_else(PoisonError::into_inner).0;
        } else {
            gauge!("ecumene_store_queue_batches").set(intake.waiting() as f64);
            return Some(intake.group());
        }
    }
}

/// Returns whether the group became durable; if not, the store is closing or broken.
fn write_until_durable(shared: &Shared, group: &[Queued]) -> bool {
    loop {
        match write(shared, group) {
            Ok(number) => {
                shared.intake().done(group);
                shared.progress.send_replace(Progress { durable: number, trouble: None });
                gauge!("ecumene_store_read_only").set(0.0);
                counter!("ecumene_store_batches_total").increment(group.len() as u64);
                return true;
            }
            Err(error) => {
                report(shared, &error);
                if matches!(error, StoreError::Broken { .. }) || !pause(shared) {
                    return false;
                }
            }
        }
    }
}

fn report(shared: &Shared, error: &StoreError) {
    let is_new = shared.progress.borrow().trouble.as_ref() != Some(error);
    if is_new {
        tracing::error!(%error, "store is read-only");
    }
    counter!("ecumene_store_commit_failures_total").increment(1);
    gauge!("ecumene_store_read_only").set(1.0);
    shared.progress.send_modify(|now| now.trouble = Some(error.clone()));
}

/// Waits before the next try; false when the store closes meanwhile.
fn pause(shared: &Shared) -> bool {
    let closing = || shared.closing.load(Ordering::Acquire);
    let began = instant();
    let mut intake = shared.intake();
    while !closing() && began.elapsed() < RETRY {
        let rest = RETRY.saturating_sub(began.elapsed());
        let waited = shared.wake.wait_timeout(intake, rest);
        intake = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    !closing()
}

fn write(shared: &Shared, group: &[Queued]) -> Result<Number, StoreError> {
    let writes = || group.iter().flat_map(|queued| &queued.writes);
    let bytes: usize = writes().map(Write::weight).sum();
    has_space(shared, bytes as u64)?;
    for (hash, content) in writes().filter_map(|write| write.blob.as_ref()) {
        shared.blobs.put(*hash, content)?;
    }
    let last = group.last().map_or_else(|| shared.intake().last(), |queued| queued.number);
    let outcome = shared.with_open_engine(|engine| commit(shared, engine, group, last));
    if outcome.is_err() {
        // What sled holds in memory may differ from its files now: the next try opens it anew.
        shared.drop_engine();
    }
    outcome?;
    counter!("ecumene_store_written_bytes_total").increment(bytes as u64);
    Ok(last)
}

fn commit(
    shared: &Shared,
    engine: &Engine,
    group: &[Queued],
    last: Number,
) -> Result<(), StoreError> {
    let mut unnamed = Vec::new();
    // After a failed try the group may be in the database already.
    if engine.applied() < last {
        let mut stash = shared.stash();
        let writes = group.iter().flat_map(|queued| &queued.writes);
        let before = engine.commit(writes, last)?;
        match stash.as_mut() {
            // Whoever reads the database as it stood needs its files, too.
            Some(stash) => stash.keep(before),
            None => unnamed.extend(before.iter().filter_map(sealed_file)),
        }
    }
    engine.sync()?;
    unnamed.into_iter().for_each(|hash| shared.blobs.remove(hash));
    Ok(())
}

/// Returns the file that an overwritten or removed record named, if it was sealed: its salt is
/// random, so that no other record can name the same file.
fn sealed_file((tree, key, old): &Before) -> Option<ContentHash> {
    let framed = record::decode(*tree, key.as_bytes(), old.as_deref()?).ok()?;
    let is_sealed_file = framed.form.is_blob && framed.form.owner.is_some();
    is_sealed_file.then(|| BlobName::parse(framed.body).ok()).flatten().map(|name| name.hash)
}

fn has_space(shared: &Shared, bytes: u64) -> Result<(), StoreError> {
    if shared.options.reserve_bytes == 0 {
        return Ok(());
    }
    let path = shared.folder.path();
    let needed = shared.options.reserve_bytes + SPACE_FACTOR * bytes;
    match free_bytes(path) {
        Some(free) if free < needed => Err(StoreError::Full { path: path.into(), free, needed }),
        Some(_) | None => Ok(()),
    }
}

fn seconds_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64()
}
