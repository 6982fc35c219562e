//! `GET /api/tap`: a tap as an answer that goes on.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{Filter, Listener, Observed, Rate, Taps};

/// How often a tap tells what it left out.
const TELL: Duration = Duration::from_secs(1);
/// How many of these go by at most before it tells that it lives: a client that is gone is noticed by writing to it.
const SILENT: u32 = 10;

#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(default)]
    filter: String,
    rate: Option<String>,
}

/// The route, which needs the admin server as all others do.
pub(crate) fn routes(taps: Taps) -> Router {
    Router::new().route("/api/tap", get(tap)).with_state(taps)
}

async fn tap(State(taps): State<Taps>, Query(wanted): Query<Wanted>) -> Response {
    let bad = |error: String| (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response();
    let filter = match wanted.filter.parse::<Filter>() {
        Ok(filter) => filter,
        Err(error) => return bad(error.to_string()),
    };
    let rate = match wanted
        .rate
        .as_deref()
        .map_or(Ok(Rate::default()), str::parse)
    {
        Ok(rate) => rate,
        Err(error) => return bad(error.to_string()),
    };
    let listener = match taps.listen(filter, rate) {
        Ok(listener) => listener,
        Err(error) => {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response();
        }
    };
    tracing::info!(filter = wanted.filter, "a tap is opened");
    let body = stream::unfold(Some(Telling::new(listener)), next);
    (
        [
            (header::CONTENT_TYPE, "application/x-ndjson"),
            (header::CACHE_CONTROL, "no-store"),
        ],
        Body::from_stream(body),
    )
        .into_response()
}

/// A listener, and when it tells what about itself.
struct Telling {
    listener: Listener,
    ticks: Interval,
    silent: u32,
    told: Left,
}

/// What a tap has seen and left out since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Left {
    over_rate: u64,
    queue_full: u64,
}

async fn next(telling: Option<Telling>) -> Option<(Result<Bytes, Infallible>, Option<Telling>)> {
    let mut telling = telling?;
    let ends = telling.listener.taps.shared.ends.clone();
    loop {
        tokio::select! {
            biased;
            // The last word: what was left out in all.
            () = ends.cancelled() => return Some((Ok(telling.status()), None)),
            _ = telling.ticks.tick() => {
                telling.silent += 1;
                if telling.left() != telling.told || telling.silent >= SILENT {
                    let status = telling.status();
                    return Some((Ok(status), Some(telling)));
                }
            }
            line = telling.listener.lines.recv() => {
                telling.silent = 0;
                return Some((Ok(line?), Some(telling)));
            }
        }
    }
}

// === impl Telling ===

impl Telling {
    fn new(listener: Listener) -> Self {
        // The first line comes at once: it tells that the tap is open.
        let mut ticks = interval_at(Instant::now(), TELL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            listener,
            ticks,
            silent: SILENT,
            told: Left::default(),
        }
    }

    fn left(&self) -> Left {
        let counts = &self.listener.tap.counts;
        Left {
            over_rate: counts.over_rate.load(Ordering::Relaxed),
            queue_full: counts.queue_full.load(Ordering::Relaxed),
        }
    }

    /// A line about the tap itself; its counts are since it was opened.
    fn status(&mut self) -> Bytes {
        let left = self.left();
        self.told = left;
        self.silent = 0;
        let matched = self.listener.tap.counts.matched.load(Ordering::Relaxed);
        let status = json!({"tap": {
            "matched": matched,
            "left_out": {"rate": left.over_rate, "queue_full": left.queue_full},
        }});
        Bytes::from(format!("{status}\n"))
    }
}

/// A metric as a line.
pub(super) fn line(metric: &dyn Observed) -> Bytes {
    let mut tags = Vec::new();
    metric.any_tag(&mut |tag| {
        tags.push(Value::from(tag));
        false
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut line = Map::new();
    line.insert(
        "at".to_owned(),
        now.map_or(0, |since| since.as_millis() as u64).into(),
    );
    line.insert("name".to_owned(), metric.name().into());
    line.insert("type".to_owned(), metric.kind().into());
    line.insert("tags".to_owned(), tags.into());
    metric.describe(&mut line);
    Bytes::from(format!("{}\n", Value::Object(line)))
}
