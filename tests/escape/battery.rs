//! A battery: attempts, each in a process of its own, and how those processes end.

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use crate::{
    attempts::{Attempt, attempts},
    kernel, server,
    stage::Stage,
    walls::{Walls, Who},
};

/// The exit status of a process in which the attempt worked; an error number is its own status.
pub(crate) const WORKED: i32 = 200;

/// The exit status of a process that could not put up the stage or the walls.
pub(crate) const UNFIT: i32 = 201;

/// Seconds for one attempt, walls and all.
const PATIENCE: u32 = 5;

/// The first argument of such a process.
pub(crate) const ATTEMPT: &str = "--attempt";

/// The attempts whose process did not end as it should, with how it ended.
pub(crate) fn failures(
    folder: &Path,
    attempts: impl IntoIterator<Item = Attempt>,
    who: Who,
    walls: Walls,
    mut good: impl FnMut(&Attempt, ExitStatus) -> bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, attempt) in attempts.into_iter().enumerate() {
        let stage = folder.join(format!("{}-{}-{number}", who.name(), walls.name()));
        let output = Command::new(std::env::current_exe().unwrap())
            .args([ATTEMPT, &attempt.name, who.name(), walls.name(), stage.to_str().unwrap()])
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
pub(crate) fn attempt(name: &str, who: Who, walls: Walls, folder: &Path) -> ! {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::exit(UNFIT)
    }));
    let all = attempts(who.kind()).into_iter().chain(server::needs(who));
    let attempt = all.into_iter().find(|attempt| attempt.name == name).unwrap();
    let stage = Stage::set(folder, who, walls != Walls::None);
    let prepared = (attempt.prepare)(&stage);
    // Whatever waits has not worked.
    let _ = nix::unistd::alarm::set(PATIENCE);
    walls.put_up(who, &stage);
    let code = match prepared() {
        Ok(_) => WORKED,
        Err(errno) => errno,
    };
    let _ = kernel::call!(SYS_exit_group, code);
    std::process::abort()
}
