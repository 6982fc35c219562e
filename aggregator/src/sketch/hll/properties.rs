//! What holds for any set and any bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{HyperLogLog, SEED};

fn of(members: &[u32]) -> HyperLogLog {
    let mut sketch = HyperLogLog::new();
    for member in members {
        sketch.insert(&member.to_le_bytes());
    }
    sketch
}

/// Members of a set well below or well above the size at which the layout changes: the very point depends on which codes wait.
fn members() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        vec(any::<u32>(), 0..400),
        vec(0..100_u32, 0..400),
        vec(any::<u32>(), 9000..12_000)
    ]
}

/// The estimate and the bytes after it: all that can be told from outside.
fn answer(mut sketch: HyperLogLog) -> (u64, Vec<u8>) {
    (sketch.estimate(), sketch.to_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_members_changes_nothing(members in members(), seed in any::<u64>()) {
        let mut shuffled = members.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
        prop_assert_eq!(answer(of(&members)), answer(of(&shuffled)));
    }

    #[test]
    fn merging_is_the_same_both_ways_and_with_oneself(a in members(), b in members()) {
        let (a, b) = (of(&a), of(&b));
        let (mut ab, mut ba, mut aa) = (a.clone(), b.clone(), a.clone());
        ab.merge(&b);
        ba.merge(&a);
        aa.merge(&a);
        prop_assert_eq!(answer(ab), answer(ba));
        prop_assert_eq!(answer(aa), answer(a));
    }

    #[test]
    fn merging_is_inserting_the_union(a in members(), b in members()) {
        let mut merged = of(&a);
        merged.merge(&of(&b));
        prop_assert_eq!(answer(merged), answer(of(&[a, b].concat())));
    }

    #[test]
    fn bytes_come_back_as_they_went(members in members()) {
        let bytes = of(&members).to_bytes();
        prop_assert_eq!(HyperLogLog::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    }

    #[test]
    fn no_bytes_whatever_make_it_panic(bytes in vec(any::<u8>(), 0..100), rest in vec(any::<u8>(), 0..100)) {
        let _ = HyperLogLog::from_bytes(&bytes);
        let mut likely = vec![1, 14, 0, 1, 0, 0, 0];
        likely.extend(rest);
        let _ = HyperLogLog::from_bytes(&likely);
    }

    #[test]
    fn a_sketch_with_wrong_bytes_is_refused_or_works(
        members in members(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        more in members(),
    ) {
        let mut bytes = of(&members).to_bytes();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(mut read) = HyperLogLog::from_bytes(&bytes) {
            read.merge(&of(&more));
            let mut other = of(&more);
            other.merge(&read);
            for member in more {
                read.insert(&member.to_le_bytes());
            }
            read.estimate();
            other.estimate();
            prop_assert!(HyperLogLog::from_bytes(&read.to_bytes()).is_ok());
        }
    }
}

#[test]
fn estimates_stay_within_three_percent_up_to_a_million() {
    for n in [10_u32, 1000, 7000, 50_000, 1_000_000] {
        let mut sketch = HyperLogLog::new();
        for member in 0..n {
            sketch.insert(&member.wrapping_mul(2_654_435_761).to_le_bytes());
        }
        let estimate = sketch.estimate() as f64;
        assert!(
            (estimate / f64::from(n) - 1.0).abs() < 0.03,
            "{n}: {estimate} with seed {SEED}"
        );
    }
}
