//! Lines gathered into packets.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use cadence::MetricSink;

// Fits an Ethernet frame with IPv6 and UDP headers.
pub(super) const PACKET: usize = 1432;

/// Where the exporter writes: lines gathered into packets.
#[derive(Clone, Default)]
pub(super) struct Lines {
    state: Arc<Mutex<Packets>>,
}

#[derive(Default)]
struct Packets {
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
    /// What each line written now stands for, where that is not one value.
    rate: Option<f64>,
}

// === impl Lines ===

impl Lines {
    fn locked(&self) -> std::sync::MutexGuard<'_, Packets> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on each line stands for more values than its own.
    pub(super) fn set_rate(&self, rate: Option<f64>) {
        self.locked().rate = rate;
    }

    /// What was written since the last call.
    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        let mut packets = self.locked();
        packets.close();
        std::mem::take(&mut packets.full)
    }
}

impl MetricSink for Lines {
    fn emit(&self, line: &str) -> io::Result<usize> {
        let mut packets = self.locked();
        match packets.rate {
            // The exporter knows no rates: `name:value|d|#tags` becomes `name:value|d|@rate|#tags`.
            Some(rate) => {
                let (value, tags) = line.split_once("|#").unwrap_or((line, ""));
                let tags = if tags.is_empty() {
                    String::new()
                } else {
                    format!("|#{tags}")
                };
                packets.push(format!("{value}|@{rate}{tags}").as_bytes());
            }
            None => packets.push(line.as_bytes()),
        }
        Ok(line.len())
    }
}

// === impl Packets ===

impl Packets {
    fn push(&mut self, line: &[u8]) {
        if !self.open.is_empty() && self.open.len() + 1 + line.len() > PACKET {
            self.close();
        }
        if !self.open.is_empty() {
            self.open.push(b'\n');
        }
        self.open.extend_from_slice(line);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open));
        }
    }
}
