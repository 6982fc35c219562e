//! What an operator can ask a proxy beside the admin pages: `GET /api/ring` and `GET /api/ledger`.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router as Routes};
use serde::Serialize;

use crate::destination::Report;
use crate::ledger::Statement;
use crate::ring::Algorithm;
use crate::route::{Router, Table};

/// The ring of this moment.
#[derive(Debug, Serialize)]
struct RingStatus {
    algorithm: Algorithm,
    /// Counts the rings of this process; 0 is the empty one that it starts with.
    generation: u64,
    /// The addresses in the ring's order.
    members: Vec<Arc<str>>,
    /// The weight of each.
    weights: Vec<u16>,
    destinations: Vec<Report>,
    next: Option<NextRing>,
}

/// The ring that is known to come.
#[derive(Debug, Serialize)]
struct NextRing {
    generation: u64,
    /// From when on it is in force, in milliseconds since the Unix epoch.
    since: u64,
    members: Vec<Arc<str>>,
    weights: Vec<u16>,
}

/// The routes.
pub(crate) fn routes(router: Arc<Router>) -> Routes {
    Routes::new()
        .route("/api/ring", get(ring))
        .route("/api/ledger", get(ledger))
        .with_state(router)
}

async fn ring(State(router): State<Arc<Router>>) -> Json<RingStatus> {
    let tables = router.tables();
    let table = tables.current();
    Json(RingStatus {
        algorithm: table.ring().algorithm(),
        generation: table.generation(),
        members: members(table),
        weights: weights(table),
        destinations: table
            .destinations()
            .iter()
            .map(|destination| destination.report())
            .collect(),
        next: tables.next().map(|table| NextRing {
            generation: table.generation(),
            since: table.since(),
            members: members(table),
            weights: weights(table),
        }),
    })
}

fn members(table: &Table) -> Vec<Arc<str>> {
    let members = table.ring().members().iter();
    members.map(|member| member.address.clone()).collect()
}

fn weights(table: &Table) -> Vec<u16> {
    let members = table.ring().members().iter();
    members.map(|member| member.weight).collect()
}

async fn ledger(State(router): State<Arc<Router>>) -> Json<Statement> {
    Json(router.ledger().statement())
}
