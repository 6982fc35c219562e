//! The points that an aggregator's file sink wrote.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// One line of a JSON lines file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emitted {
    /// With the suffix of an aggregate.
    pub name: String,
    /// `counter`, `gauge` or `status`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A counter's is the interval's total.
    pub value: f64,
    /// Unix time in seconds.
    pub timestamp: i64,
    /// In order.
    pub tags: Vec<String>,
    /// Who emitted it.
    pub hostname: String,
    /// In seconds.
    pub interval: f64,
    /// A service check's text.
    #[serde(default)]
    pub message: Option<String>,
}

impl Emitted {
    /// Whether it carries the tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }
}

/// All whole lines of the file so far; none if there is no file yet.
///
/// # Errors
/// If a line is not a point.
pub fn read_points(path: &Path) -> io::Result<Vec<Emitted>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    parse(text.rfind('\n').map_or("", |end| &text[..end]))
}

/// Follows a JSON lines file: each call to [`Tail::read`] gives what was written since the one before.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    read: u64,
    partial: String,
}

impl Tail {
    /// Starts at the beginning of a file that need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            read: 0,
            partial: String::new(),
        }
    }

    /// The whole lines that are new.
    ///
    /// # Errors
    /// If a line is not a point.
    pub fn read(&mut self) -> io::Result<Vec<Emitted>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        file.seek(SeekFrom::Start(self.read))?;
        self.read += file.read_to_string(&mut self.partial)? as u64;
        let Some(end) = self.partial.rfind('\n') else {
            return Ok(Vec::new());
        };
        let rest = self.partial.split_off(end + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        parse(&whole)
    }
}

fn parse(lines: &str) -> io::Result<Vec<Emitted>> {
    lines
        .lines()
        .map(|line| {
            serde_json::from_str(line).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{error}: {line}"))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_tail_gives_each_whole_line_once() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let line = r#"{"name":"a","type":"gauge","value":1,"timestamp":1,"tags":[],"hostname":"h","interval":1}"#;
        let mut tail = Tail::new(file.path());
        write!(file, "{line}\n{}", &line[..20]).unwrap();
        assert_eq!(tail.read().unwrap().len(), 1);
        assert_eq!(tail.read().unwrap().len(), 0);
        writeln!(file, "{}", &line[20..]).unwrap();
        assert_eq!(tail.read().unwrap().len(), 1);
    }
}
