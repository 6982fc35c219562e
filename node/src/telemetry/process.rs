//! What the process itself takes, from `/proc`; elsewhere than on Linux these self-metrics are not there.

use std::time::Instant;

use nix::unistd::{SysconfVar, sysconf};

use crate::metrics::{CPU_MILLISECONDS, INFO, OPEN_FILES, RESIDENT_BYTES, UPTIME};

/// Tells, when asked, what the process takes.
pub(super) struct Process {
    since: Instant,
    page: f64,
    ticks_a_second: f64,
    /// Milliseconds of CPU time that were told.
    cpu_told: u64,
}

// === impl Process ===

impl Process {
    pub(super) fn new(version: &'static str) -> Self {
        INFO.with([version.into()]).set(1.0);
        let system = |what, usual| match sysconf(what) {
            Ok(Some(value)) => value as f64,
            _ => usual,
        };
        Self {
            since: Instant::now(),
            page: system(SysconfVar::PAGE_SIZE, 4096.0),
            ticks_a_second: system(SysconfVar::CLK_TCK, 100.0),
            cpu_told: 0,
        }
    }

    /// Reads a few small files: not for every packet.
    pub(super) fn tell(&mut self) {
        UPTIME.set(self.since.elapsed().as_secs_f64());
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            OPEN_FILES.set(files.count() as f64);
        }
        let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
            return;
        };
        if let Some((ticks, pages)) = taken(&stat) {
            let used = (ticks / self.ticks_a_second * 1e3) as u64;
            CPU_MILLISECONDS.increment(used.saturating_sub(self.cpu_told));
            self.cpu_told = used;
            RESIDENT_BYTES.set(pages * self.page);
        }
    }
}

/// Clock ticks in user and kernel mode, and resident pages, from a `/proc/…/stat` (proc(5): fields 14, 15 and 24).
fn taken(stat: &str) -> Option<(f64, f64)> {
    // The program's name, in brackets, may hold anything.
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ');
    // Field 3 is the first after the name.
    let mut number = |skipped: usize| fields.nth(skipped)?.parse::<f64>().ok();
    let (user, kernel) = (number(14 - 3)?, number(0)?);
    let pages = number(24 - 15 - 1)?;
    Some((user + kernel, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_proc() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 5 0 900 1000000 256 18446744073709551615 1";
        assert_eq!(taken(stat), Some((42.0, 256.0)));
        assert_eq!(taken("7 (a"), None);
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (_, pages) = taken(&own).unwrap();
        assert!((100.0..1e7).contains(&pages), "{pages} pages: {own}");
    }
}
