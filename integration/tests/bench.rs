//! `tributary bench` from end to end: every row runs, and what was sent has arrived. How fast is not looked at: the machine may be busy, and
//! this is no release build.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise"
)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn bench(arguments: &[&str], json: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .arg("bench")
        .args(arguments)
        .arg("--json")
        .arg(json)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{table}");
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

#[test]
fn every_row_runs_and_counts_right() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--smoke", "--seconds", "1", "--series", "300"];
    let report = bench(&arguments, &directory.path().join("report.json"));
    let rows = report["rows"].as_array().unwrap();
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    for part in [
        "proxy-unary",
        "proxy-stream",
        "agent-udp",
        "agent-memory",
        "global-",
    ] {
        assert!(names.iter().any(|name| name.starts_with(part)), "{names:?}");
    }
    for row in rows {
        let runs = row["ours"].as_array().unwrap();
        assert_eq!(runs.len(), 1, "{row}");
        assert!(runs[0]["metrics"].as_u64().unwrap() > 0, "{row}");
        assert!(runs[0]["value"].as_f64().unwrap().is_finite(), "{row}");
        // What UDP loses is no failure; the memory row counts nothing that could be missing.
        let is_counted = row["name"] != "agent-memory";
        let missing = runs[0]["missing"].as_i64();
        assert_eq!(missing.is_some(), is_counted, "{row}");
        if !row["name"].as_str().unwrap().starts_with("agent-") {
            assert_eq!(missing, Some(0), "{row}");
        }
    }
}

#[test]
fn what_does_not_exist_is_said() {
    for arguments in [&["bench", "nonsense"][..], &["bench", "scale", "nonsense"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_tributary"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("there are "), "{said}");
    }
}

#[test]
fn a_scaling_run_counts_right_and_draws_its_charts() {
    let directory = tempfile::tempdir().unwrap();
    let charts = directory.path().join("charts");
    let arguments = [
        "scale",
        "proxy-destinations",
        "proxy-connections",
        "--smoke",
        "--seconds",
        "1",
        "--charts",
        charts.to_str().unwrap(),
    ];
    let report = bench(&arguments, &directory.path().join("scale.json"));
    let sweeps = report["sweeps"].as_array().unwrap();
    assert_eq!(sweeps.len(), 2);
    for sweep in sweeps {
        let points = sweep["points"].as_array().unwrap();
        assert_eq!(points.len(), 3, "{sweep}");
        for point in points {
            assert_eq!(point["missing"], 0, "{sweep}");
            assert!(point["metrics"].as_u64().unwrap() > 0, "{sweep}");
        }
    }
    for chart in ["destinations", "connections", "connections-memory"] {
        let drawn = std::fs::read_to_string(charts.join(format!("{chart}.svg"))).unwrap();
        assert!(drawn.contains("</svg>"), "{chart}");
    }
    // Nothing with that axis was measured.
    assert!(!charts.join("series.svg").exists());
}
