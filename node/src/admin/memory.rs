//! `GET /api/memory`: what the process holds, as the system and the allocator see it.
//!
//! There is no heap profile by place of allocation: the allocator does not keep one, and one that does costs every allocation.

use std::io;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::allocator::{self, Committed};

/// All in bytes, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    /// In RAM now (RSS).
    pub resident: u64,
    /// The most that was in RAM at once since the start.
    pub peak_resident: u64,
    /// In RAM, and not of a file: heaps and stacks.
    pub anonymous: u64,
    /// Addresses taken, whether or not there is memory behind them.
    pub virtual_size: u64,
    /// How many threads there are.
    pub threads: u64,
    /// What the allocator says; `None` where it says nothing.
    pub allocator: Option<Committed>,
}

/// The handler.
pub(super) async fn memory() -> Response {
    let read = tokio::task::spawn_blocking(Memory::read).await;
    match read.map_err(io::Error::other).flatten() {
        Ok(memory) => Json(memory).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("/proc/self/status: {error}\n"),
        )
            .into_response(),
    }
}

// === impl Memory ===

impl Memory {
    pub(super) fn read() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let kib = |key: &str| {
            number(key)
                .map(|kib| kib * 1024)
                .ok_or_else(|| io::Error::other(format!("has no {key}")))
        };
        Ok(Self {
            resident: kib("VmRSS:")?,
            peak_resident: kib("VmHWM:")?,
            anonymous: kib("RssAnon:")?,
            virtual_size: kib("VmSize:")?,
            threads: number("Threads:").unwrap_or_default(),
            allocator: allocator::committed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_shows() {
        const LARGE: u64 = 64 << 20;
        let held = vec![1_u8; LARGE as usize];
        let during = Memory::read().unwrap();
        drop(held);
        let after = Memory::read().unwrap();
        assert!(during.resident >= LARGE && during.peak_resident >= during.resident);
        assert!(during.threads >= 1 && during.virtual_size >= during.resident);
        assert!(after.peak_resident >= LARGE, "the peak is kept: {after:?}");
        if let Some(allocator) = during.allocator {
            assert!(allocator.peak_committed >= allocator.committed);
            assert!(allocator.committed >= LARGE, "{allocator:?}");
        }
    }
}
