//! What one client is shown: which entities, under which handles, how often.
//!
//! The nearest [`TRACKED_MAX`] entities have handles. Who comes and goes is announced reliably;
//! a handle serves again only when the client has said that it read of its bearer's going, so a
//! late frame never moves a stranger.

use std::collections::{BTreeSet, VecDeque};
use std::mem::take;

use protocol::cache;
use protocol::delta::{FrameEncoder, FrameHead, FrameScratch};
use protocol::ids::EntityId;
use protocol::input::InputHead;
use protocol::limits::TRACKED_MAX;
use protocol::message::server::{Announce, Appear};
use protocol::state::EntityState;
use protocol::units::{Position, Tick, Yaw, expand};
use rkyv::with::AsVec;

use super::changes::Changes;
use super::entities::{Entities, Entity};
use super::interest::{Grid, Near, Slot};

/// One client of the gateway, for as long as its connection lasts.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct ClientKey(pub u64);

/// Handles in use or not yet confirmed free: all tracked ones exchanged at once.
const HANDLES_MAX: u16 = 2 * TRACKED_MAX as u16;

/// Ranks by which an entity already shown is preferred to a new one, so that two at the edge of
/// sight do not take turns.
const STAY_RANKS: usize = 12;

/// Ticks between two looks around: somebody who comes near is announced within 200 ms at 20 Hz.
pub const REFRESH_TICKS: u64 = 4;

/// Credit at which an entity is due; the nearest earn it in one tick.
const CREDIT_DUE: u16 = 12;

/// What an entity with so many nearer avatars earns each tick: 20, 10 and 5 times a second at 20 Hz.
///
/// Things lie still and cost nothing, so they slow nobody down.
const fn earned(avatars_nearer: usize) -> u8 {
    let due = CREDIT_DUE as u8;
    match avatars_nearer {
        0..16 => due,
        16..32 => due / 2,
        _ => due / 4,
    }
}

/// What decides each tick whether the client is told of an entity: small, because that is looked at
/// for all that all clients are shown.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Tracked {
    /// The tick at which nothing had to be told, while what is shown stays the same.
    quiet: Tick,
    slot: Slot,
    credit: u16,
    earned: u8,
    handle: u8,
}

/// What the client was told of an entity that it is shown.
#[derive(Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Known {
    id: EntityId,
    /// Version of what was announced about it.
    version: u32,
    /// The state that the announcement told.
    announced: EntityState,
}

/// What one client is shown, and what of it has arrived.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Viewer {
    /// Whose view it is.
    pub client: ClientKey,
    encoder: FrameEncoder,
    tracked: Vec<Tracked>,
    /// In the order of `tracked`.
    known: Vec<Known>,
    /// One bit for each handle whose bearer's newest state a frame told, not the announcement.
    framed: u128,
    /// When each tracked entity was last found in its slot.
    found: Tick,
    /// One bit for each handle that may be given.
    free: u128,
    retiring: VecDeque<(u64, u8)>,
    announced: u64,
    /// Handles that a lost shard announced, to be taken back with the next announcement.
    stale: Vec<u16>,
    #[rkyv(with = AsVec)]
    hidden: BTreeSet<EntityId>,
}

/// What one client was announced so far: what its next view must go on from when the shard that
/// announced it is lost.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Told {
    announced: u64,
    /// One bit for each handle that bears a name; there are [`HANDLES_MAX`].
    handles: u128,
    /// The same for each that ever bore one.
    used: u128,
}

impl Told {
    /// Takes note of an announcement.
    pub fn note(&mut self, announce: &Announce) {
        self.announced += 1;
        for &handle in &announce.vanish {
            self.handles &= !bit(handle);
        }
        for appear in &announce.appear {
            self.handles |= bit(appear.handle);
        }
        self.used |= self.handles;
    }
}

/// Takes the lowest handle out of `free`.
fn give(free: &mut u128) -> Option<u8> {
    let handle = u8::try_from(free.trailing_zeros()).ok().filter(|_| *free != 0)?;
    *free &= *free - 1;
    Some(handle)
}

const fn bit(handle: u16) -> u128 {
    1 << (handle % HANDLES_MAX)
}

/// One that is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ranked {
    /// How many are nearer.
    rank: usize,
    slot: Slot,
    /// How many of the nearer are avatars.
    avatars_nearer: usize,
}

/// Memory that viewers of one shard take turns with.
#[derive(Debug, Default)]
pub struct Scratch {
    near: Vec<Near>,
    ranked: Vec<Ranked>,
    /// By slot: one more than the index of its entry in `ranked`, zero for none.
    places: Vec<u16>,
    /// By slot: whether the viewer is shown it.
    shown: Vec<bool>,
    /// Who is due, the most overdue first: what is left of the highest credit, and the index.
    due: Vec<u32>,
    frame: FrameScratch,
    bytes: Vec<u8>,
}

impl Scratch {
    /// Lets the entries of `ranked` be found by their slots.
    fn mark(&mut self) {
        for (place, ranked) in (1..).zip(&self.ranked) {
            let slot = ranked.slot as usize;
            if self.places.len() <= slot {
                self.places.resize(slot + 1, 0);
            }
            self.places[slot] = place;
        }
    }

    /// Returns the entry of a slot, once.
    fn take(&mut self, slot: Slot) -> Option<Ranked> {
        let place = take(self.places.get_mut(slot as usize)?);
        self.ranked.get(usize::from(place).checked_sub(1)?).copied()
    }
}

impl Viewer {
    /// Returns the view of a client that was announced `told` so far.
    #[must_use]
    pub fn new(client: ClientKey, hz: u16, hidden: BTreeSet<EntityId>, told: Told) -> Self {
        let those = |bits: u128| (0..HANDLES_MAX).filter(move |&it| bits & bit(it) != 0);
        let gone = those(told.used & !told.handles);
        Self {
            client,
            encoder: FrameEncoder::new(hz),
            tracked: Vec::new(),
            known: Vec::new(),
            framed: 0,
            found: Tick(0),
            free: !told.used,
            // Nobody here knows how much of that the client has read.
            retiring: gone.map(|handle| (told.announced, handle as u8)).collect(),
            announced: told.announced,
            stale: those(told.handles).collect(),
            hidden,
        }
    }

    /// Asks for the memory that the next frame needs.
    pub fn prefetch(&self) {
        cache::prefetch(self.tracked.as_slice());
        self.encoder.prefetch();
    }

    /// Takes in what the client says has arrived.
    pub fn acknowledge(&mut self, head: &InputHead, lost: &[u16]) {
        if head.has_lost_everything {
            self.encoder.reset();
        }
        if head.has_lost_everything || !lost.is_empty() {
            self.tracked.iter_mut().for_each(|tracked| tracked.quiet = Tick(0));
        }
        if let Some(acks) = head.acks {
            self.encoder.acknowledge(acks);
        }
        for &handle in lost {
            self.encoder.forget(handle);
        }
        let confirmed = expand(head.announcements, self.announced).min(self.announced);
        while let Some(&(number, handle)) = self.retiring.front() {
            if number > confirmed {
                break;
            }
            self.free |= bit(handle.into());
            self.retiring.pop_front();
        }
    }

    /// Hides an entity from this viewer, or shows it again, from the next look around on.
    pub fn hide(&mut self, id: EntityId, hidden: bool) {
        if hidden {
            self.hidden.insert(id);
        } else {
            self.hidden.remove(&id);
        }
    }

    /// Returns whether an entity is hidden from this viewer.
    #[must_use]
    pub fn hides(&self, id: EntityId) -> bool {
        self.hidden.contains(&id)
    }

    /// Returns which entities are shown.
    pub fn shown(&self) -> impl Iterator<Item = EntityId> + '_ {
        self.known.iter().map(|known| known.id)
    }

    /// Finds each tracked entity again in another shard's table.
    ///
    /// What that shard does not know leaves view at the next look around.
    pub fn move_to(&mut self, entities: &Entities) {
        for (tracked, known) in self.tracked.iter_mut().zip(&self.known) {
            tracked.slot = entities.slot(known.id).unwrap_or(Slot::MAX);
            tracked.quiet = Tick(0);
        }
        self.found = Tick(0);
    }

    /// Finds those again that got another slot: who was forgotten and told of anew in one tick.
    fn find_again(&mut self, (entities, changes): (&Entities, &Changes)) {
        for (tracked, known) in self.tracked.iter_mut().zip(&self.known) {
            if let Some(entity) = entities.get(tracked.slot)
                && (changes.is_same_since(self.found, tracked.slot) || entity.id == known.id)
            {
                continue;
            }
            tracked.slot = entities.slot(known.id).unwrap_or(Slot::MAX);
            tracked.quiet = Tick(0);
        }
    }

    /// Looks around from `here`: decides who is shown, and returns what there is to announce.
    pub fn look_around(
        &mut self,
        (own, here, reach_cm): (EntityId, Position, i32),
        tick: Tick,
        grid: &Grid,
        (entities, changes): (&Entities, &Changes),
        scratch: &mut Scratch,
    ) -> Option<Announce> {
        self.find_again((entities, changes));
        self.rank((own, here, reach_cm), grid, (entities, changes), scratch);
        scratch.mark();
        let mut vanish = take(&mut self.stale);
        let mut kept = 0;
        for index in 0..self.tracked.len() {
            let tracked = &mut self.tracked[index];
            if let Some(ranked) = scratch.take(tracked.slot) {
                tracked.earned = earned(ranked.avatars_nearer);
                if kept < index {
                    self.tracked.swap(kept, index);
                    self.known.swap(kept, index);
                }
                kept += 1;
            } else {
                vanish.push(tracked.handle.into());
            }
        }
        self.tracked.truncate(kept);
        self.known.truncate(kept);
        let mut appear = self.told_anew((entities, changes));
        self.found = tick;
        for index in 0..scratch.ranked.len() {
            let Some(ranked) = scratch.take(scratch.ranked[index].slot) else { continue };
            let Some(entity) = entities.get(ranked.slot) else { continue };
            let Some(handle) = give(&mut self.free) else { continue };
            appear.push(self.track(handle, ranked, entity));
        }
        if vanish.is_empty() && appear.is_empty() {
            return None;
        }
        self.announced += 1;
        for &handle in &vanish {
            self.encoder.forget(handle);
            // There are no more than a byte tells.
            self.retiring.push_back((self.announced, handle as u8));
        }
        Some(Announce { since: tick, vanish, appear })
    }

    /// Fills `scratch.ranked` with those to show, ranked by nearness.
    fn rank(
        &self,
        (own, here, reach_cm): (EntityId, Position, i32),
        grid: &Grid,
        (entities, changes): (&Entities, &Changes),
        scratch: &mut Scratch,
    ) {
        let Scratch { near, ranked, shown, .. } = scratch;
        let looked_at = TRACKED_MAX + 1 + STAY_RANKS + self.hidden.len().min(TRACKED_MAX);
        grid.nearest((here.x, here.z), looked_at, reach_cm, near);
        ranked.clear();
        let mut avatars_nearer = 0;
        for slot in near.iter().map(|near| near.slot()) {
            let Some(entity) = entities.get(slot) else { continue };
            if entity.id == own || self.hides(entity.id) {
                continue;
            }
            ranked.push(Ranked { rank: ranked.len(), slot, avatars_nearer });
            avatars_nearer += usize::from(changes.is_avatar(slot));
        }
        if ranked.len() <= TRACKED_MAX {
            return;
        }
        shown.resize(entities.slots(), false);
        note_shown(shown, &self.tracked, true);
        thin(ranked, shown);
        note_shown(shown, &self.tracked, false);
    }

    fn told_anew(&mut self, (entities, changes): (&Entities, &Changes)) -> Vec<Appear> {
        let mut appear = Vec::new();
        for (tracked, known) in self.tracked.iter().zip(&mut self.known) {
            if changes.is_as_announced(self.found, tracked.slot) {
                continue;
            }
            let Some(entity) = entities.get(tracked.slot) else { continue };
            if entity.about.version != known.version {
                known.version = entity.about.version;
                appear.push(appearance(tracked.handle, entity));
            }
        }
        appear
    }

    fn track(&mut self, handle: u8, ranked: Ranked, entity: &Entity) -> Appear {
        self.tracked.push(Tracked {
            quiet: Tick(0),
            slot: ranked.slot,
            credit: CREDIT_DUE,
            earned: earned(ranked.avatars_nearer),
            handle,
        });
        self.known.push(Known {
            id: entity.id,
            version: entity.about.version,
            announced: EntityState { velocity: [0; 3], animation: 0, ..entity.state },
        });
        self.framed &= !bit(handle.into());
        appearance(handle, entity)
    }

    /// Returns the frame of this tick: the most overdue changes first, within the head's budget.
    pub fn frame<'a>(
        &mut self,
        head: &FrameHead,
        (entities, changes): (&Entities, &Changes),
        scratch: &'a mut Scratch,
    ) -> &'a [u8] {
        scratch.due.clear();
        for (tracked, index) in self.tracked.iter_mut().zip(0_u32..) {
            tracked.credit = tracked.credit.saturating_add(tracked.earned.into());
            if tracked.credit < CREDIT_DUE || changes.none_since(tracked.quiet, tracked.slot) {
                continue;
            }
            let Some(entity) = entities.get(tracked.slot) else { continue };
            let known = &self.known[index as usize];
            if !changes.is_same_since(self.found, tracked.slot) && entity.id != known.id {
                continue;
            }
            let is_told = if self.framed & bit(tracked.handle.into()) != 0 {
                !self.encoder.needs_send(tracked.handle.into(), &entity.state)
            } else {
                entity.state == known.announced
            };
            if is_told {
                tracked.quiet = head.tick;
            } else {
                scratch.due.push(u32::from(u16::MAX - tracked.credit) << 16 | index);
            }
        }
        let mut frame = self.encoder.begin(head, &mut scratch.frame);
        if !frame.holds(scratch.due.len()) {
            scratch.due.sort_unstable();
        }
        for &due in &scratch.due {
            let tracked = &mut self.tracked[(due & 0xFFFF) as usize];
            let Some(entity) = entities.get(tracked.slot) else { continue };
            if !frame.push(tracked.handle.into(), &entity.state) {
                break;
            }
            tracked.credit = 0;
            self.framed |= bit(tracked.handle.into());
        }
        scratch.bytes.clear();
        frame.finish(&mut scratch.bytes);
        &scratch.bytes
    }
}

/// Keeps [`TRACKED_MAX`] of `ranked`, which come by rank: the first, whoever is shown already before
/// others who are not much nearer.
fn thin(ranked: &mut Vec<Ranked>, shown: &[bool]) {
    let is_shown = |one: &Ranked| shown.get(one.slot as usize) == Some(&true);
    let ranks = |shown| {
        let those = ranked.iter().filter(move |one| is_shown(one) == shown);
        those.map(|one| one.rank).peekable()
    };
    let (mut staying, mut coming) = (ranks(true), ranks(false));
    for _ in 0..TRACKED_MAX {
        let stays = match (staying.peek(), coming.peek()) {
            (Some(&stays), Some(&comes)) => stays < comes + STAY_RANKS,
            (stays, _) => stays.is_some(),
        };
        if stays {
            staying.next()
        } else {
            coming.next()
        };
    }
    let end = |rank: Option<usize>| rank.unwrap_or(usize::MAX);
    let (staying, coming) = (end(staying.next()), end(coming.next()));
    ranked.retain(|one| one.rank < if is_shown(one) { staying } else { coming });
}

/// Notes by slot who is shown, or of the same that they are not.
fn note_shown(shown: &mut [bool], tracked: &[Tracked], is_shown: bool) {
    for tracked in tracked {
        if let Some(place) = shown.get_mut(tracked.slot as usize) {
            *place = is_shown;
        }
    }
}

fn appearance(handle: u8, entity: &Entity) -> Appear {
    Appear {
        handle: handle.into(),
        entity: entity.id,
        being: entity.about.being.clone(),
        position: entity.state.position,
        yaw: Yaw::from_coarse(entity.state.yaw),
        flags: entity.state.flags,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::ids::PersonId;
    use protocol::message::common::Appearance;
    use protocol::message::server::Being;

    use super::*;

    fn announce(vanish: &[u16], appear: &[u16]) -> Announce {
        let appearance = |&handle: &u16| Appear {
            handle,
            entity: EntityId(handle.into()),
            being: Being::Avatar {
                person: PersonId(1),
                name: String::new(),
                appearance: Appearance::default(),
            },
            position: Position::default(),
            yaw: Yaw::NORTH,
            flags: 0,
        };
        let appear = appear.iter().map(appearance).collect();
        Announce { since: Tick(1), vanish: vanish.to_vec(), appear }
    }

    #[test]
    fn a_view_that_goes_on_gives_away_no_handle_whose_bearer_the_client_may_still_see() {
        let mut told = Told::default();
        told.note(&announce(&[], &[0, 1]));
        told.note(&announce(&[0], &[2]));
        let mut viewer = Viewer::new(ClientKey(1), 20, BTreeSet::new(), told);
        assert_eq!((viewer.stale.as_slice(), viewer.free.trailing_zeros()), (&[1, 2][..], 3));
        let mut read = |announcements| {
            viewer.acknowledge(&InputHead { announcements, ..InputHead::default() }, &[]);
            viewer.free.trailing_zeros()
        };
        assert_eq!(read(1), 3, "it sees the first yet");
        assert_eq!(read(2), 0);
    }

    proptest! {
        #[test]
        fn those_who_are_shown_stay_before_others_hardly_nearer(
            shown in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let ranked = shown.iter().enumerate();
            let mut ranked: Vec<Ranked> = ranked
                .map(|(rank, _)| Ranked { rank, slot: rank as Slot, avatars_nearer: rank })
                .collect();
            let key = |one: &Ranked| one.rank + if shown[one.rank] { 0 } else { STAY_RANKS };
            let mut naive = ranked.clone();
            naive.sort_by_key(|one| (key(one), one.rank));
            naive.truncate(TRACKED_MAX);
            naive.sort_by_key(|one| one.rank);
            thin(&mut ranked, &shown);
            prop_assert_eq!(ranked, naive);
        }
    }
}
