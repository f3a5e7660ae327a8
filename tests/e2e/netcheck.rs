//! `vpnctl netcheck`: what each kind of network allows, told apart.

use std::{
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{Coordinator, Lab, Node, process::Process, wait};

/// Public, behind a home router that opens ports, behind a strict NAT, where UDP is blocked, behind a proxy.
const TOPOLOGY: &str =
    "cloud=none:v6=1,home=easy:2:igd=pcp,tower=hard,cafe=udpblocked,works=blocked,@servers=2";

/// It says 5 seconds; the rest is for starting a process on a busy machine.
const BOUND: Duration = Duration::from_secs(7);

/// As a network's login page does: every plain request is led to it.
pub(crate) const PORTAL: &str = "
import http.server
class Portal(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(302)
        self.send_header('Location', 'http://login.hotel.example/')
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(('', 8080), Portal).serve_forever()
";

/// It says 8 seconds where the way is long.
const BOUND_AFAR: Duration = Duration::from_secs(10);

/// What a machine finds, and that it does not take long.
fn checked(node: &Node) -> Value {
    checked_within(node, BOUND)
}

fn checked_from_afar(node: &Node) -> Value {
    checked_within(node, BOUND_AFAR)
}

fn checked_within(node: &Node, bound: Duration) -> Value {
    let began = Instant::now();
    let found = node.ask(&["netcheck"]).unwrap();
    assert!(began.elapsed() < bound, "{} took {:.1?}", node.name(), began.elapsed());
    found
}

#[test]
fn each_network_is_told_for_what_it_is_within_five_seconds() {
    let lab = Lab::up(TOPOLOGY).unwrap();
    let mut coordinator = Coordinator::start_called(&lab.host("srv"), "srv.lab").unwrap();
    let _relay = coordinator.start_relay_called(&lab.host("srv2"), "srv2.lab").unwrap();
    // Before there are other addresses than those of the underlay.
    let public = lab.host("cloud-1");
    let public = (public.ipv4().unwrap(), public.ipv6().unwrap());
    let node = |name: &str| Node::start(&lab.host(name)).unwrap();
    let (cloud, home, tower, cafe) = (node("cloud-1"), node("home-1"), node("tower-1"), node("cafe-1"));
    let mut works = Node::prepare(&lab.host("works-1"));
    let proxy = works.host().proxy().unwrap();
    works.options(&["--proxy", &proxy]);
    works.start_again().unwrap();
    cloud.create_account("ann", &coordinator.enrol().unwrap()).unwrap();
    cloud.create_network("home").unwrap();
    let tokens: Vec<String> = (0..4).map(|_| cloud.invite(&[]).unwrap()).collect();
    thread::scope(|scope| {
        for (other, token) in [&home, &tower, &cafe, &works].into_iter().zip(&tokens) {
            scope.spawn(move || other.join(token).unwrap());
        }
    });
    let alone = node("home-2");

    thread::scope(|scope| {
        scope.spawn(|| {
            let found = checked(&cloud);
            assert_eq!(
                found["nat"],
                json!({"mapping": "no_nat", "kind": "open", "port_kept": true}),
                "{found}"
            );
            assert_eq!((&found["udp"], &found["ipv6"]["works"]), (&json!(true), &json!(true)), "{found}");
            assert_eq!(found["ipv4"]["public"], json!([public.0]));
            assert_eq!(found["ipv6"]["public"], json!([public.1]));
            assert_eq!(found["port_mapping"], json!({"state": "not_needed", "protocols": []}));
            assert_eq!((&found["captive_portal"], &found["clock"]), (&json!("none"), &json!("right")));
            let network = &found["networks"][0];
            assert_eq!(
                (&network["name"], &network["coordinator"]["state"]),
                (&json!("home"), &json!("answers"))
            );
            let relays = network["relays"].as_array().unwrap();
            let urls: Vec<&Value> = relays.iter().map(|relay| &relay["url"]).collect();
            assert_eq!(urls, ["https://srv.lab", "https://srv2.lab"]);
            for relay in relays {
                assert_eq!(relay["state"], "answers");
                let times = [
                    &relay["connect_ms"],
                    &relay["rtt_ms"],
                    &relay["udp"][0]["rtt_ms"],
                    &relay["udp"][1]["rtt_ms"],
                ];
                assert!(times.iter().all(|ms| ms.as_f64().is_some_and(|ms| ms > 0.0)), "{relay}");
            }
        });
        scope.spawn(|| {
            wait::until("the router has opened a port", Duration::from_secs(10), || {
                home.ask(&["netcheck"]).is_ok_and(|found| found["networks"][0]["mapped"].is_string())
            })
            .unwrap();
            let found = checked(&home);
            let easy = json!({"mapping": "endpoint_independent", "kind": "easy", "port_kept": true});
            assert_eq!(found["nat"], easy, "{found}");
            assert_ne!(found["ipv4"]["local"], found["ipv4"]["public"]);
            assert_eq!(found["port_mapping"], json!({"state": "answers", "protocols": ["pcp"]}));
        });
        scope.spawn(|| {
            let found = checked(&tower);
            assert_eq!((&found["nat"]["kind"], &found["udp"]), (&json!("hard"), &json!(true)), "{found}");
            assert_eq!(found["port_mapping"]["state"], "none");
            behind_a_login_page(&tower);
        });
        scope.spawn(|| {
            let found = checked(&cafe);
            assert_eq!(
                (&found["udp"], &found["nat"]["mapping"]),
                (&json!(false), &json!("unknown")),
                "{found}"
            );
            let relay = &found["networks"][0]["relays"][0];
            assert_eq!(
                (&relay["state"], &relay["udp"][0]),
                (&json!("answers"), &json!({"family": "ipv4", "rtt_ms": null}))
            );
            cut_off(&lab, &cafe);
        });
        scope.spawn(|| {
            let found = checked(&works);
            assert_eq!(found["proxy"], proxy.strip_prefix("http://").unwrap());
            assert_eq!(found["networks"][0]["coordinator"]["state"], "answers", "{found}");
            assert_eq!(found["networks"][0]["relays"][1]["state"], "answers", "{found}");
        });
        scope.spawn(|| {
            let found = checked(&alone);
            assert_eq!(
                (&found["networks"], &found["udp"]),
                (&json!([]), &json!(null)),
                "in no network: {found}"
            );
            assert_eq!(found["port_mapping"]["protocols"], json!(["pcp"]));
        });
    });
}

/// A network that asks for a login first: whatever is plain is led to its page, whatever is not gets no answer.
fn behind_a_login_page(node: &Node) {
    let host = node.host();
    let script = host.folder().join("portal.py");
    fs::write(&script, PORTAL).unwrap();
    let mut serving = host.command("python3").unwrap();
    serving.arg(&script).stdin(Stdio::null());
    let _portal = Process::start("portal", &mut serving, host.folder().join("portal.log")).unwrap();
    let led = "type nat hook output priority -100; tcp dport { 80, 443 } redirect to :8080;";
    host.run("nft", &[&format!("table ip portal {{ chain out {{ {led} }}; }}")]).unwrap();
    wait::until("the portal answers", wait::SOON, || {
        let answered = host.output("curl", &["-s", "-o", "/dev/null", "http://45.255.1.2/"]);
        answered.is_ok_and(|output| output.status.success())
    })
    .unwrap();
    let found = checked(node);
    assert_eq!(found["captive_portal"], "redirect", "{found}");
    assert_eq!(found["networks"][0]["relays"][1]["state"], "stranger", "{found}");
}

/// Nothing gets through at all.
fn cut_off(lab: &Lab, node: &Node) {
    lab.natlab(&["cut", "cafe"]).unwrap();
    let found = checked(node);
    assert_eq!((&found["captive_portal"], &found["udp"]), (&json!("unknown"), &json!(false)), "{found}");
    assert_eq!(found["networks"][0]["coordinator"]["state"], "silent", "{found}");
}

/// Two satellites away; and one away, where one packet in twenty gets lost in each direction.
#[test]
fn servers_that_are_far_away_answer() {
    let lab = Lab::up("far=easy,@servers=2").unwrap();
    let mut coordinator = Coordinator::start_called(&lab.host("srv"), "srv.lab").unwrap();
    let _relay = coordinator.start_relay_called(&lab.host("srv2"), "srv2.lab").unwrap();
    let node = Node::start(&lab.host("far-1")).unwrap();
    node.create_account("ann", &coordinator.enrol().unwrap()).unwrap();
    node.create_network("home").unwrap();
    for (delay, loss) in [(500, 0), (300, 50)] {
        lab.natlab(&["delay", "far", &delay.to_string()]).unwrap();
        lab.natlab(&["loss", "far", &loss.to_string()]).unwrap();
        let found = checked_from_afar(&node);
        let network = &found["networks"][0];
        let relays = network["relays"].as_array().unwrap();
        assert_eq!((&network["coordinator"]["state"], relays.len()), (&json!("answers"), 2), "{found}");
        for relay in relays {
            assert_eq!(relay["state"], "answers", "{found}");
            assert!(relay["rtt_ms"].as_f64().is_some_and(|rtt| rtt >= f64::from(2 * delay)), "{found}");
        }
        assert_eq!(found["udp"], true, "{found}");
    }
}

/// What is far away and has fallen silent is told apart from what answers, and does not take for ever.
#[test]
fn a_silent_server_among_far_ones_is_named() {
    let lab = Lab::up("far=easy,@servers=2").unwrap();
    let mut coordinator = Coordinator::start_called(&lab.host("srv"), "srv.lab").unwrap();
    let _relay = coordinator.start_relay_called(&lab.host("srv2"), "srv2.lab").unwrap();
    let node = Node::start(&lab.host("far-1")).unwrap();
    node.create_account("ann", &coordinator.enrol().unwrap()).unwrap();
    node.create_network("home").unwrap();
    lab.natlab(&["delay", "far", "300"]).unwrap();
    lab.natlab(&["cut", "srv2"]).unwrap();
    let found = checked_from_afar(&node);
    let network = &found["networks"][0];
    let states = [&network["coordinator"], &network["relays"][0], &network["relays"][1]];
    let states = states.map(|server| (server["url"].as_str().unwrap(), server["state"].as_str().unwrap()));
    for (url, state) in states {
        assert_eq!(state, if url.contains("srv2") { "silent" } else { "answers" }, "{url}: {found}");
    }
}
