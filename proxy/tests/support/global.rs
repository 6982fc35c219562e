//! A destination that keeps what it gets, and behaves as it is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, watch};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tributary_proto::ack::{self, Unacknowledged};
use tributary_proto::raw::forward_server::{Forward, ForwardServer};
use tributary_proto::repeats::RepeatsRecognised;
use tributary_proto::scan::{self, Scanned, Stamp};

/// How a global treats what it gets.
#[derive(Debug, Clone)]
pub enum Manner {
    Takes,
    /// Takes, but asks its peers to connect anew ten times a second.
    TakesBriefly,
    /// Never answers.
    Hangs,
    /// Answers once it is told to.
    Waits(Arc<Notify>),
    /// Takes no lists but with this answer: it knows streams alone.
    StreamsOnly(Status),
    /// Refuses this many calls as unavailable, then takes.
    Busy(Arc<AtomicUsize>),
    /// Refuses everything with this answer.
    Refuses(Status),
    /// Takes, while it is told to run; otherwise it does nothing at all, as a stopped process.
    Stops(watch::Receiver<bool>),
    /// Merges, and then leaves this many calls without an answer.
    MergesInSilence(Arc<AtomicUsize>),
    /// Takes until it is told to leave; then it acknowledges what it has and turns all else away.
    Leaves(Arc<AtomicBool>),
}

/// A running global. It goes away, with its connections, when this is dropped.
pub struct Global {
    pub address: String,
    state: State,
    runtime: Option<Runtime>,
}

#[derive(Clone)]
struct State {
    got: Arc<Mutex<Vec<Bytes>>>,
    calls: Arc<AtomicUsize>,
    manner: Manner,
}

/// Starts a global of Tributary's on a free port: it says that it recognises repeats.
pub async fn ours(manner: Manner) -> Global {
    start("127.0.0.1:0", manner, true).await
}

/// Starts a global on a free port.
pub async fn global(manner: Manner) -> Global {
    at("127.0.0.1:0", manner).await
}

/// Starts a global on this address.
pub async fn at(address: &str, manner: Manner) -> Global {
    start(address, manner, false).await
}

async fn start(address: &str, manner: Manner, recognises: bool) -> Global {
    let state = State {
        got: Arc::default(),
        calls: Arc::default(),
        manner,
    };
    // A runtime of its own, so that it can go away as a process does.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let service = ForwardServer::new(state.clone());
    let mut server = Server::builder();
    if matches!(state.manner, Manner::TakesBriefly) {
        server = server.max_connection_age(Duration::from_millis(100));
    }
    let address = address.to_owned();
    let listening = runtime.spawn(async move {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let incoming = TcpIncoming::from(listener);
        if recognises {
            let service = RepeatsRecognised(service);
            tokio::spawn(server.add_service(service).serve_with_incoming(incoming));
        } else {
            tokio::spawn(server.add_service(service).serve_with_incoming(incoming));
        }
        address
    });
    Global {
        address: listening.await.unwrap(),
        state,
        runtime: Some(runtime),
    }
}

impl Drop for Global {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Global {
    /// Every metric's bytes, in the order of arrival.
    pub fn got(&self) -> Vec<Bytes> {
        self.state.got.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.state.got.lock().unwrap().len()
    }

    /// How often each stamp arrived.
    pub fn stamps(&self) -> HashMap<Stamp, usize> {
        let mut stamps = HashMap::new();
        for metric in self.got() {
            let stamp = Scanned::scan(&metric).unwrap().stamp.unwrap();
            *stamps.entry(stamp).or_default() += 1;
        }
        stamps
    }

    /// Calls that had metrics. One without only asks whether it answers.
    pub fn calls(&self) -> usize {
        self.state.calls.load(Ordering::SeqCst)
    }
}

impl State {
    async fn behave(&self, unary: bool) -> Result<(), Status> {
        match &self.manner {
            Manner::Takes | Manner::TakesBriefly | Manner::Leaves(_) => Ok(()),
            Manner::Hangs => std::future::pending().await,
            Manner::Waits(told) => {
                told.notified().await;
                Ok(())
            }
            Manner::StreamsOnly(answer) if unary => Err(answer.clone()),
            Manner::StreamsOnly(_) => Ok(()),
            Manner::Busy(left) => {
                let more = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                });
                more.map_or(Ok(()), |_| Err(Status::unavailable("later")))
            }
            Manner::Refuses(answer) => Err(answer.clone()),
            Manner::Stops(runs) => {
                runs.clone().wait_for(|runs| *runs).await.unwrap();
                Ok(())
            }
            Manner::MergesInSilence(_) => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Forward for State {
    async fn send_metrics(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let body = request.into_inner();
        if !body.is_empty() {
            self.calls.fetch_add(1, Ordering::SeqCst);
        }
        self.behave(true).await?;
        if let Manner::Leaves(leaving) = &self.manner
            && leaving.load(Ordering::SeqCst)
        {
            let got = self.got.lock().unwrap();
            let left: Unacknowledged = (0..)
                .zip(scan::frames(&body).unwrap())
                .filter(|(_, metric)| !got.contains(metric))
                .map(|(position, _)| position)
                .collect();
            let mut status = Status::unavailable("leaving");
            ack::write_turned_away(status.metadata_mut(), &left);
            return match left.is_empty() {
                true => Ok(Response::new(Bytes::new())),
                false => Err(status),
            };
        }
        self.got
            .lock()
            .unwrap()
            .extend(scan::frames(&body).unwrap());
        if let Manner::MergesInSilence(left) = &self.manner {
            let silent = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
            if silent.is_ok() {
                std::future::pending::<()>().await;
            }
        }
        Ok(Response::new(Bytes::new()))
    }

    async fn send_metrics_v2(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Bytes>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.behave(false).await?;
        let mut stream = request.into_inner();
        while let Some(metric) = stream.message().await? {
            self.got.lock().unwrap().push(metric);
        }
        Ok(Response::new(Bytes::new()))
    }
}
