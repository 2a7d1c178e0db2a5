//! QUIC: accepts connections, and carries bytes between one client's streams and its session.
//!
//! A connection is greeted, says hello, is examined away from the ticking thread, and knocks at
//! the gateway. What anyone may do is decided elsewhere.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Addr;
use bytes::Bytes;
use protocol::close::CloseCode;
use protocol::frame::Assembler;
use protocol::input::InputDatagram;
use protocol::limits::{HELLO_BYTES_MAX, MESSAGE_BYTES_MAX};
use protocol::message::client::Hello;
use protocol::message::common::features;
use protocol::message::server::Greeting;
use protocol::message::{BadMessage, ClientMessage, ServerMessage};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{Instrument, debug, debug_span};

use crate::actors::gateway::{Entered, GatewayActor, Knock, Unseated};
use crate::actors::session::{Broke, Said, SessionActor};
use crate::admission::rates::{Bucket, Rate};
use crate::admission::{Admitted, Refusal};
use crate::io::assets::streams;
use crate::io::link::{self, Gate};
use crate::io::lobby::Lobby;
use crate::io::transport::{Connection, Endpoint, Incoming, RecvStream, SendStream};
use crate::io::{clock, rng};
use crate::link::LINK_ALPN;
use crate::shard::viewer::ClientKey;
use crate::status::names::HostMetrics;

/// Handshakes in progress at once: each costs memory before anyone is known; 2,000 newcomers in
/// a second at 100 ms each need 200.
const HANDSHAKES_MAX: usize = 512;

/// Handshakes in progress from which on an address must prove itself first.
const HANDSHAKES_TRUSTED_MAX: usize = 128;

/// Times that somebody who left a moment ago is examined anew: five seconds in all.
const KNOCKS_MAX: u32 = 100;

/// How long to wait in between: a few commits of the store.
const KNOCK_AGAIN: Duration = Duration::from_millis(50);

/// How long a chunk may take to reach a client before it is given up.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a farewell may take to reach a client before its connection is closed anyway.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Priority of chunks' streams; the control stream has 0.
const CHUNK_PRIORITY: i32 = -1;

/// Inputs taken in between two ticks: 4,000 clients, each four late ones.
const INBOX_MAX: usize = 16_384;

/// What clients sent since the last tick, in the order it came.
#[derive(Debug, Default)]
pub struct Inbox {
    inputs: Vec<(ClientKey, InputDatagram)>,
    /// Datagrams that were no input, or too many.
    pub refused: u64,
    /// Bytes of all datagrams.
    pub bytes: u64,
}

impl Inbox {
    /// Takes everything out.
    pub fn drain(&mut self) -> std::vec::Drain<'_, (ClientKey, InputDatagram)> {
        self.inputs.drain(..)
    }

    fn put(&mut self, client: ClientKey, datagram: &[u8]) {
        self.bytes += datagram.len() as u64;
        match InputDatagram::decode(datagram) {
            Ok(input) if self.inputs.len() < INBOX_MAX => self.inputs.push((client, input)),
            Ok(_) | Err(_) => self.refused += 1,
        }
    }
}

/// Accepts connections until the endpoint closes.
pub async fn accept(
    endpoint: Endpoint,
    lobby: Arc<Lobby>,
    (gateway, gate): (Addr<GatewayActor>, Arc<Gate>),
    inbox: Arc<Mutex<Inbox>>,
) {
    let under_way = Rc::new(());
    while let Some(incoming) = endpoint.accept().await {
        let busy = Rc::strong_count(&under_way) - 1;
        if busy >= HANDSHAKES_MAX {
            incoming.refuse();
            continue;
        }
        if busy >= HANDSHAKES_TRUSTED_MAX && !incoming.is_address_validated() {
            // An address that does not answer costs nothing more.
            incoming.retry();
            continue;
        }
        let peer = incoming.remote_address();
        let visit = Visit {
            lobby: Arc::clone(&lobby),
            gateway: gateway.clone(),
            gate: Arc::clone(&gate),
            inbox: Arc::clone(&inbox),
            under_way: Rc::clone(&under_way),
        };
        actix::spawn(visit.receive(incoming, peer).instrument(debug_span!("visit")));
    }
}

/// One connection on its way in.
struct Visit {
    lobby: Arc<Lobby>,
    gateway: Addr<GatewayActor>,
    gate: Arc<Gate>,
    inbox: Arc<Mutex<Inbox>>,
    under_way: Rc<()>,
}

impl Visit {
    async fn receive(self, incoming: Incoming, peer: SocketAddr) {
        let connection = match timeout(HELLO_TIMEOUT, incoming.accept()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return debug!(%error, "handshake failed"),
            Err(_) => return debug!("handshake timed out"),
        };
        if connection.speaks(LINK_ALPN) {
            return link::serve(connection, self.gate, self.gateway, self.under_way).await;
        }
        let lobby = Arc::clone(&self.lobby);
        if let Err(refusal) = self.enter(&connection, peer).await {
            debug!(code = ?refusal.code, why = refusal.why, "refused");
            lobby.metrics.closed(refusal.code);
            close(&connection, refusal.code, &refusal.why);
        }
    }

    async fn enter(self, connection: &Connection, peer: SocketAddr) -> Result<(), Refusal> {
        let broken = |why: String| Refusal::for_good(CloseCode::Protocol, why);
        let opened = timeout(HELLO_TIMEOUT, connection.open_bi()).await;
        let (mut send, mut recv) = opened
            .map_err(|_| broken("no control stream could be opened".into()))?
            .map_err(|error| broken(error.to_string()))?;
        let greeting = self.lobby.greeting(rng::random());
        let nonce = greeting.nonce;
        let mut bytes = Vec::new();
        ServerMessage::from(greeting).write(&mut bytes);
        let greeted = timeout(HELLO_TIMEOUT, send.write_all(&bytes)).await;
        greeted
            .map_err(|_| broken("the greeting was not read".into()))?
            .map_err(|error| broken(error.to_string()))?;
        let mut control = Control::default();
        let hello = timeout(HELLO_TIMEOUT, control.hello(&mut recv))
            .await
            .map_err(|_| broken(format!("no hello within {} s", HELLO_TIMEOUT.as_secs())))??;
        let has_assets = hello.features & features::ASSETS != 0;
        let entered = self.knock(connection, peer, hello, nonce).await;
        match entered {
            Ok((entered, admitted)) => {
                drop(self.under_way);
                if has_assets {
                    let (person, role) = (admitted.person, admitted.role);
                    let peer = streams::Peer { line: Line(connection.clone()), person, role };
                    let shelf = Arc::clone(&self.lobby.shelf);
                    actix::spawn(streams::serve(connection.clone(), peer, shelf));
                }
                let metrics = self.lobby.metrics.clone();
                let rate = self.lobby.datagram_rate();
                let control = (control, metrics, rate);
                carry(connection, entered, (send, recv), control, self.inbox);
                Ok(())
            }
            Err(refusal) => {
                say_farewell(&mut send, &refusal).await;
                Err(refusal)
            }
        }
    }

    async fn knock(
        &self,
        connection: &Connection,
        peer: SocketAddr,
        hello: Hello,
        nonce: [u8; 32],
    ) -> Result<(Entered, Admitted), Refusal> {
        let mut hello = Some(hello);
        for attempt in 0..KNOCKS_MAX {
            let lobby = Arc::clone(&self.lobby);
            let said = hello.take().ok_or_else(again_later)?;
            // Signatures and records cost a fraction of a millisecond: never on the ticking thread.
            let examine = move || lobby.examine(said, peer, &nonce, attempt == 0);
            let examined = tokio::task::spawn_blocking(examine).await;
            let failed = |_| Refusal::for_good(CloseCode::Internal, "the examination failed");
            let examined = examined.map_err(failed)??;
            let (again, admitted) = (examined.hello.clone(), examined.admitted.clone());
            let knock = Knock { examined: Box::new(examined), line: Line(connection.clone()) };
            let stopping = |_| Refusal::for_good(CloseCode::Stopping, "the server is stopping");
            match self.gateway.send(knock).await.map_err(stopping)? {
                Ok(entered) => return Ok((entered, admitted)),
                Err(Unseated::Refused(refusal)) => return Err(refusal),
                // They left a moment ago and what they left is being written: look again.
                Err(Unseated::Stale) => hello = Some(again),
            }
            tokio::time::sleep(KNOCK_AGAIN).await;
        }
        Err(again_later())
    }
}

fn again_later() -> Refusal {
    let why = "what you left a moment ago is still being written";
    Refusal::for_now(CloseCode::Internal, why, 2)
}

/// Starts carrying a client's streams and datagrams.
fn carry(
    connection: &Connection,
    entered: Entered,
    (send, recv): (SendStream, RecvStream),
    (control, metrics, rate): (Control, HostMetrics, Rate),
    inbox: Arc<Mutex<Inbox>>,
) {
    let Entered { client, session, outgoing } = entered;
    actix::spawn(write_control(send, outgoing));
    actix::spawn(read_control((control, metrics), recv, session.clone()));
    let connection = connection.clone();
    actix::spawn(async move {
        let mut bucket = Bucket::full(rate, clock::unix_ms());
        let take = move |datagram: Bytes| {
            let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
            // One that sends too many fills nobody's inbox but its own.
            match bucket.take(rate, clock::unix_ms()) {
                Ok(()) => inbox.put(client, &datagram),
                Err(_) => inbox.refused += 1,
            }
        };
        let why = connection.deliver_datagrams(Box::new(take)).await;
        let lost = Broke { why: why.to_string(), code: None };
        // A session that is gone already needs no telling.
        session.send(lost).await.unwrap_or_default();
    });
}

/// One client's connection, as the gateway holds it.
#[derive(Clone, Debug)]
pub struct Line(Connection);

impl Line {
    /// Sends a frame; returns whether it went out. A full buffer drops the oldest.
    #[must_use]
    pub fn send(&self, frame: Bytes) -> bool {
        self.0.send_datagram(frame)
    }

    /// Closes with a code and words.
    pub fn close(&self, code: CloseCode, why: &str) {
        close(&self.0, code, why);
    }

    /// Closes with a code and words once the client has closed by itself, after a second
    /// at the latest: for one that was told why on its control stream.
    pub fn close_behind(&self, code: CloseCode, why: String) {
        let connection = self.0.clone();
        actix::spawn(async move {
            // A lost packet is sent again meanwhile; that of a close is not.
            if timeout(FAREWELL_TIMEOUT, connection.closed()).await.is_err() {
                close(&connection, code, &why);
            }
        });
    }

    /// Returns the round trip time as last measured.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.0.round_trip()
    }

    /// Begins to send one chunk of ground on a stream of its own.
    ///
    /// `sending` counts it until it is sent or given up.
    pub fn send_chunk(&self, head: Vec<u8>, bytes: Arc<[u8]>, sending: &Rc<Cell<usize>>) {
        let (line, sending) = (self.0.clone(), Rc::clone(sending));
        sending.set(sending.get() + 1);
        actix::spawn(async move {
            if timeout(CHUNK_TIMEOUT, send_chunk(line, head, bytes)).await.is_err() {
                debug!("a client takes no ground");
            }
            sending.set(sending.get().saturating_sub(1));
        });
    }
}

pub(super) fn close(connection: &Connection, code: CloseCode, why: &str) {
    let end = why.char_indices().map(|(at, _)| at).take_while(|&at| at <= 200).last();
    let why = why.get(..end.map_or(0, |_| why.len().min(200))).unwrap_or_default();
    connection.close(code.number().into(), why.as_bytes());
}

/// Tells a client on its control stream why it must go, and gives the words time to arrive.
async fn say_farewell(send: &mut SendStream, refusal: &Refusal) {
    let mut bytes = Vec::new();
    ServerMessage::from(refusal.farewell()).write(&mut bytes);
    if send.write_all(&bytes).await.is_ok() && send.finish().is_ok() {
        // Whether it was read or not, the connection closes with the same code next.
        drop(timeout(FAREWELL_TIMEOUT, send.stopped()).await);
    }
}

/// The control stream's inbound half.
#[derive(Default)]
struct Control {
    assembler: Assembler,
}

impl Control {
    /// Returns the next message, nothing when the client ended the stream.
    async fn next(
        &mut self,
        recv: &mut RecvStream,
        bytes_max: usize,
    ) -> Result<Option<ClientMessage>, Refusal> {
        let broken = |error: BadMessage| Refusal::for_good(CloseCode::Protocol, error.to_string());
        loop {
            while let Some(frame) =
                self.assembler.next(bytes_max).map_err(|error| broken(error.into()))?
            {
                if let Some(message) = ClientMessage::read(frame).map_err(broken)? {
                    return Ok(Some(message));
                }
            }
            match recv.read_chunk(bytes_max).await {
                Ok(Some(bytes)) => self.assembler.extend(&bytes),
                Ok(None) => return Ok(None),
                Err(error) => return Err(Refusal::for_good(CloseCode::Goodbye, error.to_string())),
            }
        }
    }

    async fn hello(&mut self, recv: &mut RecvStream) -> Result<Hello, Refusal> {
        match self.next(recv, HELLO_BYTES_MAX).await? {
            Some(ClientMessage::Hello(hello)) => Ok(hello),
            Some(other) => {
                let why = format!("expected Hello first, got {}", other.name().0);
                Err(Refusal::for_good(CloseCode::Protocol, why))
            }
            None => Err(Refusal::for_good(CloseCode::Goodbye, "left before saying hello")),
        }
    }
}

async fn read_control(
    (mut control, metrics): (Control, HostMetrics),
    mut recv: RecvStream,
    session: Addr<SessionActor>,
) {
    let end = loop {
        match control.next(&mut recv, MESSAGE_BYTES_MAX).await {
            // Waiting for the session's mailbox is what slows a talkative client down.
            Ok(Some(message)) => {
                metrics.message_in(message.name().0);
                if session.send(Said(message)).await.is_err() {
                    return;
                }
            }
            Ok(None) => break Broke { why: "the control stream ended".into(), code: None },
            Err(Refusal { code: CloseCode::Goodbye, why, .. }) => {
                break Broke { why, code: None };
            }
            Err(Refusal { code, why, .. }) => break Broke { why, code: Some(code) },
        }
    };
    // A session that is gone already needs no telling.
    session.send(end).await.unwrap_or_default();
}

async fn write_control(mut send: SendStream, mut outgoing: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = outgoing.recv().await {
        if send.write_chunk(bytes).await.is_err() {
            return;
        }
    }
    // The connection may be gone; then there is no end to tell.
    drop(send.finish());
}

/// Sends one chunk of ground on a stream of its own; ends early when the client stops it.
async fn send_chunk(connection: Connection, head: Vec<u8>, bytes: Arc<[u8]>) {
    let Ok(mut stream) = connection.open_uni().await else { return };
    // Ground waits behind what is said.
    if stream.set_priority(CHUNK_PRIORITY).is_err() {
        return;
    }
    let written = async {
        stream.write_all(&head).await?;
        stream.write_all(&bytes).await
    };
    if written.await.is_ok() {
        // A client that stopped the stream does not want it any more.
        drop(stream.finish());
    }
}

/// Returns the greeting with this nonce.
impl Lobby {
    fn greeting(&self, nonce: [u8; 32]) -> Greeting {
        Greeting { nonce, ..self.greeting.clone() }
    }
}

/// Bytes that wait in the socket's buffers, each way: a tick's datagrams of 4,000 clients.
const SOCKET_BYTES: usize = 8 << 20;

/// Opens the UDP socket at `listen`.
///
/// # Errors
/// The system's, when the address is taken or not ours.
pub fn bind(listen: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    // The system gives less where it must; then ticks of large crowds lose datagrams.
    if let Err(error) = socket
        .set_recv_buffer_size(SOCKET_BYTES)
        .and_then(|()| socket.set_send_buffer_size(SOCKET_BYTES))
    {
        debug!(%error, "the socket keeps its small buffers");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    Ok(socket.into())
}
