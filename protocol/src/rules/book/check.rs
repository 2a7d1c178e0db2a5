//! Checks of single values of a rule book, and the errors that name them.

use std::collections::BTreeMap;

use super::BadBook;
use crate::rules::kind::KindId;
use crate::rules::limits::NAME_CHARS_MAX;

pub fn no_such_kind(what: &str, name: &str, names: &BTreeMap<String, KindId>) -> BadBook {
    let nearest = names.keys().map(|known| (typing_errors(name, known), known)).min();
    let hint = nearest
        .filter(|(errors, _)| *errors <= name.chars().count() / 2)
        .map_or_else(String::new, |(_, known)| format!(", did you mean {known:?}?"));
    let name = name.chars().take(NAME_CHARS_MAX).collect();
    BadBook::NoSuchKind { what: what.to_owned(), name, hint }
}

/// Returns how many letters must change to turn one name into the other (edit distance).
fn typing_errors(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().take(NAME_CHARS_MAX).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().take(2 * NAME_CHARS_MAX).enumerate() {
        let mut left = index + 1;
        let mut above_left = index;
        for (above, other) in row.iter_mut().skip(1).zip(&to) {
            let changed = above_left + usize::from(letter != *other);
            above_left = *above;
            left = changed.min(above_left + 1).min(left + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

pub fn at_most(what: &'static str, got: usize, max: usize) -> Result<(), BadBook> {
    if got <= max { Ok(()) } else { Err(BadBook::TooMany { what, got, max }) }
}

pub fn check_name(what: &str, name: &str) -> Result<(), BadBook> {
    let length = name.chars().count();
    if length == 0 || NAME_CHARS_MAX < length || name.chars().any(char::is_control) {
        return out_of_range(what, "names have 1 to 32 printable characters");
    }
    Ok(())
}

pub fn in_range<T>(
    what: &str,
    field: &str,
    value: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<(), BadBook>
where
    T: PartialOrd + std::fmt::Display,
{
    if range.contains(&value) {
        return Ok(());
    }
    let why = format!("{field} is {value}, expected {} to {}", range.start(), range.end());
    Err(BadBook::OutOfRange { what: what.to_owned(), why })
}

pub fn out_of_range(what: &str, why: &str) -> Result<(), BadBook> {
    Err(BadBook::OutOfRange { what: what.to_owned(), why: why.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_counted() {
        for (from, to, errors) in [("", "ab", 2), ("wood", "wood", 0), ("wodo", "wood", 2)] {
            assert_eq!(typing_errors(from, to), errors);
            assert_eq!(typing_errors(to, from), errors);
        }
    }
}
