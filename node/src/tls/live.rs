//! A configuration that follows its files.
//!
//! The files are read every [`LOOK`] and compared byte by byte: times and sizes of files say too little where a volume is swapped by a symbolic link.
//! What has changed is taken over once two readings in a row agree, so that a certificate and its key which are written one after the other are
//! taken together.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

use super::TlsError;
use super::certificate::Facts;
use super::event::{CertificateAge, ReloadFailed, Reloaded};
use super::material::{Contents, Made, Material};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long before its end a certificate is warned about; sooner for one that lives shortly: then its last third counts.
const SOON: i64 = 7 * 24 * 3600;

/// Looks between two warnings: six hours.
const BETWEEN_WARNINGS: u32 = 6 * 3600;

/// The configuration in force. Its files are followed until it is dropped.
pub(super) struct Live<C> {
    current: ArcSwap<Made<C>>,
}

/// What follows the files.
struct Follower<M: Material> {
    material: Arc<M>,
    hop: &'static str,
    /// What was last taken over, or refused.
    judged: Result<Contents, TlsError>,
    /// What was last read.
    read: Result<Contents, TlsError>,
    /// Looks until a warning may be told again.
    quiet: u32,
}

impl<C: Send + Sync + 'static> Live<C> {
    /// Reads the files and follows them from here on. Must be called within a tokio runtime.
    pub(super) fn start<M>(material: M, hop: &'static str) -> Result<Arc<Self>, TlsError>
    where
        M: Material<Config = C>,
    {
        let contents = material.read()?;
        let made = material.make(&contents)?;
        let live = Arc::new(Self {
            current: ArcSwap::from_pointee(made),
        });
        let follower = Follower {
            material: Arc::new(material),
            hop,
            judged: Ok(contents.clone()),
            read: Ok(contents),
            quiet: 0,
        };
        tokio::spawn(follower.follow(Arc::downgrade(&live)));
        Ok(live)
    }

    /// What the next connection uses.
    pub(super) fn config(&self) -> Arc<C> {
        Arc::clone(&self.current.load().config)
    }
}

impl<M: Material> Follower<M> {
    async fn follow(mut self, followed: Weak<Live<M::Config>>) {
        loop {
            match followed.upgrade() {
                Some(live) => self.tell_age(live.current.load().own.as_ref()),
                None => return,
            }
            tokio::time::sleep(LOOK).await;
            let Some(changed) = self.changed().await else {
                continue;
            };
            let Some(live) = followed.upgrade() else {
                return;
            };
            match changed {
                Ok(made) => {
                    let certificate = made.own.as_ref();
                    let hop = self.hop;
                    Reloaded { hop, certificate }.emit();
                    live.current.store(Arc::new(made));
                    self.quiet = 0;
                }
                Err(error) => {
                    let (hop, error) = (self.hop, &error);
                    ReloadFailed { hop, error }.emit();
                }
            }
        }
    }

    /// What became of files that have changed, if they have and seem to be complete.
    async fn changed(&mut self) -> Option<Result<Made<M::Config>, TlsError>> {
        let material = Arc::clone(&self.material);
        // A file system may hang.
        let now = tokio::task::spawn_blocking(move || material.read())
            .await
            .ok()?;
        let settled = now == self.read;
        self.read = now;
        if !settled || self.read == self.judged {
            return None;
        }
        self.judged = self.read.clone();
        Some(match &self.judged {
            Ok(contents) => self.material.make(contents),
            Err(error) => Err(error.clone()),
        })
    }

    fn tell_age(&mut self, own: Option<&Facts>) {
        let Some(certificate) = own else { return };
        let left = certificate.not_after - unix_seconds();
        let lives = certificate.not_after - certificate.not_before;
        let warn = left < SOON.min(lives / 3) && self.quiet == 0;
        self.quiet = match warn {
            true => BETWEEN_WARNINGS,
            false => self.quiet.saturating_sub(1),
        };
        let file = self.material.certificate().to_string();
        CertificateAge {
            hop: self.hop,
            file: &file,
            certificate,
            left,
            warn,
        }
        .emit();
    }
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

impl<C> std::fmt::Debug for Live<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let own = &self.current.load().own;
        f.debug_struct("Live")
            .field("own", own)
            .finish_non_exhaustive()
    }
}
