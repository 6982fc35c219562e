//! How samples and points come in.
//!
//! A source turns a peer's bytes into [`Sample`]s and [`Event`]s and hands them to an [`Intake`], or into [`Point`]s that only pass through and
//! hands them to a [`PointIntake`]. It knows neither the table behind the one nor the sinks behind the other. What always holds: a peer's bytes never end the process or a neighbour's connection, and every line, packet or connection that
//! is not taken is counted with its cause.

pub mod carbon;
pub mod config;
pub mod dogstatsd;
pub mod flux;
#[cfg(feature = "kafka")]
mod kafka;
pub mod listen;
pub mod openmetrics;
pub mod otlp;
pub mod registry;
mod running;

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

pub use config::SourceConfig;
pub use running::{Opened, Running, check};

pub use listen::{AddressError, ListenAddress, ListenError, Listeners, StatsdConfig, start};

use crate::point::Point;
use crate::receipt::Receipt;
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

/// Where a source puts finished points, which go to the sinks as they are. Clones lead to the same place.
pub trait PointIntake: Send + Sync {
    /// Hands over points of finite values, in the order in which sinks are to write them. It never waits: each sink has a bounded queue, and what
    /// that has no room for is lost there, counted, and told to the receipt. A source that must not lose points keeps few of them without a
    /// fate: see [`Receipt`]. Points that nobody asks about go with [`Receipt::default`].
    fn pass(&self, points: Vec<Point>, receipt: Receipt);

    /// Asks the sinks not to wait until more comes: for a source that stops, and that still waits for fates. There is no way back.
    fn hurry(&self) {}
}

/// What some other process has forwarded.
#[derive(Debug, Clone)]
pub struct Forwarded {
    /// A `forwardrpc.MetricList`, framed right.
    pub list: Bytes,
    /// How many metrics it has.
    pub metrics: u32,
    /// When it was flushed, if that is known.
    pub flushed_at: Option<SystemTime>,
}

/// Where a source puts what others have forwarded, for it to be forwarded as it is.
pub trait Relay: Send + Sync {
    /// Hands it over without waiting. The receipt is over when proxies have taken all of it for good; what it says is lost, and was not refused, can be
    /// handed over again: globals recognise what they have merged of it.
    fn relay(&self, forwarded: Forwarded, receipt: Receipt);
}

/// Where a source's yield goes.
#[derive(Clone)]
pub struct Outlets {
    /// For points that only pass through.
    pub points: Arc<dyn PointIntake>,
    /// Makes an intake for samples, which are aggregated: one for each task that reads.
    pub samples: Arc<dyn Fn() -> Box<dyn Intake> + Send + Sync>,
    /// For what others have forwarded; `None` where nothing is forwarded.
    pub forward: Option<Arc<dyn Relay>>,
}

/// A source whose addresses are open, and which has taken nothing yet.
#[async_trait]
pub trait Source: Send {
    /// Takes what comes until `stop`, and then what had arrived by then, in well under a second where peers let it. When it returns, all that was
    /// taken is with the outlets.
    async fn run(self: Box<Self>, outlets: Outlets, stop: CancellationToken);
}

/// A well-formed sample was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sample refused: {cause}")]
pub struct Refused {
    /// Why, in the words of a counter's tag.
    pub cause: &'static str,
}

impl Intake for Box<dyn Intake> {
    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), Refused> {
        (**self).sample(sample)
    }

    fn event(&mut self, event: Event) {
        (**self).event(event);
    }

    fn end_batch(&mut self) {
        (**self).end_batch();
    }
}
