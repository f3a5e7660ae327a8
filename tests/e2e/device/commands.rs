//! One interface, as `wg`, `wg-quick` and `ip` find it.

use std::{
    fs,
    net::UdpSocket,
    os::unix::fs::FileExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tests::{
    Host, Lab,
    process::{Process, kill_process},
    wait,
};

use super::house::{IF, Kind, PORT, Side, Terms, meet, piped, said};

#[test]
fn wg_and_wg_quick_find_an_interface_as_they_know_it() {
    let lab = Lab::up("a=none:2:v6=1").unwrap();
    let mut one = Side::new(&lab, "a-1", 1, Kind::Tacet);
    let other = Side::new(&lab, "a-2", 2, Kind::Tacet);
    set_and_show(&one, &other);
    sync(&one, &other);
    refuse(&one);
    ports(&one, &other);
    link(&one, &other);
    taken_port(&one, &other);
    any_port(&one);
    data_path(&mut one, &other);
    forget(&mut one, &other);
    ends(&mut one);
    background(&one.host);
    wg_quick(&one.host, &other);
}

fn set_and_show(one: &Side, other: &Side) {
    let (at, psk) = (other.at(true), said(Command::new("wg").arg("genpsk")));
    one.meets(other, &Terms { psk: Some(&psk), endpoint: Some(&at), keepalive: 25 });
    other.meets(one, &Terms { psk: Some(&psk), ..Terms::default() });
    one.wg(&["set", IF, "fwmark", "0x2a"]);
    one.reaches(other, wait::SOON);
    assert_eq!(one.wg(&["show", "interfaces"]).trim(), IF);
    for (what, expected) in [
        ("public-key", one.public.as_str()),
        ("listen-port", &PORT.to_string()),
        ("fwmark", "0x2a"),
        ("peers", &other.public),
    ] {
        assert_eq!(one.wg(&["show", IF, what]).trim(), expected, "{what}");
    }
    for (what, expected) in [
        ("preshared-keys", psk.as_str()),
        ("endpoints", &at),
        ("persistent-keepalive", "25"),
        ("allowed-ips", &format!("{}/32 {}/128", other.inner_v4(), other.inner_v6())),
    ] {
        assert_eq!(one.shows(what, other), expected, "{what}");
    }
    let (rx, tx) = one.transfer(other);
    assert!(rx > 0 && tx > 0);
    let since = one.shows("latest-handshakes", other).parse::<u64>().unwrap();
    let now = said(Command::new("date").arg("+%s")).parse::<u64>().unwrap();
    assert!(now - since < 60, "{since} is not just now, {now}");
    assert_eq!(one.shows("latest-handshakes", other).parse::<u64>().unwrap(), since, "it stands still");
    one.wg(&["set", IF, "fwmark", "0"]);
    assert_eq!(one.wg(&["show", IF, "fwmark"]).trim(), "off");
}

/// What `wg` prints it takes, and only what differs changes: the session stays.
fn sync(one: &Side, other: &Side) {
    let config = one.wg(&["showconf", IF]);
    let handshake = one.shows("latest-handshakes", other);
    let third = piped("wg pubkey", &said(Command::new("wg").arg("genkey")));
    let more = format!("{config}\n[Peer]\nPublicKey = {third}\nAllowedIPs = 10.9.0.0/16\n");
    fs::write(one.host.folder().join("more.conf"), more).unwrap();
    fs::write(one.host.folder().join("as.conf"), &config).unwrap();
    one.wg(&["syncconf", IF, "more.conf"]);
    assert!(one.wg(&["show", IF, "allowed-ips"]).contains(&format!("{third}\t10.9.0.0/16")));
    one.wg(&["syncconf", IF, "as.conf"]);
    assert!(!one.wg(&["show", IF, "peers"]).contains(&third));
    one.wg(&["addconf", IF, "more.conf"]);
    one.wg(&["setconf", IF, "as.conf"]);
    assert_eq!(one.wg(&["showconf", IF]), config);
    assert_eq!(one.shows("latest-handshakes", other), handshake);
    assert!(one.pings(&other.inner_v4().to_string(), Duration::from_secs(1)));
}

/// The port of another program, and a request of nonsense.
fn refuse(one: &Side) {
    let taken = one.host.inside(|| UdpSocket::bind("0.0.0.0:51900").unwrap()).unwrap();
    let output = one.try_wg(&["set", IF, "listen-port", "51900", "fwmark", "9"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("Address already in use"));
    assert_eq!(one.wg(&["show", IF, "listen-port"]).trim(), PORT.to_string());
    assert_eq!(one.wg(&["show", IF, "fwmark"]).trim(), "off", "nothing of the request was done");
    drop(taken);
    let ask = "import socket,sys;s=socket.socket(socket.AF_UNIX);s.connect('/var/run/wireguard/wg0.sock')\n\
               s.sendall(b'set=1\\nlisten_port=1\\nallowed_ip=x\\n\\nget=1\\n\\n');s.shutdown(1)\n\
               print(b''.join(iter(lambda:s.recv(9999),b'')).decode())";
    let answers = said(one.command("python3").args(["-c", ask]));
    assert!(answers.starts_with("errno=-22\n\nprivate_key=") && answers.ends_with("errno=0"), "{answers}");
    assert_eq!(one.wg(&["show", IF, "listen-port"]).trim(), PORT.to_string());
}

/// The port moves while packets pass, and the peer follows.
fn ports(one: &Side, other: &Side) {
    let handshake = one.shows("latest-handshakes", other);
    one.wg(&["set", IF, "listen-port", "443"]);
    assert!(one.pings(&other.inner_v4().to_string(), Duration::from_secs(1)));
    assert!(other.shows("endpoints", one).ends_with(":443"));
    let bound = one.host.run("ss", &["-Huln"]).unwrap();
    assert!(bound.contains(":443 ") && !bound.contains(&format!(":{PORT} ")), "{bound}");
    assert_eq!(one.shows("latest-handshakes", other), handshake);
    // More often than a data path has sockets for.
    for port in 52_000..52_035 {
        one.wg(&["set", IF, "listen-port", &port.to_string()]);
    }
    assert!(one.host.run("ss", &["-Huln"]).unwrap().contains(":52034 "));
    one.reaches(other, wait::SOON);
    assert!(one.transfer(other).0 > 0);
    one.wg(&["set", IF, "listen-port", &PORT.to_string()]);
}

/// Switched off it is silent and its port free; switched on it goes on.
fn link(one: &Side, other: &Side) {
    switch_off(one);
    one.ip(&["link", "set", IF, "up"]);
    let address = format!("{}/64", one.inner_v6());
    one.ip(&["address", "replace", &address, "dev", IF, "nodad"]);
    one.reaches(other, wait::SOON);
    // Larger packets than the link carries whole, in fragments.
    one.ip(&["link", "set", IF, "mtu", "1500"]);
    other.ip(&["link", "set", IF, "mtu", "1500"]);
    let ping = ["-n", "-c1", "-W2", "-s1400", &other.inner_v4().to_string()].map(str::to_owned);
    one.host.run("ping", &ping.each_ref().map(String::as_str)).unwrap();
}

/// A port that another program has when the interface is switched on is not shown as had, and is had once it is free.
fn taken_port(one: &Side, other: &Side) {
    switch_off(one);
    assert_eq!(one.wg(&["show", IF, "listen-port"]).trim(), PORT.to_string(), "it is what is asked for");
    // In one family only.
    let taken = one.host.inside(|| UdpSocket::bind(("::1", PORT)).unwrap()).unwrap();
    one.ip(&["link", "set", IF, "up"]);
    let shows = |port: u16| {
        wait::until(&format!("port {port} is shown"), wait::SOON, || {
            one.wg(&["show", IF, "listen-port"]).trim() == port.to_string()
        })
    };
    shows(0).unwrap();
    drop(taken);
    shows(PORT).unwrap();
    let address = format!("{}/64", one.inner_v6());
    one.ip(&["address", "replace", &address, "dev", IF, "nodad"]);
    one.reaches(other, wait::SOON);
}

/// A port that the system chose stays over a switching off, unless another program has it then.
fn any_port(one: &Side) {
    let shown = || one.wg(&["show", IF, "listen-port"]).trim().parse::<u16>().unwrap();
    let bound = |port: u16| {
        wait::until(&format!("port {port} is bound"), wait::SOON, || {
            one.host.run("ss", &["-Huln"]).unwrap().contains(&format!(":{port} "))
        })
        .unwrap();
    };
    one.wg(&["set", IF, "listen-port", "0"]);
    let found = shown();
    assert!(found != 0 && found != PORT);
    // At once: our own data path has it for a moment yet.
    for _ in 0..5 {
        one.ip(&["link", "set", IF, "down"]);
        one.ip(&["link", "set", IF, "up"]);
        bound(found);
        assert_eq!(shown(), found);
    }
    switch_off(one);
    assert_eq!(shown(), found);
    let taken = one.host.inside(|| UdpSocket::bind(("0.0.0.0", found)).unwrap()).unwrap();
    one.ip(&["link", "set", IF, "up"]);
    wait::until("another port is had", wait::SOON, || ![0, found].contains(&shown())).unwrap();
    drop(taken);
    one.wg(&["set", IF, "listen-port", &PORT.to_string()]);
    let address = format!("{}/64", one.inner_v6());
    one.ip(&["address", "replace", &address, "dev", IF, "nodad"]);
}

fn switch_off(one: &Side) {
    one.ip(&["link", "set", IF, "down"]);
    wait::until("the port is free", wait::SOON, || one.host.run("ss", &["-Huln"]).unwrap().is_empty())
        .unwrap();
}

/// A data path that dies is replaced, and told everything.
fn data_path(one: &mut Side, other: &Side) {
    let control = one.process().pid();
    let children = fs::read_to_string(format!("/proc/{control}/task/{control}/children")).unwrap();
    kill_process(children.trim().parse().unwrap()).unwrap();
    one.reaches(other, wait::SOON);
    assert!(one.process().printed().contains("the data path ended and was started again"));
}

/// The pre-shared key of a peer that was removed is nowhere in the memory of the process that was told it.
fn forget(one: &mut Side, other: &Side) {
    const KEY: &[u8; 32] = b"the pre-shared key of one moment";
    let psk = piped("base64 -w0", std::str::from_utf8(KEY).unwrap());
    let third = piped("wg pubkey", &said(Command::new("wg").arg("genkey")));
    let at = other.at(false);
    // Behind another, which stays.
    one.wg(&["set", IF, "peer", &third, "allowed-ips", "10.9.0.0/16"]);
    one.meets(other, &Terms { psk: Some(&psk), endpoint: Some(&at), keepalive: 0 });
    assert_eq!(one.shows("preshared-keys", other), psk);
    let pid = one.process().pid();
    assert!(holds(pid, KEY));
    one.forgets(other);
    wait::until("the key is nowhere", wait::SOON, || !holds(pid, KEY)).unwrap();
}

/// Whether these bytes are in what a process may write to.
fn holds(pid: u32, what: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let writable = maps.lines().filter(|line| line.contains(" rw-p "));
    let areas = writable.map(|line| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut bytes = vec![0; (to - from) as usize];
        // Some areas are the kernel's own.
        let _ = memory.read_exact_at(&mut bytes, from);
        bytes
    });
    areas.into_iter().any(|area| area.windows(what.len()).any(|window| window == what))
}

fn ends(one: &mut Side) {
    one.ip(&["link", "delete", IF]);
    assert!(one.process().ended(wait::SOON).unwrap().success());
    assert!(!one.host.folder().join("wireguard/wg0.sock").exists());
    let mut again = foreground(&one.host, "again.log");
    fs::remove_file(one.host.folder().join("wireguard/wg0.sock")).unwrap();
    assert!(again.ended(wait::SOON).unwrap().success());
    assert!(!exists(&one.host));
    let mut again = foreground(&one.host, "once-more.log");
    assert!(again.stop().unwrap().success());
    assert!(!exists(&one.host) && !one.host.folder().join("wireguard/wg0.sock").exists());
    // As when the terminal is closed.
    let mut again = foreground(&one.host, "hangup.log");
    kill(Pid::from_raw(again.pid().cast_signed()), Signal::SIGHUP).unwrap();
    assert!(again.ended(wait::SOON).unwrap().success());
    assert!(!exists(&one.host) && !one.host.folder().join("wireguard/wg0.sock").exists());
}

/// It returns when the interface can be configured, and says why where it cannot be.
fn background(host: &Host) {
    let run = |name: &str| {
        let mut command = meet(host, "vpnd");
        command
            .args(["device", "--show-dscp", name])
            .env("LOG_LEVEL", "verbose")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let first = run(IF);
    assert!(first.status.success() && first.stderr.is_empty() && first.stdout.is_empty(), "{first:?}");
    assert!(meet(host, "wg").args(["show", IF]).output().unwrap().status.success());
    // What it was told goes with it into the background.
    host.run("pgrep", &["-f", "[v]pnd data-path .*--plain .*--show-dscp"]).unwrap();
    let second = run(IF);
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("ip link delete"), "{said}");
    host.run("ip", &["link", "delete", IF]).unwrap();
    wait::until("its socket is gone", wait::SOON, || !host.folder().join("wireguard/wg0.sock").exists())
        .unwrap();
}

fn wg_quick(host: &Host, other: &Side) {
    let key = said(Command::new("wg").arg("genkey"));
    let public = piped("wg pubkey", &key);
    other.wg(&["set", IF, "peer", &public, "allowed-ips", "172.29.77.9/32"]);
    let config = format!(
        "[Interface]\nPrivateKey = {key}\nAddress = 172.29.77.9/24\n\n[Peer]\nPublicKey = {}\nEndpoint = {}\n\
         AllowedIPs = 0.0.0.0/0\n",
        other.public,
        other.at(false),
    );
    let file = host.folder().join("wg9.conf");
    fs::write(&file, config).unwrap();
    let quick = |verb: &str| {
        let mut command = meet(host, "wg-quick");
        command.arg(verb).arg(&file).env("WG_QUICK_USERSPACE_IMPLEMENTATION", "vpnd-device");
        let output = command.output().unwrap();
        assert!(output.status.success(), "wg-quick {verb}: {}", String::from_utf8_lossy(&output.stderr));
    };
    quick("up");
    // All of IPv4 goes by the tunnel, but for what carries it.
    let route = host.run("ip", &["route", "get", "192.0.2.1"]).unwrap();
    assert!(route.contains("dev wg9"), "{route}");
    host.run("ping", &["-n", "-c1", "-W5", &other.inner_v4().to_string()]).unwrap();
    quick("down");
    assert!(!host.output("ip", &["link", "show", "wg9"]).unwrap().status.success());
    wait::until("its socket is gone", wait::SOON, || !host.folder().join("wireguard/wg9.sock").exists())
        .unwrap();
}

fn foreground(host: &Host, log: &str) -> Process {
    let mut command = meet(host, "vpnd");
    command.args(["device", IF]).env("WG_PROCESS_FOREGROUND", "1");
    let process = Process::start("interface", &mut command, host.folder().join(log)).unwrap();
    wait::until("it is ready", wait::SOON, || process.printed().contains("ready")).unwrap();
    process
}

fn exists(host: &Host) -> bool {
    host.output("ip", &["link", "show", IF]).unwrap().status.success()
}

#[test]
fn verify_looks_at_both_processes_of_a_plain_interface_where_nothing_else_runs() {
    let lab = Lab::up("a=none").unwrap();
    let mut one = Side::new(&lab, "a-1", 1, Kind::Tacet);
    let output = one.host.output("vpnctl", &["--json", "privacy", "verify"]).unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let asked = one.process().pid();
    let packets = fs::read_to_string(format!("/proc/{asked}/task/{asked}/children")).unwrap();
    let of_both: [(&str, u32, &[&str]); 2] = [
        ("device", asked, &["system calls", "new privileges", "capabilities", "core files", "debugger"]),
        ("data path", packets.trim().parse().unwrap(), &["system calls", "capabilities", "descriptors"]),
    ];
    for (of, pid, points) in of_both {
        for point in points {
            let findings = said["findings"].as_array().unwrap();
            let found = findings.iter().find(|one| one["pid"] == pid && one["point"] == *point);
            let found = found.unwrap_or_else(|| panic!("{of}, {point}: {said}"));
            assert!(found["of"] == of && found["standing"] == "holds", "{found}");
        }
    }
}
