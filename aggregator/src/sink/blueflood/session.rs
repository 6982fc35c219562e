//! The login: when it is made, and how long its token is used.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use tokio::time::Instant;

use super::config::KeystoneConfig;
use super::happened::Events;
use super::keystone::{LoginError, Token};
use crate::sink::http::Client;

/// A token that all requests share. It is got when the first one needs it, renewed some time before it ends, and given up when Blueflood refuses it.
pub(super) struct Session {
    config: KeystoneConfig,
    client: Client,
    held: Option<Held>,
}

struct Held {
    token: Token,
    /// From then on another one is wanted.
    renew: Option<Instant>,
    /// From then on it is not used; before, it is better than none.
    ends: Option<Instant>,
}

/// How long before its end a token is renewed, at most; one that is shorter has a tenth of its life left.
const MARGIN: Duration = Duration::from_secs(300);
/// How long a token that is still good is used after a renewal that failed, before another is tried.
const RENEW_AGAIN: Duration = Duration::from_secs(30);

impl Session {
    pub(super) fn new(config: KeystoneConfig, client: Client) -> Self {
        Self {
            config,
            client,
            held: None,
        }
    }

    /// The token to use now; logs in if there is none, or its time is nearly over. A renewal that fails is no error while the old token is good.
    pub(super) async fn token(&mut self, events: &Events) -> Result<Token, LoginError> {
        if let Some(held) = &self.held
            && held.renew.is_none_or(|renew| Instant::now() < renew)
        {
            return Ok(held.token.clone());
        }
        match (self.login(events).await, &mut self.held) {
            (Ok(token), _) => Ok(token),
            (Err(error), Some(held)) if held.ends.is_none_or(|ends| Instant::now() < ends) => {
                held.renew = Some(Instant::now() + RENEW_AGAIN);
                events.login_failed(&error);
                Ok(held.token.clone())
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Logs in anew, because Blueflood does not take the token.
    pub(super) async fn renew(&mut self, events: &Events) -> Result<Token, LoginError> {
        self.held = None;
        self.login(events).await
    }

    async fn login(&mut self, events: &Events) -> Result<Token, LoginError> {
        let result = self.ask().await;
        events.login(result.as_ref().err());
        let token = result?;
        let now = Instant::now();
        let after = |span: Duration| now.checked_add(span);
        self.held = Some(Held {
            renew: token.lifetime.map(usable).and_then(after),
            ends: token.lifetime.and_then(after),
            token: token.clone(),
        });
        Ok(token)
    }

    async fn ask(&self) -> Result<Token, LoginError> {
        let secret = self.config.secret().await?;
        let body = Bytes::from(self.config.login(&secret).to_string());
        let no_headers: [(HeaderName, _); 0] = [];
        let reply = self.client.post(body, no_headers).await?;
        self.config.token(&reply, &secret)
    }
}

/// How long a token is used before it is renewed.
fn usable(lifetime: Duration) -> Duration {
    lifetime - MARGIN.min(lifetime / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_ends() {
        let minute = Duration::from_secs(60);
        assert_eq!(usable(24 * 60 * minute), (24 * 60 - 5) * minute);
        assert_eq!(usable(10 * minute), 9 * minute);
        assert!(usable(Duration::from_nanos(1)) <= Duration::from_nanos(1));
    }
}
