//! Measures the store: batches per second and the time until a batch is durable, with 1, 100 and
//! 1,000 batches in flight.
//!
//! `cargo run --release -p server --example store_measure -- FOLDER [SECONDS]`

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use server::io::clock::instant;
use server::io::store::{SledStore, StoreOptions};
use server::store::batch::plain;
use server::store::{Batch, Key, Store, Tree};

/// Bytes of each record: a thing with its attributes.
const VALUE_BYTES: usize = 200;

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().context("name a folder on the disk to measure")?);
    let seconds = args.next().map_or(Ok(5), |text| text.parse())?;
    for in_flight in [1, 100, 1_000] {
        let data = folder.join(format!("measure-{in_flight}"));
        let store = SledStore::open(&data, StoreOptions::default(), &mut |_, _| {})?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let waits = runtime.block_on(run(&store, in_flight, Duration::from_secs(seconds)))?;
        store.close()?;
        std::fs::remove_dir_all(&data)?;
        let per_s = waits.len() as u64 / seconds;
        let part = |of_1000: usize| waits[(waits.len() - 1) * of_1000 / 1_000].as_secs_f64() * 1e3;
        let (p50, p99, most) = (part(500), part(990), part(1_000));
        println!(
            "{in_flight:>5} in flight: {per_s:>6} batches/s, durable after {p50:.1} ms (p50), \
             {p99:.1} ms (p99), {most:.1} ms (longest)"
        );
    }
    Ok(())
}

/// Keeps `in_flight` batches on their way and returns how long each took, sorted.
async fn run(store: &SledStore, in_flight: usize, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let began = instant();
    let (mut progress, mut flying, mut waits) = (store.subscribe(), VecDeque::new(), Vec::new());
    let mut next = 0_u64;
    while began.elapsed() < time {
        while flying.len() < in_flight {
            let mut batch = Batch::new();
            let key = Key::space(100).id(next % 10_000);
            batch.put(Tree::World, key, plain(1, 1, vec![next as u8; VALUE_BYTES]));
            flying.push_back((store.append(batch)?, instant()));
            next += 1;
        }
        progress.changed().await?;
        let durable = progress.borrow_and_update().durable;
        while let Some((_, since)) = flying.pop_front_if(|(number, _)| *number <= durable) {
            waits.push(since.elapsed());
        }
    }
    waits.sort_unstable();
    Ok(waits)
}
