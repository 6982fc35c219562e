//! TLS and mutual TLS on every hop, with real processes.

mod authority;
mod receiver;
mod wires;

use std::error::Error;
use std::net::TcpStream as StdStream;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tributary_integration::tier::{
    Aggregator, Binaries, Program, Tier, free_address, get, wait_for,
};
use tributary_node::tls::{Alpn, ClientTls, Connector};

use authority::{Authority, with};

type Outcome = Result<(), Box<dyn Error>>;

fn tier() -> std::io::Result<Tier> {
    Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))
}

/// Waits until a global has emitted so much of a counter altogether.
async fn until_total(global: &Aggregator, name: &str, total: f64) -> Outcome {
    let mut last = 0.0;
    wait_for(&format!("{name} to reach {total}"), async || {
        let points = global.emitted().ok()?;
        let values = points.iter().filter(|point| point.name == name);
        last = values.map(|point| point.value).sum();
        (last >= total).then_some(())
    })
    .await
    .map_err(|error| format!("{error}; log:\n{}", global.program.log()))?;
    assert_eq!(last, total, "{name} was counted twice");
    Ok(())
}

/// Waits until a program has logged a line with all of these words.
async fn until_logged(program: &Program, words: &[&str]) -> Outcome {
    wait_for(&format!("{words:?} in a log"), async || {
        let log = program.log();
        let mut lines = log.lines();
        lines
            .any(|line| words.iter().all(|word| line.contains(word)))
            .then_some(())
    })
    .await
    .map_err(|error| format!("{error}:\n{}", program.log()).into())
}

/// Waits until a program has counted failed handshakes of this hop by this cause.
async fn until_counted(http: &str, hop: &str, cause: &str) -> Outcome {
    let line = format!("tls_handshake_errors_total{{hop=\"{hop}\",cause=\"{cause}\"}}");
    wait_for(&line, async || {
        let text = get(http, "/metrics").await.ok()?.text();
        text.contains(&line).then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_sample_goes_by_mutual_tls_from_a_client_to_the_sink() -> Outcome {
    let tier = tier()?;
    let ca = Authority::new(tier.directory(), "fleet")?;
    let globals = with(
        &ca.server(&ca.issue("global")?),
        "allowed_names",
        json!(["proxy"]),
    );
    let global = tier.global("g1").with("grpc_tls", globals).start().await?;
    let identity = ca.issue("proxy")?;
    let proxy = tier
        .proxy("p1")
        .destination(&global.grpc)
        .with("grpc_tls", ca.server(&identity))
        .with("forward_tls", ca.client(&identity))
        .start()
        .await?;
    let identity = ca.issue("agent")?;
    let statsd = free_address()?;
    let _agent = tier
        .agent("a1")
        .forward_to(&proxy.grpc)
        .with("forward_tls", ca.client(&identity))
        .with("statsd_tls", ca.server(&identity))
        .with(
            "statsd_listen_addresses",
            json!([format!("tcp://{statsd}")]),
        )
        .start()
        .await?;

    let application: ClientTls = serde_json::from_value(ca.client(&ca.issue("application")?))?;
    let connector = Connector::new(&application, "test", Alpn::None)?;
    let mut stream = connector
        .connect(&statsd, TcpStream::connect(&statsd).await?)
        .await?;
    for _ in 0..100 {
        stream.write_all(b"e2e.tls:1|c|#veneurglobalonly\n").await?;
    }
    stream.shutdown().await?;
    until_total(&global, "e2e.tls", 100.0).await
}

#[tokio::test]
async fn legacy_json_goes_by_mutual_tls_too() -> Outcome {
    let tier = tier()?;
    let ca = Authority::new(tier.directory(), "fleet")?;
    let global = tier
        .global("g1")
        .with("http_tls", ca.server(&ca.issue("global")?))
        .start()
        .await?;
    let identity = ca.issue("proxy")?;
    let proxy = tier
        .proxy("p1")
        .destination(&format!("https://{}", global.http))
        .with("http_tls", ca.server(&identity))
        .with("forward_tls", ca.client(&identity))
        .start()
        .await?;
    let agent = tier
        .agent("a1")
        .forward_to(&format!("https://{}", proxy.http))
        .with("forward_protocol", json!("json"))
        .with("forward_tls", ca.client(&ca.issue("agent")?))
        .start()
        .await?;
    agent.send("e2e.json:7|c|#veneurglobalonly")?;
    until_total(&global, "e2e.json", 7.0).await
}

/// An agent that a proxy must not let in.
struct Stranger {
    name: &'static str,
    tls: Value,
    cause: &'static str,
    /// What the proxy logs.
    there: &'static str,
    /// What the agent logs.
    here: &'static str,
}

#[tokio::test]
async fn whoever_must_not_come_in_is_refused_told_and_counted_on_both_sides() -> Outcome {
    let tier = tier()?;
    let ca = Authority::new(tier.directory(), "fleet")?;
    let other = Authority::new(tier.directory(), "other")?;
    let server = with(
        &ca.server(&ca.issue("proxy")?),
        "allowed_names",
        json!(["agent"]),
    );
    let global = tier.global("g1").start().await?;
    let proxy = tier
        .proxy("p1")
        .destination(&global.grpc)
        .with("grpc_tls", server)
        .start()
        .await?;
    let strangers = [
        Stranger {
            name: "nobody",
            tls: json!({"ca_file": ca.file}),
            cause: "no_client_certificate",
            there: "the client showed no certificate",
            here: "the server wants a certificate of ours",
        },
        Stranger {
            name: "alien",
            tls: ca.client(&other.issue("alien")?),
            cause: "unknown_ca",
            there: "the client's certificate alien, localhost",
            here: "refused our certificate: it is signed by no CA",
        },
        Stranger {
            name: "veteran",
            tls: ca.client(&ca.issue_expired("veteran")?),
            cause: "expired",
            there: "expired on Jan  1 00:00:00 2002",
            here: "refused our certificate: it has expired",
        },
        Stranger {
            name: "stowaway",
            tls: ca.client(&ca.issue("stowaway")?),
            cause: "name_not_allowed",
            there: "has none of the allowed_names",
            here: "names are not among those allowed",
        },
        Stranger {
            name: "sceptic",
            tls: other.client(&ca.issue("sceptic")?),
            cause: "unknown_ca",
            there: "the client refused our certificate",
            here: "the server's certificate is signed by no CA of ca_file",
        },
        Stranger {
            name: "plain",
            tls: json!({}),
            cause: "not_tls",
            there: "the client does not speak TLS",
            here: "the server speaks TLS, and this side does not",
        },
    ];
    for stranger in strangers {
        let agent = tier
            .agent(stranger.name)
            .forward_to(&proxy.grpc)
            .with("forward_tls", stranger.tls)
            .start()
            .await?;
        agent.send("e2e.stranger:1|c|#veneurglobalonly")?;
        until_logged(
            &proxy.program,
            &["grpc_tls", stranger.cause, stranger.there],
        )
        .await?;
        until_logged(
            &agent.program,
            &["forward_tls", stranger.cause, stranger.here],
        )
        .await?;
        until_counted(&proxy.http, "grpc_tls", stranger.cause).await?;
        until_counted(&agent.http, "forward_tls", stranger.cause).await?;
    }
    let came = global.emitted()?;
    assert!(
        !came.iter().any(|point| point.name == "e2e.stranger"),
        "{came:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_a_global_refuses_says_so_and_is_let_in_with_new_files_and_nothing_is_lost()
-> Outcome {
    let tier = tier()?;
    let ca = Authority::new(tier.directory(), "fleet")?;
    let other = Authority::new(tier.directory(), "other")?;
    let server = ca.server(&ca.issue("global")?);
    let global = tier.global("g1").with("grpc_tls", server).start().await?;
    let proxy = tier
        .proxy("p1")
        .destination(&global.grpc)
        .with("forward_tls", ca.client(&other.issue("proxy")?))
        .start()
        .await?;
    let agent = tier.agent("a1").forward_to(&proxy.grpc).start().await?;
    agent.send("e2e.later:41|c|#veneurglobalonly")?;
    until_logged(
        &global.program,
        &["grpc_tls", "unknown_ca", "issued by other"],
    )
    .await?;
    until_logged(
        &proxy.program,
        &["forward_tls", "unknown_ca", "refused our certificate"],
    )
    .await?;

    // The same files, signed by the right CA.
    ca.issue("proxy")?;
    until_logged(&proxy.program, &["forward_tls", "TLS files read again"]).await?;
    agent.send("e2e.later:1|c|#veneurglobalonly")?;
    until_total(&global, "e2e.later", 42.0).await
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_and_leaves_standing_ones_alone() -> Outcome {
    let tier = tier()?;
    let old = Authority::new(tier.directory(), "old")?;
    let new = Authority::new(tier.directory(), "new")?;
    let global = tier.global("g1").start().await?;
    let proxy = tier
        .proxy("p1")
        .destination(&global.grpc)
        .with("grpc_tls", old.issue("proxy")?)
        .start()
        .await?;
    let agent = |name: &str, ca: &Authority| {
        tier.agent(name)
            .forward_to(&proxy.grpc)
            .with("forward_tls", json!({"ca_file": ca.file}))
            .start()
    };
    let first = agent("a1", &old).await?;
    first.send("e2e.first:1|c|#veneurglobalonly")?;
    until_total(&global, "e2e.first", 1.0).await?;

    // A certificate whose key is not there yet changes nothing.
    let (cert_file, key_file) = (
        tier.directory().join("proxy.crt"),
        tier.directory().join("proxy.key"),
    );
    let old_key = std::fs::read(&key_file)?;
    new.issue("proxy")?;
    let new_key = std::fs::read(&key_file)?;
    std::fs::write(&key_file, old_key)?;
    until_logged(
        &proxy.program,
        &["is not the key of the first certificate", "going on"],
    )
    .await?;
    std::fs::write(&key_file, new_key)?;
    until_logged(&proxy.program, &["TLS files read again", "issued by new"]).await?;
    let metrics = get(&proxy.http, "/metrics").await?.text();
    let gauge = format!("file=\"{}\"}}", cert_file.display());
    assert!(
        metrics.contains("tls_reload_errors_total{hop=\"grpc_tls\"} "),
        "{metrics}"
    );
    assert!(metrics.contains(&gauge), "{metrics}");

    let second = agent("a2", &new).await?;
    second.send("e2e.second:1|c|#veneurglobalonly")?;
    until_total(&global, "e2e.second", 1.0).await?;
    // It trusts the old CA alone, so this came over the connection that stood.
    first.send("e2e.first:1|c|#veneurglobalonly")?;
    until_total(&global, "e2e.first", 2.0).await?;
    assert!(
        !first.program.log().contains("no TLS connection"),
        "{}",
        first.program.log()
    );
    Ok(())
}

#[tokio::test]
async fn clients_that_hang_in_the_handshake_hold_up_nobody() -> Outcome {
    let tier = tier()?;
    let ca = Authority::new(tier.directory(), "fleet")?;
    let global = tier
        .global("g1")
        .with("grpc_tls", ca.issue("global")?)
        .start()
        .await?;
    let hanging: Vec<_> = (0..50)
        .map(|_| StdStream::connect(&global.grpc))
        .collect::<Result<_, _>>()?;
    let agent = tier
        .agent("a1")
        .forward_to(&global.grpc)
        .with("forward_tls", json!({"ca_file": ca.file}))
        .start()
        .await?;
    agent.send("e2e.hanging:1|c|#veneurglobalonly")?;
    until_total(&global, "e2e.hanging", 1.0).await?;
    until_counted(&global.http, "grpc_tls", "timeout").await?;
    drop(hanging);
    Ok(())
}
