//! Where everyone was seen last, as shards said it: what a record is completed with, and where
//! somebody begins whose region was lost.

use std::collections::BTreeMap;

use protocol::ids::EntityId;
use protocol::units::Tick;

use crate::people::PersonRecord;
use crate::region::RegionIndex;
use crate::shard::batch::Whereabouts;
use crate::shard::divide::Redivision;
use crate::switchboard::Seat;

/// Ticks for which it is remembered where somebody crossed a border: until their new shard has
/// said where they are, or was found to be lost and began anew.
const CROSSED_TICKS: u64 = 200;

/// The places of everyone in a world.
#[derive(Debug, Default)]
pub struct Places {
    /// By region, as each shard said last.
    seen: BTreeMap<RegionIndex, Vec<Whereabouts>>,
    /// Where somebody crossed a border, and when.
    crossed: BTreeMap<EntityId, (Tick, Whereabouts)>,
}

impl Places {
    /// Takes in where everyone of a region is.
    pub fn survey(&mut self, region: RegionIndex, everyone: Vec<Whereabouts>) {
        self.seen.insert(region, everyone);
    }

    /// Takes in where somebody crosses a border: their new shard may be lost before it says where
    /// they are.
    pub fn cross(&mut self, tick: Tick, place: Whereabouts) {
        self.crossed.insert(place.avatar, (tick, place));
    }

    /// Forgets crossings of long before `tick`.
    pub fn forget_old(&mut self, tick: Tick) {
        self.crossed.retain(|_, (crossed, _)| tick.since(*crossed) < CROSSED_TICKS);
    }

    /// Goes by another division of the world: what was said of regions that are no more was said of
    /// those that have their places.
    pub fn redivide(&mut self, change: &Redivision) {
        for gone in &change.gone {
            for place in self.seen.remove(gone).unwrap_or_default() {
                let owner = change.owner(*gone, place.avatar, place.position);
                self.seen.entry(owner).or_default().push(place);
            }
        }
    }

    /// Returns where everyone is, region by region.
    pub fn iter(&self) -> impl Iterator<Item = &Whereabouts> {
        self.seen.values().flatten()
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.values().map(Vec::len).sum()
    }

    /// Returns whether nobody is anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a record with where its avatar was seen last: a few ticks ago at most.
    ///
    /// The word of the region where it has its seat counts before that of others, which may be
    /// older.
    #[must_use]
    pub fn newest(&self, record: PersonRecord, seat: Option<Seat>) -> PersonRecord {
        let is_its = |place: &&Whereabouts| place.avatar == record.avatar;
        let here = seat.and_then(|seat| self.seen.get(&seat.region));
        let crossed = || self.crossed.get(&record.avatar).map(|(_, place)| place);
        let seen = here.into_iter().flatten().find(is_its).or_else(crossed);
        match seen.or_else(|| self.iter().find(is_its)) {
            Some(place) => PersonRecord { position: place.position, yaw: place.yaw, ..record },
            None => record,
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::ids::PersonId;
    use protocol::message::common::Appearance;
    use protocol::units::{Position, Yaw};

    use super::*;

    fn at(x: i32) -> Whereabouts {
        let position = Position::new(x, 0, 0);
        Whereabouts { avatar: EntityId(1), person: PersonId(1), position, yaw: Yaw::NORTH }
    }

    #[test]
    fn the_word_of_ones_own_region_counts_before_the_crossing_and_that_before_others() {
        let mut places = Places::default();
        let record = PersonRecord {
            person: PersonId(1),
            name: "Ada".into(),
            avatar: EntityId(1),
            appearance: Appearance::default(),
            position: Position::new(7, 0, 0),
            yaw: Yaw::NORTH,
            ignored: BTreeMap::new(),
            lendings: Vec::new(),
            is_guest: false,
            seen_s: 0,
        };
        let x = |places: &Places| {
            let seat = Seat { region: RegionIndex(1), client: None, since: None };
            places.newest(record.clone(), Some(seat)).position.x
        };
        assert_eq!(x(&places), 7, "as it was kept");
        places.survey(RegionIndex(0), vec![at(100)]);
        assert_eq!(x(&places), 100);
        places.cross(Tick(50), at(200));
        assert_eq!(x(&places), 200);
        places.survey(RegionIndex(1), vec![at(300)]);
        assert_eq!((x(&places), places.len()), (300, 2));
        places.survey(RegionIndex(1), Vec::new());
        places.forget_old(Tick(50 + CROSSED_TICKS));
        assert_eq!(x(&places), 100, "an old crossing says nothing any more");
    }
}
