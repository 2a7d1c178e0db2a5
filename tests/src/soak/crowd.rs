//! The loop that drives all clients: one thread, one UDP socket.
//!
//! It carries bytes between QUIC and the sans-I/O session and picture of each client, keeps the
//! rhythm of inputs, and lets clients come, break off and go as the scenario says. Frames and
//! inputs of all clients are dealt with in two tasks; each client has a task of its own for what is
//! said on streams, which is seldom.

mod asset;
mod deeds;
mod rhythm;
mod tray;
mod visit;
mod watch;

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use protocol::io::clock::now_us;
use protocol::io::connection::client_config;
use protocol::io::trust::PinnedVerifier;
use protocol::io::{Identity, ServerKey};
use protocol::message::common::ALPN;
use quinn::ClientConfig;
use server::io::batched::{Connection, Driver, Endpoint};
use tokio::time::sleep;

use super::bodies::Bodies;
use super::nearby::Nearby;
use super::scenario::Scenario;
use super::tally::Tally;
use super::truth::Truth;
use crate::dice::Dice;
use rhythm::Rhythm;
use tray::Tray;
use visit::{End, Visitor, visit};
use watch::Watch;

/// One client in so many looks in full.
pub const OBSERVED: usize = 32;

/// One client in so many holds what it is told against the truth, another one every second.
const CHECKED: u64 = 32;

/// Ticks for which the same clients check: one second at 20 Hz.
const CHECK_TICKS: u64 = 20;

/// Milliseconds before a client that was turned away tries again.
const RETRY_MS: u64 = 500;

/// Milliseconds before one whose server was killed knocks again, at first and at most, as the SDK
/// has it: twice as long each time, and between half and all of it.
const KNOCK_MS: (u64, u64) = (250, 15_000);

/// How often breaks and farewells of a scenario are decided.
const PULSE: Duration = Duration::from_secs(1);

/// Pulses between two breaks of everyone in `storm`.
const STORM_PULSES: u64 = 20;

/// One client in so many goes at each pulse of `churn`.
const CHURN_PART: u64 = 60;

/// What a crowd is made of.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where the server is.
    pub address: SocketAddr,
    /// Its identity, if it is known.
    pub server_key: Option<ServerKey>,
    /// How many clients.
    pub clients: u32,
    /// What they do.
    pub scenario: Scenario,
    /// Clients that come in a second.
    pub ramp_per_s: f64,
    /// What everything random grows from.
    pub seed: u64,
    /// Ticks per second of the world.
    pub hz: u16,
    /// How often a second a client of `errands` acts.
    pub acts_per_s: f64,
    /// Whether the server is killed now and then: everybody lends, too, and everything waits for looks.
    pub is_killed: bool,
    /// Whether what it acknowledges is kept account of.
    pub is_watched: bool,
}

/// Why a client shall break off what it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    /// It stays.
    #[default]
    Stay,
    /// Its connection breaks, and it resumes.
    Break,
    /// It leaves and comes back as if for the first time.
    Leave,
}

/// What all clients share.
pub struct Crowd {
    order: Order,
    endpoint: Endpoint,
    config: ClientConfig,
    verifier: Arc<PinnedVerifier>,
    visitors: Vec<RefCell<Visitor>>,
    tray: Tray,
    rhythm: Rhythm,
    truth: RefCell<Truth>,
    bodies: RefCell<Bodies>,
    nearby: RefCell<Nearby>,
    tally: RefCell<Tally>,
    wishes: RefCell<Vec<Wish>>,
    wake: Vec<tokio::sync::Notify>,
    /// Clients that lost their connection although nobody wanted it, by number.
    lost: RefCell<Vec<bool>>,
    connections: RefCell<Vec<Option<Connection>>>,
    /// What clients share, in `asset`.
    board: asset::Board,
    /// What is looked at so that acknowledged acts can be judged, if that is asked for.
    watch: Option<Watch>,
    is_resting: Cell<bool>,
    is_over: Cell<bool>,
}

impl Crowd {
    /// Returns a crowd of which nobody has come yet; it lives in the local tasks of this thread.
    ///
    /// # Errors
    /// When the system gives no socket, or TLS cannot be set up.
    pub fn new(order: Order) -> Result<Rc<Self>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = PinnedVerifier::new(order.server_key, Arc::clone(&provider));
        let config = client_config(&verifier, provider, (false, ALPN))?;
        let (endpoint, driver) = endpoint(order.address)?;
        let clients = order.clients as usize;
        let well = super::errand::Well::default();
        let visitors = (0..clients).map(|client| {
            let identity = identity(order.seed, client);
            RefCell::new(Visitor::new(client, identity, (&order, &well)))
        });
        let crowd = Rc::new(Self {
            endpoint,
            config,
            verifier,
            visitors: visitors.collect(),
            tray: Tray::default(),
            rhythm: Rhythm::default(),
            truth: RefCell::new(Truth::new(clients, order.hz)),
            bodies: RefCell::new(Bodies::new(clients)),
            nearby: RefCell::new(Nearby::new(clients)),
            tally: RefCell::default(),
            wishes: RefCell::new(vec![Wish::Stay; clients]),
            wake: std::iter::repeat_with(tokio::sync::Notify::new).take(clients).collect(),
            lost: RefCell::new(vec![false; clients]),
            connections: RefCell::new(vec![None; clients]),
            board: asset::Board::default(),
            watch: order.is_watched.then(|| Watch::new(clients, order.is_killed)),
            is_resting: Cell::new(false),
            is_over: Cell::new(false),
            order,
        });
        tokio::task::spawn_local(driver.run());
        tokio::task::spawn_local(tray::deal(Rc::clone(&crowd)));
        tokio::task::spawn_local(rhythm::beat(Rc::clone(&crowd)));
        Ok(crowd)
    }

    /// Lets every client come in its turn; they stay until [`Self::end`].
    pub fn gather(self: &Rc<Self>) {
        for client in 0..self.order.clients as usize {
            let crowd = Rc::clone(self);
            tokio::task::spawn_local(async move {
                let turn_s = client as f64 / crowd.order.ramp_per_s.max(0.01);
                sleep(Duration::from_secs_f64(turn_s)).await;
                crowd.live(client).await;
            });
        }
    }

    /// Lets clients break off and go as the scenario says, until the end.
    pub fn stir(self: &Rc<Self>) {
        let crowd = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let mut dice = Dice::of_client(crowd.order.seed, u64::MAX);
            let mut pulses = 0;
            while !crowd.is_over.get() {
                sleep(PULSE).await;
                pulses += 1;
                crowd.pulse(pulses, &mut dice);
            }
        });
    }

    fn pulse(&self, pulses: u64, dice: &mut Dice) {
        let mut wishes = self.wishes.borrow_mut();
        for (wish, wake) in wishes.iter_mut().zip(&self.wake) {
            *wish = match self.order.scenario {
                Scenario::Storm if pulses.is_multiple_of(STORM_PULSES) => Wish::Break,
                Scenario::Churn if dice.below(CHURN_PART) == 0 => {
                    if dice.below(2) == 0 {
                        Wish::Break
                    } else {
                        Wish::Leave
                    }
                }
                Scenario::Spread
                | Scenario::Plaza
                | Scenario::Commute
                | Scenario::Errands
                | Scenario::Storm
                | Scenario::Churn
                | Scenario::Chat
                | Scenario::Trade
                | Scenario::Asset => continue,
            };
            wake.notify_one();
        }
    }

    /// One client's life: in, out and in again.
    async fn live(self: Rc<Self>, client: usize) {
        let mut dice = Dice::of_client(self.order.seed, client as u64);
        let mut knock_ms = KNOCK_MS.0;
        while !self.is_over.get() {
            let end = Box::pin(visit(&self, client)).await;
            self.count_bytes(client);
            if !matches!(end, End::Refused(_)) {
                knock_ms = KNOCK_MS.0;
            }
            let is_away = self.watch.as_ref().is_some_and(|watch| watch.is_away(client));
            match end {
                End::Wished => {}
                End::Lost(why) | End::Refused(why) if is_away => {
                    tracing::debug!(client, why, "away");
                    let half_ms = knock_ms / 2;
                    sleep(Duration::from_millis(half_ms + dice.below(half_ms))).await;
                    knock_ms = (2 * knock_ms).min(KNOCK_MS.1);
                }
                End::Refused(why) => {
                    tracing::debug!(client, why, "not let in");
                    self.tally.borrow_mut().refused += 1;
                    sleep(Duration::from_millis(RETRY_MS)).await;
                }
                End::Lost(_) if self.is_over.get() => {}
                End::Lost(why) => {
                    tracing::warn!(client, why, "lost");
                    self.lost.borrow_mut()[client] = true;
                    self.tally.borrow_mut().lost(format!("client {client}: {why}"));
                    self.visitors[client].borrow_mut().broke(now_us());
                    sleep(Duration::from_millis(RETRY_MS)).await;
                }
            }
        }
    }

    /// Counts what a client's connection carried, which ends.
    fn count_bytes(&self, client: usize) {
        let connection = self.connections.borrow_mut()[client].take();
        if let Some(stats) = connection.and_then(|connection| connection.stats()) {
            let mut tally = self.tally.borrow_mut();
            tally.ended_bytes.0 += stats.udp_rx.bytes;
            tally.ended_bytes.1 += stats.udp_tx.bytes;
        }
    }

    /// Begins the measurement: what was counted before is forgotten.
    pub fn begin(&self) {
        self.tally.borrow_mut().begin();
        self.truth.borrow_mut().begin();
        self.bodies.borrow_mut().begin();
        self.nearby.borrow_mut().begin();
        self.lost.borrow_mut().fill(false);
    }

    /// Judges what was claimed, then returns what was counted so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.truth.borrow_mut().judge();
        self.tally.borrow().clone()
    }

    /// Returns how many clients are inside.
    #[must_use]
    pub fn inside(&self) -> u32 {
        self.tally.borrow().inside
    }

    /// Returns frames, inputs, frame bytes and losses so far, for what is told by the second.
    #[must_use]
    pub fn flow(&self) -> [u64; 4] {
        let tally = self.tally.borrow();
        [tally.frames, tally.inputs, tally.frame_bytes, tally.disconnects]
    }

    /// Returns how many clients were inside all the time, but for what the scenario wished.
    #[must_use]
    pub fn held(&self) -> u32 {
        let connections = self.connections.borrow();
        let lost = self.lost.borrow();
        let held = lost.iter().zip(connections.iter());
        let may_be_away = matches!(self.order.scenario, Scenario::Storm | Scenario::Churn);
        let held =
            held.filter(|(lost, connection)| !**lost && (may_be_away || connection.is_some()));
        let held = held.count();
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    /// Returns what was found of the truth so far.
    #[must_use]
    pub fn verdicts(&self) -> super::truth::Verdicts {
        let mut truth = self.truth.borrow_mut();
        truth.judge();
        truth.verdicts().clone()
    }

    /// Judges claims, so that they do not pile up.
    pub fn judge(&self) {
        self.truth.borrow_mut().judge();
        self.bodies.borrow_mut().judge();
    }

    /// Returns what was found of everybody's body so far.
    #[must_use]
    pub fn bodies(&self) -> Bodies {
        self.bodies.borrow().clone()
    }

    /// Returns what was found of those near each other so far.
    #[must_use]
    pub fn nearby(&self) -> Nearby {
        self.nearby.borrow().clone()
    }

    /// Returns bytes of UDP payload and datagrams so far, received and sent, of all connections.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let connections = self.connections.borrow();
        let stats = connections.iter().flatten().filter_map(Connection::stats);
        stats.fold(self.tally.borrow().ended_bytes, |(down, up), stats| {
            (down + stats.udp_rx.bytes, up + stats.udp_tx.bytes)
        })
    }

    /// Returns whether everybody has got ready for what the scenario wishes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.visitors.iter().all(|visitor| visitor.borrow().is_ready())
    }

    /// Lets nobody act any more, but for walking.
    pub fn rest(&self) {
        self.is_resting.set(true);
    }

    /// Ends it: every connection closes.
    pub fn end(&self) {
        self.is_over.set(true);
        self.endpoint.close(0_u32.into(), b"the soak is over");
    }

    /// Returns whether `client` holds what it is told at `tick` against the truth.
    fn checks(&self, client: usize, tick: u64) -> bool {
        let mut dice = Dice::of_client(self.order.seed, tick / CHECK_TICKS);
        (client as u64).wrapping_add(dice.draw()).is_multiple_of(CHECKED)
    }
}

/// Returns the identity of a client: the same for the same seed.
fn identity(seed: u64, client: usize) -> Identity {
    let mut dice = Dice::of_client(seed, client as u64);
    let mut private = [0; 32];
    for part in private.chunks_exact_mut(8) {
        part.copy_from_slice(&dice.draw().to_le_bytes());
    }
    Identity::from_private(private)
}

fn endpoint(peer: SocketAddr) -> Result<(Endpoint, Driver)> {
    let own = match peer {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    // A burst of frames for everybody waits in the socket until the loop comes round.
    let socket = server::io::quic::bind(own).context("open a UDP socket")?;
    Ok(Endpoint::new(quinn::EndpointConfig::default(), None, socket)?)
}
