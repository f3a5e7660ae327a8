//! `cargo xtask lab`: the demonstration that was kept, and the laboratory under it.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use tests::{Lab, binaries::lab_file, lab};

/// A shell on a machine, or one command there. True if it ended well.
pub(crate) fn shell(host: &str, command: &[String]) -> Result<bool> {
    let host = Lab::of_run(&the_kept()?)?.host(host);
    let mut shell = match command.split_first() {
        Some((program, arguments)) => {
            let mut line = host.command(program)?;
            line.args(arguments);
            line
        }
        None => {
            let mut line = host.command("bash")?;
            line.args(["--norc", "--noprofile", "-i"]).env("PS1", format!("{}# ", host.name()));
            line
        }
    };
    Ok(shell.stdin(Stdio::inherit()).status()?.success())
}

/// Takes down every demonstration that was kept.
pub(crate) fn down() -> Result<bool> {
    let kept = lab::kept();
    if kept.is_empty() {
        bail!("there is none to take down");
    }
    for run in kept {
        lab::remove(&run)?;
    }
    Ok(true)
}

/// natlab.sh, on the kept demonstration where there is one.
pub(crate) fn nat(arguments: &[String]) -> Result<bool> {
    let mut natlab = Command::new(lab_file("natlab.sh"));
    if let [run] = lab::kept().as_slice() {
        natlab.args(["-r", run]);
    }
    Ok(natlab.args(arguments).status()?.success())
}

fn the_kept() -> Result<String> {
    match lab::kept().as_slice() {
        [run] => Ok(run.clone()),
        [] => bail!("there is no demonstration to look at: cargo xtask demo --keep"),
        several => bail!("several demonstrations were kept ({}): cargo xtask lab down", several.join(", ")),
    }
}
