//! Sink `s3`: points as objects in a bucket of Amazon S3, or of what speaks like it.
//!
//! Each write is one object, or several where it is longer than `max_object_bytes`. An object's name has the time of its newest point, a number that is
//! random for each start of the sink, and a sequence number: a batch that is tried again gets the same name and the same content, so that it overwrites itself and
//! nothing is there twice. (Not where another start of the sink takes the queue over after an answer was lost: the same points are then in two objects.)
//!
//! On failure: everything is retriable, after `backoff` with jitter; a refusal (credentials, bucket, region, clock) after `max_backoff`, loudly, since only a human
//! can help. Objects of a batch that were stored are remembered and not sent again. Nothing is lost but what the queue has no room for.
//!
//! One write takes up to `timeout` for each object. Skipped is what the format has no place for.

mod config;
mod encode;
mod failure;
mod key;
mod net;
mod secrets;

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectStore, PutOptions, PutPayload};

use self::encode::Encoder;
use self::failure::Failure;
use self::key::Template;
use super::unfinished::Unfinished;
use super::{Amount, Gather, Sink, SinkError};
use crate::backoff::Backoff;
use crate::metrics;
use crate::point::Batch;

pub use config::S3Config;

/// Writes to one bucket.
struct S3 {
    name: String,
    /// `s3://bucket`, and the server's address where it is not Amazon's.
    place: String,
    store: AmazonS3,
    template: Template,
    encoder: Encoder,
    gather: Gather,
    timeout: std::time::Duration,
    backoff: Backoff,
    max_backoff: std::time::Duration,
    /// A batch that is to come again.
    unfinished: Unfinished<Progress>,
}

/// How far a batch has come.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// The objects' name up to the part.
    stem: String,
    /// Objects stored.
    parts: usize,
    /// Points and events that are done with: stored or skipped.
    done: Amount,
    written: Amount,
}

impl S3 {
    fn new(config: &S3Config, name: &str) -> Result<Self, String> {
        Ok(Self {
            name: name.to_owned(),
            place: match &config.endpoint {
                Some(endpoint) => format!("s3://{} at {endpoint}", config.bucket),
                None => format!("s3://{}", config.bucket),
            },
            store: config.store()?,
            template: config.template(name)?,
            encoder: config.encoder(),
            gather: Gather {
                amount: config.flush_points,
                time: config.flush_interval.get(),
            },
            timeout: config.timeout.get(),
            backoff: Backoff::new(config.backoff.get(), config.max_backoff.get()),
            max_backoff: config.max_backoff.get(),
            unfinished: Unfinished::default(),
        })
    }

    async fn send(&mut self, batch: &Batch, progress: &mut Progress) -> Result<(), Failure> {
        let all = Amount::of(batch);
        while progress.done != all {
            let object = self.encoder.object(batch, progress.done).await?;
            if object.written.total() > 0 {
                let ending = self.encoder.ending();
                let key = Template::part(&progress.stem, progress.parts, ending);
                self.put(&key, object.body).await?;
                progress.parts += 1;
            }
            progress.done = object.done;
            progress.written += object.written;
        }
        Ok(())
    }

    async fn put(&self, key: &str, body: Vec<u8>) -> Result<(), Failure> {
        let length = body.len();
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, self.encoder.media_type().into());
        let options = PutOptions {
            attributes,
            ..PutOptions::default()
        };
        let path = Path::from(key);
        let putting = self.store.put_opts(&path, PutPayload::from(body), options);
        let result = match tokio::time::timeout(self.timeout, putting).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Err(_) => Err(Failure::timeout(self.timeout)),
        };
        let outcome = result.as_ref().map_or_else(Failure::outcome, |()| "stored");
        metrics::S3_REQUESTS
            .with([self.name.clone().into(), outcome.into()])
            .increment(1);
        if result.is_ok() {
            metrics::S3_BYTES
                .with([self.name.clone().into()])
                .increment(length as u64);
        }
        result
    }

    /// When to try again what failed so.
    fn pause(&mut self, failure: &Failure) -> std::time::Duration {
        let usual = self.backoff.next(None);
        if failure.needs_a_human() {
            tracing::error!(sink = self.name, place = self.place, %failure, "nothing is stored until this is set right");
            return self.max_backoff;
        }
        usual
    }
}

#[async_trait]
impl Sink for S3 {
    fn gather(&self) -> Gather {
        self.gather
    }

    async fn write(&mut self, batch: &Batch) -> Result<Amount, SinkError> {
        let kept = self.unfinished.take(batch).await;
        let mut progress = kept.unwrap_or_else(|| Progress {
            stem: self.template.stem(batch),
            ..Progress::default()
        });
        if let Err(failure) = self.send(batch, &mut progress).await {
            self.unfinished.keep(batch, progress).await;
            return Err(SinkError::Retriable {
                reason: format!("{}: {failure}", self.place),
                after: Some(self.pause(&failure)),
            });
        }
        self.backoff.reset();
        Ok(progress.written)
    }
}
