//! A kernel without Landlock, or without system call filters: vpnd and its data path refuse to start on it, and say what to
//! do, unless they are told `--allow-unsandboxed`. On one that has both, a call that is not on its list ends a data path.
//!
//! Such a kernel is played by a filter that answers the one call as an older kernel does: to the thread that puts it up and
//! to what it starts. Needs root for a TUN device; without it the tests say that they were skipped.

#![allow(
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and says so"
)]

use std::{
    fs,
    io::Read as _,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use netio::{inherit, pipe, tun::Tun, udp};
use nix::{
    libc,
    sched::CloneFlags,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sandbox::calls::{Calls, Violation};

const VPND: &str = env!("CARGO_BIN_EXE_vpnd");

/// The frame with which a data path says that it is ready.
const READY: [u8; 6] = [0, 0, 0, 2, 129, proto::pipe::VERSION];

/// What a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A wall, and what tells that it is missed.
const WALLS: [(&str, &str); 2] = [("landlock", "no Landlock"), ("seccomp", "no seccomp filters")];

/// Does `work` in a network of its own, if there is root.
fn apart(work: impl FnOnce()) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root for a TUN device");
        return;
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
    work();
}

/// Starts what `command` makes where the kernel lacks `wall`.
fn started_without(wall: &str, mut command: Command) -> Child {
    let (call, answer) = match wall {
        "landlock" => (libc::SYS_landlock_create_ruleset, libc::ENOSYS),
        "seccomp" => (libc::SYS_seccomp, libc::EINVAL),
        _ => panic!("no such wall"),
    };
    let hidden = move || {
        Calls::new().any(&[call]).forbid(Violation::Fail(answer)).unwrap();
        command.spawn().unwrap()
    };
    thread::spawn(hidden).join().unwrap()
}

fn control(folder: &Path) -> Command {
    let mut command = Command::new(VPND);
    command.arg("--state-dir").arg(folder.join("state")).arg("--socket").arg(folder.join("socket"));
    command.stderr(Stdio::piped());
    command
}

#[test]
fn control_refuses_a_kernel_without_a_wall_and_says_what_to_do() {
    apart(|| {
        for (wall, missed) in WALLS {
            let folder = tempfile::tempdir().unwrap();
            let output = started_without(wall, control(folder.path())).wait_with_output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(
                said.contains(missed) && said.contains("update the kernel") && said.lines().count() == 1,
                "{said}"
            );
            assert!(said.contains("pass --allow-unsandboxed"), "{said}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it made something");
        }
    });
}

#[test]
fn control_starts_on_it_if_told_to_and_puts_up_what_there_is() {
    apart(|| {
        for (wall, _) in WALLS {
            let folder = tempfile::tempdir().unwrap();
            let mut command = control(folder.path());
            command.arg("--allow-unsandboxed");
            let mut vpnd = Killed(started_without(wall, command));
            let mut said = String::new();
            let mut stderr = vpnd.0.stderr.take().unwrap();
            let mut read = [0; 1_024];
            while !said.contains("vpnd: ready\n") {
                let n = stderr.read(&mut read).unwrap();
                assert!(n > 0, "it ended: {said}");
                said += std::str::from_utf8(&read[..n]).unwrap();
            }
            assert!(
                said.starts_with("vpnd: this kernel lacks Landlock or seccomp, vpnd is not locked down\n"),
                "{said}"
            );
            // CAP_NET_ADMIN is the twelfth; the player's own filter counts too.
            let filters = if wall == "seccomp" { "1" } else { "2" };
            for (field, value) in
                [("CapEff", "0000000000001000"), ("NoNewPrivs", "1"), ("Seccomp_filters", filters)]
            {
                assert_eq!(status(vpnd.0.id(), field), value, "{field} without {wall}");
            }
        }
    });
}

#[test]
fn the_data_path_refuses_a_kernel_without_a_wall() {
    apart(|| {
        for (wall, _) in WALLS {
            let mut data_path = DataPath::start(&[], |command| started_without(wall, command));
            assert!(data_path.said().is_empty());
            assert_eq!(data_path.end().code(), Some(1));
        }
    });
}

#[test]
fn the_data_path_starts_on_it_if_told_to() {
    apart(|| {
        for (wall, _) in WALLS {
            let told = ["--allow-unsandboxed"];
            let data_path = DataPath::start(&told, |command| started_without(wall, command));
            assert_eq!(data_path.said(), READY);
            assert_eq!(status(data_path.process.0.id(), "CapEff"), "0000000000000000");
        }
    });
}

/// The program as it is released, with one call that its filter does not have: Rust's own handler for a bad address gives
/// the signal back to the kernel by `rt_sigaction` when the address is none that it knows.
#[test]
fn a_forbidden_call_ends_a_data_path_that_serves() {
    apart(|| {
        let mut data_path = DataPath::start(&[], |mut command| command.spawn().unwrap());
        assert_eq!(data_path.said(), READY);
        kill(Pid::from_raw(data_path.process.0.id().cast_signed()), Signal::SIGSEGV).unwrap();
        assert_eq!(data_path.end().signal(), Some(libc::SIGSYS));
    });
}

/// A process that is killed at the end, however that comes.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct DataPath {
    process: Killed,
    from: OwnedFd,
    _to: OwnedFd,
}

impl DataPath {
    /// With what control would hand to it.
    fn start(options: &[&str], spawn: impl FnOnce(Command) -> Child) -> Self {
        let tun = Tun::create(&format!("tacet{}", std::process::id() % 1_000_000)).unwrap().into_fd();
        let udp = udp::bind_pair(0, true, None).unwrap().v4.into_fd();
        let (rx, to) = pipe::pipe().unwrap();
        let (from, tx) = pipe::pipe().unwrap();
        let mut command = Command::new(VPND);
        command.arg("data-path");
        for (option, fd) in [("--tun", &tun), ("--udp", &udp), ("--rx", &rx), ("--tx", &tx)] {
            command.args([option, &fd.as_raw_fd().to_string()]);
        }
        command.args(options).stderr(Stdio::null());
        inherit::pass(&mut command, vec![tun, udp, rx, tx]);
        Self { process: Killed(spawn(command)), from, _to: to }
    }

    /// What it says first, or nothing if it ends.
    fn said(&self) -> Vec<u8> {
        let began = Instant::now();
        let mut room = [0; 64];
        while began.elapsed() < PATIENCE {
            match nix::unistd::read(&self.from, &mut room) {
                Ok(n) => return room[..n].to_vec(),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
        panic!("it neither speaks nor ends");
    }

    /// How it ends by itself.
    fn end(&mut self) -> ExitStatus {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.process.0.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end");
    }
}

/// A line of a process's state, as the kernel tells it.
fn status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}
