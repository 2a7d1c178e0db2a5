//! A walker with the SDK's own picture of the world, and what it wants to do next.

use std::collections::BTreeMap;

use protocol::ids::{ContentHash, EntityId, PersonId, SessionId, WorldId};
use protocol::input::{Input, InputDatagram, RUN};
use protocol::message::ServerMessage;
use protocol::message::common::Appearance;
use protocol::message::server::{Welcome, WorldName};
use protocol::motion::MotionRules;
use protocol::replica::{Detail, Replica, Terrain};
use protocol::rules::{Act, OfferId, RuleBook, Why};
use protocol::units::{Position, TICK_HZ_DEFAULT, Tick, Yaw};

use tests::dice::Dice;
use tests::sim::wish::wish;

/// Ticks in which every request must be answered.
const ANSWER_TICKS: u64 = 4;

pub struct Client {
    pub avatar: EntityId,
    pub replica: Replica,
    /// Ground without height or end, and what stands on it.
    terrain: Terrain,
    pub steering: Input,
    /// Unanswered requests and when they were made.
    pub asked: BTreeMap<u32, Tick>,
    request: u32,
    pub done: u64,
    /// Announcements so far.
    pub announced: u64,
    pub corrections_cm: Vec<f64>,
    offers: Vec<OfferId>,
    /// Why the last act was refused, if one was.
    pub refused: Option<Why>,
}

impl Client {
    pub fn new(avatar: EntityId, position: Position, motion: MotionRules) -> Self {
        let welcome = welcome(avatar, position, motion);
        Self {
            avatar,
            replica: Replica::new(&welcome, Detail::Newest),
            terrain: Terrain::flat(0),
            steering: Input::default(),
            asked: BTreeMap::new(),
            request: 0,
            done: 0,
            announced: 0,
            corrections_cm: Vec::new(),
            offers: Vec::new(),
            refused: None,
        }
    }

    pub fn hear(&mut self, message: &ServerMessage, book: &RuleBook) {
        self.replica.hear(message);
        if let ServerMessage::Announce(announce) = message {
            self.terrain.announce(announce, book);
            self.announced += 1;
        }
        if let ServerMessage::Done(done) = message {
            self.answered(done.request);
            self.done += 1;
        } else if let ServerMessage::Refused(refused) = message {
            self.answered(refused.request);
            self.refused = Some(refused.why.clone());
        } else if let ServerMessage::Begun(begun) = message {
            // The end of it is told too.
            self.asked.entry(begun.request).and_modify(|asked| *asked = begun.until);
        } else if let ServerMessage::Offered(offered) = message
            && offered.offer.to == self.avatar
        {
            self.offers.push(offered.offer.id);
        }
    }

    fn answered(&mut self, request: u32) {
        let asked = self.asked.remove(&request);
        assert!(asked.is_some(), "{}: {request} was answered twice", self.avatar);
    }

    pub fn frame(&mut self, bytes: &[u8], now_us: u64) {
        let seen = self.replica.frame(bytes, now_us, &mut self.terrain).expect("a frame");
        if let Some(correction) = seen.and_then(|seen| seen.correction) {
            self.corrections_cm.push(correction.cm);
        }
    }

    /// Returns the input to send, if one is due.
    pub fn input(&mut self, now_us: u64) -> Option<InputDatagram> {
        let mut bytes = Vec::new();
        self.replica.input(self.steering, now_us, &self.terrain, &mut bytes)?;
        Some(InputDatagram::decode(&bytes).expect("an input"))
    }

    /// Walks somewhere else now and then.
    pub fn wander(&mut self, chance: &mut Dice, half_width_cm: i32) {
        let here = self.replica.body().position();
        let is_at_edge = half_width_cm - 500 < here.x.abs().max(here.z.abs());
        if is_at_edge {
            self.steering.yaw = Yaw::towards(-here.x, -here.z);
        } else if chance.one_in(40) {
            self.steering.yaw = Yaw(chance.below(65_536) as u16);
            self.steering.forward = if chance.one_in(5) { 0 } else { 127 };
            self.steering.buttons = if chance.one_in(2) { RUN } else { 0 };
        }
    }

    /// Returns something to do with what is near, by what this client knows.
    pub fn wish(&mut self, chance: &mut Dice) -> Option<Act> {
        wish(&self.replica, &mut self.offers, chance)
    }

    /// Numbers a request made at `tick`.
    pub fn ask(&mut self, tick: Tick) -> u32 {
        self.request += 1;
        self.asked.insert(self.request, tick);
        self.request
    }

    pub fn check_answers(&self, now: Tick) {
        for (request, asked) in &self.asked {
            let waited = now.since(*asked);
            assert!(
                waited <= ANSWER_TICKS,
                "{}: no answer to {request}, asked at {asked:?}",
                self.avatar
            );
        }
    }
}

fn welcome(avatar: EntityId, position: Position, motion: MotionRules) -> Welcome {
    Welcome {
        session: SessionId(avatar.0),
        resumed: false,
        person: PersonId(avatar.0),
        avatar,
        role: "member".into(),
        world: WorldName { id: WorldId(1), name: "nine".into(), rating: "everyone".into() },
        rules: ContentHash::of(b""),
        features: 0,
        tick: Tick(0),
        hz: TICK_HZ_DEFAULT,
        pace_permille: 1_000,
        motion,
        position,
        yaw: Yaw::NORTH,
        appearance: Appearance::default(),
        ticket: Vec::new(),
        capabilities: Vec::new(),
    }
}
