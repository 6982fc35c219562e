//! The watch against a server that answers as told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use tokio::sync::watch::Receiver;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::settings::Token;
use super::*;
use crate::config::Secret;
use crate::telemetry::Recorder;
use crate::tls::{ClientTls, Pem};

const PATIENCE: Duration = Duration::from_secs(20);

/// One answer of the server; after the last it holds its tongue.
#[derive(Clone)]
enum Says {
    List(u64, &'static [(&'static str, &'static str, u16)]),
    Raw(u16, Option<&'static str>, &'static str),
    /// Known leader, milliseconds since its last contact, instances.
    Behind(
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str, u16)],
    ),
    Hangs,
}

use Says::{Behind, Hangs, List, Raw};

#[derive(Default)]
struct Script {
    answers: VecDeque<Says>,
    asked: Vec<Asked>,
}

#[derive(Debug, Clone)]
struct Asked {
    path: String,
    query: String,
    token: Option<String>,
    at: std::time::Instant,
}

struct Consul {
    script: Arc<Mutex<Script>>,
    list: Receiver<Endpoints>,
    _stop: DropGuard,
    _server: tokio_util::task::AbortOnDropHandle<()>,
}

fn body(entries: &[(&str, &str, u16)]) -> String {
    let entries: Vec<serde_json::Value> = entries
        .iter()
        .map(|(node, address, port)| {
            serde_json::json!({"Node": {"Node": "n", "Address": node},
                "Service": {"ID": "i", "Service": "s", "Address": address, "Port": port, "Tags": [],
                    "Meta": null, "Weights": {"Passing": 1, "Warning": 1}},
                "Checks": [{"Status": "passing"}]})
        })
        .collect();
    serde_json::Value::from(entries).to_string()
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let next = {
        let mut script = script.lock();
        script.asked.push(Asked {
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            token: request
                .headers()
                .get("x-consul-token")
                .and_then(|token| token.to_str().ok())
                .map(str::to_owned),
            at: std::time::Instant::now(),
        });
        script.answers.pop_front()
    };
    match next {
        Some(List(index, entries)) => {
            let index = [("x-consul-index", index.to_string())];
            (index, body(entries)).into_response()
        }
        Some(Behind(leader, contact, entries)) => {
            let headers = [
                ("x-consul-index", "5"),
                ("x-consul-knownleader", leader),
                ("x-consul-lastcontact", contact),
            ];
            (headers, body(entries)).into_response()
        }
        Some(Raw(status, index, body)) => {
            let status = StatusCode::from_u16(status).expect("a status");
            let index = index.map(|index| ("x-consul-index", index));
            (status, axum::response::AppendHeaders(index), body).into_response()
        }
        Some(Hangs) | None => std::future::pending().await,
    }
}

fn settings(address: &str) -> Settings {
    let options = Options {
        address: address.to_owned(),
        refresh_interval: Duration::from_secs(30),
        ..Options::default()
    };
    let mut settings = Settings::with_variables(&options, |_| None).expect("an address");
    settings.least_gap = Duration::from_millis(10);
    settings
}

impl Consul {
    async fn that(answers: impl IntoIterator<Item = Says>) -> Self {
        Self::with(answers, "global", |_| {}).await
    }

    async fn with(
        answers: impl IntoIterator<Item = Says>,
        service: &'static str,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let script = Arc::new(Mutex::new(Script {
            answers: answers.into_iter().collect(),
            asked: Vec::new(),
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&script));
        let server =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        let mut settings = settings(&address);
        change(&mut settings);
        let stop = CancellationToken::new();
        let list = watch(settings, service, stop.clone()).expect("no TLS");
        let _server = tokio_util::task::AbortOnDropHandle::new(server);
        Self {
            script,
            list,
            _stop: stop.drop_guard(),
            _server,
        }
    }

    fn now(&self) -> Vec<String> {
        self.list
            .borrow()
            .iter()
            .map(|endpoint| endpoint.address.clone())
            .collect()
    }

    /// Waits until so many questions were asked; the answers before are taken over then.
    async fn asked(&self, times: usize) -> Vec<Asked> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let asked = self.script.lock().asked.clone();
            if asked.len() >= times {
                return asked;
            }
            assert!(tokio::time::Instant::now() < deadline, "only {asked:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn index_in(asked: &Asked) -> Option<&str> {
    asked
        .query
        .split('&')
        .find_map(|part| part.strip_prefix("index="))
}

const A: &[(&str, &str, u16)] = &[("10.0.0.1", "", 8128)];
const AB: &[(&str, &str, u16)] = &[("10.0.0.2", "", 8128), ("10.0.0.1", "", 8128)];
const NONE: &[(&str, &str, u16)] = &[];

#[tokio::test]
async fn the_first_question_is_answered_at_once_and_the_next_waits_for_a_change() {
    let consul = Consul::that([List(5, A), List(9, AB)]).await;
    let asked = consul.asked(3).await;
    let [first, second, third] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    assert_eq!(
        (first.path.as_str(), first.query.as_str()),
        ("/v1/health/service/global", "passing=1")
    );
    assert_eq!(first.token, None);
    assert_eq!(index_in(second), Some("5"));
    let wait = second
        .query
        .split("wait=")
        .nth(1)
        .and_then(|wait| wait.strip_suffix("ms")?.parse::<u64>().ok());
    assert!(
        (26_000..=28_200).contains(&wait.unwrap_or(0)),
        "{}",
        second.query
    );
    assert_eq!(index_in(third), Some("9"));
    assert_eq!(consul.now(), ["10.0.0.1:8128", "10.0.0.2:8128"], "in order");
}

#[tokio::test]
async fn a_change_is_seen_and_an_equal_answer_is_no_change() {
    let mut consul = Consul::that([List(5, AB), List(6, AB), List(7, AB)]).await;
    consul.asked(4).await;
    assert!(consul.list.has_changed().expect("watched"));
    consul.list.borrow_and_update();
    assert!(!consul.list.has_changed().expect("watched"));
    let mut consul = Consul::that([List(5, AB), List(6, A)]).await;
    let seen = tokio::time::timeout(PATIENCE, consul.list.wait_for(|list| list.len() == 1)).await;
    seen.expect("in time").expect("watched");
}

#[tokio::test]
async fn an_index_that_goes_backwards_or_is_none_is_not_waited_from() {
    let consul = Consul::with(
        [
            List(50, A),
            List(7, AB),
            List(8, A),
            Raw(200, Some("0"), "[]"),
        ],
        "global",
        |settings| {
            settings.refresh_interval = Duration::from_millis(50);
        },
    )
    .await;
    let asked = consul.asked(5).await;
    let indices: Vec<Option<&str>> = asked.iter().take(5).map(index_in).collect();
    assert_eq!(indices, [None, Some("50"), None, Some("8"), None]);
    assert_eq!(consul.now(), ["10.0.0.1:8128"]);
}

#[tokio::test]
async fn without_an_index_it_asks_by_the_clock() {
    let body = r#"[{"Node":{"Address":"n"},"Service":{"Port":1}}]"#;
    let answers = [
        Raw(200, None, body),
        Raw(200, Some("garbage"), body),
        Raw(200, Some("0"), body),
    ];
    let consul = Consul::with(answers, "global", |settings| {
        settings.refresh_interval = Duration::from_millis(150)
    })
    .await;
    let asked = consul.asked(4).await;
    assert!(
        asked.iter().all(|asked| index_in(asked).is_none()),
        "{asked:?}"
    );
    for pair in asked.windows(2) {
        let [before, after] = pair else { panic!("two") };
        assert!(
            after.at - before.at >= Duration::from_millis(140),
            "no faster than the interval"
        );
    }
}

#[tokio::test]
async fn nothing_but_a_good_answer_changes_the_list() {
    let bad = [
        List(6, NONE),
        Raw(200, Some("6"), "null"),
        Raw(200, Some("6"), "<html>not Consul</html>"),
        Raw(200, Some("6"), r#"{"Node": 1}"#),
        Raw(
            200,
            Some("6"),
            r#"[{"Node":{"Address":"x"},"Service":{"Port":70000}}]"#,
        ),
        Raw(
            200,
            Some("6"),
            r#"[{"Node":{"Address":"x"},"Service":{"Port":0}}]"#,
        ),
        Raw(
            200,
            Some("6"),
            r#"[{"Node":{"Address":""},"Service":{"Port":1}}]"#,
        ),
        Raw(500, Some("6"), "No cluster leader"),
        Raw(403, None, "ACL not found"),
        Raw(302, None, ""),
    ];
    let times = bad.len() + 2;
    let answers = [List(5, AB)].into_iter().chain(bad);
    let mut consul = Consul::with(answers, "global", |settings| {
        settings.refresh_interval = Duration::from_millis(50)
    })
    .await;
    consul.asked(1).await;
    tokio::time::timeout(PATIENCE, consul.list.changed())
        .await
        .expect("in time")
        .expect("watched");
    consul.list.borrow_and_update();
    consul.asked(times).await;
    assert_eq!(consul.now(), ["10.0.0.1:8128", "10.0.0.2:8128"]);
    assert!(
        !consul.list.has_changed().expect("watched"),
        "nobody was told of a change"
    );
}

#[tokio::test]
async fn after_an_empty_answer_it_waits_for_the_first_instance_to_come() {
    let mut consul = Consul::that([List(5, NONE), List(6, A)]).await;
    let asked = consul.asked(2).await;
    assert_eq!(
        asked.iter().map(index_in).collect::<Vec<_>>(),
        [None, Some("5")]
    );
    let seen = tokio::time::timeout(PATIENCE, consul.list.wait_for(|list| list.len() == 1)).await;
    seen.expect("in time").expect("watched");
}

#[tokio::test]
async fn a_question_that_hangs_is_given_up_and_asked_anew() {
    let consul = Consul::with([List(5, A), Hangs, List(6, AB)], "global", |settings| {
        settings.refresh_interval = Duration::from_millis(50);
        settings.patience = Duration::from_millis(100);
    })
    .await;
    let asked = consul.asked(3).await;
    assert_eq!(
        asked.iter().take(3).map(index_in).collect::<Vec<_>>(),
        [None, Some("5"), None]
    );
    let mut list = consul.list.clone();
    let seen = tokio::time::timeout(PATIENCE, list.wait_for(|list| list.len() == 2)).await;
    seen.expect("in time").expect("watched");
}

#[tokio::test]
async fn a_consul_that_is_not_there_yet_is_asked_until_it_is() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let settings = settings(&address.to_string());
    let stop = CancellationToken::new();
    let mut list = watch(settings, "global", stop.clone()).expect("no TLS");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(list.borrow().is_empty());
    let script = Arc::new(Mutex::new(Script {
        answers: [List(5, A)].into(),
        asked: Vec::new(),
    }));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .expect("the same port");
    let router = Router::new().fallback(answer).with_state(script);
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    tokio::time::timeout(PATIENCE, list.changed())
        .await
        .expect("in time")
        .expect("watched");
    stop.cancel();
    server.abort();
}

#[tokio::test]
async fn many_changes_in_a_row_do_not_lead_to_many_questions() {
    let answers = (1..200).map(|index| List(index, if index % 2 == 0 { A } else { AB }));
    let consul = Consul::with(answers, "global", |settings| {
        settings.least_gap = Duration::from_millis(100)
    })
    .await;
    let asked = consul.asked(4).await;
    for pair in asked.windows(2) {
        let [before, after] = pair else { panic!("two") };
        assert!(after.at - before.at >= Duration::from_millis(90));
    }
}

#[tokio::test]
async fn the_services_address_is_preferred_and_ipv6_stands_in_brackets() {
    let entries: &[(&str, &str, u16)] = &[
        ("10.0.0.1", "192.168.0.1", 1),
        ("fd00::1", "", 2),
        ("10.0.0.1", "host.example", 3),
    ];
    let consul = Consul::that([List(5, entries)]).await;
    consul.asked(2).await;
    assert_eq!(
        consul.now(),
        ["192.168.0.1:1", "[fd00::1]:2", "host.example:3"]
    );
}

#[tokio::test]
async fn the_token_the_prefix_and_odd_names_are_sent_right() {
    let consul = Consul::with([List(5, A)], "my service/ü", |settings| {
        settings.token = Token::Given(Secret::new("t0ken"));
        settings.prefix = "/consul".to_owned();
    })
    .await;
    let asked = consul.asked(1).await;
    let first = asked.first().expect("one");
    assert_eq!(
        first.path,
        "/consul/v1/health/service/my%20service%2F%C3%BC"
    );
    assert_eq!(first.token.as_deref(), Some("t0ken"));
}

#[test]
fn self_metrics_tell_instances_errors_and_durations_by_service() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let recorder = Recorder::new("veneur_proxy.");
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let consul = Consul::that([List(5, AB), Raw(500, None, ""), List(6, NONE)]).await;
            consul.asked(4).await;
        });
    });
    let text = recorder.render();
    for line in [
        "veneur_proxy_discoverer_destination_number{service=\"global\"} 2",
        "veneur_proxy_discoverer_errors{service=\"global\"} 2",
        "veneur_proxy_discoverer_update_duration_ns_count{service=\"global\"} 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line}\n  is not in\n{text}"
        );
    }
}

#[test]
fn the_address_comes_from_the_settings_then_the_environment_then_what_is_usual() {
    let with = |address: &str, variable: Option<&str>| {
        let variable = variable.map(str::to_owned);
        let options = Options {
            address: address.to_owned(),
            ..Options::default()
        };
        Settings::with_variables(&options, |name| {
            (name == "CONSUL_HTTP_ADDR")
                .then(|| variable.clone())
                .flatten()
        })
        .map(|settings| {
            let scheme = if settings.tls.is_some() {
                "https://"
            } else {
                ""
            };
            format!("{scheme}{}{}", settings.authority, settings.prefix)
        })
    };
    assert_eq!(with("", None).as_deref(), Ok("127.0.0.1:8500"));
    assert_eq!(
        with("", Some("http://consul:80/x/")).as_deref(),
        Ok("consul:80/x")
    );
    assert_eq!(
        with("[::1]:8500", Some("consul:80")).as_deref(),
        Ok("[::1]:8500")
    );
    assert_eq!(with("https://c:1", None).as_deref(), Ok("https://c:1"));
    assert_eq!(
        with("unix:///run/consul", None),
        Err(AddressError::Scheme("unix:///run/consul".to_owned()))
    );
    assert_eq!(
        with("not an address", None),
        Err(AddressError::Malformed("not an address".to_owned()))
    );
}

#[test]
fn tls_is_spoken_where_the_address_the_settings_or_the_environment_say_so() {
    let with = |address: &str, tls: ClientTls, variables: &'static [&'static str]| {
        let options = Options {
            address: address.to_owned(),
            tls,
            ..Options::default()
        };
        let variable = |name: &str| match name {
            _ if !variables.contains(&name) => None,
            "CONSUL_HTTP_SSL" => Some("true".to_owned()),
            name => Some(format!("of {name}")),
        };
        Settings::with_variables(&options, variable).map(|settings| settings.tls)
    };
    let own = ClientTls {
        ca_file: Pem::new("own"),
        ..ClientTls::default()
    };
    assert_eq!(
        with("c:1", ClientTls::default(), &["CONSUL_CACERT"]),
        Ok(None)
    );
    assert_eq!(
        with("http://c:1", own.clone(), &[]),
        Err(AddressError::Plain("http://c:1".to_owned()))
    );
    let from_variables = ClientTls {
        enabled: Some(true),
        ca_file: Pem::new("of CONSUL_CACERT"),
        cert_file: Pem::new("of CONSUL_CLIENT_CERT"),
        key_file: Pem::new("of CONSUL_CLIENT_KEY"),
        server_name: "of CONSUL_TLS_SERVER_NAME".to_owned(),
    };
    let all: &[&str] = &[
        "CONSUL_HTTP_SSL",
        "CONSUL_CACERT",
        "CONSUL_CLIENT_CERT",
        "CONSUL_CLIENT_KEY",
        "CONSUL_TLS_SERVER_NAME",
    ];
    assert_eq!(
        with("c:1", ClientTls::default(), all),
        Ok(Some(from_variables.clone()))
    );
    assert_eq!(
        with("https://c:1", ClientTls::default(), &all[1..]),
        Ok(Some(from_variables.clone()))
    );
    let own_ca = ClientTls {
        ca_file: Pem::new("own"),
        ..from_variables
    };
    assert_eq!(with("c:1", own, &all[1..]), Ok(Some(own_ca)));
}

#[test]
fn the_token_comes_from_the_settings_then_the_environment() {
    let with = |token: &str, file: &str, variables: &'static [&'static str]| {
        let options = Options {
            token: Secret::new(token),
            token_file: file.to_owned(),
            ..Options::default()
        };
        let settings = Settings::with_variables(&options, |name| {
            variables.contains(&name).then(|| name.to_owned())
        });
        match settings.expect("usual").token {
            Token::Given(token) => format!("={}", token.expose()),
            Token::File(file) => file.display().to_string(),
        }
    };
    let both: &[&str] = &["CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE"];
    assert_eq!(with("t", "", both), "=t");
    assert_eq!(with("", "f", both), "f");
    assert_eq!(with("", "", both), "=CONSUL_HTTP_TOKEN");
    assert_eq!(with("", "", &both[1..]), "CONSUL_HTTP_TOKEN_FILE");
    assert_eq!(with("", "", &[]), "=");
}

#[tokio::test]
async fn a_tokens_file_is_read_for_each_question() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    let path = file.clone();
    let consul = Consul::with([List(5, A), List(6, AB)], "global", |settings| {
        settings.token = Token::File(path);
        settings.refresh_interval = Duration::from_millis(50);
    })
    .await;
    let deadline = tokio::time::Instant::now() + Duration::from_millis(100);
    tokio::time::sleep_until(deadline).await;
    assert!(
        consul.script.lock().asked.is_empty(),
        "not without its token"
    );
    std::fs::write(&file, "first\n").expect("written");
    consul.asked(1).await;
    std::fs::write(&file, "second").expect("written");
    let asked = consul.asked(3).await;
    let tokens: Vec<_> = asked.iter().map(|asked| asked.token.as_deref()).collect();
    assert_eq!(tokens.first(), Some(&Some("first")));
    assert_eq!(tokens.last(), Some(&Some("second")));
}

#[tokio::test]
async fn datacenter_tags_and_stale_reads_are_asked_for() {
    let consul = Consul::with([List(5, A)], "global", |settings| {
        settings.datacenter = "dc 2".to_owned();
        settings.tags = vec!["blue&".to_owned(), "v2".to_owned()];
        settings.stale = true;
    })
    .await;
    let asked = consul.asked(2).await;
    let queries: Vec<_> = asked.iter().map(|asked| asked.query.as_str()).collect();
    let every = "passing=1&dc=dc%202&tag=blue%26&tag=v2&stale";
    assert_eq!(queries[0], every);
    assert!(
        queries[1].starts_with(&format!("{every}&index=5&wait=")),
        "{queries:?}"
    );
}

#[tokio::test]
async fn a_server_that_has_lost_the_leader_changes_nothing_and_the_leader_is_asked() {
    let consul = Consul::with(
        [
            Behind("true", "0", A),
            Behind("false", "0", AB),
            Behind("true", "0", A),
            Behind("true", "20000", AB),
            Raw(500, None, "No cluster leader"),
            Behind("true", "9000", AB),
        ],
        "global",
        |settings| settings.stale = true,
    )
    .await;
    let mut seen = Vec::new();
    let mut list = consul.list.clone();
    let both = async {
        while seen.last() != Some(&2) {
            list.changed().await.expect("watched");
            seen.push(list.borrow_and_update().len());
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("in time");
    assert_eq!(seen, [1, 2], "the old lists are not taken");
    let asked = consul.asked(7).await;
    let stale: Vec<_> = asked
        .iter()
        .map(|asked| asked.query.contains("&stale"))
        .collect();
    assert_eq!(stale, [true, true, false, true, false, true, true]);
}

#[tokio::test]
async fn an_old_list_is_better_than_none() {
    let consul = Consul::with([Behind("false", "0", AB)], "global", |settings| {
        settings.stale = true
    })
    .await;
    consul.asked(2).await;
    assert_eq!(consul.now(), ["10.0.0.1:8128", "10.0.0.2:8128"]);
}
