//! Routed metrics as a tap shows them.

use serde_json::{Map, Value};
use tributary_node::tap::{Observed, Taps};
use tributary_proto::scan::Scanned;

use crate::destination::Destination;

/// Shows metrics that were handed to a destination. While nobody listens that costs one look at a flag for all of them.
#[inline]
pub(super) fn show<'m>(
    taps: &Taps,
    destination: &Destination,
    metrics: impl Iterator<Item = &'m [u8]>,
) {
    let Some(open) = taps.open() else {
        return;
    };
    // Scanned once more, so that those that nobody looks at are not kept for it.
    for scanned in metrics.filter_map(|metric| Scanned::scan(metric).ok()) {
        open.offer(&Routed {
            scanned,
            destination: destination.address(),
        });
    }
}

struct Routed<'a> {
    scanned: Scanned<'a>,
    destination: &'a str,
}

impl Observed for Routed<'_> {
    fn name(&self) -> &str {
        self.scanned.name
    }

    fn kind(&self) -> &'static str {
        self.scanned.kind.lower_name()
    }

    fn any_tag(&self, is_wanted: &mut dyn FnMut(&str) -> bool) -> bool {
        self.scanned.tags().any(is_wanted)
    }

    fn describe(&self, line: &mut Map<String, Value>) {
        line.insert("destination".to_owned(), self.destination.into());
        if let Some(stamp) = self.scanned.stamp {
            // As text: the origin has more digits than JSON numbers carry everywhere.
            line.insert("origin".to_owned(), format!("{:016x}", stamp.origin).into());
            line.insert("flush".to_owned(), stamp.flush.into());
        }
    }
}
