//! The composition root: opens everything, gives each actor its neighbours, and runs the world.
//!
//! No rule and no protocol is here, only the order in which things start and stop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use actix::{Actor, System};
use protocol::ids::{EntityId, IdMint};
use protocol::message::common::{MINOR, features};
use protocol::message::server::{Greeting, WorldName};
use protocol::motion::MotionRules;
use protocol::rules::{BadBook, RuleBook, Thing, starter};
use protocol::units::{Position, Tick};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tracing::info;
use worldgen::actors::generator::{GeneratorActor, Outbox, Settings as GeneratorSettings};
use worldgen::io::dem::{self, BadDem};
use worldgen::preview::render_map;
use worldgen::seed::Seeded;
use worldgen::terrain::Terrain;

use crate::actors::gateway::{GatewayActor, Order, Outfit, Welcoming};
use crate::admission::access::Access;
use crate::config::{Config, Settings};
use crate::directory::Directory;
use crate::division::Epochs;
use crate::identity::{Identity, PublicKey};
use crate::io::admin::{ListenError, Listener};
use crate::io::assets::Shelf;
use crate::io::audit::Auditor;
use crate::io::clock;
use crate::io::files::{self, FileError};
use crate::io::http::{Http, HttpError, Settings as HttpSettings, Sources};
use crate::io::launch::{Place, ServeOptions};
use crate::io::link::Gate;
use crate::io::lobby::{Lobby, damaged};
use crate::io::operator::{Host, Tokens};
use crate::io::quic::{self, Inbox};
use crate::io::record::{RecordError, RecordTo, Recorder, Writing};
use crate::io::recovery::placed_things;
use crate::io::rng;
use crate::io::store::{SledStore, StoreOptions};
use crate::io::telemetry::Telemetry;
use crate::io::tls::{self, TlsError};
use crate::io::transport::Endpoint;
use crate::link::WorldTerms;
use crate::recording::Head;
use crate::region::{RegionIndex, Regions};
use crate::rows::{self, ClockRow};
use crate::shard::batch::Command;
use crate::shard::{Shard, WorldRules};
use crate::status::{LogTail, StatusBoard};
use crate::store::{Batch, Store, StoreError, Stored, Tree};
use crate::token;
use crate::world::Manifest;

/// How often the certificate is looked at: it is good for days.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// Pixels along a side of the page's map.
const MAP_PIXELS: u32 = 768;

/// What an operator is told when a server has started.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where the page is.
    pub http: SocketAddr,
    /// The key that clients pin.
    pub key: PublicKey,
    /// The first start's token: shown now and never again.
    pub first_token: Option<String>,
    /// How long the start took.
    pub took: Duration,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file of ground heights.
    #[error(transparent)]
    Ground(#[from] BadDem),
    /// The operators' page.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The operators' socket.
    #[error(transparent)]
    Admin(#[from] ListenError),
    /// The file of kinds and recipes is missing.
    #[error("there is no file {} with the world's rules; put it back, or write `rules = \"starter\"` in world.toml", path.display())]
    NoRules {
        /// The file.
        path: PathBuf,
    },
    /// Kinds and recipes.
    #[error(transparent)]
    Rules(#[from] BadBook),
    /// The address for clients.
    #[error(
        "cannot listen on {listen} for clients: {why}; choose another `server.listen`, or stop what uses it"
    )]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system says.
        why: String,
    },
    /// The recording.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Runs a world until it is stopped; `started` is told once clients can connect.
///
/// Returns the process's exit code.
///
/// # Errors
/// [`HostError`]; nothing was changed then but what a first start creates.
pub fn serve(
    options: ServeOptions,
    telemetry: Telemetry,
    log: Arc<LogTail>,
    started: impl FnOnce(&Started),
) -> Result<i32, HostError> {
    let began = clock::instant();
    let ServeOptions { settings, place, data, manifest, identity, access, first_token, record } =
        options;
    let config = settings.config.clone();
    let store_options = StoreOptions {
        group_every: Duration::from_millis(u64::from(config.store.commit_interval_ms)),
        ..StoreOptions::default()
    };
    let store = Arc::new(SledStore::open(&data, store_options, &mut |_, _| {})?);
    let book_text = book_text(&data, &manifest)?;
    let base = Base {
        book: RuleBook::parse(&book_text)?,
        book_text,
        terrain: terrain(&manifest)?,
        identity: Arc::new(identity),
        access: Arc::new(RwLock::new(access)),
        board: Arc::new(StatusBoard::new(log)),
        config,
        data,
        manifest,
        record,
    };
    let key = base.identity.public();
    let system = System::new();
    let telemetry = Arc::new(telemetry);
    let running = system.block_on(run(&base, Arc::clone(&store), &telemetry, (settings, place)))?;
    let Running { listen, http, admin, unheard, endpoint, writing } = running;
    started(&Started { listen, http: http.address(), key, first_token, took: began.elapsed() });
    let code = system.run_with_code().unwrap_or(1);
    endpoint.close(b"stopped");
    drop(http);
    unheard.notify_one();
    if admin.join().is_err() {
        tracing::error!("the operators' thread panicked");
    }
    drop(base);
    // The gateway is gone by now, and what it gathered last is on its way to the file.
    drop(writing);
    match Arc::try_unwrap(store) {
        Ok(store) => {
            let number = store.close()?;
            info!(%number, "closed");
        }
        // Somebody still reads; the store is durable up to its last commit all the same.
        Err(store) => drop(store),
    }
    drop(telemetry);
    Ok(code)
}

/// What runs beside the system.
struct Running {
    listen: SocketAddr,
    http: Http,
    admin: std::thread::JoinHandle<()>,
    unheard: Arc<Notify>,
    endpoint: Endpoint,
    writing: Option<Writing>,
}

/// What everything else is built on.
struct Base {
    config: Config,
    data: PathBuf,
    manifest: Manifest,
    book: RuleBook,
    book_text: String,
    terrain: Arc<dyn Terrain>,
    identity: Arc<Identity>,
    access: Arc<RwLock<Access>>,
    board: Arc<StatusBoard>,
    record: Option<RecordTo>,
}

/// Returns the text of the world's kinds and recipes.
fn book_text(data: &Path, manifest: &Manifest) -> Result<String, HostError> {
    if manifest.rules == "starter" {
        return Ok(RuleBook::starter_text().to_owned());
    }
    let path = data.join(&manifest.rules);
    files::read_text(&path)?.ok_or(HostError::NoRules { path })
}

/// Returns the world's ground.
fn terrain(manifest: &Manifest) -> Result<Arc<dyn Terrain>, HostError> {
    if manifest.terrain == "generated" {
        return Ok(Arc::new(Seeded::new(manifest.seed)));
    }
    Ok(Arc::new(dem::load(Path::new(&manifest.terrain), None)?))
}

async fn run(
    base: &Base,
    store: Arc<SledStore>,
    telemetry: &Arc<Telemetry>,
    (running, place): (Settings, Place),
) -> Result<Running, HostError> {
    // Before anything is announced, so that whoever reads of the start can stop it in good order.
    let signals = signals();
    let Base { config, manifest, identity, access, board, .. } = base;
    let settings = Arc::new(RwLock::new(config.clone()));
    let directory = Arc::new(Directory::default());
    let hz = u16::try_from(config.world.tick_hz).unwrap_or(protocol::units::TICK_HZ_DEFAULT);
    let grid = Regions::new(
        u16::try_from(config.world.shards_per_side).unwrap_or(1),
        i32::try_from(config.world.shard_width_m * 100).unwrap_or(Regions::WIDTH_CM_MAX),
    );
    let regions = divided(&store, grid)?;
    let motion = motion_rules(hz, &regions);
    let (mints, mut lobby_mint, spare) = share_ids(store.run_epoch(), &regions);
    let clock = furnish(base, &store, &mut lobby_mint)?;
    let world =
        WorldName { id: manifest.id, name: manifest.name.clone(), rating: manifest.rating.clone() };
    let greeting = Greeting {
        minor: MINOR,
        features: features::ALL,
        nonce: [0; 32],
        worlds: vec![world.clone()],
        software: concat!("ecumene ", env!("CARGO_PKG_VERSION")).into(),
    };
    let kept = Arc::clone(&store) as Arc<dyn Store>;
    let shelf = Shelf::open(kept, Arc::clone(&settings), Arc::clone(access), &base.book)?;
    let lobby = Arc::new(Lobby::new(
        greeting,
        Arc::clone(identity),
        Arc::clone(&store) as Arc<dyn Store>,
        Arc::clone(access),
        Arc::clone(&settings),
        Arc::clone(&directory),
        spawn(base),
        shelf,
        lobby_mint,
    ));
    let endpoint = listen(config, identity)?;
    let address = endpoint.local_addr().map_err(|error| refused(config, &error))?;
    let mut epochs = Epochs::new();
    for region in regions.indices() {
        let shard = rows::shard_id(manifest.id, region);
        epochs.insert(region, (shard, store.take_epoch(shard).await?));
    }
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    let rules = WorldRules {
        regions: regions.clone(),
        motion: motion.clone(),
        book: Arc::new(base.book.clone()),
        view_cm: i32::try_from(config.interest.view_m * 100).unwrap_or(15_000),
        nearby_cm: config.chat.nearby_m * 100,
        whisper_cm: config.chat.whisper_m * 100,
    };
    let (recorder, writing) = record(base, &rules)?.unzip();
    let welcome = Welcoming { world, rules: base.book.hash(), motion };
    let things = placed_things(&*store, &regions)?;
    let book_text = base.book_text.clone();
    let auditor = Auditor::open(Arc::clone(&store) as Arc<dyn Store>)?;
    let tokens = Tokens::new(Arc::clone(identity), Arc::clone(access), base.manifest.id);
    let http = Http::serve(
        HttpSettings { listen: config.server.http, open_metrics: false, names: Vec::new() },
        Sources {
            board: Arc::clone(board),
            metrics: telemetry.metrics(),
            verify: Box::new(tokens.clone()),
            map: draw_map(Arc::clone(&base.terrain), &regions),
        },
    )?;
    let gateway = start_actors(
        Wiring {
            regions,
            clock,
            hz,
            epochs,
            welcome,
            rules,
            mints,
            spare,
            things,
            book_text,
            recorder,
        },
        base,
        (&lobby, &settings, board, &inbox),
    );
    let gate = Arc::new(Gate {
        tokens: token::Mint::new(identity),
        access: Arc::clone(access),
        config: Arc::clone(&settings),
        world: manifest.id,
    });
    let doors = (gateway.clone(), gate);
    actix::spawn(quic::accept(endpoint.clone(), Arc::clone(&lobby), doors, inbox));
    actix::spawn(renew_certificate(endpoint.clone(), Arc::clone(identity), Arc::clone(&settings)));
    if let Some(signals) = signals {
        actix::spawn(stop_on_signal(signals, gateway.clone()));
    }
    let host = Host::new(
        gateway,
        lobby,
        store,
        tokens,
        (base.data.clone(), Arc::clone(board), Arc::clone(telemetry)),
        (running, place, auditor),
    );
    let unheard = host.stopped();
    let admin = operators(&base.data, host)?;
    Ok(Running { listen: address, http, admin, unheard, endpoint, writing })
}

/// Begins to record, if that is wished.
fn record(base: &Base, rules: &WorldRules) -> Result<Option<(Recorder, Writing)>, HostError> {
    let Some(to) = &base.record else { return Ok(None) };
    let head = Head::new(base.manifest.id, WorldTerms::of(rules, &base.book_text));
    let begun = Recorder::create(to, &head)?;
    let path = to.path.display();
    tracing::warn!(%path, "everything that anybody does or says is recorded");
    Ok(Some(begun))
}

/// Returns the ids of a run as they are shared out: to each shard, to the lobby, and those kept
/// for shards that begin anew.
fn share_ids(run_epoch: u32, regions: &Regions) -> (Vec<IdMint>, IdMint, IdMint) {
    let mut all = IdMint::new(run_epoch);
    // A quarter for people and for what the world is furnished with, a quarter for shards.
    let quarter = all.left() / 4;
    let lobby = all.split(quarter).expect("a new mint has plenty");
    let share = quarter / (regions.count() as u64).max(1);
    let shards = regions.iter().map(|_| all.split(share).expect("a new mint has plenty"));
    (shards.collect(), lobby, all)
}

/// What the actors are made of.
struct Wiring {
    regions: Regions,
    clock: ClockRow,
    hz: u16,
    epochs: Epochs,
    welcome: Welcoming,
    rules: WorldRules,
    mints: Vec<IdMint>,
    spare: IdMint,
    things: BTreeMap<RegionIndex, Vec<Thing>>,
    book_text: String,
    recorder: Option<Recorder>,
}

fn start_actors(
    wiring: Wiring,
    base: &Base,
    (lobby, settings, board, inbox): (
        &Arc<Lobby>,
        &Arc<RwLock<Config>>,
        &Arc<StatusBoard>,
        &Arc<Mutex<Inbox>>,
    ),
) -> actix::Addr<GatewayActor> {
    let terrain = Arc::clone(&base.terrain);
    let folder = Some(base.data.join("ground"));
    let generator_settings = GeneratorSettings { folder, ..GeneratorSettings::default() };
    let (lobby, settings, board, inbox) =
        (Arc::clone(lobby), Arc::clone(settings), Arc::clone(board), Arc::clone(inbox));
    GatewayActor::start(move |gateway| {
        let outbox = Outbox { ready: gateway.clone().recipient() };
        let generator = GeneratorActor::new(terrain, outbox, generator_settings).start();
        let shard =
            |(region, mint)| Shard::new(region, wiring.rules.clone(), mint).at(wiring.clock.tick);
        let shards = wiring.regions.iter().zip(wiring.mints).map(shard).collect();
        let furniture = wiring.things.into_iter();
        let first = furniture.map(|(region, things)| (region, Command::Things(things))).collect();
        let outfit = Outfit {
            regions: wiring.regions,
            lobby,
            config: settings,
            epochs: wiring.epochs,
            board,
            generator,
            inbox,
            welcome: wiring.welcome,
            rules: wiring.rules,
            book_text: wiring.book_text,
            mint: wiring.spare,
            clock: wiring.clock,
            hz: wiring.hz,
            recorder: wiring.recorder,
        };
        (outfit, shards, first)
    })
}

/// Returns how bodies move in a world divided so.
fn motion_rules(hz: u16, regions: &Regions) -> MotionRules {
    let half_width_cm = regions.half_width_cm().min(protocol::motion::HALF_WIDTH_CM_MAX);
    MotionRules { hz, half_width_cm, ..MotionRules::default() }
}

/// Returns where newcomers begin, on the ground.
fn spawn(base: &Base) -> Position {
    let spawn = base.manifest.spawn();
    Position { y: base.terrain.height_cm(spawn.x, spawn.z), ..spawn }
}

/// Returns how the world is divided: as it was when it ran last, unless the settings say now that
/// it is of another size.
fn divided(store: &SledStore, grid: Regions) -> Result<Regions, HostError> {
    let stored = store.read(Tree::World, &rows::regions_key())?.and_then(Stored::live);
    let Some(record) = stored else { return Ok(grid) };
    let regions = rows::read_regions(&record).map_err(|bad| damaged(&bad))?;
    Ok(if regions.is_of_same_grid(&grid) { regions } else { grid })
}

/// Lays out what a new world starts with; returns where world time stands.
fn furnish(base: &Base, store: &SledStore, mint: &mut IdMint) -> Result<ClockRow, HostError> {
    let stored = store.read(Tree::World, &rows::clock_key())?.and_then(Stored::live);
    if let Some(record) = stored {
        let clock = rows::read_clock(&record).map_err(|bad| damaged(&bad))?;
        // World time never runs twice over what was not saved: it jumps past two intervals.
        let (interval_s, hz) = (base.config.store.position_interval_s, base.config.world.tick_hz);
        let ahead = 2 * u64::from(interval_s) * u64::from(hz);
        let clock = ClockRow { tick: clock.tick.after(ahead), ..clock };
        // Written down at once: this run may end before it saves the clock, and the next one must
        // not begin at the same tick.
        let mut batch = Batch::new();
        batch.put(Tree::World, rows::clock_key(), rows::clock_row(clock));
        store.append(batch)?;
        return Ok(clock);
    }
    let spawn = base.manifest.spawn();
    let layout = starter::layout(base.manifest.seed, spawn.x, spawn.z, &base.book);
    let clock = ClockRow { tick: Tick(0), is_furnished: true };
    let mut batch = Batch::new();
    for placement in &layout.things {
        let height = base.terrain.height_cm(placement.x, placement.z);
        let thing = placement.thing(EntityId(mint.mint()), height);
        rows::put_placed(&mut batch, &thing);
    }
    batch.put(Tree::World, rows::clock_key(), rows::clock_row(clock));
    store.append(batch)?;
    info!(things = layout.things.len(), "a new world is furnished");
    Ok(clock)
}

fn refused(config: &Config, error: &std::io::Error) -> HostError {
    HostError::Listen { listen: config.server.listen, why: error.to_string() }
}

/// Opens the UDP socket for clients.
fn listen(config: &Config, identity: &Identity) -> Result<Endpoint, HostError> {
    let failed = |error: std::io::Error| refused(config, &error);
    let issued = tls::issue(identity, clock::unix_s())?;
    let server = tls::server_config(&issued, config)?;
    let socket = quic::bind(config.server.listen).map_err(failed)?;
    let endpoint = endpoint_config(identity);
    Endpoint::listen(config.server.quic, endpoint, server, socket).map_err(failed)
}

/// Time between two packets that disown a connection: none, since all clients of a server that was
/// killed need one within a tick. Whoever sends noise gets less back than they sent, and costs less
/// work by it than by the first packets of handshakes.
const RESET_EVERY: Duration = Duration::ZERO;

/// Returns how connections are named and disowned: with keys that outlive the process, so that a
/// server started anew tells the clients of its predecessor at once that their connections are
/// gone, and they come back instead of waiting for silence.
fn endpoint_config(identity: &Identity) -> quinn::EndpointConfig {
    let reset = identity.derive("ecumene 1 quic resets");
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &reset);
    let mut config = quinn::EndpointConfig::new(Arc::new(reset));
    config.cid_generator(|| Box::new(ConnectionIds)).min_reset_interval(RESET_EVERY);
    config
}

/// Names connections at random. Unlike quinn's own names, those of an earlier run are not taken
/// for noise, but disowned.
struct ConnectionIds;

impl ConnectionIds {
    /// Bytes of one: two connections in 2^32 share one by chance.
    const BYTES: usize = 8;
}

impl quinn::ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        quinn::ConnectionId::new(&rng::random::<{ Self::BYTES }>())
    }

    fn cid_len(&self) -> usize {
        Self::BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Issues a new certificate in good time; connections that stand keep theirs.
async fn renew_certificate(
    endpoint: Endpoint,
    identity: Arc<Identity>,
    settings: Arc<RwLock<Config>>,
) {
    loop {
        actix::clock::sleep(CERTIFICATE_EVERY).await;
        let config = settings.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let issued = tls::issue(&identity, clock::unix_s());
        match issued.and_then(|issued| tls::server_config(&issued, &config)) {
            Ok(server) => endpoint.set_server_config(server),
            Err(error) => tracing::error!(%error, "the certificate cannot be renewed"),
        }
    }
}

/// Returns the signals to end (SIGTERM and SIGINT), which are kept for whoever waits for them from
/// now on and end the process no more; nothing if the system lets nobody hear them.
fn signals() -> Option<[Signal; 2]> {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => Some([terminate, interrupt]),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "signals cannot be heard; stop with `ecumene stop`");
            None
        }
    }
}

/// Stops in good order on the first signal to end.
async fn stop_on_signal(
    [mut terminate, mut interrupt]: [Signal; 2],
    gateway: actix::Addr<GatewayActor>,
) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let stop = Order::Stop(Duration::ZERO, "the server was told to stop".into(), None);
    if gateway.send(stop).await.is_err() {
        System::current().stop_with_code(1);
    }
}

/// Hears operators on a thread of its own.
fn operators(data: &Path, host: Host) -> Result<std::thread::JoinHandle<()>, HostError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(HostError::Thread)?;
    let listener = {
        let _inside = runtime.enter();
        Listener::open(data)?
    };
    let stopped = host.stopped();
    let hear = move || {
        runtime.block_on(async move {
            tokio::select! {
                () = host.clone().keep_house() => {}
                () = listener.serve(Arc::new(host)) => {}
                () = stopped.notified() => {}
            }
        });
    };
    std::thread::Builder::new().name("operators".into()).spawn(hear).map_err(HostError::Thread)
}

/// Returns who draws the ground under the page's map.
fn draw_map(terrain: Arc<dyn Terrain>, regions: &Regions) -> crate::io::http::DrawMap {
    let width_cm = u32::try_from(regions.half_width_cm()).unwrap_or(1) * 2;
    Box::new(move || {
        let metres = (width_cm / 100).div_ceil(MAP_PIXELS).max(1);
        let pixels = (width_cm / 100).div_ceil(metres);
        let rgb = render_map(&*terrain, Position::default(), metres, pixels, pixels).ok()?;
        crate::io::png::encode(&rgb, pixels, pixels)
    })
}
