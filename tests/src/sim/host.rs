//! The server of a simulated world: the real pure cores, put together as the gateway does.
//!
//! Shards, switchboard, hosting, post, dilation, rows, sessions and the store's rules are the
//! server's own. What stands here in place of actors keeps the order in which the gateway calls
//! them, and nothing else; where a planted bug strikes is marked. What is to be sent is returned
//! as [`Out`].

mod divide;
mod enter;
mod hosts;
mod tick;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use protocol::close::CloseCode;
use protocol::ids::{ChunkId, EntityId, IdMint, PersonId, SessionId};
use protocol::input::InputDatagram;
use protocol::message::ServerMessage;
use protocol::message::server::{Notice, Refused};
use protocol::rules::{Thing, Why};
use protocol::units::Tick;
use server::admission::Refusal;
use server::config::{Config, Settings};
use server::departures::Departures;
use server::dilation::Dilation;
use server::division::Epochs;
use server::hosting::{Hosting, LinkId, Place};
use server::io::lobby::for_each_record;
use server::io::recovery::placed_things;
use server::people::PersonRecord;
use server::places::Places;
use server::post::{self, Post};
use server::region::{RegionIndex, Regions};
use server::rows::{self, ClockRow};
use server::session::{Reaction, Session};
use server::shard::batch::{Command, StepInput, StepOutput};
use server::shard::pack::Packed;
use server::shard::viewer::{ClientKey, Told};
use server::shard::{Shard, WorldRules};
use server::store::{Batch, Epoch, Key, MemoryStore, Number, Store as _, StoreError, Stored, Tree};
use server::switchboard::Switchboard;
use worldgen::chunk::Chunk;

use super::breaks::{Break, Saboteur};
use super::keeping::Rows;
use super::truth::Truth;

pub use enter::Examined;
pub use hosts::Recovery;

/// Ticks a second.
pub const HZ: u16 = 20;

/// Ticks without an answer after which a process is given up: the gateway's second.
const SILENCE_TICKS: u64 = 20;

/// Seconds between two times that it is written down where everyone is.
const SAVE_EVERY_MS: u64 = 5_000;

/// Milliseconds after which an avatar goes whose driver stays away.
const GRACE_MS: u64 = 6_000;

/// The number of a batch that the store has not taken yet.
const UNKNOWN: Number = Number(u64::MAX);

/// Unix time at which every simulated world begins, in milliseconds.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// What is to be sent.
#[derive(Debug)]
pub enum Out {
    /// A reliable message.
    Control {
        /// On which connection.
        connection: u64,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A datagram.
    Datagram {
        /// On which connection.
        connection: u64,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// The connection is closed behind what was sent.
    Close {
        /// Which.
        connection: u64,
        /// Why.
        code: CloseCode,
    },
    /// A frame for another process.
    Link {
        /// Which.
        link: LinkId,
        /// The frame.
        frame: Vec<u8>,
    },
    /// A step was made here; it is heard of a moment later.
    Stepped(Box<Stepped>),
    /// A shard was packed up here; it is heard of as a step would be.
    Packed(Box<Packed>),
}

/// A step that was made.
#[derive(Debug)]
pub struct Stepped {
    /// Whose shard.
    pub region: RegionIndex,
    /// Where.
    pub place: Place,
    /// To which tick.
    pub tick: Tick,
    /// What came of it.
    pub output: StepOutput,
}

/// One connected client.
pub struct Client {
    /// Its connection.
    pub connection: u64,
    /// Who.
    pub person: PersonId,
    /// What it drives.
    pub avatar: EntityId,
    stay: SessionId,
    judge: Session,
    told: Told,
    /// A letter that a planted bug keeps back.
    held_back: Option<ServerMessage>,
}

/// A server.
pub struct Host {
    /// How the world is divided.
    pub regions: Regions,
    rules: WorldRules,
    book_text: String,
    config: Config,
    /// The store.
    pub store: Arc<MemoryStore>,
    routes: Switchboard,
    /// Where every region runs.
    pub hosting: Hosting,
    shards: BTreeMap<RegionIndex, Shard>,
    links: BTreeMap<LinkId, bool>,
    recovery: Recovery,
    dividing: Option<divide::Dividing>,
    /// Ids that shards had left which are no more.
    mints: Vec<IdMint>,
    /// Everyone who is connected.
    pub clients: BTreeMap<ClientKey, Client>,
    people: BTreeMap<PersonId, PersonRecord>,
    owners: BTreeMap<EntityId, PersonId>,
    departures: Departures,
    post: Post,
    unsaved: VecDeque<Batch>,
    appended: Number,
    places: Places,
    ground: BTreeMap<ChunkId, Arc<Chunk>>,
    /// What a planted bug writes a tick late.
    unfinished: Vec<(Tick, Batch)>,
    epochs: Epochs,
    mint: IdMint,
    lobby_mint: IdMint,
    dilation: Dilation,
    /// The tick now.
    pub tick: Tick,
    open_steps: usize,
    now_us: u64,
    saved_at_ms: u64,
    next_client: u64,
    next_link: u64,
    out: Vec<Out>,
    stale: VecDeque<(Tick, RegionIndex, Command)>,
    /// What is so.
    pub truth: Truth,
    /// Plants a bug.
    pub saboteur: Saboteur,
    /// Hand-offs so far.
    pub crossings: u64,
    /// Entries of the journal so far.
    pub entries: u64,
    /// Times that a region was split.
    pub splits: u64,
    /// Times that four were merged.
    pub merges: u64,
}

impl Host {
    /// Returns the server of a world whose store holds what it holds, at time `now_us`.
    ///
    /// # Errors
    /// When what is stored cannot be read.
    pub fn start(
        (mut rules, book_text): (WorldRules, String),
        store: Arc<MemoryStore>,
        (truth, mut saboteur): (Truth, Saboteur),
        now_us: u64,
    ) -> Result<Self, String> {
        let regions = divide::divided(&store, &rules.regions)?;
        rules.regions = regions.clone();
        let run = store.run_epoch();
        let run = if 1 < run && saboteur.strikes(Break::ReuseIds, 1) { 1 } else { run };
        let mut mint = IdMint::new(run);
        let quarter = mint.left() / 4;
        let lobby_mint = mint.split(quarter).ok_or("a new mint has plenty")?;
        let share = quarter / regions.count() as u64;
        let clock = read_clock(&store).map_err(|error| error.to_string())?;
        let mut tick = clock.tick;
        if 1 < store.run_epoch() && !saboteur.strikes(Break::StaleClock, 1) {
            // World time never runs twice over what was not saved.
            tick = tick.after(2 * SAVE_EVERY_MS / 1_000 * u64::from(HZ));
        }
        let mut shards = BTreeMap::new();
        for region in regions.iter() {
            let ids = mint.split(share).ok_or("a new mint has plenty")?;
            shards.insert(region.index, Shard::new(region, rules.clone(), ids).at(tick));
        }
        let mut host = Self {
            routes: Switchboard::new(regions.clone()),
            hosting: Hosting::new(regions.indices(), tick, SILENCE_TICKS),
            regions: regions.clone(),
            rules,
            book_text,
            config: Settings::defaults().config,
            shards,
            links: BTreeMap::new(),
            recovery: Recovery::default(),
            dividing: None,
            mints: Vec::new(),
            clients: BTreeMap::new(),
            people: BTreeMap::new(),
            owners: BTreeMap::new(),
            departures: Departures::default(),
            post: Post::default(),
            unsaved: VecDeque::new(),
            appended: Number::default(),
            places: Places::default(),
            ground: BTreeMap::new(),
            unfinished: Vec::new(),
            epochs: Epochs::new(),
            mint,
            lobby_mint,
            dilation: Dilation::new(Duration::from_secs(1) / u32::from(HZ)),
            tick,
            open_steps: 0,
            now_us,
            saved_at_ms: 0,
            next_client: 1,
            next_link: 1,
            out: Vec::new(),
            stale: VecDeque::new(),
            truth,
            saboteur,
            crossings: 0,
            entries: 0,
            splits: 0,
            merges: 0,
            store,
        };
        host.truth.divide(&regions);
        let things = placed_things(&*host.store, &regions).map_err(|error| error.to_string())?;
        for (region, things) in things {
            host.routes.push(region, Command::Things(things));
        }
        for region in regions.indices() {
            let shard = divide::shard_id(region);
            let epoch = hosts::at_once(host.store.take_epoch(shard)).ok_or("a held epoch")?;
            host.epochs.insert(region, (shard, epoch.map_err(|error| error.to_string())?));
        }
        host.saved_at_ms = host.now_ms();
        host.save_clock()?;
        Ok(host)
    }

    /// Tells the time before anything else is asked.
    pub fn at(&mut self, now_us: u64) -> &mut Self {
        self.now_us = now_us;
        self
    }

    /// Returns what is to be sent, in order.
    pub fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    /// Returns the time from one tick to the next.
    #[must_use]
    pub fn period_us(&self) -> u64 {
        u64::try_from(self.dilation.period().as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns whether world time runs at its full pace, and will.
    #[must_use]
    pub fn is_at_full_pace(&self) -> bool {
        self.dilation.permille() == server::dilation::FULL && self.dilation.coming().is_none()
    }

    /// Returns whether no other pace of world time is announced.
    #[must_use]
    pub const fn is_pace_steady(&self) -> bool {
        self.dilation.coming().is_none()
    }

    /// Returns whether all that was done is on disk.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.unsaved.is_empty() && self.post.is_empty()
    }

    /// Returns whether acts can be kept at the moment.
    #[must_use]
    pub fn can_store(&self) -> bool {
        self.unsaved.is_empty() && self.store.subscribe().borrow().trouble.is_none()
    }

    const fn now_ms(&self) -> u64 {
        EPOCH_MS + self.now_us / 1_000
    }

    /// Sends a message on a client's control stream.
    fn send(&mut self, client: ClientKey, message: &ServerMessage) {
        let Some(to) = self.clients.get_mut(&client) else { return };
        if let ServerMessage::Announce(announce) = message {
            to.told.note(announce);
        }
        if let Some(request) = post::answer(message) {
            self.routes.answer(client, request);
        }
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.out.push(Out::Control { connection: to.connection, bytes });
    }

    /// Queues what a client sent for its avatar.
    pub fn input(&mut self, client: ClientKey, datagram: InputDatagram) {
        self.routes.input(client, datagram);
    }

    /// Hears what a client says; `react` is what the gateway makes of it.
    pub fn hear(&mut self, client: ClientKey, message: protocol::message::ClientMessage) {
        let (now_ms, tick) = (self.now_ms(), self.tick);
        let Some(place) = self.clients.get_mut(&client) else { return };
        for reaction in place.judge.hear(message, now_ms, tick) {
            self.react(client, reaction);
        }
    }

    fn react(&mut self, client: ClientKey, reaction: Reaction) {
        let can_store = self.can_store();
        let Some(place) = self.clients.get_mut(&client) else { return };
        let avatar = place.avatar;
        match reaction {
            Reaction::World(Command::Do { request, .. }) if !can_store => {
                self.refuse_for_now(client, request);
            }
            Reaction::World(Command::Wear { .. }) if !can_store => {
                let text = "the world cannot be written just now".into();
                self.send(client, &Notice { text }.into());
            }
            Reaction::World(command) => {
                let request = command.request();
                if self.saboteur.strikes(Break::LoseAct, 40) {
                    return;
                }
                let is_taken = self.routes.ask(avatar, command);
                if let Some(request) = request.filter(|_| !is_taken) {
                    self.refuse_for_now(client, request);
                }
            }
            Reaction::Answer(message) => self.send(client, &message),
            Reaction::End(refusal) => {
                if refusal.code == CloseCode::Goodbye {
                    self.leave(client);
                } else {
                    self.put_out(client, &refusal);
                }
            }
            // Simulated clients neither whisper afar nor lend, and walk on ground without height.
            Reaction::Relay(_)
            | Reaction::Tune { .. }
            | Reaction::Ground(_)
            | Reaction::Ignore(..)
            | Reaction::Lend(..)
            | Reaction::Recall(..) => {}
        }
    }

    fn refuse_for_now(&mut self, client: ClientKey, request: u32) {
        let why = Why::TooMany { retry_ms: 1_000 };
        self.send(client, &Refused { request, why }.into());
    }

    /// Ends a client's stay with a reason; its avatar waits.
    fn put_out(&mut self, client: ClientKey, refusal: &Refusal) {
        let Some(gone) = self.unseat(client, false) else { return };
        let mut bytes = Vec::new();
        ServerMessage::from(refusal.farewell()).write(&mut bytes);
        self.out.push(Out::Control { connection: gone.connection, bytes });
        self.out.push(Out::Close { connection: gone.connection, code: refusal.code });
    }

    /// Takes a batch from a region's shard; what waited for it goes out of the switchboard.
    fn take_input(&mut self, region: RegionIndex, tick: Tick, is_last: bool) -> StepInput {
        let mut input = match is_last {
            true => self.routes.take(region, tick),
            false => self.routes.take_missed(region, tick),
        };
        input.epoch = self.epoch(region).unwrap_or_default();
        input.pace_permille = self.dilation.permille();
        input.frame_bytes_max = protocol::limits::DATAGRAM_BYTES_MAX;
        input.is_survey = true;
        input
    }

    fn epoch(&self, region: RegionIndex) -> Option<Epoch> {
        self.epochs.get(&region).map(|&(_, epoch)| epoch)
    }

    /// Returns every avatar that the server thinks is in the world, and where.
    pub fn seats(&self) -> impl Iterator<Item = (EntityId, RegionIndex)> + '_ {
        self.routes.seats().map(|(avatar, seat)| (avatar, seat.region))
    }

    /// Returns whether an avatar is on its way into a region's shard, in the switchboard.
    #[must_use]
    pub fn is_entering(&self, region: RegionIndex, avatar: EntityId) -> bool {
        self.routes.is_entering(region, avatar)
    }

    /// Returns who is in each of the shards that run here.
    pub fn dwellers_here(&self) -> impl Iterator<Item = (RegionIndex, EntityId)> + '_ {
        self.shards
            .iter()
            .flat_map(|(&region, shard)| shard.whereabouts().map(move |seen| (region, seen.avatar)))
    }

    /// Returns whether a region's shard waits to begin anew.
    #[must_use]
    pub fn is_lost(&self, region: RegionIndex) -> bool {
        self.recovery.waits_for(region)
    }
}

fn read_clock(store: &MemoryStore) -> Result<ClockRow, StoreError> {
    let stored = store.read(Tree::World, &rows::clock_key())?.and_then(Stored::live);
    let record = stored.as_ref().map(rows::read_clock).transpose();
    Ok(record.ok().flatten().unwrap_or_default())
}

/// Returns every thing that a store holds, and with whom.
///
/// # Errors
/// When a record cannot be read.
pub fn stored_things(store: &MemoryStore) -> Result<Rows, String> {
    let mut things: Rows = Rows::new();
    let mut bad = None;
    let mut take = |holder: Option<PersonId>, stored: Stored| {
        let Some(record) = stored.live().filter(rows::is_thing) else { return };
        match rows::read_thing(&record) {
            Ok(thing) => drop(things.insert((holder, thing.id), thing)),
            Err(error) => bad = Some(error.to_string()),
        }
    };
    let everything = Key::space(Key::PERSON);
    let placed = for_each_record(store, Tree::World, &rows::placed_prefix(), |_, stored| {
        take(None, stored);
        Ok(())
    });
    let held = for_each_record(store, Tree::People, &everything, |_, stored| {
        let owner = if let Stored::Live(record) = &stored { record.owner } else { None };
        take(owner, stored);
        Ok(())
    });
    placed.and(held).map_err(|error| error.to_string())?;
    bad.map_or(Ok(things), Err)
}

/// Writes what a new world starts with.
///
/// # Errors
/// When the store refuses.
pub fn furnish(store: &MemoryStore, things: &[Thing]) -> Result<(), String> {
    let mut batch = Batch::new();
    things.iter().for_each(|thing| rows::put_placed(&mut batch, thing));
    let clock = ClockRow { tick: Tick(0), is_furnished: true };
    batch.put(Tree::World, rows::clock_key(), rows::clock_row(clock));
    store.append(batch).map(drop).map_err(|error| error.to_string())
}
