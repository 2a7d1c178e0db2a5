//! How stored records of an older schema become those of this one.
//!
//! A [`Migration`] lifts every record from one schema to the next. The steps from the schema found
//! to the newest are applied to each record in turn while the database is rewritten, and the
//! rewritten one takes the old one's place in one step, so a migration happens wholly or not at
//! all. Adding a step means adding to [`MIGRATIONS`] and raising nothing else.

use crate::store::{Key, Record, Tree};

/// A record on its way from one schema to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The tree it stands in.
    pub tree: Tree,
    /// Its place.
    pub key: Key,
    /// The record, opened.
    pub record: Record,
}

/// One step from schema `from` to `from + 1`.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// The schema that this step reads.
    pub from: u16,
    /// What it does, in a few words, for the log.
    pub what: &'static str,
    /// Returns the record in the next schema, nothing to drop it, or why it cannot be understood.
    pub step: fn(Entry) -> Result<Option<Entry>, String>,
}

/// Schema of a fresh database before any migration was written.
pub const SCHEMA_FIRST: u16 = 1;

/// The steps of this program, oldest first.
pub const MIGRATIONS: &[Migration] = &[];

/// Returns the schema that these migrations lead to.
#[must_use]
pub fn newest(migrations: &[Migration]) -> u16 {
    migrations.last().map_or(SCHEMA_FIRST, |last| last.from + 1)
}

/// Applies the steps from schema `from` on.
///
/// # Errors
/// What the failing step says.
pub fn lift(migrations: &[Migration], from: u16, entry: Entry) -> Result<Option<Entry>, String> {
    let mut entry = entry;
    for migration in migrations.iter().filter(|migration| from <= migration.from) {
        match (migration.step)(entry)? {
            Some(next) => entry = next,
            None => return Ok(None),
        }
    }
    Ok(Some(entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::batch::plain;

    const STEPS: &[Migration] = &[
        Migration { from: 1, what: "double", step: |entry| Ok(Some(grown(entry))) },
        Migration { from: 2, what: "drop odd", step: |entry| Ok(even(entry)) },
    ];

    fn grown(mut entry: Entry) -> Entry {
        entry.record.version += 1;
        entry
    }

    fn even(entry: Entry) -> Option<Entry> {
        entry.record.version.is_multiple_of(2).then_some(entry)
    }

    #[test]
    fn a_record_takes_only_the_steps_it_lacks() {
        let lifted = |from, version| {
            let record = plain(1, version, vec![]);
            let entry = Entry { tree: Tree::World, key: Key::space(1), record };
            lift(STEPS, from, entry).expect("no step fails").map(|entry| entry.record.version)
        };
        assert_eq!(newest(STEPS), 3);
        assert_eq!(newest(&[]), SCHEMA_FIRST);
        for (from, version, wanted) in
            [(1, 1, Some(2)), (1, 2, None), (2, 2, Some(2)), (2, 1, None), (3, 1, Some(1))]
        {
            assert_eq!(lifted(from, version), wanted, "from {from} version {version}");
        }
    }

    #[test]
    fn the_programs_own_steps_follow_each_other() {
        let from: Vec<u16> = MIGRATIONS.iter().map(|migration| migration.from).collect();
        let wanted: Vec<u16> = (SCHEMA_FIRST..newest(MIGRATIONS)).collect();
        assert_eq!(from, wanted);
    }
}
