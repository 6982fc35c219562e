//! A Blueflood and a Keystone that speak as the real ones do, and fail as a test says.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What one request is answered with, instead of what is right.
#[derive(Debug, Clone)]
pub enum Fault {
    /// None: what is right is done.
    Right,
    /// A status, `Retry-After` where it is not empty, and a body. Nothing is stored.
    Answer(u16, &'static str, String),
    /// No answer, ever.
    Hang,
    /// What is right is done, and the connection closed without an answer.
    Cut,
}

impl Fault {
    /// A status without words.
    pub fn status(status: u16) -> Self {
        Self::Answer(status, "", String::new())
    }
}

/// A request as it came, and what it was answered.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
    /// Of the body, in bytes.
    pub length: usize,
    /// 0: no answer.
    pub status: u16,
}

impl Seen {
    /// A header's value; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The names of the points in it.
    pub fn names(&self) -> Vec<String> {
        let points = self.body.as_array().cloned().unwrap_or_default();
        let name = |point: &Value| point["metricName"].as_str().unwrap_or("?").to_owned();
        points.iter().map(name).collect()
    }
}

/// What the tests set, and what they look at.
#[derive(Debug, Default)]
pub struct Blueflood {
    pub seen: Vec<Seen>,
    /// How many times each point was stored, by name and time.
    pub stored: HashMap<(String, i64), usize>,
    /// Its values.
    pub values: HashMap<String, f64>,
    /// What the next requests are answered.
    pub faults: VecDeque<Fault>,
    /// In milliseconds; `None` for the real time.
    pub now: Option<i64>,
    /// How many times points of these names cannot be stored.
    pub unstorable: HashMap<String, usize>,
    /// Bodies that are longer are refused with 413; 0 for Blueflood's own limit.
    pub limit: usize,
    /// With a bad point nothing is stored, where it should be the others.
    pub all_or_nothing: bool,
    /// Answers do not name the bad points.
    pub wordless: bool,
    /// The tokens that are good; `None`: none is asked for.
    pub tokens: Option<Vec<String>>,
}

/// The same of Keystone.
#[derive(Debug, Default)]
pub struct Keystone {
    pub seen: Vec<Seen>,
    pub faults: VecDeque<Fault>,
    /// What it asks for.
    pub secret: String,
    /// How long tokens are good; in seconds.
    pub lifetime: u64,
    /// Tokens made so far: `tok1`, `tok2`, …
    pub made: usize,
}

/// A server's address and its state.
#[derive(Debug)]
pub struct Server<S> {
    pub address: SocketAddr,
    state: Arc<Mutex<S>>,
}

impl<S> Clone for Server<S> {
    fn clone(&self) -> Self {
        Self {
            address: self.address,
            state: Arc::clone(&self.state),
        }
    }
}

impl<S> Server<S> {
    pub fn state(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

pub trait Service: Default + Send + 'static {
    fn fault(&mut self) -> Option<Fault>;
    /// Does what is right.
    fn answer(&mut self, seen: &Seen, raw: &[u8]) -> Response<Full<Bytes>>;
    fn note(&mut self, seen: Seen);
}

/// Starts one on a free port.
pub async fn start<S: Service>() -> Server<S> {
    start_at("127.0.0.1:0").await
}

/// Starts one at an address.
pub async fn start_at<S: Service>(address: &str) -> Server<S> {
    let listener = TcpListener::bind(address).await.unwrap();
    let server = Server {
        address: listener.local_addr().unwrap(),
        state: Arc::<Mutex<S>>::default(),
    };
    let state = Arc::clone(&server.state);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let state = Arc::clone(&state);
            let service = service_fn(move |request| handle(Arc::clone(&state), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    server
}

async fn handle<S: Service>(
    state: Arc<Mutex<S>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = request.into_parts();
    let raw = body.collect().await?.to_bytes();
    let mut seen = Seen {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: serde_json::from_slice(&raw).unwrap_or(Value::Null),
        length: raw.len(),
        status: 0,
    };
    let fault = state.lock().unwrap().fault();
    let response = match &fault {
        None | Some(Fault::Right) => Some(state.lock().unwrap().answer(&seen, &raw)),
        Some(Fault::Answer(status, retry_after, body)) => {
            let mut response = respond(*status, body.clone());
            if !retry_after.is_empty() {
                let headers = response.headers_mut();
                headers.insert("retry-after", retry_after.parse()?);
            }
            Some(response)
        }
        Some(Fault::Hang) => None,
        Some(Fault::Cut) => {
            state.lock().unwrap().answer(&seen, &raw);
            None
        }
    };
    seen.status = response
        .as_ref()
        .map_or(0, |response| response.status().as_u16());
    state.lock().unwrap().note(seen);
    match response {
        Some(response) => Ok(response),
        None if matches!(fault, Some(Fault::Hang)) => {
            std::future::pending::<Result<_, Infallible>>().await?;
            Err("never".into())
        }
        None => Err("cut off".into()),
    }
}

fn respond(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status.try_into().unwrap();
    response
}

/// Milliseconds since 1970.
pub fn millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

// === Blueflood ===

impl Service for Blueflood {
    fn fault(&mut self) -> Option<Fault> {
        self.faults.pop_front()
    }

    fn note(&mut self, seen: Seen) {
        self.seen.push(seen);
    }

    fn answer(&mut self, seen: &Seen, raw: &[u8]) -> Response<Full<Bytes>> {
        let limit = if self.limit > 0 {
            self.limit
        } else {
            1_048_576
        };
        if raw.len() > limit {
            return respond(413, "");
        }
        if let Some(tokens) = &self.tokens
            && !tokens
                .iter()
                .any(|token| token == seen.header("x-auth-token"))
        {
            return respond(401, "Unauthorized");
        }
        let Some(points) = seen.body.as_array() else {
            return respond(400, "Cannot parse content");
        };
        let known = [
            "collectionTime",
            "ttlInSeconds",
            "metricValue",
            "metricName",
        ];
        for point in points {
            let keys = point.as_object().unwrap().keys();
            for key in keys {
                if !known.contains(&key.as_str()) {
                    return respond(400, format!("unknown key {key}"));
                }
            }
        }
        if points.is_empty() {
            return respond(400, "No valid metrics");
        }
        let (errors, good) = self.sort_out(points);
        if errors.is_empty() || !self.all_or_nothing {
            for (name, time, value) in &good {
                *self.stored.entry((name.clone(), *time)).or_default() += 1;
                self.values.insert(name.clone(), *value);
            }
        }
        let words = match self.wordless {
            true => String::new(),
            false => json!({"errors": errors}).to_string(),
        };
        match (errors.is_empty(), good.is_empty() || self.all_or_nothing) {
            (true, _) => respond(200, ""),
            (false, true) => respond(400, words),
            (false, false) => respond(207, words),
        }
    }
}

impl Blueflood {
    /// The errors, one for each rule that is broken, and the good points.
    fn sort_out(&mut self, points: &[Value]) -> (Vec<Value>, Vec<(String, i64, f64)>) {
        let now = self.now.unwrap_or_else(millis);
        let (mut errors, mut good) = (Vec::new(), Vec::new());
        for point in points {
            let name = point["metricName"].as_str().unwrap_or_default().to_owned();
            // Whole numbers only: a fraction is a fault of ours.
            let time = point["collectionTime"].as_i64().unwrap();
            let before = errors.len();
            let mut wrong = |source: &str, message: &str| {
                errors.push(json!({
                    "tenantId": "t", "timestamp": time, "metricName": name,
                    "source": source, "message": message,
                }));
            };
            if name.is_empty() {
                wrong("metricName", "may not be empty");
            }
            let ttl = point["ttlInSeconds"].as_i64().unwrap_or(0);
            if !(1..=i64::from(i32::MAX)).contains(&ttl) {
                wrong("ttlInSeconds", "must be between 1 and 2147483647");
            }
            if !(now - 259_200_000..=now + 600_000).contains(&time) {
                wrong(
                    "collectionTime",
                    "Out of bounds. Cannot be more than 259200000 milliseconds into the past",
                );
            }
            if !point["metricValue"].is_f64() {
                wrong("metricValue", "metric value must be numeric");
            }
            if let Some(left) = self.unstorable.get_mut(&name)
                && *left > 0
            {
                *left -= 1;
                wrong("", "could not be stored");
            }
            if errors.len() == before {
                good.push((name, time, point["metricValue"].as_f64().unwrap()));
            }
        }
        (errors, good)
    }

    /// How many points are stored once, and how many more than once.
    pub fn counts(&self) -> (usize, usize) {
        let once = self.stored.values().filter(|times| **times == 1).count();
        (once, self.stored.len() - once)
    }

    /// The statuses of all answers.
    pub fn statuses(&self) -> Vec<u16> {
        self.seen.iter().map(|seen| seen.status).collect()
    }
}

// === Keystone ===

impl Service for Keystone {
    fn fault(&mut self) -> Option<Fault> {
        self.faults.pop_front()
    }

    fn note(&mut self, seen: Seen) {
        self.seen.push(seen);
    }

    fn answer(&mut self, seen: &Seen, _: &[u8]) -> Response<Full<Bytes>> {
        let auth = &seen.body["auth"];
        let secret = match seen.path.as_str() {
            "/v3/auth/tokens" => &auth["identity"]["password"]["user"]["password"],
            _ if auth["passwordCredentials"].is_object() => {
                &auth["passwordCredentials"]["password"]
            }
            _ => &auth["RAX-KSKEY:apiKeyCredentials"]["apiKey"],
        };
        if secret.as_str() != Some(&self.secret) {
            // As careless as can be.
            return respond(401, format!("wrong key {secret}"));
        }
        self.made += 1;
        let token = format!("tok{}", self.made);
        let ends = SystemTime::now() + Duration::from_secs(self.lifetime);
        let ends = jiff::Timestamp::try_from(ends).unwrap().to_string();
        if seen.path == "/v3/auth/tokens" {
            let body = json!({"token": {"expires_at": ends, "project": {"id": "p836986"}}});
            let mut response = respond(201, body.to_string());
            let headers = response.headers_mut();
            headers.insert("x-subject-token", token.parse().unwrap());
            return response;
        }
        let body = json!({"access": {"token": {"id": token, "expires": ends, "tenant": {"id": "836986"}}}});
        respond(200, body.to_string())
    }
}
