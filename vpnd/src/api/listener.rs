//! The socket: made with the right owner and mode, taken away at the end.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt, chown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::Semaphore;

use super::{Access, Serve, connection};

/// Commands at once; more than a person or a script needs, few enough to bound memory.
const MAX_CONNECTIONS: usize = 64;

/// Why the local API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// A daemon answers on the socket.
    #[error("another vpnd serves this socket: stop it, or choose another one with --socket")]
    InUse,
    /// The socket cannot be made.
    #[error("the socket of the local API cannot be made ({0}): check --socket, and run vpnd as root")]
    Unusable(io::ErrorKind),
}

/// The bound socket. It is removed when this is dropped.
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    access: Access,
}

impl Listener {
    /// Binds the socket, 0660 and owned by the group that `access` names. A socket that nobody serves any more is
    /// replaced.
    ///
    /// # Errors
    /// [`ListenerError`].
    pub fn bind(path: &Path, access: Access) -> Result<Self, ListenerError> {
        let unusable = |e: io::Error| ListenerError::Unusable(e.kind());
        if let Some(folder) =
            path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        {
            DirBuilder::new().mode(0o750).create(folder).map_err(unusable)?;
            give(folder, access).map_err(unusable)?;
        }
        match UnixStream::connect(path) {
            Ok(_) => return Err(ListenerError::InUse),
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(unusable)?;
            }
            Err(_) => {}
        }
        let socket = UnixListener::bind(path).map_err(unusable)?;
        let listener = Self { socket, path: path.to_owned(), access };
        listener.socket.set_nonblocking(true).map_err(unusable)?;
        give(path, access).map_err(unusable)?;
        fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(unusable)?;
        Ok(listener)
    }

    /// Serves callers until dropped.
    ///
    /// # Errors
    /// If the runtime cannot wait for them.
    pub async fn serve<S: Serve>(&self, server: Arc<S>) -> io::Result<()> {
        let socket = tokio::net::UnixListener::from_std(self.socket.try_clone()?)?;
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
            // An accept fails when the caller is gone already, or descriptors ran out: wait rather than spin.
            let Ok((stream, _)) = socket.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let permitted = stream.peer_cred().is_ok_and(|caller| self.access.permits(&caller));
            let server = server.clone();
            tokio::spawn(async move {
                connection::answer(stream, permitted, server).await;
                drop(place);
                // What was asked and answered, endpoints among it.
                tokio::spawn(async { sandbox::wipe::stack() });
            });
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Gives a path to the group that may call, where there is one.
fn give(path: &Path, access: Access) -> io::Result<()> {
    access.group().map_or(Ok(()), |group| chown(path, None, Some(group.as_raw())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_for_its_owner_and_group_and_goes_with_the_daemon() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("run/vpnd.sock");
        let listener = Listener::bind(&path, Access::of_this_host()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_served_socket_is_refused_and_an_abandoned_one_replaced() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("vpnd.sock");
        let served = UnixListener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path, Access::of_this_host()), Err(ListenerError::InUse)));
        drop(served);
        assert!(path.exists());
        assert!(Listener::bind(&path, Access::of_this_host()).is_ok());
    }
}
