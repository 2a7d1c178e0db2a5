//! What operators order: people put out, muted, moved, told; the world stopped.

use std::time::Duration;

use actix::prelude::*;
use protocol::close::CloseCode;
use protocol::ids::PersonId;
use protocol::message::server::{Notice, Redirect, Stopping};
use protocol::units::Position;
use tracing::info;

use super::GatewayActor;
use crate::actors::session::Mute;
use crate::admin::Player;
use crate::admission::Refusal;
use crate::people::PersonRecord;
use crate::shard::batch::Command;
use crate::shard::viewer::ClientKey;

/// How long the store may take to write the last things before the process ends.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// Milliseconds that clients have to go where they are told to: they go at once, and what was lost
/// on the way to them is sent again twice in that time.
const GOING_MS_MAX: u64 = 1_000;

/// What an operator orders of the running world.
#[derive(Clone, Debug, PartialEq, Eq, Message)]
#[rtype(result = "Result<(), NotHere>")]
pub enum Order {
    /// Puts a person out, with a code and the reason.
    PutOut(PersonId, CloseCode, String),
    /// Forbids a person to speak until a moment (Unix time in milliseconds); 0 allows it.
    Mute(PersonId, u64),
    /// Moves a person's avatar.
    Move(PersonId, Position),
    /// Tells everyone something.
    Announce(String),
    /// Stops the server after a delay, with the reason, and where clients are to go on.
    Stop(Duration, String, Option<String>),
    /// Goes on after all.
    StopNot,
}

/// Who is in the world?
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Vec<Player>")]
pub struct ListPlayers;

/// The person is not in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not in the world; `ecumene player list` shows who is")]
pub struct NotHere(pub PersonId);

/// A stop that is under way.
#[derive(Debug)]
pub struct Stop {
    at_ms: u64,
    why: String,
    /// Where clients are to go on, and since when they know.
    redirect: Option<(String, Option<u64>)>,
    is_done: bool,
}

impl Handler<Order> for GatewayActor {
    type Result = Result<(), NotHere>;

    fn handle(&mut self, order: Order, _: &mut Self::Context) -> Self::Result {
        match order {
            Order::PutOut(person, code, why) => {
                let client = self.client_of(person)?;
                self.put_out(client, &Refusal::for_good(code, why));
            }
            Order::Mute(person, until_ms) => {
                let client = self.client_of(person)?;
                let Some(place) = self.clients.get_mut(&client) else {
                    return Err(NotHere(person));
                };
                place.muted_until_ms = until_ms;
                let actor = place.actor.clone();
                // A session whose mailbox is full is full of words: it is told first thereafter.
                actor.try_send(Mute { until_ms }).map_err(|_| NotHere(person))?;
                self.outfit.lobby.directory.change(person, |presence| {
                    presence.muted_until = until_ms / 1_000;
                });
            }
            Order::Move(person, position) => {
                let avatar = self.people.get(&person).ok_or(NotHere(person))?.avatar;
                self.routes.command(avatar, Command::Place { avatar, position });
            }
            Order::Announce(text) => self.send_all(&Notice { text }.into()),
            Order::Stop(delay, why, redirect) => self.begin_stop(delay, why, redirect),
            Order::StopNot => {
                if self.stop.take().is_some() {
                    let text = "the server goes on after all".into();
                    self.send_all(&Notice { text }.into());
                }
            }
        }
        Ok(())
    }
}

impl Handler<ListPlayers> for GatewayActor {
    type Result = MessageResult<ListPlayers>;

    fn handle(&mut self, _: ListPlayers, _: &mut Self::Context) -> Self::Result {
        let (now_ms, unix_ms) = (self.now_ms(), crate::io::clock::unix_ms());
        let players = self.clients.values().map(|client| {
            let owner = self.owners.get(&client.avatar);
            let at = owner.and_then(|owner| self.people.get(owner)).map(|record| record.position);
            let at = at.unwrap_or_default();
            Player {
                person: client.person,
                name: client.name.clone(),
                role: client.role,
                at_m: [at.x / 100, at.z / 100],
                ping_ms: u32::try_from(client.line.round_trip().as_millis()).unwrap_or(u32::MAX),
                for_s: now_ms.saturating_sub(client.entered_ms) / 1_000,
                is_muted: unix_ms < client.muted_until_ms,
            }
        });
        MessageResult(players.collect())
    }
}

impl GatewayActor {
    fn client_of(&self, person: PersonId) -> Result<ClientKey, NotHere> {
        self.roll.client_of(person).ok_or(NotHere(person))
    }

    fn begin_stop(&mut self, delay: Duration, why: String, redirect: Option<String>) {
        let in_ms = u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
        self.stop = Some(Stop {
            at_ms: self.now_ms().saturating_add(u64::from(in_ms)),
            why: why.clone(),
            redirect: redirect.map(|address| (address, None)),
            is_done: false,
        });
        info!(in_ms, "stopping");
        self.send_all(&Stopping { in_ms, why }.into());
    }

    /// Tells everyone to go on at another address, each with a ticket of their own.
    fn send_elsewhere(&mut self, address: &str) {
        info!(address, clients = self.clients.len(), "clients are sent elsewhere");
        let clients: Vec<ClientKey> = self.clients.keys().copied().collect();
        for client in clients {
            let Some(place) = self.clients.get(&client) else { continue };
            let lobby = &self.outfit.lobby;
            let ticket = lobby.ticket(place.session, place.person, place.avatar);
            self.send(client, &Redirect { address: address.to_owned(), ticket }.into());
        }
    }

    /// Stops the world if it is time; returns whether it stopped.
    pub(super) fn stop_is_due(&mut self, ctx: &mut Context<Self>) -> bool {
        let now_ms = self.now_ms();
        let Some(stop) = &mut self.stop else { return false };
        if stop.is_done || now_ms < stop.at_ms {
            return stop.is_done;
        }
        if let Some((address, told_ms)) = &mut stop.redirect {
            match *told_ms {
                None => {
                    *told_ms = Some(now_ms);
                    let address = address.clone();
                    self.send_elsewhere(&address);
                    return false;
                }
                // They go by themselves as soon as they have read it.
                Some(since_ms) if now_ms.saturating_sub(since_ms) < GOING_MS_MAX => {
                    if !self.clients.is_empty() {
                        return false;
                    }
                }
                Some(_) => {}
            }
        }
        let Some(stop) = &mut self.stop else { return false };
        stop.is_done = true;
        if let Some(recorder) = &mut self.outfit.recorder {
            recorder.end("the server stopped");
        }
        let refusal = Refusal::for_now(CloseCode::Stopping, stop.why.clone(), 10);
        let clients: Vec<ClientKey> = self.clients.keys().copied().collect();
        for client in clients {
            // Announced long ago, and the process ends before a farewell would be heard.
            if let Some(gone) = self.unseat(client, false) {
                self.metrics.closed(refusal.code);
                gone.line.close(refusal.code, &refusal.why);
            }
        }
        let records: Vec<PersonRecord> =
            self.people.values().map(|record| self.newest(record.clone())).collect();
        self.save_people(&records);
        self.save_clock();
        self.append_unsaved();
        let is_all_appended = self.unsaved.is_empty();
        let written = self.outfit.lobby.store.flush();
        let last = async move { tokio::time::timeout(LAST_WRITES, written).await };
        ctx.spawn(last.into_actor(self).map(move |written, _, _| {
            let code = match written {
                Ok(Ok(number)) if is_all_appended => {
                    info!(%number, "everything is written");
                    0
                }
                Ok(Ok(_)) => {
                    tracing::error!("the last changes could not be written");
                    1
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "the last changes could not be written");
                    1
                }
                Err(_) => {
                    tracing::error!("the last changes took too long to write");
                    1
                }
            };
            System::current().stop_with_code(code);
        }));
        true
    }
}
