//! Cloud Foundry's events, with the names of what they are about.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Format, Later, Message, Poison, Reading, Readings};
use crate::dropsonde::{self, Event};
use crate::enrich::cloudfoundry::{AtOnce, Enricher, Passed};
use crate::metrics::CF_PASSED;

pub(super) struct Dropsonde(pub(super) Arc<Enricher>);

#[async_trait]
impl Format for Dropsonde {
    async fn read(&self, messages: &[Message]) -> Readings {
        let mut each = Vec::with_capacity(messages.len());
        let mut events: Vec<Event> = Vec::new();
        let mut places = Vec::new();
        let mut not_stored = 0;
        for (place, message) in messages.iter().enumerate() {
            let mut reading = Reading::default();
            match dropsonde::parse(&message.payload) {
                Ok(Some(event)) => {
                    events.push(event);
                    places.push(place);
                }
                Ok(None) => not_stored += 1,
                Err(poison) => reading.poison.push(Poison {
                    cause: poison.cause(),
                    detail: poison.to_string(),
                    part: None,
                }),
            }
            each.push(reading);
        }
        if not_stored > 0 {
            CF_PASSED.with(["not_stored".into()]).increment(not_stored);
        }
        let AtOnce { settled, waiting } = self.0.at_once(events);
        for (place, result) in settled {
            let reading = places.get(place).and_then(|place| each.get_mut(*place));
            // Why there are no points is counted where it was found.
            if let (Some(reading), Ok(points)) = (reading, result) {
                reading.points = points;
            }
        }
        let waiting: Vec<Event> = waiting.into_iter().map(|(_, event)| event).collect();
        let count = waiting.len();
        let later = (count > 0).then(|| {
            let enricher = Arc::clone(&self.0);
            Box::pin(async move { named(&enricher, waiting).await }) as _
        });
        Readings {
            each,
            later,
            waiting: count,
        }
    }
}

/// Events of applications that nobody had asked for before.
async fn named(enricher: &Enricher, events: Vec<Event>) -> Later {
    let mut later = Later::default();
    for result in enricher.events(events).await {
        match result {
            Ok(points) => {
                later.points.extend(points);
                later.messages += 1;
            }
            Err(Passed::Stopping) => later.again = true,
            Err(Passed::NoApp | Passed::UnknownApp | Passed::Unavailable) => {}
        }
    }
    later
}
