//! What the answers say. Nothing here asks anybody.

use std::net::{IpAddr, SocketAddr};

use proto::api::{Clock, Family, Mapping, Nat, NatKind, Portal, ServerState, Udp};
use url::Url;

use super::{
    servers::host_and_port,
    stun::{Answer, Heard},
};
use crate::relay::calendar;

/// Whether a STUN server answered, by this family or by any, or a machine directly in the servers' place; `None` if none
/// was asked.
pub(super) fn works(heard: &Heard, family: Option<Family>) -> Option<bool> {
    let meant = |server: &SocketAddr| family.is_none_or(|family| family_of(server) == family);
    if heard.direct.iter().any(meant) {
        return Some(true);
    }
    if !heard.asked.iter().any(|(_, server)| meant(server)) {
        return None;
    }
    Some(heard.answers.iter().any(|answer| meant(&answer.server)))
}

/// One entry per family that a relay was asked by; of several addresses, the one that answered soonest.
pub(super) fn udp(heard: &Heard, url: &str) -> Vec<Udp> {
    [Family::Ipv4, Family::Ipv6]
        .into_iter()
        .filter_map(|family| {
            let of = |server: &SocketAddr| family_of(server) == family;
            let servers: Vec<SocketAddr> =
                heard.asked.iter().filter(|(asked, at)| asked == url && of(at)).map(|(_, at)| *at).collect();
            let answers = heard.answers.iter().filter(|answer| servers.contains(&answer.server));
            let rtt = answers.map(|answer| answer.rtt).min();
            (!servers.is_empty()).then(|| Udp { family, rtt_ms: rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0) })
        })
        .collect()
}

/// The NAT before this machine's IPv4 addresses `own`.
pub(super) fn nat(own: &[IpAddr], heard: &Heard) -> Nat {
    let answers: Vec<&Answer> = heard.answers.iter().filter(|answer| answer.server.is_ipv4()).collect();
    let untranslated =
        |answer: &&Answer| own.contains(&answer.mapped.ip()) && Some(answer.mapped.port()) == heard.port;
    let mapping = if !answers.is_empty() && answers.iter().all(untranslated) {
        Mapping::NoNat
    } else {
        mapping(&answers)
    };
    let kind = match mapping {
        Mapping::NoNat => Some(NatKind::Open),
        // A mapping that depends on the address alone is rare, and is taken for easy by the data path too.
        Mapping::EndpointIndependent | Mapping::PortIndependent => Some(NatKind::Easy),
        Mapping::AddressDependent | Mapping::AddressAndPortDependent | Mapping::Dependent => {
            Some(NatKind::Hard)
        }
        Mapping::Unknown => None,
    };
    let port_kept = heard.port.filter(|_| !answers.is_empty());
    let port_kept = port_kept.map(|port| answers.iter().all(|answer| answer.mapped.port() == port));
    Nat { mapping, kind, port_kept }
}

/// What several servers say of one port. Two of them must differ in what the mapping might depend on.
fn mapping(answers: &[&Answer]) -> Mapping {
    let pairs = || answers.iter().enumerate().flat_map(|(i, a)| answers[i + 1..].iter().map(move |b| (a, b)));
    // By whether each pair of servers was shown one outer port.
    let mut at_one_address = pairs().filter(|(a, b)| a.server.ip() == b.server.ip());
    let mut apart = pairs().filter(|(a, b)| a.server.ip() != b.server.ip()).peekable();
    let same = |(a, b): (&&Answer, &&Answer)| a.mapped == b.mapped;
    let by_port = at_one_address.next().map(|first| same(first) && at_one_address.all(same));
    let by_address = apart.peek().is_some().then(|| apart.all(same));
    match (by_port, by_address) {
        (Some(false), _) => Mapping::AddressAndPortDependent,
        (Some(true), Some(false)) => Mapping::AddressDependent,
        (None, Some(false)) => Mapping::Dependent,
        (_, Some(true)) => Mapping::EndpointIndependent,
        (Some(true), None) => Mapping::PortIndependent,
        (None, None) => Mapping::Unknown,
    }
}

/// Whether this machine's clock can be right, by the days that relays have.
pub(super) fn clock(days: impl Iterator<Item = u32>, now: u64) -> Option<Clock> {
    let own = calendar::days(now);
    days.map(|day| if own.contains(&day) { Clock::Right } else { Clock::Wrong })
        .reduce(|a, b| if a == Clock::Right { a } else { b })
}

/// Whether something answers in the place of servers none of which was itself.
pub(super) fn portal<'a>(redirected: bool, servers: impl Iterator<Item = (&'a str, ServerState)>) -> Portal {
    if redirected {
        return Portal::Redirect;
    }
    let (mut hosts, mut all_strangers) = (Vec::new(), true);
    for (url, state) in servers {
        match state {
            ServerState::Stranger => hosts.extend(host_and_port(url).map(|(host, _)| host)),
            _ => all_strangers = false,
        }
    }
    hosts.sort_unstable();
    hosts.dedup();
    // One server with another key is another server; all of them at once are somebody in between.
    if all_strangers && hosts.len() > 1 { Portal::Certificate } else { Portal::Unknown }
}

/// Whether the head of an HTTP answer sends a browser to another host, or says that a login is wanted (RFC 6585,
/// section 6).
pub(super) fn leads_away(head: &[u8], host: &str) -> bool {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status = lines.next().filter(|line| line.starts_with("HTTP/1."));
    match status.and_then(|line| line.split(' ').nth(1)) {
        Some("511") => true,
        Some(code) if code.len() == 3 && code.starts_with('3') => {
            let location = lines.find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("location").then(|| value.trim())
            });
            let led_to = location.and_then(|location| Url::parse(location).ok());
            led_to.is_some_and(|url| {
                url.host_str().is_some_and(|to| to.trim_start_matches('[').trim_end_matches(']') != host)
            })
        }
        _ => false,
    }
}

fn family_of(server: &SocketAddr) -> Family {
    if server.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Asked from port 4000: what each server saw.
    fn heard(answers: &[(&str, &str)]) -> Heard {
        let answers = answers.iter().map(|(server, mapped)| Answer {
            server: server.parse().unwrap(),
            mapped: mapped.parse().unwrap(),
            rtt: Duration::from_millis(10),
        });
        let answers: Vec<Answer> = answers.collect();
        let asked = answers.iter().map(|a| ("https://r.example".to_owned(), a.server)).collect();
        Heard { asked, answers, port: Some(4_000), direct: Vec::new() }
    }

    fn judged(answers: &[(&str, &str)]) -> (Mapping, Option<NatKind>, Option<bool>) {
        let own: [IpAddr; 2] = ["192.168.1.10".parse().unwrap(), "198.51.100.7".parse().unwrap()];
        let Nat { mapping, kind, port_kept } = nat(&own, &heard(answers));
        (mapping, kind, port_kept)
    }

    const A: &str = "192.0.2.1:3478";
    const A2: &str = "192.0.2.1:3479";
    const B: &str = "192.0.2.2:3478";

    #[test]
    fn what_servers_saw_is_told_in_the_terms_of_rfc_4787() {
        use Mapping::{
            AddressAndPortDependent, AddressDependent, Dependent, EndpointIndependent, NoNat,
            PortIndependent, Unknown,
        };
        const SAME: &str = "203.0.113.7:4000";
        const MOVED: &str = "203.0.113.7:5000";
        let easy = (EndpointIndependent, Some(NatKind::Easy));
        for (answers, mapping, port_kept) in [
            (&[][..], (Unknown, None), None),
            (&[(A, SAME)], (Unknown, None), Some(true)),
            (&[(A, SAME), (A2, SAME)], (PortIndependent, Some(NatKind::Easy)), Some(true)),
            (&[(A, SAME), (B, SAME)], easy, Some(true)),
            (&[(A, MOVED), (B, MOVED)], easy, Some(false)),
            (&[(A, MOVED), (A2, MOVED), (B, MOVED)], easy, Some(false)),
            (&[(A, SAME), (B, MOVED)], (Dependent, Some(NatKind::Hard)), Some(false)),
            (&[(A, SAME), (A2, SAME), (B, MOVED)], (AddressDependent, Some(NatKind::Hard)), Some(false)),
            (&[(A, SAME), (A2, MOVED)], (AddressAndPortDependent, Some(NatKind::Hard)), Some(false)),
            (&[(A, "198.51.100.7:4000")], (NoNat, Some(NatKind::Open)), Some(true)),
            (
                &[(A, "198.51.100.7:4000"), (B, "198.51.100.7:5000")],
                (Dependent, Some(NatKind::Hard)),
                Some(false),
            ),
        ] {
            assert_eq!(judged(answers), (mapping.0, mapping.1, port_kept), "{answers:?}");
        }
    }

    #[test]
    fn a_mapping_of_ipv6_says_nothing_of_the_nat() {
        let answers = [("[2001:db8::1]:3478", "[2001:db8::9]:5000")];
        assert_eq!(judged(&answers).0, Mapping::Unknown);
        assert_eq!(works(&heard(&answers), Some(Family::Ipv4)), None);
        assert_eq!(works(&heard(&answers), Some(Family::Ipv6)), Some(true));
    }

    #[test]
    fn a_server_that_was_asked_and_is_silent_is_not_one_that_was_not_asked() {
        let mut heard = heard(&[(A, "203.0.113.7:4000")]);
        heard.asked.push(("https://s.example".into(), B.parse().unwrap()));
        assert_eq!(udp(&heard, "https://r.example"), [Udp { family: Family::Ipv4, rtt_ms: Some(10.0) }]);
        assert_eq!(udp(&heard, "https://s.example"), [Udp { family: Family::Ipv4, rtt_ms: None }]);
        assert_eq!(udp(&heard, "https://t.example"), []);
    }

    #[test]
    fn a_direct_path_speaks_for_udp_where_no_server_answers() {
        let mut heard = heard(&[]);
        heard.asked.push(("https://s.example".into(), B.parse().unwrap()));
        assert_eq!(works(&heard, None), Some(false));
        heard.direct.push("[2001:db8::5]:51820".parse().unwrap());
        assert_eq!(works(&heard, None), Some(true));
        assert_eq!(works(&heard, Some(Family::Ipv6)), Some(true));
        assert_eq!(
            works(&heard, Some(Family::Ipv4)),
            Some(false),
            "the other family shows nothing of this one"
        );
        assert_eq!(udp(&heard, "https://s.example"), [Udp { family: Family::Ipv4, rtt_ms: None }]);
    }

    #[test]
    fn one_relay_of_the_same_day_speaks_for_the_clock() {
        let noon = 20_000 * 86_400 + 43_200;
        assert_eq!(clock([].into_iter(), noon), None);
        assert_eq!(clock([20_000].into_iter(), noon), Some(Clock::Right));
        assert_eq!(clock([20_001].into_iter(), noon), Some(Clock::Wrong));
        assert_eq!(clock([20_001, 20_000].into_iter(), noon), Some(Clock::Right));
    }

    #[test]
    fn a_portal_is_who_answers_for_all_or_leads_away() {
        use ServerState::{Silent, Stranger};
        let judge = |servers: &[(&'static str, ServerState)]| portal(false, servers.iter().copied());
        let (first, second) = ("https://a.example", "https://b.example");
        assert_eq!(judge(&[(first, Stranger), (second, Stranger)]), Portal::Certificate);
        assert_eq!(judge(&[(first, Stranger)]), Portal::Unknown);
        assert_eq!(judge(&[(first, Stranger), ("https://a.example:8443", Stranger)]), Portal::Unknown);
        assert_eq!(judge(&[(first, Stranger), (second, Silent)]), Portal::Unknown);
        assert_eq!(portal(true, [(first, Silent)].into_iter()), Portal::Redirect);
    }

    #[test]
    fn only_another_host_is_elsewhere() {
        for (head, away) in [
            ("HTTP/1.1 302 Found\r\nLocation: http://login.hotel/?from=x\r\n\r\n", true),
            ("HTTP/1.0 307 x\r\nlocation:https://192.168.1.1:8443/\r\n\r\n", true),
            ("HTTP/1.1 511 Network Authentication Required\r\n\r\n", true),
            ("HTTP/1.1 301 Moved\r\nLocation: https://vpn.example/\r\n\r\n", false),
            ("HTTP/1.1 301 Moved\r\nLocation: /login\r\n\r\n", false),
            ("HTTP/1.1 301 Moved\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nLocation: http://login.hotel/\r\n\r\n", false),
            ("SSH-2.0-x", false),
            ("", false),
        ] {
            assert_eq!(leads_away(head.as_bytes(), "vpn.example"), away, "{head}");
        }
    }
}
