//! Streams of assets: hears one request on each, and carries its bytes one way or the other.
//!
//! Every wait has an end, and memory is taken as bytes come. Reading and writing the store is done
//! on threads that do not tick.

use std::sync::Arc;
use std::time::Duration;

use protocol::close::CloseCode;
use protocol::frame;
use protocol::ids::{ContentHash, PersonId};
use protocol::limits::ASSET_FRAME_BYTES_MAX;
use protocol::message::asset::{
    AssetKept, AssetRefused, AssetWanted, AssetWhy, AssetWithheld, FetchAsset, OfferAsset,
    WithdrawAsset,
};
use protocol::message::{AssetReply, AssetRequest};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::{Content, Shelf, Taken, Upload};
use crate::admission::Role;
use crate::admission::rates::Bucket;
use crate::io::clock;
use crate::io::quic::Line;
use crate::io::transport::{Connection, RecvStream, SendStream};
use crate::store::{Number, until_durable};

/// How long a request may take to arrive: it is one packet.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// How long a transfer may stand still.
const STALL: Duration = Duration::from_secs(10);

/// How long a transfer may take: the largest asset at 28 KB/s. A slower one goes on with the next.
const TRANSFER_TIME: Duration = Duration::from_secs(600);

/// How long a fetch waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// How long a fetch keeps its turn while none is free: the largest asset at 280 KB/s. A slower one
/// goes on with its next turn; a client that begins ten times has its ten minutes all the same.
const TURN_LASTS: Duration = Duration::from_secs(60);

/// Bytes read at a time: a stream's window.
const READ_BYTES: usize = 64 * 1024;

/// Bytes written at a time: whoever takes so few within [`STALL`] does not stand still.
const WRITTEN_BYTES: usize = 8 * 1024;

/// Priority of what is handed out: behind what is said and behind ground.
const PRIORITY: i32 = -2;

/// Assets handed out to one client at once: one person shall not take every turn.
const CLIENT_FETCHES_MAX: usize = 2;

/// Milliseconds after which a fetch that did not get its turn may be tried again.
const TURN_RETRY_MS: u32 = 2_000;

/// Who is at the other end of a connection.
#[derive(Clone)]
pub struct Peer {
    /// The connection.
    pub line: Line,
    /// Who.
    pub person: PersonId,
    /// What they may do.
    pub role: Role,
}

/// Hears the streams that a client opens until its connection ends.
pub async fn serve(connection: Connection, peer: Peer, shelf: Arc<Shelf>) {
    let mut bucket = Bucket::full(shelf.rate(), clock::unix_ms());
    let turns = Arc::new(Semaphore::new(CLIENT_FETCHES_MAX));
    while let Ok((send, receive)) = connection.accept_bi().await {
        let allowed = bucket.take(shelf.rate(), clock::unix_ms()).map_err(|retry_ms| {
            AssetWhy::TooMany { retry_ms: u32::try_from(retry_ms).unwrap_or(u32::MAX) }
        });
        let (shelf, turns) = (Arc::clone(&shelf), Arc::clone(&turns));
        // The transport lets a client open so few streams that these tasks are few.
        actix::spawn(Stream { send, receive, peer: peer.clone(), shelf, turns }.carry(allowed));
    }
}

/// One stream.
struct Stream {
    send: SendStream,
    receive: RecvStream,
    peer: Peer,
    shelf: Arc<Shelf>,
    turns: Arc<Semaphore>,
}

impl Stream {
    async fn carry(mut self, allowed: Result<(), AssetWhy>) {
        let request = match timeout(REQUEST_TIME, self.request()).await {
            Ok(Ok(Some(request))) => request,
            Ok(Ok(None)) => return debug!("an asset's stream ended without a request"),
            Ok(Err(why)) => return self.peer.line.close(CloseCode::Protocol, &why),
            Err(_) => return debug!("no request on an asset's stream in time"),
        };
        if self.send.set_priority(PRIORITY).is_err() {
            return;
        }
        let answer = match (allowed, request) {
            (Err(why), _) => Err(why),
            (Ok(()), AssetRequest::OfferAsset(offer)) => self.offer(offer).await,
            (Ok(()), AssetRequest::FetchAsset(fetch)) => self.fetch(fetch).await,
            (Ok(()), AssetRequest::WithdrawAsset(withdraw)) => self.withdraw(withdraw).await,
        };
        let last = match answer {
            Ok(last) => last,
            Err(why) => {
                self.shelf.metrics.refused.increment(1);
                Some(AssetRefused { why }.into())
            }
        };
        if let Some(last) = last {
            // Whoever does not hear the answer asks again.
            if !self.reply(&last).await {
                debug!("an answer about an asset was not taken");
            }
        }
        drop(self.send.finish());
    }

    /// Returns the request; nothing if the stream ends or breaks before it is complete.
    async fn request(&mut self) -> Result<Option<AssetRequest>, String> {
        let mut bytes = Vec::new();
        loop {
            let split = frame::split(&bytes, ASSET_FRAME_BYTES_MAX);
            if let Some((frame, taken)) = split.map_err(|error| error.to_string())? {
                if taken < bytes.len() {
                    return Err("more than a request at the head of an asset's stream".into());
                }
                let read = AssetRequest::read(frame).map_err(|error| error.to_string())?;
                return read.map(Some).ok_or_else(|| "no request about an asset".into());
            }
            match self.receive.read_chunk(ASSET_FRAME_BYTES_MAX).await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }

    /// Sends a frame; returns whether it went out.
    async fn reply(&mut self, reply: &AssetReply) -> bool {
        let mut bytes = Vec::new();
        reply.write(&mut bytes);
        matches!(timeout(STALL, self.send.write_all(&bytes)).await, Ok(Ok(())))
    }

    async fn offer(&mut self, offer: OfferAsset) -> Result<Option<AssetReply>, AssetWhy> {
        let shelf = Arc::clone(&self.shelf);
        let visitor = shelf.visitor(self.peer.person, self.peer.role);
        let mut upload = match aside(move || shelf.offer(visitor, offer)).await? {
            Taken::Kept(until, number) => return self.kept(until, number).await,
            Taken::Wanted(upload) => upload,
        };
        if !self.reply(&AssetWanted { from: upload.got() }.into()).await {
            return Ok(None);
        }
        let received = self.receive_bytes(&mut upload).await;
        match received {
            Some(Ok(())) => {}
            Some(Err(why)) => {
                if why == AssetWhy::Corrupt {
                    upload.forget();
                }
                // Says that nothing more is read; what was sent already is thrown away.
                drop(self.receive.stop(0_u32.into()));
                return Err(why);
            }
            // What came is remembered: the upload goes where broken ones go.
            None => return Ok(None),
        }
        // Until it is on disk: so little of the store's queue is ever taken by what people share.
        let turn = timeout(TURN, Arc::clone(&self.shelf.keeping).acquire_owned()).await;
        let _turn = turn.map_err(|_| AssetWhy::TooMany { retry_ms: TURN_RETRY_MS })?;
        let shelf = Arc::clone(&self.shelf);
        let (until, number) = aside(move || shelf.finish(upload)).await?;
        self.kept(until, number).await
    }

    /// Reads an upload to its end; nothing if the stream breaks.
    async fn receive_bytes(&mut self, upload: &mut Upload) -> Option<Result<(), AssetWhy>> {
        let end = Instant::now() + TRANSFER_TIME;
        loop {
            let read =
                timeout_at(end.min(Instant::now() + STALL), self.receive.read_chunk(READ_BYTES));
            match read.await {
                Ok(Ok(Some(chunk))) => {
                    if let Err(why) = upload.push(&chunk) {
                        return Some(Err(why));
                    }
                }
                Ok(Ok(None)) => return Some(Ok(())),
                Ok(Err(error)) => {
                    debug!(%error, "an upload was cut off");
                    return None;
                }
                Err(_) => return Some(Err(AssetWhy::Short { got: upload.got() })),
            }
        }
    }

    async fn kept(&self, until: u64, number: Number) -> Result<Option<AssetReply>, AssetWhy> {
        let progress = self.shelf.store.subscribe();
        until_durable(progress, number).await.map_err(|_| AssetWhy::Store)?;
        Ok(Some(AssetKept { until }.into()))
    }

    async fn fetch(&mut self, fetch: FetchAsset) -> Result<Option<AssetReply>, AssetWhy> {
        let FetchAsset { hash, offset } = fetch;
        // The world's own is in memory anyway, and nobody comes in without its rules.
        if let Some(content) = self.shelf.published(hash) {
            return self.hand_out(hash, offset, content).await;
        }
        let busy = AssetWhy::TooMany { retry_ms: TURN_RETRY_MS };
        let turns = (Arc::clone(&self.turns), Arc::clone(&self.shelf.fetches));
        let turn =
            timeout(
                TURN,
                async move { (turns.0.acquire_owned().await, turns.1.acquire_owned().await) },
            );
        let _turn = turn.await.map_err(|_| busy)?;
        let (shelf, person) = (Arc::clone(&self.shelf), self.peer.person);
        let Some(content) = aside(move || shelf.find(hash, person)).await? else {
            self.shelf.metrics.refused.increment(1);
            return Ok(Some(AssetWithheld { hash }.into()));
        };
        self.hand_out(hash, offset, content).await
    }

    async fn hand_out(
        &mut self,
        hash: ContentHash,
        offset: u64,
        Content { head, bytes }: Content,
    ) -> Result<Option<AssetReply>, AssetWhy> {
        let length = head.length;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = bytes.get(start..).ok_or(AssetWhy::Offset { length })?;
        if self.reply(&head.into()).await && self.send_bytes(rest, hash).await {
            self.shelf.metrics.fetched.increment(1);
        }
        Ok(None)
    }

    /// Sends bytes; returns whether all of them went out.
    async fn send_bytes(&mut self, bytes: &[u8], hash: ContentHash) -> bool {
        let began = Instant::now();
        for piece in bytes.chunks(WRITTEN_BYTES) {
            let others_wait = self.shelf.fetches.available_permits() == 0;
            let lasts = if others_wait { TURN_LASTS } else { TRANSFER_TIME };
            let until = (began + lasts).min(Instant::now() + STALL);
            match timeout_at(until, self.send.write_all(piece)).await {
                Ok(Ok(())) => self.shelf.metrics.bytes_out.increment(piece.len() as u64),
                Ok(Err(error)) => {
                    debug!(%hash, %error, "an asset was not taken");
                    return false;
                }
                Err(_) => {
                    // An end would say that this is all: a reset says that it is not.
                    drop(self.send.reset(0_u32.into()));
                    return false;
                }
            }
        }
        true
    }

    async fn withdraw(&mut self, withdraw: WithdrawAsset) -> Result<Option<AssetReply>, AssetWhy> {
        let WithdrawAsset { hash } = withdraw;
        let (shelf, id) = (Arc::clone(&self.shelf), (hash, self.peer.person));
        match aside(move || shelf.withdraw(id)).await? {
            Some(number) => self.kept(0, number).await,
            None => Ok(Some(AssetWithheld { hash }.into())),
        }
    }
}

/// Does what may touch the disk on a thread that does not tick.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AssetWhy> + Send + 'static,
) -> Result<T, AssetWhy> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(AssetWhy::Store))
}
