//! Globals that are found by a file, by DNS and by Kubernetes, and stay while the source fails.

#[allow(dead_code, reason = "the tests of TLS use all of it")]
#[path = "tls/authority.rs"]
mod authority;
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the discovery's own tests use all of it; a test ends at the first surprise"
)]
#[path = "../../node/src/discovery/dns/server.rs"]
mod dns_server;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authority::Authority;
use dns_server::Server;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tributary_integration::tier::{Binaries, Place, Proxy, Tier, get, wait_for};
use tributary_node::tls::{Acceptor, Alpn, Incoming};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn tier() -> io::Result<Tier> {
    Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))
}

/// Waits until exactly these are on the proxy's ring.
async fn until_on_ring(proxy: &Proxy, addresses: &[&str]) -> io::Result<()> {
    let expected: BTreeSet<&str> = addresses.iter().copied().collect();
    let what = format!("a ring of {expected:?}; log:\n{}", proxy.program.log());
    wait_for(&what, async || {
        let ring = get(&proxy.http, "/api/ring").await.ok()?;
        let ring: Value = serde_json::from_slice(&ring.body).ok()?;
        let members = ring["members"].as_array()?.iter();
        let members: BTreeSet<&str> = members.filter_map(Value::as_str).collect();
        (members == expected).then_some(())
    })
    .await
}

/// Waits until the proxy has counted an error of discovery more than `before`, and gives how many there are.
async fn until_failed(proxy: &Proxy, before: f64) -> io::Result<f64> {
    wait_for("an error of discovery", async || {
        let metrics = get(&proxy.http, "/metrics").await.ok()?.text();
        let lines = metrics
            .lines()
            .filter(|line| line.contains("discoverer_errors{"));
        let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        let sum = counts.sum();
        (sum > before).then_some(sum)
    })
    .await
}

#[tokio::test]
async fn a_metric_reaches_the_global_that_a_file_names_and_a_broken_file_removes_nobody() -> Outcome
{
    let tier = tier()?;
    let file = tier.directory().join("globals.yaml");
    let global = tier.global("g1").start().await?;
    std::fs::write(&file, format!("- {}\n", global.grpc))?;
    let discovery = json!({"kind": "file", "path": file});
    let proxy = tier.proxy("p1").with("forward_discovery", discovery);
    let proxy = proxy.with("interval", json!("1s")).start().await?;
    let agent = tier.agent("a1").forward_to(&proxy.grpc).start().await?;
    agent.send("found.by_file:1|c|#veneurglobalonly")?;
    global
        .wait_for_point("the counter", |point| point.name == "found.by_file")
        .await?;

    std::fs::write(&file, "- nonsense\n")?;
    wait_for("the log to name the line", async || {
        let told = proxy.program.log().contains("globals.yaml:1: ");
        told.then_some(())
    })
    .await?;
    until_failed(&proxy, 0.0).await?;
    until_on_ring(&proxy, &[&global.grpc]).await?;

    std::fs::write(
        &file,
        format!("- {}\n- address: 127.0.0.1:1\n", global.grpc),
    )?;
    until_on_ring(&proxy, &[&global.grpc, "127.0.0.1:1"]).await?;
    Ok(())
}

#[tokio::test]
async fn an_agent_forwards_to_the_proxies_that_a_file_names_and_goes_with_it() -> Outcome {
    let tier = tier()?;
    let file = tier.directory().join("proxies.yaml");
    let global = tier.global("g1").start().await?;
    let first = tier.proxy("p1").destination(&global.grpc).start().await?;
    let mut second = tier.proxy("p2").destination(&global.grpc).start().await?;
    std::fs::write(&file, format!("- {}\n", second.grpc))?;
    let discovery = json!({"kind": "file", "path": file});
    let agent = tier.agent("a1").with("forward_discovery", discovery);
    let agent = agent.start().await?;
    agent.send("found.first:1|c|#veneurglobalonly")?;
    global
        .wait_for_point("the counter", |point| point.name == "found.first")
        .await?;

    std::fs::write(&file, format!("- {}\n", first.grpc))?;
    second.stop().await?;
    agent.send("found.second:1|c|#veneurglobalonly")?;
    global
        .wait_for_point("the counter", |point| point.name == "found.second")
        .await?;
    Ok(())
}

#[tokio::test]
async fn globals_are_found_by_their_srv_records_and_stay_while_dns_fails() -> Outcome {
    let name = "_grpc._tcp.globals.test";
    let dns = Server::start().await;
    dns.set_addresses("g.test", &["127.0.0.1"]);
    dns.set_services(name, &[(0, 1, 1001, "g.test"), (0, 1, 1002, "g.test")]);
    let tier = tier()?;
    let discovery = json!({"kind": "dns", "name": name, "srv": true,
        "resolver": dns.address.to_string(), "refresh_interval": "1s"});
    let proxy = tier.proxy("p1").with("forward_discovery", discovery);
    let proxy = proxy.with("interval", json!("1s")).start().await?;
    until_on_ring(&proxy, &["127.0.0.1:1001", "127.0.0.1:1002"]).await?;

    dns.remove(name);
    until_failed(&proxy, 0.0).await?;
    until_on_ring(&proxy, &["127.0.0.1:1001", "127.0.0.1:1002"]).await?;

    dns.set_services(name, &[(0, 1, 1002, "g.test"), (0, 1, 1003, "g.test")]);
    until_on_ring(&proxy, &["127.0.0.1:1002", "127.0.0.1:1003"]).await?;
    Ok(())
}

/// What the API server says: a version and the only slice; nothing: it refuses everything.
type Said = Arc<Mutex<Option<(u64, Value)>>>;

/// What the API server asks of a request, and has seen.
#[derive(Clone, Default)]
struct Account {
    /// Another token is refused; empty: none is asked for.
    token: Arc<Mutex<String>>,
    /// The first line of each request.
    asked: Arc<Mutex<Vec<String>>>,
}

/// An API server. Each change ends the watches that wait for it.
async fn kubernetes(
    said: Said,
    tls: Option<Acceptor>,
    account: Account,
) -> io::Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut incoming = Incoming::new(listener, tls);
    tokio::spawn(async move {
        while let Some(Ok(stream)) = incoming.next().await {
            tokio::spawn(serve(stream, said.clone(), account.clone()));
        }
    });
    Ok(address)
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    said: Said,
    account: Account,
) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    if let (Ok(mut asked), Some(line)) = (account.asked.lock(), request.lines().next()) {
        asked.push(line.to_owned());
    }
    let token = account.token.lock().map(|token| token.clone());
    let token = token.unwrap_or_default();
    let bearer = format!("authorization: bearer {token}\r\n");
    let allowed = token.is_empty() || request.to_lowercase().contains(&bearer);
    let watched = request.contains("watch=true");
    let now = || said.lock().map(|said| said.clone()).unwrap_or_default();
    let known = |version: u64| request.contains(&format!("resourceVersion={version} "));
    while allowed && watched && now().is_some_and(|(version, _)| known(version)) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let failure = |code: u16, why: &str| json!({"kind": "Status", "code": code, "message": why});
    let (status, body) = match now() {
        _ if !allowed => ("401 Unauthorized", failure(401, "who are you")),
        None => ("503 Service Unavailable", failure(503, "down")),
        Some((_, slice)) if watched => ("200 OK", json!({"type": "MODIFIED", "object": slice})),
        Some((version, slice)) => (
            "200 OK",
            json!({"metadata": {"resourceVersion": version.to_string()}, "items": [slice]}),
        ),
    };
    let length = body.to_string().len() + 1;
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n");
    stream
        .write_all(format!("{head}\r\n{body}\n").as_bytes())
        .await?;
    stream.shutdown().await
}

fn slice(version: u64, addresses: &[&str]) -> Option<(u64, Value)> {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address]}))
        .collect();
    let slice = json!({"metadata": {"name": "a", "resourceVersion": version.to_string()}, "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": 1}], "endpoints": endpoints});
    Some((version, slice))
}

#[tokio::test]
async fn globals_are_found_by_endpoint_slices_and_stay_while_the_api_is_down() -> Outcome {
    let said: Said = Arc::new(Mutex::new(slice(1, &["127.0.0.1", "127.0.0.2"])));
    let set = |new| said.lock().map(|mut said| *said = new).unwrap_or_default();
    let api = kubernetes(said.clone(), None, Account::default()).await?;
    let discovery = json!({"kind": "kubernetes", "service": "veneur-global", "port": "grpc",
        "api": format!("http://{api}")});
    let tier = tier()?;
    let proxy = tier.proxy("p1").with("forward_discovery", discovery);
    let proxy = proxy.with("interval", json!("1s")).start().await?;
    until_on_ring(&proxy, &["127.0.0.1:1", "127.0.0.2:1"]).await?;

    set(slice(2, &[]));
    let failures = until_failed(&proxy, 0.0).await?;
    set(None);
    until_failed(&proxy, failures).await?;
    until_on_ring(&proxy, &["127.0.0.1:1", "127.0.0.2:1"]).await?;

    set(slice(3, &["127.0.0.2", "127.0.0.3"]));
    until_on_ring(&proxy, &["127.0.0.2:1", "127.0.0.3:1"]).await?;
    Ok(())
}

/// Has the files of a pod's account where Kubernetes mounts them, in a file system of its own: without root by a user namespace.
fn as_a_pod(account: &std::path::Path, api: std::net::SocketAddr) -> Place {
    const MOUNTS: &str = "mount -t tmpfs none /var/run && mkdir -p /var/run/secrets/kubernetes.io/serviceaccount \
        && mount --bind \"$0\" /var/run/secrets/kubernetes.io/serviceaccount && exec \"$@\"";
    let prefix = [
        "env",
        &format!("KUBERNETES_SERVICE_HOST={}", api.ip()),
        &format!("KUBERNETES_SERVICE_PORT={}", api.port()),
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        MOUNTS,
        &account.display().to_string(),
    ];
    Place {
        prefix: prefix.map(str::to_owned).to_vec(),
        ..Place::here()
    }
}

#[tokio::test]
async fn in_a_pod_its_account_is_used_and_a_new_token_of_it() -> Outcome {
    let tier = tier()?;
    let account = tier.directory().join("account");
    std::fs::create_dir(&account)?;
    let authority = Authority::new(tier.directory(), "kubernetes")?;
    std::fs::copy(&authority.file, account.join("ca.crt"))?;
    std::fs::write(account.join("namespace"), "pods-own")?;
    std::fs::write(account.join("token"), "first")?;
    let tls = serde_json::from_value(authority.issue("api")?)?;
    let tls = Acceptor::new(&tls, "http_tls", Alpn::Http)?;
    let said: Said = Arc::new(Mutex::new(slice(1, &["127.0.0.1"])));
    let asked = Account::default();
    let expect = |token: &str| {
        let set = asked.token.lock();
        set.map(|mut set| *set = token.to_owned())
            .unwrap_or_default();
    };
    expect("first");
    let api = kubernetes(said.clone(), tls, asked.clone()).await?;

    let discovery = json!({"kind": "kubernetes", "service": "veneur-global", "port": "grpc"});
    let proxy = tier.proxy("p1").with("forward_discovery", discovery);
    let proxy = proxy
        .with("interval", json!("1s"))
        .at(&as_a_pod(&account, api));
    let proxy = proxy.start().await?;
    until_on_ring(&proxy, &["127.0.0.1:1"]).await?;
    let lines = asked.asked.lock().map(|lines| lines.clone());
    let lines = lines.unwrap_or_default();
    let path = "GET /apis/discovery.k8s.io/v1/namespaces/pods-own/endpointslices?";
    assert!(lines.iter().all(|line| line.starts_with(path)), "{lines:?}");

    // Kubernetes gives out a new token now and then, and the old one ends.
    expect("second");
    std::fs::write(account.join("token"), "second")?;
    let new = slice(2, &["127.0.0.1", "127.0.0.2"]);
    said.lock().map(|mut said| *said = new).unwrap_or_default();
    until_on_ring(&proxy, &["127.0.0.1:1", "127.0.0.2:1"]).await?;
    Ok(())
}
