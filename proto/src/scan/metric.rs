//! The scan of one metric.

use thiserror::Error;

use super::fields::Found;
use super::tags::TagIter;
use super::wire::WireError;
use crate::metricpb::Type;

/// What makes a repeated delivery recognisable: the place of a metric in everything that its sender ever forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// Random at the start of the sending process, never 0.
    pub origin: u64,
    /// The sender's flush, counted from 1.
    pub flush: u64,
    /// The place in that flush, counted from 0.
    pub index: u32,
}

/// Which field of the value oneof a metric carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueField {
    /// Field 5.
    Counter,
    /// Field 6.
    Gauge,
    /// Field 7, for histograms and timers.
    Histogram,
    /// Field 8.
    Set,
}

/// A metric as far as routing needs it, borrowed from its encoded bytes.
#[derive(Debug, Clone)]
pub struct Scanned<'a> {
    /// Never empty.
    pub name: &'a str,
    /// The type; Counter if the message has none, as protobuf says.
    pub kind: Type,
    /// The number of `metricpb.Scope` as sent, known or not.
    pub scope: i32,
    /// `None` from a sender that does not stamp.
    pub stamp: Option<Stamp>,
    /// The interval that a metric which is handed over belongs to, by the time of its points in milliseconds since the Unix epoch,
    /// or [`ANY_INTERVAL`]; 0 for all others.
    pub interval: u64,
    /// The last value field seen, not looked into; `None` if there is none.
    pub value: Option<ValueField>,
    /// The encoded message in the value field; `None` if there is none, or more than one.
    pub content: Option<&'a [u8]>,
    tags: TagIter<'a>,
}

/// Why a metric cannot be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ScanError {
    /// It is not a protobuf message.
    #[error("metric cannot be read: {0}")]
    Wire(#[from] WireError),
    /// The name or a tag is not UTF-8.
    #[error("metric field {field} is not valid utf-8")]
    Utf8 {
        /// 1 for the name, 2 for a tag.
        field: u32,
    },
    /// A type that the protocol does not have.
    #[error("metric has unknown type {0}")]
    Type(i32),
    /// It has no name.
    #[error("metric has no name")]
    Name,
}

impl ScanError {
    /// The cause to count it by.
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Wire(error) => error.cause(),
            Self::Utf8 { .. } => "utf8",
            Self::Type(_) => "type",
            Self::Name => "name",
        }
    }
}

/// Of a metric that is handed over: its receiver's open interval will do, whichever it is. No interval is as short as to end there.
pub const ANY_INTERVAL: u64 = 1;

impl Stamp {
    /// The stamp of the metric in these bytes, also of one that is otherwise of no use; `None` if there is none, or the bytes are no message.
    #[inline]
    pub fn of(metric: &[u8]) -> Option<Self> {
        Found::find(metric).ok()?.stamp()
    }

    /// As [`Stamp::of`], with the interval that a metric which is handed over belongs to; 0 for all others.
    #[inline]
    pub fn and_interval(metric: &[u8]) -> Option<(Self, u64)> {
        let found = Found::find(metric).ok()?;
        Some((found.stamp()?, found.interval))
    }
}

impl<'a> Scanned<'a> {
    /// Scans the bytes of a `metricpb.Metric`.
    ///
    /// # Errors
    /// See [`ScanError`]. Unknown fields are passed over; a value that is missing or of the wrong kind is no error here.
    #[inline]
    pub fn scan(metric: &'a [u8]) -> Result<Self, ScanError> {
        let found = Found::find(metric)?;
        let (name, tags) = found.text(metric)?;
        if name.is_empty() {
            return Err(ScanError::Name);
        }
        let kind = Type::try_from(found.kind).map_err(|_| ScanError::Type(found.kind))?;
        Ok(Self {
            name,
            kind,
            scope: found.scope,
            stamp: found.stamp(),
            interval: found.interval,
            value: found.value,
            content: found.content(metric),
            tags,
        })
    }

    /// The tags in the order in which the metric lists them.
    #[inline]
    pub fn tags(&self) -> TagIter<'a> {
        self.tags.clone()
    }

    /// Hands the bytes of the routing key to `feed`, piece by piece: name, lower-case type, tags joined by a comma, with nothing
    /// between the three. Tags for which `leave_out` says so are not part of the key.
    ///
    /// This is Veneur's key. All pieces belong to one byte string: how they are cut carries no meaning.
    #[inline]
    pub fn routing_key(
        &self,
        mut leave_out: impl FnMut(&str) -> bool,
        mut feed: impl FnMut(&[u8]),
    ) {
        feed(self.name.as_bytes());
        feed(self.kind.lower_name().as_bytes());
        let mut first = true;
        for tag in self.tags() {
            if leave_out(tag) {
                continue;
            }
            if !first {
                feed(b",");
            }
            first = false;
            feed(tag.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::wire::{DELIMITED, FIXED64, VARINT};
    use super::*;
    use crate::metricpb::{CounterValue, Metric, metric::Value};

    fn metric(tags: &[&str]) -> Metric {
        Metric {
            name: "api.latency".to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            r#type: Type::Timer as i32,
            scope: 2,
            origin: u64::MAX,
            flush: 300,
            index: 70_000,
            interval: 0,
            value: Some(Value::Counter(CounterValue { value: -1 })),
        }
    }

    fn tags_of(bytes: &[u8]) -> Vec<&str> {
        Scanned::scan(bytes).expect("a metric").tags().collect()
    }

    fn error(bytes: &[u8]) -> ScanError {
        Scanned::scan(bytes).expect_err("no metric")
    }

    /// One field with wire type 2.
    fn delimited(field: u32, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        prost::encoding::encode_varint(u64::from(field << 3 | 2), &mut out);
        prost::encoding::encode_varint(content.len() as u64, &mut out);
        out.extend_from_slice(content);
        out
    }

    #[test]
    fn a_scan_reads_what_routing_needs() {
        let bytes = metric(&["env:prod", "", "service:api"]).encode_to_vec();
        let scanned = Scanned::scan(&bytes).expect("a metric");
        assert_eq!(scanned.name, "api.latency");
        assert_eq!(scanned.kind, Type::Timer);
        assert_eq!(scanned.scope, 2);
        // The type says timer: the disagreement is for the global to see.
        assert_eq!(scanned.value, Some(ValueField::Counter));
        let stamp = Stamp {
            origin: u64::MAX,
            flush: 300,
            index: 70_000,
        };
        assert_eq!(scanned.stamp, Some(stamp));
        let tags: Vec<_> = scanned.tags().collect();
        assert_eq!(tags, ["env:prod", "", "service:api"]);
    }

    #[test]
    fn only_an_origin_makes_a_stamp() {
        let mut unstamped = metric(&[]);
        unstamped.origin = 0;
        let bytes = unstamped.encode_to_vec();
        assert_eq!(Scanned::scan(&bytes).expect("a metric").stamp, None);
        assert_eq!(Stamp::of(&bytes), None);
    }

    #[test]
    fn a_metric_that_cannot_be_routed_has_its_stamp_all_the_same() {
        let mut bytes = metric(&[]).encode_to_vec();
        bytes.extend(delimited(1, b"\xff"));
        bytes.extend([0x18, 0x63]);
        assert!(Scanned::scan(&bytes).is_err());
        assert_eq!(Stamp::of(&bytes).map(|stamp| stamp.index), Some(70_000));
        // What is appended to a message is merged into it.
        bytes.extend(
            Metric {
                interval: 20_000,
                ..Metric::default()
            }
            .encode_to_vec(),
        );
        let read = Stamp::and_interval(&bytes);
        assert_eq!(
            read.map(|(stamp, interval)| (stamp.index, interval)),
            Some((70_000, 20_000))
        );
        bytes.push(0x48);
        assert_eq!(Stamp::of(&bytes), None);
    }

    #[test]
    fn tags_may_be_long_or_of_any_alphabet_or_apart() {
        let long = "k:".to_owned() + &"v".repeat(300);
        let bytes = metric(&["a:1", &long, "b:2"]).encode_to_vec();
        assert_eq!(tags_of(&bytes), ["a:1", &long, "b:2"]);

        let bytes = metric(&["città:münchen", "z"]).encode_to_vec();
        assert_eq!(tags_of(&bytes), ["città:münchen", "z"]);

        let mut bytes = delimited(2, b"first");
        bytes.extend(delimited(5, &[0x08, 0x90, 0x4e]));
        bytes.extend(delimited(1, b"name"));
        bytes.extend([0x18, 0x01]);
        bytes.extend(delimited(2, b"second"));
        assert_eq!(tags_of(&bytes), ["first", "second"]);

        let mut bytes = delimited(1, b"name");
        bytes.extend(delimited(2, b"first"));
        bytes.extend([0x18, 0x01]);
        bytes.extend(delimited(2, b"second"));
        assert_eq!(tags_of(&bytes), ["first", "second"]);
    }

    #[test]
    fn the_last_of_a_repeated_field_wins() {
        let mut bytes = metric(&["a"]).encode_to_vec();
        let mut later = metric(&["b"]);
        later.name = "later".to_owned();
        later.r#type = Type::Set as i32;
        later.flush = 7;
        bytes.extend(later.encode_to_vec());
        bytes.extend(delimited(8, &[]));
        let scanned = Scanned::scan(&bytes).expect("a metric");
        assert_eq!((scanned.name, scanned.kind), ("later", Type::Set));
        assert_eq!(scanned.stamp.map(|stamp| stamp.flush), Some(7));
        assert_eq!(scanned.value, Some(ValueField::Set));
        assert_eq!(scanned.tags().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn unknown_fields_are_passed_over() {
        let mut bytes = vec![0x20, 0x05];
        bytes.extend(metric(&["a"]).encode_to_vec());
        bytes.extend(delimited(4000, b"\xff\xfe"));
        bytes.extend([0x55, 1, 2, 3, 4]);
        assert_eq!(tags_of(&bytes), ["a"]);
    }

    #[test]
    fn each_kind_of_bad_metric_has_its_cause() {
        let named = |rest: &[u8]| [&delimited(1, b"n")[..], rest].concat();
        assert_eq!(error(&[]), ScanError::Name);
        assert_eq!(error(&delimited(2, b"tag")).cause(), "name");
        assert_eq!(error(&named(&delimited(1, b""))).cause(), "name");
        assert_eq!(error(&named(&[0x18, 0x05])), ScanError::Type(5));
        assert_eq!(error(&named(&[0x12, 0x05, b'a'])).cause(), "truncated");
        assert_eq!(error(&named(&[0x48])).cause(), "truncated");
        assert_eq!(error(&named(&[0x18; 1])).cause(), "truncated");
        assert_eq!(error(&named(&[0x48, 0xff, 0xff])).cause(), "truncated");
        let mut long = vec![0x48];
        long.extend([0xff; 10]);
        assert_eq!(error(&named(&long)).cause(), "varint");
        assert_eq!(error(&named(&[0x00, 0x00])).cause(), "field_number");
        assert_eq!(error(&named(&[0x2b, 0x2c])).cause(), "group");
        assert_eq!(error(&named(&[0x53, 0x54])).cause(), "group");
        assert_eq!(error(&named(&[0x57])).cause(), "wire_type");
        let utf8 = |field| ScanError::Utf8 { field };
        assert_eq!(error(&delimited(1, b"\xff")), utf8(1));
        assert_eq!(error(&named(&delimited(2, b"\xc3"))), utf8(2));
        // The byte that would complete the character is the next field's key.
        assert_eq!(
            error(&named(&delimited(2, b"\xf0\x9f\x98"))).cause(),
            "utf8"
        );
    }

    #[test]
    fn no_known_field_may_come_with_another_wire_type() {
        let name = delimited(1, b"n");
        for field in [1_u32, 2, 3, 5, 6, 7, 8, 9, 1001, 1002, 1003, 1004] {
            let right = match field {
                3 | 9 | 1002 | 1003 | 1004 => VARINT,
                1001 => FIXED64,
                _ => DELIMITED,
            };
            for wire_type in 0..8_u8 {
                let mut bytes = name.clone();
                let key = u64::from(field << 3 | u32::from(wire_type));
                prost::encoding::encode_varint(key, &mut bytes);
                bytes.extend([1, b'x', 0, 0, 0, 0, 0, 0].iter().take(match wire_type {
                    VARINT => 1,
                    DELIMITED => 2,
                    _ => 8,
                }));
                let scan = Scanned::scan(&bytes);
                assert_eq!(scan.is_ok(), wire_type == right, "{field} {wire_type}");
            }
        }
    }

    #[test]
    fn the_routing_key_is_name_type_and_tags() {
        let key = |tags: &[&str], left_out: &str| {
            let bytes = metric(tags).encode_to_vec();
            let scanned = Scanned::scan(&bytes).expect("a metric");
            let mut key = Vec::new();
            scanned.routing_key(|tag| tag == left_out, |piece| key.extend_from_slice(piece));
            String::from_utf8(key).expect("text")
        };
        assert_eq!(key(&[], ""), "api.latencytimer");
        assert_eq!(key(&["b:2", "a:1"], ""), "api.latencytimerb:2,a:1");
        assert_eq!(key(&["b:2", "a:1", "c"], "b:2"), "api.latencytimera:1,c");
        assert_eq!(key(&["b:2", "a:1", "c"], "a:1"), "api.latencytimerb:2,c");
        assert_eq!(key(&["a:1"], "a:1"), "api.latencytimer");
        assert_eq!(key(&["é", "", "c"], "no"), "api.latencytimeré,,c");
    }
}
