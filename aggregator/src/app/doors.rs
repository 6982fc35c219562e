//! Everything through which metrics come in, and how it closes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tributary_node::BoxError;
use tributary_node::admin::{self, Readiness};
use tributary_node::grpc::GrpcSettings;
use tributary_node::tls::{Acceptor, Alpn, Incoming};

use crate::config::Config;
use crate::import::{self, Intake};
use crate::source::listen::{self, KernelDrops, ListenAddress, Listeners, StatsdConfig};
use crate::source::{self, Outlets};
use crate::table::Table;

/// How long requests under way may take once the import server stops. A proxy's stream has no end of its own.
const IMPORT_GRACE: Duration = Duration::from_secs(2);

/// The addresses of the import server and of the sources are ours; nothing is taken yet.
pub(super) struct Bound {
    grpc: Option<Incoming>,
    grpc_address: Option<SocketAddr>,
    statsd_tls: Option<Acceptor>,
    sources: source::Opened,
}

/// The open doors. `POST /import` is the admin server's, and closes with the intake.
pub(super) struct Doors {
    stop_statsd: CancellationToken,
    statsd: Option<Listeners>,
    sources: source::Running,
    stop_grpc: CancellationToken,
    grpc: Option<JoinHandle<()>>,
    intake: Arc<Intake>,
}

impl Doors {
    /// Takes the addresses of the import server and of the sources.
    pub(super) async fn bind(config: &Config) -> Result<Bound, BoxError> {
        let tls = Acceptor::new(&config.grpc_tls, "grpc_tls", Alpn::Http2)
            .map_err(|error| format!("grpc_tls.{error}"))?;
        let statsd_tls = Acceptor::new(&config.statsd_tls, "statsd_tls", Alpn::None)
            .map_err(|error| format!("statsd_tls.{error}"))?;
        let (grpc, grpc_address) = match config.grpc_address.as_str() {
            "" => (None, None),
            address => {
                let listener = admin::bind(address)
                    .await
                    .map_err(|error| format!("grpc_address: {error}"))?;
                let address = listener.local_addr()?;
                tracing::info!(%address, tls = tls.is_some(), "gRPC import listens");
                (Some(Incoming::new(listener, tls)), Some(address))
            }
        };
        Ok(Bound {
            grpc,
            grpc_address,
            statsd_tls,
            sources: source::Opened::open(&config.sources).await?,
        })
    }

    /// What the kernel drops before it is read.
    pub(super) fn kernel_drops(&self) -> KernelDrops {
        self.statsd
            .as_ref()
            .map(Listeners::kernel_drops)
            .unwrap_or_default()
    }

    /// Takes nothing more; when it returns, all that was taken is in the table. The import server goes on, and turns away what comes.
    pub(super) async fn stop_taking(&mut self, deadline: Instant) {
        self.stop_statsd.cancel();
        self.sources.stop();
        let statsd = self.statsd.take();
        let all = async {
            let statsd = async {
                if let Some(statsd) = statsd {
                    statsd.join().await;
                }
            };
            tokio::join!(statsd, self.sources.join());
            self.intake.close().await;
        };
        if timeout_at(part_of(deadline, 2), all).await.is_err() {
            tracing::error!("still taking metrics in: what comes from here on is lost");
        }
    }

    /// Takes what has arrived already, and nothing more.
    pub(super) async fn close(mut self, deadline: Instant) {
        self.stop_grpc.cancel();
        self.stop_statsd.cancel();
        self.sources.stop();
        // Requests under way are merged while the server ends; whatever still merges after that is waited for.
        if let Some(grpc) = self.grpc.take() {
            let grace = part_of(deadline, 4).min(Instant::now() + IMPORT_GRACE);
            match timeout_at(grace, grpc).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => tracing::error!(%error, "the import server ended badly"),
            }
        }
        self.stop_taking(deadline).await;
    }
}

impl Bound {
    /// Where the import server takes metrics.
    pub(super) fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_address
    }

    /// Starts to take metrics.
    pub(super) fn open(
        self,
        config: &Config,
        table: Arc<Table>,
        outlets: &Outlets,
        intake: Arc<Intake>,
        readiness: &Readiness,
    ) -> Result<Doors, BoxError> {
        let statsd = StatsdConfig {
            listen: config
                .statsd_addresses()
                .iter()
                .map(|address| address.parse::<ListenAddress>())
                .collect::<Result<_, _>>()?,
            num_readers: config.num_readers.get(),
            read_buffer_size_bytes: config.read_buffer_size_bytes.as_usize(),
            reuse_port: config.reuse_port,
            metric_max_length: config.metric_max_length.as_usize(),
            tls: self.statsd_tls,
        };
        let stop_statsd = CancellationToken::new();
        let statsd = listen::start(&statsd, move || table.writer(), stop_statsd.clone())?;
        let stop_grpc = CancellationToken::new();
        let grpc = self
            .grpc
            .map(|incoming| serve_grpc(incoming, config, &intake, readiness, &stop_grpc));
        Ok(Doors {
            stop_statsd,
            statsd: Some(statsd),
            sources: self.sources.run(outlets),
            stop_grpc,
            grpc,
            intake,
        })
    }
}

/// The moment at which one of so many parts of the time up to the deadline is over.
fn part_of(deadline: Instant, parts: u32) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / parts
}

fn serve_grpc(
    incoming: Incoming,
    config: &Config,
    intake: &Arc<Intake>,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> JoinHandle<()> {
    let settings = GrpcSettings {
        max_message: config.import_max_size.as_usize(),
        max_connection_age: config.grpc_max_connection_age.get(),
        max_connection_age_grace: config.grpc_max_connection_age_grace.get(),
        ..GrpcSettings::default()
    };
    let (intake, readiness) = (Arc::clone(intake), readiness.clone());
    let stop = stop.clone();
    tokio::spawn(import::serve(
        incoming,
        intake,
        settings,
        readiness,
        stop,
        IMPORT_GRACE,
    ))
}
