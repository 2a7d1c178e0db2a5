//! Clients of ill will that were let in, and some that knock: each comes back when it is put out,
//! and goes on until the siege is over.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use protocol::close::CloseCode;
use protocol::frame;
use protocol::ids::EntityId;
use protocol::io::connection::close_of;
use protocol::limits::ASSET_FRAME_BYTES_MAX;
use protocol::message::client::Hello;
use protocol::message::{AssetReply, ClientMessage, ServerMessage};
use quinn::Connection;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::mutate::{self, Fate, Known};
use super::raw::{Raw, Target, bytes_of, hello};
use super::tally::{Pace, Tally};
use crate::dice::Dice;

/// How long something may take before it counts as stuck: longer than any of the server's waits.
const STUCK: Duration = Duration::from_secs(20);

/// How long to wait before coming back.
const PAUSE: Duration = Duration::from_millis(200);

/// Frames said between two that end the stay: a handshake costs more than thousands of frames.
const STAY_FRAMES: u64 = 300;

/// Bytes of an upload that does not end.
const ENDLESS_BYTES: usize = 200_000;

/// Bytes of an answer to a request for an asset: the largest frame, with room.
const ANSWER_BYTES_MAX: usize = 1 << 16;

/// Content was found for somebody whose business it is not.
pub const LEAKED: &str = "private asset given out";

/// Private content was asked for, and there is no such thing.
pub const WITHHELD: &str = "private asset withheld";

/// What all attackers share.
pub struct Siege {
    /// The server.
    pub target: Target,
    /// What was sent and what came of it.
    pub tally: Tally,
    /// What there is to be misused.
    pub known: Known,
    /// Whether it is over.
    pub is_over: Cell<bool>,
}

impl Siege {
    /// Waits until it is over.
    async fn over(&self) {
        while !self.is_over.get() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn enter(&self) -> Option<Raw> {
        while !self.is_over.get() {
            match timeout(STUCK, Raw::enter(self.target)).await {
                Ok(Ok(raw)) => return Some(raw),
                Ok(Err(_)) => self.tally.outcome("attacker not let in"),
                Err(_) => self.tally.outcome("attacker stuck at the door"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    /// Counts how a connection ended.
    fn closed(&self, connection: &Connection, what: &str) {
        let words = connection.close_reason().map_or_else(
            || "nothing".into(),
            |reason| match close_of(&reason) {
                (Some(code), _) => CloseCode::from_number(code)
                    .map_or_else(|| format!("code {code}"), |code| format!("{code:?}")),
                (None, why) => why,
            },
        );
        self.tally.outcome(format!("{what}: {words}"));
    }
}

/// Says changed and repeated messages on a control stream.
///
/// # Errors
/// When the server does not do with them what the protocol says.
pub async fn talk(siege: Rc<Siege>, seed: u64, per_s: f64) -> Result<()> {
    let (mut dice, mut pace) = (Dice(seed), Pace::new(per_s));
    while let Some(raw) = siege.enter().await {
        let (_endpoint, connection, mut send, mut receive) = raw.split();
        let reader = tokio::task::spawn_local(async move {
            while let Ok(Some(_)) = receive.read_chunk(1 << 16, true).await {}
        });
        let (mut request, mut said) = (0, 0);
        let mut last: Vec<u8> = Vec::new();
        while !siege.is_over.get() {
            let bytes = if dice.is(50) && !last.is_empty() {
                // Said before, word for word.
                last.clone()
            } else {
                mutate::control(&mut dice, &siege.known, &mut request)
            };
            let ends = mutate::fate(&bytes) == Fate::Ends;
            if ends && said < STAY_FRAMES {
                continue;
            }
            pace.take(1).await;
            if !matches!(timeout(STUCK, send.write_all(&bytes)).await, Ok(Ok(()))) {
                siege.closed(&connection, "talker put out");
                break;
            }
            said += 1;
            siege.tally.sent("messages", 1);
            if ends {
                // Half a frame is waited for: the end of the stream is its end.
                drop(send.finish());
                if timeout(STUCK, connection.closed()).await.is_err() {
                    bail!("a stay goes on after {bytes:02x?}");
                }
                siege.closed(&connection, "talker ended");
                break;
            }
            last = bytes;
        }
        connection.close(0_u32.into(), b"");
        reader.abort();
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Throws changed and repeated datagrams.
pub async fn throw(siege: Rc<Siege>, seed: u64, per_s: f64) {
    let (mut dice, mut pace) = (Dice(seed), Pace::new(per_s));
    while let Some(raw) = siege.enter().await {
        let (_endpoint, connection, _send, mut receive) = raw.split();
        let reader = tokio::task::spawn_local(async move {
            while let Ok(Some(_)) = receive.read_chunk(1 << 16, true).await {}
        });
        let mut last: Vec<u8> = Vec::new();
        while !siege.is_over.get() {
            pace.take(1).await;
            let bytes = if dice.is(100) { last.clone() } else { mutate::datagram(&mut dice) };
            if connection.send_datagram(bytes.clone().into()).is_err() {
                siege.closed(&connection, "thrower put out");
                break;
            }
            siege.tally.sent("datagrams", 1);
            last = bytes;
        }
        connection.close(0_u32.into(), b"");
        reader.abort();
    }
}

/// Opens streams of assets and misuses each: wrong requests, wrong bytes, no end, silence.
pub async fn share(siege: Rc<Siege>, seed: u64, per_s: f64) {
    let (mut dice, mut pace) = (Dice(seed), Pace::new(per_s));
    while let Some(raw) = siege.enter().await {
        let connection = raw.connection().clone();
        while !siege.is_over.get() && connection.close_reason().is_none() {
            pace.take(1).await;
            let Ok(Ok((mut send, mut receive))) = timeout(STUCK, connection.open_bi()).await else {
                break;
            };
            let head = mutate::asset(&mut dice, &siege.known);
            siege.tally.sent("asset streams", 1);
            let rubbish =
                if dice.is(200) { vec![7; dice.index(ENDLESS_BYTES)] } else { Vec::new() };
            let is_silent = dice.is(30);
            let asked = Rc::clone(&siege);
            tokio::task::spawn_local(async move {
                let talk = async {
                    send.write_all(&head).await.ok()?;
                    if !is_silent {
                        let mut answer = Vec::new();
                        while answer.len() < ANSWER_BYTES_MAX {
                            let some = receive.read_chunk(1 << 16, true).await.ok()??;
                            answer.extend_from_slice(&some.bytes);
                            if let Some(what) = judge(&answer, &asked.known) {
                                asked.tally.outcome(what);
                                break;
                            }
                        }
                        send.write_all(&rubbish).await.ok()?;
                        send.finish().ok()?;
                        while receive.read_chunk(1 << 16, true).await.ok()?.is_some() {}
                    }
                    Some(())
                };
                // What is left open is let go of at last, as the server would.
                drop(timeout(STUCK, talk).await);
            });
        }
        siege.closed(&connection, "sharer put out");
        connection.close(0_u32.into(), b"");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Says what is noteworthy in the answer to somebody who asks for what is none of their business;
/// nothing before it is whole.
///
/// Nobody shares anything with them, so whatever is found for them is somebody's secret.
fn judge(answer: &[u8], known: &Known) -> Option<&'static str> {
    let (frame, _) = frame::split(answer, ASSET_FRAME_BYTES_MAX).ok()??;
    match AssetReply::read(frame).ok()?? {
        AssetReply::AssetFound(_) => Some(LEAKED),
        AssetReply::AssetWithheld(it) if known.hidden.contains(&it.hash) => Some(WITHHELD),
        AssetReply::AssetWithheld(_)
        | AssetReply::AssetWanted(_)
        | AssetReply::AssetKept(_)
        | AssetReply::AssetRefused(_) => Some("asset request answered"),
    }
}

/// Knocks with wrong hellos: rubbish, other people's avatars, forged tokens and tickets, and so
/// slowly that it takes for ever.
///
/// # Errors
/// When one of them is let in.
pub async fn knock(siege: Rc<Siege>, seed: u64, per_s: f64) -> Result<()> {
    let (mut dice, mut pace) = (Dice(seed), Pace::new(per_s));
    let mut slow = JoinSet::new();
    while !siege.is_over.get() {
        pace.take(1).await;
        while let Some(checked) = slow.try_join_next() {
            checked??;
        }
        let Ok(Ok(mut raw)) = timeout(STUCK, Raw::open(siege.target)).await else {
            siege.tally.outcome("knocker not greeted");
            continue;
        };
        siege.tally.sent("wrong hellos", 1);
        let (bytes, is_slow) = wrong_hello(&mut dice, &siege.known);
        let siege = Rc::clone(&siege);
        let is_let_in = async move {
            for part in bytes.chunks(if is_slow { 1 } else { bytes.len().max(1) }) {
                raw.write(part).await.ok()?;
                if is_slow && !siege.is_over.get() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            let mut is_finished = false;
            loop {
                let next = tokio::select! {
                    next = raw.next() => next,
                    // Nothing more comes: an end that the server does not have to wait for.
                    () = siege.over(), if !is_finished => {
                        is_finished = true;
                        raw.finish();
                        continue;
                    }
                };
                match next {
                    Ok(ServerMessage::Welcome(_)) => return Some(bytes),
                    Ok(_) => {}
                    Err(_) => {
                        siege.closed(raw.connection(), "knocker refused");
                        return None;
                    }
                }
            }
        };
        let checked = async move {
            match timeout(STUCK, is_let_in).await {
                Ok(Some(bytes)) => bail!("let in with a wrong hello: {bytes:02x?}"),
                Ok(None) | Err(_) => Ok(()),
            }
        };
        // Slow ones are many at once: that is the point of them.
        if is_slow {
            slow.spawn_local(checked);
        } else {
            checked.await?;
        }
    }
    while let Some(checked) = slow.join_next().await {
        checked??;
    }
    Ok(())
}

/// Returns a hello that must not be let in, and whether it comes byte by byte.
fn wrong_hello(dice: &mut Dice, known: &Known) -> (Vec<u8>, bool) {
    let ClientMessage::Hello(sound) = hello() else { return (Vec::new(), true) };
    let avatar = match known.entities.as_slice() {
        [] => EntityId(dice.draw()),
        some => dice.pick(some),
    };
    let wrong = match dice.below(6) {
        // Somebody's avatar that was never lent.
        0 => Hello { drive: Some(avatar), ..sound },
        1 => Hello { token: Some(dice.bytes(300)), ..sound },
        5 => Hello { resume: Some(mutate::ticket(dice, known)), ..sound },
        2 => Hello { world: Some(protocol::ids::WorldId(dice.draw())), ..sound },
        3 => {
            let mut bytes = bytes_of(&sound.into());
            let end = 2 + dice.index(bytes.len() - 2);
            bytes.truncate(end);
            return (bytes, true);
        }
        _ => {
            let length = 3 + dice.below(400) as usize;
            let mut bytes = vec![1, 0x80, 0x7F];
            bytes.extend(dice.bytes(length));
            return (bytes, false);
        }
    };
    (bytes_of(&wrong.into()), false)
}
