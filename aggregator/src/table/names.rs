//! Names seen of late: series that come with the same name share its memory.
//!
//! What makes series many is tags; the names are few. A writer asks here only when it makes a key.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

/// A power of two.
const SLOTS: usize = 64;

/// Longer names are not kept, so that a writer's memory stays small whatever its peer sends.
const LONGEST: usize = 256;

/// One writer's.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By the names' hashes; a newcomer takes the place of who was there.
    slots: Vec<Option<Arc<str>>>,
}

impl Names {
    pub(super) fn get(&mut self, name: &str) -> Arc<str> {
        if name.len() > LONGEST {
            return name.into();
        }
        self.slots.resize(SLOTS, None);
        let place = xxh3_64(name.as_bytes()) as usize % SLOTS;
        match self.slots.get_mut(place) {
            Some(Some(known)) if **known == *name => Arc::clone(known),
            slot => {
                let name: Arc<str> = name.into();
                if let Some(slot) = slot {
                    *slot = Some(Arc::clone(&name));
                }
                name
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shared_until_others_take_its_place() {
        let mut names = Names::default();
        let first = names.get("a");
        assert!(Arc::ptr_eq(&first, &names.get("a")));
        for number in 0..100 * SLOTS {
            let other = format!("n{number}");
            assert_eq!(*names.get(&other), *other);
        }
        let again = names.get("a");
        assert_eq!(again, first);
        assert!(!Arc::ptr_eq(&first, &again));
    }

    #[test]
    fn a_long_name_is_not_kept() {
        let mut names = Names::default();
        let long = "x".repeat(LONGEST + 1);
        let first = names.get(&long);
        assert_eq!(*first, *long);
        assert_eq!(Arc::strong_count(&first), 1);
    }
}
