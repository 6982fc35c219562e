//! Stands in for Kubernetes where the program was built without it.

use std::fmt;

use super::Settings;
use super::background::Background;
use crate::BoxError;

const WITHOUT: &str = "this program was built without the feature kubernetes";

pub(super) fn check(_: &Settings, wrong: &mut dyn FnMut(&str, &dyn fmt::Display)) {
    wrong("kind", &WITHOUT);
}

/// # Errors
/// Always.
pub(super) fn start(_: &Settings) -> Result<Background, BoxError> {
    Err(WITHOUT.into())
}
