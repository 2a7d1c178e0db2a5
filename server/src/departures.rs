//! Who waits in the world for their driver, who is leaving it, and who has left.
//!
//! Until all that somebody left behind is surely in the store's order, what was read of them there
//! may be older than what they did; and whether a stay can go on depends on how it was left.

use std::collections::BTreeMap;

use protocol::ids::{EntityId, PersonId, SessionId};
use protocol::units::Tick;

use crate::hosting::Hosting;
use crate::people::PersonRecord;
use crate::region::RegionIndex;
use crate::shard::batch::Whereabouts;
use crate::shard::divide::Redivision;
use crate::store::Number;
use crate::ticket::{Ended, LastStay};

/// Milliseconds after which what was found out about somebody is too old to go by.
pub const EXAMINED_MS_MAX: u64 = 30_000;

/// An avatar whose driver is away.
#[derive(Debug)]
struct Away {
    since_ms: u64,
    /// How it was left.
    last: LastStay,
}

/// An avatar that was sent home, until what it left is surely in the store.
#[derive(Debug)]
struct Going {
    /// The step that takes it out.
    step: Tick,
    /// Whose shard makes it.
    region: RegionIndex,
    /// The batch after which everything of it is written; nothing while that is not known.
    number: Option<Number>,
    /// What is kept of its owner, to be written once its last place is known.
    record: Option<PersonRecord>,
    since_ms: u64,
}

/// Everyone who is away, leaving or gone.
#[derive(Debug, Default)]
pub struct Departures {
    away: BTreeMap<EntityId, Away>,
    going: BTreeMap<EntityId, Going>,
    ended: Ended,
}

impl Departures {
    /// Notes that an avatar's driver is away since `now_ms`; the stay can go on.
    pub fn wait(&mut self, avatar: EntityId, stay: SessionId, now_ms: u64) {
        self.away.insert(avatar, Away { since_ms: now_ms, last: LastStay::Open(stay) });
    }

    /// Notes that the stay of an avatar's driver, who is away, has ended for good.
    pub fn end_stay(&mut self, avatar: EntityId) {
        if let Some(away) = self.away.get_mut(&avatar) {
            away.last = LastStay::Ended;
        }
    }

    /// Notes that an avatar is driven again.
    pub fn come_back(&mut self, avatar: EntityId) {
        self.away.remove(&avatar);
        self.ended.forget(avatar);
    }

    /// Returns what is known of the last stay of an avatar that nobody drives.
    #[must_use]
    pub fn last_stay(&self, avatar: EntityId) -> LastStay {
        if let Some(away) = self.away.get(&avatar) {
            return away.last;
        }
        if self.ended.contains(avatar) { LastStay::Ended } else { LastStay::Unknown }
    }

    /// Returns the avatars whose drivers have been away for `grace_ms`.
    #[must_use]
    pub fn overdue(&self, now_ms: u64, grace_ms: u64) -> Vec<EntityId> {
        let is_overdue = |away: &Away| now_ms.saturating_sub(away.since_ms) >= grace_ms;
        self.away.iter().filter(|(_, away)| is_overdue(away)).map(|(&avatar, _)| avatar).collect()
    }

    /// Notes that an avatar leaves the world, in Unix second `now_s`.
    pub fn end(&mut self, avatar: EntityId, now_s: u64) {
        self.away.remove(&avatar);
        self.ended.note(avatar, now_s);
    }

    /// Waits for the step of a region that takes an avatar out; then `record`, what is kept of its
    /// owner, is to be written.
    pub fn send_home(
        &mut self,
        avatar: EntityId,
        (region, step): (RegionIndex, Tick),
        record: Option<PersonRecord>,
        now_ms: u64,
    ) {
        self.going.insert(avatar, Going { step, region, number: None, record, since_ms: now_ms });
    }

    /// Returns what is to be written of who has left: the record, where they stood last.
    pub fn leave(&mut self, place: &Whereabouts) -> Option<PersonRecord> {
        let record = self.going.get_mut(&place.avatar)?.record.take()?;
        Some(PersonRecord { position: place.position, yaw: place.yaw, ..record })
    }

    /// Returns what is to be written of those who were leaving a region that is lost: nobody else
    /// says where they stood.
    pub fn lose(&mut self, region: RegionIndex) -> Vec<PersonRecord> {
        let theirs = self.going.values_mut().filter(|going| going.region == region);
        theirs.filter_map(|going| going.record.take()).collect()
    }

    /// Goes by another division of the world: who was leaving a region that is no more leaves one
    /// that has its place, as the switchboard found out, also of those who had not come in.
    pub fn redivide(&mut self, change: &Redivision, homes: &BTreeMap<EntityId, RegionIndex>) {
        for (avatar, going) in &mut self.going {
            if change.gone.contains(&going.region) {
                let known = homes.get(avatar).copied();
                going.region = known.unwrap_or_else(|| change.first());
            }
        }
    }

    /// Takes note of which departures are in the store's order by now, and forgets old ones.
    ///
    /// `appended` is the newest batch in that order; nothing while some wait for the store.
    pub fn settle(&mut self, hosting: &Hosting, appended: Option<Number>, now_ms: u64) {
        for going in self.going.values_mut() {
            if going.number.is_none() && hosting.has_made(going.region, going.step) {
                going.number = appended;
            }
        }
        self.going.retain(|_, going| {
            going.number.is_none() || now_ms.saturating_sub(going.since_ms) < 2 * EXAMINED_MS_MAX
        });
    }

    /// Returns whether what was read of an avatar's owner with everything up to `as_of` may be older
    /// than what they left behind.
    #[must_use]
    pub fn outdates(&self, avatar: EntityId, as_of: Number) -> bool {
        let going = self.going.get(&avatar);
        going.is_some_and(|going| going.number.is_none_or(|number| as_of < number))
    }

    /// Returns whether the record of an avatar's owner is yet to be written.
    #[must_use]
    pub fn has_record(&self, avatar: EntityId) -> bool {
        self.going.get(&avatar).is_some_and(|going| going.record.is_some())
    }

    /// Returns whether the record of a person is yet to be written.
    #[must_use]
    pub fn has_record_of(&self, person: PersonId) -> bool {
        let mut records = self.going.values().filter_map(|going| going.record.as_ref());
        records.any(|record| record.person == person)
    }

    /// Forgets the record of a person, and what others lent to them.
    pub fn forget(&mut self, person: PersonId) {
        for going in self.going.values_mut() {
            if going.record.as_ref().is_some_and(|record| record.person == person) {
                going.record = None;
            } else if let Some(record) = &mut going.record {
                record.recall(person);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::message::common::Appearance;
    use protocol::units::{Position, Yaw};

    use super::*;
    use crate::region::{Bounds, Change, Redrawn, Regions};

    const ADA: PersonId = PersonId(1);
    const AVATAR: EntityId = EntityId(11);
    const HERE: RegionIndex = RegionIndex(0);

    fn record() -> PersonRecord {
        PersonRecord {
            person: ADA,
            name: "Ada".into(),
            avatar: AVATAR,
            appearance: Appearance::default(),
            position: Position::default(),
            yaw: Yaw::NORTH,
            ignored: BTreeMap::new(),
            lendings: Vec::new(),
            is_guest: false,
            seen_s: 0,
        }
    }

    #[test]
    fn a_stay_goes_on_until_it_ends() {
        let mut departures = Departures::default();
        assert_eq!(departures.last_stay(AVATAR), LastStay::Unknown);
        departures.wait(AVATAR, SessionId(5), 1_000);
        assert_eq!(departures.last_stay(AVATAR), LastStay::Open(SessionId(5)));
        assert!(departures.overdue(1_999, 1_000).is_empty());
        assert_eq!(departures.overdue(2_000, 1_000), [AVATAR]);
        departures.end_stay(AVATAR);
        assert_eq!(departures.last_stay(AVATAR), LastStay::Ended);
        departures.end(AVATAR, 2);
        assert!(departures.overdue(9_000, 1_000).is_empty());
        assert_eq!(departures.last_stay(AVATAR), LastStay::Ended);
        departures.come_back(AVATAR);
        assert_eq!(departures.last_stay(AVATAR), LastStay::Unknown);
    }

    #[test]
    fn what_was_read_counts_again_once_all_that_was_left_is_written() {
        let mut departures = Departures::default();
        let mut hosting = Hosting::new([HERE], Tick(4), 20);
        assert!(!departures.outdates(AVATAR, Number(0)));
        departures.send_home(AVATAR, (HERE, Tick(5)), Some(record()), 0);
        departures.settle(&hosting, Some(Number(7)), 50);
        assert!(departures.outdates(AVATAR, Number(7)), "the step is not made");
        hosting.answer(HERE, Tick(5));
        departures.settle(&hosting, None, 100);
        assert!(departures.outdates(AVATAR, Number(7)), "something waits for the store");
        departures.settle(&hosting, Some(Number(8)), 150);
        assert!(departures.outdates(AVATAR, Number(7)));
        assert!(!departures.outdates(AVATAR, Number(8)));
        assert!(departures.has_record(AVATAR) && departures.has_record_of(ADA));
        departures.settle(&hosting, Some(Number(9)), 2 * EXAMINED_MS_MAX);
        assert!(!departures.outdates(AVATAR, Number(0)), "nobody goes by anything as old any more");
    }

    #[test]
    fn a_record_is_written_once_where_they_stood_or_not_at_all() {
        let mut departures = Departures::default();
        let send = |departures: &mut Departures| {
            departures.send_home(AVATAR, (HERE, Tick(5)), Some(record()), 0);
        };
        let position = Position::new(300, 0, 0);
        let place = Whereabouts { avatar: AVATAR, person: ADA, position, yaw: Yaw::SOUTH };
        send(&mut departures);
        let written = departures.leave(&place).expect("to be written");
        assert_eq!((written.position, written.yaw), (position, Yaw::SOUTH));
        assert_eq!(departures.leave(&place), None);
        send(&mut departures);
        assert_eq!(departures.lose(RegionIndex(1)), []);
        assert_eq!(departures.lose(HERE), [record()]);
        assert_eq!(departures.leave(&place), None);
        send(&mut departures);
        departures.forget(ADA);
        assert_eq!(departures.leave(&place), None);
    }

    #[test]
    fn who_was_leaving_a_region_that_is_no_more_leaves_the_one_they_were_on_the_way_to() {
        let regions = Regions::new(3, 12_800);
        let bounds = Bounds { width_cm_min: 0, count_max: 64 };
        let drawn = regions.redrawn(Change::Split(HERE), bounds).expect("it can be");
        let Redrawn { regions, gone, new } = drawn;
        let (first, second) = (new[0], new[1]);
        let (owners, offers) = (BTreeMap::new(), BTreeMap::new());
        let change = Redivision { regions, gone, new, owners, offers };
        let lost_in = |homes: &[(EntityId, RegionIndex)], region: RegionIndex| {
            let mut departures = Departures::default();
            departures.send_home(AVATAR, (HERE, Tick(5)), Some(record()), 0);
            departures.redivide(&change, &homes.iter().copied().collect());
            departures.lose(region).len()
        };
        assert_eq!(lost_in(&[(AVATAR, second)], second), 1);
        assert_eq!(lost_in(&[(AVATAR, second)], first), 0);
        assert_eq!(lost_in(&[], first), 1, "nobody knows where they were");
        assert_eq!(lost_in(&[(AVATAR, second)], HERE), 0, "it is no more");
    }
}
