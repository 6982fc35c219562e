//! The names of metric types as ring keys and legacy JSON spell them.

use crate::metricpb::Type;

impl Type {
    /// The lower-case name, such as `"counter"`: part of a metric's routing key, and the `type` of legacy JSON.
    pub const fn lower_name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Set => "set",
            Self::Timer => "timer",
        }
    }

    /// The type of a [lower-case name](Self::lower_name); `None` for any other text.
    pub fn from_lower_name(name: &str) -> Option<Self> {
        match name {
            "counter" => Some(Self::Counter),
            "gauge" => Some(Self::Gauge),
            "histogram" => Some(Self::Histogram),
            "set" => Some(Self::Set),
            "timer" => Some(Self::Timer),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_found_by_its_own_name() {
        for number in 0..5 {
            let kind = Type::try_from(number).expect("a type");
            assert_eq!(Type::from_lower_name(kind.lower_name()), Some(kind));
            assert_eq!(kind.lower_name(), kind.as_str_name().to_lowercase());
        }
        assert_eq!(Type::from_lower_name("Counter"), None);
    }
}
