//! From words to acts: which thing, which person, which recipe a line of a script means.

use protocol::ids::{EntityId, PersonId};
use protocol::message::server::Being;
use protocol::replica::{Entity, Replica};
use protocol::rules::{
    Act, Args, Emote, Kind, KindId, Lot, Portion, Recipe, RuleBook, Thing, Verb,
};
use protocol::units::Position;

use crate::script;

/// Where a built thing stands: this far ahead, in cm.
const SITE_CM: i32 = 150;

/// An act, and where one must be for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What to do.
    pub act: Act,
    /// Whom or what to walk up to first.
    pub near: Option<EntityId>,
}

/// What names are looked up in.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// Who and what is in view, and what one holds.
    pub replica: &'a Replica,
    /// What things are.
    pub book: &'a RuleBook,
}

impl<'a> Sight<'a> {
    /// Returns the plan for doing something with a kind of thing.
    ///
    /// # Errors
    /// What is not there, for people.
    pub fn plan(self, verb: script::Verb, thing: &str, count: u32) -> Result<Plan, String> {
        match verb {
            script::Verb::Take => {
                let target = self.thing_in_view(thing)?.id;
                Ok(near(Act::on(Verb::Take, target).with(Args::Count(count)), target))
            }
            script::Verb::Drop => {
                let held = self.held(thing, count)?.id;
                Ok(here(Act::on(Verb::Drop, held).with(Args::Count(count))))
            }
            script::Verb::Use => match self.held(thing, 1) {
                Ok(held) => Ok(here(Act::on(Verb::Use, held.id))),
                Err(_) => self.on_thing(Verb::Use, thing),
            },
            script::Verb::Open => {
                let target = self.thing_in_view(thing)?;
                let is_open = target.newest().1.flags & protocol::state::flags::OPEN != 0;
                let verb = if is_open { Verb::Close } else { Verb::Open };
                Ok(near(Act::on(verb, target.id), target.id))
            }
            script::Verb::Gather => self.on_thing(Verb::Gather, thing),
            script::Verb::Read => self.on_thing(Verb::Read, thing),
            script::Verb::Make => self.make(thing),
            script::Verb::Build => self.build(thing),
        }
    }

    /// Returns the plan for handing something over.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn give(self, name: &str, thing: &str, count: u32) -> Result<Plan, String> {
        let to = self.person(name)?.id;
        let moved = Args::Moved { thing: self.held(thing, count)?.id, count };
        Ok(near(Act::on(Verb::Give, to).with(moved), to))
    }

    /// Returns the plan for greeting somebody.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn greet(self, name: &str) -> Result<Plan, String> {
        let to = self.person(name)?.id;
        Ok(near(Act::on(Verb::Greet, to), to))
    }

    /// Returns the plan for a gesture.
    ///
    /// # Errors
    /// When there is no such gesture, with those there are.
    pub fn emote(self, gesture: &str) -> Result<Plan, String> {
        let Some(emote) = Emote::named(&gesture.to_lowercase()) else {
            let names: Vec<&str> = Emote::ALL.iter().map(|(_, name, _)| *name).collect();
            return Err(format!("no gesture `{gesture}`; there are: {}", names.join(", ")));
        };
        Ok(here(Act::new(Verb::Emote).with(Args::Emote(emote))))
    }

    /// Returns the plan for offering an exchange.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn offer(
        self,
        name: &str,
        give: &(u32, String),
        want: &(u32, String),
    ) -> Result<Plan, String> {
        let to = self.person(name)?.id;
        let portion = Portion { thing: self.held(&give.1, give.0)?.id, count: give.0 };
        let lot = Lot { kind: self.kind(&want.1)?, count: want.0 };
        let deal = Args::Deal { give: vec![portion], want: vec![lot] };
        Ok(near(Act::on(Verb::Offer, to).with(deal), to))
    }

    /// Returns the plan for accepting the newest offer, of `name` if given.
    ///
    /// # Errors
    /// When none stands.
    pub fn accept(self, name: Option<&str>) -> Result<Plan, String> {
        let me = self.replica.avatar();
        let offer = self.newest_offer(name, |from| from != me)?;
        let act = Act::new(Verb::Accept).with(Args::Offer(offer.0));
        Ok(near(act, offer.1))
    }

    /// Returns the plan for turning down the newest offer, or taking back one's own.
    ///
    /// # Errors
    /// When none stands.
    pub fn decline(self, name: Option<&str>) -> Result<Plan, String> {
        let me = self.replica.avatar();
        let (id, from) = self.newest_offer(name, |_| true)?;
        let verb = if from == me { Verb::Withdraw } else { Verb::Decline };
        Ok(here(Act::new(verb).with(Args::Offer(id))))
    }

    /// Returns the nearest person of this name.
    ///
    /// # Errors
    /// When nobody of that name is in view, with who is.
    pub fn person(self, name: &str) -> Result<&'a Entity, String> {
        self.replica.named(name).ok_or_else(|| {
            let names = self.replica.entities().filter_map(person_name);
            format!("nobody called `{name}` is in view; in view are: {}", listed(names))
        })
    }

    /// Returns the person of this name in view, or of this id, such as `p-1f`, wherever they are.
    ///
    /// # Errors
    /// As [`Self::person`].
    pub fn person_id(self, name: &str) -> Result<PersonId, String> {
        if let Ok(id) = name.parse() {
            return Ok(id);
        }
        match self.person(name)?.being {
            Being::Avatar { person, .. } => Ok(person),
            Being::Thing { .. } => Err(format!("{name} is no person")),
        }
    }

    /// Returns the nearest person or thing of this name.
    #[must_use]
    pub fn anything(self, name: &str) -> Option<&'a Entity> {
        self.replica.named(name).or_else(|| self.thing_in_view(name).ok())
    }

    /// Returns what one holds of this kind, at least `count`.
    ///
    /// # Errors
    /// When one holds less, with what one holds.
    pub fn held(self, thing: &str, count: u32) -> Result<&'a Thing, String> {
        let holding = &self.replica.log().holding;
        let of_kind = |held: &&Thing| self.is_called(held.kind, thing);
        let enough = holding.iter().filter(of_kind).find(|held| count <= held.count);
        enough.ok_or_else(|| {
            let names = holding.iter().map(|held| self.amount(held.kind, held.count));
            format!("not holding {count} {thing}; holding: {}", listed(names))
        })
    }

    /// Returns how many of this kind one holds.
    #[must_use]
    pub fn held_count(self, thing: &str) -> u32 {
        let holding = self.replica.log().holding.iter();
        let counts = holding.filter(|held| self.is_called(held.kind, thing)).map(|held| held.count);
        counts.fold(0, u32::saturating_add)
    }

    /// Returns an amount in words.
    #[must_use]
    pub fn amount(self, kind: KindId, count: u32) -> String {
        let name = self.book.kind(kind).map(|kind| kind.name_of(count).to_owned());
        format!("{count} {}", name.unwrap_or_else(|| kind.to_string()))
    }

    fn thing_in_view(self, thing: &str) -> Result<&'a Entity, String> {
        let nearest = |is_it: &dyn Fn(&Kind) -> bool| {
            self.replica.nearest(|entity| match entity.being {
                Being::Thing { kind, .. } => self.book.kind(kind).is_some_and(is_it),
                Being::Avatar { .. } => false,
            })
        };
        // A tree is meant before an apple tree, however near that is.
        let nearest = nearest(&|kind| kind.name == thing || kind.plural == thing).or_else(|| {
            nearest(&|kind| is_named(&kind.name, thing) || is_named(&kind.plural, thing))
        });
        nearest.ok_or_else(|| {
            let kinds = self.replica.entities().filter_map(|entity| match entity.being {
                Being::Thing { kind, .. } => self.book.kind(kind).map(|kind| kind.name.clone()),
                Being::Avatar { .. } => None,
            });
            format!("no {thing} in view; in view are: {}", listed(kinds))
        })
    }

    fn on_thing(self, verb: Verb, thing: &str) -> Result<Plan, String> {
        let target = self.thing_in_view(thing)?.id;
        Ok(near(Act::on(verb, target), target))
    }

    fn make(self, thing: &str) -> Result<Plan, String> {
        let recipe = self.recipe(thing)?;
        let act = Act::new(Verb::Make).with(Args::Recipe(recipe.id));
        let Some(station) = recipe.station else { return Ok(here(act)) };
        let target = self.replica.nearest_of(station).ok_or_else(|| {
            format!("a {thing} is made at a {}; none is in view", self.amount(station, 1))
        })?;
        Ok(near(Act { target: Some(target.id), ..act }, target.id))
    }

    fn build(self, thing: &str) -> Result<Plan, String> {
        let recipe = self.recipe(thing)?.id;
        let body = self.replica.body();
        let (at, yaw) = (body.position(), body.yaw);
        let (east, south) = yaw.direction();
        let ahead = |direction: i32| direction * SITE_CM / 32_767;
        let at = Position { x: at.x + ahead(east), z: at.z + ahead(south), ..at };
        Ok(here(Act::new(Verb::Build).with(Args::Site { recipe, at, yaw })))
    }

    fn recipe(self, thing: &str) -> Result<&'a Recipe, String> {
        self.book.recipe_named(thing).ok_or_else(|| {
            let names = self.book.recipes().map(|recipe| recipe.name.clone());
            format!("no recipe for `{thing}`; there are: {}", listed(names))
        })
    }

    fn kind(self, thing: &str) -> Result<KindId, String> {
        let exact = self.book.kind_named(thing);
        let kind = exact.or_else(|| self.book.kinds().find(|kind| is_named(&kind.name, thing)));
        kind.or_else(|| self.book.kinds().find(|kind| is_named(&kind.plural, thing)))
            .map(|kind| kind.id)
            .ok_or_else(|| format!("there is no such thing as `{thing}`"))
    }

    fn is_called(self, kind: KindId, thing: &str) -> bool {
        let named = |kind: &Kind| is_named(&kind.name, thing) || is_named(&kind.plural, thing);
        self.book.kind(kind).is_some_and(named)
    }

    fn newest_offer(
        self,
        name: Option<&str>,
        passes: impl Fn(EntityId) -> bool,
    ) -> Result<(protocol::rules::OfferId, EntityId), String> {
        let from = name.map(|name| self.person(name)).transpose()?.map(|person| person.id);
        let is_wanted = |offer: &&protocol::rules::Offer| {
            passes(offer.from) && from.is_none_or(|from| from == offer.from)
        };
        let newest = self.replica.log().offers.iter().rev().find(is_wanted);
        newest.map(|offer| (offer.id, offer.from)).ok_or_else(|| "no offer stands".to_owned())
    }
}

/// Returns a person's name, nothing of a thing.
#[must_use]
pub fn person_name(entity: &Entity) -> Option<String> {
    match &entity.being {
        Being::Avatar { name, .. } => Some(name.clone()),
        Being::Thing { .. } => None,
    }
}

/// Whether a kind's name is the word, or ends with it: a notice board is a board.
fn is_named(name: &str, word: &str) -> bool {
    let name = name.to_lowercase();
    name == word || name.strip_suffix(word).is_some_and(|front| front.ends_with(' '))
}

const fn here(act: Act) -> Plan {
    Plan { act, near: None }
}

const fn near(act: Act, target: EntityId) -> Plan {
    Plan { act, near: Some(target) }
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_called_by_its_last_word_too() {
        assert!(is_named("notice board", "board"));
        assert!(is_named("tree", "tree"));
        assert!(is_named("apple tree", "tree"));
        assert!(!is_named("apple pie", "apple"));
        assert!(!is_named("cardboard", "board"));
    }
}
