//! A writer as sources see it.

use super::Writer;
use crate::sample::{Event, Sample};
use crate::source::{Intake, Refused};

impl Intake for Writer {
    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), Refused> {
        Writer::sample(self, sample).map_err(|error| Refused {
            cause: error.cause(),
        })
    }

    fn samples(&mut self, samples: &[Sample<'_>], refused: &mut dyn FnMut(usize, Refused)) {
        Writer::samples(self, samples, |place, error| {
            let cause = error.cause();
            refused(place, Refused { cause });
        });
    }

    fn event(&mut self, event: Event) {
        Writer::event(self, event);
    }
}
