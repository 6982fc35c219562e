//! What comes in reaches the right destination, untouched, whichever way it came.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use bytes::Bytes;
use prost::Message;
use support::global::{Global, Manner, global};
use support::{list, metric, metrics, owner_on, proxy, until};
use tributary_proto::metricpb::Metric;
use tributary_proto::scan;
use tributary_proxy::ring::{Algorithm, Member, Ring};

async fn globals(count: usize) -> Vec<Global> {
    let mut globals = Vec::new();
    for _ in 0..count {
        globals.push(global(Manner::Takes).await);
    }
    globals
}

fn addresses(globals: &[Global]) -> Vec<String> {
    globals
        .iter()
        .map(|global| global.address.clone())
        .collect()
}

/// All metrics are at their owners, byte for byte, each once.
async fn each_is_at_its_owner(globals: &[Global], sent: &[Bytes]) {
    until("everything arrived", || {
        globals.iter().map(Global::count).sum::<usize>() >= sent.len()
    })
    .await;
    let members = globals
        .iter()
        .map(|global| Member::new(global.address.as_str()));
    let ring = Ring::build(Algorithm::Hashring, members).unwrap();
    let mut all = Vec::new();
    for global in globals {
        for metric in global.got() {
            assert_eq!(owner_on(&ring, &metric), global.address);
            all.push(metric);
        }
    }
    let mut sent = sent.to_vec();
    sent.sort();
    all.sort();
    assert!(all == sent, "each once and untouched");
}

#[tokio::test]
async fn a_list_is_split_among_the_owners_and_no_byte_is_changed() {
    let globals = globals(3).await;
    let proxy = proxy(&support::config(), &addresses(&globals)).await;
    let metrics = metrics(3000);
    let mut client = proxy.client().await;
    for part in metrics.chunks(1000) {
        client.send_metrics(list(part)).await.unwrap();
    }
    each_is_at_its_owner(&globals, &metrics).await;
    assert!(globals.iter().all(|global| global.count() > 800));
    proxy.stop().await;
}

#[tokio::test]
async fn a_stream_is_split_among_the_owners_and_no_byte_is_changed() {
    let globals = globals(3).await;
    let proxy = proxy(&support::config(), &addresses(&globals)).await;
    let metrics = metrics(5000);
    let stream = tokio_stream::iter(metrics.clone());
    proxy.client().await.send_metrics_v2(stream).await.unwrap();
    each_is_at_its_owner(&globals, &metrics).await;
    proxy.stop().await;
}

#[tokio::test]
async fn what_a_stream_brought_before_it_broke_is_delivered() {
    let globals = globals(1).await;
    let proxy = proxy(&support::config(), &addresses(&globals)).await;
    let metrics = metrics(100);
    let (feed, fed) = tokio::sync::mpsc::channel(200);
    for metric in &metrics {
        feed.send(metric.clone()).await.unwrap();
    }
    let mut client = proxy.client().await;
    let sending = tokio::spawn(async move {
        client
            .send_metrics_v2(tokio_stream::wrappers::ReceiverStream::new(fed))
            .await
    });
    until("all arrived", || globals[0].count() == 100).await;
    sending.abort();
    each_is_at_its_owner(&globals, &metrics).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_metric_that_cannot_be_routed_costs_only_itself() {
    let globals = globals(2).await;
    let proxy = proxy(&support::config(), &addresses(&globals)).await;
    let good = metrics(10);
    let mut sent = good.clone();
    sent.insert(3, Bytes::from_static(b"\x0a\x05ab"));
    sent.insert(5, Bytes::new());
    sent.insert(7, Bytes::from_static(b"\x0a\x01n\x18\x2a"));
    sent.push(Bytes::from_static(b"\x0a\x02\xff\xfe"));
    proxy
        .client()
        .await
        .send_metrics(list(&sent))
        .await
        .unwrap();
    each_is_at_its_owner(&globals, &good).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_list_that_is_not_framed_right_is_refused_whole() {
    let globals = globals(1).await;
    let proxy = proxy(&support::config(), &addresses(&globals)).await;
    let mut client = proxy.client().await;
    let whole = list(&metrics(10));
    let status = client
        .send_metrics(whole.slice(..whole.len() - 1))
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("not framed right"), "{status}");
    let good = [metric(77)];
    client.send_metrics(list(&good)).await.unwrap();
    each_is_at_its_owner(&globals, &good).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_as_too_large() {
    let globals = globals(1).await;
    let mut config = support::config();
    config.max_message_size = tributary_node::config::Size::kib(64);
    let proxy = proxy(&config, &addresses(&globals)).await;
    let status = proxy
        .client()
        .await
        .send_metrics(list(&metrics(5000)))
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    proxy.stop().await;
}

#[tokio::test]
async fn without_destinations_senders_are_told_to_keep_what_they_have() {
    let proxy = proxy(&support::config(), Vec::<String>::new()).await;
    let mut client = proxy.client().await;
    let status = client.send_metrics(list(&metrics(3))).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let status = client
        .send_metrics_v2(tokio_stream::iter(metrics(3)))
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let body =
        br#"[{"name":"a","type":"counter","tagstring":"","tags":[],"value":"AQAAAAAAAAA="}]"#;
    assert_eq!(
        proxy.http("POST", "/import", &[], body.to_vec()).await.0,
        503
    );
    let (status, reason) = proxy.http("GET", "/ready", &[], Vec::new()).await;
    assert_eq!(status, 503);
    assert!(reason.contains("no destination is known"), "{reason}");

    let globals = globals(1).await;
    proxy.routes_to(&addresses(&globals)).await;
    assert_eq!(proxy.http("GET", "/ready", &[], Vec::new()).await.0, 200);
    assert_eq!(
        proxy.http("POST", "/import", &[], body.to_vec()).await.0,
        202
    );
    until("it arrived", || globals[0].count() == 1).await;
    proxy.stop().await;
}

#[tokio::test]
async fn the_ring_can_be_asked_for() {
    let globals = globals(2).await;
    let addresses = addresses(&globals);
    let proxy = proxy(&support::config(), &addresses).await;
    let (status, body) = proxy.http("GET", "/api/ring", &[], Vec::new()).await;
    assert_eq!(status, 200);
    let ring: serde_json::Value = serde_json::from_str(&body).unwrap();
    let mut sorted = addresses.clone();
    sorted.sort();
    assert_eq!(ring["algorithm"], "hashring");
    assert_eq!(ring["generation"], 1);
    assert_eq!(ring["members"], serde_json::json!(sorted));
    assert_eq!(ring["destinations"][1]["address"], sorted[1]);
    proxy.stop().await;
}

/// `tests/fixtures/veneur/metrics.json`: what the real Veneur's agent forwards.
#[tokio::test]
async fn metrics_of_the_real_veneur_are_routed_by_its_own_key_bytes_untouched() {
    use base64::Engine;
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("fixtures/veneur/metrics.json")).unwrap();
    let forwarded: Vec<(Bytes, String)> = golden["cases"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|case| case["forwarded"].as_array().unwrap())
        .map(|metric| {
            let bytes = metric["pb_b64"].as_str().unwrap();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(bytes)
                .unwrap();
            (
                bytes.into(),
                metric["ring_key"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert!(forwarded.len() >= 13);
    let globals = globals(3).await;
    let addresses = addresses(&globals);
    let mut config = support::config();
    config.ring.algorithm = Algorithm::Veneur;
    let proxy = proxy(&config, &addresses).await;
    let sent: Vec<Bytes> = forwarded.iter().map(|(bytes, _)| bytes.clone()).collect();
    let mut client = proxy.client().await;
    client.send_metrics(list(&sent)).await.unwrap();
    client
        .send_metrics_v2(tokio_stream::iter(sent.clone()))
        .await
        .unwrap();
    until("both ways arrived", || {
        globals.iter().map(Global::count).sum::<usize>() == 2 * sent.len()
    })
    .await;
    let members = addresses
        .iter()
        .map(|address| Member::new(address.as_str()));
    let ring = Ring::build(Algorithm::Veneur, members).unwrap();
    for (bytes, key) in &forwarded {
        let owner = ring.owner_of(key.as_bytes()).unwrap();
        let global = globals
            .iter()
            .find(|global| *global.address == *owner.address)
            .unwrap();
        assert!(global.got().contains(bytes), "{key}");
    }
    proxy.stop().await;
}

/// `tests/fixtures/veneur/import_json.json`: whole requests of three generations of agents.
#[tokio::test]
async fn legacy_requests_of_the_real_veneur_are_accepted_and_decode_to_the_same_values() {
    use base64::Engine;
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("fixtures/veneur/import_json.json")).unwrap();
    for generation in ["v2.0.0", "v8.0.0", "v14.2.0"] {
        let request = &golden["captured"][generation][0];
        let globals = globals(2).await;
        let proxy = proxy(&support::config(), &addresses(&globals)).await;
        let headers: Vec<(&str, &str)> = request["headers"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| !["Host", "Content-Length"].contains(&name.as_str()))
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        let raw = request["raw_b64"].as_str().unwrap();
        let raw = base64::engine::general_purpose::STANDARD
            .decode(raw)
            .unwrap();
        let answer = proxy.http("POST", "/import", &headers, raw).await;
        assert_eq!(answer, (202, String::new()), "{generation}");

        let elements = request["body"].as_array().unwrap();
        until("all arrived", || {
            globals.iter().map(Global::count).sum::<usize>() == elements.len()
        })
        .await;
        let members = globals
            .iter()
            .map(|global| Member::new(global.address.as_str()));
        let ring = Ring::build(Algorithm::Hashring, members).unwrap();
        for element in elements {
            let text = |key: &str| element[key].as_str().unwrap();
            let key = format!("{}{}{}", text("name"), text("type"), text("tagstring"));
            let owner = ring.owner_of(key.as_bytes()).unwrap();
            let global = globals
                .iter()
                .find(|global| *global.address == *owner.address)
                .unwrap();
            let found = global
                .got()
                .into_iter()
                .map(|bytes| Metric::decode(bytes).unwrap())
                .find(|metric| metric.name == text("name"))
                .unwrap();
            let again = tributary_proto::json::JsonMetric::from_metric(&found).unwrap();
            assert_eq!(
                (again.kind.as_str(), again.tagstring.as_str()),
                (text("type"), text("tagstring"))
            );
        }
        proxy.stop().await;
    }
}

#[tokio::test]
async fn wrong_legacy_requests_are_answered_as_veneur_does() {
    let globals = globals(1).await;
    let proxy = proxy(&support::config(), &addresses(&globals)).await;
    let ask = |method: &'static str, encoding: &'static str, body: &'static str| {
        let proxy = &proxy;
        async move {
            let headers = [("Content-Encoding", encoding)];
            let headers = if encoding.is_empty() {
                &headers[..0]
            } else {
                &headers[..]
            };
            proxy.http(method, "/import", headers, body.into()).await
        }
    };
    let answer = |status: u16, body: &str| (status, body.to_owned());
    assert_eq!(
        ask("POST", "", "[]").await,
        answer(400, "Received empty /import request\n")
    );
    assert_eq!(
        ask("POST", "", "xx").await,
        answer(
            400,
            "invalid character 'x' looking for beginning of value\n"
        )
    );
    assert_eq!(ask("POST", "gzip", "[]").await, answer(415, "gzip\n"));
    assert_eq!(ask("POST", "deflate", "xx").await.0, 400);
    assert_eq!(
        ask("GET", "", "").await,
        answer(404, "404 page not found\n")
    );
    proxy.stop().await;
}

#[tokio::test]
async fn tags_that_are_ignored_do_not_part_series() {
    let globals = globals(3).await;
    let config = support::configured(
        "{grpc_address: '127.0.0.1:0', http_address: '127.0.0.1:0', ignore_tags: [{kind: prefix, value: 'id:'}]}",
    );
    let proxy = proxy(&config, &addresses(&globals)).await;
    // All of one name and type, told apart by the tag alone.
    let series: Vec<Bytes> = (0..300).map(|i| metric(i * 97)).collect();
    proxy
        .client()
        .await
        .send_metrics(list(&series))
        .await
        .unwrap();
    until("all arrived", || {
        globals.iter().any(|global| global.count() == 300)
    })
    .await;
    let got = globals
        .iter()
        .find(|global| global.count() == 300)
        .unwrap()
        .got();
    assert!(
        scan::Scanned::scan(&got[0])
            .unwrap()
            .tags()
            .any(|tag| tag.starts_with("id:"))
    );
    proxy.stop().await;
}
