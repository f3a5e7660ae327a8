//! What may be typed. Every command has help with an example; every duration its unit.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::duration::{interval, lifetime};

/// Control this machine's Tacet networks.
#[derive(Parser)]
#[command(
    name = "vpnctl",
    version,
    arg_required_else_help = true,
    max_term_width = 80,
    after_help = "\
Example, from nothing to a network of two machines:
  on a server       tacet-coordinator serve --public-url URL
                    tacet-coordinator enrol
  on a machine      vpnctl account create ann --enrol TOKEN
                    vpnctl network create home
                    vpnctl invite
  on another        vpnctl join TOKEN
  anywhere          vpnctl status

Exit codes: 0 done, 1 failed, 2 usage, 3 vpnd is not running,
            4 login or second factor needed, 5 not permitted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The socket of vpnd [default: $TACET_SOCKET, else /run/tacet/vpnd.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Which network, where this machine is in several
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// Print one JSON document and nothing else
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Global {
    /// The socket that is meant. The variable is read here and not by the parser, whose usage lines would show the option
    /// as one that must be given.
    pub(crate) fn socket(&self) -> PathBuf {
        let named = self.socket.clone().or_else(|| std::env::var_os(SOCKET_VARIABLE).map(PathBuf::from));
        named.unwrap_or_else(|| SOCKET.into())
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The account that owns networks at a coordinator
    #[command(subcommand, after_help = "Example:\n  vpnctl account create ann --enrol tacet-enrol1...")]
    Account(Account),
    /// Make a network, or list those this machine is in
    #[command(subcommand, after_help = "Example:\n  vpnctl network create home")]
    Network(Network),
    /// Connect, now and after every reboot
    #[command(after_help = "Examples:\n  vpnctl up\n  vpnctl --network home up")]
    Up,
    /// Disconnect, and stay so after a reboot
    #[command(after_help = "Examples:\n  vpnctl down\n  vpnctl --network home down")]
    Down,
    /// Let another machine join; alone it means `invite create`
    #[command(after_help = "\
Examples:
  vpnctl invite
  vpnctl invite --name nas --expires 1h
  vpnctl invite --uses 5 --groups family,guests
  vpnctl invite list
  vpnctl invite revoke 1f0c33a9")]
    Invite(Invite),
    /// Join a network with an invite token
    #[command(after_help = "\
Examples:
  vpnctl join tacet-invite1...
  vpnctl join - < token.txt
  vpnctl join tacet-invite1... --machine laptop
  vpnctl join tacet-invite1... --as work        if a network here has its name")]
    Join(Join),
    /// Leave the network: this machine's keys in it are erased
    #[command(after_help = "\
Examples:
  vpnctl leave
  vpnctl --network home leave --yes

A machine cannot take itself off the roster: a signer does that afterwards, with
vpnctl machines remove NAME.")]
    Leave(Leave),
    /// The machines of the network; alone it means `machines list`
    #[command(after_help = "\
Examples:
  vpnctl machines
  vpnctl machines rename laptop old-laptop
  vpnctl machines remove old-laptop")]
    Machines(Machines),
    /// The machines that may change the network; alone it means `signer list`
    #[command(after_help = "\
Examples:
  vpnctl signer
  vpnctl signer add laptop
  vpnctl signer remove laptop

Two signers are better than one: one may be lost.")]
    Signer(Signer),
    /// The relays of the network; alone it means `relay list`
    #[command(after_help = "\
Examples:
  vpnctl relay
  vpnctl relay add
  vpnctl relay remove https://relay.example")]
    Relay(Relay),
    /// Take a network back with its recovery key; this machine becomes its signer
    #[command(after_help = "\
Examples:
  vpnctl recover
  vpnctl recover --key-file key.txt --from own --keep nas,laptop --yes
  vpnctl recover --as work                      if a network here has its name

It shows the newest roster beside this machine's last one and asks which one to
go on from and whom to keep. The recovery key is asked for, never an argument.")]
    Recover(Recover),
    /// How the networks are, and which way each machine is reached
    #[command(after_help = "\
Examples:
  vpnctl status
  vpnctl --json status

Where a direct path leads (its endpoint) and its MTU are in the JSON only.")]
    Status,
    /// Print the addresses of a machine inside the network
    #[command(after_help = "Examples:\n  vpnctl ip\n  vpnctl ip nas -4\n  ssh \"$(vpnctl ip nas -4)\"")]
    Ip(Ip),
    /// Measure the way to a machine: over which path, how fast
    #[command(after_help = "\
Examples:
  vpnctl ping nas
  vpnctl ping nas -c 0          until interrupted
  vpnctl ping nas -c 100 -i 0.2
  vpnctl ping nas --until-direct

It says so when the path changes, as it does in the first seconds: from a relay
to a direct one. Exit code 1 if no reply came.")]
    Ping(Ping),
    /// What the network around this machine allows, measured now
    #[command(after_help = "\
Examples:
  vpnctl netcheck
  vpnctl --json netcheck

It asks this machine's own coordinators and relays, its router and its proxy,
and nobody else, and takes 5 seconds at most. It shows public addresses: look at
the picture before you share it. Nothing of it is stored.")]
    Netcheck,
    /// Find what is wrong, the first cause first, and what to do about it
    #[command(after_help = "\
Examples:
  vpnctl doctor
  vpnctl doctor nas             why that machine is not reached, or not directly
  vpnctl --json doctor

Exit code 0 if no fault was found; notes are no faults. Else 1, or 3 or 5 as
with every command.")]
    Doctor(Doctor),
    /// What is stored, and whether the promises hold on this machine
    #[command(subcommand, after_help = "Examples:\n  vpnctl privacy inventory\n  sudo vpnctl privacy verify")]
    Privacy(Privacy),
    /// Put together what a person who helps you may see; nothing is sent
    #[command(after_help = "\
Examples:
  vpnctl report
  vpnctl report --output report.txt

It holds versions, counts and states. Networks and machines have made-up names
that are other ones each time.")]
    Report(Report),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  vpnctl completions bash > /etc/bash_completion.d/vpnctl")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    #[command(hide = true, after_help = "Example:\n  vpnctl man /usr/local/share/man/man1")]
    Man {
        /// Where to
        directory: PathBuf,
    },
}

#[derive(Subcommand)]
pub(crate) enum Account {
    /// Register with an enrolment token from the coordinator's operator, and log in
    #[command(after_help = "\
Examples:
  vpnctl account create ann --enrol tacet-enrol1...
  vpnctl account create ann --enrol - --password-file pw < token.txt")]
    Create {
        /// The account's name
        name: String,
        /// The enrolment token, or `-` to read it from standard input
        #[arg(long, value_name = "TOKEN")]
        enrol: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Log in at a coordinator
    #[command(after_help = "\
Examples:
  vpnctl account login ann
  vpnctl account login ann --coordinator https://vpn.example --pin PIN

The coordinators that this machine has dealt with are remembered with their
pins. A new one is named by its URL, and by its pin unless it has a public
certificate; its operator sees both in what `tacet-coordinator serve` prints.")]
    Login {
        /// The account's name
        name: String,
        /// The coordinator's URL; needed if this machine knows none or several
        #[arg(long, value_name = "URL")]
        coordinator: Option<String>,
        /// The coordinator's pin, on first contact
        #[arg(long, value_name = "PIN", requires = "coordinator")]
        pin: Option<String>,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// End the session; networks go on
    #[command(after_help = "Example:\n  vpnctl account logout")]
    Logout {
        /// The coordinator's URL; needed if there are sessions at several
        #[arg(long, value_name = "URL")]
        coordinator: Option<String>,
    },
}

/// Without either the password is asked for at the terminal, without echo.
#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct PasswordSource {
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Read the password from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Network {
    /// Make a network with this machine in it, show its recovery key once, and connect
    #[command(
        after_help = "Examples:\n  vpnctl network create home\n  vpnctl network create home --machine server"
    )]
    Create {
        /// The network's name
        name: String,
        /// This machine's name in it [default: the host name]
        #[arg(long, value_name = "NAME")]
        machine: Option<String>,
        /// The name by which this machine alone knows it [default: its own]
        #[arg(long = "as", value_name = "ALIAS")]
        alias: Option<String>,
        /// The coordinator's URL; needed if there are sessions at several
        #[arg(long, value_name = "URL")]
        coordinator: Option<String>,
    },
    /// List the networks this machine is in
    #[command(after_help = "Examples:\n  vpnctl network list\n  vpnctl --json network list")]
    List,
}

#[derive(Args)]
pub(crate) struct Invite {
    #[command(subcommand)]
    pub(crate) command: Option<InviteCommand>,
    #[command(flatten)]
    pub(crate) create: InviteCreate,
}

#[derive(Subcommand)]
pub(crate) enum InviteCommand {
    /// Print a token with which another machine joins
    #[command(after_help = "\
Examples:
  vpnctl invite create --name nas
  vpnctl invite create --uses 5 --expires 7d --groups family")]
    Create(InviteCreate),
    /// List the invites that are still good
    #[command(after_help = "Example:\n  vpnctl invite list")]
    List,
    /// End an invite now: nobody joins by it any more, and who saw it reads no more
    #[command(after_help = "\
Examples:
  vpnctl invite revoke 1f0c33a9
  vpnctl invite revoke 1f0c33a9 --fold

Machines that joined by it and are in the roster stay: remove them by name.")]
    Revoke {
        /// The invite, as in the list; its first digits suffice
        id: String,
        /// Take in those who joined by it and wait for a signer [default: drop them]
        #[arg(long)]
        fold: bool,
    },
}

#[derive(Args, PartialEq)]
pub(crate) struct InviteCreate {
    /// The name that the machine gets [default: the one it brings]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How many machines may join by it [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) uses: Option<u32>,
    /// How long it is good, such as 30m, 1h, 7d; at most 365d [default: 1d]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    pub(crate) expires: Option<Duration>,
    /// The groups of whoever joins by it
    #[arg(long, value_name = "GROUP,...", value_delimiter = ',')]
    pub(crate) groups: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Join {
    /// The invite token, or `-` to read it from standard input
    pub(crate) token: String,
    /// This machine's name in the network [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) machine: Option<String>,
    /// The name by which this machine alone knows the network [default: its own]
    #[arg(long = "as", value_name = "ALIAS")]
    pub(crate) alias: Option<String>,
}

#[derive(Args)]
pub(crate) struct Leave {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Also if this machine is the network's only signer
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct Machines {
    #[command(subcommand)]
    pub(crate) command: Option<MachinesCommand>,
}

#[derive(Subcommand)]
pub(crate) enum MachinesCommand {
    /// List the machines of the network
    #[command(after_help = "Examples:\n  vpnctl machines list\n  vpnctl --json machines list")]
    List,
    /// Give a machine another name
    #[command(after_help = "Example:\n  vpnctl machines rename laptop old-laptop")]
    Rename {
        /// Its name now
        old: String,
        /// Its name from now on
        new: String,
    },
    /// Remove a machine: it is cut off at once, everywhere
    #[command(after_help = "\
Examples:
  vpnctl machines remove laptop
  vpnctl machines remove laptop --yes

The invites that it made, and the one that it joined by, end with it.")]
    Remove {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args)]
pub(crate) struct Signer {
    #[command(subcommand)]
    pub(crate) command: Option<SignerCommand>,
}

#[derive(Subcommand)]
pub(crate) enum SignerCommand {
    /// List the signers of the network
    #[command(after_help = "Examples:\n  vpnctl signer list\n  vpnctl --json signer list")]
    List,
    /// Make a machine a signer
    #[command(after_help = "Example:\n  vpnctl signer add laptop")]
    Add {
        /// Its name
        name: String,
    },
    /// Take a machine's right to sign; it stays in the network
    #[command(after_help = "Example:\n  vpnctl signer remove laptop")]
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct Relay {
    #[command(subcommand)]
    pub(crate) command: Option<RelayCommand>,
}

#[derive(Subcommand)]
pub(crate) enum RelayCommand {
    /// List the relays of the network, and those that its coordinator offers
    #[command(after_help = "Examples:\n  vpnctl relay list\n  vpnctl --json relay list")]
    List,
    /// Add a relay that the coordinator offers
    #[command(after_help = "Examples:\n  vpnctl relay add\n  vpnctl relay add https://relay.example")]
    Add {
        /// Its URL [default: all that the coordinator offers]
        url: Option<String>,
    },
    /// Remove a relay
    #[command(after_help = "Example:\n  vpnctl relay remove https://relay.example")]
    Remove {
        /// Its URL
        url: String,
    },
}

#[derive(Args)]
pub(crate) struct Recover {
    #[command(flatten)]
    pub(crate) key: KeySource,
    /// Which roster to go on from: the coordinator's, or this machine's last one
    #[arg(long, value_name = "ROSTER")]
    pub(crate) from: Option<Base>,
    /// The machines to keep; the others are removed [default: all]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) keep: Option<Vec<String>>,
    /// This machine's name, if it is not in that roster [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) machine: Option<String>,
    /// The name by which this machine alone knows the network [default: its own]
    #[arg(long = "as", value_name = "ALIAS")]
    pub(crate) alias: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Where the recovery key comes from if not from the terminal.
#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct KeySource {
    /// Read the recovery key from standard input
    #[arg(long)]
    pub(crate) key_stdin: bool,
    /// Read the recovery key from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// Which roster a recovery goes on from.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Base {
    /// The coordinator's
    Newest,
    /// This machine's last one
    Own,
}

#[derive(Subcommand)]
pub(crate) enum Privacy {
    /// Read from the kernel what the running processes may do; vpnd is not asked
    #[command(after_help = "\
Examples:
  sudo vpnctl privacy verify
  sudo vpnctl --json privacy verify

Exit code 1 if something is broken. A warning is what the host does and Tacet
cannot prevent, or what the kernel does not tell.")]
    Verify,
    /// Your complete record: every field that this machine stores, as it is now
    #[command(after_help = "Examples:\n  vpnctl privacy inventory\n  vpnctl --json privacy inventory")]
    Inventory,
}

#[derive(Args)]
pub(crate) struct Report {
    /// Write it to a file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Do not ask before writing the file
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct Ip {
    /// Which machine [default: this one]
    pub(crate) name: Option<String>,
    /// The IPv4 address only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,
    /// The IPv6 address only
    #[arg(short = '6', long)]
    pub(crate) ipv6: bool,
}

#[derive(Args)]
pub(crate) struct Ping {
    /// Which machine, by its name or its address in the network
    pub(crate) name: String,
    /// How many probes; 0 goes on until interrupted [default: 5, or 30 with --until-direct]
    #[arg(short, long, value_name = "COUNT")]
    pub(crate) count: Option<u32>,
    /// Stop as soon as the path is direct; exit code 1 if it does not become so
    #[arg(long)]
    pub(crate) until_direct: bool,
    /// The time from one probe to the next, such as 200ms or 1s; a bare number is seconds
    #[arg(short, long, value_name = "INTERVAL", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
}

#[derive(Args)]
pub(crate) struct Doctor {
    /// Another machine that is not reached as it should be, by its name or its address in the network
    pub(crate) name: Option<String>,
}

/// Where vpnd is, unless told otherwise.
const SOCKET: &str = "/run/tacet/vpnd.sock";

/// What may tell otherwise, beside the option.
const SOCKET_VARIABLE: &str = "TACET_SOCKET";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
