//! The `hashring` algorithm: points of the hashring crate, answered from a table of slots.
//!
//! What is hashed, published so that other programs can compute it too:
//! - the hash is xxh3 with 64 bits and the seed [`SEED`];
//! - point `i` of a member stands at the hash of `address ++ 0x00 ++ i`, `i` as four bytes with the lowest first, for `i` from 0 below
//!   weight × [`POINTS_PER_WEIGHT`];
//! - the circle is cut into 2^20 equal slots; a slot belongs to the first point at or after its start;
//! - a key belongs to the slot that its own hash falls into, which the hash's 20 highest bits number.
//!
//! Why that many points: with v points a member's share is off by about 1/√v, and 200,000 keys over 100 members add 2.2 % of pure
//! chance. Of 40 random lists of 100 members the fullest member had at most 1.09 of the mean with 8,192 points; with 4,096 one list was
//! over 1.10. Searching those 800,000 points costs 200 ns a key, a slot 8 ns, and a slot's rounding (0.35 % at 100 members) disappears
//! in the rest. The points themselves are gone once the table is filled, with one look-up for each of them that has a slot.

use std::hash::{BuildHasher, Hash, Hasher};

use hashring::HashRing;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Member;

/// The seed of every hash here: "tributar" in ASCII.
pub const SEED: u64 = 0x7472_6962_7574_6172;

/// Points of a member of weight 1.
pub const POINTS_PER_WEIGHT: u32 = 8192;

/// The members' weights together may not exceed this: 2^27 points take 2 GiB while a table is filled.
pub(super) const MAX_WEIGHT: u64 = (1 << 27) / POINTS_PER_WEIGHT as u64;

const SLOT_BITS: u32 = 20;
const SLOT_SHIFT: u32 = u64::BITS - SLOT_BITS;

/// The owner of each slot of the circle; empty when there is no point.
#[derive(Debug)]
pub(super) struct Slots {
    owners: Box<[u16]>,
}

impl Slots {
    /// Fills the table from a ring of these members, which are sorted and no more than 65,535.
    pub(super) fn fill(members: &[Member]) -> Self {
        const SLOTS: usize = 1 << SLOT_BITS;
        let ring = ring(members);
        let mut owners = Vec::with_capacity(SLOTS);
        // Every look-up names a point, or none does because there is none: then the table stays empty.
        while owners.len() < SLOTS
            && let start = (owners.len() as u64) << SLOT_SHIFT
            && let Some(point) = ring.get(&start)
        {
            // No other point comes before this one, so it has all slots that start up to there; or it is the first of the circle, and has the rest.
            let end = match point.position >= start {
                true => (point.position >> SLOT_SHIFT) as usize + 1,
                false => SLOTS,
            };
            owners.resize(end, point.owner);
        }
        Self {
            owners: owners.into(),
        }
    }

    /// Gives each slot's part of the circle to its owner.
    pub(super) fn parts(&self, give: &mut impl FnMut(u16, f64)) {
        let part = 1.0 / self.owners.len() as f64;
        self.owners.iter().for_each(|&owner| give(owner, part));
    }

    /// The hash of a key.
    #[inline]
    pub(super) fn spot(key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, SEED)
    }

    /// The index of the member that owns keys of this hash.
    #[inline]
    pub(super) fn owner_at(&self, spot: u64) -> Option<usize> {
        let slot = spot >> SLOT_SHIFT;
        self.owners
            .get(slot as usize)
            .map(|&owner| usize::from(owner))
    }
}

/// The ring that the table is filled from.
fn ring(members: &[Member]) -> HashRing<Point, PassThrough> {
    let mut points = Vec::new();
    let mut bytes = Vec::new();
    for (owner, member) in (0_u16..).zip(members) {
        bytes.clear();
        bytes.extend_from_slice(member.address.as_bytes());
        bytes.push(0);
        let prefix = bytes.len();
        points.extend((0..u32::from(member.weight) * POINTS_PER_WEIGHT).map(|i| {
            bytes.truncate(prefix);
            bytes.extend_from_slice(&i.to_le_bytes());
            Point {
                position: xxh3_64_with_seed(&bytes, SEED),
                owner,
            }
        }));
    }
    let mut ring = HashRing::with_hasher(PassThrough(0));
    ring.batch_add(points);
    ring
}

/// One place on the circle.
#[derive(Debug, Clone, Copy)]
struct Point {
    position: u64,
    owner: u16,
}

impl Hash for Point {
    /// The position is a hash already, of bytes that do not change with the compiler or the machine.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.position);
    }
}

/// Takes a finished hash for what it is: the ring places each point where its own position says.
#[derive(Debug, Clone, Copy)]
struct PassThrough(u64);

impl BuildHasher for PassThrough {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for PassThrough {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, SEED);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The placement as the module's documentation gives it, computed without the crate.
    #[test]
    fn each_key_belongs_to_the_first_point_at_or_after_the_start_of_its_slot() {
        let members = ["10.0.0.1:8128", "10.0.0.2:8128", "10.0.0.3:8128"].map(Member::new);
        let mut points = Vec::new();
        for (owner, member) in members.iter().enumerate() {
            for i in 0..8192_u32 {
                let mut bytes = member.address.as_bytes().to_vec();
                bytes.push(0);
                bytes.extend(i.to_le_bytes());
                points.push((xxh3_64_with_seed(&bytes, 0x7472_6962_7574_6172), owner));
            }
        }
        points.sort_unstable();
        let slots = Slots::fill(&members);
        for number in 0..50_000 {
            let key = format!("metric.{number}counter");
            let hash = xxh3_64_with_seed(key.as_bytes(), 0x7472_6962_7574_6172);
            let start = hash & !((1 << 44) - 1);
            let next = points.partition_point(|point| point.0 < start);
            let owner = points.get(next).unwrap_or(&points[0]).1;
            assert_eq!(slots.owner_at(hash), Some(owner), "{key}");
            assert_eq!(Slots::spot(key.as_bytes()), hash);
        }
    }
}
