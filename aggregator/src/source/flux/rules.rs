//! What a metric has to be like: name, timestamp, value. The reasons are Flux's words.

use std::borrow::Cow;

use super::json::Json;

/// The longest file name that a Graphite server's disk takes, and the longest path.
const LONGEST_ELEMENT: usize = 255;
const LONGEST_PATH: usize = 4096;
/// What whisper adds to a name.
const SUFFIX: usize = ".wsp".len();
/// How far ahead of ours a peer's clock may be, in seconds.
const AHEAD: i64 = 60;

/// The bounds that the configuration sets.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// The oldest timestamp taken, in seconds before now.
    pub(super) max_age: i64,
    /// Where Graphite keeps its files: names are bounded by the path that they make.
    pub(super) whisper_path: String,
    /// Whether names are repaired rather than refused.
    pub(super) repair_names: bool,
}

impl Rules {
    /// Why a full name cannot be one, if so.
    pub(super) fn name(&self, name: &str) -> Result<(), &'static str> {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-%._/=:".contains(byte);
        if name.is_empty() || !name.as_bytes().iter().all(allowed) {
            return Err("invalid characters in name");
        }
        let element = name.rsplit('.').next().unwrap_or_default();
        if element.len() + SUFFIX > LONGEST_ELEMENT {
            return Err("longer than 255 characters");
        }
        if self.whisper_path.len() + 1 + name.len() + SUFFIX > LONGEST_PATH {
            return Err("name too long");
        }
        Ok(())
    }

    /// A name as it is judged: repaired where that is asked for.
    pub(super) fn repaired<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match self.repair_names {
            true => repaired(name),
            false => Cow::Borrowed(name),
        }
    }

    /// A timestamp in seconds. With `fill` its age does not matter.
    pub(super) fn timestamp(&self, given: Given<'_>, now: i64, fill: bool) -> Result<i64, String> {
        let seconds = given.integer().ok_or("timestamp is not an int")?;
        let invalid = || "timestamp is not a valid current unix timestamp".to_owned();
        let seconds = i64::try_from(seconds).map_err(|_| invalid())?;
        if fill && (0..10_000_000_000).contains(&seconds) {
            return Ok(seconds);
        }
        if !(1_000_000_000..10_000_000_000).contains(&seconds) {
            return Err(invalid());
        }
        if seconds < now - self.max_age {
            return Err(format!(
                "timestamp is too old, older than {} seconds",
                self.max_age
            ));
        }
        if seconds > now + AHEAD {
            return Err("timestamp is more than 1 minute in the future".to_owned());
        }
        Ok(seconds)
    }
}

/// Blanks, `*` and `'` as underscores, and one dot for several: what later versions of Flux do.
pub(super) fn repaired(name: &str) -> Cow<'_, str> {
    let odd = |c: char| c.is_whitespace() || matches!(c, '*' | '\'');
    if !name.contains(odd) && !name.contains("..") {
        return Cow::Borrowed(name);
    }
    let mut clean = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '.' if clean.ends_with('.') => {}
            c if odd(c) => clean.push('_'),
            c => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

/// A value as a peer gave it: the text of a parameter, or JSON.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given<'a> {
    Text(&'a str),
    Json(&'a Json),
}

impl<'a> Given<'a> {
    /// The text, or else the JSON that is none.
    fn text(self) -> Result<&'a str, &'a Json> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Json(Json::Text(text)) => Ok(text),
            Self::Json(other) => Err(other),
        }
    }

    /// The whole number that it is, or is the text of. Toward zero, as Python's `int` does.
    fn integer(self) -> Option<i128> {
        match self.text() {
            Ok(text) => text.trim().parse().ok(),
            Err(Json::Integer(value)) => Some(*value),
            Err(Json::Float(value)) => Some(value.trunc() as i128),
            Err(Json::Bool(value)) => Some(i128::from(*value)),
            Err(_) => None,
        }
    }

    /// The finite number that it is, or is the text of.
    pub(super) fn value(self) -> Option<f64> {
        let value = match self.text() {
            Ok(text) => text.trim().parse().ok()?,
            Err(Json::Integer(value)) => *value as f64,
            Err(Json::Float(value)) => *value,
            Err(Json::Bool(value)) => f64::from(u8::from(*value)),
            Err(_) => return None,
        };
        value.is_finite().then_some(value)
    }

    /// Whether it says yes: `true`, as text in any case or as a boolean.
    pub(super) fn is_true(self) -> bool {
        match self.text() {
            Ok(text) => text.eq_ignore_ascii_case("true"),
            Err(json) => *json == Json::Bool(true),
        }
    }
}

impl std::fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.text() {
            Ok(text) => f.write_str(text),
            Err(json) => write!(f, "{json}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_177_685;

    fn rules() -> Rules {
        Rules {
            max_age: 3600,
            whisper_path: "/opt/graphite/storage/whisper".to_owned(),
            repair_names: false,
        }
    }

    #[test]
    fn names_have_allowed_characters_and_fit_into_a_path() {
        let rules = rules();
        assert_eq!(rules.name("a+b-c%d.e_f/g=h:9"), Ok(()));
        for bad in ["", "a b", "a;b", "a{b", "caf\u{e9}", "a\n"] {
            assert_eq!(
                rules.name(bad),
                Err("invalid characters in name"),
                "{bad:?}"
            );
        }
        assert_eq!(rules.name(&format!("a.{}", "x".repeat(251))), Ok(()));
        let long = rules.name(&format!("a.{}", "x".repeat(252)));
        assert_eq!(long, Err("longer than 255 characters"));
        let room = LONGEST_PATH - SUFFIX - 1 - rules.whisper_path.len();
        let name = "x.".repeat(room);
        assert_eq!(rules.name(&name[..room]), Ok(()));
        assert_eq!(rules.name(&name[..=room]), Err("name too long"));
    }

    #[test]
    fn timestamps_are_judged_in_order() {
        let rules = rules();
        let judge = |text: &str| rules.timestamp(Given::Text(text), NOW, false);
        let now = NOW.to_string();
        assert_eq!(judge(&now), Ok(NOW));
        for (bad, reason) in [
            ("1.5", "timestamp is not an int"),
            ("", "timestamp is not an int"),
            ("123", "timestamp is not a valid current unix timestamp"),
            (
                "1795177685000",
                "timestamp is not a valid current unix timestamp",
            ),
            (
                "-1795177685",
                "timestamp is not a valid current unix timestamp",
            ),
            (
                "99999999999999999999999",
                "timestamp is not a valid current unix timestamp",
            ),
            (
                "1795174084",
                "timestamp is too old, older than 3600 seconds",
            ),
            (
                "1795177746",
                "timestamp is more than 1 minute in the future",
            ),
        ] {
            assert_eq!(judge(bad), Err(reason.to_owned()), "{bad}");
        }
        assert_eq!(judge("1795174085"), Ok(1_795_174_085), "the oldest");
        assert_eq!(judge("1795177745"), Ok(1_795_177_745), "the newest");
    }

    #[test]
    fn fill_takes_any_time_but_no_milliseconds() {
        let rules = rules();
        let judge = |text: &str| rules.timestamp(Given::Text(text), NOW, true).ok();
        assert_eq!(judge("0"), Some(0));
        assert_eq!(judge("9999999999"), Some(9_999_999_999));
        assert_eq!(judge("1795177685000"), None);
        assert_eq!(judge("-1"), None);
        assert_eq!(judge("x"), None);
    }

    #[test]
    fn values_are_finite_numbers_or_their_text() {
        for (json, value) in [
            ("0", Some(0.0)),
            ("true", Some(1.0)),
            ("\" 2.5 \"", Some(2.5)),
            ("1e3", Some(1000.0)),
            ("18446744073709551615", Some(1.844_674_407_370_955_2e19)),
            ("null", None),
            ("[1]", None),
            ("\"abc\"", None),
            ("\"nan\"", None),
            ("\"inf\"", None),
        ] {
            let parsed: Json = serde_json::from_str(json).unwrap();
            assert_eq!(Given::Json(&parsed).value(), value, "{json}");
        }
    }

    #[test]
    fn repaired_names_are_what_later_versions_make() {
        assert_eq!(repaired("a b..c*d"), "a_b.c_d");
        assert_eq!(repaired("a.b"), "a.b");
    }
}
