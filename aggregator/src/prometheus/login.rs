//! Logins in a request's `Authorization`, with the keys that Prometheus and Veneur have for them.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::config::Secret;

use crate::secret_file;

/// A user and a password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// The password. Better a `password_file`.
    pub password: Secret,
    /// A file whose first line is the password; it is read for each request, so that it can be changed at any time. Default: none.
    pub password_file: PathBuf,
}

/// A scheme and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    /// The scheme. Default: `Bearer`.
    pub r#type: String,
    /// The token. Better a `credentials_file`.
    pub credentials: Secret,
    /// A file whose first line is the token; it is read for each request, so that it can be changed at any time. Default: none.
    pub credentials_file: PathBuf,
}

impl Default for Authorization {
    fn default() -> Self {
        Self {
            r#type: "Bearer".to_owned(),
            credentials: Secret::default(),
            credentials_file: PathBuf::new(),
        }
    }
}

/// What goes into `Authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    scheme: Scheme,
    secret: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    Basic(String),
    Other(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Given(Secret),
    File(PathBuf),
}

/// A header, and the secret in it, which nobody else is to see.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) header: HeaderValue,
    pub(crate) secret: Secret,
}

impl Login {
    /// What the settings ask for, if they do; at most one of both may be set.
    pub(crate) fn new(basic: Option<&BasicAuth>, other: Option<&Authorization>) -> Option<Self> {
        if let Some(basic) = basic {
            return Some(Self {
                scheme: Scheme::Basic(basic.username.clone()),
                secret: Source::of(&basic.password, &basic.password_file),
            });
        }
        other.map(|other| Self {
            scheme: Scheme::Other(other.r#type.clone()),
            secret: Source::of(&other.credentials, &other.credentials_file),
        })
    }

    /// What is wrong, each text with its key.
    pub(crate) fn problems(
        basic: Option<&BasicAuth>,
        other: Option<&Authorization>,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        if basic.is_some() && other.is_some() {
            problems.push("authorization: is set, and `basic_auth` as well".to_owned());
        }
        if let Some(basic) = basic {
            if basic.username.is_empty() || basic.username.contains(':') {
                problems.push("basic_auth.username: is empty or has a `:`".to_owned());
            }
            let file = &basic.password_file;
            problems.extend(one_of("basic_auth.password", &basic.password, file));
        }
        if let Some(other) = other {
            if other.r#type.is_empty() || other.r#type.contains(char::is_whitespace) {
                problems.push("authorization.type: is no scheme".to_owned());
            }
            let file = &other.credentials_file;
            problems.extend(one_of(
                "authorization.credentials",
                &other.credentials,
                file,
            ));
        }
        problems
    }

    /// The header of a request made now. The error names no secret.
    pub(crate) async fn credentials(&self) -> Result<Credentials, String> {
        let secret = match &self.secret {
            Source::Given(secret) => secret.clone(),
            Source::File(path) => {
                let read = secret_file::read_first_line(path).await;
                read.map_err(|error| unread(path, &error))?
            }
        };
        let text = match &self.scheme {
            Scheme::Basic(user) => {
                let both = format!("{user}:{}", secret.expose());
                format!("Basic {}", STANDARD.encode(both))
            }
            Scheme::Other(scheme) => format!("{scheme} {}", secret.expose()),
        };
        let mut header = HeaderValue::try_from(text)
            .map_err(|_| "the credentials hold characters that no header can".to_owned())?;
        header.set_sensitive(true);
        Ok(Credentials { header, secret })
    }
}

impl Source {
    fn of(secret: &Secret, file: &Path) -> Self {
        match file.as_os_str().is_empty() {
            true => Self::Given(secret.clone()),
            false => Self::File(file.to_owned()),
        }
    }
}

fn unread(file: &Path, error: &io::Error) -> String {
    format!("{}: {error}", file.display())
}

/// The secret, given or in a file.
pub(crate) fn read_secret(given: &Secret, file: &Path) -> Result<Secret, String> {
    match file.as_os_str().is_empty() {
        true => Ok(given.clone()),
        false => {
            let read = secret_file::read_first_line_blocking(file);
            read.map_err(|error| unread(file, &error))
        }
    }
}

/// What is wrong with a secret that is to be given either itself or by its file.
pub(crate) fn one_of(key: &str, secret: &Secret, file: &Path) -> Option<String> {
    match (secret.is_empty(), file.as_os_str().is_empty()) {
        (true, true) => Some(format!("{key}: neither it nor its `_file` is set")),
        (false, false) => Some(format!("{key}: is set, and its `_file` as well")),
        (true, false) => read_secret(secret, file)
            .err()
            .map(|error| format!("{key}_file: {error}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_for_each_request() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let settings = Authorization {
            credentials_file: file.path().to_owned(),
            ..Authorization::default()
        };
        let login = Login::new(None, Some(&settings)).unwrap();
        assert!(login.credentials().await.unwrap_err().contains("is empty"));
        std::fs::write(file.path(), "t0k\n").unwrap();
        assert_eq!(login.credentials().await.unwrap().header, "Bearer t0k");
        std::fs::write(file.path(), "t1k").unwrap();
        assert_eq!(login.credentials().await.unwrap().header, "Bearer t1k");
    }

    #[tokio::test]
    async fn a_password_goes_out_as_basic() {
        let settings = BasicAuth {
            username: "Aladdin".to_owned(),
            password: Secret::new("open sesame"),
            ..BasicAuth::default()
        };
        let login = Login::new(Some(&settings), None).unwrap();
        // RFC 7617's own example.
        let expected = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(login.credentials().await.unwrap().header, expected);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        let basic = BasicAuth::default();
        let other = Authorization {
            credentials: Secret::new("a"),
            credentials_file: "/nowhere".into(),
            ..Authorization::default()
        };
        assert_eq!(
            Login::problems(Some(&basic), Some(&other)),
            [
                "authorization: is set, and `basic_auth` as well",
                "basic_auth.username: is empty or has a `:`",
                "basic_auth.password: neither it nor its `_file` is set",
                "authorization.credentials: is set, and its `_file` as well",
            ]
        );
    }
}
