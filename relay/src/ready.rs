//! Tells whoever started a server that it is ready, from behind its walls.
//!
//! systemd names a socket in the environment (`sd_notify(3)`). It is connected to while sockets can be made, and the
//! word is sent when the walls stand, so that nobody sees a server ready before it is locked down.

use std::{
    env,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// The connected socket; nothing, where nobody asked to be told.
pub struct Ready(Option<UnixDatagram>);

impl Ready {
    /// Connects to the socket that the environment names.
    #[must_use]
    pub fn prepare() -> Self {
        Self(connect())
    }

    /// Says it, and closes the socket.
    pub fn say(self) {
        // Without systemd there is nobody to tell.
        let _ = self.0.map(|socket| socket.send(b"READY=1"));
    }
}

fn connect() -> Option<UnixDatagram> {
    let name = env::var_os("NOTIFY_SOCKET")?;
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect_addr(&address.ok()?).ok()?;
    Some(socket)
}
