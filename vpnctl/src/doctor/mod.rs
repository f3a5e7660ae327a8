//! `doctor`: from what is seen to what is wrong, and what to do about it.
//!
//! | file | what is in it |
//! |---|---|
//! | [`mod@look`] | what vpnctl sees for itself: routes, addresses, whether packets pass through the tunnel |
//! | [`mod@judge`] | what it means, in the order of cause: a function of nothing but the findings |
//! | [`fault`] | the faults and notes, by their words |
//!
//! vpnd says how its networks are (`status`) and what the network around allows (`netcheck`); what the kernel does with
//! the tunnel's packets is tried from here, as any program would.

mod fault;
mod judge;
mod look;
#[cfg(test)]
mod tests;

use proto::api::{Netcheck, NetworkStatus};

pub(crate) use fault::{Fault, Verdict};
pub(crate) use judge::judge;
pub(crate) use look::{Carried, Echo, Looked, Tunnel, carried, look};

/// All that is judged.
pub(crate) struct Findings {
    /// How vpnd's networks are.
    pub(crate) networks: Vec<NetworkStatus>,
    /// What the network around allows.
    pub(crate) around: Netcheck,
    /// The networks that are up, as seen from here.
    pub(crate) tunnels: Vec<Tunnel>,
    /// Whether this user's programs are told to use a proxy.
    pub(crate) proxy_usual: bool,
    /// Whether one machine was asked about.
    pub(crate) one_machine: bool,
}
