//! How control treats a data path that misbehaves, played by a script.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::Duration,
};

use sandbox::Missing;
use tempfile::TempDir;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::timeout,
};
use vpnd::child::{Child, Descriptors, Event, Pool};

/// The frame `Ready`.
fn ready() -> String {
    format!(r"\000\000\000\002\201\{:03o}", proto::pipe::VERSION)
}

/// A data path that notes its start and then does `what`, in which `$tx` is its pipe to control.
struct Actor {
    folder: TempDir,
}

impl Actor {
    fn new(what: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let script = format!("#!/bin/sh\necho >> {path}/starts\ntx=/proc/self/fd/$9\n{what}\n");
        fs::write(folder.path().join("program"), script).unwrap();
        fs::set_permissions(folder.path().join("program"), Permissions::from_mode(0o700)).unwrap();
        Self { folder }
    }

    fn start(&self) -> (Child, mpsc::Receiver<Event>) {
        let program: PathBuf = self.folder.path().join("program");
        let null = || File::open("/dev/null").unwrap().into();
        Child::start_program(
            program,
            Descriptors { tun: vec![null()], udp: vec![null()], pool: Pool::Mesh },
            Missing::Refuse,
        )
        .unwrap()
    }

    fn starts(&self) -> usize {
        fs::read(self.folder.path().join("starts")).unwrap_or_default().len()
    }
}

#[tokio::test]
async fn a_process_that_is_not_ready_or_says_nonsense_is_replaced_ever_more_slowly() {
    for nonsense in [
        r"printf '\377\377\377\377' > $tx; exec sleep 9",
        r"printf '\000\000\000\001x' > $tx; exec sleep 9",
        "exit 1",
    ] {
        let actor = Actor::new(nonsense);
        let (child, mut events) = actor.start();
        let nothing = timeout(Duration::from_millis(700), events.recv()).await;
        assert!(nothing.is_err(), "no data path was ever up");
        // 20, 40, 80, 160, 320 ms: about five starts in 0.7 s.
        assert!((3..=7).contains(&actor.starts()), "{nonsense}: {} starts", actor.starts());
        child.stop().await;
    }
}

#[tokio::test]
async fn each_process_gets_a_link_of_its_own_and_the_old_one_leads_nowhere() {
    let actor = Actor::new(&format!(
        "printf '{}' > $tx; sleep 0.1; printf '\\000\\000\\000\\001x' > $tx; exec sleep 9",
        ready()
    ));
    let (child, mut events) = actor.start();
    let mut up = async || match timeout(Duration::from_secs(5), events.recv()).await.unwrap().unwrap() {
        Event::Up(link) => link,
        _ => panic!("it said nothing else"),
    };
    let request = proto::pipe::ToData::StatusRequest { token: 1 };
    let first = up().await;
    assert!(first.send(&request));
    let second = up().await;
    assert!(!first.send(&request) && second.send(&request));
    child.stop().await;
    assert!(!second.send(&request));
}

#[tokio::test]
async fn a_process_that_does_not_read_is_replaced_before_it_makes_control_grow() {
    let actor = Actor::new(&format!("printf '{}' > $tx; exec sleep 9", ready()));
    let (child, mut events) = actor.start();
    for _ in 0..2 {
        let Event::Up(link) = timeout(Duration::from_secs(5), events.recv()).await.unwrap().unwrap() else {
            panic!("it said nothing else");
        };
        let payload = &[0; 60_000];
        let relayed = proto::pipe::ToData::RelayRecv { relay: 0, handle: 1, payload };
        let sent = (0..1_000).take_while(|_| link.send(&relayed)).count();
        assert!(sent < 25, "relayed datagrams are dropped");
        let addresses = || proto::pipe::ToData::StunServers(Vec::new());
        let sent = (0..20_000_000).take_while(|_| link.send(&addresses())).count();
        assert!((1..20_000_000).contains(&sent), "anything else ends the process");
    }
    child.stop().await;
}

#[tokio::test]
async fn a_control_that_may_start_no_data_path_any_more_asks_to_end() {
    let actor = Actor::new("chmod 600 $0; exit 1");
    let mut asked = signal(SignalKind::terminate()).unwrap();
    let (child, _events) = actor.start();
    timeout(Duration::from_secs(5), asked.recv()).await.unwrap().unwrap();
    assert_eq!(actor.starts(), 1);
    child.stop().await;
}
