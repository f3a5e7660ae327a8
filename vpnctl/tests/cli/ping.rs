//! `ping`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    process::Command,
    sync::mpsc::channel,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use proto::api::{Answer, ErrorCode, Event, Path, Reply, line};
use serde_json::json;

use crate::stage::{Run, Vpnd, vpnctl};

fn pong(seq: u32, rtt_ms: f64, path: Path) -> Reply {
    let endpoint = (path == Path::Direct).then(|| "203.0.113.5:51820".parse().unwrap());
    Reply::Event(Event::Pong { seq, rtt_ms, path, endpoint })
}

#[test]
fn each_reply_tells_its_path_and_time_and_a_summary_ends_it() {
    let vpnd = Vpnd::saying(&[
        pong(1, 48.0, Path::Relay),
        Reply::Event(Event::Lost { seq: 2 }),
        pong(3, 12.0, Path::Direct),
        pong(4, 0.5, Path::Direct),
        Reply::Ok(Answer::Done {}),
    ]);
    assert_eq!(
        vpnd.run(&["ping", "nas", "-c", "4", "-i", "200ms"]).done(),
        "nas: 1  48.0 ms  relay\n\
         nas: 2  no reply\n\
         nas: 3  12.0 ms  direct 203.0.113.5:51820\n\
         --- path: relay -> direct (IPv4), 48.0 ms -> 12.0 ms\n\
         nas: 4  0.50 ms  direct 203.0.113.5:51820\n\
         --- nas: 4 sent, 3 received, 25% lost; 2 direct, 1 by relay\n\
         --- fastest 0.50 ms, mean 20.2 ms, slowest 48.0 ms; path at the end: direct (IPv4)\n"
    );
    assert_eq!(vpnd.asked()["cmd"], json!({"ping": {"name": "nas", "count": 4, "interval_ms": 200}}));
}

#[test]
fn the_document_has_the_replies_and_the_summary() {
    let vpnd = Vpnd::saying(&[
        pong(1, 48.0, Path::Relay),
        Reply::Event(Event::Lost { seq: 2 }),
        pong(3, 12.0, Path::Direct),
        Reply::Ok(Answer::Done {}),
    ]);
    assert_eq!(
        vpnd.run(&["--json", "ping", "nas"]).json(),
        json!({"name": "nas", "sent": 3, "received": 2, "loss_percent": 33.3, "min_ms": 12.0, "avg_ms": 30.0, "max_ms": 48.0,
               "path": "direct", "endpoint": "203.0.113.5:51820", "path_changes": 1,
               "replies": [{"seq": 1, "rtt_ms": 48.0, "path": "relay", "endpoint": null},
                           {"seq": 3, "rtt_ms": 12.0, "path": "direct", "endpoint": "203.0.113.5:51820"}]})
    );
    assert_eq!(vpnd.asked()["cmd"], json!({"ping": {"name": "nas", "count": 5, "interval_ms": 1000}}));
}

#[test]
fn without_any_reply_it_exits_with_1_and_still_sums_up() {
    let vpnd = Vpnd::saying(&[Reply::Event(Event::Lost { seq: 1 }), Reply::Ok(Answer::Done {})]);
    let run = vpnd.run(&["ping", "nas", "-c", "1"]);
    assert_eq!((run.code, run.err.as_str()), (1, ""));
    assert_eq!(run.out, "nas: 1  no reply\n--- nas: 1 sent, 0 received, 100% lost\n");
    let run = vpnd.run(&["ping", "nas", "-c", "1", "--json"]);
    assert_eq!((run.code, &run.json()["avg_ms"]), (1, &json!(null)));
}

#[test]
fn until_direct_ends_with_the_first_direct_answer_and_fails_without_one() {
    let vpnd = Vpnd::saying(&[
        pong(1, 48.0, Path::Relay),
        pong(2, 12.0, Path::Direct),
        pong(3, 12.0, Path::Direct),
        Reply::Ok(Answer::Done {}),
    ]);
    let run = vpnd.run(&["ping", "nas", "--until-direct"]);
    assert!(run.done().contains("--- nas: 2 sent, 2 received") && !run.out.contains("nas: 3"), "{}", run.out);
    assert_eq!(vpnd.asked()["cmd"], json!({"ping": {"name": "nas", "count": 30, "interval_ms": 1000}}));

    let vpnd = Vpnd::saying(&[pong(1, 48.0, Path::Relay), Reply::Ok(Answer::Done {})]);
    let run = vpnd.run(&["ping", "nas", "--until-direct", "-c", "1"]);
    assert_eq!(run.code, 1);
    assert!(run.out.ends_with("path at the end: relay\n"), "{}", run.out);
}

#[test]
fn a_direct_path_to_another_endpoint_is_a_change_too_and_is_named_by_its_network() {
    let direct = |seq: u32, endpoint: &str| {
        let endpoint = Some(endpoint.parse().unwrap());
        Reply::Event(Event::Pong { seq, rtt_ms: 2.0, path: Path::Direct, endpoint })
    };
    let vpnd = Vpnd::saying(&[
        direct(1, "203.0.113.5:51820"),
        direct(2, "[2001:db8::5]:51820"),
        direct(3, "192.168.1.5:51820"),
        direct(4, "[fd00::5]:51820"),
        Reply::Ok(Answer::Done {}),
    ]);
    let run = vpnd.run(&["ping", "nas"]);
    let changes: Vec<&str> = run.done().lines().filter_map(|line| line.strip_prefix("--- path: ")).collect();
    assert_eq!(
        changes,
        [
            "direct (IPv4) -> direct (IPv6), 2.0 ms -> 2.0 ms",
            "direct (IPv6) -> direct (LAN), 2.0 ms -> 2.0 ms",
            "direct (LAN) -> direct (LAN), 2.0 ms -> 2.0 ms",
        ]
    );
}

#[test]
fn an_unknown_machine_is_an_error() {
    let run = Vpnd::failing(ErrorCode::NotFound).run(&["ping", "nobody"]);
    assert_eq!((run.code, run.out.as_str()), (2, ""));
}

#[test]
fn a_vpnd_that_dies_while_pinging_is_an_error_and_not_a_summary() {
    let run = Vpnd::saying(&[pong(1, 1.0, Path::Direct)]).run(&["ping", "nas"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("ended the conversation"), "{}", run.err);
}

#[test]
fn an_interrupt_ends_it_with_a_summary_and_hangs_up() {
    let (tell, hung_up) = channel();
    let vpnd = Vpnd::acting(move |mut stream: UnixStream| {
        stream.write_all(&line::encode(&pong(1, 1.0, Path::Direct))).unwrap();
        tell.send(stream.read(&mut [0]).unwrap()).unwrap();
    });
    let binary = env!("CARGO_BIN_EXE_vpnctl");
    // Not through setsid: the signal is for vpnctl itself.
    let mut child = Command::new(binary)
        .args(["ping", "nas", "-c", "0"])
        .env("TACET_SOCKET", vpnd.socket())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    out.read_line(&mut text).unwrap();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(text.contains("--- nas: 1 sent, 1 received, 0% lost"), "{text}");
    assert_eq!(hung_up.recv_timeout(Duration::from_secs(10)), Ok(0));
}

#[test]
fn replies_are_shown_as_they_come() {
    let (go, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let vpnd = Vpnd::acting(move |mut stream| {
        stream.write_all(&line::encode(&pong(1, 1.0, Path::Direct))).unwrap();
        wait.lock().unwrap().recv_timeout(Duration::from_secs(10)).unwrap();
        stream.write_all(&line::encode(&Reply::Ok(Answer::Done {}))).unwrap();
    });
    let mut child = vpnctl(&vpnd.socket(), &["ping", "nas"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    assert_eq!(first, "nas: 1  1.0 ms  direct 203.0.113.5:51820\n");
    go.send(()).unwrap();
    assert_eq!(Run::of(child.wait_with_output().unwrap()).code, 0);
}
