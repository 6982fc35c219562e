//! Every request that a real blueflood-carbon-forwarder 0.4.2 was recorded making: ours sends the same, without its faults.
//!
//! What differs on purpose: times are whole milliseconds, there is a `Content-Type`, connections are kept, and what was not taken goes out again by itself.

use std::path::Path;

use serde_json::{Value, json};
use tributary_aggregator::point::Batch;

use super::mock::{Blueflood, Fault, Keystone, Server, start};
use super::{batch, point_at, sink, write};

/// A recorded request, and what it was answered.
struct Request {
    path: String,
    headers: Vec<(String, String)>,
    body: Value,
    status: u16,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

fn recorded(name: &str) -> Vec<Request> {
    let directory =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/blueflood-forwarder");
    let text = std::fs::read_to_string(directory.join(name)).unwrap();
    let requests: Vec<_> = text.split("##### ").skip(1).map(request).collect();
    assert!(!requests.is_empty(), "{name}");
    requests
}

fn request(text: &str) -> Request {
    let (mark, rest) = text.split_once('\n').unwrap();
    let (head, body) = rest.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let path = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    Request {
        path: path.to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: serde_json::from_str(body).unwrap(),
        status: mark.rsplit(' ').next().unwrap().parse().unwrap(),
    }
}

/// A recorded body as it should have been: whole milliseconds.
fn whole(body: &Value) -> Value {
    let mut body = body.clone();
    for point in body.as_array_mut().unwrap() {
        point["collectionTime"] = json!(time_of(point));
    }
    body
}

fn time_of(point: &Value) -> i64 {
    point["collectionTime"].as_f64().unwrap().floor() as i64
}

/// The points that must have come in for that request, before the prefix.
fn came_in(request: &Request, prefix: &str) -> Batch {
    let points = request.body.as_array().unwrap();
    batch(
        points
            .iter()
            .map(|point| {
                let name = point["metricName"]
                    .as_str()
                    .unwrap()
                    .strip_prefix(prefix)
                    .unwrap();
                point_at(name, point["metricValue"].as_f64().unwrap(), time_of(point))
            })
            .collect(),
    )
}

/// A Blueflood that finds the recorded times right.
async fn of_then(request: &Request) -> Server<Blueflood> {
    let blueflood = start::<Blueflood>().await;
    let latest = request.body.as_array().unwrap().iter().map(time_of).max();
    blueflood.state().now = latest;
    blueflood
}

fn assert_alike(ours: &super::mock::Seen, theirs: &Request) {
    assert_eq!(ours.path, theirs.path);
    assert_eq!(ours.body, whole(&theirs.body));
    for name in ["x-tenant-id", "x-auth-token"] {
        assert_eq!(ours.header(name), theirs.header(name), "{name}");
    }
}

#[tokio::test]
async fn requests_without_a_login_are_the_same() {
    let cases = [
        ("basic", "tenant", "pre.fix.", 3600),
        ("cfg", "cfgtenant", "cfg.", 86_400),
        ("evil", "tenant", "", 86_400),
        ("line", "tenant", "", 86_400),
        ("limit", "tenant", "m.", 86_400),
    ];
    for (name, tenant, prefix, ttl) in cases {
        for theirs in recorded(&format!("fwd_{name}.bf.raw")) {
            let blueflood = of_then(&theirs).await;
            // Times up to a half year apart stand in one request.
            let oldest = theirs.body.as_array().unwrap().iter().map(time_of).min();
            let far = oldest.unwrap() < blueflood.state().now.unwrap() - 259_200_000;
            if far {
                blueflood.state().faults.push_back(Fault::status(200));
            }
            let prefix_key = prefix.trim_end_matches('.');
            let settings =
                json!({"tenant": tenant, "prefix": prefix_key, "ttl": format!("{ttl}s")});
            let mut sink = sink(&blueflood, settings);
            let given = came_in(&theirs, prefix);
            let (failures, end) = write(&mut sink, &given).await;
            assert_eq!((failures, end), (vec![], Ok(given.points.len())), "{name}");
            assert_alike(&blueflood.state().seen[0], &theirs);
        }
    }
}

#[tokio::test]
async fn logins_and_requests_with_tokens_are_the_same() {
    let theirs = recorded("fwd_auth.bf.raw");
    let login = &recorded("fwd_auth.ks.raw")[0];
    let (blueflood, keystone) = (of_then(&theirs[1]).await, start::<Keystone>().await);
    let id = theirs[0].header("x-auth-token");
    let answer = json!({"access": {"token": {
        "id": id, "expires": "2012-04-13T13:15:00.000-05:00", "tenant": {"id": "836986", "name": "836986"},
    }}});
    keystone
        .state()
        .faults
        .push_back(Fault::Answer(200, "", answer.to_string()));
    let directory = tempfile::tempdir().unwrap();
    let mut sink = sink(&blueflood, with_key(&keystone, directory.path()));
    for theirs in &theirs {
        let end = write(&mut sink, &came_in(theirs, "")).await;
        assert_eq!(end, (vec![], Ok(1)));
        assert_alike(blueflood.state().seen.last().unwrap(), theirs);
    }
    let state = keystone.state();
    assert_eq!(state.seen.len(), 1);
    assert_eq!(
        (&state.seen[0].path, &state.seen[0].body),
        (&login.path, &login.body)
    );
    assert_eq!(
        state.seen[0].header("content-type"),
        login.header("content-type")
    );
}

fn with_key(keystone: &Server<Keystone>, directory: &Path) -> Value {
    let key = directory.join("key");
    std::fs::write(&key, "key2").unwrap();
    keystone.state().secret = "key2".to_owned();
    keystone.state().lifetime = 86_400;
    let url = format!("{}/v2.0/tokens", keystone.url());
    json!({"tenant": "tenant", "keystone": {"url": url, "user": "user1", "key_file": key}})
}

#[tokio::test]
async fn an_expired_token_costs_no_flush() {
    let theirs = recorded("fwd_expired.bf.raw");
    assert_eq!(
        theirs.iter().map(|seen| seen.status).collect::<Vec<_>>(),
        [200, 401, 200]
    );
    let (blueflood, keystone) = (of_then(&theirs[2]).await, start::<Keystone>().await);
    let directory = tempfile::tempdir().unwrap();
    let mut sink = sink(&blueflood, with_key(&keystone, directory.path()));
    assert_eq!(
        write(&mut sink, &came_in(&theirs[0], "")).await,
        (vec![], Ok(1))
    );
    blueflood.state().faults.push_back(Fault::status(401));
    assert_eq!(
        write(&mut sink, &came_in(&theirs[1], "")).await,
        (vec![], Ok(1))
    );
    let state = blueflood.state();
    assert_alike(&state.seen[0], &theirs[0]);
    assert_alike(&state.seen[1], &theirs[1]);
    // Theirs went with the next flush; ours has gone by itself, with the new token.
    assert_eq!(state.seen[2].body, whole(&theirs[1].body));
    assert_eq!(
        state.seen[2].header("x-auth-token"),
        theirs[2].header("x-auth-token")
    );
    let logins = recorded("fwd_expired.ks.raw");
    let ours: Vec<_> = keystone
        .state()
        .seen
        .iter()
        .map(|seen| seen.body.clone())
        .collect();
    assert_eq!(
        ours,
        logins
            .iter()
            .map(|login| login.body.clone())
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_failed_login_is_not_the_last() {
    let theirs = recorded("fwd_authfail.ks.raw");
    assert_eq!((theirs.len(), theirs[0].status), (1, 503));
    let (blueflood, keystone) = (start::<Blueflood>().await, start::<Keystone>().await);
    let directory = tempfile::tempdir().unwrap();
    let mut sink = sink(&blueflood, with_key(&keystone, directory.path()));
    keystone.state().faults.push_back(Fault::status(503));
    let (failures, end) = write(&mut sink, &batch(super::points(2))).await;
    assert_eq!((failures.len(), end), (1, Ok(2)));
    assert_eq!(keystone.state().seen[0].body, theirs[0].body);
    assert_eq!(keystone.state().seen.len(), 2);
    assert_eq!(blueflood.state().counts(), (2, 0));
}

#[tokio::test]
async fn what_was_refused_goes_out_again_without_new_points() {
    let theirs = recorded("fwd_stuck.bf.raw");
    let blueflood = of_then(&theirs[1]).await;
    blueflood
        .state()
        .faults
        .push_back(Fault::status(theirs[0].status));
    let mut sink = sink(&blueflood, json!({"tenant": "tenant"}));
    let (failures, end) = write(&mut sink, &came_in(&theirs[0], "")).await;
    assert_eq!((failures.len(), end), (1, Ok(1)));
    let state = blueflood.state();
    assert_alike(&state.seen[0], &theirs[0]);
    assert_eq!(state.seen[1].body, state.seen[0].body);
}

#[tokio::test]
async fn a_limit_and_a_server_that_is_away_lose_nothing() {
    let theirs = recorded("fwd_limit.bf.raw");
    let points = (0..10).map(|n| {
        point_at(
            &format!("m.{n:02}"),
            f64::from(n),
            1_700_000_000_000 + 1000 * i64::from(n),
        )
    });
    let given = batch(points.collect());
    let blueflood = of_then(&theirs[0]).await;
    let statuses = theirs.iter().map(|theirs| Fault::status(theirs.status));
    blueflood.state().faults.extend(statuses);
    let mut sink = sink(&blueflood, json!({"tenant": "tenant", "body_limit": 320}));
    let (failures, end) = write(&mut sink, &given).await;
    assert_eq!((failures.len(), end), (2, Ok(10)));
    let state = blueflood.state();
    // Theirs offered three of ten, twice, and no others for ever.
    assert_alike(&state.seen[0], &theirs[0]);
    assert_alike(&state.seen[1], &theirs[1]);
    assert_eq!(state.counts(), (10, 0));
}

#[tokio::test]
async fn points_that_a_207_names_are_not_taken_for_stored() {
    let theirs = recorded("fwd_s207.bf.raw");
    assert_eq!(theirs[0].status, 207);
    let blueflood = of_then(&theirs[1]).await;
    blueflood.state().unstorable.insert("bad.m".to_owned(), 1);
    let mut sink = sink(&blueflood, json!({"tenant": "tenant"}));
    let (failures, end) = write(&mut sink, &came_in(&theirs[0], "")).await;
    assert_eq!((failures.len(), end), (1, Ok(2)));
    assert_eq!(
        write(&mut sink, &came_in(&theirs[1], "")).await,
        (vec![], Ok(1))
    );
    let state = blueflood.state();
    assert_eq!(state.statuses(), [207, 200, 200]);
    assert_alike(&state.seen[0], &theirs[0]);
    assert_alike(&state.seen[2], &theirs[1]);
    assert_eq!(state.counts(), (3, 0));
}
