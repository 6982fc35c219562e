//! The sink `influxdb` and a real InfluxDB 1, which `integration/test` brings: what is stored is what was sent, and nothing is lost on the way.

use serde_json::{Value, json};
use tributary_aggregator::key::Tags;
use tributary_aggregator::point::{Batch, Point, PointKind, Timestamp};
use tributary_aggregator::sink::{Amount, Sink, SinkError, build};
use tributary_integration::influxdb::Influx;
use tributary_integration::tier::{Binaries, Tier, get, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const TIME: i64 = 1_700_000_000_000_000_042;

fn sink(influx: &Influx, gzip: bool) -> Result<Box<dyn Sink>, Box<dyn std::error::Error>> {
    let config = json!({
        "url": influx.url(), "database": "test", "backoff": "50ms", "max_backoff": "200ms", "retries": 1, "gzip": gzip,
    });
    Ok(build("influxdb", "influx", &config)?)
}

fn point(base: &str, suffix: &str, tags: &[&str], kind: PointKind, value: f64) -> Point {
    Point {
        base: base.into(),
        suffix: (!suffix.is_empty()).then(|| suffix.into()),
        tags: Tags::sorted(tags.to_vec()),
        kind,
        value,
        timestamp: Timestamp::from_nanos(TIME),
        check: None,
    }
}

fn gauge(base: &str, value: f64) -> Point {
    point(base, "", &[], PointKind::Gauge, value)
}

fn batch(points: Vec<Point>) -> Batch {
    Batch {
        points: points.into(),
        ..Batch::default()
    }
}

fn written(points: usize) -> Result<Amount, SinkError> {
    Ok(Amount { points, events: 0 })
}

/// The columns and first values of one measurement, by name.
async fn first_row(
    influx: &Influx,
    measurement: &str,
) -> Result<Value, Box<dyn std::error::Error>> {
    let question = format!("SELECT * FROM \"{measurement}\"");
    let results = influx.query("test", &question).await?;
    let series = &results[0]["series"][0];
    let columns = series["columns"].as_array().ok_or("no columns")?;
    let values = series["values"][0].as_array().ok_or("no values")?;
    let row = columns
        .iter()
        .zip(values)
        .filter_map(|(column, value)| Some((column.as_str()?.to_owned(), value.clone())));
    Ok(Value::Object(row.collect()))
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs InfluxDB: run integration/test"
)]
async fn points_are_read_back_as_they_were() -> Outcome {
    let influx = Influx::start().await?;
    influx.create("test").await?;
    let odd = [
        "app:a b",
        "space:x,y",
        "org:q=z",
        "path:C:\\a\\,b",
        "quoted:\"x\"",
        "bare",
        "time:noon",
        "umlaut:ä",
    ];
    let points = || {
        vec![
            point(
                "instance",
                ".cpu",
                &odd,
                PointKind::Gauge,
                1.212_661_987_393_707,
            ),
            point(
                "instance",
                ".memory",
                &odd,
                PointKind::Integer,
                54_050_816.0,
            ),
            point("instance", ".disk", &odd, PointKind::Integer, 0.0),
            gauge("huge", 1e300),
            gauge("tiny", -2.5e-7),
            gauge("zero", -0.0),
            gauge("odd, \"name\"=x\\y", 3.0),
        ]
    };
    for gzip in [true, false] {
        let mut sink = sink(&influx, gzip)?;
        assert_eq!(sink.write(&batch(points())).await, written(7));
        assert_eq!(
            first_row(&influx, "instance").await?,
            json!({
                "time": TIME, "app": "a b", "space": "x,y", "org": "q=z", "path": "C:\\a\\,b", "quoted": "\"x\"", "bare": "true",
                "time_": "noon", "umlaut": "ä", "cpu": 1.212_661_987_393_707, "memory": 54_050_816, "disk": 0,
            })
        );
        for (name, value) in [("huge", 1e300), ("tiny", -2.5e-7), ("zero", 0.0)] {
            assert_eq!(
                first_row(&influx, name).await?["value"].as_f64(),
                Some(value),
                "{name}"
            );
        }
        assert_eq!(
            first_row(&influx, "odd, \\\"name\\\"=x\\\\y").await?["value"],
            json!(3)
        );
        influx.query("test", "DROP SERIES FROM /.*/").await?;
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs InfluxDB: run integration/test"
)]
async fn what_influxdb_refuses_is_lost_alone_and_counted() -> Outcome {
    let influx = Influx::start().await?;
    influx.create("test").await?;
    let mut sink = sink(&influx, true)?;
    let field = |suffix: &str, kind| point("log", suffix, &[], kind, 1.0);
    assert_eq!(
        sink.write(&batch(vec![field(".count", PointKind::Integer)]))
            .await,
        written(1)
    );
    // A float where an integer is: InfluxDB leaves out the whole line, and says how many.
    let clash = vec![gauge("good", 1.0), field(".count", PointKind::Gauge)];
    let Err(SinkError::Fatal { reason, lost }) = sink.write(&batch(clash)).await else {
        return Err("the clash was taken".into());
    };
    assert_eq!(lost.points, 1, "{reason}");
    assert!(reason.contains("field type conflict"), "{reason}");
    // A time that it does not know: it shows the line, and its number is 0.
    let late = |base: &str, suffix: &str| Point {
        timestamp: Timestamp::from_nanos(i64::MAX),
        ..point(base, suffix, &[], PointKind::Gauge, 1.0)
    };
    let mixed = vec![
        gauge("good2", 1.0),
        late("bad", ".a"),
        late("bad", ".b"),
        gauge("good3", 1.0),
    ];
    let Err(SinkError::Fatal { reason, lost }) = sink.write(&batch(mixed)).await else {
        return Err("the time was taken".into());
    };
    assert_eq!(lost.points, 2, "both fields of the line: {reason}");
    // Nothing but such lines.
    let Err(SinkError::Fatal { lost, .. }) =
        sink.write(&batch(vec![late("x", ""), late("y", "")])).await
    else {
        return Err("the times were taken".into());
    };
    assert_eq!(lost.points, 2);
    for name in ["good", "good2", "good3"] {
        assert_eq!(first_row(&influx, name).await?["value"], json!(1), "{name}");
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs InfluxDB: run integration/test"
)]
async fn an_agent_loses_nothing_while_its_database_or_influxdb_is_away() -> Outcome {
    let mut influx = Influx::start().await?;
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let sinks = json!([{"kind": "influxdb", "name": "influx", "config": {
        "url": influx.url(), "database": "test", "flush_interval": "100ms", "backoff": "50ms", "max_backoff": "300ms",
    }}]);
    let mut agent = tier
        .agent("a")
        .with("metric_sinks", sinks)
        .with("aggregates", json!(["min", "max", "count"]))
        .start()
        .await?;
    let requests = async |outcome: &str| {
        let metrics = get(&agent.http, "/metrics").await.ok()?.text();
        let outcome = format!("outcome=\"{outcome}\"");
        let of = |line: &&str| {
            line.starts_with("veneur_sink_influxdb_requests_total") && line.contains(&outcome)
        };
        metrics.lines().find(of).map(|_| ())
    };

    // There is no such database yet.
    agent.send("orders:3|c|#env:prod\nlatency:12.5|ms\nlatency:2.5|ms")?;
    wait_for("a refused write", async || requests("denied").await).await?;
    influx.create("test").await?;
    let sum = "SELECT sum(value) FROM orders WHERE env = 'prod' AND host = 'a'";
    wait_for("the first points", async || {
        (influx.number("test", sum).await.ok()? == Some(3.0)).then_some(())
    })
    .await?;
    // What was measured together is one line: the aggregates and percentiles of a timer are the fields of one point.
    let row = wait_for("the timer", async || {
        first_row(&influx, "latency").await.ok()
    })
    .await?;
    for (field, value) in [("min", 2.5), ("max", 12.5), ("count", 2.0)] {
        assert_eq!(row[field].as_f64(), Some(value), "{row}");
    }
    assert!(
        row["99percentile"].is_number() && row["host"] == "a",
        "{row}"
    );
    assert_eq!(
        influx
            .number("test", "SELECT count(max) FROM latency")
            .await?,
        Some(1.0)
    );

    influx.kill();
    agent.send("orders:4|c|#env:prod")?;
    wait_for("a write without InfluxDB", async || {
        requests("unreachable").await
    })
    .await?;
    agent.send("orders:5|c|#env:prod")?;
    influx.start_again().await?;
    wait_for("all points", async || {
        (influx.number("test", sum).await.ok()? == Some(12.0)).then_some(())
    })
    .await?;

    // What was gathered is written at the end. It has a name of its own: the last flush may have the second of the one before.
    agent.send("last:8|c")?;
    wait_for("the last sample to be read", async || {
        let metrics = get(&agent.http, "/metrics").await.ok()?.text();
        let read = |line: &str| {
            line.starts_with("veneur_listen_received_per_protocol_total") && line.ends_with(" 6")
        };
        metrics.lines().any(read).then_some(())
    })
    .await?;
    assert!(agent.stop().await?.success());
    let last = influx.number("test", "SELECT sum(value) FROM last").await?;
    assert_eq!(last, Some(8.0));
    let log = agent.program.log();
    assert!(
        log.contains("InfluxDB answers") && log.contains("does not let us write"),
        "{log}"
    );
    Ok(())
}

/// Lines as the preset `cf-metrics-refinery` writes them.
fn cloud_foundry_lines() -> Result<String, Box<dyn std::error::Error>> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../aggregator/tests/fixtures/cf/events.json"
    );
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let lines = cases.iter().filter_map(|case| case["influx_line"].as_str());
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    // There is a panel for what failed.
    let failed = lines
        .iter()
        .find(|line| line.starts_with("http_request"))
        .cloned()
        .ok_or("no request")?;
    let (before, after) = failed.split_once("status_code=").ok_or("no status")?;
    let rest = after
        .find([',', ' '])
        .and_then(|end| after.get(end..))
        .unwrap_or_default();
    lines.push(format!("{before}status_code=503{rest}"));
    Ok(lines.join("\n"))
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs InfluxDB: run integration/test"
)]
async fn the_dashboard_of_cloud_foundry_shows_what_the_preset_writes() -> Outcome {
    let influx = Influx::start().await?;
    influx.create("test").await?;
    influx.write("test", &cloud_foundry_lines()?).await?;
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../dashboards/cloudfoundry.json"
    );
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    // As Grafana fills them in when all is chosen.
    let filled = |text: &str| {
        let text = text.replace(
            "$timeFilter",
            &format!("time >= {TIME} - 1h AND time <= {TIME} + 1h"),
        );
        let text = text
            .replace("$__interval_ms", "60000")
            .replace("$__interval", "1m");
        ["$org", "$space", "$app"]
            .iter()
            .fold(text, |text, name| text.replace(name, ".*"))
    };
    let panels = dashboard["panels"].as_array().ok_or("no panels")?;
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let variables = dashboard["templating"]["list"]
        .as_array()
        .ok_or("no variables")?;
    let of_variables = variables
        .iter()
        .filter(|variable| variable["type"] == "query");
    let questions: Vec<String> = (targets.chain(of_variables))
        .filter_map(|holder| Some(filled(holder["query"].as_str()?)))
        .collect();
    assert!(questions.len() > 18, "{}", questions.len());
    for question in questions {
        let results = influx.query("test", &question).await?;
        let rows = results[0]["series"][0]["values"]
            .as_array()
            .ok_or_else(|| format!("nothing for {question}"))?;
        let shows = |row: &Value| {
            row.as_array()
                .is_some_and(|row| row.iter().skip(1).any(|value| !value.is_null()))
        };
        assert!(rows.iter().any(shows), "{question}: {results}");
    }
    Ok(())
}
