//! One metric of a request, after every check.

/// One value that may be stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    /// As the peer calls it: without its key's namespace.
    pub(super) posted: String,
    /// With the namespace.
    pub(super) name: String,
    /// Unix time in seconds.
    pub(super) seconds: i64,
    /// Finite.
    pub(super) value: f64,
    /// Whether it fills a gap: no de-duplication.
    pub(super) fill: bool,
}
