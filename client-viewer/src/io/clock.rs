//! The time of day. Nothing else of this crate reads it; how long things take is measured with
//! [`protocol::io::clock`].

use std::time::SystemTime;

/// Returns the seconds since 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads a clock")]
pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
