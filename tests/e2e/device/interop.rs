//! Beside other implementations, in both roles.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use rand_core::{OsRng, RngCore as _};
use tests::{Lab, wait};

use super::house::{IF, Kind, Middle, PORT, Side, Terms, said};

const TOPOLOGY: &str = "a=none:v6=1,b=none:v6=1,c=none:v6=1";

/// Until a first packet has crossed.
const FIRST: Duration = Duration::from_secs(5);

/// Longer than a handshake takes, shorter than its repetition.
const REFUSED: Duration = Duration::from_secs(1);

/// Random datagrams; all of a port's worth by `TACET_LONG`.
const JUNK: u32 = 4_000;
const ALL_JUNK: u32 = 65_000;

#[test]
fn it_speaks_with_wireguard_go_in_both_roles() {
    assert!(Kind::WireguardGo.is_here(), "install wireguard-go: apt-get install wireguard-go");
    speaks_with(Kind::WireguardGo);
}

#[test]
fn it_speaks_with_boringtun_in_both_roles() {
    if tests::long() && Kind::Boringtun.is_here() {
        speaks_with(Kind::Boringtun);
    }
}

/// One laboratory, one pair of interfaces, and everything in a row: building one takes longer than most of it.
fn speaks_with(kind: Kind) {
    let lab = Lab::up(TOPOLOGY).unwrap();
    let mut ours = Side::new(&lab, "a-1", 1, Kind::Tacet);
    let mut theirs = Side::new(&lab, "b-1", 2, kind);
    handshakes(&ours, &theirs);
    wrong_keys(&ours, &theirs);
    keepalives(&ours, &theirs);
    junk(&ours, &theirs);
    replay(&lab, &ours, &theirs);
    restarts(&mut ours, &mut theirs);
    roams(&lab, &ours, &theirs);
    if tests::long() {
        rekeys(&ours, &theirs);
    }
}

fn handshakes(ours: &Side, theirs: &Side) {
    let psk = said(std::process::Command::new("wg").arg("genpsk"));
    for (psk, v6) in [(None, false), (Some(psk.as_str()), true)] {
        for (caller, called) in [(ours, theirs), (theirs, ours)] {
            let at = called.at(v6);
            called.meets(caller, &Terms { psk, ..Terms::default() });
            caller.meets(called, &Terms { psk, endpoint: Some(&at), ..Terms::default() });
            caller.reaches(called, FIRST);
            called.reaches(caller, FIRST);
            for (one, other) in [(caller, called), (called, caller)] {
                // Boringtun tells how long ago that was.
                assert!(one.kind == Kind::Boringtun || one.shows("latest-handshakes", other) != "0");
                assert_eq!(one.shows("endpoints", other).starts_with('['), v6);
            }
        }
    }
}

fn wrong_keys(ours: &Side, theirs: &Side) {
    let (at, wrong) = (theirs.at(false), said(std::process::Command::new("wg").arg("genpsk")));
    theirs.meets(ours, &Terms::default());
    ours.meets(theirs, &Terms { psk: Some(&wrong), endpoint: Some(&at), ..Terms::default() });
    assert!(!ours.pings(&theirs.inner_v4().to_string(), REFUSED), "another pre-shared key");
    assert_eq!(ours.shows("latest-handshakes", theirs), "0");
    theirs.forgets(ours);
    ours.meets(theirs, &Terms { endpoint: Some(&at), ..Terms::default() });
    assert!(!ours.pings(&theirs.inner_v4().to_string(), REFUSED), "a key that it does not know");
}

fn keepalives(ours: &Side, theirs: &Side) {
    let at = theirs.at(false);
    theirs.meets(ours, &Terms::default());
    ours.meets(theirs, &Terms { endpoint: Some(&at), keepalive: 1, ..Terms::default() });
    // Boringtun does not count what carries no data.
    let counted = || match theirs.kind {
        Kind::Boringtun => ours.transfer(theirs).1,
        _ => theirs.transfer(ours).0,
    };
    let mut before = 0;
    for _ in 0..2 {
        wait::until("a keepalive arrives", FIRST, || counted() > before).unwrap();
        before = counted();
    }
}

/// Whatever arrives at the port, the session lives.
fn junk(ours: &Side, theirs: &Side) {
    connect(ours, theirs);
    let to: SocketAddr = ours.at(false).parse().unwrap();
    let before = (ours.shows("latest-handshakes", theirs), ours.shows("endpoints", theirs));
    let send = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let mut bytes = [0; 1_500];
        OsRng.fill_bytes(&mut bytes);
        for n in 0..if tests::long() { ALL_JUNK } else { JUNK } {
            bytes[..8].copy_from_slice(&OsRng.next_u64().to_le_bytes());
            let mut len = (OsRng.next_u32() % 1_400) as usize;
            if n % 2 == 0 {
                // As a message begins, and as long as that is.
                bytes[..4].copy_from_slice(&[1 + (n / 2 % 4) as u8, 0, 0, 0]);
                len = [148, 92, 64, 32 + len / 16 * 16][(n / 2 % 4) as usize];
            }
            socket.send_to(&bytes[..len], to).unwrap();
            if n % 64 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    };
    theirs.host.inside(send).unwrap();
    assert!(
        ours.pings(&theirs.inner_v4().to_string(), FIRST)
            && theirs.pings(&ours.inner_v4().to_string(), FIRST)
    );
    assert_eq!((ours.shows("latest-handshakes", theirs), ours.shows("endpoints", theirs)), before);
}

/// All that was ever said between the two, once more, from elsewhere.
fn replay(lab: &std::sync::Arc<Lab>, ours: &Side, theirs: &Side) {
    let host = lab.host("c-1");
    let (our_place, their_place) = (ours.at(false), theirs.at(false));
    let between = format!("{}:{PORT}", host.ipv4().unwrap());
    let middle = Middle::between(&host, &our_place, &their_place);
    ours.meets(theirs, &Terms::default());
    theirs.meets(ours, &Terms { endpoint: Some(&between), ..Terms::default() });
    theirs.reaches(ours, FIRST);
    let kept = middle.end();
    assert!(kept.len() >= 6, "a handshake and two pings: {}", kept.len());
    let before = (ours.transfer(theirs), ours.shows("endpoints", theirs));
    assert_eq!(before.1, between);
    let again = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        kept.iter().for_each(|datagram| {
            socket.send_to(datagram, &our_place).unwrap();
        });
        thread::sleep(Duration::from_millis(100));
        socket.set_nonblocking(true).unwrap();
        socket.recv(&mut [0; 2_048]).is_ok()
    };
    assert!(!host.inside(again).unwrap(), "it was answered");
    assert_eq!((ours.transfer(theirs), ours.shows("endpoints", theirs)), before);
}

fn restarts(ours: &mut Side, theirs: &mut Side) {
    connect(ours, theirs);
    let (our_place, their_place) = (ours.at(false), theirs.at(false));
    ours.stop();
    ours.start();
    ours.meets(theirs, &Terms { endpoint: Some(&their_place), ..Terms::default() });
    ours.reaches(theirs, FIRST);
    theirs.reaches(ours, FIRST);
    theirs.stop();
    theirs.start();
    theirs.meets(ours, &Terms { endpoint: Some(&our_place), ..Terms::default() });
    theirs.reaches(ours, FIRST);
    ours.reaches(theirs, FIRST);
}

/// Ours goes to another network; theirs, to another port (wireguard-go holds on to an address that it has lost).
fn roams(lab: &Lab, ours: &Side, theirs: &Side) {
    connect(ours, theirs);
    let before = theirs.shows("endpoints", ours);
    lab.natlab(&["roam", "a-1", "c"]).unwrap();
    ours.reaches(theirs, wait::SOON);
    assert_ne!(theirs.shows("endpoints", ours), before);
    theirs.reaches(ours, FIRST);
    theirs.wg(&["set", IF, "listen-port", "51999"]);
    theirs.reaches(ours, FIRST);
    assert!(ours.shows("endpoints", theirs).ends_with(":51999"));
    ours.reaches(theirs, FIRST);
    theirs.wg(&["set", IF, "listen-port", &PORT.to_string()]);
}

/// Over two minutes and a half, with data all the time: a second handshake, and no packet is lost over it.
fn rekeys(ours: &Side, theirs: &Side) {
    for (caller, called) in [(ours, theirs), (theirs, ours)] {
        connect(caller, called);
        let first = ours.shows("latest-handshakes", theirs);
        let address = called.inner_v4().to_string();
        let said = caller.host.run("ping", &["-n", "-q", "-i", "0.05", "-w", "150", &address]).unwrap();
        assert!(said.contains(" 0% packet loss"), "{said}");
        assert_ne!(ours.shows("latest-handshakes", theirs), first);
    }
}

/// A fresh session, that the first began.
fn connect(caller: &Side, called: &Side) {
    let at = called.at(false);
    called.meets(caller, &Terms::default());
    caller.meets(called, &Terms { endpoint: Some(&at), ..Terms::default() });
    caller.reaches(called, FIRST);
}
