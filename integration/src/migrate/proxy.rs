//! Veneur's proxy, of its last commit and of the releases before it.

use serde_json::{Map, Value};
use tributary_node::config::Settings as _;
use tributary_proxy::config::Config;

use super::Ours;
use super::draft::Draft;
use super::veneur::known_keys;

pub(super) fn migrate(old: Map<String, Value>) -> Draft {
    let mut draft = Draft::new(Ours::Proxy);
    for (key, value) in old {
        one(&mut draft, &key, value);
    }
    draft.set("ring.algorithm", "veneur");
    draft.note(
        "ring.algorithm: veneur is written, so that each series keeps its global while proxies of both kinds run. Once all are Tributary's, take it out: the default ring is even and moves fewer keys. Change all proxies in one interval then.",
    );
    draft.note(
        "Tributary takes the service's address from Consul, Veneur's proxy the node's: where they differ, set consul_address_preference: node until all proxies are Tributary's.",
    );
    draft
}

fn one(draft: &mut Draft, key: &str, value: Value) {
    let zero = matches!(&value, Value::Number(number) if number.as_f64() == Some(0.0))
        || matches!(value.as_str(), Some("0" | "0s"));
    if let Value::Object(below) = &value {
        let known = Config::aliases().iter().chain(Config::ignored());
        if known
            .clone()
            .any(|(alias, _)| alias.starts_with(&format!("{key}.")))
        {
            for (name, value) in below.clone() {
                one(draft, &format!("{key}.{name}"), value);
            }
            return;
        }
    }
    let is_ours = known_keys::<Config>().iter().any(|known| known == key);
    let alias = Config::aliases().iter().find(|(alias, _)| *alias == key);
    if zero && (is_ours || alias.is_some()) {
        draft.refused(
            key,
            &value,
            "0 is taken literally by Veneur; the default is used instead",
        );
    } else if is_ours {
        match value.as_str().and_then(|text| text.strip_prefix(':')) {
            Some(port) if key.ends_with("_address") => {
                let full = format!("0.0.0.0:{port}");
                draft.changed(key, &value, key, full, "all interfaces are named");
            }
            _ => draft.taken(key, value),
        }
    } else if let Some((_, to)) = alias {
        draft.changed(key, &value, to, value.clone(), "");
    } else if let Some((_, why)) = Config::ignored().iter().find(|(known, _)| *known == key) {
        draft.refused(key, &value, why);
    } else {
        draft.refused(
            key,
            &value,
            "no such key is known of Veneur's proxy or of Tributary's",
        );
    }
}
