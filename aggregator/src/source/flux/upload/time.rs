//! Times as people and programs write them in tables.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};

/// Whether `3/4/2020` is in April or in March. All of a column is read in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Day before month, unless the year stands first.
    DayFirst,
    /// Month before day.
    MonthFirst,
}

/// A time with or without its own place on the globe.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Read {
    /// In the upload's time zone.
    Local(DateTime),
    /// Unix seconds.
    Absolute(i64),
}

/// How the dates of a column are written: day first, unless any of them cannot be.
pub(super) fn order<'a>(mut texts: impl Iterator<Item = &'a str>) -> Order {
    let shows_month_first = |text: &str| {
        let mut numbers = leading_numbers(text);
        let (first, second) = (numbers.next(), numbers.next());
        matches!((first, second), (Some(first), Some(second)) if first <= 12 && (13..=31).contains(&second))
    };
    if texts.any(shows_month_first) {
        Order::MonthFirst
    } else {
        Order::DayFirst
    }
}

/// The Unix time in seconds of a text: ten digits of it already, or a date with or without a time, an offset and a name of the month. A time
/// without an offset is one of `zone`.
pub(super) fn parse(text: &str, order: Order, zone: &TimeZone) -> Option<i64> {
    match read(text.trim(), order)? {
        Read::Absolute(seconds) => Some(seconds),
        Read::Local(time) => local(time, zone),
    }
}

/// The Unix time in seconds of a time of `zone`. One that there is twice is the first, one that was skipped moves forward.
pub(super) fn local(time: DateTime, zone: &TimeZone) -> Option<i64> {
    let zoned = zone.to_ambiguous_timestamp(time).compatible().ok()?;
    Some(zoned.as_second())
}

fn leading_numbers(text: &str) -> impl Iterator<Item = u32> {
    text.split(|c: char| !c.is_ascii_digit())
        .map_while(|digits| digits.parse().ok())
}

fn read(text: &str, order: Order) -> Option<Read> {
    if let Some(seconds) = unix(text) {
        return Some(Read::Absolute(seconds));
    }
    let (date, rest) = split_date(text);
    let date = read_date(date, order)?;
    let rest = rest.trim();
    let (time, zone) = split_time(rest);
    let time = if time.is_empty() {
        Time::midnight()
    } else {
        read_time(time)?
    };
    let time = date.to_datetime(time);
    match zone.trim() {
        "" => Some(Read::Local(time)),
        zone => {
            let offset = read_offset(zone)?;
            let timestamp = offset.to_timestamp(time).ok()?;
            Some(Read::Absolute(timestamp.as_second()))
        }
    }
}

/// Ten digits, with a fraction or without.
fn unix(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (whole.len() == 10 && digits(whole) && digits(fraction))
        .then(|| whole.parse().ok())
        .flatten()
}

/// The date ends where a time begins: at `T`, or at a blank before digits with a colon.
fn split_date(text: &str) -> (&str, &str) {
    let colon = text.find(':').unwrap_or(text.len());
    let before = text.get(..colon).unwrap_or_default();
    let begins = match before.rfind(['T', ' ']) {
        Some(place) if colon < text.len() => place,
        _ => return (text, ""),
    };
    let (date, rest) = text.split_at(begins);
    (date, rest.get(1..).unwrap_or_default())
}

fn read_date(text: &str, order: Order) -> Option<Date> {
    let parts = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty());
    let parts: Vec<_> = parts.collect();
    let &[a, b, c] = &*parts else { return None };
    let number = |part: &str| part.parse::<i16>().ok();
    let (year, month, day) = match (month_name(a), month_name(b)) {
        (Some(month), _) => (number(c)?, month, number(b)?),
        (_, Some(month)) if a.len() == 4 => (number(a)?, month, number(c)?),
        (_, Some(month)) => (number(c)?, month, number(a)?),
        _ if a.len() == 4 => (number(a)?, number(b)?, number(c)?),
        _ if order == Order::MonthFirst => (number(c)?, number(a)?, number(b)?),
        _ => (number(c)?, number(b)?, number(a)?),
    };
    let year = if (0..100).contains(&year) {
        year + 2000
    } else {
        year
    };
    Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()
}

fn month_name(text: &str) -> Option<i16> {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let start = text.get(..3)?.to_ascii_lowercase();
    let place = MONTHS.iter().position(|month| *month == start)?;
    text.bytes()
        .all(|byte| byte.is_ascii_alphabetic())
        .then_some(place as i16 + 1)
}

/// A time of day, and what stands behind it.
fn split_time(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.' || c == ','));
    let (time, rest) = text.split_at(end.unwrap_or(text.len()));
    let trimmed = rest.trim_start();
    let half = trimmed.get(..2).unwrap_or_default();
    if half.eq_ignore_ascii_case("am") || half.eq_ignore_ascii_case("pm") {
        let end = text.len() - trimmed.len() + 2;
        return text.split_at(end);
    }
    (time, rest)
}

fn read_time(text: &str) -> Option<Time> {
    let lower = text.to_ascii_lowercase();
    let (text, half) = match lower.strip_suffix("am") {
        Some(text) => (text, Some(false)),
        None => match lower.strip_suffix("pm") {
            Some(text) => (text, Some(true)),
            None => (&*lower, None),
        },
    };
    let mut parts = text.trim().split(':');
    let hour: i8 = parts.next()?.parse().ok()?;
    let minute: i8 = parts.next()?.parse().ok()?;
    // Fractions of a second do not survive: points have whole ones.
    let second = parts.next().unwrap_or("0").split(['.', ',']).next()?;
    let second: i8 = second.parse().ok()?;
    if parts.next().is_some() {
        return None;
    }
    let hour = match half {
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
        None => hour,
    };
    Time::new(hour, minute, second, 0).ok()
}

/// `Z`, `UTC`, `GMT`, or hours and minutes with a sign.
fn read_offset(text: &str) -> Option<Offset> {
    if ["z", "utc", "gmt"].contains(&&*text.to_ascii_lowercase()) {
        return Some(Offset::UTC);
    }
    let (sign, digits) = match text.strip_prefix('+') {
        Some(digits) => (1, digits),
        None => (-1, text.strip_prefix('-')?),
    };
    let digits: String = digits.chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at(2),
        _ => return None,
    };
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    Offset::from_seconds(sign * (hours * 3_600 + minutes * 60)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELEVEN: i64 = 1_589_626_800;

    fn at(text: &str, zone: &str) -> Option<i64> {
        parse(text, Order::DayFirst, &TimeZone::get(zone).unwrap())
    }

    #[test]
    fn every_way_of_writing_eleven_oclock() {
        for text in [
            "16-05-2020 11:00",
            "16-05-2020 11:00:00",
            "2020/05/16 11:00:00",
            "2020-05-16 11:00:00",
            "2020-05-16T11:00:00",
            "2020-05-16T11:00:00Z",
            "2020-05-16T11:00:00.250",
            "2020-05-16 07:00:00 -04:00",
            "2020-05-16 13:00 +0200",
            "16/05/20 11:00 AM",
            "16 May 2020 11:00",
            "May 16, 2020 11:00:00 am",
            "2020-May-16 11:00",
            "1589626800",
            "1589626800.5",
        ] {
            assert_eq!(at(text, "GMT"), Some(ELEVEN), "{text}");
        }
        assert_eq!(at("16.05.2020", "GMT"), Some(ELEVEN - 11 * 3_600));
        assert_eq!(at("16-05-2020 12:30pm", "GMT"), Some(ELEVEN + 5_400));
    }

    #[test]
    fn a_zone_counts_with_its_summer_time() {
        assert_eq!(at("16-05-2020 12:00", "Europe/London"), Some(ELEVEN));
        assert_eq!(at("16-05-2020 07:00", "America/New_York"), Some(ELEVEN));
        // Twice that night: the first. Skipped in spring: forward.
        assert_eq!(at("2020-10-25 01:30", "Europe/London"), Some(1_603_585_800));
        assert_eq!(at("2020-03-29 01:30", "Europe/London"), Some(1_585_445_400));
    }

    #[test]
    fn a_column_is_read_in_one_way() {
        let clear = ["03/04/2020", "05/16/2020"];
        assert_eq!(order(clear.into_iter()), Order::MonthFirst);
        let unclear = ["03/04/2020", "16/05/2020"];
        assert_eq!(order(unclear.into_iter()), Order::DayFirst);
        assert_eq!(order(["2020-05-16"].into_iter()), Order::DayFirst);
        let utc = TimeZone::UTC;
        let march = parse("03/04/2020", Order::MonthFirst, &utc);
        assert_eq!(march, Some(1_583_280_000));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "x",
            "16-05",
            "99-99-2020",
            "16-05-2020 25:00",
            "16-05-2020 11:00 XYZ",
            "158962680",
            "1-2-3-4",
            "é",
        ] {
            assert_eq!(at(text, "UTC"), None, "{text}");
        }
    }
}
