//! Destinations from Consul, played by a server that answers as it is told.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use support::global::{Manner, global};
use support::{configured, list, metrics, until};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tributary_node::Node;
use tributary_node::telemetry::Recorder;
use tributary_proxy::app::Proxy;
use tributary_proxy::discovery;
use tributary_proxy::route::Router;

/// What Consul says, with an index that counts its changes: addresses, or nothing but an error.
type Said = Option<Vec<String>>;

#[derive(Clone)]
struct Consul {
    address: String,
    says: Arc<Mutex<watch::Sender<(u64, Said)>>>,
}

async fn consul(said: Said) -> Consul {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (sender, said) = watch::channel((1, said));
    let consul = Consul {
        address: listener.local_addr().unwrap().to_string(),
        says: Arc::new(Mutex::new(sender)),
    };
    let routes = axum::Router::new()
        .route("/v1/health/service/globals", axum::routing::get(health))
        .with_state(said);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    consul
}

async fn health(
    State(mut said): State<watch::Receiver<(u64, Said)>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let known: u64 = query.get("index").map_or(0, |index| index.parse().unwrap());
    let (index, said) = said.wait_for(|said| said.0 != known).await.unwrap().clone();
    let Some(addresses) = said else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let entries: Vec<serde_json::Value> = addresses
        .iter()
        .map(|address| {
            let (host, port) = address.rsplit_once(':').unwrap();
            let port: u16 = port.parse().unwrap();
            serde_json::json!({"Node": {"Address": host}, "Service": {"Address": "", "Port": port}})
        })
        .collect();
    let index = [("X-Consul-Index", index.to_string())];
    (index, axum::Json(entries)).into_response()
}

impl Consul {
    fn say(&self, said: Said) {
        self.says.lock().unwrap().send_modify(|state| {
            state.0 += 1;
            state.1 = said;
        });
    }
}

fn members(router: &Router) -> Vec<String> {
    let table = router.table();
    let members = table.destinations().iter();
    members
        .map(|destination| destination.address().to_string())
        .collect()
}

#[tokio::test]
async fn the_ring_follows_consul_and_outlives_its_troubles() {
    let globals = [global(Manner::Takes).await, global(Manner::Takes).await];
    let mut both: Vec<String> = globals
        .iter()
        .map(|global| global.address.clone())
        .collect();
    both.sort();
    let consul = consul(Some(both.clone())).await;
    let config = configured(&format!(
        "{{grpc_address: '127.0.0.1:0', consul_address: '{}', consul_forward_service_name: globals, \
         consul_refresh_interval: 1s}}",
        consul.address
    ));
    let node = Node::new(&config, Recorder::new(""));
    let discovery = discovery::from_config(&config).unwrap();
    let proxy = Proxy::start(&config, node.clone(), discovery)
        .await
        .unwrap();
    let router = proxy.router().clone();
    let grpc = format!("http://{}", proxy.grpc_address().unwrap());
    let ended = tokio::spawn(proxy.wait());
    until("both are on the ring", || members(&router) == both).await;

    // An error, then nobody, then one: the ring goes from two straight to one.
    consul.say(None);
    consul.say(Some(Vec::new()));
    let mut client = tributary_proto::raw::forward_client::ForwardClient::connect(grpc)
        .await
        .unwrap();
    client.send_metrics(list(&metrics(100))).await.unwrap();
    until("both are still routed to", || {
        globals.iter().all(|global| global.count() > 0)
    })
    .await;
    consul.say(Some(vec![both[0].clone()]));
    until("one is left", || members(&router) == both[..1]).await;
    assert_eq!(router.table().generation(), 2);
    node.stop.cancel();
    ended.await.unwrap().unwrap();
}
