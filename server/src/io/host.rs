//! The composition root: opens everything, gives each actor its neighbours, and runs the world.
//!
//! No rule and no protocol is here, only the order in which things start and stop.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use actix::{Actor, Recipient, System};
use protocol::ids::{EntityId, IdMint, ShardId};
use protocol::message::common::{MINOR, features};
use protocol::message::server::{Greeting, WorldName};
use protocol::motion::MotionRules;
use protocol::rules::{BadBook, Holder, RuleBook, Thing, starter};
use protocol::units::{Position, Tick};
use tokio::sync::Notify;
use tracing::info;
use worldgen::actors::generator::{GeneratorActor, Outbox, Settings as GeneratorSettings};
use worldgen::io::dem::{self, BadDem};
use worldgen::preview::render_map;
use worldgen::seed::Seeded;
use worldgen::terrain::Terrain;

use crate::actors::gateway::{GatewayActor, Order, Outfit, Welcoming};
use crate::actors::shard::{ShardActor, Step, Stepped};
use crate::admission::access::Access;
use crate::config::{Config, Settings};
use crate::directory::Directory;
use crate::identity::{Identity, PublicKey};
use crate::io::admin::{ListenError, Listener};
use crate::io::assets::Shelf;
use crate::io::clock;
use crate::io::files::{self, FileError};
use crate::io::http::{Http, HttpError, Settings as HttpSettings, Sources};
use crate::io::launch::{Place, ServeOptions};
use crate::io::lobby::{Lobby, damaged, for_each_record};
use crate::io::operator::{Host, Tokens};
use crate::io::quic::{self, Inbox};
use crate::io::rng;
use crate::io::store::{SledStore, StoreOptions};
use crate::io::telemetry::Telemetry;
use crate::io::tls::{self, TlsError};
use crate::region::{RegionIndex, Regions};
use crate::rows::{self, ClockRow};
use crate::shard::batch::Command;
use crate::shard::{Shard, WorldRules};
use crate::status::{LogTail, StatusBoard};
use crate::store::{Batch, Epoch, Store, StoreError, Stored, Tree};
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
    let ServeOptions { settings, place, data, manifest, identity, access, first_token, .. } =
        options;
    let config = settings.config.clone();
    let store_options = StoreOptions {
        group_every: Duration::from_millis(u64::from(config.store.commit_interval_ms)),
        ..StoreOptions::default()
    };
    let store = Arc::new(SledStore::open(&data, store_options, &mut |_, _| {})?);
    let base = Base {
        book: book(&data, &manifest)?,
        terrain: terrain(&manifest)?,
        identity: Arc::new(identity),
        access: Arc::new(RwLock::new(access)),
        board: Arc::new(StatusBoard::new(log)),
        config,
        data,
        manifest,
    };
    let key = base.identity.public();
    let system = System::new();
    let telemetry = Arc::new(telemetry);
    let running = system.block_on(run(&base, Arc::clone(&store), &telemetry, (settings, place)))?;
    let Running { listen, http, admin, unheard, endpoint } = running;
    started(&Started { listen, http: http.address(), key, first_token, took: began.elapsed() });
    let code = system.run_with_code().unwrap_or(1);
    endpoint.close(0_u32.into(), b"stopped");
    drop(http);
    unheard.notify_one();
    if admin.join().is_err() {
        tracing::error!("the operators' thread panicked");
    }
    drop(base);
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
    endpoint: quinn::Endpoint,
}

/// What everything else is built on.
struct Base {
    config: Config,
    data: PathBuf,
    manifest: Manifest,
    book: RuleBook,
    terrain: Arc<dyn Terrain>,
    identity: Arc<Identity>,
    access: Arc<RwLock<Access>>,
    board: Arc<StatusBoard>,
}

/// Returns the world's kinds and recipes.
fn book(data: &Path, manifest: &Manifest) -> Result<RuleBook, HostError> {
    if manifest.rules == "starter" {
        return Ok(RuleBook::starter());
    }
    let path = data.join(&manifest.rules);
    let text = files::read_text(&path)?.ok_or_else(|| HostError::NoRules { path })?;
    Ok(RuleBook::parse(&text)?)
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
    let Base { config, manifest, identity, access, board, .. } = base;
    let settings = Arc::new(RwLock::new(config.clone()));
    let directory = Arc::new(Directory::default());
    let hz = u16::try_from(config.world.tick_hz).unwrap_or(protocol::units::TICK_HZ_DEFAULT);
    let regions = Regions::new(
        u16::try_from(config.world.shards_per_side).unwrap_or(1),
        i32::try_from(config.world.shard_width_m * 100).unwrap_or(Regions::WIDTH_CM_MAX),
    );
    let motion = motion_rules(hz, regions);
    let mut mints = IdMint::parts(store.run_epoch(), u32::from(regions.count()) + 1);
    let mut lobby_mint = mints.pop().unwrap_or_else(|| IdMint::new(store.run_epoch()));
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
    let mut epochs = Vec::new();
    for region in regions.iter() {
        let shard = shard_id(base, region.index);
        epochs.push((shard, store.take_epoch(shard).await?));
    }
    let inbox = Rc::new(RefCell::new(Inbox::default()));
    let rules = WorldRules {
        regions,
        motion: motion.clone(),
        book: Arc::new(base.book.clone()),
        view_cm: i32::try_from(config.interest.view_m * 100).unwrap_or(15_000),
        nearby_cm: config.chat.nearby_m * 100,
        whisper_cm: config.chat.whisper_m * 100,
    };
    let welcome = Welcoming { world, rules: base.book.hash(), motion };
    let things = placed_things(&store, regions)?;
    let tokens = Tokens::new(Arc::clone(identity), Arc::clone(access), base.manifest.id);
    let http = Http::serve(
        HttpSettings { listen: config.server.http, open_metrics: false, names: Vec::new() },
        Sources {
            board: Arc::clone(board),
            metrics: telemetry.metrics(),
            verify: Box::new(tokens.clone()),
            map: draw_map(Arc::clone(&base.terrain), regions),
        },
    )?;
    let gateway = start_actors(
        Wiring { regions, clock, hz, epochs, welcome, rules, mints, things },
        base,
        (&lobby, &settings, board, &inbox),
    );
    actix::spawn(quic::accept(endpoint.clone(), Arc::clone(&lobby), gateway.clone(), inbox));
    actix::spawn(renew_certificate(endpoint.clone(), Arc::clone(identity), Arc::clone(&settings)));
    actix::spawn(stop_on_signal(gateway.clone()));
    let host = Host::new(
        gateway,
        lobby,
        store,
        tokens,
        (base.data.clone(), Arc::clone(board), Arc::clone(telemetry)),
        (running, place),
    );
    let unheard = host.stopped();
    let admin = operators(&base.data, host)?;
    Ok(Running { listen: address, http, admin, unheard, endpoint })
}

/// What the actors are made of.
struct Wiring {
    regions: Regions,
    clock: ClockRow,
    hz: u16,
    epochs: Vec<(ShardId, Epoch)>,
    welcome: Welcoming,
    rules: WorldRules,
    mints: Vec<IdMint>,
    things: Vec<Vec<Thing>>,
}

fn start_actors(
    wiring: Wiring,
    base: &Base,
    (lobby, settings, board, inbox): (
        &Arc<Lobby>,
        &Arc<RwLock<Config>>,
        &Arc<StatusBoard>,
        &Rc<RefCell<Inbox>>,
    ),
) -> actix::Addr<GatewayActor> {
    let Wiring { regions, clock, hz, epochs, welcome, rules, mints, things } = wiring;
    let terrain = Arc::clone(&base.terrain);
    let folder = Some(base.data.join("ground"));
    let generator_settings = GeneratorSettings { folder, ..GeneratorSettings::default() };
    let (lobby, settings, board, inbox) =
        (Arc::clone(lobby), Arc::clone(settings), Arc::clone(board), Rc::clone(inbox));
    GatewayActor::start(move |gateway| {
        let outbox = Outbox { ready: gateway.clone().recipient() };
        let generator = GeneratorActor::new(terrain, outbox, generator_settings).start();
        let stepped: Recipient<Stepped> = gateway.recipient();
        let shards: Vec<Recipient<Step>> = regions
            .iter()
            .zip(mints)
            .map(|(region, mint)| {
                let shard = Shard::new(region, rules.clone(), mint);
                ShardActor::new(region.index, shard, stepped.clone()).start().recipient()
            })
            .collect();
        let furniture = (0..).map(RegionIndex).zip(things);
        let first = furniture.map(|(region, things)| (region, Command::Things(things))).collect();
        let outfit = Outfit {
            regions,
            lobby,
            config: settings,
            epochs,
            board,
            generator,
            inbox,
            welcome,
            clock,
            hz,
        };
        (outfit, shards, first)
    })
}

/// Returns how bodies move in a world divided so.
fn motion_rules(hz: u16, regions: Regions) -> MotionRules {
    let half_width_cm = regions.half_width_cm().min(protocol::motion::HALF_WIDTH_CM_MAX);
    MotionRules { hz, half_width_cm, ..MotionRules::default() }
}

/// Returns where newcomers begin, on the ground.
fn spawn(base: &Base) -> Position {
    let spawn = base.manifest.spawn();
    Position { y: base.terrain.height_cm(spawn.x, spawn.z), ..spawn }
}

/// Returns the shard of a region: the same for as long as the world exists.
fn shard_id(base: &Base, region: RegionIndex) -> ShardId {
    ShardId(base.manifest.id.0.wrapping_add(u64::from(region.0)))
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

/// Returns what stands in the world, by region.
fn placed_things(store: &SledStore, regions: Regions) -> Result<Vec<Vec<Thing>>, StoreError> {
    let mut things = vec![Vec::new(); usize::from(regions.count())];
    let mut inside = Vec::new();
    let mut places = std::collections::BTreeMap::new();
    for_each_record(store, Tree::World, &rows::placed_prefix(), |_, stored| {
        let Some(record) = stored.live().filter(rows::is_thing) else { return Ok(()) };
        let thing = rows::read_thing(&record).map_err(|bad| damaged(&bad))?;
        match thing.holder {
            Holder::Placed { at, .. } => {
                let region = regions.index_of(at);
                places.insert(thing.id, region);
                things[usize::from(region.0)].push(thing);
            }
            Holder::Inside(container) | Holder::Held(container) => inside.push((container, thing)),
        }
        Ok(())
    })?;
    // What lies in a container is where the container is.
    for (container, thing) in inside {
        let middle = regions.index_of(Position::default());
        let region = places.get(&container).copied().unwrap_or(middle);
        things[usize::from(region.0)].push(thing);
    }
    Ok(things)
}

fn refused(config: &Config, error: &std::io::Error) -> HostError {
    HostError::Listen { listen: config.server.listen, why: error.to_string() }
}

/// Opens the UDP socket for clients.
fn listen(config: &Config, identity: &Identity) -> Result<quinn::Endpoint, HostError> {
    let failed = |error: std::io::Error| refused(config, &error);
    let issued = tls::issue(identity, clock::unix_s())?;
    let server = tls::server_config(&issued, config)?;
    let socket = quic::bind(config.server.listen).map_err(failed)?;
    let endpoint = endpoint_config(identity);
    let runtime = Arc::new(quinn::TokioRuntime);
    quinn::Endpoint::new(endpoint, Some(server), socket, runtime).map_err(failed)
}

/// Returns how connections are named and disowned: with keys that outlive the process, so that a
/// server started anew tells the clients of its predecessor at once that their connections are
/// gone, and they come back instead of waiting for silence.
fn endpoint_config(identity: &Identity) -> quinn::EndpointConfig {
    let reset = identity.derive("ecumene 1 quic resets");
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &reset);
    let mut config = quinn::EndpointConfig::new(Arc::new(reset));
    config.cid_generator(|| Box::new(ConnectionIds));
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
    endpoint: quinn::Endpoint,
    identity: Arc<Identity>,
    settings: Arc<RwLock<Config>>,
) {
    loop {
        actix::clock::sleep(CERTIFICATE_EVERY).await;
        let config = settings.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let issued = tls::issue(&identity, clock::unix_s());
        match issued.and_then(|issued| tls::server_config(&issued, &config)) {
            Ok(server) => endpoint.set_server_config(Some(server)),
            Err(error) => tracing::error!(%error, "the certificate cannot be renewed"),
        }
    }
}

/// Stops in good order on the first signal to end.
async fn stop_on_signal(gateway: actix::Addr<GatewayActor>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return tracing::warn!("signals cannot be heard; stop with `ecumene stop`");
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let stop = Order::Stop(Duration::ZERO, "the server was told to stop".into());
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
fn draw_map(terrain: Arc<dyn Terrain>, regions: Regions) -> crate::io::http::DrawMap {
    Box::new(move || {
        let width_cm = u32::try_from(regions.half_width_cm()).unwrap_or(1) * 2;
        let metres = (width_cm / 100).div_ceil(MAP_PIXELS).max(1);
        let pixels = (width_cm / 100).div_ceil(metres);
        let rgb = render_map(&*terrain, Position::default(), metres, pixels, pixels).ok()?;
        crate::io::png::encode(&rgb, pixels, pixels)
    })
}
