//! From an expression to its series.

use super::Context;
use super::budget::QueryError;
use super::functions::{FUNCTIONS, Function, Kind, Parameter};
use super::grammar::{Call, Expression, parse, shown};
use super::line::{Consolidation, Line, tags_of};
use super::number::push_float;
use crate::history::pattern::Pattern;

/// What an argument of a function is once it is worked out.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Lines(Vec<Line>),
    Whole(i64),
    Number(f64),
    Text(String),
    Bool(bool),
    None,
}

/// The arguments of a call, in the order of the function's parameters; the last parameter may have several.
#[derive(Debug)]
pub(super) struct Arguments {
    given: Vec<Value>,
}

/// The series of a target.
///
/// # Errors
/// When it is no expression, or needs more than the budget has.
pub(in super::super) fn evaluate(
    target: &str,
    context: &mut Context<'_>,
) -> Result<Vec<Line>, QueryError> {
    match work_out(parse(target)?, context)? {
        Value::Lines(lines) => Ok(lines),
        _ => Err(QueryError::bad(format!(
            "the target {target:?} is no series"
        ))),
    }
}

fn work_out(expression: Expression, context: &mut Context<'_>) -> Result<Value, QueryError> {
    Ok(match expression {
        Expression::Path(path) => Value::Lines(fetch(&path, context)?),
        Expression::Call(call) => Value::Lines(run(call, context)?),
        Expression::Whole(number) => Value::Whole(number),
        Expression::Number(number) => Value::Number(number),
        Expression::Text(text) => Value::Text(text),
        Expression::Bool(truth) => Value::Bool(truth),
        Expression::None => Value::None,
    })
}

/// The series that a pattern finds, in the order of their paths.
fn fetch(path: &str, context: &mut Context<'_>) -> Result<Vec<Line>, QueryError> {
    let pattern = Pattern::new(path).map_err(QueryError::Bad)?;
    let expression = shown(path);
    let store = context.store;
    let paths = match pattern.exact() {
        Some(path) => vec![path],
        None => {
            let found = pattern.find(&store.paths(), || context.budget.time())?;
            found
                .into_iter()
                .filter(|node| node.leaf)
                .map(|node| node.path)
                .collect()
        }
    };
    let mut lines = Vec::new();
    for path in paths {
        let Context {
            budget,
            from,
            until,
            now,
            ..
        } = context;
        let fetched = store.fetch(&path, (*from, *until), *now, |count| {
            budget.series(path.len() + expression.len())?;
            budget.values(count)
        })?;
        let Some(fetched) = fetched else { continue };
        lines.push(Line {
            tags: tags_of(&path),
            name: path,
            expression: expression.clone(),
            start: fetched.start,
            end: fetched.end,
            step: fetched.step,
            values: fetched.values,
            consolidation: Consolidation::default(),
        });
    }
    Ok(lines)
}

fn run(call: Call, context: &mut Context<'_>) -> Result<Vec<Line>, QueryError> {
    let name = call.function;
    let function = FUNCTIONS.iter().find(|function| function.name == name);
    let function = function
        .ok_or_else(|| QueryError::bad(format!("Received request for unknown function: {name}")))?;
    let mut given = Vec::with_capacity(call.arguments.len());
    for (number, argument) in call.arguments.into_iter().enumerate() {
        let parameter = function.parameter(number);
        let parameter = parameter.ok_or_else(|| {
            QueryError::bad(format!(
                "Too many parameters specified for function \"{name}\""
            ))
        })?;
        let value = work_out(argument, context)?;
        given.push(check(function, parameter, value)?);
    }
    let mut named = Vec::with_capacity(call.named.len());
    for (key, argument) in call.named {
        let value = work_out(argument, context)?;
        named.push((key, value));
    }
    for parameter in function.parameters.iter().skip(given.len()) {
        let place = named.iter().position(|(key, _)| key == parameter.name);
        match place.map(|place| named.swap_remove(place)) {
            Some((_, value)) => given.push(check(function, parameter, value)?),
            None if parameter.required => {
                let missing = parameter.name;
                return Err(QueryError::bad(format!(
                    "Missing required parameter \"{missing}\" for function \"{name}\""
                )));
            }
            None => given.push(Value::None),
        }
    }
    if let Some((key, _)) = named.first() {
        return Err(QueryError::bad(format!(
            "Unexpected key word arguments: {key}"
        )));
    }
    (function.run)(Arguments { given }, context)
}

/// Whether the value is one for the parameter; texts and numbers become what is wanted where that is plain.
fn check(function: &Function, parameter: &Parameter, value: Value) -> Result<Value, QueryError> {
    if matches!(value, Value::None) && !parameter.required {
        return Ok(value);
    }
    let good = match (parameter.kind, value) {
        (Kind::Series | Kind::SeriesLists, value @ Value::Lines(_)) => Ok(value),
        (Kind::Number, value @ Value::Number(_)) => Ok(value),
        (Kind::Number, Value::Whole(number)) => Ok(Value::Number(number as f64)),
        (Kind::Number, Value::Text(text)) => text
            .parse()
            .map(Value::Number)
            .map_err(|_| Value::Text(text)),
        (Kind::WholeOrInfinity, value @ Value::Whole(_)) => Ok(value),
        (Kind::WholeOrInfinity, Value::Number(number)) if number == f64::INFINITY => {
            Ok(Value::Whole(i64::MAX))
        }
        (Kind::NodeOrTag, value @ (Value::Whole(_) | Value::Text(_))) => Ok(value),
        (Kind::Text | Kind::Interval | Kind::Aggregation, value @ Value::Text(_)) => Ok(value),
        (Kind::Truth, value @ Value::Bool(_)) => Ok(value),
        (_, value) => Err(value),
    };
    good.map_err(|value| {
        let (kind, name, parameter) = (parameter.kind.as_str(), function.name, parameter.name);
        QueryError::bad(format!("Invalid \"{kind}\" value specified for function \"{name}\" parameter \"{parameter}\": {}", shown_value(&value)))
    })
}

fn shown_value(value: &Value) -> String {
    match value {
        Value::Lines(lines) => format!("{} series", lines.len()),
        Value::Whole(number) => number.to_string(),
        Value::Number(number) => {
            let mut text = String::new();
            push_float(&mut text, *number);
            text
        }
        Value::Text(text) => format!("'{text}'"),
        Value::Bool(truth) => if *truth { "True" } else { "False" }.to_owned(),
        Value::None => "None".to_owned(),
    }
}

impl Arguments {
    fn take(&mut self, place: usize) -> Value {
        self.given
            .get_mut(place)
            .map_or(Value::None, |value| std::mem::replace(value, Value::None))
    }

    /// The series of the first argument.
    pub(super) fn series(&mut self) -> Vec<Line> {
        match self.take(0) {
            Value::Lines(lines) => lines,
            _ => Vec::new(),
        }
    }

    /// The series of all arguments.
    pub(super) fn all_series(&mut self) -> Vec<Line> {
        let given = std::mem::take(&mut self.given);
        let lines = given.into_iter().filter_map(|value| match value {
            Value::Lines(lines) => Some(lines),
            _ => None,
        });
        lines.flatten().collect()
    }

    pub(super) fn number(&mut self, place: usize) -> Option<f64> {
        match self.take(place) {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn whole(&mut self, place: usize) -> Option<i64> {
        match self.take(place) {
            Value::Whole(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn text(&mut self, place: usize) -> Option<String> {
        match self.take(place) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn truth(&mut self, place: usize) -> bool {
        matches!(self.take(place), Value::Bool(true))
    }

    /// Those after so many.
    pub(super) fn rest(&mut self, place: usize) -> Vec<Value> {
        self.given.split_off(place.min(self.given.len()))
    }
}
