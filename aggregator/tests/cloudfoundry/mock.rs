//! A Cloud Controller and a UAA, on one port, that speak as the real ones do and fail as a test says. They begin with the recorded applications.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const RECORDED: &str = include_str!("../fixtures/cf/cf_api_synthetic.json");

/// What one request is answered with, instead of what is right.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A status, with a header where its name is not empty.
    Answer(u16, &'static str, String),
    /// What is right, after a time.
    Slow(Duration),
    /// The connection is closed without an answer.
    Cut,
    /// A body in place of the right one.
    Body(Value),
}

/// A request as it came, and what it was answered; 0: nothing.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    /// With the query.
    pub path: String,
    pub authorization: String,
    /// The form in its body.
    pub form: BTreeMap<String, String>,
    pub status: u16,
}

/// What the tests set, and what they look at.
#[derive(Debug)]
pub struct State {
    pub seen: Vec<Seen>,
    /// What the next requests with paths that begin so are answered.
    pub faults: Vec<(&'static str, VecDeque<Fault>)>,
    /// All requests are cut.
    pub is_away: bool,
    /// How long each answer takes.
    pub slowness: Duration,
    /// The most requests that there were at a time.
    pub most_at_once: usize,
    at_once: usize,
    /// The Cloud Controller's, as version 3 shows them.
    pub apps: Vec<Value>,
    pub spaces: Vec<Value>,
    pub organizations: Vec<Value>,
    /// Those that lists leave out.
    pub unlisted: BTreeSet<String>,
    /// Links to next pages go there.
    pub next_host: Option<String>,
    /// Single applications of version 2 have no spaces in them.
    pub is_plain: bool,
    /// `name:password` or `client:secret`.
    pub users: BTreeSet<String>,
    pub clients: BTreeSet<String>,
    /// The good ones, and until when.
    pub tokens: BTreeMap<String, Instant>,
    pub refresh_tokens: BTreeSet<String>,
    /// Of tokens, in seconds.
    pub lifetime: u64,
    /// So far: `tok-1`, `tok-2`, …, and `ref-1`, `ref-2`, …
    pub made: usize,
}

/// A server's address and its state.
#[derive(Debug, Clone)]
pub struct CloudFoundry {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// Something recorded.
pub fn recorded(name: &str) -> Value {
    let all: Value = serde_json::from_str(RECORDED).unwrap();
    all[name].clone()
}

impl State {
    fn new() -> Self {
        let mut state = Self {
            seen: Vec::new(),
            faults: Vec::new(),
            is_away: false,
            slowness: Duration::ZERO,
            most_at_once: 0,
            at_once: 0,
            apps: Vec::new(),
            spaces: Vec::new(),
            organizations: Vec::new(),
            unlisted: BTreeSet::new(),
            next_host: None,
            is_plain: false,
            users: ["alice:p4ss".to_owned()].into(),
            clients: ["cf:".to_owned(), "refinery:s3cret".to_owned()].into(),
            tokens: BTreeMap::new(),
            refresh_tokens: BTreeSet::new(),
            lifetime: 599,
            made: 0,
        };
        for page in ["GET /v3/apps page 1", "GET /v3/apps page 2"] {
            let page = recorded(page);
            let list = |path: &str| page.pointer(path).unwrap().as_array().unwrap().clone();
            state.apps.extend(list("/resources"));
            state.spaces.extend(list("/included/spaces"));
            state.organizations.extend(list("/included/organizations"));
        }
        for list in [&mut state.spaces, &mut state.organizations] {
            list.sort_by_key(|entry| entry["guid"].to_string());
            list.dedup_by_key(|entry| entry["guid"].to_string());
        }
        state
    }

    /// Adds an application to the first space.
    pub fn add(&mut self, guid: &str, name: &str) {
        let mut app = self.apps[0].clone();
        app["guid"] = json!(guid);
        app["name"] = json!(name);
        self.apps.push(app);
    }

    /// From now on requests with such a path are answered so, one after the other.
    pub fn fail(&mut self, path: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.faults.push((path, faults.into_iter().collect()));
    }

    /// How many requests there were whose paths begin so.
    pub fn count(&self, path: &str) -> usize {
        let is_one = |seen: &&Seen| seen.path.starts_with(path);
        self.seen.iter().filter(is_one).count()
    }

    /// The kinds of grants that were asked for.
    pub fn grants(&self) -> Vec<&str> {
        let forms = self.seen.iter().map(|seen| &seen.form);
        forms
            .filter_map(|form| Some(form.get("grant_type")?.as_str()))
            .collect()
    }

    fn fault(&mut self, path: &str) -> Option<Fault> {
        if self.is_away {
            return Some(Fault::Cut);
        }
        let fits = |(prefix, faults): &&mut (&str, VecDeque<Fault>)| {
            path.starts_with(*prefix) && !faults.is_empty()
        };
        self.faults.iter_mut().find(fits)?.1.pop_front()
    }
}

impl CloudFoundry {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State::new())),
        };
        let shared = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = shared.clone();
                let service = service_fn(move |request| server.clone().handle(request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let start = Instant::now();
        while !is_so(&self.state()) {
            let seen = || format!("{:#?}", self.state().seen);
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "never {what}: {}",
                seen()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn handle(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
        let (head, body) = request.into_parts();
        let raw = body.collect().await?.to_bytes();
        let form = form_urlencoded::parse(&raw).into_owned().collect();
        let path = head.uri.path_and_query().unwrap().to_string();
        let mut seen = Seen {
            method: head.method,
            path,
            authorization: header(&head.headers, "authorization"),
            form,
            status: 0,
        };
        let (fault, slowness) = {
            let mut state = self.state();
            state.at_once += 1;
            state.most_at_once = state.most_at_once.max(state.at_once);
            (state.fault(&seen.path), state.slowness)
        };
        let slowness = match &fault {
            Some(Fault::Slow(time)) => *time,
            _ => slowness,
        };
        if !slowness.is_zero() {
            tokio::time::sleep(slowness).await;
        }
        let mut state = self.state();
        state.at_once -= 1;
        let (status, body) = match &fault {
            None | Some(Fault::Slow(_)) => answer(&mut state, &seen, &self.url()),
            Some(Fault::Answer(status, ..)) => (*status, json!({"errors": "as a test says"})),
            Some(Fault::Body(body)) => (200, body.clone()),
            Some(Fault::Cut) => (0, Value::Null),
        };
        seen.status = status;
        state.seen.push(seen);
        drop(state);
        if status == 0 {
            return Err("cut off".into());
        }
        let mut response = Response::new(Full::from(body.to_string()));
        *response.status_mut() = status.try_into()?;
        if let Some(Fault::Answer(_, name, value)) = fault
            && !name.is_empty()
        {
            response.headers_mut().insert(name, value.parse()?);
        }
        Ok(response)
    }
}

fn header(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

fn at(recorded: &Value, url: &str) -> Value {
    let text = recorded.to_string().replace("http://127.0.0.1:PORT", url);
    serde_json::from_str(&text).unwrap()
}

fn answer(state: &mut State, seen: &Seen, url: &str) -> (u16, Value) {
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let query: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    match (seen.method.as_str(), path) {
        ("GET", "/") => return (200, at(&recorded("GET /"), url)),
        ("GET", "/v2/info") => return (200, at(&recorded("v2 GET /v2/info"), url)),
        ("POST", "/oauth/token") => return grant(state, seen),
        _ => {}
    }
    let token = seen
        .authorization
        .strip_prefix("bearer ")
        .unwrap_or_default();
    if state
        .tokens
        .get(token)
        .is_none_or(|until| *until <= Instant::now())
    {
        return (401, recorded("401"));
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts[..] {
        ["v3", "apps"] => apps(state, &query, url),
        ["v2", kind] => listed_v2(state, kind, &query),
        ["v2", kind, guid] => match v2(state, kind)
            .into_iter()
            .find(|it| it["metadata"]["guid"] == guid)
        {
            Some(found)
                if kind == "apps"
                    && !state.is_plain
                    && query.contains_key("inline-relations-depth") =>
            {
                (200, inlined(state, found))
            }
            Some(found) => (200, found),
            None => (404, recorded("v2 404")),
        },
        _ => (404, recorded("404")),
    }
}

fn grant(state: &mut State, seen: &Seen) -> (u16, Value) {
    let refused = |what: &str| {
        (
            401,
            json!({"error": "unauthorized", "error_description": what}),
        )
    };
    let login = seen
        .authorization
        .strip_prefix("Basic ")
        .unwrap_or_default();
    let client = String::from_utf8(STANDARD.decode(login).unwrap()).unwrap();
    if !state.clients.contains(&client) {
        return refused("Bad client credentials");
    }
    let field = |name: &str| seen.form.get(name).cloned().unwrap_or_default();
    let is_good = match field("grant_type").as_str() {
        "password" => state
            .users
            .contains(&format!("{}:{}", field("username"), field("password"))),
        "refresh_token" => state.refresh_tokens.contains(&field("refresh_token")),
        "client_credentials" => client != "cf:",
        _ => false,
    };
    if !is_good {
        // As careless as can be.
        return refused(&format!("Bad credentials {:?}", seen.form));
    }
    state.made += 1;
    let (token, refresh) = (format!("tok-{}", state.made), format!("ref-{}", state.made));
    let until = Instant::now() + Duration::from_secs(state.lifetime);
    state.tokens.insert(token.clone(), until);
    let mut answer = recorded("POST /oauth/token");
    answer["access_token"] = json!(token);
    answer["expires_in"] = json!(state.lifetime);
    if field("grant_type") == "client_credentials" {
        answer.as_object_mut().unwrap().remove("refresh_token");
    } else {
        answer["refresh_token"] = json!(refresh);
        state.refresh_tokens.insert(refresh);
    }
    (200, answer)
}

fn number(query: &BTreeMap<String, String>, key: &str, default: usize) -> usize {
    query.get(key).map_or(default, |text| text.parse().unwrap())
}

fn apps(state: &State, query: &BTreeMap<String, String>, url: &str) -> (u16, Value) {
    assert_eq!(query["include"], "space,space.organization");
    let (page, size) = (number(query, "page", 1), number(query, "per_page", 50));
    assert!((1..=5000).contains(&size));
    let guids: Option<Vec<&str>> = query.get("guids").map(|guids| guids.split(',').collect());
    let is_wanted = |app: &&Value| {
        let guid = app["guid"].as_str().unwrap();
        match &guids {
            Some(guids) => guids.contains(&guid),
            None => !state.unlisted.contains(guid),
        }
    };
    let all: Vec<&Value> = state.apps.iter().filter(is_wanted).collect();
    let here: Vec<&Value> = all
        .iter()
        .skip((page - 1) * size)
        .take(size)
        .copied()
        .collect();
    let related = |of: &[&Value], list: &[Value], path: &str| -> Vec<Value> {
        let guids: BTreeSet<_> = of
            .iter()
            .filter_map(|it| it.pointer(path)?.as_str())
            .collect();
        let is_in = |it: &&Value| guids.contains(it["guid"].as_str().unwrap());
        list.iter().filter(is_in).cloned().collect()
    };
    let spaces = related(&here, &state.spaces, "/relationships/space/data/guid");
    let of: Vec<&Value> = spaces.iter().collect();
    let organizations = related(
        &of,
        &state.organizations,
        "/relationships/organization/data/guid",
    );
    let pages = all.len().div_ceil(size).max(1);
    let link = |page: usize| {
        let host = state.next_host.as_deref().unwrap_or(url);
        let mut query = query.clone();
        query.insert("page".to_owned(), page.to_string());
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&query)
            .finish();
        json!({"href": format!("{host}/v3/apps?{query}")})
    };
    let next = if page < pages {
        link(page + 1)
    } else {
        Value::Null
    };
    let answer = json!({
        "pagination": {"total_results": all.len(), "total_pages": pages, "first": link(1), "last": link(pages), "next": next, "previous": null},
        "resources": here, "included": {"spaces": spaces, "organizations": organizations},
    });
    (200, answer)
}

/// All of a kind, as version 2 shows them.
fn v2(state: &State, kind: &str) -> Vec<Value> {
    let resource =
        |it: &Value, entity: Value| json!({"metadata": {"guid": it["guid"]}, "entity": entity});
    match kind {
        "apps" => {
            let app = |it: &Value| {
                let space = &it["relationships"]["space"]["data"]["guid"];
                resource(
                    it,
                    json!({"name": it["name"], "state": it["state"], "space_guid": space}),
                )
            };
            state.apps.iter().map(app).collect()
        }
        "spaces" => {
            let space = |it: &Value| {
                let org = &it["relationships"]["organization"]["data"]["guid"];
                resource(it, json!({"name": it["name"], "organization_guid": org}))
            };
            state.spaces.iter().map(space).collect()
        }
        "organizations" => {
            let org = |it: &Value| resource(it, json!({"name": it["name"]}));
            state.organizations.iter().map(org).collect()
        }
        other => panic!("{other}"),
    }
}

fn inlined(state: &State, mut app: Value) -> Value {
    let find = |kind: &str, guid: &Value| {
        let all = v2(state, kind).into_iter();
        all.clone()
            .find(|it| it["metadata"]["guid"] == *guid)
            .unwrap()
    };
    let mut space = find("spaces", &app["entity"]["space_guid"]);
    space["entity"]["organization"] = find("organizations", &space["entity"]["organization_guid"]);
    app["entity"]["space"] = space;
    app
}

fn listed_v2(state: &State, kind: &str, query: &BTreeMap<String, String>) -> (u16, Value) {
    let (page, size) = (
        number(query, "page", 1),
        number(query, "results-per-page", 50),
    );
    let is_listed = |it: &Value| {
        !state
            .unlisted
            .contains(it["metadata"]["guid"].as_str().unwrap())
    };
    let all: Vec<Value> = v2(state, kind).into_iter().filter(is_listed).collect();
    let here: Vec<&Value> = all.iter().skip((page - 1) * size).take(size).collect();
    let has_next = page * size < all.len();
    let next = format!("/v2/{kind}?page={}&results-per-page={size}", page + 1);
    let next = if has_next { json!(next) } else { Value::Null };
    (
        200,
        json!({"total_results": all.len(), "next_url": next, "resources": here}),
    )
}
