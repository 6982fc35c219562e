//! Cloud Foundry's events, with the names of what they are about.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Format, Message, Poison, Reading};
use crate::dropsonde::{self, Event};
use crate::enrich::cloudfoundry::{Enricher, Passed};

pub(super) struct Dropsonde(pub(super) Arc<Enricher>);

#[async_trait]
impl Format for Dropsonde {
    async fn read(&self, messages: &[Message]) -> Vec<Reading> {
        let mut readings = Vec::with_capacity(messages.len());
        // All at once, so that what is not known is asked for in one request.
        let mut events: Vec<Event> = Vec::new();
        let mut places = Vec::new();
        for (place, message) in messages.iter().enumerate() {
            let mut reading = Reading::default();
            match dropsonde::parse(&message.payload) {
                Ok(Some(event)) => {
                    events.push(event);
                    places.push(place);
                }
                Ok(None) => {}
                Err(poison) => reading.poison.push(Poison {
                    cause: poison.cause(),
                    detail: poison.to_string(),
                    part: None,
                }),
            }
            readings.push(reading);
        }
        let made = self.0.events(events).await;
        for (place, result) in places.into_iter().zip(made) {
            let Some(reading) = readings.get_mut(place) else {
                continue;
            };
            match result {
                Ok(points) => reading.points = points,
                Err(Passed::Stopping) => reading.again = true,
                // Counted where it was found.
                Err(Passed::NoApp | Passed::UnknownApp | Passed::Unavailable) => {}
            }
        }
        readings
    }
}
