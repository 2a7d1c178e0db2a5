//! What a crowd does: where each client walks, what it says and asks for, when it goes and comes.
//!
//! Everything follows from the seed and the client's number; it reads no clock and sends nothing.

use std::fmt;
use std::str::FromStr;

use protocol::input::{Input, RUN};
use protocol::units::{Position, Yaw};

use crate::dice::Dice;

/// Ground per client in `spread`, in square metres: a lively village.
const SPREAD_M2: u32 = 100;

/// Half the width of the place that holds everyone in `plaza`, in centimetres.
const PLAZA_CM: i32 = 2_000;

/// How far off the goal counts as reached, in centimetres.
const REACHED_CM: u32 = 150;

/// Farther than this from the goal one runs, in centimetres.
const RUN_CM: u32 = 1_200;

/// Ticks between two looks at whether one gets on: 2 s at 20 Hz.
const STUCK_TICKS: u32 = 40;

/// Who moved less than this in that time is stuck, in centimetres.
const STUCK_CM: u32 = 60;

/// Ticks one rests at most on arrival.
const REST_TICKS: u64 = 40;

/// Distance of a region's edge from the middle in `commute` and `errands`, in centimetres: the narrowest shard.
pub const BORDER_CM: i32 = 12_800;

/// What the crowd does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Everyone walks about a village, one client per 100 square metres.
    Spread,
    /// Everyone walks about one square of 40 m.
    Plaza,
    /// Everyone walks to and fro over a border between two shards.
    Commute,
    /// Everyone stands on a border between shards and acts on what lies at both sides.
    Errands,
    /// Everyone's connection breaks at once, every 20 s.
    Storm,
    /// Every second one client in 60 goes: half of them break off and resume, half leave.
    Churn,
    /// Everyone talks, once in five seconds.
    Chat,
    /// Everyone takes what lies about and gives it to whoever is near.
    Trade,
    /// Everyone shares pictures and fetches what others share, walking about a village.
    Asset,
}

/// A name that is no scenario's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no scenario is called `{0}`; there are spread, plaza, commute, errands, storm, churn, chat, \
     trade, asset"
)]
pub struct NoScenario(String);

impl Scenario {
    /// Every scenario with its name.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Spread, "spread"),
        (Self::Plaza, "plaza"),
        (Self::Commute, "commute"),
        (Self::Errands, "errands"),
        (Self::Storm, "storm"),
        (Self::Churn, "churn"),
        (Self::Chat, "chat"),
        (Self::Trade, "trade"),
        (Self::Asset, "asset"),
    ];

    /// Returns half the width of the ground that `clients` walk on, in centimetres.
    #[must_use]
    pub fn half_width_cm(self, clients: u32) -> i32 {
        match self {
            Self::Plaza | Self::Trade => PLAZA_CM,
            Self::Spread
            | Self::Commute
            | Self::Errands
            | Self::Storm
            | Self::Churn
            | Self::Chat
            | Self::Asset => {
                let width_m = clients.saturating_mul(SPREAD_M2).isqrt();
                i32::try_from(width_m * 50).unwrap_or(i32::MAX).max(PLAZA_CM)
            }
        }
    }

    /// Returns the rules that a world of this scenario needs, if not those of the starter.
    #[must_use]
    pub const fn rules(self) -> Option<&'static str> {
        if matches!(self, Self::Errands) { Some(super::errand::RULES) } else { None }
    }

    /// Returns whether clients do what the server must keep.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Errands | Self::Trade)
    }

    /// Returns the settings that a server of this scenario needs beside those for its size.
    #[must_use]
    pub const fn settings(self) -> &'static [&'static str] {
        if matches!(self, Self::Commute | Self::Errands) {
            &["world.shard_width_m=256"]
        } else {
            &[]
        }
    }
}

impl FromStr for Scenario {
    type Err = NoScenario;

    fn from_str(text: &str) -> Result<Self, NoScenario> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|&(scenario, _)| scenario).ok_or_else(|| NoScenario(text.to_owned()))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::ALL.iter().find(|(scenario, _)| scenario == self);
        f.write_str(found.map_or("unknown", |(_, name)| name))
    }
}

/// Steers one client.
#[derive(Clone, Debug)]
pub struct Walker {
    scenario: Scenario,
    dice: Dice,
    half_width_cm: i32,
    home: Position,
    goal: Option<Position>,
    rest: u64,
    looked: u32,
    looked_at: Position,
}

impl Walker {
    /// Returns the walker of a client among `clients` whose world begins at `home`.
    #[must_use]
    pub fn new(scenario: Scenario, clients: u32, home: Position, dice: Dice) -> Self {
        Self {
            scenario,
            dice,
            half_width_cm: scenario.half_width_cm(clients),
            home,
            goal: None,
            rest: 0,
            looked: 0,
            looked_at: home,
        }
    }

    /// Returns what to press this tick at `here`.
    pub fn input(&mut self, here: Position) -> Input {
        if self.rest > 0 {
            self.rest -= 1;
            return Input { yaw: self.heading(here), ..Input::default() };
        }
        let is_stuck = self.is_stuck(here);
        let goal = match self.goal {
            Some(goal) if !here.is_within(goal, REACHED_CM) && !is_stuck => goal,
            Some(_) => {
                self.rest = self.dice.below(REST_TICKS);
                self.next_goal(here)
            }
            None => self.next_goal(here),
        };
        self.goal = Some(goal);
        let runs = !here.is_within(goal, RUN_CM);
        let buttons = if runs { RUN } else { 0 };
        Input { forward: 127, right: 0, yaw: self.heading(here), buttons }
    }

    fn heading(&self, here: Position) -> Yaw {
        let goal = self.goal.unwrap_or(self.home);
        Yaw::towards(goal.x.saturating_sub(here.x), goal.z.saturating_sub(here.z))
    }

    fn is_stuck(&mut self, here: Position) -> bool {
        self.looked += 1;
        if self.looked < STUCK_TICKS {
            return false;
        }
        self.looked = 0;
        let is_stuck = here.is_within(self.looked_at, STUCK_CM);
        self.looked_at = here;
        is_stuck
    }

    fn next_goal(&mut self, here: Position) -> Position {
        let reach = self.half_width_cm;
        let z = self.home.z.saturating_add(self.dice.within(reach));
        let x = match self.scenario {
            Scenario::Commute => {
                let off = 600 + i32::try_from(self.dice.below(1_200)).unwrap_or(0);
                if here.x < BORDER_CM { BORDER_CM + off } else { BORDER_CM - off }
            }
            Scenario::Spread
            | Scenario::Plaza
            | Scenario::Errands
            | Scenario::Storm
            | Scenario::Churn
            | Scenario::Chat
            | Scenario::Trade
            | Scenario::Asset => self.home.x.saturating_add(self.dice.within(reach)),
        };
        Position::new(x, here.y, z)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for (scenario, name) in Scenario::ALL {
            assert_eq!(name.parse(), Ok(scenario));
            assert_eq!(scenario.to_string(), name);
        }
        let bad = "party".parse::<Scenario>().expect_err("no such scenario");
        assert!(bad.to_string().contains("plaza"));
    }

    #[test]
    fn the_same_seed_walks_the_same_way() {
        let walk = |seed| {
            let mut walker =
                Walker::new(Scenario::Spread, 500, Position::default(), Dice::of_client(seed, 3));
            (0..200).map(|at| walker.input(Position::new(at * 20, 0, 0)).yaw.0).collect::<Vec<_>>()
        };
        assert_eq!(walk(1), walk(1));
        assert_ne!(walk(1), walk(2));
    }

    #[test]
    fn a_village_grows_with_its_people_and_a_plaza_does_not() {
        assert_eq!(Scenario::Plaza.half_width_cm(5_000), PLAZA_CM);
        assert_eq!(Scenario::Spread.half_width_cm(400), 10_000);
        assert_eq!(Scenario::Spread.half_width_cm(1), PLAZA_CM);
    }

    #[test]
    fn one_who_cannot_get_on_looks_for_another_goal() {
        let mut walker =
            Walker::new(Scenario::Spread, 500, Position::default(), Dice::of_client(7, 0));
        let first = walker.input(Position::default()).yaw;
        let others = (0..300).map(|_| walker.input(Position::default()).yaw);
        assert!(others.into_iter().any(|yaw| yaw != first));
    }

    #[test]
    fn commuters_cross_the_border() {
        let mut walker =
            Walker::new(Scenario::Commute, 10, Position::default(), Dice::of_client(7, 0));
        walker.input(Position::default());
        assert!(walker.goal.is_some_and(|goal| goal.x > BORDER_CM));
        walker.input(walker.goal.expect("a goal"));
        assert!(walker.goal.is_some_and(|goal| goal.x < BORDER_CM));
    }
}
