//! The page of a proxy, the data that it shows (`GET /api/status`), and who owns a series (`GET /api/owner`). `docs/api.md` describes both
//! answers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router as Routes};
use serde::Serialize;
use tributary_node::admin::page;
use tributary_proto::metricpb::Type;

use crate::changes::Change;
use crate::destination::Report;
use crate::ledger::{Fates, Pace, Totals};
use crate::owner::{kind_of, routing_key};
use crate::ring::Algorithm;
use crate::route::{Router, Table, wall_clock};

const PAGE: page::Page = page::Page {
    html: include_str!("page/index.html"),
    script: include_str!("page/page.js"),
};

/// Intervals that `/api/status` tells of.
const INTERVALS: usize = 60;

/// What `/api/status` answers.
#[derive(Debug, Serialize)]
struct Status {
    program: &'static str,
    version: &'static str,
    role: &'static str,
    /// Milliseconds since the Unix epoch.
    now: u64,
    /// Seconds of one interval.
    interval: f64,
    algorithm: Algorithm,
    generation: u64,
    /// From when on this ring is in force, in milliseconds since the Unix epoch.
    since: u64,
    destinations: Vec<Destination>,
    next: Option<Next>,
    /// The newest first.
    changes: Vec<Change>,
    /// Since the start.
    totals: Totals,
    /// The last ones, the oldest first.
    intervals: Vec<Interval>,
}

/// One member of the ring.
#[derive(Debug, Serialize)]
struct Destination {
    #[serde(flatten)]
    report: Report,
    weight: u16,
    /// Its part of all keys, up to 1.
    share: f64,
    /// In the last whole interval.
    last_interval: Pace,
    /// Since the start.
    fates: Fates,
}

/// The ring that is known to come.
#[derive(Debug, Serialize)]
struct Next {
    generation: u64,
    /// From when on it is in force, in milliseconds since the Unix epoch.
    since: u64,
    /// Who is on it and not on this one.
    joining: Vec<Arc<str>>,
}

/// The sums of one interval, over all causes.
#[derive(Debug, Serialize)]
struct Interval {
    /// Its end, in seconds since the Unix epoch.
    end: u64,
    received: u64,
    delivered: u64,
    returned: u64,
    lost: u64,
}

/// What `/api/owner` answers.
#[derive(Debug, Serialize)]
struct Owners {
    generation: u64,
    algorithm: Algorithm,
    /// For each type that was asked for.
    owners: Vec<Owner>,
}

/// Where the series of one type belongs.
#[derive(Debug, Serialize)]
struct Owner {
    #[serde(rename = "type")]
    kind: &'static str,
    /// The global's address, or none while the ring is empty.
    owner: Option<Arc<str>>,
    /// The state of the connection to it.
    destination: Option<Report>,
    /// Who owns it once the ring that is known to come is in force.
    next: Option<Arc<str>>,
}

/// The routes.
pub(crate) fn routes(router: Arc<Router>, interval: Duration) -> Routes {
    let state = (router, interval);
    Routes::new()
        .route("/api/status", get(status))
        .route("/api/owner", get(owner))
        .with_state(state)
        .merge(page::routes(&PAGE))
}

type Shared = State<(Arc<Router>, Duration)>;

async fn status(State((router, interval)): Shared) -> Json<Status> {
    let tables = router.tables();
    let table = tables.current();
    let members = table.ring().members().iter().zip(table.ring().shares());
    let destinations = members.zip(table.destinations());
    let destinations = destinations.map(|((member, share), destination)| {
        let account = router.ledger().account(&member.address);
        Destination {
            report: destination.report(),
            weight: member.weight,
            share,
            last_interval: account.pace(),
            fates: account.fates(),
        }
    });
    let on_ring = |address: &str| {
        let members = table.ring().members();
        members.iter().any(|member| *member.address == *address)
    };
    let intervals = router.ledger().intervals();
    let older = intervals.len().saturating_sub(INTERVALS);
    Json(Status {
        program: "tributary-proxy",
        version: env!("CARGO_PKG_VERSION"),
        role: "proxy",
        now: wall_clock(),
        interval: interval.as_secs_f64(),
        algorithm: table.ring().algorithm(),
        generation: table.generation(),
        since: table.since(),
        destinations: destinations.collect(),
        next: tables.next().map(|next| Next {
            generation: next.generation(),
            since: next.since(),
            joining: next
                .ring()
                .members()
                .iter()
                .map(|member| member.address.clone())
                .filter(|address| !on_ring(address))
                .collect(),
        }),
        changes: router.changes().last(),
        totals: router.ledger().totals(),
        intervals: intervals
            .iter()
            .skip(older)
            .map(|interval| Interval {
                end: interval.end,
                received: interval.totals.received,
                delivered: interval.totals.delivered,
                returned: interval.totals.returned.values().sum(),
                lost: interval.totals.lost.values().sum(),
            })
            .collect(),
    })
}

/// `name=…`, and if wanted `type=…` and `tag=…` as often as there are tags.
async fn owner(
    State((router, _)): Shared,
    Query(question): Query<Vec<(String, String)>>,
) -> Response {
    let refuse = |why: String| (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response();
    let (mut name, mut kind, mut tags) = ("", None, Vec::new());
    for (key, value) in &question {
        match key.as_str() {
            "name" => name = value,
            "type" => match kind_of(value) {
                Some(known) => kind = Some(known),
                None => return refuse(format!("type {value:?} is not known")),
            },
            "tag" => tags.push(value.as_str()),
            other => return refuse(format!("{other:?} is not asked for: name, type, tag")),
        }
    }
    if name.is_empty() {
        return refuse("name is missing".to_owned());
    }
    tags.sort_unstable();
    let tables = router.tables();
    let table = tables.current();
    let owner_on = |table: &Table, kind| {
        let key = routing_key(name, kind, tags.clone(), table.ignored());
        table.ring().owner(&key)
    };
    let address_on = |table: &Table, kind| {
        let member = table.ring().members().get(owner_on(table, kind)?)?;
        Some(member.address.clone())
    };
    let kinds = match kind {
        Some(kind) => vec![kind],
        None => vec![
            Type::Counter,
            Type::Gauge,
            Type::Histogram,
            Type::Timer,
            Type::Set,
        ],
    };
    let owners = kinds.into_iter().map(|kind| Owner {
        kind: kind.lower_name(),
        owner: address_on(table, kind),
        destination: owner_on(table, kind)
            .and_then(|place| table.destinations().get(place))
            .map(|destination| destination.report()),
        next: tables.next().and_then(|next| address_on(next, kind)),
    });
    Json(Owners {
        generation: table.generation(),
        algorithm: table.ring().algorithm(),
        owners: owners.collect(),
    })
    .into_response()
}
