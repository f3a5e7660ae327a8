//! Ways out of the locked data path, of control, of a relay and of a coordinator, each tried in a process of its own that has
//! put up the very same walls.
//!
//! Every attempt is made several times: without the walls, where it must work (or be refused by the kernel itself, where
//! the list says so: then the battery can tell a wall from a mistake in the attempt), and behind them, where it must not.
//! A call that a data path must not make ends it before the call returns, with all walls and with seccomp alone; Landlock
//! alone must refuse every path. Control and the servers are stopped by one wall or another, but in what they live from:
//! [`control`] and [`server`] name it.
//!
//! | file | what is in it |
//! |---|---|
//! | [`attempts`] | what is tried |
//! | [`stage`], [`walls`] | where, and behind what |
//! | [`battery`], [`kernel`] | how: a process for each, a system call by number |
//! | [`control`], [`server`] | what must work all the same |
//!
//! Needs root; without it the tests say that they were skipped. This file is its own test harness, because an attempt needs
//! a process with one thread: it answers `--list` and a test's name as the usual one does.

#![allow(
    clippy::unwrap_used,
    clippy::exit,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says so"
)]
#![cfg(target_arch = "x86_64")]

mod attempts;
mod battery;
mod control;
mod kernel;
mod server;
mod stage;
mod walls;

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, ExitStatus},
};

use attempts::{Attempt, Free, attempts};
use battery::{ATTEMPT, UNFIT, WORKED, attempt, failures};
use nix::{libc, sched::CloneFlags};
use walls::{Kind, Walls, Who};

/// The fewest attempts that make a battery.
const ENOUGH: usize = 60;

/// A test, in a folder of its own.
type Test = fn(&Path);

const TESTS: [(&str, Test); 12] = [
    ("every_attempt_works_without_the_walls", every_attempt_works_without_the_walls),
    ("every_attempt_ends_the_locked_data_path", |folder| every_attempt_ends(Who::DataPath, folder)),
    ("every_attempt_ends_the_data_path_of_a_plain_interface", |folder| {
        every_attempt_ends(Who::PlainDataPath, folder);
    }),
    ("every_attempt_ends_a_later_worker_of_a_data_path", |folder| {
        every_attempt_ends(Who::LaterWorker, folder);
    }),
    ("seccomp_alone_ends_a_data_path_too", seccomp_alone_ends_a_data_path_too),
    ("landlock_alone_refuses_every_path", landlock_alone_refuses_every_path),
    ("control_gets_nowhere_but_where_it_has_to", |folder| gets_nowhere(Who::Control, folder)),
    ("a_plain_interface_gets_nowhere_but_where_it_has_to", |folder| gets_nowhere(Who::PlainControl, folder)),
    ("no_attempt_gets_out_of_a_relay", |folder| none_gets_out_of(Who::Relay, folder)),
    ("no_attempt_gets_out_of_a_relay_that_reads_its_certificate", |folder| {
        none_gets_out_of(Who::RelayWithCertificate, folder);
    }),
    ("no_attempt_gets_out_of_a_coordinator", |folder| none_gets_out_of(Who::Coordinator, folder)),
    ("what_a_server_does_itself_works_behind_its_walls", what_a_server_does_itself_works),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, who, walls, folder] = arguments.as_slice()
        && first == ATTEMPT
    {
        attempt(name, Who::from_name(who), Walls::from_name(walls), Path::new(folder));
    }
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if has("--list") {
        let listed = if has("--ignored") { &[][..] } else { &TESTS[..] };
        listed.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root for a TUN device and to do harm without the walls");
        return;
    }
    stay_apart();
    let folder = tempfile::tempdir().unwrap();
    for (name, test) in TESTS {
        if names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str())) {
            test(folder.path());
            println!("test {name} ... ok");
        }
    }
}

/// What the attempts do without the walls stays in here.
fn stay_apart() {
    let apart = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    nix::sched::unshare(apart).unwrap();
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    // The loopback interface of a network of its own is down at first.
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success());
}

fn every_attempt_works_without_the_walls(folder: &Path) {
    for (kind, who) in [(Kind::Machine, Who::DataPath), (Kind::Server, Who::Relay)] {
        let wrong = failures(folder, attempts(kind), who, Walls::None, |attempt, status| {
            match (status.code(), attempt.free) {
                (Some(WORKED), Free::Works) => true,
                (Some(code), Free::Perhaps) => code <= WORKED,
                _ => false,
            }
        });
        assert!(wrong.is_empty(), "without the walls of a {}:\n{}", who.name(), wrong.join("\n"));
    }
}

fn every_attempt_ends(who: Who, folder: &Path) {
    let mut kinds = BTreeMap::<&str, usize>::new();
    let wrong = failures(folder, attempts(Kind::Machine), who, Walls::All, |attempt, status| {
        *kinds.entry(attempt.kind).or_default() += 1;
        status.signal() == Some(libc::SIGSYS)
    });
    let tried: usize = kinds.values().sum();
    println!("escape attempts of {}: {tried} tried, {} stopped", who.name(), tried - wrong.len());
    kinds.iter().for_each(|(kind, count)| println!("  {count:3} {kind}"));
    assert!(wrong.is_empty(), "with the walls:\n{}", wrong.join("\n"));
    assert!(tried >= ENOUGH);
}

fn seccomp_alone_ends_a_data_path_too(folder: &Path) {
    let ended = |_: &Attempt, status: ExitStatus| status.signal() == Some(libc::SIGSYS);
    let wrong = failures(folder, attempts(Kind::Machine), Who::DataPath, Walls::Calls, ended);
    assert!(wrong.is_empty(), "with seccomp alone:\n{}", wrong.join("\n"));
}

fn landlock_alone_refuses_every_path(folder: &Path) {
    for who in Who::SERVERS.into_iter().chain([Who::DataPath]) {
        let paths = attempts(who.kind()).into_iter().filter(|attempt| attempt.path);
        let mut tried = 0;
        let wrong = failures(folder, paths, who, Walls::Files, |_, status| {
            tried += 1;
            matches!(status.code(), Some(libc::EACCES | libc::EXDEV | libc::EPERM))
        });
        println!("{}: {tried} paths tried, {} refused by Landlock alone", who.name(), tried - wrong.len());
        assert!(wrong.is_empty(), "{} with Landlock alone:\n{}", who.name(), wrong.join("\n"));
    }
}

fn gets_nowhere(who: Who, folder: &Path) {
    let mut stopped = 0;
    let all = attempts(Kind::Machine);
    let wrong = failures(folder, all, who, Walls::All, |attempt, status| {
        let worked = status.code() == Some(WORKED);
        match control::may(who, attempt) {
            control::May::Always => worked,
            control::May::Sometimes => true,
            control::May::Never => {
                stopped += usize::from(!worked && status.code() != Some(UNFIT));
                !worked && status.code() != Some(UNFIT)
            }
        }
    });
    println!("escape attempts of {}: {stopped} stopped", who.name());
    assert!(wrong.is_empty(), "within the walls of {}:\n{}", who.name(), wrong.join("\n"));
    assert!(stopped >= ENOUGH);
}

fn none_gets_out_of(server: Who, folder: &Path) {
    let mut ended = BTreeMap::<&str, usize>::new();
    let mut refused = 0;
    let hostile = attempts(Kind::Server).into_iter().filter(|attempt| !server::may(server, &attempt.name));
    let wrong = failures(folder, hostile, server, Walls::All, |attempt, status| {
        if status.signal() == Some(libc::SIGSYS) {
            *ended.entry(attempt.kind).or_default() += 1;
            return true;
        }
        let stopped = matches!(status.code(), Some(1..WORKED));
        refused += usize::from(stopped);
        stopped
    });
    let by_seccomp: usize = ended.values().sum();
    let tried = by_seccomp + refused + wrong.len();
    println!(
        "{}: {tried} escape attempts, {} stopped: {by_seccomp} ended the process, {refused} were refused",
        server.name(),
        tried - wrong.len()
    );
    ended.iter().for_each(|(kind, count)| println!("  {count:3} {kind}"));
    assert!(wrong.is_empty(), "with the walls of {}:\n{}", server.name(), wrong.join("\n"));
    assert!(tried >= ENOUGH);
}

fn what_a_server_does_itself_works(folder: &Path) {
    for server in Who::SERVERS {
        let works = |_: &Attempt, status: ExitStatus| status.code() == Some(WORKED);
        let wrong = failures(folder, server::needs(server), server, Walls::All, works);
        assert!(wrong.is_empty(), "{} cannot do its work:\n{}", server.name(), wrong.join("\n"));
    }
}
