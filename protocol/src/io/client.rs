//! The asynchronous client: connects, comes in, and keeps a picture of the world up to date.
//!
//! Owns nothing of its own but the thread of things: what is said is [`Session`]'s, what is seen
//! [`Replica`]'s, and a task (`io/drive.rs`) carries bytes between them and QUIC. It runs on
//! any tokio runtime; one thread is enough for hundreds of clients.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use quinn::Connection;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::assets::Assets;
use super::clock::now_us;
use super::connection::{Destination, OpenError};
use super::drive;
use super::identity::Identity;
use super::tap::Tap;
use super::trust::ServerKey;
use crate::close::CloseCode;
use crate::ground::HeightGrid;
use crate::ids::{ChunkId, ContentHash, EntityId, PersonId};
use crate::input::Input;
use crate::message::ServerMessage;
use crate::message::client::Degree;
use crate::message::common::{Appearance, Audience, Capability, Lending};
use crate::message::server::Welcome;
use crate::replica::{Detail, Replica, Terrain};
use crate::rules::{Act, RuleBook};
use crate::session::{Answer, BadEntry, BadRequest, Entry, Outcome, Session, SessionEvent};
use crate::units::Tick;
use crate::utterance::Utterance;

/// Events that may wait for the application: some seconds in a crowd.
pub const EVENTS_WAITING_MAX: usize = 1_024;

/// Corrections kept: a minute of them.
pub const CORRECTIONS_KEPT_MAX: usize = 1_200;

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(3);

/// Turns the bytes of a chunk into heights; chunks are made elsewhere than in this crate.
pub trait GroundDecoder: Send + Sync {
    /// Returns the heights of chunk `id`.
    ///
    /// # Errors
    /// What is wrong with the bytes, for people; the server is at fault.
    fn decode(&self, id: ChunkId, bytes: &[u8]) -> Result<HeightGrid, String>;
}

impl<F> GroundDecoder for F
where
    F: Fn(ChunkId, &[u8]) -> Result<HeightGrid, String> + Send + Sync,
{
    fn decode(&self, id: ChunkId, bytes: &[u8]) -> Result<HeightGrid, String> {
        self(id, bytes)
    }
}

/// Where to connect to, as whom, and how.
#[derive(Clone)]
pub struct ConnectOptions {
    /// `host:port`.
    pub address: String,
    /// The server's identity; nothing trusts the one in `known_servers`, or the first one seen.
    pub server_key: Option<ServerKey>,
    /// Where identities of servers are kept; nothing keeps none.
    pub known_servers: Option<PathBuf>,
    /// Who one is; nothing comes as a passing guest.
    pub identity: Option<Arc<Identity>>,
    /// The name to show to others.
    pub name: String,
    /// An operator's token.
    pub token: Option<Vec<u8>>,
    /// The world, by name or id; nothing takes whichever is hosted.
    pub world: Option<String>,
    /// The ticket of a session to continue.
    pub resume: Option<Vec<u8>>,
    /// An avatar of somebody else's, to be driven under a lending.
    pub drive: Option<EntityId>,
    /// What the client can do.
    pub capabilities: Vec<Capability>,
    /// Bits of [`features`](crate::message::common::features) wanted; all that are known if
    /// nothing.
    pub features: Option<u64>,
    /// Name and version of the client's software.
    pub software: String,
    /// Decodes chunks of ground; without one the ground is taken to be flat.
    pub ground: Option<Arc<dyn GroundDecoder>>,
    /// How many chunks around oneself are asked for without being told to, 0 for none.
    pub ground_reach: i32,
    /// How much of the world is kept.
    pub detail: Detail,
    /// Whether to come back by itself after a loss that is worth it.
    pub reconnects: bool,
    /// Writes TLS secrets to the file named by `SSLKEYLOGFILE`.
    pub keylog: bool,
    /// Hears every byte that is said, for looking into a session.
    pub tap: Option<Arc<dyn Tap>>,
}

impl ConnectOptions {
    /// Returns the options of a guest called `name` at `address`.
    #[must_use]
    pub fn new(address: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            server_key: None,
            known_servers: None,
            identity: None,
            name: name.into(),
            token: None,
            world: None,
            resume: None,
            drive: None,
            capabilities: Vec::new(),
            features: None,
            software: concat!("ecumene-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            ground: None,
            ground_reach: 2,
            detail: Detail::Full,
            reconnects: true,
            keylog: false,
            tap: None,
        }
    }

    pub(super) fn destination(&self) -> Destination {
        Destination {
            address: self.address.clone(),
            server_key: self.server_key,
            known_servers: self.known_servers.clone(),
            keylog: self.keylog,
        }
    }

    fn entry(&self) -> Entry {
        Entry {
            world: self.world.clone(),
            name: self.name.clone(),
            software: self.software.clone(),
            features: self.features,
            prover: None,
            token: self.token.clone(),
            resume: self.resume.clone(),
            drive: self.drive,
            capabilities: self.capabilities.clone(),
        }
    }
}

/// Why a client did not come in.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no connection.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No server would take these options.
    #[error(transparent)]
    Entry(#[from] BadEntry),
    /// The server does not want this client.
    #[error("refused: {why}{}", retry(*.retry_after_s))]
    Refused {
        /// Why, for programs.
        code: CloseCode,
        /// Why, for people.
        why: String,
        /// Seconds to wait before trying again; nothing where that is in vain.
        retry_after_s: Option<u32>,
    },
    /// The connection was lost before the welcome.
    #[error("lost before coming in: {why}")]
    Lost {
        /// What happened.
        why: String,
    },
    /// The world has rules of its own, and they could not be had.
    #[error("the world has rules of its own ({hash}), and they cannot be used: {why}")]
    Rules {
        /// What they are called.
        hash: ContentHash,
        /// What happened.
        why: String,
    },
}

fn retry(after_s: Option<u32>) -> String {
    after_s.map_or_else(String::new, |seconds| format!(" (try again in {seconds} s)"))
}

impl ConnectError {
    pub(super) fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Refused { code, why, retry_after_s } => {
                Self::Refused { code, why, retry_after_s }
            }
            Outcome::Lost { why, .. } => Self::Lost { why },
            Outcome::Left => Self::Lost { why: "the server said goodbye at once".to_owned() },
        }
    }
}

/// What a client tells its application.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// The session goes on after a loss.
    Resumed(Box<Welcome>),
    /// The server said something.
    Said(Box<ServerMessage>),
    /// A request takes time.
    Begun {
        /// The request.
        request: u32,
        /// When it will be done if nothing interrupts it.
        until: Tick,
    },
    /// Ground arrived, and its bytes.
    Ground {
        /// Which chunk.
        id: ChunkId,
        /// As they were sent.
        bytes: Arc<[u8]>,
    },
    /// The connection was lost; the client tries to come back.
    Interrupted {
        /// Why.
        why: String,
        /// When it tries next, in milliseconds.
        retry_ms: u64,
    },
    /// The session is over.
    Ended(Outcome),
}

/// What one session knows, to be looked at between two ticks.
pub struct View {
    /// What was said.
    pub session: Session,
    /// The picture of the world.
    pub replica: Replica,
    /// The known ground.
    pub terrain: Terrain,
    /// What the world's things are.
    pub book: Arc<RuleBook>,
    /// The welcome that the session began or went on with.
    pub welcome: Welcome,
    /// How one steers.
    pub input: Input,
    /// The network's round trip in microseconds.
    pub round_trip_us: u64,
    /// Events that the application did not take in time.
    pub events_lost: u64,
    /// How far the newest frames moved one's own predicted body, in centimetres, oldest first.
    pub corrections_cm: VecDeque<f32>,
    pub(super) answers: BTreeMap<u32, oneshot::Sender<Answer>>,
}

/// What the client and its task share.
pub(super) struct Shared {
    view: Mutex<View>,
    /// Something is to be sent.
    pub wake: Notify,
    /// The connection, while there is one.
    pub line: watch::Sender<Option<Connection>>,
}

impl Shared {
    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client in a world. Dropping it leaves at once; [`Client::leave`] waits for the goodbye.
pub struct Client {
    shared: Arc<Shared>,
    events: mpsc::Receiver<ClientEvent>,
    outcome: Option<Outcome>,
    server_key: ServerKey,
    task: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Connects and comes in.
    ///
    /// # Errors
    /// [`ConnectError`], each with what to do.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ConnectError> {
        let mut session = Session::new(options.entry(), now_us())?;
        let (opened, welcome) = Box::pin(drive::enter(&options, &mut session)).await?;
        let server_key = opened.server_key;
        let book = Box::pin(drive::rules(&opened, &welcome, starter_book())).await?;
        let (send, events) = mpsc::channel(EVENTS_WAITING_MAX);
        let terrain = Terrain::flat(welcome.position.y);
        let view = View {
            session,
            replica: Replica::new(&welcome, options.detail),
            terrain,
            book,
            input: Input { yaw: welcome.yaw, ..Input::default() },
            welcome,
            round_trip_us: 0,
            events_lost: 0,
            corrections_cm: VecDeque::new(),
            answers: BTreeMap::new(),
        };
        let line = watch::Sender::new(Some(opened.connection.clone()));
        let shared = Arc::new(Shared { view: Mutex::new(view), wake: Notify::new(), line });
        let task = tokio::spawn(drive::run(options, shared.clone(), opened, send));
        Ok(Self { shared, events, outcome: None, server_key, task })
    }

    /// Returns who the server is.
    #[must_use]
    pub const fn server_key(&self) -> ServerKey {
        self.server_key
    }

    /// Returns the way to share and fetch assets, which works beside the client.
    #[must_use]
    pub fn assets(&self) -> Assets {
        Assets { shared: Arc::clone(&self.shared) }
    }

    /// Looks at what the session knows. Keep it short: nothing is received meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.shared.view())
    }

    /// Moves the shown moment to now and looks.
    pub fn show<T>(&self, look: impl FnOnce(&View, u64) -> T) -> T {
        let mut view = self.shared.view();
        let now_us = now_us();
        view.replica.advance(now_us);
        look(&view, now_us)
    }

    /// Steers like this from now on.
    pub fn set_input(&self, input: Input) {
        self.shared.view().input = input;
    }

    /// Returns what happened next, nothing after the end.
    pub async fn event(&mut self) -> Option<ClientEvent> {
        let event = self.events.recv().await;
        if let Some(ClientEvent::Ended(outcome)) = &event {
            self.outcome = Some(outcome.clone());
        }
        event
    }

    /// Returns what happened, if anything did.
    pub fn try_event(&mut self) -> Option<ClientEvent> {
        let event = self.events.try_recv().ok();
        if let Some(ClientEvent::Ended(outcome)) = &event {
            self.outcome = Some(outcome.clone());
        }
        event
    }

    /// Returns how the session ended, once [`Self::event`] said so.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Does something and waits for the answer. The wait is cancelled by dropping the future; the
    /// act is not.
    ///
    /// # Errors
    /// [`BadRequest`] if it was not even sent.
    pub async fn act(&self, act: Act) -> Result<Answer, BadRequest> {
        let asked = self.request(|session| session.act(act, now_us()))?;
        Ok(asked.await.unwrap_or(Answer::Unknown))
    }

    /// Begins to do something; returns the request's number and, later, the answer.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn begin(&self, act: Act) -> Result<(u32, oneshot::Receiver<Answer>), BadRequest> {
        self.numbered(|session| session.act(act, now_us()))
    }

    /// Speaks and waits for the answer.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub async fn say(&self, to: Audience, utterance: Utterance) -> Result<Answer, BadRequest> {
        let asked = self.request(|session| session.say(to, utterance, now_us()))?;
        Ok(asked.await.unwrap_or(Answer::Unknown))
    }

    /// Begins to speak; returns the request's number and, later, the answer.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn begin_say(
        &self,
        to: Audience,
        utterance: Utterance,
    ) -> Result<(u32, oneshot::Receiver<Answer>), BadRequest> {
        self.numbered(|session| session.say(to, utterance, now_us()))
    }

    /// Stops a request that takes time.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn cancel(&self, request: u32) -> Result<(), BadRequest> {
        self.send(|session| session.cancel(request))
    }

    /// Enters or leaves a channel.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn tune(&self, channel: &str, joined: bool) -> Result<(), BadRequest> {
        self.send(|session| session.tune(channel, joined))
    }

    /// Changes how one's avatar looks.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn wear(&self, appearance: Appearance) -> Result<(), BadRequest> {
        self.send(|session| session.wear(appearance))
    }

    /// Sets what one wants to perceive of somebody.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn ignore(&self, person: PersonId, degree: Degree) -> Result<(), BadRequest> {
        self.send(|session| session.ignore(person, degree))
    }

    /// Lets somebody drive one's avatar, and waits for the answer.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub async fn lend(&self, lending: Lending) -> Result<Answer, BadRequest> {
        let asked = self.request(|session| session.lend(lending, now_us()))?;
        Ok(asked.await.unwrap_or(Answer::Unknown))
    }

    /// Begins to lend one's avatar; returns the request's number and, later, the answer.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn begin_lend(
        &self,
        lending: Lending,
    ) -> Result<(u32, oneshot::Receiver<Answer>), BadRequest> {
        self.numbered(|session| session.lend(lending, now_us()))
    }

    /// Begins to end a lending; returns the request's number and, later, the answer.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn begin_recall(
        &self,
        avatar: EntityId,
        to: PersonId,
    ) -> Result<(u32, oneshot::Receiver<Answer>), BadRequest> {
        self.numbered(|session| session.recall(avatar, to, now_us()))
    }

    /// Ends a lending, and waits for the answer.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub async fn recall(&self, avatar: EntityId, to: PersonId) -> Result<Answer, BadRequest> {
        let asked = self.request(|session| session.recall(avatar, to, now_us()))?;
        Ok(asked.await.unwrap_or(Answer::Unknown))
    }

    /// Names the ground that is wanted, in place of what was wanted before.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn want(&self, chunks: Vec<ChunkId>) -> Result<(), BadRequest> {
        self.send(|session| session.want(chunks))
    }

    /// Asks to leave; the goodbye comes as [`ClientEvent::Ended`], in a few seconds at most.
    pub fn begin_leaving(&self) {
        let asked = self.send(|session| session.leave(false));
        let shared = self.shared.clone();
        // Who is not in cannot leave, and who hears no goodbye leaves without one.
        let patience = if asked.is_ok() { GOODBYE } else { Duration::ZERO };
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            shared.view().session.closed(Some(u64::from(CloseCode::Goodbye.number())), "");
            shared.wake.notify_one();
        });
    }

    /// Leaves and waits for the goodbye, a few seconds at most.
    pub async fn leave(mut self) -> Outcome {
        self.begin_leaving();
        while self.event().await.is_some() {}
        self.outcome.clone().unwrap_or(Outcome::Left)
    }

    fn send<T>(
        &self,
        ask: impl FnOnce(&mut Session) -> Result<T, BadRequest>,
    ) -> Result<T, BadRequest> {
        let asked = ask(&mut self.shared.view().session);
        self.shared.wake.notify_one();
        asked
    }

    fn request(
        &self,
        ask: impl FnOnce(&mut Session) -> Result<u32, BadRequest>,
    ) -> Result<oneshot::Receiver<Answer>, BadRequest> {
        self.numbered(ask).map(|(_, answer)| answer)
    }

    fn numbered(
        &self,
        ask: impl FnOnce(&mut Session) -> Result<u32, BadRequest>,
    ) -> Result<(u32, oneshot::Receiver<Answer>), BadRequest> {
        let (send, receive) = oneshot::channel();
        let mut view = self.shared.view();
        let request = ask(&mut view.session)?;
        view.answers.insert(request, send);
        drop(view);
        self.shared.wake.notify_one();
        Ok((request, receive))
    }
}

/// The rules of a world that says nothing else, read once for all clients of a process.
fn starter_book() -> Arc<RuleBook> {
    static BOOK: OnceLock<Arc<RuleBook>> = OnceLock::new();
    BOOK.get_or_init(|| Arc::new(RuleBook::starter())).clone()
}

impl View {
    /// Takes in what the session says; returns what the application is to know of it.
    pub(super) fn handle(&mut self, event: SessionEvent) -> Option<ClientEvent> {
        match event {
            SessionEvent::Said(message) => {
                self.replica.hear(&message);
                if let ServerMessage::Announce(announce) = &*message {
                    self.terrain.announce(announce, &self.book);
                }
                Some(ClientEvent::Said(message))
            }
            SessionEvent::Answered { request, answer } => {
                self.answer(request, answer);
                None
            }
            SessionEvent::Begun { request, until } => Some(ClientEvent::Begun { request, until }),
            SessionEvent::Welcomed(welcome) => {
                self.replica.resume(&welcome);
                self.terrain.forget_things();
                self.welcome = (*welcome).clone();
                Some(ClientEvent::Resumed(welcome))
            }
            SessionEvent::Redirected { .. } => None,
            SessionEvent::Ended(outcome) => Some(ClientEvent::Ended(outcome)),
        }
    }

    pub(super) fn answer(&mut self, request: u32, answer: Answer) {
        if let Some(waiting) = self.answers.remove(&request)
            && waiting.send(answer).is_err()
        {
            tracing::trace!(request, "nobody waits for the answer");
        }
    }
}
