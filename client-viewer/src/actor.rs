//! Carries out a script, line by line: walks, waits for answers, and judges what was expected.
//!
//! [`Actor::poll`] looks at the world and returns what to do; sending it is the caller's. It reads
//! no clock.

use std::collections::{BTreeMap, VecDeque};

use protocol::ids::{ContentHash, EntityId, PersonId};
use protocol::input::{Input, JUMP};
use protocol::message::asset::AssetAudience;
use protocol::message::common::Audience;
use protocol::message::server::{Being, Heard};
use protocol::replica::{Replica, Terrain};
use protocol::rules::{Act, Event, Phase, RuleBook, Verb};
use protocol::session::Answer;
use protocol::units::{Position, Yaw};
use protocol::utterance::Utterance;

use crate::script::{Command, Destination, Expectation, Facing, Line, Listener, Readers};
use crate::steer::steer;
use crate::words::{Plan, Sight};

/// Lines that may wait, from standard input.
pub const LINES_MAX: usize = 10_000;

/// Utterances and events kept for `expect`.
const WITNESSED_MAX: usize = 256;

/// How near to a point is there, in cm.
const THERE_CM: u32 = 25;

/// How near one stays to whom one follows, in cm.
const FOLLOW_CM: u32 = 200;

/// How near one goes for an act, as a part of its reach.
const REACH_PERCENT: u32 = 70;

/// How long a walk may come no nearer before it is given up.
const STUCK_US: u64 = 6_000_000;

/// How long a follower of somebody out of view waits for them.
const PATIENCE_US: u64 = 20_000_000;

/// How long one stands before an act: until the server, too, has seen the last step. Moving
/// interrupts what takes time.
const SETTLE_US: u64 = 300_000;

/// How long an answer is waited for: the longest act takes ten minutes at the server.
const ANSWER_US_MAX: u64 = 600_000_000;

/// What the actor sees.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The picture of the world.
    pub replica: &'a Replica,
    /// The ground and what stands on it.
    pub terrain: &'a Terrain,
    /// What things are.
    pub book: &'a RuleBook,
    /// The time.
    pub now_us: u64,
}

impl<'a> Scene<'a> {
    fn sight(self) -> Sight<'a> {
        Sight { replica: self.replica, book: self.book }
    }

    fn here(self) -> Position {
        self.replica.body().position()
    }
}

/// What the actor wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// Steer like this from now on.
    Steer(Input),
    /// Ask for this, and report the answer with [`Actor::answered`].
    Act(Act),
    /// Say this, and report the answer.
    Say(Audience, Utterance),
    /// Lend one's avatar to this person for so many seconds, and report the answer.
    Lend(PersonId, u64),
    /// End what was lent to this person, and report the answer.
    Recall(PersonId),
    /// Enter a channel.
    Join(String),
    /// Share a file for so many seconds, and report the answer; 0: as long as the server likes.
    Share(String, AssetAudience, u32),
    /// Fetch content into a file, and report the answer.
    Fetch(ContentHash, String),
    /// Take back what one shares, and report the answer.
    Unshare(ContentHash),
    /// Write who and what is in view.
    Look,
    /// Leave the world.
    Leave,
    /// Line `number` begins.
    Began {
        /// Its number.
        number: usize,
    },
    /// Line `number` is done.
    Finished {
        /// Its number.
        number: usize,
    },
    /// Line `number` could not be carried out, or what it expects did not come.
    Failed {
        /// Its number.
        number: usize,
        /// Why, for people.
        why: String,
    },
}

/// What a line that is being carried out waits for.
#[derive(Clone, Debug)]
enum Task {
    Walk { to: Position, run: bool, progress: Progress },
    Approach { plan: Plan, target: EntityId, progress: Progress },
    Settle { act: Act, since_us: u64 },
    Follow { name: String, until_us: Option<u64>, seen_us: u64 },
    Wait { until_us: u64 },
    Answer { since_us: u64 },
    Expect { what: Expectation, until_us: u64 },
}

/// How near a walk has come, and when.
#[derive(Clone, Copy, Debug)]
struct Progress {
    nearest: u64,
    at_us: u64,
}

impl Progress {
    const fn new(now_us: u64) -> Self {
        Self { nearest: u64::MAX, at_us: now_us }
    }

    /// Notes a distance; returns whether it has not become less for too long.
    fn is_stuck(&mut self, distance: u64, now_us: u64) -> bool {
        // A centimetre nearer is no progress: a body trembles when it pushes against something.
        if distance < self.nearest.saturating_sub(self.nearest / 50) {
            *self = Self { nearest: distance, at_us: now_us };
        }
        STUCK_US < now_us.saturating_sub(self.at_us)
    }
}

/// Carries out lines one after another.
#[derive(Debug, Default)]
pub struct Actor {
    lines: VecDeque<Line>,
    current: Option<(usize, Task)>,
    heading: Yaw,
    answer: Option<Answer>,
    heard: VecDeque<(String, String)>,
    events: VecDeque<Event>,
    /// To whom this script lent, by the names it used: who borrows is seldom in view later.
    lent: BTreeMap<String, PersonId>,
}

impl Actor {
    /// Returns an actor with these lines to carry out.
    #[must_use]
    pub fn new(lines: Vec<Line>) -> Self {
        Self { lines: lines.into(), ..Self::default() }
    }

    /// Adds a line; returns whether there was room.
    pub fn push(&mut self, line: Line) -> bool {
        let has_room = self.lines.len() < LINES_MAX;
        if has_room {
            self.lines.push_back(line);
        }
        has_room
    }

    /// Returns whether nothing is left to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.current.is_none()
    }

    /// Notes the answer to the last act or utterance.
    pub fn answered(&mut self, answer: Answer) {
        self.answer = Some(answer);
    }

    /// Notes what somebody said.
    pub fn hear(&mut self, heard: &Heard) {
        keep(&mut self.heard, (heard.name.clone(), heard.utterance.text()));
    }

    /// Notes what happened.
    pub fn witness(&mut self, event: &Event) {
        keep(&mut self.events, event.clone());
    }

    /// Goes on with the script; what there is to do is appended to `deeds`.
    pub fn poll(&mut self, scene: Scene<'_>, deeds: &mut Vec<Deed>) {
        if self.current.is_none() {
            let Some(line) = self.lines.pop_front() else { return };
            deeds.push(Deed::Began { number: line.number });
            let number = line.number;
            match self.begin(line.command, scene, deeds) {
                Ok(Some(task)) => self.current = Some((number, task)),
                Ok(None) => deeds.push(Deed::Finished { number }),
                Err(why) => deeds.push(Deed::Failed { number, why }),
            }
        }
        let Some((number, task)) = self.current.take() else { return };
        match self.go_on(task, scene, deeds) {
            Ok(Some(task)) => self.current = Some((number, task)),
            Ok(None) => deeds.push(Deed::Finished { number }),
            Err(why) => {
                deeds.push(Deed::Steer(self.standing()));
                deeds.push(Deed::Failed { number, why });
            }
        }
    }

    /// Begins a line: what to wait for, or nothing if it is done at once.
    fn begin(
        &mut self,
        command: Command,
        scene: Scene<'_>,
        deeds: &mut Vec<Deed>,
    ) -> Result<Option<Task>, String> {
        let (sight, now_us) = (scene.sight(), scene.now_us);
        match command {
            Command::Go { to, run } => {
                let to = destination(to, scene.here());
                Ok(Some(Task::Walk { to, run, progress: Progress::new(now_us) }))
            }
            Command::Follow { name, for_ms } => {
                sight.person(&name)?;
                let until_us = for_ms.map(|ms| now_us + u64::from(ms) * 1_000);
                Ok(Some(Task::Follow { name, until_us, seen_us: now_us }))
            }
            Command::Face(facing) => {
                self.heading = match facing {
                    Facing::Heading(yaw) => yaw,
                    Facing::Name(name) => {
                        let there = sight.person(&name)?.newest().1.position;
                        towards(scene.here(), there)
                    }
                };
                deeds.push(Deed::Steer(self.standing()));
                Ok(None)
            }
            Command::Jump => {
                deeds.push(Deed::Steer(Input { buttons: JUMP, ..self.standing() }));
                Ok(Some(Task::Wait { until_us: now_us + 150_000 }))
            }
            Command::Stop => {
                deeds.push(Deed::Steer(self.standing()));
                Ok(None)
            }
            Command::Wait { ms } => {
                Ok(Some(Task::Wait { until_us: now_us + u64::from(ms) * 1_000 }))
            }
            Command::Speak { to, text } => self.speak(to, text, scene, deeds),
            Command::Act { verb, thing, count } => {
                Ok(Some(self.carry_out(sight.plan(verb, &thing, count)?, scene, deeds)))
            }
            Command::Give { name, thing, count } => {
                Ok(Some(self.carry_out(sight.give(&name, &thing, count)?, scene, deeds)))
            }
            Command::Greet { name } => Ok(Some(self.carry_out(sight.greet(&name)?, scene, deeds))),
            Command::Emote { gesture } => {
                Ok(Some(self.carry_out(sight.emote(&gesture)?, scene, deeds)))
            }
            Command::Offer { name, give, want } => {
                Ok(Some(self.carry_out(sight.offer(&name, &give, &want)?, scene, deeds)))
            }
            Command::Accept { name } => {
                Ok(Some(self.carry_out(sight.accept(name.as_deref())?, scene, deeds)))
            }
            Command::Decline { name } => {
                Ok(Some(self.carry_out(sight.decline(name.as_deref())?, scene, deeds)))
            }
            Command::Lend { to, for_s } => {
                let person = sight.person_id(&to)?;
                self.lent.insert(to.to_lowercase(), person);
                Ok(Some(self.request(Deed::Lend(person, for_s), now_us, deeds)))
            }
            Command::Recall { from } => {
                let known = self.lent.get(&from.to_lowercase()).copied();
                let person = known.map_or_else(|| sight.person_id(&from), Ok)?;
                Ok(Some(self.request(Deed::Recall(person), now_us, deeds)))
            }
            // To take it back from oneself changes nothing, and the answer says who has it.
            Command::Lendings => {
                let deed = Deed::Recall(scene.replica.person());
                Ok(Some(self.request(deed, now_us, deeds)))
            }
            Command::Share { file, with, for_ms } => {
                let keep_s = for_ms.map_or(0, |ms| ms.div_ceil(1_000).max(1));
                let deed = Deed::Share(file, readers(with, sight)?, keep_s);
                Ok(Some(self.transfer(deed, now_us, deeds)))
            }
            Command::Fetch { hash, file } => {
                Ok(Some(self.transfer(Deed::Fetch(hash, file), now_us, deeds)))
            }
            Command::Unshare { hash } => {
                Ok(Some(self.transfer(Deed::Unshare(hash), now_us, deeds)))
            }
            Command::Expect { what, within_ms } => {
                Ok(Some(Task::Expect { what, until_us: now_us + u64::from(within_ms) * 1_000 }))
            }
            Command::Look => {
                deeds.push(Deed::Look);
                Ok(None)
            }
            Command::Leave => {
                self.lines.clear();
                deeds.push(Deed::Leave);
                Ok(None)
            }
        }
    }

    /// Goes on with a task: what is left of it, or nothing if it is done.
    fn go_on(
        &mut self,
        task: Task,
        scene: Scene<'_>,
        deeds: &mut Vec<Deed>,
    ) -> Result<Option<Task>, String> {
        let now_us = scene.now_us;
        match task {
            Task::Walk { to, run, mut progress } => {
                if !self.walk(to, THERE_CM, run, &mut progress, scene, deeds)? {
                    return Ok(Some(Task::Walk { to, run, progress }));
                }
                Ok(None)
            }
            Task::Approach { plan, target, mut progress } => {
                let Some(entity) = scene.replica.entity(target) else {
                    return Err("it is no longer in view".to_owned());
                };
                let reach = plan.act.verb.row().reach_cm * REACH_PERCENT / 100;
                let to = entity.newest().1.position;
                if !self.walk(to, reach, false, &mut progress, scene, deeds)? {
                    return Ok(Some(Task::Approach { plan, target, progress }));
                }
                Ok(Some(Task::Settle { act: plan.act, since_us: now_us }))
            }
            Task::Settle { act, since_us } => {
                let is_still = scene.replica.body().velocity == [0; 3];
                if is_still && SETTLE_US <= now_us.saturating_sub(since_us) {
                    return Ok(Some(self.ask(act, now_us, deeds)));
                }
                // The wait begins anew with every step.
                let since_us = if is_still { since_us } else { now_us };
                Ok(Some(Task::Settle { act, since_us }))
            }
            Task::Follow { name, until_us, seen_us } => {
                self.follow(name, until_us, seen_us, scene, deeds)
            }
            Task::Wait { until_us } if until_us <= now_us => {
                deeds.push(Deed::Steer(self.standing()));
                Ok(None)
            }
            Task::Answer { since_us } if ANSWER_US_MAX < now_us.saturating_sub(since_us) => {
                Err("no answer in ten minutes".to_owned())
            }
            Task::Answer { .. } if self.answer.is_some() => Ok(None),
            Task::Expect { what, until_us } => match self.judge(&what, scene) {
                Ok(()) => Ok(None),
                Err(why) if until_us <= now_us => Err(why),
                Err(_) => Ok(Some(Task::Expect { what, until_us })),
            },
            task @ (Task::Wait { .. } | Task::Answer { .. }) => Ok(Some(task)),
        }
    }

    fn speak(
        &mut self,
        to: Listener,
        text: String,
        scene: Scene<'_>,
        deeds: &mut Vec<Deed>,
    ) -> Result<Option<Task>, String> {
        let utterance = Utterance::plain(text);
        utterance.check().map_err(|error| error.to_string())?;
        let audience = match to {
            Listener::Nearby => Audience::Nearby,
            Listener::Whisper => Audience::Whisper,
            Listener::Channel(name) => {
                deeds.push(Deed::Join(name.clone()));
                Audience::Channel(name)
            }
            Listener::Name(name) => match &scene.sight().person(&name)?.being {
                Being::Avatar { person, .. } => Audience::Person(*person),
                Being::Thing { .. } => return Err(format!("{name} does not listen")),
            },
        };
        Ok(Some(self.request(Deed::Say(audience, utterance), scene.now_us, deeds)))
    }

    /// Asks for something, and waits for the answer.
    fn request(&mut self, deed: Deed, now_us: u64, deeds: &mut Vec<Deed>) -> Task {
        self.answer = None;
        deeds.push(deed);
        Task::Answer { since_us: now_us }
    }

    fn transfer(&mut self, deed: Deed, now_us: u64, deeds: &mut Vec<Deed>) -> Task {
        self.answer = None;
        deeds.push(deed);
        Task::Answer { since_us: now_us }
    }

    fn carry_out(&mut self, plan: Plan, scene: Scene<'_>, deeds: &mut Vec<Deed>) -> Task {
        let progress = Progress::new(scene.now_us);
        match plan.near {
            Some(target) => Task::Approach { plan, target, progress },
            None => {
                deeds.push(Deed::Steer(self.standing()));
                Task::Settle { act: plan.act, since_us: scene.now_us }
            }
        }
    }

    fn ask(&mut self, act: Act, now_us: u64, deeds: &mut Vec<Deed>) -> Task {
        // Who walks on is interrupted by it.
        deeds.push(Deed::Steer(self.standing()));
        self.request(Deed::Act(act), now_us, deeds)
    }

    /// Walks on; returns whether one is there.
    fn walk(
        &mut self,
        to: Position,
        near_cm: u32,
        run: bool,
        progress: &mut Progress,
        scene: Scene<'_>,
        deeds: &mut Vec<Deed>,
    ) -> Result<bool, String> {
        let here = scene.here();
        if here.is_within(to, near_cm) {
            deeds.push(Deed::Steer(self.standing()));
            return Ok(true);
        }
        if progress.is_stuck(here.ground_distance_squared(to), scene.now_us) {
            let cm = progress.nearest.isqrt();
            return Err(format!("something is in the way; came no nearer than {cm} cm"));
        }
        let input = steer(here, to, run, scene.terrain.solids());
        self.heading = input.yaw;
        deeds.push(Deed::Steer(input));
        Ok(false)
    }

    fn follow(
        &mut self,
        name: String,
        until_us: Option<u64>,
        mut seen_us: u64,
        scene: Scene<'_>,
        deeds: &mut Vec<Deed>,
    ) -> Result<Option<Task>, String> {
        let now_us = scene.now_us;
        let is_over = until_us.is_some_and(|until_us| until_us <= now_us);
        let mut input = self.standing();
        let mut is_there = false;
        match scene.replica.named(&name) {
            Some(leader) => {
                seen_us = now_us;
                let there = leader.newest().1.position;
                is_there = scene.here().is_within(there, FOLLOW_CM);
                let is_far = !scene.here().is_within(there, 3 * FOLLOW_CM);
                if !is_there && !is_over {
                    input = steer(scene.here(), there, is_far, scene.terrain.solids());
                    self.heading = input.yaw;
                }
            }
            None if PATIENCE_US < now_us.saturating_sub(seen_us) => {
                return Err(format!("lost sight of {name}"));
            }
            None => {}
        }
        deeds.push(Deed::Steer(input));
        let is_done = is_over || until_us.is_none() && is_there;
        Ok((!is_done).then_some(Task::Follow { name, until_us, seen_us }))
    }

    /// Whether what is expected is so; why not, for people.
    fn judge(&mut self, what: &Expectation, scene: Scene<'_>) -> Result<(), String> {
        let sight = scene.sight();
        let so = |is_so: bool, why: String| if is_so { Ok(()) } else { Err(why) };
        match what {
            Expectation::Heard { text, from } => self.judge_heard(text, from.as_deref()),
            Expectation::Holding { thing, count } => {
                let held = sight.held_count(thing);
                so(*count <= held, format!("holding {held} {thing}, expected {count}"))
            }
            Expectation::Done => match &self.answer {
                Some(Answer::Done { .. }) => Ok(()),
                Some(Answer::Refused(why)) => Err(format!("it was refused: {why}")),
                Some(Answer::Unknown) => Err("the connection was lost before the answer".into()),
                None => Err("nothing was asked for".to_owned()),
            },
            Expectation::Refused => {
                let is_refused = matches!(self.answer, Some(Answer::Refused(_)));
                so(is_refused, "it was not refused".to_owned())
            }
            Expectation::Sees { name } => {
                so(sight.anything(name).is_some(), format!("no {name} in view"))
            }
            Expectation::NearPoint { x, z, cm } => {
                let here = scene.here();
                let there = Position { x: *x, z: *z, ..here };
                let off = here.ground_distance_squared(there).isqrt();
                so(here.is_within(there, *cm), format!("{off} cm away, expected {cm} at most"))
            }
            Expectation::NearName { name, cm } => {
                let there = sight.person(name)?.newest().1.position;
                let off = scene.here().ground_distance_squared(there).isqrt();
                let why = format!("{off} cm away from {name}, expected {cm} at most");
                so(scene.here().is_within(there, *cm), why)
            }
            Expectation::Offer { from } => sight.accept(from.as_deref()).map(drop),
            Expectation::Event { verb, by } => self.judge_event(verb, by.as_deref(), scene),
        }
    }

    fn judge_heard(&mut self, text: &str, from: Option<&str>) -> Result<(), String> {
        let is_it = |(name, said): &(String, String)| {
            said.to_lowercase().contains(&text.to_lowercase())
                && from.is_none_or(|from| from.to_lowercase() == name.to_lowercase())
        };
        let Some(index) = self.heard.iter().position(is_it) else {
            let last =
                self.heard.back().map(|(name, said)| format!("; last heard: {name}: {said}"));
            return Err(format!("nobody said \"{text}\"{}", last.unwrap_or_default()));
        };
        // What was heard before it is the past for the lines that follow.
        self.heard.drain(..=index);
        Ok(())
    }

    fn judge_event(
        &mut self,
        verb: &str,
        by: Option<&str>,
        scene: Scene<'_>,
    ) -> Result<(), String> {
        let Some(wanted) = Verb::named(verb) else {
            return Err(format!("there is no verb `{verb}`"));
        };
        let by = by.map(|name| scene.sight().person(name)).transpose()?.map(|person| person.id);
        let is_it = |event: &Event| {
            event.verb == wanted
                && event.phase == Phase::Done
                && by.is_none_or(|by| by == event.actor)
        };
        let Some(index) = self.events.iter().position(is_it) else {
            return Err(format!("no {verb} was seen"));
        };
        self.events.drain(..=index);
        Ok(())
    }

    fn standing(&self) -> Input {
        Input { yaw: self.heading, ..Input::default() }
    }
}

fn keep<T>(items: &mut VecDeque<T>, item: T) {
    while WITNESSED_MAX <= items.len() {
        items.pop_front();
    }
    items.push_back(item);
}

fn destination(to: Destination, here: Position) -> Position {
    match to {
        Destination::Point { x, z } => Position { x, z, ..here },
        Destination::Way { heading, cm } => {
            let (east, south) = heading.direction();
            let along = |direction: i32| {
                let cm = i64::from(direction) * i64::from(cm) / 32_767;
                i32::try_from(cm).unwrap_or(0)
            };
            let (x, z) = (here.x.saturating_add(along(east)), here.z.saturating_add(along(south)));
            Position { x, z, ..here }
        }
    }
}

/// Returns who is meant: people in view by their names, anybody by their id.
fn readers(with: Readers, sight: Sight<'_>) -> Result<AssetAudience, String> {
    match with {
        Readers::Everyone => Ok(AssetAudience::Everyone),
        Readers::Me => Ok(AssetAudience::Owner),
        Readers::Names(names) => {
            let persons = names.iter().map(|name| sight.person_id(name));
            persons.collect::<Result<_, _>>().map(AssetAudience::Persons)
        }
    }
}

fn towards(here: Position, there: Position) -> Yaw {
    Yaw::towards(there.x.saturating_sub(here.x), there.z.saturating_sub(here.z))
}

#[cfg(test)]
mod tests;
