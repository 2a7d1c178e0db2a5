//! One client's side of the control stream: who it is, what it asked for, and how it ended.
//!
//! Bytes of the stream go in, messages come out as [`SessionEvent`]s, bytes to send collect until
//! they are taken. Opening connections, making signatures and keeping time is the caller's, and
//! what the world looks like is the [`replica`](crate::replica)'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::close::CloseCode;
use crate::frame::Assembler;
use crate::ids::{ChunkId, EntityId, PersonId, WorldId};
use crate::limits::{
    CHANNEL_CHARS_MAX, CHUNKS_WANTED_MAX, HELLO_BYTES_MAX, MESSAGE_BYTES_MAX, NAME_CHARS_MAX,
    TICKET_BYTES_MAX, TOKEN_BYTES_MAX,
};
use crate::message::client::{
    Cancel, Degree, Do, Hello, IdentityProof, Ignore, Leave, Lend, Recall, Say, Tune, Want, Wear,
};
use crate::message::common::{Appearance, Audience, Capability, Lending, MINOR, features};
use crate::message::server::{Farewell, Greeting, Welcome};
use crate::message::{ClientMessage, ServerMessage};
use crate::rules::{Act, Why};
use crate::units::Tick;
use crate::utterance::{BadUtterance, Utterance};

/// Requests that may wait for an answer: an eager player's for some seconds.
pub const REQUESTS_MAX: usize = 64;

/// Bytes that may wait to be sent: some of the largest messages.
pub const OUT_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;

/// Silence after which a server counts as lost: frames come twenty times a second.
pub const SILENCE_US_MAX: u64 = 10_000_000;

/// How long greeting and welcome may take: a busy server admits 50 a second.
pub const ADMISSION_US_MAX: u64 = 20_000_000;

/// Makes the proof that a client holds its identity key.
pub trait Prover: Send + Sync {
    /// Returns the proof for the server at hand, that greeted with `nonce`.
    fn prove(&self, nonce: &[u8; 32]) -> IdentityProof;
}

impl<F> Prover for F
where
    F: Fn(&[u8; 32]) -> IdentityProof + Send + Sync,
{
    fn prove(&self, nonce: &[u8; 32]) -> IdentityProof {
        self(nonce)
    }
}

/// Who wants to come in.
#[derive(Clone, Default)]
pub struct Entry {
    /// The world asked for, by name or id; nothing takes whichever is hosted.
    pub world: Option<String>,
    /// The name to show to others.
    pub name: String,
    /// Name and version of the client's software.
    pub software: String,
    /// Bits of [`features`] wanted; all that are known if nothing.
    pub features: Option<u64>,
    /// Proves an identity; nothing comes as a passing guest.
    pub prover: Option<Arc<dyn Prover>>,
    /// An operator's token.
    pub token: Option<Vec<u8>>,
    /// The ticket of a session to continue.
    pub resume: Option<Vec<u8>>,
    /// An avatar of somebody else's, to be driven under a lending.
    pub drive: Option<EntityId>,
    /// What the client can do.
    pub capabilities: Vec<Capability>,
}

/// An entry that no server would take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// The name is empty, too long or cannot be shown.
    #[error("a name has 1 to {NAME_CHARS_MAX} characters and no control characters")]
    Name,
    /// The token is too long.
    #[error("the token is {got} bytes, at most {TOKEN_BYTES_MAX}")]
    Token {
        /// Its length.
        got: usize,
    },
    /// The ticket is too long.
    #[error("the ticket is {got} bytes, at most {TICKET_BYTES_MAX}")]
    Ticket {
        /// Its length.
        got: usize,
    },
}

/// What a session tells its application.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionEvent {
    /// The client is in.
    Welcomed(Box<Welcome>),
    /// A request was carried out or refused; nothing more comes about it.
    Answered {
        /// The request.
        request: u32,
        /// How it went.
        answer: Answer,
    },
    /// A request takes time.
    Begun {
        /// The request.
        request: u32,
        /// When it will be done if nothing interrupts it.
        until: Tick,
    },
    /// The session goes on at another address; the connection is to be made anew.
    Redirected {
        /// `host:port`.
        address: String,
    },
    /// Everything else the server says.
    Said(Box<ServerMessage>),
    /// The session is over; nothing more comes.
    Ended(Outcome),
}

/// How a request went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was carried out, and what it changed is on disk.
    Done {
        /// When it took effect.
        tick: Tick,
        /// What was read, or learned, by it.
        text: Option<String>,
    },
    /// It was not carried out, and changed nothing.
    Refused(Why),
    /// The connection was lost before the answer: it may or may not have been carried out.
    Unknown,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In good order.
    Left,
    /// The server does not want this client, now or at all.
    Refused {
        /// Why, for programs.
        code: CloseCode,
        /// Why, for people.
        why: String,
        /// Seconds to wait before trying again; nothing where that is in vain.
        retry_after_s: Option<u32>,
    },
    /// The connection or the server was lost.
    Lost {
        /// The reason nearest to what is known.
        code: CloseCode,
        /// Why, for people.
        why: String,
    },
}

impl Outcome {
    /// Returns whether coming back with the session's ticket can help.
    #[must_use]
    pub const fn is_worth_resuming(&self) -> bool {
        match self {
            Self::Left | Self::Refused { .. } => false,
            Self::Lost { code, .. } => code.is_worth_resuming(),
        }
    }

    fn of(code: CloseCode, why: &str, retry_after_s: Option<u32>) -> Self {
        let why = if why.is_empty() { code.to_string() } else { why.to_owned() };
        if code == CloseCode::Goodbye {
            Self::Left
        } else if code.is_worth_resuming() || code == CloseCode::Protocol {
            Self::Lost { code, why }
        } else {
            Self::Refused { code, why, retry_after_s }
        }
    }
}

/// Why something cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// The session is not in the world (yet, or any more).
    #[error("not in the world")]
    NotIn,
    /// Too many requests wait for an answer.
    #[error("{REQUESTS_MAX} requests wait for an answer; wait for one")]
    TooMany,
    /// The connection does not take as much as is said.
    #[error("{OUT_BYTES_MAX} bytes wait to be sent; wait until the connection takes them")]
    Backlog,
    /// It cannot be said.
    #[error(transparent)]
    Utterance(#[from] BadUtterance),
    /// Too many chunks are wanted at once.
    #[error("{got} chunks wanted, at most {CHUNKS_WANTED_MAX}")]
    Chunks {
        /// How many.
        got: usize,
    },
    /// No channel can be called that.
    #[error("a channel's name has 1 to {CHANNEL_CHARS_MAX} characters")]
    Channel,
    /// The message is longer than any server takes.
    #[error("the message is {got} bytes, at most {MESSAGE_BYTES_MAX}")]
    TooLong {
        /// Its length.
        got: usize,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Stage {
    /// Waits for the greeting.
    New,
    /// Waits for the welcome.
    Asked,
    In,
    /// Ended, and whether the application was told.
    Over(Outcome, bool),
}

/// The state of one session.
pub struct Session {
    entry: Entry,
    stage: Stage,
    assembler: Assembler,
    out: Vec<u8>,
    /// Unanswered requests and when they were made.
    requests: BTreeMap<u32, u64>,
    next_request: u32,
    begun_us: u64,
    heard_us: u64,
    features: u64,
}

impl Session {
    /// Returns a session that waits for the server's greeting.
    ///
    /// # Errors
    /// When no server would take `entry`.
    pub fn new(entry: Entry, now_us: u64) -> Result<Self, BadEntry> {
        entry.check()?;
        Ok(Self {
            entry,
            stage: Stage::New,
            assembler: Assembler::default(),
            out: Vec::new(),
            requests: BTreeMap::new(),
            next_request: 1,
            begun_us: now_us,
            heard_us: now_us,
            features: 0,
        })
    }

    /// Returns the session that goes on with this one's ticket on another connection. Its requests
    /// are numbered on.
    #[must_use]
    pub fn successor(&self, now_us: u64) -> Self {
        Self {
            entry: self.entry.clone(),
            stage: Stage::New,
            assembler: Assembler::default(),
            out: Vec::new(),
            requests: BTreeMap::new(),
            next_request: self.next_request,
            begun_us: now_us,
            heard_us: now_us,
            features: 0,
        }
    }

    /// Gives up waiting for answers, after the connection was lost; returns which are missing.
    pub fn give_up(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.requests).into_keys().collect()
    }

    /// Comes with this proof from now on: another server needs another one.
    pub fn prove_with(&mut self, prover: Option<Arc<dyn Prover>>) {
        self.entry.prover = prover;
    }

    /// Gives up the ticket: the next connection begins a new session.
    pub fn forget_ticket(&mut self) {
        self.entry.resume = None;
    }

    /// Returns the newest ticket to resume with.
    #[must_use]
    pub fn ticket(&self) -> Option<&[u8]> {
        self.entry.resume.as_deref()
    }

    /// Returns whether the client is in the world.
    #[must_use]
    pub fn is_in(&self) -> bool {
        self.stage == Stage::In
    }

    /// Returns how the session ended, nothing while it goes on.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Outcome> {
        match &self.stage {
            Stage::Over(outcome, _) => Some(outcome),
            Stage::New | Stage::Asked | Stage::In => None,
        }
    }

    /// Returns the bits of [`features`] in use.
    #[must_use]
    pub const fn features(&self) -> u64 {
        self.features
    }

    /// Returns how many requests wait for an answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.requests.len()
    }

    /// Returns when a request was made that is not answered yet.
    #[must_use]
    pub fn asked_us(&self, request: u32) -> Option<u64> {
        self.requests.get(&request).copied()
    }

    /// Takes in bytes of the control stream; [`Self::next_event`] says what they mean.
    pub fn receive(&mut self, bytes: &[u8], now_us: u64) {
        self.heard(now_us);
        if self.outcome().is_none() {
            self.assembler.extend(bytes);
        }
    }

    /// Notes that something was heard from the server, a frame say.
    pub const fn heard(&mut self, now_us: u64) {
        self.heard_us = now_us;
    }

    /// Notes that the connection is closed: by the peer with a code, or lost.
    pub fn closed(&mut self, code: Option<u64>, why: &str) {
        let code = code.map(|code| CloseCode::from_number(code).unwrap_or(CloseCode::Protocol));
        self.end(match code {
            Some(code) => Outcome::of(code, why, None),
            None => Outcome::Lost { code: CloseCode::Silent, why: why.to_owned() },
        });
    }

    /// Notices silence.
    pub fn tick(&mut self, now_us: u64) {
        let silent_us = now_us.saturating_sub(self.heard_us);
        let waited_us = now_us.saturating_sub(self.begun_us);
        let why = match self.stage {
            Stage::Over(..) => return,
            Stage::New | Stage::Asked if waited_us < ADMISSION_US_MAX => return,
            Stage::New | Stage::Asked => "the server did not let us in or refuse us in time",
            Stage::In if silent_us < SILENCE_US_MAX => return,
            Stage::In => "nothing was heard from the server for 10 s",
        };
        self.end(Outcome::Lost { code: CloseCode::Silent, why: why.to_owned() });
    }

    /// Returns what happened next, nothing until more bytes arrive.
    pub fn next_event(&mut self) -> Option<SessionEvent> {
        loop {
            if let Stage::Over(outcome, told) = &mut self.stage {
                let outcome = (!*told).then(|| outcome.clone());
                *told = true;
                return outcome.map(SessionEvent::Ended);
            }
            match self.next_message() {
                Ok(None) => return None,
                Ok(Some(message)) => {
                    if let Some(event) = self.handle(message) {
                        return Some(event);
                    }
                }
                Err(why) => self.end(Outcome::Lost { code: CloseCode::Protocol, why }),
            }
        }
    }

    /// Moves the bytes to send to the end of `out`; returns whether there were any.
    pub fn take_output(&mut self, out: &mut Vec<u8>) -> bool {
        let has_some = !self.out.is_empty();
        out.append(&mut self.out);
        has_some
    }

    /// Returns whether bytes wait to be sent.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Asks to do something; returns the request's number.
    ///
    /// # Errors
    /// [`BadRequest`]; nothing was sent.
    pub fn act(&mut self, act: Act, now_us: u64) -> Result<u32, BadRequest> {
        self.request(now_us, |request| Do { request, act }.into())
    }

    /// Asks to stop a request that takes time.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn cancel(&mut self, request: u32) -> Result<(), BadRequest> {
        self.send(&Cancel { request }.into())
    }

    /// Speaks; returns the request's number.
    ///
    /// # Errors
    /// As [`Self::act`], and when the utterance breaks a bound.
    pub fn say(
        &mut self,
        to: Audience,
        utterance: Utterance,
        now_us: u64,
    ) -> Result<u32, BadRequest> {
        utterance.check()?;
        self.request(now_us, |request| Say { request, to, utterance }.into())
    }

    /// Enters or leaves a channel.
    ///
    /// # Errors
    /// As [`Self::act`], and when no channel can be called that.
    pub fn tune(&mut self, channel: &str, joined: bool) -> Result<(), BadRequest> {
        let length = channel.chars().count();
        if length == 0 || CHANNEL_CHARS_MAX < length {
            return Err(BadRequest::Channel);
        }
        self.send(&Tune { channel: channel.to_owned(), joined }.into())
    }

    /// Changes how one's avatar looks.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn wear(&mut self, appearance: Appearance) -> Result<(), BadRequest> {
        self.send(&Wear { appearance }.into())
    }

    /// Sets what one wants to perceive of somebody.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn ignore(&mut self, person: PersonId, degree: Degree) -> Result<(), BadRequest> {
        self.send(&Ignore { person, degree }.into())
    }

    /// Lets somebody drive one's avatar; returns the request's number.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn lend(&mut self, lending: Lending, now_us: u64) -> Result<u32, BadRequest> {
        self.request(now_us, |request| Lend { request, lending }.into())
    }

    /// Ends a lending; returns the request's number.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn recall(
        &mut self,
        avatar: EntityId,
        to: PersonId,
        now_us: u64,
    ) -> Result<u32, BadRequest> {
        self.request(now_us, |request| Recall { request, avatar, to }.into())
    }

    /// Names the ground that is wanted, most urgent first, in place of what was wanted before.
    ///
    /// # Errors
    /// As [`Self::act`], and when it is too much at once.
    pub fn want(&mut self, chunks: Vec<ChunkId>) -> Result<(), BadRequest> {
        if CHUNKS_WANTED_MAX < chunks.len() {
            return Err(BadRequest::Chunks { got: chunks.len() });
        }
        self.send(&Want { chunks }.into())
    }

    /// Leaves in good order: the server says goodbye and the session ends as [`Outcome::Left`].
    ///
    /// # Errors
    /// As [`Self::act`].
    pub fn leave(&mut self, sleep: bool) -> Result<(), BadRequest> {
        self.send(&Leave { sleep }.into())
    }

    fn request(
        &mut self,
        now_us: u64,
        message: impl FnOnce(u32) -> ClientMessage,
    ) -> Result<u32, BadRequest> {
        if REQUESTS_MAX <= self.requests.len() {
            return Err(BadRequest::TooMany);
        }
        let request = self.next_request;
        self.send(&message(request))?;
        self.next_request = self.next_request.wrapping_add(1).max(1);
        self.requests.insert(request, now_us);
        Ok(request)
    }

    fn send(&mut self, message: &ClientMessage) -> Result<(), BadRequest> {
        if !self.is_in() {
            return Err(BadRequest::NotIn);
        }
        if OUT_BYTES_MAX < self.out.len() {
            return Err(BadRequest::Backlog);
        }
        let before = self.out.len();
        message.write(&mut self.out);
        let got = self.out.len() - before;
        if MESSAGE_BYTES_MAX < got {
            self.out.truncate(before);
            return Err(BadRequest::TooLong { got });
        }
        Ok(())
    }

    fn end(&mut self, outcome: Outcome) {
        if self.outcome().is_none() {
            self.stage = Stage::Over(outcome, false);
        }
    }

    fn next_message(&mut self) -> Result<Option<ServerMessage>, String> {
        loop {
            let frame = match self.assembler.next(MESSAGE_BYTES_MAX) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(None),
                Err(error) => return Err(error.to_string()),
            };
            if let Some(message) = ServerMessage::read(frame).map_err(|error| error.to_string())? {
                return Ok(Some(message));
            }
        }
    }

    /// Takes in one message; returns what the application is to know of it.
    fn handle(&mut self, message: ServerMessage) -> Option<SessionEvent> {
        match (&self.stage, message) {
            (_, ServerMessage::Farewell(Farewell { code, why, retry_after_s })) => {
                let code = CloseCode::from_number(u64::from(code)).unwrap_or(CloseCode::Internal);
                self.end(Outcome::of(code, &why, retry_after_s));
                None
            }
            (Stage::New, ServerMessage::Greeting(greeting)) => {
                self.answer_greeting(&greeting);
                None
            }
            (Stage::Asked, ServerMessage::Welcome(welcome)) => {
                self.stage = Stage::In;
                self.features = welcome.features;
                self.entry.resume = Some(welcome.ticket.clone());
                Some(SessionEvent::Welcomed(Box::new(welcome)))
            }
            (Stage::In, message) => self.handle_in(message),
            (stage, message) => {
                let (name, kind) = message.name();
                let why = format!("the server sent {name} ({kind:#06x}) while {stage:?}");
                self.end(Outcome::Lost { code: CloseCode::Protocol, why });
                None
            }
        }
    }

    fn handle_in(&mut self, message: ServerMessage) -> Option<SessionEvent> {
        match message {
            ServerMessage::Done(done) => {
                self.answered(done.request, Answer::Done { tick: done.tick, text: done.text })
            }
            ServerMessage::Refused(refused) => {
                self.answered(refused.request, Answer::Refused(refused.why))
            }
            ServerMessage::Begun(begun) => {
                let is_known = self.requests.contains_key(&begun.request);
                let (request, until) = (begun.request, begun.until);
                is_known.then_some(SessionEvent::Begun { request, until })
            }
            ServerMessage::Ticket(next) => {
                self.entry.resume = Some(next.ticket);
                None
            }
            ServerMessage::Redirect(redirect) => {
                self.entry.resume = Some(redirect.ticket);
                Some(SessionEvent::Redirected { address: redirect.address })
            }
            message @ (ServerMessage::Announce(_)
            | ServerMessage::Happened(_)
            | ServerMessage::Heard(_)
            | ServerMessage::Holding(_)
            | ServerMessage::Offered(_)
            | ServerMessage::OfferEnded(_)
            | ServerMessage::Notice(_)
            | ServerMessage::Stopping(_)
            | ServerMessage::Pace(_)) => Some(SessionEvent::Said(Box::new(message))),
            ServerMessage::Greeting(_)
            | ServerMessage::Welcome(_)
            | ServerMessage::Farewell(_)
            | ServerMessage::Chunk(_) => {
                let why = "the server sent a message that has no place on this stream";
                self.end(Outcome::Lost { code: CloseCode::Protocol, why: why.to_owned() });
                None
            }
        }
    }

    fn answered(&mut self, request: u32, answer: Answer) -> Option<SessionEvent> {
        // An answer to what was never asked, or was asked before a resume, means nothing here.
        self.requests.remove(&request)?;
        Some(SessionEvent::Answered { request, answer })
    }

    fn answer_greeting(&mut self, greeting: &Greeting) {
        let world = match self.entry.world_of(greeting) {
            Ok(world) => world,
            Err(why) => {
                let code = CloseCode::World;
                self.end(Outcome::Refused { code, why, retry_after_s: None });
                return;
            }
        };
        let entry = &self.entry;
        let hello = Hello {
            minor: MINOR,
            features: entry.features.unwrap_or(features::ALL),
            world,
            name: entry.name.clone(),
            software: entry.software.clone(),
            identity: entry.prover.as_ref().map(|prover| prover.prove(&greeting.nonce)),
            token: entry.token.clone(),
            resume: entry.resume.clone(),
            drive: entry.drive,
            capabilities: entry.capabilities.clone(),
        };
        let before = self.out.len();
        ClientMessage::from(hello).write(&mut self.out);
        self.stage = Stage::Asked;
        let got = self.out.len() - before;
        if HELLO_BYTES_MAX < got {
            self.out.truncate(before);
            let why =
                format!("our hello is {got} bytes, at most {HELLO_BYTES_MAX}: a shorter token");
            self.end(Outcome::Refused { code: CloseCode::Protocol, why, retry_after_s: None });
        }
    }
}

impl Entry {
    fn check(&self) -> Result<(), BadEntry> {
        let length = self.name.chars().count();
        let is_plain = !self.name.trim().is_empty() && !self.name.chars().any(char::is_control);
        if NAME_CHARS_MAX < length || !is_plain {
            return Err(BadEntry::Name);
        }
        if let Some(got) = self.token.as_ref().map(Vec::len).filter(|&got| TOKEN_BYTES_MAX < got) {
            return Err(BadEntry::Token { got });
        }
        match self.resume.as_ref().map(Vec::len).filter(|&got| TICKET_BYTES_MAX < got) {
            Some(got) => Err(BadEntry::Ticket { got }),
            None => Ok(()),
        }
    }

    /// The id of the world asked for, or which ones there are.
    fn world_of(&self, greeting: &Greeting) -> Result<Option<WorldId>, String> {
        let Some(wanted) = &self.world else { return Ok(None) };
        let by_name = greeting.worlds.iter().find(|world| world.name == *wanted);
        let by_id = || greeting.worlds.iter().find(|world| Ok(world.id) == wanted.parse());
        by_name.or_else(by_id).map(|world| Some(world.id)).ok_or_else(|| {
            let names: Vec<&str> =
                greeting.worlds.iter().map(|world| world.name.as_str()).collect();
            format!("no world `{wanted}` here; hosted are: {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests;
