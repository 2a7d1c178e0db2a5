//! The task behind a client: carries bytes between QUIC, the session and the picture of the
//! world, sends inputs when they are due, and comes back after losses.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::assets::fetch_rules;
use super::client::{
    CORRECTIONS_KEPT_MAX, ClientEvent, ConnectError, ConnectOptions, Shared, View,
};
use super::clock::now_us;
use super::connection::{OpenError, Opened, close_of, open};
use super::tap::Tap;
use crate::capture::{Channel, Record};
use crate::close::CloseCode;
use crate::frame;
use crate::ids::{ChunkId, ContentHash};
use crate::limits::{CHUNK_BYTES_MAX, CHUNKS_WANTED_MAX};
use crate::message::ServerMessage;
use crate::message::common::features;
use crate::message::server::Welcome;
use crate::rules::RuleBook;
use crate::session::{Answer, Outcome, Prover, Session, SessionEvent};

/// Bytes read from the control stream at a time.
const READ_BYTES: usize = 64 * 1024;

/// Bytes in front of a chunk on its stream: its header of 42 bytes in a frame, with room.
const CHUNK_HEADER_BYTES_MAX: usize = 256;

/// How long a chunk may take to arrive.
const CHUNK_TIME: Duration = Duration::from_secs(30);

/// How long the world's rules may take to arrive: nothing else is read meanwhile. Longer than a
/// server lets a fetch wait for its turn (10 s), so that it is told of a busy one.
const RULES_TIME: Duration = Duration::from_secs(13);

/// Chunks that may wait to be taken in.
const CHUNKS_WAITING_MAX: usize = 32;

/// How often silence and missing ground are looked at.
const PULSE_US: u64 = 100_000;

/// How long missing ground is waited for before it is asked for again.
const GROUND_PATIENCE_US: u64 = 5_000_000;

/// Tries to come back before giving up: with the waits below about a minute and a half.
const RETRIES_MAX: u32 = 10;

/// The first wait before coming back; each further one is twice as long.
const RETRY_MS: u64 = 250;

/// The longest wait.
const RETRY_MS_MAX: u64 = 15_000;

/// A chunk as it came.
#[derive(Debug)]
struct Ground {
    id: ChunkId,
    bytes: Arc<[u8]>,
}

/// Why a connection is no longer served.
enum Parting {
    Ended(Outcome),
    Redirected(String),
}

/// Connects and takes the session into the world.
pub(super) async fn enter(
    options: &ConnectOptions,
    session: &mut Session,
) -> Result<(Opened, Welcome), ConnectError> {
    let mut opened = open(&options.destination()).await?;
    session.prove_with(options.identity.clone().map(|identity| {
        let server_key = opened.server_key.0;
        Arc::new(move |nonce: &[u8; 32]| identity.prove(&server_key, nonce)) as Arc<dyn Prover>
    }));
    let mut out = Vec::new();
    loop {
        while let Some(event) = session.next_event() {
            match event {
                SessionEvent::Welcomed(welcome) => return Ok((opened, *welcome)),
                SessionEvent::Ended(outcome) => {
                    options.tapped_end(&outcome);
                    close(&opened.connection, &outcome);
                    return Err(ConnectError::of(outcome));
                }
                SessionEvent::Answered { .. }
                | SessionEvent::Begun { .. }
                | SessionEvent::Redirected { .. }
                | SessionEvent::Said(_) => {}
            }
        }
        if session.take_output(&mut out) {
            options.tapped(true, Channel::Control, &out);
            // A failed write shows as a failed read, which says why.
            if let Err(error) = opened.send.write_all(&out).await {
                tracing::debug!(%error, "hello not sent");
            }
            out.clear();
        }
        let pulse = Duration::from_micros(PULSE_US);
        match timeout(pulse, opened.receive.read_chunk(READ_BYTES, true)).await {
            Ok(read) => take_in(options, session, read),
            Err(_) => session.tick(now_us()),
        }
    }
}

/// Returns the rules of the world: `known` if they are those, else as the server hands them out.
pub(super) async fn rules(
    opened: &Opened,
    welcome: &Welcome,
    known: Arc<RuleBook>,
) -> Result<Arc<RuleBook>, ConnectError> {
    let hash = welcome.rules;
    if known.hash() == hash {
        return Ok(known);
    }
    let fetched = if welcome.features & features::ASSETS == 0 {
        Err("the server hands out no assets".to_owned())
    } else {
        let fetched = timeout(RULES_TIME, fetch_rules(&opened.connection, hash)).await;
        fetched.unwrap_or_else(|_| Err(format!("they took over {} s", RULES_TIME.as_secs())))
    };
    match fetched {
        Ok(book) => Ok(Arc::new(book)),
        Err(why) => {
            opened.connection.close(VarInt::from_u32(CloseCode::Goodbye.number()), &[]);
            Err(ConnectError::Rules { hash, why })
        }
    }
}

/// Serves the session until it ends for good.
pub(super) async fn run(
    mut options: ConnectOptions,
    shared: Arc<Shared>,
    mut opened: Opened,
    events: mpsc::Sender<ClientEvent>,
) {
    loop {
        let parting = Box::pin(serve(&options, &shared, &mut opened, &events)).await;
        let outcome = match parting {
            Parting::Ended(outcome) => outcome,
            Parting::Redirected(address) => {
                // The ticket is good where the same server is, and nobody else is trusted there.
                options.server_key = Some(opened.server_key);
                options.address = address;
                let why = "the session goes on elsewhere".to_owned();
                Outcome::Lost { code: CloseCode::Lost, why }
            }
        };
        options.tapped_end(&outcome);
        close(&opened.connection, &outcome);
        shared.line.send_replace(None);
        shared.view().give_up();
        let outcome = if options.reconnects && outcome.is_worth_resuming() {
            match Box::pin(come_back(&options, &shared, &events, outcome)).await {
                Ok(next) => {
                    shared.line.send_replace(Some(next.connection.clone()));
                    opened = next;
                    continue;
                }
                Err(outcome) => outcome,
            }
        } else {
            outcome
        };
        opened.endpoint.wait_idle().await;
        tell(&shared, &events, ClientEvent::Ended(outcome));
        return;
    }
}

/// Tries to resume until it works, is refused, or is in vain.
async fn come_back(
    options: &ConnectOptions,
    shared: &Shared,
    events: &mpsc::Sender<ClientEvent>,
    mut outcome: Outcome,
) -> Result<Opened, Outcome> {
    let mut wait_ms = RETRY_MS;
    for _ in 0..RETRIES_MAX {
        // Between half and all of it, so that a thousand clients do not come at once.
        let retry_ms = wait_ms / 2 + u64::from(random()) % (wait_ms / 2).max(1);
        if let Outcome::Lost { why, .. } = &outcome {
            tell(shared, events, ClientEvent::Interrupted { why: why.clone(), retry_ms });
        }
        sleep(Duration::from_millis(retry_ms)).await;
        wait_ms = (2 * wait_ms).min(RETRY_MS_MAX);
        let mut session = shared.view().session.successor(now_us());
        let mut entered = Box::pin(enter(options, &mut session)).await;
        if let Ok((opened, welcome)) = &entered {
            let known = shared.view().book.clone();
            match Box::pin(rules(opened, welcome, known)).await {
                Ok(book) => shared.view().book = book,
                Err(error) => entered = Err(error),
            }
        }
        outcome = match entered {
            Ok((opened, welcome)) => {
                let mut view = shared.view();
                view.session = session;
                if let Some(event) = view.handle(SessionEvent::Welcomed(Box::new(welcome))) {
                    drop(view);
                    tell(shared, events, event);
                }
                return Ok(opened);
            }
            Err(ConnectError::Refused { why, retry_after_s: Some(seconds), .. }) => {
                wait_ms = wait_ms.max(2_000 * u64::from(seconds)).min(4 * RETRY_MS_MAX);
                Outcome::Lost { code: CloseCode::Full, why }
            }
            Err(ConnectError::Refused { code, why, retry_after_s: None }) => {
                return Err(Outcome::Refused { code, why, retry_after_s: None });
            }
            Err(error @ (ConnectError::Open(OpenError::Trust(_)) | ConnectError::Entry(_))) => {
                return Err(Outcome::Lost { code: CloseCode::Protocol, why: error.to_string() });
            }
            Err(
                error @ (ConnectError::Open(_)
                | ConnectError::Lost { .. }
                | ConnectError::Rules { .. }),
            ) => Outcome::Lost { code: CloseCode::Lost, why: error.to_string() },
        };
    }
    Err(outcome)
}

/// Serves one connection until it or the session ends.
async fn serve(
    options: &ConnectOptions,
    shared: &Shared,
    opened: &mut Opened,
    events: &mpsc::Sender<ClientEvent>,
) -> Parting {
    let Opened { connection, send, receive, .. } = opened;
    let (ground_send, mut ground) = mpsc::channel::<Ground>(CHUNKS_WAITING_MAX);
    let mut out = Vec::new();
    let mut wanted = Wanted::default();
    loop {
        let pause = {
            let mut view = shared.view();
            wanted.look(options, &mut view);
            send_input(options, &mut view, connection);
            view.session.tick(now_us());
            view.session.take_output(&mut out);
            view.pause()
        };
        loop {
            // The lock is not held while the application is told.
            let mut view = shared.view();
            let Some(event) = view.session.next_event() else { break };
            match event {
                SessionEvent::Ended(outcome) => return Parting::Ended(outcome),
                SessionEvent::Redirected { address } => return Parting::Redirected(address),
                event @ (SessionEvent::Welcomed(_)
                | SessionEvent::Answered { .. }
                | SessionEvent::Begun { .. }
                | SessionEvent::Said(_)) => {
                    let told = view.handle(event);
                    drop(view);
                    told.into_iter().for_each(|event| tell(shared, events, event));
                }
            }
        }
        tokio::select! {
            datagram = connection.read_datagram() => match datagram {
                Ok(datagram) => {
                    options.tapped(false, Channel::Datagram, &datagram);
                    take_in_frame(&mut shared.view(), &datagram, connection);
                }
                Err(error) => lost(&mut shared.view().session, &error),
            },
            read = receive.read_chunk(READ_BYTES, true) => {
                take_in(options, &mut shared.view().session, read);
            }
            written = write_some(send, &out), if !out.is_empty() => match written {
                Some(count) => {
                    options.tapped(true, Channel::Control, out.get(..count).unwrap_or(&out));
                    out.drain(..count);
                }
                // The reads say why.
                None => out.clear(),
            },
            stream = connection.accept_uni() => if let Ok(stream) = stream {
                tokio::spawn(receive_ground(stream, ground_send.clone(), options.tap.clone()));
            },
            Some(arrived) = ground.recv() => {
                if let Some(event) = take_in_ground(options, &mut shared.view(), arrived) {
                    tell(shared, events, event);
                }
            }
            () = shared.wake.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

async fn write_some(send: &mut SendStream, out: &[u8]) -> Option<usize> {
    send.write(out).await.ok()
}

fn take_in(
    options: &ConnectOptions,
    session: &mut Session,
    read: Result<Option<quinn::Chunk>, ReadError>,
) {
    match read {
        Ok(Some(chunk)) => {
            options.tapped(false, Channel::Control, &chunk.bytes);
            session.receive(&chunk.bytes, now_us());
        }
        Ok(None) => session.closed(None, "the server ended the control stream"),
        Err(ReadError::ConnectionLost(error)) => lost(session, &error),
        Err(error) => session.closed(None, &error.to_string()),
    }
}

fn lost(session: &mut Session, error: &ConnectionError) {
    let (code, why) = close_of(error);
    session.closed(code, &why);
}

fn take_in_frame(view: &mut View, datagram: &[u8], connection: &Connection) {
    let now_us = now_us();
    view.session.heard(now_us);
    view.round_trip_us = u64::try_from(connection.rtt().as_micros()).unwrap_or(u64::MAX);
    view.replica.round_trip(view.round_trip_us);
    let here = view.replica.body().position();
    if !view.terrain.contains(ChunkId::at(0, here.x, here.z)) {
        view.terrain.assume(here.y);
    }
    match view.replica.frame(datagram, now_us, &mut view.terrain) {
        Ok(seen) => {
            if let Some(correction) = seen.and_then(|seen| seen.correction) {
                view.note_correction(correction.cm);
            }
        }
        Err(error) => tracing::debug!(%error, "datagram left out"),
    }
}

fn send_input(options: &ConnectOptions, view: &mut View, connection: &Connection) {
    let mut datagram = Vec::new();
    let sent = view.replica.input(view.input, now_us(), &view.terrain, &mut datagram);
    if sent.is_none() {
        return;
    }
    options.tapped(true, Channel::Datagram, &datagram);
    if connection.send_datagram(datagram.into()).is_err() {
        tracing::debug!("input not sent");
    }
}

/// The ground that was asked for, and when.
#[derive(Default)]
struct Wanted {
    chunks: Vec<ChunkId>,
    at_us: u64,
    looked_us: u64,
}

impl Wanted {
    fn look(&mut self, options: &ConnectOptions, view: &mut View) {
        let now_us = now_us();
        let has_chunks = view.session.features() & features::CHUNKS != 0;
        let is_time = PULSE_US <= now_us.saturating_sub(self.looked_us);
        if !is_time || !has_chunks || options.ground.is_none() || options.ground_reach <= 0 {
            return;
        }
        self.looked_us = now_us;
        let here = view.replica.body().position();
        let mut missing = view.terrain.missing(here, options.ground_reach);
        missing.truncate(CHUNKS_WANTED_MAX);
        let is_new = missing.iter().any(|chunk| !self.chunks.contains(chunk));
        let is_late = GROUND_PATIENCE_US <= now_us.saturating_sub(self.at_us);
        if missing.is_empty() || !(is_new || is_late) {
            return;
        }
        match view.session.want(missing.clone()) {
            Ok(()) => (self.chunks, self.at_us) = (missing, now_us),
            Err(error) => tracing::debug!(%error, "ground not asked for"),
        }
    }
}

async fn receive_ground(
    mut stream: RecvStream,
    to: mpsc::Sender<Ground>,
    tap: Option<Arc<dyn Tap>>,
) {
    let index = stream.id().index();
    let read = stream.read_to_end(CHUNK_HEADER_BYTES_MAX + CHUNK_BYTES_MAX);
    let bytes = match timeout(CHUNK_TIME, read).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return tracing::debug!(%error, "chunk not read"),
        Err(_) => return tracing::debug!("chunk took too long"),
    };
    if let Some(tap) = tap {
        let (channel, at_us) = (Channel::Ground, now_us());
        tap.hear(&Record { from_client: false, channel, stream: index, at_us, bytes: &bytes });
    }
    match parse_ground(&bytes) {
        Ok(ground) => {
            if to.send(ground).await.is_err() {
                tracing::trace!("chunk came after the end");
            }
        }
        Err(why) => tracing::warn!(why, "chunk left out"),
    }
}

fn parse_ground(bytes: &[u8]) -> Result<Ground, &'static str> {
    let split = frame::split(bytes, CHUNK_HEADER_BYTES_MAX).map_err(|_| "bad header")?;
    let (header, taken) = split.ok_or("no header")?;
    let Ok(Some(ServerMessage::Chunk(chunk))) = ServerMessage::read(header) else {
        return Err("another message in place of a header");
    };
    let body = bytes.get(taken..).unwrap_or_default();
    if u32::try_from(body.len()) != Ok(chunk.length) || ContentHash::of(body) != chunk.hash {
        return Err("length or hash differ from the header's");
    }
    Ok(Ground { id: chunk.id, bytes: body.into() })
}

fn take_in_ground(
    options: &ConnectOptions,
    view: &mut View,
    ground: Ground,
) -> Option<ClientEvent> {
    let decoder = options.ground.as_ref()?;
    match decoder.decode(ground.id, &ground.bytes) {
        Ok(grid) => {
            let here = view.replica.body().position();
            view.terrain.insert(ground.id, grid, here);
            Some(ClientEvent::Ground { id: ground.id, bytes: ground.bytes })
        }
        Err(why) => {
            tracing::warn!(chunk = %ground.id, why, "chunk left out");
            None
        }
    }
}

fn tell(shared: &Shared, events: &mpsc::Sender<ClientEvent>, event: ClientEvent) {
    let event = match events.try_send(event) {
        Ok(()) => return,
        Err(mpsc::error::TrySendError::Closed(_)) => return,
        Err(mpsc::error::TrySendError::Full(event)) => event,
    };
    // The end is told by the channel's closing too, so nothing is lost that matters.
    shared.view().events_lost += 1;
    tracing::debug!(?event, "the application does not take its events");
}

fn close(connection: &Connection, outcome: &Outcome) {
    let code = match outcome {
        Outcome::Left | Outcome::Refused { .. } => CloseCode::Goodbye,
        Outcome::Lost { code, .. } => *code,
    };
    connection.close(VarInt::from_u32(code.number()), &[]);
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness the clock will do: it is for spreading, not for secrets.
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        Err(_) => u32::try_from(now_us() & 0xFFFF_FFFF).unwrap_or(0),
    }
}

impl View {
    /// How long nothing is to be done unless something arrives.
    fn pause(&self) -> Duration {
        let due_us = self.replica.input_due_us().unwrap_or(u64::MAX);
        Duration::from_micros(due_us.saturating_sub(now_us()).min(PULSE_US))
    }

    #[expect(clippy::cast_possible_truncation, reason = "a fraction of a centimetre is enough")]
    fn note_correction(&mut self, cm: f64) {
        while CORRECTIONS_KEPT_MAX <= self.corrections_cm.len() {
            self.corrections_cm.pop_front();
        }
        self.corrections_cm.push_back(cm as f32);
    }

    /// Answers all that was asked with not knowing, after a loss.
    fn give_up(&mut self) {
        for request in self.session.give_up() {
            self.answer(request, Answer::Unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::server::Chunk;

    fn stream(length: u32, body: &[u8]) -> Vec<u8> {
        let id = ChunkId { level: 0, x: 1, z: 2 };
        let mut bytes = Vec::new();
        ServerMessage::from(Chunk { id, hash: ContentHash::of(b"ground"), length })
            .write(&mut bytes);
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn a_chunk_must_be_what_its_header_says() {
        let ground = parse_ground(&stream(6, b"ground")).expect("a chunk");
        assert_eq!((ground.id.x, &*ground.bytes), (1, b"ground".as_slice()));
        for bad in [stream(7, b"ground"), stream(6, b"Ground"), stream(6, b""), vec![], vec![1; 40]]
        {
            assert!(parse_ground(&bad).is_err());
        }
    }
}
