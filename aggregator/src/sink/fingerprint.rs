//! What a batch is recognised by when it comes again.

use xxhash_rust::xxh3::Xxh3;

use crate::point::Batch;

/// How many points are looked at before other tasks get their turn.
const CHUNK: usize = 4096;

/// A hash of all that is in a batch. Two batches with the same points and events are the same.
pub(super) async fn fingerprint(batch: &Batch) -> u128 {
    let mut hash = Xxh3::new();
    let number = |hash: &mut Xxh3, number: u64| hash.update(&number.to_le_bytes());
    let text = |hash: &mut Xxh3, text: &str| {
        number(hash, text.len() as u64);
        hash.update(text.as_bytes());
    };
    for (index, point) in batch.points.iter().enumerate() {
        if index % CHUNK == CHUNK - 1 {
            // Others want their turn, too.
            tokio::task::yield_now().await;
        }
        number(&mut hash, point.timestamp.nanos().cast_unsigned());
        number(&mut hash, point.value.to_bits());
        number(&mut hash, point.tags.iter().count() as u64);
        let suffix = point.suffix.as_deref().unwrap_or_default();
        for part in [&*point.base, suffix].into_iter().chain(point.tags.iter()) {
            text(&mut hash, part);
        }
    }
    for event in &batch.events {
        number(&mut hash, event.timestamp.cast_unsigned());
        text(&mut hash, &event.title);
        text(&mut hash, &event.text);
    }
    hash.digest128()
}
