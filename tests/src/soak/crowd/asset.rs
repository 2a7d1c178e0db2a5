//! What clients share and fetch in the scenario `asset`, each transfer on a stream of its own.
//!
//! Everybody shares small pictures with everyone and tells the crowd their hashes; everybody fetches
//! what any of the crowd shares, and believes no byte before its hash is right.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use protocol::asset::{BadBytes, Partial};
use protocol::frame;
use protocol::ids::ContentHash;
use protocol::io::clock::now_us;
use protocol::limits::ASSET_FRAME_BYTES_MAX;
use protocol::message::AssetReply;
use protocol::message::asset::{AssetAudience, FetchAsset, OfferAsset};
use server::io::batched::{Connection, RecvStream, SendStream};
use tokio::time::{sleep, timeout};

use super::Crowd;
use crate::dice::Dice;

/// Milliseconds between two transfers of a client: at least, and more by chance.
const PAUSE_MS: (u64, u64) = (1_000, 3_000);

/// Pictures that one client shares: an eighth of its quota.
const OWN_MAX: u32 = 8;

/// Bytes of a picture: at least, and more by chance, as thumbnails have.
const PICTURE_BYTES: (u64, u64) = (1_000, 16_000);

/// One in so many transfers is an offer, while there is something to fetch.
const OFFERED_PART: u64 = 4;

/// How long a transfer may take: a fetch waits for its turn for 10 s.
const TRANSFER: Duration = Duration::from_secs(20);

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;

/// Priority of transfers, as the SDK has it.
const PRIORITY: i32 = -2;

/// What is shared.
#[derive(Debug, Default)]
pub(super) struct Board {
    shared: RefCell<Vec<(ContentHash, usize)>>,
}

/// Why a transfer came to nothing.
enum Trouble {
    /// The server said no, and why.
    Refused(String),
    /// What is shared with everyone was withheld.
    Withheld,
    /// The bytes are not those of the hash.
    Wrong,
    /// The stream broke, or something came that has no place there.
    Broken(String),
}

/// Shares and fetches until the connection has gone.
pub(super) async fn exchange(crowd: Rc<Crowd>, client: usize, connection: Connection, stay: u32) {
    let mut dice = Dice::of_client(crowd.order.seed ^ u64::from(stay) << 32, client as u64);
    let mut own = 0;
    while connection.end().is_none() && !crowd.is_over.get() {
        let pause_ms = dice.between(PAUSE_MS.0, PAUSE_MS.0 + PAUSE_MS.1);
        sleep(Duration::from_millis(pause_ms)).await;
        let known = crowd.board.shared.borrow().len();
        let began_us = now_us();
        let is_offer = own < OWN_MAX && (known == 0 || dice.one_in(OFFERED_PART));
        let done = if is_offer {
            let picture = picture(&mut dice);
            own += 1;
            let shared = timeout(TRANSFER, share(&connection, &picture)).await;
            shared.unwrap_or_else(|_| Err(late())).map(|()| {
                let hash = ContentHash::of(&picture);
                crowd.board.shared.borrow_mut().push((hash, picture.len()));
                picture.len()
            })
        } else if known > 0 {
            let (hash, length) = crowd.board.shared.borrow()[dice.index(known)];
            let fetched = timeout(TRANSFER, fetch(&connection, hash, length)).await;
            fetched.unwrap_or_else(|_| Err(late()))
        } else {
            continue;
        };
        if connection.end().is_some() {
            return;
        }
        let took_ms = now_us().saturating_sub(began_us) as f64 / 1_000.0;
        let assets = &mut crowd.tally.borrow_mut().assets;
        match (done, is_offer) {
            (Ok(bytes), true) => assets.shared(bytes, took_ms),
            (Ok(bytes), false) => assets.fetched(bytes, took_ms),
            (Err(Trouble::Refused(why)), _) => assets.refused(why),
            (Err(Trouble::Withheld), _) => assets.withheld += 1,
            (Err(Trouble::Wrong), _) => assets.wrong += 1,
            (Err(Trouble::Broken(why)), _) => assets.broken(why),
        }
    }
}

fn picture(dice: &mut Dice) -> Vec<u8> {
    let length = dice.between(PICTURE_BYTES.0, PICTURE_BYTES.1);
    let words = (0..length.div_ceil(8)).map(|_| dice.draw().to_le_bytes());
    let mut bytes: Vec<u8> = words.flatten().collect();
    bytes.truncate(length as usize);
    bytes
}

async fn share(connection: &Connection, picture: &[u8]) -> Result<(), Trouble> {
    let offer = OfferAsset {
        hash: ContentHash::of(picture),
        length: picture.len() as u64,
        media: "image/png".into(),
        name: "picture.png".into(),
        audience: AssetAudience::Everyone,
        keep_s: 0,
    };
    let mut head = Vec::new();
    protocol::message::write(&offer, &mut head);
    let (mut send, receive) = open(connection, &head).await?;
    let mut answers = Answers { receive, bytes: Vec::new() };
    let from = match answers.next().await? {
        AssetReply::AssetKept(_) => return Ok(()),
        AssetReply::AssetWanted(wanted) => usize::try_from(wanted.from).unwrap_or(usize::MAX),
        reply @ (AssetReply::AssetFound(_)
        | AssetReply::AssetRefused(_)
        | AssetReply::AssetWithheld(_)) => return Err(trouble(reply)),
    };
    let rest = picture.get(from..).unwrap_or_default();
    send.write_all(rest).await.map_err(broken)?;
    send.finish().map_err(broken)?;
    match answers.next().await? {
        AssetReply::AssetKept(_) => Ok(()),
        reply @ (AssetReply::AssetWanted(_)
        | AssetReply::AssetFound(_)
        | AssetReply::AssetRefused(_)
        | AssetReply::AssetWithheld(_)) => Err(trouble(reply)),
    }
}

/// Returns how many bytes were fetched: all of them, and the right ones.
async fn fetch(
    connection: &Connection,
    hash: ContentHash,
    length: usize,
) -> Result<usize, Trouble> {
    let mut head = Vec::new();
    protocol::message::write(&FetchAsset { hash, offset: 0 }, &mut head);
    let (mut send, receive) = open(connection, &head).await?;
    send.finish().map_err(broken)?;
    let mut answers = Answers { receive, bytes: Vec::new() };
    let found = match answers.next().await? {
        AssetReply::AssetFound(found) => found,
        reply @ (AssetReply::AssetKept(_)
        | AssetReply::AssetWanted(_)
        | AssetReply::AssetRefused(_)
        | AssetReply::AssetWithheld(_)) => return Err(trouble(reply)),
    };
    if found.length != length as u64 {
        return Err(Trouble::Wrong);
    }
    let wrong = |bad: BadBytes| match bad {
        BadBytes::Corrupt | BadBytes::TooMany { .. } => Trouble::Wrong,
    };
    let mut partial = Partial::new(hash, found.length).map_err(broken)?;
    partial.push(&std::mem::take(&mut answers.bytes)).map_err(wrong)?;
    while let Some(bytes) = answers.read().await? {
        partial.push(&bytes).map_err(wrong)?;
    }
    match partial.finish().map_err(wrong)? {
        Some(bytes) => Ok(bytes.len()),
        None => Err(Trouble::Broken("the stream ended early".into())),
    }
}

async fn open(connection: &Connection, head: &[u8]) -> Result<(SendStream, RecvStream), Trouble> {
    let (mut send, receive) = connection.open_bi().await.map_err(broken)?;
    send.set_priority(PRIORITY).map_err(broken)?;
    send.write_all(head).await.map_err(broken)?;
    Ok((send, receive))
}

/// What comes back on a stream.
struct Answers {
    receive: RecvStream,
    bytes: Vec<u8>,
}

impl Answers {
    async fn read(&mut self) -> Result<Option<Bytes>, Trouble> {
        self.receive.read_chunk(READ_BYTES).await.map_err(broken)
    }

    async fn next(&mut self) -> Result<AssetReply, Trouble> {
        loop {
            let split = frame::split(&self.bytes, ASSET_FRAME_BYTES_MAX).map_err(broken)?;
            if let Some((frame, taken)) = split {
                let reply = AssetReply::read(frame).map_err(broken)?;
                self.bytes.drain(..taken);
                if let Some(reply) = reply {
                    return Ok(reply);
                }
                continue;
            }
            let more = self.read().await?;
            let more = more.ok_or_else(|| Trouble::Broken("it ended without an answer".into()))?;
            self.bytes.extend_from_slice(&more);
        }
    }
}

/// Returns why an answer is not the one that was hoped for.
fn trouble(reply: AssetReply) -> Trouble {
    match reply {
        AssetReply::AssetRefused(refused) => Trouble::Refused(refused.why.to_string()),
        AssetReply::AssetWithheld(_) => Trouble::Withheld,
        AssetReply::AssetWanted(_) | AssetReply::AssetKept(_) | AssetReply::AssetFound(_) => {
            Trouble::Broken("an answer has no place there".into())
        }
    }
}

fn broken(error: impl ToString) -> Trouble {
    Trouble::Broken(error.to_string())
}

fn late() -> Trouble {
    Trouble::Broken(format!("it took over {} s", TRANSFER.as_secs()))
}
