//! The main job, with real processes: what agents take in comes out of the right global as one true value.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tributary_integration::tier::{Aggregator, Binaries, Emitted, Proxy, Tier, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn binaries() -> Binaries {
    Binaries::of(env!("CARGO_BIN_EXE_tributary"))
}

/// Three globals behind two proxies.
async fn upstream(tier: &Tier) -> io::Result<(Vec<Proxy>, Vec<Aggregator>)> {
    let mut globals = Vec::new();
    for number in 1..=3 {
        globals.push(tier.global(&format!("g{number}")).start().await?);
    }
    let mut proxies = Vec::new();
    for number in 1..=2 {
        let mut proxy = tier.proxy(&format!("p{number}"));
        for global in &globals {
            proxy = proxy.destination(&global.grpc);
        }
        proxies.push(proxy.start().await?);
    }
    Ok((proxies, globals))
}

/// Everything the globals emitted so far.
fn emitted(globals: &[Aggregator]) -> io::Result<Vec<Emitted>> {
    let mut all = Vec::new();
    for global in globals {
        all.extend(global.emitted()?);
    }
    Ok(all)
}

/// Waits until counters of the name add up to `total` over all globals; anything above it is a failure at once.
async fn wait_for_total(
    globals: &[Aggregator],
    name: &str,
    total: f64,
) -> io::Result<Vec<Emitted>> {
    let mut last = 0.0;
    let found = wait_for(&format!("{name} to reach {total}"), async || {
        let points: Vec<_> = emitted(globals)
            .ok()?
            .into_iter()
            .filter(|point| point.name == name)
            .collect();
        last = points.iter().map(|point| point.value).sum();
        (last >= total).then_some(points)
    })
    .await
    .map_err(|error| io::Error::other(format!("{error}; reached {last}")))?;
    let sum: f64 = found.iter().map(|point| point.value).sum();
    assert_eq!(sum, total, "{name} was counted twice");
    Ok(found)
}

#[tokio::test]
async fn each_key_of_two_agents_is_emitted_by_one_global_with_exact_totals() -> Outcome {
    let tier = Tier::new(binaries())?;
    let (proxies, globals) = upstream(&tier).await?;
    let addresses: Vec<_> = proxies.iter().map(|proxy| proxy.grpc.clone()).collect();
    let mut agents = Vec::new();
    for number in 1..=2 {
        let agent = tier
            .agent(&format!("a{number}"))
            .with("forward_address", json!(addresses));
        agents.push(agent.start().await?);
    }
    for agent in &agents {
        for series in 0..200 {
            agent.send(&format!("e2e.requests:3|c|#series:{series},veneurglobalonly\ne2e.sessions:u{series}|s|#series:{series}"))?;
        }
    }
    let points = wait_for_total(&globals, "e2e.requests", 1_200.0).await?;

    let mut owners: HashMap<&str, &str> = HashMap::new();
    let sets = emitted(&globals)?;
    for point in points
        .iter()
        .chain(sets.iter().filter(|point| point.name == "e2e.sessions"))
    {
        let series = format!("{} {:?}", point.name, point.tags).leak();
        let owner = owners.entry(series).or_insert(&point.hostname);
        assert_eq!(
            *owner, point.hostname,
            "{series} was emitted by two globals"
        );
    }
    let used: std::collections::HashSet<_> = owners.values().collect();
    assert_eq!(used.len(), 3, "200 series are spread over all globals");
    for point in sets.iter().filter(|point| point.name == "e2e.sessions") {
        assert_eq!(point.value, 1.0, "both agents sent the same member");
    }
    Ok(())
}

#[tokio::test]
async fn percentiles_of_100_000_samples_are_within_one_percent_of_exact() -> Outcome {
    let mut tier = Tier::new(binaries())?;
    // All samples fall into one interval.
    let interval = Duration::from_secs(8);
    tier.set_interval(interval);
    let (proxies, globals) = upstream(&tier).await?;
    let mut agents = Vec::new();
    for number in 1..=2 {
        agents.push(
            tier.agent(&format!("a{number}"))
                .forward_to(&proxies[number - 1].grpc)
                .start()
                .await?,
        );
    }
    let mut attempt = 0;
    let (metric, samples) = loop {
        attempt += 1;
        let metric = format!("e2e.latency{attempt}");
        next_interval(interval).await;
        let began = SystemTime::now();
        let samples = send_latencies(&agents, &metric).await?;
        // What is sent waits in no queue for long: a second is left for it.
        if began.elapsed()? < interval - Duration::from_secs(1) {
            break (metric, samples);
        }
        if attempt == 5 {
            return Err("the machine is too slow to send 100,000 samples in an interval".into());
        }
    };
    for (q, suffix) in [
        (0.5, "50percentile"),
        (0.75, "75percentile"),
        (0.99, "99percentile"),
    ] {
        let name = format!("{metric}.{suffix}");
        let found = wait_for(&name, async || {
            let found: Vec<_> = emitted(&globals)
                .ok()?
                .into_iter()
                .filter(|point| point.name == name)
                .collect();
            (!found.is_empty()).then_some(found)
        })
        .await?;
        assert_eq!(found.len(), 1, "one global emits it, once: {found:?}");
        let exact = samples[(q * samples.len() as f64) as usize];
        let off = (found[0].value - exact).abs() / exact;
        assert!(off < 0.01, "{name}: {} instead of {exact}", found[0].value);
    }
    // The agents emit the aggregates of what each saw itself: together all of it.
    let count = format!("{metric}.count");
    let counts: f64 = agents
        .iter()
        .flat_map(|agent| agent.emitted().unwrap_or_default())
        .filter(|point| point.name == count)
        .map(|point| point.value)
        .sum();
    assert_eq!(counts, 100_000.0);
    Ok(())
}

/// Sends 100,000 samples to the agents in turn, and gives them in order.
async fn send_latencies(agents: &[Aggregator], metric: &str) -> io::Result<Vec<f64>> {
    let mut samples = Vec::with_capacity(100_000);
    let mut random = fastrand::Rng::with_seed(7);
    for datagram in 0..5_000 {
        let mut lines = String::new();
        for _ in 0..20 {
            // Exponential with a mean of 100 ms, as written on the wire.
            let value = (-(1.0 - random.f64()).ln() * 1e5).round() / 1e3;
            samples.push(value);
            lines.push_str(&format!("{metric}:{value}|ms|#env:test\n"));
        }
        agents[datagram % 2].send(&lines)?;
        if datagram % 50 == 0 {
            // Keeps the load under what a debug build takes in.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    samples.sort_unstable_by(f64::total_cmp);
    Ok(samples)
}

/// Sleeps until just after the next flush, so that a whole interval lies ahead.
async fn next_interval(interval: Duration) {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let past = Duration::from_nanos((now.as_nanos() % interval.as_nanos()) as u64);
    tokio::time::sleep(interval - past + Duration::from_millis(100)).await;
}

#[tokio::test]
async fn scopes_decide_which_tier_emits() -> Outcome {
    let tier = Tier::new(binaries())?;
    let global = tier.global("g").start().await?;
    let proxy = tier.proxy("p").destination(&global.grpc).start().await?;
    let agent = tier.agent("a").forward_to(&proxy.grpc).start().await?;
    agent.send("s.mixed:5|c\ns.local:6|ms|#veneurlocalonly\ns.global:7|c|#veneurglobalonly\ns.timer:8|ms\ns.set:x|s")?;

    let total = global
        .wait_for_point("the global counter", |point| point.name == "s.global")
        .await?;
    assert_eq!((total.kind.as_str(), total.value), ("counter", 7.0));
    global
        .wait_for_point("the timer's percentile", |point| {
            point.name == "s.timer.99percentile"
        })
        .await?;
    let set = global
        .wait_for_point("the set", |point| point.name == "s.set")
        .await?;
    assert_eq!((set.kind.as_str(), set.value), ("gauge", 1.0));
    agent
        .wait_for_point("the mixed counter", |point| {
            point.name == "s.mixed" && point.value == 5.0
        })
        .await?;
    agent
        .wait_for_point("the local timer's percentile", |point| {
            point.name == "s.local.99percentile"
        })
        .await?;
    agent
        .wait_for_point("the mixed timer's maximum", |point| {
            point.name == "s.timer.max"
        })
        .await?;

    let names = |points: Vec<Emitted>| {
        points
            .into_iter()
            .map(|point| point.name)
            .collect::<Vec<_>>()
    };
    let (at_agent, at_global) = (names(agent.emitted()?), names(global.emitted()?));
    for name in ["s.global", "s.set", "s.timer.99percentile"] {
        assert!(
            !at_agent.contains(&name.to_owned()),
            "the agent emitted {name}"
        );
    }
    for name in ["s.mixed", "s.local.99percentile", "s.timer.max"] {
        assert!(
            !at_global.contains(&name.to_owned()),
            "the global emitted {name}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn every_listener_takes_dogstatsd() -> Outcome {
    use std::io::Write as _;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    let tier = Tier::new(binaries())?;
    let tcp = tributary_integration::tier::free_address()?;
    let udp = tributary_integration::tier::free_address()?;
    let (gram, stream) = (
        tier.directory().join("gram.sock"),
        tier.directory().join("stream.sock"),
    );
    let listen = json!([
        format!("udp://{udp}"),
        format!("tcp://{tcp}"),
        format!("unixgram://{}", gram.display()),
        format!("unix://{}", stream.display()),
    ]);
    let aggregator = tier
        .global("all")
        .with("statsd_listen_addresses", listen)
        .start()
        .await?;
    std::net::UdpSocket::bind("127.0.0.1:0")?.send_to(b"in.udp:1|c", &udp)?;
    std::net::TcpStream::connect(&tcp)?.write_all(b"in.tcp:2|c\nin.tcp:3|c")?;
    UnixDatagram::unbound()?.send_to(b"in.gram:4|c", &gram)?;
    let packet = b"in.stream:5|c\n";
    let mut connection = UnixStream::connect(&stream)?;
    connection.write_all(&(packet.len() as u32).to_le_bytes())?;
    connection.write_all(packet)?;
    for (name, total) in [
        ("in.udp", 1.0),
        ("in.tcp", 5.0),
        ("in.gram", 4.0),
        ("in.stream", 5.0),
    ] {
        wait_for_total(std::slice::from_ref(&aggregator), name, total).await?;
    }
    Ok(())
}

#[tokio::test]
async fn agents_forward_by_unary_stream_and_json() -> Outcome {
    let tier = Tier::new(binaries())?;
    let (proxies, globals) = upstream(&tier).await?;
    for protocol in ["unary", "stream", "json"] {
        let proxy = &proxies[0];
        let to = if protocol == "json" {
            format!("http://{}", proxy.http)
        } else {
            proxy.grpc.clone()
        };
        let agent = tier
            .agent(protocol)
            .forward_to(&to)
            .with("forward_protocol", json!(protocol))
            .start()
            .await?;
        for series in 0..50 {
            agent.send(&format!(
                "by.{protocol}:2|c|#s:{series},veneurglobalonly\nby.timer:4|ms|#p:{protocol}"
            ))?;
        }
        wait_for_total(&globals, &format!("by.{protocol}"), 100.0).await?;
        let tag = format!("p:{protocol}");
        wait_for("the timer's median", async || {
            emitted(&globals).ok()?.into_iter().find(|point| {
                point.name == "by.timer.50percentile" && point.has_tag(&tag) && point.value == 4.0
            })
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_speaks_legacy_json_to_a_destination_written_as_http() -> Outcome {
    let tier = Tier::new(binaries())?;
    let global = tier.global("g").start().await?;
    let proxy = tier
        .proxy("p")
        .destination(&format!("http://{}", global.http))
        .start()
        .await?;
    let agent = tier.agent("a").forward_to(&proxy.grpc).start().await?;
    agent.send("legacy.count:9|c|#veneurglobalonly\nlegacy.timer:1.5|ms\nlegacy.set:a|s")?;
    wait_for_total(std::slice::from_ref(&global), "legacy.count", 9.0).await?;
    global
        .wait_for_point("the timer", |point| {
            point.name == "legacy.timer.50percentile" && point.value == 1.5
        })
        .await?;
    global
        .wait_for_point("the set", |point| {
            point.name == "legacy.set" && point.value == 1.0
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn sigterm_ends_each_program_with_0_and_an_agent_forwards_first() -> Outcome {
    let mut tier = Tier::new(binaries())?;
    tier.set_interval(Duration::from_secs(2));
    let mut global = tier.global("g").start().await?;
    let mut proxy = tier.proxy("p").destination(&global.grpc).start().await?;
    let mut agent = tier.agent("a").forward_to(&proxy.grpc).start().await?;
    agent.send("last.words:1|c|#veneurglobalonly")?;
    let ended = agent.stop().await?;
    assert!(ended.success(), "{ended}\n{}", agent.program.log());
    let ended = proxy.stop().await?;
    assert!(ended.success(), "{ended}\n{}", proxy.program.log());
    let ended = global.stop().await?;
    assert!(ended.success(), "{ended}\n{}", global.program.log());
    let total: f64 = global
        .emitted()?
        .iter()
        .filter(|point| point.name == "last.words")
        .map(|point| point.value)
        .sum();
    assert_eq!(total, 1.0);
    Ok(())
}

#[tokio::test]
async fn readiness_follows_the_destinations() -> Outcome {
    let tier = Tier::new(binaries())?;
    let proxy = tier.proxy("p").start_unready().await?;
    let ready = tributary_integration::tier::get(&proxy.http, "/ready").await?;
    assert_eq!(ready.status, 503, "{}", ready.text());
    let alive = tributary_integration::tier::get(&proxy.http, "/healthcheck").await?;
    assert_eq!(alive.status, 200);
    Ok(())
}
