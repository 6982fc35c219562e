//! The functions that targets may call.

use serde_json::{Map, Value as Json, json};

use super::Context;
use super::aggregate::{AGGREGATORS, aggregator, combine, summarize};
use super::budget::QueryError;
use super::evaluate::{Arguments, Value};
use super::grammar::{first_path, parse, shown};
use super::line::{Consolidation, Line};
use super::number::{push_float, push_short};
use super::time::parse_offset;

type Answer = Result<Vec<Line>, QueryError>;

/// A function: what it is called, what it takes and what it does.
pub(super) struct Function {
    pub(super) name: &'static str,
    group: &'static str,
    description: &'static str,
    pub(super) parameters: &'static [Parameter],
    pub(super) run: fn(Arguments, &mut Context<'_>) -> Answer,
}

/// What a function takes in one place.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    /// Whether it may stand again, at the end.
    many: bool,
}

/// The kinds of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Series,
    SeriesLists,
    Number,
    WholeOrInfinity,
    Text,
    Truth,
    Interval,
    Aggregation,
    NodeOrTag,
}

impl Kind {
    /// Graphite's word for it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Series => "seriesList",
            Self::SeriesLists => "seriesLists",
            Self::Number => "float",
            Self::WholeOrInfinity => "intOrInf",
            Self::Text => "string",
            Self::Truth => "boolean",
            Self::Interval => "interval",
            Self::Aggregation => "aggFunc",
            Self::NodeOrTag => "nodeOrTag",
        }
    }
}

impl Function {
    /// The parameter of the argument in that place.
    pub(super) fn parameter(&self, place: usize) -> Option<&'static Parameter> {
        let last = self.parameters.last().filter(|last| last.many);
        self.parameters.get(place).or(last)
    }
}

const fn needs(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        required: true,
        many: false,
    }
}

const fn may(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        required: false,
        ..needs(name, kind)
    }
}

const fn many(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        many: true,
        ..needs(name, kind)
    }
}

const SERIES: Parameter = needs("seriesList", Kind::Series);
const ALL_SERIES: &[Parameter] = &[many("seriesLists", Kind::SeriesLists)];
const LIMITS: &[Parameter] = &[
    SERIES,
    may("maxValue", Kind::Number),
    may("minValue", Kind::Number),
];

macro_rules! combining {
    ($name:literal, $function:literal, $description:literal) => {
        Function {
            name: $name,
            group: "Combine",
            description: $description,
            parameters: ALL_SERIES,
            run: |mut arguments, context| match aggregator($function) {
                Some(aggregator) => combine(arguments.all_series(), $function, aggregator, context),
                None => Err(QueryError::bad("no such aggregation")),
            },
        }
    };
}

/// All of them.
pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "alias",
        group: "Alias",
        description: "Gives series another name.",
        parameters: &[SERIES, needs("newName", Kind::Text)],
        run: alias,
    },
    Function {
        name: "aliasByMetric",
        group: "Alias",
        description: "Names series by the last segment of their path.",
        parameters: &[SERIES],
        run: alias_by_metric,
    },
    Function {
        name: "aliasByNode",
        group: "Alias",
        description: "Names series by segments of their path, counted from 0, or by tags.",
        parameters: &[SERIES, many("nodes", Kind::NodeOrTag)],
        run: alias_by_node,
    },
    combining!("averageSeries", "average", "The average of several series."),
    combining!("avg", "average", "The average of several series."),
    Function {
        name: "consolidateBy",
        group: "Special",
        description: "How several steps become one where there are more than an answer may have: sum, average, min, max, first or last.",
        parameters: &[SERIES, needs("consolidationFunc", Kind::Text)],
        run: consolidate_by,
    },
    Function {
        name: "constantLine",
        group: "Special",
        description: "The same value all the time.",
        parameters: &[needs("value", Kind::Number)],
        run: constant_line,
    },
    Function {
        name: "keepLastValue",
        group: "Transform",
        description: "Fills gaps with the value before them, those of up to limit steps.",
        parameters: &[SERIES, may("limit", Kind::WholeOrInfinity)],
        run: keep_last_value,
    },
    combining!("max", "max", "The highest of several series."),
    combining!("maxSeries", "max", "The highest of several series."),
    combining!("min", "min", "The lowest of several series."),
    combining!("minSeries", "min", "The lowest of several series."),
    Function {
        name: "nonNegativeDerivative",
        group: "Transform",
        description: "By how much a count has grown since the value before; nothing where it fell, because it began anew.",
        parameters: LIMITS,
        run: non_negative_derivative,
    },
    Function {
        name: "scale",
        group: "Transform",
        description: "Multiplies all values.",
        parameters: &[SERIES, needs("factor", Kind::Number)],
        run: scale,
    },
    combining!("sum", "sum", "The sum of several series."),
    combining!("sumSeries", "sum", "The sum of several series."),
    Function {
        name: "summarize",
        group: "Transform",
        description: "The values of longer steps, each what func makes of those in it.",
        parameters: &[
            SERIES,
            needs("intervalString", Kind::Interval),
            may("func", Kind::Aggregation),
            may("alignToFrom", Kind::Truth),
        ],
        run: summarized,
    },
];

/// The functions as Graphite's `/functions` describes them.
pub(in super::super) fn describe() -> Map<String, Json> {
    let described = FUNCTIONS.iter().map(|function| {
        let parameters: Vec<_> = function
            .parameters
            .iter()
            .map(Parameter::describe)
            .collect();
        let names: Vec<_> = function
            .parameters
            .iter()
            .map(|parameter| match parameter.many {
                true => format!("*{}", parameter.name),
                false => parameter.name.to_owned(),
            })
            .collect();
        let description = json!({
            "name": function.name,
            "function": format!("{}({})", function.name, names.join(", ")),
            "description": function.description,
            "module": "graphite.render.functions",
            "group": function.group,
            "params": parameters,
        });
        (function.name.to_owned(), description)
    });
    described.collect()
}

impl Parameter {
    fn describe(&self) -> Json {
        let mut described = json!({"name": self.name, "type": self.kind.as_str()});
        if let Some(described) = described.as_object_mut() {
            for (key, holds) in [("required", self.required), ("multiple", self.many)] {
                if holds {
                    described.insert(key.to_owned(), json!(true));
                }
            }
            if self.kind == Kind::Aggregation {
                let names: Vec<_> = AGGREGATORS.iter().map(|(name, _)| *name).collect();
                described.insert("options".to_owned(), json!(names));
            }
        }
        described
    }
}

fn alias(mut arguments: Arguments, _: &mut Context<'_>) -> Answer {
    let mut lines = arguments.series();
    let name = arguments.text(1).unwrap_or_default();
    lines
        .iter_mut()
        .for_each(|line| line.name.clone_from(&name));
    Ok(lines)
}

fn alias_by_metric(mut arguments: Arguments, _: &mut Context<'_>) -> Answer {
    let mut lines = arguments.series();
    for line in &mut lines {
        // What stands in the innermost parentheses, up to its first comma.
        let inner = line.name.rsplit('(').next().unwrap_or_default();
        let inner = inner.split(')').next().unwrap_or_default();
        let last = inner.rsplit('.').next().unwrap_or_default();
        line.name = last.split(',').next().unwrap_or_default().to_owned();
    }
    Ok(lines)
}

fn alias_by_node(mut arguments: Arguments, _: &mut Context<'_>) -> Answer {
    let nodes = arguments.rest(1);
    let mut lines = arguments.series();
    for line in &mut lines {
        // Of a name that looks like a call, the first path in it counts.
        let inner = line
            .name
            .ends_with(')')
            .then(|| parse(&line.name).ok())
            .flatten();
        let path = inner
            .as_ref()
            .and_then(first_path)
            .map_or_else(|| line.name.clone(), shown);
        let path = path.split(';').next().unwrap_or_default();
        let segments: Vec<_> = path.split('.').collect();
        let named = nodes.iter().map(|node| match node {
            Value::Whole(number) => {
                let place = if *number < 0 {
                    number.saturating_add_unsigned(segments.len() as u64)
                } else {
                    *number
                };
                let segment = usize::try_from(place)
                    .ok()
                    .and_then(|place| segments.get(place));
                segment
                    .map(|segment| (*segment).to_owned())
                    .unwrap_or_default()
            }
            Value::Text(tag) => line.tag_value(tag).unwrap_or_default().to_owned(),
            _ => String::new(),
        });
        line.name = named.collect::<Vec<_>>().join(".");
    }
    Ok(lines)
}

fn consolidate_by(mut arguments: Arguments, context: &mut Context<'_>) -> Answer {
    let mut lines = arguments.series();
    let name = arguments.text(1).unwrap_or_default();
    let known = Consolidation::NAMES
        .iter()
        .find(|(known, _)| *known == name);
    let Some((_, consolidation)) = known else {
        let known = Consolidation::NAMES.map(|(name, _)| name).join(", ");
        return Err(QueryError::bad(format!(
            "Invalid consolidation function: '{name}', use one of {known}"
        )));
    };
    for line in &mut lines {
        line.consolidation = *consolidation;
        line.tag("consolidateBy", name.clone());
        let name = format!("consolidateBy({},\"{name}\")", line.name);
        context.budget.series(name.len())?;
        line.rename(name);
    }
    Ok(lines)
}

fn constant_line(mut arguments: Arguments, context: &mut Context<'_>) -> Answer {
    let value = arguments.number(0).unwrap_or(f64::NAN);
    let mut name = String::new();
    push_float(&mut name, value);
    context.budget.series(name.len())?;
    context.budget.values(3)?;
    Ok(vec![Line {
        tags: vec![("name".to_owned(), name.clone())],
        expression: format!("constantLine({name})"),
        name,
        start: context.from,
        end: context.until,
        step: ((context.until - context.from) / 2).max(1),
        values: vec![value; 3],
        consolidation: Consolidation::default(),
    }])
}

fn keep_last_value(mut arguments: Arguments, context: &mut Context<'_>) -> Answer {
    let mut lines = arguments.series();
    let limit = arguments.whole(1).map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or_default()
    });
    for line in &mut lines {
        let mut last = f64::NAN;
        // A gap that is too long stays as it is.
        for run in line.values.chunk_by_mut(|a, b| a.is_nan() == b.is_nan()) {
            match run {
                [.., value] if !value.is_nan() => last = *value,
                gap if gap.len() <= limit => gap.fill(last),
                _ => {}
            }
        }
        let name = format!("keepLastValue({})", line.name);
        context.budget.series(name.len())?;
        line.rename(name);
    }
    Ok(lines)
}

fn non_negative_derivative(mut arguments: Arguments, context: &mut Context<'_>) -> Answer {
    let mut lines = arguments.series();
    let (highest, lowest) = (arguments.number(1), arguments.number(2));
    for line in &mut lines {
        let mut before = f64::NAN;
        for place in &mut line.values {
            let value = *place;
            let outside = highest.is_some_and(|highest| value > highest)
                || lowest.is_some_and(|lowest| value < lowest);
            *place = match (highest, lowest) {
                _ if outside || before.is_nan() || value.is_nan() => f64::NAN,
                _ if value >= before => value - before,
                // The count went beyond its highest value and began anew.
                (Some(highest), lowest) => highest + 1.0 + value - before - lowest.unwrap_or(0.0),
                (None, Some(lowest)) => value - lowest,
                (None, None) => f64::NAN,
            };
            before = if outside { f64::NAN } else { value };
        }
        line.tag("nonNegativeDerivative", "1");
        let name = format!("nonNegativeDerivative({})", line.name);
        context.budget.series(name.len())?;
        line.rename(name);
    }
    Ok(lines)
}

fn scale(mut arguments: Arguments, context: &mut Context<'_>) -> Answer {
    let mut lines = arguments.series();
    let factor = arguments.number(1).unwrap_or(1.0);
    let (mut short, mut long) = (String::new(), String::new());
    push_short(&mut short, factor);
    push_float(&mut long, factor);
    for line in &mut lines {
        line.values.iter_mut().for_each(|value| *value *= factor);
        line.tag("scale", long.clone());
        let name = format!("scale({},{short})", line.name);
        context.budget.series(name.len())?;
        line.rename(name);
    }
    Ok(lines)
}

fn summarized(mut arguments: Arguments, context: &mut Context<'_>) -> Answer {
    let lines = arguments.series();
    let interval = arguments.text(1).unwrap_or_default();
    let function = arguments.text(2).unwrap_or_else(|| "sum".to_owned());
    let from_start = arguments.truth(3);
    let step = parse_offset(&interval)?.abs();
    if step == 0 {
        return Err(QueryError::bad(format!(
            "the interval {interval:?} of summarize is no time at all"
        )));
    }
    let Some(aggregator) = aggregator(&function) else {
        return Err(QueryError::bad(format!(
            "Unsupported aggregation function: {function}"
        )));
    };
    let mut made = Vec::with_capacity(lines.len());
    for line in lines {
        let mut summed = summarize(&line, step, aggregator, from_start, context)?;
        summed.tag("summarize", interval.clone());
        summed.tag("summarizeFunction", function.clone());
        let aligned = if from_start { ", true" } else { "" };
        let name = format!(
            "summarize({}, \"{interval}\", \"{function}\"{aligned})",
            line.name
        );
        context.budget.series(name.len())?;
        summed.rename(name);
        made.push(summed);
    }
    Ok(made)
}
