//! What a question says, in its URL, its body or both.

use super::super::query::QueryError;

/// A body that is longer is refused.
const LONGEST: usize = 1024 * 1024;

/// Parameters of one question.
const MOST: usize = 2000;

/// The parameters of a question; of two with one name the later counts, and one of the body is later than those of the URL.
#[derive(Debug, Default)]
pub(super) struct Form {
    parameters: Vec<(String, String)>,
    accept: Option<String>,
}

impl Form {
    pub(super) fn read(query: &str, body: &[u8], accept: Option<&str>) -> Result<Self, QueryError> {
        if body.len() > LONGEST {
            return Err(QueryError::bad(format!(
                "a body of {} bytes is too long, at most {LONGEST} are taken",
                body.len()
            )));
        }
        let both = form_urlencoded::parse(query.as_bytes()).chain(form_urlencoded::parse(body));
        let parameters: Vec<_> = both
            .take(MOST + 1)
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        if parameters.len() > MOST {
            return Err(QueryError::bad(format!("more than {MOST} parameters")));
        }
        Ok(Self {
            parameters,
            accept: accept.map(str::to_owned),
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let mut own = self.parameters.iter().rev();
        own.find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let own = self.parameters.iter().filter(move |(name, _)| name == key);
        own.map(|(_, value)| value.as_str())
    }

    /// A number that switches something on; off where it is missing.
    pub(super) fn truth(&self, key: &str) -> Result<bool, QueryError> {
        let Some(value) = self.get(key) else {
            return Ok(false);
        };
        let number: Result<i64, _> = value.trim().parse();
        let wrong = |_| QueryError::bad(format!("Invalid int value '{value}' for param {key}"));
        number.map(|number| number != 0).map_err(wrong)
    }

    /// The function that a script wants to be called with the answer.
    pub(super) fn callback(&self) -> Result<Option<&str>, QueryError> {
        let Some(name) = self.get("jsonp").filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        // Nothing else may be run by it.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
        if name.len() > 200 || !name.chars().all(plain) {
            return Err(QueryError::bad("jsonp is not the name of a function"));
        }
        Ok(Some(name))
    }

    /// Whether whoever asks takes JSON with other than ASCII characters, as Graphite sees it.
    pub(super) fn takes_unicode(&self) -> bool {
        self.accept
            .as_deref()
            .is_some_and(|accept| accept != "application/json")
    }
}
