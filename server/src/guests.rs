//! Which guests are forgotten: those who came without key and token and stay away.
//!
//! One decision over a record and the time; who carries it out sees to it that nobody is in.

use crate::people::PersonRecord;
use crate::ticket::TICKET_S_MAX;

/// Guests forgotten in one go: each costs some syncs of the disk, so this many take half a minute
/// of an operators' thread; the others go with the next look.
pub const FORGOTTEN_MAX: usize = 256;

const DAY_S: u64 = 86_400;

/// Returns whether a record is that of a guest who was away for more than `days` days at Unix time
/// `now_s`, and whose last ticket is over; 0 days keep guests for ever.
///
/// Everybody with a key or a token is kept, and so is whoever came before guests were told apart.
#[must_use]
pub fn is_due(record: &PersonRecord, now_s: u64, days: u32) -> bool {
    // A clock that was set back makes nobody older.
    let away_s = now_s.saturating_sub(record.seen_s);
    let kept_s = u64::max(u64::from(days) * DAY_S, TICKET_S_MAX);
    days != 0 && record.is_guest && record.seen_s != 0 && kept_s < away_s
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use protocol::ids::{EntityId, PersonId};
    use protocol::message::common::Appearance;
    use protocol::units::{Position, Yaw};

    use super::*;

    const NOW_S: u64 = 100 * DAY_S;

    fn seen(is_guest: bool, seen_s: u64) -> PersonRecord {
        PersonRecord {
            person: PersonId(1),
            name: "Visitor".into(),
            avatar: EntityId(2),
            appearance: Appearance::default(),
            position: Position::default(),
            yaw: Yaw::NORTH,
            ignored: BTreeMap::new(),
            lendings: Vec::new(),
            is_guest,
            seen_s,
        }
    }

    #[test]
    fn guests_are_kept_to_the_last_second_of_their_days() {
        for (days, away_s, is_over) in [
            (7, 7 * DAY_S, false),
            (7, 7 * DAY_S + 1, true),
            (1, DAY_S, false),
            (1, DAY_S + 1, true),
            (0, 99 * DAY_S, false),
            (3_650, 99 * DAY_S, false),
        ] {
            let record = seen(true, NOW_S - away_s);
            assert_eq!(is_due(&record, NOW_S, days), is_over, "{days} days, {away_s} s away");
        }
    }

    #[test]
    fn nobody_else_is_forgotten() {
        assert!(!is_due(&seen(false, 1), NOW_S, 7), "a person with a key");
        assert!(!is_due(&seen(true, 0), NOW_S, 7), "when they were here was not noted");
        assert!(!is_due(&seen(true, NOW_S + DAY_S), NOW_S, 7), "the clock was set back");
    }

    #[test]
    fn a_ticket_outlives_any_setting() {
        let shortest_kept_s = (1..=10)
            .map(|days| {
                let is_kept = |away_s: &u64| !is_due(&seen(true, NOW_S - away_s), NOW_S, days);
                (0..11).map(|away_days| away_days * DAY_S).filter(is_kept).max().unwrap_or(0)
            })
            .min();
        assert!(shortest_kept_s.is_some_and(|kept_s| TICKET_S_MAX <= kept_s));
    }

    #[test]
    fn a_record_of_before_guests_were_told_apart_reads_and_is_kept() {
        let mut old = serde_json::to_value(seen(true, 1)).expect("plain data");
        let fields = old.as_object_mut().expect("an object");
        fields.remove("is_guest");
        fields.remove("seen_s");
        let read: PersonRecord = serde_json::from_value(old).expect("an old record reads");
        assert_eq!(read, seen(false, 0));
        assert!(!is_due(&read, NOW_S, 1));
    }
}
