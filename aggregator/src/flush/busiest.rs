//! The few distributions of a flush of which most was merged, and where their points are.

use std::ops::Range;
use std::sync::Arc;

use crate::key::Key;

/// How many are kept.
const KEPT: usize = 8;

/// The busiest so far. For all but those few an offer is one comparison.
#[derive(Debug, Default)]
pub(crate) struct Busiest(Vec<Busy>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Busy {
    /// Samples and imports merged.
    pub(crate) merged: u32,
    pub(crate) key: Arc<Key>,
    /// Its points' places in [`super::Emission::points`].
    pub(crate) points: Range<usize>,
}

impl Busiest {
    #[inline]
    pub(super) fn offer(&mut self, merged: u32, key: &Arc<Key>, points: Range<usize>) {
        if self.0.len() == KEPT && self.0.last().is_some_and(|least| merged <= least.merged) {
            return;
        }
        let place = self.0.partition_point(|busy| busy.merged >= merged);
        self.0.truncate(KEPT - 1);
        let key = Arc::clone(key);
        self.0.insert(
            place.min(self.0.len()),
            Busy {
                merged,
                key,
                points,
            },
        );
    }

    /// The busiest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Busy> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Kind, Scope, Tags};

    #[test]
    fn the_busiest_are_kept_in_order() {
        let mut busiest = Busiest::default();
        for merged in [3, 9, 1, 7, 5, 12, 11, 2, 8, 10, 4, 6] {
            let name = format!("t{merged}");
            let key = Arc::new(Key::new(name, Kind::Timer, Tags::default(), Scope::Mixed));
            busiest.offer(merged, &key, 0..0);
        }
        let merged: Vec<_> = busiest.iter().map(|busy| busy.merged).collect();
        assert_eq!(merged, [12, 11, 10, 9, 8, 7, 6, 5]);
    }
}
