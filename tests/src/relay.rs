//! A bad network: carries datagrams between clients and a server, and loses, delays, reorders,
//! doubles and cuts them, or changes the address that the server sees.
//!
//! What happens to the n-th datagram of a direction follows from the seed alone ([`Weather`]);
//! when it comes is the clients' doing. It understands nothing of what it carries.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::dice::Dice;

/// Datagrams on their way at once: 1,000 clients, 60 a second both ways, a quarter second.
const UNDER_WAY_MAX: usize = 32_768;

/// Datagrams from the server that may wait for the relay.
const ARRIVED_MAX: usize = 4_096;

/// Bytes of the largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Clients at once: each has a socket of its own.
const CLIENTS_MAX: usize = 1_024;

/// Milliseconds that a datagram is under way at most.
const DELAY_MS_MAX: u32 = 10_000;

/// What a network does to each direction's datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Impairment {
    /// Datagrams of a thousand that are lost.
    pub loss_permille: u32,
    /// Milliseconds that each is under way.
    pub delay_ms: u32,
    /// Milliseconds that it may take more or less. Their order stays.
    pub jitter_ms: u32,
    /// Datagrams of a thousand that overtake those before them: they take half the time.
    pub reorder_permille: u32,
    /// Datagrams of a thousand that come twice.
    pub duplicate_permille: u32,
}

impl Impairment {
    /// Returns the part of datagrams that arrive at all.
    #[must_use]
    pub fn delivered_share(&self) -> f64 {
        1.0 - f64::from(self.loss_permille) / 1_000.0
    }
}

impl FromStr for Impairment {
    type Err = String;

    /// Reads `loss=5%,delay=100ms,jitter=20ms,reorder=1%,duplicate=1%`: each may be left out.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut impairment = Self::default();
        for part in text.split(',') {
            let wrong =
                |why: &str| format!("`{part}`: {why}; such as loss=5%,delay=100ms,jitter=20ms");
            let (name, value) = part.split_once('=').ok_or_else(|| wrong("expected NAME=VALUE"))?;
            let permille = || {
                let number = value.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
                let percent = number.filter(|percent| (0.0..=100.0).contains(percent));
                let percent = percent.ok_or_else(|| wrong("expected a part from 0% to 100%"))?;
                Ok::<_, String>((10.0 * percent).round() as u32)
            };
            let ms = || {
                let number = value.strip_suffix("ms").and_then(|number| number.parse().ok());
                let ms = number.filter(|&ms: &u32| ms <= DELAY_MS_MAX);
                ms.ok_or_else(|| wrong(&format!("expected a time up to {DELAY_MS_MAX}ms")))
            };
            match name.trim() {
                "loss" => impairment.loss_permille = permille()?,
                "delay" => impairment.delay_ms = ms()?,
                "jitter" => impairment.jitter_ms = ms()?,
                "reorder" => impairment.reorder_permille = permille()?,
                "duplicate" => impairment.duplicate_permille = permille()?,
                _ => return Err(wrong("there are loss, delay, jitter, reorder and duplicate")),
            }
        }
        Ok(impairment)
    }
}

/// What becomes of one datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Microseconds under way, of each copy; none is a loss.
    pub copies_us: [Option<u64>; 2],
    /// Whether it overtakes.
    pub overtakes: bool,
}

/// Decides the fates of one direction's datagrams, one after another.
#[derive(Clone, Debug)]
pub struct Weather {
    impairment: Impairment,
    dice: Dice,
}

impl Weather {
    /// Returns the weather of a seed.
    #[must_use]
    pub const fn new(impairment: Impairment, seed: u64) -> Self {
        Self { impairment, dice: Dice(seed) }
    }

    /// Returns what becomes of the next datagram.
    pub fn fate(&mut self) -> Fate {
        let Impairment { loss_permille, delay_ms, jitter_ms, .. } = self.impairment;
        let (lost, twice, overtakes) = (self.permille(), self.permille(), self.permille());
        let spread_us = 2_000 * u64::from(jitter_ms);
        let mut under_way = || {
            let more_us = self.dice.below(spread_us + 1);
            (1_000 * u64::from(delay_ms) + more_us).saturating_sub(spread_us / 2)
        };
        let (first_us, second_us) = (under_way(), under_way());
        if lost < loss_permille {
            return Fate::default();
        }
        let overtakes = overtakes < self.impairment.reorder_permille;
        let first_us = if overtakes { first_us / 2 } else { first_us };
        let second_us = (twice < self.impairment.duplicate_permille).then_some(second_us);
        Fate { copies_us: [Some(first_us), second_us], overtakes }
    }

    fn permille(&mut self) -> u32 {
        u32::try_from(self.dice.below(1_000)).unwrap_or(0)
    }
}

/// What a running relay is told, and what it counts.
#[derive(Debug, Default)]
struct Controls {
    is_cut: AtomicBool,
    forged_permille: AtomicU32,
    bindings: AtomicU32,
    carried: AtomicU64,
    lost: AtomicU64,
}

/// A relay in front of a server, on a thread of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    controls: Arc<Controls>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    forger: Arc<Forger>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the relay panicked");
        }
    }
}

impl Relay {
    /// Starts a relay to `server`.
    ///
    /// # Errors
    /// The system's.
    pub fn start(server: SocketAddr, impairment: Impairment, seed: u64) -> Result<Self> {
        let controls = Arc::<Controls>::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let front = std::net::UdpSocket::bind("127.0.0.1:0").context("open the relay")?;
        front.set_nonblocking(true)?;
        let address = front.local_addr()?;
        let front = {
            let _inside = runtime.enter();
            UdpSocket::from_std(front)?
        };
        let (stop, mut stopped) = mpsc::channel(1);
        let weather = [Weather::new(impairment, seed), Weather::new(impairment, !seed)];
        let forger = Arc::new(Forger::towards(server)?);
        let network =
            Network::new(front, server, weather, (Arc::clone(&controls), Arc::clone(&forger)));
        let thread = std::thread::Builder::new().name("relay".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = network.carry() => {}
                    _ = stopped.recv() => {}
                }
            });
        })?;
        Ok(Self { address, controls, stop: Some(stop), thread: Some(thread), forger })
    }

    /// Returns where clients connect instead of to the server.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loses everything from now on, or nothing more than the impairment says.
    pub fn cut(&self, is_cut: bool) {
        self.controls.is_cut.store(is_cut, Ordering::Relaxed);
    }

    /// Gives every client another port towards the server, as a router does that forgot it.
    pub fn rebind(&self) {
        self.controls.bindings.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets somebody else send so many of a thousand datagrams to the server first, word for word
    /// and from another address, as one does who listens on the way and wants the answers.
    pub fn forge(&self, permille: u32) {
        self.controls.forged_permille.store(permille, Ordering::Relaxed);
    }

    /// Returns how many datagrams and bytes that one sent, and how many bytes came back for them.
    #[must_use]
    pub fn forged(&self) -> (u64, u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Forger { sent, sent_bytes, lured_bytes, .. } = &*self.forger;
        self.forger.read_mail();
        (count(sent), count(sent_bytes), count(lured_bytes))
    }

    /// Returns how many datagrams were carried, and how many were lost.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.controls.carried), count(&self.controls.lost))
    }
}

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    ToServer = 0,
    ToClient = 1,
}

/// A datagram under way: when it is due, and in what order those due at once go.
type UnderWay = Reverse<(Instant, u64, Way, SocketAddr, Vec<u8>)>;

/// A client's port towards the server.
struct Port {
    binding: u32,
    socket: Arc<UdpSocket>,
    listener: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Somebody who sends clients' datagrams from an address that is not theirs, and counts what comes
/// back for it.
#[derive(Debug)]
struct Forger {
    socket: std::net::UdpSocket,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    lured_bytes: AtomicU64,
}

impl Forger {
    fn towards(server: SocketAddr) -> Result<Self> {
        let socket =
            std::net::UdpSocket::bind("127.0.0.1:0").context("open the forger's socket")?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let [sent, sent_bytes, lured_bytes] = Default::default();
        Ok(Self { socket, sent, sent_bytes, lured_bytes })
    }

    fn send(&self, bytes: &[u8]) {
        self.read_mail();
        match self.socket.send(bytes) {
            Ok(_) => {
                self.sent.fetch_add(1, Ordering::Relaxed);
                self.sent_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Err(error) => tracing::debug!(%error, "not forged"),
        }
    }

    /// Counts what came for it.
    fn read_mail(&self) {
        let mut mail = vec![0; DATAGRAM_BYTES_MAX];
        while let Ok(length) = self.socket.recv(&mut mail) {
            self.lured_bytes.fetch_add(length as u64, Ordering::Relaxed);
        }
    }
}

struct Network {
    front: UdpSocket,
    server: SocketAddr,
    weather: [Weather; 2],
    controls: Arc<Controls>,
    ports: BTreeMap<SocketAddr, Port>,
    under_way: BinaryHeap<UnderWay>,
    /// When the newest datagram of each way is due, which none behind it may pass.
    newest: [Option<Instant>; 2],
    sent: u64,
    forger: Arc<Forger>,
    forged: Weather,
    arrived: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
    arrive: mpsc::Sender<(SocketAddr, Vec<u8>)>,
}

impl Network {
    fn new(
        front: UdpSocket,
        server: SocketAddr,
        weather: [Weather; 2],
        (controls, forger): (Arc<Controls>, Arc<Forger>),
    ) -> Self {
        let (arrive, arrived) = mpsc::channel(ARRIVED_MAX);
        Self {
            front,
            server,
            weather,
            controls,
            ports: BTreeMap::new(),
            under_way: BinaryHeap::new(),
            newest: [None; 2],
            sent: 0,
            forger,
            forged: Weather::new(Impairment::default(), 0),
            arrived,
            arrive,
        }
    }

    async fn carry(mut self) {
        let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let due = self.under_way.peek().map(|Reverse((due, ..))| *due);
            let pause = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
            tokio::select! {
                received = self.front.recv_from(&mut bytes) => {
                    // An error is about a datagram sent earlier, to a client that is gone.
                    if let Ok((length, client)) = received {
                        self.take(Way::ToServer, client, bytes.get(..length).unwrap_or_default());
                    }
                }
                Some((client, datagram)) = self.arrived.recv() => {
                    self.take(Way::ToClient, client, &datagram);
                }
                () = sleep_until(pause) => self.deliver().await,
            }
        }
    }

    fn take(&mut self, way: Way, client: SocketAddr, bytes: &[u8]) {
        let fate = self.weather[way as usize].fate();
        let is_lost = fate.copies_us == [None; 2] || self.controls.is_cut.load(Ordering::Relaxed);
        if is_lost || UNDER_WAY_MAX <= self.under_way.len() {
            self.controls.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.controls.carried.fetch_add(1, Ordering::Relaxed);
        for under_way_us in fate.copies_us.into_iter().flatten() {
            let mut due = Instant::now() + Duration::from_micros(under_way_us);
            if !fate.overtakes {
                due = self.newest[way as usize].map_or(due, |newest| newest.max(due));
                self.newest[way as usize] = Some(due);
            }
            self.sent += 1;
            self.under_way.push(Reverse((due, self.sent, way, client, bytes.to_vec())));
        }
    }

    async fn deliver(&mut self) {
        let now = Instant::now();
        while self.under_way.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((_, _, way, client, bytes))) = self.under_way.pop() else { return };
            let sent = match way {
                Way::ToClient => self.front.send_to(&bytes, client).await.map_err(Into::into),
                Way::ToServer => self.send_to_server(client, &bytes).await,
            };
            if let Err(error) = sent {
                tracing::debug!(%error, "not delivered");
            }
        }
    }

    async fn send_to_server(&mut self, client: SocketAddr, bytes: &[u8]) -> Result<usize> {
        let binding = self.controls.bindings.load(Ordering::Relaxed);
        if self.ports.get(&client).is_none_or(|port| port.binding != binding) {
            if CLIENTS_MAX <= self.ports.len() && !self.ports.contains_key(&client) {
                return Err(anyhow!("{CLIENTS_MAX} clients are all a relay carries"));
            }
            let port = self.open(client, binding).await?;
            self.ports.insert(client, port);
        }
        if self.forged.permille() < self.controls.forged_permille.load(Ordering::Relaxed) {
            self.forger.send(bytes);
        }
        let port = self.ports.get(&client).context("opened just now")?;
        Ok(port.socket.send(bytes).await?)
    }

    async fn open(&self, client: SocketAddr, binding: u32) -> Result<Port> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(self.server).await?;
        let socket = Arc::new(socket);
        let (from, to) = (Arc::clone(&socket), self.arrive.clone());
        let listener = tokio::spawn(async move {
            let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
            loop {
                // An error is about a datagram sent earlier: the server is away for a while.
                let Ok(length) = from.recv(&mut bytes).await else { continue };
                let datagram = bytes.get(..length).unwrap_or_default().to_vec();
                if to.send((client, datagram)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Port { binding, socket, listener })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: Impairment = Impairment {
        loss_permille: 50,
        delay_ms: 100,
        jitter_ms: 20,
        reorder_permille: 30,
        duplicate_permille: 20,
    };

    fn fates(impairment: Impairment, seed: u64) -> Vec<Fate> {
        let mut weather = Weather::new(impairment, seed);
        (0..10_000).map(|_| weather.fate()).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_weather() {
        assert_eq!(fates(BAD, 7), fates(BAD, 7));
        assert_ne!(fates(BAD, 7), fates(BAD, 8));
    }

    #[test]
    fn as_many_are_lost_doubled_and_overtaking_as_was_asked() {
        let fates = fates(BAD, 7);
        let count = |is: &dyn Fn(&Fate) -> bool| fates.iter().filter(|fate| is(fate)).count();
        let lost = count(&|fate| fate.copies_us == [None; 2]);
        let doubled = count(&|fate| fate.copies_us[1].is_some());
        let overtaking = count(&|fate| fate.overtakes);
        assert!((400..600).contains(&lost), "{lost}");
        assert!((130..260).contains(&doubled), "{doubled}");
        assert!((200..400).contains(&overtaking), "{overtaking}");
        let in_order = fates.iter().filter(|fate| !fate.overtakes);
        let all_us: Vec<u64> = in_order.flat_map(|fate| fate.copies_us).flatten().collect();
        assert!(all_us.iter().all(|us| (80_000..=120_000).contains(us)));
        let mean_us = all_us.iter().sum::<u64>() / all_us.len() as u64;
        assert!((99_000..101_000).contains(&mean_us), "{mean_us}");
    }

    #[test]
    fn fair_weather_changes_nothing() {
        let expected = Fate { copies_us: [Some(0), None], overtakes: false };
        assert!(fates(Impairment::default(), 7).iter().all(|fate| *fate == expected));
    }

    #[test]
    fn a_bad_network_is_read_as_it_is_said() {
        let said = "loss=5%,delay=100ms,jitter=20ms,reorder=3%,duplicate=2%";
        assert_eq!(said.parse(), Ok(BAD));
        assert_eq!("loss=0.5%".parse::<Impairment>().map(|it| it.loss_permille), Ok(5));
        for wrong in ["", "loss", "loss=5", "loss=101%", "delay=100", "delay=-1ms", "rain=1%"] {
            let why = wrong.parse::<Impairment>().expect_err(wrong);
            assert!(why.contains("loss=5%,delay=100ms"), "{why}");
        }
    }
}
