//! What a process has used.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// CPU time of a process so far, all its threads together, those that have ended too; to the nanosecond.
pub(super) fn cpu(pid: i32) -> io::Result<Duration> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).map_err(io::Error::from)?;
    let time = clock_gettime(clock).map_err(io::Error::from)?;
    Ok(Duration::from(time))
}

/// Bytes that a process has in memory.
pub(super) fn resident(pid: i32) -> io::Result<u64> {
    status(pid, "VmRSS:")
}

/// The most bytes that it has had in memory.
pub(super) fn peak(pid: i32) -> io::Result<u64> {
    status(pid, "VmHWM:")
}

fn status(pid: i32, key: &str) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix(key)?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .map(|kib: u64| kib << 10)
        .ok_or_else(|| io::Error::other(format!("process {pid} has no {key}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something_and_uses_more() {
        let me = i32::try_from(std::process::id()).unwrap();
        let before = cpu(me).unwrap();
        let mut sum = 0_u64;
        while cpu(me).unwrap() < before + Duration::from_millis(2) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(peak(me).unwrap() >= resident(me).unwrap() / 2);
        assert!(resident(me).unwrap() > 100 << 10);
    }
}
