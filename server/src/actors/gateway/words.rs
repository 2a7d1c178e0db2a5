//! What clients' messages lead to: acts to shards, words to people, wishes to the record.

use protocol::ids::{EntityId, PersonId};
use protocol::message::ServerMessage;
use protocol::message::client::{Degree, Recall};
use protocol::message::common::{Audience, Lending};
use protocol::message::server::{Done, Notice, Refused};
use protocol::rules::Why;

use super::GatewayActor;
use crate::cli::span::Span;
use crate::io::clock;
use crate::people::{Lent, PersonRecord};
use crate::rows;
use crate::session::{Reaction, Relay};
use crate::shard::batch::Command;
use crate::shard::viewer::ClientKey;
use crate::store::{Batch, Tree};

/// How soon to try again while the store takes nothing.
const RETRY_MS: u32 = 1_000;

impl GatewayActor {
    /// Does what a message leads to.
    pub(super) fn react(&mut self, client: ClientKey, reaction: Reaction) {
        let can_store = self.can_store();
        let Some(place) = self.clients.get_mut(&client) else { return };
        let avatar = place.avatar;
        match reaction {
            // What cannot be kept is not done.
            Reaction::World(Command::Do { request, .. })
            | Reaction::Lend(request, _)
            | Reaction::Recall(request, _)
                if !can_store =>
            {
                self.refuse_for_now(client, request);
            }
            Reaction::World(Command::Wear { .. }) | Reaction::Ignore(..) if !can_store => {
                let text = "the world cannot be written just now; try again shortly".into();
                self.send(client, &Notice { text }.into());
            }
            Reaction::World(command) => {
                let request = command.request();
                let is_taken = self.routes.ask(avatar, command);
                if let Some(request) = request.filter(|_| !is_taken) {
                    self.refuse_for_now(client, request);
                }
            }
            Reaction::Relay(relay) => self.relay(client, relay),
            Reaction::Tune { channel, joined } => {
                if joined {
                    place.channels.insert(channel);
                } else {
                    place.channels.remove(&channel);
                }
            }
            Reaction::Ground(chunks) => self.ask_ground(client, &chunks),
            Reaction::Ignore(person, degree) => self.ignore(client, person, degree),
            Reaction::Lend(request, lending) => self.lend(client, request, &lending),
            Reaction::Recall(request, recall) => self.recall(client, request, &recall),
            Reaction::Answer(message) => self.send(client, &message),
            Reaction::End(refusal) => {
                if refusal.code == protocol::close::CloseCode::Goodbye {
                    self.leave(client);
                } else {
                    self.put_out(client, &refusal);
                }
            }
        }
    }

    fn refuse_for_now(&mut self, client: ClientKey, request: u32) {
        let why = Why::TooMany { retry_ms: RETRY_MS };
        self.send(client, &Refused { request, why }.into());
    }

    /// Carries words to somebody anywhere, or to a channel.
    fn relay(&mut self, from: ClientKey, relay: Relay) {
        let Relay { request, heard } = relay;
        let speaker = heard.person;
        let listeners: Vec<ClientKey> = self
            .clients
            .iter()
            .filter(|(_, client)| match &heard.to {
                Audience::Person(person) => client.person == *person,
                Audience::Channel(channel) => client.channels.contains(channel),
                Audience::Nearby | Audience::Whisper => false,
            })
            .filter(|(_, client)| !client.ignored.contains_key(&speaker))
            .map(|(&key, _)| key)
            .collect();
        let is_heard = !listeners.is_empty();
        let message = ServerMessage::from(heard);
        for listener in listeners {
            self.metrics.chat_lines.increment(1);
            self.send(listener, &message);
        }
        let answer = if is_heard {
            Done { request, tick: self.now(), text: None }.into()
        } else {
            // Whether somebody is away or does not listen is theirs to tell.
            Refused { request, why: Why::NotThere }.into()
        };
        self.send(from, &answer);
    }

    fn ignore(&mut self, client: ClientKey, person: PersonId, degree: Degree) {
        let Some(own) = self.clients.get(&client).map(|place| place.person) else { return };
        let Some(record) = self.people.get_mut(&own) else { return };
        if let Err(text) = record.ignore(person, degree) {
            return self.send(client, &Notice { text }.into());
        }
        let record = record.clone();
        if let Some(place) = self.clients.get_mut(&client) {
            place.ignored.clone_from(&record.ignored);
        }
        self.save_people(std::slice::from_ref(&record));
        let Some(other) = self.people.get(&person) else { return };
        // A block holds as long as either of the two wants it.
        let blocks = |who: &PersonRecord, whom| who.ignored.get(&whom) == Some(&Degree::Block);
        let hidden = blocks(&record, person) || blocks(other, own);
        self.hide_from_each_other(record.avatar, other.avatar, hidden);
    }

    fn hide_from_each_other(&mut self, one: EntityId, other: EntityId, hidden: bool) {
        self.routes.command(one, Command::Hide { avatar: one, other, hidden });
        self.routes.command(other, Command::Hide { avatar: other, other: one, hidden });
    }

    fn lend(&mut self, client: ClientKey, request: u32, lending: &Lending) {
        let lent = Lent { to: lending.to, ends_at: lending.ends_at };
        let now_s = clock::unix_s();
        let is_lent = self.change_lendings(client, request, lending.avatar, |record| {
            record.lend(lent, now_s).map(|()| true)
        });
        if is_lent {
            self.drive_until(lending.avatar, lending.to, lending.ends_at);
            self.tell_borrower(client, lending, now_s);
        }
    }

    /// Sets when the right of somebody who drives an avatar now ends.
    fn drive_until(&mut self, avatar: EntityId, driver: PersonId, until_s: u64) {
        for place in self.clients.values_mut() {
            if place.avatar == avatar && place.person == driver {
                place.drives_until_s = until_s;
            }
        }
    }

    /// Tells somebody who is here what they were lent; otherwise they could not know its id.
    fn tell_borrower(&mut self, owner: ClientKey, lending: &Lending, now_s: u64) {
        let Some(owner) = self.clients.get(&owner) else { return };
        let (person, name) = (owner.person, &owner.name);
        let span = Span(lending.ends_at.saturating_sub(now_s));
        let text = format!("{name} lends you the avatar {} for {span}", lending.avatar);
        let borrower = self.clients.iter().find(|(_, client)| {
            client.person == lending.to && !client.ignored.contains_key(&person)
        });
        if let Some((&borrower, _)) = borrower {
            self.send(borrower, &Notice { text }.into());
        }
    }

    fn recall(&mut self, client: ClientKey, request: u32, recall: &Recall) {
        let to = recall.to;
        let is_changed =
            self.change_lendings(client, request, recall.avatar, |record| Ok(record.recall(to)));
        if !is_changed || self.owners.get(&recall.avatar) == Some(&to) {
            return;
        }
        // Who drives it now drives it no longer.
        self.drive_until(recall.avatar, to, 0);
    }

    /// Changes who may drive an avatar: only its owner can; kept before it is confirmed, together
    /// with all to whom it is lent then.
    ///
    /// Returns whether it was changed, as `change` does.
    fn change_lendings(
        &mut self,
        client: ClientKey,
        request: u32,
        avatar: EntityId,
        change: impl FnOnce(&mut PersonRecord) -> Result<bool, String>,
    ) -> bool {
        let Some(place) = self.clients.get(&client) else { return false };
        let person = place.person;
        let changed = match self.people.get_mut(&person) {
            Some(record) if record.avatar == avatar => {
                change(record).map(|is_changed| (is_changed, record.clone()))
            }
            Some(_) | None => Err("only its owner can lend an avatar".into()),
        };
        let (is_changed, record) = match changed {
            Ok(changed) => changed,
            Err(why) => {
                self.send(client, &Refused { request, why: Why::Forbidden }.into());
                self.send(client, &Notice { text: why }.into());
                return false;
            }
        };
        let text = Some(record.lendings_told(clock::unix_s()));
        let done = Done { request, tick: self.now(), text };
        if !is_changed {
            self.send(client, &done.into());
            return false;
        }
        let mut batch = Batch::new();
        batch.put(Tree::People, rows::person_key(person), rows::person_row(&record));
        let number = self.append(batch);
        self.post.keep(number, client, done.into());
        true
    }
}
