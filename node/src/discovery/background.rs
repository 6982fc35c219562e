//! A discovery whose looking is a task of its own, so that who follows it may stop waiting at any moment without breaking a question off.

use std::future::Future;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Discovery, Endpoint};
use crate::BoxError;
use crate::metrics::{DESTINATION_NUMBER, DISCOVERY_DURATION};

/// The follower's end. Dropping it ends the task.
#[derive(Debug)]
pub(super) struct Background {
    service: String,
    answers: mpsc::Receiver<Result<Vec<Endpoint>, BoxError>>,
    _looking: DropGuard,
}

/// The task's end.
#[derive(Debug)]
pub(super) struct Answers {
    service: String,
    to: mpsc::Sender<Result<Vec<Endpoint>, BoxError>>,
    last: Option<Vec<Endpoint>>,
}

/// Starts `look` as a task; `service` is its name in metrics and the log.
pub(super) fn start<F: Future<Output = ()> + Send + 'static>(
    service: &str,
    look: impl FnOnce(Answers) -> F,
) -> Background {
    // One is enough: a list that nobody has taken yet holds up the task, not the memory.
    let (to, answers) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let service = service.to_owned();
    let looking = look(Answers {
        service: service.clone(),
        to,
        last: None,
    });
    let stopped = stop.clone();
    tokio::spawn(async move { stopped.run_until_cancelled_owned(looking).await });
    Background {
        service,
        answers,
        _looking: stop.drop_guard(),
    }
}

impl Answers {
    /// Tells who there is, sorted and each once, if it is somebody and not what was told before. `since` is when it began to be found out.
    pub(super) async fn tell(&mut self, mut endpoints: Vec<Endpoint>, since: Instant) {
        endpoints.sort();
        endpoints.dedup_by(|a, b| a.address == b.address);
        if endpoints.is_empty() {
            return self.fail("names nobody").await;
        }
        let service = self.service.clone();
        DESTINATION_NUMBER
            .with([service.clone().into()])
            .set(endpoints.len() as f64);
        DISCOVERY_DURATION
            .with([service.into()])
            .record(since.elapsed().as_nanos() as f64);
        if self.last.as_ref() != Some(&endpoints) {
            self.last = Some(endpoints.clone());
            self.give(Ok(endpoints)).await;
        }
    }

    /// Tells that nobody could be found out about. Who follows counts it, and changes nothing.
    pub(super) async fn fail(&mut self, error: impl Into<BoxError>) {
        self.give(Err(error.into())).await;
    }

    async fn give(&self, answer: Result<Vec<Endpoint>, BoxError>) {
        // Nobody follows any more: the task is about to be ended.
        let _ = self.to.send(answer).await;
    }
}

#[async_trait]
impl Discovery for Background {
    fn service(&self) -> &str {
        &self.service
    }

    async fn next(&mut self) -> Result<Vec<Endpoint>, BoxError> {
        match self.answers.recv().await {
            Some(answer) => answer,
            // Its task is gone, which only a fault of ours does. It is told once a minute, not in a busy loop.
            None => {
                tokio::time::sleep(std::time::Duration::from_secs(60)).await;
                Err("has stopped looking".into())
            }
        }
    }
}
