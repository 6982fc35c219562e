//! Very many points, which are given back in small pieces.
//!
//! A flush of a million series makes points of 150 MB and more: memory of its own, which the system takes back page by page while all other threads that ask it
//! for memory, or give some back, wait. All at once that takes 40 ms; so it goes back a little at a time.

use std::ops::{Deref, DerefMut};
use std::vec;

use crate::point::Point;

/// How many points are given back at a time: about 2 MB.
const PIECE: usize = 1 << 14;

/// A list of points. All that a `Vec` can do, it can.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Points(Vec<Point>);

impl Drop for Points {
    fn drop(&mut self) {
        while self.0.len() > PIECE {
            self.0.truncate(self.0.len() - PIECE);
            self.0.shrink_to_fit();
        }
    }
}

impl Deref for Points {
    type Target = Vec<Point>;

    fn deref(&self) -> &Vec<Point> {
        &self.0
    }
}

impl DerefMut for Points {
    fn deref_mut(&mut self) -> &mut Vec<Point> {
        &mut self.0
    }
}

impl From<Vec<Point>> for Points {
    fn from(points: Vec<Point>) -> Self {
        Self(points)
    }
}

impl FromIterator<Point> for Points {
    fn from_iter<I: IntoIterator<Item = Point>>(points: I) -> Self {
        Self(points.into_iter().collect())
    }
}

impl IntoIterator for Points {
    type Item = Point;
    type IntoIter = vec::IntoIter<Point>;

    fn into_iter(mut self) -> Self::IntoIter {
        std::mem::take(&mut self.0).into_iter()
    }
}

impl<'a> IntoIterator for &'a Points {
    type Item = &'a Point;
    type IntoIter = std::slice::Iter<'a, Point>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl PartialEq<[Point]> for Points {
    fn eq(&self, other: &[Point]) -> bool {
        *self.0 == *other
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::key::Tags;
    use crate::point::{PointKind, Timestamp};

    #[test]
    fn every_point_is_given_back_once_however_many_there_are() {
        let base: Arc<str> = "n".into();
        for count in [0, 1, PIECE, PIECE + 1, 3 * PIECE + 5] {
            let point = |_| Point {
                base: Arc::clone(&base),
                suffix: None,
                tags: Tags::default(),
                kind: PointKind::Gauge,
                value: 1.0,
                timestamp: Timestamp::default(),
                check: None,
            };
            let points: Points = (0..count).map(point).collect();
            assert_eq!(points.len(), count);
            assert_eq!(Arc::strong_count(&base), count + 1);
            drop(points);
            assert_eq!(Arc::strong_count(&base), 1);
        }
    }
}
