//! Carbon's text lines, and the paths in them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tributary_aggregator::source::carbon::line::parse;
use tributary_aggregator::source::carbon::path::Path;

fuzz_target!(|data: &[u8]| {
    for line in data.split(|byte| *byte == b'\n') {
        let line = match parse(line) {
            Ok(Some(line)) => line,
            Ok(None) => {
                assert!(line.iter().all(|byte| *byte <= b' '));
                continue;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty() && !error.cause().is_empty());
                continue;
            }
        };
        assert!(!line.path.is_empty() && !line.path.contains(&b' '));
        check_path(line.path);
    }
    check_path(data);
});

/// A path written anew from what was read of it is the same series.
fn check_path(path: &[u8]) {
    let parsed = match Path::parse(path) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(!error.to_string().is_empty() && !error.cause().is_empty());
            return;
        }
    };
    assert!(!parsed.name.is_empty());
    let ours = parsed.tags();
    let ours: Vec<&str> = ours.iter().collect();
    assert_eq!(ours.len(), parsed.tags.len());
    assert!(ours.is_sorted());

    let mut written = parsed.name.to_owned();
    for (key, value) in &parsed.tags {
        assert!(!key.is_empty() && !value.is_empty() && !key.contains(':'));
        written.push_str(&format!(";{key}={value}"));
    }
    // One that ends as the other notation does would be read as such.
    if !written.ends_with("\"}") {
        let again = Path::parse(written.as_bytes()).expect("what was read can be written");
        assert_eq!((again.name, again.tags), (parsed.name, parsed.tags));
    }
}
