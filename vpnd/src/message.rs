//! The fixed sentences that vpnd may print on stderr. None of them takes a parameter, so that no address, name or
//! key can reach a journal.

use std::io::Write;

/// Something an operator should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The local API is up.
    Ready,
    /// The kernel lacks a wall, and `--allow-unsandboxed` was given.
    Unsandboxed,
    /// A data path ended and is being started again.
    DataPathRestarted,
    /// A data path ended, and the kernel lets this process start no other.
    CannotStart,
    /// A network could not be brought up; `vpnctl status` says why.
    NetworkFailed,
    /// No interface: the UDP port is taken.
    PortTaken,
    /// No interface: its name is taken.
    InterfaceNameTaken,
    /// No interface: there is no TUN device.
    NoTun,
    /// What is stored of a network cannot be read; `vpnctl status` says which file.
    NetworkDamaged,
    /// A coordinator had gone back to an older roster, and was given this machine's.
    Healed,
    /// A plain interface was switched on, and cannot have its port.
    DevicePortTaken,
    /// Leaving on a signal.
    Stopping,
}

impl Message {
    /// All of them, for the catalogue and its test.
    pub const ALL: [Self; 12] = [
        Self::Ready,
        Self::Unsandboxed,
        Self::DataPathRestarted,
        Self::CannotStart,
        Self::NetworkFailed,
        Self::PortTaken,
        Self::InterfaceNameTaken,
        Self::NoTun,
        Self::NetworkDamaged,
        Self::Healed,
        Self::DevicePortTaken,
        Self::Stopping,
    ];

    /// The sentence.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Ready => "vpnd: ready",
            Self::Unsandboxed => "vpnd: this kernel lacks Landlock or seccomp, vpnd is not locked down",
            Self::DataPathRestarted => "vpnd: the data path ended and was started again",
            Self::CannotStart => {
                "vpnd: no data path may be started any more, ending so that vpnd starts anew"
            }
            Self::NetworkFailed => "vpnd: a network could not be brought up, see `vpnctl status`",
            Self::PortTaken => "vpnd: no interface, its UDP port is in use by another program; trying again",
            Self::InterfaceNameTaken => "vpnd: no interface, its name is taken; trying again",
            Self::NoTun => "vpnd: no interface, /dev/net/tun is missing; trying again",
            Self::NetworkDamaged => "vpnd: what is stored of a network is damaged, see `vpnctl status`",
            Self::Healed => {
                "vpnd: the coordinator had an older roster than this machine, as after a restore, and was given the newer one"
            }
            Self::DevicePortTaken => {
                "vpnd: the interface is on without a UDP port, which another program has; trying again; choose another: wg set IFNAME listen-port"
            }
            Self::Stopping => "vpnd: stopping",
        }
    }

    /// Prints the sentence on stderr. A closed stderr is no error.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one mouth of control: sentences without anything in them"
    )]
    pub fn print(self) {
        let _ = writeln!(std::io::stderr(), "{}", self.text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_one_plain_sentence() {
        for message in Message::ALL {
            let text = message.text();
            assert!(text.starts_with("vpnd: ") && !text.contains(['\n', '{', '}']), "{text}");
        }
    }

    const CATALOGUE: &str = include_str!("../../docs/messages.md");

    #[test]
    fn the_catalogue_has_every_sentence_and_no_other() {
        let bare = |text: &str| text.trim_matches(['`', ' ']).to_owned();
        let section = CATALOGUE.split("\n## ").find(|section| section.starts_with("vpnd\n")).unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let listed: Vec<String> =
            rows.map(bare).filter(|row| row != "vpnd: internal error at FILE:LINE").collect();
        assert_eq!(listed, Message::ALL.map(|message| bare(message.text())));
    }
}
