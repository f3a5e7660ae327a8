//! What vpnd answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{ApiError, Netcheck, Secret};
use crate::inventory::Record;

/// One line from vpnd. The last line of a connection is [`Reply::Ok`] or [`Reply::Error`].
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// What a longer command does now.
    Progress(Progress),
    /// A result on the way.
    Event(Event),
    /// Done.
    Ok(Answer),
    /// Not done.
    Error(ApiError),
}

/// What a longer command does now.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Reaching the coordinator.
    Contacting,
    /// Turning the password into keys (slow on purpose).
    Password,
    /// Checking the network's signatures.
    Checking,
    /// Making this machine's keys.
    Keys,
    /// Handing the change to the coordinator.
    Publishing,
    /// Bringing the interface up.
    Starting,
    /// Asking coordinators, relays and the router what the network allows.
    Measuring,
    /// A step that this build does not know.
    #[serde(other)]
    Other,
}

/// A result on the way.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A probe came back.
    Pong {
        /// Counts probes from 1.
        seq: u32,
        /// Round trip in milliseconds.
        rtt_ms: f64,
        /// Which way it went; never [`Path::Idle`].
        path: Path,
        /// The peer's underlay address if the path is direct.
        #[serde(default)]
        endpoint: Option<SocketAddr>,
    },
    /// A probe did not come back in time.
    Lost {
        /// Counts probes from 1.
        seq: u32,
    },
}

/// The result of a command.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done, and there is nothing to tell.
    Done {},
    /// Of `account create` and `account login`.
    Account(Account),
    /// Of `network create`.
    NetworkCreated(NetworkCreated),
    /// Of `network list`, `up` and `down`.
    Networks(Vec<NetworkSummary>),
    /// Of `invite create`.
    InviteCreated(InviteCreated),
    /// Of `invite list`.
    Invites(Vec<Invite>),
    /// Of `invite revoke`.
    Revoked(Revoked),
    /// Of `join`.
    Joined(Joined),
    /// Of `leave`.
    Left(Left),
    /// Of `machines list`.
    Machines(Vec<Machine>),
    /// Of `machines remove`.
    MachineRemoved(MachineRemoved),
    /// Of `relay list`.
    Relays(Vec<Relay>),
    /// Of the first half of `recover`.
    Recovery(Recovery),
    /// Of `recover`.
    Recovered(Recovered),
    /// Of `ip`.
    Machine(Machine),
    /// Of `status`.
    Status(Status),
    /// Of `netcheck`.
    Netcheck(Netcheck),
    /// Of `privacy inventory`.
    Record(Record),
}

/// A session at a coordinator.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct Account {
    /// The account's name.
    pub name: String,
    /// The coordinator's URL.
    pub coordinator: String,
}

/// A network was made.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct NetworkCreated {
    /// Its name on this machine.
    pub network: String,
    /// The name that its signers know it by, if another; left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roster_name: Option<String>,
    /// This machine's name in it.
    pub machine: String,
    /// This machine's IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// This machine's IPv6 address.
    pub ipv6: Ipv6Addr,
    /// The recovery key. vpnd has erased it: this is its only copy.
    pub recovery_key: Secret,
}

/// One network in a list.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct NetworkSummary {
    /// Its name on this machine.
    pub name: String,
    /// The name that its signers know it by, if another; left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roster_name: Option<String>,
    /// How it is.
    pub state: NetworkState,
    /// This machine's name in it.
    pub machine: String,
    /// How many machines are in it, this one included.
    pub machines: u32,
    /// Its coordinator's URL.
    pub coordinator: String,
    /// What keeps it from being read, if it is [`NetworkState::Damaged`]; left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
}

/// What keeps a network from being read.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Damage {
    /// What is wrong, with the file or folder.
    pub why: String,
    /// What to do about it.
    pub next: String,
}

/// An invite was made.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct InviteCreated {
    /// Whoever has this may join.
    pub token: Secret,
    /// The rest, as in the list.
    #[serde(flatten)]
    pub invite: Invite,
}

/// A live invite.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct Invite {
    /// Its opaque id, hexadecimal.
    pub id: String,
    /// The name that the joining machine gets, if the invite sets one.
    #[serde(default)]
    pub name: Option<String>,
    /// How many machines may still join by it.
    pub uses: u32,
    /// When it ends, in unix seconds.
    pub expires: u64,
    /// The groups of whoever joins by it.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// This machine joined a network.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct Joined {
    /// The network's name on this machine.
    pub network: String,
    /// The name that its signers know it by, if another; left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roster_name: Option<String>,
    /// This machine's name in it.
    pub machine: String,
    /// This machine's IPv4 address; `None` until a signer takes a multi-use invite's machine in.
    #[serde(default)]
    pub ipv4: Option<Ipv4Addr>,
    /// This machine's IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Whether a signer has yet to take the machine into the roster.
    pub provisional: bool,
    /// The name that it was to get, if another machine has it; left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
}

/// An invite was revoked.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct Revoked {
    /// Its id.
    pub id: String,
    /// How many machines that had joined by it were taken into the roster with the same change.
    pub taken_in: u32,
    /// How many machines that had joined by it, as far as this machine knew, lost their provisional membership.
    pub dropped: u32,
}

/// This machine left a network.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct Left {
    /// The network's name.
    pub network: String,
    /// This machine's name in it.
    pub machine: String,
    /// Whether the roster still lists it: a signer has to remove it.
    pub listed: bool,
}

/// A machine was removed.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct MachineRemoved {
    /// Its name.
    pub name: String,
    /// How many live invites ended with it: the one that it joined by and those that it made.
    pub invites: u32,
}

/// A machine of the network.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its IPv4 address.
    #[serde(default)]
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Its groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Whether it may change the network.
    pub signer: bool,
    /// Whether a signer has yet to take it into the roster.
    pub provisional: bool,
    /// Whether it is the machine that answers.
    pub this: bool,
}

/// A relay of a network, or one that its coordinator offers.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct Relay {
    /// Its URL.
    pub url: String,
    /// Whether the network uses it.
    pub used: bool,
    /// Whether the coordinator offers it; `None` if the coordinator could not be asked.
    pub offered: Option<bool>,
}

/// Which roster a recovery goes on from.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum RecoverFrom {
    /// The newest one, which the coordinator has.
    Newest,
    /// The last one that this machine accepted.
    Own,
}

/// What a recovery key could recover from.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct Recovery {
    /// The network's name.
    pub network: String,
    /// The coordinator's roster; `None` if it has none that was signed as it must be and that the key opens.
    pub newest: Option<RecoveryRoster>,
    /// This machine's last roster; `None` if it was not in the network.
    pub own: Option<RecoveryRoster>,
}

/// One roster that a network can be recovered from.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct RecoveryRoster {
    /// How often the network was recovered before.
    pub recovery: u64,
    /// The signers' generation.
    pub generation: u64,
    /// The roster's version under that generation.
    pub version: u64,
    /// Its machines.
    pub machines: Vec<Machine>,
}

/// A network was recovered.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct Recovered {
    /// Its name on this machine.
    pub network: String,
    /// This machine's name in it; it is the only signer.
    pub machine: String,
    /// This machine's IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// This machine's IPv6 address.
    pub ipv6: Ipv6Addr,
    /// The machines that were not kept.
    pub removed: Vec<String>,
}

/// The live state of the networks this machine is in.
#[derive(Serialize, Deserialize, PartialEq)]
pub struct Status {
    /// One per network, ordered by name.
    pub networks: Vec<NetworkStatus>,
}

/// The live state of one network.
#[derive(Serialize, Deserialize, PartialEq)]
pub struct NetworkStatus {
    /// Its name on this machine.
    pub name: String,
    /// The name that its signers know it by, if another; left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roster_name: Option<String>,
    /// How it is.
    pub state: NetworkState,
    /// The signers' generation.
    pub generation: u64,
    /// The roster's version under that generation.
    pub version: u64,
    /// The epoch's number.
    pub epoch: u64,
    /// This machine.
    pub machine: Own,
    /// All other machines, ordered by name.
    pub peers: Vec<Peer>,
    /// What the user should know; left out when there is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// What keeps it from being read, if it is [`NetworkState::Damaged`]; left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
}

/// How a network is.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum NetworkState {
    /// Up.
    Up,
    /// Down, as told.
    Down,
    /// To be up, and not yet: vpnd is working on it.
    Pending,
    /// Up, with a roster past its not-after.
    Stale,
    /// Two successors of one generation were seen.
    Forked,
    /// This machine was removed.
    Removed,
    /// What is stored of it cannot be read. Nothing else is known of it then.
    Damaged,
}

/// This machine in one network.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct Own {
    /// Its name.
    pub name: String,
    /// Its IPv4 address, once it has one.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Whether it may change the network.
    pub signer: bool,
}

/// Another machine, as the data path sees it now.
#[derive(Serialize, Deserialize, PartialEq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its IPv4 address, once it has one.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Which way its data goes.
    pub path: Path,
    /// Something is sent to it, and nothing was heard of it for seconds: it is off, asleep or cut off. There is no path then.
    pub silent: bool,
    /// Its underlay address if the path is direct.
    pub endpoint: Option<SocketAddr>,
    /// The path's round trip in milliseconds, if it was measured.
    pub rtt_ms: Option<f64>,
    /// The greatest inner packet that the path carries, in bytes.
    pub mtu: u16,
    /// Inner bytes received from it since vpnd's data path started.
    pub rx_bytes: u64,
    /// Inner bytes sent to it since vpnd's data path started.
    pub tx_bytes: u64,
}

impl Peer {
    /// Whether a person calls it that: by its name, or by an address that it has in the network.
    #[must_use]
    pub fn is_called(&self, what: &str) -> bool {
        is_called(&self.name, self.ipv4, self.ipv6, what)
    }
}

/// Whether a machine of this name and with these addresses is what a person calls `what`: no name is an address, too.
#[must_use]
pub fn is_called(name: &str, ipv4: Option<Ipv4Addr>, ipv6: Ipv6Addr, what: &str) -> bool {
    let is_own = |ip: IpAddr| ip == IpAddr::V6(ipv6) || ipv4.is_some_and(|own| ip == IpAddr::V4(own));
    name == what || what.parse().is_ok_and(is_own)
}

/// Which way a peer's data goes.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// From machine to machine.
    Direct,
    /// Through a relay.
    Relay,
    /// There is none: nothing was sent for a while, or nothing comes back.
    Idle,
}

/// What the user should know about a network.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// The coordinator cannot be reached. Tunnels go on; changes wait.
    CoordinatorUnreachable,
    /// It does not know this network, as after the loss of its database.
    NetworkUnknown,
    /// It refuses what this machine wants to change: to take in who joined, or the monthly renewal.
    ChangeRefused,
    /// No relay can be reached.
    RelayUnreachable,
    /// The proxy that is set cannot be reached.
    ProxyUnreachable,
    /// What answers at the proxy's address is no HTTP proxy.
    NotAProxy,
    /// The proxy wants a login that it is not given.
    ProxyLogin,
    /// The proxy does not let this machine connect.
    ProxyRefuses,
    /// The coordinator does not hold the pinned key.
    WrongPin,
    /// The coordinator shows what no signer signed, or insists on an older roster than the one here: it is not believed.
    CoordinatorUntrusted,
    /// The clock is off by a day or more.
    ClockWrong,
    /// More machines used an invite than it allows; none of them is accepted until a signer decides.
    InviteOverused,
    /// The data path does not run; vpnd is starting it.
    DataPathDown,
    /// The interface could not be made, for another reason than the three below.
    InterfaceFailed,
    /// There is no interface: another program has the UDP port that vpnd is told to use.
    PortTaken,
    /// There is no interface: another one has the name that vpnd is told to use.
    InterfaceNameTaken,
    /// vpnd may not make network interfaces.
    InterfaceForbidden,
    /// There is no interface: this system has no `/dev/net/tun`.
    NoTun,
    /// Somebody switched the interface off.
    InterfaceDown,
    /// The state directory cannot be written: full, or read-only.
    StateNotWritable,
    /// Another machine had the name that this one was to get, and a signer gave it another.
    Renamed,
    /// One that this build does not know.
    #[serde(other)]
    Other,
}
