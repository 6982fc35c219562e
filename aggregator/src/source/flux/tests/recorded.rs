//! Every request that was recorded with the real Flux, against ours.

use serde_json::{Value, json};

use super::{KEY_A, KEY_B, KEY_C, NOW, Served};

type Point = (String, f64, i64);

struct Recorded {
    case: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    status: u16,
    answer: Value,
    points: Vec<Point>,
}

/// Where ours does otherwise on purpose: status, body and points, and the rule that says so.
struct Otherwise {
    status: u16,
    answer: Value,
    points: Vec<Point>,
    #[expect(dead_code, reason = "it is for the reader")]
    rule: &'static str,
}

fn recorded() -> Vec<Recorded> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/flux/flux_cases.json"
    );
    // Python writes what JSON has no word for.
    let text = std::fs::read_to_string(path)
        .unwrap()
        .replace("NaN", "null");
    let fixture: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(fixture["now"], NOW);
    for (name, key) in [("key_a", KEY_A), ("key_b", KEY_B), ("key_c", KEY_C)] {
        assert_eq!(fixture[name], key);
    }
    let cases = fixture["cases"].as_array().unwrap();
    cases.iter().map(recording).collect()
}

fn recording(case: &Value) -> Recorded {
    // Where the two recorded versions differ, the later one is ours only for the case `POST test`.
    let result = match (&case["result"]["v3.0.4"], case["case"].as_str().unwrap()) {
        (Value::Null, _) => &case["result"],
        (_, "POST test") => &case["result"]["HEAD"],
        (older, _) => older,
    };
    let path = case["path"].as_str().unwrap();
    let keys = [("<KEY_A>", KEY_A), ("<KEY_B>", KEY_B), ("<KEY_C>", KEY_C)];
    let path = keys
        .iter()
        .fold(path.to_owned(), |path, (mark, key)| path.replace(mark, key));
    let headers = case["headers"].as_object().unwrap().iter();
    let body = match &case["request"] {
        Value::Null => Vec::new(),
        Value::String(text) => text.clone().into_bytes(),
        json => json.to_string().into_bytes(),
    };
    let points = match &result["queued"] {
        Value::String(_) => Vec::new(),
        queued => queued.as_array().unwrap().iter().map(point).collect(),
    };
    Recorded {
        case: case["case"].as_str().unwrap().to_owned(),
        method: case["method"].as_str().unwrap().to_owned(),
        path,
        headers: headers
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect(),
        body,
        status: u16::try_from(result["status"].as_u64().unwrap()).unwrap(),
        answer: match result["body"].as_str().unwrap_or_default() {
            "" => Value::Null,
            body => serde_json::from_str(body).unwrap(),
        },
        points,
    }
}

fn point(queued: &Value) -> Point {
    (
        queued[0].as_str().unwrap().to_owned(),
        queued[1].as_f64().unwrap_or(f64::NAN),
        queued[2].as_i64().unwrap(),
    )
}

fn refused(code: u16, message: &str) -> (u16, Value, Vec<Point>) {
    let answer = json!({"code": code, "message": message});
    (code, answer, Vec::new())
}

fn at_now(points: &[(&str, f64)]) -> Vec<Point> {
    let at = |(name, value): &(&str, f64)| ((*name).to_owned(), *value, NOW);
    points.iter().map(at).collect()
}

/// The body of a 207 with what was dropped for not being a number, and what else there is in it.
fn partly(dropped: &[(&str, &str)], more: Value) -> Value {
    let data: Vec<Value> = dropped
        .iter()
        .map(|(metric, reason)| json!({"metric": metric, "status": 400, "reason": reason}))
        .collect();
    let mut body = json!({
        "code": 207, "data": data,
        "dropped non-numeric metrics": [], "dropped non-numeric metrics count": 0,
        "dropped invalid timestamp metrics": [], "dropped invalid timestamp metrics count": 0,
        "dropped no host metrics": [], "dropped no host metrics count": 0,
        "dropped invalid name metrics": [], "dropped invalid name metrics count": 0,
        "processed metrics count": 0, "submitted metrics count": 0, "defined skipped_metrics_count": 0,
    });
    let Value::Object(more) = more else {
        panic!("members")
    };
    body.as_object_mut().unwrap().extend(more);
    body
}

fn nginx(prefix: &str) -> (u16, Value, Vec<Point>) {
    let stem = format!("{prefix}nginx-server-1.nginx.81.127_0_0_1.nginx");
    // The key's namespace is not shown.
    let shown = stem.trim_start_matches("warehouse-1.");
    let (ok, status) = (format!("{shown}.ok"), format!("{shown}.status"));
    let body = partly(
        &[(&ok, "non-numeric value"), (&status, "non-numeric value")],
        json!({
            "message": "2 non-numeric value metrics were dropped",
            "dropped non-numeric metrics": [ok, status], "dropped non-numeric metrics count": 2,
            "processed metrics count": 3, "submitted metrics count": 3,
        }),
    );
    let names = ["accepts", "active", "val_ue-x"].map(|field| format!("{stem}.{field}"));
    let values = [17819.0, 4.0, 1.5];
    let points = names.into_iter().zip(values);
    let points = points.map(|(name, value)| (name, value, NOW));
    (207, body, points.collect())
}

/// Where ours is not to do as the recording.
fn otherwise(case: &str) -> Option<Otherwise> {
    const FAULT: &str = "what Flux does there is a fault";
    const WHOLE: &str = "a POST is stored whole or not at all";
    const NAMED: &str = "what telegraf sends and is not stored is named in a 207";
    const NAN: &str = "a name is validated in a GET, too, and NaN is no value";
    let same_answer = |case: &str| {
        let found = recorded()
            .into_iter()
            .find(|recorded| recorded.case == case);
        let Recorded { status, answer, .. } = found.unwrap();
        (status, answer, Vec::new())
    };
    let ((status, answer, points), rule) = match case {
        "GET no key" => (refused(400, "no key parameter passed"), FAULT),
        "GET bad char metric" => (
            refused(400, "invalid metric - a b;c - invalid characters in name"),
            NAN,
        ),
        "GET value nan" => (refused(400, "invalid value - nan"), NAN),
        "POST json list" => (refused(400, "invalid json data"), FAULT),
        "POST single fill old" => (
            (
                204,
                Value::Null,
                vec![("a.b".to_owned(), 1.0, 1_374_341_700)],
            ),
            "fill is honoured in a single metric, too",
        ),
        "POST multi one bad name" | "POST multi one bad value" => (same_answer(case), WHOLE),
        "TG basic" => (nginx(""), NAMED),
        "TG prefix header" => (nginx("telegraf."), NAMED),
        "TG prefix key" => (nginx("warehouse-1."), NAMED),
        "TG dotted host" => (
            (
                204,
                Value::Null,
                at_now(&[("web01_example_com.cpu-total.cpu.usage_idle", 99.1)]),
            ),
            "dots are replaced everywhere",
        ),
        "TG no host" => {
            let body = partly(
                &[("disk", "no host tag")],
                json!({
                    "message": "1 metrics without a host tag were dropped",
                    "dropped no host metrics": ["disk"], "dropped no host metrics count": 1,
                    "processed metrics count": 1, "submitted metrics count": 1,
                }),
            );
            ((207, body, at_now(&[("h1.disk.used", 6.0)])), NAMED)
        }
        "TG all strings" => {
            let body = partly(
                &[
                    ("h1.redis.a", "non-numeric value"),
                    ("h1.redis.b", "non-numeric value"),
                ],
                json!({
                    "message": "2 non-numeric value metrics were dropped",
                    "dropped non-numeric metrics": ["h1.redis.a", "h1.redis.b"],
                    "dropped non-numeric metrics count": 2,
                }),
            );
            ((207, body, Vec::new()), NAMED)
        }
        "TG space in tag" => (
            (
                204,
                Value::Null,
                at_now(&[("h1.Physical_Disk.win_cpu.v", 5.0)]),
            ),
            "a name of telegraf's does not hold up its batch",
        ),
        "PM key None" => ((400, Value::Null, Vec::new()), FAULT),
        "TG old ts" => {
            let body = partly(
                &[("h1.cpu.v", "timestamp is too old, older than 3600 seconds")],
                json!({
                    "message": "1 metrics with timestamps that are not taken were dropped",
                    "dropped invalid timestamp metrics": ["h1.cpu.v"],
                    "dropped invalid timestamp metrics count": 1,
                    "submitted metrics count": 1,
                }),
            );
            ((207, body, Vec::new()), NAMED)
        }
        _ => return None,
    };
    Some(Otherwise {
        status,
        answer,
        points,
        rule,
    })
}

#[tokio::test]
async fn every_recorded_request_is_answered_and_stored_as_it_should_be() {
    let cases = recorded();
    assert_eq!(cases.len(), 51);
    let mut checked = 0;
    for recorded in &cases {
        let case = recorded.case.as_str();
        let (status, answer, points) = match otherwise(case) {
            Some(Otherwise {
                status,
                answer,
                points,
                ..
            }) => (status, answer, points),
            None => (
                recorded.status,
                recorded.answer.clone(),
                recorded.points.clone(),
            ),
        };
        for prefix in ["", "/flux"] {
            let flux = Served::with(json!({
                "quotas": {"quota-ns": 2}, "populate_hosts": ["127.0.0.1:1"],
            }))
            .await;
            let headers = recorded.headers.iter();
            let headers: Vec<_> = headers.map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let target = format!("{prefix}{}", recorded.path);
            let given = flux
                .ask(&recorded.method, &target, &headers, &recorded.body)
                .await;
            assert_eq!(given, (status, answer.clone()), "{case} at {target}");
            let mut taken = flux.points();
            if case == "POST 451" {
                assert_eq!(taken.len(), 451, "the recording has only their number");
                continue;
            }
            if case == "POST multi missing ts" {
                assert_eq!(taken[0].2, NOW, "the time is ours where none is given");
                taken[0].2 = points[0].2;
            }
            assert_eq!(taken, points, "{case} at {target}");
        }
        checked += 1;
    }
    assert_eq!(checked, 51);
}

#[tokio::test]
async fn telegrafs_batch_is_flattened_as_expected() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/telegraf/");
    let read = |name: &str| std::fs::read(format!("{fixtures}{name}")).unwrap();
    let expected: Value = serde_json::from_slice(&read("expected.json")).unwrap();
    let time = expected["timestamp"].as_i64().unwrap();
    let headers = [("key", KEY_A), ("telegraf", "true")];
    let packed = [headers[0], headers[1], ("Content-Encoding", "gzip")];
    for (body, headers) in [
        (read("batch.json"), &headers[..]),
        (read("batch.json.gz"), &packed[..]),
    ] {
        let flux = Served::with(json!({})).await;
        flux.now.store(time, std::sync::atomic::Ordering::Relaxed);
        let (status, answer) = flux.ask("POST", "/metric_data_post", headers, &body).await;
        assert_eq!(status, 207, "{answer}");
        assert_eq!(answer["dropped non-numeric metrics"], expected["dropped"]);
        let taken = flux.points();
        let flattened = expected["flattened"].as_object().unwrap();
        assert_eq!(taken.len(), flattened.len());
        for (name, value, at) in taken {
            assert_eq!(
                (Some(value), at),
                (flattened[&name].as_f64(), time),
                "{name}"
            );
        }
    }
}
