//! Points as messages.

use crate::graphite::naming::Naming;
use crate::kafka::json;
use crate::point::Point;
use crate::sink::text::Number;

use super::config::Format;

/// A message is closed once it is longer, in bytes: brokers take 1 MB.
const FULL: usize = 64 << 10;

/// Makes messages of points.
pub(super) struct Encoder {
    format: Format,
    /// Of carbon's paths.
    naming: Naming,
}

/// Memory for one message, used again and again.
#[derive(Default)]
pub(super) struct Message {
    pub(super) key: String,
    pub(super) payload: Vec<u8>,
    path: String,
}

impl Encoder {
    pub(super) fn new(format: Format) -> Result<Self, String> {
        Ok(Self {
            format,
            naming: Naming::new(&Default::default())?,
        })
    }

    /// Makes a message of the first points: those that follow one another with the same name and tags, as the aggregates of one histogram do. Returns how many
    /// there are; 0 if there is none. The key is the same for all points of a series, and so is the partition.
    pub(super) fn encode(&self, points: &[Point], message: &mut Message) -> usize {
        message.key.clear();
        message.payload.clear();
        let Some(first) = points.first() else {
            return 0;
        };
        message.key.push_str(&first.base);
        for tag in first.tags.iter() {
            message.key.push(';');
            message.key.push_str(tag);
        }
        let mut count = 0;
        for point in points {
            let same = point.base == first.base && point.tags == first.tags;
            if count > 0 && (!same || message.payload.len() >= FULL) {
                break;
            }
            self.push(point, message);
            count += 1;
        }
        count
    }

    fn push(&self, point: &Point, message: &mut Message) {
        let Message { payload, path, .. } = message;
        match self.format {
            Format::TributaryJson => {
                // Texts and finite numbers can all be written.
                let _ = json::write(payload, point);
            }
            Format::Carbon => {
                path.clear();
                self.naming.push_path(point, path);
                let line = format!(
                    "{path} {} {}\n",
                    Number(point.value),
                    point.timestamp.seconds()
                );
                payload.extend_from_slice(line.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Tags;
    use crate::point::{PointKind, Timestamp};

    fn point(base: &str, suffix: Option<&str>, tag: &str) -> Point {
        Point {
            base: base.into(),
            suffix: suffix.map(Into::into),
            tags: Tags::new([tag]),
            kind: PointKind::Gauge,
            value: 2.5,
            timestamp: Timestamp::from_millis(1_700_000_000_900),
            check: None,
        }
    }

    #[test]
    fn neighbours_of_one_series_share_a_message_and_its_key() {
        let points = [
            point("a", Some(".min"), "x:1"),
            point("a", Some(".max"), "x:1"),
            point("a", None, "x:2"),
            point("b", None, "x:2"),
        ];
        let encoder = Encoder::new(Format::Carbon).unwrap();
        let mut message = Message::default();
        assert_eq!(encoder.encode(&points, &mut message), 2);
        assert_eq!(message.key, "a;x:1");
        let text = "a.min;x=1 2.5 1700000000\na.max;x=1 2.5 1700000000\n";
        assert_eq!(message.payload, text.as_bytes());
        assert_eq!(encoder.encode(&points[2..], &mut message), 1);
        assert_eq!(message.key, "a;x:2");
        assert_eq!(encoder.encode(&[], &mut message), 0);
    }

    #[test]
    fn a_long_row_of_one_series_becomes_several_messages() {
        let points = vec![point("a", None, "x:1"); 5000];
        let encoder = Encoder::new(Format::TributaryJson).unwrap();
        let (mut message, mut rest, mut messages) = (Message::default(), &points[..], 0);
        while !rest.is_empty() {
            let count = encoder.encode(rest, &mut message);
            assert!(count > 0 && message.payload.len() < FULL + 1000);
            assert_eq!(
                message.payload.split(|byte| *byte == b'\n').count(),
                count + 1
            );
            rest = &rest[count..];
            messages += 1;
        }
        assert!(messages > 1, "{messages}");
    }
}
