//! The page of an aggregator and the answers behind it; `docs/api.md` describes them.
//!
//! | path | answer | costs |
//! |---|---|---|
//! | `/` | the page | – |
//! | `/api/status` | the last intervals, sinks, losses, the busiest timers | what is kept anyway |
//! | `/api/top` | the names with the most series and samples | a count of each flush, for two minutes after it was asked for |
//! | `/api/series` | one series: who forwards it, its last points, its sinks | a look-up for each import, for ten minutes |
//!
//! What always holds: everything kept here is bounded, and while nobody asks a flush pays for its totals and the points of eight timers only.

mod timers;
mod top;
mod watch;

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tributary_node::admin::page;

use crate::flush::{Busiest, Role};
use crate::forward;
use crate::ledger::{Entry, Forwarding, Ledger};
use crate::point::Batch;
use crate::sink::{SinkReport, SinkView, Sinks, unix_millis};
use crate::table::{Interval, Table};
use timers::Timers;
use top::Top;
use watch::{Question, Watches};

const PAGE: page::Page = page::Page {
    html: include_str!("../page/index.html"),
    script: include_str!("../page/page.js"),
};

/// Intervals that are told of.
const INTERVALS: usize = 60;

/// The longest name or list of tags that is told of many, in characters; what is longer is cut.
const LONGEST: usize = 300;

/// What is known of one aggregator besides its metrics. Clones share it.
#[derive(Clone)]
pub(crate) struct Overview(Arc<Shared>);

struct Shared {
    about: About,
    table: Arc<Table>,
    ledger: Ledger,
    forwarding: Forwarding,
    sinks: ArcSwap<Vec<SinkView>>,
    timers: Timers,
    top: Top,
    watches: Watches,
}

/// What does not change while the program runs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct About {
    pub(crate) role: Role,
    pub(crate) hostname: Arc<str>,
    /// Seconds.
    pub(crate) interval: f64,
    /// As configured; empty: none.
    pub(crate) grpc_address: String,
    /// 0: no cap.
    pub(crate) max_series: usize,
}

/// What `/api/status` answers.
#[derive(Debug, Serialize)]
struct Status {
    program: &'static str,
    version: &'static str,
    /// Milliseconds since the Unix epoch.
    now: u64,
    #[serde(flatten)]
    about: About,
    /// Series of the open interval so far.
    open_series: u64,
    /// Since the start.
    totals: Entry,
    /// The last ones, the oldest first.
    intervals: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forward: Option<forward::Ledger>,
    sinks: Vec<SinkReport>,
    /// What was lost or refused since the start, wherever that is not 0.
    losses: Vec<Loss>,
    timers: Vec<timers::Timer>,
}

/// What was lost, where and why.
#[derive(Debug, Serialize)]
struct Loss {
    /// `intake`, `import`, `flush`, `forward`, or `sink` and its name.
    stage: String,
    cause: &'static str,
    /// `samples`, `datagrams`, `metrics` or `points`.
    unit: &'static str,
    count: u64,
}

impl Overview {
    pub(crate) fn new(
        about: About,
        table: Arc<Table>,
        ledger: Ledger,
        forwarding: Forwarding,
    ) -> Self {
        Self(Arc::new(Shared {
            about,
            table,
            ledger,
            forwarding,
            sinks: ArcSwap::default(),
            timers: Timers::default(),
            top: Top::default(),
            watches: Watches::default(),
        }))
    }

    /// These are the sinks from now on.
    pub(crate) fn show_sinks(&self, sinks: &Sinks) {
        self.0.sinks.store(Arc::new(sinks.views()));
    }

    /// Looks at an interval before points are made of it. `timestamp` is its points'.
    pub(crate) fn look(&self, interval: &Interval, timestamp: i64) {
        self.0.top.look(interval, timestamp);
        self.0
            .watches
            .look(interval, self.0.table.watched(), timestamp);
    }

    /// Keeps what is to be shown of a flush's points before they go to the sinks.
    pub(crate) fn keep(
        &self,
        batch: &Arc<Batch>,
        busiest: &Busiest,
        sinks: &Sinks,
        timestamp: i64,
    ) {
        self.0.timers.keep(&batch.points, busiest, timestamp);
        self.0.watches.keep(batch, sinks, timestamp);
    }

    /// The routes, for the admin server.
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/api/status", get(status))
            .route("/api/top", get(top))
            .route("/api/series", get(series))
            .with_state(self.clone())
            .merge(page::routes(&PAGE))
    }

    fn status(&self) -> Status {
        let shared = &*self.0;
        let (totals, intervals) = shared.ledger.recent(INTERVALS);
        let sinks = shared.sinks.load();
        let forward = (shared.forwarding)();
        Status {
            program: "tributary-aggregator",
            version: env!("CARGO_PKG_VERSION"),
            now: unix_millis(SystemTime::now()),
            about: shared.about.clone(),
            open_series: shared.table.open_series(),
            losses: self.losses(&totals, forward.as_ref(), &sinks),
            totals,
            intervals,
            forward,
            sinks: sinks.iter().map(SinkView::report).collect(),
            timers: shared.timers.shown(),
        }
    }

    fn losses(
        &self,
        totals: &Entry,
        forward: Option<&forward::Ledger>,
        sinks: &[SinkView],
    ) -> Vec<Loss> {
        let loss = |stage: &str, cause, unit, count| Loss {
            stage: stage.to_owned(),
            cause,
            unit,
            count,
        };
        let kernel = self.0.ledger.kernel_dropped();
        let mut losses = vec![
            loss("intake", "kernel_dropped", "datagrams", kernel),
            loss("intake", "refused", "samples", totals.samples_refused),
            loss("import", "refused", "metrics", totals.imports_refused),
            loss(
                "flush",
                "not_finite_or_too_many_events",
                "points",
                totals.dropped,
            ),
        ];
        for (cause, count) in forward.iter().flat_map(|forward| &forward.lost) {
            losses.push(loss("forward", cause, "metrics", *count));
        }
        for sink in sinks {
            let stage = format!("sink {}", sink.name());
            for (cause, count) in sink.dropped() {
                losses.push(loss(&stage, cause, "points", count));
            }
        }
        losses.retain(|loss| loss.count > 0);
        losses
    }
}

/// Names come from peers, and may be long.
fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

async fn status(State(overview): State<Overview>) -> Json<Status> {
    Json(overview.status())
}

async fn top(State(overview): State<Overview>) -> Json<top::Answer> {
    let shared = &*overview.0;
    Json(shared.top.answer(&shared.table.worst_names()))
}

async fn series(
    State(overview): State<Overview>,
    Query(question): Query<Vec<(String, String)>>,
) -> Response {
    let shared = &*overview.0;
    let asked = Question::read(&question).and_then(|question| {
        shared
            .watches
            .answer(question, shared.table.watched())
            .ok_or_else(|| "too many series are watched already: ask again in some minutes".into())
    });
    match asked {
        Ok(mut answer) => {
            let sinks = shared.sinks.load();
            answer.hostname = Arc::clone(&shared.about.hostname);
            answer.sinks = sinks.iter().map(SinkView::report).collect();
            Json(answer).into_response()
        }
        Err(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    }
}
