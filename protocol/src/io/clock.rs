//! The clock: microseconds since this process first asked. Nothing else of this crate reads one.

use std::sync::OnceLock;
use std::time::Instant;

/// Returns microseconds on a clock that never goes back, the same clock for the whole process.
#[must_use]
pub fn now_us() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(read);
    u64::try_from(read().duration_since(start).as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads a clock")]
fn read() -> Instant {
    Instant::now()
}
