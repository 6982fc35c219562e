//! The token: how it is got, how long it is used, and how it is renewed.
//!
//! UAA gives one for a password or to a client, and with the former another token to renew it by.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tributary_node::config::Secret;

use super::api::{Again, Failed};
use super::client::{Client, NoReply, Reply};
use super::config::CloudFoundryConfig;
use super::happened::Events;
use crate::backoff;
use crate::secret_file;

/// A token that all requests share. It is got when the first one needs it, renewed some time before it ends, or when the Cloud Controller refuses it,
/// by one request while the others wait.
pub(super) struct Session {
    config: CloudFoundryConfig,
    base: Uri,
    client: Arc<Client>,
    events: Arc<Events>,
    state: Mutex<State>,
}

/// A token, for `Authorization`.
#[derive(Clone)]
pub(super) struct Bearer {
    pub(super) value: HeaderValue,
    /// Tells it from the one before.
    number: u64,
}

#[derive(Default)]
struct State {
    /// Where UAA gives tokens.
    endpoint: Option<Uri>,
    held: Option<Held>,
    /// How many there were so far.
    count: u64,
    failures: u32,
    /// Until then nobody asks UAA again, because of that.
    barred: Option<(Instant, Failed)>,
}

struct Held {
    bearer: Bearer,
    refresh: Option<Secret>,
    /// From then on another one is wanted.
    renew: Option<Instant>,
    /// From then on it is not used; before, it is better than none.
    ends: Option<Instant>,
}

/// What UAA answers.
#[derive(Deserialize)]
struct Grant {
    access_token: Secret,
    #[serde(default)]
    refresh_token: Option<Secret>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// `GET /` of version 3.
#[derive(Deserialize)]
struct Root {
    links: Links,
}

#[derive(Deserialize)]
struct Links {
    uaa: Option<Link>,
    login: Option<Link>,
}

#[derive(Deserialize)]
struct Link {
    href: String,
}

/// `GET /v2/info`.
#[derive(Deserialize)]
struct Info {
    token_endpoint: Option<String>,
    authorization_endpoint: Option<String>,
}

/// In front of a token.
const BEARER: &str = "bearer ";
/// How long before its end a token is renewed, at most; one that is shorter has a tenth of its life left.
const MARGIN: Duration = Duration::from_secs(60);
/// How long a token that is still good is used after a renewal that failed, before another is tried.
const RENEW_AGAIN: Duration = Duration::from_secs(10);
/// Waits between logins that fail. UAA locks a user out for some minutes after a few wrong passwords.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE_REFUSED: Duration = Duration::from_secs(300);

impl Bearer {
    /// The token alone, for whoever must not show it.
    pub(super) fn secret(&self) -> &str {
        let text = self.value.to_str().unwrap_or_default();
        text.strip_prefix(BEARER).unwrap_or(text)
    }
}

impl Session {
    pub(super) fn new(
        config: CloudFoundryConfig,
        base: Uri,
        client: Arc<Client>,
        events: Arc<Events>,
    ) -> Self {
        Self {
            config,
            base,
            client,
            events,
            state: Mutex::default(),
        }
    }

    /// The token to use now; gets one if there is none, or its time is nearly over.
    pub(super) async fn token(&self) -> Result<Bearer, Failed> {
        let mut state = self.state.lock().await;
        if let Some(held) = &state.held
            && held.renew.is_none_or(|renew| Instant::now() < renew)
        {
            return Ok(held.bearer.clone());
        }
        self.renew(&mut state).await
    }

    /// Another token than the one that the Cloud Controller has refused.
    pub(super) async fn instead_of(&self, refused: &Bearer) -> Result<Bearer, Failed> {
        let mut state = self.state.lock().await;
        if self.is_fixed() {
            let held = self.fixed(&mut state).await?;
            if held.bearer.value == refused.value {
                return Err(Failed::for_good(
                    "the token is refused, and is not renewed here",
                ));
            }
            let bearer = held.bearer.clone();
            state.held = Some(held);
            return Ok(bearer);
        }
        match &mut state.held {
            Some(held) if held.bearer.number != refused.number => return Ok(held.bearer.clone()),
            Some(held) => {
                held.renew = Some(Instant::now());
                held.ends = Some(Instant::now());
            }
            None => {}
        }
        self.renew(&mut state).await
    }

    /// A renewal that fails is no error while the old token is good.
    async fn renew(&self, state: &mut State) -> Result<Bearer, Failed> {
        let now = Instant::now();
        let barred = state.barred.as_ref().filter(|(until, _)| now < *until);
        let failed = match barred {
            Some((_, failed)) => failed.clone(),
            None => match self.obtain(state).await {
                Ok(held) => {
                    let bearer = held.bearer.clone();
                    state.held = Some(held);
                    state.failures = 0;
                    state.barred = None;
                    return Ok(bearer);
                }
                Err(failed) => {
                    // It may have moved.
                    state.endpoint = None;
                    let longest = match failed.again {
                        Again::Never => LONGEST_PAUSE_REFUSED,
                        _ => LONGEST_PAUSE,
                    };
                    let wait =
                        backoff::after(FIRST_PAUSE, longest, state.failures).max(failed.asked());
                    state.failures = state.failures.saturating_add(1);
                    state.barred = Some((Instant::now() + wait, failed.clone()));
                    failed
                }
            },
        };
        let now = Instant::now();
        match &mut state.held {
            Some(held) if held.ends.is_none_or(|ends| now < ends) => {
                held.renew = Some(now + RENEW_AGAIN);
                self.events.token_kept(&failed.why);
                Ok(held.bearer.clone())
            }
            _ => Err(failed),
        }
    }

    async fn obtain(&self, state: &mut State) -> Result<Held, Failed> {
        if self.is_fixed() {
            return self.fixed(state).await;
        }
        state.count += 1;
        let config = &self.config;
        let endpoint = match &state.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => state.endpoint.insert(self.discover().await?).clone(),
        };
        let client = if config.client_id.is_empty() {
            basic("cf", "")?
        } else {
            let secret = secret(&config.client_secret, config.client_secret_file.as_deref());
            basic(&config.client_id, secret.await?.expose())?
        };
        let refresh = state.held.as_ref().and_then(|held| held.refresh.clone());
        if let Some(refresh) = refresh {
            let form = [
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh.expose()),
            ];
            match self.grant(&endpoint, &client, &form, state.count).await {
                Ok(mut held) => {
                    held.refresh = held.refresh.or(Some(refresh));
                    return Ok(held);
                }
                // It has ended, or was revoked: from now on there is none.
                Err(failed) if matches!(failed.again, Again::Never) => {
                    if let Some(held) = &mut state.held {
                        held.refresh = None;
                    }
                }
                Err(failed) => return Err(failed),
            }
        }
        if !config.client_id.is_empty() {
            let form = [("grant_type", "client_credentials")];
            return self.grant(&endpoint, &client, &form, state.count).await;
        }
        let password = secret(&config.password, config.password_file.as_deref()).await?;
        let form = [
            ("grant_type", "password"),
            ("username", &config.user),
            ("password", password.expose()),
        ];
        self.grant(&endpoint, &client, &form, state.count).await
    }

    fn is_fixed(&self) -> bool {
        !self.config.token.is_empty() || self.config.token_file.is_some()
    }

    /// The token of the settings, as it is now.
    async fn fixed(&self, state: &mut State) -> Result<Held, Failed> {
        state.count += 1;
        let token = secret(&self.config.token, self.config.token_file.as_deref()).await?;
        Ok(Held {
            bearer: bearer(&token, state.count)?,
            refresh: None,
            renew: None,
            ends: None,
        })
    }

    /// Asks UAA for a token.
    async fn grant(
        &self,
        endpoint: &Uri,
        client: &HeaderValue,
        form: &[(&str, &str)],
        number: u64,
    ) -> Result<Held, Failed> {
        let encoded = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let reply = self.client.post(endpoint.clone(), client.clone(), encoded);
        let granted = self.reply("token", reply.await);
        let granted = granted.and_then(|reply| {
            let status = reply.status.as_u16();
            if status == 200 {
                return held(&reply, number);
            }
            // UAA repeats nothing of a form, others on the way may.
            let secrets: Vec<&str> = form.iter().skip(1).map(|(_, value)| *value).collect();
            let why = format!("UAA {}", reply.said(&secrets));
            Err(Failed {
                why,
                again: match reply.retry_after() {
                    Some(wait) if status == 429 || status >= 500 => Again::After(wait),
                    _ if status == 429 || status >= 500 => Again::Soon,
                    _ => Again::Never,
                },
            })
        });
        self.events.token(match &granted {
            Ok(_) => "ok",
            Err(failed) if matches!(failed.again, Again::Never) => "refused",
            Err(_) => "failed",
        });
        granted
    }

    /// Asks the API where UAA is.
    async fn discover(&self) -> Result<Uri, Failed> {
        let path = if self.config.api_version == 2 {
            "/v2/info"
        } else {
            "/"
        };
        let reply = self.client.get(on(&self.base, path)?, None).await;
        let reply = self.reply("info", reply)?;
        if reply.status != 200 {
            return Err(Failed::soon(format!("{path}: {}", reply.said(&[]))));
        }
        let garbage = |error| Failed::soon(format!("{path} names no UAA: {error}"));
        let named = if self.config.api_version == 2 {
            let info: Info = serde_json::from_slice(&reply.body).map_err(garbage)?;
            info.token_endpoint.or(info.authorization_endpoint)
        } else {
            let Root { links } = serde_json::from_slice(&reply.body).map_err(garbage)?;
            links.uaa.or(links.login).map(|link| link.href)
        };
        let named = named.ok_or_else(|| Failed::soon(format!("{path} names no UAA")))?;
        let endpoint = format!("{}/oauth/token", named.trim_end_matches('/'));
        let unusable = || Failed::soon(format!("{path} names a UAA that cannot be asked: {named}"));
        let uri: Uri = endpoint.parse().map_err(|_| unusable())?;
        // Secrets that are encrypted on their way to the API are not sent in the clear to UAA.
        let base = self.base.scheme_str();
        match uri.scheme_str() {
            Some("https") if base == Some("https") => Ok(uri),
            Some("http") if base == Some("http") => Ok(uri),
            _ => Err(unusable()),
        }
    }

    fn reply(
        &self,
        endpoint: &'static str,
        reply: Result<Reply, NoReply>,
    ) -> Result<Reply, Failed> {
        let outcome = reply.as_ref().map(|reply| reply.status);
        self.events.request(endpoint, outcome);
        let who = if endpoint == "token" {
            "UAA"
        } else {
            "the API"
        };
        reply.map_err(|error| Failed::soon(format!("{who} {error}")))
    }
}

/// What UAA has answered.
fn held(reply: &Reply, number: u64) -> Result<Held, Failed> {
    // Not serde's words: they can quote the body, and with it the token.
    let garbage = |_| Failed::soon("UAA's answer is not the JSON of a token");
    let grant: Grant = serde_json::from_slice(&reply.body).map_err(garbage)?;
    let lifetime = grant.expires_in.map(Duration::from_secs);
    let now = Instant::now();
    let after = |span: Duration| now.checked_add(span);
    Ok(Held {
        bearer: bearer(&grant.access_token, number)?,
        refresh: grant.refresh_token.filter(|token| !token.is_empty()),
        renew: lifetime.map(usable).and_then(after),
        ends: lifetime.and_then(after),
    })
}

fn bearer(token: &Secret, number: u64) -> Result<Bearer, Failed> {
    let unusable = || Failed::for_good("the token is empty, or holds what a header cannot");
    if token.is_empty() {
        return Err(unusable());
    }
    let text = format!("{BEARER}{}", token.expose());
    let mut value = HeaderValue::try_from(text).map_err(|_| unusable())?;
    value.set_sensitive(true);
    Ok(Bearer { value, number })
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Failed> {
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let value = HeaderValue::try_from(text);
    let mut value = value.map_err(|_| Failed::for_good("the login cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// How long a token is used before it is renewed.
fn usable(lifetime: Duration) -> Duration {
    lifetime - MARGIN.min(lifetime / 10)
}

/// A secret that is given, or that stands in a file.
async fn secret(given: &Secret, file: Option<&Path>) -> Result<Secret, Failed> {
    let Some(file) = file else {
        return Ok(given.clone());
    };
    let read = secret_file::read(file).await;
    read.map_err(|error| Failed::soon(format!("{}: {error}", file.display())))
}

/// A path of the same host.
pub(super) fn on(base: &Uri, path_and_query: &str) -> Result<Uri, Failed> {
    let mut parts = base.clone().into_parts();
    let path = path_and_query.parse();
    let wrong = |why: String| Failed::for_good(format!("{path_and_query}: {why}"));
    parts.path_and_query =
        Some(path.map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?);
    Uri::from_parts(parts).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_ends() {
        let second = Duration::from_secs(1);
        assert_eq!(usable(599 * second), 599 * second - 599 * second / 10);
        assert_eq!(usable(12 * 3600 * second), (12 * 3600 - 60) * second);
        assert!(usable(Duration::from_nanos(1)) <= Duration::from_nanos(1));
    }

    #[tokio::test]
    async fn a_file_without_a_secret_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        let given = Secret::new("given");
        assert_eq!(secret(&given, None).await.unwrap().expose(), "given");
        for text in [None, Some("\n")] {
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let failed = secret(&given, Some(&file)).await.unwrap_err();
            assert!(failed.why.contains("password: "), "{failed}");
        }
        std::fs::write(&file, "p4ss\n").unwrap();
        assert_eq!(secret(&given, Some(&file)).await.unwrap().expose(), "p4ss");
    }
}
