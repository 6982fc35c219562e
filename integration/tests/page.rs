//! The pages in a real browser, and the questions that `tributary where` and `tributary top` answer, over a whole tier.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tributary_integration::consul::fetched;
use tributary_integration::tier::{Aggregator, Binaries, Proxy, Tier, get, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A name that a page must show as it is, and never run.
const HOSTILE: &str = "<script>window.executed=1</script><img src=x onerror=window.executed=2>";

fn binaries() -> Binaries {
    Binaries::of(env!("CARGO_BIN_EXE_tributary"))
}

/// Three globals behind a proxy, and an agent.
async fn fleet(tier: &Tier) -> io::Result<(Vec<Aggregator>, Proxy, Aggregator)> {
    let mut globals = Vec::new();
    for number in 1..=3 {
        globals.push(tier.global(&format!("g{number}")).start().await?);
    }
    let mut proxy = tier.proxy("p").with("interval", json!("1s"));
    for global in &globals {
        proxy = proxy.destination(&global.grpc);
    }
    let proxy = proxy.start().await?;
    let agent = tier.agent("a").forward_to(&proxy.grpc).start().await?;
    Ok((globals, proxy, agent))
}

async fn ask(address: &str, path: &str) -> io::Result<Value> {
    let answer = get(address, path).await?;
    assert!(answer.status.is_success(), "{path}: {}", answer.text());
    Ok(serde_json::from_slice(&answer.body)?)
}

/// Sends until it is dropped: each series every 100 ms.
fn keep_sending(agent: &Aggregator, lines: Vec<String>) -> tokio::task::JoinSet<()> {
    let statsd = agent.statsd.clone();
    let mut sending = tokio::task::JoinSet::new();
    sending.spawn(async move {
        let Ok(socket) = std::net::UdpSocket::bind("127.0.0.1:0") else {
            return;
        };
        loop {
            for line in &lines {
                let _ = socket.send_to(line.as_bytes(), &statsd);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    sending
}

fn strings(value: &Value) -> Vec<&str> {
    let all = value.as_array().map_or(&[][..], Vec::as_slice);
    all.iter().filter_map(Value::as_str).collect()
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Chromium and playwright-core: run integration/test"
)]
async fn both_pages_live_in_a_real_browser() -> Outcome {
    let tier = Tier::new(binaries())?;
    let (globals, mut proxy, agent) = fleet(&tier).await?;
    // A name whose series all belong to the first global is not known beforehand: enough series reach each.
    let mut lines = Vec::new();
    for user in 0..60 {
        lines.push(format!("{HOSTILE}:{user}|ms|#user:<b>{user}</b>,env:test"));
        lines.push(format!(
            "api.latency:{}|ms|#path:/p{},env:test",
            10 + user % 7,
            user % 20
        ));
        lines.push(format!("site.visitors:u{user}|s|#path:/p{}", user % 20));
    }
    let sending = keep_sending(&agent, lines);

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/drive.mjs");
    let mut browser = Command::new("node")
        .arg(script)
        .args([fetched("TEST_PLAYWRIGHT")?, fetched("TEST_CHROMIUM")?])
        .args([&proxy.http, &globals[0].http])
        .args(std::env::var_os("TEST_SCREENSHOTS"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = browser.stdout.take().ok_or("not piped")?;
    let mut output = BufReader::new(output).lines();
    let mut next = async || -> io::Result<Value> {
        let line = tokio::time::timeout(Duration::from_secs(150), output.next_line()).await??;
        let line = line.ok_or_else(|| io::Error::other("the browser's script ended early"))?;
        Ok(serde_json::from_str(&line)?)
    };
    let found = next().await?;
    let shown = format!("{found:#}");
    assert_eq!(found["complaints"], json!([]), "{shown}");
    assert_eq!(found["foreign"], json!([]), "{shown}");
    let page = &found["global"];
    assert_eq!(page["executed"], Value::Null, "{shown}");
    assert_eq!(page["scripts"], 0, "{shown}");
    assert_eq!(page["title"], "global g1 · Tributary");
    assert!(strings(&page["names"]).contains(&HOSTILE), "{shown}");
    assert!(
        strings(&page["tags"])
            .iter()
            .any(|tags| tags.starts_with("user ")),
        "{shown}"
    );
    assert_eq!(strings(&page["sinks"]), ["file localfile"]);
    assert!(
        strings(&page["lines"])
            .iter()
            .any(|line| line.starts_with("99 %")),
        "{shown}"
    );
    let page = &found["proxy"];
    assert_eq!(page["ring"], 3, "{shown}");
    for global in &globals {
        let destinations = strings(&page["destinations"]);
        let row = destinations
            .iter()
            .find(|row| row.starts_with(&global.grpc));
        assert!(row.is_some_and(|row| row.contains("connected")), "{shown}");
    }
    assert!(!strings(&page["changes"]).is_empty());
    for page in ["proxy", "global"] {
        let overflow = &found[page]["overflow"];
        assert_eq!(
            *overflow,
            json!({"light": 0, "dark": 0, "narrow": 0}),
            "{page}"
        );
    }

    proxy.program.kill().await?;
    let mut input = browser.stdin.take().ok_or("not piped")?;
    input.write_all(b"gone\n").await?;
    let gone = next().await?;
    assert!(
        strings(&gone["gone"])[0].starts_with("no answer since"),
        "{gone}"
    );
    assert!(browser.wait().await?.success());
    drop(sending);
    Ok(())
}

/// What a tool printed.
async fn run(arguments: &[&str]) -> io::Result<(bool, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .args(arguments)
        .output();
    let output = output.await?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.success(), printed + &complaints))
}

#[tokio::test]
async fn where_names_the_owner_and_what_it_emitted() -> Outcome {
    let tier = Tier::new(binaries())?;
    let (globals, proxy, agent) = fleet(&tier).await?;
    let second = tier.agent("b").forward_to(&proxy.grpc).start().await?;
    let line = vec!["shop.order:12|ms|#env:prod,city:ulm".to_owned()];
    let _sending = [
        keep_sending(&agent, line.clone()),
        keep_sending(&second, line),
    ];
    let addresses: Vec<_> = globals.iter().map(|global| global.http.clone()).collect();
    let addresses = addresses.join(",");
    let question = [
        "where",
        "shop.order",
        "--type",
        "timer",
        "--tag",
        "env:prod",
        "--tag",
        "city:ulm",
        "--proxy",
        &proxy.http,
        "--globals",
        &addresses,
        "--wait",
        "--json",
    ];
    let mut last = String::new();
    let found = wait_for("both agents' parts in one interval", async || {
        let (good, printed) = run(&question).await.ok()?;
        last = printed;
        let found: Value = serde_json::from_str(&last).ok()?;
        (good && found["globals"][0]["series"][0]["origins"] == 2).then_some(found)
    })
    .await
    .map_err(|error| format!("{error}: {last}"))?;

    let owner = found["ring"]["owners"][0]["owner"]
        .as_str()
        .unwrap_or_default();
    let owning = globals.iter().find(|global| global.grpc == owner);
    let owning = owning.ok_or("the owner is none of the globals")?;
    let answers = found["globals"].as_array().map_or(0, Vec::len);
    assert_eq!(answers, 1, "only the owner is asked: {found:#}");
    assert_eq!(found["globals"][0]["address"], owning.http);
    let series = &found["globals"][0]["series"][0];
    let names: Vec<_> = series["points"]
        .as_array()
        .ok_or("no points")?
        .iter()
        .filter_map(|point| point["name"].as_str())
        .collect();
    assert!(names.contains(&"shop.order.99percentile"), "{found:#}");
    for point in series["points"].as_array().ok_or("no points")? {
        assert_eq!(point["value"], 12.0, "{found:#}");
    }
    assert_eq!(
        series["sinks"][0]["given"].as_u64(),
        Some(names.len() as u64)
    );
    assert_eq!(series["unstamped"], 0);
    // What is told is what came out.
    owning
        .wait_for_point("the same percentile", |point| {
            point.name == "shop.order.99percentile" && point.has_tag("city:ulm")
        })
        .await?;

    let (good, printed) = run(&question[..question.len() - 1]).await?;
    assert!(good, "{printed}");
    for part in [
        owner,
        "from 2 agents",
        "shop.order.99percentile",
        "file: gets 3 points",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    // Another tag is another series, which nobody has seen.
    let (good, printed) = run(&[
        "where",
        "shop.order",
        "--type",
        "timer",
        "--tag",
        "env:dev",
        "--proxy",
        &proxy.http,
        "--globals",
        &addresses,
        "--wait",
    ])
    .await?;
    assert!(!good && printed.contains("has not come in"), "{printed}");
    let (good, printed) = run(&["where", "shop.order", "--proxy", &proxy.http]).await?;
    assert!(
        good && printed.contains("counter") && printed.contains(&globals[0].grpc[..9]),
        "{printed}"
    );
    Ok(())
}

#[tokio::test]
async fn top_names_the_tag_that_explodes() -> Outcome {
    let tier = Tier::new(binaries())?;
    let agent = tier.agent("a").start().await?;
    let mut lines: Vec<_> = (0..100)
        .map(|user| format!("cart.size:1|g|#env:prod,user:{user}"))
        .collect();
    lines.push("clicks:1|c\n".repeat(200));
    let _sending = keep_sending(&agent, lines);
    let mut last = String::new();
    wait_for("a whole interval", async || {
        let (good, printed) = run(&["top", &agent.http, "--names", "1"]).await.ok()?;
        last = printed;
        let line = |title: &str| {
            last.lines()
                .skip_while(|line| !line.starts_with(title))
                .nth(1)
        };
        let series = line("most series")?;
        let samples = line("most samples")?;
        (good
            && series.starts_with("cart.size ")
            && series.ends_with("user 100")
            && samples.starts_with("clicks "))
        .then_some(())
    })
    .await
    .map_err(|error| format!("{error}: {last}"))?;
    let answer = ask(&agent.http, "/api/top").await?;
    let name = &answer["counted"]["by_series"][0];
    assert_eq!(
        (&name["name"], &name["series"]),
        (&json!("cart.size"), &json!(100))
    );
    Ok(())
}

#[tokio::test]
async fn a_proxy_tells_shares_that_add_up_and_why_its_ring_changed() -> Outcome {
    let tier = Tier::new(binaries())?;
    let (globals, proxy, _agent) = fleet(&tier).await?;
    let status = ask(&proxy.http, "/api/status").await?;
    let destinations = status["destinations"].as_array().ok_or("no destinations")?;
    let shares: f64 = destinations
        .iter()
        .filter_map(|one| one["share"].as_f64())
        .sum();
    assert!((shares - 1.0).abs() < 1e-9, "{status:#}");
    assert_eq!(destinations.len(), globals.len());
    assert_eq!(status["changes"][0]["cause"], "discovery");
    assert_eq!(status["changes"][0]["added"]["count"], 3);
    let refused = get(&proxy.http, "/api/owner?type=timer").await?;
    assert_eq!(refused.status.as_u16(), 400, "{}", refused.text());
    // No script of anybody else runs on the page.
    let page = get(&proxy.http, "/").await?;
    assert!(page.text().contains("page/page.js"));
    Ok(())
}
