//! A whole shard as one value, for the way to another process and back.
//!
//! Packed and unpacked, a shard goes on as if nothing had happened: same slots, same baselines,
//! same ids to come. What its rules say is not packed; both ends are told those once. How the world
//! is divided is packed, for that changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::ground::{HeightGrid, Pillar, Pillars};
use protocol::ids::{ChunkId, EntityId, IdMint};
use protocol::rules::{Misfit, OfferId, Things, ThingsRecord};
use protocol::units::Tick;
use rkyv::rancor::{Fallible, Source};
use rkyv::with::{ArchiveWith, DeserializeWith, Map, SerializeWith};
use rkyv::{Archive, Archived, Deserialize, Place, Resolver, Serialize};
use worldgen::chunk::{Chunk, Surface};
use worldgen::ground::GroundMap;

use super::avatar::Avatar;
use super::entities::Entities;
use super::ghosts::Border;
use super::{Ground, Shard, WorldRules};
use crate::region::{BadDivision, RegionIndex, Regions};

/// Everything of a shard but the world's rules.
#[derive(Debug, Archive, Serialize, Deserialize)]
pub struct Packed {
    region: RegionIndex,
    /// The division that it goes by.
    regions: Regions,
    tick: Tick,
    #[rkyv(with = Map<AsSamples>)]
    ground: Vec<Arc<Chunk>>,
    avatars: Vec<Avatar>,
    things: ThingsRecord,
    pillars: Pillars,
    pillars_of: Vec<(EntityId, Pillar)>,
    parties: Vec<(OfferId, (EntityId, EntityId))>,
    offers_gone: Vec<(OfferId, RegionIndex)>,
    entities: Entities,
    borders: Vec<Border>,
    mint: IdMint,
}

impl Packed {
    /// Returns whose shard it is.
    #[must_use]
    pub const fn region(&self) -> RegionIndex {
        self.region
    }

    /// Returns the tick the shard is at.
    #[must_use]
    pub const fn tick(&self) -> Tick {
        self.tick
    }

    /// Checks that the shard goes by this division, or by one that led to it, and is of the square
    /// that its region is there. What comes from another process says both itself.
    ///
    /// # Errors
    /// [`BadPack::Foreign`]; whoever packed it is at fault.
    pub fn check_division(&self, regions: &Regions) -> Result<(), BadPack> {
        let (square, version) = (regions.region(self.region), self.regions.version());
        let is_ours = self.regions.is_of_same_grid(regions)
            && version <= regions.version()
            && square.is_some()
            && self.regions.region(self.region) == square;
        if is_ours { Ok(()) } else { Err(BadPack::Foreign { region: self.region, version }) }
    }

    /// Returns the shard, in a world of these rules.
    ///
    /// # Errors
    /// [`BadPack`]; whoever packed it is at fault.
    pub fn unpack(self, rules: WorldRules) -> Result<Shard, BadPack> {
        let regions = self.regions.check()?;
        let region = regions.region(self.region).ok_or(BadPack::Region(self.region))?;
        let mut heights = GroundMap::default();
        for chunk in self.ground {
            heights.insert(chunk);
        }
        Ok(Shard {
            region,
            rules: WorldRules { regions, ..rules },
            tick: self.tick,
            ground: Ground { heights, pillars: self.pillars },
            avatars: self.avatars.into_iter().map(|avatar| (avatar.id, avatar)).collect(),
            things: Things::restore(self.things)?,
            pillars_of: self.pillars_of.into_iter().collect(),
            parties: self.parties.into_iter().collect(),
            offers_gone: self.offers_gone.into_iter().collect(),
            put_outside: Vec::new(),
            errands: BTreeMap::new(),
            entities: self.entities.check()?,
            borders: self.borders,
            changes: super::Changes::default(),
            grid: super::Grid::default(),
            scratch: super::Scratch::default(),
            mint: self.mint,
        })
    }
}

impl Shard {
    /// Packs the shard up.
    #[must_use]
    pub fn pack(self) -> Packed {
        Packed {
            region: self.region.index,
            regions: self.rules.regions,
            tick: self.tick,
            ground: self.ground.heights.chunks(),
            avatars: self.avatars.into_values().collect(),
            things: self.things.record(),
            pillars: self.ground.pillars,
            pillars_of: self.pillars_of.into_iter().collect(),
            parties: self.parties.into_iter().collect(),
            offers_gone: self.offers_gone.into_iter().collect(),
            entities: self.entities,
            borders: self.borders,
            mint: self.mint,
        }
    }
}

/// A packed shard that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPack {
    /// There is no such region.
    #[error("the world has no region {}", .0.0)]
    Region(RegionIndex),
    /// It goes by a division of some other world.
    #[error("region {} is packed by division {version}, which is none of this world's", .region.0)]
    Foreign {
        /// Which region.
        region: RegionIndex,
        /// How many changes led to what it goes by.
        version: u32,
    },
    /// What it goes by is no division.
    #[error(transparent)]
    Division(#[from] BadDivision),
    /// The things do not fit each other.
    #[error(transparent)]
    Things(#[from] Misfit),
    /// The table of entities contradicts itself.
    #[error("entity {0} does not stand where the table says")]
    Entity(EntityId),
    /// The table of entities has slots that are neither taken nor free.
    #[error("the table of entities does not know which of its slots are free")]
    Slots,
}

/// Carries ground as its plain samples: no time goes into compressing what travels once.
#[derive(Debug)]
pub struct AsSamples;

/// A chunk of ground as it travels.
#[derive(Debug, Archive, Serialize, Deserialize)]
pub struct Samples {
    id: ChunkId,
    heights: Vec<i32>,
    surface: Vec<u8>,
}

impl Samples {
    fn of(chunk: &Chunk) -> Self {
        Self {
            id: chunk.id(),
            heights: chunk.grid().heights().to_vec(),
            surface: chunk.surface().iter().map(|&surface| surface as u8).collect(),
        }
    }

    fn chunk(self) -> Result<Chunk, BadSamples> {
        let grid = HeightGrid::new(self.heights.into()).ok_or(BadSamples)?;
        let surface = self.surface.into_iter().map(Surface::from_byte);
        let surface: Option<Box<[Surface]>> = surface.collect();
        Chunk::new(self.id, grid, surface.ok_or(BadSamples)?).map_err(|_| BadSamples)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("samples that are no chunk of ground")]
struct BadSamples;

impl ArchiveWith<Arc<Chunk>> for AsSamples {
    type Archived = Archived<Samples>;
    type Resolver = Resolver<Samples>;

    fn resolve_with(chunk: &Arc<Chunk>, resolver: Self::Resolver, out: Place<Self::Archived>) {
        Samples::of(chunk).resolve(resolver, out);
    }
}

impl<S: Fallible + ?Sized> SerializeWith<Arc<Chunk>, S> for AsSamples
where
    Samples: Serialize<S>,
{
    fn serialize_with(chunk: &Arc<Chunk>, serializer: &mut S) -> Result<Self::Resolver, S::Error> {
        Samples::of(chunk).serialize(serializer)
    }
}

impl<D: Fallible + ?Sized> DeserializeWith<Archived<Samples>, Arc<Chunk>, D> for AsSamples
where
    D::Error: Source,
    Archived<Samples>: Deserialize<Samples, D>,
{
    fn deserialize_with(
        archived: &Archived<Samples>,
        deserializer: &mut D,
    ) -> Result<Arc<Chunk>, D::Error> {
        archived.deserialize(deserializer)?.chunk().map(Arc::new).map_err(D::Error::new)
    }
}

#[cfg(test)]
mod tests {
    use protocol::motion::MotionRules;
    use protocol::rules::RuleBook;

    use super::*;
    use crate::region::{Bounds, Change};

    const OURS: RegionIndex = RegionIndex(2);

    fn split(regions: &Regions, region: u32) -> Regions {
        let bounds = Bounds { width_cm_min: 0, count_max: 64 };
        let change = Change::Split(RegionIndex(region));
        regions.redrawn(change, bounds).expect("it can be").regions
    }

    fn packed(regions: &Regions, region: RegionIndex) -> Packed {
        let rules = WorldRules {
            regions: regions.clone(),
            motion: MotionRules::default(),
            book: Arc::new(RuleBook::starter()),
            view_cm: 3_900,
            nearby_cm: 2_000,
            whisper_cm: 300,
        };
        let region = regions.region(region).expect("a region");
        Shard::new(region, rules, IdMint::new(1)).pack()
    }

    #[test]
    fn a_pack_goes_by_this_division_or_by_an_older_one_and_has_its_place_in_it() {
        let grid = Regions::new(3, 12_800);
        let ours = split(&grid, 0);
        let is_ours =
            |regions: &Regions, region| packed(regions, region).check_division(&ours).is_ok();
        assert!(is_ours(&ours, OURS) && is_ours(&ours, RegionIndex(9)));
        assert!(is_ours(&grid, OURS), "it is still to hear of the split");
        assert!(!is_ours(&grid, RegionIndex(0)), "it is no more");
        assert!(!is_ours(&split(&ours, 1), OURS), "no change came after ours");
        assert!(!is_ours(&split(&grid, 1), RegionIndex(9)), "it has its number, not its place");
        assert!(!is_ours(&Regions::new(3, 6_400), OURS), "another world");
        let refused = packed(&split(&ours, 1), OURS).check_division(&ours);
        assert_eq!(refused, Err(BadPack::Foreign { region: OURS, version: 2 }));
    }
}
