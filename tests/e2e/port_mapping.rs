//! Routers that open a port for whoever asks: what no NAT lets through otherwise goes straight.

use std::time::Duration;

use tests::{Lab, Node, wait};

use crate::world::World;

/// The strictest NAT there is, four times: by each protocol, and by all while nobody may ask.
const TOPOLOGY: &str = "cloud=none,pcp=hard:igd=pcp,pmp=hard:igd=natpmp,upnp=hard:igd=upnp,shy=hard:igd=1";
const ASKING: [&str; 3] = ["pcp", "pmp", "upnp"];

/// For the search by the slowest protocol, after two that nobody answers.
const FOUND: Duration = Duration::from_secs(10);

/// What a site's router maps.
fn mapped(lab: &Lab, site: &str) -> String {
    lab.natlab(&["exec", &format!("router:{site}"), "--", "nft", "list", "chain", "inet", "igd", "pre"])
        .unwrap()
}

#[test]
fn a_port_of_the_router_by_any_protocol_makes_hard_nats_direct_and_is_given_back() {
    let lab = Lab::up(TOPOLOGY).unwrap();
    let mut world = World::of(lab.clone(), &["cloud-1", "pcp-1", "pmp-1", "upnp-1"]);
    let mut shy = Node::prepare(&lab.host("shy-1"));
    shy.options(&["--no-port-mapping"]);
    shy.start_again().unwrap();
    shy.join(&world.node("cloud-1").invite(&[]).unwrap()).unwrap();
    world.nodes.push(shy);
    world.settle();

    for site in ASKING {
        wait::until(&format!("the router of {site} maps the port"), FOUND, || {
            mapped(&lab, site).contains("dport 51820")
        })
        .unwrap();
        let took = world.becomes_direct("shy-1", &format!("{site}-1"), wait::SOON);
        println!("{site}: direct after {took:.2?}");
    }
    assert!(!mapped(&lab, "shy").contains("dport"), "nobody asked");

    for site in ASKING {
        world.node(&format!("{site}-1")).ask(&["down"]).unwrap();
        let rules = mapped(&lab, site);
        assert!(!rules.contains("dport"), "{site} gives back: {rules}");
    }
    // And asks again.
    world.node("pcp-1").ask(&["up"]).unwrap();
    wait::until("the port is mapped again", FOUND, || mapped(&lab, "pcp").contains("dport 51820")).unwrap();
}
