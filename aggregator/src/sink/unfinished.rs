//! Recognising a batch that comes again, of which a part is done.

use xxhash_rust::xxh3::Xxh3;

use crate::point::Batch;

/// How many points are looked at before other tasks get their turn.
const CHUNK: usize = 4096;

/// What a sink knows of a batch that is to come again.
#[derive(Debug)]
pub(super) struct Unfinished<W> {
    kept: Option<(u128, W)>,
    /// Of the batch that was taken up last, if it had to be looked at.
    current: Option<u128>,
}

impl<W> Default for Unfinished<W> {
    fn default() -> Self {
        Self {
            kept: None,
            current: None,
        }
    }
}

impl<W> Unfinished<W> {
    /// What was kept, if it was of this batch. If it was of another, that does not come again.
    pub(super) async fn take(&mut self, batch: &Batch) -> Option<W> {
        self.current = None;
        let (of, work) = self.kept.take()?;
        let fingerprint = fingerprint(batch).await;
        self.current = Some(fingerprint);
        (of == fingerprint).then_some(work)
    }

    /// Keeps what is known of the batch that was taken up last, until it comes again.
    pub(super) async fn keep(&mut self, batch: &Batch, work: W) {
        let fingerprint = match self.current.take() {
            Some(fingerprint) => fingerprint,
            None => fingerprint(batch).await,
        };
        self.kept = Some((fingerprint, work));
    }
}

/// What a batch is recognised by when it comes again: a hash of all points and events. Two batches with the same ones are the same to a sink
/// that looks at nothing else.
async fn fingerprint(batch: &Batch) -> u128 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Tags;
    use crate::point::{Point, PointKind, Timestamp};

    fn batch(name: &str) -> Batch {
        let point = Point {
            base: name.into(),
            suffix: None,
            tags: Tags::default(),
            kind: PointKind::Gauge,
            value: 1.0,
            timestamp: Timestamp::from_seconds(1),
            check: None,
        };
        Batch {
            points: vec![point].into(),
            ..Batch::default()
        }
    }

    #[tokio::test]
    async fn what_is_kept_comes_back_with_its_own_batch_alone_and_once() {
        let mut unfinished = Unfinished::default();
        let (one, other) = (batch("one"), batch("other"));
        assert_eq!(unfinished.take(&one).await, None);
        unfinished.keep(&one, 1).await;
        assert_eq!(unfinished.take(&batch("one")).await, Some(1));
        unfinished.keep(&one, 2).await;
        assert_eq!(unfinished.take(&one).await, Some(2), "kept again");
        assert_eq!(unfinished.take(&one).await, None);

        unfinished.keep(&one, 3).await;
        assert_eq!(unfinished.take(&other).await, None);
        unfinished.keep(&other, 4).await;
        assert_eq!(unfinished.take(&one).await, None, "of the other");
        assert_eq!(
            unfinished.take(&other).await,
            None,
            "it does not come again"
        );
    }
}
