//! The envelope as JSON holds it: what is read of it, and nothing else.
//!
//! Keys match in any letter case, as Go's decoder matches them; of a key that comes twice the last counts, and `null` is as good as absent.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// A text, borrowed from the payload where nothing in it is escaped.
pub(super) struct Text<'de>(pub(super) Cow<'de, str>);

/// A value of an enum: its number or its name.
pub(super) enum Word<'de> {
    Number(i32),
    Name(Cow<'de, str>),
}

/// Structs that are read from objects with these keys.
macro_rules! objects {
    ($(struct $name:ident { $($field:ident: $type:ty = $key:literal,)* })*) => {$(
        #[derive(Default)]
        pub(super) struct $name<'de> {
            $(pub(super) $field: Option<$type>,)*
            texts: PhantomData<&'de str>,
        }

        impl<'de> Deserialize<'de> for $name<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;

                impl<'de> Visitor<'de> for Fields {
                    type Value = $name<'de>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                        let mut object = $name::default();
                        while let Some(Text(key)) = map.next_key()? {
                            $(if key.eq_ignore_ascii_case($key) {
                                object.$field = map.next_value()?;
                                continue;
                            })*
                            map.next_value::<IgnoredAny>()?;
                        }
                        Ok(object)
                    }
                }

                deserializer.deserialize_map(Fields)
            }
        }
    )*};
}

objects! {
    struct Envelope {
        event_type: Word<'de> = "eventType",
        timestamp: i64 = "timestamp",
        http: Http<'de> = "httpStartStop",
        log: Log<'de> = "logMessage",
        container: Container<'de> = "containerMetric",
    }
    struct Http {
        start: i64 = "startTimestamp",
        stop: i64 = "stopTimestamp",
        method: Word<'de> = "method",
        status_code: i32 = "statusCode",
        content_length: i64 = "contentLength",
        application: Halves<'de> = "applicationId",
        instance: i32 = "instanceIndex",
    }
    struct Halves {
        low: u64 = "low",
        high: u64 = "high",
    }
    struct Log {
        message: Text<'de> = "message",
        message_type: Word<'de> = "message_type",
        timestamp: i64 = "timestamp",
        application: Text<'de> = "app_id",
        source_type: Text<'de> = "source_type",
        instance: Text<'de> = "source_instance",
    }
    struct Container {
        application: Text<'de> = "applicationId",
        instance: i32 = "instanceIndex",
        cpu: f64 = "cpuPercentage",
        memory: u64 = "memoryBytes",
        disk: u64 = "diskBytes",
        memory_quota: u64 = "memoryBytesQuota",
        disk_quota: u64 = "diskBytesQuota",
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Any)
    }
}

impl<'de> Deserialize<'de> for Word<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        fn number<E: Error>(number: Option<i32>) -> Result<Word<'static>, E> {
            let wrong = || E::custom("the number of a kind is out of range");
            number.map(Word::Number).ok_or_else(wrong)
        }

        impl<'de> Visitor<'de> for Any {
            type Value = Word<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a name")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
                number(value.try_into().ok())
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
                number(value.try_into().ok())
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Word::Name(Cow::Borrowed(name)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Word::Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_any(Any)
    }
}
