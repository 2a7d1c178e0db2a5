//! One client: the SDK's own session, replica and prediction, and somebody who walks, takes, gives
//! and talks.
//!
//! What it is told is checked here as far as one client can: every request is answered once,
//! nobody is seen twice. Whether what it sees is so, the [truth](super::truth) knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::frame::Assembler;
use protocol::ids::{EntityId, PersonId};
use protocol::input::{Input, RUN};
use protocol::limits::MESSAGE_BYTES_MAX;
use protocol::message::ServerMessage;
use protocol::message::common::Audience;
use protocol::replica::{Detail, FrameSeen, Replica, Terrain};
use protocol::rules::{OfferId, RuleBook};
use protocol::session::{Entry, Session, SessionEvent};
use protocol::units::{Position, Tick, Yaw};
use protocol::utterance::Utterance;

use super::truth::Check;
use super::wish::wish;
use crate::dice::Dice;

/// Calm ticks in which a request must be answered, beside the way there and back.
const ANSWER_TICKS: u32 = 30;

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not connected.
    Out,
    /// Connected, or about to be.
    Coming,
    /// In the world.
    In,
}

/// A request that waits for its answer.
#[derive(Clone, Debug)]
struct Asked {
    /// What was asked.
    what: String,
    /// Ticks that counted.
    waited: u32,
    /// The tick before which no answer is due: what was begun takes time.
    until: Tick,
}

/// What comes of what a client was told.
#[derive(Debug, PartialEq)]
pub enum News {
    /// It is in.
    Welcomed,
    /// The session is over; whether its ticket helps.
    Ended {
        /// Whether to come back with it.
        resumes: bool,
    },
    /// It was told that a request was carried out.
    Done(u32),
}

/// One client.
pub struct Walker {
    /// Who.
    pub person: PersonId,
    name: String,
    /// What it drives, once it knows.
    pub avatar: Option<EntityId>,
    /// Where it stands.
    pub stage: Stage,
    /// Its connection.
    pub connection: u64,
    session: Option<Session>,
    heard: Assembler,
    /// What it sees.
    pub replica: Option<Replica>,
    terrain: Terrain,
    /// Where it goes.
    pub steering: Input,
    asked: BTreeMap<u32, Asked>,
    offers: Vec<OfferId>,
    book: Arc<RuleBook>,
    chance: Dice,
    /// The tick at which it came in.
    pub since: Tick,
    /// The newest frame's tick, and ticks without a newer one.
    pub newest: (Tick, u32),
    /// Requests carried out, and refused.
    pub answers: (u64, u64),
    /// The longest correction while nothing disturbed it, in centimetres.
    pub correction_cm_max: f64,
}

impl Walker {
    /// Returns somebody who is not in the world yet.
    #[must_use]
    pub fn new(index: u64, book: Arc<RuleBook>, seed: u64) -> Self {
        Self {
            person: PersonId(index + 1),
            name: format!("walker-{index}"),
            avatar: None,
            stage: Stage::Out,
            connection: 0,
            session: None,
            heard: Assembler::default(),
            replica: None,
            terrain: Terrain::flat(0),
            steering: Input::default(),
            asked: BTreeMap::new(),
            offers: Vec::new(),
            book,
            chance: Dice::of_part(seed, 1_000 + index),
            since: Tick(0),
            newest: (Tick(0), 0),
            answers: (0, 0),
            correction_cm_max: 0.0,
        }
    }

    /// Begins to connect: with the ticket of the stay before, or anew.
    ///
    /// # Errors
    /// When no server would take how it introduces itself.
    pub fn come(&mut self, connection: u64, now_us: u64) -> Check {
        let next = match &self.session {
            Some(session) => session.successor(now_us),
            None => {
                let entry = Entry { name: self.name.clone(), ..Entry::default() };
                Session::new(entry, now_us).map_err(|bad| bad.to_string())?
            }
        };
        self.session = Some(next);
        self.heard = Assembler::default();
        self.asked.clear();
        self.offers.clear();
        self.connection = connection;
        self.stage = Stage::Coming;
        Ok(())
    }

    /// Forgets the session: the next one is another.
    pub fn forget_session(&mut self) {
        self.session = None;
    }

    /// Takes in bytes of the control stream.
    ///
    /// # Errors
    /// What a client must never be told.
    pub fn hear(&mut self, bytes: &[u8], now_us: u64) -> Result<Vec<News>, String> {
        let mut news = Vec::new();
        self.heard.extend(bytes);
        loop {
            let frame = self.heard.next(MESSAGE_BYTES_MAX).map_err(|error| error.to_string())?;
            let Some(frame) = frame else { break };
            let message = ServerMessage::read(frame).map_err(|error| error.to_string())?;
            if let Some(message) = message {
                self.check_answer(&message, &mut news)?;
            }
        }
        let Some(session) = &mut self.session else { return Ok(news) };
        session.receive(bytes, now_us);
        let mut events = Vec::new();
        while let Some(event) = session.next_event() {
            events.push(event);
        }
        for event in events {
            self.take_in(event, &mut news);
        }
        self.check_picture()?;
        Ok(news)
    }

    fn check_answer(&mut self, message: &ServerMessage, news: &mut Vec<News>) -> Check {
        let request = server::post::answer(message);
        if let Some(request) = request
            && self.asked.remove(&request).is_none()
        {
            return Err(format!("{} was answered twice about request {request}", self.name));
        }
        if let ServerMessage::Done(done) = message {
            self.answers.0 += 1;
            news.push(News::Done(done.request));
        } else if let ServerMessage::Refused(_) = message {
            self.answers.1 += 1;
        } else if let ServerMessage::Begun(begun) = message
            && let Some(asked) = self.asked.get_mut(&begun.request)
        {
            asked.until = begun.until;
        }
        Ok(())
    }

    fn take_in(&mut self, event: SessionEvent, news: &mut Vec<News>) {
        match event {
            SessionEvent::Welcomed(welcome) => {
                self.avatar = Some(welcome.avatar);
                self.since = welcome.tick;
                self.newest = (welcome.tick, 0);
                self.stage = Stage::In;
                self.terrain = Terrain::flat(0);
                match &mut self.replica {
                    Some(replica) => replica.resume(&welcome),
                    None => self.replica = Some(Replica::new(&welcome, Detail::Newest)),
                }
                news.push(News::Welcomed);
            }
            SessionEvent::Said(message) => {
                if let Some(replica) = &mut self.replica {
                    replica.hear(&message);
                }
                if let ServerMessage::Announce(announce) = &*message {
                    self.terrain.announce(announce, &self.book);
                } else if let ServerMessage::Offered(offered) = &*message
                    && Some(offered.offer.to) == self.avatar
                {
                    self.offers.push(offered.offer.id);
                }
            }
            SessionEvent::Ended(outcome) => {
                self.stage = Stage::Out;
                news.push(News::Ended { resumes: outcome.is_worth_resuming() });
            }
            SessionEvent::Answered { .. }
            | SessionEvent::Begun { .. }
            | SessionEvent::Redirected { .. } => {}
        }
    }

    /// The connection is gone.
    pub fn closed(&mut self, code: Option<u64>) -> Vec<News> {
        let mut news = Vec::new();
        let Some(session) = &mut self.session else { return news };
        session.closed(code, "");
        let mut events = Vec::new();
        while let Some(event) = session.next_event() {
            events.push(event);
        }
        for event in events {
            self.take_in(event, &mut news);
        }
        news
    }

    /// Takes in a frame; `round_trip_us` is what the transport measures.
    ///
    /// # Errors
    /// When the bytes are no frame.
    pub fn frame(
        &mut self,
        bytes: &[u8],
        round_trip_us: u64,
        now_us: u64,
    ) -> Result<Option<FrameSeen>, String> {
        if self.stage != Stage::In {
            return Ok(None);
        }
        let Some(replica) = &mut self.replica else { return Ok(None) };
        if let Some(session) = &mut self.session {
            session.heard(now_us);
        }
        replica.round_trip(round_trip_us);
        let seen = replica.frame(bytes, now_us, &mut self.terrain);
        let seen = seen.map_err(|bad| format!("{} got no frame: {bad}", self.name))?;
        if let Some(seen) = &seen
            && self.newest.0 < seen.tick
        {
            self.newest = (seen.tick, 0);
        }
        Ok(seen)
    }

    /// Returns the input datagram to send, if one is due.
    pub fn input(&mut self, now_us: u64) -> Option<Vec<u8>> {
        if self.stage != Stage::In {
            return None;
        }
        let mut bytes = Vec::new();
        let replica = self.replica.as_mut()?;
        replica.input(self.steering, now_us, &self.terrain, &mut bytes)?;
        Some(bytes)
    }

    /// Returns when it has to be looked after next.
    #[must_use]
    pub fn due_us(&self, now_us: u64) -> u64 {
        let due_us = self.replica.as_ref().and_then(Replica::input_due_us);
        due_us.unwrap_or(0).clamp(now_us + 1_000, now_us + 20_000)
    }

    /// Returns what is to be written to the control stream.
    pub fn take_output(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(session) = &mut self.session {
            session.take_output(&mut bytes);
        }
        bytes
    }

    /// Walks somewhere else now and then.
    pub fn wander(&mut self, half_width_cm: i32) {
        let Some(replica) = &self.replica else { return };
        let here = replica.body().position();
        if half_width_cm - 500 < here.x.abs().max(here.z.abs()) {
            self.steering.yaw = Yaw::towards(-here.x, -here.z);
        } else if self.chance.one_in(60) {
            // To where somebody else is, as likely as anywhere: people meet.
            let to = self.chance.place(half_width_cm / 2);
            self.steering.yaw = Yaw::towards(to.x - here.x, to.z - here.z);
            self.steering.forward = if self.chance.one_in(6) { 0 } else { 127 };
            self.steering.buttons = if self.chance.one_in(3) { 0 } else { RUN };
        }
    }

    /// Stands still from now on.
    pub const fn halt(&mut self) {
        self.steering.forward = 0;
    }

    /// Asks for something now and then.
    pub fn act(&mut self, now_us: u64) {
        if self.stage != Stage::In || !self.chance.one_in(7) {
            return;
        }
        let (Some(replica), Some(session)) = (&self.replica, &mut self.session) else { return };
        let (what, asked) = if self.chance.one_in(12) {
            ("say".into(), session.say(Audience::Nearby, Utterance::plain("hello"), now_us))
        } else {
            let Some(act) = wish(replica, &mut self.offers, &mut self.chance) else { return };
            (format!("{act:?}"), session.act(act, now_us))
        };
        if let Ok(request) = asked {
            self.asked.insert(request, Asked { what, waited: 0, until: Tick(0) });
        }
    }

    /// Says goodbye.
    pub fn leave(&mut self) {
        // One that is not in has nothing to leave.
        if let Some(session) = &mut self.session
            && let Err(error) = session.leave(false)
        {
            tracing::trace!(%error, "not in");
        }
    }

    /// Lets time count for requests without an answer, and for frames that do not come. `way_ticks`
    /// is the longest that an answer is under way.
    ///
    /// # Errors
    /// When something takes too long.
    pub fn wait(&mut self, now: Tick, way_ticks: u32) -> Check {
        for (request, asked) in &mut self.asked {
            if now < asked.until {
                continue;
            }
            asked.waited += 1;
            if ANSWER_TICKS + way_ticks < asked.waited {
                let what = &asked.what;
                return Err(format!("{} has no answer to request {request}: {what}", self.name));
            }
        }
        self.newest.1 += 1;
        if ANSWER_TICKS + way_ticks < self.newest.1 {
            let tick = self.newest.0.0;
            return Err(format!("{} gets no frames after that of tick {tick}", self.name));
        }
        Ok(())
    }

    /// Forgets how long answers and frames were waited for: what disturbs the line excuses that.
    pub fn excuse(&mut self) {
        for asked in self.asked.values_mut() {
            asked.waited = 0;
        }
        self.newest.1 = 0;
    }

    /// Checks that nobody is seen twice.
    fn check_picture(&self) -> Check {
        let Some(replica) = &self.replica else { return Ok(()) };
        let mut seen = BTreeSet::new();
        match replica.entities().find(|entity| !seen.insert(entity.id)) {
            None => Ok(()),
            Some(twice) => Err(format!("{} sees {} twice", self.name, twice.id)),
        }
    }

    /// Returns what it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns where it thinks it is.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.replica.as_ref().map(|replica| replica.body().position())
    }

    /// Returns how many requests wait for an answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.asked.len()
    }
}
