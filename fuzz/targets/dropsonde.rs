//! Envelopes of Cloud Foundry's events, as JSON.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tributary_aggregator::dropsonde::{Guid, parse};
use tributary_aggregator::enrich::cloudfoundry::{App, Named};
use tributary_aggregator::point::PointKind;

static APP: LazyLock<App> = LazyLock::new(|| {
    let named = |name: &str| Named {
        guid: name.to_owned(),
        name: name.to_owned(),
    };
    App::new(
        Guid::from_halves(1, 2),
        "web",
        &named("space"),
        &named("org"),
    )
});

fuzz_target!(|data: &[u8]| {
    let event = match parse(data) {
        Ok(Some(event)) => event,
        Ok(None) => return,
        Err(poison) => {
            assert!(!poison.to_string().is_empty() && !poison.cause().is_empty());
            return;
        }
    };
    if let Some(app) = event.app {
        assert_eq!(Guid::parse(&app.to_string()), Some(app));
    }
    let mut points = Vec::new();
    event.points(&APP, &mut points);
    let first = &points[0];
    let tags: Vec<&str> = first.tags.iter().collect();
    assert!(tags.is_sorted());
    for tag in tags {
        let (key, value) = tag.split_once(':').expect("each has a key");
        assert!(!key.is_empty() && !value.is_empty());
    }
    assert!(points.is_sorted_by(|a, b| a.suffix < b.suffix));
    for point in &points {
        assert_eq!((&point.base, &point.tags), (&first.base, &first.tags));
        assert_eq!(point.timestamp, event.timestamp);
        assert!(point.value.is_finite());
        if point.kind == PointKind::Integer {
            assert_eq!(point.value, point.value.trunc());
            assert!(point.value.abs() <= (1_u64 << 53) as f64);
        }
    }
});
