//! Ways out of the locked data path and of control, each tried in a process of its own that has put up the very same walls.
//!
//! Every attempt is made several times: without the walls, where it must work (or be refused by the kernel itself, where
//! the list says so: then the battery can tell a wall from a mistake in the attempt); with all walls, where the kernel
//! must end the process before the call returns; if it needs a path, with Landlock alone, which must refuse it; and within
//! control's walls, which must refuse it too, unless it is listed as what control lives from ([`control`]).
//! Needs root; without it the tests say that they were skipped.
//!
//! This file is its own test harness, because an attempt needs a process with one thread: it answers `--list` and a
//! test's name as the usual one does.

#![allow(
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::exit,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says so"
)]
#![cfg(target_arch = "x86_64")]

mod attempts;
mod control;
mod kernel;
mod stage;

use std::{
    collections::BTreeMap,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use attempts::{Attempt, Free, attempts};
use nix::{libc, sched::CloneFlags};
use stage::{Stage, Walls};

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

const TESTS: [(&str, Test); 5] = [
    ("every_attempt_works_without_the_walls", every_attempt_works_without_the_walls),
    ("every_attempt_ends_the_locked_process", every_attempt_ends_the_locked_process),
    ("landlock_alone_refuses_every_path", landlock_alone_refuses_every_path),
    ("seccomp_alone_ends_the_process_too", seccomp_alone_ends_the_process_too),
    ("control_gets_nowhere_but_where_it_has_to", control_gets_nowhere_but_where_it_has_to),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, walls, folder] = arguments.as_slice()
        && first == "--attempt"
    {
        attempt(name, Walls::from_name(walls), Path::new(folder));
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
    // What the attempts do without the walls stays in here.
    let apart = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    nix::sched::unshare(apart).unwrap();
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, test) in TESTS {
        if names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str())) {
            test(folder.path());
            println!("test {name} ... ok");
        }
    }
}

fn every_attempt_works_without_the_walls(folder: &Path) {
    let wrong = failures(folder, Walls::None, |attempt, status| match (status.code(), attempt.free) {
        (Some(WORKED), Free::Works) => true,
        (Some(code), Free::Perhaps) => code <= WORKED,
        _ => false,
    });
    assert!(wrong.is_empty(), "without the walls:\n{}", wrong.join("\n"));
}

fn every_attempt_ends_the_locked_process(folder: &Path) {
    let mut kinds = BTreeMap::<&str, usize>::new();
    let wrong = failures(folder, Walls::All, |attempt, status| {
        *kinds.entry(attempt.kind).or_default() += 1;
        status.signal() == Some(libc::SIGSYS)
    });
    let tried: usize = kinds.values().sum();
    println!("escape attempts: {tried} tried, {} stopped", tried - wrong.len());
    kinds.iter().for_each(|(kind, count)| println!("  {count:3} {kind}"));
    assert!(wrong.is_empty(), "with the walls:\n{}", wrong.join("\n"));
    assert!(tried >= ENOUGH);
}

fn landlock_alone_refuses_every_path(folder: &Path) {
    let mut tried = 0;
    let wrong = failures(folder, Walls::Files, |attempt, status| {
        tried += usize::from(attempt.path);
        !attempt.path || matches!(status.code(), Some(libc::EACCES | libc::EXDEV | libc::EPERM))
    });
    println!("paths: {tried} tried, {} refused by Landlock alone", tried - wrong.len());
    assert!(wrong.is_empty(), "with Landlock alone:\n{}", wrong.join("\n"));
}

fn seccomp_alone_ends_the_process_too(folder: &Path) {
    let wrong = failures(folder, Walls::Calls, |_, status| status.signal() == Some(libc::SIGSYS));
    assert!(wrong.is_empty(), "with seccomp alone:\n{}", wrong.join("\n"));
}

fn control_gets_nowhere_but_where_it_has_to(folder: &Path) {
    let mut stopped = 0;
    let wrong = failures(folder, Walls::Control, |attempt, status| {
        let worked = status.code() == Some(WORKED);
        match control::may(attempt) {
            control::May::Always => worked,
            control::May::Sometimes => true,
            control::May::Never => {
                stopped += usize::from(!worked && status.code() != Some(UNFIT));
                !worked && status.code() != Some(UNFIT)
            }
        }
    });
    println!("escape attempts of control: {stopped} stopped");
    assert!(wrong.is_empty(), "within control's walls:\n{}", wrong.join("\n"));
    assert!(stopped >= ENOUGH);
}

/// The attempts whose process did not end as it should, with how it ended.
fn failures(folder: &Path, walls: Walls, mut good: impl FnMut(&Attempt, ExitStatus) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, attempt) in attempts().iter().enumerate() {
        let stage = folder.join(format!("{}-{number}", walls.name()));
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--attempt", &attempt.name, walls.name(), stage.to_str().unwrap()])
            .stdin(Stdio::null())
            .process_group(0)
            .output()
            .unwrap();
        if !good(attempt, output.status) {
            let said = String::from_utf8_lossy(&output.stderr);
            wrong.push(format!("  {}: {} {said}", attempt.name, told(output.status)));
        }
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
fn attempt(name: &str, walls: Walls, folder: &Path) -> ! {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::exit(UNFIT)
    }));
    let attempt = attempts().into_iter().find(|attempt| attempt.name == name).unwrap();
    let stage = Stage::set(folder);
    let prepared = (attempt.prepare)(&stage);
    // Whatever waits has not worked.
    let _ = nix::unistd::alarm::set(PATIENCE);
    walls.put_up(&stage);
    let code = match prepared() {
        Ok(_) => WORKED,
        Err(errno) => errno,
    };
    let _ = kernel::call!(SYS_exit_group, code);
    std::process::abort()
}
