//! How samples and points come in.
//!
//! A source turns a peer's bytes into [`Sample`]s and [`Event`]s and hands them to an [`Intake`]. It knows neither the table behind that nor
//! any sink. What always holds: a peer's bytes never end the process or a neighbour's connection, and every line, packet or connection that
//! is not taken is counted with its cause.

pub mod dogstatsd;
pub mod listen;

pub use listen::{AddressError, ListenAddress, ListenError, Listeners, StatsdConfig, start};

use crate::sample::{Event, Sample};

/// Where a source puts what it has read. Each reader thread and each connection owns one, so no call ever waits for another reader's.
pub trait Intake: Send + 'static {
    /// Takes one observation.
    ///
    /// # Errors
    /// [`Refused`] when the sample is well formed and still cannot be kept. The source counts it by its cause and goes on.
    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), Refused>;

    /// Takes many observations, as if one after the other; `refused` is told the place of each that is refused, in any order.
    fn samples(&mut self, samples: &[Sample<'_>], refused: &mut dyn FnMut(usize, Refused)) {
        for (place, sample) in samples.iter().enumerate() {
            if let Err(error) = self.sample(sample) {
                refused(place, error);
            }
        }
    }

    /// Takes one event.
    fn event(&mut self, event: Event);

    /// What was read at once ends here: the place to publish what was gathered since the last call.
    fn end_batch(&mut self) {}
}

/// A well-formed sample was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sample refused: {cause}")]
pub struct Refused {
    /// Why, in the words of a counter's tag.
    pub cause: &'static str,
}
