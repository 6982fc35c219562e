//! What a failed attempt means for the metrics it carried.
//!
//! Metrics are state to be added up: one that is delivered twice counts twice, unless the receiver recognises its stamp. So there are two
//! questions about a failure: whether the metrics may have been taken, and whether the receiver would recognise them if they came again.
//! [`after`] is the one place that decides what follows from the answers.

use std::borrow::Cow;
use std::error::Error;

use tonic::{Code, ConnectError, Status};
use tributary_proto::ack::Unacknowledged;

use super::ledger::Loss;

/// What is known about the metrics of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// They never left, or the transport vouches that nobody processed them.
    NotTaken,
    /// They were not sent: they may have been taken before, and this receiver would not recognise them.
    NotTried,
    /// The receiver did not take them now. One that acknowledges may have taken a part.
    TurnedAway,
    /// The receiver did not take them now, and vouches that nobody behind it has.
    Spared,
    /// The receiver will not have them from us, whatever they are.
    Denied,
    /// They are at fault, and every receiver would refuse them again.
    Unfit,
    /// They were sent, and nobody knows how far they came.
    Unknown,
}

/// Whether a receiver recognises a metric that comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    /// It says so in its answers.
    Recognised,
    /// It has answered without a word of it.
    NotRecognised,
    /// It has not answered yet.
    Unsaid,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Try again.
    Again {
        /// Some of it may have been taken in this attempt.
        uncertain: bool,
    },
    /// Give the metrics up.
    GiveUp(Loss),
}

/// The policy. Exactly once with receivers that recognise repeats: whatever happened, it is tried again until there is an answer. At most
/// once with all others: what may have been taken is not sent again. One that has not said yet which kind it is will be asked before it gets
/// the metrics again, so nothing is decided until then.
///
/// `others_recognise` says whether any other destination recognises repeats.
pub(super) fn after(fate: Fate, repeats: Repeats, others_recognise: bool) -> Next {
    let recognised = repeats == Repeats::Recognised;
    match fate {
        Fate::NotTaken | Fate::Spared => Next::Again { uncertain: false },
        Fate::NotTried if others_recognise => Next::Again { uncertain: false },
        Fate::NotTried => Next::GiveUp(Loss::UnknownOutcome),
        Fate::TurnedAway => Next::Again {
            uncertain: recognised,
        },
        Fate::Denied if recognised => Next::Again { uncertain: true },
        Fate::Denied | Fate::Unfit => Next::GiveUp(Loss::Refused),
        Fate::Unknown if repeats == Repeats::NotRecognised => Next::GiveUp(Loss::UnknownOutcome),
        Fate::Unknown => Next::Again { uncertain: true },
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// What became of the metrics.
    pub fate: Fate,
    /// Whether the receiver would recognise them.
    pub repeats: Repeats,
    /// Which of them are not acknowledged, if the receiver has told; otherwise none is.
    pub left: Option<Unacknowledged>,
    /// For counters: Veneur's causes where it has one.
    pub cause: Cow<'static, str>,
    /// For people.
    pub detail: String,
}

impl Failure {
    pub(super) fn new(fate: Fate, cause: &'static str, detail: impl ToString) -> Self {
        Self {
            fate,
            repeats: Repeats::Unsaid,
            left: None,
            cause: cause.into(),
            detail: detail.to_string(),
        }
    }

    /// The same failure of a receiver of which this is known.
    pub(super) fn with(self, repeats: Repeats) -> Self {
        Self { repeats, ..self }
    }

    /// No connection came about.
    pub(super) fn connect(detail: impl ToString) -> Self {
        Self::new(Fate::NotTaken, TRANSIENT, detail)
    }

    /// The metrics may have been taken before, and the receiver does not recognise repeats.
    pub(super) fn not_tried() -> Self {
        Self::new(
            Fate::NotTried,
            "send",
            "the metrics may have been taken before, and the destination does not recognise repeats",
        )
        .with(Repeats::NotRecognised)
    }

    /// No answer came in time.
    pub(super) fn deadline() -> Self {
        Self::new(
            Fate::Unknown,
            "deadline_exceeded",
            "no answer within the timeout",
        )
    }

    /// The connection broke after the request was sent.
    pub(super) fn broken(detail: impl ToString) -> Self {
        Self::new(Fate::Unknown, "send", detail)
    }

    /// The metrics cannot be put into the form that the destination wants.
    pub(super) fn encode(detail: impl ToString) -> Self {
        Self::new(Fate::Unfit, "encode", detail)
    }

    /// An HTTP answer other than success. Legacy JSON has no stamps: repeats are not recognised.
    pub(super) fn http(status: u16, body: &str) -> Self {
        let fate = match status {
            429 | 503 => Fate::TurnedAway,
            400..500 => Fate::Denied,
            _ => Fate::Unknown,
        };
        Self {
            cause: status.to_string().into(),
            ..Self::new(fate, "", format!("status {status}: {}", body.trim()))
        }
    }

    /// A gRPC call that failed. Of a broken stream the receiver keeps what it has, so only the transport can say that it took nothing.
    pub(super) fn grpc(status: &Status, streamed: bool) -> Self {
        let (fate, cause) = match transport_says(status) {
            Some(Fate::NotTaken) => (Fate::NotTaken, TRANSIENT),
            Some(fate) => (fate, "send"),
            None => receiver_says(status, streamed),
        };
        Self::new(
            fate,
            cause,
            format!("{:?}: {}", status.code(), status.message()),
        )
    }

    /// Whether the destination has shown that it works: what failed is the fault of the metrics, or of something behind it.
    pub(super) fn of_a_sound_destination(&self) -> bool {
        match self.fate {
            Fate::NotTried | Fate::Unfit => true,
            Fate::Denied => self.repeats != Repeats::Recognised,
            Fate::TurnedAway | Fate::Spared | Fate::Unknown => self.left.is_some(),
            Fate::NotTaken => false,
        }
    }
}

/// Veneur's cause for a destination that cannot be reached for now.
const TRANSIENT: &str = "transient_unavailable";

/// Whether a receiver answers that it does not know a method. Veneur's last globals say so of unary calls with the code `Unknown`.
pub(super) fn is_unimplemented(status: &Status) -> bool {
    match status.code() {
        Code::Unimplemented => true,
        Code::Unknown => status.message() == "not implemented",
        _ => false,
    }
}

/// Whether a stream's end is a success all the same: Veneur 14.2 takes everything and then forgets to answer.
pub(super) fn is_unanswered_success(status: &Status) -> bool {
    status.code() == Code::Internal && status.message() == "Missing response message."
}

/// Reads the errors beneath a status: `None` if the status is the receiver's own answer.
fn transport_says(status: &Status) -> Option<Fate> {
    if status.code() == Code::Unknown && status.message().starts_with("Service was not ready") {
        return Some(Fate::NotTaken);
    }
    let mut beneath: Option<&(dyn Error + 'static)> = status.source();
    beneath?;
    while let Some(error) = beneath {
        if error.is::<ConnectError>() {
            return Some(Fate::NotTaken);
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && error.is_canceled()
        {
            // It waited for a connection that closed.
            return Some(Fate::NotTaken);
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return Some(http2_says(error));
        }
        beneath = error.source();
    }
    Some(Fate::Unknown)
}

/// HTTP/2 has two ways to promise that a request was not processed: the reset REFUSED_STREAM, and a graceful GOAWAY, which fails only the
/// requests after the last one that the peer will still process.
fn http2_says(error: &h2::Error) -> Fate {
    let graceful =
        error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    if graceful || error.reason() == Some(h2::Reason::REFUSED_STREAM) {
        Fate::NotTaken
    } else {
        Fate::Unknown
    }
}

/// Reads an answer of the receiver, or of a load balancer before it.
fn receiver_says(status: &Status, streamed: bool) -> (Fate, &'static str) {
    let message = status.message();
    match status.code() {
        Code::Unavailable if lost_on_the_way(message) => (Fate::Unknown, "send"),
        Code::Unavailable if !streamed => (Fate::TurnedAway, TRANSIENT),
        Code::ResourceExhausted if message.contains("larger than max") => {
            (Fate::Unfit, "too_large")
        }
        Code::ResourceExhausted if message.contains("too large") => (Fate::Unfit, "too_large"),
        Code::ResourceExhausted if !streamed => (Fate::TurnedAway, "resource_exhausted"),
        Code::DeadlineExceeded => (Fate::Unknown, "deadline_exceeded"),
        Code::Unimplemented => (Fate::Denied, "unimplemented"),
        Code::InvalidArgument => (Fate::Unfit, "send"),
        Code::NotFound
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::OutOfRange => (Fate::Denied, "send"),
        _ => (Fate::Unknown, "send"),
    }
}

/// Envoy answers for a backend whose connection broke after the request was sent, with the code of one that never was.
fn lost_on_the_way(message: &str) -> bool {
    message.contains("reset before headers")
        && !message.contains("connection failure")
        && !message.contains("connection timeout")
        && !message.contains("overflow")
}

/// An error with everything beneath it: tonic's and hyper's own texts say little.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut beneath = error.source();
    while let Some(error) = beneath {
        text.push_str(": ");
        text.push_str(&error.to_string());
        beneath = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(status: Status) -> Fate {
        Failure::grpc(&status, false).fate
    }

    const AGAIN: Next = Next::Again { uncertain: false };
    const AGAIN_TO_WHO_KNOWS: Next = Next::Again { uncertain: true };

    #[test]
    fn whoever_recognises_repeats_gets_everything_again_but_what_is_at_fault() {
        let next = |fate| after(fate, Repeats::Recognised, true);
        assert_eq!(next(Fate::NotTaken), AGAIN);
        for fate in [Fate::TurnedAway, Fate::Denied, Fate::Unknown] {
            assert_eq!(next(fate), AGAIN_TO_WHO_KNOWS);
        }
        assert_eq!(next(Fate::Unfit), Next::GiveUp(Loss::Refused));
    }

    #[test]
    fn whoever_does_not_gets_only_what_was_surely_not_taken_again() {
        for others in [false, true] {
            let next = |fate| after(fate, Repeats::NotRecognised, others);
            assert_eq!(next(Fate::NotTaken), AGAIN);
            assert_eq!(next(Fate::TurnedAway), AGAIN);
            assert_eq!(next(Fate::Denied), Next::GiveUp(Loss::Refused));
            assert_eq!(next(Fate::Unfit), Next::GiveUp(Loss::Refused));
            assert_eq!(next(Fate::Unknown), Next::GiveUp(Loss::UnknownOutcome));
        }
    }

    #[test]
    fn whoever_has_not_said_will_be_asked_before_anything_is_given_up() {
        let next = |fate| after(fate, Repeats::Unsaid, false);
        assert_eq!(next(Fate::Unknown), AGAIN_TO_WHO_KNOWS);
        assert_eq!(next(Fate::TurnedAway), AGAIN);
        assert_eq!(next(Fate::Denied), Next::GiveUp(Loss::Refused));
    }

    #[test]
    fn what_may_have_been_taken_waits_for_one_who_would_know_if_there_is_any() {
        let next = |others| after(Fate::NotTried, Repeats::NotRecognised, others);
        assert_eq!(next(true), AGAIN);
        assert_eq!(next(false), Next::GiveUp(Loss::UnknownOutcome));
    }

    #[test]
    fn an_answer_tells_by_its_code() {
        assert_eq!(fate(Status::unavailable("draining")), Fate::TurnedAway);
        assert_eq!(
            fate(Status::resource_exhausted("queue full")),
            Fate::TurnedAway
        );
        assert_eq!(fate(Status::invalid_argument("framing")), Fate::Unfit);
        assert_eq!(fate(Status::unauthenticated("who")), Fate::Denied);
        assert_eq!(fate(Status::internal("panic")), Fate::Unknown);
        assert_eq!(fate(Status::deadline_exceeded("late")), Fate::Unknown);
    }

    #[test]
    fn a_destination_that_acknowledges_a_part_is_sound() {
        let mut failure = Failure::grpc(&Status::unavailable(""), false);
        assert!(!failure.of_a_sound_destination());
        failure.left = Some(Unacknowledged::all(3));
        assert!(failure.of_a_sound_destination());
        assert!(!Failure::deadline().of_a_sound_destination());
        assert!(Failure::encode("").of_a_sound_destination());
    }

    #[test]
    fn a_message_over_the_receivers_limit_is_not_repeated() {
        let go = "grpc: received message larger than max (5 vs. 4)";
        assert_eq!(fate(Status::resource_exhausted(go)), Fate::Unfit);
        let tonic = "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes";
        assert_eq!(fate(Status::resource_exhausted(tonic)), Fate::Unfit);
    }

    #[test]
    fn a_stream_that_was_turned_away_midway_may_have_been_taken_in_part() {
        let status = Status::unavailable("draining");
        assert_eq!(Failure::grpc(&status, true).fate, Fate::Unknown);
    }

    #[test]
    fn an_envoy_that_lost_its_backend_midway_is_not_believed() {
        let text = |reason| {
            format!(
                "upstream connect error or disconnect/reset before headers. reset reason: {reason}"
            )
        };
        assert_eq!(
            fate(Status::unavailable(text("connection termination"))),
            Fate::Unknown
        );
        assert_eq!(
            fate(Status::unavailable(text("connection failure"))),
            Fate::TurnedAway
        );
    }

    #[test]
    fn http_answers_tell_by_their_class() {
        let fate = |status| Failure::http(status, "").fate;
        assert_eq!(fate(503), Fate::TurnedAway);
        assert_eq!(fate(429), Fate::TurnedAway);
        assert_eq!(fate(400), Fate::Denied);
        assert_eq!(fate(404), Fate::Denied);
        assert_eq!(fate(500), Fate::Unknown);
        assert_eq!(fate(504), Fate::Unknown);
    }

    #[test]
    fn both_ways_to_say_not_implemented_are_understood() {
        assert!(is_unimplemented(&Status::unimplemented("unknown method")));
        assert!(is_unimplemented(&Status::unknown("not implemented")));
        assert!(!is_unimplemented(&Status::unknown("something else")));
    }
}
