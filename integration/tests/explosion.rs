//! A tag that takes millions of values, against an aggregator that may hold few of them: memory stays bounded, and totals stay right.
//!
//! The number of series is 5 million in a release build and 1.5 million otherwise, or what `EXPLOSION_SERIES` says. The test prints its
//! figures; `docs/reliability.md` quotes them.
#![allow(clippy::print_stdout, reason = "the figures are read in the output")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use tributary_integration::tier::{Binaries, Tail, Tier, wait_for};

type Outcome = Result<(), Box<dyn Error>>;

/// What it may hold in an interval.
const MAX_SERIES: usize = 500_000;
/// Names over which the series are spread.
const NAMES: usize = 10;
/// Lines of a datagram.
const PACKED: usize = 40;
/// The limit of its memory, in bytes.
const LIMIT: u64 = 1 << 30;

fn series() -> Result<usize, std::num::ParseIntError> {
    match std::env::var("EXPLOSION_SERIES") {
        Ok(series) => series.parse(),
        Err(_) if cfg!(debug_assertions) => Ok(1_500_000),
        Err(_) => Ok(5_000_000),
    }
}

/// What came out of one name.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Total {
    /// Under its own series' tags.
    own: f64,
    /// In the overflow series.
    folded: f64,
}

#[tokio::test]
async fn an_explosion_of_series_stays_within_memory_and_its_totals_stay_right() -> Outcome {
    let series = series()?;
    let mut tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    // Long enough that a slow machine, too, sends more than the cap in an interval.
    tier.set_interval(Duration::from_secs(20));
    let mut node = tier
        .agent("exploded")
        .with("max_series", json!(MAX_SERIES))
        .start()
        .await?;

    let began = Instant::now();
    let socket = node.socket.clone();
    tokio::task::spawn_blocking(move || explode(&socket, series)).await??;
    let sending = began.elapsed();

    let mut tail = Tail::new(&node.points);
    let mut totals: BTreeMap<String, Total> = BTreeMap::new();
    let (mut points, mut intervals) = (0_usize, BTreeMap::<i64, usize>::new());
    let delivered = |totals: &BTreeMap<String, Total>| -> f64 {
        totals.values().map(|total| total.own + total.folded).sum()
    };
    let waited = wait_for("every count to come out", async || {
        for point in tail.read().ok()? {
            if !point.name.starts_with("explosion.") {
                continue;
            }
            points += 1;
            *intervals.entry(point.timestamp).or_default() += 1;
            let folded = point.has_tag("overflow:true");
            let total = totals.entry(point.name).or_default();
            *(if folded {
                &mut total.folded
            } else {
                &mut total.own
            }) += point.value;
        }
        (delivered(&totals) >= series as f64).then_some(())
    })
    .await;

    let pid = node.program.pid().ok_or("it has ended")?;
    let peak = peak_memory(pid)?;
    let folded: f64 = totals.values().map(|total| total.folded).sum();
    println!(
        "explosion: {series} series sent in {:.1} s, delivered {}, of them {folded} in overflow series, {points} points in {} intervals of at most {} series, peak memory {} MiB",
        sending.as_secs_f64(),
        delivered(&totals),
        intervals.len(),
        intervals.values().max().copied().unwrap_or_default(),
        peak >> 20
    );
    waited?;
    for (name, total) in &totals {
        let sent = (series / NAMES) as f64;
        assert_eq!(total.own + total.folded, sent, "{name}: {total:?}");
    }
    assert_eq!(totals.len(), NAMES);
    let most = intervals.values().max().copied().unwrap_or_default();
    // A machine that is too slow for it spreads the series over so many intervals that none has too many.
    assert!(
        folded > 0.0 || most < MAX_SERIES,
        "the cap was reached, and nothing folded"
    );
    assert!(most <= MAX_SERIES + NAMES, "{most} series in an interval");
    assert!(peak < LIMIT, "peak memory {peak}");
    assert!(node.stop().await?.success());
    Ok(())
}

/// Sends one count to each series; a full buffer makes it wait, so all of it arrives.
fn explode(path: &PathBuf, series: usize) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    let mut lines = String::new();
    for first in (0..series).step_by(PACKED) {
        lines.clear();
        for number in first..(first + PACKED).min(series) {
            // Writing into a string cannot fail.
            let _ = writeln!(lines, "explosion.{}:1|c|#request:{number}", number % NAMES);
        }
        socket.send(lines.as_bytes())?;
    }
    Ok(())
}

/// The most memory that a process ever held, in bytes.
fn peak_memory(pid: i32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .map(|kibibytes: u64| kibibytes * 1024)
        .ok_or_else(|| io::Error::other("no VmHWM in its status"))
}
