//! Sink `localfile`: points appended to a file as JSON lines or tab-separated columns.
//!
//! Each batch is one write of whole lines, flushed to the kernel (not synced to the disk), so that a reader that follows the file sees whole lines.
//! A file that was rotated away is noticed with the next batch: the path is opened anew.
//!
//! On failure: every error is retriable with the next flush, and then the file is opened anew. What a failed write left in a regular file is cut off
//! again, so a retry repeats nothing (unless another program appended to the same file meanwhile, or the path is a pipe or device). A disk that hangs
//! holds up this sink's queue alone. Skipped are events, unless `events` is on.

mod append;
pub(super) mod jsonl;
mod tsv;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::append::Appender;
use super::happened::Label;
use super::{Amount, Sink, SinkError, registry};
use crate::point::Batch;

/// How many points are formatted before other tasks get their turn: well under a millisecond's worth.
pub(super) const CHUNK: usize = 1024;

/// Appends points to a file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalFileConfig {
    /// The file, created if it is not there; its directory has to exist. Relative to the working directory. Veneur's `flush_file` is the same key.
    #[serde(alias = "flush_file")]
    pub path: PathBuf,

    /// `jsonl` (the default): an object a line, `{"name","type","value","timestamp","tags","hostname","interval"}`, and `"message"` for a service check
    /// that has one. The type is `counter`, `gauge` or `status`; a counter's value is the interval's total; the timestamp is in seconds since 1970, the
    /// interval in seconds. `tsv`: the columns name, type, tags (joined by commas), hostname, interval, timestamp, value, separated by tabs, with `\`
    /// and control characters escaped as `\\`, `\t`, `\n`.
    #[serde(default)]
    pub format: Format,

    /// Whether DogStatsD events are written too: `{"name": title, "type": "event", "text", "timestamp", "tags", "hostname", "priority", "alert_type"}`
    /// and, where set, `"aggregation_key"` and `"source_type"`. Needs the format `jsonl`. Default: false; events are then counted as skipped.
    #[serde(default)]
    pub events: bool,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSON lines.
    #[default]
    Jsonl,
    /// Tab-separated columns.
    Tsv,
}

impl registry::Build for LocalFileConfig {
    const EXAMPLE: &'static str = "\
- kind: localfile
  config:
    path: /var/log/points.jsonl
";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let path = self.path.display();
        let directory = match self.path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => &self.path,
        };
        if self.path.as_os_str().is_empty() {
            problems.push("path: is empty".to_owned());
        } else if self.path.is_dir() {
            problems.push(format!("path: `{path}` is a directory"));
        } else if !directory.is_dir() {
            problems.push(format!(
                "path: there is no directory `{}`",
                directory.display()
            ));
        }
        if self.events && self.format == Format::Tsv {
            problems.push("events: needs the format jsonl".to_owned());
        }
        problems
    }

    fn build(self, name: &str) -> Result<Box<dyn Sink>, String> {
        Ok(Box::new(LocalFile::open(self, name)?))
    }
}

#[derive(Debug)]
struct LocalFile {
    format: Format,
    events: bool,
    appender: Arc<Mutex<Appender>>,
    /// Kept from batch to batch, so that formatting does not allocate.
    buffer: Vec<u8>,
}

impl LocalFile {
    fn open(config: LocalFileConfig, name: &str) -> Result<Self, String> {
        let label = Label {
            name: name.into(),
            kind: "localfile".into(),
        };
        let appender =
            Appender::open(config.path, label).map_err(|error| format!("path: {error}"))?;
        Ok(Self {
            format: config.format,
            events: config.events,
            appender: Arc::new(Mutex::new(appender)),
            buffer: Vec::new(),
        })
    }

    async fn format(&mut self, batch: &Batch) -> io::Result<Amount> {
        self.buffer.clear();
        for points in batch.points.chunks(CHUNK) {
            for point in points {
                match self.format {
                    Format::Jsonl => jsonl::point(&mut self.buffer, batch, point)?,
                    Format::Tsv => tsv::point(&mut self.buffer, batch, point)?,
                }
            }
            tokio::task::yield_now().await;
        }
        let mut written = Amount::points(batch.points.len());
        if self.events {
            for event in &batch.events {
                jsonl::event(&mut self.buffer, batch, event)?;
            }
            written.events = batch.events.len();
        }
        Ok(written)
    }

    async fn append(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let appender = Arc::clone(&self.appender);
        // Files block, and a disk may take its time: not on a thread that serves a network.
        let (result, buffer) =
            tokio::task::spawn_blocking(move || (appender.lock().append(&buffer), buffer))
                .await
                .map_err(io::Error::other)?;
        self.buffer = buffer;
        // One unusually big flush should not hold its memory for ever.
        if self.buffer.capacity() / 4 > self.buffer.len() {
            let enough = self.buffer.len() * 2;
            self.buffer.shrink_to(enough);
        }
        result
    }
}

#[async_trait]
impl Sink for LocalFile {
    async fn write(&mut self, batch: &Batch) -> Result<Amount, SinkError> {
        let retriable = |error: io::Error| SinkError::Retriable {
            reason: error.to_string(),
            after: None,
        };
        let written = self.format(batch).await.map_err(retriable)?;
        self.append().await.map_err(retriable)?;
        Ok(written)
    }
}

#[cfg(test)]
mod tests;
