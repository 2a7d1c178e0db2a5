//! One client's stays: from the handshake to the end of the connection, and what it does meanwhile.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::ids::EntityId;
use protocol::io::Identity;
use protocol::io::clock::now_us;
use protocol::io::connection::close_of;
use protocol::io::trust::SERVER_NAME;
use protocol::limits::CHUNK_BYTES_MAX;
use protocol::message::ServerMessage;
use protocol::message::common::Audience;
use protocol::message::server::{Being, Welcome};
use protocol::rules::KindId;
use protocol::session::{Answer, Entry, Outcome, Prover, Session, SessionEvent};
use protocol::units::{Position, Tick};
use protocol::utterance::Utterance;
use quinn::ReadError;
use server::io::batched::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::super::errand::{Errand, Well};
use super::super::ledger::Deed;
use super::super::nearby::{NEAR_CM, NEAREST_MAX};
use super::super::observer::Observer;
use super::super::picture::Picture;
use super::super::scenario::{Scenario, Walker};
use super::deeds::hear_of_errand;
use super::{Crowd, OBSERVED, Order, Wish, asset};
use crate::dice::Dice;

/// How long coming in may take.
const ENTERING: Duration = Duration::from_secs(20);

/// Bytes read from the control stream at a time.
const READ_BYTES: usize = 64 * 1024;

/// How long a client waits at most without looking at its session.
const PULSE: Duration = Duration::from_secs(1);

/// What stands before a chunk's bytes on its stream, at most.
const HEAD_BYTES_MAX: usize = 1_024;

/// Chunks that may wait to be taken in.
const CHUNKS_WAITING_MAX: usize = 32;

/// Microseconds between two looks at a connection's round trip time.
const LOOKED_US: u64 = 500_000;

/// Inputs between two utterances: five seconds at 20 Hz.
const UTTERED_INPUTS: u64 = 100;

/// Inputs between two acts of a trader: two seconds at 20 Hz.
const ACTED_INPUTS: u64 = 40;

/// Bodies and things that a trader remembers in view.
const NEIGHBOURS_MAX: usize = 256;

/// How a stay ended.
pub(super) enum End {
    /// As the scenario wished.
    Wished,
    /// The server did not let the client in.
    Refused(String),
    /// Against everybody's will.
    Lost(String),
}

/// One client over all its stays.
pub(super) struct Visitor {
    client: usize,
    identity: Arc<Identity>,
    session: Option<Session>,
    newest_input: u64,
    broke_us: Option<u64>,
    observer: Option<Observer>,
    /// What it does in `errands`.
    errand: Option<Errand>,
    /// Stays so far: tells frames of this one from those of the one before.
    stays: u32,
    stay: Option<Stay>,
}

/// What a connected client has at hand.
pub(super) struct Stay {
    connection: Connection,
    pub(super) picture: Picture,
    walker: Walker,
    dice: Dice,
    avatar: EntityId,
    /// The connection's round trip time, and when it was looked at.
    round_trip_us: Option<(u64, u64)>,
    first: Option<Tick>,
    newest: Tick,
    inputs: u64,
    pub(super) client: usize,
    /// Somebody or something in view: handle, id, which thing if it is no body, and where it is.
    pub(super) neighbours: Vec<(u16, EntityId, Option<KindId>, Position)>,
    pub(super) held: Vec<(EntityId, KindId)>,
    pub(super) shown: Vec<(EntityId, Position)>,
    /// When unanswered requests were made; the session bounds how many there are.
    asked: BTreeMap<u32, u64>,
}

/// Comes in, stays, and returns how it ended.
pub(super) async fn visit(crowd: &Rc<Crowd>, client: usize) -> End {
    let visitor = &crowd.visitors[client];
    let (connection, streams, session, welcome) =
        match timeout(ENTERING, enter(crowd, client)).await {
            Ok(Ok(entered)) => entered,
            Ok(Err(why)) => return End::Refused(why),
            Err(_) => return End::Refused(format!("not in within {} s", ENTERING.as_secs())),
        };
    crowd.connections.borrow_mut()[client] = Some(connection.clone());
    let begun = visitor.borrow_mut().begin(crowd, connection.clone(), (session, &welcome));
    connection.deliver_datagrams(crowd.tray.sink(client, begun));
    if crowd.order.scenario == Scenario::Asset {
        let exchange = asset::exchange(Rc::clone(crowd), client, connection.clone(), begun);
        tokio::task::spawn_local(exchange);
    }
    let end = stay(crowd, client, &connection, streams).await;
    crowd.tally.borrow_mut().inside -= 1;
    crowd.bodies.borrow_mut().left(client);
    crowd.nearby.borrow_mut().left(client);
    visitor.borrow_mut().end();
    if let Some(watch) = &crowd.watch {
        watch.ended(client);
    }
    end
}

async fn enter(
    crowd: &Crowd,
    client: usize,
) -> Result<(Connection, (SendStream, RecvStream), Session, Welcome), String> {
    let (address, config) = (crowd.order.address, crowd.config.clone());
    let connection = crowd.endpoint.connect(config, address, SERVER_NAME);
    let connection = connection.map_err(|error| error.to_string())?;
    connection.connected().await.map_err(|error| error.to_string())?;
    let (mut send, mut receive) =
        connection.accept_bi().await.map_err(|error| close_of(&error).1)?;
    let mut session = crowd.visitors[client].borrow().session(crowd)?;
    let mut out = Vec::new();
    loop {
        while let Some(event) = session.next_event() {
            match event {
                SessionEvent::Welcomed(welcome) => {
                    return Ok((connection, (send, receive), session, *welcome));
                }
                SessionEvent::Ended(outcome) => {
                    if !outcome.is_worth_resuming() {
                        // A ticket that is not taken is no reason to stay out.
                        crowd.visitors[client].borrow_mut().session = None;
                    }
                    return Err(why(&outcome));
                }
                SessionEvent::Answered { .. }
                | SessionEvent::Begun { .. }
                | SessionEvent::Redirected { .. }
                | SessionEvent::Said(_) => {}
            }
        }
        if session.take_output(&mut out) {
            send.write_all(&out).await.map_err(|error| error.to_string())?;
            out.clear();
        }
        take_in(&mut session, receive.read_chunk(READ_BYTES).await);
    }
}

/// Carries what is said on streams until the stay ends; frames and inputs go their own way.
async fn stay(
    crowd: &Rc<Crowd>,
    client: usize,
    connection: &Connection,
    (mut send, mut receive): (SendStream, RecvStream),
) -> End {
    let visitor = &crowd.visitors[client];
    let (ground_send, mut ground) = mpsc::channel::<Vec<u8>>(CHUNKS_WAITING_MAX);
    let mut out = Vec::new();
    loop {
        if let Some(end) = visitor.borrow_mut().converse(crowd) {
            return end;
        }
        let has_output = visitor.borrow_mut().take_output(&mut out);
        if has_output {
            if let Err(error) = send.write_all(&out).await {
                tracing::debug!(%error, "not written; the reads say why");
            }
            out.clear();
        }
        tokio::select! {
            read = receive.read_chunk(READ_BYTES) => {
                if let Some(session) = &mut visitor.borrow_mut().session {
                    take_in(session, read);
                }
            }
            stream = connection.accept_uni() => if let Ok(stream) = stream {
                tokio::task::spawn_local(read_ground(stream, ground_send.clone()));
            },
            Some(stream) = ground.recv() => {
                if let Some(observer) = &mut visitor.borrow_mut().observer
                    && observer.ground(&stream)
                {
                    crowd.tally.borrow_mut().chunks += 1;
                }
            }
            () = crowd.wake[client].notified() => {
                let wish = std::mem::take(&mut crowd.wishes.borrow_mut()[client]);
                // What it carried is known only while it stands.
                if wish != Wish::Stay {
                    crowd.count_bytes(client);
                }
                let pause = visitor.borrow_mut().granted(wish);
                if let Some(pause) = pause {
                    // A short absence, so that not everyone comes back at once.
                    sleep(pause).await;
                    return End::Wished;
                }
            }
            () = sleep(PULSE) => {}
        }
    }
}

impl Visitor {
    pub(super) fn new(client: usize, identity: Identity, (order, well): (&Order, &Well)) -> Self {
        let runs_errands = order.scenario == Scenario::Errands;
        Self {
            client,
            identity: Arc::new(identity),
            session: None,
            newest_input: 0,
            broke_us: None,
            observer: None,
            errand: runs_errands.then(|| Errand::new(client, order, well)),
            stays: 0,
            stay: None,
        }
    }

    /// Returns whether it is where the scenario wants it to be.
    pub(super) fn is_ready(&self) -> bool {
        self.errand.as_ref().is_none_or(Errand::is_ready)
    }

    /// Notes when the connection broke.
    pub(super) fn broke(&mut self, now_us: u64) {
        self.broke_us.get_or_insert(now_us);
    }

    /// Begins a stay; returns its number.
    fn begin(
        &mut self,
        crowd: &Crowd,
        connection: Connection,
        (session, welcome): (Session, &Welcome),
    ) -> u32 {
        let now_us = now_us();
        let mut tally = crowd.tally.borrow_mut();
        tally.joined(now_us);
        if let Some(broke_us) = self.broke_us.take().filter(|_| welcome.resumed) {
            tally.resume_s.add(now_us.saturating_sub(broke_us) as f64 / 1e6);
        }
        crowd.truth.borrow_mut().drives(self.client, welcome.avatar);
        crowd.bodies.borrow_mut().entered(self.client, welcome.tick);
        if let Some(watch) = &crowd.watch {
            watch.begun(self.client, welcome);
        }
        self.stay = Some(self.settle(crowd, connection, welcome));
        self.session = Some(session);
        self.stays += 1;
        self.stays
    }

    /// Ends the stay.
    fn end(&mut self) {
        if let Some(stay) = self.stay.take() {
            self.newest_input = stay.picture.newest_input();
        }
    }

    /// Returns the session to come in with: the one before, if there was one.
    fn session(&self, crowd: &Crowd) -> Result<Session, String> {
        let key = crowd.verifier.seen();
        let key = key.ok_or("the server shows no identity")?.map_err(|error| error.to_string())?;
        let identity = Arc::clone(&self.identity);
        let prover: Arc<dyn Prover> =
            Arc::new(move |nonce: &[u8; 32]| identity.prove(&key.0, nonce));
        if let Some(before) = &self.session {
            let mut session = before.successor(now_us());
            session.prove_with(Some(prover));
            return Ok(session);
        }
        let entry = Entry {
            name: format!("Soak {}", self.client),
            software: concat!("ecumene-soak ", env!("CARGO_PKG_VERSION")).into(),
            prover: Some(prover),
            ..Entry::default()
        };
        Session::new(entry, now_us()).map_err(|error| error.to_string())
    }

    fn settle(&mut self, crowd: &Crowd, connection: Connection, welcome: &Welcome) -> Stay {
        let Order { seed, clients, scenario, .. } = &crowd.order;
        let dice = Dice::of_client(*seed, self.client as u64);
        let newest = if welcome.resumed { self.newest_input } else { 0 };
        if self.client.is_multiple_of(OBSERVED) {
            match &mut self.observer {
                Some(observer) if welcome.resumed => observer.resume(welcome),
                Some(_) | None => self.observer = Some(Observer::new(self.client, welcome)),
            }
        }
        // Everyone walks about the same middle of the world, wherever the last visit ended.
        let home = Position::new(0, welcome.position.y, 0);
        Stay {
            connection,
            picture: Picture::new(welcome, newest),
            walker: Walker::new(*scenario, *clients, home, dice.clone()),
            dice,
            avatar: welcome.avatar,
            round_trip_us: None,
            first: None,
            newest: welcome.tick,
            inputs: 0,
            client: self.client,
            neighbours: Vec::new(),
            held: Vec::new(),
            shown: Vec::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Lets time pass for the session and notes what came; returns how the stay ended, if it did.
    fn converse(&mut self, crowd: &Crowd) -> Option<End> {
        let Self { session: Some(session), stay: Some(stay), observer, errand, .. } = self else {
            return Some(End::Wished);
        };
        session.tick(now_us());
        while let Some(event) = session.next_event() {
            if let SessionEvent::Ended(outcome) = event {
                return Some(self.ended(&outcome));
            }
            note(&event, crowd, stay, (observer.as_mut(), errand.as_mut()));
        }
        None
    }

    /// Takes what the session has to say.
    fn take_output(&mut self, out: &mut Vec<u8>) -> bool {
        self.session.as_mut().is_some_and(|session| session.take_output(out))
    }

    /// Does what the scenario wishes; returns how long to stay away, if the stay is over by that.
    fn granted(&mut self, wish: Wish) -> Option<Duration> {
        match wish {
            Wish::Stay => None,
            Wish::Break => {
                let stay = self.stay.as_mut()?;
                self.broke_us = Some(now_us());
                stay.connection.close(0_u32.into(), b"break");
                Some(Duration::from_millis(100 + stay.dice.below(900)))
            }
            Wish::Leave => {
                // The server's goodbye ends the stay.
                if let Some(Err(error)) = self.session.as_mut().map(|it| it.leave(false)) {
                    tracing::debug!(%error, "cannot leave");
                }
                None
            }
        }
    }

    fn ended(&mut self, outcome: &Outcome) -> End {
        if !outcome.is_worth_resuming() {
            self.session = None;
        }
        if *outcome == Outcome::Left { End::Wished } else { End::Lost(why(outcome)) }
    }

    /// Returns when the next input is due, nothing before the first frame.
    pub(super) fn due_us(&self) -> Option<u64> {
        let stay = self.stay.as_ref()?;
        self.observer.as_ref().map_or_else(|| stay.picture.due_us(), Observer::due_us)
    }

    /// Asks for the memory that the next frame needs.
    pub(super) fn prefetch(&self) {
        self.stay.iter().for_each(|stay| stay.picture.prefetch());
    }

    /// Takes in a frame of the stay with this number that came at `at_us`; returns whether it was
    /// the first.
    pub(super) fn frame(&mut self, bytes: &[u8], begun: u32, at_us: u64, crowd: &Crowd) -> bool {
        let Some(stay) = self.stay.as_mut().filter(|_| self.stays == begun) else { return false };
        if let Some(session) = &mut self.session {
            session.heard(at_us);
        }
        if stay.round_trip_us.is_none_or(|(_, as_of)| as_of + LOOKED_US <= at_us) {
            let round_trip_us = stay.connection.round_trip().as_micros();
            stay.round_trip_us = u64::try_from(round_trip_us).ok().map(|found| (found, at_us));
        }
        let round_trip_us = stay.round_trip_us.map_or(u64::MAX, |(found, _)| found);
        let times = (at_us, round_trip_us);
        let mut tally = crowd.tally.borrow_mut();
        let Ok(seen) = stay.picture.frame(bytes, times, &mut stay.shown) else {
            tally.bad_frames += 1;
            return false;
        };
        let Some(seen) = seen else { return false };
        let is_first = stay.first.is_none();
        tally.frames += 1;
        tally.frame_bytes += bytes.len() as u64;
        tally.states += seen.states as u64;
        let first_us = tally.came(seen.tick, at_us);
        match stay.first {
            Some(_) => tally.frames_due += seen.tick.since(stay.newest),
            None => {
                stay.first = Some(seen.tick);
                tally.frames_due += 1;
            }
        }
        stay.newest = stay.newest.max(seen.tick);
        if crowd.order.scenario == Scenario::Trade {
            stay.follow_neighbours();
        }
        let mut truth = crowd.truth.borrow_mut();
        if let Some(own) = seen.own {
            truth.own(self.client, seen.tick, own);
            crowd.bodies.borrow_mut().own(self.client, seen.tick);
        }
        let checks = crowd.checks(self.client, seen.tick.0);
        let mut nearby = crowd.nearby.borrow_mut();
        if seen.own.is_some() && (checks || nearby.waits(self.client)) {
            let near = truth.near(self.client, seen.tick, NEAR_CM, NEAREST_MAX);
            nearby.look(self.client, (seen.tick, at_us), near, |body| stay.picture.sees(body));
        }
        if checks {
            let now_us = now_us();
            let age_us = now_us.saturating_sub(first_us);
            tally.state_age_ms.add(age_us as f64 / 1_000.0);
            let one_way_us = (round_trip_us / 2).saturating_add(now_us.saturating_sub(at_us));
            tally.one_way_ms.add(one_way_us as f64 / 1_000.0);
            for &(body, at) in stay.shown.iter().filter(|(body, _)| *body != stay.avatar) {
                if let Some(driver) = truth.driver(body) {
                    truth.told(driver, seen.tick, at, at_us);
                }
            }
        }
        if let Some(observer) = &mut self.observer
            && let Some(looked) = observer.frame(bytes, times, &mut truth)
        {
            looked.correction_m.into_iter().for_each(|metres| tally.correction_m.add(metres));
            tally.display_delay_ms.add(looked.delay_ms);
        }
        is_first
    }

    /// Sends the input that is due, and does what the scenario says beside walking.
    pub(super) fn act(&mut self, at_us: u64, crowd: &Crowd) {
        let Some(due_us) = self.due_us().filter(|&due_us| due_us <= at_us) else { return };
        let Some(stay) = &mut self.stay else { return };
        let mut datagram = Vec::new();
        let (picture, walker) = (&mut stay.picture, &mut stay.walker);
        let errand = &mut self.errand;
        let mut steer = |here| match errand {
            Some(errand) => errand.input(here),
            None => walker.input(here),
        };
        let is_made = match &mut self.observer {
            Some(observer) => {
                let input = steer(observer.here());
                let made = observer.input(input, at_us, &mut datagram);
                if made.is_some() {
                    picture.note_sent(input, at_us);
                }
                if made == Some(true) {
                    picture.forget_everything();
                }
                made.is_some()
            }
            None => picture.input(at_us, steer, &mut datagram),
        };
        if !is_made {
            return;
        }
        stay.inputs += 1;
        {
            let mut tally = crowd.tally.borrow_mut();
            tally.inputs += 1;
            tally.late_ms.add(at_us.saturating_sub(due_us) as f64 / 1_000.0);
        }
        if !stay.connection.send_datagram(datagram.into()) {
            tracing::debug!("input not sent");
        }
        if self.ask(crowd, at_us) {
            // The task that carries what is said has something to carry.
            crowd.wake[self.client].notify_one();
        }
    }

    /// Says or does what the scenario has now; returns whether there is something to carry.
    fn ask(&mut self, crowd: &Crowd, at_us: u64) -> bool {
        let Self { session: Some(session), stay: Some(stay), errand, .. } = self else {
            return false;
        };
        let phase = stay.inputs.wrapping_add(self.client as u64 * 7);
        let may_act =
            !crowd.is_resting.get() && crowd.watch.as_ref().is_none_or(|watch| watch.may_act());
        let asked = match crowd.order.scenario {
            Scenario::Chat if phase.is_multiple_of(UTTERED_INPUTS) => {
                let words = format!("This is {} speaking, {}.", self.client, stay.inputs);
                session.say(Audience::Nearby, Utterance::plain(words), at_us).map(Some)
            }
            Scenario::Trade if may_act && phase.is_multiple_of(ACTED_INPUTS) => match stay.deed() {
                Some((act, kind, to)) => session.act(act, at_us).map(|request| {
                    if let Some(watch) = &crowd.watch {
                        let to = to.map(|body| crowd.truth.borrow().driver(body));
                        let deed = to.map_or(Deed::Take(kind), |to| Deed::Give(kind, to));
                        watch.asked(self.client, request, deed);
                    }
                    Some(request)
                }),
                None => Ok(None),
            },
            Scenario::Errands if may_act => match errand {
                Some(errand) => stay.run_errand(errand, crowd, session, at_us),
                None => Ok(None),
            },
            Scenario::Spread
            | Scenario::Plaza
            | Scenario::Commute
            | Scenario::Errands
            | Scenario::Storm
            | Scenario::Churn
            | Scenario::Chat
            | Scenario::Trade
            | Scenario::Asset => Ok(None),
        };
        let who = (self.client, stay.avatar, phase);
        let asked = asked.and_then(|asked| match &crowd.watch {
            Some(watch) if asked.is_none() => watch.ask(who, (session, &mut stay.dice), at_us),
            Some(_) | None => Ok(asked),
        });
        let mut has_asked = matches!(asked, Ok(Some(_)));
        let asked = asked.map(|request| {
            stay.asked.extend(request.map(|request| (request, at_us)));
        });
        let wanted = self.observer.as_mut().and_then(|observer| observer.wants(at_us));
        has_asked |= wanted.is_some();
        let asked = wanted.map_or(asked, |chunks| session.want(chunks));
        if let Err(error) = asked {
            tracing::debug!(%error, "not asked for");
        }
        has_asked
    }
}

/// Notes what the server said.
fn note(
    event: &SessionEvent,
    crowd: &Crowd,
    stay: &mut Stay,
    (observer, mut errand): (Option<&mut Observer>, Option<&mut Errand>),
) {
    match event {
        SessionEvent::Said(message) => {
            if let Some(observer) = observer {
                observer.hear(message);
            }
            if let Some(errand) = &mut errand {
                hear_of_errand(message, errand);
            }
            hear(message, crowd, stay);
        }
        SessionEvent::Answered { request, answer } => {
            if let Some(watch) = &crowd.watch {
                watch.answered(stay.client, *request, answer);
            }
            let mut tally = crowd.tally.borrow_mut();
            if let Some(errand) = errand {
                let is_done = matches!(answer, Answer::Done { .. });
                tally.crossings += u64::from(errand.answered(*request, is_done));
            }
            match answer {
                Answer::Done { .. } => tally.done += 1,
                Answer::Refused(_) | Answer::Unknown => tally.refusals += 1,
            }
            if let Some(asked_us) = stay.asked.remove(request) {
                tally.answer_ms.add(now_us().saturating_sub(asked_us) as f64 / 1_000.0);
            }
        }
        SessionEvent::Welcomed(_)
        | SessionEvent::Begun { .. }
        | SessionEvent::Redirected { .. }
        | SessionEvent::Ended(_) => {}
    }
}

fn hear(message: &ServerMessage, crowd: &Crowd, stay: &mut Stay) {
    match message {
        ServerMessage::Announce(announce) => {
            crowd.tally.borrow_mut().twice += stay.picture.announce(announce) as u64;
            let mut nearby = crowd.nearby.borrow_mut();
            if nearby.waits(stay.client) {
                let at_us = now_us();
                announce.appear.iter().for_each(|it| nearby.heard(stay.client, it.entity, at_us));
            }
            if crowd.order.scenario == Scenario::Trade {
                stay.neighbours.retain(|(handle, ..)| !announce.vanish.contains(handle));
                for appear in &announce.appear {
                    stay.neighbours.retain(|(handle, ..)| *handle != appear.handle);
                    let thing = match appear.being {
                        Being::Avatar { .. } => None,
                        Being::Thing { kind, .. } => Some(kind),
                    };
                    if stay.neighbours.len() < NEIGHBOURS_MAX {
                        let neighbour = (appear.handle, appear.entity, thing, appear.position);
                        stay.neighbours.push(neighbour);
                    }
                }
            }
        }
        ServerMessage::Pace(pace) => stay.picture.pace(pace),
        ServerMessage::Heard(_) => crowd.tally.borrow_mut().heard += 1,
        ServerMessage::Holding(holding) => {
            stay.held = holding.things.iter().map(|thing| (thing.id, thing.kind)).collect();
            if let Some(watch) = &crowd.watch {
                watch.holds(stay.client, &holding.things);
            }
        }
        ServerMessage::Happened(_)
        | ServerMessage::Notice(_)
        | ServerMessage::Offered(_)
        | ServerMessage::OfferEnded(_)
        | ServerMessage::Greeting(_)
        | ServerMessage::Welcome(_)
        | ServerMessage::Farewell(_)
        | ServerMessage::Done(_)
        | ServerMessage::Refused(_)
        | ServerMessage::Begun(_)
        | ServerMessage::Stopping(_)
        | ServerMessage::Redirect(_)
        | ServerMessage::Ticket(_)
        | ServerMessage::Chunk(_) => {}
    }
}

async fn read_ground(mut stream: RecvStream, to: mpsc::Sender<Vec<u8>>) {
    let mut bytes = Vec::new();
    while bytes.len() <= CHUNK_BYTES_MAX + HEAD_BYTES_MAX {
        match stream.read_chunk(READ_BYTES).await {
            Ok(Some(part)) => bytes.extend_from_slice(&part),
            Ok(None) => {
                if to.send(bytes).await.is_err() {
                    tracing::trace!("ground came after the end");
                }
                return;
            }
            Err(error) => return tracing::debug!(%error, "ground not read"),
        }
    }
    tracing::debug!("more ground than a chunk has");
}

fn take_in(session: &mut Session, read: Result<Option<Bytes>, ReadError>) {
    match read {
        Ok(Some(bytes)) => session.receive(&bytes, now_us()),
        Ok(None) => session.closed(None, "the server ended the control stream"),
        Err(ReadError::ConnectionLost(error)) => {
            let (code, why) = close_of(&error);
            session.closed(code, &why);
        }
        Err(error) => session.closed(None, &error.to_string()),
    }
}

fn why(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Left => "left".to_owned(),
        Outcome::Refused { code, why, .. } | Outcome::Lost { code, why } => {
            format!("{code:?}: {why}")
        }
    }
}
