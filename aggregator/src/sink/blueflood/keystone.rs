//! Identity v2.0 and v3: what a login says, and what the answer to it means.
//!
//! v2.0 with an API key is Rackspace's extension `RAX-KSKEY`; with a password it is OpenStack's, until Queens (2018).

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use serde::Deserialize;
use serde_json::{Value, json};
use tributary_node::config::Secret;

use super::config::{KeystoneConfig, Version};
use crate::secret_file;
use crate::sink::http::{NoReply, Reply};

/// What a login has brought.
#[derive(Clone)]
pub(super) struct Token {
    /// For `X-Auth-Token`; marked as sensitive.
    pub(super) id: HeaderValue,
    /// For `X-Tenant-Id`, where the token is for a tenant.
    pub(super) tenant: Option<HeaderValue>,
    /// How long it is good for from now on, by Keystone's word and our clock.
    pub(super) lifetime: Option<Duration>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    /// The file with the key or the password.
    #[error("{file}: {error}")]
    File { file: String, error: io::Error },
    /// No answer.
    #[error("Keystone {0}")]
    NoReply(#[from] NoReply),
    /// It says no, or is not well.
    #[error("Keystone {said}")]
    Refused {
        status: u16,
        said: String,
        retry_after: Option<Duration>,
    },
    /// Success without a token.
    #[error("Keystone's answer has no token that can be used: {0}")]
    Unreadable(String),
}

impl LoginError {
    /// As in the label `outcome`.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::NoReply(NoReply::Timeout(_)) => "timeout",
            Self::NoReply(_) => "unreachable",
            Self::Refused { status, .. } if *status >= 500 => "unavailable",
            Self::Refused { status: 429, .. } => "throttled",
            Self::Refused { .. } => "refused",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// What Keystone wants us to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl KeystoneConfig {
    /// Reads the key or the password, as it is now.
    pub(super) async fn secret(&self) -> Result<Secret, LoginError> {
        let file = self.key_file.as_deref().or(self.password_file.as_deref());
        let file = file.unwrap_or(Path::new(""));
        secret_file::read(file)
            .await
            .map_err(|error| LoginError::File {
                file: file.display().to_string(),
                error,
            })
    }

    /// The body of a login.
    pub(super) fn login(&self, secret: &Secret) -> Value {
        let (user, secret) = (&self.user, secret.expose());
        match self.version {
            Version::V2 if self.key_file.is_some() => json!({"auth": {
                "RAX-KSKEY:apiKeyCredentials": {"username": user, "apiKey": secret},
            }}),
            Version::V2 => {
                let mut auth = json!({
                    "passwordCredentials": {"username": user, "password": secret},
                });
                for (key, value) in [
                    ("tenantName", &self.tenant_name),
                    ("tenantId", &self.tenant_id),
                ] {
                    if !value.is_empty() {
                        auth[key] = json!(value);
                    }
                }
                json!({"auth": auth})
            }
            Version::V3 => {
                let user =
                    json!({"name": user, "domain": {"name": self.user_domain}, "password": secret});
                let mut auth = json!({
                    "identity": {"methods": ["password"], "password": {"user": user}},
                });
                if !self.project.is_empty() {
                    let domain = json!({"name": self.project_domain});
                    auth["scope"] = json!({"project": {"name": self.project, "domain": domain}});
                }
                json!({"auth": auth})
            }
        }
    }

    /// What Keystone has answered.
    pub(super) fn token(&self, reply: &Reply, secret: &Secret) -> Result<Token, LoginError> {
        if !reply.status.is_success() {
            return Err(LoginError::Refused {
                status: reply.status.as_u16(),
                said: reply.said(&[secret.expose()]),
                retry_after: reply.retry_after(),
            });
        }
        // Not serde's words: they can quote the body, and with it the token.
        let garbage = |_| LoginError::Unreadable("it is not the JSON of a token".to_owned());
        let (id, tenant, expires) = match self.version {
            Version::V2 => {
                let V2 { access } = serde_json::from_slice(&reply.body).map_err(garbage)?;
                let token = access.token;
                let id = HeaderValue::from_str(&token.id).ok();
                (id, token.tenant, token.expires)
            }
            Version::V3 => {
                let V3 { token } = serde_json::from_slice(&reply.body).map_err(garbage)?;
                let id = reply.headers.get("x-subject-token").cloned();
                (id, token.project, token.expires_at)
            }
        };
        let mut id = id
            .filter(|id| !id.is_empty())
            .ok_or_else(|| LoginError::Unreadable("there is none in it".to_owned()))?;
        id.set_sensitive(true);
        let tenant = tenant.and_then(|tenant| HeaderValue::from_str(&tenant.id).ok());
        let lifetime = expires.and_then(|expires| lifetime(&expires, SystemTime::now()));
        Ok(Token {
            id,
            tenant,
            lifetime,
        })
    }
}

#[derive(Deserialize)]
struct V2 {
    access: Access,
}

#[derive(Deserialize)]
struct Access {
    token: TokenV2,
}

#[derive(Deserialize)]
struct TokenV2 {
    id: String,
    expires: Option<String>,
    tenant: Option<Tenant>,
}

#[derive(Deserialize)]
struct Tenant {
    id: String,
}

#[derive(Deserialize)]
struct V3 {
    token: TokenV3,
}

#[derive(Deserialize)]
struct TokenV3 {
    expires_at: Option<String>,
    project: Option<Tenant>,
}

/// How long it is until a time, as ISO 8601 with `Z` or an offset. `None` if that is past: then a clock is wrong, and nothing can be said.
fn lifetime(expires: &str, now: SystemTime) -> Option<Duration> {
    let expires: jiff::Timestamp = expires.trim().parse().ok()?;
    let left = SystemTime::from(expires).duration_since(now).ok()?;
    (!left.is_zero()).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        lifetime(text, now).map(|left| left.as_secs())
    }

    #[test]
    fn the_time_of_expiry_is_read_as_the_versions_of_keystone_write_it() {
        assert_eq!(seconds("2023-11-14T22:13:30Z"), Some(10));
        assert_eq!(seconds("2023-11-14T22:13:30.500000Z"), Some(10));
        assert_eq!(seconds("2023-11-14T16:13:40.000-06:00"), Some(20));
        assert_eq!(seconds("2023-11-14T22:13:20Z"), None, "now");
        assert_eq!(seconds("2012-04-13T13:15:00Z"), None, "past");
        assert_eq!(seconds("tomorrow"), None);
    }
}
