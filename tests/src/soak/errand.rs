//! What one client of `errands` does: it stands on a border and acts on what lies at both sides.
//!
//! It fetches two slates at the well in the middle, goes to its post on the border of the middle
//! region, lays one down at each side, and reads them in turn: an act on something across the
//! border takes the actor over. Now and then it lifts a slate and lays it down again, which the
//! server must keep. It sends nothing and reads no clock.

use std::cell::Cell;
use std::rc::Rc;

use protocol::ids::EntityId;
use protocol::input::{Input, RUN};
use protocol::rules::{Act, Args, KindId, RuleBook, Thing, Verb};
use protocol::units::{Position, Yaw};

use super::crowd::Order;
use super::ledger::Deed;
use super::scenario::BORDER_CM;

/// The rules of the world in which errands are run.
pub const RULES: &str = include_str!("errand.toml");

/// How near the well one must be to take slates, in centimetres: within reach, and outside of it.
const AT_WELL_CM: u32 = 200;

/// How near its post somebody is there, in centimetres.
const AT_POST_CM: u32 = 100;

/// Farther than this from where one goes one runs, in centimetres.
const RUN_CM: u32 = 1_200;

/// How far from the border slates lie, in centimetres.
const ASIDE_CM: i32 = 60;

/// How far posts stay away from the corners of the region, in centimetres.
const CORNER_CM: i32 = 1_500;

/// How much farther along a slate is laid down where there was no room, in centimetres.
const SHIFT_CM: i32 = 20;

/// One act in so many lifts a slate.
const LIFTED: u64 = 16;

/// Microseconds after which an answer that did not come is not waited for any more: ten seconds.
const PATIENCE_US: u64 = 10_000_000;

/// The well, once anybody has seen it: in a crowd not everyone is told of it.
pub type Well = Rc<Cell<Option<EntityId>>>;

/// A place on the border of the middle region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Post {
    /// Where one stands, at the height 0.
    pub at: Position,
    /// Whether the border runs from north to south there.
    pub is_upright: bool,
}

impl Post {
    /// Returns the post of a client among so many: all around the region, the same way apart.
    #[must_use]
    pub fn of(client: usize, clients: u32) -> Self {
        let each_side = clients.div_ceil(4).max(1);
        let (side, index) = (client % 4, u32::try_from(client / 4).unwrap_or(0));
        let length = 2 * (BORDER_CM - CORNER_CM);
        let step = i64::from(length) * i64::from(2 * index + 1) / i64::from(2 * each_side);
        let along = i32::try_from(step).unwrap_or(0) - length / 2;
        let border = if side < 2 { BORDER_CM } else { -BORDER_CM };
        let is_upright = side.is_multiple_of(2);
        let (x, z) = if is_upright { (border, along) } else { (along, border) };
        Self { at: Position::new(x, 0, z), is_upright }
    }

    /// Returns where a slate lies: inside the region or outside of it, and so far along the border.
    #[must_use]
    pub fn spot(self, side: usize, along_cm: i32) -> Position {
        let Position { x, y, z } = self.at;
        let out = if side == 0 { -ASIDE_CM } else { ASIDE_CM };
        if self.is_upright {
            Position::new(x + out * x.signum(), y, z + along_cm)
        } else {
            Position::new(x + along_cm, y, z + out * z.signum())
        }
    }

    /// Returns how far along the border somebody is from here, in centimetres.
    const fn along(self, here: Position) -> i32 {
        if self.is_upright { here.z - self.at.z } else { here.x - self.at.x }
    }
}

/// What is done with a slate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Taking one from the well.
    Fetch,
    /// Laying it down at this side.
    Lay(usize),
    /// Reading that of this side.
    Read(usize),
    /// Lifting that of this side.
    Lift(usize),
}

/// What one client is at.
#[derive(Clone, Debug)]
pub struct Errand {
    post: Post,
    period_us: u64,
    due_us: u64,
    kinds: [KindId; 2],
    well: Well,
    held: Vec<EntityId>,
    /// The slates of the two sides, once it has both.
    slates: Option<[EntityId; 2]>,
    lies: [bool; 2],
    shift_cm: i32,
    asked: Option<(u32, Step, u64)>,
    acts: u64,
    side: Option<usize>,
    is_turned: bool,
}

impl Errand {
    /// Returns what a client of a crowd does.
    ///
    /// # Panics
    /// Never: the rules name what it uses.
    #[must_use]
    pub fn new(client: usize, order: &Order, well: &Well) -> Self {
        let book = RuleBook::parse(RULES).expect("a test reads it");
        let kind = |name| book.kind_named(name).expect("a test looks for it").id;
        let period_us = (1e6 / order.acts_per_s.max(0.001)) as u64;
        Self {
            post: Post::of(client, order.clients),
            period_us,
            // Not everyone in the same tick.
            due_us: period_us * (client as u64 % 64) / 64,
            kinds: ["well", "slate"].map(kind),
            well: Rc::clone(well),
            held: Vec::new(),
            slates: None,
            lies: [false; 2],
            shift_cm: 0,
            asked: None,
            acts: 0,
            side: None,
            is_turned: false,
        }
    }

    /// Returns whether both slates lie where they belong.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lies == [true; 2]
    }

    /// Returns what to press at `here`: towards the well or the post, and to and fro there.
    pub fn input(&mut self, here: Position) -> Input {
        let goal = if self.slates.is_none() {
            if here.is_within(Position::new(0, here.y, 0), AT_WELL_CM) {
                return Input::default();
            }
            Position::new(0, here.y, 0)
        } else if !here.is_within(self.post.at, AT_POST_CM) {
            self.post.at
        } else {
            let along = self.post.along(here);
            let most = i32::try_from(AT_POST_CM).unwrap_or(i32::MAX) - 20;
            self.is_turned = if self.is_turned { -most < along } else { most < along };
            let step = if self.is_turned { -200 } else { 200 };
            let Position { x, y, z } = self.post.at;
            if self.post.is_upright {
                Position::new(x, y, here.z + step)
            } else {
                Position::new(here.x + step, y, z)
            }
        };
        let runs = !here.is_within(goal, RUN_CM);
        let yaw = Yaw::towards(goal.x.saturating_sub(here.x), goal.z.saturating_sub(here.z));
        Input { forward: 127, right: 0, yaw, buttons: if runs { RUN } else { 0 } }
    }

    /// Notes a thing that came into view.
    pub fn saw(&mut self, thing: EntityId, kind: KindId) {
        if kind == self.kinds[0] {
            self.well.set(Some(thing));
        }
    }

    /// Notes all that the client holds.
    pub fn holds(&mut self, things: &[Thing]) {
        let slates = things.iter().filter(|thing| thing.kind == self.kinds[1]);
        self.held = slates.map(|thing| thing.id).collect();
        if let (None, &[first, second, ..]) = (self.slates, self.held.as_slice()) {
            self.slates = Some([first, second]);
        }
    }

    /// Returns what the client does now at `here`, if anything, and the act to ask for.
    pub fn act(&mut self, here: Position, now_us: u64) -> Option<(Step, Act)> {
        if self.asked.is_some_and(|(.., at_us)| now_us.saturating_sub(at_us) < PATIENCE_US) {
            return None;
        }
        let Some(slates) = self.slates else {
            let well =
                self.well.get().filter(|_| here.is_within(Position::default(), AT_WELL_CM))?;
            return Some((Step::Fetch, Act::on(Verb::Gather, well)));
        };
        if let Some(side) = (0..2).find(|&side| self.held.contains(&slates[side])) {
            if !here.is_within(self.post.at, AT_POST_CM) {
                return None;
            }
            let at = self.post.spot(side, self.shift_cm);
            let spot = Args::Spot { count: 1, at: Position { y: here.y, ..at }, yaw: Yaw::NORTH };
            return Some((Step::Lay(side), Act::on(Verb::Drop, slates[side]).with(spot)));
        }
        if !self.is_ready() || now_us < self.due_us {
            return None;
        }
        self.due_us = (self.due_us + self.period_us).max(now_us.saturating_sub(self.period_us));
        self.acts += 1;
        let side = self.side.map_or(0, |side| 1 - side);
        let (step, verb) = if self.acts.is_multiple_of(LIFTED) {
            (Step::Lift(side), Verb::Take)
        } else {
            (Step::Read(side), Verb::Read)
        };
        Some((step, Act::on(verb, slates[side])))
    }

    /// Notes the number under which a step was asked for; returns what the server must keep of it.
    pub fn asked(&mut self, step: Step, request: u32, now_us: u64) -> Option<Deed> {
        self.asked = Some((request, step, now_us));
        match step {
            Step::Fetch | Step::Lift(_) => Some(Deed::Take(self.kinds[1])),
            Step::Lay(_) => Some(Deed::Give(self.kinds[1], None)),
            Step::Read(_) => None,
        }
    }

    /// Notes an answer; returns whether it shows that the client was taken over a border.
    pub fn answered(&mut self, request: u32, is_done: bool) -> bool {
        let Some((_, step, _)) = self.asked.take_if(|(asked, ..)| *asked == request) else {
            return false;
        };
        match (step, is_done) {
            (Step::Lay(side), true) => self.lies[side] = true,
            (Step::Lay(_), false) => self.shift_cm = -self.shift_cm + SHIFT_CM,
            (Step::Read(side) | Step::Lift(side), true) => {
                if step == Step::Lift(side) {
                    self.lies[side] = false;
                }
                return self.side.replace(side).is_some_and(|before| before != side);
            }
            (Step::Fetch, _) | (Step::Read(_) | Step::Lift(_), false) => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: EntityId = EntityId(1);

    /// The first of four clients, each of which acts ten times a second.
    fn errand() -> Errand {
        let order = Order {
            address: std::net::SocketAddr::from(([127, 0, 0, 1], 1)),
            server_key: None,
            clients: 4,
            scenario: crate::soak::scenario::Scenario::Errands,
            ramp_per_s: 1.0,
            seed: 1,
            hz: 20,
            acts_per_s: 10.0,
            is_killed: false,
            is_watched: true,
        };
        Errand::new(0, &order, &Well::default())
    }

    fn slate(id: u64, errand: &Errand) -> Thing {
        let holder = protocol::rules::Holder::Held(EntityId(9));
        Thing::new(EntityId(id), errand.kinds[1], 1, holder)
    }

    #[test]
    fn posts_lie_on_the_border_apart_and_slates_at_its_sides() {
        let posts: Vec<Post> = (0..40).map(|client| Post::of(client, 40)).collect();
        for (index, post) in posts.iter().enumerate() {
            let Position { x, z, .. } = post.at;
            assert_eq!(x.abs().max(z.abs()), BORDER_CM, "{post:?}");
            assert!(posts[..index].iter().all(|other| !other.at.is_within(post.at, 1_000)));
            for (side, is_out) in [(0, false), (1, true)] {
                let Position { x, z, .. } = post.spot(side, 0);
                assert_eq!(BORDER_CM < x.abs().max(z.abs()), is_out, "{post:?}");
            }
        }
    }

    #[test]
    fn an_errand_fetches_lays_down_and_crosses_with_each_act() {
        let mut errand = errand();
        let (middle, post) = (Position::default(), errand.post.at);
        errand.saw(WELL, errand.kinds[0]);
        let mut now_us = 1_000_000;
        let mut ask = |errand: &mut Errand, here, is_done| {
            now_us += 100_000;
            let act = errand.act(here, now_us);
            let has_crossed = act.as_ref().is_some_and(|(step, _)| {
                errand.asked(*step, 7, now_us);
                errand.answered(7, is_done)
            });
            (act.map(|(_, act)| act.verb), has_crossed)
        };
        assert_eq!(ask(&mut errand, middle, true), (Some(Verb::Gather), false));
        errand.holds(&[slate(5, &errand), slate(6, &errand)]);
        assert_eq!(ask(&mut errand, middle, true), (None, false), "its post is far off");
        assert_eq!(ask(&mut errand, post, true), (Some(Verb::Drop), false));
        errand.holds(&[slate(6, &errand)]);
        assert_eq!(ask(&mut errand, post, false), (Some(Verb::Drop), false));
        assert_eq!((errand.is_ready(), errand.shift_cm), (false, SHIFT_CM));
        assert_eq!(ask(&mut errand, post, true), (Some(Verb::Drop), false));
        errand.holds(&[]);
        assert!(errand.is_ready());
        assert_eq!(
            ask(&mut errand, post, true),
            (Some(Verb::Read), false),
            "from where is unknown"
        );
        assert_eq!(ask(&mut errand, post, false), (Some(Verb::Read), false));
        let acts: Vec<_> = (2..LIFTED).map(|_| ask(&mut errand, post, true)).collect();
        assert_eq!(acts[..acts.len() - 1], vec![(Some(Verb::Read), true); acts.len() - 1]);
        assert_eq!(acts.last(), Some(&(Some(Verb::Take), true)));
        assert!(!errand.is_ready(), "it holds one");
    }

    #[test]
    fn one_act_waits_for_the_other() {
        let mut errand = errand();
        errand.saw(WELL, errand.kinds[0]);
        let (step, _) = errand.act(Position::default(), 0).expect("an act");
        errand.asked(step, 1, 0);
        assert!(errand.act(Position::default(), PATIENCE_US - 1).is_none());
        assert!(!errand.answered(2, true), "that is another request");
        assert!(errand.act(Position::default(), PATIENCE_US - 1).is_none());
        assert!(errand.act(Position::default(), PATIENCE_US).is_some());
    }

    #[test]
    fn at_its_post_it_walks_to_and_fro() {
        let mut errand = errand();
        errand.holds(&[slate(5, &errand), slate(6, &errand)]);
        let mut here = errand.post.at;
        let mut turns = 0;
        for _ in 0..200 {
            let before = errand.is_turned;
            let input = errand.input(here);
            turns += u32::from(before != errand.is_turned);
            let (east, south) = input.yaw.direction();
            here.x += east * 10 / 32_767;
            here.z += south * 10 / 32_767;
            assert!(here.is_within(errand.post.at, AT_POST_CM + 20), "{here:?}");
        }
        assert!((5..20).contains(&turns), "{turns}");
    }
}
