//! Coming in and going, as the lobby and the gateway do it.
//!
//! Who somebody is is believed; bans, tokens and full worlds are for other tests.

use std::collections::{BTreeMap, BTreeSet};

use protocol::close::CloseCode;
use protocol::ids::{ContentHash, EntityId, PersonId, SessionId, WorldId};
use protocol::message::ServerMessage;
use protocol::message::client::Hello;
use protocol::message::common::features;
use protocol::message::server::{Greeting, Pace, Welcome, WorldName};
use protocol::rules::Thing;
use protocol::units::{Position, Yaw};
use server::admission::rates::SessionRates;
use server::admission::{Refusal, Role};
use server::departures::EXAMINED_MS_MAX;
use server::io::forget::record_of;
use server::io::recovery::held_things;
use server::people::{PersonRecord, first_appearance};
use server::rows;
use server::session::Session;
use server::shard::batch::{Command, Whereabouts};
use server::shard::viewer::{ClientKey, Told};
use server::store::{Batch, Number, Store as _, Tree};
use server::ticket::Ticket;

use super::super::breaks::Break;
use super::super::truth::Check;
use super::{Client, HZ, Host, Out};

/// What tickets are sealed with.
const TICKET_KEY: [u8; 32] = [7; 32];

/// The world's id.
const WORLD: WorldId = WorldId(1);

/// What was found out about somebody who asks to come in.
#[derive(Debug)]
pub struct Examined {
    connection: u64,
    record: PersonRecord,
    things: Vec<Thing>,
    ticket: Option<Ticket>,
    hello: Hello,
    as_of: Number,
    at_ms: u64,
}

impl Host {
    /// Returns what a connection begins with.
    #[must_use]
    pub fn greeting() -> Vec<u8> {
        let greeting = Greeting {
            minor: protocol::message::common::MINOR,
            features: features::ALL,
            nonce: [0; 32],
            worlds: vec![world_name()],
            software: "simulated".into(),
        };
        let mut bytes = Vec::new();
        ServerMessage::from(greeting).write(&mut bytes);
        bytes
    }

    /// Finds out about somebody; a first visit is written down.
    ///
    /// # Errors
    /// What the lobby would say: the store takes nothing.
    pub fn examine(&mut self, connection: u64, hello: Hello) -> Result<Examined, Refusal> {
        let broken = |error: &dyn std::fmt::Display| {
            Refusal::for_now(CloseCode::Internal, error.to_string(), 1)
        };
        let (as_of, at_ms) = (self.store.durable(), self.now_ms());
        let number: u64 = hello.name.rsplit('-').next().and_then(|it| it.parse().ok()).unwrap_or(0);
        let person = PersonId(number + 1);
        let known = record_of(&*self.store, person).map_err(|error| broken(&error))?;
        let record = match known {
            Some(record) => record,
            None => self.first_visit(person, &hello.name).map_err(|error| broken(&error))?,
        };
        let things = held_things(&*self.store, person).map_err(|error| broken(&error))?;
        let opened = hello.resume.as_ref();
        let ticket = opened.map(|bytes| Ticket::open(bytes, &TICKET_KEY, at_ms / 1_000));
        let ticket = ticket.transpose().map_err(|error| broken(&error))?;
        Ok(Examined { connection, record, things, ticket, hello, as_of, at_ms })
    }

    fn first_visit(
        &mut self,
        person: PersonId,
        name: &str,
    ) -> Result<PersonRecord, server::store::StoreError> {
        let (column, row) = (person.0 % 5, person.0 / 5 % 5);
        let along = |cell: u64| i32::try_from(cell).unwrap_or(0) * 3_600 - 7_200;
        let record = PersonRecord {
            person,
            name: name.to_owned(),
            avatar: EntityId(self.lobby_mint.mint()),
            appearance: first_appearance(person),
            position: Position::new(along(column), 0, along(row)),
            yaw: Yaw::NORTH,
            ignored: BTreeMap::new(),
            lendings: Vec::new(),
            is_guest: false,
            seen_s: self.now_ms() / 1_000,
        };
        self.store.enroll(person)?;
        let mut batch = Batch::new();
        batch.put(Tree::People, rows::person_key(person), rows::person_row(&record));
        batch.put(Tree::World, rows::owner_key(record.avatar), rows::owner_row(person));
        self.store.append(batch)?;
        Ok(record)
    }

    /// Gives somebody a place; what was found out too long ago is returned to be found out anew.
    ///
    /// # Errors
    /// What was violated.
    pub fn enter(&mut self, examined: Examined) -> Result<Option<ClientKey>, String> {
        if self.is_stale(&examined) {
            let Examined { connection, hello, .. } = examined;
            match self.examine(connection, hello) {
                Ok(again) if !self.is_stale(&again) => return self.enter(again),
                Ok(_) | Err(_) => {
                    self.out.push(Out::Close { connection, code: CloseCode::Internal });
                    return Ok(None);
                }
            }
        }
        let Examined { connection, record, things, ticket, hello, .. } = examined;
        let person = record.person;
        let mut record = self.people.get(&person).cloned().unwrap_or(record);
        let avatar = record.avatar;
        self.truth.own(avatar, person);
        self.replace(person);
        let last = self.departures.last_stay(avatar);
        let resumed = ticket.and_then(|ticket| ticket.continues((person, avatar), last));
        let stay = resumed.unwrap_or_else(|| SessionId(self.lobby_mint.mint()));
        let client = ClientKey(self.next_client);
        self.next_client += 1;
        record.seen_s = self.now_ms() / 1_000;
        self.seat(client, &record, things)?;
        self.people.insert(person, record.clone());
        self.owners.insert(avatar, person);
        let rates = SessionRates::new(&self.config, self.now_ms());
        let names = (record.name.clone(), Role::Member);
        let judge = Session::new((stay, person, avatar), names, rates);
        let place = Client {
            connection,
            person,
            avatar,
            stay,
            judge,
            told: Told::default(),
            held_back: None,
        };
        self.clients.insert(client, place);
        let record = self.newest(record);
        self.welcome(client, &record, resumed.is_some(), &hello);
        if let Some(coming) = self.dilation.coming() {
            let pace = Pace { permille: coming.permille, from: coming.from };
            self.send(client, &pace.into());
        }
        Ok(Some(client))
    }

    fn is_stale(&self, examined: &Examined) -> bool {
        let avatar = examined.record.avatar;
        let is_gone = self.routes.seat(avatar).is_none();
        is_gone && self.departures.outdates(avatar, examined.as_of)
            || self.now_ms().saturating_sub(examined.at_ms) > EXAMINED_MS_MAX
    }

    fn replace(&mut self, person: PersonId) {
        let theirs = self.clients.iter().filter(|(_, client)| client.person == person);
        let replaced: Vec<ClientKey> = theirs.map(|(&key, _)| key).collect();
        for client in replaced {
            let why = "the same person came in from elsewhere";
            self.put_out(client, &Refusal::for_good(CloseCode::Replaced, why));
        }
    }

    fn seat(&mut self, client: ClientKey, record: &PersonRecord, things: Vec<Thing>) -> Check {
        let avatar = record.avatar;
        self.departures.come_back(avatar);
        if self.routes.seat(avatar).is_none() {
            self.truth.come_in(avatar, record.person, &things)?;
            self.routes.enter(avatar, record.position, record.entrance(things));
        }
        self.routes.drive(avatar, client);
        if self.saboteur.strikes(Break::LoseAttach, 4) {
            return Ok(());
        }
        let (hidden, told) = (BTreeSet::new(), Told::default());
        self.routes.command(avatar, Command::Attach { avatar, client, hidden, told });
        Ok(())
    }

    fn welcome(&mut self, client: ClientKey, record: &PersonRecord, resumed: bool, hello: &Hello) {
        let Some(place) = self.clients.get(&client) else { return };
        let (session, person, avatar) = (place.stay, place.person, place.avatar);
        let issued_s = self.now_ms() / 1_000;
        let message = Welcome {
            session,
            resumed,
            person,
            avatar,
            role: "member".into(),
            world: world_name(),
            rules: ContentHash::of(self.book_text.as_bytes()),
            features: hello.features & features::ALL,
            tick: self.tick,
            hz: HZ,
            pace_permille: self.dilation.permille(),
            motion: self.rules.motion.clone(),
            position: record.position,
            yaw: record.yaw,
            appearance: record.appearance.clone(),
            ticket: Ticket { session, person, avatar, issued_s }.seal(&TICKET_KEY),
            capabilities: Vec::new(),
        };
        self.send(client, &message.into());
    }

    /// Takes a client off its avatar, which waits for it to come back.
    pub(super) fn unseat(&mut self, client: ClientKey, stops: bool) -> Option<Client> {
        let gone = self.clients.remove(&client)?;
        let avatar = gone.avatar;
        if self.routes.release(client).is_some() {
            self.routes.command(avatar, Command::Detach { avatar, stops });
            self.departures.wait(avatar, gone.stay, self.now_ms());
        }
        Some(gone)
    }

    /// Takes note that a connection is gone.
    pub fn lose_connection(&mut self, connection: u64) {
        let whose = self.clients.iter().find(|(_, client)| client.connection == connection);
        if let Some((&client, _)) = whose {
            self.unseat(client, false);
        }
    }

    /// Ends a stay for good.
    pub(super) fn leave(&mut self, client: ClientKey) {
        let Some(gone) = self.unseat(client, true) else { return };
        self.out.push(Out::Close { connection: gone.connection, code: CloseCode::Goodbye });
        self.departures.end_stay(gone.avatar);
        let is_owner = self.owners.get(&gone.avatar) == Some(&gone.person);
        // While nothing can be written the avatar stays, away.
        if is_owner && self.can_store() {
            self.send_home(gone.avatar);
        }
    }

    /// Takes an avatar out of the world; the step that does so says where it was.
    fn send_home(&mut self, avatar: EntityId) {
        let region = self.routes.seat(avatar).map(|seat| seat.region).unwrap_or_default();
        self.departures.end(avatar, self.now_ms() / 1_000);
        self.routes.leave(avatar);
        let Some(owner) = self.owners.remove(&avatar) else { return };
        let (step, record) = ((region, self.tick.next()), self.people.remove(&owner));
        self.departures.send_home(avatar, step, record, self.now_ms());
    }

    /// Writes down where those who left the world stood last.
    pub(super) fn note_departed(&mut self, departed: &mut Vec<Whereabouts>) -> Check {
        for place in departed.drain(..) {
            let Some(record) = self.departures.leave(&place) else { continue };
            self.save_people(&[record])?;
        }
        Ok(())
    }

    /// Sends home everyone whose driver has been away for longer than the grace.
    pub(super) fn send_home_the_lost(&mut self) {
        if !self.can_store() {
            return;
        }
        for avatar in self.departures.overdue(self.now_ms(), super::GRACE_MS) {
            self.send_home(avatar);
        }
    }

    /// Returns a record with where its avatar was seen last.
    pub(super) fn newest(&self, record: PersonRecord) -> PersonRecord {
        let seat = self.routes.seat(record.avatar);
        self.places.newest(record, seat)
    }
}

fn world_name() -> WorldName {
    WorldName { id: WORLD, name: "simulated".into(), rating: "everyone".into() }
}
