//! `netcheck`.

use proto::api::{
    Addresses, Answer, Checked, Clock, ErrorCode, Family, Mapping, MappingProtocol, MappingState, Nat,
    NatKind, Netcheck, PortMapping, Portal, Server, ServerState, Udp,
};
use serde_json::json;

use crate::stage::Vpnd;

fn well() -> Netcheck {
    let server = |url: &str, udp: Vec<Udp>| Server {
        url: url.to_owned(),
        state: ServerState::Answers,
        connect_ms: Some(36.5),
        rtt_ms: Some(12.1),
        udp,
    };
    let answered =
        vec![Udp { family: Family::Ipv4, rtt_ms: Some(11.8) }, Udp { family: Family::Ipv6, rtt_ms: None }];
    Netcheck {
        udp: Some(true),
        nat: Nat { mapping: Mapping::EndpointIndependent, kind: Some(NatKind::Easy), port_kept: Some(true) },
        ipv4: Addresses {
            local: vec!["192.168.1.10".parse().unwrap()],
            public: vec!["203.0.113.7".parse().unwrap()],
            works: Some(true),
        },
        ipv6: Addresses {
            local: vec!["2001:db8::10".parse().unwrap()],
            public: Vec::new(),
            works: Some(false),
        },
        port_mapping: PortMapping {
            state: MappingState::Answers,
            protocols: vec![MappingProtocol::Pcp, MappingProtocol::Upnp],
        },
        captive_portal: Portal::None,
        proxy: None,
        clock: Some(Clock::Right),
        networks: vec![Checked {
            name: Some("home".to_owned()),
            mapped: Some("203.0.113.7:51820".parse().unwrap()),
            coordinator: server("https://vpn.example", Vec::new()),
            relays: vec![server("https://relay.example", answered)],
        }],
    }
}

#[test]
fn what_was_measured_is_told_line_by_line_and_server_by_server() {
    let vpnd = Vpnd::answering(Answer::Netcheck(well()));
    assert_eq!(
        vpnd.run(&["netcheck"]).done(),
        "\
UDP             works
NAT             easy (endpoint-independent mapping): 192.168.1.10 is seen as 203.0.113.7, port kept
IPv6            2001:db8::10, and no relay answers by it
port mapping    the router answers PCP, UPnP
captive portal  none
proxy           none

home
  The router leads 203.0.113.7:51820 here.
  SERVER                 IS           CONNECT      TLS  UDP IPv4   UDP IPv6  STATE
  https://vpn.example    coordinator  36.5 ms  12.1 ms         -          -  answers
  https://relay.example  relay        36.5 ms  12.1 ms   11.8 ms  no answer  answers
"
    );
    assert_eq!(vpnd.asked()["cmd"], json!({"netcheck": {}}));
}

#[test]
fn the_document_is_what_vpnd_said() {
    let document = Vpnd::answering(Answer::Netcheck(well())).run(&["--json", "netcheck"]).json();
    assert_eq!(document, serde_json::to_value(well()).unwrap());
    let manual = include_str!("../../../docs/json.md").split("## netcheck").nth(1).unwrap();
    let shown: serde_json::Value =
        serde_json::from_str(manual.split("```json\n").nth(1).unwrap().split("```").next().unwrap()).unwrap();
    assert_eq!(document, shown, "the document in the manual");
}

#[test]
fn where_nothing_works_it_says_what_it_can() {
    let nothing = Netcheck {
        udp: None,
        nat: Nat { mapping: Mapping::Unknown, kind: None, port_kept: None },
        ipv4: Addresses::default(),
        ipv6: Addresses::default(),
        port_mapping: PortMapping { state: MappingState::Off, protocols: Vec::new() },
        captive_portal: Portal::Unknown,
        proxy: Some("proxy.example:3128".to_owned()),
        clock: None,
        networks: Vec::new(),
    };
    let run = Vpnd::answering(Answer::Netcheck(nothing)).run(&["netcheck"]);
    assert_eq!(
        run.done(),
        "\
UDP             unknown: there is no relay to ask
NAT             unknown (it takes answers of two STUN servers to tell)
IPv6            none: this machine has no global address
port mapping    off (--no-port-mapping)
captive portal  unknown: no server answered
proxy           proxy.example:3128

This machine knows no coordinator and no relay to ask.
"
    );
    assert_eq!(Vpnd::failing(ErrorCode::NotFound).run(&["netcheck", "--network", "x"]).code, 2);
}

#[test]
fn what_udp_does_is_told_by_who_answers() {
    let line = |udp: bool, there: ServerState| {
        let mut measured = Netcheck { udp: Some(udp), ..well() };
        let relay = &mut measured.networks[0].relays[0];
        relay.state = there;
        relay.udp[0].rtt_ms = None;
        let run = Vpnd::answering(Answer::Netcheck(measured)).run(&["netcheck"]);
        run.done().lines().next().unwrap().strip_prefix("UDP             ").unwrap().to_owned()
    };
    let directly = "works, by a direct path; no relay's STUN server answers";
    assert_eq!(line(true, ServerState::Answers), directly);
    assert_eq!(line(true, ServerState::Silent), directly);
    let blocked = "blocked, here or at the relays: no STUN server answers";
    assert_eq!(line(false, ServerState::Answers), blocked);
    assert_eq!(line(false, ServerState::Silent), "unknown: no relay answers, whether over UDP or TCP");
}

#[test]
fn words_of_a_newer_vpnd_are_read_as_unknown() {
    let mut document = serde_json::to_value(well()).unwrap();
    document["nat"]["mapping"] = json!("quantum");
    document["networks"][0]["coordinator"]["state"] = json!("asleep");
    document["captive_portal"] = json!("polite");
    let read: Netcheck = serde_json::from_value(document).unwrap();
    assert!(read.nat.mapping == Mapping::Unknown && read.captive_portal == Portal::Unknown);
    assert!(read.networks[0].coordinator.state == ServerState::Other);
}
