//! Takes what is kept of a person out of the store, and their key with it.
//!
//! The same for the running server, which makes the person nobody first, and for the command line
//! on the files of a world that nobody runs. Who is to be forgotten is decided elsewhere.

use protocol::ids::PersonId;
use tokio::runtime::Handle;

use crate::assets::rows as asset_rows;
use crate::io::lobby::{damaged, for_each_record};
use crate::people::PersonRecord;
use crate::rows;
use crate::store::{BATCH_CHANGES_MAX, Batch, Key, Store, StoreError, Stored, Tree};

/// Where records of people lie under their own keys.
const TREES: [Tree; 3] = [Tree::People, Tree::Minds, Tree::Assets];

/// Deletes every record of a person and destroys their key; returns how many of both there were.
///
/// What is left of the bytes, here and in every backup, can never be read again once this returns,
/// and the records are off the lists for good. Called again, it goes on where a crash ended it. The
/// person must not be in the world. It waits for the disk on `runtime`, from outside of its tasks.
///
/// # Errors
/// The store's; call again.
pub fn forget(store: &dyn Store, person: PersonId, runtime: &Handle) -> Result<usize, StoreError> {
    let mut rows = Vec::new();
    for tree in TREES {
        for_each_record(store, tree, &Key::person(person), |key, _| {
            rows.push((tree, key.clone()));
            Ok(())
        })?;
    }
    let count = rows.len();
    // The bytes of what they share stand under their hash.
    let shared = rows.iter().filter(|(tree, _)| *tree == Tree::Assets);
    let contents: Vec<_> = shared.filter_map(|(_, key)| asset_rows::grant_id(key)).collect();
    rows.extend(contents.into_iter().map(|id| (Tree::Assets, asset_rows::content_key(id))));
    if let Some(record) = record_of(store, person)? {
        rows.push((Tree::World, rows::owner_key(record.avatar)));
    }
    for page in rows.chunks(BATCH_CHANGES_MAX) {
        let mut batch = Batch::new();
        for (tree, key) in page {
            batch.delete(*tree, key.clone());
        }
        store.append(batch)?;
    }
    // What is found by reading the record can be found again until it is gone itself.
    runtime.block_on(store.flush())?;
    let had_key = store.erase(person)?;
    Ok(count + usize::from(had_key))
}

/// Returns what is stored of a person, nothing if they were never here or were erased.
///
/// # Errors
/// The store's, or that a newer version wrote it.
pub fn record_of(store: &dyn Store, person: PersonId) -> Result<Option<PersonRecord>, StoreError> {
    let stored = store.read(Tree::People, &rows::person_key(person))?;
    let Some(record) = stored.and_then(Stored::live) else { return Ok(None) };
    rows::read_person(&record).map(Some).map_err(|bad| damaged(&bad))
}

/// Returns every stored person that `is_wanted`; one whose record cannot be read is left out. It
/// reads all of them: never on a ticking thread.
///
/// # Errors
/// The store's.
pub fn people_who(
    store: &dyn Store,
    mut is_wanted: impl FnMut(&PersonRecord) -> bool,
) -> Result<Vec<PersonRecord>, StoreError> {
    let (mut found, mut unread) = (Vec::new(), 0_u64);
    for_each_record(store, Tree::People, &Key::space(Key::PERSON), |_, stored| {
        if let Some(record) = stored.live().filter(rows::is_person) {
            match rows::read_person(&record) {
                Ok(record) if is_wanted(&record) => found.push(record),
                Ok(_) => {}
                Err(_) => unread += 1,
            }
        }
        Ok(())
    })?;
    if 0 < unread {
        tracing::warn!(
            unread,
            "records of people cannot be read and are left alone: damaged, or newer than this program"
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use protocol::ids::{ContentHash, EntityId};
    use protocol::message::asset::AssetAudience;
    use protocol::message::common::Appearance;
    use protocol::units::{Position, Yaw};
    use tokio::runtime::Runtime;

    use super::*;
    use crate::assets::{Grant, GrantId};
    use crate::people::Lent;
    use crate::store::memory::Fault;
    use crate::store::{MemoryStore, Record};

    const ADA: PersonId = PersonId(1);
    const BEN: PersonId = PersonId(2);

    fn record(person: PersonId) -> PersonRecord {
        PersonRecord {
            person,
            name: "Somebody".into(),
            avatar: EntityId(10 + person.0),
            appearance: Appearance::default(),
            position: Position::default(),
            yaw: Yaw::NORTH,
            ignored: BTreeMap::new(),
            lendings: Vec::new(),
            is_guest: false,
            seen_s: 0,
        }
    }

    fn world() -> MemoryStore {
        let store = MemoryStore::new(1);
        for person in [ADA, BEN] {
            store.enroll(person).unwrap();
            let mut record = record(person);
            if person == BEN {
                record.lend(Lent { to: ADA, ends_at: 100 }, 0).unwrap();
            }
            let mut batch = Batch::new();
            batch.put(Tree::People, rows::person_key(person), rows::person_row(&record));
            batch.put(Tree::World, rows::owner_key(record.avatar), rows::owner_row(person));
            asset_rows::put(&mut batch, hat_of(person), &hat(), Some(b"hat".to_vec()));
            store.append(batch).unwrap();
        }
        store
    }

    fn hat_of(person: PersonId) -> GrantId {
        (ContentHash::of(b"hat"), person)
    }

    fn hat() -> Grant {
        Grant {
            length: 3,
            media: "image/png".into(),
            name: "hat".into(),
            audience: AssetAudience::Everyone,
            offered_s: 0,
            until_s: 9,
        }
    }

    fn runtime() -> Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    /// Forgets somebody, waiting on a runtime of its own.
    fn forget(store: &MemoryStore, person: PersonId) -> Result<usize, StoreError> {
        super::forget(store, person, runtime().handle())
    }

    #[test]
    fn a_key_outlives_what_is_not_off_the_disk_yet() {
        let store = world();
        store.set_fault(Fault::Hold);
        std::thread::scope(|scope| {
            let forgetting = scope.spawn(|| forget(&store, ADA));
            while store.read(Tree::People, &rows::person_key(ADA)) != Ok(None) {
                store.apply();
                std::thread::yield_now();
            }
            // The power goes now.
            let after = store.crash();
            store.set_fault(Fault::Full);
            assert!(forgetting.join().unwrap().is_err());
            assert!(record_of(&after, ADA).unwrap().is_some(), "nothing is lost by halves");
            assert_eq!(forget(&after, ADA), Ok(3));
            assert_eq!(after.read(Tree::World, &rows::owner_key(EntityId(11))), Ok(None));
        });
    }

    #[test]
    fn nothing_of_the_forgotten_is_left_and_all_of_the_others() {
        let store = world();
        assert_eq!(forget(&store, ADA), Ok(3), "a record, a grant and a key");
        for key in [asset_rows::grant_key, asset_rows::content_key] {
            assert_eq!(store.read(Tree::Assets, &key(hat_of(ADA))), Ok(None));
            assert!(store.read(Tree::Assets, &key(hat_of(BEN))).unwrap().is_some());
        }
        assert_eq!(record_of(&store, ADA), Ok(None));
        assert_eq!(store.read(Tree::World, &rows::owner_key(EntityId(11))), Ok(None));
        assert_eq!(store.read(Tree::People, &rows::person_key(ADA)), Ok(None));
        let mut batch = Batch::new();
        batch.put(Tree::People, rows::person_key(ADA), rows::person_row(&record(ADA)));
        assert_eq!(store.append(batch), Err(StoreError::NotEnrolled { person: ADA }));
        assert!(record_of(&store, BEN).unwrap().is_some());
        assert_eq!(forget(&store, ADA), Ok(0), "again is no harm");
    }

    #[test]
    fn those_who_lend_to_somebody_are_found() {
        let found = people_who(&world(), |record| record.lends_to(ADA)).unwrap();
        assert_eq!(found.iter().map(|record| record.person).collect::<Vec<_>>(), [BEN]);
        assert!(people_who(&world(), |record| record.lends_to(BEN)).unwrap().is_empty());
    }

    #[test]
    fn one_record_that_cannot_be_read_hides_no_others() {
        let store = world();
        let mut batch = Batch::new();
        let damaged = Record { value: b"{".to_vec(), ..rows::person_row(&record(ADA)) };
        batch.put(Tree::People, rows::person_key(ADA), damaged);
        store.append(batch).unwrap();
        let found = people_who(&store, |_| true).unwrap();
        assert_eq!(found.iter().map(|record| record.person).collect::<Vec<_>>(), [BEN]);
    }
}
