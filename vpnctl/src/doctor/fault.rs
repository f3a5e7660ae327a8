//! What can be wrong, and what is worth knowing.

use proto::api::{ErrorCode, NetworkState, Warning};
use serde::Serialize;

/// What is wrong, by its word in the JSON document. What `status` warns of has the same word there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// vpnd does not run.
    NotRunning,
    /// This user may not ask it.
    NotPermitted,
    /// This machine is in no network.
    NoNetwork,
    /// This machine has no way out at all.
    Offline,
    /// Nothing answers, the coordinator and the relays alike.
    NothingAnswers,
    /// No server's name can be resolved.
    NamesUnknown,
    /// The resolver does not answer, whatever the name.
    ResolverSilent,
    /// Servers are there, for they answer over UDP, and TCP to them does not get through.
    TcpBlocked,
    /// A login page stands before everything.
    CaptivePortal,
    /// Large packets get lost on the way to the servers.
    LargePacketsLost,
    /// Connections to the coordinator are refused.
    CoordinatorDown,
    /// The coordinator's host says nothing.
    CoordinatorSilent,
    /// The relays' hosts are there, or not; no relay is.
    RelaysSilent,
    /// One of several relays does not answer.
    OneRelaySilent,
    /// Another route has the addresses of the network.
    RouteTaken,
    /// The network's addresses were taken off the interface.
    AddressMissing,
    /// IPv6 is switched off on this machine or its interface.
    Ipv6Off,
    /// This machine's firewall keeps packets from the tunnel.
    FirewallOut,
    /// This machine's firewall drops what came through the tunnel.
    FirewallIn,
    /// Another machine's firewall drops what comes through the tunnel.
    FirewallThere,
    /// Another machine does not answer.
    MachineSilent,
    /// UDP does not pass.
    UdpBlocked,
    /// UDP passes, and no relay answers STUN.
    StunSilent,
    /// The NAT is a strict one.
    HardNat,
    /// A machine is reached by relay alone.
    RelayOnly,
    /// No signer has taken a machine in.
    Provisional,
    /// What a state says.
    #[serde(untagged)]
    State(NetworkState),
    /// What a warning says.
    #[serde(untagged)]
    Warned(Warning),
}

/// One finding's meaning.
#[derive(Serialize)]
pub(crate) struct Verdict {
    /// What it is.
    pub(crate) fault: Fault,
    /// In which network, if in one.
    pub(crate) network: Option<String>,
    /// At which other machine, if at one.
    pub(crate) machine: Option<String>,
    /// For a person: what is wrong.
    pub(crate) what: String,
    /// For a person: what to do.
    pub(crate) next: String,
    /// Whether everything works all the same.
    #[serde(skip)]
    pub(crate) note: bool,
}

impl Verdict {
    /// Something that is wrong.
    pub(crate) fn fault(fault: Fault, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { fault, network: None, machine: None, what: what.into(), next: next.into(), note: false }
    }

    /// Something worth knowing.
    pub(crate) fn note(fault: Fault, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { note: true, ..Self::fault(fault, what, next) }
    }

    /// The same in this network.
    pub(crate) fn of(self, network: &str) -> Self {
        Self { network: Some(network.to_owned()), ..self }
    }

    /// The same at this machine.
    pub(crate) fn at(self, machine: &str) -> Self {
        Self { machine: Some(machine.to_owned()), ..self }
    }

    /// The exit code that goes with it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.fault {
            Fault::NotRunning => ErrorCode::NotRunning.exit_code(),
            Fault::NotPermitted => ErrorCode::NotPermitted.exit_code(),
            _ => 1,
        }
    }
}
