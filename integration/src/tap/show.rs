//! A tap's lines as text for people.

use serde_json::Value;

/// A metric: time, type, name, value, tags, and what else is known of it.
pub(super) fn metric(line: &Value) -> String {
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    let mut out = format!(
        "{} {:<9} {}",
        time(line["at"].as_u64().unwrap_or_default()),
        text("type"),
        bare(&line["name"])
    );
    if let Some(value) = line.get("value") {
        out.push_str(&format!(" = {}", bare(value)));
    }
    let tags = line["tags"].as_array().map(Vec::as_slice);
    let tags: Vec<String> = tags.unwrap_or_default().iter().map(bare).collect();
    if !tags.is_empty() {
        out.push_str(&format!(" [{}]", tags.join(",")));
    }
    if let Some(destination) = line.get("destination") {
        out.push_str(&format!(" → {}", bare(destination)));
    }
    const SHOWN: [&str; 6] = ["at", "name", "type", "value", "tags", "destination"];
    for (key, value) in line.as_object().into_iter().flatten() {
        if !SHOWN.contains(&key.as_str()) && !value.is_null() {
            out.push_str(&format!(" {key}={}", bare(value)));
        }
    }
    out
}

/// What a tap has left out so far; `None` where that is nothing.
pub(super) fn left_out(status: &Value) -> Option<String> {
    let number = |key: &str| status["left_out"][key].as_u64().unwrap_or_default();
    let (rate, full) = (number("rate"), number("queue_full"));
    (rate + full > 0).then(|| {
        format!(
            "{} matched, {rate} left out by the rate, {full} because this end reads too slowly",
            status["matched"].as_u64().unwrap_or_default()
        )
    })
}

/// Without quotes, and without what could steer a terminal.
fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text
            .chars()
            .map(|char| if char.is_control() { '·' } else { char })
            .collect(),
        other => other.to_string(),
    }
}

/// Of a moment in milliseconds since the Unix epoch: the time of day, UTC.
fn time(at: u64) -> String {
    let (seconds, millis) = (at / 1000, at % 1000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_metric_is_a_line_that_reads_well_and_cannot_steer_a_terminal() {
        let line = json!({
            "at": 3_723_004, "name": "api.\u{1b}[2Jlatency", "type": "timer", "tags": ["env:prod", "b"],
            "value": 12.5, "destination": "10.0.0.1:8128", "rate": 0.5,
        });
        assert_eq!(
            metric(&line),
            "01:02:03.004 timer     api.\u{1b}[2Jlatency = 12.5 [env:prod,b] → 10.0.0.1:8128 rate=0.5"
                .replace('\u{1b}', "·")
        );
    }

    #[test]
    fn nothing_is_told_of_nothing_left_out() {
        let status = |rate| json!({"matched": 9, "left_out": {"rate": rate, "queue_full": 1}});
        assert!(
            left_out(&status(3))
                .unwrap()
                .starts_with("9 matched, 3 left out")
        );
        let nothing = json!({"matched": 9, "left_out": {"rate": 0, "queue_full": 0}});
        assert_eq!(left_out(&nothing), None);
    }
}
