//! The registration against an agent that does as it is told.

use std::sync::Arc;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State as Given};
use axum::http::StatusCode;
use parking_lot::Mutex;

use super::*;
use crate::config::Duration as Span;

const ENOUGH: Duration = Duration::from_secs(20);

/// An agent that knows of one entry, and what it was asked.
#[derive(Debug, Default)]
struct Agent {
    has_entry: bool,
    refuses: bool,
    silent: bool,
    asked: Vec<(String, Value)>,
}

type Shared = Arc<Mutex<Agent>>;

async fn answer(Given(agent): Given<Shared>, request: Request) -> (StatusCode, &'static str) {
    let path = request.uri().path().to_owned();
    let body = to_bytes(request.into_body(), usize::MAX)
        .await
        .expect("a body");
    let silent = {
        let mut agent = agent.lock();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        agent.asked.push((path.clone(), body));
        agent.silent
    };
    if silent {
        std::future::pending::<()>().await;
    }
    let mut agent = agent.lock();
    if agent.refuses {
        return (StatusCode::FORBIDDEN, "Permission denied");
    }
    match path.as_str() {
        "/v1/agent/service/register" => agent.has_entry = true,
        "/v1/agent/service/deregister/one%2F1" if agent.has_entry => agent.has_entry = false,
        "/v1/agent/check/update/service%3Aone%2F1" if agent.has_entry => {}
        _ => return (StatusCode::INTERNAL_SERVER_ERROR, "unknown check"),
    }
    (StatusCode::OK, "")
}

/// An agent, and a program that is not ready yet.
struct Scene {
    agent: Shared,
    readiness: Readiness,
    ready: crate::admin::Condition,
    stop: CancellationToken,
    registration: Registration,
}

impl Scene {
    async fn set() -> Self {
        let agent = Shared::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let options = Options {
            address: listener.local_addr().expect("bound").to_string(),
            ..Options::default()
        };
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&agent));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let register = Register {
            service: "globals".to_owned(),
            id: "one/1".to_owned(),
            check_interval: Span::millis(50),
            ..Register::default()
        };
        let (readiness, stop) = (Readiness::new(), CancellationToken::new());
        let ready = readiness.condition("start", "starting");
        let registration = Registration::start(
            &options,
            &register,
            "10.0.0.1:8128",
            None,
            &readiness,
            stop.clone(),
        );
        Self {
            agent,
            readiness,
            ready,
            stop,
            registration: registration.expect("an entry").expect("wanted"),
        }
    }

    async fn until(&self, what: &str, fits: impl Fn(&Agent) -> bool) {
        let deadline = Instant::now() + ENOUGH;
        while !fits(&self.agent.lock()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.agent.lock());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn asked(&self, what: &str) -> usize {
        let agent = self.agent.lock();
        let mut asked = agent.asked.iter();
        asked
            .by_ref()
            .filter(|(path, _)| path.contains(what))
            .count()
    }
}

fn says(agent: &Agent, status: &str) -> bool {
    agent
        .asked
        .last()
        .is_some_and(|(_, body)| body["Status"] == status)
}

#[tokio::test]
async fn it_is_registered_when_it_is_ready_tells_how_it_is_and_takes_itself_out() {
    let scene = Scene::set().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(scene.agent.lock().asked, [], "not before it is ready");
    scene.ready.holds();
    scene.until("well", |agent| says(agent, "passing")).await;
    let registered = scene.agent.lock().asked.first().cloned();
    let (path, body) = registered.expect("asked");
    assert_eq!(path, "/v1/agent/service/register");
    assert_eq!(
        (&body["Address"], &body["Port"]),
        (&json!("10.0.0.1"), &json!(8128))
    );

    scene.ready.fails("all destinations lost");
    scene.until("ill", |agent| says(agent, "critical")).await;
    let (_, told) = scene.agent.lock().asked.last().cloned().expect("asked");
    assert_eq!(told["Output"], "start: all destinations lost");
    scene.ready.holds();
    scene
        .until("well again", |agent| says(agent, "passing"))
        .await;
    assert_eq!(scene.asked("service/register"), 1);

    scene.stop.cancel();
    scene.readiness.set_draining();
    let agent = Arc::clone(&scene.agent);
    assert!(scene.registration.ended().await);
    assert!(!agent.lock().has_entry);
    let (path, _) = agent.lock().asked.last().cloned().expect("asked");
    assert_eq!(path, "/v1/agent/service/deregister/one%2F1");
}

#[tokio::test]
async fn an_agent_that_has_forgotten_it_is_told_again() {
    let scene = Scene::set().await;
    scene.ready.holds();
    scene.until("registered", |agent| agent.has_entry).await;
    scene.agent.lock().has_entry = false;
    scene
        .until("registered again", |agent| agent.has_entry)
        .await;
    assert_eq!(scene.asked("service/register"), 2);
}

#[tokio::test]
async fn a_refusal_is_no_reason_to_hurry() {
    let scene = Scene::set().await;
    scene.agent.lock().refuses = true;
    scene.ready.holds();
    let start = Instant::now();
    scene.until("tried", |agent| agent.asked.len() == 6).await;
    assert!(
        start.elapsed() > Duration::from_millis(5 * 37),
        "each 50 ms, less a quarter"
    );
    scene.agent.lock().refuses = false;
    scene.until("registered", |agent| agent.has_entry).await;
}

#[tokio::test]
async fn a_silent_agent_does_not_hold_up_the_end() {
    let scene = Scene::set().await;
    scene.ready.holds();
    scene.until("registered", |agent| agent.has_entry).await;
    scene.agent.lock().silent = true;
    scene.stop.cancel();
    let ended = tokio::time::timeout(ENOUGH, scene.registration.ended()).await;
    assert_eq!(ended, Ok(false), "it is not known to be gone");
}

#[tokio::test]
async fn what_was_never_registered_is_not_taken_out() {
    let scene = Scene::set().await;
    scene.stop.cancel();
    let agent = Arc::clone(&scene.agent);
    assert!(!scene.registration.ended().await);
    assert_eq!(agent.lock().asked, []);
}
