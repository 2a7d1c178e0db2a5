//! Links: the server's end of a connection to a process that runs shards for it.
//!
//! It comes in at the same UDP port as clients and is told from them by its protocol's name. Who
//! may join is decided by [`Gate`]; what runs where, by the gateway.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix::Addr;
use bytes::Bytes;
use protocol::close::CloseCode;
use protocol::ids::WorldId;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::actors::gateway::{Depart, GatewayActor, Join, LinkLost};
use crate::actors::shard::{PackedUp, Stepped};
use crate::admission::Refusal;
use crate::admission::access::Access;
use crate::config::{Config, Reach};
use crate::hosting::{LinkId, Place};
use crate::io::clock;
use crate::io::quic::close;
use crate::link::{
    self, BadFrame, Down, FRAME_BYTES_MAX, JOIN_BYTES_MAX, LENGTH_BYTES, PROGRAM, Up,
};
use crate::region::Regions;
use crate::token;

/// Frames that may wait for one process: a second of steps of nine shards, doubled.
const OUTGOING_MAX: usize = 512;

/// How long a process may take to say what it wants.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// How it is divided.
    pub regions: Regions,
}

impl Gate {
    /// Decides about somebody at `peer` who shows `token` and runs `program`.
    fn judge(&self, peer: SocketAddr, program: &str, token: &[u8]) -> Result<(), Refusal> {
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
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        let is_revoked = |id| access.is_revoked(id);
        let checked = self.tokens.check_for_shards(token, self.world, clock::unix_s(), is_revoked);
        checked.map_err(|bad| {
            let why = format!("{bad}; `ecumene token mint --shards` makes one for shards");
            Refusal::for_good(bad.close_code(), why)
        })?;
        if program != PROGRAM {
            let why = format!("this server is {PROGRAM}, not {program}; use the same on both ends");
            return Err(Refusal::for_good(CloseCode::Version, why));
        }
        Ok(())
    }
}

/// Carries one link from its first frame to its end.
pub async fn serve(connection: Connection, gate: Arc<Gate>, gateway: Addr<GatewayActor>) {
    let peer = connection.remote_address();
    match join(&connection, peer, &gate, &gateway).await {
        Ok((id, incoming)) => {
            let why = hear(id, incoming, &gate, &gateway).await;
            // A gateway that is gone needs no telling.
            gateway.send(LinkLost { link: id, why }).await.unwrap_or_default();
            close(&connection, CloseCode::Goodbye, "the link is over");
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
) -> Result<(LinkId, Incoming), Refusal> {
    let broken = |why: String| Refusal::for_good(CloseCode::Protocol, why);
    let opened = timeout(JOIN_TIMEOUT, connection.open_bi()).await;
    let opened = opened.map_err(|_| broken("no stream could be opened".into()))?;
    let (mut send, recv) = opened.map_err(|error| broken(error.to_string()))?;
    let greeting = link::write(&Down::Greeting { program: PROGRAM.into() });
    let greeting = greeting.map_err(|error| broken(error.to_string()))?;
    send.write_all(&greeting).await.map_err(|error| broken(error.to_string()))?;
    let mut incoming = Incoming(recv);
    let first = timeout(JOIN_TIMEOUT, incoming.next(JOIN_BYTES_MAX)).await;
    let first = first.map_err(|_| broken("it did not say what it wants".into()))?;
    let Ok(Some(Up::Join { program, token, regions })) = first else {
        return Err(broken("the first frame must ask to join; is it the same program?".into()));
    };
    gate.judge(peer, &program, &token)?;
    let (outgoing, taken) = mpsc::channel(OUTGOING_MAX);
    let joined = gateway.send(Join { regions, peer, outgoing }).await;
    let stopping = |_| Refusal::for_now(CloseCode::Stopping, "the server is stopping", 10);
    let id = joined
        .map_err(stopping)?
        .map_err(|bad| Refusal::for_good(CloseCode::World, bad.to_string()))?;
    actix::spawn(pass_on(send, taken));
    Ok((id, incoming))
}

/// Hears a process until it ends; returns how it ended.
async fn hear(
    id: LinkId,
    mut incoming: Incoming,
    gate: &Gate,
    gateway: &Addr<GatewayActor>,
) -> String {
    let place = Place::There(id);
    loop {
        let heard = match incoming.next(FRAME_BYTES_MAX).await {
            Ok(Some(heard)) => heard,
            Ok(None) => return "it ended".into(),
            Err(error) => return error.to_string(),
        };
        let is_passed_on = match heard {
            Up::Stepped { region, tick, output, took } => {
                if let Err(error) = output.check(gate.regions) {
                    return error.to_string();
                }
                gateway.send(Stepped { region, place, tick, output, took }).await.is_ok()
            }
            Up::Packed { shard } => gateway.send(PackedUp { place, shard }).await.is_ok(),
            Up::Leave => gateway.send(Depart { link: id }).await.is_ok(),
            Up::Join { .. } => return "it asked to join twice".into(),
        };
        if !is_passed_on {
            return "the server ended".into();
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

/// Writes frames to a stream as they come, until nobody sends any.
pub async fn pass_on(mut send: SendStream, mut frames: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        if let Err(error) = send.write_chunk(frame).await {
            return debug!(%error, "a link takes no more");
        }
    }
    // The connection may be gone; then there is no end to tell.
    drop(send.finish());
}
