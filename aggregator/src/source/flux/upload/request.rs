//! What an upload asks for, from the variables of its form or of an info file.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Variables by name, as texts.
pub(crate) type Variables = BTreeMap<String, String>;

/// How a data file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Comma-separated values; semicolons and tabs are recognised.
    Csv,
    /// Excel since 2007.
    Xlsx,
    /// Excel before.
    Xls,
}

/// What a data file comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Archive {
    /// As it is.
    None,
    /// One file, by gzip.
    Gz,
    /// One or several files.
    Zip,
}

/// How values of less than a minute are put together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Resample {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

/// Whether a row or a column is a point in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Orientation {
    /// Each row is one.
    #[default]
    Rows,
    /// Each column is one.
    Columns,
}

/// An upload that can be worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) parent: String,
    pub(crate) timezone: String,
    pub(crate) format: Format,
    pub(crate) archive: Archive,
    pub(crate) orientation: Orientation,
    /// The row with the columns' names, counted from 0 after those skipped.
    pub(crate) header_row: usize,
    pub(crate) skip_rows: usize,
    /// A name for each column; that of the times is `date`.
    pub(crate) columns: Vec<String>,
    pub(crate) ignore: Vec<String>,
    /// If not empty, only these.
    pub(crate) process: Vec<String>,
    pub(crate) info_file_in_archive: bool,
    pub(crate) resample: Resample,
    /// Whether points are sent that are not newer than what is known.
    pub(crate) ignore_submitted: bool,
    pub(crate) dryrun: bool,
    pub(crate) debug: bool,
}

/// Why an upload is refused; the text is the answer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) String);

fn refuse(text: impl Into<String>) -> Refusal {
    Refusal(text.into())
}

/// The name of the column with the times.
pub(crate) const DATE: &str = "date";

/// It is part of a file's name, with more around it.
const LONGEST_PARENT: usize = 200;

impl Request {
    /// Judges variables. Those that an info file in an archive may still bring are filled in with what they are by default; see
    /// [`with_info`](Self::with_info).
    pub(crate) fn new(variables: &Variables) -> Result<Self, Refusal> {
        let info_later = flag(variables, "info_file_in_archive");
        let needed = |name: &str| {
            let given = variables.get(name).filter(|value| !value.is_empty());
            given.ok_or_else(|| refuse(format!("no {name} in the POST variables")))
        };
        // What an info file in the archive may say is not needed here.
        let needed_here = |name: &str, default: &str| match needed(name) {
            Ok(value) => Ok(value.clone()),
            Err(_) if info_later => Ok(default.to_owned()),
            Err(refusal) => Err(refusal),
        };
        let parent = needed("parent_metric_namespace")?.trim_matches('.');
        check_name(parent)?;
        if parent.len() > LONGEST_PARENT {
            let text = format!("{parent} is longer than {LONGEST_PARENT} characters");
            return Err(refuse(text));
        }
        let timezone = needed_here("timezone", "UTC")?;
        let format = match needed("format")?.as_str() {
            "csv" => Format::Csv,
            "xlsx" => Format::Xlsx,
            "xls" => Format::Xls,
            other => return Err(refuse(format!("{other} is not an accepted format"))),
        };
        let archive = match needed("archive")?.as_str() {
            "none" => Archive::None,
            "gz" => Archive::Gz,
            "zip" => Archive::Zip,
            "tar_gz" => return Err(refuse("error - tar.gz archives are not accepted")),
            other => return Err(refuse(format!("{other} is not an accepted archive type"))),
        };
        if TimeZone::get(&timezone).is_err() {
            return Err(refuse(format!("{timezone} is not an accepted timezone")));
        }
        let orientation = match needed_here("date_orientation", "rows")?.as_str() {
            "rows" => Orientation::Rows,
            "columns" => Orientation::Columns,
            other => return Err(refuse(format!("{other} is not a valid date_orientation"))),
        };
        let header_row = needed_here("header_row", "0")?;
        let header_row = header_row
            .trim()
            .parse()
            .map_err(|_| refuse(format!("{header_row} is not a valid header_row")))?;
        let columns = list(&needed_here("columns_to_metrics", DATE)?);
        if !columns.iter().any(|column| column == DATE) {
            return Err(refuse("columns_to_metrics has no column called date"));
        }
        columns.iter().try_for_each(|column| check_name(column))?;
        let skip_rows = match variables.get("skip_rows").map(|rows| rows.trim()) {
            None | Some("" | "none" | "None") => 0,
            Some(rows) => rows
                .parse()
                .map_err(|_| refuse("skip_row must be none or int"))?,
        };
        let resample = match variables.get("resample_method").map(String::as_str) {
            None | Some("" | "mean") => Resample::Mean,
            Some("sum") => Resample::Sum,
            Some(other) => {
                return Err(refuse(format!("{other} is not a valid resample_method")));
            }
        };
        let names = |name: &str| variables.get(name).map_or_else(Vec::new, |text| list(text));
        Ok(Self {
            parent: parent.to_owned(),
            timezone,
            format,
            archive,
            orientation,
            header_row,
            skip_rows,
            columns,
            ignore: names("columns_to_ignore"),
            process: names("columns_to_process"),
            info_file_in_archive: info_later,
            resample,
            ignore_submitted: flag(variables, "ignore_submitted_timestamps"),
            dryrun: flag(variables, "dryrun"),
            debug: flag(variables, "debug"),
        })
    }
}

/// The variables of an info file: a JSON object.
pub(crate) fn info(text: &[u8]) -> Result<Variables, Refusal> {
    let wrong = || refuse("data in info file not in the json correct format");
    let object: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(text).map_err(|_| wrong())?;
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => Ok(text),
        serde_json::Value::Number(number) => Ok(number.to_string()),
        serde_json::Value::Bool(value) => Ok(value.to_string()),
        serde_json::Value::Null => Ok(String::new()),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => Err(wrong()),
    };
    object
        .into_iter()
        .map(|(name, value)| Ok((name, text(value)?)))
        .collect()
}

/// Lets an info file say what the form did not; only the form says whose key it is and what namespace.
pub(crate) fn with_info(mut variables: Variables, info: Variables) -> Variables {
    for (name, value) in info {
        if name != "key" && name != "parent_metric_namespace" {
            variables.insert(name, value);
        } else {
            variables.entry(name).or_insert(value);
        }
    }
    variables
}

fn flag(variables: &Variables, name: &str) -> bool {
    variables
        .get(name)
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn list(text: &str) -> Vec<String> {
    let names = text.split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Letters, digits, `.`, `_` and `-`, as Flux takes in uploads.
fn check_name(name: &str) -> Result<(), Refusal> {
    const LONGEST: usize = 250;
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > LONGEST || !name.chars().all(fits) || name.contains("..") {
        return Err(refuse(format!("{name} is not an accepted metric name")));
    }
    Ok(())
}
