//! `tributary top`: the names with the most series and samples, and the tag that explodes.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{ask, count, list, text};

/// Whose names, and how they are told.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// `http_address` of an agent or a global.
    pub address: String,
    /// How many names are told.
    #[arg(long, default_value_t = 10)]
    pub names: usize,
    /// Print the answer as JSON, as docs/api.md describes it.
    #[arg(long)]
    pub json: bool,
}

/// Asks until a flush has been counted.
///
/// # Errors
/// If the program does not answer, or does not flush.
pub async fn count_names(address: &str) -> io::Result<Value> {
    let status = ask(address, "/api/status").await?;
    let interval = status["interval"]
        .as_f64()
        .unwrap_or(10.0)
        .clamp(0.1, 3600.0);
    let deadline = Instant::now() + Duration::from_secs_f64(interval * 3.0 + 10.0);
    loop {
        let answer = ask(address, "/api/top").await?;
        if !answer["counted"].is_null() {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("{address} has not flushed")));
        }
        sleep(Duration::from_secs_f64((interval / 4.0).clamp(0.1, 1.0))).await;
    }
}

/// Prints the tables. They come with the next flush: counting starts with the question.
pub async fn run(options: Options) -> ExitCode {
    let answer = match count_names(&options.address).await {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("tributary: {error}");
            return ExitCode::FAILURE;
        }
    };
    if options.json {
        println!("{answer:#}");
    } else {
        print!("{}", report(&answer["counted"], options.names));
    }
    ExitCode::SUCCESS
}

fn report(counted: &Value, names: usize) -> String {
    let mut lines = vec![format!(
        "last interval: {} different names",
        count(&counted["names"])
    )];
    for (title, key) in [("most series", "by_series"), ("most samples", "by_samples")] {
        lines.push(String::new());
        lines.push(format!(
            "{:<48} {:>10} {:>12}  tags with the most values",
            title, "series", "samples"
        ));
        for name in list(&counted[key]).iter().take(names) {
            let tags = list(&name["tags"]).iter();
            let tags: Vec<_> = tags
                .filter(|tag| count(&tag["values"]) > 1)
                .map(|tag| match tag["key"].as_str() {
                    Some("") => format!("(words) {}", count(&tag["values"])),
                    _ => format!("{} {}", text(&tag["key"]), count(&tag["values"])),
                })
                .collect();
            let line = format!(
                "{:<48} {:>10} {:>12}  {}",
                text(&name["name"]),
                count(&name["series"]),
                count(&name["samples"]),
                tags.join(", ")
            );
            lines.push(line.trim_end().to_owned());
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_that_explodes_stands_beside_the_name() {
        let counted = serde_json::json!({
            "names": 2,
            "by_series": [{"name": "a\u{7}b", "series": 900, "samples": 1000, "tags": [
                {"key": "user", "values": 900}, {"key": "", "values": 2}, {"key": "env", "values": 1}]}],
            "by_samples": [],
        });
        let report = report(&counted, 10);
        let line = report.lines().nth(3).unwrap();
        assert!(line.starts_with("a\\u{7}b"), "{line}");
        assert!(
            line.ends_with("900         1000  user 900, (words) 2"),
            "{line}"
        );
    }
}
