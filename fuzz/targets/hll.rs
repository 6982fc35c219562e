//! A set's sketch as its bytes: the first byte says how many members of our own it is merged with, the rest is the sketch.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tributary_aggregator::sketch::HyperLogLog;

/// The place of the layout in a sketch's bytes, and the layout of small sets.
const LAYOUT: usize = 3;
const SPARSE: u8 = 1;

fuzz_target!(|data: &[u8]| {
    let Some((&members, bytes)) = data.split_first() else {
        return;
    };
    let sketch = match HyperLogLog::from_bytes(bytes) {
        Ok(sketch) => sketch,
        Err(error) => {
            assert!(!error.cause().is_empty() && !error.to_string().is_empty());
            return;
        }
    };
    let written = sketch.to_bytes();
    assert!(
        written.len() <= bytes.len(),
        "codes only sort and fall together"
    );
    assert_eq!(through_bytes(&sketch), written);

    let own = own(members);
    for (mut into, other) in [(own.clone(), &sketch), (sketch.clone(), &own)] {
        into.merge(other);
        through_bytes(&into);
        let mut read = HyperLogLog::from_bytes(&into.to_bytes()).expect("a sketch of ours");
        assert_eq!(read.estimate(), into.estimate());
        // And on it goes, with the traces that an estimate leaves.
        into.insert(b"one more");
        into.merge(&sketch);
        through_bytes(&into);
    }
    adds_nothing_to_itself(&sketch);
});

/// A sketch of up to 16,320 members, which is well beyond where it becomes dense.
fn own(members: u8) -> HyperLogLog {
    let mut own = HyperLogLog::new();
    for member in 0..u32::from(members) * 64 {
        own.insert(&member.to_le_bytes());
    }
    own
}

/// Writes and reads a sketch, and gives the bytes, which must be those of what was read.
fn through_bytes(sketch: &HyperLogLog) -> Vec<u8> {
    let written = sketch.to_bytes();
    let read = HyperLogLog::from_bytes(&written).expect("a sketch of ours can be read");
    assert_eq!(read.to_bytes(), written);
    written
}

fn adds_nothing_to_itself(sketch: &HyperLogLog) {
    let mut twice = sketch.clone();
    twice.merge(sketch);
    let layout = |sketch: &HyperLogLog| sketch.to_bytes().get(LAYOUT).copied();
    if layout(&twice) == layout(sketch) {
        assert_eq!(twice.estimate(), sketch.clone().estimate());
    } else {
        assert_eq!(layout(sketch), Some(SPARSE), "no set ever shrinks");
    }
}
