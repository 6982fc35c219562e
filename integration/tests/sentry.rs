//! The real programs and a Sentry of the test's own.

use std::io;

use bytes::Bytes;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tributary_integration::tier::{Binaries, PATIENCE, Tier, post, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Takes envelopes as the hosted service does; the events in them, as they come.
async fn service() -> io::Result<(String, mpsc::UnboundedReceiver<Value>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let dsn = format!("http://public@{}/7", listener.local_addr()?);
    let (events, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let events = events.clone();
            tokio::spawn(async move { answer(stream, events).await });
        }
    });
    Ok((dsn, received))
}

async fn answer(stream: TcpStream, events: mpsc::UnboundedSender<Value>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let head = head.to_ascii_lowercase();
        assert!(
            head.starts_with("post /api/7/envelope/ http/1.1\r\n"),
            "{head}"
        );
        let length = head.split("content-length: ").nth(1);
        let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
        let mut body = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
        stream.read_exact(&mut body).await?;
        // A header, then a header and a content for each item; what we send has no line breaks in its content.
        let lines = body.split(|byte| *byte == b'\n').skip(1);
        let lines: Vec<Value> = lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        for item in lines.chunks(2) {
            if let [header, content] = item
                && header["type"] == "event"
            {
                let _ = events.send(content.clone());
            }
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            .await?;
    }
}

async fn event_with(
    events: &mut mpsc::UnboundedReceiver<Value>,
    message: &str,
) -> Result<Value, Box<dyn std::error::Error>> {
    let found = async {
        loop {
            let event = events.recv().await?;
            if event["message"]
                .as_str()
                .is_some_and(|text| text.contains(message))
            {
                return Some(event);
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    Ok(found?.ok_or("the service ended")?)
}

#[tokio::test]
async fn metrics_that_a_proxy_loses_are_reported_with_their_destination() -> Outcome {
    let (dsn, mut events) = service().await?;
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let global = tier.global("g").start().await?;
    let mut proxy = tier
        .proxy("p")
        .destination(&global.grpc)
        .with("sentry_dsn", json!(dsn))
        .with("shutdown_timeout", json!("1s"))
        .start()
        .await?;
    let send = async || {
        let body =
            r#"[{"name":"lost","type":"counter","tagstring":"","tags":[],"value":"AQAAAAAAAAA="}]"#;
        let taken = post(&proxy.http, "/import", &[], Bytes::from(body)).await;
        taken.ok().filter(|taken| taken.status.is_success())
    };
    wait_for("the proxy to take metrics", send).await?;
    // It takes nothing any more, and does not say so.
    global.program.signal(Signal::SIGSTOP)?;
    wait_for("the proxy to take another", send).await?;
    proxy.stop().await?;
    let event = event_with(&mut events, "metrics lost").await?;
    // An error is what an event is unless it says otherwise.
    assert!(
        event["level"].is_null() || event["level"] == "error",
        "{event:#}"
    );
    let tags = &event["tags"];
    assert_eq!(tags["destination"], json!(global.grpc), "{event:#}");
    assert_eq!(tags["role"], "tributary-proxy");
    assert_eq!(tags["version"], json!(env!("CARGO_PKG_VERSION")));
    Ok(())
}

#[tokio::test]
async fn an_aggregator_that_cannot_write_its_points_says_so_before_it_is_gone() -> Outcome {
    let (dsn, mut events) = service().await?;
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let path = tier.directory().join("full.jsonl");
    // A device that takes nothing, as a full disk.
    std::os::unix::fs::symlink("/dev/full", &path)?;
    let mut agent = tier
        .agent("a")
        .with(
            "metric_sinks",
            json!([{"kind": "localfile", "name": "full", "config": {"path": path}}]),
        )
        .with("sentry_dsn", json!(dsn))
        .with("shutdown_timeout", json!("3s"))
        .start()
        .await?;
    agent.send("lost:1|c")?;
    // What has arrived when it leaves is flushed, and cannot be written.
    agent.stop().await?;
    let event = event_with(&mut events, "not written before the end").await?;
    assert_eq!(event["tags"]["sink"], "full", "{event:#}");
    assert_eq!(event["tags"]["role"], "tributary-aggregator");
    Ok(())
}
