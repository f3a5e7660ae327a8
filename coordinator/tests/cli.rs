//! The program as an operator types it.

#![allow(clippy::unwrap_used, reason = "the whole program is a test")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use coordinator::store::{DataDir, Store};
use proto::{
    account::AccountName,
    relay::RelayKeyFile,
    token::{EnrolCode, EnrolToken, Token},
};
use tempfile::TempDir;

#[test]
fn serve_says_what_to_open_and_enrol_prints_a_token_for_it() {
    let home = Home::new();
    let serving = home.serve(&[]);
    let said = &serving.said;
    assert!(said["url"] == "https://127.0.0.1:18999");
    assert_eq!(said["open"].as_array().unwrap().len(), 2);
    let enrolled = json(&home.run(&["enrol", "--json"]));
    let token = enrolled["token"].as_str().unwrap();
    assert_eq!(enrolled["command"], format!("vpnctl account create NAME --enrol {token}"));
    assert_eq!(enrolled["pin"], said["pin"]);
    assert!(EnrolToken::from_text(token).is_ok_and(|token| token.url == "https://127.0.0.1:18999"));
}

#[test]
fn sigterm_ends_it_with_success() {
    let home = Home::new();
    let mut serving = home.serve(&[]);
    let kill = Command::new("kill").arg(serving.child.id().to_string()).status().unwrap();
    assert!(kill.success() && serving.child.wait().unwrap().success());
}

#[test]
fn the_pin_and_the_address_stay_over_a_restart() {
    let home = Home::new();
    let pin = home.serve(&[]).said["pin"].clone();
    let again = home.start(&["serve", "--json", "--listen", "127.0.0.1:0", "--no-relay"]);
    assert_eq!((&again.said["pin"], &again.said["url"]), (&pin, &"https://127.0.0.1:18999".into()));
}

#[test]
fn a_port_in_use_is_named_and_nothing_starts() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let why = home.fails(&["serve", "--listen", &address, "--no-relay", "--public-url", "https://a.example"]);
    assert!(why.contains(&address) && why.contains("another program uses this port"), "{why}");
    assert!(!home.data().exists());
}

#[test]
fn a_url_that_is_none_is_a_usage_error() {
    let home = Home::new();
    let output = home.run(&["serve", "--public-url", "http://a.example"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("https://"), "{}", text(&output.stderr));
}

#[test]
fn serve_without_an_address_says_how_to_give_one_and_leaves_nothing_behind() {
    let home = Home::new();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--no-relay"];
    let why = home.fails(&serve);
    assert!(why.contains("--public-url"), "{why}");
    assert!(!home.data().exists());
    fs::create_dir(home.data()).unwrap();
    home.fails(&serve);
    assert_eq!(fs::read_dir(home.data()).unwrap().count(), 0);
}

#[test]
fn commands_before_the_first_start_say_to_start_it() {
    let home = Home::new();
    for command in ["enrol", "accounts", "check"] {
        let why = home.fails(&[command]);
        assert!(why.contains("serve"), "{why}");
    }
}

#[test]
fn a_start_that_the_system_refuses_says_why() {
    // Room for one descriptor beside the standard streams: no runtime can wait for anything.
    let poor = ["-c", "ulimit -n 4 && exec \"$0\" accounts", env!("CARGO_BIN_EXE_coordinator")];
    let output = Command::new("sh").args(poor).output().unwrap();
    let why = text(&output.stderr);
    assert!(!output.status.success() && why.contains("cannot start") && why.contains("limits"), "{why}");
}

#[test]
fn two_coordinators_do_not_share_a_directory() {
    let home = Home::new();
    let _serving = home.serve(&[]);
    let why = home.fails(&["serve", "--listen", "127.0.0.1:0", "--no-relay"]);
    assert!(why.contains("is running on this data directory"), "{why}");
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let home = Home::new();
    drop(home.serve(&[]));
    // SQLite's file format, section 1.3: the user version is the big-endian number at byte 60.
    let file = File::options().write(true).open(home.database()).unwrap();
    file.write_all_at(&99u32.to_be_bytes(), 60).unwrap();
    // What a later version may have left there is its own.
    fs::write(home.data().join("coordinator.db-new"), "of a later version").unwrap();
    let before = everything(&home.data());
    let backup = home.path("backup");
    for command in [
        &["check"][..],
        &["enrol"],
        &["accounts"],
        &["inventory"],
        &["backup", backup.to_str().unwrap()],
        &["serve", "--listen", "127.0.0.1:0", "--no-relay"],
    ] {
        let why = home.fails(command);
        assert!(why.contains("newer version of Tacet wrote the database (format 99;"), "{why}");
        assert!(
            why.contains(concat!("coordinator ", env!("CARGO_PKG_VERSION"), " knows formats up to 2")),
            "{why}"
        );
        assert!(why.contains("nothing was changed\n  install a newer version of Tacet"), "{why}");
        assert!(everything(&home.data()) == before, "{command:?} changed something");
    }
    assert!(!backup.exists());
}

#[test]
fn a_file_of_keys_or_a_backup_of_a_newer_version_is_refused_and_left_as_it_is() {
    let home = Home::new();
    drop(home.serve(&[]));
    let backup = home.path("backup");
    json(&home.run(&["backup", backup.to_str().unwrap(), "--json"]));
    let mut bytes = fs::read(&backup).unwrap();
    let end = bytes.len();
    bytes[end - 2] = b'2';
    fs::write(&backup, &bytes).unwrap();
    let before = everything(&home.data());
    let why = home.fails(&["restore", backup.to_str().unwrap(), "--replace"]);
    assert!(why.contains("newer version of Tacet wrote the backup"), "{why}");
    assert!(everything(&home.data()) == before && fs::read(&backup).unwrap() == bytes);

    let keys = home.data().join("coordinator.db-keys");
    let file = File::options().write(true).open(&keys).unwrap();
    file.write_all_at(b"2", "tacet keys of rows, version ".len() as u64).unwrap();
    let before = everything(&home.data());
    for command in [&["check"][..], &["serve", "--listen", "127.0.0.1:0", "--no-relay"]] {
        let why = home.fails(command);
        assert!(why.contains("newer version of Tacet wrote the file of keys"), "{why}");
        assert!(everything(&home.data()) == before, "{command:?} changed something");
    }
}

#[test]
fn a_database_whose_number_is_damaged_is_refused_and_left_as_it_is() {
    let home = Home::new();
    drop(home.serve(&[]));
    let file = File::options().write(true).open(home.database()).unwrap();
    for (number, at) in [(0u32, 60), (-5i32 as u32, 60), (7, 68)] {
        file.write_all_at(&2u32.to_be_bytes(), 60).unwrap();
        file.write_all_at(&number.to_be_bytes(), at).unwrap();
        let before = everything(&home.data());
        let why = home.fails(&["serve", "--listen", "127.0.0.1:0", "--no-relay"]);
        assert!(why.contains("not a coordinator's database"), "{why}");
        assert!(everything(&home.data()) == before, "{number} at {at}");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let home = Home::new();
    fs::create_dir(home.data()).unwrap();
    fs::write(home.database(), "not a database, but long enough to be read as one".repeat(100)).unwrap();
    let why = home.fails(&["check"]);
    assert!(why.contains("not a coordinator's database"), "{why}");
}

#[test]
fn a_backup_comes_back_and_is_nobody_elses_to_read() {
    let home = Home::new();
    let serving = home.serve(&[]);
    let pin = serving.said["pin"].clone();
    home.add_account("ann");
    let backup = home.path("backup");
    assert!(home.run(&["backup", backup.to_str().unwrap()]).status.success());
    assert_eq!(backup.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let why = home.fails(&["restore", backup.to_str().unwrap(), "--replace"]);
    assert!(why.contains("stop it"), "{why}");
    drop(serving);
    let why = home.fails(&["restore", backup.to_str().unwrap()]);
    assert!(why.contains("--replace"), "{why}");
    // All of it, as on a new host.
    fs::remove_dir_all(home.data()).unwrap();
    assert!(home.run(&["restore", backup.to_str().unwrap()]).status.success());
    assert_eq!(json(&home.run(&["accounts", "--json"]))["accounts"][0]["name"], "ann");
    let again = home.start(&["serve", "--json", "--listen", "127.0.0.1:0", "--no-relay"]);
    assert_eq!(again.said["pin"], pin);
}

#[test]
fn a_damaged_backup_is_refused_and_the_database_stays() {
    let home = Home::new();
    drop(home.serve(&[]));
    home.add_account("ann");
    let before = fs::read(home.database()).unwrap();
    let good = home.path("good");
    assert!(home.run(&["backup", good.to_str().unwrap()]).status.success());
    let mut wrong_key = fs::read(&good).unwrap();
    // The keys come before their number (4 bytes) and the mark (16).
    let at = wrong_key.len() - 21;
    wrong_key[at] ^= 1;
    for damaged in [&before[..before.len() / 2], &wrong_key] {
        let backup = home.path("backup");
        fs::write(&backup, damaged).unwrap();
        home.fails(&["restore", backup.to_str().unwrap(), "--replace"]);
        assert!(fs::read(home.database()).unwrap() == before);
        assert_eq!(fs::read_dir(home.data()).unwrap().count(), 4, "database, its journal, its keys, lock");
        assert_eq!(json(&home.run(&["accounts", "--json"]))["accounts"][0]["name"], "ann");
    }
}

#[test]
fn a_relay_key_is_one_that_a_relay_reads_and_is_private() {
    let home = Home::new();
    let _serving = home.serve(&[]);
    let file = home.path("relay.key");
    let out = ["relay-key", "--url", "https://relay.example", "--out", file.to_str().unwrap()];
    assert!(home.run(&out).status.success());
    assert!(RelayKeyFile::from_text(&fs::read_to_string(&file).unwrap()).is_ok());
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let why = home.fails(&out);
    assert!(why.contains("already"), "{why}");
    let printed = home.run(&["relay-key", "--url", "https://relay.example"]);
    assert!(RelayKeyFile::from_text(&text(&printed.stdout)).is_ok());
    assert!(home.run(&["relay-key", "--url", "https://relay.example", "--remove"]).status.success());
    home.fails(&["relay-key", "--url", "https://relay.example", "--remove"]);
}

#[test]
fn an_account_is_removed_only_by_who_means_it() {
    let home = Home::new();
    drop(home.serve(&[]));
    home.add_account("ann");
    let why = home.fails(&["accounts", "remove", "ann"]);
    assert!(why.contains("--yes"), "{why}");
    let why = home.fails(&["accounts", "remove", "bert", "--yes"]);
    assert!(why.contains("no account of this name"), "{why}");
    assert_eq!(json(&home.run(&["accounts", "--json"]))["accounts"][0]["name"], "ann");
    let removed = json(&home.run(&["accounts", "remove", "ann", "--yes", "--json"]));
    assert_eq!(removed, serde_json::json!({ "account": "ann", "networks": 0 }));
    assert_eq!(json(&home.run(&["accounts", "--json"]))["accounts"].as_array().unwrap().len(), 0);
    assert_eq!(json(&home.run(&["networks", "--json"]))["networks"].as_array().unwrap().len(), 0);
    for (id, word) in [("3f9a", "too short"), ("3f9a02c41b77", "no network of this id")] {
        let why = home.fails(&["networks", "remove", id, "--yes"]);
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn serve_takes_over_a_database_whose_rows_are_not_sealed_yet() {
    let home = Home::new();
    fs::create_dir(home.data()).unwrap();
    File::create(home.database()).unwrap();
    // What it had to have: the tables that are read.
    let old = "
        CREATE TABLE settings (name TEXT NOT NULL PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
        INSERT INTO settings VALUES ('authority', x'0909090909090909090909090909090909090909090909090909090909090909');
        CREATE TABLE accounts (id INTEGER PRIMARY KEY, tag BLOB NOT NULL UNIQUE, body BLOB NOT NULL) STRICT;
        CREATE TABLE enrolments (tag BLOB NOT NULL PRIMARY KEY, last_day INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        CREATE TABLE networks (id INTEGER PRIMARY KEY, tag BLOB NOT NULL, account INTEGER NOT NULL, body BLOB NOT NULL);
        CREATE TABLE entries (network INTEGER NOT NULL, tag BLOB NOT NULL, body BLOB NOT NULL);
        CREATE TABLE slots (network INTEGER NOT NULL, tag BLOB NOT NULL, body BLOB NOT NULL);
        CREATE TABLE joins (id INTEGER PRIMARY KEY, network INTEGER NOT NULL, tag BLOB NOT NULL, body BLOB NOT NULL);
        CREATE TABLE relays (tag BLOB NOT NULL PRIMARY KEY, body BLOB NOT NULL);
        PRAGMA application_id = 0x54616365;
        PRAGMA user_version = 1;";
    runtime().block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(home.database());
        let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
        sqlx::raw_sql(old).execute(&mut connection).await.unwrap();
        sqlx::Connection::close(connection).await.unwrap();
    });
    let pin = home.serve(&[]).said["pin"].clone();
    assert!(home.data().join("coordinator.db-keys").exists());
    assert_eq!(home.serve(&[]).said["pin"], pin);
    assert!(home.run(&["check"]).status.success());
}

#[test]
fn what_is_stored_is_private_to_the_coordinators_user() {
    let home = Home::new();
    let _serving = home.serve(&[]);
    assert_eq!(home.data().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for file in fs::read_dir(home.data()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn starting_reading_and_stopping_write_nothing() {
    let home = Home::new();
    drop(home.serve(&[]));
    let before = fs::read(home.database()).unwrap();
    let changed = home.database().metadata().unwrap().modified().unwrap();
    drop(home.serve(&[]));
    for command in ["check", "accounts", "networks", "inventory"] {
        assert!(home.run(&[command]).status.success(), "{command}");
    }
    assert!(fs::read(home.database()).unwrap() == before);
    assert_eq!(home.database().metadata().unwrap().modified().unwrap(), changed);
}

#[test]
fn a_failure_is_one_json_document_where_that_was_asked() {
    for (line, code) in [(&["check", "--json"][..], 1), (&["--json", "chekc"], 2), (&["backup", "--json"], 2)]
    {
        let output = Home::new().run(line);
        assert_eq!(output.status.code(), Some(code), "{line:?}");
        let document: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        for part in ["what", "why", "next"] {
            assert!(!document["error"][part].as_str().unwrap().is_empty());
        }
    }
    let help = Home::new().run(&["--json", "check", "--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("Usage"));
}

#[test]
fn a_backup_that_cannot_be_written_or_is_not_there_is_told_as_such() {
    let home = Home::new();
    drop(home.serve(&[]));
    let (missing, there) = (home.path("missing/backup"), home.path("there"));
    fs::write(&there, "somebody's").unwrap();
    let say = |line: &[&str]| home.fails(line);
    let why = say(&["backup", missing.to_str().unwrap()]);
    assert!(why.contains("folder") && !why.contains("user"), "{why}");
    let why = say(&["backup", there.to_str().unwrap()]);
    assert!(why.contains("already") && !why.contains("--replace"), "{why}");
    assert_eq!(fs::read_to_string(&there).unwrap(), "somebody's");
    let why = say(&["restore", missing.to_str().unwrap(), "--replace"]);
    assert!(why.contains("no such file") && !why.contains("serve"), "{why}");
}

/// Every file of a folder, with its mode and content.
fn everything(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|file| (file.clone(), (file.metadata().unwrap().mode(), fs::read(file).unwrap()))).collect()
}

/// A place of its own for a coordinator.
struct Home(TempDir);

/// A running one; dropping it stops it.
struct Serving {
    child: Child,
    said: serde_json::Value,
}

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn database(&self) -> PathBuf {
        self.data().join("coordinator.db")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_coordinator")));
        command.args(arguments).arg("--data-dir").arg(self.data()).stdin(Stdio::null());
        command
    }

    async fn store(&self) -> Store {
        DataDir::new(&self.data(), None).open().await.unwrap()
    }

    fn add_account(&self, name: &str) {
        runtime().block_on(async {
            let store = self.store().await;
            let code = EnrolCode(vec![1; 16]);
            store.add_enrolment(&code, 20_000).await.unwrap();
            store.add_account(&AccountName::parse(name).unwrap(), vec![7; 192], &code, 20_000).await.unwrap();
            store.close().await;
        });
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command that must fail says.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(output.stdout.is_empty());
        text(&output.stderr)
    }

    fn serve(&self, more: &[&str]) -> Serving {
        let fixed = ["serve", "--json", "--listen", "127.0.0.1:0", "--stun-listen", "127.0.0.1:0"];
        self.start(&[&fixed[..], &["--public-url", "https://127.0.0.1:18999"], more].concat())
    }

    /// Starts it and waits for the document that it prints when it is ready.
    fn start(&self, arguments: &[&str]) -> Serving {
        let mut child = self.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Serving { child, said: serde_json::from_str(&line).unwrap() }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
