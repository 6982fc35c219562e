//! Recognising a batch that comes again, of which a part is done.

use xxhash_rust::xxh3::Xxh3;

use crate::point::Batch;

/// How many points are looked at before other tasks get their turn.
const CHUNK: usize = 4096;

/// What a batch is recognised by when it comes again: a hash of all points and events. Two batches with the same ones are the same to a sink
/// that looks at nothing else.
pub(super) async fn fingerprint(batch: &Batch) -> u128 {
    let mut hash = Xxh3::new();
    for (index, point) in batch.points.iter().enumerate() {
        if index % CHUNK == CHUNK - 1 {
            // Others want their turn, too.
            tokio::task::yield_now().await;
        }
        number(&mut hash, point.timestamp.nanos().cast_unsigned());
        number(&mut hash, point.value.to_bits());
        number(&mut hash, point.tags.iter().count() as u64);
        let suffix = point.suffix.as_deref().unwrap_or_default();
        for text in [&*point.base, suffix].into_iter().chain(point.tags.iter()) {
            piece(&mut hash, text);
        }
    }
    for event in &batch.events {
        let texts = [
            Some(&event.title),
            Some(&event.text),
            event.hostname.as_ref(),
            event.aggregation_key.as_ref(),
            event.source_type.as_ref(),
        ];
        number(&mut hash, event.timestamp.cast_unsigned());
        number(&mut hash, event.tags.len() as u64);
        let texts = texts.into_iter().map(|text| text.map_or("", |t| t));
        let tags = event.tags.iter().map(String::as_str);
        for text in texts.chain([event.priority, event.alert_type]).chain(tags) {
            piece(&mut hash, text);
        }
    }
    hash.digest128()
}

fn number(hash: &mut Xxh3, number: u64) {
    hash.update(&number.to_le_bytes());
}

fn piece(hash: &mut Xxh3, text: &str) {
    number(hash, text.len() as u64);
    hash.update(text.as_bytes());
}
