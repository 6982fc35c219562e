//! What to tell of errors that wrap others.

use std::error::Error;

/// The words of the deepest cause: it says what happened, where what stands above it says "client error".
pub fn deepest_cause(error: &(dyn Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}
