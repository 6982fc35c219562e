//! Source `flux`: Skyline Flux's HTTP interface.
//!
//! `server` keeps the connections, `door` leads a request to its answer: `body` reads it, `get`, `post` and `telegraf` judge it by `keys` and
//! `rules`, and `intake` hands what is good to the sinks, past `quota` and `marks`, or into an `aggregate`. `outbox` brings what has to be kept to
//! `memory`, a file, and to `redis`. What always holds: a request is judged whole before any of it is stored, its answer comes
//! after its points are with the outlet, and what is not stored is named in the answer and counted with its cause.
//!
//! `upload` turns files into points and `populate` fetches a metric's past, both in the background and by `stock`; `page` is the form.
//!
//! After the behaviour of Skyline's Flux (<https://earthgecko-skyline.readthedocs.io/en/latest/flux.html>); `docs/flux.md` tells the differences.

mod aggregate;
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
mod marks;
mod memory;
mod outbox;
mod page;
mod populate;
mod post;
mod quota;
mod redis;
mod rules;
mod server;
mod stock;
mod tallies;
mod telegraf;
#[cfg(test)]
mod tests;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tributary_node::admin;
use tributary_node::tls::{Acceptor, Alpn};

use self::door::{Door, Judge};
use self::intake::Intake;
use self::keys::Keys;
use self::memory::{Memory, Remembered};
use self::populate::{Hosts, Worker};
use self::redis::Shared;
use self::server::Server;
use self::stock::Stock;
use self::upload::Desk;
use super::{Outlets, Source};
use crate::point::Timestamp;

pub use aggregate::{AggregateConfig, Method};
pub use config::{FluxConfig, UploadsConfig};
pub use keys::ApiKeys;
pub use upload::UploadKeys;

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
    memory: Option<Memory>,
    remembered: Remembered,
    shared: Option<Shared>,
    extras: Extras,
}

/// What only some have.
struct Extras {
    uploads: Option<Desk>,
    populate: Option<(Hosts, Worker)>,
}

impl Extras {
    async fn open(config: &FluxConfig, name: &str) -> Result<Self, String> {
        let uploads = match config.uploads.enabled {
            false => None,
            true => {
                let (config, name) = (config.clone(), name.to_owned());
                let opening = tokio::task::spawn_blocking(move || {
                    let directory = config.state_dir.join(memory::plain(&name) + ".uploads");
                    let uploads = config.uploads;
                    let most = uploads.max_body.get();
                    Desk::open(&directory, uploads.keys, most, uploads.timeout.get())
                });
                let opened = opening.await.map_err(|error| error.to_string())?;
                Some(opened.map_err(|error| format!("state_dir: {error}"))?)
            }
        };
        let hosts = Hosts::new(&config.populate_hosts)
            .map_err(|error| format!("populate_hosts: {error}"))?;
        let populate = match hosts.is_empty() {
            true => None,
            false => {
                let worker = Worker::new(&config.populate_tls)
                    .map_err(|error| format!("populate_tls.{error}"))?;
                Some((hosts, worker))
            }
        };
        Ok(Self { uploads, populate })
    }

    /// Works on what is asked for in the background, until `stop`.
    async fn work(&self, stock: &Stock, stop: &CancellationToken) {
        let now = || (stock.clock)();
        let uploads = async {
            if let Some(desk) = &self.uploads {
                desk.queue.run(stock, now, stop).await;
            }
        };
        let populate = async {
            if let Some((_, worker)) = &self.populate {
                worker.run(stock, now, stop).await;
            }
        };
        tokio::join!(uploads, populate);
    }
}

impl Flux {
    async fn open(config: FluxConfig, name: &str) -> Result<Self, String> {
        let tls = Acceptor::new(&config.tls, "flux", Alpn::Http1)
            .map_err(|error| format!("tls.{error}"))?;
        let keys = config.keys()?;
        let (memory, remembered) = remember(&config, name).await?;
        let shared = match config.redis.expose() {
            "" => None,
            url => Some(Shared::new(url).map_err(|error| format!("redis: {error}"))?),
        };
        let extras = Extras::open(&config, name).await?;
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
            memory,
            remembered,
            shared,
            extras,
        })
    }

    /// Serves with another clock than the system's.
    async fn serve(mut self, outlets: Outlets, stop: CancellationToken, clock: Clock) {
        let intake = Arc::new(Intake::new(
            &self.config,
            outlets,
            self.memory,
            self.shared,
            &mut self.remembered,
        ));
        intake.resume(self.remembered.queue, clock()).await;
        let door = Door::new(
            &self.config,
            self.keys,
            Arc::clone(&clock),
            Arc::clone(&intake),
            self.extras,
        );
        let door = Arc::new(door);
        let stock = Stock {
            intake: Arc::clone(&intake),
            clock: Arc::clone(&clock),
        };
        let working = async {
            door.extras.work(&stock, &stop).await;
            // It ends with `stop` alone, or at once where there is nothing of it.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.server.run(&door, &stop) => {}
            () = working => {}
            () = follow_files(&self.name, &self.config, &door) => {}
            () = keep_time(&self.config, &intake, &clock) => {}
        }
        intake.finish(clock()).await;
    }
}

/// Reads what an earlier run has left.
async fn remember(config: &FluxConfig, name: &str) -> Result<(Option<Memory>, Remembered), String> {
    if config.state_dir.as_os_str().is_empty() {
        return Ok((None, Remembered::default()));
    }
    let (directory, name) = (config.state_dir.clone(), name.to_owned());
    let opening = tokio::task::spawn_blocking(move || Memory::open(&directory, &name));
    let opened = opening.await.map_err(|error| error.to_string())?;
    let (memory, remembered) = opened.map_err(|error| format!("state_dir: {error}"))?;
    Ok((Some(memory), remembered))
}

/// Does what is due with time: intervals end each second that is theirs, the rest is due each minute.
async fn keep_time(config: &FluxConfig, intake: &Arc<Intake>, clock: &Clock) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_minute = clock();
    loop {
        ticks.tick().await;
        let now = clock();
        intake.close_intervals(now, false);
        if now - last_minute >= 60 || now < last_minute {
            last_minute = now;
            intake.minute(config, now).await;
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
