//! Namespaces whose metrics are aggregated: one point for each metric, method and interval.
//!
//! A point counts in the interval in which it arrives, and equal points count each.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::config::{Duration, OneOrMany};

use super::item::Item;
use super::keys::under;

/// Metrics of one namespace that are aggregated at most; points of further ones go through as they are.
const MOST: usize = 100_000;

/// How the metrics of a namespace are aggregated.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AggregateConfig {
    /// `avg`, `sum`, `min` or `max`, or several of them. Default: `avg`.
    pub method: OneOrMany<Method>,

    /// How long an interval is, in whole seconds. Default: `1m`.
    pub interval: Duration,

    /// Whether a metric without points in an interval gets 0. Default: false.
    pub zero_fill: bool,

    /// Whether a metric without points in an interval gets its last value. Default: false.
    pub last_known_value: bool,

    /// Whether the method is added to the name, `metric.avg`; it always is where there are several. Default: false.
    pub method_suffix: bool,
}

impl Default for AggregateConfig {
    fn default() -> Self {
        Self {
            method: OneOrMany::from(vec![Method::Avg]),
            interval: Duration::seconds(60),
            zero_fill: false,
            last_known_value: false,
            method_suffix: false,
        }
    }
}

/// What is made of an interval's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Their mean.
    Avg,
    /// Their sum.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

impl Method {
    fn suffix(self) -> &'static str {
        match self {
            Self::Avg => ".avg",
            Self::Sum => ".sum",
            Self::Min => ".min",
            Self::Max => ".max",
        }
    }
}

/// The values of one metric in one interval.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Values {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Values {
    fn of(value: f64) -> Self {
        Self {
            count: 1,
            sum: value,
            min: value,
            max: value,
        }
    }

    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    fn by(&self, method: Method) -> f64 {
        match method {
            Method::Avg => self.sum / self.count as f64,
            Method::Sum => self.sum,
            Method::Min => self.min,
            Method::Max => self.max,
        }
    }
}

/// What is known of one metric: of the open interval, and of the last one that had values.
#[derive(Debug, Default)]
struct Series {
    open: Option<Values>,
    last: Option<Values>,
}

struct Namespace {
    name: String,
    config: AggregateConfig,
    seconds: i64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the open interval began.
    start: i64,
    series: BTreeMap<String, Series>,
}

/// All aggregated namespaces.
#[derive(Default)]
pub(super) struct Aggregates(Vec<Namespace>);

impl Aggregates {
    pub(super) fn new(configs: &BTreeMap<String, AggregateConfig>) -> Self {
        let namespaces = configs.iter().map(|(name, config)| Namespace {
            name: name.clone(),
            config: config.clone(),
            seconds: i64::try_from(config.interval.get().as_secs()).unwrap_or(i64::MAX),
            state: Mutex::default(),
        });
        Self(namespaces.collect())
    }

    /// Whether an item is aggregated. What fills a gap says itself where it belongs.
    pub(super) fn concern(&self, item: &Item) -> bool {
        !item.fill && self.of(item).is_some()
    }

    fn of(&self, item: &Item) -> Option<&Namespace> {
        let mut namespaces = self.0.iter();
        namespaces.find(|namespace| under(&item.name, &namespace.name))
    }

    /// Takes an item in; gives it back if its metric is not aggregated, or there are too many of them.
    pub(super) fn take(&self, item: Item, now: i64) -> Result<(), Item> {
        let Some(namespace) = self.of(&item) else {
            return Err(item);
        };
        let mut state = namespace.state.lock();
        if state.series.is_empty() {
            state.start = namespace.start_of(now);
        }
        let full = state.series.len() >= MOST;
        match state.series.get_mut(&item.name) {
            None if full => return Err(item),
            None => {
                let open = Some(Values::of(item.value));
                state.series.insert(item.name, Series { open, last: None });
            }
            Some(series) => match &mut series.open {
                Some(values) => values.add(item.value),
                none => *none = Some(Values::of(item.value)),
            },
        }
        Ok(())
    }

    /// Closes the intervals that are over, or with `all` those that are not, too, and gives their points.
    pub(super) fn close(&self, now: i64, all: bool) -> Vec<Item> {
        let mut points = Vec::new();
        for namespace in &self.0 {
            let mut state = namespace.state.lock();
            let over = namespace.start_of(now) > state.start;
            if state.series.is_empty() || !(over || all) {
                continue;
            }
            let start = state.start;
            namespace.points(&mut state, start, !all || over, &mut points);
            state.start = namespace.start_of(now);
        }
        points.retain(|point| point.value.is_finite());
        points
    }
}

impl Namespace {
    fn start_of(&self, now: i64) -> i64 {
        now - now.rem_euclid(self.seconds.max(1))
    }

    /// With `fill` also those of metrics that were silent.
    fn points(&self, state: &mut State, start: i64, fill: bool, points: &mut Vec<Item>) {
        let AggregateConfig {
            zero_fill,
            last_known_value,
            method_suffix,
            ..
        } = self.config;
        let methods = &self.config.method;
        for (name, series) in &mut state.series {
            let values = match series.open.take() {
                Some(values) => {
                    series.last = Some(values);
                    Some(values)
                }
                None if !fill => None,
                None if last_known_value => series.last,
                None if zero_fill => Some(Values::of(0.0)),
                None => None,
            };
            let Some(values) = values else {
                continue;
            };
            for method in methods {
                let suffix = match method_suffix || methods.len() > 1 {
                    true => method.suffix(),
                    false => "",
                };
                points.push(Item {
                    posted: String::new(),
                    name: format!("{name}{suffix}"),
                    seconds: start,
                    value: values.by(*method),
                    fill: true,
                });
            }
        }
        // Nobody asks what a silent metric was, unless its gaps are filled.
        if !zero_fill && !last_known_value {
            state.series.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start of a minute.
    const START: i64 = 1_795_177_680;

    fn aggregates(config: serde_json::Value) -> Aggregates {
        let configs = serde_json::from_value(serde_json::json!({"agg": config})).unwrap();
        Aggregates::new(&configs)
    }

    fn give(aggregates: &Aggregates, name: &str, value: f64, now: i64) -> bool {
        let item = Item {
            posted: name.to_owned(),
            name: name.to_owned(),
            seconds: now,
            value,
            fill: false,
        };
        aggregates.take(item, now).is_ok()
    }

    fn told(points: Vec<Item>) -> Vec<(String, f64, i64)> {
        let points = points.into_iter();
        points
            .map(|point| (point.name, point.value, point.seconds))
            .collect()
    }

    fn point(name: &str, value: f64, seconds: i64) -> (String, f64, i64) {
        (name.to_owned(), value, seconds)
    }

    #[test]
    fn an_interval_gives_one_point_for_each_method_and_equal_points_count_each() {
        let aggregates = aggregates(serde_json::json!({"method": ["avg", "sum", "min", "max"]}));
        assert!(!give(&aggregates, "other.a", 1.0, START));
        for value in [1.0, 1.0, 4.0] {
            assert!(give(&aggregates, "agg.a", value, START + 5));
        }
        assert_eq!(told(aggregates.close(START + 59, false)), []);
        assert_eq!(
            told(aggregates.close(START + 60, false)),
            [
                point("agg.a.avg", 2.0, START),
                point("agg.a.sum", 6.0, START),
                point("agg.a.min", 1.0, START),
                point("agg.a.max", 4.0, START),
            ]
        );
        assert_eq!(told(aggregates.close(START + 120, false)), []);
    }

    #[test]
    fn one_method_keeps_the_name_unless_it_is_asked_for() {
        let plain = aggregates(serde_json::json!({"method": "sum"}));
        let suffixed = aggregates(serde_json::json!({"method": ["sum"], "method_suffix": true}));
        for (aggregates, name) in [(plain, "agg.a"), (suffixed, "agg.a.sum")] {
            assert!(give(&aggregates, "agg.a", 2.0, START));
            assert_eq!(
                told(aggregates.close(START + 61, false)),
                [point(name, 2.0, START)]
            );
        }
    }

    #[test]
    fn gaps_are_filled_as_configured_and_an_unfinished_interval_is_not_lost() {
        for (key, filled) in [("zero_fill", 0.0), ("last_known_value", 5.0)] {
            let aggregates = aggregates(serde_json::json!({key: true}));
            assert!(give(&aggregates, "agg.a", 5.0, START));
            assert_eq!(aggregates.close(START + 60, false).len(), 1);
            assert_eq!(
                told(aggregates.close(START + 120, false)),
                [point("agg.a", filled, START + 60)]
            );
            assert_eq!(
                told(aggregates.close(START + 125, true)),
                [],
                "not half a gap"
            );
            assert!(give(&aggregates, "agg.a", 7.0, START + 126));
            assert_eq!(
                told(aggregates.close(START + 130, true)),
                [point("agg.a", 7.0, START + 120)]
            );
        }
    }
}
