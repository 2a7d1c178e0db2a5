//! Writes down what operators do, durably, before it is done and again when it is.
//!
//! Used by the running server and by the command line on the files of a world that nobody runs.
//! What an entry says is [`crate::audit`]'s.

use std::sync::{Arc, Mutex, PoisonError};

use crate::admin::AdminReply;
use crate::audit::{self, AuditEntry, Trail};
use crate::io::clock;
use crate::io::lobby::for_each_record;
use crate::rows;
use crate::store::{Key, Store, StoreError, Tree};

/// Writes down what operators do.
pub struct Auditor {
    store: Arc<dyn Store>,
    trail: Mutex<Trail>,
}

impl Auditor {
    /// Returns the auditor of a world.
    ///
    /// # Errors
    /// When what was written down cannot be read.
    pub fn open(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let trail = Mutex::new(Trail::of(&entries(&*store)?));
        Ok(Self { store, trail })
    }

    /// Writes down that something is asked, durably.
    ///
    /// # Errors
    /// The store's; whether the thing is done all the same is the caller's to say.
    pub async fn begin(&self, who: String, what: String) -> Result<AuditEntry, StoreError> {
        let entry = {
            let mut trail = self.trail.lock().unwrap_or_else(PoisonError::into_inner);
            let (entry, batch) = trail.begin(clock::unix_ms(), who, what);
            self.store.append(batch)?;
            trail.keep(&entry);
            entry
        };
        self.store.flush().await?;
        Ok(entry)
    }

    /// Writes down how it went, durably.
    ///
    /// # Errors
    /// The store's.
    pub async fn end(&self, entry: AuditEntry, reply: &AdminReply) -> Result<(), StoreError> {
        self.store.append(audit::end(entry, reply))?;
        self.store.flush().await.map(drop)
    }
}

/// Returns what was written down, oldest first, without entries that cannot be read.
///
/// # Errors
/// The store's.
pub fn entries(store: &dyn Store) -> Result<Vec<AuditEntry>, StoreError> {
    let (mut entries, mut unread) = (Vec::new(), 0_u64);
    for_each_record(store, Tree::Audit, &Key::space(Key::TIME), |_, stored| {
        match stored.live().map(|record| rows::read_audit(&record)) {
            Some(Ok(entry)) => entries.push(entry),
            Some(Err(_)) => unread += 1,
            None => {}
        }
        Ok(())
    })?;
    if 0 < unread {
        tracing::warn!(
            unread,
            "entries of the audit cannot be read and are left alone: damaged, or newer than this program"
        );
    }
    entries.sort_unstable_by_key(|entry| entry.number);
    Ok(entries)
}

/// Returns the newest `last` entries, oldest first, as an answer.
#[must_use]
pub fn reply(store: &dyn Store, last: u32) -> AdminReply {
    match entries(store) {
        Ok(mut entries) => {
            let surplus = entries.len().saturating_sub(last as usize);
            AdminReply::Audit(entries.split_off(surplus))
        }
        Err(error) => AdminReply::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, MemoryStore, Record};

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn what_is_asked_is_written_down_before_and_after() {
        let store = Arc::new(MemoryStore::new(1));
        let auditor = Auditor::open(Arc::<MemoryStore>::clone(&store)).unwrap();
        let first = run(auditor.begin("uid 5".into(), "reload".into())).unwrap();
        let outcomes = || {
            let entries = entries(&*store).unwrap();
            entries.into_iter().map(|entry| entry.outcome).collect::<Vec<_>>()
        };
        assert_eq!(outcomes(), ["begun"]);
        run(auditor.end(first, &AdminReply::Done("said".into()))).unwrap();
        run(auditor.begin("uid 5".into(), "stop in 0 s".into())).unwrap();
        assert_eq!(outcomes(), ["done", "begun"]);
        let AdminReply::Audit(last) = reply(&*store, 1) else { panic!("a list") };
        assert_eq!((last.len(), last[0].number), (1, 2));
        // One that cannot be read hides no other, and keeps no server from starting.
        let mut batch = Batch::new();
        let damaged = Record { owner: None, kind: 0x0105, version: 1, value: b"{".to_vec() };
        batch.put(Tree::Audit, Key::time(1, 1), damaged);
        store.append(batch).unwrap();
        assert_eq!(outcomes(), ["done", "begun"]);
        let again = Auditor::open(Arc::<MemoryStore>::clone(&store)).unwrap();
        let third = run(again.begin("uid 5".into(), "reload".into())).unwrap();
        assert_eq!(third.number, 3, "numbers go on after a restart");
    }
}
