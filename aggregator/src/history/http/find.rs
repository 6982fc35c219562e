//! `/metrics/find` and `/metrics/expand`: which series there are.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use super::super::Shared;
use super::super::pattern::{Node, Pattern};
use super::super::query::{Budget, QueryError};
use super::form::Form;
use super::json::{push_list, push_text};
use super::{Answer, Caching};

/// What stands below a pattern: `completer`, which takes the beginning of a name, or `treejson`.
pub(super) fn find(shared: &Shared, form: &Form) -> Result<Answer, QueryError> {
    let format = form.get("format").unwrap_or("treejson");
    let (leaves_only, wildcards) = (form.truth("leavesOnly")?, form.truth("wildcards")?);
    let query = form
        .get("query")
        .ok_or_else(|| QueryError::bad("Missing required parameter 'query'"))?;
    if query.is_empty() {
        return Err(QueryError::bad("Required parameter 'query' is empty"));
    }
    let base = query
        .rfind('.')
        .and_then(|dot| query.get(..=dot))
        .unwrap_or_default();
    let mut pattern = query.to_owned();
    if format == "completer" {
        pattern = pattern.replace("..", "*.");
        if !pattern.ends_with('*') {
            pattern.push('*');
        }
    }
    let mut nodes = nodes(shared, &pattern, &mut Budget::new())?;
    nodes.retain(|node| node.leaf || !leaves_only);
    // Graphite leaves the order of equal names to chance.
    nodes.sort_by(|a, b| {
        a.name()
            .cmp(b.name())
            .then_with(|| Reverse(&a.path).cmp(&Reverse(&b.path)))
            .then(a.leaf.cmp(&b.leaf))
    });
    let ascii = !form.takes_unicode();
    let mut json = String::new();
    match format {
        "completer" => completer(&mut json, &nodes, wildcards, ascii),
        "treejson" => tree(&mut json, &nodes, base, wildcards, ascii),
        _ => {
            return Err(QueryError::bad(
                "Invalid value for 'format' parameter: use completer or treejson",
            ));
        }
    }
    answer(form, json)
}

/// The paths that patterns stand for.
pub(super) fn expand(shared: &Shared, form: &Form) -> Result<Answer, QueryError> {
    let (leaves_only, grouped) = (form.truth("leavesOnly")?, form.truth("groupByExpr")?);
    let mut budget = Budget::new();
    let mut results: Vec<(&str, BTreeSet<String>)> = Vec::new();
    for query in form.all("query") {
        let nodes = nodes(shared, query, &mut budget)?;
        let paths = nodes
            .into_iter()
            .filter(|node| node.leaf || !leaves_only)
            .map(|node| node.path);
        results.push((query, paths.collect()));
    }
    let ascii = !form.takes_unicode();
    let list = |json: &mut String, paths: &BTreeSet<String>| {
        push_list(json, paths, |json, path| push_text(json, path, ascii))
    };
    let mut json = "{\"results\": ".to_owned();
    if grouped {
        json.push('{');
        for (number, (query, paths)) in results.iter().enumerate() {
            json.push_str(if number > 0 { ", " } else { "" });
            push_text(&mut json, query, ascii);
            json.push_str(": ");
            list(&mut json, paths);
        }
        json.push('}');
    } else {
        list(
            &mut json,
            &results.into_iter().flat_map(|(_, paths)| paths).collect(),
        );
    }
    json.push('}');
    answer(form, json)
}

fn nodes(shared: &Shared, pattern: &str, budget: &mut Budget) -> Result<Vec<Node>, QueryError> {
    let pattern = Pattern::new(pattern).map_err(QueryError::Bad)?;
    let found = pattern.find(&shared.store.paths(), || budget.time())?;
    for node in &found {
        budget.series(node.path.len())?;
    }
    Ok(found)
}

fn completer(json: &mut String, nodes: &[Node], wildcards: bool, ascii: bool) {
    json.push_str("{\"metrics\": ");
    let any = (wildcards && nodes.len() > 1).then_some(None);
    push_list(json, nodes.iter().map(Some).chain(any), |json, node| {
        let Some(node) = node else {
            json.push_str("{\"name\": \"*\"}");
            return;
        };
        json.push_str("{\"path\": ");
        let dot = if node.leaf { "" } else { "." };
        push_text(json, &format!("{}{dot}", node.path), ascii);
        json.push_str(", \"name\": ");
        push_text(json, node.name(), ascii);
        json.push_str(", \"is_leaf\": ");
        json.push_str(if node.leaf { "\"1\"}" } else { "\"0\"}" });
    });
    json.push('}');
}

/// Each name once, those that have something below them first.
fn tree(json: &mut String, nodes: &[Node], base: &str, wildcards: bool, ascii: bool) {
    let mut seen = HashSet::new();
    let named = nodes.iter().filter(|node| seen.insert(node.name()));
    let (leaves, branches): (Vec<_>, Vec<_>) = named
        .map(|node| (node.name(), node.leaf))
        .partition(|(_, leaf)| *leaf);
    let any = (wildcards && nodes.len() > 1).then(|| ("*", nodes.iter().all(|node| node.leaf)));
    push_list(
        json,
        any.into_iter().chain(branches).chain(leaves),
        |json, (name, leaf)| {
            json.push_str("{\"text\": ");
            push_text(json, name, ascii);
            json.push_str(", \"id\": ");
            push_text(json, &format!("{base}{name}"), ascii);
            json.push_str(if leaf {
                ", \"allowChildren\": 0, \"expandable\": 0, \"leaf\": 1}"
            } else {
                ", \"allowChildren\": 1, \"expandable\": 1, \"leaf\": 0}"
            });
        },
    );
}

fn answer(form: &Form, json: String) -> Result<Answer, QueryError> {
    let unicode = form.takes_unicode();
    let (kind, body) = match (form.callback()?, unicode) {
        (Some(callback), true) => (
            "text/javascript;charset=utf-8",
            format!("{callback}({json})"),
        ),
        (Some(callback), false) => ("text/javascript", format!("{callback}({json})")),
        (None, true) => ("application/json;charset=utf-8", json),
        (None, false) => ("application/json", json),
    };
    Ok(Answer {
        kind,
        caching: Caching::Find,
        body,
    })
}
