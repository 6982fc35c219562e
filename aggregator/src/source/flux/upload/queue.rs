//! Uploads one after the other, from the files that they wait in to points.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::request::{Format, Request, Variables, info, with_info};
use super::series::{self, Columns, Series};
use super::status::{State, Status};
use super::store::{Posted, Record, Store};
use super::{archive, table};

/// What uploads need of the rest of Flux.
#[async_trait]
pub(crate) trait Work: Send + Sync {
    /// The newest time that is known of a metric, in Unix seconds.
    ///
    /// # Errors
    /// When it cannot be had now; it is asked again later.
    async fn last(&self, metric: &str) -> Result<Option<i64>, String>;

    /// Hands points of a metric to the sinks, in their order, and notes the newest time once they have them.
    ///
    /// # Errors
    /// When they did not get there; they are handed over again later.
    async fn store(&self, metric: &str, points: &[(i64, f64)]) -> Result<(), String>;
}

/// Accepted uploads. They are on disk, and in none of this.
#[derive(Debug)]
pub(crate) struct Queue {
    store: Arc<Store>,
    arrived: Notify,
}

/// What the data of an upload may unpack to.
const MAX_UNPACKED: usize = 256 << 20;

/// Points that are handed over at once.
const PORTION: usize = 1_000;

/// Uploads that may wait on the disk.
pub(super) const MAX_WAITING: usize = 1_000;

/// How often an upload is tried whose points do not get to the sinks, and how long after each other.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(10);

impl Queue {
    /// Keeps uploads in a directory. Those that were not done with are next.
    pub(crate) fn open(directory: PathBuf) -> io::Result<Self> {
        Ok(Self {
            store: Arc::new(Store::open(directory)?),
            arrived: Notify::new(),
        })
    }

    /// Takes an upload; it is on disk when this returns. Gives its id, of which the key has a dot for the slash; `None` if too many wait.
    pub(crate) async fn add(
        &self,
        request: &Request,
        variables: Variables,
        data: Posted,
        info: Option<&str>,
        now: i64,
    ) -> io::Result<Option<String>> {
        let (store, request) = (Arc::clone(&self.store), request.clone());
        let info = info.map(str::to_owned);
        let adding = blocking(move || {
            if store.waiting()? >= MAX_WAITING {
                return Ok(None);
            }
            let id = reserve(&store, &request.parent, now)?;
            let record = Record {
                key: key_of(&id),
                created: now,
                variables,
                status: Status::new(&request, &id, &data.name, info.as_deref()),
                newest: BTreeMap::new(),
                data_file: data.name,
            };
            store.add(&record, &data.bytes)?;
            Ok(Some(id))
        });
        let id = adding.await?;
        self.arrived.notify_one();
        Ok(id)
    }

    /// What is known of an upload.
    pub(crate) async fn status(&self, key: &str) -> io::Result<Option<Status>> {
        let (store, key) = (Arc::clone(&self.store), key.to_owned());
        let record = blocking(move || store.read(&key)).await?;
        Ok(record.map(|record| record.status))
    }

    /// Works through what there is and what comes, until `stop`. What is under way then is begun anew at the next start, and what of it had arrived is
    /// known by its time.
    pub(crate) async fn run(
        &self,
        work: &dyn Work,
        now: impl Fn() -> i64 + Send + Sync,
        stop: &CancellationToken,
    ) {
        let all = async {
            loop {
                let store = Arc::clone(&self.store);
                let at = now();
                match blocking(move || store.read_all(at)).await {
                    Ok((pending, mut newest)) => {
                        for record in pending {
                            self.work_off(record, &mut newest, work, &now).await;
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "uploads cannot be read");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                self.arrived.notified().await;
            }
        };
        stop.run_until_cancelled(all).await;
    }

    async fn work_off(
        &self,
        mut record: Record,
        newest: &mut BTreeMap<String, i64>,
        work: &dyn Work,
        now: &(impl Fn() -> i64 + Sync),
    ) {
        let began = Instant::now();
        record.status.set("processing started at", date(now()));
        self.keep(&record).await;
        let mut attempt = 1;
        let result = loop {
            match self.process(&mut record, newest, work).await {
                Err(Failure::Away(error)) if attempt < ATTEMPTS => {
                    tracing::warn!(upload = record.key, error, "an upload is tried again");
                    record.status.set("error", error);
                    self.keep(&record).await;
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                Err(Failure::Away(error) | Failure::Wrong(error)) => break Err(error),
                Ok(()) => break Ok(()),
            }
        };
        let status = &mut record.status;
        match result {
            Ok(()) => {
                status.set("error", serde_json::Value::Null);
                status.set_state(State::Complete);
            }
            Err(error) => {
                tracing::warn!(upload = record.key, error, "an upload failed");
                status.set("error", error);
                status.set_state(State::Failed);
            }
        }
        status.set("processing_time", began.elapsed().as_secs_f64());
        status.set("processing completed at", date(now()));
        if !self.keep(&record).await {
            // By what is on disk there is work left, which needs its data.
            return;
        }
        let (store, key) = (Arc::clone(&self.store), record.key);
        if let Err(error) = blocking(move || store.remove_data(&key)).await {
            tracing::warn!(%error, "the data of an upload cannot be removed");
        }
    }

    async fn process(
        &self,
        record: &mut Record,
        newest: &mut BTreeMap<String, i64>,
        work: &dyn Work,
    ) -> Result<(), Failure> {
        let (store, unread) = (Arc::clone(&self.store), record.clone());
        let read = tokio::task::spawn_blocking(move || read(&store, &unread)).await;
        let (request, files) = read
            .unwrap_or_else(|error| Err(format!("the file broke its reader: {error}")))
            .map_err(Failure::Wrong)?;
        let mut any = false;
        for (name, columns) in files {
            match columns {
                Err(error) => record.status.set_file(&name, format!("failed - {error}")),
                Ok(columns) => {
                    let count = columns.series.len();
                    for series in &columns.series {
                        let said = self.send(record, newest, series, &request, work).await?;
                        if request.debug {
                            tracing::info!(upload = record.key, metric = series.metric, "{said}");
                        }
                        let column = format!("{} ({name})", series.column);
                        record.status.set(&column, said);
                        self.keep(record).await;
                    }
                    let mut said = format!("completed - processed all {count} data columns OK");
                    if columns.bad_dates > 0 {
                        let bad = columns.bad_dates;
                        said.push_str(&format!(", {bad} rows without a readable date"));
                    }
                    record.status.set_file(&name, said);
                    any = true;
                }
            }
            self.keep(record).await;
        }
        if any {
            Ok(())
        } else {
            Err(Failure::Wrong("no data file could be processed".to_owned()))
        }
    }

    /// Sends what is new of a column, and says what became of it.
    async fn send(
        &self,
        record: &mut Record,
        newest: &mut BTreeMap<String, i64>,
        series: &Series,
        request: &Request,
        work: &dyn Work,
    ) -> Result<String, Failure> {
        let metric = &series.metric;
        if series.points.is_empty() {
            return Ok("failed - no timestamps have value data".to_owned());
        }
        // With the flag, what an earlier attempt of this very upload has sent is known still.
        let last = match request.ignore_submitted {
            true => record.newest.get(metric).copied(),
            false => {
                let known = work.last(metric).await.map_err(Failure::Away)?;
                known.max(newest.get(metric).copied())
            }
        };
        let known = series
            .points
            .partition_point(|(time, _)| last.is_some_and(|last| *time <= last));
        let new = series.points.get(known..).unwrap_or_default();
        if new.is_empty() {
            return Ok("processed - no new timestamps, all already known".to_owned());
        }
        if request.dryrun {
            let count = new.len();
            return Ok(format!(
                "processed - {count} data points not submitted, dryrun"
            ));
        }
        for portion in new.chunks(PORTION) {
            let sent = work.store(metric, portion).await;
            sent.map_err(Failure::Away)?;
            if let Some((time, _)) = portion.last() {
                record.newest.insert(metric.clone(), *time);
                let known = newest.entry(metric.clone()).or_insert(*time);
                *known = (*known).max(*time);
            }
        }
        // An earlier attempt may have sent some of them.
        let count = series.points.len() - known;
        Ok(format!("processed - {count} data points submitted"))
    }

    /// Tells whether it is on disk.
    async fn keep(&self, record: &Record) -> bool {
        let (store, record) = (Arc::clone(&self.store), record.clone());
        let kept = blocking(move || store.update(&record)).await;
        if let Err(error) = &kept {
            tracing::error!(%error, "the status of an upload cannot be written");
        }
        kept.is_ok()
    }
}

/// The id of a new upload: that of this second, or the next that is free where several of a namespace come in one, or did before a restart.
fn reserve(store: &Store, namespace: &str, now: i64) -> io::Result<String> {
    const MOST: i64 = 100_000;
    for number in now..now.saturating_add(MOST) {
        let id = format!("{namespace}/{number}");
        if store.reserve(&key_of(&id))? {
            return Ok(id);
        }
    }
    Err(io::Error::other("too many uploads at once"))
}

/// Why an upload did not get through.
enum Failure {
    /// What is needed for it is away.
    Away(String),
    /// It will not do.
    Wrong(String),
}

type Read = (String, Result<Columns, String>);

/// What is in the files of an upload.
fn read(store: &Store, record: &Record) -> Result<(Request, Vec<Read>), String> {
    let request = Request::new(&record.variables).map_err(|refusal| refusal.0)?;
    let data = store
        .data(&record.key)
        .map_err(|error| format!("the data file is gone: {error}"))?;
    let mut files = archive::unpack(request.archive, &record.data_file, data, MAX_UNPACKED)?;
    let request = if request.info_file_in_archive {
        let place = files.iter().position(|file| ends_with(&file.name, "json"));
        let file = files.swap_remove(place.ok_or("info file not found in the archive")?);
        let found = info(&file.bytes).map_err(|refusal| refusal.0)?;
        let mut variables = with_info(record.variables.clone(), found);
        variables.remove("info_file_in_archive");
        Request::new(&variables).map_err(|refusal| refusal.0)?
    } else {
        request
    };
    // What else is in an archive is not meant.
    let meant = match request.format {
        Format::Csv => "csv",
        Format::Xlsx => "xlsx",
        Format::Xls => "xls",
    };
    if files.len() > 1 {
        files.retain(|file| ends_with(&file.name, meant));
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    if files.is_empty() {
        return Err(format!("no {meant} file found in the archive"));
    }
    let read = files.into_iter().map(|file| {
        let columns = table::read(request.format, &file.bytes)
            .and_then(|rows| series::columns(rows, &request));
        (file.name, columns)
    });
    let read = read.collect();
    Ok((request, read))
}

fn ends_with(name: &str, extension: &str) -> bool {
    let (_, found) = name.rsplit_once('.').unwrap_or_default();
    found.eq_ignore_ascii_case(extension)
}

/// As clients ask for an upload.
pub(super) fn key_of(id: &str) -> String {
    id.replace('/', ".")
}

/// A date and a time as Flux writes them, in UTC.
fn date(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}
