//! Carries operators' requests to where they are done: the gateway, the store, the decisions.
//!
//! Each that changes something is written down before, and again when it is done.

pub mod people;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use actix::Addr;
use protocol::close::CloseCode;
use protocol::ids::{PersonId, WorldId};
use protocol::units::Position;
use tokio::sync::{Notify, oneshot};
use tracing::error;

use crate::actors::gateway::{Divide, GatewayActor, ListPlayers, Order, SendTo};
use crate::admin::decisions::{Context, DecisionError, NameLookup, decide, person};
use crate::admin::{AdminReply, AdminRequest, Progress, Who};
use crate::admission::Role;
use crate::admission::access::Access;
use crate::audit::{self, AuditEntry};
use crate::config::{Settings, reload};
use crate::directory::Directory;
use crate::identity::Identity;
use crate::io::admin::{Operate, Operator, Replies};
use crate::io::audit::{self as auditing, Auditor};
use crate::io::http::{Operator as PageRole, Verify};
use crate::io::launch::{Place, write_access};
use crate::io::lobby::Lobby;
use crate::io::store::SledStore;
use crate::io::store::backup::Backups;
use crate::io::telemetry::Telemetry;
use crate::io::{clock, rng};
use crate::region::{Change, RegionIndex};
use crate::status::StatusBoard;
use crate::store::retention::{Backoff, Schedule};
use crate::token::{Mint, from_text};

/// How often guests to forget are looked for: it reads everybody's records, and an hour more or
/// less is nothing to days.
const GUESTS_LOOKED_AT: Duration = Duration::from_secs(3_600);

/// What to do about a scheduled backup that failed.
const BACKUP_ADVICE: &str = "if room is short, free some, keep fewer backups (store.backup_keep_*) \
    or put them elsewhere (store.backup_dir)";

/// How often it is looked at whether a backup is due, and how large the store is.
const HOUSE_LOOKED_AT: Duration = Duration::from_secs(60);

/// Problems that a check names; more of them say nothing new.
const PROBLEMS_MAX: usize = 20;

/// Checks operators' tokens, for the page.
#[derive(Clone)]
pub struct Tokens {
    identity: Arc<Identity>,
    access: Arc<RwLock<Access>>,
    world: WorldId,
}

impl Tokens {
    /// Returns the checker of a world's tokens.
    #[must_use]
    pub const fn new(identity: Arc<Identity>, access: Arc<RwLock<Access>>, world: WorldId) -> Self {
        Self { identity, access, world }
    }
}

impl Verify for Tokens {
    fn role(&self, token: &str) -> Option<PageRole> {
        let token = from_text(token).ok()?;
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        let mint = Mint::new(&self.identity);
        let is_revoked = |id| access.is_revoked(id);
        let claims = mint.check(&token, self.world, clock::unix_s(), is_revoked).ok()?;
        match claims.role {
            Role::Admin => Some(PageRole::Admin),
            Role::Moderator => Some(PageRole::Moderator),
            Role::Member | Role::Visitor => None,
        }
    }
}

/// Carries out what operators ask of a running world.
#[derive(Clone)]
pub struct Host {
    gateway: Addr<GatewayActor>,
    lobby: Arc<Lobby>,
    store: Arc<SledStore>,
    tokens: Tokens,
    data: PathBuf,
    board: Arc<StatusBoard>,
    telemetry: Arc<Telemetry>,
    settings: Arc<Mutex<Settings>>,
    deciding: Arc<Mutex<()>>,
    place: Arc<Place>,
    stopped: Arc<Notify>,
    auditor: Arc<Auditor>,
}

/// Finds people by the names they go by.
#[derive(Debug)]
struct Names<'a>(&'a Directory);

impl NameLookup for Names<'_> {
    fn persons(&self, name: &str) -> Vec<PersonId> {
        self.0.named(name)
    }
}

impl Host {
    /// Returns the host of a running world.
    #[must_use]
    pub fn new(
        gateway: Addr<GatewayActor>,
        lobby: Arc<Lobby>,
        store: Arc<SledStore>,
        tokens: Tokens,
        (data, board, telemetry): (PathBuf, Arc<StatusBoard>, Arc<Telemetry>),
        (settings, place, auditor): (Settings, Place, Auditor),
    ) -> Self {
        Self {
            gateway,
            lobby,
            store,
            tokens,
            data,
            board,
            telemetry,
            settings: Arc::new(Mutex::new(settings)),
            deciding: Arc::default(),
            place: Arc::new(place),
            stopped: Arc::new(Notify::new()),
            auditor: Arc::new(auditor),
        }
    }

    /// Returns what is notified when operators are to be heard no more.
    #[must_use]
    pub fn stopped(&self) -> Arc<Notify> {
        Arc::clone(&self.stopped)
    }

    /// Measures the store, removes assets whose time is over, makes and removes backups and forgets
    /// guests as the settings say, until dropped. None of these waits for another.
    pub async fn keep_house(self) {
        tokio::join!(self.look_after_the_store(), self.look_after_backups(), async {
            loop {
                self.forget_guests().await;
                tokio::time::sleep(GUESTS_LOOKED_AT).await;
            }
        });
    }

    async fn look_after_the_store(&self) {
        loop {
            let host = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                host.lobby.shelf.sweep();
                host.board.note_store_bytes(host.store.bytes());
            });
            if let Err(error) = looked.await {
                error!(%error, "the look at the store ended early");
            }
            tokio::time::sleep(HOUSE_LOOKED_AT).await;
        }
    }

    async fn look_after_backups(&self) {
        let mut backoff = Backoff::default();
        loop {
            let now_s = clock::unix_s();
            if backoff.may_try(now_s) {
                let host = self.clone();
                let made = move || host.scheduled().run(&host.store, now_s);
                match tokio::task::spawn_blocking(made).await {
                    Ok(Ok(made)) => {
                        backoff.succeed();
                        if let Some(path) = made {
                            tracing::info!(path = %path.display(), "backed up");
                        }
                    }
                    Ok(Err(error)) => {
                        let retry_s = backoff.fail(now_s);
                        error!(%error, retry_s, "the scheduled backup failed; {BACKUP_ADVICE}");
                    }
                    Err(error) => error!(%error, "the scheduled backup ended early"),
                }
            }
            tokio::time::sleep(HOUSE_LOOKED_AT).await;
        }
    }

    fn scheduled(&self) -> Backups {
        let config = self.lobby.config.read().unwrap_or_else(PoisonError::into_inner);
        let store = &config.store;
        let folder = match store.backup_dir.as_str() {
            "" => self.data.join("backups"),
            folder => PathBuf::from(folder),
        };
        let schedule = Schedule {
            every_s: u64::from(store.backup_every_h) * 3_600,
            hourly: store.backup_keep_hourly as usize,
            daily: store.backup_keep_daily as usize,
            weekly: store.backup_keep_weekly as usize,
        };
        Backups { folder, schedule }
    }

    async fn carry_out(&self, operator: Operator, request: AdminRequest, replies: Replies) {
        let entry = self.note_begin(operator, &request).await;
        let Some((reply, replies)) = self.answer(&request, replies).await else { return };
        if let Some(entry) = entry
            && let Err(error) = self.auditor.end(entry, &reply).await
        {
            error!(%error, "what an operator did could not be written down to the end");
        }
        replies.end(reply);
    }

    /// Writes down what is asked, if it changes something.
    async fn note_begin(&self, operator: Operator, request: &AdminRequest) -> Option<AuditEntry> {
        if request.only_looks() {
            return None;
        }
        let target = audit::target(request).and_then(|who| match who {
            Who::Subject(subject) => Some(audit::subject(subject)),
            Who::Name(_) => self.person(who).ok().map(|person| person.to_string()),
        });
        let what = audit::words(request, target.as_deref());
        let begun = self.auditor.begin(format!("uid {}", operator.uid), what).await;
        // An operator must be able to look after a world whose disk is full.
        begun.inspect_err(|error| error!(%error, "what an operator does is not written down")).ok()
    }

    /// Does what is asked; nothing if the thread that does it was lost.
    async fn answer(
        &self,
        request: &AdminRequest,
        replies: Replies,
    ) -> Option<(AdminReply, Replies)> {
        let reply = match request {
            AdminRequest::Status => AdminReply::Status(Box::new(self.board.read())),
            AdminRequest::ShardList => AdminReply::Shards(self.board.read().shards),
            AdminRequest::AssetList { owner, last } => {
                let (assets, of) = self.lobby.shelf.list(*owner, *last);
                AdminReply::Assets { assets, of }
            }
            AdminRequest::AssetRemove { hash, owner } => self.remove_asset(hash, *owner).await,
            AdminRequest::PlayerList => match self.gateway.send(ListPlayers).await {
                Ok(players) => AdminReply::Players(players),
                Err(_) => stopping(),
            },
            AdminRequest::Kick { who, why } => {
                self.order(who, |person| Order::PutOut(person, CloseCode::Kicked, why.clone()))
                    .await
            }
            AdminRequest::Move { who, to_m: [east, south] } => {
                let (x, z) = (east.saturating_mul(100), south.saturating_mul(100));
                self.order(who, |person| Order::Move(person, Position { x, y: 0, z })).await
            }
            AdminRequest::Erase { who } => self.erase(who).await,
            AdminRequest::Announce { text } => {
                self.tell(Order::Announce(text.clone()), "said to everybody").await
            }
            AdminRequest::Stop { in_ms, why, redirect } => {
                let (delay, why) = (Duration::from_millis(*in_ms), why.clone());
                let order = Order::Stop(delay, why, redirect.clone());
                self.tell(order, "the server stops; clients are told").await
            }
            AdminRequest::ShardSplit { region } => {
                self.divide(Change::Split(RegionIndex(*region))).await
            }
            AdminRequest::ShardMerge { region } => {
                self.divide(Change::Merge(RegionIndex(*region))).await
            }
            AdminRequest::ShardMove { region, to } => {
                let region = RegionIndex(*region);
                match self.gateway.send(SendTo { region, to: to.clone() }).await {
                    Ok(Ok(())) => AdminReply::Done(format!("region {} goes to {to}", region.0)),
                    Ok(Err(error)) => AdminReply::Failed(error.to_string()),
                    Err(_) => stopping(),
                }
            }
            AdminRequest::Reload => self.reload(),
            AdminRequest::Backup { to } => {
                let to = to.clone();
                let work = move |host: &Self, progress: &dyn Fn(&str, u64, u64)| {
                    host.back_up(to.as_deref(), progress)
                };
                return self.run_long(replies, work).await;
            }
            AdminRequest::Audit { last } => {
                let (store, last) = (Arc::clone(&self.lobby.store), *last);
                let read = tokio::task::spawn_blocking(move || auditing::reply(&*store, last));
                read.await.unwrap_or_else(|error| AdminReply::Failed(error.to_string()))
            }
            AdminRequest::Verify => {
                return self.run_long(replies, |host, progress| host.verify(progress)).await;
            }
            AdminRequest::Ban { .. }
            | AdminRequest::Unban { .. }
            | AdminRequest::BanList
            | AdminRequest::Mute { .. }
            | AdminRequest::Unmute { .. }
            | AdminRequest::Role { .. }
            | AdminRequest::TokenMint { .. }
            | AdminRequest::TokenList
            | AdminRequest::TokenRevoke { .. } => self.decide(request).await,
        };
        Some((reply, replies))
    }

    /// Makes a decision, writes it down, and lets the running world feel it.
    async fn decide(&self, request: &AdminRequest) -> AdminReply {
        let reply = {
            let _one_at_a_time = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
            // The door reads these decisions on the ticking thread: nobody holds them over a write.
            let mut access =
                self.tokens.access.read().unwrap_or_else(PoisonError::into_inner).clone();
            let mint = Mint::new(&self.tokens.identity);
            let context = self.context(&mint);
            match decide(&mut access, request, &context.with(&Names(&self.lobby.directory))) {
                Some(Ok(reply)) => {
                    if !request.only_looks() {
                        if let Err(error) = write_access(&self.data, &access) {
                            return AdminReply::Failed(error.to_string());
                        }
                        *self.tokens.access.write().unwrap_or_else(PoisonError::into_inner) =
                            access;
                    }
                    reply
                }
                Some(Err(error)) => return AdminReply::Failed(error.to_string()),
                None => return AdminReply::Failed("this is no decision".into()),
            }
        };
        self.let_feel(request).await;
        reply
    }

    async fn let_feel(&self, request: &AdminRequest) {
        match request {
            AdminRequest::Ban { who, why, .. } => {
                let why = why.clone();
                // Who is not here feels it at the door.
                drop(self.order(who, |person| Order::PutOut(person, CloseCode::Banned, why)).await);
            }
            AdminRequest::Mute { who, until_s } => {
                let until_ms = until_s.map_or(u64::MAX, |until_s| until_s.saturating_mul(1_000));
                drop(self.order(who, |person| Order::Mute(person, until_ms)).await);
            }
            AdminRequest::Unmute { who } => {
                drop(self.order(who, |person| Order::Mute(person, 0)).await);
            }
            AdminRequest::Status
            | AdminRequest::PlayerList
            | AdminRequest::Kick { .. }
            | AdminRequest::Unban { .. }
            | AdminRequest::BanList
            | AdminRequest::Move { .. }
            | AdminRequest::Erase { .. }
            | AdminRequest::Role { .. }
            | AdminRequest::Announce { .. }
            | AdminRequest::TokenMint { .. }
            | AdminRequest::TokenList
            | AdminRequest::TokenRevoke { .. }
            | AdminRequest::Backup { .. }
            | AdminRequest::Stop { .. }
            | AdminRequest::Reload
            | AdminRequest::Verify
            | AdminRequest::Audit { .. }
            | AdminRequest::ShardList
            | AdminRequest::ShardSplit { .. }
            | AdminRequest::ShardMerge { .. }
            | AdminRequest::ShardMove { .. }
            | AdminRequest::AssetList { .. }
            | AdminRequest::AssetRemove { .. } => {}
        }
    }

    fn context<'a>(&self, mint: &'a Mint) -> Making<'a> {
        Making { mint, world: self.tokens.world, now_s: clock::unix_s(), seed: rng::random() }
    }

    /// Returns which person `who` means.
    fn person(&self, who: &Who) -> Result<PersonId, DecisionError> {
        let mint = Mint::new(&self.tokens.identity);
        let context = self.context(&mint);
        person(&context.with(&Names(&self.lobby.directory)), who)
    }

    async fn order(&self, who: &Who, order: impl FnOnce(PersonId) -> Order) -> AdminReply {
        match self.person(who) {
            Ok(person) => self.tell(order(person), "done").await,
            Err(error) => AdminReply::Failed(error.to_string()),
        }
    }

    async fn tell(&self, order: Order, done: &str) -> AdminReply {
        match self.gateway.send(order).await {
            Ok(Ok(())) => AdminReply::Done(done.into()),
            Ok(Err(error)) => AdminReply::Failed(error.to_string()),
            Err(_) => stopping(),
        }
    }

    /// Splits or merges regions, and waits until that is done.
    async fn divide(&self, change: Change) -> AdminReply {
        let is_done = match self.gateway.send(Divide(change)).await {
            Ok(Ok(is_done)) => is_done,
            Ok(Err(error)) => return AdminReply::Failed(error.to_string()),
            Err(_) => return stopping(),
        };
        let Ok(new) = is_done.await else {
            let why = "the world stays divided as it is: a shard was lost or did not settle, or \
                       the store takes nothing; the log says which";
            return AdminReply::Failed(why.into());
        };
        let names: Vec<String> = new.iter().map(|region| region.0.to_string()).collect();
        AdminReply::Done(match (change, names.as_slice()) {
            (Change::Split(region), names) => {
                format!("region {} is split into {}", region.0, names.join(", "))
            }
            (Change::Merge(_), names) => format!("merged into region {}", names.join(", ")),
        })
    }

    /// Removes what people share, and waits until that is on disk.
    async fn remove_asset(&self, hash: &str, owner: Option<PersonId>) -> AdminReply {
        let Ok(hash) = hash.parse() else {
            return AdminReply::Failed("a hash is written as 64 hexadecimal digits".into());
        };
        let shelf = Arc::clone(&self.lobby.shelf);
        let removed = tokio::task::spawn_blocking(move || shelf.remove(hash, owner)).await;
        let removed = match removed {
            Ok(Ok(0)) => {
                let why = "nobody shares that; `ecumene asset list` shows what people share";
                return AdminReply::Failed(why.into());
            }
            Ok(Ok(removed)) => removed,
            Ok(Err(error)) => return AdminReply::Failed(error.to_string()),
            Err(_) => return stopping(),
        };
        match self.lobby.store.flush().await {
            Ok(_) if removed == 1 => {
                AdminReply::Done("removed; nobody is given it any more".into())
            }
            Ok(_) => AdminReply::Done(format!("removed, as shared by {removed} people")),
            Err(error) => AdminReply::Failed(error.to_string()),
        }
    }

    fn reload(&self) -> AdminReply {
        let fresh = match self.place.settings() {
            Ok(fresh) => fresh,
            Err(error) => return AdminReply::Failed(error.to_string()),
        };
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let reloaded = reload(&settings, &fresh);
        if let Err(error) = self.telemetry.set_filter(&reloaded.config().telemetry.level) {
            return AdminReply::Failed(error.to_string());
        }
        *self.lobby.config.write().unwrap_or_else(PoisonError::into_inner) =
            reloaded.config().clone();
        let owned = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect();
        let reply = AdminReply::Reloaded {
            applied: owned(&reloaded.applied),
            restart: owned(&reloaded.restart),
        };
        *settings = reloaded.settings;
        reply
    }

    /// Does what takes long on a thread of its own, with progress; nobody who stops the server
    /// waits for it.
    async fn run_long(
        &self,
        replies: Replies,
        work: impl FnOnce(&Self, &dyn Fn(&str, u64, u64)) -> AdminReply + Send + 'static,
    ) -> Option<(AdminReply, Replies)> {
        let host = self.clone();
        let (done, is_done) = oneshot::channel();
        let work = move || {
            let reply = work(&host, &|what, done, total| {
                replies.progress(Progress { what: what.into(), done, total });
            });
            if done.send((reply, replies)).is_err() {
                error!("nobody hears any more what came of an operator's request");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("operation".into()).spawn(work) {
            error!(%error, "no thread for an operator's request");
        }
        is_done.await.ok()
    }

    fn back_up(&self, to: Option<&str>, progress: &dyn Fn(&str, u64, u64)) -> AdminReply {
        let to = to.map_or_else(
            || self.data.join("backups").join(format!("{}.ecumene", clock::unix_s())),
            PathBuf::from,
        );
        if let Some(folder) = to.parent()
            && let Err(error) = crate::io::files::make_private_folder(folder)
        {
            return AdminReply::Failed(error.to_string());
        }
        let made = self.store.backup(&to, clock::unix_s(), &mut |done, total| {
            progress("backup", done, total);
        });
        match made {
            Ok(_) => AdminReply::Done(format!("backed up to {}", to.display())),
            Err(error) => AdminReply::Failed(error.to_string()),
        }
    }

    fn verify(&self, progress: &dyn Fn(&str, u64, u64)) -> AdminReply {
        match self.store.verify(&mut |done, total| progress("verify", done, total)) {
            Ok(report) => AdminReply::Verified {
                records: report.records,
                problems: report.problems.into_iter().take(PROBLEMS_MAX).collect(),
            },
            Err(error) => AdminReply::Failed(error.to_string()),
        }
    }
}

/// What decisions are made with, but for names.
struct Making<'a> {
    mint: &'a Mint,
    world: WorldId,
    now_s: u64,
    seed: [u8; 32],
}

impl<'a> Making<'a> {
    fn with<'b>(&'b self, named: &'b dyn NameLookup) -> Context<'b> {
        Context { mint: self.mint, world: self.world, now_s: self.now_s, seed: self.seed, named }
    }
}

impl Operate for Host {
    fn operate(&self, operator: Operator, request: AdminRequest, replies: Replies) {
        let host = self.clone();
        tokio::spawn(async move { host.carry_out(operator, request, replies).await });
    }
}

fn stopping() -> AdminReply {
    AdminReply::Failed("the server is stopping".into())
}
