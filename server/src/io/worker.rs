//! A process that runs shards for a server: joins, steps what it is given, and gives it back.
//!
//! It has no store, no clients and no settings of its own. Who is where, and what is kept, is the
//! server's.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use actix::{Actor, Addr, System};
use protocol::close::CloseCode;
use protocol::io::connection::{Destination, OpenError, close_of, open_as};
use protocol::io::trust::ServerKey;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::actors::shard::{Outbox, Pack, Runner, ShardActor, Step};
use crate::actors::uplink::{Said, Uplink};
use crate::hosting::REGIONS_MAX;
use crate::io::link::{Deaf, Incoming, pass_on};
use crate::io::transport::{RecvStream, SendStream};
use crate::link::{Down, FRAME_BYTES_MAX, LINK_ALPN, PROGRAM, Up};
use crate::region::RegionIndex;
use crate::shard::WorldRules;
use crate::shard::batch::StepOutput;
use crate::shard::pack::Packed;

/// Frames that may wait for the server: two seconds of steps of as many shards as it may run.
const OUTGOING_MAX: usize = 40 * REGIONS_MAX;

/// Frames that were heard and wait: what comes next is asked for when a step is made.
const HEARD_MAX: usize = 4;

/// How long to wait before a lost server is tried again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// How long giving everything back may take.
const LEAVING: Duration = Duration::from_secs(10);

/// What a process joins, and as what.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The server, `host:port`.
    pub address: String,
    /// Its identity.
    pub server_key: ServerKey,
    /// The right to run shards.
    pub token: Vec<u8>,
    /// Which regions.
    pub regions: Vec<RegionIndex>,
}

/// Why a process does not run shards, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// There is no server, or another one.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The server will not have it.
    #[error("the server does not let this process run shards ({code}): {why}")]
    Refused {
        /// The code of the close.
        code: CloseCode,
        /// The server's words.
        why: String,
    },
    /// The link broke.
    #[error("the link is lost: {0}")]
    Lost(String),
    /// The server said something that cannot be.
    #[error("the server sent {0}; is it the same program?")]
    Nonsense(String),
}

impl WorkerError {
    /// Returns whether trying again can help.
    const fn may_pass(&self) -> bool {
        match self {
            Self::Open(OpenError::Unreachable { .. }) | Self::Lost(_) => true,
            Self::Refused { code, .. } => code.is_worth_resuming(),
            Self::Open(_) | Self::Nonsense(_) => false,
        }
    }

    /// Returns whether the server is there and says that it will be otherwise in a moment.
    const fn is_for_now(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code.is_worth_resuming())
    }
}

/// Runs shards until the process is told to end; comes back by itself to a server that is lost.
///
/// `told` hears in words what becomes of it.
///
/// # Errors
/// [`WorkerError`] at what trying again does not change. A server that was never reached is not
/// waited for.
pub fn run(options: &WorkerOptions, mut told: impl FnMut(&str)) -> Result<(), WorkerError> {
    let system = System::new();
    system.block_on(async {
        let mut ending = std::pin::pin!(told_to_end());
        let mut wait = AGAIN.0;
        let mut has_joined = false;
        loop {
            // A server that is not there is waited for, and silence would look like a failure.
            told(&format!("joining {}", options.address));
            let mut stay = Stay { has_joined: false, is_leaving: false };
            let ended = stay.run(options, &mut told, &mut ending).await;
            has_joined |= stay.has_joined;
            if stay.has_joined {
                wait = AGAIN.0;
            }
            let error = match ended {
                Ok(()) => return Ok(()),
                Err(error) if stay.is_leaving => return Err(error),
                Err(error) if has_joined && error.may_pass() || error.is_for_now() => error,
                Err(error) => return Err(error),
            };
            warn!(%error, "the server is lost");
            told(&format!("{error}; trying again in {} ms", wait.as_millis()));
            tokio::select! {
                () = &mut ending => return Ok(()),
                () = actix::clock::sleep(wait) => {}
            }
            wait = (2 * wait).min(AGAIN.1);
        }
    })
}

async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        warn!("signals cannot be heard; kill the process to end it");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// One link, from joining to its end.
struct Stay {
    /// Whether the server let the process in.
    has_joined: bool,
    /// Whether the process was told to end.
    is_leaving: bool,
}

impl Stay {
    /// Runs what the server hands out; returns without an error once the process was told to end
    /// and everything was given back.
    async fn run(
        &mut self,
        options: &WorkerOptions,
        told: &mut impl FnMut(&str),
        ending: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<(), WorkerError> {
        let destination = Destination {
            address: options.address.clone(),
            server_key: Some(options.server_key),
            ..Destination::default()
        };
        let opened = open_as(&destination, LINK_ALPN).await?;
        let (outgoing, frames) = mpsc::channel(OUTGOING_MAX);
        actix::spawn(pass_on(SendStream::Quinn(opened.send), frames));
        let up = Uplink { outgoing }.start();
        let (program, token) = (PROGRAM.into(), options.token.clone());
        say(&up, Up::Join { program, token, regions: options.regions.clone() }).await?;
        let mut shards = Shards { rules: None, runners: BTreeMap::new(), up: up.clone() };
        // Read by a task of its own: a frame that is half read must not be dropped for a signal.
        let (hearing, mut heard) = mpsc::channel(HEARD_MAX);
        actix::spawn(hear(Incoming(RecvStream::Quinn(opened.receive)), hearing));
        let mut leaving = std::pin::pin!(None);
        loop {
            let heard = tokio::select! {
                heard = heard.recv() => heard.unwrap_or(Ok(None)),
                () = &mut *ending, if !self.is_leaving => {
                    self.is_leaving = true;
                    told("giving the shards back");
                    say(&up, Up::Leave).await?;
                    leaving.set(Some(actix::clock::sleep(LEAVING)));
                    continue;
                }
                () = until(leaving.as_mut()) => {
                    let why = format!("not all was given back within {} s", LEAVING.as_secs());
                    return Err(WorkerError::Lost(why));
                }
            };
            match heard {
                Ok(Some(Down::Greeting { .. })) => {}
                Ok(Some(Down::Terms(terms))) => {
                    let rules = terms.rules();
                    let nonsense = |bad| WorkerError::Nonsense(format!("{bad}"));
                    shards.rules = Some(rules.map_err(nonsense)?);
                    self.has_joined = true;
                    told("joined");
                }
                Ok(Some(Down::Host { shard })) => {
                    let region = shard.region();
                    shards.host(*shard)?;
                    told(&format!("running the shard of region {}", region.0));
                }
                Ok(Some(Down::Step { region, input })) => {
                    let runner = shards.runner(region)?;
                    let step = Step { input, output: StepOutput::default() };
                    // Waiting for the step is what keeps this process from being flooded.
                    runner.step.send(step).await.map_err(gone)?;
                }
                Ok(Some(Down::Pack { region })) => {
                    shards.runner(region)?.pack.send(Pack).await.map_err(gone)?;
                    shards.runners.remove(&region);
                }
                Ok(Some(Down::Ended { why })) => return Err(WorkerError::Lost(why)),
                Ok(None) if self.is_leaving && shards.runners.is_empty() => return Ok(()),
                Ok(None) => return Err(ended(&opened.connection, "the server ended it")),
                Err(Deaf::Frame(bad)) => return Err(WorkerError::Nonsense(bad.to_string())),
                Err(Deaf::Read(error)) => {
                    return Err(ended(&opened.connection, &error.to_string()));
                }
            }
        }
    }
}

/// Hears the server until there is nothing more to hear, or nobody who would take it.
async fn hear(mut incoming: Incoming, hearing: mpsc::Sender<Result<Option<Down>, Deaf>>) {
    loop {
        let heard = incoming.next::<Down>(FRAME_BYTES_MAX).await;
        let is_last = !matches!(heard, Ok(Some(_)));
        if hearing.send(heard).await.is_err() || is_last {
            return;
        }
    }
}

/// Waits for an end that may not be set; then it waits for ever.
async fn until(end: Pin<&mut Option<actix::clock::Sleep>>) {
    match end.as_pin_mut() {
        Some(end) => end.await,
        None => std::future::pending().await,
    }
}

/// Returns how a link ended: with the server's words, if it closed the connection.
fn ended(connection: &quinn::Connection, why: &str) -> WorkerError {
    let Some(reason) = connection.close_reason() else { return WorkerError::Lost(why.into()) };
    match close_of(&reason) {
        (Some(code), why) => match CloseCode::from_number(code) {
            Some(CloseCode::Goodbye) | None => WorkerError::Lost(why),
            Some(code) => WorkerError::Refused { code, why },
        },
        (None, why) => WorkerError::Lost(why),
    }
}

fn gone(_: actix::MailboxError) -> WorkerError {
    WorkerError::Lost("a shard of this process ended".into())
}

/// The shards that run here.
struct Shards {
    rules: Option<WorldRules>,
    runners: BTreeMap<RegionIndex, Runner>,
    up: Addr<Uplink>,
}

impl Shards {
    fn host(&mut self, shard: Packed) -> Result<(), WorkerError> {
        let too_early = || WorkerError::Nonsense("a shard before its rules".into());
        let rules = self.rules.clone().ok_or_else(too_early)?;
        let region = shard.region();
        let shard = shard.unpack(rules).map_err(|bad| WorkerError::Nonsense(bad.to_string()))?;
        let outbox =
            Outbox { stepped: self.up.clone().recipient(), packed: self.up.clone().recipient() };
        self.runners.insert(region, ShardActor::run(shard, outbox));
        info!(shard = region.0, "runs here");
        Ok(())
    }

    fn runner(&self, region: RegionIndex) -> Result<&Runner, WorkerError> {
        let strange = || WorkerError::Nonsense(format!("a step of region {}", region.0));
        self.runners.get(&region).ok_or_else(strange)
    }
}

async fn say(up: &Addr<Uplink>, message: Up) -> Result<(), WorkerError> {
    up.send(Said(message)).await.map_err(gone)
}
