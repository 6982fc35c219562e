//! Lines from the network, through the fleet: parser → an agent's table → its flush → a global's table → its flush.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tributary_aggregator::flush::{Emission, Role};
use tributary_aggregator::key::Kind;
use tributary_aggregator::point::PointKind;
use tributary_aggregator::sample::{Event, Sample, Value};
use tributary_aggregator::source::dogstatsd::{Item, parse};
use tributary_fuzz::{ROUNDING, Tier, body, suffix};
use tributary_proto::metricpb::metric::Value as Forwarded;
use tributary_proto::scan::frames;

/// How many series the agent without room holds, and how many more overflow may take: an overflow series for each of 16 names, and a last resort
/// for each kind and scope.
const TIGHT: usize = 4;
const OVERFLOW: u64 = 16 + 6 * 3;

fuzz_target!(|data: &[u8]| {
    let (roomy, amount) = agent(0, data);
    assert_eq!(roomy.counts.interval.folded, 0);
    let (tight, _) = agent(TIGHT, data);
    assert!(tight.counts.interval.series <= TIGHT as u64 + OVERFLOW);
    same_totals(&roomy, &tight, amount);

    let mut global = Tier::new(Role::Global);
    let body = body(&roomy);
    for metric in frames(&body).expect("an agent frames right") {
        global
            .writer
            .import_bytes(&metric)
            .expect("a global takes what an agent forwards");
    }
    let above = global.flush();
    assert_eq!(above.counts.interval.imported, roomy.forward.len() as u64);
});

/// One interval of an agent that gets these lines, and how much its counters could come to.
fn agent(max_series: usize, lines: &[u8]) -> (Emission, f64) {
    let mut agent = Tier::with_room(Role::Local, max_series);
    let (mut taken, mut refused, mut events, mut amount) = (0, 0, 0, 0.0);
    for line in lines.split(|byte| *byte == b'\n') {
        let mut items = 0;
        let outcome = parse(line, |item| {
            items += 1;
            match item {
                Item::Sample(sample) => {
                    check_sample(&sample);
                    if let (Kind::Counter, Value::Number(number)) = (sample.kind, sample.value) {
                        amount += (number / sample.rate).abs();
                    }
                    match agent.writer.sample(&sample) {
                        Ok(()) => taken += 1,
                        Err(error) => {
                            // All else is the parser's promise.
                            let cause = error.cause();
                            assert!(["invalid_utf8", "rate"].contains(&cause), "{cause}");
                            refused += 1;
                        }
                    }
                }
                Item::Event(event) => {
                    check_event(&event);
                    events += 1;
                    agent.writer.event(*event);
                }
            }
        });
        // A line gives no more items than it has room for values.
        assert!(items <= line.len());
        if let Err(error) = outcome {
            assert!(!error.to_string().is_empty() && !error.cause().is_empty());
        }
    }

    let flushed = agent.flush();
    let counts = flushed.counts.interval;
    assert_eq!(
        (counts.processed, counts.samples_refused),
        (taken, refused),
        "every sample is in the interval or counted as refused"
    );
    assert_eq!(
        flushed.events.len() as u64 + counts.events_dropped,
        events,
        "every event is in the interval or counted as dropped"
    );
    assert!(counts.series <= taken);
    (flushed, amount)
}

/// Without room only tags are lost: counters and counts add up to the same.
fn same_totals(roomy: &Emission, tight: &Emission, amount: f64) {
    let weight = |emission: &Emission| total(emission, ".count");
    let (all, folded) = (weight(roomy), weight(tight));
    assert!(
        (all - folded).abs() <= all * ROUNDING,
        "{all} samples, {folded} without room"
    );

    // Beyond this a total may reach the end of its range, and where depends on the series.
    if amount > 1e15 {
        return;
    }
    let (all, folded) = (total(roomy, ""), total(tight, ""));
    let slack = amount * ROUNDING + 1e-9;
    assert!(
        (all - folded).abs() <= slack,
        "counters come to {all}, without room to {folded}"
    );
    let (all, folded) = (forwarded(roomy), forwarded(tight));
    // Each is forwarded as a whole number.
    let slack = slack + (roomy.forward.len() + tight.forward.len()) as f64;
    assert!(
        (all - folded).abs() <= slack,
        "forwarded counters come to {all}, without room to {folded}"
    );
}

/// Of the counters' points with this suffix.
fn total(emission: &Emission, wanted: &str) -> f64 {
    let points = emission.points.iter();
    points
        .filter(|point| point.kind == PointKind::Counter && suffix(point) == wanted)
        .map(|point| point.value)
        .sum()
}

fn forwarded(emission: &Emission) -> f64 {
    let values = emission.forward.iter().map(|metric| &metric.value);
    values
        .map(|value| match value {
            Some(Forwarded::Counter(counter)) => counter.value as f64,
            _ => 0.0,
        })
        .sum()
}

fn check_sample(sample: &Sample<'_>) {
    assert!(!sample.name.is_empty());
    assert!(sample.rate > 0.0 && sample.rate <= 1.0, "{}", sample.rate);
    match (sample.kind, sample.value) {
        (Kind::Set, Value::Member(member)) => assert!(!member.is_empty()),
        (Kind::Status, Value::Status(check)) => assert!(check.status <= 3),
        (Kind::Counter | Kind::Gauge | Kind::Histogram | Kind::Timer, Value::Number(number)) => {
            assert!(number.is_finite(), "{number}")
        }
        (kind, value) => panic!("{kind:?} with {value:?}"),
    }
}

fn check_event(event: &Event) {
    assert!(!event.title.is_empty() && !event.text.is_empty());
    assert!(["normal", "low"].contains(&event.priority));
    assert!(["error", "warning", "info", "success"].contains(&event.alert_type));
    assert!(event.tags.is_sorted());
}
