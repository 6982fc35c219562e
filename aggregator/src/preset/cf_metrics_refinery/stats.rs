//! What cf-metrics-refinery tells at `/stats/app` and `/stats/runtime`, and once a minute in the log.
//!
//! Whoever does the work notes it here: a few atomics, which cost nothing where no preset runs.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

/// How often it is logged.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

static STATS: Stats = Stats::new();

/// Messages were taken from Kafka.
pub fn note_consumed(n: u64) {
    STATS.consume.note(n);
}

/// Messages have got the names of their app, space and organization.
pub fn note_enriched(n: u64) {
    STATS.enrich.note(n);
}

/// Messages could not get them, and are passed over.
pub fn note_enrich_failed(n: u64) {
    STATS.enrich_fail.note(n);
}

/// Messages were handed to the sinks.
pub fn note_handed(n: u64) {
    STATS.write_async.note(n);
}

/// Messages are in InfluxDB.
pub fn note_written(n: u64) {
    STATS.write.note(n);
}

/// Requests to the Cloud Controller or UAA failed.
pub fn note_cf_failed(n: u64) {
    STATS.cf_fail.note(n);
}

/// Everything that is counted.
#[derive(Debug)]
struct Stats {
    consume: Count,
    enrich: Count,
    enrich_fail: Count,
    write_async: Count,
    write: Count,
    cf_fail: Count,
}

#[derive(Debug)]
struct Count {
    total: AtomicU64,
    /// Milliseconds since 1970; 0: never.
    last: AtomicI64,
    /// The total when the last whole second ended, and how many there were in it.
    then: AtomicU64,
    per_second: AtomicU64,
}

impl Count {
    const fn new() -> Self {
        Self {
            total: AtomicU64::new(0),
            last: AtomicI64::new(0),
            then: AtomicU64::new(0),
            per_second: AtomicU64::new(0),
        }
    }

    fn note(&self, n: u64) {
        if n > 0 {
            self.total.fetch_add(n, Ordering::Relaxed);
            self.last
                .store(Timestamp::now().as_millisecond(), Ordering::Relaxed);
        }
    }

    /// A second is over.
    fn tick(&self) {
        let now = self.total.load(Ordering::Relaxed);
        let then = self.then.swap(now, Ordering::Relaxed);
        self.per_second
            .store(now.saturating_sub(then), Ordering::Relaxed);
    }

    fn last(&self) -> String {
        match self.last.load(Ordering::Relaxed) {
            // Go's zero time, which those who read this page know.
            0 => "0001-01-01T00:00:00Z".to_owned(),
            millis => Timestamp::from_millisecond(millis)
                .unwrap_or_default()
                .to_string(),
        }
    }
}

impl Stats {
    const fn new() -> Self {
        Self {
            consume: Count::new(),
            enrich: Count::new(),
            enrich_fail: Count::new(),
            write_async: Count::new(),
            write: Count::new(),
            cf_fail: Count::new(),
        }
    }

    /// Each with its name, and the name of its time.
    fn all(&self) -> [(&'static str, &'static str, &Count); 6] {
        [
            ("consume", "last_consume_time", &self.consume),
            ("enrich", "last_enrich_time", &self.enrich),
            ("enrichfail", "last_enrich_fail_time", &self.enrich_fail),
            ("writeasync", "last_writeasync_time", &self.write_async),
            ("write", "last_write_time", &self.write),
            ("cffail", "last_cffail_time", &self.cf_fail),
        ]
    }

    fn app(&self, instance_index: i64) -> Value {
        let mut shown = Map::new();
        for (name, last, count) in self.all() {
            shown.insert(name.to_owned(), json!(count.total.load(Ordering::Relaxed)));
            let rate = json!(count.per_second.load(Ordering::Relaxed));
            shown.insert(format!("{name}_per_sec"), rate);
            shown.insert(last.to_owned(), json!(count.last()));
        }
        shown.insert("instance_index".to_owned(), json!(instance_index));
        Value::Object(shown)
    }
}

/// What the process takes.
fn runtime(since: Instant) -> Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |key: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": since.elapsed().as_secs(),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "threads": number("Threads:"),
        "resident_bytes": number("VmRSS:").map(|kilobytes| kilobytes * 1024),
        "most_resident_bytes": number("VmHWM:").map(|kilobytes| kilobytes * 1024),
        "open_files": std::fs::read_dir("/proc/self/fd").map(Iterator::count).ok(),
    })
}

/// The pages of these numbers.
pub(super) fn router(instance_index: i64) -> Router {
    let since = Instant::now();
    Router::new()
        .route(
            "/stats/app",
            get(async move || axum::Json(STATS.app(instance_index))),
        )
        .route(
            "/stats/runtime",
            get(async move || axum::Json(runtime(since))),
        )
}

/// Keeps the rates, and logs, until `stop`.
pub(super) async fn keep(instance_index: i64, stop: CancellationToken) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut logged = tokio::time::Instant::now();
    while stop.run_until_cancelled(seconds.tick()).await.is_some() {
        for (_, _, count) in STATS.all() {
            count.tick();
        }
        if logged.elapsed() >= LOGGED_EVERY {
            logged = tokio::time::Instant::now();
            tracing::info!("stats: {}", STATS.app(instance_index));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_names_that_its_readers_know() {
        let stats = Stats::new();
        stats.consume.note(3);
        stats.consume.tick();
        stats.write.note(0);
        let page = stats.app(2);
        let keys: Vec<&str> = page
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut wanted = vec![
            "consume",
            "consume_per_sec",
            "last_consume_time",
            "enrich",
            "enrich_per_sec",
            "last_enrich_time",
            "enrichfail",
            "enrichfail_per_sec",
            "last_enrich_fail_time",
            "writeasync",
            "writeasync_per_sec",
            "last_writeasync_time",
            "write",
            "write_per_sec",
            "last_write_time",
            "cffail",
            "cffail_per_sec",
            "last_cffail_time",
            "instance_index",
        ];
        wanted.sort_unstable();
        let mut keys = keys;
        keys.sort_unstable();
        assert_eq!(keys, wanted);
        assert_eq!(
            (&page["consume"], &page["consume_per_sec"]),
            (&json!(3), &json!(3))
        );
        assert_eq!(page["instance_index"], json!(2));
        assert_eq!(page["last_write_time"], "0001-01-01T00:00:00Z");
        let time: Timestamp = page["last_consume_time"].as_str().unwrap().parse().unwrap();
        assert!(time.as_second() > 1_700_000_000);
        stats.consume.tick();
        assert_eq!(stats.app(0)["consume_per_sec"], json!(0));
    }

    #[test]
    fn the_runtime_page_knows_the_process() {
        let page = runtime(Instant::now());
        assert!(
            page["resident_bytes"].as_u64().unwrap() > 1024 * 1024,
            "{page}"
        );
        assert!(page["threads"].as_u64().unwrap() >= 1);
    }
}
