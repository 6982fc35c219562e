//! Keys that nobody knows, at any depth: each is a problem that names the nearest known key.

use serde_json::Value;

use super::problems::Problems;
use super::shape::Shape;

/// Takes unknown keys out of `document`, each with a problem, and keys whose value is `null`, which mean the default.
/// Free-form values stay as they are.
pub(super) fn remove_unknown_and_null(
    document: &mut Value,
    shape: &Shape,
    problems: &mut Problems,
) {
    walk(document, shape.root(), "", shape, problems);
}

fn walk(value: &mut Value, node: &Value, path: &str, shape: &Shape, problems: &mut Problems) {
    if shape.is_free(node) {
        return;
    }
    match value {
        Value::Object(map) => {
            let fields = shape.fields(node);
            if fields.known.is_empty() && fields.others.is_none() {
                // No object may stand here: that is a wrong type, told elsewhere.
                return;
            }
            map.retain(|key, value| {
                let here = join(path, key);
                let known = fields
                    .known
                    .iter()
                    .find(|(known, _)| known == key)
                    .map(|(_, schema)| *schema);
                match known.or(fields.others) {
                    Some(_) if known.is_some() && value.is_null() => false,
                    Some(schema) => {
                        walk(value, schema, &here, shape, problems);
                        true
                    }
                    None => {
                        let known = fields.known.iter().map(|(known, _)| *known);
                        problems.add(here, unknown(key, path, known, shape));
                        false
                    }
                }
            });
        }
        Value::Array(list) => {
            for (index, value) in list.iter_mut().enumerate() {
                if let Some(node) = shape.item(node, index) {
                    walk(value, node, &format!("{path}[{index}]"), shape, problems);
                }
            }
        }
        _ => {}
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn unknown<'a>(
    key: &str,
    path: &str,
    known: impl Iterator<Item = &'a str>,
    shape: &Shape,
) -> String {
    // The right name at the wrong depth is the likelier slip than a similar name at this one.
    let elsewhere = shape
        .paths()
        .into_iter()
        .map(|(path, _)| path)
        .find(|path| path.rsplit('.').next() == Some(key));
    match elsewhere.or_else(|| nearest(key, known).map(|near| join(path, near))) {
        Some(near) if resembles(key, &near) => format!("unknown key, did you mean {near}?"),
        Some(near) => format!("unknown key; the nearest known one is {near}"),
        None => "unknown key".to_owned(),
    }
}

/// Whether somebody may have meant `near` when writing `key`, and not a key that does not exist here.
fn resembles(key: &str, near: &str) -> bool {
    let near = near.rsplit('.').next().unwrap_or(near);
    strsim::jaro_winkler(key, near) > 0.8
}

/// The name that is spelt most like `name`.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    known
        .map(|known| (strsim::jaro_winkler(&name, known), known))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}
