//! The tier found through a real Consul server: who registers, who is found, and what happens when Consul does not want to.

use std::io;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tributary_integration::consul::{Consul, SERVICE};
use tributary_integration::tier::{
    Aggregator, AggregatorBuilder, Binaries, Proxy, ProxyBuilder, Tier, free_address, get, wait_for,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const PROXIES: &str = "veneur-proxy";

fn tier() -> io::Result<Tier> {
    Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))
}

/// A global that registers itself.
fn registered(tier: &Tier, name: &str, consul: &Consul) -> AggregatorBuilder {
    tier.global(name)
        .with("consul_address", json!(consul.http()))
        .with(
            "consul_register",
            json!({"service": SERVICE, "id": name, "check_interval": "1s"}),
        )
}

/// A proxy that finds globals.
fn finding(tier: &Tier, name: &str, consul: &Consul) -> ProxyBuilder {
    tier.proxy(name)
        .with("consul_address", json!(consul.http()))
        .with("consul_forward_service_name", json!(SERVICE))
        .with("consul_refresh_interval", json!("10s"))
        .with("interval", json!("1s"))
}

async fn members(proxy: &Proxy) -> Option<Vec<String>> {
    let ring: Value =
        serde_json::from_slice(&get(&proxy.http, "/api/ring").await.ok()?.body).ok()?;
    let mut members: Vec<String> = ring["members"]
        .as_array()?
        .iter()
        .filter_map(|member| Some(member.get("address").unwrap_or(member).as_str()?.to_owned()))
        .collect();
    members.sort();
    Some(members)
}

async fn wait_for_members(proxy: &Proxy, wanted: &[&str]) -> io::Result<()> {
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    wait_for(&format!("the ring {wanted:?}"), async || {
        (members(proxy).await? == wanted).then_some(())
    })
    .await
    .map_err(|error| io::Error::other(format!("{error}\n{}", proxy.program.log())))
}

async fn wait_for_healthy(consul: &Consul, service: &str, wanted: &[&str]) -> io::Result<()> {
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    wait_for(&format!("{service} {wanted:?}"), async || {
        (consul.healthy(service, "").await.ok()? == wanted).then_some(())
    })
    .await
}

/// The sum of a self-metric over its labels.
async fn metric(http: &str, name: &str) -> Option<f64> {
    let text = get(http, "/metrics").await.ok()?.text();
    let values = text.lines().filter_map(|line| {
        let (key, value) = line.rsplit_once(' ')?;
        let named = key.split('{').next() == Some(name);
        named.then(|| value.parse::<f64>().ok())?
    });
    Some(values.sum())
}

async fn wait_until_more(http: &str, name: &str, than: f64) -> io::Result<()> {
    wait_for(&format!("more {name}"), async || {
        (metric(http, name).await? > than).then_some(())
    })
    .await
}

/// What the counters named `leaving.*` add up to in what these have emitted.
fn counted(globals: &[&Aggregator]) -> f64 {
    let emitted = globals.iter().filter_map(|global| global.emitted().ok());
    let counts = emitted.flatten();
    counts
        .filter(|point| point.name.starts_with("leaving."))
        .map(|point| point.value)
        .sum()
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs a Consul server: run integration/test"
)]
async fn a_tier_finds_itself_and_a_global_that_leaves_loses_nothing() -> Outcome {
    let consul = Consul::start().await?;
    let tier = tier()?;
    // The agent comes first: what it has waits until it knows of a proxy.
    let agent = tier
        .agent("a")
        .with("consul_address", json!(consul.http()))
        .with("consul_forward_service_name", json!(PROXIES))
        .start()
        .await?;
    agent.send("leaving.early:7|c|#veneurglobalonly")?;
    let proxy = finding(&tier, "p", &consul)
        .with("consul_register", json!({"service": PROXIES}))
        .start_unready()
        .await?;
    assert_eq!(
        consul.healthy(PROXIES, "").await?,
        [""; 0],
        "it is not ready"
    );

    let handing_off =
        |name| registered(&tier, name, &consul).with("consul_handoff_service_name", json!(PROXIES));
    let stays = handing_off("g1").start().await?;
    wait_for_healthy(&consul, PROXIES, &[&proxy.grpc]).await?;
    let mut leaves = handing_off("g2").start().await?;
    wait_for_healthy(&consul, SERVICE, &[&stays.grpc, &leaves.grpc]).await?;
    wait_for_members(&proxy, &[&stays.grpc, &leaves.grpc]).await?;

    let mut sent = 7.0;
    let mut send = |rounds: usize| -> io::Result<f64> {
        for _ in 0..rounds {
            for key in 0..100 {
                agent.send(&format!("leaving.{key}:1|c|#veneurglobalonly"))?;
                sent += 1.0;
            }
        }
        Ok(sent)
    };
    send(2)?;
    wait_for("both globals to have their keys", async || {
        (counted(&[&stays]) > 0.0 && counted(&[&leaves]) > 0.0).then_some(())
    })
    .await?;
    let (ended, sent) = tokio::join!(leaves.stop(), async {
        for _ in 0..5 {
            send(1)?;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        send(1)
    });
    let (ended, sent) = (ended?, sent?);
    assert!(ended.success(), "{}", leaves.program.log());
    assert!(
        leaves.program.log().contains("taken out of Consul"),
        "{}",
        leaves.program.log()
    );
    assert_eq!(consul.healthy(SERVICE, "").await?, [stays.grpc.as_str()]);
    wait_for_members(&proxy, &[&stays.grpc]).await?;
    wait_for("everything to be counted", async || {
        (counted(&[&stays, &leaves]) >= sent).then_some(())
    })
    .await
    .map_err(|error| {
        format!(
            "{error}: {} of {sent}\n{}",
            counted(&[&stays, &leaves]),
            leaves.program.log()
        )
    })?;
    assert_eq!(counted(&[&stays, &leaves]), sent);
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs a Consul server: run integration/test"
)]
async fn a_killed_global_becomes_critical_and_a_consul_without_memory_is_told_again() -> Outcome {
    let mut consul = Consul::start().await?;
    let tier = tier()?;
    let lives = registered(&tier, "g1", &consul).start().await?;
    let mut dies = registered(&tier, "g2", &consul).start().await?;
    wait_for_healthy(&consul, SERVICE, &[&lives.grpc, &dies.grpc]).await?;
    let proxy = finding(&tier, "p", &consul).start().await?;
    wait_for_members(&proxy, &[&lives.grpc, &dies.grpc]).await?;
    dies.program.kill().await?;
    wait_for_members(&proxy, &[&lives.grpc]).await?;

    consul.kill();
    wait_until_more(&lives.http, "veneur_registration_errors_total", 0.0).await?;
    consul.start_again().await?;
    wait_for_healthy(&consul, SERVICE, &[&lives.grpc]).await?;
    wait_until_more(&lives.http, "veneur_registration_lost_total", 0.0).await?;
    // And the next to come is found.
    let new = registered(&tier, "g3", &consul).start().await?;
    wait_for_members(&proxy, &[&lives.grpc, &new.grpc]).await?;
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs a Consul server: run integration/test"
)]
async fn with_acls_a_token_is_needed_and_one_that_is_missing_removes_nobody() -> Outcome {
    let tokens = json!({"master": "root", "agent": "root"});
    let acl = json!({"enabled": true, "default_policy": "deny", "tokens": tokens});
    let consul = Consul::start_with(&json!({"acl": acl})).await?;
    let rules = r#"service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }"#;
    let token = consul.token("tributary", rules).await?;
    let tier = tier()?;
    let global = registered(&tier, "g1", &consul)
        .with("consul_token", json!(token))
        .start()
        .await?;
    let stranger = registered(&tier, "g2", &consul).start().await?;
    wait_until_more(&stranger.http, "veneur_registration_errors_total", 0.0).await?;
    let file = tier.directory().join("token");
    std::fs::write(&file, &token)?;
    let proxy = finding(&tier, "p", &consul)
        .with("consul_token_file", json!(file))
        .with("consul_refresh_interval", json!("1s"))
        .start()
        .await?;
    wait_for_members(&proxy, &[&global.grpc]).await?;

    // Without its token it is answered with an empty list.
    let errors = "veneur_proxy_discoverer_errors";
    let before = metric(&proxy.http, errors).await.unwrap_or(0.0);
    std::fs::write(&file, "")?;
    wait_until_more(&proxy.http, errors, before).await?;
    assert_eq!(members(&proxy).await, Some(vec![global.grpc.clone()]));
    let log = proxy.program.log();
    assert!(log.contains("does not let this token see any"), "{log}");

    let blind = finding(&tier, "blind", &consul).start_unready().await?;
    wait_until_more(&blind.http, errors, 0.0).await?;
    assert_eq!(members(&blind).await, Some(Vec::new()));
    let seen = consul.healthy(SERVICE, &token).await?;
    assert_eq!(
        seen,
        [global.grpc.as_str()],
        "the stranger is not registered"
    );
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs a Consul server: run integration/test"
)]
async fn tags_the_datacenter_and_the_wanted_address_choose_the_instances() -> Outcome {
    let consul = Consul::start().await?;
    let tier = tier()?;
    for (id, address, tags) in [
        ("1", "127.0.0.2:1", vec!["blue", "v2"]),
        ("2", "127.0.0.2:2", vec!["blue"]),
        ("3", "127.0.0.2:3", vec!["green", "v2"]),
    ] {
        consul.register_tagged(id, address, &tags).await?;
    }
    let both = finding(&tier, "both", &consul)
        .with("consul_tag", json!(["blue", "v2"]))
        .with("consul_datacenter", json!("dc1"))
        .with("consul_stale", json!(true))
        .start()
        .await?;
    wait_for_members(&both, &["127.0.0.2:1"]).await?;
    let one = finding(&tier, "one", &consul)
        .with("consul_tag", json!("blue"))
        .with("consul_address_preference", json!("node"))
        .start()
        .await?;
    wait_for_members(&one, &["127.0.0.1:1", "127.0.0.1:2"]).await?;
    let elsewhere = finding(&tier, "elsewhere", &consul)
        .with("consul_datacenter", json!("dc9"))
        .start_unready()
        .await?;
    wait_until_more(&elsewhere.http, "veneur_proxy_discoverer_errors", 0.0).await?;
    let log = elsewhere.program.log();
    assert!(log.contains("No path to datacenter"), "{log}");
    Ok(())
}

/// A CA, a server's and a client's certificate as files: what Consul's and our settings name.
fn certificates(directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(directory.join("ca.pem"), ca.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(ca, key);
    for (file, name) in [("server", "127.0.0.1"), ("client", "agent.example")] {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([name.to_owned()])?.signed_by(&key, &issuer)?;
        std::fs::write(directory.join(format!("{file}.pem")), certificate.pem())?;
        std::fs::write(directory.join(format!("{file}.key")), key.serialize_pem())?;
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs a Consul server: run integration/test"
)]
async fn consul_is_spoken_to_by_tls_and_wants_a_certificate() -> Outcome {
    let tier = tier()?;
    certificates(tier.directory())?;
    let file = |name: &str| tier.directory().join(name).display().to_string();
    let https = free_address()?;
    let port: u16 = https.rsplit(':').next().unwrap_or_default().parse()?;
    let consul = Consul::start_with(&json!({
        "ports": {"https": port}, "verify_incoming": true,
        "ca_file": file("ca.pem"), "cert_file": file("server.pem"), "key_file": file("server.key"),
    }))
    .await?;
    let ca = file("ca.pem");
    let tls =
        json!({"ca_file": ca, "cert_file": file("client.pem"), "key_file": file("client.key")});
    let global = registered(&tier, "g1", &consul)
        .with("consul_address", json!(https))
        .with("consul_tls", tls.clone())
        .start()
        .await?;
    let proxy = finding(&tier, "p", &consul)
        .with("consul_address", json!(format!("https://{https}")))
        .with("consul_tls", tls)
        .start()
        .await?;
    wait_for_members(&proxy, &[&global.grpc]).await?;
    assert_eq!(consul.healthy(SERVICE, "").await?, [global.grpc.as_str()]);

    // One that shows none, and one that does not know the CA.
    for (name, tls) in [("bare", json!({"ca_file": ca})), ("trusts", json!({}))] {
        let address = json!(format!("https://{https}"));
        let stranger = finding(&tier, name, &consul)
            .with("consul_address", address)
            .with("consul_tls", tls)
            .start_unready()
            .await?;
        let errors = "veneur_proxy_discoverer_errors";
        wait_until_more(&stranger.http, errors, 0.0).await?;
        assert_eq!(members(&stranger).await, Some(Vec::new()), "{name}");
    }
    Ok(())
}
