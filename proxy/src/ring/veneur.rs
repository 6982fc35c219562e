//! The `veneur` algorithm: where Stripe Veneur's proxies (v2.0.0 to the last) place keys.
//!
//! Point `i` of a member, for `i` from 0 to 19, stands at the CRC-32 (IEEE) of `i` in decimal followed by the address. A key's place is the
//! CRC-32 of its bytes; it belongs to the first point strictly beyond, and after the last point the first one follows.
//!
//! Two members' points can fall together. Veneur keeps points in a map, so the member that was added last has the shared one: members are
//! added here in the order of the list, which is the configured order of static addresses and sorted for discovered ones. Veneur also
//! loses such a point when either member leaves, so that its placement depends on history; a ring of ours is built from the present
//! list alone, as that of a restarted Veneur would be.

use super::Member;

/// Points of a member of weight 1.
const POINTS_PER_WEIGHT: u32 = 20;

/// All points, ascending by position, no position twice.
#[derive(Debug)]
pub(super) struct Points(Vec<(u32, u16)>);

impl Points {
    /// Places these members, no more than 65,535.
    pub(super) fn place(members: &[Member]) -> Self {
        let mut points: Vec<(u32, u16)> = (0_u16..)
            .zip(members)
            .flat_map(|(owner, member)| {
                (0..u32::from(member.weight) * POINTS_PER_WEIGHT)
                    .map(move |i| (position(i, &member.address), owner))
            })
            .collect();
        // Of equal positions the last added one stays: it comes first here, and the others go.
        points.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        points.dedup_by_key(|point| point.0);
        Self(points)
    }

    /// Gives the arc before each point to its owner; what lies behind the last point is the first one's.
    pub(super) fn parts(&self, give: &mut impl FnMut(u16, f64)) {
        const CIRCLE: f64 = (1_u64 << 32) as f64;
        let mut before = 0;
        for (position, owner) in &self.0 {
            give(*owner, f64::from(position - before) / CIRCLE);
            before = *position;
        }
        if let Some((_, owner)) = self.0.first() {
            give(*owner, 1.0 - f64::from(before) / CIRCLE);
        }
    }

    /// The hash of a key.
    #[inline]
    pub(super) fn spot(key: &[u8]) -> u32 {
        crc32fast::hash(key)
    }

    /// The index of the member that owns keys of this hash.
    #[inline]
    pub(super) fn owner_at(&self, spot: u32) -> Option<usize> {
        let next = self.0.partition_point(|point| point.0 <= spot);
        self.0
            .get(next)
            .or_else(|| self.0.first())
            .map(|point| usize::from(point.1))
    }
}

fn position(i: u32, address: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(i.to_string().as_bytes());
    hasher.update(address.as_bytes());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_comes_before_the_address() {
        assert_eq!(position(0, "10.0.0.1:8128"), 2_839_385_744);
        assert_eq!(position(1, "10.0.0.1:8128"), 875_722_726);
        assert_eq!(position(19, "10.0.0.1:8128"), 1_952_410_057);
    }

    #[test]
    fn a_key_that_hashes_onto_a_point_belongs_to_the_next_one() {
        // The key is the very text whose hash is point 0 of the first member.
        let members = ["10.0.0.1:8128", "10.0.0.2:8128"].map(Member::new);
        let points = Points::place(&members);
        let place = position(0, "10.0.0.1:8128");
        let after = points.0.iter().find(|point| point.0 > place).unwrap().1;
        let spot = Points::spot(b"010.0.0.1:8128");
        assert_eq!(points.owner_at(spot), Some(usize::from(after)));
    }
}
