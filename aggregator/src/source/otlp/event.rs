//! What happens at the door: counters and log lines, written together.

use tributary_node::repeats::Repeats;

use super::take::Outcome;
use crate::metrics;

/// Tells what happens to one source.
#[derive(Debug)]
pub(super) struct Events {
    source: String,
    /// By cause, so that a peer without manners does not fill the log.
    told: Repeats<&'static str>,
}

impl Events {
    pub(super) fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            told: Repeats::default(),
        }
    }

    /// A request was taken, but for what is wrong with it. Gives the number of data points that were refused, and the words to say so.
    pub(super) fn taken(
        &self,
        protocol: &'static str,
        outcome: &Outcome,
        streams: usize,
    ) -> (u64, String) {
        for (sort, count) in &outcome.taken {
            metrics::OTLP_TAKEN.with([(*sort).into()]).increment(*count);
        }
        for (cause, count) in &outcome.skipped {
            metrics::OTLP_SKIPPED
                .with([(*cause).into()])
                .increment(*count);
        }
        for (cause, count) in &outcome.refused {
            metrics::OTLP_REFUSED
                .with([(*cause).into()])
                .increment(*count);
        }
        metrics::OTLP_STREAMS.set(streams as f64);
        let refused: u64 = outcome.refused.values().sum();
        self.request(protocol, if refused == 0 { "taken" } else { "partly" });
        if refused == 0 {
            return (0, String::new());
        }
        let causes: Vec<_> = outcome
            .refused
            .iter()
            .map(|(cause, count)| format!("{cause}: {count}"))
            .collect();
        let causes = causes.join(", ");
        if let Some(more) = self.told.tell(&"refused") {
            let source = &*self.source;
            tracing::warn!(source, refused, causes, "data points were refused{more}");
        }
        (
            refused,
            format!("{refused} data points were refused ({causes})"),
        )
    }

    /// Nothing of a request was taken.
    pub(super) fn refused(&self, protocol: &'static str, outcome: &'static str, why: &str) {
        self.request(protocol, outcome);
        if let Some(more) = self.told.tell(&outcome) {
            tracing::warn!(
                source = &*self.source,
                protocol,
                outcome,
                why,
                "an OTLP request was refused{more}"
            );
        }
    }

    fn request(&self, protocol: &'static str, outcome: &'static str) {
        metrics::OTLP_REQUESTS
            .with([protocol.into(), outcome.into()])
            .increment(1);
    }
}
