//! How the world's state lies in the store: which record stands where, and in what form.
//!
//! A thing is kept with its holder: in the world, or with a person and then under that person's
//! key. It reads and writes nothing itself.

use protocol::ids::{EntityId, PersonId, ShardId, WorldId};
use protocol::rules::{Thing, Verb};
use protocol::units::Tick;
use serde::{Deserialize, Serialize};

use crate::audit::AuditEntry;
use crate::people::PersonRecord;
use crate::region::{RegionIndex, Regions};
use crate::shard::batch::{Change, Entry};
use crate::store::{Batch, Epoch, Key, Record, Tree};

/// Kinds of the records here; numbers are stable.
mod kind {
    pub const PERSON: u16 = 0x0100;
    pub const THING: u16 = 0x0101;
    pub const CLOCK: u16 = 0x0102;
    pub const EXCHANGE: u16 = 0x0103;
    pub const OWNER: u16 = 0x0104;
    pub const AUDIT: u16 = 0x0105;
    pub const REGIONS: u16 = 0x0106;
}

/// Facet of an avatar's key under which its owner stands.
const FACET_OWNER: u16 = 2;

/// Facet of an entity's key under which a placed thing stands.
const FACET_THING: u16 = 1;

/// Topic of a person's key under which their record stands.
const TOPIC_RECORD: u16 = 0;

/// Topic of a person's key under which held things stand.
const TOPIC_HELD: u16 = 1;

/// List of names under which the world's own numbers stand.
const LIST_WORLD: u16 = 1;

/// A record that cannot be read by this version.
#[derive(Debug, thiserror::Error)]
#[error("stored {what} cannot be read: {why}")]
pub struct BadRow {
    what: &'static str,
    why: String,
}

/// Where world time stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRow {
    /// The tick.
    pub tick: Tick,
    /// Whether the starter things were laid out.
    pub is_furnished: bool,
}

/// Returns where a person's record stands.
#[must_use]
pub fn person_key(person: PersonId) -> Key {
    Key::person(person).part(TOPIC_RECORD)
}

/// Returns where the things a person holds stand.
#[must_use]
pub fn held_prefix(person: PersonId) -> Key {
    Key::person(person).part(TOPIC_HELD)
}

/// Returns the prefix of every placed thing.
#[must_use]
pub fn placed_prefix() -> Key {
    Key::space(Key::ENTITY)
}

/// Returns where the world's clock stands.
#[must_use]
pub fn clock_key() -> Key {
    Key::name(LIST_WORLD, "clock")
}

/// Returns where it stands how the world is divided.
#[must_use]
pub fn regions_key() -> Key {
    Key::name(LIST_WORLD, "regions")
}

/// Returns the row that says how the world is divided.
#[must_use]
pub fn regions_row(regions: &Regions) -> Record {
    row(None, kind::REGIONS, regions)
}

/// Reads how the world is divided.
///
/// # Errors
/// As [`read_person`].
pub fn read_regions(record: &Record) -> Result<Regions, BadRow> {
    read("division of the world", record)
}

/// Returns as which shard a region of a world is known to the store: the same for as long as the
/// world exists.
#[must_use]
pub const fn shard_id(world: WorldId, region: RegionIndex) -> ShardId {
    ShardId(world.0.wrapping_add(region.0 as u64))
}

/// Returns where the owner of an avatar stands.
#[must_use]
pub fn owner_key(avatar: EntityId) -> Key {
    Key::entity(avatar, FACET_OWNER)
}

/// Returns where an entry of the audit stands.
#[must_use]
pub fn audit_key(entry: &AuditEntry) -> Key {
    Key::time(entry.at_ms, entry.number)
}

/// Returns the row of an entry of the audit.
#[must_use]
pub fn audit_row(entry: &AuditEntry) -> Record {
    row(None, kind::AUDIT, entry)
}

/// Reads an entry of the audit.
///
/// # Errors
/// As [`read_person`].
pub fn read_audit(record: &Record) -> Result<AuditEntry, BadRow> {
    read("audit entry", record)
}

/// Returns the row that says whose an avatar is.
#[must_use]
pub fn owner_row(person: PersonId) -> Record {
    row(None, kind::OWNER, &person)
}

/// Reads the row that says whose an avatar is.
///
/// # Errors
/// As [`read_person`].
pub fn read_owner(record: &Record) -> Result<PersonId, BadRow> {
    read("owner", record)
}

/// Returns whether a row of the world is a thing.
#[must_use]
pub const fn is_thing(record: &Record) -> bool {
    record.kind == kind::THING
}

/// Returns whether a row of people is what is kept of a person, not a thing they hold.
#[must_use]
pub const fn is_person(record: &Record) -> bool {
    record.kind == kind::PERSON
}

/// Returns the row of a person.
#[must_use]
pub fn person_row(record: &PersonRecord) -> Record {
    row(Some(record.person), kind::PERSON, record)
}

/// Returns the row of the clock.
#[must_use]
pub fn clock_row(clock: ClockRow) -> Record {
    row(None, kind::CLOCK, &clock)
}

/// Returns the batch that stores one journal entry of a shard.
#[must_use]
pub fn entry_batch(entry: &Entry, shard: ShardId, epoch: Epoch) -> Batch {
    let mut batch = Batch::of_shard(shard, epoch);
    for change in &entry.changes {
        match change {
            Change::Keep { thing, holder } => {
                let (tree, key) = thing_place(thing.id, *holder);
                batch.put(tree, key, row(*holder, kind::THING, thing));
            }
            Change::Drop { thing, holder } => {
                let (tree, key) = thing_place(*thing, *holder);
                batch.delete(tree, key);
            }
            // Looks are part of the person's record, which the gateway keeps.
            Change::Looks { .. } => {}
        }
    }
    // An exchange leaves a record of its own: who dealt with whom, not what was said.
    if let Some(event) = &entry.event
        && matches!(event.verb, Verb::Give | Verb::Accept)
    {
        let item = u32::try_from(event.id & 0xFFFF_FFFF).unwrap_or(0);
        let key = Key::moment(shard, event.tick, item);
        batch.put(Tree::Journal, key, row(None, kind::EXCHANGE, event));
    }
    batch
}

/// Adds a thing that no act brought about: what a new world starts with.
pub fn put_placed(batch: &mut Batch, thing: &Thing) {
    let (tree, key) = thing_place(thing.id, None);
    batch.put(tree, key, row(None, kind::THING, thing));
}

/// Reads a person's row.
///
/// # Errors
/// [`BadRow`] if a newer version wrote it.
pub fn read_person(record: &Record) -> Result<PersonRecord, BadRow> {
    read("person", record)
}

/// Reads a thing's row.
///
/// # Errors
/// As [`read_person`].
pub fn read_thing(record: &Record) -> Result<Thing, BadRow> {
    read("thing", record)
}

/// Reads the clock's row.
///
/// # Errors
/// As [`read_person`].
pub fn read_clock(record: &Record) -> Result<ClockRow, BadRow> {
    read("clock", record)
}

fn thing_place(thing: EntityId, holder: Option<PersonId>) -> (Tree, Key) {
    match holder {
        Some(person) => (Tree::People, Key::person_item(person, TOPIC_HELD, thing.0)),
        None => (Tree::World, Key::entity(thing, FACET_THING)),
    }
}

fn row(owner: Option<PersonId>, kind: u16, value: &impl Serialize) -> Record {
    let value = serde_json::to_vec(value).expect("plain data always serializes");
    Record { owner, kind, version: 1, value }
}

fn read<T: for<'a> Deserialize<'a>>(what: &'static str, record: &Record) -> Result<T, BadRow> {
    serde_json::from_slice(&record.value).map_err(|error| BadRow { what, why: error.to_string() })
}
