//! How many series one interval may hold.
//!
//! All shards of an interval share a [`Cap`]: two counts, touched only where a series is made; a known series never looks here. What always
//! holds: at most `max_series` series of their own, at most [`Cap::overflow_limit`] overflow series, and the last resorts, one for each kind and
//! scope. Each interval has a cap of its own, so what is taken and what begins never compete for room.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What a series is to the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// One that somebody reported.
    Own,
    /// Takes in the series of one name, kind and scope that found no room.
    Overflow,
    /// Takes in what found no room even there. Always admitted.
    LastResort,
}

/// The cap and what is left of it.
#[derive(Debug)]
pub(super) struct Cap {
    own: Room,
    overflow: Room,
}

impl Cap {
    /// `max_series` 0 is no cap.
    pub(super) fn new(max_series: usize) -> Self {
        let limit = match max_series {
            0 => usize::MAX,
            limit => limit,
        };
        Self {
            own: Room::new(limit),
            overflow: Room::new(Self::overflow_limit(limit)),
        }
    }

    /// How many overflow series there may be: a tenth of the cap, at least a few, and never so many that they are an explosion themselves.
    pub(super) fn overflow_limit(max_series: usize) -> usize {
        (max_series / 10).clamp(16, 10_000)
    }

    /// Whether there is room for one more, which is then taken.
    pub(super) fn admit(&self, standing: Standing) -> bool {
        match standing {
            Standing::Own => self.own.take(),
            Standing::Overflow => self.overflow.take(),
            Standing::LastResort => true,
        }
    }

    /// Gives back room that was not needed after all.
    pub(super) fn release(&self, standing: Standing) {
        match standing {
            Standing::Own => self.own.give_back(),
            Standing::Overflow => self.overflow.give_back(),
            Standing::LastResort => {}
        }
    }
}

#[derive(Debug)]
struct Room {
    taken: AtomicUsize,
    limit: usize,
}

// Relaxed throughout: the counts guard memory, and nothing is read on their word.
impl Room {
    fn new(limit: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            limit,
        }
    }

    /// Writes nothing where there is no room, so that writers over the cap do not fight for the cache line.
    fn take(&self) -> bool {
        let one_more = |taken| (taken < self.limit).then_some(taken + 1);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_standing_has_room_of_its_own_and_the_last_resort_always_has() {
        let cap = Cap::new(2);
        let admitted = |standing| (0..100).filter(|_| cap.admit(standing)).count();
        assert_eq!(admitted(Standing::Own), 2);
        assert_eq!(admitted(Standing::Overflow), 16);
        assert_eq!(admitted(Standing::LastResort), 100);
    }

    #[test]
    fn room_that_is_given_back_can_be_taken_again() {
        let cap = Cap::new(1);
        for standing in [Standing::Own, Standing::LastResort, Standing::Own] {
            assert!(cap.admit(standing));
            cap.release(standing);
        }
        assert!(cap.admit(Standing::Own));
        assert!(!cap.admit(Standing::Own));
    }

    #[test]
    fn without_a_cap_only_overflow_series_are_bounded() {
        let cap = Cap::new(0);
        assert!((0..100_000).all(|_| cap.admit(Standing::Own)));
        let overflow = (0..100_000).filter(|_| cap.admit(Standing::Overflow));
        assert_eq!(overflow.count(), 10_000);
    }
}
