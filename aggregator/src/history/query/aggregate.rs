//! Several values to one, several series to one, several steps to one.

use super::Context;
use super::budget::QueryError;
use super::line::{Line, sum};

/// What becomes of several values, of which those that are none were left out; NaN where nothing does.
pub(super) type Aggregator = fn(&[f64]) -> f64;

/// The names that functions take.
pub(super) const AGGREGATORS: [(&str, Aggregator); 14] = [
    ("average", average),
    ("avg", average),
    ("count", |values| values.len() as f64),
    ("current", last),
    ("diff", |values| {
        values
            .iter()
            .skip(1)
            .fold(first(values), |left, value| left - value)
    }),
    ("last", last),
    ("max", max),
    ("median", median),
    ("min", min),
    ("range", |values| max(values) - min(values)),
    ("rangeOf", |values| max(values) - min(values)),
    ("stddev", deviation),
    ("sum", total),
    ("total", total),
];

pub(super) fn aggregator(name: &str) -> Option<Aggregator> {
    let mut known = AGGREGATORS.iter();
    known
        .find(|(own, _)| *own == name)
        .map(|(_, aggregator)| *aggregator)
}

fn first(values: &[f64]) -> f64 {
    values.first().copied().unwrap_or(f64::NAN)
}

fn last(values: &[f64]) -> f64 {
    values.last().copied().unwrap_or(f64::NAN)
}

fn total(values: &[f64]) -> f64 {
    sum(values.iter().copied())
}

fn average(values: &[f64]) -> f64 {
    total(values) / values.len() as f64
}

fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn min(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
    match sorted.len() % 2 {
        0 => (at(middle.wrapping_sub(1)) + at(middle)) / 2.0,
        _ => at(middle),
    }
}

fn deviation(values: &[f64]) -> f64 {
    let average = average(values);
    let squares = sum(values
        .iter()
        .map(|value| (value - average) * (value - average)));
    (squares / values.len() as f64).sqrt()
}

/// One series of several: for each step what `aggregator` makes of their values, on the grid of the steps' least common multiple, to which finer ones
/// are consolidated. `function` is its name in Graphite's words: `sum`.
pub(super) fn combine(
    lines: Vec<Line>,
    function: &str,
    aggregator: Aggregator,
    context: &mut Context<'_>,
) -> Result<Vec<Line>, QueryError> {
    let Some(head) = lines.first() else {
        return Ok(Vec::new());
    };
    let step = lines
        .iter()
        .try_fold(1, |step, line| common_multiple(step, line.step))
        .ok_or_else(|| QueryError::bad("the steps of these series have no common multiple"))?;
    let mixed = lines
        .iter()
        .any(|line| line.step != head.step || line.start != head.start);
    let start = lines
        .iter()
        .map(|line| line.start)
        .min()
        .unwrap_or_default();
    // What is not on the same grid is put on one by its times.
    let start = if mixed {
        start - start.rem_euclid(step)
    } else {
        start
    };
    let end = lines.iter().map(|line| line.end).max().unwrap_or_default();
    let count = usize::try_from((end - start + step - 1) / step).unwrap_or_default();
    context.budget.values(count)?;
    let mut rows: Vec<f64> = Vec::with_capacity(count);
    let mut row = Vec::with_capacity(lines.len());
    for number in 0..count {
        if number % 64 == 0 {
            context.budget.time()?;
        }
        let time = start + step * i64::try_from(number).unwrap_or_default();
        row.clear();
        row.extend(
            lines
                .iter()
                .map(|line| value_of(line, time, step))
                .filter(|value| !value.is_nan()),
        );
        rows.push(if row.is_empty() {
            f64::NAN
        } else {
            aggregator(&row)
        });
    }

    let name = format!("{function}Series({})", expressions(&lines));
    context.budget.series(name.len())?;
    let shared = |tag: &&(String, String)| {
        lines
            .iter()
            .all(|line| line.tag_value(&tag.0) == Some(&tag.1))
    };
    let mut made = Line {
        tags: head.tags.iter().filter(shared).cloned().collect(),
        name: String::new(),
        expression: String::new(),
        start,
        // The end of the last step, as the values say; it is the last series' where all have the same grid.
        end: start + step * i64::try_from(count).unwrap_or_default(),
        step,
        values: rows,
        consolidation: head.consolidation,
    };
    if made.tag_value("name").is_none() {
        made.tag("name", name.clone());
    }
    made.tag("aggregatedBy", function);
    made.consolidation = super::line::Consolidation::default();
    made.rename(name);
    Ok(vec![made])
}

/// What a series has for the step of that length that begins then.
fn value_of(line: &Line, time: i64, step: i64) -> f64 {
    let place = |time: i64| {
        usize::try_from((time - line.start + line.step - 1).div_euclid(line.step))
            .unwrap_or_default()
    };
    let (from, to) = (
        place(time),
        place(time.saturating_add(step)).min(line.values.len()),
    );
    match line.values.get(from..to) {
        Some([value]) => *value,
        Some(values) => line.consolidation.of(values),
        None => f64::NAN,
    }
}

/// The expressions that series came from, each once.
fn expressions(lines: &[Line]) -> String {
    let mut seen = std::collections::HashSet::new();
    let mut text = String::new();
    for line in lines
        .iter()
        .filter(|line| seen.insert(line.expression.as_str()))
    {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&line.expression);
    }
    text
}

/// The values of longer steps: what `aggregator` makes of those that begin in each. Steps begin on multiples of `step`, or where the series does.
pub(super) fn summarize(
    line: &Line,
    step: i64,
    aggregator: Aggregator,
    from_start: bool,
    context: &mut Context<'_>,
) -> Result<Line, QueryError> {
    let (start, end) = if from_start {
        (line.start, line.end)
    } else {
        (
            line.start - line.start.rem_euclid(step),
            line.end - line.end.rem_euclid(step) + step,
        )
    };
    let count = usize::try_from((end - start + step - 1) / step).unwrap_or_default();
    context.budget.values(count)?;
    let mut values = vec![f64::NAN; count];
    let mut bucket: Vec<f64> = Vec::new();
    let mut open = 0;
    let mut close = |place: usize, bucket: &mut Vec<f64>| {
        if let Some(value) = values.get_mut(place).filter(|_| !bucket.is_empty()) {
            *value = aggregator(bucket);
        }
        bucket.clear();
    };
    let mut time = line.start;
    for value in &line.values {
        let place = usize::try_from((time - start) / step).unwrap_or_default();
        if place != open {
            close(open, &mut bucket);
            open = place;
        }
        if !value.is_nan() {
            bucket.push(*value);
        }
        time += line.step;
    }
    close(open, &mut bucket);
    Ok(Line {
        start,
        end: start + step * i64::try_from(count).unwrap_or_default(),
        step,
        values,
        ..line.clone()
    })
}

/// `None` beyond all times.
fn common_multiple(a: i64, b: i64) -> Option<i64> {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    let multiple = a.checked_div(x)?.checked_mul(b)?;
    (1..=100_000_000_000)
        .contains(&multiple)
        .then_some(multiple)
}
