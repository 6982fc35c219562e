//! `--watch`: what SIGHUP does, done whenever the settings' file has another content.
//!
//! The file is read each second and compared byte by byte, because a volume that Kubernetes switches by a symbolic link says nothing by times and sizes.
//! A change counts once two readings in a row agree, so that a file which is being written over is not taken half.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A file's bytes, or none where it cannot be read.
type Content = Option<Vec<u8>>;

/// The file that is followed.
#[derive(Debug)]
pub(crate) struct Followed {
    path: PathBuf,
    /// What was last told of, or read at the start.
    told: Content,
    /// What was last read.
    read: Content,
}

impl Followed {
    /// Remembers what is in the file now. Call it before the settings are read from there, so that no change falls in between.
    pub(crate) fn now(path: PathBuf) -> Self {
        let content = std::fs::read(&path).ok();
        Self {
            path,
            told: content.clone(),
            read: content,
        }
    }

    /// Counts `hang_ups` up at each change, for as long as it is polled.
    pub(crate) async fn tell(mut self, hang_ups: Arc<watch::Sender<u64>>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let path = self.path.clone();
            // A file system may hang.
            let Ok(now) = tokio::task::spawn_blocking(move || std::fs::read(path).ok()).await
            else {
                continue;
            };
            if self.changed(now) {
                tracing::info!(file = %self.path.display(), "the file of the settings has changed");
                hang_ups.send_modify(|count| *count += 1);
            }
        }
    }

    fn changed(&mut self, now: Content) -> bool {
        let settled = now == self.read;
        self.read = now;
        if !settled || self.read == self.told {
            return false;
        }
        self.told.clone_from(&self.read);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_when_two_readings_agree() {
        let content = |text: &str| Some(text.as_bytes().to_vec());
        let mut followed = Followed {
            path: PathBuf::new(),
            told: content("a"),
            read: content("a"),
        };
        for (now, changed) in [
            (content("a"), false),
            (content("b"), false),
            (content("bc"), false),
            (content("bc"), true),
            (content("bc"), false),
            // There and back again is no change.
            (content("d"), false),
            (content("bc"), false),
            (content("bc"), false),
            (None, false),
            (content("bc"), false),
            (None, false),
            // It is gone for longer: whoever reads the settings says so.
            (None, true),
            (None, false),
        ] {
            assert_eq!(followed.changed(now.clone()), changed, "{now:?}");
        }
    }

    #[tokio::test]
    async fn a_file_behind_a_link_that_is_switched_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["one", "two"] {
            std::fs::create_dir(path(name)).unwrap();
            std::fs::write(path(name).join("config.yaml"), name).unwrap();
        }
        std::os::unix::fs::symlink(path("one"), path("data")).unwrap();
        let followed = Followed::now(path("data").join("config.yaml"));
        let hang_ups = Arc::new(watch::Sender::new(0));
        let mut told = hang_ups.subscribe();
        let telling = tokio::spawn(followed.tell(hang_ups));
        std::os::unix::fs::symlink(path("two"), path("next")).unwrap();
        std::fs::rename(path("next"), path("data")).unwrap();
        let changed = tokio::time::timeout(Duration::from_secs(30), told.changed()).await;
        changed.unwrap().unwrap();
        assert_eq!(*told.borrow(), 1);
        telling.abort();
    }
}
