//! A shard taken apart into its quarters, four put together again, and what their neighbours make
//! of it.
//!
//! Nobody is shown anything anew: whoever is taken apart knows afterwards all that the whole knew,
//! under the same slots, and neighbours go on showing what they show under its new owners' names.
//! Who tells whom about the common border begins again, so nothing that was on its way gets lost.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ground::Pillars;
use protocol::ids::{EntityId, IdMint};
use protocol::rules::{Holder, OfferId, Thing, Things, ThingsRecord};
use protocol::units::Position;
use rkyv::with::AsVec;

use super::entities::{Entities, Entity, Owner};
use super::ghosts::Border;
use super::{Changes, Grid, Ground, MARGIN_CM, Scratch, Shard, WorldRules};
use crate::region::{Redrawn, Region, RegionIndex, Regions};

/// A change of how the world is divided, as it is told to all shards.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Redivision {
    /// The division from now on.
    pub regions: Regions,
    /// Regions that are no more.
    pub gone: Vec<RegionIndex>,
    /// Regions that there are instead.
    pub new: Vec<RegionIndex>,
    /// Whose everything is that was of a region which was split.
    #[rkyv(with = AsVec)]
    pub owners: BTreeMap<EntityId, RegionIndex>,
    /// Whose the offers are.
    #[rkyv(with = AsVec)]
    pub offers: BTreeMap<OfferId, RegionIndex>,
}

impl Redivision {
    /// Returns whose something is that was of `region`, which may be no more, and stands `at`.
    #[must_use]
    pub fn owner(&self, region: RegionIndex, id: EntityId, at: Position) -> RegionIndex {
        if !self.gone.contains(&region) {
            return region;
        }
        let known = self.owners.get(&id).copied();
        known.or_else(|| self.regions.heir(region, at)).unwrap_or(region)
    }

    /// Returns one of the new regions, for what has no place of its own.
    #[must_use]
    pub fn first(&self) -> RegionIndex {
        self.new.first().copied().unwrap_or_default()
    }
}

/// Shards that were taken apart, or put together.
#[derive(Debug)]
pub struct Redone {
    /// The new shards, in the order of their numbers.
    pub shards: Vec<Shard>,
    /// What everyone else is told.
    pub told: Redivision,
    /// Ids that the old shards had left.
    pub mints: Vec<IdMint>,
}

/// Makes of the shards of regions that are no more those that there are instead: of one its
/// quarters, of four the whole. Each new one gets one of `mints`; `coming` are on their way from
/// one of the old ones to another.
#[must_use]
pub fn redraw(
    mut shards: Vec<Shard>,
    drawn: &Redrawn,
    mut mints: Vec<IdMint>,
    coming: &BTreeSet<EntityId>,
) -> Redone {
    match (shards.len(), mints.len()) {
        (1, _) => shards.remove(0).part(drawn, mints),
        (_, 1) => Shard::join(shards, drawn, mints.remove(0), coming),
        (old, new) => unreachable!("no change makes {new} regions of {old}"),
    }
}

impl WorldRules {
    /// Returns how far from a region others can see into it, or somebody of it stand: all within
    /// that are its neighbours.
    #[must_use]
    pub const fn reach_cm(&self) -> i32 {
        self.view_cm + 2 * MARGIN_CM
    }

    /// Returns the regions around one.
    #[must_use]
    pub fn neighbours(&self, region: Region) -> Vec<Region> {
        self.regions.neighbours(region, self.reach_cm())
    }

    pub(super) const fn band_cm(&self) -> i32 {
        self.view_cm + MARGIN_CM
    }

    fn is_near(&self, region: Region, other: Region) -> bool {
        region.gap_cm(other) <= self.reach_cm()
    }
}

impl Shard {
    /// Takes the shard apart as `drawn`; each quarter gets one of `mints`.
    fn part(self, drawn: &Redrawn, mints: Vec<IdMint>) -> Redone {
        let quarters: Vec<Region> =
            drawn.new.iter().filter_map(|&index| drawn.regions.region(index)).collect();
        let heir = |at: Position| drawn.regions.index_of(self.region.nearest(at));
        let record = self.things.record();
        let avatars = self.avatars.values().map(|it| (it.id, heir(it.body.position())));
        let placed = record.things.iter().filter_map(|it| Some((it.id, heir(it.place()?))));
        let owners: BTreeMap<EntityId, RegionIndex> = avatars.chain(placed).collect();
        let first = drawn.new.first().copied().unwrap_or_default();
        let keepers = keepers(&record, &owners, first);
        let of_offer = |from, to| owners.get(&from).or_else(|| owners.get(&to)).copied();
        let offers = record
            .offers
            .iter()
            .map(|offer| (offer.id, of_offer(offer.from, offer.to).unwrap_or(first)))
            .collect();
        let told = Redivision {
            regions: drawn.regions.clone(),
            gone: drawn.gone.clone(),
            new: drawn.new.clone(),
            owners,
            offers,
        };
        let rules = WorldRules { regions: drawn.regions.clone(), ..self.rules.clone() };
        let mut homes: BTreeMap<RegionIndex, Self> = quarters
            .iter()
            .zip(mints)
            .map(|(&quarter, mint)| {
                let things = share_of(&record, quarter.index, (&keepers, &told));
                (quarter.index, self.quarter(quarter, (&rules, &quarters), (things, mint), &told))
            })
            .collect();
        for (id, avatar) in self.avatars {
            let home = told.owners.get(&id).and_then(|home| homes.get_mut(home));
            home.expect("an avatar stands in one of the quarters").avatars.insert(id, avatar);
        }
        Redone { shards: homes.into_values().collect(), told, mints: vec![self.mint] }
    }

    /// Returns one quarter of this shard, without its avatars.
    fn quarter(
        &self,
        region: Region,
        (rules, quarters): (&WorldRules, &[Region]),
        (things, mint): (ThingsRecord, IdMint),
        told: &Redivision,
    ) -> Self {
        let mut entities = self.entities.clone();
        entities.for_each_mut(|entity| {
            if entity.owner == Owner::Here {
                let owner = told.owners.get(&entity.id).copied().unwrap_or(region.index);
                entity.owner = owned_by(owner, region.index);
                // Those of the siblings are as they were told of just now.
                entity.told_at = self.tick;
            }
        });
        let around = self.borders.iter().filter(|border| rules.is_near(region, border.region));
        let siblings = quarters.iter().filter(|it| it.index != region.index);
        let siblings = siblings
            .filter(|it| rules.is_near(region, **it))
            .map(|&sibling| Border::new(sibling, rules.band_cm()));
        let around = around.map(|known| {
            let mut border = Border::new(known.region, rules.band_cm());
            border.take_over(known, self.tick, &self.entities);
            border
        });
        let borders = around.chain(siblings).collect();
        let parties = things.offers.iter().map(|it| (it.id, (it.from, it.to))).collect();
        let elsewhere = told.offers.iter().filter(|(_, owner)| **owner != region.index);
        let mut offers_gone = self.offers_gone.clone();
        offers_gone.extend(elsewhere.map(|(&offer, &owner)| (offer, owner)));
        let mut shard = Self {
            region,
            rules: rules.clone(),
            tick: self.tick,
            ground: Ground { heights: self.ground.heights.clone(), pillars: Pillars::default() },
            avatars: BTreeMap::new(),
            things: Things::restore(things).expect("a part of what fits together"),
            pillars_of: BTreeMap::new(),
            parties,
            offers_gone,
            put_outside: Vec::new(),
            errands: BTreeMap::new(),
            entities,
            borders,
            changes: Changes::default(),
            grid: Grid::default(),
            scratch: Scratch::default(),
            mint,
        };
        shard.let_go_of_far_ground();
        shard.settle();
        shard
    }

    /// Puts shards of equal ticks together as `drawn`, of whom `coming` are on their way from one
    /// of them to another.
    fn join(
        parts: Vec<Self>,
        drawn: &Redrawn,
        mint: IdMint,
        coming: &BTreeSet<EntityId>,
    ) -> Redone {
        let first = parts.first().expect("four parts");
        let rules = WorldRules { regions: drawn.regions.clone(), ..first.rules.clone() };
        let index = drawn.new.first().copied().unwrap_or_default();
        let region = drawn.regions.region(index).unwrap_or(first.region);
        let mut shard = Self { tick: first.tick, ..Self::new(region, rules, mint) };
        shard.entities = joint_entities(&parts, (index, &drawn.gone), coming);
        for border in &mut shard.borders {
            let index = border.region.index;
            for part in &parts {
                let known = part.borders.iter().filter(|known| known.region.index == index);
                known.for_each(|known| border.take_over(known, part.tick, &part.entities));
            }
        }
        let mut record = ThingsRecord::default();
        let mut things: BTreeMap<EntityId, Thing> = BTreeMap::new();
        let mut mints = Vec::with_capacity(parts.len());
        for part in parts {
            let theirs = part.things.record();
            things.extend(theirs.things.into_iter().map(|thing| (thing.id, thing)));
            record.offers.extend(theirs.offers);
            record.works.extend(theirs.works);
            part.ground.heights.chunks().into_iter().for_each(|chunk| {
                shard.ground.heights.insert(chunk);
            });
            shard.offers_gone.extend(part.offers_gone);
            shard.avatars.extend(part.avatars);
            mints.push(part.mint);
        }
        shard.offers_gone.retain(|_, owner| !drawn.gone.contains(owner));
        shard.parties = record.offers.iter().map(|it| (it.id, (it.from, it.to))).collect();
        record.things = things.into_values().collect();
        shard.things = Things::restore(record).expect("each is there once");
        for avatar in shard.avatars.values_mut() {
            if let Some(viewer) = &mut avatar.viewer {
                viewer.move_to(&shard.entities);
            }
        }
        shard.settle();
        let told = Redivision {
            regions: drawn.regions.clone(),
            gone: drawn.gone.clone(),
            new: drawn.new.clone(),
            owners: BTreeMap::new(),
            offers: BTreeMap::new(),
        };
        Redone { shards: vec![shard], told, mints }
    }

    /// Goes by another division of the world, of which others are the owners.
    pub(super) fn redivide(&mut self, change: &Redivision) {
        // A shard that began anew meanwhile knows already.
        if change.regions.version() <= self.rules.regions.version() {
            return;
        }
        self.rules.regions = change.regions.clone();
        let here = self.region.index;
        self.entities.for_each_mut(|entity| {
            if let Owner::Neighbour(region) = entity.owner {
                let owner = change.owner(region, entity.id, entity.state.position);
                entity.owner = Owner::Neighbour(owner);
            }
        });
        for (offer, owner) in &mut self.offers_gone {
            if change.gone.contains(owner) {
                *owner = change.offers.get(offer).copied().unwrap_or_else(|| change.first());
            }
        }
        let (old, mut borders): (Vec<Border>, Vec<Border>) = std::mem::take(&mut self.borders)
            .into_iter()
            .partition(|border| change.gone.contains(&border.region.index));
        let new = change.new.iter().filter_map(|&index| change.regions.region(index));
        for region in new.filter(|it| it.index != here && self.rules.is_near(self.region, *it)) {
            let mut border = Border::new(region, self.rules.band_cm());
            old.iter().for_each(|known| border.take_over(known, self.tick, &self.entities));
            borders.push(border);
        }
        borders.sort_by_key(|border| border.region.index);
        self.borders = borders;
        self.settle();
    }

    /// Forgets what no neighbour will tell of any more, and brings what bodies run into in line
    /// with what is left.
    fn settle(&mut self) {
        let known: BTreeSet<RegionIndex> =
            self.borders.iter().map(|border| border.region.index).collect();
        let here = self.region.index;
        let is_lost = |entity: &Entity| match entity.owner {
            Owner::Here => false,
            // Somebody on the way from one part of this region to another.
            Owner::Neighbour(region) => region != here && !known.contains(&region),
        };
        let lost = self.entities.iter().filter(|(_, entity)| is_lost(entity));
        let lost: Vec<EntityId> = lost.map(|(_, entity)| entity.id).collect();
        for id in lost {
            self.entities.remove(id);
        }
        let solid: BTreeSet<EntityId> = self.pillars_of.keys().copied().collect();
        let shown: BTreeSet<EntityId> = self.entities.iter().map(|(_, it)| it.id).collect();
        for &id in solid.union(&shown) {
            self.sync_pillar(id);
        }
    }

    /// Lets go of ground that nobody of this region comes near.
    fn let_go_of_far_ground(&mut self) {
        let (region, reach_cm) = (self.region, self.rules.reach_cm());
        self.ground.heights.retain(|chunk| {
            let (west, north) = chunk.corner_cm();
            let width = chunk.width_cm();
            let square = Region { index: region.index, west, north, width };
            square.gap_cm(region) <= reach_cm
        });
    }
}

fn owned_by(owner: RegionIndex, here: RegionIndex) -> Owner {
    if owner == here { Owner::Here } else { Owner::Neighbour(owner) }
}

/// Returns in which quarter each thing is: where it stands, or where that is which holds it.
fn keepers(
    record: &ThingsRecord,
    owners: &BTreeMap<EntityId, RegionIndex>,
    first: RegionIndex,
) -> BTreeMap<EntityId, RegionIndex> {
    let things: BTreeMap<EntityId, &Thing> = record.things.iter().map(|it| (it.id, it)).collect();
    let keeper = |thing: &Thing| {
        // What is in a container is in one that is in no other.
        let outer = match thing.holder {
            Holder::Inside(container) => things.get(&container)?,
            Holder::Placed { .. } | Holder::Held(_) => thing,
        };
        match outer.holder {
            Holder::Placed { .. } => owners.get(&outer.id).copied(),
            Holder::Held(avatar) => owners.get(&avatar).copied(),
            Holder::Inside(_) => None,
        }
    };
    record.things.iter().map(|thing| (thing.id, keeper(thing).unwrap_or(first))).collect()
}

/// Returns what of `record` is one quarter's.
fn share_of(
    record: &ThingsRecord,
    quarter: RegionIndex,
    (keepers, told): (&BTreeMap<EntityId, RegionIndex>, &Redivision),
) -> ThingsRecord {
    let is_here =
        |home: Option<&RegionIndex>| home.copied().unwrap_or_else(|| told.first()) == quarter;
    let things = record.things.iter().filter(|it| is_here(keepers.get(&it.id)));
    let offers = record.offers.iter().filter(|it| is_here(told.offers.get(&it.id)));
    let works = record.works.iter().filter(|it| is_here(told.owners.get(&it.actor)));
    ThingsRecord {
        things: things.cloned().collect(),
        offers: offers.cloned().collect(),
        works: works.cloned().collect(),
    }
}

/// Returns everything that shards which are put together show: of what several were told of, the
/// newest word.
fn joint_entities(
    parts: &[Shard],
    (index, gone): (RegionIndex, &[RegionIndex]),
    coming: &BTreeSet<EntityId>,
) -> Entities {
    let mut entities = Entities::default();
    let all = || parts.iter().flat_map(|part| part.entities.iter().map(|(_, entity)| entity));
    for entity in all().filter(|entity| entity.owner == Owner::Here) {
        entities.put(entity.clone());
    }
    for entity in all() {
        let Owner::Neighbour(owner) = entity.owner else { continue };
        let is_known = |known: &Entity| match known.owner {
            Owner::Here => true,
            Owner::Neighbour(_) => entity.told_at <= known.told_at,
        };
        if entities.by_id(entity.id).is_some_and(is_known) {
            continue;
        }
        if !gone.contains(&owner) {
            entities.put(entity.clone());
        } else if coming.contains(&entity.id) {
            // It is nobody's for a moment, and shown as it is.
            entities.put(Entity { owner: Owner::Neighbour(index), ..entity.clone() });
        }
    }
    entities
}

#[cfg(test)]
mod tests;
