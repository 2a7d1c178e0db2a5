//! Who may drive whose avatar, by any mix of lendings, recalls and passing time: the server's
//! answer against a model that remembers everything and is as plain as can be.
//!
//! 100,000 mixes; each is asked about everybody, at moments around every end.

use protocol::ids::{EntityId, PersonId};
use protocol::units::{Position, Yaw};
use server::people::{LENDINGS_MAX, Lent, PersonRecord, first_appearance};
use tests::dice::Dice;

/// Mixes of lendings.
const MIXES: u64 = 100_000;

/// Deeds in one mix: more than an avatar can be lent to at once.
const DEEDS_MAX: u64 = 40;

/// People of whom one owns the avatar: more than it can be lent to at once.
const PEOPLE: u64 = LENDINGS_MAX as u64 + 8;

/// Seconds in which all of it happens: so few that ends and questions meet in the same second.
const SECONDS: u64 = 30;

const OWNER: PersonId = PersonId(1);

fn record() -> PersonRecord {
    PersonRecord {
        person: OWNER,
        name: "Ada".into(),
        avatar: EntityId(10),
        appearance: first_appearance(OWNER),
        position: Position::default(),
        yaw: Yaw::NORTH,
        ignored: Default::default(),
        lendings: Vec::new(),
        is_guest: false,
        seen_s: 0,
    }
}

/// Everything that was ever agreed on, in order.
#[derive(Debug, Default)]
struct Model(Vec<(PersonId, Deed)>);

#[derive(Clone, Copy, Debug)]
enum Deed {
    Lent { ends_at: u64 },
    Recalled,
}

impl Model {
    /// Until when somebody may drive, asked at `now_s`.
    fn until(&self, driver: PersonId, now_s: u64) -> Option<u64> {
        if driver == OWNER {
            return Some(u64::MAX);
        }
        match self.0.iter().rev().find(|(to, _)| *to == driver)?.1 {
            Deed::Lent { ends_at } if now_s < ends_at => Some(ends_at),
            Deed::Lent { .. } | Deed::Recalled => None,
        }
    }

    /// Whether the owner may lend to somebody until `ends_at`.
    fn may_lend(&self, to: PersonId, ends_at: u64, now_s: u64) -> bool {
        let others = (1..=PEOPLE).map(PersonId).filter(|&other| other != to && other != OWNER);
        let open = others.filter(|&other| self.until(other, now_s).is_some()).count();
        now_s < ends_at && to != OWNER && open < LENDINGS_MAX
    }
}

/// Plays one mix and returns how many checks said yes and no.
fn play(dice: &mut Dice) -> (u64, u64) {
    let (mut record, mut model, mut now_s) = (record(), Model::default(), 0);
    let (mut yes, mut no) = (0, 0);
    for _ in 0..1 + dice.below(DEEDS_MAX) {
        let to = PersonId(1 + dice.below(PEOPLE));
        match dice.below(8) {
            0..=4 => {
                let ends_at = if dice.is(50) { u64::MAX } else { dice.below(SECONDS) };
                let is_lent = record.lend(Lent { to, ends_at }, now_s).is_ok();
                assert_eq!(is_lent, model.may_lend(to, ends_at, now_s), "{to} {ends_at} {model:?}");
                if is_lent {
                    model.0.push((to, Deed::Lent { ends_at }));
                }
            }
            5..=6 => {
                record.recall(to);
                model.0.push((to, Deed::Recalled));
            }
            _ => now_s = (now_s + dice.below(4)).min(SECONDS),
        }
        for person in (1..=PEOPLE).map(PersonId) {
            for moment in [now_s, now_s + dice.below(SECONDS)] {
                let allowed = record.driven_until(person, moment);
                assert_eq!(allowed, model.until(person, moment), "{person} at {moment}: {model:?}");
                *(if allowed.is_some() { &mut yes } else { &mut no }) += 1;
            }
        }
    }
    (yes, no)
}

#[test]
fn nobody_drives_who_may_not_and_everybody_does_who_may() {
    let (mut dice, mut yes, mut no) = (Dice(11), 0, 0);
    for _ in 0..MIXES {
        let (more_yes, more_no) = play(&mut dice);
        (yes, no) = (yes + more_yes, no + more_no);
    }
    println!("{MIXES} mixes of lendings, {yes} checks allowed, {no} refused, 0 wrong");
    assert!(MIXES < yes && MIXES < no, "both answers are given");
}
