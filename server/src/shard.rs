//! One region of the world, as plain data and plain functions.
//!
//! [`Shard::step`] is the only way a shard changes. It reads no clock, draws no random number and
//! performs no I/O, so the same batches give the same bytes. Its phases:
//!
//! 1. commands and inputs, 2. movement, 3. dynamic things, 4. rules, 5. interest, 6. frames,
//!    7. hand-off and journal.

pub mod avatar;
pub mod batch;
pub mod changes;
pub mod divide;
mod dynamics;
pub mod entities;
mod events;
mod frame;
pub mod ghosts;
mod handoff;
pub mod input;
pub mod interest;
pub mod pack;
mod verbs;
pub mod viewer;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::ground::{Pillar, Pillars};
use protocol::ids::{EntityId, IdMint};
use protocol::motion::MotionRules;
use protocol::rules::{Act, OfferId, RuleBook, Things};
use protocol::units::Tick;
use worldgen::ground::GroundMap;

use self::avatar::Avatar;
use self::batch::{Command, Counts, StepInput, StepOutput};
use self::changes::Changes;
use self::entities::Entities;
use self::ghosts::Border;
use self::interest::Grid;
use self::viewer::Scratch;
use crate::region::{Region, RegionIndex, Regions};

/// Centimetres that an avatar may stand outside its shard's region before it is handed over.
///
/// More than the longest reach, so that whoever was handed over to act on something across the
/// border is not handed back at once.
pub const MARGIN_CM: i32 = 1_200;

/// What every shard of a world has in common.
#[derive(Clone, Debug)]
pub struct WorldRules {
    /// How the world is divided.
    pub regions: Regions,
    /// How bodies move.
    pub motion: MotionRules,
    /// Kinds, recipes and verbs.
    pub book: Arc<RuleBook>,
    /// How far one sees, in centimetres.
    pub view_cm: i32,
    /// How far speech carries, in centimetres.
    pub nearby_cm: u32,
    /// How far a whisper carries, in centimetres.
    pub whisper_cm: u32,
}

/// The state of one region.
#[derive(Debug)]
pub struct Shard {
    region: Region,
    rules: WorldRules,
    tick: Tick,
    ground: Ground,
    avatars: BTreeMap<EntityId, Avatar>,
    things: Things,
    /// What each solid thing blocks, those of neighbours near the border among them.
    pillars_of: BTreeMap<EntityId, Pillar>,
    /// Between whom each open offer stands.
    parties: BTreeMap<OfferId, (EntityId, EntityId)>,
    /// Where offers went whose maker was handed over.
    offers_gone: BTreeMap<OfferId, RegionIndex>,
    /// What was put down across a border in this step.
    put_outside: Vec<EntityId>,
    /// Who goes to which neighbour at the end of this step, to do what there.
    errands: BTreeMap<EntityId, Errand>,
    entities: Entities,
    borders: Vec<Border>,
    changes: Changes,
    grid: Grid,
    scratch: Scratch,
    mint: IdMint,
}

/// An act on something across a border, which takes its actor over first.
#[derive(Clone, Debug)]
struct Errand {
    to: RegionIndex,
    request: u32,
    act: Act,
}

/// What bodies stand on and run into.
#[derive(Debug, Default)]
struct Ground {
    heights: GroundMap,
    pillars: Pillars,
}

impl protocol::ground::Ground for Ground {
    fn height(&self, x: i64, z: i64) -> Option<i64> {
        self.heights.height(x, z)
    }

    fn pillars(&self, x_cm: i32, z_cm: i32, _reach_cm: i32) -> &[Pillar] {
        self.pillars.near(x_cm, z_cm)
    }
}

impl Shard {
    /// Returns an empty shard of `region`, whose ids come from `mint`.
    #[must_use]
    pub fn new(region: Region, rules: WorldRules, mint: IdMint) -> Self {
        let band_cm = rules.band_cm();
        let neighbours = rules.neighbours(region).into_iter();
        let borders = neighbours.map(|it| Border::new(it, band_cm)).collect();
        Self {
            region,
            rules,
            tick: Tick::default(),
            ground: Ground::default(),
            avatars: BTreeMap::new(),
            things: Things::default(),
            pillars_of: BTreeMap::new(),
            parties: BTreeMap::new(),
            offers_gone: BTreeMap::new(),
            put_outside: Vec::new(),
            errands: BTreeMap::new(),
            entities: Entities::default(),
            borders,
            changes: Changes::default(),
            grid: Grid::default(),
            scratch: Scratch::default(),
            mint,
        }
    }

    /// Returns this shard as one that begins in a world at `tick`.
    #[must_use]
    pub fn at(self, tick: Tick) -> Self {
        Self { tick, ..self }
    }

    /// Returns which region it is of.
    #[must_use]
    pub const fn region(&self) -> RegionIndex {
        self.region.index
    }

    /// Returns the tick it is at.
    #[must_use]
    pub const fn tick(&self) -> Tick {
        self.tick
    }

    /// Advances the shard to `input.tick`; what comes of it is added to `output`.
    ///
    /// Commands apply in the order given, before inputs.
    pub fn step(&mut self, input: StepInput, output: &mut StepOutput) {
        let StepInput { tick, epoch, pace_permille, frame_bytes_max, is_survey, inputs, commands } =
            input;
        self.tick = tick;
        output.epoch = epoch;
        // 1. Commands and inputs. Ghosts walk on first: a batch that comes puts them right.
        self.entities.carry_ghosts_on(tick, self.rules.motion.hz);
        for command in commands {
            self.apply(command, output);
        }
        for (avatar, datagram) in &inputs {
            self.take_in(*avatar, datagram);
        }
        // 2. Movement and collision.
        output.counts = Counts::default();
        self.move_avatars(&mut output.counts);
        self.want_ground(output);
        // 3. Dynamic things.
        self.refresh_things();
        self.forget_far_ground();
        // 4. Rules: what takes time and is done now.
        self.finish_acts(output);
        // 5. Interest, 6. frames.
        self.show_ghosts(output);
        self.rebuild_grid();
        self.serve_viewers(&inputs, (pace_permille, frame_bytes_max), output);
        // 7. Hand-off; the journal stands in `output` already.
        self.hand_things_over(output);
        self.hand_over(output);
        output.is_survey = is_survey;
        if is_survey {
            output.whereabouts.extend(self.whereabouts());
        }
        self.count(&mut output.counts);
    }

    fn apply(&mut self, command: Command, output: &mut StepOutput) {
        // What somebody with an errand asks for after that happens over there, after it.
        let is_elsewhere = |avatar: EntityId| {
            !self.avatars.contains_key(&avatar) || self.errands.contains_key(&avatar)
        };
        if command.avatar().is_some_and(is_elsewhere) {
            output.strays.push(command);
            return;
        }
        match command {
            Command::Enter(traveller) => self.arrive(*traveller, output),
            Command::Leave { avatar } => self.leave(avatar, output),
            Command::Attach { avatar, client, hidden, told } => {
                self.attach(avatar, (client, told), hidden, output);
            }
            Command::Detach { avatar, stops } => self.detach(avatar, stops, output),
            Command::Do { avatar, request, act } => self.begin_act(avatar, request, act, output),
            Command::Cancel { avatar, request } => self.cancel(avatar, request, output),
            Command::Say { avatar, speaker, request, whisper, utterance } => {
                self.say((avatar, speaker), request, whisper, utterance, output);
            }
            Command::Wear { avatar, appearance } => self.wear(avatar, appearance, output),
            Command::Hide { avatar, other, hidden } => {
                if let Some(viewer) = self.viewer_mut(avatar) {
                    viewer.hide(other, hidden);
                }
            }
            Command::Place { avatar, position } => self.place(avatar, position),
            Command::Ground(chunk) => self.lay_ground(chunk),
            Command::Things(things) => things.into_iter().for_each(|thing| self.put_thing(thing)),
            Command::Ghosts(batch) => self.hear_ghosts(batch),
            Command::TellAnew(region) => self.tell_anew(region),
            Command::Redivide(change) => self.redivide(&change),
            Command::Ripple(ripple) => self.perceive(&ripple, output),
            Command::EndOffer { avatar, ended } => self.tell(avatar, ended.into(), None, output),
        }
    }

    fn count(&self, counts: &mut Counts) {
        counts.avatars = self.avatars.len();
        counts.things = self.things.len();
        counts.ghosts = self.entities.len() - self.entities.owned();
        counts.clients = self.avatars.values().filter(|avatar| avatar.viewer.is_some()).count();
    }

    fn viewer_mut(&mut self, avatar: EntityId) -> Option<&mut viewer::Viewer> {
        self.avatars.get_mut(&avatar)?.viewer.as_deref_mut()
    }
}
