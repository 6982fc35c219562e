//! The ready endpoints of a service in Kubernetes, from its EndpointSlices, which are listed once and then watched.
//!
//! What always holds:
//! - a watch that ends is taken up again where it was; one that is too old ("410 Gone"), fails, or says something that is not understood is
//!   begun anew with a list, since a change may have been missed;
//! - until there is a good list again, everybody stays; so it does when nobody is ready;
//! - no answer, however it is made, leads to more than a few requests a second, and a server that is silent is given up.
//!
//! Protocol: <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::Settings;
use super::background::{self, Answers, Background};
use crate::BoxError;

mod slices;
#[cfg(test)]
mod tests;

/// The label that says whose slices they are.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// A list must be there by then.
const LIST_PATIENCE: Duration = Duration::from_secs(30);
/// The server is asked to end a watch after so many seconds, so that a connection that is dead is noticed.
const WATCH_SECONDS: u32 = 120;
const WATCH_PATIENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 10);
/// Between two requests: at least, growing up to the longest while none of them lasts.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const LASTS: Duration = Duration::from_secs(10);

const GONE: u16 = 410;

pub(super) fn check(settings: &Settings, wrong: &mut dyn FnMut(&str, &dyn fmt::Display)) {
    let name = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        text.len() <= 63 && text.bytes().all(plain)
    };
    if settings.service.is_empty() {
        wrong("service", &"must name the service");
    }
    for (key, text) in [
        ("namespace", &settings.namespace),
        ("service", &settings.service),
        ("port", &settings.port),
    ] {
        if !name(text) {
            wrong(key, &format!("{text:?} is no name in Kubernetes"));
        }
    }
    if settings.api.is_empty() {
        return;
    }
    let uri = settings.api.parse::<http::Uri>();
    let known =
        |uri: http::Uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https"));
    if !uri.is_ok_and(known) {
        wrong(
            "api",
            &format!(
                "{:?} is no URL, write it like http://127.0.0.1:8001",
                settings.api
            ),
        );
    }
    if !settings.kubeconfig.is_empty() {
        wrong(
            "kubeconfig",
            &"excludes api: either says where the server is",
        );
    }
}

/// Starts to watch.
///
/// # Errors
/// None; the signature is that of all kinds that could have one.
pub(super) fn start(settings: &Settings) -> Result<Background, BoxError> {
    let watched = settings.clone();
    Ok(background::start(&settings.service, |answers| {
        follow(watched, answers)
    }))
}

async fn follow(settings: Settings, mut answers: Answers) {
    let mut pace = Pace::default();
    loop {
        // Made anew at each failure, too: an account's files and a kubeconfig may have changed.
        match connect(&settings).await {
            Ok(api) => {
                let error = Watch::new(&settings, api)
                    .run(&mut answers, &mut pace)
                    .await;
                answers.fail(error).await;
            }
            Err(error) => answers.fail(error).await,
        }
        pace.rest().await;
    }
}

async fn connect(settings: &Settings) -> Result<Api<EndpointSlice>, BoxError> {
    let mut config = if !settings.api.is_empty() {
        Config::new(settings.api.parse()?)
    } else if !settings.kubeconfig.is_empty() {
        let kubeconfig = Kubeconfig::read_from(&settings.kubeconfig)?;
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
    } else {
        Config::incluster().map_err(|error| {
            format!("no pod's account to speak to Kubernetes with, and no kubeconfig: {error}")
        })?
    };
    // When to ask again is decided here.
    config.default_retry = false;
    let namespace = match settings.namespace.as_str() {
        "" => config.default_namespace.clone(),
        given => given.to_owned(),
    };
    Ok(Api::namespaced(Client::try_from(config)?, &namespace))
}

/// How far apart requests are.
#[derive(Debug)]
struct Pace {
    began: Instant,
    pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            pause: SHORTEST_PAUSE,
        }
    }
}

impl Pace {
    async fn rest(&mut self) {
        if self.began.elapsed() >= LASTS {
            self.pause = SHORTEST_PAUSE;
        }
        tokio::time::sleep(self.pause.mul_f64(0.75 + fastrand::f64() / 4.0)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.began = Instant::now();
    }
}

/// Why a watch came to its end.
enum End {
    /// It may be taken up again from this version.
    Over(String),
    /// Its version is too old.
    Gone,
    Failed(BoxError),
}

/// One service's slices.
struct Watch {
    api: Api<EndpointSlice>,
    selector: String,
    port: String,
    slices: HashMap<String, EndpointSlice>,
}

impl Watch {
    fn new(settings: &Settings, api: Api<EndpointSlice>) -> Self {
        Self {
            api,
            selector: format!("{SERVICE_LABEL}={}", settings.service),
            port: settings.port.clone(),
            slices: HashMap::new(),
        }
    }

    /// Lists and watches until something goes wrong.
    async fn run(mut self, answers: &mut Answers, pace: &mut Pace) -> BoxError {
        let mut version = None;
        loop {
            let Some(from) = version.take() else {
                match self.list(answers).await {
                    Ok(listed) => version = Some(listed),
                    Err(error) => return error,
                }
                continue;
            };
            match self.watch(from, answers).await {
                End::Over(at) => version = Some(at),
                End::Gone => tracing::debug!(selector = self.selector, "the watch is too old"),
                End::Failed(error) => return error,
            }
            pace.rest().await;
        }
    }

    /// Takes over all slices, and gives the version to watch from.
    async fn list(&mut self, answers: &mut Answers) -> Result<String, BoxError> {
        let since = Instant::now();
        let parameters = ListParams::default().labels(&self.selector);
        let list = tokio::time::timeout(LIST_PATIENCE, self.api.list(&parameters));
        let list = list
            .await
            .map_err(|_| format!("no list within {LIST_PATIENCE:?}"))?
            .map_err(|error| whole("cannot list endpointslices", &error))?;
        let version = list.metadata.resource_version.unwrap_or_default();
        if version.is_empty() {
            return Err("the list of endpointslices has no version to watch from".into());
        }
        self.slices = list
            .items
            .into_iter()
            .map(|slice| (name(&slice), slice))
            .collect();
        self.tell(answers, since).await;
        Ok(version)
    }

    /// Takes changes over from `version` on.
    async fn watch(&mut self, mut version: String, answers: &mut Answers) -> End {
        let failed = |error: &kube::Error| End::Failed(whole("cannot watch endpointslices", error));
        let silent = || End::Failed(format!("a watch was silent for {WATCH_PATIENCE:?}").into());
        let parameters = WatchParams::default()
            .labels(&self.selector)
            .timeout(WATCH_SECONDS);
        let stream = self.api.watch(&parameters, &version);
        let stream = match tokio::time::timeout(WATCH_PATIENCE, stream).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(kube::Error::Api(status))) if status.code == GONE => return End::Gone,
            Ok(Err(error)) => return failed(&error),
            Err(_) => return silent(),
        };
        let mut stream = pin!(stream);
        loop {
            let Ok(event) = tokio::time::timeout(WATCH_PATIENCE, stream.next()).await else {
                return silent();
            };
            let since = Instant::now();
            match event {
                None => return End::Over(version),
                Some(Ok(WatchEvent::Bookmark(mark))) => version = mark.metadata.resource_version,
                Some(Ok(WatchEvent::Added(slice) | WatchEvent::Modified(slice))) => {
                    version = slice.metadata.resource_version.clone().unwrap_or_default();
                    self.slices.insert(name(&slice), slice);
                    self.tell(answers, since).await;
                }
                Some(Ok(WatchEvent::Deleted(slice))) => {
                    version = slice.metadata.resource_version.clone().unwrap_or_default();
                    self.slices.remove(&name(&slice));
                    self.tell(answers, since).await;
                }
                Some(Ok(WatchEvent::Error(status))) if status.code == GONE => return End::Gone,
                Some(Ok(WatchEvent::Error(status))) => {
                    return failed(&kube::Error::Api(status.boxed()));
                }
                Some(Err(error)) => return failed(&error),
            }
        }
    }

    async fn tell(&self, answers: &mut Answers, since: Instant) {
        match slices::endpoints(self.slices.values(), &self.port) {
            Ok(endpoints) => answers.tell(endpoints, since).await,
            Err(error) => answers.fail(error).await,
        }
    }
}

fn name(slice: &EndpointSlice) -> String {
    slice.metadata.name.clone().unwrap_or_default()
}

/// An error with its causes, which the client's own words leave out.
fn whole(what: &str, error: &kube::Error) -> BoxError {
    let mut text = format!("{what}: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text.into()
}
