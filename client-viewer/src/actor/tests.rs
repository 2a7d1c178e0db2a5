//! The actor against a world of one step function: lines in, deeds and places out.

use protocol::delta::{FRAME_BYTES_MAX, FrameEncoder, FrameHead, FrameScratch, OwnBody};
use protocol::ids::{ContentHash, PersonId, SessionId, WorldId};
use protocol::message::ServerMessage;
use protocol::message::common::Appearance;
use protocol::message::server::{Announce, Appear, Welcome, WorldName};
use protocol::motion::{Body, MotionRules, step};
use protocol::replica::Detail;
use protocol::rules::Why;
use protocol::units::Tick;

use super::*;
use crate::script::parse;

const TICK_US: u64 = 50_000;

/// A server that does what the actor wants, and a replica that sees it at once.
struct Stage {
    actor: Actor,
    replica: Replica,
    terrain: Terrain,
    book: RuleBook,
    encoder: FrameEncoder,
    scratch: FrameScratch,
    body: Body,
    rules: MotionRules,
    input: Input,
    tick: u64,
    /// What became of the lines, the acts and the words.
    log: Vec<String>,
    answer: Answer,
}

impl Stage {
    fn new(script: &str) -> Self {
        let book = RuleBook::starter();
        let rules = MotionRules { sea_level_cm: -9_999, ..MotionRules::default() };
        let mut replica = Replica::new(&welcome(&rules), Detail::Full);
        let mut terrain = Terrain::flat(0);
        let announce = cast(&book);
        terrain.announce(&announce, &book);
        replica.hear(&ServerMessage::Announce(announce));
        Self {
            actor: Actor::new(parse(script).expect("a good script")),
            replica,
            terrain,
            book,
            encoder: FrameEncoder::new(20),
            scratch: FrameScratch::default(),
            body: Body::standing(Position::default(), Yaw::NORTH),
            rules,
            input: Input::default(),
            tick: 1_000,
            log: Vec::new(),
            answer: Answer::Done { tick: Tick(1), text: None },
        }
    }

    /// Plays until nothing is left to do.
    fn play(mut self) -> Self {
        let mut deeds = Vec::new();
        for _ in 0..4_000 {
            self.advance();
            let (actor, now_us) = (&mut self.actor, self.tick * TICK_US);
            let (replica, terrain, book) = (&self.replica, &self.terrain, &self.book);
            actor.poll(Scene { replica, terrain, book, now_us }, &mut deeds);
            deeds.drain(..).for_each(|deed| self.perform(deed));
            if self.actor.is_idle() {
                return self;
            }
        }
        panic!("never came to an end: {:?}", self.log);
    }

    fn advance(&mut self) {
        self.tick += 1;
        self.body = step(&self.body, self.input, &self.terrain, &self.rules);
        let Body { at, velocity, mode, .. } = self.body;
        let own = OwnBody { at, velocity, mode: mode as u8, cooldown: 0 };
        let head = FrameHead {
            tick: Tick(self.tick),
            acked_input: 0,
            own,
            is_dilated: false,
            budget_bytes: FRAME_BYTES_MAX,
        };
        let mut frame = Vec::new();
        self.encoder.begin(&head, &mut self.scratch).finish(&mut frame);
        let now_us = self.tick * TICK_US;
        self.replica.frame(&frame, now_us, &mut self.terrain).expect("a frame");
    }

    fn perform(&mut self, deed: Deed) {
        match deed {
            Deed::Steer(input) => self.input = input,
            Deed::Act(act) => {
                self.log.push(format!("{:?} {:?}", act.verb, act.target));
                self.actor.answered(self.answer.clone());
            }
            Deed::Say(to, utterance) => {
                self.log.push(format!("{to:?} {}", utterance.text()));
                self.actor.answered(self.answer.clone());
            }
            Deed::Lend(to, for_s) => {
                self.log.push(format!("lend {to} {for_s}"));
                self.actor.answered(self.answer.clone());
            }
            Deed::Recall(from) => {
                self.log.push(format!("recall {from}"));
                self.actor.answered(self.answer.clone());
            }
            Deed::Failed { number, why } => self.log.push(format!("{number} failed: {why}")),
            Deed::Join(channel) => self.log.push(format!("join {channel}")),
            Deed::Share(file, audience, keep_s) => {
                self.log.push(format!("share {file} {audience:?} {keep_s}"));
                self.actor.answered(self.answer.clone());
            }
            Deed::Fetch(hash, file) => {
                self.log.push(format!("fetch {hash} {file}"));
                self.actor.answered(self.answer.clone());
            }
            Deed::Unshare(hash) => {
                self.log.push(format!("unshare {hash}"));
                self.actor.answered(self.answer.clone());
            }
            Deed::Look => self.log.push("look".into()),
            Deed::Leave => self.log.push("leave".into()),
            Deed::Began { .. } | Deed::Finished { .. } => {}
        }
    }
}

fn welcome(rules: &MotionRules) -> Welcome {
    Welcome {
        session: SessionId(1),
        resumed: false,
        person: PersonId(2),
        avatar: EntityId(3),
        role: "visitor".into(),
        world: WorldName { id: WorldId(5), name: "meadow".into(), rating: "everyone".into() },
        rules: ContentHash([0; 32]),
        features: 0,
        tick: Tick(1_000),
        hz: 20,
        pace_permille: 1_000,
        motion: rules.clone(),
        position: Position::default(),
        yaw: Yaw::NORTH,
        appearance: Appearance::default(),
        ticket: Vec::new(),
        capabilities: Vec::new(),
    }
}

/// Ada 5 m north, an apple tree 8 m east and a notice board 3 m south.
fn cast(book: &RuleBook) -> Announce {
    let thing = |name: &str| Being::Thing {
        kind: book.kind_named(name).expect("a kind of the starter book").id,
        count: 1,
        text: None,
    };
    let ada = Being::Avatar {
        person: PersonId(9),
        name: "Ada".into(),
        appearance: Appearance::default(),
    };
    let appear = |handle: u16, being, x, z| Appear {
        handle,
        entity: EntityId(100 + u64::from(handle)),
        being,
        position: Position::new(x, 0, z),
        yaw: Yaw::NORTH,
        flags: 0,
    };
    let all = vec![
        appear(1, ada, 0, -500),
        appear(2, thing("apple tree"), 800, 0),
        appear(3, thing("notice board"), 0, 300),
    ];
    Announce { since: Tick(1_000), vanish: Vec::new(), appear: all }
}

fn check(script: &str, expected: &[&str]) -> Stage {
    let stage = Stage::new(script).play();
    assert_eq!(stage.log, expected, "{script}");
    stage
}

#[test]
fn a_walk_ends_where_it_should() {
    let stage = check("walk to -3 -4\nexpect near -3 -4 0.5m", &[]);
    assert!(stage.body.position().is_within(Position::new(-300, 0, -400), 40));
    let stage = check("run west 20m\nwait 1s", &[]);
    assert!(stage.body.position().is_within(Position::new(-2_000, 0, 0), 40));
    // Through the tree's place, around the tree.
    let stage = check("walk to 16 0", &[]);
    assert!(stage.body.position().is_within(Position::new(1_600, 0, 0), 40));
}

#[test]
fn a_walk_into_a_thing_is_given_up() {
    let log = Stage::new("walk to 8 0").play().log;
    assert!(
        log[0].starts_with("1 failed: something is in the way; came no nearer than "),
        "{log:?}"
    );
}

#[test]
fn an_act_is_walked_up_to_first() {
    let stage = check("gather tree\nexpect done", &["Gather Some(e-66)"]);
    let tree = Position::new(800, 0, 0);
    assert!(stage.body.position().is_within(tree, 250));
    check("read board\ngreet ada", &["Read Some(e-67)", "Greet Some(e-65)"]);
}

#[test]
fn what_is_not_there_fails_with_what_is() {
    check("take 2 gold", &["1 failed: no gold in view; in view are: apple tree, notice board"]);
    check("greet Bob", &["1 failed: nobody called `Bob` is in view; in view are: Ada"]);
    check("give Ada 2 wood", &["1 failed: not holding 2 wood; holding: nothing"]);
    check("accept", &["1 failed: no offer stands"]);
    let gestures = Stage::new("emote fly").play().log.remove(0);
    assert!(gestures.contains("no gesture `fly`; there are: wave, bow"), "{gestures}");
}

#[test]
fn words_go_to_whom_they_are_meant_for() {
    check("say \"hello\"", &["Nearby hello"]);
    check("whisper \"psst\"", &["Whisper psst"]);
    check("tell ada \"hi\"", &["Person(p-9) hi"]);
    check("channel trade \"wood?\"", &["join trade", "Channel(\"trade\") wood?"]);
}

#[test]
fn an_avatar_is_lent_by_name_or_id_and_taken_back() {
    check("lend to Ada for 10m\nexpect done\nrecall ADA", &["lend p-9 600", "recall p-9"]);
    // Whom one cannot see is known by id, and from then on by what one called them.
    check("lend to p-1f for 2s\nrecall p-1f", &["lend p-1f 2", "recall p-1f"]);
    check("lendings", &["recall p-2"]);
    let failed = "1 failed: nobody called `Bob` is in view; in view are: Ada";
    check("lend to Bob for 1h", &[failed]);
    check("recall Bob", &[failed]);
}

#[test]
fn expectations_are_judged_by_what_came() {
    check("expect sees Ada\nexpect sees board\nexpect near Ada 6m", &[]);
    check("expect sees Bob within 200ms", &["1 failed: no Bob in view"]);
    check("expect holding 2 wood within 0s", &["1 failed: holding 0 wood, expected 2"]);
    check("expect done within 0s", &["1 failed: nothing was asked for"]);
    let mut stage = Stage::new("emote wave\nexpect refused\nexpect done within 0s");
    stage.answer = Answer::Refused(Why::Locked);
    let log = stage.play().log;
    assert_eq!(log, ["Emote None", "3 failed: it was refused: it is locked"]);
}

#[test]
fn what_was_heard_is_used_up() {
    let mut stage =
        Stage::new("expect heard \"HELLO\" from ada within 0s\nexpect heard \"hello\" within 0s");
    keep(&mut stage.actor.heard, ("Ada".into(), "Well, hello there".into()));
    let log = stage.play().log;
    assert_eq!(log, ["2 failed: nobody said \"hello\""]);
}

#[test]
fn a_follower_comes_close_and_leaving_ends_the_script() {
    let stage = check("follow Ada\nleave\nsay \"never\"", &["leave"]);
    assert!(stage.body.position().is_within(Position::new(0, 0, -500), FOLLOW_CM));
}

#[test]
fn files_are_shared_with_people_in_view_or_by_id() {
    let hash = ContentHash([0xAB; 32]);
    let script = format!(
        "share a.txt with everyone\nshare a.txt with me for 1500ms\nshare a.txt with p-1f\n\
         share a.txt with Ada\nshare a.txt with Nobody\nfetch {hash} to b.txt\nexpect done\nunshare {hash}"
    );
    let log = Stage::new(&script).play().log;
    assert_eq!(log[0], "share a.txt Everyone 0");
    assert_eq!(log[1], "share a.txt Owner 2");
    assert_eq!(log[2], "share a.txt Persons([p-1f]) 0");
    assert_eq!(log[3], "share a.txt Persons([p-9]) 0", "a name that looks like a number");
    assert!(log[4].starts_with("5 failed: nobody called `Nobody` is in view"), "{log:?}");
    assert_eq!(log[5..], [format!("fetch {hash} b.txt"), format!("unshare {hash}")]);
}
