//! A secret that stands in a file.

use std::io;
use std::path::Path;

use tokio::io::AsyncReadExt as _;
use tributary_node::config::Secret;

/// Longer than any key; a path that is a device must not fill the memory.
const LONGEST_SECRET: u64 = 64 * 1024;

/// The secret in a file, without white space around it.
pub(crate) async fn read(file: &Path) -> io::Result<Secret> {
    let mut text = String::new();
    let file = tokio::fs::File::open(file).await?;
    file.take(LONGEST_SECRET).read_to_string(&mut text).await?;
    let secret = Secret::new(text.trim());
    if secret.is_empty() {
        return Err(io::Error::other("is empty"));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_without_a_key_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        assert!(read(&file).await.is_err());
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
}
