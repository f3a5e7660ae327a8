//! A failed command: what failed, why, and what to do next.

use std::{fmt, io, net::SocketAddr};

use serde::Serialize;

use crate::store::StoreError;

/// Shown to the person who typed the command.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// What did not succeed.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub next: String,
}

impl Failure {
    pub(super) fn new(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), next: next.into() }
    }

    /// The database did not do what it should. The error's text says what to do.
    pub(super) fn store(what: &str) -> impl Fn(StoreError) -> Self {
        move |error| {
            let text = error.to_string();
            let (why, next) = text.split_once(": ").unwrap_or((text.as_str(), "look at the disk"));
            Self::new(what, why, next)
        }
    }

    /// A port could not be opened.
    pub(super) fn bind(protocol: &str, address: SocketAddr, flag: &str, error: &io::Error) -> Self {
        let what = format!("cannot listen on {protocol} {address}");
        let other = format!("choose another port with {flag}");
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                Self::new(what, "another program uses this port", format!("stop it, or {other}"))
            }
            io::ErrorKind::PermissionDenied => Self::new(
                what,
                "ports under 1024 need the right CAP_NET_BIND_SERVICE",
                format!("run it as a service or as root, or {other}"),
            ),
            io::ErrorKind::AddrNotAvailable => Self::new(
                what,
                "this host has no such address",
                format!("give one that it has, or [::] for all, with {flag}"),
            ),
            _ => Self::new(what, "the system refuses it", other),
        }
    }
}

/// One line for what and why, one for what to do.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  {}", self.what, self.why, self.next)
    }
}

impl std::error::Error for Failure {}
