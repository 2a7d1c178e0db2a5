//! What a server and a process that runs shards for it say to each other.
//!
//! Both ends are the same program: a link is no interface for others, and its layout may change
//! with every version. The layout of what comes in is validated all the same, and bounded before it
//! is read; what it says about the world is believed, but not how that is divided.

#![expect(missing_docs, reason = "rkyv writes none for what resolves variants with fields")]

use std::sync::Arc;
use std::time::Duration;

use protocol::motion::MotionRules;
use protocol::rules::{BadBook, RuleBook};
use protocol::units::Tick;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::region::{RegionIndex, Regions};
use crate::shard::WorldRules;
use crate::shard::batch::{StepInput, StepOutput};
use crate::shard::pack::Packed;

/// The protocol's name in the TLS handshake.
pub const LINK_ALPN: &[u8] = b"ecumene-shard/1";

/// Which program this is: both ends of a link must be the same.
pub const PROGRAM: &str = concat!("ecumene ", env!("CARGO_PKG_VERSION"));

/// Bytes of one frame: a packed shard with the ground around a crowd.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Bytes of the first frame, sent before anyone is trusted: a token and some numbers.
pub const JOIN_BYTES_MAX: usize = 16 << 10;

/// Bytes in front of each frame: its length as a little-endian `u32`.
pub const LENGTH_BYTES: usize = 4;

/// A world's rules, as a shard in another process is told them.
#[derive(Clone, Debug, Archive, Serialize, Deserialize)]
pub struct WorldTerms {
    /// How the world is divided.
    pub regions: Regions,
    /// How bodies move.
    pub motion: MotionRules,
    /// The text of the rule book.
    pub book: String,
    /// How far one sees, in centimetres.
    pub view_cm: i32,
    /// How far speech carries, in centimetres.
    pub nearby_cm: u32,
    /// How far a whisper carries, in centimetres.
    pub whisper_cm: u32,
}

impl WorldTerms {
    /// Returns the rules of a world and the text of its rule book, to be told.
    #[must_use]
    pub fn of(rules: &WorldRules, book: &str) -> Self {
        Self {
            regions: rules.regions.clone(),
            motion: rules.motion.clone(),
            book: book.to_owned(),
            view_cm: rules.view_cm,
            nearby_cm: rules.nearby_cm,
            whisper_cm: rules.whisper_cm,
        }
    }

    /// Returns the rules that were told.
    ///
    /// # Errors
    /// [`BadBook`]; whoever told them is at fault.
    pub fn rules(&self) -> Result<WorldRules, BadBook> {
        Ok(WorldRules {
            regions: self.regions.clone(),
            motion: self.motion.clone(),
            book: Arc::new(RuleBook::parse(&self.book)?),
            view_cm: self.view_cm,
            nearby_cm: self.nearby_cm,
            whisper_cm: self.whisper_cm,
        })
    }
}

/// What the server says.
#[derive(Debug, Archive, Serialize, Deserialize)]
pub enum Down {
    /// Who is there, first of all.
    Greeting {
        /// Which program this is.
        program: String,
    },
    /// The rules of the world, to whoever may run shards of it.
    Terms(WorldTerms),
    /// Run this shard from now on.
    Host {
        /// The shard.
        shard: Box<Packed>,
    },
    /// Step a shard.
    Step {
        /// Which.
        region: RegionIndex,
        /// What goes in.
        input: StepInput,
    },
    /// The process is given up.
    Ended {
        /// Why, for people.
        why: String,
    },
    /// Give a shard back, packed.
    Pack {
        /// Which.
        region: RegionIndex,
    },
}

/// What the process says.
#[derive(Debug, Archive, Serialize, Deserialize)]
pub enum Up {
    /// May I run these regions?
    Join {
        /// Which program this is.
        program: String,
        /// Its right to do so.
        token: Vec<u8>,
        /// Which regions.
        regions: Vec<RegionIndex>,
    },
    /// A step was made.
    Stepped {
        /// Whose shard.
        region: RegionIndex,
        /// The tick it is at.
        tick: Tick,
        /// What came of it.
        output: StepOutput,
        /// How long it took.
        took: Duration,
    },
    /// A shard is given back.
    Packed {
        /// The shard.
        shard: Box<Packed>,
    },
    /// Take everything back: the process wants to end.
    Leave,
}

/// Bytes that are no frame of a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Longer than allowed.
    #[error("a frame of {bytes} bytes, at most {max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Not readable.
    #[error("a frame of {bytes} bytes that cannot be read: {why}")]
    Unreadable {
        /// Its length.
        bytes: usize,
        /// What is wrong.
        why: String,
    },
}

/// Returns the body of the frame of a message.
///
/// # Errors
/// [`BadFrame::TooLong`]: what it carries is larger than any frame.
pub fn body<T>(message: &T) -> Result<AlignedVec, BadFrame>
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
{
    let body = rkyv::to_bytes::<rancor::Error>(message)
        .map_err(|error| BadFrame::Unreadable { bytes: 0, why: error.to_string() })?;
    if FRAME_BYTES_MAX < body.len() {
        return Err(BadFrame::TooLong { bytes: body.len(), max: FRAME_BYTES_MAX });
    }
    Ok(body)
}

/// Returns a message as a frame, its length in front.
///
/// # Errors
/// [`BadFrame::TooLong`]: what it carries is larger than any frame.
pub fn write<T>(message: &T) -> Result<Vec<u8>, BadFrame>
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
{
    let body = body(message)?;
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(LENGTH_BYTES + body.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Returns the length of the body that `length` announces, if that is at most `max`.
///
/// # Errors
/// [`BadFrame::TooLong`]; the sender is at fault.
pub fn body_bytes(length: [u8; LENGTH_BYTES], max: usize) -> Result<usize, BadFrame> {
    let bytes = u32::from_le_bytes(length) as usize;
    if max < bytes { Err(BadFrame::TooLong { bytes, max }) } else { Ok(bytes) }
}

/// Reads the body of a frame.
///
/// # Errors
/// [`BadFrame::Unreadable`]; the sender is at fault.
pub fn read<T>(body: &[u8]) -> Result<T, BadFrame>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
        + Deserialize<T, HighDeserializer<rancor::Error>>,
{
    rkyv::from_bytes::<T, rancor::Error>(body)
        .map_err(|error| BadFrame::Unreadable { bytes: body.len(), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::ids::IdMint;

    use super::*;
    use crate::shard::Shard;
    use crate::shard::batch::Command;

    fn rules() -> WorldRules {
        WorldRules {
            regions: Regions::new(3, 6_400),
            motion: MotionRules::default(),
            book: Arc::new(RuleBook::starter()),
            view_cm: 4_000,
            nearby_cm: 2_000,
            whisper_cm: 300,
        }
    }

    /// A shard with something of the world in it.
    fn shard() -> Shard {
        let rules = rules();
        let mut shard = Shard::new(
            rules.regions.region(RegionIndex(4)).expect("a region"),
            rules,
            IdMint::new(1),
        );
        let things = protocol::rules::Things::default().record().things;
        let input = StepInput {
            tick: Tick(1),
            commands: vec![Command::Things(things), Command::TellAnew(RegionIndex(1))],
            ..StepInput::default()
        };
        shard.step(input, &mut StepOutput::default());
        shard
    }

    #[test]
    fn what_is_longer_than_allowed_is_not_waited_for() {
        assert_eq!(body_bytes([5, 0, 0, 0], 5), Ok(5));
        let long = Err(BadFrame::TooLong { bytes: 6, max: 5 });
        assert_eq!(body_bytes([6, 0, 0, 0], 5), long);
    }

    #[test]
    fn a_shard_reads_back_from_its_frame() {
        let sent = body(&Up::Packed { shard: Box::new(shard().pack()) }).expect("a frame");
        let Ok(Up::Packed { shard }) = read(&sent) else { panic!("a shard") };
        assert_eq!((shard.region(), shard.tick()), (RegionIndex(4), Tick(1)));
        let again =
            body(&Up::Packed { shard: Box::new(shard.unpack(rules()).expect("it fits").pack()) });
        assert_eq!(again.expect("a frame")[..], sent[..]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_frame_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_048)) {
            drop(read::<Up>(&bytes));
            drop(read::<Down>(&bytes));
        }

        #[test]
        fn no_damage_to_a_shard_or_a_step_makes_its_reader_panic(
            is_shard in any::<bool>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let said = if is_shard {
                Up::Packed { shard: Box::new(shard().pack()) }
            } else {
                let (region, tick, took) = (RegionIndex(4), Tick(1), Duration::ZERO);
                let mut output = StepOutput { frame_bytes: vec![7; 9], ..StepOutput::default() };
                output.frames.push((crate::shard::viewer::ClientKey(1), 9));
                Up::Stepped { region, tick, output, took }
            };
            let mut bytes = body(&said).expect("a frame");
            for (at, byte) in changes {
                *at.get_mut(&mut bytes) = byte;
            }
            match read::<Up>(&bytes) {
                Ok(Up::Packed { shard }) => drop(shard.unpack(rules())),
                Ok(Up::Stepped { output, .. }) => {
                    // What is let through can be cut into frames.
                    let mut start = 0;
                    if output.check(&rules().regions).is_ok() {
                        for &(_, end) in &output.frames {
                            prop_assert!(output.frame_bytes.get(start..end).is_some());
                            start = end;
                        }
                    }
                }
                Ok(Up::Join { .. } | Up::Leave) | Err(_) => {}
            }
        }
    }
}
