//! kill -9 of the real program while it is written to.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use proto::{
    coordinator::Auth,
    roster::Head,
    token::{EnrolToken, Token},
    wire::Wire,
};
use tests::binaries;
use tokio::time::sleep;
use vpnd::coordinator::{Client, Error, Trust};

use crate::house::{Network, PASSWORD, directory, name, password};

/// Kills in one run; a long run has more.
const KILLS: usize = 5;
const KILLS_LONG: usize = 50;

#[tokio::test]
async fn a_change_that_was_acknowledged_survives_kill_9() {
    let directory = directory();
    let port = free_port();
    let mut program = Program::start(directory.path(), port).await;
    let token = program.enrol(directory.path());
    let client = Client::new(&token.url, &Trust::Pinned(vec![token.pin.unwrap()])).unwrap();
    client.register(&name("anna"), password(PASSWORD), &token.code).await.unwrap();
    let session = client.login(&name("anna"), password(PASSWORD)).await.unwrap();
    let mut network = Network::new(&token.url);
    client.create_network(&session, network.roster.state().to_bytes()).await.unwrap();

    let kills = if tests::long() { KILLS_LONG } else { KILLS };
    let mut acknowledged = 0;
    for kill in 0..kills {
        // Each round is killed a little later after its first change.
        let pause = Duration::from_millis(3 + 7 * kill as u64);
        let killed = tokio::spawn(async move {
            sleep(pause).await;
            drop(program);
        });
        let mut in_flight = None;
        for change in 0.. {
            let (roster, delta) = network.renamed(&format!("m{kill}-{change}"));
            match client.push(&network.id(), &network.member(), delta.to_bytes(), Vec::new()).await {
                Ok(()) => {
                    network.roster = roster;
                    acknowledged += 1;
                }
                Err(Error::Unreachable(_)) => {
                    in_flight = Some(roster);
                    break;
                }
                Err(other) => panic!("{other}"),
            }
        }
        killed.await.unwrap();
        program = Program::start(directory.path(), port).await;
        let head = client.head(&network.id()).await.unwrap();
        let head = Head::from_bytes(&head).unwrap();
        let taken = in_flight.filter(|roster| roster.order() == head.order());
        if let Some(roster) = taken {
            network.roster = roster;
        }
        let state = client.state(&network.id(), &Auth::Member(&network.member())).await.unwrap();
        assert!(state == network.roster.state().to_bytes(), "after kill {kill}");
    }
    assert!(acknowledged > 0);
    let check = command(directory.path(), "check").arg("--json").output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

/// `coordinator serve`. Dropping it kills it with SIGKILL.
struct Program(Child);

impl Program {
    async fn start(directory: &Path, port: u16) -> Self {
        let child = command(directory, "serve")
            .args(["--no-relay", "--listen", &format!("127.0.0.1:{port}")])
            .args(["--public-url", &format!("https://127.0.0.1:{port}")])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let program = Self(child);
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return program;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the coordinator did not start");
    }

    fn enrol(&self, directory: &Path) -> EnrolToken {
        let output = command(directory, "enrol").arg("--json").output().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let Ok(token) = EnrolToken::from_text(document["token"].as_str().unwrap()) else {
            panic!("a token");
        };
        token
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(directory: &Path, name: &str) -> Command {
    let mut command = Command::new(binaries::folder().unwrap().join("coordinator"));
    command.args([name, "--data-dir"]).arg(directory);
    command
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
