//! A file that whole blocks are appended to, and that may be rotated away between two of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::sink::happened::{FileReopened, Label};

/// The open file. All calls block; errors name the path.
#[derive(Debug)]
pub(super) struct Appender {
    path: PathBuf,
    sink: Label,
    /// `None` after an error: the next block opens it anew.
    file: Option<File>,
}

impl Appender {
    /// Opens the file, creating it if it is not there.
    pub(super) fn open(path: PathBuf, sink: Label) -> io::Result<Self> {
        let file = open(&path).map_err(|error| named(&path, "cannot open", &error))?;
        Ok(Self {
            path,
            sink,
            file: Some(file),
        })
    }

    /// Appends a block in one go. After an error nothing of it is in the file, unless something else appended meanwhile.
    pub(super) fn append(&mut self, block: &[u8]) -> io::Result<()> {
        if block.is_empty() {
            return Ok(());
        }
        let file = self
            .current()
            .map_err(|error| named(&self.path, "cannot open", &error))?;
        write_block(&file, block).map_err(|error| named(&self.path, "cannot write", &error))?;
        self.file = Some(file);
        Ok(())
    }

    /// The file that the path means now.
    fn current(&mut self) -> io::Result<File> {
        if let Some(file) = self.file.take() {
            if same_file(&file, &self.path) {
                return Ok(file);
            }
            FileReopened {
                sink: &self.sink,
                path: &self.path,
            }
            .emit();
        }
        open(&self.path)
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A named pipe without a reader is then an error instead of a wait without end.
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    Ok(file)
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(now)) => (open.dev(), open.ino()) == (now.dev(), now.ino()),
        _ => false,
    }
}

fn write_block(file: &File, block: &[u8]) -> io::Result<()> {
    let start = file
        .metadata()
        .ok()
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len());
    let mut rest = block;
    while !rest.is_empty() {
        let mut writer = file;
        let error = match writer.write(rest) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(count) => {
                rest = rest.get(count..).unwrap_or_default();
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        if let Some(start) = start {
            cut_back(file, start, block.len() - rest.len());
        }
        return Err(error);
    }
    Ok(())
}

/// Takes the first part of a block that did not fit out of the file again, if nothing else came after it.
fn cut_back(file: &File, start: u64, written: usize) {
    let length = file.metadata().map(|metadata| metadata.len());
    if written > 0 && length.is_ok_and(|length| length == start + written as u64) {
        // Where this fails too, the retry repeats some lines; the error that led here is the one to report.
        let _ = file.set_len(start);
    }
}

fn named(path: &Path, what: &str, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("{what} `{}`: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Label {
        Label {
            name: "file".into(),
            kind: "localfile".into(),
        }
    }

    #[test]
    fn a_failed_blocks_first_part_is_cut_off_unless_others_wrote_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("points");
        let file = open(&path).unwrap();
        write_block(&file, b"whole\n").unwrap();
        (&file).write_all(b"hal").unwrap();
        cut_back(&file, 6, 3);
        assert_eq!(fs::read(&path).unwrap(), b"whole\n");

        (&file).write_all(b"hal").unwrap();
        open(&path).unwrap().write_all(b"other\n").unwrap();
        cut_back(&file, 6, 3);
        assert_eq!(fs::read(&path).unwrap(), b"whole\nhalother\n");
    }

    #[test]
    fn a_file_that_was_renamed_or_removed_is_opened_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("points");
        let rotated = directory.path().join("points.1");
        let mut appender = Appender::open(path.clone(), label()).unwrap();
        appender.append(b"a\n").unwrap();
        fs::rename(&path, &rotated).unwrap();
        appender.append(b"b\n").unwrap();
        assert_eq!(fs::read(&rotated).unwrap(), b"a\n");
        assert_eq!(fs::read(&path).unwrap(), b"b\n");
        fs::remove_file(&path).unwrap();
        appender.append(b"c\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"c\n");
    }

    #[test]
    fn a_file_that_was_truncated_is_continued_at_its_new_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("points");
        let mut appender = Appender::open(path.clone(), label()).unwrap();
        appender.append(b"a\n").unwrap();
        File::create(&path).unwrap();
        appender.append(b"b\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"b\n");
    }

    #[test]
    fn a_full_device_is_an_error_with_the_path() {
        let mut appender = Appender::open("/dev/full".into(), label()).unwrap();
        let error = appender.append(b"a\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(
            error
                .to_string()
                .starts_with("cannot write `/dev/full`: No space left"),
            "{error}"
        );
    }

    #[test]
    fn a_pipe_without_a_reader_is_an_error_and_no_wait() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Appender::open(path, label()).is_err());
    }
}
