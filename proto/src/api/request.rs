//! What vpnctl asks.

use serde::{Deserialize, Serialize};

use super::{ApiError, ErrorCode, Password, RecoverFrom, Secret};

/// The version of the local API that this build speaks.
pub const VERSION: u32 = 1;

/// One command for vpnd.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct Request {
    /// [`VERSION`] of the client.
    pub v: u32,
    /// Which network is meant; needed only where the machine is in several.
    #[serde(default)]
    pub network: Option<String>,
    /// What to do.
    pub cmd: Command,
}

/// What to do. Written `{"NAME":{FIELDS}}`.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Registers an account with an operator's enrolment token and logs in. Answer: [`Account`](super::Account).
    AccountCreate {
        /// The account's name.
        name: String,
        /// The enrolment token; it names the coordinator and its pin.
        enrol: Secret,
        /// The account's password.
        password: Password,
    },
    /// Logs in. Answer: [`Account`](super::Account).
    AccountLogin {
        /// The account's name.
        name: String,
        /// The coordinator's URL. `None`: the one coordinator that vpnd knows.
        #[serde(default)]
        coordinator: Option<String>,
        /// The coordinator's pin as its operator gave it. `None`: the pin that vpnd remembers, else a public certificate.
        #[serde(default)]
        pin: Option<String>,
        /// The account's password.
        password: Password,
    },
    /// Ends the session. Answer: [`Answer::Done`](super::Answer::Done).
    AccountLogout {
        /// The coordinator's URL. `None`: the one coordinator with a session.
        #[serde(default)]
        coordinator: Option<String>,
    },
    /// Makes a network with this machine as its first signer and brings it up.
    /// Answer: [`NetworkCreated`](super::NetworkCreated).
    NetworkCreate {
        /// The network's name.
        name: String,
        /// This machine's name in it. `None`: the host name.
        #[serde(default)]
        machine: Option<String>,
        /// The name by which this machine alone knows the network. `None`: the network's own.
        #[serde(default)]
        alias: Option<String>,
        /// The coordinator's URL. `None`: the one coordinator with a session.
        #[serde(default)]
        coordinator: Option<String>,
    },
    /// The networks this machine is in. Answer: [`Answer::Networks`](super::Answer::Networks).
    NetworkList {},
    /// Sets the intent to be up, which survives a reboot. Without [`Request::network`] all networks are meant.
    /// Answer: [`Answer::Networks`](super::Answer::Networks), those it concerned.
    Up {},
    /// Sets the intent to be down. As [`Command::Up`].
    Down {},
    /// Adds an invite to the roster. Answer: [`InviteCreated`](super::InviteCreated).
    InviteCreate {
        /// The name that the joining machine gets. `None`: the one it brings.
        #[serde(default)]
        name: Option<String>,
        /// How many machines may join by it.
        uses: u32,
        /// For how many seconds from now.
        expires_in: u64,
        /// The groups of whoever joins by it.
        #[serde(default)]
        groups: Vec<String>,
    },
    /// The live invites. Answer: [`Answer::Invites`](super::Answer::Invites).
    InviteList {},
    /// Ends an invite before its time, and the epoch with it. Answer: [`Revoked`](super::Revoked).
    InviteRevoke {
        /// Its id, or as many of its first digits as no other invite has.
        id: String,
        /// Whether those who joined by it and wait for a signer are taken in before it ends. They are dropped otherwise.
        #[serde(default)]
        fold: bool,
    },
    /// Joins a network and brings it up. Answer: [`Joined`](super::Joined).
    Join {
        /// The invite token.
        token: Secret,
        /// This machine's name in the network. `None`: the host name. The invite's name wins over both.
        #[serde(default)]
        machine: Option<String>,
        /// The name by which this machine alone knows the network. `None`: the network's own.
        #[serde(default)]
        alias: Option<String>,
    },
    /// Leaves the network: this machine's keys and all that it keeps of the network are erased.
    /// Answer: [`Left`](super::Left).
    Leave {
        /// Also if it is the network's only signer, without which only the recovery key changes the network.
        #[serde(default)]
        force: bool,
    },
    /// The machines of the network. Answer: [`Answer::Machines`](super::Answer::Machines).
    MachinesList {},
    /// Renames a machine. Answer: [`Answer::Done`](super::Answer::Done).
    MachinesRename {
        /// Its name now.
        old: String,
        /// Its name from now on.
        new: String,
    },
    /// Removes a machine: a new epoch starts without it. Answer: [`MachineRemoved`](super::MachineRemoved).
    MachinesRemove {
        /// Its name.
        name: String,
    },
    /// Makes a machine a signer. Answer: [`Answer::Done`](super::Answer::Done).
    SignerAdd {
        /// Its name.
        name: String,
    },
    /// Takes a machine's right to sign; it stays a member. Answer: [`Answer::Done`](super::Answer::Done).
    SignerRemove {
        /// Its name.
        name: String,
    },
    /// The network's relays, and those that its coordinator offers. Answer: [`Answer::Relays`](super::Answer::Relays).
    RelayList {},
    /// Adds relays that the coordinator offers. Answer: [`Answer::Done`](super::Answer::Done).
    RelayAdd {
        /// Which one. `None`: all that it offers.
        #[serde(default)]
        url: Option<String>,
    },
    /// Removes a relay. Answer: [`Answer::Done`](super::Answer::Done).
    RelayRemove {
        /// Its URL.
        url: String,
    },
    /// What a recovery key could recover from. Changes nothing. Answer: [`Recovery`](super::Recovery).
    RecoveryShow {
        /// The recovery key.
        key: Secret,
    },
    /// Takes a network back by its recovery key: this machine becomes its only signer, and all invites end.
    /// Answer: [`Recovered`](super::Recovered).
    Recover {
        /// The recovery key.
        key: Secret,
        /// Which roster to go on from.
        from: RecoverFrom,
        /// The machines that stay, by name. `None`: all.
        #[serde(default)]
        keep: Option<Vec<String>>,
        /// This machine's name, if it is not in that roster. `None`: the one it had, or the host name.
        #[serde(default)]
        machine: Option<String>,
        /// The name by which this machine alone knows the network, if it does not know it yet. `None`: the network's own.
        #[serde(default)]
        alias: Option<String>,
    },
    /// The live state. Without [`Request::network`] all networks are meant. Answer: [`Status`](super::Status).
    Status {},
    /// Measures what the network around this machine allows. Without [`Request::network`] all networks are meant.
    /// Answer: [`Netcheck`](super::Netcheck).
    Netcheck {},
    /// All that vpnd stores, as it is now. Answer: [`Record`](crate::inventory::Record).
    PrivacyInventory {},
    /// A machine's addresses. Answer: [`Machine`](super::Machine).
    Ip {
        /// Whose. `None`: this machine's.
        #[serde(default)]
        name: Option<String>,
    },
    /// Probes a machine inside its session, one after the other at the interval, each told in an
    /// [`Event`](super::Event), until the count is reached or the connection closes.
    /// Answer: [`Answer::Done`](super::Answer::Done).
    Ping {
        /// Which machine.
        name: String,
        /// How many probes; zero: until the connection closes.
        count: u32,
        /// Milliseconds from one probe to the next.
        interval_ms: u64,
    },
}

/// Why a line is no request that this build can serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    /// Not a request at all, or a command that this build does not know.
    #[error("the request cannot be read")]
    Malformed,
    /// Made for another version of the API.
    #[error("the request speaks version {0} of the local API")]
    Version(u32),
}

impl Request {
    /// The command `cmd` for the network `network`, in this build's version.
    #[must_use]
    pub fn new(network: Option<String>, cmd: Command) -> Self {
        Self { v: VERSION, network, cmd }
    }

    /// Reads one line (with or without its newline). The version is looked at first, so that a command of a newer one
    /// is refused for its version and not for its shape.
    ///
    /// # Errors
    /// [`RequestError`]; it turns into an [`ApiError`] to answer with.
    pub fn parse(line: &[u8]) -> Result<Self, RequestError> {
        let head: Head = serde_json::from_slice(line).map_err(|_| RequestError::Malformed)?;
        if head.v != VERSION {
            return Err(RequestError::Version(head.v));
        }
        serde_json::from_slice(line).map_err(|_| RequestError::Malformed)
    }
}

#[derive(Deserialize)]
struct Head {
    v: u32,
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let why = match error {
            RequestError::Malformed => "it is not a command that this version of vpnd knows".to_owned(),
            RequestError::Version(v) => {
                format!("it speaks version {v} of the local API, vpnd speaks version {VERSION}")
            }
        };
        Self::new(
            ErrorCode::Newer,
            "vpnd did not understand the request",
            why,
            "use a vpnctl and a vpnd of one release; after an upgrade, restart vpnd: systemctl restart vpnd",
        )
    }
}
