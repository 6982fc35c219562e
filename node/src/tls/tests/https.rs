use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use bytes::Bytes;
use http::Version;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::admin::{Admin, Limits, Readiness, bind};
use crate::tls::Dialer;

/// Asks the admin server at this URI.
async fn ask(dialer: Dialer, uri: String) -> Result<(Version, Bytes), String> {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(dialer);
    let answer = client.get(uri.parse().unwrap()).await;
    // With everything beneath it.
    let answer = answer.map_err(|error| format!("{error:?}"))?;
    let version = answer.version();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Ok((version, body))
}

#[tokio::test]
async fn the_admin_server_and_our_http_client_speak_tls() {
    let ca = Authority::new("Fleet CA");
    let admin = Admin {
        name: "tributary-proxy",
        version: "1.2.3",
        config: Arc::new(ArcSwap::from_pointee(Value::Null)),
        readiness: Readiness::new(),
        recorder: Recorder::new(""),
        profiling: false,
        limits: Limits::default(),
        tls: Acceptor::new(&server(&ca), "http_tls", Alpn::Http).unwrap(),
    };
    let listener = bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let served = tokio::spawn(admin.serve(listener, Router::new(), stop.clone()));

    let connector = Connector::new(&client(&ca), "client", Alpn::Http1).unwrap();
    let of = |alpn| Dialer::new("client", Some(connector.speaking(alpn)));
    let https = format!("https://{HOST}:{port}/healthcheck");
    for (alpn, version) in [
        (Alpn::Http1, Version::HTTP_11),
        (Alpn::Http, Version::HTTP_2),
        (Alpn::None, Version::HTTP_11),
    ] {
        let answer = ask(of(alpn), https.clone()).await.unwrap();
        assert_eq!(answer, (version, Bytes::from("ok\n")), "{alpn:?}");
    }

    let told = ask(Dialer::new("client", None), https.clone()).await;
    assert!(told.unwrap_err().contains("NoTls"));
    let http = format!("http://{HOST}:{port}/healthcheck");
    let told = ask(of(Alpn::Http1), http).await.unwrap_err();
    assert!(told.contains("the server speaks TLS"), "{told}");
    stop.cancel();
    served.await.unwrap();
}
