//! Properties of the list of unacknowledged positions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise"
)]

use std::collections::BTreeSet;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use tributary_proto::ack::{MAX_ENCODED, Unacknowledged};

fn positions(list: &Unacknowledged) -> BTreeSet<u32> {
    list.ranges().flatten().collect()
}

/// Few of many, or most of few: the latter take more bytes than there is room for.
fn any_positions() -> impl Strategy<Value = BTreeSet<u32>> {
    prop_oneof![
        btree_set(0..100_000_u32, 1..300),
        btree_set(0..9_000_u32, 1..5_000)
    ]
}

proptest! {
    #[test]
    fn what_is_told_never_lacks_a_position_and_is_exact_while_it_is_short(told in any_positions()) {
        let list: Unacknowledged = told.iter().copied().collect();
        prop_assert_eq!(list.positions() as usize, told.len());
        let bytes = list.encode();
        prop_assert!(bytes.len() <= MAX_ENCODED);
        let total = told.last().unwrap() + 1;
        let heard = Unacknowledged::decode(&bytes, total).unwrap();
        if bytes.len() < MAX_ENCODED - 20 {
            prop_assert_eq!(&heard, &list);
        }
        prop_assert!(positions(&heard).is_superset(&told));
        prop_assert!(Unacknowledged::decode(&bytes, total - 1).is_err());
    }

    #[test]
    fn no_bytes_are_read_as_more_than_the_request_has(bytes in vec(any::<u8>(), 0..200), small in vec(0..4_u8, 0..200), total in 0..500_u32) {
        for bytes in [bytes, small] {
            if let Ok(heard) = Unacknowledged::decode(&bytes, total) {
                prop_assert!(heard.positions() > 0 && heard.positions() <= total);
                let ranges: Vec<_> = heard.ranges().collect();
                prop_assert!(ranges.iter().all(|range| range.start < range.end && range.end <= total));
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
                prop_assert_eq!(Unacknowledged::decode(&heard.encode(), total), Ok(heard));
            }
        }
    }
}
