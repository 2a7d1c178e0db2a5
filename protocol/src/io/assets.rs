//! Sharing and fetching assets over a client's connection, each on a stream of its own.
//!
//! A transfer that a lost connection cut off goes on where it stopped, as soon as the client is
//! back. Nothing is given out before all of it is there and is what its hash says.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};
use rkyv::api::high::HighSerializer;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use tokio::time::{sleep, timeout};

use super::client::Shared;
use crate::asset::{BadAsset, BadBytes, Partial, RULES_MEDIA, check_length, is_name};
use crate::frame;
use crate::ids::ContentHash;
use crate::limits::{ASSET_BYTES_MAX, ASSET_FRAME_BYTES_MAX};
use crate::message::asset::{
    AssetAudience, AssetFound, AssetWhy, FetchAsset, OfferAsset, WithdrawAsset,
};
use crate::message::{self, AssetReply, Body};
use crate::rules::RuleBook;
use crate::rules::limits::BOOK_BYTES_MAX;

/// Bytes written or read at a time, between two looks at the progress.
const PIECE_BYTES: usize = 32 * 1024;

/// How long the other side may do nothing before a transfer counts as cut off. A server may let a
/// request wait in a queue, and writes what it takes in to its disk.
const STALL: Duration = Duration::from_secs(20);

/// How long a client that is away is waited for: as long as it tries to come back.
const AWAY: Duration = Duration::from_secs(90);

/// Times that one transfer is begun: connections that break more often carry nothing.
const TRIES_MAX: u32 = 10;

/// The longest wait that a busy server's word is taken for.
const WAIT_MS_MAX: u32 = 10_000;

/// Priority of transfers; what is said on the control stream goes first.
const PRIORITY: i32 = -2;

/// Content to be shared.
#[derive(Clone, Debug)]
pub struct Sharing {
    /// What a server is told of it.
    pub offer: OfferAsset,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

impl Sharing {
    /// Returns `bytes` as content that can be shared; `keep_s` seconds, 0 for as long as the
    /// server would keep anything.
    ///
    /// # Errors
    /// [`BadAsset`] if no server would take it.
    pub fn new(
        bytes: impl Into<Arc<[u8]>>,
        (media, name): (&str, &str),
        audience: AssetAudience,
        keep_s: u32,
    ) -> Result<Self, BadAsset> {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        check_length(length)?;
        let (media, name) = (media.to_owned(), name.to_owned());
        let hash = ContentHash::of(&bytes);
        let offer = OfferAsset { hash, length, media, name, audience, keep_s };
        offer.check()?;
        Ok(Self { offer, bytes })
    }
}

/// Content that was fetched: whole, and what its hash says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it is, as a media type.
    pub media: String,
    /// What to call it.
    pub name: String,
    /// Unix time in seconds at which the server forgets it; nothing: it belongs to the world.
    pub until: Option<u64>,
}

/// Why a transfer came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssetError {
    /// The server refuses.
    #[error("refused: {0}")]
    Refused(AssetWhy),
    /// The server has no such content for this person: none at all, or none meant for them.
    #[error("there is no such asset for you")]
    Withheld,
    /// The server sent other bytes than the hash says.
    #[error("the server sent other bytes than those of the hash; nothing was kept")]
    Corrupt,
    /// The server sent what has no place here.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The connection was lost, and did not come back in time.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

/// Why one try came to nothing.
enum Trouble {
    /// Another try can go on from here.
    Cut(String),
    /// No other try would do better.
    Final(AssetError),
}

impl From<AssetError> for Trouble {
    fn from(error: AssetError) -> Self {
        Self::Final(error)
    }
}

/// The assets of the world that a client is in. Cheap to clone; works beside the client.
#[derive(Clone)]
pub struct Assets {
    pub(super) shared: Arc<Shared>,
}

impl Assets {
    /// Shares content and waits until the server keeps it; returns until when it does, in Unix
    /// seconds. `progress` is told how many bytes the server was sent, and of how many.
    ///
    /// # Errors
    /// [`AssetError`].
    pub async fn share(
        &self,
        sharing: &Sharing,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<u64, AssetError> {
        let mut tries = Tries::default();
        loop {
            let connection = tries.connection(&self.shared).await?;
            let tried = share(&connection, sharing, &mut progress).await;
            if let Some(until) = tries.judge(tried, &connection).await? {
                return Ok(until);
            }
        }
    }

    /// Fetches content. `progress` is told how many bytes are there, and of how many.
    ///
    /// # Errors
    /// [`AssetError`].
    pub async fn fetch(
        &self,
        hash: ContentHash,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Fetched, AssetError> {
        let (mut tries, mut partial) = (Tries::default(), None);
        loop {
            let connection = tries.connection(&self.shared).await?;
            let limit = ASSET_BYTES_MAX;
            let tried = fetch(&connection, (hash, limit), &mut partial, &mut progress).await;
            if let Some(fetched) = tries.judge(tried, &connection).await? {
                return Ok(fetched);
            }
        }
    }

    /// Takes back what one shared; nobody is given it on one's behalf any more.
    ///
    /// # Errors
    /// [`AssetError`]; [`AssetError::Withheld`] if one does not share it.
    pub async fn withdraw(&self, hash: ContentHash) -> Result<(), AssetError> {
        let mut tries = Tries::default();
        loop {
            let connection = tries.connection(&self.shared).await?;
            let tried = withdraw(&connection, hash).await;
            if tries.judge(tried, &connection).await?.is_some() {
                return Ok(());
            }
        }
    }
}

/// The tries of one transfer.
#[derive(Default)]
struct Tries {
    made: u32,
    /// The connection that the last try was cut off on.
    broken: Option<usize>,
    why: String,
}

impl Tries {
    /// Waits for a connection that is not known to be broken.
    async fn connection(&mut self, shared: &Shared) -> Result<Connection, AssetError> {
        self.made += 1;
        if TRIES_MAX < self.made {
            return Err(AssetError::Lost(self.why.clone()));
        }
        let (mut line, broken) = (shared.line.subscribe(), self.broken);
        let is_good = |line: &Option<Connection>| {
            line.as_ref().is_some_and(|line| Some(line.stable_id()) != broken)
        };
        let waited = timeout(AWAY, line.wait_for(is_good)).await;
        let found = waited.ok().and_then(Result::ok).and_then(|line| line.clone());
        found.ok_or_else(|| {
            let why = if self.why.is_empty() { "the session is over" } else { &self.why };
            AssetError::Lost(why.to_owned())
        })
    }

    /// Returns what came of a try; nothing if another one is to be made.
    async fn judge<T>(
        &mut self,
        tried: Result<T, Trouble>,
        connection: &Connection,
    ) -> Result<Option<T>, AssetError> {
        match tried {
            Ok(done) => Ok(Some(done)),
            Err(Trouble::Cut(why)) => {
                tracing::debug!(why, "a transfer was cut off");
                // A stream can break on a connection that stands.
                self.broken = connection.close_reason().map(|_| connection.stable_id());
                self.why = why;
                Ok(None)
            }
            Err(Trouble::Final(AssetError::Refused(AssetWhy::TooMany { retry_ms })))
                if self.made < TRIES_MAX =>
            {
                // The server may not know yet that an earlier stream was cut off.
                self.why = AssetWhy::TooMany { retry_ms }.to_string();
                sleep(Duration::from_millis(retry_ms.min(WAIT_MS_MAX).into())).await;
                Ok(None)
            }
            Err(Trouble::Final(error)) => Err(error),
        }
    }
}

/// A stream of ours with the request at its head.
struct Asked {
    send: SendStream,
    receive: RecvStream,
    /// What came and is not read yet.
    bytes: Vec<u8>,
}

impl Asked {
    async fn open<T>(connection: &Connection, request: &T) -> Result<Self, Trouble>
    where
        T: Body
            + for<'a> rkyv::Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
    {
        let mut head = Vec::new();
        message::write(request, &mut head);
        let opened = timeout(STALL, connection.open_bi()).await;
        let (mut send, receive) = opened.map_err(|_| stalled())?.map_err(cut)?;
        send.set_priority(PRIORITY).map_err(cut)?;
        send.write_all(&head).await.map_err(cut)?;
        Ok(Self { send, receive, bytes: Vec::new() })
    }

    fn end(&mut self) -> Result<(), Trouble> {
        self.send.finish().map_err(cut)
    }

    /// Returns the next bytes; nothing at the end of the stream.
    async fn read(&mut self) -> Result<Option<bytes::Bytes>, Trouble> {
        let read = timeout(STALL, self.receive.read_chunk(PIECE_BYTES, true)).await;
        let chunk = read.map_err(|_| stalled())?.map_err(cut)?;
        Ok(chunk.map(|chunk| chunk.bytes))
    }

    async fn reply(&mut self) -> Result<AssetReply, Trouble> {
        let broken = |why: String| Trouble::Final(AssetError::Protocol(why));
        loop {
            let split = frame::split(&self.bytes, ASSET_FRAME_BYTES_MAX);
            if let Some((frame, taken)) = split.map_err(|error| broken(error.to_string()))? {
                let reply = AssetReply::read(frame).map_err(|error| broken(error.to_string()))?;
                self.bytes.drain(..taken);
                match reply {
                    Some(AssetReply::AssetRefused(refused)) => {
                        return Err(AssetError::Refused(refused.why).into());
                    }
                    Some(AssetReply::AssetWithheld(_)) => return Err(AssetError::Withheld.into()),
                    Some(
                        reply @ (AssetReply::AssetWanted(_)
                        | AssetReply::AssetKept(_)
                        | AssetReply::AssetFound(_)),
                    ) => return Ok(reply),
                    None => continue,
                }
            }
            match self.read().await? {
                Some(bytes) => self.bytes.extend_from_slice(&bytes),
                None => return Err(Trouble::Cut("the stream ended without an answer".to_owned())),
            }
        }
    }
}

fn cut(error: impl ToString) -> Trouble {
    Trouble::Cut(error.to_string())
}

fn stalled() -> Trouble {
    Trouble::Cut(format!("nothing happened for {} s", STALL.as_secs()))
}

fn out_of_place(reply: &AssetReply) -> Trouble {
    AssetError::Protocol(format!("{} has no place here", reply.name().0)).into()
}

async fn share(
    connection: &Connection,
    sharing: &Sharing,
    progress: &mut impl FnMut(u64, u64),
) -> Result<u64, Trouble> {
    let mut asked = Asked::open(connection, &sharing.offer).await?;
    let from = match asked.reply().await? {
        AssetReply::AssetKept(kept) => return Ok(kept.until),
        AssetReply::AssetWanted(wanted) => wanted.from,
        reply @ (AssetReply::AssetFound(_)
        | AssetReply::AssetRefused(_)
        | AssetReply::AssetWithheld(_)) => return Err(out_of_place(&reply)),
    };
    let start = usize::try_from(from).unwrap_or(usize::MAX);
    let rest = sharing.bytes.get(start..).ok_or_else(|| {
        Trouble::Final(AssetError::Protocol("more is wanted than there is".to_owned()))
    })?;
    let mut sent = from;
    progress(sent, sharing.offer.length);
    for piece in rest.chunks(PIECE_BYTES) {
        match timeout(STALL, asked.send.write_all(piece)).await {
            Ok(Ok(())) => {}
            // The server took enough: it says why.
            Ok(Err(quinn::WriteError::Stopped(_))) => break,
            Ok(Err(error)) => return Err(cut(error)),
            Err(_) => return Err(stalled()),
        }
        sent += piece.len() as u64;
        progress(sent, sharing.offer.length);
    }
    // One that was stopped has an end already.
    drop(asked.send.finish());
    match asked.reply().await {
        Ok(AssetReply::AssetKept(kept)) => Ok(kept.until),
        Ok(reply) => Err(out_of_place(&reply)),
        Err(Trouble::Final(AssetError::Refused(AssetWhy::Short { got }))) => {
            Err(Trouble::Cut(AssetWhy::Short { got }.to_string()))
        }
        Err(trouble) => Err(trouble),
    }
}

async fn fetch(
    connection: &Connection,
    (hash, bytes_max): (ContentHash, u64),
    partial: &mut Option<Partial>,
    progress: &mut impl FnMut(u64, u64),
) -> Result<Fetched, Trouble> {
    let offset = partial.as_ref().map_or(0, Partial::got);
    let mut asked = Asked::open(connection, &FetchAsset { hash, offset }).await?;
    asked.end()?;
    let found = match asked.reply().await? {
        AssetReply::AssetFound(found) => found,
        reply @ (AssetReply::AssetKept(_)
        | AssetReply::AssetWanted(_)
        | AssetReply::AssetRefused(_)
        | AssetReply::AssetWithheld(_)) => return Err(out_of_place(&reply)),
    };
    let broken = |error: &dyn Debug| Trouble::Final(AssetError::Protocol(format!("{error:?}")));
    let begun = partial.as_ref().map(Partial::length);
    check_found(&found, bytes_max, begun).map_err(|bad| broken(&bad))?;
    let fresh = match partial.take() {
        Some(partial) => partial,
        None => Partial::new(hash, found.length).map_err(|bad| broken(&bad))?,
    };
    let growing = partial.insert(fresh);
    growing.push(&std::mem::take(&mut asked.bytes)).map_err(|bad| broken(&bad))?;
    progress(growing.got(), found.length);
    while let Some(bytes) = asked.read().await? {
        growing.push(&bytes).map_err(|bad| broken(&bad))?;
        progress(growing.got(), found.length);
    }
    if !growing.is_whole() {
        return Err(Trouble::Cut("the stream ended early".to_owned()));
    }
    match partial.take().map(Partial::finish) {
        Some(Ok(Some(bytes))) => {
            Ok(Fetched { bytes, media: found.media, name: found.name, until: found.until })
        }
        Some(Err(BadBytes::Corrupt)) => Err(AssetError::Corrupt.into()),
        Some(Ok(None) | Err(BadBytes::TooMany { .. })) | None => Err(stalled()),
    }
}

/// Checks what a server says of content that it sends; of content that is `begun` the length is
/// known.
fn check_found(found: &AssetFound, bytes_max: u64, begun: Option<u64>) -> Result<(), BadAsset> {
    // Whoever fetches it may call a file so.
    if !is_name(&found.name) {
        return Err(BadAsset::Name);
    }
    if bytes_max < found.length || begun.is_some_and(|begun| begun != found.length) {
        return Err(BadAsset::Length { got: found.length });
    }
    Ok(())
}

async fn withdraw(connection: &Connection, hash: ContentHash) -> Result<(), Trouble> {
    let mut asked = Asked::open(connection, &WithdrawAsset { hash }).await?;
    asked.end()?;
    match asked.reply().await? {
        AssetReply::AssetKept(_) => Ok(()),
        reply @ (AssetReply::AssetFound(_)
        | AssetReply::AssetWanted(_)
        | AssetReply::AssetRefused(_)
        | AssetReply::AssetWithheld(_)) => Err(out_of_place(&reply)),
    }
}

/// Fetches the rules of a world: the asset under the hash that the welcome named.
///
/// # Errors
/// Why they could not be had or used, for people.
pub(super) async fn fetch_rules(
    connection: &Connection,
    hash: ContentHash,
) -> Result<RuleBook, String> {
    let (mut tries, mut partial) = (Tries::default(), None);
    let fetched = loop {
        tries.made += 1;
        let limit = BOOK_BYTES_MAX as u64;
        let tried = fetch(connection, (hash, limit), &mut partial, &mut |_, _| {}).await;
        match tries.judge(tried, connection).await {
            Ok(Some(fetched)) => break fetched,
            Ok(None) if tries.broken.is_none() && tries.made < TRIES_MAX => {}
            Ok(None) => return Err(tries.why),
            Err(error) => return Err(error.to_string()),
        }
    };
    if fetched.media != RULES_MEDIA {
        return Err(format!("what the server keeps under that hash is {}", fetched.media));
    }
    RuleBook::from_archive(&fetched.bytes).map_err(|bad| bad.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_content_is_not_taken_on_trust() {
        let found = |name: &str, length| AssetFound {
            length,
            media: "image/png".into(),
            name: name.into(),
            until: None,
        };
        assert_eq!(check_found(&found("hat.png", 9), 9, Some(9)), Ok(()));
        for name in ["../../hat.png", ".bashrc", "gpj\u{202E}exe.png", ""] {
            assert_eq!(check_found(&found(name, 9), 9, None), Err(BadAsset::Name), "{name:?}");
        }
        let length = Err(BadAsset::Length { got: 9 });
        assert_eq!(check_found(&found("hat.png", 9), 8, None), length);
        assert_eq!(check_found(&found("hat.png", 9), 9, Some(8)), length);
    }
}
