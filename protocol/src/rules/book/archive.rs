//! The rule book as it travels: one rkyv archive of its resolved kinds and recipes.
//!
//! Its hash is the book's, so whoever was told the hash knows the book when they see it. Bytes
//! from outside are checked as hard as an author's text.

use std::collections::BTreeMap;

use super::check::{at_most, check_name, in_range, out_of_range};
use super::{BadBook, RuleBook, check_kind, check_references};
use crate::ids::ContentHash;
use crate::rules::kind::{Kind, KindId, Lot, Recipe, RecipeId, Uses};
use crate::rules::limits::{
    ACT_MS_MAX, BOOK_BYTES_MAX, INPUTS_MAX, KINDS_MAX, RECIPES_MAX, STACK_MAX,
};

/// What lies in the archive: kinds and recipes, each in the order of their numbers.
type Entries = (Vec<Kind>, Vec<Recipe>);

/// Returns the archive of these entries.
pub(super) fn write(
    kinds: &BTreeMap<KindId, Kind>,
    recipes: &BTreeMap<RecipeId, Recipe>,
) -> Vec<u8> {
    let entries: Entries = (kinds.values().cloned().collect(), recipes.values().cloned().collect());
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&entries);
    bytes.expect("plain data in memory always serializes").into_vec()
}

impl RuleBook {
    /// Returns the bytes whose hash is [`RuleBook::hash`]: what a server hands out as the asset of
    /// that name.
    #[must_use]
    pub fn archive(&self) -> Vec<u8> {
        write(&self.kinds, &self.recipes)
    }

    /// Reads the rule book that [`RuleBook::archive`] gave.
    ///
    /// # Errors
    /// [`BadBook`] if it is none, or breaks what every book keeps; the server is at fault.
    pub fn from_archive(bytes: &[u8]) -> Result<Self, BadBook> {
        if BOOK_BYTES_MAX < bytes.len() {
            return Err(BadBook::TooLong { got: bytes.len() });
        }
        let entries = rkyv::from_bytes::<Entries, rkyv::rancor::Error>(bytes);
        let unreadable = || BadBook::Unreadable("these bytes are no archive of one".to_owned());
        let (kinds, recipes) = entries.map_err(|_| unreadable())?;
        let book = collect(kinds, recipes)?;
        // Entries in another order would be another book under this one's name.
        if book.hash != ContentHash::of(bytes) { Err(unreadable()) } else { Ok(book) }
    }
}

fn collect(kind_list: Vec<Kind>, recipe_list: Vec<Recipe>) -> Result<RuleBook, BadBook> {
    at_most("kinds", kind_list.len(), KINDS_MAX)?;
    at_most("recipes", recipe_list.len(), RECIPES_MAX)?;
    let (mut kinds, mut names) = (BTreeMap::new(), BTreeMap::new());
    for kind in kind_list {
        let what = format!("kind {:?} (id {})", kind.name, kind.id.0);
        check_name(&what, &kind.name)?;
        check_kind(&what, &kind)?;
        let is_named = names.insert(kind.name.clone(), kind.id).is_some();
        if is_named || kinds.insert(kind.id, kind).is_some() {
            return Err(BadBook::Twice { what });
        }
    }
    for kind in kinds.values() {
        check_mentions(&format!("kind {:?}", kind.name), mentioned_by_kind(kind), &kinds)?;
    }
    let (mut recipes, mut recipe_names) = (BTreeMap::new(), std::collections::BTreeSet::new());
    for recipe in recipe_list {
        let what = format!("recipe {:?} (id {})", recipe.name, recipe.id.0);
        check_recipe(&what, &recipe)?;
        check_mentions(&what, mentioned_by_recipe(&recipe), &kinds)?;
        let is_named = !recipe_names.insert(recipe.name.clone());
        if is_named || recipes.insert(recipe.id, recipe).is_some() {
            return Err(BadBook::Twice { what });
        }
    }
    check_references(&kinds, &recipes)?;
    let hash = super::hash_of(&kinds, &recipes);
    Ok(RuleBook { kinds, names, recipes, hash })
}

fn check_recipe(what: &str, recipe: &Recipe) -> Result<(), BadBook> {
    check_name(what, &recipe.name)?;
    in_range(what, "number of inputs", recipe.inputs.len(), 1..=INPUTS_MAX)?;
    in_range(what, "ms", recipe.ms, 1..=ACT_MS_MAX)?;
    let counts = recipe.inputs.iter().map(|lot| lot.count);
    counts.into_iter().try_for_each(|count| in_range(what, "input count", count, 1..=STACK_MAX))
}

fn mentioned_by_kind(kind: &Kind) -> Vec<KindId> {
    let gather = kind.gather.as_ref();
    let gathered = gather.into_iter().flat_map(|gather| [Some(gather.yields.kind), gather.tool]);
    let used = match &kind.uses {
        Some(Uses::Fill(pairs)) => pairs.iter().flat_map(|&(a, b)| [a, b]).collect(),
        Some(Uses::Eat(leaves)) => leaves.iter().copied().collect(),
        Some(Uses::Light | Uses::Sit | Uses::Ring) | None => Vec::new(),
    };
    gathered.flatten().chain(used).collect()
}

fn mentioned_by_recipe(recipe: &Recipe) -> Vec<KindId> {
    let lots = recipe.inputs.iter().chain([&recipe.output]).map(|&Lot { kind, .. }| kind);
    lots.chain(recipe.station).chain(recipe.tool).collect()
}

fn check_mentions(
    what: &str,
    mentioned: Vec<KindId>,
    kinds: &BTreeMap<KindId, Kind>,
) -> Result<(), BadBook> {
    match mentioned.iter().find(|id| !kinds.contains_key(id)) {
        Some(id) => out_of_range(what, &format!("it refers to {id}, which there is not")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::kind::Gather;

    #[test]
    fn a_book_reads_back_from_its_archive_under_its_hash() {
        let book = RuleBook::starter();
        let bytes = book.archive();
        assert_eq!(ContentHash::of(&bytes), book.hash());
        assert_eq!(RuleBook::from_archive(&bytes), Ok(book));
    }

    #[test]
    fn an_archive_is_checked_like_a_text() {
        let book = RuleBook::starter();
        let entries = |change: &dyn Fn(&mut Vec<Kind>, &mut Vec<Recipe>)| {
            let mut kinds: Vec<Kind> = book.kinds().cloned().collect();
            let mut recipes: Vec<Recipe> = book.recipes().cloned().collect();
            change(&mut kinds, &mut recipes);
            let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&(kinds, recipes)).unwrap();
            RuleBook::from_archive(&bytes)
        };
        assert!(entries(&|_, _| {}).is_ok());
        assert!(entries(&|kinds, _| kinds[0].stack = 0).is_err(), "a stack of none");
        let gathered = |change: &dyn Fn(&mut Gather)| {
            entries(&|kinds, _| {
                kinds.iter_mut().filter_map(|kind| kind.gather.as_mut()).for_each(change);
            })
        };
        assert!(gathered(&|_| {}).is_ok());
        assert!(gathered(&|gather| gather.times = 0).is_err(), "gathered never");
        assert!(gathered(&|gather| gather.ms = 0).is_err(), "gathered in no time");
        assert!(gathered(&|gather| gather.ms = u32::MAX).is_err(), "gathered in an age");
        assert!(
            entries(&|kinds, _| kinds[1].name = kinds[0].name.clone()).is_err(),
            "a name twice"
        );
        assert!(entries(&|kinds, _| kinds.swap(0, 1)).is_err(), "another order");
        assert!(entries(&|_, recipes| recipes[0].inputs.clear()).is_err(), "out of nothing");
        let nowhere = KindId(u16::MAX);
        assert!(entries(&|_, recipes| recipes[0].tool = Some(nowhere)).is_err(), "no such tool");
        assert!(RuleBook::from_archive(b"").is_err());
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(RuleBook::from_archive(&bytes).is_err());
        }

        #[test]
        fn a_damaged_archive_never_panics(
            at in any::<prop::sample::Index>(),
            byte: u8,
        ) {
            let mut bytes = RuleBook::starter().archive();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(book) = RuleBook::from_archive(&bytes) {
                prop_assert_eq!(book.hash(), ContentHash::of(&bytes));
            }
        }
    }
}
