//! The file of a Unix socket: taken over from a dead process, never from a live one, and removed at the end.
//!
//! Two guards. Programs of our kind hold a lock on `<path>.lock` for as long as they listen (Veneur has the same). And a socket that still
//! answers belongs to somebody, lock or not.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// A path that is ours to bind, until this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// The lock file stays behind: removing it would let two processes lock two files of one name.
    _lock: Flock<File>,
}

impl SocketFile {
    /// Locks the path and removes a socket that nobody listens on any more.
    ///
    /// # Errors
    /// `AddrInUse` when somebody listens there, `AlreadyExists` when something other than a socket stands there.
    pub(super) fn claim(path: &Path) -> io::Result<Self> {
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&lock_path)?;
        let lock =
            Flock::lock(lock_file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
                match error {
                    nix::Error::EWOULDBLOCK => in_use("another process holds its lock file"),
                    other => other.into(),
                }
            })?;
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => remove_dead(path)?,
            Ok(_) => {
                let message = "there is a file of another kind at this path";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Lets every user of the host send; call it once the socket is bound.
    pub(super) fn open_to_all(&self) -> io::Result<()> {
        std::fs::set_permissions(&self.path, Permissions::from_mode(0o666))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already, and nobody is left to tell.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn remove_dead(path: &Path) -> io::Result<()> {
    // A socket of any type tells whether somebody is there: a live one of another type refuses the type, not the connection.
    match UnixDatagram::unbound()?.connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Ok(()) | Err(_) => Err(in_use("another process listens there")),
    }
}

fn in_use(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, message)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_dead_socket_is_replaced_and_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let file = SocketFile::claim(&path).unwrap();
        let _socket = UnixDatagram::bind(&path).unwrap();
        file.open_to_all().unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_of_either_type_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let stream = dir.path().join("stream");
        let _listener = UnixListener::bind(&stream).unwrap();
        let datagram = dir.path().join("datagram");
        let _socket = UnixDatagram::bind(&datagram).unwrap();
        for path in [stream, datagram] {
            let error = SocketFile::claim(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            assert!(path.exists());
        }
    }

    #[test]
    fn a_path_is_claimed_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = SocketFile::claim(&path).unwrap();
        let error = SocketFile::claim(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        SocketFile::claim(&path).unwrap();
    }

    #[test]
    fn a_file_of_another_kind_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        std::fs::write(&path, "mine").unwrap();
        let error = SocketFile::claim(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
