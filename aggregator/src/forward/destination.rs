//! A destination as the forwarder sees it: whether it answers, and how much it is given at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tributary_node::telemetry::Presence;

use super::address::{Address, AddressError};
use super::batch::Batch;
use super::grpc::GrpcLink;
use super::json::JsonLink;
#[cfg(feature = "kafka")]
use super::kafka::{ForwardKafka, KafkaLink};
use super::outcome::Failure;
use super::pause::pause_after;
use super::{ForwardConfig, Protocol};
use crate::metrics::DESTINATION_UP;

/// Batches under way to a destination that has not said that it recognises repeats: what is there when it breaks may be lost.
const UNPROVEN: usize = 4;

/// How a destination is spoken to.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one for each destination, and there is a handful of them"
)]
enum Link {
    Grpc(GrpcLink),
    Json(JsonLink),
    #[cfg(feature = "kafka")]
    Kafka(KafkaLink),
}

/// One address, its connection and its health.
#[derive(Debug)]
pub(super) struct Destination {
    /// Its place: no other in the same pool has it, and it keeps it in pools to come.
    pub place: usize,
    /// As it was configured.
    pub name: String,
    link: Link,
    health: Mutex<Health>,
    /// Keeps its self-metrics.
    _presence: Presence,
}

#[derive(Debug)]
struct Health {
    answers: bool,
    /// Failures since a batch was last delivered.
    failures: u32,
    under_way: usize,
    /// How many of those were tried before.
    again: usize,
}

/// What a batch that looks for a destination asks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// It was never tried: any that has room.
    First,
    /// It was tried before: any other than the last one, if there is one. Such batches get half of a destination's room: one that nobody
    /// acknowledges, because its global is away, would else hold up all others.
    Another(Option<usize>),
}

impl Destination {
    pub(super) fn new(
        place: usize,
        address: &str,
        config: &ForwardConfig,
    ) -> Result<Self, AddressError> {
        let ForwardConfig { timeout, tls, .. } = config;
        let address = Address::parse(address, tls.is_some())?;
        let link = match config.protocol {
            Protocol::Unary => Link::Grpc(GrpcLink::new(&address, *timeout, tls, false)?),
            Protocol::Stream => Link::Grpc(GrpcLink::new(&address, *timeout, tls, true)?),
            Protocol::Json => Link::Json(JsonLink::new(&address, *timeout, tls)?),
        };
        Ok(Self::of(place, address.name, link))
    }

    /// A topic in the place of addresses.
    #[cfg(feature = "kafka")]
    pub(super) fn topic(
        place: usize,
        topic: &ForwardKafka,
        timeout: Duration,
    ) -> Result<Self, AddressError> {
        let name = KafkaLink::name(topic);
        match KafkaLink::new(topic, timeout) {
            Ok(link) => Ok(Self::of(place, name, Link::Kafka(link))),
            Err(reason) => Err(AddressError::Invalid {
                address: name,
                reason,
            }),
        }
    }

    fn of(place: usize, name: String, link: Link) -> Self {
        DESTINATION_UP.with([name.clone().into()]).set(1.0);
        Self {
            place,
            _presence: Presence::of(&name),
            name,
            link,
            health: Mutex::new(Health {
                answers: true,
                failures: 0,
                under_way: 0,
                again: 0,
            }),
        }
    }

    /// Sends a batch.
    pub(super) async fn deliver(&self, batch: &Batch) -> Result<(), Failure> {
        match &self.link {
            Link::Grpc(link) => link.deliver(batch).await,
            Link::Json(link) => link.deliver(batch).await,
            #[cfg(feature = "kafka")]
            Link::Kafka(link) => link.deliver(batch).await,
        }
    }

    /// Asks whether it answers, without risking a metric.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        match &self.link {
            Link::Grpc(link) => link.probe().await,
            Link::Json(link) => link.probe().await,
            #[cfg(feature = "kafka")]
            Link::Kafka(link) => link.probe().await,
        }
    }

    /// What Veneur's `forward.duration_ns` calls this way of forwarding.
    pub(super) fn part(&self) -> &'static str {
        match self.link {
            Link::Grpc(_) => "grpc",
            Link::Json(_) => "json",
            #[cfg(feature = "kafka")]
            Link::Kafka(_) => "kafka",
        }
    }

    /// Whether it has said that it recognises repeats.
    pub(super) fn recognises_repeats(&self) -> bool {
        match &self.link {
            Link::Grpc(link) => link.recognises_repeats(),
            Link::Json(_) => false,
            // Those recognise them who merge what comes out of the topic.
            #[cfg(feature = "kafka")]
            Link::Kafka(_) => true,
        }
    }

    /// A batch came back delivered, or refused for its own sake: the destination is fine.
    pub(super) fn succeeded(&self, wanted: Wants) {
        let mut health = self.health.lock();
        health.release(wanted);
        health.failures = 0;
    }

    /// A batch failed, through the destination. Tells whether it answered until now: then it is the caller's to bring it back.
    pub(super) fn failed(&self, wanted: Wants) -> bool {
        let mut health = self.health.lock();
        health.release(wanted);
        let answered = std::mem::replace(&mut health.answers, false);
        // A connection that breaks under many batches has failed once.
        health.failures = health.failures.saturating_add(u32::from(answered));
        answered
    }

    /// The pause before it is asked again.
    pub(super) fn pause(&self) -> Duration {
        pause_after(self.health.lock().failures)
    }

    /// A probe failed.
    pub(super) fn still_silent(&self) {
        let mut health = self.health.lock();
        health.failures = health.failures.saturating_add(1);
    }

    /// A probe was answered.
    pub(super) fn answers_again(&self) {
        self.health.lock().answers = true;
    }
}

impl Health {
    fn has_room(&self, limit: usize, wants: Wants) -> bool {
        let within = match wants {
            Wants::First => true,
            Wants::Another(_) => self.again < (limit / 2).max(1),
        };
        self.answers && self.under_way < limit && within
    }

    fn take(&mut self, wants: Wants) {
        self.under_way += 1;
        self.again += usize::from(wants != Wants::First);
    }

    fn release(&mut self, wanted: Wants) {
        self.under_way = self.under_way.saturating_sub(1);
        let again = usize::from(wanted != Wants::First);
        self.again = self.again.saturating_sub(again);
    }
}

/// All destinations.
#[derive(Debug)]
pub(super) struct Pool {
    destinations: Vec<Arc<Destination>>,
    /// Batches that one destination is given at a time.
    at_once: usize,
    turn: AtomicUsize,
}

impl Pool {
    pub(super) fn new(destinations: Vec<Arc<Destination>>, at_once: usize) -> Self {
        Self {
            destinations,
            at_once: at_once.max(1),
            turn: AtomicUsize::new(0),
        }
    }

    /// Takes the destination that answers and has the least under way; among equals each gets its turn. The caller must report how it went,
    /// with the same `wants`.
    pub(super) fn pick(&self, wants: Wants) -> Option<Arc<Destination>> {
        let start = self.turn.fetch_add(1, Ordering::Relaxed) % self.destinations.len().max(1);
        let (before, after) = self.destinations.split_at_checked(start)?;
        let candidates = after.iter().chain(before).filter_map(|destination| {
            let health = destination.health.lock();
            let tried = wants == Wants::Another(Some(destination.place));
            health.has_room(self.limit(destination), wants).then_some((
                tried,
                health.under_way,
                destination,
            ))
        });
        let (_, _, destination) =
            candidates.min_by_key(|(tried, under_way, _)| (*tried, *under_way))?;
        destination.health.lock().take(wants);
        Some(Arc::clone(destination))
    }

    /// The destination of that name.
    pub(super) fn named(&self, name: &str) -> Option<Arc<Destination>> {
        let mut all = self.destinations.iter();
        all.find(|own| own.name == name).map(Arc::clone)
    }

    /// A place that none of these has.
    pub(super) fn next_place(&self) -> usize {
        let places = self.destinations.iter().map(|own| own.place + 1);
        places.max().unwrap_or(0)
    }

    /// Whether a destination is one of these.
    pub(super) fn has(&self, destination: &Arc<Destination>) -> bool {
        let mut all = self.destinations.iter();
        all.any(|own| Arc::ptr_eq(own, destination))
    }

    /// Whether any destination has said that it recognises repeats.
    pub(super) fn recognises_repeats(&self) -> bool {
        let mut all = self.destinations.iter();
        all.any(|destination| destination.recognises_repeats())
    }

    fn limit(&self, destination: &Destination) -> usize {
        match destination.recognises_repeats() {
            true => self.at_once,
            false => self.at_once.min(UNPROVEN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(at_once: usize) -> Pool {
        let destinations = ["a:1", "b:1", "c:1"]
            .into_iter()
            .enumerate()
            .map(|(place, address)| {
                let config = ForwardConfig {
                    protocol: Protocol::Json,
                    ..ForwardConfig::default()
                };
                Arc::new(Destination::new(place, address, &config).unwrap())
            });
        Pool::new(destinations.collect(), at_once)
    }

    fn names(pool: &Pool, count: usize) -> Vec<String> {
        std::iter::from_fn(|| pool.pick(Wants::First))
            .take(count)
            .map(|destination| destination.name.clone())
            .collect()
    }

    #[test]
    fn each_destination_gets_its_turn_up_to_its_limit() {
        let pool = pool(2);
        let mut picked = names(&pool, 10);
        assert_eq!(picked[..3], ["a:1", "b:1", "c:1"]);
        picked.sort();
        assert_eq!(picked, ["a:1", "a:1", "b:1", "b:1", "c:1", "c:1"]);
    }

    #[test]
    fn a_destination_that_does_not_answer_is_passed_over_until_it_does() {
        let pool = pool(9);
        let first = pool.pick(Wants::First).unwrap();
        assert!(first.failed(Wants::First), "it answered until now");
        let failures = first.health.lock().failures;
        assert!(!first.failed(Wants::First), "which is told only once");
        assert_eq!(first.health.lock().failures, failures);
        assert!(!names(&pool, 6).contains(&first.name));
        first.answers_again();
        assert!(names(&pool, 6).contains(&first.name));
    }

    #[test]
    fn a_destination_that_is_slow_gets_less() {
        let pool = pool(UNPROVEN);
        for _ in 0..30 {
            let picked = pool.pick(Wants::First).unwrap();
            if picked.name != "b:1" {
                picked.succeeded(Wants::First);
            }
        }
        let waiting = pool.destinations[1].health.lock().under_way;
        assert_eq!(waiting, 1);
    }

    #[test]
    fn what_was_tried_goes_elsewhere_if_it_can() {
        let pool = pool(UNPROVEN);
        let wants = Wants::Another(Some(1));
        let picked: Vec<_> = std::iter::from_fn(|| pool.pick(wants))
            .map(|destination| destination.name.clone())
            .collect();
        // Half of the room of each, and the last one's only when the others have none left.
        assert_eq!(picked.len(), 3 * UNPROVEN / 2);
        assert!(!picked[..4].contains(&"b:1".to_owned()), "{picked:?}");
        assert!(pool.pick(Wants::First).is_some(), "the other half is left");
        pool.destinations[0].succeeded(wants);
        assert_eq!(pool.pick(wants).unwrap().place, 0);
    }

    #[test]
    fn until_it_recognises_repeats_a_destination_gets_few_at_once() {
        let pool = pool(100);
        assert_eq!(names(&pool, 100).len(), 3 * UNPROVEN);
    }
}
