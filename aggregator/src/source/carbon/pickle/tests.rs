use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(folder)
}

fn json(folder: &str, name: &str) -> Value {
    serde_json::from_slice(&fs::read(fixtures(folder).join(name)).unwrap()).unwrap()
}

/// The whole frames of a recorded stream.
fn frames(folder: &str, name: &str) -> Vec<Vec<u8>> {
    let stream = fs::read(fixtures(folder).join(name)).unwrap();
    let mut rest = stream.as_slice();
    let mut frames = Vec::new();
    while let Some((header, body)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*header) as usize;
        let Some((frame, after)) = body.split_at_checked(length) else {
            break;
        };
        frames.push(frame.to_vec());
        rest = after;
    }
    frames
}

fn cause(frame: &[u8]) -> Result<usize, &'static str> {
    match Unpickler::default().decode(frame) {
        Ok(items) => Ok(items.count()),
        Err(error) => Err(error.cause()),
    }
}

/// Path, timestamp and value of the good items.
fn points(frame: &[u8]) -> Vec<(String, f64, f64)> {
    let mut unpickler = Unpickler::default();
    let items = unpickler.decode(frame).unwrap();
    items
        .filter_map(Result::ok)
        .map(|item| {
            (
                String::from_utf8_lossy(item.path).into_owned(),
                item.timestamp,
                item.value,
            )
        })
        .collect()
}

#[test]
fn what_python_pickles_is_read_as_carbon_reads_it() {
    let expected = json("pickle-py", "expected.json");
    let files = expected.as_object().unwrap();
    assert!(files.len() > 60);
    for (name, wanted) in files {
        let frame = frames("pickle-py", name).remove(0);
        let opcodes = wanted["opcodes"].as_array().unwrap();
        if opcodes.contains(&Value::from("GLOBAL")) {
            // Bytes of Python 3 in an old protocol: a call.
            assert_eq!(cause(&frame), Err("unsafe"), "{name}");
            continue;
        }
        let mut read = points(&frame);
        let all = cause(&frame).unwrap();
        // Carbon drops NaN without a word.
        read.retain(|(_, _, value)| !value.is_nan());
        let wanted_points = wanted["points"].as_array().unwrap();
        assert_eq!(read.len(), wanted_points.len(), "{name}: {read:?}");
        assert_eq!(
            (all - read.len()) as u64,
            wanted["skipped"].as_u64().unwrap(),
            "{name}"
        );
        for ((path, timestamp, value), wanted) in read.iter().zip(wanted_points) {
            assert_eq!(path, wanted[0].as_str().unwrap(), "{name}");
            match wanted[1].as_f64() {
                Some(wanted) => assert_eq!(*timestamp, wanted, "{name} {path}"),
                None => assert_eq!((timestamp.trunc(), wanted[1].as_str()), (-1.0, Some("now"))),
            }
            match wanted[2].as_f64() {
                Some(wanted) => assert_eq!(*value, wanted, "{name} {path}"),
                None => assert_eq!((*value, wanted[2].as_str()), (f64::INFINITY, Some("inf"))),
            }
        }
    }
}

#[test]
fn hostile_pickles_are_refused_by_cause_or_yield_nothing() {
    let index = json("pickle-evil", "index.json");
    for name in index.as_object().unwrap().keys() {
        let outcomes: Vec<_> = frames("pickle-evil", name)
            .iter()
            .map(|frame| cause(frame))
            .collect();
        let expected: &[Result<usize, &str>] = match name.as_str() {
            "append_non_list.bin" | "stack_underflow.bin" => &[Err("stack")],
            "bad_then_good.bin" => &[Err("memo"), Ok(1)],
            // One item, which is no point; it is not expanded.
            "billion_laughs.bin" | "deep_lists.bin" => {
                assert!(
                    matches!(outcomes[..], [Ok(0..=2) | Err("too_complex")]),
                    "{name}: {outcomes:?}"
                );
                continue;
            }
            "binget_missing.bin" | "long_binput_huge.bin" | "not_pickle.bin" => &[Err("memo")],
            "binunicode_overrun.bin"
            | "empty_payload.bin"
            | "long4_negative.bin"
            | "long4_overrun.bin"
            | "no_stop.bin" => &[Err("cut_short")],
            "binpersid.bin"
            | "persid.bin"
            | "build.bin"
            | "evil_inside_list.bin"
            | "ext1.bin"
            | "global_reduce_p0.bin"
            | "global_reduce_p2.bin"
            | "inst_p0.bin"
            | "next_buffer_p5.bin" => &[Err("unsafe")],
            "top_dict.bin" | "top_int.bin" => &[Err("no_list")],
            "self_ref.bin" | "trailing_garbage.bin" => &[Ok(1)],
            "two_frames_one_write.bin" => &[Ok(1), Ok(1)],
            "overlong_1MiB_plus_1.bin" | "truncated_then_close.bin" => &[],
            other => panic!("{other} has no test"),
        };
        assert_eq!(outcomes, expected, "{name}");
    }
    let points_of = |name| points(&frames("pickle-evil", name).pop().unwrap());
    for name in ["billion_laughs.bin", "self_ref.bin"] {
        assert_eq!(points_of(name), [], "{name}");
    }
    for name in ["bad_then_good.bin", "trailing_garbage.bin"] {
        assert_eq!(
            points_of(name),
            [("ok.metric".to_owned(), 1.7e9, 1.0)],
            "{name}"
        );
    }
}

#[test]
fn each_sort_of_value_is_read() {
    let list = |item: &[u8]| [b"(", item, b"l."].concat();
    let point = |path: &[u8], timestamp: &[u8], value: &[u8]| {
        list(&[path, timestamp, value, &[0x86, 0x86]].concat())
    };
    let (path, time) = (b"U\x01a", b"K\x07");
    for (value, expected) in [
        (&b"K\x05"[..], 5.0),
        (b"M\x00\x01", 256.0),
        (b"J\xff\xff\xff\xff", -1.0),
        (b"G\x3f\xf8\0\0\0\0\0\0", 1.5),
        (b"F1.5\n", 1.5),
        (b"Finf\n", f64::INFINITY),
        (b"I42\n", 42.0),
        (b"I01\n", 1.0),
        (b"L-12345678901234567890L\n", -12345678901234567890.0),
        (b"\x88", 1.0),
        (b"\x89", 0.0),
        (b"\x8a\x00", 0.0),
        (b"\x8a\x02\x00\x80", -32768.0),
        (b"\x8b\x01\x00\x00\x00\x07", 7.0),
        (b"S'3.5'\n", 3.5),
        (b"V1e3\n", 1000.0),
        (b"X\x02\0\0\x0042", 42.0),
        (b"C\x0242", 42.0),
        (b"T\x02\0\0\x0042", 42.0),
        (b"B\x02\0\0\x0042", 42.0),
        (b"\x8c\x0242", 42.0),
        (b"\x8d\x02\0\0\0\0\0\0\x0042", 42.0),
        (b"\x8e\x02\0\0\0\0\0\0\x0042", 42.0),
        (b"\x96\x02\0\0\0\0\0\0\x0042", 42.0),
        // Through the memo, after something was thrown away, and out of a doubled one.
        (b"K\x05q\x000h\x00", 5.0),
        (b"K\x05p0\n0g0\n", 5.0),
        (b"K\x05\x940j\0\0\0\0", 5.0),
        (b"(K\x01K\x021K\x05", 5.0),
        (b"K\x0520", 5.0),
    ] {
        let frame = point(path, time, value);
        assert_eq!(
            points(&frame),
            [("a".to_owned(), 7.0, expected)],
            "{}",
            value.escape_ascii()
        );
    }
    for path in [
        &b"S'a'\n"[..],
        b"S'\\x61'\n",
        b"Va\n",
        b"V\\u0061\n",
        b"X\x01\0\0\0a",
        b"B\x01\0\0\0a",
        b"\x8c\x01a",
    ] {
        assert_eq!(
            points(&point(path, time, b"K\x05")).len(),
            1,
            "{}",
            path.escape_ascii()
        );
    }
    for bad in [
        &b"N"[..],
        b"}",
        b")",
        b"]",
        b"U\x03abc",
        b"}K\x01K\x02s",
        b"(K\x01K\x02d",
    ] {
        let frame = point(path, time, bad);
        let mut unpickler = Unpickler::default();
        let items: Vec<_> = unpickler.decode(&frame).unwrap().collect();
        assert_eq!(items, [Err(ItemError::Value)], "{}", bad.escape_ascii());
        let frame = point(path, bad, b"K\x01");
        let items: Vec<_> = unpickler.decode(&frame).unwrap().collect();
        assert_eq!(items, [Err(ItemError::Timestamp)], "{}", bad.escape_ascii());
    }
}

#[test]
fn a_mark_keeps_what_lies_below_it() {
    for frame in [
        &b"](a."[..],
        b"K\x01(\x85.",
        b"](0a.",
        b"(",
        b"K\x01(.",
        b"}(K\x01K\x02s.",
    ] {
        assert!(
            matches!(cause(frame), Err("stack" | "cut_short")),
            "{}",
            frame.escape_ascii()
        );
    }
    assert_eq!(cause(b"](0."), Ok(0));
    assert_eq!(cause(b"](e."), Ok(0));
    assert_eq!(cause(b"}(e."), Err("stack"));
    assert_eq!(cause(b"}(K\x01u."), Err("stack"));
}

#[test]
fn protocols_up_to_5_are_known() {
    for protocol in 0..=5 {
        assert_eq!(cause(&[0x80, protocol, b']', b'.']), Ok(0));
    }
    assert_eq!(cause(&[0x80, 6, b']', b'.']), Err("protocol"));
    assert_eq!(cause(&[0xff]), Err("unknown_opcode"));
    assert_eq!(
        cause(&[0x95, 4, 0, 0, 0, 0, 0, 0, 0, b']', b'.']),
        Err("cut_short")
    );
}

/// What it holds is bounded by the length of the frame, whatever the frame does.
#[test]
fn no_frame_makes_more_than_its_length_allows() {
    const LENGTH: usize = 1 << 20;
    let mut unpickler = Unpickler::default();
    for unit in [
        &b"]"[..],
        b"(",
        b"N",
        b"2",
        b"\x94",
        b")\x85",
        b"N22\x87",
        b"]a",
        b"}",
        b"Va\xe9\n",
        b"S'\\x00'\n",
    ] {
        let mut frame = b"]N22".to_vec();
        while frame.len() < LENGTH {
            frame.extend_from_slice(unit);
        }
        let _ = unpickler.decode(&frame).map(Iterator::count);
        let bytes = unpickler.0.held();
        assert!(bytes <= 40 << 20, "{}: {bytes} bytes", unit.escape_ascii());
        unpickler.relax();
        assert!(unpickler.0.held() <= 3 << 20);
    }
}

/// A pickle as the densest client writes it: one name over and over, everything in the memo.
#[test]
fn the_densest_honest_frame_is_taken() {
    let mut frame = b"\x80\x05]\x94(\x8c\x01a\x940".to_vec();
    while frame.len() < (1 << 20) - 1000 {
        frame.extend(b"h\x01J\x00\xf1\x53\x65G\x40\x14\0\0\0\0\0\0\x86\x94\x86\x94");
    }
    frame.extend(b"e.");
    let count = (frame.len() - 9) / 20;
    assert_eq!(cause(&frame), Ok(count));
}

proptest! {
    #[test]
    fn no_bytes_panic(frame: Vec<u8>) {
        let _ = cause(&frame);
    }

    #[test]
    fn no_instructions_panic(frame in "[\\]\\(\\)ltaesud0-2NhqpgIFSKMV'\n]{0,60}") {
        let _ = cause(frame.as_bytes());
    }

    #[test]
    fn no_damage_to_a_good_frame_panics(at in 0..400_usize, byte: u8, cut in 0..400_usize) {
        let mut frame = frames("pickle-py", "py313_pickle_p4_tuples.bin").remove(0);
        if let Some(place) = frame.get_mut(at) {
            *place = byte;
        }
        let _ = cause(&frame);
        frame.truncate(cut);
        let _ = cause(&frame);
    }
}
