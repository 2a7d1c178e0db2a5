//! A QUIC endpoint that handles all its connections in one loop, in batches.
//!
//! quinn gives every connection a task, and every packet its way through the scheduler; a thousand
//! clients who each get and send a packet every tick pay for that more than for the packets.
//! Here one task, [`Driver::run`], reads many packets at a time, lets `quinn-proto` work on the
//! connections they belong to, and writes what all of them have to say. What is on the wire is the
//! same, and so is what a caller sees: [`Connection`], [`SendStream`] and [`RecvStream`] work as
//! quinn's do.
//!
//! Everything stands behind one lock, which only tasks of one thread ever take: it is there so
//! that handles may lie in messages, never waited for, and never held across an await.

mod connection;
mod driver;
mod stream;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use quinn::udp::UdpSocketState;
use quinn::{ClientConfig, ConnectionError, EndpointConfig, ServerConfig, VarInt};
use quinn_proto::{AcceptError, ConnectError, ConnectionHandle, StreamId, Transmit};

use crate::io::clock;

pub use connection::Connection;
pub use driver::Driver;
pub use stream::{RecvStream, SendStream};

/// Answers to packets of no connection that wait for room in the socket; whoever gets none asks
/// again.
const REPLIES_MAX: usize = 256;

/// Datagrams that wait at the endpoint: more, while the system takes none, wait at their connections,
/// which drop old ones.
const OUTBOX_MAX: usize = 8 * 1024;

/// Takes a connection's datagrams as they come.
///
/// It is called, and dropped, while the endpoint is locked: it must neither call the endpoint or a
/// connection nor own a handle to one.
pub type Sink = Box<dyn FnMut(Bytes) + Send>;

/// One UDP socket and all its connections. Clones are the same endpoint.
#[derive(Clone)]
pub struct Endpoint(Arc<Shared>);

/// What handles and the driver share.
struct Shared {
    core: Mutex<Core>,
    local: SocketAddr,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All connections, by the numbers that `quinn-proto` gives them.
struct Core {
    endpoint: quinn_proto::Endpoint,
    slots: Vec<Option<Box<Slot>>>,
    /// The serials of those that stand, 0 for none: apart from them, as `deadlines` are.
    standing: Vec<u64>,
    /// When each connection wants to be looked at again, in microseconds since `began`: apart from
    /// the connections, so that looking through all of them touches little memory.
    deadlines: Vec<u64>,
    /// The earliest of them, or earlier.
    next_deadline: u64,
    /// When all of them were looked through.
    looked: u64,
    began: Instant,
    /// Connections that something happened to.
    dirty: VecDeque<usize>,
    /// Datagrams that are to go out, and by which connections: each waits for its turn here, not at
    /// its connection, whose memory is then touched once for all that there is to say.
    outbox: VecDeque<((usize, u64), Bytes)>,
    /// What the endpoint itself has to say.
    replies: VecDeque<(Transmit, Vec<u8>)>,
    newcomers: VecDeque<quinn_proto::Incoming>,
    accepting: Vec<Waker>,
    driver: Option<Waker>,
    /// Tells a connection from an earlier one with the same number.
    serial: u64,
    is_closed: bool,
}

/// A deadline that is none.
const NEVER: u64 = u64::MAX;

/// One connection.
struct Slot {
    serial: u64,
    connection: quinn_proto::Connection,
    is_dirty: bool,
    /// Whether it is dirty for more than packets that came and datagrams to send.
    is_asked: bool,
    /// Whether it was given a datagram to send.
    is_posted: bool,
    /// How often in a row there was nothing to say to a packet that came.
    silences: u8,
    /// Until when, in microseconds since the endpoint began, what came may stay without its turn to
    /// speak.
    unsaid_us: u64,
    is_connected: bool,
    end: End,
    sink: Option<Sink>,
    waiting: Waiting,
}

/// How a connection ended; empty while it stands.
type End = Arc<OnceLock<ConnectionError>>;

/// Who waits for something of a connection.
#[derive(Default)]
struct Waiting {
    connected: Vec<Waker>,
    closed: Vec<Waker>,
    /// For a stream of ours to be allowed, by direction.
    opening: [Vec<Waker>; 2],
    /// For a stream of the peer's, by direction.
    accepting: [Vec<Waker>; 2],
    reading: Vec<(StreamId, Waker)>,
    writing: Vec<(StreamId, Waker)>,
    /// For all of a stream to be acknowledged.
    finishing: Vec<(StreamId, Waker)>,
}

impl Waiting {
    fn wake_everyone(&mut self) {
        let Self { connected, closed, opening, accepting, reading, writing, finishing } = self;
        let streams = reading.drain(..).chain(writing.drain(..)).chain(finishing.drain(..));
        let streams = streams.map(|(_, waker)| waker);
        let others = connected.drain(..).chain(closed.drain(..));
        let others = others.chain(opening.iter_mut().flat_map(|wakers| wakers.drain(..)));
        let others = others.chain(accepting.iter_mut().flat_map(|wakers| wakers.drain(..)));
        others.chain(streams).for_each(Waker::wake);
    }
}

/// Wakes those of `waiting` that wait for `stream`.
fn wake(waiting: &mut Vec<(StreamId, Waker)>, stream: StreamId) {
    let woken = waiting.extract_if(.., |(waits_for, _)| *waits_for == stream);
    woken.for_each(|(_, waker)| waker.wake());
}

/// Lets nobody wait for `stream` any more.
fn forget(waiting: &mut Vec<(StreamId, Waker)>, stream: StreamId) {
    waiting.retain(|(waits_for, _)| *waits_for != stream);
}

/// Lets `waker` wait, once.
fn enlist(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|waits| waits.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}

/// Lets `waker` wait for `stream`, instead of who waited before.
fn wait(waiting: &mut Vec<(StreamId, Waker)>, stream: StreamId, waker: &Waker) {
    forget(waiting, stream);
    waiting.push((stream, waker.clone()));
}

impl Endpoint {
    /// Returns an endpoint on a socket, and what must be run for anything to happen.
    ///
    /// With `server`, others may connect to it.
    ///
    /// # Errors
    /// The system's, when the socket cannot be used.
    pub fn new(
        config: EndpointConfig,
        server: Option<ServerConfig>,
        socket: std::net::UdpSocket,
    ) -> std::io::Result<(Self, Driver)> {
        let state = UdpSocketState::new((&socket).into())?;
        let (config, server) = (Arc::new(config), server.map(Arc::new));
        let endpoint = quinn_proto::Endpoint::new(config, server, !state.may_fragment(), None);
        let core = Core {
            endpoint,
            slots: Vec::new(),
            standing: Vec::new(),
            deadlines: Vec::new(),
            next_deadline: NEVER,
            looked: 0,
            began: clock::instant(),
            dirty: VecDeque::new(),
            outbox: VecDeque::new(),
            replies: VecDeque::new(),
            newcomers: VecDeque::new(),
            accepting: Vec::new(),
            driver: None,
            serial: 0,
            is_closed: false,
        };
        let shared = Arc::new(Shared { core: Mutex::new(core), local: socket.local_addr()? });
        let driver = Driver::new(Arc::clone(&shared), socket, state)?;
        Ok((Self(shared), driver))
    }

    /// Returns where the socket is bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    /// Sets what newcomers get to see; connections that stand keep what they have.
    pub fn set_server_config(&self, server: ServerConfig) {
        self.0.lock().endpoint.set_server_config(Some(Arc::new(server)));
    }

    /// Returns the next newcomer, nothing once the endpoint is closed.
    pub async fn accept(&self) -> Option<Incoming> {
        std::future::poll_fn(|cx| {
            let mut core = self.0.lock();
            if core.is_closed {
                return Poll::Ready(None);
            }
            if let Some(newcomer) = core.newcomers.pop_front() {
                let (shared, remote) = (Arc::clone(&self.0), newcomer.remote_address());
                return Poll::Ready(Some(Incoming { shared, remote, newcomer: Some(newcomer) }));
            }
            enlist(&mut core.accepting, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Begins to connect to a server that shows a certificate for `name`.
    ///
    /// # Errors
    /// [`ConnectError`], when it cannot even be tried.
    pub fn connect(
        &self,
        config: ClientConfig,
        address: SocketAddr,
        name: &str,
    ) -> Result<Connection, ConnectError> {
        let mut core = self.0.lock();
        if core.is_closed {
            return Err(ConnectError::EndpointStopping);
        }
        let begun = core.endpoint.connect(clock::instant(), config, address, name)?;
        Ok(self.0.insert(&mut core, begun))
    }

    /// Closes all connections and lets nobody in any more; nothing else ends the driver.
    pub fn close(&self, code: VarInt, why: &'static [u8]) {
        let mut core = self.0.lock();
        core.let_nobody_in();
        for index in 0..core.slots.len() {
            core.close(index, code, Bytes::from_static(why));
        }
        // It ends by itself once nothing is left to say.
        core.wake_driver();
    }
}

impl Shared {
    /// Takes in a connection that has begun.
    fn insert(
        self: &Arc<Self>,
        core: &mut Core,
        (handle, connection): (ConnectionHandle, quinn_proto::Connection),
    ) -> Connection {
        let ConnectionHandle(index) = handle;
        if core.slots.len() <= index {
            core.slots.resize_with(index + 1, || None);
            core.standing.resize(index + 1, 0);
            core.deadlines.resize(index + 1, NEVER);
        }
        core.serial += 1;
        let (serial, end) = (core.serial, End::default());
        let remote = connection.remote_address();
        let slot = Slot {
            serial,
            connection,
            is_dirty: false,
            is_asked: false,
            is_posted: false,
            silences: 0,
            unsaid_us: NEVER,
            is_connected: false,
            end: Arc::clone(&end),
            sink: None,
            waiting: Waiting::default(),
        };
        core.slots[index] = Some(Box::new(slot));
        core.standing[index] = serial;
        core.mark(index);
        Connection::new(Arc::clone(self), (index, serial), remote, end)
    }
}

impl Core {
    /// Returns a connection if it has not gone for good.
    fn slot(&mut self, (index, serial): (usize, u64)) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(index)?.as_deref_mut();
        slot.filter(|slot| slot.serial == serial)
    }

    /// Notes that something happened to a connection, for the driver to see to.
    fn mark(&mut self, index: usize) {
        if let Some(Some(slot)) = self.slots.get_mut(index) {
            slot.is_asked = true;
        }
        self.line_up(index);
    }

    /// Lets a connection say what it has to say in its turn.
    fn line_up(&mut self, index: usize) {
        let Some(Some(slot)) = self.slots.get_mut(index) else { return };
        if !std::mem::replace(&mut slot.is_dirty, true) {
            self.dirty.push_back(index);
            self.wake_driver();
        }
    }

    /// Ends the coming in: those who wait at the door are turned away unheard.
    fn let_nobody_in(&mut self) {
        self.is_closed = true;
        let newcomers = std::mem::take(&mut self.newcomers);
        newcomers.into_iter().for_each(|newcomer| self.endpoint.ignore(newcomer));
        self.accepting.drain(..).for_each(Waker::wake);
    }

    /// Lets a connection send a datagram in its turn; returns whether it stands.
    fn post(&mut self, key: (usize, u64), datagram: Bytes) -> bool {
        if self.standing.get(key.0) != Some(&key.1) {
            return false;
        }
        if OUTBOX_MAX <= self.outbox.len()
            && let Some((key, datagram)) = self.outbox.pop_front()
            && self.hand_over(key, datagram)
        {
            self.line_up(key.0);
        }
        self.outbox.push_back((key, datagram));
        self.wake_driver();
        true
    }

    /// Gives a connection a datagram to send, unless it has gone; a full buffer drops the oldest.
    fn hand_over(&mut self, key: (usize, u64), datagram: Bytes) -> bool {
        let Some(slot) = self.slot(key) else { return false };
        slot.is_posted = true;
        // One that does not fit the way any more, or that the peer does not want, is lost on it.
        slot.connection.datagrams().send(datagram, true).unwrap_or_default();
        true
    }

    /// Returns whether anybody has something to say.
    fn has_speakers(&self) -> bool {
        !self.dirty.is_empty() || !self.outbox.is_empty()
    }

    fn wake_driver(&mut self) {
        self.driver.take().into_iter().for_each(Waker::wake);
    }

    /// Closes a connection from this side.
    fn close(&mut self, index: usize, code: VarInt, why: Bytes) {
        let Some(Some(slot)) = self.slots.get_mut(index) else { return };
        if slot.end.set(ConnectionError::LocallyClosed).is_ok() {
            slot.connection.close(clock::instant(), code, why);
            slot.sink = None;
            slot.waiting.wake_everyone();
            self.standing[index] = 0;
            self.mark(index);
        }
    }

    /// Returns microseconds since the endpoint began.
    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(NEVER)
    }
}

/// Somebody who wants to connect.
pub struct Incoming {
    shared: Arc<Shared>,
    remote: SocketAddr,
    /// Nothing once it is decided.
    newcomer: Option<quinn_proto::Incoming>,
}

impl Incoming {
    /// Returns where the newcomer's packets come from.
    #[must_use]
    pub const fn remote_address(&self) -> SocketAddr {
        self.remote
    }

    /// Returns whether that address has shown that it receives what is sent to it.
    #[must_use]
    pub fn is_address_validated(&self) -> bool {
        self.newcomer.as_ref().is_some_and(quinn_proto::Incoming::remote_address_validated)
    }

    /// Begins a connection.
    ///
    /// # Errors
    /// [`ConnectionError`], when what the newcomer sent makes none.
    pub fn accept(mut self) -> Result<Connection, ConnectionError> {
        let Some(newcomer) = self.newcomer.take() else {
            return Err(ConnectionError::LocallyClosed);
        };
        let mut core = self.shared.lock();
        if core.is_closed {
            core.endpoint.ignore(newcomer);
            return Err(ConnectionError::LocallyClosed);
        }
        let mut reply = Vec::new();
        match core.endpoint.accept(newcomer, clock::instant(), &mut reply, None) {
            Ok(begun) => Ok(self.shared.insert(&mut core, begun)),
            Err(AcceptError { cause, response }) => {
                if let Some(transmit) = response {
                    core.reply(transmit, reply);
                }
                Err(cause)
            }
        }
    }

    /// Tells the newcomer that it is not let in.
    pub fn refuse(mut self) {
        let Some(newcomer) = self.newcomer.take() else { return };
        self.shared.lock().refuse(newcomer);
    }

    /// Asks the newcomer to prove its address; one that has done so is refused.
    pub fn retry(mut self) {
        let Some(newcomer) = self.newcomer.take() else { return };
        let mut core = self.shared.lock();
        let mut reply = Vec::new();
        match core.endpoint.retry(newcomer, &mut reply) {
            Ok(transmit) => core.reply(transmit, reply),
            Err(error) => core.refuse(error.into_incoming()),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(newcomer) = self.newcomer.take() {
            self.shared.lock().endpoint.ignore(newcomer);
        }
    }
}

impl Core {
    /// Keeps a newcomer for whoever accepts.
    fn welcome(&mut self, newcomer: quinn_proto::Incoming) {
        // How many may wait is bounded by the server's configuration.
        if self.is_closed {
            return self.refuse(newcomer);
        }
        self.newcomers.push_back(newcomer);
        self.accepting.drain(..).for_each(Waker::wake);
    }

    fn refuse(&mut self, newcomer: quinn_proto::Incoming) {
        let mut reply = Vec::new();
        let transmit = self.endpoint.refuse(newcomer, &mut reply);
        self.reply(transmit, reply);
    }

    fn reply(&mut self, transmit: Transmit, bytes: Vec<u8>) {
        if self.replies.len() < REPLIES_MAX {
            self.replies.push_back((transmit, bytes));
            self.wake_driver();
        }
    }
}

#[cfg(test)]
mod tests;
