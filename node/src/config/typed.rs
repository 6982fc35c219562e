//! From a document to the settings struct, with every value of a wrong type told, not the first alone.
//!
//! Deserialising stops at the first wrong value. So the offender is noted, taken out (its default takes its place),
//! and the rest is tried again, until all that is left fits.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::problems::{Problems, shown};
use super::secret::sounds_secret;
use super::shape::Shape;

// Each round takes one value out; a file with more wrong values than this has been told enough.
const MOST: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Builds the struct from what fits, adding a problem for each value that does not; `None` where nothing would fit.
pub(super) fn build<T: DeserializeOwned>(
    mut document: Value,
    shape: &Shape,
    problems: &mut Problems,
) -> Option<T> {
    let mut gone: Vec<Vec<Step>> = Vec::new();
    for _ in 0..MOST {
        let error = match serde_path_to_error::deserialize::<_, T>(&document) {
            Ok(settings) => return Some(settings),
            Err(error) => error,
        };
        let path = steps(error.path(), &document);
        let text = error.into_inner().to_string();
        let place = original(&path, &gone);
        if !follows_from(&text, &place, &gone) {
            problems.add(
                written(&place),
                told(&text, value_at(&document, &path), &place, shape),
            );
        }
        if path.is_empty() || !remove(&mut document, &path) {
            return None;
        }
        gone.push(place);
    }
    problems.add("", "more is wrong than is told here");
    None
}

/// The error's path as steps through `document`.
fn steps(path: &serde_path_to_error::Path, document: &Value) -> Vec<Step> {
    let mut at = Some(document);
    let mut steps = Vec::new();
    for segment in path.iter() {
        let step = match segment {
            Segment::Seq { index } => Step::Index(*index),
            Segment::Map { key } => Step::Key(key.clone()),
            // A variant is a level of its own only where it is written as a key.
            Segment::Enum { variant } if at.is_some_and(|at| at.get(variant).is_some()) => {
                Step::Key(variant.clone())
            }
            Segment::Enum { .. } => continue,
            Segment::Unknown => break,
        };
        at = at.and_then(|at| down(at, &step));
        if at.is_none() {
            break;
        }
        steps.push(step);
    }
    steps
}

fn down<'a>(value: &'a Value, step: &Step) -> Option<&'a Value> {
    match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    }
}

fn value_at<'a>(document: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(document, down)
}

/// The path in the file: what was taken out of a list before made later places move up.
fn original(path: &[Step], gone: &[Vec<Step>]) -> Vec<Step> {
    let mut place: Vec<Step> = Vec::new();
    for step in path {
        let mut step = step.clone();
        if let Step::Index(index) = &mut step {
            let mut before: Vec<usize> = gone
                .iter()
                .filter_map(|gone| match gone.split_last() {
                    Some((Step::Index(index), list)) if *list == *place => Some(*index),
                    _ => None,
                })
                .collect();
            before.sort_unstable();
            for taken in before {
                if taken <= *index {
                    *index += 1;
                }
            }
        }
        place.push(step);
    }
    place
}

/// Whether something is missing only because it was wrong and taken out.
fn follows_from(text: &str, place: &[Step], gone: &[Vec<Step>]) -> bool {
    let field = text
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'));
    field.is_some_and(|field| {
        let mut missing = place.to_vec();
        missing.push(Step::Key(field.to_owned()));
        gone.contains(&missing)
    })
}

fn remove(document: &mut Value, path: &[Step]) -> bool {
    let Some((last, ahead)) = path.split_last() else {
        return false;
    };
    let container = ahead.iter().try_fold(document, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    });
    match (container, last) {
        (Some(Value::Object(map)), Step::Key(key)) => map.remove(key).is_some(),
        (Some(Value::Array(list)), Step::Index(index)) if *index < list.len() => {
            list.remove(*index);
            true
        }
        _ => false,
    }
}

fn written(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// The error in words for people who do not write Rust, with the offending value unless it is a secret.
fn told(text: &str, value: Option<&Value>, place: &[Step], shape: &Shape) -> String {
    if secret(place, shape) {
        return "is not a text (the value is not shown, it is a secret)".to_owned();
    }
    let wrong_type = text
        .strip_prefix("invalid type: ")
        .or_else(|| text.strip_prefix("invalid value: "));
    let expected = wrong_type
        .and_then(|rest| rest.rsplit_once(", expected "))
        .map(|(_, expected)| plain(expected));
    let got = value.map(shown);
    let bare = value.is_some_and(|value| value.is_number() || value.is_boolean());
    match (expected, got) {
        (Some(expected), Some(got)) if expected == "a text" && bare => {
            format!("expected a text, got {got} (put it in quotes)")
        }
        (Some(expected), Some(got)) => format!("expected {expected}, got {got}"),
        (None, Some(got))
            if !text.contains(got.trim_matches('"')) && !text.starts_with("missing field") =>
        {
            format!("{text}, got {got}")
        }
        _ => text.to_owned(),
    }
}

fn secret(place: &[Step], shape: &Shape) -> bool {
    let mut node = Some(shape.root());
    for step in place {
        if let Step::Key(key) = step
            && sounds_secret(key)
        {
            return true;
        }
        node = node.and_then(|node| match step {
            Step::Key(key) => shape
                .fields(node)
                .known
                .iter()
                .find(|(known, _)| known == key)
                .map(|(_, schema)| *schema),
            Step::Index(index) => shape.item(node, *index),
        });
    }
    node.is_some_and(|node| shape.is_secret(node))
}

/// Rust's names of types in plain words.
fn plain(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "a nonzero u64" | "a nonzero u32"
        | "a nonzero usize" => "a whole number, not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a sequence" => "a list",
        "a map" => "keys with values",
        other if other.starts_with("struct ") => "keys with values",
        other => other,
    }
    .to_owned()
}
