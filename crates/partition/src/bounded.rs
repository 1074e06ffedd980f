//! A map that holds so many entries and no more: the one that was not used for the longest time goes.

use std::collections::BTreeMap;

/// A map with a bound, ordered by use.
#[derive(Clone, Debug)]
pub(crate) struct Bounded<K, V> {
    entries: BTreeMap<K, (u64, V)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
}

impl<K: Ord + Clone, V> Bounded<K, V> {
    pub(crate) const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What is under a key; looking is a use.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.entries.get_mut(key)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, key.clone());
        Some(value)
    }

    /// Puts something under a key, and returns what had to go for it.
    pub(crate) fn insert(&mut self, key: K, value: V, entries_max: usize) -> Vec<V> {
        self.remove(&key);
        let mut gone = Vec::new();
        while self.entries.len() >= entries_max.max(1) {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            gone.extend(self.entries.remove(&oldest).map(|(_, value)| value));
        }
        self.uses += 1;
        self.by_use.insert(self.uses, key.clone());
        self.entries.insert(key, (self.uses, value));
        gone
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (used, value) = self.entries.remove(key)?;
        self.by_use.remove(&used);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_the_longest_time_goes() {
        let mut map = Bounded::new();
        assert!(map.insert(1, "one", 2).is_empty());
        assert!(map.insert(2, "two", 2).is_empty());
        assert_eq!(map.get_mut(&1), Some(&mut "one"));
        assert_eq!(map.insert(3, "three", 2), ["two"]);
        assert_eq!(map.insert(3, "drei", 2), [""; 0]);
        assert_eq!(map.get_mut(&2), None);
        assert_eq!(map.len(), 2);
        assert_eq!(map.insert(4, "four", 1), ["one", "drei"]);
        assert_eq!((map.remove(&4), map.len()), (Some("four"), 0));
    }
}
