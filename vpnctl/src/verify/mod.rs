//! What the kernel says of the running processes and of this host.
//!
//! Nothing here asks vpnd: a daemon that vouches for itself proves nothing. The one thing taken from its socket is the
//! process id of whoever listens there, and that is the kernel's word (`SO_PEERCRED`). The rest is read from `/proc`
//! and from the host's own settings.
//!
//! | file | what is in it |
//! |---|---|
//! | [`kernel`] | reads `/proc`: processes, their state, their descriptors |
//! | [`process`] | what a process must be like: control, data path, a plain interface's, coordinator, relay |
//! | [`mounts`] | whether what is deleted can be overwritten where its files are |
//! | [`landlock`] | what this kernel's Landlock can forbid |
//! | [`host`] | what the host does that Tacet cannot prevent |

mod host;
mod kernel;
mod landlock;
mod mounts;
mod process;

use serde::Serialize;

pub(crate) use host::Commands;
pub(crate) use kernel::Kernel;

/// How it stands with one point.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// As promised.
    Holds,
    /// The host does something that Tacet cannot prevent, or the kernel does not tell.
    Warns,
    /// Not as promised.
    Broken,
}

/// One point.
#[derive(Serialize)]
pub(crate) struct Finding {
    /// Of what: `data path`, `control`, `device`, `coordinator`, `relay`, `host`.
    pub(crate) of: &'static str,
    /// Its process, if it is one.
    pub(crate) pid: Option<u32>,
    /// What was looked at.
    pub(crate) point: &'static str,
    /// How it stands.
    pub(crate) standing: Standing,
    /// What was seen.
    pub(crate) seen: String,
    /// What to do about it, where something can be done.
    pub(crate) next: Option<&'static str>,
}

/// Everything: the processes that vpnd's listener leads to, plain interfaces and servers on this host, the host itself.
pub(crate) fn verify(kernel: &Kernel, commands: &Commands, control: Option<u32>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(control) = control {
        findings.extend(process::control(kernel, control));
        findings.extend(data_paths(kernel, control, "bring a network up, then verify again: vpnctl up"));
    } else {
        let next = "where this host is to be in a network: systemctl start vpnd, then verify again";
        findings.push(not_running("control", next));
    }
    for pid in kernel.devices() {
        findings.extend(process::device(kernel, pid));
        findings.extend(data_paths(kernel, pid, "see the kernel's messages: dmesg | tail"));
    }
    for (of, pid) in kernel.servers() {
        findings.extend(process::server(kernel, of, pid));
    }
    findings.extend(host::findings(kernel, commands));
    findings
}

/// Those that a process started; `next`: what to do if there are none.
fn data_paths(kernel: &Kernel, parent: u32, next: &'static str) -> Vec<Finding> {
    let pids = kernel.children(parent, "data-path");
    if pids.is_empty() {
        return vec![not_running("data path", next)];
    }
    pids.into_iter().flat_map(|pid| process::data_path(kernel, pid)).collect()
}

fn not_running(of: &'static str, next: &'static str) -> Finding {
    let seen = "no: nothing of it can be checked".to_owned();
    Finding { of, pid: None, point: "running", standing: Standing::Warns, seen, next: Some(next) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vpnd_that_does_not_run_is_not_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let findings = verify(&Kernel::at(root.path()), &Commands { firewall: Vec::new() }, None);
        let first = &findings[0];
        assert_eq!((first.of, first.point, first.standing), ("control", "running", Standing::Warns));
    }
}
