//! Generator actor: answers for chunks, from memory at once and from its workers later.
//!
//! | in            | from            | effect                                                     |
//! |---------------|-----------------|------------------------------------------------------------|
//! | [`NeedChunk`] | shard, session  | announced at once, or queued nearest first, or refused     |
//! | [`Cancel`]    | shard, session  | not made for this requester                                |
//! | [`CancelAll`] | shard, session  | nothing is made for this requester any more                |
//! | `Collect`     | its own workers | what they made is kept and announced                       |
//!
//! | out            | to                | when the receiver is full                         |
//! |----------------|-------------------|---------------------------------------------------|
//! | [`ChunkReady`] | who placed it     | dropped: asked again, it comes from memory        |

use std::path::PathBuf;
use std::sync::Arc;

use actix::prelude::*;
use protocol::ids::{ChunkId, ContentHash};
use tracing::debug;

use crate::chunk::{Chunk, is_in_world};
use crate::demand::{Asked, Requester};
use crate::io::worker::{Finished, Folder, Workers};
use crate::limits::{DISK_BYTES_DEFAULT, GENERATOR_MAILBOX, MEMORY_BYTES_DEFAULT};
use crate::recent::Recent;
use crate::terrain::Terrain;

/// What a decoded chunk takes in memory beside its bytes: heights, surfaces and bookkeeping.
const DECODED_BYTES: u64 = 21_500;

/// Make a chunk, or have it announced again. Asking again with another distance moves it.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), Refused>")]
pub struct NeedChunk {
    /// Which one.
    pub chunk: ChunkId,
    /// Who asks.
    pub requester: Requester,
    /// How far it is from who asks, in metres: nearer ones are made first.
    pub distance_m: u32,
}

/// A requester no longer wants a chunk.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Cancel {
    /// Which one.
    pub chunk: ChunkId,
    /// Who asked.
    pub requester: Requester,
}

/// A requester no longer wants anything: it left, or was moved far away.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct CancelAll {
    /// Who asked.
    pub requester: Requester,
}

/// A chunk somebody asked for.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ChunkReady {
    /// Which one.
    pub chunk: ChunkId,
    /// As it travels.
    pub bytes: Arc<[u8]>,
    /// The name of the bytes.
    pub hash: ContentHash,
    /// As it is walked on.
    pub decoded: Arc<Chunk>,
    /// Everyone who wanted it, in ascending order.
    pub wanted_by: Vec<Requester>,
}

/// Workers have made something.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
struct Collect;

/// A chunk that is not going to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such ground.
    #[error("chunk {chunk} lies outside the world")]
    OutsideWorld {
        /// Which chunk.
        chunk: ChunkId,
    },
    /// Everything that waits is nearer.
    #[error("too many chunks wait that are nearer than {chunk}; ask again later")]
    Busy {
        /// Which chunk.
        chunk: ChunkId,
    },
}

/// Where announcements go. Built once, by the composition root.
#[derive(Clone, Debug)]
pub struct Outbox {
    /// Takes every chunk in.
    pub ready: Recipient<ChunkReady>,
}

/// What a generator may use.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads, 1 to 16.
    pub workers: usize,
    /// Bytes of chunks kept in memory.
    pub memory_bytes: u64,
    /// Where chunks are kept between runs, if anywhere.
    pub folder: Option<PathBuf>,
    /// Bytes the folder takes at most.
    pub disk_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 1,
            memory_bytes: MEMORY_BYTES_DEFAULT,
            folder: None,
            disk_bytes: DISK_BYTES_DEFAULT,
        }
    }
}

/// Owns the ground of one world: what was made lately, and the workers that make more.
pub struct GeneratorActor {
    outbox: Outbox,
    recent: Recent<ChunkId, Finished>,
    workers: Workers,
    workers_count: usize,
}

impl GeneratorActor {
    /// Returns the generator of `terrain`; its workers start with it.
    #[must_use]
    pub fn new(terrain: Arc<dyn Terrain>, outbox: Outbox, settings: Settings) -> Self {
        let Settings { workers, memory_bytes, folder, disk_bytes } = settings;
        let folder = folder.map(|path| Folder { path, bytes_max: disk_bytes });
        Self {
            outbox,
            recent: Recent::new(memory_bytes),
            workers: Workers::new(terrain, folder),
            workers_count: workers,
        }
    }
}

impl Actor for GeneratorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(GENERATOR_MAILBOX);
        let collector = ctx.address().downgrade();
        self.workers.start(self.workers_count, move || {
            // A full mailbox means that messages wait, and each collects before it is answered.
            let told = collector.upgrade().is_some_and(|actor| actor.try_send(Collect).is_ok());
            debug!(told, "chunk made");
        });
    }
}

impl Handler<NeedChunk> for GeneratorActor {
    type Result = Result<(), Refused>;

    fn handle(&mut self, ask: NeedChunk, _: &mut Self::Context) -> Self::Result {
        self.collect();
        self.need(ask)
    }
}

impl Handler<Cancel> for GeneratorActor {
    type Result = ();

    fn handle(&mut self, Cancel { chunk, requester }: Cancel, _: &mut Self::Context) {
        self.collect();
        self.workers.cancel(chunk, requester);
    }
}

impl Handler<CancelAll> for GeneratorActor {
    type Result = ();

    fn handle(&mut self, CancelAll { requester }: CancelAll, _: &mut Self::Context) {
        self.collect();
        self.workers.cancel_all(requester);
    }
}

impl Handler<Collect> for GeneratorActor {
    type Result = ();

    fn handle(&mut self, _: Collect, _: &mut Self::Context) {
        self.collect();
    }
}

impl GeneratorActor {
    fn need(&mut self, ask: NeedChunk) -> Result<(), Refused> {
        let NeedChunk { chunk, requester, distance_m } = ask;
        if !is_in_world(chunk) {
            return Err(Refused::OutsideWorld { chunk });
        }
        if let Some(finished) = self.recent.touch(&chunk).cloned() {
            self.announce(finished, vec![requester]);
            return Ok(());
        }
        match self.workers.want(chunk, requester, distance_m) {
            Asked::Waiting | Asked::Making => Ok(()),
            Asked::Full => Err(Refused::Busy { chunk }),
        }
    }

    fn collect(&mut self) {
        for (finished, wanted_by) in self.workers.collect() {
            let bytes = finished.bytes.len() as u64 + DECODED_BYTES;
            // What makes room is on disk or can be made again.
            drop(self.recent.insert(finished.chunk, finished.clone(), bytes));
            if !wanted_by.is_empty() {
                self.announce(finished, wanted_by);
            }
        }
    }

    fn announce(&self, finished: Finished, wanted_by: Vec<Requester>) {
        let Finished { chunk, bytes, hash, decoded } = finished;
        let ready = ChunkReady { chunk, bytes, hash, decoded, wanted_by };
        if self.outbox.ready.try_send(ready).is_err() {
            debug!(%chunk, "announcement dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;
    use crate::chunk::decode;
    use crate::seed::Seeded;
    use crate::terrain::Climate;

    /// Passes announcements on to the test.
    struct Ears(SyncSender<ChunkReady>);

    impl Actor for Ears {
        type Context = Context<Self>;
    }

    impl Handler<ChunkReady> for Ears {
        type Result = ();

        fn handle(&mut self, ready: ChunkReady, _: &mut Self::Context) {
            self.0.try_send(ready).expect("the test listens");
        }
    }

    /// Level ground that takes a permit for every chunk, so that a test decides when one is made.
    struct Gate(std::sync::Mutex<Receiver<()>>);

    impl Terrain for Gate {
        fn height_cm(&self, x_cm: i32, _: i32) -> i32 {
            x_cm / 100
        }

        fn climate(&self) -> Climate {
            Climate { seed: 0, tree_line_m: 500.0, snow_line_m: 900.0 }
        }

        fn describe(&self) -> String {
            "gated ground".into()
        }

        fn fingerprint(&self) -> ContentHash {
            ContentHash::of(b"gate")
        }

        fn chunk(&self, id: ChunkId) -> Option<Chunk> {
            self.0.lock().expect("one worker").recv().expect("the test holds the other end");
            Seeded::new(1).chunk(id)
        }
    }

    fn need(x: i32, who: u64, distance_m: u32) -> NeedChunk {
        let chunk = ChunkId { level: 0, x, z: 3 };
        NeedChunk { chunk, requester: Requester(who), distance_m }
    }

    fn start(terrain: Arc<dyn Terrain>) -> (Addr<GeneratorActor>, Receiver<ChunkReady>) {
        let (told, ready) = sync_channel(64);
        let outbox = Outbox { ready: Ears(told).start().recipient() };
        (GeneratorActor::new(terrain, outbox, Settings::default()).start(), ready)
    }

    /// Lets the actors of this thread work until an announcement comes.
    async fn heard(ready: &Receiver<ChunkReady>) -> ChunkReady {
        loop {
            match ready.try_recv() {
                Ok(ready) => return ready,
                Err(_) => actix::clock::sleep(std::time::Duration::from_millis(1)).await,
            }
        }
    }

    #[actix::test]
    async fn a_chunk_is_announced_with_its_bytes_and_again_from_memory() {
        let (generator, ready) = start(Arc::new(Seeded::new(1)));
        assert_eq!(generator.send(need(5, 1, 10)).await, Ok(Ok(())));
        let first = heard(&ready).await;
        assert_eq!(first.chunk, need(5, 1, 10).chunk);
        assert_eq!(first.wanted_by, [Requester(1)]);
        assert_eq!(first.hash, ContentHash::of(&first.bytes));
        assert_eq!(decode(&first.bytes).as_ref(), Ok(first.decoded.as_ref()));
        assert_eq!(generator.send(need(5, 2, 10)).await, Ok(Ok(())));
        let again = heard(&ready).await;
        assert_eq!(again.wanted_by, [Requester(2)]);
        assert!(Arc::ptr_eq(&first.bytes, &again.bytes));
    }

    #[actix::test]
    async fn nearest_first_and_nothing_for_those_who_left() {
        let (permit, permits) = sync_channel(64);
        let (generator, ready) = start(Arc::new(Gate(permits.into())));
        // The first keeps the worker busy while the others queue up behind it.
        for (x, who, distance) in
            [(0, 1, 0), (1, 1, 90), (2, 1, 10), (3, 2, 50), (4, 3, 1), (2, 4, 70)]
        {
            assert_eq!(generator.send(need(x, who, distance)).await, Ok(Ok(())));
            if x == 0 {
                // The worker takes it up before anything nearer is asked for, or after: it is the
                // nearest either way.
                actix::clock::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
        let three = Requester(3);
        assert_eq!(generator.send(CancelAll { requester: three }).await, Ok(()));
        let cancel = Cancel { chunk: need(3, 2, 0).chunk, requester: Requester(2) };
        assert_eq!(generator.send(cancel).await, Ok(()));
        (0..6).for_each(|_| permit.send(()).expect("the worker waits"));
        let mut order = Vec::new();
        for _ in 0..3 {
            let ready = heard(&ready).await;
            order.push((ready.chunk.x, ready.wanted_by.len()));
        }
        assert_eq!(order, [(0, 1), (2, 2), (1, 1)]);
    }

    #[actix::test]
    async fn chunks_outside_the_world_are_refused() {
        let (generator, _ready) = start(Arc::new(Seeded::new(1)));
        let ask = need(i32::MAX, 1, 0);
        let refused = generator.send(ask).await.expect("alive");
        assert_eq!(refused, Err(Refused::OutsideWorld { chunk: ask.chunk }));
    }

    #[actix::test]
    async fn another_run_finds_what_this_one_left_on_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = async |terrain: Arc<dyn Terrain>| {
            let (told, ready) = sync_channel(64);
            let outbox = Outbox { ready: Ears(told).start().recipient() };
            let settings =
                Settings { folder: Some(folder.path().into()), workers: 2, ..Settings::default() };
            let generator = GeneratorActor::new(terrain, outbox, settings).start();
            let mut hashes = BTreeSet::new();
            for x in 0..6 {
                assert_eq!(generator.send(need(x, 1, 0)).await, Ok(Ok(())));
                hashes.insert(heard(&ready).await.hash);
            }
            hashes
        };
        let (permit, permits) = sync_channel(64);
        (0..6).for_each(|_| permit.send(()).expect("room"));
        let first = run(Arc::new(Gate(permits.into()))).await;
        // Without a permit nothing can be made: the second run reads.
        let (_permit, permits) = sync_channel(64);
        assert_eq!(run(Arc::new(Gate(permits.into()))).await, first);
        assert_eq!(first.len(), 6);
    }
}
