//! The servers that are reached without the proxy: this machine itself, and those of the variable `no_proxy`.
//!
//! The variable has no standard. What programs agree on is read: words between commas, each a name (and all names below
//! it, with or without a dot before it), an address, a range of addresses, any of the first two with a port, or `*` for all.

use std::net::IpAddr;

/// What is exempt.
#[derive(Default)]
pub(super) struct Exempt(Vec<Rule>);

enum Rule {
    All,
    /// A name and those below it, in lower case.
    Name(String, Option<u16>),
    Address(IpAddr, Option<u16>),
    Range(IpAddr, u8),
}

impl Exempt {
    /// Reads the variable. Words that say nothing are passed over, as other programs do.
    pub(super) fn parse(list: &str) -> Self {
        Self(list.split([',', ' ']).filter_map(rule).collect())
    }

    /// Whether `host`, a name or an address without brackets, is exempt.
    pub(super) fn holds(&self, host: &str, port: u16) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if address.is_some_and(|address| address.is_loopback()) || name == "localhost" {
            return true;
        }
        let at = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        self.0.iter().any(|rule| match rule {
            Rule::All => true,
            Rule::Name(suffix, wanted) => address.is_none() && at(wanted) && is_below(&name, suffix),
            Rule::Address(own, wanted) => address == Some(*own) && at(wanted),
            Rule::Range(net, len) => address.is_some_and(|address| contains(*net, *len, address)),
        })
    }
}

fn rule(word: &str) -> Option<Rule> {
    let word = word.trim();
    if word == "*" {
        return Some(Rule::All);
    }
    if let Some((net, len)) = word.split_once('/') {
        return Some(Rule::Range(net.parse().ok()?, len.parse().ok()?));
    }
    let unbracketed = |word: &str| word.trim_start_matches('[').trim_end_matches(']').parse().ok();
    if let Some(address) = unbracketed(word) {
        return Some(Rule::Address(address, None));
    }
    let (host, port) = match word.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (word, None),
    };
    if let Some(address) = unbracketed(host) {
        return Some(Rule::Address(address, port));
    }
    let name = host.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
    (!name.is_empty()).then_some(Rule::Name(name, port))
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn contains(net: IpAddr, len: u8, address: IpAddr) -> bool {
    match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) if len <= 32 => {
            let apart = net.to_bits() ^ address.to_bits();
            apart.leading_zeros() >= u32::from(len)
        }
        (IpAddr::V6(net), IpAddr::V6(address)) if len <= 128 => {
            let apart = net.to_bits() ^ address.to_bits();
            apart.leading_zeros() >= u32::from(len)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_ranges_are_exempt_as_other_programs_take_them() {
        let list =
            "Corp.example, .lan,*.dev:8443,192.0.2.7,10.0.0.0/8,fd00::/8,[2001:db8::1]:443,198.51.100.1:80";
        let exempt = Exempt::parse(list);
        for (host, port) in [
            ("corp.example", 443),
            ("vpn.CORP.example.", 443),
            ("relay.lan", 1),
            ("lan", 1),
            ("a.dev", 8443),
            ("192.0.2.7", 443),
            ("10.255.0.1", 443),
            ("fd12::1", 443),
            ("2001:db8::1", 443),
            ("198.51.100.1", 80),
        ] {
            assert!(exempt.holds(host, port), "{host}:{port}");
        }
        for (host, port) in [
            ("notcorp.example", 443),
            ("corp.example.org", 443),
            ("a.dev", 443),
            ("192.0.2.8", 443),
            ("11.0.0.1", 443),
            ("fe80::1", 443),
            ("2001:db8::1", 8443),
            ("198.51.100.1", 443),
        ] {
            assert!(!exempt.holds(host, port), "{host}:{port}");
        }
    }

    #[test]
    fn a_star_exempts_all_and_an_empty_list_this_machine_alone() {
        assert!(Exempt::parse("*").holds("vpn.example", 443));
        for none in ["", ",", " , .", "999.0.0.0/8,10.0.0.0/99"] {
            let exempt = Exempt::parse(none);
            assert!(!exempt.holds("vpn.example", 443) && !exempt.holds("10.0.0.1", 443), "{none}");
            assert!(["localhost", "127.0.0.1", "::1"].iter().all(|own| exempt.holds(own, 443)), "{none}");
        }
        let all = Exempt::parse("0.0.0.0/0");
        assert!(all.holds("192.0.2.1", 443) && !all.holds("2001:db8::1", 443));
    }
}
