//! One stay of one client, without its connection: what each thing it says leads to.
//!
//! A session judges its client's messages one at a time and returns what is to be done. It moves
//! no avatar, stores nothing and reads no clock; rules of the world are the shard's.

use std::collections::BTreeSet;

use protocol::close::CloseCode;
use protocol::ids::{ChunkId, EntityId, PersonId, SessionId};
use protocol::limits::{CHANNEL_CHARS_MAX, CHUNKS_WANTED_MAX, RECIPE_BYTES_MAX};
use protocol::message::ServerMessage;
use protocol::message::client::{ClientMessage, Degree, Ignore, Lend, Recall, Say, Tune};
use protocol::message::common::{Audience, Lending};
use protocol::message::server::{Done, Heard, Refused};
use protocol::rules::{Verb, Why};
use protocol::units::Tick;

use crate::admission::rates::SessionRates;
use crate::admission::{Refusal, Role};
use crate::shard::batch::{Command, Speaker};

/// Channels one session is in at once: one page of a list.
pub const CHANNELS_MAX: usize = 16;

/// Seconds after which a client that flooded may come back.
const FLOOD_RETRY_S: u32 = 10;

/// Messages refused for haste before the stay ends: refusing costs us too.
const REFUSALS_MAX: u32 = 200;

/// What a message leads to.
#[derive(Debug)]
pub enum Reaction {
    /// The avatar's shard is asked.
    World(Command),
    /// Words for somebody who may be anywhere.
    Relay(Relay),
    /// A channel is entered or left.
    Tune {
        /// Which.
        channel: String,
        /// Whether it is entered.
        joined: bool,
    },
    /// The ground that is wanted from now on.
    Ground(Vec<ChunkId>),
    /// Whom the person does not want to perceive.
    Ignore(PersonId, Degree),
    /// The avatar is lent.
    Lend(u32, Lending),
    /// A lending ends.
    Recall(u32, Recall),
    /// The client is answered.
    Answer(ServerMessage),
    /// The stay ends.
    End(Refusal),
}

/// Words for somebody who may be anywhere.
#[derive(Clone, Debug)]
pub struct Relay {
    /// The client's number for it.
    pub request: u32,
    /// To whom and what.
    pub heard: Heard,
}

/// One stay of one client.
#[derive(Debug)]
pub struct Session {
    /// The stay.
    pub id: SessionId,
    /// Who.
    pub person: PersonId,
    /// The avatar that is driven.
    pub avatar: EntityId,
    /// The name that others see.
    pub name: String,
    /// What the person may do.
    pub role: Role,
    /// Unix time in milliseconds until which the person may not speak.
    pub muted_until_ms: u64,
    rates: SessionRates,
    channels: BTreeSet<String>,
    newest_request: Option<u32>,
    refused: u32,
}

impl Session {
    /// Returns the stay of somebody who was let in.
    #[must_use]
    pub fn new(
        (id, person, avatar): (SessionId, PersonId, EntityId),
        (name, role): (String, Role),
        rates: SessionRates,
    ) -> Self {
        Self {
            id,
            person,
            avatar,
            name,
            role,
            muted_until_ms: 0,
            rates,
            channels: BTreeSet::new(),
            newest_request: None,
            refused: 0,
        }
    }

    /// Judges one message, heard at Unix time `now_ms` and world time `tick`.
    pub fn hear(&mut self, message: ClientMessage, now_ms: u64, tick: Tick) -> Vec<Reaction> {
        if let Err(retry_ms) = self.rates.message(now_ms) {
            // One that shouts through refusals is a flood, and not worth answering.
            return match self.refuse_flood(&message, retry_ms) {
                Some(answer) => vec![answer],
                None => vec![Reaction::End(Refusal::for_now(
                    CloseCode::Flooding,
                    "too many messages in too short a time",
                    FLOOD_RETRY_S,
                ))],
            };
        }
        match message {
            ClientMessage::Hello(_) => {
                vec![Reaction::End(Refusal::for_good(
                    CloseCode::Protocol,
                    "hello was said already",
                ))]
            }
            ClientMessage::Do(act) => match self.number(act.request) {
                Ok(())
                    if matches!(act.act.verb, Verb::Say | Verb::Write)
                        && now_ms < self.muted_until_ms =>
                {
                    vec![refuse(act.request, Why::Muted)]
                }
                Ok(()) if !self.role.may(act.act.verb) => {
                    vec![refuse(act.request, Why::Forbidden)]
                }
                Ok(())
                    if act.act.verb == Verb::Say
                        && let Err(retry_ms) = self.rates.chat(now_ms) =>
                {
                    vec![refuse(act.request, too_many(retry_ms))]
                }
                Ok(()) => vec![Reaction::World(Command::Do {
                    avatar: self.avatar,
                    request: act.request,
                    act: act.act,
                })],
                Err(reaction) => vec![*reaction],
            },
            ClientMessage::Cancel(cancel) => vec![Reaction::World(Command::Cancel {
                avatar: self.avatar,
                request: cancel.request,
            })],
            ClientMessage::Say(say) => vec![self.speak(say, now_ms, tick)],
            ClientMessage::Tune(tune) => self.tune(tune),
            ClientMessage::Wear(wear) => {
                if wear.appearance.recipe.len() > RECIPE_BYTES_MAX {
                    let why = format!("an appearance recipe has {RECIPE_BYTES_MAX} bytes at most");
                    return vec![Reaction::End(Refusal::for_good(CloseCode::Protocol, why))];
                }
                let appearance = wear.appearance;
                vec![Reaction::World(Command::Wear { avatar: self.avatar, appearance })]
            }
            ClientMessage::Ignore(Ignore { person, degree }) => {
                vec![Reaction::Ignore(person, degree)]
            }
            ClientMessage::Lend(Lend { request, lending }) => match self.number(request) {
                Ok(()) => vec![Reaction::Lend(request, lending)],
                Err(reaction) => vec![*reaction],
            },
            ClientMessage::Recall(recall) => match self.number(recall.request) {
                Ok(()) => vec![Reaction::Recall(recall.request, recall)],
                Err(reaction) => vec![*reaction],
            },
            ClientMessage::Want(want) => {
                let mut chunks = want.chunks;
                chunks.truncate(CHUNKS_WANTED_MAX);
                vec![Reaction::Ground(chunks)]
            }
            ClientMessage::Leave(_) => {
                vec![Reaction::End(Refusal::for_good(CloseCode::Goodbye, "left"))]
            }
        }
    }

    /// Returns whether this session is in a channel.
    #[must_use]
    pub fn is_in(&self, channel: &str) -> bool {
        self.channels.contains(channel)
    }

    /// Returns the channels this session is in.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(String::as_str)
    }

    fn number(&mut self, request: u32) -> Result<(), Box<Reaction>> {
        if self.newest_request.is_some_and(|newest| request <= newest) {
            return Err(Box::new(refuse(request, Why::OutOfOrder)));
        }
        self.newest_request = Some(request);
        Ok(())
    }

    fn refuse_flood(&mut self, message: &ClientMessage, retry_ms: u64) -> Option<Reaction> {
        let request = match message {
            ClientMessage::Do(act) => act.request,
            ClientMessage::Say(say) => say.request,
            ClientMessage::Lend(lend) => lend.request,
            ClientMessage::Recall(recall) => recall.request,
            ClientMessage::Hello(_)
            | ClientMessage::Cancel(_)
            | ClientMessage::Tune(_)
            | ClientMessage::Wear(_)
            | ClientMessage::Ignore(_)
            | ClientMessage::Want(_)
            | ClientMessage::Leave(_) => return None,
        };
        self.refused += 1;
        (self.refused <= REFUSALS_MAX).then(|| refuse(request, too_many(retry_ms)))
    }

    fn speak(&mut self, say: Say, now_ms: u64, tick: Tick) -> Reaction {
        let Say { request, to, utterance } = say;
        if let Err(reaction) = self.number(request) {
            return *reaction;
        }
        if now_ms < self.muted_until_ms {
            return refuse(request, Why::Muted);
        }
        if let Err(retry_ms) = self.rates.chat(now_ms) {
            return refuse(request, too_many(retry_ms));
        }
        if utterance.check().is_err() {
            return refuse(request, Why::BadUtterance);
        }
        let whisper = to == Audience::Whisper;
        match to {
            Audience::Nearby | Audience::Whisper => {
                // A borrower speaks as themselves, whoever the avatar belongs to.
                let speaker = Speaker { person: self.person, name: self.name.clone() };
                let avatar = self.avatar;
                Reaction::World(Command::Say { avatar, speaker, request, whisper, utterance })
            }
            Audience::Channel(ref channel) if !self.is_in(channel) => {
                refuse(request, Why::Forbidden)
            }
            Audience::Person(_) | Audience::Channel(_) => Reaction::Relay(Relay {
                request,
                heard: Heard {
                    tick,
                    person: self.person,
                    avatar: None,
                    name: self.name.clone(),
                    to,
                    utterance,
                },
            }),
        }
    }

    fn tune(&mut self, tune: Tune) -> Vec<Reaction> {
        let Tune { channel, joined } = tune;
        let is_name = channel.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
        let length = channel.chars().count();
        if !is_name || length == 0 || length > CHANNEL_CHARS_MAX {
            return vec![notice(format!(
                "a channel's name has 1 to {CHANNEL_CHARS_MAX} letters, digits, - or _"
            ))];
        }
        if joined && self.channels.len() >= CHANNELS_MAX && !self.channels.contains(&channel) {
            return vec![notice(format!("you can be in {CHANNELS_MAX} channels at most"))];
        }
        if joined {
            self.channels.insert(channel.clone());
        } else {
            self.channels.remove(&channel);
        }
        vec![Reaction::Tune { channel, joined }]
    }
}

/// Returns the answer that a request was refused.
#[must_use]
pub fn refuse(request: u32, why: Why) -> Reaction {
    Reaction::Answer(Refused { request, why }.into())
}

/// Returns the answer that a request was carried out and needs no keeping.
#[must_use]
pub fn done(request: u32, tick: Tick) -> Reaction {
    Reaction::Answer(Done { request, tick, text: None }.into())
}

fn too_many(retry_ms: u64) -> Why {
    Why::TooMany { retry_ms: u32::try_from(retry_ms).unwrap_or(u32::MAX) }
}

fn notice(text: String) -> Reaction {
    Reaction::Answer(protocol::message::server::Notice { text }.into())
}

#[cfg(test)]
mod tests {
    use protocol::message::client::{Do, Leave, Wear};
    use protocol::rules::Act;
    use protocol::utterance::Utterance;

    use super::*;
    use crate::config::Settings;

    fn session(role: Role) -> Session {
        let ids = (SessionId(1), PersonId(2), EntityId(3));
        let rates = SessionRates::new(&Settings::layer(&[]).expect("defaults hold").config, 0);
        Session::new(ids, ("Ada".into(), role), rates)
    }

    fn act(request: u32, verb: Verb) -> ClientMessage {
        Do { request, act: Act::new(verb) }.into()
    }

    fn say(request: u32, to: Audience) -> ClientMessage {
        Say { request, to, utterance: Utterance::plain("hi") }.into()
    }

    /// Returns in a word what a message leads to.
    fn word(reactions: &[Reaction]) -> String {
        match reactions {
            [Reaction::World(_)] => "world".into(),
            [Reaction::Relay(_)] => "relay".into(),
            [Reaction::End(refusal)] => format!("end {:?}", refusal.code),
            [Reaction::Answer(ServerMessage::Refused(refused))] => format!("{:?}", refused.why),
            [Reaction::Answer(ServerMessage::Notice(_))] => "notice".into(),
            [Reaction::Tune { .. }] => "tune".into(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn requests_are_numbered_upwards() {
        let mut session = session(Role::Member);
        assert_eq!(word(&session.hear(act(5, Verb::Gather), 0, Tick(0))), "world");
        assert_eq!(word(&session.hear(act(5, Verb::Gather), 0, Tick(0))), "OutOfOrder");
        assert_eq!(word(&session.hear(act(4, Verb::Gather), 0, Tick(0))), "OutOfOrder");
        assert_eq!(word(&session.hear(act(6, Verb::Gather), 0, Tick(0))), "world");
    }

    #[test]
    fn a_visitor_looks_and_talks_only() {
        let mut session = session(Role::Visitor);
        assert_eq!(word(&session.hear(act(1, Verb::Take), 0, Tick(0))), "Forbidden");
        assert_eq!(word(&session.hear(act(2, Verb::Read), 0, Tick(0))), "world");
        assert_eq!(word(&session.hear(say(3, Audience::Nearby), 0, Tick(0))), "world");
    }

    #[test]
    fn the_muted_are_not_heard_until_their_time_is_over() {
        let mut session = session(Role::Member);
        session.muted_until_ms = 1_000;
        assert_eq!(word(&session.hear(say(1, Audience::Nearby), 999, Tick(0))), "Muted");
        assert_eq!(word(&session.hear(act(2, Verb::Say), 999, Tick(0))), "Muted");
        assert_eq!(word(&session.hear(say(3, Audience::Nearby), 1_000, Tick(0))), "world");
    }

    #[test]
    fn a_channel_is_spoken_in_by_those_who_are_in_it() {
        let mut session = session(Role::Member);
        let channel = || Audience::Channel("trade".into());
        let tune = |channel: &str, joined| Tune { channel: channel.into(), joined }.into();
        assert_eq!(word(&session.hear(say(1, channel()), 0, Tick(0))), "Forbidden");
        assert_eq!(word(&session.hear(tune("trade", true), 0, Tick(0))), "tune");
        assert_eq!(word(&session.hear(say(2, channel()), 0, Tick(0))), "relay");
        assert_eq!(word(&session.hear(tune("trade", false), 0, Tick(0))), "tune");
        assert_eq!(word(&session.hear(say(3, channel()), 0, Tick(0))), "Forbidden");
        assert_eq!(word(&session.hear(tune("no spaces", true), 0, Tick(0))), "notice");
    }

    #[test]
    fn a_flood_is_refused_and_then_ended() {
        let mut session = session(Role::Member);
        let mut words = Vec::new();
        for request in 0..2_000 {
            words.push(word(&session.hear(act(request, Verb::Greet), 0, Tick(0))));
        }
        let passed = words.iter().filter(|word| *word == "world").count();
        assert!((1..=500).contains(&passed), "{passed} passed");
        assert_eq!(words.last().map(String::as_str), Some("end Flooding"));
    }

    #[test]
    fn an_endless_recipe_and_a_second_hello_end_the_stay() {
        let mut session = session(Role::Member);
        let appearance = protocol::message::common::Appearance {
            recipe: vec![0; RECIPE_BYTES_MAX + 1],
            ..Default::default()
        };
        assert_eq!(word(&session.hear(Wear { appearance }.into(), 0, Tick(0))), "end Protocol");
        assert_eq!(word(&session.hear(Leave { sleep: false }.into(), 0, Tick(0))), "end Goodbye");
    }
}
