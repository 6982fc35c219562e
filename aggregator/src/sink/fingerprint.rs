//! How a sink knows a batch that comes again.

use xxhash_rust::xxh3::Xxh3;

use crate::point::Batch;

/// How many points are looked at before other tasks get their turn.
const CHUNK: usize = 4096;

/// What a batch is recognised by when it comes again: a hash of all points. Two batches with the same points are the same.
pub(super) async fn fingerprint(batch: &Batch) -> u128 {
    let mut hash = Xxh3::new();
    for (index, point) in batch.points.iter().enumerate() {
        if index % CHUNK == CHUNK - 1 {
            // Others want their turn, too.
            tokio::task::yield_now().await;
        }
        let number = |hash: &mut Xxh3, number: u64| hash.update(&number.to_le_bytes());
        number(&mut hash, point.timestamp.nanos().cast_unsigned());
        number(&mut hash, point.value.to_bits());
        number(&mut hash, point.tags.iter().count() as u64);
        let suffix = point.suffix.as_deref().unwrap_or_default();
        for text in [&*point.base, suffix].into_iter().chain(point.tags.iter()) {
            number(&mut hash, text.len() as u64);
            hash.update(text.as_bytes());
        }
    }
    hash.digest128()
}
