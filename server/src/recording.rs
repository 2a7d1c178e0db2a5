//! Recorded worlds: all that goes into each step of each shard, and what hash came out, so that the
//! same steps can be made again.
//!
//! Here is how records lie in a file and how they are gathered, within a bound; whoever records and
//! where to is decided elsewhere. A file ends wherever its writer did: what is whole before that
//! counts. Its layout belongs to one version of the program, as that of a link does.

pub mod replay;

use std::io::{self, Read};

use protocol::ids::WorldId;
use protocol::units::Tick;
use rkyv::api::high::HighSerializer;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::link::{self, BadFrame, FRAME_BYTES_MAX, PROGRAM, WorldTerms};
use crate::region::RegionIndex;
use crate::shard::batch::{StepInput, StepOutput};
use crate::shard::pack::Packed;

/// How a file begins; the digit is the version of all that follows.
pub const MAGIC: &[u8; 8] = b"ECSTEP1\n";

/// Bytes in front of a record's own: kind, region, length, check.
const HEAD_BYTES: usize = 1 + 4 + 4 + CHECK_BYTES;

/// Bytes of a record's check: one damaged record in 2^64 looks whole.
const CHECK_BYTES: usize = 8;

/// Bytes of the hash of what came out of a step.
const HASH_BYTES: usize = 32;

/// Room that is kept for the last record, which says why the recording ended.
const LAST_BYTES: u64 = 1_024;

/// Kinds of records.
mod kind {
    pub const HEAD: u8 = 1;
    pub const SHARD: u8 = 2;
    pub const STEP: u8 = 3;
    pub const MADE: u8 = 4;
    pub const END: u8 = 5;
    pub const MOVED: u8 = 6;
}

/// What a recording begins with.
#[derive(Clone, Debug, Archive, Serialize, Deserialize)]
pub struct Head {
    /// Which program made the steps.
    pub program: String,
    /// The world.
    pub world: WorldId,
    /// Its rules.
    pub terms: WorldTerms,
}

impl Head {
    /// Returns the head of a recording that this program makes.
    #[must_use]
    pub fn new(world: WorldId, terms: WorldTerms) -> Self {
        Self { program: PROGRAM.into(), world, terms }
    }
}

/// The hash of all that a step put out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputHash([u8; HASH_BYTES]);

impl OutputHash {
    /// Returns the hash of what a step put out, before anything is done with it.
    ///
    /// # Errors
    /// [`BadFrame`]: it is larger than anything a shard puts out.
    pub fn of(output: &StepOutput) -> Result<Self, BadFrame> {
        Ok(Self(blake3::hash(&link::body(output)?).into()))
    }
}

impl std::fmt::Display for OutputHash {
    /// Writes its first eight bytes: enough to tell two apart.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One record.
#[derive(Debug)]
pub enum Record {
    /// The rules, first of all.
    Head(Head),
    /// A shard is as packed from here on: it began, at the start or anew after a loss.
    Shard(Box<Packed>),
    /// A shard was packed up and goes on elsewhere. What it knows only to be quick is not packed,
    /// and so the one that is stepped again is packed at the same moment.
    Moved {
        /// Whose.
        region: RegionIndex,
    },
    /// What goes into a step.
    Step {
        /// Of whose shard.
        region: RegionIndex,
        /// What.
        input: StepInput,
    },
    /// What came out of a step. Of a shard in another process, it comes later than the next steps;
    /// it never comes if that process was lost.
    Made {
        /// Of whose shard.
        region: RegionIndex,
        /// The tick that was stepped to.
        tick: Tick,
        /// The hash of it.
        hash: OutputHash,
    },
    /// The recording ended in good order.
    End {
        /// Why, for people.
        why: String,
    },
}

/// Why nothing more is recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The file is as long as it may be.
    #[error("the file is as long as it may be, {max} bytes")]
    Bytes {
        /// The bound.
        max: u64,
    },
    /// Something that does not fit a record.
    #[error("something does not fit a record: {0}")]
    Record(BadFrame),
}

/// Gathers records until somebody takes their bytes.
#[derive(Debug)]
pub struct Sheet {
    bytes: Vec<u8>,
    /// Bytes that may still be gathered, before room for the last record is used.
    left: u64,
    max: u64,
}

impl Sheet {
    /// Returns the beginning of a recording of `bytes_max` bytes at most.
    ///
    /// # Errors
    /// [`Full`] when not even the head fits.
    pub fn begin(head: &Head, bytes_max: u64) -> Result<Self, Full> {
        let mut sheet = Self {
            bytes: MAGIC.to_vec(),
            left: bytes_max.saturating_sub(LAST_BYTES),
            max: bytes_max,
        };
        let body = link::body(head).map_err(Full::Record)?;
        sheet.put(kind::HEAD, RegionIndex(0), &body)?;
        Ok(sheet)
    }

    /// Records a shard that begins.
    ///
    /// # Errors
    /// [`Full`]; nothing more is to be recorded then.
    pub fn shard(&mut self, shard: &Packed) -> Result<(), Full> {
        self.archive(kind::SHARD, shard.region(), shard)
    }

    /// Records that a shard was packed up and goes on elsewhere.
    ///
    /// # Errors
    /// [`Full`]; nothing more is to be recorded then.
    pub fn moved(&mut self, region: RegionIndex) -> Result<(), Full> {
        self.put(kind::MOVED, region, &[])
    }

    /// Records what goes into a step.
    ///
    /// # Errors
    /// [`Full`]; nothing more is to be recorded then.
    pub fn step(&mut self, region: RegionIndex, input: &StepInput) -> Result<(), Full> {
        self.archive(kind::STEP, region, input)
    }

    /// Records what came out of a step.
    ///
    /// # Errors
    /// [`Full`]; nothing more is to be recorded then.
    pub fn made(&mut self, region: RegionIndex, tick: Tick, hash: OutputHash) -> Result<(), Full> {
        let mut body = [0; 8 + HASH_BYTES];
        body[..8].copy_from_slice(&tick.0.to_le_bytes());
        body[8..].copy_from_slice(&hash.0);
        self.put(kind::MADE, region, &body)
    }

    /// Returns what was gathered since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Returns how many bytes were gathered since the last time.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether nothing was gathered since the last time.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn archive<T>(&mut self, kind: u8, region: RegionIndex, what: &T) -> Result<(), Full>
    where
        T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
    {
        let body = link::body(what).map_err(Full::Record)?;
        self.put(kind, region, &body)
    }

    fn put(&mut self, kind: u8, region: RegionIndex, body: &[u8]) -> Result<(), Full> {
        let whole = (HEAD_BYTES + body.len()) as u64;
        self.left = self.left.checked_sub(whole).ok_or(Full::Bytes { max: self.max })?;
        write(kind, region, body, &mut self.bytes);
        Ok(())
    }
}

/// Returns the last record of a recording, for which there always is room.
#[must_use]
pub fn end(why: &str) -> Vec<u8> {
    let room = LAST_BYTES as usize - HEAD_BYTES;
    let mut end = why.len().min(room);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = Vec::new();
    write(kind::END, RegionIndex(0), &why.as_bytes()[..end], &mut bytes);
    bytes
}

fn write(kind: u8, region: RegionIndex, body: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let front = front(kind, region.0, length);
    out.extend_from_slice(&front);
    out.extend_from_slice(&check(&front, body));
    out.extend_from_slice(body);
}

fn front(kind: u8, region: u32, length: u32) -> [u8; HEAD_BYTES - CHECK_BYTES] {
    let mut front = [kind; HEAD_BYTES - CHECK_BYTES];
    front[1..5].copy_from_slice(&region.to_le_bytes());
    front[5..].copy_from_slice(&length.to_le_bytes());
    front
}

fn check(front: &[u8], body: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    let hash = *hasher.update(front).update(body).finalize().as_bytes();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash[..CHECK_BYTES]);
    check
}

/// What keeps a recording from being read on.
#[derive(Debug, thiserror::Error)]
pub enum BadRecording {
    /// The file is something else.
    #[error("not a recorded world: it must begin with ECSTEP1")]
    Magic,
    /// The file ends within a record, as one does whose writer was killed.
    #[error("cut off within the record at byte {at}")]
    Cut {
        /// Where that record begins.
        at: u64,
    },
    /// A record is not as it was written.
    #[error("damaged in the record at byte {at}: {why}")]
    Damaged {
        /// Where it begins.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// Reads the records of a recording, in order.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    at: u64,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// [`BadRecording`] if it is no recording.
    pub fn new(mut from: R) -> Result<Self, BadRecording> {
        let mut magic = [0; MAGIC.len()];
        if fill(&mut from, &mut magic)? < magic.len() || magic != *MAGIC {
            return Err(BadRecording::Magic);
        }
        Ok(Self { from, at: MAGIC.len() as u64 })
    }

    /// Returns the next record; nothing where the file ends behind a whole one.
    ///
    /// # Errors
    /// [`BadRecording`]; there is no reading on behind it.
    pub fn next_record(&mut self) -> Result<Option<Record>, BadRecording> {
        let at = self.at;
        let damaged =
            |why: &dyn std::fmt::Display| BadRecording::Damaged { at, why: why.to_string() };
        let mut head = [0; HEAD_BYTES];
        match fill(&mut self.from, &mut head)? {
            0 => return Ok(None),
            HEAD_BYTES => {}
            _ => return Err(BadRecording::Cut { at }),
        }
        let (front, told) = head.split_at(HEAD_BYTES - CHECK_BYTES);
        let region = RegionIndex(u32::from_le_bytes([front[1], front[2], front[3], front[4]]));
        let length = [front[5], front[6], front[7], front[8]];
        let length = link::body_bytes(length, FRAME_BYTES_MAX).map_err(|bad| damaged(&bad))?;
        // No more room is made than there are bytes: a damaged length may name any number.
        let mut body = Vec::new();
        let read = (&mut self.from).take(length as u64).read_to_end(&mut body)?;
        if read < length {
            return Err(BadRecording::Cut { at });
        }
        if check(front, &body) != told {
            return Err(damaged(&"its check does not fit"));
        }
        self.at += (HEAD_BYTES + length) as u64;
        let record = match front[0] {
            kind::HEAD => link::read(&body).map(Record::Head),
            kind::SHARD => link::read(&body).map(|shard| Record::Shard(Box::new(shard))),
            kind::MOVED => Ok(Record::Moved { region }),
            kind::STEP => link::read(&body).map(|input| Record::Step { region, input }),
            kind::MADE => return made(region, &body).map(Some).ok_or_else(|| damaged(&"no hash")),
            kind::END => Ok(Record::End { why: String::from_utf8_lossy(&body).into_owned() }),
            other => return Err(damaged(&format!("kind {other}, of which nothing is known"))),
        };
        record.map(Some).map_err(|bad| damaged(&bad))
    }
}

fn made(region: RegionIndex, body: &[u8]) -> Option<Record> {
    let (tick, hash) = body.split_first_chunk::<8>()?;
    let tick = Tick(u64::from_le_bytes(*tick));
    Some(Record::Made { region, tick, hash: OutputHash(hash.try_into().ok()?) })
}

/// Reads until `into` is full or there is no more; returns how much there was.
fn fill(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match from.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
