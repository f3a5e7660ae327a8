//! What passes through vpnctl stays nowhere.

use std::{
    fs,
    io::Write,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_vpnctl_that_is_ended_while_it_has_a_secret_leaves_no_core_file() {
    let folder = tempfile::tempdir().unwrap();
    // It reads a token, and waits for the rest of it.
    let line = "ulimit -c unlimited; exec \"$0\" join -";
    let mut vpnctl = Command::new("sh")
        .args(["-c", line, env!("CARGO_BIN_EXE_vpnctl")])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    vpnctl.stdin.as_mut().unwrap().write_all(b"tacet-invite1").unwrap();
    let began = Instant::now();
    while !waits(vpnctl.id()) {
        assert!(began.elapsed() < Duration::from_secs(10), "it does not wait");
        thread::sleep(Duration::from_millis(10));
    }
    let quit = Command::new("kill").args(["-QUIT", &vpnctl.id().to_string()]).status().unwrap();
    let ended = vpnctl.wait().unwrap();
    assert!(quit.success() && ended.signal().is_some() && !ended.core_dumped(), "{ended}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Whether a process is vpnctl by now, and sleeps.
fn waits(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.contains("(vpnctl) S ")
}
