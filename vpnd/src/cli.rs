//! The command line of both processes.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use sandbox::Missing;

use crate::{data_path, device, workers};

/// Tacet's daemon: keeps this machine's private networks up. Talk to it with vpnctl.
#[derive(Parser)]
#[command(
    name = "vpnd",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  vpnd                                          as root; then see vpnctl --help
  vpnd --interface vpn0 --port 51900
  vpnd --state-dir /tmp/try --socket /tmp/try.sock    beside one that runs already

Usually it runs as a service: systemctl enable --now vpnd. Started by hand it stays in the foreground, and says when it \
is ready; SIGTERM ends it."
)]
pub struct Cli {
    /// Another process than the daemon itself.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The daemon's options.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// What else this program can be.
#[derive(Subcommand)]
pub enum Command {
    /// The data path of one network; vpnd starts it.
    #[command(hide = true)]
    DataPath(data_path::Options),
    /// A plain WireGuard interface, without a network of Tacet's: for wg, wg-quick and every WireGuard peer.
    Device(device::Options),
}

/// Options of the daemon.
#[derive(Args, Clone)]
pub struct Daemon {
    /// Where this machine's keys and networks are kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/tacet")]
    pub state_dir: PathBuf,
    /// The unix socket that vpnctl talks to.
    #[arg(long, value_name = "PATH", default_value = "/run/tacet/vpnd.sock")]
    pub socket: PathBuf,
    /// The network interface [default: tacet0, or the next free one].
    #[arg(long, value_name = "NAME", value_parser = interface_name)]
    pub interface: Option<String>,
    /// The UDP port [default: 51820, or the next free one].
    #[arg(long, value_name = "UDP", value_parser = clap::value_parser!(u16).range(1024..))]
    pub port: Option<u16>,
    /// Reach the coordinator and the relays through this HTTP proxy, http://HOST:PORT, always; those of the variable
    /// no_proxy directly [default: the variable https_proxy].
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// A file with USER:PASSWORD for the proxy, that only vpnd may read.
    #[arg(long, value_name = "FILE")]
    pub proxy_credentials: Option<PathBuf>,
    /// Ask the router for no port (by PCP, NAT-PMP or UPnP); peers behind strict NATs then reach this machine by relay.
    #[arg(long)]
    pub no_port_mapping: bool,
    /// Look for no peer on the LAN; where no relay and no static endpoint leads to one, it is not found then.
    #[arg(long)]
    pub no_lan_discovery: bool,
    /// Copy the class of service (DSCP) of each packet to the outside, for routers on the way; an observer tells calls from
    /// downloads by it.
    #[arg(long)]
    pub show_dscp: bool,
    /// How many threads share the peers of each network, 1 to 16 [default: by the processors, one for up to two].
    #[arg(long, value_name = "N", value_parser = workers::number())]
    pub workers: Option<u8>,
    /// Run even where the kernel lacks Landlock or seccomp, confined by what is left.
    #[arg(long)]
    pub allow_unsandboxed: bool,
}

impl Daemon {
    /// What both processes do where a wall is missing.
    #[must_use]
    pub fn missing(&self) -> Missing {
        if self.allow_unsandboxed { Missing::Allow } else { Missing::Refuse }
    }
}

/// Names by which the kernel means every interface, or none yet.
const KERNELS: [&str; 2] = ["all", "default"];

/// Linux takes interface names of 1 to 15 bytes without `/`, `:`, `%` and white space, other than `.` and `..`.
pub(crate) fn interface_name(name: &str) -> Result<String, String> {
    if KERNELS.contains(&name) {
        return Err("the kernel calls no interface all or default; choose another name".to_owned());
    }
    let fits = (1..=15).contains(&name.len()) && name != "." && name != "..";
    if fits && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%')) {
        Ok(name.to_owned())
    } else {
        Err("an interface name has 1 to 15 letters, digits or signs (. - _ = + and others), no / : % and no space".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{Cli, interface_name};

    #[test]
    fn a_name_that_the_kernel_refuses_is_refused_before() {
        for name in ["wg0", "a.b-c_d=e+f", "0123456789abcde"] {
            assert_eq!(interface_name(name).as_deref(), Ok(name));
        }
        for name in ["", ".", "..", "all", "default", "a/b", "a:b", "a%b", "a b", "0123456789abcdef", "é"] {
            assert!(interface_name(name).is_err(), "{name}");
        }
    }

    /// clap breaks lines where the terminal ends; a break in the text itself would leave half a line.
    #[test]
    fn no_paragraph_of_the_help_is_broken_by_hand() {
        let command = Cli::command();
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(text.lines().count() > 3);
        for (line, next) in text.lines().zip(text.lines().skip(1)) {
            let apart = line.is_empty() || next.is_empty();
            let listed = next.starts_with(' ') && (line.starts_with(' ') || line.ends_with(':'));
            assert!(apart || listed, "{line}");
        }
    }
}
