//! DogStatsD lines, checked by reading them as the agent does.

use std::fmt::Display;
use std::time::Duration;

use tributary_aggregator::key::Kind;
use tributary_aggregator::sample::Value;
use tributary_aggregator::source::dogstatsd::{self, Item};

use super::options::{AlertType, Mode, Options, Priority};

/// What is to be sent; `took` is how long the timed command ran.
///
/// # Errors
/// In words: what is missing, or what no agent would understand as it is meant.
pub(super) fn lines(options: &Options, took: Option<Duration>) -> Result<Vec<String>, String> {
    match options.mode()? {
        Mode::Metric => metric(options, took),
        Mode::Event => Ok(vec![event(options)?]),
        Mode::Sc => Ok(vec![check(options)?]),
    }
}

fn metric(options: &Options, took: Option<Duration>) -> Result<Vec<String>, String> {
    let name = options.name.as_deref().ok_or("a metric needs --name")?;
    if !options.has_value() {
        return Err(
            "a metric needs --count, --gauge, --timing, --histogram, --distribution, --set or --command"
                .to_owned(),
        );
    }
    let tags = joined(&[&options.tag]);
    let milliseconds = |time: Duration| time.as_nanos() as f64 / 1e6;
    let values = [
        options.count.map(|value| (value.to_string(), "c")),
        options.gauge.map(|value| (value.to_string(), "g")),
        options
            .timing
            .map(|time| (milliseconds(time.get()).to_string(), "ms")),
        options.histogram.map(|value| (value.to_string(), "h")),
        options.distribution.map(|value| (value.to_string(), "d")),
        options.set.clone().map(|member| (member, "s")),
        took.filter(|_| options.command)
            .map(|time| (milliseconds(time).to_string(), "ms")),
    ];
    let line = |(value, kind): (String, &str)| {
        let mut line = format!("{name}:{value}|{kind}");
        section(&mut line, "@", options.rate);
        section(&mut line, "#", tags.as_ref());
        agreed(line, |item| match item {
            Item::Sample(sample) => {
                sample.name == name.as_bytes()
                    && sample.tags == tags.as_ref().map(String::as_bytes)
                    && options.rate.is_none_or(|rate| rate == sample.rate)
                    && match sample.value {
                        Value::Member(member) => {
                            sample.kind == Kind::Set && member == value.as_bytes()
                        }
                        _ => true,
                    }
            }
            Item::Event(_) => false,
        })
    };
    values.into_iter().flatten().map(line).collect()
}

fn event(options: &Options) -> Result<String, String> {
    let title = options
        .e_title
        .as_deref()
        .ok_or("an event needs --e_title")?;
    let text = options.e_text.as_deref().ok_or("an event needs --e_text")?;
    let tags = joined(&[&options.tag, &options.e_event_tags]);
    let written = without_breaks(text);
    let mut line = format!("_e{{{},{}}}:{title}|{written}", title.len(), written.len());
    section(&mut line, "d:", options.e_time);
    section(&mut line, "h:", options.e_hostname.as_ref());
    section(&mut line, "k:", options.e_aggr_key.as_ref());
    section(&mut line, "p:", options.e_priority.map(Priority::name));
    section(&mut line, "s:", options.e_source_type.as_ref());
    section(&mut line, "t:", options.e_alert_type.map(AlertType::name));
    section(&mut line, "#", tags.as_ref());
    agreed(line, |item| match item {
        Item::Event(event) => {
            event.title == title
                && event.text == text
                && event.hostname == options.e_hostname
                && event.aggregation_key == options.e_aggr_key
                && event.source_type == options.e_source_type
        }
        Item::Sample(_) => false,
    })
}

fn check(options: &Options) -> Result<String, String> {
    let name = options
        .sc_name
        .as_deref()
        .ok_or("a service check needs --sc_name")?;
    let status = options
        .sc_status
        .ok_or("a service check needs --sc_status")? as u8;
    let tags = joined(&[&options.tag, &options.sc_tags]);
    let message = options.sc_msg.as_deref();
    let mut line = format!("_sc|{name}|{status}");
    section(&mut line, "d:", options.sc_time);
    section(&mut line, "h:", options.sc_hostname.as_ref());
    section(&mut line, "#", tags.as_ref());
    // The protocol wants it last.
    section(&mut line, "m:", message.map(without_breaks));
    agreed(line, |item| match item {
        Item::Sample(sample) => match sample.value {
            Value::Status(check) => {
                sample.name == name.as_bytes()
                    && sample.tags == tags.as_ref().map(String::as_bytes)
                    && check.status == status
                    && check.message == message.unwrap_or_default()
                    && check.hostname == options.sc_hostname.as_deref()
            }
            _ => false,
        },
        Item::Event(_) => false,
    })
}

fn joined(lists: &[&[String]]) -> Option<String> {
    let tags = lists.concat();
    (!tags.is_empty()).then(|| tags.join(","))
}

fn section(line: &mut String, mark: &str, value: Option<impl Display>) {
    if let Some(value) = value {
        line.push_str(&format!("|{mark}{value}"));
    }
}

/// The protocol cannot carry line breaks.
fn without_breaks(text: &str) -> String {
    text.replace('\n', "\\n")
}

/// The line, if an agent takes it for exactly one thing, and for what it is meant to be.
fn agreed(line: String, is_meant: impl Fn(&Item<'_>) -> bool) -> Result<String, String> {
    let not_as_meant =
        || format!("the protocol cannot carry this: {line:?} would be taken for something else");
    if line.contains('\n') {
        return Err(not_as_meant());
    }
    let (mut items, mut meant) = (0, true);
    dogstatsd::parse(line.as_bytes(), |item| {
        items += 1;
        meant &= is_meant(&item);
    })
    .map_err(|error| format!("an agent would refuse {line:?}: {error}"))?;
    match items == 1 && meant {
        true => Ok(line),
        false => Err(not_as_meant()),
    }
}

// === impl Priority, AlertType ===

impl Priority {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

impl AlertType {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Success => "success",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn options(line: &[&str]) -> Options {
        let command = Options::augment_args(Command::new("emit"));
        let words = ["emit"].iter().chain(line);
        Options::from_arg_matches(&command.get_matches_from(words)).unwrap()
    }

    fn told(line: &[&str]) -> Result<Vec<String>, String> {
        lines(&options(line), Some(Duration::from_micros(1500)))
    }

    #[test]
    fn each_value_of_a_metric_is_a_line() {
        let all = told(&[
            "--name",
            "a.b",
            "--count",
            "-3",
            "--gauge",
            "2.5",
            "--timing",
            "1s5ms",
            "--histogram",
            "1e3",
            "--distribution",
            "0",
            "--set",
            "u:1",
            "--rate",
            "0.5",
            "--tag",
            "x:1,y",
        ]);
        let sections = "|@0.5|#x:1,y";
        let expected = ["-3|c", "2.5|g", "1005|ms", "1000|h", "0|d", "u:1|s"];
        let expected: Vec<_> = expected
            .iter()
            .map(|value| format!("a.b:{value}{sections}"))
            .collect();
        assert_eq!(all, Ok(expected));
        assert_eq!(
            told(&["--name", "t", "--command", "ls", "-l"]),
            Ok(vec!["t:1.5|ms".to_owned()])
        );
    }

    #[test]
    fn events_and_checks_carry_all_that_is_given() {
        let event = told(&[
            "--e_title",
            "ü|x",
            "--e_text",
            "a\nb",
            "--e_time",
            "5",
            "--e_hostname",
            "h",
            "--e_aggr_key",
            "k",
            "--e_priority",
            "low",
            "--e_source_type",
            "s",
            "--e_alert_type",
            "error",
            "--tag",
            "a:1",
            "--e_event_tags",
            "b:2",
        ]);
        let expected = "_e{4,4}:ü|x|a\\nb|d:5|h:h|k:k|p:low|s:s|t:error|#a:1,b:2";
        assert_eq!(event, Ok(vec![expected.to_owned()]));
        let check = told(&[
            "--sc_name",
            "db",
            "--sc_status",
            "2",
            "--sc_time",
            "5",
            "--sc_hostname",
            "h",
            "--sc_tags",
            "a:1",
            "--sc_msg",
            "no\nway",
        ]);
        let expected = "_sc|db|2|d:5|h:h|#a:1|m:no\\nway";
        assert_eq!(check, Ok(vec![expected.to_owned()]));
        let word = told(&["--mode", "sc", "--sc_name", "db", "--sc_status", "critical"]);
        assert_eq!(word, Ok(vec!["_sc|db|2".to_owned()]));
    }

    #[test]
    fn what_would_be_taken_for_something_else_is_not_sent() {
        for bad in [
            &["--name", "a:1|c\nb", "--count", "1"][..],
            &["--name", "a:1|c", "--count", "1"],
            &["--name", "a b", "--set", "x|y"],
            &["--name", "a", "--set", ""],
            &["--name", "a", "--count", "1", "--tag", "x|@0.1"],
            &["--name", "a", "--count", "1", "--rate", "2"],
            &["--name", "a", "--gauge", "NaN"],
            &["--name", "", "--count", "1"],
            &["--e_title", "a\nb", "--e_text", "x"],
            &["--e_title", "a", "--e_text", "x", "--e_hostname", "h|k:z"],
            &["--sc_name", "a|b", "--sc_status", "0"],
            &["--sc_name", "a", "--sc_status", "0", "--sc_msg", "x|y"],
        ] {
            assert!(told(bad).is_err(), "{bad:?}: {:?}", told(bad));
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_told() {
        for (line, reason) in [
            (&[][..], "nothing to send"),
            (&["--count", "1"], "needs --name"),
            (&["--name", "a"], "needs --count"),
            (&["--e_title", "a"], "needs --e_text"),
            (&["--sc_name", "a"], "needs --sc_status"),
            (&["--name", "a", "--e_title", "b"], "at a time"),
            (
                &["--mode", "event", "--name", "a", "--count", "1"],
                "at a time",
            ),
        ] {
            let error = told(line).unwrap_err();
            assert!(error.contains(reason), "{line:?}: {error}");
        }
    }
}
