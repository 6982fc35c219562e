//! Points as tab-separated columns: name, type, tags, hostname, interval, timestamp, value.

use std::fmt;
use std::io::{self, Write};

use crate::point::{Batch, Point};
use crate::sink::debug::comma_separated;
use crate::sink::text::{Escaped, Number};

/// Appends a point's line. A service check's message has no column.
pub(super) fn point(out: &mut Vec<u8>, batch: &Batch, point: &Point) -> io::Result<()> {
    let check = point.check.as_deref();
    let hostname = check
        .and_then(|check| check.hostname.as_deref())
        .unwrap_or(&batch.hostname);
    writeln!(
        out,
        "{}{}\t{}\t{}\t{}\t{}\t{}\t{}",
        Escaped(&point.base),
        Escaped(point.suffix.as_deref().unwrap_or_default()),
        point.kind.as_str(),
        TagColumn(point),
        Escaped(hostname),
        Number::seconds(batch.interval),
        point.timestamp.seconds(),
        Number(point.value),
    )
}

struct TagColumn<'a>(&'a Point);

impl fmt::Display for TagColumn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        comma_separated(f, self.0.tags.iter())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::key::Tags;
    use crate::point::{CheckText, PointKind, Timestamp};

    #[test]
    fn columns_are_in_order_and_text_cannot_break_them() {
        let batch = Batch {
            hostname: "g1".into(),
            interval: Duration::from_millis(500),
            ..Batch::default()
        };
        let mut sent = Point {
            base: "a\tb".into(),
            suffix: Some(".max".into()),
            tags: Tags::new(["x:1", "y\nz"]),
            kind: PointKind::Counter,
            value: 3.0,
            timestamp: Timestamp::from_seconds(7),
            check: None,
        };
        let mut out = Vec::new();
        point(&mut out, &batch, &sent).unwrap();
        sent.kind = PointKind::Status;
        sent.value = 0.5;
        sent.tags = Tags::default();
        sent.check = Some(Arc::new(CheckText {
            message: "not shown".to_owned(),
            hostname: Some("db1".to_owned()),
        }));
        point(&mut out, &batch, &sent).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a\\tb.max\tcounter\tx:1,y\\nz\tg1\t0.5\t7\t3\na\\tb.max\tstatus\t\tdb1\t0.5\t7\t0.5\n"
        );
    }
}
