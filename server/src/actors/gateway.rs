//! Gateway actor: owns the beat of the world, and everything between connections and shards.
//!
//! | in             | from          | effect                                              |
//! |----------------|---------------|-----------------------------------------------------|
//! | [`Knock`]      | lobby         | a place, or a refusal                               |
//! | [`Reacted`]    | session       | what a client's message leads to                    |
//! | [`Gone`]       | session       | the avatar waits for its driver, or goes            |
//! | [`Stepped`]    | shard, link   | frames and letters go out, the journal to the store |
//! | `PackedUp`     | shard, link   | the shard goes on elsewhere                         |
//! | [`Join`]       | link          | regions move to another process, or a refusal       |
//! | [`Depart`]     | link          | its regions come home                               |
//! | [`LinkLost`]   | link          | its regions begin anew here                         |
//! | [`Divide`]     | operator      | a region is split, or four are merged               |
//! | [`SendTo`]     | operator      | a region goes to another process, or comes home     |
//! | `ChunkReady`   | generator     | laid under shards, sent to clients                  |
//! | [`Order`]      | operator      | carried out                                         |
//! | [`Forget`]     | operator      | somebody is nobody here until [`Forgotten`]         |
//! | [`Unlend`]     | operator      | what was lent to somebody ends                      |
//!
//! | out           | to        | when the receiver is full                                  |
//! |---------------|-----------|------------------------------------------------------------|
//! | `Step`        | shard     | fatal: a shard has answered before it is asked again       |
//! | `Pack`        | shard     | as for `Step`                                              |
//! | `NeedChunk`   | generator | asked again at the next look around                        |
//! | `Mute`        | session   | told again with the next change                            |
//! | control bytes | client    | the client is too slow: its stay ends                      |
//! | datagrams     | client    | dropped by QUIC: the next one supersedes                   |

mod divide;
mod enter;
mod forget;
mod ground;
mod hosts;
mod operate;
mod tick;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use protocol::close::CloseCode;
use protocol::ids::{EntityId, IdMint, PersonId, SessionId};
use protocol::message::ServerMessage;
use protocol::message::client::Degree;
use protocol::message::server::Refused;
use protocol::rules::OfferId;
use protocol::units::Tick;
use tokio::sync::{mpsc, watch};
use worldgen::actors::generator::{ChunkReady, GeneratorActor};

use super::session::SessionActor;
use super::shard::{Runner, Stepped};
use crate::admission::{Refusal, Role};
use crate::balance::Balance;
use crate::config::Config;
use crate::departures::Departures;
use crate::dilation::Dilation;
use crate::division::Epochs;
use crate::hosting::{Hosting, LinkId, Place};
use crate::io::clock::{Clock, Pace};
use crate::io::lobby::{Examined, Lobby};
use crate::io::quic::{Inbox, Line};
use crate::io::record::Recorder;
use crate::people::PersonRecord;
use crate::places::Places;
use crate::post::{self, Post};
use crate::region::{RegionIndex, Regions};
use crate::roll::Roll;
use crate::rows::ClockRow;
use crate::session::Reaction;
use crate::shard::batch::{Command, StepOutput};
use crate::shard::viewer::{ClientKey, Told};
use crate::shard::{Shard, WorldRules};
use crate::status::StatusBoard;
use crate::status::names::HostMetrics;
use crate::store::{Batch, Number, Progress};
use crate::switchboard::Switchboard;

pub use divide::{Divide, NotDivided, SendTo};
pub use enter::Welcoming;
pub use forget::{Forget, Forgotten, NotNow, Unlend, Whom};
pub use hosts::{Depart, Join, LinkLost};
pub use operate::{ListPlayers, NotHere, Order};

/// Messages that may wait: 4,000 clients, four messages each between two ticks.
const MAILBOX: usize = 16_384;

/// Seconds without an answer after which a process that runs shards is given up.
const SILENCE_S: u64 = 1;

/// Control messages that may wait for one client: two seconds of a crowd's comings and goings.
const OUTGOING_MAX: usize = 512;

/// Somebody who may come in asks for a place.
#[derive(Debug, Message)]
#[rtype(result = "Result<Entered, Unseated>")]
pub struct Knock {
    /// Who.
    pub examined: Box<Examined>,
    /// Their connection.
    pub line: Line,
}

/// Why somebody who asked got no place.
#[derive(Debug)]
pub enum Unseated {
    /// What was found out about them has changed since; it must be found out anew.
    Stale,
    /// They may not come in after all.
    Refused(Refusal),
}

impl From<Refusal> for Unseated {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A place in the world.
#[derive(Debug)]
pub struct Entered {
    /// What the client is called from now on.
    pub client: ClientKey,
    /// Who judges its messages.
    pub session: Addr<SessionActor>,
    /// What is to be written to its control stream.
    pub outgoing: mpsc::Receiver<Bytes>,
}

/// What a client's message leads to.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Reacted {
    /// Whose message.
    pub client: ClientKey,
    /// What.
    pub reaction: Reaction,
}

/// A connection is over, or broke the protocol.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Gone {
    /// Whose.
    pub client: ClientKey,
    /// What happened, for logs.
    pub why: String,
    /// The code to close with, if the connection still stands.
    pub code: Option<CloseCode>,
}

/// One connected client.
struct Client {
    session: SessionId,
    person: PersonId,
    avatar: EntityId,
    name: String,
    drives_until_s: u64,
    line: Line,
    outgoing: mpsc::Sender<Bytes>,
    actor: Addr<SessionActor>,
    ignored: BTreeMap<PersonId, Degree>,
    channels: BTreeSet<String>,
    wanted: ground::Wanted,
    role: Role,
    /// The newest minor version of the protocol that it speaks.
    minor: u16,
    entered_ms: u64,
    muted_until_ms: u64,
    /// What it was announced, by whichever shard.
    told: Told,
    /// Offers that it was told of and that have not ended.
    offers: BTreeSet<OfferId>,
}

/// A command that a region's shard begins with.
pub type First = (RegionIndex, Command);

/// What the composition root gives a gateway.
pub struct Outfit {
    /// How the world is divided.
    pub regions: Regions,
    /// Finds people out.
    pub lobby: Arc<Lobby>,
    /// The settings in force.
    pub config: Arc<RwLock<Config>>,
    /// What each shard writes as.
    pub epochs: Epochs,
    /// What operators look at.
    pub board: Arc<StatusBoard>,
    /// Makes ground.
    pub generator: Addr<GeneratorActor>,
    /// What clients sent.
    pub inbox: Arc<Mutex<Inbox>>,
    /// The world's rules as clients are told them.
    pub welcome: Welcoming,
    /// The same as shards are told them.
    pub rules: WorldRules,
    /// The text of the rule book.
    pub book_text: String,
    /// Ids for shards that begin anew.
    pub mint: IdMint,
    /// World time so far.
    pub clock: ClockRow,
    /// Ticks per second.
    pub hz: u16,
    /// Writes down all that goes into steps, if that is wished.
    pub recorder: Option<Recorder>,
}

impl Outfit {
    /// Returns a shard that begins, which is recorded if that is wished.
    fn begin(&mut self, shard: Shard) -> Shard {
        let Some(recorder) = self.recorder.as_mut().filter(|recorder| !recorder.is_over()) else {
            return shard;
        };
        let packed = shard.pack();
        recorder.shard(&packed);
        packed.unpack(self.rules.clone()).expect("what was packed just now is a shard")
    }
}

/// The middle of a running server.
pub struct GatewayActor {
    outfit: Outfit,
    shards: BTreeMap<RegionIndex, Runner>,
    hosting: Hosting,
    links: BTreeMap<LinkId, hosts::Joined>,
    losses: hosts::Losses,
    dividing: Option<divide::Dividing>,
    balance: Balance,
    /// Ids that shards had left which are no more.
    mints: Vec<IdMint>,
    routes: Switchboard,
    clients: BTreeMap<ClientKey, Client>,
    /// The same clients, by other things than their keys.
    roll: Roll,
    people: BTreeMap<PersonId, PersonRecord>,
    owners: BTreeMap<EntityId, PersonId>,
    departures: Departures,
    forgetting: BTreeMap<PersonId, forget::Forgetting>,
    post: Post,
    unsaved: VecDeque<Batch>,
    /// The number of the newest batch that the store took.
    appended: Number,
    progress: watch::Receiver<Progress>,
    places: Places,
    ground: ground::Laid,
    beat: Beat,
    metrics: HostMetrics,
    stop: Option<operate::Stop>,
    next_client: u64,
    next_link: u64,
}

/// Where the beat of the world stands.
struct Beat {
    clock: Clock,
    pace: Pace,
    dilation: Dilation,
    tick: Tick,
    shared_tick: Arc<AtomicU64>,
    /// Steps asked for and not yet answered.
    open: usize,
    began_at: Duration,
    saved_at_ms: u64,
    spare: Vec<StepOutput>,
    unsent: Vec<tick::Frames>,
    /// Bytes of frames that were sent, to be written to again once all of them are out.
    sent: Vec<Bytes>,
    skipped: u64,
    /// The longest that a step in another process took until it was known here.
    remote: Duration,
    status: BTreeMap<RegionIndex, crate::status::ShardStatus>,
    is_survey: bool,
}

impl GatewayActor {
    /// Starts the gateway of a world. `neighbours` is given its address and returns its outfit,
    /// its shards, and the first commands of each region.
    pub fn start(
        neighbours: impl FnOnce(Addr<Self>) -> (Outfit, Vec<Shard>, Vec<First>) + 'static,
    ) -> Addr<Self> {
        Self::create(move |ctx| {
            let (mut outfit, shards, first) = neighbours(ctx.address());
            let mut routes = Switchboard::new(outfit.regions.clone());
            for (region, command) in first {
                routes.push(region, command);
            }
            let beat = Beat {
                clock: Clock::start(),
                pace: Pace::new(u32::from(outfit.hz)),
                dilation: Dilation::new(Duration::from_secs(1) / u32::from(outfit.hz.max(1))),
                tick: outfit.clock.tick,
                shared_tick: Arc::new(AtomicU64::new(outfit.clock.tick.0)),
                open: 0,
                began_at: Duration::ZERO,
                saved_at_ms: 0,
                spare: Vec::new(),
                unsent: Vec::new(),
                sent: Vec::new(),
                skipped: 0,
                remote: Duration::ZERO,
                status: BTreeMap::new(),
                is_survey: false,
            };
            let silence_ticks = u64::from(outfit.hz) * SILENCE_S;
            let hosting = Hosting::new(outfit.regions.indices(), outfit.clock.tick, silence_ticks);
            let gateway = ctx.address();
            let shards: Vec<_> = shards.into_iter().map(|shard| outfit.begin(shard)).collect();
            let runners = shards.into_iter().map(|shard| {
                let region = shard.region();
                (region, Self::run_here(shard, &gateway))
            });
            Self {
                routes,
                hosting,
                links: BTreeMap::new(),
                losses: hosts::Losses::default(),
                dividing: None,
                balance: Balance::default(),
                mints: Vec::new(),
                shards: runners.collect(),
                clients: BTreeMap::new(),
                roll: Roll::default(),
                people: BTreeMap::new(),
                owners: BTreeMap::new(),
                departures: Departures::default(),
                forgetting: BTreeMap::new(),
                post: Post::default(),
                unsaved: VecDeque::new(),
                appended: Number::default(),
                progress: outfit.lobby.store.subscribe(),
                places: Places::default(),
                ground: ground::Laid::default(),
                beat,
                metrics: HostMetrics::default(),
                stop: None,
                next_client: 1,
                next_link: 1,
                outfit,
            }
        })
    }

    /// Sends a message on a client's control stream; one that cannot keep up is put out.
    fn send(&mut self, client: ClientKey, message: &ServerMessage) {
        let Some(to) = self.clients.get_mut(&client) else { return };
        if let ServerMessage::Announce(announce) = message {
            to.told.note(announce);
        }
        if let Some(request) = post::answer(message) {
            self.routes.answer(client, request);
        }
        if let ServerMessage::Offered(offered) = message {
            to.offers.insert(offered.offer.id);
        } else if let ServerMessage::OfferEnded(ended) = message {
            to.offers.remove(&ended.offer);
        }
        let mut bytes = Vec::new();
        if let ServerMessage::Refused(Refused { request, why }) = message {
            let why = why.clone().known_to(to.minor);
            ServerMessage::from(Refused { request: *request, why }).write(&mut bytes);
        } else {
            message.write(&mut bytes);
        }
        self.metrics.message_out(message.name().0);
        if to.outgoing.try_send(bytes.into()).is_err() {
            let why = "the client does not read what it is told";
            self.put_out(client, &Refusal::for_now(CloseCode::Flooding, why, 1));
        }
    }

    /// Sends a message to everyone.
    fn send_all(&mut self, message: &ServerMessage) {
        let clients: Vec<ClientKey> = self.clients.keys().copied().collect();
        for client in clients {
            self.send(client, message);
        }
    }

    /// Ends a client's stay with a reason; its avatar waits, unless it left for good.
    fn put_out(&mut self, client: ClientKey, refusal: &Refusal) {
        let stops = refusal.code == CloseCode::LendingEnded;
        let Some(gone) = self.unseat(client, stops) else { return };
        self.metrics.closed(refusal.code);
        let mut bytes = Vec::new();
        ServerMessage::from(refusal.farewell()).write(&mut bytes);
        if gone.outgoing.try_send(bytes.into()).is_ok() {
            gone.line.close_behind(refusal.code, refusal.why.clone());
        } else {
            gone.line.close(refusal.code, &refusal.why);
        }
    }

    fn now_ms(&self) -> u64 {
        self.beat.clock.elapsed_ms()
    }
}

impl Actor for GatewayActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_later(self.beat.pace.until_next(), Self::tick);
    }
}

impl Handler<Knock> for GatewayActor {
    type Result = Result<Entered, Unseated>;

    fn handle(&mut self, knock: Knock, ctx: &mut Self::Context) -> Self::Result {
        self.enter(*knock.examined, knock.line, ctx)
    }
}

impl Handler<Reacted> for GatewayActor {
    type Result = ();

    fn handle(&mut self, Reacted { client, reaction }: Reacted, _: &mut Self::Context) {
        self.react(client, reaction);
    }
}

impl Handler<Gone> for GatewayActor {
    type Result = ();

    fn handle(&mut self, Gone { client, why, code }: Gone, _: &mut Self::Context) {
        match code {
            Some(code) => self.put_out(client, &Refusal::for_good(code, why)),
            // The connection may stand: nothing of it is of use without a stay.
            None => {
                if let Some(gone) = self.unseat(client, false) {
                    gone.line.close(CloseCode::Goodbye, &why);
                }
            }
        }
    }
}

impl Handler<Stepped> for GatewayActor {
    type Result = ();

    fn handle(&mut self, stepped: Stepped, ctx: &mut Self::Context) {
        let is_here = stepped.place == Place::Here;
        self.take_step(stepped);
        if is_here && self.beat.open == 0 {
            self.end_tick(ctx);
        }
    }
}

impl Handler<ChunkReady> for GatewayActor {
    type Result = ();

    fn handle(&mut self, ready: ChunkReady, _: &mut Self::Context) {
        self.lay(&ready);
    }
}

/// Counts a tick for those on other threads.
fn share(tick: Tick, shared: &AtomicU64) {
    shared.store(tick.0, Ordering::Relaxed);
}
