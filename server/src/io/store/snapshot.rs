//! Reading the whole database as it stood at one batch while others go on writing.
//!
//! While a snapshot is being read, the writer keeps aside what it overwrites behind the reader's
//! place ([`Stash`]); the reader puts that back over what it finds. Reading goes in pages, and
//! writer and reader take turns by the page, so neither waits long for the other.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{MutexGuard, PoisonError};

use crate::io::store::Shared;
use crate::io::store::engine::Before;
use crate::store::{Key, Number, StoreError, Tree};

/// Records read in one turn: about a millisecond.
const PAGE_RECORDS: usize = 256;
/// Most that is kept aside: more than minutes of heavy writing during one backup.
const STASH_BYTES_MAX: usize = 256 << 20;

type Place = (Tree, Key);
type Page = Vec<(Key, Vec<u8>)>;

/// What was overwritten since a snapshot began and is still to be read.
#[derive(Debug, Default)]
pub struct Stash {
    before: BTreeMap<Place, Option<Vec<u8>>>,
    bytes: usize,
    /// Everything up to here was read already.
    read: Option<Place>,
    overflowed: bool,
}

impl Stash {
    /// Keeps aside what a commit has overwritten.
    pub fn keep(&mut self, before: Vec<Before>) {
        for (tree, key, old) in before {
            let place = (tree, key);
            if self.read.as_ref().is_some_and(|read| place <= *read) {
                continue;
            }
            let bytes = place.1.as_bytes().len() + old.as_ref().map_or(0, Vec::len);
            if STASH_BYTES_MAX < self.bytes + bytes {
                self.overflowed = true;
                return;
            }
            // The first is what the snapshot saw; later ones are newer than it.
            self.before.entry(place).or_insert_with(|| {
                self.bytes += bytes;
                old
            });
        }
    }

    /// Returns a page as the snapshot saw it and counts it as read. `last` is the page's last
    /// place, nothing when the tree ends with it.
    fn restore(&mut self, tree: Tree, page: Page, last: Option<Key>) -> Page {
        let mut page: BTreeMap<Key, Vec<u8>> = page.into_iter().collect();
        let end = last.map_or(Bound::Unbounded, |last| Bound::Included((tree, last)));
        let places: Vec<Place> = self
            .before
            .range((Bound::Unbounded, end.clone()))
            .map(|(place, _)| place.clone())
            .take_while(|place| place.0 <= tree)
            .collect();
        for place in places {
            match self.before.remove(&place) {
                Some(Some(old)) => drop(page.insert(place.1, old)),
                Some(None) | None => drop(page.remove(&place.1)),
            }
        }
        self.read = match end {
            Bound::Included(place) => Some(place),
            Bound::Excluded(_) | Bound::Unbounded => {
                let longest = Key::space(u8::MAX).bytes(&[u8::MAX; 255]);
                Some((tree, longest))
            }
        };
        page.into_iter().collect()
    }
}

/// Everything stored, as of one batch. Ends when dropped.
pub struct Snapshot<'a> {
    shared: &'a Shared,
    number: Number,
    /// One snapshot at a time; the next waits.
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Snapshot<'a> {
    /// Begins a snapshot at the last batch applied.
    ///
    /// # Errors
    /// The store's trouble.
    pub fn begin(shared: &'a Shared) -> Result<Self, StoreError> {
        let turn = shared.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stash = shared.stash();
        let number = shared.with_engine(|engine| Ok(engine.applied()))?;
        *stash = Some(Stash::default());
        Ok(Self { shared, number, _turn: turn })
    }

    /// Returns the number of the last batch in it.
    #[must_use]
    pub const fn number(&self) -> Number {
        self.number
    }

    /// Gives every stored record of `tree` to `each`, in key order. Trees have to be read in
    /// their order, each once.
    ///
    /// # Errors
    /// The store's trouble, what `each` says, or that too much changed meanwhile.
    pub fn read<E: From<StoreError>>(
        &self,
        tree: Tree,
        mut each: impl FnMut(Key, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after = None;
        loop {
            let (page, last) = self.page(tree, after.as_ref())?;
            page.into_iter().try_for_each(|(key, bytes)| each(key, bytes))?;
            if last.is_none() {
                return Ok(());
            }
            after = last;
        }
    }

    /// Makes sure that the snapshot's batch is durable.
    ///
    /// # Errors
    /// The store's trouble.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.shared.with_engine(|engine| {
            engine.sync()?;
            if engine.applied() < self.number {
                return Err(lost("the disk failed meanwhile"));
            }
            Ok(())
        })
    }

    fn page(&self, tree: Tree, after: Option<&Key>) -> Result<(Page, Option<Key>), StoreError> {
        let mut guard = self.shared.stash();
        let stash = guard.get_or_insert_default();
        if stash.overflowed {
            return Err(lost("too much changed while it was read"));
        }
        let page = self.shared.with_engine(|engine| engine.page(tree, after, PAGE_RECORDS))?;
        let is_full = page.len() == PAGE_RECORDS;
        let last = page.last().filter(|_| is_full).map(|(key, _)| key.clone());
        Ok((stash.restore(tree, page, last.clone()), last))
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        *self.shared.stash() = None;
    }
}

fn lost(why: &str) -> StoreError {
    StoreError::Io {
        what: "cannot read",
        path: "database".into(),
        why: format!("{why}; try again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: u64, value: u8) -> (Key, Vec<u8>) {
        (Key::space(1).id(key), vec![value])
    }

    fn before(key: u64, value: Option<u8>) -> Before {
        (Tree::World, Key::space(1).id(key), value.map(|value| vec![value]))
    }

    #[test]
    fn a_page_shows_what_stood_there_when_the_snapshot_began() {
        let mut stash = Stash::default();
        // 1 was overwritten twice, 2 is new, 3 was removed, 9 lies beyond the page.
        stash.keep(vec![before(1, Some(10)), before(2, None), before(3, Some(30))]);
        stash.keep(vec![before(1, Some(11)), before(9, Some(90))]);
        let page = vec![entry(1, 12), entry(2, 20), entry(4, 40)];
        let seen = stash.restore(Tree::World, page, Some(Key::space(1).id(4)));
        assert_eq!(seen, [entry(1, 10), entry(3, 30), entry(4, 40)]);
        // What was read already need not be kept any more.
        stash.keep(vec![before(4, Some(40)), before(8, None)]);
        let rest = stash.restore(Tree::World, vec![entry(8, 80)], None);
        assert_eq!(rest, [entry(9, 90)]);
        stash.keep(vec![before(7, None)]);
        assert!(stash.before.is_empty());
    }
}
