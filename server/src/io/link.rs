//! Links: the server's end of a connection to a process that runs shards for it.
//!
//! It comes in at the same UDP port as clients and is told from them by its protocol's name. Who
//! may join is decided by [`Gate`]; what runs where, by the gateway.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix::Addr;
use bytes::Bytes;
use protocol::close::CloseCode;
use protocol::ids::WorldId;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::actors::gateway::{Depart, GatewayActor, Join, LinkLost};
use crate::actors::shard::{PackedUp, Stepped};
use crate::admission::Refusal;
use crate::admission::access::Access;
use crate::config::{Config, Reach};
use crate::hosting::{BadClaim, LinkId, Place, REGIONS_MAX};
use crate::io::clock;
use crate::io::quic::close;
use crate::io::transport::{Connection, RecvStream, SendStream};
use crate::link::{
    self, BadFrame, Down, FRAME_BYTES_MAX, JOIN_BYTES_MAX, LENGTH_BYTES, PROGRAM, Up,
};
use crate::region::RegionIndex;
use crate::token;

/// Frames that may wait for one process: two seconds of steps of as many shards as it may run.
const OUTGOING_MAX: usize = 40 * REGIONS_MAX;

/// How long a process may take to say what it wants.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a process that runs nothing any more may stay: long enough to hear why.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long the other end may take to take one frame.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked whether a process still may run shards.
const RIGHT_EVERY: Duration = Duration::from_secs(1);

/// Longest time a step counts for, whatever the process says.
const TOOK_MAX: Duration = Duration::from_secs(10);

/// Who may run shards of a world.
pub struct Gate {
    /// Checks the tokens.
    pub tokens: token::Mint,
    /// What operators decided.
    pub access: Arc<RwLock<Access>>,
    /// The settings in force.
    pub config: Arc<RwLock<Config>>,
    /// The world.
    pub world: WorldId,
}

impl Gate {
    /// Decides whether somebody at `peer` may ask at all.
    fn judge_reach(&self, peer: SocketAddr) -> Result<(), Refusal> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        let is_allowed = match config.server.shard_processes {
            Reach::Anyone => true,
            Reach::Loopback => peer.ip().to_canonical().is_loopback(),
            Reach::Nobody => false,
        };
        if !is_allowed {
            let why = "processes that run shards are not let in from there; \
                       the operator can set server.shard_processes";
            return Err(Refusal::for_good(CloseCode::Unauthorized, why));
        }
        Ok(())
    }

    /// Decides about somebody at `peer` who shows `token`.
    fn judge(&self, peer: SocketAddr, token: &[u8]) -> Result<(), Refusal> {
        self.judge_reach(peer)?;
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        let is_revoked = |id| access.is_revoked(id);
        let checked = self.tokens.check_for_shards(token, self.world, clock::unix_s(), is_revoked);
        checked.map_err(|bad| {
            let why = format!("{bad}; `ecumene token mint --shards` makes one for shards");
            Refusal::for_good(bad.close_code(), why)
        })?;
        Ok(())
    }
}

/// Carries one link from its first frame to its end; `under_way` counts it until it has joined.
pub async fn serve(
    connection: Connection,
    gate: Arc<Gate>,
    gateway: Addr<GatewayActor>,
    under_way: Rc<()>,
) {
    let peer = connection.remote_address();
    let joined = join(&connection, peer, &gate, &gateway).await;
    drop(under_way);
    match joined {
        Ok((id, token, incoming)) => {
            actix::spawn(watch(
                connection.clone(),
                (id, token),
                Arc::clone(&gate),
                gateway.clone(),
            ));
            let (code, why) = hear(id, incoming, &gateway).await;
            // A gateway that is gone needs no telling.
            gateway.send(LinkLost { link: id, why: why.clone() }).await.unwrap_or_default();
            close(&connection, code, &why);
        }
        Err(refusal) => {
            warn!(%peer, code = ?refusal.code, why = refusal.why, "a process may not run shards");
            close(&connection, refusal.code, &refusal.why);
        }
    }
}

async fn join(
    connection: &Connection,
    peer: SocketAddr,
    gate: &Gate,
    gateway: &Addr<GatewayActor>,
) -> Result<(LinkId, Vec<u8>, Incoming), Refusal> {
    gate.judge_reach(peer)?;
    let late = |_| Refusal::for_good(CloseCode::Protocol, "it did not say what it wants in time");
    let asked = timeout(JOIN_TIMEOUT, greet(connection)).await.map_err(late)?;
    let Asked { send, incoming, program, token, regions } = asked?;
    gate.judge(peer, &token)?;
    if program != PROGRAM {
        let why = format!("this server is {PROGRAM}, not {program}; use the same on both ends");
        return Err(Refusal::for_good(CloseCode::Version, why));
    }
    let (outgoing, taken) = mpsc::channel(OUTGOING_MAX);
    let joined = gateway.send(Join { regions, peer, outgoing }).await;
    let stopping = |_| Refusal::for_now(CloseCode::Stopping, "the server is stopping", 10);
    let id = joined.map_err(stopping)?.map_err(|bad| match bad {
        // It passes: whoever starts a killed process again comes too early by a moment.
        BadClaim::OnItsWay(_) => Refusal::for_now(CloseCode::Lost, bad.to_string(), 1),
        BadClaim::Stopping => Refusal::for_now(CloseCode::Stopping, bad.to_string(), 10),
        BadClaim::None | BadClaim::Unknown(_) | BadClaim::Taken(_) | BadClaim::TooMany(_) => {
            Refusal::for_good(CloseCode::World, bad.to_string())
        }
    })?;
    let connection = connection.clone();
    actix::spawn(async move {
        pass_on(send, taken).await;
        // It was told that it is over, and goes; one that stays is shown out.
        if timeout(FAREWELL, connection.closed()).await.is_err() {
            close(&connection, CloseCode::Goodbye, "it runs no shards here");
        }
    });
    Ok((id, token, incoming))
}

/// What a process asked for, and the stream it asked on.
struct Asked {
    send: SendStream,
    incoming: Incoming,
    program: String,
    token: Vec<u8>,
    regions: Vec<RegionIndex>,
}

/// Greets a process and hears what it wants.
async fn greet(connection: &Connection) -> Result<Asked, Refusal> {
    let broken = |why: String| Refusal::for_good(CloseCode::Protocol, why);
    let opened = connection.open_bi().await;
    let (mut send, recv) = opened.map_err(|error| broken(error.to_string()))?;
    let greeting = link::write(&Down::Greeting { program: PROGRAM.into() });
    let greeting = greeting.map_err(|error| broken(error.to_string()))?;
    send.write_all(&greeting).await.map_err(|error| broken(error.to_string()))?;
    let mut incoming = Incoming(recv);
    let Ok(Some(Up::Join { program, token, regions })) = incoming.next(JOIN_BYTES_MAX).await else {
        return Err(broken("the first frame must ask to join; is it the same program?".into()));
    };
    Ok(Asked { send, incoming, program, token, regions })
}

/// Sends a process home whose right to run shards has ended: its token was revoked or expired.
async fn watch(
    connection: Connection,
    (id, token): (LinkId, Vec<u8>),
    gate: Arc<Gate>,
    gateway: Addr<GatewayActor>,
) {
    while connection.end().is_none() {
        if let Err(refusal) = gate.judge(connection.remote_address(), &token) {
            warn!(link = %id, why = refusal.why, "a process may run shards no more; they come home");
            // A gateway that is gone has nothing to bring home.
            return gateway.send(Depart { link: id }).await.unwrap_or_default();
        }
        actix::clock::sleep(RIGHT_EVERY).await;
    }
}

/// Hears a process until it ends; returns how it ended.
async fn hear(
    id: LinkId,
    mut incoming: Incoming,
    gateway: &Addr<GatewayActor>,
) -> (CloseCode, String) {
    let place = Place::There(id);
    loop {
        let heard = match incoming.next(FRAME_BYTES_MAX).await {
            Ok(Some(heard)) => heard,
            Ok(None) => return (CloseCode::Goodbye, "it ended".into()),
            Err(Deaf::Read(error)) => return (CloseCode::Goodbye, error.to_string()),
            Err(Deaf::Frame(error)) => return (CloseCode::Protocol, error.to_string()),
        };
        let is_passed_on = match heard {
            Up::Stepped { region, tick, output, took } => {
                let took = took.min(TOOK_MAX);
                gateway.send(Stepped { region, place, tick, output, took }).await.is_ok()
            }
            Up::Packed { shard } => gateway.send(PackedUp { place, shard }).await.is_ok(),
            Up::Leave => gateway.send(Depart { link: id }).await.is_ok(),
            Up::Join { .. } => return (CloseCode::Protocol, "it asked to join twice".into()),
        };
        if !is_passed_on {
            return (CloseCode::Stopping, "the server ended".into());
        }
    }
}

/// What one end of a link hears.
pub struct Incoming(pub RecvStream);

/// Why a link hears no more.
#[derive(Debug, thiserror::Error)]
pub enum Deaf {
    /// The connection is gone.
    #[error(transparent)]
    Read(#[from] quinn::ReadExactError),
    /// The other end speaks nonsense.
    #[error(transparent)]
    Frame(#[from] BadFrame),
}

impl Incoming {
    /// Returns the next message of at most `bytes_max` bytes, nothing when the stream has ended.
    ///
    /// # Errors
    /// [`Deaf`]; the link is over.
    pub async fn next<T>(&mut self, bytes_max: usize) -> Result<Option<T>, Deaf>
    where
        T: rkyv::Archive,
        T::Archived: for<'a> rkyv::bytecheck::CheckBytes<
                rkyv::api::high::HighValidator<'a, rkyv::rancor::Error>,
            > + rkyv::Deserialize<T, rkyv::api::high::HighDeserializer<rkyv::rancor::Error>>,
    {
        let mut length = [0; LENGTH_BYTES];
        match self.0.read_exact(&mut length).await {
            Ok(()) => {}
            Err(quinn::ReadExactError::FinishedEarly(0)) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let bytes = link::body_bytes(length, bytes_max)?;
        // Grows with what arrives, so that a promise alone costs nothing.
        let mut body = Vec::with_capacity(bytes.min(PROMISED_BYTES));
        while body.len() < bytes {
            let at = body.len();
            body.resize(bytes.min(at + PROMISED_BYTES), 0);
            self.0.read_exact(&mut body[at..]).await?;
        }
        Ok(Some(link::read(&body)?))
    }
}

/// Bytes set aside before they have come.
const PROMISED_BYTES: usize = 256 << 10;

/// Queues a message for the other end.
///
/// # Errors
/// Why not, in words: the other end takes too little, or the message is larger than any frame.
pub fn queue<T>(outgoing: &mpsc::Sender<Bytes>, message: &T) -> Result<(), String>
where
    T: for<'a> rkyv::Serialize<
            rkyv::api::high::HighSerializer<
                rkyv::util::AlignedVec,
                rkyv::ser::allocator::ArenaHandle<'a>,
                rkyv::rancor::Error,
            >,
        >,
{
    let frame = link::write(message).map_err(|error| error.to_string())?;
    let full = |_| "the other end does not take what it is sent".to_owned();
    outgoing.try_send(frame.into()).map_err(full)
}

/// Writes frames to a stream as they come, until nobody sends any or the other end takes none.
pub async fn pass_on(mut send: SendStream, mut frames: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        match timeout(TAKEN_WITHIN, send.write_chunk(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return debug!(%error, "a link takes no more"),
            Err(_) => return debug!("a link is stuck"),
        }
    }
    // The connection may be gone; then there is no end to tell.
    drop(send.finish());
}
