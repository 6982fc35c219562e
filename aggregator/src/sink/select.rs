//! From one flush to what each sink gets of it.
//!
//! A sink that takes everything as it is shares the flush; points are copied from the first one on that it does not.

use std::fmt::Write as _;
use std::sync::Arc;

use super::filter::{Edit, Filter};
use super::happened::{Tally, Verdict};
use super::routing::Routing;
use crate::key::Tags;
use crate::point::{Batch, Distribution, Point};

/// What one sink wants of a flush.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// What is done to the points that are routed to it.
    pub(super) filter: &'a Filter,
    /// Whether it writes distributions. One that does not may get them all the same, where it shares the flush.
    pub(super) distributions: bool,
}

/// What one sink gets of a flush, and the verdicts on all its points.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) batch: Arc<Batch>,
    pub(super) tally: Tally,
}

/// Selects for each of the sinks, in their order.
pub(super) fn select(
    batch: &Arc<Batch>,
    routing: Option<&Routing>,
    asked: &[Asked<'_>],
) -> Vec<Selected> {
    let mut selections: Vec<_> = asked
        .iter()
        .map(|asked| Selection::new(*asked, batch))
        .collect();
    let mut routed = vec![true; asked.len()];
    let mut joined = String::new();
    for (index, point) in batch.points.iter().enumerate() {
        if let Some(routing) = routing {
            routing.route(full_name(point, &mut joined), &point.tags, &mut routed);
        }
        for (selection, routed) in selections.iter_mut().zip(&routed) {
            selection.offer(batch, index, point, *routed);
        }
    }
    selections
        .into_iter()
        .map(|selection| selection.finish(batch))
        .collect()
}

/// The name in one piece; `joined` is room to put it together.
fn full_name<'a>(point: &'a Point, joined: &'a mut String) -> &'a str {
    if point.suffix.is_none() {
        return &point.base;
    }
    joined.clear();
    // Writing to a string cannot fail.
    let _ = write!(joined, "{}", point.name());
    joined
}

struct Selection<'a> {
    filter: &'a Filter,
    /// The copy, once there has to be one.
    kept: Option<Vec<Point>>,
    /// Where each point of the copy stood, if the sink is to have the distributions behind them.
    places: Option<Vec<usize>>,
    /// The tags judged last: the points of one series stand together and share theirs.
    last: Option<(Tags, Edit)>,
    tally: Tally,
}

impl<'a> Selection<'a> {
    fn new(asked: Asked<'a>, batch: &Batch) -> Self {
        let distributions = asked.distributions && !batch.distributions.is_empty();
        Self {
            filter: asked.filter,
            kept: None,
            places: distributions.then(Vec::new),
            last: None,
            tally: Tally::default(),
        }
    }

    fn offer(&mut self, batch: &Batch, index: usize, point: &Point, routed: bool) {
        let edit = self.judge(point, routed);
        self.tally.add(match edit {
            Edit::Over(verdict) => verdict,
            Edit::Unchanged | Edit::Changed(_) => Verdict::Flushed,
        });
        if self.kept.is_none() && edit != Edit::Unchanged {
            self.kept = Some(batch.points.iter().take(index).cloned().collect());
            if let Some(places) = &mut self.places {
                places.extend(0..index);
            }
        }
        let Some(kept) = &mut self.kept else { return };
        if let (Some(places), Edit::Unchanged | Edit::Changed(_)) = (&mut self.places, &edit) {
            places.push(index);
        }
        match edit {
            Edit::Unchanged => kept.push(point.clone()),
            Edit::Changed(tags) => kept.push(Point {
                tags,
                ..point.clone()
            }),
            Edit::Over(_) => {}
        }
    }

    fn judge(&mut self, point: &Point, routed: bool) -> Edit {
        if !routed {
            return Edit::Over(Verdict::Skipped);
        }
        if !point.value.is_finite() {
            return Edit::Over(Verdict::NotFinite);
        }
        if self.filter.refuses_name(point.name_len()) {
            return Edit::Over(Verdict::MaxNameLength);
        }
        if !self.filter.minds_tags() {
            return Edit::Unchanged;
        }
        match &self.last {
            Some((tags, edit)) if *tags == point.tags => edit.clone(),
            _ => {
                let edit = self.filter.edit(&point.tags);
                self.last = Some((point.tags.clone(), edit.clone()));
                edit
            }
        }
    }

    fn finish(self, batch: &Arc<Batch>) -> Selected {
        let tally = self.tally;
        let batch = match self.kept {
            None => Arc::clone(batch),
            Some(points) => Arc::new(Batch {
                points: points.into(),
                distributions: distributions(batch, self.places.as_deref().unwrap_or_default()),
                events: batch.events.clone(),
                hostname: Arc::clone(&batch.hostname),
                interval: batch.interval,
                receipts: batch.receipts.clone(),
            }),
        };
        Selected { batch, tally }
    }
}

/// The distributions behind at least one of the points that stood at these ascending `places`.
fn distributions(batch: &Batch, places: &[usize]) -> Vec<Distribution> {
    if places.is_empty() {
        return Vec::new();
    }
    let behind = batch.distributions.iter().filter_map(|distribution| {
        let before = |place: usize| places.partition_point(|kept| *kept < place);
        let points = before(distribution.points.start)..before(distribution.points.end);
        (!points.is_empty()).then(|| Distribution {
            points,
            ..distribution.clone()
        })
    });
    behind.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::key::Kind;
    use crate::point::{PointKind, Timestamp};
    use crate::sink::{RoutingRule, SinkConfig};

    fn point(name: &str, suffix: Option<&str>, tags: &[&str], value: f64) -> Point {
        Point {
            base: name.into(),
            suffix: suffix.map(Into::into),
            tags: Tags::new(tags),
            kind: PointKind::Gauge,
            value,
            timestamp: Timestamp::from_seconds(1_700_000_000),
            check: None,
        }
    }

    fn filter(mut config: serde_json::Value) -> Filter {
        config["kind"] = json!("debug");
        let config: SinkConfig = serde_json::from_value(config).unwrap();
        Filter::compile(&config, "metric_sinks[0]", &mut Vec::new())
    }

    fn plain(filter: &Filter) -> Asked<'_> {
        Asked {
            filter,
            distributions: false,
        }
    }

    fn batch(points: Vec<Point>) -> Arc<Batch> {
        Arc::new(Batch {
            points: points.into(),
            ..Batch::default()
        })
    }

    #[test]
    fn a_sink_that_takes_all_shares_the_flush() {
        let batch = batch(vec![
            point("a", None, &["x"], 1.0),
            point("b", None, &["x"], 2.0),
        ]);
        let limits =
            filter(json!({"max_name_length": 10, "max_tags": 3, "strip_tags": [{"value": "y"}]}));
        let selected = select(&batch, None, &[plain(&Filter::default()), plain(&limits)]);
        for selected in selected {
            assert!(Arc::ptr_eq(&selected.batch, &batch));
            assert_eq!(selected.tally.of(Verdict::Flushed), 2);
        }
    }

    #[test]
    fn each_point_has_one_verdict_for_each_sink() {
        let batch = batch(vec![
            point("ok", None, &["x"], 1.0),
            point("much.too.long", None, &[], 1.0),
            point("suffixed", Some(".99percentile"), &[], 1.0),
            point("tag", None, &["x:1234567890"], 1.0),
            point("tags", None, &["a", "b", "c"], 1.0),
            point("nan", None, &[], f64::NAN),
            point("inf", None, &[], f64::NEG_INFINITY),
            point("last", None, &[], 1.0),
        ]);
        let limits = filter(json!({"max_name_length": 12, "max_tag_length": 10, "max_tags": 2}));
        let [strict, free] = select(&batch, None, &[plain(&limits), plain(&Filter::default())])
            .try_into()
            .unwrap();
        let names = |selected: &Selected| {
            selected
                .batch
                .points
                .iter()
                .map(|point| point.name().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&strict), ["ok", "last"]);
        assert_eq!(strict.tally.of(Verdict::MaxNameLength), 2);
        assert_eq!(strict.tally.of(Verdict::MaxTagLength), 1);
        assert_eq!(strict.tally.of(Verdict::MaxTags), 1);
        assert_eq!(strict.tally.of(Verdict::NotFinite), 2);
        assert_eq!(strict.tally.of(Verdict::Flushed), 2);
        assert_eq!(free.tally.of(Verdict::Flushed), 6);
        assert_eq!(free.tally.of(Verdict::NotFinite), 2);
    }

    #[test]
    fn changed_tags_are_a_copy_and_leave_other_sinks_alone() {
        let batch = batch(vec![
            point("a", None, &["x", "y"], 1.0),
            point("b", None, &["x"], 2.0),
        ]);
        let adding = filter(json!({"strip_tags": [{"value": "x"}], "add_tags": {"dc": "1"}}));
        let [adding, free] = select(&batch, None, &[plain(&adding), plain(&Filter::default())])
            .try_into()
            .unwrap();
        let tags: Vec<_> = adding
            .batch
            .points
            .iter()
            .map(|point| point.tags.to_string())
            .collect();
        assert_eq!(tags, ["y,dc:1", "dc:1"]);
        assert!(Arc::ptr_eq(&free.batch, &batch));
        assert_eq!(batch.points[0].tags.to_string(), "x,y");
    }

    #[test]
    fn a_distribution_goes_where_one_of_its_points_goes() {
        let distribution = |points| Distribution {
            points,
            kind: Kind::Timer,
            count: 2.0,
            sum: 3.0,
            min: 1.0,
            max: 2.0,
            centroids: Arc::default(),
        };
        let points = vec![
            point("hits", None, &[], 1.0),
            point("a", Some(".max"), &["x"], 2.0),
            point("a", Some(".99percentile"), &["x"], 2.0),
            point("b", Some(".max"), &["y"], 2.0),
            point("c", Some(".99percentile"), &[], 2.0),
            point("c", Some(".max"), &[], 2.0),
        ];
        let batch = Arc::new(Batch {
            points: points.into(),
            distributions: [1..3, 3..4, 4..6].map(distribution).into(),
            ..Batch::default()
        });
        let percentiles = json!([
            {"match": [{"name": {"kind": "regex", "value": "percentile$"}}], "sinks": {"matched": ["some", "blind"], "not_matched": ["all"]}},
            {"match": [{}], "sinks": {"matched": ["all"]}},
        ]);
        let rules: Vec<RoutingRule> = serde_json::from_value(percentiles).unwrap();
        let routing = Routing::compile(&rules, &["some", "all", "blind"], &mut Vec::new());
        let filter = Filter::default();
        let wanting = Asked {
            filter: &filter,
            distributions: true,
        };
        let asked = [wanting, wanting, plain(&filter)];
        let [some, all, blind] = select(&batch, Some(&routing), &asked).try_into().unwrap();
        let ranges = |selected: &Selected| -> Vec<_> {
            let distributions = selected.batch.distributions.iter();
            distributions.map(|found| found.points.clone()).collect()
        };
        assert_eq!(ranges(&some), [0..1, 1..2]);
        assert_eq!(&*some.batch.points[1].base, "c");
        assert!(Arc::ptr_eq(&all.batch, &batch));
        assert!(blind.batch.distributions.is_empty());
        let adding = filter_of_tags();
        let asked = Asked {
            filter: &adding,
            distributions: true,
        };
        let tagged = select(&batch, None, &[asked]).remove(0);
        assert_eq!(ranges(&tagged), [1..3, 3..4, 4..6]);
        assert_eq!(tagged.batch.points[1].tags.to_string(), "x,dc:1");
    }

    fn filter_of_tags() -> Filter {
        filter(json!({"add_tags": {"dc": "1"}}))
    }

    #[test]
    fn rules_see_the_name_with_its_suffix() {
        let rules: Vec<RoutingRule> = serde_json::from_value(json!([
            {"match": [{"name": {"kind": "regex", "value": "percentile$"}}], "sinks": {"matched": ["a"], "not_matched": ["b"]}},
        ]))
        .unwrap();
        let routing = Routing::compile(&rules, &["a", "b", "c"], &mut Vec::new());
        let batch = batch(vec![
            point("t", Some(".99percentile"), &[], 1.0),
            point("t", Some(".max"), &[], 2.0),
            point("t", None, &[], 3.0),
        ]);
        let filter = Filter::default();
        let [a, b, c] = select(&batch, Some(&routing), &[plain(&filter); 3])
            .try_into()
            .unwrap();
        assert_eq!(a.batch.points, batch.points[..1]);
        assert_eq!(b.batch.points, batch.points[1..]);
        assert!(c.batch.points.is_empty());
        assert_eq!(c.tally.of(Verdict::Skipped), 3);
    }

    proptest! {
        #[test]
        fn what_comes_in_equals_what_is_passed_and_what_is_counted(
            lengths in prop::collection::vec((1_usize..8, 0_usize..5, prop::option::of(-1e9..1e9)), 0..40),
            max_name_length in 0_usize..8,
            max_tags in 0_usize..4,
        ) {
            let points = lengths
                .iter()
                .map(|(name, tags, value)| point(&"n".repeat(*name), None, &vec!["t"; *tags], value.unwrap_or(f64::NAN)))
                .collect();
            let batch = batch(points);
            let limits = filter(json!({"max_name_length": max_name_length, "max_tags": max_tags}));
            let selected = select(&batch, None, &[plain(&limits)]).remove(0);
            let fits = |limit: usize, actual: usize| limit == 0 || actual <= limit;
            let expected: Vec<_> = batch
                .points
                .iter()
                .filter(|point| point.value.is_finite() && fits(max_name_length, point.name_len()) && fits(max_tags, point.tags.iter().count()))
                .cloned()
                .collect();
            prop_assert_eq!(&*selected.batch.points, &expected);
            let verdicts = [Verdict::MaxNameLength, Verdict::MaxTags, Verdict::NotFinite];
            let held_back: usize = verdicts.iter().map(|verdict| selected.tally.of(*verdict)).sum();
            prop_assert_eq!(selected.tally.of(Verdict::Flushed), expected.len());
            prop_assert_eq!(expected.len() + held_back, batch.points.len());
        }
    }
}
