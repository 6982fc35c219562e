//! Where samples and imports go whose series found no room under the cap.
//!
//! They are merged into the series of the same name, kind and scope that has one tag, [`OVERFLOW_TAG`]: counters add up, digests and sets are
//! united, of gauges and checks the last one stays. So the totals of a name stay right, and only the tags are lost. If there are too many
//! names as well, [`LAST_RESORT`] takes in the rest of its kind and scope.
//!
//! A tier knows an overflow series by its tag alone, whoever made it: one that an agent forwards is an overflow series at the global too, where
//! all agents' overflow of a name comes together.

use super::cap::Standing;
use super::wanted::{KeyParts, Wanted};
use super::{Brought, Sampler, Table};
use crate::key::{Key, Kind, Scope};

/// The only tag of an overflow series.
pub(super) const OVERFLOW_TAG: &str = "overflow:true";

/// The name of the overflow series for names that found no room for one of their own.
pub(super) const LAST_RESORT: &str = "tributary.overflow";

impl Table {
    /// Lets `change` work on the sampler of the `wanted` series, or over the cap on that of an overflow series. A series that is not there yet is
    /// made, but only if `change` succeeds: what it refuses leaves nothing behind.
    #[inline]
    pub(super) fn merge<E>(
        &self,
        mut wanted: impl Wanted,
        brought: Brought,
        change: impl FnOnce(&mut Sampler) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut shard = self.shard(wanted.parts().hash).lock();
        if let Some(seat) = shard.seat(&mut wanted) {
            seat.change(change)?;
            shard.count(brought);
            return Ok(());
        }
        // Never two locks at once: the overflow series may be in the same shard.
        drop(shard);
        self.fold(wanted.parts(), brought, change)
    }

    /// Lets `change` work on the sampler of the overflow series of a series that found no room. No shard is locked by the caller.
    #[cold]
    pub(super) fn fold<E>(
        &self,
        parts: KeyParts<'_>,
        brought: Brought,
        change: impl FnOnce(&mut Sampler) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut name = parts.name;
        loop {
            let mut overflow = overflow_of(name, parts.kind, parts.scope);
            let mut shard = self.shard(overflow.hash).lock();
            if let Some(seat) = shard.seat(&mut overflow) {
                seat.change(change)?;
                shard.count(brought);
                shard.folded += 1;
                return Ok(());
            }
            // Always admitted, so the second round is the last.
            name = LAST_RESORT;
        }
    }
}

/// The overflow series of a name, kind and scope.
fn overflow_of(name: &str, kind: Kind, scope: Scope) -> KeyParts<'_> {
    KeyParts {
        name,
        kind,
        scope,
        tags: OVERFLOW_TAG,
        hash: Key::hash_of(name, kind, scope, OVERFLOW_TAG),
    }
}

/// What a series with these parts is to the cap.
pub(super) fn standing(parts: KeyParts<'_>) -> Standing {
    match (parts.tags, parts.name) {
        (OVERFLOW_TAG, LAST_RESORT) => Standing::LastResort,
        (OVERFLOW_TAG, _) => Standing::Overflow,
        _ => Standing::Own,
    }
}

#[cfg(test)]
mod tests;
