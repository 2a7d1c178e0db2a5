//! Coming in and going: places, welcomes, and avatars whose drivers are away.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use actix::prelude::*;
use protocol::close::CloseCode;
use protocol::ids::{ContentHash, EntityId, PersonId, SessionId};
use protocol::message::client::Degree;
use protocol::message::common::features;
use protocol::message::server::{Pace, Welcome, WorldName};
use protocol::motion::MotionRules;
use protocol::rules::Thing;
use tokio::sync::mpsc;
use tracing::info;

use super::ground::Wanted;
use super::{Client, Entered, GatewayActor, OUTGOING_MAX, Unseated};
use crate::actors::session::SessionActor;
use crate::admission::bans::Subject;
use crate::admission::rates::SessionRates;
use crate::admission::{Admitted, Refusal, STAFF_PLACES};
use crate::departures::EXAMINED_MS_MAX;
use crate::directory::Presence;
use crate::io::clock;
use crate::io::lobby::Examined;
use crate::io::quic::Line;
use crate::people::PersonRecord;
use crate::session::Session;
use crate::shard::batch::{Command, Whereabouts};
use crate::shard::viewer::{ClientKey, Told};

/// Seconds after which a client that met a full world may try again.
const FULL_RETRY_S: u32 = 30;

/// What every welcome says of the world.
#[derive(Clone, Debug)]
pub struct Welcoming {
    /// The world.
    pub world: WorldName,
    /// Hash of its kinds and recipes.
    pub rules: ContentHash,
    /// How bodies move.
    pub motion: MotionRules,
}

impl GatewayActor {
    /// Gives somebody who may come in a place.
    pub(super) fn enter(
        &mut self,
        examined: Examined,
        line: Line,
        ctx: &mut Context<Self>,
    ) -> Result<Entered, Unseated> {
        if self.stop.is_some() {
            let why = "the server is stopping";
            return Err(Refusal::for_now(CloseCode::Stopping, why, 10).into());
        }
        if self.is_stale(&examined) {
            return Err(Unseated::Stale);
        }
        self.check_forgetting(&examined)?;
        let Examined { admitted, owner, things, ticket, hello, subjects, at_ms, .. } = examined;
        let person = admitted.person;
        // Whoever is here already is kept as they are; the store may lag behind by seconds.
        let mut record = self.people.get(&owner.person).cloned().unwrap_or(owner);
        let lent_to_forgotten = self.recall_from_forgotten(&mut record, at_ms);
        let avatar = record.avatar;
        let is_owner = record.person == person;
        let drives_until_s = self.check_again(&record, &admitted, &subjects)?;
        self.replace(person, avatar);
        let name = self.roll.name_for(&admitted.name);
        let last = self.departures.last_stay(avatar);
        let resumed = ticket.and_then(|ticket| ticket.continues((person, avatar), last));
        let is_resumed = resumed.is_some();
        let session = resumed.unwrap_or_else(|| SessionId(self.outfit.lobby.mint()));
        let client = ClientKey(self.next_client);
        self.next_client += 1;
        if is_owner {
            record.name.clone_from(&name);
            record.seen_s = clock::unix_s();
        }
        // When a guest was here last must not be known from memory alone: their ticket, which is
        // as old as this, has to outlive what is kept of them.
        if lent_to_forgotten || record.is_guest && is_owner {
            self.save_people(std::slice::from_ref(&record));
        }
        self.seat(client, &record, things);
        self.people.insert(record.person, record.clone());
        self.owners.insert(avatar, record.person);
        let (outgoing, taken) = mpsc::channel(OUTGOING_MAX);
        let rates = {
            let config = self.outfit.config.read().unwrap_or_else(PoisonError::into_inner);
            SessionRates::new(&config, clock::unix_ms())
        };
        let ignored = if is_owner { record.ignored.clone() } else { Default::default() };
        let mut judge =
            Session::new((session, person, avatar), (name.clone(), admitted.role), rates);
        judge.muted_until_ms = self.muted_until_ms(person);
        let muted_until_ms = judge.muted_until_ms;
        let gateway = (ctx.address().recipient(), ctx.address().recipient());
        let actor = SessionActor::new(client, judge, gateway, Arc::clone(&self.beat.shared_tick));
        let actor = actor.start();
        let place = Client {
            session,
            person,
            avatar,
            name: name.clone(),
            drives_until_s,
            line,
            outgoing,
            actor: actor.clone(),
            ignored,
            channels: BTreeSet::new(),
            wanted: Wanted::default(),
            role: admitted.role,
            minor: hello.minor,
            entered_ms: self.now_ms(),
            muted_until_ms,
            told: Told::default(),
            offers: BTreeSet::new(),
        };
        self.clients.insert(client, place);
        self.roll.add(client, (person, avatar), &name);
        self.outfit.lobby.directory.put(
            person,
            Presence {
                name,
                role: admitted.role.to_string(),
                avatar,
                session,
                client: Some(client),
                region: self.outfit.regions.index_of(record.position),
                muted_until: muted_until_ms / 1_000,
            },
        );
        let record = self.newest(record);
        self.welcome(client, &record, (admitted.role.name(), is_resumed), &hello);
        if let Some(coming) = self.beat.dilation.coming() {
            let pace = Pace { permille: coming.permille, from: coming.from };
            self.send(client, &pace.into());
        }
        self.metrics.joins.increment(1);
        if is_resumed {
            self.metrics.resumes.increment(1);
        }
        info!(%session, %avatar, resumed = is_resumed, "entered");
        Ok(Entered { client, session: actor, outgoing: taken })
    }

    /// Returns whether what was read of somebody may be older than what was done since.
    fn is_stale(&self, examined: &Examined) -> bool {
        let avatar = examined.owner.avatar;
        let is_gone = self.routes.seat(avatar).is_none();
        is_gone && self.departures.outdates(avatar, examined.as_of)
            || clock::unix_ms().saturating_sub(examined.at_ms) > EXAMINED_MS_MAX
    }

    /// Judges again what may have changed since somebody was examined; returns until when (Unix
    /// time in seconds) they may drive the avatar of `record`.
    fn check_again(
        &self,
        record: &PersonRecord,
        admitted: &Admitted,
        subjects: &[Subject],
    ) -> Result<u64, Refusal> {
        let now_s = clock::unix_s();
        let person = admitted.person;
        let Some(drives_until_s) = record.driven_until(person, now_s) else {
            let why = format!("avatar {} is not lent to you; ask its owner", record.avatar);
            return Err(Refusal::for_good(CloseCode::Unauthorized, why));
        };
        let seat = self.routes.seat(record.avatar);
        let driver = seat.and_then(|seat| self.clients.get(&seat.client?));
        if record.person != person && driver.is_some_and(|driver| driver.person != person) {
            let why = "the avatar is being driven by somebody else";
            return Err(Refusal::for_now(CloseCode::Unauthorized, why, 10));
        }
        let access = self.outfit.lobby.access.read().unwrap_or_else(PoisonError::into_inner);
        let ban = subjects.iter().find_map(|&subject| access.bans.find(subject, now_s));
        if let Some(ban) = ban {
            return Err(Refusal::for_good(CloseCode::Banned, ban.why.clone()));
        }
        let config = self.outfit.config.read().unwrap_or_else(PoisonError::into_inner);
        let staff = if admitted.role.is_staff() { STAFF_PLACES } else { 0 };
        let places = config.server.clients_max.saturating_add(staff) as usize;
        let is_here = self.roll.client_of(person).is_some();
        if self.clients.len() >= places && !is_here {
            let why = format!("all {} places are taken", config.server.clients_max);
            return Err(Refusal::for_now(CloseCode::Full, why, FULL_RETRY_S));
        }
        Ok(drives_until_s)
    }

    fn muted_until_ms(&self, person: PersonId) -> u64 {
        let access = self.outfit.lobby.access.read().unwrap_or_else(PoisonError::into_inner);
        access.muted_until_ms(person)
    }

    /// Puts out whoever drives this avatar, and the person's own earlier connection.
    fn replace(&mut self, person: PersonId, avatar: EntityId) {
        let replaced = BTreeSet::from([self.roll.client_of(person), self.roll.driver_of(avatar)]);
        for client in replaced.into_iter().flatten() {
            let why = if self.roll.client_of(person) == Some(client) {
                "the same person came in from elsewhere"
            } else {
                "the avatar's owner came in and drives it"
            };
            self.put_out(client, &Refusal::for_good(CloseCode::Replaced, why));
        }
    }

    /// Brings the avatar in, if it is not here, and seats the client.
    fn seat(&mut self, client: ClientKey, record: &PersonRecord, things: Vec<Thing>) {
        let avatar = record.avatar;
        self.departures.come_back(avatar);
        if self.routes.seat(avatar).is_none() {
            self.routes.enter(avatar, record.position, record.entrance(things));
        }
        self.routes.drive(avatar, client);
        let hidden = self.hidden_from(record);
        // Whom one does not see does not see one either.
        for &other in &hidden {
            let hide = Command::Hide { avatar: other, other: avatar, hidden: true };
            self.routes.command(other, hide);
        }
        let told = Told::default();
        self.routes.command(avatar, Command::Attach { avatar, client, hidden, told });
    }

    /// Returns the avatars that somebody is not to see: those they block, and who block them.
    pub(super) fn hidden_from(&self, record: &PersonRecord) -> BTreeSet<EntityId> {
        let blocked = record
            .ignored
            .iter()
            .filter(|(_, degree)| **degree == Degree::Block)
            .filter_map(|(person, _)| self.people.get(person));
        let blocking = self.people.values().filter(|other| {
            other.ignored.get(&record.person).is_some_and(|degree| *degree == Degree::Block)
        });
        blocked.chain(blocking).map(|other| other.avatar).collect()
    }

    fn welcome(
        &mut self,
        client: ClientKey,
        record: &PersonRecord,
        (role, resumed): (&str, bool),
        hello: &protocol::message::client::Hello,
    ) {
        let Some(place) = self.clients.get(&client) else { return };
        let Welcoming { world, rules, motion } = self.outfit.welcome.clone();
        let (session, person, avatar) = (place.session, place.person, place.avatar);
        let message = Welcome {
            session,
            resumed,
            person,
            avatar,
            role: role.into(),
            world,
            rules,
            features: hello.features & features::ALL,
            tick: self.beat.tick,
            hz: self.outfit.hz,
            pace_permille: self.beat.dilation.permille(),
            motion,
            position: record.position,
            yaw: record.yaw,
            appearance: record.appearance.clone(),
            ticket: self.outfit.lobby.ticket(session, person, avatar),
            capabilities: crate::capabilities::answer(&hello.capabilities),
        };
        self.send(client, &message.into());
    }

    /// Takes a client off its avatar, which waits for it to come back; `stops` what it is at.
    pub(super) fn unseat(&mut self, client: ClientKey, stops: bool) -> Option<Client> {
        let gone = self.clients.remove(&client)?;
        self.roll.remove((gone.person, gone.avatar), &gone.name);
        let avatar = gone.avatar;
        if self.routes.release(client).is_some() {
            self.routes.command(avatar, Command::Detach { avatar, stops });
            self.departures.wait(avatar, gone.session, self.now_ms());
        }
        if self.owners.get(&avatar) == Some(&gone.person) {
            self.outfit.lobby.directory.change(gone.person, |presence| presence.client = None);
        } else {
            // A borrower leaves the avatar behind and is nobody here without it.
            self.outfit.lobby.directory.remove(gone.person);
        }
        self.forget_ground(client);
        info!(session = %gone.session, "left or lost");
        Some(gone)
    }

    /// Ends a stay for good: the avatar goes, and what is kept of it is written.
    pub(super) fn leave(&mut self, client: ClientKey) {
        let Some(gone) = self.unseat(client, true) else { return };
        gone.line.close(CloseCode::Goodbye, "left");
        self.departures.end_stay(gone.avatar);
        // While nothing can be written the avatar stays, away: what it holds must not be read
        // back from a store that does not know of it yet.
        let is_owner = self.owners.get(&gone.avatar) == Some(&gone.person);
        if is_owner && self.can_store() {
            self.send_home(gone.avatar);
        }
    }

    /// Takes an avatar out of the world; the step that does so says where it was.
    pub(super) fn send_home(&mut self, avatar: EntityId) {
        let region = self.routes.seat(avatar).map(|seat| seat.region).unwrap_or_default();
        self.departures.end(avatar, clock::unix_s());
        self.routes.leave(avatar);
        let Some(owner) = self.owners.remove(&avatar) else { return };
        self.outfit.lobby.directory.remove(owner);
        let (step, record) = ((region, self.now().next()), self.people.remove(&owner));
        self.departures.send_home(avatar, step, record, self.now_ms());
    }

    /// Writes down where those who left the world stood last.
    pub(super) fn note_departed(&mut self, departed: &mut Vec<Whereabouts>) {
        for place in departed.drain(..) {
            let Some(mut record) = self.departures.leave(&place) else { continue };
            record.seen_s = clock::unix_s();
            self.save_people(&[record]);
        }
    }

    /// Sends home everyone whose driver has been away for longer than the grace.
    pub(super) fn send_home_the_lost(&mut self) {
        if !self.can_store() {
            return;
        }
        let grace_ms = {
            let config = self.outfit.config.read().unwrap_or_else(PoisonError::into_inner);
            u64::from(config.session.resume_grace_s) * 1_000
        };
        for avatar in self.departures.overdue(self.now_ms(), grace_ms) {
            self.send_home(avatar);
        }
    }

    /// Puts out whoever's right to drive has ended.
    pub(super) fn end_lendings(&mut self) {
        let now_s = clock::unix_s();
        let ended: Vec<ClientKey> = self
            .clients
            .iter()
            .filter(|(_, client)| client.drives_until_s <= now_s)
            .map(|(&key, _)| key)
            .collect();
        for client in ended {
            let why = "the right to drive this avatar has ended";
            self.put_out(client, &Refusal::for_good(CloseCode::LendingEnded, why));
        }
    }
}
