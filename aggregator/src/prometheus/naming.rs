//! From a point's name and tags to a metric name and labels that every Prometheus takes.
//!
//! Names are `[a-zA-Z_:][a-zA-Z0-9_:]*`, labels `[a-zA-Z_][a-zA-Z0-9_]*`: every other character becomes `_`, and one is put in front of a digit. Where two tags
//! become one label, their values are joined by `;`, as OpenTelemetry's translation to Prometheus does. A label without a value is none.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::point::{Point, PointKind};

/// How series are named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NamingStyle {
    /// As Prometheus has it: counters end in `_total`, and what is known of a histogram or timer is a summary.
    #[default]
    Prometheus,
    /// As Veneur's sink `cortex` has it: each point's name with its suffix, and nothing else.
    Veneur,
}

/// What a point is to Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// Adds to a total.
    Counter,
    /// Is the value.
    Gauge,
    /// A quantile of a summary, as its label has it: `0.99`.
    Quantile(String),
    /// Adds to the sum of a summary.
    Sum,
    /// Adds to the count of a summary.
    Count,
}

impl Role {
    /// Of a point; `aggregated` tells that it comes from a flush, where suffixes are those of aggregates.
    pub(crate) fn of(point: &Point, aggregated: bool, style: NamingStyle) -> Self {
        let suffix = point.suffix.as_deref().unwrap_or_default();
        let summary = aggregated && style == NamingStyle::Prometheus;
        match (point.kind, suffix) {
            (PointKind::Counter, ".count") if summary => Self::Count,
            (PointKind::Counter, _) => Self::Counter,
            (PointKind::Gauge, ".sum") if summary => Self::Sum,
            (PointKind::Gauge, suffix) if summary => {
                quantile(suffix).map_or(Self::Gauge, Self::Quantile)
            }
            _ => Self::Gauge,
        }
    }

    /// Whether it is a part of a summary.
    pub(crate) fn is_of_summary(&self) -> bool {
        matches!(self, Self::Quantile(_) | Self::Sum | Self::Count)
    }
}

/// `0.999` for `.99_9percentile`.
fn quantile(suffix: &str) -> Option<String> {
    let number = suffix.strip_prefix('.')?.strip_suffix("percentile")?;
    let (whole, decimals) = number.split_once('_').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || !digits(whole) || !digits(decimals) {
        return None;
    }
    let padded = format!("{whole:0>3}{decimals}");
    let (units, fraction) = padded.split_at_checked(1)?;
    match fraction.trim_end_matches('0') {
        "" => Some(units.to_owned()),
        fraction => Some(format!("{units}.{fraction}")),
    }
}

/// How names and labels are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Naming {
    /// Stands in front of each name as it is.
    pub(crate) prefix: String,
    pub(crate) style: NamingStyle,
    /// Whether counters are no totals, and are not called so.
    pub(crate) plain_counters: bool,
    /// The label that has the emitting host; empty: none.
    pub(crate) hostname_label: String,
    /// Labels that every series without them gets.
    pub(crate) fixed: Vec<(String, String)>,
}

/// The labels of a series, in order, none of them twice or empty.
pub(crate) type Labels<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

const QUANTILE: &str = "quantile";
/// What a bare tag's label has for a value.
const BARE: &str = "true";

impl Naming {
    /// Writes the name of the metric, without the suffixes of a summary's parts.
    pub(crate) fn name(&self, point: &Point, role: &Role, name: &mut String) {
        name.clear();
        name.push_str(&self.prefix);
        push_name(name, &point.base);
        if !role.is_of_summary() {
            push_name(name, point.suffix.as_deref().unwrap_or_default());
        }
        if *role == Role::Counter
            && self.style == NamingStyle::Prometheus
            && !self.plain_counters
            && !name.ends_with("_total")
        {
            name.push_str("_total");
        }
        if name.as_bytes().first().is_none_or(u8::is_ascii_digit) {
            name.insert(0, '_');
        }
    }

    /// The labels of a point from a host.
    pub(crate) fn labels<'a>(
        &'a self,
        point: &'a Point,
        hostname: &'a str,
        role: &'a Role,
    ) -> Labels<'a> {
        let mut labels: Labels<'a> = Vec::with_capacity(8);
        for tag in point.tags.iter() {
            let (key, value) = tag.split_once(':').unwrap_or((tag, BARE));
            if value.is_empty() {
                continue;
            }
            let key = match label_name(key) {
                taken if role.is_of_summary() && taken == QUANTILE => "exported_quantile".into(),
                key => key,
            };
            labels.push((key, value.into()));
        }
        labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        join_equal(&mut labels);
        let check = point.check.as_deref();
        let hostname = check
            .and_then(|check| check.hostname.as_deref())
            .unwrap_or(hostname);
        let own = [(self.hostname_label.as_str(), hostname)];
        let fixed = self.fixed.iter().map(|(key, value)| (&**key, &**value));
        for (key, value) in own.into_iter().chain(fixed) {
            if !key.is_empty() && !value.is_empty() && !labels.iter().any(|(known, _)| known == key)
            {
                labels.push((key.into(), value.into()));
            }
        }
        if let Role::Quantile(quantile) = role {
            labels.push((QUANTILE.into(), quantile.into()));
        }
        labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        labels
    }
}

/// Joins the values of labels that follow one another with the same key.
fn join_equal(labels: &mut Labels<'_>) {
    labels.dedup_by(|next, first| {
        let same = next.0 == first.0;
        if same && first.1 != next.1 {
            let joined = first.1.to_mut();
            joined.push(';');
            joined.push_str(&next.1);
        }
        same
    });
}

/// Appends a part of a metric's name.
fn push_name(name: &mut String, part: &str) {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.extend(part.chars().map(|c| if good(c) { c } else { '_' }));
}

/// A label's name. Those that begin with two underscores are Prometheus' own: of these one is left.
pub(crate) fn label_name(key: &str) -> Cow<'_, str> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts_well =
        |key: &str| !key.starts_with("__") && !key.starts_with(|c: char| c.is_ascii_digit());
    if !key.is_empty() && starts_well(key) && key.chars().all(good) {
        return key.into();
    }
    let clean: String = key.chars().map(|c| if good(c) { c } else { '_' }).collect();
    let rest = clean.trim_start_matches('_');
    match (
        clean.len() - rest.len(),
        rest.starts_with(|c: char| c.is_ascii_digit()),
    ) {
        (0, false) if !rest.is_empty() => rest.to_owned().into(),
        _ => format!("_{rest}").into(),
    }
}

/// What is wrong with a text that is to be a label's name, if anything is.
pub(crate) fn check_label(key: &str) -> Option<String> {
    (key.is_empty() || label_name(key) != key)
        .then(|| format!("`{key}` is no label: write letters, digits and `_`, no digit first"))
}

/// What is wrong with the beginning of a metric's name, if anything is.
pub(crate) fn check_prefix(prefix: &str) -> Option<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let digit = prefix.starts_with(|c: char| c.is_ascii_digit());
    (digit || !prefix.chars().all(good)).then(|| {
        format!(
            "`{prefix}` begins no metric name: write letters, digits, `_` and `:`, no digit first"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Tags;
    use crate::point::Timestamp;

    fn point(kind: PointKind, name: &str, suffix: Option<&str>, tags: &[&str]) -> Point {
        Point {
            base: name.into(),
            suffix: suffix.map(Into::into),
            tags: Tags::new(tags),
            kind,
            value: 1.0,
            timestamp: Timestamp::default(),
            check: None,
        }
    }

    fn named(naming: &Naming, point: &Point) -> String {
        let role = Role::of(point, true, naming.style);
        let mut name = String::new();
        naming.name(point, &role, &mut name);
        let labels = naming.labels(point, "h1", &role);
        let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        format!("{name}{{{}}}", labels.join(","))
    }

    #[test]
    fn names_and_labels_are_such_as_prometheus_takes() {
        let naming = Naming::default();
        for (kind, name, tags, expected) in [
            (
                PointKind::Gauge,
                "api.load-1",
                &["env:prod", "canary"][..],
                "api_load_1{canary=true,env=prod}",
            ),
            (
                PointKind::Counter,
                "api.hits",
                &["a.b:1", "a_b:2"],
                "api_hits_total{a_b=1;2}",
            ),
            (
                PointKind::Counter,
                "api.hits_total",
                &["empty:", "1st:x"],
                "api_hits_total{_1st=x}",
            ),
            (
                PointKind::Gauge,
                "99bottles",
                &["__name__:x", ":v", "url:http://a"],
                "_99bottles{_=v,_name__=x,url=http://a}",
            ),
            (PointKind::Gauge, "größe", &["ü:ö"], "gr__e{_=ö}"),
            (
                PointKind::Status,
                "db.up",
                &["role:a", "role:b", "role:b"],
                "db_up{role=a;b;b}",
            ),
        ] {
            assert_eq!(named(&naming, &point(kind, name, None, tags)), expected);
        }
    }

    #[test]
    fn aggregates_of_one_base_are_a_summary() {
        let naming = Naming::default();
        let tags = &["quantile:x"];
        let timer = |kind, suffix| named(&naming, &point(kind, "t", Some(suffix), tags));
        assert_eq!(
            timer(PointKind::Gauge, ".99percentile"),
            "t{exported_quantile=x,quantile=0.99}"
        );
        assert_eq!(
            timer(PointKind::Counter, ".count"),
            "t{exported_quantile=x}"
        );
        assert_eq!(timer(PointKind::Gauge, ".sum"), "t{exported_quantile=x}");
        assert_eq!(timer(PointKind::Gauge, ".max"), "t_max{quantile=x}");
        let veneur = Naming {
            style: NamingStyle::Veneur,
            ..Naming::default()
        };
        let timer = |kind, suffix| named(&veneur, &point(kind, "t", Some(suffix), &[]));
        assert_eq!(timer(PointKind::Gauge, ".99percentile"), "t_99percentile{}");
        assert_eq!(timer(PointKind::Counter, ".count"), "t_count{}");
        let passing = point(PointKind::Gauge, "t", Some(".sum"), &[]);
        assert_eq!(
            Role::of(&passing, false, NamingStyle::Prometheus),
            Role::Gauge
        );
    }

    #[test]
    fn a_percentile_is_the_quantile_that_it_was_made_of() {
        for (suffix, expected) in [
            (".50percentile", Some("0.5")),
            (".5percentile", Some("0.05")),
            (".0_5percentile", Some("0.005")),
            (".99_9percentile", Some("0.999")),
            (".100percentile", Some("1")),
            (".0percentile", Some("0")),
            (".percentile", None),
            (".x9percentile", None),
            (".9999percentile", None),
            (".max", None),
        ] {
            assert_eq!(quantile(suffix).as_deref(), expected, "{suffix}");
        }
    }

    #[test]
    fn own_labels_win_over_those_of_the_settings() {
        let naming = Naming {
            prefix: "shop_".to_owned(),
            hostname_label: "host".to_owned(),
            fixed: vec![
                ("dc".to_owned(), "a".to_owned()),
                ("env".to_owned(), "x".to_owned()),
            ],
            ..Naming::default()
        };
        let gauge = |tags| named(&naming, &point(PointKind::Gauge, "g", None, tags));
        assert_eq!(gauge(&["env:prod"]), "shop_g{dc=a,env=prod,host=h1}");
        assert_eq!(gauge(&["host:own"]), "shop_g{dc=a,env=x,host=own}");
    }

    #[test]
    fn settings_that_are_no_names_are_told() {
        assert_eq!(check_label("host"), None);
        assert_eq!(check_prefix("a_b:"), None);
        assert_eq!(check_prefix(""), None);
        for bad in ["", "a.b", "1a", "__a"] {
            assert!(check_label(bad).is_some(), "{bad}");
        }
        for bad in ["1", "a.b"] {
            assert!(check_prefix(bad).is_some(), "{bad}");
        }
    }
}
