//! The coordinator as the program that is shipped, and what is typed to it.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use proto::{
    token::{EnrolToken, Token},
    wire::Wire,
};
use tests::binaries;
use tokio::time::sleep;
use vpnd::coordinator::{Client, Session, Trust};

use crate::house::{Network, PASSWORD, name, password};

/// `coordinator serve`. Dropping it kills it with SIGKILL.
pub(crate) struct Program(Child);

impl Program {
    /// Starts it, and waits until it answers.
    pub(crate) async fn start(directory: &Path, port: u16) -> Self {
        let child = command(directory, &["serve", "--no-relay"])
            .args(["--listen", &format!("127.0.0.1:{port}")])
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
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A token as the operator gets it.
pub(crate) fn enrol(directory: &Path) -> EnrolToken {
    let document = json(directory, &["enrol"]);
    let Ok(token) = EnrolToken::from_text(document["token"].as_str().unwrap()) else {
        panic!("a token");
    };
    token
}

/// A client of the program, a new account, and its session.
pub(crate) async fn account(directory: &Path, text: &str) -> (Client, Session) {
    let token = enrol(directory);
    let client = Client::new(&token.url, &Trust::Pinned(vec![token.pin.unwrap()])).unwrap();
    client.register(&name(text), password(PASSWORD), &token.code).await.unwrap();
    let session = client.login(&name(text), password(PASSWORD)).await.unwrap();
    (client, session)
}

/// A new network of an account.
pub(crate) async fn network(client: &Client, session: &Session) -> Network {
    let network = Network::new("https://127.0.0.1");
    client.create_network(session, network.roster.state().to_bytes()).await.unwrap();
    network
}

/// What a command that must succeed prints.
pub(crate) fn json(directory: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = command(directory, arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A command on a data directory.
pub(crate) fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries::folder().unwrap().join("coordinator"));
    command.args(arguments).arg("--data-dir").arg(directory).stdin(Stdio::null());
    command
}

/// The keys of rows that are there: the slots of the keyring that are not zeros.
pub(crate) fn keys(directory: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(directory.join("coordinator.db-keys")).unwrap();
    bytes.chunks(32).skip(1).filter(|key| key.iter().any(|&b| b != 0)).map(<[u8]>::to_vec).collect()
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
