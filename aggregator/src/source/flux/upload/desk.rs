//! Answers to those who upload, in Flux's words.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use form_urlencoded::parse;
use futures_util::TryStreamExt as _;
use http::header::{CONTENT_TYPE, EXPECT};
use http::{Request as HttpRequest, StatusCode};
use http_body_util::BodyDataStream;
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::super::answer::Answer;
use super::super::body::throw_away;
use super::super::keys::{Keys, under};
use super::form::{Form, FormError, Limits};
use super::keys::UploadKeys;
use super::queue::{Queue, key_of};
use super::request::{Refusal, Request, info, with_info};

/// Takes uploads and tells of them.
pub(in super::super) struct Desk {
    pub(in super::super) queue: Queue,
    keys: UploadKeys,
    limits: Limits,
    time: Duration,
    /// A form is held in memory while it is read.
    readers: Semaphore,
}

/// Forms that are read at a time.
const READ_AT_ONCE: usize = 4;

impl Desk {
    /// Keeps uploads in a directory.
    pub(in super::super) fn open(
        directory: &Path,
        keys: UploadKeys,
        max_body: u64,
        time: Duration,
    ) -> std::io::Result<Self> {
        Ok(Self {
            queue: Queue::open(directory.to_owned())?,
            keys,
            limits: Limits { body: max_body },
            time,
            readers: Semaphore::new(READ_AT_ONCE),
        })
    }

    /// Takes an upload.
    pub(in super::super) async fn post<B>(
        &self,
        request: HttpRequest<B>,
        keys: &Keys,
        now: i64,
    ) -> Result<Answer, Answer>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        let (head, body) = request.into_parts();
        let kind = head.headers.get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok());
        let too_large = body.size_hint().lower() > self.limits.body;
        let body = Lent(Arc::new(Mutex::new(body)));
        let stream = BodyDataStream::new(body.clone());
        let stream = stream.map_err(|error| std::io::Error::other(error.to_string()));
        let reading = async {
            if too_large {
                return Err(FormError::TooLarge);
            }
            let _turn = self.readers.acquire().await;
            Form::read(kind, stream, self.limits).await
        };
        let form = match tokio::time::timeout(self.time, reading).await {
            Ok(Ok(form)) => form,
            Ok(Err(error)) => {
                // Who asks before sending is answered at once; who sends is listened to.
                let unread_yet = too_large || matches!(error, FormError::NotAForm);
                if !(unread_yet && head.headers.contains_key(EXPECT)) {
                    throw_away(body).await;
                }
                return Err(unread(&error));
            }
            Err(_) => {
                let (status, text) = (StatusCode::REQUEST_TIMEOUT, "the upload took too long");
                return Err(Answer::refused(status, "slow", text));
            }
        };
        self.take(form, keys, now).await
    }

    async fn take(&self, form: Form, keys: &Keys, now: i64) -> Result<Answer, Answer> {
        let Form {
            mut variables,
            data,
            info: info_file,
        } = form;
        let unauthorized = || text(StatusCode::UNAUTHORIZED, "invalid_key", "Unauthorized");
        // It is kept nowhere.
        let key = variables.remove("key").filter(|key| !key.is_empty());
        let key = key.ok_or_else(unauthorized)?;
        if variables.get("json_response").map(String::as_str) != Some("true") {
            let status = StatusCode::BAD_REQUEST;
            return Err(text(status, "invalid_upload", "Bad Request"));
        }
        let named = info_file.as_ref().map(|file| file.name.clone());
        if let Some(file) = &info_file {
            let found = info(&file.bytes).map_err(|refusal| refused(&refusal))?;
            variables = with_info(variables, found);
            variables.remove("key");
        }
        let parent = variables.get("parent_metric_namespace");
        let parent = parent.map_or("", String::as_str).trim_matches('.');
        if parent.is_empty() {
            let words = "no parent_metric_namespace in the POST variables";
            return Err(refused(&Refusal(words.to_owned())));
        }
        let own = keys.pass(&key).is_some_and(|pass| {
            pass.namespace
                .is_none_or(|namespace| under(parent, &namespace))
        });
        if !(own | self.keys.allow(&key, parent)) {
            return Err(unauthorized());
        }
        let request = Request::new(&variables).map_err(|refusal| refused(&refusal))?;
        let no_data = || refused(&Refusal("error :: no data_file in the POST".to_owned()));
        let data = data.ok_or_else(no_data)?;
        let file = data.name.clone();
        let id = self
            .queue
            .add(&request, variables, data, named.as_deref(), now)
            .await
            .map_err(|error| {
                tracing::error!(%error, "an upload cannot be kept");
                Answer::internal()
            })?;
        let id = id.ok_or_else(|| {
            let words = "too many uploads wait, try again later";
            Answer::refused(StatusCode::SERVICE_UNAVAILABLE, "busy", words)
        })?;
        tracing::info!(upload = id, "an upload was taken");
        Ok(Answer::ok(json!({
            "status": {},
            "data": {
                "feature maturity": "EXPERIMENTAL",
                "upload": "successful",
                "upload_id": id,
                "upload_id_key": key_of(&id),
                "key": key,
                "parent_metric_namespace": request.parent,
                "data file": file,
                "info file": named.map_or(Value::Null, Value::from),
            },
        })))
    }

    /// Tells of an upload.
    pub(in super::super) async fn status(&self, query: &str) -> Result<Answer, Answer> {
        let key = parse(query.as_bytes())
            .find(|(name, _)| name == "upload_id_key")
            .map(|(_, key)| key.into_owned())
            .filter(|key| !key.is_empty());
        let error = |status, cause, text: &str| Answer {
            status,
            body: Some(json!({"error": text})),
            cause,
        };
        let key = key.ok_or_else(|| {
            let words = "no upload_id_key was passed";
            error(StatusCode::BAD_REQUEST, "invalid_upload", words)
        })?;
        let status = self.queue.status(&key).await.map_err(|error| {
            tracing::error!(%error, "an upload's record cannot be read");
            Answer::internal()
        })?;
        let status = status.ok_or_else(|| {
            error(
                StatusCode::NOT_FOUND,
                "not_found",
                "no upload of that key is known",
            )
        })?;
        Ok(Answer::ok(
            json!({"status": {}, "data": {"upload": status}}),
        ))
    }
}

/// A body that whoever reads it gives back, read or not.
struct Lent<B>(Arc<Mutex<B>>);

impl<B> Clone for Lent<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Body + Unpin> Body for Lent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut *self.0.lock()).poll_frame(context)
    }
}

fn text(status: StatusCode, cause: &'static str, text: &str) -> Answer {
    Answer {
        status,
        body: Some(Value::from(text)),
        cause,
    }
}

fn refused(refusal: &Refusal) -> Answer {
    Answer {
        status: StatusCode::BAD_REQUEST,
        body: Some(json!({"status": {"error": refusal.0}, "data": {"upload": "failed"}})),
        cause: "invalid_upload",
    }
}

fn unread(error: &FormError) -> Answer {
    match error {
        FormError::TooLarge => {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            Answer::refused(status, "too_large", &error.to_string())
        }
        FormError::NotAForm | FormError::Broken(_) => {
            Answer::bad("invalid_upload", &error.to_string())
        }
    }
}
