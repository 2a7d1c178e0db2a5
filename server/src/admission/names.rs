//! Names that people are shown by: readable, not deceptive, told apart within a world.

use protocol::limits::NAME_CHARS_MAX;
use protocol::text::is_hidden;

/// Bytes of a name as sent, before cleaning: 32 characters of four bytes and some blanks.
const NAME_BYTES_MAX: usize = 256;

/// A name that cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing to read.
    #[error("the name is empty")]
    Empty,
    /// Too much to read.
    #[error("the name is longer than {NAME_CHARS_MAX} characters")]
    TooLong,
    /// Something that is not seen, or that turns the text around it.
    #[error("the name contains the invisible character U+{0:04X}")]
    Invisible(u32),
}

/// Returns `name` without blanks around it and with single blanks within.
///
/// # Errors
/// [`BadName`]; the sender is at fault.
pub fn clean(name: &str) -> Result<String, BadName> {
    if NAME_BYTES_MAX < name.len() {
        return Err(BadName::TooLong);
    }
    if let Some(hidden) = name.chars().find(|&c| is_hidden(c)) {
        return Err(BadName::Invisible(u32::from(hidden)));
    }
    let words: Vec<_> = name.split_whitespace().collect();
    let name = words.join(" ");
    if name.is_empty() {
        return Err(BadName::Empty);
    }
    if NAME_CHARS_MAX < name.chars().count() {
        return Err(BadName::TooLong);
    }
    Ok(name)
}

/// Returns `name`, with the first number behind it that makes it one that is not taken.
///
/// Names that differ only in letter case count as the same. `is_taken` is asked about lower-case
/// names, see [`folded`].
#[must_use]
pub fn distinct(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(&folded(name)) {
        return name.to_owned();
    }
    // Among n + 1 numbers one is free of n others in the world, so this ends.
    for number in 2_u32.. {
        let suffix = format!(" {number}");
        let room = NAME_CHARS_MAX - suffix.len();
        let stem: String = name.chars().take(room).collect();
        let candidate = format!("{}{suffix}", stem.trim_end());
        if !is_taken(&folded(&candidate)) {
            return candidate;
        }
    }
    name.to_owned()
}

/// Returns `name` as it is compared with others.
#[must_use]
pub fn folded(name: &str) -> String {
    name.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Result<&str, BadName>) {
        assert_eq!(clean(name), expected.map(ToOwned::to_owned), "{name:?}");
    }

    #[test]
    fn names_are_trimmed_and_otherwise_left_alone() {
        check("  Ada  Lovelace ", Ok("Ada Lovelace"));
        check("李小龍", Ok("李小龍"));
        check("Ünal O'Neill-2", Ok("Ünal O'Neill-2"));
        check(&"x".repeat(32), Ok(&"x".repeat(32)));
    }

    #[test]
    fn empty_endless_and_deceptive_names_are_refused() {
        check("", Err(BadName::Empty));
        check("\u{3000} ", Err(BadName::Empty));
        check(&"x".repeat(33), Err(BadName::TooLong));
        check(&" ".repeat(257), Err(BadName::TooLong));
        for hidden in ['\0', '\n', '\u{7F}', '\u{200B}', '\u{202E}', '\u{2067}', '\u{E0041}'] {
            check(&format!("A{hidden}b"), Err(BadName::Invisible(u32::from(hidden))));
        }
    }

    #[test]
    fn namesakes_get_numbers() {
        let taken = ["ada", "ada 2", &"x".repeat(32)];
        let is_taken = |name: &str| taken.contains(&name);
        assert_eq!(distinct("Bob", is_taken), "Bob");
        assert_eq!(distinct("ADA", is_taken), "ADA 3");
        assert_eq!(distinct(&"X".repeat(32), is_taken), format!("{} 2", "X".repeat(30)));
    }

    proptest::proptest! {
        #[test]
        fn what_passes_passes_again_and_fits(name in ".{0,40}") {
            if let Ok(once) = clean(&name) {
                assert_eq!(clean(&once), Ok(once.clone()));
                assert!(once.chars().count() <= NAME_CHARS_MAX);
                let other = distinct(&once, |taken| taken == folded(&once));
                assert!(other.chars().count() <= NAME_CHARS_MAX && other != once);
            }
        }
    }
}
