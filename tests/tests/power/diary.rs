//! What the batches up to a number say: the reference that a store is held against.
//!
//! Every batch follows from its number alone, so whoever knows how far a database reaches knows
//! every byte that must be in it. Nothing here opens a file.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use protocol::ids::PersonId;
use server::io::store::SledStore;
use server::store::batch::{Batch, personal, plain};
use server::store::{INLINE_BYTES_MAX, Key, SCAN_RECORDS_MAX, Store, Stored, Tree};
use tests::dice::Dice;

/// Batches of one person's time.
pub const ERA: u64 = 40;

/// Places that belong to nobody.
const PLACES: u64 = 120;

/// Places of one person.
const PERSONAL_PLACES: u64 = 7;

/// Changes of one batch.
const CHANGES_MAX: u64 = 6;

/// A key space that the server does not use.
const SPACE: u8 = 100;

/// Bytes beyond which values are often kept elsewhere; ours go to files at a quarter of that.
const LARGE_BYTES: usize = 64 << 10;

/// One change: a place, and the value's length, nothing where it goes.
struct Change {
    tree: Tree,
    key: Key,
    owner: Option<PersonId>,
    length: Option<usize>,
}

/// Returns the person whose time batch `number` falls into.
pub const fn person_of(number: u64) -> PersonId {
    PersonId(1 + (number - 1) / ERA)
}

/// Returns who is erased right after batch `number` is durable.
pub fn erased_after(number: u64) -> Option<PersonId> {
    (number.is_multiple_of(ERA) && 2 * ERA < number).then(|| PersonId(person_of(number).0 - 2))
}

fn changes(number: u64) -> Vec<Change> {
    let mut dice = Dice(number.wrapping_mul(0xD1B5_4A32_D192_ED03));
    let mut changes: Vec<Change> = (0..1 + dice.below(CHANGES_MAX))
        .map(|_| {
            let place = dice.below(PLACES);
            let tree = [Tree::World, Tree::Journal, Tree::Assets][(place % 3) as usize];
            let length = (!dice.is(100)).then(|| length(&mut dice));
            Change { tree, key: Key::space(SPACE).id(place), owner: None, length }
        })
        .collect();
    // Of changes of one place in a batch the last one counts: one each is said more plainly.
    let mut seen = BTreeSet::new();
    changes.retain(|change| seen.insert((change.tree, change.key.clone())));
    if number.is_multiple_of(5) {
        let owner = person_of(number);
        let key = Key::person_item(owner, 1, number / 5 % PERSONAL_PLACES);
        let length = Some(length(&mut dice));
        changes.push(Change { tree: Tree::People, key, owner: Some(owner), length });
    }
    changes
}

/// Draws a length on either side of the bounds that matter.
fn length(dice: &mut Dice) -> usize {
    let near = |bound: usize, dice: &mut Dice| bound - 3 + dice.below(7) as usize;
    match dice.below(20) {
        0 | 1 => near(INLINE_BYTES_MAX, dice),
        2 => near(LARGE_BYTES, dice),
        3 => LARGE_BYTES + dice.below(100_000) as usize,
        _ => 1 + dice.below(500) as usize,
    }
}

fn value(number: u64, key: &Key, length: usize) -> Vec<u8> {
    let add = |sum: u64, byte: &u8| sum.wrapping_mul(31).wrapping_add(u64::from(*byte));
    let seed = key.as_bytes().iter().fold(number, add);
    let mut dice = Dice(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&dice.draw().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Returns batch `number`.
pub fn batch(number: u64) -> Batch {
    let mut batch = Batch::new();
    for Change { tree, key, owner, length } in changes(number) {
        let Some(length) = length else {
            batch.delete(tree, key);
            continue;
        };
        let value = value(number, &key, length);
        let record = match owner {
            Some(owner) => personal(owner, 2, 1, value),
            None => plain(1, 1, value),
        };
        batch.put(tree, key, record);
    }
    batch
}

/// What must be in a database: the batch that wrote each place last, and how much.
#[derive(Debug)]
pub struct Diary {
    last: u64,
    places: BTreeMap<(Tree, Key), Written>,
}

/// The batch that wrote a place last, how many bytes, and whose they are.
#[derive(Clone, Copy, Debug)]
struct Written {
    number: u64,
    length: usize,
    owner: Option<PersonId>,
}

impl Diary {
    /// Returns what the batches from the first to `last` leave behind.
    pub fn up_to(last: u64) -> Self {
        let mut places = BTreeMap::new();
        for number in 1..=last {
            for Change { tree, key, owner, length } in changes(number) {
                match length {
                    Some(length) => {
                        places.insert((tree, key), Written { number, length, owner });
                    }
                    None => drop(places.remove(&(tree, key))),
                }
            }
        }
        Self { last, places }
    }

    /// Holds a store against this, byte by byte.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, store: &SledStore, erased: &[u64]) -> Result<()> {
        let mut found = BTreeSet::new();
        for tree in [Tree::World, Tree::Journal, Tree::Assets, Tree::People] {
            let space = if tree == Tree::People { Key::PERSON } else { SPACE };
            let mut after = None;
            loop {
                let page = store.scan(tree, &Key::space(space), after.as_ref(), SCAN_RECORDS_MAX);
                let page = page?;
                after = page.last().map(|(key, _)| key.clone());
                for (key, stored) in page {
                    self.check_one(tree, &key, stored, erased)?;
                    found.insert((tree, key));
                }
                if after.is_none() {
                    break;
                }
            }
        }
        // What erased people left goes when the database is rewritten.
        let is_dropped =
            |written: &Written| written.owner.is_some_and(|owner| self.is_erasure_begun(owner));
        let missing = self
            .places
            .iter()
            .find(|(place, written)| !found.contains(place) && !is_dropped(written));
        ensure!(missing.is_none(), "up to {}: {missing:?} is missing", self.last);
        Ok(())
    }

    fn check_one(&self, tree: Tree, key: &Key, stored: Stored, erased: &[u64]) -> Result<()> {
        let place = (tree, key.clone());
        let wanted = self.places.get(&place);
        let Some(&Written { number, length, .. }) = wanted else {
            anyhow::bail!("up to {}: {tree:?} {key:?} is there and should not be", self.last)
        };
        match stored {
            Stored::Live(record) => {
                let is_erased = record.owner.is_some_and(|owner| erased.contains(&owner.0));
                ensure!(!is_erased, "{key:?} can be read after its person was erased");
                let is_same = record.value == value(number, key, length);
                ensure!(is_same, "{tree:?} {key:?} is not what batch {number} wrote");
            }
            Stored::Erased(person) => {
                let is_meant = self.is_erasure_begun(person);
                ensure!(is_meant, "up to {}: {person} lost their key", self.last);
            }
        }
        Ok(())
    }

    /// Whether somebody may be erased: that begins when all batches before it are durable.
    const fn is_erasure_begun(&self, person: PersonId) -> bool {
        (person.0 + 2) * ERA <= self.last
    }
}
