//! The program as hostile and hurried clients of carbon meet it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

#[path = "leaving/program.rs"]
#[allow(
    dead_code,
    reason = "the tests of leaving ask more of a program than these do"
)]
mod program;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use program::Program;

/// No test here waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the process may have had in memory at its worst.
const MOST_KIB: u64 = 64 * 1024;

/// Waits until `what` gives something; `told` says what else is known when it does not.
fn eventually<T>(mut what: impl FnMut() -> Option<T>, told: impl Fn() -> String) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "did not come about in time: {}",
            told()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start(dir: &TempDir) -> Program {
    let config = json!({
        "sources": [{"kind": "carbon", "config": {"line": "127.0.0.1:0", "pickle": "127.0.0.1:0"}}],
    });
    Program::start(dir, "a", config)
}

fn address(program: &Program, way: &str) -> String {
    program.until_logged(&format!("protocol=\"carbon-{way}\" address=tcp://"))
}

/// Sends it all on one connection, closes that cleanly, and waits until the other side has, too.
fn send(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    // The other side may have closed before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

fn until_emitted(program: &Program, name: &str, count: usize) {
    eventually(
        || {
            let points = program.points();
            let found = points.iter().filter(|point| point.name == name).count();
            (found == count).then_some(())
        },
        || format!("{count} of {name}\n{}", program.log()),
    );
}

fn evil() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pickle-evil");
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|ending| ending == "bin"))
        .collect()
}

/// A frame of a megabyte that makes as much as it can out of each byte.
fn greedy(unit: &[u8]) -> Vec<u8> {
    let mut pickle = b"]N22".to_vec();
    while pickle.len() + unit.len() < 1 << 20 {
        pickle.extend_from_slice(unit);
    }
    let mut stream = u32::try_from(pickle.len()).unwrap().to_be_bytes().to_vec();
    stream.extend(pickle);
    stream
}

fn good(name: &str) -> Vec<u8> {
    let mut pickle = b"\x80\x02]X".to_vec();
    pickle.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
    pickle.extend(name.as_bytes());
    pickle.extend(b"J\x00\xf1\x53\x65K\x01\x86\x86a.");
    let mut stream = u32::try_from(pickle.len()).unwrap().to_be_bytes().to_vec();
    stream.extend(pickle);
    stream
}

#[test]
fn hostile_pickles_take_little_memory_and_leave_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let program = start(&dir);
    let pickle = address(&program, "pickle");
    // What the pickles would run.
    let touched = Path::new("/tmp/refinery_pwned").exists();
    let files = || -> BTreeSet<PathBuf> {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    // The sink opens its file with the first point.
    send(&pickle, &good("before.all"));
    until_emitted(&program, "before.all", 1);
    let own = files();

    let evil = evil();
    assert!(evil.len() >= 29, "{}", evil.len());
    for path in &evil {
        send(&pickle, &std::fs::read(path).unwrap());
    }
    for unit in [
        &b"]"[..],
        b"(",
        b"N",
        b"2",
        b"\x94",
        b")\x85",
        b"N22\x87",
        b"]a",
        b"Va\xe9\n",
    ] {
        send(&pickle, &greedy(unit));
    }
    // Many that announce a megabyte and send nothing of it.
    let waiting: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(&pickle).unwrap();
            stream.write_all(&(1_u32 << 20).to_be_bytes()).unwrap();
            stream
        })
        .collect();
    send(&pickle, &good("after.all"));
    until_emitted(&program, "after.all", 1);
    drop(waiting);

    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let kib = |key: &str| -> u64 {
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_suffix("kB"));
        value.unwrap().trim().parse().unwrap()
    };
    // The program's own text is no memory that a peer takes, and there is much of it in a build for tests.
    let most = kib("VmHWM:") - kib("RssFile:");
    assert!(most < MOST_KIB, "{most} KiB at its worst");
    assert_eq!(files(), own);
    assert_eq!(Path::new("/tmp/refinery_pwned").exists(), touched);
    let metrics = program.get("/metrics");
    for reason in [
        "unsafe",
        "stack",
        "memo",
        "cut_short",
        "no_list",
        "too_complex",
    ] {
        let counter = format!("packet_type=\"carbon_frame\",reason=\"{reason}\"");
        assert!(metrics.contains(&counter), "{counter}\n{metrics}");
    }
}

#[test]
fn five_hundred_short_connections_all_arrive() {
    let dir = TempDir::new().unwrap();
    let mut program = start(&dir);
    let (line, pickle) = (address(&program, "line"), address(&program, "pickle"));
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                for number in 0..100 {
                    match number % 2 {
                        0 => send(&line, b"short.line 1 1700000000"),
                        _ => send(&pickle, &good("short.pickle")),
                    }
                }
            });
        }
    });
    until_emitted(&program, "short.line", 250);
    until_emitted(&program, "short.pickle", 250);
    program.stop();
}
