//! What clients do with things: what a trader gives and takes, and what an errand asks for.

use protocol::ids::EntityId;
use protocol::message::ServerMessage;
use protocol::message::server::Being;
use protocol::rules::{Act, Args, KindId, Verb};
use protocol::session::{BadRequest, Session};

use super::super::errand::Errand;
use super::Crowd;
use super::visit::Stay;

/// How near somebody or something must be to act on it, in centimetres: what the rules allow.
const REACH_CM: u32 = 240;

impl Stay {
    pub(super) fn follow_neighbours(&mut self) {
        for &(entity, now) in &self.shown {
            if let Some((.., at)) = self.neighbours.iter_mut().find(|(_, id, ..)| *id == entity) {
                *at = now;
            }
        }
    }

    /// Returns what a trader does next, gives what it holds or takes what lies there, with the kind
    /// of the thing and to whom it is given.
    pub(super) fn deed(&mut self) -> Option<(Act, KindId, Option<EntityId>)> {
        let here = self.picture.here();
        let wants_body = !self.held.is_empty();
        let near = self.neighbours.iter().filter(|(_, _, thing, _)| thing.is_none() == wants_body);
        let near = near.filter(|(_, _, _, at)| here.is_within(*at, REACH_CM));
        let &(_, target, lies, _) =
            near.min_by_key(|(_, _, _, at)| here.ground_distance_squared(*at))?;
        match self.held.first() {
            Some(&(thing, kind)) => {
                let act = Act::on(Verb::Give, target).with(Args::Moved { thing, count: 1 });
                Some((act, kind, Some(target)))
            }
            None => Some((Act::on(Verb::Take, target).with(Args::Count(1)), lies?, None)),
        }
    }

    /// Asks for what the errand has next, if anything; returns the request.
    ///
    /// # Errors
    /// The session's.
    pub(super) fn run_errand(
        &self,
        errand: &mut Errand,
        crowd: &Crowd,
        session: &mut Session,
        at_us: u64,
    ) -> Result<Option<u32>, BadRequest> {
        let Some((step, act)) = errand.act(self.picture.here(), at_us) else { return Ok(None) };
        let request = session.act(act, at_us)?;
        let deed = errand.asked(step, request, at_us);
        if let Some((watch, deed)) = crowd.watch.as_ref().zip(deed) {
            watch.asked(self.client, request, deed);
        }
        Ok(Some(request))
    }
}

/// Tells an errand what the server said.
pub(super) fn hear_of_errand(message: &ServerMessage, errand: &mut Errand) {
    if let ServerMessage::Announce(announce) = message {
        for appear in &announce.appear {
            if let Being::Thing { kind, .. } = appear.being {
                errand.saw(appear.entity, kind);
            }
        }
    } else if let ServerMessage::Holding(holding) = message {
        errand.holds(&holding.things);
    }
}
