//! What a viewer saw, as JSON lines: one object a line, each with the version of this schema.
//!
//! The schema stands in `docs/viewer.md`. Fields are only ever added; another meaning is another
//! version.

use protocol::message::ServerMessage;
use protocol::message::common::Audience;
use protocol::message::server::{Announce, Being, Welcome};
use protocol::replica::{Counts, Entity, Replica, Shown};
use protocol::rules::{Event, Lot, RuleBook};
use protocol::session::{Answer, Outcome};
use protocol::units::Position;
use serde_json::{Value, json};

use crate::words::Sight;

/// The version of the schema, in the field `v` of every line.
pub const VERSION: u32 = 1;

/// Returns a line of `kind` at `t_ms` with the fields of `body`.
#[must_use]
pub fn line(t_ms: u64, kind: &str, body: Value) -> Value {
    let mut line = json!({ "v": VERSION, "t_ms": t_ms, "type": kind });
    if let (Some(line), Value::Object(body)) = (line.as_object_mut(), body) {
        line.extend(body);
    }
    line
}

/// Returns the body of a `welcome`.
#[must_use]
pub fn welcome(welcome: &Welcome, server_key: &str) -> Value {
    json!({
        "session": welcome.session.to_string(),
        "resumed": welcome.resumed,
        "person": welcome.person.to_string(),
        "avatar": welcome.avatar.to_string(),
        "role": welcome.role,
        "world": { "id": welcome.world.id.to_string(), "name": welcome.world.name },
        "server_key": server_key,
        "tick": welcome.tick.0,
        "hz": welcome.hz,
        "at_m": metres(welcome.position),
    })
}

/// Returns kind and body of the line for what the server said, nothing for what says nothing of
/// the world.
#[must_use]
pub fn said(message: &ServerMessage, sight: Sight<'_>) -> Option<(&'static str, Value)> {
    match message {
        ServerMessage::Announce(announce) => Some(("announce", announced(announce, sight.book))),
        ServerMessage::Happened(happened) => {
            let events: Vec<Value> =
                happened.events.iter().map(|event| event_of(event, sight)).collect();
            Some(("events", json!({ "events": events })))
        }
        ServerMessage::Heard(heard) => {
            let to = match &heard.to {
                Audience::Nearby => "nearby".to_owned(),
                Audience::Whisper => "whisper".to_owned(),
                Audience::Person(_) => "you".to_owned(),
                Audience::Channel(name) => format!("channel {name}"),
            };
            let body = json!({
                "tick": heard.tick.0,
                "from": heard.name,
                "person": heard.person.to_string(),
                "avatar": heard.avatar.map(|avatar| avatar.to_string()),
                "to": to,
                "text": heard.utterance.text(),
            });
            Some(("heard", body))
        }
        ServerMessage::Holding(holding) => {
            let things: Vec<Value> = holding
                .things
                .iter()
                .map(|thing| {
                    let kind = kind_name(sight.book, Lot { kind: thing.kind, count: 1 });
                    json!({ "thing": thing.id.to_string(), "kind": kind, "count": thing.count })
                })
                .collect();
            Some(("holding", json!({ "tick": holding.tick.0, "things": things })))
        }
        ServerMessage::Offered(offered) => {
            let offer = &offered.offer;
            let body = json!({
                "offer": offer.id.0,
                "from": name_of(offer.from, sight),
                "to": name_of(offer.to, sight),
                "give": lots(&offer.give_lots, sight),
                "want": lots(&offer.want, sight),
                "until_tick": offer.until.0,
            });
            Some(("offer", body))
        }
        ServerMessage::OfferEnded(ended) => {
            Some(("offer_ended", json!({ "offer": ended.offer.0, "end": ended.end })))
        }
        ServerMessage::Notice(notice) => Some(("notice", json!({ "text": notice.text }))),
        ServerMessage::Stopping(stopping) => {
            Some(("stopping", json!({ "in_ms": stopping.in_ms, "why": stopping.why })))
        }
        ServerMessage::Pace(pace) => {
            Some(("pace", json!({ "permille": pace.permille, "from_tick": pace.from.0 })))
        }
        ServerMessage::Greeting(_)
        | ServerMessage::Welcome(_)
        | ServerMessage::Farewell(_)
        | ServerMessage::Done(_)
        | ServerMessage::Refused(_)
        | ServerMessage::Begun(_)
        | ServerMessage::Redirect(_)
        | ServerMessage::Ticket(_)
        | ServerMessage::Chunk(_) => None,
    }
}

/// Returns the body of an `answer`.
#[must_use]
pub fn answer(answer: &Answer) -> Value {
    match answer {
        Answer::Done { tick, text } => json!({ "done": true, "tick": tick.0, "text": text }),
        Answer::Refused(why) => {
            json!({ "done": false, "why": why.to_string(), "code": why })
        }
        Answer::Unknown => json!({ "done": null, "why": "the connection was lost meanwhile" }),
    }
}

/// Returns the body of a `view`: oneself and everyone shown at this moment.
#[must_use]
pub fn view(replica: &Replica, book: &RuleBook, now_us: u64) -> Value {
    let shown: Vec<Value> =
        replica.shown().map(|(entity, shown)| shown_of(entity, &shown, book)).collect();
    json!({
        "tick": replica.clock().newest().0,
        "moment": replica.moment().map(rounded),
        "at_m": replica.own_cm(now_us).map(|cm| rounded(cm / 100.0)),
        "yaw_degrees": degrees(replica.yaw().0),
        "display_delay_ms": replica.clock().delay_us() / 1_000,
        "entities": shown,
    })
}

/// Returns the body of a `summary`.
#[must_use]
pub fn summary(counts: Counts, events_lost: u64, corrections_cm: &mut [f64]) -> Value {
    corrections_cm.sort_by(f64::total_cmp);
    let at = |permille: usize| {
        let index = corrections_cm.len().saturating_sub(1) * permille / 1_000;
        corrections_cm.get(index).copied().map(rounded)
    };
    json!({
        "frames": counts.frames,
        "stale_frames": counts.stale_frames,
        "bad_frames": counts.bad_frames,
        "states": counts.states,
        "inputs": counts.inputs,
        "repeated_inputs": counts.repeated_inputs,
        "full_requests": counts.full_requests,
        "events_lost": events_lost,
        "correction_cm_p50": at(500),
        "correction_cm_p95": at(950),
        "correction_cm_max": at(1_000),
    })
}

/// Returns the body of an `ended`.
#[must_use]
pub fn ended(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Left => json!({ "outcome": "left" }),
        Outcome::Refused { code, why, retry_after_s } => json!({
            "outcome": "refused",
            "code": code.number(),
            "why": why,
            "retry_after_s": retry_after_s,
        }),
        Outcome::Lost { code, why } => {
            json!({ "outcome": "lost", "code": code.number(), "why": why })
        }
    }
}

fn announced(announce: &Announce, book: &RuleBook) -> Value {
    let appear: Vec<Value> = announce
        .appear
        .iter()
        .map(|appear| {
            let mut what = being(&appear.being, book);
            if let Some(what) = what.as_object_mut() {
                what.insert("handle".into(), json!(appear.handle));
                what.insert("entity".into(), json!(appear.entity.to_string()));
                what.insert("at_m".into(), json!(metres(appear.position)));
            }
            what
        })
        .collect();
    json!({ "since_tick": announce.since.0, "vanish": announce.vanish, "appear": appear })
}

fn being(being: &Being, book: &RuleBook) -> Value {
    match being {
        Being::Avatar { person, name, .. } => {
            json!({ "name": name, "person": person.to_string() })
        }
        Being::Thing { kind, count, text } => {
            let kind = kind_name(book, Lot { kind: *kind, count: 1 });
            json!({ "kind": kind, "count": count, "text": text })
        }
    }
}

fn shown_of(entity: &Entity, shown: &Shown, book: &RuleBook) -> Value {
    let mut what = being(&entity.being, book);
    if let Some(what) = what.as_object_mut() {
        what.insert("entity".into(), json!(entity.id.to_string()));
        what.insert("at_m".into(), json!(shown.at_cm.map(|cm| rounded(cm / 100.0))));
        what.insert("yaw_degrees".into(), json!(degrees(shown.yaw.0)));
        what.insert("animation".into(), json!(shown.animation));
        what.insert("flags".into(), json!(shown.flags));
    }
    what
}

fn event_of(event: &Event, sight: Sight<'_>) -> Value {
    json!({
        "id": event.id,
        "tick": event.tick.0,
        "actor": name_of(event.actor, sight),
        "verb": event.verb,
        "phase": event.phase,
        "target": event.target.map(|target| name_of(target, sight)),
        "at_m": metres(event.place),
        "detail": event.detail,
    })
}

/// A person's name or a thing's kind where it is in view, otherwise the id.
fn name_of(id: protocol::ids::EntityId, sight: Sight<'_>) -> String {
    if id == sight.replica.avatar() {
        return "you".to_owned();
    }
    match sight.replica.entity(id).map(|entity| &entity.being) {
        Some(Being::Avatar { name, .. }) => name.clone(),
        Some(Being::Thing { kind, .. }) => kind_name(sight.book, Lot { kind: *kind, count: 1 }),
        None => id.to_string(),
    }
}

fn lots(lots: &[Lot], sight: Sight<'_>) -> Vec<String> {
    lots.iter().map(|lot| sight.amount(lot.kind, lot.count)).collect()
}

fn kind_name(book: &RuleBook, lot: Lot) -> String {
    let kind = book.kind(lot.kind);
    kind.map_or_else(|| lot.kind.to_string(), |kind| kind.name_of(lot.count).to_owned())
}

fn metres(position: Position) -> [f64; 3] {
    [position.x, position.y, position.z].map(|cm| rounded(f64::from(cm) / 100.0))
}

fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

fn degrees(yaw: u16) -> f64 {
    rounded(f64::from(yaw) * 360.0 / 65_536.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::close::CloseCode;
    use protocol::rules::Why;
    use protocol::units::Tick;

    #[test]
    fn every_line_has_version_time_and_type() {
        let line = line(12, "notice", json!({ "text": "hello" }));
        let expected = json!({ "v": 1, "t_ms": 12, "type": "notice", "text": "hello" });
        assert_eq!(line, expected);
    }

    #[test]
    fn answers_and_ends_are_told_apart() {
        let done = answer(&Answer::Done { tick: Tick(5), text: None });
        assert_eq!(done, json!({ "done": true, "tick": 5, "text": null }));
        let refused = answer(&Answer::Refused(Why::Locked));
        assert_eq!(refused, json!({ "done": false, "why": "it is locked", "code": "locked" }));
        let outcome = Outcome::Refused {
            code: CloseCode::Full,
            why: "the world is full".into(),
            retry_after_s: Some(3),
        };
        assert_eq!(ended(&outcome)["outcome"], "refused");
        assert_eq!(ended(&outcome)["retry_after_s"], 3);
    }

    #[test]
    fn a_summary_sorts_what_it_measures() {
        let mut corrections = vec![3.0, 0.0, 1.0, 2.0];
        let summary = summary(Counts::default(), 2, &mut corrections);
        assert_eq!(summary["correction_cm_max"], 3.0);
        assert_eq!(summary["correction_cm_p50"], 1.0);
        assert_eq!(summary["events_lost"], 2);
    }
}
