//! Lengths of time as people write them: `90s`, `5m`, `2h`, `30d`, `4w`.

use std::fmt;
use std::str::FromStr;

/// Units from the largest, with their seconds.
const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub u64);

/// Text that is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time: write 30s, 5m, 2h, 30d or 4w")]
pub struct BadSpan(String);

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let unit = |&(letter, seconds): &(char, u64)| {
            let number: u64 = text.strip_suffix(letter)?.parse().ok()?;
            number.checked_mul(seconds)
        };
        UNITS
            .iter()
            .find_map(unit)
            .map(Self)
            .ok_or_else(|| BadSpan(text.chars().take(32).collect()))
    }
}

impl fmt::Display for Span {
    /// Writes the two largest units that are not zero, such as `2d 3h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        let mut parts = Vec::new();
        // Weeks are typed but not shown: what was typed as 30d reads as 30d.
        for (letter, seconds) in UNITS.into_iter().skip(1) {
            if seconds <= left {
                parts.push(format!("{}{letter}", left / seconds));
                left %= seconds;
            }
        }
        parts.truncate(2);
        if parts.is_empty() {
            return f.write_str("0s");
        }
        f.write_str(&parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in
            [("0s", 0), ("90s", 90), ("5m", 300), ("2h", 7_200), ("4w", 2_419_200)]
        {
            assert_eq!(text.parse(), Ok(Span(seconds)));
        }
        for text in ["", "5", "m", "-1s", "1.5h", "1h30m", "99999999999999999w"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_written_to_the_two_largest_units() {
        for (seconds, text) in [(0, "0s"), (61, "1m 1s"), (90_061, "1d 1h"), (2_592_000, "30d")] {
            assert_eq!(Span(seconds).to_string(), text);
        }
    }
}
