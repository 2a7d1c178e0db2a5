//! A running sum over all records of each tree, so that a missing or stale record is noticed.
//!
//! Each record carries a checksum over its place and bytes; a tally is the count of records and
//! the wrapping sum of those checksums, kept up to date in the same transaction as the records.
//! Counting again and comparing finds what no single record can show: that it is not there.

use crate::store::{Tree, record};

/// Count and sum of one tree's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many records there are.
    pub records: u64,
    sum: u64,
}

impl Tally {
    /// Counts a record in.
    pub fn add(&mut self, bytes: &[u8]) {
        self.records = self.records.wrapping_add(1);
        self.sum = self.sum.wrapping_add(record::carried_checksum(bytes));
    }

    /// Counts a record out.
    pub fn take(&mut self, bytes: &[u8]) {
        self.records = self.records.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(record::carried_checksum(bytes));
    }
}

/// The tallies of all trees. The store's own tree is not tallied: it holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies([Tally; Tree::ALL.len()]);

impl Tallies {
    /// Changes the tally of `tree` for a record that was `old` and is now `new`.
    pub fn change(&mut self, tree: Tree, old: Option<&[u8]>, new: Option<&[u8]>) {
        if tree == Tree::Meta {
            return;
        }
        let tally = &mut self.0[tree.index()];
        old.into_iter().for_each(|bytes| tally.take(bytes));
        new.into_iter().for_each(|bytes| tally.add(bytes));
    }

    /// Returns the tally of one tree.
    #[must_use]
    pub const fn of(&self, tree: Tree) -> Tally {
        self.0[tree.index()]
    }

    /// Returns how many records there are in all.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.0.iter().fold(0, |sum, tally| sum.saturating_add(tally.records))
    }

    /// Returns the tallies as bytes, 16 for each tree.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let words = self.0.iter().flat_map(|tally| [tally.records, tally.sum]);
        words.flat_map(u64::to_le_bytes).collect()
    }

    /// Returns the tallies in such bytes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 16 * Tree::ALL.len() {
            return None;
        }
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 8)?;
            bytes.try_into().ok().map(u64::from_le_bytes)
        };
        let mut tallies = Self::default();
        for (index, tally) in tallies.0.iter_mut().enumerate() {
            *tally = Tally { records: word(16 * index)?, sum: word(16 * index + 8)? };
        }
        Some(tallies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_records_have_the_same_tally_whatever_the_order() {
        let (one, two) = ([1_u8; 12], [2_u8; 12]);
        let mut forth = Tallies::default();
        forth.change(Tree::World, None, Some(&one));
        forth.change(Tree::World, None, Some(&two));
        let mut back = Tallies::default();
        back.change(Tree::World, None, Some(&two));
        back.change(Tree::World, None, Some(&[9; 12]));
        back.change(Tree::World, Some(&[9; 12]), Some(&one));
        assert_eq!(forth, back);
        back.change(Tree::World, Some(&one), None);
        assert_ne!(forth, back);
        assert_eq!(back.records(), 1);
    }

    #[test]
    fn tallies_read_back() {
        let mut tallies = Tallies::default();
        tallies.change(Tree::Assets, None, Some(&[7; 20]));
        assert_eq!(Tallies::parse(&tallies.to_bytes()), Some(tallies));
        assert_eq!(Tallies::parse(&[0; 5]), None);
    }
}
