//! How many metrics a namespace may have.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::item::Item;

/// The names that count toward quotas.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    /// By namespace.
    limits: BTreeMap<String, usize>,
    names: Mutex<BTreeMap<String, HashSet<String>>>,
}

/// What a quota let through and what not.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parted {
    pub(super) within: Vec<Item>,
    pub(super) over: Vec<Item>,
    /// Names that count from now on.
    pub(super) new: Vec<String>,
    pub(super) limit: usize,
}

impl Quotas {
    pub(super) fn new(
        limits: BTreeMap<String, usize>,
        known: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let quotas = Self {
            limits,
            names: Mutex::default(),
        };
        for (namespace, name) in known {
            if quotas.limits.contains_key(&namespace) {
                let mut names = quotas.names.lock();
                names.entry(namespace).or_default().insert(name);
            }
        }
        quotas
    }

    /// Parts items into those that the namespace has room for and the others; `Err` gives them back where there is no quota.
    pub(super) fn part(
        &self,
        namespace: Option<&Arc<str>>,
        items: Vec<Item>,
    ) -> Result<Parted, Vec<Item>> {
        let Some((namespace, limit)) =
            namespace.and_then(|namespace| self.limits.get_key_value(namespace.as_ref()))
        else {
            return Err(items);
        };
        let mut parted = Parted {
            limit: *limit,
            ..Parted::default()
        };
        let mut all = self.names.lock();
        let names = all.entry(namespace.clone()).or_default();
        for item in items {
            if names.contains(&item.name) {
                parted.within.push(item);
            } else if names.len() < *limit {
                names.insert(item.name.clone());
                parted.new.push(item.name.clone());
                parted.within.push(item);
            } else {
                parted.over.push(item);
            }
        }
        Ok(parted)
    }
}

/// The body that tells what was over the quota, in Flux's words.
pub(super) fn report(code: u16, limit: usize, within: &[String], over: &[String]) -> Value {
    let tell = |status: u16| move |metric: &String| json!({"metric": metric, "status": status});
    let (rejected, processed) = (over.len(), within.len());
    let data: Vec<Value> = over
        .iter()
        .map(tell(400))
        .chain(within.iter().map(tell(204)))
        .collect();
    json!({
        "code": code,
        "data": data,
        "error": format!("over quota - this account is allowed {limit} metrics and an additional {rejected} new metrics were posted that have been rejected"),
        "message": format!("{processed} metrics were processed and {rejected} metrics were rejected"),
        "rejected metrics": over,
        "rejected metrics count": rejected,
        "processed metrics": within,
        "processed metrics count": processed,
        "submitted metrics count": processed + rejected,
        "defined skipped_metrics count": 0,
    })
}
