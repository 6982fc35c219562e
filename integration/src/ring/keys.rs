//! The keys that a simulation places: made up, or those of a real fleet.

use std::io::{BufRead, BufReader};
use std::path::Path;

use tributary_proxy::ignore::IgnoredTags;
use tributary_proxy::owner::key_of;

/// So many different keys that look like real ones; the same ones each time.
pub(super) fn made_up(count: u64) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|number| {
        let (name, host) = (number / 16, number % 16);
        format!("simulated.metric.{name}timerenv:prod,host:web-{host}").into_bytes()
    })
}

/// The keys of a file of `name|type|tag,tag` lines, or of standard input where it is `-`.
///
/// # Errors
/// In words: the file that cannot be read, or the line that names no metric.
pub(super) fn from_file(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let lines: Box<dyn BufRead> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(BufReader::new(std::fs::File::open(path).map_err(failed)?)),
    };
    let ignored = IgnoredTags::default();
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(lines.split(b'\n')) {
        let line = line.map_err(failed)?;
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            continue;
        }
        let key = key_of(line, &ignored, false)
            .map_err(|error| format!("{}: line {number} {error}", path.display()))?;
        keys.push(key);
    }
    match keys.is_empty() {
        true => Err(format!("{}: has no keys", path.display())),
        false => Ok(keys),
    }
}
