//! What a walker does next, by what its own picture of the world shows.
//!
//! It sees what any client of the SDK sees and knows no truth beside it.

use protocol::message::server::Being;
use protocol::replica::Replica;
use protocol::rules::{Act, Args, Lot, OfferId, Portion, Verb};

use crate::dice::Dice;

/// Returns something to do with what is near; nothing if there is nothing.
pub fn wish(replica: &Replica, offers: &mut Vec<OfferId>, chance: &mut Dice) -> Option<Act> {
    if let Some(offer) = offers.pop() {
        let verb = if chance.one_in(4) { Verb::Decline } else { Verb::Accept };
        return Some(Act::new(verb).with(Args::Offer(offer)));
    }
    let held = &replica.log().holding;
    let mine = (!held.is_empty()).then(|| &held[chance.below(held.len() as u64) as usize]);
    let thing = replica.nearest(|it| matches!(it.being, Being::Thing { .. }));
    let thing = thing.map(|entity| entity.id);
    let other = replica.nearest(|it| matches!(it.being, Being::Avatar { .. }));
    let other = other.map(|entity| entity.id);
    match (chance.below(6), mine, other) {
        (0, Some(mine), _) => {
            Some(Act::on(Verb::Drop, mine.id).with(Args::Count(1 + mine.count / 2)))
        }
        (1, Some(mine), Some(other)) => {
            let moved = Args::Moved { thing: mine.id, count: mine.count };
            Some(Act::on(Verb::Give, other).with(moved))
        }
        (2 | 3, Some(mine), Some(other)) => {
            let give = vec![Portion { thing: mine.id, count: 1 }];
            let want = vec![Lot { kind: mine.kind, count: 1 }];
            let want = if chance.one_in(2) { want } else { Vec::new() };
            Some(Act::on(Verb::Offer, other).with(Args::Deal { give, want }))
        }
        _ => Some(Act::on(Verb::Take, thing?)),
    }
}
