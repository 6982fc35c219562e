//! `grpc.health.v1.Health`: what `/ready` says, for those who speak gRPC.
//!
//! `SERVING` while the program is ready and `NOT_SERVING` while it is not, or is leaving. A stream of `Watch` ends once it has told that the
//! program is leaving: nothing follows, and no connection has to wait for it.

use std::pin::Pin;

use futures_util::Stream;
use futures_util::stream::unfold;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::admin::Readiness;

/// The service, for the program as a whole (the empty name) and for these services of its.
pub fn health(
    readiness: &Readiness,
    services: &'static [&'static str],
) -> HealthServer<impl Health + use<>> {
    HealthServer::new(Answers {
        readiness: readiness.clone(),
        services,
    })
}

struct Answers {
    readiness: Readiness,
    services: &'static [&'static str],
}

type Answer = Result<HealthCheckResponse, Status>;

#[async_trait]
impl Health for Answers {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !self.knows(&service) {
            return Err(Status::not_found(format!("no service {service:?} here")));
        }
        answer(serving(self.readiness.check().is_ok())).map(Response::new)
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = self.knows(&request.into_inner().service);
        let states = self.readiness.subscribe();
        let told = unfold((states, None), move |(mut states, last)| async move {
            loop {
                let (leaving, ready) = {
                    let state = states.borrow_and_update();
                    (state.is_draining(), state.check().is_ok())
                };
                let status = match known {
                    // The protocol keeps the stream open: the service might come.
                    false => ServingStatus::ServiceUnknown,
                    true => serving(ready),
                };
                if last != Some(status) {
                    return Some((answer(status), (states, Some(status))));
                }
                if leaving || states.changed().await.is_err() {
                    return None;
                }
            }
        });
        Ok(Response::new(Box::pin(told)))
    }
}

impl Answers {
    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.services.contains(&service)
    }
}

fn serving(ready: bool) -> ServingStatus {
    match ready {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    }
}

fn answer(status: ServingStatus) -> Answer {
    Ok(HealthCheckResponse {
        status: status.into(),
    })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn answers(readiness: &Readiness) -> Answers {
        Answers {
            readiness: readiness.clone(),
            services: &["forwardrpc.Forward"],
        }
    }

    fn of(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest {
            service: service.to_owned(),
        })
    }

    #[tokio::test]
    async fn it_says_what_ready_says() {
        let readiness = Readiness::new();
        let answers = answers(&readiness);
        let start = readiness.condition("start", "starting");
        for service in ["", "forwardrpc.Forward"] {
            let status = async || {
                answers
                    .check(of(service))
                    .await
                    .unwrap()
                    .into_inner()
                    .status()
            };
            start.fails("starting");
            assert_eq!(status().await, ServingStatus::NotServing);
            start.holds();
            assert_eq!(status().await, ServingStatus::Serving);
        }
        let unknown = answers.check(of("other")).await.unwrap_err();
        assert_eq!(unknown.code(), tonic::Code::NotFound);
        readiness.set_draining();
        let status = answers.check(of("")).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::NotServing);
    }

    #[tokio::test]
    async fn a_watch_tells_each_change_and_ends_when_the_program_leaves() {
        let readiness = Readiness::new();
        let answers = answers(&readiness);
        let mut told = answers.watch(of("")).await.unwrap().into_inner();
        let mut next = async || Some(told.next().await?.unwrap().status());
        assert_eq!(next().await, Some(ServingStatus::Serving));
        let ring = readiness.condition("ring", "none");
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        ring.holds();
        assert_eq!(next().await, Some(ServingStatus::Serving));
        readiness.set_draining();
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        assert_eq!(next().await, None);
    }
}
