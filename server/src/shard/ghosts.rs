//! What neighbouring shards show each other of the ground along their common border.
//!
//! A batch tells what changed since the last one, so standing things cross once. It arrives a
//! tick late; whoever moves is moved on by its velocity meanwhile, and nobody sees the border.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::ids::EntityId;
use protocol::state::EntityState;
use protocol::units::Tick;
use rkyv::with::AsVec;

use super::entities::{About, Entities, Entity, Owner};
use crate::region::{Region, RegionIndex};

/// Ticks for which a ghost that nobody tells of moves on by its velocity: a quarter second.
const CARRIED_TICKS_MAX: u64 = 5;

/// Ticks for which a neighbour is not told yet that somebody went to another shard: that shard
/// tells of them within three.
const HANDED_TICKS: u64 = 6;

/// What one shard tells a neighbour about one tick.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GhostBatch {
    /// Whose entities these are.
    pub from: RegionIndex,
    /// The tick they are shown at.
    pub tick: Tick,
    /// Entities that came into the band, or changed what they are.
    pub entered: Vec<(EntityId, EntityState, Arc<About>)>,
    /// Entities that look different from the last batch, or move.
    pub moved: Vec<(EntityId, EntityState)>,
    /// Entities that left the band or the world, or are the neighbour's now.
    pub left: Vec<EntityId>,
    /// Whether everything was told anew: who did not come in with it is not there.
    pub is_whole: bool,
    /// Who went to another shard lately, when everything is told anew: they go on being shown until
    /// that shard tells of them, or this one that they are gone.
    pub kept: Vec<EntityId>,
}

/// The border to one neighbour, from the side of who tells.
#[derive(Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Border {
    /// The neighbour's region.
    pub region: Region,
    band_cm: i32,
    #[rkyv(with = AsVec)]
    told: BTreeMap<EntityId, (EntityState, u32)>,
    /// Who went to another shard, and when the neighbour is told, unless they are back.
    #[rkyv(with = AsVec)]
    handed: BTreeMap<EntityId, Tick>,
    /// Who went to this very neighbour, and when: what it told before does not count for them.
    #[rkyv(with = AsVec)]
    sent: BTreeMap<EntityId, Tick>,
    /// Whether the neighbour has been told anything yet.
    has_begun: bool,
}

impl Border {
    /// Returns the border to `region`, whose shard is told of everything within `band_cm` of it.
    #[must_use]
    pub const fn new(region: Region, band_cm: i32) -> Self {
        Self {
            region,
            band_cm,
            told: BTreeMap::new(),
            handed: BTreeMap::new(),
            sent: BTreeMap::new(),
            has_begun: false,
        }
    }

    /// Takes over from the border to, or of, a region that is no more who was on the way at `tick`
    /// by the table of its shard: what else the neighbour was told it is told anew.
    pub fn take_over(&mut self, known: &Self, tick: Tick, entities: &Entities) {
        self.handed.extend(&known.handed);
        let is_theirs = |id| entities.by_id(id).is_some_and(|entity| entity.owner != Owner::Here);
        let leaving = known.told.keys().copied().filter(|&id| is_theirs(id));
        self.handed.extend(leaving.map(|id| (id, tick.after(HANDED_TICKS))));
        for (&id, &tick) in &known.sent {
            let sent = self.sent.entry(id).or_insert(tick);
            *sent = tick.max(*sent);
        }
    }

    /// Makes sure that the neighbour is told that an entity is gone, whoever told of it.
    pub fn owe(&mut self, id: EntityId) {
        self.told.entry(id).or_default();
    }

    /// Takes note that an entity is the neighbour's from `tick` on.
    pub fn send(&mut self, id: EntityId, tick: Tick) {
        self.sent.insert(id, tick);
    }

    /// Forgets what was told: the neighbour's shard starts anew and knows nothing.
    pub fn forget(&mut self) {
        self.told.clear();
        self.handed.clear();
        self.has_begun = false;
    }

    /// Returns what the neighbour must know of this tick, nothing if all is as it was.
    pub fn tell(
        &mut self,
        (from, tick): (RegionIndex, Tick),
        entities: &Entities,
    ) -> Option<GhostBatch> {
        let is_whole = !std::mem::replace(&mut self.has_begun, true);
        let (entered, moved, left) = (Vec::new(), Vec::new(), Vec::new());
        let kept = Vec::new();
        let mut batch = GhostBatch { from, tick, entered, moved, left, is_whole, kept };
        let mut told = BTreeMap::new();
        for (_, entity) in entities.iter() {
            let is_near = self.region.distance_cm(entity.state.position) <= self.band_cm;
            if entity.owner != Owner::Here || !is_near {
                continue;
            }
            let now = (entity.state, entity.about.version);
            match self.told.remove(&entity.id) {
                Some((state, version)) if version == now.1 => {
                    if state != entity.state || state.velocity != [0; 3] {
                        batch.moved.push((entity.id, entity.state));
                    }
                }
                _ => batch.entered.push((entity.id, entity.state, Arc::clone(&entity.about))),
            }
            told.insert(entity.id, now);
            self.handed.remove(&entity.id);
        }
        for (id, _) in std::mem::replace(&mut self.told, told) {
            // Whoever was handed over is told of by another shard soon; until then the neighbour
            // goes on showing what it knows, and nobody sees a gap.
            let is_handed = entities.by_id(id).is_some_and(|entity| entity.owner != Owner::Here);
            if is_handed {
                self.handed.insert(id, tick.after(HANDED_TICKS));
            } else {
                batch.left.push(id);
            }
        }
        batch.left.extend(self.handed.extract_if(.., |_, due| *due <= tick).map(|(id, _)| id));
        if is_whole {
            batch.kept.extend(self.handed.keys());
        }
        let is_empty = batch.entered.is_empty() && batch.moved.is_empty() && batch.left.is_empty();
        (is_whole || !is_empty).then_some(batch)
    }

    /// Takes in what the neighbour tells, seen at `tick`.
    pub fn hear(&mut self, batch: GhostBatch, tick: Tick, hz: u16, entities: &mut Entities) {
        let late = u32::try_from(tick.since(batch.tick)).unwrap_or(0).min(8);
        let owner = Owner::Neighbour(batch.from);
        let now =
            |state: EntityState| EntityState { position: state.extrapolate(late, hz), ..state };
        // Who went there after this was told is not gone from there, however it looks: whoever
        // comes and goes within a few ticks would vanish otherwise.
        self.sent.retain(|_, sent| batch.tick <= *sent);
        let is_on_the_way = |id| self.sent.contains_key(&id);
        if batch.is_whole {
            // A shard that begins anew shows only what it knows.
            let is_named = |id| batch.entered.iter().any(|(entered, ..)| *entered == id);
            let is_kept = |id| is_named(id) || batch.kept.contains(&id) || is_on_the_way(id);
            entities.remove_all_of(owner, |id| !is_kept(id));
        }
        for id in batch.left.into_iter().filter(|&id| !is_on_the_way(id)) {
            if entities.by_id(id).is_some_and(|entity| entity.owner == owner) {
                entities.remove(id);
            }
        }
        for (id, state, about) in batch.entered {
            if entities.by_id(id).is_none_or(|entity| entity.owner != Owner::Here) {
                entities.put(Entity { id, owner, state: now(state), about, told_at: tick });
            }
        }
        for (id, state) in batch.moved {
            let Some(slot) = entities.slot(id) else { continue };
            if let Some(entity) = entities.get_mut(slot).filter(|entity| entity.owner == owner) {
                entity.state = now(state);
                entity.told_at = tick;
            }
        }
    }
}

impl Entities {
    /// Moves ghosts on by one tick: before neighbours are heard, so that one that none of them
    /// mentions (a traveller on its way) keeps walking, for a moment.
    pub(super) fn carry_ghosts_on(&mut self, tick: Tick, hz: u16) {
        self.for_each_mut(|entity| {
            let is_carried = entity.owner != Owner::Here
                && entity.state.velocity != [0; 3]
                && tick.since(entity.told_at) <= CARRIED_TICKS_MAX;
            if is_carried {
                entity.state.position = entity.state.extrapolate(1, hz);
            }
        });
    }
}
