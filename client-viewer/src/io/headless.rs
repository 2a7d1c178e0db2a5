//! The headless viewer: joins, carries out a script or standard input, and writes what it saw.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use protocol::close::CloseCode;
use protocol::ground::HeightGrid;
use protocol::ids::ChunkId;
use protocol::io::clock::now_us;
use protocol::io::{Client, ClientEvent, ConnectError, ConnectOptions};
use protocol::message::ServerMessage;
use protocol::message::common::Lending;
use protocol::message::server::Being;
use protocol::replica::Entity;
use protocol::rules::RuleBook;
use protocol::session::{Answer, BadRequest, Outcome};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{mpsc, oneshot};

use super::clock::unix_s;
use super::files::{Out, write_png};
use super::transfer::{News, Transfer};
use crate::actor::{Actor, Deed, Scene};
use crate::map::{Map, Mark, What};
use crate::record;
use crate::script::{self, Line};
use crate::words::Sight;

/// How often the script is looked at and the world is shown: as often as a picture is drawn.
const TURN: Duration = Duration::from_millis(25);

/// How often a `view` is written.
const VIEW_US: u64 = 1_000_000;

/// Lines of standard input that may wait.
const INPUT_LINES_MAX: usize = 256;

/// What a headless viewer does.
pub struct Settings {
    /// The script to carry out.
    pub script: Vec<Line>,
    /// Whether more lines come from standard input.
    pub stdin: bool,
    /// Where JSON lines go, standard output if nothing.
    pub out: Option<PathBuf>,
    /// Where the map goes.
    pub map: Option<PathBuf>,
    /// When to leave, when the script is done if nothing.
    pub seconds: Option<f64>,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    /// As it should.
    Fine,
    /// The server does not want this client.
    Refused(String),
    /// The avatar of somebody else's that was asked for is not to be had, or not any more: it is
    /// not lent, or somebody else drives it.
    NotLent(String),
    /// The connection was lost.
    Lost(String),
    /// The script's line failed.
    Failed {
        /// Which line.
        line: usize,
        /// Why.
        why: String,
    },
}

/// Turns the bytes of a chunk into heights.
///
/// # Errors
/// What is wrong with them.
pub fn decode_ground(id: ChunkId, bytes: &[u8]) -> Result<HeightGrid, String> {
    let chunk = worldgen::chunk::decode(bytes).map_err(|error| error.to_string())?;
    if chunk.id() != id {
        return Err(format!("these bytes are chunk {}", chunk.id()));
    }
    Ok(chunk.grid().clone())
}

/// Joins, does what the settings say, and leaves.
///
/// # Errors
/// When files cannot be written, or there is no connection to begin with.
pub async fn run(mut options: ConnectOptions, settings: Settings) -> Result<End> {
    let out = Out::open(settings.out.as_deref())?;
    options.ground = Some(Arc::new(decode_ground));
    let borrows = options.drive.is_some();
    if settings.map.is_some() {
        options.ground_reach = 3;
    }
    let client = match Box::pin(Client::connect(options)).await {
        Ok(client) => client,
        Err(ConnectError::Refused { code, why, .. }) => {
            return Ok(End::refused(borrows, code, why));
        }
        Err(error @ ConnectError::Entry(_)) => return Err(error.into()),
        Err(
            error
            @ (ConnectError::Open(_) | ConnectError::Lost { .. } | ConnectError::Rules { .. }),
        ) => {
            return Ok(End::Lost(error.to_string()));
        }
    };
    let mut viewer = Viewer::new(client, out, settings);
    viewer.borrows = borrows;
    viewer.welcome()?;
    Box::pin(viewer.watch()).await
}

impl End {
    /// Returns the end of a refusal: of one who `borrows` an avatar, it may be about that.
    fn refused(borrows: bool, code: CloseCode, why: String) -> Self {
        let is_about_avatar = match code {
            CloseCode::LendingEnded | CloseCode::Replaced => true,
            // Who may not come in at all is told so with the same code.
            CloseCode::Unauthorized => why.contains("avatar"),
            CloseCode::Goodbye
            | CloseCode::Stopping
            | CloseCode::Version
            | CloseCode::World
            | CloseCode::TokenExpired
            | CloseCode::TokenRevoked
            | CloseCode::TokenForged
            | CloseCode::Banned
            | CloseCode::Full
            | CloseCode::Kicked
            | CloseCode::Protocol
            | CloseCode::Flooding
            | CloseCode::Silent
            | CloseCode::Lost
            | CloseCode::Internal => false,
        };
        if borrows && is_about_avatar { Self::NotLent(why) } else { Self::Refused(why) }
    }
}

struct Viewer {
    client: Client,
    out: Out,
    settings: Settings,
    actor: Actor,
    answer: Option<oneshot::Receiver<Answer>>,
    transfer: Option<Transfer>,
    map: Map,
    begun_us: u64,
    viewed_us: u64,
    failure: Option<(usize, String)>,
    /// Why the connection was lost, until it is back.
    away: Option<String>,
    /// How it ends, once it leaves, unless the server says otherwise.
    leaving: Option<End>,
    input_open: bool,
    /// Whether the avatar is somebody else's.
    borrows: bool,
}

impl Viewer {
    fn new(client: Client, out: Out, mut settings: Settings) -> Self {
        let actor = Actor::new(std::mem::take(&mut settings.script));
        let input_open = settings.stdin;
        Self {
            client,
            out,
            settings,
            actor,
            answer: None,
            transfer: None,
            map: Map::default(),
            begun_us: now_us(),
            viewed_us: 0,
            failure: None,
            away: None,
            leaving: None,
            input_open,
            borrows: false,
        }
    }

    async fn watch(mut self) -> Result<End> {
        let mut lines = self.input_open.then(read_stdin);
        let mut turn = tokio::time::interval(TURN);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                event = self.client.event() => match event {
                    Some(event) => self.note(&event)?,
                    None => break,
                },
                line = next_line(&mut lines) => self.take_line(line)?,
                _ = turn.tick() => self.turn()?,
            }
            // Nobody is there to say goodbye to, and no time is left to come back.
            if let (Some(_), Some(why)) = (&self.leaving, &self.away) {
                let lost = Outcome::Lost { code: CloseCode::Lost, why: why.clone() };
                self.write("ended", record::ended(&lost))?;
                break;
            }
        }
        self.finish()
    }

    fn welcome(&mut self) -> Result<()> {
        let key = self.client.server_key().to_string();
        let body = self.client.look(|view| record::welcome(&view.welcome, &key));
        self.write("welcome", body)
    }

    fn write(&mut self, kind: &str, body: serde_json::Value) -> Result<()> {
        let t_ms = now_us().saturating_sub(self.begun_us) / 1_000;
        self.out.write(&record::line(t_ms, kind, body))?;
        Ok(())
    }

    fn note(&mut self, event: &ClientEvent) -> Result<()> {
        match event {
            ClientEvent::Said(message) => {
                match &**message {
                    ServerMessage::Heard(heard) => self.actor.hear(heard),
                    ServerMessage::Happened(happened) => {
                        happened.events.iter().for_each(|event| self.actor.witness(event));
                    }
                    ServerMessage::Greeting(_)
                    | ServerMessage::Welcome(_)
                    | ServerMessage::Farewell(_)
                    | ServerMessage::Announce(_)
                    | ServerMessage::Done(_)
                    | ServerMessage::Refused(_)
                    | ServerMessage::Begun(_)
                    | ServerMessage::Holding(_)
                    | ServerMessage::Offered(_)
                    | ServerMessage::OfferEnded(_)
                    | ServerMessage::Notice(_)
                    | ServerMessage::Stopping(_)
                    | ServerMessage::Pace(_)
                    | ServerMessage::Redirect(_)
                    | ServerMessage::Ticket(_)
                    | ServerMessage::Chunk(_) => {}
                }
                let line = self.client.look(|view| {
                    let sight = Sight { replica: &view.replica, book: &view.book };
                    record::said(message, sight)
                });
                line.map_or(Ok(()), |(kind, body)| self.write(kind, body))
            }
            ClientEvent::Resumed(welcome) => {
                self.away = None;
                let key = self.client.server_key().to_string();
                self.write("welcome", record::welcome(welcome, &key))
            }
            ClientEvent::Begun { request, until } => {
                self.write("begun", json!({ "request": request, "until_tick": until.0 }))
            }
            ClientEvent::Ground { id, bytes } => {
                if self.settings.map.is_some()
                    && let Ok(chunk) = worldgen::chunk::decode(bytes)
                {
                    self.map.add_ground(chunk);
                }
                self.write("ground", json!({ "chunk": id.to_string(), "bytes": bytes.len() }))
            }
            ClientEvent::Interrupted { why, retry_ms } => {
                self.away = Some(why.clone());
                self.write("interrupted", json!({ "why": why, "retry_ms": retry_ms }))
            }
            ClientEvent::Ended(outcome) => self.write("ended", record::ended(outcome)),
        }
    }

    fn take_line(&mut self, line: Option<(usize, String)>) -> Result<()> {
        let Some((number, text)) = line else {
            self.input_open = false;
            return Ok(());
        };
        match script::parse_line(number, &text) {
            Ok(None) => Ok(()),
            Ok(Some(line)) => {
                if self.actor.push(line) {
                    return Ok(());
                }
                self.write(
                    "bad_line",
                    json!({ "why": format!("line {number}: too many lines wait") }),
                )
            }
            Err(error) => self.write("bad_line", json!({ "why": error.to_string() })),
        }
    }

    fn turn(&mut self) -> Result<()> {
        if let Some(answer) = &mut self.answer
            && let Some(answer) = match answer.try_recv() {
                Ok(answer) => Some(answer),
                Err(oneshot::error::TryRecvError::Empty) => None,
                Err(oneshot::error::TryRecvError::Closed) => Some(Answer::Unknown),
            }
        {
            self.answer = None;
            self.write("answer", record::answer(&answer))?;
            self.actor.answered(answer);
        }
        self.note_transfer()?;
        self.act()?;
        let now_us = now_us();
        self.map.tread(self.client.look(|view| view.replica.body().position()));
        if VIEW_US <= now_us.saturating_sub(self.viewed_us) {
            self.viewed_us = now_us;
            self.view()?;
        }
        let is_time = self.settings.seconds.is_some_and(|seconds| {
            seconds <= now_us.saturating_sub(self.begun_us) as f64 / 1_000_000.0
        });
        let is_done = self.settings.seconds.is_none() && self.actor.is_idle() && !self.input_open;
        if is_time || is_done || self.failure.is_some() {
            self.leave()?;
        }
        Ok(())
    }

    fn act(&mut self) -> Result<()> {
        if self.leaving.is_some() {
            return Ok(());
        }
        let mut deeds = Vec::new();
        let (client, actor) = (&self.client, &mut self.actor);
        client.look(|view| {
            let (replica, terrain, book) = (&view.replica, &view.terrain, &view.book);
            actor.poll(Scene { replica, terrain, book, now_us: now_us() }, &mut deeds);
        });
        deeds.into_iter().try_for_each(|deed| self.perform(deed))
    }

    fn perform(&mut self, deed: Deed) -> Result<()> {
        match deed {
            Deed::Steer(input) => self.client.set_input(input),
            Deed::Act(act) => self.await_answer(self.client.begin(act))?,
            Deed::Say(to, utterance) => {
                self.await_answer(self.client.begin_say(to, utterance))?;
            }
            Deed::Lend(to, for_s) => {
                let avatar = self.client.look(|view| view.replica.avatar());
                let ends_at = unix_s().saturating_add(for_s);
                self.await_answer(self.client.begin_lend(Lending { avatar, to, ends_at }))?;
            }
            Deed::Recall(from) => {
                let avatar = self.client.look(|view| view.replica.avatar());
                self.await_answer(self.client.begin_recall(avatar, from))?;
            }
            Deed::Join(channel) => {
                if let Err(error) = self.client.tune(&channel, true) {
                    self.unsaid(&error)?;
                }
            }
            Deed::Share(file, audience, keep_s) => {
                let assets = self.client.assets();
                self.transfer = Some(Transfer::share(assets, &file, audience, keep_s));
            }
            Deed::Fetch(hash, file) => {
                self.transfer = Some(Transfer::fetch(self.client.assets(), hash, file.into()));
            }
            Deed::Unshare(hash) => {
                self.transfer = Some(Transfer::unshare(self.client.assets(), hash));
            }
            Deed::Look => self.view()?,
            Deed::Leave => self.leave()?,
            Deed::Began { number } => {
                self.write("line", json!({ "line": number, "is": "begun" }))?;
            }
            Deed::Finished { number } => {
                self.write("line", json!({ "line": number, "is": "done" }))?;
            }
            Deed::Failed { number, why } => {
                self.write("line", json!({ "line": number, "is": "failed", "why": why }))?;
                // Somebody at the keyboard tries again; a script is over.
                if !self.settings.stdin {
                    self.failure = Some((number, why));
                }
            }
        }
        Ok(())
    }

    fn await_answer(
        &mut self,
        asked: Result<(u32, oneshot::Receiver<Answer>), BadRequest>,
    ) -> Result<()> {
        match asked {
            Ok((_, answer)) => self.answer = Some(answer),
            Err(error) => self.unsaid(&error)?,
        }
        Ok(())
    }

    /// Writes how far a transfer is, and tells the script of its end.
    fn note_transfer(&mut self) -> Result<()> {
        while let Some(news) = self.transfer.as_mut().and_then(Transfer::news) {
            match news {
                News::Progress(body) => self.write("asset", body)?,
                News::End(body, answer) => {
                    self.transfer = None;
                    self.write("asset", body)?;
                    self.actor.answered(answer);
                }
            }
        }
        Ok(())
    }

    fn unsaid(&mut self, error: &BadRequest) -> Result<()> {
        self.actor.answered(Answer::Unknown);
        self.write("unsent", json!({ "why": error.to_string() }))
    }

    fn view(&mut self) -> Result<()> {
        let body = self.client.show(|view, now_us| record::view(&view.replica, &view.book, now_us));
        self.write("view", body)
    }

    fn leave(&mut self) -> Result<()> {
        if self.leaving.is_some() {
            return Ok(());
        }
        self.leaving = Some(self.away.clone().map_or(End::Fine, End::Lost));
        // What is in view now is what the map shows.
        self.view()?;
        let marks: Vec<Mark> = self.client.look(|view| {
            let mark = |entity: &Entity| mark(entity, &view.book);
            view.replica.entities().map(mark).collect()
        });
        self.map.mark(marks);
        self.client.begin_leaving();
        Ok(())
    }

    fn finish(mut self) -> Result<End> {
        let (counts, events_lost, mut corrections) = self.client.look(|view| {
            let corrections: Vec<f64> =
                view.corrections_cm.iter().copied().map(f64::from).collect();
            (view.replica.counts(), view.events_lost, corrections)
        });
        let summary = record::summary(counts, events_lost, &mut corrections);
        self.write("summary", summary)?;
        if let Some(path) = &self.settings.map {
            write_png(path, self.map.draw())?;
        }
        if let Some((line, why)) = self.failure {
            return Ok(End::Failed { line, why });
        }
        Ok(match self.client.outcome().cloned() {
            Some(Outcome::Left) => End::Fine,
            Some(Outcome::Refused { code, why, .. }) => End::refused(self.borrows, code, why),
            Some(Outcome::Lost { why, .. }) => self.leaving.unwrap_or(End::Lost(why)),
            None => {
                let silent = || End::Lost("the session ended without a word".to_owned());
                self.leaving.unwrap_or_else(silent)
            }
        })
    }
}

/// How an entity is shown on the map.
fn mark(entity: &Entity, book: &RuleBook) -> Mark {
    let (name, what) = match &entity.being {
        Being::Avatar { name, .. } => (name.clone(), What::Person),
        Being::Thing { kind, .. } => match book.kind(*kind) {
            Some(kind) if kind.gather.is_some() => (kind.name.clone(), What::Plant),
            Some(kind) if kind.portable => (kind.name.clone(), What::Thing),
            Some(kind) => (kind.name.clone(), What::Fixture),
            None => (kind.to_string(), What::Thing),
        },
    };
    Mark { at: entity.newest().1.position, name, what }
}

/// Reads standard input line by line in the background.
fn read_stdin() -> mpsc::Receiver<(usize, String)> {
    let (send, receive) = mpsc::channel(INPUT_LINES_MAX);
    tokio::spawn(async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        let mut number = 0;
        while let Ok(Some(line)) = lines.next_line().await {
            number += 1;
            if send.send((number, line)).await.is_err() {
                return;
            }
        }
    });
    receive
}

/// The next line, nothing at its end; waits forever where no lines come at all.
async fn next_line(lines: &mut Option<mpsc::Receiver<(usize, String)>>) -> Option<(usize, String)> {
    let Some(receiver) = lines else { return std::future::pending().await };
    let line = receiver.recv().await;
    if line.is_none() {
        *lines = None;
    }
    line
}
