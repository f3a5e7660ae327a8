//! What states and warnings mean to a person, and what to do: one catalogue for `status` and `doctor`.

use proto::api::{NetworkState, Warning};

/// What a state that nobody chose means, and what to do, in lines.
pub(crate) fn advice(state: NetworkState) -> &'static [&'static str] {
    match state {
        NetworkState::Stale => &[
            "No signer has renewed the network for a month: who was removed or added",
            "since is not known here. Start a signer (vpnctl signer list) and the",
            "coordinator, and check this machine's clock.",
        ],
        NetworkState::Forked => &[
            "The signers' history has two ends: one of them was stolen, or the coordinator",
            "lost a change. This machine keeps what it saw first and takes no more changes.",
            "The recovery key decides, on one machine: vpnctl recover",
        ],
        NetworkState::Removed => &[
            "A signer removed this machine; nobody answers it any more.",
            "Ask for a new invite, then: vpnctl leave, vpnctl join TOKEN",
        ],
        NetworkState::Up | NetworkState::Down | NetworkState::Pending | NetworkState::Damaged => &[],
    }
}

/// What a warning means, in a line.
pub(crate) fn warning_text(warning: Warning) -> &'static str {
    match warning {
        Warning::CoordinatorUnreachable => "the coordinator cannot be reached; tunnels go on, changes wait",
        Warning::NetworkUnknown => "the coordinator lost this network; its operator may have a backup",
        Warning::ChangeRefused => "the coordinator refuses this machine's changes; it is tried again",
        Warning::RelayUnreachable => "no relay can be reached; only direct paths work",
        Warning::ProxyUnreachable => "the proxy cannot be reached; check vpnd's --proxy, or https_proxy",
        Warning::NotAProxy => "what answers as the proxy is no HTTP proxy; check vpnd's --proxy",
        Warning::ProxyLogin => "the proxy takes no login from here; see vpnd's --proxy-credentials",
        Warning::ProxyRefuses => "the proxy lets this machine not connect; ask who runs it",
        Warning::WrongPin => "the coordinator does not hold the key that this network pinned",
        Warning::CoordinatorUntrusted => "the coordinator shows what no signer signed; it is not believed",
        Warning::ClockWrong => "this machine's clock is wrong; set it, for others cannot find it",
        Warning::InviteOverused => "more machines used an invite than it allows; none is accepted",
        Warning::DataPathDown => "the data path does not run; it is being started again",
        Warning::InterfaceFailed => "the network interface cannot be made; it is tried again",
        Warning::PortTaken => "another program has vpnd's UDP port; stop it, or change --port",
        Warning::InterfaceNameTaken => "the interface's name is taken; remove it, or change --interface",
        Warning::InterfaceForbidden => "vpnd may not make network interfaces; run it as root or by its unit",
        Warning::NoTun => "/dev/net/tun is missing; load it (modprobe tun), or give it here",
        Warning::InterfaceDown => "the interface was switched off; its packets go out unencrypted",
        Warning::StateNotWritable => "the state directory cannot be written; make room, or check it",
        Warning::Renamed => "another machine had this one's name first; it got another",
        Warning::Other => "something that this vpnctl does not know; is it older than vpnd?",
    }
}

/// What to do about it.
pub(crate) fn warning_next(warning: Warning) -> &'static str {
    match warning {
        Warning::CoordinatorUnreachable => {
            "wait a minute and ask again; if it stays so, its operator looks at it: tacet-coordinator check"
        }
        Warning::NetworkUnknown => "tell its operator, who may have a backup: tacet-coordinator restore",
        Warning::ChangeRefused => "its operator looks at its quota: tacet-coordinator networks",
        Warning::RelayUnreachable => {
            "wait a minute and ask again; if it stays so, the relay's operator looks at it, and at its clock"
        }
        Warning::ProxyUnreachable => {
            "check vpnd's --proxy, or its variable https_proxy, and the proxy itself"
        }
        Warning::NotAProxy => "check vpnd's --proxy, or its variable https_proxy: http://HOST:PORT",
        Warning::ProxyLogin => {
            "put USER:PASSWORD into a file that only vpnd may read, and start vpnd with --proxy-credentials FILE"
        }
        Warning::ProxyRefuses => "ask who runs the proxy to allow the coordinator and the relays",
        Warning::WrongPin => {
            "ask its operator whether it was made anew; do not use it otherwise: somebody may be in between"
        }
        Warning::CoordinatorUntrusted => {
            "tell its operator; if signers were lost, the recovery key decides: vpnctl recover"
        }
        Warning::ClockWrong => "set it, for instance with: timedatectl set-ntp true",
        Warning::InviteOverused => "on a signer: vpnctl invite list, then vpnctl invite revoke ID",
        Warning::DataPathDown => "wait a second and ask again; if it stays so: journalctl -u vpnd",
        Warning::InterfaceFailed => "vpnctl up tells why",
        Warning::PortTaken => "see who has it: ss -ulpn; then stop that, or start vpnd with another --port",
        Warning::InterfaceNameTaken => {
            "see it: ip link; then remove it, or start vpnd with another --interface"
        }
        Warning::InterfaceForbidden => "run vpnd as root or by its unit: systemctl restart vpnd",
        Warning::NoTun => "load it: modprobe tun; a container needs the device /dev/net/tun",
        Warning::InterfaceDown => {
            "switch it on, for instance: ip link set tacet0 up; or: vpnctl down, vpnctl up"
        }
        Warning::StateNotWritable => {
            "make room where vpnd keeps its state (df /var/lib/tacet), or mount it for writing"
        }
        Warning::Renamed => "rename it if you like: vpnctl machines rename OLD NEW",
        Warning::Other => "use a vpnctl and a vpnd of one release",
    }
}
