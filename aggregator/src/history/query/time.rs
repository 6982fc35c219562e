//! Times as Graphite takes them: seconds since 1970, `now`, `-1h`, `noon-2d`, `14:30_20261121`, `monday`… All of them are UTC.

use super::budget::QueryError;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Nobody means a time beyond this, in seconds since 1970: the year 5138.
const LAST: i64 = 100_000_000_000;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
/// 1970 began on a Thursday.
const WEEKDAYS: [&str; 7] = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];

/// Reads a time; `now` is what it is relative to. Both in seconds since 1970.
///
/// # Errors
/// For what is no time, with the text in question.
pub(in super::super) fn parse_time(text: &str, now: i64) -> Result<i64, QueryError> {
    let unknown = || QueryError::bad(format!("{text:?} is not a time"));
    if text.len() > 100 {
        return Err(unknown());
    }
    let plain: String = text
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| !matches!(c, '_' | ',' | ' '))
        .collect();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let time = if digits(&plain) && !looks_like_a_date(&plain) {
        plain.parse().map_err(|_| unknown())?
    } else {
        let (reference, offset) = plain.split_at(plain.find(['+', '-']).unwrap_or(plain.len()));
        let reference = reference_time(reference, now).ok_or_else(unknown)?;
        reference.saturating_add(parse_offset(offset)?)
    };
    Ok(time.clamp(-LAST, LAST))
}

/// Reads a span of time such as `1h`, `-10min` or `1d12h`, in seconds.
///
/// # Errors
/// For what is no span.
pub(super) fn parse_offset(text: &str) -> Result<i64, QueryError> {
    let wrong = || {
        QueryError::bad(format!(
            "{text:?} is not a span of time: use for instance 10s, 5min, 1h or 7d"
        ))
    };
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut span: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: i64 = number.parse().map_err(|_| wrong())?;
        let unit = seconds_of(unit).ok_or_else(wrong)?;
        span = span.saturating_add(number.saturating_mul(unit)).min(LAST);
        rest = after;
    }
    Ok(sign * span)
}

fn seconds_of(unit: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("s", 1),
        ("min", MINUTE),
        ("h", HOUR),
        ("d", DAY),
        ("w", 7 * DAY),
        ("mon", 30 * DAY),
        ("y", 365 * DAY),
    ];
    let known = UNITS.iter().find(|(name, _)| unit.starts_with(name));
    known.map(|(_, seconds)| *seconds)
}

/// A time of day, a day, or both.
fn reference_time(text: &str, now: i64) -> Option<i64> {
    if text.is_empty() || text == "now" {
        return Some(now);
    }
    let (time, day) = time_of_day(text)?;
    let today = now.div_euclid(DAY);
    let day = match day {
        "" | "today" => today,
        "yesterday" => today - 1,
        "tomorrow" => today + 1,
        day if day.contains('/') => {
            let mut parts = day.split('/').map(str::parse::<i64>);
            let (month, date, year) = (
                parts.next()?.ok()?,
                parts.next()?.ok()?,
                parts.next()?.ok()?,
            );
            let year = match year {
                0..70 => year + 2000,
                70..1900 => year + 1900,
                _ => year,
            };
            parts.next().is_none().then_some(())?;
            days(year, month, date)?
        }
        day if day.bytes().all(|byte| byte.is_ascii_digit()) => date(day)?,
        day => named_day(day, today)?,
    };
    Some(day * DAY + time)
}

/// The time of day in front of a text, in seconds, and the rest of it.
fn time_of_day(text: &str) -> Option<(i64, &str)> {
    for (name, hour) in [("noon", 12), ("midnight", 0), ("teatime", 16)] {
        if let Some(rest) = text.strip_prefix(name) {
            return Some((hour * HOUR, rest));
        }
    }
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    if !(1..=2).contains(&digits) {
        return Some((0, text));
    }
    let (hour, rest) = text.split_at(digits);
    let mut hour: i64 = hour.parse().ok()?;
    let (minute, rest, said) = match rest.strip_prefix(':') {
        Some(rest) => (rest.get(..2)?.parse::<i64>().ok()?, rest.get(2..)?, true),
        None => (0, rest, false),
    };
    let rest = if let Some(rest) = rest.strip_prefix("am") {
        rest
    } else if let Some(rest) = rest.strip_prefix("pm") {
        hour = (hour + 12) % 24;
        rest
    } else if said {
        rest
    } else {
        return Some((0, text));
    };
    ((0..24).contains(&hour) && (0..60).contains(&minute))
        .then_some((hour * HOUR + minute * MINUTE, rest))
}

/// `nov21` or `monday`, the last one before or on this day.
fn named_day(text: &str, today: i64) -> Option<i64> {
    let name = text.get(..3)?;
    if let Some(month) = MONTHS.iter().position(|known| *known == name) {
        let digits = text.len()
            - text
                .bytes()
                .rev()
                .take(2)
                .take_while(u8::is_ascii_digit)
                .count();
        let date = text.get(digits..)?.parse().ok()?;
        return days(year_of(today), i64::try_from(month).ok()? + 1, date);
    }
    let weekday = i64::try_from(WEEKDAYS.iter().position(|known| *known == name)?).ok()?;
    Some(today - (today - weekday).rem_euclid(7))
}

/// Of eight digits Graphite tells dates from seconds since 1970 so.
fn looks_like_a_date(text: &str) -> bool {
    let number: Option<i64> = text.parse().ok().filter(|_| text.len() == 8);
    number.is_some_and(|number| {
        number / 10_000 > 1900 && number / 100 % 100 < 13 && number % 100 < 32
    })
}

/// `YYYYMMDD` as days since 1970.
fn date(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok().filter(|_| text.len() == 8)?;
    days(number / 10_000, number / 100 % 100, number % 100)
}

/// Days since 1970 of a day that there is.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    ((1..=length).contains(&day) && (1..=9999).contains(&year)).then(|| {
        // Years that begin in March, so that the day of a leap year is their last.
        let (year, month) = if month > 2 {
            (year, month - 3)
        } else {
            (year - 1, month + 9)
        };
        let before = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        before + (153 * month + 2) / 5 + day - 1 - 719_468
    })
}

fn year_of(day: i64) -> i64 {
    let guess = 1970 + day.div_euclid(366);
    (guess..guess + 4)
        .rev()
        .find(|year| days(*year, 1, 1).is_some_and(|first| first <= day))
        .unwrap_or(guess)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Saturday, 21 November 2026, 15:34:52.
    const NOW: i64 = 1_795_275_292;

    #[test]
    fn times_are_read_as_graphite_reads_them() {
        for (text, wanted) in [
            ("1795176280", 1_795_176_280),
            ("0", 0),
            ("now", NOW),
            ("", NOW),
            ("-1h", NOW - 3600),
            ("-10min", NOW - 600),
            ("now-90s", NOW - 90),
            ("-1d12h", NOW - 36 * 3600),
            ("now+2w", NOW + 14 * 86400),
            ("-1mon", NOW - 30 * 86400),
            ("midnight", 1_795_219_200),
            ("noon yesterday", 1_795_219_200 - 43_200),
            ("16:30_20261120", 1_795_192_200),
            ("20261120", 1_795_132_800),
            ("04:05pm_11/20/26", 1_795_190_700),
            ("6pm today", 1_795_284_000),
            ("nov20", 1_795_132_800),
            ("friday", 1_795_132_800),
            ("saturday", 1_795_219_200),
            ("20240229", 1_709_164_800),
            ("999999999999999", LAST),
        ] {
            assert_eq!(parse_time(text, NOW), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "yesterhour",
            "-1m",
            "-h",
            "-1",
            "25:00",
            "1:2",
            "20230229_",
            "12:00_x",
            "99999999999999999999",
            "-1é",
        ] {
            assert!(
                parse_time(text, NOW).is_err(),
                "{text}: {:?}",
                parse_time(text, NOW)
            );
        }
    }

    #[test]
    fn years_begin_with_their_first_day() {
        for year in 1971..2200 {
            let first = days(year, 1, 1).unwrap();
            assert_eq!((year_of(first), year_of(first - 1)), (year, year - 1));
        }
    }
}
