//! What a client is shown: how many frames came, and how many never did.

use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use protocol::capture::{Channel, Record};
use protocol::delta::FRAME_KIND;
use protocol::io::tap::Tap;

/// Frames of a hundred that may be missing: datagrams are not sent twice.
const MISSING_PERCENT_MAX: usize = 2;

/// Counts the frames that a client gets, by the low bits of their ticks.
#[derive(Default)]
pub struct Frames(Mutex<Vec<u16>>);

impl Tap for Frames {
    fn hear(&self, record: &Record<'_>) {
        if record.from_client || record.channel != Channel::Datagram {
            return;
        }
        if let [FRAME_KIND, low, high, ..] = record.bytes {
            let mut ticks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            ticks.push(u16::from_le_bytes([*low, *high]));
        }
    }
}

impl Frames {
    /// Counts from now on.
    pub fn begin(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns how many ticks went by and how many of them brought no frame.
    #[must_use]
    pub fn missing(&self) -> (usize, usize) {
        let ticks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(&first), Some(&last)) = (ticks.first(), ticks.last()) else { return (0, 0) };
        let span = usize::from(last.wrapping_sub(first)) + 1;
        (span, span.saturating_sub(ticks.len()))
    }
}

/// Checks that of the frames of so many ticks hardly any are missing.
///
/// # Errors
/// When there are too few ticks to say, or too many are missing.
pub fn came((ticks, missing): (usize, usize), ticks_min: usize) -> Result<()> {
    ensure!(ticks_min <= ticks, "the world went on for {ticks} ticks, not {ticks_min}");
    let is_fine = missing * 100 <= ticks * MISSING_PERCENT_MAX;
    ensure!(is_fine, "{missing} of {ticks} frames are missing");
    Ok(())
}
