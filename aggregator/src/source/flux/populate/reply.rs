//! What servers answer.

use serde::Deserialize;

use super::request::Remote;

/// Unix seconds and values.
pub(super) type Points = Vec<(i64, f64)>;

/// Answer of Graphite's `/render?format=json`: a list of series, each with values before times.
#[derive(Deserialize)]
struct Rendered {
    datapoints: Vec<(Option<f64>, i64)>,
}

/// Answer of Prometheus' `/api/v1/query` for a range.
#[derive(Deserialize)]
struct Queried {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Matrix>,
}

#[derive(Deserialize)]
struct Matrix {
    values: Vec<(f64, String)>,
}

/// The points of the first series; none if there is none. Nulls, and what is not finite, are left out. The error is for people.
pub(super) fn points(remote: Remote, body: &[u8]) -> Result<Points, String> {
    let wrong = |error: serde_json::Error| format!("an answer that cannot be read: {error}");
    let points: Points = match remote {
        Remote::Graphite => {
            let series: Vec<Rendered> = serde_json::from_slice(body).map_err(wrong)?;
            let first = series.into_iter().next();
            let points = first.map_or_else(Vec::new, |series| series.datapoints);
            points
                .into_iter()
                .filter_map(|(value, time)| Some((time, value?)))
                .collect()
        }
        Remote::Prometheus => {
            let queried: Queried = serde_json::from_slice(body).map_err(wrong)?;
            let first = queried.data.result.into_iter().next();
            let points = first.map_or_else(Vec::new, |series| series.values);
            points
                .into_iter()
                .filter_map(|(time, value)| Some((time.floor() as i64, value.parse().ok()?)))
                .collect()
        }
    };
    let finite = |(_, value): &(i64, f64)| value.is_finite();
    Ok(points.into_iter().filter(finite).collect())
}

/// One mean a minute, at its start, of what is newer than `last` and not of the minute that `now` is in: more may come of that. Minutes without
/// points have none.
pub(super) fn minutes(mut points: Points, last: Option<i64>, now: i64) -> Points {
    points.sort_by_key(|(time, _)| *time);
    points.dedup_by_key(|(time, _)| *time);
    let minute = |time: i64| time.div_euclid(60) * 60;
    let mut means: Vec<(i64, f64, u32)> = Vec::new();
    for (time, value) in points {
        let at = minute(time);
        // The mark is a minute's start: all of that minute was sent.
        if last.is_some_and(|last| at <= last) || at >= minute(now) {
            continue;
        }
        match means.last_mut() {
            Some((open, sum, count)) if *open == at => {
                *sum += value;
                *count += 1;
            }
            _ => means.push((at, value, 1)),
        }
    }
    let mean = |(at, sum, count): (i64, f64, u32)| (at, sum / f64::from(count));
    means.into_iter().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_series_without_its_gaps() {
        let graphite = br#"[{"target": "a", "datapoints": [[1.5, 60], [null, 120], [2, 180]]}, {"target": "b", "datapoints": []}]"#;
        assert_eq!(
            points(Remote::Graphite, graphite).unwrap(),
            [(60, 1.5), (180, 2.0)]
        );
        assert_eq!(points(Remote::Graphite, b"[]").unwrap(), []);
        let prometheus = br#"{"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[60.5, "1"], [75.5, "NaN"], [90, "+Inf"], [120, "3"]]}]}}"#;
        assert_eq!(
            points(Remote::Prometheus, prometheus).unwrap(),
            [(60, 1.0), (120, 3.0)]
        );
        for body in [&b""[..], b"{}", b"<html>", br#"[{"datapoints": "x"}]"#] {
            points(Remote::Graphite, body).unwrap_err();
            points(Remote::Prometheus, body).unwrap_err();
        }
    }

    #[test]
    fn whole_minutes_that_are_new_and_none_between_them() {
        let points = vec![
            (125, 3.0),
            (119, 1.0),
            (60, 2.0),
            (100, 3.0),
            (100, 9.0),
            (300, 5.0),
            (360, 6.0),
            (365, 7.0),
        ];
        assert_eq!(
            minutes(points.clone(), None, 364),
            [(60, 2.0), (120, 3.0), (300, 5.0)]
        );
        assert_eq!(
            minutes(points.clone(), Some(60), 364),
            [(120, 3.0), (300, 5.0)]
        );
        assert_eq!(minutes(points, Some(300), 364), []);
    }
}
