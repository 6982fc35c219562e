//! What happens at the door: each a log line and a count together.

use std::net::IpAddr;
use std::sync::LazyLock;

use http::StatusCode;
use tributary_node::repeats::Repeats;

use crate::metrics;

/// Told by cause, so that a peer without manners does not fill the log.
static REPEATS: LazyLock<Repeats<&'static str>> = LazyLock::new(Repeats::default);

/// A request was answered.
pub(super) struct Answered {
    pub(super) peer: IpAddr,
    pub(super) status: StatusCode,
    /// Why nothing was taken; empty otherwise.
    pub(super) cause: &'static str,
}

impl Answered {
    pub(super) fn emit(&self) {
        let outcome = match self.status {
            StatusCode::MULTI_STATUS => "partly",
            status if status.is_success() => "taken",
            _ => "refused",
        };
        metrics::FLUX_REQUESTS.with([outcome.into()]).increment(1);
        if self.cause.is_empty() {
            return;
        }
        metrics::FLUX_REFUSED.with([self.cause.into()]).increment(1);
        // Not what the request says: there may be keys in it. The peer has it in its answer.
        if let Some(more) = REPEATS.tell(&self.cause) {
            let Self {
                peer,
                status,
                cause,
            } = self;
            match status.is_server_error() {
                true => tracing::error!(%peer, %status, cause, "a Flux request failed{more}"),
                false => tracing::warn!(%peer, %status, cause, "a Flux request was refused{more}"),
            }
        }
    }
}

/// Points of requests met their fate.
pub(super) struct PointsMet {
    /// As `flux.points_total` is tagged.
    pub(super) fate: &'static str,
    pub(super) count: usize,
}

impl PointsMet {
    pub(super) fn emit(&self) {
        if self.count > 0 {
            metrics::FLUX_POINTS
                .with([self.fate.into()])
                .increment(self.count as u64);
        }
    }
}

/// Redis did not tell what other instances have taken.
pub(super) struct RedisAway<'a> {
    pub(super) error: &'a str,
}

impl RedisAway<'_> {
    pub(super) fn emit(&self) {
        metrics::FLUX_KEEP_ERRORS
            .with(["redis".into()])
            .increment(1);
        if let Some(more) = REPEATS.tell(&"redis") {
            let error = self.error;
            tracing::warn!(
                error,
                "what other Flux instances have taken is not known{more}"
            );
        }
    }
}
