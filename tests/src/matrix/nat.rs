//! Kinds of NAT, and what can be expected between two of them.

use std::fmt;

/// A kind of site, by natlab's name for it (mapping and filtering as in RFC 4787; `tests/lab/natlab.sh` says how each is
/// made, and its `selftest` shows that it is what it is called).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nat {
    /// No NAT and no firewall.
    None,
    /// A home router: one mapping for all, which keeps the port; answers only from where something was sent.
    Easy,
    /// The same with another port.
    Remap,
    /// One mapping for all; answers from any port of an address to which something was sent.
    Addr,
    /// One mapping for all; anybody may answer.
    FullCone,
    /// A mapping for each destination, with a random port.
    Hard,
    /// A public address for each machine, as clouds have it.
    One2One,
    /// A home router behind the NAT of the provider.
    Cgnat,
    /// TCP to port 443 alone.
    UdpBlocked,
    /// Nothing but HTTP CONNECT to port 443, by a proxy.
    Blocked,
    /// IPv6 alone, behind a firewall.
    V6Only,
}

/// What two machines can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// A path between them that is no relay's.
    Direct,
    /// The same, nine times in ten, once many ports were tried (by the birthday paradox).
    Birthday,
    /// A relay's alone.
    Relay,
}

impl Nat {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::None,
        Self::Easy,
        Self::Remap,
        Self::Addr,
        Self::FullCone,
        Self::Hard,
        Self::One2One,
        Self::Cgnat,
        Self::UdpBlocked,
        Self::Blocked,
        Self::V6Only,
    ];

    /// The kind that natlab calls so.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|nat| nat.name() == name)
    }

    /// natlab's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Easy => "easy",
            Self::Remap => "remap",
            Self::Addr => "addr",
            Self::FullCone => "fullcone",
            Self::Hard => "hard",
            Self::One2One => "one2one",
            Self::Cgnat => "cgnat",
            Self::UdpBlocked => "udpblocked",
            Self::Blocked => "blocked",
            Self::V6Only => "v6only",
        }
    }

    /// Whether UDP gets out.
    fn has_udp(self) -> bool {
        !matches!(self, Self::UdpBlocked | Self::Blocked)
    }

    /// Whether a datagram from a port that nothing was sent to gets in, if its address is one that something was sent to.
    fn takes_any_port(self) -> bool {
        matches!(self, Self::None | Self::Addr | Self::FullCone | Self::One2One)
    }

    /// What a plain simultaneous open reaches, where each sends to what a STUN server saw of the other, and answers to where the
    /// other's datagrams really come from; and what many ports reach where that does not. A machine without NAT is taken to have
    /// both families.
    #[must_use]
    pub fn expected(self, other: Self) -> Expected {
        let one_family = match (self == Self::V6Only, other == Self::V6Only) {
            (true, false) => other == Self::None,
            (false, true) => self == Self::None,
            _ => true,
        };
        // The port that a hard NAT opens towards the peer is not the one that STUN saw: only a peer that takes any port of
        // an address hears it.
        let hard = [(self, other), (other, self)];
        let hidden = hard.iter().any(|(one, other)| *one == Self::Hard && !other.takes_any_port());
        if !one_family || !self.has_udp() || !other.has_udp() || self == other && hidden {
            Expected::Relay
        } else if hidden {
            Expected::Birthday
        } else {
            Expected::Direct
        }
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Birthday => "birthday",
            Self::Relay => "relay",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_does_not_depend_on_who_is_named_first() {
        for one in Nat::ALL {
            for other in Nat::ALL {
                assert_eq!(one.expected(other), other.expected(one), "{one} {other}");
            }
        }
    }

    #[test]
    fn what_natlab_measures_by_plain_simultaneous_open_is_expected() {
        for other in [Nat::Easy, Nat::Remap, Nat::Cgnat] {
            assert_eq!(other.expected(Nat::Hard), Expected::Birthday, "{other}");
        }
        let relayed = [(Nat::Hard, Nat::Hard), (Nat::Easy, Nat::V6Only), (Nat::Hard, Nat::V6Only)];
        for (one, other) in relayed {
            assert_eq!(one.expected(other), Expected::Relay, "{one} {other}");
        }
        for other in Nat::ALL {
            assert_eq!(Nat::UdpBlocked.expected(other), Expected::Relay, "{other}");
            assert_eq!(Nat::Blocked.expected(other), Expected::Relay, "{other}");
        }
        let direct = [
            (Nat::Addr, Nat::Hard),
            (Nat::FullCone, Nat::Hard),
            (Nat::One2One, Nat::Hard),
            (Nat::None, Nat::Hard),
            (Nat::Cgnat, Nat::Cgnat),
            (Nat::Easy, Nat::Remap),
            (Nat::None, Nat::V6Only),
            (Nat::V6Only, Nat::V6Only),
        ];
        for (one, other) in direct {
            assert_eq!(one.expected(other), Expected::Direct, "{one} {other}");
        }
    }
}
