//! The proxy as a running whole: sockets bound, tasks started, and an orderly end.
//!
//! Leaving: the proxy takes itself out of Consul, `/ready` says so, and connections are asked to end in good order, when their requests are answered. Whoever connects again, since it
//! has not been told yet to go elsewhere, is served until clients stay away, or for half of `shutdown_timeout`. Then the queues are sent, all
//! within `shutdown_timeout`. The admin pages stay until the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::select_all;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tributary_node::config::Problems;
use tributary_node::consul::Registration;
use tributary_node::discovery::Discovery;
use tributary_node::grpc::{self, GrpcSettings};
use tributary_node::tap::Taps;
use tributary_node::tls::{Acceptor, Alpn, Incoming};
use tributary_node::{BoxError, Node, Reloads, admin};
use tributary_proto::raw::forward_server::SERVICE_NAME;

use crate::config::Config;
use crate::destination::{Budget, Limits, Settings, Tls};
use crate::discovery;
use crate::ignore::IgnoredTags;
use crate::ingest::{self, Activity};
use crate::membership::{Membership, Order, Reconfiguration, Rules};
use crate::metrics;
use crate::overview;
use crate::ring::Ring;
use crate::route::{Router, Table, wall_clock};
use crate::status;

/// A proxy that takes metrics.
#[derive(Debug)]
pub struct Proxy {
    grpc_addresses: Vec<SocketAddr>,
    http_address: Option<SocketAddr>,
    router: Arc<Router>,
    node: Node,
    reloads: Reloads<Config>,
    shutdown_timeout: Duration,
    controls: Controls,
    grpc: Option<Doors>,
    activity: Arc<Activity>,
    /// Nothing is taken any more.
    closing: CancellationToken,
    /// Ends discovery; its task gives the destinations back.
    settle: CancellationToken,
    membership: JoinHandle<Membership>,
    registration: Option<Registration>,
}

/// How settings get to where they are used.
#[derive(Debug)]
struct Controls {
    orders: mpsc::Sender<Order>,
    budget: Arc<Budget>,
    ack_timeout: watch::Sender<Duration>,
    tls: Option<Tls>,
}

type Serving = JoinHandle<()>;

/// Two servers on one socket.
#[derive(Debug)]
struct Doors {
    /// Serves until the proxy is told to leave.
    front: Serving,
    /// Serves those that come after that.
    back: Serving,
}

/// After this long without a request, or a tenth of `shutdown_timeout`, clients have gone elsewhere.
const QUIET: Duration = Duration::from_secs(1);

/// Runs a proxy until `node.stop`, and through its orderly end.
///
/// # Errors
/// When it cannot start, or can no longer take connections.
pub async fn run(config: Config, node: Node) -> Result<(), BoxError> {
    let discovery = discovery::from_config(&config)?;
    Proxy::start(&config, node, discovery).await?.wait().await
}

impl Proxy {
    /// Binds the sockets and starts to route.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn start(
        config: &Config,
        node: Node,
        discovery: Box<dyn Discovery>,
    ) -> Result<Self, BoxError> {
        let acceptor = Acceptor::new(&config.grpc_tls, "grpc_tls", Alpn::Http2)
            .map_err(|error| format!("grpc_tls.{error}"))?;
        let mut listeners = Vec::new();
        for (address, by_tls) in config.grpc_listeners() {
            let tls = acceptor.clone().filter(|_| by_tls);
            listeners.push((admin::bind(address).await?, tls));
        }
        let tls = Tls::new(&config.forward_tls).map_err(|error| format!("forward_tls.{error}"))?;
        let budget = Arc::new(Budget::new(config.queue.total.as_usize()));
        let router = router(config, budget.clone(), node.taps.clone())?;
        let max_message = config.max_message_size.as_usize();
        let closing = CancellationToken::new();
        let activity = Arc::new(Activity::default());
        let routes = ingest::import::routes(router.clone(), max_message, closing.clone())
            .merge(status::routes(router.clone()))
            .merge(overview::routes(router.clone(), config.interval.get()));
        // Before anybody can ask: what is not known yet must not count as ready.
        let known = node
            .readiness
            .condition("destinations", "no destination is known");
        let http_address = node.serve_admin(routes).await?;

        let rules = Rules {
            algorithm: config.ring.algorithm,
            interval: config.interval.get(),
            failover_after: config.failover_after.get(),
        };
        let mut membership = Membership::new(
            router.clone(),
            rules,
            settings(config, &tls),
            budget.clone(),
        );
        let (orders, ordered) = mpsc::channel(1);
        let (ack_timeout, ack_timeouts) = watch::channel(config.ack_timeout.get());
        let controls = Controls {
            orders,
            budget: budget.clone(),
            ack_timeout,
            tls,
        };
        let settle = CancellationToken::new();
        let settled = settle.clone();
        let membership = tokio::spawn(async move {
            tokio::select! {
                () = membership.follow(discovery, known, ordered) => {}
                () = settled.cancelled() => {}
            }
            membership
        });
        tokio::spawn(observe(
            router.clone(),
            budget,
            config.stats_interval.get(),
            settle.clone(),
        ));
        tokio::spawn(keep_books(
            router.clone(),
            config.interval.get(),
            settle.clone(),
        ));

        let grpc_settings = GrpcSettings {
            max_message,
            max_connection_age: config.grpc_max_connection_age.get(),
            max_connection_age_grace: config.grpc_max_connection_age_grace.get(),
            ..GrpcSettings::default()
        };
        let mut grpc_addresses = Vec::new();
        for (listener, tls) in &listeners {
            let (address, tls) = (listener.local_addr()?, tls.is_some());
            tracing::info!(%address, tls, "gRPC server listens");
            grpc_addresses.push(address);
        }
        let service = ingest::grpc::service(
            router.clone(),
            &grpc_settings,
            ack_timeouts,
            activity.clone(),
            node.stop.clone(),
        );
        let routes =
            Routes::new(service).add_service(grpc::health(&node.readiness, &[SERVICE_NAME]));
        let serve =
            |listeners: Vec<Incoming>, from: CancellationToken, until: CancellationToken| {
                let (settings, routes) = (grpc_settings.clone(), routes.clone());
                tokio::spawn(async move {
                    from.cancelled().await;
                    grpc::serve(&settings, routes, select_all(listeners), until).await;
                })
            };
        let grpc = match listeners.is_empty() {
            true => None,
            false => {
                let (front, back) = two(listeners)?;
                let now = CancellationToken::new();
                now.cancel();
                Some(Doors {
                    front: serve(front, now, node.stop.clone()),
                    back: serve(back, node.stop.clone(), closing.clone()),
                })
            }
        };
        node.started();
        let listener = config.grpc_listeners().first().copied();
        let registration = Registration::start(
            &config.consul(),
            &config.consul_register,
            listener.map_or("", |(address, _)| address),
            grpc_addresses.first().copied(),
            &node.readiness,
            node.stop.clone(),
        )?;
        Ok(Self {
            grpc_addresses,
            http_address,
            router,
            reloads: node.reloads(config.clone()),
            node,
            shutdown_timeout: config.shutdown_timeout.get(),
            controls,
            grpc,
            activity,
            closing,
            settle,
            membership,
            registration,
        })
    }

    /// Where gRPC is taken, first of all.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_addresses.first().copied()
    }

    /// Where HTTP is taken.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// The routing.
    pub fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// Waits for `node.stop`, follows changes of the settings until then, and goes through the orderly end.
    ///
    /// # Errors
    /// When the gRPC server ends by itself.
    pub async fn wait(self) -> Result<(), BoxError> {
        let Self {
            node,
            mut reloads,
            mut shutdown_timeout,
            controls,
            mut grpc,
            activity,
            closing,
            settle,
            membership,
            registration,
            ..
        } = self;
        loop {
            tokio::select! {
            // The server ends by it too.
            biased;
            () = node.stop.cancelled() => break,
            change = reloads.next() => match controls.reconfigure(&change.old, &change.new).await {
                Ok(()) => {
                    shutdown_timeout = change.new.shutdown_timeout.get();
                    reloads.applied(change);
                }
                Err(error) => reloads.refused(&error),
            },
            Some(ended) = async { Some((&mut grpc.as_mut()?.front).await) } => {
                return Err(match ended {
                    Ok(()) => "gRPC server ended".into(),
                    Err(error) => error.into(),
                });
            }
            }
        }
        node.readiness.set_draining();
        let start = Instant::now();
        // Being late is no error: then nothing new is taken.
        if let Some(registration) = registration {
            let _ = timeout_at(start + shutdown_timeout / 4, registration.ended()).await;
        }
        let half = start + shutdown_timeout / 2;
        let _ = timeout_at(half, activity.quiet(QUIET.min(shutdown_timeout / 10))).await;
        closing.cancel();
        if let Some(Doors { front, back }) = &mut grpc
            && timeout_at(half + shutdown_timeout / 4, async {
                tokio::join!(&mut *front, &mut *back)
            })
            .await
            .is_err()
        {
            tracing::warn!("requests were still under way and have been cut off");
            front.abort();
            back.abort();
        }
        settle.cancel();
        let membership = membership.await?;
        let left = node.done_by().saturating_duration_since(Instant::now());
        membership.drain(left).await;
        Ok(())
    }
}

impl Controls {
    /// Goes over to other settings, or changes nothing.
    async fn reconfigure(&self, old: &Config, new: &Config) -> Result<(), BoxError> {
        let endpoints = new.static_endpoints();
        let named = new.is_static() && endpoints != old.static_endpoints();
        let (done, outcome) = oneshot::channel();
        let what = Reconfiguration {
            endpoints: named.then_some(endpoints),
            ignored: match new.ignore_tags == old.ignore_tags {
                true => None,
                false => Some(ignored(new)?),
            },
            failover_after: new.failover_after.get(),
            settings: settings(new, &self.tls),
        };
        self.orders.send(Order { what, done }).await?;
        outcome.await??;
        self.budget.set_limit(new.queue.total.as_usize());
        self.ack_timeout.send_replace(new.ack_timeout.get());
        Ok(())
    }
}

/// What all destinations have in common.
fn settings(config: &Config, tls: &Option<Tls>) -> Settings {
    Settings {
        limits: Limits::of_queue(config.queue.per_destination.as_usize()),
        dial_timeout: config.dial_timeout.get(),
        forward_timeout: config.forward_timeout.get(),
        stall_after: config.stall_after.get(),
        tls: tls.clone(),
    }
}

fn ignored(config: &Config) -> Result<IgnoredTags, BoxError> {
    let mut problems = Problems::new("settings");
    let ignored = IgnoredTags::compile(&config.ignore_tags, &mut problems);
    match problems.is_empty() {
        true => Ok(ignored),
        false => Err(problems.into()),
    }
}

/// The same sockets twice.
fn two(
    listeners: Vec<(TcpListener, Option<Acceptor>)>,
) -> io::Result<(Vec<Incoming>, Vec<Incoming>)> {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    for (listener, tls) in listeners {
        let first = listener.into_std()?;
        let second = first.try_clone()?;
        front.push(Incoming::new(TcpListener::from_std(first)?, tls.clone()));
        back.push(Incoming::new(TcpListener::from_std(second)?, tls));
    }
    Ok((front, back))
}

/// A router without destinations.
fn router(config: &Config, budget: Arc<Budget>, taps: Taps) -> Result<Arc<Router>, BoxError> {
    let ignored = Arc::new(ignored(config)?);
    let ring = Arc::new(Ring::build(config.ring.algorithm, [])?);
    let nobody = Table::new(0, 0, ring, ignored, Vec::new());
    Ok(Arc::new(Router::new(nobody, budget).with_taps(taps)))
}

/// Closes an interval of the ledger at each multiple of it by the wall clock.
async fn keep_books(router: Arc<Router>, interval: Duration, settle: CancellationToken) {
    let interval = (interval.as_millis() as u64).max(1);
    loop {
        let end = (wall_clock() / interval + 1) * interval;
        while let left @ 1.. = end.saturating_sub(wall_clock()) {
            // Not in one piece: the clock may be set.
            let nap = Duration::from_millis(left.min(1000));
            tokio::select! {
                () = settle.cancelled() => return,
                () = tokio::time::sleep(nap) => {}
            }
        }
        router.ledger().close_interval(end / 1000);
    }
}

/// Shows the state of the queues, and what each destination was given since the last time.
async fn observe(
    router: Arc<Router>,
    budget: Arc<Budget>,
    every: Duration,
    settle: CancellationToken,
) {
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(100)));
    loop {
        tokio::select! {
            () = settle.cancelled() => return,
            _ = ticks.tick() => {}
        }
        metrics::QUEUE_BYTES_TOTAL.set(budget.used() as f64);
        for destination in router.table().destinations() {
            let report = destination.report();
            let name = || [report.address.to_string().into()];
            metrics::METRICS_BY_DESTINATION
                .with(name())
                .set(destination.take_routed() as f64);
            metrics::BUFFER_SIZE
                .with(name())
                .set(report.queued_metrics as f64);
            metrics::AVAILABLE
                .with(name())
                .set(f64::from(u8::from(report.unavailable.is_none())));
            metrics::QUEUE_BYTES
                .with(name())
                .set(report.queued_bytes as f64);
        }
    }
}
