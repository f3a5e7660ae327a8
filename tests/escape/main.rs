//! Ways out of a coordinator and a relay, each tried in a process of its own that has put up the very same walls.
//!
//! Every attempt is made without the walls, where it must work (or be refused by the kernel itself, where the list says
//! so: then the battery can tell a wall from a mistake in the attempt), and behind them, where it must not. Seccomp ends the
//! process, Landlock refuses a path, and a descriptor that the process was born with is closed. The attempts are the data
//! path's own (`vpnd/tests/escape`), but for those on descriptors, which a server has others of.
//!
//! What a server does itself it may do: [`own`] names it. Needs root; without it the tests say that they were skipped.
//! This file is its own test harness, because an attempt needs a process with one thread.

#![allow(
    clippy::unwrap_used,
    clippy::exit,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says so"
)]
#![cfg(target_arch = "x86_64")]

mod attempts;
#[path = "../../vpnd/tests/escape/kernel.rs"]
mod kernel;
mod own;
mod stage;

use std::{
    collections::BTreeMap,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use attempts::{Attempt, Free, attempts};
use nix::{libc, sched::CloneFlags};
use stage::{Server, Stage};

/// The exit status of a process in which the attempt worked; an error number is its own status.
const WORKED: i32 = 200;

/// The exit status of a process that could not put up the stage or the walls.
const UNFIT: i32 = 201;

/// Seconds for one attempt, walls and all.
const PATIENCE: u32 = 5;

/// The fewest attempts that make a battery.
const ENOUGH: usize = 60;

/// A test, in a folder of its own.
type Test = fn(&Path);

const TESTS: [(&str, Test); 6] = [
    ("every_attempt_works_without_the_walls", every_attempt_works_without_the_walls),
    ("no_attempt_gets_out_of_a_relay", |folder| none_gets_out_of(Server::Relay, folder)),
    ("no_attempt_gets_out_of_a_relay_that_reads_its_certificate", |folder| {
        none_gets_out_of(Server::RelayWithCertificate, folder);
    }),
    ("no_attempt_gets_out_of_a_coordinator", |folder| none_gets_out_of(Server::Coordinator, folder)),
    ("landlock_alone_refuses_every_path", landlock_alone_refuses_every_path),
    ("what_a_server_does_itself_works_behind_its_walls", what_a_server_does_itself_works),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, server, walls, folder] = arguments.as_slice()
        && first == "--attempt"
    {
        attempt(name, Server::from_name(server), walls, Path::new(folder));
    }
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if has("--list") {
        let listed = if has("--ignored") { &[][..] } else { &TESTS[..] };
        listed.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root to do harm without the walls");
        return;
    }
    // What the attempts do without the walls stays in here.
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
    let folder = tempfile::tempdir().unwrap();
    for (name, test) in TESTS {
        if names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str())) {
            test(folder.path());
            println!("test {name} ... ok");
        }
    }
}

fn every_attempt_works_without_the_walls(folder: &Path) {
    let wrong = failures(folder, attempts(), Server::Relay, "none", |attempt, status| {
        match (status.code(), attempt.free) {
            (Some(WORKED), Free::Works) => true,
            (Some(code), Free::Perhaps) => code <= WORKED,
            _ => false,
        }
    });
    assert!(wrong.is_empty(), "without the walls:\n{}", wrong.join("\n"));
}

fn none_gets_out_of(server: Server, folder: &Path) {
    let mut ended = BTreeMap::<&str, usize>::new();
    let mut refused = 0;
    let hostile = attempts().into_iter().filter(|attempt| !own::may(server, &attempt.name));
    let wrong = failures(folder, hostile, server, "all", |attempt, status| {
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

fn landlock_alone_refuses_every_path(folder: &Path) {
    for server in Server::ALL {
        let paths = attempts().into_iter().filter(|attempt| attempt.path);
        let mut tried = 0;
        let wrong = failures(folder, paths, server, "files", |_, status| {
            tried += 1;
            matches!(status.code(), Some(libc::EACCES | libc::EXDEV | libc::EPERM))
        });
        println!("{}: {tried} paths tried, {} refused by Landlock alone", server.name(), tried - wrong.len());
        assert!(wrong.is_empty(), "{} with Landlock alone:\n{}", server.name(), wrong.join("\n"));
    }
}

fn what_a_server_does_itself_works(folder: &Path) {
    for server in Server::ALL {
        let wrong =
            failures(folder, own::needs(server), server, "all", |_, status| status.code() == Some(WORKED));
        assert!(wrong.is_empty(), "{} cannot do its work:\n{}", server.name(), wrong.join("\n"));
    }
}

/// The attempts whose process did not end as it should, with how it ended.
fn failures(
    folder: &Path,
    attempts: impl IntoIterator<Item = Attempt>,
    server: Server,
    walls: &str,
    mut good: impl FnMut(&Attempt, ExitStatus) -> bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, attempt) in attempts.into_iter().enumerate() {
        let stage = folder.join(format!("{}-{walls}-{number}", server.name()));
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--attempt", &attempt.name, server.name(), walls, stage.to_str().unwrap()])
            .stdin(Stdio::null())
            .process_group(0)
            .output()
            .unwrap();
        if !good(&attempt, output.status) {
            let said = String::from_utf8_lossy(&output.stderr);
            wrong.push(format!("  {}: {} {said}", attempt.name, told(output.status)));
        }
        let _ = std::fs::remove_dir_all(stage);
    }
    wrong
}

fn told(status: ExitStatus) -> String {
    match status.code() {
        Some(WORKED) => "it worked".to_owned(),
        Some(code) if code < WORKED => nix::errno::Errno::from_raw(code).to_string(),
        _ => status.to_string(),
    }
}

/// One attempt, in this process.
fn attempt(name: &str, server: Server, walls: &str, folder: &Path) -> ! {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::exit(UNFIT)
    }));
    let all = attempts().into_iter().chain(own::needs(server));
    let attempt = all.into_iter().find(|attempt| attempt.name == name).unwrap();
    let stage = Stage::set(folder, server, walls != "none");
    let prepared = (attempt.prepare)(&stage);
    // Whatever waits has not worked.
    let _ = nix::unistd::alarm::set(PATIENCE);
    stage.put_up(walls);
    let code = match prepared() {
        Ok(_) => WORKED,
        Err(errno) => errno,
    };
    let _ = kernel::call!(SYS_exit_group, code);
    std::process::abort()
}
