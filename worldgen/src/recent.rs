//! Keeps what was used last, up to a number of bytes.
//!
//! Owns the order and the count; what a byte of cost means is the caller's business.

use std::collections::BTreeMap;

/// Values by key, the least recently used of which go when their cost exceeds the bound.
#[derive(Clone, Debug)]
pub struct Recent<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    // One key per entry, oldest first.
    order: BTreeMap<u64, K>,
    next: u64,
    bytes: u64,
    bytes_max: u64,
}

#[derive(Clone, Debug)]
struct Entry<V> {
    value: V,
    bytes: u64,
    used: u64,
}

impl<K: Ord + Clone, V> Recent<K, V> {
    /// Returns an empty one that holds values worth at most `bytes_max`.
    #[must_use]
    pub const fn new(bytes_max: u64) -> Self {
        Self { entries: BTreeMap::new(), order: BTreeMap::new(), next: 0, bytes: 0, bytes_max }
    }

    /// Returns the value of `key`, which counts as a use.
    pub fn touch(&mut self, key: &K) -> Option<&V> {
        let entry = self.entries.get_mut(key)?;
        if let Some(key) = self.order.remove(&entry.used) {
            self.order.insert(self.next, key);
        }
        entry.used = self.next;
        self.next += 1;
        Some(&entry.value)
    }

    /// Takes in a value that costs `bytes`, over an older one of the same key; returns what had
    /// to go for it, which is the value itself if it is larger than the bound.
    pub fn insert(&mut self, key: K, value: V, bytes: u64) -> Vec<(K, V)> {
        let mut gone: Vec<(K, V)> =
            self.remove(&key).map(|old| (key.clone(), old)).into_iter().collect();
        if self.bytes_max < bytes {
            gone.push((key, value));
            return gone;
        }
        while self.bytes_max < self.bytes + bytes {
            let Some((_, oldest)) = self.order.first_key_value() else { break };
            let oldest = oldest.clone();
            gone.extend(self.remove(&oldest).map(|value| (oldest, value)));
        }
        self.order.insert(self.next, key.clone());
        self.entries.insert(key, Entry { value, bytes, used: self.next });
        self.next += 1;
        self.bytes += bytes;
        gone
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.used);
        self.bytes -= entry.bytes;
        Some(entry.value)
    }

    /// Returns what all values cost together.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns how many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut recent = Recent::new(30);
        assert!(recent.insert('a', 1, 10).is_empty());
        assert!(recent.insert('b', 2, 10).is_empty());
        assert!(recent.insert('c', 3, 10).is_empty());
        assert_eq!(recent.touch(&'a'), Some(&1));
        assert_eq!(recent.insert('d', 4, 15), [('b', 2), ('c', 3)]);
        assert_eq!((recent.len(), recent.bytes()), (2, 25));
        assert_eq!(recent.touch(&'b'), None);
    }

    #[test]
    fn a_key_is_held_once() {
        let mut recent = Recent::new(30);
        assert!(recent.insert('a', 1, 10).is_empty());
        assert_eq!(recent.insert('a', 2, 20), [('a', 1)]);
        assert_eq!((recent.len(), recent.bytes()), (1, 20));
        assert_eq!(recent.remove(&'a'), Some(2));
        assert!(recent.is_empty() && recent.bytes() == 0);
    }

    #[test]
    fn what_can_never_fit_is_handed_back() {
        let mut recent = Recent::new(30);
        assert!(recent.insert('a', 1, 30).is_empty());
        assert_eq!(recent.insert('b', 2, 31), [('b', 2)]);
        assert_eq!(recent.touch(&'a'), Some(&1));
    }
}
