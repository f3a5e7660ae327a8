//! A router that marks packets instead of dropping them, on the way of a tunnel (RFC 6040).

use tests::{Lab, Node};

use crate::world::{FIRST_ANSWER, World};

/// One pair meets over IPv6, the other can only over IPv4.
const SITES: &str = "a=none:v6=1,b=none:v6=1,c=none";

/// What `ping` is told to say: that its sender understands congestion, or that it does not.
const CAPABLE: &str = "2";
const NOT_CAPABLE: &str = "0";
const PINGS: u64 = 5;
/// The class of service of calls (RFC 3246).
const URGENT: &str = "0xb8";

/// A router's rules: what is capable leaves it as having met congestion.
const MARKS: &str = "table inet congestion {
    chain forward {
        type filter hook forward priority 10
        meta l4proto udp ip ecn { ect0, ect1 } ip ecn set ce
        meta l4proto udp ip6 ecn { ect0, ect1 } ip6 ecn set ce
    }
}";

/// Counts what a machine is handed out of its tunnel, by what it says.
const COUNTS: &str = "table inet seen {
    chain tunnel {
        type filter hook input priority 0
        iifname tacet0 icmp type echo-request ip ecn ce counter comment \"ce\"
        iifname tacet0 icmp type echo-request ip ecn not-ect counter comment \"none\"
        iifname tacet0 icmp type echo-request ip ecn { ect0, ect1 } counter comment \"capable\"
        iifname tacet0 icmp type echo-request ip dscp ef counter comment \"urgent\"
        meta l4proto udp ip dscp ef counter comment \"urgent outside\"
    }
}";

/// Packets that were counted under that name.
fn seen(node: &Node, comment: &str) -> u64 {
    let rules = node.host().run("nft", &["list", "chain", "inet", "seen", "tunnel"]).unwrap();
    let named = format!("comment \"{comment}\"");
    let rule = rules.lines().find(|line| line.contains(&named)).unwrap();
    let count = rule.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    count.parse().unwrap()
}

fn ping(from: &Node, to: &Node, tos: &str) {
    let (count, address) = (PINGS.to_string(), to.address("ipv4").unwrap());
    from.host().run("ping", &["-Q", tos, "-c", &count, "-i", "0.05", &address]).unwrap();
}

#[test]
fn congestion_that_a_router_marks_outside_is_seen_inside_over_both_families() {
    let world = World::of(Lab::up(SITES).unwrap(), &["a-1", "b-1", "c-1"]);
    for to in ["b-1", "c-1"] {
        world.becomes_direct("a-1", to, FIRST_ANSWER);
        let (from, node) = (world.node("a-1"), world.node(to));
        let over_v6 = from.peer(to).unwrap()["endpoint"].as_str().unwrap().starts_with('[');
        assert_eq!(over_v6, to == "b-1");
        node.host().run("nft", &[COUNTS]).unwrap();
        ping(from, node, CAPABLE);
        assert_eq!((seen(node, "capable"), seen(node, "ce")), (PINGS, 0), "nothing marked");

        let router = format!("router:{}", to.trim_end_matches("-1"));
        world.lab.natlab(&["exec", &router, "--", "nft", MARKS]).unwrap();
        ping(from, node, CAPABLE);
        assert_eq!((seen(node, "capable"), seen(node, "ce")), (PINGS, PINGS), "each was marked");
        // That leaves as it is, and no router marks it.
        let before = seen(node, "none");
        ping(from, node, NOT_CAPABLE);
        assert_eq!(seen(node, "none"), before + PINGS);
        assert_eq!(from.peer(to).unwrap()["path"], "direct");
    }
    class_of_service(world);
}

/// What tells calls from downloads is seen outside only where that was chosen.
fn class_of_service(mut world: World) {
    ping(world.node("a-1"), world.node("c-1"), URGENT);
    let counts = |world: &World| ["urgent", "urgent outside"].map(|name| seen(world.node("c-1"), name));
    assert_eq!(counts(&world), [PINGS, 0]);
    let node = world.node_mut("a-1");
    node.options(&["--show-dscp"]);
    node.stop().unwrap();
    node.start_again().unwrap();
    world.becomes_direct("a-1", "c-1", FIRST_ANSWER);
    ping(world.node("a-1"), world.node("c-1"), URGENT);
    assert_eq!(counts(&world), [2 * PINGS, PINGS]);
}
