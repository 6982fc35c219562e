//! What uploads and populating need of the rest: the newest time of a metric, and a way to the sinks.

use std::sync::Arc;

use async_trait::async_trait;

use super::Clock;
use super::intake::Intake;
use super::upload::Work;

/// Leads to the intake.
pub(super) struct Stock {
    pub(super) intake: Arc<Intake>,
    pub(super) clock: Clock,
}

#[async_trait]
impl Work for Stock {
    async fn last(&self, metric: &str) -> Result<Option<i64>, String> {
        Ok(self.intake.last(metric).await)
    }

    async fn store(&self, metric: &str, points: &[(i64, f64)]) -> Result<(), String> {
        self.intake.deliver(metric, points, (self.clock)()).await
    }
}
