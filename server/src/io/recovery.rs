//! Reads what the store knows of regions: at a start, and when the process that ran them is lost.
//!
//! It decides nothing and starts nothing; what it returns goes to the gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ids::{EntityId, PersonId, ShardId};
use protocol::rules::{Holder, Thing};
use protocol::units::Position;

use crate::io::lobby::{damaged, for_each_record};
use crate::region::{RegionIndex, Regions};
use crate::rows;
use crate::store::{Epoch, Number, Store, StoreError, Tree, until_durable};

/// What is to be read.
#[derive(Debug)]
pub struct Wanted {
    /// Which regions, and as which shards they are known to the store.
    pub shards: Vec<(RegionIndex, ShardId)>,
    /// How the world is divided.
    pub regions: Regions,
    /// Whose things.
    pub people: BTreeSet<PersonId>,
    /// The batch that must be durable first.
    pub as_of: Number,
}

/// What is kept of regions and of who is in them.
#[derive(Debug, Default)]
pub struct Kept {
    /// What stands in each region.
    pub placed: BTreeMap<RegionIndex, Vec<Thing>>,
    /// What each person's avatar holds.
    pub held: BTreeMap<PersonId, Vec<Thing>>,
}

/// Reads what is kept of regions, as their next owner: an earlier one can write no more.
///
/// # Errors
/// [`StoreError`] when the store ends or a record is damaged.
pub async fn read(
    store: Arc<dyn Store>,
    wanted: Wanted,
) -> Result<(Vec<(RegionIndex, Epoch)>, Kept), StoreError> {
    until_durable(store.subscribe(), wanted.as_of).await?;
    let mut epochs = Vec::new();
    for &(region, shard) in &wanted.shards {
        epochs.push((region, store.take_epoch(shard).await?));
    }
    // The disk may take its time: never on the ticking thread.
    let reading = tokio::task::spawn_blocking(move || kept(&*store, &wanted));
    Ok((epochs, reading.await.map_err(|_| StoreError::Closed)??))
}

fn kept(store: &dyn Store, wanted: &Wanted) -> Result<Kept, StoreError> {
    let mut kept = Kept { placed: placed_things(store, &wanted.regions)?, ..Kept::default() };
    for &person in &wanted.people {
        kept.held.insert(person, held_things(store, person)?);
    }
    Ok(kept)
}

/// Returns what a person's avatar holds.
///
/// # Errors
/// [`StoreError`] when a record is damaged or the disk fails.
pub fn held_things(store: &dyn Store, person: PersonId) -> Result<Vec<Thing>, StoreError> {
    let mut things = Vec::new();
    for_each_record(store, Tree::People, &rows::held_prefix(person), |_, stored| {
        if let Some(record) = stored.live() {
            things.push(rows::read_thing(&record).map_err(|bad| damaged(&bad))?);
        }
        Ok(())
    })?;
    Ok(things)
}

/// Returns what stands in the world, by region.
///
/// # Errors
/// [`StoreError`] when a record is damaged or the disk fails.
pub fn placed_things(
    store: &dyn Store,
    regions: &Regions,
) -> Result<BTreeMap<RegionIndex, Vec<Thing>>, StoreError> {
    let mut things: BTreeMap<RegionIndex, Vec<Thing>> = BTreeMap::new();
    let mut inside = Vec::new();
    let mut places: BTreeMap<EntityId, RegionIndex> = BTreeMap::new();
    for_each_record(store, Tree::World, &rows::placed_prefix(), |_, stored| {
        let Some(record) = stored.live().filter(rows::is_thing) else { return Ok(()) };
        let thing = rows::read_thing(&record).map_err(|bad| damaged(&bad))?;
        match thing.holder {
            Holder::Placed { at, .. } => {
                let region = regions.index_of(at);
                places.insert(thing.id, region);
                things.entry(region).or_default().push(thing);
            }
            Holder::Inside(container) | Holder::Held(container) => inside.push((container, thing)),
        }
        Ok(())
    })?;
    // What lies in a container is where the container is.
    for (container, thing) in inside {
        let middle = regions.index_of(Position::default());
        let region = places.get(&container).copied().unwrap_or(middle);
        things.entry(region).or_default().push(thing);
    }
    Ok(things)
}
