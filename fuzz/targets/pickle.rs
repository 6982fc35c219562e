//! Frames of carbon's pickles.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tributary_aggregator::source::carbon::path::Path;
use tributary_aggregator::source::carbon::pickle::{FrameError, Item, ItemError, Unpickler};

fuzz_target!(|data: &[u8]| {
    let mut unpickler = Unpickler::default();
    let first = outcome(&mut unpickler, data);
    match &first {
        Ok(items) => {
            // Each takes a byte at least.
            assert!(items.len() <= data.len());
            for (path, _, _) in items.iter().flatten() {
                // Unescaped Latin-1 takes two bytes for one.
                assert!(path.len() <= 2 * data.len());
                if let Err(error) = Path::parse(path) {
                    assert!(!error.to_string().is_empty() && !error.cause().is_empty());
                }
            }
            // What follows the stop is nobody's business, but its length allows for more values.
            let longer = [data, &[0xff; 9]].concat();
            assert_eq!(outcome(&mut unpickler, &longer), first);
        }
        Err(error) => assert!(!error.to_string().is_empty() && !error.cause().is_empty()),
    }
    // Nothing of a frame is left for the next one.
    assert_eq!(outcome(&mut unpickler, data), first);
    unpickler.relax();
    assert_eq!(outcome(&mut unpickler, data), first);
});

/// An item with its numbers by their bits, since NaN is not equal to itself.
type Owned = Result<(Vec<u8>, u64, u64), ItemError>;

fn outcome(unpickler: &mut Unpickler, frame: &[u8]) -> Result<Vec<Owned>, FrameError> {
    let owned = |item: Item<'_>| {
        (
            item.path.to_vec(),
            item.timestamp.to_bits(),
            item.value.to_bits(),
        )
    };
    let items = unpickler.decode(frame)?;
    Ok(items.map(|item| item.map(owned)).collect())
}
