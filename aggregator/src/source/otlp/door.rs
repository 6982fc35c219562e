//! From a request's bytes to its answer, for gRPC and HTTP alike.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::Semaphore;
use tributary_proto::otlp::collector::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};

use super::config::OtlpConfig;
use super::event::Events;
use super::streams::Streams;
use super::take::take;
use crate::point::Timestamp;
use crate::source::{Intake, Outlets};

/// Requests that are worked on at once. Further ones wait, and their senders with them.
const AT_ONCE: u32 = 8;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// What requests come to.
pub(super) struct Door {
    resource_attributes: Vec<String>,
    streams: Streams,
    outlets: Outlets,
    /// Those that nobody uses right now.
    intakes: Mutex<Vec<Box<dyn Intake>>>,
    places: Arc<Semaphore>,
    pub(super) max_message: usize,
    pub(super) events: Events,
}

/// Why nothing of a request was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It is none.
    #[error("no ExportMetricsServiceRequest: {0}")]
    Malformed(String),
    /// Try again.
    #[error("too many requests are waiting")]
    Busy,
    /// A fault of ours.
    #[error("taking the request ended early")]
    Broken,
}

impl Door {
    pub(super) fn new(config: &OtlpConfig, name: &str, outlets: Outlets) -> Self {
        let began = u64::try_from(Timestamp::now().nanos()).unwrap_or_default();
        Self {
            resource_attributes: config.resource_attributes.clone(),
            streams: Streams::new(config.max_series, config.series_expiry.get(), began),
            outlets,
            intakes: Mutex::default(),
            places: Arc::new(Semaphore::new(AT_ONCE as usize)),
            max_message: config.max_message.as_usize(),
            events: Events::new(name),
        }
    }

    /// Takes a request. What is taken is with the outlets when it returns, also if its sender has not waited.
    pub(super) async fn take(
        self: &Arc<Self>,
        protocol: &'static str,
        body: Bytes,
    ) -> Result<ExportMetricsServiceResponse, Refusal> {
        let taken = self.try_take(protocol, body).await;
        if let Err(refusal) = &taken {
            let outcome = match refusal {
                Refusal::Malformed(_) => "malformed",
                Refusal::Busy => "busy",
                Refusal::Broken => "broken",
            };
            self.events.refused(protocol, outcome, &refusal.to_string());
        }
        taken
    }

    async fn try_take(
        self: &Arc<Self>,
        protocol: &'static str,
        body: Bytes,
    ) -> Result<ExportMetricsServiceResponse, Refusal> {
        let place = Arc::clone(&self.places).acquire_owned();
        let place = tokio::time::timeout(PATIENCE, place).await;
        let place = place
            .map_err(|_| Refusal::Busy)?
            .map_err(|_| Refusal::Busy)?;
        let door = Arc::clone(self);
        // Megabytes take their time at one go; and a sender that gives up must not leave half of them taken.
        let taking = tokio::task::spawn_blocking(move || {
            let _place = place;
            let request = ExportMetricsServiceRequest::decode(body)
                .map_err(|error| Refusal::Malformed(error.to_string()))?;
            let idle = door.intakes.lock().pop();
            let mut intake = idle.unwrap_or_else(|| (door.outlets.samples)());
            let outcome = take(
                &request,
                &door.resource_attributes,
                &door.streams,
                &mut *intake,
            );
            door.intakes.lock().push(intake);
            let (rejected, error_message) =
                door.events.taken(protocol, &outcome, door.streams.len());
            Ok(ExportMetricsServiceResponse {
                partial_success: (rejected > 0).then(|| ExportMetricsPartialSuccess {
                    rejected_data_points: i64::try_from(rejected).unwrap_or(i64::MAX),
                    error_message,
                }),
            })
        });
        taking.await.unwrap_or(Err(Refusal::Broken))
    }

    /// Waits until what is being taken is taken.
    pub(super) async fn finish(&self) {
        // Never closed, so this does not fail.
        let _ = self.places.acquire_many(AT_ONCE).await;
    }
}
