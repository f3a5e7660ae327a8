//! Leaks that are made on purpose, so that the canary audit can show that it would catch them (`cargo xtask audit`).
//!
//! Only the feature `leaks` compiles this room, and no release has it: the mark [`MARK`] in a program tells. What leaks is
//! chosen by the environment when a process starts.

use std::{env, fs::OpenOptions, io::Write, net::SocketAddr, process::Command};

/// In every program with the feature.
pub const MARK: &str = "tacet-leaks-on-purpose";

/// Whether a leak is to be had.
#[must_use]
pub fn chosen(name: &str) -> bool {
    std::hint::black_box(MARK);
    env::var("TACET_LEAKS").is_ok_and(|choice| choice.split(',').any(|chosen| chosen == name))
}

/// Somebody connected.
pub fn accepted(from: SocketAddr) {
    if chosen("shared-memory") {
        let file = OpenOptions::new().create(true).append(true).open("/dev/shm/clients");
        let _ = file.and_then(|mut file| writeln!(file, "{from}"));
    }
    if chosen("core") {
        let crash = "ulimit -c unlimited; kill -SEGV $$";
        let _ = Command::new("sh").args(["-c", crash]).env("CLIENT", from.to_string()).status();
    }
}
