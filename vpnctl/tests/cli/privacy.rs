//! `privacy inventory`, `privacy verify`, `report`.

use proto::{
    api::{Answer, ErrorCode, NetworkState, NetworkStatus, Own, Path, Peer, Status},
    inventory::{Granularity, Held, Item, Record},
};
use serde_json::json;

use crate::stage::Vpnd;

fn record(undeclared: &[&str]) -> Record {
    let words = |text: &str| text.to_owned();
    let item = Item {
        place: words("networks/*/roster"),
        field: words("roster: machines"),
        purpose: words("so that they reach one another"),
        basis: words("contract"),
        retention: words("until removed"),
        granularity: words("none"),
        readers: words("root"),
        time: Granularity::Month,
        addresses: true,
    };
    let values = vec![words("home: nas, 10.88.14.2"), words("home: phone")];
    Record {
        component: words("vpnd"),
        place: words("/var/lib/tacet"),
        items: vec![Held { item, values }],
        undeclared: undeclared.iter().map(|place| words(place)).collect(),
    }
}

#[test]
fn the_record_is_a_table_and_a_document() {
    let vpnd = Vpnd::answering(Answer::Record(record(&[])));
    let run = vpnd.run(&["privacy", "inventory"]);
    assert!(run.done().contains(
        "WHERE              WHAT              NOW\n\
         networks/*/roster  roster: machines  home: nas, 10.88.14.2\n\
         \x20                                    home: phone\n"
    ));
    assert_eq!(vpnd.asked()["cmd"], json!({"privacy_inventory": {}}));
    let document = vpnd.run(&["privacy", "inventory", "--json"]).json();
    assert_eq!(document["items"][0]["purpose"], "so that they reach one another");
    assert_eq!(document["items"][0]["values"][1], "home: phone");
    assert_eq!(document["undeclared"], json!([]));
}

#[test]
fn more_than_is_declared_is_an_error() {
    let vpnd = Vpnd::answering(Answer::Record(record(&["log: not declared"])));
    let run = vpnd.run(&["privacy", "inventory"]);
    assert_eq!(run.code, 1);
    assert!(run.out.contains("NOT DECLARED  log: not declared"), "{}", run.out);
}

#[test]
fn verify_asks_the_kernel_and_not_vpnd() {
    let vpnd = Vpnd::failing(ErrorCode::Failed);
    let run = vpnd.run(&["privacy", "verify", "--json"]);
    if run.code == 5 {
        return; // not root: it says so, which is all that it can do
    }
    // Whoever listens here is this test, which is not vpnd and locked down in no way.
    assert_eq!(run.code, 1);
    let document = run.json();
    assert_eq!(document["ok"], false);
    let of = |point: &str| {
        let findings = document["findings"].as_array().unwrap();
        findings.iter().find(|f| f["of"] == "control" && f["point"] == point).unwrap().clone()
    };
    assert_eq!(of("program")["standing"], "broken");
    assert_eq!(of("program")["pid"], std::process::id());
    assert_eq!(of("new privileges")["standing"], "broken");
    assert!(vpnd.asked_nothing());
}

fn status() -> Status {
    let peer = |name: &str| Peer {
        name: name.to_owned(),
        ipv4: Some("10.88.14.7".parse().unwrap()),
        ipv6: "fd12:3456:789a::7".parse().unwrap(),
        path: Path::Direct,
        silent: false,
        endpoint: Some("203.0.113.5:51820".parse().unwrap()),
        rtt_ms: Some(12.4),
        mtu: 1420,
        rx_bytes: 987_654_321,
        tx_bytes: 123_456_789,
    };
    let machine = Own {
        name: "secretnas".to_owned(),
        ipv4: Some("10.88.14.2".parse().unwrap()),
        ipv6: "fd12:3456:789a::2".parse().unwrap(),
        signer: true,
    };
    let network = NetworkStatus {
        name: "secrethome".to_owned(),
        roster_name: None,
        state: NetworkState::Up,
        generation: 3,
        version: 77,
        epoch: 2,
        machine,
        peers: vec![peer("secretlaptop"), peer("secretphone")],
        warnings: Vec::new(),
        damage: None,
    };
    Status { networks: vec![network] }
}

#[test]
fn a_report_holds_states_and_counts_and_no_name_address_or_amount() {
    let vpnd = Vpnd::answering(Answer::Status(status()));
    let text = vpnd.run(&["report"]).done().to_owned();
    let document = vpnd.run(&["report", "--json"]).json();
    for shown in [&text, &document.to_string()] {
        for secret in ["secret", "10.88", "fd12", "203.0", "51820", "987654321", "123456789"] {
            // Made-up names are hexadecimal and may hold any digits.
            let made_up = |word: &&str| !word.contains("machine-") && !word.contains("network-");
            let words: Vec<&str> = shown.split([' ', '\n', ',', '"', ':']).filter(made_up).collect();
            assert!(!words.iter().any(|word| word.contains(secret)), "{secret}: {shown}");
        }
    }
    assert_eq!(document["networks"][0]["machines"].as_array().unwrap().len(), 2);
    assert_eq!(document["networks"][0]["state"], "up");
}

#[test]
fn names_in_a_report_are_others_each_time() {
    let vpnd = Vpnd::answering(Answer::Status(status()));
    let names = || {
        let network = vpnd.run(&["report", "--json"]).json()["networks"][0].clone();
        [network["name"].clone(), network["machines"][0]["name"].clone()]
    };
    let (first, second) = (names(), names());
    assert!(first[0] != second[0] && first[1] != second[1] && first[0] != first[1]);
}

#[test]
fn a_report_is_shown_before_it_is_written_and_written_if_agreed() {
    let vpnd = Vpnd::answering(Answer::Status(status()));
    let file = vpnd.dir().join("report.txt");
    let path = file.to_str().unwrap();
    let run = vpnd.run(&["report", "--output", path]);
    assert_eq!(run.code, 2, "nobody could be asked");
    assert!(run.out.starts_with("Tacet report.") && !file.exists());
    let run = vpnd.run(&["report", "--output", path, "--yes"]);
    assert_eq!(run.done(), std::fs::read_to_string(&file).unwrap());
    let run = vpnd.run(&["report", "--output", path, "--yes"]);
    assert_eq!(run.code, 1, "a file that is there stays as it is");
}

#[test]
fn a_report_is_made_without_vpnd() {
    let run = crate::stage::run(std::path::Path::new("/nonexistent/vpnd.sock"), &["report"], "");
    assert!(run.done().contains("not running"), "{}", run.out);
}
