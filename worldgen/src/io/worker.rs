//! The threads that make chunks: low in priority, nearest first, one chunk at a time.
//!
//! Owns threads and the lock they share with the actor, which nobody holds while working. What is
//! made next is decided in [`demand`](crate::demand); who is told, in the actor.
//!
//! A terrain that panics costs the chunk it was asked for and nothing else: the thread goes on, and
//! the chunk is not tried again in this run.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use protocol::ids::{ChunkId, ContentHash};
use tracing::{error, warn};

use crate::chunk::{Chunk, decode, encode};
use crate::demand::{Asked, Demand, Requester};
use crate::io::cache::DiskCache;
use crate::limits::{BROKEN_CHUNKS_MAX, QUEUE_CHUNKS_MAX, WORKER_NICE, WORKERS_MAX};
use crate::terrain::Terrain;

/// Chunks made and not collected yet: past it workers rest until the actor catches up.
const MADE_MAX: usize = 256;

/// A chunk in every form it is used in.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Which one.
    pub chunk: ChunkId,
    /// As it travels.
    pub bytes: Arc<[u8]>,
    /// The name of the bytes.
    pub hash: ContentHash,
    /// As it is walked on.
    pub decoded: Arc<Chunk>,
}

/// Where chunks are kept between runs.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The folder, made if absent.
    pub path: PathBuf,
    /// Bytes its files take at most.
    pub bytes_max: u64,
}

/// Worker threads and what they share with their owner; dropped, they end.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    terrain: Arc<dyn Terrain>,
    folder: Option<Folder>,
    // Opened by the first worker, since listing a folder takes time.
    disk: OnceLock<Mutex<DiskCache>>,
    board: Mutex<Board>,
    changed: Condvar,
}

struct Board {
    demand: Demand,
    made: VecDeque<(Finished, Vec<Requester>)>,
    /// Chunks at which the terrain panicked.
    broken: BTreeSet<ChunkId>,
    panics: u64,
    closing: bool,
}

impl Workers {
    /// Returns the workers of `terrain`, none of which runs yet.
    #[must_use]
    pub fn new(terrain: Arc<dyn Terrain>, folder: Option<Folder>) -> Self {
        let demand = Demand::new(QUEUE_CHUNKS_MAX);
        let board = Board {
            demand,
            made: VecDeque::new(),
            broken: BTreeSet::new(),
            panics: 0,
            closing: false,
        };
        let shared = Shared {
            terrain,
            folder,
            disk: OnceLock::new(),
            board: Mutex::new(board),
            changed: Condvar::new(),
        };
        Self { shared: Arc::new(shared), threads: Vec::new() }
    }

    /// Starts `count` threads, at least one; each calls `announce` when it has made a chunk.
    ///
    /// A thread the system refuses is logged; with none at all, nothing is ever made.
    pub fn start(&mut self, count: usize, announce: impl Fn() + Clone + Send + 'static) {
        for index in 0..count.clamp(1, WORKERS_MAX) {
            let (shared, announce) = (Arc::clone(&self.shared), announce.clone());
            let name = format!("worldgen-{index}");
            match thread::Builder::new().name(name).spawn(move || work(&shared, announce)) {
                Ok(thread) => self.threads.push(thread),
                Err(error) => warn!(%error, "a worldgen thread does not start"),
            }
        }
    }

    /// See [`Demand::want`].
    #[must_use]
    pub fn want(&self, chunk: ChunkId, requester: Requester, distance_m: u32) -> Asked {
        let asked = self.shared.board().demand.want(chunk, requester, distance_m);
        self.shared.changed.notify_one();
        asked
    }

    /// See [`Demand::cancel`].
    pub fn cancel(&self, chunk: ChunkId, requester: Requester) {
        self.shared.board().demand.cancel(chunk, requester);
    }

    /// See [`Demand::cancel_all`].
    pub fn cancel_all(&self, requester: Requester) {
        self.shared.board().demand.cancel_all(requester);
    }

    /// Returns how often the terrain panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.shared.board().panics
    }

    /// Returns what was made since the last call and who still wants each.
    #[must_use]
    pub fn collect(&self) -> VecDeque<(Finished, Vec<Requester>)> {
        let made = std::mem::take(&mut self.shared.board().made);
        if !made.is_empty() {
            self.shared.changed.notify_all();
        }
        made
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.board().closing = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                warn!("a worldgen thread had panicked");
            }
        }
    }
}

impl Shared {
    /// No code that holds the lock can leave it half changed, so a poisoned one is still good.
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a chunk to make; nothing means that it is time to end.
    fn next(&self) -> Option<ChunkId> {
        let mut board = self.board();
        loop {
            if board.closing {
                return None;
            }
            if board.made.len() < MADE_MAX
                && let Some(chunk) = board.demand.take()
            {
                return Some(chunk);
            }
            board = self.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, chunk: ChunkId, finished: Option<Finished>) {
        let mut board = self.board();
        let wanted_by = board.demand.finish(chunk);
        board.made.extend(finished.map(|finished| (finished, wanted_by)));
    }

    /// Makes a chunk; nothing if there is none, or the terrain panics at it.
    fn try_make(&self, chunk: ChunkId) -> Option<Finished> {
        if self.board().broken.contains(&chunk) {
            return None;
        }
        // What a panic leaves half done is dropped with it: the terrain has no state to spoil, and
        // the cache writes whole files.
        let made = catch_unwind(AssertUnwindSafe(|| self.make(chunk)));
        made.unwrap_or_else(|_| {
            let mut board = self.board();
            board.panics += 1;
            // Beyond the bound a chunk is tried, and reported, each time it is asked for.
            if board.broken.len() < BROKEN_CHUNKS_MAX {
                board.broken.insert(chunk);
            }
            let panics = board.panics;
            drop(board);
            error!(%chunk, panics, "the terrain panicked; the chunk stays unknown in this run");
            None
        })
    }

    fn disk(&self) -> Option<MutexGuard<'_, DiskCache>> {
        let folder = self.folder.as_ref()?;
        let open = || {
            let fingerprint = self.terrain.fingerprint();
            Mutex::new(DiskCache::open(&folder.path, fingerprint, folder.bytes_max))
        };
        Some(self.disk.get_or_init(open).lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn make(&self, chunk: ChunkId) -> Option<Finished> {
        let cached = self.disk().and_then(|mut disk| disk.load(chunk));
        if let Some(bytes) = cached
            && let Ok(decoded) = decode(&bytes)
            && decoded.id() == chunk
        {
            return Some(finished(decoded, bytes));
        }
        let made = self.terrain.chunk(chunk)?;
        let bytes = encode(&made);
        let finished = finished(made, bytes);
        if let Some(mut disk) = self.disk() {
            disk.store(chunk, finished.hash, &finished.bytes);
        }
        Some(finished)
    }
}

fn finished(decoded: Chunk, bytes: Vec<u8>) -> Finished {
    let hash = ContentHash::of(&bytes);
    Finished { chunk: decoded.id(), bytes: bytes.into(), hash, decoded: Arc::new(decoded) }
}

fn work(shared: &Shared, announce: impl Fn()) {
    lower_priority();
    while let Some(chunk) = shared.next() {
        let finished = shared.try_make(chunk);
        shared.finish(chunk, finished);
        announce();
    }
}

/// Puts this thread behind those that tick.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the standard library sets no thread priority")]
fn lower_priority() {
    // SAFETY: the call takes numbers only; on Linux, 0 names the calling thread.
    let refused = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, WORKER_NICE) };
    if refused != 0 {
        warn!("worldgen threads run at normal priority");
    }
}

/// Elsewhere a nice value belongs to the whole process, which must stay as it is.
#[cfg(not(target_os = "linux"))]
fn lower_priority() {
    tracing::debug!(WORKER_NICE, "worldgen threads run at normal priority on this system");
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::seed::Seeded;
    use crate::terrain::Climate;

    /// Ground with a chunk that cannot be made.
    struct Trap {
        at: ChunkId,
        sprung: Arc<AtomicU64>,
    }

    impl Terrain for Trap {
        fn height_cm(&self, _: i32, _: i32) -> i32 {
            0
        }

        fn climate(&self) -> Climate {
            Climate { seed: 0, tree_line_m: 500.0, snow_line_m: 900.0 }
        }

        fn describe(&self) -> String {
            "ground with a trap".into()
        }

        fn fingerprint(&self) -> ContentHash {
            ContentHash::of(b"trap")
        }

        fn chunk(&self, id: ChunkId) -> Option<Chunk> {
            if id == self.at {
                self.sprung.fetch_add(1, Ordering::Relaxed);
                panic!("a trap, as the test wants it");
            }
            Seeded::new(1).chunk(id)
        }
    }

    #[test]
    fn a_panic_costs_its_chunk_and_no_more() {
        let chunk = |x| ChunkId { level: 0, x, z: 0 };
        let sprung = Arc::new(AtomicU64::new(0));
        let terrain = Trap { at: chunk(1), sprung: Arc::clone(&sprung) };
        let mut workers = Workers::new(Arc::new(terrain), None);
        let (tell, told) = sync_channel(16);
        workers.start(1, move || tell.send(()).expect("the test listens"));
        for x in [1, 2, 1, 3] {
            assert_eq!(workers.want(chunk(x), Requester(7), 10), Asked::Waiting);
            told.recv().expect("the one thread goes on");
        }
        let made: Vec<_> = workers.collect().into_iter().map(|(it, who)| (it.chunk, who)).collect();
        assert_eq!(made, [(chunk(2), vec![Requester(7)]), (chunk(3), vec![Requester(7)])]);
        assert_eq!((workers.panics(), sprung.load(Ordering::Relaxed)), (1, 1), "tried once");
    }
}
