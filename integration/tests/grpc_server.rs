//! What the gRPC servers do for load balancers: connections that end by their age, and the health service.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tributary_integration::faults::{SteadyLoad, judge};
use tributary_integration::tier::{Binaries, Proxy, Tier, get, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// One of a proxy's counters, summed over its labels.
async fn counter(proxy: &Proxy, name: &str) -> Option<f64> {
    let metrics = get(&proxy.http, "/metrics").await.ok()?.text();
    let lines = metrics
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains(name));
    lines
        .map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// What the health service at `host:port` says of a service.
async fn health(
    address: &str,
    service: &str,
) -> Result<Result<ServingStatus, Code>, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let mut client = HealthClient::new(endpoint.connect().await?);
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = client.check(request).await;
    Ok(answer
        .map(|answer| answer.into_inner().status())
        .map_err(|status| status.code()))
}

#[tokio::test]
async fn the_health_service_says_what_ready_says() -> Outcome {
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let global = tier.global("g").start().await?;
    let ready = tier.proxy("p").destination(&global.grpc).start().await?;
    let unready = tier.proxy("nobody").start_unready().await?;
    for service in ["", "forwardrpc.Forward"] {
        for (address, status) in [
            (&global.grpc, ServingStatus::Serving),
            (&ready.grpc, ServingStatus::Serving),
            (&unready.grpc, ServingStatus::NotServing),
        ] {
            assert_eq!(health(address, service).await?, Ok(status), "{service}");
        }
    }
    assert_eq!(health(&ready.grpc, "other").await?, Err(Code::NotFound));
    Ok(())
}

#[tokio::test]
async fn connections_that_end_by_their_age_lose_nothing_and_double_nothing() -> Outcome {
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let global = tier.global("g").start().await?;
    let proxy = tier
        .proxy("p")
        .destination(&global.grpc)
        .with("grpc_max_connection_age", json!("1s"))
        .start()
        .await?;
    // A list in each call, and a stream for each flush.
    let unary = tier.agent("unary").forward_to(&proxy.grpc);
    let unary = unary.start().await?;
    let stream = tier.agent("stream").forward_to(&proxy.grpc);
    let stream = stream
        .with("forward_protocol", json!("stream"))
        .start()
        .await?;
    let sockets = [unary.socket.clone(), stream.socket.clone()];
    let load = SteadyLoad::start(&sockets, 4_000, 200);
    wait_for("several connections to end by their age", async || {
        (counter(&proxy, "grpc_connections_aged_total").await? >= 6.0).then_some(())
    })
    .await?;
    let opened = counter(&proxy, "grpc_connections_total").await;
    assert!(opened >= Some(6.0), "{opened:?}");

    let sent = load.stop().await?;
    let waited = wait_for("everything to come out", async || {
        (judge(&sent, &global.emitted().ok()?).missing == 0.0).then_some(())
    })
    .await;
    // What comes twice comes late.
    sleep(Duration::from_secs(2)).await;
    let verdict = judge(&sent, &global.emitted()?);
    assert!(
        waited.is_ok() && verdict.is_exact(),
        "{verdict}\n{}\n{}\n{}",
        unary.program.log(),
        stream.program.log(),
        proxy.program.log()
    );
    let cut = counter(&proxy, "grpc_connections_cut_total").await;
    assert!(cut.unwrap_or_default() == 0.0, "{cut:?}");
    Ok(())
}
