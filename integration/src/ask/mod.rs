//! Questions to running programs, by their admin servers.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the answers are the tools' standard output"
)]

pub mod ready;
pub mod top;
pub mod whereabouts;

use std::io;

use serde_json::Value;

use crate::tier::get;

/// The JSON that `address` (`host:port`) answers for a path.
async fn ask(address: &str, path: &str) -> io::Result<Value> {
    let answer = get(address, path)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
    if !answer.status.is_success() {
        let (status, text) = (answer.status, answer.text());
        let why = plain(text.trim());
        return Err(io::Error::other(format!(
            "{address} answers {status}: {why}"
        )));
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        io::Error::other(format!("{address}{path}: not what was asked for: {error}"))
    })
}

/// Text from the network for a terminal: without what would control it.
fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// A string of an answer, for a terminal.
fn text(value: &Value) -> String {
    plain(value.as_str().unwrap_or("?"))
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// "3 s ago", of milliseconds since the epoch by the clock of the one that answers.
fn ago(at: u64, now: u64) -> String {
    let seconds = now.saturating_sub(at) / 1000;
    match seconds {
        0..100 => format!("{seconds} s ago"),
        100..6000 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_control_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(plain("größe"), "größe");
    }

    #[test]
    fn times_are_told_in_one_unit() {
        assert_eq!(ago(1_000, 4_900), "3 s ago");
        assert_eq!(ago(0, 120_000), "2 min ago");
        assert_eq!(ago(0, 7_200_000), "2 h ago");
        assert_eq!(ago(5_000, 0), "0 s ago");
    }
}
