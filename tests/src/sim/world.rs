//! A whole world in one thread: server, processes, network, disk, clients and what goes wrong, one
//! event after the other.
//!
//! The same seed makes the same events, the same bytes and the same hash. What may never happen is
//! checked after every tick; the first violation ends the run.

mod checks;
mod faults;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use protocol::close::CloseCode;
use protocol::frame::Assembler;
use protocol::input::InputDatagram;
use protocol::limits::MESSAGE_BYTES_MAX;
use protocol::message::ClientMessage;
use protocol::units::Tick;
use server::hosting::{LinkId, Place};
use server::link::{LENGTH_BYTES, Up, read};
use server::region::RegionIndex;
use server::shard::WorldRules;
use server::shard::pack::Packed;
use server::shard::viewer::ClientKey;
use server::store::memory::Fault as DiskFault;
use server::store::{MemoryStore, Store as _};

use super::breaks::{Break, Saboteur};
use super::eyes::{self, Eyes};
use super::figures::Figures;
use super::host::{self, Examined, Host, Out, Stepped};
use super::network::{Quality, Way};
use super::plan::{self, END_US, End, Fault, REST_US};
use super::process::Process;
use super::scene;
use super::truth::{Check, Truth};
use super::walker::{News, Stage, Walker};
use crate::dice::Dice;

/// Clients of one world.
pub const WALKERS: u64 = 24;

/// Microseconds of a tick at full pace.
const TICK_US: u64 = 50_000;

/// How long a server takes to start again.
const RESTART_US: (u64, u64) = (300_000, 1_500_000);

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was counted.
    pub figures: Figures,
    /// Hash of everything that was sent.
    pub hash: u64,
    /// The first violation, and the tick of it.
    pub violation: Option<(Tick, String)>,
    /// How often the planted bug struck.
    pub strikes: u64,
    /// What went wrong by plan, and when.
    pub story: Vec<String>,
}

enum Packet {
    Datagram(Vec<u8>),
    Control(Vec<u8>),
    Closed(CloseCode),
}

enum Event {
    /// For the server of a run, if it still stands.
    Server(u32, ServerEvent),
    ToServer(u64, Packet),
    ToClient(u64, Packet),
    Pulse(usize),
    Come(usize),
    /// A connection attempt fails, or a connection is found to be dead.
    ClientGivesUp(u64),
    LinkDown(LinkId, Vec<u8>),
    Fault(Fault),
    End(LinkId, End),
    DiskWell,
    PowerGoes,
    Restart,
    Rest,
    Over,
}

enum ServerEvent {
    Tick,
    Stepped(Box<Stepped>),
    Packed(Box<Packed>),
    Knock(u64, Box<Examined>),
    ConnectionLost(u64),
    LinkUp(LinkId, Vec<u8>),
    LinkBroken(LinkId),
    DiskApplies,
    DiskSyncs,
}

struct Connection {
    walker: usize,
    client: Option<ClientKey>,
    up: Way,
    down: Way,
    heard: Assembler,
    is_known: bool,
}

/// A simulated world.
pub struct World {
    seed: u64,
    queue: Queue,
    rules: (WorldRules, String),
    host: Option<Host>,
    /// What outlives a server that is down.
    between: Option<(Arc<MemoryStore>, Truth, Saboteur)>,
    run: u32,
    walkers: Vec<Walker>,
    eyes: Vec<Eyes>,
    qualities: Vec<Quality>,
    /// When a walker's line or place was disturbed last.
    disturbed_us: Vec<u64>,
    /// When a walker was told last that the server had no input of its and repeated one.
    repeated_us: Vec<u64>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    processes: BTreeMap<LinkId, Process>,
    next_process: u64,
    network: Dice,
    timing: Dice,
    disk_trouble_us: u64,
    slow_us: u64,
    overload_until_us: u64,
    stall_until_us: u64,
    /// Whether a stalled disk does not even show what it was given.
    holds_writes: bool,
    /// The time from one tick to the next, and when that changed last.
    pace_us: (u64, u64),
    answered_us: BTreeMap<RegionIndex, u64>,
    is_resting: bool,
    last_tick: Tick,
    hasher: DefaultHasher,
    figures: Figures,
    story: Vec<String>,
}

type Queue = super::queue::Queue<Event>;

/// Runs the world of a seed, with a planted bug or without one.
///
/// # Panics
/// Never: what panics in the cores is a violation, and is returned as one.
#[must_use]
pub fn run(seed: u64, planted: Option<Break>) -> Outcome {
    let mut world = match World::new(seed, planted) {
        Ok(world) => world,
        Err(why) => return failed(seed, why),
    };
    let violation = loop {
        let Some(event) = world.queue.step() else { break Some("nothing is to come".into()) };
        if matches!(event, Event::Over) {
            break world.check_end().err();
        }
        let happened =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.happen(event)));
        match happened {
            Ok(Ok(())) => {}
            Ok(Err(why)) => break Some(why),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
                break Some(format!("panic: {}", text.unwrap_or_default()));
            }
        }
    };
    world.outcome(violation)
}

fn failed(seed: u64, why: String) -> Outcome {
    let violation = Some((Tick(0), why));
    Outcome { seed, figures: Figures::default(), hash: 0, violation, strikes: 0, story: Vec::new() }
}

impl World {
    fn new(seed: u64, planted: Option<Break>) -> Result<Self, String> {
        let (rules, text) = scene::rules();
        let things = scene::things(&rules, seed);
        let store = Arc::new(MemoryStore::new(seed));
        host::furnish(&store, &things)?;
        let truth = Truth::of(rules.regions.clone(), &things);
        let saboteur = Saboteur::new(planted, seed);
        let mut chance = Dice::of_part(seed, 3);
        let walkers = (0..WALKERS).map(|it| Walker::new(it, Arc::clone(&rules.book), seed));
        let mut world = Self {
            seed,
            queue: Queue::default(),
            host: None,
            between: Some((store, truth, saboteur)),
            run: 0,
            walkers: walkers.collect(),
            eyes: (0..WALKERS).map(|_| Eyes::default()).collect(),
            qualities: (0..WALKERS).map(|_| Quality::draw(&mut chance)).collect(),
            disturbed_us: vec![0; WALKERS as usize],
            repeated_us: vec![0; WALKERS as usize],
            connections: BTreeMap::new(),
            next_connection: 1,
            processes: BTreeMap::new(),
            next_process: 1,
            network: Dice::of_part(seed, 4),
            timing: Dice::of_part(seed, 5),
            disk_trouble_us: 0,
            slow_us: 0,
            overload_until_us: 0,
            stall_until_us: 0,
            holds_writes: false,
            pace_us: (TICK_US, 0),
            answered_us: BTreeMap::new(),
            is_resting: false,
            last_tick: Tick(0),
            hasher: DefaultHasher::new(),
            figures: Figures::default(),
            story: Vec::new(),
            rules: (rules, text),
        };
        world.start()?;
        for walker in 0..WALKERS as usize {
            let at_us = chance.below(1_500_000);
            world.queue.at(at_us, Event::Come(walker));
            world.queue.at(at_us, Event::Pulse(walker));
        }
        for (at_us, fault) in plan::faults(seed, WALKERS) {
            world.queue.at(at_us, Event::Fault(fault));
        }
        for (at_us, fault) in plan::divisions(seed) {
            world.queue.at(at_us, Event::Fault(fault));
        }
        world.queue.at(REST_US, Event::Rest);
        world.queue.at(END_US, Event::Over);
        Ok(world)
    }

    fn outcome(mut self, violation: Option<String>) -> Outcome {
        let (mut strikes, mut tick) = (0, self.last_tick);
        if let Some(host) = &self.host {
            (strikes, tick) = (host.saboteur.strikes, host.tick);
            self.figures.count(host);
        } else if let Some((.., saboteur)) = &self.between {
            strikes = saboteur.strikes;
        }
        for walker in &self.walkers {
            self.figures.done += walker.answers.0;
            self.figures.refused += walker.answers.1;
        }
        Outcome {
            seed: self.seed,
            figures: self.figures,
            hash: self.hasher.finish(),
            violation: violation.map(|why| (tick, why)),
            strikes,
            story: self.story,
        }
    }

    /// Starts the server on what its disk holds.
    fn start(&mut self) -> Check {
        let Some((store, truth, saboteur)) = self.between.take() else { return Ok(()) };
        let now_us = self.queue.now_us();
        let rules = self.rules.clone();
        let host = Host::start(rules, Arc::clone(&store), (truth, saboteur), now_us)?;
        if 0 < self.run && host.tick <= self.last_tick {
            return Err(format!(
                "world time was at tick {} and begins again at {}",
                self.last_tick.0, host.tick.0
            ));
        }
        self.run += 1;
        self.last_tick = host.tick;
        self.tell(&("the server starts", self.run));
        store.set_fault(DiskFault::Hold);
        self.host = Some(host);
        self.server_after(0, ServerEvent::Tick);
        self.server_after(1_000, ServerEvent::DiskApplies);
        Ok(())
    }

    fn server_after(&mut self, delay_us: u64, event: ServerEvent) {
        self.queue.after(delay_us, Event::Server(self.run, event));
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::Server(run, event) if run == self.run && self.host.is_some() => {
                self.serve(event)?;
            }
            Event::Server(..) | Event::Over => {}
            Event::ToServer(connection, packet) => self.server_hears(connection, packet),
            Event::ToClient(connection, packet) => self.client_hears(connection, packet)?,
            Event::Pulse(walker) => self.pulse(walker),
            Event::Come(walker) => self.come(walker)?,
            Event::ClientGivesUp(connection) => self.client_gives_up(connection),
            Event::LinkDown(link, frame) => self.process_hears(link, &frame)?,
            Event::Fault(fault) => self.strike(fault)?,
            Event::End(link, end) => self.end_process(link, end)?,
            Event::DiskWell => {
                if let Some(host) = &self.host {
                    host.store.set_fault(DiskFault::Hold);
                }
            }
            Event::PowerGoes => self.cut_power()?,
            Event::Restart => self.start()?,
            Event::Rest => {
                self.is_resting = true;
                self.walkers.iter_mut().for_each(Walker::halt);
            }
        }
        self.send();
        Ok(())
    }

    fn serve(&mut self, event: ServerEvent) -> Check {
        let now_us = self.queue.now_us();
        let Some(host) = &mut self.host else { return Ok(()) };
        host.at(now_us);
        match event {
            ServerEvent::Tick => {
                let is_over = host.begin_tick()?;
                let period_us = host.period_us();
                self.figures.ticks += 1;
                self.server_after(period_us, ServerEvent::Tick);
                if is_over {
                    self.end_tick()?;
                }
            }
            ServerEvent::Stepped(stepped) => {
                if host.take_step(*stepped)? {
                    self.end_tick()?;
                }
            }
            ServerEvent::Packed(packed) => host.settle(Place::Here, *packed)?,
            ServerEvent::Knock(connection, examined) => {
                let client = host.enter(*examined)?;
                self.figures.entries += u64::from(client.is_some());
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.client = client;
                }
            }
            ServerEvent::ConnectionLost(connection) => host.lose_connection(connection),
            ServerEvent::LinkUp(link, frame) => {
                let body = frame.get(LENGTH_BYTES..).ok_or("a frame without a length")?;
                let said = read::<Up>(body).map_err(|error| error.to_string())?;
                if let Up::Packed { .. } = said {
                    self.figures.moves += 1;
                }
                host.hear_link(link, said)?;
            }
            ServerEvent::LinkBroken(link) => {
                self.figures.takeovers += u64::from(host.knows(link));
                host.lose_link(link);
                self.tell(&(link, "is gone"));
                self.processes.remove(&link);
            }
            ServerEvent::DiskApplies => {
                let is_well = host.store.subscribe().borrow().trouble.is_none();
                if is_well && !(self.holds_writes && now_us < self.stall_until_us) {
                    host.store.apply();
                }
                let delay_us = self.timing.between(500, 9_000);
                self.server_after(delay_us, ServerEvent::DiskSyncs);
            }
            ServerEvent::DiskSyncs => {
                if self.stall_until_us <= now_us {
                    host.store.sync();
                } else {
                    self.disk_trouble_us = now_us;
                }
                let delay_us = self.timing.between(2_000, 40_000);
                self.server_after(delay_us, ServerEvent::DiskApplies);
            }
        }
        Ok(())
    }

    fn end_tick(&mut self) -> Check {
        let now_us = self.queue.now_us();
        let is_overloaded = now_us < self.overload_until_us;
        let took = Duration::from_millis(if is_overloaded { 90 } else { 5 });
        let Some(host) = &mut self.host else { return Ok(()) };
        host.end_tick(took)?;
        if self.pace_us.0 != host.period_us() {
            self.pace_us = (host.period_us(), now_us);
        }
        if !host.is_at_full_pace() {
            self.slow_us = now_us;
        }
        self.last_tick = host.tick;
        if !host.can_store() {
            self.disk_trouble_us = now_us;
        }
        self.check_tick()
    }

    /// Sends what the server has to say.
    fn send(&mut self) {
        let Some(host) = &mut self.host else { return };
        let out = host.take_out();
        let now_us = self.queue.now_us();
        for out in out {
            match out {
                Out::Control { connection, bytes } => {
                    self.hasher.write(&bytes);
                    self.carry_down(connection, Packet::Control(bytes));
                }
                Out::Datagram { connection, bytes } => {
                    self.hasher.write(&bytes);
                    self.carry_down(connection, Packet::Datagram(bytes));
                }
                Out::Close { connection, code } => {
                    self.carry_down(connection, Packet::Closed(code));
                    if let Some(connection) = self.connections.get_mut(&connection) {
                        connection.client = None;
                        connection.is_known = false;
                    }
                }
                Out::Link { link, frame } => {
                    self.hasher.write_usize(frame.len());
                    if let Some(process) = self.processes.get_mut(&link) {
                        let at_us = process.down_at(now_us);
                        self.queue.at(at_us, Event::LinkDown(link, frame));
                    }
                }
                Out::Stepped(stepped) => {
                    let delay_us = self.answers_after_us(stepped.region);
                    self.server_after(delay_us, ServerEvent::Stepped(stepped));
                }
                Out::Packed(packed) => {
                    let delay_us = self.answers_after_us(packed.region());
                    self.server_after(delay_us, ServerEvent::Packed(packed));
                }
            }
        }
    }

    /// Returns how long it takes until what a shard of the server did is heard of: one shard answers
    /// in order, all of them in any.
    fn answers_after_us(&mut self, region: RegionIndex) -> u64 {
        let now_us = self.queue.now_us();
        let last = self.answered_us.entry(region).or_default();
        *last = (*last).max(now_us + self.timing.between(300, 15_000));
        *last - now_us
    }

    fn carry_down(&mut self, connection: u64, packet: Packet) {
        let now_us = self.queue.now_us();
        let Some(way) = self.connections.get_mut(&connection) else { return };
        match packet {
            Packet::Datagram(bytes) => {
                for at_us in way.down.datagram(now_us, &mut self.network) {
                    let packet = Packet::Datagram(bytes.clone());
                    self.queue.at(at_us, Event::ToClient(connection, packet));
                }
            }
            packet @ (Packet::Control(_) | Packet::Closed(_)) => {
                let at_us = way.down.control(now_us, &mut self.network);
                self.queue.at(at_us, Event::ToClient(connection, packet));
            }
        }
    }

    fn carry_up(&mut self, connection: u64, packet: Packet) {
        let now_us = self.queue.now_us();
        let Some(way) = self.connections.get_mut(&connection) else { return };
        match packet {
            Packet::Datagram(bytes) => {
                for at_us in way.up.datagram(now_us, &mut self.network) {
                    let packet = Packet::Datagram(bytes.clone());
                    self.queue.at(at_us, Event::ToServer(connection, packet));
                }
            }
            packet @ (Packet::Control(_) | Packet::Closed(_)) => {
                let at_us = way.up.control(now_us, &mut self.network);
                self.queue.at(at_us, Event::ToServer(connection, packet));
            }
        }
    }

    fn server_hears(&mut self, connection: u64, packet: Packet) {
        let now_us = self.queue.now_us();
        let Some(line) = self.connections.get_mut(&connection) else { return };
        let Some(host) = &mut self.host else { return };
        host.at(now_us);
        match packet {
            Packet::Datagram(bytes) => {
                if let (Some(client), Ok(mut input)) = (line.client, InputDatagram::decode(&bytes))
                {
                    if host.saboteur.strikes(Break::ReplayInputs, 60) {
                        input.head.newest = input.head.newest.wrapping_add(1);
                    }
                    host.input(client, input);
                }
            }
            Packet::Control(bytes) => {
                line.heard.extend(&bytes);
                let mut messages = Vec::new();
                while let Ok(Some(frame)) = line.heard.next(MESSAGE_BYTES_MAX) {
                    messages.extend(ClientMessage::read(frame).ok().flatten());
                }
                for message in messages {
                    self.server_reads(connection, message);
                }
            }
            Packet::Closed(_) => {
                let noticed = ServerEvent::ConnectionLost(connection);
                self.server_after(0, noticed);
            }
        }
    }

    fn server_reads(&mut self, connection: u64, message: ClientMessage) {
        let Some(line) = self.connections.get(&connection) else { return };
        let Some(host) = &mut self.host else { return };
        if let ClientMessage::Hello(hello) = message {
            match host.examine(connection, hello) {
                Ok(examined) => {
                    let delay_us = self.timing.between(500, 120_000);
                    let knock = ServerEvent::Knock(connection, Box::new(examined));
                    self.server_after(delay_us, knock);
                }
                Err(refusal) => self.carry_down(connection, Packet::Closed(refusal.code)),
            }
            return;
        }
        if let Some(client) = line.client {
            host.hear(client, message);
        }
    }

    fn client_hears(&mut self, connection: u64, packet: Packet) -> Check {
        let now_us = self.queue.now_us();
        let Some(line) = self.connections.get(&connection) else { return Ok(()) };
        let (index, client) = (line.walker, line.client);
        let round_trip_us = line.up.quality.delay_us + line.down.quality.delay_us;
        let walker = &mut self.walkers[index];
        if walker.connection != connection {
            return Ok(());
        }
        let news = match packet {
            Packet::Control(bytes) => walker.hear(&bytes, now_us)?,
            Packet::Closed(code) => walker.closed(Some(u64::from(code.number()))),
            Packet::Datagram(bytes) => {
                let Some(seen) = walker.frame(&bytes, round_trip_us, now_us)? else {
                    return Ok(());
                };
                self.figures.frames += 1;
                let Some(host) = &self.host else { return Ok(()) };
                eyes::check_frame(&self.walkers[index], &host.truth, seen.tick)?;
                if seen.is_repeated {
                    self.repeated_us[index] = now_us;
                }
                return self.check_correction(index, seen.tick, seen.correction);
            }
        };
        for news in news {
            match news {
                News::Done(request) => {
                    if let (Some(host), Some(client)) = (&mut self.host, client) {
                        host.truth.acknowledge(client, request);
                    }
                }
                News::Welcomed => self.disturb(index, now_us),
                News::Ended { resumes } => self.ended(index, resumes),
            }
        }
        Ok(())
    }

    fn ended(&mut self, index: usize, resumes: bool) {
        if !resumes {
            self.walkers[index].forget_session();
        }
        self.disturb(index, self.queue.now_us());
        // Whoever left in good order may be back at once.
        let least_us = if resumes { 125_000 } else { 1_000 };
        let delay_us = self.timing.between(least_us, if resumes { 1_500_000 } else { 300_000 });
        self.queue.after(delay_us, Event::Come(index));
    }

    fn pulse(&mut self, index: usize) {
        let now_us = self.queue.now_us();
        let half_width_cm = self.rules.0.regions.half_width_cm();
        let walker = &mut self.walkers[index];
        let connection = walker.connection;
        if let Some(bytes) = walker.input(now_us) {
            if !self.is_resting {
                walker.wander(half_width_cm);
                walker.act(now_us);
            }
            self.carry_up(connection, Packet::Datagram(bytes));
        }
        let bytes = self.walkers[index].take_output();
        if !bytes.is_empty() {
            self.carry_up(connection, Packet::Control(bytes));
        }
        let due_us = self.walkers[index].due_us(now_us);
        self.queue.at(due_us, Event::Pulse(index));
    }

    fn come(&mut self, index: usize) -> Check {
        if self.walkers[index].stage != Stage::Out {
            return Ok(());
        }
        let connection = self.next_connection;
        self.next_connection += 1;
        self.walkers[index].come(connection, self.queue.now_us())?;
        let way = || Way::new(self.qualities[index]);
        let line = Connection {
            walker: index,
            client: None,
            up: way(),
            down: way(),
            heard: Assembler::default(),
            is_known: true,
        };
        self.connections.insert(connection, line);
        if self.host.is_none() {
            // Nobody answers.
            self.queue.after(500_000, Event::ClientGivesUp(connection));
            return Ok(());
        }
        let greeting = Packet::Control(Host::greeting());
        let delay_us = 2 * self.qualities[index].delay_us;
        self.queue.after(delay_us, Event::ToClient(connection, greeting));
        Ok(())
    }

    fn client_gives_up(&mut self, connection: u64) {
        let Some(line) = self.connections.get(&connection) else { return };
        let index = line.walker;
        if self.walkers[index].connection != connection {
            return;
        }
        let news = self.walkers[index].closed(None);
        for news in news {
            if let News::Ended { resumes } = news {
                self.ended(index, resumes);
            }
        }
    }

    fn process_hears(&mut self, link: LinkId, frame: &[u8]) -> Check {
        let now_us = self.queue.now_us();
        let Some(process) = self.processes.get_mut(&link) else { return Ok(()) };
        if !process.is_alive {
            return Ok(());
        }
        if let Some(answer) = process.hear(frame)? {
            let at_us = process.up_at(now_us);
            let delay_us = at_us - now_us;
            self.server_after(delay_us, ServerEvent::LinkUp(link, answer));
        }
        Ok(())
    }
}
