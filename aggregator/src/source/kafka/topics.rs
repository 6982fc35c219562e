//! Which topic has which format.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use regex::Regex;

use super::format::{Format, Name};
use crate::enrich::cloudfoundry::Enricher;

/// Whether a key of `topics` is a regular expression, as librdkafka has it.
pub(super) fn is_pattern(topic: &str) -> bool {
    topic.starts_with('^')
}

/// The configured topics.
pub(super) struct Topics {
    exact: HashMap<String, Arc<Subscribed>>,
    patterns: Vec<(Regex, Arc<Subscribed>)>,
}

/// One key of `topics`.
pub(super) struct Subscribed {
    /// As it is configured: also what self-metrics say, because topics of a pattern can be any number.
    pub(super) key: Arc<str>,
    pub(super) format: Arc<dyn Format>,
}

impl Topics {
    pub(super) fn new(
        topics: &BTreeMap<String, Name>,
        enricher: Option<&Arc<Enricher>>,
    ) -> Result<Self, String> {
        let mut known = Self {
            exact: HashMap::new(),
            patterns: Vec::new(),
        };
        // Topics of one format share its reader.
        let mut readers: HashMap<Name, Arc<dyn Format>> = HashMap::new();
        for (topic, name) in topics {
            let format = match readers.get(name) {
                Some(format) => Arc::clone(format),
                None => name.reader(enricher)?,
            };
            readers.insert(*name, Arc::clone(&format));
            let subscribed = Arc::new(Subscribed {
                key: topic.as_str().into(),
                format,
            });
            if is_pattern(topic) {
                let pattern = Regex::new(topic).map_err(|error| format!("topics: {error}"))?;
                known.patterns.push((pattern, subscribed));
            } else {
                known.exact.insert(topic.clone(), subscribed);
            }
        }
        Ok(known)
    }

    /// The keys, to subscribe to.
    pub(super) fn keys(&self) -> Vec<Arc<str>> {
        let all = self.exact.values();
        let all = all.chain(self.patterns.iter().map(|(_, subscribed)| subscribed));
        all.map(|subscribed| Arc::clone(&subscribed.key)).collect()
    }

    /// What a topic was subscribed by.
    pub(super) fn find(&self, topic: &str) -> Option<&Arc<Subscribed>> {
        self.exact.get(topic).or_else(|| {
            let mut patterns = self.patterns.iter();
            let (_, found) = patterns.find(|(pattern, _)| pattern.is_match(topic))?;
            Some(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_before_an_expression_and_the_first_of_those_before_the_next() {
        let config = [
            ("^log-.*", Name::Carbon),
            ("^lo.*", Name::TributaryJson),
            ("log-a", Name::TributaryJson),
        ];
        let config = config.map(|(topic, name)| (topic.to_owned(), name)).into();
        let topics = Topics::new(&config, None).unwrap();
        let found = |topic| topics.find(topic).map(|found| &*found.key);
        assert_eq!(found("log-a"), Some("log-a"));
        assert_eq!(found("log-b"), Some("^lo.*"), "`.` sorts before `g`");
        assert_eq!(found("a-log-b"), None);
        let keys = topics.keys();
        let mut keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["^lo.*", "^log-.*", "log-a"]);
    }
}
