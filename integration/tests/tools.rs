//! The tools of the binary `tributary`, against real programs.

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tributary_integration::tier::{
    Aggregator, Binaries, PATIENCE, Tier, free_address, get, wait_for,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const TRIBUTARY: &str = env!("CARGO_BIN_EXE_tributary");

async fn tributary(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(TRIBUTARY)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An agent that listens on every kind of socket; its addresses in the order UDP, TCP, unixgram, unix.
async fn listening_everywhere(tier: &Tier) -> std::io::Result<(Aggregator, [String; 4])> {
    let path = |name: &str| tier.directory().join(name).display().to_string();
    let addresses = [
        free_address()?,
        format!("tcp://{}", free_address()?),
        format!("unixgram://{}", path("datagrams.sock")),
        format!("unix://{}", path("stream.sock")),
    ];
    let [udp, others @ ..] = &addresses;
    let listen: Vec<String> = [format!("udp://{udp}")]
        .into_iter()
        .chain(others.to_owned())
        .collect();
    let points = path("everywhere.jsonl");
    let agent = tier
        .agent("everywhere")
        .with("statsd_listen_addresses", json!(listen))
        .with(
            "metric_sinks",
            json!([{"kind": "debug"}, {"kind": "localfile", "name": "file", "config": {"path": points}}]),
        )
        .with("forward_address", json!([]))
        .start()
        .await?;
    let agent = Aggregator {
        points: points.into(),
        ..agent
    };
    Ok((agent, addresses))
}

#[tokio::test]
async fn emit_reaches_the_agent_over_every_kind_of_socket() -> Outcome {
    let tier = Tier::new(Binaries::of(TRIBUTARY))?;
    let (agent, addresses) = listening_everywhere(&tier).await?;
    for (number, address) in addresses.iter().enumerate() {
        // With one dash, as veneur-emit is called.
        let name = format!("emit.count{number}");
        let sent = tributary(&[
            "emit",
            "-hostport",
            address,
            "-name",
            &name,
            "-count",
            "7",
            "-tag",
            "a:1,b:2",
        ])
        .await?;
        assert!(sent.status.success(), "{address}: {}", stderr(&sent));
        let point = agent
            .wait_for_point(&name, |point| point.name == name)
            .await?;
        assert_eq!(
            (point.value, point.tags),
            (7.0, vec!["a:1".to_owned(), "b:2".to_owned()])
        );
    }
    let [udp, ..] = &addresses;
    let check = tributary(&[
        "emit",
        "--hostport",
        udp,
        "--sc_name",
        "emit.check",
        "--sc_status",
        "critical",
        "--sc_msg",
        "it\nburns",
    ])
    .await?;
    assert!(check.status.success(), "{}", stderr(&check));
    let event = tributary(&[
        "emit",
        "--hostport",
        udp,
        "--e_title",
        "emitted event",
        "--e_text",
        "with text",
    ])
    .await?;
    assert!(event.status.success(), "{}", stderr(&event));
    wait_for("the check and the event", async || {
        let log = agent.program.log();
        let seen = ["emit.check", "burns", "emitted event", "with text"];
        seen.iter().all(|text| log.contains(text)).then_some(())
    })
    .await
    .map_err(|error| format!("{error}:\n{}", agent.program.log()))?;
    Ok(())
}

#[tokio::test]
async fn emit_times_a_command_and_ends_as_it_does() -> Outcome {
    let tier = Tier::new(Binaries::of(TRIBUTARY))?;
    let (agent, [udp, ..]) = listening_everywhere(&tier).await?;
    let timed = |script: &'static str| {
        let udp = udp.clone();
        async move {
            let arguments = [
                "emit",
                "-hostport",
                &udp,
                "-name",
                "emit.timed",
                "-command",
                "sh",
                "-c",
                script,
            ];
            tributary(&arguments).await
        }
    };
    let output = timed("sleep 0.05; echo out; echo err >&2; exit 7").await?;
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(
        (stdout(&output), stderr(&output)),
        ("out\n".to_owned(), "err\n".to_owned())
    );
    let point = agent
        .wait_for_point("the time", |point| point.name == "emit.timed.max")
        .await?;
    assert!(point.value >= 50.0, "{} ms", point.value);
    assert_eq!(timed("kill -9 $$").await?.status.code(), Some(137));

    // The command's result is its own, whether the time can be told or not.
    let nobody = free_address()?;
    let deaf = [
        "emit",
        "--hostport",
        &nobody,
        "--name",
        "x",
        "--command",
        "true",
    ];
    let output = tributary(&deaf).await?;
    assert_eq!(output.status.code(), Some(0));
    let nowhere = format!("tcp://{nobody}");
    let untold = tributary(&[
        "emit",
        "--hostport",
        &nowhere,
        "--name",
        "x",
        "--command",
        "true",
    ])
    .await?;
    assert_eq!(untold.status.code(), Some(0));
    assert!(stderr(&untold).contains("refused"), "{}", stderr(&untold));
    let unsent = tributary(&[
        "emit",
        "--hostport",
        &nowhere,
        "--name",
        "x",
        "--count",
        "1",
    ])
    .await?;
    assert_eq!(unsent.status.code(), Some(1));
    let missing = tributary(&["emit", "--name", "x", "--command", "no-such-command"]).await?;
    assert_eq!(missing.status.code(), Some(127));
    let wrong = tributary(&[
        "emit",
        "--name",
        "x:1|c\n",
        "--command",
        "touch",
        "/nonexistent",
    ])
    .await?;
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));
    Ok(())
}

#[tokio::test]
async fn ring_simulate_answers_as_text_and_as_json() -> Outcome {
    let call = [
        "ring",
        "simulate",
        "--before",
        "a,b",
        "--after",
        "a,b,c",
        "--algorithm",
        "veneur",
    ];
    let text = tributary(&call).await?;
    assert!(text.status.success(), "{}", stderr(&text));
    assert!(stdout(&text).contains("ideal 33.33 %"), "{}", stdout(&text));
    let json = tributary(&[&call[..], &["--json", "--keys", "1000"]].concat()).await?;
    let answer: Value = serde_json::from_slice(&json.stdout)?;
    assert_eq!(answer["keys"], 1000);
    assert_eq!(answer["algorithm"], "veneur");
    assert_eq!(answer["moved"], answer["destinations"][2]["gained"]);
    assert_eq!(
        tributary(&["ring", "simulate", "--before", "a"])
            .await?
            .status
            .code(),
        Some(2)
    );
    let nobody = [
        "ring",
        "simulate",
        "--before",
        "a",
        "--after",
        "a",
        "--weights",
        "b=2",
    ];
    assert_eq!(tributary(&nobody).await?.status.code(), Some(1));
    Ok(())
}

/// A tap under way, ended when it has shown so many metrics.
fn tap(address: &str, filter: &str, limit: &str) -> std::io::Result<tokio::process::Child> {
    Command::new(TRIBUTARY)
        .args([
            "tap", address, filter, "--rate", "1000/s", "--json", "--limit", limit,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// What a tap showed, metrics only.
async fn shown(child: tokio::process::Child) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await??;
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = stdout(&output);
    let lines = lines.lines().map(serde_json::from_str);
    let lines: Vec<Value> = lines.collect::<Result<_, _>>()?;
    Ok(lines
        .into_iter()
        .filter(|line| line.get("tap").is_none())
        .collect())
}

#[tokio::test]
async fn tap_shows_the_same_metric_at_each_tier_on_its_way() -> Outcome {
    let tier = Tier::new(Binaries::of(TRIBUTARY))?;
    let global = tier.global("g").start().await?;
    let proxy = tier.proxy("p").destination(&global.grpc).start().await?;
    let agent = tier.agent("a").forward_to(&proxy.grpc).start().await?;
    let filter = "name~^tap[.]seen$ env:prod -env:stage type:timer";
    let taps = [&agent.http, &proxy.http, &global.http].map(|address| tap(address, filter, "1"));
    let [at_agent, at_proxy, at_global] = taps;
    let (mut at_agent, at_proxy, at_global) = (at_agent?, at_proxy?, at_global?);
    // Sent again and again, since the taps open when they do.
    let sending = async {
        loop {
            agent.send("tap.seen:12.5|ms|@0.5|#env:prod,b\ntap.seen:1|ms|#env:stage\ntap.other:1|ms|#env:prod").ok();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let agents = async {
        at_agent.wait().await?;
        shown(at_agent).await
    };
    let (agents, proxys, globals) = tokio::select! {
        () = sending => unreachable!("it has no end"),
        all = async { tokio::join!(agents, shown(at_proxy), shown(at_global)) } => all,
    };
    let (agents, proxys, globals) = (agents?, proxys?, globals?);
    let [sample] = agents.as_slice() else {
        return Err(format!("{agents:?}").into());
    };
    assert_eq!(
        (&sample["value"], &sample["rate"], &sample["from"]),
        (&json!(12.5), &json!(0.5), &json!("dogstatsd"))
    );
    let [routed] = proxys.as_slice() else {
        return Err(format!("{proxys:?}").into());
    };
    assert_eq!(routed["destination"], json!(global.grpc));
    assert_eq!(routed["tags"], json!(["b", "env:prod"]));
    let [imported] = globals.as_slice() else {
        return Err(format!("{globals:?}").into());
    };
    assert_eq!(imported["from"], "import");
    assert!(imported["samples"].as_f64() >= Some(2.0), "{imported}");
    assert_eq!(imported["origin"], routed["origin"], "the agent's");
    Ok(())
}

#[tokio::test]
async fn a_tap_is_refused_where_it_cannot_be_and_closed_when_its_client_goes() -> Outcome {
    let tier = Tier::new(Binaries::of(TRIBUTARY))?;
    let agent = tier.agent("a").start().await?;
    let bad = tributary(&["tap", &agent.http, "name~("]).await?;
    assert_eq!(bad.status.code(), Some(1));
    assert!(stderr(&bad).contains("unclosed group"), "{}", stderr(&bad));
    let status = get(&agent.http, "/api/tap?filter=name~(").await?.status;
    assert_eq!(status, 400);
    let negated = [
        "tap",
        &agent.http,
        "--limit",
        "0",
        "--",
        "-type:set",
        "-env:prod",
    ];
    assert_eq!(tributary(&negated).await?.status.code(), Some(0));
    let nobody = tributary(&["tap", &free_address()?]).await?;
    assert_eq!(nobody.status.code(), Some(1));
    // More than may be open at once, one after the other: each makes room when it is killed.
    for _ in 0..2 {
        let mut held = Vec::new();
        for _ in 0..8 {
            let open = wait_for("a tap to open", async || {
                let mut child = tap(&agent.http, "name:nothing", "1").ok()?;
                let mut lines = BufReader::new(child.stdout.take()?).lines();
                // It tells that it is open; one that is refused says nothing here.
                lines.next_line().await.ok()??;
                Some((child, lines))
            });
            held.push(open.await?);
        }
        let refused = tributary(&["tap", &agent.http, "--limit", "0"]).await?;
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            stderr(&refused).contains("8 taps are open already"),
            "{}",
            stderr(&refused)
        );
        for (mut child, _) in held {
            child.kill().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn ready_waits_for_all_and_names_who_is_not() -> Outcome {
    let tier = Tier::new(Binaries::of(TRIBUTARY))?;
    let global = tier.global("g").start().await?;
    let nobody = free_address()?;
    let known = tier.directory().join("globals.yaml");
    let proxy = tier
        .proxy("p")
        .with("forward_discovery", json!({"kind": "file", "path": known}));
    let waiting = proxy.start_unready().await?;

    let asked = tributary(&["ready", &global.http, &waiting.http, &nobody]).await?;
    assert_eq!(asked.status.code(), Some(1));
    assert!(stdout(&asked).contains(&global.http), "{}", stdout(&asked));
    assert!(!stdout(&asked).contains(&waiting.http));
    let told = stderr(&asked);
    assert!(told.contains("no destination is known"), "{told}");
    assert!(told.contains(&nobody), "{told}");

    let (_, port) = waiting.http.rsplit_once(':').ok_or("a port")?;
    let by_name = format!("localhost:{port}");
    let arguments = ["ready", "--within", "30s", &global.http, &waiting.http];
    let asking = tributary(&arguments);
    let appears = async {
        std::fs::write(&known, format!("- {}\n", global.grpc))?;
        std::io::Result::Ok(())
    };
    let (asked, appeared) = tokio::join!(asking, appears);
    appeared?;
    let asked = asked?;
    assert!(asked.status.success(), "{}", stderr(&asked));
    assert_eq!(stdout(&asked).lines().count(), 2);
    // Every address of a name is asked, and this one may stand for IPv6 too, where nobody listens.
    let asked = tributary(&["ready", &by_name]).await?;
    let all = stdout(&asked) + &stderr(&asked);
    assert!(
        all.contains(&format!("{by_name} (127.0.0.1:{port})")),
        "{all}"
    );
    let none = tributary(&["ready"]).await?;
    assert_eq!(none.status.code(), Some(2));
    Ok(())
}
