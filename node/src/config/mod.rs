//! Configuration: YAML in, a typed struct out, and every problem at once.
//!
//! A program describes its settings as one struct that implements [`Settings`]; its doc comments are the manual
//! ([`document`]). [`load`] reads the file, lays the environment over it, compares it with the struct's schema and
//! builds the struct.
//!
//! What always holds:
//! - a key that the struct does not know is a problem, at any depth, and the problem names the nearest known key;
//! - one wrong value does not hide another: each is reported with its key and the offending value;
//! - no file, an empty file and a `null` all mean the default;
//! - a secret's value appears in no problem, no log and no output.

mod alias;
mod document;
mod duration;
mod environment;
mod one_or_many;
mod problems;
mod secret;
mod shape;
mod size;
mod typed;
mod unknown;

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use document::{document, document_schema};
pub use duration::{Duration, DurationError};
pub use environment::{Environment, Prefixes};
pub use one_or_many::OneOrMany;
pub use problems::{Problem, Problems};
pub use secret::{REDACTED, Secret, redacted, sounds_secret};
pub use size::{Size, SizeError};

use shape::Shape;

/// A program's settings: the struct that a config file fills.
///
/// Derive `Serialize`, `Deserialize` and `JsonSchema`, put `#[serde(default)]` on the struct, and write the manual as
/// its fields' doc comments. Do not use `#[serde(flatten)]`, `#[serde(alias)]` or untagged enums in it: they hide the
/// place of a wrong value; [`Settings::aliases`] and [`OneOrMany`] stand in for them.
pub trait Settings: Serialize + DeserializeOwned + JsonSchema + Default {
    /// Adds what the types alone cannot tell: values out of range, keys that exclude or need each other.
    ///
    /// It sees the struct with every wrongly typed value at its default; what it says about such keys is left out.
    fn check(&self, problems: &mut Problems);

    /// Other names of keys, as dotted paths: `("discovery_interval", "consul_refresh_interval")`.
    fn aliases() -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Keys that are accepted and do nothing, as dotted paths, each with the reason. Using one is a warning.
    fn ignored() -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

/// What [`load`] returns when nothing is wrong.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The settings.
    pub settings: T,
    /// What is worth telling and stops nothing, one sentence each.
    pub warnings: Vec<String>,
}

/// Reads the settings from `path` (no path: the defaults) with `environment` laid over them.
///
/// # Errors
/// All that is wrong, each with its key: see [`Problems`].
pub fn load<T: Settings>(
    path: Option<&Path>,
    environment: &Environment,
) -> Result<Loaded<T>, Problems> {
    let Some(path) = path else {
        return build("settings", Map::new(), environment);
    };
    let source = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&source, &text, environment),
        Err(error) => Err(Problems::one(
            &source,
            "",
            &format!("cannot be read: {error}"),
        )),
    }
}

/// Reads the settings from `text`, which problems call `source`.
///
/// # Errors
/// All that is wrong, each with its key: see [`Problems`].
pub fn parse<T: Settings>(
    source: &str,
    text: &str,
    environment: &Environment,
) -> Result<Loaded<T>, Problems> {
    let document = match yaml(text) {
        Ok(Value::Null) => Map::new(),
        Ok(Value::Object(document)) => document,
        Ok(other) => {
            let what = format!("expected keys with values, got {}", problems::shown(&other));
            return Err(Problems::one(source, "", &what));
        }
        Err(error) => {
            let place = match error.location() {
                Some(at) => format!("{source}:{}:{}", at.line(), at.column()),
                None => source.to_owned(),
            };
            return Err(Problems::one(&place, "", &yaml_error_text(&error)));
        }
    };
    build(source, document, environment)
}

fn build<T: Settings>(
    source: &str,
    document: Map<String, Value>,
    environment: &Environment,
) -> Result<Loaded<T>, Problems> {
    let shape = Shape::of::<T>();
    let mut document = Value::Object(document);
    let mut problems = Problems::new(source);
    let mut warnings = Vec::new();
    let mut blame: BTreeMap<String, String> = BTreeMap::new();

    alias::rewrite(&mut document, T::aliases(), &mut problems);
    environment.overlay(
        &mut document,
        &shape,
        T::aliases(),
        &mut blame,
        &mut warnings,
        &mut problems,
    );
    alias::drop_ignored(&mut document, T::ignored(), &mut warnings);
    unknown::remove_unknown_and_null(&mut document, &shape, &mut problems);
    if let Some(settings) = typed::build::<T>(document, &shape, &mut problems) {
        let mut further = Problems::new(source);
        settings.check(&mut further);
        problems.add_unless_known(further);
        if problems.is_empty() {
            return Ok(Loaded { settings, warnings });
        }
    }
    problems.blame(&blame);
    Err(problems)
}

/// Parses YAML strictly: duplicate keys are refused, only `true` and `false` are booleans.
fn yaml(text: &str) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// The parser's words on one line, without the place, which stands in front already.
pub(crate) fn yaml_error_text(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = match (error.location(), text.rfind(" at line ")) {
        (Some(_), Some(at)) => text.get(..at).unwrap_or(&text).to_owned(),
        _ => text,
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
