//! The sketches that the real Veneur made of the same members, compared byte for byte.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{HyperLogLog, Layout, hash};

fn recorded() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/veneur/hll.json")).unwrap()
}

fn users(range: std::ops::Range<u64>) -> HyperLogLog {
    let mut sketch = HyperLogLog::new();
    add_users(&mut sketch, range);
    sketch
}

fn add_users(sketch: &mut HyperLogLog, range: std::ops::Range<u64>) {
    for user in range {
        sketch.insert(format!("user-{user}").as_bytes());
    }
}

fn range(value: &Value) -> std::ops::Range<u64> {
    value[0].as_u64().unwrap()..value[1].as_u64().unwrap()
}

fn layout(sketch: &HyperLogLog) -> &'static str {
    match sketch.layout {
        Layout::Sparse(_) => "sparse",
        Layout::Dense(_) => "dense",
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

/// Waiting codes in ascending order: the recording has them in the order of a Go map.
fn with_sorted_waiting(mut bytes: Vec<u8>, waiting: usize) -> Vec<u8> {
    let codes = &mut bytes[8..8 + 4 * waiting];
    let mut sorted: Vec<[u8; 4]> = codes
        .chunks_exact(4)
        .map(|code| code.try_into().unwrap())
        .collect();
    sorted.sort_unstable();
    codes.copy_from_slice(sorted.as_flattened());
    bytes
}

/// Estimates, and compares with everything that the recording says of the sketch after it.
fn assert_estimate(sketch: &mut HyperLogLog, case: &Value, name: &str) {
    assert_eq!(layout(sketch), case["layout"].as_str().unwrap(), "{name}");
    assert_eq!(
        sketch.estimate(),
        case["estimate"].as_u64().unwrap(),
        "{name}"
    );
    assert_eq!(sketch.to_bytes(), bytes(&case["canonical_b64"]), "{name}");
    if let Layout::Dense(dense) = &sketch.layout {
        assert_eq!(
            u64::from(dense.offset),
            case["b"].as_u64().unwrap(),
            "{name}"
        );
    }
}

#[test]
fn the_hash_is_that_of_the_recorded_vectors() {
    for vector in recorded()["hash_vectors"].as_array().unwrap() {
        let input = vector["input"].as_str().unwrap();
        assert_eq!(
            format!("{:016x}", hash(input.as_bytes())),
            vector["metro64_seed1337"].as_str().unwrap(),
            "{input}"
        );
    }
}

#[test]
fn the_same_members_give_the_same_bytes_and_the_same_estimate() {
    for case in recorded()["sets"].as_array().unwrap() {
        let name = format!("{} members", case["n"]);
        let mut sketch = users(0..case["n"].as_u64().unwrap());
        // For dense sketches, which an estimate does not change, the recording has no bytes of before.
        let before = if case["raw_b64"].is_null() {
            "canonical_b64"
        } else {
            "raw_b64"
        };
        let raw = with_sorted_waiting(
            bytes(&case[before]),
            case["raw_tmpset_len"].as_u64().unwrap_or(0) as usize,
        );
        assert_eq!(sketch.to_bytes(), raw, "{name}");
        let mut read = HyperLogLog::from_bytes(&bytes(&case[before])).unwrap();
        assert_eq!(read.to_bytes(), raw, "{name}");
        assert_estimate(&mut sketch, case, &name);
        assert_estimate(&mut read, case, &name);
    }
}

#[test]
fn a_growing_set_has_the_recorded_estimates_all_the_way() {
    let recorded = recorded();
    let mut sketch = HyperLogLog::new();
    let mut members = 0;
    for row in recorded["estimate_series"]["rows"].as_array().unwrap() {
        let n = row[0].as_u64().unwrap();
        add_users(&mut sketch, members..n);
        members = n;
        // On a copy: the recording made a sketch for each row, and an estimate leaves traces.
        let seen = (sketch.clone().estimate(), layout(&sketch));
        assert_eq!(
            seen,
            (row[1].as_u64().unwrap(), row[2].as_str().unwrap()),
            "{n} members"
        );
        if let Layout::Dense(dense) = &sketch.layout {
            assert_eq!(
                u64::from(dense.offset),
                row[3].as_u64().unwrap(),
                "{n} members"
            );
        }
    }
}

#[test]
fn a_set_turns_dense_at_the_recorded_size() {
    let first = recorded()["first_dense_n"].as_u64().unwrap();
    let mut sketch = users(0..first - 1);
    assert_eq!(layout(&sketch), "sparse");
    add_users(&mut sketch, first - 1..first);
    assert_eq!(layout(&sketch), "dense");
}

#[test]
fn merges_give_the_same_bytes_and_the_same_estimate() {
    for case in recorded()["merges"].as_array().unwrap() {
        let name = format!("{} and {}", case["a_range"], case["b_range"]);
        let mut sketch = users(range(&case["a_range"]));
        let other = HyperLogLog::from_bytes(&users(range(&case["b_range"])).to_bytes()).unwrap();
        sketch.merge(&other);
        if let Layout::Sparse(sparse) = &sketch.layout {
            assert_eq!(
                sparse.waiting.len() as u64,
                case["raw_tmpset_len"].as_u64().unwrap(),
                "{name}"
            );
        }
        assert_estimate(&mut sketch, case, &name);
    }
}
