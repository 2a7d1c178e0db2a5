//! The rule book: every kind and recipe of a world, read from TOML and checked as a whole.
//!
//! Operators write their own; the embedded `starter.toml` is the default and the example.
//! Reading a file is done elsewhere.

mod archive;
mod check;

use std::collections::BTreeMap;

use serde::Deserialize;

use self::check::{at_most, check_name, in_range, no_such_kind, out_of_range};
use super::kind::{Gather, Kind, KindId, Lot, Recipe, RecipeId, Solid, Uses};
use super::limits::{
    ACT_MS_MAX, BOOK_BYTES_MAX, INPUTS_MAX, KINDS_MAX, NOTES_MAX, RECIPES_MAX, STACK_MAX,
};
use crate::ids::ContentHash;

/// The rules of a world that says nothing else.
const STARTER: &str = include_str!("starter.toml");

/// Why a rule book is refused; who wrote it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBook {
    /// More text than any book needs.
    #[error("the rule book has {got} bytes, at most {BOOK_BYTES_MAX}")]
    TooLong {
        /// Its size.
        got: usize,
    },
    /// No TOML, or not of the expected shape.
    #[error("the rule book cannot be read: {0}")]
    Unreadable(String),
    /// More entries than allowed.
    #[error("{got} {what}, at most {max}")]
    TooMany {
        /// Kinds or recipes.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many there may be.
        max: usize,
    },
    /// Two entries with one name or number.
    #[error("{what}: the name or number is used twice")]
    Twice {
        /// The later entry.
        what: String,
    },
    /// A name that no kind has.
    #[error("{what}: there is no kind {name:?}{hint}")]
    NoSuchKind {
        /// The entry that refers to it.
        what: String,
        /// The name.
        name: String,
        /// The nearest name there is.
        hint: String,
    },
    /// A number or name out of range.
    #[error("{what}: {why}")]
    OutOfRange {
        /// The entry.
        what: String,
        /// What is wrong and what is expected.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBook {
    #[serde(default)]
    kind: Vec<RawKind>,
    #[serde(default)]
    recipe: Vec<RawRecipe>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKind {
    id: u16,
    name: String,
    plural: Option<String>,
    look: Option<String>,
    #[serde(default)]
    about: String,
    #[serde(default = "one")]
    stack: u32,
    #[serde(default)]
    portable: bool,
    solid: Option<Solid>,
    gather: Option<RawGather>,
    #[serde(default)]
    opens: bool,
    #[serde(default)]
    holds: u8,
    #[serde(default)]
    notes: u8,
    #[serde(default)]
    public: bool,
    #[serde(default)]
    station: bool,
    uses: Option<RawUses>,
}

const fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGather {
    yields: String,
    #[serde(default = "one")]
    count: u32,
    times: u32,
    regrow_ms: u32,
    tool: Option<String>,
    ms: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum RawUses {
    Fill(BTreeMap<String, String>),
    Eat { leaves: Option<String> },
    Light,
    Sit,
    Ring,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecipe {
    id: u16,
    name: String,
    output: String,
    #[serde(default = "one")]
    count: u32,
    inputs: BTreeMap<String, u32>,
    station: Option<String>,
    tool: Option<String>,
    ms: u32,
    #[serde(default)]
    built: bool,
}

/// Every kind and recipe of a world, and the hash that names this version of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleBook {
    kinds: BTreeMap<KindId, Kind>,
    names: BTreeMap<String, KindId>,
    recipes: BTreeMap<RecipeId, Recipe>,
    hash: ContentHash,
}

impl RuleBook {
    /// Returns the embedded rule book.
    ///
    /// # Panics
    /// Never: a test reads it.
    #[must_use]
    pub fn starter() -> Self {
        Self::parse(STARTER).expect("the embedded rule book is checked by a test")
    }

    /// Returns the text of the embedded rule book, an example to start from.
    #[must_use]
    pub const fn starter_text() -> &'static str {
        STARTER
    }

    /// Reads a rule book in TOML.
    ///
    /// # Errors
    /// [`BadBook`] names the entry and what is wrong with it; the text's author is at fault.
    pub fn parse(text: &str) -> Result<Self, BadBook> {
        if BOOK_BYTES_MAX < text.len() {
            return Err(BadBook::TooLong { got: text.len() });
        }
        let raw = toml::from_str(text).map_err(|error| BadBook::Unreadable(error.to_string()))?;
        Self::resolve(raw)
    }

    fn resolve(raw: RawBook) -> Result<Self, BadBook> {
        at_most("kinds", raw.kind.len(), KINDS_MAX)?;
        at_most("recipes", raw.recipe.len(), RECIPES_MAX)?;
        let mut names = BTreeMap::new();
        for kind in &raw.kind {
            let what = format!("kind {:?}", kind.name);
            check_name(&what, &kind.name)?;
            if names.insert(kind.name.clone(), KindId(kind.id)).is_some() {
                return Err(BadBook::Twice { what });
            }
        }
        let mut kinds = BTreeMap::new();
        for kind in raw.kind {
            let kind = resolve_kind(kind, &names)?;
            let what = format!("kind {:?} (id {})", kind.name, kind.id.0);
            if kinds.insert(kind.id, kind).is_some() {
                return Err(BadBook::Twice { what });
            }
        }
        let mut recipes = BTreeMap::new();
        for recipe in raw.recipe {
            let recipe = resolve_recipe(recipe, &names)?;
            let what = format!("recipe {:?} (id {})", recipe.name, recipe.id.0);
            let is_twice = recipes.values().any(|other: &Recipe| other.name == recipe.name);
            if is_twice || recipes.insert(recipe.id, recipe).is_some() {
                return Err(BadBook::Twice { what });
            }
        }
        check_references(&kinds, &recipes)?;
        let hash = hash_of(&kinds, &recipes);
        Ok(Self { kinds, names, recipes, hash })
    }

    /// Returns the hash that names this version of the rules.
    #[must_use]
    pub const fn hash(&self) -> ContentHash {
        self.hash
    }

    /// Returns the kind of this number.
    #[must_use]
    pub fn kind(&self, id: KindId) -> Option<&Kind> {
        self.kinds.get(&id)
    }

    /// Returns the kind of this name.
    #[must_use]
    pub fn kind_named(&self, name: &str) -> Option<&Kind> {
        self.kinds.get(self.names.get(name)?)
    }

    /// Returns the kind of this name, or the error that names the nearest one.
    ///
    /// # Errors
    /// [`BadBook::NoSuchKind`]; `what` says who asks.
    pub fn find_kind(&self, what: &str, name: &str) -> Result<&Kind, BadBook> {
        self.kind_named(name).ok_or_else(|| no_such_kind(what, name, &self.names))
    }

    /// Returns every kind in the order of their numbers.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.values()
    }

    /// Returns the recipe of this number.
    #[must_use]
    pub fn recipe(&self, id: RecipeId) -> Option<&Recipe> {
        self.recipes.get(&id)
    }

    /// Returns the recipe of this name.
    #[must_use]
    pub fn recipe_named(&self, name: &str) -> Option<&Recipe> {
        self.recipes.values().find(|recipe| recipe.name == name)
    }

    /// Returns every recipe in the order of their numbers.
    pub fn recipes(&self) -> impl Iterator<Item = &Recipe> {
        self.recipes.values()
    }

    /// Returns the recipes that make things of `kind`.
    pub fn recipes_for(&self, kind: KindId) -> impl Iterator<Item = &Recipe> {
        self.recipes.values().filter(move |recipe| recipe.output.kind == kind)
    }

    /// Returns the kinds that things of `kind` can be gathered from.
    pub fn sources_of(&self, kind: KindId) -> impl Iterator<Item = &Kind> {
        let yields = move |source: &Gather| source.yields.kind == kind;
        self.kinds.values().filter(move |source| source.gather.as_ref().is_some_and(yields))
    }
}

fn resolve_kind(raw: RawKind, names: &BTreeMap<String, KindId>) -> Result<Kind, BadBook> {
    let what = format!("kind {:?}", raw.name);
    let named = |name: &String| find(&what, name, names);
    let gather = raw.gather.map(|gather| -> Result<Gather, BadBook> {
        Ok(Gather {
            yields: Lot { kind: named(&gather.yields)?, count: gather.count },
            times: gather.times,
            regrow_ms: gather.regrow_ms,
            tool: gather.tool.as_ref().map(named).transpose()?,
            ms: gather.ms,
        })
    });
    let uses = raw.uses.map(|uses| match uses {
        RawUses::Fill(pairs) => {
            let pair = |(empty, full): (&String, &String)| Ok((named(empty)?, named(full)?));
            pairs.iter().map(pair).collect::<Result<_, BadBook>>().map(Uses::Fill)
        }
        RawUses::Eat { leaves } => leaves.as_ref().map(named).transpose().map(Uses::Eat),
        RawUses::Light => Ok(Uses::Light),
        RawUses::Sit => Ok(Uses::Sit),
        RawUses::Ring => Ok(Uses::Ring),
    });
    let kind = Kind {
        id: KindId(raw.id),
        plural: raw.plural.unwrap_or_else(|| format!("{}s", raw.name)),
        look: raw.look.unwrap_or_else(|| raw.name.clone()),
        name: raw.name,
        about: raw.about,
        stack: raw.stack,
        portable: raw.portable,
        solid: raw.solid,
        gather: gather.transpose()?,
        opens: raw.opens,
        holds: raw.holds,
        notes: raw.notes,
        public: raw.public,
        station: raw.station,
        uses: uses.transpose()?,
    };
    check_kind(&what, &kind)?;
    Ok(kind)
}

fn check_kind(what: &str, kind: &Kind) -> Result<(), BadBook> {
    check_name(what, &kind.plural)?;
    in_range(what, "stack", kind.stack, 1..=STACK_MAX)?;
    in_range(what, "notes", kind.notes, 0..=NOTES_MAX)?;
    in_range(what, "holds", kind.holds, 0..=64)?;
    if let Some(solid) = kind.solid {
        in_range(what, "solid.radius_cm", solid.radius_cm, 1..=1_000)?;
    }
    if let Some(gather) = &kind.gather {
        in_range(what, "gather.times", gather.times, 1..=STACK_MAX)?;
        in_range(what, "gather.ms", gather.ms, 1..=ACT_MS_MAX)?;
    }
    if !kind.portable && kind.stack != 1 {
        return out_of_range(what, "cannot be carried, so stack must be 1");
    }
    if kind.is_singular() && kind.stack != 1 {
        return out_of_range(what, "has a state of its own, so stack must be 1");
    }
    Ok(())
}

fn resolve_recipe(raw: RawRecipe, names: &BTreeMap<String, KindId>) -> Result<Recipe, BadBook> {
    let what = format!("recipe {:?}", raw.name);
    check_name(&what, &raw.name)?;
    in_range(&what, "number of inputs", raw.inputs.len(), 1..=INPUTS_MAX)?;
    in_range(&what, "ms", raw.ms, 1..=ACT_MS_MAX)?;
    let lot = |(name, count): (&String, &u32)| -> Result<Lot, BadBook> {
        in_range(&what, "input count", *count, 1..=STACK_MAX)?;
        Ok(Lot { kind: find(&what, name, names)?, count: *count })
    };
    let optional =
        |name: &Option<String>| name.as_ref().map(|name| find(&what, name, names)).transpose();
    Ok(Recipe {
        id: RecipeId(raw.id),
        output: Lot { kind: find(&what, &raw.output, names)?, count: raw.count },
        inputs: raw.inputs.iter().map(lot).collect::<Result<_, _>>()?,
        station: optional(&raw.station)?,
        tool: optional(&raw.tool)?,
        ms: raw.ms,
        built: raw.built,
        name: raw.name,
    })
}

/// Checks what one entry says of another.
fn check_references(
    kinds: &BTreeMap<KindId, Kind>,
    recipes: &BTreeMap<RecipeId, Recipe>,
) -> Result<(), BadBook> {
    let check_lot = |what: &str, lot: Lot| {
        let stack = kinds.get(&lot.kind).map_or(0, |kind| kind.stack);
        in_range(what, "count of what comes of it", lot.count, 1..=stack)
    };
    for kind in kinds.values() {
        let Some(gather) = &kind.gather else { continue };
        check_lot(&format!("kind {:?}", kind.name), gather.yields)?;
    }
    for recipe in recipes.values() {
        let what = format!("recipe {:?}", recipe.name);
        check_lot(&what, recipe.output)?;
        if recipe.built && recipe.output.count != 1 {
            return out_of_range(&what, "what is built is one thing");
        }
        let station = recipe.station.and_then(|id| kinds.get(&id));
        if station.is_some_and(|kind| !kind.station) {
            return out_of_range(&what, "its station is of a kind without station = true");
        }
    }
    Ok(())
}

/// Returns the hash over the resolved entries, so that comments and order make no difference.
fn hash_of(kinds: &BTreeMap<KindId, Kind>, recipes: &BTreeMap<RecipeId, Recipe>) -> ContentHash {
    ContentHash::of(&archive::write(kinds, recipes))
}

fn find(what: &str, name: &str, names: &BTreeMap<String, KindId>) -> Result<KindId, BadBook> {
    names.get(name).copied().ok_or_else(|| no_such_kind(what, name, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        RuleBook::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_starter_book_is_rich_and_sound() {
        let book = RuleBook::starter();
        assert!(25 <= book.kinds().count(), "{}", book.kinds().count());
        assert!(10 <= book.recipes().count());
        // Everything a recipe needs can be had in the world: gathered, made or filled.
        for recipe in book.recipes() {
            for input in &recipe.inputs {
                let is_gathered = book.sources_of(input.kind).next().is_some();
                let is_made = book.recipes_for(input.kind).next().is_some();
                let fills = |uses: &Uses| match uses {
                    Uses::Fill(pairs) => pairs.iter().any(|pair| pair.1 == input.kind),
                    Uses::Eat(_) | Uses::Light | Uses::Sit | Uses::Ring => false,
                };
                let is_filled = book.kinds().any(|kind| kind.uses.as_ref().is_some_and(fills));
                assert!(is_gathered || is_made || is_filled, "{recipe:?}: {input:?}");
            }
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let wood = "[[kind]]\nid = 1\nname = 'wood'\nportable = true\nstack = 9\n";
        let recipe = |input: &str| {
            format!("{wood}[[recipe]]\nid=1\nname='r'\noutput='wood'\nms=1\ninputs={{{input}}}\n")
        };
        assert_eq!(
            refusal(&recipe("wodo=1")),
            "recipe \"r\": there is no kind \"wodo\", did you mean \"wood\"?",
        );
        assert_eq!(refusal(&recipe("xyzzy=1")), "recipe \"r\": there is no kind \"xyzzy\"");
        assert_eq!(refusal(&recipe("")), "recipe \"r\": number of inputs is 0, expected 1 to 8",);
        assert_eq!(
            refusal("[[kind]]\nid = 1\nname = 'box'\nportable = true\nopens = true\nstack = 2\n"),
            "kind \"box\": has a state of its own, so stack must be 1",
        );
        assert_eq!(
            refusal(&format!("{wood}{wood}")),
            "kind \"wood\": the name or number is used twice",
        );
        assert!(refusal("[[kind]]\nid = 1\nnam = 'wood'\n").contains("line 3"));
        assert!(refusal(&"#".repeat(BOOK_BYTES_MAX + 1)).contains("at most 1048576"));
    }

    #[test]
    fn the_hash_follows_the_rules_and_not_the_writing() {
        let starter = RuleBook::starter();
        let commented = format!("# mine\n{STARTER}");
        assert_eq!(RuleBook::parse(&commented).unwrap().hash(), starter.hash());
        let changed = STARTER.replacen("stack = 20", "stack = 21", 1);
        assert_ne!(RuleBook::parse(&changed).unwrap().hash(), starter.hash());
    }
}
