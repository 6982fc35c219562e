//! A series on its way through an expression.

/// Values on a grid, with the name that an answer gives them. NaN stands for none.
#[derive(Debug, Clone)]
pub(in super::super) struct Line {
    pub(in super::super) name: String,
    /// What names that are made of this one hold.
    pub(super) expression: String,
    /// The first value's time, in seconds.
    pub(in super::super) start: i64,
    /// When the last value's step ends.
    pub(in super::super) end: i64,
    /// Seconds.
    pub(in super::super) step: i64,
    pub(in super::super) values: Vec<f64>,
    pub(in super::super) tags: Vec<(String, String)>,
    /// How several values become one.
    pub(in super::super) consolidation: Consolidation,
}

/// How the values of several steps become that of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) enum Consolidation {
    #[default]
    Average,
    AverageZero,
    Sum,
    Min,
    Max,
    First,
    Last,
}

impl Consolidation {
    pub(super) const NAMES: [(&'static str, Self); 8] = [
        ("average", Self::Average),
        ("avg", Self::Average),
        ("avg_zero", Self::AverageZero),
        ("sum", Self::Sum),
        ("min", Self::Min),
        ("max", Self::Max),
        ("first", Self::First),
        ("last", Self::Last),
    ];

    /// Of values of which some may be none; NaN where all are.
    pub(in super::super) fn of(self, values: &[f64]) -> f64 {
        let known = || values.iter().copied().filter(|value| !value.is_nan());
        let count = known().count();
        if count == 0 {
            return f64::NAN;
        }
        match self {
            Self::Average => sum(known()) / count as f64,
            Self::AverageZero => sum(known()) / values.len() as f64,
            Self::Sum => sum(known()),
            Self::Min => known().fold(f64::INFINITY, f64::min),
            Self::Max => known().fold(f64::NEG_INFINITY, f64::max),
            Self::First => known().next().unwrap_or(f64::NAN),
            Self::Last => known().next_back().unwrap_or(f64::NAN),
        }
    }
}

impl Line {
    /// Sets a tag, in its old place where there is one.
    pub(super) fn tag(&mut self, key: &str, value: impl Into<String>) {
        match self.tags.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value.into(),
            None => self.tags.push((key.to_owned(), value.into())),
        }
    }

    pub(super) fn tag_value(&self, key: &str) -> Option<&str> {
        let mut tags = self.tags.iter();
        tags.find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }

    /// Gives it another name, which is also what names made of it hold.
    pub(super) fn rename(&mut self, name: String) {
        self.expression.clone_from(&name);
        self.name = name;
    }
}

/// The tags that a path tells: `name` and those behind semicolons.
pub(super) fn tags_of(path: &str) -> Vec<(String, String)> {
    let (name, tags) = path.split_once(';').unwrap_or((path, ""));
    let tags = tags.split(';').filter_map(|tag| tag.split_once('='));
    let mut tags: Vec<_> = tags
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    tags.push(("name".to_owned(), name.to_owned()));
    tags
}

/// From the left, beginning with a positive zero, as Python does it.
pub(super) fn sum(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |sum, value| sum + value)
}
