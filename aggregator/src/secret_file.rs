//! A secret that stands in a file.
//!
//! What is wrong is told without the file's name: the caller knows the setting that has it as well.

use std::io::{self, Read as _};
use std::path::Path;

use tokio::io::AsyncReadExt as _;
use tributary_node::config::Secret;

/// Longer than any key; a path that is a device must not fill the memory.
const LONGEST_SECRET: u64 = 64 * 1024;

/// The secret in a file, without white space around it.
pub(crate) async fn read(file: &Path) -> io::Result<Secret> {
    whole(&text(file).await?)
}

/// As [`read`], for what is made outside of a runtime.
#[cfg(feature = "kafka")]
pub(crate) fn read_blocking(file: &Path) -> io::Result<Secret> {
    whole(&text_blocking(file)?)
}

/// The secret in a file's first line, without white space around it.
pub(crate) async fn read_first_line(file: &Path) -> io::Result<Secret> {
    first_line(&text(file).await?)
}

/// As [`read_first_line`], for what is checked or made outside of a runtime.
pub(crate) fn read_first_line_blocking(file: &Path) -> io::Result<Secret> {
    first_line(&text_blocking(file)?)
}

async fn text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = tokio::fs::File::open(file).await?;
    file.take(LONGEST_SECRET).read_to_string(&mut text).await?;
    Ok(text)
}

fn text_blocking(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(file)?;
    file.take(LONGEST_SECRET).read_to_string(&mut text)?;
    Ok(text)
}

fn whole(text: &str) -> io::Result<Secret> {
    filled(text, "is empty")
}

fn first_line(text: &str) -> io::Result<Secret> {
    filled(text.lines().next().unwrap_or(""), "its first line is empty")
}

fn filled(text: &str, otherwise: &'static str) -> io::Result<Secret> {
    match text.trim() {
        "" => Err(io::Error::other(otherwise)),
        secret => Ok(Secret::new(secret)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_without_a_key_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        assert!(read(&file).await.is_err());
        assert!(read_first_line(&file).await.is_err());
        assert!(read_first_line_blocking(&file).is_err());
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(read(&file).await.unwrap_err().to_string(), "is empty");
        std::fs::write(&file, "k3y\n").unwrap();
        assert_eq!(read(&file).await.unwrap().expose(), "k3y");
        assert!(
            read(Path::new("/dev/zero"))
                .await
                .is_ok_and(|s| s.expose().len() <= 65536)
        );
    }

    #[tokio::test]
    async fn a_first_line_is_read_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, expected) in [
            (" k3y \r\nand more\n", Ok("k3y")),
            ("\nk3y\n", Err("its first line is empty")),
            ("", Err("its first line is empty")),
        ] {
            std::fs::write(file.path(), text).unwrap();
            for read in [
                read_first_line(file.path()).await,
                read_first_line_blocking(file.path()),
            ] {
                let read = read.map_err(|error| error.to_string());
                let read = read.as_ref().map(Secret::expose).map_err(String::as_str);
                assert_eq!(read, expected, "{text:?}");
            }
        }
        let device = read_first_line_blocking(Path::new("/dev/zero"));
        assert!(device.is_ok_and(|s| s.expose().len() <= 65536));
    }

    #[cfg(feature = "kafka")]
    #[tokio::test]
    async fn it_is_the_same_outside_of_a_runtime() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "\n", " k3y\nand more\n"] {
            std::fs::write(file.path(), text).unwrap();
            let outside = read_blocking(file.path()).map_err(|error| error.to_string());
            let inside = read(file.path()).await.map_err(|error| error.to_string());
            assert_eq!(outside, inside, "{text:?}");
        }
    }
}
