//! Uploads as files: one with what is known of each, beside one with its data while there is work left.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::request::Variables;
use super::status::Status;

/// A file as it was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Posted {
    /// As the client calls it.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// What is kept of an upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// As clients ask for it: the namespace, a dot, and a number.
    pub(super) key: String,
    /// Unix seconds.
    pub(super) created: i64,
    pub(super) variables: Variables,
    pub(super) data_file: String,
    pub(super) status: Status,
    /// The newest time that went to the sinks, by metric: what is uploaded again later is known by it.
    #[serde(default)]
    pub(super) newest: BTreeMap<String, i64>,
}

/// A directory of uploads.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

/// How long it is known what became of an upload.
const KEPT: i64 = 30 * 24 * 3_600;

const RECORD: &str = "json";
const DATA: &str = "data";
/// A file that is not whole yet.
const NEW: &str = "new";
const PREFIX: &str = "upload.";

impl Store {
    /// Uses a directory, and makes it if need be.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let store = Self { directory };
        store.tidy()?;
        Ok(store)
    }

    /// Removes what an end in the middle of an [`add`](Self::add) has left: nobody was told that it was taken.
    fn tidy(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let ours = path.file_name().and_then(|name| name.to_str());
            let ours = ours.is_some_and(|name| name.starts_with(PREFIX));
            let extension = path.extension().and_then(|extension| extension.to_str());
            let left = match extension {
                Some(NEW) => true,
                Some(DATA) => !path.with_extension(RECORD).try_exists()?,
                _ => false,
            };
            if ours && left {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// How many have work left, those that are being added among them.
    pub(super) fn waiting(&self) -> io::Result<usize> {
        let mut waiting = 0;
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            waiting += usize::from(path.extension().is_some_and(|extension| extension == DATA));
        }
        Ok(waiting)
    }

    /// Makes a key one's own; false if an upload has it already.
    pub(super) fn reserve(&self, key: &str) -> io::Result<bool> {
        if self.path(key, RECORD).try_exists()? {
            return Ok(false);
        }
        match File::create_new(self.path(key, DATA)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Keeps a new upload under a key that is [reserved](Self::reserve); on success it survives the machine's end.
    pub(super) fn add(&self, record: &Record, data: &[u8]) -> io::Result<()> {
        let add = || {
            write(&self.path(&record.key, DATA), data)?;
            self.update(record)?;
            File::open(&self.directory)?.sync_all()
        };
        add().inspect_err(|_| {
            // A disk that is full is not to stay so, and nobody is told that it was taken.
            for extension in [NEW, RECORD, DATA] {
                let _ = fs::remove_file(self.path(&record.key, extension));
            }
        })
    }

    /// Keeps what has changed.
    pub(super) fn update(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec(record)?;
        write(&self.path(&record.key, RECORD), &text)
    }

    /// What is known of an upload; `None` if there is none of that key.
    pub(super) fn read(&self, key: &str) -> io::Result<Option<Record>> {
        match fs::read(self.path(key, RECORD)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn data(&self, key: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(key, DATA))
    }

    /// The data of an upload that is done with is not needed any more.
    pub(super) fn remove_data(&self, key: &str) -> io::Result<()> {
        match fs::remove_file(self.path(key, DATA)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Those with work left, the oldest first, and the newest times of metrics that were uploaded. What is long done is removed on the way, and a
    /// record that cannot be read is passed over.
    pub(super) fn read_all(&self, now: i64) -> io::Result<(Vec<Record>, BTreeMap<String, i64>)> {
        let (mut pending, mut newest) = (Vec::new(), BTreeMap::new());
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != RECORD) {
                continue;
            }
            let record = fs::read(&path).map(|text| serde_json::from_slice::<Record>(&text));
            if let Ok(Ok(record)) = &record {
                for (metric, time) in &record.newest {
                    let known = newest.entry(metric.clone()).or_insert(*time);
                    *known = (*known).max(*time);
                }
            }
            match record {
                Ok(Ok(record)) if record.status.is_pending() => pending.push(record),
                Ok(Ok(record)) if record.created < now - KEPT => {
                    self.remove_data(&record.key)?;
                    fs::remove_file(&path)?;
                }
                // The end may have come between its last word and this.
                Ok(Ok(record)) => self.remove_data(&record.key)?,
                Ok(Err(error)) => {
                    tracing::warn!(path = %path.display(), %error, "an upload's record cannot be read");
                }
                Err(error) => return Err(error),
            }
        }
        pending.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
        Ok((pending, newest))
    }

    /// A key is a name and a number, and yet what comes from a client shall not lead anywhere.
    fn path(&self, key: &str, extension: &str) -> PathBuf {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name: String = key
            .chars()
            .take(220)
            .map(|c| if plain(c) { c } else { '~' })
            .collect();
        self.directory.join(format!("{PREFIX}{name}.{extension}"))
    }
}

/// Writes a file so that it is there whole or as it was.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension(NEW);
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}
