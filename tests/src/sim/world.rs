//! A whole world in one thread: server, processes, network, disk, clients and what goes wrong, one
//! event after the other.
//!
//! The same seed makes the same events, the same bytes and the same hash. What may never happen is
//! checked after every tick; the first violation ends the run.

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
use server::link::{LENGTH_BYTES, Up, read, write};
use server::region::RegionIndex;
use server::shard::WorldRules;
use server::shard::viewer::ClientKey;
use server::store::memory::Fault as DiskFault;
use server::store::{MemoryStore, Store as _};

use super::breaks::{Break, Saboteur};
use super::eyes::{self, Eyes};
use super::host::{self, Examined, Host, Out, Stepped};
use super::network::{Quality, Way};
use super::plan::{self, END_US, End, Fault, REST_US};
use super::process::Process;
use super::scene;
use super::stream::Stream;
use super::truth::{Check, Truth};
use super::walker::{News, Stage, Walker};

/// Clients of one world.
pub const WALKERS: u64 = 24;

/// Ticks after a disturbance in which a client's prediction may be set right.
const STEADY_TICKS: u64 = 60;

/// How long a client may go by an old pace of the world after it changed.
const PACE_TOLD_US: u64 = 1_500_000;

/// How long an input that came too late may show.
const REPEATED_US: u64 = 500_000;

/// Microseconds of a tick at full pace.
const TICK_US: u64 = 50_000;

/// How long a server takes to start again.
const RESTART_US: (u64, u64) = (300_000, 1_500_000);

/// Figures of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Ticks.
    pub ticks: u64,
    /// Hand-offs from shard to shard.
    pub crossings: u64,
    /// Shards that moved to another process, or home.
    pub moves: u64,
    /// Processes that were lost, and whose regions began anew.
    pub takeovers: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Entries of the journal that power cuts took, none of them confirmed to anybody.
    pub lost_entries: u64,
    /// Times at which the disk took nothing.
    pub disk_troubles: u64,
    /// Lines that were cut for a while.
    pub cuts: u64,
    /// Connections that broke.
    pub breaks: u64,
    /// Stays that ended in good order.
    pub leaves: u64,
    /// Times somebody came in.
    pub entries: u64,
    /// Requests carried out.
    pub done: u64,
    /// Requests refused.
    pub refused: u64,
    /// Frames seen, each state in it held against the truth.
    pub frames: u64,
    /// Predictions held against the server's body while nothing disturbed them.
    pub predictions: u64,
}

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
    network: Stream,
    timing: Stream,
    disk_trouble_us: u64,
    slow_us: u64,
    overload_until_us: u64,
    stall_until_us: u64,
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
        let Some(event) = world.queue.next() else { break Some("nothing is to come".into()) };
        if matches!(event, Event::Over) {
            break world.check_end().err();
        }
        let happened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.happen(event)
        }));
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
        let truth = Truth::of(rules.regions, &things);
        let saboteur = Saboteur::new(planted, seed);
        let mut chance = Stream::of(seed, 3);
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
            network: Stream::of(seed, 4),
            timing: Stream::of(seed, 5),
            disk_trouble_us: 0,
            slow_us: 0,
            overload_until_us: 0,
            stall_until_us: 0,
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
        world.queue.at(REST_US, Event::Rest);
        world.queue.at(END_US, Event::Over);
        Ok(world)
    }

    fn outcome(mut self, violation: Option<String>) -> Outcome {
        let (mut strikes, mut tick) = (0, self.last_tick);
        if let Some(host) = &self.host {
            (strikes, tick) = (host.saboteur.strikes, host.tick);
            self.figures.crossings += host.crossings;
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
            Event::ToServer(connection, packet) => self.server_hears(connection, packet)?,
            Event::ToClient(connection, packet) => self.client_hears(connection, packet)?,
            Event::Pulse(walker) => self.pulse(walker),
            Event::Come(walker) => self.come(walker)?,
            Event::ClientGivesUp(connection) => self.client_gives_up(connection)?,
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
        self.send()
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
                if is_well {
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
    fn send(&mut self) -> Check {
        let Some(host) = &mut self.host else { return Ok(()) };
        let out = host.take_out();
        let now_us = self.queue.now_us();
        for out in out {
            match out {
                Out::Control { connection, bytes } => {
                    self.hasher.write(&bytes);
                    self.to_client(connection, Packet::Control(bytes));
                }
                Out::Datagram { connection, bytes } => {
                    self.hasher.write(&bytes);
                    self.to_client(connection, Packet::Datagram(bytes));
                }
                Out::Close { connection, code } => {
                    self.to_client(connection, Packet::Closed(code));
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
                    // One shard answers in order, all of them in any.
                    let last = self.answered_us.entry(stepped.region).or_default();
                    *last = (*last).max(now_us + self.timing.between(300, 15_000));
                    let delay_us = *last - now_us;
                    self.server_after(delay_us, ServerEvent::Stepped(stepped));
                }
            }
        }
        Ok(())
    }

    fn to_client(&mut self, connection: u64, packet: Packet) {
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

    fn to_server(&mut self, connection: u64, packet: Packet) {
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

    fn server_hears(&mut self, connection: u64, packet: Packet) -> Check {
        let now_us = self.queue.now_us();
        let Some(line) = self.connections.get_mut(&connection) else { return Ok(()) };
        let Some(host) = &mut self.host else { return Ok(()) };
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
                    self.server_reads(connection, message)?;
                }
            }
            Packet::Closed(_) => {
                let noticed = ServerEvent::ConnectionLost(connection);
                self.server_after(0, noticed);
            }
        }
        Ok(())
    }

    fn server_reads(&mut self, connection: u64, message: ClientMessage) -> Check {
        let Some(line) = self.connections.get(&connection) else { return Ok(()) };
        let Some(host) = &mut self.host else { return Ok(()) };
        if let ClientMessage::Hello(hello) = message {
            match host.examine(connection, hello) {
                Ok(examined) => {
                    let delay_us = self.timing.between(500, 120_000);
                    let knock = ServerEvent::Knock(connection, Box::new(examined));
                    self.server_after(delay_us, knock);
                }
                Err(refusal) => self.to_client(connection, Packet::Closed(refusal.code)),
            }
            return Ok(());
        }
        match line.client {
            Some(client) => host.hear(client, message),
            None => Ok(()),
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

    /// Notes that a walker's line or place is disturbed until then.
    fn disturb(&mut self, index: usize, until_us: u64) {
        self.disturbed_us[index] = self.disturbed_us[index].max(until_us);
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

    /// Checks that a prediction that nothing disturbs needs no correction.
    fn check_correction(
        &mut self,
        index: usize,
        tick: Tick,
        correction: Option<protocol::replica::Correction>,
    ) -> Check {
        let now_us = self.queue.now_us();
        let (Some(correction), Some(host)) = (correction, &self.host) else { return Ok(()) };
        let walker = &self.walkers[index];
        let Some(seat) = walker.avatar.and_then(|own| host.truth.at(tick, own)) else {
            return Ok(());
        };
        let steady_us = STEADY_TICKS * TICK_US;
        let is_steady = self.qualities[index].is_even()
            && self.disturbed_us[index] + steady_us < now_us
            && self.repeated_us[index] + REPEATED_US < now_us
            && self.slow_us + steady_us < now_us
            && host.truth.is_calm(seat.region, tick, STEADY_TICKS);
        if !is_steady {
            return Ok(());
        }
        self.figures.predictions += 1;
        if correction.cm == 0.0 {
            return Ok(());
        }
        Err(format!(
            "{} was set right by {:.1} cm at tick {} though nothing disturbed it",
            walker.name(),
            correction.cm,
            tick.0
        ))
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
            self.to_server(connection, Packet::Datagram(bytes));
        }
        let bytes = self.walkers[index].take_output();
        if !bytes.is_empty() {
            self.to_server(connection, Packet::Control(bytes));
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

    fn client_gives_up(&mut self, connection: u64) -> Check {
        let Some(line) = self.connections.get(&connection) else { return Ok(()) };
        let index = line.walker;
        if self.walkers[index].connection != connection {
            return Ok(());
        }
        let news = self.walkers[index].closed(None);
        for news in news {
            if let News::Ended { resumes } = news {
                self.ended(index, resumes);
            }
        }
        Ok(())
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

    fn tell(&mut self, what: &dyn std::fmt::Debug) {
        let tick = self.host.as_ref().map_or(self.last_tick, |host| host.tick);
        self.story.push(format!("{:>6} ms, tick {:>4}: {what:?}", self.queue.now_us() / 1_000, tick.0));
    }

    fn strike(&mut self, fault: Fault) -> Check {
        let now_us = self.queue.now_us();
        self.tell(&fault);
        match fault {
            Fault::Join { regions, end } => self.join(regions, end)?,
            Fault::DiskTrouble { is_full } => {
                let Some(host) = &self.host else { return Ok(()) };
                let trouble = if is_full { DiskFault::Full } else { DiskFault::Fail };
                host.store.set_fault(trouble);
                self.figures.disk_troubles += 1;
                self.disk_trouble_us = now_us;
                let delay_us = self.timing.between(100_000, 2_500_000);
                self.queue.after(delay_us, Event::DiskWell);
            }
            Fault::PowerCut => {
                // What is written lately is in the disk's cache alone when the power goes.
                let stall_us = self.timing.below(1_200_000);
                self.stall_until_us = now_us + stall_us;
                self.queue.after(stall_us, Event::PowerGoes);
            }
            Fault::Overload => {
                self.overload_until_us = now_us + self.timing.between(2_000_000, 4_000_000);
            }
            Fault::Cut { walker, us } => {
                let index = walker as usize;
                self.figures.cuts += 1;
                self.disturb(index, now_us + us);
                let connection = self.walkers[index].connection;
                if let Some(line) = self.connections.get_mut(&connection) {
                    line.up.cut_until_us = now_us + us;
                    line.down.cut_until_us = now_us + us;
                }
            }
            Fault::Break { walker, noticed_us } => {
                let index = walker as usize;
                if self.walkers[index].stage == Stage::Out {
                    return Ok(());
                }
                self.figures.breaks += 1;
                let connection = self.walkers[index].connection;
                if let Some(line) = self.connections.get_mut(&connection) {
                    line.up.cut_until_us = u64::MAX / 2;
                    line.down.cut_until_us = u64::MAX / 2;
                }
                self.server_after(noticed_us, ServerEvent::ConnectionLost(connection));
                self.client_gives_up(connection)?;
            }
            Fault::Leave { walker } => {
                let index = walker as usize;
                if self.walkers[index].stage == Stage::In {
                    self.figures.leaves += 1;
                    self.walkers[index].leave();
                }
            }
        }
        Ok(())
    }

    fn join(&mut self, wanted: u64, end: End) -> Check {
        let count = u64::from(self.rules.0.regions.count());
        let first = self.timing.below(count);
        let regions = (0..wanted).map(|it| RegionIndex(((first + it) % count) as u16));
        let regions: Vec<RegionIndex> = regions.collect();
        let Some(host) = &mut self.host else { return Ok(()) };
        let Some(link) = host.join(&regions)? else { return Ok(()) };
        self.tell(&(link, &regions));
        self.processes.insert(link, Process::new(self.seed, self.next_process));
        self.next_process += 1;
        self.figures.moves += wanted;
        let delay_us = self.timing.between(1_500_000, 4_000_000);
        self.queue.after(delay_us, Event::End(link, end));
        Ok(())
    }

    fn end_process(&mut self, link: LinkId, end: End) -> Check {
        let now_us = self.queue.now_us();
        self.tell(&(link, end));
        let Some(process) = self.processes.get_mut(&link) else { return Ok(()) };
        match end {
            End::Departs => {
                let frame = write(&Up::Leave).map_err(|error| error.to_string())?;
                let delay_us = process.up_at(now_us) - now_us;
                self.server_after(delay_us, ServerEvent::LinkUp(link, frame));
            }
            End::Killed => {
                process.is_alive = false;
                // The connection breaks at once, or the silence is noticed first.
                let delay_us = self.timing.between(1_000, 2_000_000);
                self.server_after(delay_us, ServerEvent::LinkBroken(link));
            }
            End::Muted => {
                process.mute_until_us = now_us + self.timing.between(200_000, 2_500_000);
            }
        }
        Ok(())
    }

    fn cut_power(&mut self) -> Check {
        self.tell(&"the power goes");
        let Some(host) = self.host.take() else { return Ok(()) };
        self.figures.power_cuts += 1;
        self.figures.crossings += host.crossings;
        self.last_tick = host.tick;
        let Host { store, mut truth, mut saboteur, .. } = host;
        let store = Arc::new(store.crash());
        if saboteur.strikes(Break::TearBatch, 1) {
            truth.tear(&store)?;
        }
        let lost = truth.survive(host::stored_things(&store)?)?;
        self.figures.lost_entries += lost as u64;
        self.between = Some((store, truth, saboteur));
        self.processes.clear();
        let connections: Vec<u64> = self.connections.keys().copied().collect();
        for connection in connections {
            let Some(line) = self.connections.get_mut(&connection) else { continue };
            line.client = None;
            let walker = &self.walkers[line.walker];
            if walker.connection == connection && walker.stage != Stage::Out {
                line.down.cut_until_us = u64::MAX / 2;
                let delay_us = self.timing.between(100_000, 2_000_000);
                self.queue.after(delay_us, Event::ClientGivesUp(connection));
            } else {
                self.connections.remove(&connection);
            }
        }
        let delay_us = self.timing.between(RESTART_US.0, RESTART_US.1);
        self.queue.after(delay_us, Event::Restart);
        Ok(())
    }

    /// Returns the longest that something is under way between a client and the server, in ticks.
    fn way_ticks(&self, index: usize) -> u32 {
        let us = 2 * self.qualities[index].control_us_max();
        u32::try_from(us / TICK_US).unwrap_or(u32::MAX) + 1
    }

    fn check_tick(&mut self) -> Check {
        let now_us = self.queue.now_us();
        let Some(host) = &self.host else { return Ok(()) };
        let tick = host.tick;
        host.truth.check_stacks(tick)?;
        for (avatar, region) in host.seats() {
            host.truth.check_owned(avatar, region, tick)?;
        }
        // What other processes did in this tick is known with the next.
        let tick = Tick(tick.0.saturating_sub(1));
        for index in 0..self.walkers.len() {
            let way_ticks = self.way_ticks(index);
            let walker = &mut self.walkers[index];
            let seat = walker.avatar.and_then(|own| host.truth.at(tick, own));
            let is_undisturbed = walker.stage == Stage::In
                && self.disturbed_us[index] + 500_000 < now_us
                && seat.is_some_and(|seat| host.truth.is_calm(seat.region, tick, 20));
            if !is_undisturbed {
                self.eyes[index].blink();
                walker.excuse();
                continue;
            }
            if self.disk_trouble_us + 1_000_000 < now_us {
                walker.wait(tick, way_ticks)?;
            } else {
                walker.excuse();
            }
            let known_us = walker.replica.as_ref().map(|replica| replica.clock().tick_us());
            let is_told = known_us.is_none_or(|known_us| known_us.abs_diff(self.pace_us.0) <= 1);
            if !is_told && host.is_pace_steady() && self.pace_us.1 + PACE_TOLD_US < now_us {
                return Err(format!(
                    "{} thinks that a tick takes {known_us:?} us, and it takes {}",
                    walker.name(),
                    self.pace_us.0
                ));
            }
            self.eyes[index].look(walker, &host.truth, tick, way_ticks)?;
        }
        Ok(())
    }

    /// Checks, when all has been at rest for a while, that everyone and everything agrees.
    fn check_end(&mut self) -> Check {
        let Some(host) = &self.host else { return Err("the server did not come back".into()) };
        if !host.is_settled() {
            return Err("what was done does not come to rest on the disk".into());
        }
        host.truth.check_store(&host::stored_things(&host.store)?)?;
        for region in (0..self.rules.0.regions.count()).map(RegionIndex) {
            if host.hosting.place(region) != Some(Place::Here) && self.processes.is_empty() {
                return Err(format!("region {} runs nowhere", region.0));
            }
        }
        for walker in &self.walkers {
            if walker.stage != Stage::In {
                return Err(format!("{} is not in the world", walker.name()));
            }
            if 0 < walker.unanswered() {
                return Err(format!("{} waits for an answer for ever", walker.name()));
            }
            self.check_picture(host, walker)?;
        }
        Ok(())
    }

    fn check_picture(&self, host: &Host, walker: &Walker) -> Check {
        let (Some(own), Some(replica)) = (walker.avatar, &walker.replica) else {
            return Err(format!("{} sees nothing", walker.name()));
        };
        let known: BTreeMap<_, u32> =
            replica.log().holding.iter().map(|thing| (thing.id, thing.count)).collect();
        let held = host.truth.keeping.held_by(walker.person);
        if known != held {
            return Err(format!("{} thinks it holds {known:?}, and holds {held:?}", walker.name()));
        }
        let tick = Tick(host.tick.0.saturating_sub(1));
        let Some(here) = host.truth.at(tick, own) else {
            return Err(format!("{} is nowhere", walker.name()));
        };
        for entity in replica.entities() {
            let Some(seat) = host.truth.at(tick, entity.id) else { continue };
            if seat.position != entity.newest().1.position {
                return Err(format!(
                    "{} at {:?} sees {} at {:?}, and it stands at {:?}",
                    walker.name(),
                    here.position,
                    entity.id,
                    entity.newest().1.position,
                    seat.position
                ));
            }
        }
        Ok(())
    }
}
