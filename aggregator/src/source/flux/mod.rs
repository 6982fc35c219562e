//! Source `flux`: Skyline Flux's HTTP interface.
//!
//! `server` keeps the connections, `door` leads a request to its answer: `body` reads it, `get`, `post` and `telegraf` judge it by `keys` and
//! `rules`, and `intake` hands what is good to the sinks. What always holds: a request is judged whole before any of it is stored, its answer comes
//! after its points are with the outlet, and what is not stored is named in the answer and counted with its cause.
//!
//! After the behaviour of Skyline's Flux (<https://earthgecko-skyline.readthedocs.io/en/latest/flux.html>); `docs/flux.md` tells the differences.

mod answer;
mod body;
mod config;
mod door;
mod event;
mod get;
mod intake;
mod item;
mod json;
mod keys;
mod post;
mod rules;
mod server;
mod tallies;
mod telegraf;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tributary_node::admin;
use tributary_node::tls::{Acceptor, Alpn};

use self::door::{Door, Judge};
use self::intake::Intake;
use self::keys::Keys;
use self::server::Server;
use super::{Outlets, Source};
use crate::point::Timestamp;

pub use config::FluxConfig;
pub use keys::ApiKeys;

/// Gives the Unix time in seconds.
type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How often key files are looked at.
const LOOK_AT_FILES: Duration = Duration::from_secs(5);

/// A Flux whose address is open.
struct Flux {
    name: String,
    config: FluxConfig,
    server: Server,
    keys: Keys,
}

impl Flux {
    async fn open(config: FluxConfig, name: &str) -> Result<Self, String> {
        let tls = Acceptor::new(&config.tls, "tls", Alpn::Http1)
            .map_err(|error| format!("tls.{error}"))?;
        let keys = config.keys()?;
        let listener = admin::bind(&config.address)
            .await
            .map_err(|error| format!("address: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        tracing::info!(source = name, %address, tls = tls.is_some(), "Flux listens");
        let server = Server {
            listener,
            tls,
            connections: config.max_connections,
        };
        Ok(Self {
            name: name.to_owned(),
            config,
            server,
            keys,
        })
    }

    /// Serves with another clock than the system's.
    async fn serve(self, outlets: Outlets, stop: CancellationToken, clock: Clock) {
        let intake = Arc::new(Intake::new(outlets));
        let door = Door::new(&self.config, self.keys, clock, intake);
        let door = Arc::new(door);
        let follow = follow_files(&self.name, &self.config, &door);
        tokio::select! {
            () = self.server.run(&door, &stop) => {}
            () = follow => {}
        }
    }
}

#[async_trait]
impl Source for Flux {
    async fn run(self: Box<Self>, outlets: Outlets, stop: CancellationToken) {
        let clock = Arc::new(|| Timestamp::now().seconds());
        self.serve(outlets, stop, clock).await;
    }
}

/// Reads key files again when they change. Ones that are not right leave the keys as they were.
async fn follow_files(name: &str, config: &FluxConfig, door: &Door) {
    let files = [&config.self_api_key_file, &config.api_keys_file];
    let mut seen = times(&files);
    loop {
        tokio::time::sleep(LOOK_AT_FILES).await;
        let now = times(&files);
        if now == seen {
            continue;
        }
        seen = now;
        match config.keys() {
            Ok(keys) => {
                tracing::info!(source = name, "read the key files again: {keys:?}");
                door.keys.store(Arc::new(keys));
            }
            Err(error) => {
                tracing::error!(source = name, error, "the keys stay as they were");
            }
        }
    }
}

fn times(files: &[&PathBuf]) -> Vec<Option<SystemTime>> {
    let time = |path: &&PathBuf| path.metadata().and_then(|file| file.modified()).ok();
    files.iter().map(time).collect()
}
