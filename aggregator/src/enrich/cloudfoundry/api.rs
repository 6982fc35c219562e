//! Questions to the Cloud Controller: with a token, tried again where that may help, and from page to page.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::app::App;
use super::client::{Client, Reply};
use super::config::CloudFoundryConfig;
use super::happened::Events;
use super::session::{Session, on};
use super::{v2, v3};
use crate::backoff;
use crate::dropsonde::Guid;

/// The Cloud Controller.
pub(super) struct Api {
    version: u8,
    per_page: u32,
    base: Uri,
    client: Arc<Client>,
    session: Session,
    pub(super) events: Arc<Events>,
    /// Until then the Cloud Controller wants no requests.
    closed: Mutex<Option<Instant>>,
}

/// Why a question has no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub(super) struct Failed {
    /// For people; it holds nothing of the login.
    pub(super) why: String,
    pub(super) again: Again,
}

/// Whether the same question may be answered another time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Again {
    /// Not before somebody changes something.
    Never,
    Soon,
    /// That is what the server asks for.
    After(Duration),
}

/// How many times a request is made.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// More would make the line of a request longer than routers take.
const GUIDS_AT_ONCE: usize = 100;

impl Failed {
    pub(super) fn soon(why: impl Into<String>) -> Self {
        let (why, again) = (why.into(), Again::Soon);
        Self { why, again }
    }

    pub(super) fn for_good(why: impl Into<String>) -> Self {
        let (why, again) = (why.into(), Again::Never);
        Self { why, again }
    }

    /// The wait that the server asks for.
    pub(super) fn asked(&self) -> Duration {
        match self.again {
            Again::After(wait) => wait,
            Again::Never | Again::Soon => Duration::ZERO,
        }
    }
}

impl Api {
    /// Must be called within a tokio runtime.
    pub(super) fn new(config: &CloudFoundryConfig, events: Arc<Events>) -> Result<Self, String> {
        let base = config.base().map_err(|what| format!("api: {what}"))?;
        let client = Arc::new(Client::new(config, &base)?);
        let session = Session::new(config.clone(), base.clone(), client.clone(), events.clone());
        Ok(Self {
            version: config.api_version,
            per_page: config.per_page,
            base,
            client,
            session,
            events,
            closed: Mutex::default(),
        })
    }

    /// How many applications one look-up asks for.
    pub(super) fn at_once(&self) -> usize {
        match self.version {
            2 => 1,
            _ => GUIDS_AT_ONCE.min(self.per_page as usize),
        }
    }

    /// Lists all applications, up to `most`, and hands them over page by page. Says how many there were.
    pub(super) async fn list(
        &self,
        most: usize,
        mut each: impl FnMut(Vec<App>),
    ) -> Result<usize, Failed> {
        let mut count = 0;
        let mut each = |apps: Vec<App>| {
            count += apps.len();
            each(apps);
        };
        let listed = match self.version {
            2 => v2::list(self, self.per_page, most, &mut each).await,
            _ => v3::list(self, self.per_page, most, &mut each).await,
        };
        self.tell("list", listed)?;
        Ok(count)
    }

    /// Asks for applications, no more than [`Api::at_once`]. What is not in the answer is not there.
    pub(super) async fn look_up(&self, guids: &[Guid]) -> Result<Vec<App>, Failed> {
        let found = match (self.version, guids) {
            (2, [guid]) => {
                let found = v2::look_up(self, *guid).await;
                found.map(|app| app.into_iter().collect())
            }
            _ => v3::look_up(self, guids).await,
        };
        self.tell("lookup", found)
    }

    fn tell<T>(&self, question: &'static str, answer: Result<T, Failed>) -> Result<T, Failed> {
        match &answer {
            Ok(_) => self.events.answered(),
            Err(failed) => self.events.failed(question, &failed.why),
        }
        answer
    }

    /// Gets page after page, up to so many. `read` takes what is on one, and gives the link to the next. Says whether the last one was reached.
    pub(super) async fn pages(
        &self,
        endpoint: &'static str,
        path: &str,
        most: usize,
        mut read: impl FnMut(&[u8]) -> Result<Option<String>, Failed>,
    ) -> Result<bool, Failed> {
        let mut uri = on(&self.base, path)?;
        for _ in 0..most {
            let Some(body) = self.get(endpoint, &uri).await? else {
                return Err(Failed::for_good(format!("{} is not there", uri.path())));
            };
            match read(&body)? {
                Some(next) => uri = self.link(&next)?,
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// The pages of a list, no more than enough for `most` entries.
    pub(super) async fn whole_list(
        &self,
        endpoint: &'static str,
        path: &str,
        most: usize,
        read: impl FnMut(&[u8]) -> Result<Option<String>, Failed>,
    ) -> Result<(), Failed> {
        // One more, since entries come and go between pages.
        let pages = most.div_ceil(self.per_page as usize) + 1;
        if !self.pages(endpoint, path, pages, read).await? {
            self.events.too_many(most);
        }
        Ok(())
    }

    /// What is at a path; `None` if nothing is.
    pub(super) async fn get_path(
        &self,
        endpoint: &'static str,
        path: &str,
    ) -> Result<Option<Bytes>, Failed> {
        self.get(endpoint, &on(&self.base, path)?).await
    }

    async fn get(&self, endpoint: &'static str, uri: &Uri) -> Result<Option<Bytes>, Failed> {
        let mut tries = 1;
        loop {
            let asked = self.ask(endpoint, uri).await;
            self.events.tried(asked.is_ok());
            let failed = match asked {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let wait = match failed.again {
                Again::Never => return Err(failed),
                Again::Soon => backoff::after(FIRST_PAUSE, LONGEST_PAUSE, tries - 1),
                Again::After(wait) => wait,
            };
            if tries == TRIES || wait > self.client.timeout() {
                return Err(failed);
            }
            tries += 1;
            sleep(wait).await;
        }
    }

    /// Asks once, and with another token once more if that is what is wrong.
    async fn ask(&self, endpoint: &'static str, uri: &Uri) -> Result<Option<Bytes>, Failed> {
        let left = |until: &Instant| until.checked_duration_since(Instant::now());
        let closed = self.closed.lock().as_ref().and_then(left);
        if let Some(left) = closed.filter(|left| !left.is_zero()) {
            let why = format!("the Cloud Controller wants no requests for {left:.0?}");
            let again = Again::After(left);
            return Err(Failed { why, again });
        }
        let mut token = self.session.token().await?;
        let mut reply = self.request(endpoint, uri, &token.value).await?;
        if reply.status == 401 {
            token = self.session.instead_of(&token).await?;
            reply = self.request(endpoint, uri, &token.value).await?;
        }
        match reply.status.as_u16() {
            200 => return Ok(Some(reply.body)),
            404 => return Ok(None),
            _ => {}
        }
        let why = format!("the Cloud Controller {}", reply.said(&[token.secret()]));
        Err(match (reply.status.as_u16(), reply.retry_after()) {
            (status @ (408 | 429 | 500..), Some(wait)) => {
                // A rate is that of all requests, a fault may be that of one.
                if status == 429 {
                    *self.closed.lock() = Some(Instant::now() + wait);
                }
                let again = Again::After(wait);
                Failed { why, again }
            }
            (408 | 429 | 500.., None) => Failed::soon(why),
            _ => Failed::for_good(why),
        })
    }

    async fn request(
        &self,
        endpoint: &'static str,
        uri: &Uri,
        token: &http::HeaderValue,
    ) -> Result<Reply, Failed> {
        let reply = self.client.get(uri.clone(), Some(token.clone())).await;
        let outcome = reply.as_ref().map(|reply| reply.status);
        self.events.request(endpoint, outcome);
        reply.map_err(|error| Failed::soon(format!("the Cloud Controller {error}")))
    }

    /// A link to a page: a path, or a URL of the host that was asked. The token goes nowhere else.
    fn link(&self, href: &str) -> Result<Uri, Failed> {
        if href.starts_with('/') && !href.starts_with("//") {
            return on(&self.base, href);
        }
        let wrong = |what: &str| Failed::for_good(format!("the next page's link {href:?} {what}"));
        let uri: Uri = href.parse().map_err(|_| wrong("is no URL"))?;
        if origin(&uri) != origin(&self.base) {
            return Err(wrong("leads to another host than `api`"));
        }
        Ok(uri)
    }
}

/// Scheme, host and port, with the port that a scheme has by itself.
fn origin(uri: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let scheme = uri.scheme_str();
    let usual = match scheme {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    };
    let host = uri.host().map(str::to_ascii_lowercase);
    (scheme, host, uri.port_u16().or(usual))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_the_same_however_its_port_is_written() {
        let parse = |text: &'static str| Uri::from_static(text);
        let base = parse("https://api.example");
        let is_same = |text| origin(&parse(text)) == origin(&base);
        assert!(is_same("https://API.example:443/v3/apps?page=2"));
        for other in [
            "http://api.example/",
            "https://api.example:8443/",
            "https://evil.example/",
            "/v3",
        ] {
            assert!(!is_same(other), "{other}");
        }
    }
}
