//! Writes down a world's steps, for `ecumene-sim --replay`: the gateway gathers them, a thread of
//! its own writes them.
//!
//! The beat never waits for the disk. Where more waits for it than may, the file is as long as it
//! may be, or the disk refuses, the recording ends with a loud word of why, and the world goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use protocol::units::Tick;
use tracing::{error, warn};

use crate::io::files::{FileError, refused};
use crate::recording::{self, Full, Head, OutputHash, Sheet};
use crate::region::RegionIndex;
use crate::shard::batch::{StepInput, StepOutput};
use crate::shard::pack::Packed;

/// Ticks that may wait for the disk: twelve seconds at 20 Hz, a long pause of a slow disk.
const TICKS_MAX: usize = 256;

/// Bytes that may wait for the disk: a tick of 2,000 clients puts 150 KB, in [`TICKS_MAX`] 38 MB.
const WAITING_BYTES_MAX: u64 = 64 << 20;

/// How long a server that ends waits for the last records to be written.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// What an operator wants recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordTo {
    /// The file, which must not be there yet.
    pub path: PathBuf,
    /// How long it may become, in bytes.
    pub bytes_max: u64,
}

/// Why nothing is recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bound is too small for anything.
    #[error("nothing can be recorded: {0}")]
    Full(#[from] Full),
    /// The thread.
    #[error("cannot start a thread to record: {0}")]
    Thread(io::Error),
}

/// Takes what is to be recorded; once the recording has ended it takes it for nothing.
#[derive(Debug)]
pub struct Recorder {
    sheet: Sheet,
    /// Nothing once the recording has ended.
    queue: Option<SyncSender<Vec<u8>>>,
    waiting: Arc<AtomicU64>,
    why: Arc<OnceLock<String>>,
}

/// The thread that writes; whoever drops this waits for it, for a moment.
#[derive(Debug)]
pub struct Writing {
    /// Nothing ever comes; it ends with the thread.
    done: Receiver<()>,
}

impl Recorder {
    /// Begins a recording in a new file, which its owner alone can read.
    ///
    /// # Errors
    /// [`RecordError`]: the file is there already, or the disk refuses.
    pub fn create(to: &RecordTo, head: &Head) -> Result<(Self, Writing), RecordError> {
        let sheet = Sheet::begin(head, to.bytes_max)?;
        let mut open = OpenOptions::new();
        let file = open.write(true).create_new(true).mode(0o600).open(&to.path);
        let file = file.map_err(refused("record to", &to.path))?;
        let (queue, taken) = mpsc::sync_channel(TICKS_MAX);
        let (waiting, why) = (Arc::<AtomicU64>::default(), Arc::<OnceLock<String>>::default());
        let (done, is_done) = mpsc::sync_channel::<()>(0);
        let writer = Writer {
            file,
            path: to.path.clone(),
            waiting: Arc::clone(&waiting),
            why: Arc::clone(&why),
        };
        let work = move || {
            writer.run(&taken);
            // Whoever waits for this thread hears that nobody is left to say more.
            drop(done);
        };
        let thread = std::thread::Builder::new().name("recorder".into());
        thread.spawn(work).map_err(RecordError::Thread)?;
        Ok((Self { sheet, queue: Some(queue), waiting, why }, Writing { done: is_done }))
    }

    /// Returns whether the recording has ended.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.queue.is_none()
    }

    /// Records a shard that begins.
    pub fn shard(&mut self, shard: &Packed) {
        if !self.is_over() {
            let taken = self.sheet.shard(shard);
            self.or_end(taken);
        }
    }

    /// Records that a shard was packed up and goes on elsewhere.
    pub fn moved(&mut self, region: RegionIndex) {
        if !self.is_over() {
            let taken = self.sheet.moved(region);
            self.or_end(taken);
        }
    }

    /// Records what goes into a step.
    pub fn step(&mut self, region: RegionIndex, input: &StepInput) {
        if !self.is_over() {
            let taken = self.sheet.step(region, input);
            self.or_end(taken);
        }
    }

    /// Records what came out of a step, before anything is done with it.
    pub fn made(&mut self, region: RegionIndex, tick: Tick, output: &StepOutput) {
        if !self.is_over() {
            let hash = OutputHash::of(output).map_err(Full::Record);
            let taken = hash.and_then(|hash| self.sheet.made(region, tick, hash));
            self.or_end(taken);
        }
    }

    /// Gives what was gathered in a tick to the thread that writes.
    pub fn hand_over(&mut self) {
        let Some(queue) = &self.queue else { return };
        let bytes = self.sheet.take();
        let waiting = self.waiting.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if WAITING_BYTES_MAX < waiting || queue.try_send(bytes).is_err() {
            // What waits is written yet; this tick and all that follow are not.
            self.close("the disk does not keep up, or refuses");
        }
    }

    /// Ends the recording with what was gathered so far.
    pub fn end(&mut self, why: &str) {
        self.hand_over();
        self.close(why);
    }

    fn or_end(&mut self, taken: Result<(), Full>) {
        if let Err(full) = taken {
            self.end(&full.to_string());
        }
    }

    fn close(&mut self, why: &str) {
        if let Some(queue) = self.queue.take() {
            // The first reason is the one. It is there before the thread hears that this was all.
            drop(self.why.set(why.to_owned()));
            drop(queue);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end("the server ended");
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.done.recv_timeout(LAST_WRITES) == Err(RecvTimeoutError::Timeout) {
            error!("the end of the recording could not be written in time");
        }
    }
}

/// What the thread works with.
struct Writer {
    file: File,
    path: PathBuf,
    waiting: Arc<AtomicU64>,
    why: Arc<OnceLock<String>>,
}

impl Writer {
    fn run(mut self, taken: &Receiver<Vec<u8>>) {
        let path = self.path.display().to_string();
        let mut written = 0;
        while let Ok(bytes) = taken.recv() {
            if let Err(error) = self.file.write_all(&bytes) {
                return error!(%error, path, "the recording ends: it cannot be written");
            }
            written += bytes.len();
            self.waiting.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
        }
        let why = self.why.get().map_or("", String::as_str);
        let last = self.file.write_all(&recording::end(why)).and_then(|()| self.file.sync_all());
        match last {
            Ok(()) => warn!(path, bytes = written, why, "the recording has ended"),
            Err(error) => error!(%error, path, "the recording lacks its end"),
        }
    }
}

/// Opens a recording to be read.
///
/// # Errors
/// [`FileError`] when it cannot be opened.
pub fn open(path: &Path) -> Result<io::BufReader<File>, FileError> {
    let file = File::open(path).map_err(refused("read", path))?;
    Ok(io::BufReader::new(file))
}
