//! From a request to its answer.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::answer::Answer;
use super::body::Limits;
use super::event::{Answered, PointsMet};
use super::intake::{Intake, NotStored, Taken};
use super::item::Item;
use super::json::Json;
use super::keys::{Keys, Pass};
use super::post::Submission;
use super::rules::Rules;
use super::upload::Desk;
use super::{Clock, Extras, Hosts, Worker, get, page, populate, post, quota, telegraf};

/// Bodies that are unpacked and parsed at a time: what they take in memory is a multiple of their length.
const PARSED_AT_ONCE: usize = 2;

/// What judges a request's content.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub(super) keys: &'a Keys,
    pub(super) rules: &'a Rules,
    /// Unix time in seconds.
    pub(super) now: i64,
    /// 0 for any number.
    pub(super) max_metrics: usize,
    pub(super) telegraf_replace_host: bool,
}

/// Answers requests; one for all connections.
pub(super) struct Door {
    pub(super) keys: ArcSwap<Keys>,
    pub(super) rules: Rules,
    pub(super) limits: Limits,
    pub(super) max_metrics: usize,
    pub(super) telegraf_replace_host: bool,
    pub(super) now: Clock,
    pub(super) intake: Arc<Intake>,
    pub(super) extras: Extras,
    parsers: Semaphore,
}

impl Door {
    pub(super) fn new(
        config: &super::FluxConfig,
        keys: Keys,
        now: Clock,
        intake: Arc<Intake>,
        extras: Extras,
    ) -> Self {
        Self {
            keys: ArcSwap::from_pointee(keys),
            rules: config.rules(),
            limits: Limits {
                sent: config.max_body.as_usize(),
                inflated: config.max_inflated.as_usize(),
                time: config.body_timeout.get(),
            },
            max_metrics: config.max_metrics,
            telegraf_replace_host: config.telegraf_replace_host,
            now,
            intake,
            extras,
            parsers: Semaphore::new(PARSED_AT_ONCE),
        }
    }

    /// Answers one request, whatever it is.
    pub(super) async fn answer<B>(
        self: Arc<Self>,
        peer: IpAddr,
        request: Request<B>,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        let path = request.uri().path();
        let path = path.strip_prefix("/flux").unwrap_or(path);
        let uploads = self.extras.uploads.as_ref();
        if uploads.is_some()
            && let Some(file) = page::file(request.method(), path)
        {
            return file;
        }
        let populate = self.extras.populate.as_ref();
        let path = path.trim_end_matches('/').to_owned();
        let (allowed, answer) = match (path.as_str(), uploads, populate) {
            ("/upload_data", Some(desk), _) => (Method::POST, self.upload(desk, request).await),
            ("/populate_metric", _, Some(populate)) => {
                (Method::POST, self.populate(populate, request).await)
            }
            ("/api", ..) if uploads.is_some() || populate.is_some() => {
                (Method::GET, self.tell(request).await)
            }
            ("/metric_data", ..) => (Method::GET, self.get(request).await),
            ("/metric_data_post", ..) => (Method::POST, self.post(request).await),
            _ => (
                Method::GET,
                Err(Answer::refused(
                    StatusCode::NOT_FOUND,
                    "not_found",
                    "not found",
                )),
            ),
        };
        let answer = answer.unwrap_or_else(|refused| refused);
        let Answer { status, cause, .. } = answer;
        Answered {
            peer,
            status,
            cause,
        }
        .emit();
        self.intake.tallies().refused(cause);
        let mut response = answer.into_response();
        if status == StatusCode::METHOD_NOT_ALLOWED
            && let Ok(allowed) = HeaderValue::from_str(allowed.as_str())
        {
            response.headers_mut().insert(ALLOW, allowed);
        }
        response
    }

    async fn get<B>(&self, request: Request<B>) -> Result<Answer, Answer> {
        allow(&request, &Method::GET)?;
        let query = request.uri().query().unwrap_or_default();
        let keys = self.keys.load();
        let (pass, item, test) = get::judge(&self.judge(&keys), request.headers(), query)?;
        let submission = Submission {
            pass,
            items: vec![item],
            single: true,
            dropped: Vec::new(),
            test,
        };
        self.take(submission).await
    }

    async fn post<B>(self: &Arc<Self>, request: Request<B>) -> Result<Answer, Answer>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        allow(&request, &Method::POST)?;
        let (head, body) = request.into_parts();
        let body = self.limits.read(&head.headers, body).await?;
        let submission = self.parse(head.headers, body).await?;
        self.take(submission).await
    }

    async fn upload<B>(&self, desk: &Desk, request: Request<B>) -> Result<Answer, Answer>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        allow(&request, &Method::POST)?;
        let keys = self.keys.load_full();
        desk.post(request, &keys, (self.now)()).await
    }

    /// Takes a metric whose past is to be fetched. Flux answers without a body.
    async fn populate<B>(
        &self,
        (hosts, worker): &(Hosts, Worker),
        request: Request<B>,
    ) -> Result<Answer, Answer>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        allow(&request, &Method::POST)?;
        let (head, body) = request.into_parts();
        let body = self.limits.read(&head.headers, body).await?;
        let body = self.limits.inflate(&head.headers, body)?;
        let refuse = |status, cause| Answer {
            status,
            body: None,
            cause,
        };
        let mut wanted = populate::Request::parse(&body, hosts).map_err(|error| {
            tracing::debug!(%error, "a metric is not populated");
            refuse(StatusCode::BAD_REQUEST, "invalid_populate")
        })?;
        let pass = self.keys.load().pass(wanted.key.expose());
        let pass = pass.ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "invalid_key"))?;
        wanted.metric = pass.full_name(&wanted.metric);
        if self.rules.name(&wanted.metric).is_err() {
            return Err(refuse(StatusCode::BAD_REQUEST, "metric_name"));
        }
        match worker.add(wanted) {
            true => Ok(Answer::taken()),
            false => Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "busy")),
        }
    }

    /// Tells what became of an upload, or of a metric that is populated.
    async fn tell<B>(&self, request: Request<B>) -> Result<Answer, Answer> {
        allow(&request, &Method::GET)?;
        let query = request.uri().query().unwrap_or_default();
        let given = |wanted: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            let found = pairs.find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.into_owned())
        };
        match (&self.extras.uploads, &self.extras.populate) {
            (Some(desk), _) if given("upload_status").is_some() => desk.status(query).await,
            (_, Some((_, worker))) if given("populate_status").is_some() => {
                let metric = given("metric").unwrap_or_default();
                let progress = worker.progress(&metric).ok_or_else(|| {
                    let words = "nothing is known of that metric";
                    Answer::refused(StatusCode::NOT_FOUND, "not_found", words)
                })?;
                Ok(Answer::ok(
                    json!({"status": {}, "data": {"populate": progress}}),
                ))
            }
            _ => Err(Answer::bad(
                "unknown_question",
                "upload_status, or populate_status and metric, is asked for here",
            )),
        }
    }

    async fn parse(
        self: &Arc<Self>,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Submission, Answer> {
        let turn = self.parsers.acquire().await;
        let door = Arc::clone(self);
        let parsing = tokio::task::spawn_blocking(move || {
            let body = door.limits.inflate(&headers, body)?;
            let keys = door.keys.load();
            post::judge(&door.judge(&keys), &headers, &body)
        });
        let parsed = parsing.await;
        drop(turn);
        parsed.map_err(|error| internal(&error))?
    }

    fn judge<'a>(&'a self, keys: &'a Keys) -> Judge<'a> {
        Judge {
            keys,
            rules: &self.rules,
            now: (self.now)(),
            max_metrics: self.max_metrics,
            telegraf_replace_host: self.telegraf_replace_host,
        }
    }

    /// Stores what is good, in a task of its own: a client that gives up must not leave half of it done.
    async fn take(&self, submission: Submission) -> Result<Answer, Answer> {
        if submission.test {
            return Ok(tested(&submission));
        }
        for dropped in &submission.dropped {
            PointsMet {
                fate: dropped.why.fate(),
                count: 1,
            }
            .emit();
            self.intake.tallies().dropped(dropped.why);
        }
        let intake = Arc::clone(&self.intake);
        let now = (self.now)();
        let taking = async move { taken(&intake, submission, now).await };
        let taking = self.intake.under_way(taking);
        taking.await.map_err(|error| internal(&error))?
    }
}

async fn taken(intake: &Arc<Intake>, submission: Submission, now: i64) -> Result<Answer, Answer> {
    let Submission {
        pass,
        items,
        single,
        dropped,
        ..
    } = submission;
    let Taken {
        within,
        over,
        limit,
    } = intake
        .take(&pass, items, now)
        .await
        .map_err(|reason| match reason {
            NotStored::Disk => Answer::refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the metrics could not be written to the disk, none is stored",
            ),
            NotStored::Leaving => Answer::refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "leaving",
                "about to end, nothing is stored",
            ),
        })?;
    let telegraf = (!dropped.is_empty()).then(|| telegraf::report(&dropped, within.len()));
    if over.is_empty() {
        return Ok(telegraf.map_or_else(Answer::taken, Answer::partly));
    }
    let (status, cause) = match single {
        true => (StatusCode::BAD_REQUEST, "over_quota"),
        false => (StatusCode::MULTI_STATUS, ""),
    };
    let mut body = quota::report(status.as_u16(), limit, &within, &over);
    if let Some(telegraf) = telegraf {
        join(&mut body, telegraf);
    }
    Ok(Answer {
        status,
        body: Some(body),
        cause,
    })
}

/// Adds what was dropped of a telegraf batch to what was over its quota.
fn join(body: &mut Value, telegraf: Value) {
    let (Value::Object(body), Value::Object(telegraf)) = (body, telegraf) else {
        return;
    };
    for (key, value) in telegraf {
        match (body.get_mut(&key), value) {
            (None, value) => drop(body.insert(key, value)),
            (Some(Value::Array(all)), Value::Array(more)) => all.extend(more),
            (Some(Value::String(text)), Value::String(more)) if key == "message" => {
                text.push_str(", ");
                text.push_str(&more);
            }
            _ => {}
        }
    }
}

fn allow<B>(request: &Request<B>, method: &Method) -> Result<(), Answer> {
    match request.method() == method {
        true => Ok(()),
        false => Err(Answer::refused(
            StatusCode::METHOD_NOT_ALLOWED,
            "method",
            &format!("only {method} is answered here"),
        )),
    }
}

/// What a later Flux says to who only tries: nothing is stored.
fn tested(submission: &Submission) -> Answer {
    let names = |items: &mut dyn Iterator<Item = &String>| {
        Json::List(items.map(|name| Json::Text(name.clone())).collect()).to_string()
    };
    let Submission { items, dropped, .. } = submission;
    let body: Value = json!({
        "namespace": namespace(&submission.pass),
        "message": "metric ingestion test, no metrics were ingested only counts are reported",
        "ingest_count": items.len(),
        "drop_count": dropped.len(),
        "metrics": names(&mut items.iter().map(|Item { name, .. }| name)),
        "dropped": names(&mut dropped.iter().map(|dropped| &dropped.metric)),
    });
    Answer::ok(body)
}

fn namespace(pass: &Pass) -> &str {
    pass.namespace.as_deref().unwrap_or("None")
}

fn internal(error: &tokio::task::JoinError) -> Answer {
    tracing::error!(%error, "a Flux request was not finished");
    Answer::internal()
}
