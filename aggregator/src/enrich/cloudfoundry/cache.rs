//! What is known of applications, bounded in number.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::dropsonde::Guid;

/// Values by GUID, each with a time by which it grows old.
#[derive(Debug)]
pub(super) struct Aging<V> {
    entries: HashMap<Guid, (V, Instant)>,
    most: usize,
}

impl<V> Aging<V> {
    /// Of so many at most, at least one.
    pub(super) fn new(most: usize) -> Self {
        Self {
            entries: HashMap::new(),
            most: most.max(1),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A value and its time, which may be set anew.
    pub(super) fn get(&mut self, guid: Guid) -> Option<&mut (V, Instant)> {
        self.entries.get_mut(&guid)
    }

    /// Takes a value in place of the one there is. When there is no room, the oldest tenth goes.
    pub(super) fn insert(&mut self, guid: Guid, value: V, now: Instant) {
        if self.entries.len() >= self.most && !self.entries.contains_key(&guid) {
            self.make_room();
        }
        self.entries.insert(guid, (value, now));
    }

    pub(super) fn remove(&mut self, guid: Guid) {
        self.entries.remove(&guid);
    }

    /// Forgets what is older than that; says how many.
    pub(super) fn expire(&mut self, age: Duration, now: Instant) -> usize {
        let before = self.entries.len();
        self.entries
            .retain(|_, (_, time)| now.duration_since(*time) < age);
        before - self.entries.len()
    }

    fn make_room(&mut self) {
        let mut times: Vec<Instant> = self.entries.values().map(|(_, time)| *time).collect();
        let count = (times.len() / 10).max(1);
        let (_, last, _) = times.select_nth_unstable(count - 1);
        let last = *last;
        // Of many with the same time only so many as are needed.
        let mut left = count;
        self.entries.retain(|_, (_, time)| {
            let goes = *time <= last && left > 0;
            left -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guid(number: u64) -> Guid {
        Guid::from_halves(number, 0)
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_tenth_makes_room() {
        let (mut known, start) = (Aging::new(100), Instant::now());
        for number in 0..100 {
            known.insert(guid(number), number, start + Duration::from_secs(number));
        }
        known.insert(guid(5), 5, start + Duration::from_secs(100));
        assert_eq!(known.len(), 100, "one that is there takes no room");
        known.insert(guid(100), 100, start);
        assert_eq!(known.len(), 91);
        for number in 0..=100 {
            let goes = number <= 10 && number != 5;
            assert_eq!(known.get(guid(number)).is_none(), goes, "{number}");
        }
        for number in 1000..2000 {
            known.insert(guid(number), number, start + Duration::from_secs(500));
        }
        assert!(known.len() <= 100);
        let mut one = Aging::new(1);
        one.insert(guid(1), 1, start);
        one.insert(guid(2), 2, start);
        assert_eq!(one.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_old_enough_expires() {
        let (mut known, start) = (Aging::new(9), Instant::now());
        let age = Duration::from_secs(180);
        known.insert(guid(1), (), start);
        known.insert(guid(2), (), start);
        tokio::time::advance(age - Duration::from_secs(1)).await;
        assert_eq!(known.expire(age, Instant::now()), 0);
        known.get(guid(2)).unwrap().1 = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(known.expire(age, Instant::now()), 1);
        assert!(known.get(guid(1)).is_none() && known.get(guid(2)).is_some());
    }
}
